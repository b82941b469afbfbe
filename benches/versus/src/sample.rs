//! What one measurement found, as the client tells it to the harness.

use std::collections::BTreeMap;
use std::fmt;

/// Figures by name.
#[derive(Clone, Debug, Default)]
pub struct Sample(BTreeMap<String, f64>);

/// The names.
pub mod key {
    /// Units per second.
    pub const RATE: &str = "rate";
    /// Processor seconds per unit, both sides.
    pub const CPU: &str = "cpu";
    /// Allocations per unit, both sides.
    pub const ALLOCATIONS: &str = "allocations";
    /// Seconds half of the round trips do not exceed.
    pub const P50: &str = "p50";
    /// Seconds 99 % of the round trips do not exceed.
    pub const P99: &str = "p99";
    /// Bytes of heap per stream, both sides.
    pub const HEAP: &str = "heap";
    /// The slowest stream's share of the fastest's.
    pub const EVENNESS: &str = "evenness";
    /// Streams the contestant really held.
    pub const STREAMS: &str = "streams";
    /// Microseconds to open one of the first streams.
    pub const OPEN_FIRST: &str = "open_first_us";
    /// Microseconds to open one of the last streams.
    pub const OPEN_LAST: &str = "open_last_us";
    /// Units since the process started.
    pub const TOTAL_UNITS: &str = "total_units";
    /// System calls per unit, both sides.
    pub const SYSTEM_CALLS: &str = "system_calls";
    /// Instructions per unit, both sides.
    pub const INSTRUCTIONS: &str = "instructions";
}

impl Sample {
    /// Sets a figure.
    pub fn put(&mut self, key: &str, value: f64) {
        self.0.insert(key.into(), value);
    }

    /// A figure, if it was found and means something.
    pub fn get(&self, key: &str) -> Option<f64> {
        self.0.get(key).copied().filter(|value| value.is_finite())
    }

    /// Reads what `Display` wrote.
    pub fn parse(text: &str) -> Self {
        let figures = text.lines().filter_map(|line| {
            let (key, value) = line.split_once(' ')?;
            Some((key.to_owned(), value.parse().ok()?))
        });
        Self(figures.collect())
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(key, value)| writeln!(f, "{key} {value}"))
    }
}
