//! Every limit and every time of a socket, by name, and the one place that validates them.

use std::{fmt, sync::Arc, time::Duration};

use super::pipe::Pipe;
use crate::{backoff::SHORTEST, config::ConfigError, runtime::FOREVER};

/// The options of a socket. Cheap to clone.
///
/// A socket gets them when it is made, and [`configure`](super::ReqSocket::configure) changes
/// them later. Contexts, dialers, listeners and pipes take over what the socket has when they are
/// made, unless they are given options of their own.
///
/// ```
/// use std::time::Duration;
/// use trunkline::sp::Options;
///
/// let options = Options::builder()
///     .retry(Some(Duration::from_secs(1)))
///     .recv_timeout(Some(Duration::from_secs(10)))
///     .build()?;
/// let patient = options.to_builder().recv_timeout(None).build()?;
/// # Ok::<(), trunkline::ConfigError>(())
/// ```
#[derive(Clone, Default)]
pub struct Options {
    values: Values,
    admit: Option<Admit>,
}

type Admit = Arc<dyn Fn(&Pipe) -> bool + Send + Sync>;

impl Options {
    /// A builder that starts from the defaults.
    pub fn builder() -> OptionsBuilder {
        Self::default().to_builder()
    }

    /// A builder that starts from these.
    pub fn to_builder(&self) -> OptionsBuilder {
        OptionsBuilder { options: self.clone() }
    }

    /// What a single call needs of them.
    pub(crate) const fn call(&self) -> CallOptions {
        let v = &self.values;
        CallOptions {
            send_timeout: v.send_timeout,
            recv_timeout: v.recv_timeout,
            retry: v.retry,
            best_effort: v.best_effort,
            fail_without_peers: v.fail_without_peers,
        }
    }

    pub(crate) fn admits(&self, pipe: &Pipe) -> bool {
        self.admit.as_ref().is_none_or(|admit| admit(pipe))
    }
}

/// See [`Options::call`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallOptions {
    pub(crate) send_timeout: Option<Duration>,
    pub(crate) recv_timeout: Option<Duration>,
    pub(crate) retry: Option<Duration>,
    pub(crate) best_effort: bool,
    pub(crate) fail_without_peers: bool,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.values.fmt(f)
    }
}

/// Builds [`Options`]. Each setter says the meaning, unit and default of one value;
/// [`build`](Self::build) checks them all.
#[derive(Clone, Debug)]
#[must_use]
pub struct OptionsBuilder {
    options: Options,
}

macro_rules! options {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $default:expr;)*) => {
        #[derive(Clone, Debug)]
        struct Values {
            $($name: $type,)*
        }

        impl Default for Values {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl Options {
            $($(#[$doc])*
            pub fn $name(&self) -> $type {
                self.values.$name.clone()
            })*
        }

        impl OptionsBuilder {
            $($(#[$doc])*
            pub fn $name(mut self, $name: $type) -> Self {
                self.options.values.$name = $name;
                self
            })*
        }
    };
}

options! {
    /// How long sending may wait for a pipe with room; after that the message is dropped. `None`,
    /// the default, waits forever.
    send_timeout: Option<Duration> = None;
    /// How long receiving may wait. On a request it ends the request: a reply that comes later is
    /// dropped. `None`, the default, waits forever.
    recv_timeout: Option<Duration> = None;
    /// How long a request waits for its reply before it is sent again. It is also sent again when
    /// its pipe is lost, so use this only where a request may safely be served twice. With `None`
    /// or zero a request is sent once, and fails when its pipe is lost. Default 60 s.
    retry: Option<Duration> = Some(Duration::from_secs(60));
    /// Sending never waits: a request is queued until a pipe has room, and a reply that finds no
    /// room is dropped and counted. Default false.
    best_effort: bool = false;
    /// A request fails when there is no pipe at all, instead of waiting for one. Default false.
    fail_without_peers: bool = false;
    /// How many words may stand before a body, the request id included: each device on the way
    /// adds one. 1 to 255. Default 8, as in other implementations.
    max_hops: u8 = 8;
    /// The longest message that is received, its header included, in bytes; a longer one closes the
    /// pipe. At least 1; `None` takes any length. Default 1 MiB. A peer has such a limit too: see
    /// [`ReqContext::request`](super::ReqContext::request).
    max_receive: Option<usize> = Some(1 << 20);
    /// Bytes that wait for a pipe's IO before it counts as full. At least 1. Default 256 KiB: a
    /// large write, a short queue.
    send_buffer: usize = 256 << 10;
    /// Raw sockets: how many messages may wait to be sent, on the whole socket for REQ and on each
    /// pipe for REP. At least 1. Default 128.
    send_queue: usize = 128;
    /// Raw sockets: how many messages may wait to be received; beyond that the pipes are not read.
    /// At least 1. Default 128.
    recv_queue: usize = 128;
    /// How long closing waits until the connections have taken what was sent. Default 1 s.
    linger: Duration = Duration::from_secs(1);
    /// The first wait before dialling again. At least 1 ms. Default 100 ms.
    reconnect_min: Duration = Duration::from_millis(100);
    /// The longest wait before dialling again; waits grow up to it by a random factor from 1.1 to
    /// 1.5, until a pipe brings a message or lives for longer than this. Zero, or less than the
    /// first, means no growth. Default 5 s.
    reconnect_max: Duration = Duration::from_secs(5);
    /// How long connecting may take. Must not be zero. Default 10 s.
    connect_timeout: Duration = Duration::from_secs(10);
    /// How long the handshake may take. Must not be zero. Default 10 s.
    handshake_timeout: Duration = Duration::from_secs(10);
    /// How many handshakes of a listener may be under way at once; one more ends the oldest. At
    /// least 1. Default 256.
    max_handshakes: usize = 256;
    /// How many pipes the socket may have at once; further connections are closed. 1 to 2^30 - 1.
    /// Default 16,384.
    max_pipes: usize = 16_384;
    /// How many contexts the socket may have at once. 1 to 2^30 - 1. Default 65,536.
    max_contexts: usize = 65_536;
    /// How many events may wait for each subscriber; beyond that the oldest are lost. At least 1.
    /// Default 1,024.
    event_queue: usize = 1_024;
    /// TCP: whether what was written is sent at once, however little it is. Default true.
    no_delay: bool = true;
    /// TCP: whether the kernel probes idle connections. Default true.
    keep_alive: bool = true;
    /// Seeds every random choice (ids, jitter), for tests. `None`, the default, seeds from the
    /// operating system.
    seed: Option<u64> = None;
}

impl OptionsBuilder {
    /// Decides whether a new pipe may be used; one that may not, or for which this panics, is
    /// closed. `admit` must not use the socket. By default every pipe may be used.
    pub fn admit(mut self, admit: impl Fn(&Pipe) -> bool + Send + Sync + 'static) -> Self {
        self.options.admit = Some(Arc::new(admit));
        self
    }

    /// Checks every value.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] naming the first field whose value is out of its range.
    pub fn build(self) -> Result<Options, ConfigError> {
        let mut options = self.options;
        let v = &options.values;
        let checks = [
            ("max_hops", v.max_hops >= 1, "at least 1"),
            ("max_receive", v.max_receive != Some(0), "more than zero"),
            ("send_buffer", v.send_buffer >= 1, "at least 1"),
            ("send_queue", v.send_queue >= 1, "at least 1"),
            ("recv_queue", v.recv_queue >= 1, "at least 1"),
            ("reconnect_min", v.reconnect_min >= SHORTEST, "at least 1 ms"),
            ("connect_timeout", !v.connect_timeout.is_zero(), "more than zero"),
            ("handshake_timeout", !v.handshake_timeout.is_zero(), "more than zero"),
            ("max_handshakes", v.max_handshakes >= 1, "at least 1"),
            ("max_pipes", (1..1 << 30).contains(&v.max_pipes), "1 to 1073741823"),
            ("max_contexts", (1..1 << 30).contains(&v.max_contexts), "1 to 1073741823"),
            ("event_queue", v.event_queue >= 1, "at least 1"),
        ];
        if let Some((field, _, range)) = checks.into_iter().find(|(_, holds, _)| !holds) {
            return Err(ConfigError::new(field, range));
        }
        options.values.cap_times();
        options.values.retry = options.values.retry.filter(|retry| !retry.is_zero());
        Ok(options)
    }
}

impl Values {
    /// `Duration::MAX` means forever, and must not overflow the clock.
    fn cap_times(&mut self) {
        let set = [&mut self.send_timeout, &mut self.recv_timeout, &mut self.retry];
        let always = [
            &mut self.linger,
            &mut self.reconnect_min,
            &mut self.reconnect_max,
            &mut self.connect_timeout,
            &mut self.handshake_timeout,
        ];
        for time in set.into_iter().flatten().chain(always) {
            *time = (*time).min(FOREVER);
        }
    }
}
