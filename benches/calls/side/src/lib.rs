//! What the programs of all contestants share: their command line, the load, and what they report.
//!
//! ```text
//! PROGRAM serve                                   prints `listening ADDRESS`, echoes until killed
//! PROGRAM load ADDRESS --in-flight N --size B --seconds S
//! PROGRAM load ADDRESS … --calls N                so many calls, then the end: for counting
//! PROGRAM stream ADDRESS --size B --seconds S     messages of one call, from the server
//! ```

mod job;
mod load;

use std::{alloc::System, error::Error, io, process::ExitCode};

use bytes::Bytes;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::{
    net::{TcpListener, TcpStream},
    task::LocalSet,
};

use job::{Job, Role};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

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
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.map_err(Into::into).and_then(|runtime| {
        let job = Job::parse(std::env::args().skip(1))?;
        LocalSet::new().block_on(&runtime, act::<C>(job))
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn act<C: Contestant>(job: Job) -> Result<()> {
    match job.role {
        Role::Serve => {
            std::thread::spawn(load::report_when_told);
            C::serve().await
        }
        Role::Load { ref address } => {
            let client = C::connect(address.clone()).await?;
            load::calls::<C>(&client, &job).await
        }
        Role::Stream { ref address } => {
            let client = C::connect(address.clone()).await?;
            load::stream::<C>(&client, &job).await
        }
    }
}

/// Tells the harness where to connect.
pub fn listening(address: impl std::fmt::Display) {
    println!("listening {address}");
}

/// A listener on a free port of the loopback interface, which was announced.
pub async fn listen() -> Result<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    listening(listener.local_addr()?);
    Ok(listener)
}

/// A connection without delay.
pub async fn dial(address: &str) -> io::Result<TcpStream> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

/// The next connection, without delay.
pub async fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let (tcp, _) = listener.accept().await?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

/// Messages of one stream, as many as anyone will ask for.
pub const ENDLESS: u64 = u64::MAX;
