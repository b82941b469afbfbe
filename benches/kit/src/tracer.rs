//! Counting a process's system calls from outside.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::{env, fs, process};

/// What does the counting.
#[derive(Clone, Copy, Debug)]
pub enum Tracer {
    /// Counts in the kernel, and hardly slows anything down.
    Perf,
    /// Stops the process at every call, which lets batches grow; better than nothing.
    Strace,
}

/// Where the count will be found.
#[derive(Debug)]
pub struct Trace {
    tracer: Tracer,
    file: PathBuf,
}

impl Tracer {
    /// The best tracer this machine has.
    pub fn installed() -> Result<Self, String> {
        [Self::Perf, Self::Strace]
            .into_iter()
            .find(|tracer| tracer.works())
            .ok_or_else(|| "neither perf (with tracepoints) nor strace can be used here".into())
    }

    /// Makes `command` run under the tracer.
    pub fn wrap(self, command: &mut Command, role: &str) -> Trace {
        let file = env::temp_dir().join(format!("bench-{}-{role}.trace", process::id()));
        let program = command.get_program().to_owned();
        *command = self.command(&file);
        command.arg(program);
        Trace { tracer: self, file }
    }

    fn command(self, file: &PathBuf) -> Command {
        let (program, args): (_, &[_]) = match self {
            Self::Perf => ("perf", &["stat", "-x,", "-e", "raw_syscalls:sys_enter", "-o"]),
            Self::Strace => ("strace", &["-c", "-f", "-o"]),
        };
        let mut command = Command::new(program);
        command.args(args).arg(file);
        command
    }

    fn works(self) -> bool {
        let mut command = Command::new("true");
        let trace = self.wrap(&mut command, "probe");
        let ran = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        ran.is_ok_and(|status| status.success()) && trace.system_calls().is_ok()
    }
}

impl Trace {
    /// The count, once the process has ended.
    pub fn system_calls(&self) -> Result<u64, String> {
        let text = fs::read_to_string(&self.file).map_err(|error| error.to_string())?;
        let count = match self.tracer {
            Tracer::Perf => text
                .lines()
                .find(|line| line.contains("sys_enter"))
                .and_then(|line| line.split(',').next()),
            // "100.00    0.000200           1       144        19 total"
            Tracer::Strace => text
                .lines()
                .find(|line| line.ends_with("total"))
                .and_then(|line| line.split_whitespace().nth(3)),
        };
        count
            .and_then(|count| count.parse().ok())
            .ok_or_else(|| "the tracer counted nothing".into())
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
    }
}
