//! The client sends, the server counts.

use std::io;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::{READ, join, message};
use crate::meter;
use crate::mux::{Opener, Pipe};
use crate::stage::Stage;

pub(super) async fn client(
    mut opener: impl Opener,
    streams: usize,
    length: usize,
    limit: u64,
    stage: Stage,
) -> io::Result<()> {
    stage.ready().await;
    let message = message(length);
    let mut tasks = JoinSet::new();
    for _ in 0..streams {
        tasks.spawn(pump(opener.open().await?, message.clone(), limit));
    }
    join(tasks).await
}

/// Sends `limit` messages and waits until the server has them all.
pub(super) async fn pump(mut pipe: impl Pipe, message: Bytes, limit: u64) -> io::Result<()> {
    for _ in 0..limit {
        pipe.send(&message).await?;
    }
    pipe.finish().await?;
    pipe.recv_to_end(&mut [0; 1]).await.map(drop)
}

/// Counts what arrives, to the end.
pub(super) async fn sink(mut pipe: impl Pipe) -> io::Result<()> {
    let counter = meter::counter();
    let mut buf = vec![0; READ];
    loop {
        match pipe.recv(&mut buf).await? {
            0 => return pipe.finish().await,
            received => counter.add(received as u64),
        }
    }
}
