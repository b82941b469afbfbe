//! Sessions come and go, as the table says.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures::{AsyncWriteExt, FutureExt, future::join_all};

use super::{
    ConnectError, PeerEvent, PeerId, PeerStats, SendError, link,
    mailbox::Told,
    queue::Feed,
    store::{Inner, Live, Target},
    table::{Entered, Facts},
    verify::Claim,
};
use crate::{
    GoAwayCode, Session, SessionError, config::Config, exchange::within, session::Driver,
    stream::Stream,
};

impl Inner {
    /// Whether this is a peer we want, and as whom.
    pub(super) fn judge(&self, claim: &Claim) -> Result<Bytes, ConnectError> {
        if claim.id == self.me {
            return Err(ConnectError::OtherPeer(claim.id.clone()));
        }
        let identity = self.verify.verify(claim).map_err(ConnectError::NotVerified)?;
        let (before, feeds) = {
            let mut state = self.state.lock();
            let known = state.known.get(&claim.id).and_then(|known| known.identity.clone());
            let Some(before) = known.filter(|before| *before != identity) else {
                return Ok(identity);
            };
            (before, state.events())
        };
        let event = PeerEvent::IdentityChanged { id: claim.id.clone(), before, now: identity };
        tell(&feeds, &event);
        Err(ConnectError::NotVerified("another identity than before".to_owned()))
    }

    /// Puts a session into the table, in the place of those that are worse.
    pub(super) fn enter(
        &self,
        live: Arc<Live>,
        mut facts: Facts,
        accepted: bool,
    ) -> Result<Started, ConnectError> {
        let id = live.info.id.clone();
        let mut state = self.state.lock();
        if state.open.is_none() {
            return Err(ConnectError::Closed);
        }
        let was_there = state.table.get(&id).is_some();
        if !was_there && state.table.len() >= self.config.max_peers {
            return Err(ConnectError::TooMany);
        }
        if accepted {
            facts.answered_after = state.begun;
        }
        let Entered { generation, losers } = state.table.enter(&id, facts, live.clone());
        let keep = self.config.reconnect.is_some();
        let known = state.remember(&id, self.config.max_peers);
        known.identity = Some(live.info.identity.clone());
        if let Some(address) = &live.address {
            known.address = Some(address.clone());
            known.keep |= keep;
        }
        let sleepers = state.sleepers(&id);
        let feeds = if generation.is_some() { state.events() } else { Vec::new() };
        drop(state);
        sleepers.into_iter().for_each(std::task::Waker::wake);
        let info = live.info.clone();
        let event = if was_there { PeerEvent::Replaced(info) } else { PeerEvent::Connected(info) };
        tell(&feeds, &event);
        for loser in losers.into_iter().filter(|loser| !Arc::ptr_eq(loser, &live)) {
            log::debug!("peer {id}: a session has lost its place");
            self.close_in_background(&loser.session);
        }
        Ok(Started { live, generation, answered_after: facts.answered_after })
    }

    /// Begins to serve a session that was entered, or closes it if there is a better one.
    pub(super) fn start(self: &Arc<Self>, entered: Started, stream: Stream) {
        let Started { live, generation, .. } = entered;
        match generation {
            Some(generation) => {
                self.runtime.spawn(link::run(self.clone(), live, generation, stream));
            }
            None => {
                let me = self.clone();
                self.runtime.spawn(async move {
                    let mut stream = stream;
                    stream.close().await.ok();
                    me.close_session(&live.session).await;
                });
            }
        }
    }

    /// A session has ended. One that took its place stays where it is.
    pub(super) fn left(&self, live: &Live, generation: u64, ended: Result<(), SessionError>) {
        let id = &live.info.id;
        let mut state = self.state.lock();
        let mut told = Vec::new();
        let sleepers = state.sleepers(id);
        if let Some(mailbox) = state.mailboxes.get_mut(id) {
            told.extend(mailbox.lose(generation).into_iter().map(|told| (told, SendError::Lost)));
        }
        let left = state.table.leave(id, generation);
        let last = left.is_some_and(|left| left.last);
        let mut again = None;
        let mut waiting = Vec::new();
        let mut feeds = Vec::new();
        if last {
            if let Some(mut mailbox) = state.mailboxes.remove(id) {
                let given_up = mailbox.give_up().into_iter();
                told.extend(given_up.map(|told| (told, SendError::Disconnected)));
                waiting.extend(mailbox.room.take());
            }
            feeds = state.events();
            let known = state.known.get(id).filter(|known| known.keep && state.open.is_some());
            again = known.and_then(|known| known.address.clone());
        }
        drop(state);
        sleepers.into_iter().chain(waiting).for_each(std::task::Waker::wake);
        resolve(told);
        let event = match ended {
            Err(error) => PeerEvent::PresumedDead { id: id.clone(), error },
            Ok(()) => PeerEvent::Disconnected(id.clone()),
        };
        tell(&feeds, &event);
        if let (Some(address), Some(me)) = (again, self.myself.upgrade()) {
            let target = Target { address, expected: Some(id.clone()) };
            self.runtime.spawn(async move { me.dial_again(target).await });
        }
    }

    /// Closes a session in good order, or hard after the close timeout.
    pub(super) async fn close_session(&self, session: &Session) {
        let until = self.runtime.now() + self.config.close_timeout;
        if within(session.close(), until, self.runtime.clock()).await.is_err() {
            session.abort(GoAwayCode::NORMAL);
        }
    }

    fn close_in_background(&self, session: &Session) {
        let Some(me) = self.myself.upgrade() else { return };
        let session = session.clone();
        self.runtime.spawn(async move { me.close_session(&session).await });
    }

    pub(super) async fn disconnect(&self, id: &PeerId) {
        let sessions: Vec<_> = {
            let mut state = self.state.lock();
            if let Some(known) = state.known.get_mut(id) {
                known.keep = false;
            }
            state.table.all(id).map(|(generation, live)| (generation, live.clone())).collect()
        };
        self.close_all(sessions).await;
    }

    pub(super) async fn shutdown(&self) {
        let (open, sessions, subscribers, feeds) = {
            let mut state = self.state.lock();
            let open = state.open.take();
            let sessions = state.table.iter();
            let sessions = sessions.map(|(generation, live)| (generation, live.clone())).collect();
            let subscribers = std::mem::take(&mut state.subscribers);
            (open, sessions, subscribers, state.events())
        };
        // Everything that is under way hears of it.
        drop(open);
        self.close_all(sessions).await;
        subscribers.iter().for_each(|(feed, _)| feed.end());
        feeds.iter().for_each(Feed::end);
    }

    /// All at once: those that do not answer cost one close timeout together.
    async fn close_all(&self, sessions: Vec<(u64, Arc<Live>)>) {
        // Their tasks finish the streams of messages when they are no longer in the table.
        for (generation, live) in &sessions {
            self.left(live, *generation, Ok(()));
        }
        join_all(sessions.iter().map(|(_, live)| self.close_session(&live.session))).await;
    }

    /// The sessions live on the clock of the store, unless they were given one.
    pub(super) fn clocked(&self) -> Config {
        let mut config = self.config.session.clone();
        if !config.timer_chosen {
            config.timer = Some(self.runtime.clock().clone());
        }
        config
    }

    pub(super) fn drive(&self, driver: Driver) {
        self.runtime.spawn(driver.map(|ended| {
            if let Err(error) = ended {
                log::debug!("a session with a peer ended: {error}");
            }
        }));
    }

    pub(super) async fn in_time<T>(
        &self,
        work: impl Future<Output = std::io::Result<T>>,
        patience: Duration,
        guard: &Guard,
    ) -> Result<T, ConnectError> {
        let until = self.runtime.now() + patience;
        match within(work, until, self.runtime.clock()).await {
            Err(_) => Err(ConnectError::TimedOut),
            Ok(Ok(done)) => Ok(done),
            Ok(Err(_)) => match guard.session.closed().now_or_never() {
                Some(Err(error)) => Err(ConnectError::Session(error)),
                Some(Ok(())) => Err(ConnectError::Session(SessionError::Closed)),
                None => Err(ConnectError::Malformed),
            },
        }
    }

    pub(super) fn stats(&self) -> PeerStats {
        let state = self.state.lock();
        PeerStats {
            sessions: state.table.iter().count(),
            handshakes: state.handshakes,
            dials: state.dials.values().filter(|dial| dial.upgrade().is_some()).count(),
            queues: state.mailboxes.len(),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }
}

/// A session that was entered.
pub(super) struct Started {
    pub(super) live: Arc<Live>,
    pub(super) generation: Option<u64>,
    pub(super) answered_after: u64,
}

/// A session that is given up unless someone keeps it.
pub(super) struct Guard {
    pub(super) session: Session,
    kept: bool,
}

impl Guard {
    pub(super) const fn new(session: Session) -> Self {
        Self { session, kept: false }
    }

    pub(super) fn keep(mut self) -> Session {
        self.kept = true;
        self.session.clone()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.kept {
            self.session.abort(GoAwayCode::NORMAL);
        }
    }
}

/// Outside of the lock: dropping what a full queue loses may run code of the user's.
fn tell(feeds: &[Feed<PeerEvent>], event: &PeerEvent) {
    for feed in feeds {
        let _ = feed.offer(event.clone());
    }
}

fn resolve(told: Vec<(Told, SendError)>) {
    for (told, error) in told {
        let _ = told.send(Err(error));
    }
}
