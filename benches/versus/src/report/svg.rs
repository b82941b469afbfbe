//! The chart: for every workload a bar per contestant, growing to the right of raw TCP where it is faster and to the
//! left where it is slower, on a logarithmic scale.
//!
//! Bars are the pinned figures, the steadier ones; a ring marks the unpinned one. Colours work on light and dark pages.

use std::fmt::Write as _;

use super::format::{figure_key, ratio};
use super::names;
use crate::harness::{Group, Row};
use crate::mux::Standing;
use crate::workload::Figure;

/// The chart of all groups that compare with raw TCP.
pub(super) fn chart(groups: &[Group]) -> String {
    let sections = sections(groups);
    let names = names(groups, |row| sections.iter().any(|section| section.has(row.name)));
    let scale = Scale::over(
        sections
            .iter()
            .flat_map(|section| &section.bars)
            .flat_map(|bar| [bar.pinned, bar.unpinned]),
    );
    let mut body = String::new();
    let mut y = legend(&mut body, &names);
    let top = y;
    for section in &sections {
        y = draw_section(&mut body, section, &names, &scale, y);
    }
    let axis = axis(&scale, top, y);
    let height = y + 34.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" aria-label=\"Speed as a multiple of raw TCP, per workload and implementation\">\n{STYLE}{axis}{body}</svg>\n"
    )
}

struct Section {
    title: &'static str,
    bars: Vec<Bar>,
}

struct Bar {
    name: &'static str,
    pinned: Option<f64>,
    unpinned: Option<f64>,
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
            group.rows.iter().for_each(|row| section.enter(group, row));
        }
    }
    sections.retain(|section| !section.bars.is_empty());
    sections
}

impl Section {
    fn has(&self, name: &str) -> bool {
        self.bars.iter().any(|bar| bar.name == name)
    }

    fn enter(&mut self, group: &Group, row: &Row) {
        if matches!(row.standing, Standing::Baseline | Standing::Reference) {
            return;
        }
        let Some(speed) = speed(group, row) else {
            return;
        };
        let index = self.bars.iter().position(|bar| bar.name == row.name).unwrap_or_else(|| {
            self.bars.push(Bar { name: row.name, pinned: None, unpinned: None });
            self.bars.len() - 1
        });
        let bar = &mut self.bars[index];
        *(if group.pinned { &mut bar.pinned } else { &mut bar.unpinned }) = Some(speed);
    }
}

/// How many times as fast as raw TCP; a latency counts by its inverse, so that right is always better.
fn speed(group: &Group, row: &Row) -> Option<f64> {
    let ratio =
        group.ratio_to_raw(row, figure_key(group.workload.figure)).filter(|ratio| *ratio > 0.0)?;
    Some(if group.workload.more_is_better() { ratio } else { 1.0 / ratio })
}

/// Ratios to positions, logarithmically.
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    fn over(ratios: impl Iterator<Item = Option<f64>>) -> Self {
        let (mut low, mut high) = (0.25_f64, 4.0_f64);
        for ratio in ratios.flatten() {
            low = low.min(ratio);
            high = high.max(ratio);
        }
        // Room for the figures beyond the ends of the bars. What is far slower than raw TCP is cut off: its figure says
        // how slow, and the others keep their width.
        Self { low: low.max(SLOWEST) / 1.5, high: high * 1.5 }
    }

    fn x(&self, ratio: f64) -> f64 {
        LEFT + (ratio.max(self.low * 1.5) / self.low).ln() / (self.high / self.low).ln()
            * (WIDTH - RIGHT - LEFT)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let powers =
            (-4..=4).flat_map(|power| [1.0, 2.0, 5.0].map(|step| step * 10_f64.powi(power)));
        powers.filter(|tick| (self.low..=self.high).contains(tick))
    }
}

fn legend(out: &mut String, names: &[&str]) -> f64 {
    let mut x = MARGIN;
    let mut y = 22.0;
    let _ = writeln!(
        out,
        "<text class=\"title\" x=\"{MARGIN}\" y=\"{y}\">× raw TCP: bars pinned to one core, rings unpinned; right is faster \
         (for latencies: lower p99)</text>"
    );
    y += 24.0;
    for name in names {
        let width = 34.0 + 7.6 * name.len() as f64;
        if x + width > WIDTH - MARGIN {
            (x, y) = (MARGIN, y + 20.0);
        }
        let _ = writeln!(
            out,
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"12\" height=\"12\" rx=\"2\" fill=\"{}\"/>",
            y - 10.0,
            colour(name)
        );
        let _ = writeln!(out, "<text x=\"{:.1}\" y=\"{y:.1}\">{name}</text>", x + 17.0);
        x += width;
    }
    y + 18.0
}

fn draw_section(
    out: &mut String,
    section: &Section,
    names: &[&str],
    scale: &Scale,
    top: f64,
) -> f64 {
    let mut y = top + GAP / 2.0;
    let height = section.bars.len() as f64 * PITCH;
    let middle = y + height / 2.0 + 4.0;
    let _ = writeln!(
        out,
        "<text class=\"workload\" x=\"{MARGIN}\" y=\"{middle:.1}\">{}</text>",
        section.title
    );
    // In the order of the legend, whatever ran first.
    for bar in names.iter().filter_map(|name| section.bars.iter().find(|bar| bar.name == *name)) {
        draw_bar(out, bar, scale, y);
        y += PITCH;
    }
    y + GAP / 2.0
}

fn draw_bar(out: &mut String, bar: &Bar, scale: &Scale, y: f64) {
    let fill = colour(bar.name);
    let Some(value) = bar.pinned.or(bar.unpinned) else {
        return;
    };
    let (raw, end) = (scale.x(1.0), scale.x(value));
    let (from, to) = (raw.min(end), raw.max(end));
    let _ = writeln!(
        out,
        "<rect x=\"{from:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{THICK}\" rx=\"1.5\" fill=\"{fill}\"><title>{} {}</title></rect>",
        (to - from).max(1.0),
        bar.name,
        ratio(value)
    );
    let mut label = (from, to);
    if let (Some(_), Some(unpinned)) = (bar.pinned, bar.unpinned) {
        let x = scale.x(unpinned);
        let _ = writeln!(
            out,
            "<circle class=\"ring\" cx=\"{x:.1}\" cy=\"{:.1}\" r=\"3\" stroke=\"{fill}\"><title>{} unpinned {}</title></circle>",
            y + THICK / 2.0,
            bar.name,
            ratio(unpinned)
        );
        label = (from.min(x - 3.0), to.max(x + 3.0));
    }
    let (x, anchor) = if end >= raw { (label.1 + 4.0, "start") } else { (label.0 - 4.0, "end") };
    let _ = writeln!(
        out,
        "<text class=\"value\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
        y + THICK - 1.5,
        ratio(value)
    );
}

fn axis(scale: &Scale, top: f64, bottom: f64) -> String {
    let mut out = String::new();
    for tick in scale.ticks() {
        let x = scale.x(tick);
        let class = if tick == 1.0 { "raw" } else { "grid" };
        let label = if tick == 1.0 { "raw TCP".into() } else { format!("{tick}") };
        let _ = writeln!(
            out,
            "<line class=\"{class}\" x1=\"{x:.1}\" y1=\"{top}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\"/>"
        );
        let _ = writeln!(
            out,
            "<text class=\"value\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
            bottom + 16.0
        );
    }
    out
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

const STYLE: &str = "<style>
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title, .workload { font-weight: 600 }
.value { font-size: 10px; fill: #59636e }
.grid { stroke: #d1d9e0; stroke-width: 1 }
.raw { stroke: #59636e; stroke-width: 1.5 }
.ring { fill: #ffffff; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc }
  .value { fill: #9198a1 }
  .grid { stroke: #3d444d }
  .raw { stroke: #9198a1 }
  .ring { fill: #0d1117 }
}
</style>
";

/// The slowest that is drawn to scale.
const SLOWEST: f64 = 0.1;

const WIDTH: f64 = 960.0;
const MARGIN: f64 = 16.0;
const LEFT: f64 = 220.0;
const RIGHT: f64 = 24.0;
const THICK: f64 = 10.0;
const PITCH: f64 = 12.0;
const GAP: f64 = 14.0;
