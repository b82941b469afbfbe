//! Long runs leave nothing behind: no memory, pipe, context or task.
#![allow(clippy::unwrap_used)]

#[path = "support/heap.rs"]
mod heap;
mod sp_support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::FutureExt;
use heap::{alone, in_use};
use sp_support::{
    count, counting, defaults, echo, ms, options, raw_rep, raw_req, rep, req, run, settle, words,
};
use trunkline::{
    sp::{ContextError, Message, Pipe, RecvError, RepSocket, ReqSocket},
    transport::Transports,
};

const ADDRESS: &str = "memory://soak";

#[test]
fn a_hundred_thousand_rounds_with_cuts_leave_nothing_behind() {
    let _turn = alone();
    run(async {
        let transports = Transports::default();
        let (at_server, at_client): (Arc<AtomicUsize>, Arc<AtomicUsize>) = Default::default();
        let server = RepSocket::new(counting(&at_server), transports.clone(), defaults());
        server.listen(ADDRESS).await.unwrap();
        echo(&server);
        let quick = options(|it| it.reconnect_min(ms(1)).reconnect_max(ms(0)).max_contexts(3));
        let client = ReqSocket::new(counting(&at_client), transports.clone(), quick);
        client.dial(ADDRESS).await.unwrap();
        let tasks = || (at_server.load(Ordering::SeqCst), at_client.load(Ordering::SeqCst));
        let rounds = count(100_000);
        let (mut started, mut memory) = (None, None);
        for round in 0..rounds {
            let body = Bytes::from(round.to_string());
            if round % 100 == 99 {
                cut_and_ask(&client, &server, round / 100, &body).await;
            } else {
                assert_eq!(client.request(body.clone()).await.unwrap(), body);
            }
            let limits = *started.get_or_insert_with(tasks);
            let now = tasks();
            assert!(now.0 <= limits.0 + 2 && now.1 <= limits.1 + 1, "{now:?} after {limits:?}");
            // The first rounds find the size of everything.
            if round % 100 == 50 && round >= rounds / 4 {
                let before = *memory.get_or_insert_with(in_use);
                assert!(in_use() < before + (32 << 10), "{before} bytes, then {}", in_use());
            }
        }
        assert!(client.pipes().len() <= 1 && server.pipes().len() <= 1);
        assert!(client.stats().attached >= rounds / 100);
        // The socket's own context and two more.
        let contexts = [client.context().unwrap(), client.context().unwrap()];
        assert_eq!(client.context().unwrap_err(), ContextError::TooMany);
        drop(contexts);
        client.close().await;
        server.close().await;
        settle().await;
        assert_eq!(tasks(), (0, 0));
    });
}

/// A request in a context of its own, whose connection is cut on either side, at any stage.
async fn cut_and_ask(client: &ReqSocket, server: &RepSocket, cut: u64, body: &Bytes) {
    let context = client.context().unwrap();
    let (mut asking, turns) = (Box::pin(context.request(body.clone()).fuse()), cut % 12);
    let mut reply = None;
    for _ in 0..turns {
        if let std::task::Poll::Ready(done) = futures::poll!(&mut asking) {
            reply = Some(done);
        }
        tokio::task::yield_now().await;
    }
    let pipes = if cut.is_multiple_of(2) { client.pipes() } else { server.pipes() };
    pipes.iter().for_each(Pipe::close);
    match reply {
        Some(reply) => assert_eq!(reply.unwrap(), body),
        // Given up.
        None if cut.is_multiple_of(3) => drop(asking),
        None => assert_eq!(asking.await.unwrap(), body, "exactly one reply"),
    }
    assert_eq!(client.request(body.clone()).await.unwrap(), body);
}

#[test]
fn deadlines_do_not_outlive_those_who_set_them() {
    let _turn = alone();
    run(async {
        let transports = Transports::default();
        let hour = Some(Duration::from_secs(3_600));
        let patient = options(|it| it.recv_timeout(hour).send_timeout(hour));
        let server = rep(&transports, patient.clone());
        let client = req(&transports, patient.clone());
        server.listen(ADDRESS).await.unwrap();
        client.dial(ADDRESS).await.unwrap();
        echo(&server);
        let (front, back) = (raw_rep(&transports, patient.clone()), raw_req(&transports, patient));
        front.listen("memory://raw").await.unwrap();
        back.dial("memory://raw").await.unwrap();
        let mut memory = None;
        for round in 0..count(100_000) {
            client.request("x").await.unwrap();
            receive_in_other_ways(&client).await;
            let ask = async {
                tokio::task::yield_now().await;
                back.send_message(Message::new(words(&[0x8000_0001], b""), "x")).await.unwrap();
            };
            let (asked, ()) = futures::join!(front.recv_message(), ask);
            asked.unwrap();
            // Nobody comes.
            assert!(back.recv_message().now_or_never().is_none());
            if round >= 500 {
                let before = *memory.get_or_insert_with(in_use);
                assert!(in_use() < before + (32 << 10), "{before} bytes, then {}", in_use());
            }
        }
    });
}

/// Replies that were there already, looked for again and again, and waited for in vain before.
async fn receive_in_other_ways(client: &ReqSocket) {
    let answered = client.stats().received + 1;
    client.send("x").await.unwrap();
    assert!(client.recv().now_or_never().is_none());
    while client.stats().received < answered {
        assert_eq!(client.try_recv(), Err(RecvError::WouldBlock));
        tokio::task::yield_now().await;
    }
    client.recv().await.unwrap();
}
