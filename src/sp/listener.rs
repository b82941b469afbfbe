//! Listening: connections are accepted and shake hands side by side.

use std::{collections::BTreeMap, fmt, io, sync::Arc, time::Instant};

use futures::{
    FutureExt, StreamExt,
    future::{AbortHandle, Aborted, BoxFuture, Either, abortable, select},
    stream::FuturesUnordered,
};

use super::{
    endpoint::{Endpoint, NotIdle, handshake, resolve, settings},
    error::{EndpointError, HandshakeError, ListenError},
    events::PipeEvent,
    link::Link,
    options::Options,
    pattern::Pattern,
    pipe::Origin,
    shared::Shared,
};
use crate::{
    backoff::Backoff,
    transport::{Acceptor, Address, Connection, Transport},
};

/// Accepts the connections that others make to an address.
///
/// Dropping this handle has no effect: the listener goes on until it or its socket is closed.
#[derive(Clone)]
pub struct Listener {
    endpoint: Arc<Endpoint>,
    work: Arc<dyn Work>,
}

/// The part that knows what kind of socket it is.
trait Work: Send + Sync {
    fn listen(self: Arc<Self>) -> BoxFuture<'static, Result<(), ListenError>>;
}

struct Listening<P: Pattern> {
    shared: Arc<Shared<P>>,
    endpoint: Arc<Endpoint>,
    transport: Arc<dyn Transport>,
}

impl Listener {
    pub(crate) fn new<P: Pattern>(
        shared: Arc<Shared<P>>,
        address: &str,
        options: Options,
    ) -> Result<Self, EndpointError> {
        let (address, transport) = resolve(&shared, address)?;
        let endpoint = shared.add_endpoint(|id| Arc::new(Endpoint::new(id, address, options)))?;
        let work = Arc::new(Listening { shared, endpoint: endpoint.clone(), transport });
        Ok(Self { endpoint, work })
    }

    /// Takes the address and begins to accept.
    ///
    /// # Errors
    ///
    /// [`ListenError`] if it could not; this may be called again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the address up; this may be called again.
    pub async fn listen(&self) -> Result<(), ListenError> {
        self.work.clone().listen().await
    }

    /// Gives up the address. Connections whose handshake is under way are closed; pipes stay open.
    pub fn close(&self) {
        self.endpoint.close();
    }

    /// Its number, which no other dialer or listener of the socket has.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.endpoint.id()
    }

    /// The address that it was told to listen on.
    #[must_use]
    pub fn address(&self) -> &Address {
        self.endpoint.address()
    }

    /// The address that it listens on: port 0 is replaced by the port that was taken. `None` before
    /// it listens.
    #[must_use]
    pub fn local_addr(&self) -> Option<Address> {
        self.endpoint.local.lock().clone()
    }

    /// The options it was made with.
    #[must_use]
    pub fn options(&self) -> &Options {
        self.endpoint.options()
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Listener").field(&self.endpoint).finish()
    }
}

impl From<NotIdle> for ListenError {
    fn from(state: NotIdle) -> Self {
        match state {
            NotIdle::InUse => Self::InUse,
            NotIdle::Closed => Self::Closed,
        }
    }
}

impl<P: Pattern> Work for Listening<P> {
    fn listen(self: Arc<Self>) -> BoxFuture<'static, Result<(), ListenError>> {
        Box::pin(async move {
            let starting = self.endpoint.start()?;
            let settings = settings(&self.shared.runtime, self.endpoint.options());
            let binding = self.transport.bind(self.endpoint.address(), &settings);
            let bound = self.endpoint.unless_closed(binding).await;
            let acceptor = bound.ok_or(ListenError::Closed)?;
            let acceptor = acceptor.map_err(unbound)?;
            *self.endpoint.local.lock() = acceptor.local_addr();
            starting.keep();
            let runtime = self.shared.runtime.clone();
            runtime.spawn(self.keep_accepting(acceptor));
            Ok(())
        })
    }
}

/// A malformed address is the same error to listen on as to dial.
fn unbound(error: io::Error) -> ListenError {
    match error.kind() {
        io::ErrorKind::InvalidInput => EndpointError::Invalid(Arc::new(error)).into(),
        _ => ListenError::Bind(Arc::new(error)),
    }
}

/// Handshakes under way, the oldest first.
struct Pending<P: Pattern> {
    running: FuturesUnordered<BoxFuture<'static, Outcome<P>>>,
    handles: BTreeMap<u64, AbortHandle>,
    next: u64,
}

/// Which handshake, with whom, and what came of it.
type Outcome<P> = (u64, Option<Address>, Result<Option<Box<Link<P>>>, HandshakeError>);

impl<P: Pattern> Listening<P> {
    /// The task of a listener.
    async fn keep_accepting(self: Arc<Self>, mut acceptor: Box<dyn Acceptor>) {
        let mut pending =
            Pending { running: FuturesUnordered::new(), handles: BTreeMap::new(), next: 0 };
        let mut backoff = Backoff::accepting();
        let mut not_before: Option<Instant> = None;
        loop {
            let next = self.next(&mut acceptor, &mut pending, not_before.take());
            match self.endpoint.unless_closed(next).await {
                // The acceptor and the pending connections are dropped with this task.
                None => return,
                Some(Next::Accepted(Ok(connection))) => {
                    backoff.reset();
                    self.begin(&mut pending, connection);
                }
                Some(Next::Accepted(Err(error))) => {
                    log::debug!("accepting on {}: {error}", self.endpoint.address());
                    not_before = Some(self.shared.runtime.after(backoff.next_wait()));
                }
                Some(Next::Done(outcome, still)) => {
                    not_before = still;
                    self.finish(&mut pending, outcome);
                }
            }
        }
    }

    /// A connection, after a wait where accepting failed, or the end of a handshake.
    async fn next(
        &self,
        acceptor: &mut Box<dyn Acceptor>,
        pending: &mut Pending<P>,
        not_before: Option<Instant>,
    ) -> Next<P> {
        let accepted = async {
            if let Some(at) = not_before {
                self.shared.runtime.sleep_until(at).await;
            }
            acceptor.accept().await
        };
        let done = match pending.running.is_empty() {
            true => std::future::pending().left_future(),
            false => pending.running.select_next_some().right_future(),
        };
        match select(done, std::pin::pin!(accepted)).await {
            Either::Left((outcome, _)) => Next::Done(outcome, not_before),
            Either::Right((accepted, _)) => Next::Accepted(accepted),
        }
    }

    /// Shakes hands with a connection; if there are too many, the oldest has to go.
    fn begin(self: &Arc<Self>, pending: &mut Pending<P>, connection: Connection) {
        if pending.handles.len() >= self.endpoint.options().max_handshakes()
            && let Some((_, oldest)) = pending.handles.pop_first()
        {
            oldest.abort();
        }
        let (id, remote, this) = (pending.next, connection.remote.clone(), self.clone());
        pending.next += 1;
        let (work, handle) = abortable(async move {
            let options = this.endpoint.options();
            let connection = handshake::<P>(&this.shared.runtime, options, connection).await?;
            let origin = Origin::Listener(this.endpoint.id());
            // A pipe that is not taken has its own event.
            Ok(this.shared.attach(connection, origin, &this.endpoint).ok().map(Box::new))
        });
        pending.handles.insert(id, handle);
        pending.running.push(
            work.map(move |done| {
                let done = done.unwrap_or_else(|Aborted| Err(HandshakeError::TimedOut));
                (id, remote, done)
            })
            .boxed(),
        );
    }

    fn finish(&self, pending: &mut Pending<P>, (id, remote, outcome): Outcome<P>) {
        pending.handles.remove(&id);
        match outcome {
            Ok(Some(link)) => self.shared.runtime.spawn(link.map(drop)),
            Ok(None) => {}
            Err(error) => {
                let address = self.endpoint.address().clone();
                self.shared.with(|_, base| {
                    base.stats.handshakes_failed += 1;
                    base.emit(PipeEvent::HandshakeFailed { address, remote, error });
                });
            }
        }
    }
}

enum Next<P: Pattern> {
    Accepted(io::Result<Connection>),
    Done(Outcome<P>, Option<Instant>),
}
