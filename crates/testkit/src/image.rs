//! Base images made from what the machine's package manager gives: busybox and Debian.
//!
//! busybox comes from the `busybox-static` package, one file and a link per applet, written as a
//! docker-archive. Debian comes from `debootstrap --variant=minbase`, once, kept under `target/`.

use crate::tarball::Tarball;
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// Name of the small image that every daemon under test holds.
pub const BUSYBOX: &str = "busybox:latest";

/// Name of the Debian image.
pub const DEBIAN: &str = "debian:12";

/// Lower-case hex of the SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// A docker-archive with one image: `layers` are tars, lowest first; `config` is the `config` object of
/// the image (Cmd, Env and so on).
pub fn docker_archive(tag: &str, config: &serde_json::Value, layers: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<_> = layers.iter().map(|l| format!("sha256:{}", sha256(l))).collect();
    let history: Vec<_> = (0..layers.len())
        .map(|n| json!({"created": "2024-01-01T00:00:00Z", "created_by": format!("layer {n}")}))
        .collect();
    let image = json!({
        "architecture": "amd64", "os": "linux", "created": "2024-01-01T00:00:00Z",
        "config": config, "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": history,
    })
    .to_string();
    let config_name = format!("{}.json", sha256(image.as_bytes()));
    let names: Vec<_> = layers.iter().map(|l| format!("{}/layer.tar", sha256(l))).collect();
    let manifest = json!([{"Config": config_name, "RepoTags": [tag], "Layers": names}]);
    let mut tar = Tarball::new();
    tar.file(&config_name, 0o644, &image);
    for (name, layer) in names.iter().zip(layers) {
        tar.dir(name.trim_end_matches("layer.tar")).file(name, 0o644, layer);
    }
    tar.file("manifest.json", 0o644, manifest.to_string());
    tar.finish()
}

/// The busybox image as a docker-archive, made once per process.
///
/// # Panics
/// When no static busybox is installed: `scripts/setup` installs it.
pub fn busybox() -> &'static [u8] {
    static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let layer = busybox_layer().expect("busybox-static is installed (scripts/setup)");
        let config = json!({
            "Cmd": ["sh"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        });
        docker_archive(BUSYBOX, &config, &[layer])
    })
}

fn busybox_layer() -> Result<Vec<u8>> {
    let binary = ["/bin/busybox", "/usr/bin/busybox"]
        .iter()
        .find(|p| Path::new(p).exists())
        .context("find busybox")?;
    let bytes = fs::read(binary).with_context(|| format!("read {binary}"))?;
    let list = Command::new(binary).arg("--list").output().context("list busybox applets")?;
    let mut tar = Tarball::new();
    tar.dir("bin/").file("bin/busybox", 0o755, &bytes);
    for applet in String::from_utf8(list.stdout)?.lines().filter(|a| *a != "busybox") {
        tar.hard_link(&format!("bin/{applet}"), "bin/busybox");
    }
    for dir in ["dev/", "etc/", "home/", "proc/", "root/", "sys/", "usr/", "usr/bin/", "var/"] {
        tar.dir(dir);
    }
    tar.symlink("usr/bin/env", "../../bin/env");
    for dir in ["tmp/", "var/tmp/"] {
        let entry = crate::tarball::Entry {
            name: dir.as_bytes(),
            kind: b'5',
            mode: 0o1777,
            ..Default::default()
        };
        tar.entry(&entry, b"");
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n\
        www-data:x:33:33:www-data:/var/www:/bin/false\nalice:x:1234:1234:alice:/home:/bin/sh\n\
        nobody:x:65534:65534:nobody:/home:/bin/false\n";
    let group = "root:x:0:\ndaemon:x:1:\ntty:x:5:\nwww-data:x:33:\nwheel:x:10:alice\n\
        staff:x:50:alice\nalice:x:1234:\nnogroup:x:65534:\n";
    tar.file("etc/passwd", 0o644, passwd).file("etc/group", 0o644, group);
    Ok(tar.finish())
}

/// Path of the Debian image as a docker-archive; made by debootstrap on first use and kept.
///
/// # Errors
/// debootstrap is missing or has no network.
pub fn debian(cache: &Path) -> Result<PathBuf> {
    let path = cache.join("debian-12.tar");
    if path.exists() {
        return Ok(path);
    }
    fs::create_dir_all(cache).with_context(|| format!("create {}", cache.display()))?;
    let work = tempfile::Builder::new().prefix("debian-").tempdir_in(cache)?;
    let root = work.path().join("root");
    let status = Command::new("debootstrap")
        .args(["--variant=minbase", "bookworm"])
        .arg(&root)
        .stdout(std::process::Stdio::null())
        .status()
        .context("run debootstrap")?;
    ensure!(status.success(), "debootstrap ended with {status}");
    let tar = work.path().join("layer.tar");
    let status = Command::new("tar")
        .args(["--numeric-owner", "--sort=name", "--exclude=./var/cache/apt/archives/*.deb", "-C"])
        .arg(&root)
        .arg("-cf")
        .arg(&tar)
        .arg(".")
        .status()
        .context("run tar")?;
    if !status.success() {
        bail!("tar ended with {status}");
    }
    let layer = fs::read(&tar)?;
    let config = json!({
        "Cmd": ["bash"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
    });
    let partial = work.path().join("image.tar");
    fs::write(&partial, docker_archive(DEBIAN, &config, &[layer]))?;
    fs::rename(&partial, &path)?;
    Ok(path)
}

/// The folder where test images are kept between runs: `target/testkit`, or below `CARGO_TARGET_DIR`.
pub fn cache_dir() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"), PathBuf::from);
    target.join("testkit")
}
