//! One exchange.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Code, ExchangeConfig, ExchangeError, Kind, Message,
    outgoing::Outgoing,
    reader::{Reader, Role, poll_open},
    table::Ticket,
};
use crate::{Protocol, ResetCode, Session, Stream, runtime::Timer};

/// A stream of messages, with a deadline.
///
/// * [`send`](Self::send) is done when the message is staged for the connection. It waits while the
///   other side reads too slowly. [`send_last`](Self::send_last) finishes this direction too.
/// * [`recv`](Self::recv) returns what arrived before an error, then the error; only a deadline
///   that has passed comes first. An error is final: every later call returns the same one.
/// * **Drop** before both directions are finished cancels the exchange: the other side gets
///   [`ExchangeError::Cancelled`].
///
/// # Cancel safety
///
/// Dropping a pending `recv` loses nothing. Dropping a pending `send` loses the whole message if
/// nothing of it was staged yet; otherwise the rest is sent before any later message.
///
/// # Examples
///
/// The other side hears that nobody waits any more, and can stop:
///
/// ```
/// use futures::StreamExt;
/// use trunkline::{Dispatcher, Protocol};
/// use trunkline::exchange::{Exchange, ExchangeConfig, ExchangeError, Kind, Message};
/// # use trunkline::{Config, Session};
/// # let (left, right) = trunkline::transport::memory::duplex(4096);
/// # let (client, driver) = Session::client(left, Config::default());
/// # smol::spawn(driver).detach();
/// # let (server, driver) = Session::server(right, Config::default());
/// # smol::spawn(driver).detach();
/// # smol::block_on(async {
///
/// let config = ExchangeConfig::default();
/// let mut dispatcher = Dispatcher::new(server.clone());
/// let mut streams = dispatcher.serve(Protocol::EXCHANGE, 16)?;
/// smol::spawn(dispatcher.run()).detach();
///
/// let mut asked = Exchange::open(&client, &config);
/// asked.send(Message::new(Kind::Request, "a long story")).await?;
/// let stream = streams.next().await.ok_or("the session ended")?;
/// let mut answering = Exchange::accept(&server, stream, &config);
/// answering.recv_kind(Kind::Request).await?;
///
/// drop(asked);
/// assert_eq!(answering.cancelled().await, ExchangeError::Cancelled);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Exchange {
    /// Let go of before the stream, so that the set resets no stranger.
    ticket: Option<Ticket>,
    link: Link,
    reader: Reader,
    config: ExchangeConfig,
    clock: Option<Arc<dyn Timer>>,
    deadline: Option<Instant>,
    role: Role,
    /// Begun and not staged to its end.
    outgoing: Option<Outgoing>,
    /// A message that was not of the kind asked for.
    held: Option<Message>,
    finished: bool,
    /// Writing has the deadline too.
    write_armed: bool,
    /// Nothing more is waited for: the other side finished, or sent its response. An acceptor
    /// that finished waits for nothing either.
    answered: bool,
    failure: Option<ExchangeError>,
}

enum Link {
    Unopened(Session),
    Open(Stream),
    Gone,
}

impl Exchange {
    /// A new exchange. Nothing happens until the first message is sent, not even SYN.
    #[must_use]
    pub fn open(session: &Session, config: &ExchangeConfig) -> Self {
        let link = Link::Unopened(session.clone());
        Self::new(link, session.timer().cloned(), config, Role::Opener)
    }

    /// The other end of an exchange: a stream of the [`Dispatcher`](crate::Dispatcher)'s, past
    /// its preface. `session` is the one it belongs to.
    pub fn accept(session: &Session, stream: Stream, config: &ExchangeConfig) -> Self {
        stream.be_patient();
        Self::new(Link::Open(stream), session.timer().cloned(), config, Role::Acceptor)
    }

    fn new(link: Link, clock: Option<Arc<dyn Timer>>, config: &ExchangeConfig, role: Role) -> Self {
        Self {
            link,
            reader: Reader::new(config.max_message, role),
            config: *config,
            clock,
            deadline: None,
            role,
            outgoing: None,
            held: None,
            finished: false,
            write_armed: false,
            answered: role == Role::Acceptor,
            failure: None,
            ticket: None,
        }
    }

    /// Sets the deadline, a moment on the clock of the session's timer. The opener's travels with
    /// the first message, as a time to live, so set it before that is sent. Where the acceptor sets
    /// one of its own, the earlier of the two holds.
    ///
    /// # Errors
    ///
    /// [`ExchangeError::NoTimer`].
    pub fn set_deadline(&mut self, at: Instant) -> Result<(), ExchangeError> {
        if self.clock.is_none() {
            return Err(ExchangeError::NoTimer);
        }
        self.deadline = Some(at);
        if let Some(ticket) = &self.ticket {
            ticket.set_deadline(at);
        }
        self.arm();
        Ok(())
    }

    /// When the exchange has to be over. The acceptor knows the opener's deadline once it has
    /// received the first message.
    pub const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The time left until the deadline; `None` without one.
    pub fn time_left(&self) -> Option<Duration> {
        let (at, clock) = (self.deadline?, self.clock.as_ref()?);
        Some(at.saturating_duration_since(clock.now()))
    }

    /// Sends a message.
    ///
    /// # Errors
    ///
    /// [`ExchangeError`]; with [`TooLarge`](ExchangeError::TooLarge) and
    /// [`Finished`](ExchangeError::Finished) the exchange goes on.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the message is not sent at all, or the rest of it is sent before
    /// any later one.
    pub async fn send(&mut self, message: Message) -> Result<(), ExchangeError> {
        self.send_draft(message.kind, |_| {}, message.body, false).await
    }

    /// Sends a message and finishes this direction behind it, in one write if there is room.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send); if any of the message was staged, the direction is finished too.
    pub async fn send_last(&mut self, message: Message) -> Result<(), ExchangeError> {
        self.send_draft(message.kind, |_| {}, message.body, true).await
    }

    /// Ends the exchange with an error, which the other side gets as [`ExchangeError::Remote`].
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the exchange, unless the whole error was staged.
    pub async fn fail(mut self, code: Code, message: &str) -> Result<(), ExchangeError> {
        let put = |out: &mut Vec<u8>| {
            out.push(code.number());
            out.extend_from_slice(message.as_bytes());
        };
        self.send_draft(Kind::Error, put, Bytes::new(), true).await
    }

    /// Finishes this direction: this side sends no more. Does nothing when called again.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the direction open; it may be called again.
    pub async fn finish(&mut self) -> Result<(), ExchangeError> {
        self.settle().await?;
        if !std::mem::replace(&mut self.finished, true) && matches!(self.link, Link::Open(_)) {
            self.outgoing = Some(Outgoing::finish());
        }
        self.settle().await
    }

    /// The next message; `None` when the other side finished.
    ///
    /// # Errors
    ///
    /// [`ExchangeError`]; with [`NothingSent`](ExchangeError::NothingSent) the exchange goes on.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn recv(&mut self) -> Result<Option<Message>, ExchangeError> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// The next message, which has to be of this kind.
    ///
    /// # Errors
    ///
    /// [`UnexpectedKind`](ExchangeError::UnexpectedKind), with the message kept for the next call;
    /// [`Ended`](ExchangeError::Ended) if there is none.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn recv_kind(&mut self, kind: Kind) -> Result<Message, ExchangeError> {
        let message = self.recv().await?.ok_or(ExchangeError::Ended)?;
        if message.kind == kind {
            return Ok(message);
        }
        let found = message.kind;
        self.held = Some(message);
        Err(ExchangeError::UnexpectedKind(found))
    }

    /// The poll form of [`recv`](Self::recv).
    ///
    /// # Errors
    ///
    /// As `recv`.
    pub fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Message>, ExchangeError>> {
        if let Some(ticket) = &self.ticket {
            ticket.register_reader(cx);
        }
        if let Some(failure) = &self.failure {
            return Poll::Ready(Err(failure.clone()));
        }
        if self.is_expired() {
            return Poll::Ready(Err(self.end(ExchangeError::Timeout)));
        }
        if let Some(message) = self.held.take() {
            return Poll::Ready(Ok(Some(message)));
        }
        let stream = match &mut self.link {
            Link::Open(stream) => stream,
            Link::Unopened(_) => return Poll::Ready(Err(ExchangeError::NothingSent)),
            Link::Gone => return Poll::Ready(Err(ExchangeError::Ended)),
        };
        let found = match self.reader.poll_next(stream, cx) {
            Poll::Ready(found) => found,
            Poll::Pending => match self.ticket.as_ref().and_then(Ticket::failure) {
                Some(failure) => Err(failure),
                None => return Poll::Pending,
            },
        };
        self.take_ttl();
        match found {
            Ok(Some(Message { kind: Kind::Error, body })) => {
                Poll::Ready(Err(self.end(remote(&body))))
            }
            Ok(message) => {
                let kind = message.as_ref().map(|message| message.kind);
                self.answered |= matches!(kind, None | Some(Kind::Response));
                Poll::Ready(Ok(message))
            }
            Err(error) => {
                // What the set says came first.
                let said = self.ticket.as_ref().and_then(Ticket::failure);
                Poll::Ready(Err(self.end(said.unwrap_or(error))))
            }
        }
    }

    /// Waits until the other side gives up, the connection is lost, or the deadline passes, and
    /// returns which. Never resolves if the exchange ends well.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn cancelled(&mut self) -> ExchangeError {
        std::future::poll_fn(|cx| self.poll_cancelled(cx)).await
    }

    pub(crate) fn poll_cancelled(&mut self, cx: &Context<'_>) -> Poll<ExchangeError> {
        if let Some(ticket) = &self.ticket {
            ticket.register_reader(cx);
        }
        if let Some(failure) = &self.failure {
            return Poll::Ready(failure.clone());
        }
        if self.is_expired() {
            return Poll::Ready(self.end(ExchangeError::Timeout));
        }
        if let Some(failure) = self.ticket.as_ref().and_then(Ticket::failure) {
            return Poll::Ready(self.end(failure));
        }
        let Link::Open(stream) = &mut self.link else { return Poll::Pending };
        let error = ready!(stream.poll_early_end(cx));
        let sent = stream.id().is_some();
        let error = ExchangeError::of_stream(error, self.reader.is_untouched(), sent);
        Poll::Ready(self.end(error))
    }

    /// Ends the exchange at once, both ways, with a code for the other side.
    pub fn reset(mut self, code: ResetCode) {
        self.reset_link(code);
    }

    pub(crate) fn enlist(&mut self, ticket: Ticket) {
        self.ticket = Some(ticket);
        self.attach();
    }

    fn attach(&self) {
        if let (Some(ticket), Link::Open(stream)) = (&self.ticket, &self.link)
            && let Some(remote) = stream.remote()
        {
            ticket.attach(remote);
        }
    }

    /// Sends a message whose body begins with what `put` writes.
    async fn send_draft(
        &mut self,
        kind: Kind,
        put: impl FnOnce(&mut Vec<u8>),
        payload: Bytes,
        last: bool,
    ) -> Result<(), ExchangeError> {
        self.settle().await?;
        if self.finished {
            return Err(ExchangeError::Finished);
        }
        let ttl = self.ttl()?;
        let preface = match &self.link {
            Link::Unopened(_) => Some(Protocol::EXCHANGE.preface()),
            Link::Open(_) | Link::Gone => None,
        };
        let preface = preface.as_ref().map_or(&[][..], |preface| &preface[..]);
        let mut outgoing = Outgoing::new();
        let mut draft = outgoing.draft(preface, ttl, 0, payload.len());
        put(draft.bytes());
        let len = draft.len() + payload.len();
        if len > self.config.max_message {
            return Err(ExchangeError::TooLarge(len));
        }
        draft.end(kind, payload, self.config.fragment, last);
        let staged = self.start(&mut outgoing).await?;
        self.finished = last;
        if staged {
            return Ok(());
        }
        self.outgoing = Some(outgoing);
        self.settle().await
    }

    /// The time to live for the opener's first message.
    fn ttl(&mut self) -> Result<Option<u32>, ExchangeError> {
        match (&self.link, self.millis_left()) {
            (Link::Unopened(_), Some(0)) => Err(self.end(ExchangeError::Timeout)),
            (Link::Unopened(_), left) => Ok(left),
            (Link::Open(_) | Link::Gone, _) => Ok(None),
        }
    }

    fn millis_left(&self) -> Option<u32> {
        self.time_left().map(|left| u32::try_from(left.as_millis()).unwrap_or(u32::MAX))
    }

    /// Opens the stream if that is still to do, with as much of the message as fits; true if that
    /// was all.
    async fn start(&mut self, outgoing: &mut Outgoing) -> Result<bool, ExchangeError> {
        let opened = {
            let Link::Unopened(session) = &self.link else { return Ok(false) };
            let mut opening = session.opening(self.deadline);
            let mut waited = false;
            let opening = std::future::poll_fn(|cx| {
                if std::mem::replace(&mut waited, true)
                    && let Some(left) = self.millis_left()
                {
                    if left == 0 {
                        return Poll::Ready(Err(ExchangeError::Timeout));
                    }
                    outgoing.set_ttl(left);
                }
                match poll_open(session, &mut opening, outgoing, cx) {
                    Poll::Pending => {
                        self.poll_set(cx).map_or(Poll::Pending, |e| Poll::Ready(Err(e)))
                    }
                    opened => opened,
                }
            });
            opening.await.map(|(slot, staged)| (session.hold(slot), staged))
        };
        match opened {
            Ok((stream, staged)) => {
                self.link = Link::Open(stream);
                self.attach();
                Ok(staged)
            }
            Err(error) => Err(self.end(error)),
        }
    }

    /// What the set says to who sends, now or when it does.
    fn poll_set(&self, cx: &Context<'_>) -> Option<ExchangeError> {
        let ticket = self.ticket.as_ref()?;
        ticket.register_writer(cx);
        ticket.failure()
    }

    /// Stages what an earlier send left behind.
    async fn settle(&mut self) -> Result<(), ExchangeError> {
        std::future::poll_fn(|cx| self.poll_settle(cx)).await
    }

    pub(crate) fn poll_settle(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ExchangeError>> {
        if let Some(failure) = &self.failure {
            return Poll::Ready(Err(failure.clone()));
        }
        if let Some(failure) = self.poll_set(cx) {
            return Poll::Ready(Err(self.end(failure)));
        }
        let (Some(outgoing), Link::Open(stream)) = (&mut self.outgoing, &mut self.link) else {
            return Poll::Ready(Ok(()));
        };
        let staged = outgoing.poll(stream, cx);
        let error = match staged {
            Poll::Ready(Ok(())) => {
                self.outgoing = None;
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(Err(error)) => {
                // A peer that ends an exchange early may have said why.
                let sent = stream.id().is_some();
                if let Poll::Ready(Ok(Some(Message { kind: Kind::Error, body }))) =
                    self.reader.poll_next(stream, cx)
                {
                    remote(&body)
                } else {
                    ExchangeError::of_stream(error, self.reader.is_untouched(), sent)
                }
            }
            Poll::Pending => {
                // Only now does it need a deadline of its own: mostly there is room at once.
                if let (Some(at), false) = (self.deadline, self.write_armed) {
                    self.write_armed = true;
                    let _ = stream.set_write_deadline(Some(at));
                }
                return Poll::Pending;
            }
        };
        Poll::Ready(Err(self.end(error)))
    }

    fn is_expired(&self) -> bool {
        let (Some(at), Some(clock)) = (self.deadline, &self.clock) else { return false };
        clock.now() >= at
    }

    /// A deadline that came with the first message counts from now.
    fn take_ttl(&mut self) {
        let (Some(ttl), Some(clock)) = (self.reader.take_ttl(), &self.clock) else { return };
        let at = clock.now() + Duration::from_millis(ttl.into());
        if self.deadline.is_some_and(|own| own <= at) {
            return;
        }
        self.deadline = Some(at);
        if let Some(ticket) = &self.ticket {
            ticket.set_deadline(at);
        }
        self.arm();
    }

    fn arm(&mut self) {
        if let Link::Open(stream) = &mut self.link {
            // Without a timer there is no deadline.
            let _ = stream.set_read_deadline(self.deadline);
            if self.write_armed {
                let _ = stream.set_write_deadline(self.deadline);
            }
        }
    }

    /// The first error stays.
    fn end(&mut self, error: ExchangeError) -> ExchangeError {
        self.failure = Some(error.clone());
        self.outgoing = None;
        self.reset_link(match &error {
            ExchangeError::Timeout => ResetCode::EXPIRED,
            ExchangeError::Malformed(_) => ResetCode::PROTOCOL_ERROR,
            _ => ResetCode::CANCELLED,
        });
        error
    }

    fn reset_link(&mut self, code: ResetCode) {
        if let Link::Open(stream) = std::mem::replace(&mut self.link, Link::Gone) {
            stream.reset(code);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        // A close is silent, also when it was for one direction only: then the other side would
        // not learn that nobody listens.
        if !self.finished || !self.answered {
            self.reset_link(ResetCode::CANCELLED);
        }
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("role", &self.role)
            .field("deadline", &self.deadline)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

/// The body of an Error message (`spec.md §14.5`).
fn remote(body: &[u8]) -> ExchangeError {
    let Some((code, words)) = body.split_first() else { return protocol_error("no code") };
    let message = String::from_utf8_lossy(words).into_owned();
    ExchangeError::Remote { code: Code::from_number(*code), message }
}

pub(crate) fn protocol_error(what: &str) -> ExchangeError {
    ExchangeError::Remote { code: Code::Protocol, message: what.to_owned() }
}
