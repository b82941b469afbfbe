//! Why an exchange failed, and the classes of failure that travel.

use std::{error::Error, fmt};

use super::{Kind, Malformed};
use crate::{OpenError, ResetCode, SessionError, StreamError};

/// A class of failure: a number on the wire (`spec.md §14.5`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// The deadline passed.
    Timeout,
    /// The caller lost interest.
    Cancelled,
    /// The other side has too much to do at present.
    Busy,
    /// The other side refuses to do this.
    Declined,
    /// The other side failed for another reason.
    Unexpected,
    /// The request makes no sense.
    BadRequest,
    /// The connection failed.
    Network,
    /// One side broke the protocol.
    Protocol,
    /// What was asked for is not there.
    NotFound,
    /// A defect: a handler panicked.
    Internal,
    /// Nobody who could do it can be reached at present.
    Unavailable,
    /// The service exists but has no such method.
    Unimplemented,
    /// The content type is not supported.
    UnsupportedType,
    /// The caller did not prove who it is.
    Unauthenticated,
    /// The caller is not allowed to do this.
    Forbidden,
    /// The request conflicts with the present state of what it is about.
    Conflict,
    /// Any other number; those from 128 up are the application's.
    Other(u8),
}

const NAMED: [(u8, Code, &str); 16] = [
    (1, Code::Timeout, "timeout"),
    (2, Code::Cancelled, "cancelled"),
    (3, Code::Busy, "busy"),
    (4, Code::Declined, "declined"),
    (5, Code::Unexpected, "unexpected error"),
    (6, Code::BadRequest, "bad request"),
    (7, Code::Network, "network error"),
    (8, Code::Protocol, "protocol error"),
    (9, Code::NotFound, "not found"),
    (10, Code::Internal, "internal error"),
    (11, Code::Unavailable, "unavailable"),
    (12, Code::Unimplemented, "unimplemented"),
    (13, Code::UnsupportedType, "unsupported content type"),
    (14, Code::Unauthenticated, "unauthenticated"),
    (15, Code::Forbidden, "forbidden"),
    (16, Code::Conflict, "conflict"),
];

impl Code {
    /// The code with this number; every number is one.
    #[must_use]
    pub fn from_number(number: u8) -> Self {
        let named = NAMED.iter().find(|(value, ..)| *value == number);
        named.map_or(Self::Other(number), |(_, code, _)| *code)
    }

    /// The number on the wire. 0 is success there, which is no code: [`Code::Other`] of 0 is sent
    /// as [`Code::Unexpected`].
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Other(0) => 5,
            Self::Other(number) => number,
            named => NAMED.iter().find(|(_, code, _)| *code == named).map_or(5, |found| found.0),
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(number) => write!(f, "code {number}"),
            named => {
                let found = NAMED.iter().find(|(_, code, _)| code == named);
                f.write_str(found.map_or("", |(.., name)| name))
            }
        }
    }
}

/// Why an exchange failed. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExchangeError {
    /// The deadline passed, or less than a millisecond was left of it: then nothing is sent.
    Timeout,
    /// One side gave the exchange up: mostly the other, or this one with one of two halves.
    Cancelled,
    /// The other side refused the exchange: it reached no handler.
    Refused,
    /// The stream could not be opened; nothing was sent.
    Open(OpenError),
    /// The session ended before anything was sent.
    NeverSent(SessionError),
    /// The session ended.
    Session(SessionError),
    /// The stream ended early for another reason.
    Stream(StreamError),
    /// The other side reported an error.
    Remote {
        /// The class.
        code: Code,
        /// In words.
        message: String,
    },
    /// What arrived is not a valid message; the exchange was reset.
    Malformed(Malformed),
    /// The message that arrived is of another kind than the one waited for. It is not lost:
    /// [`Exchange::recv`](super::Exchange::recv) returns it.
    UnexpectedKind(Kind),
    /// The message, of so many bytes, is longer than `max_message`; nothing of it was sent.
    TooLarge(usize),
    /// A message was to be sent after the last one.
    Finished,
    /// The other side finished without the message that was waited for.
    Ended,
    /// The opener waited for a message before it had sent one: there is nobody yet to answer.
    NothingSent,
    /// The set takes no more exchanges.
    SetClosed,
    /// The set has as many exchanges as its limit.
    SetFull,
    /// The session has no timer, so there can be no deadline.
    NoTimer,
    /// The set ended all its exchanges, with this code.
    Failed(Code),
}

impl ExchangeError {
    /// The class of the failure.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Timeout => Code::Timeout,
            Self::Cancelled => Code::Cancelled,
            Self::Refused | Self::SetFull => Code::Busy,
            Self::Open(_) | Self::NeverSent(_) | Self::Session(_) => Code::Network,
            Self::Stream(StreamError::Reset(code) | StreamError::LocalReset(code)) => {
                of_reset(*code)
            }
            Self::Stream(StreamError::Overloaded) => Code::Busy,
            Self::Stream(StreamError::DataAfterFin) | Self::Malformed(_) => Code::Protocol,
            Self::Stream(_) => Code::Network,
            Self::Remote { code, .. } | Self::Failed(code) => *code,
            Self::UnexpectedKind(_) | Self::Ended => Code::Protocol,
            Self::TooLarge(_) | Self::Finished | Self::NothingSent => Code::BadRequest,
            Self::SetClosed | Self::NoTimer => Code::Declined,
        }
    }

    /// Whether it is certain that the exchange reached no handler on the other side: nothing of it
    /// was sent, or it was refused before it was accepted (`spec.md §4.6.3`).
    #[must_use]
    pub const fn reached_nobody(&self) -> bool {
        matches!(
            self,
            Self::Refused
                | Self::Open(_)
                | Self::NeverSent(_)
                | Self::TooLarge(_)
                | Self::NothingSent
                | Self::SetClosed
                | Self::SetFull
                | Self::NoTimer
        )
    }

    /// What a failed read or write means. `untouched`: nothing was received, so that a refusal
    /// can be believed; `sent`: the stream has an id.
    pub(crate) fn of_stream(error: StreamError, untouched: bool, sent: bool) -> Self {
        match error {
            StreamError::Reset(ResetCode::REFUSED) if untouched => Self::Refused,
            StreamError::Reset(ResetCode::CANCELLED)
            | StreamError::LocalReset(ResetCode::CANCELLED) => Self::Cancelled,
            StreamError::Reset(ResetCode::EXPIRED)
            | StreamError::LocalReset(ResetCode::EXPIRED)
            | StreamError::TimedOut => Self::Timeout,
            StreamError::Session(error) if !sent => Self::NeverSent(error),
            StreamError::Session(error) => Self::Session(error),
            StreamError::Finished => Self::Finished,
            other => Self::Stream(other),
        }
    }
}

/// Whichever side it came from (`spec.md §14.5.3`).
const fn of_reset(code: ResetCode) -> Code {
    match code {
        ResetCode::CANCELLED => Code::Cancelled,
        ResetCode::EXPIRED => Code::Timeout,
        ResetCode::PROTOCOL_ERROR | ResetCode::STREAM_CLOSED => Code::Protocol,
        ResetCode::REFUSED | ResetCode::OVERLOADED => Code::Busy,
        ResetCode::UNKNOWN_PROTOCOL | ResetCode::PREFACE_TIMEOUT => Code::Declined,
        ResetCode::OPEN_TIMEOUT | ResetCode::CLOSE_TIMEOUT => Code::Network,
        _ => Code::Unexpected,
    }
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("the deadline passed"),
            Self::Cancelled => f.write_str("the exchange was given up"),
            Self::Refused => f.write_str("refused: the other side takes no more"),
            Self::Open(_) => f.write_str("no stream could be opened"),
            Self::NeverSent(_) => f.write_str("the session ended before anything was sent"),
            Self::Session(_) => f.write_str("the session ended"),
            Self::Stream(_) => f.write_str("the stream ended early"),
            Self::Remote { code, message } if message.is_empty() => code.fmt(f),
            Self::Remote { code, message } => write!(f, "{code}: {message}"),
            Self::Malformed(_) => f.write_str("what arrived is no message"),
            Self::UnexpectedKind(kind) => write!(f, "a message of another kind: {kind:?}"),
            Self::TooLarge(len) => write!(f, "a message of {len} bytes is too large to send"),
            Self::Finished => f.write_str("nothing can follow the last message"),
            Self::Ended => f.write_str("the other side finished without an answer"),
            Self::NothingSent => f.write_str("nothing was sent yet, and the opener comes first"),
            Self::SetClosed => f.write_str("the set takes no more exchanges"),
            Self::SetFull => f.write_str("the set has as many exchanges as it may"),
            Self::NoTimer => f.write_str("the session has no timer, so there is no deadline"),
            Self::Failed(code) => write!(f, "all exchanges were ended: {code}"),
        }
    }
}

impl Error for ExchangeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Open(cause) => Some(cause),
            Self::NeverSent(cause) | Self::Session(cause) => Some(cause),
            Self::Stream(cause) => Some(cause),
            Self::Malformed(cause) => Some(cause),
            _ => None,
        }
    }
}

impl From<OpenError> for ExchangeError {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

impl From<Malformed> for ExchangeError {
    fn from(error: Malformed) -> Self {
        Self::Malformed(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_a_code_and_goes_back_to_it() {
        for number in 1..=255 {
            assert_eq!(Code::from_number(number).number(), number);
            assert!(!Code::from_number(number).to_string().is_empty());
        }
    }
}
