//! What waits to be written to one peer, and who waits for what came of it.

use std::{
    collections::{HashMap, VecDeque},
    task::Waker,
};

use bytes::Bytes;
use futures::channel::oneshot;

use super::{SendError, wire::Frame};
use crate::wait::WaitList;

/// Where the fate of a message is told.
pub(super) type Told = oneshot::Sender<Result<(), SendError>>;

/// The messages to one peer, whichever session will carry them.
#[derive(Default)]
pub(super) struct Mailbox {
    queue: VecDeque<Outgoing>,
    /// Acks that we owe.
    owed: VecDeque<Frame>,
    /// Messages written on a session, of which the peer has to say what became of them.
    unanswered: HashMap<u64, (u64, Told)>,
    /// How many of them someone waited for, when that was looked at last.
    awaited: usize,
    /// Which mailbox this is, among all that the peer had.
    pub(super) number: u64,
    /// The sessions' tasks that sleep.
    pub(super) sleeping: HashMap<u64, Waker>,
    /// Who waits for a place in the queue.
    pub(super) room: WaitList,
}

/// A message on its way.
pub(super) struct Outgoing {
    pub(super) body: Bytes,
    pub(super) wants_ack: bool,
    pub(super) told: Told,
}

/// What is to be written at once.
pub(super) struct Batch {
    pub(super) frames: Vec<Frame>,
    /// Who is told once it was written.
    pub(super) told: Vec<Told>,
}

impl Mailbox {
    pub(super) fn new(number: u64) -> Self {
        Self { number, ..Self::default() }
    }

    pub(super) fn has_room(&self, limit: usize) -> bool {
        self.queue.len() < limit
    }

    /// Those for whom there is room now, to be woken so that they take it.
    pub(super) fn offer_room(&mut self, limit: usize) -> impl Iterator<Item = Waker> {
        let room = limit.saturating_sub(self.queue.len());
        (0..room).map_while(|_| self.room.pop())
    }

    pub(super) fn push(&mut self, outgoing: Outgoing) {
        self.queue.push_back(outgoing);
    }

    pub(super) fn owe(&mut self, ack: Frame) {
        self.owed.push_back(ack);
    }

    /// The peer wants so many acks and reads none of them.
    pub(super) fn owes_too_much(&self) -> bool {
        self.owed.len() > MAX_OWED
    }

    /// The acks were for a life of the peer that is over.
    pub(super) fn owe_nothing(&mut self) {
        self.owed.clear();
    }

    /// Everything that waits, for the session of this generation. The numbers of messages go on
    /// from one session to the next, for an answer may come on either.
    pub(super) fn take(&mut self, generation: u64, last_number: &mut u64) -> Batch {
        let mut frames: Vec<_> = self.owed.drain(..).collect();
        let mut told = Vec::new();
        self.sweep();
        for outgoing in self.queue.drain(..) {
            let number = outgoing.wants_ack.then(|| {
                *last_number += 1;
                *last_number
            });
            frames.push(Frame::Message { number, body: outgoing.body });
            match number {
                Some(number) => {
                    self.unanswered.insert(number, (generation, outgoing.told));
                }
                None => told.push(outgoing.told),
            }
        }
        Batch { frames, told }
    }

    /// Those who gave up waiting need no place: a peer may never answer.
    fn sweep(&mut self) {
        if self.unanswered.len() >= SWEEP_MIN && self.unanswered.len() >= 2 * self.awaited {
            self.unanswered.retain(|_, (_, told)| !told.is_canceled());
            self.awaited = self.unanswered.len();
        }
    }

    #[cfg(test)]
    pub(super) fn unanswered(&self) -> usize {
        self.unanswered.len()
    }

    /// The peer said what became of a message.
    pub(super) fn answered(&mut self, number: u64) -> Option<Told> {
        self.unanswered.remove(&number).map(|(_, told)| told)
    }

    /// Those whose message went with a session that is gone.
    pub(super) fn lose(&mut self, generation: u64) -> Vec<Told> {
        let lost = self.unanswered.extract_if(|_, (written, _)| *written == generation);
        lost.map(|(_, (_, told))| told).collect()
    }

    /// What a session writes as the last before it is closed: not what wants an ack, for nobody
    /// would hear it.
    pub(super) fn take_last(&mut self, generation: u64, last_number: &mut u64) -> Batch {
        let (asking, last) = self.queue.drain(..).partition(|outgoing| outgoing.wants_ack);
        self.queue = last;
        let batch = self.take(generation, last_number);
        self.queue = asking;
        batch
    }

    /// What never went.
    pub(super) fn into_queue(self) -> impl Iterator<Item = Outgoing> {
        self.queue.into_iter()
    }
}

/// Acks that wait for a peer which does not read.
const MAX_OWED: usize = 4_096;

/// Fewer unanswered messages are not worth a look.
const SWEEP_MIN: usize = 64;
