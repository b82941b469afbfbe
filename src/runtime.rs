//! Time and tasks, as the layers need them: two small traits, the defaults, and a clock for tests.

mod manual;

pub use manual::ManualTimer;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

/// A boxed future that can move between threads.
pub type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send + 'static>>;

/// A clock and the sleeps that go with it.
///
/// [`Config::timer`](crate::ConfigBuilder::timer) takes one. A runtime's own timer needs a few
/// lines:
///
/// ```
/// use std::time::Instant;
/// use trunkline::runtime::{BoxFuture, Timer};
///
/// #[derive(Debug)]
/// struct TokioTimer;
///
/// impl Timer for TokioTimer {
///     fn now(&self) -> Instant {
///         tokio::time::Instant::now().into_std()
///     }
///     fn sleep_until(&self, at: Instant) -> BoxFuture {
///         Box::pin(tokio::time::sleep_until(at.into()))
///     }
/// }
/// ```
pub trait Timer: fmt::Debug + Send + Sync + 'static {
    /// The present.
    fn now(&self) -> Instant;

    /// Completes at `at` or a little later, and at once if that has passed. Dropping the future
    /// cancels the sleep.
    fn sleep_until(&self, at: Instant) -> BoxFuture;
}

/// Starts tasks. Any closure that takes a [`BoxFuture`] does.
pub trait Spawn: Send + Sync + 'static {
    /// Runs `task` to its end, beside everything else. Must not block.
    fn spawn(&self, task: BoxFuture);
}

impl<F> Spawn for F
where
    F: Fn(BoxFuture) + Send + Sync + 'static,
{
    fn spawn(&self, task: BoxFuture) {
        self(task);
    }
}

/// What the layers above a session run on: tasks, and a clock. Cheap to clone.
///
/// ```
/// use trunkline::runtime::Runtime;
///
/// let runtime = Runtime::new(|task| smol::spawn(task).detach());
/// ```
#[derive(Clone)]
pub struct Runtime {
    spawn: Arc<dyn Spawn>,
    timer: Arc<dyn Timer>,
}

impl Runtime {
    /// A runtime that starts tasks with `spawn`, on the default clock of [`Config`](crate::Config).
    pub fn new(spawn: impl Spawn) -> Self {
        Self { spawn: Arc::new(spawn), timer: Arc::new(ThreadTimer) }
    }

    /// The same runtime with another clock.
    #[must_use]
    pub fn timer(self, timer: Arc<dyn Timer>) -> Self {
        Self { timer, ..self }
    }

    /// Starts a task.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn.spawn(Box::pin(task));
    }

    /// Starts a task that is boxed already.
    pub fn spawn_boxed(&self, task: BoxFuture) {
        self.spawn.spawn(task);
    }

    /// The present.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.timer.now()
    }

    /// So long after the present.
    #[cfg(any(feature = "sp", feature = "rpc", feature = "peers"))]
    pub(crate) fn after(&self, time: Duration) -> Instant {
        after(self.now(), time)
    }

    /// Completes at `at` or a little later, and at once if that has passed. Dropping the future
    /// cancels the sleep.
    #[must_use]
    pub fn sleep_until(&self, at: Instant) -> BoxFuture {
        self.timer.sleep_until(at)
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Timer> {
        &self.timer
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("timer", &self.timer).finish_non_exhaustive()
    }
}

/// The clock of the system, and sleeps on one thread for the whole process (`futures-timer`), which
/// starts with the first of them. The default of [`Config`](crate::Config), whatever the runtime.
///
/// Sessions of `trunkline::tokio` use tokio's clock instead, unless they are given this one. Where
/// nothing else in a tokio runtime sleeps, this one makes a short round trip a tenth faster: a session
/// always has a sleep armed, and with one of its own tokio looks at its clock in every turn.
///
/// ```
/// use std::sync::Arc;
/// use trunkline::{Config, runtime::ThreadTimer};
///
/// # fn main() -> Result<(), trunkline::ConfigError> {
/// let config = Config::builder().timer(Arc::new(ThreadTimer)).build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadTimer;

impl Timer for ThreadTimer {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep_until(&self, at: Instant) -> BoxFuture {
        let wait = at.checked_duration_since(Instant::now()).unwrap_or(Duration::ZERO);
        Box::pin(futures_timer::Delay::new(wait))
    }
}

/// Waits for `future`, but not beyond `at` if there is such a deadline: `None` then. A sleep is made
/// only if the future is not ready at once.
#[cfg(any(feature = "sp", feature = "rpc", feature = "peers"))]
pub(crate) async fn within<F: Future>(
    future: F,
    at: impl Into<Option<Instant>>,
    clock: &Arc<dyn Timer>,
) -> Option<F::Output> {
    use std::task::{Poll, ready};

    let at = at.into();
    let mut future = std::pin::pin!(future);
    let mut sleep = None;
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        let Some(at) = at else { return Poll::Pending };
        let sleep = sleep.get_or_insert_with(|| clock.sleep_until(at));
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(None)
    })
    .await
}

/// So long after `now`; a time that no clock can hold is cut to decades.
#[cfg(any(feature = "exchange", feature = "sp"))]
pub(crate) fn after(now: Instant, time: Duration) -> Instant {
    now + time.min(FOREVER)
}

/// Longer than any session, and short enough for every platform's clock.
pub(crate) const FOREVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
