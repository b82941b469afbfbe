//! Who waits, first come first served.

use std::{
    collections::{HashMap, HashSet},
    task::Context,
};

use super::pattern::Wakes;
use crate::wait::WaitList;

/// Those who wait for a turn. A turn is offered, not given: who is woken looks again.
#[derive(Debug, Default)]
pub(crate) struct Line {
    waiting: WaitList,
    /// Those who were woken and did not look yet.
    offered: HashSet<u64>,
}

impl Line {
    /// Waits, or goes on waiting in the same place.
    pub(crate) fn wait(&mut self, key: &mut Option<u64>, cx: &Context<'_>, wakes: &mut Wakes) {
        if let Some(key) = key {
            self.offered.remove(key);
        }
        wakes.let_go(self.waiting.register(key, cx.waker()));
    }

    pub(crate) fn wake_one(&mut self, wakes: &mut Wakes) {
        if let Some((key, waker)) = self.waiting.pop_with_key() {
            self.offered.insert(key);
            wakes.wake(Some(waker));
        }
    }

    pub(crate) fn wake_all(&mut self, wakes: &mut Wakes) {
        self.waiting.take().for_each(|waker| wakes.wake(Some(waker)));
    }

    /// Wakes one of them, who keeps its place.
    pub(crate) fn nudge(&self, key: u64, wakes: &mut Wakes) {
        wakes.wake(self.waiting.get(key));
    }

    /// Leaves; whether this one had been woken, and the offer is for the next.
    pub(crate) fn leave(&mut self, key: u64, wakes: &mut Wakes) -> bool {
        wakes.let_go(self.waiting.remove(key));
        self.offered.remove(&key)
    }

    /// Whether this one has not left.
    pub(crate) fn contains(&self, key: u64) -> bool {
        self.waiting.contains(key) || self.offered.contains(&key)
    }
}

/// Those who wait to be given something.
#[derive(Debug)]
pub(crate) struct Receivers<T> {
    waiting: WaitList,
    given: HashMap<u64, T>,
}

impl<T> Default for Receivers<T> {
    fn default() -> Self {
        Self { waiting: WaitList::default(), given: HashMap::new() }
    }
}

impl<T> Receivers<T> {
    /// Gives to the first who waits, or gives back.
    pub(crate) fn give(&mut self, item: T, wakes: &mut Wakes) -> Option<T> {
        let Some((key, waker)) = self.waiting.pop_with_key() else { return Some(item) };
        self.given.insert(key, item);
        wakes.wake(Some(waker));
        None
    }

    /// What was given to this one.
    pub(crate) fn take(&mut self, key: Option<u64>) -> Option<T> {
        self.given.remove(&key?)
    }

    /// Waits, or goes on waiting in the same place.
    pub(crate) fn wait(&mut self, key: &mut Option<u64>, cx: &Context<'_>, wakes: &mut Wakes) {
        wakes.let_go(self.waiting.register(key, cx.waker()));
    }

    pub(crate) fn wake_all(&mut self, wakes: &mut Wakes) {
        self.waiting.take().for_each(|waker| wakes.wake(Some(waker)));
    }

    /// Wakes one of them, who keeps its place.
    pub(crate) fn nudge(&self, key: u64, wakes: &mut Wakes) {
        wakes.wake(self.waiting.get(key));
    }

    /// Leaves; what it was given and did not take is for someone else.
    pub(crate) fn leave(&mut self, key: u64, wakes: &mut Wakes) -> Option<T> {
        wakes.let_go(self.waiting.remove(key));
        self.given.remove(&key)
    }

    /// Whether this one has not left.
    pub(crate) fn contains(&self, key: u64) -> bool {
        self.waiting.contains(key) || self.given.contains_key(&key)
    }
}
