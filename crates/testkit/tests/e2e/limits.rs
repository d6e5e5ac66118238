//! Resources, devices and security options: what reaches the kernel, what it lacks, what is refused.

use serde_json::{Value, json};
use testkit::{Cx, Daemon, cases, cx::skip, daemon::Options, http::Response, suite::Case};

pub const CASES: &[Case] = cases![
    rates_of_block_devices_reach_the_kernel,
    realtime_reaches_the_kernel_or_is_warned_of,
    swappiness_and_oom_switch,
    what_the_kernel_lacks_is_warned_of,
    negative_and_contradicting_limits_are_refused,
    processors_that_are_not_there_are_refused,
    devices_by_rule,
    devices_by_name,
    security_options_in_all_forms,
    namespaces_of_the_host_and_of_others,
    containers_without_network,
    runtimes_and_drivers_by_name,
    annotations_and_isolation,
    large_environments_and_many_labels,
    nothing_half_made_stays,
];

fn create(cx: &Cx<'_>, part: &str, config: &Value, host: &Value) -> Response {
    let mut body = json!({"Image": "busybox", "Cmd": ["true"], "HostConfig": host});
    for (key, value) in config.as_object().unwrap() {
        body[key] = value.clone();
    }
    let version = if cx.is_gantry() { "v1.51" } else { "v1.41" };
    cx.api().post(&format!("/{version}/containers/create?name={}", cx.name(part)), &body)
}

fn refused(cx: &Cx<'_>, host: &Value, text: &str) {
    let answer = create(cx, "refused", &json!({}), host);
    let status = if cx.is_gantry() { 400 } else { answer.status() };
    answer.fails(status, &[text]);
}

/// A file of the container's control group, v1's or v2's.
fn group(cx: &Cx<'_>, name: &str, v1: &str, v2: &str) -> String {
    let script = format!("cat /sys/fs/cgroup/{v1} 2>/dev/null || cat /sys/fs/cgroup/{v2}");
    cx.docker(&["exec", name, "sh", "-c", &script]).ok().to_owned()
}

fn v1() -> bool {
    std::path::Path::new("/sys/fs/cgroup/memory").exists()
}

/// A whole block device of the host.
fn disk() -> String {
    ["/dev/vda", "/dev/sda", "/dev/nvme0n1", "/dev/loop0"]
        .into_iter()
        .find(|d| std::path::Path::new(d).exists())
        .unwrap_or_else(|| skip("the host has no block device"))
        .to_owned()
}

fn rates_of_block_devices_reach_the_kernel(cx: &Cx<'_>) {
    let disk = disk();
    let name = cx.sleeper(
        "a",
        &[
            "--device-read-bps",
            &format!("{disk}:2mb"),
            "--device-write-bps",
            &format!("{disk}:3mb"),
            "--device-read-iops",
            &format!("{disk}:40"),
            "--device-write-iops",
            &format!("{disk}:50"),
        ],
    );
    if v1() {
        for (file, rate) in [
            ("read_bps", "2097152"),
            ("write_bps", "3145728"),
            ("read_iops", "40"),
            ("write_iops", "50"),
        ] {
            let text = group(cx, &name, &format!("blkio/blkio.throttle.{file}_device"), "none");
            assert!(text.ends_with(rate), "{file}: {text}");
        }
    } else {
        let text = group(cx, &name, "none", "io.max");
        for part in ["rbps=2097152", "wbps=3145728", "riops=40", "wiops=50"] {
            assert!(text.contains(part), "{text}");
        }
    }
    let throttle = |path: &str| json!({"BlkioDeviceReadBps": [{"Path": path, "Rate": 5}]});
    if cx.is_gantry() {
        refused(cx, &throttle("/dev/none-such"), "/dev/none-such");
        refused(cx, &throttle("/dev/null"), "not a block device");
        refused(
            cx,
            &json!({"BlkioWeightDevice": [{"Path": disk, "Weight": 5}]}),
            "from 10 to 1000",
        );
    }
    refused(cx, &json!({"BlkioWeight": 5}), "from 10 to 1000");
}

fn realtime_reaches_the_kernel_or_is_warned_of(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        return; // dockerd wants a setting of its own for it
    }
    let host = json!({"CpuRealtimePeriod": 1_000_000, "CpuRealtimeRuntime": 50_000});
    let config = json!({"Cmd": ["sleep", "600"]});
    let answer = create(cx, "a", &config, &host).expect(201);
    let there = std::path::Path::new("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists();
    if !there {
        assert!(answer["Warnings"][0].as_str().unwrap().contains("real-time"), "{answer}");
        return;
    }
    cx.docker(&["start", &cx.name("a")]).ok();
    assert_eq!(group(cx, &cx.name("a"), "cpu/cpu.rt_runtime_us", "none"), "50000");
    refused(cx, &json!({"CpuRealtimePeriod": 10, "CpuRealtimeRuntime": 20}), "cannot be higher");
}

fn swappiness_and_oom_switch(cx: &Cx<'_>) {
    let options = ["--memory", "64m", "--memory-swappiness", "7", "--oom-kill-disable"];
    let output = cx.docker(
        &[&["create", "--name", &cx.name("a")], &options[..], &["busybox", "sleep", "600"]]
            .concat(),
    );
    output.ok();
    if v1() {
        cx.docker(&["start", &cx.name("a")]).ok();
        assert_eq!(group(cx, &cx.name("a"), "memory/memory.swappiness", "none"), "7");
        let text = group(cx, &cx.name("a"), "memory/memory.oom_control", "none");
        assert!(text.contains("oom_kill_disable 1"), "{text}");
        let bare = cx.docker(&["create", "--name", &cx.name("b"), "--oom-kill-disable", "busybox"]);
        assert!(
            bare.stderr.contains("OOM killer is disabled for the container"),
            "{}",
            bare.describe()
        );
    } else {
        assert!(output.stderr.contains("does not support OomKillDisable"), "{}", output.describe());
        assert!(output.stderr.contains("memory swappiness"), "{}", output.describe());
    }
    refused(cx, &json!({"MemorySwappiness": 101}), "valid memory swappiness range is 0-100");
}

fn what_the_kernel_lacks_is_warned_of(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        return;
    }
    let host = json!({"KernelMemory": 8_388_608, "SecurityOpt": ["apparmor=some", "label=type:x"]});
    let warnings = create(cx, "a", &json!({}), &host).expect(201)["Warnings"].to_string();
    assert!(warnings.contains("kernel memory limit"), "{warnings}");
    if !std::path::Path::new("/sys/kernel/security/apparmor").exists() {
        assert!(warnings.contains("does not support AppArmor"), "{warnings}");
    }
    if !std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        assert!(warnings.contains("SELinux is not enabled"), "{warnings}");
    }
    assert!(!cx.inspect(&cx.name("a"))["HostConfig"]["KernelMemory"].is_number());
}

fn negative_and_contradicting_limits_are_refused(cx: &Cx<'_>) {
    for (host, text) in [
        (json!({"Memory": 4096}), "inimum memory limit allowed is 6MB"),
        (json!({"MemorySwap": 1_000_000_000}), "You should always set the Memory limit"),
        (json!({"Memory": 67_108_864, "MemorySwap": 1000}), "should be larger than memory limit"),
        (
            json!({"Memory": 67_108_864, "MemoryReservation": 100_000_000}),
            "less than memory reservation",
        ),
        (
            json!({"NanoCpus": 1_000_000_000, "CpuPeriod": 10_000}),
            "Nano CPUs and CPU Period cannot both be set",
        ),
        (
            json!({"NanoCpus": 1_000_000_000, "CpuQuota": 10_000}),
            "Nano CPUs and CPU Quota cannot both be set",
        ),
        (json!({"NanoCpus": 9_000_000_000_000_i64}), "CPUs available"),
        (json!({"CpuPeriod": 5}), "CPU cfs period can not be less than 1ms"),
        (json!({"CpuQuota": 5}), "CPU cfs quota can not be less than 1ms"),
        (json!({"OomScoreAdj": 1001}), "range for oom score adj is [-1000, 1000]"),
        (json!({"RestartPolicy": {"Name": "sometimes"}}), "invalid restart policy"),
        (
            json!({"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": -1}}),
            "maximum retry count cannot be negative",
        ),
        (json!({"AutoRemove": true, "RestartPolicy": {"Name": "always"}}), "AutoRemove"),
        (json!({"CapAdd": ["NONSENSE"]}), "NONSENSE"),
        (json!({"PidMode": "nonsense"}), "nonsense"),
        (json!({"IpcMode": "nonsense"}), "nonsense"),
        (json!({"UsernsMode": "nonsense"}), "nonsense"),
        (json!({"CgroupnsMode": "nonsense"}), "nonsense"),
    ] {
        refused(cx, &host, text);
    }
    if cx.is_gantry() {
        for (host, text) in [
            (json!({"Memory": -5}), "inimum memory limit"),
            (json!({"MemoryReservation": -5}), "negative"),
            (json!({"ShmSize": -5}), "negative"),
            (json!({"CpuShares": -5}), "positive integer"),
            (json!({"NanoCpus": -5}), "negative"),
            (json!({"CpuRealtimeRuntime": -5}), "negative"),
            (json!({"IOMaximumIOps": 5}), "does not support Maximum IO IOps"),
            (
                json!({"Ulimits": [{"Name": "nofile", "Soft": 5, "Hard": 2}]}),
                "soft limit must be less",
            ),
            (
                json!({"Ulimits": [{"Name": "nonsense", "Soft": 1, "Hard": 2}]}),
                "invalid ulimit type",
            ),
            (json!({"StorageOpt": {"size": "10G"}}), "pquota"),
        ] {
            refused(cx, &host, text);
        }
    }
}

fn processors_that_are_not_there_are_refused(cx: &Cx<'_>) {
    refused(cx, &json!({"CpusetCpus": "0-4095"}), "Requested CPUs are not available");
    refused(cx, &json!({"CpusetMems": "77"}), "Requested memory nodes are not available");
    refused(cx, &json!({"CpusetCpus": "zero"}), "Invalid value zero for cpuset cpus");
    let name = cx.sleeper("a", &["--cpuset-cpus", "0", "--cpuset-mems", "0"]);
    assert_eq!(group(cx, &name, "cpuset/cpuset.cpus", "cpuset.cpus"), "0");
}

fn devices_by_rule(cx: &Cx<'_>) {
    let script = "mknod /zero c 1 5; mknod /loop c 10 237; head -c1 /zero | wc -c; head -c1 /loop 2>&1 | head -1";
    let text = cx.busybox(&["--device-cgroup-rule", "c 10:* rmw"], &["sh", "-c", script]);
    assert!(text.starts_with('1') && !text.contains("Operation not permitted"), "{text}");
    let text = cx.busybox(&[], &["sh", "-c", script]);
    assert!(text.contains("Operation not permitted"), "{text}");
    refused(cx, &json!({"DeviceCgroupRules": ["x 1:3 rwm"]}), "device cgroup rule");
    if cx.is_gantry() {
        refused(
            cx,
            &json!({"Devices": [{"PathOnHost": "/dev/none-such", "CgroupPermissions": "rwm"}]}),
            "/dev/none-such",
        );
    }
}

fn devices_by_name(cx: &Cx<'_>) {
    if !cx.daemon.is_own() || !cx.is_gantry() {
        skip("the daemon takes no settings of ours");
    }
    let folder = cx.dir().join("cdi");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(
        folder.join("vendor.yaml"),
        "cdiVersion: 0.6.0\nkind: vendor.com/thing\ndevices:\n- name: one\n  containerEdits:\n    env: [THING=one]\n    additionalGids: [4321]\n    deviceNodes:\n    - path: /dev/thing\n      hostPath: /dev/zero\n      permissions: r\n    mounts:\n    - hostPath: /etc\n      containerPath: /host-etc\n      options: [ro]\n",
    )
    .unwrap();
    let daemon =
        Daemon::start(Options::new().args(&["--cdi-spec-dir", folder.to_str().unwrap()])).unwrap();
    daemon.load_busybox().unwrap();
    let inner = Cx::new(&daemon, "cdi");
    let script = "echo $THING; head -c1 /dev/thing | wc -c; id -G; ls /host-etc/hostname; stat -c %t:%T /dev/thing; touch /host-etc/new 2>&1; true";
    let text = inner.busybox(&["--device", "vendor.com/thing=one"], &["sh", "-c", script]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines[0], lines[1], lines[3]), ("one", "1", "/host-etc/hostname"), "{text}");
    assert!(lines[2].contains("4321") && lines[4] == "1:5", "{text}");
    assert!(text.contains("Read-only file system"), "{text}");
    inner
        .run(&["--device", "vendor.com/thing=two"], &["true"])
        .fails_with(125, &["unresolvable CDI devices vendor.com/thing=two"]);
    inner
        .run(&["--gpus", "all"], &["true"])
        .fails_with(125, &["could not select device driver", "[[gpu]]"]);
    let info = inner.api().get("/v1.51/info").expect(200);
    assert_eq!(info["CDISpecDirs"], json!([folder]));
    hooks_of_devices(&inner, &folder);
}

/// Each hook writes what it sees where its device's folder says; the container finds what one put into its root.
fn hooks_of_devices(inner: &Cx<'_>, folder: &std::path::Path) {
    let seen = folder.join("seen");
    std::fs::create_dir(&seen).unwrap();
    let hook = |name: &str, script: &str| {
        let script = format!("exec > {}/{name} 2>&1; {script}", seen.display());
        json!({"hookName": name, "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["GIVEN=1"]})
    };
    let into_root = "root=$(sed 's/.*\"bundle\":\"\\([^\"]*\\)\".*/\\1/')/rootfs; env; ls /proc/self/fd; \
                     echo made > $root/etc/made-by-a-hook; stat -c %a $root/etc/made-by-a-hook; readlink /proc/self/ns/mnt";
    let state = "cat; echo; env; readlink /proc/self/ns/mnt";
    let device = |name: &str, hooks: serde_json::Value| json!({"name": name, "containerEdits": {"env": [format!("DEVICE={name}")], "hooks": hooks}});
    let all = json!([
        hook("prestart", state),
        hook("createRuntime", state),
        hook("createContainer", into_root),
        hook("poststart", state),
        hook("poststop", state),
    ]);
    let failing = json!([hook("poststop", state), {"hookName": "createRuntime", "path": "/bin/sh", "args": ["sh", "-c", "echo no tea; exit 3"]}]);
    let inside =
        json!([hook("poststop", state), {"hookName": "createContainer", "path": "/bin/false"}]);
    let slow = json!([{"hookName": "prestart", "path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1}]);
    let spec = json!({"kind": "vendor.com/hooked", "cdiVersion": "0.6.0", "devices": [
        device("all", all), device("fails", failing), device("inside", inside), device("slow", slow),
    ]});
    std::fs::write(folder.join("hooked.json"), spec.to_string()).unwrap();
    let device = |name: &str| format!("vendor.com/hooked={name}");
    let options = ["--device", &device("all"), "-e", "LD_PRELOAD=/evil.so", "-e", "GIVEN=2"];
    let name = inner.name("hooked");
    let mut named = vec!["--name", &name];
    named.extend(options);
    let text = inner.busybox(&named, &["sh", "-c", "cat /etc/made-by-a-hook; echo $DEVICE $GIVEN"]);
    assert_eq!(text, "made\nall 2");
    let read = |hook: &str| std::fs::read_to_string(seen.join(hook)).unwrap_or_default();
    inner.until("the last hook", || read("poststop").contains("mnt:").then_some(()));
    let own = std::fs::read_link("/proc/self/ns/mnt").unwrap().display().to_string();
    for (hook, status) in [
        ("prestart", "creating"),
        ("createRuntime", "creating"),
        ("poststart", "running"),
        ("poststop", "stopped"),
    ] {
        let said = read(hook);
        let state: serde_json::Value =
            serde_json::from_str(said.lines().next().unwrap_or_default()).expect(hook);
        assert_eq!(state["status"], json!(status), "{hook}: {said}");
        assert_eq!(state["pid"] == json!(0), status == "stopped", "{hook}: {said}");
        assert!(said.contains("GIVEN=1") && said.ends_with(&format!("{own}\n")), "{hook}: {said}");
        assert!(!said.contains("evil"), "{hook}: {said}");
    }
    let said = read("createContainer");
    // The mode is by the usual mask, the namespace the container's.
    assert!(said.contains("\n644\n") && !said.contains(&own), "{said}");
    assert!(said.contains("GIVEN=1") && !said.contains("evil"), "{said}");
    for (name, why) in [
        ("fails", "error running createRuntime hook #0: exit status 3, output: no tea"),
        ("inside", "error running createContainer hook #0: exit status 1"),
        ("slow", "error running prestart hook #0: it ran past the timeout of 1 s"),
    ] {
        let _ = std::fs::remove_file(seen.join("poststop"));
        inner.run(&["--device", &device(name)], &["true"]).fails_with(125, &[why]);
        if name != "slow" {
            inner.until("the last hook", || read("poststop").contains("mnt:").then_some(()));
        }
    }
}

fn security_options_in_all_forms(cx: &Cx<'_>) {
    let status = |options: &[&str], key: &str| {
        let text = cx.busybox(options, &["grep", key, "/proc/self/status"]);
        text.rsplit('\t').next().unwrap().to_owned()
    };
    for (option, want) in [
        ("no-new-privileges", "1"),
        ("no-new-privileges=true", "1"),
        ("no-new-privileges:true", "1"),
        ("no-new-privileges=false", "0"),
    ] {
        assert_eq!(status(&["--security-opt", option], "NoNewPrivs"), want, "{option}");
    }
    for (option, want) in [("seccomp=unconfined", "0"), ("seccomp:unconfined", "0")] {
        assert_eq!(status(&["--security-opt", option], "Seccomp:"), want, "{option}");
    }
    let writable = |options: &[&str]| {
        cx.run(options, &["sh", "-c", "echo 1 > /proc/sys/kernel/sched_rr_timeslice_ms"]).code
    };
    assert_ne!(writable(&[]), Some(0), "read-only by default");
    let masked = cx.busybox(
        &["--security-opt", "systempaths=unconfined"],
        &["sh", "-c", "head -c1 /proc/kcore >/dev/null 2>&1; grep -c ' /proc/' /proc/mounts; true"],
    );
    assert_eq!(masked, "0", "nothing is mounted over parts of /proc");
    for option in ["label=disable", "label:type:svirt_t", "apparmor=unconfined"] {
        cx.run(&["--security-opt", option], &["true"]).ok();
    }
    for bad in ["nonsense", "nonsense=1", "no-new-privileges=perhaps"] {
        cx.run(&["--security-opt", bad], &["true"]).fails_with(125, &["nvalid"]);
    }
    if cx.is_gantry() {
        for bad in ["seccomp={", "seccomp=/no/such/file", "seccomp={\"defaultAction\":\"NOPE\"}"] {
            refused(cx, &json!({"SecurityOpt": [bad]}), "Decoding seccomp profile failed");
        }
    }
    cx.run(&["--security-opt", "seccomp=/no/such/file"], &["true"])
        .fails_with(125, &["/no/such/file"]);
}

fn namespaces_of_the_host_and_of_others(cx: &Cx<'_>) {
    let own = |kind: &str| {
        std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string()
    };
    let of = |options: &[&str], kind: &str| {
        cx.busybox(options, &["readlink", &format!("/proc/self/ns/{kind}")])
    };
    assert_eq!(of(&["--userns", "host"], "user"), own("user"));
    assert_ne!(of(&["--cgroupns", "private"], "cgroup"), own("cgroup"));
    let text = cx.busybox(&["--cgroupns", "private"], &["cat", "/proc/self/cgroup"]);
    assert!(text.lines().any(|l| l.ends_with(":/")), "{text}");
    assert_eq!(
        cx.busybox(&["--ipc", "none"], &["sh", "-c", "grep -c /dev/shm /proc/mounts; true"]),
        "0"
    );
    cx.run(&["--pid", "container:none-such"], &["true"]).fails_with(125, &["none-such"]);
    let stopped = cx.name("stopped");
    cx.docker(&["create", "--name", &stopped, "busybox"]).ok();
    cx.run(&["--pid", &format!("container:{stopped}")], &["true"]).fails_with(125, &["running"]);
}

fn containers_without_network(cx: &Cx<'_>) {
    let config = json!({"NetworkDisabled": true, "Cmd": ["ls", "/sys/class/net"]});
    create(cx, "a", &config, &json!({})).expect(201);
    assert_eq!(cx.docker(&["start", "-a", &cx.name("a")]).ok(), "lo");
}

fn runtimes_and_drivers_by_name(cx: &Cx<'_>) {
    assert_eq!(cx.busybox(&["--runtime", "runc"], &["echo", "ran"]), "ran");
    cx.run(&["--runtime", "none-such"], &["true"]).fails_with(125, &["none-such"]);
    cx.run(&["--log-driver", "none-such"], &["true"]).fails_with(125, &["none-such"]);
    refused(cx, &json!({"NetworkMode": "container:"}), "container");
}

fn annotations_and_isolation(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        return;
    }
    create(cx, "a", &json!({}), &json!({"Annotations": {"a.b": "c"}, "Isolation": "default"}))
        .expect(201);
    let api = cx.api();
    let shown = api.get(&format!("/v1.51/containers/{}/json", cx.name("a"))).expect(200);
    assert_eq!(shown["HostConfig"]["Annotations"], json!({"a.b": "c"}));
    refused(cx, &json!({"Annotations": {"": "x"}}), "empty string is not permitted");
    refused(cx, &json!({"Isolation": "hyperv"}), "invalid isolation");
}

fn large_environments_and_many_labels(cx: &Cx<'_>) {
    let long = "x".repeat(64 << 10);
    let labels: serde_json::Map<String, Value> =
        (0..10_000).map(|n| (format!("label-{n}"), json!(format!("value {n}")))).collect();
    let config = json!({
        "Env": [format!("LONG={long}")], "Labels": labels, "Cmd": ["sh", "-c", "echo -n $LONG | wc -c"],
    });
    create(cx, "a", &config, &json!({})).expect(201);
    assert_eq!(cx.docker(&["start", "-a", &cx.name("a")]).ok(), "65536");
    let filter = "label=label-9999=value 9999";
    let list = cx.docker(&["ps", "-a", "--filter", filter, "--format", "{{.Names}}"]);
    assert_eq!(list.lines(), [cx.name("a")]);
    // More than the kernel takes in one string: an error, and no container that hangs.
    let config = json!({"Env": [format!("LONG={}", "x".repeat(200 << 10))]});
    create(cx, "b", &config, &json!({})).expect(201);
    let output = cx.docker(&["start", &cx.name("b")]);
    let state = cx.inspect(&cx.name("b"))["State"].clone();
    assert!(
        output.code == Some(1) && output.stderr.contains("too long"),
        "{state} {}",
        output.describe()
    );
}

fn nothing_half_made_stays(cx: &Cx<'_>) {
    let missing = cx.dir().join("none-such");
    let bind = json!([{"Type": "bind", "Source": missing, "Target": "/m"}]);
    create(cx, "a", &json!({}), &json!({"Mounts": bind}))
        .fails(400, &["bind source path does not exist"]);
    create(cx, "a", &json!({"Volumes": {"relative": {}}}), &json!({})).expect(if cx.is_gantry() {
        400
    } else {
        500
    });
    create(cx, "a", &json!({"StopSignal": "NONSENSE"}), &json!({}))
        .fails(if cx.is_gantry() { 400 } else { 500 }, &["NONSENSE"]);
    create(cx, "a", &json!({"Image": "none-such"}), &json!({})).fails(404, &["No such image"]);
    let volume = cx.name("v");
    let half = json!({"Binds": [format!("{volume}:/v"), "/etc:relative"]});
    create(cx, "a", &json!({}), &half).expect(if cx.is_gantry() { 400 } else { 500 });
    cx.api().get(&format!("/v1.41/volumes/{volume}")).expect(404);
    cx.api().get(&format!("/v1.41/containers/{}/json", cx.name("a"))).expect(404);
    // The name is free.
    create(cx, "a", &json!({}), &json!({})).expect(201);
}
