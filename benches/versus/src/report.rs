//! The results: a table for reading, a table for keeping, a chart.

pub mod format;
mod svg;
mod table;

use std::fs;
use std::path::Path;

use crate::args::{Args, Mode};
use crate::harness::{Group, Row};
use crate::impls;

/// Makes the folder for the results: that it cannot be made is better known before a long run.
pub fn prepare(args: &Args) -> Result<(), String> {
    let Some(folder) = &args.output else { return Ok(()) };
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))
}

/// Prints the results and writes them where `args` say.
pub fn publish(args: &Args, groups: &[Group]) -> Result<(), String> {
    let report = table::report(args, groups);
    println!("{report}");
    let Some(folder) = &args.output else {
        return Ok(());
    };
    match args.mode {
        Mode::SystemCalls => write(folder, "results-syscalls.md", &report),
        Mode::Instructions => write(folder, "results-instructions.md", &report),
        _ => {
            write(folder, "results.md", &report)?;
            write(folder, "results.svg", &svg::chart(groups))
        }
    }
}

/// The contestants with a row that is wanted, each once, in the order of their list.
fn names(groups: &[Group], wanted: impl Fn(&Row) -> bool) -> Vec<&'static str> {
    let rows = || groups.iter().flat_map(|group| &group.rows).filter(|row| wanted(row));
    let all = impls::all().into_iter().map(|contestant| contestant.name);
    all.filter(|name| rows().any(|row| row.name == *name)).collect()
}

fn write(folder: &Path, name: &str, text: &str) -> Result<(), String> {
    let path = folder.join(name);
    fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    eprintln!("wrote {}", path.display());
    Ok(())
}
