//! Until when calls with many messages may last.
#![allow(clippy::unwrap_used)]

#[path = "support/calls.rs"]
mod calls;
#[path = "support/streaming.rs"]
mod streaming;
mod support;

use std::time::Duration;

use bytes::Bytes;
use calls::{World, sleep};
use futures::{FutureExt, StreamExt, stream};
use streaming::world;
use trunkline::rpc::{Client, Code, Router};

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
