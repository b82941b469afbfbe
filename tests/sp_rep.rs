//! What a REP socket does with requests and replies.
#![allow(clippy::unwrap_used)]

mod sp_support;

use sp_support::{Peer, REQ, defaults, ms, options, rep, run, settle, split, words};
use tokio::time::Instant;
use trunkline::{
    sp::{RecvError, RepSocket, SendError},
    transport::{Transports, memory::Memory},
};

const ADDRESS: &str = "memory://rep";
const ID: u32 = 0x8000_002a;

async fn server(transports: &Transports, options: trunkline::sp::Options) -> RepSocket {
    let server = rep(transports, options);
    server.listen(ADDRESS).await.unwrap();
    server
}

#[test]
fn seven_hops_pass_and_eight_do_not() {
    run(async {
        // spec.md §13.5
        let transports = Transports::default();
        let server = server(&transports, defaults()).await;
        let mut peer = Peer::dial(&transports, ADDRESS, REQ).await;
        peer.send(&words(&[1, 2, 3, 4, 5, 6, 7, 8, ID], b"too far")).await;
        let header = [1, 2, 3, 4, 5, 6, 7, ID];
        peer.send(&words(&header, b"far")).await;
        let (request, replier) = server.recv().await.unwrap();
        assert_eq!(request, "far");
        assert_eq!(server.stats().junk, 1);
        replier.send("reply").await.unwrap();
        assert_eq!(peer.recv().await, words(&header, b"reply"), "the header comes back as it was");
        let near = options(|it| it.max_hops(1));
        server.configure(near);
        peer.send(&words(&[1, ID], b"far")).await;
        peer.send(&words(&[ID], b"near")).await;
        assert_eq!(server.recv().await.unwrap().0, "near");
    });
}

#[test]
fn junk_is_dropped_and_the_pipe_kept() {
    run(async {
        // spec.md §13.5
        let transports = Transports::default();
        let server = server(&transports, defaults()).await;
        let mut peer = Peer::dial(&transports, ADDRESS, REQ).await;
        for junk in [&b""[..], b"abc", &words(&[1, 2], b""), &words(&[1], b"\x80")] {
            peer.send(junk).await;
        }
        peer.send(&words(&[ID], b"good")).await;
        let (request, replier) = server.recv().await.unwrap();
        assert_eq!((request, server.stats().junk), ("good".into(), 4));
        replier.send("fine").await.unwrap();
        assert_eq!(split(&peer.recv().await), (ID, &b"fine"[..]));
    });
}

#[test]
fn one_receiver_takes_one_request() {
    run(async {
        let transports = Transports::default();
        let server = server(&transports, defaults()).await;
        let mut peers = Vec::new();
        for number in 0..100 {
            let mut peer = Peer::dial(&transports, ADDRESS, REQ).await;
            peer.send(&words(&[ID], &[number])).await;
            // A second one stays in the connection.
            peer.send(&words(&[ID], &[200])).await;
            peers.push(peer);
        }
        settle().await;
        let (first, replier) = server.recv().await.unwrap();
        replier.send(first.clone()).await.unwrap();
        let mut answered = 0;
        for peer in &mut peers {
            answered += usize::from(peer.recv_within(ms(1)).await.is_some());
        }
        assert_eq!((answered, first[0]), (1, 0));
        // The pipes take turns.
        for number in 1..100 {
            assert_eq!(server.recv().await.unwrap().0[..], [number]);
        }
    });
}

#[test]
fn who_stops_receiving_loses_no_request() {
    run(async {
        let transports = Transports::default();
        let server = server(&transports, defaults()).await;
        let mut peer = Peer::dial(&transports, ADDRESS, REQ).await;
        for number in 0..50 {
            let mut receiving = Box::pin(server.recv());
            assert!(futures::poll!(&mut receiving).is_pending());
            peer.send(&words(&[ID], &[number])).await;
            settle().await;
            drop(receiving);
            assert_eq!(server.recv().await.unwrap().0[..], [number]);
        }
    });
}

#[test]
fn a_pipe_is_not_read_while_its_requests_wait() {
    run(async {
        let transports = Transports::default().with("tight", Memory::new(1_000));
        let server = rep(&transports, defaults());
        server.listen("tight://x").await.unwrap();
        let mut peer = Peer::dial(&transports, "tight://x", REQ).await;
        let write = async {
            for _ in 0..100 {
                peer.send(&words(&[ID], &[0; 500])).await;
            }
        };
        assert!(tokio::time::timeout(ms(10), write).await.is_err(), "back-pressure");
        assert!(server.stats().received < 10);
        drop(server.recv().await.unwrap());
    });
}

#[test]
fn a_reply_to_a_peer_that_left_says_so() {
    run(async {
        let transports = Transports::default();
        let server = server(&transports, defaults()).await;
        let mut peer = Peer::dial(&transports, ADDRESS, REQ).await;
        peer.send(&words(&[ID], b"x")).await;
        let (_, replier) = server.recv().await.unwrap();
        let pipe = replier.pipe().clone();
        assert_eq!(pipe.id(), server.pipes()[0].id());
        drop(peer);
        settle().await;
        assert_eq!(replier.send("y").await, Err(SendError::PeerGone));
        assert!(server.pipes().is_empty());
    });
}

#[test]
fn best_effort_drops_only_what_has_no_room() {
    run(async {
        let transports = Transports::default();
        let server = server(&transports, options(|it| it.best_effort(true))).await;
        let mut peer = Peer::dial(&transports, ADDRESS, REQ).await;
        let mut repliers = Vec::new();
        for _ in 0..400 {
            peer.send(&words(&[ID], b"x")).await;
            repliers.push(server.recv().await.unwrap().1);
        }
        for replier in repliers {
            replier.send("reply").await.unwrap();
        }
        for _ in 0..400 {
            assert_eq!(split(&peer.recv().await), (ID, &b"reply"[..]));
        }
        assert_eq!(server.stats().dropped, 0);

        // Nobody reads: the buffers fill up, then replies are dropped and counted.
        let mut sent = 0;
        while server.stats().dropped == 0 {
            peer.send(&words(&[ID], b"x")).await;
            server.recv().await.unwrap().1.send(vec![0; 50_000]).await.unwrap();
            settle().await;
            sent += 1;
            assert!(sent < 1_000, "it has to be full some time");
        }
        assert!((4..20).contains(&sent), "{sent}");
    });
}

#[test]
fn a_reply_waits_for_room_no_longer_than_allowed() {
    run(async {
        let transports = Transports::default().with("tight", Memory::new(100));
        let server = rep(&transports, options(|it| it.send_buffer(1).send_timeout(Some(ms(40)))));
        server.listen("tight://x").await.unwrap();
        let mut peer = Peer::dial(&transports, "tight://x", REQ).await;
        let mut full = None;
        for _ in 0..4 {
            peer.send(&words(&[ID], b"x")).await;
            let (_, replier) = server.recv().await.unwrap();
            let before = Instant::now();
            if let Err(error) = replier.send(vec![1; 90]).await {
                full = Some((error, before.elapsed()));
                break;
            }
            settle().await;
        }
        assert_eq!(full, Some((SendError::TimedOut, ms(40))));

        // With a reader there is room again, and who waits is woken.
        peer.send(&words(&[ID], b"x")).await;
        let (_, replier) = server.recv().await.unwrap();
        let sending = tokio::spawn(replier.send("woken"));
        settle().await;
        assert!(!sending.is_finished());
        while split(&peer.recv().await).1 != b"woken" {}
        sending.await.unwrap().unwrap();
    });
}

#[test]
fn a_request_that_is_not_answered_is_in_nobody_s_way() {
    run(async {
        let transports = Transports::default();
        let server = server(&transports, defaults()).await;
        let mut peer = Peer::dial(&transports, ADDRESS, REQ).await;
        peer.send(&words(&[ID], b"abandoned")).await;
        drop(server.recv().await.unwrap());
        peer.send(&words(&[ID + 1], b"answered")).await;
        let (request, replier) = server.recv().await.unwrap();
        replier.send(request).await.unwrap();
        assert_eq!(split(&peer.recv().await), (ID + 1, &b"answered"[..]));
    });
}

#[test]
fn contexts_take_over_the_socket_s_options() {
    run(async {
        let transports = Transports::default();
        let server = server(&transports, options(|it| it.recv_timeout(Some(ms(30))))).await;
        let mut context = server.context();
        let before = Instant::now();
        assert_eq!(context.recv().await.unwrap_err(), RecvError::TimedOut);
        assert_eq!(before.elapsed(), ms(30));
        context.configure(&options(|it| it.recv_timeout(Some(ms(50)))));
        assert_eq!(context.recv().await.unwrap_err(), RecvError::TimedOut);
        assert_eq!(before.elapsed(), ms(80));
        assert_eq!(context.try_recv().unwrap_err(), RecvError::WouldBlock);
        server.close().await;
        assert_eq!(context.recv().await.unwrap_err(), RecvError::Closed);
    });
}
