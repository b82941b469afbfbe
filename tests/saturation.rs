//! Two ends that write until they can write no more, over the narrowest of pipes.
#![allow(clippy::unwrap_used)]

mod support;

use std::{cell::Cell, rc::Rc, task::Poll};

use futures::{AsyncReadExt, AsyncWriteExt, future, poll};
use support::{Output, Random, Sim, count, pattern};
use trunkline::{ReadHalf, Session, Stream, WriteHalf};

const STREAMS: usize = 64;

#[test]
fn saturated_ends_never_deadlock() {
    // spec.md §6.8: nobody reads before every writer is stuck; then everyone reads.
    let mut stuck = 0;
    for seed in 0..count(1_000) {
        let mut random = Random(seed);
        let mut sim = Sim::new(seed);
        let config = sim.config().staging_limit(16_384).keepalive(None).write_timeout(None);
        let config = config.build().unwrap();
        let (client, server) = sim.pair_with(1 + random.below(64), config.clone(), config);
        let mut pairs = joined(&mut sim, &client, &server, STREAMS / 2);
        pairs.extend(joined(&mut sim, &server, &client, STREAMS / 2));
        let ends = pairs.into_iter().flat_map(|(near, far)| {
            let len = 1 + random.below(1_000);
            [(near, len, seed), (far, len, seed + 1)]
        });
        stuck += fill_then_drain(&mut sim, ends.collect(), false);
        sim.run(async move {
            assert_eq!(future::join(client.close(), server.closed()).await, (Ok(()), Ok(())));
        });
    }
    // The pipe, not the work, is what most writers waited for.
    assert!(stuck > 10 * count(1_000), "{stuck} writers waited");
}

#[test]
fn full_windows_in_both_directions_drain() {
    // spec.md §6.8, §5.2: every window of every stream is full before anyone reads.
    for seed in 0..count(20) {
        let mut sim = Sim::new(seed);
        let config = sim.config().keepalive(None).write_timeout(None).build().unwrap();
        let (client, server) = sim.pair_with(1_000 + seed as usize, config.clone(), config);
        let pairs = joined(&mut sim, &client, &server, 3);
        let ends = pairs
            .into_iter()
            .flat_map(|(near, far)| [(near, 300_000, seed), (far, 300_000, seed + 1)]);
        assert_eq!(fill_then_drain(&mut sim, ends.collect(), true), 6);
        assert_eq!(client.stats().buffered + server.stats().buffered, 0);
    }
}

fn joined(sim: &mut Sim, from: &Session, to: &Session, count: usize) -> Vec<(Stream, Stream)> {
    let (from, to) = (from.clone(), to.clone());
    sim.run(async move {
        let mut pairs = Vec::new();
        for _ in 0..count {
            pairs.push((from.open().await.unwrap(), to.accept().await.unwrap()));
        }
        pairs
    })
}

/// Neighbours in `ends` are the two ends of a stream; each writes so many bytes. Reading begins
/// when every writer has blocked, or, with `full`, when nothing moves any more. Returns how many
/// writers were waiting then.
fn fill_then_drain(sim: &mut Sim, ends: Vec<(Stream, usize, u64)>, full: bool) -> u64 {
    let blocked = Rc::new(Cell::new(0));
    let mut writers = Vec::new();
    let mut readers = Vec::new();
    for (stream, len, seed) in ends {
        let (read, write) = stream.into_split();
        writers.push(sim.spawn(write_all(write, pattern(seed, len), blocked.clone())));
        readers.push((read, len, seed));
    }
    while (full || blocked.get() < writers.len()) && sim.step() {}
    let stuck = writers.iter().filter(|writer| !writer.is_ready()).count();
    // What one end reads the other wrote.
    for pair in (0..readers.len()).step_by(2) {
        let seed = readers[pair].2;
        readers[pair].2 = std::mem::replace(&mut readers[pair + 1].2, seed);
    }
    let readers: Vec<Output<()>> = readers
        .into_iter()
        .map(|(read, len, seed)| sim.spawn(read_all(read, pattern(seed, len))))
        .collect();
    sim.settle();
    assert!(writers.iter().all(Output::is_ready), "a writer sleeps forever");
    assert!(readers.iter().all(Output::is_ready), "a reader sleeps forever");
    stuck as u64
}

/// Counts itself in `blocked` when it cannot go on at once, at the latest at its end.
async fn write_all(mut half: WriteHalf, bytes: Vec<u8>, blocked: Rc<Cell<usize>>) -> WriteHalf {
    let mut at = 0;
    while at < bytes.len() {
        match poll!(half.write(&bytes[at..])) {
            Poll::Ready(len) => at += len.unwrap(),
            Poll::Pending => break,
        }
    }
    blocked.set(blocked.get() + 1);
    half.write_all(&bytes[at..]).await.unwrap();
    half.close().await.unwrap();
    half
}

async fn read_all(mut half: ReadHalf, expected: Vec<u8>) {
    let mut got = Vec::new();
    half.read_to_end(&mut got).await.unwrap();
    assert!(got == expected);
}
