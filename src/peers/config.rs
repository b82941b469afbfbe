//! The limits and times of a store, by name.

use std::time::Duration;

use bytes::Bytes;

use crate::{Config, ConfigError, backoff::SHORTEST, runtime::FOREVER};

/// The limits and times of a [`PeerStore`](super::PeerStore) (`spec.md §16.5`).
///
/// ```
/// use std::time::Duration;
/// use trunkline::peers::PeerConfig;
///
/// let config = PeerConfig::builder().handshake_timeout(Duration::from_secs(1)).build()?;
/// # Ok::<(), trunkline::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct PeerConfig {
    pub(crate) session: Config,
    pub(crate) token: Bytes,
    pub(crate) sessions_per_peer: usize,
    pub(crate) max_peers: usize,
    pub(crate) max_handshakes: usize,
    pub(crate) handshake_timeout: Duration,
    pub(crate) dial_timeout: Duration,
    pub(crate) close_timeout: Duration,
    pub(crate) out_queue: usize,
    pub(crate) max_message: usize,
    pub(crate) event_queue: usize,
    pub(crate) reconnect: Option<(Duration, Duration)>,
}

impl PeerConfig {
    /// A builder that starts from the defaults.
    pub fn builder() -> PeerConfigBuilder {
        PeerConfigBuilder { config: Self::default() }
    }
}

impl Default for PeerConfig {
    fn default() -> Self {
        Self {
            session: Config::default(),
            token: Bytes::new(),
            sessions_per_peer: 1,
            max_peers: 1_024,
            max_handshakes: 256,
            handshake_timeout: Duration::from_secs(2),
            dial_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(5),
            out_queue: 20,
            max_message: 4 << 20,
            event_queue: 256,
            reconnect: None,
        }
    }
}

/// Builds a [`PeerConfig`].
#[derive(Clone, Debug)]
#[must_use]
pub struct PeerConfigBuilder {
    config: PeerConfig,
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty;)*) => {
        impl PeerConfigBuilder {
            $($(#[$doc])*
            pub fn $name(mut self, $name: $type) -> Self {
                self.config.$name = $name;
                self
            })*
        }
    };
}

setters! {
    /// The configuration of the sessions. Unless it chooses a timer, they run on the clock of the
    /// store's runtime.
    session: Config;
    /// What is sent beside our own id in the handshake, for the other side's
    /// [`Verify`](super::Verify): at most 32 KiB. Default: nothing.
    token: Bytes;
    /// How many sessions are kept with one peer, at least 1. Default 1.
    sessions_per_peer: usize;
    /// How many peers may have a session, at least 1; one more is refused. Default 1,024: each
    /// takes a file descriptor.
    max_peers: usize;
    /// How many accepted connections may be in their handshake, at least 1; one more is closed.
    /// Default 256: as many as may come in a second.
    max_handshakes: usize;
    /// How long a handshake may take. Must not be zero. Default 2 s.
    handshake_timeout: Duration;
    /// How long making a connection may take, before its handshake. Must not be zero. Default 10 s.
    dial_timeout: Duration;
    /// How long closing a session waits for what is under way on it. Default 5 s.
    close_timeout: Duration;
    /// How many messages may wait to be written to one peer, at least 1. Default 20.
    out_queue: usize;
    /// The longest message that is sent or received, in bytes: 1 to 1 GiB. A longer one is not
    /// sent; a peer that sends one loses its session. Default 4 MiB, because a message is held in
    /// memory whole.
    max_message: usize;
    /// How many events may wait for one subscriber, at least 1; beyond that the oldest are lost.
    /// Default 256.
    event_queue: usize;
    /// The shortest and the longest wait before a lost peer is dialled again. If this is set, every
    /// peer that we dialled is dialled again when it is lost. By default only those of
    /// [`PeerStore::keep`](super::PeerStore::keep) are, with waits from 100 ms to 5 s. The shortest is
    /// at least 1 ms; a longest below it means that the waits do not grow.
    reconnect: Option<(Duration, Duration)>;
}

impl PeerConfigBuilder {
    /// Checks every value.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] naming the first value that is out of its range.
    pub fn build(self) -> Result<PeerConfig, ConfigError> {
        let mut c = self.config;
        let reconnect = c.reconnect.iter_mut().flat_map(|(min, max)| [min, max]);
        let times = [&mut c.handshake_timeout, &mut c.dial_timeout, &mut c.close_timeout];
        for time in times.into_iter().chain(reconnect) {
            *time = (*time).min(FOREVER);
        }
        let checks = [
            ("token", c.token.len() <= 32 << 10, "at most 32768"),
            ("sessions_per_peer", c.sessions_per_peer >= 1, "at least 1"),
            ("max_peers", c.max_peers >= 1, "at least 1"),
            ("max_handshakes", c.max_handshakes >= 1, "at least 1"),
            ("handshake_timeout", !c.handshake_timeout.is_zero(), "above 0"),
            ("dial_timeout", !c.dial_timeout.is_zero(), "above 0"),
            ("out_queue", c.out_queue >= 1, "at least 1"),
            ("max_message", (1..=1 << 30).contains(&c.max_message), "1 to 1073741824"),
            ("event_queue", c.event_queue >= 1, "at least 1"),
            ("reconnect", c.reconnect.is_none_or(|(min, _)| min >= SHORTEST), "at least 1 ms"),
        ];
        match checks.into_iter().find(|(_, holds, _)| !holds) {
            Some((field, _, range)) => Err(ConfigError::new(field, range)),
            None => Ok(c),
        }
    }
}
