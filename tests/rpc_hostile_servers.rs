//! Servers that mean harm: what each attack costs a client, and that it costs its own call alone.
#![allow(clippy::unwrap_used)]

#[path = "support/calls.rs"]
mod calls;
#[path = "support/heap.rs"]
mod heap;
#[path = "support/messages.rs"]
mod messages;
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use calls::{World, say};
use futures::AsyncWriteExt;
use heap::{alone, beside, in_use};
use messages::{answer, message};
use support::{ACK, DATA, FIN, RST, Raw, SYN, WINDOW, data, header};
use trunkline::{
    exchange::Kind,
    rpc::{Client, Code, Retryable, wire::ResponseHead},
};

/// A client, and a server made by hand of raw frames.
fn lone_client(seed: u64) -> (World, Client, Raw) {
    let mut world = World::new(seed);
    let config = world.sim.config().build().unwrap();
    let (near, raw) = world.sim.client_with_peer(config);
    let client = Client::new(near, &world.runtime).retries(0);
    (world, client, raw)
}

#[test]
fn the_first_of_two_answers_counts_and_the_second_harms_nobody() {
    let _turn = beside();
    let (mut world, client, mut raw) = lone_client(11);
    let mut id = 1;
    // In one frame, in two, and behind the end.
    for frames in [
        |id| data(ACK | FIN, id, &[answer(b"one"), answer(b"two")].concat()),
        |id| [data(ACK, id, &answer(b"one")), data(FIN, id, &answer(b"two"))].concat(),
        |id| [data(ACK | FIN, id, &answer(b"one")), data(0, id, &answer(b"two"))].concat(),
    ] {
        let caller = client.clone();
        let call = world.sim.spawn(async move { say(&caller, "x").await });
        world.sim.settle();
        raw.send(&frames(id));
        world.sim.settle();
        assert_eq!(call.take().unwrap().unwrap(), "one");
        id += 2;
    }
    let (_, ended) = raw.receive();
    assert!(!ended);
}

#[test]
fn answers_to_calls_that_are_over_harm_nobody() {
    // spec.md §4.8
    let _turn = beside();
    let (mut world, client, mut raw) = lone_client(12);
    let given_up = client.clone();
    let (task, _) = world.sim.spawn_flagged(async move { drop(say(&given_up, "x").await) });
    world.sim.settle();
    let caller = client.clone();
    let call = world.sim.spawn(async move { say(&caller, "x").await });
    world.sim.settle();
    raw.send(&header(WINDOW, ACK, 1, 0));
    world.sim.settle();
    world.sim.drop_task(task);
    world.sim.settle();
    for _ in 0..100 {
        raw.send(&data(0, 1, &answer(b"nothing")));
    }
    raw.send(&header(WINDOW, RST, 1, 3));
    world.sim.settle();
    assert!(!call.is_ready());
    raw.send(&data(ACK | FIN, 3, &answer(b"mine")));
    world.sim.settle();
    assert_eq!(call.take().unwrap().unwrap(), "mine");
    let (_, ended) = raw.receive();
    assert!(!ended);
}

#[test]
fn an_answer_to_a_call_that_nobody_made_ends_the_session_and_says_so() {
    // spec.md §8.3.2
    let _turn = beside();
    let (mut world, client, mut raw) = lone_client(19);
    let call = world.sim.spawn(async move { say(&client, "x").await.unwrap_err() });
    world.sim.settle();
    raw.send(&data(ACK, 3, &answer(b"nothing")));
    world.sim.settle();
    let failed = call.take().unwrap();
    assert_eq!((failed.code(), failed.retryable()), (Code::Network, Retryable::IfIdempotent));
}

#[test]
fn an_answer_before_the_request_is_whole_ends_the_call() {
    let _turn = beside();
    let (mut world, client, mut raw) = lone_client(13);
    let caller = client.clone();
    let call = world.sim.spawn(async move {
        // More than the window: it cannot all be sent.
        caller.call::<_, Bytes>("Echo.Say", &Bytes::from(vec![1; 1 << 20])).await
    });
    world.sim.settle();
    let (sent, _) = raw.receive();
    let sent: usize = sent.iter().filter(|f| f.kind == DATA).map(|f| f.body.len()).sum();
    assert!(sent <= 262_144, "{sent}");
    raw.send(&data(ACK | FIN, 1, &answer(b"enough")));
    world.sim.settle();
    assert_eq!(call.take().unwrap().unwrap(), "enough");
    // The rest is not sent: the stream is reset.
    let (frames, ended) = raw.receive();
    assert!(!ended && frames.iter().any(|f| f.flags & RST != 0 && f.stream == 1), "{frames:?}");
}

#[test]
fn a_server_that_says_nonsense_fails_the_call_with_a_protocol_error() {
    let _turn = beside();
    let (mut world, client, mut raw) = lone_client(14);
    let head = |bytes: &[u8]| message(Kind::Response, bytes);
    let answers = [
        message(Kind::Message, b"x"),
        message(Kind::Request, b"x"),
        message(Kind::Error, b"\x03busy"),
        head(b""),
        head(b"\x02\0\0\0\0\0\0"),
        head(b"\0\x09\xff\xff"),
        head(b"\0\x09\0\0\xff\xff\xff\xff"),
        head(b"\0\0\0\xff\xff\0\0"),
        head(b"\0\0\0\0\0\0\x01"),
        vec![2, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
        vec![2, 0x80, 0, 0, 0, 0, 0, 0],
        vec![2, 2, 0, 0, 0, 0, 0, 4, 0, 0, 0, 1],
    ];
    let mut id = 1;
    for answer in answers {
        let caller = client.clone();
        let call = world.sim.spawn(async move { say(&caller, "x").await.unwrap_err() });
        world.sim.settle();
        raw.send(&data(ACK, id, &answer));
        world.sim.settle();
        let failed = call.take().expect("an end");
        let is = (failed.code(), failed.retryable());
        assert_eq!(is, (Code::Protocol, Retryable::Never), "{answer:02x?}");
        // It says so: the stream is reset as a breach of the protocol.
        let (frames, ended) = raw.receive();
        let reset = frames.iter().find(|f| f.flags & RST != 0 && f.stream == id);
        assert_eq!((reset.map(|f| f.length), ended), (Some(1), false), "{answer:02x?}");
        id += 2;
    }
}

#[test]
fn an_answer_that_trickles_ends_at_the_deadline() {
    let _turn = beside();
    let (mut world, client, mut raw) = lone_client(15);
    let call = world.sim.spawn(async move {
        let call = client.request("Echo.Say").timeout(Some(Duration::from_secs(3)));
        call.call::<_, Bytes>(&Bytes::new()).await.unwrap_err().code()
    });
    world.sim.settle();
    raw.send(&data(ACK, 1, &[2, 0, 0, 0, 0, 0, 0xff, 0xff]));
    for _ in 0..29 {
        world.sim.advance(Duration::from_millis(100));
        raw.send(&data(0, 1, b"\0"));
    }
    assert!(!call.is_ready());
    world.sim.advance(Duration::from_millis(101));
    assert_eq!(call.take(), Some(Code::Timeout));
}

#[test]
fn a_server_that_refuses_everything_is_asked_so_often_and_no_more() {
    // spec.md §15.7
    let _turn = beside();
    let (mut world, client, mut raw) = lone_client(16);
    let client = client.retries(5);
    let call = world.sim.spawn(async move { say(&client, "x").await.unwrap_err() });
    let mut asked = 0;
    while !call.is_ready() && asked < 100 {
        world.sim.advance(Duration::from_secs(1));
        let (frames, _) = raw.receive();
        for frame in frames.iter().filter(|f| f.flags & SYN != 0) {
            asked += 1;
            raw.send(&header(WINDOW, RST, frame.stream, 3));
        }
    }
    let failed = call.take().unwrap();
    assert_eq!((asked, failed.code(), failed.retryable()), (6, Code::Busy, Retryable::Always));
}

#[test]
fn a_request_that_is_a_stream_is_not_made_again() {
    // spec.md §15.7.3
    let _turn = beside();
    let (mut world, client, mut raw) = lone_client(20);
    let client = client.retries(5);
    let call = world.sim.spawn(async move {
        let call = client.request("A.B").idempotent().client_streaming::<Bytes, Bytes>();
        let (mut sender, answer) = call.await?;
        let _ = sender.send(&Bytes::from("one")).await;
        let _ = sender.finish().await;
        answer.await
    });
    world.sim.settle();
    raw.send(&header(WINDOW, RST, 1, 3));
    world.sim.advance(Duration::from_secs(60));
    let failed = call.take().unwrap().unwrap_err();
    assert_eq!((failed.code(), failed.retryable()), (Code::Busy, Retryable::Always));
    let (frames, _) = raw.receive();
    assert_eq!(frames.iter().filter(|frame| frame.flags & SYN != 0).count(), 1);
}

#[test]
fn an_answer_without_end_waits_for_its_reader() {
    let _turn = alone();
    let mut world = World::new(17);
    let (near, far) = world.pair();
    let client = Client::new(near, &world.runtime);
    let written = Arc::new(AtomicUsize::new(0));
    let counter = written.clone();
    world.sim.spawn(async move {
        let mut stream = far.accept().await.unwrap();
        let mut head = Vec::new();
        ResponseHead { streaming: true, ..ResponseHead::default() }.encode(&mut head).unwrap();
        stream.write_all(&message(Kind::Response, &head)).await.unwrap();
        // The smallest of messages, for ever.
        let many = message(Kind::Message, b"").repeat(100);
        while stream.write_all(&many).await.is_ok() {
            counter.fetch_add(many.len(), Ordering::SeqCst);
        }
    });
    let before = in_use();
    let mut answers = world.sim.run(async move {
        let call = client.request("A.B");
        call.server_streaming::<_, Bytes>(&Bytes::new()).await.unwrap()
    });
    world.sim.advance(Duration::from_secs(5));
    let sent = written.load(Ordering::SeqCst);
    assert!(sent < 2 << 20 && in_use() - before < 4 << 20, "{sent} bytes sent");
    let answers = world.sim.run(async move {
        for _ in 0..1_000 {
            assert_eq!(answers.next().await.unwrap().unwrap(), "");
        }
        answers
    });
    // Whoever had enough lets go.
    drop(answers);
    world.sim.advance(Duration::from_secs(1));
    let sent = written.load(Ordering::SeqCst);
    world.sim.advance(Duration::from_secs(1));
    assert_eq!(written.load(Ordering::SeqCst), sent);
}
