//! Calls of one message each way: statuses, metadata, options.
#![allow(clippy::unwrap_used)]

#[path = "support/calls.rs"]
mod calls;
mod support;

use std::time::Duration;

use bytes::Bytes;
use calls::{World, echo, say};
use futures::{FutureExt, future::join_all};
use trunkline::rpc::{
    Body, Client, Code, Connection, Context, Request, Response, Retryable, Router, Server,
    ServerBuilder, Status,
};

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

/// Who stands between a caller and the handlers sees what a handler would.
#[test]
fn a_request_says_what_its_handler_would_know() {
    let mut world = World::new(37);
    let mut router = Router::bytes();
    router.fallback(|mut request: Request| async move {
        request.metadata.insert("Hops", "2");
        let context = request.context().unwrap();
        let hops = context.metadata().text("hops").unwrap();
        let said = format!("{} {hops} {:?}", context.method(), context.deadline());
        context.set_trailer("Seen", "yes");
        assert_eq!(context.deadline(), request.deadline);
        Ok(Response::new(Body::single(said)))
    });
    let (client, _) = world.serve(router);
    assert!(Request::new("A.B", Body::single("")).context().is_none());
    world.sim.run(async move {
        let call = client.request("A.B").metadata("Hops", "1").timeout(None);
        let reply = call.reply::<_, Bytes>(&Bytes::new()).await.unwrap();
        assert_eq!(reply.message, "A.B 2 None");
        assert_eq!(reply.trailers.text("seen"), Some("yes"));
    });
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
