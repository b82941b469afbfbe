//! A runtime of which the tasks run in a `Sim`.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use futures::{StreamExt, channel::mpsc};
use trunkline::runtime::{BoxFuture, Runtime};

use crate::support::Sim;

pub fn runtime(sim: &mut Sim) -> Runtime {
    let (tasks, started) = mpsc::unbounded::<BoxFuture>();
    sim.spawn(started.for_each_concurrent(None, |task| task));
    Runtime::new(move |task| drop(tasks.unbounded_send(task))).timer(sim.timer())
}
