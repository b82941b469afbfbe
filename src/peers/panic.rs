//! The code of users, which may panic: the task that calls it has others to serve.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// A function of the user's panicked. What it said was told by the panic hook.
#[derive(Debug)]
pub(super) struct Panicked;

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("panicked")
    }
}

/// Calls a function of the user's.
pub(super) fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|_| Panicked)
}
