//! Sessions and streams over a pipe in memory, on a virtual clock.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures::{
    AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, FutureExt, StreamExt, future, join, poll,
};
use support::{
    ACK, DATA, FIN, PING, SYN, Sim, WINDOW, data, frames, header, inner, pattern, read_all,
};
use trunkline::{
    GoAwayCode, OpenError, PingError, ResetCode, Session, SessionError, StreamError, TryOpenError,
    runtime::Timer,
};

/// A stream of each side, joined; the client has written one byte, which was read.
async fn joined(client: &Session, server: &Session) -> (trunkline::Stream, trunkline::Stream) {
    let mut near = client.open().await.unwrap();
    near.write_all(b"!").await.unwrap();
    let mut far = server.accept().await.unwrap();
    let mut first = [0];
    far.read_exact(&mut first).await.unwrap();
    (near, far)
}

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
    let (client, driver) = Session::client_local(io, sim.config().build().unwrap());
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
fn halves_keep_a_lent_buffer_and_reunite() {
    let mut sim = Sim::new(5);
    let (client, server) = sim.pair(4096);
    sim.run(async move {
        let (mut near, mut far) = joined(&client, &server).await;
        near.write_all(b"abcdef").await.unwrap();
        assert_eq!(far.fill_buf().await.unwrap(), b"abcdef");
        far.consume_unpin(2);
        let (read, write) = far.into_split();
        let (other_read, other_write) = client.open().await.unwrap().into_split();
        let halves = read.reunite(other_write).unwrap_err();
        let mut far = halves.read.reunite(write).unwrap();
        drop(other_read.reunite(halves.write).unwrap());
        let mut rest = [0; 4];
        far.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"cdef");
        far.write_all(b"back").await.unwrap();
        far.close().await.unwrap();
        assert_eq!(read_all(&mut near).await, (b"back".to_vec(), None));
    });
}

#[test]
fn a_dropped_read_half_lets_writing_go_on_and_grants_no_credit() {
    // spec.md §4.5.9
    let mut sim = Sim::new(6);
    let (client, server) = sim.pair(4096);
    sim.run(async move {
        let (near, far) = joined(&client, &server).await;
        let (read, mut write) = far.into_split();
        drop(read);
        let (mut near_read, mut near_write) = near.into_split();
        let endless = async {
            let mut sent = 0;
            while sent < 1 << 20 {
                sent += near_write.write(&[7; 10_000]).await.unwrap();
            }
        };
        let mut endless = pin!(endless);
        let answer = async {
            write.write_all(&[1; 500_000]).await.unwrap();
            support::pause(10_000).await;
        };
        let receive = async { near_read.read_exact(&mut vec![0; 500_000]).await.unwrap() };
        let work = future::join(answer, receive).boxed_local();
        let future::Either::Left(_) = future::select(work, &mut endless).await else {
            panic!("the peer was granted credit for what nobody reads");
        };
        // spec.md §4.5.8: closed and dropped, the rest is discarded and credited.
        write.close().await.unwrap();
        drop(write);
        endless.await;
    });
}

#[test]
fn a_dropped_write_half_resets_once_the_read_half_is_gone_too() {
    // spec.md §4.5.9
    let mut sim = Sim::new(6);
    let (client, server) = sim.pair(4096);
    sim.run(async move {
        let (mut near, far) = joined(&client, &server).await;
        let (mut read, write) = far.into_split();
        drop(write);
        near.write_all(b"still read").await.unwrap();
        let mut text = [0; 10];
        read.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"still read");
        drop(read);
        assert_eq!(read_all(&mut near).await, (Vec::new(), Some(support::CANCELLED)));
    });
}

#[test]
fn dropping_halves_after_close_is_silent() {
    // spec.md §4.5.7
    let mut sim = Sim::new(6);
    let (client, server) = sim.pair(4096);
    sim.run(async move {
        let (mut near, far) = joined(&client, &server).await;
        let (read, mut write) = far.into_split();
        write.write_all(b"last words").await.unwrap();
        write.close().await.unwrap();
        drop((read, write));
        assert_eq!(read_all(&mut near).await, (b"last words".to_vec(), None));
        near.write_all(&[0; 600_000]).await.unwrap();
        near.close().await.unwrap();
        drop(near);
        assert_eq!(join!(client.close(), server.closed()), (Ok(()), Ok(())));
        assert_eq!(server.stats().resets_sent + client.stats().resets_sent, 0);
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
fn a_reset_of_one_half_ends_the_other() {
    // spec.md §4.7.6
    let mut sim = Sim::new(7);
    let (client, server) = sim.pair(4096);
    sim.run(async move {
        let (mut near, far) = joined(&client, &server).await;
        let (read, mut write) = far.into_split();
        let local = StreamError::LocalReset(ResetCode(256));
        let waits = async {
            let full = async { write.write_all(&[0; 1 << 20]).await };
            inner(&full.await.unwrap_err())
        };
        let resets = async {
            support::pause(2_000).await;
            read.reset(ResetCode(256));
        };
        let (error, ()) = join!(waits, resets);
        assert_eq!(error, local);
        let remote = StreamError::Reset(ResetCode(256));
        assert_eq!(read_all(&mut near).await.1, Some(remote));
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
    let (client, driver) = Session::client_local(left, sim.config().build().unwrap());
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
fn read_deadlines_pass_and_the_stream_stays_usable() {
    // spec.md §7.6
    let mut sim = Sim::new(9);
    let timer = sim.timer();
    let (client, server) = sim.pair(4096);
    sim.run(async move {
        let (mut near, mut far) = joined(&client, &server).await;
        let start = timer.now();
        far.set_read_deadline(Some(start + Duration::from_millis(100))).unwrap();
        let mut byte = [0];
        let error = far.read(&mut byte).await.unwrap_err();
        assert_eq!((inner(&error), error.kind()), (StreamError::TimedOut, io::ErrorKind::TimedOut));
        assert_eq!(timer.now() - start, Duration::from_millis(100));
        assert_eq!(inner(&far.fill_buf().await.unwrap_err()), StreamError::TimedOut);
        // Bytes that are there are read all the same.
        near.write_all(b"late").await.unwrap();
        support::pause(200).await;
        let mut four = [0; 4];
        far.read_exact(&mut four).await.unwrap();
        assert_eq!(&four, b"late");
        assert_eq!(inner(&far.read(&mut byte).await.unwrap_err()), StreamError::TimedOut);
        far.set_read_deadline(None).unwrap();
        near.write_all(b"x").await.unwrap();
        far.read_exact(&mut byte).await.unwrap();
    });
}

#[test]
fn write_deadlines_pass_and_nothing_is_lost() {
    // spec.md §7.6.2
    let mut sim = Sim::new(9);
    let timer = sim.timer();
    let (client, server) = sim.pair(4096);
    sim.run(async move {
        let (mut near, mut far) = joined(&client, &server).await;
        near.set_write_deadline(Some(timer.now() + Duration::from_millis(50))).unwrap();
        let sent = pattern(4, 600_000);
        let mut at = 0;
        let error = loop {
            match near.write(&sent[at..]).await {
                Ok(len) => at += len,
                Err(error) => break error,
            }
        };
        // The byte that was read came back as credit on the ACK (spec.md §5.3.2).
        assert_eq!((inner(&error), at), (StreamError::TimedOut, 262_144));
        near.set_write_deadline(None).unwrap();
        let send = async {
            near.write_all(&sent[at..]).await.unwrap();
            near.close().await.unwrap();
        };
        let ((), (got, error)) = join!(send, read_all(&mut far));
        assert!(got == sent && error.is_none());
    });
}

#[test]
fn changing_a_deadline_wakes_the_call_that_waits() {
    // spec.md §7.6.1
    let mut sim = Sim::new(9);
    let timer = sim.timer();
    let (client, server) = sim.pair(4096);
    let (start, end) = sim.run(async move {
        let (near, far) = joined(&client, &server).await;
        let start = timer.now();
        let far = std::cell::RefCell::new(far);
        let read =
            std::future::poll_fn(|cx| Pin::new(&mut *far.borrow_mut()).poll_read_chunk(cx, 10));
        let set = async {
            support::pause(100).await;
            let at = Some(start + Duration::from_millis(300));
            far.borrow_mut().set_read_deadline(at).unwrap();
            support::pause(100).await;
            let at = Some(start + Duration::from_millis(20));
            far.borrow_mut().set_read_deadline(at).unwrap();
        };
        let (read, ()) = join!(read, set);
        assert_eq!(inner(&read.unwrap_err()), StreamError::TimedOut);
        drop(near);
        (start, timer.now())
    });
    assert_eq!(end - start, Duration::from_millis(20));
}

#[test]
fn without_a_timer_deadlines_and_pings_are_unsupported() {
    // spec.md §7.0, §11.5
    let mut sim = Sim::new(9);
    let config = trunkline::Config::builder().no_timer().build().unwrap();
    let (client, server) = sim.pair_with(4096, config.clone(), config);
    sim.run(async move {
        let (mut near, _far) = joined(&client, &server).await;
        let error = near.set_read_deadline(Some(std::time::Instant::now())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        near.set_write_deadline(None).unwrap();
        assert_eq!(client.ping().await, Err(PingError::Unsupported));
    });
}

#[test]
fn open_waits_at_the_ack_backlog_and_goes_on_when_streams_are_accepted() {
    // spec.md §4.4.2, §4.4.3
    let mut sim = Sim::new(10);
    let config = sim.config().ack_backlog(3).build().unwrap();
    let other = sim.config().build().unwrap();
    let (client, server) = sim.pair_with(4096, config, other);
    sim.run(async move {
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(client.open().await.unwrap());
        }
        assert_eq!(client.try_open().unwrap_err(), TryOpenError::AckBacklogFull);
        let mut first = pin!(client.open());
        let mut second = pin!(client.open());
        assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
        support::pause(200).await;
        assert!(poll!(&mut first).is_pending());
        assert_eq!(client.stats().ack_backlog, 3);
        let one = server.accept().await.unwrap();
        // First come, first served.
        held.push(first.await.unwrap());
        support::pause(200).await;
        assert!(poll!(&mut second).is_pending());
        // A stream that is dropped frees its place as well.
        drop(held.pop());
        held.push(second.await.unwrap());
        drop(one);
    });
}

#[test]
fn open_waits_at_the_stream_limit_and_goes_on_when_one_is_over() {
    // spec.md §4.4.4
    let mut sim = Sim::new(10);
    let config = sim.config().max_outbound_streams(2).build().unwrap();
    let other = sim.config().build().unwrap();
    let (client, server) = sim.pair_with(4096, config, other);
    sim.run(async move {
        let (mut near, mut far) = joined(&client, &server).await;
        let (_kept, _kept_far) = joined(&client, &server).await;
        assert_eq!(client.try_open().unwrap_err(), TryOpenError::TooManyStreams);
        let mut third = pin!(client.open());
        assert!(poll!(&mut third).is_pending());
        near.close().await.unwrap();
        far.close().await.unwrap();
        assert_eq!(read_all(&mut near).await, (Vec::new(), None));
        drop(near);
        third.await.unwrap();
    });
}

#[test]
fn a_dropped_open_passes_its_turn_on() {
    // spec.md §4.4.6
    let mut sim = Sim::new(10);
    let config = sim.config().ack_backlog(1).build().unwrap();
    let other = sim.config().build().unwrap();
    let (client, server) = sim.pair_with(4096, config, other);
    let held = client.try_open().unwrap();
    let mut first = Box::pin(client.open());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(first.as_mut().poll(&mut cx).is_pending());
    let waiting = client.clone();
    let second = sim.spawn(async move { waiting.open().await.is_ok() });
    sim.settle();
    assert!(!second.is_ready());

    // The permit comes free and wakes the first, which is dropped before it looks.
    let accepted = sim.run(async move { server.accept().await });
    sim.advance(Duration::from_millis(10));
    assert!(!second.is_ready());
    drop(first);
    sim.settle();
    assert_eq!(second.take(), Some(true));
    drop((held, accepted));
}

#[test]
fn an_open_that_nobody_polls_holds_up_nobody_once_the_session_is_over() {
    // spec.md §4.4.6
    let mut sim = Sim::new(10);
    let config = sim.config().ack_backlog(1).build().unwrap();
    let other = sim.config().build().unwrap();
    let (client, _server) = sim.pair_with(4096, config, other);
    let _held = client.try_open().unwrap();
    let mut first = Box::pin(client.open());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(first.as_mut().poll(&mut cx).is_pending());
    client.abort(GoAwayCode::NORMAL);
    sim.settle();
    assert!(client.open().now_or_never().unwrap().is_err());
    assert!(first.now_or_never().unwrap().is_err());
}

#[test]
fn the_peers_go_away_tells_openers_beside_one_that_nobody_polls() {
    // spec.md §4.4.6
    let mut sim = Sim::new(10);
    let config = sim.config().ack_backlog(1).build().unwrap();
    let other = sim.config().build().unwrap();
    let (client, server) = sim.pair_with(4096, config, other);
    let _held = client.try_open().unwrap();
    let mut first = Box::pin(client.open());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(first.as_mut().poll(&mut cx).is_pending());
    let waiting = client.clone();
    let second = sim.spawn(async move { waiting.open().await.err() });
    sim.settle();
    server.go_away();
    sim.settle();
    assert_eq!(second.take(), Some(Some(OpenError::RemoteGoAway)));
}

#[test]
fn as_many_openers_are_woken_as_there_is_room_for() {
    // spec.md §4.4.2: whichever limit they wait for.
    for (acks, streams) in [(2, 100), (100, 2)] {
        let mut sim = Sim::new(11);
        let config = sim.config().ack_backlog(acks).max_outbound_streams(streams);
        let config = config.build().unwrap();
        let (client, mut peer) = sim.client_with_peer(config);
        let held = [client.try_open().unwrap(), client.try_open().unwrap()];
        sim.settle();
        peer.receive();
        let flags = [(); 5].map(|()| Arc::new(support::Flag::default()));
        let mut opens: Vec<_> = flags
            .iter()
            .map(|flag| {
                let waker = Waker::from(flag.clone());
                let mut open = Box::pin(client.open());
                assert!(open.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
                open
            })
            .collect();
        let woken = || flags.each_ref().map(|flag| flag.wakes());
        // An ACK makes room in the backlog, and RST in both.
        peer.send(&header(WINDOW, ACK, 1, 0));
        sim.settle();
        let acked = if acks == 2 { [1, 0, 0, 0, 0] } else { [0; 5] };
        assert_eq!(woken(), acked);
        for id in [1, 3] {
            peer.send(&header(WINDOW, support::RST, id, 0));
        }
        sim.settle();
        assert_eq!(woken(), [1, 1, 0, 0, 0]);
        // One gives up, and one opens: the next has a turn, and no more.
        drop(opens.remove(0));
        assert_eq!(woken(), [1, 1, 1, 0, 0]);
        let opened = opens.remove(0).now_or_never().unwrap().unwrap();
        assert_eq!(woken(), [1, 1, 1, 0, 0]);
        drop((held, opened));
    }
}

#[test]
fn where_there_is_room_for_two_the_second_does_not_wait_for_the_first() {
    // spec.md §4.4.2: the first was woken, and nobody polls it. Whether room for the second comes
    // before or after it.
    for before in [true, false] {
        let mut sim = Sim::new(12);
        let config = sim.config().ack_backlog(2).build().unwrap();
        let (client, mut peer) = sim.client_with_peer(config);
        let _held = [client.try_open().unwrap(), client.try_open().unwrap()];
        sim.settle();
        let mut first = Box::pin(client.open());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(first.as_mut().poll(&mut cx).is_pending());
        peer.send(&header(WINDOW, ACK, 1, 0));
        sim.settle();
        if before {
            peer.send(&header(WINDOW, ACK, 3, 0));
            sim.settle();
        }
        let waiting = client.clone();
        let second = sim.spawn(async move { waiting.open().await });
        sim.settle();
        assert_eq!(second.is_ready(), before);
        peer.send(&header(WINDOW, ACK, 3, 0));
        sim.settle();
        assert!(second.take().unwrap().is_ok());
        assert!(first.now_or_never().unwrap().is_ok());
    }
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
fn a_hundred_pings_at_once_are_all_answered() {
    // spec.md §3.3.4: 32 at a time, the others wait.
    let mut sim = Sim::new(12);
    let (client, server) = sim.pair(64);
    sim.run(async move {
        let near = future::join_all((0..100).map(|_| client.ping()));
        let far = future::join_all((0..100).map(|_| server.ping()));
        let (near, far) = join!(near, far);
        assert!(near.iter().chain(&far).all(Result::is_ok));
    });
}

#[test]
fn thirty_thousand_questions_in_one_go_are_all_answered() {
    // spec.md §9.2.3: the answers that wait are bounded; they are written before more is read.
    let mut sim = Sim::new(13);
    let (near, far) = trunkline::transport::memory::duplex(1 << 20);
    let (server, driver) = Session::server(near, sim.config().build().unwrap());
    let ended = sim.spawn(driver);
    let (mut reader, mut writer) = far.split();
    let answers = sim.run(async move {
        let questions: Vec<_> = (0..30_000).flat_map(|value| header(PING, SYN, 0, value)).collect();
        writer.write_all(&questions).await.unwrap();
        let mut answers = vec![0; questions.len()];
        reader.read_exact(&mut answers).await.unwrap();
        answers
    });
    let mut values: Vec<_> = frames(&answers).iter().map(|frame| frame.length).collect();
    values.sort_unstable();
    assert_eq!(values, (0..30_000).collect::<Vec<_>>());
    assert!(!ended.is_ready() && !server.is_closed());
}

#[test]
fn pings_in_excess_wait_for_answers_and_dropped_ones_make_room() {
    // spec.md §3.3.4
    let mut sim = Sim::new(12);
    let config = sim.config().keepalive(None).build().unwrap();
    let (client, mut raw) = sim.client_with_peer(config);
    let mut tasks: Vec<_> = (0..40)
        .map(|_| {
            let client = client.clone();
            sim.spawn_flagged(async move { client.ping().await })
        })
        .collect();
    sim.settle();
    assert_eq!(raw.receive().0.len(), 32);
    let (number, _) = tasks.remove(0);
    sim.drop_task(number);
    sim.settle();
    let more = raw.receive().0.len();
    assert!(more <= 1, "{more}");
    // Answers never come: each fails after the ping timeout, and the session lives.
    sim.advance(Duration::from_secs(31));
    for (_, output) in &tasks {
        let output = output.take();
        assert!(matches!(output, None | Some(Err(PingError::TimedOut))), "{output:?}");
    }
    assert!(!client.is_closed());
}

#[test]
fn a_ping_measures_virtual_time_and_fails_alone() {
    // spec.md §7.1.1
    let mut sim = Sim::new(12);
    let config = sim.config().build().unwrap();
    let (client, mut raw) = sim.client_with_peer(config);
    let asking = client.clone();
    let first = sim.spawn(async move { asking.ping().await });
    sim.advance(Duration::from_millis(70));
    let ping = raw.receive().0[0].clone();
    assert_eq!((ping.kind, ping.flags), (PING, SYN));
    raw.send(&header(PING, ACK, 0, ping.length));
    sim.settle();
    assert_eq!(first.take(), Some(Ok(Duration::from_millis(70))));
    assert_eq!(client.rtt(), Some(Duration::from_millis(70)));
    let asking = client.clone();
    let second = sim.spawn(async move { asking.ping().await });
    sim.advance(Duration::from_millis(9_999));
    assert!(!second.is_ready());
    sim.advance(Duration::from_millis(1));
    assert_eq!(second.take(), Some(Err(PingError::TimedOut)));
    assert!(!client.is_closed());
    let asking = client.clone();
    let third = sim.spawn(async move { asking.ping().await });
    sim.settle();
    drop(raw);
    sim.settle();
    assert!(matches!(third.take(), Some(Err(PingError::Session(_)))));
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
fn an_open_that_waits_learns_of_the_peers_go_away() {
    // spec.md §8.1.2
    let mut sim = Sim::new(14);
    let config = sim.config().ack_backlog(1).build().unwrap();
    let (client, mut raw) = sim.client_with_peer(config);
    let held = client.try_open().unwrap();
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let client = client.clone();
            sim.spawn(async move { client.open().await.map(drop) })
        })
        .collect();
    sim.settle();
    raw.send(&header(support::GO_AWAY, 0, 0, 0));
    sim.settle();
    for waiting in waiting {
        assert_eq!(waiting.take(), Some(Err(OpenError::RemoteGoAway)));
    }
    drop(held);
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
