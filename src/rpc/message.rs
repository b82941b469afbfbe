//! Calls as values: what middleware sees.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Body, Context, Metadata, Node, Status, Text, Trailers, context::Running};

/// A call that is to be made, or was received.
#[derive(Debug, Default)]
pub struct Request {
    /// The service whose nodes may serve it; empty for whoever is at the other end.
    pub service: Text,
    /// The method, `Service.Method`.
    pub method: Text,
    /// The content type of the body; empty for the server's default.
    pub content_type: Text,
    /// The content type that the answer should have; empty for that of the body.
    pub accept: Text,
    /// What travels beside the body.
    pub metadata: Metadata,
    /// When the call has to be over, on the clock of the client's or server's runtime.
    pub deadline: Option<Instant>,
    /// Whether doing it twice is as good as doing it once.
    pub idempotent: bool,
    /// The message, or messages, of the request.
    pub body: Body,
    /// The server's side of it.
    pub(crate) call: Option<Arc<Running>>,
    /// What the caller chose for this call.
    pub(crate) options: Option<Arc<CallOptions>>,
}

/// What is chosen for single calls and does not travel.
#[derive(Clone, Default)]
pub(crate) struct CallOptions {
    pub(crate) retries: Option<u32>,
    pub(crate) policy: Option<Arc<dyn super::RetryPolicy>>,
    pub(crate) wait: Option<Arc<dyn super::Wait>>,
    pub(crate) filter: Option<Filter>,
    pub(crate) dial_timeout: Option<Duration>,
}

pub(crate) type Filter = Arc<dyn Fn(&Node) -> bool + Send + Sync>;

impl fmt::Debug for CallOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallOptions").field("retries", &self.retries).finish_non_exhaustive()
    }
}

impl Request {
    /// A call of a method (`Service.Method`) with a body.
    pub fn new(method: impl Into<Text>, body: Body) -> Self {
        Self { method: method.into(), body, ..Self::default() }
    }

    /// What a handler would know about the call as it is now; `None` on the client's side.
    #[must_use]
    pub fn context(&self) -> Option<Context> {
        let call = self.call.clone()?;
        Some(Context::new(self.method.clone(), self.metadata.clone(), call))
    }

    /// A copy of the call; `None` if its body is a stream.
    pub fn try_clone(&self) -> Option<Self> {
        let super::body::Inner::Single(body) = &self.body.inner else { return None };
        Some(Self {
            service: self.service.clone(),
            method: self.method.clone(),
            content_type: self.content_type.clone(),
            accept: self.accept.clone(),
            metadata: self.metadata.clone(),
            body: Body::single(body.clone()),
            call: self.call.clone(),
            options: self.options.clone(),
            ..*self
        })
    }

    pub(crate) fn take(&mut self) -> Self {
        self.try_clone().unwrap_or_else(|| std::mem::take(self))
    }
}

/// The answer to a call that went well.
#[derive(Debug, Default)]
pub struct Response {
    /// The content type of the body.
    pub content_type: Text,
    /// Metadata that comes before the body.
    pub headers: Metadata,
    /// Metadata that comes behind it.
    pub trailers: Trailers,
    /// The message, or messages, of the answer.
    pub body: Body,
}

impl Response {
    /// An answer with this body and nothing beside it.
    pub fn new(body: Body) -> Self {
        Self { body, ..Self::default() }
    }
}

/// How a call ends.
pub(crate) type Outcome = Result<Response, Status>;
