//! Messages into and out of the mailboxes.

use std::{
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};

use super::{
    Message, PeerId, SendError,
    link::NextBatch,
    mailbox::{Mailbox, Outgoing},
    state::{Filter, Live, State},
    store::Inner,
    wire::{Frame, shorten},
};
use crate::queue::Feed;

impl Inner {
    /// Takes a place in the queue, or says why not and gives the message back.
    pub(super) fn enqueue(
        &self,
        id: &PeerId,
        outgoing: Outgoing,
    ) -> Result<(), (SendError, Outgoing)> {
        self.state.with(|state| {
            if state.table.get(id).is_none() {
                return Err((SendError::Disconnected, outgoing));
            }
            let mailbox = state.mailbox(id);
            // Those who wait were here before, and so was one who was woken and has not looked yet,
            // even where there is room for both: its message must not come behind this one.
            if !mailbox.room.may_look(None, || 1) || !mailbox.has_room(self.config.out_queue) {
                return Err((SendError::Full, outgoing));
            }
            mailbox.push(outgoing);
            state.wake_sessions(id);
            Ok(())
        })
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
        self.state.with(|state| {
            let id = &live.info.id;
            let best = state.table.get(id).is_some_and(|best| Arc::ptr_eq(best, live));
            let there = best || state.table.all(id).any(|(number, _)| number == generation);
            if !there {
                return Poll::Ready(live.last_words.lock().take());
            }
            state.mailbox(id);
            let State { mailboxes, last_number, after, .. } = state;
            let Some(mailbox) = mailboxes.get_mut(id) else { return Poll::Ready(None) };
            if best {
                let batch = mailbox.take(generation, last_number);
                if !batch.frames.is_empty() {
                    after.wake(mailbox.offer_room(self.config.out_queue));
                    return Poll::Ready(Some(batch));
                }
            }
            after.let_go(mailbox.sleeping.insert(generation, cx.waker().clone()));
            Poll::Pending
        })
    }

    /// The peer said what became of a message.
    pub(super) fn answered(&self, id: &PeerId, number: u64, error: Option<String>) {
        let fate = error.map_or(Ok(()), |why| Err(SendError::Failed(why)));
        self.state.with(|state| {
            if let Some(told) = state.mailboxes.get_mut(id).and_then(|it| it.answered(number)) {
                state.after.answer(told, fate);
            }
        });
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
        self.state.with(|state| {
            if state.table.incarnation(id) == Some(incarnation) {
                state.mailbox(id).owe(Frame::Ack { number, error });
                state.wake_sessions(id);
            }
        });
    }

    /// Whether a peer wants acks and does not read them.
    pub(super) fn owes_too_much(&self, id: &PeerId) -> bool {
        self.state.with(|state| state.mailboxes.get(id).is_some_and(Mailbox::owes_too_much))
    }

    pub(super) fn subscribers(&self) -> Vec<(Feed<Message>, Arc<Filter>)> {
        self.state.with(|state| {
            state.subscribers.iter().filter(|(feed, _)| !feed.is_over()).cloned().collect()
        })
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
        let limit = self.inner.config.out_queue;
        self.inner.state.with(|state| {
            if state.table.get(self.id).is_none() {
                return Poll::Ready(Err(SendError::Disconnected));
            }
            let mailbox = state.mailbox(self.id);
            if mailbox.number != self.mailbox {
                (self.mailbox, self.key) = (mailbox.number, None);
            }
            let waits = self.key.is_some_and(|key| mailbox.room.contains(key));
            if waits || !mailbox.room.may_look(self.key, || 1) || !mailbox.has_room(limit) {
                let replaced = mailbox.room.register(&mut self.key, cx.waker());
                state.after.let_go(replaced);
                return Poll::Pending;
            }
            self.key = None;
            if let Some(outgoing) = outgoing.take() {
                mailbox.push(outgoing);
            }
            state.wake_sessions(self.id);
            Poll::Ready(Ok(()))
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        self.inner.state.with(|state| {
            let Some(mailbox) = state.mailboxes.get_mut(self.id) else { return };
            if mailbox.number != self.mailbox {
                return;
            }
            let mine = mailbox.room.remove(key);
            if mine.is_none() {
                // Woken, and goes away: the room is for the next.
                mailbox.room.decline();
                state.after.wake(mailbox.offer_room(self.inner.config.out_queue));
            }
            state.after.let_go(mine);
        });
    }
}
