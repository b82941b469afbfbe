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
use support::{Sim, joined};
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

/// Does something as soon as it is woken, where the waker is called.
struct Act<F>(Mutex<Option<F>>);

impl<F: FnOnce() + Send + 'static> Wake for Act<F> {
    fn wake(self: Arc<Self>) {
        let act = self.0.lock().unwrap().take();
        act.into_iter().for_each(|act| act());
    }
}

/// Two tasks share a stream. While the one that waits for its end is about to be woken, behind many
/// others, the other one reads the last byte, and the stream is let go.
#[test]
fn who_lets_a_stream_go_wakes_who_still_waits_on_it() {
    let mut sim = Sim::new(3);
    let (client, server) = sim.pair(1 << 16);
    let (mut near, far) = sim.run(async move {
        let (mut near, mut far) = (Vec::new(), Vec::new());
        for _ in 0..20 {
            let (mut ours, theirs) = joined(&client, &server).await;
            ours.close().await.unwrap();
            near.push(ours);
            far.push(theirs);
        }
        (near, far)
    });
    let shared = Arc::new(Mutex::new(near.pop().unwrap()));
    let reader = shared.clone();
    let reads = Waker::from(Arc::new(Act(Mutex::new(Some(move || {
        let read = reader.lock().unwrap().read(&mut [0; 8]).now_or_never();
        assert_eq!(read.unwrap().unwrap(), 1);
    })))));
    for stream in &mut near {
        let mut buffer = [0];
        let mut read = stream.read(&mut buffer);
        assert!(read.poll_unpin(&mut Context::from_waker(&reads)).is_pending());
    }
    let fresh = Arc::new(Fresh::default());
    fresh.poll("ended", &mut Box::pin(shared.lock().unwrap().ended()));
    sim.run(async move {
        // In one batch.
        let closed = far.into_iter().map(|mut theirs| async move {
            theirs.write_all(b"x").await.unwrap();
            theirs.close().await.unwrap();
        });
        futures::future::join_all(closed).await;
    });
    sim.settle();
    assert_eq!(fresh.0.load(Ordering::Relaxed), 1, "it ended, and nobody told the one who waits");
    assert_eq!(shared.lock().unwrap().ended().now_or_never(), Some(Ok(())));
}
