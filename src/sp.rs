//! Request/reply sockets, wire-compatible with nng, mangos and nanomsg (`spec.md §13`).
//!
//! A [`ReqSocket`] asks, a [`RepSocket`] answers. Either may dial or listen, as often as it likes:
//! a socket uses all of its connections. Requests go to the peers in turn, are sent again when a
//! connection is lost or no reply comes for a while, and get exactly one reply.
//!
//! # A whole program
//!
//! Two programs, here in one (the features `sp` and `tokio` together give `tcp://` and `ipc://`):
//!
#![cfg_attr(feature = "tokio", doc = "```")]
#![cfg_attr(not(feature = "tokio"), doc = "```ignore")]
//! use trunkline::{
//!     sp::{Options, RepSocket, ReqSocket},
//!     transport::Transports,
//! };
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let runtime = trunkline::tokio::runtime();
//!     let server = RepSocket::new(runtime.clone(), Transports::default(), Options::default());
//!     let listener = server.listen("tcp://127.0.0.1:0").await?;
//!     let address = listener.local_addr().expect("a TCP address");
//!     tokio::spawn(async move {
//!         while let Ok((request, replier)) = server.recv().await {
//!             replier.send(request).await.ok(); // the peer may be gone
//!         }
//!     });
//!
//!     let client = ReqSocket::new(runtime, Transports::default(), Options::default());
//!     client.dial(&address.to_string()).await?;
//!     assert_eq!(client.request("hello").await?, "hello");
//!     Ok(())
//! }
//! ```
//!
//! # Where things are
//!
//! | You want | Look at |
//! |---|---|
//! | one request after the other | [`ReqSocket::request`] |
//! | thousands at once, on one socket | [`ReqSocket::context`] |
//! | every limit and time by name | [`Options`] |
//! | to know who comes and goes, or to refuse | [`PipeEvents`], [`OptionsBuilder::admit`] |
//! | to pass requests on | [`device`](device()), [`RawRep`], [`RawReq`] |
//! | many sockets over one connection | `mux+tcp://` addresses, [`transport::mux`](crate::transport::mux) |
//! | another transport | [`transport`](crate::transport) |
//! | the bytes | [`wire`] |

mod device;
mod dialer;
mod endpoint;
mod error;
mod events;
mod link;
mod listener;
mod message;
mod options;
mod pattern;
mod pipe;
mod protocol;
mod raw;
mod ready;
mod rep;
mod req;
mod shared;
mod socket;
mod stats;
#[cfg(test)]
mod tests;
mod waiting;
pub mod wire;

pub use device::{Broken, DeviceEnd, device};
pub use dialer::Dialer;
pub use error::{
    ContextError, DialError, EndpointError, HandshakeError, ListenError, PipeError, RecvError,
    RequestError, SendError, SendMessageError,
};
pub use events::{PipeEvent, PipeEvents};
pub use listener::Listener;
pub use message::Message;
pub use options::{Options, OptionsBuilder};
pub use pipe::{Origin, Pipe};
pub use protocol::{Info, ProtocolId};
pub use raw::{RawRep, RawReq};
pub use rep::{RepContext, RepSocket, Replier};
pub use req::{ReqContext, ReqSocket};
pub use stats::Stats;
