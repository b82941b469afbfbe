//! Messages between peers: their order, the queues they fill, who hears them, and their acks.
#![allow(clippy::unwrap_used)]

#[path = "support/peers.rs"]
mod peers;

use bytes::Bytes;
use futures::{AsyncWriteExt, FutureExt, StreamExt, future::join_all};
use peers::{id, ms, next, pause, say, secs, soon, store, two, until};
use trunkline::{
    peers::{Message, Overflow, Peer, Policy, Queue, SendError},
    transport::Transports,
};

/// spec.md §16.4: in order, per peer.
#[tokio::test(start_paused = true)]
async fn a_thousand_messages_arrive_in_order() {
    let network = Transports::default();
    let (ann, bob) = two(&network).await;
    let mut heard = bob.subscribe(|_| true, 16, Overflow::Wait);
    let peer = ann.connect("memory://bob").await.unwrap();
    let sent = tokio::spawn(async move {
        for number in 0..1_000_u32 {
            peer.send(number.to_be_bytes().to_vec(), Policy::Wait).await.unwrap();
        }
    });
    for number in 0..1_000_u32 {
        let message = next(&mut heard).await;
        assert_eq!((message.from, &message.body[..]), (id("ann"), &number.to_be_bytes()[..]));
    }
    sent.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_drops_or_makes_wait() {
    let network = Transports::default();
    let (ann, bob) = two(&network).await;
    // Nobody reads: the window and then the queue fill.
    let stuck = bob.subscribe(|_| true, 1, Overflow::Wait);
    let peer = ann.connect("memory://bob").await.unwrap();
    let body = Bytes::from(vec![0; 256 << 10]);
    let mut fates: Vec<_> = (0..40).map(|_| peer.send(body.clone(), Policy::Drop)).collect();
    pause(ms(100)).await;
    fates.extend((0..40).map(|_| peer.send(body.clone(), Policy::Drop)));
    let dropped = fates
        .iter_mut()
        .filter_map(|fate| fate.now_or_never())
        .filter(|fate| *fate == Err(SendError::Full))
        .count();
    assert!(dropped >= 20, "{dropped}");
    assert_eq!(ann.stats().dropped, dropped as u64);
    // A place comes free for those who wait, when someone reads.
    let mut waiting = peer.send("patient", Policy::Wait);
    assert_eq!((&mut waiting).now_or_never(), None);
    let mut stuck = stuck;
    let reading = tokio::spawn(async move {
        while let Some(message) = stuck.next().await {
            if message.body == "patient" {
                return;
            }
        }
    });
    soon(waiting).await.unwrap();
    soon(reading).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn two_full_peers_do_not_wait_for_each_other() {
    let network = Transports::default();
    let (ann, bob) = two(&network).await;
    let (mut to_ann, mut to_bob) =
        (ann.subscribe(|_| true, 1, Overflow::Wait), bob.subscribe(|_| true, 1, Overflow::Wait));
    let there = ann.connect("memory://bob").await.unwrap();
    until(|| bob.len() == 1).await;
    let back = bob.peer(&id("ann"));
    let body = Bytes::from(vec![0; 64 << 10]);
    let send = |peer: Peer| {
        let body = body.clone();
        tokio::spawn(async move {
            for _ in 0..200 {
                peer.send(body.clone(), Policy::Wait).await.unwrap();
            }
        })
    };
    let (one, other) = (send(there), send(back));
    let read = async {
        for _ in 0..200 {
            next(&mut to_ann).await;
            next(&mut to_bob).await;
        }
    };
    soon(read).await;
    one.await.unwrap();
    other.await.unwrap();
}

/// spec.md §16.4: a handler stuck on one peer does not delay another.
#[tokio::test(start_paused = true)]
async fn a_peer_whose_messages_nobody_takes_delays_no_other() {
    let network = Transports::default();
    let (ann, bob) = two(&network).await;
    let cat = store("cat", &network);
    let _stuck = bob.subscribe(|message| message.from == id("ann"), 1, Overflow::Wait);
    let mut heard = bob.subscribe(|message| message.from == id("cat"), 1, Overflow::Wait);
    let peer = ann.connect("memory://bob").await.unwrap();
    let fates: Vec<_> = (0..20).map(|_| peer.send("stuck", Policy::Drop)).collect();
    let peer = cat.connect("memory://bob").await.unwrap();
    for _ in 0..20 {
        peer.send("through", Policy::Wait).await.unwrap();
        assert_eq!(next(&mut heard).await.body, "through");
    }
    drop(fates);
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_is_full_loses_what_it_said_it_would() {
    let network = Transports::default();
    let (ann, bob) = two(&network).await;
    let mut oldest = bob.subscribe(|_| true, 2, Overflow::DropOldest);
    let mut newest = bob.subscribe(|_| true, 2, Overflow::DropNewest);
    let mut all = bob.subscribe(|_| true, 10, Overflow::Wait);
    let peer = ann.connect("memory://bob").await.unwrap();
    for number in 0..5_u8 {
        peer.send(vec![number], Policy::Wait).await.unwrap();
        assert_eq!(next(&mut all).await.body[0], number);
    }
    assert_eq!((oldest.lost(), newest.lost(), all.lost()), (3, 3, 0));
    let pair =
        |queue: &mut Queue<_>| [(); 2].map(|()| queue.try_next().map(|m: Message| m.body[0]));
    assert_eq!((pair(&mut oldest), pair(&mut newest)), ([Some(3), Some(4)], [Some(0), Some(1)]));
}

/// spec.md §16.4: every message is answered for.
#[tokio::test(start_paused = true)]
async fn every_fate_is_told_when_the_session_breaks() {
    let network = Transports::default();
    let (ann, bob) = two(&network).await;
    let _stuck = bob.subscribe(|_| true, 1, Overflow::Wait);
    let peer = ann.connect("memory://bob").await.unwrap();
    let body = Bytes::from(vec![0; 256 << 10]);
    let fates: Vec<_> = (0..20).map(|_| peer.send(body.clone(), Policy::Drop)).collect();
    let asking = peer.clone();
    let acked = async move { asking.send_with_ack("?", secs(3_600)).await };
    let (waiting, acked) = (tokio::spawn(peer.send(body, Policy::Wait)), tokio::spawn(acked));
    pause(ms(50)).await;
    peer.session().unwrap().abort(trunkline::GoAwayCode::INTERNAL_ERROR);
    let fates = soon(join_all(fates)).await;
    assert!(
        fates.iter().any(|fate| matches!(fate, Err(SendError::Lost | SendError::Disconnected)))
    );
    assert!(soon(waiting).await.unwrap().is_err());
    assert!(soon(acked).await.unwrap().is_err());
    assert_eq!(peer.send("late", Policy::Wait).await, Err(SendError::Disconnected));
    assert_eq!(ann.stats().queues, 0);
}

#[tokio::test(start_paused = true)]
async fn acks_say_what_became_of_a_message() {
    let network = Transports::default();
    let (ann, bob) = two(&network).await;
    let mut heard = bob.subscribe(|message| message.body != "unheard", 16, Overflow::Wait);
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Some(message) = heard.next().await {
            match (&message.body[..], message.ack) {
                (b"good", Some(ack)) => ack.succeed(),
                (b"bad", Some(ack)) => ack.fail("no"),
                (b"slow", Some(ack)) => kept.push(ack),
                _ => {}
            }
        }
    });
    let peer = ann.connect("memory://bob").await.unwrap();
    let ask = |body: &'static str| peer.send_with_ack(body, ms(500));
    let failed = |why: &str| Err(SendError::Failed(why.to_owned()));
    assert_eq!(ask("good").await, Ok(()));
    assert_eq!(ask("bad").await, failed("no"));
    assert_eq!(ask("dropped").await, failed("nobody answered"));
    assert_eq!(ask("unheard").await, failed("nobody answered"));
    assert_eq!(ask("slow").await, Err(SendError::TimedOut));
}

#[tokio::test(start_paused = true)]
async fn enough_acks_of_many_make_a_report() {
    let network = Transports::default();
    let ann = store("ann", &network);
    let mut stores = Vec::new();
    for name in ["b", "c", "d", "e"] {
        let peer = store(name, &network);
        peer.listen(&format!("memory://{name}")).await.unwrap();
        let mut heard = peer.subscribe(|_| true, 16, Overflow::Wait);
        let name = name.to_owned();
        tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Some(message) = heard.next().await {
                match (&*name, message.ack) {
                    ("b" | "c", Some(ack)) => ack.succeed(),
                    ("d", Some(ack)) => ack.fail("no"),
                    (_, ack) => kept.push(ack),
                }
            }
        });
        ann.connect(&format!("memory://{}", peer.id())).await.unwrap();
        stores.push(peer);
    }
    let all = ["b", "c", "d", "e", "nobody"].map(id);
    let report = ann.send_with_ack(&all, "hi", 2, ms(500)).await;
    assert_eq!(report.succeeded.len(), 2);
    let report = ann.send_with_ack(&all, "hi", 5, ms(500)).await;
    let failed: Vec<_> =
        report.failed.iter().map(|(id, error)| (id.to_string(), error.clone())).collect();
    assert_eq!((report.succeeded.len(), report.pending), (2, 0));
    assert!(failed.contains(&("d".to_owned(), SendError::Failed("no".to_owned()))), "{failed:?}");
    assert!(failed.contains(&("e".to_owned(), SendError::TimedOut)), "{failed:?}");
    assert!(failed.contains(&("nobody".to_owned(), SendError::Disconnected)), "{failed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_sends_junk_loses_its_session_and_no_other() {
    let network = Transports::default();
    let (ann, bob) = two(&network).await;
    ann.connect("memory://bob").await.unwrap();
    // A peer by hand: a good handshake, and then no message.
    let hello = b"TK\x04\0\0\x14\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01\x03eve";
    let (session, mut stream) = say(&network, "bob", hello).await;
    until(|| bob.len() == 2).await;
    stream.write_all(&[9; 16]).await.unwrap();
    until(|| bob.len() == 1).await;
    assert_eq!(ann.len(), 1);
    assert!(soon(session.closed()).await.is_err());
}
