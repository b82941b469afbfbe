//! Sessions come and go, as the table says.

use std::{
    any::Any,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures::{AsyncWriteExt, FutureExt, future::WeakShared};

use super::{
    ConnectError, PeerEvent, PeerInfo, PeerStats, link,
    panic::guarded,
    state::{Live, State, Target},
    store::Inner,
    table::Facts,
    verify::Claim,
    wire::Hello,
};
use crate::{
    GoAwayCode, Session, SessionError, config::Config, runtime::within, session::Driver,
    stream::Stream, sync::Mutex, transport::Address,
};

/// The ends of a connection, and what it knows of the other one.
type Ends = (Option<Address>, Option<Address>, Option<Arc<dyn Any + Send + Sync>>);

impl Inner {
    /// The hellos are exchanged: the session takes its place, or does not. If we dialled: where, and
    /// the number of that dial.
    pub(super) fn meet(
        self: &Arc<Self>,
        session: &Session,
        theirs: Hello,
        ends: Ends,
        dialled: Option<(Address, u64)>,
    ) -> Result<Started, ConnectError> {
        let Hello { incarnation, dials, id, token } = theirs;
        let (local_addr, remote_addr, evidence) = ends;
        let claim = Claim {
            id: id.clone(),
            token,
            dialled: dialled.is_some(),
            remote_addr: remote_addr.clone(),
            evidence,
        };
        let (identity, before) = self.judge(&claim)?;
        let (dial, answered_after) = match &dialled {
            Some((_, number)) => (*number, dials),
            // Known when it is entered.
            None => (dials, 0),
        };
        let facts = Facts { incarnation, dialled: dialled.is_some(), dial, answered_after };
        let info = PeerInfo {
            id,
            identity,
            local_addr,
            remote_addr,
            dialled: dialled.is_some(),
            since: self.runtime.now(),
        };
        let address = dialled.map(|(address, _)| address);
        let last_words = Mutex::default();
        let live = Live { session: session.clone(), info, incarnation, address, last_words };
        self.enter(Arc::new(live), facts, before)
    }

    /// Asks the user's [`Verify`](super::Verify) about a peer. Returns the identity that it has now,
    /// and the one that it had before.
    fn judge(&self, claim: &Claim) -> Result<(Bytes, Option<Bytes>), ConnectError> {
        if claim.id == self.me {
            return Err(ConnectError::OtherPeer(claim.id.clone()));
        }
        let identity = judged(|| self.verify.verify(claim))?;
        // A copy, for the original may run the user's code when it is dropped, and this one is
        // dropped under the lock.
        let identity = Bytes::copy_from_slice(&identity);
        let known = |state: &mut State| state.known.get(&claim.id)?.identity.clone();
        let known = self.state.with(known);
        let Some(before) = known.clone().filter(|before| *before != identity) else {
            return Ok((identity, known));
        };
        let judged = judged(|| self.verify.identity_changed(claim, &before, &identity));
        let event = PeerEvent::IdentityChanged {
            id: claim.id.clone(),
            before,
            now: identity.clone(),
            accepted: judged.is_ok(),
        };
        self.state.with(|state| state.tell(&event));
        judged.map(|()| (identity, known))
    }

    /// Puts a session into the table, in the place of those that are worse.
    fn enter(
        self: &Arc<Self>,
        live: Arc<Live>,
        mut facts: Facts,
        known_as: Option<Bytes>,
    ) -> Result<Started, ConnectError> {
        let id = live.info.id.clone();
        let (generation, losers) = self.state.with(|state| {
            if state.open.is_none() {
                return Err(ConnectError::Closed);
            }
            // While this one was judged another may have come, which nobody was asked about.
            let identity = state.known.get(&id).and_then(|known| known.identity.as_ref());
            if identity != known_as.as_ref() && identity.is_some_and(|it| *it != live.info.identity)
            {
                let other = "another identity came meanwhile".to_owned();
                return Err(ConnectError::NotVerified(other));
            }
            if state.table.get(&id).is_none() && state.table.len() >= self.config.max_peers {
                return Err(ConnectError::TooMany);
            }
            if !facts.dialled {
                facts.answered_after = state.begun;
            }
            let known = state.remember(&id, self.config.max_peers);
            known.identity = Some(live.info.identity.clone());
            if let Some(address) = &live.address {
                known.found_at(address.clone());
                known.keep |= self.config.reconnect.is_some();
            }
            Ok(state.enter(&live, facts))
        })?;
        for loser in losers.into_iter().filter(|loser| !Arc::ptr_eq(loser, &live)) {
            log::debug!("peer {id}: a session has lost its place");
            self.part(&loser);
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
                self.part(&live);
                self.runtime.spawn(async move {
                    let mut stream = stream;
                    stream.close().await.ok();
                });
            }
        }
    }

    /// Takes a session that has ended out of the table, but not another that took its place. Returns
    /// whether it was still there.
    pub(super) fn left(
        &self,
        live: &Live,
        generation: u64,
        ended: Result<(), SessionError>,
    ) -> bool {
        let id = &live.info.id;
        // Then its task still writes what waits for the peer.
        let in_order = ended.is_ok() && !live.session.is_closed();
        let (left, again) = self.state.with(|state| {
            state.wake_sessions(id);
            state.lose(id, generation);
            let left = state.table.leave(id, generation);
            if left.as_ref().is_none_or(|left| !left.last) {
                return (left, None);
            }
            if let Some(mut mailbox) = state.mailboxes.remove(id) {
                if in_order {
                    let batch = mailbox.take_last(generation, &mut state.last_number);
                    *live.last_words.lock() = Some(batch);
                }
                state.give_up(mailbox);
            }
            state.tell(&match ended {
                Err(error) => PeerEvent::PresumedDead { id: id.clone(), error },
                Ok(()) => PeerEvent::Disconnected(id.clone()),
            });
            (left, state.wants_again(id))
        });
        if let (Some(address), Some(me)) = (again, self.myself.upgrade()) {
            let target = Target { address, expected: Some(id.clone()) };
            self.runtime.spawn(me.dial_again(target));
        }
        left.is_some()
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
        let until = self.runtime.after(patience);
        match within(work, until, self.runtime.clock()).await {
            None => Err(ConnectError::TimedOut),
            Some(Ok(done)) => Ok(done),
            Some(Err(_)) => match guard.session.closed().now_or_never() {
                Some(Err(error)) => Err(ConnectError::Session(error)),
                Some(Ok(())) => Err(ConnectError::Session(SessionError::Closed)),
                None => Err(ConnectError::Malformed),
            },
        }
    }

    pub(super) fn stats(&self) -> PeerStats {
        // Each may be the last handle of its dial.
        let (stats, dials) = self.state.with(|state| {
            let dials: Vec<_> = state.dials.values().filter_map(WeakShared::upgrade).collect();
            let stats = PeerStats {
                sessions: state.table.iter().count(),
                closing: state.partings.len(),
                handshakes: state.handshakes,
                dials: dials.len(),
                queues: state.mailboxes.len(),
                dropped: self.dropped.load(Ordering::Relaxed),
            };
            (stats, dials)
        });
        drop(dials);
        stats
    }
}

/// What the user's [`Verify`](super::Verify) says. Where it panics nobody is verified.
fn judged<T>(verify: impl FnOnce() -> Result<T, String>) -> Result<T, ConnectError> {
    let judged = guarded(verify).unwrap_or_else(|panic| Err(format!("the verification {panic}")));
    judged.map_err(ConnectError::NotVerified)
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
