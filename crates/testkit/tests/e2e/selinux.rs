//! SELinux: labels of processes and files, and that they confine. Needs a kernel with the policy of `cargo xtask vm`
//! (`crates/xtask/src/vm/policy.cil`), which confines no more than these cases need; what holds without SELinux is tried
//! anywhere.

use serde_json::json;
use std::path::Path;
use testkit::{Cx, Daemon, cases, cx::skip, daemon::Options, suite::Case};

pub const CASES: &[Case] = cases![
    without_a_policy_there_are_no_labels_and_it_is_said,
    nothing_is_labelled_unless_asked,
    all_processes_of_a_container_have_its_label,
    a_container_uses_what_is_its_own_or_shared,
    options_choose_the_label_or_none,
    volumes_are_relabelled_and_what_the_host_needs_is_not,
    steps_use_what_the_builder_gives_them,
    labels_outlive_the_daemon,
    the_shim_alone_takes_labels_too,
];

const CURRENT: &str = "/proc/self/attr/current";
const PROCESS: &str = "system_u:system_r:container_t:s0:c";
const FILE: &str = "system_u:object_r:container_file_t:s0:c";

fn is_there() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// A daemon that labels containers, where the test's policy is in force.
fn daemon() -> Daemon {
    daemon_with(Options::new().args(&["--selinux-enabled"]))
}

fn daemon_with(options: Options) -> Daemon {
    if !is_there() {
        skip("this kernel has no SELinux");
    }
    let enforced = std::fs::read("/sys/fs/selinux/enforce").unwrap();
    assert_eq!(enforced, b"1", "the policy has to be in force");
    // It is the init of containers as well, so they have to be let execute it.
    let program = b"system_u:object_r:program_file_t:s0";
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(super::oci_runtime::shim(), "security.selinux", program, flags).unwrap();
    let daemon = Daemon::start(options.without_bridge()).unwrap();
    daemon.load_busybox().unwrap();
    daemon
}

/// Without a network, which the daemon has not.
fn alone<'a>(options: &[&'a str]) -> Vec<&'a str> {
    [&["--network=none"], options].concat()
}

fn label(cx: &Cx<'_>, name: &str, key: &str) -> String {
    cx.inspect(name)[key].as_str().unwrap().to_owned()
}

/// The label of a file as the kernel tells it.
fn file_label(path: impl AsRef<Path>) -> String {
    let mut bytes = [0; 256];
    let length = rustix::fs::lgetxattr(path.as_ref(), "security.selinux", &mut bytes).unwrap();
    String::from_utf8_lossy(&bytes[..length]).trim_end_matches('\0').to_owned()
}

fn without_a_policy_there_are_no_labels_and_it_is_said(cx: &Cx<'_>) {
    if is_there() {
        skip("this kernel has SELinux");
    }
    if !cx.is_gantry() {
        skip("needs a daemon of its own");
    }
    let daemon = Daemon::start(Options::new().without_bridge().args(&["--selinux-enabled"]));
    let daemon = daemon.unwrap();
    daemon.load_busybox().unwrap();
    let own = Cx::new(&daemon, "own");
    let info = own.api().get("/info").expect(200)["SecurityOptions"].to_string();
    assert!(!info.contains("selinux"), "{info}");
    let name = own.sleeper("a", &alone(&["--security-opt=label=type:x_t"]));
    assert_eq!(label(&own, &name, "ProcessLabel") + &label(&own, &name, "MountLabel"), "");
    let log = daemon.log_tail();
    assert!(log.contains("could not enable SELinux on the host system"), "{log}");
    let rig = super::oci_runtime::Rig::new(cx, "true");
    rig.change(|config| config["process"]["selinuxLabel"] = json!("u:r:t:s0"));
    let run = ["run", "--bundle", &rig.bundle(), "ID"];
    rig.run(&run).fails_with(1, &["selinux is disabled or not supported", "u:r:t:s0"]);
    let features = rig.run(&["features"]).json();
    assert_eq!(features["linux"]["selinux"]["enabled"], false);
    rig.gone();
}

fn nothing_is_labelled_unless_asked(cx: &Cx<'_>) {
    if !is_there() {
        skip("this kernel has no SELinux");
    }
    let info = cx.api().get("/info").expect(200)["SecurityOptions"].to_string();
    assert!(!info.contains("selinux"), "{info}");
    let name = cx.name("a");
    let option = "--security-opt=label=type:container_t";
    let create = ["create", "--name", &name, "--network=none", option, "busybox", "cat", CURRENT];
    let made = cx.docker(&create);
    assert!(made.stderr.contains("not enabled in this daemon"), "{}", made.describe());
    assert_eq!(label(cx, &name, "ProcessLabel") + &label(cx, &name, "MountLabel"), "");
    assert!(!cx.docker(&["start", "-a", &name]).ok().contains("container_t"));
}

fn all_processes_of_a_container_have_its_label(_: &Cx<'_>) {
    let daemon = daemon();
    let cx = &Cx::new(&daemon, "own");
    let info = cx.api().get("/info").expect(200)["SecurityOptions"].to_string();
    assert!(info.contains("name=selinux"), "{info}");
    let health =
        ["--health-cmd=cat /proc/self/attr/current", "--health-interval=1s", "--tmpfs=/mem"];
    let name = cx.sleeper("a", &alone(&health));
    let process = label(cx, &name, "ProcessLabel");
    let mount = label(cx, &name, "MountLabel");
    assert!(process.starts_with(PROCESS), "{process}");
    let level = |label: &str| label.splitn(4, ':').nth(3).unwrap().to_owned();
    assert!(mount.starts_with(FILE) && level(&mount) == level(&process), "{mount} of {process}");
    for args in [
        &["exec", &name, "cat", CURRENT][..],
        &["exec", &name, "cat", "/proc/1/attr/current"],
        &["exec", "--privileged", "--user=12", &name, "cat", CURRENT],
    ] {
        assert_eq!(cx.docker(args).ok().trim_end_matches('\0'), process, "{args:?}");
    }
    cx.until("the health check said its label", || {
        let log = cx.inspect(&name)["State"]["Health"]["Log"].to_string();
        log.contains(&process).then_some(())
    });
    // What the container sees and makes has its label of files, on every file system that is its own.
    let make = "touch /new /mem/new /dev/shm/new && cat /etc/hosts > /etc/hostname.copy";
    cx.docker(&["exec", &name, "sh", "-c", make]).ok();
    let root = format!("/proc/{}/root", cx.inspect(&name)["State"]["Pid"]);
    for path in [
        "/bin/busybox",
        "/new",
        "/mem/new",
        "/dev/shm/new",
        "/dev/null",
        "/dev/pts",
        "/dev/mqueue",
        "/etc/hosts",
    ] {
        assert_eq!(file_label(format!("{root}{path}")), mount, "{path}");
    }
    assert!(cx.busybox(&alone(&["--init"]), &["cat", CURRENT]).starts_with(PROCESS));
    let other = cx.sleeper("b", &alone(&[]));
    assert_ne!(label(cx, &other, "ProcessLabel"), process);
    // A step of a build, and what it made, which has to be as good as what came with the image.
    let file =
        format!("FROM busybox\nRUN cat {CURRENT}; mkdir /made && cp /bin/busybox /made/cat\n");
    let build = ["build", "--network=none", "--no-cache", "-t", "own-made", "-"];
    let built = cx.docker_with(&build, file);
    assert!(built.ok().contains(PROCESS), "{}", built.describe());
    let run = ["run", "--rm", "--network=none", "own-made", "/made/cat", CURRENT];
    assert!(cx.docker(&run).ok().starts_with(PROCESS));
    // So is what is put into a container before it runs.
    let program = cx.write("cat", std::fs::read(format!("{root}/bin/busybox")).unwrap());
    let stopped = cx.name("c");
    let create = ["create", "--name", &stopped, "--network=none", "busybox", "/cat", CURRENT];
    cx.docker(&create).ok();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode).unwrap();
    cx.docker(&["cp", &program.display().to_string(), &format!("{stopped}:/cat")]).ok();
    assert!(cx.docker(&["start", "-a", &stopped]).ok().starts_with(PROCESS));
}

fn a_container_uses_what_is_its_own_or_shared(cx: &Cx<'_>) {
    let daemon = daemon();
    let own = &Cx::new(&daemon, "own");
    let folder = |name: &str| {
        cx.write(&format!("{name}/file"), name);
        cx.dir().join(name).display().to_string()
    };
    let (plain, private, shared) = (folder("plain"), folder("private"), folder("shared"));
    let first = [
        format!("--volume={plain}:/plain"),
        format!("--volume={private}:/private:Z"),
        format!("--volume={shared}:/shared:z"),
    ];
    let first: Vec<&str> = first.iter().map(String::as_str).collect();
    let a = own.sleeper("a", &alone(&first));
    // The second one sees the private folder of the first, without relabelling it.
    let second = [format!("--volume={private}:/private"), format!("--volume={shared}:/shared")];
    let second: Vec<&str> = second.iter().map(String::as_str).collect();
    let b = own.sleeper("b", &alone(&second));
    let read = |name: &str, path: &str| own.docker(&["exec", name, "cat", path]);
    assert_eq!(read(&a, "/private/file").ok(), "private");
    assert_eq!(read(&a, "/shared/file").ok(), "shared");
    assert_eq!(read(&b, "/shared/file").ok(), "shared");
    read(&b, "/private/file").fails_with(1, &["Permission denied"]);
    read(&a, "/plain/file").fails_with(1, &["Permission denied"]);
    let private = cx.dir().join("private");
    assert_eq!(file_label(private.join("file")), label(own, &a, "MountLabel"));
    assert_eq!(file_label(cx.dir().join("shared/file")), "system_u:object_r:container_file_t:s0");
    own.docker(&["exec", &a, "touch", "/private/mine", "/shared/mine"]).ok();
    own.docker(&["exec", &b, "touch", "/private/theirs"]).fails_with(1, &["Permission denied"]);
}

fn options_choose_the_label_or_none(cx: &Cx<'_>) {
    let daemon = daemon();
    let own = &Cx::new(&daemon, "own");
    let said = |options: &[&str]| own.busybox(&alone(options), &["cat", CURRENT]).replace('\0', "");
    let free = "system_u:system_r:spc_t:s0";
    assert_eq!(said(&["--security-opt=label=disable"]), free);
    assert_eq!(said(&["--privileged"]), free);
    assert_eq!(said(&["--pid=host"]), free);
    assert_eq!(said(&["--security-opt=label=level:s0:c7"]), "system_u:system_r:container_t:s0:c7");
    let reader = "--security-opt=label=type:container_reader_t";
    assert!(said(&[reader]).starts_with("system_u:system_r:container_reader_t:s0:c"));
    cx.write("plain/file", "plain");
    let bind = format!("--volume={}:/plain", cx.dir().join("plain").display());
    own.run(&alone(&["--rm", &bind]), &["cat", "/plain/file"])
        .fails_with(1, &["Permission denied"]);
    assert_eq!(own.busybox(&alone(&[&bind, reader]), &["cat", "/plain/file"]), "plain");

    let name = own.sleeper("a", &alone(&["--ipc=shareable"]));
    let process = label(own, &name, "ProcessLabel");
    for joined in [format!("--pid=container:{name}"), format!("--ipc=container:{name}")] {
        assert_eq!(said(&[&joined]), process, "{joined}");
    }
    let name = own.sleeper("b", &alone(&["--privileged"]));
    let shown = own.inspect(&name);
    assert_eq!(shown["HostConfig"]["SecurityOpt"], json!(["label=disable"]));
    assert_eq!(shown["ProcessLabel"], "");
    assert_eq!(shown["MountLabel"], format!("{FILE}1022,c1023"));

    let wrong = alone(&["--security-opt=label=type:no_such_t"]);
    own.run(&wrong, &["true"]).fails_with(125, &["no_such_t", "does not know the label"]);
    let nested = ["--security-opt=label=nested"];
    assert_eq!(own.busybox(&alone(&nested), &["cat", "/sys/fs/selinux/enforce"]), "1");
}

fn volumes_are_relabelled_and_what_the_host_needs_is_not(_: &Cx<'_>) {
    let daemon = daemon();
    let own = &Cx::new(&daemon, "own");
    own.busybox(&alone(&["--volume=own-data:/data"]), &["sh", "-c", "echo one > /data/file"]);
    let read = own.busybox(&alone(&["--volume=own-data:/data"]), &["cat", "/data/file"]);
    assert_eq!(read, "one", "a volume is for all containers");
    for kept in ["/etc", "/usr", "/"] {
        let bind = format!("--volume={kept}:/host:Z");
        let text = format!("SELinux relabeling of {kept} is not allowed");
        own.run(&alone(&["--rm", &bind]), &["true"]).fails_with(125, &[&text]);
    }
}

fn steps_use_what_the_builder_gives_them(_: &Cx<'_>) {
    let daemon = daemon();
    let own = &Cx::new(&daemon, "own");
    own.write("context/file", "from the context");
    own.write("context/Dockerfile", format!(
        "FROM busybox\n\
         RUN --mount=type=bind,target=/src --mount=type=cache,target=/cache --mount=type=secret,id=s \
         cat /src/file /run/secrets/s && cp /bin/busybox /cache/cat\n\
         RUN --mount=type=cache,target=/cache /cache/cat {CURRENT}\n"
    ));
    let secret = own.write("secret", "and a secret").display().to_string();
    let args = ["--network=none", "--secret", &format!("id=s,src={secret}")];
    let output = super::buildx::buildx(own, &args);
    output.ok();
    for said in ["from the contextand a secret", PROCESS] {
        assert!(output.stderr.contains(said), "{said}: {}", output.describe());
    }
}

fn labels_outlive_the_daemon(_: &Cx<'_>) {
    let config = json!({"selinux-enabled": true}).to_string();
    let daemon = daemon_with(Options { config, ..Options::new() });
    let own = &Cx::new(&daemon, "own");
    let name = own.sleeper("a", &alone(&[]));
    let before = label(own, &name, "ProcessLabel");
    daemon.kill().unwrap();
    daemon.start_again().unwrap();
    assert_eq!(label(own, &name, "ProcessLabel"), before);
    let exec = ["exec", &name, "cat", CURRENT];
    assert_eq!(own.docker(&exec).ok().trim_end_matches('\0'), before);
    own.docker(&["restart", "-t", "0", &name]).ok();
    assert_eq!(own.docker(&exec).ok().trim_end_matches('\0'), before);
}

fn the_shim_alone_takes_labels_too(cx: &Cx<'_>) {
    if !is_there() {
        skip("this kernel has no SELinux");
    }
    let rig =
        super::oci_runtime::Rig::new(cx, "cat /proc/self/attr/current; grep shm /proc/mounts");
    // The bundle's files are the host's, so its process has to be one that may use them.
    let process = "system_u:system_r:spc_t:s0:c1,c2";
    let mounts = "system_u:object_r:container_file_t:s0:c1,c2";
    rig.change(|config| {
        config["process"]["selinuxLabel"] = process.into();
        config["linux"]["mountLabel"] = mounts.into();
    });
    let run = ["run", "--bundle", &rig.bundle(), "ID"];
    let output = rig.run(&run);
    let said = output.ok();
    assert!(said.starts_with(process), "{said}");
    assert!(said.contains(&format!("context=\"{mounts}\"")), "{said}");
    assert_eq!(rig.run(&["features"]).json()["linux"]["selinux"]["enabled"], true);
    rig.change(|config| config["process"]["selinuxLabel"] = "u:r:no_such_t:s0".into());
    rig.run(&run).fails_with(1, &["unable to apply SELinux label u:r:no_such_t:s0"]);
    rig.gone();
}
