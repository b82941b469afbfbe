//! What a session does, in a second or two: a server and a client in one process, over TCP.
//!
//! ```text
//! cargo run --release --example tour
//! ```

use std::{
    error::Error,
    io::{self, ErrorKind, IsTerminal, Write},
    time::{Duration, Instant},
};

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt, join, stream::FuturesUnordered, try_join};
use smol::net::{TcpListener, TcpStream};
use trunkline::{Config, ReadHalf, ResetCode, Session, Stream, StreamError};

/// Streams echoed side by side, and bytes on each.
const STREAMS: usize = 1_000;
const BYTES: usize = 100_000;
/// What is offered to a reader that does not read, and for how long.
const FLOOD: usize = 8 << 20;
const PATIENCE: Duration = Duration::from_millis(100);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    if std::env::args().len() > 1 {
        return Err("usage: tour, without arguments".into());
    }
    smol::block_on(async {
        let started = Instant::now();
        let (client, server) = connect().await?;
        let echo = many_streams(&client, &server).await?;
        half_close(&client, &server).await?;
        let code = reset(&client, &server).await?;
        let rtt = ping(&client).await?;
        let slow = slow_reader(&client, &server).await?;
        shut_down(&client, &server).await?;

        let (ours, theirs) = (client.stats(), server.stats());
        let bytes = ours.bytes_received + theirs.bytes_received;
        let rate = mib(echo.bytes as u64) / echo.took.as_secs_f64();
        println!();
        row("streams", &grouped(STREAMS as u64), "open at the same time");
        row("data", &format!("{:.1} MiB", mib(bytes)), "both ways, every byte compared");
        row("throughput", &format!("{rate:.0} MiB/s"), "while the streams echoed");
        row("frames", &grouped(ours.frames_received + theirs.frames_received), "received");
        row("round trip", &format!("{rtt:.1?}"), "the best of 20 pings");
        row("resets", &theirs.resets_received.to_string(), &format!("received: {code}"));
        let offered = format!("of {} MiB taken before the writer had to wait", FLOOD >> 20);
        row("back-pressure", &format!("{} KiB", slow.held >> 10), &offered);
        row("beside it", &format!("{:.1?}", slow.beside), "for another stream's 98 KiB and back");
        row("time", &format!("{:.2} s", started.elapsed().as_secs_f64()), "from connect to close");
        Ok(())
    })
}

/// Two sessions, one at each end of a TCP connection.
async fn connect() -> Result<(Session, Session)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (connected, (accepted, _)) = try_join!(TcpStream::connect(address), listener.accept())?;
    connected.set_nodelay(true)?;
    accepted.set_nodelay(true)?;

    // With a session comes its driver, a future to spawn on any runtime.
    let (client, driver) = Session::client(connected, Config::default());
    smol::spawn(driver).detach();
    let (server, driver) = Session::server(accepted, Config::default());
    smol::spawn(driver).detach();
    done("connect", &format!("one TCP connection to {address}"));
    Ok((client, server))
}

struct Echo {
    bytes: usize,
    took: Duration,
}

/// A thousand streams bring back what they carried away.
async fn many_streams(client: &Session, server: &Session) -> Result<Echo> {
    let started = Instant::now();
    let serve = async {
        for _ in 0..STREAMS {
            smol::spawn(echo(accept(server).await?)).detach();
        }
        Result::Ok(())
    };
    let call = async {
        // Waits while the server has too many to accept.
        let mut streams = Vec::new();
        for _ in 0..STREAMS {
            streams.push(client.open().await?);
        }
        let calls = streams.into_iter().enumerate();
        let calls = calls.map(|(seed, stream)| smol::spawn(call(stream, seed)));
        let mut calls: FuturesUnordered<_> = calls.collect();
        while let Some(result) = calls.next().await {
            result?;
            progress("streams", STREAMS - calls.len(), STREAMS);
        }
        Result::Ok(())
    };
    try_join!(serve, call)?;
    done("streams", &format!("{STREAMS} came back from the server, byte for byte"));
    Ok(Echo { bytes: 2 * STREAMS * BYTES, took: started.elapsed() })
}

/// Sends back what arrives, chunk by chunk and uncopied, until the end.
async fn echo(mut stream: Stream) -> io::Result<()> {
    while let Some(mut chunk) = stream.read_chunk(usize::MAX).await? {
        stream.write_chunk(&mut chunk).await?;
    }
    stream.close().await
}

/// Writes and reads at the same time, and compares.
async fn call(stream: Stream, seed: usize) -> Result<()> {
    let (mut reader, mut writer) = stream.into_split();
    let sent = payload(seed, BYTES);
    let write = async {
        writer.write_all(&sent).await?;
        Result::Ok(writer.close().await?)
    };
    try_join!(write, compare(&mut reader, &sent))?;
    Ok(())
}

/// Reads to the end, which must bring what was sent.
async fn compare(reader: &mut ReadHalf, mut sent: &[u8]) -> Result<()> {
    while let Some(chunk) = reader.read_chunk(usize::MAX).await? {
        sent = sent.strip_prefix(&chunk[..]).ok_or("other bytes arrived than were sent")?;
    }
    ensure(sent.is_empty(), "fewer bytes arrived than were sent")
}

/// The client says all it has to say and closes; the answer comes after that.
async fn half_close(client: &Session, server: &Session) -> Result<()> {
    let mut caller = client.open().await?;
    caller.write_all(b"how long is this?").await?;
    caller.close().await?;

    let mut handler = accept(server).await?;
    let mut question = String::new();
    handler.read_to_string(&mut question).await?;
    handler.write_all(format!("{} bytes", question.len()).as_bytes()).await?;
    handler.close().await?;

    let mut answer = String::new();
    caller.read_to_string(&mut answer).await?;
    ensure(answer == "17 bytes", "the answer is wrong")?;
    done("half close", &format!("\"{question}\" ended before \"{answer}\" was said"));
    Ok(())
}

/// The client gives up on a stream; the server reads what came before, and then why.
async fn reset(client: &Session, server: &Session) -> Result<ResetCode> {
    let mut caller = client.open().await?;
    caller.write_all(b"on second thou").await?;
    let mut handler = accept(server).await?;
    caller.reset(ResetCode::CANCELLED);

    let mut text = Vec::new();
    let Err(error) = handler.read_to_end(&mut text).await else {
        return Err("a reset was read as a clean end".into());
    };
    let Some(&StreamError::Reset(code)) = error.get_ref().and_then(|e| e.downcast_ref()) else {
        return Err(error.into());
    };
    ensure(text == b"on second thou", "data before the reset was lost")?;
    done("reset", &format!("\"{}\", then an error: {code}", String::from_utf8_lossy(&text)));
    Ok(code)
}

async fn ping(client: &Session) -> Result<Duration> {
    let mut best = Duration::MAX;
    for _ in 0..20 {
        best = best.min(client.ping().await?);
    }
    done("ping", &format!("there and back in {best:.1?}"));
    Ok(best)
}

struct Slow {
    /// Bytes the session took before the writer had to wait.
    held: usize,
    /// How long another stream took meanwhile.
    beside: Duration,
}

/// A reader that does not read stops its writer, and nobody else.
async fn slow_reader(client: &Session, server: &Session) -> Result<Slow> {
    let mut writer = client.open().await?;
    let sent = payload(STREAMS, FLOOD);
    let mut held = 0;
    writer.set_write_deadline(Some(Instant::now() + PATIENCE))?;
    let stopped = loop {
        match writer.write(&sent[held..]).await {
            Ok(len) => held += len,
            Err(error) => break error,
        }
    };
    ensure(stopped.kind() == ErrorKind::TimedOut, "the writer was not held back")?;
    writer.set_write_deadline(None)?;
    let (mut reader, mut answer) = accept(server).await?.into_split();

    let started = Instant::now();
    let serve = async { Result::Ok(echo(accept(server).await?).await?) };
    try_join!(serve, call(client.open().await?, STREAMS + 1))?;
    let beside = started.elapsed();

    // Now it reads, and the writer goes on where it was.
    let finish = async {
        writer.write_all(&sent[held..]).await?;
        Result::Ok(writer.close().await?)
    };
    try_join!(finish, compare(&mut reader, &sent))?;
    answer.close().await?;
    done("slow reader", "held its writer back and no other stream, then got everything");
    Ok(Slow { held, beside })
}

/// `close` lets the streams that are open finish, and takes no new ones.
async fn shut_down(client: &Session, server: &Session) -> Result<()> {
    let mut caller = client.open().await?;
    caller.write_all(b"last orders").await?;
    let handler = accept(server).await?;

    let finish = async {
        ensure(client.open().await.is_err(), "a stream was opened while closing")?;
        caller.close().await?;
        echo(handler).await?;
        let mut text = String::new();
        caller.read_to_string(&mut text).await?;
        ensure(text == "last orders", "the last stream was cut off")
    };
    let (closed, finished) = join!(client.close(), finish);
    finished?;
    closed?;
    server.closed().await?;
    done("shut down", "the last stream finished, then both ends closed without an error");
    Ok(())
}

async fn accept(server: &Session) -> Result<Stream> {
    Ok(server.accept().await.ok_or("the session ended")?)
}

fn ensure(holds: bool, otherwise: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(otherwise.into()) }
}

/// SplitMix64: bytes that differ for every stream.
fn payload(seed: usize, len: usize) -> Vec<u8> {
    let mut state = seed as u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(z ^ (z >> 31)).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

// --- What is printed ---

/// A line that grows while a person watches.
fn progress(what: &str, now: usize, all: usize) {
    if io::stdout().is_terminal() && now.is_multiple_of(all / 100) {
        let bar = "#".repeat(40 * now / all);
        print!("\r  {what:<14}{bar:.<40} {now} of {all}");
        let _ = io::stdout().flush();
    }
}

fn done(what: &str, how: &str) {
    let over = if io::stdout().is_terminal() { "\r\x1b[K" } else { "" };
    println!("{over}  {what:<14}{how}");
}

fn row(what: &str, figure: &str, note: &str) {
    println!("  {what:<14}{figure:>12}   {note}");
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

/// With a comma after every three digits.
fn grouped(number: u64) -> String {
    match number {
        0..1_000 => number.to_string(),
        _ => format!("{},{:03}", grouped(number / 1_000), number % 1_000),
    }
}
