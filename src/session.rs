//! A session: many streams over one connection.

mod bell;
mod dispatch;
mod driver;
mod io;
pub(crate) mod lending;
pub(crate) mod shared;

pub use dispatch::{Dispatcher, Protocol, ProtocolError, Streams};
pub use driver::{Driver, LocalDriver};

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::{
    io::{AsyncRead, AsyncWrite},
    stream::FusedStream,
};

use self::shared::{List, Shared, State};
use crate::{
    config::Config,
    error::{GoAwayCode, OpenError, PingError, SessionError, TryOpenError},
    proto::{Core, Role, Slot, Stats},
    runtime::Timer,
    stream::Stream,
};

/// One end of a multiplexed connection. Cheap to clone; all clones are the same session.
///
/// It comes with a [`Driver`], the future that does the work: spawn it on any runtime. Nothing
/// happens unless the driver is polled; a call that waits would wait forever, past any deadline.
///
/// When the last clone is dropped, streams that nobody accepted are refused, and no more can be
/// opened or accepted. Open streams go on; when the last of them is over the session ends as if by
/// [`close`](Self::close).
///
/// ```
/// use futures::{AsyncReadExt, AsyncWriteExt, executor::block_on, future};
/// use trunkline::{Config, Session};
/// # let (left, right) = trunkline::transport::memory::duplex(4096);
///
/// let (client, driver) = Session::client(left, Config::default());
/// let (server, peer_driver) = Session::server(right, Config::default());
/// let work = async {
///     let mut stream = client.open().await?;
///     stream.write_all(b"hello").await?;
///     stream.close().await?;
///     let mut accepted = server.accept().await.expect("a stream");
///     let mut text = String::new();
///     accepted.read_to_string(&mut text).await?;
///     assert_eq!(text, "hello");
///     accepted.close().await?;
///     client.close().await?;
///     Ok::<(), Box<dyn std::error::Error>>(())
/// };
/// // A real program spawns the drivers on its runtime.
/// let (done, _, _) = block_on(future::join3(work, driver, peer_driver));
/// # done.unwrap();
/// ```
#[derive(Clone)]
pub struct Session {
    handle: Arc<Handle>,
}

impl Session {
    /// A session for the side that connected, and its driver. This side opens streams with odd ids.
    ///
    /// The driver polls `io`, and so do tasks that read large bodies from its streams, unless
    /// [`direct_reads`](crate::ConfigBuilder::direct_reads) is off.
    pub fn client<T>(io: T, config: Config) -> (Self, Driver)
    where
        T: AsyncRead + AsyncWrite + Send + 'static,
    {
        let direct_reads = config.direct_reads;
        let session = Self::new(Role::Client, config);
        let driver = Driver::new(session.handle.shared.clone(), io, direct_reads);
        (session, driver)
    }

    /// A session for the side that was connected to, and its driver. This side opens streams with
    /// even ids. Else as [`client`](Self::client).
    pub fn server<T>(io: T, config: Config) -> (Self, Driver)
    where
        T: AsyncRead + AsyncWrite + Send + 'static,
    {
        let direct_reads = config.direct_reads;
        let session = Self::new(Role::Server, config);
        let driver = Driver::new(session.handle.shared.clone(), io, direct_reads);
        (session, driver)
    }

    /// As [`client`](Self::client), over an IO that is not `Send`.
    ///
    /// The driver is not `Send` either: poll it on the thread that made it.
    ///
    /// ```
    /// use futures::{executor::LocalPool, task::LocalSpawnExt};
    /// use std::rc::Rc;
    /// use trunkline::{Config, Session};
    /// # use futures::io::{AsyncRead, AsyncWrite};
    /// # use std::{io, pin::Pin, task::{Context, Poll}};
    /// # struct ThreadBound(trunkline::transport::memory::Duplex, Rc<()>);
    /// # impl AsyncRead for ThreadBound {
    /// #     fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, b: &mut [u8]) -> Poll<io::Result<usize>> {
    /// #         Pin::new(&mut self.0).poll_read(cx, b)
    /// #     }
    /// # }
    /// # impl AsyncWrite for ThreadBound {
    /// #     fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, b: &[u8]) -> Poll<io::Result<usize>> {
    /// #         Pin::new(&mut self.0).poll_write(cx, b)
    /// #     }
    /// #     fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    /// #         Pin::new(&mut self.0).poll_flush(cx)
    /// #     }
    /// #     fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    /// #         Pin::new(&mut self.0).poll_close(cx)
    /// #     }
    /// # }
    /// # let (left, _right) = trunkline::transport::memory::duplex(64);
    /// # let io = ThreadBound(left, Rc::new(()));
    ///
    /// let mut pool = LocalPool::new();
    /// let (session, driver) = Session::client_local(io, Config::default()); // `io` holds an `Rc`
    /// pool.spawner().spawn_local(async move { drop(driver.await.is_ok()) })?;
    /// assert!(pool.run_until(session.open()).is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn client_local<T>(io: T, config: Config) -> (Self, LocalDriver)
    where
        T: AsyncRead + AsyncWrite + 'static,
    {
        let session = Self::new(Role::Client, config);
        let driver = LocalDriver::new(session.handle.shared.clone(), io);
        (session, driver)
    }

    /// As [`server`](Self::server), over an IO that is not `Send`.
    pub fn server_local<T>(io: T, config: Config) -> (Self, LocalDriver)
    where
        T: AsyncRead + AsyncWrite + 'static,
    {
        let session = Self::new(Role::Server, config);
        let driver = LocalDriver::new(session.handle.shared.clone(), io);
        (session, driver)
    }

    fn new(role: Role, config: Config) -> Self {
        let now = config.timer.as_ref().map_or_else(Instant::now, |timer| timer.now());
        let core = Core::new(role, &config, now);
        let shared = Arc::new(Shared::new(core, config.timer));
        Self { handle: Arc::new(Handle { shared }) }
    }

    /// Whether this is the client or the server of the session.
    #[must_use]
    pub fn role(&self) -> Role {
        self.handle.shared.with(|state| state.core.role())
    }

    /// Opens a stream. Nothing is sent yet: SYN goes out with the first data, or by itself
    /// before the driver next sleeps.
    ///
    /// Waits while `ack_backlog` streams wait for the peer's ACK or `max_outbound_streams` are
    /// live (`spec.md §4.4`). A peer that is at a limit of its own resets the stream, usually with
    /// [`REFUSED`](crate::ResetCode::REFUSED); the next read or write then fails.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if no stream can be opened on this session any more.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no stream is opened and its turn passes to the next caller.
    pub async fn open(&self) -> Result<Stream, OpenError> {
        let shared = &self.handle.shared;
        let opened = shared.wait(List::Open, open);
        opened.await.map(|slot| Stream::new(shared.clone(), slot))
    }

    /// Takes hold of the stream in a place that was [just opened](Opening::poll). Not made before:
    /// it is long, and would be passed on from one to the next.
    #[cfg(feature = "exchange")]
    #[inline]
    pub(crate) fn hold(&self, slot: Slot) -> Stream {
        Stream::new(self.handle.shared.clone(), slot)
    }

    /// A place among those who open streams, to send something at once. The deadline is one for
    /// reading; without one the peer may take its time (`spec.md §7.4.4`).
    #[cfg(feature = "exchange")]
    pub(crate) fn opening(&self, read_until: Option<Instant>) -> Opening<'_> {
        let shared = &self.handle.shared;
        let until = read_until.filter(|_| shared.timer().is_some());
        Opening { ticket: shared.ticket(List::Open), read_until, until }
    }

    /// Opens a stream if that is possible now.
    ///
    /// # Errors
    ///
    /// [`TryOpenError`] if it is not.
    pub fn try_open(&self) -> Result<Stream, TryOpenError> {
        let shared = &self.handle.shared;
        let slot = shared.with(|state| state.core.open())?;
        Ok(Stream::new(shared.clone(), slot))
    }

    /// Waits for the next stream that the peer opened. `None` once the session has ended and every
    /// stream that was waiting has been accepted.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no stream.
    pub async fn accept(&self) -> Option<Stream> {
        let shared = &self.handle.shared;
        shared.wait(List::Accept, |state| accept(shared, state)).await
    }

    /// The streams that the peer opens, as a [`futures::Stream`].
    ///
    /// ```
    /// use futures::{StreamExt, io::copy_buf};
    /// # async fn serve(session: trunkline::Session) {
    /// // An echo server that serves ten streams at a time.
    /// let echo = |stream: trunkline::Stream| async move {
    ///     let (read, mut write) = stream.into_split();
    ///     copy_buf(read, &mut write).await?;
    ///     futures::AsyncWriteExt::close(&mut write).await
    /// };
    /// session.incoming().for_each_concurrent(10, |s| async { drop(echo(s).await.is_ok()) }).await;
    /// # }
    /// ```
    pub fn incoming(&self) -> Incoming {
        Incoming { session: self.clone(), key: None }
    }

    /// Sends a ping and measures how long the answer takes (`spec.md §7.1`). Waits while 32 pings
    /// are unanswered.
    ///
    /// # Errors
    ///
    /// [`PingError::TimedOut`] if no answer came within `ping_timeout`; the session goes on.
    /// [`PingError::Session`] if the session ended. [`PingError::Unsupported`] if the session has no
    /// timer.
    ///
    /// ```
    /// # use trunkline::{Config, Session};
    /// # let (left, right) = trunkline::transport::memory::duplex(4096);
    /// # let (client, driver) = Session::client(left, Config::default());
    /// # smol::spawn(driver).detach();
    /// # let (server, driver) = Session::server(right, Config::default());
    /// # smol::spawn(driver).detach();
    /// # smol::block_on(async {
    /// let round_trip = client.ping().await?;
    /// assert!(client.rtt().is_some_and(|best| best <= round_trip));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the answer is ignored.
    pub async fn ping(&self) -> Result<Duration, PingError> {
        let shared = &self.handle.shared;
        if shared.timer().is_none() {
            return Err(PingError::Unsupported);
        }
        let mut ticket = shared.ticket(List::Ping);
        let asked = std::future::poll_fn(|cx| {
            let now = shared.now();
            ticket.poll(cx, |state| {
                let value = state.core.ping(now).transpose()?;
                Some(value.inspect(|value| state.expect_pong(*value)))
            })
        });
        let question = Question { shared, value: asked.await.map_err(PingError::Session)? };
        std::future::poll_fn(|cx| question.poll(cx)).await
    }

    /// The smallest of the recent round trips; `None` before the first was measured. They are
    /// measured while data flows, by keepalive pings, and by [`ping`](Self::ping).
    #[must_use]
    pub fn rtt(&self) -> Option<Duration> {
        self.handle.shared.with(|state| state.core.rtt())
    }

    /// Counters, and what the session holds at this moment.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.handle.shared.with(|state| state.core.stats())
    }

    /// Tells the peer at once to open no more streams, and refuses those it opens nevertheless.
    /// This side opens no more either. Open streams go on, and so does the session:
    /// [`close`](Self::close) ends it.
    ///
    /// Every implementation we know but hashicorp's ends the session when this arrives, open
    /// streams included (`spec.md §8.1`); [`close`](Self::close), which waits for them first, is
    /// safe.
    pub fn go_away(&self) {
        self.handle.shared.with(|state| state.core.go_away());
    }

    /// Ends the session in good order: refuses new streams, waits up to `drain_timeout` for the
    /// live ones, sends GoAway, and closes the IO.
    ///
    /// A stream is live until both sides have finished it or one has reset it. So close or drop the
    /// streams you hold, or this waits for all of `drain_timeout`. Those that are still live then
    /// are reset, and the result is `Ok` all the same. After GoAway the peer has up to `linger` to
    /// close its side. A second call waits for the same end.
    ///
    /// # Errors
    ///
    /// Why the session ended, unless it ended cleanly.
    ///
    /// # Cancel safety
    ///
    /// Once this was polled the session closes, even if the future is dropped.
    pub async fn close(&self) -> Result<(), SessionError> {
        let shared = &self.handle.shared;
        let now = shared.now();
        shared.with(|state| state.core.close(now));
        self.closed().await
    }

    /// Ends the session at once: every stream fails, and the peer is sent GoAway with `code`.
    pub fn abort(&self, code: GoAwayCode) {
        let shared = &self.handle.shared;
        let now = shared.now();
        shared.with(|state| state.core.abort(code, now));
    }

    /// Waits for the end of the session.
    ///
    /// # Errors
    ///
    /// Why it ended, unless it ended cleanly.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn closed(&self) -> Result<(), SessionError> {
        self.handle.shared.wait(List::End, |state| state.core.outcome()).await
    }

    /// What the connection itself said when it failed: [`SessionError::Io`] has no more than the
    /// kind of it. A certificate that was refused, for example, is named here.
    ///
    /// ```
    /// # async fn example(session: trunkline::Session) {
    /// if let Err(error) = session.closed().await {
    ///     match session.io_error() {
    ///         Some(cause) => eprintln!("{error}: {cause}"),
    ///         None => eprintln!("{error}"),
    ///     }
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn io_error(&self) -> Option<Arc<std::io::Error>> {
        self.handle.shared.io_error()
    }

    /// Whether the session is over: [`closed`](Self::closed) would return at once.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.handle.shared.with(|state| state.core.outcome().is_some())
    }

    /// Whether both are handles of one session.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.handle, &other.handle)
    }

    pub(crate) fn timer(&self) -> Option<&Arc<dyn Timer>> {
        self.handle.shared.timer()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.shared.fmt(f)
    }
}

/// The streams that the peer opens, from [`Session::incoming`]. Ends once the session has ended and
/// every stream that was waiting has been taken.
#[must_use = "streams do nothing unless polled"]
pub struct Incoming {
    session: Session,
    key: Option<u64>,
}

impl futures::Stream for Incoming {
    type Item = Stream;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Stream>> {
        let this = &mut *self;
        let shared = &this.session.handle.shared;
        shared.poll_wait(List::Accept, &mut this.key, cx, |state| accept(shared, state))
    }
}

impl FusedStream for Incoming {
    fn is_terminated(&self) -> bool {
        self.session.handle.shared.with(|state| state.core.accepts_no_more())
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").finish_non_exhaustive()
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.session.handle.shared.stop_waiting(List::Accept, self.key);
    }
}

/// One who opens a stream with something to send.
#[cfg(feature = "exchange")]
pub(crate) struct Opening<'a> {
    ticket: shared::Ticket<'a>,
    read_until: Option<Instant>,
    /// The same, where the session has a timer to wake who waits.
    until: Option<Instant>,
}

/// The place of a stream, which somebody has to [hold](Session::hold), and whether all was staged.
/// `None`: the deadline passed before there was one, on a session that has a timer.
#[cfg(feature = "exchange")]
type Opened = Option<Result<(Slot, Result<bool, crate::StreamError>), OpenError>>;

#[cfg(feature = "exchange")]
impl Opening<'_> {
    /// Opens the stream, and in the same breath stages what fits of `head` and `body`, with FIN
    /// behind if all did and `finish` says so; then there is nothing left but to read, and the task
    /// is woken when there is something (which saves a lock).
    pub(crate) fn poll(
        &mut self,
        cx: &Context<'_>,
        head: &mut &[u8],
        body: &mut bytes::Bytes,
        finish: bool,
    ) -> Poll<Opened> {
        let Self { ticket, read_until, until } = self;
        ticket.poll_until(cx, *until, |state| {
            let opened = open(state)?;
            Some(opened.map(|slot| {
                state.core.be_patient(slot);
                if let Some(at) = *read_until {
                    state.core.add_deadline(slot, crate::proto::Direction::Read, at);
                }
                let staged = state.core.stage(slot, head, body, finish);
                if finish && matches!(staged, Ok(true)) {
                    state.core.expect_data(slot);
                    state.wait_readable(slot, cx);
                }
                (slot, staged)
            }))
        })
    }

    /// Whether it has a place among those who wait.
    #[cfg(feature = "rpc")]
    pub(crate) const fn waits(&self) -> bool {
        self.ticket.waits()
    }

    /// Waits until there may be room, for who has not written yet what to send.
    #[cfg(feature = "rpc")]
    pub(crate) fn poll_turn(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.waits() {
            return Poll::Ready(());
        }
        let room = |state: &mut State| (state.core.room_to_open() > 0).then_some(());
        self.ticket.poll_until(cx, self.until, room).map(drop)
    }
}

/// `None` while there is no room.
fn open(state: &mut State) -> Option<Result<Slot, OpenError>> {
    let opened = match state.core.open() {
        Ok(slot) => Ok(slot),
        Err(TryOpenError::AckBacklogFull | TryOpenError::TooManyStreams) => return None,
        Err(TryOpenError::Open(error)) => Err(error),
    };
    // There may be room for more, or the same error for all.
    state.wake_openers();
    Some(opened)
}

// Made where it is found: whoever is woken behind the lock may panic.
fn accept(shared: &Arc<Shared>, state: &mut State) -> Option<Option<Stream>> {
    match state.core.accept() {
        Some(slot) => Some(Some(Stream::new(shared.clone(), slot))),
        None if state.core.accepts_no_more() => Some(None),
        None => None,
    }
}

/// What all clones of a session share: gone with the last of them.
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let now = self.shared.now();
        self.shared.with(|state| state.core.handles_dropped(now));
    }
}

/// A ping that waits for its pong.
struct Question<'a> {
    shared: &'a Shared,
    value: u32,
}

impl Question<'_> {
    fn poll(&self, cx: &Context<'_>) -> Poll<Result<Duration, PingError>> {
        self.shared.with(|state| match state.poll_pong(self.value, cx) {
            Poll::Ready(Some(rtt)) => Poll::Ready(Ok(rtt)),
            Poll::Ready(None) => Poll::Ready(Err(PingError::TimedOut)),
            Poll::Pending => match state.core.ended() {
                Some(_) => Poll::Ready(Err(PingError::Session(state.core.session_error()))),
                None => Poll::Pending,
            },
        })
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.shared.with(|state| state.forget_pong(self.value));
    }
}
