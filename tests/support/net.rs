//! Servers by address, and clients that dial them.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use trunkline::{
    GoAwayCode, Session,
    rpc::{BoxError, Client, ClientBuilder, Code, Node, Resolve, Router, Server, Status},
    runtime::Runtime,
    transport::memory,
};

use super::calls::{World, echo, sleep};

/// Servers by address, and how to dial them.
#[derive(Clone)]
pub struct Net {
    pub runtime: Runtime,
    config: trunkline::Config,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    servers: HashMap<String, Server<Router>>,
    /// Addresses that answer no dial.
    holes: HashSet<String>,
    dials: Vec<String>,
    /// The servers' ends.
    sessions: Vec<(String, Session)>,
}

impl Net {
    pub fn new(world: &World) -> Self {
        let config = world.sim.config().build().unwrap();
        Self { runtime: world.runtime.clone(), config, inner: Arc::default() }
    }

    /// A server that says its address.
    pub fn add(&self, address: &'static str) -> Server<Router> {
        self.serve(address, Server::new(self.router(address), &self.runtime))
    }

    /// A server of one's own.
    pub fn serve(&self, address: &'static str, server: Server<Router>) -> Server<Router> {
        self.inner.lock().servers.insert(address.to_owned(), server.clone());
        server
    }

    pub fn server(&self, address: &str) -> Server<Router> {
        self.inner.lock().servers[address].clone()
    }

    /// The server goes, and its sessions break.
    pub fn remove(&self, address: &str) {
        let mut inner = self.inner.lock();
        inner.servers.remove(address);
        for (_, session) in inner.sessions.iter().filter(|(at, _)| at == address) {
            session.abort(GoAwayCode::INTERNAL_ERROR);
        }
        inner.sessions.retain(|(at, _)| at != address);
    }

    /// No dial of this address is answered.
    pub fn swallow(&self, address: &str) {
        self.inner.lock().holes.insert(address.to_owned());
    }

    /// The server's end of the oldest session that did not break.
    pub fn first_session(&self) -> Session {
        self.inner.lock().sessions[0].1.clone()
    }

    /// What was dialled, in order.
    pub fn dialled(&self) -> Vec<String> {
        self.inner.lock().dials.clone()
    }

    pub fn dials(&self) -> usize {
        self.inner.lock().dials.len()
    }

    pub fn client(&self) -> ClientBuilder {
        let net = self.clone();
        ClientBuilder::new(&self.runtime, move |node: &Node| net.dial(&node.address))
    }

    pub fn dial(&self, address: &str) -> BoxFuture<'static, Result<Session, String>> {
        let mut inner = self.inner.lock();
        inner.dials.push(address.to_owned());
        if inner.holes.contains(address) {
            return std::future::pending().boxed();
        }
        let Some(server) = inner.servers.get(address).cloned() else {
            return std::future::ready(Err(format!("{address}: connection refused"))).boxed();
        };
        let (left, right) = memory::duplex(1 << 16);
        let (near, driver) = Session::client(left, self.config.clone());
        let (far, peer) = Session::server(right, self.config.clone());
        self.runtime.spawn(driver.map(drop));
        self.runtime.spawn(peer.map(drop));
        self.runtime.spawn(server.serve(far.clone()));
        inner.sessions.push((address.to_owned(), far));
        // Dialling takes a moment.
        let sleep = self.runtime.sleep_until(self.runtime.now() + Duration::from_millis(5));
        async move {
            sleep.await;
            Ok(near)
        }
        .boxed()
    }

    /// `echo`, `A.Where` says the address, `A.Slow` after a minute; `A.Busy` fails until it was
    /// asked so many times, `A.SlowBusy` always, after a second, `A.Network` as if it could not
    /// reach somebody else; `A.Ones` never ends.
    fn router(&self, address: &'static str) -> Router {
        let mut router = echo(&self.runtime);
        let attempts = Arc::new(AtomicUsize::new(0));
        let (clock, slow) = (self.runtime.clone(), self.runtime.clone());
        router
            .unary("A.Where", move |_, _: Bytes| async move { Ok(Bytes::from(address)) })
            .unwrap()
            .unary("A.Slow", move |_, _: Bytes| {
                let clock = clock.clone();
                async move {
                    sleep(&clock, Duration::from_secs(60)).await;
                    Ok(Bytes::from(address))
                }
            })
            .unwrap()
            .unary("A.SlowBusy", move |_, _: Bytes| {
                let clock = slow.clone();
                async move {
                    sleep(&clock, Duration::from_secs(1)).await;
                    Err::<Bytes, _>(Status::new(Code::Busy, "after a second"))
                }
            })
            .unwrap()
            .unary("A.Network", |_, _: Bytes| async move {
                Err::<Bytes, _>(Status::new(Code::Network, "of somebody else"))
            })
            .unwrap()
            .server_streaming("A.Ones", |_, _: Bytes| async move {
                Ok(futures::stream::repeat_with(|| Ok(Bytes::from("1"))))
            })
            .unwrap()
            .unary("A.Busy", move |_, until: Bytes| {
                let n = attempts.fetch_add(1, Ordering::SeqCst);
                let until: usize = std::str::from_utf8(&until).unwrap().parse().unwrap();
                async move {
                    match n < until {
                        true => Err(Status::new(Code::Busy, format!("attempt {n}"))),
                        false => Ok(Bytes::from(n.to_string())),
                    }
                }
            })
            .unwrap();
        router
    }
}

pub fn world(seed: u64, servers: &[&'static str]) -> (World, Net) {
    let world = World::new(seed);
    let net = Net::new(&world);
    for server in servers {
        net.add(server);
    }
    (world, net)
}

pub async fn place(client: &Client) -> Result<String, Status> {
    let place = client.call::<_, Bytes>("A.Where", &Bytes::new()).await?;
    Ok(String::from_utf8(place.to_vec()).unwrap())
}

/// Where so many calls went, one after the other.
pub async fn places(client: &Client, calls: usize) -> String {
    let mut places = String::new();
    for _ in 0..calls {
        places += &place(client).await.unwrap();
    }
    places
}

/// Asks a function.
pub struct Ask<F>(pub F);

impl<F> Resolve for Ask<F>
where
    F: Fn(&str) -> Result<Vec<&'static str>, BoxError> + Send + Sync + 'static,
{
    fn resolve(&self, service: &str) -> BoxFuture<'_, Result<Arc<[Node]>, BoxError>> {
        let nodes = (self.0)(service).map(|nodes| nodes.into_iter().map(Node::new).collect());
        std::future::ready(nodes).boxed()
    }
}
