//! Middleware: `tower` layers around clients and routers.

use std::{
    future::Future,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use futures::future::BoxFuture;
use tower_layer::Layer;
use tower_service::Service;

use super::{BoxError, Request, Response, Status, message::Outcome};
use crate::runtime::{Runtime, Timer, within};

/// What makes calls: a [`Channel`](super::Channel), a [`Retry`](super::Retry) around one, or
/// middleware around that.
///
/// ```
/// use bytes::Bytes;
/// use trunkline::rpc::{Client, Router, Server};
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
/// // Any layer of tower's goes around a client, and around a router.
/// let client = Client::new(session, &runtime).layer(&tower::limit::ConcurrencyLimitLayer::new(10));
/// let heard: Bytes = client.call("Echo.Say", &Bytes::from("hello")).await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Calls: Clone + Send + Sync + 'static {
    /// Makes a call. A body that is one message stays in the request, so that the call can be made
    /// again; a body that is a stream is taken out of it once the call has begun.
    ///
    /// # Errors
    ///
    /// A [`Status`], whatever went wrong.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has to cancel the call.
    fn call(&self, request: &mut Request) -> impl Future<Output = Result<Response, Status>> + Send;

    /// As [`call`](Self::call), by one who may have looked at the clock just before. What passes
    /// calls on at once may pass the time on too, which is a look less; by default it is not used.
    ///
    /// # Errors
    ///
    /// A [`Status`], whatever went wrong.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has to cancel the call.
    fn call_at(
        &self,
        request: &mut Request,
        now: Option<Instant>,
    ) -> impl Future<Output = Result<Response, Status>> + Send {
        let _ = now;
        self.call(request)
    }
}

/// Turns something that makes calls into a `tower` service.
#[derive(Clone, Debug)]
pub struct Wrap<C> {
    inner: C,
}

impl<C> Wrap<C> {
    pub(crate) const fn new(inner: C) -> Self {
        Self { inner }
    }
}

impl<C: Calls> Service<Request> for Wrap<C> {
    type Response = Response;
    type Error = Status;
    type Future = BoxFuture<'static, Outcome>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let inner = self.inner.clone();
        Box::pin(async move { inner.call(&mut request).await })
    }
}

/// Makes calls with a `tower` service.
#[derive(Clone, Debug)]
pub struct Layered<S> {
    service: S,
    clock: Option<Arc<dyn Timer>>,
}

impl<S> Layered<S> {
    /// Makes calls with this service. Each call has a clone of it of its own, and waits until that
    /// is ready, however long it takes.
    pub const fn new(service: S) -> Self {
        Self { service, clock: None }
    }

    /// The same, and no call waits beyond its deadline, on the clock of `runtime`. So it is in a
    /// client that was given a layer.
    #[must_use]
    pub fn timed(mut self, runtime: &Runtime) -> Self {
        self.clock = Some(runtime.clock().clone());
        self
    }
}

impl<S> Calls for Layered<S>
where
    S: Service<Request, Response = Response> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    fn call(&self, request: &mut Request) -> impl Future<Output = Outcome> + Send {
        let mut service = self.service.clone();
        let clock = self.clock.as_ref();
        let request = request.take();
        async move {
            if let (Some(at), Some(clock)) = (request.deadline, clock) {
                let ready = within(ready(&mut service), at, clock).await;
                ready.ok_or_else(|| Status::timeout().reaching_nobody())??;
            } else {
                ready(&mut service).await?;
            }
            let answer = service.call(request).await;
            answer.map_err(|error| Status::from_error(error.into()))
        }
    }
}

async fn ready<S>(service: &mut S) -> Result<(), Status>
where
    S: Service<Request, Error: Into<BoxError>>,
{
    let ready = std::future::poll_fn(|cx| service.poll_ready(cx)).await;
    ready.map_err(|error| Status::from_error(error.into()))
}

/// Waits until the service is ready, then calls it.
#[expect(clippy::manual_async_fn, reason = "an async function has room for its arguments twice")]
pub(crate) fn oneshot<S>(mut service: S, request: Request) -> impl Future<Output = Outcome>
where
    S: Service<Request, Response = Response>,
    S::Error: Into<BoxError>,
{
    async move {
        ready(&mut service).await?;
        let answer = service.call(request).await;
        answer.map_err(|error| Status::from_error(error.into()))
    }
}

/// Several layers as one: the first that was added is outermost.
///
/// `tower::ServiceBuilder` does the same.
///
/// ```
/// use trunkline::rpc::Stack;
/// # use tower_layer::{Layer, layer_fn};
///
/// let outer = layer_fn(|inner: String| format!("outer({inner})"));
/// let inner = layer_fn(|inner: String| format!("inner({inner})"));
/// let both = Stack::new().layer(outer).layer(inner);
/// assert_eq!(Layer::layer(&both, "service".to_owned()), "outer(inner(service))");
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct Stack<Outer = tower_layer::Identity, Inner = tower_layer::Identity> {
    outer: Outer,
    inner: Inner,
}

impl Stack {
    /// A stack without layers.
    pub const fn new() -> Self {
        Self { outer: tower_layer::Identity::new(), inner: tower_layer::Identity::new() }
    }
}

impl<Outer, Inner> Stack<Outer, Inner> {
    /// Adds a layer inside those that are there.
    pub fn layer<L>(self, layer: L) -> Stack<Self, L> {
        Stack { outer: self, inner: layer }
    }
}

impl<S, Outer, Inner> Layer<S> for Stack<Outer, Inner>
where
    Inner: Layer<S>,
    Outer: Layer<Inner::Service>,
{
    type Service = Outer::Service;

    fn layer(&self, service: S) -> Self::Service {
        self.outer.layer(self.inner.layer(service))
    }
}
