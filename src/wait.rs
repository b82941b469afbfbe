//! Who waits for what, in the order in which they came.

use std::{collections::BTreeMap, task::Waker};

/// Waiters in the order in which they came. A waiter that was woken in vain keeps its place.
#[derive(Debug, Default)]
pub(crate) struct WaitList {
    next: u64,
    waiting: BTreeMap<u64, Waker>,
}

impl WaitList {
    /// Waits on. A waker that this replaces is handed back, to be let go after the lock.
    #[must_use]
    pub(crate) fn register(&mut self, key: &mut Option<u64>, waker: &Waker) -> Option<Waker> {
        let key = *key.get_or_insert_with(|| {
            self.next += 1;
            self.next
        });
        self.waiting.insert(key, waker.clone()).filter(|old| !old.will_wake(waker))
    }

    /// Waits no more. `None`: it was woken already, or never waited.
    pub(crate) fn remove(&mut self, key: u64) -> Option<Waker> {
        self.waiting.remove(&key)
    }

    /// The one with this key, to be woken in its place.
    #[cfg(feature = "sp")]
    pub(crate) fn get(&self, key: u64) -> Option<Waker> {
        self.waiting.get(&key).cloned()
    }

    /// The first in line, to be woken.
    pub(crate) fn pop(&mut self) -> Option<Waker> {
        self.waiting.pop_first().map(|(_, waker)| waker)
    }

    /// The first in line, and its key.
    #[cfg(feature = "sp")]
    pub(crate) fn pop_with_key(&mut self) -> Option<(u64, Waker)> {
        self.waiting.pop_first()
    }

    /// Whether the one with this key waits.
    #[cfg(feature = "sp")]
    pub(crate) fn contains(&self, key: u64) -> bool {
        self.waiting.contains_key(&key)
    }

    /// Everyone, to be woken.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Waker> + use<> {
        std::mem::take(&mut self.waiting).into_values()
    }
}
