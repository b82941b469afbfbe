//! Tasks in one thread, on a clock that stands still until it is told to move.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

use trunkline::runtime::{BoxFuture, ManualTimer, Runtime, Timer};

pub(crate) struct Turns {
    tasks: Vec<(BoxFuture, Arc<Woken>)>,
    spawned: Arc<Mutex<Vec<BoxFuture>>>,
    timer: Arc<ManualTimer>,
}

impl Turns {
    pub(crate) fn new() -> Self {
        let timer = Arc::new(ManualTimer::new());
        Self { tasks: Vec::new(), spawned: Arc::default(), timer }
    }

    pub(crate) fn timer(&self) -> Arc<ManualTimer> {
        self.timer.clone()
    }

    pub(crate) fn runtime(&self) -> Runtime {
        let spawned = self.spawned.clone();
        let spawn = move |task| spawned.lock().expect("nothing panics with the lock").push(task);
        Runtime::new(spawn).timer(self.timer.clone())
    }

    /// Polls whatever is woken, until nothing is.
    pub(crate) fn settle(&mut self) {
        for _ in 0..MAX_ROUNDS {
            let spawned = std::mem::take(&mut *self.spawned.lock().expect("as above"));
            self.tasks.extend(spawned.into_iter().map(|task| (task, Arc::default())));
            let mut idle = true;
            self.tasks.retain_mut(|(task, woken)| {
                if woken.asleep.swap(true, Ordering::Relaxed) {
                    return true;
                }
                idle = false;
                let waker = Waker::from(woken.clone());
                task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending()
            });
            if idle && self.spawned.lock().expect("as above").is_empty() {
                return;
            }
        }
        panic!("something is busy without end");
    }

    /// Lets time pass, with everything that is due on the way.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.timer.now() + time;
        self.settle();
        while let Some(due) = self.timer.next_due().filter(|due| *due < end) {
            self.timer.advance(due.saturating_duration_since(self.timer.now()));
            self.settle();
        }
        self.timer.advance(end.saturating_duration_since(self.timer.now()));
        self.settle();
    }
}

const MAX_ROUNDS: usize = 100_000;

#[derive(Default)]
struct Woken {
    asleep: AtomicBool,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.asleep.store(false, Ordering::Relaxed);
    }
}
