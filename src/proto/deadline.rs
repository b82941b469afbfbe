//! A queue of deadlines with lazy cancellation.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    time::Instant,
};

/// Deadlines in order. Nothing is removed when it is cancelled: the owner knows whether a key
/// still means something when it comes out, says so when one no longer does
/// ([`cancelled`](Self::cancelled)), and lets the queue sweep itself now and then.
///
/// Pushing deadlines in increasing order, the usual case, takes constant time.
#[derive(Debug)]
pub(crate) struct DeadlineQueue<K> {
    heap: BinaryHeap<Reverse<Deadline<K>>>,
    cancelled: usize,
}

impl<K: Copy> DeadlineQueue<K> {
    pub(crate) const fn new() -> Self {
        Self { heap: BinaryHeap::new(), cancelled: 0 }
    }

    pub(crate) fn push(&mut self, at: Instant, key: K) {
        self.heap.push(Reverse(Deadline { at, key }));
    }

    /// The next deadline, cancelled or not.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(deadline)| deadline.at)
    }

    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<K> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(deadline)| deadline.key)
    }

    /// One key in the queue means nothing any more.
    pub(crate) const fn cancelled(&mut self) {
        self.cancelled += 1;
    }

    /// Whether so much of the queue was cancelled that a sweep is worth its cost.
    pub(crate) fn wants_sweep(&self) -> bool {
        self.cancelled > self.heap.len() / 2 + SWEEP_MIN
    }

    /// Drops what `is_live` denies, once that is most of the queue.
    pub(crate) fn sweep(&mut self, mut is_live: impl FnMut(K) -> bool) {
        if self.wants_sweep() {
            self.heap.retain(|Reverse(deadline)| is_live(deadline.key));
            self.cancelled = 0;
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    pub(crate) fn clear(&mut self) {
        self.heap = BinaryHeap::new();
        self.cancelled = 0;
    }
}

/// Below this many cancelled deadlines a sweep is not worth its cost.
const SWEEP_MIN: usize = 64;

#[derive(Debug)]
struct Deadline<K> {
    at: Instant,
    key: K,
}

impl<K> PartialEq for Deadline<K> {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl<K> Eq for Deadline<K> {}

impl<K> PartialOrd for Deadline<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> Ord for Deadline<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use quickcheck::quickcheck;

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Push(u16),
        Cancel(u8),
        Sweep,
        PassTime(u16),
    }

    impl quickcheck::Arbitrary for Step {
        fn arbitrary(g: &mut quickcheck::Gen) -> Self {
            match u8::arbitrary(g) % 8 {
                // Of a few timeouts as a rule, as in a session, and of any now and then.
                0..=2 => Self::Push([1_000, 5_000, 300, 20][usize::arbitrary(g) % 4]),
                3 => Self::Push(u16::arbitrary(g)),
                4..=5 => Self::Cancel(u8::arbitrary(g)),
                6 => Self::Sweep,
                _ => Self::PassTime(u16::arbitrary(g) % 400),
            }
        }
    }

    quickcheck! {
        /// What comes out is what is due, in order; what lives stays; the dead are bounded.
        fn a_queue_does_what_a_sorted_list_does(steps: Vec<Step>) -> bool {
            let start = Instant::now();
            let mut now = start;
            let mut queue = DeadlineQueue::new();
            let mut live = BTreeSet::new();
            // Often enough for sweeps to matter.
            for (number, step) in steps.iter().cycle().take(steps.len() * 20).enumerate() {
                match *step {
                    Step::Push(millis) => {
                        let at = now + Duration::from_millis(millis.into());
                        queue.push(at, (at, number));
                        live.insert((at, number));
                    }
                    Step::Cancel(which) => {
                        let nth = usize::from(which) % live.len().max(1);
                        if let Some(key) = live.iter().nth(nth).copied() {
                            live.remove(&key);
                            queue.cancelled();
                        }
                    }
                    Step::Sweep => {
                        queue.sweep(|key| live.contains(&key));
                        if queue.len() > live.len() * 2 + 2 * SWEEP_MIN + 2 {
                            return false;
                        }
                    }
                    Step::PassTime(millis) => {
                        now += Duration::from_millis(millis.into());
                        let mut last = start;
                        while let Some(key) = queue.pop_due(now) {
                            if key.0 < last || key.0 > now {
                                return false;
                            }
                            last = key.0;
                            live.remove(&key);
                        }
                        if live.first().is_some_and(|(at, _)| *at <= now) {
                            return false;
                        }
                    }
                }
                let first = live.first().map(|(at, _)| *at);
                if first.is_some_and(|at| queue.next().is_none_or(|next| next > at)) {
                    return false;
                }
            }
            true
        }
    }
}
