//! The task of one session: messages both ways on its first stream, and everything else through
//! the dispatcher.

use std::{
    io,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{
    AsyncWriteExt, FutureExt,
    future::{Either, select},
};

use super::{
    Ack, Message, Peer,
    mailbox::Batch,
    store::{Inner, Live},
    wire::{Decoder, Frame},
};
use crate::{
    GoAwayCode,
    session::Dispatcher,
    stream::{ReadHalf, Stream, WriteHalf},
};

/// Serves a session until it ends, and then takes it out of the store.
pub(super) async fn run(inner: Arc<Inner>, live: Arc<Live>, generation: u64, stream: Stream) {
    let mut dispatcher = Dispatcher::new(live.session.clone());
    let peer = Peer::new(inner.clone(), live.info.id.clone());
    inner.serve_sockets(&peer, &mut dispatcher);
    if let Some(serve) = &inner.serve {
        serve(&peer, &live.session, &mut dispatcher);
    }
    drop(peer);
    inner.runtime.spawn(dispatcher.run());
    let (read, write) = stream.into_split();
    let messages = async {
        let reading = pin!(reading(&inner, &live, read));
        let writing = pin!(writing(&inner, &live, generation, write));
        match select(reading, writing).await {
            // The other side sends no more: it is about to close, and so are we.
            Either::Left((Ok(()), writing)) => {
                inner.left(&live, generation, Ok(()));
                writing.await
            }
            Either::Left((Err(error), _)) => Err(error),
            Either::Right((Err(error), _)) => Err(error),
            // Another session has taken our place: what still comes is for us.
            Either::Right((Ok(()), reading)) => reading.await,
        }
    };
    let first = match select(pin!(messages), pin!(live.session.closed())).await {
        Either::Left((messages, _)) => Some(messages),
        Either::Right(_) => None,
    };
    let ended = match first {
        Some(Ok(())) => live.session.closed().now_or_never().unwrap_or(Ok(())),
        Some(Err(Broken::Malformed)) => {
            log::debug!("peer {}: what came is no message", live.info.id);
            live.session.abort(GoAwayCode::PROTOCOL_ERROR);
            live.session.closed().await
        }
        Some(Err(Broken::Io)) | None => live.session.closed().await,
    };
    inner.left(&live, generation, ended);
    inner.close_session(&live.session).await;
}

enum Broken {
    Io,
    Malformed,
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Self::Io
    }
}

async fn reading(inner: &Arc<Inner>, live: &Live, mut read: ReadHalf) -> Result<(), Broken> {
    let mut decoder = Decoder::new(inner.config.max_message);
    while let Some(chunk) = read.read_chunk(READ).await? {
        decoder.feed(&chunk);
        while let Some(frame) = decoder.next().map_err(|_| Broken::Malformed)? {
            take(inner, live, frame).await?;
        }
    }
    if decoder.is_partial() { Err(Broken::Malformed) } else { Ok(()) }
}

async fn take(inner: &Arc<Inner>, live: &Live, frame: Frame) -> Result<(), Broken> {
    let id = &live.info.id;
    match frame {
        Frame::Ack { number, error } => inner.answered(id, number, error),
        Frame::Message { number, body } => {
            let ack = number.map(|number| Ack::new(inner, id.clone(), number));
            let message = Message { from: id.clone(), body, ack };
            for (feed, filter) in inner.subscribers() {
                if !filter(&message) {
                    continue;
                }
                let mut message = message.clone();
                while let Err(back) = feed.offer(message) {
                    message = back;
                    feed.room().await;
                }
            }
        }
    }
    if inner.owes_too_much(id) { Err(Broken::Malformed) } else { Ok(()) }
}

async fn writing(
    inner: &Inner,
    live: &Arc<Live>,
    generation: u64,
    mut write: WriteHalf,
) -> Result<(), Broken> {
    loop {
        let next = |cx: &mut Context<'_>| inner.next_batch(live, generation, cx);
        let Some(Batch { frames, told }) = std::future::poll_fn(next).await else {
            write.close().await?;
            return Ok(());
        };
        for frame in frames {
            write.write_all(&frame.head()).await?;
            if let Frame::Message { mut body, .. } = frame {
                write.write_chunk(&mut body).await?;
            }
        }
        write.flush().await?;
        for told in told {
            // Nobody may wait for it.
            let _ = told.send(Ok(()));
        }
    }
}

/// Polls for the next batch of a session; `None` when another has taken its place.
pub(super) type NextBatch = Poll<Option<Batch>>;

/// Bytes taken at once.
const READ: usize = 64 << 10;
