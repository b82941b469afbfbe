//! Calls of one message each way: codecs, statuses, metadata, deadlines.
#![allow(clippy::unwrap_used)]

#[path = "support/calls.rs"]
mod calls;
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context as TaskContext, Waker},
    time::Duration,
};

use bytes::Bytes;
use calls::{World, echo, say, sleep};
use futures::{
    FutureExt,
    future::{BoxFuture, join_all},
    stream,
};
use serde::{Deserialize, Serialize};
use support::Flag;
use trunkline::{
    exchange::ExchangeConfig,
    rpc::{
        Attempt, Body, Client, Code, Connection, Context, Endpoint, MethodKind, Receiver,
        RegisterError, Request, Response, Retryable, Router, Server, ServerBuilder, Status,
        codec::{Json, Protobuf},
    },
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Point {
    x: i64,
    label: String,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
struct Number {
    #[prost(int64, tag = "1")]
    value: i64,
}

/// What only sometimes is a number.
#[derive(Serialize)]
#[serde(untagged)]
enum Word {
    Number(i64),
    Text(&'static str),
}

#[test]
fn bytes_come_back() {
    let mut world = World::new(1);
    let router = echo(&world.runtime);
    let (client, _) = world.serve(router);
    let heard = world.sim.run(async move { say(&client, "hello").await });
    assert_eq!(heard.unwrap(), "hello");
}

#[test]
fn large_messages_come_back_whole() {
    // spec.md §14.2.6
    let mut world = World::new(2);
    let router = echo(&world.runtime);
    let (client, _) = world.serve(router);
    world.sim.run_for(Duration::from_secs(60), async move {
        for len in [2_047, 2_048, 2_049, 65_536, 262_143, 262_144, 262_145, 1_000_000, 4_000_000] {
            let body = Bytes::from(support::pattern(len as u64, len));
            let heard: Bytes = client.call("Echo.Say", &body).await.unwrap();
            assert!(heard == body, "{len} bytes");
        }
    });
}

#[test]
fn json_is_spoken_with_types() {
    let mut world = World::new(3);
    let mut router = Router::json();
    router
        .unary("Plane.Move", |_, point: Point| async move { Ok(Point { x: point.x + 1, ..point }) })
        .unwrap();
    let (client, _) = world.serve(router);
    let moved = world.sim.run(async move {
        let point = Point { x: 41, label: "é".into() };
        client.json().call::<Point, Point>("Plane.Move", &point).await
    });
    assert_eq!(moved.unwrap(), Point { x: 42, label: "é".into() });
}

#[test]
fn one_method_speaks_several_codecs_by_content_type() {
    // spec.md §15.4
    let mut world = World::new(4);
    let mut router = Router::with_codec((Protobuf, Json));
    router
        .unary("Math.Double", |_, n: Number| async move { Ok(Number { value: n.value * 2 }) })
        .unwrap();
    let (client, _) = world.serve(router);
    world.sim.run(async move {
        let asked = Number { value: 21 };
        let proto = client.clone().protobuf().call::<_, Number>("Math.Double", &asked).await;
        assert_eq!(proto.unwrap().value, 42);
        let json = client.clone().json().call::<_, Number>("Math.Double", &asked).await;
        assert_eq!(json.unwrap().value, 42);
        // The answer in another type than the question.
        let both = client.clone().with_codec((Json, Protobuf));
        let call = both.request("Math.Double").accept("application/protobuf");
        assert_eq!(call.call::<_, Number>(&asked).await.unwrap().value, 42);
        // None named: the server's default.
        let raw = client.send(Request::new("Math.Double", Body::single(vec![8, 21])));
        assert_eq!(raw.await.unwrap().body.into_single().unwrap(), vec![8, 42]);
    });
}

#[test]
fn an_unknown_content_type_costs_the_call_only() {
    let mut world = World::new(5);
    let ran = Arc::new(AtomicUsize::new(0));
    let mut router = Router::json();
    let runs = ran.clone();
    router
        .unary("A.B", move |_, n: i64| {
            runs.fetch_add(1, Ordering::SeqCst);
            async move { Ok(n) }
        })
        .unwrap();
    let (client, _) = world.serve(router);
    world.sim.run(async move {
        // The server does not speak it.
        let failed: Status = client.call::<_, Bytes>("A.B", &Bytes::from("1")).await.unwrap_err();
        assert_eq!((failed.code(), failed.is_remote()), (Code::UnsupportedType, true));
        // Nor could it answer in it.
        let both = client.clone().with_codec((Json, Protobuf));
        let body = Body::single("1");
        let mut request = Request::new("A.B", body);
        request.accept = "application/protobuf".into();
        let failed = both.send(request).await.unwrap_err();
        assert_eq!(failed.code(), Code::UnsupportedType);
        // The client does not speak it: nothing is sent.
        let json = client.json();
        let failed = json.request("A.B").content_type("text/x").call::<_, i64>(&1).await;
        let failed = failed.unwrap_err();
        assert_eq!((failed.code(), failed.is_remote()), (Code::UnsupportedType, false));
        let failed = json.request("A.B").accept("text/x").call::<_, i64>(&1).await.unwrap_err();
        assert_eq!((failed.code(), failed.is_remote()), (Code::UnsupportedType, false));
        let begun = json.request("A.B").accept("text/x").bidirectional::<i64, i64>().await;
        assert_eq!(begun.unwrap_err().code(), Code::UnsupportedType);
        assert_eq!(json.call::<_, i64>("A.B", &1).await, Ok(1));
    });
    assert_eq!(ran.load(Ordering::SeqCst), 1, "the handler ran for the good call only");
}

#[test]
fn bodies_that_cannot_be_decoded_are_told_apart() {
    let mut world = World::new(6);
    let mut router = Router::json();
    router.unary("A.Text", |_, n: i64| async move { Ok(format!("{n}")) }).unwrap();
    let (client, server) = world.serve(router);
    let client = client.json();
    world.sim.run(async move {
        // The request: the server says so.
        let failed = client.call::<_, String>("A.Text", "x").await.unwrap_err();
        assert_eq!((failed.code(), failed.is_remote()), (Code::BadRequest, true));
        // The answer: found here, and not repeated.
        let call = client.request("A.Text").idempotent().retries(5);
        let failed = call.call::<i64, i64>(&7).await.unwrap_err();
        assert_eq!((failed.code(), failed.is_remote()), (Code::BadRequest, false));
        assert_eq!(client.call::<i64, String>("A.Text", &7).await.unwrap(), "7");
    });
    assert_eq!(server.stats().started, 3);
}

#[test]
fn one_bad_message_of_many_ends_its_stream() {
    // spec.md §15.4.2
    let mut world = World::new(30);
    let mut router = Router::json();
    router
        .client_streaming("A.Sum", |_, mut numbers: Receiver<i64, Json>| async move {
            let mut sum = 0;
            while let Some(n) = numbers.next().await {
                sum += n?;
            }
            Ok(sum)
        })
        .unwrap()
        .server_streaming("A.Words", |_, n: i64| async move {
            Ok(stream::iter(
                (0..n).map(|n| Ok(if n == 1 { Word::Text("x") } else { Word::Number(n) })),
            ))
        })
        .unwrap();
    let (client, server) = world.serve(router);
    let client = client.json();
    world.sim.run(async move {
        // The request: the handler is told, and with it the caller.
        let call = client.request("A.Sum").client_streaming::<Word, i64>();
        let (mut sender, answer) = call.await.unwrap();
        for message in [Word::Number(1), Word::Text("x"), Word::Number(2)] {
            let _ = sender.send(&message).await;
        }
        let _ = sender.finish().await;
        let failed = answer.await.unwrap_err();
        assert_eq!((failed.code(), failed.is_remote()), (Code::BadRequest, true));
        // The answer: found here, and the rest is not waited for.
        let call = client.request("A.Words");
        let mut words = call.server_streaming::<i64, i64>(&1_000_000).await.unwrap();
        assert_eq!(words.next().await.unwrap().unwrap(), 0);
        let failed = words.next().await.unwrap().unwrap_err();
        assert_eq!((failed.code(), failed.is_remote()), (Code::BadRequest, false));
        assert!(words.next().await.is_none());
        let call = client.request("A.Sum").client_streaming::<i64, i64>();
        let (mut sender, answer) = call.await.unwrap();
        sender.send(&5).await.unwrap();
        sender.finish().await.unwrap();
        assert_eq!(answer.await.unwrap().message, 5);
    });
    world.sim.settle();
    assert_eq!(server.stats().active, 0, "who answers without end was told to stop");
}

#[test]
fn what_is_not_there_has_a_status_each() {
    // spec.md §15.5
    let mut world = World::new(7);
    let router = echo(&world.runtime);
    let (client, _) = world.serve(router);
    world.sim.run(async move {
        let nothing = Bytes::new();
        for (name, code) in [
            ("Nodot", Code::BadRequest),
            (".Say", Code::BadRequest),
            ("Echo.", Code::BadRequest),
            ("Nobody.Say", Code::NotFound),
            ("Echo.Shout", Code::Unimplemented),
        ] {
            let failed = client.call::<_, Bytes>(name, &nothing).await.unwrap_err();
            assert_eq!(failed.code(), code, "{name}");
            assert_eq!(failed.retryable(), Retryable::Never);
        }
        assert_eq!(
            client.call::<_, Bytes>("", &nothing).await.unwrap_err().code(),
            Code::BadRequest
        );
        assert!(say(&client, "still there").await.is_ok());
    });
}

#[test]
fn a_failing_handler_says_code_words_and_details() {
    let mut world = World::new(8);
    let mut router = Router::bytes();
    router
        .unary("A.Fail", |_, details: Bytes| async move {
            Err::<Bytes, _>(Status::new(Code::Conflict, "taken").with_details(details))
        })
        .unwrap()
        .unary("A.Long", |_, _: Bytes| async move {
            Err::<Bytes, _>(Status::new(Code::Other(200), "x".repeat(1 << 20)))
        })
        .unwrap();
    let (client, server) = world.serve(router);
    world.sim.run(async move {
        let failed = client.call::<_, Bytes>("A.Fail", &Bytes::from("why")).await.unwrap_err();
        assert_eq!(failed.code(), Code::Conflict);
        assert_eq!((failed.message(), &failed.details()[..]), ("taken", &b"why"[..]));
        let failed = client.call::<_, Bytes>("A.Long", &Bytes::new()).await.unwrap_err();
        assert_eq!((failed.code(), failed.message().len()), (Code::Other(200), 4_096));
    });
    assert_eq!(server.stats().failed, 2);
}

#[test]
fn a_panic_is_one_calls_own() {
    for spawn_each in [false, true] {
        let mut world = World::new(9);
        let router = echo(&world.runtime);
        let builder = ServerBuilder::default().spawn_each(spawn_each);
        let (client, server) = world.serve_with(builder, router);
        world.sim.run(async move {
            let failed = client.call::<_, Bytes>("Echo.Panic", &Bytes::new()).await.unwrap_err();
            assert_eq!(failed.code(), Code::Internal);
            assert_eq!(say(&client, "next").await.unwrap(), "next");
        });
        assert_eq!((server.stats().panicked, server.stats().done), (1, 1));
    }
}

#[test]
fn a_slow_call_delays_no_other() {
    let mut world = World::new(10);
    let router = echo(&world.runtime);
    let (client, server) = world.serve(router);
    let slow = client.clone();
    let slow = world.sim.spawn(async move {
        slow.request("Echo.Slow").timeout(None).call::<_, Bytes>(&Bytes::from("slow")).await
    });
    world.sim.settle();
    let before = world.sim.now();
    world.sim.run(async move { say(&client, "fast").await }).unwrap();
    assert!(world.sim.now() - before < Duration::from_millis(50));
    assert!(!slow.is_ready());
    assert_eq!(server.stats().active, 1);
    world.sim.advance(Duration::from_secs(201));
    assert_eq!(slow.take().unwrap().unwrap(), "slow");
}

#[test]
fn a_thousand_calls_share_a_session() {
    let mut world = World::new(11);
    let router = echo(&world.runtime);
    let (client, server) = world.serve(router);
    let answers = world.sim.run_for(Duration::from_secs(10), async move {
        let calls = (0..1_000_u32).map(|n| {
            let client = client.clone();
            async move {
                let body = Bytes::copy_from_slice(&n.to_be_bytes());
                client.call::<_, Bytes>("Echo.Say", &body).await.unwrap() == body
            }
        });
        join_all(calls).await
    });
    assert!(answers.into_iter().all(|same| same));
    world.sim.settle();
    assert_eq!((server.stats().done, server.stats().active), (1_000, 0));
}

#[test]
fn metadata_goes_both_ways() {
    let mut world = World::new(12);
    let mut router = Router::bytes();
    router
        .unary("A.Meta", |ctx: Context, _: Bytes| async move {
            ctx.set_header("Early", "1");
            ctx.set_trailer("Late", "2");
            assert_eq!(ctx.method(), "A.Meta");
            Ok(Bytes::from(ctx.metadata().text("trace-id").unwrap_or("none").to_owned()))
        })
        .unwrap();
    let (client, _) = world.serve(router);
    let reply = world.sim.run(async move {
        let call = client.request("A.Meta").metadata("Trace-Id", "77").metadata(":peer", "root");
        call.reply::<Bytes, Bytes>(&Bytes::new()).await.unwrap()
    });
    assert_eq!(reply.message, "77");
    assert_eq!(reply.headers.text("early"), Some("1"));
    assert_eq!(reply.trailers.text("late"), Some("2"));
}

#[test]
fn addresses_come_from_the_acceptor_alone() {
    let mut world = World::new(13);
    let mut router = Router::bytes();
    router
        .unary("A.Who", |ctx: Context, _: Bytes| async move {
            let who = [ctx.local_addr(), ctx.remote_addr(), ctx.peer()];
            Ok(Bytes::from(who.map(|part| part.unwrap_or("?").to_owned()).join(" ")))
        })
        .unwrap();
    let server = Server::new(router, &world.runtime);
    let (near, far) = world.pair();
    let connection = Connection {
        local_addr: Some("here:1".into()),
        remote_addr: Some("there:2".into()),
        peer: None,
    };
    world.runtime.spawn(server.serve_connection(far, connection));
    let client = Client::new(near, &world.runtime);
    let who: Bytes = world.sim.run(async move {
        let call = client.request("A.Who");
        let call = call.metadata("peer", "root").metadata(":peer", "root");
        call.metadata("remote_addr", "1.1.1.1").call(&Bytes::new()).await.unwrap()
    });
    assert_eq!(who, "here:1 there:2 ?");
}

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
fn messages_beyond_the_maximum_fail_alone() {
    let mut world = World::new(20);
    let small = ExchangeConfig::builder().max_message(1_000).build().unwrap();
    let router = echo(&world.runtime);
    let (client, server) =
        world.serve_with(ServerBuilder::default().exchange(small), router.clone());
    let (near, far) = world.pair();
    world.runtime.spawn(Server::new(router, &world.runtime).serve(far));
    let limited = Client::with_limits(near, &world.runtime, small);
    world.sim.run(async move {
        // The server's limit.
        let failed = client.call::<_, Bytes>("Echo.Say", &Bytes::from(vec![0; 2_000])).await;
        assert_eq!(failed.unwrap_err().code(), Code::Protocol);
        assert!(say(&client, "small").await.is_ok());
        // The client's, for what it sends.
        let failed = limited.call::<_, Bytes>("Echo.Say", &Bytes::from(vec![0; 2_000])).await;
        assert_eq!(failed.unwrap_err().code(), Code::BadRequest);
        assert!(say(&limited, "small").await.is_ok());
    });
    assert_eq!(server.stats().done, 1);
}

#[test]
fn an_answer_beyond_the_maximum_is_not_sent() {
    // spec.md §15.3.6
    let mut world = World::new(25);
    let small = ExchangeConfig::builder().max_message(1_000).build().unwrap();
    let mut router = echo(&world.runtime);
    router
        .unary("A.Large", |_, _: Bytes| async move { Ok(Bytes::from(vec![0; 1_001])) })
        .unwrap()
        .unary("A.Details", |_, _: Bytes| async move {
            Err::<Bytes, _>(Status::new(Code::Conflict, "no").with_details(vec![0; 1_001]))
        })
        .unwrap()
        .server_streaming("A.Many", |_, _: Bytes| async move {
            Ok(stream::iter([1, 1_001, 1].map(|len| Ok(Bytes::from(vec![0; len])))))
        })
        .unwrap();
    let builder = ServerBuilder::default().exchange(small);
    let (client, server) = world.serve_with(builder, router);
    world.sim.run(async move {
        for name in ["A.Large", "A.Details"] {
            let failed = client.call::<_, Bytes>(name, &Bytes::new()).await.unwrap_err();
            assert_eq!((failed.code(), failed.is_remote()), (Code::Unexpected, true), "{name}");
        }
        let call = client.request("A.Many");
        let mut answers = call.server_streaming::<_, Bytes>(&Bytes::new()).await.unwrap();
        assert_eq!(answers.next().await.unwrap().unwrap().len(), 1);
        let failed = answers.next().await.unwrap().unwrap_err();
        assert_eq!((failed.code(), failed.is_remote()), (Code::Unexpected, true));
        assert!(say(&client, "small").await.is_ok());
    });
    assert_eq!((server.stats().done, server.stats().failed), (1, 3));
}

#[test]
fn a_name_or_a_value_that_is_too_long_fails_alone() {
    // spec.md §15.2.1
    let mut world = World::new(26);
    let mut router = echo(&world.runtime);
    router
        .unary("A.Header", |ctx: Context, said: Bytes| async move {
            ctx.set_header("long", vec![0; 65_536]);
            Ok(said)
        })
        .unwrap();
    let (client, server) = world.serve(router);
    world.sim.run(async move {
        let nothing = Bytes::new();
        let failed = client.call::<_, Bytes>("A.Header", &nothing).await.unwrap_err();
        assert_eq!((failed.code(), failed.is_remote()), (Code::Unexpected, true));
        let long = format!("A.{}", "b".repeat(254));
        let failed = client.call::<_, Bytes>(long, &nothing).await.unwrap_err();
        assert_eq!((failed.code(), failed.is_remote()), (Code::BadRequest, false));
        let call = client.request("Echo.Say").metadata("long", vec![0; 65_536]);
        let failed = call.call::<_, Bytes>(&nothing).await.unwrap_err();
        assert_eq!((failed.code(), failed.is_remote()), (Code::BadRequest, false));
        let call = client.request("Echo.Say").metadata("fits", vec![0; 65_535]);
        assert!(call.call::<_, Bytes>(&nothing).await.is_ok());
    });
    world.sim.settle();
    assert_eq!(server.stats().started, 2);
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

#[test]
fn every_code_says_whether_a_call_may_be_repeated() {
    // spec.md §15.7
    for number in 1..=255 {
        let code = Code::from_number(number);
        let expected = match code {
            Code::Busy | Code::Network | Code::Unavailable => Retryable::IfIdempotent,
            _ => Retryable::Never,
        };
        assert_eq!(Status::new(code, "").retryable(), expected, "{code}");
    }
}

#[test]
fn bad_registrations_leave_the_router_usable() {
    let mut router = echo(&World::new(21).runtime);
    let before = router.endpoints().count();
    let same = |_: Context, said: Bytes| async move { Ok(said) };
    let long = format!("A.{}", "b".repeat(254));
    for name in ["", "x", ".x", "x.", &long] {
        let name = name.to_owned();
        let failed = router.unary(name, same).map(drop);
        assert!(matches!(&failed, Err(RegisterError::BadName(_))), "{failed:?}");
    }
    let failed = router.unary("Echo.Say", same).map(drop);
    assert_eq!(failed, Err(RegisterError::Duplicate("Echo.Say".into())));
    let failed = router.merge(&echo(&World::new(21).runtime)).map(drop);
    assert!(matches!(failed, Err(RegisterError::Duplicate(_))), "{failed:?}");
    assert_eq!(router.endpoints().count(), before);
    router.unary("Echo.Other", same).unwrap();
    assert_eq!(router.endpoints().count(), before + 1);
}

#[test]
fn endpoints_tell_all_about_a_method() {
    let mut router = Router::json();
    router.describe("since", "2.0");
    router.unary("A.B", |_, n: i64| async move { Ok(n.to_string()) }).unwrap();
    let same = |_: Context, messages: Receiver<i64, Json>| async move { Ok(messages) };
    let many = |_: Context, n: i64| async move { Ok(stream::iter([Ok(n.to_string())])) };
    let last = |_: Context, _: Receiver<String, Json>| async move { Ok(7_u8) };
    router.describe("since", "2.1").describe("by", "us").client_streaming("A.Up", last).unwrap();
    router.server_streaming("A.Down", many).unwrap().bidirectional("A.Both", same).unwrap();
    router.with_debug().unwrap();
    let find = |name: &str| -> Endpoint {
        router.endpoints().find(|endpoint| endpoint.name == name).unwrap().clone()
    };
    let endpoint = find("A.B");
    assert_eq!(endpoint.kind, MethodKind::Unary);
    assert_eq!((endpoint.request, endpoint.response), ("i64", "alloc::string::String"));
    assert_eq!(endpoint.metadata.text("since"), Some("2.0"));
    let [up, down, both] = ["A.Up", "A.Down", "A.Both"].map(find);
    assert_eq!((up.kind, up.request, up.response), {
        (MethodKind::ClientStreaming, "alloc::string::String", "u8")
    });
    assert_eq!((up.metadata.text("since"), up.metadata.text("by")), (Some("2.1"), Some("us")));
    assert_eq!((down.kind, down.request, down.response), {
        (MethodKind::ServerStreaming, "i64", "alloc::string::String")
    });
    assert_eq!((both.kind, both.request, both.response), (MethodKind::Bidirectional, "i64", "i64"));
    assert!(down.metadata.is_empty() && both.metadata.is_empty());
    let names: Vec<_> = router.endpoints().map(|endpoint| endpoint.name.to_string()).collect();
    assert_eq!(names, ["A.B", "A.Both", "A.Down", "A.Up", "Debug.Health", "Debug.Stats"]);
    assert!(find("Debug.Health").metadata.is_empty() && find("Debug.Stats").request == "()");
}

#[test]
fn health_and_stats_are_methods() {
    let mut world = World::new(22);
    let mut router = echo(&world.runtime);
    router.with_debug().unwrap();
    let (client, server) = world.serve(router);
    world.sim.run(async move {
        let health = client.call::<_, Bytes>("Debug.Health", &Bytes::new()).await.unwrap();
        assert_eq!(health, "{\"status\":\"serving\"}");
        let stats = client.clone().json();
        #[derive(Deserialize)]
        struct Stats {
            started: u64,
            active: u64,
            sessions: u64,
        }
        let stats: Stats = stats.call("Debug.Stats", &()).await.unwrap();
        assert_eq!((stats.started, stats.active, stats.sessions), (2, 1, 1));
    });
    assert_eq!(server.stats().done, 2);
}

#[test]
fn an_option_of_one_call_does_not_stick() {
    let mut world = World::new(23);
    let mut router = Router::bytes();
    router
        .unary("A.Meta", |ctx: Context, _: Bytes| async move {
            Ok(Bytes::from(ctx.metadata().len().to_string()))
        })
        .unwrap();
    let (client, _) = world.serve(router);
    world.sim.run(async move {
        let call = client.request("A.Meta").metadata("a", "1");
        assert_eq!(call.call::<_, Bytes>(&Bytes::new()).await.unwrap(), "1");
        assert_eq!(client.call::<_, Bytes>("A.Meta", &Bytes::new()).await.unwrap(), "0");
    });
}

#[test]
fn a_call_that_is_never_polled_does_nothing() {
    let mut world = World::new(24);
    let router = echo(&world.runtime);
    let (client, server) = world.serve(router);
    drop(say(&client, "x"));
    assert!(say(&client, "x").now_or_never().is_none());
    world.sim.settle();
    assert!(server.stats().started <= 1);
}

#[test]
fn a_client_can_be_bound_to_a_service_and_a_call_unbound() {
    let mut world = World::new(28);
    let mut router = Router::bytes();
    router.fallback(|request: Request| async move {
        Ok(Response::new(Body::single(request.service.to_string())))
    });
    let (client, _) = world.serve(router);
    let bound = client.clone().service("orders");
    let other = bound.clone().service("stock");
    world.sim.run(async move {
        let body = Bytes::new();
        for (client, name) in [(&client, ""), (&bound, "orders"), (&other, "stock")] {
            assert_eq!(client.call::<_, Bytes>("A.B", &body).await.unwrap(), name);
            let sent = client.send(Request::new("A.B", Body::single(""))).await.unwrap();
            assert_eq!(sent.body.into_single().unwrap(), name);
            let call = client.request("A.B").service("this one");
            assert_eq!(call.call::<_, Bytes>(&body).await.unwrap(), "this one");
        }
    });
}
