//! What becomes of calls between being accepted and being served, and between being sent and
//! being answered.
#![allow(clippy::unwrap_used)]

#[path = "support/calls.rs"]
mod calls;
mod support;

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context as TaskContext, Poll, Waker},
};

use bytes::Bytes;
use calls::{World, echo};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use support::Flag;
use trunkline::{
    Config, Session,
    rpc::{Client, Router, Server, ServerBuilder, Status},
    runtime::Runtime,
    transport::memory,
};

type Call = BoxFuture<'static, Result<Bytes, Status>>;

/// Two joined sessions that anyone may drive, handlers too.
#[derive(Clone)]
struct Line(Arc<Mutex<[BoxFuture<'static, ()>; 2]>>);

impl Line {
    fn new() -> (Self, Session, Session) {
        let (left, right) = memory::duplex(1 << 20);
        let (near, driver) = Session::client(left, Config::default());
        let (far, peer) = Session::server(right, Config::default());
        let drivers: [BoxFuture<'static, ()>; 2] =
            [Box::pin(async { driver.await.unwrap() }), Box::pin(async { peer.await.unwrap() })];
        (Self(Arc::new(Mutex::new(drivers))), near, far)
    }

    /// All that was written arrives.
    fn drive(&self) {
        for _ in 0..8 {
            self.0.lock().iter_mut().for_each(|driver| assert!(!look(driver)));
        }
    }
}

/// One poll; whether it is over.
fn look(future: &mut BoxFuture<'static, ()>) -> bool {
    poll(future, Waker::noop()).is_ready()
}

fn poll<F: Future + ?Sized>(future: &mut Pin<Box<F>>, waker: &Waker) -> Poll<F::Output> {
    future.as_mut().poll(&mut TaskContext::from_waker(waker))
}

/// Calls that were sent.
fn sent(client: &Client, method: &'static str, count: usize) -> Vec<Call> {
    let start = |_| -> Call {
        let client = client.clone();
        let call = async move {
            let call = client.request(method).timeout(None);
            call.call::<_, Bytes>(&Bytes::from("x")).await
        };
        let mut call: Call = Box::pin(call);
        assert!(poll(&mut call, Waker::noop()).is_pending());
        call
    };
    (0..count).map(start).collect()
}

#[test]
fn calls_that_were_not_begun_are_left_to_who_serves_next() {
    let (line, near, far) = Line::new();
    let runtime = Runtime::new(|_| panic!("nothing here waits"));
    let server = Server::new(echo(&runtime), &runtime);
    let client = Client::new(near, &runtime).retries(0);
    let mut calls = sent(&client, "Echo.Say", 140);
    line.drive();
    // The pause for others comes in the middle.
    let mut serving: BoxFuture<'static, ()> = Box::pin(server.serve(far.clone()));
    assert!(!look(&mut serving));
    assert_eq!((server.stats().done, server.stats().active), (128, 0));
    drop(serving);
    let mut serving: BoxFuture<'static, ()> = Box::pin(server.serve(far));
    assert!(!look(&mut serving));
    line.drive();
    for call in &mut calls {
        assert_eq!(poll(call, Waker::noop()).map(Result::unwrap), Poll::Ready("x".into()));
    }
    assert_eq!((server.stats().started, server.stats().done), (140, 140));
}

#[test]
fn a_call_given_up_while_it_waits_for_its_turn_is_not_begun() {
    let (line, near, far) = Line::new();
    let runtime = Runtime::new(|_| panic!("nothing here waits"));
    let waiting = Arc::new(Mutex::new(Vec::<Call>::new()));
    let begun = Arc::new(AtomicUsize::new(0));
    let mut router = Router::bytes();
    let (others, peers) = (waiting.clone(), line.clone());
    let count = begun.clone();
    router
        .unary("Line.GiveUp", move |_, said: Bytes| {
            others.lock().clear();
            peers.drive();
            async move { Ok(said) }
        })
        .unwrap()
        .unary("Line.Count", move |_, said: Bytes| {
            count.fetch_add(1, Ordering::SeqCst);
            async move { Ok(said) }
        })
        .unwrap();
    let server = Server::new(router, &runtime);
    let client = Client::new(near, &runtime);
    let mut first = sent(&client, "Line.GiveUp", 1).remove(0);
    waiting.lock().extend(sent(&client, "Line.Count", 3));
    line.drive();
    let mut serving: BoxFuture<'static, ()> = Box::pin(server.serve(far));
    assert!(!look(&mut serving));
    line.drive();
    assert!(poll(&mut first, Waker::noop()).is_ready());
    assert_eq!((begun.load(Ordering::SeqCst), server.stats().active), (0, 0));
}

#[test]
fn who_polled_a_call_last_hears_of_the_answer() {
    for moves in [0, 1, 2] {
        for answered_first in [false, true] {
            let mut world = World::new(moves);
            let (near, far) = world.pair();
            let server = Server::new(echo(&world.runtime), &world.runtime);
            let client = Client::new(near, &world.runtime);
            let flags: Vec<_> = (0..=moves).map(|_| Arc::new(Flag::default())).collect();
            let mut call: Call = Box::pin(async move { calls::say(&client, "x").await });
            let mut poll = |flag: &Arc<Flag>| poll(&mut call, &Waker::from(flag.clone()));
            assert!(poll(&flags[0]).is_pending());
            world.sim.settle();
            if answered_first {
                world.runtime.spawn(server.serve(far.clone()));
                world.sim.settle();
                assert!(flags[0].take());
                let last = flags.last().unwrap();
                assert_eq!(poll(last).map(Result::unwrap), Poll::Ready("x".into()));
                continue;
            }
            for flag in &flags[1..] {
                assert!(poll(flag).is_pending());
            }
            world.runtime.spawn(server.serve(far));
            world.sim.settle();
            let (last, others) = flags.split_last().unwrap();
            assert!(last.take() && others.iter().all(|other| other.wakes() == 0));
            assert_eq!(poll(last).map(Result::unwrap), Poll::Ready("x".into()));
        }
    }
}

#[test]
fn calls_that_are_tasks_of_their_own_do_not_wait_for_each_other() {
    let (line, near, far) = Line::new();
    let tasks = Arc::new(Mutex::new(Vec::new()));
    let spawned = tasks.clone();
    let runtime = Runtime::new(move |task| spawned.lock().push(task));
    let server = ServerBuilder::default().spawn_each(true).build(echo(&runtime), &runtime).unwrap();
    let client = Client::new(near, &runtime);
    let mut calls = sent(&client, "Echo.Say", 3);
    line.drive();
    let mut serving: BoxFuture<'static, ()> = Box::pin(server.serve(far));
    assert!(!look(&mut serving));
    assert_eq!((tasks.lock().len(), server.stats().active, server.stats().done), (3, 3, 0));
    // The last is answered while the first may still compute.
    assert!(look(&mut tasks.lock()[2]));
    line.drive();
    assert!(poll(&mut calls[2], Waker::noop()).is_ready());
    assert!(poll(&mut calls[0], Waker::noop()).is_pending());
    // A task that the runtime drops before its first poll counts too.
    tasks.lock().clear();
    assert_eq!((server.stats().active, server.stats().done, server.stats().cancelled), (0, 1, 2));
}
