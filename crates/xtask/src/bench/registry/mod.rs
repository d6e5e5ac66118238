//! `cargo xtask bench registry`: our registry beside Docker's (docker-registry of Debian), in one run.
//!
//! Each server works on a folder of its own on the same disk; rounds are interleaved. The load is made here, by threads that
//! keep a connection each and speak HTTP with as little work as can be, because clients and server share the
//! machine: the bytes of large answers are thrown away by the kernel. A push is what docker sends: for config and layer POST, PATCH, PUT, then PUT of the manifest. Options:
//! `--rounds N`, `--seconds N`, `--row WORD`, `--gc` (collection among 100,000 manifests, ours alone), `--write`.

mod bare;

use super::report;
use crate::shell::{number, project, say, target, value};
use anyhow::{Context as _, Result, bail, ensure};
use rustix::net::{RecvFlags, recv};
use serde_json::json;
use std::{
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use testkit::image::sha256;

const LARGE: usize = 32 << 20;
const MANIFESTS: u64 = 100_000;
const GRACE: Duration = Duration::from_secs(1);

struct Contestant {
    name: &'static str,
    version: String,
    address: SocketAddr,
    child: Child,
    dir: PathBuf,
}

struct Row {
    name: &'static str,
    unit: &'static str,
    wanted: &'static str,
    clients: usize,
    run: fn(&Contestant, usize, Duration) -> Result<f64>,
}

/// Rows in which less is better.
const LESS: &[&str] = &["MB", "ms/GB"];

static ROWS: &[Row] = &[
    Row { name: "small pushes, 1 client", unit: "/s", wanted: "", clients: 1, run: small_pushes },
    Row {
        name: "small pushes, 16 clients",
        unit: "/s",
        wanted: "2 times",
        clients: 16,
        run: small_pushes,
    },
    Row {
        name: "small pulls, 16 clients",
        unit: "/s",
        wanted: "2 times",
        clients: 16,
        run: small_pulls,
    },
    Row {
        name: "GET manifest, 16 clients",
        unit: "/s",
        wanted: "2 times",
        clients: 16,
        run: manifests,
    },
    Row {
        name: "push of 32 MiB blobs, 16 clients",
        unit: "MB/s",
        wanted: "2 times",
        clients: 16,
        run: large_pushes,
    },
    Row {
        name: "pull of 32 MiB blobs, 16 clients",
        unit: "MB/s",
        wanted: "2 times",
        clients: 16,
        run: large_pulls,
    },
    Row {
        name: "pull of 32 MiB blobs, 16 clients, processor time of the server",
        unit: "ms/GB",
        wanted: "",
        clients: 16,
        run: large_pulls_time,
    },
    Row {
        name: "private memory afterwards",
        unit: "MB",
        wanted: "100 MB",
        clients: 0,
        run: memory,
    },
];

pub(super) fn run(args: &[String]) -> Result<()> {
    let rounds = number(args, "--rounds", 3)?;
    let seconds = Duration::from_secs(number(args, "--seconds", 4)?);
    let word = value(args, "--row").unwrap_or("");
    let contestants = contestants()?;
    let mut table = String::new();
    for row in ROWS.iter().filter(|r| r.name.contains(word)) {
        let mut samples: Vec<Vec<Option<f64>>> = contestants.iter().map(|_| Vec::new()).collect();
        for round in 0..rounds {
            for n in 0..contestants.len() {
                let n = (n + usize::try_from(round)?) % contestants.len();
                let got = (row.run)(&contestants[n], row.clients, seconds);
                if let Err(err) = &got {
                    say(&format!("{}: {}: {err:#}", row.name, contestants[n].name));
                }
                samples[n].push(got.ok());
            }
        }
        let mut line = format!("| {} |", row.name);
        let ours = report::median(&samples[0]);
        for (n, samples) in samples.iter().enumerate() {
            let value = report::median(samples);
            _ = write!(line, " {}", report::number(value, row.unit));
            if let (true, Some(ours), Some(value)) = (n > 0, ours, value) {
                let better = if LESS.contains(&row.unit) { value / ours } else { ours / value };
                _ = write!(line, " ({better:.1})");
            }
            line.push_str(" |");
        }
        _ = write!(line, " {} |", row.wanted);
        say(&line);
        _ = writeln!(table, "{line}");
    }
    let mut page = String::from(HEAD);
    _ = writeln!(page, "\n## The machine\n\n{}", report::machine());
    for contestant in &contestants {
        _ = writeln!(page, "- {}: {}", contestant.name, contestant.version);
    }
    if "a bare loop of sendfile".contains(word) || word.contains("pull") {
        let line = bare::measure(16, seconds)?;
        say(&line);
        _ = writeln!(page, "- {line}");
    }
    page.push_str(
        "\n## The table\n\nMedians; in brackets how many times Gantry is better.\n\n| row |",
    );
    for contestant in &contestants {
        _ = write!(page, " {} |", contestant.name);
    }
    _ = writeln!(
        page,
        " wanted |\n|---|{}\n{}",
        "---:|".repeat(contestants.len() + 1),
        table.trim_end()
    );
    if args.iter().any(|a| a == "--gc") {
        let line = collection(&contestants[0])?;
        say(&line);
        _ = writeln!(page, "\n## Collection\n\n{line}");
    }
    if args.iter().any(|a| a == "--write") {
        let path = project().join("docs/benchmarks-registry.md");
        fs::write(&path, page).with_context(|| format!("write {}", path.display()))?;
        say(&format!("written to {}", path.display()));
    }
    Ok(())
}

const HEAD: &str = "# Benchmarks of the registry

Measured by `cargo xtask bench registry --gc --write`: every server on a folder of its own on the same disk, in one run, rounds
interleaved. Server and clients share the machine's cores; the clients are threads of the benchmark with a connection each. A small
push is a config of 1 KB, a layer of 10 KB, both new, and a manifest, sent as docker sends them.
";

impl Drop for Contestant {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn contestants() -> Result<Vec<Contestant>> {
    let ours = target().join("release/gantry-registry");
    ensure!(ours.exists(), "{} is missing: scripts/build release builds it", ours.display());
    let mut list = vec![start("gantry", &ours)?];
    let peer = value(&std::env::args().collect::<Vec<_>>(), "--peer").map(PathBuf::from);
    let peer = peer.unwrap_or_else(|| "/usr/bin/docker-registry".into());
    if peer.exists() {
        list.push(start("docker-registry", &peer)?);
    } else {
        say("docker-registry is not installed: Gantry is measured alone");
    }
    Ok(list)
}

fn start(name: &'static str, program: &Path) -> Result<Contestant> {
    let dir = target().join(format!("bench-{name}-{}", std::process::id()));
    fs::create_dir_all(&dir).context("make a folder")?;
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut command = Command::new(program);
    if name == "gantry" {
        // Nothing is collected by itself here: the first round finds nothing, the next would come in an hour.
        let seconds = GRACE.as_secs();
        fs::write(
            dir.join("config.toml"),
            format!("[gc]\ngrace = \"{seconds}s\"\nevery = \"1h\"\n"),
        )?;
        command.args([
            "serve",
            "--listen",
            &address.to_string(),
            "--log-level",
            "error",
            "--config",
        ]);
        command.arg(dir.join("config.toml")).arg("--root").arg(dir.join("root"));
    } else {
        let config = json!({
            "version": 0.1, "log": {"level": "error", "accesslog": {"disabled": true}},
            "storage": {"filesystem": {"rootdirectory": dir.join("data")}, "delete": {"enabled": true}},
            "http": {"addr": address.to_string()},
        });
        fs::write(dir.join("config.yml"), config.to_string())?;
        command.arg("serve").arg(dir.join("config.yml"));
    }
    let child =
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("start a registry")?;
    let output = Command::new(program).arg("--version").output().context("ask for the version")?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let contestant = Contestant { name, version, address, child, dir };
    for _ in 0..500 {
        if TcpStream::connect(address).is_ok() {
            return Ok(contestant);
        }
        thread::sleep(Duration::from_millis(20));
    }
    bail!("{name} does not start")
}

/// A connection that is kept.
struct Link {
    stream: BufReader<TcpStream>,
    piece: Vec<u8>,
}

/// What a request came to.
struct Answer {
    status: u16,
    location: String,
    length: usize,
}

impl Link {
    fn new(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).context("connect")?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::with_capacity(256 << 10, stream), piece: vec![0; 1 << 20] })
    }

    fn ask(&mut self, method: &str, path: &str, kind: &str, body: &[u8]) -> Result<Answer> {
        let path = path.find("/v2/").map_or(path, |at| &path[at..]);
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {kind}\r\nAccept: {IMAGE}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let stream = self.stream.get_mut();
        if body.len() < 64 << 10 {
            stream.write_all(&[head.as_bytes(), body].concat())?;
        } else {
            stream.write_all(head.as_bytes())?;
            stream.write_all(body)?;
        }
        let mut answer = Answer { status: 0, location: String::new(), length: 0 };
        let mut line = String::new();
        loop {
            line.clear();
            ensure!(self.stream.read_line(&mut line)? > 0, "{method} {path}: the connection ended");
            let text = line.trim_end();
            if text.is_empty() {
                break;
            }
            if answer.status == 0 {
                answer.status =
                    text.split(' ').nth(1).and_then(|s| s.parse().ok()).context("a status")?;
                continue;
            }
            let Some((key, value)) = text.split_once(':') else { continue };
            if key.eq_ignore_ascii_case("location") {
                answer.location = value.trim().to_owned();
            } else if key.eq_ignore_ascii_case("content-length") {
                answer.length = value.trim().parse()?;
            }
        }
        self.skip(if method == "HEAD" { 0 } else { answer.length })
            .with_context(|| format!("{method} {path}"))?;
        Ok(answer)
    }

    /// Takes `left` bytes from the connection and has the kernel throw away what is not here yet: reading them would cost the
    /// machine more than sending them costs a server.
    fn skip(&mut self, mut left: usize) -> Result<()> {
        let here = left.min(self.stream.buffer().len());
        self.stream.consume(here);
        left -= here;
        while left > 0 {
            let want = left.min(self.piece.len());
            let (_, got) = recv(self.stream.get_ref(), &mut self.piece[..want], RecvFlags::TRUNC)?;
            ensure!(got > 0, "the body broke off");
            left -= got;
        }
        Ok(())
    }

    fn push_blob(&mut self, name: &str, bytes: &[u8], digest: &str) -> Result<()> {
        let begun = self.ask("POST", &format!("/v2/{name}/blobs/uploads/"), BYTES, b"")?;
        ensure!(begun.status == 202, "POST answered {}", begun.status);
        let sent = self.ask("PATCH", &begun.location, BYTES, bytes)?;
        ensure!(sent.status == 202, "PATCH answered {}", sent.status);
        let sign = if sent.location.contains('?') { '&' } else { '?' };
        let done =
            self.ask("PUT", &format!("{}{sign}digest={digest}", sent.location), BYTES, b"")?;
        ensure!(done.status == 201, "PUT answered {}", done.status);
        Ok(())
    }

    /// The digest of its manifest.
    fn push_image(&mut self, name: &str, tag: &str, config: &[u8], layer: &[u8]) -> Result<String> {
        let (config_digest, layer_digest) = (digest(config), digest(layer));
        self.push_blob(name, config, &config_digest)?;
        self.push_blob(name, layer, &layer_digest)?;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": IMAGE,
            "config": {"mediaType": CONFIG, "size": config.len(), "digest": config_digest},
            "layers": [{"mediaType": LAYER, "size": layer.len(), "digest": layer_digest}],
        });
        let path = format!("/v2/{name}/manifests/{tag}");
        let manifest = manifest.to_string();
        let put = self.ask("PUT", &path, IMAGE, manifest.as_bytes())?;
        ensure!(put.status == 201, "PUT of the manifest answered {}", put.status);
        Ok(digest(manifest.as_bytes()))
    }

    fn get(&mut self, path: &str) -> Result<usize> {
        let got = self.ask("GET", path, BYTES, b"")?;
        ensure!(got.status == 200, "GET {path} answered {}", got.status);
        Ok(got.length)
    }
}

const BYTES: &str = "application/octet-stream";
const IMAGE: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", sha256(bytes))
}

/// New bytes, quickly.
fn fresh(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn next() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed) + (u64::from(std::process::id()) << 32)
}

/// Runs `work` on every client until the time is over; deeds per second.
fn load(
    contestant: &Contestant,
    clients: usize,
    time: Duration,
    work: impl Fn(&mut Link, usize) -> Result<u64> + Sync,
) -> Result<f64> {
    let began = Instant::now();
    let done: Result<Vec<u64>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..clients)
            .map(|client| {
                let work = &work;
                scope.spawn(move || {
                    let mut link = Link::new(contestant.address)?;
                    let mut done = 0;
                    while began.elapsed() < time {
                        done += work(&mut link, client)?;
                    }
                    Ok(done)
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|w| w.join().unwrap_or_else(|_| bail!("a client panicked")))
            .collect()
    });
    Ok(done?.iter().sum::<u64>() as f64 / began.elapsed().as_secs_f64())
}

fn small_pushes(contestant: &Contestant, clients: usize, time: Duration) -> Result<f64> {
    load(contestant, clients, time, |link, client| {
        let n = next();
        link.push_image(
            &format!("small/{client}"),
            &format!("t{n}"),
            &fresh(n, 1000),
            &fresh(n ^ 1 << 60, 10_000),
        )?;
        Ok(1)
    })
}

fn one_image(contestant: &Contestant) -> Result<(String, String)> {
    let (config, layer) = (fresh(7, 1000), fresh(8, 10_000));
    Link::new(contestant.address)?.push_image("pulled", "x", &config, &layer)?;
    Ok((digest(&config), digest(&layer)))
}

fn small_pulls(contestant: &Contestant, clients: usize, time: Duration) -> Result<f64> {
    let (config, layer) = one_image(contestant)?;
    load(contestant, clients, time, |link, _| {
        link.get("/v2/pulled/manifests/x")?;
        link.get(&format!("/v2/pulled/blobs/{config}"))?;
        link.get(&format!("/v2/pulled/blobs/{layer}"))?;
        Ok(1)
    })
}

fn manifests(contestant: &Contestant, clients: usize, time: Duration) -> Result<f64> {
    one_image(contestant)?;
    load(contestant, clients, time, |link, _| link.get("/v2/pulled/manifests/x").map(|_| 1))
}

fn large_pushes(contestant: &Contestant, clients: usize, time: Duration) -> Result<f64> {
    // Made and hashed before the clock starts; every round has blobs of its own.
    let blobs: Vec<(Vec<u8>, String)> = (0..clients)
        .map(|_| {
            let bytes = fresh(next(), LARGE);
            let name = digest(&bytes);
            (bytes, name)
        })
        .collect();
    let began = Instant::now();
    let mut pushed = 0.0;
    let mut repository = 0;
    while began.elapsed() < time {
        repository += 1;
        // The same bytes again in another repository are received and hashed again.
        let turn = Instant::now();
        let done: Result<Vec<()>> = thread::scope(|scope| {
            let workers: Vec<_> = blobs
                .iter()
                .map(|(bytes, name)| {
                    scope.spawn(move || {
                        Link::new(contestant.address)?.push_blob(
                            &format!("large/{repository}"),
                            bytes,
                            name,
                        )
                    })
                })
                .collect();
            workers
                .into_iter()
                .map(|w| w.join().unwrap_or_else(|_| bail!("a client panicked")))
                .collect()
        });
        done?;
        pushed += (LARGE * clients) as f64 / turn.elapsed().as_secs_f64();
    }
    Ok(pushed / f64::from(repository) / 1e6)
}

fn large_pulls(contestant: &Contestant, clients: usize, time: Duration) -> Result<f64> {
    Ok(pull_large(contestant, clients, time)?.0)
}

/// Milliseconds of processor time that the server needs for a GB.
fn large_pulls_time(contestant: &Contestant, clients: usize, time: Duration) -> Result<f64> {
    Ok(pull_large(contestant, clients, time)?.1)
}

/// MB per second, and the server's milliseconds for a GB.
fn pull_large(contestant: &Contestant, clients: usize, time: Duration) -> Result<(f64, f64)> {
    let bytes = fresh(9, LARGE);
    let name = digest(&bytes);
    Link::new(contestant.address)?.push_blob("large/pulled", &bytes, &name)?;
    let path = format!("/v2/large/pulled/blobs/{name}");
    let (began, before) = (Instant::now(), processor_time(contestant)?);
    let rate = load(contestant, clients, time, |link, _| Ok(link.get(&path)? as u64))? / 1e6;
    let gigabytes = rate * began.elapsed().as_secs_f64() / 1000.0;
    Ok((rate, (processor_time(contestant)? - before) / gigabytes))
}

/// Milliseconds since the server started.
fn processor_time(contestant: &Contestant) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{}/stat", contestant.child.id()))?;
    // After the name in brackets; utime and stime are fields 14 and 15.
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|f| f.parse::<f64>().ok()).sum();
    Ok(ticks * 1000.0 / rustix::param::clock_ticks_per_second() as f64)
}

fn memory(contestant: &Contestant, _: usize, _: Duration) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", contestant.child.id()))?;
    let kilobytes: f64 = text
        .lines()
        .filter(|l| l.starts_with("Private_"))
        .filter_map(|l| l.split_whitespace().nth(1)?.parse::<f64>().ok())
        .sum();
    Ok(kilobytes / 1000.0)
}

/// Runs `work` for the numbers below `count`, on 16 connections.
fn each(
    ours: &Contestant,
    count: u64,
    work: impl Fn(&mut Link, u64) -> Result<()> + Sync,
) -> Result<()> {
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    let mut link = Link::new(ours.address)?;
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        if n >= count {
                            return Ok(());
                        }
                        work(&mut link, n)?;
                    }
                })
            })
            .collect();
        workers
            .into_iter()
            .try_for_each(|w| w.join().unwrap_or_else(|_| bail!("a client panicked")))
    })
}

/// Deletes half of many manifests and collects their blobs while others are pushed.
fn collection(ours: &Contestant) -> Result<String> {
    say(&format!("putting {MANIFESTS} manifests"));
    let digests: Vec<Mutex<String>> = (0..MANIFESTS).map(|_| Mutex::default()).collect();
    let name = |n: u64| format!("many/{}", n % 100);
    each(ours, MANIFESTS, |link, n| {
        let (config, layer) = (fresh(n | 1 << 50, 300), fresh(n | 1 << 51, 1000));
        let digest = link.push_image(&name(n), &format!("t{n}"), &config, &layer)?;
        *digests[usize::try_from(n)?].lock().unwrap_or_else(PoisonError::into_inner) = digest;
        Ok(())
    })?;
    let half = MANIFESTS / 2;
    let began = Instant::now();
    each(ours, half, |link, n| {
        let digest =
            digests[usize::try_from(n)?].lock().unwrap_or_else(PoisonError::into_inner).clone();
        let gone =
            link.ask("DELETE", &format!("/v2/{}/manifests/{digest}", name(n)), BYTES, b"")?;
        ensure!(gone.status == 202, "DELETE answered {}", gone.status);
        Ok(())
    })?;
    let deleted = began.elapsed();
    // Until the grace time of the last of them is over.
    thread::sleep(GRACE);
    let program = target().join("release/gantry-registry");
    let began = Instant::now();
    let (told, slowest) = thread::scope(|scope| -> Result<(String, Duration)> {
        let gc = scope.spawn(|| -> Result<String> {
            let mut command = Command::new(&program);
            command.args(["gc", "--config", "/dev/null", "--root"]).arg(ours.dir.join("root"));
            let output = command.output()?;
            ensure!(output.status.success(), "gc: {}", String::from_utf8_lossy(&output.stderr));
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        });
        let (mut link, mut slowest) = (Link::new(ours.address)?, Duration::ZERO);
        while !gc.is_finished() {
            let one = Instant::now();
            link.push_image("beside", "x", &fresh(next(), 300), &fresh(next(), 1000))?;
            slowest = slowest.max(one.elapsed());
        }
        let told = gc.join().unwrap_or_else(|_| bail!("gc panicked"))?;
        Ok((told, slowest))
    })?;
    Ok(format!(
        "{MANIFESTS} manifests with two blobs each, {half} of them deleted one by one ({:.0} s): collected in {:.1} s while pushes \
         went on, the slowest of which took {:.0} ms ({told}).",
        deleted.as_secs_f64(),
        began.elapsed().as_secs_f64(),
        slowest.as_secs_f64() * 1000.0
    ))
}
