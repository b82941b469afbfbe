//! How connections come about: addresses, connectors and acceptors, and a table of transports by
//! scheme.
//!
//! A [`Transport`] turns an [`Address`] into a [`Connector`] or an [`Acceptor`]. [`Transports`]
//! holds one for each scheme; it is a plain value, and two programs in one process can each have
//! their own.
//!
//! | Scheme | Where | Transport |
//! |---|---|---|
//! | `memory://name` | this process | [`memory::Memory`] |
//! | `tcp://host:port` | TCP, with the feature `tokio` | `tcp::Tcp` |
//! | `ipc:///path` | Unix sockets, with the feature `tokio` | `unix::Unix` |
//! | `mux+tcp://host:port` | a stream of one shared session per remote | [`mux::Mux`] |
//!
//! # A transport of one's own
//!
//! Another runtime's TCP takes a few lines for each half. This is smol's:
//!
//! ```
//! use futures::FutureExt;
//! use std::{io, sync::Arc};
//! use trunkline::transport::{
//!     Acceptor, Accepting, Address, Binding, Connecting, Connection, Connector, Settings, Transport,
//!     Transports,
//! };
//!
//! #[derive(Debug)]
//! struct SmolTcp;
//!
//! impl Transport for SmolTcp {
//!     fn connector(&self, address: &Address, _: &Settings) -> io::Result<Box<dyn Connector>> {
//!         Ok(Box::new(SmolConnector(address.rest().to_owned())))
//!     }
//!     fn bind(&self, address: &Address, _: &Settings) -> Binding {
//!         let host = address.rest().to_owned();
//!         async move {
//!             let listener = smol::net::TcpListener::bind(host).await?;
//!             Ok(Box::new(SmolAcceptor(listener)) as Box<dyn Acceptor>)
//!         }
//!         .boxed()
//!     }
//! }
//!
//! struct SmolConnector(String);
//!
//! impl Connector for SmolConnector {
//!     fn connect(&self) -> Connecting {
//!         let host = self.0.clone();
//!         async move { Ok(Connection::new(smol::net::TcpStream::connect(host).await?)) }.boxed()
//!     }
//! }
//!
//! struct SmolAcceptor(smol::net::TcpListener);
//!
//! impl Acceptor for SmolAcceptor {
//!     fn accept(&mut self) -> Accepting<'_> {
//!         async { Ok(Connection::new(self.0.accept().await?.0)) }.boxed()
//!     }
//!     fn local_addr(&self) -> Option<Address> {
//!         Some(Address::new("smol", self.0.local_addr().ok()?))
//!     }
//! }
//!
//! let transports = Transports::default().with("smol", SmolTcp);
//! assert!(transports.find(&Address::parse("smol://127.0.0.1:0")?).is_ok());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod address;
pub mod memory;
pub mod mux;
#[cfg(feature = "tokio")]
pub mod tcp;
#[cfg(all(feature = "tokio", unix))]
pub mod unix;

pub use address::{Address, AddressError};

use std::{any::Any, collections::HashMap, fmt, io, pin::Pin, sync::Arc};

use futures::io::{AsyncRead, AsyncWrite};

use crate::{runtime::Runtime, stream::Stream};

/// Any connection: a stream of bytes each way.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// The stream of a session that this is, if it is one: it takes bytes without copying them.
    #[doc(hidden)]
    fn as_stream(&mut self) -> Option<&mut Stream>;
}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {
    fn as_stream(&mut self) -> Option<&mut Stream> {
        (self as &mut dyn Any).downcast_mut()
    }
}

/// A connection in the making.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Connection>> + Send>>;

/// An acceptor in the making.
pub type Binding = Pin<Box<dyn Future<Output = io::Result<Box<dyn Acceptor>>> + Send>>;

/// A connection that is about to be accepted.
pub type Accepting<'a> = Pin<Box<dyn Future<Output = io::Result<Connection>> + Send + 'a>>;

/// Makes connectors and acceptors for the addresses of one scheme.
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Checks the address and makes a connector for it. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if the address is malformed.
    fn connector(&self, address: &Address, settings: &Settings) -> io::Result<Box<dyn Connector>>;

    /// Begins to listen at the address. Fails with [`InvalidInput`](io::ErrorKind::InvalidInput) if
    /// the address is malformed.
    fn bind(&self, address: &Address, settings: &Settings) -> Binding;
}

/// Connects to one address, any number of times.
pub trait Connector: Send + Sync + 'static {
    /// Makes one attempt. Names are resolved anew each time, so a host that moved is found again.
    /// Dropping the future gives the attempt up.
    fn connect(&self) -> Connecting;
}

/// Accepts the connections that others make to one address. Dropping it gives up the address.
pub trait Acceptor: Send + 'static {
    /// Waits for the next connection. Dropping the future loses none.
    fn accept(&mut self) -> Accepting<'_>;

    /// The address in full, if it is known: port 0 is replaced by the port that was taken.
    fn local_addr(&self) -> Option<Address>;
}

/// What a transport is told beside the address.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where a transport that needs tasks runs them.
    pub runtime: Runtime,
    /// TCP: whether what was written is sent at once, however little it is (`TCP_NODELAY`).
    pub no_delay: bool,
    /// TCP: whether the kernel probes idle connections (`SO_KEEPALIVE`).
    pub keep_alive: bool,
}

impl Settings {
    /// The defaults: both options of TCP are on.
    #[must_use]
    pub const fn new(runtime: Runtime) -> Self {
        Self { runtime, no_delay: true, keep_alive: true }
    }
}

/// A connection and what is known about it.
///
/// ```
/// use trunkline::transport::{Address, Connection, memory};
///
/// struct Certificate(Vec<u8>);
///
/// let (io, _other) = memory::duplex(64); // a TLS stream, say
/// let connection = Connection::new(io)
///     .remote(Some(Address::parse("tls://10.0.0.7:4000")?))
///     .evidence(Certificate(vec![1, 2, 3]));
/// let evidence = connection.peer_evidence().and_then(|it| it.downcast_ref::<Certificate>());
/// assert_eq!(evidence.map(|certificate| certificate.0.len()), Some(3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Connection {
    pub(crate) io: Box<dyn Io>,
    pub(crate) local: Option<Address>,
    pub(crate) remote: Option<Address>,
    pub(crate) framing: Framing,
    pub(crate) evidence: Option<Arc<dyn Any + Send + Sync>>,
}

impl Connection {
    /// A connection of which nothing else is known.
    pub fn new(io: impl Io) -> Self {
        Self {
            io: Box::new(io),
            local: None,
            remote: None,
            framing: Framing::Plain,
            evidence: None,
        }
    }

    /// Sets the address of this end.
    #[must_use]
    pub fn local(self, address: Option<Address>) -> Self {
        Self { local: address, ..self }
    }

    /// Sets the address of the other end.
    #[must_use]
    pub fn remote(self, address: Option<Address>) -> Self {
        Self { remote: address, ..self }
    }

    /// Sets how SP messages are framed on it. Default [`Framing::Plain`].
    #[must_use]
    pub fn framing(self, framing: Framing) -> Self {
        Self { framing, ..self }
    }

    /// Attaches what is known of the other end, such as its certificate, for those who verify it.
    #[must_use]
    pub fn evidence(self, evidence: impl Any + Send + Sync) -> Self {
        Self { evidence: Some(Arc::new(evidence)), ..self }
    }

    /// The connection itself, without what is known about it.
    #[must_use]
    pub fn into_io(self) -> Box<dyn Io> {
        self.io
    }

    /// What was attached with [`evidence`](Self::evidence), to be downcast.
    #[must_use]
    pub const fn peer_evidence(&self) -> Option<&Arc<dyn Any + Send + Sync>> {
        self.evidence.as_ref()
    }

    /// The address of this end, if it is known.
    #[must_use]
    pub const fn local_addr(&self) -> Option<&Address> {
        self.local.as_ref()
    }

    /// The address of the other end, if it is known.
    #[must_use]
    pub const fn remote_addr(&self) -> Option<&Address> {
        self.remote.as_ref()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("local", &self.local)
            .field("remote", &self.remote)
            .field("framing", &self.framing)
            .finish_non_exhaustive()
    }
}

/// How SP messages are framed on a connection (`spec.md §13.3`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Framing {
    /// A length, then the message.
    #[default]
    Plain,
    /// A byte `01`, then as [`Plain`](Self::Plain): the form on Unix sockets.
    Local,
}

/// Transports by scheme. Cheap to clone. Adding a transport to one clone does not change the
/// others, but all of them share what the transports themselves hold: the names of `memory`, the
/// sessions of `mux`.
///
/// ```
/// use trunkline::transport::{Address, Transports, memory::Memory, mux::Mux};
///
/// let memory = Memory::default();
/// let transports = Transports::none().with("local", memory.clone()).with("mux+local", Mux::new("local", memory));
/// assert!(transports.find(&Address::parse("mux+local://name")?).is_ok());
/// assert!(transports.find(&Address::parse("tcp://localhost:1")?).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Transports {
    by_scheme: HashMap<String, Arc<dyn Transport>>,
}

impl Transports {
    /// No transport at all.
    #[must_use]
    pub fn none() -> Self {
        Self { by_scheme: HashMap::new() }
    }

    /// Adds a transport for a scheme. One that had the scheme before is replaced.
    #[must_use]
    pub fn with(mut self, scheme: &str, transport: impl Transport) -> Self {
        self.by_scheme.insert(scheme.to_ascii_lowercase(), Arc::new(transport));
        self
    }

    /// The transport for an address.
    ///
    /// # Errors
    ///
    /// [`UnknownScheme`] if there is none.
    pub fn find(&self, address: &Address) -> Result<Arc<dyn Transport>, UnknownScheme> {
        let found = self.by_scheme.get(address.scheme()).cloned();
        found.ok_or_else(|| UnknownScheme(address.scheme().to_owned()))
    }
}

/// `memory` and `mux+memory`, with a table of names of their own; with the feature `tokio` also
/// `tcp` and `mux+tcp`, and where there are Unix sockets `ipc` and `mux+ipc`.
impl Default for Transports {
    fn default() -> Self {
        let memory = memory::Memory::default();
        let all = Self::none()
            .with("mux+memory", mux::Mux::new("memory", memory.clone()))
            .with("memory", memory);
        #[cfg(feature = "tokio")]
        let all = all.with("tcp", tcp::Tcp).with("mux+tcp", mux::Mux::new("tcp", tcp::Tcp));
        #[cfg(all(feature = "tokio", unix))]
        let all = all.with("ipc", unix::Unix).with("mux+ipc", mux::Mux::new("ipc", unix::Unix));
        all
    }
}

/// No transport is known by this scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownScheme(
    /// The scheme.
    pub String,
);

impl fmt::Display for UnknownScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no transport for {}://", self.0)
    }
}

impl std::error::Error for UnknownScheme {}
