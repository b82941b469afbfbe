//! One run: a server and a client of it, or both in one for the profiler.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
};

use kit::tracer::Tracer;

use crate::{
    Result,
    contestants::Contestant,
    rows::{Load, Row},
};

/// Who does what, where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run<'a> {
    pub(crate) row: &'a Row,
    pub(crate) contestant: &'a Contestant,
    /// The core both processes are pinned to.
    pub(crate) core: Option<usize>,
}

/// What was achieved in some time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    /// In the unit of the row, per second.
    pub(crate) rate: f64,
    /// Seconds half of the calls do not exceed.
    pub(crate) p50: f64,
    /// Seconds 99 % of the calls do not exceed.
    pub(crate) p99: f64,
    /// Seconds of the longest call, where it is known.
    pub(crate) longest: f64,
}

impl Run<'_> {
    pub(crate) fn timed(&self, seconds: f64) -> Result<Outcome> {
        let (client, _) = self.pair(&["--seconds", &seconds.to_string()], |_, _| {})?;
        let calls = client.number("calls")?;
        if calls == 0.0 {
            return Err("nothing moved".into());
        }
        Ok(Outcome {
            rate: calls * self.row.worth() / (client.number("time_ns")? / 1e9),
            p50: client.number("p50_ns")? / 1e9,
            p99: client.number("p99_ns")? / 1e9,
            longest: client.number("longest_ns").map_or(f64::NAN, |nanos| nanos / 1e9),
        })
    }

    /// Allocations per call, of the client and of the server.
    pub(crate) fn allocations(&self) -> Result<[f64; 2]> {
        self.per_call(FAST * self.row.counted(), |calls| {
            let options = ["--count-allocations", "--calls", &calls.to_string()];
            let (client, server) = self.pair(&options, |_, _| {})?;
            Ok([client.number("allocations")?, server.number("allocations")?])
        })
    }

    /// System calls per call, of both sides.
    pub(crate) fn system_calls(&self, tracer: Tracer) -> Result<f64> {
        let count = |calls: u64| {
            let mut traces = Vec::new();
            self.pair(&["--calls", &calls.to_string()], |command, role| {
                traces.push(tracer.wrap(command, role));
            })?;
            let counts = traces.iter().map(|trace| Ok(trace.system_calls()? as f64));
            Ok([counts.sum::<Result<f64>>()?])
        };
        self.per_call(FAST * self.row.counted(), count).map(|[count]| count)
    }

    /// User-space instructions per call, of both sides.
    ///
    /// They run in one thread where they can: two processes under the profiler would wake each
    /// other at other moments than they do outside of it.
    pub(crate) fn instructions(&self) -> Result<f64> {
        let count = |calls: u64| {
            let out = std::env::temp_dir().join(format!("calls-{}", std::process::id()));
            fs::create_dir_all(&out)?;
            let calls = calls.to_string();
            let ran = match self.contestant.has_side() {
                true => self.solo(&["--calls", &calls], |command| callgrind(command, &out)),
                false => self
                    .pair(&["--calls", &calls], |command, _| callgrind(command, &out))
                    .map(|_| ()),
            };
            let total = ran.and_then(|()| instructions(&out));
            fs::remove_dir_all(&out)?;
            Ok([total?])
        };
        self.per_call(self.row.counted(), count).map(|[count]| count)
    }

    /// The difference between so many calls and three times as many: free of what starting and
    /// ending take.
    fn per_call<const N: usize>(
        &self,
        calls: u64,
        count: impl Fn(u64) -> Result<[f64; N]>,
    ) -> Result<[f64; N]> {
        let (once, thrice) = (count(calls)?, count(3 * calls)?);
        Ok(std::array::from_fn(|i| (thrice[i] - once[i]) / (2 * calls) as f64))
    }

    /// A server and a client of it; what each said in the end.
    fn pair(
        &self,
        options: &[&str],
        mut wrap: impl FnMut(&mut Command, &str),
    ) -> Result<(Line, Line)> {
        let mut command = self.command(|command| wrap(command, "server"));
        command.arg("serve");
        if options.contains(&COUNT) {
            command.arg(COUNT);
        }
        let mut server = Running(command.spawn()?);
        let mut orders = server.0.stdin.take().ok_or("no input")?;
        let mut said = BufReader::new(server.0.stdout.take().ok_or("no output")?).lines();
        let mut next = || -> Result<String> { Ok(said.next().ok_or("the server ended")??) };
        let line = next()?;
        let address = line.strip_prefix("listening ").ok_or("the server did not listen")?;

        let (role, load) = self.load();
        let mut command = self.command(|command| wrap(command, "client"));
        command.arg(role).arg(address).args(load).args(options);
        let output = command.spawn()?.wait_with_output()?;
        if !output.status.success() {
            return Err(format!("the client ended with {}", output.status).into());
        }
        orders.write_all(b"\n")?;
        let used = Line(next()?);
        drop(orders);
        server.0.wait()?;
        Ok((Line(String::from_utf8(output.stdout)?), used))
    }

    /// Both sides in one thread.
    fn solo(&self, options: &[&str], wrap: impl FnOnce(&mut Command)) -> Result<()> {
        let (role, load) = self.load();
        let mut command = self.command(wrap);
        command.arg("solo").arg(role).args(load).args(options);
        let output = command.spawn()?.wait_with_output()?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!("it ended with {}", output.status).into()),
        }
    }

    /// What the client does.
    fn load(&self) -> (&'static str, Vec<String>) {
        let size = ["--size".to_owned(), self.row.size.to_string()];
        match self.row.load {
            Load::Calls(in_flight) => {
                let in_flight = ["--in-flight".to_owned(), in_flight.to_string()];
                ("load", in_flight.into_iter().chain(size).collect())
            }
            Load::Stream => ("stream", size.into()),
        }
    }

    /// The program, connected to the harness, under whatever it is wrapped in.
    fn command(&self, wrap: impl FnOnce(&mut Command)) -> Command {
        let program = self.contestant.program.as_os_str();
        let core = self.core.map(|core| core.to_string());
        let pinned = core.as_ref().map(|core| ["taskset", "-c", core].map(OsStr::new));
        let words = pinned.iter().flatten().copied().chain([program]).collect::<Vec<_>>();
        let mut command = Command::new(words[0]);
        wrap(&mut command);
        command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.envs(self.contestant.transport.map(|transport| ("TRANSPORT", transport)));
        command
    }
}

/// Makes `command` run under the profiler, and leave its profile in `out`.
fn callgrind(command: &mut Command, out: &Path) {
    let program = command.get_program().to_owned();
    *command = Command::new("valgrind");
    command.args(["--quiet", "--tool=callgrind"]);
    command.arg(format!("--callgrind-out-file={}/%p", out.display())).arg(program);
}

/// The totals of all profiles in a directory.
fn instructions(out: &Path) -> Result<f64> {
    let mut total = 0.0;
    for file in fs::read_dir(out)? {
        let text = fs::read_to_string(file?.path())?;
        let line = text.lines().find_map(|line| line.strip_prefix("totals: "));
        total += line.ok_or("a profile without totals")?.trim().parse::<f64>()?;
    }
    Ok(total)
}

/// A process that ends with its handle.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `name=value name=value …`
struct Line(String);

impl Line {
    fn number(&self, name: &str) -> Result<f64> {
        let pairs = self.0.split_whitespace().filter_map(|word| word.split_once('='));
        let value = pairs.into_iter().find(|(key, _)| *key == name);
        let (_, value) = value.ok_or_else(|| format!("{name} is missing: {}", self.0))?;
        Ok(value.parse()?)
    }
}

const COUNT: &str = "--count-allocations";

/// How many times as many calls there are where no profiler slows them down.
const FAST: u64 = 4;
