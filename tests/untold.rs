//! What has arrived, or can be written, is not given up, though nobody was woken for it yet.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, FutureExt, task::noop_waker_ref,
};
use support::{ACK, GO_AWAY, PING, SYN, Sim, data, header};
use trunkline::{Session, SessionError};

/// What goes on below, of which the reactor tells nobody.
#[derive(Clone, Default)]
struct Untold {
    arrived: Arc<Mutex<VecDeque<u8>>>,
    broken: Arc<AtomicBool>,
    full: Arc<AtomicBool>,
}

impl AsyncRead for Untold {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut arrived = self.arrived.lock().unwrap();
        let len = arrived.len().min(out.len());
        if len == 0 {
            return Poll::Pending;
        }
        for (to, from) in out.iter_mut().zip(arrived.drain(..len)) {
            *to = from;
        }
        Poll::Ready(Ok(len))
    }
}

impl AsyncWrite for Untold {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.broken.load(Ordering::SeqCst) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if self.full.load(Ordering::SeqCst) {
            return Poll::Pending;
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

// spec.md §8.6.1: the write that fails is the first to know that the peer went; what it sent
// before has arrived, even if nobody was woken for it yet.
#[test]
fn a_failed_write_does_not_lose_what_nobody_was_woken_for() {
    let mut sim = Sim::new(3);
    let io = Untold::default();
    let (client, driver) =
        Session::client(io.clone(), sim.config().keepalive(None).build().unwrap());
    let ended = sim.spawn(driver);
    let mut stream = client.try_open().unwrap();
    let mut stream = sim.run(async move {
        stream.write_all(b"ask").await.unwrap();
        stream.flush().await.unwrap();
        stream
    });
    sim.settle();
    let mut input = data(ACK, 1, b"answer");
    input.extend(data(SYN, 2, b"and more"));
    input.extend(header(GO_AWAY, 0, 0, 0));
    io.arrived.lock().unwrap().extend(input);
    io.broken.store(true, Ordering::SeqCst);
    let answer = sim.run(async move {
        stream.write_all(b"ask again").await.unwrap();
        let mut answer = [0; 6];
        stream.read_exact(&mut answer).await.map(|()| answer)
    });
    assert_eq!(answer.ok(), Some(*b"answer"));
    sim.settle();
    assert_eq!(ended.take(), Some(Err(SessionError::Io(io::ErrorKind::BrokenPipe))));
}

// spec.md §7.2.2: a process that was frozen finds its timers due and the answer there, and may hear
// of the timers first.
#[test]
fn what_has_arrived_is_read_before_time_runs_out() {
    let mut sim = Sim::new(4);
    let io = Untold::default();
    let (keepalive, patience) = (Duration::from_secs(10), Duration::from_secs(5));
    let config = sim.config().keepalive(Some(keepalive)).ping_timeout(patience).build().unwrap();
    let (_client, driver) = Session::client(io.clone(), config);
    let ended = sim.spawn(driver);
    sim.advance(keepalive);
    io.arrived.lock().unwrap().extend(data(SYN, 2, b"here"));
    sim.advance(patience);
    assert_eq!(ended.take(), None, "it has answered");
    sim.advance(keepalive + patience);
    assert_eq!(ended.take(), Some(Err(SessionError::KeepaliveTimeout)));
}

// spec.md §7.5.1: the same of what the peer takes.
#[test]
fn what_can_be_written_is_written_before_time_runs_out() {
    let mut sim = Sim::new(5);
    let io = Untold::default();
    let patience = Duration::from_secs(5);
    let config = sim.config().keepalive(None).write_timeout(Some(patience)).build().unwrap();
    let (client, driver) = Session::client(io.clone(), config);
    let ended = sim.spawn(driver);
    let mut stream = client.try_open().unwrap();
    io.full.store(true, Ordering::SeqCst);
    let written = sim.spawn(async move {
        stream.write_all(b"ask").await.unwrap();
        stream.flush().await.unwrap();
        stream
    });
    sim.advance(patience / 2);
    assert!(!written.is_ready());
    io.full.store(false, Ordering::SeqCst);
    sim.advance(patience);
    assert_eq!(ended.take(), None, "there is room");
    assert!(written.is_ready());
}

// spec.md §7.2.2: the same where the process stands still before the driver could sleep again.
#[test]
fn what_has_arrived_is_read_before_time_runs_out_for_a_driver_that_does_not_sleep() {
    let mut sim = Sim::new(6);
    let io = Untold::default();
    let (keepalive, patience) = (Duration::from_secs(10), Duration::from_secs(5));
    let config = sim.config().accept_backlog(16).keepalive(Some(keepalive));
    let config = config.ping_timeout(patience).build().unwrap();
    let (client, mut driver) = Session::client(io.clone(), config);
    let mut poll = || driver.poll_unpin(&mut Context::from_waker(noop_waker_ref()));
    for id in [2, 4, 6, 8, 10] {
        io.arrived.lock().unwrap().extend(data(SYN, id, b"hello"));
    }
    for _ in 0..4 {
        assert!(poll().is_pending());
    }
    sim.advance(keepalive);
    // Many ACKs are owed: the driver comes back for them without having slept.
    let streams: Vec<_> = (0..5).map(|_| client.accept().now_or_never().unwrap()).collect();
    assert!(poll().is_pending());
    io.arrived.lock().unwrap().extend(data(0, 2, b"here"));
    sim.advance(patience);
    for _ in 0..4 {
        assert!(poll().is_pending(), "it has answered");
    }
    drop(streams);
}

// spec.md §7.2.2: the same where the process stands still when the question was just decided on.
#[test]
fn what_has_arrived_is_read_before_time_runs_out_for_a_question_that_is_not_sent_yet() {
    let mut sim = Sim::new(7);
    let io = Untold::default();
    let (keepalive, patience) = (Duration::from_secs(10), Duration::from_secs(5));
    let config = sim.config().keepalive(Some(keepalive)).ping_timeout(patience).build().unwrap();
    let (_client, mut driver) = Session::client(io.clone(), config);
    let mut poll = || driver.poll_unpin(&mut Context::from_waker(noop_waker_ref()));
    for _ in 0..4 {
        assert!(poll().is_pending());
    }
    sim.advance(keepalive);
    // It is due: the driver comes back to send the question, without having slept.
    assert!(poll().is_pending());
    io.arrived.lock().unwrap().extend(header(PING, SYN, 0, 7));
    sim.advance(patience);
    for _ in 0..4 {
        assert!(poll().is_pending(), "the peer was there");
    }
    assert!(io.arrived.lock().unwrap().is_empty());
}

// spec.md §7.5.1: nothing more is to be read, and what is to be written is not taken.
#[test]
fn time_runs_out_though_there_is_nothing_more_to_read() {
    let mut sim = Sim::new(8);
    let io = Ended;
    let config = sim.config().keepalive(None).write_timeout(Some(Duration::from_secs(5)));
    let config = config.linger(Duration::from_secs(2)).build().unwrap();
    let (client, driver) = Session::client(io, config);
    let ended = sim.spawn(driver);
    sim.advance(Duration::from_secs(60));
    drop(client);
    assert!(ended.take().is_some());
}

/// Its peer has gone; it neither takes bytes nor closes.
struct Ended;

impl AsyncRead for Ended {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(0))
    }
}

impl AsyncWrite for Ended {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}
