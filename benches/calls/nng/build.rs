//! Needs nng's library and headers (Debian: `libnng-dev`).

fn main() {
    println!("cargo::rerun-if-changed=src/nng.c");
    cc::Build::new().file("src/nng.c").opt_level(2).warnings(true).compile("side");
    println!("cargo::rustc-link-lib=nng");
}
