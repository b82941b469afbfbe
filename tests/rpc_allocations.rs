//! What a call costs on the heap, both sides together. One test, since it counts what the process
//! allocates.
#![allow(clippy::unwrap_used)]

#[path = "support/calls.rs"]
mod calls;
#[path = "support/heap.rs"]
mod heap;
mod support;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use calls::{World, echo};
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use heap::MEMORY;
use stats_alloc::Region;
use trunkline::{
    Config, Session,
    rpc::{Client, Router, Server},
    runtime::Runtime,
    transport::memory,
};

#[tokio::test]
async fn calls_take_few_allocations_and_use_large_buffers_again() {
    small_calls().await;
    large_calls();
}

async fn small_calls() {
    let runtime = Runtime::new(|task| drop(tokio::spawn(task)));
    let mut router = Router::bytes();
    router.unary("Echo.Say", |_, said: Bytes| async move { Ok(said) }).unwrap();
    let server = Server::new(router, &runtime);
    let (left, right) = memory::duplex(1 << 20);
    let (near, driver) = Session::client(left, Config::default());
    let (far, peer) = Session::server(right, Config::default());
    runtime.spawn(driver.map(drop));
    runtime.spawn(peer.map(drop));
    runtime.spawn(server.serve(far));
    let client = Arc::new(Client::new(near, &runtime));
    let body = Bytes::from_static(&[7; 64]);
    for in_flight in [1, 64] {
        run(&client, &body, in_flight, 2_000).await;
        let region = Region::new(MEMORY);
        let calls = 10_000;
        run(&client, &body, in_flight, calls).await;
        let change = region.change();
        let each = (change.allocations + change.reallocations) as f64 / calls as f64;
        println!("{each:.2} allocations a call, {in_flight} in flight");
        // One of them is the test's own: the future of a call, in its set.
        assert!(each - 1.0 <= 6.1, "{each:.2} allocations a call, {in_flight} in flight");
    }
}

/// Bodies that no read from the connection can hold whole.
fn large_calls() {
    let mut world = World::new(1);
    let router = echo(&world.runtime);
    let (client, _server) = world.serve(router);
    let client = Arc::new(client);
    let calls = |world: &mut World, calls| {
        let client = client.clone();
        world.sim.run(async move { run(&client, &Bytes::from(vec![7; 65_536]), 8, calls).await });
    };
    calls(&mut world, 100);
    let region = Region::new(MEMORY);
    calls(&mut world, 1_000);
    let change = region.change();
    let each = (change.bytes_allocated as i64 + change.bytes_reallocated as i64) / 1_000;
    println!("{each} bytes allocated a call of 64 KiB");
    assert!(each < 48_000, "{each} bytes allocated a call of 64 KiB");
    // A session that has fallen idle gives them back.
    let region = Region::new(MEMORY);
    world.sim.advance(Duration::from_secs(15));
    let change = region.change();
    let freed = change.bytes_deallocated as i64 - change.bytes_allocated as i64;
    assert!(freed > 1_000_000, "{freed} bytes given back");
}

async fn run(client: &Arc<Client>, body: &Bytes, in_flight: usize, calls: usize) {
    let mut flying = FuturesUnordered::new();
    for _ in 0..calls {
        if flying.len() == in_flight {
            let said: Bytes = flying.next().await.unwrap();
            assert_eq!(said.len(), body.len());
        }
        let client = client.clone();
        flying.push(async move { client.call("Echo.Say", body).await.unwrap() });
    }
    while flying.next().await.is_some() {}
}
