//! The examples do what README says of them.
//!
//! `cargo test` builds them first; with `--test examples` it does not: `cargo build --examples`.
#![allow(clippy::unwrap_used)]

use std::{
    env,
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    thread,
};

#[test]
fn tour_goes_through_and_sums_up() {
    let output = run("tour", &[]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    for word in ["half close", "reset", "ping", "slow reader", "throughput", "back-pressure"] {
        assert!(text.contains(word), "no {word} in:\n{text}");
    }
    // spec.md §5.2.1: a reader that does not read holds exactly one initial window.
    assert!(text.lines().any(|line| line.contains("back-pressure") && line.contains("256 KiB")));
}

#[test]
fn echo_brings_back_what_was_sent() {
    let server = Server::start();
    for (streams, bytes) in [("1", "0"), ("1", "1"), ("3", "700000"), ("600", "300")] {
        let args = ["connect", &server.addr, "--streams", streams, "--bytes", bytes];
        let output = run("echo", &args);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let expected = format!("connected {}\nok streams={streams} bytes={bytes}\n", server.addr);
        assert_eq!(text, expected);
    }
}

#[test]
fn echo_measures_the_round_trip_when_asked() {
    let server = Server::start();
    let output = run("echo", &["connect", &server.addr, "--ping", "--bytes", "10"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[1].starts_with("ping ") && lines[1].ends_with('s'), "{text}");
    assert_eq!(lines[2], "ok streams=1 bytes=10");
}

#[test]
fn echo_explains_itself_on_bad_usage() {
    let cases: [&[&str]; 10] = [
        &[],
        &["listen"],
        &["connect"],
        &["dance", "127.0.0.1:1"],
        &["listen", "127.0.0.1:0", "--ping"],
        &["connect", "127.0.0.1:1", "--streams"],
        &["connect", "127.0.0.1:1", "--streams", "many"],
        &["connect", "127.0.0.1:1", "--bytes", "-1"],
        &["connect", "127.0.0.1:1", "--verbose"],
        &["connect", "127.0.0.1:1", "extra"],
    ];
    for args in cases {
        let output = run("echo", args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{args:?}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("usage: "), "{output:?}");
    }
}

#[test]
fn echo_says_when_nobody_listens() {
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = run("echo", &["connect", &port.to_string()]);
    fails_with(&output, "refused");
    assert!(output.stdout.is_empty(), "{output:?}");
}

#[test]
fn echo_says_when_the_address_is_taken() {
    let server = Server::start();
    fails_with(&run("echo", &["listen", &server.addr]), "in use");
}

// spec.md §8.4.2
#[test]
fn echo_says_when_the_connection_is_cut() {
    let output = against(|mut peer| {
        peer.read_exact(&mut [0; 12]).unwrap();
        peer.write_all(&[0, 1, 0]).unwrap(); // a part of a header
    });
    fails_with(&output, "exchange 1: the session ended: ");
}

// spec.md §4.6.2
#[test]
fn echo_says_when_a_stream_is_reset() {
    let output = against(|mut peer| {
        peer.read_exact(&mut [0; 12]).unwrap();
        peer.write_all(&[0, 1, 0, 8, 0, 0, 0, 1, 0, 0, 0, 3]).unwrap();
        drain(peer);
    });
    fails_with(&output, "exchange 1: the peer reset the stream: ");
}

#[test]
fn echo_says_when_other_bytes_come_back() {
    let output = against(|mut peer| {
        peer.read_exact(&mut [0; 12]).unwrap();
        peer.write_all(&[0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 10]).unwrap();
        peer.write_all(&[0; 10]).unwrap();
        drain(peer);
    });
    fails_with(&output, "exchange 1: wrong echo after 0 bytes");
}

#[test]
fn echo_says_when_too_little_comes_back() {
    let output = against(|mut peer| {
        peer.read_exact(&mut [0; 12]).unwrap();
        peer.write_all(&[0, 1, 0, 6, 0, 0, 0, 1, 0, 0, 0, 0]).unwrap(); // ACK and FIN
        drain(peer);
    });
    fails_with(&output, "exchange 1: 0 of 10 bytes came back");
}

/// The output of a client that sends 10 bytes to a peer which `behave`s.
fn against(behave: impl FnOnce(TcpStream) + Send + 'static) -> Output {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let peer = thread::spawn(move || behave(listener.accept().unwrap().0));
    let output = run("echo", &["connect", &addr, "--bytes", "10"]);
    peer.join().unwrap();
    output
}

/// Reads until the client is gone, however it went.
fn drain(mut peer: TcpStream) {
    let _ = io::copy(&mut peer, &mut io::sink());
}

/// Fails, and says why in one line.
fn fails_with(output: &Output, reason: &str) {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.starts_with("echo: ") && text.contains(reason), "no {reason:?} in {text:?}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("ok "), "{output:?}");
}

fn run(name: &str, args: &[&str]) -> Output {
    Command::new(example(name)).args(args).stdin(Stdio::null()).output().unwrap()
}

/// The `echo` server, until it is dropped.
struct Server {
    child: Child,
    addr: String,
}

impl Server {
    fn start() -> Self {
        let mut command = Command::new(example("echo"));
        let mut child =
            command.args(["listen", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let addr = line.strip_prefix("listening ").unwrap().trim_end().to_owned();
        assert!(addr.starts_with("127.0.0.1:") && !addr.ends_with(":0"), "{line}");
        Self { child, addr }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Examples are built into a folder beside that of the tests.
fn example(name: &str) -> PathBuf {
    let mut path = env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.push("examples");
    path.push(format!("{name}{}", env::consts::EXE_SUFFIX));
    assert!(path.exists(), "build the examples first: no {}", path.display());
    path
}
