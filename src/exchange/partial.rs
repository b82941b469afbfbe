//! The body of a message that arrives in pieces, and the memory for it.

use bytes::{Bytes, BytesMut};

use crate::recycle::{Memory, allocate};

/// What is there of a body.
#[derive(Debug, Default)]
pub(super) struct Partial {
    /// Initialised; its beginning is filled.
    buffer: BytesMut,
    filled: usize,
}

impl Partial {
    pub(super) const fn len(&self) -> usize {
        self.filled
    }

    /// Adds a piece. So many bytes more are `promised`; with `more` there may be any number.
    pub(super) fn push(
        &mut self,
        piece: &[u8],
        promised: usize,
        more: bool,
        memory: Option<&Memory>,
    ) {
        let needed = self.filled + piece.len();
        if needed > self.buffer.len() {
            // Doubling, so that the bytes are not moved too often, but not for a mere promise.
            let least = if more { 2 * self.filled } else { 0 };
            let ahead = (needed * AHEAD).clamp(MIN_CHUNK, CHUNK).max(self.filled);
            let wanted = (needed + promised.min(ahead)).max(least);
            let mut larger = new_buffer(wanted, memory);
            larger[..self.filled].copy_from_slice(&self.buffer[..self.filled]);
            self.buffer = larger;
        }
        self.buffer[self.filled..needed].copy_from_slice(piece);
        self.filled = needed;
    }

    /// All of it; the next body begins empty.
    pub(super) fn take(&mut self, memory: Option<&Memory>) -> Bytes {
        let Self { mut buffer, filled } = std::mem::take(self);
        if let (true, Some(memory)) = (is_recycled(buffer.len()), memory) {
            return memory.lend(buffer, filled);
        }
        buffer.truncate(filled);
        buffer.freeze()
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }
}

fn new_buffer(len: usize, memory: Option<&Memory>) -> BytesMut {
    if !is_recycled(len) {
        return BytesMut::zeroed(len);
    }
    memory.and_then(|memory| memory.take(len)).unwrap_or_else(|| allocate(len))
}

const fn is_recycled(len: usize) -> bool {
    len >= MIN_RECYCLED && len <= MAX_RECYCLED
}

/// What is allocated at most for a fragment of which only the beginning is there.
pub(super) const CHUNK: usize = 64 * 1024;

/// Who sent little is promised little: so many times what is there, and no less than this.
const AHEAD: usize = 8;
const MIN_CHUNK: usize = 1_024;

/// Below, allocating anew is cheap; and a small body must not pin the memory of a large one.
const MIN_RECYCLED: usize = 32 * 1024;

/// Above, the work on a message outweighs the allocation.
const MAX_RECYCLED: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn body(memory: &Memory, len: usize, fill: u8) -> Bytes {
        let mut partial = Partial::default();
        let (first, second) = (vec![fill; len / 2], vec![fill; len - len / 2]);
        partial.push(&first, second.len(), false, Some(memory));
        partial.push(&second, 0, false, Some(memory));
        let body = partial.take(Some(memory));
        assert!(body.len() == len && body.iter().all(|byte| *byte == fill));
        body
    }

    #[test]
    fn the_memory_of_a_large_body_is_used_again_once_nobody_holds_it() {
        let memory = Memory::new();
        let first = body(&memory, 65_600, 1);
        let part = first.slice(100..200);
        let place = first.as_ptr();
        drop(first);
        let second = body(&memory, 65_600, 2);
        assert_ne!(second.as_ptr(), place, "a part is still held");
        assert_eq!(part, vec![1; 100]);
        drop(part);
        assert_eq!(body(&memory, 60_000, 3).as_ptr(), place);
        assert_eq!(memory.held(), 2 * 65_600);
        memory.shrink();
        assert_eq!(memory.held(), 0);
        assert_eq!(second, vec![2; 65_600], "what is held stays as it is");
    }

    #[test]
    fn small_and_huge_bodies_leave_no_memory_behind() {
        let memory = Memory::new();
        drop((body(&memory, 1_000, 1), body(&memory, 1 << 20, 2)));
        assert_eq!(memory.held(), 0);
        let held: Vec<_> = (0..64).map(|n| body(&memory, 65_600, n)).collect();
        assert!(memory.held() <= crate::recycle::MAX_LENT);
        assert!(held.iter().enumerate().all(|(n, body)| body[0] as usize == n));
    }

    #[test]
    fn buffers_fit_what_is_promised_and_double_for_more() {
        let mut partial = Partial::default();
        partial.push(&[1; 60_000], 5_600, false, None);
        assert_eq!(partial.capacity(), 65_600);
        let mut partial = Partial::default();
        partial.push(&[1; 60_000], usize::MAX / 2, false, None);
        assert_eq!(partial.capacity(), 60_000 + CHUNK);
        for (there, capacity) in [(1, 1 + MIN_CHUNK), (1_000, 9_000), (10_000, 10_000 + CHUNK)] {
            let mut partial = Partial::default();
            partial.push(&vec![1; there], 4 << 20, false, None);
            assert_eq!(partial.capacity(), capacity);
        }
        let (mut moved, mut before) = (0, 0);
        let mut partial = Partial::default();
        for _ in 0..1_000 {
            partial.push(&[1; 1_000], 0, true, None);
            if partial.capacity() != before {
                (moved, before) = (moved + 1, partial.capacity());
            }
        }
        assert!(moved < 20 && before <= 2_000_000, "moved {moved} times, to {before} bytes");
    }
}
