//! How much is taken away or refused when nobody says otherwise: one of three levels, in one place.
//!
//! `compat` is Docker's behaviour. `secure` takes away what few containers need and everyone can ask for.
//! `strict` is for a machine that several parties share: what amounts to rights on the host is refused, unless the
//! daemon's configuration allows it by name.
//!
//! What a level decides for a container is written into its host configuration when it is created: `inspect` shows it,
//! and another level of a later daemon changes nothing about containers that are there. Steps of builds and
//! plugins are not touched, but for the host's network at `strict`.

use crate::{
    Config,
    containers::{SecurityOption, security_option},
    system::Host,
};
use api::model::{HostConfig, Ulimit};
use base::{Error, Kind, Result};
use std::collections::BTreeSet;

/// The level, from the least confined to the most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Docker's behaviour.
    #[default]
    Compat,
    /// Confined by default; a container that asks gets more.
    Secure,
    /// What reaches the host is refused.
    Strict,
}

/// All levels.
const LEVELS: [Level; 3] = [Level::Compat, Level::Secure, Level::Strict];

/// Taken from Docker's fourteen capabilities at `secure`. `ping` needs no NET_RAW: its group range is open.
const SECURE_DROPS: &[&str] = &["AUDIT_WRITE", "MKNOD", "NET_RAW", "SETFCAP"];
/// At `strict` CHOWN, DAC_OVERRIDE, FOWNER, NET_BIND_SERVICE, SETGID and SETUID are left.
const STRICT_DROPS: &[&str] =
    &["AUDIT_WRITE", "FSETID", "KILL", "MKNOD", "NET_RAW", "SETFCAP", "SETPCAP", "SYS_CHROOT"];
/// What tells of the host's kernel and its neighbours; nothing is lost but curiosity.
const MORE_MASKED: &[&str] = &[
    "/proc/cmdline",
    "/proc/kallsyms",
    "/proc/modules",
    "/proc/slabinfo",
    "/sys/kernel/boot_params",
    "/sys/kernel/debug",
    "/sys/kernel/security",
    "/sys/kernel/slab",
    "/sys/kernel/tracing",
];
/// Processes and threads of one container.
const PIDS: i64 = 4096;
/// Open files of one process.
const FILES: i64 = 65_536;
/// Size of a writable layer at `strict`, where the file system can bound it.
const WRITABLE: &str = "20g";

/// What a container, or the daemon, may ask for that reaches the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wish {
    /// `--privileged`, of `run` and of `exec`.
    Privileged,
    /// The network of the host.
    HostNetwork,
    /// The PID, IPC, UTS, cgroup or user namespace of the host.
    HostNamespaces,
    /// Folders, files, sockets and file systems of the host, however they are written.
    HostPaths,
    /// Devices and rules for devices.
    Devices,
    /// Capabilities that Docker does not give by default.
    Capabilities,
    /// Less of seccomp, AppArmor, SELinux or masked paths, or writable control groups.
    Unconfined,
    /// New privileges through setuid programs and capabilities of files.
    NewPrivileges,
    /// The API over TCP.
    Tcp,
}

/// All wishes with the words that allow them.
const WISHES: [(Wish, &str); 9] = [
    (Wish::Privileged, "privileged"),
    (Wish::HostNetwork, "host-network"),
    (Wish::HostNamespaces, "host-namespaces"),
    (Wish::HostPaths, "host-paths"),
    (Wish::Devices, "devices"),
    (Wish::Capabilities, "capabilities"),
    (Wish::Unconfined, "unconfined"),
    (Wish::NewPrivileges, "new-privileges"),
    (Wish::Tcp, "tcp"),
];

impl Wish {
    fn word(self) -> &'static str {
        WISHES.iter().find(|(wish, _)| *wish == self).map_or("", |(_, word)| word)
    }
}

impl Level {
    /// Reads `compat`, `secure` or `strict`; empty is the default.
    ///
    /// # Errors
    /// `Invalid` for another word.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        LEVELS.into_iter().find(|level| level.name() == text).ok_or_else(|| {
            Error::invalid(format!(
                "invalid --security-level: {text:?}: want one of compat, secure, strict"
            ))
        })
    }

    /// The word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Compat => "compat",
            Self::Secure => "secure",
            Self::Strict => "strict",
        }
    }

    /// Where `-p 80:80` is published.
    pub fn publish_ip(self) -> &'static str {
        if self == Self::Strict { "127.0.0.1" } else { "0.0.0.0" }
    }

    /// `--userns-remap` when nothing is said.
    pub fn userns_remap(self) -> &'static str {
        if self == Self::Strict { "default" } else { "" }
    }

    /// The cgroup namespace of containers when nothing is said; empty for Docker's rule.
    pub fn cgroupns(self) -> &'static str {
        if self == Self::Compat { "" } else { "private" }
    }

    /// Whether only registries of the list may be reached.
    pub fn only_listed_registries(self) -> bool {
        self == Self::Strict
    }

    fn drops(self) -> &'static [&'static str] {
        match self {
            Self::Compat => &[],
            Self::Secure => SECURE_DROPS,
            Self::Strict => STRICT_DROPS,
        }
    }
}

/// A level, and what is allowed nevertheless.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Safeguards {
    /// The level.
    pub level: Level,
    allowed: BTreeSet<Wish>,
}

impl Safeguards {
    /// Reads the level and the words of `--security-allow`.
    ///
    /// # Errors
    /// `Invalid` for unknown words.
    pub fn new(level: &str, allowed: &[String]) -> Result<Self> {
        let known = |word: &String| {
            let found = WISHES.iter().find(|(_, known)| known == word);
            found.map(|(wish, _)| *wish).ok_or_else(|| {
                let all: Vec<_> = WISHES.iter().map(|(_, word)| *word).collect();
                Error::invalid(format!(
                    "invalid --security-allow: {word:?}: want some of {}",
                    all.join(", ")
                ))
            })
        };
        let allowed = allowed.iter().map(known).collect::<Result<_>>()?;
        Ok(Self { level: Level::parse(level)?, allowed })
    }

    /// Fails when `wish` is refused at this level.
    ///
    /// # Errors
    /// `Forbidden`, naming what would allow it.
    pub fn permit(&self, wish: Wish, what: &str) -> Result<()> {
        if self.level < Level::Strict || self.allowed.contains(&wish) {
            return Ok(());
        }
        Err(Error::new(
            Kind::Forbidden,
            format!(
                "{what} is refused at security level {}: whoever runs the daemon allows it by --security-allow={}",
                self.level.name(),
                wish.word()
            ),
        ))
    }

    /// Fails for a TCP socket without TLS that others than this host can reach, and for every one at `strict`.
    ///
    /// # Errors
    /// `Forbidden`, naming what would allow it.
    pub fn permit_tcp(&self, address: &str, tls: bool) -> Result<()> {
        self.permit(Wish::Tcp, &format!("listening on tcp://{address}"))?;
        let own = address
            .parse::<std::net::SocketAddr>()
            .is_ok_and(|socket| socket.ip().to_canonical().is_loopback());
        if self.level < Level::Secure || tls || own || self.allowed.contains(&Wish::Tcp) {
            return Ok(());
        }
        Err(Error::new(
            Kind::Forbidden,
            format!(
                "listening on tcp://{address} without TLS is refused at security level {}: use --tlsverify with certificates, a loopback address, or --security-allow=tcp",
                self.level.name()
            ),
        ))
    }

    /// What a step of a build may ask for.
    ///
    /// # Errors
    /// `Forbidden`.
    pub(crate) fn permit_step(&self, host: &HostConfig) -> Result<()> {
        if host.network_mode == "host" {
            self.permit(Wish::HostNetwork, "the host's network")?;
        }
        Ok(())
    }

    /// What a container may ask for.
    ///
    /// # Errors
    /// `Forbidden`.
    pub(crate) fn permit_container(&self, host: &HostConfig) -> Result<()> {
        if self.level < Level::Strict {
            return Ok(());
        }
        if host.privileged {
            self.permit(Wish::Privileged, "--privileged")?;
        }
        if host.network_mode == "host" {
            self.permit(Wish::HostNetwork, "the host's network")?;
        }
        for (mode, what) in [
            (&host.pid_mode, "the host's PID namespace"),
            (&host.ipc_mode, "the host's IPC namespace"),
            (&host.uts_mode, "the host's UTS namespace"),
            (&host.userns_mode, "the host's user namespace"),
            (&host.cgroupns_mode, "the host's cgroup namespace"),
        ] {
            if mode == "host" {
                self.permit(Wish::HostNamespaces, what)?;
            }
        }
        let devices = [
            (host.devices.iter().flatten().count(), "--device"),
            (host.device_cgroup_rules.iter().flatten().count(), "--device-cgroup-rule"),
            (host.device_requests.iter().flatten().count(), "a request for devices"),
        ];
        for (_, what) in devices.into_iter().filter(|(count, _)| *count > 0) {
            self.permit(Wish::Devices, what)?;
        }
        for name in host.cap_add.iter().flatten() {
            if !ordinary(name) {
                self.permit(Wish::Capabilities, &format!("--cap-add {name}"))?;
            }
        }
        for option in host.security_opt.iter().flatten() {
            use SecurityOption::{
                AppArmor, Label, NoNewPrivileges, Seccomp, SystemPaths, WritableCgroups,
            };
            let wish = match security_option(option)? {
                NoNewPrivileges(false) => Some(Wish::NewPrivileges),
                Seccomp("" | "builtin") | AppArmor("") | SystemPaths("confined") => None,
                Seccomp(_) | AppArmor(_) | SystemPaths(_) | WritableCgroups(true) => {
                    Some(Wish::Unconfined)
                }
                Label("disable") => Some(Wish::Unconfined),
                NoNewPrivileges(true) | Label(_) | WritableCgroups(false) => None,
            };
            if let Some(wish) = wish {
                // A profile can be long.
                let shown: String = option.chars().take(40).collect();
                self.permit(wish, &format!("--security-opt {shown}"))?;
            }
        }
        // Empty lists show more of the host than the defaults.
        for (list, what) in
            [(&host.masked_paths, "MaskedPaths"), (&host.readonly_paths, "ReadonlyPaths")]
        {
            if list.is_some() {
                self.permit(Wish::Unconfined, &format!("HostConfig.{what}"))?;
            }
        }
        Ok(())
    }

    /// Whether `path` of the host may be shown to a container.
    ///
    /// # Errors
    /// `Forbidden`.
    pub(crate) fn permit_path(&self, path: &str) -> Result<()> {
        self.permit(Wish::HostPaths, &format!("the host's path {path}"))
    }

    /// Writes what the level decides into a container's host configuration. Returns warnings.
    pub(crate) fn fill(
        &self,
        host: &mut HostConfig,
        config: &Config,
        machine: &Host,
        project_quota: bool,
    ) -> Vec<String> {
        if self.level == Level::Compat {
            return Vec::new();
        }
        // What the command line sends when nothing was said is 0.
        if host.pids_limit.is_none_or(|limit| limit == 0) {
            host.pids_limit = Some(PIDS);
        }
        let named = |name: &str| {
            host.ulimits.iter().flatten().any(|limit| limit.name == name)
                || config.default_ulimits.iter().any(|(known, ..)| known == name)
        };
        if !named("nofile") {
            let most = open_files();
            let files = Ulimit { name: "nofile".into(), soft: most, hard: most };
            host.ulimits.get_or_insert_with(Vec::new).push(files);
        }
        if self.level == Level::Strict {
            if host.memory == 0 && host.memory_swap <= 0 {
                host.memory = i64::try_from(machine.memory / 2).unwrap_or(i64::MAX);
            }
            if host.nano_cpus == 0 && host.cpu_quota == 0 && host.cpu_period == 0 {
                let half = i64::try_from((machine.processors / 2).max(1)).unwrap_or(1);
                host.nano_cpus = half * 1_000_000_000;
            }
        }
        if self.level == Level::Strict && project_quota {
            let sizes = host.storage_opt.get_or_insert_default();
            sizes.entry("size".into()).or_insert_with(|| WRITABLE.into());
        }
        if !host.privileged {
            let new = |option: &String| {
                matches!(security_option(option), Ok(SecurityOption::NoNewPrivileges(_)))
            };
            if !host.security_opt.iter().flatten().any(new) {
                host.security_opt
                    .get_or_insert_with(Vec::new)
                    .push("no-new-privileges=true".into());
            }
            if host.masked_paths.is_none() {
                let mut paths = runtime::defaults::masked_paths();
                paths.extend(MORE_MASKED.iter().map(|path| (*path).to_owned()));
                host.masked_paths = Some(paths);
            }
            self.drop_capabilities(host);
        }
        public_ports(host).map(|port| format!("Port {port} is published on all addresses of the host (hint: -p 127.0.0.1:{port})")).into_iter().collect()
    }

    fn drop_capabilities(&self, host: &mut HostConfig) {
        let asked: Vec<String> = host.cap_add.iter().flatten().map(|n| plain(n)).collect();
        let dropped: Vec<String> = host.cap_drop.iter().flatten().map(|n| plain(n)).collect();
        let all = |list: &[String]| list.iter().any(|name| name == "ALL");
        if all(&asked) || all(&dropped) {
            return;
        }
        let more = self.level.drops().iter().map(|name| (*name).to_owned());
        let more: Vec<String> =
            more.filter(|name| !asked.contains(name) && !dropped.contains(name)).collect();
        host.cap_drop.get_or_insert_with(Vec::new).extend(more);
    }
}

/// Open files of one process: no more than this one may hand on.
fn open_files() -> i64 {
    let own = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    own.and_then(|most| i64::try_from(most).ok()).map_or(FILES, |most| most.min(FILES))
}

/// The first host port that is published without an address.
fn public_ports(host: &HostConfig) -> Option<String> {
    let bindings = host.port_bindings.iter().flatten();
    let mut open = bindings.flat_map(|(_, list)| list.iter().flatten()).filter(|binding| {
        matches!(binding.host_ip.as_str(), "" | "0.0.0.0" | "::") && !binding.host_port.is_empty()
    });
    open.next().map(|binding| binding.host_port.clone())
}

/// `NET_RAW` for `cap_net_raw`.
fn plain(name: &str) -> String {
    let upper = name.to_uppercase();
    upper.strip_prefix("CAP_").unwrap_or(&upper).to_owned()
}

fn ordinary(name: &str) -> bool {
    runtime::defaults::Capabilities::DEFAULT.contains(&format!("CAP_{}", plain(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strict(allowed: &[&str]) -> Safeguards {
        let allowed: Vec<String> = allowed.iter().map(|word| (*word).to_owned()).collect();
        Safeguards::new("strict", &allowed).unwrap()
    }

    #[test]
    fn words_are_read_and_others_refused() {
        assert_eq!(Level::parse("").unwrap(), Level::Compat);
        for level in LEVELS {
            assert_eq!(Level::parse(level.name()).unwrap(), level);
        }
        assert!(Level::parse("Strict").is_err());
        let err = Safeguards::new("secure", &["host".into()]).unwrap_err();
        assert!(err.to_string().contains("host-paths"), "{err}");
    }

    #[test]
    fn sockets_are_open_as_far_as_the_level_lets_them() {
        let secure = Safeguards::new("secure", &[]).unwrap();
        for (address, tls, fine) in [
            ("127.0.0.1:1", false, true),
            ("[::1]:1", false, true),
            ("[::ffff:127.0.0.1]:1", false, true),
            ("10.0.0.1:1", true, true),
            ("10.0.0.1:1", false, false),
            ("0.0.0.0:1", false, false),
        ] {
            assert_eq!(secure.permit_tcp(address, tls).is_ok(), fine, "{address} {tls}");
            assert!(Safeguards::default().permit_tcp(address, tls).is_ok());
            assert!(strict(&[]).permit_tcp(address, tls).is_err());
            assert!(strict(&["tcp"]).permit_tcp(address, tls).is_ok());
        }
    }

    #[test]
    fn empty_lists_of_hidden_paths_are_a_wish_too() {
        let host = HostConfig { masked_paths: Some(Vec::new()), ..HostConfig::default() };
        let err = strict(&[]).permit_container(&host).unwrap_err();
        assert_eq!(err.kind(), Kind::Forbidden);
        assert!(err.to_string().ends_with("--security-allow=unconfined"), "{err}");
        assert!(strict(&["unconfined"]).permit_container(&host).is_ok());
        assert!(Safeguards::new("secure", &[]).unwrap().permit_container(&host).is_ok());
    }
}
