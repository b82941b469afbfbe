//! What the fuzz targets do with their input: one plain function each, which panics where a rule
//! is broken. `tests/fuzz_corpus.rs` includes this file and runs the same functions over the
//! corpus and over pseudo-random inputs, without a fuzzer.

mod cursor;
mod decoder;
mod differential;
mod header;
mod hostile;
pub mod memory;
mod monitor;
mod naive;
mod operations;
mod pattern;
pub mod seeds;
#[cfg(feature = "sp")]
mod sp;

pub use decoder::decoder;
pub use differential::differential;
pub use header::header;
pub use hostile::{hostile, hostile_outcome};
pub use operations::operations;
#[cfg(feature = "sp")]
pub use sp::sp;
