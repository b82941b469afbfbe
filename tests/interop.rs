//! Sessions with the two other implementations in Rust, `yamux` and `tokio-yamux`, at the far
//! end, each as client and as server. The peers in other languages are in `tests/interop`.
#![allow(clippy::unwrap_used)]

use std::{future::poll_fn, io, pin::pin, task::Poll, time::Duration};

use futures::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt, future,
    io::{ReadHalf, WriteHalf},
    join,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tokio_util::compat::TokioAsyncReadCompatExt;
use trunkline::{Config, ResetCode, Session, StreamError};

#[path = "support/random.rs"]
mod random;

use random::{Random, thorough};

/// Makes each test once for every peer and each of its roles.
macro_rules! with_every_peer {
    ($($(#[$doc:meta])* async fn $name:ident($pair:ident: Pair) $body:block)*) => {
        $($(#[$doc])* async fn $name($pair: Pair) $body)*

        mod rust_yamux_serves { $(
            #[test]
            fn $name() { super::run(super::Kind::RustYamux, false, super::$name); }
        )* }
        mod rust_yamux_connects { $(
            #[test]
            fn $name() { super::run(super::Kind::RustYamux, true, super::$name); }
        )* }
        mod tokio_yamux_serves { $(
            #[test]
            fn $name() { super::run(super::Kind::TokioYamux, false, super::$name); }
        )* }
        mod tokio_yamux_connects { $(
            #[test]
            fn $name() { super::run(super::Kind::TokioYamux, true, super::$name); }
        )* }
    };
}

with_every_peer! {
    // spec.md §4.2, §4.3, §5
    async fn streams_we_open_come_back_from_an_echo(pair: Pair) {
        let Pair { ours, mut peer, .. } = pair;
        let sizes = sizes();
        let count = sizes.len();
        let serve = async {
            let mut echoes = JoinSet::new();
            for _ in 0..count {
                echoes.spawn(echo(peer.incoming.recv().await.unwrap()));
            }
            echoes.join_all().await;
        };
        let mut calls = JoinSet::new();
        for (seed, size) in sizes.into_iter().enumerate() {
            let ours = ours.clone();
            calls.spawn(async move {
                call(Box::new(ours.open().await.unwrap()), seed as u64, size).await;
            });
        }
        join!(serve, calls.join_all());
        ended_well(&ours, peer).await;
    }

    // spec.md §4.2, §4.3, §5
    async fn streams_the_peer_opens_are_echoed(pair: Pair) {
        let Pair { kind, ours, peer } = pair;
        let mut sizes = sizes();
        if kind == Kind::RustYamux {
            // It never tells us of a stream that it did not write to (spec.md §12.2).
            sizes.retain(|size| *size > 0);
        }
        let count = sizes.len();
        let serve = async {
            let mut echoes = JoinSet::new();
            for _ in 0..count {
                echoes.spawn(echo(Box::new(ours.accept().await.unwrap())));
            }
            echoes.join_all().await;
        };
        let mut calls = JoinSet::new();
        for (seed, size) in sizes.into_iter().enumerate() {
            let opened = peer.open();
            calls.spawn(async move { call(opened.await, seed as u64, size).await });
        }
        join!(serve, calls.join_all());
        ended_well(&ours, peer).await;
    }

    // spec.md §4.5.1, §4.5.2
    async fn after_our_fin_the_peer_still_writes(pair: Pair) {
        let Pair { kind, ours, mut peer } = pair;
        let reply = payload(1, kind.writes_after_fin());
        let mut stream = ours.open().await.unwrap();
        stream.write_all(b"question").await.unwrap();
        stream.close().await.unwrap();

        let mut accepted = peer.incoming.recv().await.unwrap();
        assert_eq!(read_all(&mut accepted).await, b"question");
        let answer = async {
            accepted.write_all(&reply).await.unwrap();
            accepted.close().await.unwrap();
        };
        let ((), got) = join!(answer, read_all(&mut stream));
        assert!(got == reply);
        ended_well(&ours, peer).await;
    }

    // spec.md §4.5.1, §3.2.4
    async fn after_its_fin_the_peer_still_reads(pair: Pair) {
        let Pair { ours, peer, .. } = pair;
        let reply = payload(2, 1 << 20);
        let mut opened = peer.open().await;
        opened.write_all(b"question").await.unwrap();
        opened.close().await.unwrap();

        let mut accepted = ours.accept().await.unwrap();
        assert_eq!(read_all(&mut accepted).await, b"question");
        let answer = async {
            accepted.write_all(&reply).await.unwrap();
            accepted.close().await.unwrap();
        };
        let ((), got) = join!(answer, read_all(&mut opened));
        assert!(got == reply);
        ended_well(&ours, peer).await;
    }

    // spec.md §4.2.4, §4.5.4: FIN behind SYN, nothing between.
    async fn a_stream_without_a_byte_ends_at_both_ends(pair: Pair) {
        let Pair { ours, mut peer, .. } = pair;
        let mut stream = ours.open().await.unwrap();
        stream.close().await.unwrap();
        let mut accepted = peer.incoming.recv().await.unwrap();
        assert_eq!(read_all(&mut accepted).await, b"");
        accepted.close().await.unwrap();
        assert_eq!(read_all(&mut stream).await, b"");
        ended_well(&ours, peer).await;
    }

    // spec.md §4.2.4: SYN goes out although nothing is written.
    async fn the_accepting_end_may_speak_first(pair: Pair) {
        let Pair { ours, mut peer, .. } = pair;
        let mut stream = ours.open().await.unwrap();
        let mut accepted = peer.incoming.recv().await.unwrap();
        accepted.write_all(b"welcome").await.unwrap();
        accepted.flush().await.unwrap();
        let mut greeting = [0; 7];
        stream.read_exact(&mut greeting).await.unwrap();
        assert_eq!(&greeting, b"welcome");
    }

    // spec.md §3.3
    async fn pings_are_answered(pair: Pair) {
        let Pair { ours, mut peer, .. } = pair;
        let alone = ours.ping().await.unwrap();
        assert!(ours.rtt().unwrap() <= alone);
        let asked = future::join_all((0..20).map(|_| ours.ping()));
        let call = async { call(Box::new(ours.open().await.unwrap()), 3, 300_000).await };
        let serve = async { echo(peer.incoming.recv().await.unwrap()).await };
        let (answers, (), ()) = join!(asked, call, serve);
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    }

    // spec.md §4.6.1, §4.6.2
    async fn our_reset_reaches_the_peer_and_no_other_stream(pair: Pair) {
        let Pair { kind, ours, mut peer } = pair;
        let mut stream = ours.open().await.unwrap();
        stream.write_all(b"half a sen").await.unwrap();
        let mut accepted = peer.incoming.recv().await.unwrap();
        let mut start = [0; 10];
        accepted.read_exact(&mut start).await.unwrap();
        stream.reset(ResetCode::CANCELLED);
        match accepted.read(&mut start).await {
            Err(_) => {}
            // rust-yamux reads a reset as the end, and only says so when written to.
            Ok(0) if kind == Kind::RustYamux => {
                assert!(accepted.write_all(b"?").await.is_err());
            }
            Ok(len) => panic!("read {len} bytes of a stream that was reset"),
        }

        let call = async { call(Box::new(ours.open().await.unwrap()), 4, 10_000).await };
        join!(call, async { echo(peer.incoming.recv().await.unwrap()).await });
        ended_well(&ours, peer).await;
    }

    // spec.md §4.6.6, §8.6.1: what came before the reset is read before the error.
    async fn the_peers_reset_reaches_us_and_no_other_stream(pair: Pair) {
        let Pair { ours, mut peer, .. } = pair;
        let mut stream = ours.open().await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        let mut accepted = peer.incoming.recv().await.unwrap();
        accepted.write_all(b"half a sen").await.unwrap();
        accepted.flush().await.unwrap();
        drop(accepted);

        let mut start = [0; 10];
        stream.read_exact(&mut start).await.unwrap();
        assert_eq!(&start, b"half a sen");
        let error = stream.read(&mut start).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let inner = error.get_ref().unwrap().downcast_ref::<StreamError>();
        assert_eq!(inner, Some(&StreamError::Reset(ResetCode::NONE)));

        let call = async { call(Box::new(ours.open().await.unwrap()), 5, 10_000).await };
        join!(call, async { echo(peer.incoming.recv().await.unwrap()).await });
        ended_well(&ours, peer).await;
    }

    // spec.md §5.1.3: beyond 256 KiB the window we give rides on our SYN or ACK.
    async fn the_peer_may_fill_a_window_of_one_mebibyte_unread(pair: Pair) {
        let Pair { ours, mut peer, .. } = pair;
        // All but what "go" takes: so little credit is not worth a frame.
        let sent = payload(6, WIDE as usize - 2);
        let mut stream = ours.open().await.unwrap();
        stream.write_all(b"go").await.unwrap();
        let mut accepted = peer.incoming.recv().await.unwrap();
        let mut go = [0; 2];
        accepted.read_exact(&mut go).await.unwrap();
        // Nobody reads at our end until all is written.
        write_and_close(accepted, &sent).await;
        assert!(read_all(&mut stream).await == sent);

        let mut opened = peer.open().await;
        opened.write_all(b"go").await.unwrap();
        opened.flush().await.unwrap();
        let mut accepted = ours.accept().await.unwrap();
        accepted.read_exact(&mut go).await.unwrap();
        write_and_close(opened, &sent).await;
        assert!(read_all(&mut accepted).await == sent);
    }
}

// spec.md §4.1.3: rust-yamux sends SYN with the first frame of a stream, whenever that is.
#[test]
fn syns_in_reverse_order_open_every_stream() {
    run(Kind::RustYamux, true, async |pair| {
        let Pair { ours, peer, .. } = pair;
        let count = 100;
        let mut opened = Vec::new();
        for _ in 0..count {
            opened.push(peer.open().await);
        }
        let mut ids = Vec::new();
        let mut echoes = JoinSet::new();
        for (seed, stream) in opened.iter_mut().enumerate().rev() {
            stream.write_all(&payload(seed as u64, 500)).await.unwrap();
            stream.flush().await.unwrap();
            // Its streams share no queue: only this keeps their order on the wire.
            let accepted = ours.accept().await.unwrap();
            ids.push(accepted.id().unwrap());
            echoes.spawn(echo(Box::new(accepted)));
        }
        let reversed = ids.windows(2).all(|pair| pair[0] > pair[1]);
        assert!(reversed, "the peer was to open its streams in reverse: {ids:?}");
        for (seed, mut stream) in opened.into_iter().enumerate() {
            stream.close().await.unwrap();
            assert!(read_all(&mut stream).await == payload(seed as u64, 500));
        }
        echoes.join_all().await;
        ended_well(&ours, peer).await;
    });
}

/// What the two ends of a connection are.
struct Pair {
    kind: Kind,
    ours: Session,
    peer: Peer,
}

/// A session of the other implementation, driven by a task of its own.
struct Peer {
    open: mpsc::UnboundedSender<oneshot::Sender<Channel>>,
    incoming: mpsc::UnboundedReceiver<Channel>,
    ended: oneshot::Receiver<Result<(), String>>,
}

impl Peer {
    fn open(&self) -> impl Future<Output = Channel> + use<> {
        let (reply, opened) = oneshot::channel();
        self.open.send(reply).unwrap();
        async { opened.await.unwrap() }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    RustYamux,
    TokioYamux,
}

impl Kind {
    /// How much a stream of the peer can write after it received FIN.
    fn writes_after_fin(self) -> usize {
        match self {
            Self::RustYamux => 1 << 20,
            // It no longer looks at credit then (spec.md §12.11).
            Self::TokioYamux => 256 << 10,
        }
    }
}

/// A stream of either implementation.
type Channel = Box<dyn ReadWrite>;

trait ReadWrite: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ReadWrite for T {}

/// Runs `test` over a TCP connection; fails rather than hangs.
fn run<F: Future<Output = ()>>(kind: Kind, peer_connects: bool, test: impl FnOnce(Pair) -> F) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let test = async { test(pair(kind, peer_connects).await).await };
        tokio::time::timeout(Duration::from_secs(100), test).await.expect("the test hangs");
    });
}

async fn pair(kind: Kind, peer_connects: bool) -> Pair {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connecting = TcpStream::connect(listener.local_addr().unwrap());
    let (connected, accepted) = join!(connecting, listener.accept());
    let (connected, accepted) = (connected.unwrap(), accepted.unwrap().0);
    let config = Config::builder().stream_window(WIDE).build().unwrap();
    let (ours, driver, theirs) = if peer_connects {
        let (ours, driver) = Session::server(accepted.compat(), config);
        (ours, driver, connected)
    } else {
        let (ours, driver) = Session::client(connected.compat(), config);
        (ours, driver, accepted)
    };
    tokio::spawn(driver);
    let peer = match kind {
        Kind::RustYamux => rust_yamux(theirs, peer_connects),
        Kind::TokioYamux => tokio_yamux(theirs, peer_connects),
    };
    Pair { kind, ours, peer }
}

fn rust_yamux(io: TcpStream, connects: bool) -> Peer {
    let mode = if connects { yamux::Mode::Client } else { yamux::Mode::Server };
    let mut connection = yamux::Connection::new(io.compat(), yamux::Config::default(), mode);
    let (open, mut to_open) = mpsc::unbounded_channel::<oneshot::Sender<Channel>>();
    let (accepted, incoming) = mpsc::unbounded_channel::<Channel>();
    let (ending, ended) = oneshot::channel();
    tokio::spawn(async move {
        let mut waiting = None;
        let end = poll_fn(|cx| {
            loop {
                if waiting.is_none()
                    && let Poll::Ready(Some(reply)) = to_open.poll_recv(cx)
                {
                    waiting = Some(reply);
                }
                if waiting.is_some()
                    && let Poll::Ready(Ok(stream)) = connection.poll_new_outbound(cx)
                {
                    let _ = waiting.take().unwrap().send(Box::new(stream));
                    continue;
                }
                match connection.poll_next_inbound(cx) {
                    Poll::Ready(Some(Ok(stream))) => drop(accepted.send(Box::new(stream))),
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error.to_string())),
                    Poll::Ready(None) => return Poll::Ready(Ok(())),
                    Poll::Pending => return Poll::Pending,
                }
            }
        });
        let _ = ending.send(end.await);
    });
    Peer { open, incoming, ended }
}

fn tokio_yamux(io: TcpStream, connects: bool) -> Peer {
    let config = tokio_yamux::Config { max_stream_window_size: WIDE, ..Default::default() };
    let mut session = if connects {
        tokio_yamux::Session::new_client(io, config)
    } else {
        tokio_yamux::Session::new_server(io, config)
    };
    let mut control = session.control();
    let (open, mut to_open) = mpsc::unbounded_channel::<oneshot::Sender<Channel>>();
    let (accepted, incoming) = mpsc::unbounded_channel::<Channel>();
    let (ending, ended) = oneshot::channel();
    tokio::spawn(async move {
        while let Some(reply) = to_open.recv().await {
            let Ok(stream) = control.open_stream().await else { break };
            let _ = reply.send(Box::new(stream.compat()));
        }
    });
    tokio::spawn(async move {
        let end = loop {
            match session.next().await {
                Some(Ok(stream)) => drop(accepted.send(Box::new(stream.compat()))),
                Some(Err(error)) => break Err(error.to_string()),
                None => break Ok(()),
            }
        };
        let _ = ending.send(end);
    });
    Peer { open, incoming, ended }
}

/// Both ends agree that the session ended without an error.
async fn ended_well(ours: &Session, peer: Peer) {
    assert_eq!(ours.close().await, Ok(()));
    assert_eq!(peer.ended.await.unwrap(), Ok(()));
}

/// Sends `size` bytes and reads their echo at the same time; finishes when it has all of it.
async fn call(stream: Channel, seed: u64, size: usize) {
    let sent = payload(seed, size);
    let (mut reader, mut writer): (ReadHalf<Channel>, WriteHalf<Channel>) = stream.split();
    let mut got = vec![0; size];
    let send = async {
        let mut sizes = Random(!seed);
        let mut left = &sent[..];
        while !left.is_empty() {
            let len = 1 + of_any_magnitude(&mut sizes, 18);
            let (chunk, rest) = left.split_at(len.min(left.len()));
            writer.write_all(chunk).await.unwrap();
            left = rest;
        }
        writer.flush().await.unwrap();
    };
    let receive = async { reader.read_exact(&mut got).await.unwrap() };
    // In this order: tokio-yamux, which echoes, cannot write much after FIN (spec.md §12.11).
    join!(send, receive);
    writer.close().await.unwrap();
    assert!(got == sent, "stream {seed} came back changed");
    assert_eq!(read_all(&mut reader).await, b"");
}

/// Sends everything back until the end, then finishes. Reads all the while: a tokio-yamux stream
/// that waits for credit does not see it arrive unless it is read.
async fn echo(stream: Channel) {
    let (mut reader, mut writer) = stream.split();
    let (queue, mut queued) = mpsc::unbounded_channel();
    let read = async move {
        let mut buf = vec![0; 64 << 10];
        loop {
            match reader.read(&mut buf).await.unwrap() {
                0 => break,
                len => queue.send(buf[..len].to_vec()).unwrap(),
            }
        }
    };
    let write = async {
        while let Some(chunk) = queued.recv().await {
            writer.write_all(&chunk).await.unwrap();
            writer.flush().await.unwrap();
        }
        writer.close().await.unwrap();
    };
    join!(read, write);
}

/// Writes while a read waits: without one, tokio-yamux does not see the credit it waits for.
async fn write_and_close(stream: Channel, bytes: &[u8]) {
    let (mut reader, mut writer) = stream.split();
    let write = pin!(async {
        writer.write_all(bytes).await.unwrap();
        writer.flush().await.unwrap();
    });
    let mut byte = [0];
    let read = pin!(reader.read(&mut byte));
    match future::select(write, read).await {
        future::Either::Left(_) => {}
        future::Either::Right((read, _)) => panic!("read {read:?} of a stream nobody wrote to"),
    }
    writer.close().await.unwrap();
}

async fn read_all(reader: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut got = Vec::new();
    reader.read_to_end(&mut got).await.unwrap();
    got
}

/// A few large streams, many small ones, empty ones among them.
fn sizes() -> Vec<usize> {
    let (large, small): (&[usize], usize) =
        if thorough() { (&[16 << 20, 16 << 20, 5_000_000], 400) } else { (&[800_000], 50) };
    let mut random = Random(large.len() as u64);
    let mut sizes = large.to_vec();
    sizes.extend((0..small).map(|_| of_any_magnitude(&mut random, 17)));
    sizes
}

fn payload(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random(seed);
    let words = std::iter::repeat_with(|| random.next().to_le_bytes());
    let mut bytes: Vec<u8> = words.take(len.div_ceil(8)).flatten().collect();
    bytes.truncate(len);
    bytes
}

/// Below `2^bits`, every magnitude as likely as the others.
fn of_any_magnitude(random: &mut Random, bits: usize) -> usize {
    let magnitude = random.below(bits);
    random.below(1 << magnitude)
}

/// The receive window of both ends, where they can choose.
const WIDE: u32 = 1 << 20;
