//! The programs of the contestants. Adding one is a member of the workspace and a line here.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::Result;

pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
    pub(crate) transport: Option<&'static str>,
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

/// Builds them one by one. Who does not build here (nng and capnp want tools of their own) is left
/// out, and said so.
pub(crate) fn build() -> Result<Vec<Contestant>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut built = Vec::new();
    for (name, member, transport) in CONTESTANTS {
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
