//! Who waits for what, in the order in which they came.

#[cfg(feature = "exchange")]
use std::task::Poll;
use std::{collections::BTreeMap, task::Waker};

#[cfg(feature = "exchange")]
use crate::sync::Mutex;

/// Waiters in the order in which they came. A waiter that was woken in vain keeps its place.
#[derive(Debug, Default)]
pub(crate) struct WaitList {
    next: u64,
    waiting: BTreeMap<u64, Waker>,
    /// Woken one by one, and not heard of since.
    offered: usize,
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
        let (_, waker) = self.waiting.pop_first()?;
        self.offered += 1;
        Some(waker)
    }

    /// One who waits, or is new, comes to look, where there is room for so many. False: others
    /// were here before, and leave none, so that the newcomer has to wait.
    pub(crate) fn may_look(&mut self, key: Option<u64>, room: usize) -> bool {
        match key {
            Some(key) => {
                if !self.waiting.contains_key(&key) {
                    self.offered = self.offered.saturating_sub(1);
                }
                true
            }
            None => self.waiting.is_empty() && (self.offered == 0 || self.offered < room),
        }
    }

    /// How many were woken one by one, and have not come to look.
    pub(crate) const fn offered(&self) -> usize {
        self.offered
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// One who was woken goes away without a look.
    pub(crate) fn decline(&mut self) {
        self.offered = self.offered.saturating_sub(1);
    }

    /// The first in line, and its key.
    #[cfg(feature = "sp")]
    pub(crate) fn pop_with_key(&mut self) -> Option<(u64, Waker)> {
        self.waiting.pop_first()
    }

    /// Whether the one with this key waits.
    #[cfg(any(feature = "sp", feature = "peers"))]
    pub(crate) fn contains(&self, key: u64) -> bool {
        self.waiting.contains_key(&key)
    }

    /// Everyone, to be woken.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Waker> + use<> {
        self.offered += self.waiting.len();
        std::mem::take(&mut self.waiting).into_values()
    }
}

/// Wakes whoever was taken out from under a lock, if anybody.
pub(crate) fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Those who wait until something holds. All are woken when it may; who gives up leaves nothing
/// behind.
#[cfg(feature = "exchange")]
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    list: Mutex<WaitList>,
}

#[cfg(feature = "exchange")]
impl Waiters {
    pub(crate) async fn until(&self, holds: impl Fn() -> bool) {
        let mut place = Place { waiters: self, key: None };
        std::future::poll_fn(|cx| {
            if holds() {
                return Poll::Ready(());
            }
            let replaced = self.list.lock().register(&mut place.key, cx.waker());
            drop(replaced);
            // It may have come to hold before the waker was there.
            if holds() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await
    }

    /// It may hold now.
    pub(crate) fn wake(&self) {
        let waiting = self.list.lock().take();
        waiting.for_each(Waker::wake);
    }
}

#[cfg(feature = "exchange")]
struct Place<'a> {
    waiters: &'a Waiters,
    key: Option<u64>,
}

#[cfg(feature = "exchange")]
impl Drop for Place<'_> {
    fn drop(&mut self) {
        let waker = self.key.and_then(|key| self.waiters.list.lock().remove(key));
        drop(waker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newcomers_wait_while_someone_was_here_before() {
        let waker = futures::task::noop_waker_ref();
        let (mut list, mut first, mut second) = (WaitList::default(), None, None);
        assert!(list.may_look(None, 1));
        let _ = list.register(&mut first, waker);
        assert!(!list.may_look(None, 1), "one waits");
        assert!(list.pop().is_some());
        assert!(!list.may_look(None, 1), "one was woken and has not looked");
        assert!(list.may_look(None, 2), "there is room for both");
        assert!(list.may_look(first, 1));
        assert!(list.may_look(None, 1), "it has looked");
        // In vain: it keeps its place.
        let _ = list.register(&mut second, waker);
        let _ = list.register(&mut first, waker);
        assert!(list.pop().is_some() && list.may_look(first, 1));
        assert!(!list.may_look(None, 1));
        assert!(list.pop().is_some());
        list.decline();
        assert!(list.may_look(None, 1), "it went away");
    }
}
