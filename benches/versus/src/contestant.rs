//! A contestant without its type, so that the list of them can be one `Vec`.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use crate::load::{self, Plan};
use crate::mux::{Mux, Standing};
use crate::net::{Lobby, Site};
use crate::stage::Stage;
use crate::workload::Workload;

/// One row of the table.
pub struct Contestant {
    /// The row's name.
    pub name: &'static str,
    /// What it is compared as.
    pub standing: Standing,
    runner: Box<dyn Runner>,
}

impl Contestant {
    /// The row of `mux`.
    pub fn of<M: Mux>(mux: M) -> Self {
        Self { name: mux.name(), standing: mux.standing(), runner: Box::new(Erased(mux)) }
    }

    /// Whether the row says something about `workload`.
    pub fn enters(&self, workload: &Workload) -> bool {
        self.runner.enters(workload)
    }

    /// Runs the client's half of a workload.
    pub fn client(&self, site: Site, plan: Plan, stage: Stage) -> Running {
        self.runner.client(Arc::new(site), plan, stage)
    }

    /// Runs the server's half of a workload.
    pub fn server(&self, lobby: Lobby, plan: Plan) -> Running {
        self.runner.server(lobby, plan)
    }
}

/// One half of a workload under way.
pub type Running = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

trait Runner {
    fn enters(&self, workload: &Workload) -> bool;
    fn client(&self, site: Arc<Site>, plan: Plan, stage: Stage) -> Running;
    fn server(&self, lobby: Lobby, plan: Plan) -> Running;
}

struct Erased<M>(M);

impl<M: Mux> Runner for Erased<M> {
    fn enters(&self, workload: &Workload) -> bool {
        self.0.enters(workload)
    }

    fn client(&self, site: Arc<Site>, plan: Plan, stage: Stage) -> Running {
        Box::pin(load::client(self.0, site, plan, stage))
    }

    fn server(&self, lobby: Lobby, plan: Plan) -> Running {
        Box::pin(load::server(self.0, lobby, plan))
    }
}
