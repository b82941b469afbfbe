//! The server's process.
//!
//! It tells the harness where it listens and then takes orders from the client over a control connection, on a thread
//! of its own so that a busy runtime does not delay the answer.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};
use std::{io, process, thread};

use super::{Setting, text};
use crate::job::Job;
use crate::meter::Snapshot;
use crate::net::Lobby;
use crate::stage;

/// Orders of the client, a byte each.
pub(super) const SNAPSHOT: u8 = b'S';
pub(super) const QUIT: u8 = b'Q';

pub(super) fn run(job: &Job) -> Result<(), String> {
    let setting = Setting::of(job)?;
    let control = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(text)?;
    let plan = job.plan(&setting.workload);

    let served = setting.runtime.block_on(async {
        let lobby = Lobby::open(setting.workload.ports(), setting.workload.tuning())?;
        announce(&control, &lobby)?;
        thread::spawn(move || obey(&control));
        tokio::spawn(setting.contestant.server(lobby, plan)).await?
    });

    // The client may be gone already, and the order to quit on its way.
    thread::sleep(Duration::from_secs(1));
    match served {
        Ok(()) => Err("the session ended early".into()),
        Err(error) => Err(format!("server: {error}")),
    }
}

fn announce(control: &TcpListener, lobby: &Lobby) -> io::Result<()> {
    let addresses: Vec<_> = lobby.addresses()?.iter().map(ToString::to_string).collect();
    println!("{} {}", control.local_addr()?, addresses.join(","));
    io::stdout().flush()
}

/// Answers the client until it says to quit or is gone, and ends the process.
fn obey(control: &TcpListener) {
    let start = Instant::now();
    if let Ok((mut client, _)) = control.accept() {
        let _ = client.set_nodelay(true);
        let mut order = [0];
        while client.read_exact(&mut order).is_ok() && order[0] == SNAPSHOT {
            if Snapshot::take(start).write_to(&mut client).is_err() {
                break;
            }
        }
    }
    stage::quit();
    process::exit(0);
}
