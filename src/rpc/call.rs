//! One call, typed: its options, and its four shapes.

use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, ready},
    time::{Duration, Instant},
};

use futures::future::BoxFuture;

use super::{
    Body, BoxError, Calls, Client, Code, Context, Metadata, Node, Receiver, Request, Response,
    RetryPolicy, Sender, Status, Text, Wait,
    body::Inner,
    client::check,
    codec::{Codec, Decode, Encode, agree, agreed},
    message::{CallOptions, Outcome},
};

/// A call that is about to be made. Its options hold for this call only.
///
/// A call that streams both ways:
///
/// ```
/// use bytes::Bytes;
/// use futures::StreamExt;
/// use trunkline::rpc::{Client, Receiver, Router, Sender, Server};
/// # use trunkline::{Config, Session};
/// # let (left, right) = trunkline::transport::memory::duplex(4096);
/// # let (session, driver) = Session::client(left, Config::default());
/// # smol::spawn(driver).detach();
/// # let (far, driver) = Session::server(right, Config::default());
/// # smol::spawn(driver).detach();
/// # let runtime = trunkline::runtime::Runtime::new(|task| smol::spawn(task).detach());
/// # smol::block_on(async {
///
/// let mut router = Router::bytes();
/// router.bidirectional("Echo.Chat", |_ctx, messages: Receiver<Bytes, _>| async move {
///     Ok(messages) // each comes back as it arrives
/// })?;
/// smol::spawn(Server::new(router, &runtime).serve(far)).detach();
///
/// let client = Client::new(session, &runtime);
/// let (mut sender, mut receiver): (Sender<Bytes, _>, Receiver<Bytes, _>) =
///     client.request("Echo.Chat").bidirectional().await?;
/// sender.send(&Bytes::from("one")).await?;
/// assert_eq!(receiver.next().await.ok_or("cut short")??, "one");
/// sender.send(&Bytes::from("two")).await?;
/// sender.finish().await?; // the other direction stays open
/// assert_eq!(receiver.next().await.ok_or("cut short")??, "two");
/// assert!(receiver.next().await.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a call does nothing until it is made"]
pub struct Call<'a, C, K> {
    client: &'a Client<C, K>,
    request: Request,
    timeout: Option<Option<Duration>>,
    parent: Option<Instant>,
}

impl<'a, C: Calls, K> Call<'a, C, K> {
    #[inline]
    pub(crate) fn new(client: &'a Client<C, K>, method: Text) -> Self {
        let request = Request { service: client.service.clone(), method, ..Request::default() };
        Self { client, request, timeout: None, parent: None }
    }

    /// The service to call, in place of the client's.
    pub fn service(mut self, service: impl Into<Text>) -> Self {
        self.request.service = service.into();
        self
    }

    /// How long the call may take, with all its attempts, in place of the client's timeout. `None`
    /// waits as long as the session lives.
    pub const fn timeout(mut self, timeout: Option<Duration>) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// When the call has to be over, on the runtime's clock. Takes precedence over a timeout.
    pub const fn deadline(mut self, at: Instant) -> Self {
        self.request.deadline = Some(at);
        self
    }

    /// The call has to be over no later than the call with this context, which a handler is
    /// serving. The earliest of all deadlines holds.
    pub fn on_behalf(mut self, context: &Context) -> Self {
        self.parent = context.deadline();
        self
    }

    /// Adds a value to the metadata, which travels beside the body.
    pub fn metadata(mut self, name: impl Into<Text>, value: impl Into<bytes::Bytes>) -> Self {
        self.request.metadata.append(name, value);
        self
    }

    /// How the body is encoded. The codec has to support it.
    pub fn content_type(mut self, content_type: impl Into<Text>) -> Self {
        self.request.content_type = content_type.into();
        self
    }

    /// How the answer is to be encoded. The codec has to support it.
    pub fn accept(mut self, content_type: impl Into<Text>) -> Self {
        self.request.accept = content_type.into();
        self
    }

    /// Declares that doing it twice is as good as doing it once, so that it may be made again even
    /// though it was sent.
    pub const fn idempotent(mut self) -> Self {
        self.request.idempotent = true;
        self
    }

    /// How many attempts may follow the first, in place of the client's number.
    pub fn retries(mut self, retries: u32) -> Self {
        self.options().retries = Some(retries);
        self
    }

    /// Decides about each further attempt, in place of the client's policy.
    pub fn retry_policy(mut self, policy: impl RetryPolicy) -> Self {
        self.options().policy = Some(Arc::new(policy));
        self
    }

    /// How long to wait before each attempt, the first one included.
    pub fn wait_before_attempts(mut self, wait: impl Wait) -> Self {
        self.options().wait = Some(Arc::new(wait));
        self
    }

    /// How long a dial that this call begins may take, in place of the client's time.
    pub fn dial_timeout(mut self, timeout: Duration) -> Self {
        self.options().dial_timeout = Some(timeout);
        self
    }

    /// Takes only nodes for which `filter` is true. Where it leaves none the attempt fails as
    /// [`Unavailable`](Code::Unavailable).
    pub fn filter(mut self, filter: impl Fn(&Node) -> bool + Send + Sync + 'static) -> Self {
        self.options().filter = Some(Arc::new(filter));
        self
    }

    /// Makes a unary call: sends one message and waits for the answer.
    ///
    /// # Errors
    ///
    /// A [`Status`], whatever went wrong.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call on both sides.
    #[inline]
    pub fn call<Req: ?Sized, Resp>(
        self,
        message: &Req,
    ) -> impl Future<Output = Result<Resp, Status>>
    where
        K: Encode<Req> + Decode<Resp>,
    {
        self.unary(message, |reply| reply.message)
    }

    /// As [`call`](Self::call), with the metadata that came beside the answer.
    ///
    /// # Errors
    ///
    /// A [`Status`], whatever went wrong.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call on both sides.
    #[inline]
    pub fn reply<Req: ?Sized, Resp>(
        self,
        message: &Req,
    ) -> impl Future<Output = Result<Reply<Resp>, Status>>
    where
        K: Encode<Req> + Decode<Resp>,
    {
        self.unary(message, |reply| reply)
    }

    #[expect(
        clippy::manual_async_fn,
        reason = "an async function has room for its arguments twice"
    )]
    #[inline]
    fn unary<Req: ?Sized, Resp, T>(
        mut self,
        message: &Req,
        part: impl FnOnce(Reply<Resp>) -> T,
    ) -> impl Future<Output = Result<T, Status>>
    where
        K: Encode<Req> + Decode<Resp>,
    {
        async move {
            self.encode(message)?;
            let now = self.ready(true);
            check(&self.request)?;
            let response = self.client.calls.call_at(&mut self.request, now).await?;
            Reply::decode(&self.client.codec, response, &self.request.method).map(part)
        }
    }

    /// Sends one message and waits until the answer, of many messages, begins.
    ///
    /// # Errors
    ///
    /// A [`Status`]; a failure after that comes from the receiver.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call on both sides; so does dropping what it returns, before
    /// its end.
    pub async fn server_streaming<Req: ?Sized, Resp>(
        mut self,
        message: &Req,
    ) -> Result<Receiver<Resp, K>, Status>
    where
        K: Encode<Req> + Decode<Resp>,
    {
        self.encode(message)?;
        self.ready(false);
        check(&self.request)?;
        let response = self.client.calls.call(&mut self.request).await?;
        Receiver::of_response(self.client.codec.clone(), self.request.method, response)
    }

    /// Begins a call that sends many messages and gets one back. Await the [`Pending`] for the
    /// answer, while sending or after it.
    ///
    /// # Errors
    ///
    /// A [`Status`] if the call could not begin.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call on both sides; so does dropping what it returns, before
    /// its end.
    pub async fn client_streaming<Req, Resp>(
        self,
    ) -> Result<(Sender<Req, K>, Pending<Resp, K>), Status>
    where
        K: Encode<Req> + Decode<Resp>,
    {
        let method = self.request.method.clone();
        let (sender, call, codec) = self.begin().await?;
        Ok((sender, Pending { call, codec, method, decodes: PhantomData }))
    }

    /// Begins a call that sends many messages and gets many back. Either side may finish first.
    ///
    /// # Errors
    ///
    /// A [`Status`] if the call could not begin.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call on both sides; so does dropping what it returns, before
    /// its end.
    pub async fn bidirectional<Req, Resp>(
        self,
    ) -> Result<(Sender<Req, K>, Receiver<Resp, K>), Status>
    where
        K: Encode<Req> + Decode<Resp>,
    {
        let method = self.request.method.clone();
        let (sender, call, codec) = self.begin().await?;
        Ok((sender, Receiver::of_call(codec, method, call)))
    }

    /// Begins a streaming request: until its messages have somewhere to go, or the answer came.
    async fn begin<Req>(mut self) -> Result<(Sender<Req, K>, Answer, K), Status>
    where
        K: Encode<Req>,
    {
        let codec = self.client.codec.clone();
        self.request.content_type = agree(&codec, &self.request.content_type)?;
        self.check_accept()?;
        let (sender, slot) = Sender::new(codec.clone(), self.request.content_type.clone());
        self.request.body = Body { inner: Inner::Slot(slot) };
        self.ready(false);
        check(&self.request)?;
        let (calls, mut request) = (self.client.calls.clone(), self.request);
        let mut call: BoxFuture<'static, Outcome> =
            Box::pin(async move { calls.call(&mut request).await });
        let answer = std::future::poll_fn(|cx| {
            if let Poll::Ready(outcome) = call.as_mut().poll(cx) {
                return Poll::Ready(Some(outcome));
            }
            sender.poll_ready(cx).map(|()| None)
        });
        match answer.await {
            Some(Ok(response)) => Ok((sender, Box::pin(std::future::ready(Ok(response))), codec)),
            Some(Err(status)) => Err(status),
            None => Ok((sender, call, codec)),
        }
    }

    /// The options, which are allocated for the first one that is set.
    fn options(&mut self) -> &mut CallOptions {
        Arc::make_mut(self.request.options.get_or_insert_default())
    }

    fn encode<Req: ?Sized>(&mut self, message: &Req) -> Result<(), Status>
    where
        K: Encode<Req>,
    {
        let codec = &self.client.codec;
        self.request.content_type = agree(codec, &self.request.content_type)?;
        self.check_accept()?;
        let encoded = codec.encode(&self.request.content_type, message);
        self.request.body = Body::single(encoded.map_err(|error| {
            Status::new(Code::BadRequest, "the request cannot be encoded").with_source(error)
        })?);
        Ok(())
    }

    /// An answer that could not be decoded is not asked for.
    fn check_accept(&self) -> Result<(), Status>
    where
        K: Codec,
    {
        agreed(&self.client.codec, &self.request.accept).map(drop)
    }

    /// The request, with its deadline: only calls of one message each way have one by default. The
    /// present, if that had to be looked up.
    fn ready(&mut self, unary: bool) -> Option<Instant> {
        let Self { client, request, timeout, parent } = self;
        let timeout = timeout.unwrap_or_else(|| client.timeout.filter(|_| unary));
        let mut now = None;
        if let (None, Some(timeout)) = (request.deadline, timeout) {
            let present = client.runtime.now();
            request.deadline = present.checked_add(timeout);
            now = Some(present);
        }
        request.deadline = [request.deadline, *parent].into_iter().flatten().min();
        now
    }
}

impl<C, K> fmt::Debug for Call<'_, C, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("request", &self.request).finish_non_exhaustive()
    }
}

pub(super) type Answer = BoxFuture<'static, Outcome>;

/// An answer, with what came beside it.
#[derive(Clone, Debug)]
pub struct Reply<T> {
    /// The answer.
    pub message: T,
    /// The metadata that the server sent before it.
    pub headers: Metadata,
    /// The metadata that the server sent behind it.
    pub trailers: Metadata,
}

impl<T> Reply<T> {
    fn decode<K: Decode<T>>(codec: &K, response: Response, method: &Text) -> Result<Self, Status> {
        let Response { content_type, headers, trailers, body } = response;
        let Some(bytes) = body.single_bytes() else {
            return Err(Status::new(Code::Protocol, "the answer is a stream, not one message"));
        };
        let content_type = agreed(codec, &content_type)?;
        let message = decode(codec, content_type, bytes, Side::Answer, method)?;
        Ok(Self { message, headers, trailers: trailers.get() })
    }
}

/// Whose body it is.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    Request,
    Answer,
}

/// In a content type that was agreed on. A body that cannot be decoded here was made there:
/// nothing to repeat.
pub(crate) fn decode<T, K: Decode<T>>(
    codec: &K,
    content_type: &str,
    bytes: bytes::Bytes,
    side: Side,
    method: &Text,
) -> Result<T, Status> {
    let decoded = codec.decode(content_type, bytes);
    decoded.map_err(|error| undecodable(error, side, method))
}

#[cold]
fn undecodable(error: BoxError, side: Side, method: &Text) -> Status {
    let (code, what) = match side {
        Side::Request => (Code::BadRequest, "request"),
        Side::Answer => (Code::Protocol, "answer"),
    };
    // A cause does not travel, so the words say it.
    let cause: String = error.to_string().chars().take(MAX_CAUSE).collect();
    let text = format!("the {what} cannot be decoded: {cause}");
    log::debug!("{method}: {text}");
    Status::new(code, text).speaking_for(error)
}

/// Characters of the cause in a status: what is wrong and where, and not the body all over again.
const MAX_CAUSE: usize = 256;

/// The answer to a call that streams its request: a future, which cancels the call when it is
/// dropped.
#[must_use = "futures do nothing unless polled"]
pub struct Pending<T, K> {
    call: Answer,
    codec: K,
    method: Text,
    decodes: PhantomData<fn() -> T>,
}

impl<T, K: Decode<T> + Unpin> Future for Pending<T, K> {
    type Output = Result<Reply<T>, Status>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let response = ready!(self.call.as_mut().poll(cx))?;
        Poll::Ready(Reply::decode(&self.codec, response, &self.method))
    }
}

impl<T, K> fmt::Debug for Pending<T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").finish_non_exhaustive()
    }
}
