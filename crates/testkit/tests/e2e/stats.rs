//! What containers use: `docker stats`, the stats endpoint, `docker top`.

use serde_json::Value;
use testkit::{Cx, cases, suite::Case};

pub const CASES: &[Case] = cases![
    one_sample_at_once,
    one_answer_holds_two_samples,
    samples_follow_each_other,
    figures_are_those_of_the_container,
    stopped_containers_answer_at_once,
    the_command_line_shows_them,
    networks_are_counted,
    top_takes_what_ps_takes,
];

fn path(name: &str, query: &str) -> String {
    format!("/v1.41/containers/{name}/stats?{query}")
}

fn one_sample_at_once(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &["--memory", "64m", "--pids-limit", "50"]);
    let s = cx.api().get(&path(&name, "stream=0&one-shot=1")).expect(200);
    assert_eq!(s["name"], format!("/{name}"));
    assert_eq!(s["id"], cx.inspect(&name)["Id"]);
    assert_eq!(s["preread"], "0001-01-01T00:00:00Z");
    assert_eq!(s["precpu_stats"]["cpu_usage"]["total_usage"], 0);
    assert!(s["precpu_stats"].get("system_cpu_usage").is_none());
    assert_eq!(s["memory_stats"]["limit"], 67_108_864);
    assert_eq!((&s["pids_stats"]["limit"], s["num_procs"].as_u64()), (&50.into(), Some(0)));
    for number in [
        "/cpu_stats/cpu_usage/total_usage",
        "/cpu_stats/system_cpu_usage",
        "/memory_stats/usage",
        "/pids_stats/current",
    ] {
        assert!(s.pointer(number).and_then(Value::as_u64).is_some_and(|n| n > 0), "{number}: {s}");
    }
    let processors = s["cpu_stats"]["online_cpus"].as_u64().unwrap();
    let v1 = std::fs::metadata("/sys/fs/cgroup/memory").is_ok();
    if v1 {
        let each = s["cpu_stats"]["cpu_usage"]["percpu_usage"].as_array().unwrap();
        assert!(each.len() as u64 >= processors);
        assert!(s["memory_stats"]["stats"]["total_inactive_file"].is_u64());
        assert!(s["blkio_stats"]["io_serviced_recursive"].is_array());
    } else {
        assert!(s["cpu_stats"]["cpu_usage"].get("percpu_usage").is_none());
        assert!(s["memory_stats"]["stats"]["inactive_file"].is_u64());
        assert!(s["blkio_stats"]["io_serviced_recursive"].is_null());
    }
    assert!(s["blkio_stats"]["io_service_bytes_recursive"].is_array());
}

fn one_answer_holds_two_samples(cx: &Cx<'_>) {
    let name = cx.start("a", &[], &["sh", "-c", "while :; do :; done"]);
    let s = cx.api().get(&path(&name, "stream=0")).expect(200);
    let of = |part: &str| s[part]["cpu_usage"]["total_usage"].as_u64().unwrap();
    assert!(of("precpu_stats") > 0 && of("cpu_stats") > of("precpu_stats"), "{s}");
    assert!(s["preread"].as_str() < s["read"].as_str() && s["preread"] != "0001-01-01T00:00:00Z");
}

fn samples_follow_each_other(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    let mut stream = cx.api().stream("GET", &path(&name, "stream=1"), false, &Value::Null);
    if cx.is_gantry() {
        assert_eq!(stream.head.header("Content-Type"), Some("application/json"));
    }
    let mut sample = || -> Value { serde_json::from_str(&stream.line().unwrap()).unwrap() };
    let (first, second) = (sample(), sample());
    assert_eq!(first["precpu_stats"]["cpu_usage"]["total_usage"], 0);
    assert_eq!(second["preread"], first["read"]);
    assert_eq!(second["precpu_stats"], first["cpu_stats"]);
    // The stream goes on over an end, and ends with the container.
    cx.docker(&["kill", &name]).ok();
    cx.until("a sample of nothing", || (sample()["read"] == "0001-01-01T00:00:00Z").then_some(()));
    cx.docker(&["rm", &name]).ok();
    while stream.line().is_some() {}
    cx.api().get(&path("none-such", "stream=0")).fails(404, &["No such container"]);
}

fn figures_are_those_of_the_container(cx: &Cx<'_>) {
    let name = cx.start("a", &["--cpus", "0.5"], &["sh", "-c", "dd if=/dev/zero of=/dev/shm/x bs=1M count=20 2>/dev/null; echo ready; while :; do :; done"]);
    cx.wait_for_log(&name, "ready");
    let s = cx.api().get(&path(&name, "stream=0")).expect(200);
    assert!(s["memory_stats"]["usage"].as_u64().unwrap() >= 20 << 20, "{s}");
    let delta = |part: &str| {
        let now = s["cpu_stats"].pointer(part).unwrap().as_u64().unwrap();
        (now - s["precpu_stats"].pointer(part).unwrap().as_u64().unwrap()) as f64
    };
    let share = delta("/cpu_usage/total_usage") / delta("/system_cpu_usage")
        * s["cpu_stats"]["online_cpus"].as_f64().unwrap();
    assert!(share > 0.0 && share < 1.0, "half a processor at most, and some slack: {share}");
    assert!(s["cpu_stats"]["throttling_data"]["periods"].as_u64().unwrap() > 0, "{s}");
}

fn stopped_containers_answer_at_once(cx: &Cx<'_>) {
    let name = cx.name("a");
    cx.docker(&["create", "--name", &name, "busybox", "true"]).ok();
    let s = cx.api().get(&path(&name, "stream=0")).expect(200);
    assert_eq!(
        (&s["read"], &s["name"]),
        (&"0001-01-01T00:00:00Z".into(), &format!("/{name}").into())
    );
    assert_eq!(s["memory_stats"], serde_json::json!({}));
}

fn the_command_line_shows_them(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &["--memory", "64m"]);
    let format = "{{.Name}} {{.MemUsage}} {{.PIDs}}";
    let text = cx.docker(&["stats", "--no-stream", "--format", format, &name]);
    assert!(text.ok().starts_with(&name) && text.ok().contains("/ 64MiB 2"), "{}", text.describe());
    cx.docker(&["stats", "--no-stream", "none-such"]).fails(1);
}

fn networks_are_counted(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    let counted = |name: &str| {
        cx.api().get(&path(name, "stream=0&one-shot=1")).expect(200)["networks"].clone()
    };
    cx.docker(&["exec", &name, "ping", "-c", "1", "-W", "5", "127.0.0.1"]).ok();
    let own = counted(&name);
    assert_eq!(own.as_object().unwrap().keys().collect::<Vec<_>>(), ["eth0"]);
    assert!(own["eth0"]["rx_bytes"].is_u64() && own["eth0"]["tx_dropped"].is_u64());
    let sharer = cx.sleeper("b", &["--network", &format!("container:{name}")]);
    if cx.is_gantry() {
        assert!(counted(&sharer)["eth0"].is_object());
    }
    for mode in ["host", "none"] {
        let bare = cx.sleeper(mode, &["--network", mode]);
        assert!(counted(&bare).as_object().is_none_or(|n| n.is_empty()), "{mode}");
    }
}

fn top_takes_what_ps_takes(cx: &Cx<'_>) {
    let name = cx.start("a", &["--init"], &["sh", "-c", "sleep 600 & wait"]);
    cx.until("the second process runs", || {
        cx.docker(&["top", &name]).ok().contains("sleep 600").then_some(())
    });
    for (arguments, titles) in [
        (vec![], "UID PID PPID C STIME TTY TIME CMD"),
        (vec!["-ef"], "UID PID PPID C STIME TTY TIME CMD"),
        (vec!["-e", "-f"], "UID PID PPID C STIME TTY TIME CMD"),
        (vec!["aux"], "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"),
        (vec!["-eo", "pid,comm"], "PID COMMAND"),
        (vec!["-o", "pid", "-o", "ppid,args=WHAT"], "PID PPID WHAT"),
        (vec!["axo", "pid,%cpu,rss,etime"], "PID %CPU RSS ELAPSED"),
    ] {
        let output = cx.docker(&[&["top", &name], &arguments[..]].concat());
        let mut lines = output.lines().into_iter();
        let head: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
        assert_eq!(head.join(" "), titles, "{arguments:?}: {}", output.describe());
        assert_eq!(lines.count(), 3, "{arguments:?}: {}", output.describe());
    }
    if cx.is_gantry() {
        for (arguments, titles) in [
            (vec!["-eF"], "UID PID PPID C SZ RSS PSR STIME TTY TIME CMD"),
            (vec!["-el"], "F S UID PID PPID C PRI NI ADDR SZ WCHAN TTY TIME CMD"),
            (vec!["-ej"], "PID PGID SID TTY TIME CMD"),
            (vec!["-eLf"], "UID PID PPID LWP C NLWP STIME TTY TIME CMD"),
            (vec!["-efww", "--sort=-pid"], "UID PID PPID C STIME TTY TIME CMD"),
            (vec!["-eo", "pid,psr,wchan:20,lstart,user:32"], "PID PSR WCHAN STARTED USER"),
        ] {
            let output = cx.docker(&[&["top", &name], &arguments[..]].concat());
            let head: Vec<&str> = output.lines()[0].split_whitespace().collect();
            assert_eq!(head.join(" "), titles, "{arguments:?}");
        }
        let pids: Vec<i64> = cx.docker(&["top", &name, "-eo", "pid", "--sort", "-pid"]).lines()
            [1..]
            .iter()
            .map(|l| l.trim().parse().unwrap())
            .collect();
        assert!(pids.is_sorted_by(|a, b| a > b), "{pids:?}");
    }
    cx.docker(&["top", &name, "-eo", "comm"]).fails_with(1, &["Couldn't find PID field"]);
    cx.docker(&["top", &name, "--nonsense"]).fails(1);
    cx.docker(&["kill", &name]).ok();
    cx.docker(&["top", &name]).fails_with(1, &["is not running"]);
}
