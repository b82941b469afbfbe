//! Request and reply. Either end may be any other SP implementation: nng's `nngcat`, mangos.
//!
//! ```text
//! cargo run --release --features full --example reqrep -- rep tcp://127.0.0.1:4000
//! cargo run --release --features full --example reqrep -- req tcp://127.0.0.1:4000 --count 10000
//! ```

mod support;

use std::{
    env,
    error::Error,
    process::ExitCode,
    time::{Duration, Instant},
};

use support::with_causes;
use trunkline::{
    sp::{DeviceEnd, Options, RawRep, RawReq, RepSocket, ReqSocket, device},
    transport::Transports,
};

const USAGE: &str = "\
usage: reqrep rep ADDR [--dial]
       reqrep req ADDR [--count N] [--size B] [--contexts C] [--listen]
       reqrep device FRONT BACK

  rep      answer every request with the same bytes
  req      send N requests (1) of B pseudo-random bytes (64), C at a time (1), and check that
           they come back
  device   pass on the requests that come to FRONT to BACK, and the replies back

  rep and the front of a device listen, req and the back of a device dial; --dial and --listen
  turn that round. ADDR is tcp://HOST:PORT, ipc://PATH or mux+tcp://HOST:PORT. Port 0 takes a free
  one; who listens prints `listening ADDRESS` first.";

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    if env::args().any(|argument| argument == "--help") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let Some(command) = Command::parse(env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let done = match command {
        Command::Rep { end } => rep(&end).await,
        Command::Req { end, job } => req(&end, job).await,
        Command::Device { front, back } => pass_on(&front, &back).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("reqrep: {}", with_causes(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn rep(end: &End) -> Result<()> {
    let options = Options::builder().max_receive(None).build()?;
    let socket = RepSocket::new(trunkline::tokio::runtime(), Transports::default(), options);
    match end.listen {
        true => announce(socket.listen(&end.address).await?.local_addr()),
        false => drop(dial(|address| socket.dialer(address, socket.options()), &end.address)?),
    }
    loop {
        let (request, replier) = socket.recv().await?;
        if let Err(error) = replier.send(request).await {
            eprintln!("reqrep: reply not sent: {error}");
        }
    }
}

async fn req(end: &End, job: Job) -> Result<()> {
    let options = Options::builder()
        .max_receive(None)
        .recv_timeout(Some(Duration::from_secs(60)))
        .send_timeout(Some(Duration::from_secs(60)))
        .build()?;
    let socket = ReqSocket::new(trunkline::tokio::runtime(), Transports::default(), options);
    match end.listen {
        true => announce(socket.listen(&end.address).await?.local_addr()),
        false => {
            drop(dial(|address| socket.dialer(address, socket.options()), &end.address)?);
            eprintln!("waiting for {}", end.address);
        }
    }
    let started = Instant::now();
    let mut tasks = Vec::new();
    for first in 0..job.contexts.min(job.count) {
        let context = socket.context()?;
        tasks.push(tokio::spawn(async move {
            for number in (first..job.count).step_by(job.contexts) {
                let body = pattern(number as u64, job.size);
                let reply = context.request(body.clone()).await?;
                if reply != body {
                    return Err(format!("reply {number} differs from its request").into());
                }
            }
            Ok::<(), Box<dyn Error + Send + Sync>>(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    let rate = job.count as f64 / started.elapsed().as_secs_f64();
    println!("ok count={} size={}", job.count, job.size);
    println!("{rate:.0} round trips per second");
    socket.close().await;
    Ok(())
}

async fn pass_on(front: &str, back: &str) -> Result<()> {
    let options = Options::builder().max_receive(None).best_effort(true).build()?;
    let runtime = trunkline::tokio::runtime();
    let requests = RawRep::new(runtime.clone(), Transports::default(), options);
    let options = Options::builder().max_receive(None).build()?;
    let replies = RawReq::new(runtime, Transports::default(), options);
    dial(|address| replies.dialer(address, replies.options()), back)?;
    announce(requests.listen(front).await?.local_addr());
    let (DeviceEnd::Front(end) | DeviceEnd::Back(end)) = device(requests, replies).await;
    Err(format!("the device ended: {end:?}").into())
}

/// Dials in the background, so that it does not matter who is there first.
fn dial<E: Error + Send + Sync + 'static>(
    dialer: impl FnOnce(&str) -> Result<trunkline::sp::Dialer, E>,
    address: &str,
) -> Result<trunkline::sp::Dialer> {
    let dialer = dialer(address)?;
    dialer.dial_background()?;
    Ok(dialer)
}

fn announce(address: Option<trunkline::transport::Address>) {
    if let Some(address) = address {
        println!("listening {address}");
    }
}

/// Bytes that are unlike their neighbours, different for every number.
fn pattern(number: u64, len: usize) -> bytes::Bytes {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

enum Command {
    Rep { end: End },
    Req { end: End, job: Job },
    Device { front: String, back: String },
}

struct End {
    address: String,
    listen: bool,
}

#[derive(Clone, Copy)]
struct Job {
    count: usize,
    size: usize,
    contexts: usize,
}

impl Command {
    fn parse(mut args: impl Iterator<Item = String>) -> Option<Self> {
        let (command, address) = (args.next()?, args.next()?);
        match &*command {
            "rep" => {
                let listen = match args.next().as_deref() {
                    None => true,
                    Some("--dial") => false,
                    Some(_) => return None,
                };
                Some(Self::Rep { end: End { address, listen } })
            }
            "req" => {
                let mut end = End { address, listen: false };
                let mut job = Job { count: 1, size: 64, contexts: 1 };
                while let Some(option) = args.next() {
                    match &*option {
                        "--count" => job.count = number(args.next()?)?,
                        "--size" => job.size = args.next()?.parse().ok()?,
                        "--contexts" => job.contexts = number(args.next()?)?,
                        "--listen" => end.listen = true,
                        _ => return None,
                    }
                }
                Some(Self::Req { end, job })
            }
            "device" => Some(Self::Device { front: address, back: args.next()? }),
            _ => None,
        }
    }
}

/// At least one.
fn number(text: String) -> Option<usize> {
    text.parse().ok().filter(|number| *number > 0)
}
