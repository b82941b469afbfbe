//! The IO traits, of futures and, with the feature, of tokio: each a thin layer over `Handle`.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use futures::io::{AsyncBufRead, AsyncRead, AsyncWrite};

use super::{ReadHalf, Stream, WriteHalf, consume, take_from};

macro_rules! read_traits {
    ($name:ident) => {
        impl AsyncRead for $name {
            #[inline]
            fn poll_read(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                out: &mut [u8],
            ) -> Poll<io::Result<usize>> {
                if !self.chunk.is_empty() {
                    return Poll::Ready(Ok(take_from(&mut self.chunk, out)));
                }
                self.handle.poll_read(cx, out)
            }
        }

        impl AsyncBufRead for $name {
            fn poll_fill_buf(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
            ) -> Poll<io::Result<&[u8]>> {
                let this = self.get_mut();
                this.handle.poll_fill(&mut this.chunk, cx)
            }

            fn consume(mut self: Pin<&mut Self>, len: usize) {
                let len = len.min(self.chunk.len());
                consume(&mut self.chunk, len);
            }
        }

        #[cfg(feature = "tokio")]
        impl ::tokio::io::AsyncRead for $name {
            #[inline]
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut ::tokio::io::ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                let out = buf.initialize_unfilled();
                let read = std::task::ready!(AsyncRead::poll_read(self, cx, out))?;
                buf.advance(read);
                Poll::Ready(Ok(()))
            }
        }

        #[cfg(feature = "tokio")]
        impl ::tokio::io::AsyncBufRead for $name {
            fn poll_fill_buf(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
            ) -> Poll<io::Result<&[u8]>> {
                AsyncBufRead::poll_fill_buf(self, cx)
            }

            fn consume(self: Pin<&mut Self>, len: usize) {
                AsyncBufRead::consume(self, len);
            }
        }
    };
}

macro_rules! write_traits {
    ($name:ident) => {
        impl AsyncWrite for $name {
            #[inline]
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                self.handle.poll_write(cx, bytes)
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                slices: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                self.handle.poll_write_vectored(cx, slices)
            }

            #[inline]
            fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.handle.poll_flush(cx)
            }

            #[inline]
            fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.handle.poll_close(cx)
            }
        }

        #[cfg(feature = "tokio")]
        impl ::tokio::io::AsyncWrite for $name {
            #[inline]
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                self.handle.poll_write(cx, bytes)
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                slices: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                self.handle.poll_write_vectored(cx, slices)
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            #[inline]
            fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.handle.poll_flush(cx)
            }

            #[inline]
            fn poll_shutdown(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
            ) -> Poll<io::Result<()>> {
                self.handle.poll_close(cx)
            }
        }
    };
}

read_traits!(Stream);
read_traits!(ReadHalf);
write_traits!(Stream);
write_traits!(WriteHalf);
