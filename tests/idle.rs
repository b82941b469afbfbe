//! What costs nothing: idle and finished sessions are not polled.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::{AsyncReadExt, AsyncWriteExt, FutureExt};
use support::{Counted, Sim, read_all};
use trunkline::{Session, transport::memory};

/// A future that counts its polls, and panics if it is polled once done.
struct Polled<F> {
    future: F,
    polls: Rc<Cell<u64>>,
    done: bool,
}

impl<F: Future + Unpin> Future for Polled<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        assert!(!self.done, "polled after its end");
        self.polls.set(self.polls.get() + 1);
        let result = Pin::new(&mut self.future).poll(cx);
        self.done = result.is_ready();
        result
    }
}

/// Two joined sessions, and the polls of each driver and each IO.
struct Watched {
    client: Session,
    server: Session,
    drivers: [Rc<Cell<u64>>; 2],
    ios: [Arc<AtomicU64>; 2],
}

impl Watched {
    fn new(sim: &mut Sim, config: trunkline::Config) -> Self {
        let (left, right) = memory::duplex(4096);
        let ios: [Arc<AtomicU64>; 2] = Default::default();
        let drivers: [Rc<Cell<u64>>; 2] = Default::default();
        let left = Counted { io: left, polls: ios[0].clone() };
        let right = Counted { io: right, polls: ios[1].clone() };
        let (client, driver) = Session::client_local(left, config.clone());
        let (server, peer) = Session::server_local(right, config);
        sim.spawn(Polled { future: driver, polls: drivers[0].clone(), done: false });
        sim.spawn(Polled { future: peer, polls: drivers[1].clone(), done: false });
        Self { client, server, drivers, ios }
    }

    fn polls(&self) -> [u64; 4] {
        let io = |number: usize| self.ios[number].load(Ordering::SeqCst);
        [self.drivers[0].get(), self.drivers[1].get(), io(0), io(1)]
    }
}

#[test]
fn an_idle_session_is_not_polled() {
    let mut sim = Sim::new(1);
    let config = sim.config().keepalive(None).build().unwrap();
    let watched = Watched::new(&mut sim, config);
    let (client, server) = (watched.client.clone(), watched.server.clone());
    let streams = sim.run(async move {
        let mut near = client.open().await.unwrap();
        near.write_all(b"hello").await.unwrap();
        let mut far = server.accept().await.unwrap();
        far.read_exact(&mut [0; 5]).await.unwrap();
        far.write_all(b"answer").await.unwrap();
        near.read_exact(&mut [0; 6]).await.unwrap();
        (near, far)
    });
    sim.advance(Duration::from_secs(1));
    let before = watched.polls();
    assert!(before[0] < 20 && before[1] < 20, "{before:?} polls for one question");
    // The open timeout of a stream that was acknowledged may pass in vain, once, and the buffers
    // of an idle session are given back.
    sim.advance(Duration::from_secs(100));
    let once = watched.polls();
    assert!(once[0] <= before[0] + 3 && once[1] <= before[1] + 3, "{before:?} {once:?}");
    sim.advance(Duration::from_secs(1_000_000));
    assert_eq!(watched.polls(), once);
    drop(streams);
}

#[test]
fn a_keepalive_costs_a_few_polls() {
    let mut sim = Sim::new(1);
    let config = sim.config().build().unwrap();
    let watched = Watched::new(&mut sim, config);
    sim.settle();
    let before = watched.polls();
    sim.advance(Duration::from_secs(3_600));
    let after = watched.polls();
    // 120 to 134 intervals, each with a ping, a pong and a sleep.
    assert!(after[0] - before[0] < 134 * 6, "{before:?} {after:?}");
    assert!(!watched.client.is_closed() && !watched.server.is_closed());
}

#[test]
fn one_message_costs_few_polls_of_a_driver() {
    let mut sim = Sim::new(1);
    let config = sim.config().keepalive(None).max_stream_window(262_144).build().unwrap();
    let watched = Watched::new(&mut sim, config);
    let (client, server) = (watched.client.clone(), watched.server.clone());
    let (mut near, mut far) = sim.run(async move {
        let mut near = client.open().await.unwrap();
        near.write_all(b"x").await.unwrap();
        let mut far = server.accept().await.unwrap();
        far.read_exact(&mut [0]).await.unwrap();
        (near, far)
    });
    sim.advance(Duration::from_secs(1));
    let before = watched.polls();
    let _streams = sim.run(async move {
        for _ in 0..100 {
            near.write_all(&[1; 100]).await.unwrap();
            far.read_exact(&mut [0; 100]).await.unwrap();
            far.write_all(&[2; 100]).await.unwrap();
            near.read_exact(&mut [0; 100]).await.unwrap();
        }
        (near, far)
    });
    let after = watched.polls();
    for driver in 0..2 {
        let polls = after[driver] - before[driver];
        assert!(polls <= 250, "{polls} polls for 100 messages each way");
        // Of the IO: a write, a flush, a read, and one more that waits. None is tried in vain.
        let polls = after[2 + driver] - before[2 + driver];
        assert!(polls <= 410, "{polls} polls of the IO for 100 messages each way");
    }
}

#[test]
fn after_the_end_nothing_is_polled() {
    // spec.md §8.5.3
    let mut sim = Sim::new(2);
    let config = sim.config().build().unwrap();
    let watched = Watched::new(&mut sim, config);
    let (client, server) = (watched.client.clone(), watched.server.clone());
    let mut held = sim.run(async move {
        let mut near = client.open().await.unwrap();
        near.write_all(b"hello").await.unwrap();
        let far = server.accept().await.unwrap();
        client.abort(trunkline::GoAwayCode::NORMAL);
        client.closed().await.unwrap_err();
        (near, far)
    });
    sim.settle();
    assert!(watched.client.is_closed() && watched.server.is_closed());
    let before = watched.polls();
    // Handles that live on cause no work.
    assert!(held.0.write(b"x").now_or_never().unwrap().is_err());
    read_all(&mut held.1).now_or_never().unwrap();
    drop(held);
    let _ = watched.client.try_open();
    let _ = watched.client.ping().now_or_never();
    watched.server.go_away();
    watched.client.abort(trunkline::GoAwayCode::NORMAL);
    let _ = watched.client.close().now_or_never();
    sim.advance(Duration::from_secs(100_000));
    assert_eq!(watched.polls(), before);
}

#[test]
fn lingering_does_not_spin() {
    // spec.md §8.3.3: the other end neither reads nor closes.
    let mut sim = Sim::new(3);
    let config = sim.config().build().unwrap();
    let (left, _right) = memory::duplex(1 << 16);
    let polls = Rc::new(Cell::new(0));
    let (client, driver) = Session::client_local(left, config);
    sim.spawn(Polled { future: driver, polls: polls.clone(), done: false });
    let closing = sim.spawn(async move { client.close().await });
    sim.advance(Duration::from_secs(10));
    assert_eq!(closing.take(), Some(Ok(())));
    assert!(polls.get() <= 6, "{} polls", polls.get());
}
