//! What one test case holds: the daemon, a name of its own, and the docker CLI.

use crate::{
    command::{self, Output},
    daemon::{Daemon, Engine},
    http,
    pty::Pty,
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A case's hold on the daemon. Everything the case makes bears its name, and goes when it ends.
#[derive(Debug)]
pub struct Cx<'d> {
    /// The daemon under test.
    pub daemon: &'d Daemon,
    name: String,
    dir: TempDir,
}

/// Thrown by [`skip`].
#[derive(Debug)]
pub struct Skip(pub String);

/// Ends the case as skipped; skips are counted and their reasons printed.
pub fn skip(reason: &str) -> ! {
    std::panic::panic_any(Skip(reason.to_owned()))
}

impl<'d> Cx<'d> {
    /// A case called `name` on `daemon`.
    ///
    /// # Panics
    /// When no temporary folder can be made.
    pub fn new(daemon: &'d Daemon, name: &str) -> Self {
        let dir =
            tempfile::Builder::new().prefix("gtk-case-").tempdir().expect("/tmp takes a folder");
        let name = name.rsplit("::").next().unwrap_or(name).to_owned();
        Self { daemon, name, dir }
    }

    /// A name for an object of this case.
    pub fn name(&self, part: &str) -> String {
        format!("{}-{part}", self.name)
    }

    /// A label for objects without a name, `case=NAME`.
    pub fn label(&self) -> String {
        format!("case={}", self.name)
    }

    /// Whether Gantry is under test.
    pub fn is_gantry(&self) -> bool {
        self.daemon.engine() == Engine::Gantry
    }

    /// A client of the daemon's socket.
    pub fn api(&self) -> http::Client {
        self.daemon.api()
    }

    /// The case's folder for files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file below the case's folder and gives its path.
    ///
    /// # Panics
    /// When it cannot be written.
    #[track_caller]
    pub fn write(&self, name: &str, data: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).expect("the case's folder takes folders");
        }
        fs::write(&path, data).expect("the case's folder takes files");
        path
    }

    /// Runs the docker CLI.
    #[track_caller]
    pub fn docker(&self, args: &[&str]) -> Output {
        self.docker_with(args, b"")
    }

    /// Runs the docker CLI with `stdin` on its standard input.
    #[track_caller]
    pub fn docker_with(&self, args: &[&str], stdin: impl AsRef<[u8]>) -> Output {
        command::run(self.command().args(args), stdin.as_ref())
    }

    /// Runs `docker events` over what has happened until this moment and passes `filters`, `container=NAME`; each shown by
    /// the template `format`. The command line's own `--until 0s` would mean the beginning of this second.
    #[track_caller]
    pub fn events(&self, filters: &[&str], format: &str) -> Output {
        let now = crate::host::now();
        let mut args = vec!["events", "--since", "1h", "--until", &now, "--format", format];
        args.extend(filters.iter().flat_map(|filter| ["--filter", filter]));
        self.docker(&args)
    }

    /// Runs Gantry's own command line.
    ///
    /// # Panics
    /// When it has not been built.
    #[track_caller]
    pub fn gantry(&self, args: &[&str]) -> Output {
        command::run(self.gantry_command().args(args), b"")
    }

    /// Our command line as a command, to be started otherwise.
    ///
    /// # Panics
    /// When the command line was not built.
    pub fn gantry_command(&self) -> Command {
        let binary = crate::daemon::built("gantry").expect("the command line is built");
        let mut command = self.daemon.cli(&binary);
        command.current_dir(self.dir.path());
        command
    }

    /// `gantry build` by BuildKit's protocol.
    ///
    /// # Panics
    /// When the command line was not built.
    pub fn gantry_build(&self) -> Command {
        let mut command = self.gantry_command();
        command.arg("build").env_remove("DOCKER_BUILDKIT").env_remove("BUILDKIT_PROGRESS");
        command
    }

    /// The docker CLI as a command, to be started otherwise.
    pub fn command(&self) -> Command {
        let mut command = self.daemon.docker();
        command.current_dir(self.dir.path());
        command
    }

    /// A configuration folder of the case's own with plugins of the docker CLI in it; nothing when one is missing, which
    /// `scripts/setup --tests` builds.
    ///
    /// # Panics
    /// When the case's folder takes no links.
    pub fn plugged(&self, plugins: &[&str]) -> Option<PathBuf> {
        let config = self.dir().join(".docker");
        let folder = config.join("cli-plugins");
        fs::create_dir_all(&folder).expect("the case's folder takes folders");
        for name in plugins {
            let program = crate::image::cache_dir().join("bin").join(name);
            if !program.exists() {
                return None;
            }
            let link = folder.join(name);
            if !link.exists() {
                std::os::unix::fs::symlink(program, link).expect("the case's folder takes links");
            }
        }
        Some(config)
    }

    /// Runs the docker CLI on a terminal of 24 by 80.
    ///
    /// # Panics
    /// When no terminal is left.
    #[track_caller]
    pub fn terminal(&self, args: &[&str]) -> Pty {
        let mut command = self.command();
        command.args(args);
        Pty::start(&command, 24, 80).expect("the host gives a terminal")
    }

    /// `docker run --rm busybox ARGS`: the output of a command in a container, which must succeed.
    #[track_caller]
    pub fn busybox(&self, options: &[&str], args: &[&str]) -> String {
        self.run(options, args).ok().to_owned()
    }

    /// `docker run --rm OPTIONS busybox ARGS`.
    #[track_caller]
    pub fn run(&self, options: &[&str], args: &[&str]) -> Output {
        let label = self.label();
        let head = ["run", "--rm", "--label", &label];
        self.docker(&[&head, options, &["busybox"], args].concat())
    }

    /// `docker run -d --name NAME OPTIONS busybox ARGS`: the full name of the container.
    #[track_caller]
    pub fn start(&self, part: &str, options: &[&str], args: &[&str]) -> String {
        let name = self.name(part);
        self.docker(&[&["run", "-d", "--name", &name], options, &["busybox"], args].concat()).ok();
        name
    }

    /// A container that sleeps until it is killed, and dies at once when it is told to.
    #[track_caller]
    pub fn sleeper(&self, part: &str, options: &[&str]) -> String {
        self.start(
            part,
            options,
            &["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 600 & wait; done"],
        )
    }

    /// What `docker inspect` says of a container.
    #[track_caller]
    pub fn inspect(&self, name: &str) -> Value {
        self.api().get(&format!("/containers/{name}/json")).expect(200)
    }

    /// Asks `poll` again and again until it gives a value.
    ///
    /// # Panics
    /// When it never does.
    #[track_caller]
    pub fn until<T>(&self, what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(value) = poll() {
                return value;
            }
            assert!(Instant::now() < deadline, "waited in vain until {what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the container has ended; its exit code.
    #[track_caller]
    pub fn wait(&self, name: &str) -> i64 {
        let answer = self.api().post(&format!("/containers/{name}/wait"), &Value::Null).expect(200);
        answer["StatusCode"].as_i64().unwrap_or(-1)
    }

    /// Waits until the container's log holds `text`.
    #[track_caller]
    pub fn wait_for_log(&self, name: &str, text: &str) {
        self.until(&format!("{name} prints {text:?}"), || {
            let output = self.docker(&["logs", name]);
            (output.stdout.contains(text) || output.stderr.contains(text)).then_some(())
        });
    }

    /// Removes what bears this case's name.
    pub fn clean(&self) {
        let api = self.api();
        let mine = |text: &Value| {
            let text = text.as_str().unwrap_or_default().trim_start_matches('/');
            text.strip_prefix(self.name.as_str()).is_some_and(|rest| rest.starts_with(['-', ':']))
        };
        if !self.daemon.answers() {
            return;
        }
        for c in api.get("/containers/json?all=1").json().as_array().into_iter().flatten() {
            let labelled = c["Labels"]["case"].as_str() == Some(&self.name);
            if labelled || c["Names"].as_array().is_some_and(|n| n.iter().any(mine)) {
                let id = c["Id"].as_str().unwrap_or_default();
                _ = api.delete(&format!("/containers/{id}?force=1&v=1"));
            }
        }
        for i in api.get("/images/json").json().as_array().into_iter().flatten() {
            for tag in i["RepoTags"].as_array().into_iter().flatten().filter(|t| mine(t)) {
                _ = api.delete(&format!("/images/{}?force=1", tag.as_str().unwrap_or_default()));
            }
        }
        for n in api.get("/networks").json().as_array().into_iter().flatten() {
            if mine(&n["Name"]) {
                let id = n["Id"].as_str().unwrap_or_default();
                _ = api.delete(&format!("/networks/{id}"));
            }
        }
        for v in api.get("/volumes").json()["Volumes"].as_array().into_iter().flatten() {
            if mine(&v["Name"]) {
                let name = v["Name"].as_str().unwrap_or_default();
                _ = api.delete(&format!("/volumes/{name}?force=1"));
            }
        }
    }
}
