//! Calls as values: what middleware sees.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Body, Context, Metadata, Node, Status, Text, Trailers};

/// A call that is to be made, or was received.
#[derive(Debug, Default)]
pub struct Request {
    /// The service it is for; empty: whoever is there.
    pub service: Text,
    /// The method, `Service.Method`.
    pub method: Text,
    /// How the body is encoded; empty: as the server likes it.
    pub content_type: Text,
    /// How the answer is to be encoded; empty: as the body.
    pub accept: Text,
    /// What travels beside the body.
    pub metadata: Metadata,
    /// When the call has to be over.
    pub deadline: Option<Instant>,
    /// Whether doing it twice is as good as doing it once.
    pub idempotent: bool,
    /// What it carries.
    pub body: Body,
    /// The server's side of it.
    pub(crate) context: Option<Context>,
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
    /// A call of a method, with a body.
    pub fn new(method: impl Into<Text>, body: Body) -> Self {
        Self { method: method.into(), body, ..Self::default() }
    }

    /// Who calls, on the side of the server. The method and the metadata are here, in the request,
    /// until a handler of a [`Router`](super::Router) has them.
    pub const fn context(&self) -> Option<&Context> {
        self.context.as_ref()
    }

    /// The same call once more; `None` if its body is a stream.
    pub fn try_clone(&self) -> Option<Self> {
        let super::body::Inner::Single(body) = &self.body.inner else { return None };
        Some(Self {
            service: self.service.clone(),
            method: self.method.clone(),
            content_type: self.content_type.clone(),
            accept: self.accept.clone(),
            metadata: self.metadata.clone(),
            body: Body::single(body.clone()),
            context: self.context.clone(),
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
    /// How the body is encoded.
    pub content_type: Text,
    /// What was known before the body.
    pub headers: Metadata,
    /// What comes behind it.
    pub trailers: Trailers,
    /// What it carries.
    pub body: Body,
}

impl Response {
    /// An answer.
    pub fn new(body: Body) -> Self {
        Self { body, ..Self::default() }
    }
}

/// How a call ends.
pub(crate) type Outcome = Result<Response, Status>;
