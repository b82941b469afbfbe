//! From a request to the connection and back: one attempt of a call.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Body, Calls, Code, Metadata, Request, Response, Status, Text, Trailers,
    body::Inner,
    incoming::{Half, Incoming, Until},
    message::Outcome,
    nodes::{Lease, Nodes},
    sender::Link,
    wire,
};
use crate::{
    Protocol, ResetCode, Session,
    exchange::{
        ExchangeConfig, ExchangeError, Kind, Message, Outgoing, Reader, Role, poll_open,
        protocol_error,
    },
    proto::Slot,
    runtime::{Runtime, within},
};

/// A place where a service can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What the connector dials.
    pub address: Text,
    /// What the resolver knows about it.
    pub metadata: Metadata,
}

impl Node {
    /// A node of which only the address is known.
    pub fn new(address: impl Into<Text>) -> Self {
        Self { address: address.into(), metadata: Metadata::new() }
    }
}

/// Carries single attempts of calls to servers; the innermost part of a
/// [`Client`](super::Client). Cheap to clone.
#[derive(Clone)]
pub struct Channel {
    shared: Arc<Shared>,
}

struct Shared {
    target: Target,
    config: ExchangeConfig,
    runtime: Runtime,
    cool_down: Duration,
    /// The last who came had to wait for a stream, so that the next looks before it writes.
    crowded: AtomicBool,
}

enum Target {
    One(Session),
    Many(Box<Nodes>),
}

impl Channel {
    pub(crate) fn over(session: Session, runtime: &Runtime, config: ExchangeConfig) -> Self {
        let target = Target::One(session);
        let cool_down = Duration::ZERO;
        Self {
            shared: Arc::new(Shared {
                target,
                config,
                runtime: runtime.clone(),
                cool_down,
                crowded: AtomicBool::new(false),
            }),
        }
    }

    pub(crate) fn among(nodes: Nodes, config: ExchangeConfig) -> Self {
        let (runtime, cool_down) = (nodes.runtime.clone(), nodes.cool_down);
        let target = Target::Many(Box::new(nodes));
        let crowded = AtomicBool::new(false);
        Self { shared: Arc::new(Shared { target, config, runtime, cool_down, crowded }) }
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.shared.runtime
    }

    async fn attempt(&self, request: &mut Request, now: Option<Instant>) -> Outcome {
        let shared = &*self.shared;
        let nodes = match &shared.target {
            Target::One(session) => {
                return self.round_trip(session, &mut None, request, now).await;
            }
            Target::Many(nodes) => nodes,
        };
        let expired = |at| shared.runtime.now() >= at;
        if request.deadline.is_some_and(expired) {
            return Err(Status::timeout().reaching_nobody());
        }
        let mut first = true;
        loop {
            let (session, lease) = nodes.lease(request).await?;
            let mut lease = Some(lease);
            let outcome = self.round_trip(&session, &mut lease, request, None).await;
            let (Some(lease), Err(status)) = (lease, &outcome) else { return outcome };
            let unsent = opens_no_more(status);
            if unsent || session.is_closed() {
                lease.forget_session(&session);
            }
            if !unsent && status.code() == Code::Network && !status.is_remote() {
                lease.cool_down(shared.runtime.after(shared.cool_down));
            }
            // A session that had ended unnoticed: nothing was sent, and a new one is as good.
            if !(unsent && std::mem::take(&mut first)) {
                return outcome;
            }
        }
    }

    /// The lease stays unless the response still needs it.
    #[expect(
        clippy::manual_async_fn,
        reason = "an async function has room for its arguments twice"
    )]
    fn round_trip(
        &self,
        session: &Session,
        lease: &mut Option<Lease>,
        request: &mut Request,
        now: Option<Instant>,
    ) -> impl Future<Output = Outcome> {
        async move {
            let Shared { config, runtime, .. } = &*self.shared;
            let mut outgoing = Outgoing::new();
            let deadline = request.deadline;
            // The session sees to the deadline, which costs nothing, if it has a timer.
            let untimed = deadline.filter(|_| session.timer().is_none());
            let opening = self.open(session, &mut outgoing, request, now);
            let opened = match untimed {
                None => opening.await,
                Some(at) => {
                    let opened = within(Box::pin(opening), at, runtime.clock()).await;
                    opened.unwrap_or_else(|| Err(Box::new(Status::timeout().reaching_nobody())))
                }
            };
            let (slot, mut staged) = opened.map_err(|status| *status)?;
            let mut call = Guard { half: Half::Whole(session.hold(slot)) };
            let mut reader = Reader::new(config.max_message, Role::Opener);
            // What opened the stream looks out for the answer already, if it had no more to do.
            let mut looked = staged && !request.body.is_streaming();
            if request.body.is_streaming() {
                // In its place stands what is never sent: from here on all counts as staged.
                let left = std::mem::replace(&mut outgoing, Outgoing::finish());
                self.bind(&mut call, (!staged).then_some(left), request);
                staged = true;
            }
            let mut alarm = None;
            // What is left of the request is staged while the response is awaited, which may come
            // first.
            let found = std::future::poll_fn(|cx| {
                if let (false, Half::Whole(stream)) = (staged, &mut call.half) {
                    // What ends writing early ends reading too, behind what arrived.
                    staged = outgoing.poll(stream, cx).is_ready();
                }
                let found = match std::mem::take(&mut looked) {
                    true => Poll::Pending,
                    false => reader.poll_next(&mut call.half, cx),
                };
                if let (Poll::Pending, Some(at)) = (&found, untimed) {
                    let alarm = alarm.get_or_insert_with(|| runtime.sleep_until(at));
                    return alarm.as_mut().poll(cx).map(|()| Err(ExchangeError::Timeout));
                }
                found
            })
            .await;
            let body = match found {
                Ok(Some(Message { kind: Kind::Response, body })) => body,
                Ok(Some(_)) => return Err(call.malformed("a message of an unexpected kind")),
                Ok(None) => return Err(call.malformed("the end without a response")),
                Err(ExchangeError::Malformed(error)) => {
                    return Err(call.malformed(&error.to_string()));
                }
                Err(ExchangeError::Timeout) => {
                    call.half.reset(ResetCode::EXPIRED);
                    return Err(Status::timeout());
                }
                Err(error) => return Err(error.into()),
            };
            let until = || deadline.map(|at| Until::new(at, runtime.clock(), session));
            call.response(body, reader, until, lease)
        }
    }

    /// Opens a stream with the first message, which is written when it can be sent: with the time
    /// that is left then, and without a buffer for each of those who wait. With less than a
    /// millisecond left nothing is sent, nor if no stream can be had. What goes wrong is boxed: the
    /// rest fits into registers.
    fn open(
        &self,
        session: &Session,
        outgoing: &mut Outgoing,
        request: &Request,
        mut now: Option<Instant>,
    ) -> impl Future<Output = Result<(Slot, bool), Box<Status>>> {
        let Shared { config, runtime, crowded, .. } = &*self.shared;
        let mut opening = session.opening(request.deadline);
        std::future::poll_fn(move |cx| {
            let crowd = crowded.load(Ordering::Relaxed);
            let waited = opening.waits();
            let now = now.take();
            if crowd && fits(request, config) {
                ready!(opening.poll_turn(cx));
            }
            let left = || {
                request
                    .deadline
                    .map(|at| at.saturating_duration_since(now.unwrap_or_else(|| runtime.now())))
            };
            if let Err(status) = write_first(outgoing, request, left(), config) {
                return Poll::Ready(Err(status));
            }
            let opened = poll_open(session, &mut opening, outgoing, cx);
            if opened.is_pending() {
                outgoing.discard();
            }
            if opened.is_pending() != crowd && !waited {
                crowded.store(!crowd, Ordering::Relaxed);
            }
            opened.map_err(|error| {
                Box::new(match error {
                    ExchangeError::Timeout => Status::timeout().reaching_nobody(),
                    error => error.into(),
                })
            })
        })
    }

    /// The messages of a streaming request go to the writing half from now on.
    fn bind(&self, call: &mut Guard, outgoing: Option<Outgoing>, request: &mut Request) {
        let Half::Whole(stream) = std::mem::replace(&mut call.half, Half::Gone) else { return };
        let (read, write) = stream.into_split();
        call.half = Half::Read(read);
        let Shared { config, runtime, .. } = &*self.shared;
        let ExchangeConfig { fragment, max_message, .. } = *config;
        let deadline = request.deadline.map(|at| (at, runtime.clock().clone()));
        let link = Link { half: write, outgoing, deadline, alarm: None, fragment, max_message };
        match request.body.take().inner {
            Inner::Slot(slot) => slot.bind(link),
            inner => self.shared.runtime.spawn(pump(link, Body { inner })),
        }
    }
}

/// Nothing was sent because the session takes no more calls.
fn opens_no_more(status: &Status) -> bool {
    let cause = status.inner().and_then(|inner| inner.downcast_ref::<ExchangeError>());
    matches!(cause, Some(ExchangeError::Open(_) | ExchangeError::NeverSent(_)))
}

fn write_first(
    outgoing: &mut Outgoing,
    request: &Request,
    left: Option<Duration>,
    config: &ExchangeConfig,
) -> Result<(), Box<Status>> {
    let ttl = match left {
        None => None,
        Some(left) => match u32::try_from(left.as_millis()).unwrap_or(u32::MAX) {
            0 => return Err(Box::new(Status::timeout().reaching_nobody())),
            ttl => Some(ttl),
        },
    };
    let payload = match &request.body.inner {
        Inner::Single(bytes) => bytes,
        _ => &Bytes::new(),
    };
    let streaming = request.body.is_streaming();
    let mut draft = outgoing.draft(&Protocol::RPC.preface(), ttl, HEAD, payload.len());
    let encoded = wire::encode_request(request, streaming, draft.bytes());
    encoded.map_err(|error| Box::new(Status::new(Code::BadRequest, error.to_string())))?;
    let payload = draft.take_from(payload);
    let len = draft.len() + payload.len();
    if len > config.max_message {
        let text = format!("a request of {len} bytes is too large");
        return Err(Box::new(Status::new(Code::BadRequest, text)));
    }
    draft.end(Kind::Request, payload, config.fragment, !streaming);
    Ok(())
}

/// Whether a request surely can be sent: what is wrong with one is told at once, without a wait.
fn fits(request: &Request, config: &ExchangeConfig) -> bool {
    let Request { service, method, content_type, accept, metadata, body, .. } = request;
    let texts = [service, method, content_type, accept].map(|text| text.bytes().len());
    let payload = if let Inner::Single(bytes) = &body.inner { bytes.len() } else { 0 };
    metadata.is_empty()
        && texts.iter().all(|len| *len <= 255)
        && texts.iter().sum::<usize>() + payload + HEAD <= config.max_message
}

/// Room for a head with two names, a content type, and little else.
const HEAD: usize = 96;

/// The stream of a call: dropped before the answer, it cancels the call.
struct Guard {
    half: Half,
}

impl Guard {
    fn malformed(&mut self, what: &str) -> Status {
        self.half.reset(ResetCode::PROTOCOL_ERROR);
        protocol_error(what).into()
    }

    fn response(
        &mut self,
        mut body: Bytes,
        reader: Reader,
        until: impl FnOnce() -> Option<Until>,
        lease: &mut Option<Lease>,
    ) -> Outcome {
        let head = match wire::ResponseHead::decode(&mut body) {
            Ok(head) => head,
            Err(error) => return Err(self.malformed(&error.to_string())),
        };
        let half = std::mem::replace(&mut self.half, Half::Gone);
        if head.streaming && head.failure.is_none() {
            let trailers = Trailers::later();
            let (trail, lease) = (trailers.clone(), lease.take());
            let incoming = Incoming::response(half, reader, trail, until(), lease);
            let (content_type, headers) = (head.content_type, head.headers);
            return Ok(Response { content_type, headers, trailers, body: Body::wire(incoming) });
        }
        if let Half::Read(half) = half {
            // Who still sends sends for nobody.
            half.reset(ResetCode::NONE);
        }
        match head.failure {
            Some(failure) => Err((*failure).into()),
            None => Ok(Response {
                content_type: head.content_type,
                headers: head.headers,
                trailers: Trailers::new(head.trailers),
                body: Body::single(body),
            }),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.half.reset(ResetCode::CANCELLED);
    }
}

/// Sends the messages of a body that is a stream of the application's, until the call is over.
async fn pump(mut link: Link, mut body: Body) {
    use futures::StreamExt;
    loop {
        let next = std::future::poll_fn(|cx| {
            if let Poll::Ready(next) = body.poll_next_unpin(cx) {
                return Poll::Ready(Some(next));
            }
            // Nobody waits for what a silent body may still say.
            link.half.poll_early_end_writing(cx).map(|_| None)
        });
        let mut message = match next.await {
            Some(Some(Ok(message))) => Some(message),
            Some(None) => break,
            Some(Some(Err(_))) => return link.half.reset(ResetCode::CANCELLED),
            None => return,
        };
        if std::future::poll_fn(|cx| link.poll_send(cx, &mut message)).await.is_err() {
            return;
        }
    }
    let _ = std::future::poll_fn(|cx| link.poll_finish(cx)).await;
}

impl Calls for Channel {
    fn call(&self, request: &mut Request) -> impl Future<Output = Outcome> + Send {
        self.attempt(request, None)
    }

    fn call_at(
        &self,
        request: &mut Request,
        now: Option<Instant>,
    ) -> impl Future<Output = Outcome> + Send {
        self.attempt(request, now)
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").finish_non_exhaustive()
    }
}
