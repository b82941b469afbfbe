//! Calls that are made again: when, how often, and until when.
#![allow(clippy::unwrap_used)]

#[path = "support/calls.rs"]
mod calls;
#[path = "support/net.rs"]
mod net;
mod support;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use calls::say;
use net::world;
use parking_lot::Mutex;
use trunkline::rpc::{Attempt, Code, Fixed};

#[test]
fn what_may_have_run_is_repeated_only_if_idempotent() {
    // spec.md §15.7
    let (mut world, net) = world(13, &["a"]);
    let client = net.client().resolve(Fixed::new(["a"])).build();
    world.sim.run_for(Duration::from_secs(20), async move {
        let once = client.request("A.Busy").retries(9);
        // A policy does not override that.
        let once = once.retry_policy(|_: &Attempt<'_>| true);
        let failed = once.call::<_, Bytes>(&Bytes::from("3")).await.unwrap_err();
        assert_eq!((failed.code(), failed.message()), (Code::Busy, "attempt 0"));
        let call = client.request("A.Busy").idempotent().retries(9);
        assert_eq!(call.call::<_, Bytes>(&Bytes::from("3")).await.unwrap(), "3");
        // The last error is the one that is told.
        let call = client.request("A.Busy").idempotent().retries(2);
        let failed = call.call::<_, Bytes>(&Bytes::from("99")).await.unwrap_err();
        assert_eq!(failed.message(), "attempt 6");
    });
}

#[test]
fn policies_see_attempts_in_order_and_waits_come_before_each() {
    let (mut world, net) = world(14, &["a"]);
    let client = net.client().resolve(Fixed::new(["a"])).build();
    let events = Arc::new(Mutex::new(Vec::new()));
    let (waits, asks) = (events.clone(), events.clone());
    let start = world.sim.now();
    let client = client
        .wait_before_attempts(move |attempt: &Attempt<'_>| {
            let error = attempt.error.map(|error| error.message().to_owned());
            waits.lock().push(format!("wait {} {}", attempt.made, error.unwrap_or_default()));
            Duration::from_secs(u64::from(attempt.made) + 1)
        })
        .retry_policy(move |attempt: &Attempt<'_>| {
            asks.lock().push(format!("ask {}", attempt.made));
            assert_eq!(attempt.request.method, "A.Busy");
            attempt.made < 3
        })
        .retries(100);
    let failed = world.sim.run_for(Duration::from_secs(20), async move {
        let call = client.request("A.Busy").idempotent();
        call.call::<_, Bytes>(&Bytes::from("99")).await.unwrap_err()
    });
    assert_eq!(failed.message(), "attempt 2");
    let expected = ["wait 0 ", "ask 1", "wait 1 attempt 0", "ask 2", "wait 2 attempt 1", "ask 3"];
    assert_eq!(*events.lock(), expected);
    assert_eq!((world.sim.now() - start).as_secs(), 1 + 2 + 3);
}

#[test]
fn the_deadline_covers_all_attempts() {
    let (mut world, net) = world(15, &["a"]);
    let client = net.client().resolve(Fixed::new(["a"])).build();
    let client = client.retries(5).wait_before_attempts(|_: &Attempt<'_>| Duration::from_secs(1));
    let start = world.sim.now();
    let failed = world.sim.run_for(Duration::from_secs(20), async move {
        let call =
            client.request("A.Busy").idempotent().timeout(Some(Duration::from_millis(3_500)));
        call.call::<_, Bytes>(&Bytes::from("99")).await.unwrap_err()
    });
    assert_eq!(failed.code(), Code::Timeout);
    assert_eq!((world.sim.now() - start).as_millis(), 3_500);
    let cause = std::error::Error::source(&failed).unwrap().to_string();
    assert!(cause.contains("attempt 2"), "{cause}");
}

#[test]
fn five_slow_attempts_fit_in_one_deadline_or_end_with_it() {
    let (mut world, net) = world(20, &["a"]);
    let client = net.client().resolve(Fixed::new(["a"])).build();
    // Each attempt takes a second, and then fails: the last of five is cut short.
    for (timeout, took, code) in [(4_500, 4_500, Code::Timeout), (5_500, 5_000, Code::Busy)] {
        let client =
            client.clone().retries(4).wait_before_attempts(|_: &Attempt<'_>| Duration::ZERO);
        let start = world.sim.now();
        let failed = world.sim.run_for(Duration::from_secs(20), async move {
            let call = client.request("A.SlowBusy").idempotent();
            let call = call.timeout(Some(Duration::from_millis(timeout)));
            call.call::<_, Bytes>(&Bytes::new()).await.unwrap_err()
        });
        let passed = (world.sim.now() - start).as_millis();
        assert_eq!(failed.code(), code);
        assert!((took..took + 10).contains(&passed), "{passed} ms");
    }
    let server = net.server("a");
    assert_eq!((server.stats().started, server.stats().active), (10, 0));
}

#[test]
fn waiting_for_an_attempt_can_be_cancelled() {
    let (mut world, net) = world(16, &["a"]);
    let client = net.client().resolve(Fixed::new(["a"])).build();
    let client = client.wait_before_attempts(|_: &Attempt<'_>| Duration::from_secs(5));
    let (task, _) = world.sim.spawn_flagged(async move { drop(say(&client, "x").await) });
    world.sim.advance(Duration::from_secs(1));
    world.sim.drop_task(task);
    world.sim.advance(Duration::from_secs(10));
    assert_eq!(net.dials(), 0);
}

#[test]
fn an_expired_deadline_dials_nobody() {
    let (mut world, net) = world(17, &["a"]);
    let client = net.client().resolve(Fixed::new(["a"])).build();
    let past = world.sim.now();
    let failed = world.sim.run(async move {
        let call = client.request("A.Where").deadline(past);
        // Nor is anybody asked whether to try again.
        let call = call.retry_policy(|_: &Attempt<'_>| -> bool { panic!("asked") });
        call.call::<_, Bytes>(&Bytes::new()).await.unwrap_err()
    });
    assert_eq!((failed.code(), net.dials()), (Code::Timeout, 0));
}
