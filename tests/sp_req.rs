//! What a REQ socket does with its requests.
#![allow(clippy::unwrap_used)]

mod sp_support;

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use futures::future;
use sp_support::{
    Peer, PeerListener, defaults, echo, echo_at, ms, options, rep, req, run, settle, sleep, split,
    words,
};
use tokio::time::Instant;
use trunkline::{
    sp::{ContextError, RecvError, ReqSocket, RequestError, SendError},
    transport::Transports,
};

const ADDRESS: &str = "memory://req";

/// The server by hand that a client dialled.
async fn pair(transports: &Transports, client: &ReqSocket) -> (PeerListener, Peer) {
    let dialer = client.dialer(ADDRESS, client.options()).unwrap();
    let dialled = PeerListener::dialled(transports, &dialer).await;
    settle().await;
    dialled
}

/// Servers by hand, in the order in which the client dialled them.
async fn peers(
    transports: &Transports,
    client: &ReqSocket,
    addresses: &[&str],
) -> Vec<(Peer, PeerListener)> {
    let mut peers = Vec::new();
    for address in addresses {
        let dialer = client.dialer(address, defaults()).unwrap();
        let (listener, peer) = PeerListener::dialled(transports, &dialer).await;
        peers.push((peer, listener));
        settle().await;
    }
    peers
}

#[test]
fn ids_count_up_with_the_high_bit() {
    run(async {
        // spec.md §13.4
        let transports = Transports::default();
        let client = req(&transports, defaults());
        let (_listener, mut peer) = pair(&transports, &client).await;
        let mut last = None;
        for _ in 0..5 {
            client.send("x").await.unwrap();
            let (id, _) = split(&peer.recv().await);
            assert!(id & 0x8000_0000 != 0);
            assert!(last.is_none_or(|last: u32| id == last.wrapping_add(1) | 0x8000_0000));
            last = Some(id);
        }
        let other = req(&transports, options(|it| it.seed(Some(8))));
        let dialer = other.dialer("memory://other", defaults()).unwrap();
        let (_listener, mut peer) = PeerListener::dialled(&transports, &dialer).await;
        other.send("x").await.unwrap();
        assert_ne!(split(&peer.recv().await).0, last.unwrap() - 4, "a random start");
    });
}

#[test]
fn three_requests_go_to_three_peers() {
    run(async {
        let transports = Transports::default();
        let client = req(&transports, defaults());
        let servers = [0, 1, 2].map(|_| rep(&transports, defaults()));
        for (number, server) in servers.iter().enumerate() {
            let address = format!("memory://{number}");
            server.listen(&address).await.unwrap();
            client.dial(&address).await.unwrap();
        }
        let contexts: Vec<_> = (0..3).map(|_| client.context().unwrap()).collect();
        for context in &contexts {
            context.send("one each").await.unwrap();
        }
        settle().await;
        for server in &servers {
            drop(server.try_recv().unwrap());
            assert_eq!(server.try_recv().unwrap_err(), RecvError::WouldBlock);
        }
    });
}

#[test]
fn a_request_waits_for_a_pipe_and_no_longer_than_allowed() {
    run(async {
        let transports = Transports::default();
        let client = req(&transports, options(|it| it.send_timeout(Some(ms(50)))));
        let before = Instant::now();
        assert_eq!(client.send("late").await, Err(SendError::TimedOut));
        assert_eq!(before.elapsed(), ms(50));
        let request = client.request("late too").await;
        assert_eq!(request, Err(RequestError::Send(SendError::TimedOut)));
        assert_eq!(client.try_send("now"), Err(SendError::WouldBlock));

        // Nothing of it is left when a peer comes.
        let (_listener, mut peer) = pair(&transports, &client).await;
        assert_eq!(peer.recv_within(ms(1_000)).await, None);
        client.try_send("there").unwrap();
        assert_eq!(split(&peer.recv().await).1, b"there");
    });
}

#[test]
fn a_waiting_send_ends_when_a_peer_comes() {
    run(async {
        let transports = Transports::default();
        let client = req(&transports, defaults());
        let sending = tokio::spawn({
            let client = client.clone();
            async move { client.send("patient").await }
        });
        settle().await;
        assert!(!sending.is_finished());
        let (_listener, mut peer) = pair(&transports, &client).await;
        sending.await.unwrap().unwrap();
        assert_eq!(split(&peer.recv().await).1, b"patient");
    });
}

#[test]
fn a_full_pipe_holds_requests_back() {
    run(async {
        let transports =
            Transports::default().with("tight", trunkline::transport::memory::Memory::new(64));
        let client = req(&transports, options(|it| it.send_buffer(1)));
        let dialer = client.dialer("tight://x", client.options()).unwrap();
        let (_listener, mut peer) = PeerListener::dialled(&transports, &dialer).await;
        settle().await;
        let contexts: Vec<_> = (0..10).map(|_| client.context().unwrap()).collect();
        let mut sent = 0;
        for context in &contexts {
            sent += usize::from(context.try_send(vec![0; 60]).is_ok());
            settle().await;
        }
        assert!((1..4).contains(&sent), "{sent} of 10 with nobody reading");
        for _ in 0..sent {
            peer.recv().await;
        }
        settle().await;
        contexts[9].try_send("room").unwrap();
    });
}

#[test]
fn a_pipe_whose_peer_does_not_read_is_passed_over_before_it_is_full() {
    // spec.md §13.4.5
    run(async {
        let transports =
            Transports::default().with("tight", trunkline::transport::memory::Memory::new(64));
        let client = req(&transports, options(|it| it.retry(None)));
        let mut peers = peers(&transports, &client, &["tight://a", "tight://b"]).await;
        let contexts: Vec<_> = (0..6).map(|_| client.context().unwrap()).collect();
        contexts[0].send(vec![0; 1_000]).await.unwrap();
        settle().await;
        for context in &contexts[1..] {
            context.send("to the other").await.unwrap();
            let request = peers[1].0.recv_within(ms(10)).await.unwrap();
            assert_eq!(split(&request).1, b"to the other");
        }
    });
}

#[test]
fn receiving_needs_a_request_and_one_receiver() {
    run(async {
        let transports = Transports::default();
        let client = req(&transports, defaults());
        assert_eq!(client.recv().await, Err(RecvError::NoRequest));
        assert_eq!(client.try_recv(), Err(RecvError::NoRequest));
        let (_listener, mut peer) = pair(&transports, &client).await;
        client.send("x").await.unwrap();
        assert_eq!(client.try_recv(), Err(RecvError::WouldBlock));
        let waiting = tokio::spawn({
            let client = client.clone();
            async move { client.recv().await }
        });
        settle().await;
        assert_eq!(client.recv().await, Err(RecvError::Busy));
        let (id, _) = split(&peer.recv().await);
        peer.send(&words(&[id], b"reply")).await;
        assert_eq!(waiting.await.unwrap().unwrap(), "reply");
        assert_eq!(client.recv().await, Err(RecvError::NoRequest));
    });
}

#[test]
fn a_receiver_that_gave_up_can_come_back() {
    run(async {
        let transports = Transports::default();
        let client = req(&transports, defaults());
        let (_listener, mut peer) = pair(&transports, &client).await;
        client.send("x").await.unwrap();
        assert!(tokio::time::timeout(ms(5), client.recv()).await.is_err());
        let (id, _) = split(&peer.recv().await);
        peer.send(&words(&[id], b"reply")).await;
        settle().await;
        assert_eq!(client.try_recv().unwrap(), "reply");
    });
}

#[test]
fn a_new_request_cancels_the_one_before_and_only_that() {
    run(async {
        let transports = Transports::default();
        let client = req(&transports, defaults());
        let (_listener, mut peer) = pair(&transports, &client).await;
        client.send("first").await.unwrap();
        let waiting = tokio::spawn({
            let client = client.clone();
            async move { client.recv().await }
        });
        settle().await;
        client.send("second").await.unwrap();
        assert_eq!(waiting.await.unwrap(), Err(RecvError::Cancelled));
        let (first, _) = split(&peer.recv().await);
        let (second, _) = split(&peer.recv().await);
        peer.send(&words(&[first], b"to the first")).await;
        peer.send(&words(&[second], b"to the second")).await;
        assert_eq!(client.recv().await.unwrap(), "to the second");
        assert_eq!(client.stats().junk, 1);
    });
}

#[test]
fn a_dropped_call_withdraws_no_request_but_its_own() {
    run(async {
        let transports = Transports::default();
        let client = req(&transports, defaults());
        let (_listener, mut peer) = pair(&transports, &client).await;
        let mut first = Box::pin(client.request("first"));
        assert!(futures::poll!(&mut first).is_pending());
        client.send("second").await.unwrap();
        drop(first);
        peer.recv().await;
        let (id, _) = split(&peer.recv().await);
        peer.send(&words(&[id], b"to the second")).await;
        assert_eq!(client.recv().await.unwrap(), "to the second");
    });
}

#[test]
fn a_send_that_waits_is_cancelled_by_the_next() {
    run(async {
        let transports = Transports::default();
        let client = req(&transports, defaults());
        let waiting = tokio::spawn({
            let client = client.clone();
            async move { client.send("first").await }
        });
        settle().await;
        assert_eq!(client.try_send("second"), Err(SendError::WouldBlock));
        assert_eq!(waiting.await.unwrap(), Err(SendError::Cancelled));
    });
}

#[test]
fn a_request_is_sent_again_until_it_is_answered() {
    run(async {
        let transports = Transports::default();
        let client = req(&transports, options(|it| it.retry(Some(ms(10)))));
        let (_listener, mut peer) = pair(&transports, &client).await;
        let before = Instant::now();
        client.send("again").await.unwrap();
        let first = peer.recv().await;
        assert_eq!(peer.recv().await, first);
        assert_eq!(before.elapsed(), ms(10));
        peer.send(&words(&[split(&first).0], b"enough")).await;
        assert_eq!(client.recv().await.unwrap(), "enough");
        assert_eq!(peer.recv_within(ms(500)).await, None);
        assert_eq!(client.stats().resent, 1);
    });
}

#[test]
fn a_reply_that_nobody_took_yet_ends_the_sending_and_stays() {
    // spec.md §13.4.7
    run(async {
        let transports = Transports::default();
        let client = req(&transports, options(|it| it.retry(Some(ms(10)))));
        let (_listener, mut peer) = pair(&transports, &client).await;
        client.send("x").await.unwrap();
        let (id, _) = split(&peer.recv().await);
        peer.send(&words(&[id], b"early")).await;
        assert_eq!(peer.recv_within(ms(500)).await, None);
        assert_eq!(client.recv().await.unwrap(), "early");
    });
}

#[test]
fn without_retry_a_request_is_sent_once() {
    run(async {
        let transports = Transports::default();
        for retry in [None, Some(ms(0))] {
            let client = req(&transports, options(|it| it.retry(retry)));
            let (_listener, mut peer) = pair(&transports, &client).await;
            client.send("once").await.unwrap();
            peer.recv().await;
            assert_eq!(peer.recv_within(ms(1_000_000)).await, None);
        }
    });
}

#[test]
fn a_request_that_its_peer_does_not_take_is_sent_again_less_and_less_often() {
    // spec.md §13.8.1
    run(async {
        let transports = Transports::default();
        let server = rep(&transports, options(|it| it.max_receive(Some(100))));
        server.listen(ADDRESS).await.unwrap();
        echo(&server);
        let client = req(&transports, defaults());
        client.dial(ADDRESS).await.unwrap();
        let asking = tokio::spawn({
            let client = client.clone();
            async move { client.request(vec![0; 200]).await }
        });
        sleep(ms(60_000)).await;
        let attached = client.stats().attached;
        assert!((10..40).contains(&attached), "{attached} pipes in a minute");
        // Without it all is well.
        asking.abort();
        assert_eq!(client.request("x").await.unwrap(), "x");
    });
}

#[test]
fn retries_keep_their_rhythm_after_a_reconnect() {
    run(async {
        let transports = Transports::default();
        let client = req(&transports, options(|it| it.retry(Some(ms(400))).reconnect_min(ms(1))));
        let (mut listener, mut peer) = pair(&transports, &client).await;
        client.send("again").await.unwrap();
        peer.recv().await;
        drop(peer);
        let mut peer = listener.serve().await;
        peer.recv().await;
        let before = Instant::now();
        for round in 1..=5 {
            peer.recv().await;
            assert_eq!(before.elapsed(), ms(400 * round));
        }
    });
}

#[test]
fn a_retry_prefers_another_peer() {
    run(async {
        let transports = Transports::default();
        let client = req(&transports, options(|it| it.retry(Some(ms(10)))));
        let mut peers = peers(&transports, &client, &["memory://a", "memory://b"]).await;
        client.send("to a").await.unwrap();
        let first = peers[0].0.recv().await;
        assert_eq!(peers[1].0.recv().await, first);

        // A answers late: its reply counts, and B's is one too many.
        let id = split(&first).0;
        peers[0].0.send(&words(&[id], b"late")).await;
        assert_eq!(client.recv().await.unwrap(), "late");
        peers[1].0.send(&words(&[id], b"later")).await;
        settle().await;
        assert_eq!(client.try_recv(), Err(RecvError::NoRequest));
        assert_eq!(client.stats().junk, 1);
    });
}

#[test]
fn a_lost_pipe_means_sent_again_or_cancelled() {
    run(async {
        let transports = Transports::default();
        let client = req(&transports, defaults());
        let (mut listener, mut peer) = pair(&transports, &client).await;
        client.send("keep").await.unwrap();
        let first = peer.recv().await;
        let before = Instant::now();
        drop(peer);
        let mut peer = listener.serve().await;
        assert_eq!(peer.recv().await, first);
        assert!(before.elapsed() < ms(200), "at once, not after the retry time");
        peer.send(&words(&[split(&first).0], b"kept")).await;
        assert_eq!(client.recv().await.unwrap(), "kept");
        drop((listener, peer));
        client.close().await;

        let client = req(&transports, options(|it| it.retry(None)));
        let (_listener, mut peer) = pair(&transports, &client).await;
        client.send("lose").await.unwrap();
        peer.recv().await;
        drop(peer);
        assert_eq!(client.recv().await, Err(RecvError::Cancelled));
    });
}

#[test]
fn only_a_reply_with_the_id_counts() {
    run(async {
        let transports = Transports::default();
        let client = req(&transports, defaults());
        let (_listener, mut peer) = pair(&transports, &client).await;
        client.send("x").await.unwrap();
        let (id, _) = split(&peer.recv().await);
        for junk in
            [&b""[..], b"abc", &words(&[id ^ 1], b"other"), &words(&[id & 0x7fff_ffff], b"")]
        {
            peer.send(junk).await;
        }
        peer.send(&words(&[id], b"good")).await;
        assert_eq!(client.recv().await.unwrap(), "good");
        assert_eq!(client.stats().junk, 4);
        let message = {
            client.send("y").await.unwrap();
            let (id, _) = split(&peer.recv().await);
            peer.send(&words(&[id], b"named")).await;
            client.recv_message().await.unwrap()
        };
        let pipe = message.pipe.unwrap();
        assert_eq!(pipe.id(), client.pipes()[0].id());
    });
}

#[test]
fn the_peer_that_answered_goes_first() {
    run(async {
        let transports = Transports::default();
        let client = req(&transports, options(|it| it.retry(None)));
        let mut peers =
            peers(&transports, &client, &["memory://a", "memory://b", "memory://c"]).await;
        for _ in 0..5 {
            client.send("x").await.unwrap();
            let (id, _) = split(&peers[0].0.recv_within(ms(100)).await.unwrap());
            peers[0].0.send(&words(&[id], b"")).await;
            client.recv().await.unwrap();
        }
    });
}

#[test]
fn junk_brings_a_peer_no_turn() {
    run(async {
        // spec.md §13.4.3, §13.4.5
        let transports = Transports::default();
        let client = req(&transports, options(|it| it.retry(None)));
        let mut peers = peers(&transports, &client, &["memory://a", "memory://b"]).await;
        let contexts = [client.context().unwrap(), client.context().unwrap()];
        contexts[0].send("to a").await.unwrap();
        assert_eq!(split(&peers[0].0.recv().await).1, b"to a");
        for junk in [&b"abc"[..], &words(&[0x8000_0000], b"to nobody")] {
            peers[0].0.send(junk).await;
        }
        settle().await;
        assert_eq!(client.stats().junk, 2);
        contexts[1].send("to b").await.unwrap();
        let request = peers[1].0.recv_within(ms(100)).await.unwrap();
        assert_eq!(split(&request).1, b"to b");
    });
}

#[test]
fn best_effort_returns_at_once() {
    run(async {
        let transports = Transports::default();
        let client = req(&transports, options(|it| it.best_effort(true)));
        client.try_send("queued").unwrap();
        let before = Instant::now();
        client.send("queued").await.unwrap();
        assert_eq!(before.elapsed(), ms(0));
        let (_listener, mut peer) = pair(&transports, &client).await;
        let (id, body) = {
            let m = peer.recv().await;
            (split(&m).0, split(&m).1.to_vec())
        };
        assert_eq!(body, b"queued");
        peer.send(&words(&[id], b"ok")).await;
        assert_eq!(client.recv().await.unwrap(), "ok");
    });
}

#[test]
fn without_peers_a_request_fails_if_so_asked() {
    run(async {
        let transports = Transports::default();
        let client = req(&transports, options(|it| it.fail_without_peers(true)));
        assert_eq!(client.send("x").await, Err(SendError::NoPeers));
        let (listener, mut peer) = pair(&transports, &client).await;
        client.send("x").await.unwrap();
        peer.recv().await;
        drop((listener, peer));
        assert_eq!(client.recv().await, Err(RecvError::NoPeers));
        assert_eq!(client.request("y").await, Err(RequestError::Send(SendError::NoPeers)));
    });
}

#[test]
fn a_thousand_contexts_get_their_own_replies() {
    run(async {
        let transports = Transports::default();
        let client = req(&transports, defaults());
        let (_listener, mut peer) = pair(&transports, &client).await;
        let requests = (0..1_000_u32).map(|number| {
            let context = client.context().unwrap();
            async move {
                let reply = context.request(Bytes::copy_from_slice(&number.to_be_bytes())).await;
                assert_eq!(reply.unwrap(), (number + 1).to_be_bytes()[..]);
            }
        });
        let serve = async {
            let mut asked = Vec::new();
            for _ in 0..1_000 {
                let message = peer.recv().await;
                let (id, body) = split(&message);
                asked.push((id, u32::from_be_bytes(body.try_into().unwrap())));
            }
            let ids: HashSet<_> = asked.iter().map(|(id, _)| *id).collect();
            assert_eq!(ids.len(), 1_000);
            for round in 0..1_000 {
                // 7 and 1,000 have no common divisor: a shuffle.
                let (id, number) = asked[round * 7 % 1_000];
                peer.send(&words(&[id], &(number + 1).to_be_bytes())).await;
            }
        };
        future::join(future::join_all(requests), serve).await;
    });
}

#[test]
fn contexts_are_limited_and_given_back() {
    run(async {
        let transports = Transports::default();
        let client = req(&transports, options(|it| it.max_contexts(3)));
        let one = client.context().unwrap();
        let _two = client.context().unwrap();
        assert_eq!(client.context().unwrap_err(), ContextError::TooMany);
        drop(one);
        client.context().unwrap();
        client.close().await;
        assert_eq!(client.context().unwrap_err(), ContextError::Closed);
    });
}

#[test]
fn a_receive_timeout_ends_the_request() {
    run(async {
        let transports = Transports::default();
        let client =
            req(&transports, options(|it| it.retry(Some(ms(10))).recv_timeout(Some(ms(25)))));
        let (_listener, mut peer) = pair(&transports, &client).await;
        client.send("x").await.unwrap();
        assert_eq!(client.recv().await, Err(RecvError::TimedOut));
        assert_eq!(client.recv().await, Err(RecvError::NoRequest));
        let (id, _) = split(&peer.recv().await);
        for _ in 0..2 {
            peer.recv().await;
        }
        assert_eq!(peer.recv_within(ms(1_000)).await, None, "nothing after the timeout");
        peer.send(&words(&[id], b"late")).await;
        settle().await;
        assert_eq!(client.stats().junk, 1);
        let request = client.request("y").await;
        assert_eq!(request, Err(RequestError::Recv(RecvError::TimedOut)));
    });
}

#[test]
fn a_dropped_request_is_withdrawn() {
    run(async {
        let transports = Transports::default();
        let client = req(&transports, options(|it| it.retry(Some(ms(10)))));
        let (_listener, mut peer) = pair(&transports, &client).await;
        assert!(tokio::time::timeout(ms(5), client.request("x")).await.is_err());
        let (id, _) = split(&peer.recv().await);
        assert_eq!(peer.recv_within(ms(100)).await, None, "not sent again");
        peer.send(&words(&[id], b"late")).await;
        settle().await;
        assert_eq!((client.try_recv(), client.stats().junk), (Err(RecvError::NoRequest), 1));
    });
}

#[test]
fn closing_a_context_leaves_the_others_alone() {
    run(async {
        let transports = Transports::default();
        let client = req(&transports, options(|it| it.retry(Some(ms(10)))));
        let (_listener, mut peer) = pair(&transports, &client).await;
        let (closing, other) = (Arc::new(client.context().unwrap()), client.context().unwrap());
        closing.send("closing").await.unwrap();
        let waiting = tokio::spawn({
            let closing = closing.clone();
            async move { closing.recv().await }
        });
        let (id, _) = split(&peer.recv().await);
        closing.close();
        assert_eq!(waiting.await.unwrap(), Err(RecvError::Closed));
        assert_eq!(closing.send("x").await, Err(SendError::Closed));
        assert_eq!(closing.recv().await, Err(RecvError::Closed));
        assert_eq!(peer.recv_within(ms(100)).await, None, "not sent again");
        peer.send(&words(&[id], b"late")).await;
        let (reply, ()) = future::join(other.request("other"), async {
            let (id, _) = split(&peer.recv().await);
            peer.send(&words(&[id], b"fine")).await;
        })
        .await;
        assert_eq!(reply.unwrap(), "fine");
        let waiting = tokio::spawn(async move { other.request("last").await });
        settle().await;
        client.close().await;
        assert_eq!(waiting.await.unwrap(), Err(RequestError::Recv(RecvError::Closed)));
    });
}

#[test]
fn a_context_may_have_options_of_its_own() {
    run(async {
        let transports = Transports::default();
        let client = req(&transports, defaults());
        let context = client.context().unwrap();
        context.configure(Some(&options(|it| it.send_timeout(Some(ms(20))))));
        assert_eq!(context.send("x").await, Err(SendError::TimedOut));
        context.configure(None);
        client.configure(options(|it| it.send_timeout(Some(ms(30)))));
        let before = Instant::now();
        assert_eq!(context.send("x").await, Err(SendError::TimedOut));
        assert_eq!(before.elapsed(), ms(30));
    });
}

#[test]
fn ten_thousand_rounds_leave_nothing_behind() {
    run(async {
        let transports = Transports::default();
        let _server = echo_at(&transports, ADDRESS).await;
        let client = req(&transports, defaults());
        client.dial(ADDRESS).await.unwrap();
        for round in 0..sp_support::count(10_000) {
            let body = Bytes::from(round.to_string());
            assert_eq!(client.request(body.clone()).await.unwrap(), body);
        }
        assert_eq!(client.stats().resent + client.stats().junk, 0);
    });
}

/// spec.md §13.4: a pipe that was refused is none, and its end takes nothing from the others.
#[tokio::test(start_paused = true)]
async fn a_refused_pipe_does_not_count_among_those_in_use() {
    let transports = Transports::default();
    let _server = echo_at(&transports, "memory://refused").await;
    let admitted = std::sync::atomic::AtomicBool::new(false);
    let first = move |_: &_| !admitted.swap(true, std::sync::atomic::Ordering::SeqCst);
    let client = req(&transports, options(|it| it.fail_without_peers(true).admit(first)));
    client.dial("memory://refused").await.unwrap();
    assert!(client.dial("memory://refused").await.is_err());
    assert_eq!(client.request("still here").await.unwrap(), "still here");
}
