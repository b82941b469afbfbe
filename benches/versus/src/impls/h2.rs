//! `h2`: HTTP/2, a request per stream, by its native interface (buffers out, buffers in, explicit flow control).
//!
//! One of its defences is off in both rows: the budget for small frames, which takes many writes of 64 bytes for an
//! attack and ends the session.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{Method, Request, Response, Uri};

use crate::mux::{Mux, Opener, Pipe, Shape};
use crate::net::{Lobby, Site};

/// h2 as it comes (64 KiB windows for a stream and for all of them, frames of 16 KiB), and with large sizes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum H2 {
    Default,
    Large,
}

/// What the second row asks for.
#[derive(Clone, Copy)]
struct Sizes {
    stream: u32,
    connection: u32,
}

impl H2 {
    /// `None` leaves the defaults.
    fn sizes(self, shape: Shape) -> Option<Sizes> {
        let stream = shape.long_path_window.unwrap_or(LARGE_STREAM_WINDOW);
        let large = Sizes { stream, connection: stream.max(LARGE_CONNECTION_WINDOW) };
        (self == Self::Large).then_some(large)
    }

    fn client(self, shape: Shape) -> h2::client::Builder {
        let mut builder = h2::client::Builder::new();
        builder.enable_push(false).data_frame_budget(usize::MAX);
        if let Some(sizes) = self.sizes(shape) {
            builder
                .initial_window_size(sizes.stream)
                .initial_connection_window_size(sizes.connection)
                .max_frame_size(LARGE_FRAME);
        }
        builder
    }

    fn server(self, shape: Shape) -> h2::server::Builder {
        let mut builder = h2::server::Builder::new();
        builder.data_frame_budget(usize::MAX);
        if let Some(sizes) = self.sizes(shape) {
            builder
                .initial_window_size(sizes.stream)
                .initial_connection_window_size(sizes.connection)
                .max_frame_size(LARGE_FRAME);
        }
        builder
    }
}

impl Mux for H2 {
    type Opener = Requests;
    type Stream = H2Pipe;

    fn name(&self) -> &'static str {
        match self {
            Self::Default => "h2",
            Self::Large => "h2-large",
        }
    }

    async fn connect(&self, site: Arc<Site>, shape: Shape) -> io::Result<Requests> {
        let handshake = self.client(shape).handshake(site.connect().await?);
        let (requests, connection) = handshake.await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(Requests(requests))
    }

    async fn serve(
        &self,
        lobby: Lobby,
        shape: Shape,
        mut on_stream: impl FnMut(Self::Stream) + Send + 'static,
    ) -> io::Result<()> {
        let handshake = self.server(shape).handshake(lobby.accept().await?);
        let mut connection = handshake.await.map_err(io::Error::other)?;
        while let Some(request) = connection.accept().await {
            let (request, mut respond) = request.map_err(io::Error::other)?;
            let send = respond.send_response(Response::new(()), false).map_err(io::Error::other)?;
            on_stream(H2Pipe { send, recv: Incoming::Body(request.into_body()), unread: 0 });
        }
        Ok(())
    }
}

/// Sends requests.
#[derive(Clone)]
pub(super) struct Requests(SendRequest<Bytes>);

impl Opener for Requests {
    type Stream = H2Pipe;

    async fn open(&mut self) -> io::Result<H2Pipe> {
        std::future::poll_fn(|cx| self.0.poll_ready(cx)).await.map_err(io::Error::other)?;
        let (response, send) = self.0.send_request(request(), false).map_err(io::Error::other)?;
        Ok(H2Pipe { send, recv: Incoming::Response(response), unread: 0 })
    }
}

/// A request with its response, as two directions of one stream.
pub(super) struct H2Pipe {
    send: SendStream<Bytes>,
    recv: Incoming,
    /// What was received beyond what the caller had room for.
    unread: usize,
}

enum Incoming {
    /// The client's, until the response's head is in.
    Response(ResponseFuture),
    Body(RecvStream),
}

impl H2Pipe {
    /// Waits for credit and takes up to `wanted` of it.
    ///
    /// Reserving more than the next message needs would save calls, but holds credit of the connection that other
    /// streams wait for.
    async fn credit(&mut self, wanted: usize) -> io::Result<usize> {
        self.send.reserve_capacity(wanted);
        while self.send.capacity() == 0 {
            match std::future::poll_fn(|cx| self.send.poll_capacity(cx)).await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(io::Error::other(error)),
                None => return Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
        Ok(self.send.capacity().min(wanted))
    }

    async fn send_all(&mut self, message: &Bytes, last: bool) -> io::Result<()> {
        let mut rest = message.clone();
        while !rest.is_empty() {
            let part = rest.split_to(self.credit(rest.len()).await?);
            let end = last && rest.is_empty();
            self.send.send_data(part, end).map_err(io::Error::other)?;
        }
        Ok(())
    }

    async fn body(&mut self) -> io::Result<&mut RecvStream> {
        if let Incoming::Response(response) = &mut self.recv {
            let response = response.await.map_err(io::Error::other)?;
            self.recv = Incoming::Body(response.into_body());
        }
        match &mut self.recv {
            Incoming::Body(body) => Ok(body),
            Incoming::Response(_) => unreachable!("replaced above"),
        }
    }
}

impl Pipe for H2Pipe {
    async fn send(&mut self, message: &Bytes) -> io::Result<()> {
        self.send_all(message, false).await
    }

    async fn send_last(&mut self, message: &Bytes) -> io::Result<()> {
        self.send_all(message, true).await
    }

    async fn recv(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.unread == 0 {
            let body = self.body().await?;
            let Some(data) = body.data().await else {
                return Ok(0);
            };
            let received = data.map_err(io::Error::other)?.len();
            body.flow_control().release_capacity(received).map_err(io::Error::other)?;
            // An empty frame may carry the end of the stream: it is not yet the end itself.
            self.unread = received;
        }
        let taken = self.unread.min(buf.len());
        self.unread -= taken;
        Ok(taken)
    }

    async fn finish(&mut self) -> io::Result<()> {
        self.send.send_data(Bytes::new(), true).map_err(io::Error::other)
    }
}

/// A head that HPACK compresses to a few bytes from the second stream on.
fn request() -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static("http://versus/");
    request
}

/// Large enough never to wait on loopback, small enough to stay in the cache.
const LARGE_STREAM_WINDOW: u32 = 1 << 20;
const LARGE_CONNECTION_WINDOW: u32 = 16 << 20;

/// The size of a bulk message: a third of the system calls of the default.
const LARGE_FRAME: u32 = 64 << 10;
