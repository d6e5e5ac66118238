//! The shim as an OCI runtime for others: its command line, and containerd and dockerd on top of it.
//!
//! User namespaces are in `oci_runtime_users.rs`, podman is in `oci_runtime_podman.rs`. What Gantry itself can do with it
//! as with any other runtime is in `runtimes.rs`.

use serde_json::{Value, json};
use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use testkit::{Cx, Output, cases, cx::skip, host, suite::Case};

pub const CASES: &[Case] = cases![
    a_life_by_the_command_line,
    hooks_run_in_their_order,
    what_fails_is_undone,
    run_waits_and_gives_the_code,
    user_umask_and_capabilities,
    limits_change_while_it_runs,
    facts_about_the_runtime,
    containerd_uses_it,
    dockerd_uses_it,
];

/// The shim of this build.
pub fn shim() -> PathBuf {
    let gantry = testkit::daemon::built("gantry").unwrap();
    let target = gantry.parent().and_then(Path::parent).unwrap();
    target.join("libexec/gantry-shim")
}

/// A bundle in the case's folder, and where its state is.
pub struct Rig<'c, 'd> {
    cx: &'c Cx<'d>,
    pub id: String,
}

impl<'c, 'd> Rig<'c, 'd> {
    pub fn new(cx: &'c Cx<'d>, script: &str) -> Self {
        if !cx.is_gantry() {
            skip("it is Gantry's runtime that is under test");
        }
        let root = cx.dir().join("bundle/rootfs");
        for folder in ["bin", "etc"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for name in ["sh", "cat", "id", "sleep", "grep", "touch", "stat", "echo"] {
            symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        let id = format!("{}{}", cx.name("c"), std::process::id());
        let rig = Self { cx, id };
        rig.run(&["spec", "--bundle", &rig.bundle()]).ok();
        rig.change(|config| {
            config["process"]["terminal"] = json!(false);
            config["process"]["args"] = json!(["sh", "-c", script]);
            config["root"]["readonly"] = json!(false);
        });
        rig
    }

    pub fn bundle(&self) -> String {
        self.cx.dir().join("bundle").display().to_string()
    }

    pub fn change(&self, edit: impl FnOnce(&mut Value)) {
        let path = self.cx.dir().join("bundle/config.json");
        let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        edit(&mut config);
        std::fs::write(&path, config.to_string()).unwrap();
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(shim());
        command.arg("--root").arg(self.cx.dir().join("state")).args(args);
        command
    }

    /// Runs a command; `ID` stands for the container.
    pub fn run(&self, args: &[&str]) -> Output {
        let args: Vec<&str> =
            args.iter().map(|a| if *a == "ID" { self.id.as_str() } else { a }).collect();
        testkit::command::run(&mut self.command(&args), b"")
    }

    /// Creates it; what it prints goes to a file.
    pub fn create(&self) -> PathBuf {
        let out = self.cx.dir().join("out");
        let file = std::fs::File::create(&out).unwrap();
        let pid = self.cx.dir().join("pid").display().to_string();
        let mut command =
            self.command(&["create", "--bundle", &self.bundle(), "--pid-file", &pid, &self.id]);
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let status = command.status().unwrap();
        assert!(status.success(), "{}", std::fs::read_to_string(&out).unwrap());
        out
    }

    fn status(&self) -> String {
        self.run(&["state", "ID"]).json()["status"].as_str().unwrap().to_owned()
    }

    pub fn until_stopped(&self) {
        self.cx.until("it has stopped", || (self.status() == "stopped").then_some(()));
    }

    pub fn until_says(&self, out: &Path, text: &str) {
        self.cx.until(&format!("it says {text}"), || {
            std::fs::read_to_string(out).unwrap().contains(text).then_some(())
        });
    }

    /// Nothing of it is left.
    pub fn gone(&self) {
        let left: Vec<_> = std::fs::read_dir(self.cx.dir().join("state"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.file_name())
            .collect();
        assert!(left.is_empty(), "{left:?}");
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            let group = hierarchy.path().join(&self.id);
            assert!(!group.exists(), "{}", group.display());
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&self.bundle()), "the host has a mount");
    }
}

impl Drop for Rig<'_, '_> {
    fn drop(&mut self) {
        _ = self.run(&["delete", "--force", "ID"]);
    }
}

/// Says that it is up, and ends with 4 when it is told to.
pub const SLEEPER: &str = "trap 'exit 4' TERM; echo up; while :; do sleep 0.05; done";

fn a_life_by_the_command_line(cx: &Cx<'_>) {
    let rig = Rig::new(cx, SLEEPER);
    rig.change(|config| config["annotations"] = json!({"a.b": "c"}));
    let out = rig.create();
    let state = rig.run(&["state", "ID"]).json();
    let pid = std::fs::read_to_string(cx.dir().join("pid")).unwrap();
    assert_eq!(state["pid"].to_string(), pid);
    assert_eq!((&state["status"], &state["id"]), (&json!("created"), &json!(rig.id)));
    assert_eq!(
        (&state["bundle"], &state["annotations"]),
        (&json!(rig.bundle()), &json!({"a.b": "c"}))
    );
    assert!(std::fs::read_to_string(&out).unwrap().is_empty(), "its program waits");
    let bundle = rig.bundle();
    rig.run(&["create", "--bundle", &bundle, "ID"]).fails_with(1, &["given ID already exists"]);
    rig.run(&["start", "ID"]).ok();
    rig.until_says(&out, "up");
    rig.run(&["start", "ID"]).fails_with(1, &["already running"]);
    assert_eq!(rig.run(&["exec", "ID", "sh", "-c", "cat /proc/1/comm; exit 5"]).code(5), "sh");
    rig.run(&["exec", "ID", "no-such"]).fails_with(1, &["executable file not found in $PATH"]);
    let pids = rig.run(&["ps", "--format", "json", "ID"]).json();
    assert!(pids.as_array().unwrap().iter().any(|p| *p == pid.parse::<u64>().unwrap()), "{pids}");
    assert!(rig.run(&["ps", "ID"]).ok().contains("trap 'exit 4'"));
    rig.run(&["pause", "ID"]).ok();
    assert_eq!(rig.status(), "paused");
    rig.run(&["exec", "ID", "true"]).fails_with(1, &["paused container"]);
    let list = rig.run(&["list", "--format", "json"]).json();
    assert_eq!((&list[0]["id"], &list[0]["status"]), (&json!(rig.id), &json!("paused")));
    rig.run(&["resume", "ID"]).ok();
    rig.run(&["resume", "ID"]).fails_with(1, &["container not paused"]);
    let stats = rig.run(&["events", "--stats", "ID"]).json();
    assert!(stats["data"]["memory"]["usage"]["usage"].as_u64().unwrap() > 0, "{stats}");
    rig.run(&["delete", "ID"]).fails_with(1, &["that is not stopped: running"]);
    rig.run(&["kill", "ID", "NO-SUCH"]).fails_with(1, &["unknown signal"]);
    rig.run(&["kill", "ID", "TERM"]).ok();
    rig.until_stopped();
    assert_eq!(rig.run(&["state", "ID"]).json()["pid"], 0);
    rig.run(&["kill", "ID"]).fails_with(1, &["container not running"]);
    rig.run(&["exec", "ID", "true"]).fails_with(1, &["stopped container"]);
    rig.run(&["delete", "ID"]).ok();
    rig.run(&["state", "ID"]).fails_with(1, &["container does not exist"]);
    rig.run(&["delete", "ID"]).fails_with(1, &["container does not exist"]);
    rig.run(&["delete", "--force", "ID"]).ok();
    rig.gone();
}

fn hooks_run_in_their_order(cx: &Cx<'_>) {
    let rig = Rig::new(cx, SLEEPER);
    let notes = cx.dir().join("notes");
    let names = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
    let noting = |name: &str| {
        let script = format!("echo {name} $(cat) >> {}", notes.display());
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}])
    };
    rig.change(|config| {
        for name in names {
            config["hooks"][name] = noting(name);
        }
        // In the container: it finds the container's programs, and the root.
        config["hooks"]["startContainer"] =
            json!([{"path": "/bin/touch", "args": ["touch", "/started"]}]);
    });
    let out = rig.create();
    let started = cx.dir().join("bundle/rootfs/started");
    assert!(!started.exists());
    rig.run(&["start", "ID"]).ok();
    rig.until_says(&out, "up");
    assert!(started.exists());
    rig.run(&["delete", "--force", "ID"]).ok();
    let notes = std::fs::read_to_string(&notes).unwrap();
    let told: Vec<(&str, Value)> = notes
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, state)| (name, serde_json::from_str(state).unwrap()))
        .collect();
    assert_eq!(told.iter().map(|(name, _)| *name).collect::<Vec<_>>(), names);
    let statuses: Vec<&str> = told.iter().map(|(_, s)| s["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["creating", "creating", "created", "running", "stopped"]);
    assert!(told[..4].iter().all(|(_, s)| s["pid"] == told[0].1["pid"]), "{notes}");
    rig.gone();
}

fn what_fails_is_undone(cx: &Cx<'_>) {
    let rig = Rig::new(cx, "true");
    let create = |words: &[&str]| {
        let log = cx.dir().join("log.json").display().to_string();
        let bundle = rig.bundle();
        let head = ["--log", &log, "--log-format", "json", "create", "--bundle", &bundle, "ID"];
        rig.run(&head).fails_with(1, words);
        let log = std::fs::read_to_string(&log).unwrap();
        let last: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
        assert_eq!(last["level"], "error");
        assert!(last["msg"].as_str().unwrap().contains(words[0]), "{log}");
        rig.gone();
    };
    rig.change(|config| config["process"]["args"] = json!(["no-such"]));
    create(&["exec: \"no-such\": executable file not found in $PATH"]);
    rig.change(|config| config["process"]["args"] = json!(["true"]));
    rig.change(|config| config["hooks"]["createRuntime"] = json!([{"path": "/bin/false"}]));
    create(&["error running createRuntime hook #0: exit status 1"]);
    let slow = json!([{"path": "/bin/sleep", "args": ["sleep", "600"], "timeout": 1}]);
    rig.change(|config| config["hooks"]["createRuntime"] = slow);
    create(&["it ran past the timeout of 1 s"]);
    rig.change(|config| config["hooks"] = json!({}));
    rig.change(|config| {
        config["mounts"][0] = json!({"destination": "/x", "type": "no-such-fs", "source": "x"})
    });
    create(&["no such device"]);
    rig.change(|config| {
        config["mounts"] = json!([{"destination": "/x", "source": "/no/such", "options": ["bind"]}])
    });
    create(&["no such file or directory"]);
    rig.run(&["create", "--bundle", "/no/such/bundle", "ID"]).fails_with(1, &["no such file"]);
    rig.run(&["create", "../ID"]).fails(1);
    rig.run(&["--systemd-cgroup", "state", "ID"]).fails_with(1, &["cgroupfs"]);
    rig.run(&["no-such-command", "x"]).fails_with(1, &["No help topic for 'no-such-command'"]);
    rig.run(&["state", "--no-such"]).fails_with(1, &["flag provided but not defined: -no-such"]);
    rig.change(|config| {
        config["linux"]["namespaces"] = json!([{"type": "mount"}]);
        config["hostname"] = json!("");
        config["mounts"] = json!([]);
        config["process"]["terminal"] = json!(true);
    });
    rig.run(&["create", "--bundle", &rig.bundle(), "ID"]).fails_with(1, &["console socket"]);
}

fn run_waits_and_gives_the_code(cx: &Cx<'_>) {
    let rig = Rig::new(cx, "cat; echo end >&2; exit 9");
    let bundle = rig.bundle();
    let mut command = rig.command(&["run", "--bundle", &bundle, &rig.id]);
    let output = testkit::command::run(&mut command, b"piped\n");
    assert_eq!((output.code(9), output.stderr.as_str()), ("piped", "end\n"));
    rig.gone();
}

fn user_umask_and_capabilities(cx: &Cx<'_>) {
    let rig =
        Rig::new(cx, "id -u; id -g; umask; grep -E '^(Cap|NoNew)' /proc/self/status; echo $HOME");
    rig.change(|config| {
        config["process"]["user"] =
            json!({"uid": 1000, "gid": 1001, "umask": 0o77, "additionalGids": [5]});
        let one = json!(["CAP_NET_BIND_SERVICE"]);
        config["process"]["capabilities"] = json!({"bounding": ["CAP_NET_BIND_SERVICE", "CAP_KILL"],
            "effective": one, "permitted": one, "inheritable": one, "ambient": one});
    });
    let output = rig.run(&["run", "--bundle", &rig.bundle(), "ID"]);
    let bind = "0000000000000400";
    assert_eq!(
        output.ok(),
        format!(
            "1000\n1001\n0077\nCapInh:\t{bind}\nCapPrm:\t{bind}\nCapEff:\t{bind}\nCapBnd:\t0000000000000420\nCapAmb:\t{bind}\nNoNewPrivs:\t1\n/"
        )
    );
    rig.gone();
}

fn limits_change_while_it_runs(cx: &Cx<'_>) {
    let rig = Rig::new(cx, SLEEPER);
    rig.create();
    rig.run(&["start", "ID"]).ok();
    let limits = || {
        let data = rig.run(&["events", "--stats", "ID"]).json()["data"].clone();
        (data["memory"]["usage"]["limit"].clone(), data["pids"]["limit"].clone())
    };
    rig.run(&["update", "--memory", "64m", "--pids-limit", "30", "ID"]).ok();
    assert_eq!(limits(), (json!(64 << 20), json!(30)));
    let file = cx.write("limits.json", json!({"pids": {"limit": 40}}).to_string());
    rig.run(&["update", "--resources", &file.display().to_string(), "ID"]).ok();
    assert_eq!(limits().1, 40);
    rig.run(&["kill", "--all", "ID", "KILL"]).ok();
    rig.until_stopped();
    rig.run(&["update", "--pids-limit", "5", "ID"]).fails_with(1, &["container not running"]);
    rig.run(&["delete", "ID"]).ok();
    rig.gone();
}

fn facts_about_the_runtime(cx: &Cx<'_>) {
    let rig = Rig::new(cx, "true");
    assert!(rig.run(&["--version"]).ok().contains("spec: 1.2.0"));
    let features = rig.run(&["features"]).json();
    assert_eq!(features["linux"]["cgroup"]["v1"], true);
    assert_eq!(features["linux"]["mountExtensions"]["idmap"]["enabled"], true);
    assert!(features["linux"]["namespaces"].as_array().unwrap().contains(&json!("user")));
    assert!(features["hooks"].as_array().unwrap().contains(&json!("startContainer")));
    let help = rig.run(&["--help"]).ok().to_owned();
    for command in ["create", "start", "state", "kill", "delete", "exec", "run", "update", "events"]
    {
        assert!(help.contains(&format!("  {command} ")), "{help}");
    }
    rig.run(&["spec", "--bundle", &rig.bundle()]).fails_with(1, &["exists. Remove it first"]);
}

/// A containerd of the case's own.
struct Containerd<'c, 'd> {
    cx: &'c Cx<'d>,
    process: std::process::Child,
}

impl<'c, 'd> Containerd<'c, 'd> {
    fn start(cx: &'c Cx<'d>) -> Self {
        let dir = cx.dir().display();
        let config = cx.write(
            "containerd.toml",
            format!(
                "version = 2\nroot = \"{dir}/cd-root\"\nstate = \"{dir}/cd-state\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{dir}/cd.sock\"\n[ttrpc]\naddress = \"{dir}/cd.ttrpc\"\n"
            ),
        );
        let log = std::fs::File::create(cx.dir().join("containerd.log")).unwrap();
        let mut command = Command::new("/usr/bin/containerd");
        command.arg("--config").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let this = Self { cx, process: command.spawn().unwrap() };
        cx.until("containerd answers", || (this.ctr(&["version"]).code == Some(0)).then_some(()));
        this
    }

    fn ctr(&self, args: &[&str]) -> Output {
        let mut command = Command::new("/usr/bin/ctr");
        command.arg("--address").arg(self.cx.dir().join("cd.sock"));
        command.args(["--namespace", "gantry-test"]).args(args);
        testkit::command::run(&mut command, b"")
    }
}

impl Drop for Containerd<'_, '_> {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
        host::remove_control_groups("gantry-test");
    }
}

fn containerd_uses_it(cx: &Cx<'_>) {
    if !Path::new("/usr/bin/ctr").exists() {
        skip("containerd is not installed");
    }
    let rig = Rig::new(cx, "true");
    let rootfs = cx.dir().join("bundle/rootfs").display().to_string();
    let shim = shim().display().to_string();
    let containerd = Containerd::start(cx);
    let ctr = |args: &[&str]| containerd.ctr(args);
    let head = ["run", "--env", "PATH=/bin", "--runc-binary", &shim, "--rootfs"];
    let script = "echo hello; id; exit 3";
    let once =
        ctr(&[&head[..1], &["--rm"], &head[1..], &[&rootfs, "once", "sh", "-c", script]].concat());
    assert_eq!(once.code(3), "hello\nuid=0 gid=0 groups=0");
    ctr(&[&head[..1], &["-d"], &head[1..], &[&rootfs, "long", "sh", "-c", SLEEPER]].concat()).ok();
    let state = || ctr(&["task", "ls"]).ok().lines().last().unwrap().to_owned();
    assert!(state().ends_with("RUNNING"), "{}", state());
    ctr(&["task", "exec", "--exec-id", "e", "long", "sh", "-c", "exit 5"]).code(5);
    assert!(ctr(&["task", "ps", "long"]).lines().len() >= 2);
    assert!(ctr(&["task", "metrics", "long"]).ok().contains("pids.current"));
    ctr(&["task", "pause", "long"]).ok();
    assert!(state().ends_with("PAUSED"), "{}", state());
    ctr(&["task", "resume", "long"]).ok();
    ctr(&["task", "kill", "-s", "TERM", "long"]).ok();
    cx.until("it has stopped", || state().ends_with("STOPPED").then_some(()));
    let removed = ctr(&["task", "rm", "long"]);
    assert!(removed.stderr.contains("exit code 4"), "{}", removed.describe());
    ctr(&["container", "rm", "long"]).ok();
    let missing = ctr(&[&head[..1], &["--rm"], &head[1..], &[&rootfs, "none", "no-such"]].concat());
    assert!(missing.fails(1).contains("executable file not found"), "{}", missing.describe());
    drop(containerd);
    rig.gone();
}

fn dockerd_uses_it(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        skip("it is Gantry's runtime that is under test");
    }
    if !Path::new("/usr/sbin/dockerd").exists() {
        skip("dockerd is not installed");
    }
    let runtime = format!("gantry={}", shim().display());
    let options = testkit::daemon::Options {
        binary: Some("/usr/sbin/dockerd".into()),
        ..testkit::daemon::Options::new().without_bridge()
    };
    let args = ["--add-runtime", &runtime, "--default-runtime", "gantry", "--iptables=false"];
    let daemon = testkit::Daemon::start(options.args(&args)).unwrap();
    daemon.load_busybox().unwrap();
    let own = Cx::new(&daemon, "own");
    let net = "--network=none";
    let script = "id -u; cat /proc/1/comm; exit 3";
    let once = own.run(&["--rm", net], &["sh", "-c", script]);
    assert_eq!(once.code(3), "0\nsh");
    let name =
        own.start("long", &[net, "-m", "64m", "--memory-swap", "64m"], &["sh", "-c", SLEEPER]);
    assert_eq!(own.inspect(&name)["HostConfig"]["Runtime"], "gantry");
    own.docker(&["exec", &name, "sh", "-c", "exit 6"]).code(6);
    assert_eq!(own.docker(&["exec", "-u", "7:8", &name, "id", "-g"]).ok(), "8");
    assert!(own.docker(&["top", &name]).ok().contains("trap"));
    own.docker(&["pause", &name]).ok();
    own.docker(&["unpause", &name]).ok();
    own.docker(&["update", "-m", "96m", "--memory-swap", "96m", &name]).ok();
    let limit = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max";
    assert_eq!(own.docker(&["exec", &name, "sh", "-c", limit]).ok(), "100663296");
    own.wait_for_log(&name, "up");
    own.docker(&["stop", "-t", "60", &name]).ok();
    assert_eq!(own.inspect(&name)["State"]["ExitCode"], 4);
    own.docker(&["rm", &name]).ok();
    own.run(&["--rm", net], &["no-such"]).code(127);
    daemon.stop().unwrap();
}
