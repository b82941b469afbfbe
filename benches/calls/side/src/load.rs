//! The load, and the one line that says what came of it.

use std::{
    cell::Cell,
    fmt,
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use kit::{
    allocator,
    histogram::{HISTOGRAM, percentile},
};
use tokio::task::spawn_local;

use crate::{
    Contestant, Result,
    job::{Amount, Job},
};

/// Calls, so many at a time, for a time or a number of them.
pub(crate) async fn calls<C: Contestant>(client: &C::Client, job: &Job) -> Result<()> {
    let tally = Rc::new(Tally::of(job.amount));
    let mut callers = Vec::new();
    for _ in 0..job.in_flight {
        let body = Bytes::from(vec![7; job.size]);
        callers.push(spawn_local(call_on::<C>(C::caller(client)?, body, tally.clone())));
    }
    let report = tally.measure(job.amount).await;
    for caller in callers {
        caller.await??;
    }
    println!("{}", report.unwrap_or_else(|| Report::of_all(&tally)));
    Ok(())
}

async fn call_on<C: Contestant>(
    mut caller: C::Caller,
    body: Bytes,
    tally: Rc<Tally>,
) -> Result<()> {
    let mut began = Instant::now();
    while tally.begin() {
        let length = C::call(&mut caller, &body).await?;
        if length != body.len() {
            return Err(format!("{length} bytes came back instead of {}", body.len()).into());
        }
        // One reading of the clock is the end of this call and the beginning of the next.
        let now = Instant::now();
        HISTOGRAM.record(now - began);
        began = now;
        tally.done();
    }
    Ok(())
}

/// Messages of one stream.
pub(crate) async fn stream<C: Contestant>(client: &C::Client, job: &Job) -> Result<()> {
    let tally = Rc::new(Tally::of(job.amount));
    let (theirs, size) = (tally.clone(), job.size);
    let flow = C::stream(client, size, move |length| {
        assert_eq!(length, size, "a message of another length");
        theirs.done();
        theirs.begin()
    });
    tally.begin();
    let (watched, amount) = (tally.clone(), job.amount);
    let measuring = spawn_local(async move { watched.measure(amount).await });
    flow.await?;
    println!("{}", measuring.await?.unwrap_or_else(|| Report::of_all(&tally)));
    Ok(())
}

/// A server says what it used so far whenever a line comes in, and ends with its input.
pub(crate) fn report_when_told() {
    let mut line = String::new();
    while matches!(std::io::stdin().read_line(&mut line), Ok(1..)) {
        println!("used allocations={}", allocator::allocations());
    }
    std::process::exit(0);
}

/// What was begun and what was done, by all callers.
struct Tally {
    begun: Cell<u64>,
    done: Cell<u64>,
    most: Cell<u64>,
}

impl Tally {
    fn of(amount: Amount) -> Self {
        let most = match amount {
            Amount::Time(_) => u64::MAX,
            Amount::Calls(calls) => calls,
        };
        Self { begun: Cell::new(0), done: Cell::new(0), most: Cell::new(most) }
    }

    /// Whether there is one more to do.
    fn begin(&self) -> bool {
        let more = self.begun.get() < self.most.get();
        self.begun.set(self.begun.get() + u64::from(more));
        more
    }

    fn done(&self) {
        self.done.set(self.done.get() + 1);
    }

    /// Where time is the limit: what is done in it, after a while to warm up. Then no more begin.
    async fn measure(&self, amount: Amount) -> Option<Report> {
        let Amount::Time(time) = amount else { return None };
        tokio::time::sleep(WARM_UP).await;
        let (began, done, before) = (Instant::now(), self.done.get(), HISTOGRAM.counts());
        tokio::time::sleep(time).await;
        let (calls, time, times) = (self.done.get() - done, began.elapsed(), since(&before));
        self.most.set(0);
        Some(Report { calls, time, before, times })
    }
}

struct Report {
    calls: u64,
    time: Duration,
    /// The histogram when it began.
    before: Vec<u64>,
    /// What was added to it by calls that ended in time.
    times: Vec<u64>,
}

impl Report {
    /// Only the counts mean something.
    fn of_all(tally: &Tally) -> Self {
        let (before, times) = (Vec::new(), Vec::new());
        Self { calls: tally.done.get(), time: Duration::ZERO, before, times }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |times: &[u64], share| percentile(times, share).unwrap_or_default().as_nanos();
        write!(
            f,
            "calls={} time_ns={} p50_ns={} p99_ns={} longest_ns={} allocations={}",
            self.calls,
            self.time.as_nanos(),
            at(&self.times, 0.50),
            at(&self.times, 0.99),
            // Those that had not ended when the time was over count too: one that is always
            // overtaken ends last.
            at(&since(&self.before), 1.0),
            allocator::allocations(),
        )
    }
}

/// What the histogram counted since.
fn since(before: &[u64]) -> Vec<u64> {
    HISTOGRAM.counts().iter().zip(before).map(|(now, before)| now - before).collect()
}

const WARM_UP: Duration = Duration::from_millis(300);
