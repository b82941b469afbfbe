//! One run: a server, a client, a relay where the workload has one.

use std::env;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use kit::tracer::{Trace, Tracer};

use crate::job::Job;
use crate::sample::{Sample, key};
use crate::workload::Workload;

/// Carries out the job and tells what the client found, with the system calls of both sides if a tracer is given.
pub(super) fn once(
    job: &Job,
    workload: &Workload,
    tracer: Option<&Tracer>,
) -> Result<Sample, String> {
    let args = job.to_args();
    let (mut server, server_trace) = traced(tracer, "server", &args)?;
    let said = server.line()?;
    let (control, mut addresses) =
        said.split_once(' ').ok_or("the server did not say where it listens")?;

    let relay = workload.relayed.then(|| start_relay(addresses)).transpose()?;
    if let Some((_, address)) = &relay {
        addresses = address;
    }

    let mut client_args = vec![control.to_owned(), addresses.to_owned()];
    client_args.extend(args);
    let (mut client, client_trace) = traced(tracer, "client", &client_args)?;
    let mut sample = Sample::parse(&client.output(patience(job, workload))?);
    server.wait()?;

    if let (Some(server), Some(client)) = (server_trace, client_trace) {
        let calls = server.system_calls()? + client.system_calls()?;
        let units = sample.get(key::TOTAL_UNITS).ok_or("nothing was done")?;
        sample.put(key::SYSTEM_CALLS, calls as f64 / units);
    }
    Ok(sample)
}

fn start_relay(server: &str) -> Result<(Process, String), String> {
    let to: SocketAddr = server.parse().map_err(|_| "the relay serves one address")?;
    let args = [to.to_string(), ONE_WAY_DELAY.as_millis().to_string()];
    let mut relay = Process::start(own_command()?.arg("relay").args(args))?;
    let address = relay.line()?;
    Ok((relay, address))
}

fn traced(
    tracer: Option<&Tracer>,
    role: &str,
    args: &[String],
) -> Result<(Process, Option<Trace>), String> {
    let mut command = own_command()?;
    let trace = tracer.map(|tracer| tracer.wrap(&mut command, role));
    let process = Process::start(command.arg(role).args(args))?;
    Ok((process, trace))
}

/// This program again.
pub(super) fn own_command() -> Result<Command, String> {
    env::current_exe().map(Command::new).map_err(|error| error.to_string())
}

/// How long a client may take before it is given up.
fn patience(job: &Job, workload: &Workload) -> Duration {
    let expected =
        if workload.ends() { Duration::from_secs(600) } else { job.warm_up + job.measure };
    expected + Duration::from_secs(30)
}

/// A process that does not outlive its handle.
struct Process {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
}

impl Process {
    fn start(command: &mut Command) -> Result<Self, String> {
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|error| error.to_string())?;
        let stdout = child.stdout.take().map(BufReader::new);
        Ok(Self { child, stdout })
    }

    /// The first line the process says.
    fn line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        if let Some(stdout) = &mut self.stdout {
            stdout.read_line(&mut line).map_err(|error| error.to_string())?;
        }
        match line.trim() {
            "" => Err("a process ended before it started".into()),
            line => Ok(line.to_owned()),
        }
    }

    /// All the process says until it ends, if it does in time.
    fn output(&mut self, patience: Duration) -> Result<String, String> {
        let (sender, receiver) = mpsc::channel();
        let stdout = self.stdout.take();
        thread::spawn(move || {
            let mut said = String::new();
            let read = stdout.map(|mut stdout| stdout.read_to_string(&mut said));
            let _ = sender.send((read, said));
        });
        let (_, said) = receiver.recv_timeout(patience).map_err(|_| "no result in time")?;
        self.wait()?;
        Ok(said)
    }

    fn wait(&mut self) -> Result<(), String> {
        let status = self.child.wait().map_err(|error| error.to_string())?;
        if status.success() { Ok(()) } else { Err(format!("a process ended with {status}")) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Half the round trip of the long path.
const ONE_WAY_DELAY: Duration = Duration::from_millis(25);
