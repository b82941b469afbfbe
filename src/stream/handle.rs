//! What a stream and its halves do, and when they let go of what the session keeps for them.
//!
//! Every lock of the session costs two atomic operations. So a reader that got the last byte knows
//! that the end follows and does not ask for it, and a stream that is finished both ways is let go
//! by what finished it, not by drop: four of sixteen locks of a short stream, both sides together.

use std::{
    io,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;

use crate::{
    error::{ResetCode, StreamError},
    frame::StreamId,
    proto::{Direction, Half, LEAST_DIRECT, Read, Slot, Written},
    session::{
        lending,
        shared::{Shared, State},
    },
};

/// What a handle does, whichever half it is.
pub(super) struct Handle {
    pub(super) shared: Arc<Shared>,
    pub(super) hold: Hold,
}

/// What a handle has of its stream.
#[derive(Debug)]
pub(super) struct Hold {
    /// Its place in the table of the session; the id of the stream, once that is over.
    number: u32,
    /// `READS` and `WRITES`: which halves, none once the stream is over (finished in both
    /// directions, and all was read). `AT_END`: there is nothing more to read, ever.
    ///
    /// Not an enum and a flag: the spare values of those would tell `None` of an `Option` apart in
    /// the middle of a word, and the moves of a stream would be in odd pieces.
    marks: u32,
}

const READS: u32 = 1;
const WRITES: u32 = 2;
const AT_END: u32 = 4;

impl Hold {
    #[inline]
    const fn half(&self) -> Half {
        match self.marks & (READS | WRITES) {
            0 => Half::None,
            READS => Half::Read,
            WRITES => Half::Write,
            _ => Half::Both,
        }
    }

    /// The place in the table.
    #[inline]
    pub(super) fn slot(&self) -> Option<Slot> {
        (self.marks & (READS | WRITES) != 0).then_some(Slot(self.number))
    }

    /// The place in the table, unless the end is all there is to read.
    #[inline]
    pub(super) fn to_read(&self) -> Option<Slot> {
        (self.marks & AT_END == 0).then_some(Slot(self.number))
    }

    /// What a reader gets of what was found, perhaps the last there was; or it waits.
    #[inline(always)]
    pub(super) fn read<T>(
        &mut self,
        state: &mut State,
        cx: &Context<'_>,
        read: Result<Read<T>, StreamError>,
    ) -> Poll<Result<Option<T>, StreamError>> {
        let slot = Slot(self.number);
        let found = match read? {
            Read::Data(data) => Some(data),
            Read::End => None,
            Read::Blocked => {
                state.wait_readable(slot, cx);
                return Poll::Pending;
            }
        };
        if state.core.is_read_out(slot) {
            self.was_read_out(state);
        }
        Poll::Ready(Ok(found))
    }

    // Apart, so that it takes no room in those who read on.
    #[inline(never)]
    fn was_read_out(&mut self, state: &mut State) {
        self.marks |= AT_END;
        self.was_flushed(state);
    }

    /// All that was written is flushed, perhaps FIN too.
    #[inline]
    fn was_flushed(&mut self, state: &mut State) {
        let slot = Slot(self.number);
        if self.marks == READS | WRITES | AT_END
            && let Some(id) = state.core.release_finished(slot)
        {
            state.wake_waiting(slot);
            self.let_go(id);
        }
    }

    /// FIN was staged by one who does not wait until it is flushed.
    #[cfg(feature = "exchange")]
    pub(super) fn was_finished(&mut self, state: &mut State) {
        let slot = Slot(self.number);
        if self.marks == READS | WRITES | AT_END
            && let Some(id) = state.core.id(slot)
        {
            state.forget_wakers(slot, true, true);
            state.core.release(slot, Half::Both);
            self.let_go(id);
        }
    }

    const fn let_go(&mut self, id: StreamId) {
        self.marks &= AT_END;
        self.number = id.0;
    }
}

impl Handle {
    pub(super) const fn new(shared: Arc<Shared>, slot: Slot) -> Self {
        Self { shared, hold: Hold { number: slot.0, marks: READS | WRITES } }
    }

    pub(super) fn split(mut self) -> (Self, Self) {
        let Hold { number, marks } = self.hold;
        self.hold.marks &= !READS;
        let hold = Hold { number, marks: marks & !WRITES };
        (Self { shared: self.shared.clone(), hold }, self)
    }

    pub(super) fn is_other_half_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
            && self.hold.number == other.hold.number
            && self.hold.slot().is_none() == other.hold.slot().is_none()
    }

    /// The reading half takes the writing half in.
    pub(super) fn join(mut self, mut write: Self) -> Self {
        if self.hold.slot().is_some() {
            self.hold.marks |= WRITES;
            write.hold.marks &= !WRITES;
        }
        self
    }

    pub(super) fn id(&self) -> Option<StreamId> {
        match self.hold.slot() {
            Some(slot) => self.shared.with(|state| state.core.id(slot)),
            None => Some(StreamId(self.hold.number)),
        }
    }

    pub(super) fn reset(&self, code: ResetCode) {
        if let Some(slot) = self.hold.slot() {
            self.shared.with(|state| state.core.reset(slot, code));
        }
    }

    #[inline]
    pub(super) fn poll_read(
        &mut self,
        cx: &Context<'_>,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self.hold.to_read() {
            Some(slot) if !out.is_empty() => self.poll_read_some(cx, slot, out),
            _ => Poll::Ready(Ok(0)),
        }
    }

    fn poll_read_some(
        &mut self,
        cx: &Context<'_>,
        slot: Slot,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let Self { shared, hold } = self;
        let read = shared.with(|state| {
            let read = state.core.read(slot, out);
            hold.read(state, cx, read).map(|read| Ok(read?.unwrap_or(0)))
        });
        if read.is_pending()
            && out.len() >= LEAST_DIRECT
            && let Some(len) = lending::read_directly(shared, slot, out)
        {
            return Poll::Ready(Ok(len));
        }
        read
    }

    pub(super) fn poll_read_chunk(
        &mut self,
        cx: &Context<'_>,
        max: usize,
    ) -> Poll<io::Result<Option<Bytes>>> {
        let Self { shared, hold } = self;
        let Some(slot) = hold.to_read() else { return Poll::Ready(Ok(None)) };
        let read = shared.with(|state| {
            let read = state.core.read_chunk(slot, max);
            hold.read(state, cx, read)
        });
        read.map_err(io::Error::from)
    }

    /// Lends out the next chunk, which stays in `chunk` until it is consumed.
    pub(super) fn poll_fill<'a>(
        &mut self,
        chunk: &'a mut Bytes,
        cx: &Context<'_>,
    ) -> Poll<io::Result<&'a [u8]>> {
        if chunk.is_empty()
            && let Some(next) = ready!(self.poll_read_chunk(cx, usize::MAX))?
        {
            *chunk = next;
        }
        Poll::Ready(Ok(chunk))
    }

    pub(super) fn poll_write(&self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Some(slot) = self.hold.slot() else { return finished() };
        self.shared.with(|state| {
            let written = state.core.write(slot, bytes);
            waiting(state, slot, cx, written)
        })
    }

    pub(super) fn poll_write_vectored(
        &self,
        cx: &Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Some(slot) = self.hold.slot() else {
            let nothing = slices.iter().all(|slice| slice.is_empty());
            return if nothing { Poll::Ready(Ok(0)) } else { finished() };
        };
        self.shared.with(|state| {
            let mut total = 0;
            for slice in slices.iter().filter(|slice| !slice.is_empty()) {
                match state.core.write(slot, slice) {
                    Ok(Written::Bytes(len)) => {
                        total += len;
                        if len < slice.len() {
                            break;
                        }
                    }
                    // What was staged counts; the rest is for the next call to meet.
                    _ if total > 0 => break,
                    blocked => return waiting(state, slot, cx, blocked),
                }
            }
            Poll::Ready(Ok(total))
        })
    }

    pub(super) fn poll_write_chunk(
        &self,
        cx: &Context<'_>,
        chunk: &mut Bytes,
    ) -> Poll<io::Result<usize>> {
        if chunk.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let Some(slot) = self.hold.slot() else { return finished() };
        self.shared.with(|state| {
            let written = state.core.write_chunk(slot, chunk);
            waiting(state, slot, cx, written)
        })
    }

    pub(super) fn poll_flush(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flushed(cx, |state, slot| state.core.flush(slot))
    }

    pub(super) fn poll_close(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flushed(cx, |state, slot| state.core.close_stream(slot))
    }

    fn poll_flushed(
        &mut self,
        cx: &Context<'_>,
        flush: impl FnOnce(&mut State, Slot) -> Result<bool, StreamError>,
    ) -> Poll<io::Result<()>> {
        let Self { shared, hold } = self;
        let Some(slot) = hold.slot() else { return Poll::Ready(Ok(())) };
        shared.with(|state| match flush(state, slot) {
            Ok(true) => {
                hold.was_flushed(state);
                Poll::Ready(Ok(()))
            }
            Ok(false) => {
                state.wait_writable(slot, cx);
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error.into())),
        })
    }

    pub(super) fn poll_ended(&self, cx: &Context<'_>) -> Poll<Result<(), StreamError>> {
        let Some(slot) = self.hold.slot() else { return Poll::Ready(Ok(())) };
        self.shared.with(|state| match state.core.ended_stream(slot) {
            Some(result) => Poll::Ready(result),
            None => {
                state.wait_writable(slot, cx);
                Poll::Pending
            }
        })
    }

    fn release(&self, slot: Slot) {
        let half = self.hold.half();
        self.shared.with(|state| {
            state.forget_wakers(slot, half != Half::Write, half != Half::Read);
            state.core.release(slot, half);
        });
    }

    pub(super) fn set_deadline(&self, direction: Direction, at: Option<Instant>) -> io::Result<()> {
        let now = self.shared.now();
        let set = match self.hold.slot() {
            Some(slot) => {
                self.shared.with(|state| state.core.set_deadline(slot, direction, at, now))
            }
            // Nobody will wait.
            None => at.is_none() || self.shared.timer().is_some(),
        };
        if set {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::Unsupported, "the session has no timer"))
        }
    }
}

impl Drop for Handle {
    #[inline]
    fn drop(&mut self) {
        if let Some(slot) = self.hold.slot() {
            self.release(slot);
        }
    }
}

fn waiting(
    state: &mut State,
    slot: Slot,
    cx: &Context<'_>,
    written: Result<Written, StreamError>,
) -> Poll<io::Result<usize>> {
    match written {
        Ok(Written::Bytes(len)) => Poll::Ready(Ok(len)),
        Ok(Written::Blocked) => {
            state.wait_writable(slot, cx);
            Poll::Pending
        }
        Err(error) => Poll::Ready(Err(error.into())),
    }
}

/// What a writer gets after the end.
fn finished() -> Poll<io::Result<usize>> {
    Poll::Ready(Err(StreamError::Finished.into()))
}

#[cfg(test)]
mod tests {
    use futures::{AsyncReadExt, AsyncWriteExt, executor::block_on, future};

    use crate::{Config, Session, Stream, transport::memory};

    /// What the session of a stream keeps, of all its streams.
    fn kept(stream: &Stream) -> usize {
        stream.handle.shared.with(|state| state.core.live_streams())
    }

    // spec.md §4.7.3
    #[test]
    fn a_stream_is_let_go_by_what_ends_it_while_it_is_held() {
        let (left, right) = memory::duplex(4096);
        let (client, driver) = Session::client(left, Config::default());
        let (server, peer) = Session::server(right, Config::default());
        let work = async {
            let mut ours = client.open().await.unwrap();
            ours.write_all(b"question").await.unwrap();
            ours.close().await.unwrap();
            let mut theirs = server.accept().await.unwrap();
            let mut text = [0; 8];
            theirs.read_exact(&mut text).await.unwrap();
            theirs.write_all(b"answered").await.unwrap();
            assert_eq!(kept(&theirs), 1, "still to be finished");
            theirs.close().await.unwrap();
            assert_eq!(kept(&theirs), 0, "FIN was the last of it");
            ours.read_exact(&mut text[..7]).await.unwrap();
            assert_eq!(kept(&ours), 1, "a byte is unread");
            ours.read_exact(&mut text[..1]).await.unwrap();
            assert_eq!(kept(&ours), 0, "it was the last, and the end follows");

            // Nothing to read at all, and halves, which let go when they are dropped.
            let mut ours = client.open().await.unwrap();
            ours.close().await.unwrap();
            let (mut read, mut write) = server.accept().await.unwrap().into_split();
            assert_eq!(read.read(&mut text).await.unwrap(), 0);
            write.close().await.unwrap();
            assert_eq!(ours.read(&mut text).await.unwrap(), 0);
            assert_eq!(kept(&ours), 0);
            let theirs = read.reunite(write).unwrap();
            assert_eq!(kept(&theirs), 1);
            drop(theirs);
        };
        let work = std::pin::pin!(work);
        let done = block_on(future::select(work, future::join(driver, peer)));
        assert!(matches!(done, future::Either::Left(_)));
    }
}
