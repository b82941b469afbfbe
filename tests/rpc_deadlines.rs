//! Deadlines, and calls that are given up.
#![allow(clippy::unwrap_used)]

#[path = "support/calls.rs"]
mod calls;
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context as TaskContext, Waker},
    time::Duration,
};

use bytes::Bytes;
use calls::{World, echo, say, sleep};
use futures::{FutureExt, future::BoxFuture};
use support::Flag;
use trunkline::rpc::{
    Attempt, Body, Client, Code, Context, Request, Retryable, Router, Server, ServerBuilder, Status,
};

#[test]
fn the_handler_sees_a_deadline_no_later_than_the_callers() {
    let mut world = World::new(14);
    let mut router = Router::json();
    router
        .unary("A.Left", |ctx: Context, _: ()| async move {
            Ok(ctx.time_left().map(|left| left.as_millis() as u64))
        })
        .unwrap();
    let (client, _) = world.serve(router);
    let client = client.json();
    let now = world.sim.now();
    world.sim.run(async move {
        // spec.md §15.6: 30 s, unless something else is said; it can be switched off.
        let left: Option<u64> = client.call("A.Left", &()).await.unwrap();
        assert_eq!(left, Some(30_000));
        let call = client.request("A.Left").timeout(Some(Duration::from_millis(1_500)));
        assert_eq!(call.call::<_, Option<u64>>(&()).await.unwrap(), Some(1_500));
        let call = client.request("A.Left").timeout(None);
        assert_eq!(call.call::<_, Option<u64>>(&()).await.unwrap(), None);
        // A deadline wins over a timeout, and neither sticks.
        let at = now + Duration::from_millis(700);
        let call = client.request("A.Left").timeout(None).deadline(at);
        assert_eq!(call.call::<_, Option<u64>>(&()).await.unwrap(), Some(700));
        let off = client.clone().timeout(None);
        assert_eq!(off.call::<_, Option<u64>>("A.Left", &()).await.unwrap(), None);
        assert_eq!(client.call::<_, Option<u64>>("A.Left", &()).await.unwrap(), Some(30_000));
    });
}

/// What waits to be accepted waits on its own time.
#[test]
fn the_time_of_a_call_begins_when_it_arrives() {
    // spec.md §15.6.1
    let mut world = World::new(45);
    let (near, far) = world.pair();
    let mut router = Router::bytes();
    router
        .unary("A.Left", |ctx: Context, _: Bytes| async move {
            Ok(Bytes::from(ctx.time_left().unwrap().as_millis().to_string()))
        })
        .unwrap();
    let client = Client::new(near, &world.runtime).timeout(Some(Duration::from_secs(20)));
    let left = world
        .sim
        .spawn(async move { client.call::<_, Bytes>("A.Left", &Bytes::new()).await.unwrap() });
    world.sim.advance(Duration::from_secs(5));
    world.runtime.spawn(Server::new(router, &world.runtime).serve(far));
    world.sim.settle();
    assert_eq!(left.take().unwrap(), "15000");
}

#[test]
fn deadlines_shrink_along_a_chain() {
    let mut world = World::new(15);
    let mut last = Router::json();
    last.unary("B.Left", |ctx: Context, _: ()| async move {
        Ok(ctx.time_left().map(|left| left.as_millis() as u64))
    })
    .unwrap();
    let (behind, _) = world.serve(last);
    let behind = behind.json();
    let mut first = Router::json();
    let clock = world.runtime.clone();
    first
        .unary("A.Left", move |ctx: Context, _: ()| {
            let (behind, clock) = (behind.clone(), clock.clone());
            async move {
                sleep(&clock, Duration::from_millis(300)).await;
                let call = behind.request("B.Left").on_behalf(&ctx);
                call.call::<(), Option<u64>>(&()).await
            }
        })
        .unwrap();
    let (client, _) = world.serve(first);
    let left = world.sim.run(async move {
        let client = client.json();
        let call = client.request("A.Left").timeout(Some(Duration::from_secs(1)));
        call.call::<_, Option<u64>>(&()).await.unwrap()
    });
    assert_eq!(left, Some(700));
}

#[test]
fn a_deadline_ends_the_call_on_both_sides_and_not_the_session() {
    let mut world = World::new(16);
    let dropped = Arc::new(AtomicBool::new(false));
    let (router, told) = never(&dropped);
    let (client, server) = world.serve(router);
    let caller = client.clone();
    let call = world.sim.spawn(async move {
        let call = caller.request("A.Never").timeout(Some(Duration::from_millis(250)));
        call.call::<_, Bytes>(&Bytes::new()).await
    });
    world.sim.advance(Duration::from_millis(249));
    assert!(!call.is_ready());
    world.sim.advance(Duration::from_millis(2));
    let failed = call.take().unwrap().unwrap_err();
    assert_eq!((failed.code(), failed.retryable()), (Code::Timeout, Retryable::Never));
    assert!(dropped.load(Ordering::SeqCst), "the handler goes with its call");
    assert!(told.load(Ordering::SeqCst), "and what it started is told");
    assert_eq!((server.stats().active, server.stats().cancelled), (0, 1));
    let _ = client;
}

#[test]
fn dropping_a_call_reaches_the_handler() {
    // spec.md §15.6
    let mut world = World::new(17);
    let dropped = Arc::new(AtomicBool::new(false));
    let (router, told) = never(&dropped);
    let (client, server) = world.serve(router);
    let caller = client.clone();
    let (task, _) = world.sim.spawn_flagged(async move {
        caller.call::<_, Bytes>("A.Never", &Bytes::new()).await.unwrap();
    });
    world.sim.advance(Duration::from_millis(10));
    assert_eq!(server.stats().active, 1);
    world.sim.drop_task(task);
    // Within the same moment: no time passes.
    world.sim.settle();
    assert!(dropped.load(Ordering::SeqCst) && told.load(Ordering::SeqCst));
    assert_eq!(server.stats().active, 0);
}

#[test]
fn who_waits_for_a_cancel_no_more_leaves_nothing_behind() {
    let mut world = World::new(29);
    let flag = Arc::new(Flag::default());
    let seen = flag.clone();
    let mut router = Router::bytes();
    router
        .unary("A.Waits", move |ctx: Context, _: Bytes| {
            let flag = seen.clone();
            async move {
                let stays = ctx.clone();
                let mut waits = async move { stays.cancelled().await }.boxed();
                let poll = |waits: &mut BoxFuture<'static, ()>| {
                    let waker = Waker::from(flag.clone());
                    waits.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending()
                };
                let before = Arc::strong_count(&flag);
                for _ in 0..10 {
                    let ctx = ctx.clone();
                    assert!(poll(&mut async move { ctx.cancelled().await }.boxed()));
                }
                assert_eq!(Arc::strong_count(&flag), before);
                assert!(poll(&mut waits));
                std::future::pending::<()>().await;
                waits.await;
                Ok(Bytes::new())
            }
        })
        .unwrap();
    // One that lives on, and still waits, is told.
    let builder = ServerBuilder::default().let_cancelled_finish(true);
    let (client, server) = world.serve_with(builder, router);
    let (task, _) = world.sim.spawn_flagged(async move {
        let _ = client.call::<_, Bytes>("A.Waits", &Bytes::new()).await;
    });
    world.sim.settle();
    assert_eq!((server.stats().active, flag.wakes()), (1, 0));
    world.sim.drop_task(task);
    world.sim.settle();
    assert_eq!(flag.wakes(), 1);
}

#[test]
fn a_cancelled_handler_may_finish_where_the_server_lets_it() {
    let mut world = World::new(18);
    let finished = Arc::new(AtomicBool::new(false));
    let mut router = Router::bytes();
    let done = finished.clone();
    router
        .unary("A.Careful", move |ctx: Context, _: Bytes| {
            let done = done.clone();
            async move {
                ctx.cancelled().await;
                done.store(true, Ordering::SeqCst);
                Ok(Bytes::new())
            }
        })
        .unwrap();
    let builder = ServerBuilder::default().let_cancelled_finish(true);
    let (client, server) = world.serve_with(builder, router);
    let (task, _) = world.sim.spawn_flagged(async move {
        let _ = client.call::<_, Bytes>("A.Careful", &Bytes::new()).await;
    });
    world.sim.advance(Duration::from_millis(10));
    world.sim.drop_task(task);
    world.sim.advance(Duration::from_millis(10));
    assert!(finished.load(Ordering::SeqCst));
    assert_eq!((server.stats().active, server.stats().cancelled), (0, 1));
}

/// `A.Never` waits; whether its future was dropped, and whether what it left behind was told.
fn never(dropped: &Arc<AtomicBool>) -> (Router, Arc<AtomicBool>) {
    struct Guard(Arc<AtomicBool>, Arc<AtomicBool>, Context);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
            self.1.store(self.2.is_cancelled(), Ordering::SeqCst);
        }
    }
    let told = Arc::new(AtomicBool::new(false));
    let mut router = Router::bytes();
    let (dropped, tell) = (dropped.clone(), told.clone());
    router
        .unary("A.Never", move |ctx: Context, _: Bytes| {
            let guard = Guard(dropped.clone(), tell.clone(), ctx);
            async move {
                let _guard = guard;
                std::future::pending::<Result<Bytes, Status>>().await
            }
        })
        .unwrap();
    (router, told)
}

#[test]
fn less_than_a_millisecond_sends_nothing() {
    let mut world = World::new(19);
    let router = echo(&world.runtime);
    let (client, server) = world.serve(router);
    let failed = world.sim.run(async move {
        let call = client.request("Echo.Say").timeout(Some(Duration::from_micros(500)));
        call.call::<_, Bytes>(&Bytes::new()).await.unwrap_err()
    });
    assert_eq!(failed.code(), Code::Timeout);
    world.sim.settle();
    assert_eq!(server.stats().started, 0);
}

#[test]
fn times_beyond_the_clock_mean_forever() {
    let mut world = World::new(27);
    let builder = ServerBuilder::default().request_timeout(Duration::MAX);
    let mut router = Router::json();
    router
        .unary("A.Left", |ctx: Context, _: ()| async move {
            Ok(ctx.time_left().map(|left| left.as_millis() as u64))
        })
        .unwrap();
    let (client, server) = world.serve_with(builder, router);
    let plain = client.clone().timeout(Some(Duration::MAX));
    let json = plain.clone().json().wait_before_attempts(|_: &Attempt<'_>| Duration::ZERO);
    world.sim.run(async move {
        let left: Option<u64> = json.call("A.Left", &()).await.unwrap();
        assert_eq!(left, None);
        let body = Body::single("null");
        let answer = plain.send(Request::new("A.Left", body)).await.unwrap();
        assert_eq!(answer.body.into_single().unwrap(), "null");
        // What can be said at most: 2^32 - 1 milliseconds.
        let call = json.request("A.Left").timeout(Some(Duration::from_secs(1 << 40)));
        let left: Option<u64> = call.call(&()).await.unwrap();
        assert_eq!(left, Some(u64::from(u32::MAX)));
    });
    let forever = client.wait_before_attempts(|_: &Attempt<'_>| Duration::MAX);
    let waiting = world.sim.spawn(async move { say(&forever, "x").await.unwrap_err().code() });
    world.sim.advance(Duration::from_secs(31));
    assert_eq!(waiting.take(), Some(Code::Timeout));
    let closing = server.clone();
    world.sim.run_for(Duration::from_secs(60), async move {
        closing.shutdown(Duration::MAX).await;
    });
}
