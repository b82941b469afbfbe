//! The future that moves bytes between the IO and the core.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use futures::{
    io::{AsyncRead, AsyncWrite},
    task::AtomicWaker,
};

use super::{
    bell::Bell,
    io::Port,
    lending::Direct,
    shared::{Shared, State},
};
use crate::{
    error::SessionError,
    proto::{Batch, IoStep},
    runtime::BoxFuture,
};

/// The future that runs a session: spawn it, or poll it beside the code that uses the session.
///
/// Unless it is polled nothing is sent or received, and no time limit passes. It completes when the
/// session is over, with the same result as [`Session::closed`](crate::Session::closed). Dropping
/// it earlier ends the session with [`SessionError::DriverDropped`].
#[must_use = "a session does nothing unless its driver is polled"]
pub struct Driver {
    engine: Pin<Box<dyn Future<Output = Result<(), SessionError>> + Send>>,
}

impl Driver {
    pub(super) fn new<T>(shared: Arc<Shared>, io: T, direct_reads: bool) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + 'static,
    {
        let lends: Lends<T> = |port| port;
        Self { engine: Box::pin(Engine::new(shared, io, direct_reads.then_some(lends))) }
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

/// A [`Driver`] for an IO that is not `Send`. It is not `Send` either.
#[must_use = "a session does nothing unless its driver is polled"]
pub struct LocalDriver {
    engine: Pin<Box<dyn Future<Output = Result<(), SessionError>>>>,
}

impl LocalDriver {
    pub(super) fn new<T>(shared: Arc<Shared>, io: T) -> Self
    where
        T: AsyncRead + AsyncWrite + 'static,
    {
        Self { engine: Box::pin(Engine::new(shared, io, None)) }
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

/// The driver proper, behind the box that hides the type of the IO.
struct Engine<T> {
    /// `None` once the session is over.
    pump: Option<Pump<T>>,
    /// `None` then, and while it is lent out.
    port: Option<Box<Port<T>>>,
}

/// Moves bytes both ways, as long as the session lives.
struct Pump<T> {
    shared: Arc<Shared>,
    /// How the port is lent out to readers; `None` where only the driver may poll the IO.
    lends: Option<Lends<T>>,
    next: Next,
    /// The batch that is being written.
    writing: Option<u64>,
    read_ended: bool,
    write_closed: bool,
    sleep: Option<(Instant, BoxFuture)>,
    alarm: Bell,
    /// Whom the bells wake.
    task: Arc<AtomicWaker>,
    /// Whether it already stood back for the readers of the last batch.
    yielded: bool,
}

/// Hides the type of an IO that may go to the threads of readers.
type Lends<T> = fn(Box<Port<T>>) -> Box<dyn Direct>;

/// Who reads next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Driver,
    /// The reader of the body that is on its way; it is called, and should come before the driver
    /// is polled again.
    Reader,
    /// The same reader, once there is something to read.
    ReaderLater,
}

/// What reading achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// It may achieve more.
    Busy,
    /// It waits for the IO, or there is nothing more to read.
    Idle,
    /// Whom this woke may have answers that should go out together: come back after them.
    Yield,
}

/// What comes next.
enum Step {
    Write(u64),
    Close,
    Again,
    /// To read, before time passes.
    Ask,
    /// Until someone wakes the driver, or the moment comes.
    Sleep(Option<Instant>),
    Over(Result<(), SessionError>),
}

impl<T: AsyncRead + AsyncWrite + 'static> Future for Engine<T> {
    type Output = Result<(), SessionError>;

    /// Reading never waits for writing, nor writing for reading: each poll does some of what
    /// either can, and comes back at once where there is more.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { pump: Some(pump), port: place } = &mut *self else { return Poll::Pending };
        pump.task.register(cx.waker());
        if place.is_none() {
            *place = pump.reclaim(cx);
        }
        // A reader that has it wakes the driver when it is back.
        let Some(port) = place else { return Poll::Pending };
        // One look at the clock: a poll is short, and the clock is not cheap everywhere.
        let now = pump.shared.now();
        port.read_tried = pump.read_ended;
        if pump.sleep.take_if(|(at, _)| now >= *at).is_some() {
            // It will be asked for anyway, before time passes.
            pump.ask(port);
        }
        let step = match pump.read(port, now, cx) {
            Reading::Yield => Step::Again,
            reading => pump.write(port, reading == Reading::Idle, now, cx),
        };
        if let Step::Over(result) = step {
            (self.pump, self.port) = (None, None);
            return Poll::Ready(result);
        }
        if let Step::Ask = step {
            pump.ask(port);
        }
        if pump.next != Next::Driver {
            pump.lend(place);
        }
        match step {
            Step::Sleep(next) if pump.sleep_until(next) => {}
            _ => cx.waker().wake_by_ref(),
        }
        Poll::Pending
    }
}

impl<T: AsyncRead + AsyncWrite> Engine<T> {
    fn new(shared: Arc<Shared>, io: T, lends: Option<Lends<T>>) -> Self {
        let task = Arc::new(AtomicWaker::new());
        let port = Port::new(io, Bell::new(&task));
        let pump = Pump {
            shared,
            lends,
            next: Next::Driver,
            writing: None,
            read_ended: false,
            write_closed: false,
            sleep: None,
            alarm: Bell::new(&task),
            task,
            yielded: false,
        };
        Self { pump: Some(pump), port: Some(Box::new(port)) }
    }
}

impl<T> Drop for Engine<T> {
    fn drop(&mut self) {
        if let Some(pump) = &self.pump {
            let now = pump.shared.now();
            let lent = pump.shared.with(|state| {
                state.core.handle_failure(SessionError::DriverDropped, now);
                state.end_lending()
            });
            drop(lent);
        }
    }
}

impl<T: AsyncRead + AsyncWrite + 'static> Pump<T> {
    /// `None`: a reader has it.
    #[inline(never)]
    fn reclaim(&self, cx: &Context<'_>) -> Option<Box<Port<T>>> {
        let port = self.shared.with(|state| state.reclaim(cx))?;
        port.into_any().downcast().ok()
    }

    /// The driver reads next, and tries. Left to a reader that comes between any two polls, as one
    /// in the task of the driver does, the IO would be asked by everyone but the driver.
    const fn ask(&mut self, port: &mut Port<T>) {
        port.try_read();
        self.next = Next::Driver;
    }

    /// Leaves the port to the reader until the next poll.
    #[inline(never)]
    fn lend(&self, port: &mut Option<Box<Port<T>>>) {
        let (Some(lends), Some(port)) = (self.lends, port.take()) else { return };
        let port = lends(port);
        self.shared.with(|state| {
            state.lend(port);
            if self.next == Next::Reader {
                state.core.call_direct();
            }
        });
    }

    /// Reads until the IO has no more, a bounded number of times.
    fn read(&mut self, port: &mut Port<T>, now: Instant, cx: &Context<'_>) -> Reading {
        if self.next != Next::Driver
            && let Some(reading) = self.leave_to_reader(port)
        {
            return reading;
        }
        let mut news = 0;
        let mut reading = Reading::Busy;
        for _ in 0..READS {
            if self.read_ended {
                reading = Reading::Idle;
                break;
            }
            let Poll::Ready(input) = port.poll_read() else {
                reading = Reading::Idle;
                break;
            };
            if input.is_err() {
                self.shared.note_failure(port.cause.take());
            }
            #[cfg(feature = "rpc")]
            self.shared.note_arrival(now);
            let (owes_answers, direct) = self.shared.with(|state| {
                state.driver_runs(cx);
                match &input {
                    Ok(input) if !input.is_empty() => news += state.core.handle_input(input, now),
                    Ok(_) => {
                        self.read_ended = true;
                        state.core.handle_eof(now);
                    }
                    Err(error) => {
                        self.read_ended = true;
                        state.core.handle_failure(*error, now);
                    }
                }
                (state.core.owes_answers(), state.core.direct_reader().is_some())
            });
            if owes_answers && self.writing.is_none() {
                self.yielded = false;
                return Reading::Busy;
            }
            if direct && self.lends.is_some() {
                self.next = Next::Reader;
                return Reading::Busy;
            }
        }
        let stands_back = news > 1
            && !self.yielded
            && self.shared.with(|state| {
                state.driver_runs(cx);
                state.core.staged() < SMALL
            });
        self.yielded = stands_back;
        if stands_back { Reading::Yield } else { reading }
    }

    /// The port was lent: whether the reader goes on with the body. `None`: the driver does.
    fn leave_to_reader(&mut self, port: &mut Port<T>) -> Option<Reading> {
        let nothing = port.waits();
        // It was not there in time, or does something else by now.
        let absent = self.next == Next::Reader && !nothing;
        let goes_on = self.shared.with(|state| {
            if absent || port.has_found() {
                state.core.forget_direct();
            }
            state.core.direct_reader().is_some()
        });
        let (next, reading) = match (goes_on, nothing) {
            (false, _) => (Next::Driver, None),
            (true, true) => (Next::ReaderLater, Some(Reading::Idle)),
            (true, false) => (Next::Reader, Some(Reading::Busy)),
        };
        self.next = next;
        reading
    }

    /// Writes until there is nothing to write or the IO takes no more, and decides what comes next.
    fn write(&mut self, port: &mut Port<T>, idle: bool, now: Instant, cx: &Context<'_>) -> Step {
        let mut flushed = None;
        for _ in 0..BATCHES {
            let step = self.shared.with(|state| {
                state.driver_runs(cx);
                if let Some(batch) = flushed.take() {
                    state.core.handle_flushed(batch, now);
                }
                if self.writing.is_none() {
                    self.writing = state.core.take_output(&mut port.batch, now);
                }
                match (self.writing, state.core.io_step()) {
                    (Some(batch), _) => Step::Write(batch),
                    (None, IoStep::Done(result)) => Step::Over(result),
                    (None, IoStep::Shutdown) if !self.write_closed => Step::Close,
                    (None, _) => {
                        // Time passes where there is always a line of writers too.
                        let idle = idle && !state.core.has_output();
                        rest(&self.shared, state, port, idle, now, cx)
                    }
                }
            });
            match step {
                Step::Write(batch) => match port.poll_write() {
                    Poll::Pending => return self.wait(port, idle, now, cx),
                    Poll::Ready(Ok(())) => {
                        self.writing = None;
                        flushed = Some(batch);
                    }
                    Poll::Ready(Err(error)) => return self.fail(port, error, now, cx),
                },
                Step::Close => match port.poll_close() {
                    Poll::Pending => return self.wait(port, idle, now, cx),
                    Poll::Ready(_) => {
                        // Whether it closed well or not, there is nothing more to say.
                        self.write_closed = true;
                        self.shared.with(|state| state.core.handle_shutdown(now));
                    }
                },
                step => return step,
            }
        }
        self.shared.with(|state| {
            if let Some(batch) = flushed {
                state.core.handle_flushed(batch, now);
            }
            rest(&self.shared, state, port, false, now, cx)
        })
    }

    /// The IO takes no more for now.
    fn wait(&self, port: &mut Port<T>, idle: bool, now: Instant, cx: &Context<'_>) -> Step {
        let progress = port.take_progress();
        self.shared.with(|state| {
            if self.writing.is_some() {
                state.core.handle_blocked(progress, now);
            }
            match state.core.io_step() {
                IoStep::Done(result) => Step::Over(result),
                _ => rest(&self.shared, state, port, idle, now, cx),
            }
        })
    }

    /// Nothing more can be written; what the peer sent before that is still worth reading, and
    /// may say that this is a good end. It may have come without anybody having been woken yet.
    fn fail(
        &mut self,
        port: &mut Port<T>,
        error: SessionError,
        now: Instant,
        cx: &Context<'_>,
    ) -> Step {
        self.shared.note_failure(port.cause.take());
        port.try_read();
        self.writing = None;
        port.batch = Batch::new();
        // From here on the driver reads all there is.
        (self.lends, self.next) = (None, Next::Driver);
        for _ in 0..READS_AT_THE_END {
            let before = self.read_ended;
            if self.read(port, now, cx) == Reading::Idle && before == self.read_ended {
                break;
            }
        }
        self.shared.with(|state| state.core.handle_failure(error, now));
        Step::Again
    }

    /// Sleeps until `next` at the latest. A sleep that ends earlier stays: to wake up once in
    /// vain is cheaper than to set a timer anew for every frame. False if it is over already.
    fn sleep_until(&mut self, next: Option<Instant>) -> bool {
        let Some(next) = next else { return true };
        let Some(timer) = self.shared.timer() else { return true };
        let rang = self.alarm.rang();
        let present = self.sleep.take_if(|(at, _)| *at <= next);
        if !rang && present.is_some() {
            self.sleep = present;
            return true;
        }
        let (at, mut sleep) = present.unwrap_or_else(|| (next, timer.sleep_until(next)));
        let asleep = sleep.as_mut().poll(&mut self.alarm.context()).is_pending();
        self.sleep = asleep.then_some((at, sleep));
        asleep
    }
}

/// Sleeps, unless the next moment has come already or there is more to do. Time passes here alone:
/// what can be written was tried, and before anything is given up the IO is asked for input, for
/// the peer may have answered though nobody was woken for it yet.
fn rest<T>(
    shared: &Shared,
    state: &mut State,
    port: &mut Port<T>,
    idle: bool,
    now: Instant,
    cx: &Context<'_>,
) -> Step
where
    T: AsyncRead + AsyncWrite,
{
    let mut next = state.poll_timeout();
    if next.is_some_and(|at| now >= at) {
        if !port.read_tried {
            return Step::Ask;
        }
        state.handle_timeout(now);
        if state.core.take_quiet() {
            port.shrink();
            shared.shrink();
        }
        next = state.poll_timeout();
        match state.core.io_step() {
            IoStep::Done(result) => return Step::Over(result),
            IoStep::Run if !state.core.has_output() && next.is_none_or(|at| now < at) => {}
            _ => return Step::Again,
        }
    }
    if !idle {
        return Step::Again;
    }
    state.driver_sleeps(cx);
    Step::Sleep(next)
}

/// Batches of one poll.
const BATCHES: usize = 2;

/// Reads of one poll, of 64 KiB each: their readers find them in the cache, and few buffers are
/// in use. Reading on (1 MiB) takes 100 bulk streams half as long again.
const READS: usize = 2;

/// Rounds of [`READS`] after the IO stopped writing: as much as a large kernel buffer holds.
const READS_AT_THE_END: usize = 128;

/// With less than this staged it pays to wait for the answers of those just woken.
const SMALL: usize = 16 << 10;
