//! Values of options: numbers, ports, mounts, environment, and the whole configuration of a container.

pub(crate) mod container;
pub(crate) mod environment;
pub(crate) mod flags;
pub(crate) mod mounts;
pub(crate) mod networks;
pub(crate) mod ports;
pub(crate) mod values;
