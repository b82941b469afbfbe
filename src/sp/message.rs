//! A message and where it came from.

use bytes::Bytes;

use super::pipe::Pipe;

/// A header, a body, and the pipe that it came through.
///
/// On the wire nothing separates the body from the header: the pattern knows where one ends. REQ
/// and REP write and read the header themselves, raw sockets leave it to their user.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// What stands before the body: the backtrace with the request id.
    pub header: Bytes,
    /// The content that the application sends.
    pub body: Bytes,
    /// The pipe that it came through, which may be gone by now; `None` if it was not received.
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
