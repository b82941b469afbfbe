//! What streams and their halves do for messages: one interface for reading, one for writing, and
//! the ways to hear of an early end and to cause one.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;

use super::{Handle, ReadHalf, Stream, WriteHalf};
use crate::{
    error::{ResetCode, StreamError},
    frame::StreamId,
    proto::{Core, Direction, Read, Slot},
    recycle::Memory,
    session::shared::Shared,
};

/// What messages are read from.
pub(crate) trait Source {
    /// The next bytes: copied to one small allocation if they are few, else as they are.
    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamError>>;

    /// Whether the other side may have heard of it.
    fn is_sent(&self) -> bool;

    /// Where large messages are put together.
    fn memory(&self) -> Option<&Memory>;
}

/// What messages are written to.
pub(crate) trait Sink {
    /// Stages `head`, then `body`, then with `finish` FIN, all at once where there is room; what
    /// was staged is gone from both. Does not wait until it is flushed.
    fn poll_stage(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut &[u8],
        body: &mut Bytes,
        finish: bool,
    ) -> Poll<Result<(), StreamError>>;
}

macro_rules! source {
    ($name:ident) => {
        impl Source for $name {
            fn poll_take(
                &mut self,
                cx: &mut Context<'_>,
            ) -> Poll<Result<Option<Bytes>, StreamError>> {
                if !self.chunk.is_empty() {
                    return Poll::Ready(Ok(Some(std::mem::take(&mut self.chunk))));
                }
                self.handle.poll_take(cx)
            }

            fn is_sent(&self) -> bool {
                self.id().is_some()
            }

            fn memory(&self) -> Option<&Memory> {
                Some(self.handle.shared.message_memory())
            }
        }
    };
}

source!(Stream);
source!(ReadHalf);

macro_rules! sink {
    ($name:ident) => {
        impl Sink for $name {
            fn poll_stage(
                &mut self,
                cx: &mut Context<'_>,
                head: &mut &[u8],
                body: &mut Bytes,
                finish: bool,
            ) -> Poll<Result<(), StreamError>> {
                self.handle.poll_stage(cx, head, body, finish)
            }
        }
    };
}

sink!(Stream);
sink!(WriteHalf);

impl Stream {
    /// What can reset this stream while somebody else holds it; `None` before it has an id.
    pub(crate) fn remote(&self) -> Option<Remote> {
        let slot = self.handle.hold.slot()?;
        Some(Remote { id: self.id()?, shared: self.handle.shared.clone(), slot })
    }

    /// When something arrived last for this session, if that has a timer: what was read of the
    /// stream did not arrive later.
    #[cfg(feature = "rpc")]
    pub(crate) fn arrived(&self) -> Option<std::time::Instant> {
        self.handle.shared.arrived()
    }

    /// Turns the close timeout off for as long as the stream is held (`spec.md §7.4.4`).
    pub(crate) fn be_patient(&self) {
        if let Some(slot) = self.handle.hold.slot() {
            self.handle.shared.with(|state| state.core.be_patient(slot));
        }
    }

    /// Ready once the stream has ended early. Takes the place of a read that waits, and may be
    /// woken for nothing.
    pub(crate) fn poll_early_end(&self, cx: &Context<'_>) -> Poll<StreamError> {
        self.handle.poll_early_end(cx, Direction::Read)
    }

    /// As [`poll_early_end`](Self::poll_early_end), in the place of a write that waits.
    #[cfg(feature = "rpc")]
    pub(crate) fn poll_early_end_writing(&self, cx: &Context<'_>) -> Poll<StreamError> {
        self.handle.poll_early_end(cx, Direction::Write)
    }
}

#[cfg(feature = "rpc")]
impl WriteHalf {
    /// Ends both directions, for the time is up.
    pub(crate) fn expire(&self) {
        self.handle.reset(ResetCode::EXPIRED);
    }

    /// Ready once the stream has ended early. Takes the place of a write that waits, and may be
    /// woken for nothing.
    pub(crate) fn poll_early_end_writing(&self, cx: &Context<'_>) -> Poll<StreamError> {
        self.handle.poll_early_end(cx, Direction::Write)
    }
}

/// Resets a stream without holding it. The id tells whether the slot still is that stream's.
pub(crate) struct Remote {
    shared: Arc<Shared>,
    slot: Slot,
    id: StreamId,
}

impl Remote {
    pub(crate) fn reset(&self, code: ResetCode) {
        self.shared.with(|state| {
            if state.core.id(self.slot) == Some(self.id) {
                state.core.reset(self.slot, code);
            }
        });
    }
}

impl Handle {
    fn poll_take(&mut self, cx: &Context<'_>) -> Poll<Result<Option<Bytes>, StreamError>> {
        let Self { shared, hold } = self;
        let Some(slot) = hold.to_read() else { return Poll::Ready(Ok(None)) };
        shared.with(|state| {
            let core = &mut state.core;
            let read = match core.front_len(slot) {
                len if len == 0 || len > FEW => core.read_chunk(slot, usize::MAX),
                len if len > LITTLE => read_few::<FEW>(core, slot),
                len if len > TINY => read_few::<LITTLE>(core, slot),
                _ => read_few::<TINY>(core, slot),
            };
            hold.read(state, cx, read)
        })
    }

    fn poll_stage(
        &mut self,
        cx: &Context<'_>,
        head: &mut &[u8],
        body: &mut Bytes,
        finish: bool,
    ) -> Poll<Result<(), StreamError>> {
        let Self { shared, hold } = self;
        let Some(slot) = hold.slot() else { return Poll::Ready(Err(StreamError::Finished)) };
        shared.with(|state| {
            if state.core.stage(slot, head, body, finish)? {
                if finish {
                    hold.was_finished(state);
                }
                return Poll::Ready(Ok(()));
            }
            state.wait_writable(slot, cx);
            Poll::Pending
        })
    }

    /// Never ready for a stream that ended well.
    fn poll_early_end(&self, cx: &Context<'_>, direction: Direction) -> Poll<StreamError> {
        let Some(slot) = self.hold.slot() else { return Poll::Pending };
        self.shared.with(|state| {
            if let Some(error) = state.core.early_end(slot, direction) {
                return Poll::Ready(error);
            }
            match direction {
                Direction::Read => state.wait_readable(slot, cx),
                Direction::Write => state.wait_writable(slot, cx),
            }
            Poll::Pending
        })
    }
}

/// A few bytes in one allocation, which plain `Bytes` need two for as soon as they are shared.
struct Few<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> AsRef<[u8]> for Few<N> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Copies what was received, so that its buffer is used again.
fn read_few<const N: usize>(core: &mut Core, slot: Slot) -> Result<Read<Bytes>, StreamError> {
    let mut bytes = [0; N];
    Ok(match core.read(slot, &mut bytes)? {
        Read::Data(len) => Read::Data(Bytes::from_owner(Few { bytes, len })),
        Read::Blocked => Read::Blocked,
        Read::End => Read::End,
    })
}

/// A message of some words with its header: no longer than what is moved without a call.
const TINY: usize = 112;

/// A small one.
const LITTLE: usize = 240;

/// The most bytes that are copied.
const FEW: usize = 1_024;
