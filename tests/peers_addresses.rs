//! Addresses that cannot work, and peers that are not reached: whoever is told, is told why.
#![allow(clippy::unwrap_used)]

#[path = "support/wires.rs"]
mod wires;

use std::{error::Error, io, sync::Arc};

use futures::FutureExt;
use trunkline::{
    peers::{ConnectError, PeerEvent, Queue, RefusalCode},
    transport::{Transports, memory::Memory},
};
use wires::{Net, address, at, gates::Over, id, next, pause, secs, store, until};

fn failed(event: PeerEvent) -> ConnectError {
    match event {
        PeerEvent::DialFailed { error, .. } => error,
        other => panic!("{other:?}"),
    }
}

fn drain(events: &mut Queue<PeerEvent>) -> Vec<PeerEvent> {
    std::iter::from_fn(|| events.try_next()).collect()
}

/// Whatever is to be done at an address that its transport does not understand.
#[tokio::test(start_paused = true)]
async fn an_address_that_cannot_work_is_one_error() {
    let ann = store("ann", &Transports::default());
    for wrong in ["bob", "pigeon://bob", "tcp://no-port", "tcp://host:port"] {
        let answers = [
            ann.keep(wrong),
            ann.listen(wrong).await.map(drop),
            ann.connect(wrong).await.map(drop),
        ];
        for answer in answers {
            assert!(matches!(answer, Err(ConnectError::Address(_))), "{wrong}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn an_address_that_is_taken_says_so() {
    let network = Transports::default();
    let (ann, bob) = (store("ann", &network), store("bob", &network));
    let taken = ann.listen("tcp://127.0.0.1:0").await.unwrap().unwrap().to_string();
    let error = bob.listen(&taken).await.unwrap_err();
    assert_eq!(error.to_string(), "the address could not be listened on");
    let cause = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
    assert_eq!(cause.kind(), io::ErrorKind::AddrInUse);
    assert!(cause.raw_os_error().is_some(), "{cause:?}");
}

/// A network whose only host has no address.
fn nowhere() -> Transports {
    let unknown =
        |_: &_, _: &_| async { Err(io::Error::other("no host of this name is known")) }.boxed();
    Transports::none().with("memory", Over::new(Arc::new(Memory::default()), unknown))
}

#[tokio::test(start_paused = true)]
async fn a_dial_that_fails_tells_the_cause() {
    let ann = store("ann", &nowhere());
    let error = ann.connect(&at("bob")).await.unwrap_err();
    assert_eq!(error.source().unwrap().to_string(), "no host of this name is known");
    assert_eq!(error, ann.connect(&at("bob")).await.unwrap_err());
    assert!(ann.events().try_next().is_none(), "whoever dialled knows");
}

/// spec.md §16.5.1: each attempt, no more often than there are any.
#[tokio::test(start_paused = true)]
async fn a_kept_peer_that_is_not_reached_is_an_event() {
    let ann = store("ann", &nowhere());
    let mut events = ann.events();
    ann.keep(&at("bob")).unwrap();
    let event = next(&mut events).await;
    let PeerEvent::DialFailed { address: dialled, error } = event else { panic!("{event:?}") };
    assert_eq!(dialled, address("bob"));
    assert_eq!(error.source().unwrap().to_string(), "no host of this name is known");
    pause(secs(60)).await;
    let told = drain(&mut events).len();
    assert!((10..40).contains(&told), "{told}");
}

/// The same where a peer was there.
#[tokio::test(start_paused = true)]
async fn a_lost_peer_that_is_not_reached_is_an_event() {
    let net = Net::default();
    let (ann, bob) = (net.store("ann").await, net.store("bob").await);
    ann.keep(&at("bob")).unwrap();
    until(|| ann.len() == 1).await;
    let mut events = ann.events();
    bob.shutdown().await;
    assert_eq!(next(&mut events).await, PeerEvent::Disconnected(id("bob")));
    let refused = io::Error::from(io::ErrorKind::ConnectionRefused).into();
    assert_eq!(failed(next(&mut events).await), ConnectError::Dial(refused));
    let _bob = net.store("bob").await;
    let connected = async { while !matches!(next(&mut events).await, PeerEvent::Connected(_)) {} };
    wires::soon(connected).await;
    ann.shutdown().await;
    assert!(drain(&mut events).iter().all(|it| matches!(it, PeerEvent::Disconnected(_))));
}

/// spec.md §16.5.1: with the longest wait, and not given up.
#[tokio::test(start_paused = true)]
async fn what_time_does_not_mend_is_dialled_seldom() {
    let net = Net::default();
    let ann = net.store("ann").await;
    let suspicious = net.builder("bob").verify(|_: &_| Err("who are you?".to_owned())).build();
    suspicious.listen(&at("bob")).await.unwrap();
    for name in ["ann", "bob"] {
        let (dials, mut events) = (net.dials(), ann.events());
        ann.keep(&at(name)).unwrap();
        let expected = |error: &ConnectError| match error {
            ConnectError::Refused { code: RefusalCode::SameId, .. } => name == "ann",
            ConnectError::Refused { code: RefusalCode::NotVerified, .. } => name == "bob",
            _ => false,
        };
        let error = failed(next(&mut events).await);
        assert!(expected(&error), "{error:?}");
        pause(secs(51)).await;
        let dials = net.dials() - dials;
        // Those of the one before go on.
        let most = if name == "ann" { 11 } else { 22 };
        assert!((10..=most).contains(&dials), "{name}: {dials}");
    }
    suspicious.shutdown().await;
    let bob = net.store("bob").await;
    until(|| bob.len() == 1).await;
}
