//! Pings: answered in order, bounded, measured.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt, future, join};
use support::{ACK, PING, SYN, Sim, frames, header};
use trunkline::{PingError, Session};

#[test]
fn a_hundred_pings_at_once_are_all_answered() {
    // spec.md §3.3.4: 32 at a time, the others wait.
    let mut sim = Sim::new(12);
    let (client, server) = sim.pair(64);
    sim.run(async move {
        let near = future::join_all((0..100).map(|_| client.ping()));
        let far = future::join_all((0..100).map(|_| server.ping()));
        let (near, far) = join!(near, far);
        assert!(near.iter().chain(&far).all(Result::is_ok));
    });
}

#[test]
fn thirty_thousand_questions_in_one_go_are_all_answered() {
    // spec.md §9.2.3: the answers that wait are bounded; they are written before more is read.
    let mut sim = Sim::new(13);
    let (near, far) = trunkline::transport::memory::duplex(1 << 20);
    let (server, driver) = Session::server(near, sim.config().build().unwrap());
    let ended = sim.spawn(driver);
    let (mut reader, mut writer) = far.split();
    let answers = sim.run(async move {
        let questions: Vec<_> = (0..30_000).flat_map(|value| header(PING, SYN, 0, value)).collect();
        writer.write_all(&questions).await.unwrap();
        let mut answers = vec![0; questions.len()];
        reader.read_exact(&mut answers).await.unwrap();
        answers
    });
    let mut values: Vec<_> = frames(&answers).iter().map(|frame| frame.length).collect();
    values.sort_unstable();
    assert_eq!(values, (0..30_000).collect::<Vec<_>>());
    assert!(!ended.is_ready() && !server.is_closed());
}

#[test]
fn pings_in_excess_wait_for_answers_and_dropped_ones_make_room() {
    // spec.md §3.3.4
    let mut sim = Sim::new(12);
    let config = sim.config().keepalive(None).build().unwrap();
    let (client, mut raw) = sim.client_with_peer(config);
    let mut tasks: Vec<_> = (0..40)
        .map(|_| {
            let client = client.clone();
            sim.spawn_flagged(async move { client.ping().await })
        })
        .collect();
    sim.settle();
    assert_eq!(raw.receive().0.len(), 32);
    let (number, _) = tasks.remove(0);
    sim.drop_task(number);
    sim.settle();
    let more = raw.receive().0.len();
    assert!(more <= 1, "{more}");
    // Answers never come: each fails after the ping timeout, and the session lives.
    sim.advance(Duration::from_secs(31));
    for (_, output) in &tasks {
        let output = output.take();
        assert!(matches!(output, None | Some(Err(PingError::TimedOut))), "{output:?}");
    }
    assert!(!client.is_closed());
}

#[test]
fn a_ping_measures_virtual_time_and_fails_alone() {
    // spec.md §7.1.1
    let mut sim = Sim::new(12);
    let config = sim.config().build().unwrap();
    let (client, mut raw) = sim.client_with_peer(config);
    let asking = client.clone();
    let first = sim.spawn(async move { asking.ping().await });
    sim.advance(Duration::from_millis(70));
    let ping = raw.receive().0[0].clone();
    assert_eq!((ping.kind, ping.flags), (PING, SYN));
    raw.send(&header(PING, ACK, 0, ping.length));
    sim.settle();
    assert_eq!(first.take(), Some(Ok(Duration::from_millis(70))));
    assert_eq!(client.rtt(), Some(Duration::from_millis(70)));
    let asking = client.clone();
    let second = sim.spawn(async move { asking.ping().await });
    sim.advance(Duration::from_millis(9_999));
    assert!(!second.is_ready());
    sim.advance(Duration::from_millis(1));
    assert_eq!(second.take(), Some(Err(PingError::TimedOut)));
    assert!(!client.is_closed());
    let asking = client.clone();
    let third = sim.spawn(async move { asking.ping().await });
    sim.settle();
    drop(raw);
    sim.settle();
    assert!(matches!(third.take(), Some(Err(PingError::Session(_)))));
}
