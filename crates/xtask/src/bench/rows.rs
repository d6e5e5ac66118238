//! The rows of the table: how each is prepared, measured and tidied up.

use super::{
    builds,
    contestant::{Contestant, milliseconds},
    crowd, networks, projects, transfer,
};
use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};
use testkit::image;

/// One row.
pub(crate) struct Row {
    /// Heading.
    pub(crate) name: &'static str,
    /// `ms`, `MB` or `%`.
    pub(crate) unit: &'static str,
    /// How many times better than dockerd it shall be, or the absolute limit.
    pub(crate) wanted: &'static str,
    /// The row that does the same by another client, for the ratio of the two on one engine.
    pub(crate) beside: Option<&'static str>,
    /// Whether a round takes seconds: such rows get fewer rounds.
    slow: bool,
    pub(crate) prepare: fn(&mut Contestant) -> Result<()>,
    pub(crate) measure: fn(&mut Contestant) -> Result<f64>,
    pub(crate) tidy: fn(&mut Contestant),
}

impl Row {
    /// Rounds that this row gets when others get `rounds`.
    pub(crate) fn rounds(&self, rounds: u64) -> u64 {
        if self.slow { rounds.div_ceil(3).max(3) } else { rounds }
    }
}

/// All rows, in the order of the table.
pub(crate) static ROWS: &[Row] = &[
    Row {
        name: "docker run --rm",
        wanted: "7 times",
        measure: |c| c.docker(&["run", "--rm", "busybox", "true"]),
        ..BASE
    },
    Row {
        name: "docker run --rm --network none",
        wanted: "",
        measure: |c| c.docker(&["run", "--rm", "--network", "none", "busybox", "true"]),
        ..BASE
    },
    Row {
        name: "docker run --rm -p",
        wanted: "",
        measure: |c| c.docker(&["run", "--rm", "-p", "127.0.0.1::80", "busybox", "true"]),
        ..BASE
    },
    Row {
        name: "docker run --rm, user-defined network, three ports",
        wanted: "5 times",
        prepare: networks::make,
        measure: networks::run,
        tidy: networks::remove,
        ..BASE
    },
    Row {
        name: "100 ports published: start",
        wanted: "",
        slow: true,
        measure: networks::many_ports,
        ..BASE
    },
    Row {
        name: "a name of a neighbour, asked by UDP",
        wanted: "0.2 ms",
        prepare: networks::neighbours,
        measure: networks::ask,
        tidy: networks::remove,
        ..BASE
    },
    Row {
        name: "docker compose up -d, ten services",
        wanted: "3 times",
        slow: true,
        prepare: projects::plain,
        measure: projects::up_by_docker,
        tidy: projects::tidy,
        ..BASE
    },
    Row {
        name: "gantry compose up -d, ten services",
        wanted: "",
        beside: Some("docker compose up -d, ten services"),
        slow: true,
        prepare: projects::plain,
        measure: projects::up_by_gantry,
        tidy: projects::tidy,
        ..BASE
    },
    Row {
        name: "docker compose up -d, seven of ten wait for health",
        wanted: "",
        slow: true,
        prepare: projects::healthy,
        measure: projects::up_by_docker,
        tidy: projects::tidy,
        ..BASE
    },
    Row {
        name: "gantry compose up -d, seven of ten wait for health",
        wanted: "",
        beside: Some("docker compose up -d, seven of ten wait for health"),
        slow: true,
        prepare: projects::healthy,
        measure: projects::up_by_gantry,
        tidy: projects::tidy,
        ..BASE
    },
    Row {
        name: "docker compose down, ten services",
        wanted: "3 times",
        slow: true,
        prepare: projects::plain,
        measure: projects::down_by_docker,
        tidy: projects::tidy,
        ..BASE
    },
    Row {
        name: "gantry compose down, ten services",
        wanted: "",
        beside: Some("docker compose down, ten services"),
        slow: true,
        prepare: projects::plain,
        measure: projects::down_by_gantry,
        tidy: projects::tidy,
        ..BASE
    },
    Row {
        name: "testcontainers for Go, fifty short tests",
        wanted: "4 times",
        slow: true,
        measure: projects::testcontainers,
        ..BASE
    },
    Row { name: "API create, start, wait, remove", wanted: "20 times", measure: cycle, ..BASE },
    Row { name: "20 such cycles, 10 at once", wanted: "15 times", measure: twenty_cycles, ..BASE },
    Row {
        name: "docker exec",
        wanted: "3 times",
        prepare: sleeper,
        measure: |c| c.docker(&["exec", "bench", "true"]),
        ..BASE
    },
    Row {
        name: "API exec: create, start to the end, inspect",
        wanted: "",
        prepare: sleeper,
        measure: |c| {
            let began = Instant::now();
            c.exec()?;
            Ok(milliseconds(began))
        },
        ..BASE
    },
    Row {
        name: "docker port: the client and one API call",
        wanted: "",
        prepare: sleeper,
        measure: |c| c.docker(&["port", "bench"]),
        ..BASE
    },
    Row {
        name: "docker ps -a, 200 containers",
        wanted: "",
        prepare: two_hundred,
        measure: |c| c.docker(&["ps", "-a"]),
        ..BASE
    },
    Row {
        name: "docker build, nothing cached",
        wanted: "5 times",
        prepare: context,
        measure: |c| build(c, true),
        ..BASE
    },
    Row {
        name: "docker build, all cached",
        wanted: "",
        prepare: context,
        measure: |c| build(c, false),
        ..BASE
    },
    Row {
        name: "docker buildx build, 4 stages, nothing cached",
        wanted: "1.5 times",
        prepare: builds::project,
        measure: builds::fresh,
        ..BUILD
    },
    Row {
        name: "docker buildx build, 4 stages, all cached",
        wanted: "3 times",
        prepare: builds::project,
        measure: builds::cached,
        tidy: builds::tidy,
        ..BASE
    },
    Row {
        name: "docker buildx build, 100,000 files, one changed",
        wanted: "5 times",
        prepare: builds::large,
        measure: builds::changed,
        ..BUILD
    },
    Row {
        name: "docker buildx build, 8 at once",
        wanted: "",
        prepare: builds::crowd,
        measure: builds::at_once,
        ..BUILD
    },
    Row {
        name: "docker buildx build, 8 at once by 8 in turn",
        unit: "%",
        wanted: "100 %",
        prepare: builds::crowd,
        measure: builds::at_once_beside_in_turn,
        ..BUILD
    },
    Row {
        name: "docker buildx build, most memory of the engine in all of it",
        unit: "MB",
        wanted: "150 MB",
        prepare: builds::everything,
        measure: builds::memory,
        ..BUILD
    },
    Row {
        name: "docker buildx build, the engine's part of a step",
        wanted: "5 times",
        prepare: builds::empty_steps,
        measure: builds::each_step,
        ..BUILD
    },
    Row {
        name: "docker import, 200 MB",
        wanted: "3 times",
        slow: true,
        prepare: big_layer,
        measure: import,
        ..BASE
    },
    Row {
        name: "docker load, 200 MB",
        wanted: "4 times",
        slow: true,
        prepare: big_image,
        measure: load,
        ..BASE
    },
    Row {
        name: "docker save, 200 MB",
        wanted: "",
        slow: true,
        prepare: loaded,
        measure: |c| c.docker(&["save", image::DEBIAN]),
        ..BASE
    },
    Row {
        name: "28 MB of logs, written and read",
        wanted: "4 times",
        slow: true,
        measure: logs,
        ..BASE
    },
    Row {
        name: "200 MB of lines of 100 bytes into json-file, none lost",
        wanted: "2000 ms",
        slow: true,
        measure: flood,
        ..BASE
    },
    Row { name: "daemon start", wanted: "60 ms", slow: true, measure: restart, ..BASE },
    Row {
        name: "daemon idle, private memory",
        unit: "MB",
        wanted: "25 MB",
        slow: true,
        measure: idle,
        ..BASE
    },
    Row {
        name: "push of a Debian image, compressed on the way",
        wanted: "3 times",
        slow: true,
        prepare: big_image,
        measure: transfer::push,
        ..BASE
    },
    Row {
        name: "push of a Debian image whose blobs are ready",
        wanted: "",
        slow: true,
        prepare: transfer::pushed_once,
        measure: transfer::push_ready,
        ..BASE
    },
    Row {
        name: "pull of a Debian image (gzip)",
        wanted: "3 times",
        slow: true,
        prepare: transfer::pushed_once,
        measure: transfer::pull,
        ..BASE
    },
    Row {
        name: "each idle container, private memory",
        unit: "MB",
        wanted: "2 MB",
        slow: true,
        prepare: ten,
        measure: per_container,
        ..BASE
    },
    Row {
        name: "500 containers: the daemon's memory",
        unit: "MB",
        wanted: "60 MB",
        slow: true,
        prepare: crowd::gather,
        measure: crowd::daemon,
        ..BASE
    },
    Row {
        name: "500 containers: each one's private memory",
        unit: "MB",
        wanted: "2 MB",
        slow: true,
        prepare: crowd::gather,
        measure: crowd::each,
        ..BASE
    },
    Row {
        name: "500 containers: the list",
        wanted: "50 ms",
        prepare: crowd::gather,
        measure: crowd::list,
        ..BASE
    },
    Row {
        name: "500 containers: statistics of all, of one processor",
        unit: "%",
        wanted: "5 %",
        slow: true,
        prepare: crowd::gather,
        measure: crowd::statistics,
        ..BASE
    },
];

const BASE: Row = Row {
    name: "",
    unit: "ms",
    wanted: "",
    beside: None,
    slow: false,
    prepare: |_| Ok(()),
    measure: |_| Ok(0.0),
    tidy: |c| c.clear(),
};

/// A row about builds of some seconds.
const BUILD: Row = Row { slow: true, tidy: builds::tidy, ..BASE };

fn cycle(c: &mut Contestant) -> Result<f64> {
    let began = Instant::now();
    c.cycle()?;
    Ok(milliseconds(began))
}

fn twenty_cycles(c: &mut Contestant) -> Result<f64> {
    let left = AtomicUsize::new(20);
    let failed = AtomicUsize::new(0);
    let began = Instant::now();
    let c = &*c;
    thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                while left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                    .is_ok()
                {
                    if c.cycle().is_err() {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    if failed.load(Ordering::Relaxed) > 0 {
        bail!("{} of 20 cycles failed", failed.into_inner());
    }
    Ok(milliseconds(began))
}

fn sleeper(c: &mut Contestant) -> Result<()> {
    c.docker(&["run", "-d", "--name", "bench", "busybox", "sleep", "100000"]).map(drop)
}

fn two_hundred(c: &mut Contestant) -> Result<()> {
    for n in 0..200 {
        let body = json!({"Image": "busybox", "Cmd": ["true"]});
        let answer = c.api().post(&format!("/v1.41/containers/create?name=bench{n}"), &body);
        if answer.status() != 201 {
            bail!("create: {}", answer.text());
        }
    }
    Ok(())
}

fn context_dir() -> PathBuf {
    std::env::temp_dir().join(format!("gantry-bench-{}", std::process::id()))
}

fn context(c: &mut Contestant) -> Result<()> {
    let dir = context_dir();
    fs::create_dir_all(&dir).context("make the build context")?;
    fs::write(dir.join("Dockerfile"), "FROM busybox\nRUN echo hello > /hello\nCOPY file /file\n")?;
    fs::write(dir.join("file"), "content\n")?;
    build(c, true).map(drop)
}

fn build(c: &Contestant, no_cache: bool) -> Result<f64> {
    let dir = context_dir();
    let dir = dir.to_str().context("the folder's name is text")?;
    if no_cache {
        c.docker(&["build", "--no-cache", "-t", "bench", dir])
    } else {
        c.docker(&["build", "-t", "bench", dir])
    }
}

fn debian() -> Result<PathBuf> {
    image::debian(&image::cache_dir())
        .context("make the Debian image (debootstrap, needs the network once)")
}

/// The only layer of the Debian image as a file.
fn layer() -> Result<PathBuf> {
    let path = image::cache_dir().join("debian-12-layer.tar");
    if !path.exists() {
        let bytes = fs::read(debian()?)?;
        let members = testkit::tarball::members(&bytes);
        let found =
            members.iter().find(|m| m.0.ends_with("layer.tar")).context("find the layer")?;
        let layer = testkit::tarball::member(&bytes, &found.0).context("read the layer")?;
        fs::write(&path, layer)?;
    }
    Ok(path)
}

fn big_layer(_: &mut Contestant) -> Result<()> {
    layer().map(drop)
}

fn big_image(_: &mut Contestant) -> Result<()> {
    debian().map(drop)
}

fn loaded(c: &mut Contestant) -> Result<()> {
    load(c).map(drop)
}

fn import(c: &mut Contestant) -> Result<f64> {
    let path = layer()?;
    let took = c.docker(&["import", path.to_str().context("a text path")?, "bench-import"])?;
    c.docker(&["rmi", "bench-import"])?;
    Ok(took)
}

pub(super) fn load(c: &mut Contestant) -> Result<f64> {
    let path = debian()?;
    _ = c.docker(&["rmi", "-f", image::DEBIAN]);
    c.docker(&["load", "-i", path.to_str().context("a text path")?])
}

fn logs(c: &mut Contestant) -> Result<f64> {
    let began = Instant::now();
    c.docker(&[
        "run",
        "-d",
        "--name",
        "bench-logs",
        "busybox",
        "sh",
        "-c",
        "yes 0123456789012345678901234567890123456789012345678901234567 | head -n 475000",
    ])?;
    c.docker(&["wait", "bench-logs"])?;
    c.docker(&["logs", "bench-logs"])?;
    let took = milliseconds(began);
    c.docker(&["rm", "bench-logs"])?;
    Ok(took)
}

/// From the start of the writer to its end; then the lines in the file are counted.
fn flood(c: &mut Contestant) -> Result<f64> {
    const LINES: usize = 2_000_000;
    let line = "x".repeat(99);
    let script = format!("yes {line} | head -n {LINES}");
    c.docker(&[
        "create",
        "--name",
        "bench-flood",
        "--log-opt",
        "max-size=10g",
        "busybox",
        "sh",
        "-c",
        &script,
    ])?;
    let began = Instant::now();
    c.docker(&["start", "bench-flood"])?;
    c.docker(&["wait", "bench-flood"])?;
    let took = milliseconds(began);
    let inspected = c.api().get("/v1.41/containers/bench-flood/json").json();
    let path = inspected["LogPath"].as_str().context("the log has a path")?.to_owned();
    let mut reader = std::io::BufReader::with_capacity(1 << 20, fs::File::open(path)?);
    let mut lines = 0;
    loop {
        let block = std::io::BufRead::fill_buf(&mut reader)?;
        if block.is_empty() {
            break;
        }
        lines += block.iter().filter(|b| **b == b'\n').count();
        let length = block.len();
        std::io::BufRead::consume(&mut reader, length);
    }
    c.docker(&["rm", "bench-flood"])?;
    if lines != LINES {
        bail!("{lines} of {LINES} lines are in the log");
    }
    Ok(took)
}

fn restart(c: &mut Contestant) -> Result<f64> {
    c.daemon.stop()?;
    let began = Instant::now();
    c.daemon.start_again()?;
    Ok(milliseconds(began))
}

fn idle(c: &mut Contestant) -> Result<f64> {
    c.clear();
    c.api().get("/v1.41/containers/json");
    Ok(c.private_memory()?.0 / 1e6)
}

fn ten(c: &mut Contestant) -> Result<()> {
    for _ in 0..10 {
        c.docker(&["run", "-d", "busybox", "sleep", "100000"])?;
    }
    Ok(())
}

fn per_container(c: &mut Contestant) -> Result<f64> {
    let list = c.api().get("/v1.41/containers/json").json();
    let count = list.as_array().map_or(0, Vec::len);
    if count == 0 || list == Value::Null {
        bail!("no container runs");
    }
    Ok(c.private_memory()?.1 / 1e6 / count as f64)
}
