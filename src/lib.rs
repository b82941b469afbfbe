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
//! spawn the driver; streams implement tokio's traits too. Import items by name: after
//! `use trunkline::*` the name `tokio` means that module.
//!
//! # The layers, and when to use which
//!
//! ```text
//!     rpc     peers
//!       └──┬────┘                 sp
//!       exchange                   │  (over any connection, and over
//!          └────────┬──────────────┘   streams of shared sessions)
//!   Dispatcher · Session · Stream
//!                 │
//!               frame
//! ```
//!
//! Take the highest layer that fits; each one gives access to those below. Everything above the
//! session is a feature, and can share one session with the rest.
//!
//! | Layer | Take it when | A whole program |
//! |---|---|---|
//! | [`Session`], [`Stream`] | there is one connection, and you want many byte streams | [above](#in-five-minutes); `examples/tour.rs`, `echo.rs`, `tunnel.rs` |
//! | [`Dispatcher`] | several protocols share a session | [`Dispatcher`] |
//! | [`exchange`] | you design a protocol of messages: requests, answers, series of either | [there][exchange program] |
//! | [`rpc`] | you want to call functions by name, with statuses, retries, several servers | [there][rpc program]; `examples/rpc.rs` |
//! | [`peers`] | every program is both client and server, and who dials is a matter of chance | [there][peers program]; `examples/mesh.rs` |
//! | [`sp`] | the other side speaks nanomsg, nng or mangos; or one request gets one reply, whoever answers | [there][sp program]; `examples/reqrep.rs` |
//!
//! # Where things are
//!
//! | You want | Look at |
//! |---|---|
//! | streams over a connection | [`Session`], [`Stream`], [`ReadHalf`], [`WriteHalf`] |
//! | limits and times, each by name | [`Config`] |
//! | why something ended | [`SessionError`], [`StreamError`], [`Violation`], [`ResetCode`] |
//! | counters, and what a session holds | [`Session::stats`], [`Stats`] |
//! | the bytes on the wire, for tools and fuzzing | [`frame`], and `spec.md` in the repository |
//! | your runtime's tasks and clock, or a clock for tests | [`runtime`] |
//! | connections by address, or within a process | [`transport`] |
//!
//! Rules are cited by their number in `spec.md`, which ships with the crate.
//!
//! # Features
//!
//! None is on by default; each adds items and changes nothing that is there without it.
//!
//! | Feature | Adds |
//! |---|---|
//! | `tokio` | tokio's IO traits on streams, `trunkline::tokio`, the transports `tcp://` and `ipc://` |
//! | `exchange` | [`exchange`]: messages on streams |
//! | `rpc` | [`rpc`]: remote procedure calls; `json` and `protobuf` add codecs |
//! | `peers` | [`peers`]: one session per peer |
//! | `sp` | [`sp`]: request/reply sockets |
//! | `full` | all of them |
//!
#![cfg_attr(feature = "exchange", doc = "[`exchange`]: mod@exchange")]
#![cfg_attr(feature = "exchange", doc = "[exchange program]: mod@exchange#a-whole-program")]
#![cfg_attr(not(feature = "exchange"), doc = "[`exchange`]: #features")]
#![cfg_attr(not(feature = "exchange"), doc = "[exchange program]: #features")]
#![cfg_attr(feature = "rpc", doc = "[`rpc`]: mod@rpc")]
#![cfg_attr(feature = "rpc", doc = "[rpc program]: mod@rpc#a-whole-program")]
#![cfg_attr(not(feature = "rpc"), doc = "[`rpc`]: #features")]
#![cfg_attr(not(feature = "rpc"), doc = "[rpc program]: #features")]
#![cfg_attr(feature = "peers", doc = "[`peers`]: mod@peers")]
#![cfg_attr(feature = "peers", doc = "[peers program]: mod@peers#a-whole-program")]
#![cfg_attr(not(feature = "peers"), doc = "[`peers`]: #features")]
#![cfg_attr(not(feature = "peers"), doc = "[peers program]: #features")]
#![cfg_attr(feature = "sp", doc = "[`sp`]: mod@sp")]
#![cfg_attr(feature = "sp", doc = "[sp program]: mod@sp#a-whole-program")]
#![cfg_attr(not(feature = "sp"), doc = "[`sp`]: #features")]
#![cfg_attr(not(feature = "sp"), doc = "[sp program]: #features")]
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
#[cfg(any(feature = "sp", feature = "peers"))]
// Sockets alone use less of it, and show none.
#[cfg_attr(
    not(feature = "peers"),
    allow(dead_code, unreachable_pub, clippy::needless_pass_by_ref_mut)
)]
mod queue;
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
