//! What the fuzz targets do with their input: one plain function each, which panics where a rule
//! is broken. `tests/fuzz_corpus.rs` includes this file and runs the same functions over the
//! corpus and over pseudo-random inputs, without a fuzzer.

mod cursor;
mod decoder;
mod differential;
#[cfg(feature = "rpc")]
mod exchanges;
mod header;
#[cfg(feature = "rpc")]
mod heads;
mod hostile;
pub mod memory;
#[cfg(feature = "rpc")]
mod messages;
mod monitor;
mod naive;
mod operations;
mod pattern;
#[cfg(feature = "peers")]
mod peers;
pub mod seeds;
#[cfg(feature = "sp")]
mod sp;
#[cfg(feature = "rpc")]
mod turns;

pub use decoder::decoder;
pub use differential::differential;
#[cfg(feature = "rpc")]
pub use exchanges::{exchanges, exchanges_outcome};
pub use header::header;
#[cfg(feature = "rpc")]
pub use heads::heads;
pub use hostile::{hostile, hostile_outcome};
#[cfg(feature = "rpc")]
pub use messages::messages;
pub use operations::operations;
#[cfg(feature = "peers")]
pub use peers::peers;
#[cfg(feature = "sp")]
pub use sp::sp;
