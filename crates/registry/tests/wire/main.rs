//! The registry over HTTP only, as clients see it.
//!
//! `conformance` holds a case for every case of the OCI distribution suite and may be pointed at any registry, by
//! the variables of that suite: `OCI_ROOT_URL`, `OCI_NAMESPACE`, `OCI_CROSSMOUNT_NAMESPACE`, `OCI_USERNAME`, `OCI_PASSWORD`.
//! Without them every case starts a server of its own. `GANTRY_TEST_STORAGE=memory` lets those servers keep
//! their blobs in an object store.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests")]

mod access;
mod clients;
mod conformance;
mod faults;
mod hostile;
mod http;
mod image;
mod large;
mod objects;
mod server;
mod store;
