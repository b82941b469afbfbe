//! Writers that wait for their turn to stage something (`spec.md §6.9`).

use std::collections::VecDeque;

use super::Slot;

/// The line. Whoever has a turn has left it.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Those who had a turn and found no room, because others were quicker: they go first.
    returned: VecDeque<Slot>,
    waiting: VecDeque<Slot>,
    /// How often in a row the driver found nothing of what those with a turn may stage.
    looks: u8,
}

impl Line {
    pub(super) fn len(&self) -> usize {
        self.returned.len() + self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// At the end; one that had a turn keeps its place.
    pub(super) fn join(&mut self, slot: Slot, had_turn: bool) {
        let line = if had_turn { &mut self.returned } else { &mut self.waiting };
        line.push_back(slot);
    }

    /// Whose turn it is.
    pub(super) fn next(&mut self) -> Option<Slot> {
        self.returned.pop_front().or_else(|| self.waiting.pop_front())
    }

    /// Turns were given for a new batch.
    pub(super) const fn begin(&mut self) {
        self.looks = 0;
    }

    /// The driver looked, and nothing was staged. True: those whose turn it was had the time to
    /// come, and the next in line must not wait for them.
    pub(super) const fn has_lapsed(&mut self) -> bool {
        self.looks += 1;
        let lapsed = self.looks >= LOOKS;
        if lapsed {
            self.looks = 0;
        }
        lapsed
    }
}

/// With one look turns would lapse that were given within the same poll of the driver.
const LOOKS: u8 = 2;
