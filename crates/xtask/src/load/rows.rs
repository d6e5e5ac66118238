//! What is loaded, with which numbers, and what is measured.

use crate::bench::contestant::Contestant;
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::{
    io::{Read as _, Write as _},
    net::UdpSocket,
    os::unix::net::UnixStream,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// One row.
pub(super) struct Row {
    pub(super) name: &'static str,
    /// `/s` and `MB/s` are better when more, all others when less.
    pub(super) unit: &'static str,
    pub(super) wanted: &'static str,
    /// How many there are of whatever the row is about.
    pub(super) count: u64,
    pub(super) measure: fn(&Contestant, usize) -> Result<f64>,
}

impl Row {
    pub(super) fn more_is_better(&self) -> bool {
        self.unit.ends_with("/s")
    }
}

pub(super) static ROWS: &[Row] = &[
    Row {
        name: "lifecycles, 1 client, bridge",
        unit: "/s",
        wanted: "40",
        count: 60,
        measure: |c, n| lifecycles(c, 1, n, "bridge"),
    },
    Row {
        name: "lifecycles, 4 clients, bridge",
        unit: "/s",
        wanted: "",
        count: 120,
        measure: |c, n| lifecycles(c, 4, n, "bridge"),
    },
    Row {
        name: "lifecycles, 8 clients, no network",
        unit: "/s",
        wanted: "150",
        count: 200,
        measure: |c, n| lifecycles(c, 8, n, "none"),
    },
    Row {
        name: "lifecycles, 32 clients, host's network",
        unit: "/s",
        wanted: "",
        count: 200,
        measure: |c, n| lifecycles(c, 32, n, "host"),
    },
    Row {
        name: "300 idle containers are started by 8 clients",
        unit: "s",
        wanted: "15 s",
        count: 300,
        measure: |c, n| seconds(|| idle(c, n, "bridge")),
    },
    Row { name: "list of 300, p99", unit: "ms", wanted: "20 ms", count: 300, measure: list },
    Row {
        name: "280 are removed by 4 clients",
        unit: "s",
        wanted: "3 s",
        count: 280,
        measure: |c, n| {
            idle(c, n, "bridge")?;
            seconds(|| removals(c, n, 4))
        },
    },
    Row { name: "execs by 16 clients", unit: "/s", wanted: "", count: 320, measure: execs },
    Row {
        name: "json-file, lines of 100 bytes in",
        unit: "MB/s",
        wanted: "100 MB/s",
        count: 100,
        measure: logs_in,
    },
    Row {
        name: "json-file, lines of 100 bytes out",
        unit: "MB/s",
        wanted: "100 MB/s",
        count: 100,
        measure: logs_out,
    },
    Row {
        name: "an event reaches the last of 200 subscribers, p99",
        unit: "ms",
        wanted: "",
        count: 200,
        measure: subscribers,
    },
    Row {
        name: "ping beside 10,000 idle connections, p99",
        unit: "ms",
        wanted: "50 ms",
        count: 10_000,
        measure: |c, n| Ok(connections(c, n)?.0),
    },
    Row {
        name: "memory of 10,000 idle connections",
        unit: "MB",
        wanted: "150 MB",
        count: 10_000,
        measure: |c, n| Ok(connections(c, n)?.1),
    },
    Row {
        name: "500 ports published by one container: start",
        unit: "s",
        wanted: "",
        count: 500,
        measure: ports,
    },
    Row {
        name: "names of neighbours, 4 clients",
        unit: "/s",
        wanted: "20,000 /s",
        count: 20_000,
        measure: names,
    },
];

/// Does `what` for every number below `count` by `clients` threads; the first error.
fn by_many(clients: usize, count: usize, what: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let stop = failed.lock().is_ok_and(|f| f.is_some());
                    if n >= count || stop {
                        return;
                    }
                    if let Err(e) = what(n)
                        && let Ok(mut failed) = failed.lock()
                    {
                        *failed = Some(e);
                    }
                }
            });
        }
    });
    failed.into_inner().ok().flatten().map_or(Ok(()), Err)
}

fn seconds(what: impl FnOnce() -> Result<()>) -> Result<f64> {
    let began = Instant::now();
    what()?;
    Ok(began.elapsed().as_secs_f64())
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn rate(count: usize, what: impl FnOnce() -> Result<()>) -> Result<f64> {
    Ok(count as f64 / seconds(what)?)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The 99th of a hundred.
fn p99(mut samples: Vec<Duration>) -> f64 {
    samples.sort();
    let at = (samples.len() * 99 / 100).min(samples.len().saturating_sub(1));
    samples.get(at).copied().map_or(f64::NAN, milliseconds)
}

fn started(c: &Contestant, name: &str, body: &Value) -> Result<String> {
    let api = c.api();
    let made = api.post(&format!("/v1.41/containers/create?name={name}"), body);
    ensure!(made.status() == 201, "create: {}", made.text());
    let id = made.json()["Id"].as_str().unwrap_or_default().to_owned();
    let start = api.post(&format!("/v1.41/containers/{id}/start"), &Value::Null);
    ensure!(start.status() == 204, "start: {}", start.text());
    Ok(id)
}

fn removed(c: &Contestant, name: &str) -> Result<()> {
    let answer = c.api().delete(&format!("/v1.41/containers/{name}?force=1&v=1"));
    ensure!(matches!(answer.status(), 204 | 404 | 409), "remove: {}", answer.text());
    Ok(())
}

fn lifecycles(c: &Contestant, clients: usize, count: usize, network: &str) -> Result<f64> {
    let body = json!({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"NetworkMode": network}});
    rate(count, || {
        by_many(clients, count, |n| {
            let id = started(c, &format!("l{n}"), &body)?;
            let wait = c.api().post(&format!("/v1.41/containers/{id}/wait"), &Value::Null);
            ensure!(wait.json()["StatusCode"] == 0, "wait: {}", wait.text());
            removed(c, &id)
        })
    })
}

fn idle(c: &Contestant, count: usize, network: &str) -> Result<()> {
    let body = json!({"Image": "busybox", "Cmd": ["sleep", "3600"], "HostConfig": {"NetworkMode": network}});
    by_many(8, count, |n| started(c, &format!("i{n}"), &body).map(drop))
}

fn removals(c: &Contestant, count: usize, clients: usize) -> Result<()> {
    by_many(clients, count, |n| removed(c, &format!("i{n}")))
}

fn list(c: &Contestant, count: usize) -> Result<f64> {
    idle(c, count, "none")?;
    let mut samples = Vec::new();
    for _ in 0..200 {
        let began = Instant::now();
        let answer = c.api().get("/v1.41/containers/json");
        samples.push(began.elapsed());
        ensure!(answer.json().as_array().is_some_and(|l| l.len() == count), "{}", answer.text());
    }
    Ok(p99(samples))
}

fn execs(c: &Contestant, count: usize) -> Result<f64> {
    started(c, "bench", &json!({"Image": "busybox", "Cmd": ["sleep", "3600"]}))?;
    rate(count, || by_many(16, count, |_| c.exec()))
}

/// A container that writes so many MB of lines of 100 bytes and ends; its name.
fn wrote(c: &Contestant, megabytes: usize) -> Result<&'static str> {
    let line = "x".repeat(99);
    let script = format!("yes {line} | head -c {}", megabytes * 1_000_000);
    started(
        c,
        "writer",
        &json!({"Image": "busybox", "Cmd": ["sh", "-c", script], "HostConfig": {"NetworkMode": "none"}}),
    )?;
    let wait = c.api().post("/v1.41/containers/writer/wait", &Value::Null);
    ensure!(wait.json()["StatusCode"] == 0, "wait: {}", wait.text());
    Ok("writer")
}

fn logs_in(c: &Contestant, megabytes: usize) -> Result<f64> {
    rate(megabytes, || wrote(c, megabytes).map(drop))
}

fn logs_out(c: &Contestant, megabytes: usize) -> Result<f64> {
    let name = wrote(c, megabytes)?;
    rate(megabytes, || {
        let path = format!("/v1.41/containers/{name}/logs?stdout=1");
        let mut stream = c.api().stream("GET", &path, false, &Value::Null);
        let mut buffer = vec![0; 1 << 20];
        let mut total = 0;
        loop {
            match stream.read(&mut buffer)? {
                0 => break,
                n => total += n,
            }
        }
        ensure!(total >= megabytes * 1_000_000, "only {total} bytes came");
        Ok(())
    })
}

fn subscribers(c: &Contestant, count: usize) -> Result<f64> {
    let mut readers: Vec<_> =
        (0..count).map(|_| c.api().stream("GET", "/v1.41/events", false, &Value::Null)).collect();
    let mut samples = Vec::new();
    for n in 0..50 {
        let path = format!("/v1.41/images/busybox/tag?repo=load&tag=t{n}");
        let began = Instant::now();
        ensure!(c.api().post(&path, &Value::Null).status() == 201, "tag");
        for reader in &mut readers {
            reader.line().context("a subscriber was hung up on")?;
        }
        samples.push(began.elapsed());
    }
    Ok(p99(samples))
}

/// 99th of a ping, and what memory grew by.
fn connections(c: &Contestant, count: usize) -> Result<(f64, f64)> {
    let before = c.private_memory()?.0;
    let mut held = Vec::new();
    while held.len() < count {
        let mut stream = UnixStream::connect(c.daemon.socket())
            .with_context(|| format!("only {} connections are taken", held.len()))?;
        stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: x\r\n")?;
        held.push(stream);
    }
    let mut samples = Vec::new();
    for _ in 0..300 {
        let began = Instant::now();
        ensure!(c.daemon.answers(), "no answer beside {} connections", held.len());
        samples.push(began.elapsed());
    }
    Ok((p99(samples), (c.private_memory()?.0 - before) / 1e6))
}

fn ports(c: &Contestant, count: usize) -> Result<f64> {
    let (mut exposed, mut bound) = (serde_json::Map::new(), serde_json::Map::new());
    for n in 0..count {
        let key = format!("{}/tcp", 1000 + n);
        exposed.insert(key.clone(), json!({}));
        bound.insert(key, json!([{"HostIp": "127.0.0.1", "HostPort": ""}]));
    }
    let body = json!({"Image": "busybox", "Cmd": ["sleep", "3600"], "ExposedPorts": exposed, "HostConfig": {"PortBindings": bound}});
    seconds(|| started(c, "ports", &body).map(drop))
}

/// Questions that busybox's own resolver asks, many in one exec: what the engine's server of names answers.
fn names(c: &Contestant, count: usize) -> Result<f64> {
    let made = c.api().post("/v1.41/networks/create", &json!({"Name": "load"}));
    ensure!(made.status() == 201, "network: {}", made.text());
    let body = json!({"Image": "busybox", "Cmd": ["sleep", "3600"], "HostConfig": {"NetworkMode": "load"}});
    let id = started(c, "neighbour", &body)?;
    let pid = c.api().get(&format!("/v1.41/containers/{id}/json")).json()["State"]["Pid"].clone();
    let outcome = asked_inside(&pid.to_string(), count);
    removed(c, &id)?;
    ensure!(c.api().delete("/v1.41/networks/load").status() == 204, "the network does not go");
    outcome
}

/// Asks from inside the network namespace of process `pid`, four at once; so many per second.
fn asked_inside(pid: &str, count: usize) -> Result<f64> {
    let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net"))?;
    rate(count, || {
        thread::scope(|scope| {
            let asking: Vec<_> =
                (0..4).map(|_| scope.spawn(|| ask(&namespace, count / 4))).collect();
            asking.into_iter().try_for_each(|a| {
                a.join().unwrap_or_else(|_| anyhow::bail!("asking for a name panicked"))
            })
        })
    })
}

fn ask(namespace: &std::fs::File, count: usize) -> Result<()> {
    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
    use std::os::fd::AsFd as _;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.connect("127.0.0.11:53")?;
    let mut question = b"\0\0\x01\0\0\x01\0\0\0\0\0\0\x09neighbour\0\0\x01\0\x01".to_vec();
    let mut answer = [0; 512];
    for n in 0..count {
        question[..2].copy_from_slice(&u16::try_from(n % 65_536)?.to_be_bytes());
        socket.send(&question)?;
        let length = socket.recv(&mut answer).context("no answer for a name")?;
        ensure!(length > 12 && answer[7] == 1, "no address is answered");
    }
    Ok(())
}
