//! The driver and its clock: what is due happens, however busy the IO and however moody the timer.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, FutureExt};
use support::{Flag, PING, SYN, WINDOW, header, inner};
use trunkline::{
    Config, Driver, Session, SessionError, Stream, StreamError, WriteHalf,
    runtime::{BoxFuture, ManualTimer, Timer},
    transport::memory,
};

/// A clock whose sleeps, while `spent`, do not look at it: they wake who polls them and ask to be
/// polled again, as those of a runtime do that gives every task a budget.
#[derive(Debug, Default)]
struct Moody {
    clock: ManualTimer,
    spent: Arc<AtomicBool>,
    polls: Arc<AtomicU64>,
}

impl Timer for Moody {
    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn sleep_until(&self, at: Instant) -> BoxFuture {
        let (spent, polls) = (self.spent.clone(), self.polls.clone());
        let mut sleep = self.clock.sleep_until(at);
        Box::pin(std::future::poll_fn(move |cx| {
            polls.fetch_add(1, Ordering::SeqCst);
            if spent.load(Ordering::SeqCst) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            sleep.as_mut().poll(cx)
        }))
    }
}

/// Polls until nobody wakes it any more.
fn settle<F: Future + Unpin>(future: &mut F, flag: &Arc<Flag>) -> Poll<F::Output> {
    let waker = Waker::from(flag.clone());
    for _ in 0..1_000 {
        let result = Pin::new(&mut *future).poll(&mut Context::from_waker(&waker));
        if result.is_ready() || !flag.take() {
            return result;
        }
    }
    panic!("it never falls asleep");
}

#[test]
fn a_sleep_that_asks_to_be_polled_again_is() {
    // spec.md §7.2.1: input that comes just then does not lose it.
    let timer = Arc::new(Moody::default());
    let config = Config::builder().timer(timer.clone()).build().unwrap();
    let (left, mut right) = memory::duplex(4096);
    let (_session, mut driver) = Session::server(left, config);
    let flag = Arc::new(Flag::default());
    let waker = Waker::from(flag.clone());
    for spent in [true, false] {
        timer.spent.store(spent, Ordering::SeqCst);
        let question = header(PING, SYN, 0, 7);
        right.write_all(&question).now_or_never().unwrap().unwrap();
        flag.take();
        assert!(Pin::new(&mut driver).poll(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(flag.take(), spent, "a sleep wants to be polled again");
    }
    assert!(timer.clock.next_due().is_some(), "nobody would wake the driver");
    for _ in 0..4 {
        assert!(settle(&mut driver, &flag).is_pending());
        timer.clock.advance(Duration::from_secs(10));
    }
    assert_eq!(settle(&mut driver, &flag), Poll::Ready(Err(SessionError::KeepaliveTimeout)));
}

#[test]
fn a_sleep_that_asks_for_nothing_is_not_polled_again() {
    let timer = Arc::new(Moody::default());
    let config = Config::builder().timer(timer.clone()).build().unwrap();
    let (left, mut right) = memory::duplex(4096);
    let (_session, mut driver) = Session::server(left, config);
    let flag = Arc::new(Flag::default());
    timer.spent.store(true, Ordering::SeqCst);
    assert!(driver.poll_unpin(&mut Context::from_waker(Waker::noop())).is_pending());
    timer.spent.store(false, Ordering::SeqCst);
    for value in 0..100 {
        right.write_all(&header(PING, SYN, 0, value)).now_or_never().unwrap().unwrap();
        assert!(settle(&mut driver, &flag).is_pending());
    }
    // That of the keepalive, and that after which the session is idle.
    let polls = timer.polls.load(Ordering::SeqCst);
    assert!(polls <= 4, "{polls} polls of two sleeps");
}

#[test]
fn a_sleep_wakes_the_task_that_drives_now() {
    // The first task polls, then the second, then the first again while there is input.
    let timer = Arc::new(ManualTimer::new());
    let config = Config::builder().timer(timer.clone()).build().unwrap();
    let (left, mut right) = memory::duplex(4096);
    let (_session, mut driver) = Session::server(left, config);
    let flags = [Arc::new(Flag::default()), Arc::new(Flag::default())];
    for (turn, with_input) in [(0, false), (1, false), (0, true), (1, true), (0, true)] {
        if with_input {
            let question = header(PING, SYN, 0, 7);
            right.write_all(&question).now_or_never().unwrap().unwrap();
        }
        assert!(settle(&mut driver, &flags[turn]).is_pending());
    }
    for flag in &flags {
        flag.take();
    }
    timer.advance(Duration::from_secs(30));
    assert!(flags[0].take(), "the task that drives is woken");
}

/// Who is written to, and how often.
type Fed = Arc<Mutex<Option<(WriteHalf, usize)>>>;

/// An IO that always has something to read: frames that carry credit, one after the other.
struct Torrent {
    stream: u32,
    /// Takes bytes; else a write waits for ever.
    takes: bool,
    polls: Arc<AtomicU64>,
    /// Is written to whenever something was sent.
    fed: Fed,
}

impl AsyncRead for Torrent {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let flags = if self.polls.fetch_add(1, Ordering::SeqCst) == 0 { SYN } else { 0 };
        out[..12].copy_from_slice(&header(WINDOW, flags, self.stream, 1));
        Poll::Ready(Ok(12))
    }
}

impl AsyncWrite for Torrent {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some((half, left @ 1..)) = &mut *self.fed.lock().unwrap() {
            *left -= 1;
            half.write(&[7; 100]).now_or_never().unwrap().unwrap();
        }
        if self.takes { Poll::Ready(Ok(bytes.len())) } else { Poll::Pending }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A server over an IO that never falls silent, and the stream that its peer opened.
fn beside_a_torrent(takes: bool, fed: Fed) -> (Arc<ManualTimer>, Session, Driver, Stream) {
    let timer = Arc::new(ManualTimer::new());
    let config = Config::builder().timer(timer.clone()).keepalive(None).build().unwrap();
    let torrent = Torrent { stream: 1, takes, polls: Arc::default(), fed };
    let (session, mut driver) = Session::server(torrent, config);
    turns(&mut driver, 1);
    let stream = session.accept().now_or_never().unwrap().unwrap();
    (timer, session, driver, stream)
}

fn turns(driver: &mut Driver, count: usize) {
    for _ in 0..count {
        assert!(driver.poll_unpin(&mut Context::from_waker(Waker::noop())).is_pending());
    }
}

#[test]
fn deadlines_pass_while_there_is_always_more_to_read() {
    // spec.md §7.6.1
    let (timer, _session, mut driver, mut stream) = beside_a_torrent(true, Fed::default());
    stream.set_read_deadline(Some(timer.now() + Duration::from_secs(1))).unwrap();
    turns(&mut driver, 10);
    assert!(stream.read(&mut [0]).now_or_never().is_none());
    timer.advance(Duration::from_secs(1));
    turns(&mut driver, 10);
    let error = stream.read(&mut [0]).now_or_never().unwrap().unwrap_err();
    assert_eq!(inner(&error), StreamError::TimedOut);
}

#[test]
fn deadlines_pass_while_there_is_always_more_to_write() {
    // spec.md §7.6.1
    let fed = Fed::default();
    let (timer, _session, mut driver, stream) = beside_a_torrent(true, fed.clone());
    let (mut read, mut write) = stream.into_split();
    read.set_read_deadline(Some(timer.now() + Duration::from_secs(1))).unwrap();
    write.write(b"x").now_or_never().unwrap().unwrap();
    *fed.lock().unwrap() = Some((write, usize::MAX));
    turns(&mut driver, 10);
    assert!(read.read(&mut [0]).now_or_never().is_none());
    timer.advance(Duration::from_secs(1));
    turns(&mut driver, 10);
    let error = read.read(&mut [0]).now_or_never().unwrap().unwrap_err();
    assert_eq!(inner(&error), StreamError::TimedOut);
}

#[test]
fn the_last_batch_of_a_turn_is_flushed_like_the_others() {
    for batches in 1..6 {
        let fed = Fed::default();
        let (_timer, _session, mut driver, stream) = beside_a_torrent(true, fed.clone());
        let (_read, mut write) = stream.into_split();
        write.write(b"x").now_or_never().unwrap().unwrap();
        *fed.lock().unwrap() = Some((write, batches));
        turns(&mut driver, 10);
        let (mut write, left) = fed.lock().unwrap().take().unwrap();
        assert_eq!(left, 0);
        write.flush().now_or_never().expect("all was sent").unwrap();
    }
}

#[test]
fn an_io_that_takes_nothing_is_given_up_while_there_is_always_more_to_read() {
    // spec.md §7.5.1
    let (timer, session, mut driver, mut stream) = beside_a_torrent(false, Fed::default());
    stream.write(b"x").now_or_never().unwrap().unwrap();
    turns(&mut driver, 10);
    timer.advance(Duration::from_secs(10));
    let mut polls = (0..10).map(|_| driver.poll_unpin(&mut Context::from_waker(Waker::noop())));
    assert!(polls.any(|poll| poll == Poll::Ready(Err(SessionError::WriteStall))));
    drop(session);
}

/// An IO whose peer opens many streams at once, gives them all the credit there is, and takes
/// everything.
struct Sink {
    streams: u32,
    asked: bool,
}

impl AsyncRead for Sink {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if std::mem::replace(&mut self.asked, true) {
            return Poll::Pending;
        }
        let frames = (0..self.streams).flat_map(|n| header(WINDOW, SYN, 2 * n + 1, 1 << 31));
        Poll::Ready(Ok(frames.zip(out).map(|(byte, place)| *place = byte).count()))
    }
}

impl AsyncWrite for Sink {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn deadlines_pass_while_there_is_always_a_line_of_writers() {
    // spec.md §7.6.1
    let timer = Arc::new(ManualTimer::new());
    let config = Config::builder().timer(timer.clone()).keepalive(None).build().unwrap();
    let (session, mut driver) = Session::server(Sink { streams: 64, asked: false }, config);
    turns(&mut driver, 3);
    let streams = std::iter::from_fn(|| session.accept().now_or_never().flatten());
    let (mut reads, mut writes): (Vec<_>, Vec<_>) = streams.map(Stream::into_split).unzip();
    assert_eq!(writes.len(), 64);
    let at = timer.now() + Duration::from_secs(1);
    reads[0].set_read_deadline(Some(at)).unwrap();
    turns(&mut driver, 3);
    assert!(reads[0].read(&mut [0]).now_or_never().is_none());
    let bytes = vec![7; 64 << 10];
    for _ in 0..2_000 {
        turns(&mut driver, 1);
        for write in &mut writes {
            while write.write(&bytes).now_or_never().is_some_and(|result| result.unwrap() > 0) {}
        }
        timer.advance(Duration::from_millis(1));
    }
    let error = reads[0].read(&mut [0]).now_or_never().expect("the deadline is past").unwrap_err();
    assert_eq!(inner(&error), StreamError::TimedOut);
}
