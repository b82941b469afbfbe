//! Messages into and out of the mailboxes.

use std::{
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};

use super::{
    Message, PeerId, SendError,
    link::NextBatch,
    mailbox::Outgoing,
    queue::Feed,
    store::{Filter, Inner, Live},
    wire::{Frame, shorten},
};

impl Inner {
    /// Takes a place in the queue, or says why not and gives the message back.
    pub(super) fn enqueue(
        &self,
        id: &PeerId,
        outgoing: Outgoing,
    ) -> Result<(), (SendError, Outgoing)> {
        let mut state = self.state.lock();
        if state.table.get(id).is_none() {
            return Err((SendError::Disconnected, outgoing));
        }
        let mailbox = state.mailboxes.entry(id.clone()).or_default();
        if !mailbox.has_room(self.config.out_queue) {
            return Err((SendError::Full, outgoing));
        }
        mailbox.push(outgoing);
        let sleepers = state.sleepers(id);
        drop(state);
        sleepers.into_iter().for_each(std::task::Waker::wake);
        Ok(())
    }

    /// Waits for a place in the queue, first come, first served.
    pub(super) async fn enqueue_in_turn(
        &self,
        id: &PeerId,
        outgoing: Outgoing,
    ) -> Result<(), SendError> {
        let mut place = Place { inner: self, id, key: None };
        let mut outgoing = Some(outgoing);
        std::future::poll_fn(|cx| place.poll(&mut outgoing, cx)).await
    }

    /// What a session should write next.
    pub(super) fn next_batch(
        &self,
        live: &Arc<Live>,
        generation: u64,
        cx: &Context<'_>,
    ) -> NextBatch {
        let mut state = self.state.lock();
        let id = &live.info.id;
        let best = state.table.get(id).is_some_and(|best| Arc::ptr_eq(best, live));
        let there = best || state.table.all(id).any(|(number, _)| number == generation);
        if !there {
            return Poll::Ready(None);
        }
        let mailbox = state.mailboxes.entry(id.clone()).or_default();
        if best {
            let batch = mailbox.take(generation);
            if !batch.frames.is_empty() {
                let waiting = mailbox.room.take();
                drop(state);
                waiting.for_each(std::task::Waker::wake);
                return Poll::Ready(Some(batch));
            }
        }
        let replaced = mailbox.sleeping.insert(generation, cx.waker().clone());
        drop(state);
        drop(replaced);
        Poll::Pending
    }

    /// The peer said what became of a message.
    pub(super) fn answered(&self, id: &PeerId, number: u64, error: Option<String>) {
        let told = {
            let mut state = self.state.lock();
            state.mailboxes.get_mut(id).and_then(|mailbox| mailbox.answered(number))
        };
        if let Some(told) = told {
            let _ = told.send(error.map_or(Ok(()), |why| Err(SendError::Failed(why))));
        }
    }

    /// Tells the peer what became of its message, if it is still there.
    pub(super) fn acknowledge(&self, id: &PeerId, number: u64, error: Option<String>) {
        let error = error.map(shorten);
        let mut state = self.state.lock();
        if state.table.get(id).is_none() {
            return;
        }
        let mailbox = state.mailboxes.entry(id.clone()).or_default();
        mailbox.owe(Frame::Ack { number, error });
        let sleepers = state.sleepers(id);
        drop(state);
        sleepers.into_iter().for_each(std::task::Waker::wake);
    }

    /// Whether a peer wants acks and does not read them.
    pub(super) fn owes_too_much(&self, id: &PeerId) -> bool {
        let state = self.state.lock();
        state.mailboxes.get(id).is_some_and(super::mailbox::Mailbox::owes_too_much)
    }

    pub(super) fn subscribers(&self) -> Vec<(Feed<Message>, Arc<Filter>)> {
        let state = self.state.lock();
        state.subscribers.iter().filter(|(feed, _)| !feed.is_over()).cloned().collect()
    }

    pub(super) fn count_dropped(&self, error: &SendError) {
        if *error == SendError::Full {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A place among those who wait to send to one peer.
struct Place<'a> {
    inner: &'a Inner,
    id: &'a PeerId,
    key: Option<u64>,
}

impl Place<'_> {
    fn poll(
        &mut self,
        outgoing: &mut Option<Outgoing>,
        cx: &Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        let Some(message) = outgoing.take() else { return Poll::Ready(Ok(())) };
        match self.inner.enqueue(self.id, message) {
            Ok(()) => Poll::Ready(Ok(())),
            Err((SendError::Full, message)) => {
                *outgoing = Some(message);
                self.wait(cx)
            }
            Err((error, _)) => Poll::Ready(Err(error)),
        }
    }

    fn wait(&mut self, cx: &Context<'_>) -> Poll<Result<(), SendError>> {
        let mut state = self.inner.state.lock();
        let limit = self.inner.config.out_queue;
        let mailbox = state.mailboxes.get_mut(self.id);
        let Some(mailbox) = mailbox.filter(|mailbox| !mailbox.has_room(limit)) else {
            // There is room by now, or nobody to send to.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        };
        let replaced = mailbox.room.register(&mut self.key, cx.waker());
        drop(state);
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut state = self.inner.state.lock();
        let Some(mailbox) = state.mailboxes.get_mut(self.id) else { return };
        let waker = mailbox.room.remove(key);
        drop(state);
        drop(waker);
    }
}
