//! `trunkline` beside its peers and raw TCP. See the README of this folder.

#![allow(clippy::match_bool)] // two arms read better than a long `if`

mod args;
mod child;
mod contestant;
mod harness;
mod impls;
mod job;
mod load;
mod meter;
mod mux;
mod net;
mod report;
mod sample;
mod stage;
mod workload;

use std::process::ExitCode;

use args::{Args, Mode, USAGE};
use meter::allocator::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).collect();
    // The harness runs this program again for every process of a run.
    let result = child::run(&args).unwrap_or_else(|| Args::read(&args).and_then(|args| run(&args)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("versus: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    match args.mode {
        Mode::Help => print!("{USAGE}"),
        Mode::List => list(),
        Mode::Speed | Mode::SystemCalls | Mode::Instructions => {
            report::prepare(args)?;
            let groups = harness::measure(args)?;
            report::publish(args, &groups)?;
        }
    }
    Ok(())
}

fn list() {
    for workload in workload::ALL {
        println!("{:30} {}", workload.name, workload.about);
    }
    println!();
    for contestant in impls::all() {
        println!("{}", contestant.name);
    }
}
