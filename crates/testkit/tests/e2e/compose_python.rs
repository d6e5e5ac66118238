//! docker-compose 1.29.2, the last one in Python, with files of versions 2.4 and 3.8.

use std::{collections::BTreeSet, process::Command};
use testkit::{Cx, Output, cases, command, cx::skip, suite::Case};

pub const CASES: &[Case] = cases![
    a_project_of_version_2_goes_up_and_down,
    what_changed_is_made_again_with_its_data,
    services_are_worked_with,
    a_project_of_version_3_goes_up,
    wrong_files_and_failing_services_are_told,
    logs_and_events_are_followed,
    images_are_pulled_and_pushed,
];

fn command_of(cx: &Cx<'_>, args: &[&str]) -> Command {
    let program = testkit::image::cache_dir().join("compose1/bin/docker-compose");
    if !program.exists() {
        skip(
            "there is no docker-compose 1.29.2: scripts/setup --tests installs it for Python 3.11",
        );
    }
    let mut command = Command::new(program);
    command
        .current_dir(cx.dir())
        .env("DOCKER_HOST", format!("unix://{}", cx.daemon.socket().display()))
        .env("DOCKER_CONFIG", cx.dir())
        .env("COMPOSE_PROJECT_NAME", cx.name("p"))
        .args(args);
    command
}

fn compose(cx: &Cx<'_>, args: &[&str]) -> Output {
    command::run(&mut command_of(cx, args), b"")
}

/// Takes the project down, whatever came of the case.
struct Project<'c, 'd>(&'c Cx<'d>);

impl Drop for Project<'_, '_> {
    fn drop(&mut self) {
        let _ = compose(self.0, &["down", "-v", "-t", "0", "--remove-orphans"]);
    }
}

fn ids(cx: &Cx<'_>, service: &str) -> BTreeSet<String> {
    compose(cx, &["ps", "-q", service]).ok().lines().map(str::to_owned).collect()
}

/// A shop: a database that takes its time, a cache with a name and an address, a site that is built, a worker.
fn shop(cx: &Cx<'_>) -> String {
    // Cases run side by side; each has a subnet of its own.
    let number = cx.name("").bytes().fold(0u32, |n, b| (n * 31 + u32::from(b)) % 199);
    cx.write(
        "site/Dockerfile",
        "FROM busybox\nARG WHO\nRUN mkdir -p /www && echo page by $WHO > /www/index.html\nEXPOSE 80\nVOLUME /kept\nCMD [\"httpd\", \"-f\", \"-h\", \"/www\"]\n",
    );
    let text = format!(
        r#"
version: "2.4"
services:
  db:
    image: busybox
    stop_grace_period: 0s
    command: sh -c "mkdir -p /www; echo rows > /www/index.html; sleep 0.3; touch /data/up; exec httpd -f -p 5432 -h /www"
    volumes: [rows:/data]
    mem_limit: 64m
    healthcheck: {{test: [CMD, test, -f, /data/up], interval: 100ms, timeout: 5s, retries: 100}}
    networks: [back]
  cache:
    image: busybox
    stop_grace_period: 0s
    command: sh -c "mkdir -p /www; echo cached > /www/index.html; exec httpd -f -p 6379 -h /www"
    networks: {{back: {{aliases: [redis], ipv4_address: 10.247.{number}.9}}}}
  site:
    build: {{context: ./site, args: {{WHO: me}}}}
    image: {image}
    stop_grace_period: 0s
    ports: ["127.0.0.1::80"]
    environment: {{TITLE: "${{TITLE:-hello}}"}}
    depends_on: {{db: {{condition: service_healthy}}, cache: {{condition: service_started}}}}
    networks: [front, back]
    labels: {{tier: front}}
  worker:
    image: busybox
    stop_grace_period: 0s
    init: true
    command: sh -c "echo work; exec sleep 600"
    networks: [back]
networks:
  front: {{}}
  back: {{ipam: {{config: [{{subnet: 10.247.{number}.0/24}}]}}}}
volumes: {{rows: {{labels: {{keep: "yes"}}}}}}
"#,
        image = cx.name("site")
    );
    cx.write("docker-compose.yml", &text);
    text
}

fn fetch(address: &str) -> String {
    command::run(Command::new("curl").args(["-fsS", &format!("http://{address}/")]), b"")
        .ok()
        .to_owned()
}

fn a_project_of_version_2_goes_up_and_down(cx: &Cx<'_>) {
    shop(cx);
    let _project = Project(cx);
    let up = compose(cx, &["up", "-d"]);
    up.ok();
    assert!(up.stderr.contains("was built because it did not already exist"), "{}", up.describe());
    assert_eq!(fetch(compose(cx, &["port", "site", "80"]).ok()), "page by me");
    let inside = ["exec", "-T", "site", "sh", "-c", "echo $TITLE; wget -qO- redis:6379"];
    assert_eq!(compose(cx, &inside).ok(), "hello\ncached");
    let logs = compose(cx, &["logs", "--no-color", "worker"]);
    assert!(logs.ok().contains("worker_1  | work"), "{}", logs.describe());
    let shown = compose(cx, &["ps"]);
    assert!(shown.ok().contains("Up (healthy)"), "{}", shown.describe());
    let db = ids(cx, "db").pop_first().unwrap();
    assert_eq!(cx.inspect(&db)["HostConfig"]["Memory"], 64 << 20);
    compose(cx, &["down", "-v"]).ok();
    let (project, label) =
        (cx.name("p"), format!("label=com.docker.compose.project={}", cx.name("p")));
    assert_eq!(cx.docker(&["ps", "-aq", "--filter", &label]).ok(), "");
    for kind in ["network", "volume"] {
        let filter = format!("name={project}");
        assert_eq!(cx.docker(&[kind, "ls", "-q", "--filter", &filter]).ok(), "");
    }
}

fn what_changed_is_made_again_with_its_data(cx: &Cx<'_>) {
    let text = shop(cx);
    let _project = Project(cx);
    compose(cx, &["up", "-d"]).ok();
    let all = || ["db", "cache", "site", "worker"].map(|service| ids(cx, service));
    let before = all();
    assert!(compose(cx, &["up", "-d"]).ok().is_empty());
    compose(cx, &["stop"]).ok();
    compose(cx, &["up", "-d"]).ok();
    assert_eq!(all(), before, "what stopped is started again");
    compose(cx, &["exec", "-T", "site", "sh", "-c", "echo kept > /kept/f"]).ok();
    command::run(command_of(cx, &["up", "-d"]).env("TITLE", "other"), b"").ok();
    let after = all();
    assert_eq!((&after[0], &after[1], &after[3]), (&before[0], &before[1], &before[3]));
    assert_ne!(after[2], before[2]);
    // The volume without a name goes over to the new container.
    let seen = ["exec", "-T", "site", "sh", "-c", "cat /kept/f; echo $TITLE"];
    assert_eq!(compose(cx, &seen).ok(), "kept\nother");
    cx.write("docker-compose.yml", text.replace("echo cached", "echo fresh"));
    compose(cx, &["up", "-d", "--no-deps", "cache"]).ok();
    let fetched = ["exec", "-T", "db", "wget", "-qO-", "redis:6379"];
    assert_eq!(compose(cx, &fetched).ok(), "fresh");
    compose(cx, &["up", "-d", "--force-recreate", "worker"]).ok();
    assert_ne!(ids(cx, "worker"), after[3]);
}

fn services_are_worked_with(cx: &Cx<'_>) {
    shop(cx);
    let _project = Project(cx);
    compose(cx, &["up", "-d", "cache", "worker"]).ok();
    assert!(ids(cx, "site").is_empty());
    let once = ["run", "--rm", "-T", "worker", "wget", "-qO-", "cache:6379"];
    assert_eq!(compose(cx, &once).ok(), "cached");
    let one = ids(cx, "worker");
    compose(cx, &["up", "-d", "--scale", "worker=3", "worker"]).ok();
    assert!(ids(cx, "worker").len() == 3 && ids(cx, "worker").is_superset(&one));
    compose(cx, &["scale", "worker=1"]).ok();
    assert_eq!(ids(cx, "worker"), one);
    let top = compose(cx, &["top", "cache"]);
    assert!(top.ok().contains("httpd -f -p 6379"), "{}", top.describe());
    let cache = ids(cx, "cache").pop_first().unwrap();
    let state = || cx.inspect(&cache)["State"]["Status"].as_str().unwrap().to_owned();
    for (args, wanted) in [
        (&["pause", "cache"][..], "paused"),
        (&["unpause", "cache"], "running"),
        (&["restart", "-t", "0", "cache"], "running"),
        (&["stop", "-t", "0", "cache"], "exited"),
        (&["start", "cache"], "running"),
        (&["kill", "cache"], "exited"),
    ] {
        compose(cx, args).ok();
        assert_eq!(state(), wanted, "{args:?}");
    }
    compose(cx, &["rm", "-f", "cache"]).ok();
    assert!(ids(cx, "cache").is_empty());
    let build = compose(cx, &["build", "--no-cache", "--build-arg", "WHO=you", "site"]);
    assert!(build.ok().contains("Successfully tagged"), "{}", build.describe());
    assert_eq!(
        compose(cx, &["run", "--rm", "-T", "--no-deps", "site", "cat", "/www/index.html"]).ok(),
        "page by you"
    );
    let images = compose(cx, &["images"]);
    assert!(images.ok().contains("busybox"), "{}", images.describe());
    assert_eq!(compose(cx, &["config", "--services"]).ok().lines().count(), 4);
}

fn a_project_of_version_3_goes_up(cx: &Cx<'_>) {
    let _project = Project(cx);
    cx.write("token.txt", "s3cret");
    cx.write("e.env", "FROM_FILE=file\n");
    cx.write(".env", "FROM_DOTENV=dot\n");
    cx.write(
        "docker-compose.override.yml",
        "version: '3.8'\nservices:\n  app: {hostname: overridden}\n",
    );
    cx.write(
        "docker-compose.yml",
        r#"
version: "3.8"
x-common: &common
  image: busybox
  stop_grace_period: 0s
services:
  app:
    <<: *common
    command: sh -c "trap 'exit 0' TERM; while :; do sleep 600 & wait; done"
    secrets: [token]
    env_file: [e.env]
    environment: {C: "$FROM_DOTENV"}
    tmpfs: ["/t:size=1m"]
    extra_hosts: ["beta:127.0.0.9"]
    cap_drop: [NET_RAW]
    read_only: true
    depends_on: [twice]
    volumes: [{type: volume, source: data, target: /data}]
  twice:
    <<: *common
    command: sleep 600
    deploy: {replicas: 2}
    restart: on-failure
  debug:
    <<: *common
    command: sleep 600
    profiles: [debug]
secrets: {token: {file: ./token.txt}}
volumes: {data: {}}
"#,
    );
    compose(cx, &["up", "-d"]).ok();
    let script = "cat /run/secrets/token; echo \" $FROM_FILE $C $(hostname)\"; touch /data/f /t/f; touch /f 2>/dev/null || echo read-only; grep -c beta /etc/hosts";
    let said = compose(cx, &["exec", "-T", "app", "sh", "-c", script]);
    assert_eq!(said.ok(), "s3cret file dot overridden\nread-only\n1");
    assert_eq!(ids(cx, "twice").len(), 2);
    assert!(ids(cx, "debug").is_empty(), "its profile was not asked for");
    compose(cx, &["--profile", "debug", "up", "-d"]).ok();
    assert_eq!(compose(cx, &["--profile", "debug", "ps", "-q", "debug"]).ok().lines().count(), 1);
    compose(cx, &["--profile", "debug", "rm", "-fs", "debug"]).ok();
}

fn wrong_files_and_failing_services_are_told(cx: &Cx<'_>) {
    let _project = Project(cx);
    let tried = |text: &str, word: &str| {
        cx.write("docker-compose.yml", text);
        compose(cx, &["up", "-d"]).fails_with(1, &[word]);
    };
    tried(
        "version: '2.4'\nservices:\n  a: {image: busybox, command: /no/such}\n",
        "no such file or directory",
    );
    tried(
        "version: '2.4'\nservices:\n  a: {image: busybox, networks: {n: {ipv4_address: 1.2.3.4}}}\nnetworks: {n: {}}\n",
        "user specified IP address is supported only when connecting to networks with user configured subnets",
    );
    tried(
        "version: '2.4'\nservices:\n  sick: {image: busybox, command: sleep 60, stop_grace_period: 0s, healthcheck: {test: [CMD, 'false'], interval: 100ms, retries: 2}}\n  a: {image: busybox, depends_on: {sick: {condition: service_healthy}}}\n",
        "is unhealthy",
    );
    cx.write(
        "docker-compose.yml",
        "version: '3.8'\nservices:\n  a: {image: busybox, command: sh -c 'echo done; exit 4'}\n",
    );
    let up = compose(cx, &["up", "--no-color", "--exit-code-from", "a"]);
    up.code(4);
    assert!(up.stdout.contains("a_1  | done"), "{}", up.describe());
}

/// A program of docker-compose that runs until this is dropped; what it prints is in a file.
struct Follower {
    child: std::process::Child,
    file: std::path::PathBuf,
}

impl Follower {
    fn start(cx: &Cx<'_>, name: &str, args: &[&str]) -> Self {
        let file = cx.dir().join(name);
        let output = std::fs::File::create(&file).unwrap();
        let mut command = command_of(cx, args);
        command.env("PYTHONUNBUFFERED", "1").stdout(output.try_clone().unwrap()).stderr(output);
        Self { child: command.spawn().unwrap(), file }
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.file).unwrap()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn logs_and_events_are_followed(cx: &Cx<'_>) {
    let _project = Project(cx);
    cx.write(
        "docker-compose.yml",
        "version: '2.4'\nservices:\n  a:\n    image: busybox\n    stop_grace_period: 0s\n    command: sh -c 'echo first; while [ ! -f /go ]; do sleep 0.05; done; echo second; exec sleep 600'\n  quick: {image: busybox, command: 'echo done'}\n",
    );
    command_of(cx, &["version"]);
    let events = Follower::start(cx, "events", &["events", "--json"]);
    let listens = || cx.api().get("/info").expect(200)["NEventsListener"].as_i64();
    cx.until("it listens", || listens().filter(|n| *n > 0));
    compose(cx, &["up", "-d"]).ok();
    let mut logs = Follower::start(cx, "logs", &["logs", "-f", "--no-color", "--tail", "10"]);
    cx.until("the first line comes", || {
        let text = logs.text();
        (text.contains("a_1      | first") && text.contains("quick_1  | done")).then_some(())
    });
    assert!(!logs.text().contains("second"));
    compose(cx, &["exec", "-T", "a", "touch", "/go"]).ok();
    cx.until("the next line comes", || logs.text().contains("a_1      | second").then_some(()));
    compose(cx, &["stop", "-t", "0"]).ok();
    // All have ended: so does the following.
    cx.until("the log ends", || logs.child.try_wait().unwrap());
    assert!(logs.text().contains("exited with code"), "{}", logs.text());
    let seen = |service: &str, action: &str| {
        cx.until(&format!("{service} {action} is told"), || {
            let has = |line: &str| {
                let event = serde_json::from_str::<serde_json::Value>(line).unwrap_or_default();
                event["service"] == service
                    && event["action"] == action
                    && event["type"] == "container"
            };
            events.text().lines().any(has).then_some(())
        });
    };
    for action in ["create", "start", "kill", "die", "stop"] {
        seen("a", action);
    }
    seen("quick", "die");
}

fn images_are_pulled_and_pushed(cx: &Cx<'_>) {
    let _project = Project(cx);
    let registry = testkit::registry::Registry::docker(Default::default()).unwrap();
    let name = format!("{}/{}:v1", registry.host(), cx.name("img"));
    cx.write("site/Dockerfile", "FROM busybox\nRUN echo built > /f\nCMD [\"cat\", \"/f\"]\n");
    let file = |name: &str, build: &str| {
        let text = format!("version: '2.4'\nservices:\n  a: {{image: '{name}'{build}}}\n");
        cx.write("docker-compose.yml", text);
    };
    file(&name, ", build: ./site");
    compose(cx, &["build"]).ok();
    compose(cx, &["push"]).ok();
    cx.docker(&["rmi", &name]).ok();
    file(&name, "");
    let pulled = compose(cx, &["pull"]);
    pulled.ok();
    assert!(pulled.stderr.contains("Pulling a ... done"), "{}", pulled.describe());
    cx.docker(&["image", "inspect", &name]).ok();
    cx.docker(&["rmi", &name]).ok();
    // What is missing is pulled when the project goes up.
    compose(cx, &["up", "-d"]).ok();
    let container = cx.name("p_a_1");
    cx.wait(&container);
    assert_eq!(cx.docker(&["logs", &container]).ok(), "built");
    compose(cx, &["down"]).ok();
    cx.docker(&["rmi", &name]).ok();
    file(&name.replace(":v1", ":gone"), "");
    compose(cx, &["pull"]).fails_with(1, &["not found"]);
}
