//! Everything at once: RPC, sockets and messages on the one session of two stores, whose
//! connection is cut somewhere.
#![allow(clippy::unwrap_used)]

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures::{
    FutureExt,
    future::{join_all, join3},
};
use futures_rustls::rustls::{
    client::verify_server_name, pki_types::ServerName, server::ParsedCertificate,
};
use trunkline::{
    Protocol,
    peers::{Claim, ConnectError, Overflow, PeerStore, Policy, RefusalCode},
    rpc::{self, ClientBuilder, Fixed, Router, Server},
    runtime::Runtime,
    sp::{Options, RepSocket, ReqSocket},
    transport::{Transport, Transports, memory, tcp},
};

#[path = "support/peers.rs"]
mod peers;
#[path = "support/tls.rs"]
mod tls;

use peers::{
    gates::{Gate, Over, Way, gated},
    id, ms, pause, secs, soon,
};

/// What is done of each kind.
const ROUNDS: usize = 10;

/// How many bytes the next connection lets pass.
type Budget = Arc<Mutex<Option<usize>>>;

/// Lets so many bytes pass on the first connection that is dialled, both ways together, and then
/// breaks it.
fn fragile(below: Arc<dyn Transport>, budget: Budget) -> Over {
    Over::new(below, move |_, below| {
        let (below, budget) = (below.clone(), budget.clone());
        async move {
            let connection = below.connect().await?;
            let left = budget.lock().unwrap().take().unwrap_or(usize::MAX);
            Ok(gated(connection, Breaking { left, reader: None }))
        }
        .boxed()
    })
}

struct Breaking {
    left: usize,
    reader: Option<Waker>,
}

impl Gate for Breaking {
    fn poll_open(&mut self, way: Way, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if way == Way::In {
            self.reader = Some(cx.waker().clone());
        }
        Poll::Ready(Ok(()))
    }

    fn most(&self) -> usize {
        self.left
    }

    fn passed(&mut self, _: Way, len: usize) {
        self.left = self.left.saturating_sub(len);
        if self.left == 0
            && let Some(reader) = self.reader.take()
        {
            reader.wake();
        }
    }
}

/// Counts the tasks that run.
#[derive(Clone, Default)]
struct Tasks {
    running: Arc<AtomicUsize>,
}

impl Tasks {
    fn runtime(&self) -> Runtime {
        let running = self.running.clone();
        let clock = trunkline::tokio::runtime().clock().clone();
        Runtime::new(move |task: trunkline::runtime::BoxFuture| {
            running.fetch_add(1, Ordering::SeqCst);
            let running = running.clone();
            tokio::spawn(task.map(move |()| {
                running.fetch_sub(1, Ordering::SeqCst);
            }));
        })
        .timer(clock)
    }
}

fn store(
    name: &str,
    runtime: &Runtime,
    network: &Transports,
    server: &Server<Router>,
) -> PeerStore {
    let (server, tasks) = (server.clone(), runtime.clone());
    PeerStore::builder(id(name), runtime.clone(), network.clone())
        .verify(by_certificate)
        .serve(move |peer, session, dispatcher| {
            let from = rpc::Connection { peer: Some(peer.id().to_string()), ..Default::default() };
            let calls = dispatcher.serve(Protocol::RPC, 64).unwrap();
            tasks.spawn(server.serve_streams(session.clone(), calls, from));
        })
        .build()
}

/// The id must be a name in the certificate, where there is one; that is the identity.
fn by_certificate(claim: &Claim) -> Result<Bytes, String> {
    let certificate = claim.evidence.as_ref().and_then(|it| it.downcast_ref::<tls::Certificate>());
    let Some(tls::Certificate(certificate)) = certificate else { return Ok(Bytes::new()) };
    let name = ServerName::try_from(claim.id.to_string()).map_err(|error| error.to_string())?;
    ParsedCertificate::try_from(certificate)
        .and_then(|parsed| verify_server_name(&parsed, &name))
        .map_err(|error| error.to_string())?;
    Ok(Bytes::copy_from_slice(certificate))
}

/// What came of everything that was under way: all of it came to an end.
#[derive(Default)]
struct Outcome {
    good: usize,
    failed: usize,
}

impl Outcome {
    fn count<T, E>(&mut self, results: &[Result<T, E>]) {
        self.good += results.iter().filter(|result| result.is_ok()).count();
        self.failed += results.iter().filter(|result| result.is_err()).count();
    }
}

/// Two stores, and everything that runs on their session.
struct World {
    tasks: Tasks,
    ann: PeerStore,
    bob: PeerStore,
    server: Server<Router>,
    client: rpc::Client,
    req: ReqSocket,
    rep: RepSocket,
    replies: tokio::task::JoinHandle<()>,
    address: String,
}

impl World {
    async fn new(network: &Transports, listen: &str) -> Self {
        let tasks = Tasks::default();
        let runtime = tasks.runtime();
        let mut router = Router::bytes();
        router
            .unary("Echo.Say", |ctx, said: Bytes| async move {
                // Who calls is known from the handshake.
                assert_eq!(ctx.peer(), Some("ann"));
                Ok(said)
            })
            .unwrap();
        let server = Server::new(router, &runtime);
        let bob = store("bob", &runtime, network, &server);
        let ann = store("ann", &runtime, network, &server);
        let sockets = |store: &PeerStore| Transports::none().with("peer", store.transport(16));
        let rep = RepSocket::new(runtime.clone(), sockets(&bob), Options::default());
        rep.listen("peer://all").await.unwrap();
        let answering = rep.clone();
        let replies = tokio::spawn(async move {
            while let Ok((request, replier)) = answering.recv().await {
                let _ = replier.send(request).await;
            }
        });
        let address = bob.listen(listen).await.unwrap().unwrap().to_string();
        let client = ClientBuilder::new(&runtime, ann.clone())
            .resolve(Fixed::new([address.clone()]))
            .build()
            .retries(0);
        let patience = Some(secs(5));
        let options = Options::builder().retry(None).recv_timeout(patience).send_timeout(patience);
        let req = ReqSocket::new(runtime, sockets(&ann), options.build().unwrap());
        let dialer = req.dialer(&format!("peer://{address}"), req.options()).unwrap();
        dialer.dial_background().unwrap();
        Self { tasks, ann, bob, server, client, req, rep, replies, address }
    }

    /// Everything comes to an end, and failures are called what they are.
    async fn work(&self) -> Outcome {
        let body = Bytes::from(vec![7; 300]);
        let contexts: Vec<_> = (0..ROUNDS).map(|_| self.req.context().unwrap()).collect();
        let peer = self.ann.connect(&self.address).await;
        // One after the other, so that the cut falls between some of them.
        let calls = async {
            let mut calls = Vec::new();
            for _ in 0..ROUNDS {
                calls.push(self.client.call::<_, Bytes>("Echo.Say", &body).await);
            }
            calls
        };
        let requests = join_all(contexts.iter().map(|context| context.request(body.clone())));
        let messages = async {
            let mut messages = Vec::new();
            if let Ok(peer) = &peer {
                for _ in 0..ROUNDS {
                    messages.push(peer.send(body.clone(), Policy::Wait).await);
                }
            }
            messages
        };
        let all = join3(calls, requests, messages);
        let (calls, requests, messages) = soon(all).await;
        let mut outcome = Outcome::default();
        outcome.count(&calls);
        outcome.count(&requests);
        outcome.count(&messages);
        for error in calls.into_iter().filter_map(Result::err) {
            let code = error.code();
            assert!(matches!(code, rpc::Code::Network | rpc::Code::Unavailable), "{error:?}");
        }
        outcome
    }

    /// Every task ends, and every table is empty.
    async fn end(self) {
        let Self { tasks, ann, bob, server, client, req, rep, replies, .. } = self;
        let running = tasks.running.clone();
        let ending = async {
            req.close().await;
            rep.close().await;
            futures::join!(ann.shutdown(), bob.shutdown());
            server.shutdown(secs(1)).await;
            replies.await.unwrap();
            drop(client);
            while running.load(Ordering::SeqCst) > 0 {
                pause(ms(1)).await;
            }
        };
        let ended = tokio::time::timeout(secs(60), ending).await;
        assert!(ended.is_ok(), "{} tasks still run", tasks.running.load(Ordering::SeqCst));
        assert_eq!((ann.stats(), bob.stats()), Default::default());
        assert_eq!((req.stats().pipes, rep.stats().pipes), (0, 0));
    }
}

async fn together(network: &Transports, listen: &str) -> Outcome {
    let world = World::new(network, listen).await;
    let heard = world.bob.subscribe(|_| true, 1_000, Overflow::DropOldest);
    let outcome = world.work().await;
    drop(heard);
    world.end().await;
    outcome
}

fn count() -> usize {
    if std::env::var_os("TRUNKLINE_THOROUGH").is_some() { 200 } else { 20 }
}

/// Cut after a number of bytes that is another for each seed, or not at all.
async fn cut_everywhere(network: impl Fn(Budget) -> Transports, listen: &str) {
    let (mut good, mut failed) = (0, 0);
    for seed in 0..count() {
        let after = (seed * 40_503) % 65_536 % 14_000;
        let budget = Arc::new(Mutex::new((seed % 10 != 0).then_some(after)));
        let outcome = together(&network(budget), listen).await;
        assert!(seed % 10 != 0 || outcome.failed == 0, "without a cut {} failed", outcome.failed);
        good += outcome.good;
        failed += outcome.failed;
    }
    println!("{good} came through, {failed} failed");
    assert!(good > 0 && failed > 0);
}

#[tokio::test(start_paused = true)]
async fn everything_shares_a_session_and_survives_its_end_in_memory() {
    let network = |budget| Transports::none().with("memory", fragile_memory(budget));
    cut_everywhere(network, "memory://bob").await;
}

fn fragile_memory(budget: Budget) -> Over {
    fragile(Arc::new(memory::Memory::default()), budget)
}

/// Who is who is taken from the certificates, which must be signed by one authority. The cut is
/// below TLS, between any two bytes of a record.
#[tokio::test(start_paused = true)]
async fn everything_shares_a_session_and_survives_its_end_over_tls() {
    let authority = tls::Authority::new();
    let network =
        |budget| Transports::none().with("tls", authority.over(Arc::new(fragile_memory(budget))));
    cut_everywhere(network, "tls://bob").await;
}

#[tokio::test]
async fn everything_shares_a_session_and_survives_its_end_over_tcp() {
    let network = |budget| Transports::none().with("tcp", fragile(Arc::new(tcp::Tcp), budget));
    cut_everywhere(network, "tcp://127.0.0.1:0").await;
}

/// spec.md §16.2.3: the certificate of "ann" makes nobody "eve".
#[tokio::test(start_paused = true)]
async fn an_id_that_is_not_in_the_certificate_is_refused() {
    let authority = tls::Authority::new();
    let network = Transports::none().with("tls", authority.transport());
    let runtime = trunkline::tokio::runtime();
    let server = Server::new(Router::bytes(), &runtime);
    let bob = store("bob", &runtime, &network, &server);
    bob.listen("tls://bob").await.unwrap();
    let refused = store("eve", &runtime, &network, &server).connect("tls://bob").await;
    let refused = refused.unwrap_err();
    let code = RefusalCode::NotVerified;
    assert!(
        matches!(&refused, ConnectError::Refused { code: why, .. } if *why == code),
        "{refused}"
    );
    let peer = store("ann", &runtime, &network, &server).connect("tls://bob").await.unwrap();
    assert!(!peer.info().unwrap().identity.is_empty());
}
