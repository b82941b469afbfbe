//! A waker may be the last owner of a task, and the task of a stream: letting go of one while the
//! session is locked would lock it again.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    sync::{Arc, Mutex, mpsc},
    task::{Context, Wake, Waker},
    time::Duration,
};

use futures::StreamExt;
use support::Sim;
use trunkline::{
    Stream,
    runtime::{BoxFuture, ManualTimer, Timer},
};

/// A task that nothing but its wakers keeps alive.
struct Owner {
    _stream: Mutex<Option<Stream>>,
}

impl Wake for Owner {
    fn wake(self: Arc<Self>) {}
}

/// Runs `act` on a thread of its own, which is left behind if it never comes back.
fn on_thread(what: &str, act: impl FnOnce() + Send + 'static) {
    let (done, finished) = mpsc::channel();
    std::thread::spawn(move || {
        act();
        let _ = done.send(());
    });
    assert!(finished.recv_timeout(Duration::from_secs(60)).is_ok(), "deadlock: {what}");
}

#[test]
fn incoming_dropped_with_the_last_waker() {
    let mut sim = Sim::new(1);
    let (client, _server) = sim.pair(4096);
    let owned = client.try_open().unwrap();
    sim.settle();
    let mut incoming = client.incoming();
    let waker = Waker::from(Arc::new(Owner { _stream: Mutex::new(Some(owned)) }));
    assert!(incoming.poll_next_unpin(&mut Context::from_waker(&waker)).is_pending());
    drop(waker);
    on_thread("stop_waiting", move || drop(incoming));
}

#[test]
fn ping_dropped_with_the_last_waker() {
    let mut sim = Sim::new(1);
    let (client, _server) = sim.pair(4096);
    let owned = client.try_open().unwrap();
    sim.settle();
    let mut ping = {
        let c = client.clone();
        Box::pin(async move { c.ping().await })
    };
    let waker = Waker::from(Arc::new(Owner { _stream: Mutex::new(Some(owned)) }));
    assert!(ping.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    drop(waker);
    on_thread("forget_pong", move || drop(ping));
}

/// A task that sleeps.
struct Task {
    _sleep: Mutex<Option<BoxFuture>>,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn manual_sleep_dropped_with_the_last_waker() {
    let timer = ManualTimer::new();
    let at = timer.now() + Duration::from_secs(1);
    let mut other = timer.sleep_until(at);
    let _ = other.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    let mut sleep = timer.sleep_until(at);
    let waker = Waker::from(Arc::new(Task { _sleep: Mutex::new(Some(other)) }));
    let _ = sleep.as_mut().poll(&mut Context::from_waker(&waker));
    drop(waker);
    on_thread("ManualSleep::drop", move || drop(sleep));
}
