//! What an idle stream costs in memory. One test, since it counts what the process allocates.
#![allow(clippy::unwrap_used)]

#[path = "support/heap.rs"]
mod heap;
mod support;

use std::time::Duration;

use futures::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, FutureExt};
use heap::in_use;
use support::{Sim, count};

#[test]
fn an_idle_stream_holds_at_most_256_bytes_on_each_side() {
    let streams = count(100_000) as usize;
    let mut sim = Sim::new(4);
    let config = sim
        .config()
        .max_streams(200_000)
        .max_outbound_streams(200_000)
        .keepalive(Some(Duration::from_secs(30)))
        .build()
        .unwrap();
    let (client, server) = sim.pair_with(1 << 16, config.clone(), config);
    let without_handles = in_use();
    let mut near = Vec::with_capacity(streams);
    let mut far = Vec::with_capacity(streams);
    let before = in_use();
    while near.len() < streams {
        for _ in 0..200 {
            near.push(client.try_open().unwrap());
        }
        sim.settle();
        while let Some(Some(stream)) = server.accept().now_or_never() {
            far.push(stream);
        }
        sim.advance(Duration::from_millis(10));
    }
    assert_eq!((near.len(), far.len()), (streams, streams));
    sim.advance(Duration::from_secs(120));
    let after = in_use();
    let each = (after - before) / (2 * streams as i64);
    println!("{each} bytes per idle stream and side, {streams} streams");
    assert!(each <= 256, "{each} bytes per idle stream and side");

    // And after they spoke once.
    for (near, far) in near.iter_mut().zip(&mut far) {
        near.write_all(&[1; 100]).now_or_never();
        far.write_all(&[1; 100]).now_or_never();
    }
    sim.settle();
    let full = in_use();
    let mut buffer = [0; 100];
    for stream in near.iter_mut().chain(&mut far) {
        let _ = stream.read(&mut buffer).now_or_never();
    }
    sim.advance(Duration::from_secs(200));
    let each = (in_use() - before) / (2 * streams as i64);
    println!("{each} bytes after a message each way, {full} in all while unread");
    assert!(each <= 256, "{each} bytes per stream and side after a message");

    // And after a large message that was read chunk by chunk in place.
    for (near, far) in near.iter_mut().zip(&mut far).take(100) {
        near.write_all(&[1; 60_000]).now_or_never().unwrap().unwrap();
        sim.settle();
        while let Some(Ok(chunk)) = far.fill_buf().now_or_never() {
            let len = chunk.len();
            far.consume_unpin(len);
        }
    }
    sim.advance(Duration::from_secs(200));
    let each = (in_use() - before) / (2 * streams as i64);
    println!("{each} bytes after 100 of them consumed a buffer in place");
    assert!(each <= 256, "{each} bytes per stream and side after fill_buf");

    drop((near, far));
    sim.advance(Duration::from_secs(200));
    let left = in_use() - without_handles;
    println!("{left} bytes when all are gone");
    // spec.md §5.6.4: the tables go too.
    assert!(left < 300_000, "{left} bytes held by sessions without a stream");
    assert_eq!((client.stats().outbound_streams, server.stats().inbound_streams), (0, 0));
}
