//! What calls do with the request of their context: wait for it, and give up.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use super::{Due, Failure, Key, Req, Stage};
use crate::sp::{message::Message, pattern::Base};

impl Req {
    /// The request a receive would wait for.
    pub(crate) fn begin_recv(
        &mut self,
        base: &mut Base<Self>,
        slot: u32,
        timeout: Option<Duration>,
    ) -> Result<Key, Failure> {
        let context = &mut self.slots[slot as usize];
        let Some(request) = &mut context.request else {
            return Err(if context.closed || base.closing {
                Failure::Closed
            } else {
                Failure::NoRequest
            });
        };
        if context.receiving {
            return Err(Failure::Busy);
        }
        context.receiving = true;
        let key = Key { slot, id: request.id };
        if let Some(timeout) = timeout
            && !matches!(request.stage, Stage::Done(_))
        {
            let at = base.now + timeout;
            request.recv_at = Some(at);
            base.deadlines.push(at, Due::Recv(key));
        }
        Ok(key)
    }

    /// The receiver gave up waiting; the request goes on.
    pub(crate) fn end_recv(&mut self, base: &mut Base<Self>, key: Key) {
        let context = &mut self.slots[key.slot as usize];
        if let Some(request) = context.request.as_mut().filter(|request| request.id == key.id) {
            context.receiving = false;
            base.wakes.let_go(context.receiver.take());
            if request.recv_at.take().is_some() {
                base.deadlines.cancelled();
                self.sweep(base);
            }
        }
    }

    /// Whether a pipe took the request.
    pub(crate) fn poll_sent(
        &mut self,
        base: &mut Base<Self>,
        key: Key,
        cx: &Context<'_>,
    ) -> Poll<Result<(), Failure>> {
        let context = &mut self.slots[key.slot as usize];
        let Some(request) = context.request.as_ref().filter(|request| request.id == key.id) else {
            return Poll::Ready(Err(if context.closed {
                Failure::Closed
            } else {
                Failure::Cancelled
            }));
        };
        match request.stage {
            Stage::Queued if !request.best_effort => {
                base.wakes.register(&mut context.sender, cx);
                Poll::Pending
            }
            Stage::Done(Err(failure @ (Failure::NotSent | Failure::Closed | Failure::NoPeers))) => {
                context.request = None;
                Poll::Ready(Err(failure))
            }
            _ => Poll::Ready(Ok(())),
        }
    }

    /// The reply, or why there is none.
    pub(crate) fn poll_reply(
        &mut self,
        base: &mut Base<Self>,
        key: Key,
        cx: &Context<'_>,
    ) -> Poll<Result<Message, Failure>> {
        let context = &mut self.slots[key.slot as usize];
        let Some(request) = context.request.as_mut().filter(|request| request.id == key.id) else {
            return Poll::Ready(Err(if context.closed {
                Failure::Closed
            } else {
                Failure::Cancelled
            }));
        };
        if !matches!(request.stage, Stage::Done(_)) {
            base.wakes.register(&mut context.receiver, cx);
            return Poll::Pending;
        }
        context.receiving = false;
        let stage = context.request.take().map(|request| request.stage);
        Poll::Ready(match stage {
            Some(Stage::Done(Ok((mut reply, pipe)))) => {
                let header = reply.split_to(4);
                Ok(Message { header, body: reply, pipe: Some(pipe) })
            }
            Some(Stage::Done(Err(failure))) => Err(failure),
            _ => Err(Failure::Cancelled),
        })
    }

    /// Ends a request that nobody waits for any more, if it is still this one.
    pub(crate) fn withdraw(&mut self, base: &mut Base<Self>, key: Key) {
        if self.slots[key.slot as usize].request.as_ref().is_some_and(|it| it.id == key.id) {
            self.forget(base, key.slot);
        }
    }
}
