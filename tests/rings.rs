//! When the driver reads: whenever its IO rang, in whatever way, from wherever, and whoever polls
//! the driver by then. Who talks here has no timer that would make up for a lost wake.
#![allow(clippy::unwrap_used)]

mod support;
#[path = "support/tls.rs"]
#[allow(dead_code)]
mod tls;

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, mpsc},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, FutureExt, StreamExt, future,
    stream::FuturesUnordered, task::AtomicWaker,
};
use support::{Random, Sim, count, pattern};
use tokio_util::compat::TokioAsyncReadCompatExt;
use trunkline::{
    Config, Driver, Session,
    transport::{Connection, Settings, Transport, memory},
};

fn config() -> Config {
    Config::builder().no_timer().seed(Some(1)).build().unwrap()
}

/// Ends by itself when the client closes.
async fn echo_all(server: Session) {
    let mut calls = FuturesUnordered::new();
    let mut incoming = Box::pin(server.incoming()).fuse();
    loop {
        futures::select_biased! {
            _ = calls.select_next_some() => {}
            stream = incoming.next() => match stream {
                Some(stream) => calls.push(echo(stream)),
                None => break,
            },
        }
    }
    while calls.next().await.is_some() {}
}

async fn echo(stream: trunkline::Stream) {
    let (mut read, mut write) = stream.into_split();
    futures::io::copy(&mut read, &mut write).await.unwrap();
    write.close().await.unwrap();
}

/// Many small questions, each of which waits for its answer, beside a bulk transfer.
async fn talk(client: Session, rounds: usize, bytes: usize) {
    let asking = (0..4).map(|seed| ask(&client, seed, rounds));
    future::join(future::join_all(asking), bulk(&client, bytes)).await;
    client.close().await.unwrap();
}

async fn ask(client: &Session, seed: u64, rounds: usize) {
    let mut stream = client.open().await.unwrap();
    for round in 0..rounds {
        let question = pattern(seed + round as u64, 1 + round % 40);
        stream.write_all(&question).await.unwrap();
        let mut answer = vec![0; question.len()];
        stream.read_exact(&mut answer).await.unwrap();
        assert!(answer == question);
    }
    stream.close().await.unwrap();
}

async fn bulk(client: &Session, bytes: usize) {
    let (mut read, mut write) = client.open().await.unwrap().into_split();
    let sent = pattern(9, bytes);
    let send = async {
        write.write_all(&sent).await.unwrap();
        write.close().await.unwrap();
    };
    let mut got = Vec::new();
    future::join(send, read.read_to_end(&mut got)).await.1.unwrap();
    assert!(got == sent);
}

/// An IO whose wakers go through `relay`, which may pass them on in its own way.
struct Relayed<T, R> {
    io: T,
    relay: R,
}

trait Relay: Unpin {
    /// What the IO below is polled with, or `None`: the IO says "not now".
    fn waker(&mut self, waker: &Waker) -> Option<Waker>;
}

impl<T: Unpin, R: Relay> Relayed<T, R> {
    fn poll<V>(
        &mut self,
        cx: &Context<'_>,
        poll: impl FnOnce(Pin<&mut T>, &mut Context<'_>) -> Poll<V>,
    ) -> Poll<V> {
        let Some(waker) = self.relay.waker(cx.waker()) else { return Poll::Pending };
        poll(Pin::new(&mut self.io), &mut Context::from_waker(&waker))
    }
}

impl<T: AsyncRead + Unpin, R: Relay> AsyncRead for Relayed<T, R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.poll(cx, |io, cx| io.poll_read(cx, out))
    }
}

impl<T: AsyncWrite + Unpin, R: Relay> AsyncWrite for Relayed<T, R> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll(cx, |io, cx| io.poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, AsyncWrite::poll_flush)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, AsyncWrite::poll_close)
    }
}

/// Wakes at once and says "not now", every so often: as a runtime that gives each task a budget.
struct Budget(Random);

impl Relay for Budget {
    fn waker(&mut self, waker: &Waker) -> Option<Waker> {
        if self.0.below(3) == 0 {
            waker.wake_by_ref();
            return None;
        }
        Some(waker.clone())
    }
}

/// Keeps one waker, of whoever polled last in whichever direction.
#[derive(Default)]
struct OnlyOne(Arc<Kept>);

#[derive(Default)]
struct Kept(AtomicWaker);

impl Wake for Kept {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }
}

impl Relay for OnlyOne {
    fn waker(&mut self, waker: &Waker) -> Option<Waker> {
        self.0.0.register(waker);
        Some(self.0.clone().into())
    }
}

/// Wakes from a thread of its own.
struct Elsewhere(mpsc::Sender<Waker>);

struct Sent(Mutex<mpsc::Sender<Waker>>, Waker);

impl Wake for Sent {
    fn wake(self: Arc<Self>) {
        let _ = self.0.lock().unwrap().send(self.1.clone());
    }
}

impl Elsewhere {
    fn new() -> Self {
        let (sender, receiver) = mpsc::channel::<Waker>();
        std::thread::spawn(move || receiver.into_iter().for_each(Waker::wake));
        Self(sender)
    }
}

impl Relay for Elsewhere {
    fn waker(&mut self, waker: &Waker) -> Option<Waker> {
        Some(Arc::new(Sent(Mutex::new(self.0.clone()), waker.clone())).into())
    }
}

/// A future that is another task with every poll: only the waker of the last one wakes it.
struct Moving<F> {
    future: F,
    last: Arc<Mutex<Option<Arc<Once>>>>,
}

struct Once {
    waker: Waker,
    last: Arc<Mutex<Option<Arc<Self>>>>,
}

impl Wake for Once {
    fn wake(self: Arc<Self>) {
        let last = self.last.lock().unwrap().clone();
        if last.is_some_and(|last| Arc::ptr_eq(&last, &self)) {
            self.waker.wake_by_ref();
        }
    }
}

impl<F> Moving<F> {
    fn new(future: F) -> Self {
        Self { future, last: Arc::default() }
    }
}

impl<F: Future + Unpin> Future for Moving<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let once = Arc::new(Once { waker: cx.waker().clone(), last: self.last.clone() });
        *self.last.lock().unwrap() = Some(once.clone());
        self.future.poll_unpin(&mut Context::from_waker(&once.into()))
    }
}

/// Talks over this pair on a virtual executor, where a lost wake is a panic.
fn talk_in_a_sim<T>(mut sim: Sim, left: T, right: T)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (client, server) = sim.pair_over(left, right, config(), config());
    sim.spawn(echo_all(server));
    sim.run(talk(client, 30, 20_000));
}

#[test]
fn an_io_with_a_budget_is_read_again() {
    for seed in 0..count(100) {
        let (left, right) = memory::duplex(64 + seed as usize * 50);
        let budget = |io| Relayed { io, relay: Budget(Random(seed)) };
        talk_in_a_sim(Sim::new(seed), budget(left), budget(right));
    }
}

#[test]
fn an_io_that_keeps_one_waker_for_both_directions_is_read_again() {
    for seed in 0..count(100) {
        let (left, right) = memory::duplex(64 + seed as usize * 50);
        let one = |io| Relayed { io, relay: OnlyOne::default() };
        talk_in_a_sim(Sim::new(seed), one(left), one(right));
    }
}

#[test]
fn a_driver_that_moves_from_task_to_task_is_woken_where_it_is() {
    for seed in 0..count(100) {
        let mut sim = Sim::new(seed);
        let (left, right) = memory::duplex(64 + seed as usize * 50);
        let (client, driver) = Session::client(left, config());
        let (server, peer) = Session::server(right, config());
        let ends = [driver, peer].map(|driver| sim.spawn(Moving::new(driver)));
        sim.spawn(echo_all(server));
        sim.run(talk(client, 30, 20_000));
        sim.settle();
        assert!(ends.iter().all(|end| end.take() == Some(Ok(()))));
    }
}

/// Each with a waker of its own, which is another than that of the task.
#[test]
fn drivers_share_a_task_with_their_users() {
    for seed in 0..count(100) {
        let mut sim = Sim::new(seed);
        let (left, right) = memory::duplex(64 + seed as usize * 50);
        let (client, driver) = Session::client(left, config());
        let (server, peer) = Session::server(right, config());
        let tasks = [
            driver.map(|end| assert_eq!(end, Ok(()))).boxed(),
            peer.map(|end| assert_eq!(end, Ok(()))).boxed(),
            echo_all(server).boxed(),
            talk(client, 30, 20_000).boxed(),
        ];
        let tasks: FuturesUnordered<_> = tasks.into_iter().collect();
        sim.run(tasks.collect::<Vec<()>>());
    }
}

/// Fails a test that hangs: its wake was lost.
fn within_a_minute(test: impl FnOnce() + Send + 'static) {
    let (done, finished) = mpsc::channel();
    std::thread::spawn(move || {
        test();
        let _ = done.send(());
    });
    let end = finished.recv_timeout(Duration::from_secs(60));
    assert!(end != Err(mpsc::RecvTimeoutError::Timeout), "someone sleeps who should be awake");
    end.unwrap();
}

type Spawn = fn(future::BoxFuture<'static, ()>);

const TOKIO: Spawn = |task| drop(tokio::spawn(task));
const SMOL: Spawn = |task| smol::spawn(task).detach();

/// Drivers and users in tasks of their own; the drivers wander, too.
async fn talk_over<T>(spawn: Spawn, left: T, right: T)
where
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    let (client, driver) = Session::client(left, config());
    let (server, peer) = Session::server(right, config());
    let run = |driver: Driver| Moving::new(driver).map(|end| assert_eq!(end, Ok(()))).boxed();
    spawn(run(driver));
    spawn(run(peer));
    spawn(echo_all(server).boxed());
    talk(client, 300, 300_000).await;
}

fn tokio_with_threads(threads: usize) -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(threads).enable_io().build().unwrap()
}

#[test]
fn wakes_from_another_thread_are_heard() {
    within_a_minute(|| {
        let runtime = tokio_with_threads(3);
        for round in 0..count(60) as usize {
            let (left, right) = memory::duplex(64 + round * 300);
            let elsewhere = |io| Relayed { io, relay: Elsewhere::new() };
            let talk = talk_over(TOKIO, elsewhere(left), elsewhere(right));
            runtime.block_on(async { tokio::spawn(talk).await.unwrap() });
        }
    });
}

async fn tokio_tcp() -> (tokio::net::TcpStream, tokio::net::TcpStream) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (left, right) =
        future::join(tokio::net::TcpStream::connect(address), listener.accept()).await;
    (left.unwrap(), right.unwrap().0)
}

#[test]
fn tcp_on_tokio_is_read_in_time() {
    within_a_minute(|| {
        let runtime = tokio_with_threads(3);
        for _ in 0..count(60) {
            let talk = async {
                let (left, right) = tokio_tcp().await;
                talk_over(TOKIO, left.compat(), right.compat()).await;
            };
            runtime.block_on(async { tokio::spawn(talk).await.unwrap() });
        }
    });
}

#[test]
fn tcp_on_smol_is_read_in_time() {
    within_a_minute(|| {
        for _ in 0..count(60) {
            smol::block_on(async {
                let listener = smol::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                let left = smol::net::TcpStream::connect(address);
                let (left, right) = future::join(left, listener.accept()).await;
                talk_over(SMOL, left.unwrap(), right.unwrap().0).await;
            });
        }
    });
}

async fn over_tls() -> (Box<dyn Io>, Box<dyn Io>) {
    let tls = tls::Authority::new().transport();
    let address = "tls://bob".parse().unwrap();
    let runtime = trunkline::runtime::Runtime::new(|task| smol::spawn(task).detach());
    let settings = Settings::new(runtime);
    let mut acceptor = tls.bind(&address, &settings).await.unwrap();
    let connector = tls.connector(&address, &settings).unwrap();
    let (left, right) = future::join(connector.connect(), acceptor.accept()).await;
    let io = |end: io::Result<Connection>| Box::new(end.unwrap().into_io()) as Box<dyn Io>;
    (io(left), io(right))
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

#[test]
fn tls_is_read_in_time() {
    within_a_minute(|| {
        for seed in 0..count(60) {
            smol::block_on(async {
                let (left, right) = over_tls().await;
                let budget = |io| Relayed { io, relay: Budget(Random(seed)) };
                talk_over(SMOL, budget(left), budget(right)).await;
            });
        }
    });
}
