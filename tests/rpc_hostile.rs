//! Exchanges and calls against peers that mean harm: what each attack costs, and that it costs
//! its own call alone.
#![allow(clippy::unwrap_used)]

#[path = "support/calls.rs"]
mod calls;
#[path = "support/heap.rs"]
mod heap;
#[path = "support/messages.rs"]
mod messages;
mod support;

use std::time::Duration;

use bytes::Bytes;
use calls::{World, echo, say};
use futures::{AsyncReadExt, AsyncWriteExt, FutureExt, future::join_all, stream};
use heap::{alone, beside, in_use};
use messages::{message, request};
use support::count;
use trunkline::{
    Dispatcher, Protocol, ResetCode, Session, Stream, StreamError,
    exchange::{Decoder, Exchange, ExchangeConfig, ExchangeError, Kind, Malformed, Message},
    rpc::{Client, Code, Context, Metadata, Router, Server, Status, wire::ResponseHead},
};

/// A server of `Echo`, and of `Slow.Look`, which answers with how much time is left.
struct Victim {
    world: World,
    server: Server<Router>,
    /// The hostile end of the session, which an honest client shares.
    peer: Session,
    client: Client,
}

impl Victim {
    fn new(seed: u64) -> Self {
        let mut world = World::new(seed);
        let mut router = echo(&world.runtime);
        router
            .unary("Slow.Look", |ctx: Context, _: Bytes| async move {
                let left = ctx.time_left().map_or(0, |left| left.as_millis());
                Ok(Bytes::from(left.to_string()))
            })
            .unwrap()
            .unary("Slow.Large", |_, _: Bytes| async move { Ok(Bytes::from(vec![7; 1 << 20])) })
            .unwrap();
        let server = Server::new(router, &world.runtime);
        let (peer, far) = world.pair();
        world.runtime.spawn(server.serve(far));
        let client = Client::new(peer.clone(), &world.runtime);
        Self { world, server, peer, client }
    }

    /// A stream on which nothing but the preface was sent, and these bytes.
    fn open(&mut self, bytes: &[u8]) -> Stream {
        let (peer, bytes) = (self.peer.clone(), bytes.to_vec());
        self.world.sim.run(async move {
            let mut stream = Dispatcher::open(&peer, Protocol::RPC).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
            stream
        })
    }

    /// The session serves the next call, at once.
    fn is_well(&mut self) {
        let (client, start) = (self.client.clone(), self.world.sim.now());
        let said = self.world.sim.run(async move { say(&client, "well").await });
        assert_eq!(said.unwrap(), "well");
        assert!(self.world.sim.now() - start < Duration::from_millis(50));
    }
}

/// The status, or the body, that a stream is answered with.
async fn answered(mut stream: Stream) -> Result<Bytes, Code> {
    let mut bytes = Vec::new();
    // A reset may follow the answer.
    let _ = stream.read_to_end(&mut bytes).await;
    let mut bytes = Bytes::from(bytes);
    let found = Decoder::new(4 << 20, false).decode(&mut bytes).unwrap();
    let mut body = found.expect("an answer").body;
    match ResponseHead::decode(&mut body).unwrap().failure {
        Some(failure) => Err(failure.code),
        None => Ok(body),
    }
}

#[test]
fn heads_that_lie_about_their_lengths_fail_alone() {
    // spec.md §15.2.3
    let _turn = beside();
    let mut victim = Victim::new(1);
    let heads: [&[u8]; 12] = [
        b"\0",
        b"\0\xff",
        b"\0\0\xffEcho.Say",
        b"\0\0\x08Echo.Say\xff",
        b"\0\0\x08Echo.Say\0\0",
        b"\0\0\x08Echo.Say\0\0\xff\xff",
        b"\0\0\x08Echo.Say\0\0\0\x01\x01",
        b"\0\0\x08Echo.Say\0\0\0\x01\x01k\xff\xff",
        b"\0\0\x08Echo.Say\0\0\0\x02\x01k\0\0",
        b"\x02\0\x08Echo.Say\0\0\0\0",
        b"\xff\0\x08Echo.Say\0\0\0\0",
        b"\0\0\x08Echo.\xc3\x28\0\0\0\0",
    ];
    for head in heads {
        let stream = victim.open(&message(Kind::Request, head));
        let status = victim.world.sim.run(answered(stream));
        assert_eq!(status, Err(Code::BadRequest), "{head:02x?}");
    }
    victim.is_well();
    assert_eq!((victim.server.stats().failed, victim.server.stats().active), (12, 0));
}

#[test]
fn a_flood_of_metadata_is_no_request() {
    // spec.md §15.2.5
    let _turn = alone();
    let mut victim = Victim::new(2);
    let head = |count: u16| {
        let mut head = b"\0\0\x09Slow.Look\0\0".to_vec();
        head.extend(count.to_be_bytes());
        head.extend(b"\x00\x00\x00".repeat(count.into()));
        message(Kind::Request, &head)
    };
    let (most, more) = (victim.open(&head(1_024)), victim.open(&head(1_025)));
    assert_eq!(victim.world.sim.run(answered(most)), Ok(Bytes::from("0")));
    assert_eq!(victim.world.sim.run(answered(more)), Err(Code::BadRequest));
    let before = in_use();
    for _ in 0..20 {
        let stream = victim.open(&head(u16::MAX));
        assert_eq!(victim.world.sim.run(answered(stream)), Err(Code::BadRequest));
    }
    assert!(in_use() - before < 2 << 20, "{} bytes are left", in_use() - before);
    // Nor does a client send or take so much.
    let client = victim.client.clone();
    let failed = victim.world.sim.run(async move {
        let call = (0..1_025).fold(client.request("Echo.Say"), |call, _| call.metadata("k", "v"));
        call.call::<_, Bytes>(&Bytes::new()).await.unwrap_err()
    });
    assert_eq!((failed.code(), failed.is_remote()), (Code::BadRequest, false));
    victim.is_well();
}

#[test]
fn a_request_that_promises_much_costs_what_it_sent_and_its_time() {
    // spec.md §14.2.7, §15.5
    let _turn = alone();
    let mut victim = Victim::new(3);
    victim.is_well();
    let promise = [&[1, 0, 0, 0, 0, 0x3f, 0xff, 0xff][..], b"abc"].concat();
    let mut held = Vec::new();
    for _ in 0..4 {
        let before = in_use();
        let streams: Vec<_> = (0..200).map(|_| victim.open(&promise)).collect();
        victim.world.sim.settle();
        assert_eq!(victim.server.stats().active, 200);
        let each = (in_use() - before) / 200;
        assert!(each < 8 << 10, "{each} bytes for a promise");
        victim.is_well();
        victim.world.sim.advance(Duration::from_secs(11));
        let told = victim.world.sim.run(join_all(streams.into_iter().map(answered)));
        assert!(told.iter().all(|told| *told == Err(Code::Timeout)));
        victim.is_well();
        held.push(in_use());
    }
    assert!(held[3] - held[1] < 64 << 10, "{held:?}");
    assert_eq!((victim.server.stats().failed, victim.server.stats().active), (800, 0));
}

#[test]
fn a_request_that_trickles_has_no_more_time_than_another() {
    let _turn = beside();
    let mut victim = Victim::new(4);
    let mut stream = victim.open(&[1, 0, 0, 0, 0, 0, 0xff, 0xff]);
    for _ in 0..9 {
        victim.world.sim.advance(Duration::from_secs(1));
        stream = victim.world.sim.run(async move {
            stream.write_all(b"x").await.unwrap();
            stream
        });
        assert_eq!(victim.server.stats().active, 1);
    }
    victim.world.sim.advance(Duration::from_secs(2));
    assert_eq!(victim.server.stats().active, 0);
    assert_eq!(victim.world.sim.run(answered(stream)), Err(Code::Timeout));
    victim.is_well();
}

#[test]
fn times_to_live_of_every_size_are_taken_as_they_are() {
    // spec.md §14.4.1
    let _turn = beside();
    let mut victim = Victim::new(5);
    for (ttl, told) in [
        (0, Err(Code::Protocol)),
        (1, Ok(Bytes::from("1"))),
        (u32::MAX, Ok(Bytes::from(u32::MAX.to_string()))),
    ] {
        let stream = victim.open(&request("Slow.Look", Some(ttl)));
        assert_eq!(victim.world.sim.run(answered(stream)), told, "{ttl} ms");
    }
    // One that is over at once takes its handler along.
    let stream = victim.open(&request("Echo.Never", Some(1)));
    victim.world.sim.advance(Duration::from_millis(2));
    assert_eq!(victim.world.sim.run(answered(stream)), Err(Code::Timeout));
    assert_eq!(victim.server.stats().active, 0);
    victim.is_well();
}

#[test]
fn calls_cancelled_by_the_thousand_leave_nothing() {
    let _turn = alone();
    let mut victim = Victim::new(6);
    let flood = |victim: &mut Victim, times: u64| {
        let (peer, ask) = (victim.peer.clone(), request("Echo.Never", None));
        victim.world.sim.run_for(Duration::from_secs(60), async move {
            for n in 0..times {
                let mut stream = Dispatcher::open(&peer, Protocol::RPC).await.unwrap();
                stream.write_all(&ask).await.unwrap();
                // Served, or on its way.
                support::pause(if n % 2 == 0 { 0 } else { 30 }).await;
                stream.reset(ResetCode((n % 12) as u32));
            }
        });
        victim.world.sim.advance(Duration::from_secs(60));
    };
    flood(&mut victim, 100);
    let before = in_use();
    flood(&mut victim, count(40_000));
    let left = in_use() - before;
    assert!(left < 64 << 10, "{left} bytes are left");
    assert_eq!(victim.server.stats().active, 0);
    victim.is_well();
}

#[test]
fn what_follows_a_request_is_not_read_and_not_kept() {
    let _turn = alone();
    let mut victim = Victim::new(7);
    let junk = [request("Echo.Say", None), vec![0xee; 100_000]].concat();
    // A second request on the stream of the first is no call.
    let twice = [request("Echo.Say", None), request("Echo.Say", None)].concat();
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut streams: Vec<_> = (0..20).map(|_| victim.open(&junk)).collect();
        streams.push(victim.open(&twice));
        let told = victim.world.sim.run(join_all(streams.into_iter().map(answered)));
        assert!(told.iter().all(|told| *told == Ok(Bytes::new())));
        victim.is_well();
        held.push(in_use());
    }
    assert_eq!(victim.server.stats().started, 4 * 22);
    assert!(held[3] - held[1] < 64 << 10, "{held:?}");
}

#[test]
fn streams_of_unknown_protocols_are_reset_one_by_one() {
    // spec.md §10.5
    let _turn = beside();
    let mut victim = Victim::new(8);
    let mut read = Vec::new();
    for preface in [&b"GET / HTTP/1.1\r\n"[..], b"TK\x02\x01", b"TK\xff\0", b"\0\0\0\0"] {
        let (peer, bytes) = (victim.peer.clone(), preface.to_vec());
        read.push(victim.world.sim.run(async move {
            let mut stream = peer.open().await.unwrap();
            stream.write_all(&bytes).await.unwrap();
            support::read_all(&mut stream).await
        }));
    }
    let reset = Some(StreamError::Reset(ResetCode::UNKNOWN_PROTOCOL));
    assert!(read.iter().all(|(bytes, error)| bytes.is_empty() && *error == reset), "{read:?}");
    victim.is_well();
}

#[test]
fn a_caller_that_does_not_read_holds_up_its_own_answers() {
    let _turn = alone();
    let mut victim = Victim::new(9);
    victim.is_well();
    let before = in_use();
    let streams: Vec<_> = (0..50).map(|_| victim.open(&request("Slow.Large", None))).collect();
    victim.world.sim.advance(Duration::from_secs(5));
    assert_eq!(victim.server.stats().active, 50);
    let each = (in_use() - before) / 50;
    // The answer itself, what is on its way, and what the peer's end has in its window.
    assert!(each < 3 << 20, "{each} bytes for an answer of 1 MiB that nobody reads");
    victim.is_well();
    // Nor do they stay beyond their deadline, where they have one.
    let timed: Vec<_> = (0..50).map(|_| victim.open(&request("Slow.Large", Some(2_000)))).collect();
    victim.world.sim.advance(Duration::from_millis(1_500));
    assert_eq!(victim.server.stats().active, 100);
    victim.world.sim.advance(Duration::from_secs(1));
    assert_eq!(victim.server.stats().active, 50);
    drop((streams, timed));
    victim.world.sim.advance(Duration::from_secs(5));
    assert_eq!(victim.server.stats().active, 0);
    victim.is_well();
    let left = in_use() - before;
    assert!(left < 5 << 20, "{left} bytes are left");
}

#[test]
fn an_exchange_that_says_nonsense_fails_alone() {
    // spec.md §14.2.8, §14.5
    let _turn = beside();
    let mut world = World::new(10);
    let (near, far) = world.pair();
    let remote = |code, message: &str| ExchangeError::Remote { code, message: message.to_owned() };
    let cases: [(&[u8], ExchangeError); 6] = [
        (&[4, 0, 0, 0, 0, 0, 0, 0], remote(Code::Protocol, "no code")),
        (&[4, 0, 0, 0, 0, 0, 0, 1, 0], remote(Code::Other(0), "")),
        (&[4, 0, 0, 0, 0, 0, 0, 3, 99, b'a', 0xff], remote(Code::Other(99), "a\u{fffd}")),
        (&[2, 2, 0, 0, 0, 0, 0, 4, 0, 0, 0, 1], ExchangeError::Malformed(Malformed::StrayTtl)),
        (&[3, 1, 0, 0, 0, 0, 0, 1, 7, 4, 0], ExchangeError::Malformed(Malformed::CutShort)),
        (
            &[3, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
            ExchangeError::Malformed(Malformed::TooLarge { announced: 0xffff_ffff, max: 4 << 20 }),
        ),
    ];
    for (bytes, expected) in cases {
        let (near, far) = (near.clone(), far.clone());
        let failed = world.sim.run(async move {
            let mut exchange = Exchange::open(&near, &ExchangeConfig::default());
            exchange.send(Message::new(Kind::Request, "ask")).await.unwrap();
            let mut stream = far.accept().await.unwrap();
            stream.write_all(bytes).await.unwrap();
            stream.close().await.unwrap();
            let first = exchange.recv().await.unwrap_err();
            assert_eq!(exchange.recv().await.unwrap_err(), first);
            first
        });
        assert_eq!(failed, expected, "{bytes:02x?}");
    }
    world.sim.settle();
    assert!(!near.is_closed() && near.stats().outbound_streams == 0);
}

#[test]
fn who_says_nonsense_hears_so_and_is_cut_off() {
    // spec.md §15.5
    let _turn = beside();
    let mut victim = Victim::new(21);
    for bytes in [&[9, 0, 0, 0, 0, 0, 0, 0][..], &message(Kind::Message, b"x")] {
        let mut stream = victim.open(bytes);
        let (said, error) =
            victim.world.sim.run(async move { support::read_all(&mut stream).await });
        assert_eq!(error, Some(StreamError::Reset(ResetCode::PROTOCOL_ERROR)));
        let said = Decoder::new(100, false).decode(&mut said.into()).unwrap().unwrap();
        assert_eq!(said.kind, Kind::Response);
    }
    victim.is_well();
}

#[test]
fn a_handler_that_answers_nonsense_harms_its_own_call() {
    let _turn = beside();
    let mut world = World::new(18);
    let mut router = echo(&world.runtime);
    router
        .unary("A.Zero", |_, _: Bytes| async move {
            Err::<Bytes, _>(Status::new(Code::Other(0), "no code"))
        })
        .unwrap()
        .server_streaming("A.Flood", |ctx: Context, _: Bytes| async move {
            for n in 0..2_000 {
                ctx.set_trailer(format!("k{n}"), "v");
            }
            Ok(stream::iter([Ok(Bytes::from("one"))]))
        })
        .unwrap();
    let (client, server) = world.serve(router);
    world.sim.run(async move {
        let failed = client.call::<_, Bytes>("A.Zero", &Bytes::new()).await.unwrap_err();
        assert_eq!(failed.code(), Code::Unexpected);
        let call = client.request("A.Flood");
        let mut answers = call.server_streaming::<_, Bytes>(&Bytes::new()).await.unwrap();
        assert_eq!(answers.next().await.unwrap().unwrap(), "one");
        assert_eq!(answers.next().await.unwrap().unwrap_err().code(), Code::Unexpected);
        assert!(answers.trailers() == Metadata::new() && answers.next().now_or_never().is_some());
        say(&client, "x").await.unwrap();
    });
    assert_eq!((server.stats().failed, server.stats().done), (2, 1));
}
