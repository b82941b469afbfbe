//! One round of one row: every contestant once, each round beginning with another one.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::{
    Options, Result,
    contestants::Contestant,
    rows::{Load, Row},
};

/// What every contestant achieved.
pub(crate) struct Round {
    pub(crate) results: HashMap<&'static str, Outcome>,
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Outcome {
    /// In the unit of the row, per second.
    pub(crate) rate: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// Of client and server.
    pub(crate) allocations: f64,
    /// Of client and server, where they were counted.
    pub(crate) instructions: f64,
}

impl Round {
    pub(crate) fn run(
        row: &Row,
        contestants: &[&Contestant],
        number: usize,
        options: &Options,
    ) -> Result<Self> {
        let mut results = HashMap::new();
        for turn in 0..contestants.len() {
            let contestant = contestants[(turn + number) % contestants.len()];
            let outcome = match options.instructions {
                true => counted(row, contestant)?,
                false => measured(row, contestant, options)?,
            };
            eprintln!(
                "{} round {} {}: {:.0} {}",
                row.name,
                number + 1,
                contestant.name,
                outcome.rate,
                row.unit()
            );
            results.insert(contestant.name, outcome);
        }
        Ok(Self { results })
    }
}

fn measured(row: &Row, contestant: &Contestant, options: &Options) -> Result<Outcome> {
    let run = Run { prefix: if options.pinned { PINNED } else { &[] }, out: None };
    let seconds = options.seconds.to_string();
    let line = run.of(row, contestant, ["--seconds", &seconds])?;
    let calls = line.number("calls")?;
    Ok(Outcome {
        rate: calls * row.worth() / (line.number("time_ns")? / 1e9),
        p50_us: line.number("p50_ns")? / 1e3,
        p99_us: line.number("p99_ns")? / 1e3,
        allocations: line.number("allocations")? / calls + line.served / line.number("all")?,
        instructions: 0.0,
    })
}

/// Instructions of so many calls and of three times as many: the difference is free of what
/// starting and ending take.
fn counted(row: &Row, contestant: &Contestant) -> Result<Outcome> {
    let mut totals = [0.0; 2];
    for (total, calls) in totals.iter_mut().zip([COUNTED, 3 * COUNTED]) {
        let out = std::env::temp_dir().join(format!("calls-{}", std::process::id()));
        fs::create_dir_all(&out)?;
        let run = Run { prefix: CALLGRIND, out: Some(out.clone()) };
        run.of(row, contestant, ["--calls", &calls.to_string()])?;
        *total = instructions(&out)?;
        fs::remove_dir_all(&out)?;
    }
    let instructions = (totals[1] - totals[0]) / (2 * COUNTED) as f64;
    Ok(Outcome { instructions, rate: instructions, ..Outcome::default() })
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

/// How programs are started.
struct Run {
    prefix: &'static [&'static str],
    out: Option<PathBuf>,
}

impl Run {
    /// A server and a client of it; what the client printed.
    fn of(&self, row: &Row, contestant: &Contestant, amount: [&str; 2]) -> Result<Line> {
        let mut server = Running(self.command(contestant).arg("serve").spawn()?);
        let mut said = BufReader::new(server.0.stdout.take().ok_or("no output")?).lines();
        let mut next = || {
            said.next()
                .ok_or("the server said nothing")?
                .map_err(Into::<crate::round::Failed>::into)
        };
        let address = next()?;
        let address = address.strip_prefix("listening ").ok_or("the server did not listen")?;
        let mut told = server.0.stdin.take().ok_or("no input")?;
        let mut used = || -> Result<f64> {
            told.write_all(b"\n")?;
            Line { text: next()?, served: 0.0 }.number("allocations")
        };
        let before = used()?;
        let mut client = self.command(contestant);
        match row.load {
            Load::Calls(in_flight) => {
                client.args(["load", address, "--in-flight", &in_flight.to_string()])
            }
            Load::Stream => client.args(["stream", address]),
        };
        client.args(["--size", &row.size.to_string()]).args(amount);
        let output = client.spawn()?.wait_with_output()?;
        let served = used()? - before;
        drop(told);
        if self.out.is_some() {
            server.0.wait()?;
        }
        let text = String::from_utf8(output.stdout)?;
        if !output.status.success() {
            return Err(format!("{} failed on {}", contestant.name, row.name).into());
        }
        Ok(Line { text, served })
    }

    fn command(&self, contestant: &Contestant) -> Command {
        let mut words = self.prefix.iter().map(ToString::to_string).collect::<Vec<_>>();
        if let Some(out) = &self.out {
            words.push(format!("--callgrind-out-file={}/%p", out.display()));
        }
        words.push(contestant.program.display().to_string());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped());
        if self.out.is_some() {
            command.stderr(Stdio::null());
        }
        command.envs(contestant.transport.map(|transport| ("TRANSPORT", transport)));
        command
    }
}

type Failed = Box<dyn std::error::Error>;

/// A process that ends with its handle.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `name=value name=value …`
struct Line {
    text: String,
    /// Allocations of the server, from the first call to the last.
    served: f64,
}

impl Line {
    fn number(&self, name: &str) -> Result<f64> {
        let words = self.text.split_whitespace();
        let mut values =
            words.filter_map(|word| word.split_once('=')).filter(|(key, _)| *key == name);
        let (_, value) =
            values.next().ok_or_else(|| format!("{name} is missing: {}", self.text))?;
        Ok(value.parse()?)
    }
}

const PINNED: &[&str] = &["taskset", "-c", "0"];
const CALLGRIND: &[&str] = &["valgrind", "--tool=callgrind"];

/// Calls that are counted.
const COUNTED: u64 = 5_000;
