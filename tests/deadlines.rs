//! The deadlines that users set.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    io::{self},
    pin::Pin,
    time::Duration,
};

use futures::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, join};
use support::{Sim, inner, joined, pattern, read_all};
use trunkline::{PingError, StreamError, runtime::Timer};

#[test]
fn read_deadlines_pass_and_the_stream_stays_usable() {
    // spec.md §7.6
    let mut sim = Sim::new(9);
    let timer = sim.timer();
    let (client, server) = sim.pair(4096);
    sim.run(async move {
        let (mut near, mut far) = joined(&client, &server).await;
        let start = timer.now();
        far.set_read_deadline(Some(start + Duration::from_millis(100))).unwrap();
        let mut byte = [0];
        let error = far.read(&mut byte).await.unwrap_err();
        assert_eq!((inner(&error), error.kind()), (StreamError::TimedOut, io::ErrorKind::TimedOut));
        assert_eq!(timer.now() - start, Duration::from_millis(100));
        assert_eq!(inner(&far.fill_buf().await.unwrap_err()), StreamError::TimedOut);
        // Bytes that are there are read all the same.
        near.write_all(b"late").await.unwrap();
        support::pause(200).await;
        let mut four = [0; 4];
        far.read_exact(&mut four).await.unwrap();
        assert_eq!(&four, b"late");
        assert_eq!(inner(&far.read(&mut byte).await.unwrap_err()), StreamError::TimedOut);
        far.set_read_deadline(None).unwrap();
        near.write_all(b"x").await.unwrap();
        far.read_exact(&mut byte).await.unwrap();
    });
}

#[test]
fn write_deadlines_pass_and_nothing_is_lost() {
    // spec.md §7.6.2
    let mut sim = Sim::new(9);
    let timer = sim.timer();
    let (client, server) = sim.pair(4096);
    sim.run(async move {
        let (mut near, mut far) = joined(&client, &server).await;
        near.set_write_deadline(Some(timer.now() + Duration::from_millis(50))).unwrap();
        let sent = pattern(4, 600_000);
        let mut at = 0;
        let error = loop {
            match near.write(&sent[at..]).await {
                Ok(len) => at += len,
                Err(error) => break error,
            }
        };
        // The byte that was read came back as credit on the ACK (spec.md §5.3.2).
        assert_eq!((inner(&error), at), (StreamError::TimedOut, 262_144));
        near.set_write_deadline(None).unwrap();
        let send = async {
            near.write_all(&sent[at..]).await.unwrap();
            near.close().await.unwrap();
        };
        let ((), (got, error)) = join!(send, read_all(&mut far));
        assert!(got == sent && error.is_none());
    });
}

#[test]
fn changing_a_deadline_wakes_the_call_that_waits() {
    // spec.md §7.6.1
    let mut sim = Sim::new(9);
    let timer = sim.timer();
    let (client, server) = sim.pair(4096);
    let (start, end) = sim.run(async move {
        let (near, far) = joined(&client, &server).await;
        let start = timer.now();
        let far = std::cell::RefCell::new(far);
        let read =
            std::future::poll_fn(|cx| Pin::new(&mut *far.borrow_mut()).poll_read_chunk(cx, 10));
        let set = async {
            support::pause(100).await;
            let at = Some(start + Duration::from_millis(300));
            far.borrow_mut().set_read_deadline(at).unwrap();
            support::pause(100).await;
            let at = Some(start + Duration::from_millis(20));
            far.borrow_mut().set_read_deadline(at).unwrap();
        };
        let (read, ()) = join!(read, set);
        assert_eq!(inner(&read.unwrap_err()), StreamError::TimedOut);
        drop(near);
        (start, timer.now())
    });
    assert_eq!(end - start, Duration::from_millis(20));
}

#[test]
fn without_a_timer_deadlines_and_pings_are_unsupported() {
    // spec.md §7.0, §11.5
    let mut sim = Sim::new(9);
    let config = trunkline::Config::builder().no_timer().build().unwrap();
    let (client, server) = sim.pair_with(4096, config.clone(), config);
    sim.run(async move {
        let (mut near, _far) = joined(&client, &server).await;
        let error = near.set_read_deadline(Some(std::time::Instant::now())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        near.set_write_deadline(None).unwrap();
        assert_eq!(client.ping().await, Err(PingError::Unsupported));
    });
}
