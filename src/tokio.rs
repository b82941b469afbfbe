//! With the feature `tokio`: one call takes a tokio IO object, spawns the driver and returns the
//! session, on tokio's clock.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use futures::io::{AsyncRead, AsyncWrite};
use tokio::io::ReadBuf;

use crate::{
    config::Config,
    runtime::{BoxFuture, Runtime, Timer},
    session::{Driver, Session},
};

/// The current tokio runtime: its tasks and its clock, for the layers above the session.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let runtime = trunkline::tokio::runtime();
/// runtime.spawn(async { println!("a task") });
/// # }
/// ```
///
/// # Panics
///
/// Outside of a tokio runtime.
#[must_use]
pub fn runtime() -> Runtime {
    let handle = tokio::runtime::Handle::current();
    Runtime::new(move |task| drop(handle.spawn(task))).timer(Arc::new(TokioTimer))
}

/// A session for the side that connected; its driver is spawned on the current runtime.
///
/// The clock is tokio's ([`TokioTimer`]) unless the configuration names one.
///
/// ```
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// use trunkline::Config;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (left, right) = tokio::io::duplex(4096); // or a TcpStream
/// let client = trunkline::tokio::client(left, Config::default());
/// let server = trunkline::tokio::server(right, Config::default());
///
/// let mut stream = client.open().await?;
/// stream.write_all(b"hello").await?;
/// stream.shutdown().await?;
///
/// let mut text = String::new();
/// let mut accepted = server.accept().await.expect("a stream");
/// accepted.read_to_string(&mut text).await?;
/// assert_eq!(text, "hello");
/// # Ok(())
/// # }
/// ```
///
/// # Panics
///
/// Outside of a tokio runtime, as [`tokio::spawn`]. In a runtime without `enable_time` the driver
/// panics, and the session ends with [`DriverDropped`](crate::SessionError::DriverDropped).
pub fn client<T>(io: T, config: Config) -> Session
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + 'static,
{
    spawn(Session::client(Compat::new(io), with_timer(config)))
}

/// A session for the side that was connected to; else as [`client`].
///
/// # Panics
///
/// Outside of a tokio runtime, as [`tokio::spawn`].
pub fn server<T>(io: T, config: Config) -> Session
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + 'static,
{
    spawn(Session::server(Compat::new(io), with_timer(config)))
}

fn with_timer(mut config: Config) -> Config {
    if !config.timer_chosen {
        config.timer = Some(Arc::new(TokioTimer));
    }
    config
}

fn spawn((session, driver): (Session, Driver)) -> Session {
    // How it ended is what `Session::closed` says.
    drop(tokio::spawn(driver));
    session
}

/// Tokio's clock, which tests can pause. The runtime must have time enabled (`enable_time`).
///
/// Where nothing else in the runtime sleeps,
/// [`ThreadTimer`](crate::runtime::ThreadTimer) costs less.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioTimer;

impl Timer for TokioTimer {
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn sleep_until(&self, at: Instant) -> BoxFuture {
        Box::pin(tokio::time::sleep_until(at.into()))
    }
}

/// A tokio IO object with the futures traits, vectored writes included.
#[derive(Debug)]
pub(crate) struct Compat<T> {
    io: Pin<Box<T>>,
}

impl<T> Compat<T> {
    pub(crate) fn new(io: T) -> Self {
        Self { io: Box::pin(io) }
    }
}

impl<T: tokio::io::AsyncRead> AsyncRead for Compat<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(out);
        ready!(self.io.as_mut().poll_read(cx, &mut buf))?;
        Poll::Ready(Ok(buf.filled().len()))
    }
}

impl<T: tokio::io::AsyncWrite> AsyncWrite for Compat<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.io.as_mut().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io.as_mut().poll_write_vectored(cx, slices)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.as_mut().poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.as_mut().poll_shutdown(cx)
    }
}
