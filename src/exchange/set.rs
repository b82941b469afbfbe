//! All exchanges of a session.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::{StreamExt, stream::FusedStream};

use super::{
    Exchange, ExchangeConfig, ExchangeError,
    keeper::Keeper,
    table::{Event, Exchanges, Hook},
};
use crate::{ConfigError, ResetCode, Session, Stream, Streams, runtime::Runtime};

/// The limits and times of an [`ExchangeSet`].
#[derive(Clone)]
#[must_use]
pub struct SetConfig {
    exchange: ExchangeConfig,
    max_inbound: usize,
    max_outbound: usize,
    idle_timeout: Option<Duration>,
    health: Option<Health>,
    on_inbound: Option<Hook>,
    on_outbound: Option<Hook>,
}

/// How often a session is pinged, and how many pings may go unanswered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// The time between pings. Must not be zero.
    pub interval: Duration,
    /// How many pings in a row have to go unanswered for the session to be ended. At least 1.
    pub failures: u32,
}

impl SetConfig {
    /// The default limits of a set, for exchanges with these limits.
    pub fn new(exchange: ExchangeConfig) -> Self {
        Self {
            exchange,
            max_inbound: 8_192,
            max_outbound: 8_192,
            idle_timeout: None,
            health: None,
            on_inbound: None,
            on_outbound: None,
        }
    }

    /// How many exchanges of the peer's there may be at once; one more is refused. At least 1.
    /// Default 8,192, as many as streams.
    pub const fn max_inbound(mut self, exchanges: usize) -> Self {
        self.max_inbound = exchanges;
        self
    }

    /// How many exchanges of ours there may be at once; one more fails with
    /// [`SetFull`](ExchangeError::SetFull). At least 1. Default 8,192, as many as streams.
    pub const fn max_outbound(mut self, exchanges: usize) -> Self {
        self.max_outbound = exchanges;
        self
    }

    /// Closes the session after this long without an exchange; pings do not count. Must not be
    /// zero. Default `None`: never.
    pub const fn idle_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// Pings the peer at intervals, whether or not the session is in use. The session needs a timer
    /// for that. Default `None`: the session's own keepalive pings a silent peer.
    pub const fn health(mut self, health: Option<Health>) -> Self {
        self.health = health;
        self
    }

    /// Calls `hook` when an exchange of the peer's joins or leaves. It must not block; a panic in it is
    /// caught and logged.
    pub fn on_inbound(mut self, hook: impl Fn(Event) + Send + Sync + 'static) -> Self {
        self.on_inbound = Some(Arc::new(hook));
        self
    }

    /// Calls `hook` when an exchange of ours joins or leaves. It must not block; a panic in it is
    /// caught and logged.
    pub fn on_outbound(mut self, hook: impl Fn(Event) + Send + Sync + 'static) -> Self {
        self.on_outbound = Some(Arc::new(hook));
        self
    }

    fn check(&self) -> Result<(), ConfigError> {
        let health = self.health.is_none_or(|h| !h.interval.is_zero() && h.failures >= 1);
        let checks = [
            ("max_inbound", self.max_inbound >= 1, "at least 1"),
            ("max_outbound", self.max_outbound >= 1, "at least 1"),
            ("idle_timeout", self.idle_timeout != Some(Duration::ZERO), "more than zero"),
            ("health", health, "an interval of more than zero and at least 1 failure"),
        ];
        match checks.into_iter().find(|(_, holds, _)| !holds) {
            Some((field, _, range)) => Err(ConfigError::new(field, range)),
            None => Ok(()),
        }
    }
}

impl Default for SetConfig {
    fn default() -> Self {
        Self::new(ExchangeConfig::default())
    }
}

impl fmt::Debug for SetConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetConfig")
            .field("exchange", &self.exchange)
            .field("max_inbound", &self.max_inbound)
            .field("max_outbound", &self.max_outbound)
            .field("idle_timeout", &self.idle_timeout)
            .field("health", &self.health)
            .finish_non_exhaustive()
    }
}

/// The exchanges of a session, those of each direction in a table of its own: to count them, to
/// wait for the last, and to end them all.
///
/// One task keeps the time of all of them; it ends with the session, or with the last clone of the
/// set.
///
/// ```
/// use futures::StreamExt;
/// use trunkline::{Dispatcher, Protocol};
/// use trunkline::exchange::{ExchangeSet, Kind, Message, SetConfig};
/// # use trunkline::{Config, Session};
/// # let (left, right) = trunkline::transport::memory::duplex(4096);
/// # let (session, driver) = Session::client(left, Config::default());
/// # smol::spawn(driver).detach();
/// # let (far, driver) = Session::server(right, Config::default());
/// # smol::spawn(driver).detach();
/// # let runtime = trunkline::runtime::Runtime::new(|task| smol::spawn(task).detach());
/// # smol::block_on(async {
///
/// let mut dispatcher = Dispatcher::new(far.clone());
/// let mut streams = dispatcher.serve(Protocol::EXCHANGE, 16)?;
/// smol::spawn(dispatcher.run()).detach();
/// let server = ExchangeSet::new(far, &runtime, SetConfig::default().max_inbound(100))?;
/// let set = server.clone();
/// smol::spawn(async move {
///     let mut inbound = set.incoming(streams);
///     while let Some(mut exchange) = inbound.next().await {
///         let _ = exchange.send_last(Message::new(Kind::Response, "yes")).await;
///     }
/// })
/// .detach();
///
/// let client = ExchangeSet::new(session, &runtime, SetConfig::default())?;
/// let mut exchange = client.open(None)?;
/// assert_eq!(client.outbound.len(), 1);
/// exchange.send_last(Message::new(Kind::Request, "is anyone there?")).await?;
/// assert_eq!(exchange.recv_kind(Kind::Response).await?.body, "yes");
/// drop(exchange);
///
/// client.close().await; // no more exchanges; waits for the last
/// server.close().await;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ExchangeSet {
    session: Session,
    config: ExchangeConfig,
    /// Exchanges the peer opened.
    pub inbound: Exchanges,
    /// Exchanges this side opened.
    pub outbound: Exchanges,
    /// Tells the keeper that nobody holds the set any more.
    _held: Arc<futures::channel::oneshot::Sender<()>>,
}

impl ExchangeSet {
    /// The set of a session. The clock of `runtime` must be the session's.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] naming the first value that is out of its range.
    pub fn new(
        session: Session,
        runtime: &Runtime,
        config: SetConfig,
    ) -> Result<Self, ConfigError> {
        config.check()?;
        if config.health.is_some() && session.timer().is_none() {
            return Err(ConfigError::new("health", "none, as the session has no timer for pings"));
        }
        let inbound = Exchanges::new(config.max_inbound, config.on_inbound);
        let outbound = Exchanges::new(config.max_outbound, config.on_outbound);
        let (held, released) = futures::channel::oneshot::channel();
        let tables = [inbound.clone(), outbound.clone()];
        let keeper = Keeper::new(tables, runtime, &session, config.idle_timeout, config.health);
        runtime.spawn(keeper.keep(released));
        let config = config.exchange;
        Ok(Self { session, config, inbound, outbound, _held: Arc::new(held) })
    }

    /// The session.
    #[must_use]
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// A new exchange in the set, with a deadline if there is to be one.
    ///
    /// # Errors
    ///
    /// [`ExchangeError::SetClosed`], [`SetFull`](ExchangeError::SetFull) or
    /// [`NoTimer`](ExchangeError::NoTimer).
    pub fn open(&self, deadline: Option<Instant>) -> Result<Exchange, ExchangeError> {
        let mut exchange = Exchange::open(&self.session, &self.config);
        exchange.enlist(self.outbound.join()?);
        if let Some(at) = deadline {
            exchange.set_deadline(at)?;
        }
        Ok(exchange)
    }

    /// Takes a stream that the peer opened into the set. A closed or full set resets it with
    /// [`REFUSED`](ResetCode::REFUSED).
    ///
    /// # Errors
    ///
    /// [`ExchangeError::SetClosed`] or [`SetFull`](ExchangeError::SetFull).
    pub fn accept(&self, stream: Stream) -> Result<Exchange, ExchangeError> {
        match self.inbound.join() {
            Ok(ticket) => {
                let mut exchange = Exchange::accept(&self.session, stream, &self.config);
                exchange.enlist(ticket);
                Ok(exchange)
            }
            Err(error) => {
                stream.reset(ResetCode::REFUSED);
                Err(error)
            }
        }
    }

    /// The exchanges that the peer opens, made of the streams of a
    /// [`Dispatcher`](crate::Dispatcher). Those that the set refuses are left out.
    pub fn incoming(&self, streams: Streams) -> Inbound {
        Inbound { set: self.clone(), streams }
    }

    /// Lets no more exchanges in, in either direction, and waits until the last one is dropped.
    ///
    /// # Cancel safety
    ///
    /// Once this was polled the set is closed, even if the future is dropped.
    pub async fn close(&self) {
        self.inbound.close();
        self.outbound.close();
        self.inbound.drained().await;
        self.outbound.drained().await;
    }

    /// Ends all exchanges of both directions with an error, and lets no more in. An exchange that
    /// has failed already keeps its first error.
    pub fn fail_all(&self, error: &ExchangeError) {
        self.inbound.fail_all(error);
        self.outbound.fail_all(error);
    }
}

/// The exchanges that the peer opens, from [`ExchangeSet::incoming`]. Ends when their streams do.
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Inbound {
    set: ExchangeSet,
    streams: Streams,
}

impl futures::Stream for Inbound {
    type Item = Exchange;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Exchange>> {
        loop {
            let Some(stream) = std::task::ready!(self.streams.poll_next_unpin(cx)) else {
                return Poll::Ready(None);
            };
            if let Ok(exchange) = self.set.accept(stream) {
                return Poll::Ready(Some(exchange));
            }
        }
    }
}

impl FusedStream for Inbound {
    fn is_terminated(&self) -> bool {
        self.streams.is_terminated()
    }
}
