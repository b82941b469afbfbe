//! Clients of several nodes: dialling, choosing, repeating.
#![allow(clippy::unwrap_used)]

#[path = "support/calls.rs"]
mod calls;
mod support;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use calls::{World, say, sleep};
use futures::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use parking_lot::Mutex;
use trunkline::{
    GoAwayCode, Session,
    rpc::{
        Attempt, BoxError, Cached, Candidate, Client, ClientBuilder, Code, Context, Fixed,
        LeastPending, Node, Random, Resolve, Retryable, RoundRobin, Router, Server, Status,
    },
    runtime::Runtime,
    transport::memory,
};

/// Servers by address, and how to dial them.
#[derive(Clone)]
struct Net {
    runtime: Runtime,
    config: trunkline::Config,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    servers: HashMap<String, Server<Router>>,
    /// Addresses that answer no dial.
    holes: HashSet<String>,
    dials: Vec<String>,
    /// The servers' ends.
    sessions: Vec<(String, Session)>,
}

impl Net {
    fn new(world: &World) -> Self {
        let config = world.sim.config().build().unwrap();
        Self { runtime: world.runtime.clone(), config, inner: Arc::default() }
    }

    /// A server that says its address.
    fn add(&self, address: &'static str) -> Server<Router> {
        let mut router = Router::bytes();
        let attempts = Arc::new(AtomicUsize::new(0));
        let (clock, slow) = (self.runtime.clone(), self.runtime.clone());
        router
            .unary("A.Where", move |_, _: Bytes| async move { Ok(Bytes::from(address)) })
            .unwrap()
            .unary("A.Slow", move |_, _: Bytes| {
                let clock = clock.clone();
                async move {
                    sleep(&clock, Duration::from_secs(60)).await;
                    Ok(Bytes::from(address))
                }
            })
            .unwrap()
            .unary("A.SlowBusy", move |_, _: Bytes| {
                let clock = slow.clone();
                async move {
                    sleep(&clock, Duration::from_secs(1)).await;
                    Err::<Bytes, _>(Status::new(Code::Busy, "after a second"))
                }
            })
            .unwrap()
            .unary("A.Service", |ctx: Context, _: Bytes| async move {
                Ok(Bytes::from(ctx.metadata().text("x").unwrap_or("none").to_owned()))
            })
            .unwrap()
            .unary("Echo.Say", |_, said: Bytes| async move { Ok(said) })
            .unwrap()
            .unary("A.Network", |_, _: Bytes| async move {
                Err::<Bytes, _>(Status::new(Code::Network, "of somebody else"))
            })
            .unwrap()
            .server_streaming("A.Ones", |_, _: Bytes| async move {
                Ok(futures::stream::repeat_with(|| Ok(Bytes::from("1"))))
            })
            .unwrap()
            .unary("Echo.Never", |_, _: Bytes| std::future::pending::<Result<Bytes, Status>>())
            .unwrap()
            .unary("A.Busy", move |_, until: Bytes| {
                let n = attempts.fetch_add(1, Ordering::SeqCst);
                let until: usize = std::str::from_utf8(&until).unwrap().parse().unwrap();
                async move {
                    match n < until {
                        true => Err(Status::new(Code::Busy, format!("attempt {n}"))),
                        false => Ok(Bytes::from(n.to_string())),
                    }
                }
            })
            .unwrap();
        let server = Server::new(router, &self.runtime);
        self.inner.lock().servers.insert(address.to_owned(), server.clone());
        server
    }

    fn remove(&self, address: &str) {
        let mut inner = self.inner.lock();
        inner.servers.remove(address);
        for (_, session) in inner.sessions.iter().filter(|(at, _)| at == address) {
            session.abort(GoAwayCode::INTERNAL_ERROR);
        }
        inner.sessions.retain(|(at, _)| at != address);
    }

    fn dials(&self) -> usize {
        self.inner.lock().dials.len()
    }

    fn client(&self) -> ClientBuilder {
        let net = self.clone();
        ClientBuilder::new(&self.runtime, move |node: &Node| net.dial(&node.address))
    }

    fn dial(&self, address: &str) -> BoxFuture<'static, Result<Session, String>> {
        let mut inner = self.inner.lock();
        inner.dials.push(address.to_owned());
        if inner.holes.contains(address) {
            return std::future::pending().boxed();
        }
        let Some(server) = inner.servers.get(address).cloned() else {
            return std::future::ready(Err(format!("{address}: connection refused"))).boxed();
        };
        let (left, right) = memory::duplex(1 << 16);
        let (near, driver) = Session::client(left, self.config.clone());
        let (far, peer) = Session::server(right, self.config.clone());
        self.runtime.spawn(driver.map(drop));
        self.runtime.spawn(peer.map(drop));
        self.runtime.spawn(server.serve(far.clone()));
        inner.sessions.push((address.to_owned(), far));
        // Dialling takes a moment.
        let sleep = self.runtime.sleep_until(self.runtime.now() + Duration::from_millis(5));
        async move {
            sleep.await;
            Ok(near)
        }
        .boxed()
    }
}

async fn place(client: &Client) -> Result<String, Status> {
    let place = client.call::<_, Bytes>("A.Where", &Bytes::new()).await?;
    Ok(String::from_utf8(place.to_vec()).unwrap())
}

fn world(seed: u64, servers: &[&'static str]) -> (World, Net) {
    let world = World::new(seed);
    let net = Net::new(&world);
    for server in servers {
        net.add(server);
    }
    (world, net)
}

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
    net.inner.lock().sessions[0].1.go_away();
    world.sim.settle();
    world.sim.run(async move { say(&client, "z").await }).unwrap();
    assert_eq!(net.dials(), 3);
}

#[test]
fn round_robin_takes_them_in_turn() {
    let (mut world, net) = world(3, &["a", "b", "c"]);
    let resolve = Fixed::new(["a", "b", "c"]);
    let client = net.client().resolve(resolve).select(RoundRobin::default()).build();
    let places = world.sim.run(async move {
        let mut places = String::new();
        for _ in 0..6 {
            places += &place(&client).await.unwrap();
        }
        places
    });
    assert_eq!(places, "abcabc");
}

#[test]
fn random_takes_them_all_and_the_same_by_seed() {
    let places = |seed| {
        let (mut world, net) = world(4, &["a", "b", "c"]);
        let resolve = Fixed::new(["a", "b", "c"]);
        let client = net.client().resolve(resolve).select(Random::seeded(Some(seed))).build();
        world.sim.run(async move {
            let mut places = String::new();
            for _ in 0..60 {
                places += &place(&client).await.unwrap();
            }
            places
        })
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
    let places = world.sim.run(async move {
        let mut places = String::new();
        for _ in 0..5 {
            places += &place(&client).await.unwrap();
        }
        places
    });
    assert_eq!(places, "bbbbb");
}

#[test]
fn a_failed_node_cools_down_and_returns() {
    let (mut world, net) = world(6, &["a"]);
    let client = net.client().resolve(Fixed::new(["a", "b"]));
    let client = client.cool_down(Duration::from_secs(5)).build();
    let calls = client.clone();
    let places = world.sim.run(async move {
        let mut places = String::new();
        for _ in 0..10 {
            places += &place(&calls).await.unwrap();
        }
        places
    });
    assert_eq!(places, "aaaaaaaaaa", "what is down is passed over");
    assert_eq!(net.inner.lock().dials.iter().filter(|at| *at == "b").count(), 1);
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
        world.sim.run(async move {
            let mut places = String::new();
            for _ in 0..4 {
                places += &place(&client).await.unwrap();
            }
            places
        })
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
fn where_all_nodes_failed_the_one_that_failed_first_is_tried() {
    let (mut world, net) = world(25, &[]);
    let client = net.client().resolve(Fixed::new(["a", "b"])).cool_down(Duration::from_secs(100));
    let client = client.select(|_: &[Candidate<'_>]| 0).build().retries(0);
    for _ in 0..5 {
        let calls = client.clone();
        world.sim.run(async move { place(&calls).await.unwrap_err() });
        world.sim.advance(Duration::from_secs(1));
    }
    assert_eq!(net.inner.lock().dials.concat(), "ababa");
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
    assert_eq!(net.inner.lock().dials.concat(), "ababaa");
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
    let places = world.sim.run(async move {
        let mut places = String::new();
        for _ in 0..4 {
            places += &place(&calls).await.unwrap();
        }
        places
    });
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
fn a_black_hole_costs_the_dial_timeout_and_the_next_node_answers() {
    let (mut world, net) = world(7, &["b"]);
    net.inner.lock().holes.insert("a".to_owned());
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
fn no_node_is_not_found_and_not_repeated() {
    let (mut world, net) = world(8, &["a"]);
    let client = net.client().build().service("greeter");
    let failed = world.sim.run(async move {
        let call = client.request("A.Where").idempotent().retries(9);
        call.call::<_, Bytes>(&Bytes::new()).await.unwrap_err()
    });
    assert_eq!((failed.code(), failed.retryable()), (Code::NotFound, Retryable::Never));
    assert!(failed.message().contains("greeter"), "{failed}");
    assert_eq!(net.dials(), 0);
}

/// Asks a function.
struct Ask<F>(F);

impl<F> Resolve for Ask<F>
where
    F: Fn(&str) -> Result<Vec<&'static str>, BoxError> + Send + Sync + 'static,
{
    fn resolve(&self, service: &str) -> BoxFuture<'_, Result<Arc<[Node]>, BoxError>> {
        let nodes = (self.0)(service).map(|nodes| nodes.into_iter().map(Node::new).collect());
        std::future::ready(nodes).boxed()
    }
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
    assert_eq!(failed.code(), Code::NotFound);
    assert_eq!(net.dials(), 1);
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
    let places = world.sim.run(async move {
        let mut places = String::new();
        for _ in 0..6 {
            places += &place(&client).await.unwrap();
        }
        places
    });
    assert_eq!((places.as_str(), net.dials()), ("aaaaaa", 2));
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
    net.inner.lock().servers.insert("proxy".to_owned(), proxy);
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
    let server = net.inner.lock().servers["a"].clone();
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
    let places = world.sim.run(async move {
        let mut places = String::new();
        for _ in 0..6 {
            places += &place(&client).await.unwrap();
        }
        places
    });
    assert_eq!(places, "bbbbbb");
}
