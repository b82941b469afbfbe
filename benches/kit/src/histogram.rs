//! Round-trip times in buckets of constant relative width: exact to 1.6 %, and recording allocates nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts of durations, in nanoseconds.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
}

/// The histogram of this process; one task records.
pub static HISTOGRAM: Histogram = Histogram::new();

impl Histogram {
    const fn new() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS] }
    }

    /// Counts one duration.
    pub fn record(&self, duration: Duration) {
        let bucket = &self.buckets[bucket_of(duration.as_nanos() as u64).min(BUCKETS - 1)];
        bucket.store(bucket.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// The counts so far. The difference of two of these is the histogram of the time between.
    pub fn counts(&self) -> Vec<u64> {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect()
    }
}

/// The duration that `share` of all counted ones do not exceed.
pub fn percentile(counts: &[u64], share: f64) -> Option<Duration> {
    let total: u64 = counts.iter().sum();
    let rank = (total as f64 * share).ceil().max(1.0) as u64;
    let mut seen = 0;
    for (bucket, count) in counts.iter().enumerate() {
        seen += count;
        if seen >= rank {
            return Some(Duration::from_nanos(middle_of(bucket)));
        }
    }
    None
}

/// Below 64 a bucket per value, above 64 buckets per power of two.
fn bucket_of(nanos: u64) -> usize {
    if nanos < STEPS {
        return nanos as usize;
    }
    let shift = nanos.ilog2() - STEP_BITS;
    (STEPS * u64::from(shift) + (nanos >> shift)) as usize
}

fn middle_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return bucket;
    }
    let shift = bucket / STEPS - 1;
    let low = (bucket % STEPS + STEPS) << shift;
    low + (1 << shift) / 2
}

const STEP_BITS: u32 = 6;
const STEPS: u64 = 1 << STEP_BITS;

/// Up to 2^42 nanoseconds, more than an hour.
const BUCKETS: usize = (STEPS as usize) * 37;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_its_middle_and_is_narrow() {
        for exponent in 0..41 {
            for step in 0..7_u64 {
                let nanos = (1_u64 << exponent) + (step << exponent) / 7;
                let middle = middle_of(bucket_of(nanos));
                assert_eq!(bucket_of(middle), bucket_of(nanos), "{nanos}");
                assert!(
                    middle.abs_diff(nanos) as f64 <= nanos as f64 * 0.016,
                    "{nanos} is not {middle}"
                );
            }
        }
    }

    #[test]
    fn percentiles_are_ranks() {
        let histogram = Histogram::new();
        for nanos in 1..=50 {
            histogram.record(Duration::from_nanos(nanos));
        }
        let counts = histogram.counts();
        assert_eq!(percentile(&counts, 0.5), Some(Duration::from_nanos(25)));
        assert_eq!(percentile(&counts, 0.99), Some(Duration::from_nanos(50)));
        assert_eq!(percentile(&[0, 0], 0.5), None);
    }
}
