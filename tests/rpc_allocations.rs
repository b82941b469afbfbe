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
    rpc::{
        BoxError, Channel, Client, Retry, Router, Server,
        codec::{Codec, Decode, Encode, Raw},
    },
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
    let fresh = Arc::new(Client::clone(&client).with_codec(Fresh));
    for in_flight in [1, 64] {
        let each = measured(&client, &body, in_flight).await;
        println!("{each:.2} allocations a call, {in_flight} in flight");
        // One of them is the test's own: the future of a call, in its set.
        assert!(each - 1.0 <= 4.1, "{each:.2} allocations a call, {in_flight} in flight");
        // A body that is made for the call costs what the codec allocates for it.
        let made = measured(&fresh, &body, in_flight).await - each;
        assert!(made <= 1.1, "{made:.2} more for a body, {in_flight} in flight");
    }
}

/// Allocations a call.
async fn measured<K>(client: &Arc<Client<Retry<Channel>, K>>, body: &Bytes, in_flight: usize) -> f64
where
    K: Encode<Bytes> + Decode<Bytes>,
{
    run(client, body, in_flight, 2_000).await;
    let region = Region::new(MEMORY);
    let calls = 10_000;
    run(client, body, in_flight, calls).await;
    let change = region.change();
    (change.allocations + change.reallocations) as f64 / calls as f64
}

/// Makes every body anew, of exactly its length, as protobuf does.
#[derive(Clone)]
struct Fresh;

impl Codec for Fresh {
    fn default_type(&self) -> &'static str {
        Raw.default_type()
    }
}

impl Encode<Bytes> for Fresh {
    fn encode(&self, _: &str, value: &Bytes) -> Result<Bytes, BoxError> {
        Ok(Bytes::copy_from_slice(value))
    }
}

impl Decode<Bytes> for Fresh {
    fn decode(&self, _: &str, body: Bytes) -> Result<Bytes, BoxError> {
        Ok(body)
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

async fn run<K>(
    client: &Arc<Client<Retry<Channel>, K>>,
    body: &Bytes,
    in_flight: usize,
    calls: usize,
) where
    K: Encode<Bytes> + Decode<Bytes>,
{
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
