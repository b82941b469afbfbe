//! The core that is played against, and the time it is told.

use std::time::{Duration, Instant};

use trunkline::proto::Core;

use super::super::memory;

pub(super) struct Subject {
    pub(super) core: Core,
    /// Bytes that its calls allocated and did not free.
    pub(super) held: isize,
    pub(super) now: Instant,
    pub(super) timed: bool,
}

impl Subject {
    /// Every call of the core goes through here, so that what it holds is known.
    pub(super) fn on<R>(&mut self, work: impl FnOnce(&mut Core) -> R) -> R {
        let (result, change) = memory::change(|| work(&mut self.core));
        self.held += change;
        result
    }

    /// Lets time pass, from one thing that is due to the next.
    pub(super) fn advance(&mut self, by: Duration) {
        let until = self.now + by;
        for _ in 0..16 {
            let due = self.on(Core::poll_timeout);
            assert!(self.timed || due.is_none(), "a timeout without a timer");
            let Some(due) = due.filter(|due| *due <= until) else { break };
            self.now = self.now.max(due);
            let now = self.now;
            self.on(|core| core.handle_timeout(now));
        }
        self.now = until;
    }
}
