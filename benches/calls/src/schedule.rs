//! The schedule: rounds, and contestants interleaved within each.

use std::time::{Duration, Instant};

use kit::{
    median::{median, median_ratio},
    numbers::significant,
    tracer::Tracer,
};

use crate::{
    Result,
    args::{Args, Mode},
    contestants::{self, Contestant, Standing, standing},
    rows::Row,
    run::{Outcome, Run},
};

/// All that was measured of one row in one placement.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) row: Row,
    pub(crate) pinned: bool,
    pub(crate) entries: Vec<Entry>,
}

/// All that was measured of one contestant.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    /// What was achieved in each round; `None` where the run failed.
    rounds: Vec<Option<Outcome>>,
    /// Per call, of the client and of the server. Counting slows down those who allocate, so it has
    /// runs of its own.
    pub(crate) allocations: Option<[f64; 2]>,
    /// Instructions or system calls, where those were asked for.
    pub(crate) per_call: Option<f64>,
}

pub(crate) fn measure(args: &Args) -> Result<Vec<Group>> {
    let contestants = contestants::build(|name| {
        let enters = args.rows.iter().any(|row| row.contestants.contains(&name));
        enters && args.contestants.contains(&name)
    })?;
    match args.mode {
        Mode::Instructions => Ok(count(args, &contestants, None, |run| run.instructions())),
        Mode::SystemCalls => {
            let tracer = Tracer::installed()?;
            let core = args.placements()[0];
            Ok(count(args, &contestants, core, move |run| run.system_calls(tracer)))
        }
        _ => Ok(Schedule::new(args, &contestants).run()),
    }
}

/// Each contestant once per row.
fn count(
    args: &Args,
    contestants: &[Contestant],
    core: Option<usize>,
    count: impl Fn(&Run<'_>) -> Result<f64>,
) -> Vec<Group> {
    let mut groups = Vec::new();
    for row in &args.rows {
        let mut entries = Vec::new();
        for contestant in taking_part(row, contestants) {
            eprint!("{} {}: ", row.name, contestant.name);
            let counted = count(&Run { row, contestant, core });
            eprintln!(
                "{}",
                told(&counted, |count| format!("{} per {}", significant(*count), row.thing()))
            );
            entries.push(Entry { per_call: counted.ok(), ..Entry::new(contestant.name) });
        }
        groups.push(Group { row: *row, pinned: core.is_some(), entries });
    }
    groups
}

struct Schedule<'a> {
    args: &'a Args,
    contestants: &'a [Contestant],
    start: Instant,
    total: usize,
    done: usize,
}

impl<'a> Schedule<'a> {
    fn new(args: &'a Args, contestants: &'a [Contestant]) -> Self {
        let runs = args.rows.iter().map(|row| taking_part(row, contestants).len());
        let total = runs.sum::<usize>() * args.placements().len() * (args.rounds + 1);
        Self { args, contestants, start: Instant::now(), total, done: 0 }
    }

    fn run(mut self) -> Vec<Group> {
        let mut groups = Vec::new();
        for row in &self.args.rows {
            for core in self.args.placements() {
                groups.push(self.group(row, core));
            }
        }
        eprintln!("{} runs in {}", self.done, minutes(self.start.elapsed()));
        groups
    }

    /// Every contestant once a round. Each round begins with another one, so that none always comes
    /// first.
    fn group(&mut self, row: &Row, core: Option<usize>) -> Group {
        let contestants = taking_part(row, self.contestants);
        let mut entries: Vec<_> = contestants.iter().map(|found| Entry::new(found.name)).collect();
        let place = if core.is_some() { "pinned" } else { "unpinned" };
        for (contestant, entry) in contestants.iter().zip(&mut entries) {
            let run = Run { row, contestant, core };
            self.begin(&format!("{} {place} counting {}", row.name, contestant.name));
            if contestant.has_side() {
                let counted = run.allocations();
                self.end(told(&counted, |[client, server]| {
                    format!("{} + {} allocations", significant(*client), significant(*server))
                }));
                entry.allocations = counted.ok();
            } else {
                self.end("not counted".to_owned());
            }
        }
        for round in 0..self.args.rounds {
            for turn in 0..contestants.len() {
                let index = (turn + round) % contestants.len();
                let contestant = contestants[index];
                self.begin(&format!(
                    "{} {place} round {} {}",
                    row.name,
                    round + 1,
                    contestant.name
                ));
                let outcome = Run { row, contestant, core }.timed(self.args.seconds);
                self.end(told(&outcome, |outcome| row.rate(outcome.rate)));
                entries[index].rounds.push(outcome.ok());
            }
        }
        Group { row: *row, pinned: core.is_some(), entries }
    }

    fn begin(&self, what: &str) {
        eprint!("[{}/{}] {what}: ", self.done + 1, self.total);
    }

    fn end(&mut self, what: String) {
        self.done += 1;
        let left = self.start.elapsed() / self.done as u32 * (self.total - self.done) as u32;
        eprintln!("{what} ({} left)", minutes(left));
    }
}

impl Entry {
    fn new(name: &'static str) -> Self {
        Self { name, rounds: Vec::new(), allocations: None, per_call: None }
    }

    fn figures(&self, figure: impl Fn(&Outcome) -> f64) -> Vec<Option<f64>> {
        self.rounds.iter().map(|outcome| outcome.as_ref().map(&figure)).collect()
    }

    /// The figure's median over the rounds.
    pub(crate) fn median(&self, figure: impl Fn(&Outcome) -> f64) -> Option<f64> {
        median(self.figures(figure).into_iter().flatten())
    }

    fn rates(&self) -> Vec<Option<f64>> {
        self.figures(|outcome| outcome.rate)
    }
}

impl Group {
    pub(crate) fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    pub(crate) fn peers(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| standing(entry.name) == Standing::Peer)
    }

    /// How many times the rate of `other`: the median of the ratios within a round.
    pub(crate) fn times(&self, entry: &Entry, other: &str) -> Option<f64> {
        median_ratio(&entry.rates(), &self.entry(other)?.rates())
    }

    /// How many times the rate of the round's best peer.
    pub(crate) fn times_best_peer(&self, entry: &Entry) -> Option<f64> {
        let best = self.peers().map(Entry::rates).reduce(|best, peer| {
            let pairs = best.into_iter().zip(peer);
            pairs.map(|(best, peer)| best.into_iter().chain(peer).reduce(f64::max)).collect()
        })?;
        median_ratio(&entry.rates(), &best)
    }
}

/// The contestants of a row, in its order.
fn taking_part<'a>(row: &Row, contestants: &'a [Contestant]) -> Vec<&'a Contestant> {
    let find = |name: &&str| contestants.iter().find(|contestant| contestant.name == *name);
    row.contestants.iter().filter_map(find).collect()
}

fn told<T>(result: &Result<T>, show: impl FnOnce(&T) -> String) -> String {
    result.as_ref().map_or_else(|error| format!("FAILED: {error}"), show)
}

fn minutes(time: Duration) -> String {
    format!("{}:{:02} min", time.as_secs() / 60, time.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows;

    fn entry(name: &'static str, rates: [Option<f64>; 3]) -> Entry {
        let outcome = |rate| Outcome { rate, p50: 0.0, p99: 0.0, longest: 0.0 };
        Entry { rounds: rates.map(|rate| rate.map(outcome)).into(), ..Entry::new(name) }
    }

    #[test]
    fn the_best_peer_is_that_of_each_round_and_a_failed_run_is_none() {
        let entries = vec![
            entry("raw", [Some(100.0); 3]),
            entry("tarpc", [Some(10.0), Some(1.0), None]),
            entry("tonic", [Some(1.0), Some(10.0), Some(5.0)]),
            entry("trunkline-rpc", [Some(20.0), Some(30.0), Some(50.0)]),
        ];
        let group = Group { row: rows::all()[0], pinned: true, entries };
        let ours = &group.entries[3];
        assert_eq!(group.times_best_peer(ours), Some(3.0));
        assert_eq!(group.times(ours, "tarpc"), Some(16.0));
        assert_eq!(group.times(ours, "capnp"), None);
    }
}
