//! Request/reply sockets on a virtual clock, over the memory transport, with peers made by hand
//! where the bytes matter.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{
    AsyncReadExt, AsyncWriteExt, FutureExt, StreamExt, channel::mpsc, future::join_all, pin_mut,
};
use support::{Random, Sim, count, pause};
use trunkline::{
    runtime::{BoxFuture, Runtime, Timer},
    sp::{PipeError, PipeEvent, RepSocket, ReqSocket, RequestError, SocketConfig, SocketError},
    transport::{
        Acceptor, Address, Attempt, Connection, Io, Mux, Transport, Transports, memory::Memory,
    },
};

const HERE: &str = "memory://here";

/// A world of sockets that share one memory transport.
struct World {
    sim: Sim,
    runtime: Runtime,
    memory: Memory,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut sim = Sim::new(seed);
        let (tasks, started) = mpsc::unbounded::<BoxFuture>();
        sim.spawn(started.for_each_concurrent(None, |task| task));
        let runtime = Runtime::new(move |task| drop(tasks.unbounded_send(task))).timer(sim.timer());
        Self { sim, runtime, memory: Memory::new() }
    }

    fn config(&self) -> SocketConfig {
        let transports = Transports::new().with("memory", self.memory.clone());
        SocketConfig { transports, seed: Some(7), ..SocketConfig::default() }
    }

    fn req(&self, config: SocketConfig) -> ReqSocket {
        ReqSocket::new(self.runtime.clone(), config)
    }

    fn rep(&self, config: SocketConfig) -> RepSocket {
        RepSocket::new(self.runtime.clone(), config)
    }

    /// A socket that answers every request with itself.
    fn echo(&mut self, address: &'static str) -> RepSocket {
        let rep = self.rep(self.config());
        let socket = rep.clone();
        self.sim.run(async move { socket.listen(address).await.unwrap() });
        let socket = rep.clone();
        self.sim.spawn(async move {
            while let Ok((question, replier)) = socket.recv().await {
                let _ = replier.send(question).await;
            }
        });
        rep
    }

    fn dial(&mut self, req: &ReqSocket, address: &'static str) {
        let req = req.clone();
        self.sim.run(async move { req.dial(address).await.unwrap() });
    }

    /// A listener whose peers are made by hand.
    fn raw(&mut self, name: &'static str) -> Box<dyn Acceptor> {
        let memory = self.memory.clone();
        self.sim.run(async move { memory.listen(&Address::new("memory", name)).await.unwrap() })
    }
}

/// One end of a connection whose bytes are written by hand.
struct Peer(Box<dyn Io>);

impl Peer {
    async fn accept(acceptor: &mut Box<dyn Acceptor>, greeting: [u8; 8]) -> Self {
        let mut peer = Self(acceptor.accept().await.unwrap().io);
        peer.greet(greeting).await;
        peer
    }

    async fn connect(memory: &Memory, name: &str) -> Self {
        Self(memory.connect(&Address::new("memory", name)).await.unwrap().io)
    }

    async fn greet(&mut self, greeting: [u8; 8]) -> [u8; 8] {
        self.0.write_all(&greeting).await.unwrap();
        let mut theirs = [0; 8];
        self.0.read_exact(&mut theirs).await.unwrap();
        theirs
    }

    async fn send(&mut self, message: &[u8]) {
        self.0.write_all(&(message.len() as u64).to_be_bytes()).await.unwrap();
        self.0.write_all(message).await.unwrap();
    }

    async fn receive(&mut self) -> Option<Vec<u8>> {
        let mut length = [0; 8];
        self.0.read_exact(&mut length).await.ok()?;
        let mut message = vec![0; usize::try_from(u64::from_be_bytes(length)).unwrap()];
        self.0.read_exact(&mut message).await.ok()?;
        Some(message)
    }
}

const REQ: [u8; 8] = [0, 0x53, 0x50, 0, 0, 0x30, 0, 0];
const REP: [u8; 8] = [0, 0x53, 0x50, 0, 0, 0x31, 0, 0];

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

// spec.md §13.1.1, §13.2.2
#[test]
fn greetings_and_messages_are_what_the_wire_says() {
    let mut world = World::new(1);
    let mut acceptor = world.raw("here");
    let req = world.req(world.config());
    let asking = req.clone();
    let asked = world.sim.spawn(async move {
        asking.dial(HERE).await.unwrap();
        asking.request("hello").await
    });
    world.sim.run(async move {
        let mut peer = Peer(acceptor.accept().await.unwrap().io);
        assert_eq!(peer.greet(REP).await, REQ);
        let request = peer.receive().await.unwrap();
        assert_eq!(&request[4..], b"hello");
        assert_eq!(request[0] & 0x80, 0x80, "the id has its high bit set");
        peer.send(&[&request[..4], b"world"].concat()).await;
        pause(50).await;
    });
    assert_eq!(asked.take().unwrap().unwrap(), "world");
}

// spec.md §13.1.1: and the socket goes on.
#[test]
fn a_bad_greeting_is_reported_and_costs_nothing_but_its_connection() {
    let mut world = World::new(2);
    let rep = world.echo(HERE);
    let mut events = Box::pin(rep.events());
    let bad = [
        ([1, 0x53, 0x50, 0, 0, 0x30, 0, 0], PipeError::NotSp),
        ([0, 0x54, 0x50, 0, 0, 0x30, 0, 0], PipeError::NotSp),
        ([0, 0x53, 0x51, 0, 0, 0x30, 0, 0], PipeError::NotSp),
        ([0, 0x53, 0x50, 0, 0, 0x30, 0, 1], PipeError::NotSp),
        ([0, 0x53, 0x50, 2, 0, 0x30, 0, 0], PipeError::UnsupportedVersion(2)),
        (REP, PipeError::WrongProtocol(trunkline::sp::Protocol::REP)),
    ];
    for (greeting, expected) in bad {
        let memory = world.memory.clone();
        world.sim.run(async move {
            let mut peer = Peer::connect(&memory, "here").await;
            peer.greet(greeting).await;
            assert_eq!(peer.receive().await, None, "closed");
        });
        match events.next().now_or_never() {
            Some(Some(PipeEvent::Refused { error, .. })) => assert_eq!(error, expected),
            other => panic!("{other:?} instead of {expected:?}"),
        }
    }
    assert_eq!(rep.counters().refused, 6);
    let req = world.req(world.config());
    world.dial(&req, HERE);
    assert_eq!(world.sim.run(async move { req.request("still").await }).unwrap(), "still");
}

// spec.md §13.1.3
#[test]
fn silent_peers_hold_up_nobody_and_time_out() {
    let mut world = World::new(3);
    let rep = world.echo(HERE);
    let memory = world.memory.clone();
    let mut silent = world
        .sim
        .run(async move { join_all((0..10).map(|_| Peer::connect(&memory, "here"))).await });
    let req = world.req(world.config());
    world.dial(&req, HERE);
    let asking = req.clone();
    assert_eq!(world.sim.run(async move { asking.request("quick").await }).unwrap(), "quick");

    world.sim.advance(millis(9_900));
    assert_eq!(rep.counters().refused, 0);
    world.sim.advance(millis(200));
    assert_eq!(rep.counters().refused, 10);
    world.sim.run(async move {
        for peer in &mut silent {
            peer.0.read_exact(&mut [0; 8]).await.unwrap();
            assert_eq!(peer.receive().await, None);
        }
    });
}

// spec.md §13.1.4
#[test]
fn closing_a_listener_cuts_handshakes_and_leaves_pipes() {
    let mut world = World::new(4);
    let rep = world.rep(world.config());
    let socket = rep.clone();
    let (endpoint, address) =
        world.sim.run(async move { socket.listen_with_id(HERE).await.unwrap() });
    assert_eq!(address.to_string(), HERE);
    let req = world.req(world.config());
    world.dial(&req, HERE);
    let memory = world.memory.clone();
    let mut silent = world.sim.run(async move { Peer::connect(&memory, "here").await });
    world.sim.settle();
    rep.close_endpoint(endpoint);
    world.sim.settle();
    world.sim.run(async move {
        silent.0.read_exact(&mut [0; 8]).await.unwrap();
        assert_eq!(silent.receive().await, None, "cut at once");
    });
    let answered = world.sim.spawn(async move { req.request("attached").await });
    world.sim.run(async move {
        let (question, replier) = rep.recv().await.unwrap();
        replier.send(question).await.unwrap();
    });
    world.sim.settle();
    assert_eq!(answered.take().unwrap().unwrap(), "attached");
}

// spec.md §13.5.2
#[test]
fn a_thousand_requests_at_once_get_their_own_replies_in_any_order() {
    let mut world = World::new(5);
    let rep = world.rep(world.config());
    let socket = rep.clone();
    world.sim.run(async move { socket.listen(HERE).await.unwrap() });
    for worker in 0..100_u64 {
        let socket = rep.clone();
        world.sim.spawn(async move {
            let mut random = Random(worker);
            while let Ok((question, replier)) = socket.recv().await {
                pause(random.below(20)).await;
                let _ = replier.send(question).await;
            }
        });
    }
    let req = world.req(world.config());
    world.dial(&req, HERE);
    world.sim.run(async move {
        let requests = (0..1_000_u32).map(|number| {
            let req = req.clone();
            async move {
                let body = Bytes::copy_from_slice(&number.to_be_bytes());
                assert_eq!(req.request(body.clone()).await.unwrap(), body);
            }
        });
        join_all(requests).await;
        assert_eq!(req.counters().received, 1_000);
    });
}

// spec.md §13.5.3
#[test]
fn requests_go_round_the_peers() {
    let mut world = World::new(6);
    let req = world.req(world.config());
    let socket = req.clone();
    world.sim.run(async move { socket.listen(HERE).await.unwrap() });
    let peers: Vec<_> = (0..3).map(|_| world.rep(world.config())).collect();
    for peer in &peers {
        let peer = peer.clone();
        world.sim.run(async move { peer.dial(HERE).await.unwrap() });
    }
    for _ in 0..3 {
        let context = req.context();
        world.sim.run(async move {
            context.send("one each").await.unwrap();
            std::mem::forget(context);
        });
    }
    world.sim.settle();
    for peer in &peers {
        assert!(peer.try_recv().is_ok());
        assert_eq!(peer.try_recv().err(), Some(RequestError::WouldBlock));
    }
}

// spec.md §13.5.3
#[test]
fn a_socket_uses_all_it_dials_and_all_it_accepts() {
    let mut world = World::new(7);
    let req = world.req(world.config());
    for name in ["memory://a", "memory://b"] {
        let socket = req.clone();
        world.sim.run(async move { socket.listen(name).await.unwrap() });
        let rep = world.rep(world.config());
        let peer = rep.clone();
        world.sim.run(async move { peer.dial(name).await.unwrap() });
        std::mem::forget(rep);
    }
    world.echo("memory://c");
    world.echo("memory://d");
    let socket = req.clone();
    let dialler = world.sim.run(async move {
        socket.dial("memory://c").await.unwrap();
        socket.dial("memory://d").await.unwrap()
    });
    world.sim.settle();
    assert_eq!(req.counters().pipes, 4);
    req.close_endpoint(dialler);
    world.sim.settle();
    assert_eq!(req.counters().pipes, 3);
}

// spec.md §13.5.5
#[test]
fn a_request_is_sent_again_at_equal_distances_until_it_is_answered() {
    let mut world = World::new(8);
    let mut acceptor = world.raw("here");
    let config = SocketConfig { retry: Some(millis(400)), ..world.config() };
    let req = world.req(config);
    let asking = req.clone();
    let asked = world.sim.spawn(async move {
        asking.dial(HERE).await.unwrap();
        asking.request("again?").await
    });
    let times = Rc::new(RefCell::new(Vec::new()));
    let (seen, timer) = (times.clone(), world.sim.timer());
    world.sim.spawn(async move {
        let mut peer = Peer::accept(&mut acceptor, REP).await;
        let start = timer.now();
        while let Some(request) = peer.receive().await {
            seen.borrow_mut().push((timer.now() - start).as_millis());
            if seen.borrow().len() == 4 {
                peer.send(&request).await;
            }
        }
    });
    world.sim.advance(millis(5_000));
    assert_eq!(*times.borrow(), [0, 400, 800, 1_200]);
    assert_eq!(asked.take().unwrap().unwrap(), "again?");
    assert_eq!(req.counters().resent, 3);
}

// spec.md §13.5.5: with retries at once to another peer, without them canceled at once.
#[test]
fn a_lost_pipe_resends_or_cancels() {
    for retry in [None, Some(Duration::from_secs(60))] {
        let mut world = World::new(9);
        let mut first = world.raw("first");
        let req = world.req(SocketConfig { retry, ..world.config() });
        let asking = req.clone();
        let asked = world.sim.spawn(async move {
            asking.dial("memory://first").await.unwrap();
            asking.request("survivor").await
        });
        let peer = world.sim.run(async move {
            let mut peer = Peer::accept(&mut first, REP).await;
            peer.receive().await.unwrap();
            peer
        });
        world.echo(HERE);
        world.dial(&req, HERE);
        assert!(!asked.is_ready());
        drop(peer);
        world.sim.settle();
        let result = asked.take().expect("at once");
        match retry {
            None => assert_eq!(result, Err(RequestError::Canceled)),
            Some(_) => assert_eq!(result.unwrap(), "survivor"),
        }
    }
}

// spec.md §13.5.4
#[test]
fn only_the_first_answer_to_the_id_counts_whoever_sends_it() {
    let mut world = World::new(10);
    let (mut first, mut second) = (world.raw("first"), world.raw("second"));
    let req = world.req(SocketConfig { retry: Some(millis(10)), ..world.config() });
    let asking = req.clone();
    let asked = world.sim.spawn(async move {
        asking.dial("memory://first").await.unwrap();
        asking.dial("memory://second").await.unwrap();
        asking.request("who?").await
    });
    let (mut a, mut b) = world.sim.run(async move {
        let a = Peer::accept(&mut first, REP).await;
        let b = Peer::accept(&mut second, REP).await;
        (a, b)
    });
    world.sim.run(async move {
        let request = a.receive().await.unwrap();
        assert_eq!(b.receive().await.unwrap(), request, "resent to the other");
        b.send(b"no").await;
        b.send(&[0x80, 0, 0, 1, b'x']).await;
        a.send(&[&request[..4], b"late"].concat()).await;
        pause(50).await;
        b.send(&[&request[..4], b"copy"].concat()).await;
        pause(50).await;
    });
    assert_eq!(asked.take().unwrap().unwrap(), "late");
    assert_eq!(req.counters().dropped, 3);
}

// spec.md §13.5.7
#[test]
fn a_context_has_one_request_at_a_time() {
    let mut world = World::new(11);
    let rep = world.rep(world.config());
    let socket = rep.clone();
    world.sim.run(async move { socket.listen(HERE).await.unwrap() });
    let req = world.req(world.config());
    world.dial(&req, HERE);
    let context = Rc::new(req.context());

    let asker = context.clone();
    let nothing = world.sim.run(async move { asker.recv().await });
    assert_eq!(nothing, Err(RequestError::NoRequest));

    let asker = context.clone();
    world.sim.run(async move { asker.send("first").await.unwrap() });
    let asker = context.clone();
    let superseded = world.sim.spawn(async move { asker.recv().await });
    world.sim.settle();
    let asker = context.clone();
    world.sim.run(async move { asker.send("second").await.unwrap() });
    world.sim.settle();
    assert_eq!(superseded.take().unwrap(), Err(RequestError::Canceled));

    // The reply to the first is late; the second is not disturbed.
    world.sim.run(async move {
        for _ in 0..2 {
            let (question, replier) = rep.recv().await.unwrap();
            replier.send(question).await.unwrap();
        }
    });
    let asker = context.clone();
    assert_eq!(world.sim.run(async move { asker.recv().await }).unwrap(), "second");
    let again = world.sim.run(async move { context.recv().await });
    assert_eq!(again, Err(RequestError::NoRequest));
    assert_eq!(req.counters().dropped, 1);
}

// spec.md §13.5.4, §13.5.5
#[test]
fn an_answer_stands_and_ends_the_resending_before_it_is_received() {
    let mut world = World::new(25);
    let mut acceptor = world.raw("here");
    let req = world.req(SocketConfig { retry: Some(millis(10)), ..world.config() });
    let dialling = req.clone();
    let dialled = world.sim.spawn(async move { dialling.dial(HERE).await.unwrap() });
    let mut peer = world.sim.run(async move { Peer::accept(&mut acceptor, REP).await });
    world.sim.settle();
    dialled.take().unwrap();
    let context = req.context();
    let context = world.sim.run(async move {
        context.send("once").await.unwrap();
        context
    });
    let mut peer = world.sim.run(async move {
        let request = peer.receive().await.unwrap();
        peer.send(&[&request[..4], b"first"].concat()).await;
        peer.send(&[&request[..4], b"second"].concat()).await;
        peer
    });
    world.sim.advance(millis(500));
    assert!(peer.receive().now_or_never().is_none(), "nothing is sent after the answer");
    assert_eq!(world.sim.run(async move { context.recv().await }).unwrap(), "first");
    assert_eq!((req.counters().dropped, req.counters().resent), (1, 0));
}

// spec.md §13.4.5
#[test]
fn a_request_whose_pipe_was_closed_is_not_received() {
    let mut world = World::new(26);
    let rep = world.rep(world.config());
    let mut events = Box::pin(rep.events());
    let socket = rep.clone();
    world.sim.run(async move { socket.listen(HERE).await.unwrap() });
    let memory = world.memory.clone();
    let peer = world.sim.run(async move {
        let mut peer = Peer::connect(&memory, "here").await;
        peer.greet(REQ).await;
        peer.send(&[0x80, 0, 0, 1]).await;
        peer
    });
    world.sim.settle();
    assert_eq!(rep.counters().received, 1);
    match events.next().now_or_never() {
        Some(Some(PipeEvent::Attached(pipe))) => pipe.close(),
        other => panic!("{other:?}"),
    }
    world.sim.settle();
    assert_eq!(rep.try_recv().err(), Some(RequestError::WouldBlock));
    drop(peer);
}

// spec.md §13.5.7
#[test]
fn timeouts_end_the_request_and_not_the_connection() {
    let mut world = World::new(12);
    let config = SocketConfig {
        send_timeout: Some(millis(50)),
        recv_timeout: Some(millis(25)),
        retry: Some(millis(10)),
        ..world.config()
    };
    let req = world.req(config);
    let asking = req.clone();
    let nobody = world.sim.run(async move { asking.request("anyone?").await });
    assert_eq!(nobody, Err(RequestError::TimedOut));

    let mut acceptor = world.raw("here");
    let asking = req.clone();
    let dialled = world.sim.spawn(async move { asking.dial(HERE).await.unwrap() });
    let mut peer = world.sim.run(async move { Peer::accept(&mut acceptor, REP).await });
    world.sim.settle();
    dialled.take().unwrap();
    let asking = req.clone();
    let unanswered = world.sim.run(async move { asking.request("well?").await });
    assert_eq!(unanswered, Err(RequestError::TimedOut));
    // Sent at 0, 10 and 20 ms, and never after.
    world.sim.advance(millis(500));
    world.sim.run(async move {
        for _ in 0..3 {
            assert_eq!(&peer.receive().await.unwrap()[4..], b"well?");
        }
        assert!(peer.receive().now_or_never().is_none());
    });
    assert_eq!(req.counters().pipes, 1);
}

// spec.md §13.5.8
#[test]
fn without_peers_a_request_waits_or_fails_as_told() {
    let mut world = World::new(13);
    let req = world.req(SocketConfig { fail_without_peers: true, ..world.config() });
    let asking = req.clone();
    let none = world.sim.run(async move { asking.request("x").await });
    assert_eq!(none, Err(RequestError::NoPeers));
    let mut acceptor = world.raw("here");
    let asking = req.clone();
    let asked = world.sim.spawn(async move {
        asking.dial(HERE).await.unwrap();
        asking.request("x").await
    });
    let peer = world.sim.run(async move { Peer::accept(&mut acceptor, REP).await });
    world.sim.settle();
    assert!(!asked.is_ready());
    drop(peer);
    world.sim.settle();
    assert_eq!(asked.take().unwrap(), Err(RequestError::NoPeers));

    let eager = world.req(SocketConfig { best_effort: true, ..world.config() });
    let context = eager.context();
    world.sim.run(async move { context.send("queued").await.unwrap() });
    let patient = world.req(world.config());
    let context = patient.context();
    let waits = world.sim.spawn(async move { context.send("waits").await });
    world.sim.settle();
    assert!(!waits.is_ready());
}

// spec.md §13.4
#[test]
fn a_reply_carries_the_words_of_its_request() {
    let mut world = World::new(14);
    let rep = world.rep(world.config());
    let socket = rep.clone();
    world.sim.run(async move { socket.listen(HERE).await.unwrap() });
    let socket = rep.clone();
    world.sim.spawn(async move {
        while let Ok((question, replier)) = socket.recv().await {
            assert!(question.is_empty() || question == "ping", "the words are not in the body");
            replier.send(question).await.unwrap();
        }
    });
    let memory = world.memory.clone();
    let counters = rep.clone();
    world.sim.run(async move {
        let mut peer = Peer::connect(&memory, "here").await;
        assert_eq!(peer.greet(REQ).await, REP);
        let words = [[0, 0, 0, 1], [0, 0, 0, 2], [0x80, 0, 0, 3]].concat();
        for junk in [&b""[..], b"abc", &[0, 0, 0, 1], &[0, 0, 0, 1].repeat(9)] {
            peer.send(junk).await;
        }
        peer.send(&[&words[..], b"ping"].concat()).await;
        assert_eq!(peer.receive().await.unwrap(), [&words[..], b"ping"].concat());
        peer.send(&words[8..]).await;
        assert_eq!(peer.receive().await.unwrap(), &words[8..], "an empty body");
    });
    assert_eq!(counters.counters().dropped, 4);
}

// spec.md §13.4.4
#[test]
fn requests_stay_with_their_peers_until_somebody_receives() {
    let mut world = World::new(15);
    let rep = world.rep(world.config());
    let socket = rep.clone();
    world.sim.run(async move { socket.listen(HERE).await.unwrap() });
    let memory = world.memory.clone();
    let _peers = world.sim.run(async move {
        let mut peers = Vec::new();
        for number in 0..100 {
            let mut peer = Peer::connect(&memory, "here").await;
            peer.greet(REQ).await;
            for _ in 0..5 {
                peer.send(&[0x80, 0, 0, number]).await;
            }
            peers.push(peer);
        }
        peers
    });
    world.sim.settle();
    let received = rep.counters().received;
    assert_eq!(received, 100, "one of each peer, of five");
    let taker = rep.clone();
    let taken = world.sim.run(async move { taker.recv().await });
    world.sim.settle();
    assert_eq!(rep.counters().received, received + 1);
    drop(taken);
}

// spec.md §13.4.5
#[test]
fn a_reply_to_a_peer_that_is_gone_says_so() {
    let mut world = World::new(16);
    let rep = world.rep(world.config());
    let socket = rep.clone();
    world.sim.run(async move { socket.listen(HERE).await.unwrap() });
    let memory = world.memory.clone();
    world.sim.run(async move {
        let mut peer = Peer::connect(&memory, "here").await;
        peer.greet(REQ).await;
        peer.send(&[0x80, 0, 0, 1]).await;
        let (_, replier) = rep.recv().await.unwrap();
        assert_eq!(replier.pipe().remote_addr(), "here");
        drop(peer);
        pause(50).await;
        assert_eq!(replier.send("too late").await, Err(RequestError::PeerGone));
    });
}

// spec.md §13.2.3
#[test]
fn a_message_too_long_costs_its_pipe_and_says_why() {
    let mut world = World::new(17);
    let rep = world.echo(HERE);
    let mut events = Box::pin(rep.events());
    let memory = world.memory.clone();
    world.sim.run(async move {
        let mut peer = Peer::connect(&memory, "here").await;
        peer.greet(REQ).await;
        let mut largest = vec![7; 1 << 20];
        largest[0] = 0x80;
        let (mut reader, mut writer) = peer.0.split();
        let write = async {
            writer.write_all(&(1_u64 << 20).to_be_bytes()).await.unwrap();
            writer.write_all(&largest).await.unwrap();
        };
        let read = async {
            let mut back = vec![0; 8 + (1 << 20)];
            reader.read_exact(&mut back).await.unwrap();
            assert_eq!(back[8..], largest, "exactly the limit is echoed");
        };
        futures::join!(write, read);
        writer.write_all(&((1_u64 << 20) + 1).to_be_bytes()).await.unwrap();
        assert_eq!(reader.read(&mut [0]).await.unwrap(), 0);
    });
    let mut last = None;
    while let Some(Some(event)) = events.next().now_or_never() {
        last = Some(event);
    }
    match last {
        Some(PipeEvent::Detached(_, error)) => {
            assert_eq!(error, PipeError::TooLong { length: (1 << 20) + 1, max: 1 << 20 });
        }
        other => panic!("{other:?}"),
    }
}

// spec.md §13.6.2
#[test]
fn a_peer_that_turns_us_away_is_dialled_at_a_bounded_rate() {
    let mut world = World::new(18);
    let mut acceptor = world.raw("here");
    let dials = Rc::new(RefCell::new(0));
    let counted = dials.clone();
    world.sim.spawn(async move {
        loop {
            // Attached, and cut at once: the pause begins anew each time.
            drop(Peer::accept(&mut acceptor, REP).await);
            *counted.borrow_mut() += 1;
        }
    });
    let req = world.req(world.config());
    let endpoint = req.dial_background(HERE).unwrap();
    world.sim.advance(millis(10_000));
    let dialled = *dials.borrow();
    assert!((50..=101).contains(&dialled), "{dialled} dials in ten seconds");
    req.close_endpoint(endpoint);
    world.sim.advance(millis(60_000));
    assert_eq!(*dials.borrow(), dialled);
}

// spec.md §13.6.2
#[test]
fn a_lost_peer_is_dialled_again_and_gets_the_waiting_request() {
    let mut world = World::new(19);
    let req = world.req(world.config());
    assert!(matches!(
        world.sim.run({
            let req = req.clone();
            async move { req.dial(HERE).await }
        }),
        Err(SocketError::Io(_))
    ));
    req.dial_background(HERE).unwrap();
    world.sim.advance(millis(300));
    let asking = req.clone();
    let asked = world.sim.spawn(async move { asking.request("patience").await });
    world.echo(HERE);
    world.sim.advance(millis(20_000));
    assert_eq!(asked.take().unwrap().unwrap(), "patience");
}

// spec.md §13.5.1
#[test]
fn pipes_that_are_not_admitted_leave_nothing_behind() {
    let mut world = World::new(20);
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = seen.clone();
    let admit = Arc::new(move |pipe: &trunkline::sp::Pipe| {
        assert_ne!(pipe.id().to_string(), "0");
        counted.fetch_add(1, Ordering::SeqCst) >= 1_000
    });
    let rep = world.rep(SocketConfig { admit: Some(admit), ..world.config() });
    let socket = rep.clone();
    world.sim.run(async move { socket.listen(HERE).await.unwrap() });
    for _ in 0..1_000 {
        let memory = world.memory.clone();
        world.sim.run(async move {
            let mut peer = Peer::connect(&memory, "here").await;
            peer.greet(REQ).await;
            assert_eq!(peer.receive().await, None);
        });
    }
    assert_eq!((rep.counters().pipes, rep.counters().refused), (0, 1_000));
    let req = world.req(world.config());
    world.dial(&req, HERE);
    world.sim.settle();
    assert_eq!(rep.counters().pipes, 1);
}

// spec.md §13.6.3
#[test]
fn close_tells_everyone_and_writes_what_was_sent() {
    let mut world = World::new(21);
    let rep = world.rep(world.config());
    let socket = rep.clone();
    world.sim.run(async move { socket.listen(HERE).await.unwrap() });
    let req = world.req(world.config());
    world.dial(&req, HERE);
    let asking = req.clone();
    let asked = world.sim.spawn(async move { asking.request("x").await });
    let receiving = rep.clone();
    let (_, replier) = world.sim.run(async move { receiving.recv().await.unwrap() });
    let receiving = rep.clone();
    let received = world.sim.spawn(async move { receiving.recv().await.map(|_| ()) });
    let closing = rep.clone();
    world.sim.run(async move {
        replier.send("last words").await.unwrap();
        closing.close().await;
        closing.close().await;
    });
    world.sim.settle();
    assert_eq!(asked.take().unwrap().unwrap(), "last words");
    assert_eq!(received.take().unwrap(), Err(RequestError::Closed));
    assert_eq!(rep.counters().pipes, 0);
    assert!(matches!(
        world.sim.run(async move { rep.listen("memory://other").await }),
        Err(SocketError::Closed)
    ));

    let asking = req.clone();
    let asked = world.sim.spawn(async move { asking.request("nobody").await });
    world.sim.settle();
    world.sim.run(async move { req.close().await });
    world.sim.settle();
    assert_eq!(asked.take().unwrap(), Err(RequestError::Closed));
}

/// Never connects.
struct BlackHole;

impl Transport for BlackHole {
    fn connect<'a>(&'a self, _: &'a Address) -> Attempt<'a, Connection> {
        Box::pin(std::future::pending())
    }

    fn listen<'a>(&'a self, _: &'a Address) -> Attempt<'a, Box<dyn Acceptor>> {
        Box::pin(async { Err(std::io::ErrorKind::Unsupported.into()) })
    }
}

// spec.md §13.6.1
#[test]
fn connecting_has_its_time_and_transports_are_values() {
    let mut world = World::new(22);
    let transports = Transports::new().with("hole", BlackHole);
    let req = world.req(SocketConfig { transports, ..world.config() });
    let dialling = req.clone();
    let dialled = world.sim.spawn(async move { dialling.dial("hole://deep").await });
    world.sim.advance(millis(9_900));
    assert!(!dialled.is_ready());
    world.sim.advance(millis(200));
    match dialled.take().unwrap() {
        Err(SocketError::Io(error)) => assert_eq!(error.kind(), std::io::ErrorKind::TimedOut),
        other => panic!("{other:?}"),
    }
    world.sim.run(async move {
        assert!(matches!(req.dial("foo").await, Err(SocketError::Address(_))));
        assert!(matches!(req.dial(HERE).await, Err(SocketError::UnknownScheme(_))));
        assert!(matches!(req.listen("hole://x").await, Err(SocketError::Io(_))));
    });
}

// spec.md §13.3.5
#[test]
fn many_sockets_share_one_session_and_find_another_when_it_ends() {
    let mut world = World::new(24);
    let mux = Mux::new("memory", world.memory.clone(), world.runtime.clone());
    let transports = Transports::new().with("mux+memory", mux.clone());
    let config = || SocketConfig { transports: transports.clone(), ..SocketConfig::default() };
    let rep = world.rep(config());
    let socket = rep.clone();
    let address = world.sim.run(async move { socket.listen("mux+memory://here").await.unwrap() });
    assert_eq!(address.to_string(), "mux+memory://here");
    let socket = rep.clone();
    world.sim.spawn(async move {
        while let Ok((question, replier)) = socket.recv().await {
            let _ = replier.send(question).await;
        }
    });
    let sockets: Vec<_> = (0..20).map(|_| world.req(config())).collect();
    for req in sockets.clone() {
        world.sim.run(async move {
            req.dial("mux+memory://here").await.unwrap();
            assert_eq!(req.request("shared").await.unwrap(), "shared");
        });
    }
    let shared = mux.clone();
    let session = world.sim.run(async move { shared.session("here").await.unwrap() });
    assert_eq!(session.stats().outbound_streams, 20, "all on one session");

    session.abort(trunkline::GoAwayCode::INTERNAL_ERROR);
    world.sim.advance(millis(5_000));
    for req in sockets.clone() {
        world.sim.run(async move {
            assert_eq!(req.request("anew").await.unwrap(), "anew");
        });
    }
    let session = world.sim.run(async move { mux.session("here").await.unwrap() });
    assert_eq!(session.stats().outbound_streams, 20);
    assert_eq!(rep.counters().pipes, 20);
}

// spec.md §13.5.4, §13.6.2: whatever is cut, a request gets exactly one reply.
#[test]
fn cuts_lose_nothing_and_leave_nothing() {
    let mut world = World::new(23);
    let rep = world.echo(HERE);
    let req = world.req(SocketConfig { reconnect_min: millis(1), ..world.config() });
    world.dial(&req, HERE);
    let pipes = rep.clone();
    let asking = req.clone();
    let mut events = Box::pin(rep.events());
    let rounds = count(100_000);
    world.sim.run_for(Duration::from_secs(100_000), async move {
        let mut attached = None;
        for round in 0..rounds {
            while let Some(Some(event)) = events.next().now_or_never() {
                if let PipeEvent::Attached(pipe) = event {
                    attached = Some(pipe);
                }
            }
            let request = asking.request(round.to_string());
            pin_mut!(request);
            if round % 100 == 50
                && let Some(pipe) = attached.take()
            {
                pause(usize::try_from(round % 7).unwrap()).await;
                pipe.close();
            }
            assert_eq!(request.await.unwrap(), round.to_string());
        }
        assert!(pipes.counters().pipes <= 1);
    });
    assert_eq!(req.counters().pipes, 1);
    assert!(format!("{req:?}").len() < 1_000);
}
