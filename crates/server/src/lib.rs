//! HTTP only: routes, versions, streams, status codes.
//!
//! Flow: a connection (`connection.rs`) gives requests to `router`, which checks the version prefix and
//! finds the handler in `routes::ROUTES`; a handler decodes, calls one engine method and encodes. Kinds of
//! error become status codes in `reply.rs`, in one table.
//!
//! Invariants: a panic in a handler ends that request with 500 and nothing else; a changing request runs
//! on when its client goes away; every response has the negotiation headers.
//! Not here: what anything means; that is the engine's.

mod authz;
mod call;
mod connection;
mod h2c;
mod hijack;
mod incoming;
pub mod inputs;
mod metrics;
mod reply;
mod router;
mod routes;
mod shapes;
mod socket;
pub mod tls;
mod versions;
mod websocket;

pub use connection::{Listener, Server};
pub use plugin::FOLDERS as PLUGIN_FOLDERS;
