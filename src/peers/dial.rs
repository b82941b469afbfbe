//! Reaching peers.

use std::{sync::Arc, time::Duration};

use futures::{
    AsyncWriteExt, FutureExt,
    future::{Either, select},
};

use super::{
    ConnectError, PeerId, PeerInfo,
    sessions::Guard,
    store::{Inner, Live, Target},
    table::Facts,
    verify::Claim,
    wire::{Answer, Hello, read_framed},
};
use crate::{
    Backoff, Session,
    exchange::within,
    session::{Dispatcher, Protocol},
    transport::{Address, Connection, Settings},
};

impl Inner {
    /// A session with a peer, if need be by dialling where it is known to be.
    pub(super) async fn get(&self, id: &PeerId) -> Result<(), ConnectError> {
        let target = {
            let state = self.state.lock();
            if state.table.get(id).is_some() {
                return Ok(());
            }
            let known = state.known.get(id).and_then(|known| known.address.clone());
            let address = known.ok_or(ConnectError::UnknownPeer)?;
            Target { address, expected: Some(id.clone()) }
        };
        match self.dial(target).await {
            Ok(_) => Ok(()),
            // It came to us while we did not reach it.
            Err(_) if self.state.lock().table.get(id).is_some() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whom we reached at this address, if the session lives.
    pub(super) fn live_at(&self, address: &Address) -> Option<PeerId> {
        let state = self.state.lock();
        let there = state.table.iter().find(|(_, live)| live.address.as_ref() == Some(address));
        there.map(|(_, live)| live.info.id.clone())
    }

    /// One dial for everyone who wants the same.
    pub(super) async fn dial(&self, target: Target) -> Result<PeerId, ConnectError> {
        let dial = {
            let mut state = self.state.lock();
            if state.open.is_none() {
                return Err(ConnectError::Closed);
            }
            match state.dials.get(&target).and_then(|dial| dial.upgrade()) {
                Some(dial) => dial,
                None => {
                    let me = self.myself.upgrade().ok_or(ConnectError::Closed)?;
                    let closing = self.closing.clone();
                    let aim = target.clone();
                    let attempt = async move {
                        let attempt = std::pin::pin!(me.attempt(&aim));
                        match select(attempt, closing).await {
                            Either::Left((reached, _)) => reached,
                            Either::Right(_) => Err(ConnectError::Closed),
                        }
                    };
                    let dial = attempt.boxed().shared();
                    if let Some(weak) = dial.downgrade() {
                        state.dials.retain(|_, dial| dial.upgrade().is_some());
                        state.dials.insert(target.clone(), weak);
                    }
                    dial
                }
            }
        };
        let reached = dial.clone().await;
        let mut state = self.state.lock();
        if state
            .dials
            .get(&target)
            .and_then(|there| there.upgrade())
            .is_some_and(|it| it.ptr_eq(&dial))
        {
            state.dials.remove(&target);
        }
        reached
    }

    async fn attempt(self: &Arc<Self>, target: &Target) -> Result<PeerId, ConnectError> {
        let number = {
            let mut state = self.state.lock();
            state.begun += 1;
            state.begun
        };
        let connection = self.connection(target).await?;
        let (session, driver) = Session::client(connection.io, self.clocked());
        self.drive(driver);
        let guard = Guard::new(session);
        let remote = (connection.local, connection.remote, connection.evidence);
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
        let (stream, answer) =
            self.in_time(handshake, self.config.handshake_timeout, &guard).await?;
        let theirs = match Answer::decode(answer).map_err(|_| ConnectError::Malformed)? {
            Answer::Welcome(hello) => hello,
            Answer::Refused(code, message) => {
                return Err(ConnectError::Refused { code, message });
            }
        };
        if target.expected.as_ref().is_some_and(|expected| *expected != theirs.id) {
            return Err(ConnectError::OtherPeer(theirs.id));
        }
        let facts = Facts {
            incarnation: theirs.incarnation,
            dialled: true,
            dial: number,
            answered_after: theirs.dials,
        };
        let claim = Claim {
            id: theirs.id.clone(),
            token: theirs.token,
            dialled: true,
            remote_addr: remote.1.clone(),
            evidence: remote.2,
        };
        let identity = self.judge(&claim)?;
        let info = PeerInfo {
            id: theirs.id.clone(),
            identity,
            local_addr: remote.0,
            remote_addr: remote.1,
            dialled: true,
            since: self.runtime.now(),
        };
        let live = Live { session: guard.keep(), info, address: Some(target.address.clone()) };
        let entered = self.enter(Arc::new(live), facts, false)?;
        self.start(entered, stream);
        Ok(theirs.id)
    }

    async fn connection(&self, target: &Target) -> Result<Connection, ConnectError> {
        let transport = self.transports.find(&target.address);
        let transport = transport.map_err(|error| ConnectError::Address(error.to_string()))?;
        let settings = Settings::new(self.runtime.clone());
        let connector = transport.connector(&target.address, &settings);
        let connector = connector.map_err(|error| ConnectError::Address(error.to_string()))?;
        let until = self.runtime.now() + self.config.dial_timeout;
        match within(connector.connect(), until, self.runtime.clock()).await {
            Err(_) => Err(ConnectError::TimedOut),
            Ok(connected) => connected.map_err(|error| ConnectError::Dial(error.kind())),
        }
    }

    /// Dials an address until a peer answers, who is then dialled again whenever it is lost.
    pub(super) async fn keep(self: Arc<Self>, address: Address) {
        let mut backoff = self.patience();
        loop {
            match self.dial(Target { address: address.clone(), expected: None }).await {
                Ok(id) => {
                    let mut state = self.state.lock();
                    let known = state.remember(&id, self.config.max_peers);
                    known.keep = true;
                    known.address = Some(address.clone());
                    if state.table.get(&id).is_some() {
                        return;
                    }
                }
                Err(ConnectError::Closed) => return,
                Err(error) => log::debug!("{address} does not answer yet: {error}"),
            }
            let pause = self.runtime.now() + backoff.next_wait();
            select(self.runtime.sleep_until(pause), self.closing.clone()).await;
        }
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
            let pause = self.runtime.now() + backoff.next_wait();
            select(self.runtime.sleep_until(pause), self.closing.clone()).await;
            let done = {
                let state = self.state.lock();
                let kept = state.known.get(id).is_some_and(|known| known.keep);
                state.open.is_none() || !kept || state.table.get(id).is_some()
            };
            if done {
                return;
            }
            match self.dial(target.clone()).await {
                Ok(_) | Err(ConnectError::Closed) => return,
                Err(error) => log::debug!("peer {id} is not back: {error}"),
            }
        }
    }
}

/// How long to wait between dials of a peer that is to be kept, where nothing was said.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
