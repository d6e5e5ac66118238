//! `--metrics-addr`: what Prometheus reads, at `/metrics`.
//!
//! The engine's families have dockerd's names, those of containers cAdvisor's, so that dashboards of both
//! work and no further container is needed. Families of Go's run time have no meaning here and are absent.
//! Not here: how things are measured (the engine).

mod actions;
mod containers;
mod text;

pub(crate) use actions::Actions;

use base::Timestamp;
use engine::{Engine, metrics::Snapshot};
use http::{Method, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{
    Request,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, sync::Arc, time::Duration};
use text::{Text, labels};
use tokio::net::TcpStream;

/// A reader of metrics must say what it wants within this time.
const HEAD: Duration = Duration::from_secs(10);

/// Answers requests on one connection.
pub(crate) async fn connection(stream: TcpStream, engine: Arc<Engine>, actions: Arc<Actions>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (engine, actions) = (Arc::clone(&engine), Arc::clone(&actions));
        async move { Ok::<_, Infallible>(answer(&request, &engine, &actions).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(err) = served.await {
        tracing::debug!(err = base::error::chain(&err), "a reader of metrics left");
    }
}

async fn answer(
    request: &Request<Incoming>,
    engine: &Arc<Engine>,
    actions: &Actions,
) -> Response<Full<Bytes>> {
    let (status, kind, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            let text = write(&engine.metrics().await, actions);
            (StatusCode::OK, text::TYPE, text)
        }
        _ => (StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found\n".into()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

fn write(now: &Snapshot, actions: &Actions) -> String {
    let mut text = Text::default();
    let (begun, failed) = now.builds;
    text.one(
        "builder_builds_triggered_total",
        "counter",
        "Number of triggered image builds",
        begun as f64,
    );
    text.family("builder_builds_failed_total", "counter", "Number of failed image builds");
    text.sample(
        "builder_builds_failed_total",
        &labels(&[("reason", "build_failed")]),
        failed as f64,
    );
    actions.write(&mut text);
    let name = "engine_daemon_container_states_containers";
    text.family(name, "gauge", "The count of containers in various states");
    for (state, count) in now.states {
        text.sample(name, &labels(&[("state", state)]), count as f64);
    }
    text.one(
        "engine_daemon_engine_cpus_cpus",
        "gauge",
        "The number of cpus that the host system of the engine has",
        now.processors as f64,
    );
    let name = "engine_daemon_engine_info";
    text.family(name, "gauge", "The information related to the engine and the OS it is running on");
    let facts: Vec<(&str, &str)> = now.facts.iter().map(|(k, v)| (*k, v.as_str())).collect();
    text.sample(name, &labels(&facts), 1.0);
    text.one(
        "engine_daemon_engine_memory_bytes",
        "gauge",
        "The number of bytes of memory that the host system of the engine has",
        now.memory_bytes as f64,
    );
    text.one(
        "engine_daemon_events_subscribers_total",
        "gauge",
        "The number of current subscribers to events",
        now.listeners as f64,
    );
    text.one(
        "engine_daemon_events_total",
        "counter",
        "The number of events logged",
        now.events as f64,
    );
    let (run, failed) = now.probes;
    text.one(
        "engine_daemon_health_checks_total",
        "counter",
        "The total number of health checks",
        run as f64,
    );
    text.one(
        "engine_daemon_health_checks_failed_total",
        "counter",
        "The total number of failed health checks",
        failed as f64,
    );
    process(&mut text);
    containers::write(&mut text, &now.containers, Timestamp::now());
    text.finish()
}

/// The daemon's own process, in the names of Prometheus' client libraries.
fn process(text: &mut Text) {
    /// Kernel ticks are hundredths of a second for user space.
    const TICKS: f64 = 100.0;
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let stat = read("/proc/self/stat");
    // The name, which may hold anything, ends with the last parenthesis.
    let fields: Vec<f64> = stat
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_ascii_whitespace()
        .map(|n| n.parse().unwrap_or(0.0))
        .collect();
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0.0);
    let booted: f64 = read("/proc/stat")
        .lines()
        .find_map(|l| l.strip_prefix("btime ")?.trim().parse().ok())
        .unwrap_or(0.0);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let status = read("/proc/self/status");
    let bytes = |key: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(key)).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse().unwrap_or(0.0) * 1024.0
    };
    for (name, kind, help, value) in [
        (
            "process_cpu_seconds_total",
            "counter",
            "Total user and system CPU time spent in seconds.",
            (field(14) + field(15)) / TICKS,
        ),
        ("process_open_fds", "gauge", "Number of open file descriptors.", open as f64),
        (
            "process_max_fds",
            "gauge",
            "Maximum number of open file descriptors.",
            limit.unwrap_or(u64::MAX) as f64,
        ),
        (
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory size in bytes.",
            bytes("VmRSS:"),
        ),
        (
            "process_virtual_memory_bytes",
            "gauge",
            "Virtual memory size in bytes.",
            bytes("VmSize:"),
        ),
        (
            "process_start_time_seconds",
            "gauge",
            "Start time of the process since unix epoch in seconds.",
            booted + field(22) / TICKS,
        ),
    ] {
        text.one(name, kind, help, value);
    }
}
