//! One measurement, and how it is told to the processes that carry it out.

use std::time::Duration;

use crate::load::Plan;
use crate::net::Tuning;
use crate::workload::{Load, Workload};

/// One contestant, one workload, one round.
#[derive(Clone, Debug)]
pub struct Job {
    /// The contestant's name.
    pub contestant: String,
    /// The workload's name.
    pub workload: String,
    /// Threads of the runtime on each side; 0 is the current thread.
    pub workers: usize,
    /// The core both processes are pinned to.
    pub core: Option<usize>,
    /// Whether allocations are counted; see [`crate::meter::allocator::count`].
    pub count: bool,
    /// From the start until measuring begins.
    pub warm_up: Duration,
    /// How long is measured.
    pub measure: Duration,
    /// How large the windows may get on a long path.
    pub long_path_window: u32,
    /// Streams of the workloads that leave them idle.
    pub idle_streams: usize,
    /// Operations of each task of the client.
    pub limit: u64,
}

impl Job {
    /// The workload.
    pub fn workload(&self) -> Result<Workload, String> {
        Workload::named(&self.workload)
            .ok_or_else(|| format!("no workload is called {}", self.workload))
    }

    /// What the two sides do.
    pub fn plan(&self, workload: &Workload) -> Plan {
        Plan {
            load: workload.load.with_idle_streams(self.idle_streams),
            limit: self.limit,
            long_path_window: workload.relayed.then_some(self.long_path_window),
        }
    }

    /// The arguments that tell a process about the job.
    pub fn to_args(&self) -> Vec<String> {
        let mut args = vec![
            format!("impl={}", self.contestant),
            format!("workload={}", self.workload),
            format!("workers={}", self.workers),
            format!("count={}", self.count),
            format!("warm-up-ms={}", self.warm_up.as_millis()),
            format!("measure-ms={}", self.measure.as_millis()),
            format!("window={}", self.long_path_window),
            format!("idle-streams={}", self.idle_streams),
            format!("limit={}", self.limit),
        ];
        args.extend(self.core.map(|core| format!("core={core}")));
        args
    }

    /// Reads what [`to_args`](Self::to_args) wrote.
    pub fn from_args(args: &[String]) -> Result<Self, String> {
        let mut job = Self::default();
        for arg in args {
            let (key, value) =
                arg.split_once('=').ok_or_else(|| format!("{arg} is not key=value"))?;
            job.set(key, value)?;
        }
        Ok(job)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "impl" => self.contestant = value.into(),
            "workload" => self.workload = value.into(),
            "workers" => self.workers = parse(key, value)?,
            "core" => self.core = Some(parse(key, value)?),
            "count" => self.count = parse(key, value)?,
            "warm-up-ms" => self.warm_up = Duration::from_millis(parse(key, value)?),
            "measure-ms" => self.measure = Duration::from_millis(parse(key, value)?),
            "window" => self.long_path_window = parse(key, value)?,
            "idle-streams" => self.idle_streams = parse(key, value)?,
            "limit" => self.limit = parse(key, value)?,
            _ => return Err(format!("no key is called {key}")),
        }
        Ok(())
    }
}

impl Default for Job {
    fn default() -> Self {
        Self {
            contestant: String::new(),
            workload: String::new(),
            workers: 0,
            core: None,
            count: false,
            warm_up: Duration::from_millis(300),
            measure: Duration::from_secs(1),
            long_path_window: 512 << 20,
            idle_streams: 100_000,
            limit: u64::MAX,
        }
    }
}

impl Workload {
    /// The options of this workload's sockets.
    pub fn tuning(&self) -> Tuning {
        Tuning { notsent_lowat: self.notsent_lowat }
    }

    /// Whether the workload ends by itself, rather than when the time is over.
    pub fn ends(&self) -> bool {
        matches!(self.load, Load::Idle { .. })
    }
}

/// Parses the value of an option.
pub fn parse<T: std::str::FromStr>(key: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{key}: {value} is not a value"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_survives_the_command_line() {
        let job = Job {
            contestant: "h2".into(),
            workload: "wan".into(),
            core: Some(1),
            count: true,
            ..Job::default()
        };
        let read = Job::from_args(&job.to_args()).unwrap();
        assert_eq!(format!("{job:?}"), format!("{read:?}"));
    }
}
