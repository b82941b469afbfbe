//! Peers that break every rule they can: each is bounded, has a name, and hurts nobody else.
#![allow(clippy::unwrap_used)]

#[path = "support/wires.rs"]
mod wires;
#[path = "support/witness.rs"]
mod witness;

use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt, FutureExt, future::join_all};
use trunkline::{
    Config, GoAwayCode, Protocol, ResetCode, Session, SessionError, Stream, StreamError,
    peers::{Claim, PeerConfig, PeerEvent, Policy, SendError},
    transport::{Address, Transport},
};
use wires::{
    Net, answer, at, framed, hello, id, introduction, ms, pause, secs, settings, soon, until,
};
use witness::{Witness, bob, end};

fn ended(sessions: &[(Session, Stream)]) -> usize {
    sessions.iter().filter(|(session, _)| session.is_closed()).count()
}

/// spec.md §16.4.3: the first stream is not to be reset, nor to be left open and unread.
#[tokio::test(start_paused = true)]
async fn a_peer_that_resets_the_stream_of_messages_is_closed() {
    let net = Net::default();
    let (bob, mut witness) = bob(&net).await;
    let (session, stream) = net.peer("bob", "eve", 1).await;
    until(|| bob.len() == 2).await;
    stream.reset(ResetCode(9));
    assert_eq!(end(&session).await, SessionError::RemoteGoAway(GoAwayCode::PROTOCOL_ERROR));
    until(|| bob.len() == 1).await;
    let peer = bob.peer(&id("eve"));
    assert_eq!(soon(peer.send("hi", Policy::Wait)).await, Err(SendError::Disconnected));
    witness.is_well().await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_finishes_and_reads_no_more_is_closed_in_time() {
    let net = Net::default();
    let (bob, mut witness) = bob(&net).await;
    let (session, mut stream) = net.peer("bob", "eve", 1).await;
    until(|| bob.len() == 2).await;
    let peer = bob.peer(&id("eve"));
    let body = vec![0; 1 << 20];
    let fates: Vec<_> = (0..20).map(|_| peer.send(body.clone(), Policy::Drop)).collect();
    pause(ms(10)).await;
    let waiting = tokio::spawn(peer.send(body.clone(), Policy::Wait));
    stream.close().await.unwrap();
    until(|| bob.len() == 1).await;
    let before = tokio::time::Instant::now();
    let fates = soon(join_all(fates)).await;
    assert!(fates.iter().all(Result::is_err), "{fates:?}");
    soon(waiting).await.unwrap().unwrap_err();
    soon(session.closed()).await.ok();
    assert!(before.elapsed() <= secs(8), "{:?}", before.elapsed());
    until(|| bob.stats().closing == 0).await;
    witness.is_well().await;
}

/// spec.md §16.5: as many of its old sessions as have a name.
#[tokio::test(start_paused = true)]
async fn a_peer_that_replaces_its_session_in_a_loop_keeps_few() {
    for (another_life, backwards) in [(false, false), (true, false), (false, true)] {
        let net = Net::default();
        let (bob, mut witness) = bob(&net).await;
        let mut sessions = Vec::new();
        for dial in 1..=200 {
            let incarnation = if another_life { dial } else { 1 };
            let dial = if backwards { 1_000 - dial } else { dial };
            let (session, mut stream) = net.say("bob", &hello(incarnation, dial, "eve")).await;
            assert_eq!(answer(&mut stream).await.unwrap()[0], 0);
            sessions.push((session, stream));
        }
        pause(ms(10)).await;
        assert_eq!((bob.len(), bob.stats().sessions), (2, 2));
        assert_eq!(bob.stats().closing, 8);
        assert_eq!(sessions.len() - ended(&sessions), 9, "one that lives, and eight that end");
        witness.is_well().await;
        pause(secs(8)).await;
        assert_eq!((bob.stats().closing, sessions.len() - ended(&sessions)), (0, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_come_under_many_names_and_go_are_limited_together() {
    let net = Net::default();
    let config = PeerConfig::builder().max_peers(10).build().unwrap();
    // Somebody takes their streams and does nothing with them.
    let bob = net.builder("bob").config(config).serve(|_, _, dispatcher| {
        std::mem::forget(dispatcher.serve(Protocol::RAW, 4).unwrap());
    });
    let bob = bob.build();
    bob.listen(&at("bob")).await.unwrap();
    let mut witness = Witness::new(&net, &bob).await;
    let (mut sessions, mut streams) = (Vec::new(), Vec::new());
    for number in 0..200 {
        let (session, mut stream) = net.peer("bob", &format!("eve {number}"), 1).await;
        streams.push(Dispatched::open(&session, Protocol::RAW).await);
        // It goes, and does not end.
        stream.close().await.ok();
        sessions.push((session, stream));
        until(|| bob.len() == 1).await;
    }
    pause(ms(10)).await;
    assert_eq!(bob.stats().closing, 10);
    assert_eq!(sessions.len() - ended(&sessions), 10);
    witness.is_well().await;
    // What the store itself closes has its time all the same.
    let (session, stream) = net.peer("bob", "mute", 1).await;
    let closing = bob.clone();
    let closing = tokio::spawn(async move { closing.peer(&id("mute")).disconnect().await });
    pause(ms(10)).await;
    assert!(!session.is_closed() && !closing.is_finished());
    soon(closing).await.unwrap();
    assert_eq!(bob.stats().closing, 0);
    drop(stream);
}

/// spec.md §16.5: those who come by themselves make nobody forget those who are wanted.
#[tokio::test(start_paused = true)]
async fn strangers_make_the_store_forget_strangers_only() {
    let net = Net::default();
    let bob = net.configured("bob", |config| config.max_peers(3)).await;
    let cat = net.store("cat").await;
    bob.keep(&at("cat")).unwrap();
    until(|| bob.len() == 1).await;
    bob.add_address(&id("dan"), &at("dan")).unwrap();
    cat.shutdown().await;
    until(|| bob.is_empty()).await;
    for number in 0..200 {
        let (session, stream) = net.peer("bob", &format!("eve {number}"), 1).await;
        session.abort(GoAwayCode::NORMAL);
        drop(stream);
        until(|| !bob.peers().iter().any(|peer| !peer.dialled)).await;
    }
    let cat = net.store("cat").await;
    until(|| bob.len() == 1 && cat.len() == 1).await;
    let _dan = net.store("dan").await;
    bob.get(&id("dan")).await.unwrap();
}

/// spec.md §16.2.3: nor those who are there.
#[tokio::test(start_paused = true)]
async fn strangers_make_nobody_forget_who_a_peer_is_that_is_there() {
    // Who is forgotten is left to chance.
    for _ in 0..10 {
        let net = Net::default();
        let verify = |claim: &Claim| Ok(claim.token.clone());
        let config = PeerConfig::builder().max_peers(2).build().unwrap();
        let bob = net.builder("bob").verify(verify).config(config).build();
        bob.listen(&at("bob")).await.unwrap();
        let ann = net.configured("ann", |config| config.token("ann's".into())).await;
        ann.connect(&at("bob")).await.unwrap();
        for number in 0..200 {
            let (session, stream) = net.peer("bob", &format!("eve {number}"), 1).await;
            session.abort(GoAwayCode::NORMAL);
            drop(stream);
            until(|| bob.len() == 1).await;
        }
        let (_session, mut stream) = net.say("bob", &hello(1, 1, "ann")).await;
        assert_eq!(answer(&mut stream).await.unwrap()[0], 1);
    }
}

/// spec.md §16.5: one task dials again, however often a peer comes and goes.
#[tokio::test(start_paused = true)]
async fn a_kept_peer_that_comes_and_goes_is_dialled_no_more_often() {
    let net = Net::default();
    let waits = Some((ms(1_000), ms(1_000)));
    let bob = net.configured("bob", |config| config.reconnect(waits)).await;
    let cat = net.store("cat").await;
    bob.connect(&at("cat")).await.unwrap();
    cat.shutdown().await;
    until(|| bob.is_empty()).await;
    for dial in 1..=300 {
        let (session, stream) = net.peer("bob", "cat", dial).await;
        session.abort(GoAwayCode::NORMAL);
        drop(stream);
        until(|| bob.is_empty()).await;
    }
    let dials = net.dials();
    pause(secs(20)).await;
    assert!((15..=21).contains(&(net.dials() - dials)), "{}", net.dials() - dials);
    // It is not forgotten either.
    let cat = net.store("cat").await;
    until(|| bob.len() == 1 && cat.len() == 1).await;
    pause(secs(5)).await;
    let dials = net.dials();
    pause(secs(20)).await;
    assert_eq!(net.dials(), dials);
}

/// A peer that accepts and ends is dialled with patience, and not given up.
#[tokio::test(start_paused = true)]
async fn a_kept_peer_that_accepts_and_ends_is_not_dialled_in_a_spin() {
    let net = Net::default();
    let ann = net.configured("ann", |config| config.reconnect(Some((ms(100), ms(100))))).await;
    let mut acceptor = net.acceptor("bob").await;
    let ending = tokio::spawn(async move {
        loop {
            let io = acceptor.accept().await.unwrap().into_io();
            let (session, driver) = Session::server(io, Config::default());
            tokio::spawn(driver);
            let mut stream = session.accept().await.unwrap();
            stream
                .write_all(&framed(&[&[0][..], &introduction(9, 0, "bob")].concat()))
                .await
                .unwrap();
            stream.flush().await.ok();
            pause(ms(1)).await;
            session.abort(GoAwayCode::INTERNAL_ERROR);
        }
    });
    ann.connect(&at("bob")).await.unwrap();
    let dials = net.dials();
    pause(secs(10)).await;
    let dials = net.dials() - dials;
    assert!((50..=101).contains(&dials), "{dials}");
    ending.abort();
}

/// spec.md §16.4.3: acks for what was never sent, messages that nobody wants.
#[tokio::test(start_paused = true)]
async fn floods_of_acks_and_messages_cost_nothing() {
    let net = Net::default();
    let (bob, mut witness) = bob(&net).await;
    let (session, mut stream) = net.peer("bob", "eve", 1).await;
    let peer = bob.peer(&id("eve"));
    for number in 0..20_000_u64 {
        let ack = [
            &b"\x02\x01\0\0\0\0\0\x02"[..],
            &number.wrapping_mul(0x9e37_79b9).to_be_bytes(),
            b"no",
        ]
        .concat();
        stream.write_all(&ack).await.unwrap();
        stream.write_all(b"\x01\0\0\0\0\0\0\x02hi").await.unwrap();
    }
    stream.flush().await.unwrap();
    witness.is_well().await;
    // What is sent then is not taken for acknowledged.
    let asking = tokio::spawn(async move { peer.send_with_ack("?", secs(1)).await });
    let mut asked = [0; 17];
    soon(stream.read_exact(&mut asked)).await.unwrap();
    assert_eq!(soon(asking).await.unwrap(), Err(SendError::TimedOut));
    assert!(!session.is_closed());
    assert_eq!((bob.len(), bob.stats().queues), (2, 2));
}

/// spec.md §16.5: acks that nobody reads.
#[tokio::test(start_paused = true)]
async fn a_peer_that_wants_acks_and_reads_none_is_closed() {
    let net = Net::default();
    let (bob, mut witness) = bob(&net).await;
    let (session, mut stream) = net.peer("bob", "eve", 1).await;
    let flood = async {
        for number in 0..1_000_000_u64 {
            let message = [&b"\x01\x01\0\0\0\0\0\0"[..], &number.to_be_bytes()].concat();
            if stream.write_all(&message).await.is_err() {
                return number;
            }
        }
        panic!("it takes everything");
    };
    let most = soon(flood).await;
    assert!(most < 200_000, "{most}");
    assert_eq!(end(&session).await, SessionError::RemoteGoAway(GoAwayCode::PROTOCOL_ERROR));
    until(|| bob.len() == 1).await;
    witness.is_well().await;
}

/// spec.md §16.4.3: each head that is none, and an end within a frame.
#[tokio::test(start_paused = true)]
async fn what_is_no_message_ends_that_session_alone() {
    let net = Net::default();
    let bob = net.configured("bob", |config| config.max_message(100)).await;
    let mut witness = Witness::new(&net, &bob).await;
    let cases: [&[u8]; 10] = [
        b"\0\0\0\0\0\0\0\0",
        b"\x03\0\0\0\0\0\0\0",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x01\x02\0\0\0\0\0\0",
        b"\x01\x81\0\0\0\0\0\0",
        b"\x02\x02\0\0\0\0\0\0",
        b"\x01\0\x01\0\0\0\0\0",
        b"\x01\0\0\x01\0\0\0\0",
        b"\x01\0\0\0\0\0\0\x65",
        b"\x02\x01\0\0\0\0\x10\x01",
    ];
    for (dial, bytes) in (1..).zip(cases) {
        let (session, mut stream) = net.peer("bob", "eve", dial).await;
        stream.write_all(bytes).await.unwrap();
        let protocol = SessionError::RemoteGoAway(GoAwayCode::PROTOCOL_ERROR);
        assert_eq!(end(&session).await, protocol, "{bytes:?}");
        until(|| bob.len() == 1).await;
    }
    for partial in [&b"\x01"[..], b"\x01\0\0\0\0\0\0\x01", b"\x02\0\0\0\0\0\0\0\0"] {
        let (session, mut stream) = net.peer("bob", "eve", 99).await;
        stream.write_all(partial).await.unwrap();
        stream.close().await.ok();
        assert_eq!(end(&session).await, SessionError::RemoteGoAway(GoAwayCode::PROTOCOL_ERROR));
    }
    witness.is_well().await;
}

/// spec.md §10: streams of protocols that nobody serves, and a second handshake.
#[tokio::test(start_paused = true)]
async fn thousands_of_streams_that_nobody_serves_are_reset() {
    let net = Net::default();
    let (bob, mut witness) = bob(&net).await;
    let (session, stream) = net.peer("bob", "eve", 1).await;
    for number in 0..3_000_u32 {
        let protocol = Protocol { number: (number % 256) as u8, version: 0 };
        let mut other = Dispatched::open(&session, protocol).await;
        assert_eq!(other.end().await, StreamError::Reset(ResetCode::UNKNOWN_PROTOCOL));
    }
    let mut second = Dispatched::open(&session, Protocol::PEERS).await;
    assert_eq!(second.end().await, StreamError::Reset(ResetCode::UNKNOWN_PROTOCOL));
    assert!(!session.is_closed() && bob.len() == 2);
    witness.is_well().await;
    drop(stream);
}

struct Dispatched {
    stream: Stream,
}

impl Dispatched {
    async fn open(session: &Session, protocol: Protocol) -> Self {
        let mut stream = trunkline::Dispatcher::open(session, protocol).await.unwrap();
        stream.flush().await.ok();
        Self { stream }
    }

    async fn end(&mut self) -> StreamError {
        let error = soon(self.stream.read(&mut [0])).await.unwrap_err();
        StreamError::of(&error).unwrap()
    }
}

/// Streams for a socket that accepts none, from a peer that comes again and again.
#[tokio::test(start_paused = true)]
async fn streams_that_no_socket_accepts_do_not_pile_up() {
    let net = Net::default();
    let bob = net.store("bob").await;
    let transport = bob.transport(4);
    let mut witness = Witness::new(&net, &bob).await;
    let mut kept = Vec::new();
    for dial in 1..=30 {
        let (session, stream) = net.peer("bob", "eve", dial).await;
        let streams = join_all((0..3).map(|_| Dispatched::open(&session, Protocol::SP))).await;
        pause(ms(1)).await;
        kept.push((session, stream, streams));
    }
    // The newest are refused.
    let (_, _, streams) = kept.last_mut().unwrap();
    assert!(matches!(streams[0].end().await, StreamError::Reset(_)));
    let address = Address::parse("peer://all").unwrap();
    let mut acceptor = transport.bind(&address, &settings()).await.unwrap();
    let mut accepted = Vec::new();
    while let Some(connection) = acceptor.accept().now_or_never() {
        accepted.push(connection.unwrap());
    }
    assert_eq!(accepted.len(), 4);
    // And there is room again.
    let (session, _, _) = kept.last().unwrap();
    let _stream = Dispatched::open(session, Protocol::SP).await;
    soon(acceptor.accept()).await.unwrap();
    witness.is_well().await;
}

/// spec.md §16.2.3: events about strangers are limited by the queue of each listener.
#[tokio::test(start_paused = true)]
async fn whoever_comes_and_goes_fills_no_queue_of_events() {
    let net = Net::default();
    let bob = net.configured("bob", |config| config.event_queue(5)).await;
    let mut events = bob.events();
    for dial in 1..=100 {
        let (session, stream) = net.peer("bob", "eve", dial).await;
        session.abort(GoAwayCode::NORMAL);
        drop(stream);
        until(|| bob.is_empty()).await;
    }
    assert_eq!(events.lost(), 195);
    let left: Vec<_> = std::iter::from_fn(|| events.try_next()).collect();
    assert_eq!(left.len(), 5);
    assert!(matches!(left[4], PeerEvent::Disconnected(_) | PeerEvent::PresumedDead { .. }));
}

/// Times that have no end are none that overflow.
#[tokio::test(start_paused = true)]
async fn the_longest_times_are_as_good_as_any() {
    let net = Net::default();
    let for_ever = |config: trunkline::peers::PeerConfigBuilder| {
        let config = config.handshake_timeout(Duration::MAX).dial_timeout(Duration::MAX);
        config.close_timeout(Duration::MAX).reconnect(Some((Duration::MAX, Duration::MAX)))
    };
    let (ann, bob) = (net.configured("ann", for_ever).await, net.configured("bob", for_ever).await);
    ann.connect(&at("bob")).await.unwrap();
    bob.shutdown().await;
    until(|| ann.is_empty()).await;
    pause(secs(1)).await;
    ann.shutdown().await;
}
