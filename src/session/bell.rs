//! Who rang: the IO, or a sleep.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
};

use futures::task::AtomicWaker;

/// Wakes the driver, wherever that runs by then, and notes what for: what did not ring need not be
/// polled again. A poll in vain is a system call where the runtime tries before it asks.
pub(super) struct Bell {
    ring: Arc<Ring>,
    waker: Waker,
}

struct Ring {
    rang: AtomicBool,
    driver: Arc<AtomicWaker>,
}

impl Bell {
    /// A bell for whoever is registered in `driver`.
    pub(super) fn new(driver: &Arc<AtomicWaker>) -> Self {
        let ring = Arc::new(Ring { rang: AtomicBool::new(false), driver: driver.clone() });
        Self { waker: Waker::from(ring.clone()), ring }
    }

    /// What to poll with.
    pub(super) const fn context(&self) -> Context<'_> {
        Context::from_waker(&self.waker)
    }

    /// Whether it rang since this was asked last.
    pub(super) fn rang(&self) -> bool {
        self.ring.rang.load(Ordering::Relaxed) && self.ring.rang.swap(false, Ordering::AcqRel)
    }
}

impl Wake for Ring {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rang.store(true, Ordering::Release);
        self.driver.wake();
    }
}
