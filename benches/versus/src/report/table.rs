//! Tables that are Markdown and, columns aligned, fit to be read as they are.

use std::fmt::Write as _;

use kit::numbers::{duration, or_dash, ratio, significant};
use kit::table::{Table, machine};

use super::format::{figure_key, rate};
use super::names;
use crate::args::{Args, Mode};
use crate::harness::{Group, Row};
use crate::mux::Standing;
use crate::sample::key;
use crate::workload::{Figure, Workload};

/// Everything worth printing.
pub(super) fn report(args: &Args, groups: &[Group]) -> String {
    match args.mode {
        Mode::SystemCalls => per_unit(groups, "System calls", key::SYSTEM_CALLS),
        Mode::Instructions => per_unit(groups, "Instructions in user space", key::INSTRUCTIONS),
        _ => speed(args, groups),
    }
}

fn speed(args: &Args, groups: &[Group]) -> String {
    let mut text = String::from("# trunkline beside its peers\n\n");
    let _ = writeln!(text, "{}\n", circumstances(args));
    text.push_str("## × raw TCP\n\n*Pinned to one core* / unpinned. Latency and heap are multiples of raw TCP's, so less is better there; of fairness the figure itself is shown.\n\n");
    text.push_str(&overview(groups));
    for group in groups {
        text.push_str(&details(group));
    }
    text
}

fn circumstances(args: &Args) -> String {
    format!(
        "Medians of {} round{} of {} s each; ratios are medians of the ratios within a round. {}{}",
        args.rounds,
        if args.rounds == 1 { "" } else { "s" },
        args.job.measure.as_secs_f64(),
        machine(),
        match args.workers {
            Some(workers) => format!(" Runtimes with {workers} workers on each side."),
            None => String::new(),
        }
    )
}

/// A row per workload, a column per contestant.
fn overview(groups: &[Group]) -> String {
    let names = names(groups, |row| row.standing != Standing::Baseline);
    let mut table = Table::new(std::iter::once("workload").chain(names.iter().copied()));
    for workload in workloads(groups) {
        let cell = |name: &&str| {
            let shown = |pinned| {
                find(groups, workload, pinned, name).and_then(|(group, row)| comparison(group, row))
            };
            match (shown(true), shown(false)) {
                (Some(pinned), Some(unpinned)) => format!("*{pinned}* / {unpinned}"),
                (Some(pinned), None) => format!("*{pinned}*"),
                (None, Some(unpinned)) => unpinned,
                (None, None) => String::new(),
            }
        };
        table.add(std::iter::once(workload.to_owned()).chain(names.iter().map(cell)));
    }
    table.to_string()
}

fn comparison(group: &Group, row: &Row) -> Option<String> {
    let key = figure_key(group.workload.figure);
    let value = match group.workload.figure {
        Figure::Evenness => row.median(key),
        _ => group.ratio_to_raw(row, key),
    };
    value.map(ratio)
}

/// The workloads that ran, each once.
fn workloads(groups: &[Group]) -> Vec<&'static str> {
    let mut names: Vec<_> = groups.iter().map(|group| group.workload.name).collect();
    names.dedup();
    names
}

fn find<'a>(
    groups: &'a [Group],
    workload: &str,
    pinned: bool,
    name: &str,
) -> Option<(&'a Group, &'a Row)> {
    let group =
        groups.iter().find(|group| group.workload.name == workload && group.pinned == pinned)?;
    Some((group, group.rows.iter().find(|row| row.name == name)?))
}

/// A row per contestant, a column per figure.
fn details(group: &Group) -> String {
    let workload = &group.workload;
    let place = if group.pinned { "pinned" } else { "unpinned" };
    let columns = columns(workload);
    let mut table =
        Table::new(std::iter::once("").chain(columns.iter().map(|column| column.title.as_str())));
    for row in &group.rows {
        table.add(
            std::iter::once(row.name.to_owned())
                .chain(columns.iter().map(|column| (column.cell)(group, row))),
        );
    }
    format!("\n## {}, {place}\n\n{}.\n\n{table}", workload.name, capitalized(workload.about))
}

struct Column {
    title: String,
    cell: fn(&Group, &Row) -> String,
}

fn columns(workload: &Workload) -> Vec<Column> {
    let column = |title: &str, cell| Column { title: title.into(), cell };
    let mut columns = match workload.figure {
        Figure::Heap => vec![
            column("streams", |_, row| or_dash(row.median(key::STREAMS), significant)),
            column("bytes per stream", |_, row| or_dash(row.median(key::HEAP), significant)),
        ],
        Figure::Evenness => {
            vec![column("slowest ÷ fastest", |_, row| or_dash(row.median(key::EVENNESS), ratio))]
        }
        Figure::Rate | Figure::TailLatency => Vec::new(),
    };
    if workload.figure != Figure::Heap {
        columns.push(column(rate_title(workload), |group, row| {
            rate(row.median(key::RATE), &group.workload)
        }));
    }
    if workload.figure == Figure::TailLatency || workload.name == "pingpong" {
        columns.push(column("p50", |_, row| duration(row.median(key::P50))));
        columns.push(column("p99", |_, row| duration(row.median(key::P99))));
    }
    if workload.figure != Figure::Evenness {
        columns.push(column("× raw", |group, row| compare(group, row, Group::ratio_to_raw)));
        columns.push(column("× best peer", |group, row| {
            compare(group, row, Group::ratio_to_best_peer)
        }));
    }
    if workload.figure == Figure::Heap {
        columns.push(column("first opens", |_, row| {
            duration(row.median(key::OPEN_FIRST).map(|micros| micros / 1e6))
        }));
        columns.push(column("last opens", |_, row| {
            duration(row.median(key::OPEN_LAST).map(|micros| micros / 1e6))
        }));
        columns.push(column("last ÷ first", |_, row| growth(row)));
    }
    columns.push(Column {
        title: format!("CPU per {}", workload.unit.name),
        cell: |_, row| duration(row.median(key::CPU)),
    });
    columns.push(Column {
        title: format!("allocations per {}", workload.unit.name),
        cell: |_, row| or_dash(row.allocations(), significant),
    });
    columns
}

fn rate_title(workload: &Workload) -> &'static str {
    match workload.figure {
        Figure::TailLatency => "bulk beside it",
        _ => "rate",
    }
}

fn compare(group: &Group, row: &Row, by: fn(&Group, &Row, &str) -> Option<f64>) -> String {
    or_dash(by(group, row, figure_key(group.workload.figure)), ratio)
}

fn growth(row: &Row) -> String {
    let (first, last) = (row.median(key::OPEN_FIRST), row.median(key::OPEN_LAST));
    or_dash(first.zip(last).map(|(first, last)| last / first), ratio)
}

/// One figure, a row per workload and a column per contestant.
fn per_unit(groups: &[Group], title: &str, key: &str) -> String {
    let names = names(groups, |_| true);
    let mut table = Table::new(["workload", "per"].into_iter().chain(names.iter().copied()));
    for group in groups {
        let cell = |name: &&str| {
            let row = group.rows.iter().find(|row| row.name == *name);
            row.map_or_else(String::new, |row| or_dash(row.median(key), significant))
        };
        let head = [group.workload.name.to_owned(), group.workload.unit.name.to_owned()];
        table.add(head.into_iter().chain(names.iter().map(cell)));
    }
    format!("# {title} per unit of work, client and server\n\n{}\n\n{table}", machine())
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
