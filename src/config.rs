//! Every limit and every time of a session, by name, and the one place that validates them.

use std::{fmt, sync::Arc, time::Duration};

use crate::runtime::{FOREVER, ThreadTimer, Timer};

/// The window every stream starts with on the wire, in bytes (`spec.md §5.1`). A smaller one
/// cannot be expressed in the protocol.
pub(crate) const INITIAL_WINDOW: u32 = 256 * 1024;

/// The size of a read from the IO, in bytes.
pub(crate) const READ_BUFFER: usize = 64 * 1024;

/// The limits and times of a session. Cheap to clone.
///
/// ```
/// use std::time::Duration;
/// use trunkline::Config;
///
/// let config = Config::builder()
///     .max_streams(100)
///     .keepalive(Some(Duration::from_secs(10)))
///     .build()?;
/// # Ok::<(), trunkline::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Config {
    pub(crate) limits: Limits,
    pub(crate) timer: Option<Arc<dyn Timer>>,
    /// The user chose the timer, or chose to have none.
    pub(crate) timer_chosen: bool,
    /// Whether readers may read from the IO.
    pub(crate) direct_reads: bool,
}

impl Config {
    /// A builder that starts from the defaults.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder { config: Self::default() }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            timer: Some(Arc::new(ThreadTimer)),
            timer_chosen: false,
            direct_reads: true,
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.limits.fmt(f)
    }
}

/// The plain values of a [`Config`]; the meaning of each is on the builder's setter.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) accept_backlog: usize,
    pub(crate) ack_backlog: usize,
    pub(crate) max_streams: usize,
    pub(crate) max_outbound_streams: usize,
    pub(crate) keepalive: Option<Duration>,
    pub(crate) ping_timeout: Duration,
    pub(crate) write_timeout: Option<Duration>,
    pub(crate) open_timeout: Option<Duration>,
    pub(crate) open_timeout_ends_session: bool,
    pub(crate) close_timeout: Duration,
    pub(crate) drain_timeout: Duration,
    pub(crate) linger: Duration,
    pub(crate) linger_bytes: usize,
    pub(crate) ack_delay: Duration,
    pub(crate) stream_window: u32,
    pub(crate) max_stream_window: u32,
    pub(crate) receive_budget: usize,
    pub(crate) staging_limit: usize,
    pub(crate) max_frame: u32,
    pub(crate) max_empty_frames: u32,
    pub(crate) max_early_resets: u32,
    pub(crate) early_reset_interval: Duration,
    pub(crate) seed: Option<u64>,
}

impl Limits {
    /// `Duration::MAX` means forever, and must not overflow the clock.
    fn cap_times(&mut self) {
        let set = [&mut self.keepalive, &mut self.write_timeout, &mut self.open_timeout];
        let always = [
            &mut self.ping_timeout,
            &mut self.close_timeout,
            &mut self.drain_timeout,
            &mut self.linger,
            &mut self.ack_delay,
            &mut self.early_reset_interval,
        ];
        for time in set.into_iter().flatten().chain(always) {
            *time = (*time).min(FOREVER);
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            accept_backlog: 256,
            ack_backlog: 256,
            max_streams: 8_192,
            max_outbound_streams: 8_192,
            keepalive: Some(Duration::from_secs(30)),
            ping_timeout: Duration::from_secs(10),
            write_timeout: Some(Duration::from_secs(10)),
            open_timeout: Some(Duration::from_secs(75)),
            open_timeout_ends_session: false,
            close_timeout: Duration::from_secs(300),
            drain_timeout: Duration::from_secs(30),
            linger: Duration::from_secs(2),
            linger_bytes: 64 << 20,
            ack_delay: Duration::from_millis(5),
            stream_window: INITIAL_WINDOW,
            max_stream_window: 16 << 20,
            receive_budget: 256 << 20,
            staging_limit: 256 << 10,
            max_frame: 256 << 10,
            max_empty_frames: 4_096,
            max_early_resets: 1_000,
            early_reset_interval: Duration::from_secs(10),
            seed: None,
        }
    }
}

/// Builds a [`Config`]. Each setter says the meaning, unit and default of one value;
/// [`build`](Self::build) checks them all.
#[derive(Clone, Debug)]
#[must_use]
pub struct ConfigBuilder {
    config: Config,
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty;)*) => {
        $($(#[$doc])*
        pub fn $name(mut self, $name: $type) -> Self {
            self.config.limits.$name = $name;
            self
        })*
    };
}

impl ConfigBuilder {
    setters! {
        /// Inbound streams that may wait to be accepted; one more is reset with
        /// [`REFUSED`](crate::ResetCode::REFUSED). 0 suits a side that only opens. Default 256,
        /// as in every yamux implementation.
        accept_backlog: usize;
        /// Outbound streams that may wait for the peer's ACK; further opens wait. At least 1.
        /// Default 256: most peers reset streams beyond that.
        ack_backlog: usize;
        /// Inbound streams alive at once; one more is reset with
        /// [`REFUSED`](crate::ResetCode::REFUSED). At least 1. Default 8,192. Each may hold an
        /// initial window of unread bytes, so this bounds memory (`spec.md §5.6`).
        max_streams: usize;
        /// Outbound streams alive at once; further opens wait. At least 1. Default 8,192.
        max_outbound_streams: usize;
        /// How long the peer may send nothing before it is pinged, less up to a tenth, so that many
        /// sessions do not ping in step; `None` never pings. Must not be zero. Default 30 s.
        keepalive: Option<Duration>;
        /// How long the peer may stay silent after a keepalive ping before the session ends, and
        /// how long [`Session::ping`](crate::Session::ping) waits for its answer. Must not be zero.
        /// Default 10 s.
        ping_timeout: Duration;
        /// How long the IO may accept nothing while there is something to write before the
        /// session ends; `None` waits forever. Must not be zero. Default 10 s.
        write_timeout: Option<Duration>;
        /// How long an outbound stream may wait for the peer's ACK before it is reset; `None` waits
        /// forever. Must not be zero. Default 75 s.
        open_timeout: Option<Duration>;
        /// Whether a stream that is not acknowledged in time ends the whole session, as it does in
        /// hashicorp's implementation. Default false.
        open_timeout_ends_session: bool;
        /// How long a stream that this side closed may wait for the peer to close it too, before it
        /// is reset. Bytes that arrive renew the time while the stream is held, but not once it is
        /// dropped. Streams of exchanges and calls have no such limit while they are held
        /// (`spec.md §7.4`). Must not be zero. Default 5 minutes.
        close_timeout: Duration;
        /// How long [`Session::close`](crate::Session::close) lets live streams finish before it
        /// resets them. Default 30 s.
        drain_timeout: Duration;
        /// How long an ending session waits for the peer to close its side, so that the GoAway
        /// arrives and is not overtaken by a TCP reset. Default 2 s.
        linger: Duration;
        /// How many bytes an ending session reads and discards at most. Default 64 MiB.
        linger_bytes: usize;
        /// How long an ACK may wait for a frame to ride on. Default 5 ms.
        ack_delay: Duration;
        /// The receive window every stream starts with, in bytes; at least 262,144. Default
        /// 262,144.
        stream_window: u32;
        /// How far a receive window may grow, in bytes; at least `stream_window`, and growth is
        /// off where they are equal. Default 16 MiB.
        max_stream_window: u32;
        /// Bytes buffered for reading by all streams, plus credit granted beyond the 256 KiB that
        /// each stream starts with; at least 262,144. At the budget windows stop growing; when
        /// the buffered bytes alone exceed it, the stream with most of them is reset with
        /// [`OVERLOADED`](crate::ResetCode::OVERLOADED). So allow 256 KiB for each stream whose
        /// reader may be slow. Default 256 MiB.
        receive_budget: usize;
        /// Bytes staged for the IO before writers wait; at least 16,384. On a slow connection they
        /// wait earlier, so that little is queued. Default 256 KiB.
        staging_limit: usize;
        /// The largest body of a Data frame this side sends, in bytes; at least 1,024, at most
        /// 16 MiB. A frame grows beyond 64 KiB only while no other stream waits for its turn.
        /// Default 256 KiB.
        max_frame: u32;
        /// By how many frames that carry nothing the peer may exceed those that carry something;
        /// one more ends the session (`spec.md §9.2.1`). At least 1. Default 4,096.
        max_empty_frames: u32;
        /// Streams the peer may open and reset before they are accepted, per
        /// `early_reset_interval`; one more ends the session. This side sends at most a third as
        /// many such resets itself; further ones wait until the peer accepts the stream
        /// (`spec.md §9.2.5`). At least 1. Default 1,000.
        max_early_resets: u32;
        /// The time in which `max_early_resets` are counted. Must not be zero. Default 10 s.
        early_reset_interval: Duration;
        /// Seeds every random choice (jitter, hashing of ids), for tests. `None` seeds from the
        /// operating system. Default `None`.
        seed: Option<u64>;
    }

    /// The clock and the source of sleeps. Default: [`ThreadTimer`], which runs on one thread of
    /// its own, whatever the runtime.
    pub fn timer(mut self, timer: Arc<dyn Timer>) -> Self {
        self.config.timer = Some(timer);
        self.config.timer_chosen = true;
        self
    }

    /// Does without a timer: every time limit is off, the round trip is not measured and windows
    /// do not grow. Setting a deadline on a stream fails with
    /// [`Unsupported`](std::io::ErrorKind::Unsupported), pings with
    /// [`PingError::Unsupported`](crate::PingError::Unsupported). The deadlines of calls hold all
    /// the same, on the clock of their client's and server's runtime; each that waits then costs a
    /// sleep of its own.
    pub fn no_timer(mut self) -> Self {
        self.config.timer = None;
        self.config.timer_chosen = true;
        self
    }

    /// Whether a task that reads at least 16 KiB at a time may poll the IO itself, for the body of
    /// its own stream: one copy less. It does so with the driver's waker, and never while the
    /// driver or another task polls the IO. Turn it off for an IO that works only in the task or
    /// the runtime of the driver, where streams are read elsewhere. Default true; without effect on
    /// an IO that is not `Send`.
    pub const fn direct_reads(mut self, allowed: bool) -> Self {
        self.config.direct_reads = allowed;
        self
    }

    /// Checks every value.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] naming the first field whose value is out of its range.
    pub fn build(self) -> Result<Config, ConfigError> {
        let l = &self.config.limits;
        let set = |value: Option<Duration>| value != Some(Duration::ZERO);
        let checks = [
            ("ack_backlog", l.ack_backlog >= 1, "at least 1"),
            ("max_streams", l.max_streams >= 1, "at least 1"),
            ("max_outbound_streams", l.max_outbound_streams >= 1, "at least 1"),
            ("keepalive", set(l.keepalive), "more than zero"),
            ("ping_timeout", !l.ping_timeout.is_zero(), "more than zero"),
            ("write_timeout", set(l.write_timeout), "more than zero"),
            ("open_timeout", set(l.open_timeout), "more than zero"),
            ("close_timeout", !l.close_timeout.is_zero(), "more than zero"),
            ("stream_window", l.stream_window >= INITIAL_WINDOW, "at least 262144"),
            ("max_stream_window", l.max_stream_window >= l.stream_window, "at least stream_window"),
            ("receive_budget", l.receive_budget >= INITIAL_WINDOW as usize, "at least 262144"),
            ("staging_limit", l.staging_limit >= 16 << 10, "at least 16384"),
            ("max_frame", (1 << 10..=16 << 20).contains(&l.max_frame), "1024 to 16777216"),
            ("max_empty_frames", l.max_empty_frames >= 1, "at least 1"),
            ("max_early_resets", l.max_early_resets >= 1, "at least 1"),
            ("early_reset_interval", !l.early_reset_interval.is_zero(), "more than zero"),
        ];
        if let Some((field, _, range)) = checks.into_iter().find(|(_, holds, _)| !holds) {
            return Err(ConfigError { field, range });
        }
        let mut config = self.config;
        config.limits.cap_times();
        Ok(config)
    }
}

/// A value given to a builder, such as [`ConfigBuilder`], is out of its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigError {
    field: &'static str,
    range: &'static str,
}

impl ConfigError {
    #[cfg(any(feature = "exchange", feature = "sp"))]
    pub(crate) const fn new(field: &'static str, range: &'static str) -> Self {
        Self { field, range }
    }

    /// The name of the setter.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        self.field
    }

    /// What the value must be, in words.
    #[must_use]
    pub const fn range(&self) -> &'static str {
        self.range
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} must be {}", self.field, self.range)
    }
}

impl std::error::Error for ConfigError {}
