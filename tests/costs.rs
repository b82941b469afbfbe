//! What the bytes of a peer cost in memory and in time, however they come.
#![allow(clippy::unwrap_used)]

#[path = "support/attacks.rs"]
mod attacks;
#[path = "support/heap.rs"]
mod heap;
#[path = "support/sim.rs"]
mod sim;

use std::time::{Duration, Instant};

use attacks::{KIB, WINDOW, calling, credit, data, header, ping, server, serving, violation};
use bytes::Bytes;
use heap::{alone, beside, in_use};
use sim::{Lone, Path, Sim, thorough};
use trunkline::{
    Config, ResetCode, Role, StreamId,
    frame::{Flags, Kind},
    proto::{Half, Read, Slot, Written},
};

/// spec.md §2.11.
#[test]
fn an_announced_length_costs_nothing() {
    let _turn = alone();
    let max = u32::MAX;
    let frames = [
        header(Kind::Data, Flags::NONE, 1, max),
        header(Kind::Data, Flags::NONE, 1, WINDOW),
        header(Kind::Data, Flags::NONE, 99, max),
        header(Kind::WindowUpdate, Flags::NONE, 1, max),
        header(Kind::WindowUpdate, Flags::RST, 1, max),
        header(Kind::Ping, Flags::SYN, 0, max),
        header(Kind::GoAway, Flags::NONE, 0, max),
    ];
    for frame in frames {
        let (mut lone, _slot) = serving();
        let frame = Bytes::copy_from_slice(&frame);
        let before = in_use();
        lone.core.handle_input(&frame, lone.now);
        let held = in_use() - before;
        assert!(held < 4 * KIB, "{frame:?}: {held}");
        lone.pass(Duration::from_secs(5));
    }
}

/// A window filled with bodies of `len` bytes; what that costs, read buffers included.
fn cost_of_bodies(len: usize) -> (i64, Lone, Slot) {
    let (mut lone, slot) = serving();
    let body: Vec<u8> = (0..len).map(|i| i as u8).collect();
    let mut wire = Vec::new();
    for _ in 0..WINDOW as usize / len {
        wire.extend_from_slice(&data(Flags::NONE, 1, &body));
    }
    let before = in_use();
    for read in wire.chunks(64 << 10) {
        lone.feed(read);
    }
    (in_use() - before, lone, slot)
}

/// spec.md §5.6.4.
#[test]
fn a_window_of_small_bodies_costs_at_most_twice_its_size() {
    let _turn = alone();
    for len in [1, 2, 3, 100, 511, 513, 4_095, 4_097, 9_000, 16_383] {
        let (held, mut lone, slot) = cost_of_bodies(len);
        println!("bodies of {len}: {held} bytes for a window of {WINDOW}");
        assert!(held <= 2 * i64::from(WINDOW), "{len}: {held}");
        let mut expected = (0..).map(|i| (i % len) as u8);
        let mut buffer = vec![0; 10_000];
        while let Ok(Read::Data(read)) = lone.core.read(slot, &mut buffer) {
            assert!(buffer[..read].iter().copied().eq(expected.by_ref().take(read)));
        }
        assert_eq!(lone.core.stats().buffered, 0);
    }
}

/// spec.md §5.6.4: a body pins its read buffer, which is at most four times as large.
#[test]
fn a_window_of_large_bodies_costs_at_most_four_times_its_size() {
    let _turn = alone();
    for len in [16 << 10, 20_000, 32 << 10, 50_000] {
        let (mut lone, _slot) = serving();
        let mut frame = data(Flags::NONE, 1, &vec![7; len]);
        // The rest of the buffer is of no use to anybody.
        while frame.len() + 12 <= 64 << 10 {
            frame.extend_from_slice(&ping(1));
        }
        let before = in_use();
        for _ in 0..WINDOW as usize / len {
            lone.feed(&frame);
        }
        let held = in_use() - before;
        let unread = lone.core.stats().buffered;
        println!("bodies of {len}: {held} bytes for {unread} unread");
        assert!(held <= 4 * unread as i64 + 16 * KIB, "{len}: {held}");
    }
}

/// spec.md §5.6.4: a stream with nothing unread holds no buffer.
#[test]
fn memory_is_given_back_once_it_was_read() {
    let _turn = alone();
    let mut lone = server();
    let before = in_use();
    for id in (1..400).step_by(2) {
        lone.feed(&data(Flags::SYN, id, &[1; 40_000]));
    }
    let full = in_use() - before;
    let mut buffer = vec![0; 64 << 10];
    let mut slots = Vec::new();
    while let Some(slot) = lone.core.accept() {
        assert_eq!(lone.core.read(slot, &mut buffer), Ok(Read::Data(40_000)));
        slots.push(slot);
    }
    lone.pass(Duration::from_secs(1));
    lone.drain();
    lone.events();
    lone.core.shrink();
    let idle = in_use() - before;
    println!("200 streams with 40,000 unread bytes each: {full} bytes; read: {idle}");
    assert!(full >= 8_000_000, "{full}");
    // The table, the backlog and the buffer of this test itself.
    assert!(idle < 256 * KIB, "{idle}");
    for slot in slots {
        lone.core.reset(slot, ResetCode::CANCELLED);
        lone.core.release(slot, Half::Both);
    }
    lone.drain();
    assert_eq!(lone.core.live_streams(), 0);
}

/// spec.md §5.6.3.
#[test]
fn unread_bytes_stay_within_the_budget() {
    let _turn = alone();
    let budget = 1 << 20;
    let config = Config::builder().receive_budget(budget).build().unwrap();
    let mut lone = Lone::new(Role::Server, &config);
    let before = in_use();
    let mut worst = 0;
    for id in (1..).step_by(2).take(200) {
        lone.feed(&data(Flags::SYN, id, &vec![0; 200_000 - id as usize]));
        worst = worst.max(lone.core.stats().buffered);
        lone.drain();
    }
    let held = in_use() - before;
    let overloaded = lone.core.stats().overloaded;
    println!("budget {budget}: at most {worst} unread, {overloaded} resets, memory {held}");
    assert!(worst < budget + (64 << 10) && overloaded > 100);
    assert!(held < 4 * budget as i64, "{held}");
    assert_eq!(violation(&lone), None, "a limit of ours ends no session");
}

/// spec.md §5.2.2, §5.3.3.
#[test]
fn a_stream_that_nobody_reads_stalls_only_itself() {
    let _turn = beside();
    let config = Config::default();
    let mut sim = Sim::new([&config, &config], Path { capacity: 10_000, ..Path::PERFECT }, 1);
    let now = sim.now;
    let [stuck, flowing] = [(); 2].map(|()| sim.core(0).open().unwrap());
    let zeros = vec![0; 100_000];
    let mut stuck_sent = 0;
    let (mut sent, mut received) = (0, 0);
    let total = 5_000_000;
    let mut accepted = Vec::new();
    sim.run(now + Duration::from_secs(10), |sim| {
        while sim.core(0).poll_event().is_some() || sim.core(1).poll_event().is_some() {}
        let mut busy = false;
        while let Ok(Written::Bytes(n)) = sim.core(0).write(stuck, &zeros) {
            stuck_sent += n;
            busy = true;
        }
        while sent < total
            && let Ok(Written::Bytes(n)) = sim.core(0).write(flowing, &zeros)
        {
            sent += n;
            busy = true;
        }
        accepted.extend(sim.core(1).accept());
        if let [_, slot] = accepted[..]
            && let Ok(Read::Data(chunk)) = sim.core(1).read_chunk(slot, usize::MAX)
        {
            received += chunk.len();
            busy = true;
        }
        (busy, None)
    });
    assert_eq!(stuck_sent, WINDOW as usize, "exactly its window");
    assert_eq!(received, sent);
    assert!(received >= total);
}

/// spec.md §6.12: lengths are `usize` until they are framed.
#[test]
#[cfg(target_pointer_width = "64")]
fn writes_beyond_four_gibibytes_make_progress() {
    let _turn = alone();
    // Zeroed pages that nobody touches cost no memory.
    let huge = vec![0; (1 << 32) + (1 << 20)];
    for len in [1 << 32, (1 << 32) + 5, huge.len()] {
        let (mut lone, slot) = calling();
        let written = lone.core.write(slot, &huge[..len]);
        assert_eq!(written, Ok(Written::Bytes(64 << 10)));
        let frames = lone.drain();
        assert!(frames.iter().all(|h| h.length <= 64 << 10), "{frames:?}");
    }
    let mut chunk = Bytes::from(huge);
    let len = chunk.len();
    let (mut lone, slot) = calling();
    let Ok(Written::Bytes(taken)) = lone.core.write_chunk(slot, &mut chunk) else { panic!() };
    assert!(taken > 0 && taken <= WINDOW as usize);
    assert_eq!(chunk.len(), len - taken);
}

/// Opens streams at `stride` and sends to each; the time that took.
fn strided(count: u32, stride: u32, rounds: u32) -> Duration {
    let config = Config::builder()
        .accept_backlog(count as usize)
        .max_streams(count as usize)
        .build()
        .unwrap();
    let mut lone = Lone::new(Role::Server, &config);
    let ids: Vec<u32> = (0..count).map(|i| 1 + i.wrapping_mul(stride)).collect();
    let wire = |frame: &dyn Fn(u32) -> Vec<u8>| -> Bytes {
        ids.iter().flat_map(|id| frame(*id)).collect::<Vec<u8>>().into()
    };
    let syns = wire(&|id| credit(Flags::SYN, id, 0).to_vec());
    let bodies = wire(&|id| data(Flags::NONE, id, &id.to_be_bytes()));
    let start = Instant::now();
    lone.core.handle_input(&syns, lone.now);
    for _ in 0..rounds {
        lone.core.handle_input(&bodies, lone.now);
    }
    let took = start.elapsed();
    assert_eq!(lone.core.stats().inbound_streams, count as usize);
    for id in ids {
        let slot = lone.core.accept().unwrap();
        assert_eq!(lone.core.id(slot), Some(StreamId(id)));
        let mut buffer = vec![0; 4 * rounds as usize];
        assert_eq!(lone.core.read(slot, &mut buffer), Ok(Read::Data(buffer.len())));
        assert!(buffer.chunks(4).all(|word| word == id.to_be_bytes()));
        assert_eq!(lone.core.read(slot, &mut buffer), Ok(Read::Blocked));
    }
    took
}

/// spec.md §9.3.2.
#[test]
fn ids_at_any_stride_find_their_streams() {
    let _turn = alone();
    let count = if thorough() { 16_384 } else { 2_048 };
    let best = |stride| (0..3).map(|_| strided(count, stride, 20)).min().unwrap();
    let dense = best(2);
    let mut worst = (0.0, 0);
    for stride in (1..=18).map(|bit| 1 << bit).chain([6, 10, 510, 65_534, 131_074, 262_142]) {
        let ratio = best(stride).as_secs_f64() / dense.as_secs_f64();
        if ratio > worst.0 {
            worst = (ratio, stride);
        }
    }
    println!("{count} streams: stride {} costs {:.2} times the dense ids", worst.1, worst.0);
    if thorough() {
        assert!(worst.0 <= 3.0, "{worst:?}");
    }
}

/// Streams that the peer opens and resets in one frame while so many refusals are owed; the time
/// that took.
fn withdrawn(owed: u32, frames: u32) -> Duration {
    let config = Config::builder().accept_backlog(0).build().unwrap();
    let mut lone = Lone::new(Role::Server, &config);
    let wire = |flags: Flags, ids: std::ops::Range<u32>| -> Bytes {
        ids.flat_map(|n| credit(flags, 1 + 2 * n, 0)).collect::<Vec<u8>>().into()
    };
    lone.core.handle_input(&wire(Flags::SYN, 0..owed), lone.now);
    let resets = wire(Flags::SYN.with(Flags::RST), 10_000..10_000 + frames);
    let start = Instant::now();
    lone.core.handle_input(&resets, lone.now);
    let took = start.elapsed();
    assert_eq!(lone.core.stats().refused, u64::from(owed + frames));
    assert_eq!(lone.drain().len(), owed as usize);
    took
}

/// spec.md §9.3.2: whatever the peer does not read.
#[test]
fn a_reset_costs_no_more_where_many_refusals_are_owed() {
    let _turn = alone();
    let best = |owed| (0..3).map(|_| withdrawn(owed, 2_000)).min().unwrap();
    let ratio = best(8_192).as_secs_f64() / best(1).as_secs_f64();
    println!("resets while 8,192 refusals are owed cost {ratio:.2} times those while 1 is");
    if thorough() {
        assert!(ratio <= 10.0, "{ratio}");
    }
}
