//! Servers: limits, shutting down, accepting, sharing a session, and being routed through.
#![allow(clippy::unwrap_used)]

#[path = "support/calls.rs"]
mod calls;
#[path = "support/messages.rs"]
mod messages;
mod support;

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context as TaskContext, Waker},
    time::Duration,
};

use bytes::Bytes;
use calls::{World, chat, echo, say, sleep};
use futures::{AsyncWriteExt, StreamExt, stream};
use messages::message;
use parking_lot::Mutex;
use support::Flag;
use trunkline::{
    Dispatcher, Protocol,
    exchange::Kind,
    rpc::{
        Body, Client, Code, Connection, Metadata, Request, Response, Retryable, Router, Server,
        ServerBuilder, Status, Trailers, wire::RequestHead,
    },
};

#[test]
fn calls_that_never_wait_let_other_tasks_in() {
    let mut world = World::new(40);
    let server = Server::new(echo(&world.runtime), &world.runtime);
    let (near, far) = world.pair();
    let client = Client::new(near, &world.runtime);
    for _ in 0..200 {
        let client = client.clone();
        world.sim.spawn(async move { say(&client, "x").await.unwrap() });
    }
    world.sim.settle();
    // All are there, and each is answered when it is first looked at.
    let mut serving = pin!(server.serve(far));
    let flag = Arc::new(Flag::default());
    let waker = Waker::from(flag.clone());
    let mut poll = || serving.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_ready();
    assert!(!poll());
    assert_eq!((server.stats().done, flag.take()), (128, true), "a pause, and it goes on");
    assert!(!poll());
    assert_eq!((server.stats().done, flag.take()), (200, false));
}

#[test]
fn shutdown_waits_for_calls_that_run_and_refuses_others() {
    let mut world = World::new(1);
    let router = echo(&world.runtime);
    let (client, server) = world.serve(router);
    let slow = client.clone();
    let slow = world.sim.spawn(async move {
        slow.request("Echo.Slow").timeout(None).call::<_, Bytes>(&Bytes::from("done")).await
    });
    world.sim.settle();
    let closing = server.clone();
    let done = world.sim.spawn(async move { closing.shutdown(Duration::from_secs(300)).await });
    world.sim.advance(Duration::from_secs(1));
    let failed = world.sim.run(async move { client.retries_off("late").await });
    assert_eq!(failed.retryable(), Retryable::Always, "it reached no handler");
    assert_eq!(failed.code(), Code::Network, "the session said so before it was asked");
    assert!(!done.is_ready() && !slow.is_ready());
    world.sim.advance(Duration::from_secs(205));
    assert_eq!(slow.take().unwrap().unwrap(), "done");
    assert!(done.is_ready());
    assert_eq!((server.stats().sessions, server.stats().active), (0, 0));
}

trait RetriesOff {
    async fn retries_off(&self, text: &'static str) -> Status;
}

impl RetriesOff for Client {
    async fn retries_off(&self, text: &'static str) -> Status {
        let call = self.request("Echo.Say").retries(0);
        call.call::<_, Bytes>(&Bytes::from(text)).await.unwrap_err()
    }
}

#[test]
fn shutdown_ends_what_outlasts_the_grace() {
    let mut world = World::new(2);
    let router = echo(&world.runtime);
    let (client, server) = world.serve(router);
    let stuck = world.sim.spawn(async move {
        let call = client.request("Echo.Never").timeout(None);
        call.call::<_, Bytes>(&Bytes::new()).await
    });
    world.sim.settle();
    let start = world.sim.now();
    let closing = server.clone();
    world.sim.run_for(Duration::from_secs(30), async move {
        closing.shutdown(Duration::from_secs(10)).await;
    });
    let took = (world.sim.now() - start).as_secs();
    assert!((10..=13).contains(&took), "{took} s");
    world.sim.settle();
    let failed = stuck.take().unwrap().unwrap_err();
    assert_eq!((failed.code(), failed.retryable()), (Code::Network, Retryable::IfIdempotent));
    assert_eq!(server.stats().active, 0);
}

#[test]
fn abort_ends_everything_now() {
    let mut world = World::new(3);
    let router = echo(&world.runtime);
    let (client, server) = world.serve(router);
    let stuck = world.sim.spawn(async move {
        client.call::<_, Bytes>("Echo.Never", &Bytes::new()).await.unwrap_err()
    });
    world.sim.settle();
    server.abort();
    world.sim.settle();
    assert_eq!(stuck.take().unwrap().code(), Code::Network);
    assert_eq!(server.stats().active, 0);
}

#[test]
fn health_says_draining_while_a_shutdown_is_in_progress() {
    let mut world = World::new(4);
    let mut router = echo(&world.runtime);
    router.with_debug().unwrap();
    // Calls dwell here for as long as they say before they are looked at.
    let clock = world.runtime.clone();
    let dwelling = tower::service_fn(move |request: Request| {
        let (clock, router) = (clock.clone(), router.clone());
        async move {
            let dwell = request.metadata.text("dwell").and_then(|secs| secs.parse().ok());
            if let Some(secs) = dwell {
                sleep(&clock, Duration::from_secs(secs)).await;
            }
            tower::ServiceExt::oneshot(router, request).await
        }
    });
    let (client, server) = world.serve(dwelling);
    let ask = |dwell: &'static str| {
        let client = client.clone();
        async move {
            let call = client.request("Debug.Health").metadata("dwell", dwell);
            call.call::<_, Bytes>(&Bytes::new()).await
        }
    };
    let before = world.sim.spawn(ask("1"));
    let during = world.sim.spawn(ask("3"));
    world.sim.advance(Duration::from_secs(2));
    assert_eq!(before.take().unwrap().unwrap(), "{\"status\":\"serving\"}");
    let closing = server.clone();
    let done = world.sim.spawn(async move { closing.shutdown(Duration::from_secs(5)).await });
    world.sim.advance(Duration::from_secs(2));
    assert_eq!(during.take().unwrap().unwrap(), "{\"status\":\"draining\"}");
    world.sim.advance(Duration::from_secs(2));
    assert!(done.is_ready());
}

#[test]
fn a_call_beyond_the_limit_is_refused_and_may_be_repeated() {
    let mut world = World::new(5);
    let router = echo(&world.runtime);
    let (client, server) = world.serve_with(ServerBuilder::default().max_calls(2), router);
    for _ in 0..2 {
        let client = client.clone();
        world.sim.spawn(async move {
            let _ = client.request("Echo.Slow").timeout(None).call::<_, Bytes>(&Bytes::new()).await;
        });
    }
    world.sim.settle();
    let third = client.clone();
    let failed = world.sim.run(async move { third.retries_off("no").await });
    assert_eq!((failed.code(), failed.retryable()), (Code::Busy, Retryable::Always));
    assert_eq!((server.stats().active, server.stats().refused), (2, 1));
    // spec.md §15.7: so it is repeated, until there is room.
    let patient =
        client.clone().retries(1_000).backoff(Duration::from_secs(1), Duration::from_secs(1));
    let said = world.sim.run_for(Duration::from_secs(400), async move {
        let call = patient.request("Echo.Say").timeout(None);
        call.call::<_, Bytes>(&Bytes::from("yes")).await
    });
    assert_eq!(said.unwrap(), "yes");
}

#[test]
fn accepting_goes_on_after_errors_without_spinning() {
    let mut world = World::new(6);
    let router = echo(&world.runtime);
    let server = Server::new(router, &world.runtime);
    let (near, far) = world.pair();
    let tries = Arc::new(AtomicUsize::new(0));
    let tried = tries.clone();
    let mut session = Some(far);
    let listening = world.sim.spawn(server.clone().listen(move || {
        let n = tried.fetch_add(1, Ordering::SeqCst);
        let next = if n == 100 { session.take() } else { None };
        async move {
            match next {
                Some(session) => Ok((session, Connection::default())),
                None if n > 100 => std::future::pending().await,
                None => Err("no more descriptors"),
            }
        }
    }));
    world.sim.advance(Duration::from_millis(500));
    let soon = tries.load(Ordering::SeqCst);
    assert!((5..60).contains(&soon), "{soon} tries in half a second");
    world.sim.advance(Duration::from_secs(20));
    let client = Client::new(near, &world.runtime);
    world.sim.run(async move { say(&client, "x").await }).unwrap();
    let closing = server.clone();
    world.sim.run_for(Duration::from_secs(9), async move {
        closing.shutdown(Duration::ZERO).await;
    });
    world.sim.settle();
    assert!(listening.is_ready(), "shutdown ends listening");
}

#[test]
fn accepting_is_quick_again_after_a_success() {
    let mut world = World::new(13);
    let server = Server::new(echo(&world.runtime), &world.runtime);
    let (_near, far) = world.pair();
    let (tries, clock) = (Arc::new(Mutex::new(Vec::new())), world.runtime.clone());
    let tried = tries.clone();
    let mut session = Some(far);
    world.sim.spawn(server.clone().listen(move || {
        let mut tried = tried.lock();
        tried.push(clock.now());
        let next = if tried.len() == 40 { session.take() } else { None };
        async move {
            match next {
                Some(session) => Ok((session, Connection::default())),
                None => Err("no more descriptors"),
            }
        }
    }));
    world.sim.advance(Duration::from_secs(5));
    let tries = tries.lock();
    assert_eq!((tries[39] - tries[38]).as_millis(), 100);
    assert!((tries[41] - tries[40]).as_millis() <= 1, "{:?}", tries[41] - tries[40]);
}

#[test]
fn a_call_that_waited_while_the_server_shut_down_is_refused() {
    // spec.md §15.7.4
    let mut world = World::new(14);
    let (near, far) = world.pair();
    let mut dispatcher = Dispatcher::new(far.clone());
    let calls = dispatcher.serve(Protocol::RPC, 16).unwrap();
    world.runtime.spawn(dispatcher.run());
    let server = Server::new(echo(&world.runtime), &world.runtime);
    let serving = server.serve_streams(far, calls, Connection::default());
    let client = Client::new(near, &world.runtime);
    let call = world.sim.spawn(async move { client.retries_off("waits").await });
    world.sim.settle();
    // It waits for the server, which nobody polls yet.
    let closing = server.clone();
    let done = world.sim.spawn(async move { closing.shutdown(Duration::from_secs(10)).await });
    world.sim.settle();
    world.runtime.spawn(serving);
    world.sim.advance(Duration::from_secs(60));
    let failed = call.take().unwrap();
    assert_eq!((failed.code(), failed.retryable()), (Code::Busy, Retryable::Always));
    assert_eq!((server.stats().refused, server.stats().started), (1, 0));
    assert!(done.is_ready());
    // Nor is a session taken that comes later.
    let (near, far) = world.pair();
    world.runtime.spawn(server.serve(far));
    world.sim.settle();
    assert!(near.is_closed());
    assert_eq!(server.stats().sessions, 0);
}

#[test]
fn what_panics_while_it_is_dropped_harms_no_other_call() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("on purpose"));
        }
    }
    let mut world = World::new(15);
    let mut router = echo(&world.runtime);
    router
        .server_streaming("A.Bomb", |_, said: Bytes| async move {
            let bomb = Bomb;
            Ok(stream::iter([Ok(said)]).map(move |said| {
                let _bomb = &bomb;
                said
            }))
        })
        .unwrap();
    let (client, server) = world.serve(router);
    world.sim.run(async move {
        let call = client.request("A.Bomb");
        let mut said = call.server_streaming::<_, Bytes>(&Bytes::from("x")).await.unwrap();
        assert_eq!(said.next().await.unwrap().unwrap(), "x");
        drop(said);
        say(&client, "y").await.unwrap();
    });
    world.sim.settle();
    assert_eq!(server.stats().active, 0);
}

#[test]
fn a_request_that_came_in_pieces_may_stream_for_long() {
    let mut world = World::new(16);
    let (near, far) = world.pair();
    let server = Server::new(echo(&world.runtime), &world.runtime);
    world.runtime.spawn(server.serve(far));
    let mut request = Vec::new();
    let head = RequestHead { streaming: true, method: "Echo.Chat".into(), ..Default::default() };
    head.encode(&mut request).unwrap();
    let mut bytes = message(Kind::Request, &request);
    let later = bytes.split_off(5);
    let stream = world.sim.run(async move {
        let mut stream = Dispatcher::open(&near, Protocol::RPC).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        support::pause(50).await;
        stream.write_all(&later).await.unwrap();
        stream
    });
    world.sim.advance(Duration::from_secs(60));
    assert_eq!(server.stats().active, 1);
    let heard = world.sim.run(async move {
        let mut stream = stream;
        stream.write_all(&message(Kind::Message, b"late")).await.unwrap();
        stream.close().await.unwrap();
        support::read_all(&mut stream).await
    });
    assert!(heard.1.is_none() && heard.0.windows(4).any(|part| part == b"late"), "{heard:?}");
}

#[test]
fn a_full_server_accepts_no_session_until_one_ends() {
    let mut world = World::new(7);
    let builder = ServerBuilder::default().max_sessions(1);
    let server = builder.build(echo(&world.runtime), &world.runtime).unwrap();
    let pairs: Vec<_> = (0..2).map(|_| world.pair()).collect();
    let (near, far): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    let mut far = far.into_iter();
    world.sim.spawn(server.clone().listen(move || {
        let next = far.next();
        async move {
            match next {
                Some(session) => Ok::<_, &str>((session, Connection::default())),
                None => std::future::pending().await,
            }
        }
    }));
    world.sim.settle();
    assert_eq!(server.stats().sessions, 1);
    let first = near[0].clone();
    world.sim.run_for(Duration::from_secs(9), async move { first.close().await }).unwrap();
    world.sim.settle();
    let second = Client::new(near[1].clone(), &world.runtime);
    world.sim.run(async move { say(&second, "x").await }).unwrap();
}

#[test]
fn calls_share_a_session_with_other_protocols() {
    // spec.md §10
    let mut world = World::new(8);
    let (near, far) = world.pair();
    let mut dispatcher = Dispatcher::new(far.clone());
    let calls = dispatcher.serve(Protocol::RPC, 16).unwrap();
    let mut raw = dispatcher.serve(Protocol::RAW, 16).unwrap();
    world.runtime.spawn(dispatcher.run());
    let server = Server::new(echo(&world.runtime), &world.runtime);
    world.runtime.spawn(server.serve_streams(far, calls, Connection::default()));
    let client = Client::new(near.clone(), &world.runtime);
    world.sim.run(async move {
        let mut plain = Dispatcher::open(&near, Protocol::RAW).await.unwrap();
        AsyncWriteExt::close(&mut plain).await.unwrap();
        assert_eq!(say(&client, "beside").await.unwrap(), "beside");
        assert!(raw.next().await.is_some());
    });
}

#[test]
fn a_stream_of_another_protocol_is_reset_alone() {
    let mut world = World::new(9);
    let (near, far) = world.pair();
    let server = Server::new(echo(&world.runtime), &world.runtime);
    world.runtime.spawn(server.serve(far));
    let client = Client::new(near.clone(), &world.runtime);
    world.sim.run(async move {
        let mut other = Dispatcher::open(&near, Protocol::EXCHANGE).await.unwrap();
        let (_, error) = support::read_all(&mut other).await;
        let code = trunkline::ResetCode::UNKNOWN_PROTOCOL;
        assert_eq!(error, Some(trunkline::StreamError::Reset(code)));
        say(&client, "x").await.unwrap();
    });
}

#[test]
fn a_request_that_does_not_arrive_ends_by_itself() {
    let mut world = World::new(10);
    let (near, far) = world.pair();
    let server = Server::new(echo(&world.runtime), &world.runtime);
    world.runtime.spawn(server.serve(far));
    let mut silent =
        world.sim.run(async move { Dispatcher::open(&near, Protocol::RPC).await.unwrap() });
    world.sim.advance(Duration::from_secs(9));
    assert_eq!(server.stats().active, 1);
    world.sim.advance(Duration::from_secs(2));
    assert_eq!((server.stats().active, server.stats().failed), (0, 1));
    world.sim.run(async move { drop(support::read_all(&mut silent).await) });
}

#[test]
fn a_router_of_ones_own_forwards_what_it_does_not_know() {
    let mut world = World::new(11);
    let mut behind = echo(&world.runtime);
    behind
        .server_streaming("Far.Count", |_, _: Bytes| async move {
            Ok(stream::iter((0..10).map(|n| Ok(Bytes::from(n.to_string())))))
        })
        .unwrap();
    let (inner, far) = world.serve(behind);
    let mut router = Router::bytes();
    router.unary("Near.Say", |_, said: Bytes| async move { Ok(said) }).unwrap();
    router.fallback(move |request: Request| {
        let inner = inner.clone();
        async move { inner.send(request).await }
    });
    let (client, near) = world.serve(router);
    world.sim.run(async move {
        assert_eq!(client.call::<_, Bytes>("Near.Say", &Bytes::from("a")).await.unwrap(), "a");
        assert_eq!(say(&client, "b").await.unwrap(), "b");
        let call = client.request("Far.Count");
        let items: Vec<_> = call
            .server_streaming::<Bytes, Bytes>(&Bytes::new())
            .await
            .unwrap()
            .map(Result::unwrap)
            .collect()
            .await;
        assert_eq!(items.len(), 10);
        chat(&client, 10).await;
        let failed = client.call::<_, Bytes>("Echo.Panic", &Bytes::new()).await.unwrap_err();
        assert_eq!(failed.code(), Code::Internal);
    });
    world.sim.settle();
    assert_eq!((near.stats().started, far.stats().started), (5, 4));
    assert_eq!((near.stats().active, far.stats().active), (0, 0));
}

/// Answers with all that it was told, as it came.
fn telling() -> Router {
    let mut router = Router::bytes();
    router.fallback(|mut request: Request| async move {
        let mut seen = format!(
            "{}|{}|{}|{}|{:?}|",
            request.service,
            request.method,
            request.content_type,
            request.accept,
            request.metadata.iter().collect::<Vec<_>>()
        )
        .into_bytes();
        while let Some(message) = request.body.next().await {
            let message = message?;
            seen.extend((message.len() as u32).to_be_bytes());
            seen.extend(message);
        }
        let mut response = if request.metadata.text("many").is_some() {
            let parts: Vec<_> = seen.chunks(1_000).map(Bytes::copy_from_slice).collect();
            Response::new(Body::stream(stream::iter(parts.into_iter().map(Ok))))
        } else {
            Response::new(Body::single(seen))
        };
        response.content_type = "text/x".into();
        response.headers.append("early", vec![0, 255]);
        response.trailers = Trailers::new({
            let mut trailers = Metadata::new();
            trailers.append("late", "1");
            trailers.append("late", "2");
            trailers
        });
        Ok(response)
    });
    router
}

#[test]
fn what_is_forwarded_arrives_byte_for_byte() {
    let mut world = World::new(12);
    let (direct, _) = world.serve(telling());
    let inner = direct.clone();
    let mut router = Router::bytes();
    router.fallback(move |request: Request| {
        let inner = inner.clone();
        async move { inner.send(request).await }
    });
    let (forwarded, _) = world.serve(router);
    let bodies: [fn() -> Body; 4] = [
        || Body::single(support::pattern(1, 300_000)),
        || Body::single(""),
        || {
            Body::stream(stream::iter(
                (0..20).map(|n| Ok(support::pattern(n, n as usize * 500).into())),
            ))
        },
        || Body::stream(stream::empty()),
    ];
    for body in bodies {
        for many in [false, true] {
            let mut answers = Vec::new();
            for client in [direct.clone(), forwarded.clone()] {
                answers.push(world.sim.run_for(Duration::from_secs(20), async move {
                    let mut request = Request::new("Some.Method", body());
                    request.service = "far away".into();
                    request.content_type = "text/y".into();
                    request.accept = "text/x".into();
                    request.metadata.append("a", vec![0, 159, 146, 150]);
                    request.metadata.append("a", "again");
                    if many {
                        request.metadata.append("many", "");
                    }
                    let mut response = client.send(request).await.unwrap();
                    let mut parts = Vec::new();
                    while let Some(part) = response.body.next().await {
                        parts.push(part.unwrap());
                    }
                    let Response { content_type, headers, trailers, .. } = response;
                    (content_type, headers, trailers.get(), parts)
                }));
            }
            assert!(answers[0] == answers[1], "not the same through the forwarding server");
            assert_eq!((answers[0].2.len(), answers[0].1.len()), (2, 1));
        }
    }
}
