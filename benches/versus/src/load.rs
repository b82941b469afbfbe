//! What the two processes do: one file per kind of load, generic over the contestant.

mod beside;
mod idle;
mod one_way;
mod open_close;
mod pingpong;

use std::future::Future;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use tokio::task::JoinSet;

use crate::mux::{Mux, Shape};
use crate::net::{Lobby, Site};
use crate::stage::{self, Stage};
use crate::workload::Load;

/// A load, and how much of it.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// What to do.
    pub load: Load,
    /// Operations of each task of the client; practically none ends by itself when time is the limit.
    pub limit: u64,
    /// See [`Shape`].
    pub long_path_window: Option<u32>,
}

/// The client's half.
pub async fn client<M: Mux>(mux: M, site: Arc<Site>, plan: Plan, stage: Stage) -> io::Result<()> {
    let plan = plan.within(mux.most_streams());
    let opener = mux.connect(site, plan.shape()).await?;
    match plan.load {
        Load::OneWay { streams, message } => {
            one_way::client(opener, streams, message, plan.limit, stage).await
        }
        Load::PingPong { streams } => pingpong::client(opener, streams, plan.limit, stage).await,
        Load::OpenClose { in_flight } => {
            open_close::client(opener, in_flight, plan.limit, stage).await
        }
        Load::Idle { streams } => idle::client(opener, streams, stage).await,
        Load::BesideBulk => beside::client(opener, plan.limit, stage).await,
    }
}

/// The server's half.
pub async fn server<M: Mux>(mux: M, lobby: Lobby, plan: Plan) -> io::Result<()> {
    let plan = plan.within(mux.most_streams());
    let shape = plan.shape();
    match plan.load {
        Load::OneWay { .. } => mux.serve(lobby, shape, |pipe| detach(one_way::sink(pipe))).await,
        Load::PingPong { .. } => mux.serve(lobby, shape, |pipe| detach(pingpong::echo(pipe))).await,
        Load::OpenClose { .. } => {
            mux.serve(lobby, shape, |pipe| detach(open_close::answer(pipe))).await
        }
        Load::Idle { streams } => {
            let shelf = idle::Shelf::of(streams);
            let mut index = 0..;
            mux.serve(lobby, shape, move |pipe| {
                detach(idle::serve(pipe, index.next().unwrap_or(usize::MAX), shelf.clone()))
            })
            .await
        }
        Load::BesideBulk => {
            let mut first = true;
            let serve = move |pipe| match std::mem::take(&mut first) {
                true => detach(pingpong::echo(pipe)),
                false => detach(one_way::sink(pipe)),
            };
            mux.serve(lobby, shape, serve).await
        }
    }
}

impl Plan {
    fn within(self, most_streams: usize) -> Self {
        let streams = self.load.streams().min(most_streams);
        Self { load: self.load.with_idle_streams(streams), ..self }
    }

    fn shape(&self) -> Shape {
        Shape { streams: self.load.streams(), long_path_window: self.long_path_window }
    }
}

/// Runs a stream's task, and reports its failure.
fn detach(task: impl Future<Output = io::Result<()>> + Send + 'static) {
    // Not an async block: that has room for the task twice, and every stream would pay for the copies.
    tokio::spawn(task.map(|ended| {
        if let Err(error) = ended {
            stage::report_failure("stream of the server", &error);
        }
    }));
}

/// Waits for every task, or for the first failure.
async fn join(mut tasks: JoinSet<io::Result<()>>) -> io::Result<()> {
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(io::Error::other)??;
    }
    Ok(())
}

/// A message of `length` bytes.
fn message(length: usize) -> Bytes {
    Bytes::from(vec![0x5a; length])
}

/// The bytes of a small message.
const SMALL: usize = 64;

/// The room for one read of a bulk stream.
const READ: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::contestant::Contestant;
    use crate::impls;
    use crate::workload::{ALL, Workload};

    /// A few operations of every task, to a clean end.
    async fn run_through(contestant: &Contestant, workload: &Workload) -> io::Result<()> {
        let load = workload.load.with_idle_streams(20);
        let plan = Plan { load, limit: 3, long_path_window: workload.relayed.then_some(1 << 20) };
        let lobby = Lobby::open(workload.ports(), workload.tuning())?;
        let site = Site::new(lobby.addresses()?, workload.tuning());
        tokio::spawn(contestant.server(lobby, plan));
        tokio::spawn(contestant.client(site, plan, Stage::unattended())).await?
    }

    #[tokio::test]
    async fn every_contestant_gets_through_every_workload() {
        // Streams that end while the next contestant runs are no failure.
        stage::quit();
        for contestant in impls::all() {
            for workload in ALL.iter().filter(|workload| contestant.enters(workload)) {
                let run = run_through(&contestant, workload);
                let ended = tokio::time::timeout(Duration::from_secs(30), run).await;
                let what = format!("{} {}", contestant.name, workload.name);
                ended.expect(&what).expect(&what);
            }
        }
    }
}
