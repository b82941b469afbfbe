//! What the command lines of the benchmarks have in common.

use std::thread;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Speed, side by side.
    Speed,
    /// System calls per unit.
    SystemCalls,
    /// Instructions per unit.
    Instructions,
    /// Nothing: names are listed.
    List,
    /// Nothing: the usage is shown.
    Help,
}

/// The contestants with these names, which commas separate, in this order.
pub fn contestants(
    names: &str,
    all: impl Iterator<Item = &'static str> + Clone,
) -> Result<Vec<&'static str>, String> {
    let known = |name: &str| all.clone().find(|known| *known == name);
    names
        .split(',')
        .map(|name| known(name).ok_or_else(|| format!("no contestant is called {name}")))
        .collect()
}

/// The last core: interrupts tend to be served by the first.
pub fn last_core() -> usize {
    thread::available_parallelism().map_or(0, |cores| cores.get() - 1)
}
