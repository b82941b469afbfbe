//! What all sockets have in common: pipes, time, events. A pattern decides what goes where.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{
    channel::mpsc,
    future::{AbortHandle, Either, select},
};

use super::{Pipe, PipeError, PipeId, Protocol, RequestError, SocketConfig, pipe::Header};
use crate::{
    chance::Chance,
    proto::deadline::DeadlineQueue,
    runtime::{BoxFuture, Runtime},
    sync::Mutex,
    wait::WaitList,
};

/// What makes a socket of one kind differ from another. It is told of every pipe once when it
/// comes and once when it is gone.
pub(super) trait Pattern: Send + 'static {
    const OURS: Protocol;
    const THEIRS: Protocol;

    fn add_pipe(&mut self, base: &mut Base, pipe: PipeId);

    fn remove_pipe(&mut self, base: &mut Base, pipe: PipeId);

    /// The queue of a pipe has room again.
    fn writable(&mut self, base: &mut Base, pipe: PipeId);

    fn received(&mut self, base: &mut Base, pipe: PipeId, message: Bytes);

    /// Whether more of a pipe is wanted; if not, the pipe is woken later.
    fn wants(&self, pipe: PipeId) -> bool;

    /// A moment that was set with [`Base::set_deadline`] has come.
    fn expired(&mut self, base: &mut Base, of: u32);

    /// Whether a deadline still means something.
    fn is_live(&self, of: u32) -> bool;

    /// The socket closes: everyone who waits is to be told.
    fn close(&mut self, base: &mut Base);
}

/// A socket's insides, shared by its handles and its tasks.
pub(super) struct Hub<P> {
    state: Mutex<State<P>>,
    pub(super) runtime: Runtime,
    pub(super) config: Arc<SocketConfig>,
}

struct State<P> {
    base: Base,
    pattern: P,
}

impl<P: Pattern> Hub<P> {
    pub(super) fn new(runtime: Runtime, config: SocketConfig, pattern: P) -> Arc<Self> {
        let config = Arc::new(config);
        let now = runtime.now();
        let base = Base::new(config.clone(), now);
        Arc::new(Self { state: Mutex::new(State { base, pattern }), runtime, config })
    }

    /// Does something under the lock, then wakes whom it concerns.
    pub(super) fn with<R>(self: &Arc<Self>, act: impl FnOnce(&mut P, &mut Base) -> R) -> R {
        let now = self.runtime.now();
        let mut state = self.state.lock();
        let State { base, pattern } = &mut *state;
        base.now = now;
        let result = act(pattern, base);
        let wakes = std::mem::take(&mut base.wakes);
        let clock = std::mem::take(&mut base.start_clock);
        drop(state);
        if clock {
            let hub = Arc::downgrade(self);
            self.runtime.spawn(run_clock(hub));
        }
        wakes.into_iter().for_each(Waker::wake);
        result
    }

    /// Waits at most `limit`, if there is one.
    pub(super) async fn limited<T>(
        &self,
        limit: Option<Duration>,
        attempt: impl Future<Output = Result<T, RequestError>>,
    ) -> Result<T, RequestError> {
        match limit {
            None => attempt.await,
            Some(limit) => {
                self.within(limit, pin!(attempt)).await.unwrap_or(Err(RequestError::TimedOut))
            }
        }
    }

    /// Waits at most `limit` for `attempt`.
    pub(super) async fn within<T>(
        &self,
        limit: Duration,
        attempt: impl Future<Output = T> + Unpin,
    ) -> Option<T> {
        let at = self.runtime.now() + limit;
        match select(attempt, self.runtime.sleep_until(at)).await {
            Either::Left((result, _)) => Some(result),
            Either::Right(_) => None,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().base.closed
    }

    /// `spec.md §13.5.6`: no new pipes; what was sent is written, as far as `linger` allows.
    pub(super) async fn close(self: &Arc<Self>) {
        self.with(|pattern, base| {
            if !std::mem::replace(&mut base.closed, true) {
                pattern.close(base);
                base.endpoints.drain().for_each(|(_, task)| task.abort());
                base.wakes.extend(base.clock.take());
            }
        });
        let written = poll_fn(|cx| {
            self.with(|_, base| {
                if base.pipes.values().all(Entry::is_written) {
                    return Poll::Ready(());
                }
                base.closing = Some(cx.waker().clone());
                Poll::Pending
            })
        });
        self.within(self.config.linger, written).await;
        self.with(|_, base| base.close_all());
    }

    /// The last handle is gone: as [`close`](Self::close), with nobody to wait for it.
    pub(super) fn abandon(self: &Arc<Self>) {
        if !self.is_closed() {
            let hub = self.clone();
            self.runtime.spawn(async move { hub.close().await });
        }
    }

    pub(super) fn counters(&self) -> Counters {
        let base = &self.state.lock().base;
        Counters { pipes: base.pipes.len(), ..base.counters }
    }
}

/// A socket, whatever its pattern, as its pipes know it.
pub(super) trait AnyHub: Send + Sync {
    fn close_pipe(self: Arc<Self>, pipe: PipeId);
}

impl<P: Pattern> AnyHub for Hub<P> {
    fn close_pipe(self: Arc<Self>, pipe: PipeId) {
        self.with(|_, base| {
            if let Some(entry) = base.pipes.get_mut(&pipe) {
                entry.close = true;
                base.wakes.extend(entry.task.take());
            }
        });
    }
}

/// The part of a socket that patterns work on.
pub(super) struct Base {
    pub(super) config: Arc<SocketConfig>,
    /// The present, as of the lock.
    pub(super) now: Instant,
    pub(super) wakes: Vec<Waker>,
    pub(super) counters: Counters,
    pub(super) closed: bool,
    pub(super) chance: Chance,
    pipes: HashMap<PipeId, Entry>,
    next_pipe: u32,
    deadlines: DeadlineQueue<u32>,
    /// The task that minds the deadlines, while it sleeps.
    clock: Option<Waker>,
    clock_runs: bool,
    start_clock: bool,
    sleeps_until: Option<Instant>,
    /// A close that waits for what is still to be written.
    closing: Option<Waker>,
    listeners: Vec<mpsc::Sender<PipeEvent>>,
    pub(super) endpoints: HashMap<u64, AbortHandle>,
    pub(super) next_endpoint: u64,
}

/// A pipe, as the socket sees it.
struct Entry {
    pipe: Pipe,
    queue: VecDeque<(Header, Bytes)>,
    /// Whether the task has taken what it has not written yet.
    writing: bool,
    close: bool,
    task: Option<Waker>,
    room: WaitList,
}

impl Entry {
    fn is_written(&self) -> bool {
        self.queue.is_empty() && !self.writing
    }
}

impl Base {
    fn new(config: Arc<SocketConfig>, now: Instant) -> Self {
        let mut chance = Chance::new(config.seed);
        Self {
            now,
            wakes: Vec::new(),
            counters: Counters::default(),
            closed: false,
            pipes: HashMap::new(),
            next_pipe: chance.next() as u32,
            deadlines: DeadlineQueue::new(),
            clock: None,
            clock_runs: false,
            start_clock: false,
            sleeps_until: None,
            closing: None,
            listeners: Vec::new(),
            endpoints: HashMap::new(),
            next_endpoint: 0,
            chance,
            config,
        }
    }

    /// `spec.md §13.5.1`: 31 bits, never 0, never one in use.
    pub(super) fn next_pipe_id(&mut self) -> PipeId {
        loop {
            self.next_pipe = self.next_pipe.wrapping_add(1) & (u32::MAX >> 1);
            let id = PipeId(self.next_pipe);
            if id.0 != 0 && !self.pipes.contains_key(&id) {
                return id;
            }
        }
    }

    pub(super) fn insert(&mut self, pipe: Pipe) {
        let entry = Entry {
            pipe: pipe.clone(),
            queue: VecDeque::new(),
            writing: false,
            close: false,
            task: None,
            room: WaitList::default(),
        };
        self.pipes.insert(pipe.id(), entry);
    }

    pub(super) fn remove(&mut self, id: PipeId) {
        if let Some(mut entry) = self.pipes.remove(&id) {
            self.wakes.extend(entry.room.take());
            self.wakes.extend(self.closing.take());
        }
    }

    pub(super) fn has_pipes(&self) -> bool {
        !self.pipes.is_empty()
    }

    /// Whether a pipe takes another message.
    pub(super) fn has_room(&self, id: PipeId) -> bool {
        self.pipes.get(&id).is_some_and(|entry| entry.queue.len() < self.config.send_queue.max(1))
    }

    pub(super) fn is_pipe(&self, id: PipeId) -> bool {
        self.pipes.contains_key(&id)
    }

    pub(super) fn pipe(&self, id: PipeId) -> Option<&Pipe> {
        self.pipes.get(&id).map(|entry| &entry.pipe)
    }

    /// Hands a message to a pipe that has room.
    pub(super) fn enqueue(&mut self, id: PipeId, header: Header, body: Bytes) {
        if let Some(entry) = self.pipes.get_mut(&id) {
            entry.queue.push_back((header, body));
            self.wakes.extend(entry.task.take());
        }
    }

    /// More of this pipe is wanted.
    pub(super) fn resume(&mut self, id: PipeId) {
        self.wakes.extend(self.pipes.get_mut(&id).and_then(|entry| entry.task.take()));
    }

    /// Waits until a pipe has room.
    pub(super) fn wait_for_room(&mut self, id: PipeId, key: &mut Option<u64>, waker: &Waker) {
        if let Some(entry) = self.pipes.get_mut(&id) {
            self.wakes.extend(entry.room.register(key, waker));
        }
    }

    /// Waits no more; whoever is next gets the chance.
    pub(super) fn leave_line(&mut self, id: PipeId, key: Option<u64>) {
        if let (Some(key), Some(entry)) = (key, self.pipes.get_mut(&id))
            && entry.room.remove(key).is_none()
        {
            self.wakes.extend(entry.room.pop());
        }
    }

    /// The task of a pipe is to be woken when there is something for it.
    pub(super) fn attend(&mut self, id: PipeId, waker: &Waker) {
        if let Some(entry) = self.pipes.get_mut(&id)
            && !entry.task.as_ref().is_some_and(|task| task.will_wake(waker))
        {
            entry.task = Some(waker.clone());
        }
    }

    /// For the task of a pipe: moves what is to be written into `batch`. False if it is to end.
    pub(super) fn take_queue(
        &mut self,
        id: PipeId,
        batch: &mut VecDeque<(Header, Bytes)>,
        waker: &Waker,
    ) -> bool {
        self.attend(id, waker);
        let Some(entry) = self.pipes.get_mut(&id).filter(|entry| !entry.close) else {
            return false;
        };
        std::mem::swap(&mut entry.queue, batch);
        entry.writing = !batch.is_empty();
        if entry.writing {
            self.wakes.extend(entry.room.take());
        } else if self.closed {
            self.wakes.extend(self.closing.take());
        }
        true
    }

    fn close_all(&mut self) {
        for entry in self.pipes.values_mut() {
            entry.close = true;
            self.wakes.extend(entry.task.take());
        }
    }

    pub(super) fn set_deadline(&mut self, at: Instant, of: u32) {
        self.deadlines.push(at, of);
        if self.sleeps_until.is_none_or(|until| at < until) {
            self.wakes.extend(self.clock.take());
        }
        if !std::mem::replace(&mut self.clock_runs, true) {
            self.start_clock = true;
        }
    }

    /// A deadline means nothing any more.
    pub(super) const fn forget_deadline(&mut self) {
        self.deadlines.cancelled();
    }

    pub(super) fn tell(&mut self, event: &PipeEvent) {
        self.listeners.retain_mut(|listener| match listener.try_send(event.clone()) {
            Ok(()) => true,
            Err(error) => {
                self.counters.events_dropped += 1;
                !error.is_disconnected()
            }
        });
    }

    pub(super) fn events(&mut self) -> mpsc::Receiver<PipeEvent> {
        let (sender, receiver) = mpsc::channel(EVENTS);
        self.listeners.push(sender);
        receiver
    }
}

/// Events that wait for whoever asked for them; more are dropped and counted.
const EVENTS: usize = 256;

/// Minds the deadlines of one socket, until it closes or is gone.
async fn run_clock<P: Pattern>(hub: Weak<Hub<P>>) {
    let mut sleep: Option<(Instant, BoxFuture)> = None;
    poll_fn(|cx| {
        loop {
            let Some(hub) = hub.upgrade() else { return Poll::Ready(()) };
            let Some(next) = hub.with(|pattern, base| look_at_clock(pattern, base, cx)) else {
                return Poll::Ready(());
            };
            let Some(next) = next else {
                sleep = None;
                return Poll::Pending;
            };
            if sleep.as_ref().is_none_or(|(at, _)| *at != next) {
                sleep = Some((next, hub.runtime.sleep_until(next)));
            }
            if let Some((_, asleep)) = &mut sleep
                && Pin::new(asleep).poll(cx).is_pending()
            {
                return Poll::Pending;
            }
            sleep = None;
        }
    })
    .await;
}

/// What is due is done; the rest tells when to look again. `None`: never.
fn look_at_clock<P: Pattern>(
    pattern: &mut P,
    base: &mut Base,
    cx: &Context<'_>,
) -> Option<Option<Instant>> {
    if base.closed {
        return None;
    }
    while let Some(of) = base.deadlines.pop_due(base.now) {
        if pattern.is_live(of) {
            pattern.expired(base, of);
        }
    }
    base.deadlines.sweep(|of| pattern.is_live(of));
    base.sleeps_until = base.deadlines.next();
    base.clock = Some(cx.waker().clone());
    Some(base.sleeps_until)
}

/// What becomes of pipes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PipeEvent {
    /// A peer is connected and may be used.
    Attached(Pipe),
    /// A peer that was attached is gone.
    Detached(Pipe, PipeError),
    /// A connection never became a pipe.
    Refused {
        /// The other end, as its transport names it.
        remote: String,
        /// Which rule it broke.
        error: PipeError,
    },
}

/// What a socket has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Pipes that are attached now.
    pub pipes: usize,
    /// Messages sent, repetitions included.
    pub sent: u64,
    /// Messages received.
    pub received: u64,
    /// Messages received that made no sense or answered nothing.
    pub dropped: u64,
    /// Requests sent again.
    pub resent: u64,
    /// Best-effort replies that found the queue of their peer full.
    pub replies_dropped: u64,
    /// Connections that never became pipes.
    pub refused: u64,
    /// Events nobody took in time.
    pub events_dropped: u64,
}

impl<P> fmt::Debug for Hub<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = &self.state.lock().base;
        f.debug_struct("Socket").field("counters", &base.counters).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // spec.md §13.5.1
    #[test]
    fn pipe_ids_are_31_bits_and_wrap_around_zero_and_those_in_use() {
        let mut base = Base::new(Arc::new(SocketConfig::default()), Instant::now());
        base.next_pipe = (u32::MAX >> 1) - 1;
        assert_eq!(base.next_pipe_id(), PipeId(u32::MAX >> 1));
        assert_eq!(base.next_pipe_id(), PipeId(1));
        base.insert(Pipe::for_tests(PipeId(2)));
        assert_eq!(base.next_pipe_id(), PipeId(3));
    }
}
