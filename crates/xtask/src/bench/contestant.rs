//! An engine that takes part: its daemon, its clients, and what its processes weigh.

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Instant,
};
use testkit::{Daemon, daemon::Options, http};

/// One engine.
#[derive(Debug)]
pub(crate) struct Contestant {
    /// Heading of its column.
    pub(crate) name: String,
    /// Its daemon.
    pub(crate) daemon: Daemon,
    /// What `docker version` says of the server.
    pub(crate) version: String,
    /// Gantry's command line, which drives other engines too.
    pub(crate) cli: PathBuf,
}

impl Contestant {
    /// Starts a daemon; `path` goes before `PATH` so that it finds its own containerd and runc.
    pub(crate) fn start(name: &str, binary: &Path, path: Option<&Path>) -> Result<Self> {
        let mut options = Options::new();
        options.binary = Some(binary.to_owned());
        if let Some(folder) = path {
            let old = std::env::var("PATH").unwrap_or_default();
            options.env.push(("PATH".into(), format!("{}:{old}", folder.display())));
        }
        if binary.ends_with("dockerd") {
            options = options.args(&["--userland-proxy=false"]);
        }
        Ok(Self::of(name, Daemon::start(options)?))
    }

    /// A daemon that runs already.
    pub(crate) fn external(name: &str, socket: &Path) -> Self {
        Self::of(name, Daemon::external(socket))
    }

    fn of(name: &str, daemon: Daemon) -> Self {
        let version = daemon.api().get("/version").json();
        let version = version["Version"].as_str().unwrap_or("?").to_owned();
        Self { name: name.to_owned(), daemon, version, cli: PathBuf::new() }
    }

    /// Milliseconds of a docker command that must succeed, its output thrown away.
    pub(crate) fn docker(&self, args: &[&str]) -> Result<f64> {
        let mut command = self.daemon.docker();
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let began = Instant::now();
        let output = command.output().context("run docker")?;
        let took = milliseconds(began);
        if !output.status.success() {
            bail!("docker {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(took)
    }

    /// A client of the socket.
    pub(crate) fn api(&self) -> http::Client {
        self.daemon.api()
    }

    /// One create, start, wait, remove over the API.
    pub(crate) fn cycle(&self) -> Result<()> {
        let api = self.api();
        let created =
            api.post("/v1.41/containers/create", &json!({"Image": "busybox", "Cmd": ["true"]}));
        let id = created.json()["Id"].as_str().unwrap_or_default().to_owned();
        let start = api.post(&format!("/v1.41/containers/{id}/start"), &Value::Null);
        let wait = api.post(&format!("/v1.41/containers/{id}/wait"), &Value::Null);
        let remove = api.delete(&format!("/v1.41/containers/{id}"));
        let statuses = [created.status(), start.status(), wait.status(), remove.status()];
        if statuses != [201, 204, 200, 204] {
            bail!("cycle answered {statuses:?}: {}{}", created.text(), start.text());
        }
        Ok(())
    }

    /// One exec of `true` in container `bench` over the API: create, start and read to its end, inspect.
    pub(crate) fn exec(&self) -> Result<()> {
        let api = self.api();
        let wish = json!({"Cmd": ["true"], "AttachStdout": true, "AttachStderr": true});
        let made = api.post("/v1.41/containers/bench/exec", &wish);
        let id = made.json()["Id"].as_str().unwrap_or_default().to_owned();
        let mut stream =
            api.stream("POST", &format!("/v1.41/exec/{id}/start"), true, &json!({"Detach": false}));
        stream.frames();
        let after = api.get(&format!("/v1.41/exec/{id}/json")).json();
        if after["ExitCode"] != 0 {
            bail!("exec: {}{after}", made.text());
        }
        Ok(())
    }

    /// Removes all containers.
    pub(crate) fn clear(&self) {
        let list = self.api().get("/v1.41/containers/json?all=1").json();
        for container in list.as_array().into_iter().flatten() {
            let id = container["Id"].as_str().unwrap_or_default();
            _ = self.api().delete(&format!("/v1.41/containers/{id}?force=1&v=1"));
        }
    }

    /// Bytes of private memory of the engine's own processes: the daemon and what it started, without
    /// the containers' programs.
    pub(crate) fn private_memory(&self) -> Result<(f64, f64)> {
        if !self.daemon.is_own() {
            bail!("the processes of a foreign daemon are not known");
        }
        let mark = self.daemon.path("").display().to_string();
        let mark = mark.trim_end_matches('/');
        let ids = self.daemon.container_ids();
        let (mut daemon, mut shims) = (0.0, 0.0);
        for entry in fs::read_dir("/proc").context("list processes")?.flatten() {
            let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
            let command = String::from_utf8_lossy(&read("cmdline")).into_owned();
            let folder = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
            let is_shim = command.split('\0').next().is_some_and(|p| p.contains("shim"));
            let ours = command.contains(mark)
                || folder.starts_with(mark)
                || is_shim && ids.iter().any(|id| command.contains(id.as_str()));
            if !ours {
                continue;
            }
            let rollup = String::from_utf8_lossy(&read("smaps_rollup")).into_owned();
            let bytes: f64 = rollup
                .lines()
                .filter(|l| l.starts_with("Private_"))
                .filter_map(|l| l.split_whitespace().nth(1)?.parse::<f64>().ok())
                .sum::<f64>()
                * 1024.0;
            if is_shim { shims += bytes } else { daemon += bytes }
        }
        Ok((daemon, shims))
    }
}

/// Milliseconds since `began`.
pub(crate) fn milliseconds(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1000.0
}
