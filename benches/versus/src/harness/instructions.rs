//! User-space instructions per unit, of both sides in one process, for a fixed amount of work.
//!
//! Each contestant runs twice, with once and three times the work: the difference is free of start and end.

use std::process::Stdio;

use super::run::own_command;
use super::{Group, group};
use crate::args::Args;
use crate::job::Job;
use crate::sample::{Sample, key};
use crate::workload::Workload;

pub(super) fn measure(args: &Args) -> Result<Vec<Group>, String> {
    let fixed = args.workloads.iter().filter(|workload| workload.fixed > 0);
    let mut groups: Vec<_> = fixed.map(|workload| group(args, workload, true)).collect();
    for group in &mut groups {
        for row in &mut group.rows {
            eprint!("{} {}: ", group.workload.name, row.name);
            let per_unit = per_unit(args, &group.workload, row.name)?;
            eprintln!("{per_unit:.0} instructions per {}", group.workload.unit.name);
            let mut sample = Sample::default();
            sample.put(key::INSTRUCTIONS, per_unit);
            row.rounds.push(Some(sample));
        }
    }
    Ok(groups)
}

fn per_unit(args: &Args, workload: &Workload, contestant: &str) -> Result<f64, String> {
    let job = |limit| Job {
        contestant: contestant.into(),
        workload: workload.name.into(),
        core: args.pinned,
        limit,
        ..args.job.clone()
    };
    let once = collect(&job(workload.fixed))?;
    let thrice = collect(&job(workload.fixed * 3))?;
    let units =
        workload.load.bytes_or_operations(workload.fixed * 2) as f64 / workload.unit.size as f64;
    Ok(thrice.saturating_sub(once) as f64 / units)
}

/// The instructions of one run.
fn collect(job: &Job) -> Result<u64, String> {
    let program = own_command()?;
    let valgrind = std::process::Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program.get_program())
        .arg("solo")
        .args(job.to_args())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    let said = String::from_utf8_lossy(&valgrind.stderr);
    if !valgrind.status.success() {
        return Err(format!("the program failed under valgrind:\n{said}"));
    }
    let collected = said.lines().find_map(|line| line.split_once("Collected :"));
    collected
        .and_then(|(_, count)| count.trim().parse().ok())
        .ok_or_else(|| "valgrind collected nothing".into())
}
