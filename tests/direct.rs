//! Large bodies go from the IO straight into the memory of who reads them, and whatever happens to
//! that reader meanwhile, the session goes on.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fmt, io,
    ops::Range,
    pin::Pin,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::{
    AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, FutureExt,
    executor::block_on,
};
use support::{FIN, Flag, PING, Random, Raw, SYN, Sim, count, data, header, pattern};
use trunkline::{
    Config, Driver, ResetCode, Session, SessionError, Stream, StreamError, runtime::Timer,
    transport::memory,
};

/// How the next read of an IO goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Fails,
    Panics,
    /// It claims to have read more than there was room for.
    Lies,
}

/// What an IO was seen to do, and is to do.
#[derive(Debug, Default)]
struct Seen {
    /// Where the reader's memory is.
    memory: Mutex<Range<usize>>,
    /// Bytes that were read into it, and elsewhere.
    direct: AtomicU64,
    copied: AtomicU64,
    fault: Mutex<Option<Fault>>,
    /// What happens meanwhile.
    meanwhile: Mutex<Option<Meanwhile>>,
}

struct Meanwhile(Box<dyn FnOnce() + Send>);

impl fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meanwhile")
    }
}

impl Seen {
    fn is_direct(&self, out: &[u8]) -> bool {
        self.memory.lock().unwrap().contains(&(out.as_ptr() as usize))
    }

    /// Readers read into `memory` from now on.
    fn watch(&self, memory: &[u8]) {
        let start = memory.as_ptr() as usize;
        *self.memory.lock().unwrap() = start..start + memory.len();
    }

    fn direct(&self) -> u64 {
        self.direct.load(Ordering::SeqCst)
    }
}

/// An IO that notes whose memory it reads into; a fault befalls a reader who reads directly.
struct Watched<T> {
    io: T,
    seen: Arc<Seen>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let direct = self.seen.is_direct(out);
        let meanwhile = if direct { self.seen.meanwhile.lock().unwrap().take() } else { None };
        if let Some(Meanwhile(act)) = meanwhile {
            act();
        }
        let fault = if direct { self.seen.fault.lock().unwrap().take() } else { None };
        match fault {
            Some(Fault::Fails) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Some(Fault::Panics) => panic!("a fault of the IO"),
            Some(Fault::Lies) => return Poll::Ready(Ok(out.len() + 1)),
            None => {}
        }
        let read = Pin::new(&mut self.io).poll_read(cx, out);
        if let Poll::Ready(Ok(len)) = read {
            let count = if direct { &self.seen.direct } else { &self.seen.copied };
            count.fetch_add(len as u64, Ordering::SeqCst);
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}

/// A session that is polled by hand, a stream of it, and the peer.
struct World {
    session: Session,
    driver: Driver,
    stream: Stream,
    peer: Raw,
    seen: Arc<Seen>,
    memory: Vec<u8>,
}

impl World {
    fn new() -> Self {
        let config = Config::builder().no_timer().seed(Some(1)).build().unwrap();
        let (left, right) = memory::duplex(1 << 20);
        let seen = Arc::new(Seen::default());
        let (session, driver) = Session::server(Watched { io: right, seen: seen.clone() }, config);
        let memory = vec![0; 64 << 10];
        seen.watch(&memory);
        let mut peer = Raw { io: left };
        peer.send(&header(support::WINDOW, SYN, 1, 0));
        let mut driver = driver;
        run(&mut driver);
        let stream = session.accept().now_or_never().unwrap().unwrap();
        run(&mut driver);
        Self { session, driver, stream, peer, seen, memory }
    }

    /// One whose reader waits, with the port, for the rest of a body of `len` bytes.
    fn lent(len: u32) -> Self {
        let mut world = Self::new();
        assert!(world.read().is_pending());
        world.peer.send(&header(support::DATA, 0, 1, len));
        assert!(world.driver.poll_unpin(&mut Context::from_waker(Waker::noop())).is_pending());
        // It is called, and comes.
        assert!(world.read().is_pending());
        world.run();
        world
    }

    fn run(&mut self) {
        run(&mut self.driver);
    }

    /// One read of the stream's reader.
    fn read(&mut self) -> Poll<io::Result<usize>> {
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(&mut self.stream).poll_read(&mut cx, &mut self.memory)
    }
}

/// Polls the driver until it sleeps, at most a few times: a reader that is called may come later.
fn run(driver: &mut Driver) {
    for _ in 0..8 {
        let _ = driver.poll_unpin(&mut Context::from_waker(Waker::noop()));
    }
}

#[test]
fn large_bodies_are_read_directly() {
    let (mut direct, mut copied) = (0, 0);
    for seed in 0..count(200) {
        let mut sim = Sim::new(seed);
        let (left, right) = memory::duplex(100_000);
        let seen = Arc::new(Seen::default());
        let io = Watched { io: right, seen: seen.clone() };
        let config = sim.config().build().unwrap();
        let (client, server) = sim.pair_over(left, io, config.clone(), config);
        let bytes = pattern(seed, 1_000_000);
        let sent = bytes.clone();
        sim.spawn(async move {
            let mut stream = client.open().await.unwrap();
            stream.write_all(&sent).await.unwrap();
            stream.close().await.unwrap();
        });
        let watch = seen.clone();
        let received = sim.run(async move {
            let mut stream = server.accept().await.unwrap();
            let mut memory = vec![0; 64 << 10];
            watch.watch(&memory);
            let mut all = Vec::new();
            while let len @ 1.. = stream.read(&mut memory).await.unwrap() {
                all.extend_from_slice(&memory[..len]);
            }
            all
        });
        assert!(received == bytes, "other bytes, seed {seed}");
        direct += seen.direct();
        copied += seen.copied.load(Ordering::SeqCst);
    }
    // In random order the driver is often polled again before the reader comes.
    assert!(direct > copied / 20, "{direct} bytes directly, {copied} copied");
}

#[test]
fn an_io_that_is_not_to_be_shared_is_polled_by_its_driver_alone() {
    for local in [false, true] {
        let (left, right) = memory::duplex(1 << 20);
        let seen = Arc::new(Seen::default());
        let io = Watched { io: right, seen: seen.clone() };
        let config = Config::builder().no_timer().direct_reads(local).build().unwrap();
        let (session, mut driver) = if local {
            let (session, driver) = Session::server_local(io, config);
            (session, driver.boxed_local())
        } else {
            let (session, driver) = Session::server(io, config);
            (session, driver.boxed_local())
        };
        let mut peer = Raw { io: left };
        peer.send(&data(SYN, 1, &[7; 200_000]));
        let mut cx = Context::from_waker(Waker::noop());
        let mut memory = vec![0; 64 << 10];
        seen.watch(&memory);
        assert!(driver.poll_unpin(&mut cx).is_pending());
        let mut stream = session.accept().now_or_never().unwrap().unwrap();
        let mut total = 0;
        while total < 200_000 {
            if let Poll::Ready(read) = Pin::new(&mut stream).poll_read(&mut cx, &mut memory) {
                total += read.unwrap();
            }
            assert!(driver.poll_unpin(&mut cx).is_pending());
        }
        assert_eq!(seen.direct(), 0);
    }
}

#[test]
fn a_reader_takes_its_body_from_the_io() {
    let mut world = World::lent(200_000);
    world.peer.send(&[5; 150_000]);
    let mut total = 0;
    while let Poll::Ready(read) = world.read() {
        let len = read.unwrap();
        assert!(world.memory[..len] == vec![5; len]);
        total += len;
    }
    assert_eq!((total, world.seen.direct()), (150_000, 150_000), "the driver was not polled");
    // The last of it, the end of the stream, and what comes behind.
    world.peer.send(&[5; 50_000]);
    world.peer.send(&data(FIN, 1, b"end"));
    world.peer.send(&header(PING, SYN, 0, 9));
    assert!(matches!(world.read(), Poll::Ready(Ok(50_000))));
    assert!(world.read().is_pending());
    world.run();
    assert!(matches!(world.read(), Poll::Ready(Ok(3))));
    assert!(matches!(world.read(), Poll::Ready(Ok(0))));
    world.run();
    let (frames, _) = world.peer.receive();
    assert!(frames.iter().any(|frame| frame.kind == PING && frame.length == 9), "{frames:?}");
}

#[test]
fn a_reader_with_little_room_leaves_the_io_to_the_driver() {
    // Though it had more when it waited before.
    let mut world = World::lent(200_000);
    world.peer.send(&[5; 150_000]);
    assert!(matches!(world.read(), Poll::Ready(Ok(65_536))));
    let mut cx = Context::from_waker(Waker::noop());
    let before = world.seen.direct();
    let little = &mut world.memory[..100];
    assert!(Pin::new(&mut world.stream).poll_read(&mut cx, little).is_pending());
    assert_eq!(world.seen.direct(), before);
    world.run();
    let little = &mut world.memory[..100];
    assert!(matches!(Pin::new(&mut world.stream).poll_read(&mut cx, little), Poll::Ready(Ok(100))));
    assert_eq!(world.seen.direct(), before);
}

#[test]
fn a_reader_that_does_not_come_keeps_nobody_waiting() {
    // The driver calls it once; then it reads for all, up to the window.
    for gone in [false, true] {
        let World { session, mut driver, stream, mut peer, seen, memory } = World::lent(200_000);
        let stream = if gone {
            drop(stream);
            None
        } else {
            Some(stream)
        };
        peer.send(&[5; 200_000]);
        peer.send(&data(SYN, 3, b"another"));
        peer.send(&header(PING, SYN, 0, 9));
        run(&mut driver);
        let mut other = session.accept().now_or_never().unwrap().unwrap();
        let mut text = [0; 7];
        other.read_exact(&mut text).now_or_never().unwrap().unwrap();
        assert_eq!((&text, seen.direct()), (b"another", 0));
        run(&mut driver);
        assert!(peer.receive().0.iter().any(|frame| frame.kind == PING));
        if let Some(mut stream) = stream {
            let mut all = vec![0; 200_000];
            stream.read_exact(&mut all).now_or_never().unwrap().unwrap();
            assert!(all == vec![5; 200_000]);
        }
        drop(memory);
    }
}

#[test]
fn a_reader_is_called_before_the_driver_reads() {
    let mut world = World::new();
    let flag = Arc::new(Flag::default());
    let waker = Waker::from(flag.clone());
    let mut cx = Context::from_waker(&waker);
    let mut once = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut world.stream).poll_read(&mut cx, &mut world.memory).is_pending());
    // With the header, and whenever the IO has more.
    world.peer.send(&header(support::DATA, 0, 1, 200_000));
    for received in [0, 50_000, 50_000] {
        assert!(!flag.take());
        assert!(world.driver.poll_unpin(&mut once).is_pending());
        assert!(flag.take(), "not called");
        if received > 0 {
            let read = Pin::new(&mut world.stream).poll_read(&mut cx, &mut world.memory);
            assert!(matches!(read, Poll::Ready(Ok(len)) if len == received));
        }
        assert!(Pin::new(&mut world.stream).poll_read(&mut cx, &mut world.memory).is_pending());
        world.run();
        // Until the IO rings it is not asked in vain.
        let in_vain = Meanwhile(Box::new(|| panic!("asked in vain")));
        *world.seen.meanwhile.lock().unwrap() = Some(in_vain);
        assert!(Pin::new(&mut world.stream).poll_read(&mut cx, &mut world.memory).is_pending());
        *world.seen.meanwhile.lock().unwrap() = None;
        world.peer.send(&[5; 50_000]);
    }
    assert_eq!(world.seen.direct(), 100_000);
}

#[test]
fn a_reader_that_never_comes_again_puts_nobody_to_sleep() {
    for seed in 0..count(40) {
        let mut sim = Sim::new(seed);
        let (server, mut peer) = sim.server_with_peer(sim.config().build().unwrap());
        peer.send(&header(support::WINDOW, SYN, 1, 0));
        sim.spawn(async move {
            let mut stream = server.accept().await.unwrap();
            let mut memory = vec![0; 64 << 10];
            // It waits, and comes once more, but finds nothing.
            for _ in 0..2 {
                let mut first = true;
                futures::future::poll_fn(|cx| {
                    if !std::mem::take(&mut first) {
                        return Poll::Ready(());
                    }
                    Pin::new(&mut stream).poll_read(cx, &mut memory).map(drop)
                })
                .await;
            }
            futures::future::pending::<()>().await;
        });
        sim.settle();
        peer.send(&header(support::DATA, 0, 1, 100_000));
        sim.settle();
        peer.send(&[5; 100_000]);
        peer.send(&header(PING, SYN, 0, 9));
        sim.settle();
        let (frames, _) = peer.receive();
        assert!(frames.iter().any(|frame| frame.kind == PING && frame.length == 9), "seed {seed}");
    }
}

#[test]
fn a_driver_that_comes_while_a_reader_has_the_io_is_woken_when_it_is_back() {
    let World { driver, mut stream, mut peer, seen, mut memory, .. } = World::lent(200_000);
    let driver = Arc::new(Mutex::new(driver));
    let flag = Arc::new(Flag::default());
    let waker = Waker::from(flag.clone());
    peer.send(&[5; 200_000]);
    peer.send(&header(PING, SYN, 0, 9));
    let (drives, wakes) = (driver.clone(), waker.clone());
    *seen.meanwhile.lock().unwrap() = Some(Meanwhile(Box::new(move || {
        let mut driver = drives.lock().unwrap();
        assert!(driver.poll_unpin(&mut Context::from_waker(&wakes)).is_pending());
    })));
    assert!(!flag.take());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut stream).poll_read(&mut cx, &mut memory).is_ready());
    assert!(flag.take(), "the driver sleeps for ever");
    run(&mut driver.lock().unwrap());
    assert!(peer.receive().0.iter().any(|frame| frame.kind == PING));
}

#[test]
fn a_driver_that_is_dropped_while_a_reader_has_the_io_takes_it_along() {
    let World { driver, mut stream, mut peer, seen, mut memory, .. } = World::lent(200_000);
    peer.send(&[5; 100_000]);
    *seen.meanwhile.lock().unwrap() = Some(Meanwhile(Box::new(move || drop(driver))));
    let flag = Arc::new(Flag::default());
    let waker = Waker::from(flag.clone());
    let mut cx = Context::from_waker(&waker);
    assert!(Pin::new(&mut stream).poll_read(&mut cx, &mut memory).is_pending());
    assert!(flag.take(), "the reader sleeps for ever");
    let Poll::Ready(Err(error)) = Pin::new(&mut stream).poll_read(&mut cx, &mut memory) else {
        panic!("the session is over")
    };
    let dropped = StreamError::Session(SessionError::DriverDropped);
    assert_eq!(StreamError::of(&error), Some(dropped));
    assert_eq!(Arc::strong_count(&seen), 1, "the IO is not closed");
}

#[test]
fn a_fault_that_a_reader_meets_ends_the_session() {
    for (fault, end) in [
        (Fault::Fails, SessionError::Io(io::ErrorKind::BrokenPipe)),
        (Fault::Lies, SessionError::IoMisbehaved),
        (Fault::Panics, SessionError::Io(io::ErrorKind::Other)),
    ] {
        let mut world = World::lent(200_000);
        world.peer.send(&[5; 100_000]);
        assert!(matches!(world.read(), Poll::Ready(Ok(65_536))));
        *world.seen.fault.lock().unwrap() = Some(fault);
        let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.read()));
        assert_eq!(read.is_err(), fault == Fault::Panics);
        assert!(
            read.map_or(true, |read| read.is_pending()),
            "{fault:?}: the driver says what it is"
        );
        assert!(world.read().is_pending(), "{fault:?}: it does not ask again");
        let ended = world.driver.poll_unpin(&mut Context::from_waker(Waker::noop()));
        assert_eq!(ended, Poll::Ready(Err(end)));
        let Poll::Ready(Err(error)) = world.read() else { panic!("{fault:?}: not the end") };
        assert_eq!(StreamError::of(&error), Some(StreamError::Session(end)));
        assert_eq!(world.session.io_error().is_some(), fault != Fault::Lies);
    }
}

#[test]
fn the_end_of_the_connection_is_read_behind_what_came_before() {
    // spec.md §8.6.1: wherever the connection ends within the body.
    let body = pattern(1, 100_000);
    for seed in 0..count(200) {
        let mut random = Random(seed);
        let cut = random.below(body.len());
        let mut sim = Sim::new(seed);
        let (left, right) = memory::duplex(20_000 + random.below(100_000));
        let (server, driver) = Session::server(right, sim.config().build().unwrap());
        sim.spawn(driver);
        let mut sent = header(support::DATA, SYN, 1, body.len() as u32).to_vec();
        sent.extend(&body[..cut]);
        sim.spawn(async move {
            let mut left = left;
            left.write_all(&sent).await.unwrap();
            left.close().await.unwrap();
            drop(left.read_to_end(&mut Vec::new()).await);
        });
        let (received, error) = sim.run(async move {
            let mut stream = server.accept().await.unwrap();
            let mut all = Vec::new();
            let mut memory = vec![0; 30_000];
            loop {
                match stream.read(&mut memory).await {
                    Ok(len) => all.extend_from_slice(&memory[..len]),
                    Err(error) => return (all, StreamError::of(&error)),
                }
            }
        });
        assert!(received == body[..cut], "cut at {cut}, {} received", received.len());
        assert_eq!(error, Some(StreamError::Session(SessionError::ConnectionLost)));
    }
}

#[test]
fn time_passes_while_a_body_does_not_come() {
    // Its reader has the port, and gets its deadline; the keepalive ends the session.
    let mut sim = Sim::new(1);
    let config = sim.config().build().unwrap();
    let (left, right) = memory::duplex(1 << 20);
    let (server, driver) = Session::server(right, config);
    sim.spawn(driver);
    let mut peer = Raw { io: left };
    peer.send(&header(support::DATA, SYN, 1, 200_000));
    sim.settle();
    let soon = sim.now() + Duration::from_secs(5);
    let reading = sim.spawn(async move {
        let mut stream = server.accept().await.unwrap();
        let mut memory = vec![0; 64 << 10];
        stream.set_read_deadline(Some(soon)).unwrap();
        let first = stream.read(&mut memory).await.unwrap_err();
        stream.set_read_deadline(None).unwrap();
        let second = stream.read(&mut memory).await.unwrap_err();
        [first, second].map(|error| StreamError::of(&error).unwrap())
    });
    sim.advance(Duration::from_secs(20));
    assert!(!reading.is_ready());
    sim.advance(Duration::from_secs(60));
    let timed_out = StreamError::Session(SessionError::KeepaliveTimeout);
    assert_eq!(reading.take(), Some([StreamError::TimedOut, timed_out]));
    let (frames, _) = peer.receive();
    assert!(frames.iter().any(|frame| frame.kind == PING && frame.flags == SYN), "{frames:?}");
}

#[test]
fn time_passes_where_a_reader_is_polled_with_its_driver() {
    // In one task, whoever is polled first: the reader asks the IO whenever the driver does.
    for driver_first in [false, true] {
        let mut sim = Sim::new(1);
        let (left, right) = memory::duplex(1 << 20);
        let (server, driver) = Session::server(right, sim.config().build().unwrap());
        let mut peer = Raw { io: left };
        peer.send(&header(support::WINDOW, SYN, 1, 0));
        let reading = async move {
            let mut stream = server.accept().await.unwrap();
            let error = stream.read(&mut [0; 64 << 10]).await.unwrap_err();
            StreamError::of(&error).unwrap()
        };
        let reading = if driver_first {
            sim.spawn(async move { futures::join!(driver, reading).1 })
        } else {
            sim.spawn(async move { futures::join!(reading, driver).0 })
        };
        sim.settle();
        peer.send(&header(support::DATA, 0, 1, 200_000));
        sim.advance(Duration::from_secs(20));
        assert!(!reading.is_ready());
        sim.advance(Duration::from_secs(60));
        let timed_out = StreamError::Session(SessionError::KeepaliveTimeout);
        assert_eq!(reading.take(), Some(timed_out));
    }
}

#[test]
fn a_moment_that_comes_without_a_sleep_passes_too() {
    // The clock goes on between two polls of one task; the sleep is for a later moment.
    let mut sim = Sim::new(1);
    let (left, right) = memory::duplex(1 << 20);
    let (server, driver) = Session::server(right, sim.config().build().unwrap());
    let mut peer = Raw { io: left };
    peer.send(&header(support::WINDOW, SYN, 1, 0));
    let (late, is_late) = futures::channel::oneshot::channel::<()>();
    let timer = sim.timer();
    let reading = async move {
        let mut stream = server.accept().await.unwrap();
        let mut memory = vec![0; 64 << 10];
        let mut is_late = is_late.fuse();
        futures::future::poll_fn(|cx| {
            if is_late.poll_unpin(cx).is_ready() {
                let soon = timer.now() + Duration::from_millis(1);
                stream.set_read_deadline(Some(soon)).unwrap();
                timer.advance(Duration::from_millis(2));
            }
            Pin::new(&mut stream).poll_read(cx, &mut memory)
        })
        .await
        .unwrap_err()
    };
    let reading = sim.spawn(async move { futures::join!(driver, reading).1 });
    sim.settle();
    peer.send(&header(support::DATA, 0, 1, 200_000));
    sim.settle();
    late.send(()).unwrap();
    sim.advance(Duration::from_secs(60));
    let error = reading.take().expect("time passes");
    assert_eq!(StreamError::of(&error), Some(StreamError::TimedOut));
}

#[test]
fn a_session_that_ends_lets_go_of_the_io_whoever_has_it() {
    for end in 0..3 {
        let World { session, mut driver, stream, mut peer, seen, .. } = World::lent(200_000);
        let held: Weak<Seen> = Arc::downgrade(&seen);
        drop(seen);
        assert!(held.upgrade().is_some(), "the session holds it");
        match end {
            0 => drop(driver),
            1 => {
                session.abort(trunkline::GoAwayCode::NORMAL);
                peer.send(&[]);
                drop(peer.io);
                run(&mut driver);
            }
            _ => {
                drop(peer.io);
                run(&mut driver);
            }
        }
        assert!(held.upgrade().is_none(), "{end}: it is not closed");
        drop((session, stream));
    }
}

#[test]
fn a_reset_while_a_body_is_read_directly_keeps_the_frames_in_step() {
    let World { session, mut driver, stream, mut peer, seen, mut memory } = World::lent(200_000);
    let (mut read, write) = stream.into_split();
    peer.send(&[5; 100_000]);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut read).poll_read(&mut cx, &mut memory).is_ready());
    assert!(seen.direct() > 0);
    write.reset(ResetCode(7));
    let Poll::Ready(Err(error)) = Pin::new(&mut read).poll_read(&mut cx, &mut memory) else {
        panic!("it was reset")
    };
    assert_eq!(StreamError::of(&error), Some(StreamError::LocalReset(ResetCode(7))));
    peer.send(&[5; 100_000]);
    peer.send(&data(SYN, 3, b"another"));
    run(&mut driver);
    let mut other = session.accept().now_or_never().unwrap().unwrap();
    let mut text = [0; 7];
    other.read_exact(&mut text).now_or_never().unwrap().unwrap();
    assert_eq!(&text, b"another");
}

#[test]
fn readers_and_driver_race_for_the_io() {
    // On threads of their own, with streams beside each other and rooms of every size.
    let (left, right) = memory::duplex(300_000);
    let (client, driver) = Session::client(left, Config::default());
    let (server, peer) = Session::server(right, Config::default());
    let drivers = [driver, peer].map(|driver| std::thread::spawn(move || block_on(driver)));
    let len = 1_000_000 * count(40) as usize;
    let writers: Vec<_> = (0..3)
        .map(|seed| {
            let mut stream = block_on(client.open()).unwrap();
            std::thread::spawn(move || {
                block_on(async {
                    stream.write_all(&pattern(seed, len)).await.unwrap();
                    stream.close().await.unwrap();
                    stream.read_to_end(&mut Vec::new()).await.unwrap();
                });
                seed
            })
        })
        .collect();
    let readers: Vec<_> = (0..3)
        .map(|n| {
            let mut stream = block_on(server.accept()).unwrap();
            std::thread::spawn(move || {
                let mut random = Random(n);
                let mut memory = vec![0; 200_000];
                let mut all = Vec::with_capacity(len);
                block_on(async {
                    loop {
                        let room = 1 + random.below(memory.len());
                        match stream.read(&mut memory[..room]).await.unwrap() {
                            0 => break,
                            len => all.extend_from_slice(&memory[..len]),
                        }
                    }
                    stream.close().await.unwrap();
                });
                all
            })
        })
        .collect();
    let all: Vec<_> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
    for writer in writers {
        let bytes = pattern(writer.join().unwrap(), len);
        assert!(all.contains(&bytes), "bytes were lost or swapped");
    }
    block_on(client.close()).unwrap();
    for driver in drivers {
        driver.join().unwrap().unwrap();
    }
}

/// An IO of moods: it returns little, or nothing and rings at once, as one whose budget is spent.
struct Moody<T> {
    io: T,
    random: Random,
}

impl<T: AsyncRead + Unpin> AsyncRead for Moody<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.random.below(4) == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let most = [1, 100, 20_000, usize::MAX][self.random.below(4)];
        let room = out.len().min(most);
        Pin::new(&mut self.io).poll_read(cx, &mut out[..room])
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Moody<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.random.below(4) == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}

/// Reads to the end, each time in another way.
async fn read_in_every_way(mut stream: Stream, mut random: Random) -> Vec<u8> {
    let mut memory = vec![0; 64 << 10];
    let mut all = Vec::new();
    loop {
        match random.below(8) {
            0 => match stream.read_chunk(1 + random.below(50_000)).await.unwrap() {
                Some(chunk) => all.extend_from_slice(&chunk),
                None => return all,
            },
            1 => {
                let found = stream.fill_buf().await.unwrap();
                let len = found.len().min(random.below(30_000));
                all.extend_from_slice(&found[..len]);
                if found.is_empty() {
                    return all;
                }
                stream.consume_unpin(len);
            }
            n => {
                let room = if n == 2 { 1 + random.below(100) } else { memory.len() };
                match stream.read(&mut memory[..room]).await.unwrap() {
                    0 => return all,
                    len => all.extend_from_slice(&memory[..len]),
                }
            }
        }
    }
}

#[test]
fn whatever_the_mood_of_the_io_and_however_a_stream_is_read_its_bytes_are_the_same() {
    for seed in 0..count(400) {
        let mut random = Random(seed);
        let mut sim = Sim::new(seed);
        let (left, right) = memory::duplex(1 + random.below(100_000));
        let config = sim.config().build().unwrap();
        let (client, driver) = Session::client(left, config.clone());
        sim.spawn(driver);
        let io = Moody { io: right, random: Random(seed) };
        let (server, driver) = Session::server(io, config);
        let pings = server.clone();
        let texts = [1, 2].map(|n| pattern(seed + n, 1 + random.below(400_000)));
        for text in texts.clone() {
            let client = client.clone();
            sim.spawn(async move {
                let mut stream = client.open().await.unwrap();
                stream.write_all(&text).await.unwrap();
                // Who has read it all may be gone by now.
                drop(stream.close().await);
            });
        }
        let reading = async move {
            let streams = [server.accept().await.unwrap(), server.accept().await.unwrap()];
            let reads = streams.map(|stream| read_in_every_way(stream, Random(random.next())));
            futures::future::join_all(reads).await
        };
        // The pings poll their whole task at other times than its streams need.
        let reading = async move {
            let pinging = async {
                for _ in 0..20 {
                    pings.ping().await.unwrap();
                }
            };
            futures::join!(reading, pinging).0
        };
        let received = match seed % 3 {
            0 => {
                sim.spawn(driver);
                sim.run(reading)
            }
            1 => sim.run(async move {
                let driver = std::pin::pin!(driver);
                let reading = std::pin::pin!(reading);
                match futures::future::select(reading, driver).await {
                    futures::future::Either::Left((all, _)) => all,
                    futures::future::Either::Right(_) => panic!("it ended"),
                }
            }),
            _ => sim.run(async move {
                let driver = std::pin::pin!(driver);
                let reading = std::pin::pin!(reading);
                match futures::future::select(driver, reading).await {
                    futures::future::Either::Right((all, _)) => all,
                    futures::future::Either::Left(_) => panic!("it ended"),
                }
            }),
        };
        for text in texts {
            assert!(received.contains(&text), "other bytes, seed {seed}");
        }
    }
}

#[test]
fn a_reader_that_has_its_bytes_is_not_kept_alive() {
    let mut world = World::lent(200_000);
    let flag = Arc::new(Flag::default());
    let waker = Waker::from(flag.clone());
    let mut cx = Context::from_waker(&waker);
    let read = Pin::new(&mut world.stream).poll_read(&mut cx, &mut world.memory);
    assert!(read.is_pending());
    world.peer.send(&[5; 150_000]);
    // It comes though it was not woken.
    let read = Pin::new(&mut world.stream).poll_read(&mut cx, &mut world.memory);
    assert!(read.is_ready());
    drop(waker);
    assert_eq!(Arc::strong_count(&flag), 1, "its task is held on to");
}
