//! A TCP tunnel: any number of connections over one.
//!
//! ```text
//! tunnel server 0.0.0.0:4000 --to 127.0.0.1:6379
//! tunnel client example.com:4000 --listen 127.0.0.1:6379
//! ```
//!
//! Each TCP connection that the client accepts becomes a stream of one session, and at the server
//! a TCP connection to the target. The two ends of it should not notice:
//!
//! * each direction ends on its own: end of file becomes FIN, FIN becomes `shutdown`;
//! * what did not end well never looks as if it had: a reset, a lost link, a killed process all
//!   arrive as a TCP reset, because every socket is set to reset until its end was a clean one;
//! * who reads slowly is sent slowly, and nobody else is.
//!
//! The client keeps its port open while the link is down, and connects anew. It encrypts nothing:
//! put TLS under it where that matters.

use std::{
    convert::Infallible,
    error::Error,
    fmt::Display,
    hash::{BuildHasher, RandomState},
    io::{self, Write},
    net::SocketAddr,
    pin::pin,
    process::ExitCode,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use futures::AsyncWriteExt as _;
use tokio::{
    io::{AsyncWriteExt as _, Interest},
    net::{TcpListener, TcpStream, tcp},
    select,
    signal::ctrl_c,
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::{compat::TokioAsyncReadCompatExt, sync::CancellationToken};
use trunkline::{Config, ReadHalf, ResetCode, Session, Stream, StreamError, WriteHalf};

/// Reset codes from 256 up are the application's.
const TARGET_REFUSED: ResetCode = ResetCode(256);
const TARGET_UNREACHABLE: ResetCode = ResetCode(257);

/// Connections of one link, and links of one server: beyond these, new ones wait.
const MAX_CONNECTIONS: usize = 4096;
const MAX_LINKS: usize = 64;

/// What is read from a socket at a time, and so the most a connection holds beside its window.
const BUFFER: usize = 64 << 10;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the last connections may take once there is no link or nobody wants one.
const DRAIN: Duration = Duration::from_secs(30);
/// Between two attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

const USAGE: &str = "\
usage: tunnel server ADDR --to HOST:PORT
       tunnel client ADDR --listen LOCAL [--wait SECONDS]

The server carries what clients send to HOST:PORT. The client listens on LOCAL and connects to the
server at ADDR; while it has no link, new connections wait for SECONDS (10), then are reset.";

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args[..] {
        ["server", addr, "--to", target] => server(addr, target).await,
        ["client", addr, "--listen", local] => client(addr, local, "10").await,
        ["client", addr, "--listen", local, "--wait", wait] => client(addr, local, wait).await,
        ["--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    let Err(error) = result else { return ExitCode::SUCCESS };
    note(explain(&error));
    ExitCode::FAILURE
}

// The server.

async fn server(addr: &str, target: &str) -> io::Result<()> {
    let listener = listen(addr).await?;
    let mut links = JoinSet::new();
    let stop = CancellationToken::new();
    let accept = async {
        loop {
            let (tcp, peer) = accept(&listener).await;
            room(&mut links, MAX_LINKS).await;
            links.spawn(serve(tcp, peer, target.to_owned(), stop.clone()));
        }
    };
    interrupted(accept).await?;
    close(listener);
    stop.cancel();
    finish(&mut links).await
}

/// Serves one link: connects each of its streams to the target.
async fn serve(link: TcpStream, peer: SocketAddr, target: String, stop: CancellationToken) {
    note(format!("link from {peer}"));
    let (session, driver) = Session::server(link.compat(), config());
    tokio::spawn(driver);
    let mut connections = JoinSet::new();
    let accept = async {
        while let Some(stream) = session.accept().await {
            room(&mut connections, MAX_CONNECTIONS).await;
            connections.spawn(deliver(stream, target.clone()));
        }
    };
    stop.run_until_cancelled(accept).await;
    // If the session has ended already, this only tells how.
    match session.close().await {
        Ok(()) => note(format!("link from {peer} closed")),
        Err(error) => note(format!("link from {peer} lost: {}", explain(&error))),
    }
    // Those left write what they have, or are cut off.
    let _ = finish(&mut connections).await;
}

async fn deliver(stream: Stream, target: String) {
    match connect(&target).await {
        Ok(tcp) => report(&target, carry(tcp, stream).await),
        Err(error) => {
            note(format!("cannot connect to {target}: {error}"));
            stream.reset(match error.kind() {
                io::ErrorKind::ConnectionRefused => TARGET_REFUSED,
                _ => TARGET_UNREACHABLE,
            });
        }
    }
}

// The client.

async fn client(addr: &str, local: &str, wait: &str) -> io::Result<()> {
    let wait = Duration::from_secs(wait.parse().map_err(|_| io::Error::other(USAGE))?);
    let listener = listen(local).await?;
    let (current, link) = watch::channel(None);
    let mut connections = JoinSet::new();
    let accept = async {
        loop {
            let (tcp, peer) = accept(&listener).await;
            room(&mut connections, MAX_CONNECTIONS).await;
            let link = link.clone();
            connections.spawn(async move { report(peer, forward(tcp, link, wait).await) });
        }
    };
    interrupted(async { select!(e = accept => e, e = keep_linked(addr, &current) => e) }).await?;
    close(listener);
    let session: Option<Session> = current.send_replace(None);
    drop(current);
    if let Some(session) = session {
        // Lets the streams that are open finish, within the drain timeout.
        connections.spawn(async move { report("link", session.close().await.map_err(Into::into)) });
    }
    finish(&mut connections).await
}

async fn forward(tcp: TcpStream, link: Link, wait: Duration) -> io::Result<()> {
    reset_on_close(&tcp, true)?;
    let stream =
        timeout(wait, open(link)).await.map_err(|_| io::Error::other("there is no link"))?;
    carry(tcp, stream?).await
}

/// Connects, and connects again whenever the link is lost; `current` always has the session.
async fn keep_linked(addr: &str, current: &watch::Sender<Option<Session>>) -> Infallible {
    let mut pause = FIRST_PAUSE;
    loop {
        match link(addr).await {
            Ok(session) => {
                let since = Instant::now();
                announce(format!("connected {addr}"));
                current.send_replace(Some(session.clone()));
                let end = session.closed().await;
                current.send_replace(None);
                match end {
                    Ok(()) => note(format!("{addr} closed the link")),
                    Err(error) => note(format!("link to {addr} lost: {}", explain(&error))),
                }
                // A server that takes every link and drops it is no better than none.
                if since.elapsed() > LONGEST_PAUSE {
                    pause = FIRST_PAUSE;
                }
            }
            Err(error) => note(format!("cannot connect to {addr}: {}", explain(&error))),
        }
        // Between half and all of it, so that many clients do not come back all at once.
        let share = RandomState::new().hash_one(addr) % 512;
        sleep(pause * (512 + share as u32) / 1024).await;
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
}

/// One session with the server. The ping tells whether it is one: whoever else listens there may
/// take a connection, but does not answer.
async fn link(addr: &str) -> io::Result<Session> {
    let (session, driver) = Session::client(connect(addr).await?.compat(), config());
    tokio::spawn(driver);
    session.ping().await.map_err(io::Error::other)?;
    Ok(session)
}

/// The session there is at present.
type Link = watch::Receiver<Option<Session>>;

/// A stream of that session, or of the next.
async fn open(mut link: Link) -> io::Result<Stream> {
    let closing = |_| io::Error::other("the tunnel is closing");
    loop {
        let session = link.wait_for(Option::is_some).await.map_err(closing)?.clone();
        if let Some(session) = session
            && let Ok(stream) = session.open().await
        {
            return Ok(stream);
        }
        link.changed().await.map_err(closing)?;
    }
}

// Both.

/// Carries bytes, ends and resets between a socket and a stream, until both directions ended.
///
/// Dropped before that, it resets both: the stream does so by itself, the socket was told to.
async fn carry(mut tcp: TcpStream, stream: Stream) -> io::Result<()> {
    reset_on_close(&tcp, true)?;
    let (mut input, mut output) = stream.into_split();
    let (from, mut to) = tcp.split();
    match both(&from, &mut to, &mut input, &mut output).await {
        Ok(()) => reset_on_close(&tcp, false),
        Err(error) => {
            input.reset(ResetCode::CANCELLED);
            Err(error)
        }
    }
}

async fn both(
    from: &tcp::ReadHalf<'_>,
    to: &mut tcp::WriteHalf<'_>,
    input: &mut ReadHalf,
    output: &mut WriteHalf,
) -> io::Result<()> {
    let mut upload = pin!(upload(from, output));
    let mut download = pin!(download(input, to));
    select! {
        received = &mut download => {
            received?;
            upload.await
        }
        sent = &mut upload => match sent {
            // Nothing is left to read that would meet a reset, so look out for one.
            Ok(()) => select! {
                received = &mut download => received,
                error = failure(from) => Err(error),
            },
            // A stream delivers what it received before it fails; so do we.
            Err(error) if error.get_ref().is_some_and(|inner| inner.is::<StreamError>()) => {
                download.await.and(Err(error))
            }
            Err(error) => Err(error),
        }
    }
}

/// The socket's bytes into the stream. Waits for them without a buffer.
async fn upload(from: &tcp::ReadHalf<'_>, output: &mut WriteHalf) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        from.readable().await?;
        buffer.reserve(BUFFER);
        match from.try_read_buf(&mut buffer) {
            Ok(0) => return output.close().await,
            Ok(_) => output.write_chunk(&mut buffer.split().freeze()).await?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => buffer = BytesMut::new(),
            Err(error) => return Err(error),
        }
    }
}

/// The stream's bytes into the socket.
async fn download(input: &mut ReadHalf, to: &mut tcp::WriteHalf<'_>) -> io::Result<()> {
    while let Some(chunk) = input.read_chunk(BUFFER).await? {
        to.write_all(&chunk).await?;
    }
    to.shutdown().await
}

/// Waits for the socket to fail.
async fn failure(tcp: &tcp::ReadHalf<'_>) -> io::Error {
    match tcp.ready(Interest::ERROR).await.and_then(|_| tcp.as_ref().take_error()) {
        Ok(Some(error)) | Err(error) => error,
        Ok(None) => io::ErrorKind::ConnectionReset.into(),
    }
}

/// With `on`, closing the socket resets its connection, whoever closes it: an error, a panic, or
/// the kernel after a kill.
#[allow(deprecated, reason = "a linger of zero, or none, never blocks")]
fn reset_on_close(tcp: &TcpStream, on: bool) -> io::Result<()> {
    tcp.set_linger(on.then_some(Duration::ZERO))
}

fn config() -> Config {
    Config::builder()
        .keepalive(Some(Duration::from_secs(15)))
        .drain_timeout(DRAIN)
        // As with TCP itself, one direction may stay silent for long after the other ended.
        .close_timeout(Duration::from_secs(24 * 60 * 60))
        .build()
        .expect("all in range")
}

async fn connect(addr: &str) -> io::Result<TcpStream> {
    let tcp = timeout(CONNECT_TIMEOUT, TcpStream::connect(addr)).await??;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

async fn listen(addr: &str) -> io::Result<TcpListener> {
    let cannot = |error| io::Error::other(format!("cannot listen on {addr}: {error}"));
    let listener = TcpListener::bind(addr).await.map_err(cannot)?;
    announce(format!("listening {}", listener.local_addr()?));
    Ok(listener)
}

/// The next connection. Failing to accept one, for want of descriptors say, passes.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((tcp, peer)) if tcp.set_nodelay(true).is_ok() => return (tcp, peer),
            Ok(_) => {} // It is gone already.
            Err(error) => note(format!("cannot accept: {error}")),
        }
        sleep(FIRST_PAUSE / 10).await;
    }
}

/// Runs `work` until Ctrl-C.
async fn interrupted(work: impl Future<Output = Infallible>) -> io::Result<()> {
    select! {
        never = work => match never {},
        pressed = ctrl_c() => pressed,
    }
}

fn close(listener: TcpListener) {
    drop(listener);
    note("closing; interrupt again to stop at once");
}

/// Waits until there are fewer than `most` tasks.
async fn room(tasks: &mut JoinSet<()>, most: usize) {
    while tasks.try_join_next().is_some() {}
    if tasks.len() >= most {
        tasks.join_next().await;
    }
}

/// Waits for what is still under way, but not forever, nor against a second Ctrl-C.
async fn finish(tasks: &mut JoinSet<()>) -> io::Result<()> {
    let finished = async { while tasks.join_next().await.is_some() {} };
    select! {
        _ = timeout(2 * DRAIN, finished) => Ok(()),
        pressed = ctrl_c() => pressed,
    }
}

fn report(who: impl Display, result: io::Result<()>) {
    if let Err(error) = result {
        note(format!("{who}: {}", explain(&error)));
    }
}

/// An error with its causes.
fn explain(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", explain(cause)),
        None => error.to_string(),
    }
}

/// To standard output, for programs to read. A closed pipe is no reason to stop.
fn announce(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// To standard error, for people.
fn note(line: impl Display) {
    let _ = writeln!(io::stderr(), "tunnel: {line}");
}
