//! What tests of a container engine need: base images, a daemon of their own, clients, and a census.
//!
//! Flow: [`suite::run`] starts one [`Daemon`] (or takes the one that `GANTRY_TEST_SOCKET` names), hands
//! every case a [`Cx`] on it, and compares the host's [`Census`] before and after. The same suite runs
//! against any engine that speaks Docker's API, so that what it expects is checked against a real
//! dockerd first: `GANTRY_TEST_DAEMON=/usr/sbin/dockerd`.
//!
//! Environment: `GANTRY_TEST_SOCKET` (a daemon that already runs), `GANTRY_TEST_DAEMON` (the binary to
//! start), `GANTRY_TEST_DOCKER` (the docker CLI), `GANTRY_TEST_SHARED_HOST` (other daemons may come and
//! go: the census then counts only what bears our marks), `GANTRY_TEST_THREADS`, `GANTRY_TEST_SEED` (what is chosen at
//! random is chosen as in the run that told it), `GANTRY_TEST_LONG` (how many times longer cases of faults take).
//!
//! Not here: anything that a shipped binary uses.

pub mod census;
pub mod command;
pub mod cx;
pub mod daemon;
pub mod dice;
pub mod disk;
pub mod evilreg;
pub mod golden;
pub mod host;
pub mod http;
pub mod image;
pub mod invariants;
pub mod plugin;
pub mod probe;
pub mod pty;
pub mod races;
pub mod registry;
pub mod steps;
pub mod suite;
pub mod tarball;

pub use census::Census;
pub use command::Output;
pub use cx::Cx;
pub use daemon::Daemon;
pub use dice::Dice;
