//! Hashes of what is asked for, by which a container, network or volume is known to be up to date.
//!
//! Invariant: the same as docker compose 2.40.3 makes, so that both may be used on one project: SHA-256 over the
//! JSON of a service without what does not make another container of it.

use crate::{
    render,
    value::{Fields, Value},
};
use sha2::{Digest, Sha256};

/// What a container may differ in and still be the same.
const IRRELEVANT: &[&str] = &["build", "pull_policy", "scale", "depends_on", "profiles"];

pub(crate) fn service(service: &Fields) -> String {
    let mut shown = service.clone();
    for key in IRRELEVANT {
        shown.set.remove(key);
    }
    if let Some(Value::Fields(deploy)) = shown.set.get_mut("deploy") {
        deploy.set.remove("replicas");
    }
    of(shown)
}

pub(crate) fn network(network: &Fields) -> String {
    of(network.clone())
}

pub(crate) fn volume(volume: &Fields) -> String {
    let mut shown = volume.clone();
    shown.set.entry("driver").or_insert_with(|| Value::Text("local".into()));
    of(shown)
}

fn of(fields: Fields) -> String {
    let digest = Sha256::digest(render::json(&Value::Fields(fields)).as_bytes());
    digest.iter().map(|b| format!("{b:02x}")).collect()
}
