//! The table of streams: one entry each, found by slot from the handle and by id from the wire.

use std::ops::{Index, IndexMut};

use super::{
    buffer::ChunkQueue,
    state::{Input, State, Verdict},
    window::{RecvWindow, SendWindow},
};
use crate::{
    error::ResetCode,
    frame::{Flags, StreamId},
};

/// Where a stream lives in the table. Stays its own until its last handle is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot(pub(crate) u32);

impl Slot {
    /// The position in a table kept beside this one.
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// All that is known about one stream.
#[derive(Debug)]
pub(super) struct Entry {
    /// 0 until our SYN is staged.
    pub(super) id: u32,
    pub(super) state: State,
    pub(super) marks: Marks,
    pub(super) send: SendWindow,
    pub(super) recv: RecvWindow,
    pub(super) chunks: ChunkQueue,
    pub(super) end: End,
    /// The batch that holds the last frame of this stream.
    pub(super) staged_in: u64,
    /// Since when it waits, by [what for](super::overdue::Wait), in ticks of those who wait for the
    /// same, which start anew after 2^32 of them.
    pub(super) waits_since: [u32; 2],
    /// The slot that follows in its bucket, or in the list of vacant ones: the table's own.
    pub(super) next: u32,
}

impl Entry {
    pub(super) const fn stream_id(&self) -> StreamId {
        StreamId(self.id)
    }

    /// Moves on, where the table says so; the verdict tells what else is to be done.
    pub(super) const fn advance(&mut self, input: Input) -> Verdict {
        let verdict = self.state.on(input);
        if let Verdict::Next(next) = verdict {
            self.state = next;
        }
        verdict
    }

    /// Whether a frame that carries nothing but `flags` changes anything.
    pub(super) const fn is_moved_by(&self, flags: Flags) -> bool {
        let acks = self.marks.any(Marks::UNACKED) || matches!(self.state, State::SynSent);
        flags.contains(Flags::SYN)
            || (flags.contains(Flags::ACK) && acks)
            || (flags.contains(Flags::FIN) && self.state.can_receive())
    }

    /// Whether the end of file is what follows the last byte.
    #[inline]
    pub(super) const fn is_at_end(&self) -> bool {
        // A reset of our own may have discarded bytes: then FIN is no end of file any more.
        self.marks.any(Marks::REMOTE_FIN) && !matches!(self.end, End::Local(_) | End::User(_))
    }

    /// Whether everything that was staged is flushed, where batches up to `flushed` are.
    pub(super) const fn is_flushed(&self, flushed: u64) -> bool {
        !self.marks.any(Marks::OWES) && self.staged_in <= flushed
    }

    /// Whether it still counts although it is over on the wire.
    pub(super) const fn counts_no_more(&self) -> bool {
        self.marks.any(Marks::COUNTED) && self.state.is_terminal() && !self.marks.any(Marks::OWES)
    }

    /// Whether the table is to forget this stream: nobody holds it and nothing is owed.
    pub(super) const fn is_over(&self) -> bool {
        !self.marks.any(Marks::HELD.with(Marks::OWES).with(Marks::QUEUED))
            && self.state.is_terminal()
            && self.marks.any(Marks::LIVE)
    }
}

/// Why a stream is in [`State::Reset`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It is not.
    None,
    Remote(ResetCode),
    /// The core reset it, for the reason that the code gives.
    Local(ResetCode),
    /// The user reset it; whatever the code, that is all it says.
    User(ResetCode),
    Session,
}

/// What a stream owes, awaits and holds; a set of bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks(u32);

impl Marks {
    pub(super) const NONE: Self = Self(0);
    // Frames owed to the peer.
    pub(super) const OWES_SYN: Self = Self(1);
    pub(super) const OWES_ACK: Self = Self(1 << 1);
    /// The ACK has waited long enough for a frame to ride on.
    pub(super) const ACK_NOW: Self = Self(1 << 2);
    pub(super) const OWES_CREDIT: Self = Self(1 << 3);
    pub(super) const OWES_FIN: Self = Self(1 << 4);
    pub(super) const OWES_RST: Self = Self(1 << 5);
    /// What must be sent before the entry may go. Credit for a finished stream is nobody's need.
    pub(super) const OWES: Self = Self(Self::OWES_SYN.0 | Self::OWES_FIN.0 | Self::OWES_RST.0);
    /// What goes out as a window update, but for FIN and RST.
    pub(super) const OWES_WINDOW: Self =
        Self(Self::OWES_SYN.0 | Self::OWES_ACK.0 | Self::OWES_CREDIT.0);
    // Membership in lists; survives the entry, so that a list never holds a slot twice.
    pub(super) const IN_OWED: Self = Self(1 << 6);
    pub(super) const IN_LINE: Self = Self(1 << 7);
    pub(super) const IN_ACKS: Self = Self(1 << 8);
    pub(super) const IN_FLUSH: Self = Self(1 << 9);
    pub(super) const LISTS: Self =
        Self(Self::IN_OWED.0 | Self::IN_LINE.0 | Self::IN_ACKS.0 | Self::IN_FLUSH.0);
    // Someone waits.
    pub(super) const READ_WAIT: Self = Self(1 << 10);
    pub(super) const WRITE_WAIT: Self = Self(1 << 11);
    /// May write ahead of the line, once.
    pub(super) const TURN: Self = Self(1 << 12);
    // Who holds it.
    pub(super) const READ_HELD: Self = Self(1 << 13);
    pub(super) const WRITE_HELD: Self = Self(1 << 14);
    pub(super) const HELD: Self = Self(Self::READ_HELD.0 | Self::WRITE_HELD.0);
    /// Waits in the accept backlog.
    pub(super) const QUEUED: Self = Self(1 << 15);
    /// Holds a permit of the ack backlog.
    pub(super) const UNACKED: Self = Self(1 << 16);
    pub(super) const OUTBOUND: Self = Self(1 << 17);
    /// The peer finished; end of file is what a reader gets after the last byte.
    pub(super) const REMOTE_FIN: Self = Self(1 << 18);
    /// Nobody will read what arrives.
    pub(super) const DISCARD: Self = Self(1 << 19);
    /// Something arrived since the close timeout was armed.
    pub(super) const PROGRESS: Self = Self(1 << 20);
    pub(super) const READ_EXPIRED: Self = Self(1 << 21);
    pub(super) const WRITE_EXPIRED: Self = Self(1 << 22);
    /// Its reader last waited with room for much.
    pub(super) const ROOMY: Self = Self(1 << 23);
    pub(super) const AWAITS_FIN: Self = Self(1 << 24);
    pub(super) const AWAITS_ACK: Self = Self(1 << 25);
    /// What acknowledging it ends.
    pub(super) const PERMIT: Self = Self(Self::UNACKED.0 | Self::AWAITS_ACK.0);
    /// Is one of the streams that `max_streams` or `max_outbound_streams` bounds.
    pub(super) const COUNTED: Self = Self(1 << 26);
    /// Its holder waits for the peer to finish, however long that takes.
    pub(super) const PATIENT: Self = Self(1 << 27);
    /// The close timeout is to be armed.
    pub(super) const ARMS_CLOSE: Self = Self(1 << 28);
    /// The wire can find it by its id.
    pub(super) const LINKED: Self = Self(1 << 29);
    /// What [`Core::unlink`](super::Core::unlink) has not done yet.
    pub(super) const TIES: Self = Self(
        Self::UNACKED.0
            | Self::AWAITS_ACK.0
            | Self::AWAITS_FIN.0
            | Self::LINKED.0
            | Self::COUNTED.0,
    );
    /// The slot holds a stream.
    pub(super) const LIVE: Self = Self(1 << 31);

    pub(super) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) const fn set(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub(super) const fn clear(&mut self, other: Self) {
        self.0 &= !other.0;
    }

    /// Clears the bits and tells whether any was set.
    pub(super) const fn take(&mut self, other: Self) -> bool {
        let was = self.any(other);
        self.clear(other);
        was
    }
}

/// A slab of entries, and an index by id: buckets of entries that are chained to each other. A hash
/// map beside the slab takes three times the instructions of this.
#[derive(Debug)]
pub(super) struct Streams {
    entries: Vec<Entry>,
    /// The first vacant slot.
    free: u32,
    /// The first slot of each bucket; a power of two of them, or none.
    buckets: Vec<u32>,
    linked: usize,
    /// Random and odd: the peer chooses ids, and could choose them to collide.
    multiplier: u64,
    last: (u32, u32),
    live: usize,
}

impl Streams {
    pub(super) fn new(random: u64) -> Self {
        Self {
            entries: Vec::new(),
            free: NIL,
            buckets: Vec::new(),
            linked: 0,
            multiplier: random | 1,
            last: (0, NIL),
            live: 0,
        }
    }

    #[inline]
    pub(super) fn insert(&mut self, mut entry: Entry) -> Slot {
        entry.marks.set(Marks::LIVE);
        self.live += 1;
        if self.free == NIL {
            self.entries.push(entry);
            return Slot((self.entries.len() - 1) as u32);
        }
        let slot = Slot(self.free);
        let vacant = &mut self.entries[slot.index()];
        self.free = vacant.next;
        entry.marks.set(Marks(vacant.marks.0 & Marks::LISTS.0));
        *vacant = entry;
        slot
    }

    /// Forgets the stream in `slot`. Its id is unlinked by [`unlink`](Self::unlink).
    pub(super) fn remove(&mut self, slot: Slot) {
        let entry = &mut self.entries[slot.index()];
        debug_assert!(entry.chunks.is_empty(), "bytes of a forgotten stream");
        debug_assert!(!entry.marks.any(Marks::COUNTED), "a forgotten stream that still counts");
        debug_assert!(!entry.marks.any(Marks::LINKED), "a forgotten stream in a bucket");
        entry.marks = Marks(entry.marks.0 & Marks::LISTS.0);
        entry.next = self.free;
        self.free = slot.0;
        self.live -= 1;
    }

    /// Frames for the id of the stream in `slot`, which has one, find it from now on.
    pub(super) fn link(&mut self, slot: Slot) {
        if self.linked * 2 >= self.buckets.len() {
            self.add_buckets();
        }
        self.linked += 1;
        // Its next frame often follows its first.
        self.last = (self.chain(slot.0), slot.0);
    }

    /// Later frames for the id of `slot` find no stream.
    pub(super) fn unlink(&mut self, slot: Slot) {
        let Entry { id, next, .. } = self[slot];
        if self.last.0 == id {
            self.last = (0, NIL);
        }
        let bucket = bucket(id, self.multiplier, self.buckets.len());
        let mut at = std::mem::replace(&mut self.buckets[bucket], next);
        if at != slot.0 {
            self.buckets[bucket] = at;
            while let Some(entry) = self.entries.get_mut(at as usize) {
                at = entry.next;
                if at == slot.0 {
                    entry.next = next;
                    break;
                }
            }
        }
        self.linked -= 1;
    }

    #[inline]
    pub(super) fn find(&mut self, id: u32) -> Option<Slot> {
        if self.last.0 == id {
            return Some(Slot(self.last.1));
        }
        let bucket = bucket(id, self.multiplier, self.buckets.len());
        let mut slot = *self.buckets.get(bucket)?;
        while slot != NIL {
            let entry = &self.entries[slot as usize];
            if entry.id == id {
                self.last = (id, slot);
                return Some(Slot(slot));
            }
            slot = entry.next;
        }
        None
    }

    /// Puts the entry in `slot` into the bucket of its id, which it returns.
    fn chain(&mut self, slot: u32) -> u32 {
        let Self { entries, buckets, multiplier, .. } = self;
        let entry = &mut entries[slot as usize];
        let bucket = bucket(entry.id, *multiplier, buckets.len());
        entry.next = std::mem::replace(&mut buckets[bucket], slot);
        entry.id
    }

    #[cold]
    fn add_buckets(&mut self) {
        let more = vec![NIL; (self.buckets.len() * 2).max(MIN_BUCKETS)];
        for mut slot in std::mem::replace(&mut self.buckets, more) {
            while slot != NIL {
                let next = self.entries[slot as usize].next;
                self.chain(slot);
                slot = next;
            }
        }
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Entry> {
        self.entries.get(slot.index()).filter(|entry| entry.marks.any(Marks::LIVE))
    }

    /// Whether the table has grown beyond what is worth keeping when it is empty.
    pub(super) const fn is_large(&self) -> bool {
        self.entries.capacity() > KEEP
    }

    /// Gives back an empty table. No list may hold a slot of it.
    pub(super) fn release(&mut self) {
        debug_assert!(self.live == 0, "a table in use");
        self.entries = Vec::new();
        self.free = NIL;
        self.buckets = Vec::new();
        self.last = (0, NIL);
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> + use<> {
        (0..self.entries.len() as u32).map(Slot)
    }

    /// Streams that the peer may still send frames for.
    pub(super) const fn linked(&self) -> usize {
        self.linked
    }

    pub(super) const fn live(&self) -> usize {
        self.live
    }
}

/// In which of `buckets` an id lies. Ids at a stride would lie in few buckets of some multipliers:
/// hence the second step.
const fn bucket(id: u32, multiplier: u64, buckets: usize) -> usize {
    let product = (id as u64).wrapping_mul(multiplier);
    let hash = (product ^ (product >> 32)).wrapping_mul(GOLDEN) >> 32;
    hash as usize & buckets.wrapping_sub(1)
}

impl Index<Slot> for Streams {
    type Output = Entry;

    fn index(&self, slot: Slot) -> &Entry {
        &self.entries[slot.index()]
    }
}

impl IndexMut<Slot> for Streams {
    fn index_mut(&mut self, slot: Slot) -> &mut Entry {
        &mut self.entries[slot.index()]
    }
}

const NIL: u32 = u32::MAX;

const MIN_BUCKETS: usize = 16;

/// 2^64 by the golden ratio, for multiplicative hashing.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Entries that an empty table keeps: 100 KiB.
const KEEP: usize = 1_024;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use quickcheck::quickcheck;

    use super::*;
    use crate::chance::Chance;

    fn entry(id: u32) -> Entry {
        Entry {
            id,
            state: State::Established,
            marks: Marks::NONE,
            send: SendWindow::initial(),
            recv: RecvWindow::new(0),
            chunks: ChunkQueue::EMPTY,
            end: End::None,
            staged_in: 0,
            waits_since: [0; 2],
            next: 0,
        }
    }

    /// Whatever the multiplier, and however the peer spaces its ids.
    #[test]
    fn a_search_is_short() {
        for random in (0..64).map(|seed| Chance::new(Some(seed)).next()).chain([0, u64::MAX]) {
            for stride in [2, 6, 1_024, 65_536, 1 << 20] {
                let mut streams = Streams::new(random);
                for n in 0..4_096 {
                    let slot = streams.insert(entry(1 + n * stride));
                    streams.link(slot);
                }
                let count = streams.buckets.len();
                assert!((8_192..=16_384).contains(&count), "{count} buckets");
                let longest = streams.buckets.iter().map(|&first| {
                    let mut slot = first;
                    std::iter::from_fn(|| {
                        let entry = streams.entries.get(slot as usize)?;
                        slot = entry.next;
                        Some(())
                    })
                    .count()
                });
                let longest = longest.max().unwrap();
                assert!(longest <= 16, "{longest} in a bucket: {random:#x}, stride {stride}");
            }
        }
    }

    #[test]
    fn an_emptied_table_starts_anew() {
        let mut streams = Streams::new(1);
        for _ in 0..2 {
            let slot = streams.insert(entry(7));
            streams.link(slot);
            assert_eq!(streams.find(7), Some(slot));
            streams.unlink(slot);
            streams.remove(slot);
            streams.release();
            assert_eq!((streams.find(7), streams.buckets.len(), streams.linked()), (None, 0, 0));
        }
    }

    quickcheck! {
        /// Against a map that is known to be right. Few ids, so that they come again and lie in
        /// one bucket, with every multiplier, the worst ones too.
        fn a_stream_is_found_by_its_id(random: u64, steps: Vec<(u8, bool)>) -> bool {
            let (mut streams, mut model) = (Streams::new(random), HashMap::new());
            for (number, stride) in steps {
                let id = 1 + if stride { u32::from(number) << 24 } else { number.into() };
                if let Some(slot) = model.remove(&id) {
                    streams.unlink(slot);
                    streams.remove(slot);
                } else {
                    let slot = streams.insert(entry(id));
                    streams.link(slot);
                    model.insert(id, slot);
                }
                let ids = (0..256).flat_map(|n| [1 + n, 1 + (n << 24)]);
                let found = ids.clone().all(|id| streams.find(id) == model.get(&id).copied());
                if !found || streams.linked() != model.len() || streams.live() != model.len() {
                    return false;
                }
            }
            true
        }
    }
}
