//! Calls with many messages that end early: answered, given up, failed, or cut off.
#![allow(clippy::unwrap_used)]

#[path = "support/calls.rs"]
mod calls;
#[path = "support/streaming.rs"]
mod streaming;
mod support;

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use bytes::Bytes;
use calls::{World, say};
use futures::{Stream, StreamExt};
use streaming::{Messages, flood, world};
use trunkline::rpc::{Body, Code, Context, Request, Retryable, Router, Status};

#[test]
fn an_early_answer_ends_the_request() {
    let (mut world, client, _) = world(6);
    world.sim.run(async move {
        let call = client.request("S.Early").client_streaming::<Bytes, Bytes>();
        let (mut sender, answer) = call.await.unwrap();
        assert_eq!(answer.await.unwrap().message, "enough");
        let mut failed = None;
        for _ in 0..1_000 {
            if let Err(status) = sender.send(&Bytes::from(vec![1; 1_024])).await {
                failed = Some(status);
                break;
            }
        }
        assert!(failed.is_some(), "a sender learns that nobody listens");
        assert!(say(&client, "x").await.is_ok());
    });
}

#[test]
fn a_stream_may_end_with_a_status_or_a_panic() {
    let (mut world, client, _) = world(7);
    world.sim.run(async move {
        for (name, code) in [("S.Fail", Code::Conflict), ("S.Panic", Code::Internal)] {
            let call = client.request(name);
            let mut items = call.server_streaming::<Bytes, Bytes>(&Bytes::new()).await.unwrap();
            assert_eq!(items.next().await.unwrap().unwrap(), "one");
            assert_eq!(items.next().await.unwrap().unwrap_err().code(), code);
            assert!(items.next().await.is_none());
        }
        assert!(say(&client, "x").await.is_ok());
    });
}

#[test]
fn a_sender_that_is_dropped_is_no_clean_end() {
    // spec.md §15.3
    let mut world = World::new(8);
    let ended = Arc::new(AtomicBool::new(false));
    let failed = Arc::new(AtomicBool::new(false));
    let mut router = Router::bytes();
    let (clean, broken) = (ended.clone(), failed.clone());
    router
        .client_streaming("S.Watch", move |_, mut messages: Messages| {
            let (clean, broken) = (clean.clone(), broken.clone());
            async move {
                while let Some(message) = messages.next().await {
                    if message.is_err() {
                        broken.store(true, Ordering::SeqCst);
                        return Ok(Bytes::new());
                    }
                }
                clean.store(true, Ordering::SeqCst);
                Ok(Bytes::new())
            }
        })
        .unwrap();
    let (client, server) = world.serve(router);
    world.sim.run(async move {
        let call = client.request("S.Watch").client_streaming::<Bytes, Bytes>();
        let (mut sender, answer) = call.await.unwrap();
        sender.send(&Bytes::from("one")).await.unwrap();
        support::pause(50).await;
        drop(sender);
        assert!(answer.await.is_err());
    });
    world.sim.settle();
    assert!(failed.load(Ordering::SeqCst) && !ended.load(Ordering::SeqCst));
    assert_eq!(server.stats().active, 0);
}

#[test]
fn a_half_that_is_dropped_cancels_the_call_and_no_network_failed() {
    // spec.md §14.5.3, §15.7.2
    let given_up = |failed: Status| {
        assert_eq!((failed.code(), failed.retryable()), (Code::Cancelled, Retryable::Never));
        assert_eq!(failed.to_string(), "cancelled: the call was given up");
    };
    let (mut world, client, _) = world(26);
    world.sim.run(async move {
        let call = client.request("S.Sum").client_streaming::<Bytes, Bytes>();
        let (sender, answer) = call.await.unwrap();
        drop(sender);
        given_up(answer.await.unwrap_err());

        let call = client.request("S.Sum").client_streaming::<Bytes, Bytes>();
        let (mut sender, answer) = call.await.unwrap();
        drop(answer);
        given_up(sender.send(&Bytes::from("x")).await.unwrap_err());

        let call = client.request("S.Chat").bidirectional::<Bytes, Bytes>();
        let (mut sender, mut answers) = call.await.unwrap();
        sender.send(&Bytes::from("x")).await.unwrap();
        answers.next().await.unwrap().unwrap();
        drop(sender);
        given_up(answers.next().await.unwrap().unwrap_err());

        let call = client.request("S.Chat").bidirectional::<Bytes, Bytes>();
        let (mut sender, mut answers) = call.await.unwrap();
        sender.send(&Bytes::from("x")).await.unwrap();
        answers.next().await.unwrap().unwrap();
        drop(answers);
        given_up(sender.send(&Bytes::from("x")).await.unwrap_err());
    });
}

#[test]
fn a_sender_hears_that_the_answer_came_and_of_no_failure() {
    let (mut world, client, _) = world(27);
    world.sim.run(async move {
        let call = client.request("S.Early").client_streaming::<Bytes, Bytes>();
        let (mut sender, answer) = call.await.unwrap();
        assert_eq!(answer.await.unwrap().message, "enough");
        let failed = sender.send(&Bytes::from("x")).await.unwrap_err();
        assert_eq!((failed.code(), failed.message()), (Code::Cancelled, "the call is over"));
    });
}

#[test]
fn a_handler_that_reads_is_told_that_the_caller_gave_up_like_any_other() {
    // spec.md §15.6.3
    let mut world = World::new(16);
    let told = Arc::new(AtomicUsize::new(0));
    // Something that the handler started, and that lives on.
    let (tasks, count) = (world.runtime.clone(), told.clone());
    let watch = move |ctx: Context| {
        let count = count.clone();
        tasks.spawn(async move {
            ctx.cancelled().await;
            count.fetch_add(1, Ordering::SeqCst);
        });
    };
    let also = watch.clone();
    let mut router = Router::bytes();
    router
        .bidirectional("A.Both", move |ctx: Context, messages: Messages| {
            watch(ctx);
            async move { Ok(messages) }
        })
        .unwrap()
        .client_streaming("A.Up", move |ctx: Context, mut messages: Messages| {
            also(ctx);
            async move {
                while let Some(message) = messages.next().await {
                    message?;
                }
                Ok(Bytes::new())
            }
        })
        .unwrap();
    let (client, server) = world.serve(router);
    let calls = client.clone();
    world.sim.run(async move {
        let call = calls.request("A.Both").bidirectional::<Bytes, Bytes>();
        let (mut both, mut answers) = call.await.unwrap();
        both.send(&Bytes::from("x")).await.unwrap();
        assert_eq!(answers.next().await.unwrap().unwrap(), "x");
        let call = calls.request("A.Up").client_streaming::<Bytes, Bytes>();
        let (mut up, _answer) = call.await.unwrap();
        up.send(&Bytes::from("x")).await.unwrap();
        support::pause(50).await;
    });
    world.sim.settle();
    assert_eq!(told.load(Ordering::SeqCst), 2);
    let stats = server.stats();
    assert_eq!((stats.cancelled, stats.failed, stats.active), (2, 0, 0));
}

#[test]
fn a_handler_that_is_held_up_is_told_that_the_caller_gave_up() {
    // spec.md §15.6.3
    let mut world = World::new(18);
    let told = Arc::new(AtomicUsize::new(0));
    let (tasks, count) = (world.runtime.clone(), told.clone());
    let mut router = Router::bytes();
    router
        .server_streaming("A.Flood", move |ctx: Context, _: Bytes| {
            let count = count.clone();
            tasks.spawn(async move {
                ctx.cancelled().await;
                count.fetch_add(1, Ordering::SeqCst);
            });
            async move { Ok(flood(Arc::default())) }
        })
        .unwrap();
    let (client, server) = world.serve(router);
    let messages = world.sim.run(async move {
        let call = client.request("A.Flood");
        call.server_streaming::<Bytes, Bytes>(&Bytes::new()).await.unwrap()
    });
    world.sim.advance(Duration::from_secs(1));
    assert_eq!((told.load(Ordering::SeqCst), server.stats().active), (0, 1));
    drop(messages);
    world.sim.settle();
    assert_eq!((told.load(Ordering::SeqCst), server.stats().active), (1, 0));
}

#[test]
fn a_sender_learns_that_a_conversation_is_over() {
    let mut world = World::new(21);
    let mut router = Router::bytes();
    router
        .bidirectional("A.Short", |_, messages: Messages| async move { Ok(messages.take(1)) })
        .unwrap();
    let (client, _) = world.serve(router);
    world.sim.run(async move {
        let call = client.request("A.Short").bidirectional::<Bytes, Bytes>();
        let (mut sender, mut answers) = call.await.unwrap();
        sender.send(&Bytes::from("x")).await.unwrap();
        assert_eq!(answers.next().await.unwrap().unwrap(), "x");
        assert!(answers.next().await.is_none());
        // More than any window holds: it would wait for ever.
        let mut sent = 0;
        while sender.send(&Bytes::from(vec![1; 100_000])).await.is_ok() {
            sent += 1;
        }
        assert!(sent < 50);
    });
}

#[test]
fn a_request_that_is_a_stream_is_let_go_when_the_call_is_over() {
    /// Yields nothing, and tells when it goes.
    struct Silent(Arc<AtomicUsize>);
    impl Stream for Silent {
        type Item = Result<Bytes, Status>;
        fn poll_next(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
            Poll::Pending
        }
    }
    impl Drop for Silent {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let (mut world, client, _) = world(17);
    let gone = Arc::new(AtomicUsize::new(0));
    let request = |method: &'static str| Request::new(method, Body::stream(Silent(gone.clone())));
    // Answered before the request ended.
    let (early, caller) = (request("S.Early"), client.clone());
    world.sim.run(async move { caller.send(early).await.unwrap() });
    world.sim.settle();
    assert_eq!(gone.load(Ordering::SeqCst), 1, "answered");
    // Given up.
    let deaf = request("S.Deaf");
    let (task, _) = world.sim.spawn_flagged(async move { drop(client.send(deaf).await) });
    world.sim.settle();
    assert_eq!(gone.load(Ordering::SeqCst), 1);
    world.sim.drop_task(task);
    world.sim.settle();
    assert_eq!(gone.load(Ordering::SeqCst), 2, "given up");
}

#[test]
fn an_endless_stream_dies_with_its_session() {
    let (mut world, client, yielded) = world(13);
    let (near, far) = world.pair();
    drop((near, far));
    let items = world.sim.run(async move {
        let call = client.request("S.Flood");
        let mut items = call.server_streaming::<Bytes, Bytes>(&Bytes::new()).await.unwrap();
        items.next().await.unwrap().unwrap();
        items
    });
    drop(items);
    world.sim.settle();
    let before = yielded.load(Ordering::SeqCst);
    world.sim.advance(Duration::from_secs(2));
    assert_eq!(yielded.load(Ordering::SeqCst), before);
}
