//! What a call costs on the heap, both sides together. One test, since it counts what the process
//! allocates.
#![allow(clippy::unwrap_used)]

use std::{alloc::System, sync::Arc};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use trunkline::{
    Config, Session,
    rpc::{Client, Router, Server},
    runtime::Runtime,
    transport::memory,
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[tokio::test]
async fn a_small_call_takes_at_most_eight_allocations() {
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
        let region = Region::new(ALLOCATOR);
        let calls = 10_000;
        run(&client, &body, in_flight, calls).await;
        let change = region.change();
        let each = (change.allocations + change.reallocations) as f64 / calls as f64;
        println!("{each:.2} allocations a call, {in_flight} in flight");
        // One of them is the test's own: the future of a call, in its set.
        assert!(each - 1.0 <= 8.1, "{each:.2} allocations a call, {in_flight} in flight");
    }
}

async fn run(client: &Arc<Client>, body: &Bytes, in_flight: usize, calls: usize) {
    let mut flying = FuturesUnordered::new();
    for _ in 0..calls {
        if flying.len() == in_flight {
            let said: Bytes = flying.next().await.unwrap();
            assert_eq!(said.len(), 64);
        }
        let client = client.clone();
        flying.push(async move { client.call("Echo.Say", body).await.unwrap() });
    }
    while flying.next().await.is_some() {}
}
