//! What the programs of all contestants share: their command line, the load, and what they report.
//!
//! ```text
//! PROGRAM serve                                   prints `listening ADDRESS`, echoes until its input ends
//! PROGRAM load ADDRESS --in-flight N --size B --seconds S
//! PROGRAM load ADDRESS … --calls N                so many calls, then the end: for counting
//! PROGRAM stream ADDRESS --size B --seconds S     messages of one call, from the server
//! PROGRAM solo load|stream … --calls N            both sides in one thread: for the profiler
//! … --count-allocations                           which is not free, and so never timed
//! ```

mod job;
mod load;
mod net;

use std::{error::Error, process::ExitCode, sync::OnceLock, thread, time::Duration};

use bytes::Bytes;
use kit::allocator::{self, Counting};
use tokio::{runtime::Builder, task::spawn_local};

use job::{Amount, Job, Role};

pub use net::{accept, dial, listen};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

pub type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// An implementation of calls: a server that echoes, and a client.
pub trait Contestant: 'static {
    /// The connection.
    type Client: 'static;
    /// One of the callers that share it.
    type Caller: 'static;

    /// Echoes, for ever. Says [`listening`] first.
    fn serve() -> impl Future<Output = Result<()>>;

    /// Connects.
    fn connect(address: String) -> impl Future<Output = Result<Self::Client>>;

    /// One more caller.
    fn caller(client: &Self::Client) -> Result<Self::Caller>;

    /// Sends `body` and waits for the echo; returns its length.
    fn call(caller: &mut Self::Caller, body: &Bytes) -> impl Future<Output = Result<usize>>;

    /// Asks for messages of `size` bytes, and calls `got` for each that arrives, until it says no.
    fn stream(
        _client: &Self::Client,
        _size: usize,
        _got: impl FnMut(usize) -> bool,
    ) -> impl Future<Output = Result<()>> {
        async { Err("it has no streams".into()) }
    }
}

/// The whole program of a contestant.
pub fn run<C: Contestant>() -> ExitCode {
    match try_run::<C>() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn try_run<C: Contestant>() -> Result<()> {
    let job = Job::parse(std::env::args().skip(1))?;
    if job.count_allocations {
        allocator::count();
    }
    if let (Role::Load { .. } | Role::Stream { .. }, Amount::Time(time)) = (&job.role, job.amount) {
        thread::spawn(move || give_up_after(time + PATIENCE));
    }
    // Tasks need not be `Send`, which capnp's are not, and cost no more for it. What `block_on`
    // itself polls is woken at a higher price than a task, so it is left with nothing to do.
    let runtime = Builder::new_current_thread().enable_all().build_local(Default::default())?;
    runtime.block_on(async { spawn_local(act::<C>(job)).await })?
}

async fn act<C: Contestant>(job: Job) -> Result<()> {
    match &job.role {
        Role::Serve => {
            thread::spawn(load::report_when_told);
            C::serve().await
        }
        Role::Load { address } => load::calls::<C>(&C::connect(address.clone()).await?, &job).await,
        Role::Stream { address } => {
            load::stream::<C>(&C::connect(address.clone()).await?, &job).await
        }
        Role::Solo { streams } => {
            let serving = spawn_local(C::serve());
            while ADDRESS.get().is_none() && !serving.is_finished() {
                tokio::task::yield_now().await;
            }
            let address = ADDRESS.get().ok_or("the server did not listen")?.clone();
            let client = C::connect(address).await?;
            match streams {
                true => load::stream::<C>(&client, &job).await,
                false => load::calls::<C>(&client, &job).await,
            }
        }
    }
}

/// Tells the harness, or the client beside the server, where to connect.
pub fn listening(address: impl std::fmt::Display) {
    println!("listening {address}");
    let _ = ADDRESS.set(address.to_string());
}

fn give_up_after(time: Duration) {
    thread::sleep(time);
    eprintln!("no result in time");
    std::process::exit(1);
}

static ADDRESS: OnceLock<String> = OnceLock::new();

/// How much longer than its time a measurement may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Messages of one stream, as many as anyone will ask for.
pub const ENDLESS: u64 = u64::MAX;
