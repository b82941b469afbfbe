//! Bodies: how they are encoded, and how long they may be.
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
use calls::{World, echo, say};
use futures::stream;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use trunkline::{
    exchange::ExchangeConfig,
    rpc::{
        Body, Client, Code, Context, Receiver, Request, Router, Server, ServerBuilder, Status,
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
        let text = "the request cannot be decoded: invalid type: string \"x\", expected i64";
        assert!(failed.message().starts_with(text), "{failed}");
        // The answer: found here, and not repeated.
        let call = client.request("A.Text").idempotent().retries(5);
        let failed = call.call::<i64, i64>(&7).await.unwrap_err();
        assert_eq!((failed.code(), failed.is_remote()), (Code::Protocol, false));
        let text = "the answer cannot be decoded: invalid type: string \"7\", expected i64";
        assert!(failed.message().starts_with(text), "{failed}");
        // Of a long story the beginning.
        let failed = client.call::<_, String>("A.Text", &"x".repeat(100_000)).await.unwrap_err();
        assert!((256..300).contains(&failed.message().len()), "{}", failed.message().len());
        assert_eq!(client.call::<i64, String>("A.Text", &7).await.unwrap(), "7");
    });
    assert_eq!(server.stats().started, 4);
}

/// Keeps what is logged.
struct Kept(Mutex<Vec<String>>);

static KEPT: Kept = Kept(Mutex::new(Vec::new()));

impl log::Log for Kept {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        self.0.lock().push(record.args().to_string());
    }

    fn flush(&self) {}
}

#[test]
fn the_log_says_of_which_method_a_body_cannot_be_decoded() {
    log::set_logger(&KEPT).unwrap();
    log::set_max_level(log::LevelFilter::Debug);
    let mut world = World::new(31);
    let mut router = Router::json();
    router.unary("A.Logged", |_, n: i64| async move { Ok(n) }).unwrap();
    let (client, _) = world.serve(router);
    let client = client.json();
    world.sim.run(async move {
        client.call::<_, i64>("A.Logged", "x").await.unwrap_err();
        client.call::<_, String>("A.Logged", &1).await.unwrap_err();
    });
    let kept = KEPT.0.lock();
    for body in ["request", "answer"] {
        let start = format!("A.Logged: the {body} cannot be decoded: invalid type");
        assert!(kept.iter().any(|line| line.starts_with(&start)), "{body}: {kept:?}");
    }
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
        assert!(failed.message().starts_with("the request cannot be decoded: "), "{failed}");
        // The answer: found here, and the rest is not waited for.
        let call = client.request("A.Words");
        let mut words = call.server_streaming::<i64, i64>(&1_000_000).await.unwrap();
        assert_eq!(words.next().await.unwrap().unwrap(), 0);
        let failed = words.next().await.unwrap().unwrap_err();
        assert_eq!((failed.code(), failed.is_remote()), (Code::Protocol, false));
        assert!(failed.message().starts_with("the answer cannot be decoded: "), "{failed}");
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
