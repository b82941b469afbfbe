//! The tables and the chart.

use std::{fmt::Write as _, fs, iter};

use kit::{
    chart::{Bar, Chart, Section},
    numbers::{duration, or_dash, ratio, significant},
    table::{Table, machine},
};

use crate::{
    Result,
    args::{Args, Mode},
    contestants::{self, Standing, standing},
    rows::{Load, Row},
    schedule::{Entry, Group},
};

/// Makes the folder for the results: that it cannot be made is better known before a long run.
pub(crate) fn prepare(args: &Args) -> Result<()> {
    if let Some(folder) = &args.output {
        fs::create_dir_all(folder)?;
    }
    Ok(())
}

/// Prints the results and writes them where `args` say.
pub(crate) fn publish(args: &Args, groups: &[Group]) -> Result<()> {
    let (name, report) = match args.mode {
        Mode::SystemCalls => ("results-syscalls.md", per_call(groups, "System calls")),
        Mode::Instructions => {
            ("results-instructions.md", per_call(groups, "Instructions in user space"))
        }
        _ => ("results.md", speed(args, groups)),
    };
    println!("{report}");
    if let Some(folder) = &args.output {
        fs::write(folder.join(name), &report)?;
        if args.mode == Mode::Speed {
            fs::write(folder.join("results.svg"), chart(groups))?;
        }
        eprintln!("wrote {}", folder.join(name).display());
    }
    Ok(())
}

fn speed(args: &Args, groups: &[Group]) -> String {
    let mut text = String::from("# Calls and requests beside those of the peers\n\n");
    let _ = writeln!(
        text,
        "Medians of {} round{} of {} s each; ratios are medians of the ratios within a round. {}\n",
        args.rounds,
        if args.rounds == 1 { "" } else { "s" },
        args.seconds,
        machine()
    );
    text.push_str("## × best peer\n\n*Pinned to one core* / unpinned.\n\n");
    text.push_str(&overview(groups));
    for group in groups {
        text.push_str(&details(group));
    }
    text
}

/// A line per row, a column per contestant.
fn overview(groups: &[Group]) -> String {
    let names = names(groups);
    let mut table = Table::new(iter::once("row").chain(names.iter().copied()));
    for row in rows(groups) {
        let cell = |name: &&str| {
            let [pinned, unpinned] = times_best_peer(groups, row, name).map(|x| x.map(ratio));
            match (pinned, unpinned) {
                (Some(pinned), Some(unpinned)) => format!("*{pinned}* / {unpinned}"),
                (Some(pinned), None) => format!("*{pinned}*"),
                (None, unpinned) => unpinned.unwrap_or_default(),
            }
        };
        table.add(iter::once(row.name.to_owned()).chain(names.iter().map(cell)));
    }
    table.to_string()
}

/// Pinned and unpinned.
fn times_best_peer(groups: &[Group], row: &Row, name: &str) -> [Option<f64>; 2] {
    [true, false].map(|pinned| {
        let is = |group: &&Group| group.row.name == row.name && group.pinned == pinned;
        let group = groups.iter().find(is)?;
        group.times_best_peer(group.entry(name)?)
    })
}

/// A line per contestant, a column per figure.
fn details(group: &Group) -> String {
    let row = &group.row;
    let place = if group.pinned { "pinned" } else { "unpinned" };
    let compared = |entry: &&Entry| standing(entry.name) != Standing::Ours;
    let others: Vec<_> = group.entries.iter().filter(compared).map(|entry| entry.name).collect();
    let calls = matches!(row.load, Load::Calls(_));

    let mut titles = vec![String::new(), "rate".to_owned()];
    titles.extend(others.iter().map(|name| format!("× {name}")));
    titles.extend(["p50", "p99", "longest"].map(str::to_owned).into_iter().filter(|_| calls));
    titles.push(format!("allocations per {}", row.thing()));

    let mut table = Table::new(titles.iter().map(String::as_str));
    for entry in &group.entries {
        let rate = or_dash(entry.median(|outcome| outcome.rate), |rate| row.rate(rate));
        let mut cells = vec![entry.name.to_owned(), rate];
        cells.extend(others.iter().map(|name| or_dash(group.times(entry, name), ratio)));
        if calls {
            cells.push(duration(entry.median(|outcome| outcome.p50)));
            cells.push(duration(entry.median(|outcome| outcome.p99)));
            cells.push(duration(entry.median(|outcome| outcome.longest)));
        }
        cells.push(allocations(entry));
        table.add(cells.into_iter());
    }
    format!("\n## {}, {place}\n\n{}.\n\n{table}", row.name, row.about)
}

/// Of the client, and of the server.
fn allocations(entry: &Entry) -> String {
    or_dash(entry.allocations, |[client, server]| {
        let [client, server, both] = [client, server, client + server].map(significant);
        format!("{client} + {server} = {both}")
    })
}

/// One figure, a line per row and a column per contestant.
fn per_call(groups: &[Group], title: &str) -> String {
    let names = names(groups);
    let mut table = Table::new(["row", "per"].into_iter().chain(names.iter().copied()));
    for group in groups {
        let cell = |name: &&str| {
            let entry = group.entry(name);
            entry.map_or_else(String::new, |entry| or_dash(entry.per_call, significant))
        };
        let head = [group.row.name, group.row.thing()].map(str::to_owned);
        table.add(head.into_iter().chain(names.iter().map(cell)));
    }
    format!("# {title} per call or message, client and server\n\n{}\n\n{table}", machine())
}

/// A bar per contestant, against the best peer.
fn chart(groups: &[Group]) -> String {
    let section = |row: &Row| Section {
        title: row.name,
        bars: names(groups)
            .into_iter()
            .map(|name| (name, times_best_peer(groups, row, name)))
            .filter(|(_, times)| times.iter().any(Option::is_some))
            .map(|(name, [pinned, unpinned])| Bar { name, pinned, unpinned })
            .collect(),
    };
    let title = "× best peer: bars pinned to one core, rings unpinned; right is faster";
    Chart {
        title: title.into(),
        label: "Calls per second as a multiple of the best peer's".into(),
        reference: "best peer",
        names: names(groups),
        sections: rows(groups).into_iter().map(section).collect(),
        colour,
    }
    .svg()
}

/// Ours stands out.
fn colour(name: &str) -> &'static str {
    match name {
        "trunkline-rpc" | "trunkline-sp" => "#e8590c",
        "trunkline-sp-mux" => "#f08c00",
        "tarpc" => "#4c6ef5",
        "tonic" => "#15aabf",
        "capnp" => "#9775fa",
        "nng" => "#40c057",
        _ => "#868e96",
    }
}

/// The rows that ran, each once.
fn rows(groups: &[Group]) -> Vec<&Row> {
    let mut rows: Vec<_> = groups.iter().map(|group| &group.row).collect();
    rows.dedup_by_key(|row| row.name);
    rows
}

/// The contestants that ran, each once, in the order of their list.
fn names(groups: &[Group]) -> Vec<&'static str> {
    let ran = |name: &&'static str| groups.iter().any(|group| group.entry(name).is_some());
    contestants::names().filter(ran).collect()
}
