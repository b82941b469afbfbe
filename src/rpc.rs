//! Remote procedure calls over exchanges (`spec.md §15`).
//!
//! A [`Server`] answers calls with a [`Router`] of typed handlers; a [`Client`] makes them. A call
//! is one stream of a session, so thousands run side by side, a slow one delays no other, and
//! dropping one cancels it on both sides. Deadlines travel with the calls.
//!
//! # A whole program
//!
//! ```
//! use trunkline::{Config, Session};
//! use trunkline::rpc::{Client, Router, Server};
//! use trunkline::runtime::Runtime;
//! use bytes::Bytes;
//!
//! let (left, right) = trunkline::transport::memory::duplex(4096); // or two ends of a TCP connection
//! let runtime = Runtime::new(|task| smol::spawn(task).detach());
//! smol::block_on(async {
//! let (session, driver) = Session::server(right, Config::default());
//! runtime.spawn(async { drop(driver.await.is_ok()) });
//! let mut router = Router::bytes();
//! router.unary("Echo.Say", |_ctx, said: Bytes| async move { Ok(said) })?;
//! let server = Server::new(router, &runtime);
//! runtime.spawn(server.serve(session));
//!
//! let (session, driver) = Session::client(left, Config::default());
//! runtime.spawn(async { drop(driver.await.is_ok()) });
//! let client = Client::new(session, &runtime);
//! let heard: Bytes = client.call("Echo.Say", &Bytes::from("hello")).await?;
//! assert_eq!(heard, "hello");
//! Ok::<(), Box<dyn std::error::Error>>(())
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where things are
//!
//! | You want | Look at |
//! |---|---|
//! | typed handlers, and a list of them | [`Router`] |
//! | JSON or protobuf instead of bytes | [`codec`], `Router::json`, `Client::json` |
//! | to serve sessions, to shut down | [`Server`] |
//! | a call, with options, or a streaming one | [`Client`], [`Call`] |
//! | who calls, until when, and whether still | [`Context`] |
//! | what went wrong, and whether to try again | [`Status`], [`Code`] |
//! | several servers to choose from | [`ClientBuilder`], [`Resolve`], [`Select`], [`Connect`] |
//! | middleware | [`Client::layer`], [`Stack`], any `tower` layer |

mod answer;
mod body;
mod builder;
mod call;
mod channel;
mod client;
pub mod codec;
mod context;
mod handler;
mod incoming;
mod layer;
mod message;
mod metadata;
mod nodes;
mod receiver;
mod resolve;
mod retry;
mod router;
mod sender;
mod serve;
mod server;
mod state;
mod status;
mod text;
pub mod wire;

pub use self::{
    body::{Body, Trailers},
    builder::ClientBuilder,
    call::{Call, Pending, Reply},
    channel::{Channel, Node},
    client::Client,
    context::{Connection, Context},
    layer::{Calls, Layered, Stack, Wrap},
    message::{Request, Response},
    metadata::Metadata,
    nodes::Connect,
    receiver::Receiver,
    resolve::{Cached, Candidate, Fixed, LeastPending, Random, Resolve, RoundRobin, Select},
    retry::{Attempt, Retry, RetryPolicy, Wait},
    router::{Endpoint, MethodKind, RegisterError, Router},
    sender::Sender,
    server::{Serve, Server, ServerBuilder},
    state::ServerStats,
    status::{Retryable, Status},
    text::Text,
};
pub use crate::exchange::Code;

/// A boxed error of any kind.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
