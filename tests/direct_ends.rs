//! Faults, ends, resets and time that passes, while a body is read directly: everyone hears of them,
//! and nothing is held on to.
#![allow(clippy::unwrap_used)]

mod support;
#[path = "support/watched.rs"]
mod watched;

use std::{
    io,
    pin::Pin,
    sync::{Arc, Weak, atomic::Ordering},
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::{AsyncRead, AsyncReadExt, AsyncWriteExt, FutureExt};
use support::{FIN, Flag, PING, Random, Raw, SYN, Sim, count, data, header, pattern};
use trunkline::{
    GoAwayCode, ResetCode, Session, SessionError, StreamError, runtime::Timer, transport::memory,
};
use watched::{Fault, Meanwhile, Seen, World, run};

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
        // Something is on its way out meanwhile.
        world.seen.stuck.store(true, Ordering::SeqCst);
        assert!(world.stream.write(&[7; 100]).now_or_never().is_some());
        world.run();
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
fn what_an_io_that_panicked_did_not_take_was_not_sent() {
    // spec.md §6.10: of a stream that is done the FIN is on its way out.
    let mut world = World::new();
    world.peer.send(&header(support::WINDOW, SYN | FIN, 3, 0));
    world.run();
    let mut done = world.session.accept().now_or_never().unwrap().unwrap();
    world.run();
    world.seen.stuck.store(true, Ordering::SeqCst);
    assert!(done.close().now_or_never().is_none());
    world.run();
    panic_while_reading(&mut world, || ());
    let end = SessionError::Io(io::ErrorKind::Other);
    assert_eq!(world.driver.now_or_never(), Some(Err(end)));
    let error = done.close().now_or_never().unwrap().unwrap_err();
    assert_eq!(StreamError::of(&error), Some(StreamError::Session(end)));
}

#[test]
fn an_io_that_panicked_is_not_told_the_end() {
    // A GoAway is owed already when the reader comes back.
    let mut world = World::new();
    let session = world.session.clone();
    panic_while_reading(&mut world, move || session.abort(GoAwayCode::NORMAL));
    let end = SessionError::Aborted(GoAwayCode::NORMAL);
    assert_eq!(world.driver.now_or_never(), Some(Err(end)));
}

/// The IO panics in the hands of a reader, after `meanwhile`.
fn panic_while_reading(world: &mut World, meanwhile: impl FnOnce() + Send + 'static) {
    world.lend(200_000);
    world.peer.send(&[5; 100_000]);
    *world.seen.meanwhile.lock().unwrap() = Some(Meanwhile(Box::new(meanwhile)));
    *world.seen.fault.lock().unwrap() = Some(Fault::Panics);
    let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.read()));
    assert!(read.is_err());
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
                session.abort(GoAwayCode::NORMAL);
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
