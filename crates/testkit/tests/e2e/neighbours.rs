//! Around the engine: the command line over ssh, the socket in a container that builds and runs siblings, and Gantry in
//! a privileged container of Gantry.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};
use testkit::{
    Cx, Output, cases, command,
    cx::skip,
    registry::{Options, Registry},
    suite::Case,
};

pub const CASES: &[Case] = cases![
    the_command_line_comes_by_ssh,
    a_container_with_the_socket_builds_and_runs_siblings,
    gantry_runs_in_a_container_of_gantry,
    skopeo_copies_through_our_registry,
    skopeo_copies_from_and_to_the_daemon,
    podman_and_buildah_share_images_through_our_registry,
];

/// Options that make the docker command line and other programs of the host run in a container.
fn tools() -> Vec<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found: Option<PathBuf> =
        std::env::split_paths(&path).map(|folder| folder.join("docker")).find(|p| p.is_file());
    let Some(docker) = found else { skip("there is no docker command line") };
    let docker = docker.canonicalize().unwrap().display().to_string();
    let mut options = vec![format!("-v={docker}:/bin/docker:ro")];
    // Where programs that are not static find their loader and libraries.
    let folders = ["/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/lib64"];
    let libraries = folders.iter().filter(|folder| Path::new(folder).is_dir());
    options.extend(libraries.map(|folder| format!("-v={folder}:{folder}:ro")));
    options
}

fn the_command_line_comes_by_ssh(cx: &Cx<'_>) {
    // What ssh does, without a network: the command that follows its options runs, here.
    let script = format!(
        "#!/bin/sh\nwhile [ \"$1\" != docker ]; do shift || exit 1; done\n\
         unset DOCKER_CONTEXT\nexport DOCKER_HOST=unix://{}\nexec \"$@\"\n",
        cx.daemon.socket().display()
    );
    let ssh = cx.write("bin/ssh", script);
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
    let mut path = OsString::from(ssh.parent().unwrap());
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let docker = |args: &[&str], stdin: &[u8]| {
        let mut command = cx.command();
        command.env_remove("DOCKER_HOST").env("DOCKER_CONFIG", cx.dir().join("config"));
        command.env("PATH", &path).args(args);
        command::run(&mut command, stdin)
    };
    docker(&["context", "create", "far", "--docker", "host=ssh://user@host"], b"").ok();
    let label = cx.label();
    let run = ["--context", "far", "run", "-i", "--rm", "--label", &label, "busybox", "cat"];
    assert_eq!(docker(&run, b"typed far away\n").ok(), "typed far away");
    let direct = cx.docker(&["info", "-f", "{{.ID}}"]).ok().to_owned();
    assert_eq!(docker(&["--context", "far", "info", "-f", "{{.ID}}"], b"").ok(), direct);
    docker(&["--context", "far", "run", "--rm", "--label", &label, "busybox", "false"], b"")
        .fails_with(1, &[]);
}

fn a_container_with_the_socket_builds_and_runs_siblings(cx: &Cx<'_>) {
    let tools = tools();
    let socket = format!("-v={}:/var/run/docker.sock", cx.daemon.socket().display());
    let (image, label) = (cx.name("sibling"), cx.label());
    let script = format!(
        "set -e; mkdir /c; printf 'FROM busybox\\nRUN echo built >/f\\n' >/c/Dockerfile\n\
         DOCKER_BUILDKIT=0 docker build -q -t {image} /c >/dev/null 2>&1\n\
         docker run --rm --label {label} {image} cat /f"
    );
    let options: Vec<&str> = tools.iter().map(String::as_str).chain([&*socket]).collect();
    assert_eq!(cx.busybox(&options, &["sh", "-c", &script]), "built");
}

fn gantry_runs_in_a_container_of_gantry(cx: &Cx<'_>) {
    let Ok(gantry) = testkit::daemon::built("gantry") else { skip("gantry has not been built") };
    let tools = tools();
    let profile = gantry.parent().unwrap();
    let target = format!("-v={}:/g:ro", profile.parent().unwrap().display());
    let data = format!("-v={}:/var/lib/gantry", cx.name("data"));
    let program = format!("/g/{}/gantry", profile.file_name().unwrap().display());
    let script = format!(
        "mkdir -p /run; exec {program} daemon --data-root /var/lib/gantry --exec-root /run/gantry \
         --pidfile /run/gantry.pid -H unix:///var/run/docker.sock"
    );
    let options: Vec<&str> =
        tools.iter().map(String::as_str).chain(["--privileged", &target, &data]).collect();
    let outer = cx.start("outer", &options, &["sh", "-c", &script]);
    let inside = |args: &[&str], stdin: &[u8]| {
        cx.docker_with(&[&["exec", "-i", &outer, "docker"], args].concat(), stdin)
    };
    cx.until("the inner daemon answers", || {
        (inside(&["version"], b"").code == Some(0)).then_some(())
    });
    inside(&["load"], testkit::image::busybox()).ok();
    assert_eq!(
        inside(&["run", "--rm", "-m", "64m", "busybox", "echo", "inner"], b"").ok(),
        "inner"
    );
    inside(&["network", "create", "inner"], b"").ok();
    let serve = ["run", "-d", "--name", "server", "--network", "inner", "busybox"];
    inside(&[&serve[..], &["httpd", "-f", "-p", "80", "-h", "/etc"]].concat(), b"").ok();
    let fetch = [
        "sh",
        "-c",
        "for i in $(seq 100); do wget -qO- http://server/passwd && exit; done; exit 1",
    ];
    let fetched =
        inside(&[&["run", "--rm", "--network", "inner", "busybox"], &fetch[..]].concat(), b"");
    assert!(fetched.ok().contains("root:"), "{}", fetched.describe());
    // The inner engine's containers are no business of the outer one's.
    let names = cx.docker(&["ps", "-a", "--format", "{{.Names}}"]).ok().to_owned();
    assert!(!names.lines().any(|name| name == "server"), "{names}");
    inside(&["rm", "-f", "server"], b"").ok();
    cx.docker(&["stop", "-t", "20", &outer]).ok();
}

/// Runs a program of another engine with folders of the case's own; the case is skipped where there is none.
fn other(cx: &Cx<'_>, program: &str, args: &[&str]) -> Output {
    if !Path::new("/usr/bin").join(program).exists() {
        skip(&format!("{program} is not installed"));
    }
    let mut command = Command::new(program);
    command.current_dir(cx.dir());
    if program != "skopeo" {
        command
            .arg("--root")
            .arg(cx.dir().join("store"))
            .arg("--runroot")
            .arg(cx.dir().join("run"));
        command.args(["--storage-driver", "vfs"]);
    }
    command::run(command.args(args), b"")
}

fn skopeo_copies_through_our_registry(cx: &Cx<'_>) {
    let registry = Registry::gantry(Options::default()).unwrap();
    let skopeo = |args: &[&str]| other(cx, "skopeo", args);
    let remote = format!("docker://{}/team/box", registry.host());
    let archive = cx.dir().join("box.tar").display().to_string();
    cx.docker(&["save", "-o", &archive, "busybox"]).ok();
    let from = format!("docker-archive:{archive}");
    skopeo(&["copy", "-q", "--dest-tls-verify=false", &from, &format!("{remote}:1")]).ok();
    let (one, two) = (format!("{remote}:1"), format!("{remote}:2"));
    let both = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    skopeo(&[&["copy", "-q", "--format=oci"][..], &both, &[&one, &two]].concat()).ok();
    let tags = skopeo(&["list-tags", "--tls-verify=false", &remote]).json();
    assert_eq!(tags["Tags"], serde_json::json!(["1", "2"]));
    let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &two]).json();
    assert_eq!(raw["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    let layout = cx.dir().join("layout").display().to_string();
    skopeo(&["copy", "-q", "--src-tls-verify=false", &two, &format!("oci:{layout}:two")]).ok();
    let name = cx.name("back:1");
    let back = cx.dir().join("back.tar").display().to_string();
    let to = format!("docker-archive:{back}:{name}");
    skopeo(&["copy", "-q", &format!("oci:{layout}:two"), &to]).ok();
    cx.docker(&["load", "-i", &back]).ok();
    let id =
        |image: &str| cx.docker(&["inspect", "-f", "{{.RootFS.Layers}}", image]).ok().to_owned();
    assert_eq!(id(&name), id("busybox"));
    skopeo(&["delete", "--tls-verify=false", &one]).ok();
    skopeo(&["inspect", "--tls-verify=false", &one]).fails_with(1, &["manifest unknown"]);
}

fn skopeo_copies_from_and_to_the_daemon(cx: &Cx<'_>) {
    let socket = format!("unix://{}", cx.daemon.socket().display());
    let skopeo = |args: &[&str]| other(cx, "skopeo", args);
    let layout = format!("oci:{}:box", cx.dir().join("box").display());
    let (from, to) = (["--src-daemon-host", &socket], ["--dest-daemon-host", &socket]);
    skopeo(&[&["copy", "-q"][..], &from, &["docker-daemon:busybox:latest", &layout]].concat()).ok();
    let name = cx.name("skopeo:1");
    let there = format!("docker-daemon:{name}");
    skopeo(&[&["copy", "-q"][..], &to, &[&layout, &there]].concat()).ok();
    let layers =
        |image: &str| cx.docker(&["inspect", "-f", "{{.RootFS.Layers}}", image]).ok().to_owned();
    assert_eq!(layers(&name), layers("busybox"));
    let seen = skopeo(&["inspect", "--daemon-host", &socket, &there]).json();
    assert_eq!(seen["Os"], "linux", "{seen}");
    skopeo(&["inspect", "--daemon-host", &socket, "docker-daemon:no-such-image:1"])
        .fails_with(1, &["no-such-image"]);
}

fn podman_and_buildah_share_images_through_our_registry(cx: &Cx<'_>) {
    let registry = Registry::gantry(Options::default()).unwrap();
    let image = |tag: &str| format!("{}/{}:{tag}", registry.host(), cx.name("shared"));
    let [ours, podmans, built] = ["ours", "podmans", "built"].map(image);
    cx.docker(&["tag", "busybox", &ours]).ok();
    cx.docker(&["push", "-q", &ours]).ok();
    let insecure = "--tls-verify=false";
    let podman = |args: &[&str]| other(cx, "podman", args);
    podman(&["pull", "-q", insecure, &ours]).ok();
    podman(&["tag", &ours, &podmans]).ok();
    podman(&["push", "-q", insecure, &podmans]).ok();
    assert_eq!(
        cx.docker(&["run", "--rm", &podmans, "echo", "by podman"]).stdout.trim(),
        "by podman"
    );
    cx.write("f", "made by buildah");
    let buildah = |args: &[&str]| other(cx, "buildah", args);
    let working = buildah(&["from", "-q", insecure, &ours]);
    let working = working.ok();
    buildah(&["copy", "-q", working, "f", "/f"]).ok();
    buildah(&["config", "--cmd", "cat /f", working]).ok();
    buildah(&["commit", "-q", "--format=oci", working, &built]).ok();
    buildah(&["push", "-q", insecure, &built]).ok();
    assert_eq!(cx.docker(&["run", "--rm", &built]).stdout.trim(), "made by buildah");
    buildah(&["rm", working]).ok();
    podman(&["rmi", "-af"]).ok();
    for image in [ours, podmans, built] {
        cx.docker(&["rmi", &image]).ok();
    }
}
