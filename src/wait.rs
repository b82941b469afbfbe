//! Who waits for what, in the order in which they came.

#[cfg(feature = "exchange")]
use std::task::Poll;
use std::{collections::VecDeque, task::Waker};

#[cfg(feature = "exchange")]
use crate::sync::Mutex;

/// Waiters in the order in which they came. A waiter that was woken in vain keeps its place.
#[derive(Debug, Default)]
pub(crate) struct WaitList {
    next: u64,
    /// In the order of keys. Who gave up in the middle leaves an empty place: the first is taken
    /// always, and at least half of all.
    places: VecDeque<(u64, Option<Waker>)>,
    empty: usize,
    /// Woken one by one, and not heard of since.
    offered: usize,
}

impl WaitList {
    /// Waits on. A waker that this replaces is handed back, to be let go after the lock.
    #[must_use]
    pub(crate) fn register(&mut self, key: &mut Option<u64>, waker: &Waker) -> Option<Waker> {
        let Some(key) = *key else {
            self.next += 1;
            *key = Some(self.next);
            self.places.push_back((self.next, Some(waker.clone())));
            return None;
        };
        match self.find(key) {
            Ok(at) => {
                let old = self.places[at].1.replace(waker.clone());
                self.empty -= usize::from(old.is_none());
                old.filter(|old| !old.will_wake(waker))
            }
            Err(at) => {
                self.places.insert(at, (key, Some(waker.clone())));
                None
            }
        }
    }

    /// Waits no more. `None`: it was woken already, or never waited.
    pub(crate) fn remove(&mut self, key: u64) -> Option<Waker> {
        let at = self.find(key).ok()?;
        let waker = self.places[at].1.take()?;
        self.empty += 1;
        self.tidy();
        Some(waker)
    }

    /// The one with this key, to be woken in its place.
    pub(crate) fn get(&self, key: u64) -> Option<Waker> {
        self.find(key).ok().and_then(|at| self.places[at].1.clone())
    }

    /// The first in line, to be woken.
    pub(crate) fn pop(&mut self) -> Option<Waker> {
        let (_, waker) = self.pop_first()?;
        self.offered += 1;
        Some(waker)
    }

    /// One who waits, or is new, comes to look, where there is room for so many. False: others
    /// were here before, and leave none, so that the newcomer has to wait.
    #[inline]
    pub(crate) fn may_look(&mut self, key: Option<u64>, room: impl FnOnce() -> usize) -> bool {
        match key {
            Some(key) => {
                if !self.contains(key) {
                    self.offered = self.offered.saturating_sub(1);
                }
                true
            }
            None => self.is_empty() && (self.offered == 0 || self.offered < room()),
        }
    }

    /// How many were woken one by one, and have not come to look.
    pub(crate) const fn offered(&self) -> usize {
        self.offered
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// One who was woken goes away without a look.
    pub(crate) fn decline(&mut self) {
        self.offered = self.offered.saturating_sub(1);
    }

    /// The first in line, and its key.
    #[cfg(feature = "sp")]
    pub(crate) fn pop_with_key(&mut self) -> Option<(u64, Waker)> {
        self.pop_first()
    }

    /// Whether the one with this key waits.
    pub(crate) fn contains(&self, key: u64) -> bool {
        self.find(key).is_ok_and(|at| self.places[at].1.is_some())
    }

    /// Everyone, to be woken.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Waker> + use<> {
        self.offered += self.places.len() - self.empty;
        self.empty = 0;
        std::mem::take(&mut self.places).into_iter().filter_map(|(_, waker)| waker)
    }

    /// The place of this key, or where it would be.
    fn find(&self, key: u64) -> Result<usize, usize> {
        // Who was woken in vain came before all who wait.
        match self.places.front() {
            Some((first, _)) if *first < key => self.places.binary_search_by_key(&key, |(k, _)| *k),
            Some((first, _)) if *first == key => Ok(0),
            _ => Err(0),
        }
    }

    fn pop_first(&mut self) -> Option<(u64, Waker)> {
        let (key, waker) = self.places.pop_front()?;
        if self.empty > 0 || self.places.is_empty() {
            self.tidy();
        }
        Some((key, waker?))
    }

    /// Drops the empty places in front, and all of them where they are most.
    fn tidy(&mut self) {
        while let Some((_, None)) = self.places.front() {
            self.places.pop_front();
            self.empty -= 1;
        }
        if self.empty > self.places.len() / 2 {
            self.places.retain(|(_, waker)| waker.is_some());
            self.empty = 0;
        }
        if self.places.is_empty() && self.places.capacity() > KEEP {
            self.places = VecDeque::new();
        }
    }
}

/// Places that an empty list keeps.
const KEEP: usize = 16;

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
    use std::{
        collections::BTreeMap,
        sync::Arc,
        task::{Wake, Waker},
    };

    use quickcheck::{Arbitrary, Gen, QuickCheck};

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Come,
        /// Who came as so many-eth is there again, with another waker.
        Return(u8),
        Leave(u8),
        Pop,
        TakeAll,
    }

    impl Arbitrary for Step {
        fn arbitrary(g: &mut Gen) -> Self {
            let who = u8::arbitrary(g);
            match u8::arbitrary(g) {
                0..100 => Self::Come,
                100..150 => Self::Return(who),
                150..220 => Self::Leave(who),
                220..254 => Self::Pop,
                254.. => Self::TakeAll,
            }
        }
    }

    struct Sleeper;

    impl Wake for Sleeper {
        fn wake(self: Arc<Self>) {}
    }

    fn same(one: Option<&Waker>, other: Option<&Waker>) -> bool {
        match (one, other) {
            (Some(one), Some(other)) => one.will_wake(other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }

    /// A waiter who came earlier is first, however often it was woken in vain, and who left is
    /// not found; none of that costs places for ever.
    #[test]
    fn a_list_is_a_map_in_the_order_of_keys() {
        fn holds(steps: Vec<Step>) -> bool {
            let (mut list, mut model) = (WaitList::default(), BTreeMap::<u64, Waker>::new());
            let (mut keys, mut offered) = (Vec::new(), 0);
            let pick = |who: u8, came: u64| (came > 0).then(|| u64::from(who) % came + 1);
            for step in steps {
                let came = keys.len() as u64;
                let waker = Waker::from(Arc::new(Sleeper));
                let holds = match step {
                    Step::Come => {
                        let mut key = None;
                        let old = list.register(&mut key, &waker);
                        keys.extend(key);
                        old.is_none() && model.insert(came + 1, waker).is_none()
                    }
                    Step::Return(who) => pick(who, came).is_none_or(|key| {
                        let old = list.register(&mut Some(key), &waker);
                        same(old.as_ref(), model.insert(key, waker).as_ref())
                    }),
                    Step::Leave(who) => pick(who, came).is_none_or(|key| {
                        same(list.remove(key).as_ref(), model.remove(&key).as_ref())
                    }),
                    Step::Pop => {
                        let first = model.pop_first().map(|(_, waker)| waker);
                        offered += usize::from(first.is_some());
                        same(list.pop().as_ref(), first.as_ref())
                    }
                    Step::TakeAll => {
                        let all: Vec<_> = std::mem::take(&mut model).into_values().collect();
                        let taken: Vec<_> = list.take().collect();
                        offered += all.len();
                        all.len() == taken.len()
                            && all.iter().zip(&taken).all(|(one, other)| one.will_wake(other))
                    }
                };
                let contained = (1..=came + 1).all(|k| list.contains(k) == model.contains_key(&k));
                let few = list.places.len() <= 2 * model.len();
                let counted = list.offered() == offered && list.is_empty() == model.is_empty();
                if !(holds && contained && few && counted) {
                    return false;
                }
            }
            true
        }
        QuickCheck::new().tests(2_000).quickcheck(holds as fn(Vec<Step>) -> bool);
    }

    #[test]
    fn newcomers_wait_while_someone_was_here_before() {
        let waker = futures::task::noop_waker_ref();
        let (mut list, mut first, mut second) = (WaitList::default(), None, None);
        assert!(list.may_look(None, || 1));
        let _ = list.register(&mut first, waker);
        assert!(!list.may_look(None, || 1), "one waits");
        assert!(list.pop().is_some());
        assert!(!list.may_look(None, || 1), "one was woken and has not looked");
        assert!(list.may_look(None, || 2), "there is room for both");
        assert!(list.may_look(first, || 1));
        assert!(list.may_look(None, || 1), "it has looked");
        // In vain: it keeps its place.
        let _ = list.register(&mut second, waker);
        let _ = list.register(&mut first, waker);
        assert!(list.pop().is_some() && list.may_look(first, || 1));
        assert!(!list.may_look(None, || 1));
        assert!(list.pop().is_some());
        list.decline();
        assert!(list.may_look(None, || 1), "it went away");
    }
}
