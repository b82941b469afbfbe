//! Calls with many messages: in either direction, with half close and back-pressure.
#![allow(clippy::unwrap_used)]

#[path = "support/calls.rs"]
mod calls;
#[path = "support/streaming.rs"]
mod streaming;
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use calls::{World, say};
use futures::{StreamExt, stream};
use streaming::{router, world};
use trunkline::{
    exchange::ExchangeConfig,
    rpc::{Body, Client, Code, Request, Response, Retryable, Server, Status},
};

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
