//! 64 bytes there and back.

use std::io;
use std::time::Instant;

use tokio::task::JoinSet;

use super::{SMALL, join, message};
use crate::meter::{self, HISTOGRAM};
use crate::mux::{Opener, Pipe};
use crate::stage::Stage;

pub(super) async fn client(
    mut opener: impl Opener,
    streams: usize,
    limit: u64,
    stage: Stage,
) -> io::Result<()> {
    stage.ready().await;
    if streams == 1 {
        return rally(opener.open().await?, limit).await;
    }
    let mut tasks = JoinSet::new();
    for _ in 0..streams {
        tasks.spawn(volley(opener.open().await?, limit));
    }
    join(tasks).await
}

/// One of many: round trips are counted.
async fn volley(mut pipe: impl Pipe, limit: u64) -> io::Result<()> {
    let counter = meter::counter();
    let ball = message(SMALL);
    let mut buf = [0; SMALL];
    for _ in 0..limit {
        pipe.send(&ball).await?;
        pipe.recv_exact(&mut buf).await?;
        counter.add(1);
    }
    pipe.finish().await?;
    pipe.recv_to_end(&mut buf).await.map(drop)
}

/// One alone: round trips are counted and timed.
async fn rally(mut pipe: impl Pipe, limit: u64) -> io::Result<()> {
    let counter = meter::counter();
    time_round_trips(&mut pipe, limit, || counter.add(1)).await?;
    pipe.finish().await?;
    pipe.recv_to_end(&mut [0; SMALL]).await.map(drop)
}

/// Round trips one after the other, each into the histogram.
pub(super) async fn time_round_trips(
    pipe: &mut impl Pipe,
    limit: u64,
    mut each: impl FnMut() + Send,
) -> io::Result<()> {
    let ball = message(SMALL);
    let mut buf = [0; SMALL];
    let mut sent = Instant::now();
    for _ in 0..limit {
        pipe.send(&ball).await?;
        pipe.recv_exact(&mut buf).await?;
        // One reading of the clock is the end of this round trip and the start of the next.
        let returned = Instant::now();
        HISTOGRAM.record(returned - sent);
        sent = returned;
        each();
    }
    Ok(())
}

/// Sends back every 64 bytes, to the end.
pub(super) async fn echo(mut pipe: impl Pipe) -> io::Result<()> {
    let ball = message(SMALL);
    let mut buf = [0; SMALL];
    loop {
        let received = pipe.recv(&mut buf).await?;
        if received == 0 {
            return pipe.finish().await;
        }
        pipe.recv_exact(&mut buf[received..]).await?;
        pipe.send(&ball).await?;
    }
}
