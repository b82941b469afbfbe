//! What work in a steady state costs on the heap, both sides together. One test, since it counts
//! what the process allocates.
#![allow(clippy::unwrap_used)]

#[path = "support/heap.rs"]
mod heap;

use std::sync::Arc;

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use heap::MEMORY;
use stats_alloc::Region;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::compat::TokioAsyncReadCompatExt;
use trunkline::{Config, Session, Stream, runtime::ManualTimer, transport::memory};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// So often each work is done before it counts, and then while it does.
const ROUNDS: usize = 24;

#[tokio::test]
async fn work_in_a_steady_state_allocates_next_to_nothing() {
    for room in [64 * KIB, MIB] {
        let (left, right) = memory::duplex(room);
        work(left, right).await;
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let left = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (right, _) = listener.accept().await.unwrap();
    // A write that waits for the peer's kernel makes the work long, and the machine decides how.
    left.set_nodelay(true).unwrap();
    right.set_nodelay(true).unwrap();
    work(left.compat(), right.compat()).await;
}

async fn work<T: AsyncRead + AsyncWrite + Send + 'static>(left: T, right: T) {
    // Time stands still: what it costs that time passes is not for a slow machine to add.
    let timer = Arc::new(ManualTimer::new());
    let config = || Config::builder().timer(timer.clone()).build().unwrap();
    let (near, driver) = Session::client(left, config());
    let (far, peer) = Session::server(right, config());
    tokio::spawn(driver);
    tokio::spawn(peer);
    for len in [64 * KIB, 20 * KIB, 1_000] {
        let each = slices(pair(&near, &far).await, len).await;
        println!("a MiB in slices of {len}: {each} allocations");
        assert!(each < 0.5, "{each} for a MiB in slices of {len}");
    }
    let each = chunks(pair(&near, &far).await).await;
    println!("a MiB in chunks: {each} allocations");
    assert!(each < 0.5, "{each} for a MiB in chunks");
    let each = messages(pair(&near, &far).await).await;
    println!("a thousand messages: {each} allocations");
    assert!(each < 0.5, "{each} for a thousand messages");
}

async fn pair(near: &Session, far: &Session) -> (Stream, Stream) {
    let mut opened = near.open().await.unwrap();
    opened.write_all(&[1]).await.unwrap();
    let mut accepted = far.accept().await.unwrap();
    accepted.read_exact(&mut [0]).await.unwrap();
    (opened, accepted)
}

/// Allocations of one round of `work`.
async fn measured(mut work: impl AsyncFnMut()) -> f64 {
    for _ in 0..ROUNDS {
        work().await;
    }
    let region = Region::new(MEMORY);
    for _ in 0..ROUNDS {
        work().await;
    }
    let change = region.change();
    (change.allocations + change.reallocations) as f64 / ROUNDS as f64
}

/// Ends the work; the far end goes without a word of its own, which may come first.
async fn end(mut near: Stream, far: JoinHandle<()>) {
    drop(near.close().await);
    far.await.unwrap();
}

/// A MiB one way, written and read by slices of `len`.
async fn slices((mut near, mut far): (Stream, Stream), len: usize) -> f64 {
    let (sent, mut room) = (vec![7; len], vec![0; len]);
    let reader = tokio::spawn(async move { while far.read(&mut room).await.unwrap() > 0 {} });
    let each = measured(async || {
        for _ in 0..MIB / len {
            near.write_all(&sent).await.unwrap();
        }
        near.flush().await.unwrap();
    })
    .await;
    end(near, reader).await;
    each
}

/// A MiB one way by chunks.
async fn chunks((mut near, mut far): (Stream, Stream)) -> f64 {
    let chunk = Bytes::from(vec![7; 64 * KIB]);
    let reader = tokio::spawn(async move { while far.read_chunk(MIB).await.unwrap().is_some() {} });
    let each = measured(async || {
        for _ in 0..MIB / chunk.len() {
            near.write_chunk(&mut chunk.clone()).await.unwrap();
        }
        near.flush().await.unwrap();
    })
    .await;
    end(near, reader).await;
    each
}

/// A thousand small messages there and back.
async fn messages((mut near, mut far): (Stream, Stream)) -> f64 {
    let echo = tokio::spawn(async move {
        let mut message = [0; 64];
        while far.read_exact(&mut message).await.is_ok() {
            far.write_all(&message).await.unwrap();
        }
    });
    let each = measured(async || {
        for _ in 0..1_000 {
            let mut message = [7; 64];
            near.write_all(&message).await.unwrap();
            near.read_exact(&mut message).await.unwrap();
        }
    })
    .await;
    end(near, echo).await;
    each
}
