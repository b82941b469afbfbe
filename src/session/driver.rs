//! The future that moves bytes between the IO and the core.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use futures::io::{AsyncRead, AsyncWrite};

use super::{io::Port, shared::Shared};
use crate::{error::SessionError, proto::IoStep, runtime::BoxFuture};

/// Runs a session: spawn it, or poll it beside what uses the session.
///
/// Until it is polled nothing is sent, received or timed out. It completes when the session is
/// over, with the same result as
/// [`Session::closed`](crate::Session::closed). Dropping it earlier ends the session with
/// [`SessionError::DriverDropped`].
#[must_use = "a session does nothing unless its driver is polled"]
pub struct Driver {
    engine: Pin<Box<dyn Future<Output = Result<(), SessionError>> + Send>>,
}

impl Driver {
    pub(super) fn new<T>(shared: Arc<Shared>, io: T) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + 'static,
    {
        Self { engine: Box::pin(Engine::new(shared, io)) }
    }
}

impl Future for Driver {
    type Output = Result<(), SessionError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.engine.as_mut().poll(cx)
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

/// A [`Driver`] whose IO cannot move between threads; nor can it.
#[must_use = "a session does nothing unless its driver is polled"]
pub struct LocalDriver {
    engine: Pin<Box<dyn Future<Output = Result<(), SessionError>>>>,
}

impl LocalDriver {
    pub(super) fn new<T>(shared: Arc<Shared>, io: T) -> Self
    where
        T: AsyncRead + AsyncWrite + 'static,
    {
        Self { engine: Box::pin(Engine::new(shared, io)) }
    }
}

impl Future for LocalDriver {
    type Output = Result<(), SessionError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.engine.as_mut().poll(cx)
    }
}

impl fmt::Debug for LocalDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalDriver").finish_non_exhaustive()
    }
}

struct Engine<T> {
    shared: Arc<Shared>,
    /// `None` once the session is over.
    port: Option<Port<T>>,
    /// The batch that is being written.
    writing: Option<u64>,
    read_ended: bool,
    write_closed: bool,
    sleep: Option<(Instant, BoxFuture)>,
    /// Whether it already stood back for the readers of the last batch.
    yielded: bool,
}

/// What one phase of a poll achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It may achieve more.
    Busy,
    /// It waits for the IO, or has nothing to do.
    Idle,
}

impl<T: AsyncRead + AsyncWrite> Future for Engine<T> {
    type Output = Result<(), SessionError>;

    /// Reading never waits for writing, nor writing for reading: each round does what either
    /// can, until neither can or the budget of this poll is spent.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.shared.with(|state| state.driver_runs(cx));
        for _ in 0..ROUNDS {
            let (read, fed) = this.read(cx);
            if fed > 1 && !this.yielded && this.shared.with(|state| state.core.staged()) < SMALL {
                // Whom this batch woke writes its answers before they are sent, all in one go.
                this.yielded = true;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            this.yielded = false;
            let write = this.write(cx);
            match this.settle(cx, read == Phase::Idle && write == Phase::Idle) {
                Settled::Over(result) => return Poll::Ready(result),
                Settled::Asleep => return Poll::Pending,
                Settled::Awake => {}
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<T: AsyncRead + AsyncWrite> Engine<T> {
    fn new(shared: Arc<Shared>, io: T) -> Self {
        Self {
            shared,
            port: Some(Port::new(io)),
            writing: None,
            read_ended: false,
            write_closed: false,
            sleep: None,
            yielded: false,
        }
    }

    /// Reads until the IO has no more, a bounded number of times. Also returns how many streams
    /// have news.
    fn read(&mut self, cx: &mut Context<'_>) -> (Phase, usize) {
        let Some(port) = &mut self.port else { return (Phase::Idle, 0) };
        let mut fed = 0;
        for _ in 0..READS {
            if self.read_ended {
                return (Phase::Idle, fed);
            }
            let input = match port.poll_read(cx) {
                Poll::Pending => return (Phase::Idle, fed),
                Poll::Ready(input) => input,
            };
            let now = self.shared.now();
            match input {
                Ok(input) if !input.is_empty() => {
                    let (news, answer) = self.shared.with(|state| {
                        (state.core.handle_input(&input, now), state.core.owes_answers())
                    });
                    fed += news;
                    if answer && self.writing.is_none() {
                        self.yielded = true;
                        return (Phase::Busy, fed);
                    }
                }
                Ok(_) => {
                    self.read_ended = true;
                    self.shared.with(|state| state.core.handle_eof(now));
                }
                Err(error) => {
                    self.read_ended = true;
                    self.shared.with(|state| state.core.handle_failure(error, now));
                }
            }
        }
        (Phase::Busy, fed)
    }

    /// Takes a batch if there is none, and writes it.
    fn write(&mut self, cx: &mut Context<'_>) -> Phase {
        let Some(port) = &mut self.port else { return Phase::Idle };
        let mut shutdown = false;
        if self.writing.is_none() {
            let now = self.shared.now();
            self.writing = self.shared.with(|state| {
                let batch = state.core.take_output(&mut port.batch, now);
                shutdown = state.core.io_step() == IoStep::Shutdown;
                batch
            });
        }
        if let Some(batch) = self.writing {
            return match port.poll_write(cx) {
                Poll::Pending => Phase::Idle,
                Poll::Ready(Ok(())) => {
                    self.writing = None;
                    let now = self.shared.now();
                    self.shared.with(|state| state.core.handle_flushed(batch, now));
                    Phase::Busy
                }
                Poll::Ready(Err(error)) => self.fail(error, cx),
            };
        }
        if !shutdown || self.write_closed {
            return Phase::Idle;
        }
        match port.poll_close(cx) {
            Poll::Pending => Phase::Idle,
            Poll::Ready(_) => {
                // Whether it closed well or not, there is nothing more to say.
                self.write_closed = true;
                let now = self.shared.now();
                self.shared.with(|state| state.core.handle_shutdown(now));
                Phase::Busy
            }
        }
    }

    /// Nothing more can be written; what the peer sent before that is still worth reading, and
    /// may say that this is a good end.
    fn fail(&mut self, error: SessionError, cx: &mut Context<'_>) -> Phase {
        self.writing = None;
        for _ in 0..READS_AT_THE_END {
            let before = self.read_ended;
            if self.read(cx).0 == Phase::Idle && before == self.read_ended {
                break;
            }
        }
        let now = self.shared.now();
        self.shared.with(|state| state.core.handle_failure(error, now));
        Phase::Busy
    }

    /// Looks at the clock, and decides whether there is more to do now.
    fn settle(&mut self, cx: &mut Context<'_>, idle: bool) -> Settled {
        let Some(port) = &mut self.port else { return Settled::Asleep };
        let now = self.shared.now();
        let blocked = self.writing.is_some();
        let progress = port.take_progress();
        let sleep_ends = self.sleep.as_ref().is_some_and(|(at, _)| now >= *at);
        let mut next = None;
        let settled = self.shared.with(|state| {
            let core = &mut state.core;
            if blocked {
                core.handle_blocked(progress, now);
            }
            if sleep_ends {
                core.handle_timeout(now);
                if core.take_quiet() {
                    port.shrink();
                }
            }
            if let IoStep::Done(result) = core.io_step() {
                return Settled::Over(result);
            }
            if !idle || (!blocked && core.has_output()) || sleep_ends {
                return Settled::Awake;
            }
            next = core.poll_timeout();
            if next.is_some_and(|at| now >= at) {
                core.handle_timeout(now);
                return Settled::Awake;
            }
            state.driver_sleeps(cx);
            Settled::Asleep
        });
        if sleep_ends {
            self.sleep = None;
        }
        match settled {
            Settled::Over(_) => self.end(),
            Settled::Asleep if !self.sleep_until(next, cx) => return Settled::Awake,
            Settled::Asleep | Settled::Awake => {}
        }
        settled
    }

    /// Sleeps until `next` at the latest. A sleep that ends earlier stays: to wake up once in
    /// vain is cheaper than to set a timer anew for every frame. False if it is over already.
    fn sleep_until(&mut self, next: Option<Instant>, cx: &mut Context<'_>) -> bool {
        let Some(next) = next else { return true };
        let Some(timer) = self.shared.timer() else { return true };
        if self.sleep.as_ref().is_none_or(|(at, _)| *at > next) {
            self.sleep = Some((next, timer.sleep_until(next)));
        }
        match &mut self.sleep {
            Some((_, sleep)) => {
                let asleep = sleep.as_mut().poll(cx).is_pending();
                if !asleep {
                    self.sleep = None;
                }
                asleep
            }
            None => true,
        }
    }

    fn end(&mut self) {
        self.port = None;
        self.sleep = None;
    }
}

impl<T> Drop for Engine<T> {
    fn drop(&mut self) {
        if self.port.is_some() {
            let now = self.shared.now();
            self.shared.with(|state| state.core.handle_failure(SessionError::DriverDropped, now));
        }
    }
}

enum Settled {
    Over(Result<(), SessionError>),
    Asleep,
    Awake,
}

/// Rounds of one poll before others get their turn.
const ROUNDS: usize = 4;

/// Reads of one round: 1 MiB.
const READS: usize = 16;

/// Rounds of reading after the IO stopped writing: as much as a large kernel buffer holds.
const READS_AT_THE_END: usize = 16;

/// With less than this staged it pays to wait for the answers of those just woken.
const SMALL: usize = 16 << 10;
