//! Who waits to open a stream: limits, turns, and who gives up.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Context, Waker},
    time::Duration,
};

use futures::{AsyncReadExt, AsyncWriteExt, FutureExt, StreamExt, future::join_all, poll};
use support::{ACK, Sim, WINDOW, header, joined, read_all};
use trunkline::{Config, GoAwayCode, OpenError, Session, TryOpenError, transport::memory};

#[test]
fn open_waits_at_the_ack_backlog_and_goes_on_when_streams_are_accepted() {
    // spec.md §4.4.2, §4.4.3
    let mut sim = Sim::new(10);
    let config = sim.config().ack_backlog(3).build().unwrap();
    let other = sim.config().build().unwrap();
    let (client, server) = sim.pair_with(4096, config, other);
    sim.run(async move {
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(client.open().await.unwrap());
        }
        assert_eq!(client.try_open().unwrap_err(), TryOpenError::AckBacklogFull);
        let mut first = pin!(client.open());
        let mut second = pin!(client.open());
        assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
        support::pause(200).await;
        assert!(poll!(&mut first).is_pending());
        assert_eq!(client.stats().ack_backlog, 3);
        let one = server.accept().await.unwrap();
        // First come, first served.
        held.push(first.await.unwrap());
        support::pause(200).await;
        assert!(poll!(&mut second).is_pending());
        // A stream that is dropped frees its place as well.
        drop(held.pop());
        held.push(second.await.unwrap());
        drop(one);
    });
}

#[test]
fn open_waits_at_the_stream_limit_and_goes_on_when_one_is_over() {
    // spec.md §4.4.4
    let mut sim = Sim::new(10);
    let config = sim.config().max_outbound_streams(2).build().unwrap();
    let other = sim.config().build().unwrap();
    let (client, server) = sim.pair_with(4096, config, other);
    sim.run(async move {
        let (mut near, mut far) = joined(&client, &server).await;
        let (_kept, _kept_far) = joined(&client, &server).await;
        assert_eq!(client.try_open().unwrap_err(), TryOpenError::TooManyStreams);
        let mut third = pin!(client.open());
        assert!(poll!(&mut third).is_pending());
        near.close().await.unwrap();
        far.close().await.unwrap();
        assert_eq!(read_all(&mut near).await, (Vec::new(), None));
        drop(near);
        third.await.unwrap();
    });
}

#[test]
fn a_dropped_open_passes_its_turn_on() {
    // spec.md §4.4.6
    let mut sim = Sim::new(10);
    let config = sim.config().ack_backlog(1).build().unwrap();
    let other = sim.config().build().unwrap();
    let (client, server) = sim.pair_with(4096, config, other);
    let held = client.try_open().unwrap();
    let mut first = Box::pin(client.open());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(first.as_mut().poll(&mut cx).is_pending());
    let waiting = client.clone();
    let second = sim.spawn(async move { waiting.open().await.is_ok() });
    sim.settle();
    assert!(!second.is_ready());

    // The permit comes free and wakes the first, which is dropped before it looks.
    let accepted = sim.run(async move { server.accept().await });
    sim.advance(Duration::from_millis(10));
    assert!(!second.is_ready());
    drop(first);
    sim.settle();
    assert_eq!(second.take(), Some(true));
    drop((held, accepted));
}

#[test]
fn an_open_that_nobody_polls_holds_up_nobody_once_the_session_is_over() {
    // spec.md §4.4.6
    let mut sim = Sim::new(10);
    let config = sim.config().ack_backlog(1).build().unwrap();
    let other = sim.config().build().unwrap();
    let (client, _server) = sim.pair_with(4096, config, other);
    let _held = client.try_open().unwrap();
    let mut first = Box::pin(client.open());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(first.as_mut().poll(&mut cx).is_pending());
    client.abort(GoAwayCode::NORMAL);
    sim.settle();
    assert!(client.open().now_or_never().unwrap().is_err());
    assert!(first.now_or_never().unwrap().is_err());
}

#[test]
fn an_open_that_waits_learns_of_the_peers_go_away() {
    // spec.md §8.1.2
    let mut sim = Sim::new(14);
    let config = sim.config().ack_backlog(1).build().unwrap();
    let (client, mut raw) = sim.client_with_peer(config);
    let held = client.try_open().unwrap();
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let client = client.clone();
            sim.spawn(async move { client.open().await.map(drop) })
        })
        .collect();
    sim.settle();
    raw.send(&header(support::GO_AWAY, 0, 0, 0));
    sim.settle();
    for waiting in waiting {
        assert_eq!(waiting.take(), Some(Err(OpenError::RemoteGoAway)));
    }
    drop(held);
}

#[test]
fn the_peers_go_away_tells_openers_beside_one_that_nobody_polls() {
    // spec.md §4.4.6
    let mut sim = Sim::new(10);
    let config = sim.config().ack_backlog(1).build().unwrap();
    let other = sim.config().build().unwrap();
    let (client, server) = sim.pair_with(4096, config, other);
    let _held = client.try_open().unwrap();
    let mut first = Box::pin(client.open());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(first.as_mut().poll(&mut cx).is_pending());
    let waiting = client.clone();
    let second = sim.spawn(async move { waiting.open().await.err() });
    sim.settle();
    server.go_away();
    sim.settle();
    assert_eq!(second.take(), Some(Some(OpenError::RemoteGoAway)));
}

#[test]
fn as_many_openers_are_woken_as_there_is_room_for() {
    // spec.md §4.4.2: whichever limit they wait for.
    for (acks, streams) in [(2, 100), (100, 2)] {
        let mut sim = Sim::new(11);
        let config = sim.config().ack_backlog(acks).max_outbound_streams(streams);
        let config = config.build().unwrap();
        let (client, mut peer) = sim.client_with_peer(config);
        let held = [client.try_open().unwrap(), client.try_open().unwrap()];
        sim.settle();
        peer.receive();
        let flags = [(); 5].map(|()| Arc::new(support::Flag::default()));
        let mut opens: Vec<_> = flags
            .iter()
            .map(|flag| {
                let waker = Waker::from(flag.clone());
                let mut open = Box::pin(client.open());
                assert!(open.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
                open
            })
            .collect();
        let woken = || flags.each_ref().map(|flag| flag.wakes());
        // An ACK makes room in the backlog, and RST in both.
        peer.send(&header(WINDOW, ACK, 1, 0));
        sim.settle();
        let acked = if acks == 2 { [1, 0, 0, 0, 0] } else { [0; 5] };
        assert_eq!(woken(), acked);
        for id in [1, 3] {
            peer.send(&header(WINDOW, support::RST, id, 0));
        }
        sim.settle();
        assert_eq!(woken(), [1, 1, 0, 0, 0]);
        // One gives up, and one opens: the next has a turn, and no more.
        drop(opens.remove(0));
        assert_eq!(woken(), [1, 1, 1, 0, 0]);
        let opened = opens.remove(0).now_or_never().unwrap().unwrap();
        assert_eq!(woken(), [1, 1, 1, 0, 0]);
        drop((held, opened));
    }
}

#[test]
fn where_there_is_room_for_two_the_second_does_not_wait_for_the_first() {
    // spec.md §4.4.2: the first was woken, and nobody polls it. Whether room for the second comes
    // before or after it.
    for before in [true, false] {
        let mut sim = Sim::new(12);
        let config = sim.config().ack_backlog(2).build().unwrap();
        let (client, mut peer) = sim.client_with_peer(config);
        let _held = [client.try_open().unwrap(), client.try_open().unwrap()];
        sim.settle();
        let mut first = Box::pin(client.open());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(first.as_mut().poll(&mut cx).is_pending());
        peer.send(&header(WINDOW, ACK, 1, 0));
        sim.settle();
        if before {
            peer.send(&header(WINDOW, ACK, 3, 0));
            sim.settle();
        }
        let waiting = client.clone();
        let second = sim.spawn(async move { waiting.open().await });
        sim.settle();
        assert_eq!(second.is_ready(), before);
        peer.send(&header(WINDOW, ACK, 3, 0));
        sim.settle();
        assert!(second.take().unwrap().is_ok());
        assert!(first.now_or_never().unwrap().is_ok());
    }
}

const CALLERS: usize = 400;

/// spec.md §4.4.2: 400 callers and 64 places; each caller opens again as soon as it is done.
#[tokio::test]
async fn callers_beyond_the_backlog_take_turns() {
    let (left, right) = memory::duplex(1 << 16);
    let config = Config::builder().ack_backlog(64).build().unwrap();
    let (client, driver) = Session::client(left, config);
    let (server, peer) = Session::server(right, Config::default());
    tokio::spawn(driver);
    tokio::spawn(peer);
    tokio::spawn(server.incoming().for_each_concurrent(None, |mut stream| async move {
        let mut asked = Vec::new();
        stream.read_to_end(&mut asked).await.unwrap();
        stream.write_all(&asked).await.unwrap();
        stream.close().await.unwrap();
    }));
    let (over, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let callers = (0..CALLERS).map(|_| {
        let (client, over, done) = (client.clone(), over.clone(), done.clone());
        tokio::spawn(async move {
            let mut rounds = 0_u32;
            while !over.load(Ordering::Relaxed) {
                let mut stream = client.open().await.unwrap();
                stream.write_all(b"x").await.unwrap();
                stream.close().await.unwrap();
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).await.unwrap();
                rounds += 1;
                if done.fetch_add(1, Ordering::Relaxed) == 20_000 {
                    over.store(true, Ordering::Relaxed);
                }
            }
            rounds
        })
    });
    let rounds: Vec<u32> = join_all(callers).await.into_iter().map(Result::unwrap).collect();
    let (least, most) = (rounds.iter().min().unwrap(), rounds.iter().max().unwrap());
    assert!(least + 5 >= *most, "{rounds:?}");
}
