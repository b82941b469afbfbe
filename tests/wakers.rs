//! A waker may be the last owner of a task, and the task of a stream: letting go of one while the
//! session is locked would lock it again.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

use futures::{AsyncReadExt, AsyncWriteExt, FutureExt, StreamExt};
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

/// Counts what is woken, over all wakers of one task.
#[derive(Default)]
struct Fresh(AtomicU64);

struct One(Arc<Fresh>);

impl Wake for One {
    fn wake(self: Arc<Self>) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Fresh {
    /// Polls three times, each with a waker of its own: waiting wakes nobody.
    fn poll<F: Future + Unpin>(self: &Arc<Self>, what: &str, future: &mut F) {
        for _ in 0..3 {
            let waker = Waker::from(Arc::new(One(self.clone())));
            assert!(future.poll_unpin(&mut Context::from_waker(&waker)).is_pending(), "{what}");
        }
        assert_eq!(self.0.load(Ordering::Relaxed), 0, "{what}");
    }
}

/// Some executors make a waker for each poll. Was the one before woken when it is replaced, such a
/// task would never sleep.
#[test]
fn a_waker_that_is_replaced_is_not_woken() {
    let mut sim = Sim::new(4);
    let config = sim.config().max_outbound_streams(1).build().unwrap();
    let (client, server) = sim.pair_with(1 << 16, config.clone(), config);
    let (mut near, fresh) = (client.try_open().unwrap(), Arc::new(Fresh::default()));
    fresh.poll("open", &mut Box::pin(client.open()));
    fresh.poll("accept", &mut Box::pin(client.accept()));
    fresh.poll("closed", &mut Box::pin(client.closed()));
    fresh.poll("ping", &mut Box::pin(server.ping()));
    fresh.poll("read", &mut near.read(&mut [0]));
    fresh.poll("write", &mut near.write_all(&[0; 1 << 20]));
    fresh.poll("close", &mut near.close());
    let (mut left, _right) = trunkline::transport::memory::duplex(8);
    fresh.poll("duplex, reading", &mut left.read(&mut [0]));
    fresh.poll("duplex, writing", &mut left.write_all(&[0; 9]));
    // The last one is.
    let waker = Waker::from(Arc::new(One(fresh.clone())));
    let mut accepted = Box::pin(server.accept());
    assert!(accepted.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
    sim.settle();
    assert!(fresh.0.load(Ordering::Relaxed) >= 1);
}
