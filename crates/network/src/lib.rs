//! Networks, endpoints, addresses, published ports, and the files that give a container its names.
//!
//! Flow: [`Networks::open`] makes the predefined networks (`bridge`, `host`, `none`) and those of the store
//! through the drivers in [`DRIVERS`]; [`Networks::create`] makes more; [`Networks::reconcile`] takes over the endpoints of containers that live; then
//! [`Networks::attach`] wires a container whose network namespace exists but whose program does not run
//! yet, and [`Networks::detach`] takes it off. The engine keeps each [`Endpoint`] in its container's row.
//!
//! Invariants: the rows of living containers are the only record of leases and ports, so that none can
//! leak; everything in the kernel is named after the bridge or the endpoint, so that it can be found and
//! mended after any crash; no program is executed; nothing here is async (an attach takes less than a
//! millisecond, unless a plugin is asked: [`Networks::is_slow`]).
//! Source: Moby `daemon/libnetwork` (behaviour), rtnetlink(7) and nf_tables (kernel side).
//! Not here: the server of names (crates `resolver` and `shim`), overlay networks.

mod config;
pub mod drivers;
mod endpoint;
mod instance;
pub mod ipam;
mod leases;
mod mac;
pub mod names;
mod networks;
mod plugged;
pub mod port;
mod ports;
pub mod spec;
mod subnet;

pub use config::{BridgeConfig, Common, Config, GatewayMode};
pub use drivers::{
    DRIVERS, Driver, Plane, inside::INTERFACE as INTERFACE_OPTION, null::wire_loopback,
};
pub use endpoint::{Attach, Endpoint, Leftovers, Repair};
pub use mac::Mac;
pub use networks::{Made, Network, Networks, predefined};
pub use plugged::{IPAM, NETWORK, Plugins};
pub use port::{Protocol, Publish, Published};
pub use ports::{Ports, Taker, listener};
pub use resolver::SETTINGS_FILE;
pub use spec::Spec;
pub use subnet::Subnet;
