//! A message and where it came from.

use bytes::Bytes;

use super::pipe::Pipe;

/// A header, a body, and the pipe that it came through.
///
/// On the wire the body follows the header without a mark. What a header is, is up to the
/// pattern: REQ and REP write it themselves, raw sockets leave it to their user.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// What stands before the body: request id, backtrace.
    pub header: Bytes,
    /// What the application sends.
    pub body: Bytes,
    /// Where it came from, which may be gone by now; `None` on one that was not received.
    pub pipe: Option<Pipe>,
}

impl Message {
    /// A message to be sent.
    pub fn new(header: impl Into<Bytes>, body: impl Into<Bytes>) -> Self {
        Self { header: header.into(), body: body.into(), pipe: None }
    }
}

impl<T: Into<Bytes>> From<T> for Message {
    fn from(body: T) -> Self {
        Self::new(Bytes::new(), body)
    }
}
