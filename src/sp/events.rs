//! What happens to the pipes of a socket, and those who follow it.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
};

use super::{
    error::{DialError, HandshakeError, PipeError},
    pipe::Pipe,
};
use crate::{sync::Mutex, transport::Address};

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
    queue: Arc<Mutex<EventQueue>>,
}

struct EventQueue {
    events: VecDeque<PipeEvent>,
    limit: usize,
    lost: u64,
    ended: bool,
    waker: Option<Waker>,
}

impl PipeEvents {
    /// How many events were lost because this subscriber was too slow.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.queue.lock().lost
    }

    /// The next event, if one is waiting.
    pub fn try_next(&mut self) -> Option<PipeEvent> {
        self.queue.lock().events.pop_front()
    }
}

impl futures::Stream for PipeEvents {
    type Item = PipeEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<PipeEvent>> {
        let waker = cx.waker().clone();
        let mut queue = self.queue.lock();
        if let Some(event) = queue.events.pop_front() {
            return Poll::Ready(Some(event));
        }
        if queue.ended {
            return Poll::Ready(None);
        }
        let replaced = queue.waker.replace(waker);
        drop(queue);
        drop(replaced);
        Poll::Pending
    }
}

impl futures::stream::FusedStream for PipeEvents {
    fn is_terminated(&self) -> bool {
        let queue = self.queue.lock();
        queue.ended && queue.events.is_empty()
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
    queues: Vec<Weak<Mutex<EventQueue>>>,
}

impl Subscribers {
    /// One more; `ended`: there is nothing to follow any more.
    pub(crate) fn add(&mut self, limit: usize, ended: bool) -> PipeEvents {
        let queue = EventQueue { events: VecDeque::new(), limit, lost: 0, ended, waker: None };
        let queue = Arc::new(Mutex::new(queue));
        self.queues.retain(|queue| queue.strong_count() > 0);
        self.queues.push(Arc::downgrade(&queue));
        PipeEvents { queue }
    }

    /// Tells everyone, in order. What is handed back runs the user's code when it is used.
    pub(crate) fn tell(&mut self, news: &[News]) -> Told {
        let mut told = Told::default();
        self.queues.retain(|queue| {
            let Some(queue) = queue.upgrade() else { return false };
            queue.lock().take_in(news, &mut told);
            told.queues.push(queue);
            true
        });
        told
    }
}

impl EventQueue {
    fn take_in(&mut self, news: &[News], told: &mut Told) {
        for news in news {
            match news {
                News::Event(event) => {
                    if self.events.len() >= self.limit {
                        told.lost.extend(self.events.pop_front());
                        self.lost += 1;
                    }
                    self.events.push_back(event.clone());
                }
                News::End => self.ended = true,
            }
        }
        told.wakers.extend(self.waker.take());
    }
}

/// Whom to wake and what to let go, after every lock.
#[derive(Default)]
#[must_use]
pub(crate) struct Told {
    wakers: Vec<Waker>,
    lost: Vec<PipeEvent>,
    /// Their subscribers may have gone meanwhile.
    queues: Vec<Arc<Mutex<EventQueue>>>,
}

impl Told {
    pub(crate) fn wake(self) {
        self.wakers.into_iter().for_each(Waker::wake);
    }
}
