//! One call, on the side of the server.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use futures::Stream as _;

use super::{
    Body, BoxError, Code, Connection, Context, Metadata, Request, Response, Status, Trailers,
    incoming::Incoming,
    layer::oneshot,
    message::Outcome,
    server::{Ending, Permit, Shared},
    wire::{Failure, RequestHead, ResponseHead},
};
use crate::{
    Protocol, ResetCode, Stream, StreamError,
    exchange::{Draft, ExchangeError, Kind, Message, Outgoing, Reader, Role, Source},
    stream::WriteHalf,
};

/// Reads the request, runs the handler, and sends what it answers.
pub(crate) async fn serve_call<S>(
    shared: Arc<Shared<S>>,
    connection: Arc<Connection>,
    mut stream: Stream,
    preface: bool,
    mut permit: Permit,
) where
    S: super::Serve,
    S::Error: Into<BoxError>,
{
    let mut reader = Reader::new(shared.exchange.max_message, Role::Acceptor);
    let asked = read_request(&mut stream, &mut reader, preface, &shared).await;
    let body = match asked {
        Ok(body) => body,
        Err(Unread::Silent(code)) => return stream.reset(code),
        Err(Unread::Bad(status)) => {
            let mut out = Out::new(stream, Context::none(&shared), shared.fragment());
            out.end(Err(status)).await;
            permit.end(Ending::Failed);
            return out.reset(ResetCode::PROTOCOL_ERROR);
        }
    };
    let deadline = reader.ttl().map(|ttl| shared.runtime.now() + Duration::from_millis(ttl.into()));
    let context = Context::new(connection, deadline, shared.runtime.clone(), shared.state.clone());
    let request = request_of(body, stream, reader, &context);
    let (mut out, request) = match request {
        (stream, Ok(request)) => (Out::of(stream, context, shared.fragment()), request),
        (stream, Err(status)) => {
            let mut out = Out::of(stream, context, shared.fragment());
            out.end(Err(status)).await;
            return permit.end(Ending::Failed);
        }
    };
    out.deadline = deadline;
    permit.end(run(&shared, &mut out, request).await);
}

/// Why there is no request.
enum Unread {
    /// Nobody to tell: reset with this code.
    Silent(ResetCode),
    Bad(Status),
}

/// The first message, within the time for that.
async fn read_request<S>(
    stream: &mut Stream,
    reader: &mut Reader,
    preface: bool,
    shared: &Shared<S>,
) -> Result<Bytes, Unread> {
    let mut preface = if preface { Some(Vec::new()) } else { None };
    let mut armed = false;
    let found = std::future::poll_fn(|cx| {
        let found = poll_request(stream, reader, &mut preface, cx);
        if found.is_pending() && !armed {
            armed = true;
            // Without a timer there is no such limit.
            let _ = stream.set_read_deadline(Some(shared.runtime.now() + shared.request_timeout));
        }
        found
    })
    .await;
    if armed && found.is_ok() {
        let _ = stream.set_read_deadline(None);
    }
    found
}

fn poll_request(
    stream: &mut Stream,
    reader: &mut Reader,
    preface: &mut Option<Vec<u8>>,
    cx: &mut TaskContext<'_>,
) -> Poll<Result<Bytes, Unread>> {
    while let Some(read) = preface {
        let chunk = match std::task::ready!(stream.poll_chunk(cx)) {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return Poll::Ready(Err(Unread::Silent(ResetCode::UNKNOWN_PROTOCOL))),
            Err(error) => {
                let late = error == StreamError::TimedOut;
                let code = if late { ResetCode::PREFACE_TIMEOUT } else { ResetCode::CANCELLED };
                return Poll::Ready(Err(Unread::Silent(code)));
            }
        };
        let mut chunk = chunk;
        while read.len() < 4 && chunk.has_remaining() {
            read.push(chunk.get_u8());
        }
        if let Ok(read) = <[u8; 4]>::try_from(&read[..]) {
            if Protocol::parse(read) != Some(Protocol::RPC) {
                return Poll::Ready(Err(Unread::Silent(ResetCode::UNKNOWN_PROTOCOL)));
            }
            reader.feed(chunk);
            *preface = None;
        }
    }
    Poll::Ready(match std::task::ready!(reader.poll_next(stream, cx)) {
        Ok(Some(Message { kind: Kind::Request, body })) => Ok(body),
        Ok(Some(_)) => Err(Unread::Bad(Status::new(Code::Protocol, "a request has to come first"))),
        Ok(None) => Err(Unread::Bad(Status::new(Code::Protocol, "the end without a request"))),
        Err(ExchangeError::Malformed(error)) => {
            Err(Unread::Bad(Status::new(Code::Protocol, error.to_string())))
        }
        Err(ExchangeError::Timeout) => {
            Err(Unread::Bad(Status::new(Code::Timeout, "the request did not arrive in time")))
        }
        Err(_) => Err(Unread::Silent(ResetCode::CANCELLED)),
    })
}

/// Where answers go: the stream, or what is left of it beside a body that streams.
enum Link {
    Whole(Stream),
    Write(WriteHalf),
    Gone,
}

fn request_of(
    mut bytes: Bytes,
    stream: Stream,
    reader: Reader,
    context: &Context,
) -> (Link, Result<Request, Status>) {
    let head = match RequestHead::decode(&mut bytes) {
        Ok(head) => head,
        Err(error) => {
            let status = Status::new(Code::BadRequest, error.to_string());
            return (Link::Whole(stream), Err(status));
        }
    };
    let (link, body) = if head.streaming {
        let (read, write) = stream.into_split();
        (Link::Write(write), Body::wire(Incoming::request(read, reader)))
    } else {
        (Link::Whole(stream), Body::single(bytes))
    };
    let RequestHead { service, method, content_type, accept, metadata, .. } = head;
    let (context, deadline) = (Some(context.clone()), context.deadline());
    let request = Request {
        service,
        method,
        content_type,
        accept,
        metadata,
        deadline,
        context,
        body,
        ..Request::default()
    };
    (link, Ok(request))
}

async fn run<S>(shared: &Shared<S>, out: &mut Out, request: Request) -> Ending
where
    S: super::Serve,
    S::Error: Into<BoxError>,
{
    let service = shared.service.clone();
    let mut handler = pin!(async move { oneshot(service, request).await });
    let told = std::future::poll_fn(|cx| out.watch(cx, |cx| handler.as_mut().poll(cx))).await;
    let outcome = match told {
        Watched::Done(outcome) => outcome,
        Watched::Panicked => {
            out.end(Err(panicked())).await;
            return Ending::Panicked;
        }
        Watched::Over(status) => {
            out.context.cancel();
            if shared.let_cancelled_finish {
                // Its answer has nobody to go to, and a panic nobody to be told.
                std::future::poll_fn(|cx| {
                    let polled = catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(cx)));
                    match polled {
                        Ok(Poll::Pending) => Poll::Pending,
                        Ok(Poll::Ready(_)) | Err(_) => Poll::Ready(()),
                    }
                })
                .await;
            }
            out.end_over(status).await;
            return Ending::Cancelled;
        }
    };
    match outcome {
        Ok(Response { content_type, headers, trailers, body }) if body.is_streaming() => {
            out.stream(content_type, headers, trailers, body).await
        }
        outcome => {
            let ending = if outcome.is_ok() { Ending::Done } else { Ending::Failed };
            out.end(outcome).await;
            ending
        }
    }
}

fn panicked() -> Status {
    Status::new(Code::Internal, "the handler panicked")
}

/// What came first.
enum Watched<T> {
    Done(T),
    Panicked,
    /// The caller is gone, without a status, or the deadline passed.
    Over(Option<Status>),
}

/// The sending side of a call.
struct Out {
    link: Link,
    context: Context,
    fragment: usize,
    deadline: Option<Instant>,
    armed: bool,
}

impl Out {
    fn new(stream: Stream, context: Context, fragment: usize) -> Self {
        Self::of(Link::Whole(stream), context, fragment)
    }

    const fn of(link: Link, context: Context, fragment: usize) -> Self {
        Self { link, context, fragment, deadline: None, armed: false }
    }

    fn reset(&mut self, code: ResetCode) {
        match std::mem::replace(&mut self.link, Link::Gone) {
            Link::Whole(stream) => stream.reset(code),
            Link::Write(half) => half.reset(code),
            Link::Gone => {}
        }
    }

    /// Polls something of the application's: it may panic, and is over when the call is.
    fn watch<T>(
        &mut self,
        cx: &mut TaskContext<'_>,
        mut poll: impl FnMut(&mut TaskContext<'_>) -> Poll<T>,
    ) -> Poll<Watched<T>> {
        match catch_unwind(AssertUnwindSafe(|| poll(cx))) {
            Ok(Poll::Ready(done)) => return Poll::Ready(Watched::Done(done)),
            Ok(Poll::Pending) => {}
            Err(_) => return Poll::Ready(Watched::Panicked),
        }
        self.arm();
        if self.poll_early_end(cx).is_ready() {
            return Poll::Ready(Watched::Over(None));
        }
        if self.context.time_left().is_some_and(|left| left.is_zero()) {
            return Poll::Ready(Watched::Over(Some(Status::timeout())));
        }
        Poll::Pending
    }

    /// Only what waits needs to be woken at the deadline.
    fn arm(&mut self) {
        let (false, Some(at)) = (self.armed, self.deadline) else { return };
        self.armed = true;
        let _ = match &mut self.link {
            Link::Whole(stream) => stream.set_write_deadline(Some(at)),
            Link::Write(half) => half.set_write_deadline(Some(at)),
            Link::Gone => Ok(()),
        };
    }

    fn poll_early_end(&mut self, cx: &TaskContext<'_>) -> Poll<StreamError> {
        match &mut self.link {
            Link::Whole(stream) => stream.poll_early_end_writing(cx),
            Link::Write(half) => half.poll_early_end_writing(cx),
            Link::Gone => Poll::Pending,
        }
    }

    /// Sends a message; false if it has nobody to go to, or no time.
    async fn send(&mut self, mut message: Outgoing) -> bool {
        std::future::poll_fn(|cx| {
            let staged = match &mut self.link {
                Link::Whole(stream) => message.poll(stream, cx),
                Link::Write(half) => message.poll(half, cx),
                Link::Gone => return Poll::Ready(false),
            };
            if staged.is_pending() {
                self.arm();
            }
            staged.map(|staged| staged.is_ok())
        })
        .await
    }

    /// The answer, or why there is none.
    async fn end(&mut self, outcome: Outcome) {
        let headers = self.context.take_headers();
        let (mut head, body) = match outcome {
            Ok(Response { content_type, headers, trailers, body }) => {
                let trailers = self.context.take_trailers(&trailers);
                let head = ResponseHead { content_type, headers, trailers, ..Default::default() };
                (head, body.into_single().unwrap_or_default())
            }
            Err(status) => {
                let trailers = self.context.take_trailers(&Trailers::default());
                (ResponseHead { trailers, ..failure(&status) }, Bytes::new())
            }
        };
        head.headers.extend(headers);
        let message = self.response(&head, body, true);
        if !self.send(message).await {
            self.reset(ResetCode::EXPIRED);
        }
    }

    /// The caller is gone; or it is the deadline, and the caller may wait a little longer.
    async fn end_over(&mut self, status: Option<Status>) {
        let Some(status) = status else { return self.reset(ResetCode::CANCELLED) };
        let message = self.response(&failure(&status), Bytes::new(), true);
        let mut message = message;
        let staged = std::future::poll_fn(|cx| {
            Poll::Ready(match &mut self.link {
                Link::Whole(stream) => message.poll(stream, cx).is_ready(),
                Link::Write(half) => message.poll(half, cx).is_ready(),
                Link::Gone => false,
            })
        });
        if !staged.await {
            self.reset(ResetCode::EXPIRED);
        }
    }

    /// A head, messages while there is room for them, and a last response.
    async fn stream(
        &mut self,
        content_type: super::Text,
        mut headers: Metadata,
        trailers: Trailers,
        body: Body,
    ) -> Ending {
        headers.extend(self.context.take_headers());
        let head = ResponseHead { streaming: true, content_type, headers, ..Default::default() };
        let first = self.response(&head, Bytes::new(), false);
        if !self.send(first).await {
            self.reset(ResetCode::EXPIRED);
            return self.cancelled();
        }
        let mut body = pin!(body);
        let failed = loop {
            let next = std::future::poll_fn(|cx| self.watch(cx, |cx| body.as_mut().poll_next(cx)));
            match next.await {
                Watched::Done(Some(Ok(message))) => {
                    let draft = Draft::new(&[], None, message.len().min(2_048));
                    let message = draft.end(Kind::Message, message, self.fragment, false);
                    if !self.send(message).await {
                        self.reset(ResetCode::EXPIRED);
                        return self.cancelled();
                    }
                }
                Watched::Done(None) => break None,
                Watched::Done(Some(Err(status))) => break Some((status, Ending::Failed)),
                Watched::Panicked => break Some((panicked(), Ending::Panicked)),
                Watched::Over(status) => {
                    self.context.cancel();
                    self.end_over(status).await;
                    return Ending::Cancelled;
                }
            }
        };
        let trailers = self.context.take_trailers(&trailers);
        let (head, ending) = match failed {
            None => (ResponseHead::default(), Ending::Done),
            Some((status, ending)) => (failure(&status), ending),
        };
        let last = self.response(&ResponseHead { trailers, ..head }, Bytes::new(), true);
        if !self.send(last).await {
            self.reset(ResetCode::EXPIRED);
        }
        ending
    }

    fn cancelled(&self) -> Ending {
        self.context.cancel();
        Ending::Cancelled
    }

    fn response(&self, head: &ResponseHead, body: Bytes, last: bool) -> Outgoing {
        let mut draft = Draft::new(&[], None, 64 + body.len().min(2_048));
        let before = draft.bytes.len();
        let mut body = body;
        if let Err(error) = head.encode(&mut draft.bytes) {
            draft.bytes.truncate(before);
            let status = Status::new(Code::Unexpected, format!("the answer: {error}"));
            // The status is short, and there is nothing else in it.
            let _ = failure(&status).encode(&mut draft.bytes);
            body = Bytes::new();
        }
        draft.end(Kind::Response, body, self.fragment, last)
    }
}

fn failure(status: &Status) -> ResponseHead {
    let message: String = status.message().chars().take(MAX_WORDS).collect();
    let failure =
        Failure { code: status.code(), message: message.into(), details: status.details().clone() };
    ResponseHead { failure: Some(failure), ..ResponseHead::default() }
}

/// Characters of a status message that travel: at most four bytes each, they always fit.
const MAX_WORDS: usize = 4_096;
