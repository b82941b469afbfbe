//! Large bodies go from the IO straight into the memory of who reads them: who reads, who is called
//! and who is woken.
#![allow(clippy::unwrap_used)]

mod support;
#[path = "support/watched.rs"]
mod watched;

use std::{
    pin::Pin,
    sync::{Arc, Mutex, atomic::Ordering},
    task::{Context, Poll, Waker},
};

use futures::{AsyncRead, AsyncReadExt, AsyncWriteExt, FutureExt};
use support::{FIN, Flag, PING, Raw, SYN, Sim, count, data, header, pattern};
use trunkline::{Config, Session, transport::memory};
use watched::{Meanwhile, Seen, Watched, World, run};

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
