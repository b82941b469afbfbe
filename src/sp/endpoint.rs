//! Dialing, again and again, and accepting: where pipes come from.

use std::{future::Future, sync::Arc, time::Duration};

use futures::{
    StreamExt,
    future::{AbortHandle, Abortable, Either, select},
    stream::FuturesUnordered,
};

use super::{
    PipeError, PipeEvent, SocketError,
    hub::{Hub, Pattern},
    pipe::{Attached, greet},
};
use crate::{
    Backoff,
    transport::{Acceptor, Address, Attempt, Connection, Transport},
};

/// A dialer or a listener of a socket, to close it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EndpointId(u64);

impl<P: Pattern> Hub<P> {
    /// Connects; from then on connects again whenever the pipe is lost.
    pub(super) async fn dial(self: &Arc<Self>, address: &str) -> Result<EndpointId, SocketError> {
        let (address, transport) = self.find(address)?;
        let first = attempt(self, &*transport, &address).await?;
        self.keep_dialling(address, transport, Some(first))
    }

    /// Connects in the background, until it works and whenever the pipe is lost.
    pub(super) fn dial_background(
        self: &Arc<Self>,
        address: &str,
    ) -> Result<EndpointId, SocketError> {
        let (address, transport) = self.find(address)?;
        self.keep_dialling(address, transport, None)
    }

    fn keep_dialling(
        self: &Arc<Self>,
        address: Address,
        transport: Arc<dyn Transport>,
        first: Option<Attached<P>>,
    ) -> Result<EndpointId, SocketError> {
        let hub = self.clone();
        self.start(async move { keep_dialling(hub, address, transport, first).await })
    }

    /// Accepts from now on. Returns what it really listens on.
    pub(super) async fn listen(
        self: &Arc<Self>,
        address: &str,
    ) -> Result<(EndpointId, Address), SocketError> {
        let (address, transport) = self.find(address)?;
        let acceptor = transport.listen(&address).await?;
        let bound = acceptor.local_addr()?;
        let (hub, shown) = (self.clone(), bound.clone());
        let endpoint = self.start(async move { keep_accepting(hub, acceptor, shown).await })?;
        Ok((endpoint, bound))
    }

    /// Ends a dialer with its pipe, or a listener: its pipes go on, its handshakes do not.
    pub(super) fn close_endpoint(self: &Arc<Self>, endpoint: EndpointId) {
        if let Some(task) = self.with(|_, base| base.endpoints.remove(&endpoint.0)) {
            task.abort();
        }
    }

    fn find(&self, address: &str) -> Result<(Address, Arc<dyn Transport>), SocketError> {
        let address = Address::parse(address)?;
        let transport = self.config.transports.find(address.scheme()).cloned();
        let unknown = || SocketError::UnknownScheme(address.scheme().to_owned());
        let transport = transport.ok_or_else(unknown)?;
        if self.is_closed() { Err(SocketError::Closed) } else { Ok((address, transport)) }
    }

    fn start(
        self: &Arc<Self>,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> Result<EndpointId, SocketError> {
        let (abort, registration) = AbortHandle::new_pair();
        let id = self.with(|_, base| {
            if base.closed {
                return None;
            }
            base.next_endpoint += 1;
            base.endpoints.insert(base.next_endpoint, abort);
            Some(EndpointId(base.next_endpoint))
        });
        let id = id.ok_or(SocketError::Closed)?;
        let hub = self.clone();
        self.runtime.spawn(async move {
            let _ = Abortable::new(task, registration).await;
            hub.with(|_, base| base.endpoints.remove(&id.0));
        });
        Ok(id)
    }

    fn refused(self: &Arc<Self>, remote: String, error: PipeError) {
        log::debug!("{remote} is no pipe: {error}");
        self.with(|_, base| {
            base.counters.refused += 1;
            base.tell(&PipeEvent::Refused { remote, error });
        });
    }
}

/// One attempt to make a pipe of an address.
async fn attempt<P: Pattern>(
    hub: &Arc<Hub<P>>,
    transport: &dyn Transport,
    address: &Address,
) -> Result<Attached<P>, SocketError> {
    let limit = hub.config.connect_timeout;
    let connected = hub.within(limit, transport.connect(address)).await;
    let timed_out = || std::io::Error::from(std::io::ErrorKind::TimedOut);
    let connection = connected.ok_or_else(timed_out)??;
    Ok(admit(hub, connection, address, true).await?)
}

/// From a connection to a pipe.
async fn admit<P: Pattern>(
    hub: &Arc<Hub<P>>,
    mut connection: Connection,
    address: &Address,
    dialled: bool,
) -> Result<Attached<P>, PipeError> {
    let remote = connection.remote.clone();
    let admitted = match greet(hub, &mut connection).await {
        Ok(()) => Attached::new(hub, connection, address, dialled),
        Err(error) => Err(error),
    };
    if let Err(error) = admitted {
        hub.refused(remote, error);
        return Err(error);
    }
    admitted
}

async fn keep_dialling<P: Pattern>(
    hub: Arc<Hub<P>>,
    address: Address,
    transport: Arc<dyn Transport>,
    first: Option<Attached<P>>,
) {
    let (min, max) = (hub.config.reconnect_min, hub.config.reconnect_max);
    let mut backoff = match hub.config.seed {
        Some(seed) => Backoff::seeded(min, max, seed),
        None => Backoff::new(min, max),
    };
    let mut next = first;
    loop {
        let attached = match next.take() {
            Some(attached) => Ok(attached),
            None => attempt(&hub, &*transport, &address).await,
        };
        match attached {
            Ok(attached) => {
                backoff.reset();
                let ended = attached.run().await;
                log::debug!("{address}: {ended}");
            }
            Err(error) => log::debug!("{address}: {error}"),
        }
        let until = hub.runtime.now() + backoff.next_wait();
        hub.runtime.sleep_until(until).await;
    }
}

async fn keep_accepting<P: Pattern>(
    hub: Arc<Hub<P>>,
    mut acceptor: Box<dyn Acceptor>,
    address: Address,
) {
    let mut backoff = Backoff::new(SHORTEST_REST, LONGEST_REST);
    let mut greeting = FuturesUnordered::new();
    loop {
        let accepted = if greeting.len() >= hub.config.max_handshakes.max(1) {
            None
        } else {
            next_of(acceptor.accept(), &mut greeting).await
        };
        match accepted {
            Some(Ok(connection)) => {
                backoff.reset();
                greeting.push(begin(hub.clone(), connection, address.clone()));
            }
            Some(Err(error)) => {
                // Out of descriptors, mostly: asking again at once would only spin.
                log::debug!("{address}: {error}");
                let until = hub.runtime.now() + backoff.next_wait();
                let rest = Box::pin(hub.runtime.sleep_until(until));
                let finished = async { while greeting.next().await.is_some() {} };
                select(
                    rest,
                    Box::pin(async {
                        finished.await;
                        std::future::pending::<()>().await
                    }),
                )
                .await;
            }
            None => {
                greeting.next().await;
            }
        }
    }
}

/// The next connection, unless a handshake ends first.
async fn next_of<F: Future<Output = ()>>(
    accept: Attempt<'_, Connection>,
    greeting: &mut FuturesUnordered<F>,
) -> Option<std::io::Result<Connection>> {
    if greeting.is_empty() {
        return Some(accept.await);
    }
    match select(accept, greeting.next()).await {
        Either::Left((accepted, _)) => Some(accepted),
        Either::Right(_) => None,
    }
}

/// A handshake; what passes it gets a task of its own.
async fn begin<P: Pattern>(hub: Arc<Hub<P>>, connection: Connection, address: Address) {
    if let Ok(attached) = admit(&hub, connection, &address, false).await {
        hub.runtime.spawn(async move {
            let ended = attached.run().await;
            log::debug!("{address}: {ended}");
        });
    }
}

const SHORTEST_REST: Duration = Duration::from_millis(1);
const LONGEST_REST: Duration = Duration::from_millis(100);
