//! What was received and not read: chunks of all streams in one pool, so that an idle stream
//! holds nothing and a busy one allocates nothing.

use std::mem;

use bytes::{Buf, Bytes};

use crate::{
    config::READ_BUFFER,
    recycle::{Recycler, allocate},
};

/// The chunks of one stream, oldest first: two indices into [`Buffers`].
#[derive(Clone, Copy, Debug)]
pub(super) struct ChunkQueue {
    head: u32,
    tail: u32,
}

impl ChunkQueue {
    pub(super) const EMPTY: Self = Self { head: NIL, tail: NIL };

    pub(super) const fn is_empty(self) -> bool {
        self.head == NIL
    }
}

/// The chunks of every stream of a session.
///
/// A body is either kept where the read buffer holds it, or, where it is too small to be worth
/// pinning that buffer, copied to the end of the stream's last chunk.
#[derive(Debug)]
pub(super) struct Buffers {
    nodes: Vec<Node>,
    used: usize,
    /// Vacant nodes, by the memory they keep.
    spare: [Vacant; CLASSES.len()],
    /// Those that keep none.
    free: u32,
    /// What copies are handed over in, by size class.
    lent: [Recycler; CLASSES.len()],
}

impl Buffers {
    pub(super) const fn new() -> Self {
        let lent = [const { Recycler::new(MAX_LENT) }; CLASSES.len()];
        Self { nodes: Vec::new(), used: 0, spare: [Vacant::NONE; CLASSES.len()], free: NIL, lent }
    }

    /// Appends `body`, a part of `owner`.
    #[inline]
    pub(super) fn push(&mut self, queue: &mut ChunkQueue, body: &[u8], owner: &Bytes) {
        if body.len() >= MIN_PIN {
            let index = self.vacant();
            self.nodes[index as usize].chunk = Chunk::Shared(owner.slice_ref(body));
            self.append(queue, index);
        } else {
            self.push_copy(queue, body);
        }
    }

    #[inline]
    fn push_copy(&mut self, queue: &mut ChunkQueue, mut body: &[u8]) {
        let mut class = 0;
        if let Some(Chunk::Copied { bytes: tail, .. }) = self.last(*queue) {
            body = fill(tail, body);
            class = 1;
        }
        while !body.is_empty() {
            let index = self.vacant_with_memory(class_of(body.len()).max(class));
            if let Chunk::Copied { bytes, .. } = &mut self.nodes[index as usize].chunk {
                body = fill(bytes, body);
            }
            class = 1;
            self.append(queue, index);
        }
    }

    /// Copies out as much as `out` holds; returns how much that was.
    #[inline]
    pub(super) fn read(&mut self, queue: &mut ChunkQueue, mut out: &mut [u8]) -> usize {
        let wanted = out.len();
        while !out.is_empty() && !queue.is_empty() {
            let chunk = &mut self.nodes[queue.head as usize].chunk;
            let bytes = chunk.as_slice();
            let len = bytes.len().min(out.len());
            let (now, later) = out.split_at_mut(len);
            now.copy_from_slice(&bytes[..len]);
            out = later;
            self.take(queue, len);
        }
        wanted - out.len()
    }

    /// So many bytes of the oldest chunk are read.
    #[inline(always)]
    fn take(&mut self, queue: &mut ChunkQueue, len: usize) {
        let chunk = &mut self.nodes[queue.head as usize].chunk;
        if len == chunk.as_slice().len() {
            self.pop(queue);
        } else {
            chunk.advance(len);
        }
    }

    /// How many bytes lie in one piece at the front.
    pub(super) fn front_len(&self, queue: ChunkQueue) -> usize {
        self.nodes.get(queue.head as usize).map_or(0, |node| node.chunk.as_slice().len())
    }

    /// Hands over the oldest chunk, or the first `max` bytes of it.
    pub(super) fn read_chunk(&mut self, queue: &mut ChunkQueue, max: usize) -> Bytes {
        if queue.is_empty() || max == 0 {
            return Bytes::new();
        }
        let chunk = &mut self.nodes[queue.head as usize].chunk;
        match chunk {
            Chunk::Shared(bytes) if bytes.len() > max => bytes.split_to(max),
            Chunk::Shared(bytes) => {
                let bytes = mem::take(bytes);
                self.pop(queue);
                bytes
            }
            // Once more: this memory stays here, and what it is handed over in comes back.
            Chunk::Copied { bytes, at, .. } => {
                let at = *at as usize;
                let len = max.min(bytes.len() - at);
                let class = class_of(len);
                let lent = self.lent[class].take(len);
                let mut copy = lent.unwrap_or_else(|| allocate(CLASSES[class]));
                copy[..len].copy_from_slice(&bytes[at..at + len]);
                let copy = self.lent[class].lend(copy, len);
                self.take(queue, len);
                copy
            }
        }
    }

    /// Drops all chunks of a stream; returns how many bytes that were.
    pub(super) fn clear(&mut self, queue: &mut ChunkQueue) -> usize {
        let mut dropped = 0;
        while !queue.is_empty() {
            dropped += self.nodes[queue.head as usize].chunk.as_slice().len();
            self.pop(queue);
        }
        dropped
    }

    /// Gives back what an idle session need not hold.
    pub(super) fn shrink(&mut self) {
        for spare in &mut self.spare {
            while let Some(index) = spare.take(&self.nodes) {
                let node = &mut self.nodes[index as usize];
                *node = Node { next: self.free, ..Node::EMPTY };
                self.free = index;
            }
        }
        self.shrink_table(0);
        self.lent.iter_mut().for_each(Recycler::clear);
    }

    /// Gives back a table of more nodes than `keep`, if all are vacant.
    #[inline]
    fn shrink_table(&mut self, keep: usize) {
        if self.used == 0 && self.nodes.len() > keep {
            self.nodes = Vec::new();
            self.spare = [Vacant::NONE; CLASSES.len()];
            self.free = NIL;
        }
    }

    fn last(&mut self, queue: ChunkQueue) -> Option<&mut Chunk> {
        self.nodes.get_mut(queue.tail as usize).map(|node| &mut node.chunk)
    }

    /// A node for a chunk that has its own memory.
    fn vacant(&mut self) -> u32 {
        let index = self.free;
        if let Some(node) = self.nodes.get(index as usize) {
            self.free = node.next;
            return index;
        }
        self.nodes.push(Node::EMPTY);
        (self.nodes.len() - 1) as u32
    }

    /// A node with memory to copy into.
    #[inline(always)]
    fn vacant_with_memory(&mut self, class: usize) -> u32 {
        self.spare[class].take(&self.nodes).unwrap_or_else(|| self.add_memory(class))
    }

    #[cold]
    fn add_memory(&mut self, class: usize) -> u32 {
        let index = self.vacant();
        let bytes = Vec::with_capacity(CLASSES[class]);
        self.nodes[index as usize].chunk = Chunk::Copied { bytes, at: 0, class: class as u8 };
        index
    }

    /// The chunk in the node at `index`, which was vacant, is the last of `queue`.
    #[inline(always)]
    fn append(&mut self, queue: &mut ChunkQueue, index: u32) {
        self.used += 1;
        self.nodes[index as usize].next = NIL;
        if queue.is_empty() {
            queue.head = index;
        } else {
            self.nodes[queue.tail as usize].next = index;
        }
        queue.tail = index;
    }

    /// The oldest chunk is read; its node is vacant.
    #[inline(always)]
    fn pop(&mut self, queue: &mut ChunkQueue) {
        let index = queue.head;
        let node = &mut self.nodes[index as usize];
        queue.head = node.next;
        if queue.head == NIL {
            queue.tail = NIL;
        }
        self.used -= 1;
        match &mut node.chunk {
            Chunk::Copied { bytes, at, class }
                if self.spare[usize::from(*class)].count < SPARE[usize::from(*class)] =>
            {
                bytes.clear();
                *at = 0;
                self.spare[usize::from(*class)].put(node, index);
            }
            chunk => {
                *chunk = Chunk::NONE;
                node.next = self.free;
                self.free = index;
            }
        }
        self.shrink_table(SHRINK_NODES);
    }
}

/// A list of vacant nodes, the last one first: its memory is the most likely to be in a cache.
#[derive(Clone, Copy, Debug)]
struct Vacant {
    first: u32,
    count: usize,
}

impl Vacant {
    const NONE: Self = Self { first: NIL, count: 0 };

    #[inline(always)]
    fn take(&mut self, nodes: &[Node]) -> Option<u32> {
        let index = self.first;
        self.first = nodes.get(index as usize)?.next;
        self.count -= 1;
        Some(index)
    }

    const fn put(&mut self, node: &mut Node, index: u32) {
        node.next = self.first;
        self.first = index;
        self.count += 1;
    }
}

/// The smallest class that has room for so much, or else the largest.
fn class_of(len: usize) -> usize {
    CLASSES.iter().position(|size| *size >= len).unwrap_or(CLASSES.len() - 1)
}

/// Copies what there is room for; returns the rest.
fn fill<'a>(bytes: &mut Vec<u8>, body: &'a [u8]) -> &'a [u8] {
    let (fits, rest) = body.split_at(body.len().min(bytes.capacity() - bytes.len()));
    bytes.extend_from_slice(fits);
    rest
}

const NIL: u32 = u32::MAX;

/// A body of at least this many bytes keeps its read buffer alive. That buffer is no larger than
/// [`READ_BUFFER`], so unread bytes pin at most four times their own size.
const MIN_PIN: usize = READ_BUFFER / 4;

/// Sizes of copy chunks: small for a message on an otherwise idle stream, larger behind it.
const CLASSES: [usize; 3] = [512, 4 << 10, 16 << 10];

/// Emptied copy chunks to keep, per size: messages on many streams reuse the small ones, at most
/// 256 KiB of each, until the session falls idle.
const SPARE: [usize; CLASSES.len()] = [512, 64, 16];

/// Memory of each class that is handed over, to be used again when nobody holds it any more.
const MAX_LENT: usize = 256 << 10;

/// A pool of more nodes than this is given back when it empties.
const SHRINK_NODES: usize = 4_096;

#[derive(Debug)]
struct Node {
    chunk: Chunk,
    next: u32,
}

impl Node {
    const EMPTY: Self = Self { chunk: Chunk::NONE, next: NIL };
}

#[derive(Debug)]
enum Chunk {
    Shared(Bytes),
    Copied {
        bytes: Vec<u8>,
        /// So many of them are read.
        at: u32,
        /// What the memory is worth keeping as.
        class: u8,
    },
}

impl Chunk {
    const NONE: Self = Self::Shared(Bytes::new());

    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Copied { bytes, at, .. } => &bytes[*at as usize..],
        }
    }

    fn advance(&mut self, len: usize) {
        match self {
            Self::Shared(bytes) => bytes.advance(len),
            Self::Copied { at, .. } => *at += len as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use quickcheck::{Arbitrary, Gen, QuickCheck};

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Push(usize),
        Read(usize),
        /// The chunk is held until the end, or let go at once.
        Chunk(usize, bool),
        /// Lets go of what was held for so long.
        LetGo(u8),
        Clear,
        Shrink,
    }

    impl Arbitrary for Step {
        fn arbitrary(g: &mut Gen) -> Self {
            let len = usize::arbitrary(g) % g.choose(&[8, 600, 6_000, 2 * MIN_PIN]).unwrap();
            match u8::arbitrary(g) % 32 {
                0..=12 => Self::Push(len + 1),
                13..=18 => Self::Read(len),
                19..=22 => Self::Chunk(usize::MAX, bool::arbitrary(g)),
                23..=28 => Self::Chunk(len, bool::arbitrary(g)),
                29 => Self::LetGo(u8::arbitrary(g)),
                30 => Self::Clear,
                _ => Self::Shrink,
            }
        }
    }

    /// Where a list of vacant nodes leads.
    fn listed(buffers: &Buffers, mut at: u32) -> Vec<&Chunk> {
        let mut chunks = Vec::new();
        while let Some(node) = buffers.nodes.get(at as usize) {
            chunks.push(&node.chunk);
            assert!(chunks.len() <= buffers.nodes.len(), "a list without end");
            at = node.next;
        }
        chunks
    }

    /// Every node is in use or in one list, and keeps memory only where that is bounded.
    fn check(buffers: &Buffers) {
        let mut vacant = 0;
        for (class, spare) in buffers.spare.iter().enumerate() {
            let chunks = listed(buffers, spare.first);
            assert_eq!(chunks.len(), spare.count);
            assert!(chunks.len() <= SPARE[class]);
            vacant += chunks.len();
            for chunk in chunks {
                let Chunk::Copied { bytes, at: 0, class: kept } = chunk else {
                    panic!("spare: {chunk:?}")
                };
                assert!(bytes.is_empty() && usize::from(*kept) == class, "{chunk:?}");
                assert_eq!(bytes.capacity(), CLASSES[class]);
            }
        }
        let free = listed(buffers, buffers.free);
        assert!(free.iter().all(|chunk| matches!(chunk, Chunk::Shared(bytes) if bytes.is_empty())));
        assert_eq!(vacant + free.len() + buffers.used, buffers.nodes.len());
    }

    /// Whatever mixture of reads, and whoever holds what was read: the bytes of each stream are what
    /// was pushed, in order, and a chunk stays as it was handed over.
    #[test]
    fn streams_are_queues_and_chunks_do_not_change() {
        fn holds(steps: Vec<(bool, Step)>) -> bool {
            let mut buffers = Buffers::new();
            let mut streams = [(); 2].map(|()| (ChunkQueue::EMPTY, VecDeque::<u8>::new()));
            let mut held: VecDeque<(Bytes, Vec<u8>)> = VecDeque::new();
            let mut byte = 0_u8;
            for (which, step) in steps {
                let (queue, model) = &mut streams[usize::from(which)];
                let right = match step {
                    Step::Push(len) => {
                        let body: Vec<u8> = std::iter::repeat_with(|| {
                            byte = byte.wrapping_mul(5).wrapping_add(1);
                            byte ^ (len as u8)
                        })
                        .take(len)
                        .collect();
                        let owner = Bytes::from(body);
                        model.extend(&owner);
                        buffers.push(queue, &owner, &owner);
                        true
                    }
                    Step::Read(len) => {
                        let mut out = vec![0; len];
                        let read = buffers.read(queue, &mut out);
                        read == len.min(model.len()) && out[..read].iter().eq(&take(model, read))
                    }
                    Step::Chunk(max, hold) => {
                        let front = buffers.front_len(*queue);
                        let chunk = buffers.read_chunk(queue, max);
                        let expected = take(model, chunk.len());
                        let right = chunk == expected && chunk.len() == front.min(max);
                        if hold {
                            held.push_back((chunk, expected));
                        }
                        right
                    }
                    Step::LetGo(few) => {
                        drop(held.drain(..usize::from(few).min(held.len())));
                        true
                    }
                    Step::Clear => buffers.clear(queue) == mem::take(model).len(),
                    Step::Shrink => {
                        buffers.shrink();
                        true
                    }
                };
                check(&buffers);
                let unchanged = held.iter().all(|(chunk, expected)| chunk == expected);
                let empty = streams.iter().all(|(q, model)| q.is_empty() == model.is_empty());
                if !(right && unchanged && empty) {
                    return false;
                }
            }
            true
        }
        let mut sized = QuickCheck::new().tests(100).rng(Gen::new(400));
        sized.quickcheck(holds as fn(Vec<(bool, Step)>) -> bool);
    }

    fn take(model: &mut VecDeque<u8>, len: usize) -> Vec<u8> {
        model.drain(..len).collect()
    }

    /// Messages on many streams find memory that was used before, as much as is kept.
    #[test]
    fn what_is_spare_is_kept_within_bounds() {
        let mut buffers = Buffers::new();
        for class in [0, 1, 2, 1, 0] {
            // What goes to an empty queue is copied into the smallest class that has room for it.
            let owner = Bytes::from(vec![7; CLASSES[class].min(MIN_PIN - 1)]);
            for streams in [SPARE[class], SPARE[class] + 1, 2 * SPARE[class], SPARE[class]] {
                let mut queues = vec![ChunkQueue::EMPTY; streams];
                for queue in &mut queues {
                    buffers.push(queue, &owner, &owner);
                }
                check(&buffers);
                assert_eq!(buffers.used, streams);
                assert_eq!(buffers.spare[class].count, 0, "class {class}: kept, and not used");
                for queue in &mut queues {
                    assert_eq!(buffers.clear(queue), owner.len());
                    check(&buffers);
                }
                assert_eq!(buffers.spare[class].count, SPARE[class]);
            }
        }
        let most = SPARE.iter().sum::<usize>() + SPARE[0];
        assert!(buffers.nodes.len() <= most, "{} nodes", buffers.nodes.len());
        // One stream that is not read keeps the table, not what others left in it.
        let (mut queue, owner) = (ChunkQueue::EMPTY, Bytes::from_static(b"unread"));
        buffers.push(&mut queue, &owner, &owner);
        buffers.shrink();
        check(&buffers);
        assert!(buffers.spare.iter().all(|spare| spare.count == 0));
        assert_eq!(buffers.clear(&mut queue), owner.len());
        buffers.shrink();
        assert_eq!(buffers.nodes.capacity(), 0);
        check(&buffers);
    }

    /// A table that was large is given back as soon as nothing is unread, with all that is spare.
    #[test]
    fn a_large_table_is_given_back() {
        let mut buffers = Buffers::new();
        for (len, chunks) in [(8, SHRINK_NODES + 1), (8, 9), (MIN_PIN, SHRINK_NODES + 1), (8, 9)] {
            let owner = Bytes::from(vec![7; len]);
            let mut queues = vec![ChunkQueue::EMPTY; chunks];
            for queue in &mut queues {
                buffers.push(queue, &owner, &owner);
            }
            for queue in &mut queues {
                assert_eq!(buffers.clear(queue), len);
            }
            check(&buffers);
            assert_eq!(buffers.nodes.len(), if chunks > SHRINK_NODES { 0 } else { chunks });
        }
    }

    /// What users hold is theirs to pay for: this side remembers a bounded part of it, and nothing
    /// when it is idle.
    #[test]
    fn what_is_lent_is_remembered_within_bounds() {
        let (mut buffers, mut queue) = (Buffers::new(), ChunkQueue::EMPTY);
        let mut held = Vec::new();
        for class in CLASSES {
            let owner = Bytes::from(vec![7; class.min(MIN_PIN - 1)]);
            for _ in 0..1_000 {
                buffers.push(&mut queue, &owner, &owner);
                held.push(buffers.read_chunk(&mut queue, usize::MAX));
            }
        }
        let kept = buffers.lent.iter().map(Recycler::held).collect::<Vec<_>>();
        assert_eq!(kept, [MAX_LENT; CLASSES.len()]);
        buffers.shrink();
        assert!(buffers.lent.iter().all(|lent| lent.held() == 0));
    }
}
