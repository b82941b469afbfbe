//! The longest `Duration` there is means for ever, wherever a time can be given: no clock overflows.
#![cfg(all(feature = "rpc", feature = "peers"))]
#![allow(clippy::unwrap_used)]

use std::{io, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, executor::block_on};
use trunkline::{
    Config, Session,
    peers::{Overflow, PeerConfig, PeerId, PeerStore},
    rpc::{Client, ClientBuilder, Code, Fixed, Node, Router, Server},
    runtime::Runtime,
    transport::{Transports, memory::duplex},
};

const FOREVER: Duration = Duration::MAX;

fn runtime() -> Runtime {
    Runtime::new(|task| smol::spawn(task).detach())
}

fn pair() -> (Session, Session) {
    let (left, right) = duplex(4096);
    let (client, driver) = Session::client(left, Config::default());
    smol::spawn(driver).detach();
    let (server, driver) = Session::server(right, Config::default());
    smol::spawn(driver).detach();
    (client, server)
}

#[test]
fn calls_and_servers_wait_for_ever() {
    block_on(async {
        let mut router = Router::bytes();
        router.unary("Echo.Say", |_ctx, said: Bytes| async move { Ok(said) }).unwrap();
        let server = Server::builder().request_timeout(FOREVER).build(router, &runtime()).unwrap();
        let (near, far) = pair();
        smol::spawn(server.serve(far)).detach();
        let client = Client::new(near, &runtime()).timeout(Some(FOREVER));
        let said = Bytes::from("hello");
        assert_eq!(client.call::<_, Bytes>("Echo.Say", &said).await.unwrap(), said);
        let call = client.request("Echo.Say").timeout(Some(FOREVER));
        assert_eq!(call.call::<_, Bytes>(&said).await.unwrap(), said);
        server.shutdown(FOREVER).await;
    });
}

#[test]
fn nodes_that_fail_are_left_alone_for_ever() {
    block_on(async {
        let client = ClientBuilder::new(&runtime(), |_: &Node| async {
            Err::<Session, _>(io::Error::from(io::ErrorKind::ConnectionRefused))
        })
        .resolve(Fixed::new(["nowhere"]))
        .cool_down(FOREVER)
        .dial_timeout(FOREVER)
        .build()
        .retries(0);
        let called = client.call::<_, Bytes>("Echo.Say", &Bytes::new()).await;
        assert_eq!(called.unwrap_err().code(), Code::Unavailable);
    });
}

#[test]
fn peers_wait_for_ever() {
    block_on(async {
        let config = PeerConfig::builder()
            .dial_timeout(FOREVER)
            .handshake_timeout(FOREVER)
            .close_timeout(FOREVER)
            .build()
            .unwrap();
        let network = Transports::default();
        let store = |name| {
            let id = PeerId::new(name).unwrap();
            PeerStore::builder(id, runtime(), network.clone()).config(config.clone()).build()
        };
        let (ann, bob) = (store("ann"), store("bob"));
        let mut heard = bob.subscribe(|_| true, 1, Overflow::Wait);
        bob.listen("memory://bob").await.unwrap();
        let answer = smol::spawn(async move { heard.next().await.unwrap().ack.unwrap().succeed() });
        let peer = ann.connect("memory://bob").await.unwrap();
        peer.send_with_ack("hello", FOREVER).await.unwrap();
        answer.await;
        ann.shutdown().await;
        bob.shutdown().await;
    });
}

#[cfg(feature = "sp")]
#[test]
fn sockets_wait_for_ever() {
    use trunkline::sp::{Options, RepSocket, ReqSocket};

    block_on(async {
        let options = Options::builder()
            .send_timeout(Some(FOREVER))
            .recv_timeout(Some(FOREVER))
            .retry(Some(FOREVER))
            .linger(FOREVER)
            .connect_timeout(FOREVER)
            .handshake_timeout(FOREVER)
            .build()
            .unwrap();
        let network = Transports::default();
        let rep = RepSocket::new(runtime(), network.clone(), options.clone());
        rep.listen("memory://rep").await.unwrap();
        let req = ReqSocket::new(runtime(), network, options);
        req.dial("memory://rep").await.unwrap();
        let answer = smol::spawn(async move {
            let (request, replier) = rep.recv().await.unwrap();
            replier.send(request).await.unwrap();
            rep
        });
        assert_eq!(req.request("hello").await.unwrap(), "hello");
        req.close().await;
        answer.await.close().await;
    });
}
