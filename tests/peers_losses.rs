//! Sessions that one side only knows to be lost, that overtake each other, and what becomes of the
//! messages and acks on them.
#![allow(clippy::unwrap_used)]

#[path = "support/wires.rs"]
mod wires;

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures::{AsyncReadExt, AsyncWriteExt, FutureExt, future::join_all};
use trunkline::{
    GoAwayCode,
    peers::{Claim, Message, Overflow, PeerEvent, PeerStore, Policy, Queue, SendError, Verify},
    runtime::{BoxFuture, Runtime},
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

/// The code of a user may panic: whoever did not write it does not suffer.
#[tokio::test(start_paused = true)]
async fn a_filter_that_panics_at_a_message_does_not_get_that_message() {
    let net = Net::default();
    let (ann, bob) = (net.store("ann").await, net.store("bob").await);
    let fearful = |message: &Message| {
        assert_ne!(message.body, "boom", "on purpose");
        true
    };
    let mut fearful = bob.subscribe(fearful, 16, Overflow::Wait);
    let mut calm = bob.subscribe(|_| true, 16, Overflow::Wait);
    let peer = ann.connect(&at("bob")).await.unwrap();
    let session = peer.session().unwrap();
    for body in ["before", "boom", "after"] {
        peer.send(body, Policy::Wait).await.unwrap();
        assert_eq!(next(&mut calm).await.body, body);
        if body != "boom" {
            assert_eq!(next(&mut fearful).await.body, body);
        }
    }
    assert!(!session.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_peer_at_which_verify_panics_is_refused() {
    let net = Net::default();
    let judged = AtomicUsize::new(0);
    let verify = move |claim: &Claim| match claim.id.as_bytes() {
        b"odd" => panic!("on purpose"),
        // Whom we dialled, only the third time.
        b"cat" if judged.fetch_add(1, Ordering::SeqCst) < 2 => panic!("on purpose"),
        _ => Ok(Bytes::new()),
    };
    let bob = net.builder("bob").verify(verify).build();
    bob.listen(&at("bob")).await.unwrap();
    let (_session, mut stream) = net.say("bob", &wires::hello(1, 1, "odd")).await;
    assert_eq!(soon(wires::answer(&mut stream)).await.unwrap()[0], 1, "not verified");
    until(|| bob.stats().handshakes == 0).await;
    let _cat = net.store("cat").await;
    bob.keep(&at("cat")).unwrap();
    until(|| bob.len() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_where_a_session_is_served_ends_that_session_and_no_task() {
    let net = Net::default();
    let panics = Arc::new(AtomicUsize::new(0));
    let counting = panics.clone();
    let runtime = Runtime::new(move |task: BoxFuture| {
        let counting = counting.clone();
        tokio::spawn(AssertUnwindSafe(task).catch_unwind().map(move |done| {
            counting.fetch_add(usize::from(done.is_err()), Ordering::SeqCst);
        }));
    });
    let runtime = runtime.timer(trunkline::tokio::runtime().clock().clone());
    let bob = PeerStore::builder(id("bob"), runtime, net.of("bob"))
        .serve(|peer, _, _| assert_ne!(*peer.id(), id("odd"), "on purpose"))
        .build();
    bob.listen(&at("bob")).await.unwrap();
    let (odd, ann) = (net.store("odd").await, net.store("ann").await);
    ann.connect(&at("bob")).await.unwrap();
    odd.connect(&at("bob")).await.ok();
    until(|| odd.is_empty()).await;
    assert_eq!((bob.len(), panics.load(Ordering::SeqCst)), (1, 0));
}
