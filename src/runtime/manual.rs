//! A clock that stands still until it is told to move.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{BoxFuture, Timer};

/// Virtual time for tests: nothing sleeps, [`advance`](Self::advance) makes time pass.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use trunkline::runtime::{ManualTimer, Timer};
///
/// let timer = Arc::new(ManualTimer::new());
/// let before = timer.now();
/// timer.advance(Duration::from_secs(3600));
/// assert_eq!(timer.now() - before, Duration::from_secs(3600));
/// ```
#[derive(Clone)]
pub struct ManualTimer {
    clock: Arc<Mutex<Clock>>,
}

impl ManualTimer {
    /// A clock that shows some moment and stays there.
    #[must_use]
    pub fn new() -> Self {
        let clock = Clock { now: Instant::now(), next_key: 0, sleepers: BTreeMap::new() };
        Self { clock: Arc::new(Mutex::new(clock)) }
    }

    /// Moves the clock forward and wakes every sleep that is due.
    pub fn advance(&self, by: Duration) {
        let due = {
            let mut clock = self.clock.lock();
            clock.now += by;
            let later = (clock.now + Duration::from_nanos(1), 0);
            let pending = clock.sleepers.split_off(&later);
            std::mem::replace(&mut clock.sleepers, pending)
        };
        due.into_values().for_each(Waker::wake);
    }

    /// When the next sleep is due, if anyone sleeps.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.clock.lock().sleepers.keys().next().map(|(at, _)| *at)
    }
}

impl Default for ManualTimer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ManualTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManualTimer").field("sleepers", &self.clock.lock().sleepers.len()).finish()
    }
}

impl Timer for ManualTimer {
    fn now(&self) -> Instant {
        self.clock.lock().now
    }

    fn sleep_until(&self, at: Instant) -> BoxFuture {
        Box::pin(ManualSleep { clock: self.clock.clone(), at, key: None })
    }
}

struct Clock {
    now: Instant,
    next_key: u64,
    sleepers: BTreeMap<(Instant, u64), Waker>,
}

struct ManualSleep {
    clock: Arc<Mutex<Clock>>,
    at: Instant,
    key: Option<u64>,
}

impl Future for ManualSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let mut clock = this.clock.lock();
        if clock.now >= this.at {
            return Poll::Ready(());
        }
        let key = *this.key.get_or_insert_with(|| {
            clock.next_key += 1;
            clock.next_key
        });
        let replaced = clock.sleepers.insert((this.at, key), cx.waker().clone());
        drop(clock);
        // The last owner of a task drops it, and with it perhaps another sleep.
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for ManualSleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let waker = self.clock.lock().sleepers.remove(&(self.at, key));
            drop(waker);
        }
    }
}
