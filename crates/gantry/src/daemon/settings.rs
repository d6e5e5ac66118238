//! What the daemon was told, as typed values: the meaning of flags and file, decided in one place.
//!
//! Invariant: nothing here touches the system but for reading the configuration file.

use super::{
    Role, file,
    flags::{self, Fate, Values},
    hosts::Host,
    security::Security,
};
use base::{Error, Result, units};
use engine::level::Safeguards;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};
use tracing::level_filters::LevelFilter;

/// How long events are kept.
const EVENT_RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);
/// dockerd's `--default-shm-size`.
const SHM_BYTES: i64 = 64 << 20;
/// dockerd's `--shutdown-timeout`, seconds.
const SHUTDOWN_SECONDS: i64 = 15;
/// Docker's bound for most questions to plugins.
const PLUGIN_SECONDS: i64 = 60;
/// Layers downloaded at once. dockerd's default is 3; here they are unpacked while they come.
const MAX_DOWNLOADS: i64 = 6;
/// dockerd's `--max-concurrent-uploads`.
const MAX_UPLOADS: i64 = 5;
/// dockerd's `--max-download-attempts`.
const MAX_DOWNLOAD_ATTEMPTS: i64 = 5;

/// Everything the daemon was told.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) engine: engine::Config,
    pub(crate) hosts: Vec<Host>,
    pub(crate) security: Security,
    /// Oldest API version that is served, `1.24` or newer.
    pub(crate) oldest_api: Option<String>,
    /// For the daemon's own process.
    pub(crate) oom_score: Option<i64>,
    /// Names of authorization plugins.
    pub(crate) authorization: Vec<String>,
    pub(crate) plugin_folders: Vec<PathBuf>,
    /// `host:port`.
    pub(crate) metrics: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) pidfile: PathBuf,
    pub(crate) level: LevelFilter,
    pub(crate) json_logs: bool,
    /// Settings that were given and have no effect here, with the reason.
    pub(crate) ignored: Vec<(&'static str, &'static str)>,
    pub(crate) config_file: PathBuf,
    line: Values,
}

impl Settings {
    /// Reads the file and puts it under the command line.
    ///
    /// # Errors
    /// `Invalid` for what cannot be meant or cannot be done.
    pub(crate) fn new(line: Values, role: Role) -> Result<Self> {
        let asked_for = line.get("config-file").and_then(Value::as_str).map(PathBuf::from);
        let config_file = asked_for.clone().unwrap_or_else(|| role.config_file().into());
        let from_file = file::read(&config_file, asked_for.is_some())?;
        let values = file::merge(&line, from_file).map_err(|err| {
            let shown = config_file.display();
            Error::invalid(format!("unable to configure the daemon with file {shown}"))
                .caused_by(err.to_string())
        })?;
        let given = Given(&values);
        let ignored = given.fates()?;
        let debug = given.switch("debug", false);
        let level = level(given.text("log-level").unwrap_or("info"))?;
        let security = Security::new(&given)?;
        let safeguards = Safeguards::new(
            given.text("security-level").unwrap_or_default(),
            &given.list("security-allow"),
        )?;
        let hosts = given.list("host");
        let hosts = if hosts.is_empty() { vec![role.host().to_owned()] } else { hosts };
        let json_logs = match given.text("log-format").unwrap_or("text") {
            "text" => false,
            "json" => true,
            other => {
                return Err(Error::invalid(format!(
                    "invalid log format: {other:?}: want text or json"
                )));
            }
        };
        Ok(Self {
            engine: engine_config(&given, role, debug, safeguards)?,
            hosts: hosts
                .iter()
                .map(|h| Host::parse(h, security.is_tls()))
                .collect::<Result<_>>()?,
            security,
            oldest_api: match given.text("min-api-version").filter(|v| !v.is_empty()) {
                Some(text) => Some(text.to_owned()),
                None => std::env::var("DOCKER_MIN_API_VERSION").ok().filter(|v| !v.is_empty()),
            },
            oom_score: given.asked_number("oom-score-adjust").filter(|score| *score != 0),
            authorization: given.list("authorization-plugin"),
            plugin_folders: plugin_folders(&given),
            metrics: given.text("metrics-addr").filter(|a| !a.is_empty()).map(str::to_owned),
            group: given.text("group").filter(|g| !g.is_empty()).map(str::to_owned),
            pidfile: given.path("pidfile").unwrap_or_else(|| role.pidfile().into()),
            level: if debug { level.max(LevelFilter::DEBUG) } else { level },
            json_logs,
            ignored,
            config_file,
            line,
        })
    }

    /// Reads the file again, all or nothing.
    ///
    /// # Errors
    /// As [`Settings::new`]; the old settings stay.
    pub(crate) fn reload(&self, role: Role) -> Result<Self> {
        Self::new(self.line.clone(), role)
    }
}

/// Typed reading of [`Values`].
pub(super) struct Given<'v>(pub(super) &'v Values);

impl Given<'_> {
    pub(super) fn switch(&self, name: &str, default: bool) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or(default)
    }

    /// Whether a switch was given, and how.
    pub(super) fn asked(&self, name: &str) -> Option<bool> {
        self.0.get(name).and_then(Value::as_bool)
    }

    /// A number, when it was given.
    fn asked_number(&self, name: &str) -> Option<i64> {
        self.0.get(name).and_then(Value::as_i64)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    fn number(&self, name: &str, default: i64) -> i64 {
        self.0.get(name).and_then(Value::as_i64).unwrap_or(default)
    }

    pub(super) fn list(&self, name: &str) -> Vec<String> {
        let list = self.0.get(name).and_then(Value::as_array).into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    }

    fn pairs(&self, name: &str) -> BTreeMap<String, String> {
        let map = self.0.get(name).and_then(Value::as_object).into_iter().flatten();
        map.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
    }

    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        let text = self.text(name).filter(|t| !t.is_empty())?;
        Some(std::path::absolute(text).unwrap_or_else(|_| text.into()))
    }

    /// Fails on settings that must not be passed over, lists those that are.
    fn fates(&self) -> Result<Vec<(&'static str, &'static str)>> {
        let mut ignored = Vec::new();
        for (name, value) in self.0 {
            let Some(flag) = flags::by_name(name) else { continue };
            let off = match value {
                Value::Bool(on) => !on,
                Value::String(text) => text.is_empty(),
                Value::Array(list) => list.is_empty(),
                _ => false,
            };
            match flag.fate {
                Fate::Used => {}
                Fate::Ignored(why) => ignored.push((flag.name, why)),
                Fate::Refused(_) if off => {}
                Fate::Refused(why) => {
                    return Err(Error::invalid(format!("--{name} cannot be used: {why}")));
                }
            }
        }
        Ok(ignored)
    }

    pub(super) fn one_of(&self, name: &str, choices: &[&str]) -> Result<String> {
        let text = self.text(name).unwrap_or_default();
        if text.is_empty() || choices.contains(&text) {
            return Ok(text.to_owned());
        }
        Err(Error::invalid(format!(
            "invalid --{name}: {text:?}: want one of {}",
            choices.join(", ")
        )))
    }
}

/// The bound of containers' writable layers, of `--storage-opt`.
fn writable_bytes(options: &[String]) -> Result<Option<u64>> {
    let mut bytes = None;
    for option in options {
        let (key, value) = option.split_once('=').ok_or_else(|| {
            Error::invalid(format!("unable to parse key/value option: {option:?}"))
        })?;
        match key.to_ascii_lowercase().as_str() {
            "overlay2.size" => bytes = Some(units::parse_bytes(value)?.unsigned_abs()),
            // compat(docker 28): without effect there too.
            "overlay2.override_kernel_check" => {}
            _ => return Err(Error::invalid(format!("overlay2: unknown option {key}"))),
        }
    }
    Ok(bytes.filter(|bytes| *bytes > 0))
}

fn engine_config(
    given: &Given<'_>,
    role: Role,
    debug: bool,
    safeguards: Safeguards,
) -> Result<engine::Config> {
    given.one_of("storage-driver", &["overlay2", "overlay", "overlayfs"])?;
    given.one_of("firewall-backend", &["nftables"])?;
    let default_ipc = given.one_of("default-ipc-mode", &["private", "shareable"])?;
    let stop_timeout = given.asked_number("default-stop-timeout");
    let profile = given.text("seccomp-profile").unwrap_or_default();
    let seccomp = engine::config::SeccompDefault::read(profile)?;
    let shm = given.text("default-shm-size").map(units::parse_bytes).transpose()?;
    let mtu = given.number("mtu", 0);
    let bip = given.text("bip").filter(|b| !b.is_empty());
    if let Some(bip) = bip {
        check_bip(bip)?;
    }
    let level = safeguards.level;
    let publish = given.text("ip").unwrap_or(level.publish_ip());
    if publish.parse::<std::net::IpAddr>().is_err() {
        return Err(Error::invalid(format!("invalid --ip: {publish:?} is not an IP address")));
    }
    let dns = given.list("dns");
    if let Some(bad) = dns.iter().find(|d| d.parse::<std::net::IpAddr>().is_err()) {
        return Err(Error::invalid(format!("{bad} is not an ip address")));
    }
    let labels = given.list("label");
    if let Some(bad) = labels.iter().find(|l| !l.contains('=')) {
        return Err(Error::invalid(format!("bad attribute format: {bad}")));
    }
    for option in given.list("exec-opt") {
        if !option.starts_with("native.cgroupdriver=") {
            return Err(Error::invalid(format!("invalid --exec-opt: {option:?}")));
        }
    }
    let log_driver =
        given.text("log-driver").filter(|d| !d.is_empty()).unwrap_or("json-file").to_owned();
    let log_options = given.pairs("log-opt");
    engine::config::check_logging(&log_driver, &log_options, &plugin_folders(given))
        .map_err(|err| Error::invalid("failed to set log opts").caused_by(err.chain()))?;
    let timeout = given.number("shutdown-timeout", SHUTDOWN_SECONDS);
    Ok(engine::Config {
        default_writable_bytes: writable_bytes(&given.list("storage-opt"))?,
        data_root: given.path("data-root").unwrap_or_else(|| "/var/lib/gantry".into()),
        exec_root: exec_root(given),
        shim: shim(),
        program: std::env::current_exe().unwrap_or_else(|_| "/usr/local/bin/gantry".into()),
        cgroup_parent: given
            .text("cgroup-parent")
            .filter(|p| !p.is_empty())
            .unwrap_or("/gantry")
            .to_owned(),
        bridge: given.text("bridge").filter(|b| !b.is_empty()).unwrap_or(role.bridge()).to_owned(),
        bip: bip.map(str::to_owned),
        networks: super::networks::read(given)?,
        builder: super::builder::read(given.0.get("builder"))?,
        default_address_pools: super::pools::read(given.0.get("default-address-pool"))?,
        mtu: u32::try_from(mtu)
            .ok()
            .filter(|m| *m <= 65_535)
            .ok_or_else(|| Error::invalid(format!("invalid --mtu: {mtu}: want 0 to 65535")))?,
        dns,
        dns_options: given.list("dns-opt"),
        dns_search: given.list("dns-search"),
        ip_forward: given.switch("ip-forward", true),
        ip_masquerade: given.switch("ip-masq", true),
        iptables: given.switch("iptables", true),
        icc: given.switch("icc", true),
        default_publish_ip: publish.to_owned(),
        log_driver,
        log_options,
        default_ulimits: ulimits(given.0.get("default-ulimit"))?,
        default_shm_bytes: shm.unwrap_or(SHM_BYTES),
        init: given.switch("init", false),
        userns: super::remap::read(
            given.text("userns-remap").unwrap_or(level.userns_remap()),
            Path::new("/etc"),
        )?,
        safeguards,
        no_new_privileges: given.switch("no-new-privileges", false),
        selinux: given.switch("selinux-enabled", false),
        runtimes: super::runtimes::read(given)?,
        default_ipc: if default_ipc.is_empty() { "private".into() } else { default_ipc },
        default_stop_timeout: stop_timeout,
        authorization_plugins: given.list("authorization-plugin"),
        plugin_folders: plugin_folders(given),
        plugin_timeout: Duration::from_secs(
            positive(given, "plugin-timeout", PLUGIN_SECONDS)? as u64
        ),
        seccomp,
        cdi_spec_dirs: match given.list("cdi-spec-dir") {
            none if none.is_empty() => vec!["/etc/cdi".into(), "/var/run/cdi".into()],
            dirs => dirs.into_iter().map(Into::into).collect(),
        },
        default_cgroupns: match given.one_of("default-cgroupns-mode", &["private", "host"])? {
            unsaid if unsaid.is_empty() => level.cgroupns().to_owned(),
            mode => mode,
        },
        labels,
        experimental: given.switch("experimental", false),
        debug,
        insecure_registries: given.list("insecure-registry"),
        registry_mirrors: given.list("registry-mirror"),
        registries: registries(given, role, level.only_listed_registries())?,
        max_downloads: positive(given, "max-concurrent-downloads", MAX_DOWNLOADS)?,
        max_download_attempts: positive(given, "max-download-attempts", MAX_DOWNLOAD_ATTEMPTS)?,
        push_form: engine::config::push_form(given.text("push-compression").unwrap_or_default())?,
        max_uploads: positive(given, "max-concurrent-uploads", MAX_UPLOADS)?,
        // dockerd's -1: wait for ever.
        shutdown_timeout: u64::try_from(timeout).unwrap_or(u64::MAX),
        live_restore: given.switch("live-restore", false),
        event_retention: EVENT_RETENTION,
        retry_dead_every: engine::config::RETRY_DEAD,
    })
}

fn plugin_folders(given: &Given<'_>) -> Vec<PathBuf> {
    let managed = engine::plugins::published(&exec_root(given));
    let others = match given.list("plugin-dir") {
        none if none.is_empty() => server::PLUGIN_FOLDERS.map(PathBuf::from).to_vec(),
        some => some.into_iter().map(PathBuf::from).collect(),
    };
    std::iter::once(managed).chain(others).collect()
}

fn exec_root(given: &Given<'_>) -> PathBuf {
    given.path("exec-root").unwrap_or_else(|| "/run/gantry".into())
}

fn positive(given: &Given<'_>, name: &str, default: i64) -> Result<usize> {
    let number = given.number(name, default);
    usize::try_from(number).ok().filter(|n| (1..=1000).contains(n)).ok_or_else(|| {
        Error::invalid(format!("invalid --{name}: {number}: want a number from 1 to 1000"))
    })
}

/// How registries are reached. Proxies that were not given come from the environment.
fn registries(
    given: &Given<'_>,
    role: Role,
    only_listed: bool,
) -> Result<engine::config::Registries> {
    let in_file = given.pairs("proxies");
    if let Some(unknown) =
        in_file.keys().find(|k| !matches!(k.as_str(), "http-proxy" | "https-proxy" | "no-proxy"))
    {
        return Err(Error::invalid(format!("proxies: unknown setting {unknown:?}")));
    }
    let proxy = |name: &str| {
        let variable = name.to_ascii_uppercase().replace('-', "_");
        given
            .text(name)
            .map(str::to_owned)
            .or_else(|| in_file.get(name).cloned())
            .or_else(|| std::env::var(&variable).ok().filter(|v| !v.is_empty()))
            .or_else(|| std::env::var(variable.to_ascii_lowercase()).ok())
            .unwrap_or_default()
    };
    let proxies = engine::config::Proxies {
        http: proxy("http-proxy"),
        https: proxy("https-proxy"),
        no_proxy: proxy("no-proxy"),
    };
    proxies.check().map_err(Error::from)?;
    let mirrors = given.list("registry-mirror");
    let folders = given.list("registry-certs-dir");
    let certificates = if folders.is_empty() {
        role.certificates().iter().map(PathBuf::from).collect()
    } else {
        folders.into_iter().map(PathBuf::from).collect()
    };
    Ok(engine::config::Registries {
        mirrors: mirrors.iter().map(|m| engine::config::Mirror::parse(m)).collect::<Result<_>>()?,
        insecure: given.list("insecure-registry"),
        certificates,
        proxies,
        token_servers: given.list("registry-token-server"),
        allowed: {
            let listed = given.list("registry-allow");
            (only_listed || !listed.is_empty()).then_some(listed)
        },
    })
}

fn check_bip(text: &str) -> Result<()> {
    let fine = text.split_once('/').is_some_and(|(address, prefix)| {
        address.parse::<std::net::Ipv4Addr>().is_ok() && prefix.parse::<u8>().is_ok_and(|p| p <= 30)
    });
    if fine {
        Ok(())
    } else {
        Err(Error::invalid(format!(
            "invalid --bip: {text:?}: want an IPv4 address with prefix, such as 172.17.0.1/16"
        )))
    }
}

/// `nofile=1024:2048` of the command line, `{"nofile": {"Soft": 1024, "Hard": 2048}}` of the file.
fn ulimits(value: Option<&Value>) -> Result<Vec<(String, i64, i64)>> {
    let bad = |text: &dyn std::fmt::Display| Error::invalid(format!("invalid ulimit: {text}"));
    match value {
        Some(Value::Array(list)) => list
            .iter()
            .map(|item| {
                let text = item.as_str().ok_or_else(|| bad(item))?;
                let (name, limits) = text.split_once('=').ok_or_else(|| bad(&text))?;
                let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
                let number = |n: &str| n.parse::<i64>().map_err(|_| bad(&text));
                let (soft, hard) = (number(soft)?, number(hard)?);
                if soft > hard && hard != -1 {
                    return Err(bad(&format!(
                        "soft limit must be less than or equal to hard limit: {soft} > {hard}"
                    )));
                }
                Ok((name.to_owned(), soft, hard))
            })
            .collect(),
        Some(Value::Object(map)) => map
            .iter()
            .map(|(name, limits)| {
                let number = |key: &str| {
                    let found =
                        limits.as_object()?.iter().find(|(k, _)| k.eq_ignore_ascii_case(key))?;
                    found.1.as_i64()
                };
                let (Some(soft), Some(hard)) = (number("Soft"), number("Hard")) else {
                    return Err(bad(&format!("{name}: want Soft and Hard")));
                };
                Ok((name.clone(), soft, hard))
            })
            .collect(),
        _ => Ok(Vec::new()),
    }
}

/// The shim stands in `../libexec`, else beside this binary. In this order because a build folder has one of
/// the same name beside it that cargo made for its own tests, and that is no static program.
fn shim() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_else(|_| "/usr/local/bin/gantry".into());
    let libexec = own.parent().and_then(Path::parent).map(|p| p.join("libexec/gantry-shim"));
    libexec.filter(|path| path.exists()).unwrap_or_else(|| own.with_file_name("gantry-shim"))
}

fn level(text: &str) -> Result<LevelFilter> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "trace" => LevelFilter::TRACE,
        "debug" => LevelFilter::DEBUG,
        "info" | "" => LevelFilter::INFO,
        "warn" | "warning" => LevelFilter::WARN,
        "error" | "fatal" | "panic" => LevelFilter::ERROR,
        _ => return Err(Error::invalid(format!("invalid logging level: {text}"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(line: &str, file: &str) -> Result<Settings> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.json");
        std::fs::write(&path, file).unwrap();
        let line = format!("{line} --config-file {}", path.display());
        Settings::new(flags::parse(line.split_whitespace().map(str::to_owned))?, Role::Gantry)
    }

    #[test]
    fn flags_and_file_make_one() {
        let got = settings(
            "--bridge none --data-root /d -D --default-ulimit nofile=10:20",
            r#"{"log-opts": {"max-size": "5m"}, "labels": ["a=b"], "shutdown-timeout": 3}"#,
        )
        .unwrap();
        assert_eq!(got.engine.bridge, "none");
        assert_eq!(got.engine.data_root, Path::new("/d"));
        assert_eq!(got.engine.exec_root, Path::new("/run/gantry"));
        assert_eq!(got.engine.log_options["max-size"], "5m");
        assert_eq!(got.engine.default_ulimits, [("nofile".to_owned(), 10, 20)]);
        assert_eq!(got.engine.shutdown_timeout, 3);
        assert_eq!(got.level, LevelFilter::DEBUG);
        assert!(got.engine.debug && got.ignored.is_empty());
        let file = r#"{"default-ulimits": {"nofile": {"Name": "nofile", "Hard": 9, "Soft": 8}}}"#;
        assert_eq!(
            settings("", file).unwrap().engine.default_ulimits,
            [("nofile".to_owned(), 8, 9)]
        );
    }

    #[test]
    fn what_cannot_be_meant_is_an_error() {
        for (line, want) in [
            ("--log-level loud", "invalid logging level: loud"),
            ("--storage-opt dm.basesize=20G", "overlay2: unknown option dm.basesize"),
            (
                "--storage-driver zfs",
                "invalid --storage-driver: \"zfs\": want one of overlay2, overlay, overlayfs",
            ),
            ("--tlsverify --tls=false", "--tlsverify needs TLS, which --tls=false switches off"),
            (
                "--userns-remap nobody-has-this-name",
                "invalid --userns-remap \"nobody-has-this-name\": \"nobody-has-this-name\" has no range in /etc/subuid (hint: add the line nobody-has-this-name:100000:65536)",
            ),
            (
                "--bip 10.0.0.1",
                "invalid --bip: \"10.0.0.1\": want an IPv4 address with prefix, such as 172.17.0.1/16",
            ),
            ("--seccomp-profile /nonexistent/x", "opening seccomp profile (/nonexistent/x) failed"),
            ("--log-driver x", "failed to set log opts"),
            ("--log-opt max-file=0", "failed to set log opts"),
            ("--mtu -1", "invalid --mtu: -1: want 0 to 65535"),
            ("--label x", "bad attribute format: x"),
            (
                "--default-ulimit nofile=9:3",
                "invalid ulimit: soft limit must be less than or equal to hard limit: 9 > 3",
            ),
        ] {
            assert_eq!(settings(line, "").unwrap_err().to_string(), want, "{line}");
        }
        assert!(settings("--tlsverify=false --tls=0 --userns-remap=", "").is_ok());
        assert!(
            Settings::new(
                flags::parse(["--config-file=/nonexistent/x".into()]).unwrap(),
                Role::Gantry
            )
            .is_err()
        );
    }

    #[test]
    fn tcp_without_tls_is_open_only_when_that_was_said() {
        let security = |line: &str| settings(line, "").unwrap().security;
        assert_eq!(security(""), Security::Unsaid);
        assert!(Security::Unsaid.allow("h:1").unwrap_err().to_string().contains("--tls=false"));
        assert_eq!(security("--tls=false"), Security::Open);
        assert_eq!(security("--tlsverify=false"), Security::Open);
        let line = "--tlsverify --tlscacert=/a --tlscert=/c --tlskey=/k -H tcp://h";
        let got = settings(line, "").unwrap();
        let files = server::tls::Files {
            certificate: "/c".into(),
            key: "/k".into(),
            authority: Some("/a".into()),
        };
        assert_eq!(got.security, Security::Tls(files));
        assert_eq!(got.hosts, [Host::Tcp("h:2376".into())]);
        let Security::Tls(files) = security("--tls") else { panic!("TLS") };
        assert!(files.authority.is_none() && files.key.ends_with("key.pem"));
    }

    #[test]
    fn settings_without_effect_are_reported() {
        let got = settings("--userland-proxy=false --containerd /x", "").unwrap();
        assert_eq!(
            got.ignored.iter().map(|(n, _)| *n).collect::<Vec<_>>(),
            ["containerd", "userland-proxy"]
        );
    }
}
