//! A registry server of a test's own, as a process that can be killed.

use crate::http::Client;
use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_gantry-registry");
/// A server that says nothing for this time has failed.
const START: Duration = Duration::from_secs(30);

pub struct Server {
    pub dir: tempfile::TempDir,
    pub address: String,
    child: Option<Child>,
    arguments: Vec<String>,
    config: String,
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// With defaults, on a port of its own.
    pub fn start() -> Self {
        Self::with("", &[])
    }

    /// With this in its configuration, and these arguments.
    pub fn with(config: &str, arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::below(dir, config, arguments)
    }

    /// Below a folder that has something in it already; its data are in `root`.
    pub fn below(dir: tempfile::TempDir, config: &str, arguments: &[&str]) -> Self {
        let mut server = Self {
            dir,
            address: "127.0.0.1:0".to_owned(),
            child: None,
            arguments: arguments.iter().map(|a| (*a).to_owned()).collect(),
            config: config.to_owned(),
            log: Arc::default(),
        };
        server.start_again();
        server
    }

    /// One whose callers are asked who they are: `carol` may do everything below `team`, `bob` may pull
    /// there, everybody may pull below `public`; `root` may do everything.
    pub fn with_users(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        for (name, password) in [("carol", "carols"), ("bob", "bobs"), ("root", "roots")] {
            admin(&root, &["user", "add", name], password);
        }
        for rule in [
            ["carol", "team/**", "pull,push,delete"],
            ["bob", "team/**", "pull"],
            ["@anonymous", "public/**", "pull"],
            ["root", "**", "*"],
        ] {
            admin(&root, &["rule", "set", rule[0], rule[1], rule[2]], "");
        }
        Self::below(dir, config, &[])
    }

    /// What its configuration is from the next start on.
    pub fn configure(&mut self, config: &str) {
        config.clone_into(&mut self.config);
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn client(&self) -> Client {
        Client::new(&self.url(), None)
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Starts it, on the address that it had.
    pub fn start_again(&mut self) {
        let file = self.dir.path().join("registry.toml");
        let mut config = self.config.clone();
        if let Ok(storage) = std::env::var("GANTRY_TEST_STORAGE")
            && !config.contains("[storage]")
        {
            config.push_str(&format!("\n[storage]\nurl = \"{storage}:\"\n"));
        }
        std::fs::write(&file, config).unwrap();
        let mut child = Command::new(PROGRAM)
            .args(["serve", "--log-format", "json", "--listen", &self.address, "--config"])
            .arg(&file)
            .arg("--root")
            .arg(self.root())
            .args(&self.arguments)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (told, hear) = mpsc::channel();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::clone(&self.log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let value: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
                if value["fields"]["message"] == "listening" {
                    let address = value["fields"]["address"].as_str().unwrap_or_default();
                    let _ = told.send(address.to_owned());
                }
                log.lock().unwrap().push(line);
            }
        });
        self.child = Some(child);
        match hear.recv_timeout(START) {
            Ok(address) => self.address = address,
            Err(_) => panic!("the server does not start: {:?}", self.log()),
        }
    }

    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Waits for a line of its log that has `words` in it: the log comes beside the answers.
    #[track_caller]
    pub fn told(&self, words: &str) -> String {
        let end = Instant::now() + START;
        loop {
            if let Some(line) = self.log().into_iter().find(|line| line.contains(words)) {
                return line;
            }
            assert!(Instant::now() < end, "the log does not say {words:?}: {:?}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// As by a power cut to the process.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            child.wait().unwrap();
        }
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.unwrap(), signal).unwrap();
    }

    /// Asks it to end and waits; its exit code.
    pub fn stop(&mut self) -> Option<i32> {
        self.signal(rustix::process::Signal::TERM);
        let mut child = self.child.take().unwrap();
        child.wait().unwrap().code()
    }

    /// Runs an administrator's command beside it; it must succeed.
    #[track_caller]
    pub fn admin(&self, arguments: &[&str], input: &str) -> String {
        admin(&self.root(), arguments, input)
    }

    /// The same, with the server's configuration.
    #[track_caller]
    pub fn admin_with_config(&self, arguments: &[&str]) -> String {
        let output = self.try_admin_with_config(arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {told}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The same, which must fail; what it says.
    #[track_caller]
    pub fn fails_with_config(&self, arguments: &[&str]) -> String {
        let output = self.try_admin_with_config(arguments);
        assert!(!output.status.success(), "{arguments:?} succeeded");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn try_admin_with_config(&self, arguments: &[&str]) -> Output {
        Command::new(PROGRAM)
            .args(arguments)
            .arg("--root")
            .arg(self.root())
            .arg("--config")
            .arg(self.dir.path().join("registry.toml"))
            .output()
            .unwrap()
    }

    /// Bytes of memory that the process has to itself.
    pub fn memory(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid())).unwrap();
        let field = |name: &str| {
            let line = text.lines().find(|l| l.starts_with(name)).unwrap_or_default();
            line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0)
        };
        (field("Private_Dirty:") + field("Private_Clean:")) * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            for line in self.log().iter().rev().take(20).rev() {
                println!("{line}");
            }
        }
    }
}

/// Runs an administrator's command and gives all that came of it.
pub fn try_admin(root: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(PROGRAM)
        .args(arguments)
        .arg("--root")
        .arg(root)
        .args(["--config", "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// Runs an administrator's command that must succeed; its output.
#[track_caller]
pub fn admin(root: &Path, arguments: &[&str], input: &str) -> String {
    let output = try_admin(root, arguments, input);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {told}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
