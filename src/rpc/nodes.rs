//! The nodes a client knows, and its session with each.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use parking_lot::Mutex;

use super::{BoxError, Code, Node, Request, Resolve, Select, Status, Text, resolve::Candidate};
use crate::{
    Session,
    runtime::{Runtime, within},
};

/// Makes sessions with nodes. Any closure that takes a node and returns a future does.
pub trait Connect: Send + Sync + 'static {
    /// Dials a node and makes a session, whose driver has to be spawned.
    ///
    /// # Errors
    ///
    /// Why there is no session: the node then cools down.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when the dial takes too long, or nobody waits for it any more.
    fn connect(&self, node: &Node) -> BoxFuture<'static, Result<Session, BoxError>>;
}

impl<F, Fut, E> Connect for F
where
    F: Fn(&Node) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Session, E>> + Send + 'static,
    E: Into<BoxError>,
{
    fn connect(&self, node: &Node) -> BoxFuture<'static, Result<Session, BoxError>> {
        Box::pin(self(node).map(|dialled| dialled.map_err(Into::into)))
    }
}

pub(crate) struct Nodes {
    pub(crate) connect: Arc<dyn Connect>,
    pub(crate) resolve: Box<dyn Resolve>,
    pub(crate) select: Box<dyn Select>,
    pub(crate) via: Option<Via>,
    pub(crate) cool_down: Duration,
    pub(crate) dial_timeout: Duration,
    pub(crate) runtime: Runtime,
    pub(crate) table: Mutex<Table>,
}

/// The nodes of all services that were asked for lately.
#[derive(Default)]
pub(crate) struct Table {
    nodes: HashMap<Text, Arc<NodeState>>,
    next_sweep: Option<Instant>,
}

impl Table {
    fn find(&mut self, node: &Node) -> &Arc<NodeState> {
        let state = self.nodes.entry(node.address.clone()).or_default();
        state.listed.store(true, Ordering::Relaxed);
        state
    }

    /// The nodes that nobody listed since the last sweep, and where nothing is pending: to be let
    /// go after the lock, with their sessions.
    fn sweep(&mut self, now: Instant) -> Vec<Arc<NodeState>> {
        if self.next_sweep.is_some_and(|at| now < at) {
            return Vec::new();
        }
        self.next_sweep = Some(now + UNLISTED);
        let gone = self.nodes.extract_if(|_, state| {
            !state.listed.swap(false, Ordering::Relaxed) && Arc::strong_count(state) == 1
        });
        gone.map(|(_, state)| state).collect()
    }
}

/// For so long a node is remembered that no resolver lists, or no caller asks for; at most for
/// twice as long.
const UNLISTED: Duration = Duration::from_secs(60);

/// Where calls go instead of to their target.
pub(crate) enum Via {
    Node(Node),
    Service(Text),
}

#[derive(Default)]
pub(crate) struct NodeState {
    /// Since the last sweep.
    listed: AtomicBool,
    pending: AtomicUsize,
    inner: Mutex<NodeInner>,
}

impl NodeState {
    /// Until when it is passed over while there are others.
    fn cooling(&self, now: Instant) -> Option<Instant> {
        self.inner.lock().cooling_until.filter(|until| now < *until)
    }
}

#[derive(Default)]
struct NodeInner {
    link: Link,
    cooling_until: Option<Instant>,
}

type Dialled = BoxFuture<'static, Result<Session, Status>>;
type Dial = Shared<Dialled>;

#[derive(Default)]
enum Link {
    #[default]
    None,
    /// Gone when nobody waits for it any more.
    Dialling(WeakShared<Dialled>),
    Live(Session),
}

/// A session taken for a call: counts it as pending until it is dropped.
pub(crate) struct Lease {
    node: Arc<NodeState>,
}

impl Lease {
    fn new(node: Arc<NodeState>) -> Self {
        node.pending.fetch_add(1, Ordering::Relaxed);
        Self { node }
    }

    /// The session takes no more calls: the next one dials.
    pub(crate) fn forget_session(&self, session: &Session) {
        let mut inner = self.node.inner.lock();
        // Another caller may have dialled already.
        if matches!(&inner.link, Link::Live(live) if live.is(session)) {
            let forgotten = std::mem::take(&mut inner.link);
            drop(inner);
            drop(forgotten);
        }
    }

    pub(crate) fn cool_down(&self, until: Instant) {
        self.node.inner.lock().cooling_until = Some(until);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.node.pending.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Nodes {
    /// A live session with a node of the request's service, dialled if there is none.
    pub(crate) async fn lease(&self, request: &Request) -> Result<(Session, Lease), Status> {
        let service = match &self.via {
            Some(Via::Service(service)) => service,
            Some(Via::Node(_)) | None => &request.service,
        };
        let nodes = match &self.via {
            Some(Via::Node(node)) => [node.clone()].into(),
            Some(Via::Service(_)) | None => self.resolved(service, request).await?,
        };
        let chosen = self.choose(&nodes, request);
        let (node, state) = chosen.ok_or_else(|| no_node(service, nodes.len()))?;
        let lease = Lease::new(state);
        let session = self.session(&node, &lease, request).await?;
        Ok((session, lease))
    }

    async fn resolved(&self, service: &str, request: &Request) -> Result<Arc<[Node]>, Status> {
        let resolving = self.resolve.resolve(service);
        let resolved = match request.deadline {
            None => resolving.await,
            Some(at) => {
                let resolved = within(resolving, at, self.runtime.clock()).await;
                resolved.ok_or_else(|| Status::timeout().reaching_nobody())?
            }
        };
        resolved.map_err(|error| {
            let text = format!("the nodes{} could not be resolved", of(service));
            Status::new(Code::Unavailable, text).with_source(error).reaching_nobody()
        })
    }

    /// One that may be taken, if there is any.
    fn choose(&self, nodes: &[Node], request: &Request) -> Option<(Node, Arc<NodeState>)> {
        let filter = request.options.as_ref().and_then(|options| options.filter.as_ref());
        let now = self.runtime.now();
        let (mut known, gone): (Vec<_>, _) = {
            let mut table = self.table.lock();
            let gone = table.sweep(now);
            (nodes.iter().map(|node| (node, table.find(node).clone(), None)).collect(), gone)
        };
        drop(gone);
        known.retain(|(node, ..)| filter.is_none_or(|filter| filter(node)));
        // Looked at once: another caller's failure must not leave none.
        known.iter_mut().for_each(|(_, state, cooling)| *cooling = state.cooling(now));
        // Those that are not cooling down, or the first that will not be any more.
        let least = known.iter().map(|(.., cooling)| *cooling).min();
        known.retain(|(.., cooling)| Some(*cooling) == least);
        if known.is_empty() {
            return None;
        }
        let candidates: Vec<_> = known
            .iter()
            .map(|(node, state, _)| Candidate {
                node,
                pending: state.pending.load(Ordering::Relaxed),
            })
            .collect();
        let index = self.select.select(&candidates).min(known.len() - 1);
        let (node, state, _) = known.swap_remove(index);
        Some((node.clone(), state))
    }

    /// The session that is there, or one dial for all who want it.
    async fn session(
        &self,
        node: &Node,
        lease: &Lease,
        request: &Request,
    ) -> Result<Session, Status> {
        let dial: Dial = {
            let mut inner = lease.node.inner.lock();
            let others = match &inner.link {
                Link::Live(session) if !session.is_closed() => return Ok(session.clone()),
                Link::Dialling(dial) => dial.upgrade(),
                Link::Live(_) | Link::None => None,
            };
            others.unwrap_or_else(|| {
                let dial = self.dial(node, request).shared();
                inner.link = dial.downgrade().map_or(Link::None, Link::Dialling);
                dial
            })
        };
        let dialled = within(dial.clone(), request.deadline, self.runtime.clock()).await;
        let dialled = dialled.ok_or_else(|| Status::timeout().reaching_nobody())?;
        let mut inner = lease.node.inner.lock();
        // Another caller may have heard of it before, and dialled again.
        let current = matches!(
            &inner.link,
            Link::Dialling(last) if last.upgrade().is_some_and(|last| last.ptr_eq(&dial))
        );
        if current {
            match &dialled {
                Ok(session) => {
                    inner.link = Link::Live(session.clone());
                    inner.cooling_until = None;
                }
                Err(_) => {
                    inner.link = Link::None;
                    inner.cooling_until = Some(self.runtime.after(self.cool_down));
                }
            }
        }
        drop(inner);
        dialled
    }

    fn dial(&self, node: &Node, request: &Request) -> Dialled {
        let options = request.options.as_ref();
        let timeout = options.and_then(|options| options.dial_timeout);
        let timeout = timeout.unwrap_or(self.dial_timeout);
        let runtime = self.runtime.clone();
        let (connect, node) = (self.connect.clone(), node.clone());
        Box::pin(async move {
            let address = &node.address;
            let until = runtime.after(timeout);
            match within(connect.connect(&node), until, runtime.clock()).await {
                Some(Ok(session)) => Ok(session),
                Some(Err(error)) => {
                    let text = format!("{address} cannot be reached");
                    Err(Status::new(Code::Unavailable, text).with_source(error).reaching_nobody())
                }
                None => {
                    let text = format!("{address} did not answer the dial in time");
                    Err(Status::new(Code::Unavailable, text).reaching_nobody())
                }
            }
        })
    }
}

/// There may be one when the resolver is asked again.
fn no_node(service: &str, listed: usize) -> Status {
    let of = of(service);
    let text = match listed {
        0 => format!("no node{of}: the resolver lists none"),
        listed => format!("no node{of}: the filter left none of {listed}"),
    };
    Status::new(Code::Unavailable, text).reaching_nobody()
}

/// Many clients name no service.
fn of(service: &str) -> String {
    if service.is_empty() { String::new() } else { format!(" of service {service}") }
}
