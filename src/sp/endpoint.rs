//! What dialers and listeners have in common: a state, and a way from a connection to a pipe.

use std::{
    fmt,
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::Poll,
};

use futures::{
    AsyncReadExt, AsyncWriteExt,
    future::{Either, select},
    task::AtomicWaker,
};

use super::{
    error::{EndpointError, HandshakeError},
    options::Options,
    pattern::Pattern,
    shared::Shared,
    wire,
};
use crate::{
    runtime::{Runtime, within},
    sync::Mutex,
    transport::{Address, Connection, Settings, Transport},
};

/// The shared part of a dialer or listener.
pub(crate) struct Endpoint {
    id: u64,
    address: Address,
    options: Options,
    stage: AtomicU8,
    /// Whose work ends when it is closed: one task at a time has any.
    closed: AtomicWaker,
    pub(crate) local: Mutex<Option<Address>>,
}

/// Why an endpoint does not start.
pub(crate) enum NotIdle {
    InUse,
    Closed,
}

const IDLE: u8 = 0;
const ACTIVE: u8 = 1;
const CLOSED: u8 = 2;

impl Endpoint {
    pub(crate) const fn new(id: u64, address: Address, options: Options) -> Self {
        Self {
            id,
            address,
            options,
            stage: AtomicU8::new(IDLE),
            closed: AtomicWaker::new(),
            local: Mutex::new(None),
        }
    }

    pub(crate) const fn id(&self) -> u64 {
        self.id
    }

    pub(crate) const fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) const fn options(&self) -> &Options {
        &self.options
    }

    /// Begins; when the guard is dropped before it was kept, it may begin again.
    pub(crate) fn start(self: &Arc<Self>) -> Result<Starting, NotIdle> {
        let change = self.stage.compare_exchange(IDLE, ACTIVE, Ordering::SeqCst, Ordering::SeqCst);
        match change {
            Ok(_) => Ok(Starting(Some(self.clone()))),
            Err(CLOSED) => Err(NotIdle::Closed),
            Err(_) => Err(NotIdle::InUse),
        }
    }

    pub(crate) fn close(&self) {
        self.stage.store(CLOSED, Ordering::SeqCst);
        self.closed.wake();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.stage.load(Ordering::SeqCst) == CLOSED
    }

    /// The output of a future, or `None` if the endpoint is closed before.
    pub(crate) async fn unless_closed<F: Future>(&self, work: F) -> Option<F::Output> {
        let closed = poll_fn(|cx| {
            self.closed.register(cx.waker());
            if self.is_closed() { Poll::Ready(()) } else { Poll::Pending }
        });
        match select(closed, pin!(work)).await {
            Either::Left(_) => None,
            Either::Right((done, _)) => Some(done),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.stage.load(Ordering::SeqCst) {
            IDLE => "idle",
            ACTIVE => "active",
            _ => "closed",
        };
        write!(f, "{} ({stage})", self.address)
    }
}

/// See [`Endpoint::start`].
pub(crate) struct Starting(Option<Arc<Endpoint>>);

impl Starting {
    pub(crate) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(endpoint) = self.0.take() {
            let order = Ordering::SeqCst;
            // It may have been closed meanwhile.
            let _ = endpoint.stage.compare_exchange(ACTIVE, IDLE, order, order);
        }
    }
}

/// Finds the transport of an address.
pub(crate) fn resolve<P: Pattern>(
    shared: &Shared<P>,
    address: &str,
) -> Result<(Address, Arc<dyn Transport>), EndpointError> {
    let address = Address::parse(address)?;
    let transport = shared.transports.find(&address).map_err(EndpointError::Scheme)?;
    Ok((address, transport))
}

pub(crate) fn settings(runtime: &Runtime, options: &Options) -> Settings {
    Settings {
        runtime: runtime.clone(),
        no_delay: options.no_delay(),
        keep_alive: options.keep_alive(),
    }
}

/// Exchanges the eight bytes, in limited time (`spec.md §13.2`).
pub(crate) async fn handshake<P: Pattern>(
    runtime: &Runtime,
    options: &Options,
    mut connection: Connection,
) -> Result<Connection, HandshakeError> {
    let exchange = async {
        let io = &mut connection.io;
        io.write_all(&wire::handshake(P::INFO.own)).await?;
        io.flush().await?;
        let mut theirs = [0; 8];
        io.read_exact(&mut theirs).await?;
        Ok::<_, std::io::Error>(theirs)
    };
    let until = runtime.after(options.handshake_timeout());
    let done = within(exchange, until, runtime.clock()).await;
    let theirs = match done.ok_or(HandshakeError::TimedOut)? {
        Ok(theirs) => theirs,
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Err(HandshakeError::Closed);
        }
        Err(error) => return Err(HandshakeError::Io(error.kind())),
    };
    let peer = wire::parse_handshake(theirs)?;
    if peer != P::INFO.peer {
        return Err(HandshakeError::WrongProtocol { peer, expected: P::INFO.peer });
    }
    Ok(connection)
}
