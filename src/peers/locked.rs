//! The state of a store behind its lock. Nothing else locks it, and nobody is told, woken or let go
//! of while it is locked.

use std::task::Waker;

use super::{
    PeerEvent, SendError,
    mailbox::{Mailbox, Told},
    state::State,
};
use crate::{queue::Put, sync::Mutex};

/// The lock.
pub(super) struct Locked {
    state: Mutex<State>,
}

impl Locked {
    pub(super) const fn new(state: State) -> Self {
        Self { state: Mutex::new(state) }
    }

    /// Does something with the state, and once that is unlocked, all that comes of it.
    ///
    /// What may run the user's code as it ends, such as the end of a session, of a dial, of a
    /// message or of a filter, is returned by `act`, and so ends after the lock too.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock();
        let result = act(&mut state);
        let after = std::mem::take(&mut state.after);
        drop(state);
        after.happen();
        result
    }
}

/// What is to happen after the lock, in this order.
#[derive(Default)]
pub(super) struct After {
    told: Vec<Put<PeerEvent>>,
    woken: Vec<Waker>,
    fates: Vec<(Told, Result<(), SendError>)>,
    given_up: Vec<Mailbox>,
    let_go: Vec<Waker>,
}

impl After {
    /// Subscribers are told, each of what was put into its queue.
    pub(super) fn tell(&mut self, told: impl Iterator<Item = Put<PeerEvent>>) {
        self.told.extend(told);
    }

    pub(super) fn wake(&mut self, wakers: impl IntoIterator<Item = Waker>) {
        self.woken.extend(wakers);
    }

    /// Whoever sent a message is told what became of it.
    pub(super) fn answer(&mut self, told: Told, fate: Result<(), SendError>) {
        self.fates.push((told, fate));
    }

    /// Whoever sent what is in a mailbox is told that nobody will carry it.
    pub(super) fn give_up(&mut self, mailbox: Mailbox) {
        self.given_up.push(mailbox);
    }

    /// A waker that another has replaced.
    pub(super) fn let_go(&mut self, waker: Option<Waker>) {
        self.let_go.extend(waker);
    }

    fn happen(self) {
        drop(self.told);
        self.woken.into_iter().for_each(Waker::wake);
        for (told, fate) in self.fates {
            // Nobody may wait for it.
            let _ = told.send(fate);
        }
        for outgoing in self.given_up.into_iter().flat_map(Mailbox::into_queue) {
            let _ = outgoing.told.send(Err(SendError::Disconnected));
        }
        drop(self.let_go);
    }
}
