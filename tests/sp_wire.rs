//! The SP wire format, byte for byte.
#![allow(clippy::unwrap_used)]

mod sp_support;

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{AsyncRead, AsyncWrite, FutureExt};
use quickcheck::quickcheck;
use sp_support::{
    Peer, PeerListener, REP, REQ, count, defaults, drain, echo, echo_at, ms, options, raw_req, rep,
    req, run, settle, split, words,
};
use trunkline::{
    sp::{
        DialError, HandshakeError, Message, PipeError, PipeEvent, ProtocolId, SendError,
        wire::{self, BacktraceError, HeaderError, Inbox, MessageError, Outbox},
    },
    transport::{
        Address, Binding, Connecting, Connection, Connector, Framing, Io, Settings, Transport,
        Transports, memory::Memory,
    },
};

const ADDRESS: &str = "memory://wire";

#[test]
fn protocols_have_the_numbers_of_the_family() {
    // spec.md §13.1
    let all = [
        (ProtocolId::PAIR, 0x10, "pair"),
        (ProtocolId::PUB, 0x20, "pub"),
        (ProtocolId::SUB, 0x21, "sub"),
        (ProtocolId::REQ, 0x30, "req"),
        (ProtocolId::REP, 0x31, "rep"),
        (ProtocolId::PUSH, 0x50, "push"),
        (ProtocolId::PULL, 0x51, "pull"),
        (ProtocolId::SURVEYOR, 0x62, "surveyor"),
        (ProtocolId::RESPONDENT, 0x63, "respondent"),
        (ProtocolId::BUS, 0x70, "bus"),
        (ProtocolId::STAR, 0x640, "star"),
    ];
    for (id, number, name) in all {
        assert_eq!((id.0, id.name()), (number, name));
    }
    assert_eq!(ProtocolId(0x99).name(), "unknown");
}

#[test]
fn sockets_tell_what_they_speak() {
    run(async {
        let transports = Transports::default();
        let (client, server) = (req(&transports, defaults()), rep(&transports, defaults()));
        let info = client.info();
        assert_eq!((info.own, info.peer), (ProtocolId::REQ, ProtocolId::REP));
        assert_eq!((info.own_name(), info.peer_name()), ("req", "rep"));
        assert_eq!(server.info().own, ProtocolId::REP);
        assert_eq!(raw_req(&transports, defaults()).info(), client.info());
    });
}

#[test]
fn both_roles_begin_with_eight_bytes() {
    run(async {
        // spec.md §13.2
        let transports = Transports::default();
        let server = rep(&transports, defaults());
        server.listen(ADDRESS).await.unwrap();
        let mut peer = Peer::connect(&transports, ADDRESS).await.unwrap();
        assert_eq!(peer.read(8).await, [0x00, 0x53, 0x50, 0x00, 0x00, 0x31, 0x00, 0x00]);

        let mut listener = PeerListener::bind(&transports, "memory://other").await;
        let client = req(&transports, defaults());
        client.dialer("memory://other", defaults()).unwrap().dial_background().unwrap();
        let mut peer = listener.accept().await;
        assert_eq!(peer.read(8).await, [0x00, 0x53, 0x50, 0x00, 0x00, 0x30, 0x00, 0x00]);
    });
}

#[test]
fn a_bad_header_is_a_typed_error_and_hurts_no_one_else() {
    run(async {
        // spec.md §13.2
        let transports = Transports::default();
        let server = rep(&transports, defaults());
        server.listen(ADDRESS).await.unwrap();
        let mut events = server.events();
        let bad = [*b"\x01SP\0\0\x30\0\0", *b"\0XP\0\0\x30\0\0", *b"\0SX\0\0\x30\0\0"];
        let reserved = [*b"\0SP\0\0\x30\x01\0", *b"\0SP\0\0\x30\0\x01"];
        let mut cases: Vec<_> = bad
            .into_iter()
            .chain(reserved)
            .map(|bytes| (bytes, HandshakeError::Header(HeaderError::Malformed(bytes))))
            .collect();
        cases.push((*b"\0SP\x01\0\x30\0\0", HandshakeError::Header(HeaderError::Version(1))));
        let wrong =
            HandshakeError::WrongProtocol { peer: ProtocolId::REP, expected: ProtocolId::REQ };
        cases.push((REP, wrong));
        for (bytes, expected) in cases {
            let mut peer = Peer::connect(&transports, ADDRESS).await.unwrap();
            peer.write(&bytes).await;
            peer.read(8).await;
            assert!(peer.is_closed().await);
            match &drain(&mut events).await[..] {
                [PipeEvent::HandshakeFailed { error, address, .. }] => {
                    assert_eq!((*error, address.to_string()), (expected, ADDRESS.into()));
                }
                other => panic!("{other:?}"),
            }
        }
        let mut peer = Peer::connect(&transports, ADDRESS).await.unwrap();
        peer.write(&REQ[..5]).await;
        drop(peer);
        let events = drain(&mut events).await;
        let [PipeEvent::HandshakeFailed { error: HandshakeError::Closed, .. }] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!(server.stats().handshakes_failed, 8);
        echo(&server);
        let client = req(&transports, defaults());
        client.dial(ADDRESS).await.unwrap();
        assert_eq!(client.request("still here").await.unwrap(), "still here");
    });
}

#[test]
fn dialling_the_wrong_protocol_fails_with_its_name() {
    run(async {
        let transports = Transports::default();
        let server = req(&transports, defaults());
        server.listen(ADDRESS).await.unwrap();
        let error = req(&transports, defaults()).dial(ADDRESS).await.unwrap_err();
        let DialError::Handshake(HandshakeError::WrongProtocol { peer, .. }) = error else {
            panic!("{error}")
        };
        assert_eq!(peer, ProtocolId::REQ);
    });
}

#[test]
fn a_request_is_its_length_its_id_and_its_body() {
    run(async {
        // spec.md §13.3, §13.4
        let transports = Transports::default();
        let client = req(&transports, defaults());
        let dialer = client.dialer(ADDRESS, defaults()).unwrap();
        let (_listener, mut peer) = PeerListener::dialled(&transports, &dialer).await;
        client.send("hello").await.unwrap();
        let bytes = peer.read(17).await;
        assert_eq!(bytes[..8], 9_u64.to_be_bytes());
        assert_eq!(bytes[8] & 0x80, 0x80, "the high bit of the id");
        assert_eq!(&bytes[12..], b"hello");
        let id: [u8; 4] = bytes[8..12].try_into().unwrap();
        peer.send(&words(&[u32::from_be_bytes(id)], b"")).await;
        assert_eq!(client.recv().await.unwrap(), "");
    });
}

/// Memory that counts how often it is written to.
#[derive(Clone, Debug, Default)]
struct CountingWrites {
    memory: Memory,
    writes: Arc<AtomicUsize>,
}

impl Transport for CountingWrites {
    fn connector(&self, address: &Address, settings: &Settings) -> io::Result<Box<dyn Connector>> {
        Ok(Box::new(CountingDial(self.memory.connector(address, settings)?, self.writes.clone())))
    }

    fn bind(&self, address: &Address, settings: &Settings) -> Binding {
        self.memory.bind(address, settings)
    }
}

struct CountingDial(Box<dyn Connector>, Arc<AtomicUsize>);

impl Connector for CountingDial {
    fn connect(&self) -> Connecting {
        let (connecting, writes) = (self.0.connect(), self.1.clone());
        async move { Ok(Connection::new(CountedWrites(connecting.await?.into_io(), writes))) }
            .boxed()
    }
}

struct CountedWrites(Box<dyn Io>, Arc<AtomicUsize>);

impl AsyncRead for CountedWrites {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for CountedWrites {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.1.fetch_add(1, Ordering::SeqCst);
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.1.fetch_add(1, Ordering::SeqCst);
        // The counted one takes all there is, as a socket with room does.
        let all: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        Pin::new(&mut self.0).poll_write(cx, &all)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}

#[test]
fn a_message_of_any_size_leaves_in_one_write() {
    run(async {
        let counting = CountingWrites { memory: Memory::new(1 << 20), ..Default::default() };
        let transports = Transports::none().with("counting", counting.clone());
        let client = req(&transports, defaults());
        let dialer = client.dialer("counting://x", defaults()).unwrap();
        let (_listener, mut peer) = PeerListener::dialled(&transports, &dialer).await;
        for size in [0, 64, 4_096, 4_097, 65_536, 500_000] {
            settle().await;
            let before = counting.writes.load(Ordering::SeqCst);
            client.send(vec![1; size]).await.unwrap();
            assert_eq!(peer.recv().await.len(), 4 + size);
            settle().await;
            assert_eq!(counting.writes.load(Ordering::SeqCst) - before, 1, "{size}");
        }
        // Those that are sent together go together.
        let contexts: Vec<_> = (0..10).map(|_| client.context().unwrap()).collect();
        let before = counting.writes.load(Ordering::SeqCst);
        contexts.iter().for_each(|context| context.try_send(vec![1; 5_000]).unwrap());
        settle().await;
        assert_eq!(counting.writes.load(Ordering::SeqCst) - before, 1);
    });
}

#[test]
fn header_and_body_are_one_on_the_wire() {
    run(async {
        // spec.md §13.3
        let transports = Transports::default();
        let client = raw_req(&transports, defaults());
        let dialer = client.dialer(ADDRESS, defaults()).unwrap();
        let (_listener, mut peer) = PeerListener::dialled(&transports, &dialer).await;
        client.send_message(Message::new("ab", "c")).await.unwrap();
        assert_eq!(peer.recv().await, b"abc");
    });
}

#[test]
fn a_message_that_was_not_sent_comes_back() {
    run(async {
        let transports = Transports::default();
        let client = req(&transports, options(|it| it.fail_without_peers(true)));
        let message = Message::new("head", "body");
        let error = client.send_message(message).await.unwrap_err();
        assert_eq!(error.error, SendError::NoPeers);
        assert_eq!(
            (&error.message.header[..], &error.message.body[..]),
            (&b"head"[..], &b"body"[..])
        );
        client.close().await;
        let raw = raw_req(&transports, options(|it| it.send_queue(1)));
        raw.try_send_message(Message::new("", "one")).unwrap();
        let error = raw.try_send_message(Message::new("he", "two")).unwrap_err();
        assert_eq!(error.error, SendError::WouldBlock);
        assert_eq!((&error.message.header[..], &error.message.body[..]), (&b"he"[..], &b"two"[..]));
    });
}

#[test]
fn the_longest_message_is_exactly_the_limit() {
    run(async {
        // spec.md §13.3
        let transports = Transports::default();
        let server = rep(&transports, defaults());
        server.listen(ADDRESS).await.unwrap();
        let mut events = server.events();
        let mut peer = Peer::dial(&transports, ADDRESS, REQ).await;
        peer.send(&words(&[0x8000_0001], &vec![7; (1 << 20) - 4])).await;
        let (request, _) = server.recv().await.unwrap();
        assert_eq!(request.len(), (1 << 20) - 4);
        drain(&mut events).await;
        peer.write(&((1_u64 << 20) + 1).to_be_bytes()).await;
        let events = drain(&mut events).await;
        let too_long = MessageError::TooLong { length: (1 << 20) + 1, limit: 1 << 20 };
        let [PipeEvent::Detached(pipe, error)] = &events[..] else { panic!("{events:?}") };
        assert_eq!(*error, PipeError::Message(too_long));
        assert_eq!(pipe.address().to_string(), ADDRESS);
        assert!(peer.is_closed().await);
    });
}

#[test]
fn a_changed_limit_is_for_later_pipes() {
    run(async {
        let transports = Transports::default();
        let server = rep(&transports, defaults());
        let listener = server.listen(ADDRESS).await.unwrap();
        let mut old = Peer::dial(&transports, ADDRESS, REQ).await;
        settle().await;
        server.configure(options(|it| it.max_receive(Some(100))));
        server.listen("memory://new").await.unwrap();
        let mut new = Peer::dial(&transports, "memory://new", REQ).await;
        old.send(&words(&[0x8000_0001], &[0; 97])).await;
        assert_eq!(server.recv().await.unwrap().0.len(), 97);
        new.send(&words(&[0x8000_0001], &[0; 97])).await;
        assert!(new.is_closed().await);
        assert!(!old.is_closed().await);
        drop(listener);
    });
}

#[test]
fn a_negative_length_closes_the_pipe() {
    run(async {
        // spec.md §13.3
        let transports = Transports::default();
        let server = rep(&transports, options(|it| it.max_receive(None)));
        server.listen(ADDRESS).await.unwrap();
        let mut events = server.events();
        let mut peer = Peer::dial(&transports, ADDRESS, REQ).await;
        drain(&mut events).await;
        peer.write(&u64::MAX.to_be_bytes()).await;
        let events = drain(&mut events).await;
        let [PipeEvent::Detached(_, PipeError::Message(MessageError::TooLong { length, .. }))] =
            &events[..]
        else {
            panic!("{events:?}")
        };
        assert_eq!(*length, u64::MAX);
    });
}

#[test]
fn a_connection_cut_inside_a_message_is_no_clean_end() {
    run(async {
        let transports = Transports::default();
        let server = rep(&transports, defaults());
        server.listen(ADDRESS).await.unwrap();
        let mut events = server.events();
        for (bytes, expected) in [(&b"\0\0\0"[..], PipeError::Cut), (b"", PipeError::PeerClosed)] {
            let mut peer = Peer::dial(&transports, ADDRESS, REQ).await;
            drain(&mut events).await;
            peer.write(bytes).await;
            drop(peer);
            let events = drain(&mut events).await;
            let [PipeEvent::Detached(_, error)] = &events[..] else { panic!("{events:?}") };
            assert_eq!(*error, expected);
        }
    });
}

#[test]
fn nothing_is_allocated_for_a_length() {
    // spec.md §13.3
    let mut inbox = Inbox::new(Framing::Plain, None);
    inbox.room()[..8].copy_from_slice(&(1_u64 << 60).to_be_bytes());
    inbox.filled(8);
    assert_eq!(inbox.next(), Ok(None));
    let mut received = 0;
    for _ in 0..100 {
        let room = inbox.room();
        let len = room.len().min(10_000);
        room[..len].fill(1);
        inbox.filled(len);
        received += len;
        assert_eq!(inbox.next(), Ok(None));
        assert!(inbox.capacity() <= received + received / 2 + (128 << 10), "{received}");
    }
}

#[test]
fn a_local_socket_has_a_byte_before_the_length() {
    // spec.md §13.3
    let mut outbox = Outbox::new(Framing::Local);
    outbox.push(&[0xcf, 0x35, 0xb9, 0xd4], &Bytes::from_static(b"hello"));
    let bytes = outbox.to_vec();
    assert_eq!(bytes, *b"\x01\0\0\0\0\0\0\0\x09\xcf\x35\xb9\xd4hello");
    let mut inbox = Inbox::new(Framing::Local, None);
    inbox.room()[0] = 2;
    inbox.filled(1);
    assert_eq!(inbox.next(), Err(MessageError::Kind(2)));
}

#[test]
fn a_backtrace_ends_with_the_first_high_bit() {
    // spec.md §13.5
    let split = |message: Vec<u8>, hops| wire::split_backtrace(message.into(), hops);
    let id = 0x8000_002a;
    let (header, body) = split(words(&[1, 2, id], b"ping"), 3).unwrap();
    assert_eq!((header.to_vec(), &body[..]), (words(&[1, 2, id], b""), &b"ping"[..]));
    assert_eq!(split(words(&[1, 2, 3, id], b""), 3), Err(BacktraceError::TooManyHops));
    assert_eq!(split(words(&[1, 2], b"\x80\0\0"), 3), Err(BacktraceError::Unfinished));
    assert_eq!(split(vec![], 8), Err(BacktraceError::Unfinished));
}

#[test]
fn messages_survive_any_split() {
    fn survives(messages: Vec<(Vec<u8>, u16)>, pieces: Vec<u8>, local: bool) -> bool {
        let framing = if local { Framing::Local } else { Framing::Plain };
        let mut outbox = Outbox::new(framing);
        let mut expected = Vec::new();
        for (header, len) in messages {
            let body = vec![len as u8; usize::from(len % 6_000)];
            outbox.push(&header, &body.clone().into());
            expected.push([header, body].concat());
        }
        let bytes = outbox.to_vec();
        // Written in pieces of its own...
        let mut written: Vec<u8> = Vec::new();
        let mut sizes = pieces.iter().map(|size| usize::from(*size) * 40 + 1).cycle();
        while !outbox.is_empty() {
            let mut slices = [io::IoSlice::new(&[]); 3];
            let set = outbox.slices(&mut slices);
            let most = sizes.next().unwrap_or(usize::MAX);
            let given = slices[..set].iter().flat_map(|slice| slice.iter()).take(most);
            let before = written.len();
            written.extend(given);
            outbox.advance(written.len() - before);
        }
        // ...and read in others.
        let mut inbox = Inbox::new(framing, None);
        let mut received = Vec::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let room = inbox.room();
            let len = sizes.next().unwrap_or(usize::MAX).min(room.len()).min(rest.len());
            room[..len].copy_from_slice(&rest[..len]);
            inbox.filled(len);
            rest = &rest[len..];
            while let Some(message) = inbox.next().unwrap() {
                received.push(message.to_vec());
            }
        }
        written == bytes && received == expected && !inbox.is_partial()
    }
    quickcheck::QuickCheck::new()
        .tests(count(2_000))
        .quickcheck(survives as fn(Vec<(Vec<u8>, u16)>, Vec<u8>, bool) -> bool);
}

quickcheck! {
    fn a_handshake_is_understood_or_refused(bytes: (u32, u32)) -> bool {
        let bytes: [u8; 8] =
            [bytes.0.to_be_bytes(), bytes.1.to_be_bytes()].concat().try_into().unwrap();
        match wire::parse_handshake(bytes) {
            Ok(id) => wire::handshake(id) == bytes,
            Err(HeaderError::Version(version)) => version != 0,
            Err(HeaderError::Malformed(read)) => read == bytes,
        }
    }
}

#[test]
fn every_size_comes_back() {
    run(async {
        let transports = Transports::default();
        let _server = echo_at(&transports, ADDRESS).await;
        let client = req(&transports, defaults());
        client.dial(ADDRESS).await.unwrap();
        for size in [0, 1, 3, 1_023, 1_024, 1_025, 4_096, 4_097, 65_535, 262_144, (1 << 20) - 4] {
            let body: Bytes = (0..size).map(|at| (at * 31 % 251) as u8).collect();
            assert_eq!(client.request(body.clone()).await.unwrap(), body, "{size}");
        }
    });
}

#[test]
fn a_peer_that_dribbles_is_understood() {
    run(async {
        let transports = Transports::default();
        let server = rep(&transports, defaults());
        server.listen(ADDRESS).await.unwrap();
        let mut peer = Peer::connect(&transports, ADDRESS).await.unwrap();
        let message = words(&[0x8000_0009], b"slow");
        let all = [&REQ[..], &8_u64.to_be_bytes(), &message].concat();
        for byte in all {
            peer.write(&[byte]).await;
            sleep_a_little().await;
        }
        let (request, replier) = server.recv().await.unwrap();
        assert_eq!(request, "slow");
        replier.send("ok").await.unwrap();
        assert_eq!(peer.read(8).await, REP);
        assert_eq!(split(&peer.recv().await), (0x8000_0009, &b"ok"[..]));
    });
}

async fn sleep_a_little() {
    tokio::time::sleep(ms(1)).await;
}
