//! Where a service is: who is asked, what is remembered, and who is reached instead.
#![allow(clippy::unwrap_used)]

#[path = "support/calls.rs"]
mod calls;
#[path = "support/net.rs"]
mod net;
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use calls::{World, say};
use futures::{FutureExt, future::BoxFuture};
use net::{Ask, places, world};
use parking_lot::Mutex;
use trunkline::rpc::{
    BoxError, Cached, Code, Fixed, Node, Resolve, Retryable, Router, Server, Status,
};

#[test]
fn resolving_takes_no_longer_than_the_deadline() {
    // spec.md §15.6.4
    struct Never;
    impl Resolve for Never {
        fn resolve(&self, _: &str) -> BoxFuture<'_, Result<Arc<[Node]>, BoxError>> {
            std::future::pending().boxed()
        }
    }
    let (mut world, net) = world(27, &[]);
    let client = net.client().resolve(Never).build().timeout(Some(Duration::from_secs(2)));
    let start = world.sim.now();
    let failed = world.sim.run_for(Duration::from_secs(9), async move { say(&client, "x").await });
    assert_eq!(failed.unwrap_err().code(), Code::Timeout);
    assert_eq!((world.sim.now() - start).as_secs(), 2);
}

#[test]
fn a_cache_remembers_so_many_services_and_no_more() {
    // spec.md §15.9
    let mut world = World::new(28);
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let resolve = Ask(move |_: &str| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(vec!["a"])
    });
    let cached = Arc::new(Cached::new(resolve, Duration::from_secs(60), &world.runtime));
    let ask = |world: &mut World, services: std::ops::Range<usize>| {
        let (before, cached) = (asked.load(Ordering::SeqCst), cached.clone());
        world.sim.run(async move {
            for service in services {
                cached.resolve(&service.to_string()).await.unwrap();
            }
        });
        asked.load(Ordering::SeqCst) - before
    };
    assert_eq!(ask(&mut world, 0..1_025), 1_025);
    assert_eq!(ask(&mut world, 0..1_024), 0);
    assert_eq!(ask(&mut world, 1_024..1_026), 2);
    assert_eq!(ask(&mut world, 1_024..1_026), 2);
    // Those that are forgotten anyway make room.
    world.sim.advance(Duration::from_secs(61));
    assert_eq!(ask(&mut world, 1_024..1_026), 2);
    assert_eq!(ask(&mut world, 1_024..1_026), 0);
}

#[test]
fn what_was_resolved_is_remembered_for_a_while() {
    let (mut world, net) = world(11, &["a"]);
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let resolve = Ask(move |_: &str| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(vec!["a"])
    });
    let cached = Cached::new(resolve, Duration::from_secs(60), &world.runtime);
    let client = net.client().resolve(cached).build();
    for (expected, wait) in [(1, 30), (1, 31), (2, 0)] {
        let calls = client.clone();
        world.sim.run(async move { say(&calls, "x").await }).unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), expected);
        world.sim.advance(Duration::from_secs(wait));
    }
}

#[test]
fn times_beyond_the_clock_mean_forever() {
    let (mut world, net) = world(22, &["a"]);
    let cached = Cached::new(Fixed::new(["a", "b"]), Duration::MAX, &world.runtime);
    let client = net.client().resolve(cached).cool_down(Duration::MAX).dial_timeout(Duration::MAX);
    let client = client.build().timeout(Some(Duration::MAX));
    let places = world.sim.run(async move { places(&client, 6).await });
    assert_eq!((places.as_str(), net.dials()), ("aaaaaa", 2));
}

#[test]
fn no_node_is_unavailable_and_says_who_left_none() {
    // spec.md §15.7.1
    let (mut world, net) = world(8, &["a", "b"]);
    let none = net.client().build();
    let some = net.client().resolve(Fixed::new(["a", "b"])).build();
    let (bound, picky) = (none.clone().service("greeter"), some.clone().service("greeter"));
    let failed = world.sim.run(async move {
        let mut failed = Vec::new();
        for client in [none, bound] {
            let call = client.request("A.Where");
            failed.push(call.call::<_, Bytes>(&Bytes::new()).await.unwrap_err());
        }
        for client in [some, picky] {
            let call = client.request("A.Where").filter(|_: &Node| false);
            failed.push(call.call::<_, Bytes>(&Bytes::new()).await.unwrap_err());
        }
        failed
    });
    let expected = [
        "no node: the resolver lists none",
        "no node of service greeter: the resolver lists none",
        "no node: the filter left none of 2",
        "no node of service greeter: the filter left none of 2",
    ];
    for (failed, expected) in failed.iter().zip(expected) {
        assert_eq!((failed.code(), failed.retryable()), (Code::Unavailable, Retryable::Always));
        assert_eq!((failed.message(), failed.is_remote()), (expected, false));
    }
    assert_eq!(net.dials(), 0);
}

#[test]
fn a_resolver_that_fails_is_unavailable_and_says_why() {
    let (mut world, net) = world(9, &[]);
    let client = net.client().resolve(Ask(|_: &str| Err("registry down".into()))).build();
    let failed = world.sim.run(async move { say(&client, "x").await.unwrap_err() });
    assert_eq!(failed.code(), Code::Unavailable);
    let cause = std::error::Error::source(&failed).unwrap().to_string();
    assert_eq!((cause.as_str(), net.dials()), ("registry down", 0));
}

#[test]
fn the_last_node_may_go_between_attempts() {
    let (mut world, net) = world(10, &[]);
    let asked = AtomicUsize::new(0);
    let client = net.client().resolve(Ask(move |_: &str| {
        Ok(if asked.fetch_add(1, Ordering::SeqCst) == 0 { vec!["down"] } else { vec![] })
    }));
    let client = client.build();
    let failed = world.sim.run(async move { say(&client, "x").await.unwrap_err() });
    assert_eq!(failed.code(), Code::Unavailable);
    assert_eq!((failed.message(), net.dials()), ("no node: the resolver lists none", 1));
}

#[test]
fn calls_go_through_a_proxy_and_keep_their_target() {
    let (mut world, net) = world(12, &["proxy"]);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let heard = seen.clone();
    let mut router = Router::bytes();
    router.fallback(move |request| {
        heard.lock().push(request.service.to_string());
        async { Err(Status::new(Code::Declined, "seen")) }
    });
    let proxy = Server::new(router, &world.runtime);
    net.serve("proxy", proxy);
    let by_address = net.client().via_address("proxy").build().service("target");
    let by_service = net.client().resolve(Ask(|service: &str| match service {
        "gateway" => Ok(vec!["proxy"]),
        _ => Ok(vec![]),
    }));
    let by_service = by_service.via_service("gateway").build().service("other");
    world.sim.run(async move {
        for client in [by_address, by_service] {
            assert_eq!(say(&client, "x").await.unwrap_err().code(), Code::Declined);
        }
    });
    assert_eq!(*seen.lock(), ["target", "other"]);
}
