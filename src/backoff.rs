//! Waiting longer after each failure: one rule for redialling and for retries.

use std::time::Duration;

use crate::chance::Chance;

/// How long to wait between attempts: the minimum at first, then each time longer by a random
/// factor from 1.1 to 1.5, up to the maximum.
///
/// The randomness keeps many clients that lost the same server from coming back in step. A maximum
/// of zero means no growth: every wait is the minimum.
///
/// ```
/// use std::time::Duration;
/// use trunkline::Backoff;
///
/// let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
/// assert_eq!(backoff.next_wait(), Duration::from_millis(100));
/// let second = backoff.next_wait();
/// assert!(second >= Duration::from_millis(110) && second < Duration::from_millis(150));
/// backoff.reset();
/// assert_eq!(backoff.next_wait(), Duration::from_millis(100));
/// ```
#[derive(Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    last: Option<Duration>,
    chance: Chance,
}

impl Backoff {
    /// Waits from `min` up to `max`. A `min` below one millisecond counts as one: attempts that
    /// fail at once would otherwise spin.
    #[must_use]
    pub fn new(min: Duration, max: Duration) -> Self {
        Self::with_chance(min, max, Chance::new(None))
    }

    /// The waits after a failed accept: descriptors run out, and are there again, but not at once.
    #[cfg(any(feature = "rpc", feature = "peers", feature = "sp"))]
    pub(crate) fn accepting() -> Self {
        Self::new(SHORTEST, LONGEST_ACCEPTING)
    }

    /// As [`new`](Self::new), with a seed, so that a test sees the same waits each time.
    #[must_use]
    pub fn seeded(min: Duration, max: Duration, seed: u64) -> Self {
        Self::with_chance(min, max, Chance::new(Some(seed)))
    }

    fn with_chance(min: Duration, max: Duration, chance: Chance) -> Self {
        Self { min: min.max(SHORTEST), max, last: None, chance }
    }

    /// How long to wait before the next attempt.
    pub fn next_wait(&mut self) -> Duration {
        let wait = match self.last {
            Some(last) if !self.max.is_zero() => {
                let longer = last.as_secs_f64() * self.chance.between(1.1, 1.5);
                // A maximum below the minimum is no reason to wait less than the minimum.
                Duration::try_from_secs_f64(longer)
                    .map_or(self.max, |longer| longer.min(self.max))
                    .max(self.min)
            }
            _ => self.min,
        };
        self.last = Some(wait);
        wait
    }

    /// The last attempt failed for a reason that time does not mend: the next wait is the longest.
    #[cfg(feature = "peers")]
    pub(crate) const fn exhaust(&mut self) {
        self.last = Some(self.max);
    }

    /// The last attempt went well: the next wait is the minimum again.
    pub const fn reset(&mut self) {
        self.last = None;
    }
}

pub(crate) const SHORTEST: Duration = Duration::from_millis(1);

/// Connections that come are kept waiting no longer.
#[cfg(any(feature = "rpc", feature = "peers", feature = "sp"))]
const LONGEST_ACCEPTING: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_by_a_random_factor_up_to_the_maximum() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(2));
        for seed in 0..200 {
            let mut backoff = Backoff::seeded(min, max, seed);
            let mut last = backoff.next_wait();
            assert_eq!(last, min);
            for _ in 0..40 {
                let wait = backoff.next_wait();
                assert!(wait <= max);
                let factor = wait.as_secs_f64() / last.as_secs_f64();
                assert!(wait == max || (1.1..1.5001).contains(&factor), "{factor}");
                last = wait;
            }
            assert_eq!(last, max);
        }
    }

    #[test]
    fn no_maximum_means_no_growth() {
        let mut backoff = Backoff::seeded(Duration::from_millis(10), Duration::ZERO, 1);
        assert!((0..10).all(|_| backoff.next_wait() == Duration::from_millis(10)));
    }

    #[test]
    fn two_generators_differ_and_one_seed_repeats() {
        let waits = |seed| {
            let max = Duration::from_secs(60);
            let mut backoff = Backoff::seeded(Duration::from_millis(100), max, seed);
            (0..8).map(|_| backoff.next_wait()).collect::<Vec<_>>()
        };
        assert_eq!(waits(7), waits(7));
        assert_ne!(waits(7), waits(8));
    }
}
