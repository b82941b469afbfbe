//! A ping-pong beside a bulk stream of the same session.

use std::io;

use super::{READ, message, one_way, pingpong};
use crate::mux::Opener;
use crate::stage::{self, Stage};

pub(super) async fn client(mut opener: impl Opener, limit: u64, stage: Stage) -> io::Result<()> {
    // The server takes the first stream for the ping-pong: one round trip makes sure that it is the first.
    let mut rally = opener.open().await?;
    pingpong::time_round_trips(&mut rally, 1, || {}).await?;

    let bulk = opener.open().await?;
    tokio::spawn(async move {
        if let Err(error) = one_way::pump(bulk, message(READ), limit).await {
            stage::report_failure("bulk stream", &error);
        }
    });
    stage.ready().await;
    pingpong::time_round_trips(&mut rally, limit, || {}).await
}
