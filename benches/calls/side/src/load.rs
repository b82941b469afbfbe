//! The load, and the one line that says what came of it.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use nix::sys::resource::{UsageWho, getrusage};

use crate::{
    ALLOCATOR, Contestant, Result,
    job::{Amount, Job},
};

/// Calls, so many at a time, for a time or a number of them.
pub(crate) async fn calls<C: Contestant>(client: &C::Client, job: &Job) -> Result<()> {
    let tally = Rc::new(Tally::default());
    let mut callers = Vec::new();
    for _ in 0..job.in_flight {
        callers.push(tokio::task::spawn_local(caller::<C>(
            C::caller(client)?,
            Bytes::from(vec![7; job.size]),
            tally.clone(),
        )));
    }
    let report = measure(&tally, job.amount).await;
    tally.over.set(true);
    for caller in callers {
        caller.await??;
    }
    report.print(tally.count.get(), &mut tally.times.borrow_mut());
    Ok(())
}

async fn caller<C: Contestant>(mut caller: C::Caller, body: Bytes, tally: Rc<Tally>) -> Result<()> {
    while tally.wants_more() {
        let began = Instant::now();
        let length = C::call(&mut caller, &body).await?;
        if length != body.len() {
            return Err(format!("{length} bytes came back instead of {}", body.len()).into());
        }
        tally.done(began);
    }
    Ok(())
}

/// Messages of one stream.
pub(crate) async fn stream<C: Contestant>(client: &C::Client, job: &Job) -> Result<()> {
    let tally = Rc::new(Tally::default());
    let (theirs, size) = (tally.clone(), job.size);
    let flow = C::stream(client, size, move |length| {
        assert_eq!(length, size, "a message of another length");
        theirs.count.set(theirs.count.get() + 1);
        !theirs.over.get()
    });
    let measured = async {
        let report = measure(&tally, job.amount).await;
        tally.over.set(true);
        report
    };
    let (flowed, report) = tokio::join!(flow, measured);
    flowed?;
    report.print(tally.count.get(), &mut Vec::new());
    Ok(())
}

/// A server says what it used so far whenever a line comes in, and ends with its input.
pub(crate) fn report_when_told() {
    let mut line = String::new();
    while matches!(std::io::stdin().read_line(&mut line), Ok(1..)) {
        println!("used cpu_ns={} allocations={}", cpu().as_nanos(), allocations());
    }
    std::process::exit(0);
}

#[derive(Default)]
struct Tally {
    count: Cell<u64>,
    most: Cell<Option<u64>>,
    over: Cell<bool>,
    times: RefCell<Vec<u32>>,
}

impl Tally {
    fn wants_more(&self) -> bool {
        !self.over.get() && self.most.get().is_none_or(|most| self.count.get() < most)
    }

    fn done(&self, began: Instant) {
        self.count.set(self.count.get() + 1);
        let nanos = u32::try_from(began.elapsed().as_nanos()).unwrap_or(u32::MAX);
        self.times.borrow_mut().push(nanos);
    }
}

async fn measure(tally: &Tally, amount: Amount) -> Report {
    match amount {
        Amount::Time(time) => {
            tokio::time::sleep(WARM_UP).await;
            tally.times.borrow_mut().clear();
            tally.times.borrow_mut().reserve(ROOM);
            let (began, count, cpu) = (Instant::now(), tally.count.get(), cpu());
            let allocations = allocations();
            tokio::time::sleep(time).await;
            Report {
                calls: tally.count.get() - count,
                time: began.elapsed(),
                cpu: self::cpu() - cpu,
                allocations: self::allocations() - allocations,
            }
        }
        Amount::Calls(calls) => {
            tally.most.set(Some(calls));
            let (began, cpu, allocations) = (Instant::now(), cpu(), allocations());
            tally.times.borrow_mut().reserve(ROOM);
            while tally.count.get() < calls {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Report {
                calls,
                time: began.elapsed(),
                cpu: self::cpu() - cpu,
                allocations: self::allocations() - allocations,
            }
        }
    }
}

struct Report {
    calls: u64,
    time: Duration,
    cpu: Duration,
    allocations: u64,
}

impl Report {
    /// `all` counts those before and after the measurement too.
    fn print(&self, all: u64, times: &mut [u32]) {
        times.sort_unstable();
        let at = |share: f64| {
            times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default()
        };
        println!(
            "all={all} calls={} time_ns={} cpu_ns={} allocations={} p50_ns={} p99_ns={}",
            self.calls,
            self.time.as_nanos(),
            self.cpu.as_nanos(),
            self.allocations,
            at(0.5),
            at(0.99),
        );
    }
}

fn cpu() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Duration::ZERO };
    let (user, system) = (usage.user_time(), usage.system_time());
    let micros = (user.tv_sec() + system.tv_sec()) * 1_000_000 + user.tv_usec() + system.tv_usec();
    Duration::from_micros(u64::try_from(micros).unwrap_or_default())
}

fn allocations() -> u64 {
    let stats = ALLOCATOR.stats();
    (stats.allocations + stats.reallocations) as u64
}

const WARM_UP: Duration = Duration::from_millis(300);

/// Times of a second or two, reserved so that recording allocates nothing.
const ROOM: usize = 4 << 20;
