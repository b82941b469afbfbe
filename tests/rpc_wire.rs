//! Calls as bytes: what they cost on the wire, and what bad ones cost.
#![allow(clippy::unwrap_used)]

#[path = "support/calls.rs"]
mod calls;
#[path = "support/messages.rs"]
mod messages;
mod support;

use std::time::Duration;

use bytes::Bytes;
use calls::{World, echo, say};
use futures::AsyncWriteExt;
use messages::{answer, head, message};
use support::{
    ACK, DATA, FIN, RST, Random, SYN, Tapped, WINDOW, Writes, count, data, frames, header,
};
use trunkline::{
    Dispatcher, Protocol, Session,
    exchange::{Decoder, ExchangeConfig, Kind, Message, encode},
    rpc::{Client, Code, Retryable, Router, Server, wire::ResponseHead},
    transport::memory,
};

fn recorded(world: &mut World) -> (Session, Session, Writes, Writes) {
    let (left, right) = memory::duplex(1 << 20);
    let (there, back) = (Writes::default(), Writes::default());
    let (left, right) = (Tapped::new(left, &there), Tapped::new(right, &back));
    // Nothing but the call is to be seen: no pings, and no ACK on its own.
    let config = world.sim.config().keepalive(None).max_stream_window(262_144).build().unwrap();
    let (near, far) = world.sim.pair_over(left, right, config.clone(), config);
    (near, far, there, back)
}

#[test]
fn a_unary_call_is_one_write_each_way() {
    // spec.md §15.8
    let mut world = World::new(1);
    let (near, far, there, back) = recorded(&mut world);
    world.runtime.spawn(Server::new(echo(&world.runtime), &world.runtime).serve(far));
    let client = Client::new(near, &world.runtime).timeout(Some(Duration::from_millis(1_500)));
    let caller = client.clone();
    world.sim.run(async move { say(&caller, "hi").await }).unwrap();
    world.sim.advance(Duration::from_millis(100));

    let there = there.take();
    assert_eq!(there.len(), 1, "one write there: {there:02x?}");
    let asked = frames(&there[0]);
    let body = b"TK\x02\x00\
        \x01\x02\0\0\0\0\0\x2d\0\0\x05\xdc\
        \0\0\x08Echo.Say\x18application/octet-stream\0\0\0hi";
    assert_eq!((asked[0].flags, asked[0].body.as_slice()), (SYN, &body[..]));
    assert_eq!((asked[1].flags, asked[1].length, asked.len()), (FIN, 0, 2));

    let back = back.take();
    assert_eq!(back.len(), 1, "one write back: {back:02x?}");
    let answered = frames(&back[0]);
    let body = b"\x02\0\0\0\0\0\0\x21\
        \0\0\x18application/octet-stream\0\0\0\0hi";
    assert_eq!((answered[0].flags, answered[0].body.as_slice()), (ACK, &body[..]));
    assert_eq!((answered[1].flags, answered[1].length, answered.len()), (FIN, 0, 2));
}

#[test]
fn sixty_four_calls_share_their_writes() {
    let mut world = World::new(2);
    let (near, far, there, back) = recorded(&mut world);
    world.runtime.spawn(Server::new(echo(&world.runtime), &world.runtime).serve(far));
    let client = Client::new(near, &world.runtime);
    world.sim.run(async move {
        let calls = (0..64).map(|_| say(&client, "hi"));
        assert!(futures::future::join_all(calls).await.iter().all(Result::is_ok));
    });
    let (there, back) = (there.take().len(), back.take().len());
    assert!(there <= 3 && back <= 3, "{there} writes there, {back} back");
}

#[test]
fn a_cancelled_call_is_one_reset() {
    let mut world = World::new(3);
    let (near, far, there, _) = recorded(&mut world);
    world.runtime.spawn(Server::new(echo(&world.runtime), &world.runtime).serve(far));
    let client = Client::new(near, &world.runtime);
    let caller = client.clone();
    let (task, _) = world.sim.spawn_flagged(async move {
        let _ = caller.call::<_, Bytes>("Echo.Never", &Bytes::new()).await;
    });
    world.sim.advance(Duration::from_millis(20));
    there.take();
    world.sim.drop_task(task);
    world.sim.advance(Duration::from_millis(20));
    let there = there.take().concat();
    assert_eq!(there, header(WINDOW, RST, 1, 4));
}

fn request(body: &[u8]) -> Vec<u8> {
    [b"TK\x02\x00", &message(Kind::Request, body)[..]].concat()
}

/// The status with which a server answers such bytes.
fn status_of(bytes: &[u8]) -> Option<Code> {
    let mut world = World::new(4);
    let (server, mut raw) = {
        let config = world.sim.config().build().unwrap();
        world.sim.server_with_peer(config)
    };
    world.runtime.spawn(Server::new(echo(&world.runtime), &world.runtime).serve(server.clone()));
    raw.send(&data(SYN, 1, bytes));
    raw.send(&data(FIN, 1, b""));
    world.sim.advance(Duration::from_millis(20));
    let (answer, _) = raw.receive();
    let body: Vec<u8> =
        answer.iter().filter(|f| f.kind == DATA).flat_map(|f| f.body.clone()).collect();
    let mut decoder = Decoder::new(1 << 20, false);
    let message = decoder.decode(&mut Bytes::from(body)).unwrap();
    // The session lives, whatever it was.
    raw.send(&data(SYN, 3, &request(&[&head("Echo.Say")[..], b"alive"].concat())));
    raw.send(&data(FIN, 3, b""));
    world.sim.advance(Duration::from_millis(20));
    let (answer, ended) = raw.receive();
    assert!(!ended && answer.iter().any(|f| f.stream == 3 && f.body.ends_with(b"alive")));
    let mut body = message?.body;
    Some(ResponseHead::decode(&mut body).unwrap().failure?.code)
}

#[test]
fn bad_requests_get_a_status_that_says_so_and_cost_one_call() {
    // spec.md §15.5
    let preface = b"TK\x02\x00";
    let with = |bytes: &[u8]| [&preface[..], bytes].concat();
    assert_eq!(status_of(&request(&head("Echo.Say"))), None);
    assert_eq!(status_of(&request(&head("Nobody.Say"))), Some(Code::NotFound));
    assert_eq!(status_of(&request(b"")), Some(Code::BadRequest));
    assert_eq!(status_of(&request(b"\x80\0\0\0\0\0\0")), Some(Code::BadRequest));
    assert_eq!(status_of(&request(b"\0\0\x02\xff\xff\0\0\0\0")), Some(Code::BadRequest));
    // Kinds, flags, lengths.
    assert_eq!(status_of(&with(&[9, 0, 0, 0, 0, 0, 0, 0])), Some(Code::Protocol));
    assert_eq!(status_of(&with(&[2, 0, 0, 0, 0, 0, 0, 0])), Some(Code::Protocol));
    assert_eq!(status_of(&with(&[1, 64, 0, 0, 0, 0, 0, 0])), Some(Code::Protocol));
    assert_eq!(status_of(&with(&[1, 0, 0, 0, 255, 255, 255, 255])), Some(Code::Protocol));
    assert_eq!(status_of(&with(b"")), Some(Code::Protocol));
}

#[test]
fn a_server_survives_any_bytes() {
    for seed in 0..count(4_000) {
        let mut random = Random(seed);
        let mut bytes = request(&[&head("Echo.Say")[..], b"body"].concat());
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len() - 4) + 4;
            match random.below(3) {
                0 => bytes[at] = random.next() as u8,
                1 => bytes.truncate(at.max(5)),
                _ => bytes.insert(at, random.next() as u8),
            }
        }
        let _any = status_of(&bytes);
    }
}

#[test]
fn a_client_survives_any_answer() {
    let good = answer(b"ok");
    for seed in 0..count(4_000) {
        let mut random = Random(seed);
        let mut answer = good.clone();
        for _ in 0..random.below(3) {
            let at = random.below(answer.len().max(1)).min(answer.len().saturating_sub(1));
            match random.below(3) {
                0 => answer[at] = random.next() as u8,
                1 => answer.truncate(at.max(1)),
                _ => answer.insert(at, random.next() as u8),
            }
        }
        let mut world = World::new(seed);
        let (near, far) = world.pair();
        let client = Client::new(near, &world.runtime).timeout(Some(Duration::from_secs(5)));
        let mut dispatcher = Dispatcher::new(far);
        let mut streams = dispatcher.serve(Protocol::RPC, 4).unwrap();
        world.sim.spawn(dispatcher.run());
        world.sim.spawn(async move {
            while let Some(mut stream) = futures::StreamExt::next(&mut streams).await {
                let _ = stream.write_all(&answer).await;
                let _ = stream.close().await;
            }
        });
        world.sim.run_for(Duration::from_secs(6), async move {
            // Definite, one way or the other, and once.
            let _ = say(&client, "x").await;
            let _ = say(&client, "y").await;
        });
    }
}

#[test]
fn an_answer_that_is_none_is_a_protocol_error() {
    let cases: [&[u8]; 4] = [
        b"",
        &[1, 0, 0, 0, 0, 0, 0, 0],
        &[2, 0, 0, 0, 0, 0, 0, 1, 0],
        &[2, 0, 0, 0, 0, 0, 0, 9, 0],
    ];
    for answer in cases {
        let mut world = World::new(6);
        let (near, far) = world.pair();
        let client = Client::new(near, &world.runtime);
        world.sim.spawn(async move {
            let mut stream = far.accept().await.unwrap();
            stream.write_all(answer).await.unwrap();
            stream.close().await.unwrap();
            std::future::pending::<()>().await;
        });
        let failed = world.sim.run(async move { say(&client, "x").await.unwrap_err() });
        assert_eq!(failed.code(), Code::Protocol, "{answer:?}");
    }
}

#[test]
fn fragments_of_every_size_make_the_same_call() {
    let mut world = World::new(7);
    for size in 1..=80 {
        let tiny = ExchangeConfig::builder().fragment(size).build().unwrap();
        let (near, far) = world.pair();
        let server = trunkline::rpc::ServerBuilder::default().exchange(tiny);
        let server = server.build(echo(&world.runtime), &world.runtime).unwrap();
        world.runtime.spawn(server.serve(far));
        let client = Client::with_limits(near, &world.runtime, tiny);
        let said = world.sim.run(async move { say(&client, "in small pieces").await });
        assert_eq!(said.unwrap(), "in small pieces", "{size} bytes");
    }
}

#[test]
fn many_empty_messages_are_held_back_like_others() {
    let mut world = World::new(8);
    let mut router = Router::bytes();
    type Messages = trunkline::rpc::Receiver<Bytes, trunkline::rpc::codec::Raw>;
    router
        .client_streaming("A.Count", |_, mut messages: Messages| async move {
            let mut n = 0;
            while let Some(message) = messages.next().await {
                n += 1 + message?.len();
            }
            Ok(Bytes::from(n.to_string()))
        })
        .unwrap();
    let (client, _) = world.serve(router);
    let counted = world.sim.run(async move {
        let call = client.request("A.Count").client_streaming::<Bytes, Bytes>();
        let (mut sender, answer) = call.await.unwrap();
        for _ in 0..50_000 {
            sender.send(&Bytes::new()).await.unwrap();
        }
        sender.finish().await.unwrap();
        answer.await.unwrap().message
    });
    assert_eq!(counted, "50000");
}

#[test]
fn only_a_refusal_before_any_answer_says_that_nothing_was_done() {
    // spec.md §15.7.1
    let reset = |code: u32, before: &[u8]| {
        let mut world = World::new(9);
        let config = world.sim.config().build().unwrap();
        let (near, mut raw) = world.sim.client_with_peer(config);
        let client = Client::new(near, &world.runtime).retries(0);
        let call = world.sim.spawn(async move { say(&client, "x").await.unwrap_err() });
        world.sim.settle();
        if !before.is_empty() {
            raw.send(&data(ACK, 1, before));
            world.sim.settle();
        }
        raw.send(&header(WINDOW, RST, 1, code));
        world.sim.advance(Duration::from_millis(10));
        let failed = call.take().unwrap();
        (failed.code(), failed.retryable())
    };
    assert_eq!(reset(3, b""), (Code::Busy, Retryable::Always));
    assert_eq!(reset(3, b"\x02"), (Code::Busy, Retryable::IfIdempotent));
    assert_eq!(reset(0, b""), (Code::Unexpected, Retryable::Never));
    assert_eq!(reset(1, b""), (Code::Protocol, Retryable::Never));
    assert_eq!(reset(4, b""), (Code::Cancelled, Retryable::Never));
    assert_eq!(reset(5, b""), (Code::Busy, Retryable::IfIdempotent));
    assert_eq!(reset(9, b""), (Code::Declined, Retryable::Never));
    assert_eq!(reset(11, b""), (Code::Timeout, Retryable::Never));
    assert_eq!(reset(300, b""), (Code::Unexpected, Retryable::Never));
}

#[test]
fn a_server_keeps_the_deadline_of_a_caller_that_does_not() {
    // spec.md §15.6.3
    let mut world = World::new(10);
    let config = world.sim.config().build().unwrap();
    let (server, mut raw) = world.sim.server_with_peer(config);
    let serving = Server::new(echo(&world.runtime), &world.runtime);
    world.runtime.spawn(serving.serve(server));
    let mut bytes = b"TK\x02\x00".to_vec();
    let request = Message::new(Kind::Request, head("Echo.Never"));
    encode(&request, Some(1_500), 1 << 20, &mut bytes);
    raw.send(&data(SYN, 1, &bytes));
    raw.send(&data(FIN, 1, b""));
    world.sim.advance(Duration::from_millis(1_499));
    assert_eq!(serving.stats().active, 1);
    raw.receive();
    world.sim.advance(Duration::from_millis(2));
    assert_eq!((serving.stats().active, serving.stats().cancelled), (0, 1));
    let (answer, _) = raw.receive();
    let mut body = Bytes::from(answer[0].body.clone());
    let mut message = Decoder::new(1 << 20, false).decode(&mut body).unwrap().unwrap();
    let head = ResponseHead::decode(&mut message.body).unwrap();
    assert_eq!((head.failure.unwrap().code, answer[1].flags), (Code::Timeout, FIN));
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let mut world = World::new(11);
    let config = world.sim.config().build().unwrap();
    let (server, mut raw) = world.sim.server_with_peer(config);
    world.runtime.spawn(Server::new(echo(&world.runtime), &world.runtime).serve(server));
    raw.send(&header(DATA, SYN, 1, 0));
    for byte in request(&[&head("Echo.Say")[..], b"slowly"].concat()) {
        world.sim.settle();
        raw.send(&data(0, 1, &[byte]));
    }
    world.sim.advance(Duration::from_millis(20));
    let (answer, _) = raw.receive();
    assert!(answer.iter().any(|frame| frame.body.ends_with(b"slowly")), "{answer:?}");
}

#[test]
fn a_streaming_answer_without_a_last_response_has_no_clean_end() {
    // spec.md §15.3.3
    let mut head = Vec::new();
    ResponseHead { streaming: true, ..ResponseHead::default() }.encode(&mut head).unwrap();
    let answer = [message(Kind::Response, &head), message(Kind::Message, b"one")].concat();
    let mut world = World::new(12);
    let (near, far) = world.pair();
    let client = Client::new(near, &world.runtime);
    world.sim.spawn(async move {
        let mut stream = far.accept().await.unwrap();
        stream.write_all(&answer).await.unwrap();
        stream.close().await.unwrap();
        std::future::pending::<()>().await;
    });
    world.sim.run(async move {
        let call = client.request("A.B");
        let mut messages = call.server_streaming::<_, Bytes>(&Bytes::new()).await.unwrap();
        assert_eq!(messages.next().await.unwrap().unwrap(), "one");
        assert_eq!(messages.next().await.unwrap().unwrap_err().code(), Code::Protocol);
        assert!(messages.next().await.is_none());
    });
}
