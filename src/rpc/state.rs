//! What all parts of a server know: its sessions, its calls, and whether it shuts down.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use parking_lot::Mutex;

use crate::{
    Session,
    runtime::{BoxFuture, Runtime, Timer},
    wait::Waiters,
};

/// What a server has done, and is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Sessions served now.
    pub sessions: usize,
    /// Calls that run now.
    pub active: usize,
    /// Calls begun.
    pub started: u64,
    /// Of these, those answered with success.
    pub done: u64,
    /// Of these, those answered with a failure.
    pub failed: u64,
    /// Of these, those whose handler panicked.
    pub panicked: u64,
    /// Of these, those that the caller gave up or that their deadline ended.
    pub cancelled: u64,
    /// Calls refused because there were too many, or during shutdown.
    pub refused: u64,
}

impl ServerStats {
    pub(crate) fn to_json(self) -> String {
        let Self { sessions, active, started, done, failed, panicked, cancelled, refused } = self;
        format!(
            "{{\"sessions\":{sessions},\"active\":{active},\"started\":{started},\
             \"done\":{done},\"failed\":{failed},\"panicked\":{panicked},\
             \"cancelled\":{cancelled},\"refused\":{refused}}}"
        )
    }
}

/// What all parts of a server know.
pub(crate) struct ServerState {
    max_calls: usize,
    clock: Arc<dyn Timer>,
    active: AtomicUsize,
    draining: AtomicBool,
    started: AtomicU64,
    refused: AtomicU64,
    endings: [AtomicU64; 4],
    sessions: Mutex<HashMap<u64, Session>>,
    next_session: AtomicU64,
    /// Shutdown and listen wait for something here to change.
    waiting: Waiters,
}

/// How a call ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    Done,
    Failed,
    Panicked,
    Cancelled,
}

impl ServerState {
    pub(super) fn new(max_calls: usize, runtime: &Runtime) -> Self {
        Self {
            max_calls,
            clock: runtime.clock().clone(),
            active: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            started: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            endings: Default::default(),
            sessions: Mutex::default(),
            next_session: AtomicU64::new(0),
            waiting: Waiters::default(),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    pub(super) fn sleep_until(&self, at: Instant) -> BoxFuture {
        self.clock.sleep_until(at)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    pub(crate) fn stats(&self) -> ServerStats {
        let ended = |ending: Ending| self.endings[ending as usize].load(Ordering::Relaxed);
        ServerStats {
            sessions: self.sessions(),
            active: self.active(),
            started: self.started.load(Ordering::Relaxed),
            done: ended(Ending::Done),
            failed: ended(Ending::Failed),
            panicked: ended(Ending::Panicked),
            cancelled: ended(Ending::Cancelled),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    /// Calls that run.
    pub(super) fn active(&self) -> usize {
        self.active.load(Ordering::SeqCst)
    }

    /// Sessions that are served.
    pub(super) fn sessions(&self) -> usize {
        self.sessions.lock().len()
    }

    /// Whether one more call may run; if so, it has to [`end`](Self::end).
    pub(super) fn begin(&self) -> bool {
        // Counted before it looks: shutdown sees the call, or the call sees the shutdown.
        let active = self.active.fetch_add(1, Ordering::SeqCst);
        let welcome = active < self.max_calls && !self.is_draining();
        if welcome {
            self.started.fetch_add(1, Ordering::Relaxed);
        } else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            self.leave();
        }
        welcome
    }

    pub(super) fn end(&self, ending: Ending) {
        self.endings[ending as usize].fetch_add(1, Ordering::Relaxed);
        self.leave();
    }

    /// A call runs no more. Only who shuts down waits for the last.
    fn leave(&self) {
        if self.active.fetch_sub(1, Ordering::SeqCst) == 1 && self.is_draining() {
            self.notify();
        }
    }

    /// No more calls; the sessions to tell.
    pub(super) fn drain(&self) -> Vec<Session> {
        let sessions = {
            let sessions = self.sessions.lock();
            self.draining.store(true, Ordering::SeqCst);
            sessions.values().cloned().collect()
        };
        self.notify();
        sessions
    }

    pub(super) fn notify(&self) {
        self.waiting.wake();
    }

    /// Waits until something holds.
    pub(super) async fn changed(&self, holds: impl Fn(&Self) -> bool) {
        self.waiting.until(|| holds(self)).await;
    }
}

/// A session in the server's list.
pub(super) struct Listed {
    state: Arc<ServerState>,
    number: u64,
}

impl Listed {
    pub(super) fn new(state: &Arc<ServerState>, session: &Session) -> Option<Self> {
        let mut sessions = state.sessions.lock();
        if state.is_draining() {
            return None;
        }
        let number = state.next_session.fetch_add(1, Ordering::Relaxed);
        sessions.insert(number, session.clone());
        drop(sessions);
        Some(Self { state: state.clone(), number })
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let session = self.state.sessions.lock().remove(&self.number);
        drop(session);
        self.state.notify();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Wake, Waker},
    };

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn calls_that_are_refused_wake_nobody_but_who_waits_for_the_last() {
        let state = Arc::new(ServerState::new(1, &Runtime::new(drop)));
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(wakes.clone());
        let count = || wakes.0.load(Ordering::SeqCst);
        let mut idle = pin!(state.changed(|state| state.is_draining() && state.active() == 0));
        let mut look = || idle.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        assert!(!look());
        assert!(state.begin());
        assert!(!state.begin());
        assert_eq!(count(), 0, "refused because there are too many");
        state.drain();
        assert!(!look() && count() == 1);
        assert!(!state.begin());
        assert_eq!(count(), 1, "refused because of the shutdown, and not the last");
        state.end(Ending::Done);
        assert!(count() == 2 && look());
        let mut again = pin!(state.changed(|state| state.refused.load(Ordering::SeqCst) > 2));
        assert!(again.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        // It was counted for a moment: who looked then waits for it.
        assert!(!state.begin());
        assert_eq!(count(), 3);
    }
}
