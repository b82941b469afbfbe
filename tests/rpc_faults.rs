//! Calls that are dropped at any moment, and connections that are cut at any byte.
#![allow(clippy::unwrap_used)]

#[path = "support/calls.rs"]
mod calls;
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use calls::{World, echo, say, sleep};
use futures::{FutureExt, StreamExt, future::select};
use support::{Tapped, Trickle, Writes, count, frames, pause};
use trunkline::{
    rpc::{Client, Code, Context, Receiver, Retryable, Router, Server, Status, codec::Raw},
    transport::memory,
};

/// What is going on when it is dropped or cut.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Unary,
    Large,
    Slow,
    Up,
    Down,
    Both,
}

const SHAPES: [Shape; 6] =
    [Shape::Unary, Shape::Large, Shape::Slow, Shape::Up, Shape::Down, Shape::Both];

/// How many handlers run, or hold their messages.
#[derive(Clone, Default)]
struct Live(Arc<AtomicUsize>);

struct Alive(Live);

impl Live {
    fn enter(&self) -> Alive {
        self.0.fetch_add(1, Ordering::SeqCst);
        Alive(self.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn router(world: &World, live: &Live) -> Router {
    let mut router = echo(&world.runtime);
    let clock = world.runtime.clone();
    let (a, b, c, d) = (live.clone(), live.clone(), live.clone(), live.clone());
    type Messages = Receiver<Bytes, Raw>;
    router
        .unary("F.Echo", move |_, said: Bytes| {
            let alive = a.enter();
            async move {
                let _alive = alive;
                Ok(said)
            }
        })
        .unwrap()
        .unary("F.Slow", move |_, said: Bytes| {
            let (alive, clock) = (b.enter(), clock.clone());
            async move {
                let _alive = alive;
                sleep(&clock, Duration::from_millis(50)).await;
                Ok(said)
            }
        })
        .unwrap()
        .client_streaming("F.Up", move |_, mut messages: Messages| {
            let alive = c.enter();
            async move {
                let _alive = alive;
                let mut n = 0;
                while let Some(message) = messages.next().await {
                    n += message?.len();
                }
                Ok(Bytes::from(n.to_string()))
            }
        })
        .unwrap()
        .bidirectional("F.Both", move |_, messages: Messages| {
            let alive = d.enter();
            async move {
                Ok(messages.map(move |message| {
                    let _alive = &alive;
                    message
                }))
            }
        })
        .unwrap();
    router
}

async fn make(client: &Client, shape: Shape) -> Result<(), Status> {
    let large = Bytes::from(vec![7; 5_000]);
    match shape {
        Shape::Unary => client.call::<_, Bytes>("F.Echo", &Bytes::from("x")).await.map(drop),
        Shape::Large => client.call::<_, Bytes>("F.Echo", &large).await.map(drop),
        Shape::Slow => client.call::<_, Bytes>("F.Slow", &Bytes::from("x")).await.map(drop),
        Shape::Up => {
            let call = client.request("F.Up").client_streaming::<Bytes, Bytes>();
            let (mut sender, answer) = call.await?;
            for _ in 0..3 {
                sender.send(&large).await?;
            }
            sender.finish().await?;
            answer.await.map(drop)
        }
        Shape::Down | Shape::Both => {
            let call = client.request("F.Both").bidirectional::<Bytes, Bytes>();
            let (mut sender, mut answers) = call.await?;
            for _ in 0..3 {
                sender.send(&large).await?;
                if let Shape::Both = shape {
                    answers.next().await.unwrap_or_else(|| Ok(Bytes::new()))?;
                }
            }
            sender.finish().await?;
            while let Some(answer) = answers.next().await {
                answer?;
            }
            Ok(())
        }
    }
}

#[test]
fn a_call_may_be_dropped_after_any_poll() {
    // spec.md §15.6
    for shape in SHAPES {
        for polls in 0..count(3_000).min(400) {
            let mut world = World::new(polls);
            let live = Live::default();
            let server = Server::new(router(&world, &live), &world.runtime);
            let (left, right) = memory::duplex(64);
            let (left, right) = (Trickle { io: left, most: 16 }, Trickle { io: right, most: 16 });
            let config = world.sim.config().build().unwrap();
            let (near, far) = world.sim.pair_over(left, right, config.clone(), config);
            world.runtime.spawn(server.serve(far.clone()));
            let client = Client::new(near.clone(), &world.runtime);
            let calls = client.clone();
            world.sim.run_for(Duration::from_secs(9), async move {
                let limit = Box::pin(pause(polls as usize));
                drop(select(Box::pin(make(&calls, shape)), limit).await);
            });
            world.sim.advance(Duration::from_millis(200));
            let what = format!("{shape:?} dropped after {polls} polls");
            assert_eq!(live.0.load(Ordering::SeqCst), 0, "{what}: a handler lives on");
            assert_eq!(server.stats().active, 0, "{what}");
            let said =
                world.sim.run_for(Duration::from_secs(9), async move { say(&client, "z").await });
            assert_eq!(said.unwrap(), "z", "{what}: the session lives");
            world.sim.advance(Duration::from_millis(200));
            let streams = (near.stats().outbound_streams, far.stats().inbound_streams);
            assert_eq!(streams, (0, 0), "{what}: a stream is left");
        }
    }
}

/// Makes a call over a connection that is cut after so many bytes there or back. How it ended,
/// how many handlers were begun, and what was written each way.
fn cut(shape: Shape, there: usize, back: usize) -> (Result<(), Status>, u64, [Vec<u8>; 2]) {
    let mut world = World::new(1);
    let live = Live::default();
    let server = Server::new(router(&world, &live), &world.runtime);
    let (left, right) = memory::duplex(1 << 20);
    let written = [Writes::default(), Writes::default()];
    let left = Tapped::cut(left, &written[0], there);
    let right = Tapped::cut(right, &written[1], back);
    let config = world.sim.config().keepalive(None).build().unwrap();
    let (near, far) = world.sim.pair_over(left, right, config.clone(), config);
    world.runtime.spawn(server.serve(far.clone()));
    let client = Client::new(near.clone(), &world.runtime).timeout(Some(Duration::from_secs(5)));
    let outcome = world.sim.run_for(Duration::from_secs(6), async move {
        let outcome = make(&client, shape).await;
        drop(client);
        outcome
    });
    world.sim.advance(Duration::from_secs(6));
    if outcome.is_err() {
        assert_eq!(live.0.load(Ordering::SeqCst), 0, "{shape:?} {there} {back}: a handler is left");
    }
    assert_eq!(server.stats().active, 0, "{shape:?} {there} {back}");
    let [there, back] = written.map(|writes| writes.take().concat());
    (outcome, server.stats().started, [there, back])
}

/// Every frame boundary, and one byte on each side of it.
fn boundaries(bytes: &[u8]) -> Vec<usize> {
    let mut at = 0;
    let mut found = vec![1];
    for frame in frames(bytes) {
        at += 12 + frame.body.len();
        found.extend([at - 1, at, at + 1]);
    }
    found
}

#[test]
fn a_connection_cut_at_any_frame_gives_one_definite_answer() {
    for shape in SHAPES {
        let (outcome, _, [there, back]) = cut(shape, usize::MAX, usize::MAX);
        outcome.unwrap();
        let ends = boundaries(&there).into_iter().map(|at| (at, usize::MAX));
        let ends = ends.chain(boundaries(&back).into_iter().map(|at| (usize::MAX, at)));
        for (there, back) in ends {
            let (outcome, started, _) = cut(shape, there, back);
            let Err(failed) = outcome else { continue };
            let what = format!("{shape:?} cut after {there} there, {back} back: {failed:?}");
            assert_eq!(failed.code(), Code::Network, "{what}");
            // Nobody claims that a call reached no handler when it did.
            let claims = failed.retryable() == Retryable::Always;
            assert!(!(claims && started > 0), "{what}");
        }
    }
}

#[test]
fn a_silent_connection_ends_calls_at_their_deadline() {
    let mut world = World::new(2);
    let config = world.sim.config().keepalive(None).write_timeout(None).build().unwrap();
    let (near, _silent) = world.sim.client_with_peer(config);
    let client = Client::new(near, &world.runtime).timeout(Some(Duration::from_secs(3)));
    let start = world.sim.now();
    // One that fits, and one that waits for room all the time.
    for len in [10, 4_000_000] {
        let client = client.clone();
        let call = world.sim.spawn(async move {
            client.call::<_, Bytes>("A.B", &Bytes::from(vec![0; len])).await.unwrap_err().code()
        });
        world.sim.advance(Duration::from_secs(4));
        assert_eq!(call.take(), Some(Code::Timeout), "{len} bytes");
    }
    assert_eq!((world.sim.now() - start).as_secs(), 8);
}

#[test]
fn a_call_that_waits_for_a_stream_waits_no_longer_than_its_deadline() {
    let mut world = World::new(3);
    let config = world.sim.config().max_outbound_streams(1).build().unwrap();
    let (near, far) = world.sim.pair_with(1 << 16, config.clone(), config);
    world.runtime.spawn(Server::new(echo(&world.runtime), &world.runtime).serve(far));
    let client = Client::new(near, &world.runtime).timeout(Some(Duration::from_secs(10)));
    let first = client.clone();
    world.sim.spawn(async move {
        let _ = first.call::<_, Bytes>("Echo.Never", &Bytes::new()).await;
    });
    world.sim.settle();
    let start = world.sim.now();
    let failed = world.sim.run_for(Duration::from_secs(9), async move {
        let call = client.request("Echo.Say").timeout(Some(Duration::from_secs(2)));
        call.call::<_, Bytes>(&Bytes::new()).await.unwrap_err()
    });
    assert_eq!((failed.code(), failed.retryable()), (Code::Timeout, Retryable::Always));
    assert_eq!((world.sim.now() - start).as_secs(), 2);
}

/// What a call says of its time it says when it is sent, not when it began to wait for a stream.
#[test]
fn a_call_that_waited_for_a_stream_says_how_much_time_is_left() {
    let mut world = World::new(41);
    let config = world.sim.config().max_outbound_streams(1).build().unwrap();
    let (near, far) = world.sim.pair_with(1 << 16, config.clone(), config);
    let mut router = Router::bytes();
    let runtime = world.runtime.clone();
    router
        .unary("A.Left", move |ctx: Context, _: Bytes| {
            let runtime = runtime.clone();
            async move {
                let left = ctx.time_left().unwrap().as_millis().to_string();
                sleep(&runtime, Duration::from_secs(1)).await;
                Ok(Bytes::from(left))
            }
        })
        .unwrap();
    world.runtime.spawn(Server::new(router, &world.runtime).serve(far));
    let client = Client::new(near, &world.runtime).timeout(Some(Duration::from_secs(20)));
    // Twice: the second time it is known that there is a crowd, and then that there is none.
    for _ in 0..2 {
        let calls: Vec<_> = (0..5)
            .map(|_| {
                let client = client.clone();
                world.sim.spawn(async move {
                    client.call::<_, Bytes>("A.Left", &Bytes::new()).await.unwrap()
                })
            })
            .collect();
        world.sim.advance(Duration::from_secs(6));
        let mut left: Vec<_> = calls.iter().map(|call| call.take().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["16000", "17000", "18000", "19000", "20000"]);
        let alone = client.clone();
        let left = world.sim.run_for(Duration::from_secs(2), async move {
            alone.call::<_, Bytes>("A.Left", &Bytes::new()).await.unwrap()
        });
        assert_eq!(left, "20000");
    }
}

#[test]
fn calls_given_up_by_the_thousand_cost_no_connection() {
    // spec.md §9.2.5
    let mut world = World::new(4);
    let live = Live::default();
    let (near, far) = world.pair();
    let server = Server::new(router(&world, &live), &world.runtime);
    world.runtime.spawn(server.serve(far.clone()));
    let client = Client::new(near.clone(), &world.runtime);
    let start = world.sim.now();
    let calls = client.clone();
    world.sim.run_for(Duration::from_secs(9), async move {
        let body = Bytes::from("x");
        for n in 0..5_000 {
            let call = calls.call::<_, Bytes>("Echo.Never", &body);
            // Begun, and given up before the connection or the server has a chance to see it.
            assert!(call.now_or_never().is_none());
            if n % 50 == 0 {
                pause(1).await;
            }
        }
    });
    assert!(world.sim.now() - start < Duration::from_secs(10));
    assert!(near.stats().resets_sent > 1_000, "{:?}", near.stats());
    world.sim.run(async move { say(&client, "z").await }).unwrap();
    world.sim.advance(Duration::from_millis(200));
    assert_eq!((live.0.load(Ordering::SeqCst), server.stats().active), (0, 0));
    assert_eq!((near.stats().outbound_streams, far.stats().inbound_streams), (0, 0));
}
