//! Short streams: open, 64 bytes each way, a clean close by both.

use std::io;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::{SMALL, join, message};
use crate::meter;
use crate::mux::{Opener, Pipe};
use crate::stage::Stage;

pub(super) async fn client(
    opener: impl Opener,
    in_flight: usize,
    limit: u64,
    stage: Stage,
) -> io::Result<()> {
    stage.ready().await;
    let mut tasks = JoinSet::new();
    for _ in 0..in_flight {
        tasks.spawn(call_repeatedly(opener.clone(), limit));
    }
    join(tasks).await
}

async fn call_repeatedly(mut opener: impl Opener, limit: u64) -> io::Result<()> {
    let counter = meter::counter();
    let question = message(SMALL);
    for _ in 0..limit {
        call(opener.open().await?, &question).await?;
        counter.add(1);
    }
    Ok(())
}

/// Warms a session up.
pub(super) async fn call_in_turn(opener: &mut impl Opener, calls: usize) -> io::Result<()> {
    for _ in 0..calls {
        call(opener.open().await?, &ANSWER).await?;
    }
    Ok(())
}

async fn call(mut pipe: impl Pipe, question: &Bytes) -> io::Result<()> {
    pipe.send_last(question).await?;
    expect_small(&mut pipe).await
}

/// Reads a question to its end and answers it.
pub(super) fn answer(mut pipe: impl Pipe) -> impl Future<Output = io::Result<()>> + Send {
    async move {
        expect_small(&mut pipe).await?;
        pipe.send_last(&ANSWER).await
    }
}

async fn expect_small(pipe: &mut impl Pipe) -> io::Result<()> {
    // Longer than the message, so that data and end may come with one read where the contestant can do that.
    let mut buf = [0; SMALL + 1];
    match pipe.recv_to_end(&mut buf).await? {
        SMALL => Ok(()),
        other => Err(io::Error::other(format!("{other} bytes instead of {SMALL}"))),
    }
}

/// Static: the harness allocates nothing per stream.
static ANSWER: Bytes = Bytes::from_static(&[0x5a; SMALL]);
