//! The messages of a stream, typed.

use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{Stream, StreamExt, stream::FusedStream};

use super::{
    Body, Metadata, Response, Status, Text, Trailers,
    call::{Answer, Side, decode},
    codec::{Codec, Decode, agree},
};

/// The messages of a call as they arrive: a [`futures::Stream`], which has a [`next`](Self::next)
/// of its own so that no trait has to be imported. A client that drops it before its end cancels
/// the call.
#[must_use = "streams do nothing unless polled"]
pub struct Receiver<T, K> {
    source: Source,
    codec: K,
    content_type: Text,
    method: Text,
    side: Side,
    headers: Metadata,
    trailers: Trailers,
    decodes: PhantomData<fn() -> T>,
}

enum Source {
    /// The answer has not begun.
    Call(Answer),
    Body(Body),
    Ended,
}

impl<T, K: Codec> Receiver<T, K> {
    pub(super) fn of_response(codec: K, method: Text, response: Response) -> Result<Self, Status> {
        let mut receiver = Self::new(codec, method, Side::Answer, Source::Ended);
        receiver.begin(response)?;
        Ok(receiver)
    }

    pub(super) fn of_call(codec: K, method: Text, call: Answer) -> Self {
        Self::new(codec, method, Side::Answer, Source::Call(call))
    }

    /// The messages of a request.
    pub(crate) fn of_request(codec: K, method: Text, content_type: Text, body: Body) -> Self {
        Self { content_type, ..Self::new(codec, method, Side::Request, Source::Body(body)) }
    }

    fn new(codec: K, method: Text, side: Side, source: Source) -> Self {
        Self {
            source,
            codec,
            content_type: Text::default(),
            method,
            side,
            headers: Metadata::new(),
            trailers: Trailers::default(),
            decodes: PhantomData,
        }
    }

    fn begin(&mut self, response: Response) -> Result<(), Status> {
        self.content_type = agree(&self.codec, &response.content_type)?;
        self.headers = response.headers;
        self.trailers = response.trailers;
        self.source = Source::Body(response.body);
        Ok(())
    }

    /// The next message; `None` at the end.
    ///
    /// # Errors
    ///
    /// A [`Status`], whatever went wrong; `None` follows it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<T, Status>>
    where
        K: Decode<T>,
    {
        std::future::poll_fn(|cx| self.poll_message(cx)).await
    }

    /// The metadata that the server sent before its first message: empty until the answer has
    /// begun.
    pub const fn headers(&self) -> &Metadata {
        &self.headers
    }

    /// The metadata that the server sent behind its last message: empty until that was read.
    pub fn trailers(&self) -> Metadata {
        self.trailers.get()
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, Status>>>
    where
        K: Decode<T>,
    {
        loop {
            let failed = match &mut self.source {
                Source::Ended => return Poll::Ready(None),
                Source::Call(call) => {
                    let begun = ready!(call.as_mut().poll(cx));
                    match begun.and_then(|response| self.begin(response)) {
                        Ok(()) => continue,
                        Err(status) => status,
                    }
                }
                Source::Body(body) => match ready!(body.poll_next_unpin(cx)) {
                    Some(Ok(bytes)) => {
                        let Self { codec, content_type, side, method, .. } = self;
                        match decode(codec, content_type, bytes, *side, method) {
                            Ok(message) => return Poll::Ready(Some(Ok(message))),
                            Err(status) => status,
                        }
                    }
                    Some(Err(status)) => status,
                    None => {
                        self.source = Source::Ended;
                        return Poll::Ready(None);
                    }
                },
            };
            self.source = Source::Ended;
            return Poll::Ready(Some(Err(failed)));
        }
    }
}

impl<T, K: Decode<T> + Unpin> Stream for Receiver<T, K> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_message(cx)
    }
}

impl<T, K: Decode<T> + Unpin> FusedStream for Receiver<T, K> {
    fn is_terminated(&self) -> bool {
        matches!(self.source, Source::Ended)
    }
}

impl<T, K> fmt::Debug for Receiver<T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}
