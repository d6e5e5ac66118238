//! A container to be tried: a root with busybox, a folder, a control group; all of it gone at the end,
//! or the test fails.

use runtime::{
    Features,
    defaults::{self, Capabilities},
    seccomp::Cache,
    shim::{
        Attach, AttachOptions, Binary, Exit, Launch, Running, Shim, StartError, Stdin, Stream,
        Target,
    },
    spec::{Cgroup, Device, Mount, Process, Root, Rootfs, Spec},
};
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
};
use sys::cgroup::{Cgroup as Group, Hierarchy, Resources, Version};
use tempfile::TempDir;

/// Everything is attached.
pub(crate) const ALL: AttachOptions = AttachOptions { stdin: true, stdout: true, stderr: true };

/// The shim that is tried: that of this build, or the one that `GANTRY_SHIM` names.
pub(crate) fn shim_path() -> PathBuf {
    std::env::var_os("GANTRY_SHIM")
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_gantry-shim").into())
        .into()
}

static BINARY: LazyLock<Binary> = LazyLock::new(|| Binary::open(&shim_path()).unwrap());
static CACHE: LazyLock<Cache> = LazyLock::new(Cache::default);
static COUNT: AtomicU32 = AtomicU32::new(0);

/// One container's place in the world.
pub(crate) struct Rig {
    pub(crate) spec: Spec,
    pub(crate) stdin: Stdin,
    pub(crate) log: bool,
    program: Option<Binary>,
    home: TempDir,
    run: String,
    version: Version,
}

impl Rig {
    /// A root in which `/bin/sh -c SCRIPT` is what runs.
    pub(crate) fn sh(script: &str) -> Self {
        Self::args(&["/bin/sh", "-c", script])
    }

    /// A root in which `args` is what runs.
    pub(crate) fn args(args: &[&str]) -> Self {
        let home = tempfile::Builder::new().prefix("gantry-shim-").tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        for dir in ["lower/bin", "lower/etc", "lower/tmp", "upper", "work", "run"] {
            fs::create_dir_all(at(dir)).unwrap();
        }
        fs::copy("/bin/busybox", at("lower/bin/busybox")).unwrap();
        for name in [
            "sh", "cat", "echo", "sleep", "ls", "id", "stat", "mount", "touch", "kill", "ps",
            "head", "mkdir", "readlink", "env", "pwd", "hostname", "wc", "tr", "seq", "grep",
            "umount", "mknod", "stty", "yes", "dd", "true", "tty", "ip", "chmod", "unshare",
        ] {
            symlink("busybox", at("lower/bin").join(name)).unwrap();
        }
        fs::write(
            at("lower/etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n",
        )
        .unwrap();
        fs::write(at("lower/etc/group"), "root:x:0:root\napps:x:1001:\nextra:x:2000:app\n")
            .unwrap();
        let version = Hierarchy::detect().unwrap().version();
        let id =
            format!("shimtest{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let resources = Resources { devices: defaults::device_rules(), ..Resources::default() };
        let resources = serde_json::to_value(resources).unwrap();
        let strings = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let spec = Spec {
            root: Root {
                source: Rootfs::Overlay {
                    lower: vec![at("lower")],
                    upper: at("upper"),
                    work: at("work"),
                    volatile: false,
                },
                ..Root::default()
            },
            process: Process {
                args: strings(args),
                env: strings(&[
                    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                ]),
                cwd: "/".into(),
                capabilities: Capabilities::DEFAULT.names().collect(),
                oom_score_adj: Some(0),
                ..Process::default()
            },
            hostname: "testhost".into(),
            mounts: mounts(),
            devices: devices(),
            masked_paths: defaults::masked_paths(),
            readonly_paths: strings(defaults::READONLY_PATHS),
            cgroup: Some(Cgroup { path: format!("/gantry-shimtest/{id}").into(), resources }),
            seccomp: Some(CACHE.default_program(Capabilities::DEFAULT).unwrap().to_bytes()),
            id,
            ..Spec::default()
        };
        Self {
            spec,
            stdin: Stdin::Null,
            log: true,
            program: None,
            home,
            run: "run".into(),
            version,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.path(&self.run)
    }

    /// Runs another copy of the shim.
    pub(crate) fn use_program(&mut self, path: &Path) {
        self.program = Some(Binary::open(path).unwrap());
    }

    /// Puts the container's folder below names of `bytes` bytes.
    pub(crate) fn deepen(&mut self, bytes: usize) {
        let part = format!("/{}", "d".repeat(99));
        self.run = format!("run{}", part.repeat(bytes.div_ceil(part.len())));
        fs::create_dir_all(self.dir()).unwrap();
    }

    /// Does what the engine does for a container whose shim was killed.
    pub(crate) fn remove_cgroup(&self) {
        let path = format!("/gantry-shimtest/{}", self.spec.id);
        Group::open(&Hierarchy::detect().unwrap(), &path).unwrap().remove().unwrap();
    }

    pub(crate) fn upper(&self) -> PathBuf {
        self.path("upper")
    }

    pub(crate) async fn spawn(&self) -> Result<(Shim, u32), StartError> {
        let features = Features { cgroup_v2: self.version == Version::V2 };
        let plan =
            runtime::plan(&self.spec, &features).map_err(|e| StartError::setup(e.chain()))?;
        let log = self.log.then(|| {
            let config =
                logging::Config { path: self.path("json.log"), ..logging::Config::default() };
            serde_json::to_value(config).unwrap()
        });
        let dir = self.dir();
        let launch = Launch {
            binary: self.program.as_ref().unwrap_or(&BINARY),
            dir: &dir,
            plan,
            log,
            stdin: self.stdin,
            runtime: None,
        };
        let (shim, spawned) = Shim::spawn(launch).await?;
        Ok((shim, spawned.pid))
    }

    /// Starts it with everything attached.
    pub(crate) async fn start(&self) -> Result<(Shim, Attach), StartError> {
        let (shim, _) = self.spawn().await?;
        let attach = shim.attach(&Target::Init, ALL).await.unwrap();
        shim.release().await?;
        Ok((shim, attach))
    }

    /// Runs it to its end: exit, standard output, standard error.
    pub(crate) async fn run(&self) -> (Exit, String, String) {
        let (shim, mut attach) = self.start().await.unwrap();
        let (out, err) = read(&mut attach).await;
        let exit = shim.wait(&Target::Init).await.unwrap();
        assert_eq!(Shim::exit_record(&self.dir()), Some(exit));
        (exit, out, err)
    }

    /// Runs it and expects it not to start.
    pub(crate) async fn failure(&self) -> StartError {
        match self.start().await {
            Err(err) => err,
            Ok(_) => panic!("it started"),
        }
    }

    /// The log's lines, `stream: text`.
    pub(crate) fn log_lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("json.log")).unwrap();
        text.lines()
            .map(|line| {
                let record: serde_json::Value = serde_json::from_str(line).unwrap();
                let of = |key: &str| record[key].as_str().unwrap().to_owned();
                format!("{}: {}", of("stream"), of("log").trim_end_matches('\n'))
            })
            .collect()
    }

    pub(crate) fn process(&self, script: &str) -> Process {
        let mut process = self.spec.process.clone();
        process.args = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        process
    }

    pub(crate) async fn exec(
        &self,
        shim: &Shim,
        id: &str,
        process: &Process,
    ) -> Result<Running, StartError> {
        let plan = runtime::plan_exec(id, process, self.spec.seccomp.as_deref(), true)
            .map_err(|e| StartError::setup(e.chain()))?;
        shim.exec(plan, Some(ALL)).await
    }

    /// Waits for the shim's end and looks for what it left.
    pub(crate) async fn gone(self) {
        let id = self.spec.id.clone();
        eventually(|| !self.dir().join("shim.sock").exists()).await;
        eventually(|| shims(&id).is_empty()).await;
        let left = leftovers(&id, self.home.path());
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

/// Everything until the end.
pub(crate) async fn read(attach: &mut Attach) -> (String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some(frame) = attach.next().await.unwrap() {
        match frame.stream {
            Stream::Stdout => out.extend(frame.bytes),
            Stream::Stderr => err.extend(frame.bytes),
        }
    }
    (String::from_utf8_lossy(&out).into_owned(), String::from_utf8_lossy(&err).into_owned())
}

/// Reads until `text` has come.
pub(crate) async fn read_until(attach: &mut Attach, text: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(text) {
        let frame = attach.next().await.unwrap();
        let frame = frame.unwrap_or_else(|| panic!("ended without {text:?}, after {seen:?}"));
        seen.push_str(&String::from_utf8_lossy(&frame.bytes));
    }
    seen
}

/// Polls until `holds`, for what the kernel does in its own time; fails after ten seconds.
pub(crate) async fn eventually(mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("it did not come about in 10 s");
}

fn mounts() -> Vec<Mount> {
    defaults::MOUNTS.iter().map(|m| Mount::of(m.kind, m.destination, m.options)).collect()
}

fn devices() -> Vec<Device> {
    let of = |d: &defaults::Device| Device {
        path: d.path.into(),
        kind: 'c',
        major: d.major,
        minor: d.minor,
        file_mode: 0o666,
        uid: 0,
        gid: 0,
    };
    defaults::DEVICES.iter().map(of).collect()
}

/// Pids of shims whose argument is `id`.
pub(crate) fn shims(id: &str) -> Vec<u32> {
    let of = |entry: fs::DirEntry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let mut args = line.split(|b| *b == 0);
        (args.next() == Some(b"gantry-shim") && args.next() == Some(id.as_bytes())).then_some(pid)
    };
    fs::read_dir("/proc").unwrap().flatten().filter_map(of).collect()
}

fn leftovers(id: &str, home: &Path) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let home = home.to_str().unwrap();
    let mut left: Vec<String> =
        mounts.lines().filter(|l| l.contains(home) || l.contains(id)).map(str::to_owned).collect();
    for root in ["/sys/fs/cgroup/gantry-shimtest".to_owned()].into_iter().chain(
        fs::read_dir("/sys/fs/cgroup")
            .unwrap()
            .flatten()
            .map(|e| format!("{}/gantry-shimtest", e.path().display())),
    ) {
        if Path::new(&root).join(id).exists() {
            left.push(format!("{root}/{id}"));
        }
    }
    left
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Ok(hierarchy) = Hierarchy::detect() {
            // Other tests may still use it.
            let _ = hierarchy.remove_parent("/gantry-shimtest");
        }
    }
}
