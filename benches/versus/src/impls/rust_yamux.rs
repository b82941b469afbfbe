//! `yamux`, the implementation of libp2p.
//!
//! Its `Connection` is polled for outbound and inbound streams by turns, so the client's driver is the usual one: a
//! task that owns the connection and answers requests for streams from a channel.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
use yamux::{Config, Connection, ConnectionError, Mode, Stream};

use crate::mux::{IoPipe, Mux, Opener, Shape};
use crate::net::{Lobby, Site};

/// rust-yamux with its default settings; only the limit on streams follows the workload.
#[derive(Clone, Copy)]
pub(super) struct RustYamux;

impl Mux for RustYamux {
    type Opener = Requests;
    type Stream = IoPipe<Compat<Stream>>;

    fn name(&self) -> &'static str {
        "yamux"
    }

    async fn connect(&self, site: Arc<Site>, shape: Shape) -> io::Result<Requests> {
        let connection =
            Connection::new(site.connect().await?.compat(), config(shape), Mode::Client);
        let (sender, requests) = mpsc::channel(REQUESTS);
        let driver = Driver { connection, requests, unanswered: None };
        tokio::spawn(driver.run());
        Ok(Requests(sender))
    }

    async fn serve(
        &self,
        lobby: Lobby,
        shape: Shape,
        mut on_stream: impl FnMut(Self::Stream) + Send + 'static,
    ) -> io::Result<()> {
        let socket = lobby.accept().await?.compat();
        let mut connection = Connection::new(socket, config(shape), Mode::Server);
        while let Some(stream) = std::future::poll_fn(|cx| connection.poll_next_inbound(cx)).await {
            on_stream(IoPipe(stream.map_err(io::Error::other)?.compat()));
        }
        Ok(())
    }
}

/// Asks the driver for streams.
#[derive(Clone)]
pub(super) struct Requests(mpsc::Sender<Request>);

impl Opener for Requests {
    type Stream = IoPipe<Compat<Stream>>;

    async fn open(&mut self) -> io::Result<Self::Stream> {
        let (answer, opened) = oneshot::channel();
        self.0.send(answer).await.map_err(|_| io::ErrorKind::ConnectionReset)?;
        let stream = opened.await.map_err(|_| io::ErrorKind::ConnectionReset)?;
        Ok(IoPipe(stream.map_err(io::Error::other)?.compat()))
    }
}

type Request = oneshot::Sender<Result<Stream, ConnectionError>>;

struct Driver {
    connection: Connection<Compat<TcpStream>>,
    requests: mpsc::Receiver<Request>,
    /// Taken from the channel, but the connection was not ready to open.
    unanswered: Option<Request>,
}

impl Driver {
    async fn run(mut self) {
        std::future::poll_fn(|cx| self.poll(cx)).await;
    }

    /// Ready when the connection ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.open_requested(cx);
        loop {
            match self.connection.poll_next_inbound(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn open_requested(&mut self, cx: &mut Context<'_>) {
        while let Some(request) = self.next_request(cx) {
            let Poll::Ready(opened) = self.connection.poll_new_outbound(cx) else {
                self.unanswered = Some(request);
                return;
            };
            let _ = request.send(opened);
        }
    }

    fn next_request(&mut self, cx: &mut Context<'_>) -> Option<Request> {
        self.unanswered.take().or_else(|| match self.requests.poll_recv(cx) {
            Poll::Ready(request) => request,
            Poll::Pending => None,
        })
    }
}

fn config(shape: Shape) -> Config {
    let mut config = Config::default();
    if shape.streams > DEFAULT_STREAMS {
        // The connection's limit must cover the first window of every stream: none says "as many as it takes".
        config.set_max_connection_receive_window(None);
        config.set_max_num_streams(shape.streams + DEFAULT_STREAMS);
    }
    config
}

/// What `Config::default()` admits.
const DEFAULT_STREAMS: usize = 512;

const REQUESTS: usize = 64;
