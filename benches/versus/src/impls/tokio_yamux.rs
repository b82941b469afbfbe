//! `tokio-yamux`, the implementation of tentacle.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_yamux::stream::StreamHandle;
use tokio_yamux::{Config, Control, Session};

use crate::mux::{Mux, Opener, Pipe, Shape};
use crate::net::{Lobby, Site};
use crate::workload::Workload;

/// tokio-yamux has a fixed receive window; the second row enlarges it where the path is long.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum TokioYamux {
    Default,
    Large,
}

impl TokioYamux {
    fn config(self, shape: Shape) -> Config {
        let defaults = Config::default();
        let window = shape.long_path_window.filter(|_| self == Self::Large);
        Config {
            max_stream_count: defaults.max_stream_count.max(shape.streams + HEADROOM),
            max_stream_window_size: window.unwrap_or(defaults.max_stream_window_size),
            ..defaults
        }
    }
}

impl Mux for TokioYamux {
    type Opener = Requests;
    type Stream = HandlePipe;

    fn name(&self) -> &'static str {
        match self {
            Self::Default => "tokio-yamux",
            Self::Large => "tokio-yamux-large",
        }
    }

    fn enters(&self, workload: &Workload) -> bool {
        match self {
            Self::Default => true,
            Self::Large => workload.is_long_path(),
        }
    }

    async fn connect(&self, site: Arc<Site>, shape: Shape) -> io::Result<Requests> {
        let session = Session::new_client(site.connect().await?, self.config(shape));
        let control = session.control();
        tokio::spawn(drive(session, |_| {}));
        Ok(Requests(control))
    }

    async fn serve(
        &self,
        lobby: Lobby,
        shape: Shape,
        mut on_stream: impl FnMut(Self::Stream) + Send + 'static,
    ) -> io::Result<()> {
        let session = Session::new_server(lobby.accept().await?, self.config(shape));
        drive(session, move |stream| on_stream(HandlePipe(stream))).await
    }
}

/// Asks the session for streams.
#[derive(Clone)]
pub(super) struct Requests(Control);

impl Opener for Requests {
    type Stream = HandlePipe;

    async fn open(&mut self) -> io::Result<Self::Stream> {
        self.0.open_stream().await.map(HandlePipe).map_err(io::Error::other)
    }
}

/// A stream whose writer also reads.
///
/// A handle takes in credit only while it is read: a task that did nothing but write would wait for ever.
pub(super) struct HandlePipe(StreamHandle);

impl HandlePipe {
    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.0).poll_write(cx, bytes);
        if written.is_pending() {
            // Takes in what has come, wakes this task if that was credit, and consumes no data.
            let _ = self.0.poll_peek(cx, &mut ReadBuf::new(&mut []));
        }
        written
    }
}

impl Pipe for HandlePipe {
    async fn send(&mut self, message: &Bytes) -> io::Result<()> {
        let mut rest = &message[..];
        while !rest.is_empty() {
            let written = std::future::poll_fn(|cx| self.poll_send(cx, rest)).await?;
            rest = &rest[written..];
        }
        Ok(())
    }

    async fn recv(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf).await
    }

    async fn finish(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}

async fn drive(
    mut session: Session<TcpStream>,
    mut on_stream: impl FnMut(StreamHandle),
) -> io::Result<()> {
    while let Some(stream) = session.next().await {
        on_stream(stream?);
    }
    Ok(())
}

/// Streams that are closed here while the peer's end is on its way still count.
const HEADROOM: usize = 1024;
