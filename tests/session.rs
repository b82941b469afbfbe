//! Sessions: accepting, counting, ending. Over a pipe in memory, on a virtual clock.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, FutureExt, StreamExt, join, poll,
};
use support::{Sim, inner, joined, read_all};
use trunkline::{Config, GoAwayCode, OpenError, ResetCode, Session, SessionError, StreamError};

#[test]
fn a_server_speaks_first() {
    // spec.md §4.2.4: SYN goes out by itself, so the server hears of a stream nobody wrote to.
    let mut sim = Sim::new(1);
    let (client, server) = sim.pair(4096);
    sim.run(async move {
        let greet = async {
            let mut stream = server.accept().await.unwrap();
            stream.write_all(b"220 ready").await.unwrap();
            stream.close().await.unwrap();
        };
        let listen = async {
            let mut stream = client.open().await.unwrap();
            read_all(&mut stream).await
        };
        let ((), (text, error)) = join!(greet, listen);
        assert_eq!((text.as_slice(), error), (&b"220 ready"[..], None));
    });
}

#[test]
fn a_dropped_accept_passes_its_stream_on() {
    // spec.md §4.4.6
    let mut sim = Sim::new(10);
    let (client, server) = sim.pair(4096);
    let other = server.clone();
    let accepted = sim.spawn(async move {
        let mut first = Box::pin(other.accept());
        assert!(poll!(&mut first).is_pending());
        while other.stats().accept_backlog == 0 {
            support::pause(1).await;
            futures::pending!();
        }
        drop(first);
    });
    sim.settle();
    let second = sim.spawn(async move { server.accept().await.is_some() });
    sim.settle();
    let stream = client.try_open().unwrap();
    sim.settle();
    assert_eq!((accepted.take(), second.take()), (Some(()), Some(true)));
    drop(stream);
}

#[test]
fn incoming_yields_streams_and_then_ends() {
    let mut sim = Sim::new(11);
    let (client, server) = sim.pair(4096);
    sim.run(async move {
        let serve = async {
            let mut incoming = server.incoming();
            let mut texts = Vec::new();
            while let Some(mut stream) = incoming.next().await {
                texts.push(read_all(&mut stream).await.0);
                stream.close().await.unwrap();
            }
            assert!(incoming.next().await.is_none());
            texts
        };
        let calls = async {
            for text in [&b"a"[..], b"b", b"c"] {
                let mut stream = client.open().await.unwrap();
                stream.write_all(text).await.unwrap();
                stream.close().await.unwrap();
                read_all(&mut stream).await;
            }
            client.close().await.unwrap();
        };
        let (texts, ()) = join!(serve, calls);
        assert_eq!(texts, [b"a", b"b", b"c"]);
    });
}

#[test]
fn stats_count_what_happened() {
    let mut sim = Sim::new(13);
    let config = sim.config().build().unwrap();
    let tight = sim.config().accept_backlog(1).build().unwrap();
    let (client, server) = sim.pair_with(4096, config, tight);
    sim.run(async move {
        let mut near = client.open().await.unwrap();
        near.write_all(&[1; 1000]).await.unwrap();
        near.flush().await.unwrap();
        let mut refused = client.open().await.unwrap();
        let error = refused.read(&mut [0]).await.unwrap_err();
        // spec.md §4.4.1
        assert_eq!(inner(&error), StreamError::Reset(ResetCode::REFUSED));
        let stats = server.stats();
        assert_eq!((stats.accept_backlog, stats.buffered, stats.refused), (1, 1000, 1));
        assert_eq!((stats.inbound_streams, stats.bytes_received), (1, 1000));
        let stats = client.stats();
        assert_eq!((stats.bytes_sent, stats.resets_received, stats.ack_backlog), (1000, 1, 1));
        drop(refused);
        assert_eq!(client.stats().outbound_streams, 1);
        let mut far = server.accept().await.unwrap();
        far.read_exact(&mut [0; 1000]).await.unwrap();
        assert_eq!((server.stats().buffered, server.stats().accept_backlog), (0, 0));
        drop(far);
        assert_eq!(read_all(&mut near).await.1, Some(support::CANCELLED));
        assert_eq!(server.stats().resets_sent, 1);
        drop(near);
        let stats = client.stats();
        assert_eq!((stats.outbound_streams, stats.ack_backlog, stats.staged), (0, 0, 0));
    });
}

#[test]
fn go_away_refuses_new_streams_and_lets_live_ones_run() {
    // spec.md §8.1
    let mut sim = Sim::new(14);
    let (client, server) = sim.pair(4096);
    sim.run(async move {
        let (mut near, mut far) = joined(&client, &server).await;
        server.go_away();
        assert_eq!(server.open().await.unwrap_err(), OpenError::Closing);
        while client.try_open().is_ok() {
            support::pause(1).await;
        }
        assert_eq!(client.open().await.unwrap_err(), OpenError::RemoteGoAway);
        near.write_all(b"goes on").await.unwrap();
        near.close().await.unwrap();
        assert_eq!(read_all(&mut far).await, (b"goes on".to_vec(), None));
        far.close().await.unwrap();
    });
}

#[test]
fn abort_ends_every_stream_and_tells_the_code() {
    // spec.md §8.2.4
    let mut sim = Sim::new(14);
    let (client, server) = sim.pair(4096);
    sim.run(async move {
        let (mut near, mut far) = joined(&client, &server).await;
        let code = GoAwayCode(42);
        client.abort(code);
        let aborted = SessionError::Aborted(code);
        assert_eq!(read_all(&mut near).await.1, Some(StreamError::Session(aborted)));
        assert_eq!(client.closed().await, Err(aborted));
        let told = SessionError::RemoteGoAway(code);
        assert_eq!(read_all(&mut far).await.1, Some(StreamError::Session(told)));
        assert_eq!(server.closed().await, Err(told));
        assert_eq!(client.open().await.unwrap_err(), OpenError::Session(aborted));
    });
}

#[test]
fn a_waker_that_owns_a_stream_is_not_dropped_under_the_lock() {
    // An executor may hold a task by its wakers alone: letting go of one drops the task.
    struct Owner {
        _stream: Mutex<Option<trunkline::Stream>>,
    }
    impl std::task::Wake for Owner {
        fn wake(self: Arc<Self>) {}
    }
    let mut sim = Sim::new(17);
    let (client, _server) = sim.pair(4096);
    let owned = client.try_open().unwrap();
    let mut read = client.try_open().unwrap();
    sim.settle();
    let waker = Waker::from(Arc::new(Owner { _stream: Mutex::new(Some(owned)) }));
    assert!(read.poll_read_chunk(&mut Context::from_waker(&waker), 1).is_pending());
    drop(waker);
    let before = client.stats().outbound_streams;
    // The last waker of that task is replaced here, on another thread so that a deadlock shows.
    let (done, finished) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        assert!(read.poll_read_chunk(&mut Context::from_waker(Waker::noop()), 1).is_pending());
        let _ = done.send(());
    });
    finished.recv_timeout(Duration::from_secs(20)).expect("a deadlock");
    sim.settle();
    assert!(client.stats().outbound_streams < before);
}

/// What can be read from it fails, and so does what is written to it.
struct Refusing;

impl AsyncRead for Refusing {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "certificate expired")))
    }
}

impl AsyncWrite for Refusing {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, "refused before")))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn what_the_connection_said_when_it_failed_can_be_asked() {
    let (session, driver) = Session::client(Refusing, Config::default());
    assert!(session.io_error().is_none());
    let ended = driver.now_or_never();
    assert_eq!(ended, Some(Err(SessionError::Io(io::ErrorKind::InvalidData))));
    assert_eq!(session.io_error().unwrap().to_string(), "certificate expired");
    // The session of somebody who hung up has nothing of the kind.
    let mut sim = Sim::new(12);
    let (client, server) = sim.pair(4096);
    client.abort(GoAwayCode::INTERNAL_ERROR);
    sim.settle();
    assert!(client.io_error().is_none() && server.io_error().is_none());
}
