//! How a client of several nodes is put together.

use std::{fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::{
    Calls, Channel, Client, Connect, Fixed, Layered, Node, Resolve, Retry, RoundRobin, Select,
    Text, Wrap,
    nodes::{Nodes, Via},
};
use crate::{exchange::ExchangeConfig, runtime::Runtime};

/// Builds a [`Client`] of services that run at several nodes.
///
/// ```
/// use std::time::Duration;
/// use trunkline::rpc::{ClientBuilder, Fixed, LeastPending, Node};
/// use trunkline::runtime::Runtime;
/// use trunkline::{Config, Session};
///
/// let runtime = Runtime::new(|task| smol::spawn(task).detach());
/// let client = ClientBuilder::new(&runtime, |node: &Node| {
///     let address = node.address.to_string();
///     async move {
///         let tcp = smol::net::TcpStream::connect(address).await?;
///         let (session, driver) = Session::client(tcp, Config::default());
///         smol::spawn(driver).detach();
///         Ok::<_, std::io::Error>(session)
///     }
/// })
/// .resolve(Fixed::new(["10.0.0.1:4000", "10.0.0.2:4000"]))
/// .select(LeastPending::default())
/// .cool_down(Duration::from_secs(5))
/// .build();
/// ```
#[must_use]
pub struct ClientBuilder {
    nodes: Nodes,
    config: ExchangeConfig,
}

impl ClientBuilder {
    /// A client that dials with `connect`. The sessions that it makes must be on the clock of
    /// `runtime`.
    pub fn new(runtime: &Runtime, connect: impl Connect) -> Self {
        let nodes = Nodes {
            connect: Arc::new(connect),
            resolve: Box::new(Fixed::new(Vec::<Text>::new())),
            select: Box::new(RoundRobin::default()),
            via: None,
            cool_down: Duration::from_secs(1),
            dial_timeout: Duration::from_secs(5),
            runtime: runtime.clone(),
            table: Mutex::default(),
        };
        Self { nodes, config: ExchangeConfig::default() }
    }

    /// Finds the nodes of a service. By default no service has any, and calls fail as
    /// [`Unavailable`](super::Code::Unavailable).
    pub fn resolve(mut self, resolve: impl Resolve) -> Self {
        self.nodes.resolve = Box::new(resolve);
        self
    }

    /// Chooses one of the nodes. Default [`RoundRobin`].
    pub fn select(mut self, select: impl Select) -> Self {
        self.nodes.select = Box::new(select);
        self
    }

    /// How long a node that could not be reached, or whose connection failed, is passed over
    /// while there are others. Default 1 s.
    pub const fn cool_down(mut self, time: Duration) -> Self {
        self.nodes.cool_down = time;
        self
    }

    /// How long a dial may take, within the deadline of the call. Default 5 s.
    pub const fn dial_timeout(mut self, timeout: Duration) -> Self {
        self.nodes.dial_timeout = timeout;
        self
    }

    /// Sends all calls to this address, whatever their service. They still name that service, so
    /// that a proxy can pass them on.
    pub fn via_address(mut self, address: impl Into<Text>) -> Self {
        self.nodes.via = Some(Via::Node(Node::new(address)));
        self
    }

    /// Sends all calls to a node of this service, whatever their own. They still name their own, so
    /// that a proxy can pass them on.
    pub fn via_service(mut self, service: impl Into<Text>) -> Self {
        self.nodes.via = Some(Via::Service(service.into()));
        self
    }

    /// The limits of messages. Default [`ExchangeConfig::default`].
    pub const fn exchange(mut self, config: ExchangeConfig) -> Self {
        self.config = config;
        self
    }

    /// Makes the client.
    pub fn build(self) -> Client {
        Client::from_channel(Channel::among(self.nodes, self.config))
    }

    /// Makes the client, with middleware around each attempt of a call. [`Client::layer`] puts it
    /// around whole calls.
    pub fn build_with_attempts<L>(self, layer: &L) -> Client<Retry<Layered<L::Service>>>
    where
        L: tower_layer::Layer<Wrap<Channel>>,
        Layered<L::Service>: Calls,
    {
        let channel = Channel::among(self.nodes, self.config);
        let runtime = channel.runtime().clone();
        let layered = Layered::new(layer.layer(Wrap::new(channel))).timed(&runtime);
        Client::from_calls(Retry::new(layered, &runtime), &runtime)
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}
