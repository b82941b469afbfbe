//! What is measured.

pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) load: Load,
    pub(crate) size: usize,
    /// The first that runs is what the others are compared with.
    pub(crate) contestants: &'static [&'static str],
}

#[derive(Clone, Copy)]
pub(crate) enum Load {
    /// Calls, so many in flight.
    Calls(usize),
    /// Messages of one stream from the server.
    Stream,
}

impl Row {
    /// Whether the raw connection can do it: it has one caller.
    pub(crate) const fn unit(&self) -> &'static str {
        match (self.load, self.size >= LARGE) {
            (Load::Calls(_), _) => "calls/s",
            (Load::Stream, false) => "messages/s",
            (Load::Stream, true) => "MiB/s",
        }
    }

    /// What one call counts for in [`unit`](Self::unit).
    pub(crate) fn worth(&self) -> f64 {
        match (self.load, self.size >= LARGE) {
            (Load::Stream, true) => self.size as f64 / (1 << 20) as f64,
            _ => 1.0,
        }
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
        row("flow_1k", "messages of 1 KiB from the server", Load::Stream, 1 << 10, STREAMING),
        row("flow_64k", "messages of 64 KiB from the server", Load::Stream, LARGE, STREAMING),
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
