//! One connection: handshake, then messages both ways, in one task.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use futures::{AsyncReadExt, AsyncWriteExt};

use super::{
    PipeError, PipeEvent,
    hub::{AnyHub, Hub, Pattern},
    wire::{self, Decoder, GREETING},
};
use crate::transport::{Address, Connection, Io};

/// The number of a pipe: 31 bits, unique within its socket while the pipe lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PipeId(pub(super) u32);

impl fmt::Display for PipeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A connection to one peer of a socket. It may be gone by the time you look.
#[derive(Clone)]
pub struct Pipe {
    about: Arc<About>,
}

struct About {
    id: PipeId,
    address: Address,
    dialled: bool,
    local: String,
    remote: String,
    hub: Weak<dyn AnyHub>,
}

impl Pipe {
    #[cfg(test)]
    pub(super) fn for_tests(id: PipeId) -> Self {
        let (local, remote) = (String::new(), String::new());
        let address = Address::new("memory", "test");
        let hub: Weak<Hub<super::rep::Rep>> = Weak::new();
        Self { about: Arc::new(About { id, address, dialled: false, local, remote, hub }) }
    }

    /// Its number.
    pub fn id(&self) -> PipeId {
        self.about.id
    }

    /// What was dialled or listened on.
    pub fn address(&self) -> &Address {
        &self.about.address
    }

    /// Whether this end dialled.
    pub fn is_dialled(&self) -> bool {
        self.about.dialled
    }

    /// This end, as the transport names it.
    pub fn local_addr(&self) -> &str {
        &self.about.local
    }

    /// The other end, as the transport names it.
    pub fn remote_addr(&self) -> &str {
        &self.about.remote
    }

    /// Ends the connection. One that was dialled comes back, after a pause.
    pub fn close(&self) {
        if let Some(hub) = self.about.hub.upgrade() {
            hub.close_pipe(self.about.id);
        }
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe")
            .field("id", &self.about.id.0)
            .field("address", &self.about.address)
            .field("remote", &self.about.remote)
            .finish_non_exhaustive()
    }
}

/// The words in front of a message.
#[derive(Clone, Debug)]
pub(super) enum Header {
    Id([u8; wire::WORD]),
    Words(Bytes),
}

impl Header {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Id(id) => id,
            Self::Words(words) => words,
        }
    }
}

/// Exchanges greetings, within the time for that.
pub(super) async fn greet<P: Pattern>(
    hub: &Hub<P>,
    connection: &mut Connection,
) -> Result<(), PipeError> {
    let io = &mut connection.io;
    let greeting = Box::pin(async move {
        io.write_all(&wire::greeting(P::OURS)).await?;
        io.flush().await?;
        let mut theirs = [0; GREETING];
        io.read_exact(&mut theirs).await?;
        wire::check_greeting(theirs, P::THEIRS)
    });
    let limit = hub.config.handshake_timeout;
    hub.within(limit, greeting).await.unwrap_or(Err(PipeError::HandshakeTimeout))
}

/// A pipe that the socket knows. It is forgotten when this goes.
pub(super) struct Attached<P: Pattern> {
    hub: Arc<Hub<P>>,
    pipe: Pipe,
    io: Pin<Box<dyn Io>>,
    marked: bool,
    ended: PipeError,
}

impl<P: Pattern> Attached<P> {
    /// Admits a connection that has greeted.
    pub(super) fn new(
        hub: &Arc<Hub<P>>,
        connection: Connection,
        address: &Address,
        dialled: bool,
    ) -> Result<Self, PipeError> {
        let weak = Arc::downgrade(hub);
        let Connection { io, local, remote, marks_messages } = connection;
        let id = hub.with(|_, base| base.next_pipe_id());
        let about = About { id, address: address.clone(), dialled, local, remote, hub: weak };
        let pipe = Pipe { about: Arc::new(about) };
        // The user's code runs outside of the lock.
        if hub.config.admit.as_ref().is_some_and(|admit| !admit(&pipe)) {
            return Err(PipeError::NotAdmitted);
        }
        let attached = hub.with(|pattern, base| {
            if base.closed || base.is_pipe(id) {
                return false;
            }
            base.insert(pipe.clone());
            base.tell(&PipeEvent::Attached(pipe.clone()));
            pattern.add_pipe(base, id);
            true
        });
        if !attached {
            return Err(PipeError::ClosedHere);
        }
        let ended = PipeError::ClosedHere;
        Ok(Self { hub: hub.clone(), pipe, io: Pin::from(io), marked: marks_messages, ended })
    }

    /// Carries messages until one side has enough.
    pub(super) async fn run(mut self) -> PipeError {
        let mut carrier = Carrier {
            decoder: Decoder::new(self.marked, self.hub.config.max_message),
            marked: self.marked,
            scratch: vec![0; SCRATCH],
            have: 0..0,
            batch: VecDeque::new(),
            out: Outbox::default(),
            flushed: true,
        };
        let ended = poll_fn(|cx| carrier.poll(&self.hub, self.pipe.id(), self.io.as_mut(), cx));
        self.ended = ended.await;
        self.ended
    }
}

impl<P: Pattern> Drop for Attached<P> {
    fn drop(&mut self) {
        let (id, event) = (self.pipe.id(), PipeEvent::Detached(self.pipe.clone(), self.ended));
        self.hub.with(|pattern, base| {
            base.remove(id);
            pattern.remove_pipe(base, id);
            base.tell(&event);
        });
    }
}

/// Bytes on their way through one pipe.
struct Carrier {
    decoder: Decoder,
    marked: bool,
    scratch: Vec<u8>,
    /// What of the scratch is not decoded.
    have: std::ops::Range<usize>,
    batch: VecDeque<(Header, Bytes)>,
    out: Outbox,
    flushed: bool,
}

impl Carrier {
    fn poll<P: Pattern>(
        &mut self,
        hub: &Arc<Hub<P>>,
        id: PipeId,
        mut io: Pin<&mut dyn Io>,
        cx: &mut Context<'_>,
    ) -> Poll<PipeError> {
        for _ in 0..ROUNDS {
            let written = match self.poll_write(hub, id, io.as_mut(), cx) {
                Poll::Ready(Err(error)) => return Poll::Ready(error),
                written => written.is_pending(),
            };
            match self.poll_read(hub, id, io.as_mut(), cx) {
                Poll::Ready(Err(error)) => return Poll::Ready(error),
                Poll::Pending if written => return Poll::Pending,
                _ => {}
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads once, and hands over what is wanted. Pending: it waits for the IO, or for readers.
    fn poll_read<P: Pattern>(
        &mut self,
        hub: &Arc<Hub<P>>,
        id: PipeId,
        io: Pin<&mut dyn Io>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), PipeError>> {
        if self.have.is_empty() {
            let wanted = hub.with(|pattern, base| {
                base.attend(id, cx.waker());
                pattern.wants(id)
            });
            if !wanted {
                return Poll::Pending;
            }
            let len = ready!(io.poll_read(cx, &mut self.scratch)).map_err(PipeError::from)?;
            if len == 0 || len > self.scratch.len() {
                return Poll::Ready(Err(PipeError::Closed));
            }
            self.have = 0..len;
        }
        let mut input = &self.scratch[self.have.clone()];
        let decoder = &mut self.decoder;
        let handed = hub.with(|pattern, base| {
            base.attend(id, cx.waker());
            while pattern.wants(id) && !input.is_empty() {
                if let Some(message) = decoder.decode(&mut input)? {
                    base.counters.received += 1;
                    pattern.received(base, id, message);
                }
            }
            Ok(())
        });
        self.have.start = self.have.end - input.len();
        match handed {
            Ok(()) if !self.have.is_empty() => Poll::Pending,
            handed => Poll::Ready(handed),
        }
    }

    /// Writes until nothing is left. Pending: it waits for the IO, or for messages.
    fn poll_write<P: Pattern>(
        &mut self,
        hub: &Arc<Hub<P>>,
        id: PipeId,
        mut io: Pin<&mut dyn Io>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), PipeError>> {
        loop {
            while !self.out.is_empty() {
                self.flushed = false;
                let len = ready!(self.out.poll_write(io.as_mut(), cx)).map_err(PipeError::from)?;
                if len == 0 || len > self.out.len {
                    return Poll::Ready(Err(PipeError::Io(io::ErrorKind::WriteZero)));
                }
                self.out.advance(len);
            }
            if !self.flushed {
                ready!(io.as_mut().poll_flush(cx)).map_err(PipeError::from)?;
                self.flushed = true;
            }
            let batch = &mut self.batch;
            let goes_on = hub.with(|pattern, base| {
                let goes_on = base.take_queue(id, batch, cx.waker());
                base.counters.sent += batch.len() as u64;
                if !batch.is_empty() {
                    pattern.writable(base, id);
                }
                goes_on
            });
            if !goes_on {
                return Poll::Ready(Err(PipeError::ClosedHere));
            }
            if batch.is_empty() {
                return Poll::Pending;
            }
            for (header, body) in batch.drain(..) {
                self.out.push(header.bytes(), body, self.marked);
            }
        }
    }
}

/// Rounds of one poll before others get their turn.
const ROUNDS: usize = 4;

/// What is read at once.
const SCRATCH: usize = 64 << 10;

/// Messages in the order in which the IO is to take them; large bodies are not copied.
#[derive(Debug, Default)]
struct Outbox {
    pieces: VecDeque<Piece>,
    len: usize,
    /// A buffer that was written, for the next small messages.
    spare: Vec<u8>,
}

#[derive(Debug)]
enum Piece {
    /// Small messages, and how much of them was written.
    Copied(Vec<u8>, usize),
    Shared(Bytes),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Copied(bytes, at) => &bytes[*at..],
            Self::Shared(bytes) => bytes,
        }
    }
}

impl Outbox {
    const fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn push(&mut self, header: &[u8], body: Bytes, marked: bool) {
        let (prefix, from) = wire::prefix(header.len() + body.len(), marked);
        self.len += prefix.len() - from + header.len() + body.len();
        if !matches!(self.pieces.back(), Some(Piece::Copied(..))) {
            self.pieces.push_back(Piece::Copied(std::mem::take(&mut self.spare), 0));
        }
        let Some(Piece::Copied(bytes, _)) = self.pieces.back_mut() else { return };
        bytes.extend_from_slice(&prefix[from..]);
        bytes.extend_from_slice(header);
        if body.len() < MIN_SHARED {
            bytes.extend_from_slice(&body);
        } else {
            self.pieces.push_back(Piece::Shared(body));
        }
    }

    fn poll_write(&self, io: Pin<&mut dyn Io>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let [Piece::Copied(bytes, at)] = self.pieces.as_slices().0 {
            return io.poll_write(cx, &bytes[*at..]);
        }
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let mut set = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece.bytes());
            set += 1;
        }
        io.poll_write_vectored(cx, &slices[..set])
    }

    fn advance(&mut self, mut len: usize) {
        self.len -= len;
        while let Some(first) = self.pieces.front_mut() {
            let step = len.min(first.bytes().len());
            len -= step;
            match first {
                Piece::Copied(_, at) => *at += step,
                Piece::Shared(bytes) => bytes.advance(step),
            }
            if !first.bytes().is_empty() {
                return;
            }
            if let Some(Piece::Copied(mut bytes, _)) = self.pieces.pop_front() {
                bytes.clear();
                if bytes.capacity() <= SCRATCH {
                    self.spare = bytes;
                }
            }
        }
    }
}

/// Smaller bodies are copied behind their header: that costs less than a slice of their own.
const MIN_SHARED: usize = 4 << 10;

const MAX_SLICES: usize = 16;
