//! The side that asks (`spec.md §13.5`).

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::{Buf, Bytes};
use nohash_hasher::BuildNoHashHasher;

use super::{
    PipeId, Protocol, RequestError, SocketConfig,
    hub::{Base, Hub, Pattern},
    pipe::Header,
    wire,
};
use crate::{runtime::Runtime, sync::Mutex};

/// Asks. Cheap to clone; the last clone or context closes the socket.
///
/// [`request`](Self::request) is all that most programs need, from as many tasks as they like. A
/// [`ReqContext`] separates sending from receiving.
#[derive(Clone, Debug)]
pub struct ReqSocket {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    hub: Arc<Hub<Req>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.hub.abandon();
    }
}

impl ReqSocket {
    /// A socket without peers.
    pub fn new(runtime: Runtime, config: SocketConfig) -> Self {
        Self { inner: Arc::new(Inner { hub: Hub::new(runtime, config, Req::default()) }) }
    }

    /// Asks one peer and waits for the reply. It is asked again, or another one is, after `retry`
    /// and when the connection is lost.
    ///
    /// # Errors
    ///
    /// [`RequestError::TimedOut`] after `send_timeout` without a peer that takes it, or
    /// `recv_timeout` without a reply; [`RequestError::Canceled`] if retries are off and the
    /// connection was lost; [`RequestError::NoPeers`], [`RequestError::Closed`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future withdraws the request. A peer may have it already.
    pub async fn request(&self, body: impl Into<Bytes>) -> Result<Bytes, RequestError> {
        let hub = &self.inner.hub;
        let asked = Asked { hub, id: ask(hub, body.into()).await?, kept: false };
        hub.limited(hub.config.recv_timeout, poll_fn(|cx| poll_reply(hub, asked.id, cx))).await
    }

    /// A context: one request at a time, independent of all others.
    pub fn context(&self) -> ReqContext {
        ReqContext { inner: self.inner.clone(), current: Mutex::new(None) }
    }
}

socket_methods!(ReqSocket, Protocol::REQ, Protocol::REP);

/// One request at a time, with sending apart from receiving. Dropping it withdraws its request.
pub struct ReqContext {
    inner: Arc<Inner>,
    current: Mutex<Option<u32>>,
}

impl ReqContext {
    /// Sends a request; one that was not answered yet is canceled. Waits until a peer takes it,
    /// unless `best_effort` says otherwise.
    ///
    /// # Errors
    ///
    /// As [`ReqSocket::request`], but for those of the reply.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future withdraws the request.
    pub async fn send(&self, body: impl Into<Bytes>) -> Result<(), RequestError> {
        let hub = &self.inner.hub;
        self.withdraw();
        let id = ask(hub, body.into()).await?;
        let before = self.current.lock().replace(id);
        if let Some(before) = before {
            hub.with(|req, base| req.withdraw(base, before));
        }
        Ok(())
    }

    /// The reply.
    ///
    /// # Errors
    ///
    /// [`RequestError::NoRequest`] if nothing was asked or it was answered already;
    /// [`RequestError::Canceled`] if another request takes its place meanwhile;
    /// [`RequestError::TimedOut`] after `recv_timeout`, which ends the request; and as
    /// [`ReqSocket::request`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing: the reply can still be received.
    pub async fn recv(&self) -> Result<Bytes, RequestError> {
        let hub = &self.inner.hub;
        let id = (*self.current.lock()).ok_or(RequestError::NoRequest)?;
        let reply = poll_fn(|cx| poll_reply(hub, id, cx));
        let reply = hub.limited(hub.config.recv_timeout, reply).await;
        // Whatever came of it, it came of this request and not of a later one.
        let over = self.current.lock().take_if(|current| *current == id).is_some();
        if over {
            hub.with(|req, base| req.withdraw(base, id));
        }
        reply
    }

    fn withdraw(&self) {
        let current = self.current.lock().take();
        if let Some(id) = current {
            self.inner.hub.with(|req, base| req.withdraw(base, id));
        }
    }
}

impl Drop for ReqContext {
    fn drop(&mut self) {
        self.withdraw();
    }
}

impl fmt::Debug for ReqContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReqContext").finish_non_exhaustive()
    }
}

/// Asks, and waits until a pipe has taken it.
async fn ask(hub: &Arc<Hub<Req>>, body: Bytes) -> Result<u32, RequestError> {
    let id = hub.with(|req, base| req.ask(base, body))?;
    let asked = Asked { hub, id, kept: false };
    let limit = hub.config.send_timeout;
    hub.limited(limit, poll_fn(|cx| hub.with(|req, base| req.poll_sent(base, id, cx)))).await?;
    Ok(asked.keep())
}

fn poll_reply(hub: &Arc<Hub<Req>>, id: u32, cx: &Context<'_>) -> Poll<Result<Bytes, RequestError>> {
    hub.with(|req, base| req.poll_reply(base, id, cx))
}

/// Withdraws a request when its future is dropped.
struct Asked<'a> {
    hub: &'a Arc<Hub<Req>>,
    id: u32,
    kept: bool,
}

impl Asked<'_> {
    /// Somebody else looks after the request from now on.
    fn keep(mut self) -> u32 {
        self.kept = true;
        self.id
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.hub.with(|req, base| req.withdraw(base, self.id));
        }
    }
}

/// The pattern: requests wait for pipes, pipes wait for requests, each in its turn.
#[derive(Default)]
struct Req {
    requests: HashMap<u32, Request, BuildNoHashHasher<u32>>,
    next_id: Option<u32>,
    /// Requests that wait for a pipe. Those that were withdrawn mean nothing.
    waiting: VecDeque<u32>,
    /// Pipes with room.
    ready: VecDeque<PipeId>,
}

struct Request {
    body: Bytes,
    progress: Progress,
    /// Whether it stands in the line for a pipe.
    waits: bool,
    retry_at: Option<Instant>,
    waker: Option<Waker>,
}

enum Progress {
    /// No pipe has taken it yet.
    New,
    /// This pipe took it last.
    Sent(PipeId),
    Answered(Bytes),
    Failed(RequestError),
}

impl Request {
    const fn is_open(&self) -> bool {
        matches!(self.progress, Progress::New | Progress::Sent(_))
    }
}

impl Req {
    fn ask(&mut self, base: &mut Base, body: Bytes) -> Result<u32, RequestError> {
        if base.closed {
            return Err(RequestError::Closed);
        }
        if base.config.fail_without_peers && !base.has_pipes() {
            return Err(RequestError::NoPeers);
        }
        if self.requests.len() >= base.config.max_requests {
            return Err(RequestError::TooMany);
        }
        if self.waiting.len() > 2 * self.requests.len() + KEEP {
            let requests = &self.requests;
            self.waiting.retain(|id| requests.get(id).is_some_and(|request| request.waits));
        }
        let id = self.next_id(base);
        let (progress, retry_at, waker) = (Progress::New, None, None);
        self.requests.insert(id, Request { body, progress, waits: true, retry_at, waker });
        self.waiting.push_back(id);
        self.assign(base);
        Ok(id)
    }

    /// `spec.md §13.5.2`: from a random start, with the high bit, never one that is live.
    fn next_id(&mut self, base: &mut Base) -> u32 {
        let mut id = self.next_id.unwrap_or_else(|| base.chance.next() as u32) | wire::ID_BIT;
        while self.requests.contains_key(&id) {
            id = id.wrapping_add(1) | wire::ID_BIT;
        }
        self.next_id = Some(id.wrapping_add(1));
        id
    }

    /// Brings requests and pipes together.
    fn assign(&mut self, base: &mut Base) {
        while let Some(&pipe) = self.ready.front() {
            let Some(id) = self.waiting.pop_front() else { return };
            let Some(request) = self.requests.get_mut(&id).filter(|request| request.waits) else {
                continue;
            };
            request.waits = false;
            request.progress = Progress::Sent(pipe);
            base.wakes.extend(request.waker.take());
            if let (None, Some(retry)) = (request.retry_at, base.config.retry) {
                let at = base.now + retry;
                request.retry_at = Some(at);
                base.set_deadline(at, id);
            }
            base.enqueue(pipe, Header::Id(id.to_be_bytes()), request.body.clone());
            // The next request goes to the next pipe.
            self.ready.pop_front();
            if base.has_room(pipe) {
                self.ready.push_back(pipe);
            }
        }
    }

    fn poll_sent(
        &mut self,
        base: &mut Base,
        id: u32,
        cx: &Context<'_>,
    ) -> Poll<Result<(), RequestError>> {
        let best_effort = base.config.best_effort;
        let Some(request) = self.requests.get_mut(&id) else {
            return Poll::Ready(Err(RequestError::Canceled));
        };
        match request.progress {
            Progress::New if best_effort => Poll::Ready(Ok(())),
            Progress::New => {
                base.wakes.extend(request.waker.replace(cx.waker().clone()));
                Poll::Pending
            }
            Progress::Failed(error) => Poll::Ready(Err(error)),
            Progress::Sent(_) | Progress::Answered(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_reply(
        &mut self,
        base: &mut Base,
        id: u32,
        cx: &Context<'_>,
    ) -> Poll<Result<Bytes, RequestError>> {
        let Some(request) = self.requests.get_mut(&id) else {
            let error = if base.closed { RequestError::Closed } else { RequestError::Canceled };
            return Poll::Ready(Err(error));
        };
        if request.is_open() {
            let waker = cx.waker();
            if !request.waker.as_ref().is_some_and(|present| present.will_wake(waker)) {
                base.wakes.extend(request.waker.replace(waker.clone()));
            }
            return Poll::Pending;
        }
        match self.requests.remove(&id).map(|request| request.progress) {
            Some(Progress::Answered(reply)) => Poll::Ready(Ok(reply)),
            Some(Progress::Failed(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Err(RequestError::Canceled)),
        }
    }

    /// A request is of no interest any more; a late reply to it is dropped.
    fn withdraw(&mut self, base: &mut Base, id: u32) {
        let Some(request) = self.requests.remove(&id) else { return };
        base.wakes.extend(request.waker);
        if request.retry_at.is_some() {
            base.forget_deadline();
        }
    }

    /// Everyone whose request `fails` matches is told.
    fn fail(
        &mut self,
        base: &mut Base,
        error: RequestError,
        mut fails: impl FnMut(&Request) -> bool,
    ) {
        for request in self.requests.values_mut() {
            if request.is_open() && fails(request) {
                request.progress = Progress::Failed(error);
                request.waits = false;
                base.wakes.extend(request.waker.take());
                if request.retry_at.take().is_some() {
                    base.forget_deadline();
                }
            }
        }
    }
}

impl Pattern for Req {
    const OURS: Protocol = Protocol::REQ;
    const THEIRS: Protocol = Protocol::REP;

    fn add_pipe(&mut self, base: &mut Base, pipe: PipeId) {
        self.ready.push_back(pipe);
        self.assign(base);
    }

    fn remove_pipe(&mut self, base: &mut Base, pipe: PipeId) {
        self.ready.retain(|ready| *ready != pipe);
        let lost = |request: &Request| matches!(request.progress, Progress::Sent(to) if to == pipe);
        if base.config.retry.is_none() {
            self.fail(base, RequestError::Canceled, lost);
        } else {
            for (id, request) in &mut self.requests {
                if lost(request) && !request.waits {
                    request.waits = true;
                    base.counters.resent += 1;
                    self.waiting.push_back(*id);
                }
            }
            self.assign(base);
        }
        if base.config.fail_without_peers && !base.has_pipes() {
            self.fail(base, RequestError::NoPeers, |_| true);
        }
    }

    fn writable(&mut self, base: &mut Base, pipe: PipeId) {
        if base.has_room(pipe) && !self.ready.contains(&pipe) {
            self.ready.push_back(pipe);
            self.assign(base);
        }
    }

    /// `spec.md §13.5.4`: by its id alone, from whichever pipe it comes.
    fn received(&mut self, base: &mut Base, pipe: PipeId, mut message: Bytes) {
        let request = wire::first_word(&message).and_then(|id| self.requests.get_mut(&id));
        let Some(request) = request.filter(|request| matches!(request.progress, Progress::Sent(_)))
        else {
            base.counters.dropped += 1;
            return;
        };
        message.advance(wire::WORD);
        request.progress = Progress::Answered(message);
        request.waits = false;
        base.wakes.extend(request.waker.take());
        if request.retry_at.take().is_some() {
            base.forget_deadline();
        }
        // Who answers is quick: it gets the next one.
        if self.ready.len() > 1
            && let Some(at) = self.ready.iter().position(|ready| *ready == pipe)
        {
            self.ready.remove(at);
            self.ready.push_front(pipe);
        }
    }

    fn wants(&self, _: PipeId) -> bool {
        true
    }

    /// `spec.md §13.5.5`: the next retry is counted from this one's moment, not from now.
    fn expired(&mut self, base: &mut Base, id: u32) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        let Some(retry) = base.config.retry else { return };
        let mut at = request.retry_at.unwrap_or(base.now);
        while at <= base.now {
            at += retry.max(SHORTEST_RETRY);
        }
        request.retry_at = Some(at);
        base.set_deadline(at, id);
        if !request.waits {
            request.waits = true;
            base.counters.resent += 1;
            self.waiting.push_back(id);
            self.assign(base);
        }
    }

    fn is_live(&self, id: u32) -> bool {
        self.requests.get(&id).is_some_and(|request| request.retry_at.is_some())
    }

    fn close(&mut self, base: &mut Base) {
        self.fail(base, RequestError::Closed, |_| true);
        self.waiting.clear();
    }
}

/// Withdrawn requests in the line for a pipe before it is worth clearing them away.
const KEEP: usize = 64;

/// A retry of zero would never end.
const SHORTEST_RETRY: std::time::Duration = std::time::Duration::from_millis(1);
