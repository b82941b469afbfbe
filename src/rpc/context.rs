//! What a handler knows about the call it serves.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

use super::{Metadata, Text, Trailers, state::ServerState};
use crate::{transport, wait::Waiters};

/// What is known of a connection by whoever accepted it: nothing in it comes from the client. For a
/// connection that a [`transport`](crate::transport) accepted, `Connection::from(&accepted)` has
/// the addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// The address on this side.
    pub local_addr: Option<String>,
    /// The address on the other side.
    pub remote_addr: Option<String>,
    /// Who is on the other side, if that was verified.
    pub peer: Option<String>,
}

impl From<&transport::Connection> for Connection {
    /// The addresses that the transport knows.
    fn from(accepted: &transport::Connection) -> Self {
        Self {
            local_addr: accepted.local_addr().map(ToString::to_string),
            remote_addr: accepted.remote_addr().map(ToString::to_string),
            peer: None,
        }
    }
}

/// The call that a handler serves. Cheap to clone.
///
/// ```
/// use std::time::Duration;
/// use bytes::Bytes;
/// use trunkline::rpc::{Context, Router};
///
/// let mut router = Router::bytes();
/// router.unary("Report.Make", |ctx: Context, _: Bytes| async move {
///     if ctx.time_left().is_some_and(|left| left < Duration::from_millis(10)) {
///         return Ok(Bytes::from("a short one"));
///     }
///     ctx.set_trailer("Pages", "412");
///     Ok(Bytes::from("a long one"))
/// })?;
/// # Ok::<(), trunkline::rpc::RegisterError>(())
/// ```
#[derive(Clone)]
pub struct Context {
    pub(crate) method: Text,
    pub(crate) metadata: Metadata,
    call: Arc<Running>,
}

/// A call that is served, as its handler and its server see it.
pub(crate) struct Running {
    origin: Arc<Origin>,
    deadline: Option<Instant>,
    cancelled: AtomicBool,
    /// What most calls do without.
    more: OnceLock<Box<More>>,
}

/// Where calls come from, and to which server: what those of one connection share.
pub(crate) struct Origin {
    pub(super) connection: Connection,
    pub(super) server: Arc<ServerState>,
}

#[derive(Default)]
struct More {
    /// For the call to be given up.
    waiting: Waiters,
    replies: Mutex<Replies>,
}

/// What goes out beside the answer.
#[derive(Default)]
struct Replies {
    headers: Metadata,
    trailers: Metadata,
}

impl Running {
    pub(super) fn new(origin: Arc<Origin>, deadline: Option<Instant>) -> Arc<Self> {
        Arc::new(Self {
            origin,
            deadline,
            cancelled: AtomicBool::new(false),
            more: OnceLock::new(),
        })
    }

    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(super) fn is_late(&self) -> bool {
        self.deadline.is_some_and(|at| self.server().now() >= at)
    }

    pub(super) fn take_headers(&self) -> Metadata {
        let more = self.more.get();
        more.map(|more| std::mem::take(&mut more.replies.lock().headers)).unwrap_or_default()
    }

    pub(super) fn take_trailers(&self, others: &Trailers) -> Metadata {
        let mut trailers = others.get();
        if let Some(more) = self.more.get() {
            trailers.extend(std::mem::take(&mut more.replies.lock().trailers));
        }
        trailers
    }

    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        // Made even if nobody waits yet: who is about to meets its lock.
        self.more().waiting.wake();
    }

    fn more(&self) -> &More {
        self.more.get_or_init(Box::default)
    }

    pub(super) fn server(&self) -> &ServerState {
        &self.origin.server
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("deadline", &self.deadline)
            .field("connection", &self.origin.connection)
            .finish_non_exhaustive()
    }
}

impl Context {
    pub(super) const fn new(method: Text, metadata: Metadata, call: Arc<Running>) -> Self {
        Self { method, metadata, call }
    }

    /// The method that was called.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// What came beside the request.
    pub const fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// When the call has to be over, if the caller set a deadline. Calls that the handler makes
    /// take it over with [`Call::on_behalf`](super::Call::on_behalf).
    pub fn deadline(&self) -> Option<Instant> {
        self.call.deadline
    }

    /// The time left until the deadline; `None` without one.
    pub fn time_left(&self) -> Option<Duration> {
        let at = self.call.deadline?;
        Some(at.saturating_duration_since(self.server().now()))
    }

    /// The address on this side, if whoever accepted the connection said it.
    pub fn local_addr(&self) -> Option<&str> {
        self.call.origin.connection.local_addr.as_deref()
    }

    /// The address on the other side, if whoever accepted the connection said it.
    pub fn remote_addr(&self) -> Option<&str> {
        self.call.origin.connection.remote_addr.as_deref()
    }

    /// Who calls, if that was verified.
    pub fn peer(&self) -> Option<&str> {
        self.call.origin.connection.peer.as_deref()
    }

    /// Whether the caller gave up, its connection was lost, or the deadline passed. The handler
    /// itself is dropped then, unless
    /// [`let_cancelled_finish`](super::ServerBuilder::let_cancelled_finish) is on; tasks that it
    /// started can ask here.
    pub fn is_cancelled(&self) -> bool {
        self.call.cancelled.load(Ordering::Acquire)
    }

    /// Waits until [`is_cancelled`](Self::is_cancelled) is true. Never returns if the call ends
    /// well.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn cancelled(&self) {
        self.call.more().waiting.until(|| self.is_cancelled()).await;
    }

    /// Sets metadata that is sent before the answer.
    pub fn set_header(&self, name: impl Into<Text>, value: impl Into<Bytes>) {
        self.replies().headers.insert(name, value);
    }

    /// Sets metadata that is sent behind the answer; while an answer streams, until its end.
    pub fn set_trailer(&self, name: impl Into<Text>, value: impl Into<Bytes>) {
        self.replies().trailers.insert(name, value);
    }

    fn replies(&self) -> MutexGuard<'_, Replies> {
        self.call.more().replies.lock()
    }

    pub(super) fn server(&self) -> &ServerState {
        self.call.server()
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("method", &self.method)
            .field("call", &self.call)
            .finish_non_exhaustive()
    }
}
