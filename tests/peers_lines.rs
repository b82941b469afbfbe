//! The line of messages to a peer: whoever waits for a place has its turn, on one session.
#![allow(clippy::unwrap_used)]

#[path = "support/wires.rs"]
mod wires;

use futures::{AsyncReadExt, FutureExt, future::join_all};
use trunkline::peers::{Overflow, Peer, Policy, SendError, Sending};
use wires::{Net, at, id, ms, next, pause, soon, until};

/// spec.md §16.4.4: not as long as it waits behind others.
#[tokio::test(start_paused = true)]
async fn a_message_that_the_connection_has_not_taken_is_not_sent() {
    let net = Net::default();
    let (ann, bob) = (net.store("ann").await, net.store("bob").await);
    let _heard = bob.subscribe(|_| true, 100, Overflow::Wait);
    let peer = ann.connect(&at("bob")).await.unwrap();
    peer.send("first", Policy::Wait).await.unwrap();
    net.mute("ann", "bob");
    let mut sending = peer.send("second", Policy::Drop);
    pause(ms(100)).await;
    assert_eq!((&mut sending).now_or_never(), None);
    net.unmute("ann", "bob");
    soon(sending).await.unwrap();
}

/// spec.md §16.4.4: first come, first served.
#[tokio::test(start_paused = true)]
async fn those_who_wait_for_a_place_are_served_in_their_order() {
    let net = Net::default();
    let (ann, bob) = (net.store("ann").await, net.store("bob").await);
    let mut heard = bob.subscribe(|_| true, 1_000, Overflow::Wait);
    let peer = ann.connect(&at("bob")).await.unwrap();
    until(|| bob.len() == 1).await;
    net.mute("ann", "bob");
    let mut sends = Vec::new();
    for number in 0..60_u8 {
        sends.push(tokio::spawn(peer.send(vec![number], Policy::Wait)));
        tokio::task::yield_now().await;
    }
    // One that gives up leaves its place to the next.
    pause(ms(10)).await;
    sends.remove(40).abort();
    pause(ms(10)).await;
    // Whoever would not wait does not come before those who do.
    assert_eq!(peer.send("first!", Policy::Drop).await, Err(SendError::Full));
    net.unmute("ann", "bob");
    for number in (0..60_u8).filter(|number| *number != 40) {
        assert_eq!(next(&mut heard).await.body[0], number);
    }
    assert!(join_all(sends).await.into_iter().all(|sent| sent.unwrap().is_ok()));
    assert_eq!(peer.send("now", Policy::Drop).await, Ok(()));
}

/// The same, to the letter: whoever was woken and has not looked yet comes first; and whoever goes
/// away then leaves nothing behind.
#[tokio::test(start_paused = true)]
async fn a_place_that_is_offered_is_nobody_elses() {
    for goes_away in [false, true] {
        let net = Net::default();
        let (ann, bob) = (net.store("ann").await, net.store("bob").await);
        let mut heard = bob.subscribe(|_| true, 1_000, Overflow::Wait);
        let peer = ann.connect(&at("bob")).await.unwrap();
        let full = fill(&net, &peer).await;
        let mut waiting = peer.send("waiting", Policy::Wait);
        assert_eq!((&mut waiting).now_or_never(), None);
        net.unmute("ann", "bob");
        assert!(soon(join_all(full)).await.iter().all(Result::is_ok));
        assert_eq!(peer.send("later", Policy::Drop).await, Err(SendError::Full));
        if !goes_away {
            soon(waiting).await.unwrap();
            while next(&mut heard).await.body != "waiting" {}
        } else {
            drop(waiting);
        }
        soon(peer.send("now", Policy::Drop)).await.unwrap();
    }
}

/// Whoever looks again without having been woken is not served before its turn.
#[tokio::test(start_paused = true)]
async fn those_who_look_too_early_keep_their_place() {
    let net = Net::default();
    let (ann, bob) =
        (net.configured("ann", |config| config.out_queue(1)).await, net.store("bob").await);
    let mut heard = bob.subscribe(|_| true, 1_000, Overflow::Wait);
    let peer = ann.connect(&at("bob")).await.unwrap();
    net.mute("ann", "bob");
    let sent = peer.send("first", Policy::Drop);
    pause(ms(10)).await;
    let queued = peer.send("second", Policy::Drop);
    let mut waiting = ["third", "fourth"].map(|body| peer.send(body, Policy::Wait));
    assert!(waiting.iter_mut().all(|it| it.now_or_never().is_none()));
    net.unmute("ann", "bob");
    soon(sent).await.unwrap();
    soon(queued).await.unwrap();
    let [third, fourth] = &mut waiting;
    assert_eq!(fourth.now_or_never(), None);
    assert_eq!(third.now_or_never(), None);
    soon(third).await.unwrap();
    soon(fourth).await.unwrap();
    for body in ["first", "second", "third", "fourth"] {
        assert_eq!(next(&mut heard).await.body, body);
    }
}

/// One message is being written and does not get on, and twenty wait.
async fn fill(net: &Net, peer: &Peer) -> Vec<Sending> {
    net.mute("ann", "bob");
    let first = peer.send("first", Policy::Drop);
    pause(ms(10)).await;
    let twenty = (0..20).map(|_| peer.send("full", Policy::Drop));
    let full: Vec<_> = std::iter::once(first).chain(twenty).collect();
    assert_eq!(peer.send("more", Policy::Drop).await, Err(SendError::Full));
    full
}

/// Whoever waits in the line of an earlier session takes nobody's place in this one's.
#[tokio::test(start_paused = true)]
async fn a_place_in_an_earlier_line_is_none_in_this_one() {
    let net = Net::default();
    let (ann, bob) = (net.store("ann").await, net.store("bob").await);
    let _heard = bob.subscribe(|_| true, 1_000, Overflow::Wait);
    let peer = ann.connect(&at("bob")).await.unwrap();
    let lost = fill(&net, &peer).await;
    let mut early = peer.send("early", Policy::Wait);
    assert_eq!((&mut early).now_or_never(), None);
    net.unmute("ann", "bob");
    net.cut("ann", "bob");
    assert!(soon(join_all(lost)).await.iter().all(Result::is_err));
    let peer = ann.connect(&at("bob")).await.unwrap();
    let full = fill(&net, &peer).await;
    let late = tokio::spawn(peer.send("late", Policy::Wait));
    pause(ms(10)).await;
    assert_eq!((&mut early).now_or_never(), None);
    net.unmute("ann", "bob");
    assert!(soon(join_all(full)).await.iter().all(Result::is_ok));
    soon(late).await.unwrap().unwrap();
    soon(early).await.unwrap();
}

/// spec.md §16.4.4: a place in the line of a session that is over is none in the next.
#[tokio::test(start_paused = true)]
async fn those_who_wait_when_a_session_is_lost_come_to_an_end() {
    let net = Net::default();
    let (ann, bob) = (net.store("ann").await, net.store("bob").await);
    let _heard = bob.subscribe(|_| true, 10_000, Overflow::Wait);
    for round in 0..20 {
        let peer = ann.connect(&at("bob")).await.unwrap();
        until(|| bob.len() == 1).await;
        net.mute("ann", "bob");
        let sends: Vec<_> = (0..100).map(|_| tokio::spawn(peer.send("hi", Policy::Wait))).collect();
        pause(ms(round)).await;
        net.unmute("ann", "bob");
        net.cut("ann", "bob");
        let again = ann.clone();
        let again = tokio::spawn(async move { again.connect(&at("bob")).await.map(drop) });
        let fates = soon(join_all(sends)).await;
        assert_eq!(fates.len(), 100);
        soon(again).await.unwrap().unwrap();
        peer.disconnect().await;
        until(|| ann.is_empty() && bob.is_empty()).await;
    }
}

/// spec.md §16.4.4: in order, for they go on one of them.
#[tokio::test(start_paused = true)]
async fn messages_to_a_peer_with_several_sessions_go_on_one() {
    let net = Net::default();
    let bob = net.configured("bob", |config| config.sessions_per_peer(16)).await;
    let mut sessions = Vec::new();
    for dial in 1..=16 {
        sessions.push(net.peer("bob", "ann", dial).await);
    }
    pause(ms(10)).await;
    for number in 0..20 {
        bob.peer(&id("ann")).send(vec![number], Policy::Wait).await.unwrap();
    }
    // On the best, which is the last.
    let (_, stream) = sessions.last_mut().unwrap();
    let mut bytes = [0; 20 * 9];
    soon(stream.read_exact(&mut bytes)).await.unwrap();
    assert!(bytes.chunks(9).map(|message| message[8]).eq(0..20));
}
