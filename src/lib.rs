//! Many independent, flow-controlled byte streams over one connection, on any async runtime.
//!
//! Trunkline speaks [yamux]. A [`Session`] takes any [`AsyncRead`] `+` [`AsyncWrite`] (TCP, TLS,
//! a WebSocket, a serial line), and gives out [`Stream`]s that read and write like connections of
//! their own: each with its own window, half close, reset and deadlines.
//!
//! # In five minutes
//!
//! 1. Make a session of each end of a connection. You get a handle and a [`Driver`].
//! 2. Spawn the driver on your runtime. It is the only thing that moves bytes.
//! 3. [`open`](Session::open) streams on either side, [`accept`](Session::accept) them on the
//!    other.
//! 4. Close what you finish: a stream that is dropped without close is reset.
//!
//! ```
//! use futures::{AsyncReadExt, AsyncWriteExt};
//! use trunkline::{Config, Session};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! smol::block_on(async {
//!     let listener = smol::net::TcpListener::bind("127.0.0.1:0").await?;
//!     let dialled = smol::net::TcpStream::connect(listener.local_addr()?).await?;
//!     let (accepted, _) = listener.accept().await?;
//!
//!     let (client, driver) = Session::client(dialled, Config::default());
//!     smol::spawn(driver).detach();
//!     let (server, driver) = Session::server(accepted, Config::default());
//!     smol::spawn(driver).detach();
//!
//!     let mut stream = client.open().await?;
//!     stream.write_all(b"one of many").await?;
//!     stream.close().await?;
//!
//!     let mut other = server.accept().await.expect("the session lives");
//!     let mut text = String::new();
//!     other.read_to_string(&mut text).await?;
//!     assert_eq!(text, "one of many");
//!     other.close().await?;
//!     client.close().await?;
//!     Ok(())
//! })
//! # }
//! ```
//!
//! With the feature `tokio`, `trunkline::tokio::client` and `server` take a tokio connection and
//! spawn the driver; streams implement tokio's traits too. Name what you import: after
//! `use trunkline::*` the name `tokio` would mean that module.
//!
//! # Where things are
//!
//! | You want | Look at |
//! |---|---|
//! | streams over a connection | [`Session`], [`Stream`], [`ReadHalf`], [`WriteHalf`] |
//! | limits and times, each by name | [`Config`] |
//! | why something ended | [`SessionError`], [`StreamError`], [`Violation`], [`ResetCode`] |
//! | several protocols on one session | [`Dispatcher`] |
//! | the bytes on the wire, for tools and fuzzing | [`frame`], and `spec.md` in the repository |
//! | your runtime's clock, or a clock for tests | [`runtime`] |
//! | connections by address, or within a process | [`transport`] |
//! | messages instead of bytes | `exchange`, with the feature of that name |
//! | remote procedure calls | `rpc`, with the feature of that name |
//! | one session per peer, whoever dialled | `peers`, with the feature of that name |
//! | request/reply with nanomsg, nng and mangos | `sp`, with the feature of that name |
//!
//! Rules are cited by their number in `spec.md`, which ships with the crate.
//!
//! [yamux]: https://github.com/hashicorp/yamux/blob/master/spec.md
//! [`AsyncRead`]: futures::io::AsyncRead
//! [`AsyncWrite`]: futures::io::AsyncWrite

#[cfg(any(feature = "sp", feature = "rpc", feature = "peers"))]
mod backoff;
mod chance;
mod config;
mod error;
#[cfg(feature = "exchange")]
pub mod exchange;
pub mod frame;
#[cfg(feature = "peers")]
pub mod peers;
#[doc(hidden)]
pub mod proto;
mod recycle;
#[cfg(feature = "rpc")]
pub mod rpc;
pub mod runtime;
mod session;
#[cfg(feature = "sp")]
pub mod sp;
mod stream;
mod sync;
#[cfg(feature = "tokio")]
pub mod tokio;
pub mod transport;
mod wait;

#[cfg(any(feature = "sp", feature = "rpc", feature = "peers"))]
pub use backoff::Backoff;
pub use config::{Config, ConfigBuilder, ConfigError};
pub use error::{
    Flood, GoAwayCode, OpenError, PingError, ResetCode, SessionError, StreamError, TryOpenError,
    Violation,
};
pub use frame::StreamId;
pub use proto::{Role, Stats};
pub use session::{
    Dispatcher, Driver, Incoming, LocalDriver, Protocol, ProtocolError, Session, Streams,
};
pub use stream::{ReadHalf, ReuniteError, Stream, WriteHalf};

/// The programs of README; they need every layer.
#[cfg(all(doctest, feature = "json", feature = "peers", feature = "sp", feature = "tokio"))]
#[doc = include_str!("../README.md")]
struct Readme;
