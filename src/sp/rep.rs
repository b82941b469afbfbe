//! REP: requests come in, each with the means to answer it.

mod replier;
mod socket;

pub use replier::Replier;
pub use socket::{RepContext, RepSocket};

use std::{
    collections::VecDeque,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;

use super::{
    error::{RecvError, SendError},
    message::Message,
    pattern::{Base, Pattern},
    pipe::Pipe,
    protocol::{Info, ProtocolId},
    waiting::{Line, Receivers},
    wire,
};

/// The state of a REP socket.
///
/// A request is handed to a receiver who waits; if there is none it stays with its pipe, which is
/// not read again before all of its requests were taken.
#[derive(Default)]
pub(crate) struct Rep {
    receivers: Receivers<Request>,
    /// Pipes with requests that nobody took, each once, in the order of their turns. Those that
    /// are gone are passed over.
    turns: VecDeque<u32>,
}

/// What REP keeps for each pipe.
#[derive(Default)]
pub(crate) struct RepPipe {
    requests: VecDeque<Request>,
    /// Replies that wait for room.
    line: Line,
}

/// A request on its way to whoever receives it.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) pipe: Pipe,
    pub(crate) header: Bytes,
    pub(crate) body: Bytes,
}

/// Whose waiting ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Due {
    Recv(u64),
    Reply { pipe: u32, key: u64 },
}

/// How many requests that were read together wait with their pipe.
const READ_AHEAD: usize = 256;

impl Rep {
    pub(crate) fn poll_recv(
        &mut self,
        base: &mut Base<Self>,
        key: &mut Option<u64>,
        until: Option<Instant>,
        cx: Option<&Context<'_>>,
    ) -> Poll<Result<Request, RecvError>> {
        if let Some(request) = self.receivers.take(*key).or_else(|| self.next(base)) {
            self.end_recv(base, key.take());
            return Poll::Ready(Ok(request));
        }
        if base.closing {
            return Poll::Ready(Err(RecvError::Closed));
        }
        if until.is_some_and(|until| until <= base.now) {
            self.end_recv(base, key.take());
            return Poll::Ready(Err(RecvError::TimedOut));
        }
        let Some(cx) = cx else { return Poll::Ready(Err(RecvError::WouldBlock)) };
        let first = key.is_none();
        self.receivers.wait(key, cx, &mut base.wakes);
        if let (true, Some(until), Some(key)) = (first, until, *key) {
            base.deadlines.push(until, Due::Recv(key));
        }
        Poll::Pending
    }

    /// A receiver is done. What it was given and did not take is for the next.
    pub(crate) fn end_recv(&mut self, base: &mut Base<Self>, key: Option<u64>) {
        let Some(key) = key else { return };
        let left = self.receivers.leave(key, &mut base.wakes);
        self.sweep(base);
        let left = left.and_then(|request| self.receivers.give(request, &mut base.wakes));
        let Some(request) = left else { return };
        match base.pipes.find(&request.pipe) {
            Some(entry) => {
                if entry.data.requests.is_empty() {
                    self.turns.push_front(request.pipe.id());
                }
                entry.data.requests.push_front(request);
            }
            None => base.wakes.discard_message(request.into()),
        }
    }

    /// Deadlines do not outlive for long those who set them.
    fn sweep(&self, base: &mut Base<Self>) {
        let Base { pipes, deadlines, .. } = base;
        deadlines.cancelled();
        deadlines.sweep(|due| match due {
            Due::Recv(key) => self.receivers.contains(key),
            Due::Reply { pipe, key } => {
                pipes.get(pipe).is_some_and(|entry| entry.data.line.contains(key))
            }
        });
    }

    /// The next request that waits with its pipe; the pipes take turns.
    fn next(&mut self, base: &mut Base<Self>) -> Option<Request> {
        loop {
            let id = self.turns.pop_front()?;
            let Some(entry) = base.pipes.get_mut(id) else { continue };
            let Some(request) = entry.data.requests.pop_front() else { continue };
            if entry.data.requests.is_empty() {
                base.resume(id);
            } else {
                self.turns.push_back(id);
            }
            return Some(request);
        }
    }

    /// Puts a reply on the pipe that the request came through.
    pub(crate) fn poll_reply(
        &self,
        base: &mut Base<Self>,
        reply: &mut Reply<'_>,
        cx: &Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        if base.closing {
            return Poll::Ready(Err(SendError::Closed));
        }
        let Base { pipes, wakes, stats, deadlines, now, .. } = base;
        let Some(entry) = pipes.find(reply.pipe) else {
            return Poll::Ready(Err(SendError::PeerGone));
        };
        if entry.has_room() {
            entry.outbox.push(reply.header, reply.body);
            stats.sent += 1;
            wakes.wake(entry.waker.take());
            let key = reply.key.take();
            if let Some(key) = key {
                entry.data.line.leave(key, wakes);
            }
            if entry.has_room() {
                entry.data.line.wake_one(wakes);
            }
            if key.is_some() {
                self.sweep(base);
            }
            return Poll::Ready(Ok(()));
        }
        if reply.best_effort {
            stats.dropped += 1;
            return Poll::Ready(Ok(()));
        }
        if reply.until.is_some_and(|until| until <= *now) {
            return Poll::Ready(Err(SendError::TimedOut));
        }
        let first = reply.key.is_none();
        entry.data.line.wait(reply.key, cx, wakes);
        if let (true, Some(until), Some(key)) = (first, reply.until, *reply.key) {
            deadlines.push(until, Due::Reply { pipe: reply.pipe.id(), key });
        }
        Poll::Pending
    }

    /// A reply does not wait any more.
    pub(crate) fn end_reply(&self, base: &mut Base<Self>, pipe: &Pipe, key: u64) {
        let Base { pipes, wakes, .. } = base;
        if let Some(entry) = pipes.find(pipe)
            && entry.data.line.leave(key, wakes)
            && entry.has_room()
        {
            entry.data.line.wake_one(wakes);
        }
        self.sweep(base);
    }
}

impl From<Request> for Message {
    fn from(Request { pipe, header, body }: Request) -> Self {
        Self { header, body, pipe: Some(pipe) }
    }
}

/// A reply on its way.
pub(crate) struct Reply<'a> {
    pub(crate) pipe: &'a Pipe,
    pub(crate) header: &'a Bytes,
    pub(crate) body: &'a Bytes,
    pub(crate) key: &'a mut Option<u64>,
    pub(crate) until: Option<Instant>,
    pub(crate) best_effort: bool,
}

impl Pattern for Rep {
    type Pipe = RepPipe;
    type Due = Due;

    const INFO: Info = Info { own: ProtocolId::REP, peer: ProtocolId::REQ };

    fn add_pipe(&mut self, _: &mut Base<Self>, _: u32) -> bool {
        true
    }

    fn remove_pipe(&mut self, base: &mut Base<Self>, id: u32, mut pipe: RepPipe) {
        pipe.line.wake_all(&mut base.wakes);
        if !pipe.requests.is_empty() {
            self.turns.retain(|turn| *turn != id);
        }
        for request in pipe.requests {
            base.wakes.discard_message(request.into());
        }
    }

    fn handle_room(&mut self, base: &mut Base<Self>, id: u32) {
        let Base { pipes, wakes, .. } = base;
        if let Some(entry) = pipes.get_mut(id).filter(|entry| entry.has_room()) {
            entry.data.line.wake_one(wakes);
        }
    }

    fn handle_message(
        &mut self,
        base: &mut Base<Self>,
        id: u32,
        message: Bytes,
    ) -> Result<(), Bytes> {
        let Some(entry) = base.pipes.get_mut(id) else { return Ok(()) };
        if entry.data.requests.len() >= READ_AHEAD {
            return Err(message);
        }
        let Ok((header, body)) = wire::split_backtrace(message, base.options.max_hops()) else {
            base.stats.junk += 1;
            return Ok(());
        };
        let request = Request { pipe: entry.pipe.clone(), header, body };
        // What came before goes before.
        if !entry.data.requests.is_empty() {
            entry.data.requests.push_back(request);
        } else if let Some(request) = self.receivers.give(request, &mut base.wakes) {
            entry.data.requests.push_back(request);
            self.turns.push_back(id);
        }
        Ok(())
    }

    fn wants(&self, base: &Base<Self>, id: u32) -> bool {
        base.pipes.get(id).is_some_and(|entry| entry.data.requests.is_empty())
    }

    fn handle_timeout(&mut self, base: &mut Base<Self>, due: Due) {
        let Base { pipes, wakes, .. } = base;
        match due {
            Due::Recv(key) => self.receivers.nudge(key, wakes),
            Due::Reply { pipe, key } => {
                if let Some(entry) = pipes.get_mut(pipe) {
                    entry.data.line.nudge(key, wakes);
                }
            }
        }
    }

    fn close(&mut self, base: &mut Base<Self>) {
        let Base { pipes, wakes, .. } = base;
        self.receivers.wake_all(wakes);
        pipes.iter_mut().for_each(|entry| entry.data.line.wake_all(wakes));
    }
}
