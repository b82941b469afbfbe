//! Which handler serves which method.

use std::{
    any::type_name,
    collections::BTreeMap,
    fmt,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use bytes::Bytes;
use futures::{Stream, future::BoxFuture};
use tower_service::Service;

use super::{
    Body, Code, Context, Metadata, Receiver, Request, Response, Status, Text,
    codec::{Decode, Encode, Raw},
    handler::{self, Handler},
    message::Outcome,
};

/// Typed handlers by the name of their method: `Service.Method`, of up to 255 bytes, where the
/// service may contain dots. A `tower` service, cheap to clone.
///
/// ```
/// use bytes::Bytes;
/// use trunkline::rpc::{Code, Router, Status};
///
/// let mut router = Router::bytes();
/// router.unary("Echo.Say", |_ctx, said: Bytes| async move {
///     if said.is_empty() {
///         return Err(Status::new(Code::BadRequest, "say something"));
///     }
///     Ok(said)
/// })?;
/// assert_eq!(router.endpoints().count(), 1);
/// # Ok::<(), trunkline::rpc::RegisterError>(())
/// ```
pub struct Router<K = Raw> {
    table: Arc<Table>,
    codec: K,
    metadata: Metadata,
}

#[derive(Clone, Default)]
struct Table {
    methods: BTreeMap<Text, Method>,
    fallback: Option<Handler>,
}

#[derive(Clone)]
struct Method {
    endpoint: Endpoint,
    handler: Handler,
}

/// A method, as [`Router::endpoints`] lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Endpoint {
    /// `Service.Method`.
    pub name: Text,
    /// Which sides stream.
    pub kind: MethodKind,
    /// The type of the request's messages.
    pub request: &'static str,
    /// The type of the answer's messages.
    pub response: &'static str,
    /// What was set at registration.
    pub metadata: Metadata,
}

/// Which sides of a method stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MethodKind {
    /// One message each way.
    Unary,
    /// Many messages there, one back.
    ClientStreaming,
    /// One message there, many back.
    ServerStreaming,
    /// Many messages both ways.
    Bidirectional,
}

impl Router {
    /// A router whose bodies are bytes.
    #[must_use]
    pub fn bytes() -> Self {
        Self::with_codec(Raw)
    }
}

#[cfg(feature = "json")]
impl Router<super::codec::Json> {
    /// A router whose bodies are JSON.
    #[must_use]
    pub fn json() -> Self {
        Self::with_codec(super::codec::Json)
    }
}

#[cfg(feature = "protobuf")]
impl Router<super::codec::Protobuf> {
    /// A router whose bodies are protobuf.
    #[must_use]
    pub fn protobuf() -> Self {
        Self::with_codec(super::codec::Protobuf)
    }
}

impl<K: Clone> Router<K> {
    /// A router whose bodies are encoded by this codec. A pair of codecs offers both.
    pub fn with_codec(codec: K) -> Self {
        Self { table: Arc::default(), codec, metadata: Metadata::new() }
    }

    /// Registers a method with one message each way.
    ///
    /// The request is decoded and `handler` is called within [`Service::call`], not when the future
    /// that this returns is polled: what they do at once, such as a panic, a layer meets there.
    ///
    /// # Errors
    ///
    /// [`RegisterError`]; the router is as it was.
    pub fn unary<Req, Resp, F, Fut>(
        &mut self,
        name: impl Into<Text>,
        handler: F,
    ) -> Result<&mut Self, RegisterError>
    where
        K: Decode<Req> + Encode<Resp>,
        F: Fn(Context, Req) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Resp, Status>> + Send + 'static,
        Req: Send + 'static,
        Resp: Send + Sync + 'static,
    {
        let handler = handler::unary(self.codec.clone(), handler);
        self.register::<Req, Resp>(name.into(), MethodKind::Unary, handler)
    }

    /// Registers a method that gets many messages and answers with one.
    ///
    /// # Errors
    ///
    /// [`RegisterError`]; the router is as it was.
    pub fn client_streaming<Req, Resp, F, Fut>(
        &mut self,
        name: impl Into<Text>,
        handler: F,
    ) -> Result<&mut Self, RegisterError>
    where
        K: Decode<Req> + Encode<Resp>,
        F: Fn(Context, Receiver<Req, K>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Resp, Status>> + Send + 'static,
        Req: Send + 'static,
        Resp: Send + Sync + 'static,
    {
        let handler = handler::client_streaming(self.codec.clone(), handler);
        self.register::<Req, Resp>(name.into(), MethodKind::ClientStreaming, handler)
    }

    /// Registers a method that gets one message and answers with many. Their stream is polled for
    /// the next one when there is room for it; an error from it ends the call with that status.
    ///
    /// # Errors
    ///
    /// [`RegisterError`]; the router is as it was.
    pub fn server_streaming<Req, Resp, F, Fut, S>(
        &mut self,
        name: impl Into<Text>,
        handler: F,
    ) -> Result<&mut Self, RegisterError>
    where
        K: Decode<Req> + Encode<Resp>,
        F: Fn(Context, Req) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<S, Status>> + Send + 'static,
        S: Stream<Item = Result<Resp, Status>> + Send + 'static,
        Req: Send + 'static,
        Resp: Send + Sync + 'static,
    {
        let handler = handler::server_streaming(self.codec.clone(), handler);
        self.register::<Req, Resp>(name.into(), MethodKind::ServerStreaming, handler)
    }

    /// Registers a method with many messages both ways.
    ///
    /// # Errors
    ///
    /// [`RegisterError`]; the router is as it was.
    pub fn bidirectional<Req, Resp, F, Fut, S>(
        &mut self,
        name: impl Into<Text>,
        handler: F,
    ) -> Result<&mut Self, RegisterError>
    where
        K: Decode<Req> + Encode<Resp>,
        F: Fn(Context, Receiver<Req, K>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<S, Status>> + Send + 'static,
        S: Stream<Item = Result<Resp, Status>> + Send + 'static,
        Req: Send + 'static,
        Resp: Send + Sync + 'static,
    {
        let handler = handler::bidirectional(self.codec.clone(), handler);
        self.register::<Req, Resp>(name.into(), MethodKind::Bidirectional, handler)
    }

    /// Sets metadata of the endpoint that is registered next.
    pub fn describe(&mut self, name: impl Into<Text>, value: impl Into<Bytes>) -> &mut Self {
        self.metadata.insert(name, value);
        self
    }

    /// Hands calls of services that are not registered here to `fallback`, as they are.
    pub fn fallback<F, Fut>(&mut self, fallback: F) -> &mut Self
    where
        F: Fn(Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Response, Status>> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |request| Box::pin(fallback(request)));
        Arc::make_mut(&mut self.table).fallback = Some(handler);
        self
    }

    /// Adds all methods of another router, which may have another codec.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Duplicate`]; the router is as it was.
    pub fn merge<J>(&mut self, other: &Router<J>) -> Result<&mut Self, RegisterError> {
        let methods = &other.table.methods;
        if let Some(name) = methods.keys().find(|name| self.table.methods.contains_key(*name)) {
            return Err(RegisterError::Duplicate(name.clone()));
        }
        Arc::make_mut(&mut self.table).methods.extend(methods.clone());
        Ok(self)
    }

    /// Registers two methods for clients of any codec: `Debug.Health` answers
    /// `{"status":"serving"}`, or `"draining"` while the server shuts down; `Debug.Stats` answers
    /// the server's counters as JSON.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Duplicate`]; the router is as it was.
    pub fn with_debug(&mut self) -> Result<&mut Self, RegisterError> {
        let health: Handler = Arc::new(|request| {
            Box::pin(async move {
                let draining = request.call.is_some_and(|call| call.server().is_draining());
                let status = if draining { "draining" } else { "serving" };
                Ok(Response::new(Body::single(format!("{{\"status\":\"{status}\"}}"))))
            })
        });
        let stats: Handler = Arc::new(|request| {
            Box::pin(async move {
                let stats = request.call.map(|call| call.server().stats());
                Ok(Response::new(Body::single(stats.unwrap_or_default().to_json())))
            })
        });
        let mut debug = Router::bytes();
        debug.register::<(), String>("Debug.Health".into(), MethodKind::Unary, health)?;
        debug.register::<(), String>("Debug.Stats".into(), MethodKind::Unary, stats)?;
        self.merge(&debug)
    }

    fn register<Req, Resp>(
        &mut self,
        name: Text,
        kind: MethodKind,
        handler: Handler,
    ) -> Result<&mut Self, RegisterError> {
        if split(&name).is_none() {
            return Err(RegisterError::BadName(name));
        }
        if self.table.methods.contains_key(&name) {
            return Err(RegisterError::Duplicate(name));
        }
        let endpoint = Endpoint {
            name: name.clone(),
            kind,
            request: type_name::<Req>(),
            response: type_name::<Resp>(),
            metadata: std::mem::take(&mut self.metadata),
        };
        let table = Arc::make_mut(&mut self.table);
        table.methods.insert(name, Method { endpoint, handler });
        Ok(self)
    }
}

impl<K> Router<K> {
    /// The methods that are registered, in the order of their names.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.table.methods.values().map(|method| &method.endpoint)
    }
}

impl Table {
    /// Who answers calls of that method.
    fn find(&self, name: &Text) -> Result<&Handler, Status> {
        if let Some(method) = self.methods.get(name) {
            return Ok(&method.handler);
        }
        self.stand_in(name)
    }

    /// Who answers calls of a method that is not registered.
    #[cold]
    fn stand_in(&self, name: &Text) -> Result<&Handler, Status> {
        let Some((service, _)) = split(name) else {
            let text = format!("{name:?} is not of the form Service.Method");
            return Err(Status::new(Code::BadRequest, text));
        };
        let known = |method: &Text| split(method).is_some_and(|(of, _)| of == service);
        if self.methods.keys().any(known) {
            let text = format!("the service {service} has no method {name}");
            return Err(Status::new(Code::Unimplemented, text));
        }
        match &self.fallback {
            Some(fallback) => Ok(fallback),
            None => Err(Status::new(Code::NotFound, format!("no service {service}"))),
        }
    }
}

fn split(name: &str) -> Option<(&str, &str)> {
    let found = name.rsplit_once('.')?;
    (!found.0.is_empty() && !found.1.is_empty() && name.len() <= 255).then_some(found)
}

impl<K> Service<Request> for Router<K> {
    type Response = Response;
    type Error = Status;
    type Future = BoxFuture<'static, Outcome>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match self.table.find(&request.method) {
            Ok(handler) => handler(request),
            Err(status) => Box::pin(std::future::ready(Err(status))),
        }
    }
}

impl<K: Clone> Clone for Router<K> {
    fn clone(&self) -> Self {
        let Self { table, codec, metadata } = self;
        Self { table: table.clone(), codec: codec.clone(), metadata: metadata.clone() }
    }
}

impl<K> fmt::Debug for Router<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").field("methods", &self.table.methods.len()).finish_non_exhaustive()
    }
}

/// Why a method was not registered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegisterError {
    /// The name is not of the form `Service.Method`, or longer than 255 bytes.
    BadName(Text),
    /// A method of this name is registered already.
    Duplicate(Text),
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadName(name) => write!(f, "{name:?} is not of the form Service.Method"),
            Self::Duplicate(name) => write!(f, "{name} is registered already"),
        }
    }
}

impl std::error::Error for RegisterError {}
