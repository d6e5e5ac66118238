//! `docker compose` 2.40.3, unchanged, on whole projects.

use serde_json::Value;
use std::{collections::BTreeSet, process::Command};
use testkit::{Cx, Output, cases, command, cx::skip, suite::Case};

pub const CASES: &[Case] = cases![
    a_project_goes_up_and_down,
    what_is_up_is_left_alone_and_what_changed_is_made_again,
    services_are_looked_at_and_worked_with,
    services_are_scaled,
    dependencies_that_fail_stop_the_project,
    files_are_merged_extended_and_included,
    orphans_and_profiles,
    a_watched_service_gets_its_files,
    wrong_files_are_told,
];

/// Why a case is skipped.
pub(crate) const NO_COMPOSE: &str = "there is no docker-compose: scripts/setup --tests builds it";

/// `docker compose` in the case's folder, for a project of its own.
pub(crate) fn command_of(cx: &Cx<'_>, args: &[&str]) -> Command {
    let Some(config) = cx.plugged(&["docker-compose"]) else { skip(NO_COMPOSE) };
    let mut command = cx.command();
    command.env("DOCKER_CONFIG", config).env("COMPOSE_PROJECT_NAME", cx.name("p"));
    command.env("COMPOSE_STATUS_STDOUT", "0").arg("compose").args(args);
    command
}

fn compose(cx: &Cx<'_>, args: &[&str]) -> Output {
    command::run(&mut command_of(cx, args), b"")
}

/// Takes the project down, whatever came of the case.
struct Project<'c, 'd>(&'c Cx<'d>);

impl Drop for Project<'_, '_> {
    fn drop(&mut self) {
        let _ = compose(self.0, &["--profile", "*", "down", "-v", "-t", "0", "--remove-orphans"]);
    }
}

fn id(cx: &Cx<'_>, service: &str) -> String {
    compose(cx, &["ps", "-aq", service]).ok().to_owned()
}

/// A shop: a database that takes its time, a cache with a name and an address, a job between, a site that is built, and
/// workers.
fn shop(cx: &Cx<'_>) -> String {
    // Cases run side by side; each has a subnet of its own.
    let number = cx.name("").bytes().fold(0u32, |n, b| (n * 31 + u32::from(b)) % 199);
    let subnet = format!("10.246.{number}.0/24");
    let address = format!("10.246.{number}.9");
    cx.write("token.txt", "s3cret");
    cx.write(
        "site/Dockerfile",
        "FROM busybox\nRUN mkdir -p /www && echo page > /www/index.html\nEXPOSE 80\nCMD [\"httpd\", \"-f\", \"-h\", \"/www\"]\n",
    );
    let text = format!(
        r#"
services:
  db:
    image: busybox
    stop_grace_period: 0s
    command: sh -c "mkdir /www; echo rows > /www/index.html; sleep 0.3; touch /data/up; exec httpd -f -p 5432 -h /www"
    volumes: [rows:/data]
    healthcheck: {{test: [CMD, test, -f, /data/up], interval: 5s, start_period: 10s, start_interval: 100ms}}
    networks: [back]
  cache:
    image: busybox
    stop_grace_period: 0s
    command: sh -c "mkdir /www; echo cached > /www/index.html; exec httpd -f -p 6379 -h /www"
    networks: {{back: {{aliases: [redis], ipv4_address: {address}}}}}
  migrate:
    image: busybox
    stop_grace_period: 0s
    command: sh -c "wget -qO- http://db:5432/ && wget -qO- http://redis:6379/ && echo migrated"
    depends_on: {{db: {{condition: service_healthy}}, cache: {{condition: service_started}}}}
    networks: [back]
  site:
    build: ./site
    stop_grace_period: 0s
    image: {image}
    ports: ["127.0.0.1::80"]
    environment: {{TITLE: "${{TITLE:-hello}}"}}
    depends_on: {{migrate: {{condition: service_completed_successfully}}}}
    configs: [{{source: page, target: /www/config.txt}}]
    secrets: [token]
    networks: [front, back]
    labels: {{tier: front}}
  worker:
    image: busybox
    stop_grace_period: 0s
    command: sh -c "while :; do echo work; sleep 1; done"
    deploy: {{replicas: 2}}
    networks: [back]
    init: true
    restart: unless-stopped
networks:
  front: {{}}
  back: {{ipam: {{config: [{{subnet: {subnet}}}]}}}}
volumes: {{rows: {{labels: {{keep: "yes"}}}}}}
configs: {{page: {{content: configured}}}}
secrets: {{token: {{file: ./token.txt}}}}
"#,
        image = cx.name("site")
    );
    cx.write("compose.yaml", &text);
    text
}

fn fetch(address: &str) -> String {
    command::run(Command::new("curl").args(["-fsS", &format!("http://{address}/")]), b"")
        .ok()
        .to_owned()
}

fn a_project_goes_up_and_down(cx: &Cx<'_>) {
    shop(cx);
    let _project = Project(cx);
    compose(cx, &["up", "-d"]).ok();
    assert_eq!(fetch(compose(cx, &["port", "site", "80"]).ok()), "page");
    let logs = compose(cx, &["logs", "--no-log-prefix", "migrate"]);
    assert_eq!(logs.ok(), "rows\ncached\nmigrated");
    let inside = compose(
        cx,
        &["exec", "-T", "site", "sh", "-c", "cat /www/config.txt /run/secrets/token; echo $TITLE"],
    );
    assert_eq!(inside.ok(), "configureds3crethello");
    let shown =
        compose(cx, &["ps", "-a", "--format", "{{.Service}} {{.State}} {{.Health}} {{.ExitCode}}"]);
    let shown: BTreeSet<_> = shown.ok().lines().map(str::trim).map(str::to_owned).collect();
    let wanted = [
        "cache running  0",
        "db running healthy 0",
        "migrate exited  0",
        "site running  0",
        "worker running  0",
    ];
    assert_eq!(shown, wanted.map(str::to_owned).into());
    let ids: Vec<_> = ["db", "cache", "site"].map(|s| id(cx, s)).into();
    compose(cx, &["down", "-v", "-t", "0"]).ok();
    for id in ids {
        cx.docker(&["inspect", &id]).code(1);
    }
    let project = cx.name("p");
    for list in [["network", "ls"], ["volume", "ls"]] {
        assert_eq!(
            cx.docker(&[&list[..], &["-q", "--filter", &format!("name={project}")]].concat()).ok(),
            ""
        );
    }
}

fn what_is_up_is_left_alone_and_what_changed_is_made_again(cx: &Cx<'_>) {
    let text = shop(cx);
    let _project = Project(cx);
    compose(cx, &["up", "-d"]).ok();
    let before = ["db", "cache", "site", "worker"].map(|s| id(cx, s));
    compose(cx, &["up", "-d"]).ok();
    assert_eq!(["db", "cache", "site", "worker"].map(|s| id(cx, s)), before);
    // A stopped project starts with the same containers.
    compose(cx, &["stop", "-t", "0"]).ok();
    compose(cx, &["up", "-d"]).ok();
    assert_eq!(["db", "cache", "site", "worker"].map(|s| id(cx, s)), before);
    let mut command = command_of(cx, &["up", "-d"]);
    command::run(command.env("TITLE", "other"), b"").ok();
    let after = ["db", "cache", "site", "worker"].map(|s| id(cx, s));
    assert_eq!((&after[0], &after[1], &after[3]), (&before[0], &before[1], &before[3]));
    assert_ne!(after[2], before[2]);
    cx.docker(&["exec", &after[0], "sh", "-c", "echo kept > /data/row"]).ok();
    cx.write("compose.yaml", text.replace("sleep 0.3;", "sleep 0.2;"));
    compose(cx, &["up", "-d"]).ok();
    assert_ne!(id(cx, "db"), after[0]);
    assert_eq!(compose(cx, &["exec", "-T", "db", "cat", "/data/row"]).ok(), "kept");
    compose(cx, &["up", "-d", "--force-recreate", "--no-deps", "cache"]).ok();
    assert_ne!(id(cx, "cache"), after[1]);
    assert_eq!(
        compose(cx, &["exec", "-T", "site", "wget", "-qO-", "http://redis:6379/"]).ok(),
        "cached"
    );
}

fn services_are_looked_at_and_worked_with(cx: &Cx<'_>) {
    shop(cx);
    let _project = Project(cx);
    compose(cx, &["up", "-d", "cache", "worker"]).ok();
    let top = compose(cx, &["top", "cache"]);
    assert!(top.ok().contains("httpd -f -p 6379"), "{}", top.describe());
    let images: Value =
        serde_json::from_str(compose(cx, &["images", "--format", "json"]).ok()).unwrap();
    assert_eq!(images.as_array().map(Vec::len), Some(3));
    assert_eq!(
        compose(cx, &["run", "--rm", "-T", "--no-deps", "migrate", "echo", "one-off"]).ok(),
        "one-off"
    );
    let wget = ["run", "--rm", "-T", "--no-deps", "migrate", "wget", "-qO-", "http://cache:6379/"];
    assert_eq!(compose(cx, &wget).ok(), "cached");
    let state = |service: &str| {
        compose(cx, &["ps", "-a", "--format", "{{.State}}", service]).ok().to_owned()
    };
    compose(cx, &["pause", "cache"]).ok();
    assert_eq!(state("cache"), "paused");
    compose(cx, &["unpause", "cache"]).ok();
    compose(cx, &["kill", "cache"]).ok();
    assert_eq!(state("cache"), "exited");
    compose(cx, &["start", "cache"]).ok();
    compose(cx, &["restart", "-t", "0", "cache"]).ok();
    assert_eq!(state("cache"), "running");
    let file = cx.write("in.txt", "sent");
    compose(cx, &["cp", file.to_str().unwrap(), "cache:/www/in.txt"]).ok();
    assert_eq!(compose(cx, &["exec", "-T", "cache", "cat", "/www/in.txt"]).ok(), "sent");
    compose(cx, &["cp", "cache:/www/in.txt", "out.txt"]).ok();
    assert_eq!(std::fs::read_to_string(cx.dir().join("out.txt")).unwrap(), "sent");
    compose(cx, &["stop", "-t", "0", "cache"]).ok();
    compose(cx, &["rm", "-f", "cache"]).ok();
    assert_eq!(id(cx, "cache"), "");
    let now = testkit::host::now();
    let events = compose(cx, &["events", "--json", "--since", "60s", "--until", &now]);
    // Its exit code says that the stream ended.
    let actions: BTreeSet<_> = events
        .stdout
        .lines()
        .filter_map(|l| serde_json::from_str::<Value>(l).ok())
        .filter(|e| e["service"] == "cache")
        .filter_map(|e| e["action"].as_str().map(str::to_owned))
        .collect();
    for action in
        ["create", "start", "pause", "unpause", "kill", "die", "restart", "stop", "destroy"]
    {
        assert!(actions.contains(action), "{action}: {actions:?}");
    }
    let waited = compose(cx, &["run", "-d", "--no-deps", "migrate", "sh", "-c", "exit 3"]);
    cx.docker(&["wait", waited.ok().lines().last().unwrap_or_default()]).ok();
    let config = compose(cx, &["config", "--services"]);
    assert_eq!(config.ok().lines().count(), 5);
}

fn services_are_scaled(cx: &Cx<'_>) {
    shop(cx);
    let _project = Project(cx);
    compose(cx, &["up", "-d", "worker"]).ok();
    let first: BTreeSet<_> = id(cx, "worker").lines().map(str::to_owned).collect();
    assert_eq!(first.len(), 2);
    compose(cx, &["up", "-d", "--scale", "worker=4", "worker"]).ok();
    let more: BTreeSet<_> = id(cx, "worker").lines().map(str::to_owned).collect();
    assert!(more.len() == 4 && more.is_superset(&first), "{more:?}");
    // One name, all addresses.
    let names = compose(cx, &["run", "--rm", "-T", "--no-deps", "migrate", "nslookup", "worker"]);
    let addresses: BTreeSet<_> = names
        .stdout
        .lines()
        .skip(2)
        .filter_map(|l| l.split("ddress").nth(1))
        .filter_map(|l| l.split(": ").nth(1))
        .collect();
    assert_eq!(addresses.len(), 4, "{}", names.describe());
    compose(cx, &["scale", "worker=1"]).ok();
    assert_eq!(id(cx, "worker").lines().count(), 1);
}

fn dependencies_that_fail_stop_the_project(cx: &Cx<'_>) {
    let _project = Project(cx);
    cx.write(
        "compose.yaml",
        "services:\n  job: {image: busybox, command: sh -c 'exit 4'}\n  app:\n    image: busybox\n    command: sleep 60\n    stop_grace_period: 0s\n    depends_on: {job: {condition: service_completed_successfully}}\n",
    );
    compose(cx, &["up", "-d"]).fails_with(1, &["didn't complete successfully: exit 4"]);
    cx.write(
        "compose.yaml",
        "services:\n  sick:\n    image: busybox\n    command: sleep 60\n    stop_grace_period: 0s\n    healthcheck: {test: [CMD, 'false'], interval: 100ms, retries: 2}\n  app:\n    image: busybox\n    command: sleep 60\n    depends_on: {sick: {condition: service_healthy}}\n",
    );
    compose(cx, &["up", "-d", "--remove-orphans"]).fails_with(1, &["is unhealthy"]);
    compose(cx, &["up", "--wait", "--wait-timeout", "20", "sick"]).fails_with(1, &["is unhealthy"]);
    cx.write("compose.yaml", "services:\n  quick: {image: busybox, command: sh -c 'echo done'}\n");
    let up = compose(
        cx,
        &["up", "--remove-orphans", "--abort-on-container-exit", "--exit-code-from", "quick"],
    );
    assert!(up.ok().contains("done"), "{}", up.describe());
}

fn files_are_merged_extended_and_included(cx: &Cx<'_>) {
    let _project = Project(cx);
    cx.write(
        "base.yaml",
        "services:\n  base: {image: busybox, environment: {A: base, B: base}, command: sleep 60}\n",
    );
    cx.write(
        "more/compose.yaml",
        "services:\n  extra: {image: busybox, command: sleep 60, env_file: [e.env]}\n",
    );
    cx.write("more/e.env", "FROM_FILE=file\nQUOTED=\"a b\"\n");
    cx.write(".env", "FROM_DOTENV=dot\n");
    cx.write(
        "compose.yaml",
        "include: [more/compose.yaml]\nservices:\n  app:\n    extends: {file: base.yaml, service: base}\n    environment: {B: own, C: $FROM_DOTENV}\n",
    );
    cx.write(
        "compose.override.yaml",
        "services:\n  app: {hostname: overridden, stop_grace_period: 0s}\n",
    );
    compose(cx, &["up", "-d"]).ok();
    let app = compose(cx, &["exec", "-T", "app", "sh", "-c", "echo $A $B $C $(hostname)"]);
    assert_eq!(app.ok(), "base own dot overridden");
    let extra = compose(cx, &["exec", "-T", "extra", "sh", "-c", "echo $FROM_FILE $QUOTED"]);
    assert_eq!(extra.ok(), "file a b");
}

fn orphans_and_profiles(cx: &Cx<'_>) {
    let _project = Project(cx);
    let file = "services:\n  app: {image: busybox, command: sleep 60, stop_grace_period: 0s}\n";
    let other = "  old: {image: busybox, command: sleep 60, stop_grace_period: 0s}\n";
    let debug =
        "  debug: {image: busybox, command: sleep 60, profiles: [debug], stop_grace_period: 0s}\n";
    cx.write("compose.yaml", format!("{file}{other}{debug}"));
    compose(cx, &["up", "-d"]).ok();
    assert_eq!(id(cx, "debug"), "", "its profile was not asked for");
    compose(cx, &["--profile", "debug", "up", "-d"]).ok();
    assert_ne!(id(cx, "debug"), "");
    let old = id(cx, "old");
    cx.write("compose.yaml", format!("{file}{debug}"));
    let up = compose(cx, &["up", "-d"]);
    up.ok();
    assert!(up.stderr.contains("Found orphan containers"), "{}", up.describe());
    compose(cx, &["up", "-d", "--remove-orphans"]).ok();
    cx.docker(&["inspect", &old]).code(1);
}

fn a_watched_service_gets_its_files(cx: &Cx<'_>) {
    let _project = Project(cx);
    cx.write("src/f", "one");
    cx.write("src/Dockerfile", "FROM busybox\nCOPY f /app/f\nCMD [\"sleep\", \"600\"]\n");
    let image = cx.name("watched");
    cx.write(
        "compose.yaml",
        format!(
            "services:\n  app:\n    build: ./src\n    image: {image}\n    stop_grace_period: 0s\n    develop: {{watch: [{{action: sync, path: ./src, target: /app}}]}}\n"
        ),
    );
    compose(cx, &["up", "-d"]).ok();
    let log = std::fs::File::create(cx.dir().join("watch.log")).unwrap();
    let mut watch = command_of(cx, &["watch", "--no-up"]);
    let mut watch = watch.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let synced = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        cx.until("it watches", || {
            let said = std::fs::read_to_string(cx.dir().join("watch.log")).unwrap_or_default();
            said.contains("Watch enabled").then_some(())
        });
        cx.write("src/f", "two");
        cx.until("the file is there", || {
            let seen = compose(cx, &["exec", "-T", "app", "cat", "/app/f"]);
            (seen.stdout.trim() == "two").then_some(())
        });
    }));
    let _ = watch.kill();
    let _ = watch.wait();
    let _ = compose(cx, &["down", "-t", "0", "--rmi", "local"]);
    synced.unwrap();
}

fn wrong_files_are_told(cx: &Cx<'_>) {
    let tried = |text: &str, word: &str| {
        cx.write("compose.yaml", text);
        let output = compose(cx, &["up", "-d"]);
        assert_ne!(output.code, Some(0), "{}", output.describe());
        assert!(output.stderr.contains(word), "{word}: {}", output.describe());
    };
    tried(
        "services:\n  a: {image: busybox, depends_on: [b]}\n  b: {image: busybox, depends_on: [a]}\n",
        "dependency cycle",
    );
    tried("services:\n  a: {image: busybox, networks: [nowhere]}\n", "undefined network");
    tried("services:\n  a: {image: busybox, nonsense: 1}\n", "nonsense");
    tried(
        "services:\n  a: {image: no-such-image-here:1, pull_policy: never}\n",
        "no-such-image-here",
    );
    tried(
        "services:\n  a: {image: busybox, networks: {n: {ipv4_address: 1.2.3.4}}}\nnetworks: {n: {}}\n",
        "user specified IP address is supported only when connecting to networks with user configured subnets",
    );
    let _ = compose(cx, &["down", "-v"]);
}
