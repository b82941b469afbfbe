//! Both sides in one process and one thread, for a fixed amount of work: the same instructions every time.

use super::{Setting, text};
use crate::job::Job;
use crate::net::{Lobby, Site};
use crate::stage::{self, Stage};

pub(super) fn run(job: &Job) -> Result<(), String> {
    let setting = Setting::of(job)?;
    let plan = job.plan(&setting.workload);
    let ended = setting.runtime.block_on(async {
        let tuning = setting.workload.tuning();
        let lobby = Lobby::open(setting.workload.ports(), tuning)?;
        let site = Site::new(lobby.addresses()?, tuning);
        tokio::spawn(setting.contestant.server(lobby, plan));
        let ended =
            tokio::spawn(setting.contestant.client(site, plan, Stage::unattended())).await?;
        stage::quit();
        ended
    });
    ended.map_err(text)
}
