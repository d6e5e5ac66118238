//! Real registries for tests: Debian's docker-registry, our own, and `crane registry serve` where it is installed.

use anyhow::{Context as _, Result, bail};
use std::{
    fs::{self, File},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// User and password that a registry with users knows.
pub const USER: &str = "alice";
/// Her password.
pub const PASSWORD: &str = "secret";
/// `alice` with `secret`, by bcrypt.
const HTPASSWD: &str = "alice:$2b$04$9tvScIC1UdCX4kxyLnenB.6dFtwS0Vjh0GGY57WIGmQwYKjwMaanC";

/// Whose registry it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Debian's docker-registry.
    Docker,
    /// `gantry registry serve`, of this build.
    Gantry,
    /// `crane registry serve`, where it is installed; knows neither users nor TLS.
    Crane,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Docker, Self::Gantry, Self::Crane];
}

/// How a registry is started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// It asks for a user.
    pub users: bool,
    /// It speaks TLS, with a certificate of an authority of its own.
    pub tls: bool,
}

/// A registry that runs until this is dropped.
#[derive(Debug)]
pub struct Registry {
    kind: Kind,
    child: Child,
    dir: TempDir,
    host: String,
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Registry {
    /// Starts Debian's docker-registry.
    ///
    /// # Errors
    /// It is not installed (`scripts/setup --tests`), or does not start.
    pub fn docker(options: Options) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("gtk-reg-").tempdir()?;
        let host = format!("127.0.0.1:{}", free_port()?);
        let mut config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
             http:\n  addr: \"{host}\"\n",
            dir.path().join("data").display()
        );
        if options.tls {
            certificates(dir.path())?;
            config.push_str(&format!(
                "  tls: {{certificate: {0}/server.crt, key: {0}/server.key}}\n",
                dir.path().display()
            ));
        }
        if options.users {
            fs::write(dir.path().join("htpasswd"), HTPASSWD)?;
            config.push_str(&format!(
                "auth: {{htpasswd: {{realm: test, path: {}/htpasswd}}}}\n",
                dir.path().display()
            ));
        }
        let path = dir.path().join("config.yml");
        fs::write(&path, config)?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(path);
        Self::run(Kind::Docker, command, dir, host)
    }

    /// Starts our own: open to everybody, or with one user who may do everything.
    ///
    /// # Errors
    /// It has not been built (`scripts/build debug`), or does not start.
    pub fn gantry(options: Options) -> Result<Self> {
        let program = crate::daemon::built("gantry-registry")?;
        let dir = tempfile::Builder::new().prefix("gtk-reg-").tempdir()?;
        let host = format!("127.0.0.1:{}", free_port()?);
        let mut config =
            format!("root = \"{}\"\nlisten = [\"{host}\"]\n", dir.path().join("data").display());
        if options.tls {
            certificates(dir.path())?;
            config.push_str(&format!(
                "[tls]\ncertificate = \"{0}/server.crt\"\nkey = \"{0}/server.key\"\n",
                dir.path().display()
            ));
        }
        let path = dir.path().join("registry.toml");
        fs::write(&path, config)?;
        if options.users {
            let say = |args: &[&str], stdin: &str| -> Result<()> {
                let mut command = Command::new(&program);
                command.args(args).arg("--config").arg(&path);
                let output = crate::command::run(&mut command, stdin.as_bytes());
                if output.code != Some(0) {
                    bail!("{}", output.describe());
                }
                Ok(())
            };
            say(&["user", "add", USER], PASSWORD)?;
            say(&["rule", "set", USER, "**", "pull,push,delete"], "")?;
        }
        let mut command = Command::new(&program);
        command.args(["serve", "--config"]).arg(path);
        Self::run(Kind::Gantry, command, dir, host)
    }

    /// Starts one of `kind`; nothing when that kind is not installed here or cannot do what is asked.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(kind: Kind, options: Options) -> Result<Option<Self>> {
        match kind {
            Kind::Docker => Self::docker(options).map(Some),
            Kind::Gantry => Self::gantry(options).map(Some),
            Kind::Crane if options.users || options.tls => Ok(None),
            Kind::Crane => Self::crane(),
        }
    }

    /// Starts `crane registry serve`; nothing when crane is not installed.
    ///
    /// # Errors
    /// It does not start.
    pub fn crane() -> Result<Option<Self>> {
        let Some(crane) = crane() else { return Ok(None) };
        let dir = tempfile::Builder::new().prefix("gtk-reg-").tempdir()?;
        let host = format!("127.0.0.1:{}", free_port()?);
        let mut command = Command::new(crane);
        command.args(["registry", "serve", "--address", &host]);
        Self::run(Kind::Crane, command, dir, host).map(Some)
    }

    fn run(kind: Kind, mut command: Command, dir: TempDir, host: String) -> Result<Self> {
        let log = File::create(dir.path().join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child =
            command.spawn().context("start a registry (scripts/setup --tests installs it)")?;
        let mut registry = Self { kind, child, dir, host };
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(&registry.host).is_err() {
            if let Some(status) = registry.child.try_wait()? {
                let log = fs::read_to_string(registry.dir.path().join("log")).unwrap_or_default();
                bail!("the registry ended with {status}: {log}");
            }
            if Instant::now() > deadline {
                bail!("the registry does not listen");
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(registry)
    }

    /// Whose it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// `127.0.0.1:port`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// File of the authority that signed its certificate.
    pub fn authority(&self) -> PathBuf {
        self.dir.path().join("ca.crt")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Where crane is.
pub fn crane() -> Option<PathBuf> {
    let own = crate::image::cache_dir().join("bin/crane");
    let places = [own, "/usr/local/bin/crane".into(), "/usr/bin/crane".into()];
    places.into_iter().find(|p| p.exists())
}

/// An authority, and a certificate of it for 127.0.0.1 and localhost.
fn certificates(dir: &Path) -> Result<()> {
    let run = |args: &[&str]| -> Result<()> {
        let output =
            Command::new("openssl").args(args).current_dir(dir).output().context("run openssl")?;
        if !output.status.success() {
            bail!("openssl {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    };
    fs::write(
        dir.join("server.ext"),
        "subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n",
    )?;
    run(&[
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-keyout",
        "ca.key",
        "-out",
        "ca.crt",
        "-days",
        "30",
        "-subj",
        "/CN=test authority",
        "-addext",
        "basicConstraints=critical,CA:TRUE",
    ])?;
    run(&[
        "req",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-keyout",
        "server.key",
        "-out",
        "server.csr",
        "-subj",
        "/CN=localhost",
    ])?;
    run(&[
        "x509",
        "-req",
        "-in",
        "server.csr",
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-out",
        "server.crt",
        "-days",
        "30",
        "-extfile",
        "server.ext",
    ])
}
