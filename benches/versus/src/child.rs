//! What the harness runs in processes of its own: the two sides, the relay, and both sides in one for the profiler.

mod client;
mod relay;
mod server;
mod solo;

use std::io;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::runtime::{Builder, Runtime};

use crate::contestant::Contestant;
use crate::impls;
use crate::job::Job;
use crate::meter::allocator;
use crate::workload::Workload;

/// Runs the process that the first argument names, if it names one.
pub fn run(args: &[String]) -> Option<Result<(), String>> {
    let (role, rest) = args.split_first()?;
    Some(match role.as_str() {
        "server" => Job::from_args(rest).and_then(|job| server::run(&job)),
        "client" => client::run(rest),
        "solo" => Job::from_args(rest).and_then(|job| solo::run(&job)),
        "relay" => relay::run(rest),
        _ => return None,
    })
}

/// Everything a side needs before it starts.
struct Setting {
    contestant: Contestant,
    workload: Workload,
    runtime: Runtime,
}

impl Setting {
    fn of(job: &Job) -> Result<Self, String> {
        if job.count {
            allocator::count();
        }
        die_with_the_harness()?;
        if let Some(core) = job.core {
            pin_to(core)?;
        }
        raise_file_limit()?;
        let contestant =
            impls::all().into_iter().find(|contestant| contestant.name == job.contestant);
        Ok(Self {
            contestant: contestant
                .ok_or_else(|| format!("no contestant is called {}", job.contestant))?,
            workload: job.workload()?,
            runtime: runtime(job.workers).map_err(text)?,
        })
    }
}

fn runtime(workers: usize) -> io::Result<Runtime> {
    match workers {
        0 => Builder::new_current_thread().enable_all().build(),
        workers => Builder::new_multi_thread().worker_threads(workers).enable_all().build(),
    }
}

fn die_with_the_harness() -> Result<(), String> {
    set_pdeathsig(Signal::SIGKILL).map_err(text)
}

fn pin_to(core: usize) -> Result<(), String> {
    let mut set = CpuSet::new();
    set.set(core).map_err(text)?;
    sched_setaffinity(Pid::from_raw(0), &set).map_err(text)
}

/// Raw TCP needs a descriptor per stream.
fn raise_file_limit() -> Result<(), String> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(text)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
