//! Rows about builds by BuildKit's protocol: the same buildx drives every contestant.
//!
//! The project has four stages and twelve steps that work with files of their own context; `BENCH_FILES` says how many files the
//! large context has (100,000), so that a first look can be short.

use super::contestant::{Contestant, milliseconds};
use crate::shell::target;
use anyhow::{Context as _, Result, bail, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Steps of the build that shows what the engine adds to each.
const STEPS: usize = 20;
/// Builds at once.
const CROWD: usize = 8;

static ROUND: AtomicUsize = AtomicUsize::new(0);

fn folder(c: &Contestant, what: &str) -> PathBuf {
    let name = format!("gantry-bench-{}-{}", std::process::id(), c.name.replace('/', "_"));
    std::env::temp_dir().join(name).join(what)
}

fn files() -> usize {
    std::env::var("BENCH_FILES").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000)
}

/// The folder with buildx as a plugin.
fn config(c: &Contestant) -> Result<PathBuf> {
    let program = target().join("testkit/bin/docker-buildx");
    ensure!(program.exists(), "there is no docker-buildx: scripts/setup --tests builds it");
    let config = folder(c, "config");
    let plugins = config.join("cli-plugins");
    fs::create_dir_all(&plugins)?;
    let link = plugins.join("docker-buildx");
    match std::os::unix::fs::symlink(program, link) {
        // Eight builds at once ask for it.
        Err(err) if err.kind() != std::io::ErrorKind::AlreadyExists => Err(err.into()),
        _ => Ok(config),
    }
}

/// Milliseconds of one build that must succeed.
fn build(c: &Contestant, context: &Path, args: &[&str]) -> Result<f64> {
    let config = config(c)?;
    let mut command: Command = c.daemon.docker();
    command
        .args(["buildx", "build", "--progress", "quiet"])
        .args(args)
        .arg(context)
        .env("BUILDX_CONFIG", config.join("buildx"))
        .env("DOCKER_CONFIG", config)
        .env("BUILDX_NO_DEFAULT_ATTESTATIONS", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let began = Instant::now();
    let output = command.output().context("run docker buildx")?;
    let took = milliseconds(began);
    if !output.status.success() {
        bail!("buildx build: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(took)
}

/// Four stages, twelve steps; `mark` makes its steps unlike those of others.
fn stages(folder: &Path, mark: &str) -> Result<()> {
    fs::create_dir_all(folder.join("src"))?;
    for n in 0..200 {
        let text = format!("unit {n} of {mark}\n").repeat(40);
        fs::write(folder.join(format!("src/{n}.c")), text)?;
    }
    let file = format!(
        "FROM busybox AS tools\nRUN mkdir -p /tools && echo {mark} > /tools/mark\nRUN for n in $(seq 200); do echo tool $n > /tools/$n; done\n\
FROM tools AS objects\nCOPY src /src\nRUN mkdir /o; for f in /src/*.c; do sha256sum $f > /o/$(basename $f).o; done\nRUN cat /o/*.o | sort > /o/all\n\
FROM tools AS docs\nCOPY src /src\nRUN tar -cf /docs.tar /src && gzip /docs.tar\nRUN sha256sum /docs.tar.gz > /docs.sum\n\
FROM busybox\nCOPY --from=objects /o/all /all\nCOPY --from=docs /docs.sum /\nRUN wc -l /all > /count\nRUN test -s /count\nWORKDIR /w\nCMD [\"cat\", \"/count\"]\n"
    );
    fs::write(folder.join("Dockerfile"), file).context("write the project")
}

pub(super) fn project(c: &mut Contestant) -> Result<()> {
    stages(&folder(c, "project"), "one")
}

pub(super) fn fresh(c: &mut Contestant) -> Result<f64> {
    build(c, &folder(c, "project"), &["--no-cache"])
}

pub(super) fn cached(c: &mut Contestant) -> Result<f64> {
    build(c, &folder(c, "project"), &[])
}

pub(super) fn large(c: &mut Contestant) -> Result<()> {
    let folder = folder(c, "large");
    for n in 0..files() {
        let below = folder.join(format!("d{}", n / 500));
        if n % 500 == 0 {
            fs::create_dir_all(&below)?;
        }
        fs::write(below.join(format!("f{n}")), format!("small file {n}\n"))?;
    }
    fs::write(folder.join("Dockerfile"), "FROM busybox\nCOPY . /context/\n")?;
    build(c, &folder, &[]).map(drop)
}

/// One file of many has changed since the last build.
pub(super) fn changed(c: &mut Contestant) -> Result<f64> {
    let folder = folder(c, "large");
    let round = ROUND.fetch_add(1, Ordering::Relaxed);
    fs::write(folder.join("d0/f7"), format!("changed in round {round}\n"))?;
    build(c, &folder, &[])
}

pub(super) fn crowd(c: &mut Contestant) -> Result<()> {
    for n in 0..CROWD {
        stages(&folder(c, &format!("crowd{n}")), &format!("crowd {n}"))?;
    }
    Ok(())
}

fn all_at_once(c: &Contestant) -> Result<f64> {
    let began = Instant::now();
    thread::scope(|scope| {
        let builds: Vec<_> = (0..CROWD)
            .map(|n| {
                scope.spawn(move || build(c, &folder(c, &format!("crowd{n}")), &["--no-cache"]))
            })
            .collect();
        for build in builds {
            build.join().map_err(|_| anyhow::anyhow!("a build's thread has died"))??;
        }
        Ok(milliseconds(began))
    })
}

pub(super) fn at_once(c: &mut Contestant) -> Result<f64> {
    all_at_once(c)
}

/// How long as many take one after the other, in per cent: below 100 builds at once are worth it.
pub(super) fn at_once_beside_in_turn(c: &mut Contestant) -> Result<f64> {
    let together = all_at_once(c)?;
    let mut in_turn = 0.0;
    for n in 0..CROWD {
        in_turn += build(c, &folder(c, &format!("crowd{n}")), &["--no-cache"])?;
    }
    Ok(together / in_turn * 100.0)
}

pub(super) fn everything(c: &mut Contestant) -> Result<()> {
    crowd(c)?;
    large(c)
}

/// The most private memory of the engine's processes while it builds all that and the large context, in MB.
pub(super) fn memory(c: &mut Contestant) -> Result<f64> {
    let (done, most) = (AtomicBool::new(false), Mutex::new(0.0_f64));
    let c = &*c;
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if let Ok((daemon, _)) = c.private_memory() {
                    let mut most = most.lock().unwrap_or_else(PoisonError::into_inner);
                    *most = most.max(daemon);
                }
                thread::sleep(Duration::from_millis(20));
            }
        });
        let built = all_at_once(c).and_then(|_| {
            let round = ROUND.fetch_add(1, Ordering::Relaxed);
            fs::write(folder(c, "large").join("d0/f7"), format!("changed in round {round}\n"))?;
            build(c, &folder(c, "large"), &[])
        });
        done.store(true, Ordering::Relaxed);
        built
    })?;
    let most = *most.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(most / 1e6)
}

fn steps(c: &Contestant, count: usize) -> PathBuf {
    folder(c, &format!("steps{count}"))
}

pub(super) fn empty_steps(c: &mut Contestant) -> Result<()> {
    for count in [1, STEPS + 1] {
        let folder = steps(c, count);
        fs::create_dir_all(&folder)?;
        let file = format!("FROM busybox\n{}", "RUN true\n".repeat(count));
        fs::write(folder.join("Dockerfile"), file)?;
    }
    Ok(())
}

/// What a step that does nothing takes: a build of many less a build of one, by the steps that it has more.
pub(super) fn each_step(c: &mut Contestant) -> Result<f64> {
    let one = build(c, &steps(c, 1), &["--no-cache"])?;
    let many = build(c, &steps(c, STEPS + 1), &["--no-cache"])?;
    // What the command itself takes in a shell of busybox, whoever runs it.
    static OWN: OnceLock<f64> = OnceLock::new();
    let own = OWN.get_or_init(|| {
        let began = Instant::now();
        let shell = || Command::new("busybox").args(["sh", "-c", "true"]).status();
        let runs = (0..20).filter(|_| shell().is_ok_and(|s| s.success())).count();
        milliseconds(began) / runs.max(1) as f64
    });
    Ok(((many - one) / STEPS as f64 - own).max(0.0))
}

pub(super) fn tidy(c: &mut Contestant) {
    // They were ours alone.
    let _ = fs::remove_dir_all(folder(c, ""));
}
