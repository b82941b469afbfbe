//! Errors, one type per operation, and the codes that travel in RST and GoAway frames.

use std::{fmt, io};

use crate::frame::Header;

/// Why a stream was reset (`spec.md §4.6`). Codes from `0x100` up are the application's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResetCode(
    /// The number on the wire.
    pub u32,
);

impl ResetCode {
    /// The peer gave no reason, or its implementation sends none.
    pub const NONE: Self = Self(0);
    /// The peer broke the protocol on this stream.
    pub const PROTOCOL_ERROR: Self = Self(1);
    /// The resetting side failed.
    pub const INTERNAL_ERROR: Self = Self(2);
    /// The stream never reached a handler; whatever it asked for was not done.
    pub const REFUSED: Self = Self(3);
    /// The resetting side lost interest: it dropped the stream without closing it.
    pub const CANCELLED: Self = Self(4);
    /// The receive budget was spent, and this stream held most of it.
    pub const OVERLOADED: Self = Self(5);
    /// The stream was not acknowledged in time.
    pub const OPEN_TIMEOUT: Self = Self(6);
    /// The stream stayed half closed for too long.
    pub const CLOSE_TIMEOUT: Self = Self(7);
    /// Data came after FIN.
    pub const STREAM_CLOSED: Self = Self(8);
    /// The preface named a protocol or version nobody serves.
    pub const UNKNOWN_PROTOCOL: Self = Self(9);
    /// The preface did not arrive in time.
    pub const PREFACE_TIMEOUT: Self = Self(10);
    /// The deadline of the exchange or call that the stream carried has passed.
    pub const EXPIRED: Self = Self(11);
}

impl fmt::Display for ResetCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NONE => f.write_str("no reason given"),
            Self::PROTOCOL_ERROR => f.write_str("protocol error"),
            Self::INTERNAL_ERROR => f.write_str("internal error"),
            Self::REFUSED => f.write_str("refused"),
            Self::CANCELLED => f.write_str("cancelled"),
            Self::OVERLOADED => f.write_str("overloaded"),
            Self::OPEN_TIMEOUT => f.write_str("not acknowledged in time"),
            Self::CLOSE_TIMEOUT => f.write_str("half closed for too long"),
            Self::STREAM_CLOSED => f.write_str("data after FIN"),
            Self::UNKNOWN_PROTOCOL => f.write_str("unknown protocol"),
            Self::PREFACE_TIMEOUT => f.write_str("preface did not arrive in time"),
            Self::EXPIRED => f.write_str("the time was used up"),
            Self(code) => write!(f, "code {code:#x}"),
        }
    }
}

/// Why a session ends, as a GoAway frame carries it (`spec.md §3.4`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GoAwayCode(
    /// The number on the wire.
    pub u32,
);

impl GoAwayCode {
    /// A normal end: no new streams, the open ones may finish.
    pub const NORMAL: Self = Self(0);
    /// The receiver of this code broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1);
    /// The sender of this code failed.
    pub const INTERNAL_ERROR: Self = Self(2);
}

impl fmt::Display for GoAwayCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NORMAL => f.write_str("normal termination"),
            Self::PROTOCOL_ERROR => f.write_str("protocol error"),
            Self::INTERNAL_ERROR => f.write_str("internal error"),
            Self(code) => write!(f, "code {code:#x}"),
        }
    }
}

/// A rule of the protocol that the peer broke (`spec.md §8.3`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Violation {
    /// A version other than 0.
    UnsupportedVersion(u8),
    /// A frame kind above 3.
    UnknownKind(u8),
    /// A stream frame on stream 0.
    ZeroStreamId,
    /// A SYN for an id of our own parity; two clients, or two servers, see this.
    WrongParity,
    /// A SYN for a live stream.
    DuplicateStream,
    /// Credit that lifts a window past `u32::MAX`.
    WindowOverflow,
    /// A body longer than the window it was sent into.
    WindowExceeded,
    /// More late bytes for finished streams than the peer can have had in flight.
    LateData,
    /// Data for a stream that was never opened.
    NeverOpened,
    /// More work than any honest peer causes.
    Flood(Flood),
}

/// What the peer sent too much of (`spec.md §9.2`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Flood {
    /// Frames that carry nothing.
    EmptyFrames,
    /// Streams opened and reset before they could be accepted.
    EarlyResets,
    /// Pings, while not reading the pongs.
    Pings,
    /// Streams beyond the limits, while not reading that they are refused.
    Refusals,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnsupportedVersion(version) => {
                write!(f, "unsupported version {version} (does the peer speak yamux?)")
            }
            Self::UnknownKind(kind) => write!(f, "unknown frame kind {kind}"),
            Self::ZeroStreamId => f.write_str("a stream frame on stream 0"),
            Self::WrongParity => {
                f.write_str("SYN with an id of our own parity (are both ends in the same role?)")
            }
            Self::DuplicateStream => f.write_str("SYN for a live stream"),
            Self::WindowOverflow => f.write_str("credit lifts the window past its maximum"),
            Self::WindowExceeded => f.write_str("data beyond the receive window"),
            Self::LateData => f.write_str("too much data for finished streams"),
            Self::NeverOpened => f.write_str("data for a stream that was never opened"),
            Self::Flood(Flood::EmptyFrames) => f.write_str("flood of frames that carry nothing"),
            Self::Flood(Flood::EarlyResets) => f.write_str("flood of streams reset before accept"),
            Self::Flood(Flood::Pings) => f.write_str("flood of pings"),
            Self::Flood(Flood::Refusals) => f.write_str("flood of streams beyond the limits"),
        }
    }
}

/// Why a session ended (`spec.md §8`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionError {
    /// The peer broke the protocol; it was told with GoAway(1).
    Violation {
        /// The rule.
        rule: Violation,
        /// The frame that broke it; `None` where its header could not be read.
        frame: Option<Header>,
    },
    /// The peer ended the session with a code other than 0.
    RemoteGoAway(GoAwayCode),
    /// The connection ended while streams were live, or in the middle of a frame.
    ConnectionLost,
    /// The IO object failed. [`Session::io_error`](crate::Session::io_error) has its own error.
    Io(io::ErrorKind),
    /// The peer answered no keepalive ping.
    KeepaliveTimeout,
    /// The IO took no byte for `write_timeout`.
    WriteStall,
    /// A stream was not acknowledged in time, and the configuration ends the session for that.
    OpenTimeout,
    /// This side aborted the session: [`Session::abort`](crate::Session::abort).
    Aborted(GoAwayCode),
    /// The driver was dropped before the session ended, or panicked.
    DriverDropped,
    /// The IO object claimed more bytes than it was given.
    IoMisbehaved,
    /// The session ended cleanly, and nothing more can be done with it.
    Closed,
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Violation { rule, frame: Some(frame) } => write!(f, "{rule} (frame: {frame})"),
            Self::Violation { rule, frame: None } => rule.fmt(f),
            Self::RemoteGoAway(code) => write!(f, "the peer ended the session: {code}"),
            Self::ConnectionLost => f.write_str("the connection was lost"),
            Self::Io(kind) => write!(f, "the connection failed: {kind}"),
            Self::KeepaliveTimeout => f.write_str("the peer answered no keepalive ping"),
            Self::WriteStall => f.write_str("the connection accepted no data for too long"),
            Self::OpenTimeout => f.write_str("the peer acknowledged a stream too late"),
            Self::Aborted(code) => write!(f, "aborted: {code}"),
            Self::DriverDropped => f.write_str("the driver was dropped"),
            Self::IoMisbehaved => f.write_str("the IO object claimed more bytes than it was given"),
            Self::Closed => f.write_str("the session is closed"),
        }
    }
}

impl std::error::Error for SessionError {}

impl From<SessionError> for io::Error {
    fn from(error: SessionError) -> Self {
        StreamError::Session(error).into()
    }
}

/// Why [`Session::open`](crate::Session::open) failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// The peer sent GoAway: it takes no new streams.
    RemoteGoAway,
    /// This side sent GoAway or is closing: it opens no new streams.
    Closing,
    /// Every stream id of this side was used; start a new session.
    StreamsExhausted,
    /// The session ended.
    Session(SessionError),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RemoteGoAway => f.write_str("the peer takes no new streams"),
            Self::Closing => f.write_str("the session is closing"),
            Self::StreamsExhausted => f.write_str("all stream ids are used"),
            Self::Session(_) => f.write_str("the session ended"),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Session(cause) => Some(cause),
            Self::RemoteGoAway | Self::Closing | Self::StreamsExhausted => None,
        }
    }
}

impl From<SessionError> for OpenError {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

impl From<OpenError> for io::Error {
    fn from(error: OpenError) -> Self {
        let kind = match error {
            OpenError::RemoteGoAway | OpenError::Closing => io::ErrorKind::NotConnected,
            OpenError::StreamsExhausted => io::ErrorKind::AddrNotAvailable,
            OpenError::Session(_) => io::ErrorKind::ConnectionAborted,
        };
        Self::new(kind, error)
    }
}

/// Why [`Session::try_open`](crate::Session::try_open) failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TryOpenError {
    /// As many streams wait for the peer's ACK as the ack backlog allows.
    AckBacklogFull,
    /// As many streams are live as `max_outbound_streams` allows.
    TooManyStreams,
    /// No stream can be opened on this session any more.
    Open(OpenError),
}

impl fmt::Display for TryOpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AckBacklogFull => f.write_str("too many streams wait for acknowledgement"),
            Self::TooManyStreams => f.write_str("too many streams are open"),
            Self::Open(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TryOpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Open(error) => error.source(),
            Self::AckBacklogFull | Self::TooManyStreams => None,
        }
    }
}

impl From<OpenError> for TryOpenError {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

/// Why [`Session::ping`](crate::Session::ping) failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PingError {
    /// No answer within `ping_timeout`. The session goes on.
    TimedOut,
    /// The session has no timer.
    Unsupported,
    /// The session ended.
    Session(SessionError),
}

impl fmt::Display for PingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("the peer did not answer in time"),
            Self::Unsupported => f.write_str("the session has no timer"),
            Self::Session(_) => f.write_str("the session ended"),
        }
    }
}

impl std::error::Error for PingError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Session(cause) => Some(cause),
            Self::TimedOut | Self::Unsupported => None,
        }
    }
}

impl From<SessionError> for PingError {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

/// Why reading from or writing to a stream failed. It sits inside the [`io::Error`]:
///
/// ```
/// use trunkline::{ResetCode, StreamError};
///
/// let error = std::io::Error::from(StreamError::Reset(ResetCode::CANCELLED));
/// assert_eq!(StreamError::of(&error), Some(StreamError::Reset(ResetCode::CANCELLED)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamError {
    /// The peer reset the stream.
    Reset(ResetCode),
    /// This side reset the stream.
    LocalReset(ResetCode),
    /// The session ended first.
    Session(SessionError),
    /// A deadline set on the stream passed. The stream stays usable.
    TimedOut,
    /// The peer did not acknowledge the stream in time; it was reset.
    OpenTimeout,
    /// The stream stayed half closed for too long; it was reset.
    CloseTimeout,
    /// The receive budget was spent and this stream held most of it; it was reset.
    Overloaded,
    /// The peer sent data after FIN; the stream was reset.
    DataAfterFin,
    /// This side closed its direction before it wrote.
    Finished,
}

impl StreamError {
    /// The stream error inside an [`io::Error`], if there is one.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref::<Self>().copied()
    }

    /// The [`io::ErrorKind`] of this error (`spec.md §11`).
    #[must_use]
    pub const fn kind(self) -> io::ErrorKind {
        match self {
            Self::Reset(_) => io::ErrorKind::ConnectionReset,
            Self::LocalReset(_) | Self::Session(_) => io::ErrorKind::ConnectionAborted,
            Self::Overloaded | Self::DataAfterFin => io::ErrorKind::ConnectionAborted,
            Self::TimedOut | Self::OpenTimeout | Self::CloseTimeout => io::ErrorKind::TimedOut,
            Self::Finished => io::ErrorKind::BrokenPipe,
        }
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset(code) => write!(f, "the peer reset the stream: {code}"),
            Self::LocalReset(code) => write!(f, "the stream was reset: {code}"),
            Self::Session(_) => f.write_str("the session ended"),
            Self::TimedOut => f.write_str("the deadline passed"),
            Self::OpenTimeout => f.write_str("the peer did not acknowledge the stream in time"),
            Self::CloseTimeout => f.write_str("the stream stayed half closed for too long"),
            Self::Overloaded => f.write_str("the stream was reset: receive budget spent"),
            Self::DataAfterFin => f.write_str("the stream was reset: data after FIN"),
            Self::Finished => f.write_str("write after close"),
        }
    }
}

impl std::error::Error for StreamError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Session(cause) => Some(cause),
            _ => None,
        }
    }
}

impl From<SessionError> for StreamError {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        Self::new(error.kind(), error)
    }
}
