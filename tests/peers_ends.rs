//! How sessions of peers end: what events tell, who is dialled again, and what a shutdown leaves.
#![allow(clippy::unwrap_used)]

#[path = "support/wires.rs"]
mod wires;

use std::{
    io,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use futures::{AsyncReadExt, AsyncWriteExt, FutureExt, StreamExt, future::join_all};
use trunkline::{
    peers::{Claim, ConnectError, Overflow, PeerEvent, PeerStore, Policy, Queue, SendError},
    transport::Transports,
};
use wires::{
    Counted, Net, at, configured, id, ms, next, pause, peer, secs, soon, store, two, until,
};

#[tokio::test(start_paused = true)]
async fn events_tell_a_clean_end_from_a_dead_peer() {
    let network = Transports::default();
    let (ann, bob) = two(&network).await;
    let mut events = bob.events();
    let peer = ann.connect("memory://bob").await.unwrap();
    assert!(
        matches!(next(&mut events).await, PeerEvent::Connected(info) if info.id == id("ann") && !info.dialled)
    );
    peer.disconnect().await;
    assert_eq!(next(&mut events).await, PeerEvent::Disconnected(id("ann")));
    let peer = ann.connect("memory://bob").await.unwrap();
    assert!(matches!(next(&mut events).await, PeerEvent::Connected(_)));
    peer.session().unwrap().abort(trunkline::GoAwayCode::INTERNAL_ERROR);
    assert!(
        matches!(next(&mut events).await, PeerEvent::PresumedDead { id: who, .. } if who == id("ann"))
    );
}

/// spec.md §16.5: it is dialled again, with patience.
#[tokio::test(start_paused = true)]
async fn a_lost_peer_is_dialled_again_if_so_asked() {
    let (network, counted) = Counted::network(ms(1));
    let ann = configured("ann", &network, |config| config.reconnect(Some((ms(100), ms(1_000)))));
    let bob = store("bob", &network);
    bob.listen("memory://bob").await.unwrap();
    let peer = ann.connect("memory://bob").await.unwrap();
    bob.shutdown().await;
    until(|| ann.is_empty()).await;
    let before = counted.dials();
    pause(secs(10)).await;
    let tried = counted.dials() - before;
    assert!((8..=40).contains(&tried), "{tried} dials in ten seconds");
    let bob = store("bob", &network);
    bob.listen("memory://bob").await.unwrap();
    until(|| ann.len() == 1).await;
    // Nobody wants it any more.
    peer.disconnect().await;
    pause(secs(10)).await;
    assert!(ann.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_to_be_kept_is_dialled_until_it_is_there() {
    let (network, counted) = Counted::network(ms(1));
    let ann = store("ann", &network);
    ann.keep("memory://bob").unwrap();
    pause(secs(3)).await;
    assert!((5..30).contains(&counted.dials()), "{}", counted.dials());
    for _ in 0..3 {
        let bob = store("bob", &network);
        bob.listen("memory://bob").await.unwrap();
        until(|| ann.len() == 1 && bob.len() == 1).await;
        bob.shutdown().await;
        until(|| ann.is_empty()).await;
    }
    ann.shutdown().await;
    let dials = counted.dials();
    pause(secs(60)).await;
    assert_eq!(counted.dials(), dials);
    assert!(matches!(ann.keep("pigeon://bob"), Err(ConnectError::Address(_))));
    assert_eq!(ann.keep("memory://bob"), Err(ConnectError::Closed));
}

#[tokio::test(start_paused = true)]
async fn shutting_down_closes_what_is_being_dialled_too() {
    let (network, _) = Counted::network(secs(5));
    let (ann, bob) = two(&network).await;
    let dial = tokio::spawn({
        let ann = ann.clone();
        async move { ann.connect("memory://bob").await.map(drop) }
    });
    pause(ms(10)).await;
    let (before, mut events) = (tokio::time::Instant::now(), ann.events());
    ann.shutdown().await;
    assert_eq!(soon(dial).await.unwrap(), Err(ConnectError::Closed));
    assert!(before.elapsed() < ms(100));
    assert_eq!(events.next().await, None);
    assert_eq!(ann.connect("memory://bob").await.unwrap_err(), ConnectError::Closed);
    assert_eq!(
        bob.connect("memory://no").await.unwrap_err(),
        ConnectError::Dial(io::Error::from(io::ErrorKind::ConnectionRefused).into())
    );
    assert_eq!(ann.stats(), Default::default());
    ann.shutdown().await;
}

/// spec.md §16.4: neither side has to wait for a time limit.
#[tokio::test(start_paused = true)]
async fn peers_that_answer_are_closed_at_once_and_cleanly() {
    let network = Transports::default();
    let (ann, bob) = two(&network).await;
    let (mut ours, mut theirs) = (ann.events(), bob.events());
    let peer = ann.connect("memory://bob").await.unwrap();
    peer.send("last words", Policy::Wait).await.unwrap();
    until(|| bob.len() == 1).await;
    let before = tokio::time::Instant::now();
    ann.shutdown().await;
    assert!(before.elapsed() < ms(100), "{:?}", before.elapsed());
    until(|| bob.is_empty()).await;
    assert!(matches!(next(&mut ours).await, PeerEvent::Connected(_)));
    assert_eq!(next(&mut ours).await, PeerEvent::Disconnected(id("bob")));
    assert!(matches!(next(&mut theirs).await, PeerEvent::Connected(_)));
    assert_eq!(next(&mut theirs).await, PeerEvent::Disconnected(id("ann")));
    assert_eq!(bob.stats(), Default::default());
}

#[tokio::test(start_paused = true)]
async fn a_hundred_peers_that_do_not_answer_cost_one_close_timeout() {
    let network = Transports::default();
    let bob = store("bob", &network);
    bob.listen("memory://bob").await.unwrap();
    let mut mute = Vec::new();
    for number in 0..100 {
        mute.push(peer(&network, "bob", &format!("mute {number}"), 1).await);
    }
    until(|| bob.len() == 100).await;
    let before = tokio::time::Instant::now();
    soon(bob.shutdown()).await;
    assert!(before.elapsed() <= secs(5) + ms(10), "{:?}", before.elapsed());
    assert_eq!(bob.stats(), Default::default());
}

#[tokio::test(start_paused = true)]
async fn a_hundred_closes_and_sends_at_once_come_to_an_end() {
    let network = Transports::default();
    let (ann, bob) = two(&network).await;
    let peer = ann.connect("memory://bob").await.unwrap();
    let sends = join_all((0..100).map(|_| peer.send("hi", Policy::Wait)));
    let closes = join_all((0..100).map(|_| peer.disconnect()));
    let (sent, _) = soon(futures::future::join(sends, closes)).await;
    assert_eq!(sent.len(), 100);
    until(|| ann.is_empty() && bob.is_empty()).await;
}

/// spec.md §16.4.4: what was handed to the connection before a close in good order has arrived.
#[tokio::test(start_paused = true)]
async fn what_was_sent_before_a_close_arrives() {
    for seed in 0..50 {
        let net = Net::default();
        let (ann, bob) = (net.store("ann").await, net.store("bob").await);
        let mut heard = bob.subscribe(|_| true, 1_000, Overflow::DropOldest);
        let peer = ann.connect(&at("bob")).await.unwrap();
        let mut sends = Vec::new();
        for number in 0..100_u8 {
            let (peer, ann) = (peer.clone(), ann.clone());
            sends.push(tokio::spawn(async move {
                for _ in 0..(usize::from(number) * 7 + seed) % 23 {
                    tokio::task::yield_now().await;
                }
                if number % 25 == 24 {
                    ann.peer(&id("bob")).disconnect().await;
                }
                peer.send(vec![number; 1_000], Policy::Wait).await
            }));
        }
        let fates: Vec<_> = soon(join_all(sends)).await.into_iter().map(Result::unwrap).collect();
        until(|| ann.is_empty() && bob.is_empty() && ann.stats().closing == 0).await;
        let sent = fates.iter().filter(|fate| fate.is_ok()).count();
        let arrived = std::iter::from_fn(|| heard.try_next()).count();
        assert!(arrived >= sent, "seed {seed}: {sent} sent, {arrived} arrived");
        let unsent = fates.iter().filter(|fate| **fate == Err(SendError::Disconnected)).count();
        assert!(arrived + unsent <= 100, "seed {seed}: what was not sent has arrived");
    }
}

/// spec.md §16.4.7: whoever has a place in the queue has said it before the close.
#[tokio::test(start_paused = true)]
async fn what_waits_to_be_written_at_a_close_is_sent_before_it() {
    for whole_store in [true, false] {
        let net = Net::default();
        let (ann, bob) = (net.store("ann").await, net.store("bob").await);
        let mut heard = bob.subscribe(|_| true, 16, Overflow::DropNewest);
        let peer = ann.connect(&at("bob")).await.unwrap();
        until(|| bob.len() == 1).await;
        let sends: Vec<_> = (0..10).map(|number| peer.send(vec![number], Policy::Drop)).collect();
        let before = tokio::time::Instant::now();
        if whole_store {
            ann.shutdown().await;
        } else {
            peer.disconnect().await;
        }
        assert!(before.elapsed() < ms(100), "{:?}", before.elapsed());
        assert!(soon(join_all(sends)).await.iter().all(Result::is_ok));
        for number in 0..10 {
            assert_eq!(next(&mut heard).await.body[0], number);
        }
    }
}

/// Nobody would answer it any more, and no longer than a close may take.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_at_a_close_is_lost_with_it() {
    let net = Net::default();
    let (ann, _bob) = (net.store("ann").await, net.store("bob").await);
    let peer = ann.connect(&at("bob")).await.unwrap();
    net.mute("ann", "bob");
    let stuck = peer.send("stuck", Policy::Drop);
    pause(ms(10)).await;
    let waiting = peer.send("waiting", Policy::Drop);
    let asking = peer.clone();
    let asking = tokio::spawn(async move { asking.send_with_ack("?", secs(3_600)).await });
    pause(ms(10)).await;
    let before = tokio::time::Instant::now();
    let closing = tokio::spawn(async move { peer.disconnect().await });
    assert_eq!(soon(asking).await.unwrap(), Err(SendError::Disconnected));
    assert_eq!(before.elapsed().as_secs(), 0);
    soon(closing).await.unwrap();
    assert_eq!(before.elapsed().as_secs(), 5);
    assert_eq!(
        (soon(stuck).await, soon(waiting).await),
        (Err(SendError::Lost), Err(SendError::Lost))
    );
    assert_eq!(ann.stats(), Default::default());
}

/// Whoever closes the session itself leaves no time for them.
#[tokio::test(start_paused = true)]
async fn what_waits_when_the_session_is_closed_by_hand_is_not_sent() {
    let net = Net::default();
    let bob = net.store("bob").await;
    // It reads nothing.
    let (session, stream) = net.peer("bob", "eve", 1).await;
    let peer = bob.peer(&id("eve"));
    let stuck = peer.send(vec![0; 1 << 20], Policy::Drop);
    pause(ms(10)).await;
    let waiting = peer.send("waiting", Policy::Drop);
    soon(peer.session().unwrap().close()).await.unwrap();
    assert_eq!(soon(stuck).await, Err(SendError::Lost));
    assert_eq!(soon(waiting).await, Err(SendError::Disconnected));
    drop((session, stream));
}

/// spec.md §16.4.7: the other side finished first; it still takes what waits here.
#[tokio::test(start_paused = true)]
async fn what_waits_when_the_peer_closes_is_sent_to_it() {
    let net = Net::default();
    let bob = net.store("bob").await;
    let (session, mut stream) = net.peer("bob", "ann", 1).await;
    pause(ms(10)).await;
    let peer = bob.peer(&id("ann"));
    // More than its window: it stays in the way of the others until it is read.
    let first = peer.send(vec![7; 1 << 20], Policy::Drop);
    pause(ms(10)).await;
    let sends: Vec<_> = (0..5).map(|number| peer.send(vec![number], Policy::Drop)).collect();
    stream.close().await.unwrap();
    pause(ms(10)).await;
    assert_eq!(bob.len(), 0, "it has left");
    let mut bytes = Vec::new();
    soon(stream.read_to_end(&mut bytes)).await.unwrap();
    let (_, rest) = bytes.split_at(8 + (1 << 20));
    assert!(rest.chunks(9).map(|message| message[8]).eq(0..5), "{rest:?}");
    assert_eq!(soon(first).await, Ok(()));
    assert!(soon(join_all(sends)).await.iter().all(Result::is_ok));
    drop((session, stream));
    until(|| bob.stats() == Default::default()).await;
}

/// Both say goodbye at once, each with words left.
#[tokio::test(start_paused = true)]
async fn what_waits_at_both_ends_when_both_close_arrives() {
    let net = Net::default();
    let (ann, bob) = (net.store("ann").await, net.store("bob").await);
    let ears = |store: &PeerStore| store.subscribe(|_| true, 16, Overflow::DropNewest);
    let mut heard = [ears(&ann), ears(&bob)];
    ann.connect(&at("bob")).await.unwrap();
    until(|| bob.len() == 1).await;
    let peers = [bob.peer(&id("ann")), ann.peer(&id("bob"))];
    let sends: Vec<_> = (0..10)
        .flat_map(|number| peers.each_ref().map(|peer| peer.send(vec![number], Policy::Drop)))
        .collect();
    let before = tokio::time::Instant::now();
    join_all(peers.iter().map(|peer| peer.disconnect())).await;
    assert!(before.elapsed() < ms(100), "{:?}", before.elapsed());
    assert!(soon(join_all(sends)).await.iter().all(Result::is_ok));
    for ears in &mut heard {
        for number in 0..10 {
            assert_eq!(next(ears).await.body[0], number);
        }
        assert!(ears.next().now_or_never().is_none(), "once each");
    }
}

/// A subscriber that is waited for holds up a close for its timeout, and no longer.
#[tokio::test(start_paused = true)]
async fn a_close_does_not_wait_for_a_subscriber() {
    let net = Net::default();
    let (ann, bob) = (net.store("ann").await, net.store("bob").await);
    let mut heard = bob.subscribe(|_| true, 1, Overflow::Wait);
    let peer = ann.connect(&at("bob")).await.unwrap();
    until(|| bob.len() == 1).await;
    let sends: Vec<_> = (0..10).map(|number| peer.send(vec![number], Policy::Drop)).collect();
    pause(ms(10)).await;
    let before = tokio::time::Instant::now();
    futures::join!(bob.shutdown(), peer.disconnect());
    assert!(before.elapsed() <= secs(5), "{:?}", before.elapsed());
    assert!(soon(join_all(sends)).await.iter().all(Result::is_ok), "written before");
    let mut bodies = Vec::new();
    while let Some(message) = soon(heard.next()).await {
        bodies.push(message.body[0]);
    }
    assert!(bodies.iter().copied().eq(0..bodies.len() as u8) && !bodies.is_empty(), "{bodies:?}");
    assert_eq!((ann.stats(), bob.stats()), Default::default());
}

/// spec.md §16.4.4: in order, for they go on the session on which others went.
#[tokio::test(start_paused = true)]
async fn what_waits_at_a_close_goes_on_the_best_session() {
    let net = Net::default();
    let bob = net.configured("bob", |config| config.sessions_per_peer(3)).await;
    let mut sessions = Vec::new();
    for dial in 1..=3 {
        sessions.push(net.peer("bob", "ann", dial).await);
    }
    pause(ms(10)).await;
    let peer = bob.peer(&id("ann"));
    let _sends: Vec<_> = (0..5).map(|number| peer.send(vec![number], Policy::Drop)).collect();
    let closing = async move { peer.disconnect().await };
    let mut closing = Box::pin(closing);
    assert_eq!((&mut closing).now_or_never(), None);
    let (_, stream) = sessions.last_mut().unwrap();
    let mut bytes = Vec::new();
    soon(stream.read_to_end(&mut bytes)).await.unwrap();
    assert!(bytes.chunks(9).map(|message| message[8]).eq(0..5), "{bytes:?}");
    drop(sessions);
    soon(closing).await;
}

/// However far the dial has come.
#[tokio::test(start_paused = true)]
async fn a_shutdown_at_any_moment_of_a_dial_leaves_nothing() {
    for steps in 0..60 {
        let net = Net::default();
        let (ann, bob) = (net.store("ann").await, net.store("bob").await);
        let dialling = ann.clone();
        let dial = tokio::spawn(async move { dialling.connect(&at("bob")).await.map(drop) });
        for _ in 0..steps {
            tokio::task::yield_now().await;
        }
        soon(ann.shutdown()).await;
        let dialled = soon(dial).await.unwrap();
        assert!(matches!(dialled, Ok(()) | Err(ConnectError::Closed)));
        until(|| bob.stats() == Default::default()).await;
        assert_eq!(ann.stats(), Default::default());
        until(|| net.open() == 0).await;
        // And those who come later.
        assert_eq!(ann.events().next_now(), Some(None));
        assert_eq!(
            ann.subscribe(|_| true, 1, Overflow::Wait).next_now().map(|it| it.is_none()),
            Some(true)
        );
        assert!(ann.get(&id("bob")).await.is_err());
    }
}

trait NextNow<T> {
    fn next_now(self) -> Option<Option<T>>;
}

impl<T> NextNow<T> for Queue<T> {
    fn next_now(mut self) -> Option<Option<T>> {
        self.next().now_or_never()
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_shutdown_waits_for_the_first_and_the_first_needs_nobody_to_wait() {
    let net = Net::default();
    let bob = net.store("bob").await;
    let (session, stream) = net.peer("bob", "mute", 1).await;
    let before = tokio::time::Instant::now();
    let shutdown = || {
        let bob = bob.clone();
        tokio::spawn(async move { bob.shutdown().await })
    };
    let mut heard = bob.subscribe(|_| true, 1, Overflow::Wait);
    let heard = tokio::spawn(async move { heard.next().await.is_none() });
    let (first, second) = (shutdown(), shutdown());
    pause(ms(1)).await;
    first.abort();
    let third = shutdown();
    pause(secs(1)).await;
    assert!(!second.is_finished() && !third.is_finished());
    soon(third).await.unwrap();
    soon(second).await.unwrap();
    assert!(soon(heard).await.unwrap());
    assert_eq!(before.elapsed().as_secs(), 5, "it does not answer the close");
    assert_eq!(bob.stats(), Default::default());
    drop((session, stream));
}

#[tokio::test(start_paused = true)]
async fn a_disconnect_that_nobody_waits_for_goes_on() {
    let net = Net::default();
    let bob = net.store("bob").await;
    let (session, stream) = net.peer("bob", "mute", 1).await;
    let peer = bob.peer(&id("mute"));
    assert!(tokio::time::timeout(ms(1), peer.disconnect()).await.is_err());
    assert_eq!((bob.len(), bob.stats().closing), (0, 1));
    pause(secs(5)).await;
    assert_eq!(bob.stats(), Default::default());
    assert!(session.is_closed());
    drop(stream);
}

/// A shutdown that comes while a handshake is being judged.
#[tokio::test(start_paused = true)]
async fn a_session_that_is_ready_after_the_shutdown_is_none() {
    let net = Net::default();
    let cat = net.store("cat").await;
    let store: Arc<OnceLock<PeerStore>> = Arc::default();
    let ending = store.clone();
    let verify = move |_: &Claim| {
        let ending = ending.get().unwrap().clone();
        assert_eq!(ending.shutdown().now_or_never(), None);
        Ok(Bytes::new())
    };
    let ann = net.builder("ann").verify(verify).build();
    store.set(ann.clone()).unwrap();
    assert_eq!(ann.connect(&at("cat")).await.unwrap_err(), ConnectError::Closed);
    soon(ann.shutdown()).await;
    assert_eq!(ann.stats(), Default::default());
    until(|| cat.is_empty() && net.open() == 0).await;
}
