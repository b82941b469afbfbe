//! The state of a socket behind its lock, and its clock. Nothing else locks the state, and nobody
//! is woken, told or dropped while it is locked.

use std::{
    fmt,
    future::poll_fn,
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
    time::Instant,
};

use super::{
    endpoint::Endpoint,
    error::{EndpointError, PipeError},
    events::{News, PipeEvent, PipeEvents, Subscribers},
    link::Link,
    options::Options,
    pattern::{Base, Pattern, Wakes},
    pipe::{Origin, Owner, Pipe},
};
use crate::{
    runtime::{BoxFuture, Runtime},
    sync::Mutex,
    transport::{Connection, Transports},
};

/// What the handles and tasks of one socket share.
pub(crate) struct Shared<P: Pattern> {
    state: Mutex<State<P>>,
    /// Locked before the state, never after it.
    subscribers: Mutex<Subscribers>,
    pub(crate) runtime: Runtime,
    pub(crate) transports: Transports,
    me: Weak<Self>,
}

/// What the lock protects.
pub(crate) struct State<P: Pattern> {
    pub(crate) pattern: P,
    pub(crate) base: Base<P>,
    endpoints: Vec<Weak<Endpoint>>,
    next_endpoint: u64,
    /// The task that sleeps until the next deadline; `None` until there is one.
    sleeper: Option<Sleeper>,
    /// When closing stops waiting; `None` once it did.
    linger_until: Option<Instant>,
    closers: Vec<Waker>,
}

/// Until when the clock's task sleeps, and how to wake it before.
struct Sleeper {
    until: Option<Instant>,
    waker: Option<Waker>,
}

impl<P: Pattern> Shared<P> {
    pub(crate) fn new(
        pattern: P,
        runtime: Runtime,
        transports: Transports,
        options: Options,
    ) -> Arc<Self> {
        let state = State {
            pattern,
            base: Base::new(runtime.now(), options),
            endpoints: Vec::new(),
            next_endpoint: 0,
            sleeper: None,
            linger_until: None,
            closers: Vec::new(),
        };
        Arc::new_cyclic(|me| Self {
            state: Mutex::new(state),
            subscribers: Mutex::default(),
            runtime,
            transports,
            me: me.clone(),
        })
    }

    /// Does something with the pattern, then wakes whom it concerns, in this order.
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut P, &mut Base<P>) -> R) -> R {
        self.lock(&mut Wakes::default(), |state| act(&mut state.pattern, &mut state.base))
    }

    /// The same, with a list of wakes that keeps its memory.
    pub(crate) fn lock<R>(&self, wakes: &mut Wakes, act: impl FnOnce(&mut State<P>) -> R) -> R {
        let now = self.runtime.now();
        let mut state = self.state.lock();
        state.base.now = now;
        std::mem::swap(&mut state.base.wakes, wakes);
        let result = act(&mut state);
        let start_clock = state.set_alarm();
        let has_news = !state.base.news.is_empty();
        std::mem::swap(&mut state.base.wakes, wakes);
        drop(state);
        if has_news {
            self.tell();
        }
        wakes.fire();
        if start_clock && let Some(shared) = self.me.upgrade() {
            self.runtime.spawn(clock(shared));
        }
        result
    }

    /// Tells the subscribers what was noted under the lock: in order, as one thread at a time takes
    /// what there is.
    fn tell(&self) {
        let mut subscribers = self.subscribers.lock();
        let news = std::mem::take(&mut self.state.lock().base.news);
        if news.is_empty() {
            return;
        }
        let told = subscribers.tell(&news);
        drop(subscribers);
        for news in &news {
            if let News::Event(event) = news {
                log::debug!("{event:?}");
            }
        }
        drop(told);
    }

    /// Follows the events from now on.
    pub(crate) fn subscribe(&self) -> PipeEvents {
        self.tell();
        let mut subscribers = self.subscribers.lock();
        let state = self.state.lock();
        let (events, feed) = subscribers.add(state.base.options.event_queue());
        if state.is_over() {
            // Nobody waits for it yet.
            drop(feed.end());
        }
        events
    }

    /// Makes a pipe of a connection after its handshake, if socket, user and pattern agree.
    pub(crate) fn attach(
        &self,
        connection: Connection,
        origin: Origin,
        endpoint: &Endpoint,
    ) -> Result<Link<P>, PipeError> {
        let Connection { io, local, remote, framing, .. } = connection;
        let options = endpoint.options();
        let owner: Weak<dyn Owner> = self.me.clone();
        let pipe = self.with(|_, base| {
            if base.closing || endpoint.is_closed() {
                return Err(PipeError::Closed);
            }
            if base.pipes.len() >= base.options.max_pipes() {
                base.stats.rejected += 1;
                return Err(PipeError::TooManyPipes);
            }
            let from = (endpoint.address().clone(), origin);
            let id = base.pipes.next_id();
            let pipe = Pipe::new(id, from, (local, remote), options.clone(), owner);
            base.pipes.insert(pipe.clone(), framing);
            base.emit(PipeEvent::Attaching(pipe.clone()));
            Ok(pipe)
        })?;
        // From here on the link sees to it that the pipe is removed.
        let shared = self.me.upgrade().ok_or(PipeError::Closed)?;
        let mut link = Link::new(shared, pipe.clone(), io, framing);
        // The task that dials or listens goes on, whatever becomes of this connection.
        let admitted = catch_unwind(AssertUnwindSafe(|| options.admits(&pipe))).unwrap_or(false);
        let result = self.with(|pattern, base| {
            let stop = base.pipes.get(pipe.id()).and_then(|entry| entry.stop);
            if let Some(error) = stop.or_else(|| base.closing.then_some(PipeError::Closed)) {
                return Err(error);
            }
            if !admitted || !pattern.add_pipe(base, pipe.id()) {
                base.stats.rejected += 1;
                return Err(PipeError::Rejected);
            }
            base.pipes.attach(pipe.id());
            base.stats.attached += 1;
            base.emit(PipeEvent::Attached(pipe.clone()));
            pattern.handle_room(base, pipe.id());
            Ok(())
        });
        match result {
            Ok(()) => Ok(link),
            Err(error) => {
                link.end(error);
                Err(error)
            }
        }
    }

    /// Forgets a pipe whose connection was closed.
    pub(crate) fn detach(&self, pipe: &Pipe, error: PipeError) {
        let removed = self.lock(&mut Wakes::default(), |state| {
            let entry = state.base.pipes.remove(pipe.id())?;
            state.base.wakes.let_go(entry.waker);
            if entry.attached {
                state.pattern.remove_pipe(&mut state.base, pipe.id(), entry.data);
            }
            state.base.emit(PipeEvent::Detached(pipe.clone(), error));
            state.finish_close();
            Some(entry.outbox)
        });
        drop(removed);
    }

    /// Closes the pipes of one dialer or listener.
    pub(crate) fn close_pipes(&self, origin: Origin) {
        self.with(|_, base| {
            let Base { pipes, wakes, .. } = base;
            for entry in pipes.iter_mut().filter(|entry| entry.pipe.origin() == origin) {
                entry.stop.get_or_insert(PipeError::Closed);
                wakes.wake(entry.waker.take());
            }
        });
    }

    /// Takes note of a dialer or listener, so that closing reaches it.
    pub(crate) fn add_endpoint(
        &self,
        make: impl FnOnce(u64) -> Arc<Endpoint>,
    ) -> Result<Arc<Endpoint>, EndpointError> {
        self.lock(&mut Wakes::default(), |state| {
            if state.base.closing {
                return Err(EndpointError::Closed);
            }
            state.next_endpoint += 1;
            let endpoint = make(state.next_endpoint);
            state.endpoints.retain(|endpoint| endpoint.strong_count() > 0);
            state.endpoints.push(Arc::downgrade(&endpoint));
            Ok(endpoint)
        })
    }

    /// Begins to close: nothing new, and what was sent has until the linger time to leave.
    pub(crate) fn start_close(&self) {
        let endpoints = self.lock(&mut Wakes::default(), |state| {
            if state.base.closing {
                return Vec::new();
            }
            state.base.closing = true;
            state.linger_until = Some(state.base.now + state.base.options.linger());
            state.pattern.close(&mut state.base);
            let Base { pipes, wakes, .. } = &mut state.base;
            pipes.iter_mut().for_each(|entry| wakes.wake(entry.waker.take()));
            state.finish_close();
            std::mem::take(&mut state.endpoints)
        });
        endpoints.iter().filter_map(Weak::upgrade).for_each(|endpoint| endpoint.close());
    }

    /// Whether the socket is closed and every pipe gone.
    pub(crate) fn poll_closed(&self, cx: &Context<'_>) -> Poll<()> {
        self.lock(&mut Wakes::default(), |state| {
            if state.is_over() {
                return Poll::Ready(());
            }
            // Each caller of close once, however often it polls.
            if !state.closers.iter().any(|waker| waker.will_wake(cx.waker())) {
                state.closers.push(cx.waker().clone());
            }
            Poll::Pending
        })
    }
}

impl<P: Pattern> Owner for Shared<P> {
    fn close_pipe(&self, pipe: &Pipe) {
        self.with(|_, base| {
            let Some(entry) = base.pipes.find(pipe) else { return };
            entry.stop.get_or_insert(PipeError::Closed);
            let waker = entry.waker.take();
            base.wakes.wake(waker);
        });
    }
}

impl<P: Pattern> fmt::Debug for Shared<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pipes = self.state.lock().base.pipes.len();
        f.debug_struct("Socket").field("speaks", &P::INFO).field("pipes", &pipes).finish()
    }
}

impl<P: Pattern> State<P> {
    fn is_over(&self) -> bool {
        self.base.closing && self.base.pipes.len() == 0
    }

    fn finish_close(&mut self) {
        if !self.is_over() {
            return;
        }
        self.linger_until = None;
        self.base.deadlines.clear();
        self.base.news.push(News::End);
        self.closers.drain(..).for_each(|waker| self.base.wakes.wake(Some(waker)));
        if let Some(sleeper) = &mut self.sleeper {
            self.base.wakes.wake(sleeper.waker.take());
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let due = self.base.deadlines.next();
        due.into_iter().chain(self.linger_until).min()
    }

    /// Sees to it that the clock's task wakes in time; whether there has to be one first.
    fn set_alarm(&mut self) -> bool {
        let Some(next) = self.next_deadline() else { return false };
        let Some(sleeper) = &mut self.sleeper else {
            self.sleeper = Some(Sleeper { until: Some(next), waker: None });
            return true;
        };
        if sleeper.until.is_none_or(|until| next < until) {
            sleeper.until = Some(next);
            self.base.wakes.wake(sleeper.waker.take());
        }
        false
    }

    /// Runs what is due; until when to sleep then, or that it is all over.
    fn tick(&mut self, cx: &Context<'_>) -> ControlFlow<(), Option<Instant>> {
        let now = self.base.now;
        while let Some(due) = self.base.deadlines.pop_due(now) {
            self.pattern.handle_timeout(&mut self.base, due);
        }
        if self.linger_until.is_some_and(|until| until <= now) {
            self.linger_until = None;
            let Base { pipes, wakes, .. } = &mut self.base;
            for entry in pipes.iter_mut() {
                entry.stop.get_or_insert(PipeError::Closed);
                wakes.wake(entry.waker.take());
            }
        }
        if self.is_over() {
            return ControlFlow::Break(());
        }
        let next = self.next_deadline();
        if let Some(sleeper) = &mut self.sleeper {
            sleeper.until = next;
            self.base.wakes.register(&mut sleeper.waker, cx);
        }
        ControlFlow::Continue(next)
    }
}

/// The one task of a socket that sleeps.
async fn clock<P: Pattern>(shared: Arc<Shared<P>>) {
    let mut sleep: Option<(Instant, BoxFuture)> = None;
    let mut wakes = Wakes::default();
    poll_fn(|cx| {
        loop {
            let next = match shared.lock(&mut wakes, |state| state.tick(cx)) {
                ControlFlow::Break(()) => return Poll::Ready(()),
                ControlFlow::Continue(Some(next)) => next,
                ControlFlow::Continue(None) => {
                    sleep = None;
                    return Poll::Pending;
                }
            };
            let (at, mut sleeping) = match sleep.take() {
                Some((at, sleeping)) if at == next => (at, sleeping),
                _ => (next, shared.runtime.sleep_until(next)),
            };
            if sleeping.as_mut().poll(cx).is_pending() {
                sleep = Some((at, sleeping));
                return Poll::Pending;
            }
        }
    })
    .await;
}
