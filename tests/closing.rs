//! How sessions end: well, badly, and over IO that misbehaves.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, FutureExt, join, task::AtomicWaker,
};
use support::{
    ACK, FIN, GO_AWAY, RST, SYN, Sim, WINDOW, data, frames, header, inner, read_all, session_ended,
};
use trunkline::{
    Config, GoAwayCode, OpenError, ResetCode, Session, SessionError, StreamError, Violation,
    runtime::Timer, transport::memory,
};

/// A client of ours on one end of a TCP connection, the bare other end, and the driver's thread.
fn over_tcp(
    config: Config,
) -> (Session, TcpStream, std::thread::JoinHandle<Result<(), SessionError>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let socket = smol::Async::new(listener.accept().unwrap().0).unwrap();
    let (session, driver) = Session::server(socket, config);
    (session, peer, std::thread::spawn(move || smol::block_on(driver)))
}

#[test]
fn a_violation_with_a_mebibyte_behind_it_still_delivers_the_go_away() {
    // spec.md §8.3.3: on TCP a socket closed with unread input would destroy what it sent.
    let (_session, mut peer, driver) = over_tcp(Config::default());
    peer.write_all(&header(WINDOW, SYN, 2, 0)).unwrap();
    // Written by a thread of its own: we may not read it all before our GoAway is out.
    let mut writer = peer.try_clone().unwrap();
    let pushing = std::thread::spawn(move || {
        writer.write_all(&vec![0x55; 1 << 20]).unwrap();
        writer
    });
    let mut all = Vec::new();
    peer.read_to_end(&mut all).unwrap();
    let frames = frames(&all);
    assert_eq!(frames.len(), 1, "{frames:?}");
    assert_eq!((frames[0].kind, frames[0].length), (GO_AWAY, 1));
    pushing.join().unwrap().shutdown(Shutdown::Write).unwrap();
    let error = driver.join().unwrap().unwrap_err();
    let SessionError::Violation { rule, frame } = error else { panic!("{error:?}") };
    assert_eq!((rule, frame.unwrap().stream.0), (Violation::WrongParity, 2));
}

#[test]
fn a_graceful_close_over_tcp_ends_with_go_away_and_eof() {
    // spec.md §8.2.1
    let (session, mut peer, driver) = over_tcp(Config::default());
    let closing = session.clone();
    let closing = std::thread::spawn(move || smol::block_on(closing.close()));
    let mut all = Vec::new();
    peer.read_to_end(&mut all).unwrap();
    assert_eq!(all, header(GO_AWAY, 0, 0, 0));
    drop(peer);
    assert_eq!(closing.join().unwrap(), Ok(()));
    assert_eq!(driver.join().unwrap(), Ok(()));
    assert_eq!(smol::block_on(session.close()), Ok(()));
}

#[test]
fn close_lets_live_streams_finish_first() {
    // spec.md §8.2.1, §8.2.2
    let mut sim = Sim::new(1);
    let (client, server) = sim.pair(64);
    sim.run_for(Duration::from_secs(20), async move {
        let mut near = client.open().await.unwrap();
        near.write_all(&[1; 10_000]).await.unwrap();
        let closes = async {
            assert_eq!(client.close().await, Ok(()));
        };
        let works = async {
            let mut far = server.accept().await.unwrap();
            near.write_all(&[1; 10_000]).await.unwrap();
            near.close().await.unwrap();
            assert_eq!(read_all(&mut far).await, (vec![1; 20_000], None));
            far.write_all(b"done").await.unwrap();
            far.close().await.unwrap();
            assert_eq!(read_all(&mut near).await, (b"done".to_vec(), None));
        };
        let refused = async {
            support::pause(1).await;
            assert_eq!(client.open().await.unwrap_err(), OpenError::Closing);
            let mut late = server.open().await.unwrap();
            let error = late.read(&mut [0]).await.unwrap_err();
            assert_eq!(inner(&error), StreamError::Reset(ResetCode::REFUSED));
        };
        join!(closes, works, refused);
        assert_eq!(server.closed().await, Ok(()));
    });
}

#[test]
fn live_streams_are_reset_at_the_drain_deadline() {
    // spec.md §8.2.1: RST(4) for what is left, GoAway(0) last.
    let mut sim = Sim::new(1);
    let config = sim.config().keepalive(None).build().unwrap();
    let (client, mut raw) = sim.client_with_peer(config);
    let mut stream = client.try_open().unwrap();
    sim.settle();
    raw.receive();
    let closing = client.clone();
    let closing = sim.spawn(async move { closing.close().await });
    let reading = sim.spawn(async move { stream.read(&mut [0]).await.map_err(|e| inner(&e)) });
    sim.advance(Duration::from_millis(29_999));
    assert_eq!(raw.receive(), (Vec::new(), false));
    sim.advance(Duration::from_millis(1));
    let (frames, eof) = raw.receive();
    assert_eq!(frames.len(), 2, "{frames:?}");
    assert_eq!((frames[0].flags, frames[0].stream, frames[0].length), (RST, 1, 4));
    assert_eq!((frames[1].kind, frames[1].length, eof), (GO_AWAY, 0, true));
    assert_eq!(reading.take(), Some(Err(session_ended(SessionError::Closed))));
    // The peer does not close its side: the linger time ends that.
    assert!(!closing.is_ready());
    sim.advance(Duration::from_secs(2));
    assert_eq!(closing.take(), Some(Ok(())));
}

#[test]
fn dropping_the_last_handle_ends_the_session_once_its_streams_are_over() {
    // spec.md §8.5.1
    let mut sim = Sim::new(2);
    let (client, server) = sim.pair(4096);
    sim.run(async move {
        let mut near = client.open().await.unwrap();
        near.write_all(b"x").await.unwrap();
        let mut far = server.accept().await.unwrap();
        drop(client);
        let mut late = server.open().await.unwrap();
        let error = late.read(&mut [0]).await.unwrap_err();
        assert_eq!(inner(&error), StreamError::Reset(ResetCode::REFUSED));
        far.write_all(b"still here").await.unwrap();
        far.close().await.unwrap();
        assert_eq!(read_all(&mut near).await, (b"still here".to_vec(), None));
        near.close().await.unwrap();
        assert_eq!(server.closed().await, Ok(()));
    });
}

#[test]
fn dropping_the_last_handle_refuses_streams_nobody_accepted() {
    // spec.md §8.5.1
    let mut sim = Sim::new(2);
    let (client, server) = sim.pair(4096);
    let mut near = client.try_open().unwrap();
    sim.settle();
    drop(server);
    sim.run(async move {
        let error = near.read(&mut [0]).await.unwrap_err();
        assert_eq!(inner(&error), StreamError::Reset(ResetCode::REFUSED));
        assert_eq!(client.closed().await, Ok(()));
    });
}

#[test]
fn a_dropped_driver_wakes_everyone() {
    // spec.md §8.5.2, §8.5.3
    let mut sim = Sim::new(3);
    let config = sim.config().ack_backlog(2).build().unwrap();
    let (left, right) = memory::duplex(4096);
    let (client, driver) = Session::client(left, config);
    let (number, _) = sim.spawn_flagged(driver);
    let (read, mut write) = client.try_open().unwrap().into_split();
    let mut flushed = client.try_open().unwrap();
    let error = SessionError::DriverDropped;
    let mut all = Vec::new();
    let mut read = read;
    all.push(sim.spawn(async move {
        assert_eq!(inner(&read.read(&mut [0]).await.unwrap_err()), session_ended(error));
    }));
    all.push(sim.spawn(async move {
        let result = write.write_all(&[0; 1 << 20]).await;
        assert_eq!(inner(&result.unwrap_err()), session_ended(error));
    }));
    all.push(sim.spawn(async move {
        let write = async {
            flushed.write_all(&[0; 10]).await?;
            flushed.close().await
        };
        assert_eq!(inner(&write.await.unwrap_err()), session_ended(error));
    }));
    let [a, b, c, d] = std::array::from_fn(|_| client.clone());
    all.push(sim.spawn(async move {
        assert_eq!(a.open().await.unwrap_err(), OpenError::Session(error));
    }));
    all.push(sim.spawn(async move { assert!(b.accept().await.is_none()) }));
    all.push(sim.spawn(async move { assert!(c.ping().await.is_err()) }));
    all.push(sim.spawn(async move { assert_eq!(d.closed().await, Err(error)) }));
    sim.settle();
    assert!(!all.iter().any(|task| task.is_ready()));
    sim.drop_task(number);
    sim.settle();
    let asleep: Vec<_> = (0..all.len()).filter(|&task| !all[task].is_ready()).collect();
    assert_eq!(asleep, [0_usize; 0], "tasks that sleep on");
    assert!(client.is_closed());
    // And the IO is gone.
    drop(right);
}

#[test]
fn openers_at_the_stream_limit_learn_of_the_end() {
    // spec.md §8.5.3: no place is freed that would wake them.
    let mut sim = Sim::new(3);
    let config = sim.config().max_outbound_streams(1).build().unwrap();
    let (client, mut raw) = sim.client_with_peer(config);
    let held = client.try_open().unwrap();
    sim.settle();
    raw.send(&header(WINDOW, ACK, 1, 0));
    sim.settle();
    let opens: Vec<_> = (0..3)
        .map(|_| {
            let client = client.clone();
            sim.spawn(async move { client.open().await.map(drop) })
        })
        .collect();
    sim.settle();
    assert!(opens.iter().all(|open| !open.is_ready()));
    drop(raw);
    sim.settle();
    let lost = OpenError::Session(SessionError::ConnectionLost);
    for open in opens {
        assert_eq!(open.take(), Some(Err(lost)));
    }
    drop(held);
}

#[test]
fn a_cut_connection_is_never_an_end_of_file() {
    // spec.md §8.4.2, §8.6.1: what arrived is read first.
    for cut in 0..40 {
        let mut sim = Sim::new(cut);
        let config = sim.config().build().unwrap();
        let (server, mut raw) = sim.server_with_peer(config);
        let mut bytes = data(SYN, 1, b"hello world");
        bytes.extend(data(0, 1, b"and more"));
        let cut = cut as usize;
        raw.send(&bytes[..cut]);
        drop(raw);
        sim.settle();
        let accepted = server.accept().now_or_never().expect("the session is over");
        if cut == 0 {
            // spec.md §8.4.1
            assert_eq!(server.closed().now_or_never(), Some(Ok(())));
            continue;
        }
        let lost = SessionError::ConnectionLost;
        assert_eq!(server.closed().now_or_never(), Some(Err(lost)));
        let Some(mut stream) = accepted else {
            assert!(cut < 12);
            continue;
        };
        let (text, error) = read_all(&mut stream).now_or_never().unwrap();
        let expected: Vec<u8> = bytes[..cut]
            .iter()
            .enumerate()
            .filter(|(at, _)| (12..23).contains(at) || *at >= 35)
            .map(|(_, byte)| *byte)
            .collect();
        assert_eq!((text, error), (expected, Some(session_ended(lost))), "cut at {cut}");
        assert!(server.accept().now_or_never().unwrap().is_none());
    }
}

#[test]
fn a_cut_after_fin_keeps_the_end_of_file() {
    // spec.md §4.5.2, §8.6.3
    let mut sim = Sim::new(4);
    let config = sim.config().build().unwrap();
    let (server, mut raw) = sim.server_with_peer(config);
    raw.send(&data(SYN | FIN, 1, b"complete"));
    raw.send(&data(SYN, 3, b"incompl"));
    drop(raw);
    sim.settle();
    let mut first = server.accept().now_or_never().unwrap().unwrap();
    let mut second = server.accept().now_or_never().unwrap().unwrap();
    assert!(server.accept().now_or_never().unwrap().is_none());
    let whole = read_all(&mut first).now_or_never().unwrap();
    assert_eq!(whole, (b"complete".to_vec(), None));
    let error = Some(session_ended(SessionError::ConnectionLost));
    assert_eq!(read_all(&mut second).now_or_never().unwrap(), (b"incompl".to_vec(), error));
    let error = first.write(b"x").now_or_never().unwrap().unwrap_err();
    assert_eq!(inner(&error), session_ended(SessionError::ConnectionLost));
    assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
}

#[test]
fn two_ends_in_the_same_role_get_a_named_error() {
    // spec.md §4.1.4
    let mut sim = Sim::new(5);
    let (left, right) = memory::duplex(4096);
    let config = sim.config().build().unwrap();
    let (one, driver) = Session::client(left, config.clone());
    let (two, other) = Session::client(right, config);
    sim.spawn(driver);
    sim.spawn(other);
    sim.run_for(Duration::from_secs(5), async move {
        let mut stream = one.open().await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        let error = two.closed().await.unwrap_err();
        assert!(matches!(error, SessionError::Violation { rule: Violation::WrongParity, .. }));
        assert!(error.to_string().contains("same role"), "{error}");
        assert!(matches!(one.closed().await, Err(SessionError::RemoteGoAway(code)) if code.0 == 1));
    });
}

#[test]
fn eof_with_a_go_away_or_without_is_a_clean_end() {
    // spec.md §8.4.1
    for with_go_away in [false, true] {
        let mut sim = Sim::new(6);
        let config = sim.config().build().unwrap();
        let (server, mut raw) = sim.server_with_peer(config);
        if with_go_away {
            raw.send(&header(GO_AWAY, 0, 0, 0));
        }
        drop(raw);
        sim.settle();
        assert_eq!(server.closed().now_or_never(), Some(Ok(())));
    }
}

#[test]
fn a_peer_that_stops_reading_stalls_the_session_in_time() {
    // spec.md §7.5
    let mut sim = Sim::new(7);
    let config = sim.config().build().unwrap();
    let (left, _right) = memory::duplex(10);
    let (client, driver) = Session::client(left, config);
    sim.spawn(driver);
    let mut stream = client.try_open().unwrap();
    sim.advance(Duration::from_millis(9_999));
    assert!(!client.is_closed());
    sim.advance(Duration::from_millis(1));
    assert_eq!(client.closed().now_or_never(), Some(Err(SessionError::WriteStall)));
    let error = stream.read(&mut [0]).now_or_never().unwrap().unwrap_err();
    assert_eq!(inner(&error), session_ended(SessionError::WriteStall));
}

#[test]
fn a_silent_peer_is_given_up_after_a_keepalive_ping() {
    // spec.md §7.2.1, §7.2.3
    let mut sim = Sim::new(8);
    let config = sim.config().build().unwrap();
    let (client, mut raw) = sim.client_with_peer(config);
    let start = sim.now();
    let closed = client.clone();
    let closed = sim.spawn(async move { closed.closed().await });
    while !closed.is_ready() {
        sim.advance(Duration::from_millis(100));
    }
    let silence = sim.now() - start;
    assert!(silence <= Duration::from_secs(40) && silence >= Duration::from_secs(36));
    assert_eq!(closed.take(), Some(Err(SessionError::KeepaliveTimeout)));
    assert_eq!(raw.receive().0.len(), 1);
    drop(client);
}

/// An IO that claims too much, or nothing, at its `after`-th write or read.
struct Liar<T> {
    io: T,
    lie: Lie,
    after: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Lie {
    Reads,
    Writes,
    VectoredWrites,
    ZeroWrites,
}

impl<T> Liar<T> {
    fn lies(&mut self, lie: Lie) -> bool {
        if self.lie != lie {
            return false;
        }
        self.after = self.after.saturating_sub(1);
        self.after == 0
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Liar<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.lies(Lie::Reads) {
            return Poll::Ready(Ok(out.len() + 1));
        }
        Pin::new(&mut self.io).poll_read(cx, out)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Liar<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.lies(Lie::Writes) {
            return Poll::Ready(Ok(bytes.len() + 1));
        }
        if self.lies(Lie::ZeroWrites) {
            return Poll::Ready(Ok(0));
        }
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.lies(Lie::VectoredWrites) {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum::<usize>() + 1));
        }
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}

#[test]
fn io_that_claims_too_much_ends_the_session() {
    // spec.md §9.3.3
    for (lie, expected) in [
        (Lie::Reads, SessionError::IoMisbehaved),
        (Lie::Writes, SessionError::IoMisbehaved),
        (Lie::VectoredWrites, SessionError::IoMisbehaved),
        (Lie::ZeroWrites, SessionError::Io(io::ErrorKind::WriteZero)),
    ] {
        for after in 1..5 {
            let mut sim = Sim::new(9);
            let config = sim.config().build().unwrap();
            let (left, right) = memory::duplex(4096);
            let left = Liar { io: left, lie, after };
            let (client, server) = sim.pair_over(left, right, config.clone(), config);
            let error = sim.run_for(Duration::from_secs(60), async move {
                let echo = async {
                    while let Some(stream) = server.accept().await {
                        let (mut read, mut write) = stream.into_split();
                        let _ = futures::io::copy(&mut read, &mut write).await;
                    }
                };
                join!(exchange(&client, lie), echo);
                client.closed().await
            });
            assert_eq!(error, Err(expected), "{lie:?} after {after}");
        }
    }
}

/// Sends messages, large ones without copying, and reads them back, until that fails.
async fn exchange(client: &Session, lie: Lie) {
    let Ok(mut stream) = client.open().await else { return };
    let len = if lie == Lie::VectoredWrites { 10_000 } else { 100 };
    loop {
        let mut chunk = bytes::Bytes::from(vec![1; len]);
        if stream.write_chunk(&mut chunk).await.is_err()
            || stream.read_exact(&mut vec![0; len]).await.is_err()
        {
            return;
        }
    }
}

#[test]
fn close_ends_in_time_though_the_peer_reads_nothing() {
    // spec.md §8.2.3
    let mut sim = Sim::new(10);
    let config = sim.config().write_timeout(None).keepalive(None).build().unwrap();
    let timer = sim.timer();
    let (left, _right) = memory::duplex(1);
    let (client, driver) = Session::client(left, config);
    let driver = sim.spawn(driver);
    let mut stream = client.try_open().unwrap();
    let start = timer.now();
    sim.run_for(Duration::from_secs(70), async move {
        let write = async { stream.write_all(&[0; 100_000]).await };
        let (closed, written) = join!(client.close(), write);
        assert_eq!(closed, Ok(()));
        assert!(written.is_err());
    });
    assert!(driver.is_ready());
    assert!(timer.now() - start <= Duration::from_secs(62));
}

/// Reads what the peer sent before it went; nobody takes what is written.
struct Gone {
    input: futures::io::Cursor<Vec<u8>>,
}

impl AsyncRead for Gone {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.input).poll_read(cx, out)
    }
}

impl AsyncWrite for Gone {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

// spec.md §8.6.1: what the peer sent before it went is not lost to a write that fails.
#[test]
fn a_failed_write_does_not_lose_what_was_sent_before() {
    // More than the driver reads before it writes for the first time.
    let mut input = Vec::new();
    for id in (2..=64).step_by(2) {
        input.extend(data(SYN, id, &[9; 200_000]));
        input.extend(header(1, FIN, id, 0));
    }
    let mut sim = Sim::new(7);
    let config = sim.config().build().unwrap();
    let (client, driver) = Session::client(Gone { input: futures::io::Cursor::new(input) }, config);
    let stream = client.try_open().unwrap();
    let ended = sim.spawn(driver);
    sim.settle();
    assert_eq!(ended.take(), Some(Err(SessionError::ConnectionLost)));
    let lengths = sim.run(async move {
        let mut lengths = Vec::new();
        while let Some(mut accepted) = client.accept().await {
            let mut got = Vec::new();
            accepted.read_to_end(&mut got).await.unwrap();
            lengths.push(got.len());
        }
        lengths
    });
    assert_eq!(lengths, [200_000; 32]);
    drop(stream);
}

/// Takes ten bytes, then nothing, until it fails. The peer is silent.
#[derive(Clone, Default)]
struct Stuck {
    taken: Arc<AtomicUsize>,
    fails: Arc<AtomicBool>,
    writer: Arc<AtomicWaker>,
}

impl Stuck {
    fn fail(&self) {
        self.fails.store(true, Ordering::SeqCst);
        self.writer.wake();
    }
}

impl AsyncRead for Stuck {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Pending
    }
}

impl AsyncWrite for Stuck {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writer.register(cx.waker());
        if self.fails.load(Ordering::SeqCst) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = 10 - self.taken.load(Ordering::SeqCst);
        let len = bytes.len().min(room);
        self.taken.fetch_add(len, Ordering::SeqCst);
        if len == 0 { Poll::Pending } else { Poll::Ready(Ok(len)) }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

// spec.md §8.6.1: half a batch is on the wire and more waits behind it; all of that is gone.
#[test]
fn a_write_that_fails_in_the_middle_ends_the_session_with_what_waits_behind_it() {
    let mut sim = Sim::new(27);
    let io = Stuck::default();
    let (client, driver) = Session::client(io.clone(), sim.config().build().unwrap());
    let ended = sim.spawn(driver);
    let mut first = client.try_open().unwrap();
    sim.run(async move { first.write_all(&[1; 1_000]).await.unwrap() });
    sim.settle();
    let mut second = client.try_open().unwrap();
    let written = sim.spawn(async move {
        second.write_all(&[2; 1_000]).await.unwrap();
        second.close().await
    });
    sim.settle();
    assert!(!ended.is_ready() && !written.is_ready());
    io.fail();
    sim.settle();
    let broken = SessionError::Io(io::ErrorKind::BrokenPipe);
    assert_eq!(ended.take(), Some(Err(broken)));
    let error = written.take().expect("told").expect_err("lost");
    assert_eq!(inner(&error), StreamError::Session(broken));
}

// spec.md §8.6.1: the same while a GoAway waits to be written.
#[test]
fn a_write_that_fails_while_the_session_ends_does_no_harm() {
    let mut sim = Sim::new(28);
    let io = Stuck::default();
    let (client, driver) = Session::client(io.clone(), sim.config().build().unwrap());
    let ended = sim.spawn(driver);
    let mut stream = client.try_open().unwrap();
    let stream = sim.run(async move {
        stream.write_all(&[1; 1_000]).await.unwrap();
        stream
    });
    sim.settle();
    client.abort(GoAwayCode::INTERNAL_ERROR);
    sim.settle();
    assert!(!ended.is_ready());
    io.fail();
    sim.settle();
    assert_eq!(ended.take(), Some(Err(SessionError::Aborted(GoAwayCode::INTERNAL_ERROR))));
    drop(stream);
}

#[test]
fn without_a_timer_a_session_ends_well_too() {
    // spec.md §7.0
    let mut sim = Sim::new(11);
    let config = Config::builder().no_timer().build().unwrap();
    let (client, server) = sim.pair_with(64, config.clone(), config);
    sim.run(async move {
        let mut near = client.open().await.unwrap();
        near.write_all(b"hello").await.unwrap();
        near.close().await.unwrap();
        let mut far = server.accept().await.unwrap();
        assert_eq!(read_all(&mut far).await, (b"hello".to_vec(), None));
        far.close().await.unwrap();
        assert_eq!(join!(client.close(), server.closed()), (Ok(()), Ok(())));
    });
}
