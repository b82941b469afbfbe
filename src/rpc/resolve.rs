//! Where a service is, and which of its nodes to take.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use parking_lot::Mutex;

use super::{BoxError, Node, Text};
use crate::{
    chance::Chance,
    runtime::{Runtime, after},
};

/// Finds the nodes of a service.
///
/// One of your own may ask a registry, DNS, or a `tower` `Discover`. It is asked before each
/// attempt of a call: put [`Cached`] around one that is slow.
///
/// ```
/// use std::sync::Arc;
/// use futures::future::BoxFuture;
/// use trunkline::rpc::{BoxError, Node, Resolve};
///
/// /// Port 4000 of the host that has the service's name.
/// struct ByName;
///
/// impl Resolve for ByName {
///     fn resolve(&self, service: &str) -> BoxFuture<'_, Result<Arc<[Node]>, BoxError>> {
///         let nodes = Arc::from([Node::new(format!("{service}.internal:4000"))]);
///         Box::pin(async move { Ok(nodes) })
///     }
/// }
/// ```
pub trait Resolve: Send + Sync + 'static {
    /// The nodes of a service. Its name is empty if the caller gave none. Where there is no node the
    /// attempt fails as [`Unavailable`](super::Code::Unavailable), and the next one asks again.
    ///
    /// # Errors
    ///
    /// Why they could not be found: the attempt fails as [`Unavailable`](super::Code::Unavailable).
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when the call is, and when its deadline passes.
    fn resolve(&self, service: &str) -> BoxFuture<'_, Result<Arc<[Node]>, BoxError>>;
}

/// The same nodes for every service.
#[derive(Clone, Debug)]
pub struct Fixed {
    nodes: Arc<[Node]>,
}

impl Fixed {
    /// Nodes at these addresses.
    pub fn new<A: Into<Text>>(addresses: impl IntoIterator<Item = A>) -> Self {
        Self { nodes: addresses.into_iter().map(Node::new).collect() }
    }
}

impl Resolve for Fixed {
    fn resolve(&self, _: &str) -> BoxFuture<'_, Result<Arc<[Node]>, BoxError>> {
        Box::pin(std::future::ready(Ok(self.nodes.clone())))
    }
}

/// Remembers for a while what another resolver found. Failures are not remembered.
pub struct Cached<R> {
    inner: R,
    time_to_live: Duration,
    runtime: Runtime,
    known: Mutex<HashMap<String, Known>>,
}

/// Until when, and which.
type Known = (Instant, Arc<[Node]>);

impl<R> Cached<R> {
    /// Remembers what `inner` found for `time_to_live`, for up to 1,024 services.
    pub fn new(inner: R, time_to_live: Duration, runtime: &Runtime) -> Self {
        Self { inner, time_to_live, runtime: runtime.clone(), known: Mutex::default() }
    }
}

impl<R: Resolve> Resolve for Cached<R> {
    fn resolve(&self, service: &str) -> BoxFuture<'_, Result<Arc<[Node]>, BoxError>> {
        let now = self.runtime.now();
        if let Some((until, nodes)) = self.known.lock().get(service)
            && now < *until
        {
            return Box::pin(std::future::ready(Ok(nodes.clone())));
        }
        let service = service.to_owned();
        Box::pin(async move {
            let nodes = self.inner.resolve(&service).await?;
            let now = self.runtime.now();
            let mut known = self.known.lock();
            if known.len() >= MAX_KNOWN {
                known.retain(|_, (until, _)| now < *until);
            }
            if known.len() < MAX_KNOWN {
                known.insert(service, (after(now, self.time_to_live), nodes.clone()));
            }
            Ok(nodes)
        })
    }
}

impl<R: fmt::Debug> fmt::Debug for Cached<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cached").field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// Services remembered at most.
const MAX_KNOWN: usize = 1_024;

/// A node that can be taken.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The node.
    pub node: &'a Node,
    /// How many calls of this client it has not answered yet.
    pub pending: usize,
}

/// Chooses one of several nodes. Those that failed lately are left out, unless all of them did.
///
/// ```
/// use trunkline::rpc::{Candidate, Select};
///
/// /// The first that is named, unless it is busy.
/// struct Primary;
///
/// impl Select for Primary {
///     fn select(&self, candidates: &[Candidate<'_>]) -> usize {
///         candidates.iter().position(|candidate| candidate.pending < 100).unwrap_or(0)
///     }
/// }
/// ```
pub trait Select: Send + Sync + 'static {
    /// The index of the node to take; there is at least one. One out of range means the last.
    fn select(&self, candidates: &[Candidate<'_>]) -> usize;
}

impl<F> Select for F
where
    F: Fn(&[Candidate<'_>]) -> usize + Send + Sync + 'static,
{
    fn select(&self, candidates: &[Candidate<'_>]) -> usize {
        self(candidates)
    }
}

/// Takes the nodes in turn.
#[derive(Debug, Default)]
pub struct RoundRobin {
    next: AtomicUsize,
}

impl Select for RoundRobin {
    fn select(&self, candidates: &[Candidate<'_>]) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed) % candidates.len().max(1)
    }
}

/// Takes any node, at random.
#[derive(Debug)]
pub struct Random {
    chance: Mutex<Chance>,
}

impl Random {
    /// With a seed the choices are the same every time; without, as by default, they differ.
    #[must_use]
    pub fn seeded(seed: Option<u64>) -> Self {
        Self { chance: Mutex::new(Chance::new(seed)) }
    }
}

impl Default for Random {
    fn default() -> Self {
        Self::seeded(None)
    }
}

impl Select for Random {
    fn select(&self, candidates: &[Candidate<'_>]) -> usize {
        (self.chance.lock().next() % candidates.len().max(1) as u64) as usize
    }
}

/// Takes the node with the fewest pending calls; equals take turns.
#[derive(Debug, Default)]
pub struct LeastPending {
    turn: RoundRobin,
}

impl Select for LeastPending {
    fn select(&self, candidates: &[Candidate<'_>]) -> usize {
        let first = self.turn.select(candidates);
        let around = (first..candidates.len()).chain(0..first);
        around.min_by_key(|index| candidates[*index].pending).unwrap_or(0)
    }
}
