//! One call, on the side of the server.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};

use super::{
    Body, BoxError, Code, Request, Status,
    answer::{Link, Out, Watched, panicked},
    context::{Origin, Running},
    incoming::Incoming,
    layer::oneshot,
    message::Outcome,
    state::{Ending, ServerState},
    wire,
};
use crate::{
    Protocol, ResetCode, Stream, StreamError,
    exchange::{ExchangeConfig, ExchangeError, Kind, Message, Reader, Role},
    runtime::Runtime,
    stream::Source,
};

/// What the calls of a server have in common.
pub(crate) struct Shared<S> {
    pub(crate) service: S,
    pub(crate) exchange: ExchangeConfig,
    pub(crate) runtime: Runtime,
    pub(crate) state: Arc<ServerState>,
    pub(crate) request_timeout: Duration,
    pub(crate) let_cancelled_finish: bool,
    pub(crate) spawn_each: bool,
    pub(crate) max_sessions: usize,
}

/// A call that may run, and is counted as long as it does.
pub(crate) struct Permit<S> {
    shared: Arc<Shared<S>>,
    ending: Ending,
}

impl<S> Permit<S> {
    pub(super) fn new(shared: &Arc<Shared<S>>) -> Option<Self> {
        let welcome = shared.state.begin();
        welcome.then(|| Self { shared: shared.clone(), ending: Ending::Cancelled })
    }

    // Not an assignment where it is called: that drop reads what an async block assigns to what it
    // captured, the compiler does not see, and warns.
    const fn ends(&mut self, ending: Ending) {
        self.ending = ending;
    }
}

impl<S> Drop for Permit<S> {
    fn drop(&mut self) {
        self.shared.state.end(self.ending);
    }
}

/// Reads the request, runs the handler, and sends what it answers.
#[expect(clippy::manual_async_fn, reason = "an async function has room for its arguments twice")]
pub(crate) fn serve_call<S>(
    mut permit: Permit<S>,
    origin: Arc<Origin>,
    mut stream: Stream,
    preface: bool,
) -> impl Future<Output = ()>
where
    S: super::Serve,
    S::Error: Into<BoxError>,
{
    async move {
        let shared = &*permit.shared;
        let mut reader = Reader::new(shared.exchange.max_message, Role::Acceptor);
        // What is matched is not named: it would have room for itself as long as the call lasts.
        let mut body = match read_request(&mut stream, &mut reader, preface, shared).await {
            Ok(body) => body,
            Err(Unread::Silent(code)) => return stream.reset(code),
            Err(Unread::Bad(status)) => {
                let call = Running::new(origin, None);
                let mut out = Out::new(Link::Whole(stream), call, shared.exchange);
                permit.ends(out.end(Err(status)).await);
                return out.reset(ResetCode::PROTOCOL_ERROR);
            }
        };
        let deadline = reader.take_ttl().map(|ttl| {
            let arrived = stream.arrived().unwrap_or_else(|| shared.runtime.now());
            arrived + Duration::from_millis(ttl.into())
        });
        let call = Running::new(origin, deadline);
        let mut request = Request { call: Some(call.clone()), deadline, ..Request::default() };
        let streaming = match wire::decode_request(&mut body, &mut request) {
            Ok(streaming) => streaming,
            Err(error) => {
                let status = Status::new(Code::BadRequest, error.to_string());
                let mut out = Out::new(Link::Whole(stream), call, shared.exchange);
                permit.ends(out.end(Err(status)).await);
                return;
            }
        };
        let link = if streaming {
            let (read, write) = stream.into_split();
            request.body = Body::wire(Incoming::request(read, reader));
            Link::Write(write)
        } else {
            request.body = Body::single(body);
            Link::Whole(stream)
        };
        let mut out = Out::new(link, call, shared.exchange);
        let handler = pin!(oneshot(shared.service.clone(), request));
        let ending = run(shared, &mut out, handler).await;
        permit.ends(ending);
    }
}

/// Why there is no request.
enum Unread {
    /// Nobody to tell: reset with this code.
    Silent(ResetCode),
    Bad(Status),
}

impl Unread {
    /// Before the preface is there nobody knows what the stream is.
    fn late(preface: bool) -> Self {
        if preface {
            return Self::Silent(ResetCode::PREFACE_TIMEOUT);
        }
        Self::Bad(Status::new(Code::Timeout, "the request did not arrive in time"))
    }
}

/// The first message, within the time for that.
fn read_request<S>(
    stream: &mut Stream,
    reader: &mut Reader,
    preface: bool,
    shared: &Shared<S>,
) -> impl Future<Output = Result<Bytes, Unread>> {
    let mut preface = preface.then(Preface::default);
    let mut armed = false;
    // Where the stream's own deadline wakes nobody.
    let mut alarm = None;
    std::future::poll_fn(move |cx| {
        let found = poll_request(stream, reader, &mut preface, cx);
        if found.is_pending() && !armed {
            armed = true;
            let at = shared.runtime.after(shared.request_timeout);
            if stream.set_read_deadline(Some(at)).is_err() {
                alarm = Some(shared.runtime.sleep_until(at));
            }
        }
        match (&found, &mut alarm) {
            (Poll::Pending, Some(alarm)) => {
                alarm.as_mut().poll(cx).map(|()| Err(Unread::late(preface.is_some())))
            }
            (Poll::Ready(Ok(_)), _) if armed => {
                let _ = stream.set_read_deadline(None);
                found
            }
            _ => found,
        }
    })
}

/// The first bytes of a stream.
#[derive(Default)]
struct Preface {
    bytes: [u8; 4],
    len: usize,
}

impl Preface {
    /// Takes its bytes from the front of `chunk`; all of them once they are there.
    fn fill(&mut self, chunk: &mut Bytes) -> Option<[u8; 4]> {
        let missing = &mut self.bytes[self.len..];
        let len = missing.len().min(chunk.len());
        missing[..len].copy_from_slice(&chunk[..len]);
        chunk.advance(len);
        self.len += len;
        (self.len == 4).then_some(self.bytes)
    }
}

fn poll_request(
    stream: &mut Stream,
    reader: &mut Reader,
    preface: &mut Option<Preface>,
    cx: &mut TaskContext<'_>,
) -> Poll<Result<Bytes, Unread>> {
    while let Some(read) = preface {
        let mut chunk = match std::task::ready!(stream.poll_take(cx)) {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return Poll::Ready(Err(Unread::Silent(ResetCode::UNKNOWN_PROTOCOL))),
            Err(StreamError::TimedOut) => return Poll::Ready(Err(Unread::late(true))),
            Err(_) => return Poll::Ready(Err(Unread::Silent(ResetCode::CANCELLED))),
        };
        if let Some(named) = read.fill(&mut chunk) {
            if Protocol::parse(named) != Some(Protocol::RPC) {
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
        Err(ExchangeError::Timeout) => Err(Unread::late(false)),
        Err(_) => Err(Unread::Silent(ResetCode::CANCELLED)),
    })
}

async fn run<S>(
    shared: &Shared<S>,
    out: &mut Out,
    mut handler: Pin<&mut impl Future<Output = Outcome>>,
) -> Ending {
    // Calls of one message each way do not pay for the room that the others take.
    match std::future::poll_fn(|cx| out.watch(cx, |cx| handler.as_mut().poll(cx))).await {
        Watched::Done(Ok(response)) if response.body.is_streaming() => {
            Box::pin(out.stream(response)).await
        }
        // What failed may have failed for that.
        Watched::Done(Err(_)) if out.is_over().await => out.cancelled(),
        Watched::Done(outcome) => out.end(outcome).await,
        Watched::Panicked => {
            out.end(Err(panicked())).await;
            Ending::Panicked
        }
        Watched::Over(status) => Box::pin(give_up(shared, out, handler, status)).await,
    }
}

/// The caller is gone, or the time is up.
async fn give_up<S>(
    shared: &Shared<S>,
    out: &mut Out,
    mut handler: Pin<&mut impl Future<Output = Outcome>>,
    status: Option<Status>,
) -> Ending {
    out.cancelled();
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
    Ending::Cancelled
}
