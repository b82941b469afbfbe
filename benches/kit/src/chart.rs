//! A chart of ratios: for every workload a bar per contestant, growing to the right of the reference where it is faster
//! and to the left where it is slower, on a logarithmic scale.
//!
//! Bars are the pinned figures, the steadier ones; a ring marks the unpinned one. Colours work on light and dark pages.

use std::fmt::Write as _;

use super::numbers::ratio;

/// All that is drawn.
#[derive(Clone, Debug)]
pub struct Chart {
    /// The line above the legend.
    pub title: String,
    /// What the chart says, for those who cannot see it.
    pub label: String,
    /// What a ratio of one is called.
    pub reference: &'static str,
    /// The contestants, in the order of the legend.
    pub names: Vec<&'static str>,
    /// The workloads, from the top.
    pub sections: Vec<Section>,
    /// The colour of a contestant.
    pub colour: fn(&str) -> &'static str,
}

/// The bars of one workload.
#[derive(Clone, Debug)]
pub struct Section {
    /// The workload.
    pub title: &'static str,
    /// A bar per contestant, in any order.
    pub bars: Vec<Bar>,
}

/// The ratios of one contestant; right is better.
#[derive(Clone, Debug)]
pub struct Bar {
    /// The contestant.
    pub name: &'static str,
    /// With both processes on one core.
    pub pinned: Option<f64>,
    /// With processes where the scheduler likes.
    pub unpinned: Option<f64>,
}

impl Chart {
    /// The picture.
    pub fn svg(&self) -> String {
        let bars = self.sections.iter().flat_map(|section| &section.bars);
        let scale = Scale::over(bars.flat_map(|bar| [bar.pinned, bar.unpinned]));
        let mut body = String::new();
        let mut y = self.legend(&mut body);
        let top = y;
        for section in &self.sections {
            y = self.draw_section(&mut body, section, &scale, y);
        }
        let axis = self.axis(&scale, top, y);
        let height = y + 34.0;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
             role=\"img\" aria-label=\"{}\">\n{STYLE}{axis}{body}</svg>\n",
            self.label
        )
    }

    fn legend(&self, out: &mut String) -> f64 {
        let mut x = MARGIN;
        let mut y = 22.0;
        let _ =
            writeln!(out, "<text class=\"title\" x=\"{MARGIN}\" y=\"{y}\">{}</text>", self.title);
        y += 24.0;
        for name in &self.names {
            let width = 34.0 + 7.6 * name.len() as f64;
            if x + width > WIDTH - MARGIN {
                (x, y) = (MARGIN, y + 20.0);
            }
            let _ = writeln!(
                out,
                "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"12\" height=\"12\" rx=\"2\" fill=\"{}\"/>",
                y - 10.0,
                (self.colour)(name)
            );
            let _ = writeln!(out, "<text x=\"{:.1}\" y=\"{y:.1}\">{name}</text>", x + 17.0);
            x += width;
        }
        y + 18.0
    }

    fn draw_section(&self, out: &mut String, section: &Section, scale: &Scale, top: f64) -> f64 {
        let mut y = top + GAP / 2.0;
        let height = section.bars.len() as f64 * PITCH;
        let middle = y + height / 2.0 + 4.0;
        let _ = writeln!(
            out,
            "<text class=\"workload\" x=\"{MARGIN}\" y=\"{middle:.1}\">{}</text>",
            section.title
        );
        // In the order of the legend, whatever ran first.
        let bar = |name: &&str| section.bars.iter().find(|bar| bar.name == *name);
        for bar in self.names.iter().filter_map(bar) {
            self.draw_bar(out, bar, scale, y);
            y += PITCH;
        }
        y + GAP / 2.0
    }

    fn draw_bar(&self, out: &mut String, bar: &Bar, scale: &Scale, y: f64) {
        let fill = (self.colour)(bar.name);
        let Some(value) = bar.pinned.or(bar.unpinned) else {
            return;
        };
        let (one, end) = (scale.x(1.0), scale.x(value));
        let (from, to) = (one.min(end), one.max(end));
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
        let (x, anchor) =
            if end >= one { (label.1 + 4.0, "start") } else { (label.0 - 4.0, "end") };
        let _ = writeln!(
            out,
            "<text class=\"value\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            y + THICK - 1.5,
            ratio(value)
        );
    }

    fn axis(&self, scale: &Scale, top: f64, bottom: f64) -> String {
        let mut out = String::new();
        for tick in scale.ticks() {
            let x = scale.x(tick);
            let class = if tick == 1.0 { "raw" } else { "grid" };
            let label = if tick == 1.0 { self.reference.to_owned() } else { format!("{tick}") };
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
