//! A connection of a socket, as its user sees it, and what happens to it.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
};

use super::{
    error::{DialError, HandshakeError, PipeError},
    options::Options,
};
use crate::{sync::Mutex, transport::Address};

/// One connection of a socket after its handshake. Cheap to clone; the pipe itself may be gone.
#[derive(Clone)]
pub struct Pipe {
    inner: Arc<Inner>,
}

struct Inner {
    id: u32,
    address: Address,
    origin: Origin,
    local: Option<Address>,
    remote: Option<Address>,
    options: Options,
    owner: Weak<dyn Owner>,
}

/// Who made a pipe, by number: those of [`Dialer::id`](super::Dialer::id) and
/// [`Listener::id`](super::Listener::id).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// It was dialled.
    Dialer(u64),
    /// It was accepted.
    Listener(u64),
}

/// The socket behind a pipe.
pub(crate) trait Owner: Send + Sync {
    fn close_pipe(&self, pipe: &Pipe);
}

impl Pipe {
    pub(crate) fn new(
        id: u32,
        (address, origin): (Address, Origin),
        (local, remote): (Option<Address>, Option<Address>),
        options: Options,
        owner: Weak<dyn Owner>,
    ) -> Self {
        Self { inner: Arc::new(Inner { id, address, origin, local, remote, options, owner }) }
    }

    /// Its number: not 0, below 2^31, and of no other pipe of the socket that is alive.
    pub fn id(&self) -> u32 {
        self.inner.id
    }

    /// What its dialer dials or its listener listens on.
    pub fn address(&self) -> &Address {
        &self.inner.address
    }

    /// Its dialer or listener.
    pub fn origin(&self) -> Origin {
        self.inner.origin
    }

    /// The address of its own end, if its transport knows.
    pub fn local_addr(&self) -> Option<&Address> {
        self.inner.local.as_ref()
    }

    /// The address of the other end, if its transport knows.
    pub fn remote_addr(&self) -> Option<&Address> {
        self.inner.remote.as_ref()
    }

    /// The options it was made with.
    pub fn options(&self) -> &Options {
        &self.inner.options
    }

    /// Closes it. If it was dialled, its dialer dials again after a while.
    pub fn close(&self) {
        if let Some(owner) = self.inner.owner.upgrade() {
            owner.close_pipe(self);
        }
    }

    pub(crate) fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe")
            .field("id", &self.inner.id)
            .field("address", &self.inner.address)
            .field("origin", &self.inner.origin)
            .field("remote", &self.inner.remote)
            .finish_non_exhaustive()
    }
}

/// What happens to the pipes of a socket.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PipeEvent {
    /// The handshake went well; the pipe is about to be admitted.
    Attaching(Pipe),
    /// The pipe is in use.
    Attached(Pipe),
    /// The pipe is gone, and why. Comes once for each that was attaching.
    Detached(Pipe, PipeError),
    /// A connection that was accepted did not become a pipe.
    HandshakeFailed {
        /// Where we listen.
        address: Address,
        /// Who it was, if the transport knows.
        remote: Option<Address>,
        /// Which rule was broken.
        error: HandshakeError,
    },
    /// A dialer in the background did not reach its peer; it will try again.
    DialFailed {
        /// What it dials.
        address: Address,
        /// Why.
        error: DialError,
    },
}

/// The events of a socket from the subscription on, as a [`futures::Stream`] that ends with the
/// socket. Who does not keep up loses the oldest.
#[must_use = "streams do nothing unless polled"]
pub struct PipeEvents {
    queue: Arc<Mutex<EventQueue>>,
}

pub(crate) struct EventQueue {
    events: VecDeque<PipeEvent>,
    limit: usize,
    lost: u64,
    ended: bool,
    waker: Option<Waker>,
}

impl PipeEvents {
    pub(crate) fn new(limit: usize) -> (Self, Weak<Mutex<EventQueue>>) {
        let queue =
            EventQueue { events: VecDeque::new(), limit, lost: 0, ended: false, waker: None };
        let queue = Arc::new(Mutex::new(queue));
        let weak = Arc::downgrade(&queue);
        (Self { queue }, weak)
    }

    /// How many events this subscriber was too slow for.
    pub fn lost(&self) -> u64 {
        self.queue.lock().lost
    }

    /// The next event, if there is one now.
    pub fn try_next(&mut self) -> Option<PipeEvent> {
        self.queue.lock().events.pop_front()
    }
}

impl EventQueue {
    /// What is to be dropped, and woken, outside of every lock.
    pub(crate) fn push(&mut self, event: PipeEvent) -> (Option<PipeEvent>, Option<Waker>) {
        let oldest = (self.events.len() >= self.limit).then(|| self.events.pop_front()).flatten();
        self.lost += u64::from(oldest.is_some());
        self.events.push_back(event);
        (oldest, self.waker.take())
    }

    pub(crate) fn end(&mut self) -> Option<Waker> {
        self.ended = true;
        self.waker.take()
    }
}

impl futures::Stream for PipeEvents {
    type Item = PipeEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<PipeEvent>> {
        let mut queue = self.queue.lock();
        if let Some(event) = queue.events.pop_front() {
            return Poll::Ready(Some(event));
        }
        if queue.ended {
            return Poll::Ready(None);
        }
        let replaced = queue.waker.replace(cx.waker().clone());
        drop(queue);
        drop(replaced);
        Poll::Pending
    }
}

impl fmt::Debug for PipeEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeEvents").field("lost", &self.lost()).finish_non_exhaustive()
    }
}
