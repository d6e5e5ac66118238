//! Containers and clients that want too much: memory, log, names of everything. Others do not notice.

use serde_json::json;
use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::{fs::MetadataExt as _, net::UnixStream},
    path::{Path, PathBuf},
    thread,
};
use testkit::{
    Cx, Daemon, cases,
    cx::skip,
    daemon::Options,
    host,
    invariants::{Invariants, docker},
    suite::Case,
};

pub const CASES: &[Case] = cases![
    alone:
    out_of_memory_ends_one_container_and_no_other,
    a_daemon_without_memory_dies_alone,
    floods_of_logs_stay_bounded_and_whole_without_a_daemon,
    huge_labels_and_environments_are_taken_or_refused_in_time,
];

fn own(cx: &Cx<'_>) -> Daemon {
    if !cx.is_gantry() {
        skip("needs a daemon of its own");
    }
    let daemon = Daemon::start(Options::new()).unwrap();
    daemon.load_busybox().unwrap();
    daemon
}

fn out_of_memory_ends_one_container_and_no_other(cx: &Cx<'_>) {
    let daemon = own(cx);
    let invariants = Invariants::prepare(&daemon, &["none"]).unwrap();
    let hog = "x=a; while :; do x=$x$x; done";
    for round in 0..4 {
        let name = format!("hog{round}");
        let memory = ["--memory", "16m", "--memory-swap", "16m"];
        let words = [&["run", "-d", "--name", &name], &memory[..], &["busybox", "sh", "-c", hog]];
        docker(&daemon, &words.concat()).unwrap();
    }
    for round in 0..4 {
        let name = format!("hog{round}");
        assert_eq!(docker(&daemon, &["wait", &name]).unwrap(), "137");
        let state = daemon.api().get(&format!("/containers/{name}/json")).expect(200);
        assert_eq!(state["State"]["OOMKilled"], true, "{}", state["State"]);
    }
    // A child that is killed ends a command, not the container: its own main process lives.
    let bears = "sleep 600 & while :; do sh -c 'x=a; while :; do x=$x$x; done'; echo again; done";
    docker(
        &daemon,
        &[
            "run",
            "-d",
            "--name",
            "bears",
            "-m",
            "16m",
            "--memory-swap",
            "16m",
            "busybox",
            "sh",
            "-c",
            bears,
        ],
    )
    .unwrap();
    let own = Cx::new(&daemon, "own");
    own.until("a child was killed twice", || {
        let logs = docker(&daemon, &["logs", "bears"]).unwrap();
        (logs.matches("again").count() >= 2).then_some(())
    });
    assert_eq!(own.inspect("bears")["State"]["Running"], true);
    invariants.check(&daemon).unwrap();
}

/// A memory limit of 8 MB for one process, until this is dropped.
struct Narrow {
    group: PathBuf,
}

impl Narrow {
    fn new(cx: &Cx<'_>, pid: i32) -> Self {
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let (tree, limit) = match v1.exists() {
            true => (v1, "memory.limit_in_bytes"),
            false => (Path::new("/sys/fs/cgroup"), "memory.max"),
        };
        let narrow = Self { group: tree.join(cx.name("narrow")) };
        fs::create_dir(&narrow.group).unwrap();
        fs::write(narrow.group.join(limit), "8388608").unwrap();
        fs::write(narrow.group.join("cgroup.procs"), pid.to_string()).unwrap();
        narrow
    }
}

impl Drop for Narrow {
    fn drop(&mut self) {
        let name = self.group.file_name().unwrap_or_default().to_string_lossy();
        host::remove_control_groups(&name);
    }
}

/// The kernel ends the daemon for want of memory in the middle of requests: containers go on, and the next one knows all.
fn a_daemon_without_memory_dies_alone(cx: &Cx<'_>) {
    let daemon = own(cx);
    let own = Cx::new(&daemon, "own");
    let invariants = Invariants::prepare(&daemon, &["none"]).unwrap();
    let script = "n=0; while :; do n=$((n+1)); echo $n; sleep 0.1; done";
    docker(&daemon, &["run", "-d", "--name", "lives", "busybox", "sh", "-c", script]).unwrap();
    let before = own.inspect("lives")["State"].clone();
    let narrow = Narrow::new(cx, daemon.pid().unwrap());
    let socket = daemon.socket().to_owned();
    thread::scope(|scope| {
        for n in 0..8 {
            let socket = &socket;
            scope.spawn(move || {
                let huge = "l".repeat(12 << 20);
                let body = json!({"Image": "busybox", "Labels": {"huge": huge}}).to_string();
                let head = format!(
                    "POST /containers/create?name=huge{n} HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                // It breaks off when the daemon dies.
                let Ok(mut stream) = UnixStream::connect(socket) else { return };
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
                let _ = stream.read(&mut [0; 64]);
            });
        }
    });
    assert_eq!(daemon.wait().unwrap(), 137, "the kernel has killed it");
    drop(narrow);
    daemon.start_again().unwrap();
    let after = own.inspect("lives")["State"].clone();
    assert_eq!((&after["Running"], &after["Pid"]), (&json!(true), &before["Pid"]));
    let logs = docker(&daemon, &["logs", "lives"]).unwrap();
    let numbers: Vec<u64> = logs.lines().map(|l| l.parse().unwrap()).collect();
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "a line is lost: {logs}");
    own.docker(&["exec", "lives", "true"]).ok();
    own.docker(&["rm", "-f", "lives"]).ok();
    invariants.check(&daemon).unwrap();
}

/// The log of a container and what it was rotated to.
fn files(daemon: &Daemon, id: &str) -> Vec<PathBuf> {
    let dir = daemon.path("root/containers").join(id);
    let all = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    all.filter(|p| p.to_string_lossy().contains("-json.log")).collect()
}

fn last_number(log: &Path) -> Option<u64> {
    let text = fs::read_to_string(log).ok()?;
    let line = text.lines().rfind(|l| l.ends_with('}'))?;
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    line["log"].as_str()?.trim_end().parse().ok()
}

fn floods_of_logs_stay_bounded_and_whole_without_a_daemon(cx: &Cx<'_>) {
    let daemon = own(cx);
    let own = Cx::new(&daemon, "own");
    let rotate = ["--log-opt", "max-size=1m", "--log-opt", "max-file=3"];
    let flood = |_: usize| {
        let words = [&["run", "-d"], &rotate[..], &["busybox", "seq", "1", "900000000"]].concat();
        docker(&daemon, &words).unwrap()
    };
    let ids: Vec<String> = (0..3).map(flood).collect();
    let rotated = |id: &String| files(&daemon, id).len() == 3;
    own.until("all were rotated twice", || ids.iter().all(rotated).then_some(()));
    daemon.kill().unwrap();
    for id in &ids {
        let log = daemon.path("root/containers").join(id).join(format!("{id}-json.log"));
        let now = || own.until("a number is written", || last_number(&log));
        let before = now();
        // Each megabyte holds some twelve thousand lines: they go on being written and thrown away.
        own.until("the flood goes on", || (now() > before + 100_000).then_some(()));
        // One may be rotated away meanwhile.
        let sizes = files(&daemon, id).into_iter().filter_map(|f| fs::metadata(f).ok());
        let bytes: u64 = sizes.map(|m| m.size()).sum();
        // A listing in the middle of a rotation may show a file under both of its names.
        assert!(bytes <= 4 * 1_030_000, "{bytes}");
    }
    daemon.start_again().unwrap();
    for id in &ids {
        docker(&daemon, &["kill", id]).unwrap();
        docker(&daemon, &["wait", id]).unwrap();
        let logs = docker(&daemon, &["logs", id]).unwrap();
        // The kill may have come in the middle of the last line.
        let whole = logs.rsplit_once('\n').unwrap().0;
        let mut numbers = whole.lines().map(|l| l.parse::<u64>().unwrap());
        let first = numbers.next().unwrap();
        for (number, wanted) in numbers.zip(first + 1..) {
            assert_eq!(number, wanted, "{id}");
        }
        assert!(first > 1, "nothing was thrown away");
    }
}

fn huge_labels_and_environments_are_taken_or_refused_in_time(cx: &Cx<'_>) {
    let daemon = own(cx);
    let api = daemon.api();
    let huge = "l".repeat(4 << 20);
    let many: Vec<String> = (0..20_000).map(|n| format!("VARIABLE_{n}=value {n}")).collect();
    let labels: serde_json::Map<_, _> =
        (0..5_000).map(|n| (format!("label.{n}"), json!(format!("{n}")))).collect();
    let body = json!({
        "Image": "busybox",
        "Cmd": ["sh", "-c", "env | grep -c ^VARIABLE_"],
        "Labels": {"huge": huge},
        "Env": many,
        "HostConfig": {"NetworkMode": "none"},
    });
    api.post("/containers/create?name=huge", &body).expect(201);
    let body = json!({"Image": "busybox", "Cmd": ["true"], "Labels": labels});
    api.post("/containers/create?name=many", &body).expect(201);
    docker(&daemon, &["start", "huge", "many"]).unwrap();
    assert_eq!(docker(&daemon, &["wait", "huge"]).unwrap(), "0");
    assert_eq!(docker(&daemon, &["logs", "huge"]).unwrap(), "20000");
    let shown = api.get("/containers/huge/json").expect(200);
    assert_eq!(shown["Config"]["Labels"]["huge"].as_str().map(str::len), Some(4 << 20));
    let found = docker(&daemon, &["ps", "-aq", "--filter", "label=label.4999=4999"]).unwrap();
    assert_eq!(found.lines().count(), 1);
    // Beyond what the kernel takes for one word or all words: an answer, and nothing left running.
    let word = format!("WORD={}", "w".repeat(200 << 10));
    let heap: Vec<String> = (0..200).map(|n| format!("N{n}={}", "h".repeat(100 << 10))).collect();
    for (name, env) in [("word", vec![word]), ("heap", heap)] {
        let body = json!({"Image": "busybox", "Cmd": ["true"], "Env": env});
        let created = api.post(&format!("/containers/create?name={name}"), &body);
        if created.status() == 201 {
            let started = api.post(&format!("/containers/{name}/start"), &json!(null));
            assert!((400..=500).contains(&started.status()), "{name}: {}", started.status());
            assert!(started.text().contains("too long"), "{name}: {}", started.text());
        }
    }
    // 64 MiB of a body that never becomes a container.
    let body =
        format!("{{\"Image\":\"busybox\",\"Labels\":{{\"x\":\"{}\"}}}}", "y".repeat(64 << 20));
    let head = format!(
        "POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    if let Ok(answer) = api.raw(format!("{head}{body}").as_bytes()) {
        assert!((400..=413).contains(&answer.status()), "{}", answer.status());
    }
    assert!(daemon.answers());
    for name in ["huge", "many", "word", "heap"] {
        docker(&daemon, &["rm", "-f", name]).unwrap();
    }
}
