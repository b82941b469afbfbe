//! The streams of things that sessions, dispatchers, sets, calls, peers and sockets give out say when
//! they have ended, so that `select!` loops can leave them.
#![allow(clippy::unwrap_used)]

use futures::{StreamExt, executor::block_on, future::join3, stream::FusedStream};
use trunkline::{Config, Dispatcher, Protocol, Role, Session, transport::memory::duplex};

#[test]
fn incoming_streams_end_with_the_session_and_not_before_the_last_was_taken() {
    let (left, right) = duplex(4096);
    let (client, driver) = Session::client(left, Config::default());
    let (server, peer_driver) = Session::server(right, Config::default());
    assert_eq!((client.role(), server.role()), (Role::Client, Role::Server));
    let work = async {
        let mut incoming = server.incoming();
        let stream = client.open().await.unwrap();
        futures::AsyncWriteExt::flush(&mut { stream }).await.unwrap();
        assert!(!incoming.is_terminated());
        drop(incoming.next().await.unwrap());
        client.close().await.unwrap();
        server.closed().await.unwrap();
        assert!(incoming.next().await.is_none());
        assert!(incoming.is_terminated());
    };
    block_on(join3(work, driver, peer_driver)).1.unwrap();
}

#[test]
fn the_streams_of_a_dispatcher_end_with_the_session() {
    let (left, right) = duplex(4096);
    let (client, driver) = Session::client(left, Config::default());
    let (server, peer_driver) = Session::server(right, Config::default());
    let mut dispatcher = Dispatcher::new(server);
    let mut raw = dispatcher.serve(Protocol::RAW, 1).unwrap();
    assert!(!raw.is_terminated());
    let work = async {
        let close = async { client.close().await.unwrap() };
        let (_, taken, ()) = join3(close, raw.next(), dispatcher.run()).await;
        assert!(taken.is_none() && raw.is_terminated());
    };
    block_on(join3(work, driver, peer_driver)).1.unwrap();
}

#[cfg(feature = "exchange")]
#[test]
fn the_exchanges_of_a_set_end_with_the_session() {
    use trunkline::{
        exchange::{ExchangeSet, SetConfig},
        runtime::Runtime,
    };

    let (left, right) = duplex(4096);
    let (client, driver) = Session::client(left, Config::default());
    let (server, peer_driver) = Session::server(right, Config::default());
    let runtime = Runtime::new(|task| smol::spawn(task).detach());
    let set = ExchangeSet::new(server.clone(), &runtime, SetConfig::default()).unwrap();
    let mut dispatcher = Dispatcher::new(server);
    let mut inbound = set.incoming(dispatcher.serve(Protocol::EXCHANGE, 1).unwrap());
    assert!(!inbound.is_terminated());
    let work = async {
        let close = async { client.close().await.unwrap() };
        let (_, taken, ()) = join3(close, inbound.next(), dispatcher.run()).await;
        assert!(taken.is_none() && inbound.is_terminated());
    };
    block_on(join3(work, driver, peer_driver)).1.unwrap();
}

#[cfg(feature = "rpc")]
#[test]
fn the_messages_of_a_call_end_with_it() {
    use bytes::Bytes;
    use trunkline::{
        rpc::{Client, Receiver, Router, Server, codec::Raw},
        runtime::Runtime,
    };

    let (left, right) = duplex(4096);
    let (near, driver) = Session::client(left, Config::default());
    smol::spawn(driver).detach();
    let (far, driver) = Session::server(right, Config::default());
    smol::spawn(driver).detach();
    let runtime = Runtime::new(|task| smol::spawn(task).detach());
    let mut router = Router::bytes();
    let once = |_, said: Bytes| async move { Ok(futures::stream::iter([Ok(said)])) };
    router.server_streaming("Echo.Once", once).unwrap();
    smol::spawn(Server::new(router, &runtime).serve(far)).detach();
    block_on(async {
        let client = Client::new(near, &runtime);
        let call = client.request("Echo.Once");
        let mut answers: Receiver<Bytes, Raw> =
            call.server_streaming(&Bytes::from("x")).await.unwrap();
        assert!(!answers.is_terminated());
        assert_eq!(answers.next().await.unwrap().unwrap(), "x");
        let end = answers.next().await;
        assert!(end.is_none(), "{end:?}");
        assert!(answers.is_terminated());
    });
}

#[cfg(feature = "peers")]
#[test]
fn messages_and_events_of_peers_end_with_the_store() {
    use trunkline::{
        peers::{Overflow, PeerId, PeerStore},
        runtime::Runtime,
        transport::Transports,
    };

    let runtime = Runtime::new(|task| smol::spawn(task).detach());
    let id = PeerId::new("ann").unwrap();
    let store = PeerStore::builder(id, runtime, Transports::default()).build();
    let mut events = store.events();
    let mut messages = store.subscribe(|_| true, 1, Overflow::Wait);
    assert!(!events.is_terminated() && !messages.is_terminated());
    block_on(store.shutdown());
    assert!(block_on(events.next()).is_none() && events.is_terminated());
    assert!(block_on(messages.next()).is_none() && messages.is_terminated());
}

#[cfg(feature = "sp")]
#[test]
fn events_of_a_socket_end_with_it() {
    use trunkline::{
        runtime::Runtime,
        sp::{Options, ReqSocket},
        transport::Transports,
    };

    let runtime = Runtime::new(|task| smol::spawn(task).detach());
    let socket = ReqSocket::new(runtime, Transports::default(), Options::default());
    let mut events = socket.events();
    assert!(!events.is_terminated());
    block_on(socket.close());
    assert!(block_on(events.next()).is_none() && events.is_terminated());
}
