//! Several protocols on one session, each stream saying which it speaks.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt, future, join};
use support::{FIN, RST, SYN, Sim, data, header, inner, read_all};
use trunkline::{Dispatcher, Protocol, ResetCode, StreamError};

const ALL: [Protocol; 4] = [Protocol::RAW, Protocol::EXCHANGE, Protocol::RPC, Protocol::SP];

#[test]
fn four_protocols_share_a_session() {
    // spec.md §10.5, §10.6
    let mut sim = Sim::new(1);
    let (client, server) = sim.pair(64);
    let mut dispatcher = Dispatcher::new(server);
    let queues = ALL.map(|protocol| dispatcher.serve(protocol, 8).unwrap());
    sim.spawn(dispatcher.run());
    sim.run(async move {
        let serve = queues.into_iter().enumerate().map(|(number, mut queue)| async move {
            for _ in 0..5 {
                let mut stream = queue.next().await.unwrap();
                let (text, error) = read_all(&mut stream).await;
                assert_eq!((text, error), (format!("for {number}").into_bytes(), None));
                stream.write_all(&[number as u8]).await.unwrap();
                stream.close().await.unwrap();
            }
        });
        let calls = (0..20).map(|call| {
            let client = client.clone();
            async move {
                let number = call % 4;
                let mut stream = Dispatcher::open(&client, ALL[number]).await.unwrap();
                stream.write_all(format!("for {number}").as_bytes()).await.unwrap();
                stream.close().await.unwrap();
                assert_eq!(read_all(&mut stream).await, (vec![number as u8], None));
            }
        });
        join!(future::join_all(serve), future::join_all(calls));
        client.close().await.unwrap();
    });
}

#[test]
fn the_preface_rides_on_the_first_data() {
    // spec.md §10.3, and the example of §10.5
    let mut sim = Sim::new(1);
    let config = sim.config().build().unwrap();
    let (client, mut raw) = sim.client_with_peer(config);
    let _task = sim.spawn(async move {
        let mut stream = Dispatcher::open(&client, Protocol::RAW).await.unwrap();
        stream.write_all(b"hi").await.unwrap();
        (client, stream)
    });
    sim.settle();
    let (frames, _) = raw.receive();
    assert_eq!(frames.len(), 1, "{frames:?}");
    assert_eq!((frames[0].flags, frames[0].stream), (SYN, 1));
    assert_eq!(frames[0].body, [0x54, 0x4b, 0, 0, 0x68, 0x69]);
}

#[test]
fn an_opener_that_only_reads_names_its_protocol_at_once() {
    // spec.md §10.4
    let mut sim = Sim::new(1);
    let (client, server) = sim.pair(64);
    let mut dispatcher = Dispatcher::new(server);
    let mut queue = dispatcher.serve(Protocol::RPC, 1).unwrap();
    sim.spawn(dispatcher.run());
    sim.run(async move {
        let mut near = Dispatcher::open(&client, Protocol::RPC).await.unwrap();
        let greet = async {
            let mut far = queue.next().await.unwrap();
            far.write_all(b"welcome").await.unwrap();
            far.close().await.unwrap();
        };
        let ((), (text, _)) = join!(greet, read_all(&mut near));
        assert_eq!(text, b"welcome");
    });
}

#[test]
fn a_wrong_preface_resets_one_stream_with_code_9() {
    // spec.md §10.8, §10.10
    let prefaces: [&[u8]; 7] =
        [b"GET ", b"TK\x01\x00", b"TK\x00\x01", b"TK\xff\x00", b"XK\x00\x00", b"TX\x00\x00", b"TK"];
    let mut sim = Sim::new(2);
    let config = sim.config().build().unwrap();
    let (server, mut raw) = sim.server_with_peer(config);
    let mut dispatcher = Dispatcher::new(server);
    let mut queue = dispatcher.serve(Protocol::RAW, 4).unwrap();
    assert!(dispatcher.serve(Protocol::RAW, 4).is_err());
    sim.spawn(dispatcher.run());
    for (number, preface) in prefaces.iter().enumerate() {
        let fin = if preface.len() < 4 { FIN } else { 0 };
        raw.send(&data(SYN | fin, 1 + 2 * number as u32, preface));
    }
    // A good one, byte by byte.
    let id = 1 + 2 * prefaces.len() as u32;
    raw.send(&header(support::WINDOW, SYN, id, 0));
    for byte in *b"TK\0\0ok" {
        raw.send(&data(0, id, &[byte]));
        sim.settle();
    }
    raw.send(&header(support::WINDOW, FIN, id, 0));
    sim.settle();
    let resets: Vec<_> = raw.receive().0.into_iter().filter(|f| f.flags & RST != 0).collect();
    assert_eq!(resets.len(), prefaces.len(), "{resets:?}");
    assert!(resets.iter().all(|frame| frame.length == 9), "{resets:?}");
    let text = sim.run(async move { read_all(&mut queue.next().await.unwrap()).await });
    assert_eq!(text, (b"ok".to_vec(), None));
}

#[test]
fn a_late_preface_resets_with_code_10_and_delays_no_other() {
    // spec.md §10.9
    let mut sim = Sim::new(3);
    let config = sim.config().build().unwrap();
    let (client, server) = sim.pair_with(4096, config.clone(), config);
    let mut dispatcher = Dispatcher::new(server).preface_timeout(Duration::from_secs(3));
    let mut queue = dispatcher.serve(Protocol::RAW, 4).unwrap();
    sim.spawn(dispatcher.run());
    let slow = client.clone();
    let slow = sim.spawn(async move {
        let mut stream = slow.open().await.unwrap();
        stream.write_all(b"TK\0").await.unwrap();
        read_all(&mut stream).await.1
    });
    sim.advance(Duration::from_millis(2_990));
    assert!(!slow.is_ready());
    let text = sim.run_for(Duration::ZERO, async move {
        let mut stream = Dispatcher::open(&client, Protocol::RAW).await.unwrap();
        stream.write_all(b"quick").await.unwrap();
        stream.close().await.unwrap();
        let text = read_all(&mut queue.next().await.unwrap()).await;
        (text, client, queue, stream)
    });
    assert_eq!(text.0, (b"quick".to_vec(), None));
    sim.advance(Duration::from_millis(10));
    let late = StreamError::Reset(ResetCode::PREFACE_TIMEOUT);
    assert_eq!(slow.take(), Some(Some(late)));
    assert!(!text.1.is_closed());
}

#[test]
fn a_full_queue_refuses_and_delays_no_other_protocol() {
    // spec.md §10.7
    let mut sim = Sim::new(4);
    let (client, server) = sim.pair(4096);
    let mut dispatcher = Dispatcher::new(server);
    let mut full = dispatcher.serve(Protocol::RAW, 3).unwrap();
    let mut free = dispatcher.serve(Protocol::SP, 1).unwrap();
    sim.spawn(dispatcher.run());
    sim.run(async move {
        let mut waiting = Vec::new();
        for _ in 0..3 {
            waiting.push(Dispatcher::open(&client, Protocol::RAW).await.unwrap());
        }
        let mut refused = Dispatcher::open(&client, Protocol::RAW).await.unwrap();
        let error = refused.read(&mut [0]).await.unwrap_err();
        assert_eq!(inner(&error), StreamError::Reset(ResetCode::REFUSED));
        let mut other = Dispatcher::open(&client, Protocol::SP).await.unwrap();
        other.write_all(b"x").await.unwrap();
        other.close().await.unwrap();
        assert_eq!(read_all(&mut free.next().await.unwrap()).await, (b"x".to_vec(), None));
        for mut near in waiting {
            near.close().await.unwrap();
            assert_eq!(read_all(&mut full.next().await.unwrap()).await, (Vec::new(), None));
        }
    });
}

#[test]
fn streams_whose_preface_arrived_are_handed_over_though_the_session_ended() {
    // spec.md §8.5.3, §8.6.1
    let mut sim = Sim::new(5);
    let config = sim.config().build().unwrap();
    let (server, mut raw) = sim.server_with_peer(config);
    for id in [1, 3, 5] {
        raw.send(&data(SYN | FIN, id, b"TK\0\0last words"));
    }
    drop(raw);
    sim.settle();
    let mut dispatcher = Dispatcher::new(server);
    let mut queue = dispatcher.serve(Protocol::RAW, 8).unwrap();
    sim.spawn(dispatcher.run());
    sim.run(async move {
        for _ in 0..3 {
            let mut stream = queue.next().await.expect("a stream");
            assert_eq!(read_all(&mut stream).await, (b"last words".to_vec(), None));
        }
        assert!(queue.next().await.is_none());
    });
}
