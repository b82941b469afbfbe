//! Sharing one session between protocols: every stream says which one it speaks
//! (`spec.md §10`).

use std::{
    collections::HashMap,
    fmt, io,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    AsyncReadExt, AsyncWriteExt, FutureExt, StreamExt,
    channel::mpsc,
    future::{Either, select},
    stream::{FusedStream, FuturesUnordered},
};

use super::Session;
use crate::{error::ResetCode, runtime::FOREVER, stream::Stream};

/// A protocol that streams of a shared session can speak: a number and a version. Numbers from 128
/// up are the application's (`spec.md §10.5`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Protocol {
    /// Which protocol.
    pub number: u8,
    /// Which version of it.
    pub version: u8,
}

impl Protocol {
    /// Plain bytes, for the application.
    pub const RAW: Self = Self { number: 0, version: 0 };
    /// Message exchanges.
    pub const EXCHANGE: Self = Self { number: 1, version: 0 };
    /// Remote procedure calls.
    pub const RPC: Self = Self { number: 2, version: 0 };
    /// Request/reply sockets.
    pub const SP: Self = Self { number: 3, version: 0 };
    /// The handshake and the messages of peers.
    pub const PEERS: Self = Self { number: 4, version: 0 };

    pub(crate) const fn preface(self) -> [u8; 4] {
        [MAGIC[0], MAGIC[1], self.number, self.version]
    }

    pub(crate) const fn parse(preface: [u8; 4]) -> Option<Self> {
        let [t, k, number, version] = preface;
        if t == MAGIC[0] && k == MAGIC[1] { Some(Self { number, version }) } else { None }
    }
}

/// "TK".
const MAGIC: [u8; 2] = [0x54, 0x4b];

/// Sorts the streams that the peer opens by the protocol they name. Each protocol has a bounded
/// queue of its own.
///
/// Both ends of a session must use a dispatcher, from the start: without it a session is plain
/// yamux.
///
/// ```
/// use trunkline::{Config, Dispatcher, Protocol, Session};
/// # use futures::{AsyncReadExt, AsyncWriteExt, StreamExt, executor::block_on, future};
/// # let (left, right) = trunkline::transport::memory::duplex(4096);
/// # let (client, driver) = Session::client(left, Config::default());
/// # let (server, peer_driver) = Session::server(right, Config::default());
///
/// let mut dispatcher = Dispatcher::new(server);
/// let mut raw = dispatcher.serve(Protocol::RAW, 16)?;
/// let serve = dispatcher.run(); // a future: spawn it
/// let work = async {
///     let mut stream = Dispatcher::open(&client, Protocol::RAW).await?;
///     stream.write_all(b"hi").await?;
///     stream.close().await?;
///     let mut accepted = raw.next().await.expect("a stream");
///     let mut text = String::new();
///     accepted.read_to_string(&mut text).await?;
///     assert_eq!(text, "hi");
///     accepted.close().await?;
///     client.close().await?;
///     Ok::<(), Box<dyn std::error::Error>>(())
/// };
/// # let (done, ..) = block_on(future::join4(work, serve, driver, peer_driver));
/// # done?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Dispatcher {
    session: Session,
    queues: HashMap<Protocol, mpsc::Sender<Stream>>,
    preface_timeout: Duration,
}

impl Dispatcher {
    /// A dispatcher that serves nothing yet.
    #[must_use]
    pub fn new(session: Session) -> Self {
        Self { session, queues: HashMap::new(), preface_timeout: PREFACE_TIMEOUT }
    }

    /// How long a stream may take to name its protocol. Default 10 s.
    #[must_use]
    pub fn preface_timeout(mut self, timeout: Duration) -> Self {
        self.preface_timeout = timeout.min(FOREVER);
        self
    }

    /// Serves a protocol. Up to `queue` of its streams (at least one) wait to be taken; one more is
    /// reset with [`REFUSED`](ResetCode::REFUSED). Dropping the [`Streams`] refuses those that
    /// wait and all that follow.
    ///
    /// # Errors
    ///
    /// [`ProtocolError`] if it is served already.
    pub fn serve(&mut self, protocol: Protocol, queue: usize) -> Result<Streams, ProtocolError> {
        if self.queues.contains_key(&protocol) {
            return Err(ProtocolError(protocol));
        }
        // The channel adds one place for its sender.
        let (sender, receiver) = mpsc::channel(queue.saturating_sub(1));
        self.queues.insert(protocol, sender);
        Ok(Streams { receiver })
    }

    /// Opens a stream on a shared session and names its protocol. The four bytes that do so travel
    /// with the first data.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] that holds an [`OpenError`](crate::OpenError) or a
    /// [`StreamError`](crate::StreamError).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no stream is opened, or the one that was is reset.
    pub async fn open(session: &Session, protocol: Protocol) -> io::Result<Stream> {
        let mut stream = session.open().await?;
        stream.write_all(&protocol.preface()).await?;
        Ok(stream)
    }

    /// Accepts streams and hands them to their queues, until the session ends. Spawn it.
    ///
    /// It waits for the protocols of any number of streams at once, up to the session's
    /// `max_streams`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends every [`Streams`] once it is empty, and resets the streams that
    /// have not named their protocol yet.
    pub async fn run(mut self) {
        let mut pending = FuturesUnordered::new();
        loop {
            let accept = self.session.accept();
            let next = match pending.is_empty() {
                false => pending.select_next_some().left_future(),
                true => std::future::pending().right_future(),
            };
            let accepted = match select(next, pin!(accept)).await {
                Either::Right((Some(stream), _)) => stream,
                Either::Right((None, _)) => break,
                Either::Left((named, _)) => {
                    deliver(&mut self.queues, named);
                    continue;
                }
            };
            pending.push(Box::pin(name(accepted, self.session.clone(), self.preface_timeout)));
        }
        // Nothing waits any more: what has its preface is still worth reading.
        while let Some(named) = pending.next().await {
            deliver(&mut self.queues, named);
        }
    }
}

const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads what a stream speaks; the error is the code to reset it with.
async fn name(
    mut stream: Stream,
    session: Session,
    timeout: Duration,
) -> (Stream, Result<Protocol, ResetCode>) {
    let mut preface = [0; 4];
    let late = match session.timer() {
        Some(timer) => timer.sleep_until(timer.now() + timeout),
        None => std::future::pending().boxed(),
    };
    let read = select(stream.read_exact(&mut preface), late).await;
    let named = match read {
        Either::Left((Ok(()), _)) => Protocol::parse(preface).ok_or(ResetCode::UNKNOWN_PROTOCOL),
        Either::Left((Err(_), _)) => Err(ResetCode::UNKNOWN_PROTOCOL),
        Either::Right(_) => Err(ResetCode::PREFACE_TIMEOUT),
    };
    (stream, named)
}

fn deliver(
    queues: &mut HashMap<Protocol, mpsc::Sender<Stream>>,
    (stream, named): (Stream, Result<Protocol, ResetCode>),
) {
    let code = match named {
        Err(code) => code,
        Ok(protocol) => match queues.get_mut(&protocol) {
            None => ResetCode::UNKNOWN_PROTOCOL,
            Some(queue) => match queue.try_send(stream) {
                Ok(()) => return,
                Err(error) => return error.into_inner().reset(ResetCode::REFUSED),
            },
        },
    };
    stream.reset(code);
}

/// The streams of one protocol, from [`Dispatcher::serve`]. Ends once the session has ended and all
/// of them were taken.
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Streams {
    receiver: mpsc::Receiver<Stream>,
}

impl futures::Stream for Streams {
    type Item = Stream;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Stream>> {
        self.receiver.poll_next_unpin(cx)
    }
}

impl FusedStream for Streams {
    fn is_terminated(&self) -> bool {
        self.receiver.is_terminated()
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.receiver.close();
        while let Ok(stream) = self.receiver.try_recv() {
            stream.reset(ResetCode::REFUSED);
        }
    }
}

/// The protocol is served already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtocolError(Protocol);

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "protocol {} version {} is served already", self.0.number, self.0.version)
    }
}

impl std::error::Error for ProtocolError {}
