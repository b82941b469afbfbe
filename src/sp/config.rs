//! Every limit and time of a socket, by name.

use std::{fmt, sync::Arc, time::Duration};

use super::Pipe;
use crate::transport::Transports;

type Admit = Arc<dyn Fn(&Pipe) -> bool + Send + Sync>;

/// What a socket is told at its birth. Fields are public: change what you need.
///
/// ```
/// use std::time::Duration;
/// use trunkline::sp::SocketConfig;
///
/// let config = SocketConfig { retry: Some(Duration::from_secs(5)), ..SocketConfig::default() };
/// assert_eq!(config.max_message, Some(1 << 20));
/// ```
#[derive(Clone)]
pub struct SocketConfig {
    /// The longest message to receive, its words in front included, in bytes; 1 MiB. `None`: any
    /// length. Later pipes follow a change, those that are there do not.
    pub max_message: Option<usize>,
    /// Hops that a request may have taken, its id included; 8. From 1 to 255.
    pub ttl: u8,
    /// After how long without a reply a request is sent again; 60 s. `None`: never, and a request
    /// whose connection is lost is canceled.
    pub retry: Option<Duration>,
    /// How long a send may wait; no limit.
    pub send_timeout: Option<Duration>,
    /// How long a receive may wait; no limit. It ends the request.
    pub recv_timeout: Option<Duration>,
    /// A send returns at once: requests wait for a peer on their own, replies that find the queue
    /// of their peer full are dropped and counted.
    pub best_effort: bool,
    /// Requests fail with [`NoPeers`](super::RequestError::NoPeers) while there is no peer.
    pub fail_without_peers: bool,
    /// Messages that wait to be written on one pipe before the next must wait its turn; 128. The
    /// memory is theirs: this bounds their number.
    pub send_queue: usize,
    /// Requests that may be open at once on a socket, so that those nobody answers cannot fill
    /// memory; 65,536. One more fails with [`TooMany`](super::RequestError::TooMany).
    pub max_requests: usize,
    /// How long a close may wait for what was sent to be written; 1 s.
    pub linger: Duration,
    /// The pause before the first attempt to dial again; 100 ms.
    pub reconnect_min: Duration,
    /// The longest pause; 10 s, so that a peer that comes back is found soon. Zero: every pause
    /// is the first.
    pub reconnect_max: Duration,
    /// How long an attempt to connect may take; 10 s.
    pub connect_timeout: Duration,
    /// How long a handshake may take; 10 s.
    pub handshake_timeout: Duration,
    /// Handshakes that a listener has under way at a time, lest silent peers hold everything; 128.
    pub max_handshakes: usize,
    /// Where addresses lead.
    pub transports: Transports,
    /// Who may become a pipe; everyone.
    pub admit: Option<Admit>,
    /// Makes ids and pauses the same in every run, for tests.
    pub seed: Option<u64>,
}

impl Default for SocketConfig {
    fn default() -> Self {
        Self {
            max_message: Some(1 << 20),
            ttl: 8,
            retry: Some(Duration::from_secs(60)),
            send_timeout: None,
            recv_timeout: None,
            best_effort: false,
            fail_without_peers: false,
            send_queue: 128,
            max_requests: 65_536,
            linger: Duration::from_secs(1),
            reconnect_min: Duration::from_millis(100),
            reconnect_max: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            max_handshakes: 128,
            transports: Transports::default(),
            admit: None,
            seed: None,
        }
    }
}

impl fmt::Debug for SocketConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketConfig")
            .field("max_message", &self.max_message)
            .field("retry", &self.retry)
            .field("transports", &self.transports)
            .finish_non_exhaustive()
    }
}
