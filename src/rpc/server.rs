//! Who answers calls.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::Fuse};
use tower_service::Service;

use super::{
    BoxError, Connection, Request, Response, Router,
    context::Origin,
    serve::{Permit, Shared, serve_call},
    state::{Listed, ServerState, ServerStats},
};
use crate::{
    Backoff, ConfigError, GoAwayCode, ResetCode, Session, Stream, Streams,
    exchange::ExchangeConfig,
    runtime::{Runtime, within},
};

/// What a server can serve: a [`Router`](super::Router), one with layers around it, or any `tower`
/// service of [`Request`]s.
pub trait Serve:
    Service<Request, Response = Response, Error: Into<BoxError>, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Serve for S where
    S: Service<Request, Response = Response, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// Answers the calls of any number of sessions. Cheap to clone.
///
/// ```
/// use std::time::Duration;
/// use bytes::Bytes;
/// use trunkline::rpc::{Client, Router, Server};
/// # use trunkline::{Config, Session};
/// # let (left, right) = trunkline::transport::memory::duplex(4096);
/// # let (session, driver) = Session::client(left, Config::default());
/// # smol::spawn(driver).detach();
/// # let (far, driver) = Session::server(right, Config::default());
/// # smol::spawn(driver).detach();
/// # let runtime = trunkline::runtime::Runtime::new(|task| smol::spawn(task).detach());
/// # smol::block_on(async {
///
/// let mut router = Router::bytes();
/// router.unary("Echo.Say", |_ctx, said: Bytes| async move { Ok(said) })?;
/// let server = Server::builder().max_calls(1_000).build(router, &runtime)?;
/// smol::spawn(server.serve(far)).detach(); // one task for each session
///
/// let client = Client::new(session, &runtime);
/// let heard: Bytes = client.call("Echo.Say", &Bytes::from("hello")).await?;
/// server.shutdown(Duration::from_secs(5)).await; // calls that run may finish
/// assert!(client.call::<_, Bytes>("Echo.Say", &heard).await.is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Server<S> {
    shared: Arc<Shared<S>>,
}

/// Builds a [`Server`] with limits other than the defaults.
#[derive(Clone, Debug)]
#[must_use]
pub struct ServerBuilder {
    exchange: ExchangeConfig,
    max_calls: usize,
    max_sessions: usize,
    request_timeout: Duration,
    let_cancelled_finish: bool,
    spawn_each: bool,
}

impl ServerBuilder {
    /// The limits of messages.
    pub const fn exchange(mut self, config: ExchangeConfig) -> Self {
        self.exchange = config;
        self
    }

    /// How many calls of all sessions are served at once; one more is refused, and its caller knows
    /// that it reached no handler. At least 1. Default 65,536: what each call holds is for its
    /// handler to bound.
    pub const fn max_calls(mut self, calls: usize) -> Self {
        self.max_calls = calls;
        self
    }

    /// How many sessions are served at once before [`Server::listen`] stops accepting, until one
    /// ends. At least 1. Default 1,024, below the usual limit of open files.
    pub const fn max_sessions(mut self, sessions: usize) -> Self {
        self.max_sessions = sessions;
        self
    }

    /// How long the request of a call, its first message, may take to arrive. Must not be zero.
    /// Default 10 s.
    pub const fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Handlers of cancelled calls run to their end instead of being dropped; they see it in
    /// [`Context::is_cancelled`](super::Context::is_cancelled). Default false.
    pub const fn let_cancelled_finish(mut self, finish: bool) -> Self {
        self.let_cancelled_finish = finish;
        self
    }

    /// Whether every call is a task of its own from its beginning. By default a call becomes one
    /// when it first waits, which is much cheaper, but lets a handler that computes for long delay
    /// the other calls of its session. Default false.
    pub const fn spawn_each(mut self, spawn: bool) -> Self {
        self.spawn_each = spawn;
        self
    }

    /// Makes the server. The clock of `runtime` must be that of the sessions it serves.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] naming the first value that is out of its range.
    pub fn build<S: Serve>(self, service: S, runtime: &Runtime) -> Result<Server<S>, ConfigError> {
        let checks = [
            ("max_calls", self.max_calls >= 1, "at least 1"),
            ("max_sessions", self.max_sessions >= 1, "at least 1"),
            ("request_timeout", !self.request_timeout.is_zero(), "more than zero"),
        ];
        if let Some((field, _, range)) = checks.into_iter().find(|(_, holds, _)| !holds) {
            return Err(ConfigError::new(field, range));
        }
        Ok(self.make(service, runtime))
    }

    fn make<S>(self, service: S, runtime: &Runtime) -> Server<S> {
        let shared = Shared {
            service,
            exchange: self.exchange,
            runtime: runtime.clone(),
            state: Arc::new(ServerState::new(self.max_calls, runtime)),
            request_timeout: self.request_timeout,
            let_cancelled_finish: self.let_cancelled_finish,
            spawn_each: self.spawn_each,
            max_sessions: self.max_sessions,
        };
        Server { shared: Arc::new(shared) }
    }
}

impl Default for ServerBuilder {
    fn default() -> Self {
        Self {
            exchange: ExchangeConfig::default(),
            max_calls: 65_536,
            max_sessions: 1_024,
            request_timeout: Duration::from_secs(10),
            let_cancelled_finish: false,
            spawn_each: false,
        }
    }
}

impl Server<Router> {
    /// A builder that starts from the default limits; the server it builds can serve anything.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }
}

impl<S: Serve> Server<S> {
    /// A server with the default limits. The clock of `runtime` must be that of the sessions it
    /// serves.
    pub fn new(service: S, runtime: &Runtime) -> Self {
        ServerBuilder::default().make(service, runtime)
    }

    /// Serves all streams of a session, until it ends. Spawn it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the calls that it serves, except those in tasks of their own.
    pub fn serve(&self, session: Session) -> impl Future<Output = ()> + Send + 'static {
        self.serve_connection(session, Connection::default())
    }

    /// As [`serve`](Self::serve); handlers see the connection in their [`Context`](super::Context).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the calls that it serves, except those in tasks of their own.
    pub fn serve_connection(
        &self,
        session: Session,
        connection: Connection,
    ) -> impl Future<Output = ()> + Send + 'static {
        let source = Source::Session(session.clone());
        accept_calls(self.shared.clone(), session, source, connection)
    }

    /// Serves the calls of a session that other protocols share: the streams that its
    /// [`Dispatcher`](crate::Dispatcher) has for [`Protocol::RPC`](crate::Protocol::RPC).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the calls that it serves, except those in tasks of their own.
    pub fn serve_streams(
        &self,
        session: Session,
        streams: Streams,
        connection: Connection,
    ) -> impl Future<Output = ()> + Send + 'static {
        accept_calls(self.shared.clone(), session, Source::Streams(streams), connection)
    }

    /// Accepts sessions with `accept` and serves them, until the server shuts down. After an error
    /// it waits, longer each time, up to 100 ms. Spawn it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future accepts no more; sessions that were accepted are served on.
    pub async fn listen<F, Fut, E>(self, mut accept: F)
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<(Session, Connection), E>>,
        E: fmt::Display,
    {
        let state = &self.shared.state;
        let mut backoff = Backoff::accepting();
        loop {
            state
                .changed(|state| state.is_draining() || state.sessions() < self.shared.max_sessions)
                .await;
            let mut accepting = std::pin::pin!(accept());
            let mut draining = std::pin::pin!(state.changed(ServerState::is_draining));
            match futures::future::select(&mut draining, &mut accepting).await {
                futures::future::Either::Left(_) => return,
                futures::future::Either::Right((Ok((session, connection)), _)) => {
                    backoff.reset();
                    self.shared.runtime.spawn(self.serve_connection(session, connection));
                }
                futures::future::Either::Right((Err(error), _)) => {
                    log::debug!("accepting a connection failed: {error}");
                    let runtime = &self.shared.runtime;
                    let sleep = runtime.sleep_until(runtime.after(backoff.next_wait()));
                    futures::future::select(draining, sleep).await;
                }
            }
        }
    }

    /// Takes no more calls and tells the clients so, gives those that are running up to `grace` to
    /// finish, ends those that are left, and closes all sessions.
    ///
    /// # Cancel safety
    ///
    /// Once this was polled the server takes no more calls, even if the future is dropped;
    /// [`abort`](Self::abort) does the rest.
    pub async fn shutdown(&self, grace: Duration) {
        let state = &self.shared.state;
        for session in state.drain() {
            session.go_away();
        }
        let runtime = &self.shared.runtime;
        let idle = state.changed(|state| state.active() == 0);
        let done = within(idle, runtime.after(grace), runtime.clock()).await.is_some();
        let sessions = state.drain();
        let ends = sessions.into_iter().map(|session| async move {
            if !done {
                session.abort(GoAwayCode::INTERNAL_ERROR);
            }
            // How it ended is for whoever holds it to ask.
            let _ = session.close().await;
        });
        futures::future::join_all(ends).await;
    }

    /// Takes no more calls, and at once ends those that are running and all sessions.
    pub fn abort(&self) {
        for session in self.shared.state.drain() {
            session.abort(GoAwayCode::INTERNAL_ERROR);
        }
    }

    /// Counters, and how much is running at this moment.
    #[must_use]
    pub fn stats(&self) -> ServerStats {
        self.shared.state.stats()
    }
}

impl<S> Clone for Server<S> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<S> fmt::Debug for Server<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("stats", &self.shared.state.stats()).finish_non_exhaustive()
    }
}

/// Where calls come from.
enum Source {
    /// All streams of a session, with their preface still to be read.
    Session(Session),
    Streams(Streams),
}

impl Source {
    async fn next(&mut self) -> Option<Stream> {
        match self {
            Self::Session(session) => session.accept().await,
            Self::Streams(streams) => streams.next().await,
        }
    }
}

/// The session is listed from now on, not from when the future is first polled.
fn accept_calls<S: Serve>(
    shared: Arc<Shared<S>>,
    session: Session,
    source: Source,
    connection: Connection,
) -> impl Future<Output = ()> + Send + 'static {
    let listed = Listed::new(&shared.state, &session);
    async move {
        match listed {
            Some(_listed) => accept_listed(shared, source, connection).await,
            // It shuts down.
            None => session.abort(GoAwayCode::INTERNAL_ERROR),
        }
    }
}

async fn accept_listed<S: Serve>(
    shared: Arc<Shared<S>>,
    mut source: Source,
    connection: Connection,
) {
    let preface = matches!(source, Source::Session(_));
    let origin = Arc::new(Origin { connection, server: shared.state.clone() });
    // Where a call is until it first waits; most never do, and the next one takes their place.
    let mut first = Box::pin(Fuse::terminated());
    let mut in_a_row = 0;
    loop {
        let Some(stream) = in_turn(source.next(), &mut in_a_row).await else { return };
        let Some(permit) = Permit::new(&shared) else {
            stream.reset(ResetCode::REFUSED);
            continue;
        };
        // Made where it is put: a call is long, and mostly of room for later.
        let call = || serve_call(permit, origin.clone(), stream, preface);
        if shared.spawn_each {
            shared.runtime.spawn(call());
            continue;
        }
        first.as_mut().set(call().fuse());
        let over = std::future::poll_fn(|cx| Poll::Ready(poll_once(first.as_mut(), cx))).await;
        if !over {
            let waiting = std::mem::replace(&mut first, Box::pin(Fuse::terminated()));
            shared.runtime.spawn_boxed(waiting);
        }
    }
}

/// What comes next; once there were many in a row, the other tasks of this thread come first.
async fn in_turn<T>(next: impl Future<Output = T>, in_a_row: &mut usize) -> T {
    let mut next = pin!(next);
    std::future::poll_fn(|cx| {
        if *in_a_row == MAX_IN_A_ROW {
            *in_a_row = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let found = next.as_mut().poll(cx);
        *in_a_row = if found.is_ready() { *in_a_row + 1 } else { 0 };
        found
    })
    .await
}

/// Calls that may be served without a pause: so many take some hundred microseconds where each has
/// little to do, as long as other tasks of a thread may well wait, and a pause costs a small part of
/// that.
const MAX_IN_A_ROW: usize = 128;

/// Whether it is over, one way or the other. A panic of a handler is caught before; this is for
/// what panics while it is dropped.
fn poll_once(call: Pin<&mut impl Future>, cx: &mut TaskContext<'_>) -> bool {
    match catch_unwind(AssertUnwindSafe(|| call.poll(cx))) {
        Ok(polled) => polled.is_ready(),
        Err(_) => true,
    }
}
