//! Builds every contestant by itself, lets them take turns within each round, and writes the table
//! and the chart. A ratio is taken within a round; what is shown is the median over the rounds.

mod contestants;
mod report;
mod round;
mod rows;

use std::{env, error::Error, fs, path::Path, process::ExitCode};

use contestants::Contestant;
use round::Round;

const USAGE: &str = "\
usage: calls [OPTIONS]

  --only ROWS        rows whose names begin with one of these, separated by commas
  --rounds N         rounds (5)
  --seconds S        measured per row, contestant and round (1)
  --unpinned         let the processes run where they like (else both share one core)
  --instructions     user-space instructions per call instead, by `valgrind --tool=callgrind`
  --write            write results.md and results.svg beside this program's sources";

pub(crate) type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let options = Options::parse()?;
    let contestants = contestants::build()?;
    let rows = rows::all().into_iter().filter(|row| options.wants(row.name));
    let mut measured = Vec::new();
    for row in rows {
        let takes_part: Vec<&Contestant> = contestants
            .iter()
            .filter(|contestant| row.contestants.contains(&contestant.name))
            .collect();
        let mut rounds = Vec::new();
        for number in 0..options.rounds {
            rounds.push(Round::run(&row, &takes_part, number, &options)?);
        }
        measured.push(report::Measured { row, rounds });
    }
    let table = report::table(&measured, &options);
    println!("{table}");
    if options.write {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        fs::write(here.join("results.md"), &table)?;
        fs::write(here.join("results.svg"), report::chart(&measured))?;
    }
    Ok(())
}

/// What the command line asks for.
pub(crate) struct Options {
    only: Vec<String>,
    pub(crate) rounds: usize,
    pub(crate) seconds: f64,
    pub(crate) pinned: bool,
    pub(crate) instructions: bool,
    write: bool,
}

impl Options {
    fn parse() -> Result<Self> {
        let mut options = Self {
            only: Vec::new(),
            rounds: 5,
            seconds: 1.0,
            pinned: true,
            instructions: false,
            write: false,
        };
        let mut args = env::args().skip(1);
        while let Some(option) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{option} wants a value"));
            match &*option {
                "--only" => options.only = value()?.split(',').map(str::to_owned).collect(),
                "--rounds" => options.rounds = value()?.parse()?,
                "--seconds" => options.seconds = value()?.parse()?,
                "--unpinned" => options.pinned = false,
                "--instructions" => (options.instructions, options.rounds) = (true, 1),
                "--write" => options.write = true,
                _ => return Err(USAGE.into()),
            }
        }
        Ok(options)
    }

    fn wants(&self, row: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| row.starts_with(&**only))
    }
}
