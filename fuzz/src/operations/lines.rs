//! The streams, seen from above the two ends.

use std::collections::HashMap;

use super::super::pattern::pattern;

#[derive(Default)]
pub(super) struct Lines {
    pub(super) lines: Vec<Line>,
    /// Which line an id belongs to.
    ids: HashMap<u32, usize>,
}

impl Lines {
    /// One more, and its number.
    pub(super) fn open(&mut self) -> usize {
        self.lines.push(Line::default());
        self.lines.len() - 1
    }

    /// The line of a stream that was accepted.
    pub(super) fn accepted(&self, id: u32) -> usize {
        self.ids.get(&id).copied().expect("accepted what nobody opened")
    }

    /// An end holds the stream of that id as this line.
    pub(super) fn held(&mut self, id: u32, line: usize) {
        let known = *self.ids.entry(id).or_insert(line);
        assert_eq!(known, line, "stream {id} is two streams");
    }

    /// A stream that nobody holds any more was given an id.
    pub(super) fn named(&mut self, id: u32, line: usize) {
        assert_eq!(self.ids.insert(id, line), None);
    }
}

/// One stream, seen from above: index 0 is what end 0 did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Line {
    pub(super) written: [usize; 2],
    pub(super) read: [usize; 2],
    pub(super) finished: [bool; 2],
    /// A user reset it, or dropped it without closing it.
    pub(super) torn: bool,
    /// The end writes and reads no more. Where both only write they may wait for each other until
    /// the drain is over (`spec.md §4.5.9`).
    pub(super) deaf: [bool; 2],
    /// Both ends had it when one began to close: it may finish (`spec.md §8.2.1`).
    pub(super) protected: bool,
}

/// What `end` writes on a line from there on.
pub(super) fn pattern_of(line: usize, end: usize, from: usize, len: usize) -> &'static [u8] {
    pattern(line * 2 + end, from, len)
}
