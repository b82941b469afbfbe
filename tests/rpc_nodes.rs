//! Clients of several nodes: which one is taken, and the session with each.
#![allow(clippy::unwrap_used)]

#[path = "support/calls.rs"]
mod calls;
#[path = "support/net.rs"]
mod net;
mod support;

use std::{
    collections::HashSet,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use calls::{World, say, sleep};
use futures::{FutureExt, future::join_all};
use net::{Ask, place, places, world};
use trunkline::rpc::{
    Candidate, Client, ClientBuilder, Code, Fixed, LeastPending, Node, Random, Retryable,
    RoundRobin,
};

#[test]
fn a_hundred_callers_share_one_dial() {
    let (mut world, net) = world(1, &["a"]);
    let client = net.client().resolve(Fixed::new(["a"])).build();
    let calls = world.sim.run(async move {
        let calls = (0..100).map(|_| say(&client, "x"));
        join_all(calls).await
    });
    assert!(calls.iter().all(Result::is_ok));
    assert_eq!(net.dials(), 1);
}

#[test]
fn what_dials_and_what_filters_may_use_the_client_themselves() {
    let (mut world, net) = world(29, &["a"]);
    let (later, nested) = (Arc::new(OnceLock::<Client>::new()), Arc::new(AtomicUsize::new(0)));
    // Never awaited: it has to come so far and no farther.
    let look = {
        let (later, nested) = (later.clone(), nested.clone());
        move || {
            let client = later.get().unwrap().clone();
            assert!(say(&client, "inside").now_or_never().is_none());
            nested.fetch_add(1, Ordering::SeqCst);
        }
    };
    let (dialler, look_first) = (net.clone(), look.clone());
    let connect = move |node: &Node| {
        look_first();
        dialler.dial(&node.address)
    };
    let client = ClientBuilder::new(&world.runtime, connect).resolve(Fixed::new(["a"])).build();
    later.set(client.clone()).unwrap();
    let said = world.sim.run(async move {
        let call = client.request("Echo.Say").filter(move |_: &Node| {
            look();
            true
        });
        call.call::<_, Bytes>(&Bytes::from("x")).await
    });
    assert_eq!(said.unwrap(), "x");
    assert_eq!(nested.load(Ordering::SeqCst), 3);
    assert_eq!(net.dials(), 2);
}

#[test]
fn who_hears_late_of_a_failed_dial_does_not_undo_the_next() {
    for seed in 0..20 {
        let (mut world, net) = world(seed, &["a"]);
        let (dialler, tries) = (net.clone(), AtomicUsize::new(0));
        let connect = move |node: &Node| {
            let first = tries.fetch_add(1, Ordering::SeqCst) == 0;
            let (dial, clock) = (dialler.dial(&node.address), dialler.runtime.clone());
            async move {
                sleep(&clock, Duration::from_millis(10)).await;
                if first { Err("lost".to_owned()) } else { dial.await }
            }
        };
        let client = ClientBuilder::new(&world.runtime, connect);
        let client = client.resolve(Fixed::new(["a"])).build().retries(0);
        for again in [true, false] {
            let client = client.clone();
            world.sim.spawn(async move {
                say(&client, "x").await.unwrap_err();
                if again {
                    say(&client, "y").await.unwrap();
                }
            });
        }
        world.sim.advance(Duration::from_millis(12));
        world.sim.run(async move { say(&client, "z").await }).unwrap();
        assert_eq!(net.dials(), 2, "seed {seed}");
    }
}

#[test]
fn a_session_that_ends_as_soon_as_it_is_there_is_not_kept() {
    let (mut world, net) = world(23, &["a"]);
    let dead = Arc::new(AtomicUsize::new(0));
    let (dialler, ends) = (net.clone(), dead.clone());
    let connect = move |node: &Node| {
        let (dial, ends) = (dialler.dial(&node.address), ends.clone());
        async move {
            let session = dial.await?;
            if ends.load(Ordering::SeqCst) > 0 {
                // Takes no more calls, but is not closed either.
                session.go_away();
            }
            Ok::<_, String>(session)
        }
    };
    let client = ClientBuilder::new(&world.runtime, connect);
    let client = client.resolve(Fixed::new(["a"])).build().retries(0);
    dead.store(1, Ordering::SeqCst);
    let calls = client.clone();
    let failed = world.sim.run(async move { say(&calls, "x").await.unwrap_err() });
    assert_eq!((failed.retryable(), net.dials()), (Retryable::Always, 2));
    dead.store(0, Ordering::SeqCst);
    world.sim.run(async move { say(&client, "x").await }).unwrap();
    assert_eq!(net.dials(), 3);
}

#[test]
fn a_session_that_died_is_dialled_again() {
    let (mut world, net) = world(2, &["a"]);
    // That is no further attempt: nothing was sent.
    let client = net.client().resolve(Fixed::new(["a"])).build().retries(0);
    let calls = client.clone();
    world.sim.run(async move { say(&calls, "x").await }).unwrap();
    net.remove("a");
    net.add("a");
    world.sim.settle();
    let calls = client.clone();
    world
        .sim
        .run(async move { join_all((0..50).map(|_| say(&calls, "y"))).await })
        .into_iter()
        .for_each(|said| assert_eq!(said.unwrap(), "y"));
    assert_eq!(net.dials(), 2);
    // One that only takes no more calls, too.
    net.first_session().go_away();
    world.sim.settle();
    world.sim.run(async move { say(&client, "z").await }).unwrap();
    assert_eq!(net.dials(), 3);
}

#[test]
fn round_robin_takes_them_in_turn() {
    let (mut world, net) = world(3, &["a", "b", "c"]);
    let resolve = Fixed::new(["a", "b", "c"]);
    let client = net.client().resolve(resolve).select(RoundRobin::default()).build();
    let places = world.sim.run(async move { places(&client, 6).await });
    assert_eq!(places, "abcabc");
}

#[test]
fn random_takes_them_all_and_the_same_by_seed() {
    let places = |seed| {
        let (mut world, net) = world(4, &["a", "b", "c"]);
        let resolve = Fixed::new(["a", "b", "c"]);
        let client = net.client().resolve(resolve).select(Random::seeded(Some(seed))).build();
        world.sim.run(async move { places(&client, 60).await })
    };
    let found = places(1);
    assert!(["a", "b", "c"].iter().all(|at| found.matches(at).count() > 8), "{found}");
    assert_eq!(found, places(1));
    assert_ne!(found, places(2));
}

#[test]
fn least_pending_avoids_the_busy_one() {
    let (mut world, net) = world(5, &["a", "b"]);
    let client = net.client().resolve(Fixed::new(["a", "b"])).select(LeastPending::default());
    let client = client.build();
    for _ in 0..5 {
        let slow = client.clone();
        world.sim.spawn(async move {
            let call = slow.request("A.Slow").filter(|node| node.address == "a").timeout(None);
            drop(call.call::<_, Bytes>(&Bytes::new()).await);
        });
    }
    world.sim.advance(Duration::from_millis(20));
    let places = world.sim.run(async move { places(&client, 5).await });
    assert_eq!(places, "bbbbb");
}

#[test]
fn least_pending_counts_streams_until_they_are_let_go() {
    let (mut world, net) = world(26, &["a", "b"]);
    let client = net.client().resolve(Fixed::new(["a", "b"])).select(LeastPending::default());
    let client = client.build();
    let calls = client.clone();
    let held = world.sim.run(async move {
        let call = calls.request("A.Ones").filter(|node| node.address == "a");
        call.server_streaming::<_, Bytes>(&Bytes::new()).await.unwrap()
    });
    let calls = client.clone();
    let places = world.sim.run(async move { places(&calls, 4).await });
    assert_eq!(places, "bbbb");
    drop(held);
    let places = world.sim.run(async move {
        let mut places = HashSet::new();
        for _ in 0..4 {
            places.insert(place(&client).await.unwrap());
        }
        places
    });
    assert_eq!(places.len(), 2);
}

#[test]
fn a_failed_node_cools_down_and_returns() {
    let (mut world, net) = world(6, &["a"]);
    let client = net.client().resolve(Fixed::new(["a", "b"]));
    let client = client.cool_down(Duration::from_secs(5)).build();
    let calls = client.clone();
    let places = world.sim.run(async move { places(&calls, 10).await });
    assert_eq!(places, "aaaaaaaaaa", "what is down is passed over");
    assert_eq!(net.dialled().iter().filter(|at| *at == "b").count(), 1);
    net.add("b");
    world.sim.advance(Duration::from_secs(6));
    let places = world.sim.run(async move {
        let mut places = HashSet::new();
        for _ in 0..4 {
            places.insert(place(&client).await.unwrap());
        }
        places
    });
    assert_eq!(places.len(), 2, "and taken again");
}

#[test]
fn a_node_cools_down_when_its_connection_fails_and_not_when_it_says_so() {
    let (mut world, net) = world(24, &["a", "b"]);
    let client = net.client().resolve(Fixed::new(["a", "b"])).cool_down(Duration::from_secs(5));
    let client = client.build().retries(0);
    let places = |world: &mut World, client: &Client| {
        let client = client.clone();
        world.sim.run(async move { places(&client, 4).await })
    };
    assert_eq!(places(&mut world, &client), "abab");
    // A handler at "a" that could not reach someone else.
    let calls = client.clone();
    let failed = world.sim.run(async move {
        let call = calls.request("A.Network").filter(|node| node.address == "a");
        call.call::<_, Bytes>(&Bytes::new()).await.unwrap_err()
    });
    assert_eq!((failed.code(), failed.is_remote()), (Code::Network, true));
    let both = places(&mut world, &client);
    assert!(both == "abab" || both == "baba", "{both}");
    // Its connection breaks in the middle of a call.
    let calls = client.clone();
    let slow = world.sim.spawn(async move {
        let call = calls.request("A.Slow").filter(|node| node.address == "a");
        call.call::<_, Bytes>(&Bytes::new()).await.unwrap_err()
    });
    world.sim.settle();
    net.remove("a");
    net.add("a");
    world.sim.settle();
    assert_eq!(slow.take().unwrap().code(), Code::Network);
    assert_eq!(places(&mut world, &client), "bbbb");
    world.sim.advance(Duration::from_secs(6));
    assert!(places(&mut world, &client).contains('a'));
}

#[test]
fn a_node_cools_down_when_the_session_that_took_another_ones_place_fails() {
    let (mut world, net) = world(30, &["a", "b"]);
    let resolve = Fixed::new(["a", "b"]);
    let first = |_: &[Candidate<'_>]| 0;
    let client = net.client().resolve(resolve).select(first).build().retries(0);
    let calls = client.clone();
    assert_eq!(world.sim.run(async move { place(&calls).await }).unwrap(), "a");
    net.first_session().go_away();
    world.sim.settle();
    let calls = client.clone();
    let slow =
        world.sim.spawn(async move { calls.call::<_, Bytes>("A.Slow", &Bytes::new()).await });
    world.sim.advance(Duration::from_secs(1));
    assert_eq!(net.dials(), 2);
    net.remove("a");
    world.sim.settle();
    assert_eq!(slow.take().unwrap().unwrap_err().code(), Code::Network);
    assert_eq!(world.sim.run(async move { place(&client).await }).unwrap(), "b");
}

#[test]
fn where_all_nodes_failed_the_one_that_failed_first_is_tried() {
    let (mut world, net) = world(25, &[]);
    let client = net.client().resolve(Fixed::new(["a", "b"])).cool_down(Duration::from_secs(100));
    let client = client.select(|_: &[Candidate<'_>]| 0).build().retries(0);
    for _ in 0..5 {
        let calls = client.clone();
        world.sim.run(async move { place(&calls).await.unwrap_err() });
        world.sim.advance(Duration::from_secs(1));
    }
    assert_eq!(net.dialled().concat(), "ababa");
    // One that is reached again has not failed, though the other one is next.
    net.add("a");
    let calls = client.clone();
    world.sim.run(async move {
        let call = calls.request("A.Where").filter(|node| node.address == "a");
        call.call::<_, Bytes>(&Bytes::new()).await.unwrap()
    });
    for _ in 0..3 {
        let calls = client.clone();
        assert_eq!(world.sim.run(async move { place(&calls).await.unwrap() }), "a");
    }
    assert_eq!(net.dialled().concat(), "ababaa");
}

#[test]
fn a_black_hole_costs_the_dial_timeout_and_the_next_node_answers() {
    let (mut world, net) = world(7, &["b"]);
    net.swallow("a");
    let client = net.client().resolve(Fixed::new(["a", "b"])).build();
    let start = world.sim.now();
    let calls = client.clone();
    let place = world.sim.run_for(Duration::from_secs(9), async move {
        let call = calls.request("A.Where").dial_timeout(Duration::from_secs(2));
        call.call::<_, Bytes>(&Bytes::new()).await
    });
    assert_eq!(place.unwrap(), "b");
    assert_eq!((world.sim.now() - start).as_secs(), 2);
    // Never beyond the deadline of the call.
    let start = world.sim.now();
    let failed = world.sim.run_for(Duration::from_secs(9), async move {
        let call = client.request("A.Where").filter(|node| node.address == "a");
        let call = call.timeout(Some(Duration::from_secs(1)));
        call.call::<_, Bytes>(&Bytes::new()).await.unwrap_err()
    });
    assert_eq!((failed.code(), (world.sim.now() - start).as_secs()), (Code::Timeout, 1));
}

#[test]
fn a_dead_node_is_no_reason_to_fail_while_another_lives() {
    let (mut world, net) = world(18, &["a", "b"]);
    let client = net.client().resolve(Fixed::new(["a", "b"])).build();
    let calls = client.clone();
    world.sim.run(async move {
        for _ in 0..4 {
            place(&calls).await.unwrap();
        }
    });
    net.remove("a");
    world.sim.settle();
    let places = world.sim.run(async move { places(&client, 6).await });
    assert_eq!(places, "bbbbbb");
}

#[test]
fn sessions_of_several_services_are_kept_side_by_side() {
    let (mut world, net) = world(20, &["a", "b"]);
    let client = net.client().resolve(Ask(|service: &str| {
        Ok(match service {
            "first" => vec!["a"],
            _ => vec!["b"],
        })
    }));
    let client = client.build();
    let (first, second) = (client.clone().service("first"), client.service("second"));
    world.sim.run(async move {
        for _ in 0..5 {
            assert_eq!(place(&first).await.unwrap(), "a");
            assert_eq!(place(&second).await.unwrap(), "b");
        }
    });
    assert_eq!(net.dials(), 2);
}

#[test]
fn a_node_that_is_listed_no_more_is_let_go_after_a_while() {
    // spec.md §15.9
    let (mut world, net) = world(21, &["b"]);
    let old = net.add("a");
    let moved = Arc::new(AtomicUsize::new(0));
    let ask = moved.clone();
    let client = net.client().resolve(Ask(move |_: &str| {
        Ok(if ask.load(Ordering::SeqCst) == 0 { vec!["a"] } else { vec!["b"] })
    }));
    let client = client.build();
    let calls = client.clone();
    assert_eq!(world.sim.run(async move { place(&calls).await }).unwrap(), "a");
    // A call that is pending there keeps it.
    let slow = client.clone();
    let (task, _) = world.sim.spawn_flagged(async move {
        let call = slow.request("Echo.Never").timeout(None);
        drop(call.call::<_, Bytes>(&Bytes::new()).await);
    });
    world.sim.settle();
    moved.store(1, Ordering::SeqCst);
    for minute in 0..8 {
        let calls = client.clone();
        assert_eq!(world.sim.run(async move { place(&calls).await }).unwrap(), "b");
        assert_eq!(old.stats().sessions, usize::from(minute <= 4), "after {minute} minutes");
        if minute == 3 {
            // Listed again, it is the one that was there.
            moved.store(0, Ordering::SeqCst);
            let calls = client.clone();
            assert_eq!(world.sim.run(async move { place(&calls).await }).unwrap(), "a");
            moved.store(1, Ordering::SeqCst);
            world.sim.drop_task(task);
        }
        world.sim.advance(Duration::from_secs(60));
    }
    assert_eq!(net.dials(), 2);
}
