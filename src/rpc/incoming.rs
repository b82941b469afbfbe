//! The messages of a streaming call, from the connection to who reads them.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    Status, Trailers,
    nodes::Lease,
    wire::{Failure, ResponseHead},
};
use crate::{
    ResetCode, Session, Stream, StreamError,
    exchange::{Code, ExchangeError, Kind, Message, Reader, Role, protocol_error},
    recycle::Memory,
    runtime::{BoxFuture, Timer},
    stream::{ReadHalf, Source},
};

/// Messages as they arrive; dropping it before their end cancels the call.
pub(crate) struct Incoming {
    half: Half,
    reader: Reader,
    /// Whose messages these are read by.
    role: Role,
    trailers: Trailers,
    until: Option<Until>,
    ended: bool,
    /// Keeps the call counted.
    _lease: Option<Lease>,
}

/// Until when the messages of an answer may come.
pub(crate) struct Until {
    at: Instant,
    clock: Arc<dyn Timer>,
    /// Where the stream's own deadline wakes nobody. Behind a lock that is never contended, so that
    /// bodies can be shared.
    alarm: Option<Mutex<BoxFuture>>,
}

impl Until {
    pub(crate) fn new(at: Instant, clock: &Arc<dyn Timer>, session: &Session) -> Self {
        let alarm = session.timer().is_none().then(|| Mutex::new(clock.sleep_until(at)));
        Self { at, clock: clock.clone(), alarm }
    }

    /// Whether it is too late; registers to be woken then.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.alarm {
            Some(alarm) => alarm.get_mut().as_mut().poll(cx),
            None if self.clock.now() >= self.at => Poll::Ready(()),
            None => Poll::Pending,
        }
    }
}

pub(crate) enum Half {
    Whole(Stream),
    Read(ReadHalf),
    Gone,
}

impl Source for Half {
    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamError>> {
        match self {
            Self::Whole(stream) => stream.poll_take(cx),
            Self::Read(half) => half.poll_take(cx),
            Self::Gone => Poll::Ready(Ok(None)),
        }
    }

    fn is_sent(&self) -> bool {
        true
    }

    fn memory(&self) -> Option<&Memory> {
        match self {
            Self::Whole(stream) => stream.memory(),
            Self::Read(half) => half.memory(),
            Self::Gone => None,
        }
    }
}

impl Half {
    pub(crate) fn reset(&mut self, code: ResetCode) {
        match std::mem::replace(self, Self::Gone) {
            Self::Whole(stream) => stream.reset(code),
            Self::Read(half) => half.reset(code),
            Self::Gone => {}
        }
    }
}

impl Incoming {
    /// The messages of a request.
    pub(crate) fn request(half: ReadHalf, reader: Reader) -> Self {
        Self {
            half: Half::Read(half),
            reader,
            role: Role::Acceptor,
            trailers: Trailers::default(),
            until: None,
            ended: false,
            _lease: None,
        }
    }

    /// The messages of a response, and its trailers.
    pub(crate) fn response(
        half: Half,
        reader: Reader,
        trailers: Trailers,
        until: Option<Until>,
        lease: Option<Lease>,
    ) -> Self {
        Self { half, reader, role: Role::Opener, trailers, until, ended: false, _lease: lease }
    }

    pub(crate) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.until.as_mut().is_some_and(|until| until.poll(cx).is_ready()) {
            return self.fail(ExchangeError::Timeout);
        }
        match ready!(self.reader.poll_next(&mut self.half, cx)) {
            Ok(Some(Message { kind: Kind::Message, body })) => Poll::Ready(Some(Ok(body))),
            Ok(None) if self.role == Role::Acceptor => {
                self.ended = true;
                Poll::Ready(None)
            }
            Ok(Some(Message { kind: Kind::Response, body })) if self.role == Role::Opener => {
                self.finish(body)
            }
            Ok(Some(_)) => self.fail(protocol_error("a message of an unexpected kind")),
            Ok(None) => self.fail(protocol_error("the end without a last response")),
            Err(error) => self.fail(error),
        }
    }

    /// The last response: a status, and trailers.
    fn finish(&mut self, mut body: Bytes) -> Poll<Option<Result<Bytes, Status>>> {
        let head = match ResponseHead::decode(&mut body) {
            Ok(head) => head,
            Err(error) => return self.fail(protocol_error(&error.to_string())),
        };
        self.ended = true;
        // A sender that still sends has nobody to listen any more.
        if let Half::Read(_) = self.half {
            self.half.reset(ResetCode::NONE);
        }
        self.half = Half::Gone;
        self.trailers.with(|trailers| trailers.extend(head.trailers));
        Poll::Ready(head.failure.map(|failure| Err((*failure).into())))
    }

    fn fail(&mut self, error: ExchangeError) -> Poll<Option<Result<Bytes, Status>>> {
        self.ended = true;
        self.half.reset(match error {
            ExchangeError::Timeout => ResetCode::EXPIRED,
            ExchangeError::Malformed(_) | ExchangeError::Remote { code: Code::Protocol, .. } => {
                ResetCode::PROTOCOL_ERROR
            }
            _ => ResetCode::CANCELLED,
        });
        Poll::Ready(Some(Err(error.into())))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.ended && self.role == Role::Opener {
            self.half.reset(ResetCode::CANCELLED);
        }
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        Self::from_remote(failure.code, failure.message, failure.details)
    }
}
