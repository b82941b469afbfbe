//! Buffers that are lent out as [`Bytes`], and taken back when nobody holds a slice of them any
//! more: a fresh one costs a page fault for every 4 KiB.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

#[cfg(feature = "exchange")]
use crate::sync::Mutex;

/// The buffers that are lent out. Those beyond the limit are simply freed when let go.
#[derive(Debug)]
pub(crate) struct Recycler {
    lent: VecDeque<Bytes>,
    bytes: usize,
    most: usize,
}

impl Recycler {
    /// Remembers buffers of up to `most` bytes together.
    pub(crate) const fn new(most: usize) -> Self {
        Self { lent: VecDeque::new(), bytes: 0, most }
    }

    /// A buffer of at least `len` bytes, all initialised, that came back. One that lies behind many
    /// which are held is found by a later call.
    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Option<BytesMut> {
        // Oldest first: its slices have had the longest time to go.
        for _ in 0..self.lent.len().min(LOOKS) {
            let oldest = self.lent.pop_front()?;
            self.bytes -= oldest.len();
            match oldest.try_into_mut() {
                Ok(buffer) if buffer.len() >= len => return Some(buffer),
                Ok(_) => {}
                Err(held) => self.remember(held),
            }
        }
        None
    }

    /// The first `len` bytes of `buffer`; the whole comes back through [`take`](Self::take).
    #[inline]
    pub(crate) fn lend(&mut self, buffer: BytesMut, len: usize) -> Bytes {
        let whole = buffer.freeze();
        let part = whole.slice(..len);
        self.remember(whole);
        part
    }

    fn remember(&mut self, buffer: Bytes) {
        if self.bytes + buffer.len() <= self.most {
            self.bytes += buffer.len();
            self.lent.push_back(buffer);
        }
    }

    /// Bytes of the buffers that are remembered.
    #[cfg(test)]
    pub(crate) const fn held(&self) -> usize {
        self.bytes
    }

    /// Remembers none.
    pub(crate) fn clear(&mut self) {
        (self.lent, self.bytes) = (VecDeque::new(), 0);
    }
}

/// Buffers that one search looks at: those who hold hundreds would have each pay for all.
const LOOKS: usize = 16;

/// A buffer in the form that `freeze` and `try_into_mut` convert without allocating.
pub(crate) fn allocate(len: usize) -> BytesMut {
    let mut buffer = BytesMut::zeroed(len + 1);
    drop(buffer.split_off(len));
    buffer
}

/// The memory of large messages of a session, used again when nobody holds them any more.
#[cfg(feature = "exchange")]
#[derive(Debug)]
pub(crate) struct Memory {
    lent: Mutex<Recycler>,
}

#[cfg(feature = "exchange")]
impl Memory {
    pub(crate) const fn new() -> Self {
        Self { lent: Mutex::new(Recycler::new(MAX_LENT)) }
    }

    /// Gives back what is not in use.
    pub(crate) fn shrink(&self) {
        self.lent.lock().clear();
    }

    pub(crate) fn take(&self, len: usize) -> Option<BytesMut> {
        self.lent.lock().take(len)
    }

    pub(crate) fn lend(&self, buffer: BytesMut, len: usize) -> Bytes {
        self.lent.lock().lend(buffer, len)
    }

    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.lent.lock().held()
    }
}

/// What is remembered per session: sixteen calls with bodies of 64 KiB each way.
#[cfg(feature = "exchange")]
pub(crate) const MAX_LENT: usize = 2 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_is_short_and_goes_on_where_the_last_one_ended() {
        let mut recycler = Recycler::new(1 << 20);
        let mut held: Vec<_> = (0..1_000).map(|_| recycler.lend(allocate(512), 100)).collect();
        held.pop();
        let searches = (1..).find(|_| recycler.take(512).is_some());
        assert_eq!(searches, Some(1_000_usize.div_ceil(LOOKS)));
        assert_eq!(recycler.lent.len(), held.len(), "those that are held are not forgotten");
        recycler.clear();
        assert!(recycler.take(1).is_none());
    }
}
