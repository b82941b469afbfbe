//! The table and the chart.

use std::fmt::Write as _;

use crate::{
    Options,
    round::{Outcome, Round},
    rows::Row,
};

/// A row, and all its rounds.
pub(crate) struct Measured {
    pub(crate) row: Row,
    pub(crate) rounds: Vec<Round>,
}

impl Measured {
    /// Who took part, in the order of the row.
    fn names(&self) -> impl Iterator<Item = &'static str> {
        let took_part = |name: &&'static str| self.rounds[0].results.contains_key(name);
        self.row.contestants.iter().copied().filter(took_part)
    }

    fn median(&self, name: &str, figure: impl Fn(&Outcome) -> f64) -> f64 {
        median(self.rounds.iter().map(|round| figure(&round.results[name])).collect())
    }

    /// How many times the rate of `other`: the median of the ratios within a round.
    fn times(&self, name: &str, other: &str) -> Option<f64> {
        let ratio = |round: &Round| Some(round.results[name].rate / round.results.get(other)?.rate);
        Some(median(self.rounds.iter().map(ratio).collect::<Option<_>>()?))
    }

    /// Those that are neither ours nor a bare connection.
    fn peers(&self) -> impl Iterator<Item = &'static str> {
        self.names().filter(|name| !is_ours(name) && *name != RAW)
    }
}

pub(crate) fn table(measured: &[Measured], options: &Options) -> String {
    let mut out = String::from("# Calls and requests beside those of the peers\n\n");
    let place =
        if options.pinned { "both processes on one core" } else { "where the scheduler likes" };
    let _ = match options.instructions {
        true => writeln!(out, "User-space instructions per call, client and server.\n"),
        false => writeln!(
            out,
            "Medians of {} rounds of {} s each, {place}; ratios are medians of the ratios within a \
             round. Loopback TCP without delay. Allocations are those of client and server.\n",
            options.rounds, options.seconds
        ),
    };
    for measured in measured {
        if options.instructions { counted(&mut out, measured) } else { timed(&mut out, measured) }
    }
    out
}

fn counted(out: &mut String, measured: &Measured) {
    let _ = writeln!(out, "## {}\n\n{}\n", measured.row.name, measured.row.about);
    let _ = writeln!(out, "| | instructions per call |\n|---|---:|");
    for name in measured.names() {
        let _ = writeln!(out, "| {name} | {:.0} |", measured.median(name, |o| o.instructions));
    }
    out.push('\n');
}

fn timed(out: &mut String, measured: &Measured) {
    let peers: Vec<_> = measured.peers().collect();
    let _ = writeln!(out, "## {}\n\n{}\n", measured.row.name, measured.row.about);
    let _ = write!(out, "| | {} | × raw |", measured.row.unit());
    for peer in &peers {
        let _ = write!(out, " × {peer} |");
    }
    let _ = writeln!(out, " p50 | p99 | allocations |");
    let _ = writeln!(out, "|---|---:|---:|{}---:|---:|---:|", "---:|".repeat(peers.len()));
    for name in measured.names() {
        let rate = measured.median(name, |outcome| outcome.rate);
        let _ = write!(out, "| {name} | {} |", thousands(rate));
        for other in std::iter::once(RAW).chain(peers.iter().copied()) {
            let times = measured.times(name, other).map_or(String::new(), |x| format!("{x:.2}"));
            let _ = write!(out, " {times} |");
        }
        let (p50, p99) = (measured.median(name, |o| o.p50_us), measured.median(name, |o| o.p99_us));
        let latency = |us: f64| if us > 0.0 { format!("{us:.0} µs") } else { String::new() };
        let allocations = match name {
            "nng" => "not counted".to_owned(),
            _ => format!("{:.1}", measured.median(name, |o| o.allocations)),
        };
        let _ = writeln!(out, " {} | {} | {allocations} |", latency(p50), latency(p99));
    }
    out.push('\n');
}

/// A bar per contestant: the rate as a multiple of the best peer's.
pub(crate) fn chart(measured: &[Measured]) -> String {
    let mut body = String::new();
    let mut y = 44.0;
    for measured in measured {
        let best =
            measured.peers().map(|peer| measured.median(peer, |o| o.rate)).fold(0.0, f64::max);
        let _ = writeln!(
            body,
            "<text class=\"title\" x=\"16\" y=\"{:.0}\">{}</text>\n<text class=\"small\" x=\"16\" y=\"{:.0}\">{}</text>",
            y + 12.0,
            measured.row.name,
            y + 26.0,
            measured.row.about
        );
        for name in measured.names() {
            let rate = measured.median(name, |outcome| outcome.rate);
            let width = (rate / best * UNIT).clamp(1.0, WIDTH - LEFT - 150.0);
            let fill = if is_ours(name) {
                "#e8590c"
            } else if name == RAW {
                "#868e96"
            } else {
                "#4c6ef5"
            };
            let _ = writeln!(
                body,
                "<rect x=\"{LEFT}\" y=\"{y:.0}\" width=\"{width:.1}\" height=\"12\" rx=\"2\" fill=\"{fill}\"/>\n\
                 <text class=\"small\" x=\"{:.1}\" y=\"{:.0}\">{name} {} {}</text>",
                LEFT + width + 5.0,
                y + 10.0,
                thousands(rate),
                measured.row.unit()
            );
            y += 15.0;
        }
        y += 16.0;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y}\" width=\"{WIDTH}\" height=\"{y}\" role=\"img\" \
         aria-label=\"Calls per second of trunkline and its peers\">\n{STYLE}\
         <text class=\"title\" x=\"16\" y=\"22\">Both processes on one core; orange is ours, grey a bare connection</text>\n\
         {body}</svg>\n"
    )
}

fn is_ours(name: &str) -> bool {
    name.starts_with("trunkline")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn thousands(value: f64) -> String {
    match value {
        1e6.. => format!("{:.2} M", value / 1e6),
        1e4.. => format!("{:.0} k", value / 1e3),
        1e3.. => format!("{:.1} k", value / 1e3),
        _ => format!("{value:.0}"),
    }
}

const RAW: &str = "raw";
const WIDTH: f64 = 960.0;
const LEFT: f64 = 290.0;
/// The width of the best peer's bar.
const UNIT: f64 = 130.0;

const STYLE: &str = "<style>
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600 }
.small { font-size: 11px; fill: #59636e }
@media (prefers-color-scheme: dark) { text { fill: #f0f6fc } .small { fill: #9198a1 } }
</style>
";
