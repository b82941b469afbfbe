//! The command line.

use std::path::PathBuf;
use std::time::Duration;

pub use kit::args::Mode;

use crate::impls;
use crate::job::{Job, parse};
use crate::workload::{ALL, Workload};

/// What the user wants.
#[derive(Debug)]
pub struct Args {
    /// What is measured.
    pub mode: Mode,
    /// Rounds per workload.
    pub rounds: usize,
    /// The workloads, in the order of the table.
    pub workloads: Vec<Workload>,
    /// Names of the contestants.
    pub contestants: Vec<&'static str>,
    /// Whether processes run pinned to one core, and which.
    pub pinned: Option<usize>,
    /// Whether processes run unpinned.
    pub unpinned: bool,
    /// Where the results go, if anywhere.
    pub output: Option<PathBuf>,
    /// What all jobs have in common.
    pub job: Job,
    /// Threads of the runtime on each side, where the user says so.
    pub workers: Option<usize>,
}

impl Args {
    /// Reads the command line.
    pub fn read(args: &[String]) -> Result<Self, String> {
        let mut reader = Self::defaults();
        let mut partial = false;
        let mut write = false;
        let mut args = args.iter();
        while let Some(option) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{option} wants a value"));
            match option.as_str() {
                "--only" => (reader.workloads, partial) = (select_workloads(value()?)?, true),
                "--impl" => (reader.contestants, partial) = (select_contestants(value()?)?, true),
                "--pinned" => (reader.unpinned, partial) = (false, true),
                "--unpinned" => (reader.pinned, partial) = (None, true),
                "--quick" => {
                    reader.hurry();
                    partial = true;
                }
                "--workers" => (reader.workers, partial) = (Some(parse(option, value()?)?), true),
                "--write" => write = true,
                "--output" => reader.output = Some(value()?.into()),
                "--syscalls" => reader.mode = Mode::SystemCalls,
                "--instructions" => reader.mode = Mode::Instructions,
                "--list" => reader.mode = Mode::List,
                "--help" | "-h" => reader.mode = Mode::Help,
                name if VALUED.contains(&name) => reader.set(name, value()?)?,
                _ => return Err(format!("no option is called {option}; see --help")),
            }
        }
        // Part of the truth must not replace the whole.
        if partial && !write {
            reader.output = None;
        }
        Ok(reader)
    }

    fn defaults() -> Self {
        Self {
            mode: Mode::Speed,
            rounds: 5,
            workloads: ALL.to_vec(),
            contestants: impls::all().iter().map(|contestant| contestant.name).collect(),
            pinned: Some(kit::args::last_core()),
            unpinned: true,
            output: Some(env!("CARGO_MANIFEST_DIR").into()),
            job: Job::default(),
            workers: None,
        }
    }

    fn set(&mut self, option: &str, value: &str) -> Result<(), String> {
        match option {
            "--rounds" => self.rounds = parse(option, value)?,
            "--seconds" => self.job.measure = Duration::from_secs_f64(parse(option, value)?),
            "--core" => self.pinned = Some(parse(option, value)?),
            "--wan-window" => self.job.long_path_window = parse::<u32>(option, value)? << 20,
            "--idle-streams" => self.job.idle_streams = parse(option, value)?,
            _ => unreachable!("not in the list of options with a value"),
        }
        Ok(())
    }

    fn hurry(&mut self) {
        self.rounds = 1;
        self.job.warm_up = Duration::from_millis(100);
        self.job.measure = Duration::from_millis(200);
        self.job.idle_streams = 2_000;
    }
}

fn select_workloads(names: &str) -> Result<Vec<Workload>, String> {
    names
        .split(',')
        .map(|name| Workload::named(name).ok_or_else(|| format!("no workload is called {name}")))
        .collect()
}

fn select_contestants(names: &str) -> Result<Vec<&'static str>, String> {
    kit::args::contestants(names, impls::all().iter().map(|contestant| contestant.name))
}

/// The options that [`Args::set`] knows.
const VALUED: [&str; 5] = ["--rounds", "--seconds", "--core", "--wan-window", "--idle-streams"];

/// What `--help` shows.
pub const USAGE: &str = "\
versus: trunkline beside its peers and raw TCP

  --rounds N          rounds per workload (5); figures are medians, ratios are medians of the rounds' ratios
  --seconds S         time measured per round (1)
  --only A,B          these workloads
  --impl A,B          these contestants; without raw there are no ratios to it
  --pinned            only with both processes pinned to one core
  --unpinned          only with processes wherever the scheduler likes
  --core N            the core to pin to (the last)
  --workers N         a runtime with N workers on each side (the current thread)
  --wan-window MIB    how large windows may get on the long path, for everyone who has the setting (512)
  --idle-streams N    streams of the workload `idle` (100000)
  --quick             one short round, to see that everything runs; later options override
  --syscalls          count system calls per unit instead (perf, or else strace)
  --instructions      count user-space instructions per unit instead (valgrind)
  --output DIR        where results go (this folder)
  --write             write results even of a run that is quick or partial
  --list              the workloads and the contestants
";
