//! What the benchmarks beside peers share: meters, medians, tables, charts.

pub mod allocator;
pub mod chart;
pub mod histogram;
pub mod median;
pub mod numbers;
pub mod table;
pub mod tracer;
