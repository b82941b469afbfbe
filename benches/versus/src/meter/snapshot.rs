//! What a process has done and used so far, and how the server tells the client.

use std::io::{self, Read, Write};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use super::{COUNTERS, allocator};

/// What a process has done and used since it started.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When, by the process's own clock.
    pub at: Duration,
    /// Processor time, of the user and of the system.
    pub cpu: Duration,
    /// Allocations.
    pub allocations: u64,
    /// Heap in use.
    pub live_bytes: i64,
    /// The work of every task that counts its own.
    pub counters: Vec<u64>,
}

impl Snapshot {
    /// Now; `start` is any fixed moment.
    pub fn take(start: Instant) -> Self {
        // First of all, so that taking a snapshot is not part of the difference of two.
        let (allocations, live_bytes) = (allocator::allocations(), allocator::live_bytes());
        let counters = COUNTERS.lock().unwrap_or_else(PoisonError::into_inner);
        let counters = counters.iter().map(|counter| counter.0.load(Ordering::Relaxed)).collect();
        Self { at: start.elapsed(), cpu: processor_time(), allocations, live_bytes, counters }
    }

    /// All the work counted.
    pub fn work(&self) -> u64 {
        self.counters.iter().sum()
    }

    /// Sends the snapshot over the control connection.
    pub fn write_to(&self, to: &mut impl Write) -> io::Result<()> {
        let head = [
            self.at.as_nanos() as u64,
            self.cpu.as_nanos() as u64,
            self.allocations,
            self.live_bytes as u64,
            self.counters.len() as u64,
        ];
        let words = head.iter().chain(&self.counters);
        to.write_all(&words.flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>())
    }

    /// Receives a snapshot.
    pub fn read_from(from: &mut impl Read) -> io::Result<Self> {
        let [at, cpu, allocations, live_bytes, counters] = [(); 5].map(|()| read_word(from));
        Ok(Self {
            at: Duration::from_nanos(at?),
            cpu: Duration::from_nanos(cpu?),
            allocations: allocations?,
            live_bytes: live_bytes? as i64,
            counters: (0..counters?).map(|_| read_word(from)).collect::<io::Result<_>>()?,
        })
    }
}

fn read_word(from: &mut impl Read) -> io::Result<u64> {
    let mut word = [0; 8];
    from.read_exact(&mut word)?;
    Ok(u64::from_le_bytes(word))
}

fn processor_time() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        return Duration::ZERO;
    };
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(micros as u64)
}
