//! Base images made from what the machine's package manager gives: busybox and Debian.
//!
//! busybox comes from the `busybox-static` package, one file and a link per applet, written as a
//! docker-archive. Debian comes from `debootstrap --variant=minbase`, once, kept under `target/`; so does an image with the
//! services that whole projects are made of.

use crate::tarball::Tarball;
use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// Name of the small image that every daemon under test holds.
pub const BUSYBOX: &str = "busybox:latest";

/// Name of the Debian image.
pub const DEBIAN: &str = "debian:12";

/// Name of the image with PostgreSQL, Redis, nginx and Python.
pub const SERVICES: &str = "services:12";

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
    let exclude = ["./var/cache/apt/archives/*.deb"];
    made(cache, &path, || bootstrapped(cache, DEBIAN, &[], &exclude))?;
    Ok(path)
}

/// What the image of services is made of.
const SERVICE_PACKAGES: &[&str] = &[
    "postgresql-15",
    "redis-server",
    "nginx-light",
    "python3",
    "python3-psycopg2",
    "python3-redis",
];

/// What no service here needs: half of the size. Without its library PostgreSQL compiles no expressions.
const SERVICE_LEFT_OUT: &[&str] = &[
    "./var/cache/apt/*",
    "./var/lib/apt/lists/*",
    "./var/lib/postgresql/*",
    "./usr/share/doc/*",
    "./usr/share/i18n/*",
    "./usr/share/man/*",
    "./usr/share/locale/*",
    "./usr/share/perl/*",
    "./usr/share/postgresql/15/man/*",
    "./usr/lib/postgresql/15/lib/bitcode/*",
    "./usr/lib/postgresql/15/lib/llvmjit*",
    "./usr/lib/x86_64-linux-gnu/libLLVM-*",
    "./usr/lib/x86_64-linux-gnu/libz3.so*",
    "./usr/lib/x86_64-linux-gnu/perl/*",
];

/// Path of a docker-archive with PostgreSQL, Redis, nginx and Python from Debian's packages, as [`SERVICES`]; made by
/// debootstrap on first use and kept.
///
/// # Errors
/// debootstrap is missing or has no network.
pub fn services(cache: &Path) -> Result<PathBuf> {
    let path = cache.join("services-12.tar");
    made(cache, &path, || bootstrapped(cache, SERVICES, SERVICE_PACKAGES, SERVICE_LEFT_OUT))?;
    Ok(path)
}

/// Writes what `make` gives to `path`, unless it is there; whole or not at all.
fn made(cache: &Path, path: &Path, make: impl FnOnce() -> Result<Vec<u8>>) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    fs::create_dir_all(cache).with_context(|| format!("create {}", cache.display()))?;
    let partial = tempfile::NamedTempFile::new_in(cache).context("make a file for an image")?;
    fs::write(partial.path(), make()?).context("write an image")?;
    partial.persist(path).with_context(|| format!("keep {}", path.display())).map(drop)
}

/// A docker-archive called `tag` of Debian 12 with `packages`, without the files of the patterns `exclude`.
fn bootstrapped(cache: &Path, tag: &str, packages: &[&str], exclude: &[&str]) -> Result<Vec<u8>> {
    let work = tempfile::Builder::new().prefix("debian-").tempdir_in(cache)?;
    let root = work.path().join("root");
    let mut first = Command::new("debootstrap");
    first.args(["--variant=minbase", "--foreign"]);
    if !packages.is_empty() {
        first.arg(format!("--include={}", packages.join(",")));
    }
    succeed(first.arg("bookworm").arg(&root))?;
    // Daemons that packages bring must not start on this machine.
    let policy = root.join("usr/sbin/policy-rc.d");
    fs::write(&policy, "#!/bin/sh\nexit 101\n").context("write the policy about daemons")?;
    fs::set_permissions(&policy, fs::Permissions::from_mode(0o755))?;
    succeed(
        Command::new("chroot")
            .arg(&root)
            .args(["/debootstrap/debootstrap", "--second-stage"])
            .env("LC_ALL", "C")
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )?;
    // debootstrap may have taken it away with its own.
    if policy.exists() {
        fs::remove_file(&policy).context("remove the policy about daemons")?;
    }
    let tar = work.path().join("layer.tar");
    let patterns = exclude.iter().map(|pattern| format!("--exclude={pattern}"));
    succeed(
        Command::new("tar")
            .args(["--numeric-owner", "--sort=name", "--wildcards"])
            .args(patterns)
            .arg("-C")
            .arg(&root)
            .arg("-cf")
            .arg(&tar)
            .arg("."),
    )?;
    let layer = fs::read(&tar).context("read the layer")?;
    let config = json!({
        "Cmd": ["bash"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
    });
    Ok(docker_archive(tag, &config, &[layer]))
}

fn succeed(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("run {name}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "{name} ended with {}: {}",
        output.status,
        said.lines().last().unwrap_or_default()
    );
    Ok(())
}

/// The folder where test images are kept between runs: `target/testkit`, or below `CARGO_TARGET_DIR`.
pub fn cache_dir() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"), PathBuf::from);
    target.join("testkit")
}
