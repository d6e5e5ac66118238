//! What an image says of users, groups and variables: it names people inside, and steers nothing outside.

use crate::attacks_runtime::{canary, load, untouched};
use serde_json::json;
use std::fs;
use testkit::{Cx, cases, probe, suite::Case, tarball::Tarball};

pub const CASES: &[Case] = cases![
    users_are_judged_alike_through_every_door,
    passwd_files_that_change_while_it_runs,
    variables_of_the_image_reach_no_program_of_the_host,
];

fn users_are_judged_alike_through_every_door(cx: &Cx<'_>) {
    let mut layer = Tarball::new();
    layer.file(
        "etc/passwd",
        0o644,
        "root:x:0:0:root:/root:/bin/sh\n1234:x:0:0::/:/bin/sh\n-1:x:0:0::/:/bin/sh\n\
         wide:x:4294967296:0::/:/bin/sh\nminus:x:-1:0::/:/bin/sh\nempty:x::0::/:/bin/sh\n",
    );
    layer.file("etc/group", 0o644, "root:x:0:\nwide:x:4294967296:\n-1:x:0:\n");
    let tag = load(cx, "img", &layer);
    let name = cx.name("a");
    cx.docker(&["run", "-d", "--network=none", "--name", &name, &tag, "sleep", "600"]).ok();
    let users = [
        "2147483648",
        "4294967296",
        "-1",
        "wide",
        "minus",
        "empty",
        "0x0",
        "\u{ff14}",
        "1 ",
        "none",
        "18446744073709551616",
        "1:-1",
        "1:wide",
        "1:4294967296",
        "1:none",
        "0.0",
        "0e1",
    ];
    for user in users {
        let exec = cx.docker(&["exec", "-u", user, &name, "sh", "-c", "id -u; id -g"]);
        let root = exec.stdout.lines().any(|l| l == "0");
        assert!(exec.code != Some(0) || !root, "{user:?}: {}", exec.describe());
        let file = format!(
            "FROM {tag}\nUSER {user}\nRUN test $(id -u) != 0 -a $(id -g) != 0 && echo fine\n"
        );
        let build = cx.docker_with(&["build", "--no-cache", "--network=none", "-"], file);
        assert!(
            build.code != Some(0) || build.stdout.contains("fine"),
            "{user:?}: {}",
            build.describe()
        );
    }
    assert_eq!(cx.docker(&["exec", "-u", "1234", &name, "id", "-u"]).ok(), "1234");
}

fn passwd_files_that_change_while_it_runs(cx: &Cx<'_>) {
    let host = canary(cx);
    let file = cx.write("f", "x");
    let secret = format!("{}/secret", host.display());
    for make in [
        "mkfifo /etc/passwd /etc/group",
        "ln -s /dev/zero /etc/passwd; ln -s /dev/zero /etc/group",
        "ln -s passwd /etc/passwd; ln -s group /etc/group",
        "mkdir /etc/passwd /etc/group",
        &format!("ln -s ../../../../../..{secret} /etc/passwd; ln -s {secret} /etc/group"),
        "ln -s /proc/kmsg /etc/passwd; ln -s /proc/self/mem /etc/group",
        "mknod /etc/passwd c 5 0; mknod /etc/group c 1 5",
        "yes 'a:x:1:1::/:/bin/sh' | head -c 90000000 > /etc/passwd; ln -s passwd /etc/group",
    ] {
        let name = cx.sleeper("a", &["--network=none"]);
        cx.docker(&["exec", &name, "sh", "-c", &format!("rm -rf /etc/passwd /etc/group; {make}")])
            .ok();
        let named = cx.docker(&["exec", "-u", "alice:staff", &name, "id", "-u"]);
        assert_ne!(named.code, Some(0), "{make}: {}", named.describe());
        assert!(!named.stderr.contains("host-secret"), "{make}: {}", named.describe());
        let number = cx.docker(&["exec", "-u", "7:8", &name, "id", "-u"]);
        assert!(
            number.code != Some(0) || number.stdout.trim() == "7",
            "{make}: {}",
            number.describe()
        );
        let copied = cx.docker(&["cp", "-a", file.to_str().unwrap(), &format!("{name}:/tmp/f")]);
        assert!(copied.code.is_some(), "{make}: {}", copied.describe());
        // And at the next start, which may be refused, but not hang.
        let again = cx.docker(&["restart", "-t", "0", &name]);
        assert!(again.code.is_some(), "{make}: {}", again.describe());
        assert!(!again.stderr.contains("host-secret"), "{make}: {}", again.describe());
        cx.docker(&["rm", "-f", &name]).ok();
    }
    untouched(&host);
}

fn variables_of_the_image_reach_no_program_of_the_host(cx: &Cx<'_>) {
    let host = canary(cx);
    let library = format!("{}/made.so", host.display());
    let mut layer = Tarball::new();
    layer.file("x.so", 0o755, "not a library");
    let tag = format!("{}:latest", cx.name("img"));
    let env = json!([
        "PATH=/bin",
        format!("LD_PRELOAD=/proc/self/cwd/x.so:{library}"),
        "LD_AUDIT=/x.so",
        "GLIBC_TUNABLES=x",
        "GANTRY_LOG=trace",
        "RUST_LOG=trace",
        "NOTIFY_SOCKET=/x",
        "HOME=/proc/1/root",
    ]);
    let config = json!({"Cmd": ["sh"], "Env": env});
    cx.docker_with(&["load", "-q"], probe::on_busybox(&tag, &config, &[layer.finish()])).ok();
    for options in [&[][..], &["--init"], &["-u", "1000"]] {
        let head = ["run", "--rm", "--network=none"];
        let run =
            cx.docker(&[&head[..], options, &[&tag, "sh", "-c", "echo $LD_PRELOAD"]].concat());
        assert!(run.ok().contains("x.so"), "it is the container's own: {}", run.describe());
    }
    untouched(&host);
    if let Some(pid) = cx.daemon.pid() {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        let root = cx.daemon.path("root").display().to_string();
        let inside = maps.lines().find(|l| l.contains(&root) && l.contains("r-xp"));
        assert_eq!(inside, None, "no code from a container's root runs in the daemon");
    }
}
