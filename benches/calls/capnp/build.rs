//! Needs the schema compiler `capnp` (Debian: `capnproto`).

fn main() {
    if let Err(error) = capnpc::CompilerCommand::new().file("echo.capnp").run() {
        println!("cargo::error=the schema compiler `capnp` (Debian: capnproto) is wanted: {error}");
    }
}
