//! The results: a table that is Markdown and fit to be read as it is, and a chart in the look of
//! the other one.

use std::fmt::Write as _;

use crate::{Args, CONTESTANTS, harness::Group, job::Sample};

pub fn table(args: &Args, groups: &[Group]) -> String {
    let mut text = format!(
        "# Round trips beside nng\n\nMedians of {} round{} of {} s each; ratios are medians of the \
         ratios within a round. {}\n\n",
        args.rounds,
        if args.rounds == 1 { "" } else { "s" },
        args.seconds,
        machine(),
    );
    let titles = ["", "", "round trips/s", "× nng", "p50", "p99", "p99 × nng"];
    let mut rows = vec![titles.map(str::to_owned)];
    for group in groups {
        for (index, name) in CONTESTANTS.into_iter().enumerate() {
            rows.push([
                if index == 0 { group.title() } else { String::new() },
                name.to_owned(),
                grouped(group.median(index, rate)),
                format!("{:.2}", group.ratio(index, rate)),
                micros(group.median(index, |sample| sample.p50)),
                micros(group.median(index, p99)),
                format!("{:.2}", group.ratio(index, p99)),
            ]);
        }
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; 7] = std::array::from_fn(|column| width(column).unwrap_or(0).max(3));
    for (index, row) in rows.iter().enumerate() {
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let _ = match column {
                0 | 1 => write!(text, "| {cell:width$} "),
                _ => write!(text, "| {cell:>width$} "),
            };
        }
        text.push_str("|\n");
        if index == 0 {
            for (column, width) in widths.into_iter().enumerate() {
                let right = if column < 2 { "-" } else { ":" };
                let _ = write!(text, "|{}{right}", "-".repeat(width + 1));
            }
            text.push_str("|\n");
        }
    }
    text
}

const fn rate(sample: &Sample) -> f64 {
    sample.rate
}

const fn p99(sample: &Sample) -> f64 {
    sample.p99
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    format!("{}, {cores} cores.", model.map_or("unknown processor", |(_, model)| model))
}

fn micros(seconds: f64) -> String {
    match seconds * 1e6 {
        micros if micros < 100.0 => format!("{micros:.1} µs"),
        micros => format!("{} µs", grouped(micros)),
    }
}

/// "12,345".
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A bar for each contestant but nng, growing to the right of nng where it is faster, on a
/// logarithmic scale. Bars are pinned; a ring marks the unpinned figure.
pub fn chart(groups: &[Group]) -> String {
    let pinned: Vec<_> = groups.iter().filter(|group| group.pinned).collect();
    let top = 64.0;
    let bottom = top + pinned.len() as f64 * SECTION;
    let mut body = String::new();
    for tick in [0.5, 1.0, 2.0, 5.0, 10.0, 20.0] {
        let (class, label) =
            if tick == 1.0 { ("raw", "nng".into()) } else { ("grid", tick.to_string()) };
        let (x, y) = (x(tick), bottom + 16.0);
        let _ = write!(
            body,
            "<line class=\"{class}\" x1=\"{x:.1}\" y1=\"{top}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\"/>\n\
             <text class=\"value\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{label}</text>\n",
        );
    }
    let mut left = MARGIN;
    for (name, colour) in CONTESTANTS.into_iter().zip(COLOURS).skip(1) {
        let _ = write!(
            body,
            "<rect x=\"{left:.1}\" y=\"36\" width=\"12\" height=\"12\" rx=\"2\" fill=\"{colour}\"/>\n\
             <text x=\"{:.1}\" y=\"46\">{name}</text>\n",
            left + 17.0,
        );
        left += 34.0 + 7.6 * name.len() as f64;
    }
    for (section, group) in pinned.into_iter().enumerate() {
        let y = top + section as f64 * SECTION + 7.0;
        let unpinned = groups.iter().find(|other| !other.pinned && other.name() == group.name());
        let _ = writeln!(
            body,
            "<text class=\"workload\" x=\"{MARGIN}\" y=\"{:.1}\">{}</text>",
            y + PITCH + 4.0,
            group.name(),
        );
        for index in 1..CONTESTANTS.len() {
            let ring = unpinned.map(|group| group.ratio(index, rate));
            bar(&mut body, index, group.ratio(index, rate), ring, y + PITCH * (index - 1) as f64);
        }
    }
    let height = bottom + 34.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\" aria-label=\"Round trips per second as a multiple of nng's\">\n\
         {STYLE}<text class=\"title\" x=\"{MARGIN}\" y=\"22\">Round trips per second, × nng: bars pinned \
         to one core, rings unpinned; right is faster</text>\n{body}</svg>\n"
    )
}

fn bar(body: &mut String, index: usize, value: f64, ring: Option<f64>, y: f64) {
    let (name, fill) = (CONTESTANTS[index], COLOURS[index]);
    let (nng, end) = (x(1.0), x(value));
    let _ = writeln!(
        body,
        "<rect x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"10\" rx=\"1.5\" fill=\"{fill}\">\
         <title>{name} {value:.2}</title></rect>",
        nng.min(end),
        (nng - end).abs().max(1.0),
    );
    let mut label = nng.max(end);
    if let Some(unpinned) = ring {
        let x = x(unpinned);
        label = label.max(x + 3.0);
        let _ = writeln!(
            body,
            "<circle class=\"ring\" cx=\"{x:.1}\" cy=\"{:.1}\" r=\"3\" stroke=\"{fill}\"><title>{name} \
             unpinned {unpinned:.2}</title></circle>",
            y + 5.0,
        );
    }
    let (x, y) = (label + 4.0, y + 8.5);
    let _ = writeln!(body, "<text class=\"value\" x=\"{x:.1}\" y=\"{y:.1}\">{value:.2}</text>");
}

/// From a third of nng's speed to thirty times.
fn x(ratio: f64) -> f64 {
    let share = (ratio.clamp(0.33, 30.0) / 0.33).ln() / (30.0_f64 / 0.33).ln();
    LEFT + share * (WIDTH - LEFT - 40.0)
}

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

const COLOURS: [&str; CONTESTANTS.len()] = ["#4c6ef5", "#e8590c", "#f08c00"];
const WIDTH: f64 = 960.0;
const MARGIN: f64 = 16.0;
const LEFT: f64 = 140.0;
const PITCH: f64 = 12.0;
const SECTION: f64 = 38.0;
