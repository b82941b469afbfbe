//! Calls with many messages: in either direction, with half close and back-pressure.
#![allow(clippy::unwrap_used)]

#[path = "support/calls.rs"]
mod calls;
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
use calls::{World, echo, say, sleep};
use futures::{FutureExt, Stream, StreamExt, stream};
use trunkline::{
    exchange::ExchangeConfig,
    rpc::{
        Body, Client, Code, Context, Receiver, Request, Response, Retryable, Router, Server,
        Status, codec::Raw,
    },
};

type Messages = Receiver<Bytes, Raw>;

/// `S.Sum` counts what it gets, `S.Count` yields, `S.Chat` answers each, `S.Late` answers the
/// first message after the last, `S.Deaf` reads nothing, `S.Flood` never ends.
fn router(yielded: &Arc<AtomicUsize>) -> Router {
    let mut router = Router::bytes();
    router
        .client_streaming("S.Sum", |_, mut messages: Messages| async move {
            let mut sum = 0;
            while let Some(message) = messages.next().await {
                sum += message?.len();
            }
            Ok(Bytes::from(sum.to_string()))
        })
        .unwrap()
        .server_streaming("S.Count", |ctx: Context, upto: Bytes| async move {
            let upto: usize = std::str::from_utf8(&upto).unwrap().parse().unwrap();
            ctx.set_header("upto", upto.to_string());
            let end = async move {
                ctx.set_trailer("done", "yes");
                None
            };
            let items = stream::iter(0..upto).map(|n| Ok(Bytes::from(n.to_string())));
            Ok(items.map(Some).chain(stream::once(end)).filter_map(std::future::ready))
        })
        .unwrap()
        .bidirectional("S.Chat", |_, messages: Messages| async move {
            Ok(messages.map(|said| said.map(|said| Bytes::from([&b"re: "[..], &said].concat()))))
        })
        .unwrap()
        .client_streaming("S.Deaf", |_, messages: Messages| async move {
            let _messages = messages;
            std::future::pending::<Result<Bytes, Status>>().await
        })
        .unwrap()
        .client_streaming("S.Early", |_, _: Messages| async move { Ok(Bytes::from("enough")) })
        .unwrap()
        .server_streaming("S.Fail", |_, _: Bytes| async move {
            let failed = Status::new(Code::Conflict, "half way");
            Ok(stream::iter([Ok(Bytes::from("one")), Err(failed), Ok(Bytes::from("never"))]))
        })
        .unwrap()
        .server_streaming("S.Panic", |_, _: Bytes| async move {
            Ok(stream::iter(0..2).map(|n| match n {
                0 => Ok(Bytes::from("one")),
                _ => std::panic::resume_unwind(Box::new("on purpose")),
            }))
        })
        .unwrap();
    let yielded = yielded.clone();
    router
        .server_streaming("S.Flood", move |_, _: Bytes| {
            let yielded = yielded.clone();
            async move { Ok(flood(yielded)) }
        })
        .unwrap();
    router
}

fn flood(yielded: Arc<AtomicUsize>) -> impl Stream<Item = Result<Bytes, Status>> + Send {
    stream::repeat_with(move || {
        yielded.fetch_add(1, Ordering::SeqCst);
        Ok(Bytes::from(vec![7; 1_024]))
    })
}

fn world(seed: u64) -> (World, Client, Arc<AtomicUsize>) {
    let mut world = World::new(seed);
    let yielded = Arc::new(AtomicUsize::new(0));
    let mut router = router(&yielded);
    router.merge(&echo(&world.runtime)).unwrap();
    let (client, _) = world.serve(router);
    (world, client, yielded)
}

#[test]
fn a_request_of_many_messages_has_one_answer() {
    let (mut world, client, _) = world(1);
    let sum = world.sim.run(async move {
        let call = client.request("S.Sum").client_streaming::<Bytes, Bytes>();
        let (mut sender, answer) = call.await.unwrap();
        for len in [0, 1, 1_000, 300_000] {
            sender.send(&Bytes::from(vec![1; len])).await.unwrap();
        }
        sender.finish().await.unwrap();
        answer.await.unwrap().message
    });
    assert_eq!(sum, "301001");
}

#[test]
fn an_answer_of_many_messages_has_headers_and_trailers() {
    // spec.md §15.3
    let (mut world, client, _) = world(2);
    world.sim.run_for(Duration::from_secs(60), async move {
        for upto in [0, 1, 5_000] {
            let call = client.request("S.Count");
            let mut items = call
                .server_streaming::<Bytes, Bytes>(&Bytes::from(upto.to_string()))
                .await
                .unwrap();
            assert_eq!(items.headers().text("upto"), Some(&*upto.to_string()));
            let mut n = 0;
            while let Some(item) = items.next().await {
                assert_eq!(item.unwrap(), n.to_string());
                n += 1;
            }
            assert_eq!(n, upto);
            assert_eq!(items.trailers().text("done"), Some("yes"));
            assert!(items.next().await.is_none(), "the end is the end");
        }
    });
}

#[test]
fn a_conversation_goes_back_and_forth_and_each_side_ends_its_own() {
    let (mut world, client, _) = world(3);
    world.sim.run(async move {
        let call = client.request("S.Chat").bidirectional::<Bytes, Bytes>();
        let (mut sender, mut answers) = call.await.unwrap();
        for n in 0..100 {
            sender.send(&Bytes::from(format!("{n}"))).await.unwrap();
            assert_eq!(answers.next().await.unwrap().unwrap(), format!("re: {n}"));
        }
        // The request ends; what is on its way comes all the same.
        sender.send(&Bytes::from("last")).await.unwrap();
        sender.finish().await.unwrap();
        assert_eq!(answers.next().await.unwrap().unwrap(), "re: last");
        assert!(answers.next().await.is_none());
    });
}

#[test]
fn a_caller_that_does_not_read_stops_the_handler() {
    let (mut world, client, yielded) = world(4);
    let caller = client.clone();
    let call = world.sim.spawn(async move {
        let call = caller.request("S.Flood");
        call.server_streaming::<Bytes, Bytes>(&Bytes::new()).await.unwrap()
    });
    world.sim.advance(Duration::from_secs(5));
    let held = yielded.load(Ordering::SeqCst);
    // One window of messages, and what the pipe between the sessions and their staging hold.
    assert!((200..1_200).contains(&held), "{held} messages of 1 KiB");
    // It stalls nobody else.
    let other = client.clone();
    world.sim.run(async move { say(&other, "x").await }).unwrap();
    assert_eq!(yielded.load(Ordering::SeqCst), held);
    // And goes on as it is read.
    let mut items = call.take().unwrap();
    world.sim.run(async move {
        for _ in 0..2_000 {
            items.next().await.unwrap().unwrap();
        }
    });
    assert!(yielded.load(Ordering::SeqCst) >= 2_000);
    world.sim.advance(Duration::from_secs(1));
    let stopped = yielded.load(Ordering::SeqCst);
    world.sim.advance(Duration::from_secs(1));
    assert_eq!(yielded.load(Ordering::SeqCst), stopped, "a dropped receiver ends the handler");
}

#[test]
fn a_handler_that_does_not_read_stops_the_caller() {
    let (mut world, client, _) = world(5);
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = sent.clone();
    let caller = client.clone();
    world.sim.spawn(async move {
        let call = caller.request("S.Deaf").client_streaming::<Bytes, Bytes>();
        let (mut sender, _answer) = call.await.unwrap();
        loop {
            sender.send(&Bytes::from(vec![1; 1_024])).await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    world.sim.advance(Duration::from_secs(5));
    let held = sent.load(Ordering::SeqCst);
    assert!((200..1_200).contains(&held), "{held} messages of 1 KiB");
    world.sim.run(async move { say(&client, "x").await }).unwrap();
}

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
fn a_message_beyond_the_maximum_is_not_sent_and_the_call_goes_on() {
    let mut world = World::new(19);
    let (near, far) = world.pair();
    let server = Server::new(router(&Arc::default()), &world.runtime);
    world.runtime.spawn(server.serve(far));
    let small = ExchangeConfig::builder().max_message(1_000).build().unwrap();
    let client = Client::with_limits(near, &world.runtime, small);
    world.sim.run(async move {
        let call = client.request("S.Sum").client_streaming::<Bytes, Bytes>();
        let (mut sender, answer) = call.await.unwrap();
        sender.send(&Bytes::from(vec![1; 1_000])).await.unwrap();
        let failed = sender.send(&Bytes::from(vec![1; 1_001])).await.unwrap_err();
        assert_eq!((failed.code(), failed.retryable()), (Code::BadRequest, Retryable::Never));
        sender.send(&Bytes::from("x")).await.unwrap();
        sender.finish().await.unwrap();
        assert_eq!(answer.await.unwrap().message, "1001");
    });
}

#[test]
fn a_deadline_that_passed_comes_before_messages_that_wait() {
    // spec.md §14.3.2
    let (mut world, client, _) = world(20);
    let mut answers = world.sim.run(async move {
        let call = client.request("S.Count").timeout(Some(Duration::from_secs(2)));
        call.server_streaming::<Bytes, Bytes>(&Bytes::from("10")).await.unwrap()
    });
    assert_eq!(answers.next().now_or_never().unwrap().unwrap().unwrap(), "0");
    world.sim.advance(Duration::from_secs(3));
    let late = answers.next().now_or_never().unwrap().unwrap().unwrap_err();
    assert_eq!(late.code(), Code::Timeout);
    assert!(answers.next().now_or_never().unwrap().is_none());
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
fn middleware_that_reads_a_request_sees_whether_it_was_finished() {
    let mut world = World::new(22);
    let (client, _) = world.serve(router(&Arc::default()));
    let seen = Arc::new(AtomicUsize::new(0));
    let reads = seen.clone();
    let layer = tower::layer::layer_fn(move |_| {
        let seen = reads.clone();
        tower::service_fn(move |mut request: Request| {
            let seen = seen.clone();
            async move {
                while let Some(message) = request.body.next().await {
                    message?;
                    seen.fetch_add(1, Ordering::SeqCst);
                }
                Ok::<_, Status>(Response::new(Body::single("read")))
            }
        })
    });
    let client = client.layer(&layer);
    world.sim.run(async move {
        for finish in [true, false] {
            let call = client.request("S.Sum").client_streaming::<Bytes, Bytes>();
            let (mut sender, answer) = call.await.unwrap();
            let send = async {
                for _ in 0..3 {
                    sender.send(&Bytes::from("x")).await.unwrap();
                }
                if finish { sender.finish().await.unwrap() } else { drop(sender) }
            };
            let (answer, ()) = futures::join!(answer, send);
            match finish {
                true => assert_eq!(answer.unwrap().message, "read"),
                false => assert_eq!(answer.unwrap_err().code(), Code::Cancelled),
            }
        }
    });
    assert_eq!(seen.load(Ordering::SeqCst), 6);
}

#[test]
fn a_stream_of_middleware_is_not_asked_beyond_its_end() {
    let mut world = World::new(23);
    let (client, _) = world.serve(router(&Arc::default()));
    let layer = tower::layer::layer_fn(|_| {
        tower::service_fn(|_: Request| async move {
            let mut said = vec![None, Some(Ok(Bytes::from("one")))];
            let items = stream::poll_fn(move |_| Poll::Ready(said.pop().expect("not ended")));
            Ok::<_, Status>(Response::new(Body::stream(items)))
        })
    });
    let client = client.layer(&layer);
    world.sim.run(async move {
        let call = client.request("S.Count");
        let mut items = call.server_streaming::<Bytes, Bytes>(&Bytes::new()).await.unwrap();
        assert_eq!(items.next().await.unwrap().unwrap(), "one");
        assert!(items.next().await.is_none() && items.next().await.is_none());
    });
}

#[test]
fn deadlines_hold_for_streams_too() {
    let (mut world, client, _) = world(9);
    let start = world.sim.now();
    let failed = world.sim.run_for(Duration::from_secs(20), async move {
        let call = client.request("S.Chat").timeout(Some(Duration::from_secs(2)));
        let (sender, mut answers) = call.bidirectional::<Bytes, Bytes>().await.unwrap();
        let failed = answers.next().await.unwrap().unwrap_err();
        drop(sender);
        failed
    });
    assert_eq!(failed.code(), Code::Timeout);
    assert_eq!((world.sim.now() - start).as_secs(), 2);
}

#[test]
fn a_sender_without_room_waits_no_longer_than_the_deadline() {
    // spec.md §15.6.4: whether or not anybody looks at the answer.
    let mut world = World::new(22);
    let (near, far) = world.pair();
    let client = Client::new(near, &world.runtime);
    let call = world.sim.spawn(async move {
        let call = client.request("S.Deaf").timeout(Some(Duration::from_secs(2)));
        let (mut sender, answer) = call.client_streaming::<Bytes, Bytes>().await.unwrap();
        let failed = loop {
            if let Err(status) = sender.send(&Bytes::from(vec![1; 100_000])).await {
                break status;
            }
        };
        let again = sender.send(&Bytes::from("x")).await.unwrap_err();
        (failed.code(), again.code(), answer.await.unwrap_err().code())
    });
    // A server that takes the call, and nothing of what comes.
    let mut stream = world.sim.run(async move { far.accept().await.unwrap() });
    world.sim.advance(Duration::from_millis(1_990));
    assert!(!call.is_ready());
    world.sim.advance(Duration::from_millis(20));
    assert_eq!(call.take(), Some((Code::Timeout, Code::Timeout, Code::Timeout)));
    // It is told that it was the time.
    let (_, error) = world.sim.run(async move { support::read_all(&mut stream).await });
    assert_eq!(error, Some(trunkline::StreamError::Reset(trunkline::ResetCode::EXPIRED)));
}

#[test]
fn a_streaming_call_has_no_deadline_by_default() {
    let (mut world, client, _) = world(10);
    let call = world.sim.spawn(async move {
        let call = client.request("S.Chat").bidirectional::<Bytes, Bytes>();
        let (mut sender, mut answers) = call.await.unwrap();
        let first = answers.next().now_or_never();
        (first.is_none(), async move {
            sender.send(&Bytes::from("late")).await.unwrap();
            answers.next().await.unwrap().unwrap()
        })
    });
    world.sim.advance(Duration::from_secs(200));
    let (waits, rest) = call.take().unwrap();
    assert!(waits);
    assert_eq!(world.sim.run(rest), "re: late");
}

#[test]
fn one_message_and_many_are_not_mixed_up() {
    let (mut world, client, _) = world(11);
    world.sim.run(async move {
        let failed = client.call::<_, Bytes>("S.Count", &Bytes::from("3")).await.unwrap_err();
        assert_eq!(failed.code(), Code::Protocol);
        let call = client.request("Echo.Say").client_streaming::<Bytes, Bytes>();
        let (sender, answer) = call.await.unwrap();
        let _ = sender.finish().await;
        assert_eq!(answer.await.unwrap_err().code(), Code::BadRequest);
        // One message where many may come is a stream of one.
        let sum = client.call::<_, Bytes>("S.Sum", &Bytes::from("four")).await;
        assert_eq!(sum.unwrap(), "4");
    });
}

#[test]
fn a_request_can_be_any_stream() {
    let (mut world, client, _) = world(12);
    world.sim.run(async move {
        let body = stream::iter((0..100).map(|_| Ok(Bytes::from(vec![1; 10]))));
        let response = client.send(Request::new("S.Sum", Body::stream(body))).await.unwrap();
        assert_eq!(response.body.into_single().unwrap(), "1000");
        // One that fails cancels the call.
        let body = stream::iter([Err(Status::new(Code::Unexpected, "lost"))]);
        assert!(client.send(Request::new("S.Sum", Body::stream(body))).await.is_err());
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

#[test]
fn calls_without_a_deadline_outlive_the_close_timeout() {
    // spec.md §7.4.4: their requests were finished long ago.
    let mut world = World::new(15);
    let hour = Duration::from_secs(3_600);
    let mut router = Router::bytes();
    let (clock, ticks) = (world.runtime.clone(), world.runtime.clone());
    router
        .unary("A.Late", move |_, _: Bytes| {
            let clock = clock.clone();
            async move {
                sleep(&clock, hour).await;
                Ok(Bytes::from("late"))
            }
        })
        .unwrap()
        .server_streaming("A.Ticks", move |_, _: Bytes| {
            let clock = ticks.clone();
            async move {
                Ok(stream::unfold(0, move |n| {
                    let clock = clock.clone();
                    async move {
                        sleep(&clock, hour).await;
                        (n < 3).then(|| (Ok(Bytes::from("tick")), n + 1))
                    }
                }))
            }
        })
        .unwrap();
    let (client, server) = world.serve(router);
    let unary = client.clone();
    let late = world.sim.spawn(async move {
        unary.request("A.Late").timeout(None).call::<_, Bytes>(&Bytes::new()).await
    });
    let ticks = world.sim.spawn(async move {
        let call = client.request("A.Ticks");
        let ticks = call.server_streaming::<_, Bytes>(&Bytes::new()).await.unwrap();
        ticks.collect::<Vec<_>>().await
    });
    world.sim.advance(hour * 5);
    assert_eq!(late.take().unwrap().unwrap(), "late");
    let ticks = ticks.take().unwrap();
    assert_eq!((ticks.len(), ticks.iter().all(Result::is_ok)), (3, true), "{ticks:?}");
    assert_eq!(server.stats().active, 0);
}
