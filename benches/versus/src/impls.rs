//! The contestants. To add one: a file beside the others, a `mod` line, and a line in [`all`].

mod h2;
mod raw;
mod rust_yamux;
mod tokio_yamux;
#[cfg(feature = "trunkline")]
mod trunkline;

use crate::contestant::Contestant;

/// Every row of the table, in its order.
pub fn all() -> Vec<Contestant> {
    vec![
        Contestant::of(raw::Raw),
        Contestant::of(raw::Buffered),
        Contestant::of(rust_yamux::RustYamux),
        Contestant::of(tokio_yamux::TokioYamux::Default),
        Contestant::of(tokio_yamux::TokioYamux::Large),
        Contestant::of(h2::H2::Default),
        Contestant::of(h2::H2::Large),
        #[cfg(feature = "trunkline")]
        Contestant::of(trunkline::Trunkline),
        #[cfg(feature = "trunkline")]
        Contestant::of(trunkline::Chunks),
    ]
}
