//! The allocator that tests count with, and turns for those that do.
#![allow(dead_code, unreachable_pub)]

use std::{
    alloc::System,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
pub static MEMORY: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes allocated and not freed.
pub fn in_use() -> i64 {
    let stats = MEMORY.stats();
    stats.bytes_allocated as i64 - stats.bytes_deallocated as i64
}

/// Who measures memory wants to be alone; all others run side by side.
static TURN: RwLock<()> = RwLock::new(());

pub fn beside() -> RwLockReadGuard<'static, ()> {
    TURN.read().unwrap_or_else(PoisonError::into_inner)
}

pub fn alone() -> RwLockWriteGuard<'static, ()> {
    TURN.write().unwrap_or_else(PoisonError::into_inner)
}
