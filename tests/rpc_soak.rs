//! Very many calls, with everything that can go wrong: each has an answer, and nothing is left.
//! One test, since it counts what the process allocates.
#![allow(clippy::unwrap_used)]

#[path = "support/calls.rs"]
mod calls;
#[path = "support/heap.rs"]
mod heap;
mod support;

use std::{cell::RefCell, rc::Rc, time::Duration};

use bytes::Bytes;
use calls::{World, echo};
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use heap::in_use;
use support::{Random, count, pause};
use trunkline::{
    GoAwayCode, Session,
    rpc::{Client, Code, Router, Server, Status},
    transport::memory,
};

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    good: u64,
    failed: u64,
    panicked: u64,
    dropped: u64,
    lost: u64,
    late: u64,
}

#[test]
fn calls_by_the_million_leave_nothing_behind() {
    let rounds = 20;
    let each = count(1_000_000) / rounds;
    let mut world = World::new(3);
    let mut router = echo(&world.runtime);
    fail(&mut router);
    let server = Server::new(router, &world.runtime);
    let tally = Rc::new(RefCell::new(Tally::default()));
    let mut settled = 0;
    for round in 0..rounds {
        let (near, far, client) = connect(&world, &server);
        let work = round_of_calls(client, each, round, tally.clone(), near.clone());
        world.sim.run_for(Duration::from_secs(3_600), work);
        far.abort(GoAwayCode::INTERNAL_ERROR);
        world.sim.settle();
        assert_eq!((server.stats().active, server.stats().sessions), (0, 0));
        let streams = (near.stats().outbound_streams, far.stats().inbound_streams);
        assert_eq!(streams, (0, 0));
        drop((near, far));
        world.sim.settle();
        if round == 2 {
            settled = in_use();
        }
    }
    let tally = *tally.borrow();
    println!("{tally:?}, {:?}, heap {:+} bytes", server.stats(), in_use() - settled);
    let all = tally.good + tally.failed + tally.panicked + tally.dropped + tally.lost + tally.late;
    assert_eq!(all, rounds * each, "every call has an answer, once");
    assert!(tally.good > all / 2 && tally.failed > 0 && tally.panicked > 0 && tally.dropped > 0);
    assert!(tally.lost > 0 && tally.late > 0);
    assert!(tally.lost < all / 30, "only the cuts lose calls");
    // The simulation itself keeps a few bytes per task.
    assert!(
        in_use() - settled < 100_000,
        "{} bytes more than after the third round",
        in_use() - settled
    );
}

fn fail(router: &mut Router) {
    router
        .unary("S.Fail", |_, _: Bytes| async move {
            Err::<Bytes, _>(Status::new(Code::Conflict, "as asked"))
        })
        .unwrap();
}

fn connect(world: &World, server: &Server<Router>) -> (Session, Session, Client) {
    let config = world.sim.config().build().unwrap();
    let (left, right) = memory::duplex(1 << 16);
    let (near, driver) = Session::client(left, config.clone());
    let (far, peer) = Session::server(right, config);
    world.runtime.spawn(driver.map(drop));
    world.runtime.spawn(peer.map(drop));
    world.runtime.spawn(server.serve(far.clone()));
    let client = Client::new(near.clone(), &world.runtime).retries(0);
    (near, far, client)
}

/// 64 calls at a time; in every hundredth round or so the connection is cut in the middle.
async fn round_of_calls(
    client: Client,
    calls: u64,
    seed: u64,
    tally: Rc<RefCell<Tally>>,
    session: Session,
) {
    let mut random = Random(seed);
    let mut flying = FuturesUnordered::new();
    // One per cent of the calls meets a connection that is gone.
    let cut_at = calls - calls / 100;
    for n in 0..calls {
        if n == cut_at {
            session.abort(GoAwayCode::INTERNAL_ERROR);
        }
        if flying.len() == 64 {
            flying.next().await;
        }
        flying.push(one(client.clone(), random.next(), tally.clone()));
    }
    while flying.next().await.is_some() {}
}

async fn one(client: Client, dice: u64, tally: Rc<RefCell<Tally>>) {
    let body = Bytes::from(vec![7; (dice >> 32) as usize % 300]);
    let name = match dice % 100 {
        0 => "S.Fail",
        1 => "Echo.Panic",
        2 | 3 | 90..95 => "Echo.Never",
        _ => "Echo.Say",
    };
    let call = client.request(name).timeout(Some(Duration::from_millis(20)));
    let call = std::pin::pin!(call.call::<_, Bytes>(&body));
    let outcome = match dice % 100 {
        // Dropped sooner or later.
        3..8 => {
            let limit = std::pin::pin!(pause((dice >> 16) as usize % 8));
            match futures::future::select(call, limit).await {
                futures::future::Either::Left((outcome, _)) => outcome,
                futures::future::Either::Right(_) => {
                    tally.borrow_mut().dropped += 1;
                    return;
                }
            }
        }
        _ => call.await,
    };
    let mut tally = tally.borrow_mut();
    match outcome.map_err(|status| status.code()) {
        Ok(said) => {
            assert_eq!(said, body);
            tally.good += 1;
        }
        Err(Code::Conflict) => tally.failed += 1,
        Err(Code::Internal) => tally.panicked += 1,
        Err(Code::Network) => tally.lost += 1,
        Err(Code::Timeout) => tally.late += 1,
        Err(other) => panic!("{other:?}"),
    }
}
