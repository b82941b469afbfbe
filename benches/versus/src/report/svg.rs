//! The chart of all groups that compare with raw TCP.

use kit::chart::{Bar, Chart, Section};

use super::format::figure_key;
use super::names;
use crate::harness::{Group, Row};
use crate::mux::Standing;
use crate::workload::Figure;

/// The chart.
pub(super) fn chart(groups: &[Group]) -> String {
    let sections = sections(groups);
    let has = |section: &Section, name| section.bars.iter().any(|bar| bar.name == name);
    let names = names(groups, |row| sections.iter().any(|section| has(section, row.name)));
    let title = "× raw TCP: bars pinned to one core, rings unpinned; right is faster (for latencies: lower p99)";
    let label = "Speed as a multiple of raw TCP, per workload and implementation";
    Chart {
        title: title.into(),
        label: label.into(),
        reference: "raw TCP",
        names,
        sections,
        colour,
    }
    .svg()
}

fn sections(groups: &[Group]) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let charted = groups
        .iter()
        .filter(|group| matches!(group.workload.figure, Figure::Rate | Figure::TailLatency));
    for group in charted {
        let title = group.workload.name;
        if sections.last().is_none_or(|section| section.title != title) {
            sections.push(Section { title, bars: Vec::new() });
        }
        if let Some(section) = sections.last_mut() {
            group.rows.iter().for_each(|row| enter(section, group, row));
        }
    }
    sections.retain(|section| !section.bars.is_empty());
    sections
}

fn enter(section: &mut Section, group: &Group, row: &Row) {
    if matches!(row.standing, Standing::Baseline | Standing::Reference) {
        return;
    }
    let Some(speed) = speed(group, row) else {
        return;
    };
    let bars = &mut section.bars;
    let index = bars.iter().position(|bar| bar.name == row.name).unwrap_or_else(|| {
        bars.push(Bar { name: row.name, pinned: None, unpinned: None });
        bars.len() - 1
    });
    let bar = &mut bars[index];
    *(if group.pinned { &mut bar.pinned } else { &mut bar.unpinned }) = Some(speed);
}

/// How many times as fast as raw TCP; a latency counts by its inverse, so that right is always better.
fn speed(group: &Group, row: &Row) -> Option<f64> {
    let ratio =
        group.ratio_to_raw(row, figure_key(group.workload.figure)).filter(|ratio| *ratio > 0.0)?;
    Some(if group.workload.more_is_better() { ratio } else { 1.0 / ratio })
}

/// Ours stands out; a new contestant gets a colour by its name until it is given one here.
fn colour(name: &str) -> &'static str {
    match name {
        "trunkline" => "#e8590c",
        "trunkline-chunks" => "#f08c00",
        "yamux" => "#4c6ef5",
        "tokio-yamux" => "#15aabf",
        "tokio-yamux-large" => "#3bc9db",
        "h2" => "#748ffc",
        "h2-large" => "#9775fa",
        other => OTHERS[other.len() % OTHERS.len()],
    }
}

const OTHERS: [&str; 4] = ["#40c057", "#868e96", "#e64980", "#82c91e"];
