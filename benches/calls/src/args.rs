//! The command line.

use std::{env, path::PathBuf};

pub(crate) use kit::args::Mode;

use crate::{
    Result, contestants,
    rows::{self, Row},
};

/// What `--help` shows.
pub(crate) const USAGE: &str = "\
calls: calls and requests of trunkline beside those of its peers

  --only A,B         these rows, or those whose names begin so
  --impl A,B         these contestants; without raw there are no ratios to it
  --rounds N         rounds (5); figures are medians, ratios are medians of the rounds' ratios
  --seconds S        measured per row, contestant and round (1)
  --pinned           only with both processes pinned to one core
  --unpinned         only with processes wherever the scheduler likes
  --core N           the core to pin to (the last)
  --quick            one short round, to see that everything runs
  --syscalls         system calls per call instead (perf, or else strace)
  --instructions     user-space instructions per call instead (valgrind)
  --write            write results.md and results.svg here; the other two have files of their own
  --output DIR       write them there
  --list             the rows and the contestants
";

/// What the user wants.
#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) mode: Mode,
    pub(crate) rows: Vec<Row>,
    pub(crate) contestants: Vec<&'static str>,
    pub(crate) rounds: usize,
    pub(crate) seconds: f64,
    pub(crate) pinned: bool,
    pub(crate) unpinned: bool,
    pub(crate) core: usize,
    pub(crate) output: Option<PathBuf>,
}

impl Args {
    pub(crate) fn read(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let mut read = Self::defaults();
        while let Some(option) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{option} wants a value"));
            match &*option {
                "--only" => read.rows = select_rows(&value()?)?,
                "--impl" => {
                    read.contestants = kit::args::contestants(&value()?, contestants::names())?
                }
                "--rounds" => read.rounds = value()?.parse()?,
                "--seconds" => read.seconds = value()?.parse()?,
                "--pinned" => read.unpinned = false,
                "--unpinned" => read.pinned = false,
                "--core" => read.core = value()?.parse()?,
                "--quick" => (read.rounds, read.seconds) = (1, 0.2),
                "--syscalls" => read.mode = Mode::SystemCalls,
                "--instructions" => read.mode = Mode::Instructions,
                "--write" => read.output = Some(env!("CARGO_MANIFEST_DIR").into()),
                "--output" => read.output = Some(value()?.into()),
                "--list" => read.mode = Mode::List,
                "--help" | "-h" => read.mode = Mode::Help,
                _ => return Err(format!("no option is called {option}; see --help").into()),
            }
        }
        Ok(read)
    }

    fn defaults() -> Self {
        Self {
            mode: Mode::Speed,
            rows: rows::all(),
            contestants: contestants::names().collect(),
            rounds: 5,
            seconds: 1.0,
            pinned: true,
            unpinned: true,
            core: kit::args::last_core(),
            output: None,
        }
    }

    /// The core both processes share, first, and then none.
    pub(crate) fn placements(&self) -> Vec<Option<usize>> {
        let wanted = [(self.pinned, Some(self.core)), (self.unpinned, None)];
        wanted.into_iter().filter(|(wanted, _)| *wanted).map(|(_, core)| core).collect()
    }
}

pub(crate) fn from_env() -> Result<Args> {
    Args::read(env::args().skip(1))
}

fn select_rows(names: &str) -> Result<Vec<Row>> {
    let mut selected = rows::all();
    let is_name = |name: &str| rows::all().iter().any(|row| row.name == name);
    let means = |name: &str, row: &Row| match is_name(name) {
        true => row.name == name,
        false => row.name.starts_with(name),
    };
    selected.retain(|row| names.split(',').any(|name| means(name, row)));
    if selected.is_empty() {
        return Err(format!("no row's name begins with {names}; see --list").into());
    }
    Ok(selected)
}
