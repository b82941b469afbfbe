//! The signals between a workload, which runs on the runtime, and the thread that measures it.

use std::fmt::Display;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use tokio::sync::Notify;

/// The workload's end of the signals.
pub struct Stage {
    events: Option<mpsc::Sender<Event>>,
    go: Arc<Notify>,
}

/// What a workload has to say.
#[derive(Debug)]
pub enum Event {
    /// The session stands; what follows may be measured.
    Ready,
    /// A figure only the workload knows.
    Note(&'static str, f64),
    /// All is done that was to be measured.
    Done,
}

/// The measuring thread's end of the signals.
pub struct Conductor {
    /// What the workload says.
    pub events: mpsc::Receiver<Event>,
    go: Arc<Notify>,
}

impl Stage {
    /// A stage somebody measures.
    pub fn measured() -> (Self, Conductor) {
        let (sender, events) = mpsc::channel();
        let go = Arc::new(Notify::new());
        (Self { events: Some(sender), go: go.clone() }, Conductor { events, go })
    }

    /// A stage nobody watches: the workload runs through.
    pub fn unattended() -> Self {
        Self { events: None, go: Arc::new(Notify::new()) }
    }

    /// Tells that the session stands, and waits to be let go.
    pub async fn ready(&self) {
        if self.say(Event::Ready) {
            self.go.notified().await;
        }
    }

    /// Tells that all is done, and waits, holding what the caller holds, for the process to end.
    pub async fn done(&self) {
        if self.say(Event::Done) {
            std::future::pending().await
        }
    }

    /// Passes on a figure.
    pub fn note(&self, key: &'static str, value: f64) {
        self.say(Event::Note(key, value));
    }

    fn say(&self, event: Event) -> bool {
        self.events.as_ref().is_some_and(|events| events.send(event).is_ok())
    }
}

impl Conductor {
    /// Lets the workload go.
    pub fn start(&self) {
        self.go.notify_one();
    }
}

/// From here on the processes go down: broken connections are no failure.
pub fn quit() {
    QUITTING.store(true, Ordering::SeqCst);
}

/// Ends the process with a message, unless it is ending anyway.
pub fn report_failure(what: &str, error: &dyn Display) {
    if !QUITTING.load(Ordering::SeqCst) {
        eprintln!("{what}: {error}");
        process::exit(1);
    }
}

static QUITTING: AtomicBool = AtomicBool::new(false);
