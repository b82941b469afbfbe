//! Sessions that one side only knows to be lost, that overtake each other, and what becomes of the
//! messages and acks on them.
#![allow(clippy::unwrap_used)]

#[path = "support/wires.rs"]
mod wires;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use futures::{AsyncReadExt, AsyncWriteExt, FutureExt, future::join_all};
use trunkline::{
    GoAwayCode,
    peers::{
        Claim, ConnectError, Overflow, Peer, PeerEvent, PeerStore, Policy, Queue, SendError,
        Sending, Verify,
    },
};
use wires::{Net, at, id, ms, next, pause, secs, soon, until};

fn drain(events: &mut Queue<PeerEvent>) -> Vec<PeerEvent> {
    std::iter::from_fn(|| events.try_next()).collect()
}

/// spec.md §16.3.3: whichever has the smaller id.
#[tokio::test(start_paused = true)]
async fn a_loss_that_only_one_side_noticed_is_mended_by_its_dial() {
    for (near, far) in [("ann", "bob"), ("bob", "ann")] {
        for near_dialled in [true, false] {
            let net = Net::default();
            let (here, there) = (net.store(near).await, net.store(far).await);
            let peer = match near_dialled {
                true => here.connect(&at(far)).await.unwrap(),
                false => {
                    there.connect(&at(near)).await.unwrap();
                    here.peer(&id(far))
                }
            };
            until(|| here.len() == 1 && there.len() == 1).await;
            net.mute(near, far);
            peer.session().unwrap().abort(GoAwayCode::INTERNAL_ERROR);
            until(|| here.is_empty()).await;
            assert_eq!(there.len(), 1, "it has heard nothing");
            here.connect(&at(far)).await.unwrap();
            pause(secs(60)).await;
            assert_eq!([here.stats().sessions, there.stats().sessions], [1, 1], "{near} dials");
            let mut heard = there.subscribe(|_| true, 1, Overflow::Wait);
            here.peer(&id(far)).send("here", Policy::Wait).await.unwrap();
            assert_eq!(next(&mut heard).await.body, "here");
            let mut heard = here.subscribe(|_| true, 1, Overflow::Wait);
            there.peer(&id(near)).send("there", Policy::Wait).await.unwrap();
            assert_eq!(next(&mut heard).await.body, "there");
        }
    }
}

/// spec.md §16.3.4: two dials of one store, of which the second arrives first.
#[tokio::test(start_paused = true)]
async fn a_dial_that_was_overtaken_takes_nothing_back() {
    for name in ["ann", "cat"] {
        let net = Net::default();
        let bob = net.store("bob").await;
        let (second, mut kept) = net.peer("bob", name, 2).await;
        let (first, mut late) = net.peer("bob", name, 1).await;
        assert_eq!(soon(late.read(&mut [0])).await.unwrap(), 0, "it is closed in good order");
        late.close().await.unwrap();
        soon(first.closed()).await.unwrap();
        bob.peer(&id(name)).send("hi", Policy::Wait).await.unwrap();
        let mut message = [0; 10];
        soon(kept.read_exact(&mut message)).await.unwrap();
        assert_eq!(message, *b"\x01\0\0\0\0\0\0\x02hi");
        assert!(!second.is_closed());
    }
}

/// spec.md §16.1.1: it is not waited for longer than need be.
#[tokio::test(start_paused = true)]
async fn a_peer_that_comes_in_is_as_good_as_a_dial_that_hangs() {
    let net = Net::default();
    let (ann, bob) = (net.store("ann").await, net.store("bob").await);
    net.block("ann", "bob");
    ann.add_address(&id("bob"), &at("bob")).unwrap();
    let (by_id, by_address) = ((ann.clone(), id("bob")), ann.clone());
    let by_id = tokio::spawn(async move { by_id.0.get(&by_id.1).await.map(drop) });
    let by_address = tokio::spawn(async move { by_address.connect(&at("bob")).await.map(drop) });
    pause(ms(10)).await;
    let before = tokio::time::Instant::now();
    bob.connect(&at("ann")).await.unwrap();
    assert_eq!(soon(by_id).await.unwrap(), Ok(()));
    assert_eq!(soon(by_address).await.unwrap(), Ok(()));
    assert!(before.elapsed() < ms(100), "{:?}", before.elapsed());
    // Nobody waits for the dials any more.
    pause(ms(1)).await;
    assert_eq!(ann.stats().dials, 0);
}

/// spec.md §16.1.1: the session that lives is the answer, whoever dialled it.
#[tokio::test(start_paused = true)]
async fn both_sides_may_ask_for_the_address_again_and_again() {
    for (near, far) in [("ann", "bob"), ("bob", "ann")] {
        let net = Net::default();
        let stores = [net.store(near).await, net.store(far).await];
        stores[0].connect(&at(far)).await.unwrap();
        // It learns that this is the address of the peer it has.
        stores[1].connect(&at(near)).await.unwrap();
        pause(secs(10)).await;
        let mut events = stores.each_ref().map(PeerStore::events);
        let dials = net.dials();
        for _ in 0..5 {
            stores[0].connect(&at(far)).await.unwrap();
            stores[1].connect(&at(near)).await.unwrap();
            pause(secs(1)).await;
        }
        assert_eq!((net.dials(), net.open()), (dials, 1));
        assert!(events.iter_mut().all(|events| drain(events).is_empty()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_with_two_addresses_is_dialled_once_at_each() {
    let net = Net::default();
    let (ann, bob) = (net.store("ann").await, net.store("bob").await);
    bob.listen(&at("robert")).await.unwrap();
    for _ in 0..5 {
        ann.connect(&at("bob")).await.unwrap();
        ann.connect(&at("robert")).await.unwrap();
        pause(secs(10)).await;
    }
    assert_eq!((net.dials(), net.open(), ann.len()), (2, 1, 1));
}

/// spec.md §16.4.6: an ack that comes late is not for another message.
#[tokio::test(start_paused = true)]
async fn an_ack_for_a_message_of_an_earlier_session_answers_no_other() {
    for restarted in [false, true] {
        let net = Net::default();
        let bob = net.store("bob").await;
        let mut heard = bob.subscribe(|_| true, 16, Overflow::Wait);
        let ann = net.store("ann").await;
        let peer = ann.connect(&at("bob")).await.unwrap();
        let asking = tokio::spawn(async move { peer.send_with_ack("old", secs(60)).await });
        let old = next(&mut heard).await;
        let ann = if restarted { net.builder("ann").build() } else { ann };
        if !restarted {
            net.cut("ann", "bob");
            until(|| ann.is_empty() && bob.is_empty()).await;
            assert_eq!(soon(asking).await.unwrap(), Err(SendError::Lost));
        }
        let peer = ann.connect(&at("bob")).await.unwrap();
        let asking = tokio::spawn(async move { peer.send_with_ack("new", secs(60)).await });
        let new = next(&mut heard).await;
        old.ack.unwrap().succeed();
        pause(ms(10)).await;
        new.ack.unwrap().fail("no");
        let failed = Err(SendError::Failed("no".to_owned()));
        assert_eq!(soon(asking).await.unwrap(), failed, "restarted: {restarted}");
    }
}

/// spec.md §16.4.6: nor is one that waits to be written.
#[tokio::test(start_paused = true)]
async fn an_ack_that_is_owed_to_an_earlier_life_is_not_sent_to_the_next() {
    let net = Net::default();
    let bob = net.store("bob").await;
    let mut heard = bob.subscribe(|_| true, 16, Overflow::Wait);
    let (first, mut stream) = net.peer("bob", "eve", 1).await;
    let peer = bob.peer(&id("eve"));
    // What waits for a peer that does not read, and behind it the ack.
    let stuck = peer.send(vec![0; 1 << 20], Policy::Drop);
    pause(ms(10)).await;
    stream.write_all(b"\x01\x01\0\0\0\0\0\x01\0\0\0\0\0\0\0\x07?").await.unwrap();
    next(&mut heard).await.ack.unwrap().succeed();
    let (_second, mut reborn) = net.say("bob", &wires::hello(2, 1, "eve")).await;
    assert_eq!(wires::answer(&mut reborn).await.unwrap()[0], 0);
    peer.send("hi", Policy::Wait).await.unwrap();
    let mut message = [0; 10];
    soon(reborn.read_exact(&mut message)).await.unwrap();
    assert_eq!(message, *b"\x01\0\0\0\0\0\0\x02hi");
    assert_eq!(soon(stuck).await, Err(SendError::Lost));
    soon(first.closed()).await.ok();
}

/// spec.md §16.4.4: whoever waits for an ack learns that the session is gone, though there is
/// another.
#[tokio::test(start_paused = true)]
async fn a_message_that_went_with_a_replaced_session_is_lost_with_it() {
    let net = Net::default();
    let bob = net.store("bob").await;
    let (first, stream) = net.peer("bob", "eve", 1).await;
    let peer = bob.peer(&id("eve"));
    let asking = tokio::spawn(async move { peer.send_with_ack("?", secs(3_600)).await });
    pause(ms(10)).await;
    let _second = net.peer("bob", "eve", 2).await;
    pause(ms(10)).await;
    assert!(!asking.is_finished(), "it may still be answered");
    drop(stream);
    assert_eq!(soon(asking).await.unwrap(), Err(SendError::Lost));
    soon(first.closed()).await.ok();
    assert_eq!(bob.len(), 1);
}

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

#[tokio::test(start_paused = true)]
async fn whoever_asks_for_no_ack_is_sent_to_all_the_same() {
    let net = Net::default();
    let (ann, bob) = (net.store("ann").await, net.store("bob").await);
    let mut heard = bob.subscribe(|_| true, 16, Overflow::Wait);
    ann.connect(&at("bob")).await.unwrap();
    let report = ann.send_with_ack(&[id("nobody"), id("bob")], "all", 0, secs(1)).await;
    assert_eq!(report.failed, [(id("nobody"), SendError::Disconnected)]);
    assert_eq!((report.succeeded.len(), report.pending), (0, 1));
    assert_eq!(next(&mut heard).await.body, "all");
    // However long someone would wait.
    let peer = ann.peer(&id("bob"));
    let asking =
        tokio::spawn(async move { peer.send_with_ack("?", std::time::Duration::MAX).await });
    next(&mut heard).await.ack.unwrap().succeed();
    assert_eq!(soon(asking).await.unwrap(), Ok(()));
}

/// spec.md §16.2.3: the application may say that a new identity is well.
#[tokio::test(start_paused = true)]
async fn a_new_identity_is_taken_if_the_application_says_so() {
    struct Lenient;
    impl Verify for Lenient {
        fn verify(&self, claim: &Claim) -> Result<Bytes, String> {
            Ok(claim.token.clone())
        }
        fn identity_changed(&self, _: &Claim, _: &Bytes, now: &Bytes) -> Result<(), String> {
            if now == "new" { Ok(()) } else { Err("unknown".to_owned()) }
        }
    }
    let net = Net::default();
    let bob = net.builder("bob").verify(Lenient).build();
    bob.listen(&at("bob")).await.unwrap();
    let mut events = bob.events();
    for (token, accepted) in [("old", true), ("new", true), ("odd", false), ("new", true)] {
        let ann = net.configured(&format!("ann{}", ""), |config| config.token(token.into())).await;
        assert_eq!(ann.connect(&at("bob")).await.is_ok(), accepted, "{token}");
        ann.shutdown().await;
        until(|| bob.is_empty()).await;
        if accepted {
            assert!(matches!(
                events.try_next(),
                Some(PeerEvent::Connected(_))
                    | Some(PeerEvent::IdentityChanged { accepted: true, .. })
            ));
        }
        let changes = drain(&mut events);
        let refused = changes.iter().any(|event| matches!(event, PeerEvent::IdentityChanged { accepted: false, before, now, .. } if before == "new" && now == "odd"));
        assert_eq!(refused, !accepted, "{token}");
    }
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
        futures::StreamExt::next(&mut self).now_or_never()
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
    let heard = tokio::spawn(async move { futures::StreamExt::next(&mut heard).await.is_none() });
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
    assert!(soon(session.closed()).await.is_ok() || session.is_closed());
    drop(stream);
}

/// A shutdown that comes while a handshake is being judged.
#[tokio::test(start_paused = true)]
async fn a_session_that_is_ready_after_the_shutdown_is_none() {
    let net = Net::default();
    let cat = net.store("cat").await;
    let store: Arc<std::sync::OnceLock<PeerStore>> = Arc::default();
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

/// spec.md §16.1.1: an address belongs to whoever was found there last.
#[tokio::test(start_paused = true)]
async fn a_peer_at_the_address_of_another_is_not_dialled_twice() {
    let net = Net::default();
    let ann = net.store("ann").await;
    for name in ["bob", "cat", "dan", "eve"] {
        let store = net.builder(name).build();
        store.listen(&at("place")).await.unwrap();
        let dials = net.dials();
        for _ in 0..3 {
            assert_eq!(ann.connect(&at("place")).await.unwrap().id(), &id(name));
        }
        assert_eq!(net.dials(), dials + 1);
        store.shutdown().await;
        until(|| ann.is_empty()).await;
    }
}

/// One more session beside another takes no place.
#[tokio::test(start_paused = true)]
async fn a_further_session_replaces_none() {
    let net = Net::default();
    let bob = net.configured("bob", |config| config.sessions_per_peer(2)).await;
    let mut events = bob.events();
    let mut sessions = Vec::new();
    for dial in 1..=3 {
        sessions.push(net.peer("bob", "ann", dial).await);
    }
    pause(secs(1)).await;
    assert!(matches!(drain(&mut events)[..], [PeerEvent::Connected(_), PeerEvent::Replaced(_)]));
    assert_eq!(bob.stats().sessions, 2);
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

/// In the order in which things happen, whatever the threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn events_come_in_order() {
    let net = Net::default();
    let bob = net.store("bob").await;
    let mut events = bob.events();
    let names = ["a", "b", "c", "d"];
    let rounds = join_all(names.map(|name| {
        let net = net.clone();
        tokio::spawn(async move {
            for dial in 1..30 {
                let (session, stream) = net.peer("bob", name, dial).await;
                drop(stream);
                session.abort(GoAwayCode::NORMAL);
                session.closed().await.ok();
            }
        })
    }));
    rounds.await;
    until(|| bob.is_empty()).await;
    let seen = drain(&mut events);
    for name in names {
        let mut there = false;
        for event in &seen {
            let (who, now) = match event {
                PeerEvent::Connected(info) => (&info.id, true),
                PeerEvent::Replaced(info) => {
                    assert!(there || info.id != id(name), "replaced what was not there");
                    continue;
                }
                PeerEvent::Disconnected(id) | PeerEvent::PresumedDead { id, .. } => (id, false),
                _ => panic!("{event:?}"),
            };
            if *who == id(name) {
                assert_ne!(there, now, "{name}: {event:?}");
                there = now;
            }
        }
        assert!(!there, "{name}");
    }
}

/// The code of a user may panic: nothing stays behind that nobody serves.
#[tokio::test(start_paused = true)]
async fn a_panic_in_a_filter_ends_that_session_and_one_in_verify_that_handshake() {
    let net = Net::default();
    let verify = |claim: &Claim| match claim.id.as_bytes() {
        b"odd" => panic!("on purpose"),
        _ => Ok(Bytes::new()),
    };
    let bob = net.builder("bob").verify(verify).build();
    bob.listen(&at("bob")).await.unwrap();
    let counted = Arc::new(AtomicUsize::new(0));
    let counting = counted.clone();
    let _heard = bob.subscribe(
        move |message| {
            counting.fetch_add(1, Ordering::SeqCst);
            assert_ne!(message.body, "boom", "on purpose");
            true
        },
        16,
        Overflow::DropOldest,
    );
    let (ann, cat) = (net.store("ann").await, net.store("cat").await);
    let calm = cat.connect(&at("bob")).await.unwrap();
    let peer = ann.connect(&at("bob")).await.unwrap();
    let back = bob.peer(&id("ann"));
    until(|| bob.len() == 2).await;
    peer.send("boom", Policy::Wait).await.ok();
    until(|| bob.len() == 1).await;
    assert!(back.session().is_none());
    until(|| ann.is_empty()).await;
    calm.send("fine", Policy::Wait).await.unwrap();
    until(|| counted.load(Ordering::SeqCst) == 2).await;
    let odd = net.session("bob").await;
    let mut stream = odd.open().await.unwrap();
    stream.write_all(&wires::hello(1, 1, "odd")).await.unwrap();
    assert!(soon(stream.read(&mut [0])).await.is_err());
    until(|| bob.stats().handshakes == 0).await;
    assert!(soon(odd.closed()).await.is_err());
}
