//! A static program for containers that tries what busybox has no applet for (`probe/probe.c`).
//!
//! Built once with the C compiler that building Gantry needs anyway, and kept beside the test images.

use crate::{
    image::{self, docker_archive, sha256},
    tarball::{self, Tarball},
};
use anyhow::{Context as _, Result, bail};
use serde_json::json;
use std::{fs, process::Command, sync::OnceLock};

const SOURCE: &str = include_str!("probe/probe.c");

/// The program; `None` on a machine without a C compiler that links statically.
pub fn program() -> Option<&'static [u8]> {
    static PROGRAM: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    PROGRAM.get_or_init(|| build().ok()).as_deref()
}

/// A `docker load` archive of busybox with the program as `/bin/probe`.
pub fn archive(tag: &str) -> Option<Vec<u8>> {
    let mut layer = Tarball::new();
    layer.file("bin/probe", 0o755, program()?);
    Some(on_busybox(tag, &json!({"Cmd": ["sh"], "Env": ["PATH=/bin"]}), &[layer.finish()]))
}

/// A `docker load` archive of busybox and further layers.
///
/// # Panics
/// When the busybox image is not an archive of one layer.
pub fn on_busybox(tag: &str, config: &serde_json::Value, above: &[Vec<u8>]) -> Vec<u8> {
    let members = tarball::members(image::busybox());
    let base = members.iter().find(|m| m.0.ends_with("layer.tar")).expect("busybox has a layer");
    let base = tarball::member(image::busybox(), &base.0).expect("its layer is there").to_vec();
    let layers: Vec<Vec<u8>> = std::iter::once(base).chain(above.iter().cloned()).collect();
    docker_archive(tag, config, &layers)
}

fn build() -> Result<Vec<u8>> {
    let dir = image::cache_dir();
    let hex = sha256(SOURCE.as_bytes());
    let path = dir.join(format!("probe-{}", hex.get(..16).unwrap_or(&hex)));
    if let Ok(program) = fs::read(&path) {
        return Ok(program);
    }
    fs::create_dir_all(&dir)?;
    let work = tempfile::tempdir_in(&dir)?;
    let source = work.path().join("probe.c");
    fs::write(&source, SOURCE)?;
    for compiler in ["musl-gcc", "cc"] {
        let built = work.path().join("probe");
        let mut command = Command::new(compiler);
        command.args(["-static", "-O1", "-s", "-o"]).arg(&built).arg(&source);
        if command.output().is_ok_and(|output| output.status.success()) {
            fs::rename(&built, &path).context("keep the probe")?;
            return fs::read(&path).context("read the probe");
        }
    }
    bail!("no compiler builds a static program")
}
