//! One small process per container: it makes the container, holds its stdio, writes its log, reaps it,
//! records its exit, and lives on when the daemon dies. Called as `docker-init` it is the tiny init.
//!
//! Flow: the daemon starts it with a socket as descriptor 0 and says `Launch` there; [`monitor`] runs the
//! one loop; [`container`] is what happens in the copies of this process that become the container, [`names`]
//! in the one that answers its questions for names. Called with a command (`gantry-shim create`) it is an OCI
//! runtime for others: [`oci`].
//! Invariants: one thread, no async; what a container can do never makes the loop wait: every descriptor
//! it holds the other end of is non-blocking, and set-up happens in the copies.
//!
//! Build (small, static):
//! `cargo build --profile shim -p gantry-shim --target x86_64-unknown-linux-musl`, or without that target
//! `RUSTFLAGS="-C target-feature=+crt-static" cargo build --profile shim -p gantry-shim --target
//! x86_64-unknown-linux-gnu`. The program is `target/<target>/shim/gantry-shim`.

mod container;
mod harden;
mod hooks;
mod init;
mod monitor;
mod names;
mod oci;

fn main() {
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    if name.as_encoded_bytes().ends_with(b"docker-init") {
        init::main(args);
    }
    let args: Vec<_> = args.collect();
    if oci::asked(&args) {
        std::process::exit(oci::main(&args));
    }
    let code = match harden::prepare().and_then(|()| monitor::run()) {
        Ok(()) => 0,
        Err(_) => 1,
    };
    std::process::exit(code)
}
