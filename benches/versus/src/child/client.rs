//! The client's process: the workload on the runtime, the measuring on a thread beside it.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;
use std::{process, thread};

use super::server::{QUIT, SNAPSHOT};
use super::{Setting, text};
use crate::job::{Job, parse};
use crate::meter::{HISTOGRAM, Snapshot, percentile};
use crate::net::Site;
use crate::sample::{Sample, key};
use crate::stage::{self, Conductor, Event, Stage};
use crate::workload::{Figure, Workload};

/// Arguments: the control address, the addresses of the server, the job.
pub(super) fn run(args: &[String]) -> Result<(), String> {
    let [control, addresses, rest @ ..] = args else {
        return Err("client: addresses are missing".into());
    };
    let job = Job::from_args(rest)?;
    let setting = Setting::of(&job)?;
    let addresses = addresses
        .split(',')
        .map(|address| parse("address", address))
        .collect::<Result<Vec<SocketAddr>, _>>()?;
    let site = Site::new(addresses, setting.workload.tuning());
    let control = TcpStream::connect(control).map_err(text)?;
    control.set_nodelay(true).map_err(text)?;

    let (stage, conductor) = Stage::measured();
    let plan = job.plan(&setting.workload);
    let workload = setting.workload;
    thread::spawn(move || conduct(&job, &workload, &conductor, control));

    let client = setting.contestant.client(site, plan, stage);
    let ended = setting.runtime.block_on(async { tokio::spawn(client).await });
    match ended.map_err(text)? {
        Ok(()) => stage::report_failure("client", &"the workload ended early"),
        Err(error) => stage::report_failure("client", &error),
    }
    // The measuring thread is ending the process.
    loop {
        thread::park();
    }
}

/// Measures, reports, and ends both processes.
fn conduct(job: &Job, workload: &Workload, conductor: &Conductor, control: TcpStream) {
    let mut both = BothSides { start: Instant::now(), server: control };
    match measure(job, workload, conductor, &mut both) {
        Ok(sample) => {
            stage::quit();
            both.end_server();
            print!("{sample}");
            let _ = io::stdout().flush();
            process::exit(0);
        }
        Err(error) => stage::report_failure("measuring", &error),
    }
}

fn measure(
    job: &Job,
    workload: &Workload,
    conductor: &Conductor,
    both: &mut BothSides,
) -> io::Result<Sample> {
    let mut sample = Sample::default();
    await_event(conductor, &mut sample, |event| matches!(event, Event::Ready))?;
    let (before, after) = match workload.ends() {
        true => {
            let before = both.look()?;
            conductor.start();
            await_event(conductor, &mut sample, |event| matches!(event, Event::Done))?;
            (before, both.look()?)
        }
        false => {
            conductor.start();
            thread::sleep(job.warm_up);
            let before = both.look()?;
            thread::sleep(job.measure);
            (before, both.look()?)
        }
    };
    evaluate(workload, &before, &after, &mut sample);
    let stalled = sample.get(key::RATE).is_none_or(|rate| rate <= 0.0);
    match stalled && workload.figure != Figure::TailLatency {
        true => Err(io::Error::other("nothing moved")),
        false => Ok(sample),
    }
}

/// Takes notes until the event comes.
fn await_event(
    conductor: &Conductor,
    sample: &mut Sample,
    wanted: impl Fn(&Event) -> bool,
) -> io::Result<()> {
    loop {
        match conductor.events.recv().map_err(|_| io::ErrorKind::BrokenPipe)? {
            Event::Note(key, value) => sample.put(key, value),
            event if wanted(&event) => return Ok(()),
            _ => {}
        }
    }
}

/// The two processes at (almost) one moment.
struct Look {
    client: Snapshot,
    server: Snapshot,
    round_trips: Vec<u64>,
}

struct BothSides {
    start: Instant,
    server: TcpStream,
}

impl BothSides {
    fn look(&mut self) -> io::Result<Look> {
        self.server.write_all(&[SNAPSHOT])?;
        let server = Snapshot::read_from(&mut BufReader::new(&self.server))?;
        let round_trips = HISTOGRAM.counts();
        Ok(Look { client: Snapshot::take(self.start), server, round_trips })
    }

    /// Returns once the server is gone: it would take the end of this process for a failure of the session.
    fn end_server(&mut self) {
        let _ = self.server.write_all(&[QUIT]);
        let _ = self.server.read(&mut [0]);
    }
}

fn evaluate(workload: &Workload, before: &Look, after: &Look, sample: &mut Sample) {
    let size = workload.unit.size as f64;
    let done = |look: &Look| (look.client.work() + look.server.work()) as f64 / size;
    // Work is counted on one side, whose clock then counts too.
    let server_counts = after.server.work() > 0;
    let seconds = match server_counts {
        true => after.server.at - before.server.at,
        false => after.client.at - before.client.at,
    };
    // Where the work is to open streams, the workload itself says how many.
    let streams = sample.get(key::STREAMS).filter(|_| workload.ends());
    let units = streams.unwrap_or_else(|| done(after) - done(before));
    sample.put(key::TOTAL_UNITS, streams.unwrap_or_else(|| done(after)));
    sample.put(key::RATE, units / seconds.as_secs_f64());

    let cpu = used(before, after, |snapshot| snapshot.cpu.as_secs_f64());
    sample.put(key::CPU, cpu / units);
    sample
        .put(key::ALLOCATIONS, used(before, after, |snapshot| snapshot.allocations as f64) / units);
    if workload.figure == Figure::Heap {
        sample.put(key::HEAP, used(before, after, |snapshot| snapshot.live_bytes as f64) / units);
    }
    if workload.figure == Figure::Evenness {
        sample.put(key::EVENNESS, evenness(&before.server.counters, &after.server.counters));
    }
    put_round_trips(before, after, sample);
}

fn used(before: &Look, after: &Look, of: impl Fn(&Snapshot) -> f64) -> f64 {
    of(&after.client) - of(&before.client) + of(&after.server) - of(&before.server)
}

fn put_round_trips(before: &Look, after: &Look, sample: &mut Sample) {
    let counts: Vec<_> = after
        .round_trips
        .iter()
        .zip(&before.round_trips)
        .map(|(after, before)| after - before)
        .collect();
    for (key, share) in [(key::P50, 0.50), (key::P99, 0.99)] {
        if let Some(duration) = percentile(&counts, share) {
            sample.put(key, duration.as_secs_f64());
        }
    }
}

/// The slowest stream's share of the fastest's.
fn evenness(before: &[u64], after: &[u64]) -> f64 {
    let started = before.iter().copied().chain(std::iter::repeat(0));
    let moved: Vec<_> = after.iter().zip(started).map(|(after, before)| after - before).collect();
    let (slowest, fastest) = (moved.iter().min(), moved.iter().max());
    *slowest.unwrap_or(&0) as f64 / (*fastest.unwrap_or(&0)).max(1) as f64
}
