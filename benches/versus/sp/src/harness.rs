//! Runs both sides of every run, round after round.

use std::{
    io::{BufRead, BufReader, Read},
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{
    Args, CONTESTANTS, WORKLOADS,
    job::{Job, Party, Result, Sample},
    jobs,
};

/// A workload in one placement.
pub struct Group {
    pub size: usize,
    pub contexts: usize,
    pub pinned: bool,
    /// Those of each round, in the order of the contestants.
    pub rounds: Vec<[Sample; CONTESTANTS.len()]>,
}

pub fn measure(args: &Args) -> Result<Vec<Group>> {
    let mut groups = Vec::new();
    for (size, contexts) in WORKLOADS {
        for pinned in args.placements.iter().copied() {
            groups.push(Group { size, contexts, pinned, rounds: Vec::new() });
        }
    }
    groups.retain(|group| group.name().contains(&args.only));
    if groups.is_empty() {
        return Err(format!("no workload is called {}", args.only).into());
    }
    for round in 0..args.rounds {
        for group in &mut groups {
            let jobs = jobs(group.size, group.contexts, group.pinned);
            let mut samples = [None; CONTESTANTS.len()];
            // Everyone is first once.
            for turn in 0..jobs.len() {
                let index = (round + turn) % jobs.len();
                let sample = run(jobs[index], Duration::from_secs_f64(args.seconds))?;
                eprintln!(
                    "round {}/{}  {:24} {:14} {:>9.0}/s",
                    round + 1,
                    args.rounds,
                    group.title(),
                    jobs[index].contestant,
                    sample.rate,
                );
                samples[index] = Some(sample);
            }
            group.rounds.extend(all(samples));
        }
    }
    Ok(groups)
}

fn all<const N: usize>(samples: [Option<Sample>; N]) -> Option<[Sample; N]> {
    samples.iter().all(Option::is_some).then(|| samples.map(|it| it.expect("all are")))
}

impl Group {
    /// "64 B × 256".
    pub fn name(&self) -> String {
        match self.size {
            size if size < 1 << 10 => format!("{size} B × {}", self.contexts),
            size => format!("{} KiB × {}", size >> 10, self.contexts),
        }
    }

    pub fn title(&self) -> String {
        format!("{}, {}", self.name(), if self.pinned { "pinned" } else { "unpinned" })
    }

    pub fn median(&self, contestant: usize, figure: fn(&Sample) -> f64) -> f64 {
        median(self.rounds.iter().map(|round| figure(&round[contestant])))
    }

    /// The median of the ratios within each round to the first contestant.
    pub fn ratio(&self, contestant: usize, figure: fn(&Sample) -> f64) -> f64 {
        median(self.rounds.iter().map(|round| figure(&round[contestant]) / figure(&round[0])))
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    }
}

/// One run: a server, and a client until it is done.
fn run(job: Job, measure: Duration) -> Result<Sample> {
    let party = Party { job, port: free_port()?, measure };
    let mut server = Side::start("serve", &party)?;
    if server.line()? != "ready" {
        return Err(format!("{job:?}: the server did not start").into());
    }
    let mut client = Side::start("ask", &party)?;
    let line = client.line()?;
    Sample::parse(&line).ok_or_else(|| format!("{job:?}: the client failed").into())
}

/// A process that ends with its handle.
struct Side(Child);

impl Side {
    fn start(command: &str, party: &Party) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?);
        Ok(Self(child.arg(command).args(party.to_args()).stdout(Stdio::piped()).spawn()?))
    }

    fn line(&mut self) -> Result<String> {
        let output = self.0.stdout.as_mut().ok_or("its output is piped")?;
        let mut line = String::new();
        BufReader::new(output.take(1 << 10)).read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
