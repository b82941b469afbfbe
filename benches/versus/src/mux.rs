//! What a contestant has to offer: sessions that open and accept streams, and streams that carry bytes.
//!
//! The verbs of [`Pipe`] are those of the workloads, not those of `AsyncRead` and `AsyncWrite`, so that a contestant
//! whose native interface hands out buffers (h2, the chunks of trunkline) is measured by that interface.
//! [`IoPipe`] serves every contestant whose native interface is `AsyncRead + AsyncWrite`.

use std::future::Future;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::net::{Lobby, Site};
use crate::workload::Workload;

/// An implementation under test, with the settings of one row of the table.
pub trait Mux: Copy + Send + Sync + 'static {
    /// Opens streams; cloned into every task that does.
    type Opener: Opener<Stream = Self::Stream>;
    /// One stream, on either side.
    type Stream: Pipe;

    /// The row's name.
    fn name(&self) -> &'static str;

    /// What the row is compared as.
    fn standing(&self) -> Standing {
        Standing::Peer
    }

    /// Whether the row says something about `workload`.
    fn enters(&self, workload: &Workload) -> bool {
        let _ = workload;
        true
    }

    /// The most streams the contestant can hold at once.
    fn most_streams(&self) -> usize {
        usize::MAX
    }

    /// Connects to the server; the session's driver, if any, is spawned.
    fn connect(
        &self,
        site: Arc<Site>,
        shape: Shape,
    ) -> impl Future<Output = io::Result<Self::Opener>> + Send;

    /// Serves one session, handing over every stream the client opens.
    fn serve(
        &self,
        lobby: Lobby,
        shape: Shape,
        on_stream: impl FnMut(Self::Stream) + Send + 'static,
    ) -> impl Future<Output = io::Result<()>> + Send;
}

/// The client's half of a session.
pub trait Opener: Clone + Send + Sync + 'static {
    /// One stream.
    type Stream: Pipe;

    /// Opens a stream.
    fn open(&mut self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// One stream of bytes.
pub trait Pipe: Send + 'static {
    /// Sends the whole message, in order, as flow control permits.
    fn send(&mut self, message: &Bytes) -> impl Future<Output = io::Result<()>> + Send;

    /// Receives some bytes, at most as many as `buf` holds; 0 is a clean end.
    ///
    /// A contestant that hands out buffers of its own need not copy them to `buf`: no workload looks at the bytes.
    fn recv(&mut self, buf: &mut [u8]) -> impl Future<Output = io::Result<usize>> + Send;

    /// Ends this direction cleanly.
    fn finish(&mut self) -> impl Future<Output = io::Result<()>> + Send;

    /// Sends the last message and ends this direction.
    fn send_last(&mut self, message: &Bytes) -> impl Future<Output = io::Result<()>> + Send {
        async move {
            self.send(message).await?;
            self.finish().await
        }
    }

    /// Receives until `buf` would be full.
    fn recv_exact(&mut self, buf: &mut [u8]) -> impl Future<Output = io::Result<()>> + Send {
        async move {
            let mut filled = 0;
            while filled < buf.len() {
                match self.recv(&mut buf[filled..]).await? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    n => filled += n,
                }
            }
            Ok(())
        }
    }

    /// Receives to the end and tells how much there was.
    fn recv_to_end(&mut self, buf: &mut [u8]) -> impl Future<Output = io::Result<usize>> + Send {
        async move {
            let mut total = 0;
            loop {
                match self.recv(buf).await? {
                    0 => return Ok(total),
                    n => total += n,
                }
            }
        }
    }
}

/// What a row is compared as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Raw TCP: everyone's ratio is to this.
    Baseline,
    /// A bound worth knowing, compared with nobody.
    Reference,
    /// Somebody else's multiplexer.
    Peer,
    /// This crate.
    Ours,
}

/// What a contestant may know of the workload when it chooses its settings.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// The most streams alive at once.
    pub streams: usize,
    /// On a long path: how large a stream's window must be able to get, for those who have such a setting.
    pub long_path_window: Option<u32>,
}

/// A stream whose native interface is `AsyncRead + AsyncWrite`.
pub struct IoPipe<T>(pub T);

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Pipe for IoPipe<T> {
    async fn send(&mut self, message: &Bytes) -> io::Result<()> {
        self.0.write_all(message).await
    }

    async fn recv(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf).await
    }

    async fn finish(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}
