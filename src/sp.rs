//! Request/reply sockets, wire-compatible with nanomsg, nng and mangos (`spec.md §13`).
//!
//! A [`ReqSocket`] asks and a [`RepSocket`] answers. Either may dial or listen, on any number of
//! addresses at once; a request goes to whichever peer is ready, and is sent again where a
//! connection is lost. One socket carries any number of requests at a time.
//!
//! ```
//! # #[cfg(feature = "tokio")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! use trunkline::sp::{RepSocket, ReqSocket, SocketConfig};
//!
//! let rep = RepSocket::new(trunkline::tokio::runtime(), SocketConfig::default());
//! let address = rep.listen("tcp://127.0.0.1:0").await?;
//! tokio::spawn(async move {
//!     while let Ok((question, replier)) = rep.recv().await {
//!         let _ = replier.send(question).await; // an echo
//!     }
//! });
//!
//! let req = ReqSocket::new(trunkline::tokio::runtime(), SocketConfig::default());
//! req.dial(&address.to_string()).await?;
//! assert_eq!(req.request("hello").await?, "hello");
//! # Ok(())
//! # })
//! # }
//! # #[cfg(not(feature = "tokio"))]
//! # fn main() {}
//! ```
//!
//! # Rooms
//!
//! | Room | What it is for |
//! |---|---|
//! | `wire` | the bytes, without IO |
//! | `hub` | what all sockets have: pipes, dialers, listeners, time; a pattern is told of pipes |
//! | `pipe` | one connection: handshake, then messages both ways |
//! | `endpoint` | dialing again, accepting |
//! | `req`, `rep` | the two patterns |

#[macro_use]
mod socket;
mod config;
mod endpoint;
mod error;
mod hub;
mod pipe;
mod rep;
mod req;
mod wire;

pub use config::SocketConfig;
pub use endpoint::EndpointId;
pub use error::{PipeError, RequestError, SocketError};
pub use hub::{Counters, PipeEvent};
pub use pipe::{Pipe, PipeId};
pub use rep::{RepSocket, Replier};
pub use req::{ReqContext, ReqSocket};

/// What an end speaks: 12 bits of pattern, 4 bits of role (`spec.md §13.1.2`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Protocol(pub u16);

impl Protocol {
    /// One peer, both ways.
    pub const PAIR: Self = Self(0x10);
    /// Publishes.
    pub const PUB: Self = Self(0x20);
    /// Subscribes.
    pub const SUB: Self = Self(0x21);
    /// Asks.
    pub const REQ: Self = Self(0x30);
    /// Answers.
    pub const REP: Self = Self(0x31);
    /// Hands out work.
    pub const PUSH: Self = Self(0x50);
    /// Takes work.
    pub const PULL: Self = Self(0x51);
    /// Asks everyone.
    pub const SURVEYOR: Self = Self(0x62);
    /// Answers a surveyor.
    pub const RESPONDENT: Self = Self(0x63);
    /// Sends to all its neighbours.
    pub const BUS: Self = Self(0x70);
    /// Sends to everyone reachable.
    pub const STAR: Self = Self(0x640);

    /// Its name, if it has one.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::PAIR => "pair",
            Self::PUB => "pub",
            Self::SUB => "sub",
            Self::REQ => "req",
            Self::REP => "rep",
            Self::PUSH => "push",
            Self::PULL => "pull",
            Self::SURVEYOR => "surveyor",
            Self::RESPONDENT => "respondent",
            Self::BUS => "bus",
            Self::STAR => "star",
            _ => return None,
        })
    }
}
