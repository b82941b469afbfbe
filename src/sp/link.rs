//! The task of a pipe: it alone reads and writes the connection.

use std::{
    io::IoSlice,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::io::{AsyncRead, AsyncWrite};

use super::{
    error::PipeError,
    pattern::{Base, Pattern, Wakes},
    pipe::Pipe,
    shared::{Shared, State},
    wire::{Inbox, Outbox},
};
use crate::transport::{Framing, Io};

/// A connection after its handshake. As a future it moves messages until the pipe ends, and
/// tells why.
pub(crate) struct Link<P: Pattern> {
    shared: Arc<Shared<P>>,
    pipe: Pipe,
    io: Option<Box<dyn Io>>,
    inbox: Inbox,
    /// A message that the pattern could not take yet.
    held: Option<Bytes>,
    /// What is being written.
    batch: Outbox,
    flushed: bool,
    blocked: bool,
    /// The last read brought several messages: their receivers may answer with several.
    busy: bool,
    yielded: bool,
    /// The pattern took a message from it.
    received: bool,
    wakes: Wakes,
}

/// What a look at the shared state told.
struct Orders {
    read: bool,
    /// There is more to write than was taken.
    more: bool,
    /// Those who were just woken may have something to send: with a little patience it all goes
    /// into one write.
    patience: bool,
    /// The socket is closing...
    closing: bool,
    /// ...and there is nothing more to write.
    drained: bool,
    delivered: usize,
}

impl<P: Pattern> Link<P> {
    pub(crate) fn new(
        shared: Arc<Shared<P>>,
        pipe: Pipe,
        io: Box<dyn Io>,
        framing: Framing,
    ) -> Self {
        Self {
            shared,
            inbox: Inbox::new(framing, pipe.options().max_receive()),
            pipe,
            io: Some(io),
            held: None,
            batch: Outbox::new(framing),
            flushed: true,
            blocked: false,
            busy: false,
            yielded: false,
            received: false,
            wakes: Wakes::default(),
        }
    }

    /// Whether a message came on it.
    pub(crate) const fn has_received(&self) -> bool {
        self.received
    }

    /// Closes the connection, then tells the socket. Once.
    pub(crate) fn end(&mut self, error: PipeError) {
        if self.io.take().is_some() {
            self.shared.detach(&self.pipe, error);
        }
    }

    fn poll_run(&mut self, cx: &mut Context<'_>) -> Poll<PipeError> {
        for _ in 0..ROUNDS {
            let orders = match self.sync(cx) {
                Ok(orders) => orders,
                Err(error) => return Poll::Ready(error),
            };
            if orders.delivered > 0 {
                (self.busy, self.yielded) = (orders.delivered > 1, false);
                self.received = true;
            }
            if orders.patience {
                self.yielded = true;
                break;
            }
            let written = match self.poll_write(cx) {
                Poll::Ready(Err(error)) => return Poll::Ready(error),
                Poll::Ready(Ok(())) => true,
                Poll::Pending => false,
            };
            if orders.drained && written {
                return self.poll_close(cx).map(|()| PipeError::Closed);
            }
            let again = written && (orders.more || self.blocked || orders.closing);
            let read = match orders.read {
                true => self.poll_read(cx),
                false => Poll::Pending,
            };
            match read {
                Poll::Ready(Err(error)) => return Poll::Ready(error),
                Poll::Ready(Ok(())) => {}
                Poll::Pending if again => {}
                Poll::Pending => {
                    self.note_blocked(!written);
                    return Poll::Pending;
                }
            }
        }
        // Others want their turn too.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// One look at the shared state: hands over what came, takes what is to go.
    fn sync(&mut self, cx: &Context<'_>) -> Result<Orders, PipeError> {
        let Self { shared, inbox, held, batch, flushed, blocked, pipe, wakes, .. } = self;
        let (id, patient) = (pipe.id(), self.busy && !self.yielded);
        shared.lock(wakes, |state| {
            let State { pattern, base, .. } = state;
            // Nobody needs to wake who is awake.
            let waker = base.pipes.get_mut(id).and_then(|entry| entry.waker.take());
            let delivered = deliver(pattern, base, id, inbox, held)?;
            let entry = base.pipes.get_mut(id).ok_or(PipeError::Closed)?;
            if let Some(error) = entry.stop {
                return Err(error);
            }
            let waiting = entry.outbox.len();
            let patience =
                patient && delivered == 0 && waiting > 0 && waiting < SMALL_BATCH && !base.closing;
            if batch.is_empty() && !patience {
                let was_free = entry.is_free();
                std::mem::swap(batch, &mut entry.outbox);
                (entry.blocked, *blocked) = (false, false);
                if !was_free || !batch.is_empty() {
                    pattern.handle_room(base, id);
                }
            }
            let read = held.is_none() && !base.closing && pattern.wants(base, id);
            let Base { pipes, wakes, closing, .. } = base;
            let entry = pipes.get_mut(id).ok_or(PipeError::Closed)?;
            entry.waker = waker;
            wakes.register(&mut entry.waker, cx);
            let more = !entry.outbox.is_empty() && !patience;
            let drained = !more && batch.is_empty() && *flushed && !pattern.has_backlog();
            let (closing, drained) = (*closing, *closing && drained);
            Ok(Orders { read, more, patience, closing, drained, delivered })
        })
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PipeError>> {
        let Some(io) = &mut self.io else { return Poll::Ready(Err(PipeError::Closed)) };
        if !self.batch.is_empty() {
            self.flushed = false;
            if let Some(stream) = (**io).as_stream() {
                ready!(self.batch.poll_stage(cx, stream)).map_err(|error| failed(&error))?;
            }
        }
        let mut io = Pin::new(io);
        while !self.batch.is_empty() {
            let written = if let Some(bytes) = self.batch.single() {
                ready!(io.as_mut().poll_write(cx, bytes))
            } else {
                let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                let set = self.batch.slices(&mut slices);
                ready!(io.as_mut().poll_write_vectored(cx, &slices[..set]))
            };
            match written {
                Ok(0) => return Poll::Ready(Err(PipeError::Io(std::io::ErrorKind::WriteZero))),
                Ok(len) if len > self.batch.len() => {
                    return Poll::Ready(Err(PipeError::IoMisbehaved));
                }
                Ok(len) => self.batch.advance(len),
                Err(error) => return Poll::Ready(Err(failed(&error))),
            }
        }
        if !self.flushed {
            ready!(io.as_mut().poll_flush(cx)).map_err(|error| failed(&error))?;
            self.flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PipeError>> {
        let Some(io) = &mut self.io else { return Poll::Ready(Err(PipeError::Closed)) };
        let room = self.inbox.room();
        let most = room.len();
        match ready!(Pin::new(io).poll_read(cx, room)) {
            Ok(0) if self.inbox.is_partial() => Poll::Ready(Err(PipeError::Cut)),
            Ok(0) => Poll::Ready(Err(PipeError::PeerClosed)),
            Ok(len) if len > most => Poll::Ready(Err(PipeError::IoMisbehaved)),
            Ok(len) => {
                self.inbox.filled(len);
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(Err(failed(&error))),
        }
    }

    /// The end of a socket that closes in good order.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(io) = &mut self.io else { return Poll::Ready(()) };
        Pin::new(io).poll_close(cx).map(|closed| {
            if let Err(error) = closed {
                log::debug!("closing {:?}: {error}", self.pipe);
            }
        })
    }

    /// Tells the pattern that the IO is stuck, so that it chooses other pipes.
    fn note_blocked(&mut self, blocked: bool) {
        if blocked && !self.blocked {
            self.blocked = true;
            let (shared, id) = (&self.shared, self.pipe.id());
            shared.with(|_, base| {
                if let Some(entry) = base.pipes.get_mut(id) {
                    entry.blocked = true;
                }
            });
        }
    }
}

/// Hands what has arrived to the pattern, as far as that takes it; how many messages it took.
fn deliver<P: Pattern>(
    pattern: &mut P,
    base: &mut Base<P>,
    id: u32,
    inbox: &mut Inbox,
    held: &mut Option<Bytes>,
) -> Result<usize, PipeError> {
    let mut delivered = 0;
    loop {
        let message = match held.take() {
            Some(message) => message,
            None => match inbox.next()? {
                Some(message) => message,
                None => return Ok(delivered),
            },
        };
        if let Err(message) = pattern.handle_message(base, id, message) {
            *held = Some(message);
            return Ok(delivered);
        }
        base.stats.received += 1;
        delivered += 1;
    }
}

fn failed(error: &std::io::Error) -> PipeError {
    log::debug!("connection failed: {error}");
    PipeError::Io(error.kind())
}

impl<P: Pattern> Future for Link<P> {
    type Output = PipeError;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<PipeError> {
        let error = ready!(self.poll_run(cx));
        self.end(error);
        Poll::Ready(error)
    }
}

impl<P: Pattern> Drop for Link<P> {
    fn drop(&mut self) {
        self.end(PipeError::Dropped);
    }
}

/// How many reads and writes a task does before others get their turn.
const ROUNDS: usize = 16;

/// The kernel takes up to 1,024; beyond 64 a call costs more than it saves.
const MAX_SLICES: usize = 64;

/// Below this a little patience pays.
const SMALL_BATCH: usize = 16 << 10;
