//! Connections, and the ways to make them: what sessions and sockets run over.
//!
//! An [`Address`] is `scheme://rest`. A [`Transport`] knows how to [`connect`](Transport::connect)
//! to an address and how to [`listen`](Transport::listen) on one; [`Transports`] is the set that a
//! socket may use, by scheme. [`memory`] is always there, `tcp` and `ipc` come with the feature
//! `tokio`, [`Mux`] makes streams of shared sessions of another transport, and your own is a value
//! like any other.

mod address;
pub mod memory;
mod mux;
#[cfg(feature = "tokio")]
mod tcp;
#[cfg(all(feature = "tokio", unix))]
mod unix;

pub use address::{Address, AddressError};
pub use mux::Mux;
#[cfg(feature = "tokio")]
pub use tcp::Tcp;
#[cfg(all(feature = "tokio", unix))]
pub use unix::Unix;

use std::{collections::HashMap, fmt, future::Future, io, pin::Pin, sync::Arc};

use futures::io::{AsyncRead, AsyncWrite};

/// What a connection has to be. Everything that fits is one.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// A boxed future of a result.
pub type Attempt<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// A connection of some transport.
pub struct Connection {
    /// Its bytes.
    pub io: Box<dyn Io>,
    /// This end, as far as the transport has names for its ends.
    pub local: String,
    /// The other end.
    pub remote: String,
    /// Whether every message is preceded by one byte of 1, as SP does on `ipc://`
    /// (`spec.md §13.3.4`).
    pub marks_messages: bool,
}

impl Connection {
    /// A connection between two named ends.
    pub fn new(io: impl Io, local: impl Into<String>, remote: impl Into<String>) -> Self {
        Self { io: Box::new(io), local: local.into(), remote: remote.into(), marks_messages: false }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("local", &self.local)
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}

/// A way to make connections.
///
/// ```
/// use std::io;
/// use trunkline::transport::{Acceptor, Address, Attempt, Connection, Transport, Transports};
///
/// /// TCP on smol.
/// struct SmolTcp;
///
/// impl Transport for SmolTcp {
///     fn connect<'a>(&'a self, to: &'a Address) -> Attempt<'a, Connection> {
///         Box::pin(async move {
///             let tcp = smol::net::TcpStream::connect(to.rest()).await?;
///             tcp.set_nodelay(true)?;
///             Ok(Connection::new(tcp, "", to.rest()))
///         })
///     }
///
///     fn listen<'a>(&'a self, on: &'a Address) -> Attempt<'a, Box<dyn Acceptor>> {
///         Box::pin(async move {
///             let listener = smol::net::TcpListener::bind(on.rest()).await?;
///             Ok(Box::new(Listening(listener)) as Box<dyn Acceptor>)
///         })
///     }
/// }
///
/// struct Listening(smol::net::TcpListener);
///
/// impl Acceptor for Listening {
///     fn accept(&mut self) -> Attempt<'_, Connection> {
///         Box::pin(async move {
///             let (tcp, peer) = self.0.accept().await?;
///             Ok(Connection::new(tcp, "", peer.to_string()))
///         })
///     }
///
///     fn local_addr(&self) -> io::Result<Address> {
///         Ok(Address::new("tcp", self.0.local_addr()?.to_string()))
///     }
/// }
///
/// let transports = Transports::new().with("tcp", SmolTcp);
/// assert!(transports.find("tcp").is_some());
/// ```
pub trait Transport: Send + Sync + 'static {
    /// Connects.
    fn connect<'a>(&'a self, to: &'a Address) -> Attempt<'a, Connection>;

    /// Begins to listen.
    fn listen<'a>(&'a self, on: &'a Address) -> Attempt<'a, Box<dyn Acceptor>>;
}

/// Takes the connections that come in on an address. Dropping it ends that.
pub trait Acceptor: Send + 'static {
    /// The next connection.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may lose a connection that is just coming in, never one that was
    /// returned.
    fn accept(&mut self) -> Attempt<'_, Connection>;

    /// Where it listens: with the port that was taken, if any was free.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn local_addr(&self) -> io::Result<Address>;
}

/// The transports to use, by the scheme of the address. A value, not a registry of the process.
///
/// ```
/// use trunkline::transport::Transports;
///
/// let transports = Transports::default();
/// assert!(transports.find("memory").is_some());
/// assert!(transports.find("carrier-pigeon").is_none());
/// ```
#[derive(Clone)]
pub struct Transports {
    by_scheme: HashMap<String, Arc<dyn Transport>>,
}

impl Transports {
    /// None at all.
    #[must_use]
    pub fn new() -> Self {
        Self { by_scheme: HashMap::new() }
    }

    /// With one more, or in place of the one of the same scheme.
    #[must_use]
    pub fn with(mut self, scheme: &str, transport: impl Transport) -> Self {
        self.by_scheme.insert(scheme.to_owned(), Arc::new(transport));
        self
    }

    /// The transport for a scheme.
    pub fn find(&self, scheme: &str) -> Option<&Arc<dyn Transport>> {
        self.by_scheme.get(scheme)
    }
}

impl Default for Transports {
    /// `memory`, with a name table of its own; with the feature `tokio` also `tcp` and, on Unix,
    /// `ipc`.
    fn default() -> Self {
        let transports = Self::new().with("memory", memory::Memory::new());
        #[cfg(feature = "tokio")]
        let transports = transports.with("tcp", Tcp);
        #[cfg(all(feature = "tokio", unix))]
        let transports = transports.with("ipc", Unix);
        transports
    }
}

impl fmt::Debug for Transports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_scheme.keys()).finish()
    }
}
