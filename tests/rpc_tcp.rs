//! Calls over TCP and other transports, on tokio: the same as over memory, with real sockets.
#![allow(clippy::unwrap_used)]

#[path = "support/calls.rs"]
mod calls;
mod support;

use std::{io, time::Duration};

use bytes::Bytes;
use calls::{chat, echo};
use futures::future::join_all;
use tokio::net::{TcpListener, TcpStream};
use trunkline::{
    Config, Driver, Session,
    rpc::{Client, ClientBuilder, Code, Connection, Context, Fixed, Node, Router, Server},
    transport::{self, Address, Settings, Transports},
};

/// With `Echo.Where`, which says what it knows of the connection.
fn router() -> Router {
    let mut router = echo(&trunkline::tokio::runtime());
    router
        .unary("Echo.Where", |ctx: Context, _: Bytes| async move {
            let seen = [ctx.local_addr(), ctx.remote_addr(), ctx.peer()];
            Ok(Bytes::from(seen.map(|part| part.unwrap_or("?").to_owned()).join(" ")))
        })
        .unwrap();
    router
}

async fn serve() -> (Server<Router>, String) {
    let server = Server::new(router(), &trunkline::tokio::runtime());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let listener = std::sync::Arc::new(listener);
    tokio::spawn(server.clone().listen(move || {
        let listener = listener.clone();
        async move {
            let (tcp, remote) = listener.accept().await?;
            let remote_addr = Some(remote.to_string());
            let connection = Connection { remote_addr, ..Connection::default() };
            Ok::<_, io::Error>((trunkline::tokio::server(tcp, Config::default()), connection))
        }
    }));
    (server, addr)
}

fn client(addr: &str) -> Client {
    let dial = |node: &Node| {
        let addr = node.address.to_string();
        async move {
            let tcp = TcpStream::connect(addr).await?;
            Ok::<_, io::Error>(trunkline::tokio::client(tcp, Config::default()))
        }
    };
    let runtime = trunkline::tokio::runtime();
    ClientBuilder::new(&runtime, dial).resolve(Fixed::new([addr.to_owned()])).build()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_all_sizes_and_shapes_cross() {
    let (server, addr) = serve().await;
    let client = client(&addr);
    let calls = (0..500_usize).map(|n| {
        let client = client.clone();
        tokio::spawn(async move {
            let body = Bytes::from(vec![n as u8; n * 137 % 70_000]);
            let said: Bytes = client.call("Echo.Say", &body).await.unwrap();
            assert!(said == body);
        })
    });
    assert!(join_all(calls).await.iter().all(Result::is_ok));
    let seen: Bytes = client.call("Echo.Where", &Bytes::new()).await.unwrap();
    assert!(seen.starts_with(b"? 127.0.0.1:"));
    chat(&client, 200).await;
    server.shutdown(Duration::from_secs(5)).await;
    assert_eq!((server.stats().active, server.stats().panicked), (0, 0));
}

#[tokio::test]
async fn a_server_that_goes_away_fails_calls_and_is_found_again() {
    let (server, addr) = serve().await;
    let client = client(&addr);
    let stuck = client.clone();
    let stuck =
        tokio::spawn(async move { stuck.call::<_, Bytes>("Echo.Never", &Bytes::new()).await });
    client.call::<_, Bytes>("Echo.Say", &Bytes::new()).await.unwrap();
    server.abort();
    let failed = stuck.await.unwrap().unwrap_err();
    assert_eq!(failed.code(), Code::Network);
    // Nobody answers there any more.
    let failed = client.call::<_, Bytes>("Echo.Say", &Bytes::new()).await.unwrap_err();
    assert!(matches!(failed.code(), Code::Unavailable | Code::Network | Code::Busy), "{failed:?}");
}

/// Dials an address of any transport, and spawns the session's driver.
async fn session(
    connection: transport::Connection,
    new: fn(Box<dyn transport::Io>, Config) -> (Session, Driver),
) -> Session {
    let (session, driver) = new(connection.into_io(), Config::default());
    tokio::spawn(driver);
    session
}

#[tokio::test]
async fn addresses_come_from_the_transport_and_nobody_fakes_them() {
    let runtime = trunkline::tokio::runtime();
    let (transports, settings) = (Transports::default(), Settings::new(runtime.clone()));
    let path = std::env::temp_dir().join(format!("trunkline-rpc-{}.sock", std::process::id()));
    let ipc = format!("ipc://{}", path.display());
    for address in ["memory://calls", "tcp://127.0.0.1:0", &ipc] {
        let address = Address::parse(address).unwrap();
        let transport = transports.find(&address).unwrap();
        let mut acceptor = transport.bind(&address, &settings).await.unwrap();
        let bound = acceptor.local_addr().unwrap();
        let connector = transport.connector(&bound, &settings).unwrap();
        let (dialled, accepted) = futures::join!(connector.connect(), acceptor.accept());
        let (dialled, accepted) = (dialled.unwrap(), accepted.unwrap());
        let ours = dialled.local_addr().unwrap().to_string();

        let server = Server::new(router(), &runtime);
        let connection = Connection::from(&accepted);
        let far = session(accepted, Session::server).await;
        tokio::spawn(server.serve_connection(far, connection));
        let client = Client::new(session(dialled, Session::client).await, &runtime);
        let call = client.request("Echo.Where");
        let call = call.metadata("remote_addr", "tcp://1.2.3.4:5").metadata(":peer", "root");
        let seen: Bytes = call.call(&Bytes::new()).await.unwrap();
        assert_eq!(seen, format!("{bound} {ours} ?"), "{address}");
    }
}
