//! Which sessions with which peers live: no IO, no clock, no waker.
//!
//! Both ends of a session judge by the same facts, so they keep the same one (`spec.md §16.3`).

use std::{cmp::Reverse, collections::HashMap};

use super::PeerId;

/// The live sessions, by peer; `T` is what comes with each.
#[derive(Debug)]
pub(crate) struct Table<T> {
    me: PeerId,
    /// Sessions kept with one peer.
    most: usize,
    peers: HashMap<PeerId, Sessions<T>>,
    last: u64,
}

/// The sessions with one peer, the best first; there is one at least.
#[derive(Debug)]
struct Sessions<T> {
    /// Which life of the peer they belong to.
    incarnation: u64,
    entries: Vec<Entry<T>>,
    /// The highest numbers of dials seen, as many as sessions are kept: the peer's, and ours.
    dials: [Vec<u64>; 2],
}

/// What both ends know of a session after its handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Which life of the peer's store this is.
    pub(crate) incarnation: u64,
    /// Whether we dialled.
    pub(crate) dialled: bool,
    /// The number that its dialler gave it, among all its dials.
    pub(crate) dial: u64,
    /// How many dials the one who accepted had begun when it answered.
    pub(crate) answered_after: u64,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u64,
    facts: Facts,
    item: T,
}

/// What became of a session that was entered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entered<T> {
    /// Its own number, if it is kept.
    pub(crate) generation: Option<u64>,
    /// Those that it takes the place of, or itself.
    pub(crate) losers: Vec<T>,
}

impl<T> Table<T> {
    pub(crate) fn new(me: PeerId, most: usize) -> Self {
        Self { me, most, peers: HashMap::new(), last: 0 }
    }

    /// A session whose handshake is done. Keeps the best that there may be of it.
    pub(crate) fn enter(&mut self, id: &PeerId, facts: Facts, item: T) -> Entered<T> {
        self.last += 1;
        let generation = self.last;
        let fresh = || Sessions::new(facts.incarnation);
        let sessions = self.peers.entry(id.clone()).or_insert_with(fresh);
        let mut losers = Vec::new();
        if sessions.incarnation != facts.incarnation {
            // Another life of the same peer: what was before is gone, whether noticed or not.
            let before = std::mem::replace(sessions, fresh());
            losers.extend(before.entries.into_iter().map(|entry| entry.item));
        }
        if sessions.is_overtaken(facts, self.most) {
            losers.push(item);
            return Entered { generation: None, losers };
        }
        let entries = &mut sessions.entries;
        // Dialled by one who knew of the other: then that is dead for him.
        while entries.len() >= self.most
            && let Some(at) = entries.iter().rposition(|entry| facts.is_after(&entry.facts))
        {
            losers.push(entries.remove(at).item);
        }
        entries.push(Entry { generation, facts, item });
        let we_are_smaller = self.me < *id;
        entries.sort_by_key(|entry| entry.facts.rank(we_are_smaller));
        losers.extend(entries.drain(self.most.min(entries.len())..).map(|entry| entry.item));
        let kept = entries.iter().any(|entry| entry.generation == generation);
        Entered { generation: kept.then_some(generation), losers }
    }

    /// A session ended: it is taken out, and never one that came after it. Whether it was there,
    /// and it was the last.
    pub(crate) fn leave(&mut self, id: &PeerId, generation: u64) -> Option<Left<T>> {
        let entries = &mut self.peers.get_mut(id)?.entries;
        let at = entries.iter().position(|entry| entry.generation == generation)?;
        let item = entries.remove(at).item;
        let last = entries.is_empty();
        if last {
            self.peers.remove(id);
        }
        Some(Left { item, last })
    }

    /// The session to use: the first in rank.
    pub(crate) fn get(&self, id: &PeerId) -> Option<&T> {
        self.peers.get(id)?.entries.first().map(|entry| &entry.item)
    }

    /// All sessions with a peer, and their numbers.
    pub(crate) fn all(&self, id: &PeerId) -> impl Iterator<Item = (u64, &T)> {
        let entries = self.peers.get(id).into_iter().flat_map(|sessions| &sessions.entries);
        entries.map(|entry| (entry.generation, &entry.item))
    }

    /// Every session, and its number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        let entries = self.peers.values().flat_map(|sessions| &sessions.entries);
        entries.map(|entry| (entry.generation, &entry.item))
    }

    /// Which life of the peer its sessions belong to.
    pub(crate) fn incarnation(&self, id: &PeerId) -> Option<u64> {
        Some(self.peers.get(id)?.incarnation)
    }

    /// Peers with a session.
    pub(crate) fn len(&self) -> usize {
        self.peers.len()
    }
}

impl<T> Sessions<T> {
    const fn new(incarnation: u64) -> Self {
        Self { incarnation, entries: Vec::new(), dials: [Vec::new(), Vec::new()] }
    }

    /// Whether as many later dials of the same dialler as may be kept were here before this one,
    /// which was under way for longer.
    fn is_overtaken(&mut self, facts: Facts, most: usize) -> bool {
        let dials = &mut self.dials[usize::from(facts.dialled)];
        let at = dials.partition_point(|dial| *dial > facts.dial);
        dials.insert(at, facts.dial);
        dials.truncate(most);
        at >= most
    }
}

/// A session that was taken out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Left<T> {
    pub(crate) item: T,
    pub(crate) last: bool,
}

impl Facts {
    /// Whether `self` was dialled after its dialler knew of `other`: then that is dead, whoever
    /// has not noticed yet.
    const fn is_after(&self, other: &Self) -> bool {
        // The one who dialled this answered the other, and had begun so many dials by then.
        self.dialled != other.dialled && self.dial > other.answered_after
    }

    /// Lower is better, and the same on both ends.
    const fn rank(&self, we_are_smaller: bool) -> (bool, Reverse<u64>) {
        (self.dialled != we_are_smaller, Reverse(self.dial))
    }
}
