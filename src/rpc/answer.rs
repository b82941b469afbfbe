//! The answer to a call, on its way to the caller.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, ready},
};

use bytes::Bytes;
use futures::Stream as _;

use super::{
    Code, Response, Status, Trailers,
    context::Running,
    message::Outcome,
    state::Ending,
    wire::{Failure, ResponseHead},
};
use crate::{
    ResetCode, Stream, StreamError,
    exchange::{ExchangeConfig, Kind, Outgoing},
    runtime::BoxFuture,
    stream::{Sink, WriteHalf},
};

/// Where answers go: the stream, or what is left of it beside a body that streams.
pub(super) enum Link {
    Whole(Stream),
    Write(WriteHalf),
    Gone,
}

impl Sink for Link {
    fn poll_stage(
        &mut self,
        cx: &mut TaskContext<'_>,
        head: &mut &[u8],
        body: &mut Bytes,
        finish: bool,
    ) -> Poll<Result<(), StreamError>> {
        match self {
            Self::Whole(stream) => stream.poll_stage(cx, head, body, finish),
            Self::Write(half) => half.poll_stage(cx, head, body, finish),
            Self::Gone => Poll::Ready(Err(StreamError::Finished)),
        }
    }
}

pub(super) fn panicked() -> Status {
    Status::new(Code::Internal, "the handler panicked")
}

/// What came first.
pub(super) enum Watched<T> {
    Done(T),
    Panicked,
    /// The caller is gone, without a status, or the deadline passed.
    Over(Option<Status>),
}

/// The sending side of a call.
pub(super) struct Out {
    link: Link,
    call: Arc<Running>,
    limits: ExchangeConfig,
    /// What is being sent.
    message: Outgoing,
    armed: bool,
    /// Where the stream's own deadline wakes nobody.
    alarm: Option<BoxFuture>,
}

impl Out {
    pub(super) const fn new(link: Link, call: Arc<Running>, limits: ExchangeConfig) -> Self {
        Self { link, call, limits, message: Outgoing::new(), armed: false, alarm: None }
    }

    pub(super) fn reset(&mut self, code: ResetCode) {
        match std::mem::replace(&mut self.link, Link::Gone) {
            Link::Whole(stream) => stream.reset(code),
            Link::Write(half) => half.reset(code),
            Link::Gone => {}
        }
    }

    /// Polls something of the application's: it may panic, and is over when the call is.
    pub(super) fn watch<T>(
        &mut self,
        cx: &mut TaskContext<'_>,
        mut poll: impl FnMut(&mut TaskContext<'_>) -> Poll<T>,
    ) -> Poll<Watched<T>> {
        match catch_unwind(AssertUnwindSafe(|| poll(cx))) {
            Ok(Poll::Ready(done)) => return Poll::Ready(Watched::Done(done)),
            Ok(Poll::Pending) => {}
            Err(_) => return Poll::Ready(Watched::Panicked),
        }
        let late = self.poll_deadline(cx).is_ready();
        if self.poll_early_end(cx).is_ready() {
            return Poll::Ready(Watched::Over(None));
        }
        if late || self.call.is_late() {
            return Poll::Ready(Watched::Over(Some(Status::timeout())));
        }
        Poll::Pending
    }

    /// Whether the caller is gone: what failed may have failed for that.
    pub(super) async fn is_over(&mut self) -> bool {
        std::future::poll_fn(|cx| Poll::Ready(self.poll_early_end(cx).is_ready())).await
    }

    /// Only what waits needs to be woken at the deadline. Ready where it passed and the stream,
    /// without a timer, does not know.
    fn poll_deadline(&mut self, cx: &mut TaskContext<'_>) -> Poll<()> {
        if let (false, Some(at)) = (self.armed, self.call.deadline()) {
            self.armed = true;
            let set = match &mut self.link {
                Link::Whole(stream) => stream.set_write_deadline(Some(at)),
                Link::Write(half) => half.set_write_deadline(Some(at)),
                Link::Gone => Ok(()),
            };
            if set.is_err() {
                self.alarm = Some(self.call.server().sleep_until(at));
            }
        }
        let Some(alarm) = &mut self.alarm else { return Poll::Pending };
        ready!(alarm.as_mut().poll(cx));
        self.alarm = None;
        Poll::Ready(())
    }

    fn poll_early_end(&mut self, cx: &TaskContext<'_>) -> Poll<StreamError> {
        match &mut self.link {
            Link::Whole(stream) => stream.poll_early_end_writing(cx),
            Link::Write(half) => half.poll_early_end_writing(cx),
            Link::Gone => Poll::Pending,
        }
    }

    /// Sends the message; false if it had nobody to go to, or no time, and the call is over.
    fn send(&mut self) -> impl Future<Output = bool> {
        std::future::poll_fn(|cx| self.poll_send(cx))
    }

    fn poll_send(&mut self, cx: &mut TaskContext<'_>) -> Poll<bool> {
        let staged = self.message.poll(&mut self.link, cx);
        match staged {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => self.reset(ResetCode::EXPIRED),
            Poll::Pending => {
                ready!(self.poll_deadline(cx));
                self.reset(ResetCode::EXPIRED);
                return Poll::Ready(false);
            }
        }
        staged.map(|staged| staged.is_ok())
    }

    /// The answer, or why there is none.
    pub(super) fn end(&mut self, outcome: Outcome) -> impl Future<Output = Ending> {
        let ending = self.write_last(outcome);
        std::future::poll_fn(move |cx| self.poll_send(cx).map(|_| ending))
    }

    /// Writes the last message; what it means for the call.
    fn write_last(&mut self, outcome: Outcome) -> Ending {
        let ending = if outcome.is_ok() { Ending::Done } else { Ending::Failed };
        let headers = self.call.take_headers();
        let (mut head, body) = match outcome {
            Ok(Response { content_type, headers, trailers, body }) => {
                let trailers = self.call.take_trailers(&trailers);
                let head = ResponseHead { content_type, headers, trailers, ..Default::default() };
                (head, body.single_bytes().unwrap_or_default())
            }
            Err(status) => {
                let trailers = self.call.take_trailers(&Trailers::default());
                (ResponseHead { trailers, ..failure(&status) }, Bytes::new())
            }
        };
        head.headers.extend(headers);
        self.write_last_response(&head, body, ending)
    }

    /// The caller is gone; or it is the deadline, and the caller may wait a little longer.
    pub(super) async fn end_over(&mut self, status: Option<Status>) {
        let Some(status) = status else { return self.reset(ResetCode::CANCELLED) };
        self.write_refusal(&status);
        let staged = std::future::poll_fn(|cx| {
            Poll::Ready(self.message.poll(&mut self.link, cx).is_ready())
        });
        if !staged.await {
            self.reset(ResetCode::EXPIRED);
        }
    }

    /// A head, messages while there is room for them, and a last response.
    pub(super) async fn stream(&mut self, response: Response) -> Ending {
        let Response { content_type, mut headers, trailers, body } = response;
        headers.extend(self.call.take_headers());
        let head = ResponseHead { streaming: true, content_type, headers, ..Default::default() };
        if let Err(status) = self.write_response(&head, Bytes::new(), false) {
            return self.end(Err(status)).await;
        }
        if !self.send().await {
            return self.cancelled();
        }
        let mut body = pin!(body);
        let failed = loop {
            let next = std::future::poll_fn(|cx| self.watch(cx, |cx| body.as_mut().poll_next(cx)));
            match next.await {
                Watched::Done(Some(Ok(message))) => {
                    if message.len() > self.limits.max_message {
                        break Some((too_large(message.len()), Ending::Failed));
                    }
                    let draft = self.message.draft(&[], None, 0, message.len());
                    draft.end(Kind::Message, message, self.limits.fragment, false);
                    if !self.send().await {
                        return self.cancelled();
                    }
                }
                Watched::Done(None) => break None,
                Watched::Done(Some(Err(_))) if self.is_over().await => {
                    return self.cancelled();
                }
                Watched::Done(Some(Err(status))) => break Some((status, Ending::Failed)),
                Watched::Panicked => break Some((panicked(), Ending::Panicked)),
                Watched::Over(status) => {
                    self.call.cancel();
                    self.end_over(status).await;
                    return Ending::Cancelled;
                }
            }
        };
        let trailers = self.call.take_trailers(&trailers);
        let (head, ending) = match failed {
            None => (ResponseHead::default(), Ending::Done),
            Some((status, ending)) => (failure(&status), ending),
        };
        let head = ResponseHead { trailers, ..head };
        let ending = self.write_last_response(&head, Bytes::new(), ending);
        self.send().await;
        ending
    }

    pub(super) fn cancelled(&self) -> Ending {
        self.call.cancel();
        Ending::Cancelled
    }

    /// Writes the last message; if it is more than may be sent, what says so. How the call ended.
    fn write_last_response(&mut self, head: &ResponseHead, body: Bytes, ending: Ending) -> Ending {
        match self.write_response(head, body, true) {
            Ok(()) => ending,
            Err(status) => {
                self.write_refusal(&status);
                Ending::Failed
            }
        }
    }

    /// Writes a message of the answer; an error if it is more than may be sent.
    fn write_response(
        &mut self,
        head: &ResponseHead,
        body: Bytes,
        last: bool,
    ) -> Result<(), Status> {
        let mut draft = self.message.draft(&[], None, HEAD, body.len());
        let encoded = head.encode(draft.bytes());
        encoded.map_err(|error| Status::new(Code::Unexpected, format!("the answer: {error}")))?;
        let len = draft.len() + body.len();
        if len > self.limits.max_message {
            return Err(too_large(len));
        }
        draft.end(Kind::Response, body, self.limits.fragment, last);
        Ok(())
    }

    /// Writes a status of our own: short, and nothing else beside it.
    fn write_refusal(&mut self, status: &Status) {
        let mut draft = self.message.draft(&[], None, HEAD, 0);
        // So that it fits.
        let _ = failure(status).encode(draft.bytes());
        draft.end(Kind::Response, Bytes::new(), self.limits.fragment, true);
    }
}

fn too_large(len: usize) -> Status {
    Status::new(Code::Unexpected, format!("an answer of {len} bytes is too large"))
}

fn failure(status: &Status) -> ResponseHead {
    let message: String = status.message().chars().take(MAX_WORDS).collect();
    let failure =
        Failure { code: status.code(), message: message.into(), details: status.details().clone() };
    ResponseHead { failure: Some(Box::new(failure)), ..ResponseHead::default() }
}

/// Room for a head with a content type, and little else.
const HEAD: usize = 64;

/// Characters of a status message that travel: at most four bytes each, they always fit.
const MAX_WORDS: usize = 4_096;
