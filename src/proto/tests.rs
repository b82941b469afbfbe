//! The core on a virtual clock, without IO: one end against hand-written frames ([`wire::Wire`]),
//! and two ends against each other ([`pair::Pair`]).
#![allow(clippy::unwrap_used)]

mod closing;
mod codec;
mod deadlines;
mod direct;
mod ending;
mod limits;
mod opening;
mod overdue;
mod pair;
mod regressions;
mod staging;
mod states;
mod time;
mod windows;
mod wire;
