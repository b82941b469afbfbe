//! Making a call again, where that cannot do harm.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{Calls, Code, Request, Retryable, Status, message::Outcome};
use crate::{Backoff, runtime::Runtime};

/// What is known when a further attempt, or the first, is about to be made.
#[derive(Debug)]
pub struct Attempt<'a> {
    /// How many attempts have been made so far.
    pub made: u32,
    /// The call.
    pub request: &'a Request,
    /// How the last attempt failed; `None` before the first.
    pub error: Option<&'a Status>,
}

/// Decides whether a failed call is made again. Any closure that takes an [`Attempt`] does.
///
/// It is asked only where another attempt can do no harm: the call reached no handler
/// ([`Retryable::Always`]), or it is idempotent and another attempt may succeed
/// ([`Retryable::IfIdempotent`]); and only while there are retries and time left.
///
/// ```
/// # use trunkline::{Config, Session};
/// use trunkline::rpc::{Attempt, Client, Code};
///
/// # fn of(client: Client) -> Client {
/// client.retry_policy(|attempt: &Attempt<'_>| {
///     attempt.error.is_some_and(|error| error.code() == Code::Unavailable)
/// })
/// # }
/// ```
pub trait RetryPolicy: Send + Sync + 'static {
    /// Whether to make the call again.
    fn retry(&self, attempt: &Attempt<'_>) -> bool;
}

impl<F> RetryPolicy for F
where
    F: Fn(&Attempt<'_>) -> bool + Send + Sync + 'static,
{
    fn retry(&self, attempt: &Attempt<'_>) -> bool {
        self(attempt)
    }
}

/// Decides how long to wait before each attempt, the first one included. Any closure that takes an
/// [`Attempt`] does.
pub trait Wait: Send + Sync + 'static {
    /// How long to wait; no longer than until the deadline is waited.
    fn wait(&self, attempt: &Attempt<'_>) -> Duration;
}

impl<F> Wait for F
where
    F: Fn(&Attempt<'_>) -> Duration + Send + Sync + 'static,
{
    fn wait(&self, attempt: &Attempt<'_>) -> Duration {
        self(attempt)
    }
}

/// Makes attempts of a call until one succeeds, or another could do harm. Cheap to clone.
#[derive(Clone)]
pub struct Retry<C> {
    inner: C,
    options: Arc<Options>,
}

struct Options {
    retries: u32,
    policy: Option<Arc<dyn RetryPolicy>>,
    wait: Option<Arc<dyn Wait>>,
    backoff: (Duration, Duration),
    seeds: Mutex<crate::chance::Chance>,
    runtime: Runtime,
}

impl<C> Retry<C> {
    pub(crate) fn new(inner: C, runtime: &Runtime) -> Self {
        let options = Options {
            retries: 2,
            policy: None,
            wait: None,
            backoff: (Duration::from_millis(10), Duration::from_secs(1)),
            seeds: Mutex::new(crate::chance::Chance::new(None)),
            runtime: runtime.clone(),
        };
        Self { inner, options: Arc::new(options) }
    }

    /// The same with other options.
    fn with(mut self, change: impl FnOnce(&mut Options)) -> Self {
        let old = &*self.options;
        let mut options = Options {
            retries: old.retries,
            policy: old.policy.clone(),
            wait: old.wait.clone(),
            backoff: old.backoff,
            seeds: Mutex::new(crate::chance::Chance::new(None)),
            runtime: old.runtime.clone(),
        };
        change(&mut options);
        self.options = Arc::new(options);
        self
    }

    pub(crate) fn retries(self, retries: u32) -> Self {
        self.with(|options| options.retries = retries)
    }

    pub(crate) fn policy(self, policy: impl RetryPolicy) -> Self {
        self.with(|options| options.policy = Some(Arc::new(policy)))
    }

    pub(crate) fn wait(self, wait: impl Wait) -> Self {
        self.with(|options| options.wait = Some(Arc::new(wait)))
    }

    pub(crate) fn backoff(self, min: Duration, max: Duration) -> Self {
        self.with(|options| options.backoff = (min, max))
    }
}

impl<C: Calls> Retry<C> {
    async fn attempts(&self, request: &mut Request, mut now: Option<Instant>) -> Outcome {
        let chosen = request.options.clone();
        let chosen = chosen.as_deref();
        let retries = chosen.and_then(|chosen| chosen.retries).unwrap_or(self.options.retries);
        let policy = chosen.and_then(|chosen| chosen.policy.as_ref());
        let policy = policy.or(self.options.policy.as_ref());
        let wait = chosen.and_then(|chosen| chosen.wait.as_ref()).or(self.options.wait.as_ref());
        if let Some(wait) = wait {
            now = None;
            self.pause(wait.wait(&Attempt { made: 0, request, error: None }), request).await?;
        }
        let mut backoff = None;
        let mut made = 0;
        loop {
            let failed = match self.inner.call_at(request, now.take()).await {
                // The deadline is that of all attempts.
                Err(status) if status.code() == Code::Timeout => return Err(status),
                Err(status) if may_repeat(request, &status) => status,
                outcome => return outcome,
            };
            made += 1;
            let attempt = Attempt { made, request, error: Some(&failed) };
            if made > retries || policy.is_some_and(|policy| !policy.retry(&attempt)) {
                return Err(failed);
            }
            let time = match wait {
                Some(wait) => wait.wait(&attempt),
                None => backoff.get_or_insert_with(|| self.new_backoff()).next_wait(),
            };
            if self.pause(time, request).await.is_err() {
                return Err(Status::timeout().with_source(failed));
            }
        }
    }

    fn new_backoff(&self) -> Backoff {
        let (min, max) = self.options.backoff;
        Backoff::seeded(min, max, self.options.seeds.lock().next())
    }

    /// Waits, but not beyond the deadline.
    async fn pause(&self, time: Duration, request: &Request) -> Result<(), Status> {
        if time.is_zero() {
            return Ok(());
        }
        let runtime = &self.options.runtime;
        let until = runtime.after(time);
        let cut = request.deadline.filter(|at| *at < until);
        runtime.sleep_until(cut.unwrap_or(until)).await;
        if cut.is_some() { Err(Status::timeout()) } else { Ok(()) }
    }
}

/// Whether making it again can do no harm, and may help.
fn may_repeat(request: &Request, status: &Status) -> bool {
    let allowed = match status.retryable() {
        Retryable::Always => true,
        Retryable::IfIdempotent => request.idempotent,
        Retryable::Never => false,
    };
    allowed && !request.body.is_taken()
}

impl<C: Calls> Calls for Retry<C> {
    fn call(&self, request: &mut Request) -> impl Future<Output = Outcome> + Send {
        self.attempts(request, None)
    }

    fn call_at(
        &self,
        request: &mut Request,
        now: Option<Instant>,
    ) -> impl Future<Output = Outcome> + Send {
        self.attempts(request, now)
    }
}

impl<C: fmt::Debug> fmt::Debug for Retry<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("inner", &self.inner)
            .field("retries", &self.options.retries)
            .finish_non_exhaustive()
    }
}
