//! `gantry registry serve`

use super::{log, say};
use crate::{
    config::{Config, Open, Tls},
    server::Server,
    tls::Certificates,
};
use base::{Error, Result};
use clap::Args;
use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};
use tokio::signal::unix::{SignalKind, signal};

/// Threads for files, database reads and passwords, at most.
const BLOCKING: usize = 64;
/// An idle one ends after this time, to give its memory back.
const BLOCKING_IDLE: Duration = Duration::from_secs(3);

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Address to listen on, HOST:PORT; may be given more than once
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<String>,
    /// Address of metrics and health
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,
    /// Certificate chain, a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// The certificate's key, a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Let anybody do everything, whatever the address
    #[arg(long)]
    open: bool,
    /// error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// text or json
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Check the configuration and exit
    #[arg(long)]
    validate: bool,
}

fn merged(command: Serve, mut config: Config) -> Config {
    if !command.listen.is_empty() {
        config.listen = command.listen;
    }
    if command.admin.is_some() {
        config.admin = command.admin;
    }
    if let (Some(certificate), Some(key)) = (command.tls_certificate, command.tls_key) {
        config.tls = Some(Tls { certificate, key });
    }
    if command.open {
        config.access = Some(Open::Open);
    }
    if let Some(level) = command.log_level {
        config.log.level = level;
    }
    if let Some(format) = command.log_format {
        config.log.format = format;
    }
    config
}

pub(super) fn run(command: Serve, config: Config) -> Result<ExitCode> {
    let validate = command.validate;
    let config = merged(command, config);
    log(&config.log.level, &config.log.format)?;
    if validate {
        config.check()?;
        if let Some(tls) = &config.tls {
            Certificates::open(tls.certificate.clone(), tls.key.clone())?;
        }
        say("configuration OK")?;
        return Ok(ExitCode::SUCCESS);
    }
    raise_descriptors();
    // What is made here is for nobody else's eyes.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING)
        .thread_keep_alive(BLOCKING_IDLE)
        .build()
        .map_err(|e| Error::io("cannot start the runtime", e))?
        .block_on(serve(config))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(config: Config) -> Result<()> {
    let fail = |e| Error::io("cannot wait for signals", e);
    let mut end = signal(SignalKind::terminate()).map_err(fail)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(fail)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(fail)?;
    let server = Server::open(config).await?;
    let (stop, certificates) = (server.stopper(), server.certificates());
    let mut served = std::pin::pin!(server.run());
    loop {
        tokio::select! {
            outcome = served.as_mut() => return outcome,
            _ = end.recv() => stop.cancel(),
            _ = interrupt.recv() => stop.cancel(),
            _ = hang_up.recv() => reload(certificates.as_ref()),
        }
    }
}

fn reload(certificates: Option<&Arc<Certificates>>) {
    let Some(certificates) = certificates else { return };
    match certificates.reload() {
        Ok(()) => tracing::info!("certificate reloaded"),
        Err(err) => tracing::error!(err = err.chain(), "the old certificate stays in force"),
    }
}

/// Each connection and each blob on its way needs a descriptor.
fn raise_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(err) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(err = err.to_string(), "the limit of open files stays as it is");
    }
}
