//! Rows about registries: a 170 MB Debian image to and from Debian's docker-registry on this machine.

use super::{contestant::Contestant, rows::load};
use anyhow::{Context as _, Result};
use std::{
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};
use testkit::{
    image,
    registry::{Options, Registry},
};

/// The one registry that pulls come from.
fn shared() -> Result<&'static Registry> {
    static SHARED: OnceLock<Registry> = OnceLock::new();
    if SHARED.get().is_none() {
        let started = Registry::docker(Options::default())?;
        // Another thread may have been first; its registry serves as well.
        _ = SHARED.set(started);
    }
    SHARED.get().context("start a registry")
}

fn fresh() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("bench-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Collectors work behind the answer; what they still hold would count as there already.
fn settled() {
    thread::sleep(Duration::from_secs(2));
}

fn push_to(c: &Contestant, host: &str) -> Result<f64> {
    let name = format!("{host}/{}:1", fresh());
    c.docker(&["tag", image::DEBIAN, &name])?;
    let took = c.docker(&["push", &name]);
    c.docker(&["rmi", &name])?;
    took
}

/// A push of an image that nobody has compressed yet, to an empty registry.
pub(super) fn push(c: &mut Contestant) -> Result<f64> {
    _ = c.docker(&["rmi", "-f", image::DEBIAN]);
    settled();
    load(c)?;
    let registry = Registry::docker(Options::default())?;
    push_to(c, registry.host())
}

/// Loads the image and pushes it to where pulls come from.
pub(super) fn pushed_once(c: &mut Contestant) -> Result<()> {
    load(c)?;
    let name = format!("{}/debian:1", shared()?.host());
    c.docker(&["tag", image::DEBIAN, &name])?;
    c.docker(&["push", &name])?;
    c.docker(&["rmi", &name]).map(drop)
}

/// A push of an image that was pushed before, to an empty registry.
pub(super) fn push_ready(c: &mut Contestant) -> Result<f64> {
    let registry = Registry::docker(Options::default())?;
    push_to(c, registry.host())
}

/// A pull of an image of which nothing is here.
pub(super) fn pull(c: &mut Contestant) -> Result<f64> {
    let name = format!("{}/debian:1", shared()?.host());
    _ = c.docker(&["rmi", "-f", image::DEBIAN]);
    _ = c.docker(&["rmi", "-f", &name]);
    settled();
    let took = c.docker(&["pull", &name]);
    c.docker(&["rmi", "-f", &name])?;
    took
}
