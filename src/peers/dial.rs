//! Reaching peers.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    AsyncWriteExt, FutureExt,
    future::{Either, Shared, WeakShared, select},
};

use super::{
    ConnectError, PeerEvent, PeerId,
    sessions::Guard,
    state::{Dial, Known, State, Target},
    store::Inner,
    wire::{Answer, Hello, read_framed},
};
use crate::{
    Backoff, Session,
    runtime::within,
    session::{Dispatcher, Protocol},
    stream::Stream,
    transport::{Address, Connection, Connector, Settings, Transport},
};

impl Inner {
    /// A session with a peer, if need be by dialling where it is known to be.
    pub(super) async fn get(&self, id: &PeerId) -> Result<(), ConnectError> {
        let address = self.state.with(|state| {
            if state.open.is_none() {
                return Err(ConnectError::Closed);
            }
            if state.table.get(id).is_some() {
                return Ok(None);
            }
            let known = state.known.get(id).and_then(|known| known.addresses.first().cloned());
            known.ok_or(ConnectError::UnknownPeer).map(Some)
        })?;
        let Some(address) = address else { return Ok(()) };
        let target = Target { address, expected: Some(id.clone()) };
        self.dial_or_arrival(target, id).await.map(drop)
    }

    /// The peer at an address: the one that was found there before if it has a session, else the one
    /// that answers a dial.
    pub(super) async fn get_at(&self, address: Address) -> Result<PeerId, ConnectError> {
        let known = self.state.with(|state| {
            if state.open.is_none() {
                return Err(ConnectError::Closed);
            }
            let at = |known: &Known| known.addresses.contains(&address);
            let there = state.known.iter().filter(|(_, known)| at(known));
            let there = there.map(|(id, _)| (id.clone(), state.table.get(id).is_some()));
            Ok(there.max_by_key(|(_, live)| *live))
        })?;
        let target = Target { address, expected: None };
        match known {
            Some((id, true)) => Ok(id),
            Some((id, false)) => self.dial_or_arrival(target, &id).await,
            None => self.dial(target).await,
        }
    }

    /// Dials, and gives the dial up if the peer comes in by itself meanwhile.
    async fn dial_or_arrival(&self, target: Target, id: &PeerId) -> Result<PeerId, ConnectError> {
        let mut arrival = Arrival { inner: self, id, key: None };
        let arrival = std::future::poll_fn(|cx| arrival.poll(cx));
        match select(pin!(self.dial(target)), pin!(arrival)).await {
            Either::Left((Err(_), _)) if self.is_there(id) => Ok(id.clone()),
            Either::Left((reached, _)) => reached,
            Either::Right(((), _)) => Ok(id.clone()),
        }
    }

    /// One dial for everyone who wants the same.
    pub(super) async fn dial(&self, target: Target) -> Result<PeerId, ConnectError> {
        let dial = self.join_dial(&target)?;
        let reached = dial.clone().await;
        let there = self.state.with(|state| {
            let there = state.dials.get(&target).and_then(WeakShared::upgrade);
            if there.as_ref().is_some_and(|there| there.ptr_eq(&dial)) {
                state.dials.remove(&target);
            }
            there
        });
        drop(there);
        reached
    }

    fn join_dial(&self, target: &Target) -> Result<Shared<Dial>, ConnectError> {
        let me = self.myself.upgrade().ok_or(ConnectError::Closed)?;
        let (closing, aim) = (self.closing.clone(), target.clone());
        let attempt = async move {
            match select(pin!(me.attempt(&aim)), closing).await {
                Either::Left((reached, _)) => reached,
                Either::Right(_) => Err(ConnectError::Closed),
            }
        };
        let fresh = attempt.boxed().shared();
        // Each may be the last handle of its dial.
        let mut others = Vec::new();
        self.state.with(|state| {
            if state.open.is_none() {
                return Err(ConnectError::Closed);
            }
            if let Some(dial) = state.dials.get(target).and_then(WeakShared::upgrade) {
                return Ok(dial);
            }
            if let Some(weak) = fresh.downgrade() {
                let dials = &mut state.dials;
                dials.retain(|_, dial| dial.upgrade().map(|dial| others.push(dial)).is_some());
                dials.insert(target.clone(), weak);
            }
            Ok(fresh.clone())
        })
    }

    async fn attempt(self: &Arc<Self>, target: &Target) -> Result<PeerId, ConnectError> {
        let number = self.state.with(|state| {
            // It may have come since it was looked for; from here on it counts as simultaneous.
            let expected = target.expected.as_ref();
            if let Some(id) = expected.filter(|id| state.table.get(id).is_some()) {
                return Err(id.clone());
            }
            state.begun += 1;
            Ok(state.begun)
        });
        let number = match number {
            Ok(number) => number,
            Err(id) => return Ok(id),
        };
        let connection = self.connection(target).await?;
        let (session, driver) = Session::client(connection.io, self.clocked());
        self.drive(driver);
        let guard = Guard::new(session);
        let ends = (connection.local, connection.remote, connection.evidence);
        let (stream, theirs) = self.introduce(number, &guard).await?;
        if target.expected.as_ref().is_some_and(|expected| *expected != theirs.id) {
            return Err(ConnectError::OtherPeer(theirs.id));
        }
        let id = theirs.id.clone();
        let dialled = Some((target.address.clone(), number));
        let entered = self.meet(&guard.session, theirs, ends, dialled)?;
        guard.keep();
        self.start(entered, stream);
        Ok(id)
    }

    /// The handshake of the one who dials: who is there.
    async fn introduce(&self, number: u64, guard: &Guard) -> Result<(Stream, Hello), ConnectError> {
        let hello = Hello {
            incarnation: self.incarnation,
            dials: number,
            id: self.me.clone(),
            token: self.config.token.clone(),
        };
        let handshake = async {
            let mut stream = Dispatcher::open(&guard.session, Protocol::PEERS).await?;
            stream.write_all(&hello.encode()).await?;
            stream.flush().await?;
            let answer = read_framed(&mut stream).await?;
            Ok::<_, std::io::Error>((stream, answer))
        };
        let patience = self.config.handshake_timeout;
        let (stream, answer) = self.in_time(handshake, patience, guard).await?;
        match Answer::decode(answer).map_err(|_| ConnectError::Malformed)? {
            Answer::Welcome(hello) => Ok((stream, hello)),
            Answer::Refused(code, message) => Err(ConnectError::Refused { code, message }),
        }
    }

    async fn connection(&self, target: &Target) -> Result<Connection, ConnectError> {
        let connector = self.connector(&target.address)?;
        let until = self.runtime.after(self.config.dial_timeout);
        match within(connector.connect(), until, self.runtime.clock()).await {
            None => Err(ConnectError::TimedOut),
            Some(connected) => connected.map_err(|error| ConnectError::Dial(error.into())),
        }
    }

    /// Dials an address until a peer answers, who is then dialled again whenever it is lost.
    pub(super) async fn keep(self: Arc<Self>, address: Address) {
        let mut backoff = self.patience();
        loop {
            match self.dial(Target { address: address.clone(), expected: None }).await {
                Ok(id) => {
                    let there = self.state.with(|state| {
                        let known = state.remember(&id, self.config.max_peers);
                        known.keep = true;
                        known.found_at(address.clone());
                        state.table.get(&id).is_some()
                    });
                    if there {
                        return;
                    }
                }
                Err(ConnectError::Closed) => return,
                Err(error) => self.dial_failed(&address, error, &mut backoff),
            }
            self.pause(&mut backoff).await;
        }
    }

    /// Checks an address that is to be dialled.
    pub(super) fn connector(&self, at: &Address) -> Result<Box<dyn Connector>, ConnectError> {
        let connector = self.transport(at)?.connector(at, &Settings::new(self.runtime.clone()));
        connector.map_err(|error| ConnectError::Address(error.to_string()))
    }

    /// What an address is dialled and listened at with.
    pub(super) fn transport(&self, at: &Address) -> Result<Arc<dyn Transport>, ConnectError> {
        self.transports.find(at).map_err(|error| ConnectError::Address(error.to_string()))
    }

    /// Waits before another try, and no longer than until the store shuts down.
    pub(super) async fn pause(&self, backoff: &mut Backoff) {
        let over = self.runtime.after(backoff.next_wait());
        select(self.runtime.sleep_until(over), self.closing.clone()).await;
    }

    fn patience(&self) -> Backoff {
        let (min, max) = self.config.reconnect.unwrap_or(RECONNECT);
        Backoff::new(min, max)
    }

    /// Dials until there is a session, whoever made it, or nobody wants one any more.
    pub(super) async fn dial_again(self: Arc<Self>, target: Target) {
        let Some(id) = &target.expected else { return };
        let mut backoff = self.patience();
        loop {
            self.pause(&mut backoff).await;
            if self.is_back(id) {
                return;
            }
            let dialled = self.dial(target.clone()).await;
            // It may be gone again.
            if self.is_back(id) {
                return;
            }
            if let Err(error) = dialled {
                self.dial_failed(&target.address, error, &mut backoff);
            }
        }
    }

    /// Tells of a dial in the background. It goes on, whatever the reason: what is at an address
    /// may change, and there is nobody to whom giving up would be an answer.
    fn dial_failed(&self, address: &Address, error: ConnectError, backoff: &mut Backoff) {
        log::debug!("{address} was not reached: {error:?}");
        if error.is_lasting() {
            backoff.exhaust();
        }
        let event = PeerEvent::DialFailed { address: address.clone(), error };
        self.state.with(|state| state.tell(&event));
    }

    /// Whether a peer need not be dialled again. If so, notes that no task does that any more.
    fn is_back(&self, id: &PeerId) -> bool {
        self.state.with(|state| {
            let there = state.open.is_none() || state.table.get(id).is_some();
            let Some(known) = state.known.get_mut(id) else { return true };
            known.dialled_again = !there && known.keep;
            !known.dialled_again
        })
    }

    /// Whether there is a session with a peer.
    fn is_there(&self, id: &PeerId) -> bool {
        self.state.with(|state| state.table.get(id).is_some())
    }
}

/// A place among those who wait for a peer to come.
struct Arrival<'a> {
    inner: &'a Inner,
    id: &'a PeerId,
    key: Option<u64>,
}

impl Arrival<'_> {
    fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.inner.state.with(|state| {
            if state.table.get(self.id).is_some() {
                return Poll::Ready(());
            }
            let State { arrivals, arrivals_made, after, .. } = state;
            let key = *self.key.get_or_insert_with(|| {
                *arrivals_made += 1;
                *arrivals_made
            });
            let waiting = arrivals.entry(self.id.clone()).or_default();
            after.let_go(waiting.insert(key, cx.waker().clone()));
            Poll::Pending
        })
    }
}

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        self.inner.state.with(|state| {
            let Some(waiting) = state.arrivals.get_mut(self.id) else { return };
            state.after.let_go(waiting.remove(&key));
            if waiting.is_empty() {
                state.arrivals.remove(self.id);
            }
        });
    }
}

/// How long to wait between dials of a peer that is to be kept, where nothing was said.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
