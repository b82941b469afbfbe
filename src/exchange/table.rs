//! The exchanges of one session and direction: who is there, until when, and who is told.

use std::{
    collections::HashMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
    task::{Context, Waker},
    time::Instant,
};

use futures::task::AtomicWaker;
use parking_lot::Mutex;

use super::ExchangeError;
use crate::{
    ResetCode,
    proto::deadline::DeadlineQueue,
    stream::Remote,
    wait::{Waiters, wake},
};

/// What happened to an exchange of a set; the number tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Event {
    /// It joined the set.
    Added(u64),
    /// It left the set, or expired in it. Comes exactly once for each exchange that was added.
    Removed(u64),
}

pub(crate) type Hook = Arc<dyn Fn(Event) + Send + Sync>;

/// What a set has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SetStats {
    /// Exchanges that joined.
    pub added: u64,
    /// Of these, those whose deadline passed while they were there.
    pub expired: u64,
    /// Exchanges turned away because the set was closed or full.
    pub turned_away: u64,
}

/// The exchanges of one direction of an [`ExchangeSet`](super::ExchangeSet). Cheap to clone.
#[derive(Clone)]
pub struct Exchanges {
    table: Arc<Table>,
}

impl Exchanges {
    pub(crate) fn new(limit: usize, hook: Option<Hook>) -> Self {
        let state = Mutex::new(State {
            next: 0,
            entries: HashMap::new(),
            live: 0,
            deadlines: DeadlineQueue::new(),
            closed: false,
            keeper: None,
            last_change: 0,
            stats: SetStats::default(),
        });
        Self { table: Arc::new(Table { state, limit, hook, drained: Waiters::default() }) }
    }

    /// How many exchanges there are; expired ones do not count.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.state.lock().live
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until every exchange is dropped, expired ones included, so that no handler holds one.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn drained(&self) {
        self.table.drained.until(|| self.table.state.lock().entries.is_empty()).await;
    }

    /// Ends all exchanges with an error, and lets no more in. An exchange that has failed already
    /// keeps its first error; what it received before can still be read.
    pub fn fail_all(&self, error: &ExchangeError) {
        let signals: Vec<_> = {
            let mut state = self.table.state.lock();
            state.closed = true;
            state.entries.values().map(|entry| entry.signal.clone()).collect()
        };
        for signal in signals {
            signal.fail(error.clone());
        }
    }

    /// Lets no more exchanges in; those that are there go on.
    pub fn close(&self) {
        self.table.state.lock().closed = true;
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> SetStats {
        self.table.state.lock().stats
    }

    pub(crate) fn join(&self) -> Result<Ticket, ExchangeError> {
        let signal = Arc::new(Signal::default());
        let number = {
            let mut state = self.table.state.lock();
            let refused = match state.closed {
                true => Some(ExchangeError::SetClosed),
                false if state.entries.len() >= self.table.limit => Some(ExchangeError::SetFull),
                false => None,
            };
            if let Some(error) = refused {
                state.stats.turned_away += 1;
                return Err(error);
            }
            state.next += 1;
            let number = state.next;
            state.stats.added += 1;
            state.live += 1;
            state.last_change += 1;
            let entry = Entry { signal: signal.clone(), deadline: None, live: true, remote: None };
            state.entries.insert(number, entry);
            number
        };
        self.table.tell(Event::Added(number));
        Ok(Ticket { table: self.table.clone(), signal, number })
    }

    /// Expires what is due; returns when the next one is, and registers to be woken when that
    /// changes.
    pub(crate) fn expire(&self, now: Instant, cx: &Context<'_>) -> Option<Instant> {
        let (due, next, replaced) = {
            let mut state = self.table.state.lock();
            let due = state.take_due(now);
            let replaced = state.keeper.replace(cx.waker().clone());
            (due, state.deadlines.next(), replaced)
        };
        drop(replaced);
        for (number, signal, remote) in due {
            signal.fail(ExchangeError::Timeout);
            if let Some(remote) = remote {
                remote.reset(ResetCode::EXPIRED);
            }
            self.table.tell(Event::Removed(number));
        }
        next
    }

    /// Counts joins and leaves: unchanged, and empty, means idle.
    pub(crate) fn activity(&self) -> (usize, u64) {
        let state = self.table.state.lock();
        (state.entries.len(), state.last_change)
    }
}

impl fmt::Debug for Exchanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchanges").field("len", &self.len()).finish_non_exhaustive()
    }
}

struct Table {
    state: Mutex<State>,
    limit: usize,
    hook: Option<Hook>,
    drained: Waiters,
}

impl Table {
    /// A panic of the hook's goes no further: who joins, leaves or keeps the time has more to do.
    fn tell(&self, event: Event) {
        let Some(hook) = &self.hook else { return };
        if catch_unwind(AssertUnwindSafe(|| hook(event))).is_err() {
            log::warn!("the hook of a set panicked at {event:?}");
        }
    }
}

struct State {
    next: u64,
    entries: HashMap<u64, Entry>,
    /// Entries that have not expired.
    live: usize,
    deadlines: DeadlineQueue<(u64, Instant)>,
    closed: bool,
    keeper: Option<Waker>,
    last_change: u64,
    stats: SetStats,
}

struct Entry {
    signal: Arc<Signal>,
    deadline: Option<Instant>,
    live: bool,
    /// To reset the stream of an exchange that nobody polls.
    remote: Option<Remote>,
}

impl State {
    /// Returns the keeper's waker if it sleeps too long for this.
    fn arm(&mut self, number: u64, at: Instant) -> Option<Waker> {
        let entry = self.entries.get_mut(&number)?;
        if entry.deadline == Some(at) {
            return None;
        }
        let sooner = self.deadlines.next().is_none_or(|next| at < next);
        if entry.deadline.replace(at).is_some() {
            self.deadlines.cancelled();
        }
        self.deadlines.push(at, (number, at));
        self.sweep();
        if sooner { self.keeper.take() } else { None }
    }

    fn take_due(&mut self, now: Instant) -> Vec<(u64, Arc<Signal>, Option<Remote>)> {
        let mut due = Vec::new();
        while let Some((number, at)) = self.deadlines.pop_due(now) {
            let Some(entry) = self.entries.get_mut(&number) else { continue };
            // A deadline that was moved has another place in the queue.
            if entry.live && entry.deadline == Some(at) {
                entry.live = false;
                self.live -= 1;
                self.stats.expired += 1;
                due.push((number, entry.signal.clone(), entry.remote.take()));
            }
        }
        due
    }

    fn sweep(&mut self) {
        let entries = &self.entries;
        self.deadlines
            .sweep(|(number, at)| entries.get(&number).is_some_and(|e| e.deadline == Some(at)));
    }

    /// Whether its leaving is news, and whether it was the last.
    fn leave(&mut self, number: u64) -> (bool, bool) {
        let Some(entry) = self.entries.remove(&number) else { return (false, false) };
        self.last_change += 1;
        if entry.live {
            self.live -= 1;
        }
        if entry.deadline.is_some() {
            self.deadlines.cancelled();
            self.sweep();
        }
        (entry.live, self.entries.is_empty())
    }
}

/// An exchange's place in its table; dropping it leaves.
pub(crate) struct Ticket {
    table: Arc<Table>,
    signal: Arc<Signal>,
    number: u64,
}

impl Ticket {
    pub(crate) fn set_deadline(&self, at: Instant) {
        let keeper = self.table.state.lock().arm(self.number, at);
        wake(keeper);
    }

    pub(crate) fn attach(&self, remote: Remote) {
        if let Some(entry) = self.table.state.lock().entries.get_mut(&self.number) {
            entry.remote = Some(remote);
        }
    }

    pub(crate) fn failure(&self) -> Option<ExchangeError> {
        self.signal.failure.get().cloned()
    }

    pub(crate) fn register_reader(&self, cx: &Context<'_>) {
        self.signal.reader.register(cx.waker());
    }

    pub(crate) fn register_writer(&self, cx: &Context<'_>) {
        self.signal.writer.register(cx.waker());
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let (news, last, keeper) = {
            let mut state = self.table.state.lock();
            let (news, last) = state.leave(self.number);
            // The idle time starts.
            (news, last, if last { state.keeper.take() } else { None })
        };
        if news {
            self.table.tell(Event::Removed(self.number));
        }
        if last {
            self.table.drained.wake();
        }
        wake(keeper);
    }
}

/// How the set reaches an exchange.
#[derive(Default)]
struct Signal {
    failure: OnceLock<ExchangeError>,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Signal {
    /// The first error wins.
    fn fail(&self, error: ExchangeError) {
        if self.failure.set(error).is_ok() {
            self.reader.wake();
            self.writer.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::runtime::{ManualTimer, Timer};

    #[test]
    fn a_deadline_that_moves_leaves_no_others_behind() {
        let start = ManualTimer::new().now();
        let exchanges = Exchanges::new(2, None);
        let moving = exchanges.join().unwrap();
        let other = exchanges.join().unwrap();
        other.set_deadline(start + Duration::from_secs(1));
        for n in 0..100_000 {
            moving.set_deadline(start + Duration::from_millis(2_000 + n));
            other.set_deadline(start + Duration::from_secs(1));
        }
        assert!(exchanges.table.state.lock().deadlines.len() < 300);
        let cx = Context::from_waker(Waker::noop());
        let next = exchanges.expire(start + Duration::from_millis(1_500), &cx);
        assert_eq!((exchanges.len(), other.failure()), (1, Some(ExchangeError::Timeout)));
        assert!(next.is_some_and(|at| at <= start + Duration::from_millis(102_000)));
        exchanges.expire(start + Duration::from_millis(101_998), &cx);
        assert_eq!((exchanges.len(), moving.failure()), (1, None));
        exchanges.expire(start + Duration::from_millis(101_999), &cx);
        assert_eq!((exchanges.len(), moving.failure()), (0, Some(ExchangeError::Timeout)));
        assert_eq!(exchanges.stats().expired, 2);
    }
}
