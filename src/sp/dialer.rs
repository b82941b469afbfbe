//! Dialling, and dialling again.

use std::{fmt, sync::Arc};

use super::{
    endpoint::{Endpoint, NotIdle, handshake, resolve, settings},
    error::{DialError, EndpointError, HandshakeError},
    events::PipeEvent,
    link::Link,
    options::Options,
    pattern::Pattern,
    pipe::Origin,
    shared::Shared,
};
use crate::{
    backoff::Backoff,
    runtime::within,
    transport::{Address, Connector},
};

/// Connects a socket to an address, and again whenever the connection is lost: after
/// [`reconnect_min`](Options::reconnect_min), and longer each time as long as pipes bring no message
/// and end within [`reconnect_max`](Options::reconnect_max).
///
/// Dropping this handle has no effect: the dialer goes on until it or its socket is closed.
#[derive(Clone)]
pub struct Dialer {
    endpoint: Arc<Endpoint>,
    work: Arc<dyn Work>,
}

/// The part that knows what kind of socket it is.
trait Work: Send + Sync {
    fn dial(self: Arc<Self>) -> futures::future::BoxFuture<'static, Result<(), DialError>>;
    fn dial_background(self: Arc<Self>) -> Result<(), DialError>;
    fn close(&self);
}

struct Dialling<P: Pattern> {
    shared: Arc<Shared<P>>,
    endpoint: Arc<Endpoint>,
    connector: Box<dyn Connector>,
}

impl Dialer {
    pub(crate) fn new<P: Pattern>(
        shared: Arc<Shared<P>>,
        address: &str,
        options: Options,
    ) -> Result<Self, EndpointError> {
        let (address, transport) = resolve(&shared, address)?;
        let settings = settings(&shared.runtime, &options);
        let connector = transport
            .connector(&address, &settings)
            .map_err(|error| EndpointError::Invalid(Arc::new(error)))?;
        let endpoint = shared.add_endpoint(|id| Arc::new(Endpoint::new(id, address, options)))?;
        let work = Arc::new(Dialling { shared, endpoint: endpoint.clone(), connector });
        Ok(Self { endpoint, work })
    }

    /// Dials once and waits for the pipe. Whenever that is lost, it is dialled again in the
    /// background.
    ///
    /// # Errors
    ///
    /// [`DialError`] if there is no pipe. It is not dialled again then, but this may be called again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the dial up; this may be called again.
    pub async fn dial(&self) -> Result<(), DialError> {
        self.work.clone().dial().await
    }

    /// Dials in the background until there is a pipe, and again whenever that is lost.
    ///
    /// # Errors
    ///
    /// [`InUse`](DialError::InUse) if it has begun to dial already, [`Closed`](DialError::Closed) if
    /// it or its socket is closed.
    pub fn dial_background(&self) -> Result<(), DialError> {
        self.work.clone().dial_background()
    }

    /// Gives up a dial that is under way, dials no more, and closes the pipe.
    pub fn close(&self) {
        self.work.close();
    }

    /// Its number, which no other dialer or listener of the socket has.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.endpoint.id()
    }

    /// The address that it dials.
    #[must_use]
    pub fn address(&self) -> &Address {
        self.endpoint.address()
    }

    /// The options it was made with.
    #[must_use]
    pub fn options(&self) -> &Options {
        self.endpoint.options()
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Dialer").field(&self.endpoint).finish()
    }
}

impl From<NotIdle> for DialError {
    fn from(state: NotIdle) -> Self {
        match state {
            NotIdle::InUse => Self::InUse,
            NotIdle::Closed => Self::Closed,
        }
    }
}

impl<P: Pattern> Work for Dialling<P> {
    fn dial(self: Arc<Self>) -> futures::future::BoxFuture<'static, Result<(), DialError>> {
        Box::pin(async move {
            let starting = self.endpoint.start()?;
            let link = self.endpoint.unless_closed(self.connect()).await;
            let link = link.ok_or(DialError::Closed)??;
            starting.keep();
            let runtime = self.shared.runtime.clone();
            runtime.spawn(self.keep_dialling(Some(link)));
            Ok(())
        })
    }

    fn dial_background(self: Arc<Self>) -> Result<(), DialError> {
        self.endpoint.start()?.keep();
        let runtime = self.shared.runtime.clone();
        runtime.spawn(self.keep_dialling(None));
        Ok(())
    }

    fn close(&self) {
        self.endpoint.close();
        self.shared.close_pipes(Origin::Dialer(self.endpoint.id()));
    }
}

impl<P: Pattern> Dialling<P> {
    /// One attempt, from the address to a pipe.
    async fn connect(&self) -> Result<Link<P>, DialError> {
        let (runtime, options) = (&self.shared.runtime, self.endpoint.options());
        let until = runtime.after(options.connect_timeout());
        let connection = within(self.connector.connect(), until, runtime.clock())
            .await
            .ok_or(DialError::TimedOut)?
            .map_err(|error| DialError::Connect(Arc::new(error)))?;
        let connection = match handshake::<P>(runtime, options, connection).await {
            Ok(connection) => connection,
            Err(HandshakeError::TimedOut) => return Err(DialError::TimedOut),
            Err(error) => {
                self.shared.with(|_, base| base.stats.handshakes_failed += 1);
                return Err(error.into());
            }
        };
        let origin = Origin::Dialer(self.endpoint.id());
        Ok(self.shared.attach(connection, origin, &self.endpoint)?)
    }

    /// The task of a dialer, which is the task of its pipe too.
    async fn keep_dialling(self: Arc<Self>, mut link: Option<Link<P>>) {
        let options = self.endpoint.options();
        let (min, max) = (options.reconnect_min(), options.reconnect_max());
        let mut backoff = match options.seed() {
            Some(seed) => Backoff::seeded(min, max, seed ^ self.endpoint.id()),
            None => Backoff::new(min, max),
        };
        let mut first = link.is_none();
        loop {
            if let Some(mut link) = link.take() {
                let begun = self.shared.runtime.now();
                (&mut link).await;
                let lived = self.shared.runtime.now().saturating_duration_since(begun);
                // A peer may end every pipe for what is sent on it, such as a request that is too
                // long: that it could be connected to does not mean that all is well.
                if link.has_received() || lived > max {
                    backoff.reset();
                }
            }
            let attempt = async {
                let runtime = &self.shared.runtime;
                if !std::mem::take(&mut first) {
                    runtime.sleep_until(runtime.after(backoff.next_wait())).await;
                }
                self.connect().await
            };
            match self.endpoint.unless_closed(attempt).await {
                None => return,
                Some(Ok(connected)) => link = Some(connected),
                Some(Err(error)) => {
                    let address = self.endpoint.address().clone();
                    self.shared.with(|_, base| {
                        base.emit(PipeEvent::DialFailed { address, error });
                    });
                }
            }
        }
    }
}
