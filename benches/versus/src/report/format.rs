//! The figures of a workload, for people.

use kit::numbers::{duration, or_dash, ratio, scaled, significant};

use crate::sample::{Sample, key};
use crate::workload::{Figure, Workload};

/// What the workload compares.
pub fn figure_key(figure: Figure) -> &'static str {
    match figure {
        Figure::Rate => key::RATE,
        Figure::TailLatency => key::P99,
        Figure::Heap => key::HEAP,
        Figure::Evenness => key::EVENNESS,
    }
}

/// One run in a few words.
pub fn headline(workload: &Workload, sample: &Sample) -> String {
    if let Some(calls) = sample.get(key::SYSTEM_CALLS) {
        return format!("{} system calls per {}", significant(calls), workload.unit.name);
    }
    let value = sample.get(figure_key(workload.figure));
    match workload.figure {
        Figure::Rate => rate(value, workload),
        Figure::TailLatency => format!("p99 {}", duration(value)),
        Figure::Heap => format!("{} bytes per stream", or_dash(value, significant)),
        Figure::Evenness => format!("slowest ÷ fastest {}", or_dash(value, ratio)),
    }
}

/// "2.31 GiB/s", "551 k/s".
pub fn rate(value: Option<f64>, workload: &Workload) -> String {
    or_dash(value, |value| match workload.unit.name {
        "MiB" if value >= 1024.0 => format!("{} GiB/s", significant(value / 1024.0)),
        "MiB" => format!("{} MiB/s", significant(value)),
        _ => format!("{}/s", scaled(value, &[(1e6, " M"), (1e3, " k")])),
    })
}
