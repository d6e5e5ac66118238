//! The registry client: Docker's and OCI's distribution protocol, from the asking side.
//!
//! Flow: [`Registries`] knows mirrors, insecure registries, certificates and proxies; a [`Repository`] is one
//! name in one registry with somebody's [`Credentials`]; its methods get and put manifests, blobs and tags.
//! Every request goes through the repository's endpoints in order (mirrors, then the registry), gets a token
//! when it is asked for one, and comes back as an answer or as a [`Refusal`].
//! Invariants: a registry's credentials go to the registry and to token servers that belong to it, never to a
//! mirror, a redirect or a foreign realm; http is spoken only to registries that were named insecure; every
//! answer that is read whole is bounded; a manifest comes out only with the digest of its bytes.
//! Source: OCI distribution-spec 1.1, docs.docker.com "Token Authentication", Docker's and containerd's
//! observed behaviour.
//! Not here: what is done with what came (`engine`), files of credentials (the command line's).

mod authorize;
mod blobs;
mod challenge;
mod credentials;
mod endpoint;
mod login;
mod manifests;
mod refusal;
mod repository;
mod search;
mod settings;
mod tags;
mod token;
mod upload;

pub use blobs::Blob;
pub use fetch::{Proxies, Upload};

pub use credentials::{Credentials, Known};
pub use endpoint::Registries;
pub use manifests::Fetched;
pub use refusal::{Failed, Refusal};
pub use repository::{Action, Repository};
pub use search::{Found, hosts_and_term};
pub use settings::{Mirror, Settings};
pub use upload::{Begun, Uploading};

/// Host of Docker Hub's registry, which its names do not say.
const HUB: &str = "registry-1.docker.io";
/// Bytes of an answer of tokens, tags, search results.
const ANSWER_BYTES: u64 = 16 << 20;
