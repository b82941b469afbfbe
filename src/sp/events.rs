//! What happens to the pipes of a socket, and those who follow it.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use super::{
    error::{DialError, HandshakeError, PipeError},
    pipe::Pipe,
};
use crate::{
    queue::{Feed, Overflow, Put, Queue},
    transport::Address,
};

/// What happens to the pipes of a socket.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PipeEvent {
    /// The handshake succeeded; whether the pipe is admitted is decided next.
    Attaching(Pipe),
    /// The pipe was admitted and is in use.
    Attached(Pipe),
    /// The pipe is gone, and why. Comes once for each pipe that was attaching.
    Detached(Pipe, PipeError),
    /// A connection that was accepted did not become a pipe.
    HandshakeFailed {
        /// The address of our listener.
        address: Address,
        /// The address of the peer, if the transport knows it.
        remote: Option<Address>,
        /// Why the handshake failed.
        error: HandshakeError,
    },
    /// A dialer in the background did not reach its peer; it will try again.
    DialFailed {
        /// The address it dials.
        address: Address,
        /// Why it failed.
        error: DialError,
    },
}

/// The events of a socket from the subscription on: a [`futures::Stream`] that ends with the
/// socket. Up to `event_queue` of them wait; beyond that the oldest are lost, and counted.
///
/// ```
/// use futures::StreamExt;
/// use trunkline::sp::{PipeEvent, RepSocket};
///
/// async fn watch(socket: &RepSocket) {
///     let mut events = socket.events();
///     while let Some(event) = events.next().await {
///         match event {
///             PipeEvent::Attached(pipe) => println!("{:?} came", pipe.remote_addr()),
///             PipeEvent::Detached(pipe, why) => println!("{:?} went: {why}", pipe.remote_addr()),
///             _ => {}
///         }
///     }
/// }
/// ```
#[must_use = "streams do nothing unless polled"]
pub struct PipeEvents {
    queue: Queue<PipeEvent>,
}

impl PipeEvents {
    /// How many events were lost because this subscriber was too slow.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.queue.lost()
    }

    /// The next event, if one is waiting.
    pub fn try_next(&mut self) -> Option<PipeEvent> {
        self.queue.try_next()
    }
}

impl futures::Stream for PipeEvents {
    type Item = PipeEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<PipeEvent>> {
        Pin::new(&mut self.queue).poll_next(cx)
    }
}

impl futures::stream::FusedStream for PipeEvents {
    fn is_terminated(&self) -> bool {
        self.queue.is_terminated()
    }
}

impl fmt::Debug for PipeEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeEvents").field("lost", &self.lost()).finish_non_exhaustive()
    }
}

/// What a socket has to tell, noted under its lock and told after it.
pub(crate) enum News {
    Event(PipeEvent),
    End,
}

/// Those who follow the events of a socket.
#[derive(Default)]
pub(crate) struct Subscribers {
    feeds: Vec<Feed<PipeEvent>>,
}

impl Subscribers {
    /// One more, and where it is fed.
    pub(crate) fn add(&mut self, limit: usize) -> (PipeEvents, Feed<PipeEvent>) {
        let (queue, feed) = Queue::new(limit, Overflow::DropOldest);
        self.feeds.retain(|feed| !feed.is_over());
        self.feeds.push(feed.clone());
        (PipeEvents { queue }, feed)
    }

    /// Tells everyone, in order. What is handed back runs the user's code when it is dropped.
    pub(crate) fn tell(&mut self, news: &[News]) -> Vec<Put<PipeEvent>> {
        self.feeds.retain(|feed| !feed.is_over());
        let each = news.iter().flat_map(|news| self.feeds.iter().map(move |feed| (news, feed)));
        each.map(|(news, feed)| match news {
            News::Event(event) => feed.put(event.clone()),
            News::End => feed.end(),
        })
        .collect()
    }
}
