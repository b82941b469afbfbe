//! Asks and answers as nanomsg and nng do; either end may be `nngcat`.
//!
//! ```text
//! cargo run --release --features sp,tokio --example reqrep -- rep tcp://127.0.0.1:7100
//! cargo run --release --features sp,tokio --example reqrep -- req tcp://127.0.0.1:7100 --count 10000
//! nngcat --req --dial tcp://127.0.0.1:7100 --data hello --ascii
//! ```

use std::{env, error::Error, process::ExitCode, time::Instant};

use trunkline::sp::{RepSocket, ReqSocket, SocketConfig};

const USAGE: &str = "\
usage: reqrep rep ADDRESS
       reqrep req ADDRESS [--count N] [--size B] [--together K]

  rep   listen, and answer each request with itself
  req   dial, send N requests (1000) of B bytes (64), K at a time (1), and check each reply

  ADDRESS is tcp://HOST:PORT or ipc://PATH. Port 0 takes a free one; the first line printed tells
  which.";

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["--help" | "-h"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        ["rep", address] => answer(address).await,
        ["req", address, ref options @ ..] => match Job::read(options) {
            Some(job) => ask(address, job).await,
            None => Err(USAGE.into()),
        },
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}{}", error.source().map(|at| format!(": {at}")).unwrap_or_default());
            ExitCode::FAILURE
        }
    }
}

/// Several tasks answer, so that one slow peer does not hold up the others.
async fn answer(address: &str) -> Result<()> {
    let socket = RepSocket::new(trunkline::tokio::runtime(), config());
    println!("listening {}", socket.listen(address).await?);
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..WORKERS {
        let socket = socket.clone();
        workers.spawn(async move {
            while let Ok((question, replier)) = socket.recv().await {
                // The peer may be gone by now; others are not.
                let _ = replier.send(question).await;
            }
        });
    }
    tokio::signal::ctrl_c().await?;
    socket.close().await;
    workers.join_all().await;
    Ok(())
}

async fn ask(address: &str, job: Job) -> Result<()> {
    let socket = ReqSocket::new(trunkline::tokio::runtime(), config());
    socket.dial(address).await?;
    println!("connected {address}");
    let began = Instant::now();
    let mut workers = tokio::task::JoinSet::<Result<()>>::new();
    for worker in 0..job.together {
        let socket = socket.clone();
        workers.spawn(async move {
            for number in (worker..job.count).step_by(job.together) {
                let question = pattern(number, job.size);
                if socket.request(question.clone()).await? != question {
                    return Err(format!("reply {number} is not its request").into());
                }
            }
            Ok(())
        });
    }
    for done in workers.join_all().await {
        done?;
    }
    let rate = job.count as f64 / began.elapsed().as_secs_f64();
    println!("ok count={} size={} {rate:.0} round trips/s", job.count, job.size);
    socket.close().await;
    Ok(())
}

fn config() -> SocketConfig {
    SocketConfig { max_message: Some(64 << 20), ..SocketConfig::default() }
}

/// Bytes that differ from one request to the next.
fn pattern(number: usize, size: usize) -> Vec<u8> {
    (0..size).map(|at| (at.wrapping_mul(31) ^ at >> 8 ^ number.wrapping_mul(131)) as u8).collect()
}

#[derive(Clone, Copy)]
struct Job {
    count: usize,
    size: usize,
    together: usize,
}

impl Job {
    fn read(options: &[&str]) -> Option<Self> {
        let mut job = Self { count: 1_000, size: 64, together: 1 };
        for option in options.chunks(2) {
            let [name, value] = option else { return None };
            let value = value.parse().ok()?;
            match *name {
                "--count" => job.count = value,
                "--size" => job.size = value,
                "--together" => job.together = value,
                _ => return None,
            }
        }
        (job.together > 0).then_some(job)
    }
}

const WORKERS: usize = 64;
