//! The task of one session: messages both ways on its first stream, and everything else through
//! the dispatcher.

use std::{
    io,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{
    AsyncWriteExt,
    future::{Either, select},
};

use super::{
    Ack, Message, Peer,
    mailbox::Batch,
    panic::guarded,
    state::Live,
    store::Inner,
    wire::{Decoder, Frame},
};
use crate::{
    GoAwayCode, SessionError, StreamError,
    session::Dispatcher,
    stream::{ReadHalf, Stream, WriteHalf},
};

/// Serves a session until it ends, and then takes it out of the store.
pub(super) async fn run(inner: Arc<Inner>, live: Arc<Live>, generation: u64, stream: Stream) {
    let mut leaving = Leaving { inner: &inner, live: &live, generation, done: false };
    let mut dispatcher = Dispatcher::new(live.session.clone());
    let peer = Peer::new(inner.clone(), live.info.id.clone());
    inner.serve_sockets(&peer, &mut dispatcher);
    if let Some(serve) = &inner.serve
        && let Err(panic) = guarded(|| serve(&peer, &live.session, &mut dispatcher))
    {
        log::error!("{peer:?}: serving its session {panic}");
        return;
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
                if inner.left(&live, generation, Ok(())) {
                    inner.part(&live);
                }
                writing.await
            }
            Either::Left((Err(error), _)) => Err(error),
            Either::Right((Err(error), _)) => Err(error),
            // We have left the table, and are being closed: what still comes is for us.
            Either::Right((Ok(()), reading)) => reading.await,
        }
    };
    let broken = match select(pin!(messages), pin!(live.session.closed())).await {
        Either::Left((messages, _)) => messages.err(),
        Either::Right(_) => None,
    };
    if let Some(Broken::Rule) = broken {
        log::debug!("peer {}: what came breaks a rule", live.info.id);
        live.session.abort(GoAwayCode::PROTOCOL_ERROR);
    }
    let ended = live.session.closed().await;
    inner.left(&live, generation, ended);
    leaving.done = true;
}

/// A session whose task is over must not stay where it is with nobody to serve it.
struct Leaving<'a> {
    inner: &'a Inner,
    live: &'a Live,
    generation: u64,
    done: bool,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.live.session.abort(GoAwayCode::INTERNAL_ERROR);
            let ended = Err(SessionError::Aborted(GoAwayCode::INTERNAL_ERROR));
            self.inner.left(self.live, self.generation, ended);
        }
    }
}

enum Broken {
    /// The session ended, or is about to.
    Session,
    Rule,
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        match StreamError::of(&error) {
            Some(StreamError::Session(_)) => Self::Session,
            // The stream of messages alone is over, which no peer does.
            _ => Self::Rule,
        }
    }
}

async fn reading(inner: &Arc<Inner>, live: &Live, mut read: ReadHalf) -> Result<(), Broken> {
    let mut decoder = Decoder::new(inner.config.max_message);
    while let Some(chunk) = read.read_chunk(READ).await? {
        decoder.feed(&chunk);
        while let Some(frame) = decoder.next_frame().map_err(|_| Broken::Rule)? {
            take(inner, live, frame).await?;
        }
    }
    if decoder.is_partial() { Err(Broken::Rule) } else { Ok(()) }
}

async fn take(inner: &Arc<Inner>, live: &Live, frame: Frame) -> Result<(), Broken> {
    let id = &live.info.id;
    let (number, body) = match frame {
        Frame::Ack { number, error } => {
            inner.answered(id, number, error);
            return Ok(());
        }
        Frame::Message { number, body } => (number, body),
    };
    let ack = number.map(|number| Ack::new(inner, id.clone(), live.incarnation, number));
    let message = Message { from: id.clone(), body, ack };
    for (feed, filter) in inner.subscribers() {
        let wanted = guarded(|| filter(&message)).unwrap_or_else(|panic| {
            log::error!("peer {id}: a message is skipped whose filter {panic}");
            false
        });
        if !wanted {
            continue;
        }
        let mut message = message.clone();
        while let Err(back) = feed.offer(message) {
            message = back;
            feed.room().await;
        }
    }
    drop(message);
    if number.is_some() && inner.owes_too_much(id) { Err(Broken::Rule) } else { Ok(()) }
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

/// Polls for the next batch of a session; `None` when it has left the table and said everything.
pub(super) type NextBatch = Poll<Option<Batch>>;

/// Bytes taken at once.
const READ: usize = 64 << 10;
