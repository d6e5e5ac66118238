//! What `docker run` can be asked for.

use serde_json::json;
use testkit::{Cx, cases, host, suite::Case};

pub const CASES: &[Case] = cases![
    environment,
    env_file,
    workdir_and_user,
    users_by_name_and_number,
    entrypoint_is_replaced,
    hostname_and_domain,
    init_reaps_and_forwards,
    read_only_root,
    tmpfs_mounts,
    memory_cpus_and_pids,
    ulimits,
    stdin_is_piped,
    detached_prints_the_id,
    cidfile,
    labels_and_label_file,
    network_modes,
    shared_namespaces,
    pid_and_ipc_and_uts_of_the_host,
    shm_size,
    sysctls,
    oom_score,
    security_options,
    cgroup_parent_and_devices,
    add_host_and_dns,
    group_add,
    platform_and_pull,
    large_output_is_whole,
    quick_exits_lose_nothing,
    conflicting_options_are_errors,
    create_warns_of_nothing,
];

fn environment(cx: &Cx<'_>) {
    let text = cx.busybox(&["-e", "A=1", "-e", "B=two words", "-e", "EMPTY="], &["env"]);
    for line in [
        "A=1",
        "B=two words",
        "EMPTY=",
        "HOME=/root",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in {text}");
    }
    let hostname = text.lines().find_map(|l| l.strip_prefix("HOSTNAME=")).unwrap();
    assert_eq!(hostname.len(), 12, "the id's first 12 characters");
    assert!(cx.busybox(&["-t"], &["env"]).contains("TERM=xterm"));
}

fn env_file(cx: &Cx<'_>) {
    let file = cx.write("env", "# comment\nX=from file\n\nY=2\n");
    let text = cx
        .busybox(&["--env-file", file.to_str().unwrap(), "-e", "Y=3"], &["sh", "-c", "echo $X $Y"]);
    assert_eq!(text, "from file 3");
}

fn workdir_and_user(cx: &Cx<'_>) {
    assert_eq!(
        cx.busybox(&["-w", "/made/here"], &["sh", "-c", "pwd; stat -c %u /made"]),
        "/made/here\n0"
    );
    assert_eq!(
        cx.busybox(&["-u", "alice"], &["sh", "-c", "id -u; id -g; echo $HOME"]),
        "1234\n1234\n/home"
    );
}

fn users_by_name_and_number(cx: &Cx<'_>) {
    let id = |user: &str| cx.busybox(&["-u", user], &["id"]);
    assert_eq!(
        id("1234"),
        "uid=1234(alice) gid=1234(alice) groups=10(wheel),50(staff),1234(alice)"
    );
    assert_eq!(id("alice:staff"), "uid=1234(alice) gid=50(staff) groups=50(staff)");
    assert_eq!(id("7:8"), "uid=7 gid=8 groups=8");
    assert_eq!(id("99"), "uid=99 gid=0(root) groups=0(root)");
    assert_eq!(id("0:33"), "uid=0(root) gid=33(www-data) groups=33(www-data)");
    cx.run(&["-u", "nobody-here"], &["id"])
        .fails_with(125, &["unable to find user nobody-here: no matching entries in passwd file"]);
    cx.run(&["-u", "alice:nogroup-here"], &["id"])
        .fails_with(125, &["unable to find group nogroup-here: no matching entries in group file"]);
    for bad in ["4294967296", "-1", "2147483648"] {
        cx.run(&["-u", bad], &["id"]).fails(125);
    }
}

fn entrypoint_is_replaced(cx: &Cx<'_>) {
    assert_eq!(cx.busybox(&["--entrypoint", "echo"], &["a", "b"]), "a b");
    let tag = cx.name("img");
    cx.docker_with(
        &["build", "-q", "-t", &tag, "-"],
        "FROM busybox\nENTRYPOINT [\"echo\", \"image\"]\nCMD [\"default\"]\n",
    )
    .ok();
    assert_eq!(cx.docker(&["run", "--rm", &tag]).ok(), "image default");
    assert_eq!(cx.docker(&["run", "--rm", &tag, "given"]).ok(), "image given");
    assert_eq!(cx.docker(&["run", "--rm", "--entrypoint", "id", &tag, "-u"]).ok(), "0");
    cx.docker(&["run", "--rm", "--entrypoint", "", &tag]).fails(125);
}

fn hostname_and_domain(cx: &Cx<'_>) {
    assert_eq!(cx.busybox(&["--hostname", "box"], &["hostname"]), "box");
    let text = cx.busybox(
        &["--hostname", "box", "--domainname", "example.org"],
        &["sh", "-c", "cat /etc/hostname; cat /proc/sys/kernel/domainname; grep box /etc/hosts"],
    );
    assert!(
        text.starts_with("box\nexample.org\n") && text.contains("box.example.org box"),
        "{text}"
    );
}

fn init_reaps_and_forwards(cx: &Cx<'_>) {
    let text = cx.busybox(&["--init"], &["sh", "-c", "echo $$; ps -o pid,args | grep -c init"]);
    assert!(!text.starts_with("1\n"), "init has pid 1: {text}");
    let name = cx.start("a", &["--init"], &["sleep", "600"]);
    cx.docker(&["stop", "-t", "30", &name]).ok();
    assert_eq!(cx.inspect(&name)["State"]["ExitCode"], 143, "init forwards TERM");
    cx.run(&["--init"], &["sh", "-c", "exit 6"]).code(6);
}

fn read_only_root(cx: &Cx<'_>) {
    cx.run(&["--read-only"], &["touch", "/x"]).fails_with(1, &["Read-only file system"]);
    assert_eq!(
        cx.busybox(
            &["--read-only", "--tmpfs", "/t", "-v", "/v"],
            &["sh", "-c", "touch /t/a /v/b /dev/shm/c && echo ok"]
        ),
        "ok"
    );
}

fn tmpfs_mounts(cx: &Cx<'_>) {
    let text = cx.busybox(
        &["--tmpfs", "/t:size=1m,mode=1700,noexec"],
        &["sh", "-c", "mount | grep ' /t '; stat -c %a /t"],
    );
    assert!(
        text.contains("size=1024k") && text.contains("noexec") && text.contains("nosuid"),
        "{text}"
    );
    assert!(text.ends_with("1700"), "{text}");
    let text = cx.busybox(
        &["--mount", "type=tmpfs,dst=/m,tmpfs-size=65536"],
        &["sh", "-c", "mount | grep ' /m '"],
    );
    assert!(text.contains("size=64k"), "{text}");
}

fn memory_cpus_and_pids(cx: &Cx<'_>) {
    let name = cx.sleeper(
        "a",
        &[
            "--memory",
            "64m",
            "--memory-swap",
            "128m",
            "--cpus",
            "0.5",
            "--pids-limit",
            "50",
            "--cpu-shares",
            "512",
            "--cpuset-cpus",
            "0",
            "--memory-reservation",
            "32m",
        ],
    );
    let h = cx.inspect(&name)["HostConfig"].clone();
    assert_eq!(
        (&h["Memory"], &h["MemorySwap"], &h["NanoCpus"], &h["PidsLimit"]),
        (&json!(67_108_864), &json!(134_217_728), &json!(500_000_000), &json!(50))
    );
    let read = |v1: &str, v2: &str| {
        let script = format!("cat /sys/fs/cgroup/{v1} 2>/dev/null || cat /sys/fs/cgroup/{v2}");
        cx.docker(&["exec", &name, "sh", "-c", &script]).ok().to_owned()
    };
    assert_eq!(read("memory/memory.limit_in_bytes", "memory.max"), "67108864");
    assert_eq!(read("pids/pids.max", "pids.max"), "50");
    let quota = read("cpu/cpu.cfs_quota_us", "cpu.max");
    assert!(quota == "50000" || quota == "50000 100000", "{quota}");
    assert_eq!(read("cpuset/cpuset.cpus", "cpuset.cpus"), "0");
    cx.run(&["--memory", "1m"], &["true"]).fails_with(125, &["inimum memory limit allowed is 6MB"]);
    cx.run(&["--cpus", "1000"], &["true"]).fails_with(125, &["ange of CPUs is from 0.01 to"]);
    cx.run(&["--memory", "64m", "--memory-swap", "32m"], &["true"])
        .fails_with(125, &["inimum memoryswap limit should be larger than memory limit"]);
}

fn ulimits(cx: &Cx<'_>) {
    assert_eq!(
        cx.busybox(&["--ulimit", "nofile=1000:2000"], &["sh", "-c", "ulimit -Sn; ulimit -Hn"]),
        "1000\n2000"
    );
    assert_eq!(cx.busybox(&["--ulimit", "core=0"], &["sh", "-c", "ulimit -c"]), "0");
    cx.run(&["--ulimit", "nonsense=1"], &["true"]).fails(125);
}

fn stdin_is_piped(cx: &Cx<'_>) {
    let output = cx.docker_with(
        &["run", "-i", "--rm", "busybox", "sh", "-c", "cat; echo end"],
        "some\ninput\n",
    );
    assert_eq!(output.ok(), "some\ninput\nend");
    let big = vec![b'x'; 3_000_000];
    let output = cx.docker_with(&["run", "-i", "--rm", "busybox", "wc", "-c"], &big);
    assert_eq!(output.ok(), "3000000");
    assert_eq!(cx.busybox(&[], &["sh", "-c", "cat; echo eof"]), "eof", "without -i stdin is empty");
}

fn detached_prints_the_id(cx: &Cx<'_>) {
    let output = cx.docker(&["run", "-d", "--name", &cx.name("a"), "busybox", "true"]);
    assert!(
        output.ok().len() == 64 && output.ok().bytes().all(|b| b.is_ascii_hexdigit()),
        "{}",
        output.describe()
    );
}

fn cidfile(cx: &Cx<'_>) {
    let file = cx.dir().join("cid");
    cx.run(&["--cidfile", file.to_str().unwrap()], &["true"]).ok();
    assert_eq!(std::fs::read_to_string(&file).unwrap().len(), 64);
}

fn labels_and_label_file(cx: &Cx<'_>) {
    let file = cx.write("labels", "from=file\n");
    let name =
        cx.sleeper("a", &["-l", "a=b", "-l", "empty", "--label-file", file.to_str().unwrap()]);
    assert_eq!(
        cx.inspect(&name)["Config"]["Labels"],
        json!({"a": "b", "empty": "", "from": "file"})
    );
}

fn network_modes(cx: &Cx<'_>) {
    assert_eq!(cx.busybox(&["--network", "none"], &["ls", "/sys/class/net"]), "lo");
    let host = cx.busybox(&["--network", "host"], &["readlink", "/proc/self/ns/net"]);
    assert_eq!(host, std::fs::read_link("/proc/self/ns/net").unwrap().to_str().unwrap());
    let name = cx.sleeper("a", &[]);
    let mode = format!("container:{name}");
    let own = cx.docker(&["exec", &name, "ip", "-4", "addr", "show", "eth0"]).ok().to_owned();
    assert_eq!(cx.busybox(&["--network", &mode], &["ip", "-4", "addr", "show", "eth0"]), own);
    let hostname = cx.docker(&["exec", &name, "hostname"]).ok().to_owned();
    assert_eq!(cx.busybox(&["--network", &mode], &["hostname"]), hostname);
    cx.run(&["--network", "no-such-net"], &["true"])
        .fails_with(125, &["network no-such-net not found"]);
    cx.run(&["--network", "container:no-such"], &["true"])
        .fails_with(125, &["No such container: no-such"]);
}

fn shared_namespaces(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &["--ipc", "shareable"]);
    let of = |kind: &str| {
        cx.docker(&["exec", &name, "readlink", &format!("/proc/1/ns/{kind}")]).ok().to_owned()
    };
    let (pid, ipc) = (of("pid"), of("ipc"));
    let mode = format!("container:{name}");
    assert_eq!(cx.busybox(&["--pid", &mode], &["readlink", "/proc/self/ns/pid"]), pid);
    assert_eq!(cx.busybox(&["--ipc", &mode], &["readlink", "/proc/self/ns/ipc"]), ipc);
    let private = cx.sleeper("b", &[]);
    cx.run(&["--ipc", &format!("container:{private}")], &["true"])
        .fails_with(125, &["non-shareable IPC"]);
}

fn pid_and_ipc_and_uts_of_the_host(cx: &Cx<'_>) {
    for kind in ["pid", "ipc", "uts"] {
        let ns = cx.busybox(
            &[&format!("--{kind}"), "host"],
            &["readlink", &format!("/proc/self/ns/{kind}")],
        );
        let host = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_eq!(ns, host.to_str().unwrap());
    }
    for kind in ["pid", "ipc", "uts", "mnt", "net"] {
        let ns = cx.busybox(&[], &["readlink", &format!("/proc/self/ns/{kind}")]);
        assert_ne!(
            ns,
            std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().to_str().unwrap()
        );
    }
}

fn shm_size(cx: &Cx<'_>) {
    let text = cx.busybox(&["--shm-size", "128k"], &["sh", "-c", "mount | grep /dev/shm"]);
    assert!(text.contains("size=128k"), "{text}");
    assert!(cx.busybox(&[], &["sh", "-c", "mount | grep /dev/shm"]).contains("size=65536k"));
}

fn sysctls(cx: &Cx<'_>) {
    assert_eq!(
        cx.busybox(
            &["--sysctl", "net.ipv4.ip_forward=0"],
            &["cat", "/proc/sys/net/ipv4/ip_forward"]
        ),
        "0"
    );
    assert_eq!(
        cx.busybox(&["--sysctl", "kernel.msgmax=9000"], &["cat", "/proc/sys/kernel/msgmax"]),
        "9000"
    );
    cx.run(&["--sysctl", "kernel.panic=1"], &["true"]).fails(125);
    cx.run(&["--network", "host", "--sysctl", "net.ipv4.ip_forward=1"], &["true"]).fails(125);
}

fn oom_score(cx: &Cx<'_>) {
    assert_eq!(
        cx.busybox(&["--oom-score-adj", "500"], &["cat", "/proc/self/oom_score_adj"]),
        "500"
    );
    cx.run(&["--oom-score-adj", "2000"], &["true"])
        .fails_with(125, &["range for oom score adj is [-1000, 1000]"]);
}

fn security_options(cx: &Cx<'_>) {
    assert_eq!(
        cx.busybox(
            &["--security-opt", "no-new-privileges"],
            &["grep", "NoNewPrivs", "/proc/self/status"]
        ),
        "NoNewPrivs:\t1"
    );
    assert_eq!(cx.busybox(&[], &["grep", "NoNewPrivs", "/proc/self/status"]), "NoNewPrivs:\t0");
    assert_eq!(
        cx.busybox(
            &["--security-opt", "seccomp=unconfined"],
            &["grep", "Seccomp:", "/proc/self/status"]
        ),
        "Seccomp:\t0"
    );
    assert_eq!(cx.busybox(&[], &["grep", "Seccomp:", "/proc/self/status"]), "Seccomp:\t2");
    let profile = cx.write("p.json", r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}"#);
    let option = format!("seccomp={}", profile.display());
    cx.run(&["--security-opt", &option], &["mkdir", "/x"])
        .fails_with(1, &["Operation not permitted"]);
    cx.run(&["--security-opt", "nonsense=1"], &["true"]).fails(125);
}

fn cgroup_parent_and_devices(cx: &Cx<'_>) {
    assert_eq!(
        cx.busybox(
            &["--device", "/dev/kmsg:/dev/mine:r"],
            &["sh", "-c", "(echo x > /dev/mine) 2>/dev/null || echo refused"]
        ),
        "refused"
    );
    assert_eq!(
        cx.busybox(
            &["--device", "/dev/null:/dev/mine"],
            &["sh", "-c", "echo x > /dev/mine && stat -c %t:%T /dev/mine"]
        ),
        "1:3"
    );
    cx.run(&["--device", "/dev/no-such-device"], &["true"])
        .fails_with(127, &["/dev/no-such-device", "no such file or directory"]);
    let parent = format!("/gtk-parent-{}", std::process::id());
    let text = cx.busybox(
        &["--cgroup-parent", &parent, "--cgroupns", "host"],
        &["cat", "/proc/self/cgroup"],
    );
    assert!(text.contains(&parent), "{text}");
    host::remove_control_groups(parent.trim_start_matches('/'));
}

fn add_host_and_dns(cx: &Cx<'_>) {
    let text = cx.busybox(
        &[
            "--add-host",
            "db:10.9.8.7",
            "--dns",
            "9.9.9.9",
            "--dns-search",
            "example.org",
            "--dns-option",
            "ndots:3",
        ],
        &["cat", "/etc/hosts", "/etc/resolv.conf"],
    );
    for part in [
        "127.0.0.1\tlocalhost",
        "10.9.8.7\tdb",
        "nameserver 9.9.9.9",
        "search example.org",
        "options ndots:3",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    cx.run(&["--add-host", "nonsense"], &["true"]).fails(125);
}

fn group_add(cx: &Cx<'_>) {
    assert_eq!(
        cx.busybox(&["--group-add", "staff", "--group-add", "777", "-u", "7:8"], &["id", "-G"]),
        "8 50 777"
    );
    cx.run(&["--group-add", "no-such-group"], &["true"]).fails(125);
}

fn platform_and_pull(cx: &Cx<'_>) {
    cx.run(&["--platform", "linux/amd64"], &["true"]).ok();
    cx.run(&["--pull", "never"], &["true"]).ok();
    cx.docker(&["run", "--rm", "--pull", "never", "no-such-image:x"])
        .fails_with(125, &["No such image: no-such-image:x"]);
}

fn large_output_is_whole(cx: &Cx<'_>) {
    let output = cx.run(&[], &["sh", "-c", "yes 0123456789abcde | head -c 8000000"]);
    assert_eq!(output.bytes.len(), 8_000_000, "{:?}", output.code);
    assert!(output.bytes.chunks(16).all(|c| c == b"0123456789abcde\n"));
}

fn quick_exits_lose_nothing(cx: &Cx<'_>) {
    for n in 0..15 {
        let output = cx.run(
            &["--network", "none"],
            &["sh", "-c", &format!("echo line {n}; echo err {n} >&2; exit {n}")],
        );
        assert_eq!(output.code(n), format!("line {n}"));
        assert_eq!(output.stderr, format!("err {n}\n"));
    }
}

fn conflicting_options_are_errors(cx: &Cx<'_>) {
    cx.run(&["--network", "host", "--hostname", "x"], &["hostname"]).code(0);
    cx.run(&["--network", "container:x", "-p", "80:80"], &["true"])
        .fails_with(125, &["conflicting options"]);
    cx.run(&["--network", "none", "--network", "bridge"], &["true"]).fails(125);
    cx.run(&["--pid", "container:no-such"], &["true"])
        .fails_with(125, &["No such container: no-such"]);
}

fn create_warns_of_nothing(cx: &Cx<'_>) {
    let answer = cx
        .api()
        .post(
            &format!("/containers/create?name={}", cx.name("a")),
            &json!({"Image": "busybox", "HostConfig": {"Memory": 33_554_432}}),
        )
        .expect(201);
    assert_eq!(answer["Warnings"], json!([]));
}
