//! An IO of which every write is seen, and that may fail after some bytes.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use futures::{AsyncRead, AsyncWrite};
use trunkline::transport::memory::Duplex;

/// What was written, write by write.
#[derive(Clone, Default)]
pub struct Writes(Arc<Mutex<Vec<Vec<u8>>>>);

impl Writes {
    /// All of them until now; the next are counted anew.
    pub fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

pub struct Tapped {
    io: Duplex,
    writes: Writes,
    left: usize,
}

impl Tapped {
    pub fn new(io: Duplex, writes: &Writes) -> Self {
        Self::cut(io, writes, usize::MAX)
    }

    /// Its writing side fails after so many bytes.
    pub fn cut(io: Duplex, writes: &Writes, left: usize) -> Self {
        Self { io, writes: writes.clone(), left }
    }
}

impl AsyncRead for Tapped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_read(cx, out)
    }
}

impl AsyncWrite for Tapped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let len = self.left.min(bytes.len());
        let written = Pin::new(&mut self.io).poll_write(cx, &bytes[..len]);
        if let Poll::Ready(Ok(len)) = written {
            self.left -= len;
            self.writes.0.lock().unwrap().push(bytes[..len].to_vec());
        }
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        self.poll_write(cx, &all)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}
