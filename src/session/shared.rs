//! The core behind its lock, and who waits for it. Nothing else locks the core, and nobody is
//! woken while it is locked.

#[cfg(feature = "rpc")]
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::{
    collections::{HashMap, VecDeque},
    fmt, io,
    sync::{Arc, OnceLock},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use nohash_hasher::BuildNoHashHasher;

use super::lending::Lending;
use crate::{
    proto::{Core, Event, Slot, deadline::DeadlineQueue},
    runtime::Timer,
    sync::{Mutex, MutexGuard},
    wait::WaitList,
};

/// What the handles and the driver of one session share.
pub(crate) struct Shared {
    state: Mutex<State>,
    timer: Option<Arc<dyn Timer>>,
    io_error: OnceLock<Arc<io::Error>>,
    #[cfg(feature = "exchange")]
    messages: crate::recycle::Memory,
    /// When the session began, and how many nanoseconds later something arrived last.
    #[cfg(feature = "rpc")]
    begun: Instant,
    #[cfg(feature = "rpc")]
    arrived: AtomicU64,
}

impl Shared {
    pub(crate) fn new(core: Core, timer: Option<Arc<dyn Timer>>) -> Self {
        Self {
            #[cfg(feature = "rpc")]
            begun: core.start(),
            #[cfg(feature = "rpc")]
            arrived: Default::default(),
            state: Mutex::new(State::new(core)),
            timer,
            io_error: OnceLock::new(),
            #[cfg(feature = "exchange")]
            messages: crate::recycle::Memory::new(),
        }
    }

    /// Gives back memory that an idle session need not hold.
    pub(crate) fn shrink(&self) {
        #[cfg(feature = "exchange")]
        self.messages.shrink();
    }

    /// What large messages are put together in.
    #[cfg(feature = "exchange")]
    pub(crate) const fn message_memory(&self) -> &crate::recycle::Memory {
        &self.messages
    }

    /// The present. The clock may be the user's code: it is not read under the lock.
    pub(crate) fn now(&self) -> Instant {
        self.timer.as_ref().map_or_else(Instant::now, |timer| timer.now())
    }

    /// Something arrived.
    #[cfg(feature = "rpc")]
    pub(super) fn note_arrival(&self, now: Instant) {
        let after = now.saturating_duration_since(self.begun).as_nanos() as u64;
        self.arrived.store(after, Relaxed);
    }

    /// When something arrived last, on a session that has a timer: without a look at the clock.
    #[cfg(feature = "rpc")]
    pub(crate) fn arrived(&self) -> Option<Instant> {
        let after = Duration::from_nanos(self.arrived.load(Relaxed));
        self.timer.is_some().then(|| self.begun + after)
    }

    pub(crate) const fn timer(&self) -> Option<&Arc<dyn Timer>> {
        self.timer.as_ref()
    }

    /// The IO failed. What it said first counts.
    pub(super) fn note_failure(&self, cause: Option<io::Error>) {
        if let Some(cause) = cause {
            // A second failure follows from the first.
            let _ = self.io_error.set(Arc::new(cause));
        }
    }

    /// What the IO said when it failed.
    pub(super) fn io_error(&self) -> Option<Arc<io::Error>> {
        self.io_error.get().cloned()
    }

    /// Does something with the core, then wakes whom it concerns, in this order.
    #[inline]
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock();
        let result = act(&mut state);
        if !state.core.has_events() && !state.has_wakers {
            let driver = state.take_driver();
            drop(state);
            if let Some(driver) = driver {
                driver.wake();
            }
            return result;
        }
        self.wake(state);
        result
    }

    /// Wakes whom it concerns.
    #[inline(never)]
    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let mut wakes = Wakes::default();
        state.collect(&mut wakes);
        let released = state.take_released();
        drop(state);
        while wakes.wake_all() {
            self.state.lock().collect(&mut wakes);
        }
        drop(released);
        // All are taken out: a look into every place would be in vain.
        std::mem::forget(wakes);
    }

    /// Waits in `list` until `poll` is ready.
    pub(crate) async fn wait<R>(
        &self,
        list: List,
        mut poll: impl FnMut(&mut State) -> Option<R>,
    ) -> R {
        let mut ticket = self.ticket(list);
        std::future::poll_fn(|cx| ticket.poll(cx, &mut poll)).await
    }

    /// A place in `list`, once it is polled, until it is dropped.
    pub(crate) const fn ticket(&self, list: List) -> Ticket<'_> {
        Ticket {
            shared: self,
            list,
            key: None,
            #[cfg(feature = "exchange")]
            patient: false,
        }
    }

    /// One step of waiting, for a waiter that keeps its own key.
    pub(crate) fn poll_wait<R>(
        &self,
        list: List,
        key: &mut Option<u64>,
        cx: &Context<'_>,
        poll: impl FnOnce(&mut State) -> Option<R>,
    ) -> Poll<R> {
        self.with(|state| state.poll_wait(list, key, cx, poll))
    }

    /// A waiter gives up. If it was woken and did not use that, the next one is.
    #[inline]
    pub(crate) fn stop_waiting(&self, list: List, key: Option<u64>) {
        let Some(key) = key else { return };
        self.with(|state| match state.lists.get_mut(list).remove(key) {
            Some(waker) => state.let_go(Some(waker)),
            None => state.wake_next(list),
        });
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stats = self.state.lock().core.stats();
        f.debug_struct("Session").field("stats", &stats).finish_non_exhaustive()
    }
}

/// What the lock protects.
pub(crate) struct State {
    pub(crate) core: Core,
    streams: Vec<StreamWakers>,
    /// Present while the driver sleeps.
    driver: Option<Waker>,
    lists: Lists,
    /// Until when some of those wait who open a stream, by their places.
    patience: DeadlineQueue<u64>,
    /// By their values, which count up.
    pings: HashMap<u32, PingWait, BuildNoHashHasher<u32>>,
    /// There is something in the two below.
    has_wakers: bool,
    /// Wakers to be woken after the lock, in this order.
    due: VecDeque<Waker>,
    /// Wakers that nobody waits with any more, to be let go after the lock: the last owner of a task
    /// drops it, and with it perhaps a stream, which locks.
    released: Vec<Waker>,
    pub(super) lending: Lending,
}

impl State {
    fn new(core: Core) -> Self {
        Self {
            core,
            streams: Vec::new(),
            driver: None,
            lists: Lists::default(),
            patience: DeadlineQueue::new(),
            pings: HashMap::default(),
            has_wakers: false,
            due: VecDeque::new(),
            released: Vec::new(),
            lending: Lending::default(),
        }
    }

    /// Wakes `waker` once the lock is free.
    #[inline]
    fn wake(&mut self, waker: Option<Waker>) {
        if let Some(waker) = waker {
            self.has_wakers = true;
            self.due.push_back(waker);
        }
    }

    /// Drops `waker` once the lock is free. It is not woken: an executor that makes a waker for each
    /// poll would be asked to poll again by every poll.
    #[inline]
    fn let_go(&mut self, waker: Option<Waker>) {
        if let Some(waker) = waker {
            self.release(waker);
        }
    }

    /// Rare: one and the same task waits as a rule.
    #[cold]
    fn release(&mut self, waker: Waker) {
        self.has_wakers = true;
        self.released.push(waker);
    }

    #[inline]
    fn take_released(&mut self) -> Option<Vec<Waker>> {
        self.has_wakers = !self.due.is_empty();
        (!self.released.is_empty()).then(|| std::mem::take(&mut self.released))
    }

    /// Who reads `slot` waits.
    #[inline]
    pub(crate) fn wait_readable(&mut self, slot: Slot, cx: &Context<'_>) {
        let replaced = set(&mut self.wakers(slot).read, cx.waker());
        self.let_go(replaced);
    }

    /// Who writes `slot` waits.
    #[inline]
    pub(crate) fn wait_writable(&mut self, slot: Slot, cx: &Context<'_>) {
        let replaced = set(&mut self.wakers(slot).write, cx.waker());
        self.let_go(replaced);
    }

    /// With no stream there is nobody to wake.
    fn release_wakers(&mut self) {
        if self.streams.len() > KEEP && self.core.live_streams() == 0 {
            self.streams = Vec::new();
        }
    }

    /// Who waited to read `slot`; to be dropped after the lock.
    #[must_use]
    pub(super) fn take_reader(&mut self, slot: Slot) -> Option<Waker> {
        self.streams.get_mut(slot.index())?.read.take()
    }

    /// A handle is gone, and with it who could have waited.
    #[inline]
    pub(crate) fn forget_wakers(&mut self, slot: Slot, read: bool, write: bool) {
        let Some(wakers) = self.streams.get_mut(slot.index()) else { return };
        let reader = if read { wakers.read.take() } else { None };
        let writer = if write { wakers.write.take() } else { None };
        self.let_go(reader);
        self.let_go(writer);
    }

    /// The stream is over, but held: tasks may share it, and who still waits looks again. The event
    /// that was to wake it may be among those not taken yet, and is another stream's by then.
    #[inline]
    pub(crate) fn wake_waiting(&mut self, slot: Slot) {
        let Some(wakers) = self.streams.get_mut(slot.index()) else { return };
        let (reader, writer) = (wakers.read.take(), wakers.write.take());
        self.wake(reader);
        self.wake(writer);
    }

    /// The driver sleeps until someone has work for it.
    #[inline]
    pub(crate) fn driver_sleeps(&mut self, cx: &Context<'_>) {
        self.release_wakers();
        let replaced = set(&mut self.driver, cx.waker());
        self.let_go(replaced);
    }

    /// The driver is awake and will look for itself.
    #[inline]
    pub(crate) fn driver_runs(&mut self, cx: &Context<'_>) {
        let waker = self.driver.take();
        self.let_go(waker.filter(|waker| !waker.will_wake(cx.waker())));
    }

    /// Wakes the driver, if it sleeps.
    pub(super) fn wake_driver(&mut self) {
        let driver = self.driver.take();
        self.wake(driver);
    }

    /// The next moment at which [`handle_timeout`](Self::handle_timeout) has something to do.
    pub(super) fn poll_timeout(&mut self) -> Option<Instant> {
        self.core.poll_timeout().into_iter().chain(self.patience.next()).min()
    }

    /// Time passes. Openers who have waited long enough see for themselves that it is so.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.core.handle_timeout(now);
        while let Some(key) = self.patience.pop_due(now) {
            let waker = self.lists.open.get(key);
            self.wake(waker);
        }
    }

    /// Whoever has this place among the openers is woken at `at`.
    #[cfg(feature = "exchange")]
    fn wait_no_longer(&mut self, key: u64, at: Instant) {
        if self.patience.next().is_none_or(|next| at < next) {
            self.wake_driver();
        }
        self.patience.push(at, key);
    }

    /// One who would have been woken at some time waits no more.
    #[cfg(feature = "exchange")]
    fn waited_enough(&mut self) {
        self.patience.cancelled();
        let open = &self.lists.open;
        self.patience.sweep(|key| open.contains(key));
    }

    pub(crate) fn expect_pong(&mut self, value: u32) {
        self.pings.insert(value, PingWait::default());
    }

    /// The answer to a ping, once there is one; `None` inside means that it came too late.
    pub(crate) fn poll_pong(&mut self, value: u32, cx: &Context<'_>) -> Poll<Option<Duration>> {
        let Some(wait) = self.pings.get_mut(&value) else { return Poll::Ready(None) };
        if let Some(answer) = wait.answer {
            return Poll::Ready(answer);
        }
        let replaced = set(&mut wait.waker, cx.waker());
        self.let_go(replaced);
        Poll::Pending
    }

    pub(crate) fn forget_pong(&mut self, value: u32) {
        let waker = self.pings.remove(&value).and_then(|wait| wait.waker);
        self.let_go(waker);
        self.core.forget_ping(value);
        self.wake_one(List::Ping);
    }

    /// One step of waiting in a list.
    #[inline]
    fn poll_wait<R>(
        &mut self,
        list: List,
        key: &mut Option<u64>,
        cx: &Context<'_>,
        poll: impl FnOnce(&mut Self) -> Option<R>,
    ) -> Poll<R> {
        let found = if self.may_look(list, *key) { poll(self) } else { None };
        match found {
            Some(result) => {
                if let Some(key) = key.take() {
                    let waker = self.lists.get_mut(list).remove(key);
                    self.let_go(waker);
                }
                Poll::Ready(result)
            }
            None => {
                let replaced = self.lists.get_mut(list).register(key, cx.waker());
                self.let_go(replaced);
                if matches!(list, List::Open) {
                    self.core.expect_openers(true);
                }
                Poll::Pending
            }
        }
    }

    /// Streams are opened in turn: a newcomer who took the place that another was woken for would
    /// have that one wait for ever. Elsewhere whoever looks takes what there is.
    #[inline]
    fn may_look(&mut self, list: List, key: Option<u64>) -> bool {
        match list {
            List::Open => self.lists.open.may_look(key, || self.core.room_to_open()),
            List::Accept | List::Ping | List::End => true,
        }
    }

    /// One who was woken made no use of it.
    fn wake_next(&mut self, list: List) {
        match list {
            List::Open => {
                self.lists.open.decline();
                self.wake_openers();
            }
            List::Accept | List::Ping | List::End => self.wake_one(list),
        }
    }

    /// Lets as many openers look as there is room for: one by one they would fill one small batch
    /// each.
    pub(crate) fn wake_openers(&mut self) {
        if self.lists.open.is_empty() {
            return self.core.expect_openers(false);
        }
        let room = self.core.room_to_open();
        while self.lists.open.offered() < room
            && let Some(waker) = self.lists.open.pop()
        {
            self.wake(Some(waker));
        }
        self.core.expect_openers(!self.lists.open.is_empty());
    }

    /// Lets the next waiter of a list look again.
    pub(crate) fn wake_one(&mut self, list: List) {
        let waker = self.lists.get_mut(list).pop();
        self.wake(waker);
    }

    fn wakers(&mut self, slot: Slot) -> &mut StreamWakers {
        let index = slot.index();
        if index >= self.streams.len() {
            self.streams.resize_with(index + 1, StreamWakers::default);
        }
        &mut self.streams[index]
    }

    /// The driver, if it sleeps and has work. Awake it looks for itself before it sleeps.
    #[inline]
    fn take_driver(&mut self) -> Option<Waker> {
        if self.core.take_driver_wake() { self.driver.take() } else { None }
    }

    /// Takes wakers until `wakes` is full or there is no more news.
    fn collect(&mut self, wakes: &mut Wakes) {
        while !wakes.is_full() {
            let waker = if !self.due.is_empty() {
                self.due.pop_front()
            } else if let Some(event) = self.core.poll_event() {
                self.take_waker(event)
            } else {
                if let Some(driver) = self.take_driver() {
                    wakes.push(driver);
                }
                return;
            };
            if let Some(waker) = waker {
                wakes.push(waker);
            }
        }
    }

    fn take_waker(&mut self, event: Event) -> Option<Waker> {
        match event {
            Event::Readable(slot) => self.take_reader(slot),
            Event::Writable(slot) => self.streams.get_mut(slot.index())?.write.take(),
            Event::Acceptable => {
                self.wake_one(List::Accept);
                None
            }
            Event::Openable => {
                self.wake_openers();
                None
            }
            Event::Pong(value, answer) => {
                self.wake_one(List::Ping);
                let wait = self.pings.get_mut(&value)?;
                wait.answer = Some(answer);
                wait.waker.take()
            }
            Event::Ended => {
                self.wake_everyone();
                None
            }
        }
    }

    fn wake_everyone(&mut self) {
        for list in [List::Accept, List::Open, List::Ping, List::End] {
            let waiting = self.lists.get_mut(list).take();
            self.due.extend(waiting);
        }
        self.due.extend(self.pings.values_mut().filter_map(|wait| wait.waker.take()));
        for wakers in &mut self.streams {
            self.due.extend(wakers.read.take());
            self.due.extend(wakers.write.take());
        }
    }
}

/// Who waits for what, one waiter after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) enum List {
    Accept,
    Open,
    Ping,
    End,
}

#[derive(Default)]
struct Lists {
    accept: WaitList,
    open: WaitList,
    ping: WaitList,
    end: WaitList,
}

impl Lists {
    const fn get_mut(&mut self, list: List) -> &mut WaitList {
        match list {
            List::Accept => &mut self.accept,
            List::Open => &mut self.open,
            List::Ping => &mut self.ping,
            List::End => &mut self.end,
        }
    }
}

/// One who waits in a list.
pub(crate) struct Ticket<'a> {
    shared: &'a Shared,
    list: List,
    key: Option<u64>,
    /// Will be woken when its time is up.
    #[cfg(feature = "exchange")]
    patient: bool,
}

impl Ticket<'_> {
    pub(crate) fn poll<R>(
        &mut self,
        cx: &Context<'_>,
        poll: impl FnOnce(&mut State) -> Option<R>,
    ) -> Poll<R> {
        self.shared.poll_wait(self.list, &mut self.key, cx, poll)
    }

    /// The same among openers, but not beyond `at`: `None`. Needs a timer of the session's.
    #[cfg(feature = "exchange")]
    pub(crate) fn poll_until<R>(
        &mut self,
        cx: &Context<'_>,
        at: Option<Instant>,
        poll: impl FnOnce(&mut State) -> Option<R>,
    ) -> Poll<Option<R>> {
        let Self { shared, list, key, patient } = self;
        let was_patient = *patient;
        let polled = shared.with(|state| {
            // In no list, so that its deadline may have been swept.
            let woken = key.is_some_and(|key| !state.lists.open.contains(key));
            let polled = state.poll_wait(*list, key, cx, poll);
            if *patient && (woken || polled.is_ready()) {
                *patient = false;
                state.waited_enough();
            }
            if let (false, Some(at), Some(key)) = (*patient, at, *key) {
                *patient = true;
                state.wait_no_longer(key, at);
            }
            polled
        });
        match polled {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending if was_patient && at.is_some_and(|at| shared.now() >= at) => {
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(feature = "rpc")]
impl Ticket<'_> {
    /// Whether it has a place among those who wait.
    pub(crate) const fn waits(&self) -> bool {
        self.key.is_some()
    }
}

impl Drop for Ticket<'_> {
    #[inline]
    fn drop(&mut self) {
        self.shared.stop_waiting(self.list, self.key);
        #[cfg(feature = "exchange")]
        if self.patient {
            self.shared.with(State::waited_enough);
        }
    }
}

#[derive(Default)]
struct StreamWakers {
    read: Option<Waker>,
    write: Option<Waker>,
}

#[derive(Default)]
struct PingWait {
    waker: Option<Waker>,
    answer: Option<Option<Duration>>,
}

/// Keeps the newest waker. One of another task is handed back, to be let go after the lock: its
/// last owner drops the task, and with it perhaps a stream, which locks.
#[must_use]
fn set(slot: &mut Option<Waker>, waker: &Waker) -> Option<Waker> {
    match slot {
        Some(present) if present.will_wake(waker) => None,
        _ => slot.replace(waker.clone()),
    }
}

/// Waker slots that a session without streams keeps.
const KEEP: usize = 1_024;

/// A few wakers on the stack: no allocation between the lock and the wake.
#[derive(Default)]
struct Wakes {
    wakers: [Option<Waker>; 16],
    len: usize,
}

impl Wakes {
    const fn is_full(&self) -> bool {
        self.len == self.wakers.len()
    }

    fn push(&mut self, waker: Waker) {
        self.wakers[self.len] = Some(waker);
        self.len += 1;
    }

    /// Wakes them; returns whether there may be more.
    fn wake_all(&mut self) -> bool {
        let more = self.is_full();
        for waker in &mut self.wakers[..self.len] {
            if let Some(waker) = waker.take() {
                waker.wake();
            }
        }
        self.len = 0;
        more
    }
}
