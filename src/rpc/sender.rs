//! The messages of a streaming request, from who makes them to the connection.

use std::{
    fmt,
    marker::PhantomData,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Instant,
};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Code, Status, Text, codec::Encode};
use crate::{
    ResetCode, StreamError,
    exchange::{ExchangeError, Kind, Outgoing},
    runtime::{BoxFuture, Timer},
    stream::WriteHalf,
    wait::wake,
};

/// Sends the messages of a streaming request.
///
/// Each [`send`](Self::send) waits until the connection and the other side have room. When all is
/// sent, call [`finish`](Self::finish). Dropping the sender before that cancels the call, so that a
/// task that is cancelled or panics never looks like a complete request.
pub struct Sender<T, K> {
    slot: Arc<Slot>,
    codec: K,
    content_type: Text,
    finished: bool,
    sends: PhantomData<fn(T)>,
}

impl<T, K> Sender<T, K> {
    pub(crate) fn new(codec: K, content_type: Text) -> (Self, SlotBody) {
        let slot = Arc::new(Slot { state: Mutex::new(State::default()) });
        let body = SlotBody { slot: slot.clone() };
        (Self { slot, codec, content_type, finished: false, sends: PhantomData }, body)
    }

    /// Sends a message.
    ///
    /// # Errors
    ///
    /// A [`Status`] if it cannot be encoded, or if the call is over; the answer may say why.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses the whole message if nothing of it was staged yet; otherwise the
    /// rest is sent before any later message.
    pub async fn send(&mut self, message: &T) -> Result<(), Status>
    where
        K: Encode<T>,
    {
        let encoded = self.codec.encode(&self.content_type, message);
        let mut bytes = Some(encoded.map_err(|error| {
            Status::new(Code::BadRequest, "the message cannot be encoded").with_source(error)
        })?);
        std::future::poll_fn(|cx| self.slot.poll_send(cx, &mut bytes)).await
    }

    /// Says that there are no more messages. The answer can still be read.
    ///
    /// # Errors
    ///
    /// A [`Status`] if the call is over.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the sender too, which cancels the call unless the end was staged.
    pub async fn finish(mut self) -> Result<(), Status> {
        std::future::poll_fn(|cx| self.slot.poll_finish(cx)).await?;
        self.finished = true;
        Ok(())
    }

    /// Whether messages have somewhere to go.
    pub(crate) fn poll_ready(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.slot.state.lock();
        match state.target {
            Target::None => {
                state.sender = Some(cx.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }
}

impl<T, K> Drop for Sender<T, K> {
    fn drop(&mut self) {
        if !self.finished {
            self.slot.abandon();
        }
    }
}

impl<T, K> fmt::Debug for Sender<T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("finished", &self.finished).finish_non_exhaustive()
    }
}

/// Between a sender and whatever takes its messages.
pub(crate) struct Slot {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    target: Target,
    sender: Option<Waker>,
    reader: Option<Waker>,
}

#[derive(Default)]
enum Target {
    /// Nobody takes them yet.
    #[default]
    None,
    /// The connection.
    Link(Box<Link>),
    /// Someone reads the body as a stream.
    Reader { item: Option<Bytes>, end: Option<Result<(), Status>> },
    /// Nobody will.
    Gone,
}

/// The writing half of a call.
pub(crate) struct Link {
    pub(crate) half: WriteHalf,
    pub(crate) outgoing: Option<Outgoing>,
    /// Of the call, until someone has waited for room.
    pub(crate) deadline: Option<(Instant, Arc<dyn Timer>)>,
    /// Where the stream's own deadline wakes nobody.
    pub(crate) alarm: Option<BoxFuture>,
    pub(crate) fragment: usize,
    pub(crate) max_message: usize,
}

impl Link {
    fn poll_settle(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        let Some(outgoing) = &mut self.outgoing else { return Poll::Ready(Ok(())) };
        let mut staged = outgoing.poll(&mut self.half, cx);
        if staged.is_pending() {
            // Whoever sends may look at nothing else, so the answer's deadline tells him nothing.
            if let Some((at, clock)) = self.deadline.take()
                && self.half.set_write_deadline(Some(at)).is_err()
            {
                self.alarm = Some(clock.sleep_until(at));
            }
            if self.alarm.as_mut().is_some_and(|alarm| alarm.as_mut().poll(cx).is_ready()) {
                self.alarm = None;
                staged = Poll::Ready(Err(StreamError::TimedOut));
            }
        }
        let staged = ready!(staged);
        self.outgoing = None;
        if staged == Err(StreamError::TimedOut) {
            // Nothing may follow a part of a message.
            self.half.expire();
        }
        Poll::Ready(staged.map_err(|error| match error {
            // So the reading half ends with the answer.
            StreamError::LocalReset(ResetCode::NONE) => over(),
            error => ExchangeError::of_stream(error, false, self.half.id().is_some()).into(),
        }))
    }

    /// Takes the message once what came before is staged.
    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        message: &mut Option<Bytes>,
    ) -> Poll<Result<(), Status>> {
        ready!(self.poll_settle(cx))?;
        if let Some(bytes) = message.take() {
            if bytes.len() > self.max_message {
                return Poll::Ready(Err(ExchangeError::TooLarge(bytes.len()).into()));
            }
            let outgoing = self.outgoing.insert(Outgoing::new());
            let draft = outgoing.draft(&[], None, 0, bytes.len());
            draft.end(Kind::Message, bytes, self.fragment, false);
        }
        self.poll_settle(cx)
    }

    pub(crate) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        ready!(self.poll_settle(cx))?;
        self.outgoing = Some(Outgoing::finish());
        self.poll_settle(cx)
    }
}

impl Slot {
    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        message: &mut Option<Bytes>,
    ) -> Poll<Result<(), Status>> {
        let mut state = self.state.lock();
        match &mut state.target {
            Target::Link(link) => link.poll_send(cx, message),
            Target::Reader { end: None, item: item @ None } => {
                *item = message.take();
                let reader = state.reader.take();
                drop(state);
                wake(reader);
                Poll::Ready(Ok(()))
            }
            Target::Gone | Target::Reader { end: Some(_), .. } => Poll::Ready(Err(over())),
            Target::None | Target::Reader { .. } => {
                state.sender = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn poll_finish(&self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        let mut state = self.state.lock();
        match &mut state.target {
            Target::Link(link) => link.poll_finish(cx),
            Target::Reader { end, .. } => {
                *end = Some(Ok(()));
                let reader = state.reader.take();
                drop(state);
                wake(reader);
                Poll::Ready(Ok(()))
            }
            Target::Gone => Poll::Ready(Err(over())),
            Target::None => {
                state.sender = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The sender went without finishing.
    fn abandon(&self) {
        let mut state = self.state.lock();
        match std::mem::replace(&mut state.target, Target::Gone) {
            Target::Link(link) => {
                drop(state);
                link.half.reset(ResetCode::CANCELLED);
            }
            Target::Reader { item, end: None } => {
                let end = Some(Err(Status::new(Code::Cancelled, "the request was abandoned")));
                state.target = Target::Reader { item, end };
                let reader = state.reader.take();
                drop(state);
                wake(reader);
            }
            other => state.target = other,
        }
    }
}

/// The messages, as the body of a request.
pub(crate) struct SlotBody {
    slot: Arc<Slot>,
}

impl SlotBody {
    /// From now on messages go to the connection.
    pub(crate) fn bind(self, link: Link) {
        let mut state = self.slot.state.lock();
        let gone = match state.target {
            Target::Gone => Some(link),
            _ => {
                state.target = Target::Link(Box::new(link));
                None
            }
        };
        let sender = state.sender.take();
        drop(state);
        wake(sender);
        if let Some(link) = gone {
            link.half.reset(ResetCode::CANCELLED);
        }
    }

    pub(crate) fn poll_next(&self, cx: &Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        let mut state = self.slot.state.lock();
        if let Target::None = state.target {
            state.target = Target::Reader { item: None, end: None };
        }
        let found = match &mut state.target {
            Target::Reader { item, end } => match item.take() {
                Some(item) => Some(Some(Ok(item))),
                None => match end {
                    None => None,
                    Some(Ok(())) => Some(None),
                    Some(Err(status)) => Some(Some(Err(status.clone()))),
                },
            },
            _ => Some(Some(Err(Status::new(Code::Cancelled, "the request was abandoned")))),
        };
        if found.is_none() {
            state.reader = Some(cx.waker().clone());
        }
        let sender = state.sender.take();
        drop(state);
        wake(sender);
        found.map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for SlotBody {
    fn drop(&mut self) {
        let mut state = self.slot.state.lock();
        if !matches!(state.target, Target::Link(_)) {
            state.target = Target::Gone;
        }
        let sender = state.sender.take();
        drop(state);
        wake(sender);
    }
}

fn over() -> Status {
    Status::new(Code::Cancelled, "the call is over")
}
