//! Many writers, one connection: they stand in line, and whoever does not write keeps nobody.
#![allow(clippy::unwrap_used)]

#[path = "support/sim.rs"]
mod sim;

use std::time::{Duration, Instant};

use sim::{Path, Sim};
use trunkline::{
    Config, ResetCode,
    frame::Flags,
    proto::{Event, Half, Slot, Written},
};

/// spec.md §6.9: a wake grants a turn, a turn not used lapses.
#[test]
fn writers_that_never_ask_again_keep_nobody_waiting() {
    let path = Path { rate: 1_000_000, capacity: 20_000, ..Path::PERFECT };
    let all = crowd(100, 200_000, path, |_| false);
    let half = crowd(100, 200_000, path, |index| index % 2 == 0);
    println!("100 writers of 200 kB at 1 MB/s: {all:?}; with half of them asleep: {half:?}");
    assert!(half <= all);
}

/// spec.md §6.9: a dropped or reset stream leaves the line.
#[test]
fn writers_dropped_while_they_wait_keep_nobody_waiting() {
    let config = Config::builder().seed(Some(2)).build().unwrap();
    let path = Path { rate: 1_000_000, capacity: 5_000, ..Path::PERFECT };
    let mut sim = Sim::new([&config, &config], path, 2);
    let zeros = vec![0; 100_000];
    let slots: Vec<Slot> = (0..200).map(|_| sim.core(0).open().unwrap()).collect();
    let mut sent = vec![0; slots.len()];
    for (index, slot) in slots.iter().enumerate() {
        while let Written::Bytes(taken) = sim.core(0).write(*slot, &zeros).unwrap() {
            sent[index] += taken;
        }
    }
    let waiting = sent.iter().filter(|sent| **sent == 0).count();
    assert!(waiting > 150, "most find no room: {waiting}");
    // Of those that wait, all but the last few go, one way or the other.
    let (gone, last) = slots.split_at(190);
    for (index, slot) in gone.iter().enumerate() {
        if index % 2 == 0 {
            sim.core(0).reset(*slot, ResetCode(7));
        }
        sim.core(0).release(*slot, Half::Both);
    }
    let mut left = vec![zeros.len(); last.len()];
    let mut woken = vec![false; last.len()];
    let limit = sim.now + Duration::from_secs(20);
    sim.run(limit, |sim| {
        let mut busy = false;
        while let Some(event) = sim.core(0).poll_event() {
            if let Event::Writable(slot) = event
                && let Some(index) = last.iter().position(|other| *other == slot)
            {
                woken[index] = true;
            }
        }
        for (index, slot) in last.iter().enumerate() {
            while woken[index] && left[index] > 0 {
                let part = &zeros[..left[index]];
                match sim.core(0).write(*slot, part).unwrap() {
                    Written::Bytes(taken) => left[index] -= taken,
                    Written::Blocked => woken[index] = false,
                }
                busy = true;
            }
        }
        (busy, None)
    });
    assert!(left.iter().all(|left| *left == 0), "still waiting: {left:?}");
    // Those that had sent nothing leave no trace on the wire but the SYN of the live.
    let opened = sim.seen_from(0).iter().filter(|s| s.header.flags.contains(Flags::SYN)).count();
    assert!(opened <= slots.len() - waiting + last.len(), "{opened}");
    for slot in last {
        sim.core(0).finish(*slot).unwrap();
        sim.core(0).release(*slot, Half::Both);
    }
    sim.run(limit + Duration::from_secs(400), |sim| {
        let accepted = sim.core(1).accept();
        if let Some(slot) = accepted {
            sim.core(1).finish(slot).ok();
            sim.core(1).release(slot, Half::Both);
        }
        (accepted.is_some(), None)
    });
    assert_eq!((sim.core(0).live_streams(), sim.core(1).live_streams()), (0, 0));
}

/// Runs many writers of one end at once; those named by `stays` never ask again once they wait.
/// Returns when the others had finished.
fn crowd(writers: usize, len: usize, path: Path, stays: impl Fn(usize) -> bool) -> Duration {
    let config = Config::builder().seed(Some(1)).build().unwrap();
    let mut sim = Sim::new([&config, &config], path, 1);
    let slots: Vec<Slot> = (0..writers).map(|_| sim.core(0).open().unwrap()).collect();
    let mut left = vec![len; writers];
    let mut waits = vec![false; writers];
    let mut finished: Option<Instant> = None;
    let zeros = vec![0; 100_000];
    let limit = sim.now + Duration::from_secs(600);
    sim.run(limit, |sim| {
        let now = sim.now;
        for event in std::iter::from_fn(|| sim.core(0).poll_event()).collect::<Vec<_>>() {
            if let Event::Writable(slot) = event
                && let Some(index) = slots.iter().position(|other| *other == slot)
            {
                waits[index] = false;
            }
        }
        let mut busy = false;
        for index in 0..writers {
            let started = left[index] < len;
            while left[index] > 0 && !waits[index] && !(started && stays(index)) {
                let part = left[index].min(zeros.len());
                match sim.core(0).write(slots[index], &zeros[..part]).unwrap() {
                    Written::Bytes(taken) => {
                        busy = true;
                        left[index] -= taken;
                    }
                    Written::Blocked => waits[index] = true,
                }
            }
        }
        while let Some(slot) = sim.core(1).accept() {
            sim.core(1).release(slot, Half::Read);
            busy = true;
        }
        if (0..writers).all(|index| left[index] == 0 || stays(index)) {
            finished.get_or_insert(now);
        }
        (busy, None)
    });
    finished.expect("the others finish").duration_since(sim.start)
}
