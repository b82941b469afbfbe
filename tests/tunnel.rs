//! The example `tunnel` as its users run it: two processes, and sockets at both ends.
//!
//! Nothing here measures time. [`PATIENCE`] only keeps a broken tunnel from hanging the tests.
#![allow(clippy::unwrap_used)]

use std::{
    future::Future,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader},
    join,
    net::{TcpListener, TcpSocket, TcpStream},
    process::{Child, Command},
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};

#[tokio::test]
async fn what_is_written_comes_back() {
    let mut tunnel = Tunnel::start().await;
    tunnel.echo();
    let sent = noise(1, 3_000_000);
    assert!(ask(tunnel.local, &sent).await == sent);
}

// spec.md §4.5.1: FIN ends one direction, the other goes on.
#[tokio::test]
async fn who_finished_writing_still_reads() {
    let tunnel = Tunnel::start().await;
    let (mut near, mut far) = tunnel.connection().await;
    near.write_all(b"question").await.unwrap();
    near.shutdown().await.unwrap();
    assert_eq!(to_end(&mut far).await.unwrap(), b"question");
    // More than a window, after the other direction ended.
    let answer = noise(2, 600_000);
    let send = async {
        far.write_all(&answer).await.unwrap();
        far.shutdown().await.unwrap();
    };
    let ((), got) = join!(send, to_end(&mut near));
    assert!(got.unwrap() == answer);
}

// spec.md §4.5.1, in the other direction.
#[tokio::test]
async fn what_the_target_finished_can_still_be_written_to() {
    let tunnel = Tunnel::start().await;
    let (mut near, mut far) = tunnel.connection().await;
    far.write_all(b"greeting").await.unwrap();
    far.shutdown().await.unwrap();
    assert_eq!(to_end(&mut near).await.unwrap(), b"greeting");
    let upload = noise(3, 600_000);
    let send = async {
        near.write_all(&upload).await.unwrap();
        near.shutdown().await.unwrap();
    };
    let ((), got) = join!(send, to_end(&mut far));
    assert!(got.unwrap() == upload);
}

// spec.md §4.2.4: SYN does not wait for the first write.
#[tokio::test]
async fn a_target_that_speaks_first_is_heard() {
    let tunnel = Tunnel::start().await;
    let (mut near, mut far) = tunnel.connection().await;
    far.write_all(b"220 ready\r\n").await.unwrap();
    let mut greeting = [0; 11];
    within(near.read_exact(&mut greeting)).await.unwrap();
    assert_eq!(&greeting, b"220 ready\r\n");
}

// spec.md §4.6.6: what came before a reset is delivered, and then it is not an end of file.
#[tokio::test]
async fn a_reset_of_the_local_side_reaches_the_target() {
    let tunnel = Tunnel::start().await;
    let (mut near, mut far) = tunnel.connection().await;
    near.write_all(b"half a requ").await.unwrap();
    let mut got = [0; 11];
    within(far.read_exact(&mut got)).await.unwrap();
    reset(near);
    assert_reset(&mut far).await;
}

#[tokio::test]
async fn a_reset_of_the_target_reaches_the_local_side() {
    let tunnel = Tunnel::start().await;
    let (mut near, mut far) = tunnel.connection().await;
    far.write_all(b"half an answ").await.unwrap();
    let mut got = [0; 12];
    within(near.read_exact(&mut got)).await.unwrap();
    reset(far);
    assert_reset(&mut near).await;
}

#[tokio::test]
async fn a_reset_after_a_half_close_is_still_a_reset() {
    let tunnel = Tunnel::start().await;
    let (mut near, mut far) = tunnel.connection().await;
    near.shutdown().await.unwrap();
    assert_eq!(to_end(&mut far).await.unwrap(), b"");
    reset(far);
    assert_reset(&mut near).await;

    let (mut near, mut far) = tunnel.connection().await;
    far.shutdown().await.unwrap();
    assert_eq!(to_end(&mut near).await.unwrap(), b"");
    reset(near);
    assert_reset(&mut far).await;
}

#[tokio::test]
async fn who_half_closed_and_then_reset_is_noticed_and_met_by_the_next_write() {
    let mut tunnel = Tunnel::start().await;
    let (mut near, mut far) = tunnel.connection().await;
    near.shutdown().await.unwrap();
    assert_eq!(to_end(&mut far).await.unwrap(), b"");
    let name = near.local_addr().unwrap().to_string();
    reset(near);
    // Nothing is written that would find out.
    tunnel.client.note(&name).await;
    let writes = async {
        loop {
            if let Err(error) = far.write_all(&[0; 1000]).await {
                return error;
            }
        }
    };
    let kind = within(writes).await.kind();
    assert!(matches!(kind, io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe), "{kind}");
}

#[tokio::test]
async fn a_refused_target_resets_the_local_side_and_is_explained() {
    let target = reserve();
    let mut tunnel = Tunnel::start_to(target.local_addr().unwrap(), None, 30).await;
    assert_reset_from_the_start(tunnel.local).await;
    tunnel.server.note("refused").await;
    tunnel.client.note("code 0x100").await;
}

// spec.md §8.4.2: a cut connection is not the end of its streams.
#[tokio::test]
async fn a_killed_server_resets_both_ends() {
    let mut tunnel = Tunnel::start().await;
    let (mut near, mut far) = tunnel.connection().await;
    near.write_all(b"half a requ").await.unwrap();
    let mut got = [0; 11];
    within(far.read_exact(&mut got)).await.unwrap();
    tunnel.server.kill().await;
    assert_reset(&mut near).await;
    assert_reset(&mut far).await;
}

#[tokio::test]
async fn a_killed_client_resets_both_ends() {
    let mut tunnel = Tunnel::start().await;
    let (mut near, mut far) = tunnel.connection().await;
    far.write_all(b"half an answ").await.unwrap();
    let mut got = [0; 12];
    within(near.read_exact(&mut got)).await.unwrap();
    tunnel.client.kill().await;
    assert_reset(&mut near).await;
    assert_reset(&mut far).await;
}

#[tokio::test]
async fn the_client_connects_again_and_new_connections_wait_for_it() {
    let mut tunnel = Tunnel::start_waiting(60).await;
    tunnel.echo();
    assert_eq!(ask(tunnel.local, b"before").await, b"before");
    tunnel.server.kill().await;
    tunnel.client.note("closed the link").await;
    let local = tunnel.local;
    let waiting = async { assert_eq!(ask(local, b"during").await, b"during") };
    join!(waiting, tunnel.restart_server());
    assert_eq!(ask(tunnel.local, b"after").await, b"after");
}

#[tokio::test]
async fn without_a_link_new_connections_are_reset_and_told_why() {
    let mut tunnel = Tunnel::start_waiting(0).await;
    tunnel.server.kill().await;
    tunnel.client.note("closed the link").await;
    assert_reset_from_the_start(tunnel.local).await;
    tunnel.client.note("there is no link").await;
    // The port stayed the client's, and the link comes back.
    tunnel.restart_server().await;
    tunnel.connection().await;
}

#[tokio::test]
async fn many_connections_at_once_do_not_mix() {
    let mut tunnel = Tunnel::start().await;
    tunnel.echo();
    let mut calls = JoinSet::new();
    for seed in 0..CONNECTIONS {
        let local = tunnel.local;
        calls.spawn(async move {
            let sent = noise(seed, 20_000 + 300 * seed as usize);
            assert!(ask(local, &sent).await == sent, "connection {seed}");
        });
    }
    assert_eq!(calls.join_all().await.len(), CONNECTIONS as usize);
}

// spec.md §5.2.2: a writer that waits for window holds back only its own stream.
#[tokio::test]
async fn a_connection_nobody_reads_holds_up_no_other() {
    let tunnel = Tunnel::start().await;
    let (mut stuck, unread) = tunnel.connection().await;
    let flood = tokio::spawn(async move {
        loop {
            if let Err(error) = stuck.write_all(&[0; 1 << 16]).await {
                return error;
            }
        }
    });
    for _ in 0..20 {
        let (mut near, mut far) = tunnel.connection().await;
        near.write_all(b"hello").await.unwrap();
        near.shutdown().await.unwrap();
        assert_eq!(to_end(&mut far).await.unwrap(), b"hello");
    }
    assert!(!flood.is_finished());
    reset(unread);
    assert_eq!(within(flood).await.unwrap().kind(), io::ErrorKind::ConnectionReset);
}

// spec.md §5.2.1: at a window of 0 the sender waits.
#[tokio::test]
async fn a_slow_reader_misses_nothing() {
    let tunnel = Tunnel::start().await;
    let (mut near, mut far) = tunnel.connection().await;
    let (block, blocks) = (noise(4, 1 << 20), 24);
    let send = async {
        for _ in 0..blocks {
            near.write_all(&block).await.unwrap();
        }
        near.shutdown().await.unwrap();
    };
    // Takes little at a time, so that every buffer on the way fills up.
    let receive = async {
        let (mut got, mut piece) = (Vec::new(), [0; 4096]);
        while let read @ 1.. = within(far.read(&mut piece)).await.unwrap() {
            got.extend_from_slice(&piece[..read]);
        }
        got
    };
    let ((), got) = join!(send, receive);
    assert_eq!(got.len(), blocks * block.len());
    assert!(got.chunks(block.len()).all(|chunk| chunk == block));
}

#[cfg(unix)]
#[tokio::test]
async fn an_interrupted_client_lets_connections_finish() {
    let mut tunnel = Tunnel::start().await;
    let (mut near, mut far) = tunnel.connection().await;
    near.write_all(b"begun").await.unwrap();
    let mut got = [0; 5];
    within(far.read_exact(&mut got)).await.unwrap();
    tunnel.client.interrupt().await;
    tunnel.client.note("closing").await;
    assert!(TcpStream::connect(tunnel.local).await.is_err(), "it still listens");
    near.write_all(b"finished").await.unwrap();
    near.shutdown().await.unwrap();
    assert_eq!(to_end(&mut far).await.unwrap(), b"finished");
    far.write_all(b"answered").await.unwrap();
    far.shutdown().await.unwrap();
    assert_eq!(to_end(&mut near).await.unwrap(), b"answered");
    assert!(tunnel.client.ended().await.success());
    tunnel.server.note("closed").await;
}

#[cfg(unix)]
#[tokio::test]
async fn an_interrupted_server_lets_connections_finish() {
    let mut tunnel = Tunnel::start().await;
    let (mut near, mut far) = tunnel.connection().await;
    tunnel.server.interrupt().await;
    tunnel.server.note("closing").await;
    near.write_all(b"finished").await.unwrap();
    near.shutdown().await.unwrap();
    assert_eq!(to_end(&mut far).await.unwrap(), b"finished");
    far.shutdown().await.unwrap();
    assert_eq!(to_end(&mut near).await.unwrap(), b"");
    assert!(tunnel.server.ended().await.success());
    tunnel.client.note("closed the link").await;
}

#[tokio::test]
async fn bad_arguments_and_taken_ports_are_explained() {
    let mut process = Process::start(&["client", "127.0.0.1:1", "--listen"]);
    process.note("usage").await;
    assert!(!process.ended().await.success());

    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let mut process = Process::start(&["server", &addr, "--to", "127.0.0.1:1"]);
    process.note(&format!("cannot listen on {addr}")).await;
    assert!(!process.ended().await.success());
}

const CONNECTIONS: u64 = 200;

const PATIENCE: Duration = Duration::from_secs(60);

/// A client, a server, and a listener that the server connects to.
struct Tunnel {
    client: Process,
    server: Process,
    server_addr: String,
    local: SocketAddr,
    target: String,
    listener: Option<TcpListener>,
    /// Keeps the server's port from others while it is killed.
    _reserved: TcpSocket,
}

impl Tunnel {
    async fn start() -> Self {
        Self::start_waiting(30).await
    }

    /// With a client whose connections wait so many seconds for a link.
    async fn start_waiting(seconds: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::start_to(listener.local_addr().unwrap(), Some(listener), seconds).await
    }

    async fn start_to(target: SocketAddr, listener: Option<TcpListener>, seconds: u32) -> Self {
        let reserved = reserve();
        let (server_addr, target) =
            (reserved.local_addr().unwrap().to_string(), target.to_string());
        let mut server = Process::start(&["server", &server_addr, "--to", &target]);
        assert_eq!(server.announced("listening").await, server_addr);
        let wait = seconds.to_string();
        let mut client =
            Process::start(&["client", &server_addr, "--listen", "127.0.0.1:0", "--wait", &wait]);
        let local = client.announced("listening").await.parse().unwrap();
        assert_eq!(client.announced("connected").await, server_addr);
        Self { client, server, server_addr, local, target, listener, _reserved: reserved }
    }

    async fn restart_server(&mut self) {
        self.server = Process::start(&["server", &self.server_addr, "--to", &self.target]);
        assert_eq!(self.server.announced("listening").await, self.server_addr);
        assert_eq!(self.client.announced("connected").await, self.server_addr);
    }

    /// A connection through the tunnel: its local end and the target's.
    async fn connection(&self) -> (TcpStream, TcpStream) {
        let listener = self.listener.as_ref().unwrap();
        let near = TcpStream::connect(self.local).await.unwrap();
        let (far, _) = within(listener.accept()).await.unwrap();
        (near, far)
    }

    /// Makes the target one that sends back what it gets.
    fn echo(&mut self) {
        let listener = self.listener.take().unwrap();
        tokio::spawn(async move {
            while let Ok((mut far, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = far.split();
                    tokio::io::copy(&mut from, &mut to).await.unwrap();
                    to.shutdown().await.unwrap();
                });
            }
        });
    }
}

/// One `tunnel`, killed when dropped.
struct Process {
    child: Child,
    output: mpsc::UnboundedReceiver<String>,
    notes: mpsc::UnboundedReceiver<String>,
}

impl Process {
    fn start(args: &[&str]) -> Self {
        let mut child = Command::new(binary())
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let output = lines(child.stdout.take().unwrap());
        let notes = lines(child.stderr.take().unwrap());
        Self { child, output, notes }
    }

    /// What follows `word` on the next line of output, which begins with it.
    async fn announced(&mut self, word: &str) -> String {
        let line = within(self.output.recv()).await.expect("the process ended");
        let rest = line.strip_prefix(word).unwrap_or_else(|| panic!("{line}"));
        rest.trim_start().to_owned()
    }

    /// Waits for a line for people that contains `text`.
    async fn note(&mut self, text: &str) {
        let found = async {
            while let Some(line) = self.notes.recv().await {
                if line.contains(text) {
                    return;
                }
            }
            panic!("the process ended without a note of: {text}");
        };
        within(found).await;
    }

    async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// As Ctrl-C does.
    #[cfg(unix)]
    async fn interrupt(&self) {
        let id = self.child.id().unwrap().to_string();
        let sent = Command::new("kill").args(["-INT", &id]).status().await.unwrap();
        assert!(sent.success());
    }

    async fn ended(&mut self) -> ExitStatus {
        within(self.child.wait()).await.unwrap()
    }
}

/// The example, which cargo builds beside the tests: `target/<profile>/examples`.
fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let path =
        profile.join("examples").join("tunnel").with_extension(std::env::consts::EXE_EXTENSION);
    assert!(path.exists(), "{} is missing: cargo build --example tunnel", path.display());
    path
}

/// The lines of a pipe, also shown with the output of a test that fails.
fn lines(pipe: impl AsyncRead + Unpin + Send + 'static) -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut lines = BufReader::new(pipe).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            eprintln!("{line}");
            let _ = sender.send(line);
        }
    });
    receiver
}

/// A port that nobody is given and nobody listens on, unless by name.
fn reserve() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    socket
}

async fn within<F: Future>(work: F) -> F::Output {
    timeout(PATIENCE, work).await.expect("nothing happens any more")
}

/// Sends all, ends, and returns all that comes back.
async fn ask(addr: SocketAddr, sent: &[u8]) -> Vec<u8> {
    let mut near = TcpStream::connect(addr).await.unwrap();
    let (mut from, mut to) = near.split();
    let send = async {
        to.write_all(sent).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let ((), got) = join!(send, to_end(&mut from));
    got.unwrap()
}

async fn to_end(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut got = Vec::new();
    within(from.read_to_end(&mut got)).await?;
    Ok(got)
}

async fn assert_reset(tcp: &mut TcpStream) {
    match to_end(tcp).await {
        Ok(got) => panic!("a clean end after {} bytes", got.len()),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
}

/// The reset may be there before the connection is seen to be.
async fn assert_reset_from_the_start(addr: SocketAddr) {
    match TcpStream::connect(addr).await {
        Ok(mut tcp) => assert_reset(&mut tcp).await,
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
}

/// Ends the connection with a TCP reset.
#[allow(deprecated, reason = "a linger of zero never blocks")]
fn reset(tcp: TcpStream) {
    tcp.set_linger(Some(Duration::ZERO)).unwrap();
    drop(tcp);
}

/// Bytes that differ for every seed and at every place (xorshift).
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}
