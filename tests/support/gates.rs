//! A transport over another whose dials take another way, and connections that something holds up
//! or breaks.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncWrite};
use trunkline::transport::{
    Address, Binding, Connecting, Connection, Connector, Io, Settings, Transport,
};

/// A transport over another.
pub struct Over {
    below: Arc<dyn Transport>,
    dial: Arc<Dialling>,
}

/// Connects to an address in its own way, with what would connect to it.
type Dialling = dyn Fn(&Address, &Arc<dyn Connector>) -> Connecting + Send + Sync;

impl Over {
    pub fn new(
        below: Arc<dyn Transport>,
        dial: impl Fn(&Address, &Arc<dyn Connector>) -> Connecting + Send + Sync + 'static,
    ) -> Self {
        Self { below, dial: Arc::new(dial) }
    }
}

impl fmt::Debug for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Over").field("below", &self.below).finish_non_exhaustive()
    }
}

impl Transport for Over {
    fn connector(&self, address: &Address, settings: &Settings) -> io::Result<Box<dyn Connector>> {
        let below = self.below.connector(address, settings)?.into();
        Ok(Box::new(Dial { address: address.clone(), below, dial: self.dial.clone() }))
    }

    fn bind(&self, address: &Address, settings: &Settings) -> Binding {
        self.below.bind(address, settings)
    }
}

struct Dial {
    address: Address,
    below: Arc<dyn Connector>,
    dial: Arc<Dialling>,
}

impl Connector for Dial {
    fn connect(&self) -> Connecting {
        (self.dial)(&self.address, &self.below)
    }
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    In,
    Out,
}

/// What stands in the way of the bytes of a connection.
pub trait Gate: Send + Unpin + 'static {
    /// Whether bytes may pass; an error breaks the connection.
    fn poll_open(&mut self, way: Way, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// How many may be written at once.
    fn most(&self) -> usize {
        usize::MAX
    }

    /// So many have passed.
    fn passed(&mut self, way: Way, len: usize) {
        let _ = (way, len);
    }

    /// Whether the other end is not told when this one goes.
    fn is_mute(&self) -> bool {
        false
    }
}

/// A connection behind a gate.
struct Gated<G: Gate> {
    io: Option<Box<dyn Io>>,
    gate: G,
}

/// The connection, with its addresses, behind a gate.
pub fn gated(connection: Connection, gate: impl Gate) -> Connection {
    let local = connection.local_addr().cloned();
    let remote = connection.remote_addr().cloned();
    let io = Some(connection.into_io());
    Connection::new(Gated { io, gate }).local(local).remote(remote)
}

impl<G: Gate> Gated<G> {
    fn poll_io(&mut self, way: Way, cx: &mut Context<'_>) -> Poll<io::Result<&mut Box<dyn Io>>> {
        if let Err(broken) = ready!(self.gate.poll_open(way, cx)) {
            self.io = None;
            return Poll::Ready(Err(broken));
        }
        Poll::Ready(self.io.as_mut().ok_or_else(|| io::ErrorKind::ConnectionReset.into()))
    }
}

impl<G: Gate> Drop for Gated<G> {
    fn drop(&mut self) {
        if self.gate.is_mute() {
            std::mem::forget(self.io.take());
        }
    }
}

impl<G: Gate> AsyncRead for Gated<G> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let io = ready!(self.poll_io(Way::In, cx))?;
        let len = ready!(Pin::new(io).poll_read(cx, out))?;
        self.gate.passed(Way::In, len);
        Poll::Ready(Ok(len))
    }
}

impl<G: Gate> AsyncWrite for Gated<G> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let most = self.gate.most().min(bytes.len());
        let io = ready!(self.poll_io(Way::Out, cx))?;
        let len = ready!(Pin::new(io).poll_write(cx, &bytes[..most]))?;
        self.gate.passed(Way::Out, len);
        Poll::Ready(Ok(len))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let io = ready!(self.poll_io(Way::Out, cx))?;
        Pin::new(io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.poll_io(Way::Out, cx) {
            Poll::Ready(Ok(io)) => Pin::new(io).poll_close(cx),
            _ => Poll::Ready(Ok(())),
        }
    }
}
