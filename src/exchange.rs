//! Message exchanges: one stream, one exchange of typed messages (`spec.md §14`).
//!
//! An [`Exchange`] is a stream that carries messages instead of bytes: each with a [`Kind`], whole
//! or not at all, up to a configured size. It has a deadline that travels with its first message,
//! and dropping it before its end cancels it on both sides. Flow control, fairness and half close
//! are the stream's, so a slow reader stalls nobody but itself.
//!
//! | You want | Look at |
//! |---|---|
//! | to ask, or to answer | [`Exchange::open`], [`Exchange::accept`] |
//! | a limit in time, for both sides | [`Exchange::set_deadline`], [`Exchange::time_left`] |
//! | to know that the other side gave up | [`Exchange::cancelled`] |
//! | what went wrong, and whether it reached anyone | [`ExchangeError`], [`Code`] |
//! | to count, drain and end the exchanges of a session | [`ExchangeSet`] |
//! | the largest message | [`ExchangeConfig`] |
//! | the bytes | [`Decoder`], [`encode`] |
//!
//! # A whole program
//!
//! ```
//! use futures::{StreamExt, executor::block_on, future};
//! use trunkline::{Config, Dispatcher, Protocol, Session};
//! use trunkline::exchange::{Exchange, ExchangeConfig, Kind, Message};
//!
//! let (left, right) = trunkline::transport::memory::duplex(4096); // or two ends of a TCP connection
//! let (client, driver) = Session::client(left, Config::default());
//! let (server, peer_driver) = Session::server(right, Config::default());
//!
//! let config = ExchangeConfig::default();
//! let mut dispatcher = Dispatcher::new(server.clone());
//! let mut streams = dispatcher.serve(Protocol::EXCHANGE, 16)?;
//! let work = async {
//!     let mut exchange = Exchange::open(&client, &config);
//!     exchange.send_last(Message::new(Kind::Request, "ping")).await?;
//!
//!     let stream = streams.next().await.expect("a stream");
//!     let mut accepted = Exchange::accept(&server, stream, &config);
//!     let request = accepted.recv_kind(Kind::Request).await?;
//!     accepted.send_last(Message::new(Kind::Response, request.body)).await?;
//!
//!     let response = exchange.recv_kind(Kind::Response).await?;
//!     assert_eq!(&response.body[..], b"ping");
//!     client.close().await?;
//!     Ok::<(), Box<dyn std::error::Error>>(())
//! };
//! // A real program spawns the dispatcher and the drivers on its runtime.
//! let (done, ..) = block_on(future::join4(work, dispatcher.run(), driver, peer_driver));
//! done?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod codec;
mod config;
mod error;
mod keeper;
mod messages;
mod outgoing;
mod partial;
mod reader;
mod set;
mod table;

pub use codec::{Decoder, Kind, Malformed, Message, encode};
pub use config::{ExchangeConfig, ExchangeConfigBuilder};
pub use error::{Code, ExchangeError};
pub use messages::Exchange;
pub use set::{ExchangeSet, Health, Inbound, SetConfig};
pub use table::{Event, Exchanges, SetStats};

#[cfg(feature = "rpc")]
pub(crate) use messages::protocol_error;
#[cfg(feature = "rpc")]
pub(crate) use outgoing::Outgoing;
#[cfg(feature = "rpc")]
pub(crate) use reader::{Reader, Role, poll_open};
