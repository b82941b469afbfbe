//! Round trips of `trunkline`'s request/reply sockets beside nng's C library. See the README of
//! this folder.

mod harness;
mod job;
mod nng;
mod report;
mod sockets;

use std::{path::Path, process::ExitCode};

use job::{Job, Party};

const USAGE: &str = "\
usage: versus-sp [--quick] [--rounds N] [--seconds S] [--only TEXT] [--pinned | --unpinned]

  --quick      one short round: proves that it runs, measures nothing, writes nothing
  --rounds     rounds, each with every contestant (9)
  --seconds    how long each run is measured (1)
  --only       workloads whose name contains the text; writes nothing
  --pinned     only with both processes on one core; writes nothing
  --unpinned   only where the scheduler likes; writes nothing";

/// What to measure.
pub struct Args {
    rounds: usize,
    seconds: f64,
    only: String,
    placements: Vec<bool>,
    whole: bool,
}

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).collect();
    // The harness runs this program again for each side of a run.
    let done = match args.first().map(String::as_str) {
        Some("serve") => Party::parse(&args[1..]).and_then(|party| serve(&party)),
        Some("ask") => Party::parse(&args[1..]).and_then(|party| ask(&party)),
        _ => match parse(&args) {
            Some(args) => compare(&args),
            None => Err(USAGE.into()),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(args: &[String]) -> Option<Args> {
    let mut parsed = Args {
        rounds: 9,
        seconds: 1.0,
        only: String::new(),
        placements: vec![true, false],
        whole: true,
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--help" => return None,
            "--quick" => (parsed.rounds, parsed.seconds, parsed.whole) = (1, 0.2, false),
            "--rounds" => parsed.rounds = args.next()?.parse().ok().filter(|rounds| *rounds > 0)?,
            "--seconds" => {
                parsed.seconds =
                    args.next()?.parse().ok().filter(|it| (0.01..3600.0).contains(it))?;
            }
            "--only" => (parsed.only, parsed.whole) = (args.next()?.clone(), false),
            "--pinned" => (parsed.placements, parsed.whole) = (vec![true], false),
            "--unpinned" => (parsed.placements, parsed.whole) = (vec![false], false),
            _ => return None,
        }
    }
    Some(parsed)
}

fn compare(args: &Args) -> job::Result<()> {
    let groups = harness::measure(args)?;
    let table = report::table(args, &groups);
    println!("{table}");
    if args.whole {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        std::fs::write(folder.join("results.md"), table)?;
        std::fs::write(folder.join("results.svg"), report::chart(&groups))?;
        eprintln!("wrote {}/results.md and results.svg", folder.display());
    }
    Ok(())
}

fn serve(party: &Party) -> job::Result<()> {
    party.take_place()?;
    match party.job.contestant {
        "nng" => nng::serve(party),
        _ => sockets::serve(party),
    }
}

fn ask(party: &Party) -> job::Result<()> {
    party.take_place()?;
    let sample = match party.job.contestant {
        "nng" => nng::ask(party)?,
        _ => sockets::ask(party)?,
    };
    println!("{sample}");
    Ok(())
}

/// Who competes; the first is what the others are compared with.
const CONTESTANTS: [&str; 3] = ["nng", "trunkline", "trunkline-mux"];

/// Size of a request and of its reply, and how many contexts ask at once.
const WORKLOADS: [(usize, usize); 4] = [(64, 1), (64, 256), (64 << 10, 1), (64 << 10, 256)];

/// Every run of a round.
fn jobs(size: usize, contexts: usize, pinned: bool) -> [Job; CONTESTANTS.len()] {
    CONTESTANTS.map(|contestant| Job { contestant, size, contexts, pinned })
}
