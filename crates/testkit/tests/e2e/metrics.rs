//! What Prometheus reads.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
};
use testkit::{Cx, Daemon, cases, daemon::Options, suite::Case};

pub const CASES: &[Case] = cases![engine_and_containers_are_measured];

fn get(port: u16, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// Samples by name with labels.
fn samples(text: &str) -> BTreeMap<&str, f64> {
    text.lines()
        .filter(|l| !l.starts_with('#'))
        .map(|l| {
            let (name, value) = l.rsplit_once(' ').unwrap();
            (name, value.parse().unwrap())
        })
        .collect()
}

fn engine_and_containers_are_measured(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        testkit::cx::skip("needs a daemon of its own");
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("--metrics-addr=127.0.0.1:{port}");
    let daemon = Daemon::start(Options::new().args(&[&address])).unwrap();
    daemon.load_busybox().unwrap();
    let own = Cx::new(&daemon, "own");
    let options = ["--memory=64m", "--cpus=0.5", "-l=com.app.role=web"];
    let name = own.sleeper("a", &options);
    let id = own.inspect(&name)["Id"].as_str().unwrap().to_owned();
    let (head, text) = get(port, "/metrics");
    assert!(
        head.starts_with("HTTP/1.1 200") && head.contains("text/plain; version=0.0.4"),
        "{head}"
    );
    let all = samples(&text);
    let at = |name: &str| *all.get(name).unwrap_or_else(|| panic!("{name} in {text}"));
    assert_eq!(at("engine_daemon_container_states_containers{state=\"running\"}"), 1.0);
    assert_eq!(at("engine_daemon_container_states_containers{state=\"stopped\"}"), 0.0);
    assert_eq!(at("engine_daemon_container_actions_seconds_count{action=\"start\"}"), 1.0);
    assert!(at("engine_daemon_container_actions_seconds_sum{action=\"start\"}") > 0.0);
    assert!(at("engine_daemon_engine_cpus_cpus") >= 1.0 && at("engine_daemon_events_total") >= 2.0);
    assert!(at("process_resident_memory_bytes") > 1e6 && at("process_start_time_seconds") > 1.7e9);
    let info = all.keys().find(|k| k.starts_with("engine_daemon_engine_info{")).unwrap();
    assert!(info.contains("graphdriver=\"overlay2\"") && info.contains("daemon_id=\""), "{info}");
    let labels = format!(
        "container_label_com_app_role=\"web\",id=\"/docker/{id}\",image=\"busybox\",name=\"{name}\""
    );
    let of = |family: &str, more: &str| at(&format!("{family}{{{more}{labels}}}"));
    assert!(of("container_cpu_usage_seconds_total", "cpu=\"total\",") > 0.0);
    assert!(of("container_memory_usage_bytes", "") > 0.0);
    assert!(of("container_memory_working_set_bytes", "") <= of("container_memory_usage_bytes", ""));
    assert_eq!(of("container_spec_memory_limit_bytes", ""), 64.0 * 1024.0 * 1024.0);
    assert_eq!(of("container_spec_cpu_quota", ""), 50_000.0);
    assert!(of("container_threads", "") >= 1.0 && of("container_start_time_seconds", "") > 1.7e9);
    of("container_network_receive_bytes_total", "interface=\"eth0\",");
    assert!(get(port, "/").0.starts_with("HTTP/1.1 404"));
    own.docker(&["rm", "-f", &name]).ok();
    let (_, text) = get(port, "/metrics");
    assert!(!text.contains(&id), "removed containers are not told of");
    assert_eq!(
        samples(&text)["engine_daemon_container_actions_seconds_count{action=\"delete\"}"],
        1.0
    );
}
