//! The results: a table for reading, a table for keeping, a chart.

pub mod format;
mod svg;
mod table;

use std::fs;
use std::path::Path;

use crate::args::{Args, Mode};
use crate::harness::Group;

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

fn write(folder: &Path, name: &str, text: &str) -> Result<(), String> {
    let path = folder.join(name);
    fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    eprintln!("wrote {}", path.display());
    Ok(())
}
