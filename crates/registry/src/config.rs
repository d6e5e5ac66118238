//! The configuration: a TOML file and the command line's flags, which win. Read once, here; nothing else
//! reads files or the environment for settings, except for the object store's client, which knows its
//! vendor's variables.
//!
//! docs/registry.md lists every key. A key that is not known is an error.

use crate::{auth::Mode, events::Endpoint, meta::Grace, storage, upkeep::Upkeep};
use base::{Error, Result, units};
use serde::{Deserialize, Deserializer, de};
use std::{
    collections::BTreeMap,
    net::{SocketAddr, ToSocketAddrs as _},
    path::{Path, PathBuf},
    time::Duration,
};

/// Where the registry keeps what it has, when nobody says.
pub const ROOT: &str = "/var/lib/gantry-registry";
/// Where it listens, when nobody says: on this machine only.
const LISTEN: &str = "127.0.0.1:5000";
/// Pushes that take longer than the grace time lose blobs.
const SHORT_GRACE: Duration = Duration::from_secs(600);
const DAY: Duration = Duration::from_secs(86_400);

/// The file, as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Folder of the database, the spool, and blobs that are kept as files.
    pub root: PathBuf,
    /// Addresses to listen on.
    pub listen: Vec<String>,
    /// Address of metrics and health; none without it.
    pub admin: Option<String>,
    /// The address that clients reach the registry by.
    pub external_url: Option<String>,
    /// The service that tokens are for.
    pub service: String,
    /// `rules` (the default once there is a user or a rule) or `open`.
    pub access: Option<Open>,
    /// Whether `X-Forwarded-For`, `-Proto` and `-Host` are believed.
    pub behind_proxy: bool,
    /// Whether an index may list manifests that are not here.
    pub sparse_indexes: bool,
    /// Certificate and key.
    pub tls: Option<Tls>,
    /// Where large blobs are.
    pub storage: Storage,
    /// Bounds.
    pub limits: Limits,
    /// Garbage collection.
    pub gc: Gc,
    /// Records are kept for this time.
    #[serde(deserialize_with = "duration")]
    pub audit: Duration,
    /// Who is notified.
    pub notifications: Vec<Notification>,
    /// The log.
    pub log: Log,
}

/// Whether anybody may do anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Open {
    /// Anybody may do everything.
    Open,
    /// As the rules say.
    Rules,
}

/// Certificate and key, PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The chain, the server's own first.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Where large blobs are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Storage {
    /// Address; files below the root without one.
    pub url: Option<String>,
    /// Options of the object store's client.
    pub options: BTreeMap<String, String>,
}

/// Bounds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at the same time.
    pub connections: usize,
    /// Uploads at the same time.
    pub uploads: usize,
    /// Bytes of one blob.
    #[serde(deserialize_with = "bytes")]
    pub blob: u64,
    /// Bytes that must stay free on the root's disk.
    #[serde(deserialize_with = "bytes")]
    pub reserve: u64,
    /// An upload that got nothing for this time is dropped.
    #[serde(deserialize_with = "duration")]
    pub upload_expiry: Duration,
}

/// Garbage collection.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gc {
    /// How long a blob without a manifest stays.
    #[serde(deserialize_with = "duration")]
    pub grace: Duration,
    /// Pause between two rounds.
    #[serde(deserialize_with = "duration")]
    pub every: Duration,
}

/// Who is notified.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notification {
    /// Its name here.
    pub name: String,
    /// Where it listens.
    pub url: String,
    /// Sent with every envelope.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// It must have answered by then.
    #[serde(default = "ten_seconds", deserialize_with = "duration")]
    pub timeout: Duration,
    /// Pause after the first failure.
    #[serde(default = "one_second", deserialize_with = "duration")]
    pub backoff: Duration,
    /// Actions that it does not want to hear of.
    #[serde(default)]
    pub ignore_actions: Vec<String>,
    /// Media types that it does not want to hear of.
    #[serde(default)]
    pub ignore_media_types: Vec<String>,
}

/// The log.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`.
    pub level: String,
    /// `text` or `json`.
    pub format: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            root: ROOT.into(),
            listen: vec![LISTEN.to_owned()],
            admin: None,
            external_url: None,
            service: "gantry-registry".to_owned(),
            access: None,
            behind_proxy: false,
            sparse_indexes: false,
            tls: None,
            storage: Storage::default(),
            limits: Limits::default(),
            gc: Gc::default(),
            audit: 90 * DAY,
            notifications: Vec::new(),
            log: Log::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            uploads: 20_000,
            blob: 1 << 40,
            reserve: 256 << 20,
            upload_expiry: 7 * DAY,
        }
    }
}

impl Default for Gc {
    fn default() -> Self {
        Self { grace: DAY, every: Duration::from_secs(600) }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: "text".to_owned() }
    }
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

fn one_second() -> Duration {
    Duration::from_secs(1)
}

/// `90d`, or a duration as Go writes it: `1h30m`.
fn duration<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(d)?;
    parse_duration(&text).map_err(de::Error::custom)
}

fn parse_duration(text: &str) -> Result<Duration> {
    let days = text.strip_suffix('d').and_then(|n| n.parse::<u32>().ok());
    if let Some(days) = days {
        return Ok(DAY * days);
    }
    units::parse_go_duration(text)
        .map_err(|_| Error::invalid(format!("{text:?} is no duration: want 30s, 10m, 1h30m or 7d")))
}

/// A number, or a text such as `10GB`.
fn bytes<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        Number(u64),
        Text(String),
    }
    match Given::deserialize(d)? {
        Given::Number(bytes) => Ok(bytes),
        Given::Text(text) => {
            let bytes = units::parse_bytes(&text).map_err(de::Error::custom)?;
            u64::try_from(bytes).map_err(de::Error::custom)
        }
    }
}

impl Config {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// `Invalid` with the line for what cannot be meant.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::io(format!("cannot read {}", path.display()), e))?;
        toml::from_str(&text).map_err(|e| Error::invalid(format!("{}: {e}", path.display())))
    }

    /// Fails on what contradicts itself.
    ///
    /// # Errors
    /// `Invalid` with what is wrong.
    pub fn check(&self) -> Result<()> {
        let addresses = self.addresses()?;
        let shut = addresses.iter().any(|a| !a.ip().is_loopback()) && self.tls.is_none();
        if shut && !self.behind_proxy && self.access != Some(Open::Open) {
            tracing::warn!(
                "passwords and tokens go over the network unencrypted: set tls, or behind_proxy"
            );
        }
        if let Some(admin) = &self.admin {
            resolve(admin)?;
        }
        let mut names = std::collections::HashSet::new();
        for endpoint in &self.notifications {
            if !names.insert(&endpoint.name) {
                return Err(Error::invalid(format!(
                    "two notifications are named {:?}",
                    endpoint.name
                )));
            }
            if !endpoint.url.starts_with("http://") && !endpoint.url.starts_with("https://") {
                let (name, url) = (&endpoint.name, &endpoint.url);
                return Err(Error::invalid(format!(
                    "notification {name:?}: {url:?} is no HTTP address"
                )));
            }
        }
        let service =
            self.service.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'));
        if !service || self.service.is_empty() {
            return Err(Error::invalid(format!("service {:?} is not a plain word", self.service)));
        }
        if self.gc.grace < SHORT_GRACE {
            tracing::warn!(
                "gc.grace is shorter than a push may take: its first blobs may be gone at its end"
            );
        }
        Ok(())
    }

    /// The addresses to listen on.
    ///
    /// # Errors
    /// `Invalid` for one that is none.
    pub fn addresses(&self) -> Result<Vec<SocketAddr>> {
        self.listen.iter().map(|text| resolve(text)).collect()
    }

    /// Who is let in.
    ///
    /// # Errors
    /// `Invalid` for an address that is none.
    pub fn mode(&self) -> Result<Mode> {
        Ok(match self.access {
            Some(Open::Open) => Mode::Open,
            Some(Open::Rules) => Mode::Rules,
            None if self.addresses()?.iter().all(|a| a.ip().is_loopback()) => Mode::OpenUntilRules,
            None => Mode::Rules,
        })
    }

    /// Where large blobs are.
    pub fn storage(&self) -> storage::Settings {
        let url = self.storage.url.clone();
        let url = url.unwrap_or_else(|| format!("file:{}", self.root.join("blobs").display()));
        storage::Settings { url, options: self.storage.options.clone() }
    }

    /// The database's file.
    pub fn database(&self) -> PathBuf {
        self.root.join("registry.db")
    }

    /// The folder of uploads under way.
    pub fn spool(&self) -> PathBuf {
        self.root.join("uploads")
    }

    /// The bounds of uploads.
    pub fn uploads(&self) -> crate::uploads::Limits {
        crate::uploads::Limits {
            sessions: self.limits.uploads,
            reserve_bytes: self.limits.reserve,
            expiry: self.limits.upload_expiry,
            blob_bytes: self.limits.blob,
        }
    }

    /// The grace time.
    pub fn grace(&self) -> Grace {
        Grace(self.gc.grace)
    }

    /// What the server does by itself.
    pub fn upkeep(&self) -> Upkeep {
        Upkeep { every: self.gc.every, audit: self.audit }
    }

    /// Who is notified.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        let all = self.notifications.iter().cloned();
        all.map(|n| Endpoint {
            name: n.name,
            url: n.url,
            headers: n.headers,
            timeout: n.timeout,
            backoff: n.backoff,
            ignore_actions: n.ignore_actions,
            ignore_media_types: n.ignore_media_types,
        })
        .collect()
    }
}

/// An address with a port; a bare `:5000` is all addresses of the machine.
///
/// # Errors
/// `Invalid` when it is none.
pub fn resolve(text: &str) -> Result<SocketAddr> {
    let full = if text.starts_with(':') { format!("[::]{text}") } else { text.to_owned() };
    full.to_socket_addrs()
        .ok()
        .and_then(|mut found| found.next())
        .ok_or_else(|| Error::invalid(format!("{text:?} is no address: want HOST:PORT")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registry.toml");
        std::fs::write(&path, text).unwrap();
        let config = Config::read(&path)?;
        config.check().map(|()| config)
    }

    #[test]
    fn the_file_says_it_all() {
        let config = parse(
            r#"
            root = "/srv/registry"
            listen = ["0.0.0.0:5000", "[::1]:5001"]
            audit = "30d"
            [tls]
            certificate = "/c.pem"
            key = "/k.pem"
            [storage]
            url = "s3://bucket/prefix"
            [storage.options]
            aws_region = "eu-central-1"
            [limits]
            reserve = "1GB"
            blob = 1000
            [gc]
            grace = "1h30m"
            [[notifications]]
            name = "hook"
            url = "https://hook.example/events"
            "#,
        )
        .unwrap();
        assert_eq!(config.gc.grace, Duration::from_secs(5400));
        assert_eq!((config.limits.reserve, config.limits.blob), (1 << 30, 1000));
        assert_eq!(config.mode().unwrap(), Mode::Rules);
        assert_eq!(config.audit, 30 * DAY);
        assert_eq!(config.endpoints()[0].timeout, Duration::from_secs(10));
        let plain = Config::default();
        assert_eq!(plain.mode().unwrap(), Mode::OpenUntilRules);
        assert_eq!(plain.storage().url, "file:/var/lib/gantry-registry/blobs");
        assert_eq!(resolve(":5000").unwrap().port(), 5000);
    }

    #[test]
    fn what_cannot_be_meant_is_an_error() {
        for text in [
            "rooot = \"/x\"",
            "listen = [\"nowhere\"]",
            "[gc]\ngrace = \"soon\"",
            "[limits]\nreserve = \"much\"",
            "service = \"a\\\"b\"",
            "access = \"ajar\"",
            "[[notifications]]\nname = \"a\"\nurl = \"file:///etc/passwd\"",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
