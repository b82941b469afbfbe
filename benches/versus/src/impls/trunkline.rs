//! `trunkline` itself, by `AsyncRead + AsyncWrite` and by chunks.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use trunkline::runtime::ThreadTimer;
use trunkline::{Config, Session, Stream};

use crate::mux::{IoPipe, Mux, Opener, Pipe, Shape, Standing};
use crate::net::{Lobby, Site};
use crate::workload::{Load, Workload};

/// The streams as tokio's `AsyncRead + AsyncWrite`.
#[derive(Clone, Copy)]
pub(super) struct Trunkline;

impl Mux for Trunkline {
    type Opener = IoSession;
    type Stream = IoPipe<Stream>;

    fn name(&self) -> &'static str {
        "trunkline"
    }

    fn standing(&self) -> Standing {
        Standing::Ours
    }

    async fn connect(&self, site: Arc<Site>, shape: Shape) -> io::Result<IoSession> {
        client(&site, shape).await.map(IoSession)
    }

    async fn serve(
        &self,
        lobby: Lobby,
        shape: Shape,
        mut on_stream: impl FnMut(Self::Stream) + Send + 'static,
    ) -> io::Result<()> {
        accept_all(lobby, shape, move |stream| on_stream(IoPipe(stream))).await
    }
}

/// The streams by `read_chunk` and `write_chunk`: bytes change hands and are not copied.
#[derive(Clone, Copy)]
pub(super) struct Chunks;

impl Mux for Chunks {
    type Opener = ChunkSession;
    type Stream = ChunkPipe;

    fn name(&self) -> &'static str {
        "trunkline-chunks"
    }

    fn standing(&self) -> Standing {
        Standing::Ours
    }

    /// Chunks are for large bodies: a small one is copied either way.
    fn enters(&self, workload: &Workload) -> bool {
        matches!(workload.load, Load::OneWay { message, .. } if message >= LARGE_BODY)
    }

    async fn connect(&self, site: Arc<Site>, shape: Shape) -> io::Result<ChunkSession> {
        client(&site, shape).await.map(ChunkSession)
    }

    async fn serve(
        &self,
        lobby: Lobby,
        shape: Shape,
        mut on_stream: impl FnMut(Self::Stream) + Send + 'static,
    ) -> io::Result<()> {
        accept_all(lobby, shape, move |stream| on_stream(ChunkPipe(stream))).await
    }
}

/// Opens streams read and written as IO.
#[derive(Clone)]
pub(super) struct IoSession(Session);

impl Opener for IoSession {
    type Stream = IoPipe<Stream>;

    async fn open(&mut self) -> io::Result<Self::Stream> {
        self.0.open().await.map(IoPipe).map_err(io::Error::other)
    }
}

/// Opens streams read and written by chunks.
#[derive(Clone)]
pub(super) struct ChunkSession(Session);

impl Opener for ChunkSession {
    type Stream = ChunkPipe;

    async fn open(&mut self) -> io::Result<Self::Stream> {
        self.0.open().await.map(ChunkPipe).map_err(io::Error::other)
    }
}

/// A stream read and written by chunks.
pub(super) struct ChunkPipe(Stream);

impl Pipe for ChunkPipe {
    async fn send(&mut self, message: &Bytes) -> io::Result<()> {
        let mut rest = message.clone();
        while !rest.is_empty() {
            self.0.write_chunk(&mut rest).await?;
        }
        Ok(())
    }

    async fn recv(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let chunk = self.0.read_chunk(buf.len()).await?;
        Ok(chunk.map_or(0, |chunk| chunk.len()))
    }

    async fn finish(&mut self) -> io::Result<()> {
        AsyncWriteExt::shutdown(&mut self.0).await
    }
}

async fn client(site: &Site, shape: Shape) -> io::Result<Session> {
    Ok(trunkline::tokio::client(site.connect().await?, config(shape)?))
}

async fn accept_all(
    lobby: Lobby,
    shape: Shape,
    mut on_stream: impl FnMut(Stream),
) -> io::Result<()> {
    let session = trunkline::tokio::server(lobby.accept().await?, config(shape)?);
    while let Some(stream) = session.accept().await {
        on_stream(stream);
    }
    session.closed().await.map_err(io::Error::other)
}

/// The defaults, the clock being the crate's own; the limits on streams follow the workload, and on a long path the window may grow as far as everyone's.
fn config(shape: Shape) -> io::Result<Config> {
    let mut builder = Config::builder().timer(Arc::new(ThreadTimer));
    if shape.streams > DEFAULT_STREAMS {
        let streams = shape.streams + DEFAULT_STREAMS;
        builder = builder.max_streams(streams).max_outbound_streams(streams);
    }
    if let Some(window) = shape.long_path_window {
        builder = builder.max_stream_window(window).receive_budget(window as usize * 2);
    }
    builder.build().map_err(io::Error::other)
}

/// What the default configuration admits.
const DEFAULT_STREAMS: usize = 8192;

const LARGE_BODY: usize = 64 << 10;
