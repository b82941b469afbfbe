//! A context: one request at a time, beside those of other contexts.

use std::{
    fmt,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;

use super::{Failure, Key, Req};
use crate::{
    sp::{
        error::{RecvError, RequestError, SendError, SendMessageError},
        message::Message,
        options::{CallOptions, Options},
        socket::Handle,
    },
    sync::Mutex,
};

/// One request at a time on a [`ReqSocket`](super::ReqSocket), independent of those of its other
/// contexts. Dropping it withdraws its request.
///
/// A new request takes the place of the one before: a call that waits for that one fails with
/// [`Cancelled`](RecvError::Cancelled).
///
/// ```
/// use trunkline::{runtime::Runtime, sp::{Options, RepSocket, ReqSocket}, transport::Transports};
/// # smol::block_on(async {
/// # let (runtime, network) = (Runtime::new(|task| smol::spawn(task).detach()), Transports::default());
/// # let server = RepSocket::new(runtime.clone(), network.clone(), Options::default());
/// # server.listen("memory://echo").await?;
/// # smol::spawn(async move {
/// #     while let Ok((request, replier)) = server.recv().await {
/// #         replier.send(request).await.ok();
/// #     }
/// # })
/// # .detach();
///
/// let socket = ReqSocket::new(runtime, network, Options::default());
/// socket.dial("memory://echo").await?;
/// let asking = ["one", "two", "three"].map(|word| {
///     let context = socket.context();
///     async move { Ok::<_, Box<dyn std::error::Error>>(context?.request(word).await?) }
/// });
/// let replies = futures::future::try_join_all(asking).await?;
/// assert_eq!(replies, ["one", "two", "three"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ReqContext {
    handle: Arc<Handle<Req>>,
    slot: u32,
    options: Mutex<Option<CallOptions>>,
}

impl ReqContext {
    pub(super) const fn new(handle: Arc<Handle<Req>>, slot: u32) -> Self {
        Self { handle, slot, options: Mutex::new(None) }
    }

    /// Gives the context options of its own, from its next request on. With `None` it uses those of
    /// the socket again.
    pub fn configure(&self, options: Option<&Options>) {
        *self.options.lock() = options.map(Options::call);
    }

    /// Sends a request and waits for its reply.
    ///
    /// A request whose body and header of four bytes are longer than the peer's
    /// [`max_receive`](Options::max_receive) gets none: the peer closes the pipe, and
    /// does not say why. The request is then sent again on the next pipe, again and again, unless
    /// [`retry`](Options::retry) is off. The dialer waits longer each time; what ends
    /// the request is [`recv_timeout`](Options::recv_timeout).
    ///
    /// # Errors
    ///
    /// [`RequestError`], which tells whether a peer can have seen the request.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future withdraws the request: it is not sent again, and a reply that comes
    /// later is dropped.
    pub async fn request(&self, body: impl Into<Bytes>) -> Result<Bytes, RequestError> {
        let mut body = Some(body.into());
        let mut waiting = Waiting { context: self, key: None, withdraw: true };
        let reply = poll_fn(|cx| waiting.poll_request(&mut body, cx)).await;
        waiting.key = None;
        reply.map(|reply| reply.body)
    }

    /// Sends a request. Waits until a pipe takes it, at most for the send timeout; with
    /// `best_effort` it is queued and this returns at once. [`recv`](Self::recv) waits for the
    /// reply.
    ///
    /// # Errors
    ///
    /// [`SendError`] if no pipe took it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future withdraws the request.
    pub async fn send(&self, body: impl Into<Bytes>) -> Result<(), SendError> {
        let mut body = Some(body.into());
        let mut waiting = Waiting { context: self, key: None, withdraw: true };
        let sent = poll_fn(|cx| waiting.poll_send(&mut body, cx)).await;
        waiting.key = None;
        sent.map_err(send_error)
    }

    /// As [`send`](Self::send), with a [`Message`]. Only its body is sent: REQ writes a header of
    /// its own. An error gives the message back.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub async fn send_message(&self, message: Message) -> Result<(), SendMessageError> {
        match self.send(message.body.clone()).await {
            Ok(()) => Ok(()),
            Err(error) => Err(SendMessageError { error, message }),
        }
    }

    /// Sends a request if a pipe can take it at once.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](SendError::WouldBlock) if none can. The request before this one is withdrawn
    /// even then.
    pub fn try_send(&self, body: impl Into<Bytes>) -> Result<(), SendError> {
        let (options, body) = (self.options(), body.into());
        self.handle.shared.with(|req, base| {
            let options = options.unwrap_or_else(|| base.options.call());
            let key = req.start(base, self.slot, body, options).map_err(send_error)?;
            if !options.best_effort && req.queued(key).is_some() {
                req.withdraw(base, key);
                return Err(SendError::WouldBlock);
            }
            Ok(())
        })
    }

    /// Waits for the reply to the request that was sent last, at most for the receive timeout,
    /// after which the request is over.
    ///
    /// # Errors
    ///
    /// [`RecvError`] if there is none.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: the reply can be received later.
    pub async fn recv(&self) -> Result<Bytes, RecvError> {
        self.recv_message().await.map(|message| message.body)
    }

    /// As [`recv`](Self::recv), with the request id in the header of the message, and the pipe it
    /// came through.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// As [`recv`](Self::recv).
    pub async fn recv_message(&self) -> Result<Message, RecvError> {
        let mut waiting = Waiting { context: self, key: None, withdraw: false };
        let reply = poll_fn(|cx| waiting.poll_recv(cx)).await;
        waiting.key = None;
        reply.map_err(recv_error)
    }

    /// The reply, if it has come.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](RecvError::WouldBlock) if it has not come yet.
    pub fn try_recv(&self) -> Result<Bytes, RecvError> {
        let cx = Context::from_waker(std::task::Waker::noop());
        self.handle.shared.with(|req, base| {
            let key = req.begin_recv(base, self.slot, None).map_err(recv_error)?;
            let Poll::Ready(reply) = req.poll_reply(base, key, &cx) else {
                req.end_recv(base, key);
                return Err(RecvError::WouldBlock);
            };
            reply.map(|message| message.body).map_err(recv_error)
        })
    }

    /// Closes the context: its request is withdrawn, and calls that wait on it, like all later
    /// ones, fail with `Closed`. Other contexts are not affected.
    pub fn close(&self) {
        self.handle.shared.with(|req, base| req.close_context(base, self.slot));
    }

    fn options(&self) -> Option<CallOptions> {
        *self.options.lock()
    }
}

impl Drop for ReqContext {
    fn drop(&mut self) {
        self.handle.shared.with(|req, base| req.release_context(base, self.slot));
    }
}

impl fmt::Debug for ReqContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReqContext").field("slot", &self.slot).finish_non_exhaustive()
    }
}

/// A call that waits; what it began ends with it.
struct Waiting<'a> {
    context: &'a ReqContext,
    key: Option<Key>,
    withdraw: bool,
}

impl Waiting<'_> {
    fn poll_request(
        &mut self,
        body: &mut Option<Bytes>,
        cx: &Context<'_>,
    ) -> Poll<Result<Message, RequestError>> {
        let own = body.is_some().then(|| self.context.options()).flatten();
        self.context.handle.shared.with(|req, base| {
            if let Some(body) = body.take() {
                let options = own.unwrap_or_else(|| base.options.call());
                let slot = self.context.slot;
                let started = req.start(base, slot, body, options).and_then(|key| {
                    self.key = Some(key);
                    req.begin_recv(base, slot, options.recv_timeout)
                });
                if let Err(failure) = started {
                    return Poll::Ready(Err(RequestError::Send(send_error(failure))));
                }
            }
            let Some(key) = self.key else { return Poll::Pending };
            req.poll_reply(base, key, cx).map_err(|failure| match failure {
                Failure::NotSent => RequestError::Send(SendError::TimedOut),
                failure => RequestError::Recv(recv_error(failure)),
            })
        })
    }

    fn poll_send(
        &mut self,
        body: &mut Option<Bytes>,
        cx: &Context<'_>,
    ) -> Poll<Result<(), Failure>> {
        let own = body.is_some().then(|| self.context.options()).flatten();
        self.context.handle.shared.with(|req, base| {
            if let Some(body) = body.take() {
                let options = own.unwrap_or_else(|| base.options.call());
                match req.start(base, self.context.slot, body, options) {
                    Ok(key) => self.key = Some(key),
                    Err(failure) => return Poll::Ready(Err(failure)),
                }
            }
            let Some(key) = self.key else { return Poll::Pending };
            req.poll_sent(base, key, cx)
        })
    }

    fn poll_recv(&mut self, cx: &Context<'_>) -> Poll<Result<Message, Failure>> {
        let own = self.key.is_none().then(|| self.context.options()).flatten();
        self.context.handle.shared.with(|req, base| {
            let key = match self.key {
                Some(key) => key,
                None => {
                    let timeout = own.unwrap_or_else(|| base.options.call()).recv_timeout;
                    match req.begin_recv(base, self.context.slot, timeout) {
                        Ok(key) => *self.key.insert(key),
                        Err(failure) => return Poll::Ready(Err(failure)),
                    }
                }
            };
            req.poll_reply(base, key, cx)
        })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        self.context.handle.shared.with(|req, base| match self.withdraw {
            true => req.withdraw(base, key),
            false => req.end_recv(base, key),
        });
    }
}

const fn send_error(failure: Failure) -> SendError {
    match failure {
        Failure::Closed => SendError::Closed,
        Failure::NotSent => SendError::TimedOut,
        Failure::NoPeers => SendError::NoPeers,
        Failure::NoReply | Failure::Cancelled | Failure::NoRequest | Failure::Busy => {
            SendError::Cancelled
        }
    }
}

const fn recv_error(failure: Failure) -> RecvError {
    match failure {
        Failure::Closed => RecvError::Closed,
        Failure::NotSent | Failure::NoReply => RecvError::TimedOut,
        Failure::NoPeers => RecvError::NoPeers,
        Failure::Cancelled => RecvError::Cancelled,
        Failure::NoRequest => RecvError::NoRequest,
        Failure::Busy => RecvError::Busy,
    }
}
