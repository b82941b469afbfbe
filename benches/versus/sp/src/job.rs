//! One run: what both sides are told, and what comes of it.

use std::{
    fmt,
    time::{Duration, Instant},
};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

pub type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Job {
    pub contestant: &'static str,
    pub size: usize,
    pub contexts: usize,
    pub pinned: bool,
}

/// One side of it.
pub struct Party {
    pub job: Job,
    pub port: u16,
    pub measure: Duration,
}

/// Before it counts.
const WARM_UP: Duration = Duration::from_millis(300);

impl Party {
    pub fn to_args(&self) -> [String; 6] {
        let Job { contestant, size, contexts, pinned } = self.job;
        [
            contestant.to_owned(),
            size.to_string(),
            contexts.to_string(),
            pinned.to_string(),
            self.port.to_string(),
            self.measure.as_secs_f64().to_string(),
        ]
    }

    pub fn parse(args: &[String]) -> Result<Self> {
        let [contestant, size, contexts, pinned, port, seconds] = args else {
            return Err("a side of a run is started by the harness".into());
        };
        let known = crate::CONTESTANTS.into_iter().find(|name| name == contestant);
        let job = Job {
            contestant: known.ok_or("no such contestant")?,
            size: size.parse()?,
            contexts: contexts.parse()?,
            pinned: pinned.parse()?,
        };
        let measure = Duration::from_secs_f64(seconds.parse()?);
        Ok(Self { job, port: port.parse()?, measure })
    }

    /// Goes where this process is to run. Threads that start later stay there too.
    pub fn take_place(&self) -> Result<()> {
        if self.job.pinned {
            let ours = Pid::from_raw(0);
            let allowed = sched_getaffinity(ours)?;
            // The last core: the first has the interrupts.
            let last = (0..CpuSet::count()).rev().find(|core| allowed.is_set(*core) == Ok(true));
            let mut one = CpuSet::new();
            one.set(last.ok_or("no core to run on")?)?;
            sched_setaffinity(ours, &one)?;
        }
        Ok(())
    }

    pub fn address(&self, scheme: &str) -> String {
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// A stopwatch for each context, all with the same start.
    pub fn watches(&self) -> Vec<Watch> {
        let start = Instant::now() + WARM_UP;
        let watch = Watch { start, end: start + self.measure, asked: start, took: Vec::new() };
        vec![watch; self.job.contexts]
    }

    /// When every stopwatch has stopped, more or less.
    pub fn length(&self) -> Duration {
        WARM_UP + self.measure
    }
}

/// Times the round trips of one context.
#[derive(Clone)]
pub struct Watch {
    start: Instant,
    end: Instant,
    asked: Instant,
    took: Vec<Duration>,
}

impl Watch {
    pub fn ask(&mut self) {
        self.asked = Instant::now();
    }

    /// A round trip ended; whether there is time for another.
    pub fn answered(&mut self) -> bool {
        let now = Instant::now();
        if now >= self.start && now < self.end {
            self.took.push(now - self.asked);
        }
        now < self.end
    }
}

/// What a run showed.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Round trips per second.
    pub rate: f64,
    /// Seconds.
    pub p50: f64,
    pub p99: f64,
}

impl Sample {
    pub fn of(watches: impl IntoIterator<Item = Watch>, measure: Duration) -> Result<Self> {
        let mut took: Vec<_> = watches.into_iter().flat_map(|watch| watch.took).collect();
        took.sort_unstable();
        let last = took.len().checked_sub(1).ok_or("no round trip ended in time")?;
        let percentile = |percent: usize| took[last * percent / 100].as_secs_f64();
        let rate = took.len() as f64 / measure.as_secs_f64();
        Ok(Self { rate, p50: percentile(50), p99: percentile(99) })
    }

    pub fn parse(line: &str) -> Option<Self> {
        let mut numbers = line.split(' ').map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(Self { rate: next()?, p50: next()?, p99: next()? })
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.rate, self.p50, self.p99)
    }
}
