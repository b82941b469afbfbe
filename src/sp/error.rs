//! What can go wrong, sorted by whom it concerns.

use std::{fmt, io};

use super::Protocol;
use crate::transport::AddressError;

/// Why a pipe ended, or never began. The socket goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PipeError {
    /// The peer does not speak SP (`spec.md §13.1.1`).
    NotSp,
    /// The peer speaks another version of SP.
    UnsupportedVersion(u8),
    /// The peer's protocol is not the counterpart of ours.
    WrongProtocol(Protocol),
    /// A message longer than `max_message` was announced.
    TooLong {
        /// As announced.
        length: u64,
        /// The limit.
        max: u64,
    },
    /// The handshake took longer than `handshake_timeout`.
    HandshakeTimeout,
    /// `admit` said no.
    NotAdmitted,
    /// The peer closed the connection.
    Closed,
    /// It was closed at this end.
    ClosedHere,
    /// The connection failed.
    Io(io::ErrorKind),
}

impl fmt::Display for PipeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSp => f.write_str("the peer does not speak SP"),
            Self::UnsupportedVersion(version) => write!(f, "the peer speaks SP version {version}"),
            Self::WrongProtocol(Protocol(number)) => {
                write!(f, "the peer's protocol {number:#06x} is not our counterpart")
            }
            Self::TooLong { length, max } => {
                write!(f, "the peer announced a message of {length} bytes, more than {max}")
            }
            Self::HandshakeTimeout => f.write_str("the handshake took too long"),
            Self::NotAdmitted => f.write_str("the socket does not admit this peer"),
            Self::Closed => f.write_str("the peer closed the connection"),
            Self::ClosedHere => f.write_str("the pipe was closed at this end"),
            Self::Io(kind) => write!(f, "the connection failed: {kind}"),
        }
    }
}

impl std::error::Error for PipeError {}

impl From<io::Error> for PipeError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Closed,
            kind => Self::Io(kind),
        }
    }
}

/// Why a socket cannot dial or listen.
#[derive(Debug)]
#[non_exhaustive]
pub enum SocketError {
    /// The address is none.
    Address(AddressError),
    /// No transport has this scheme.
    UnknownScheme(String),
    /// The transport failed: nobody there, address in use, no answer in time.
    Io(io::Error),
    /// There was a connection, but no handshake.
    Pipe(PipeError),
    /// The socket is closed.
    Closed,
}

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(error) => error.fmt(f),
            Self::UnknownScheme(scheme) => write!(f, "no transport for the scheme `{scheme}`"),
            Self::Io(_) => f.write_str("the transport failed"),
            Self::Pipe(_) => f.write_str("no handshake with the peer"),
            Self::Closed => f.write_str("the socket is closed"),
        }
    }
}

impl std::error::Error for SocketError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Pipe(error) => Some(error),
            Self::Address(_) | Self::UnknownScheme(_) | Self::Closed => None,
        }
    }
}

impl From<AddressError> for SocketError {
    fn from(error: AddressError) -> Self {
        Self::Address(error)
    }
}

impl From<io::Error> for SocketError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<PipeError> for SocketError {
    fn from(error: PipeError) -> Self {
        Self::Pipe(error)
    }
}

/// Why there is no reply, or no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    /// The deadline passed. The request, if there was one, is forgotten.
    TimedOut,
    /// Another request of the same context took its place, or the connection it went to was lost
    /// and retries are off.
    Canceled,
    /// Nothing was asked, so there is nothing to receive.
    NoRequest,
    /// There is no peer, and the socket is told to fail then.
    NoPeers,
    /// The peer that asked is gone.
    PeerGone,
    /// It cannot be done without waiting.
    WouldBlock,
    /// `max_requests` are open.
    TooMany,
    /// The socket or the context is closed.
    Closed,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TimedOut => "the deadline passed",
            Self::Canceled => "the request was canceled",
            Self::NoRequest => "nothing was asked",
            Self::NoPeers => "there is no peer",
            Self::PeerGone => "the peer that asked is gone",
            Self::WouldBlock => "it would have to wait",
            Self::TooMany => "too many requests are open",
            Self::Closed => "the socket is closed",
        })
    }
}

impl std::error::Error for RequestError {}
