//! Errors, one type per operation.

use std::{fmt, io, sync::Arc};

use super::{
    message::Message,
    protocol::ProtocolId,
    wire::{HeaderError, MessageError},
};
use crate::transport::{AddressError, UnknownScheme};

/// Why a request or a message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// The socket or the context is closed.
    Closed,
    /// No pipe had room within the send timeout; the message was dropped.
    TimedOut,
    /// No pipe has room at present, and the call does not wait.
    WouldBlock,
    /// There is no pipe, and the option `fail_without_peers` is on.
    NoPeers,
    /// The context sent another request before a pipe took this one.
    Cancelled,
    /// The peer that the message goes to is not connected any more.
    PeerGone,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the socket or context is closed",
            Self::TimedOut => "no peer took the message in time",
            Self::WouldBlock => "no peer can take the message now",
            Self::NoPeers => "no peer is connected",
            Self::Cancelled => "another request took this one's place",
            Self::PeerGone => "the peer is gone",
        })
    }
}

impl std::error::Error for SendError {}

/// Why nothing was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvError {
    /// The socket or the context is closed.
    Closed,
    /// Nothing came within the receive timeout. The request that the call waited for is over.
    TimedOut,
    /// Nothing is there at present, and the call does not wait.
    WouldBlock,
    /// The context has no request to receive a reply for.
    NoRequest,
    /// Someone else receives on this context already.
    Busy,
    /// The context sent another request, or the pipe was lost and the request is not retried.
    Cancelled,
    /// The last pipe was lost, and the option `fail_without_peers` is on.
    NoPeers,
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the socket or context is closed",
            Self::TimedOut => "nothing came in time",
            Self::WouldBlock => "nothing is there now",
            Self::NoRequest => "there is no request to receive a reply for",
            Self::Busy => "someone else receives on this context",
            Self::Cancelled => "the request was cancelled",
            Self::NoPeers => "no peer is connected",
        })
    }
}

impl std::error::Error for RecvError {}

/// Why a request got no reply: it was not sent, or nothing was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// It never reached a pipe.
    Send(SendError),
    /// It reached a pipe, and may have reached a peer.
    Recv(RecvError),
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Send(_) => "the request was not sent",
            Self::Recv(_) => "the request got no reply",
        })
    }
}

impl std::error::Error for RequestError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(match self {
            Self::Send(error) => error,
            Self::Recv(error) => error,
        })
    }
}

impl From<RecvError> for RequestError {
    fn from(error: RecvError) -> Self {
        Self::Recv(error)
    }
}

impl From<SendError> for RequestError {
    fn from(error: SendError) -> Self {
        Self::Send(error)
    }
}

/// A message that was not sent, and why.
#[derive(Debug)]
pub struct SendMessageError {
    /// Why it was not sent.
    pub error: SendError,
    /// The message, as it was given.
    pub message: Message,
}

impl fmt::Display for SendMessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the message was not sent")
    }
}

impl std::error::Error for SendMessageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Why a connection did not become a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The peer's first bytes are not an SP header of version 0.
    Header(HeaderError),
    /// The peer speaks another protocol of the family.
    WrongProtocol {
        /// The protocol it speaks.
        peer: ProtocolId,
        /// The protocol it should speak.
        expected: ProtocolId,
    },
    /// The connection ended before the handshake did.
    Closed,
    /// The handshake took longer than `handshake_timeout`, or had to make room for a newer one.
    TimedOut,
    /// The connection failed.
    Io(io::ErrorKind),
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(error) => error.fmt(f),
            Self::WrongProtocol { peer, expected } => {
                write!(f, "the peer speaks {peer} and should speak {expected}")
            }
            Self::Closed => f.write_str("the connection ended in the handshake"),
            Self::TimedOut => f.write_str("the peer did not finish the handshake in time"),
            Self::Io(kind) => write!(f, "the connection failed in the handshake: {kind}"),
        }
    }
}

impl std::error::Error for HandshakeError {}

impl From<HeaderError> for HandshakeError {
    fn from(error: HeaderError) -> Self {
        Self::Header(error)
    }
}

/// Why a pipe was closed, or not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PipeError {
    /// The peer closed the connection between two messages.
    PeerClosed,
    /// The connection ended inside a message.
    Cut,
    /// The connection failed.
    Io(io::ErrorKind),
    /// The connection claimed more bytes than it was given.
    IoMisbehaved,
    /// The peer sent something that is not a message, or one that is too long.
    Message(MessageError),
    /// [`admit`](super::OptionsBuilder::admit) said no.
    Rejected,
    /// The socket has `max_pipes` already.
    TooManyPipes,
    /// It was closed from this side.
    Closed,
    /// Its task was dropped by the runtime.
    Dropped,
}

impl fmt::Display for PipeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PeerClosed => f.write_str("the peer closed the connection"),
            Self::Cut => f.write_str("the connection ended inside a message"),
            Self::Io(kind) => write!(f, "the connection failed: {kind}"),
            Self::IoMisbehaved => f.write_str("the IO object claimed more bytes than it was given"),
            Self::Message(error) => error.fmt(f),
            Self::Rejected => f.write_str("the pipe was not admitted"),
            Self::TooManyPipes => f.write_str("the socket has as many pipes as it may"),
            Self::Closed => f.write_str("the pipe was closed"),
            Self::Dropped => f.write_str("the runtime dropped the pipe's task"),
        }
    }
}

impl std::error::Error for PipeError {}

impl From<MessageError> for PipeError {
    fn from(error: MessageError) -> Self {
        Self::Message(error)
    }
}

/// Why an address cannot be dialled or listened on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum EndpointError {
    /// It is not of the form of an address.
    Address(AddressError),
    /// No transport has its scheme.
    Scheme(UnknownScheme),
    /// Its transport does not accept it.
    Invalid(Arc<io::Error>),
    /// The socket is closed.
    Closed,
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address(_) | Self::Invalid(_) => "the address is not valid",
            Self::Scheme(_) => "the address cannot be used here",
            Self::Closed => "the socket is closed",
        })
    }
}

impl std::error::Error for EndpointError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Address(error) => Some(error),
            Self::Scheme(error) => Some(error),
            Self::Invalid(error) => Some(error),
            Self::Closed => None,
        }
    }
}

impl From<AddressError> for EndpointError {
    fn from(error: AddressError) -> Self {
        Self::Address(error)
    }
}

/// Why dialling did not lead to a pipe.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum DialError {
    /// The address cannot be used.
    Endpoint(EndpointError),
    /// The dialer dials already.
    InUse,
    /// The dialer or the socket is closed.
    Closed,
    /// No connection could be made.
    Connect(Arc<io::Error>),
    /// Connecting or the handshake took too long.
    TimedOut,
    /// There was a connection, but the handshake failed.
    Handshake(HandshakeError),
    /// There was a handshake, but the pipe was not taken.
    Pipe(PipeError),
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Endpoint(_) => "could not dial",
            Self::InUse => "the dialer is in use",
            Self::Closed => "the dialer is closed",
            Self::Connect(_) => "could not connect",
            Self::TimedOut => "could not connect in time",
            Self::Handshake(_) => "the handshake failed",
            Self::Pipe(_) => "the pipe was not taken",
        })
    }
}

impl std::error::Error for DialError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Endpoint(error) => Some(error),
            Self::Connect(error) => Some(error),
            Self::Handshake(error) => Some(error),
            Self::Pipe(error) => Some(error),
            Self::InUse | Self::Closed | Self::TimedOut => None,
        }
    }
}

impl From<PipeError> for DialError {
    fn from(error: PipeError) -> Self {
        Self::Pipe(error)
    }
}

impl From<HandshakeError> for DialError {
    fn from(error: HandshakeError) -> Self {
        Self::Handshake(error)
    }
}

impl From<EndpointError> for DialError {
    fn from(error: EndpointError) -> Self {
        Self::Endpoint(error)
    }
}

/// Why listening did not begin.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ListenError {
    /// The address cannot be used.
    Endpoint(EndpointError),
    /// The listener listens already.
    InUse,
    /// The listener or the socket is closed.
    Closed,
    /// The address could not be taken.
    Bind(Arc<io::Error>),
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Endpoint(_) => "could not listen",
            Self::InUse => "the listener is in use",
            Self::Closed => "the listener is closed",
            Self::Bind(_) => "could not take the address",
        })
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Endpoint(error) => Some(error),
            Self::Bind(error) => Some(error),
            Self::InUse | Self::Closed => None,
        }
    }
}

impl From<EndpointError> for ListenError {
    fn from(error: EndpointError) -> Self {
        Self::Endpoint(error)
    }
}

/// Why a socket gave no further context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContextError {
    /// The socket has `max_contexts` already.
    TooMany,
    /// The socket is closed.
    Closed,
}

impl fmt::Display for ContextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooMany => "the socket has as many contexts as it may",
            Self::Closed => "the socket is closed",
        })
    }
}

impl std::error::Error for ContextError {}
