//! The receiving side of an exchange, and how one begins.

use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::{Decoder, ExchangeError, Malformed, Message, outgoing::Outgoing};
use crate::{Session, proto::Slot, session::Opening, stream::Source};

/// Which end of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Opener,
    Acceptor,
}

/// Opens a stream with a message, and tells whether all of it is staged. What is opened has to be
/// [held](Session::hold). The error says whether something was sent: at a timeout there was no
/// stream yet.
#[inline]
pub(crate) fn poll_open(
    session: &Session,
    opening: &mut Opening<'_>,
    outgoing: &mut Outgoing,
    cx: &Context<'_>,
) -> Poll<Result<(Slot, bool), ExchangeError>> {
    let (mut head, body, finish) = outgoing.parts();
    let opened = ready!(opening.poll(cx, &mut head, body, finish));
    let left = head.len();
    outgoing.head_left(left);
    Poll::Ready(match opened {
        None => Err(ExchangeError::Timeout),
        Some(Err(error)) => Err(ExchangeError::Open(error)),
        Some(Ok((slot, Ok(staged)))) => Ok((slot, staged && !outgoing.next_fragment())),
        Some(Ok((slot, Err(error)))) => {
            let sent = session.hold(slot).id().is_some();
            Err(ExchangeError::of_stream(error, true, sent))
        }
    })
}

/// The receiving side of an exchange, apart from its stream.
#[derive(Debug)]
pub(crate) struct Reader {
    decoder: Decoder,
    input: Bytes,
    /// Nothing was received yet.
    untouched: bool,
}

impl Reader {
    /// For messages up to `max_message` to the one who plays `role`.
    pub(crate) fn new(max_message: usize, role: Role) -> Self {
        Self {
            decoder: Decoder::new(max_message, role == Role::Acceptor),
            input: Bytes::new(),
            untouched: true,
        }
    }

    /// What was received and not decoded, to begin with.
    #[cfg(feature = "rpc")]
    pub(crate) fn feed(&mut self, input: Bytes) {
        self.untouched &= input.is_empty();
        self.input = input;
    }

    pub(crate) const fn is_untouched(&self) -> bool {
        self.untouched
    }

    /// The time to live that came with the first message, in milliseconds; once.
    pub(crate) const fn take_ttl(&mut self) -> Option<u32> {
        self.decoder.take_ttl()
    }

    pub(crate) fn poll_next(
        &mut self,
        source: &mut impl Source,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Message>, ExchangeError>> {
        loop {
            if !self.input.is_empty() {
                match self.decoder.decode_into(&mut self.input, source.memory()) {
                    Ok(None) => {}
                    Ok(message) => return Poll::Ready(Ok(message)),
                    Err(error) => return Poll::Ready(Err(ExchangeError::Malformed(error))),
                }
            }
            match ready!(source.poll_take(cx)) {
                Ok(Some(chunk)) => {
                    self.untouched = false;
                    self.input = chunk;
                }
                Ok(None) if self.decoder.at_boundary() => return Poll::Ready(Ok(None)),
                Ok(None) => {
                    return Poll::Ready(Err(ExchangeError::Malformed(Malformed::CutShort)));
                }
                Err(error) => {
                    let sent = source.is_sent();
                    let error = ExchangeError::of_stream(error, self.untouched, sent);
                    return Poll::Ready(Err(error));
                }
            }
        }
    }
}
