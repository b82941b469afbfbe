//! The means to answer one request.

use std::{fmt, future::poll_fn, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{Rep, Reply, Request};
use crate::sp::{error::SendError, options::CallOptions, pipe::Pipe, shared::Shared};

/// Answers one request, once. Dropping it leaves the request unanswered.
#[must_use = "a request that is not answered will be asked again"]
pub struct Replier {
    shared: Arc<Shared<Rep>>,
    pipe: Pipe,
    header: Bytes,
    send_timeout: Option<Duration>,
    best_effort: bool,
}

impl Replier {
    pub(super) fn new(
        shared: Arc<Shared<Rep>>,
        request: Request,
        options: CallOptions,
    ) -> (Bytes, Self) {
        let Request { pipe, header, body } = request;
        let CallOptions { send_timeout, best_effort, .. } = options;
        (body, Self { shared, pipe, header, send_timeout, best_effort })
    }

    /// The pipe that the request came through, and that the reply goes to.
    pub const fn pipe(&self) -> &Pipe {
        &self.pipe
    }

    /// The words that stood before the body of the request, and will stand before that of the
    /// reply.
    pub const fn header(&self) -> &Bytes {
        &self.header
    }

    /// Sends the reply. Waits until the pipe has room, at most for the send timeout. With
    /// `best_effort` a reply that finds no room is dropped, and counted in
    /// [`Stats::dropped`](crate::sp::Stats::dropped).
    ///
    /// # Errors
    ///
    /// [`PeerGone`](SendError::PeerGone) if the pipe is gone, [`TimedOut`](SendError::TimedOut) if it
    /// had no room in time, [`Closed`](SendError::Closed) if the socket is closed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped while it waits, the request stays unanswered.
    pub async fn send(self, body: impl Into<Bytes>) -> Result<(), SendError> {
        let until = self.send_timeout.map(|timeout| self.shared.runtime.after(timeout));
        let body = body.into();
        let mut place = Place { replier: &self, key: None };
        poll_fn(|cx| {
            let mut reply = Reply {
                pipe: &self.pipe,
                header: &self.header,
                body: &body,
                key: &mut place.key,
                until,
                best_effort: self.best_effort,
            };
            self.shared.with(|rep, base| rep.poll_reply(base, &mut reply, cx))
        })
        .await
    }
}

impl fmt::Debug for Replier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replier").field("pipe", &self.pipe).finish_non_exhaustive()
    }
}

/// A place in the line before the pipe.
struct Place<'a> {
    replier: &'a Replier,
    key: Option<u64>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let Replier { shared, pipe, .. } = self.replier;
            shared.with(|rep, base| rep.end_reply(base, pipe, key));
        }
    }
}
