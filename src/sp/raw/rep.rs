//! Raw REP: the pipe's number goes before the backtrace, and says where a reply goes.

use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};

use super::{Raw, RawInbox, Sending};
use crate::sp::{
    error::SendError,
    message::Message,
    pattern::{Base, Pattern},
    protocol::{Info, ProtocolId},
    waiting::Line,
    wire,
};

/// The state of a raw REP socket.
#[derive(Default)]
pub(crate) struct RawRepCore {
    inbox: RawInbox,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Due {
    Recv(u64),
    Send { pipe: u32, key: u64 },
}

impl Raw for RawRepCore {
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
        let limit = base.options.send_queue();
        let Base { pipes, wakes, stats, deadlines, now, .. } = base;
        let route = sending.message.header.first_chunk().map(|word| u32::from_be_bytes(*word));
        let routed = route.and_then(|id| Some((id, pipes.get_mut(id)?)));
        let Some((id, entry)) = routed.filter(|(_, entry)| entry.attached) else {
            stats.dropped += 1;
            return Poll::Ready(Ok(()));
        };
        if entry.has_room() && entry.outbox.messages() < limit {
            let Message { header, body, .. } = &*sending.message;
            entry.outbox.push(header.get(4..).unwrap_or_default(), body);
            stats.sent += 1;
            wakes.wake(entry.waker.take());
            let place = sending.place.take();
            if let Some((_, key)) = place {
                entry.data.leave(key, wakes);
            }
            if entry.has_room() && entry.outbox.messages() < limit {
                entry.data.wake_one(wakes);
            }
            if place.is_some() {
                self.sweep(base);
            }
            return Poll::Ready(Ok(()));
        }
        if sending.best_effort {
            stats.dropped += 1;
            return Poll::Ready(Ok(()));
        }
        if sending.until.is_some_and(|until| until <= *now) {
            return Poll::Ready(Err(SendError::TimedOut));
        }
        let Some(cx) = cx else { return Poll::Ready(Err(SendError::WouldBlock)) };
        let first = sending.place.is_none();
        let mut key = sending.place.map(|(_, key)| key);
        entry.data.wait(&mut key, cx, wakes);
        *sending.place = key.map(|key| (id, key));
        if let (true, Some(until), Some(key)) = (first, sending.until, key) {
            deadlines.push(until, Due::Send { pipe: id, key });
        }
        Poll::Pending
    }

    fn end_send(&mut self, base: &mut Base<Self>, (pipe, key): (u32, u64)) {
        let Base { pipes, wakes, .. } = base;
        if let Some(entry) = pipes.get_mut(pipe)
            && entry.data.leave(key, wakes)
        {
            entry.data.wake_one(wakes);
        }
        self.sweep(base);
    }

    fn sweep(&self, base: &mut Base<Self>) {
        let Base { pipes, deadlines, .. } = base;
        deadlines.cancelled();
        deadlines.sweep(|due| match due {
            Due::Recv(key) => self.inbox.contains(key),
            Due::Send { pipe, key } => {
                pipes.get(pipe).is_some_and(|entry| entry.data.contains(key))
            }
        });
    }
}

impl Pattern for RawRepCore {
    /// Those who wait for room.
    type Pipe = Line;
    type Due = Due;

    const INFO: Info = Info { own: ProtocolId::REP, peer: ProtocolId::REQ };

    fn add_pipe(&mut self, _: &mut Base<Self>, _: u32) -> bool {
        true
    }

    fn remove_pipe(&mut self, base: &mut Base<Self>, id: u32, mut line: Line) {
        line.wake_all(&mut base.wakes);
        self.inbox.remove_pipe(id);
    }

    fn handle_room(&mut self, base: &mut Base<Self>, id: u32) {
        let Base { pipes, wakes, .. } = base;
        if let Some(entry) = pipes.get_mut(id) {
            entry.data.wake_one(wakes);
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
        let split = wire::split_backtrace(message, base.options.max_hops());
        let (Some(entry), Ok((words, body))) = (base.pipes.get(id), split) else {
            base.stats.junk += 1;
            return Ok(());
        };
        let mut header = BytesMut::with_capacity(4 + words.len());
        header.put_u32(id);
        header.put(words);
        let pipe = Some(entry.pipe.clone());
        self.inbox.push(base, Message { header: header.freeze(), body, pipe });
        Ok(())
    }

    fn wants(&self, _: &Base<Self>, _: u32) -> bool {
        true
    }

    fn handle_timeout(&mut self, base: &mut Base<Self>, due: Due) {
        match due {
            Due::Recv(key) => self.inbox.nudge(base, key),
            Due::Send { pipe, key } => {
                let Base { pipes, wakes, .. } = base;
                if let Some(entry) = pipes.get_mut(pipe) {
                    entry.data.nudge(key, wakes);
                }
            }
        }
    }

    fn close(&mut self, base: &mut Base<Self>) {
        self.inbox.close(base);
        let Base { pipes, wakes, .. } = base;
        pipes.iter_mut().for_each(|entry| entry.data.wake_all(wakes));
    }
}
