//! REQ: requests in contexts, each sent to one pipe, again if need be, and matched to its reply.
//!
//! A request is queued until a pipe takes it, then it waits for its reply:
//!
//! ```text
//!            start                a pipe is free               reply
//!   (none) ─────────▶ Queued ─────────────────────▶ Sent ─────────────────▶ Done
//!                       ▲  │                         │ │                     ▲
//!                       │  │ send timeout            │ │ receive timeout     │
//!                       │  └─────────────────────────┼─┴─────────────────────┤
//!                       └────────────────────────────┘   pipe lost, no retry │
//!                         retry, or pipe lost ───────────────────────────────┘
//! ```

mod calls;
mod context;
mod rules;
mod socket;
#[cfg(test)]
mod tests;

pub use context::ReqContext;
pub use socket::ReqSocket;

use std::{
    collections::{HashMap, VecDeque},
    task::Waker,
    time::{Duration, Instant},
};

use bytes::Bytes;
use nohash_hasher::BuildNoHashHasher;

use super::{
    error::ContextError,
    message::Message,
    options::{CallOptions, Options},
    pattern::Base,
    pipe::Pipe,
    ready::Ready,
};
use crate::chance::Chance;

/// The state of a REQ socket.
pub(crate) struct Req {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// The slots of requests that are queued or sent.
    open: HashMap<u32, u32, BuildNoHashHasher<u32>>,
    /// What waits for a pipe. Entries that are no longer queued are passed over.
    queue: VecDeque<Key>,
    ready: Ready,
    last_id: u32,
}

/// A context's request: the slot and the request id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    slot: u32,
    pub(crate) id: u32,
}

/// What a deadline of a request is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Due {
    Retry(Key),
    Send(Key),
    Recv(Key),
}

/// A context.
#[derive(Default)]
struct Slot {
    closed: bool,
    request: Option<Request>,
    sender: Option<Waker>,
    receiver: Option<Waker>,
    receiving: bool,
}

struct Request {
    id: u32,
    body: Bytes,
    stage: Stage,
    retry: Option<Duration>,
    best_effort: bool,
    fail_without_peers: bool,
    send_at: Option<Instant>,
    recv_at: Option<Instant>,
    retry_at: Option<Instant>,
}

enum Stage {
    Queued,
    Sent(u32),
    Done(Result<(Bytes, Pipe), Failure>),
}

/// Why a request has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    Closed,
    NotSent,
    NoReply,
    NoPeers,
    Cancelled,
    NoRequest,
    Busy,
}

impl Req {
    pub(crate) fn new(options: &Options) -> Self {
        let start = Chance::new(options.seed()).next() as u32;
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            open: HashMap::default(),
            queue: VecDeque::new(),
            ready: Ready::default(),
            last_id: start,
        }
    }

    pub(crate) fn open_context(&mut self, base: &Base<Self>) -> Result<u32, ContextError> {
        if base.closing {
            return Err(ContextError::Closed);
        }
        if self.slots.len() - self.free.len() >= base.options.max_contexts() {
            return Err(ContextError::TooMany);
        }
        Ok(self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        }))
    }

    /// What waits in the context fails as closed.
    pub(crate) fn close_context(&mut self, base: &mut Base<Self>, slot: u32) {
        self.forget(base, slot);
        let context = &mut self.slots[slot as usize];
        context.closed = true;
        base.wakes.wake(context.sender.take());
        base.wakes.wake(context.receiver.take());
    }

    /// The context's last handle is gone.
    pub(crate) fn release_context(&mut self, base: &mut Base<Self>, slot: u32) {
        self.close_context(base, slot);
        self.slots[slot as usize] = Slot::default();
        self.free.push(slot);
    }

    /// Starts a request in place of the one before, which is cancelled.
    pub(crate) fn start(
        &mut self,
        base: &mut Base<Self>,
        slot: u32,
        body: Bytes,
        options: CallOptions,
    ) -> Result<Key, Failure> {
        if base.closing || self.slots[slot as usize].closed {
            return Err(Failure::Closed);
        }
        if options.fail_without_peers && base.pipes.attached() == 0 {
            return Err(Failure::NoPeers);
        }
        self.forget(base, slot);
        let id = self.next_id();
        let key = Key { slot, id };
        let context = &mut self.slots[slot as usize];
        context.receiving = false;
        base.wakes.wake(context.sender.take());
        base.wakes.wake(context.receiver.take());
        context.request = Some(Request {
            id,
            body,
            stage: Stage::Queued,
            retry: options.retry,
            best_effort: options.best_effort,
            fail_without_peers: options.fail_without_peers,
            send_at: None,
            recv_at: None,
            retry_at: None,
        });
        self.open.insert(id, slot);
        self.queue.push_back(key);
        self.assign(base);
        if let Some(timeout) = options.send_timeout
            && let Some(request) = self.queued(key)
            && !request.best_effort
        {
            let at = base.now + timeout;
            request.send_at = Some(at);
            base.deadlines.push(at, Due::Send(key));
        }
        Ok(key)
    }

    /// A context without a request.
    fn forget(&mut self, base: &mut Base<Self>, slot: u32) {
        let context = &mut self.slots[slot as usize];
        context.receiving = false;
        let Some(request) = context.request.take() else { return };
        let last_queued = self.queue.back() == Some(&Key { slot, id: request.id });
        if last_queued {
            self.queue.pop_back();
        }
        self.open.remove(&request.id);
        self.drop_deadlines(base, &request);
        base.wakes.discard(request.body);
        if let Stage::Done(Ok((body, pipe))) = request.stage {
            base.wakes.discard_message(Message { pipe: Some(pipe), ..body.into() });
        }
        self.sweep(base);
    }

    /// A request is over; it stays in its context until someone asks for the result.
    fn finish(&mut self, base: &mut Base<Self>, key: Key, result: Result<(Bytes, Pipe), Failure>) {
        self.open.remove(&key.id);
        let context = &mut self.slots[key.slot as usize];
        let Some(request) = &mut context.request else { return };
        base.wakes.discard(std::mem::take(&mut request.body));
        request.stage = Stage::Done(result);
        base.wakes.wake(context.sender.take());
        base.wakes.wake(context.receiver.take());
        for at in [&mut request.retry_at, &mut request.send_at, &mut request.recv_at] {
            if at.take().is_some() {
                base.deadlines.cancelled();
            }
        }
        self.sweep(base);
    }

    fn drop_deadlines(&self, base: &mut Base<Self>, request: &Request) {
        for at in [request.retry_at, request.send_at, request.recv_at] {
            if at.is_some() {
                base.deadlines.cancelled();
            }
        }
    }

    /// Neither deadlines nor places in the queue outlive their requests for long.
    fn sweep(&mut self, base: &mut Base<Self>) {
        let (slots, open) = (&self.slots, &self.open);
        base.deadlines.sweep(|due| is_awaited(slots, due));
        if self.queue.len() > 2 * open.len() + SWEEP_MIN {
            self.queue.retain(|key| is_queued(slots, *key));
        }
    }

    /// Hands what is queued to pipes that are free, in order.
    fn assign(&mut self, base: &mut Base<Self>) {
        while let Some(key) = self.queue.front().copied() {
            if !is_queued(&self.slots, key) {
                self.queue.pop_front();
                continue;
            }
            let Some(pipe) = self.ready.first() else { return };
            if !base.pipes.get(pipe).is_some_and(|entry| entry.is_free()) {
                self.ready.leave(pipe);
                continue;
            }
            self.queue.pop_front();
            self.hand_over(base, key, pipe);
            self.ready.rotate(pipe);
        }
    }

    fn hand_over(&mut self, base: &mut Base<Self>, key: Key, pipe: u32) {
        let context = &mut self.slots[key.slot as usize];
        let Some(request) = &mut context.request else { return };
        base.push(pipe, &key.id.to_be_bytes(), &request.body);
        request.stage = Stage::Sent(pipe);
        if request.send_at.take().is_some() {
            base.deadlines.cancelled();
        }
        if let Some(retry) = request.retry {
            let at = base.now + retry;
            request.retry_at = Some(at);
            base.deadlines.push(at, Due::Retry(key));
        }
        base.wakes.wake(context.sender.take());
    }

    /// Sends a request once more, as soon as a pipe is free.
    fn again(&mut self, base: &mut Base<Self>, key: Key) {
        if let Some(request) = &mut self.slots[key.slot as usize].request {
            request.stage = Stage::Queued;
            if request.retry_at.take().is_some() {
                base.deadlines.cancelled();
            }
            base.stats.resent += 1;
            self.queue.push_back(key);
        }
    }

    fn queued(&mut self, key: Key) -> Option<&mut Request> {
        let request = self.slots[key.slot as usize].request.as_mut()?;
        (request.id == key.id && matches!(request.stage, Stage::Queued)).then_some(request)
    }

    /// Counts up, with the high bit set, past the ids of open requests (`spec.md §13.4`).
    fn next_id(&mut self) -> u32 {
        loop {
            self.last_id = self.last_id.wrapping_add(1) | HIGH_BIT;
            if !self.open.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }
}

/// Whether someone still waits for that.
fn is_awaited(slots: &[Slot], due: Due) -> bool {
    let (Due::Retry(key) | Due::Send(key) | Due::Recv(key)) = due;
    let request = slots[key.slot as usize].request.as_ref();
    request.filter(|request| request.id == key.id).is_some_and(|request| match due {
        Due::Retry(_) => request.retry_at.is_some(),
        Due::Send(_) => request.send_at.is_some(),
        Due::Recv(_) => request.recv_at.is_some(),
    })
}

fn is_queued(slots: &[Slot], key: Key) -> bool {
    let request = slots[key.slot as usize].request.as_ref();
    request.is_some_and(|it| it.id == key.id && matches!(it.stage, Stage::Queued))
}

const HIGH_BIT: u32 = 0x8000_0000;

/// Below this many stale entries a sweep is not worth its cost.
const SWEEP_MIN: usize = 64;
