//! An echo server, and a client that checks it. Either end may be any other yamux implementation.
//!
//! ```text
//! cargo run --release --example echo -- listen 127.0.0.1:7000
//! cargo run --release --example echo -- connect 127.0.0.1:7000 --streams 100 --bytes 1000000
//! ```

mod support;

use std::{
    env,
    error::Error,
    iter,
    process::ExitCode,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{AsyncWriteExt, StreamExt, future, try_join};
use smol::net::{TcpListener, TcpStream};
use support::with_causes;
use trunkline::{Config, Session, Stream};

const USAGE: &str = "\
usage: echo listen ADDR
       echo connect ADDR [--streams N] [--bytes B] [--ping]

  listen    serve a session on every connection, and echo each stream until it ends
  connect   open N streams at once (1), send B pseudo-random bytes on each (65536), and
            check that they come back; --ping measures the round trip first

  ADDR is HOST:PORT. Port 0 takes a free one; the first line printed tells which.";

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    if env::args().any(|argument| argument == "--help") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let Some(command) = Command::parse(env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let result = smol::block_on(async {
        match command {
            Command::Listen { addr } => listen(&addr).await,
            Command::Connect { addr, job } => connect(&addr, job).await,
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo: {}", with_causes(&*error));
            ExitCode::FAILURE
        }
    }
}

// --- The server ---

async fn listen(addr: &str) -> Result<()> {
    let listener = TcpListener::bind(addr).await?;
    println!("listening {}", listener.local_addr()?);
    let mut connections = listener.incoming();
    while let Some(connection) = connections.next().await {
        let tcp = match connection {
            Ok(tcp) => tcp,
            Err(error) => {
                // Out of descriptors, mostly: some will be free again.
                eprintln!("accept: {error}");
                smol::Timer::after(Duration::from_millis(100)).await;
                continue;
            }
        };
        smol::spawn(async {
            if let Err(error) = serve(tcp).await {
                eprintln!("session: {}", with_causes(&*error));
            }
        })
        .detach();
    }
    Ok(())
}

/// One connection, until its session ends.
async fn serve(tcp: TcpStream) -> Result<()> {
    tcp.set_nodelay(true)?;
    let (session, driver) = Session::server(tcp, Config::default());
    smol::spawn(driver).detach();
    // One line is enough: a peer that resets streams must not fill a log.
    let first = Arc::new(AtomicBool::new(true));
    while let Some(stream) = session.accept().await {
        let first = first.clone();
        smol::spawn(async move {
            if let Err(error) = echo(stream).await
                && first.swap(false, Ordering::Relaxed)
            {
                eprintln!("stream: {}", with_causes(&*error));
            }
        })
        .detach();
    }
    Ok(session.closed().await?)
}

/// Sends everything back until the peer finishes, then finishes too. Chunks are not copied.
async fn echo(mut stream: Stream) -> Result<()> {
    while let Some(mut chunk) = stream.read_chunk(usize::MAX).await? {
        stream.write_chunk(&mut chunk).await?;
    }
    Ok(stream.close().await?)
}

// --- The client ---

async fn connect(addr: &str, job: Job) -> Result<()> {
    let tcp = TcpStream::connect(addr).await?;
    tcp.set_nodelay(true)?;
    println!("connected {}", tcp.peer_addr()?);

    // Implementations differ in how many streams they take at once; all of them take 256. With
    // that many alive, `open` waits.
    let config = Config::builder().max_outbound_streams(256).build()?;
    let (session, driver) = Session::client(tcp, config);
    smol::spawn(driver).detach();

    if job.ping {
        println!("ping {:?}", session.ping().await?);
    }
    let exchanges = (1..=job.streams).map(|number| {
        let exchange = exchange(session.clone(), number, job.bytes);
        smol::spawn(async move {
            let result = exchange.await;
            result.map_err(|error| format!("exchange {number}: {}", with_causes(&*error)))
        })
    });
    future::try_join_all(exchanges).await?;

    // Every stream is done: with some peers GoAway would end those that are not.
    session.close().await?;
    println!("ok streams={} bytes={}", job.streams, job.bytes);
    Ok(())
}

/// Sends `bytes` bytes on a stream of its own and checks the echo, both at once: a peer that
/// echoes reads no more while nobody reads its echo.
async fn exchange(session: Session, seed: u64, bytes: u64) -> Result<()> {
    let (mut reader, mut writer) = session.open().await?.into_split();

    let send = async {
        let (mut payload, mut sizes) = (payload(seed), Random(!seed));
        let mut left = bytes;
        while left > 0 {
            let len = sizes.chunk_len().min(left);
            let chunk: Vec<u8> = payload.by_ref().take(len as usize).collect();
            writer.write_all(&chunk).await?;
            left -= len;
        }
        Ok(writer.close().await?)
    };

    let check = async {
        let mut payload = payload(seed);
        let mut got = 0;
        while let Some(chunk) = reader.read_chunk(usize::MAX).await? {
            if !payload.by_ref().take(chunk.len()).eq(chunk.iter().copied()) {
                return Err(format!("wrong echo after {got} bytes").into());
            }
            got += chunk.len() as u64;
        }
        if got == bytes { Ok(()) } else { Err(format!("{got} of {bytes} bytes came back").into()) }
    };

    try_join!(send, check).map(|_: ((), ())| ())
}

/// The bytes of one stream: the same for the one who sends and the one who checks.
fn payload(seed: u64) -> impl Iterator<Item = u8> {
    let mut random = Random(seed);
    iter::repeat_with(move || random.next().to_le_bytes()).flatten()
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 1 byte to 128 KiB, every magnitude as likely as the others.
    fn chunk_len(&mut self) -> u64 {
        let magnitude = self.next() % 18;
        1 + self.next() % (1 << magnitude)
    }
}

// --- The command line ---

enum Command {
    Listen { addr: String },
    Connect { addr: String, job: Job },
}

struct Job {
    streams: u64,
    bytes: u64,
    ping: bool,
}

impl Command {
    fn parse(mut args: impl Iterator<Item = String>) -> Option<Self> {
        let (command, addr) = (args.next()?, args.next()?);
        match command.as_str() {
            "listen" if args.next().is_none() => Some(Self::Listen { addr }),
            "connect" => Some(Self::Connect { addr, job: Job::parse(args)? }),
            _ => None,
        }
    }
}

impl Job {
    fn parse(mut args: impl Iterator<Item = String>) -> Option<Self> {
        let mut job = Self { streams: 1, bytes: 65_536, ping: false };
        while let Some(flag) = args.next() {
            match flag.as_str() {
                "--streams" => job.streams = number(args.next())?,
                "--bytes" => job.bytes = number(args.next())?,
                "--ping" => job.ping = true,
                _ => return None,
            }
        }
        Some(job)
    }
}

fn number<T: FromStr>(arg: Option<String>) -> Option<T> {
    arg?.parse().ok()
}
