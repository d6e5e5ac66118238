//! A daemon under test: own folders, own socket, own bridge and addresses; started, killed, started again.
//!
//! Works for every binary that takes dockerd's flags. The bridge is made here and handed in by
//! `--bridge`, so that two daemons never meet. What the daemon leaves behind when it stops is for the
//! census to find: only then `Daemon::remove` (or drop) takes folders and bridge away.

use crate::{command, host, http, image};
use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How long a daemon may take until it answers, and to stop: bounds a hang only.
const LIMIT: Duration = Duration::from_secs(60);

/// Whose daemon it is; expectations that deliberately differ ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Ours.
    Gantry,
    /// Docker's.
    Dockerd,
}

/// How to start a daemon.
#[derive(Clone, Debug)]
pub struct Options {
    /// The binary; [`binary`] when `None`.
    pub binary: Option<PathBuf>,
    /// Flags besides those for folders, socket and bridge.
    pub args: Vec<String>,
    /// Variables for its environment.
    pub env: Vec<(String, String)>,
    /// Contents of its configuration file.
    pub config: String,
    /// Whether it gets a bridge; `--bridge none` otherwise.
    pub bridge: bool,
    /// Its data root; a folder of its own when `None`.
    pub data_root: Option<PathBuf>,
}

impl Options {
    /// The daemon of the suite with a bridge and no further flags.
    pub fn new() -> Self {
        Self {
            binary: None,
            args: Vec::new(),
            env: Vec::new(),
            config: "{}".to_owned(),
            bridge: true,
            data_root: None,
        }
    }

    /// Adds flags.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|a| (*a).to_owned()));
        self
    }

    /// Its data is elsewhere.
    #[must_use]
    pub fn data_root(mut self, path: &Path) -> Self {
        self.data_root = Some(path.to_owned());
        self
    }

    /// No bridge: quicker, for tests without a network.
    #[must_use]
    pub fn without_bridge(mut self) -> Self {
        self.bridge = false;
        self
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

/// A daemon and what was made for it.
#[derive(Debug)]
pub struct Daemon {
    engine: Engine,
    socket: PathBuf,
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    binary: PathBuf,
    options: Options,
    dir: TempDir,
    slot: Option<Slot>,
    child: Mutex<Option<Child>>,
}

impl Own {
    /// The control group that dockerd puts those of its containers into; its own would be `/docker` and stay.
    fn control_group(&self) -> String {
        let name = self.dir.path().file_name().unwrap_or_default();
        format!("/{}", name.to_string_lossy())
    }
}

/// A bridge name and an address range that no other daemon under test has; held by a lock on a file.
#[derive(Debug)]
struct Slot {
    number: u16,
    _lock: File,
}

impl Slot {
    fn take() -> Result<Self> {
        let dir = std::env::temp_dir().join("gantry-test-slots");
        fs::create_dir_all(&dir).context("create the folder of slots")?;
        for number in 0..200 {
            let file = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(dir.join(number.to_string()))
                .context("open a slot")?;
            if file.try_lock().is_ok() {
                return Ok(Self { number, _lock: file });
            }
        }
        bail!("no slot for another daemon is left")
    }

    fn bridge(&self) -> String {
        format!("gtk{}", self.number)
    }

    fn address(&self) -> String {
        format!("10.{}.{}.1/24", 200 + self.number / 250, self.number % 250)
    }

    /// Where its user-defined networks get their subnets from: 64 of 62 addresses.
    fn pool(&self) -> String {
        format!("base=10.{}.{}.0/20,size=26", 100 + self.number / 16, self.number % 16 * 16)
    }
}

/// The binary under test: `GANTRY_TEST_DAEMON`, else the `gantry` beside the running test.
///
/// # Errors
/// It has not been built.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("GANTRY_TEST_DAEMON") {
        return Ok(path.into());
    }
    built("gantry")
}

/// A program of this build.
///
/// # Errors
/// It has not been built.
pub fn built(name: &str) -> Result<PathBuf> {
    let exe = std::env::current_exe().context("find the running test")?;
    let dir = exe.ancestors().find(|d| d.ends_with("debug") || d.ends_with("release"));
    let path = dir.context("find the target folder")?.join(name);
    if !path.exists() {
        bail!("{} is missing: run `scripts/build debug` first", path.display());
    }
    Ok(path)
}

impl Daemon {
    /// Starts a daemon and waits until it answers.
    ///
    /// # Errors
    /// It does not start; the message holds the end of its log.
    pub fn start(options: Options) -> Result<Self> {
        let binary = match &options.binary {
            Some(binary) => binary.clone(),
            None => binary()?,
        };
        let engine = if binary.file_name().is_some_and(|n| n == "dockerd") {
            Engine::Dockerd
        } else {
            Engine::Gantry
        };
        let dir = tempfile::Builder::new().prefix("gtk-").tempdir().context("make a folder")?;
        fs::write(dir.path().join("daemon.json"), &options.config)?;
        let slot = if options.bridge { Some(Slot::take()?) } else { None };
        if let Some(slot) = &slot {
            let (bridge, address) = (slot.bridge(), slot.address());
            _ = ip(&["link", "del", &bridge]); // left by a test that was killed
            ip(&["link", "add", &bridge, "type", "bridge"])?;
            ip(&["addr", "add", &address, "dev", &bridge])?;
            ip(&["link", "set", &bridge, "up"])?;
        }
        let socket = dir.path().join("docker.sock");
        let own = Own { binary, options, dir, slot, child: Mutex::new(None) };
        let daemon = Self { engine, socket, own: Some(own) };
        daemon.start_again()?;
        Ok(daemon)
    }

    /// A daemon that already runs and is not ours to stop.
    pub fn external(socket: &Path) -> Self {
        let version = http::Client::new(socket).get("/version").json();
        let ours = version["Components"].to_string().contains("antry");
        let engine = if ours { Engine::Gantry } else { Engine::Dockerd };
        Self { engine, socket: socket.to_owned(), own: None }
    }

    /// Starts the daemon of the same folders again after [`Daemon::stop`] or [`Daemon::kill`].
    ///
    /// # Errors
    /// It does not come up.
    pub fn start_again(&self) -> Result<()> {
        let own = self.own.as_ref().context("start a daemon that is not ours")?;
        let log = File::options().create(true).append(true).open(self.path("daemon.log"))?;
        let mut command = self.command()?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut child =
            command.spawn().with_context(|| format!("start {}", own.binary.display()))?;
        let deadline = Instant::now() + LIMIT;
        while !self.answers() {
            if let Some(status) = child.try_wait()? {
                bail!("the daemon ended with {status}\n{}", self.log_tail());
            }
            if Instant::now() > deadline {
                _ = child.kill();
                bail!("the daemon does not answer\n{}", self.log_tail());
            }
            thread::sleep(Duration::from_millis(2));
        }
        *own.child.lock().expect("no test panics with the lock held") = Some(child);
        Ok(())
    }

    /// The command line that starts this daemon.
    ///
    /// # Errors
    /// The daemon is not ours.
    pub fn command(&self) -> Result<Command> {
        let own = self.own.as_ref().context("start a daemon that is not ours")?;
        let mut command = Command::new(&own.binary);
        if self.engine == Engine::Gantry {
            command.arg("daemon");
        }
        command.arg("--data-root").arg(self.path("root"));
        command.arg("--exec-root").arg(self.path("exec"));
        command.arg("--pidfile").arg(self.path("pid"));
        command.arg("--config-file").arg(self.path("daemon.json"));
        command.arg("-H").arg(format!("unix://{}", self.socket.display()));
        let bridge = own.slot.as_ref().map_or("none".to_owned(), Slot::bridge);
        command.args(["--bridge", &bridge]).args(&own.options.args);
        if self.engine == Engine::Dockerd {
            command.args(["--cgroup-parent", &own.control_group()]);
        }
        if let Some(slot) = &own.slot {
            command.args(["--default-address-pool", &slot.pool()]);
        }
        command.envs(own.options.env.iter().map(|(k, v)| (k, v)));
        Ok(command)
    }

    /// Whether it answers a ping.
    pub fn answers(&self) -> bool {
        let ping = b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n";
        self.api().raw(ping).is_ok_and(|r| r.status() == 200)
    }

    /// Asks it to stop and waits for its end; its exit code.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop(&self) -> Result<i32> {
        self.signal(Signal::TERM)?;
        self.wait()
    }

    /// Kills it and waits until its process is gone.
    ///
    /// # Errors
    /// It is not ours or does not run.
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.wait().map(drop)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It is not ours or does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().context("signal a daemon that does not run")?;
        let pid = Pid::from_raw(pid).context("signal pid 0")?;
        kill_process(pid, signal).context("signal the daemon")
    }

    /// Waits for its end; its exit code.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn wait(&self) -> Result<i32> {
        let own = self.own.as_ref().context("wait for a daemon that is not ours")?;
        let child = own.child.lock().expect("no test panics with the lock held").take();
        let mut child = child.context("wait for a daemon that does not run")?;
        let deadline = Instant::now() + LIMIT;
        while child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                _ = child.kill();
                _ = child.wait();
                bail!("the daemon did not stop\n{}", self.log_tail());
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(command::exit_code(&mut child).unwrap_or(-1))
    }

    /// Process id, while it runs.
    pub fn pid(&self) -> Option<i32> {
        let own = self.own.as_ref()?;
        let child = own.child.lock().ok()?;
        child.as_ref().and_then(|c| i32::try_from(c.id()).ok())
    }

    /// Whose daemon this is.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// Its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// A client of its socket.
    pub fn api(&self) -> http::Client {
        http::Client::new(&self.socket)
    }

    /// A path in the folder of this daemon: `root` is its data root, `exec` its exec root.
    ///
    /// # Panics
    /// When the daemon is not ours.
    pub fn path(&self, name: &str) -> PathBuf {
        let own = self.own.as_ref().expect("only for daemons of our own");
        match (&own.options.data_root, name.strip_prefix("root")) {
            (Some(root), Some("")) => root.clone(),
            (Some(root), Some(rest)) if rest.starts_with('/') => {
                root.join(rest.trim_start_matches('/'))
            }
            _ => own.dir.path().join(name),
        }
    }

    /// Whether this daemon was started here.
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Name of its bridge.
    pub fn bridge(&self) -> Option<String> {
        self.own.as_ref()?.slot.as_ref().map(Slot::bridge)
    }

    /// First two numbers of the addresses of its user-defined networks, `10.107.`.
    pub fn pool(&self) -> Option<String> {
        let slot = self.own.as_ref()?.slot.as_ref()?;
        Some(format!("10.{}.", 100 + slot.number / 16))
    }

    /// First three numbers of its bridge's addresses, `10.200.7.`.
    pub fn subnet(&self) -> Option<String> {
        let address = self.own.as_ref()?.slot.as_ref()?.address();
        address.strip_suffix("1/24").map(str::to_owned)
    }

    /// The docker CLI pointed at this daemon; of `GANTRY_TEST_DOCKER` or the first on the path.
    pub fn docker(&self) -> Command {
        let cli = std::env::var_os("GANTRY_TEST_DOCKER")
            .map_or_else(|| Path::new("/usr/local/bin/docker").to_owned(), PathBuf::from);
        self.cli(if cli.exists() { &cli } else { Path::new("docker") })
    }

    /// A given docker CLI pointed at this daemon, with a home of its own.
    pub fn cli(&self, binary: &Path) -> Command {
        let mut command = Command::new(binary);
        command
            .env("DOCKER_HOST", format!("unix://{}", self.socket.display()))
            .env("DOCKER_CONFIG", "/nonexistent")
            .env("DOCKER_BUILDKIT", "0")
            .env("DOCKER_CLI_HINTS", "false")
            .env_remove("DOCKER_CONTEXT")
            .env_remove("DOCKER_API_VERSION");
        command
    }

    /// Loads the busybox image.
    ///
    /// # Errors
    /// The daemon refuses it.
    pub fn load_busybox(&self) -> Result<()> {
        let output = command::run(self.docker().args(["load", "-q"]), image::busybox());
        if output.code != Some(0) {
            bail!("load busybox: {}", output.describe());
        }
        Ok(())
    }

    /// The last lines of the daemon's log.
    pub fn log_tail(&self) -> String {
        let Some(own) = &self.own else { return String::new() };
        let log = fs::read(own.dir.path().join("daemon.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Ids of all containers that ever were, as the event log tells.
    pub fn container_ids(&self) -> Vec<String> {
        // A daemon that waits for `until` in the future would block.
        let now = crate::host::now();
        let filters = "%7B%22type%22%3A%5B%22container%22%5D%7D";
        let path = format!("/events?since=0&until={now}&filters={filters}");
        let text = self.api().get(&path).text();
        let ids: std::collections::BTreeSet<_> = text
            .lines()
            .filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok())
            .filter_map(|e| e["Actor"]["ID"].as_str().map(str::to_owned))
            // A prune is an event of no container.
            .filter(|id| !id.is_empty())
            .collect();
        ids.into_iter().collect()
    }

    /// What runs for this daemon besides itself: shims, which bear its folder on their command line, and what is in
    /// their containers, whose control groups bear the ids that the folder knows.
    fn processes(&self) -> Vec<Pid> {
        let exec = self.path("exec").join("containers");
        let names = |dir: &Path| -> Vec<String> {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
        };
        let ids = names(&exec);
        let exec = exec.display().to_string();
        let ours = |pid: &Pid| {
            let read = |name: &str| {
                fs::read(format!("/proc/{}/{name}", pid.as_raw_nonzero())).unwrap_or_default()
            };
            let (group, line) = (read("cgroup"), read("cmdline"));
            let group = String::from_utf8_lossy(&group);
            String::from_utf8_lossy(&line).contains(&exec)
                || ids.iter().any(|id| group.contains(id.as_str()))
        };
        let numbers = names(Path::new("/proc")).into_iter().filter_map(|n| n.parse().ok());
        numbers.filter_map(Pid::from_raw).filter(ours).collect()
    }

    /// Kills its shims and their containers, as a power cut does.
    pub fn kill_processes(&self) {
        for pid in self.processes() {
            _ = kill_process(pid, Signal::KILL);
        }
    }

    /// Removes every container, then stops the daemon.
    ///
    /// # Errors
    /// A container does not go, or the daemon does not end.
    pub fn empty_and_stop(&self) -> Result<()> {
        for container in
            self.api().get("/containers/json?all=1").json().as_array().into_iter().flatten()
        {
            let id = container["Id"].as_str().unwrap_or_default();
            let answer = self.api().delete(&format!("/containers/{id}?force=1&v=1"));
            if !matches!(answer.status(), 204 | 404 | 409) {
                bail!("remove container {id}: {}", answer.text());
            }
        }
        self.stop().map(drop)
    }
}

/// Removes what a list names, as far as the daemon still answers.
fn take_down(client: &http::Client, list: &str, below: &str, query: &str) {
    let ask = |line: String| {
        let head = "HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n";
        client.raw(format!("{line} {head}").as_bytes()).unwrap_or_default()
    };
    for one in ask(format!("GET {list}")).json().as_array().into_iter().flatten() {
        ask(format!("DELETE {below}/{}{query}", one["Id"].as_str().unwrap_or_default()));
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.own.is_none() {
            return;
        }
        // What a failed case leaves must not meet the next one: containers outlive a daemon that was killed.
        if self.engine == Engine::Gantry && self.pid().is_none() && !self.processes().is_empty() {
            _ = self.start_again();
        }
        let Some(own) = &mut self.own else { return };
        if let Ok(child) = own.child.get_mut()
            && let Some(mut child) = child.take()
        {
            // Containers and plugins are taken down first: they outlive their daemon.
            if self.engine == Engine::Gantry {
                let client = http::Client::new(&self.socket);
                take_down(&client, "/containers/json?all=1", "/containers", "?force=1&v=1");
                take_down(
                    &client,
                    "/networks?filters=%7B%22type%22%3A%5B%22custom%22%5D%7D",
                    "/networks",
                    "",
                );
                take_down(&client, "/plugins", "/plugins", "?force=1");
            }
            if let Ok(pid) = i32::try_from(child.id()) {
                _ = Pid::from_raw(pid).map(|pid| kill_process(pid, Signal::TERM));
            }
            let deadline = Instant::now() + LIMIT;
            while matches!(child.try_wait(), Ok(None)) {
                if Instant::now() > deadline {
                    _ = child.kill();
                    _ = child.wait();
                    break;
                }
                thread::sleep(Duration::from_millis(2));
            }
        }
        if self.engine == Engine::Gantry {
            self.kill_processes();
        }
        let Some(own) = &mut self.own else { return };
        if std::env::var_os("GANTRY_TEST_KEEP").is_some() {
            own.dir.disable_cleanup(true);
            return;
        }
        // dockerd leaves the groups that it put its containers' into, and mounts below its folders when it was killed.
        if self.engine == Engine::Dockerd {
            host::remove_control_groups(own.control_group().trim_start_matches('/'));
        }
        let dir = own.dir.path().display().to_string();
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for target in table.lines().rev().filter_map(|l| l.split(' ').nth(4)) {
            if target.starts_with(&dir) {
                _ = Command::new("umount").args(["-l", target]).status();
            }
        }
        if let Some(slot) = &own.slot {
            _ = ip(&["link", "del", &slot.bridge()]);
        }
    }
}

fn ip(args: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(args).output().context("run ip")?;
    if !output.status.success() {
        bail!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(())
}
