//! Every stream of things that this crate gives out says when it has ended, so that `select!`
//! loops can leave it.
#![allow(clippy::unwrap_used)]

use futures::{
    StreamExt,
    executor::block_on,
    future::join3,
    stream::{FusedStream, select_all},
};
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
    let raw = dispatcher.serve(Protocol::RAW, 1).unwrap();
    let application = dispatcher.serve(Protocol { number: 200, version: 1 }, 1).unwrap();
    let work = async {
        // `select_all` leaves out what has ended, which it asks by `is_terminated`.
        let mut all = select_all([raw, application]);
        assert!(!all.is_terminated());
        let close = async { client.close().await.unwrap() };
        let (_, taken, ()) = join3(close, all.next(), dispatcher.run()).await;
        assert!(taken.is_none() && all.is_terminated());
    };
    block_on(join3(work, driver, peer_driver)).1.unwrap();
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
