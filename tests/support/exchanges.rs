//! Two sessions, and exchanges between them, on one virtual clock.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::time::Duration;

use futures::StreamExt;
use trunkline::{
    Dispatcher, Protocol, Session, Streams,
    exchange::{Exchange, ExchangeConfig, ExchangeSet, Inbound, Kind, Message, SetConfig},
    runtime::Runtime,
};

#[path = "sim_runtime.rs"]
mod sim_runtime;

pub use self::sim_runtime::runtime;
use super::support::Sim;

pub struct World {
    pub sim: Sim,
    pub runtime: Runtime,
    pub client: Session,
    pub server: Session,
    pub streams: Option<Streams>,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut sim = Sim::new(seed);
        let runtime = runtime(&mut sim);
        let (client, server) = sim.pair(1 << 16);
        let mut dispatcher = Dispatcher::new(server.clone());
        let streams = dispatcher.serve(Protocol::EXCHANGE, 256).unwrap();
        sim.spawn(dispatcher.run());
        Self { sim, runtime, client, server, streams: Some(streams) }
    }

    /// The far end of an exchange whose first message is on its way.
    pub fn accept(&mut self) -> Exchange {
        let mut streams = self.streams.take().unwrap();
        let (stream, streams) =
            self.sim.run(async move { (streams.next().await.unwrap(), streams) });
        self.streams = Some(streams);
        Exchange::accept(&self.server, stream, &ExchangeConfig::default())
    }

    pub fn pair(&mut self) -> (Exchange, Exchange) {
        self.pair_with(None)
    }

    pub fn pair_with(&mut self, time: Option<Duration>) -> (Exchange, Exchange) {
        let mut near = Exchange::open(&self.client, &ExchangeConfig::default());
        if let Some(time) = time {
            near.set_deadline(self.sim.now() + time).unwrap();
        }
        let near = self.sim.run(async move {
            near.send(Message::new(Kind::Request, "ask")).await.unwrap();
            near
        });
        let mut far = self.accept();
        let far = self.sim.run(async move {
            assert_eq!(far.recv_kind(Kind::Request).await.unwrap().body, "ask");
            far
        });
        (near, far)
    }

    pub fn sets(&mut self, near: SetConfig, far: SetConfig) -> (ExchangeSet, ExchangeSet, Inbound) {
        let near = ExchangeSet::new(self.client.clone(), &self.runtime, near).unwrap();
        let far = ExchangeSet::new(self.server.clone(), &self.runtime, far).unwrap();
        let inbound = far.incoming(self.streams.take().unwrap());
        (near, far, inbound)
    }
}
