//! Which pipe is next.

use std::collections::{BTreeMap, HashMap};

use nohash_hasher::BuildNoHashHasher;

/// Pipes that can take a message, in the order of their turns.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    by_turn: BTreeMap<i64, u32>,
    turns: HashMap<u32, i64, BuildNoHashHasher<u32>>,
    first: i64,
    last: i64,
}

impl Ready {
    pub(crate) fn first(&self) -> Option<u32> {
        self.by_turn.values().next().copied()
    }

    /// Goes last, if it is not in line already.
    pub(crate) fn join(&mut self, id: u32) {
        if !self.turns.contains_key(&id) {
            self.last += 1;
            self.place(id, self.last);
        }
    }

    pub(crate) fn leave(&mut self, id: u32) {
        if let Some(turn) = self.turns.remove(&id) {
            self.by_turn.remove(&turn);
        }
    }

    /// Had its turn: goes last.
    pub(crate) fn rotate(&mut self, id: u32) {
        if self.turns.len() > 1 && self.turns.contains_key(&id) {
            self.leave(id);
            self.join(id);
        }
    }

    /// Goes first, if it is in line.
    pub(crate) fn prefer(&mut self, id: u32) {
        if self.turns.len() > 1 && self.first() != Some(id) && self.turns.contains_key(&id) {
            self.leave(id);
            self.first -= 1;
            self.place(id, self.first);
        }
    }

    fn place(&mut self, id: u32, turn: i64) {
        self.turns.insert(id, turn);
        self.by_turn.insert(turn, id);
    }
}
