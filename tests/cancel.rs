//! Dropping a call that waits, at any moment, harms nothing but the call.
#![allow(clippy::unwrap_used)]

mod support;

use std::{future::Future, pin::Pin, task::Poll, time::Duration};

use futures::{AsyncReadExt, AsyncWriteExt, future, join, poll};
use support::{Sim, Trickle, count, pattern, read_all};
use trunkline::{ReadHalf, Session, WriteHalf, transport::memory};

/// What is cancelled.
#[derive(Clone, Copy, Debug)]
enum Call {
    Write,
    WriteChunk,
    Read,
    Flush,
    Close,
    Open,
    Accept,
    Ping,
    SessionClosed,
}

const CALLS: [Call; 9] = [
    Call::Write,
    Call::WriteChunk,
    Call::Read,
    Call::Flush,
    Call::Close,
    Call::Open,
    Call::Accept,
    Call::Ping,
    Call::SessionClosed,
];

#[test]
fn a_call_may_be_dropped_after_any_poll() {
    // spec.md §6.11, §4.4.6
    for call in CALLS {
        for polls in 1..=count(200).min(40) {
            let mut sim = Sim::new(polls);
            let (left, right) = memory::duplex(3);
            let (left, right) = (Trickle { io: left, most: 1 }, Trickle { io: right, most: 1 });
            let config = sim.config().build().unwrap();
            let (client, server) = sim.pair_over(left, right, config.clone(), config);
            sim.run(beside_others(call, polls, client, server));
        }
    }
}

/// While another stream carries data both ways, makes the call, drops it after so many polls,
/// and then carries on as if it had not been made.
async fn beside_others(call: Call, polls: u64, client: Session, server: Session) {
    let mut other = client.open().await.unwrap();
    other.write_all(b"#").await.unwrap();
    let mut far_other = server.accept().await.unwrap();
    far_other.read_exact(&mut [0]).await.unwrap();
    let text = pattern(7, 700);
    let busy = async {
        let (near_read, near_write) = other.into_split();
        let (far_read, far_write) = far_other.into_split();
        let writes = future::join(send(near_write, &text), send(far_write, &text));
        let (_, near, far) = join!(writes, receive(near_read), receive(far_read));
        assert!(near == text && far == text, "another stream lost its place");
    };
    join!(busy, cancelled(call, polls, &client, &server));
    let (closed, other) = join!(client.close(), server.closed());
    assert_eq!((closed, other), (Ok(()), Ok(())), "{call:?} dropped after {polls} polls");
}

async fn send(mut half: WriteHalf, bytes: &[u8]) {
    half.write_all(bytes).await.unwrap();
    half.close().await.unwrap();
}

async fn receive(mut half: ReadHalf) -> Vec<u8> {
    let (got, error) = read_all(&mut half).await;
    assert_eq!(error, None);
    got
}

async fn cancelled(call: Call, polls: u64, client: &Session, server: &Session) {
    let mut near = match call {
        // A dropped open opens nothing: there is no stream the peer waits for.
        Call::Open => {
            drop_after(polls, client.open()).await;
            return;
        }
        _ => client.open().await.unwrap(),
    };
    let sent = pattern(polls, 3_000);
    let mut at = 0;
    match call {
        Call::Write => {
            let first = drop_after(polls, near.write(&sent)).await;
            at = first.map_or(0, Result::unwrap);
        }
        Call::WriteChunk => {
            let mut chunk = bytes::Bytes::copy_from_slice(&sent);
            drop_after(polls, near.write_chunk(&mut chunk)).await;
            at = sent.len() - chunk.len();
        }
        Call::Flush => {
            at = near.write(&sent).await.unwrap();
            drop_after(polls, near.flush()).await;
        }
        Call::Close => {
            near.write_all(&sent).await.unwrap();
            at = sent.len();
            drop_after(polls, near.close()).await;
        }
        Call::Ping => drop(drop_after(polls, client.ping()).await),
        Call::SessionClosed => drop(drop_after(polls, client.closed()).await),
        Call::Read | Call::Open | Call::Accept => {}
    }
    let sending = async {
        if !matches!(call, Call::Close) {
            near.write_all(&sent[at..]).await.unwrap();
        }
        near.close().await.unwrap();
    };
    let receiving = async {
        let accepted = match call {
            Call::Accept => drop_after(polls, server.accept()).await.flatten(),
            _ => None,
        };
        let mut far = match accepted {
            Some(stream) => stream,
            None => server.accept().await.unwrap(),
        };
        let mut got = vec![0; 1_000];
        let mut len = 0;
        if let Call::Read = call {
            let first = drop_after(polls, far.read(&mut got)).await;
            len = first.map_or(0, Result::unwrap);
        }
        got.truncate(len);
        far.read_to_end(&mut got).await.unwrap();
        far.close().await.unwrap();
        got
    };
    let ((), got) = join!(sending, receiving);
    assert!(got == sent, "{call:?} dropped after {polls} polls");
}

/// Polls so many times, whenever woken or not, and then drops the future.
async fn drop_after<F: Future>(polls: u64, future: F) -> Option<F::Output> {
    let mut future = Box::pin(future);
    for _ in 0..polls {
        if let Poll::Ready(output) = poll!(&mut future) {
            return Some(output);
        }
        support::pause(1).await;
    }
    None
}

#[test]
fn writers_that_give_up_do_not_hold_up_the_others() {
    // spec.md §6.9: of a hundred that wait for their turn, half are dropped or never polled again.
    for seed in 0..count(100) {
        let mut sim = Sim::new(seed);
        let config = sim.config().staging_limit(16_384).build().unwrap();
        let other = sim.config().build().unwrap();
        let (client, server) = sim.pair_with(100, config, other);
        sim.run(async move {
            let mut writers = Vec::new();
            for _ in 0..100 {
                writers.push(client.open().await.unwrap());
            }
            // The first takes all the room there is.
            let mut hog = client.open().await.unwrap();
            let room = hog.write(&[0; 100_000]).await.unwrap();
            let bytes = [1; 5_000];
            let mut abandoned: Vec<Pin<Box<dyn Future<Output = ()>>>> = Vec::new();
            let mut patient = Vec::new();
            for (number, mut writer) in writers.into_iter().enumerate() {
                let mut write = Box::pin(async move {
                    writer.write_all(&bytes).await.unwrap();
                    writer.close().await.unwrap();
                    writer
                });
                assert!(poll!(&mut write).is_pending(), "{room} bytes left no room");
                match number % 4 {
                    0 => drop(write),
                    1 => abandoned.push(Box::pin(async move { drop(write.await) })),
                    _ => patient.push(write),
                }
            }
            let finished = future::join_all(patient).await;
            assert_eq!(finished.len(), 50);
            drop((hog, server, abandoned));
        });
    }
}

#[test]
fn a_thousand_handlers_that_never_answer_delay_nobody() {
    // spec.md §4.3.3
    let mut sim = Sim::new(1);
    let config = sim.config().keepalive(None).build().unwrap();
    let timer = sim.timer();
    let (client, server) = sim.pair_with(4096, config.clone(), config);
    sim.run(async move {
        let accepting = async {
            let mut silent = Vec::new();
            for _ in 0..1_000 {
                silent.push(server.accept().await.unwrap());
            }
            let mut last = server.accept().await.unwrap();
            last.write_all(b"answer").await.unwrap();
            last.close().await.unwrap();
            (silent, last)
        };
        let opening = async {
            let mut held = Vec::new();
            for _ in 0..1_000 {
                held.push(client.open().await.unwrap());
            }
            let mut last = client.open().await.unwrap();
            assert_eq!(read_all(&mut last).await, (b"answer".to_vec(), None));
            held
        };
        let start = trunkline::runtime::Timer::now(&*timer);
        let (_far, _near) = join!(accepting, opening);
        let took = trunkline::runtime::Timer::now(&*timer) - start;
        assert!(took <= Duration::from_millis(100), "{took:?}");
    });
}
