//! The same sessions on every runtime, over plain IO and over IO that holds bytes back until it
//! is flushed.
#![allow(clippy::unwrap_used)]

mod support;

use std::{future::Future, pin::Pin, sync::Arc};

use futures::{
    AsyncReadExt, AsyncWriteExt, FutureExt, executor, future,
    task::{LocalSpawnExt, SpawnExt},
};
use support::{FlushGate, inner, pattern};
use trunkline::{Config, ResetCode, Session, StreamError, transport::memory};

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Spawns on the runtime under test.
trait Spawn: Clone + Send + 'static {
    fn spawn(&self, task: Task);
}

/// Everything a session does, with both drivers and every handler in tasks of their own.
async fn sessions_work<S: Spawn>(spawner: S) {
    let (left, right) = memory::duplex(4096);
    let (client, driver) = Session::client(left, Config::default());
    let (server, peer) = Session::server(right, Config::default());
    exercise(spawner.clone(), client, driver, server, peer).await;

    let (left, right) = memory::duplex(1000);
    let (client, driver) = Session::client(FlushGate::new(left), Config::default());
    let (server, peer) = Session::server(FlushGate::new(right), Config::default());
    exercise(spawner, client, driver, server, peer).await;
}

async fn exercise<S: Spawn>(
    spawner: S,
    client: Session,
    driver: trunkline::Driver,
    server: Session,
    peer: trunkline::Driver,
) {
    for driver in [driver, peer] {
        spawner.spawn(driver.map(|result| assert_eq!(result, Ok(()))).boxed());
    }
    spawner.spawn(echo(spawner.clone(), server.clone()).boxed());
    let calls = (0..20).map(|seed| call(client.clone(), seed));
    future::join_all(calls).await;
    speak_first(&server, &client).await;
    cancelled(&client).await;
    client.ping().await.unwrap();
    server.ping().await.unwrap();
    client.close().await.unwrap();
    server.closed().await.unwrap();
    assert!(client.try_open().is_err() && server.is_closed());
}

async fn echo<S: Spawn>(spawner: S, server: Session) {
    while let Some(stream) = server.accept().await {
        let handler = async move {
            let (mut read, mut write) = stream.into_split();
            if futures::io::copy(&mut read, &mut write).await.is_ok() {
                write.close().await.unwrap();
            }
        };
        spawner.spawn(handler.boxed());
    }
}

async fn call(client: Session, seed: u64) {
    let sent = pattern(seed, 9_000 * seed as usize * (seed as usize % 3));
    let (mut read, mut write) = client.open().await.unwrap().into_split();
    let send = async {
        write.write_all(&sent).await.unwrap();
        write.close().await.unwrap();
    };
    let mut got = Vec::new();
    let (_, read) = future::join(send, read.read_to_end(&mut got)).await;
    read.unwrap();
    assert!(got == sent);
}

/// spec.md §4.2.4
async fn speak_first(server: &Session, client: &Session) {
    let greet = async {
        let mut stream = server.open().await.unwrap();
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).await.unwrap();
        stream.close().await.unwrap();
        answer
    };
    let answer = async {
        let mut stream = client.accept().await.unwrap();
        stream.write_all(b"ok").await.unwrap();
        stream.close().await.unwrap();
    };
    assert_eq!(future::join(greet, answer).await.0, *b"ok");
}

/// spec.md §4.5.7
async fn cancelled(client: &Session) {
    let mut kept = client.open().await.unwrap();
    kept.write_all(b"before").await.unwrap();
    let (read, mut write) = kept.into_split();
    drop(read);
    write.flush().await.unwrap();
    drop(write);
    let stream = client.open().await.unwrap();
    let (mut read, write) = stream.into_split();
    write.reset(ResetCode(256));
    let error = read.read(&mut [0]).await.unwrap_err();
    assert_eq!(inner(&error), StreamError::LocalReset(ResetCode(256)));
}

#[derive(Clone)]
struct Tokio;

impl Spawn for Tokio {
    fn spawn(&self, task: Task) {
        tokio::spawn(task);
    }
}

#[derive(Clone)]
struct Smol;

impl Spawn for Smol {
    fn spawn(&self, task: Task) {
        smol::spawn(task).detach();
    }
}

#[derive(Clone)]
struct Pool(executor::ThreadPool);

impl Spawn for Pool {
    fn spawn(&self, task: Task) {
        SpawnExt::spawn(&self.0, task).unwrap();
    }
}

/// A `LocalSpawner` is not `Send`; tasks go to it through a channel.
#[derive(Clone)]
struct Local(futures::channel::mpsc::UnboundedSender<Task>);

impl Spawn for Local {
    fn spawn(&self, task: Task) {
        self.0.unbounded_send(task).unwrap();
    }
}

#[test]
fn on_a_local_pool() {
    let mut pool = executor::LocalPool::new();
    let spawner = pool.spawner();
    let (sender, mut receiver) = futures::channel::mpsc::unbounded::<Task>();
    let local = spawner.clone();
    let spawning = async move {
        while let Some(task) = futures::StreamExt::next(&mut receiver).await {
            local.spawn_local(task).unwrap();
        }
    };
    spawner.spawn_local(spawning).unwrap();
    pool.run_until(sessions_work(Local(sender)));
}

#[test]
fn on_a_thread_pool() {
    let pool = executor::ThreadPool::builder().pool_size(3).create().unwrap();
    executor::block_on(sessions_work(Pool(pool)));
}

#[test]
fn on_tokio_in_one_thread() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(sessions_work(Tokio));
}

#[test]
fn on_tokio_in_many_threads() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).build().unwrap();
    runtime.block_on(async { tokio::spawn(sessions_work(Tokio)).await.unwrap() });
}

#[test]
fn on_smol() {
    smol::block_on(sessions_work(Smol));
}

#[test]
fn halves_on_two_threads_echo_16_mib() {
    let pool = executor::ThreadPool::builder().pool_size(2).create().unwrap();
    let (left, right) = memory::duplex(256 << 10);
    let (client, driver) = Session::client(left, Config::default());
    let (server, peer) = Session::server(right, Config::default());
    SpawnExt::spawn(&pool, driver.map(|result| result.unwrap())).unwrap();
    SpawnExt::spawn(&pool, peer.map(|result| result.unwrap())).unwrap();
    SpawnExt::spawn(&pool, echo(Pool(pool.clone()), server)).unwrap();
    let sent = Arc::new(pattern(1, 16 << 20));
    let (mut read, mut write) = executor::block_on(client.open()).unwrap().into_split();
    let writer = {
        let sent = sent.clone();
        std::thread::spawn(move || {
            executor::block_on(async {
                write.write_all(&sent).await.unwrap();
                write.close().await.unwrap();
            });
            write
        })
    };
    let reader = std::thread::spawn(move || {
        let mut got = Vec::new();
        executor::block_on(read.read_to_end(&mut got)).unwrap();
        (read, got)
    });
    let write = writer.join().unwrap();
    let (read, got) = reader.join().unwrap();
    assert!(got == *sent);
    drop(read.reunite(write).unwrap());
    executor::block_on(client.close()).unwrap();
}

#[cfg(feature = "tokio")]
mod tokio_feature {
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
    use trunkline::PingError;

    use super::*;

    #[tokio::test]
    async fn one_call_gives_a_session_with_tokios_traits() {
        let (left, right) = tokio::io::duplex(1000);
        let client = trunkline::tokio::client(left, Config::default());
        let server = trunkline::tokio::server(right, Config::default());
        let serve = async {
            let (read, mut write) = server.accept().await.unwrap().into_split();
            let mut lines = tokio::io::BufReader::new(read).lines();
            while let Some(line) = lines.next_line().await.unwrap() {
                write.write_all(format!("<{line}>").as_bytes()).await.unwrap();
            }
            write.shutdown().await.unwrap();
        };
        let ask = async {
            let mut stream = client.open().await.unwrap();
            assert!(tokio::io::AsyncWrite::is_write_vectored(&stream));
            stream.write_all(b"one\ntwo\n").await.unwrap();
            stream.flush().await.unwrap();
            stream.shutdown().await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "<one><two>");
        };
        tokio::join!(serve, ask);
        client.close().await.unwrap();
        server.closed().await.unwrap();
    }

    /// Tokio's paused clock is the clock of the session.
    #[tokio::test(start_paused = true)]
    async fn time_is_tokios() {
        let (left, _right) = tokio::io::duplex(1000);
        let client = trunkline::tokio::client(left, Config::default());
        let before = tokio::time::Instant::now();
        assert_eq!(client.ping().await, Err(PingError::TimedOut));
        assert_eq!(before.elapsed().as_secs(), 10);
        let mut stream = client.open().await.unwrap();
        let at = tokio::time::Instant::now() + std::time::Duration::from_secs(3);
        stream.set_read_deadline(Some(at.into_std())).unwrap();
        let error = stream.read_u8().await.unwrap_err();
        assert_eq!(inner(&error), StreamError::TimedOut);
        assert_eq!(before.elapsed().as_secs(), 13);
    }

    #[test]
    fn a_dropped_runtime_is_a_dropped_driver() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let (left, _right) = tokio::io::duplex(1000);
        let client = runtime.block_on(async { trunkline::tokio::client(left, Config::default()) });
        runtime.shutdown_background();
        // spec.md §8.5.2
        assert_eq!(
            executor::block_on(client.closed()),
            Err(trunkline::SessionError::DriverDropped)
        );
    }
}
