//! `gantry compose`: output, commands in containers, images, copied and watched files.

use super::gantry_compose::{Down, compose, ids, ours};
use serde_json::Value;
use std::{collections::BTreeSet, fs, path::Path, process::Command};
use testkit::{Cx, cases, command, suite::Case};

pub const CASES: &[Case] = cases![
    attached_output_ends_with_the_containers,
    services_are_worked_with,
    images_are_pulled_and_pushed,
    files_are_copied,
    watched_files_go_into_their_containers,
];

fn attached_output_ends_with_the_containers(cx: &Cx<'_>) {
    let _down = Down(cx);
    cx.write(
        "compose.yaml",
        "services:\n  quick: {image: busybox, command: sh -c 'echo out; echo err >&2; exit 3'}\n  slow: {image: busybox, command: sleep 600, stop_grace_period: 0s}\n  quiet: {image: busybox, command: 'echo never shown', attach: false}\n",
    );
    let up = compose(cx, &["up", "--abort-on-container-failure"]);
    assert_eq!(up.code, Some(3), "{}", up.describe());
    for part in ["quick-1  | out", "quick-1 exited with code 3"] {
        assert!(up.stdout.contains(part), "{part}: {}", up.describe());
    }
    assert!(up.stderr.contains("quick-1  | err") && !up.stdout.contains("never shown"));
    let p = cx.name("p");
    assert_eq!(cx.inspect(&format!("{p}-slow-1"))["State"]["Running"], false);
    let up = compose(cx, &["up", "--exit-code-from", "quick", "--no-log-prefix", "quick"]);
    assert_eq!(up.code, Some(3), "{}", up.describe());
    assert!(up.stdout.starts_with("out\n"), "{}", up.describe());
    compose(cx, &["up", "-d", "--attach", "quick"]).fails_with(1, &["--detach cannot be combined"]);
    // A signal stops all.
    let log = fs::File::create(cx.dir().join("up.log")).unwrap();
    let mut child = ours(cx, &["up", "slow"]);
    let mut child = child
        .env("COMPOSE_PROJECT_NAME", &p)
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    cx.until("it runs", || {
        cx.inspect(&format!("{p}-slow-1"))["State"]["Running"].as_bool().filter(|r| *r)
    });
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(cx.inspect(&format!("{p}-slow-1"))["State"]["Running"], false);
}

fn services_are_worked_with(cx: &Cx<'_>) {
    let _down = Down(cx);
    let p = cx.name("p");
    let image = cx.name("site");
    cx.write("site/Dockerfile", "FROM busybox\nARG WHO\nRUN mkdir /www && echo built for $WHO > /www/index.html\nCMD [\"httpd\", \"-f\", \"-h\", \"/www\"]\n");
    cx.write(
        "compose.yaml",
        format!(
            r#"
services:
  site:
    build: {{context: ./site, args: {{WHO: me}}}}
    image: {image}
    stop_grace_period: 0s
    ports: ["127.0.0.1::80"]
    depends_on: [said]
    post_start: [{{command: "sh -c 'echo hooked > /hook'"}}]
  said:
    image: busybox
    stop_grace_period: 0s
    command: sh -c "echo to out; echo to err >&2; exec sleep 600"
  inline:
    build: {{context: ., dockerfile_inline: "FROM busybox\nCMD echo from inline\n"}}
    profiles: [extra]
"#
        ),
    );
    compose(cx, &["build", "-q", "--build-arg", "WHO=you"]).ok();
    compose(cx, &["up", "-d"]).ok();
    let address = compose(cx, &["port", "site", "80"]).ok().to_owned();
    let page =
        command::run(Command::new("curl").args(["-fsS", &format!("http://{address}/")]), b"");
    assert_eq!(page.ok(), "built for you");
    compose(cx, &["port", "site", "81"]).fails_with(1, &["no port 81/tcp for container"]);
    let labels: Value = serde_json::from_str(
        cx.docker(&["image", "inspect", "-f", "{{json .Config.Labels}}", &image]).ok(),
    )
    .unwrap();
    assert_eq!(labels["com.docker.compose.service"], "site");
    let logs = compose(cx, &["logs", "said"]);
    assert!(
        logs.ok().contains("said-1  | to out") && logs.stderr.contains("said-1  | to err"),
        "{}",
        logs.describe()
    );
    assert_eq!(compose(cx, &["logs", "--no-log-prefix", "-n", "1", "--no-color", "site"]).ok(), "");
    assert_eq!(compose(cx, &["exec", "-T", "site", "cat", "/hook"]).ok(), "hooked");
    let args = ["exec", "-T", "-e", "X=1", "-w", "/tmp", "said", "sh", "-c", "echo $X $PWD; cat"];
    let piped = command::run(ours(cx, &args).env("COMPOSE_PROJECT_NAME", &p), b"typed");
    assert_eq!(piped.ok(), "1 /tmp\ntyped");
    compose(cx, &["exec", "-T", "said", "sh", "-c", "exit 7"]).code(7);
    compose(cx, &["exec", "-T", "inline", "true"])
        .fails_with(1, &["service \"inline\" is not running"]);
    let top = compose(cx, &["top", "site"]);
    assert!(
        top.ok().starts_with("SERVICE") && top.stdout.contains("httpd -f -h /www"),
        "{}",
        top.describe()
    );
    // One-off containers: of a service, with its networks, beside what runs.
    let once = compose(
        cx,
        &["run", "--rm", "-T", "-e", "A=b", "site", "sh", "-c", "echo $A; wget -qO- http://site/"],
    );
    assert_eq!(once.ok(), "b\nbuilt for you", "{}", once.describe());
    compose(cx, &["run", "--rm", "-T", "said", "sh", "-c", "exit 5"]).code(5);
    let typed = command::run(
        ours(cx, &["run", "--rm", "-T", "said", "cat"]).env("COMPOSE_PROJECT_NAME", &p),
        b"typed",
    );
    assert_eq!(typed.ok(), "typed");
    assert_eq!(compose(cx, &["run", "--rm", "-T", "inline"]).ok(), "from inline");
    let id = compose(cx, &["run", "-d", "-l", "mine=yes", "--name", &cx.name("once"), "said"])
        .ok()
        .to_owned();
    let made = cx.inspect(&id);
    assert_eq!(made["Config"]["Labels"]["com.docker.compose.oneoff"], "True");
    assert_eq!(made["Config"]["Labels"]["mine"], "yes");
    assert_eq!(made["Name"], format!("/{}", cx.name("once")));
    assert_eq!(
        compose(cx, &["ps", "-q", "said"]).ok().lines().count(),
        1,
        "one-off containers are not shown"
    );
    compose(cx, &["kill", "said"]).ok();
    let now = testkit::host::now();
    let events = compose(cx, &["events", "--json", "--since", "60s", "--until", &now]);
    let seen: BTreeSet<String> = events
        .ok()
        .lines()
        .filter_map(|l| serde_json::from_str::<Value>(l).ok())
        .filter(|e| e["service"] == "said")
        .filter_map(|e| e["action"].as_str().map(str::to_owned))
        .collect();
    for action in ["create", "start", "kill", "die"] {
        assert!(seen.contains(action), "{action}: {seen:?}");
    }
    // What is followed ends with the containers.
    let follow = compose(cx, &["logs", "-f", "said"]);
    assert!(follow.ok().contains("to out"), "{}", follow.describe());
    // What has a name of its own stays.
    let local = ["--profile", "extra", "down", "-t", "0", "--remove-orphans", "--rmi", "local"];
    compose(cx, &local).ok();
    cx.docker(&["image", "inspect", &format!("{p}-inline")]).code(1);
    cx.docker(&["rmi", &image]).ok();
}

fn images_are_pulled_and_pushed(cx: &Cx<'_>) {
    let _down = Down(cx);
    let registry = testkit::registry::Registry::docker(Default::default()).unwrap();
    let name = format!("{}/{}:v1", registry.host(), cx.name("img"));
    let image = format!(
        "services:\n  a: {{build: {{context: ., dockerfile_inline: 'FROM busybox'}}, image: '{name}', command: sleep 60, stop_grace_period: 0s}}\n"
    );
    cx.write("compose.yaml", &image);
    compose(cx, &["build"]).ok();
    compose(cx, &["push"]).ok();
    cx.docker(&["rmi", &name]).ok();
    cx.write(
        "compose.yaml",
        format!("services:\n  a: {{image: '{name}', command: sleep 60, stop_grace_period: 0s}}\n"),
    );
    compose(cx, &["pull", "-q"]).ok();
    cx.docker(&["image", "inspect", &name]).ok();
    cx.docker(&["rmi", &name]).ok();
    compose(cx, &["up", "-d"]).ok();
    assert_eq!(ids(cx).len(), 1);
    let gone = name.replace(":v1", ":gone");
    cx.write("compose.yaml", format!("services:\n  a: {{image: '{gone}'}}\n"));
    assert_eq!(compose(cx, &["pull"]).code, Some(1));
    compose(cx, &["pull", "--ignore-pull-failures"]).ok();
}

fn files_are_copied(cx: &Cx<'_>) {
    let _down = Down(cx);
    cx.write(
        "compose.yaml",
        "services:\n  a: {image: busybox, command: sleep 600, stop_grace_period: 0s, scale: 2}\n",
    );
    compose(cx, &["up", "-d"]).ok();
    cx.write("in/f", "sent");
    cx.write("in/sub/g", "below");
    compose(cx, &["cp", "in/f", "a:/tmp/"]).ok();
    compose(cx, &["cp", "in", "a:/tmp/new"]).ok();
    compose(cx, &["cp", "in", "a:/tmp/new"]).ok();
    compose(cx, &["cp", "in/.", "a:/tmp/new"]).ok();
    let shown = [
        "exec",
        "-T",
        "--index",
        "2",
        "a",
        "sh",
        "-c",
        "cd /tmp && cat f new/f new/sub/g new/in/f; ln new/f new/hard; ln -s /etc new/soft",
    ];
    assert_eq!(compose(cx, &shown).ok(), "sentsentbelowsent");
    compose(cx, &["cp", "--index", "2", "a:/tmp/new", "out"]).ok();
    let read = |path: &str| fs::read_to_string(cx.dir().join(path)).unwrap();
    assert_eq!(
        (read("out/f"), read("out/hard"), read("out/sub/g")),
        ("sent".into(), "sent".into(), "below".into())
    );
    assert_eq!(fs::read_link(cx.dir().join("out/soft")).unwrap(), Path::new("/etc"));
    compose(cx, &["cp", "a:/tmp/f", "out"]).ok();
    compose(cx, &["cp", "a:/tmp/f", "renamed"]).ok();
    assert_eq!(read("renamed"), "sent");
    let tar = compose(cx, &["cp", "a:/tmp/f", "-"]);
    assert!(tar.ok().starts_with('f'));
    compose(cx, &["cp", "a:/nothing", "x"]).fails_with(1, &["Could not find the file /nothing"]);
    compose(cx, &["cp", "in/f", "a:/tmp/none/"])
        .fails_with(1, &["must be a directory that exists"]);
    compose(cx, &["cp", "in/f", "other"]).fails_with(1, &["unknown copy direction"]);
}

fn watched_files_go_into_their_containers(cx: &Cx<'_>) {
    let _down = Down(cx);
    let image = cx.name("watched");
    cx.write("src/Dockerfile", "FROM busybox\nCOPY . /app\nCMD [\"sleep\", \"600\"]\n");
    cx.write("src/code/f", "one");
    cx.write("src/code/skip/x", "no");
    cx.write("src/deps", "1");
    cx.write(
        "compose.yaml",
        format!(
            r#"
services:
  app:
    build: ./src
    image: {image}
    stop_grace_period: 0s
    develop:
      watch:
        - {{action: sync, path: ./src/code, target: /live, ignore: [skip/], initial_sync: true}}
        - {{action: rebuild, path: ./src/deps}}
"#
        ),
    );
    let log = fs::File::create(cx.dir().join("watch.log")).unwrap();
    let mut child = ours(cx, &["watch", "--quiet"]);
    let child = child
        .env("COMPOSE_PROJECT_NAME", cx.name("p"))
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    let mut child = child.spawn().unwrap();
    let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        cx.until("it watches", || {
            let said = fs::read_to_string(cx.dir().join("watch.log")).unwrap_or_default();
            said.contains("Watch enabled").then_some(())
        });
        let inside = |command: &str| {
            compose(cx, &["exec", "-T", "app", "sh", "-c", command]).stdout.trim().to_owned()
        };
        assert_eq!(inside("cat /live/f; ls /live"), "onef");
        cx.write("src/code/f", "two");
        cx.write("src/code/new/deep/g", "found");
        cx.write("src/code/skip/y", "no");
        cx.until("the files are there", || {
            (inside("cat /live/f /live/new/deep/g 2>/dev/null") == "twofound").then_some(())
        });
        assert_eq!(inside("ls /live"), "f\nnew");
        fs::remove_file(cx.dir().join("src/code/f")).unwrap();
        cx.until("it is gone", || (inside("ls /live") == "new").then_some(()));
        let before = ids(cx);
        cx.write("src/deps", "2");
        cx.until("it is built again", || {
            (ids(cx) != before && inside("cat /app/deps") == "2").then_some(())
        });
    }));
    let _ = child.kill();
    let _ = child.wait();
    let _ = compose(cx, &["down", "-t", "0"]);
    let _ = cx.docker(&["rmi", "-f", &image]);
    if let Err(panic) = seen {
        println!("{}", fs::read_to_string(cx.dir().join("watch.log")).unwrap_or_default());
        std::panic::resume_unwind(panic);
    }
    cx.write("compose.yaml", "services:\n  app: {image: busybox}\n");
    compose(cx, &["watch", "--no-up"])
        .fails_with(1, &["none of the selected services is configured for watch"]);
}
