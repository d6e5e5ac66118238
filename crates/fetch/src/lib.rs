//! HTTP and HTTPS to the outside: one way for everything that asks a server which is not ours.
//!
//! Flow: a [`Client`] is made from [`Settings`] (trust, proxies, which addresses may be reached) and keeps its
//! connections; [`Client::send`] sends a [`Request`], follows redirects as the request allows, and gives a
//! [`Response`] whose body is read piece by piece under a [`Pace`].
//! Invariants: HTTP/1.1 only, because parallel downloads want connections of their own; nothing waits without
//! a bound; credentials leave a request when a redirect changes scheme, host or port; a redirect never leads
//! from https to http; addresses are checked where they are connected to, so that a second answer of the name
//! server changes nothing; URLs in errors have no passwords and no queries that hold signatures.
//! Not here: what a registry is, retries, caches.

mod body;
mod client;
mod connect;
mod error;
mod proxy;
mod tls;
pub mod url;

pub use body::{Pace, Upload};
pub use client::{Client, Redirects, Request, Response, Settings};
pub use connect::Addresses;
pub use error::{Error, Failure};
pub use proxy::{Proxies, in_network};
pub use tls::Trust;
