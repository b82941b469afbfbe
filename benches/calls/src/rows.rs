//! What is measured.

use kit::numbers::{scaled, significant};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) load: Load,
    pub(crate) size: usize,
    /// Who can do it, in the order of the table. The bare connection has one caller.
    pub(crate) contestants: &'static [&'static str],
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    /// Calls, so many in flight.
    Calls(usize),
    /// Messages of one stream from the server.
    Stream,
}

impl Row {
    /// "551 k/s", "2.31 GiB/s".
    pub(crate) fn rate(&self, rate: f64) -> String {
        match (self.load, self.size >= LARGE) {
            (Load::Stream, true) if rate >= 1024.0 => {
                format!("{} GiB/s", significant(rate / 1024.0))
            }
            (Load::Stream, true) => format!("{} MiB/s", significant(rate)),
            _ => format!("{}/s", scaled(rate, &[(1e6, " M"), (1e3, " k")])),
        }
    }

    /// What one call counts for in a [`rate`](Self::rate): a call, or its MiB.
    pub(crate) fn worth(&self) -> f64 {
        match (self.load, self.size >= LARGE) {
            (Load::Stream, true) => self.size as f64 / (1 << 20) as f64,
            _ => 1.0,
        }
    }

    /// What one call is called.
    pub(crate) const fn thing(&self) -> &'static str {
        match self.load {
            Load::Calls(_) => "call",
            Load::Stream => "message",
        }
    }

    /// How many calls make a count: enough to see little of how it begins and ends.
    pub(crate) const fn counted(&self) -> u64 {
        if self.size >= LARGE { 1_000 } else { 5_000 }
    }
}

const LARGE: usize = 64 << 10;

pub(crate) fn all() -> Vec<Row> {
    let row = |name, about, load, size, contestants| Row { name, about, load, size, contestants };
    vec![
        row("rpc_1", "64 B each way, one call after the other", Load::Calls(1), 64, ALL_RPC),
        row("rpc_64", "64 B each way, 64 in flight", Load::Calls(64), 64, RPC),
        row("rpc_1000", "64 B each way, 1,000 in flight", Load::Calls(1_000), 64, RPC),
        row("rpc_64k", "64 KiB each way, 16 in flight", Load::Calls(16), LARGE, RPC),
        row("flow_1k", "Messages of 1 KiB from the server", Load::Stream, 1 << 10, STREAMING),
        row("flow_64k", "Messages of 64 KiB from the server", Load::Stream, LARGE, STREAMING),
        row("sp_1", "64 B each way, one context", Load::Calls(1), 64, ALL_SP),
        row("sp_256", "64 B each way, 256 contexts", Load::Calls(256), 64, SP),
        row("sp_64k_1", "64 KiB each way, one context", Load::Calls(1), LARGE, ALL_SP),
        row("sp_64k_256", "64 KiB each way, 256 contexts", Load::Calls(256), LARGE, SP),
    ]
}

const ALL_RPC: &[&str] = &["raw", "tarpc", "tonic", "capnp", "trunkline-rpc"];
const RPC: &[&str] = &["tarpc", "tonic", "capnp", "trunkline-rpc"];
const STREAMING: &[&str] = &["tonic", "trunkline-rpc"];
const ALL_SP: &[&str] = &["raw", "nng", "trunkline-sp", "trunkline-sp-mux"];
const SP: &[&str] = &["nng", "trunkline-sp", "trunkline-sp-mux"];
