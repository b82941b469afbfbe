//! Messages into and out of the mailboxes.

use std::{
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker},
};

use super::{
    Message, PeerId, SendError,
    link::NextBatch,
    mailbox::Outgoing,
    queue::Feed,
    state::{Filter, Live},
    store::Inner,
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
        let mailbox = state.mailbox(id);
        // Those who wait were here before, and so was one who was woken and has not looked yet, even
        // where there is room for both: its message must not come behind this one.
        if !mailbox.room.may_look(None, 1) || !mailbox.has_room(self.config.out_queue) {
            return Err((SendError::Full, outgoing));
        }
        mailbox.push(outgoing);
        let sleepers = state.sleepers(id);
        drop(state);
        sleepers.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Waits for a place in the queue, first come, first served.
    pub(super) async fn enqueue_in_turn(
        &self,
        id: &PeerId,
        outgoing: Outgoing,
    ) -> Result<(), SendError> {
        let mut place = Place { inner: self, id, mailbox: 0, key: None };
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
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let id = &live.info.id;
        let best = state.table.get(id).is_some_and(|best| Arc::ptr_eq(best, live));
        let there = best || state.table.all(id).any(|(number, _)| number == generation);
        if !there {
            return Poll::Ready(live.last_words.lock().take());
        }
        state.mailbox(id);
        let Some(mailbox) = state.mailboxes.get_mut(id) else { return Poll::Ready(None) };
        if best {
            let batch = mailbox.take(generation, &mut state.last_number);
            if !batch.frames.is_empty() {
                let waiting = mailbox.wake(self.config.out_queue);
                drop(guard);
                waiting.into_iter().for_each(Waker::wake);
                return Poll::Ready(Some(batch));
            }
        }
        let replaced = mailbox.sleeping.insert(generation, cx.waker().clone());
        drop(guard);
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

    /// Tells the peer what became of its message, if the life that sent it is still there.
    pub(super) fn acknowledge(
        &self,
        id: &PeerId,
        incarnation: u64,
        number: u64,
        error: Option<String>,
    ) {
        let error = error.map(shorten);
        let mut state = self.state.lock();
        if state.table.incarnation(id) != Some(incarnation) {
            return;
        }
        state.mailbox(id).owe(Frame::Ack { number, error });
        let sleepers = state.sleepers(id);
        drop(state);
        sleepers.into_iter().for_each(Waker::wake);
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
    /// The mailbox at which it waits: a later one is another line.
    mailbox: u64,
    key: Option<u64>,
}

impl Place<'_> {
    fn poll(
        &mut self,
        outgoing: &mut Option<Outgoing>,
        cx: &Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        let mut state = self.inner.state.lock();
        if state.table.get(self.id).is_none() {
            return Poll::Ready(Err(SendError::Disconnected));
        }
        let limit = self.inner.config.out_queue;
        let mailbox = state.mailbox(self.id);
        if mailbox.number != self.mailbox {
            (self.mailbox, self.key) = (mailbox.number, None);
        }
        let waits = self.key.is_some_and(|key| mailbox.room.contains(key));
        if waits || !mailbox.room.may_look(self.key, 1) || !mailbox.has_room(limit) {
            let replaced = mailbox.room.register(&mut self.key, cx.waker());
            drop(state);
            drop(replaced);
            return Poll::Pending;
        }
        self.key = None;
        if let Some(outgoing) = outgoing.take() {
            mailbox.push(outgoing);
        }
        let sleepers = state.sleepers(self.id);
        drop(state);
        sleepers.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut state = self.inner.state.lock();
        let Some(mailbox) = state.mailboxes.get_mut(self.id) else { return };
        if mailbox.number != self.mailbox {
            return;
        }
        let mine = mailbox.room.remove(key);
        let mut next = Vec::new();
        if mine.is_none() {
            // Woken, and goes away: the room is for the next.
            mailbox.room.decline();
            next = mailbox.wake(self.inner.config.out_queue);
        }
        drop(state);
        drop(mine);
        next.into_iter().for_each(Waker::wake);
    }
}
