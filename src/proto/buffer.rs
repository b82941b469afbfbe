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
    free: u32,
    used: usize,
    /// Emptied copy chunks, by size class.
    spare: [Vec<Vec<u8>>; CLASSES.len()],
    /// What copies are handed over in, by size class.
    lent: [Recycler; CLASSES.len()],
}

impl Buffers {
    pub(super) const fn new() -> Self {
        let spare = [const { Vec::new() }; CLASSES.len()];
        let lent = [const { Recycler::new(MAX_LENT) }; CLASSES.len()];
        Self { nodes: Vec::new(), free: NIL, used: 0, spare, lent }
    }

    /// Appends `body`, a part of `owner`.
    #[inline]
    pub(super) fn push(&mut self, queue: &mut ChunkQueue, body: &[u8], owner: &Bytes) {
        if body.len() >= MIN_PIN {
            self.append(queue, Chunk::Shared(owner.slice_ref(body)));
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
            let class_of_body = class_of(body.len()).max(class);
            let spare = self.spare[class_of_body].pop();
            let mut bytes = spare.unwrap_or_else(|| Vec::with_capacity(CLASSES[class_of_body]));
            body = fill(&mut bytes, body);
            class = 1;
            self.append(queue, Chunk::Copied { bytes, at: 0 });
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
            Chunk::Copied { bytes, at } => {
                let len = max.min(bytes.len() - *at);
                let class = class_of(len);
                let lent = self.lent[class].take(len);
                let mut copy = lent.unwrap_or_else(|| allocate(CLASSES[class]));
                copy[..len].copy_from_slice(&bytes[*at..*at + len]);
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
            *spare = Vec::new();
        }
        self.lent.iter_mut().for_each(Recycler::clear);
    }

    fn last(&mut self, queue: ChunkQueue) -> Option<&mut Chunk> {
        self.nodes.get_mut(queue.tail as usize).map(|node| &mut node.chunk)
    }

    #[inline(always)]
    fn append(&mut self, queue: &mut ChunkQueue, chunk: Chunk) {
        let node = Node { chunk, next: NIL };
        self.used += 1;
        let index = if self.free == NIL {
            self.nodes.push(node);
            (self.nodes.len() - 1) as u32
        } else {
            let index = self.free;
            self.free = self.nodes[index as usize].next;
            self.nodes[index as usize] = node;
            index
        };
        if queue.is_empty() {
            queue.head = index;
        } else {
            self.nodes[queue.tail as usize].next = index;
        }
        queue.tail = index;
    }

    #[inline(always)]
    fn pop(&mut self, queue: &mut ChunkQueue) {
        let index = queue.head;
        let node = &mut self.nodes[index as usize];
        let mut spent = node.chunk.take();
        queue.head = node.next;
        if queue.head == NIL {
            queue.tail = NIL;
        }
        node.next = self.free;
        self.free = index;
        self.used -= 1;
        if self.used == 0 && self.nodes.len() > SHRINK_NODES {
            self.nodes = Vec::new();
            self.free = NIL;
        }
        if let Some(class) = CLASSES.iter().position(|size| spent.capacity() == *size)
            && self.spare[class].len() < SPARE[class]
        {
            spent.clear();
            self.spare[class].push(spent);
        }
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

#[derive(Debug)]
enum Chunk {
    Shared(Bytes),
    Copied {
        bytes: Vec<u8>,
        /// So many of them are read.
        at: usize,
    },
}

impl Chunk {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Copied { bytes, at } => &bytes[*at..],
        }
    }

    /// Lets go of the bytes; returns the memory of a copy.
    #[inline]
    fn take(&mut self) -> Vec<u8> {
        match self {
            Self::Shared(bytes) => {
                *bytes = Bytes::new();
                Vec::new()
            }
            Self::Copied { bytes, .. } => mem::take(bytes),
        }
    }

    fn advance(&mut self, len: usize) {
        match self {
            Self::Shared(bytes) => bytes.advance(len),
            Self::Copied { at, .. } => *at += len,
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
