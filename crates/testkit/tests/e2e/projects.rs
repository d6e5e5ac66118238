//! Projects as people have them, of `crates/testkit/projects`: PostgreSQL, Redis, nginx and Python from Debian's packages,
//! by docker compose 2.40.3 and by `gantry compose`.

use super::{compose, gantry_compose};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use testkit::{Cx, Output, cases, command, image, suite::Case};

pub const CASES: &[Case] = cases![
    sidecars_by_docker_compose,
    sidecars_by_gantry_compose,
    jobs_by_docker_compose,
    jobs_by_gantry_compose,
    a_scaled_service_by_docker_compose,
    a_scaled_service_by_gantry_compose,
    ;
    alone: a_shop_by_docker_compose, a_shop_by_gantry_compose,
];

/// Who drives a project.
#[derive(Clone, Copy, Debug)]
enum By {
    Docker,
    Gantry,
}

/// A project in the case's folder; taken down whatever came of the case.
struct Project<'c, 'd> {
    cx: &'c Cx<'d>,
    by: By,
    env: BTreeMap<&'static str, String>,
}

impl<'c, 'd> Project<'c, 'd> {
    /// Copies the project into the case's folder and loads the image of its services.
    fn new(cx: &'c Cx<'d>, by: By, name: &str) -> Self {
        load(cx);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("projects").join(name);
        copy(&folder, cx.dir());
        Self { cx, by, env: [("COMPOSE_PROJECT_NAME", cx.name("p"))].into() }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = match self.by {
            By::Docker => compose::command_of(self.cx, args),
            By::Gantry => gantry_compose::ours(self.cx, args),
        };
        command.envs(&self.env);
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        command::run(&mut self.command(args), b"")
    }

    fn address(&self, service: &str) -> String {
        self.run(&["port", service, "8080"]).ok().to_owned()
    }

    /// Ids of a service's containers.
    fn ids(&self, service: &str) -> BTreeSet<String> {
        self.run(&["ps", "-aq", service]).ok().lines().map(str::to_owned).collect()
    }

    /// State and health of every container, by name.
    fn states(&self) -> BTreeMap<String, String> {
        let filter = format!("label=com.docker.compose.project={}", self.cx.name("p"));
        let format = "{{.Names}} {{.State}} {{.Status}}";
        let list = self.cx.docker(&["ps", "-a", "--filter", &filter, "--format", format]);
        let start = format!("{}-", self.cx.name("p"));
        let one = |line: &str| {
            let (name, rest) = line.split_once(' ')?;
            let (state, status) = rest.split_once(' ')?;
            let health = if status.ends_with("(healthy)") { " healthy" } else { "" };
            Some((name.strip_prefix(&start)?.to_owned(), format!("{state}{health}")))
        };
        list.ok().lines().filter_map(one).collect()
    }
}

impl Drop for Project<'_, '_> {
    fn drop(&mut self) {
        if self.cx.daemon.answers() {
            let _ = self.run(&["down", "-v", "-t", "0", "--remove-orphans"]);
        }
    }
}

/// Loads the image of services, unless the daemon has it.
fn load(cx: &Cx<'_>) {
    static LOADING: Mutex<()> = Mutex::new(());
    let _one = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
    if cx.api().get(&format!("/images/{}/json", image::SERVICES)).status() == 200 {
        return;
    }
    let path = image::services(&image::cache_dir()).expect("the image of services can be made");
    cx.docker(&["load", "-q", "-i", path.to_str().unwrap()]).ok();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target: PathBuf = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// An HTTP request that must succeed: the header fields, and the body.
fn ask(url: &str, post: Option<&str>) -> (String, String) {
    let mut curl = Command::new("curl");
    curl.args(["-fsSi", "--max-time", "20", url]);
    if let Some(text) = post {
        curl.args(["--data-binary", text]);
    }
    let answer = command::run(&mut curl, b"");
    let (head, body) = answer.ok().split_once("\r\n\r\n").expect("an answer has a head");
    (head.to_lowercase(), body.to_owned())
}

/// Sends an order, and waits until a worker has done it; the worker's host name.
fn order(cx: &Cx<'_>, shop: &str, item: &str) -> (String, String) {
    let id = ask(&format!("{shop}/orders"), Some(item)).1;
    let worker = cx.until("an order is done", || {
        let state = ask(&format!("{shop}/orders/{id}"), None).1;
        let worker = state.strip_prefix(&format!("{item} done by ")).map(str::to_owned);
        if worker.is_none() {
            std::thread::sleep(Duration::from_millis(100));
        }
        worker
    });
    (id, worker)
}

fn a_shop_by_docker_compose(cx: &Cx<'_>) {
    shop(cx, By::Docker);
}

fn a_shop_by_gantry_compose(cx: &Cx<'_>) {
    shop(cx, By::Gantry);
}

fn shop(cx: &Cx<'_>, by: By) {
    let mut project = Project::new(cx, by, "shop");
    project.env.insert("SHOP_IMAGE", cx.name("app"));
    project.run(&["up", "-d", "--build"]).ok();
    let all_well: BTreeMap<_, _> = [
        ("app-1", "running healthy"),
        ("cache-1", "running healthy"),
        ("db-1", "running healthy"),
        ("migrate-1", "exited"),
        ("proxy-1", "running"),
        ("worker-1", "running"),
        ("worker-2", "running"),
    ]
    .map(|(name, state)| (name.to_owned(), state.to_owned()))
    .into();
    assert_eq!(project.states(), all_well);
    let shop = format!("http://{}", project.address("proxy"));
    assert_eq!(ask(&shop, None).1, "Welcome to the shop");
    let (first, worker) = order(cx, &shop, "apple");
    let hosts: BTreeSet<_> =
        project.ids("worker").iter().map(|id| id.chars().take(12).collect::<String>()).collect();
    assert!(hosts.contains(&worker), "{worker} is none of {hosts:?}");
    let count = |shop: &str| {
        let (head, body) = ask(&format!("{shop}/count"), None);
        (body, head.contains("x-cache: hit"))
    };
    assert_eq!(count(&shop), ("1".into(), false));
    assert_eq!(count(&shop), ("1".into(), true), "the cache knows it");
    project.run(&["exec", "-T", "proxy", "touch", "/x"]).fails_with(1, &["Read-only file system"]);
    // Another name is another container of the application alone; the proxy finds it by its name.
    let before = (project.ids("app"), project.ids("db"), project.ids("proxy"));
    project.env.insert("SHOP_NAME", "another shop".into());
    project.run(&["up", "-d"]).ok();
    let after = (project.ids("app"), project.ids("db"), project.ids("proxy"));
    assert_ne!(after.0, before.0);
    assert_eq!((&after.1, &after.2), (&before.1, &before.2));
    cx.until("the proxy finds the application", || {
        let answer = command::run(Command::new("curl").args(["-fsS", &shop]), b"");
        (answer.stdout == "Welcome to another shop").then_some(())
    });
    // Data outlives down and up; with `-v` it does not.
    project.run(&["down", "-t", "10"]).ok();
    assert_eq!(project.states(), BTreeMap::new());
    project.run(&["up", "-d"]).ok();
    assert_eq!(project.states(), all_well);
    let shop = format!("http://{}", project.address("proxy"));
    assert!(ask(&format!("{shop}/orders/{first}"), None).1.starts_with("apple done by "));
    if cx.is_gantry() {
        killed(cx, &project, &shop, &all_well);
    }
    project.run(&["down", "-v", "-t", "10"]).ok();
    let left = cx.docker(&["volume", "ls", "-q", "--filter", &format!("name={}", cx.name("p"))]);
    assert_eq!(left.ok(), "");
}

/// The daemon is killed under the shop: it sells on, and the next daemon takes it over.
fn killed(cx: &Cx<'_>, project: &Project<'_, '_>, shop: &str, all_well: &BTreeMap<String, String>) {
    let ids = project.ids("db");
    cx.daemon.kill().unwrap();
    let (during, _) = order(cx, shop, "pear");
    cx.daemon.start_again().unwrap();
    cx.until("all are well again", || (project.states() == *all_well).then_some(()));
    assert_eq!(project.ids("db"), ids);
    assert!(ask(&format!("{shop}/orders/{during}"), None).1.starts_with("pear done by "));
    order(cx, shop, "plum");
    // A database that is killed with the daemon gone comes back with all that it said it had.
    project.run(&["kill", "db", "cache"]).ok();
    cx.daemon.kill().unwrap();
    cx.daemon.start_again().unwrap();
    project.run(&["up", "-d"]).ok();
    assert_eq!(project.states(), *all_well);
    assert_eq!(project.ids("db"), ids);
    order(cx, shop, "quince");
}

fn sidecars_by_docker_compose(cx: &Cx<'_>) {
    sidecars(cx, By::Docker);
}

fn sidecars_by_gantry_compose(cx: &Cx<'_>) {
    sidecars(cx, By::Gantry);
}

fn sidecars(cx: &Cx<'_>, by: By) {
    let project = Project::new(cx, by, "sidecar");
    project.run(&["up", "-d"]).ok();
    let through = |path: &str| {
        let (head, body) = ask(&format!("http://{}{path}", project.address("app")), None);
        assert!(head.contains("x-front: sidecar"), "{head}");
        assert_eq!(body, "from behind");
    };
    through("/one");
    let shipped = |text: &str| {
        cx.until(text, || {
            let log = project.run(&["logs", "--no-log-prefix", "shipper"]);
            log.stdout.contains(text).then_some(())
        });
    };
    shipped("asked for /one");
    // The shipper sees the application's processes and memory, and cannot write to its log.
    let inside = |script: &str| project.run(&["exec", "-T", "shipper", "sh", "-c", script]);
    assert!(inside("tr '\\0' ' ' </proc/1/cmdline").ok().starts_with("python3 -u /app.py"));
    assert_eq!(inside("cat /dev/shm/word").ok(), "shared");
    inside("echo x >>/logs/log").fails_with(2, &["Read-only file system"]);
    inside("kill -HUP 1").ok();
    shipped("reloaded");
    // The application's restart takes its sidecars along: they share its new namespaces.
    let before = ["app", "front", "shipper"].map(|s| project.ids(s));
    project.run(&["restart", "app"]).ok();
    cx.until("the sidecars run again", || {
        let states = project.states();
        (states.len() == 3 && states.values().all(|s| s.starts_with("running"))).then_some(())
    });
    assert_eq!(["app", "front", "shipper"].map(|s| project.ids(s)), before);
    cx.until("the front answers again", || {
        let url = format!("http://{}/", project.address("app"));
        let answer = command::run(Command::new("curl").args(["-fsS", &url]), b"");
        (answer.code == Some(0)).then_some(())
    });
    through("/two");
    shipped("asked for /two");
    assert!(inside("tr '\\0' ' ' </proc/1/cmdline").ok().starts_with("python3 -u /app.py"));
    // An application that is made again makes its sidecars again: what they joined is gone.
    project.run(&["up", "-d", "--force-recreate", "app"]).ok();
    project.run(&["up", "-d"]).ok();
    let after = ["app", "front", "shipper"].map(|s| project.ids(s));
    for (service, (before, after)) in
        ["app", "front", "shipper"].iter().zip(before.iter().zip(&after))
    {
        assert_ne!(before, after, "{service}");
    }
    through("/three");
    shipped("asked for /three");
}

fn jobs_by_docker_compose(cx: &Cx<'_>) {
    jobs(cx, By::Docker);
}

fn jobs_by_gantry_compose(cx: &Cx<'_>) {
    jobs(cx, By::Gantry);
}

fn jobs(cx: &Cx<'_>, by: By) {
    let mut project = Project::new(cx, by, "jobs");
    project.run(&["up", "-d"]).ok();
    let report = cx.name("p-report-1");
    assert_eq!(cx.wait(&report), 0);
    let said = |project: &Project<'_, '_>| {
        project.run(&["logs", "--no-log-prefix", "report"]).ok().to_owned()
    };
    assert_eq!(said(&project), "the sum is 499500");
    let state = |name: &str, key: &str| cx.inspect(&cx.name(name))["State"][key].clone();
    let time = |name: &str, key: &str| state(name, key).as_str().map(str::to_owned);
    for (earlier, later) in [
        ("p-extract-1", "p-transform-1"),
        ("p-extract-1", "p-check-1"),
        ("p-transform-1", "p-report-1"),
        ("p-check-1", "p-report-1"),
    ] {
        let (ended, began) = (time(earlier, "FinishedAt"), time(later, "StartedAt"));
        assert!(ended < began, "{earlier} ended at {ended:?}, {later} began at {began:?}");
    }
    // A job that fails holds up what waits for it, and is named.
    project.run(&["down", "-v"]).ok();
    project.env.insert("ROWS", "0".into());
    let up = project.run(&["up", "-d"]);
    up.fails_with(1, &["check", "didn't complete successfully: exit 1"]);
    assert_eq!(state("p-check-1", "ExitCode"), 1);
    assert_eq!(state("p-report-1", "Status"), "created");
    // Mended, the pipeline goes through; in the foreground its output is shown.
    project.env.insert("ROWS", "3".into());
    let up = project.run(&["up"]);
    assert!(up.ok().contains("the sum is 3"), "{}", up.describe());
    // A job by itself, with what it needs before.
    let once = project.run(&["run", "--rm", "-T", "report"]);
    assert_eq!(once.ok(), "the sum is 3", "{}", once.describe());
}

fn a_scaled_service_by_docker_compose(cx: &Cx<'_>) {
    scaled(cx, By::Docker);
}

fn a_scaled_service_by_gantry_compose(cx: &Cx<'_>) {
    scaled(cx, By::Gantry);
}

fn scaled(cx: &Cx<'_>, by: By) {
    let project = Project::new(cx, by, "scaled");
    project.run(&["up", "-d", "--scale", "api=3"]).ok();
    let address = project.address("proxy");
    let short = |ids: BTreeSet<String>| -> BTreeSet<String> {
        ids.iter().map(|id| id.chars().take(12).collect()).collect()
    };
    // Everyone is asked, and nobody who is gone.
    let shared_out = |count: usize| {
        let all = short(project.ids("api"));
        assert_eq!(all.len(), count);
        cx.until("everyone answers", || {
            let seen: BTreeSet<String> =
                (0..count * 8).map(|_| ask(&format!("http://{address}/"), None).1).collect();
            (seen == all).then_some(())
        });
    };
    shared_out(3);
    let names = project.run(&["exec", "-T", "proxy", "getent", "ahostsv4", "api"]);
    let addresses: BTreeSet<_> =
        names.ok().lines().filter_map(|l| l.split_whitespace().next()).collect();
    assert_eq!(addresses.len(), 3, "{}", names.describe());
    project.run(&["up", "-d", "--scale", "api=5", "--no-recreate"]).ok();
    shared_out(5);
    project.run(&["up", "-d", "--scale", "api=2"]).ok();
    shared_out(2);
    // One that is killed is left out, and comes back.
    let victim = project.ids("api").into_iter().next().unwrap();
    cx.docker(&["kill", &victim]).ok();
    let other: BTreeSet<_> = short(project.ids("api"))
        .into_iter()
        .filter(|id| !victim.starts_with(id.as_str()))
        .collect();
    cx.until("the other answers alone", || {
        let seen: BTreeSet<String> =
            (0..8).map(|_| ask(&format!("http://{address}/"), None).1).collect();
        (seen == other).then_some(())
    });
    project.run(&["up", "-d", "--scale", "api=2"]).ok();
    shared_out(2);
    let state: Value = cx.inspect(&victim)["State"]["Status"].clone();
    assert_eq!(state, "running");
}
