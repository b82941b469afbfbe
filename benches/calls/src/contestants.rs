//! The programs of the contestants. Adding one is a member of the workspace, a line here, and its
//! name in the rows it enters.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::Result;

#[derive(Clone, Debug)]
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
    pub(crate) transport: Option<&'static str>,
}

impl Contestant {
    /// Whether its program is one of ours in Rust, which counts allocations and can be both sides.
    pub(crate) fn has_side(&self) -> bool {
        self.name != "nng"
    }
}

/// What somebody is compared as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// A connection, and nothing on it.
    Raw,
    Peer,
    Ours,
}

pub(crate) fn standing(name: &str) -> Standing {
    match name {
        "raw" => Standing::Raw,
        name if name.starts_with("trunkline") => Standing::Ours,
        _ => Standing::Peer,
    }
}

/// Every name, in the order of the table.
pub(crate) fn names() -> impl Iterator<Item = &'static str> + Clone {
    CONTESTANTS.iter().map(|(name, ..)| *name)
}

/// Builds those that are `wanted`, one by one. Who does not build here (nng and capnp want tools of
/// their own) is left out, and said so.
pub(crate) fn build(wanted: impl Fn(&str) -> bool) -> Result<Vec<Contestant>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut built = Vec::new();
    for (name, member, transport) in CONTESTANTS.into_iter().filter(|(name, ..)| wanted(name)) {
        eprintln!("building {name}");
        let status = Command::new("cargo")
            .args(["build", "--release", "--quiet", "--package", member])
            .current_dir(here)
            .status()?;
        if status.success() {
            let program = std::env::current_exe()?.with_file_name(member);
            built.push(Contestant { name, program, transport });
        } else {
            eprintln!("{name} does not build here: left out");
        }
    }
    Ok(built)
}

/// Names, the members that build them, and what they are told to use.
const CONTESTANTS: [(&str, &str, Option<&str>); 8] = [
    ("raw", "raw", None),
    ("tarpc", "tarpc-echo", None),
    ("tonic", "tonic-echo", None),
    ("capnp", "capnp-echo", None),
    ("trunkline-rpc", "trunkline-rpc", None),
    ("nng", "nng", None),
    ("trunkline-sp", "trunkline-sp", Some("tcp")),
    ("trunkline-sp-mux", "trunkline-sp", Some("mux+tcp")),
];
