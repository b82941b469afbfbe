//! What the core tells its shell.

use std::time::Duration;

use super::stream::Slot;

/// Something a waiter may have waited for. The shell turns these into wakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A read that would have blocked is worth another try.
    Readable(Slot),
    /// A write, flush or close that would have blocked is worth another try.
    Writable(Slot),
    /// A stream waits to be accepted.
    Acceptable,
    /// An open that would have blocked is worth another try.
    Openable,
    /// A user's ping was answered, or given up (`None`).
    Pong(u32, Option<Duration>),
    /// The session ended: whatever waits, wake it.
    Ended,
}
