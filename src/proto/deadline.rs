//! A queue of deadlines with lazy cancellation.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BinaryHeap, VecDeque},
    time::Instant,
};

/// Deadlines in order. Nothing is removed when it is cancelled: the owner knows whether a key
/// still means something when it comes out, says so when one no longer does
/// ([`cancelled`](Self::cancelled)), and lets the queue sweep itself now and then.
///
/// Pushing deadlines in increasing order, the usual case, takes constant time.
#[derive(Debug)]
pub(crate) struct DeadlineQueue<K> {
    /// Those that came in order: they stay where they are put, which in a heap not even these do.
    lane: VecDeque<Deadline<K>>,
    /// Those that came before a later one.
    heap: BinaryHeap<Reverse<Deadline<K>>>,
    cancelled: usize,
}

impl<K: Copy> DeadlineQueue<K> {
    pub(crate) const fn new() -> Self {
        Self { lane: VecDeque::new(), heap: BinaryHeap::new(), cancelled: 0 }
    }

    pub(crate) fn push(&mut self, at: Instant, key: K) {
        let deadline = Deadline { at, key };
        match self.lane.back() {
            Some(last) if at < last.at => self.heap.push(Reverse(deadline)),
            _ => self.lane.push_back(deadline),
        }
    }

    /// The next deadline, cancelled or not.
    pub(crate) fn next(&self) -> Option<Instant> {
        let lane = self.lane.front().map(|deadline| deadline.at);
        let heap = self.heap.peek().map(|Reverse(deadline)| deadline.at);
        lane.into_iter().chain(heap).min()
    }

    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<K> {
        let next = self.next().filter(|next| *next <= now)?;
        if self.lane.front().is_some_and(|first| first.at == next) {
            return self.lane.pop_front().map(|deadline| deadline.key);
        }
        self.heap.pop().map(|Reverse(deadline)| deadline.key)
    }

    /// One key in the queue means nothing any more.
    pub(crate) const fn cancelled(&mut self) {
        self.cancelled += 1;
    }

    /// Whether so much of the queue was cancelled that a sweep is worth its cost.
    pub(crate) fn wants_sweep(&self) -> bool {
        self.cancelled > self.len() / 2 + SWEEP_MIN
    }

    /// Drops what `is_live` denies, once that is most of the queue.
    pub(crate) fn sweep(&mut self, mut is_live: impl FnMut(K) -> bool) {
        if self.wants_sweep() {
            self.lane.retain(|deadline| is_live(deadline.key));
            self.heap.retain(|Reverse(deadline)| is_live(deadline.key));
            self.cancelled = 0;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.lane.len() + self.heap.len()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new();
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
