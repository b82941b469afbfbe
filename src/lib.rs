//! Many independent, flow-controlled byte streams over one connection, on any async runtime.
//!
//! Trunkline speaks yamux. A [`Session`] takes any [`AsyncRead`](futures::io::AsyncRead) `+`
//! [`AsyncWrite`](futures::io::AsyncWrite) (TCP, TLS, a WebSocket, a serial line), and gives out
//! [`Stream`]s that read and write like connections of their own.
#![warn(missing_docs)]

mod config;
mod error;
pub mod frame;
#[doc(hidden)]
pub mod proto;
pub mod runtime;
mod session;
mod stream;
mod sync;
#[cfg(feature = "tokio")]
pub mod tokio;
pub mod transport;

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

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
