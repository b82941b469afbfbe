//! What the benchmarks beside peers share: command lines, meters, medians, tables,
//! charts.

pub mod allocator;
pub mod args;
pub mod chart;
pub mod histogram;
pub mod median;
pub mod numbers;
pub mod table;
pub mod tracer;
