//! Builds every contestant by itself, lets them take turns within each round, and writes the table
//! and the chart. See the README of this folder.

#![allow(clippy::match_bool)] // two arms read better than a long `if`

mod args;
mod contestants;
mod report;
mod rows;
mod run;
mod schedule;

use std::{error::Error, process::ExitCode};

use args::{Args, Mode, USAGE};

pub(crate) type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    match args::from_env().and_then(|args| act(&args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("calls: {error}");
            ExitCode::FAILURE
        }
    }
}

fn act(args: &Args) -> Result<()> {
    match args.mode {
        Mode::Help => print!("{USAGE}"),
        Mode::List => list(),
        Mode::Speed | Mode::SystemCalls | Mode::Instructions => {
            report::prepare(args)?;
            let groups = schedule::measure(args)?;
            report::publish(args, &groups)?;
        }
    }
    Ok(())
}

fn list() {
    for row in rows::all() {
        println!("{:12} {} ({})", row.name, row.about, row.contestants.join(", "));
    }
}
