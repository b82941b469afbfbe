//! Connections that are cut, and what is left behind: nothing.
#![allow(clippy::unwrap_used)]

mod sp_support;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sp_support::{
    PeerListener, counting, defaults, echo, ms, options, raw_rep, raw_req, rep, req, run, settle,
    split, words,
};
use trunkline::{
    sp::{RepSocket, ReqSocket, device},
    transport::Transports,
};

const ADDRESS: &str = "memory://faults";

#[test]
fn cut_before_during_and_after_a_request() {
    run(async {
        let transports = Transports::default();
        let client = req(&transports, options(|it| it.reconnect_min(ms(1)).reconnect_max(ms(0))));
        let mut listener = PeerListener::bind(&transports, ADDRESS).await;
        client.dialer(ADDRESS, client.options()).unwrap().dial_background().unwrap();
        let body = vec![5; 200_000];
        // In the handshake, after none, some and all of its bytes.
        for sent in [0, 3, 8] {
            let mut peer = listener.accept().await;
            peer.write(&sp_support::REP[..sent]).await;
        }
        // Before the request, in the middle of it, behind it, and in the middle of the reply.
        drop(listener.serve().await);
        let asking = tokio::spawn({
            let (client, body) = (client.clone(), body.clone());
            async move { client.request(body).await }
        });
        let mut peer = listener.serve().await;
        peer.read(100_000).await;
        drop(peer);
        let mut peer = listener.serve().await;
        let request = peer.recv().await;
        drop(peer);
        let mut peer = listener.serve().await;
        assert_eq!(peer.recv().await, request, "the same request again");
        peer.write(&1_000_u64.to_be_bytes()).await;
        peer.write(&words(&[split(&request).0], b"only part of it")).await;
        drop(peer);
        let mut peer = listener.serve().await;
        assert_eq!(peer.recv().await, request);
        peer.send(&words(&[split(&request).0], b"at last")).await;
        assert_eq!(asking.await.unwrap().unwrap(), "at last");
        // After the reply: nothing is owed.
        drop(peer);
        let mut peer = listener.serve().await;
        assert_eq!(peer.recv_within(Duration::from_secs(100)).await, None);
    });
}

#[test]
fn cut_between_hops() {
    run(async {
        let transports = Transports::default();
        let server = rep(&transports, defaults());
        server.listen("memory://server").await.unwrap();
        let quick = options(|it| it.reconnect_min(ms(1)).retry(Some(ms(50))));
        let (front, back) = (raw_rep(&transports, defaults()), raw_req(&transports, quick.clone()));
        front.listen("memory://front").await.unwrap();
        back.dial("memory://server").await.unwrap();
        tokio::spawn(device(front, back.clone()));
        let client = req(&transports, quick);
        client.dial("memory://front").await.unwrap();
        let asking = tokio::spawn(async move { client.request("x").await });
        let (_, replier) = server.recv().await.unwrap();
        back.pipes()[0].close();
        settle().await;
        replier.send("lost").await.unwrap_err();
        echo(&server);
        assert_eq!(asking.await.unwrap().unwrap(), "x");
    });
}

#[test]
fn dropping_the_sockets_ends_their_tasks() {
    run(async {
        let transports = Transports::default();
        let alive = Arc::default();
        let server = RepSocket::new(counting(&alive), transports.clone(), defaults());
        server.listen(ADDRESS).await.unwrap();
        let client = ReqSocket::new(counting(&alive), transports.clone(), defaults());
        client.dial(ADDRESS).await.unwrap();
        let absent = client.dialer("memory://nobody", defaults()).unwrap();
        absent.dial_background().unwrap();
        client.send("x").await.unwrap();
        settle().await;
        assert!(alive.load(Ordering::SeqCst) >= 5);
        drop((client, server, absent));
        settle().await;
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    });
}
