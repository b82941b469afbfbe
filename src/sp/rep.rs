//! The side that answers (`spec.md §13.4`).

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    future::poll_fn,
    sync::Arc,
    task::Poll,
};

use bytes::Bytes;

use super::{
    Pipe, PipeId, Protocol, RequestError, SocketConfig,
    hub::{Base, Hub, Pattern},
    pipe::Header,
    wire,
};
use crate::{runtime::Runtime, wait::WaitList};

/// Answers requests. Cheap to clone; the last clone closes the socket.
///
/// Any number of tasks may [`recv`](Self::recv) at once, and answer in any order. A request is
/// taken off its connection only when somebody receives it, so a slow socket holds its peers back
/// instead of filling memory.
#[derive(Clone, Debug)]
pub struct RepSocket {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    hub: Arc<Hub<Rep>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.hub.abandon();
    }
}

impl RepSocket {
    /// A socket without peers.
    pub fn new(runtime: Runtime, config: SocketConfig) -> Self {
        Self { inner: Arc::new(Inner { hub: Hub::new(runtime, config, Rep::default()) }) }
    }

    /// The next request and the way to answer it.
    ///
    /// # Errors
    ///
    /// [`RequestError::TimedOut`] after `recv_timeout`, [`RequestError::Closed`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no request.
    pub async fn recv(&self) -> Result<(Bytes, Replier), RequestError> {
        let hub = &self.inner.hub;
        let mut turn = Turn { hub, key: None };
        let request = poll_fn(|cx| {
            let key = &mut turn.key;
            hub.with(|rep, base| match rep.take(base) {
                Some(request) => {
                    // Done with the line: nobody is to be woken in its place.
                    base.wakes.extend(key.take().and_then(|key| rep.receivers.remove(key)));
                    Poll::Ready(Ok(request))
                }
                None if base.closed => Poll::Ready(Err(RequestError::Closed)),
                None => {
                    base.wakes.extend(rep.receivers.register(key, cx.waker()));
                    Poll::Pending
                }
            })
        });
        let request = hub.limited(hub.config.recv_timeout, request).await?;
        Ok(self.hand_over(request))
    }

    /// A request that is there already.
    ///
    /// # Errors
    ///
    /// [`RequestError::WouldBlock`] if there is none, [`RequestError::Closed`].
    pub fn try_recv(&self) -> Result<(Bytes, Replier), RequestError> {
        let hub = &self.inner.hub;
        let request = hub.with(|rep, base| match rep.take(base) {
            Some(request) => Ok(request),
            None if base.closed => Err(RequestError::Closed),
            None => Err(RequestError::WouldBlock),
        })?;
        Ok(self.hand_over(request))
    }

    fn hand_over(&self, Request { pipe, words, body }: Request) -> (Bytes, Replier) {
        (body, Replier { hub: self.inner.hub.clone(), pipe, words })
    }
}

socket_methods!(RepSocket, Protocol::REP, Protocol::REQ);

/// The way back to who asked. Dropping it leaves the request unanswered.
pub struct Replier {
    hub: Arc<Hub<Rep>>,
    pipe: Pipe,
    words: Bytes,
}

impl Replier {
    /// The pipe that the request came through.
    pub const fn pipe(&self) -> &Pipe {
        &self.pipe
    }

    /// Answers, once the pipe has room.
    ///
    /// # Errors
    ///
    /// [`RequestError::PeerGone`], [`RequestError::TimedOut`] after `send_timeout`,
    /// [`RequestError::Closed`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before it completes leaves the request unanswered.
    pub async fn send(self, body: impl Into<Bytes>) -> Result<(), RequestError> {
        let mut body = Some(body.into());
        let (hub, pipe) = (&self.hub, self.pipe.id());
        let mut line = Line { hub, pipe, key: None };
        let sent = poll_fn(|cx| {
            let key = &mut line.key;
            hub.with(|_, base| {
                if base.closed {
                    return Poll::Ready(Err(RequestError::Closed));
                }
                if !base.is_pipe(pipe) {
                    return Poll::Ready(Err(RequestError::PeerGone));
                }
                if base.has_room(pipe) {
                    let words = Header::Words(self.words.clone());
                    base.enqueue(pipe, words, body.take().unwrap_or_default());
                    return Poll::Ready(Ok(()));
                }
                if base.config.best_effort {
                    base.counters.replies_dropped += 1;
                    return Poll::Ready(Ok(()));
                }
                base.wait_for_room(pipe, key, cx.waker());
                Poll::Pending
            })
        });
        hub.limited(hub.config.send_timeout, sent).await
    }
}

/// A place in the line for requests.
struct Turn<'a> {
    hub: &'a Arc<Hub<Rep>>,
    key: Option<u64>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        self.hub.with(|rep, base| match rep.receivers.remove(key) {
            Some(waker) => base.wakes.push(waker),
            // It was woken and made nothing of it: the next one may.
            None => base.wakes.extend(rep.receivers.pop()),
        });
    }
}

/// A place in the line for room in a pipe.
struct Line<'a> {
    hub: &'a Arc<Hub<Rep>>,
    pipe: PipeId,
    key: Option<u64>,
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if self.key.is_some() {
            self.hub.with(|_, base| base.leave_line(self.pipe, self.key));
        }
    }
}

impl fmt::Debug for Replier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replier").field("pipe", &self.pipe).finish_non_exhaustive()
    }
}

/// A request that nobody has received yet.
struct Request {
    pipe: Pipe,
    /// From the first word to the id: they go back in front of the reply.
    words: Bytes,
    body: Bytes,
}

/// The pattern: requests in the order in which they came, one pipe's turn after the other's.
#[derive(Default)]
pub(super) struct Rep {
    requests: VecDeque<Request>,
    /// How many of them each pipe has there.
    held: HashMap<PipeId, usize>,
    receivers: WaitList,
}

impl Rep {
    fn take(&mut self, base: &mut Base) -> Option<Request> {
        let request = self.requests.pop_front()?;
        let id = request.pipe.id();
        if let Some(held) = self.held.get_mut(&id) {
            *held -= 1;
            if *held == 0 {
                base.resume(id);
            }
        }
        Some(request)
    }
}

impl Pattern for Rep {
    const OURS: Protocol = Protocol::REP;
    const THEIRS: Protocol = Protocol::REQ;

    fn add_pipe(&mut self, _: &mut Base, pipe: PipeId) {
        self.held.insert(pipe, 0);
    }

    fn remove_pipe(&mut self, _: &mut Base, pipe: PipeId) {
        self.held.remove(&pipe);
        // Nobody could be answered any more.
        self.requests.retain(|request| request.pipe.id() != pipe);
    }

    fn writable(&mut self, _: &mut Base, _: PipeId) {}

    fn received(&mut self, base: &mut Base, pipe: PipeId, mut message: Bytes) {
        let split = wire::split_request(&message, base.config.ttl.max(1));
        let (Some(split), Some(pipe)) = (split, base.pipe(pipe)) else {
            base.counters.dropped += 1;
            return;
        };
        let words = message.split_to(split);
        if let Some(held) = self.held.get_mut(&pipe.id()) {
            *held += 1;
        }
        self.requests.push_back(Request { pipe: pipe.clone(), words, body: message });
        base.wakes.extend(self.receivers.pop());
    }

    /// As many as there are receivers, and one more of each pipe; the rest stays with the peers.
    fn wants(&self, pipe: PipeId) -> bool {
        !self.receivers.is_empty() || self.held.get(&pipe).is_some_and(|held| *held == 0)
    }

    fn expired(&mut self, _: &mut Base, _: u32) {}

    fn is_live(&self, _: u32) -> bool {
        false
    }

    fn close(&mut self, base: &mut Base) {
        self.requests.clear();
        base.wakes.extend(self.receivers.take());
    }
}
