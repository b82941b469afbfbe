//! The limits and times of a store, by name.

use std::time::Duration;

use bytes::Bytes;

use crate::{Config, ConfigError, config::FOREVER};

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
    /// The configuration of the sessions.
    session: Config;
    /// What is sent with the own id in the handshake, for the other side's
    /// [`Verify`](super::Verify): at most 32 KiB. Default: nothing.
    token: Bytes;
    /// Sessions kept with one peer, at least 1. Default 1.
    sessions_per_peer: usize;
    /// Peers with a session, at least 1. One more is refused. Default 1,024: a descriptor each.
    max_peers: usize;
    /// Connections accepted whose handshake is not done, at least 1; one more is closed. Default
    /// 256: a second's worth.
    max_handshakes: usize;
    /// The time a handshake may take. Default 2 s.
    handshake_timeout: Duration;
    /// The time making a connection may take. Default 10 s.
    dial_timeout: Duration;
    /// How long closing waits for what is under way. Default 5 s.
    close_timeout: Duration;
    /// Messages that wait to be written to one peer, at least 1. Default 20.
    out_queue: usize;
    /// The longest message, in bytes, that is sent or received: 1 to 1 GiB. A longer one closes the
    /// peer. Default 4 MiB, for it is held in memory whole.
    max_message: usize;
    /// Events that wait for one subscriber, at least 1; beyond it loses the oldest. Default 256.
    event_queue: usize;
    /// The shortest and the longest wait before a peer that was lost is dialled again. With these,
    /// every peer that we dialled is; by default only those of
    /// [`PeerStore::keep`](super::PeerStore::keep), after 100 ms up to 5 s.
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
        ];
        match checks.into_iter().find(|(_, holds, _)| !holds) {
            Some((field, _, range)) => Err(ConfigError::new(field, range)),
            None => Ok(c),
        }
    }
}
