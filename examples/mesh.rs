//! Nodes that find, greet and call each other, and print who is connected whenever that changes.
//!
//! ```sh
//! cargo run --release --features full --example mesh -- local --nodes 5
//! cargo run --release --features full --example mesh -- node ann --listen 127.0.0.1:7201
//! cargo run --release --features full --example mesh -- node bob --listen 127.0.0.1:7202 --peers 127.0.0.1:7201
//! ```
//!
//! Kill a node and start it again: the others call it lost, and greet it when it is back.

mod support;

use std::{collections::BTreeSet, env, error::Error, process::ExitCode, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, future::join_all};
use support::with_causes;
use trunkline::{
    Protocol,
    peers::{Overflow, PeerConfig, PeerEvent, PeerId, PeerStore, Policy},
    rpc::{Client, Connection, Router, Server},
    transport::Transports,
};

const USAGE: &str = "\
usage: mesh node NAME --listen HOST:PORT [--peers HOST:PORT,HOST:PORT,…] [--every MS]
       mesh local [--nodes N] [--seconds S]

  node    one node: prints `NAME listening HOST:PORT`, then `NAME sees …` whenever that changes;
          greets everyone every MS milliseconds (200), and says so after the first hundred
  local   N nodes (5) in this process, of which one goes away and comes back; S seconds (5)";

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--help") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let misused = || {
        eprintln!("{USAGE}");
        ExitCode::from(2)
    };
    let option = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1).map(String::as_str)
    };
    let done = match (args.first().map(String::as_str), option("--listen")) {
        (Some("node"), Some(listen)) if args.len() >= 4 => {
            let peers = option("--peers").unwrap_or_default();
            match option("--every").map_or(Ok(200), str::parse) {
                Ok(every) => node(&args[1], listen, peers, Duration::from_millis(every)).await,
                Err(_) => return misused(),
            }
        }
        (Some("local"), None) => {
            let number = |name, default| option(name).map_or(Ok(default), str::parse::<u32>);
            match (number("--nodes", 5), number("--seconds", 5)) {
                (Ok(nodes), Ok(seconds)) if nodes >= 2 => {
                    local(nodes, Duration::from_secs(seconds.into())).await
                }
                _ => return misused(),
            }
        }
        _ => return misused(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mesh: {}", with_causes(&*error));
            ExitCode::FAILURE
        }
    }
}

/// A node runs until it is killed.
async fn node(name: &str, listen: &str, peers: &str, every: Duration) -> Result<()> {
    let node = Node::start(name, listen, every).await?;
    peers.split(',').filter(|peer| !peer.is_empty()).for_each(|peer| node.keep(peer));
    std::future::pending().await
}

/// Some nodes, each of which knows those before it.
async fn local(nodes: u32, time: Duration) -> Result<()> {
    let mut all: Vec<Node> = Vec::new();
    for number in 0..nodes {
        let node = Node::start(&format!("n{number}"), "127.0.0.1:0", EVERY).await?;
        all.iter().for_each(|other| node.keep(&other.address));
        all.push(node);
    }
    tokio::time::sleep(time / 3).await;
    let Some(lost) = all.pop() else { return Ok(()) };
    println!("-- {} goes away", lost.store.id());
    lost.store.shutdown().await;
    tokio::time::sleep(time / 3).await;
    println!("-- {} comes back", lost.store.id());
    let back = Node::start(&lost.store.id().to_string(), &lost.address, EVERY).await?;
    all.iter().for_each(|other| back.keep(&other.address));
    all.push(back);
    tokio::time::sleep(time / 3).await;
    join_all(all.iter().map(|node| node.store.shutdown())).await;
    Ok(())
}

struct Node {
    store: PeerStore,
    address: String,
}

impl Node {
    async fn start(name: &str, listen: &str, every: Duration) -> Result<Self> {
        let runtime = trunkline::tokio::runtime();
        let mut router = Router::bytes();
        router.unary("Mesh.Greet", |ctx, from: Bytes| async move {
            let caller = ctx.peer().unwrap_or("nobody").to_owned();
            Ok(Bytes::from([&from, caller.as_bytes()].concat()))
        })?;
        let server = Server::new(router, &runtime);
        let tasks = runtime.clone();
        let waits = Some((Duration::from_millis(50), Duration::from_secs(1)));
        let store =
            PeerStore::builder(PeerId::new(name.to_owned())?, runtime, Transports::default())
                .config(PeerConfig::builder().reconnect(waits).build()?)
                .serve(move |peer, session, dispatcher| {
                    if let Ok(calls) = dispatcher.serve(Protocol::RPC, 64) {
                        let from = Connection {
                            peer: Some(peer.id().to_string()),
                            ..Connection::default()
                        };
                        tasks.spawn(server.serve_streams(session.clone(), calls, from));
                    }
                })
                .build();
        // Those who watch are there before anyone comes.
        let (events, heard) = (store.events(), store.subscribe(|_| true, 64, Overflow::DropOldest));
        let address = store.listen(&format!("tcp://{listen}")).await?.ok_or("no address")?;
        println!("{name} listening {}", address.rest());
        tokio::spawn(watch(store.clone(), events));
        tokio::spawn(heard.for_each(|_| async {}));
        tokio::spawn(greet(store.clone(), every));
        Ok(Self { store, address: address.rest().to_owned() })
    }

    fn keep(&self, peer: &str) {
        if let Err(error) = self.store.keep(&format!("tcp://{peer}")) {
            eprintln!("{}: {peer}: {error}", self.store.id());
        }
    }
}

/// Prints who is connected whenever that changes.
async fn watch(store: PeerStore, mut events: trunkline::peers::Queue<PeerEvent>) {
    let mut last = String::new();
    while events.next().await.is_some() {
        let seen: BTreeSet<_> = store.peers().iter().map(|peer| peer.id.to_string()).collect();
        let seen = seen.into_iter().collect::<Vec<_>>().join(" ");
        if seen != last {
            println!("{} sees {seen}", store.id());
            last = seen;
        }
    }
}

/// A message to everyone and a call of everyone, again and again.
async fn greet(store: PeerStore, every: Duration) {
    let runtime = trunkline::tokio::runtime();
    let mut greeted = 0;
    loop {
        tokio::time::sleep(every).await;
        let rounds = store.peers().into_iter().map(|info| {
            let (peer, runtime) = (store.peer(&info.id), runtime.clone());
            async move {
                let said = peer.send("hello", Policy::Drop).await;
                let Some(session) = peer.session() else { return };
                let client = Client::new(session, &runtime);
                let answer = client.call::<_, Bytes>("Mesh.Greet", &Bytes::from("hello ")).await;
                if let (Err(error), true) = (answer, said.is_ok()) {
                    println!("{} lost a call to {}: {}", info.id, peer.id(), error.code());
                }
            }
        });
        let before = greeted;
        greeted += join_all(rounds).await.len();
        if before < 100 && greeted >= 100 {
            println!("{} has greeted a hundred times", store.id());
        }
    }
}

const EVERY: Duration = Duration::from_millis(200);
