//! Exchanges and calls against a peer whose frames are right and whose messages are anything
//! (`spec.md §14.2.8`, `§15.5`): what it says costs its own stream and no other, every call of
//! ours has an end, and nothing is left behind.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures::{AsyncRead, AsyncWrite, FutureExt, StreamExt, stream};
use trunkline::{
    Config, Dispatcher, Protocol, ResetCode, Session, Stream,
    exchange::{Exchange, ExchangeConfig, Kind, Message},
    rpc::{Client, Connection, Receiver, Router, Server, ServerBuilder, ServerStats, codec::Raw},
    runtime::Runtime,
    transport::memory,
};

use super::{cursor::Cursor, memory as heap, turns::Turns};

/// Plays what the peer does: opens streams, writes anything, finishes, resets, lets time pass.
pub fn exchanges(data: &[u8]) {
    exchanges_outcome(data);
}

/// The same; returns what became of the peer's calls, and how many of ours went well.
pub fn exchanges_outcome(data: &[u8]) -> (ServerStats, usize) {
    let (outcome, held) = heap::change(|| {
        let mut play = Play::new();
        let mut cursor = Cursor::new(data);
        for _ in 0..MAX_STEPS {
            if cursor.is_empty() {
                break;
            }
            play.step(&mut cursor);
        }
        play.finish()
    });
    // Tables and buffers of the process at large; nothing that a peer could make grow.
    assert!(held <= 64 << 10, "{held} bytes were left behind");
    outcome
}

const MAX_STEPS: usize = 400;
const MAX_STREAMS: usize = 32;

struct Play {
    turns: Turns,
    server: Server<Router>,
    /// Ours, and the peer's end.
    victim: Session,
    peer: Session,
    client: Client,
    /// The peer's handles.
    streams: Vec<Stream>,
    /// Calls that we made, and those that have an end.
    made: usize,
    ended: Arc<AtomicUsize>,
    went_well: Arc<AtomicUsize>,
    /// What the peer wrote.
    written: usize,
    start: isize,
}

impl Play {
    fn new() -> Self {
        let turns = Turns::new();
        let runtime = turns.runtime();
        let config = Config::builder().timer(turns.timer()).seed(Some(1)).build();
        let config = config.expect("the defaults are in range");
        let (left, right) = memory::duplex(1 << 16);
        let (victim, driver) = Session::server(left, config.clone());
        let (peer, other) = Session::client(right, config);
        runtime.spawn(driver.map(drop));
        runtime.spawn(other.map(drop));
        let server = serve(&victim, &runtime);
        let client = Client::with_limits(victim.clone(), &runtime, limits());
        let client = client.timeout(Some(Duration::from_secs(5))).retries(1);
        let start = heap::held();
        let mut play = Self {
            turns,
            server,
            victim,
            peer,
            client,
            streams: Vec::new(),
            made: 0,
            ended: Arc::default(),
            went_well: Arc::default(),
            written: 0,
            start,
        };
        play.turns.settle();
        play
    }

    fn step(&mut self, cursor: &mut Cursor<'_>) {
        let mut cx = Context::from_waker(Waker::noop());
        match cursor.u8() % 8 {
            0 => self.open(cursor),
            1 | 2 => {
                let (at, len) = (usize::from(cursor.u8()), usize::from(cursor.u8()));
                let bytes = cursor.bytes(len);
                let Some(stream) = pick(&mut self.streams, at) else { return };
                self.written += bytes.len();
                let _ = Pin::new(stream).poll_write(&mut cx, bytes);
            }
            3 => {
                // A long body, of which only the length was chosen.
                let (at, len) = (usize::from(cursor.u8()), usize::from(cursor.u16()));
                let Some(stream) = pick(&mut self.streams, at) else { return };
                self.written += len;
                let _ = Pin::new(stream).poll_write(&mut cx, &vec![0; len]);
            }
            4 => {
                let Some(stream) = pick(&mut self.streams, cursor.u8().into()) else { return };
                let _ = Pin::new(stream).poll_close(&mut cx);
            }
            5 => {
                let (at, code) = (usize::from(cursor.u8()), cursor.u8());
                if at < self.streams.len() {
                    self.streams.swap_remove(at).reset(ResetCode(code.into()));
                }
            }
            6 => {
                let Some(stream) = pick(&mut self.streams, cursor.u8().into()) else { return };
                let _ = Pin::new(stream).poll_read(&mut cx, &mut [0; 1_000]);
            }
            _ => match cursor.u8() % 8 {
                0 => self.turns.pass(Duration::from_millis(1)),
                1 => self.turns.pass(Duration::from_secs(1)),
                2 => self.turns.pass(Duration::from_secs(20)),
                shape => self.call(shape),
            },
        }
        self.turns.settle();
        self.accept();
        let held = heap::held() - self.start;
        // Windows of a mebibyte are what a peer may fill; messages are bounded far below.
        assert!(held <= (4 << 20) + 4 * self.written as isize, "{held} bytes held");
    }

    fn open(&mut self, cursor: &mut Cursor<'_>) {
        let protocol = cursor.pick(&[Protocol::RPC, Protocol::EXCHANGE]);
        if self.streams.len() < MAX_STREAMS
            && let Ok(mut stream) = self.peer.try_open()
        {
            let preface = [b'T', b'K', protocol.number, protocol.version];
            let mut cx = Context::from_waker(Waker::noop());
            let _ = Pin::new(&mut stream).poll_write(&mut cx, &preface);
            self.streams.push(stream);
        }
    }

    /// The peer takes the streams of our calls, which it may answer with anything.
    fn accept(&mut self) {
        while self.streams.len() < MAX_STREAMS
            && let Some(Some(stream)) = self.peer.accept().now_or_never()
        {
            self.streams.push(stream);
        }
    }

    /// We call the peer, in each of the ways there are.
    fn call(&mut self, shape: u8) {
        self.made += 1;
        let (client, victim) = (self.client.clone(), self.victim.clone());
        let (ended, went_well) = (self.ended.clone(), self.went_well.clone());
        self.turns.runtime().spawn(async move {
            let well = call(client, victim, shape).await.is_some();
            went_well.fetch_add(usize::from(well), Ordering::Relaxed);
            ended.fetch_add(1, Ordering::Relaxed);
        });
    }

    /// The peer goes home; then everything has an end, and an honest call is served.
    fn finish(mut self) -> (ServerStats, usize) {
        // Calls that waited for a stream get one when another is let go.
        for _ in 0..=self.made {
            self.streams.clear();
            self.turns.pass(Duration::from_secs(10));
            self.accept();
            if self.streams.is_empty() && self.made == self.ended.load(Ordering::Relaxed) {
                break;
            }
        }
        assert_eq!(self.made, self.ended.load(Ordering::Relaxed), "a call without an end");
        self.turns.pass(Duration::from_secs(400));
        let stats = self.server.stats();
        assert_eq!(stats.active, 0, "a handler is left: {stats:?}");
        assert_eq!(stats.started, stats.done + stats.failed + stats.cancelled, "{stats:?}");
        let streams = self.victim.stats();
        assert_eq!((streams.inbound_streams, streams.outbound_streams), (0, 0), "{streams:?}");

        let honest = Client::new(self.peer.clone(), &self.turns.runtime());
        let said = Arc::new(AtomicUsize::new(0));
        let heard = said.clone();
        self.turns.runtime().spawn(async move {
            let body = Bytes::from_static(b"still there?");
            let answer: Bytes = honest.call("Echo.Say", &body).await.expect("the session lives");
            heard.store(answer.len(), Ordering::Relaxed);
        });
        self.turns.settle();
        assert_eq!(said.load(Ordering::Relaxed), 12, "no answer");
        (stats, self.went_well.load(Ordering::Relaxed))
    }
}

/// A call of the peer; something if it went well to its end.
async fn call(client: Client, victim: Session, shape: u8) -> Option<()> {
    let body = Bytes::from_static(b"ask");
    match shape {
        3 => drop(client.call::<_, Bytes>("A.B", &body).await.ok()?),
        4 => {
            let call = client.request("A.B").server_streaming::<_, Bytes>(&body);
            let mut many = call.await.ok()?;
            while let Some(message) = many.next().await {
                message.ok()?;
            }
        }
        5 => {
            let call = client.request("A.B").client_streaming::<Bytes, Bytes>();
            let (mut sender, answer) = call.await.ok()?;
            // An answer that came first ends the request.
            let _ = sender.send(&body).await;
            let _ = sender.finish().await;
            answer.await.ok()?;
        }
        6 => {
            let call = client.request("A.B").bidirectional::<Bytes, Bytes>();
            let (mut sender, mut many) = call.await.ok()?;
            while let Some(message) = many.next().await {
                let _ = sender.send(&message.ok()?).await;
            }
        }
        _ => {
            let mut exchange = Exchange::open(&victim, &limits());
            exchange.send(Message::new(Kind::Request, body)).await.ok()?;
            while exchange.recv().await.ok()?.is_some() {}
        }
    }
    Some(())
}

fn pick(streams: &mut [Stream], at: usize) -> Option<&mut Stream> {
    let len = streams.len();
    streams.get_mut(at % len.max(1))
}

fn limits() -> ExchangeConfig {
    let limits = ExchangeConfig::builder().max_message(100_000).fragment(1_000).build();
    limits.expect("in range")
}

/// Methods of every shape, and exchanges that echo.
fn serve(session: &Session, runtime: &Runtime) -> Server<Router> {
    type Messages = Receiver<Bytes, Raw>;
    let mut router = Router::bytes();
    let registered = router
        .unary("Echo.Say", |_, said: Bytes| async move { Ok(said) })
        .and_then(|router| {
            router.client_streaming("Echo.Up", |_, mut messages: Messages| async move {
                let mut len = 0;
                while let Some(message) = messages.next().await {
                    len += message?.len();
                }
                Ok(Bytes::from(len.to_string()))
            })
        })
        .and_then(|router| {
            router.server_streaming("Echo.Down", |_, said: Bytes| async move {
                Ok(stream::iter((0..50).map(move |_| Ok(said.clone()))))
            })
        })
        .and_then(|router| {
            router.bidirectional("Echo.Chat", |_, messages: Messages| async move { Ok(messages) })
        })
        .map(drop);
    registered.expect("names are in order");

    let mut dispatcher = Dispatcher::new(session.clone());
    let calls = dispatcher.serve(Protocol::RPC, 64).expect("once");
    let mut accepted = dispatcher.serve(Protocol::EXCHANGE, 64).expect("once");
    runtime.spawn(dispatcher.run());
    let server = ServerBuilder::default().exchange(limits()).build(router, runtime);
    let server = server.expect("the limits are in range");
    runtime.spawn(server.serve_streams(session.clone(), calls, Connection::default()));
    let (session, tasks) = (session.clone(), runtime.clone());
    runtime.spawn(async move {
        while let Some(stream) = accepted.next().await {
            let mut exchange = Exchange::accept(&session, stream, &limits());
            tasks.spawn(async move {
                while let Ok(Some(message)) = exchange.recv().await {
                    let answer = Message::new(Kind::Message, message.body);
                    if exchange.send(answer).await.is_err() {
                        return;
                    }
                }
                let _ = exchange.finish().await;
            });
        }
    });
    server
}
