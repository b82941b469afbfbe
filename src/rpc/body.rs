//! What a request or a response carries: one message, or many.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream::BoxStream};
use parking_lot::Mutex;

use super::{Code, Metadata, Status, incoming::Incoming, sender::SlotBody};

/// The body of a request or a response: one message, or a stream of them.
///
/// As a [`futures::Stream`] it yields the messages as they arrive. The other side may send more
/// only as they are taken.
#[derive(Default)]
pub struct Body {
    pub(crate) inner: Inner,
}

#[derive(Default)]
pub(crate) enum Inner {
    Single(Bytes),
    /// From the connection.
    Wire(Box<Incoming>),
    /// From a [`Sender`](super::Sender), which writes to the connection itself once it has one.
    Slot(SlotBody),
    /// Behind a lock that is never contended, so that bodies can be shared.
    Stream(Mutex<BoxStream<'static, Result<Bytes, Status>>>),
    #[default]
    Taken,
}

impl Body {
    /// One message.
    pub fn single(bytes: impl Into<Bytes>) -> Self {
        Self { inner: Inner::Single(bytes.into()) }
    }

    /// Many messages. An error ends the call with that status.
    pub fn stream(stream: impl Stream<Item = Result<Bytes, Status>> + Send + 'static) -> Self {
        Self { inner: Inner::Stream(Mutex::new(stream.boxed())) }
    }

    /// Whether it is a stream, even a stream of one message.
    pub const fn is_streaming(&self) -> bool {
        !matches!(self.inner, Inner::Single(_) | Inner::Taken)
    }

    /// The message, of a body that is one.
    ///
    /// # Errors
    ///
    /// [`Code::BadRequest`] if it is a stream.
    #[inline]
    pub fn into_single(self) -> Result<Bytes, Status> {
        self.single_bytes().ok_or_else(not_single)
    }

    #[inline]
    pub(crate) fn single_bytes(self) -> Option<Bytes> {
        match self.inner {
            Inner::Single(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Messages as they arrive from the connection.
    pub(crate) fn wire(incoming: Incoming) -> Self {
        Self { inner: Inner::Wire(Box::new(incoming)) }
    }

    pub(crate) const fn is_taken(&self) -> bool {
        matches!(self.inner, Inner::Taken)
    }

    pub(crate) fn take(&mut self) -> Self {
        std::mem::take(self)
    }
}

#[cold]
fn not_single() -> Status {
    Status::new(Code::BadRequest, "one message was expected, not a stream")
}

impl Stream for Body {
    type Item = Result<Bytes, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.inner {
            Inner::Single(_) => match std::mem::take(&mut self.inner) {
                Inner::Single(bytes) => Poll::Ready(Some(Ok(bytes))),
                _ => Poll::Ready(None),
            },
            Inner::Wire(incoming) => incoming.poll_next(cx),
            Inner::Slot(slot) => slot.poll_next(cx),
            Inner::Stream(stream) => stream.get_mut().poll_next_unpin(cx),
            Inner::Taken => Poll::Ready(None),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.inner {
            Inner::Single(bytes) => f.debug_tuple("Body").field(&bytes.len()).finish(),
            _ => f.write_str("Body(..)"),
        }
    }
}

/// Metadata that comes behind a body: complete once the body was read to its end.
#[derive(Clone, Debug, Default)]
pub struct Trailers {
    shared: Option<Arc<Mutex<Metadata>>>,
}

impl Trailers {
    /// Trailers that are known already.
    #[must_use]
    pub fn new(metadata: Metadata) -> Self {
        if metadata.is_empty() {
            return Self::default();
        }
        Self { shared: Some(Arc::new(Mutex::new(metadata))) }
    }

    /// A place for trailers that are not known yet.
    pub(crate) fn later() -> Self {
        Self { shared: Some(Arc::default()) }
    }

    /// The trailers as far as they are known: all of them once the body was read to its end.
    pub fn get(&self) -> Metadata {
        self.shared.as_ref().map_or_else(Metadata::new, |shared| shared.lock().clone())
    }

    pub(crate) fn with(&self, act: impl FnOnce(&mut Metadata)) {
        if let Some(shared) = &self.shared {
            act(&mut shared.lock());
        }
    }
}
