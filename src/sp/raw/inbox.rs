//! What raw sockets received.

use std::{
    collections::VecDeque,
    task::{Context, Poll},
    time::Instant,
};

use crate::sp::{error::RecvError, message::Message, pattern::Base, raw::Raw, waiting::Receivers};

/// Messages that nobody took yet, from all pipes, and those who wait for one.
#[derive(Default)]
pub(crate) struct RawInbox {
    messages: VecDeque<Message>,
    receivers: Receivers<Message>,
    /// Pipes that are not read because there is no room.
    paused: VecDeque<u32>,
}

impl RawInbox {
    pub(super) fn has_room(&self, limit: usize) -> bool {
        self.messages.len() < limit
    }

    /// This pipe is to be read again when there is room.
    pub(super) fn pause(&mut self, id: u32) {
        if !self.paused.contains(&id) {
            self.paused.push_back(id);
        }
    }

    pub(super) fn push<P: Raw>(&mut self, base: &mut Base<P>, message: Message) {
        let left = match self.messages.is_empty() {
            true => self.receivers.give(message, &mut base.wakes),
            false => Some(message),
        };
        self.messages.extend(left);
    }

    pub(super) fn remove_pipe(&mut self, id: u32) {
        self.paused.retain(|paused| *paused != id);
    }

    pub(super) fn poll_recv<P: Raw>(
        &mut self,
        base: &mut Base<P>,
        key: &mut Option<u64>,
        until: Option<Instant>,
        cx: Option<&Context<'_>>,
    ) -> Poll<Result<Message, RecvError>> {
        if let Some(message) = self.receivers.take(*key).or_else(|| self.messages.pop_front()) {
            self.end_recv(base, key.take());
            self.resume(base);
            return Poll::Ready(Ok(message));
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
            base.deadlines.push(until, P::recv_due(key));
        }
        Poll::Pending
    }

    /// A receiver is done. What it was given and did not take is for the next.
    pub(super) fn end_recv<P: Raw>(&mut self, base: &mut Base<P>, key: Option<u64>) {
        let Some(key) = key else { return };
        if let Some(message) = self.receivers.leave(key, &mut base.wakes) {
            let left = self.receivers.give(message, &mut base.wakes);
            left.into_iter().for_each(|message| self.messages.push_front(message));
        }
    }

    /// Whether this receiver has not left.
    pub(super) fn contains(&self, key: u64) -> bool {
        self.receivers.contains(key)
    }

    pub(super) fn nudge<P: Raw>(&self, base: &mut Base<P>, key: u64) {
        self.receivers.nudge(key, &mut base.wakes);
    }

    pub(super) fn close<P: Raw>(&mut self, base: &mut Base<P>) {
        self.receivers.wake_all(&mut base.wakes);
    }

    /// There is room: pipes that wait are read on when half of it is there.
    fn resume<P: Raw>(&mut self, base: &mut Base<P>) {
        if self.messages.len() <= base.options.recv_queue() / 2 {
            while let Some(id) = self.paused.pop_front() {
                base.resume(id);
            }
        }
    }
}
