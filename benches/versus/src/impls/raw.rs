//! Raw TCP: a stream is a connection. The baseline of every ratio.

use std::io;
use std::sync::Arc;

use tokio::io::BufWriter;
use tokio::net::TcpStream;

use crate::mux::{IoPipe, Mux, Opener, Shape, Standing};
use crate::net::{Lobby, Site};
use crate::workload::Workload;

/// Raw TCP as it is.
#[derive(Clone, Copy)]
pub(super) struct Raw;

impl Mux for Raw {
    type Opener = Connector;
    type Stream = IoPipe<TcpStream>;

    fn name(&self) -> &'static str {
        "raw"
    }

    fn standing(&self) -> Standing {
        Standing::Baseline
    }

    /// A connection is a file descriptor in each process; the usual limit is some ten thousand.
    fn most_streams(&self) -> usize {
        4_000
    }

    async fn connect(&self, site: Arc<Site>, _: Shape) -> io::Result<Connector> {
        Ok(Connector(site))
    }

    async fn serve(
        &self,
        lobby: Lobby,
        _: Shape,
        mut on_stream: impl FnMut(Self::Stream) + Send + 'static,
    ) -> io::Result<()> {
        loop {
            on_stream(IoPipe(lobby.accept().await?));
        }
    }
}

/// Raw TCP behind a write buffer of 64 KiB: what coalescing in user space can reach at most.
#[derive(Clone, Copy)]
pub(super) struct Buffered;

impl Mux for Buffered {
    type Opener = BufferedConnector;
    type Stream = IoPipe<BufWriter<TcpStream>>;

    fn name(&self) -> &'static str {
        "raw-buffered"
    }

    fn standing(&self) -> Standing {
        Standing::Reference
    }

    fn enters(&self, workload: &Workload) -> bool {
        workload.name == "small_writes"
    }

    async fn connect(&self, site: Arc<Site>, _: Shape) -> io::Result<BufferedConnector> {
        Ok(BufferedConnector(site))
    }

    async fn serve(
        &self,
        lobby: Lobby,
        _: Shape,
        mut on_stream: impl FnMut(Self::Stream) + Send + 'static,
    ) -> io::Result<()> {
        loop {
            on_stream(buffered(lobby.accept().await?));
        }
    }
}

/// Opens a stream by connecting.
#[derive(Clone)]
pub(super) struct Connector(Arc<Site>);

impl Opener for Connector {
    type Stream = IoPipe<TcpStream>;

    async fn open(&mut self) -> io::Result<Self::Stream> {
        self.0.connect().await.map(IoPipe)
    }
}

/// Opens a buffered stream by connecting.
#[derive(Clone)]
pub(super) struct BufferedConnector(Arc<Site>);

impl Opener for BufferedConnector {
    type Stream = IoPipe<BufWriter<TcpStream>>;

    async fn open(&mut self) -> io::Result<Self::Stream> {
        self.0.connect().await.map(buffered)
    }
}

fn buffered(socket: TcpStream) -> IoPipe<BufWriter<TcpStream>> {
    IoPipe(BufWriter::with_capacity(64 << 10, socket))
}
