//! A world of clients and servers on one virtual clock.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::time::Duration;

use bytes::Bytes;
use trunkline::{
    Session,
    rpc::{Calls, Client, Receiver, Router, Serve, Server, ServerBuilder, Status, codec::Raw},
    runtime::Runtime,
};

#[path = "sim_runtime.rs"]
mod sim_runtime;

use self::sim_runtime::runtime;
use super::support::Sim;

pub struct World {
    pub sim: Sim,
    pub runtime: Runtime,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut sim = Sim::new(seed);
        let runtime = runtime(&mut sim);
        Self { sim, runtime }
    }

    /// Two joined sessions.
    pub fn pair(&mut self) -> (Session, Session) {
        self.sim.pair(1 << 16)
    }

    /// A client of a server that serves this.
    pub fn serve<S: Serve>(&mut self, service: S) -> (Client, Server<S>) {
        let server = Server::new(service, &self.runtime);
        (self.connect(&server), server)
    }

    pub fn serve_with<S: Serve>(
        &mut self,
        builder: ServerBuilder,
        service: S,
    ) -> (Client, Server<S>) {
        let server = builder.build(service, &self.runtime).unwrap();
        (self.connect(&server), server)
    }

    /// One more client of a server, with a session of its own.
    pub fn connect<S: Serve>(&mut self, server: &Server<S>) -> Client {
        let (near, far) = self.pair();
        self.runtime.spawn(server.serve(far));
        Client::new(near, &self.runtime)
    }
}

/// `Echo.Say` says what it hears; `Echo.Slow` after some minutes; `Echo.Never` never; `Echo.Panic` does
/// not get so far; `Echo.Chat` says each of many.
pub fn echo(runtime: &Runtime) -> Router {
    let mut router = Router::bytes();
    let clock = runtime.clone();
    router
        .unary("Echo.Say", |_, said: Bytes| async move { Ok(said) })
        .unwrap()
        .unary("Echo.Slow", move |_, said: Bytes| {
            let clock = clock.clone();
            async move {
                sleep(&clock, Duration::from_secs(200)).await;
                Ok(said)
            }
        })
        .unwrap()
        .unary("Echo.Never", |_, _: Bytes| std::future::pending::<Result<Bytes, Status>>())
        .unwrap()
        .unary("Echo.Panic", |_, _: Bytes| async move {
            // Not `panic!`: nothing is printed that way.
            std::panic::resume_unwind(Box::new("on purpose"));
            #[allow(unreachable_code)]
            Ok(Bytes::new())
        })
        .unwrap()
        .bidirectional("Echo.Chat", |_, messages: Receiver<Bytes, Raw>| async move { Ok(messages) })
        .unwrap();
    router
}

pub async fn sleep(clock: &Runtime, time: Duration) {
    clock.sleep_until(clock.now() + time).await;
}

/// Says so many things to `Echo.Chat`, each when the one before was answered, and hangs up.
pub async fn chat<C: Calls>(client: &Client<C>, times: usize) {
    let call = client.request("Echo.Chat").bidirectional::<Bytes, Bytes>();
    let (mut sender, mut answers) = call.await.unwrap();
    for n in 0..times {
        let said = Bytes::from(vec![n as u8; n * 100]);
        sender.send(&said).await.unwrap();
        assert_eq!(answers.next().await.unwrap().unwrap(), said);
    }
    sender.finish().await.unwrap();
    assert!(answers.next().await.is_none());
}

pub async fn say(client: &Client, text: &'static str) -> Result<Bytes, Status> {
    client.call("Echo.Say", &Bytes::from_static(text.as_bytes())).await
}
