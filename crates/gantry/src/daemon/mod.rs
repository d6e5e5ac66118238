//! `gantry daemon`, and the program itself when it is called as `dockerd`.
//!
//! Flow: flags and file -> settings -> log, limits -> sockets bound -> pid file -> engine opened -> served
//! -> READY -> signals -> ordered stop. Sockets come first, so that clients queue while the engine opens.
//! Invariants: nothing before the sockets starts a thread (the file mode mask is the process's); the log
//! goes to standard error only.
//! Not here: what a setting means to the engine.

mod builder;
mod dump;
mod file;
mod flags;
mod hosts;
mod listen;
mod logs;
mod networks;
mod notify;
mod pidfile;
mod pools;
mod remap;
mod runtimes;
mod security;
mod settings;

use base::{Error, Result};
use engine::level::Safeguards;
use listen::Bound;
use security::Security;
use server::{Listener, Server, tls::Tls};
use settings::Settings;
use std::{io::Write as _, process::ExitCode, sync::Arc, time::Duration};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Threads that drive requests; the work of containers is done by their shims.
const WORKERS: usize = 2;
/// Threads for layers, archives and the disk, at most.
const BLOCKING: usize = 64;
/// An idle blocking thread ends after this time, to give its memory back.
const BLOCKING_IDLE: Duration = Duration::from_secs(3);
/// Open connections get this long to finish at an ordered stop.
const DRAIN: Duration = Duration::from_secs(5);
/// So many requests to stop end the process at once, as with dockerd.
const STOPS_TO_FORCE: u32 = 3;

/// Under which name the daemon runs; decides the default paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// `gantry daemon`: beside a Docker that may be there too.
    Gantry,
    /// `dockerd`: in the place of Docker's.
    Dockerd,
}

impl Role {
    fn program(self) -> &'static str {
        match self {
            Self::Gantry => "gantry daemon",
            Self::Dockerd => "dockerd",
        }
    }

    fn config_file(self) -> &'static str {
        match self {
            Self::Gantry => "/etc/gantry/daemon.json",
            Self::Dockerd => "/etc/docker/daemon.json",
        }
    }

    fn host(self) -> &'static str {
        match self {
            Self::Gantry => "unix:///run/gantry.sock",
            Self::Dockerd => "unix:///var/run/docker.sock",
        }
    }

    fn pidfile(self) -> &'static str {
        match self {
            Self::Gantry => "/run/gantry.pid",
            Self::Dockerd => "/var/run/docker.pid",
        }
    }

    /// Folders of registries' certificates. Docker's is looked at in both roles: that is where they are.
    fn certificates(self) -> &'static [&'static str] {
        match self {
            Self::Gantry => &["/etc/gantry/certs.d", "/etc/docker/certs.d"],
            Self::Dockerd => &["/etc/docker/certs.d"],
        }
    }

    fn bridge(self) -> &'static str {
        match self {
            Self::Gantry => "gantry0",
            Self::Dockerd => "docker0",
        }
    }
}

/// Runs the daemon until it is told to stop.
pub(crate) fn main(role: Role, arguments: impl IntoIterator<Item = String>) -> ExitCode {
    match run(role, arguments) {
        Ok(code) => code,
        Err(err) => {
            let _ = writeln!(std::io::stderr(), "{}: {}", role.program(), err.chain());
            ExitCode::FAILURE
        }
    }
}

fn run(role: Role, arguments: impl IntoIterator<Item = String>) -> Result<ExitCode> {
    let line = flags::parse(arguments)
        .map_err(|err| Error::invalid(format!("{err}\nSee '{} --help'", role.program())))?;
    let asked = |name: &str| line.get(name).and_then(serde_json::Value::as_bool).unwrap_or(false);
    let mut out = std::io::stdout();
    if asked("help") {
        let _ = out.write_all(flags::usage(role.program()).as_bytes());
        return Ok(ExitCode::SUCCESS);
    }
    if asked("version") {
        let _ = writeln!(out, "Gantry version {}", engine::config::VERSION);
        return Ok(ExitCode::SUCCESS);
    }
    let (validate, offline) = (asked("validate"), asked("verify"));
    let settings = Settings::new(line, role)?;
    if validate {
        let _ = writeln!(std::io::stderr(), "configuration OK");
        return Ok(ExitCode::SUCCESS);
    }
    let log = logs::set_up(settings.level, settings.json_logs);
    harden();
    if let Some(score) = settings.oom_score {
        std::fs::write("/proc/self/oom_score_adj", score.to_string())
            .map_err(|err| Error::io(format!("cannot set --oom-score-adjust={score}"), err))?;
    }
    if offline {
        return verify(&settings.engine);
    }
    for (name, why) in &settings.ignored {
        tracing::warn!(flag = name, why, "a setting has no effect");
    }
    let tls = match &settings.security {
        Security::Tls(files) => Some(Arc::new(Tls::new(files.clone())?)),
        Security::Open | Security::Unsaid => None,
    };
    let (bound, files) = listen::bind(&settings.hosts, settings.group.as_deref())?;
    let metrics = settings.metrics.as_deref().map(listen::metrics).transpose()?;
    let pidfile = pidfile::Pidfile::write(&settings.pidfile)?;
    let runtime = runtime()?;
    let code = runtime.block_on(serve(role, settings, Sockets { bound, tls, metrics }, &log))?;
    // What still runs has had its time; blocked threads must not hold the process.
    runtime.shutdown_timeout(Duration::from_millis(100));
    drop((files, pidfile));
    Ok(code)
}

/// Checks the state offline and tells what was found; the code says whether all is well.
fn verify(config: &engine::Config) -> Result<ExitCode> {
    let report = engine::verify::verify(config)?;
    let mut out = std::io::stdout();
    for (kind, count) in &report.checked {
        let _ = writeln!(out, "checked {count} {kind}");
    }
    for line in &report.mended {
        let _ = writeln!(out, "mended: {line}");
    }
    for line in &report.broken {
        let _ = writeln!(out, "broken: {line}");
    }
    let whole = report.broken.is_empty();
    let _ =
        writeln!(out, "{}", if whole { "the state is whole" } else { "the state is not whole" });
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING)
        .thread_keep_alive(BLOCKING_IDLE)
        .thread_name("gantry")
        .enable_all()
        .build()
        .map_err(|err| Error::io("cannot start the runtime", err))
}

/// No core files with secrets, no tracing by others, and as many descriptors as we may have.
fn harden() {
    use rustix::process::{
        DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
    };
    let core = Rlimit { current: Some(0), maximum: Some(0) };
    let files = getrlimit(Resource::Nofile);
    let most = Rlimit { current: files.maximum, maximum: files.maximum };
    let done = [
        setrlimit(Resource::Core, core),
        setrlimit(Resource::Nofile, most),
        set_dumpable_behavior(DumpableBehavior::NotDumpable),
    ];
    for err in done.into_iter().filter_map(std::result::Result::err) {
        tracing::warn!(err = err.to_string(), "a limit of the process was not set");
    }
}

/// What clients come in by.
struct Sockets {
    bound: Vec<Bound>,
    tls: Option<Arc<Tls>>,
    metrics: Option<std::net::TcpListener>,
}

async fn serve(
    role: Role,
    mut settings: Settings,
    Sockets { bound, tls, metrics }: Sockets,
    log: &logs::Handle,
) -> Result<ExitCode> {
    // Caught from now on, so that a signal during the start is not the default death.
    let mut signals = Signals::catch()?;
    // Before anything is served: a socket that must not be open ends the start.
    let listeners = bound
        .into_iter()
        .map(|socket| {
            listener(socket, &settings.security, &settings.engine.safeguards, tls.as_ref())
        })
        .collect::<Result<Vec<_>>>()?;
    let engine = engine::Engine::open(settings.engine.clone()).await?;
    let stop = CancellationToken::new();
    let server = Arc::new(Server::new(Arc::clone(&engine), stop.clone()));
    if let Some(oldest) = &settings.oldest_api {
        server.serve_from(oldest)?;
    }
    let limit = settings.engine.plugin_timeout;
    server.authorize_by(&settings.authorization, &settings.plugin_folders, limit).await?;
    for listener in listeners {
        let server = Arc::clone(&server);
        tokio::spawn(async move { server.serve(listener).await });
    }
    if let Some(metrics) = metrics {
        let listener = tokio::net::TcpListener::from_std(metrics)
            .map_err(|err| Error::io("cannot watch the socket of metrics", err))?;
        let server = Arc::clone(&server);
        tokio::spawn(async move { server.serve_metrics(listener).await });
    }
    notify::notify("READY=1");
    tracing::info!(version = engine::config::VERSION, "the daemon is up");
    loop {
        match signals.next().await {
            Caught::Stop => break,
            Caught::Reload => {
                notify::notify("RELOADING=1");
                reload(role, &mut settings, log, &engine, &server).await;
                if let Some(Err(err)) = tls.as_ref().map(|t| t.reload()) {
                    tracing::error!(err = err.chain(), "certificates not changed");
                }
                notify::notify("READY=1");
            }
            Caught::Dump => dump::write(&settings.engine.exec_root, &engine),
        }
    }
    notify::notify("STOPPING=1");
    tracing::info!("stopping");
    stop.cancel();
    let limit = Duration::from_secs(settings.engine.shutdown_timeout.min(3600));
    let ordered = async {
        server.drain(DRAIN.min(limit)).await;
        engine.shutdown(limit).await;
    };
    tokio::select! {
        () = ordered => Ok(ExitCode::SUCCESS),
        () = signals.forced() => {
            tracing::warn!("stopped by force");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Takes what may change while running from the file; a faulty file changes nothing.
async fn reload(
    role: Role,
    settings: &mut Settings,
    log: &logs::Handle,
    engine: &engine::Engine,
    server: &Server,
) {
    let new = match settings.reload(role) {
        Ok(new) => {
            let limit = new.engine.plugin_timeout;
            let asked = server.authorize_by(&new.authorization, &new.plugin_folders, limit).await;
            asked.map(|()| new)
        }
        Err(err) => Err(err),
    };
    match new {
        Ok(new) => {
            log.set(new.level);
            settings.level = new.level;
            settings.engine.shutdown_timeout = new.engine.shutdown_timeout;
            if let Err(err) = engine.reload(&new.engine) {
                tracing::error!(err = err.chain(), "the reload was not recorded");
            }
            tracing::info!(
                file = new.config_file.display().to_string(),
                "configuration read again"
            );
        }
        Err(err) => tracing::error!(err = err.chain(), "configuration not changed"),
    }
}

fn listener(
    socket: Bound,
    security: &Security,
    safeguards: &Safeguards,
    tls: Option<&Arc<Tls>>,
) -> Result<Listener> {
    let failed = |err| Error::io("cannot watch a socket", err);
    Ok(match socket {
        Bound::Unix(unix) => {
            Listener::Unix(tokio::net::UnixListener::from_std(unix).map_err(failed)?)
        }
        Bound::Tcp(tcp) => {
            let address = tcp.local_addr().map_err(failed)?.to_string();
            security.allow(&address)?;
            safeguards.permit_tcp(&address, security.is_tls())?;
            let tcp = tokio::net::TcpListener::from_std(tcp).map_err(failed)?;
            match tls {
                Some(tls) => Listener::Tls(tcp, Arc::clone(tls)),
                None => Listener::Tcp(tcp),
            }
        }
    })
}

enum Caught {
    Stop,
    Reload,
    Dump,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user: Signal,
}

impl Signals {
    fn catch() -> Result<Self> {
        let one = |kind| signal(kind).map_err(|err| Error::io("cannot catch signals", err));
        Ok(Self {
            terminate: one(SignalKind::terminate())?,
            interrupt: one(SignalKind::interrupt())?,
            hangup: one(SignalKind::hangup())?,
            user: one(SignalKind::user_defined1())?,
        })
    }

    async fn next(&mut self) -> Caught {
        tokio::select! {
            _ = self.terminate.recv() => Caught::Stop,
            _ = self.interrupt.recv() => Caught::Stop,
            _ = self.hangup.recv() => Caught::Reload,
            _ = self.user.recv() => Caught::Dump,
        }
    }

    /// Ends when the stop was asked for often enough to mean it; the first was the one that began it.
    async fn forced(&mut self) {
        let mut stops = 1;
        while stops < STOPS_TO_FORCE {
            if matches!(self.next().await, Caught::Stop) {
                stops += 1;
            }
        }
    }
}
