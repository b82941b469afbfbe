//! Time, as the layers need it: a small trait, the default, and a clock for tests.

mod manual;

pub use manual::ManualTimer;

use std::{
    fmt,
    future::Future,
    pin::Pin,
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

    /// Completes at `at`, or a little later; at once if that has passed.
    fn sleep_until(&self, at: Instant) -> BoxFuture;
}

/// `futures-timer`: one helper thread per process, started at the first sleep.
#[derive(Debug)]
pub(crate) struct DefaultTimer;

impl Timer for DefaultTimer {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep_until(&self, at: Instant) -> BoxFuture {
        let wait = at.checked_duration_since(Instant::now()).unwrap_or(Duration::ZERO);
        Box::pin(futures_timer::Delay::new(wait))
    }
}
