//! Puts the parts together: build, bind, run, drain.
//!
//! The sockets are bound before anything is opened, so that a second server fails early and clients queue while
//! the database opens. One server at a time works on a root; a lock on a file there says so.

use crate::{
    auth::Access,
    config::{self, Config},
    events::Events,
    http::{Door, Settings, Site, serve},
    meta::Database,
    metrics::{Metrics, Snapshot},
    storage,
    tls::{self, Certificates},
    upkeep,
    uploads::Uploads,
};
use base::{Error, Result};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    fs::{DirBuilder, File, OpenOptions},
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 4096;
/// How often the certificate's files are looked at.
const CERTIFICATE_LOOK: Duration = Duration::from_secs(30);
/// A head on the administrator's address must be whole within this time.
const ADMIN_HEAD: Duration = Duration::from_secs(10);

/// A server that is bound and open.
#[derive(Debug)]
pub struct Server {
    site: Arc<Site>,
    doors: Vec<Door>,
    admin: Option<TcpListener>,
    certificates: Option<Arc<Certificates>>,
    config: Config,
    _lock: File,
}

impl Server {
    /// Binds the sockets and opens database, storage and spool.
    ///
    /// # Errors
    /// `Conflict` when another server has the root; `Invalid` for settings that cannot be meant; of the
    /// disk and the network.
    pub async fn open(config: Config) -> Result<Self> {
        tls::install();
        config.check()?;
        let certificates = match &config.tls {
            Some(pair) => {
                Some(Arc::new(Certificates::open(pair.certificate.clone(), pair.key.clone())?))
            }
            None => None,
        };
        let mut doors = Vec::new();
        for address in config.addresses()? {
            doors.push(Door { listener: bind(address)?, tls: certificates.clone() });
        }
        let admin = match &config.admin {
            Some(text) => Some(bind(config::resolve(text)?)?),
            None => None,
        };
        let lock = lock(&config)?;
        let database = Arc::new(Database::open(&config.database())?);
        let storage = storage::open(&config.storage())?;
        let uploads = Uploads::open(
            &config.spool(),
            Arc::clone(&database),
            Arc::clone(&storage),
            config.uploads(),
            config.grace(),
        )?;
        let access = Access::open(Arc::clone(&database), config.mode()?, &config.service).await?;
        let source = doors.first().and_then(|d| d.listener.local_addr().ok());
        let source = source.map(|a| a.to_string()).unwrap_or_default();
        let site = Site {
            database,
            storage,
            uploads: Arc::new(uploads),
            access,
            events: Events::new(config.endpoints(), source),
            metrics: Metrics::default(),
            settings: Settings {
                external_url: config.external_url.clone(),
                grace: config.grace(),
                sparse_indexes: config.sparse_indexes,
                behind_proxy: config.behind_proxy,
                blob_bytes: config.limits.blob,
            },
            changes: TaskTracker::new(),
            stop: CancellationToken::new(),
            room: crate::http::room(),
            requests: AtomicU64::new(0),
        };
        Ok(Self { site: Arc::new(site), doors, admin, certificates, config, _lock: lock })
    }

    /// Addresses that it listens on.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.doors.iter().filter_map(|d| d.listener.local_addr().ok()).collect()
    }

    /// Ends the server when it is cancelled.
    pub fn stopper(&self) -> CancellationToken {
        self.site.stop.clone()
    }

    /// The certificates, where there are any.
    pub fn certificates(&self) -> Option<Arc<Certificates>> {
        self.certificates.clone()
    }

    /// Serves until it is stopped, then lets what is under way end and closes everything.
    ///
    /// # Errors
    /// `Internal` when no client for notifications can be made.
    pub async fn run(self) -> Result<()> {
        let Self { site, doors, admin, certificates, config, _lock } = self;
        let tasks = TaskTracker::new();
        tasks.spawn(upkeep::run(Arc::clone(&site), config.upkeep()));
        site.events.deliver(&site.database, &tasks, &site.stop)?;
        if let Some(certificates) = certificates {
            tasks.spawn(watch(certificates, site.stop.clone()));
        }
        if let Some(listener) = admin {
            tasks.spawn(serve_admin(Arc::clone(&site), listener));
        }
        for door in &doors {
            if let Ok(address) = door.listener.local_addr() {
                let tls = door.tls.is_some();
                tracing::info!(%address, tls, storage = site.storage.describe(), "listening");
            }
        }
        serve(Arc::clone(&site), doors, config.limits.connections).await;
        tasks.close();
        tasks.wait().await;
        let database = Arc::clone(&site.database);
        tokio::task::spawn_blocking(move || database.close())
            .await
            .map_err(|e| Error::internal("closing ended early").caused_by(e))
    }
}

fn bind(address: SocketAddr) -> Result<TcpListener> {
    let fail = |e| Error::io(format!("cannot listen on {address}"), e);
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(fail)?;
    socket.set_reuseaddr(true).map_err(fail)?;
    socket.bind(address).map_err(fail)?;
    socket.listen(BACKLOG).map_err(fail)
}

/// Makes the root and locks it for this process.
fn lock(config: &Config) -> Result<File> {
    let root = &config.root;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(root)
        .map_err(|e| Error::io(format!("cannot create {}", root.display()), e))?;
    let path = root.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(|e| Error::io(format!("cannot open {}", path.display()), e))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(
        |_| {
            Error::conflict(format!(
                "another registry server works in {}: stop it first",
                root.display()
            ))
        },
    )?;
    Ok(file)
}

/// Takes renewed certificates up.
async fn watch(certificates: Arc<Certificates>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(CERTIFICATE_LOOK) => {}
            () = stop.cancelled() => return,
        }
        let held = Arc::clone(&certificates);
        let looked = tokio::task::spawn_blocking(move || held.reload_if_changed()).await;
        match looked {
            Ok(Ok(true)) => tracing::info!("certificate reloaded"),
            Ok(Ok(false)) | Err(_) => {}
            Ok(Err(err)) => {
                tracing::error!(err = err.chain(), "the old certificate stays in force");
            }
        }
    }
}

/// Metrics and health, for the operator's eyes.
async fn serve_admin(site: Arc<Site>, listener: TcpListener) {
    let tracker = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = site.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let at = Arc::clone(&site);
        let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let site = Arc::clone(&at);
            async move { Ok::<_, Infallible>(answer_admin(&site, request.uri().path()).await) }
        });
        tracker.spawn(async move {
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(ADMIN_HEAD)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(err) = served.await {
                tracing::debug!(err = err.to_string(), "connection ended");
            }
        });
    }
}

async fn answer_admin(site: &Site, path: &str) -> http::Response<String> {
    let (status, text) = match path {
        "/metrics" => match metrics(site).await {
            Ok(text) => (200, text),
            Err(err) => {
                tracing::warn!(err = err.chain(), "no metrics");
                (503, "the metrics cannot be read at the moment\n".to_owned())
            }
        },
        "/healthz" => (200, "ok\n".to_owned()),
        "/readyz" => match crate::health::check(site).await {
            Ok(()) => (200, "ready\n".to_owned()),
            Err(part) => (503, format!("{part} is not ready\n")),
        },
        _ => (404, "want /metrics, /healthz or /readyz\n".to_owned()),
    };
    let mut answer = http::Response::new(text);
    *answer.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let kind = if path == "/metrics" { kind } else { "text/plain; charset=utf-8" };
    answer.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    answer
}

async fn metrics(site: &Site) -> Result<String> {
    let (totals, backlog, outbox) =
        site.database.read(|tx| Ok((tx.totals()?, tx.backlog()?, tx.outbox_sizes()?))).await?;
    site.metrics.text(&Snapshot {
        blobs: totals.0,
        bytes: totals.1,
        uploads: site.uploads.count() as u64,
        reviews: backlog.0,
        trash: backlog.1,
        outbox,
    })
}
