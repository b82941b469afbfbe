//! Raw REQ: one queue, and any free pipe takes the next message.

use std::{
    collections::VecDeque,
    task::{Context, Poll},
};

use bytes::Bytes;

use super::{Raw, RawInbox, Sending};
use crate::sp::{
    error::SendError,
    message::Message,
    pattern::{Base, Pattern},
    protocol::{Info, ProtocolId},
    ready::Ready,
    waiting::Line,
    wire,
};

/// The state of a raw REQ socket.
#[derive(Default)]
pub(crate) struct RawReqCore {
    inbox: RawInbox,
    queue: VecDeque<Message>,
    ready: Ready,
    line: Line,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Due {
    Recv(u64),
    Send(u64),
}

impl RawReqCore {
    /// Hands what is queued to pipes that are free, in order; then there is room for more.
    fn assign(&mut self, base: &mut Base<Self>) {
        while let Some(pipe) = self.ready.first() {
            if !base.pipes.get(pipe).is_some_and(|entry| entry.is_free()) {
                self.ready.leave(pipe);
                continue;
            }
            let Some(message) = self.queue.pop_front() else { return };
            base.push(pipe, &message.header, &message.body);
            base.wakes.discard_message(message);
            self.ready.rotate(pipe);
            self.line.wake_one(&mut base.wakes);
        }
    }
}

impl Raw for RawReqCore {
    fn inbox(&mut self) -> &mut RawInbox {
        &mut self.inbox
    }

    fn recv_due(key: u64) -> Due {
        Due::Recv(key)
    }

    fn poll_send(
        &mut self,
        base: &mut Base<Self>,
        sending: &mut Sending<'_>,
        cx: Option<&Context<'_>>,
    ) -> Poll<Result<(), SendError>> {
        if base.closing {
            return Poll::Ready(Err(SendError::Closed));
        }
        if self.queue.len() < base.options.send_queue() {
            if let Some((_, key)) = sending.place.take() {
                self.line.leave(key, &mut base.wakes);
                self.sweep(base);
            }
            self.queue.push_back(std::mem::take(sending.message));
            self.assign(base);
            return Poll::Ready(Ok(()));
        }
        if sending.best_effort {
            base.stats.dropped += 1;
            return Poll::Ready(Ok(()));
        }
        if sending.until.is_some_and(|until| until <= base.now) {
            return Poll::Ready(Err(SendError::TimedOut));
        }
        let Some(cx) = cx else { return Poll::Ready(Err(SendError::WouldBlock)) };
        let first = sending.place.is_none();
        let mut key = sending.place.map(|(_, key)| key);
        self.line.wait(&mut key, cx, &mut base.wakes);
        *sending.place = key.map(|key| (0, key));
        if let (true, Some(until), Some(key)) = (first, sending.until, key) {
            base.deadlines.push(until, Due::Send(key));
        }
        Poll::Pending
    }

    fn end_send(&mut self, base: &mut Base<Self>, (_, key): (u32, u64)) {
        if self.line.leave(key, &mut base.wakes) && self.queue.len() < base.options.send_queue() {
            self.line.wake_one(&mut base.wakes);
        }
        self.sweep(base);
    }

    fn sweep(&self, base: &mut Base<Self>) {
        base.deadlines.cancelled();
        base.deadlines.sweep(|due| match due {
            Due::Recv(key) => self.inbox.contains(key),
            Due::Send(key) => self.line.contains(key),
        });
    }
}

impl Pattern for RawReqCore {
    type Pipe = ();
    type Due = Due;

    const INFO: Info = Info { own: ProtocolId::REQ, peer: ProtocolId::REP };

    fn add_pipe(&mut self, _: &mut Base<Self>, _: u32) -> bool {
        true
    }

    fn remove_pipe(&mut self, _: &mut Base<Self>, id: u32, (): ()) {
        self.ready.leave(id);
        self.inbox.remove_pipe(id);
    }

    fn handle_room(&mut self, base: &mut Base<Self>, id: u32) {
        if base.pipes.get(id).is_some_and(|entry| entry.is_free() && entry.attached) {
            self.ready.join(id);
            self.assign(base);
        }
    }

    fn handle_message(
        &mut self,
        base: &mut Base<Self>,
        id: u32,
        message: Bytes,
    ) -> Result<(), Bytes> {
        if !self.inbox.has_room(base.options.recv_queue()) {
            self.inbox.pause(id);
            return Err(message);
        }
        let (Some(entry), Ok((header, body))) =
            (base.pipes.get(id), wire::split_backtrace(message, u8::MAX))
        else {
            base.stats.junk += 1;
            return Ok(());
        };
        let pipe = Some(entry.pipe.clone());
        self.inbox.push(base, Message { header, body, pipe });
        Ok(())
    }

    fn wants(&self, _: &Base<Self>, _: u32) -> bool {
        true
    }

    fn handle_timeout(&mut self, base: &mut Base<Self>, due: Due) {
        match due {
            Due::Recv(key) => self.inbox.nudge(base, key),
            Due::Send(key) => self.line.nudge(key, &mut base.wakes),
        }
    }

    fn close(&mut self, base: &mut Base<Self>) {
        self.inbox.close(base);
        self.line.wake_all(&mut base.wakes);
    }

    fn has_backlog(&self) -> bool {
        !self.queue.is_empty()
    }
}
