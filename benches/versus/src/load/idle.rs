//! Streams that are used once and then left alone.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::open_close;
use crate::mux::{Opener, Pipe};
use crate::stage::Stage;

pub(super) async fn client<O: Opener>(
    mut opener: O,
    streams: usize,
    stage: Stage,
) -> io::Result<()> {
    let sample = sample(streams);
    open_close::call_in_turn(&mut opener, sample).await?;
    stage.ready().await;

    let mut kept = Vec::with_capacity(streams);
    let first = open_some(&mut opener, &mut kept, sample).await?;
    open_some(&mut opener, &mut kept, streams - 2 * sample).await?;
    let last = open_some(&mut opener, &mut kept, sample).await?;

    stage.note("streams", streams as f64);
    stage.note("open_first_us", micros_each(first, sample));
    stage.note("open_last_us", micros_each(last, sample));
    stage.done().await;
    drop(kept);
    Ok(())
}

/// Opens `count` streams one after the other, uses each once, and tells how long it took.
async fn open_some<O: Opener>(
    opener: &mut O,
    kept: &mut Vec<O::Stream>,
    count: usize,
) -> io::Result<Duration> {
    let start = Instant::now();
    for _ in 0..count {
        let mut pipe = opener.open().await?;
        pipe.send(&BYTE).await?;
        pipe.recv_exact(&mut [0; 1]).await?;
        kept.push(pipe);
    }
    Ok(start.elapsed())
}

/// Where the server keeps the streams. A task for each would be the harness's memory, not the contestant's.
pub(super) struct Shelf<P> {
    streams: usize,
    kept: Arc<Mutex<Vec<P>>>,
}

impl<P: Pipe> Shelf<P> {
    /// A shelf for so many streams; it takes memory with the first.
    pub(super) fn of(streams: usize) -> Self {
        Self { streams, kept: Arc::default() }
    }

    /// Answers one byte with one byte and keeps the stream.
    async fn answer_and_keep(self, mut pipe: P) -> io::Result<()> {
        pipe.recv_exact(&mut [0; 1]).await?;
        pipe.send(&BYTE).await?;
        self.put(pipe);
        Ok(())
    }

    fn put(&self, pipe: P) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.capacity() == 0 {
            kept.reserve_exact(self.streams);
        }
        kept.push(pipe);
    }
}

impl<P> Clone for Shelf<P> {
    fn clone(&self) -> Self {
        Self { streams: self.streams, kept: self.kept.clone() }
    }
}

/// Serves the stream that is the `index`th of the session: the first are there to warm up and are closed again, so
/// that caches and tables have their size before anything is measured.
pub(super) async fn serve<P: Pipe>(pipe: P, index: usize, shelf: Shelf<P>) -> io::Result<()> {
    match index < sample(shelf.streams) {
        true => open_close::answer(pipe).await,
        false => shelf.answer_and_keep(pipe).await,
    }
}

/// How many openings are timed at either end.
fn sample(streams: usize) -> usize {
    (streams / 4).clamp(1, 1_000)
}

fn micros_each(total: Duration, count: usize) -> f64 {
    total.as_secs_f64() * 1e6 / count as f64
}

static BYTE: Bytes = Bytes::from_static(&[1]);
