//! Bounded queues between a store or socket and those who listen to it.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
};

use crate::{sync::Mutex, wait::WaitList};

/// What happens when something comes for a subscriber whose queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// The oldest in the queue is lost, and counted.
    DropOldest,
    /// What comes is lost, and counted.
    DropNewest,
    /// Nothing is lost: the peer that it came from is not read until there is room.
    Wait,
}

/// What a subscriber reads from: a [`futures::Stream`] that ends with the store.
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Queue<T> {
    shared: Arc<Mutex<Items<T>>>,
}

#[derive(Debug)]
struct Items<T> {
    items: VecDeque<T>,
    limit: usize,
    overflow: Overflow,
    lost: u64,
    ended: bool,
    reader: Option<Waker>,
    room: WaitList,
}

/// The writing end, which does not keep the queue alive.
#[derive(Debug)]
pub(crate) struct Feed<T> {
    shared: Weak<Mutex<Items<T>>>,
}

impl<T> Clone for Feed<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<T> Queue<T> {
    pub(crate) fn new(limit: usize, overflow: Overflow) -> (Self, Feed<T>) {
        let shared = Arc::new(Mutex::new(Items {
            items: VecDeque::new(),
            limit: limit.max(1),
            overflow,
            lost: 0,
            ended: false,
            reader: None,
            room: WaitList::default(),
        }));
        let feed = Feed { shared: Arc::downgrade(&shared) };
        (Self { shared }, feed)
    }

    /// How many items were lost because the queue was full.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.lock().lost
    }

    /// The next item, if one is waiting.
    pub fn try_next(&mut self) -> Option<T> {
        let mut queue = self.shared.lock();
        let item = queue.items.pop_front();
        let waker = item.as_ref().and_then(|_| queue.room.pop());
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
        item
    }
}

impl<T> futures::Stream for Queue<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(item) = self.try_next() {
            return Poll::Ready(Some(item));
        }
        let waker = cx.waker().clone();
        let mut queue = self.shared.lock();
        if !queue.items.is_empty() {
            drop(queue);
            waker.wake();
            return Poll::Pending;
        }
        if queue.ended {
            return Poll::Ready(None);
        }
        let replaced = queue.reader.replace(waker);
        drop(queue);
        drop(replaced);
        Poll::Pending
    }
}

impl<T> futures::stream::FusedStream for Queue<T> {
    fn is_terminated(&self) -> bool {
        let queue = self.shared.lock();
        queue.ended && queue.items.is_empty()
    }
}

impl<T> Drop for Queue<T> {
    fn drop(&mut self) {
        let (waiting, items) = {
            let mut queue = self.shared.lock();
            queue.ended = true;
            (queue.room.take(), std::mem::take(&mut queue.items))
        };
        waiting.for_each(Waker::wake);
        drop(items);
    }
}

impl<T> Feed<T> {
    /// Whether nobody reads any more.
    pub(crate) fn is_over(&self) -> bool {
        self.shared.strong_count() == 0
    }

    /// Puts something in, unless there is no room and the queue says to wait: then it is given
    /// back. A full queue that does not wait loses something.
    pub(crate) fn offer(&self, item: T) -> Result<(), T> {
        let mut put = self.put(item);
        put.refused.take().map_or(Ok(()), Err)
    }

    /// As [`offer`](Self::offer), where the caller holds a lock: what comes of it is to be dropped
    /// after that.
    pub(crate) fn put(&self, item: T) -> Put<T> {
        let mut put = Put { refused: None, lost: None, reader: None, queue: None };
        let Some(shared) = self.shared.upgrade() else {
            put.lost = Some(item);
            return put;
        };
        let mut queue = shared.lock();
        let full = queue.items.len() >= queue.limit;
        if queue.ended {
            put.lost = Some(item);
        } else if full && queue.overflow == Overflow::Wait {
            put.refused = Some(item);
        } else if full && queue.overflow == Overflow::DropNewest {
            queue.lost += 1;
            put.lost = Some(item);
        } else {
            if full {
                queue.lost += 1;
                put.lost = queue.items.pop_front();
            }
            queue.items.push_back(item);
            put.reader = queue.reader.take();
        }
        drop(queue);
        put.queue = Some(shared);
        put
    }

    /// Waits until [`offer`](Self::offer) is worth another try.
    pub(crate) async fn room(&self) {
        let mut place = Place { feed: self, key: None };
        std::future::poll_fn(|cx| place.poll(cx)).await;
    }

    /// No more will come. What is returned is as from [`put`](Self::put).
    pub(crate) fn end(&self) -> Put<T> {
        let mut put = Put { refused: None, lost: None, reader: None, queue: None };
        if let Some(shared) = self.shared.upgrade() {
            let mut queue = shared.lock();
            queue.ended = true;
            put.reader = queue.reader.take();
            drop(queue);
            put.queue = Some(shared);
        }
        put
    }
}

/// What came of putting something in: dropped outside of every lock, for it wakes the reader and
/// lets go of what was lost.
#[must_use]
pub(crate) struct Put<T> {
    refused: Option<T>,
    lost: Option<T>,
    reader: Option<Waker>,
    queue: Option<Arc<Mutex<Items<T>>>>,
}

impl<T> Drop for Put<T> {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

/// A place among those who wait for room.
struct Place<'a, T> {
    feed: &'a Feed<T>,
    key: Option<u64>,
}

impl<T> Place<'_, T> {
    fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        let Some(shared) = self.feed.shared.upgrade() else { return Poll::Ready(()) };
        let mut queue = shared.lock();
        if queue.ended || queue.items.len() < queue.limit {
            return Poll::Ready(());
        }
        let replaced = queue.room.register(&mut self.key, cx.waker());
        drop(queue);
        drop(replaced);
        Poll::Pending
    }
}

impl<T> Drop for Place<'_, T> {
    fn drop(&mut self) {
        let Some(shared) = self.feed.shared.upgrade() else { return };
        let Some(key) = self.key else { return };
        let mut queue = shared.lock();
        // Whoever was woken and goes away leaves the room to the next.
        let (mine, next) = match queue.room.remove(key) {
            Some(waker) => (Some(waker), None),
            None if queue.items.len() < queue.limit => (None, queue.room.pop()),
            None => (None, None),
        };
        drop(queue);
        drop(mine);
        if let Some(next) = next {
            next.wake();
        }
    }
}
