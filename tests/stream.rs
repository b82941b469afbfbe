//! One stream: what is written, and how it arrives and ends.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, FutureExt, join, poll};
use support::{ACK, DATA, FIN, SYN, Sim, WINDOW, data, header, inner, joined, pattern, read_all};
use trunkline::{ResetCode, Session, StreamError};

#[test]
fn a_small_request_is_one_syn_with_data_and_one_fin() {
    // spec.md §6.7, §4.5.4
    let mut sim = Sim::new(1);
    let config = sim.config().build().unwrap();
    let (client, mut raw) = sim.client_with_peer(config);
    let task = sim.spawn(async move {
        let mut stream = client.open().await.unwrap();
        assert_eq!(stream.id(), None);
        stream.write_all(b"request").await.unwrap();
        stream.close().await.unwrap();
        assert_eq!(stream.id().unwrap().0, 1);
        (client, stream)
    });
    sim.settle();
    let (frames, _) = raw.receive();
    assert!(task.is_ready());
    assert_eq!(frames.len(), 2, "{frames:?}");
    assert_eq!((frames[0].kind, frames[0].flags, frames[0].stream), (DATA, SYN, 1));
    assert_eq!(frames[0].body, b"request");
    assert_eq!((frames[1].flags, frames[1].length), (FIN, 0));
}

#[test]
fn an_unwritten_stream_that_is_closed_says_syn_then_fin() {
    // spec.md §4.2.5
    let mut sim = Sim::new(1);
    let config = sim.config().build().unwrap();
    let (client, mut raw) = sim.client_with_peer(config);
    let _task = sim.spawn(async move {
        let mut stream = client.open().await.unwrap();
        stream.close().await.unwrap();
        (client, stream)
    });
    sim.settle();
    let (frames, _) = raw.receive();
    let flags: Vec<u16> = frames.iter().map(|frame| frame.flags).collect();
    assert_eq!(flags, [SYN, FIN]);
}

#[test]
fn a_stream_dropped_before_its_syn_sends_nothing() {
    // spec.md §4.2.5
    let mut sim = Sim::new(1);
    let config = sim.config().build().unwrap();
    let (client, mut raw) = sim.client_with_peer(config);
    drop(client.try_open().unwrap());
    client.try_open().unwrap().reset(ResetCode(300));
    sim.settle();
    assert_eq!(raw.receive().0, []);
    let kept = client.try_open().unwrap();
    sim.settle();
    assert_eq!(raw.receive().0[0].stream, 1, "no id was used up");
    drop(kept);
}

#[test]
fn a_large_write_arrives_whole() {
    // spec.md §5.2
    let mut sim = Sim::new(2);
    let (client, server) = sim.pair(100_000);
    sim.run(async move {
        let sent = pattern(1, 5 << 20);
        let send = async {
            let mut stream = client.open().await.unwrap();
            stream.write_all(&sent).await.unwrap();
            stream.close().await.unwrap();
            stream
        };
        let receive = async {
            let mut stream = server.accept().await.unwrap();
            read_all(&mut stream).await
        };
        let (_stream, (got, error)) = join!(send, receive);
        assert!(got == sent && error.is_none());
    });
}

#[test]
fn vectored_writes_take_slices_in_order() {
    let mut sim = Sim::new(3);
    let (client, server) = sim.pair(4096);
    sim.run(async move {
        let (mut near, mut far) = joined(&client, &server).await;
        let slices = [&b""[..], b"one ", b"", b"two ", b"three"].map(IoSlice::new);
        let written = near.write_vectored(&slices).await.unwrap();
        assert_eq!(written, 13);
        assert_eq!(near.write_vectored(&[]).await.unwrap(), 0);
        near.close().await.unwrap();
        assert_eq!(read_all(&mut far).await, (b"one two three".to_vec(), None));
        let error = near.write_vectored(&slices).await.unwrap_err();
        assert_eq!(inner(&error), StreamError::Finished);
    });
}

#[test]
fn vectored_writes_stop_at_the_window() {
    // spec.md §5.2.1: exactly 262,144 bytes, then the writer waits.
    let mut sim = Sim::new(3);
    let (client, server) = sim.pair(4096);
    sim.run(async move {
        let mut near = client.open().await.unwrap();
        let piece = pattern(1, 100_000);
        let mut written = 0;
        loop {
            let slices = [&piece[..], &piece, &piece].map(IoSlice::new);
            match poll!(near.write_vectored(&slices)) {
                Poll::Ready(len) => written += len.unwrap(),
                Poll::Pending if written == 262_144 => break,
                Poll::Pending => support::pause(1).await,
            }
            assert!(written <= 262_144);
        }
        support::pause(5_000).await;
        assert!(poll!(near.write(b"x")).is_pending());
        drop(server);
    });
}

#[test]
fn chunks_are_not_copied() {
    let mut sim = Sim::new(4);
    let (client, server) = sim.pair(1 << 20);
    sim.run(async move {
        let (mut near, mut far) = joined(&client, &server).await;
        let mut chunk = Bytes::from(pattern(1, 60_000));
        let whole = chunk.clone();
        near.write_chunk(&mut chunk).await.unwrap();
        assert!(chunk.is_empty());
        near.flush().await.unwrap();
        let mut got = Vec::new();
        while got.len() < whole.len() {
            let chunk = far.read_chunk(7_000).await.unwrap().unwrap();
            assert!(!chunk.is_empty() && chunk.len() <= 7_000);
            got.extend(&chunk);
        }
        assert!(got == whole);
        near.close().await.unwrap();
        assert_eq!(far.read_chunk(1).await.unwrap(), None);
        assert_eq!(far.read_chunk(1).await.unwrap(), None);
    });
}

#[test]
fn a_large_chunk_reaches_the_io_and_the_reader_in_place() {
    let mut sim = Sim::new(4);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let io = Addresses { seen: seen.clone() };
    let (client, driver) = Session::client(io, sim.config().build().unwrap());
    sim.spawn(driver);
    let mut chunk = Bytes::from(pattern(1, 40_000));
    let address = chunk.as_ptr() as usize;
    let _task = sim.spawn(async move {
        let mut stream = client.open().await.unwrap();
        stream.write_chunk(&mut chunk).await.unwrap();
        stream.flush().await.unwrap();
        (client, stream)
    });
    sim.settle();
    assert!(seen.lock().unwrap().contains(&address));
}

/// Takes everything, and notes where it was.
struct Addresses {
    seen: Arc<Mutex<Vec<usize>>>,
}

impl futures::AsyncRead for Addresses {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Pending
    }
}

impl futures::AsyncWrite for Addresses {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.seen.lock().unwrap().push(bytes.as_ptr() as usize);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn lines_are_read_through_the_lent_buffer() {
    let mut sim = Sim::new(5);
    let (client, server) = sim.pair(4096);
    sim.run(async move {
        let (mut near, mut far) = joined(&client, &server).await;
        near.write_all(b"first\nsecond\nrest").await.unwrap();
        near.close().await.unwrap();
        let mut line = String::new();
        far.read_line(&mut line).await.unwrap();
        assert_eq!(line, "first\n");
        // Reading and chunks go on where consume stopped.
        let mut three = [0; 3];
        far.read_exact(&mut three).await.unwrap();
        assert_eq!(&three, b"sec");
        assert_eq!(far.fill_buf().await.unwrap(), b"ond\nrest");
        far.consume_unpin(4);
        assert_eq!(&far.read_chunk(2).await.unwrap().unwrap()[..], b"re");
        assert_eq!(far.fill_buf().await.unwrap(), b"st");
        far.consume_unpin(2);
        assert_eq!(far.fill_buf().await.unwrap(), b"");
    });
}

#[test]
fn what_was_written_goes_out_after_close_and_drop() {
    // spec.md §4.5.7: without waiting for the close, too.
    let mut sim = Sim::new(6);
    let (client, server) = sim.pair(8);
    sim.run(async move {
        let (mut near, mut far) = joined(&client, &server).await;
        near.write_all(&[9; 10_000]).await.unwrap();
        assert!(poll!(near.close()).is_pending());
        drop(near);
        assert_eq!(read_all(&mut far).await, (vec![9; 10_000], None));
    });
}

#[test]
fn a_reset_carries_its_code_behind_the_data() {
    // spec.md §4.6.6, §4.6.7
    let mut sim = Sim::new(7);
    let (client, server) = sim.pair(4096);
    sim.run(async move {
        let (mut near, mut far) = joined(&client, &server).await;
        near.write_all(b"before").await.unwrap();
        near.reset(ResetCode(777));
        let reset = StreamError::Reset(ResetCode(777));
        assert_eq!(read_all(&mut far).await, (b"before".to_vec(), Some(reset)));
        let error = far.write(b"x").await.unwrap_err();
        assert_eq!((inner(&error), error.kind()), (reset, io::ErrorKind::ConnectionReset));
        // Terminal outcomes are final: spec.md §4.7.6.
        assert_eq!(inner(&far.close().await.unwrap_err()), reset);
        assert_eq!(inner(&far.flush().await.unwrap_err()), reset);
        assert_eq!(read_all(&mut far).await.1, Some(reset));
    });
}

#[test]
fn close_is_repeatable_and_ends_writing() {
    // spec.md §4.5.5
    let mut sim = Sim::new(8);
    let (client, server) = sim.pair(4096);
    sim.run(async move {
        let (mut near, mut far) = joined(&client, &server).await;
        near.close().await.unwrap();
        near.close().await.unwrap();
        near.flush().await.unwrap();
        let error = near.write(b"x").await.unwrap_err();
        assert_eq!(
            (inner(&error), error.kind()),
            (StreamError::Finished, io::ErrorKind::BrokenPipe)
        );
        assert_eq!(read_all(&mut far).await, (Vec::new(), None));
        far.write_all(b"half closed").await.unwrap();
        far.close().await.unwrap();
        assert_eq!(read_all(&mut near).await, (b"half closed".to_vec(), None));
        near.close().await.unwrap();
    });
}

#[test]
fn flush_waits_for_the_connection() {
    // spec.md §6.10
    let mut sim = Sim::new(8);
    let (left, mut right) = trunkline::transport::memory::duplex(10);
    let (client, driver) = Session::client(left, sim.config().build().unwrap());
    sim.spawn(driver);
    let task = sim.spawn(async move {
        let mut stream = client.open().await.unwrap();
        stream.write_all(&[1; 100]).await.unwrap();
        stream.flush().await.unwrap();
        (client, stream)
    });
    sim.settle();
    let mut taken = 0;
    while !task.is_ready() {
        let mut buffer = [0; 10];
        let Some(read) = right.read(&mut buffer).now_or_never() else { break };
        taken += read.unwrap();
        sim.settle();
    }
    assert!(task.is_ready());
    assert!((102..=112).contains(&taken), "{taken} of 112 bytes were taken");
}

#[test]
fn credit_wakes_a_writer_at_the_window() {
    // spec.md §5.2.1, §3.2.1
    let mut sim = Sim::new(15);
    let config = sim.config().build().unwrap();
    let (client, mut raw) = sim.client_with_peer(config);
    let task = sim.spawn(async move {
        let mut stream = client.open().await.unwrap();
        stream.write_all(&vec![0; 262_145]).await.unwrap();
        stream.flush().await.unwrap();
        (client, stream)
    });
    sim.settle();
    let sent: usize = raw.receive().0.iter().map(|frame| frame.body.len()).sum();
    assert_eq!((sent, task.is_ready()), (262_144, false));
    raw.send(&header(WINDOW, ACK, 1, 1));
    sim.settle();
    let sent: usize = raw.receive().0.iter().map(|frame| frame.body.len()).sum();
    assert_eq!((sent, task.is_ready()), (1, true));
}

#[test]
fn data_after_fin_resets_one_stream() {
    // spec.md §4.5.6
    let mut sim = Sim::new(16);
    let config = sim.config().build().unwrap();
    let (server, mut raw) = sim.server_with_peer(config);
    raw.send(&data(SYN | FIN, 1, b"whole"));
    raw.send(&data(0, 1, b"too late"));
    raw.send(&data(SYN | FIN, 3, b"other"));
    sim.settle();
    let mut first = server.accept().now_or_never().unwrap().unwrap();
    let mut second = server.accept().now_or_never().unwrap().unwrap();
    let (text, error) = read_all(&mut first).now_or_never().unwrap();
    assert_eq!(text, b"whole");
    assert_eq!(error, Some(StreamError::DataAfterFin));
    assert_eq!(read_all(&mut second).now_or_never().unwrap(), (b"other".to_vec(), None));
    sim.settle();
    let resets: Vec<_> = raw.receive().0.into_iter().filter(|f| f.flags == support::RST).collect();
    assert_eq!((resets.len(), resets[0].stream, resets[0].length), (1, 1, 8));
    assert!(!server.is_closed());
}
