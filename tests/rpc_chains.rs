//! What a status and the errors behind it say: each says its own, and nothing is said twice.
#![allow(clippy::unwrap_used)]

#[path = "support/calls.rs"]
mod calls;
mod support;

use std::{error::Error, iter};

use bytes::Bytes;
use calls::{World, echo, say};
use tower::{ServiceBuilder, limit::ConcurrencyLimitLayer, load_shed};
use trunkline::{
    GoAwayCode, SessionError,
    exchange::ExchangeError,
    rpc::{Client, ClientBuilder, Code, Fixed, Node, Status},
};

/// The words of an error, and of all that is behind it.
fn chain(error: &Status) -> Vec<String> {
    let error: &(dyn Error + 'static) = error;
    let chain: Vec<_> =
        iter::successors(Some(error), |&error| error.source()).map(ToString::to_string).collect();
    for (n, words) in chain.iter().enumerate() {
        let before = &chain[..n];
        assert!(before.iter().all(|said| !said.contains(words.as_str())), "twice: {chain:?}");
    }
    chain
}

#[test]
fn a_lost_session_is_told_once() {
    let mut world = World::new(1);
    let (near, far) = world.pair();
    let client = Client::new(near.clone(), &world.runtime);
    let caller = client.clone();
    let waiting = world.sim.spawn(async move { say(&caller, "x").await.unwrap_err() });
    world.sim.settle();
    far.abort(GoAwayCode::INTERNAL_ERROR);
    world.sim.settle();
    let lost = waiting.take().unwrap();
    let end = SessionError::RemoteGoAway(GoAwayCode::INTERNAL_ERROR);
    assert_eq!(chain(&lost), ["network error: the session ended".to_owned(), end.to_string()]);
    let inner = lost.inner().and_then(|inner| inner.downcast_ref::<ExchangeError>());
    assert_eq!(inner, Some(&ExchangeError::Session(end)));
    // And a call that comes later.
    let late = world.sim.run(async move { say(&client, "x").await.unwrap_err() });
    assert_eq!(late.to_string(), "network error: no stream could be opened");
    assert_eq!(chain(&late)[1..], ["the session ended".to_owned(), end.to_string()]);
}

#[test]
fn an_error_of_middleware_is_told_once() {
    let mut world = World::new(2);
    let (client, _) = world.serve(echo(&world.runtime));
    let shedding = ServiceBuilder::new()
        .layer(load_shed::LoadShedLayer::new())
        .layer(ConcurrencyLimitLayer::new(1));
    let client = client.layer(&shedding);
    let slow = client.clone();
    world.sim.spawn(async move { slow.call::<_, Bytes>("Echo.Never", &Bytes::new()).await });
    world.sim.settle();
    let failed = world
        .sim
        .run(async move { client.call::<_, Bytes>("Echo.Say", &Bytes::new()).await.unwrap_err() });
    assert_eq!(chain(&failed), ["declined: service overloaded"]);
    assert!(failed.inner().is_some_and(|inner| inner.is::<load_shed::error::Overloaded>()));
}

#[test]
fn a_cause_with_words_of_its_own_stays_a_cause() {
    let mut world = World::new(3);
    let refuse = |_: &Node| std::future::ready(Err::<trunkline::Session, _>("refused"));
    let client = ClientBuilder::new(&world.runtime, refuse).resolve(Fixed::new(["a"])).build();
    let failed = world.sim.run(async move { say(&client, "x").await.unwrap_err() });
    assert_eq!(chain(&failed), ["unavailable: a cannot be reached", "refused"]);
    let given = Status::new(Code::Conflict, "twice").with_source("once already");
    assert_eq!(chain(&given), ["conflict: twice", "once already"]);
    assert_eq!(given.inner().unwrap().to_string(), "once already");
}
