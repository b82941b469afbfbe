//! Connections to run a session over.

pub mod memory;
