//! Bodies that go from the IO straight to their reader, past the buffers: one copy less.

use std::time::Instant;

use super::{Core, Marks, Receiving, Slot};

impl Core {
    /// The stream whose body comes next from the IO, if at least [`LEAST_DIRECT`] bytes of it are
    /// still to come, and its reader last waited with room for as many. None where bodies of
    /// several streams alternate: the driver reads many of them at once.
    #[inline]
    pub fn direct_reader(&self) -> Option<Slot> {
        let Receiving { slot, mixed: false, .. } = self.receiving? else { return None };
        let marks = self.streams[slot].marks;
        let reads = marks.any(Marks::ROOMY) && !marks.any(Marks::DISCARD);
        (reads && self.body_left() >= LEAST_DIRECT).then_some(slot)
    }

    /// Whether that is `slot`, and its reader has all that came before.
    pub fn may_read_directly(&self, slot: Slot) -> bool {
        self.direct_reader() == Some(slot) && self.streams[slot].chunks.is_empty()
    }

    /// How many bytes of the body that comes next are still to come.
    pub const fn body_left(&self) -> usize {
        self.decoder.body_left() as usize
    }

    /// Wakes the direct reader, if it waits.
    pub fn call_direct(&mut self) {
        if let Some(Receiving { slot, .. }) = self.receiving {
            self.wake_reader(slot);
        }
    }

    /// Whoever is the direct reader does not come. It is none until it waits again.
    pub fn forget_direct(&mut self) {
        if let Some(Receiving { slot, .. }) = self.receiving {
            self.streams[slot].marks.clear(Marks::ROOMY);
        }
    }

    /// The reader of `slot`, which was the [direct one](Self::direct_reader), took `len` bytes from
    /// the IO, no more than [were left](Self::body_left). False if the stream ended meanwhile:
    /// nobody is to have them.
    pub fn handle_direct(&mut self, slot: Slot, len: usize, now: Instant) -> bool {
        debug_assert!(self.streams[slot].chunks.is_empty(), "bytes that came before");
        self.note_input(len, now);
        self.decoder.skip_body(len);
        let Some(Receiving { fin, .. }) = self.receiving.filter(|body| body.slot == slot) else {
            return false;
        };
        self.stats.bytes_received += len as u64;
        self.streams[slot].marks.clear(Marks::READ_WAIT);
        self.taken(slot, len);
        self.end_body(slot, fin);
        true
    }
}

/// Who has less room, or waits for less, gets a copy: a read from the IO costs more.
pub const LEAST_DIRECT: usize = 16 << 10;
