//! What may go wrong between peers.

use std::{error::Error, fmt, io, num::NonZeroU8, ops::Deref, sync::Arc};

use super::PeerId;
use crate::SessionError;

/// Why there is no session with a peer. It can be cloned, because one attempt answers everyone who
/// waits for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address is malformed, or no transport has its scheme.
    Address(String),
    /// No address of the peer is known.
    UnknownPeer,
    /// No connection could be made.
    Dial(IoError),
    /// The address could not be listened on.
    Bind(IoError),
    /// The connection or the handshake was not made in time.
    TimedOut,
    /// The session ended during the handshake.
    Session(SessionError),
    /// What came is not a handshake.
    Malformed,
    /// The peer refused us.
    Refused {
        /// Why it did.
        code: RefusalCode,
        /// The same in words.
        message: String,
    },
    /// Our [`Verify`](super::Verify) refused the peer, and why.
    NotVerified(String),
    /// A peer with another id than expected answered, or one with our own.
    OtherPeer(PeerId),
    /// `max_peers` peers have a session already.
    TooMany,
    /// The store is shut down.
    Closed,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(why) => write!(f, "the address cannot be used: {why}"),
            Self::UnknownPeer => f.write_str("no address is known for the peer"),
            Self::Dial(_) => f.write_str("no connection could be made"),
            Self::Bind(_) => f.write_str("the address could not be listened on"),
            Self::TimedOut => f.write_str("no connection or handshake in time"),
            Self::Session(_) => f.write_str("the session ended during the handshake"),
            Self::Malformed => f.write_str("what came is no handshake of a peer"),
            Self::Refused { code, message } => write!(f, "the peer refused: {code}: {message}"),
            Self::NotVerified(why) => write!(f, "the peer was not verified: {why}"),
            Self::OtherPeer(id) => write!(f, "another peer answered: {id}"),
            Self::TooMany => f.write_str("there are as many peers as allowed"),
            Self::Closed => f.write_str("the store is shut down"),
        }
    }
}

impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Session(error) => Some(error),
            Self::Dial(error) | Self::Bind(error) => Some(&**error),
            _ => None,
        }
    }
}

impl From<SessionError> for ConnectError {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

impl ConnectError {
    /// Whether another attempt would end in the same way unless someone changes something: what is
    /// at the address, or what the two think of each other.
    pub(super) const fn is_lasting(&self) -> bool {
        match self {
            Self::Address(_) | Self::Malformed | Self::NotVerified(_) | Self::OtherPeer(_) => true,
            Self::Refused { code, .. } => matches!(
                code,
                RefusalCode::NotVerified | RefusalCode::Malformed | RefusalCode::SameId
            ),
            _ => false,
        }
    }
}

/// An [`io::Error`] that can be cloned, because one attempt answers everyone who waits for it, and
/// compared: two are equal if they are of one kind and say the same.
#[derive(Clone)]
pub struct IoError(Arc<io::Error>);

impl Deref for IoError {
    type Target = io::Error;

    fn deref(&self) -> &io::Error {
        &self.0
    }
}

impl From<io::Error> for IoError {
    fn from(error: io::Error) -> Self {
        Self(Arc::new(error))
    }
}

impl PartialEq for IoError {
    fn eq(&self, other: &Self) -> bool {
        self.kind() == other.kind() && self.to_string() == other.to_string()
    }
}

impl Eq for IoError {}

impl fmt::Debug for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a peer refused a handshake: a number on the wire (`spec.md §16.2`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalCode {
    /// It did not verify that we are who we say.
    NotVerified,
    /// It has `max_peers` peers already.
    TooMany,
    /// It is shutting down.
    Closed,
    /// Our handshake made no sense to it.
    Malformed,
    /// Our id is its own.
    SameId,
    /// Any other number. There is no 0: on the wire that is no refusal.
    Other(NonZeroU8),
}

impl RefusalCode {
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::NotVerified => 1,
            Self::TooMany => 2,
            Self::Closed => 3,
            Self::Malformed => 4,
            Self::SameId => 5,
            Self::Other(number) => number.get(),
        }
    }

    pub(crate) const fn from_number(number: NonZeroU8) -> Self {
        match number.get() {
            1 => Self::NotVerified,
            2 => Self::TooMany,
            3 => Self::Closed,
            4 => Self::Malformed,
            5 => Self::SameId,
            _ => Self::Other(number),
        }
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotVerified => f.write_str("not verified"),
            Self::TooMany => f.write_str("too many peers"),
            Self::Closed => f.write_str("shutting down"),
            Self::Malformed => f.write_str("malformed handshake"),
            Self::SameId => f.write_str("the same id"),
            Self::Other(number) => write!(f, "code {number}"),
        }
    }
}

/// Why a message did not arrive, or may not have.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// The queue was full, or others waited for a place in it.
    Full,
    /// There is no session with the peer, or there was none any more when the message's turn came.
    Disconnected,
    /// The session ended while the message was on its way: it may have arrived.
    Lost,
    /// The message, of so many bytes, is longer than `max_message`.
    TooLong(usize),
    /// The peer got the message and said that it failed, and why.
    Failed(String),
    /// No ack came in time. The message may have arrived.
    TimedOut,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the queue is full"),
            Self::Disconnected => f.write_str("there is no session with the peer"),
            Self::Lost => f.write_str("the session ended while the message was on its way"),
            Self::TooLong(len) => write!(f, "a message of {len} bytes is too long"),
            Self::Failed(why) => write!(f, "the peer failed at it: {why}"),
            Self::TimedOut => f.write_str("no ack in time"),
        }
    }
}

impl Error for SendError {}
