//! Who makes calls.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    Call, Calls, Channel, Code, Layered, Request, Response, Retry, RetryPolicy, Status, Text, Wait,
    Wrap,
    codec::{Decode, Encode, Raw},
    message::Outcome,
};
use crate::{Session, exchange::ExchangeConfig, runtime::Runtime};

/// Makes calls. Cheap to clone; a clone can be bound to a service, or have other options.
///
/// A unary call without a deadline of its own has the client's timeout, 30 s by default; a
/// streaming call has none. Dropping a call, at any moment, cancels it on both sides.
///
/// ```
/// use std::time::Duration;
/// use bytes::Bytes;
/// use trunkline::rpc::{Client, Code, Router, Server};
/// # use trunkline::{Config, Session};
/// # let (left, right) = trunkline::transport::memory::duplex(4096);
/// # let (session, driver) = Session::client(left, Config::default());
/// # smol::spawn(driver).detach();
/// # let (far, driver) = Session::server(right, Config::default());
/// # smol::spawn(driver).detach();
/// # let runtime = trunkline::runtime::Runtime::new(|task| smol::spawn(task).detach());
/// # smol::block_on(async {
///
/// # let mut router = Router::bytes();
/// # router.unary("Echo.Say", |_ctx, said: Bytes| async move { Ok(said) })?;
/// # smol::spawn(Server::new(router, &runtime).serve(far)).detach();
/// let client = Client::new(session, &runtime).timeout(Some(Duration::from_secs(1)));
///
/// let heard: Bytes = client.call("Echo.Say", &Bytes::from("hello")).await?;
/// let call = client.request("Echo.Shout").metadata("Trace-Id", "7").idempotent().retries(3);
/// let status = call.call::<_, Bytes>(&heard).await.unwrap_err();
/// assert_eq!(status.code(), Code::Unimplemented);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Client<C = Retry<Channel>, K = Raw> {
    pub(crate) calls: C,
    pub(crate) codec: K,
    pub(crate) service: Text,
    pub(crate) timeout: Option<Duration>,
    pub(crate) runtime: Arc<Runtime>,
}

impl Client {
    /// A client of the server at the other end of a session, which must be on the clock of
    /// `runtime`.
    #[must_use]
    pub fn new(session: Session, runtime: &Runtime) -> Self {
        Self::with_limits(session, runtime, ExchangeConfig::default())
    }

    /// As [`new`](Self::new), with limits for messages.
    #[must_use]
    pub fn with_limits(session: Session, runtime: &Runtime, limits: ExchangeConfig) -> Self {
        Self::from_channel(Channel::over(session, runtime, limits))
    }

    pub(crate) fn from_channel(channel: Channel) -> Self {
        let runtime = channel.runtime().clone();
        Self::from_calls(Retry::new(channel, &runtime), &runtime)
    }
}

impl<C> Client<C> {
    pub(crate) fn from_calls(calls: C, runtime: &Runtime) -> Self {
        Self {
            calls,
            codec: Raw,
            service: Text::default(),
            timeout: Some(DEFAULT_TIMEOUT),
            runtime: Arc::new(runtime.clone()),
        }
    }
}

/// What a call gets where nothing else is said.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

impl<C, K> Client<Retry<C>, K> {
    /// How many attempts of a call may follow the first, where another can do no harm (see
    /// [`RetryPolicy`]). Default 2; 0 turns retries off.
    #[must_use]
    pub fn retries(self, retries: u32) -> Self {
        self.with_calls(|calls| calls.retries(retries))
    }

    /// Decides about each further attempt that could be made. By default all of them are.
    #[must_use]
    pub fn retry_policy(self, policy: impl RetryPolicy) -> Self {
        self.with_calls(|calls| calls.policy(policy))
    }

    /// How long to wait before each attempt, the first one included.
    #[must_use]
    pub fn wait_before_attempts(self, wait: impl Wait) -> Self {
        self.with_calls(|calls| calls.wait(wait))
    }

    /// How long to wait between attempts: `min` at first, then longer each time, up to `max`, as
    /// [`Backoff`](crate::Backoff) says. Default 10 ms and 1 s.
    #[must_use]
    pub fn backoff(self, min: Duration, max: Duration) -> Self {
        self.with_calls(|calls| calls.backoff(min, max))
    }
}

impl<C, K> Client<C, K> {
    /// The same client with another codec for bodies.
    #[must_use]
    pub fn with_codec<J>(self, codec: J) -> Client<C, J> {
        let Self { calls, service, timeout, runtime, .. } = self;
        Client { calls, codec, service, timeout, runtime }
    }

    /// The same client with bodies in JSON.
    #[cfg(feature = "json")]
    #[must_use]
    pub fn json(self) -> Client<C, super::codec::Json> {
        self.with_codec(super::codec::Json)
    }

    /// The same client with bodies in protobuf.
    #[cfg(feature = "protobuf")]
    #[must_use]
    pub fn protobuf(self) -> Client<C, super::codec::Protobuf> {
        self.with_codec(super::codec::Protobuf)
    }

    /// The same client for calls of this service: what its nodes are resolved by.
    #[must_use]
    pub fn service(mut self, service: impl Into<Text>) -> Self {
        self.service = service.into();
        self
    }

    /// How long a unary call without a deadline may take; `None` waits as long as the session
    /// lives. Default 30 s.
    #[must_use]
    pub const fn timeout(mut self, timeout: Option<Duration>) -> Self {
        self.timeout = timeout;
        self
    }

    fn with_calls<D>(self, change: impl FnOnce(C) -> D) -> Client<D, K> {
        let Self { calls, codec, service, timeout, runtime } = self;
        Client { calls: change(calls), codec, service, timeout, runtime }
    }
}

impl<C: Calls, K> Client<C, K> {
    /// Puts middleware around whole calls, with all their attempts. A layer that is added later
    /// goes around those before; to write several with the outermost first, combine them with
    /// [`Stack`](super::Stack) or `tower::ServiceBuilder`.
    #[must_use]
    pub fn layer<L>(self, layer: &L) -> Client<Layered<L::Service>, K>
    where
        L: Layer<Wrap<C>>,
        Layered<L::Service>: Calls,
    {
        let runtime = self.runtime.clone();
        self.with_calls(|calls| Layered::new(layer.layer(Wrap::new(calls))).timed(&runtime))
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
        &self,
        method: impl Into<Text>,
        request: &Req,
    ) -> impl Future<Output = Result<Resp, Status>>
    where
        K: Encode<Req> + Decode<Resp>,
    {
        self.request(method).call(request)
    }

    /// Prepares a call that has options or streams.
    #[inline]
    pub fn request(&self, method: impl Into<Text>) -> Call<'_, C, K> {
        Call::new(self, method.into())
    }

    /// Makes a call that is given as a value. Where it names no service or has no deadline, those
    /// of the client hold.
    ///
    /// # Errors
    ///
    /// A [`Status`], whatever went wrong.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call on both sides.
    pub async fn send(&self, mut request: Request) -> Result<Response, Status> {
        if request.service.is_empty() {
            request.service = self.service.clone();
        }
        if request.deadline.is_none() && !request.body.is_streaming() {
            request.deadline =
                self.timeout.and_then(|timeout| self.runtime.now().checked_add(timeout));
        }
        check(&request)?;
        self.calls.call(&mut request).await
    }
}

/// Whether a call says what it calls.
pub(crate) fn check(request: &Request) -> Result<(), Status> {
    if request.method.is_empty() {
        return Err(Status::new(Code::BadRequest, "the method has no name"));
    }
    Ok(())
}

impl<C: Calls, K: Clone + Send + Sync + 'static> Service<Request> for Client<C, K> {
    type Response = Response;
    type Error = Status;
    type Future = BoxFuture<'static, Outcome>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let client = self.clone();
        Box::pin(async move { client.send(request).await })
    }
}

impl<C: fmt::Debug, K> fmt::Debug for Client<C, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("service", &self.service)
            .field("timeout", &self.timeout)
            .field("calls", &self.calls)
            .finish_non_exhaustive()
    }
}
