//! Who waits for a stream gets one in turn.
#![allow(clippy::unwrap_used)]

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt, future::join_all};
use trunkline::{Config, Session, transport::memory};

const CALLERS: usize = 400;

/// spec.md §4.4.2: 400 callers and 64 places; each caller opens again as soon as it is done.
#[tokio::test]
async fn callers_beyond_the_backlog_take_turns() {
    let (left, right) = memory::duplex(1 << 16);
    let config = Config::builder().ack_backlog(64).build().unwrap();
    let (client, driver) = Session::client(left, config);
    let (server, peer) = Session::server(right, Config::default());
    tokio::spawn(driver);
    tokio::spawn(peer);
    tokio::spawn(server.incoming().for_each_concurrent(None, |mut stream| async move {
        let mut asked = Vec::new();
        stream.read_to_end(&mut asked).await.unwrap();
        stream.write_all(&asked).await.unwrap();
        stream.close().await.unwrap();
    }));
    let (over, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let callers = (0..CALLERS).map(|_| {
        let (client, over, done) = (client.clone(), over.clone(), done.clone());
        tokio::spawn(async move {
            let mut rounds = 0_u32;
            while !over.load(Ordering::Relaxed) {
                let mut stream = client.open().await.unwrap();
                stream.write_all(b"x").await.unwrap();
                stream.close().await.unwrap();
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).await.unwrap();
                rounds += 1;
                if done.fetch_add(1, Ordering::Relaxed) == 20_000 {
                    over.store(true, Ordering::Relaxed);
                }
            }
            rounds
        })
    });
    let rounds: Vec<u32> = join_all(callers).await.into_iter().map(Result::unwrap).collect();
    let (least, most) = (rounds.iter().min().unwrap(), rounds.iter().max().unwrap());
    assert!(least + 5 >= *most, "{rounds:?}");
}
