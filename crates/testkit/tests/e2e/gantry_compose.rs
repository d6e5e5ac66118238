//! `gantry compose`, beside docker compose 2.40.3 where that is there.

use super::compose::NO_COMPOSE;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};
use testkit::{Cx, Output, cases, command, cx::skip, suite::Case};

pub const CASES: &[Case] = cases![
    config_and_hashes_are_those_of_docker_compose,
    mistakes_are_told_with_file_line_and_hint,
    options_and_variables_choose_the_project,
    what_one_made_the_other_leaves_alone,
    a_plan_tells_what_changes_and_why,
    projects_go_up_and_down,
    dependencies_that_fail_stop_the_project,
];

/// `gantry compose` in the case's folder.
pub(crate) fn ours(cx: &Cx<'_>, args: &[&str]) -> Command {
    let mut command = cx.gantry_command();
    command.arg("compose").args(args);
    command
}

/// It, for a project of the case's own.
pub(crate) fn compose(cx: &Cx<'_>, args: &[&str]) -> Output {
    command::run(ours(cx, args).env("COMPOSE_PROJECT_NAME", cx.name("p")), b"")
}

/// docker compose, in the case's folder, for the same project.
fn theirs(cx: &Cx<'_>, args: &[&str]) -> Command {
    let Some(config) = cx.plugged(&["docker-compose"]) else { skip(NO_COMPOSE) };
    let mut command = cx.command();
    command.env("DOCKER_CONFIG", config).arg("compose").args(args);
    command
}

/// The fixtures of the crate `compose`.
fn fixtures() -> Vec<std::path::PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../compose/tests/fixtures");
    let all = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    all.filter(|p| p.join("compose.yaml").exists()).collect()
}

fn config_and_hashes_are_those_of_docker_compose(cx: &Cx<'_>) {
    let fixtures = fixtures();
    assert!(fixtures.len() > 10);
    for fixture in fixtures {
        for args in [
            &["config"][..],
            &["--profile", "*", "--all-resources", "config"],
            &["config", "--format", "json"],
            &["--profile", "*", "config", "--hash", "*"],
            &["config", "--no-interpolate", "--no-normalize"],
            &["--compatibility", "config", "--images"],
        ] {
            // One is enough for what hardly depends on the file.
            if args.contains(&"--images") && !fixture.ends_with("onebig") {
                continue;
            }
            // Names of images come in an order of chance.
            let sorted = |output: &Output| {
                let mut lines: Vec<String> = output.ok().lines().map(str::to_owned).collect();
                if args.contains(&"--images") {
                    lines.sort();
                }
                lines.join("\n")
            };
            let want = command::run(theirs(cx, args).current_dir(&fixture), b"");
            let got = command::run(ours(cx, args).current_dir(&fixture), b"");
            assert_eq!(sorted(&want), sorted(&got), "{}: {args:?}", fixture.display());
        }
    }
}

fn mistakes_are_told_with_file_line_and_hint(cx: &Cx<'_>) {
    let file = cx.dir().join("compose.yaml");
    let place = |line: &str| format!("{}:{line}: ", file.display());
    for (text, line, says, hint) in [
        (
            "services:\n  a:\n    image: b\n    port: [80]\n",
            "4:5",
            "additional properties 'port' not allowed",
            "did you mean \"ports\"?",
        ),
        (
            "service:\n  a: {image: b}\n",
            "1:1",
            "additional properties 'service' not allowed",
            "did you mean \"services\"?",
        ),
        (
            "services:\n  a:\n    image: [b]\n",
            "3:5",
            "services.a.image must be a string",
            "it is a array",
        ),
        (
            "services:\n  a: {image: b}\n  a: {image: c}\n",
            "3:3",
            "mapping key \"a\" already defined at line 2",
            "",
        ),
        (
            "services:\n  a: {image: \"${X:?set it}\"}\n",
            "2:7",
            "required variable X is missing a value: set it",
            "set X in the environment",
        ),
        (
            "services:\n  a: {image: \"${X\"}\n",
            "2:7",
            "invalid interpolation format for services.a.image",
            "",
        ),
        (
            "services:\n  a: {image: b, depends_on: [c]}\n  c: {image: b, depends_on: [a]}\n",
            "3:",
            "dependency cycle detected: a -> c -> a",
            "take one",
        ),
        (
            "services:\n  a: {image: b, networks: [bak]}\nnetworks: {back: {}}\n",
            "2:28",
            "refers to undefined network bak",
            "did you mean \"back\"?",
        ),
        (
            "services:\n  a: {image: b, volumes: ['data:/d']}\n",
            "2:27",
            "refers to undefined volume data",
            "./data",
        ),
        (
            "services:\n  a: {image: b, depends_on: [cc]}\n  cd: {image: b}\n",
            "2:30",
            "depends on undefined service \"cc\"",
            "cd",
        ),
        (
            "services:\n  a: {image: b, ports: ['x:80']}\n",
            "2:25",
            "invalid hostPort: x",
            "published",
        ),
        ("services:\n  a: {}\n", "2:3", "has neither an image nor a build context", "image:"),
        (
            "services:\n  a: {extends: a2}\n  a2: {extends: a}\n",
            "2:",
            "Circular reference",
            "stand on its own",
        ),
        (
            "services:\n  a: {image: b, mem_limit: lots}\n",
            "2:17",
            "services.a.mem_limit is not a size",
            "64m",
        ),
        (
            "services:\n  a: {image: b, command: \"sh 'x\"}\n",
            "2:17",
            "invalid command line string",
            "quotes",
        ),
        ("services:\n  a: {image: b\n", "3:", "yaml", ""),
    ] {
        cx.write("compose.yaml", text);
        let output = compose(cx, &["config", "-q"]);
        assert_eq!(output.code, Some(1), "{text}: {}", output.describe());
        for part in [place(line).trim_end_matches(' ').trim_end_matches(':'), says, hint] {
            assert!(output.stderr.contains(part), "{part}: {}", output.describe());
        }
    }
    // Files that include each other, and one that is not there.
    cx.write("compose.yaml", "include: [b.yaml]\nservices: {a: {image: b}}\n");
    cx.write("b.yaml", "include: [compose.yaml]\n");
    compose(cx, &["config"]).fails_with(1, &["b.yaml:1:11: include cycle detected"]);
    cx.write("compose.yaml", "services:\n  a: {image: b, env_file: gone.env}\n");
    compose(cx, &["config"]).fails_with(1, &["compose.yaml:2:17: env file", "gone.env not found"]);
    fs::remove_file(&file).unwrap();
    compose(cx, &["-f", "gone.yaml", "config"]).fails_with(1, &["no such file or directory"]);
    compose(cx, &["nonsense"]).fails_with(1, &["unknown docker command: \"compose nonsense\""]);
    // An alias that would fill the memory.
    let mut bomb = String::from("x-0: &x0 [a, a, a, a, a, a, a, a, a, a]\n");
    for i in 1..15 {
        let all = vec![format!("*x{}", i - 1); 10].join(", ");
        bomb.push_str(&format!("x-{i}: &x{i} [{all}]\n"));
    }
    cx.write("compose.yaml", bomb);
    compose(cx, &["config"]).fails_with(1, &["more than 200000 values in one file"]);
}

fn options_and_variables_choose_the_project(cx: &Cx<'_>) {
    cx.write("one/compose.yaml", "services: {a: {image: one}}\n");
    cx.write("one/compose.override.yaml", "services: {a: {hostname: over}}\n");
    cx.write("one/.env", "COMPOSE_PROFILES=p\nV=dot\n");
    cx.write("two.yaml", "name: named-$V\nservices: {b: {image: 'i:$V', profiles: [p]}, c: {image: c, profiles: [q]}}\n");
    cx.write("other.env", "V=other\n");
    let run = |args: &[&str], env: &[(&str, &str)]| {
        let mut command = ours(cx, args);
        command::run(command.envs(env.iter().copied()).env_remove("COMPOSE_PROJECT_NAME"), b"")
    };
    let config = run(&["--project-directory", "one", "config"], &[]);
    for part in ["name: one", "image: one", "hostname: over"] {
        assert!(config.ok().contains(part), "{}", config.describe());
    }
    let here = cx.dir().join("one");
    let below = command::run(ours(cx, &["config", "--services"]).current_dir(&here), b"");
    assert_eq!(below.ok(), "a");
    let config = run(&["-f", "one/compose.yaml", "-f", "two.yaml", "config"], &[]);
    for part in ["name: named-dot", "i:dot"] {
        assert!(config.ok().contains(part), "{}", config.describe());
    }
    assert!(!config.stdout.contains("hostname") && !config.stdout.contains("image: c"));
    let env = [("COMPOSE_FILE", "two.yaml"), ("COMPOSE_PROFILES", "q")];
    assert_eq!(run(&["--env-file", "other.env", "config", "--services"], &env).ok(), "c");
    assert_eq!(run(&["--profile", "*", "config", "--profiles"], &env).ok(), "p\nq");
    assert_eq!(run(&["-p", "mine", "config", "--no-normalize"], &env).code, Some(0));
    run(&["-p", "Not Allowed", "config"], &env).fails_with(1, &["invalid project name"]);
    assert_eq!(run(&["-f", "two.yaml", "config", "--variables"], &[]).ok().lines().count(), 2);
}

/// Takes the project down, whatever came of the case.
pub(crate) struct Down<'c, 'd>(pub &'c Cx<'d>);

impl Drop for Down<'_, '_> {
    fn drop(&mut self) {
        let _ = compose(self.0, &["--profile", "*", "down", "-v", "-t", "0", "--remove-orphans"]);
    }
}

/// Ids of a project's containers by name.
pub(crate) fn ids(cx: &Cx<'_>) -> BTreeMap<String, String> {
    let filter = format!("label=com.docker.compose.project={}", cx.name("p"));
    let list = cx.docker(&[
        "ps",
        "-a",
        "--no-trunc",
        "--filter",
        &filter,
        "--format",
        "{{.Names}} {{.ID}}",
    ]);
    list.ok().lines().filter_map(|l| l.split_once(' ')).map(|(n, i)| (n.into(), i.into())).collect()
}

/// docker compose for the case's project.
fn other(cx: &Cx<'_>, args: &[&str]) -> Output {
    command::run(theirs(cx, args).env("COMPOSE_PROJECT_NAME", cx.name("p")), b"")
}

/// Services with everything that ends up in a container.
fn wide(cx: &Cx<'_>) -> String {
    let number = cx.name("").bytes().fold(0u32, |n, b| (n * 31 + u32::from(b)) % 199);
    let subnet = format!("10.245.{number}.0/24");
    let address = format!("10.245.{number}.9");
    cx.write("token.txt", "s3cret");
    cx.write("vars.env", "FROM_FILE=yes\n");
    let text = format!(
        r#"
services:
  db:
    image: busybox
    stop_grace_period: 0s
    command: sh -c "sleep 0.2; touch /data/up; exec sleep 600"
    volumes: [rows:/data, "/anon", "./token.txt:/bound:ro"]
    healthcheck: {{test: [CMD, test, -f, /data/up], interval: 5s, start_period: 10s, start_interval: 100ms}}
    networks: {{back: {{aliases: [database], ipv4_address: {address}}}}}
    environment: {{A: "${{TITLE:-one}}", B: "x < y & z"}}
    env_file: vars.env
    labels: {{tier: back}}
    ulimits: {{nofile: {{soft: 1000, hard: 2000}}}}
    deploy: {{resources: {{limits: {{cpus: "0.5", memory: 64m}}}}}}
  job:
    image: busybox
    stop_grace_period: 0s
    command: sh -c "nslookup database && echo done"
    depends_on: {{db: {{condition: service_healthy}}}}
    networks: [back]
  web:
    image: busybox
    stop_grace_period: 0s
    command: ["sleep", "600"]
    ports: ["127.0.0.1::80", "127.0.0.1::81/udp"]
    expose: [8080]
    depends_on:
      job: {{condition: service_completed_successfully}}
      db: {{condition: service_started, restart: true}}
    networks: {{back: , front: {{priority: 5}}}}
    configs: [{{source: page, target: /etc/page}}]
    secrets: [token, env_token]
    cap_drop: [NET_RAW]
    tmpfs: ["/run/x:size=1m"]
    init: true
    extra_hosts: ["h=1.2.3.4"]
    sysctls: {{net.core.somaxconn: 512}}
    restart: unless-stopped
    logging: {{driver: json-file, options: {{max-size: 1m}}}}
  side:
    image: busybox
    stop_grace_period: 0s
    command: sleep 600
    network_mode: "service:web"
    volumes_from: ["db:ro"]
  worker:
    image: busybox
    stop_grace_period: 0s
    command: sleep 600
    scale: 3
    networks: [front]
networks:
  front: {{labels: {{a: b}}}}
  back: {{ipam: {{config: [{{subnet: {subnet}}}]}}}}
volumes: {{rows: {{labels: {{keep: "yes"}}}}}}
configs: {{page: {{content: "configured\n"}}}}
secrets: {{token: {{file: ./token.txt}}, env_token: {{environment: PATH}}}}
"#
    );
    cx.write("compose.yaml", &text);
    text
}

fn what_one_made_the_other_leaves_alone(cx: &Cx<'_>) {
    wide(cx);
    let _down = Down(cx);
    compose(cx, &["up", "-d"]).ok();
    let ours = ids(cx);
    assert_eq!(ours.len(), 7, "{ours:?}");
    other(cx, &["up", "-d"]).ok();
    assert_eq!(ids(cx), ours, "docker compose made something again");
    let inside = "cat /etc/page /run/secrets/token; test -s /run/secrets/env_token && cat /etc/hosts | grep -c 1.2.3.4";
    let web = cx.docker(&["exec", &ours[&format!("{}-web-1", cx.name("p"))], "sh", "-c", inside]);
    assert_eq!(web.ok(), "configured\ns3cret1");
    // And each thing of a container is as the other one makes it.
    let mine = shapes(cx);
    other(cx, &["down", "-v", "-t", "0"]).ok();
    assert!(ids(cx).is_empty());
    other(cx, &["up", "-d"]).ok();
    let theirs = shapes(cx);
    for (name, shape) in &theirs {
        assert_eq!(differences(shape, &mine[name], ""), Vec::<String>::new(), "{name}");
    }
    let before = ids(cx);
    compose(cx, &["up", "-d"]).ok();
    assert_eq!(ids(cx), before, "gantry compose made something again");
    let plan = compose(cx, &["plan", "--detailed-exit-code"]);
    assert!(
        !plan.stdout.contains("recreate") && !plan.stdout.contains("create"),
        "{}",
        plan.describe()
    );
}

/// Where two values differ.
fn differences(a: &Value, b: &Value, at: &str) -> Vec<String> {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            let keys: BTreeSet<&String> = x.keys().chain(y.keys()).collect();
            let null = Value::Null;
            let of =
                |m: &serde_json::Map<String, Value>, k: &String| m.get(k).unwrap_or(&null).clone();
            keys.into_iter()
                .flat_map(|k| differences(&of(x, k), &of(y, k), &format!("{at}/{k}")))
                .collect()
        }
        _ if a == b => Vec::new(),
        _ => vec![format!("{at}: {a} / {b}")],
    }
}

/// What the engine tells of a project's containers, networks and volumes, without what is different each time.
fn shapes(cx: &Cx<'_>) -> BTreeMap<String, Value> {
    let project = cx.name("p");
    let label = format!("label=com.docker.compose.project={project}");
    let mut out = BTreeMap::new();
    for (name, id) in ids(cx) {
        let of = cx.inspect(&id);
        let mut config = of["Config"].clone();
        let mut host = of["HostConfig"].clone();
        let labels = config["Labels"].as_object_mut().unwrap();
        // Dependencies come in an order of chance there.
        let needs = labels.remove("com.docker.compose.depends_on").unwrap_or_default();
        let mut needs: Vec<String> =
            needs.as_str().unwrap_or_default().split(',').map(str::to_owned).collect();
        needs.sort();
        labels.insert("needs".into(), needs.into());
        if name.contains("side") {
            // They name the id of another container, and so does the hash.
            labels.remove("com.docker.compose.config-hash");
            config["Hostname"] = Value::Null;
            for key in ["NetworkMode", "VolumesFrom"] {
                host[key] = Value::Null;
            }
        }
        if config["Hostname"].as_str().is_some_and(|h| id.starts_with(h)) {
            config["Hostname"] = Value::Null;
        }
        for list in ["Env"] {
            if let Some(list) = config[list].as_array_mut() {
                list.sort_by_key(ToString::to_string);
            }
        }
        for list in ["Binds", "Mounts"] {
            if let Some(list) = host[list].as_array_mut() {
                list.sort_by_key(ToString::to_string);
            }
        }
        let networks = of["NetworkSettings"]["Networks"].as_object().cloned().unwrap_or_default();
        let networks: BTreeMap<String, Value> = networks
            .into_iter()
            .map(|(n, e)| {
                (n, serde_json::json!([e["Aliases"], e["IPAMConfig"], e["Links"], e["GwPriority"]]))
            })
            .collect();
        out.insert(name, serde_json::json!({"config": config, "host": host, "networks": networks}));
    }
    for kind in ["network", "volume"] {
        let list = cx.docker(&[kind, "ls", "-q", "--filter", &label]);
        for id in list.ok().lines().filter(|l| !l.is_empty()) {
            let of: Value = serde_json::from_str(cx.docker(&[kind, "inspect", id]).ok()).unwrap();
            let of = &of[0];
            let name = of["Name"].as_str().unwrap().to_owned();
            let shape = serde_json::json!([
                of["Labels"],
                of["Driver"],
                of["Options"],
                of["Internal"],
                of["Attachable"],
                of["EnableIPv6"]
            ]);
            out.insert(name, shape);
        }
    }
    out
}

fn a_plan_tells_what_changes_and_why(cx: &Cx<'_>) {
    let text = wide(cx);
    let _down = Down(cx);
    let plan = |args: &[&str], env: &[(&str, &str)]| {
        let mut command = ours(cx, &[&["plan"], args].concat());
        command::run(
            command.env("COMPOSE_PROJECT_NAME", cx.name("p")).envs(env.iter().copied()),
            b"",
        )
    };
    let p = cx.name("p");
    let first = plan(&[], &[]);
    for line in ["+ create    Network", "+ create    Volume", "Plan: 10 to create."] {
        assert!(first.ok().contains(line), "{line}: {}", first.describe());
    }
    assert!(ids(cx).is_empty(), "a plan changes nothing");
    compose(cx, &["up", "-d"]).ok();
    let before = ids(cx);
    plan(&["--detailed-exit-code"], &[]).code(2);
    // The job has ended; all else is as it should be.
    let again = plan(&[], &[]);
    assert!(
        again
            .ok()
            .contains(&format!("> start     Container {p}-job-1\n              it is exited")),
        "{}",
        again.describe()
    );
    let changed = plan(&["--scale", "worker=1"], &[("TITLE", "two")]);
    for line in [
        format!(
            "~ recreate  Container {p}-db-1\n              its configuration changed\n                environment A: one -> two"
        ),
        // It starts again with the database.
        format!("> start     Container {p}-web-1\n              db is made again"),
        // It has the volumes of the database.
        format!("~ recreate  Container {p}-side-1"),
        format!("- remove    Container {p}-worker-3\n              there are 3, 1 are wanted"),
        format!("= keep      Container {p}-worker-1"),
    ] {
        assert!(changed.ok().contains(&line), "{line}: {}", changed.describe());
    }
    assert_eq!(ids(cx), before);
    let mut up = ours(cx, &["up", "-d", "--scale", "worker=1"]);
    command::run(up.env("COMPOSE_PROJECT_NAME", cx.name("p")).env("TITLE", "two"), b"").ok();
    let after = ids(cx);
    let same = |service: &str| {
        before.get(&format!("{p}-{service}")) == after.get(&format!("{p}-{service}"))
    };
    assert!(!same("db-1") && same("web-1") && !same("side-1") && same("worker-1"));
    assert_eq!(after.len(), 5);
    let web = cx.inspect(&after[&format!("{p}-web-1")]);
    assert_eq!(web["State"]["Running"], true);
    // What is no longer in the files.
    cx.write("compose.yaml", text.replace("  worker:", "  other:"));
    let orphans = plan(&["--remove-orphans"], &[("TITLE", "two")]);
    assert!(orphans.ok().contains("the project has no service worker"), "{}", orphans.describe());
    let json = plan(&["--format", "json"], &[("TITLE", "two")]);
    assert!(json.json().as_array().is_some_and(|a| a.iter().any(|s| s["action"] == "keep")));
}

fn projects_go_up_and_down(cx: &Cx<'_>) {
    wide(cx);
    let _down = Down(cx);
    let p = cx.name("p");
    compose(cx, &["up", "-d", "--wait"]).ok();
    let shown =
        compose(cx, &["ps", "-a", "--format", "{{.Service}} {{.State}} {{.Health}} {{.ExitCode}}"]);
    let mut lines: Vec<&str> = shown.ok().lines().map(str::trim).collect();
    lines.sort_unstable();
    lines.dedup();
    let want = [
        "db running healthy 0",
        "job exited  0",
        "side running  0",
        "web running  0",
        "worker running  0",
    ];
    assert_eq!(lines, want);
    assert_eq!(compose(cx, &["ps", "--services", "db", "web"]).ok(), "db\nweb");
    let listed: Value =
        serde_json::from_str(compose(cx, &["ls", "--format", "json"]).ok()).unwrap();
    assert!(
        listed
            .as_array()
            .unwrap()
            .iter()
            .any(|l| l["Name"] == p.as_str() && l["Status"] == "running(6)"),
        "{listed}"
    );
    assert!(compose(cx, &["images"]).ok().contains("busybox"));
    let state = |service: &str| {
        let args = ["ps", "-a", "--format", "{{.State}}", service];
        compose(cx, &args).ok().trim().to_owned()
    };
    compose(cx, &["pause", "db"]).ok();
    assert_eq!(state("db"), "paused");
    compose(cx, &["unpause", "db"]).ok();
    compose(cx, &["stop", "-t", "0", "db"]).ok();
    assert_eq!(state("db"), "exited");
    compose(cx, &["start", "db"]).ok();
    compose(cx, &["restart", "-t", "0", "db"]).ok();
    assert_eq!(state("db"), "running");
    compose(cx, &["kill", "web"]).ok();
    compose(cx, &["rm", "-f", "web"]).ok();
    assert_eq!(state("web"), "");
    // To look at containers, files of variables need not be there.
    fs::remove_file(cx.dir().join("vars.env")).unwrap();
    assert_eq!(state("db"), "running");
    compose(cx, &["up", "-d"]).fails_with(1, &["vars.env not found"]);
    compose(cx, &["stop", "nonsense"]).fails_with(1, &["no such service: nonsense"]);
    // Without its files, by name alone.
    let elsewhere = cx.write("elsewhere/x", "");
    let elsewhere = elsewhere.parent().unwrap();
    let mut by_name = ours(cx, &["-p", &p, "ps", "-q"]);
    assert!(command::run(by_name.current_dir(elsewhere), b"").ok().lines().count() >= 4);
    let mut by_name = ours(cx, &["-p", &p, "down", "-v", "-t", "0"]);
    command::run(by_name.current_dir(elsewhere), b"").ok();
    assert!(ids(cx).is_empty());
    for list in [["network", "ls"], ["volume", "ls"]] {
        let filter = format!("name={p}");
        assert_eq!(cx.docker(&[&list[..], &["-q", "--filter", &filter]].concat()).ok(), "");
    }
    assert!(compose(cx, &["down"]).stderr.contains("No resource found to remove"));
}

fn dependencies_that_fail_stop_the_project(cx: &Cx<'_>) {
    let _down = Down(cx);
    cx.write(
        "compose.yaml",
        "services:\n  job: {image: busybox, command: sh -c 'exit 4'}\n  app:\n    image: busybox\n    command: sleep 60\n    stop_grace_period: 0s\n    depends_on: {job: {condition: service_completed_successfully}}\n",
    );
    compose(cx, &["up", "-d"])
        .fails_with(1, &["service \"job\" didn't complete successfully: exit 4"]);
    cx.write(
        "compose.yaml",
        "services:\n  sick:\n    image: busybox\n    command: sleep 60\n    stop_grace_period: 0s\n    healthcheck: {test: [CMD, 'false'], interval: 100ms, retries: 2}\n  app:\n    image: busybox\n    command: sleep 60\n    stop_grace_period: 0s\n    depends_on: {sick: {condition: service_healthy, required: false}}\n  needy:\n    image: busybox\n    command: sleep 60\n    stop_grace_period: 0s\n    depends_on: {sick: {condition: service_healthy}}\n",
    );
    compose(cx, &["up", "-d", "--remove-orphans", "app"]).ok();
    compose(cx, &["up", "-d", "needy"])
        .fails_with(1, &["dependency failed to start", "is unhealthy"]);
    compose(cx, &["up", "--wait", "sick"]).fails_with(1, &["is unhealthy"]);
    cx.write(
        "compose.yaml",
        "services:\n  slow:\n    image: busybox\n    command: sleep 60\n    stop_grace_period: 0s\n    healthcheck: {test: [CMD, 'false'], interval: 1m, start_period: 1h}\n",
    );
    compose(cx, &["up", "--remove-orphans", "--wait", "--wait-timeout", "1"])
        .fails_with(1, &["application not healthy after 1s"]);
    cx.write(
        "compose.yaml",
        "services:\n  a: {image: 'no-such-image-here:1', pull_policy: never}\n",
    );
    compose(cx, &["up", "-d", "--remove-orphans"]).fails_with(1, &["no-such-image-here"]);
}
