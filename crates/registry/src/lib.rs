//! `gantry registry`: an OCI distribution server with users, rules, tokens, records and notifications.
//!
//! Flow: [`commands::run`] reads the command line; [`server::Server`] puts the parts together and serves. A push
//! goes through `http::uploads` -> `uploads` (spool, hash) -> `storage` (object) -> `meta` (row), then through
//! `http::manifests` -> `manifest` (meaning) -> `meta`; a pull through `http` -> `meta` -> `storage`.
//!
//! Invariants: every change is one transaction of `meta`, acknowledged when it is on disk; nothing can be read
//! before its digest was verified; nothing that a manifest needs is collected; a request's memory is
//! bounded whatever it carries.
//! Not here: the client side (pull, push), and what governance makes of the records.

pub mod auth;
pub mod commands;
pub mod config;
pub mod events;
pub mod hash;
mod health;
pub mod http;
pub mod import;
pub mod manifest;
pub mod meta;
pub mod metrics;
pub mod name;
pub mod scrub;
pub mod server;
pub mod storage;
pub mod tls;
pub mod upkeep;
pub mod uploads;
