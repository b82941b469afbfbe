//! The schedule: rounds, contestants interleaved within each, and the processes of every run.

mod instructions;
mod run;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use kit::median::{median, median_ratio};
use kit::tracer::Tracer;

use crate::args::{Args, Mode};
use crate::contestant::Contestant;
use crate::impls;
use crate::job::Job;
use crate::mux::Standing;
use crate::report::format;
use crate::sample::{Sample, key};
use crate::workload::{Figure, Placement, Workload};

/// All that was measured of one workload in one placement.
pub struct Group {
    /// The workload.
    pub workload: Workload,
    /// Whether the processes were pinned to one core.
    pub pinned: bool,
    /// A row per contestant.
    pub rows: Vec<Row>,
}

/// All that was measured of one contestant.
pub struct Row {
    /// The contestant's name.
    pub name: &'static str,
    /// What it is compared as.
    pub standing: Standing,
    /// A sample per round; `None` where the run failed.
    pub rounds: Vec<Option<Sample>>,
    /// A sample with allocations counted, which slows down those who allocate and is not timed.
    pub counted: Option<Sample>,
}

/// Measures what `args` ask for.
pub fn measure(args: &Args) -> Result<Vec<Group>, String> {
    match args.mode {
        Mode::Instructions => instructions::measure(args),
        Mode::SystemCalls => Ok(Schedule::of(args, Some(Tracer::installed()?)).run()),
        _ => Ok(Schedule::of(args, None).run()),
    }
}

struct Schedule<'a> {
    args: &'a Args,
    tracer: Option<Tracer>,
    groups: Vec<Group>,
    progress: Progress,
}

impl<'a> Schedule<'a> {
    fn of(args: &'a Args, tracer: Option<Tracer>) -> Self {
        let groups: Vec<_> = args
            .workloads
            .iter()
            .flat_map(|workload| groups(args, workload, tracer.is_some()))
            .collect();
        let mut schedule = Self { args, tracer, groups, progress: Progress::default() };
        schedule.progress.total = schedule
            .groups
            .iter()
            .map(|group| schedule.passes(group).len() * group.rows.len())
            .sum();
        schedule
    }

    fn run(mut self) -> Vec<Group> {
        let mut groups = std::mem::take(&mut self.groups);
        for group in &mut groups {
            for pass in self.passes(group) {
                self.run_pass(group, pass);
            }
        }
        self.progress.finish();
        groups
    }

    /// The passes of a group: one that counts, then the rounds.
    fn passes(&self, group: &Group) -> Vec<Pass> {
        if self.tracer.is_some() {
            return vec![Pass::Round(0)];
        }
        if group.workload.figure == Figure::Heap {
            // The heap does not vary, and with some contestants a run takes minutes.
            return vec![Pass::Counted];
        }
        std::iter::once(Pass::Counted).chain((0..self.args.rounds).map(Pass::Round)).collect()
    }

    /// Every contestant once. Each round begins with another one, so that none always comes first.
    fn run_pass(&mut self, group: &mut Group, pass: Pass) {
        let contestants = group.rows.len();
        for turn in 0..contestants {
            let row = (turn + pass.shift()) % contestants;
            let name = group.rows[row].name;
            let job = self.job(group, name, pass);
            self.progress.begin(group, name, pass);
            let result = run::once(&job, &group.workload, self.tracer.as_ref());
            self.progress.end(&group.workload, &result);
            let row = &mut group.rows[row];
            match pass {
                Pass::Counted => row.counted = result.ok(),
                Pass::Round(_) => row.rounds.push(result.ok()),
            }
        }
    }

    fn job(&self, group: &Group, name: &str, pass: Pass) -> Job {
        let common = &self.args.job;
        let counts_only = pass == Pass::Counted && !group.workload.ends();
        Job {
            contestant: name.into(),
            workload: group.workload.name.into(),
            workers: self.args.workers.unwrap_or(group.workload.workers),
            core: self.args.pinned.filter(|_| group.pinned),
            count: pass == Pass::Counted,
            warm_up: group.workload.start.unwrap_or(common.warm_up),
            measure: if counts_only { common.measure.min(COUNTING) } else { common.measure },
            ..common.clone()
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    Counted,
    Round(usize),
}

impl Pass {
    fn shift(self) -> usize {
        match self {
            Self::Counted => 0,
            Self::Round(round) => round,
        }
    }
}

/// The groups of a workload: one per placement.
fn groups(args: &Args, workload: &Workload, traced: bool) -> Vec<Group> {
    // The number of system calls is steadiest on one core.
    let pinned = args.pinned.is_some() && workload.placement != Placement::Unpinned;
    let unpinned = args.unpinned && workload.placement != Placement::Pinned && !(traced && pinned);
    let placements = [(pinned, true), (unpinned, false)].into_iter();
    let wanted = placements.filter(|(wanted, _)| *wanted);
    wanted.map(|(_, pin)| group(args, workload, pin)).collect()
}

fn group(args: &Args, workload: &Workload, pinned: bool) -> Group {
    let enters = |contestant: &Contestant| {
        contestant.enters(workload) && args.contestants.contains(&contestant.name)
    };
    let row = |contestant: Contestant| Row {
        name: contestant.name,
        standing: contestant.standing,
        rounds: Vec::new(),
        counted: None,
    };
    Group {
        workload: *workload,
        pinned,
        rows: impls::all().into_iter().filter(enters).map(row).collect(),
    }
}

/// Tells how far things are, on the standard error.
struct Progress {
    total: usize,
    done: usize,
    start: Instant,
}

impl Default for Progress {
    fn default() -> Self {
        Self { total: 0, done: 0, start: Instant::now() }
    }
}

impl Progress {
    fn begin(&self, group: &Group, name: &str, pass: Pass) {
        let place = if group.pinned { "pinned" } else { "unpinned" };
        let pass = match pass {
            Pass::Counted => "counting".to_owned(),
            Pass::Round(round) => format!("round {}", round + 1),
        };
        eprint!(
            "[{}/{}] {} {place} {pass} {name}: ",
            self.done + 1,
            self.total,
            group.workload.name
        );
    }

    fn end(&mut self, workload: &Workload, result: &Result<Sample, String>) {
        self.done += 1;
        let mut line = match result {
            Ok(sample) => format::headline(workload, sample),
            Err(error) => format!("FAILED: {error}"),
        };
        let left = self.start.elapsed() / self.done as u32 * (self.total - self.done) as u32;
        let _ = write!(line, " ({} left)", minutes(left));
        eprintln!("{line}");
    }

    fn finish(&self) {
        eprintln!("{} runs in {}", self.done, minutes(self.start.elapsed()));
    }
}

fn minutes(time: Duration) -> String {
    format!("{}:{:02} min", time.as_secs() / 60, time.as_secs() % 60)
}

impl Row {
    /// The figure in every round, or in the only pass there was.
    pub fn figures(&self, key: &str) -> Vec<Option<f64>> {
        let figure = |sample: &Option<Sample>| sample.as_ref().and_then(|sample| sample.get(key));
        match self.rounds.is_empty() {
            true => vec![figure(&self.counted)],
            false => self.rounds.iter().map(figure).collect(),
        }
    }

    /// The figure's median over the rounds.
    pub fn median(&self, key: &str) -> Option<f64> {
        median(self.figures(key).into_iter().flatten())
    }

    /// The allocations per unit.
    pub fn allocations(&self) -> Option<f64> {
        self.counted.as_ref().and_then(|sample| sample.get(key::ALLOCATIONS))
    }
}

impl Group {
    /// The median over the rounds of the row's figure divided by raw TCP's.
    pub fn ratio_to_raw(&self, row: &Row, key: &str) -> Option<f64> {
        let raw = self.rows.iter().find(|row| row.standing == Standing::Baseline)?;
        median_ratio(&row.figures(key), &raw.figures(key))
    }

    /// The median over the rounds of the row's figure divided by that of the round's best peer.
    pub fn ratio_to_best_peer(&self, row: &Row, key: &str) -> Option<f64> {
        let peers = self
            .rows
            .iter()
            .filter(|row| row.standing == Standing::Peer)
            .map(|row| row.figures(key));
        let better = |a: f64, b: f64| {
            if self.workload.more_is_better() { a.max(b) } else { a.min(b) }
        };
        let best = peers.reduce(|best, peer| {
            let pairs = best.into_iter().zip(peer);
            pairs
                .map(|pair| match pair {
                    (Some(best), Some(peer)) => Some(better(best, peer)),
                    (best, peer) => best.or(peer),
                })
                .collect()
        })?;
        median_ratio(&row.figures(key), &best)
    }
}

/// How long allocations are counted: they hardly vary.
const COUNTING: Duration = Duration::from_millis(300);
