//! The halves of a stream: apart, dropped, and joined again.
#![allow(clippy::unwrap_used)]

mod support;

use std::pin::pin;

use futures::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, FutureExt, future, join};
use support::{Sim, inner, joined, read_all};
use trunkline::{ResetCode, StreamError};

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
fn a_reader_that_has_all_gets_the_end_whatever_the_other_half_does() {
    // spec.md §4.7.3
    let mut sim = Sim::new(8);
    let (client, server) = sim.pair(4096);
    sim.run(async move {
        for unread in [0, 1] {
            let (mut near, far) = joined(&client, &server).await;
            near.write_all(b"all").await.unwrap();
            near.close().await.unwrap();
            support::pause(100).await;
            let (mut read, write) = far.into_split();
            let mut text = [0; 3];
            read.read_exact(&mut text[unread..]).await.unwrap();
            write.reset(ResetCode(256));
            let local = StreamError::LocalReset(ResetCode(256));
            let end = (unread > 0).then_some(local);
            assert_eq!(read_all(&mut read).await, (Vec::new(), end));
        }
    });
}

#[test]
fn halves_of_a_stream_that_is_over_do_not_join_those_of_one_that_lives() {
    // What tells them apart: the id of one may be the place of the other.
    let mut sim = Sim::new(9);
    let (client, server) = sim.pair(4096);
    sim.run(async move {
        let (mut near, mut far) = joined(&client, &server).await;
        let mut others = Vec::new();
        for _ in 0..4 {
            others.push(joined(&client, &server).await);
        }
        far.close().await.unwrap();
        near.close().await.unwrap();
        assert_eq!(read_all(&mut near).await, (Vec::new(), None));
        for (other, far) in others {
            let (read, write) = near.into_split();
            let (other_read, other_write) = other.into_split();
            let apart = read.reunite(other_write).unwrap_err();
            let others = other_read.reunite(write).unwrap_err();
            near = apart.read.reunite(others.write).unwrap();
            let mut other = others.read.reunite(apart.write).unwrap();
            other.close().await.unwrap();
            drop(far);
        }
    });
}

#[test]
fn a_stream_that_was_joined_is_held_as_before() {
    let mut sim = Sim::new(10);
    let (client, server) = sim.pair(4096);
    sim.run(async move {
        let (mut near, far) = joined(&client, &server).await;
        let (read, write) = far.into_split();
        let (read, mut write) = read.reunite(write).unwrap().into_split();
        drop(read);
        write.write_all(b"still written").await.unwrap();
        write.close().await.unwrap();
        assert_eq!(read_all(&mut near).await, (b"still written".to_vec(), None));
    });
}
