//! A host configuration made complete and checked: docker's defaults filled in, contradictions refused,
//! what the kernel lacks named in warnings.

use super::{cdi, devices};
use crate::{Config, runtimes::Runtimes};
use api::model::{ContainerConfig, HostConfig};
use base::{Error, Result, signal};
use runtime::defaults::{Capabilities, Privileged};

/// Fills in the defaults that inspect shows and checks every value on its own.
///
/// # Errors
/// `Invalid` with docker's wording.
pub(crate) fn settle(
    mut host: HostConfig,
    config: &Config,
    kernel: &Kernel,
    runtimes: &Runtimes,
) -> Result<(HostConfig, Vec<String>)> {
    let mut warnings = Vec::new();
    let default = |text: &mut String, value: &str| {
        if text.is_empty() {
            value.clone_into(text);
        }
    };
    if host.network_mode == "default" || host.network_mode.is_empty() {
        host.network_mode = if config.bridge == "none" { "none".into() } else { "bridge".into() };
    }
    default(&mut host.ipc_mode, &config.default_ipc);
    let cgroupns = match config.default_cgroupns.as_str() {
        "" if kernel.v2 => "private",
        "" => "host",
        mode => mode,
    };
    default(&mut host.cgroupns_mode, cgroupns);
    default(&mut host.runtime, runtimes.default_name());
    default(&mut host.restart_policy.name, "no");
    super::log_config::settle(&mut host.log_config, config)?;
    if host.shm_size == 0 {
        host.shm_size = config.default_shm_bytes;
    }
    if !host.privileged {
        host.masked_paths.get_or_insert_with(runtime::defaults::masked_paths);
        host.readonly_paths.get_or_insert_with(|| owned(runtime::defaults::READONLY_PATHS));
    }
    if host.init.is_none() && config.init {
        host.init = Some(true);
    }
    modes(&host)?;
    users(&host, config)?;
    super::limits::settle(&mut host, kernel, &mut warnings)?;
    restart_policy(&host)?;
    let other = runtimes.find(&host.runtime)?;
    if other.is_some() && config.userns.is_some() && host.userns_mode != "host" {
        return Err(Error::invalid(format!(
            "runtime {} cannot map users: use the own runtime or --userns=host",
            host.runtime
        )));
    }
    writable_bound(&host, config, kernel)?;
    capabilities(&host)?;
    for device in host.devices.iter().flatten() {
        devices::asked(&device.path_on_host, &device.path_on_host, &device.cgroup_permissions)?;
    }
    for rule in host.device_cgroup_rules.iter().flatten() {
        devices::parse_rule(rule)?;
    }
    for option in host.security_opt.iter().flatten() {
        security_option(option)?.warn(kernel, &mut warnings);
    }
    if !matches!(host.isolation.as_str(), "" | "default") {
        return Err(Error::invalid(format!("invalid isolation {:?} on linux", host.isolation)));
    }
    if host.annotations.iter().flatten().any(|(key, _)| key.is_empty()) {
        return Err(Error::invalid(
            "invalid Annotations: the empty string is not permitted as an annotation key",
        ));
    }
    let edits =
        cdi::resolve(host.device_requests.as_deref().unwrap_or_default(), &config.cdi_spec_dirs)?;
    warnings.extend(edits.warning());
    Ok((host, warnings))
}

/// Most bytes that a container's writable layer may take: `--storage-opt size=`, or the daemon's default.
///
/// # Errors
/// `Invalid` for other options, a bad size, and where the file system cannot; in docker's words.
pub(super) fn writable_bound(
    host: &HostConfig,
    config: &Config,
    kernel: &Kernel,
) -> Result<Option<u64>> {
    let mut bound = config.default_writable_bytes.filter(|_| kernel.project_quota);
    for (key, value) in host.storage_opt.iter().flatten() {
        if !kernel.project_quota {
            return Err(Error::invalid(
                "--storage-opt is supported only for overlay over xfs with 'pquota' mount option: the data root's file system has no project quota that is enforced (xfs with pquota; ext4 with the features project and quota, and prjquota)",
            ));
        }
        if !key.eq_ignore_ascii_case("size") {
            return Err(Error::invalid(format!("Unknown option {key}")));
        }
        bound = Some(base::units::parse_bytes(value)?.unsigned_abs());
    }
    Ok(bound.filter(|bytes| *bytes > 0))
}

/// What the kernel can limit, and where.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kernel {
    pub(crate) v2: bool,
    pub(crate) features: sys::cgroup::Features,
    /// Processors and memory nodes, `0-3`.
    pub(crate) cpus: String,
    pub(crate) mems: String,
    /// What is written to the data root can be bounded.
    pub(crate) project_quota: bool,
    /// Containers get SELinux labels.
    pub(crate) selinux: bool,
}

impl Kernel {
    /// Asks once; it does not change.
    pub(crate) fn of(hierarchy: &sys::cgroup::Hierarchy, project_quota: bool) -> Self {
        let (cpus, mems) = hierarchy.places();
        Self {
            v2: hierarchy.version() == sys::cgroup::Version::V2,
            features: hierarchy.features(),
            cpus,
            mems,
            project_quota,
            selinux: false,
        }
    }
}

/// The capabilities of the container.
pub(super) fn capabilities(host: &HostConfig) -> Result<Capabilities> {
    Capabilities::tweaked(
        host.cap_add.as_deref().unwrap_or_default(),
        host.cap_drop.as_deref().unwrap_or_default(),
        if host.privileged { Privileged::Yes } else { Privileged::No },
        Capabilities::available(),
    )
}

fn owned(list: &[&str]) -> Vec<String> {
    list.iter().map(|s| (*s).to_owned()).collect()
}

fn modes(host: &HostConfig) -> Result<()> {
    let one_of = |flag: &str, value: &str, accepted: &[&str]| {
        if accepted.contains(&value) || value.starts_with("container:") {
            Ok(())
        } else {
            Err(Error::invalid(format!("invalid {flag} mode: {value}")))
        }
    };
    one_of("IPC", &host.ipc_mode, &["private", "shareable", "host", "none"])?;
    one_of("PID", &host.pid_mode, &["", "host", "private"])?;
    one_of("UTS", &host.uts_mode, &["", "host", "private"])?;
    one_of("cgroup namespace", &host.cgroupns_mode, &["private", "host"])?;
    one_of("userns", &host.userns_mode, &["", "host"])?;
    if host.network_mode == "container:" {
        return Err(Error::invalid(
            "invalid network mode: container: needs the name or id of a container",
        ));
    }
    Ok(())
}

/// What needs the host's users while containers have their own. Texts: dockerd.
fn users(host: &HostConfig, config: &Config) -> Result<()> {
    if config.userns.is_none() || host.userns_mode == "host" {
        return Ok(());
    }
    let refused = if host.privileged {
        "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode"
    } else if host.network_mode == "host" {
        "cannot share the host's network namespace when user namespaces are enabled"
    } else if host.pid_mode == "host" {
        "cannot share the host PID namespace when user namespaces are enabled"
    } else {
        return Ok(());
    };
    Err(Error::invalid(refused))
}

fn restart_policy(host: &HostConfig) -> Result<()> {
    let policy = &host.restart_policy;
    match policy.name.as_str() {
        "no" | "always" | "unless-stopped" => {
            if policy.maximum_retry_count != 0 {
                return Err(Error::invalid(
                    "invalid restart policy: maximum retry count can only be used with 'on-failure'",
                ));
            }
        }
        "on-failure" => {
            if policy.maximum_retry_count < 0 {
                return Err(Error::invalid(
                    "invalid restart policy: maximum retry count cannot be negative",
                ));
            }
        }
        other => {
            return Err(Error::invalid(format!(
                "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            )));
        }
    }
    if host.auto_remove && policy.name != "no" {
        return Err(Error::invalid("can't create 'AutoRemove' container with restart policy"));
    }
    Ok(())
}

/// One `--security-opt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SecurityOption<'t> {
    NoNewPrivileges(bool),
    Seccomp(&'t str),
    AppArmor(&'t str),
    Label(&'t str),
    SystemPaths(&'t str),
    WritableCgroups(bool),
}

/// Reads one `--security-opt`.
///
/// # Errors
/// `Invalid` with docker's words.
pub(crate) fn security_option(text: &str) -> Result<SecurityOption<'_>> {
    use SecurityOption::{AppArmor, Label, NoNewPrivileges, Seccomp, SystemPaths, WritableCgroups};
    let bad = || Error::invalid(format!("invalid --security-opt 2: {text:?}"));
    let truth = |value: &str| match value {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(bad()),
    };
    match text {
        "no-new-privileges" => return Ok(NoNewPrivileges(true)),
        "writable-cgroups" => return Ok(WritableCgroups(true)),
        "disable" => return Ok(Label("disable")),
        _ => {}
    }
    let (key, value) = text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(bad)?;
    Ok(match key {
        "no-new-privileges" => NoNewPrivileges(truth(value)?),
        "writable-cgroups" => WritableCgroups(truth(value)?),
        "seccomp" => {
            if !matches!(value, "unconfined" | "builtin" | "") {
                let arch = runtime::seccomp::Arch::native()?;
                runtime::seccomp::Profile::parse(value, arch)
                    .map_err(|e| Error::invalid("Decoding seccomp profile failed").caused_by(e))?;
            }
            Seccomp(value)
        }
        "apparmor" => AppArmor(value),
        "label" => {
            let kinds = ["user:", "role:", "type:", "level:", "filetype:"];
            if !matches!(value, "disable" | "nested") && !kinds.iter().any(|k| value.starts_with(k))
            {
                return Err(bad());
            }
            Label(value)
        }
        "systempaths" => match value {
            "unconfined" | "confined" => SystemPaths(value),
            _ => return Err(bad()),
        },
        _ => return Err(bad()),
    })
}

impl SecurityOption<'_> {
    /// Says what this kernel lacks for it.
    fn warn(self, kernel: &Kernel, warnings: &mut Vec<String>) {
        let there = |path: &str| std::path::Path::new(path).exists();
        match self {
            Self::AppArmor(profile)
                if !matches!(profile, "" | "unconfined") && !super::apparmor::enabled() =>
            {
                warnings.push(format!(
                    "Your kernel does not support AppArmor. The profile {profile} is discarded."
                ));
            }
            Self::Label(label) if !matches!(label, "disable" | "nested") && !kernel.selinux => {
                let why = match there("/sys/fs/selinux/enforce") {
                    true => "SELinux is not enabled in this daemon (hint: selinux-enabled)",
                    false => "SELinux is not enabled on this host",
                };
                warnings.push(format!("{why}. The label {label} is discarded."));
            }
            _ => {}
        }
    }
}

/// Checks what depends on both configurations.
///
/// # Errors
/// `Invalid` with docker's wording.
pub(crate) fn check(config: &ContainerConfig, host: &HostConfig) -> Result<()> {
    if let Some(text) = config.stop_signal.as_deref().filter(|s| !s.is_empty()) {
        signal::parse(text)?;
    }
    let shared = host.network_mode.starts_with("container:");
    let foreign = shared || host.network_mode == "host";
    let conflict = |what: &str| {
        let mode = if shared { "the container type network" } else { "the host type network" };
        Err(Error::invalid(format!("conflicting options: {what} and {mode}")))
    };
    if shared && !config.hostname.is_empty() {
        return Err(Error::invalid("conflicting options: hostname and the network mode"));
    }
    if shared && host.port_bindings.as_ref().is_some_and(|p| !p.is_empty()) {
        return conflict("port publishing");
    }
    if foreign && !host.links.as_ref().is_none_or(Vec::is_empty) {
        return conflict("links");
    }
    if shared && !host.dns.as_ref().is_none_or(Vec::is_empty) {
        return conflict("dns");
    }
    if shared && !host.extra_hosts.as_ref().is_none_or(Vec::is_empty) {
        return conflict("custom host-to-IP mapping");
    }
    if host.uts_mode == "host" && !config.hostname.is_empty() {
        return Err(Error::invalid("conflicting options: hostname and the UTS mode"));
    }
    if config.hostname.len() > 64 || config.hostname.contains(['\0', '\n', '/']) {
        return Err(Error::invalid(format!("invalid hostname: {:?}", config.hostname)));
    }
    for (text, _) in config.exposed_ports.iter().flatten() {
        if !valid_port(text) {
            return Err(Error::invalid(format!("invalid port specification: \"{text}\"")));
        }
    }
    for (text, bindings) in host.port_bindings.iter().flatten() {
        if !valid_port(text) {
            return Err(Error::invalid(format!("invalid port specification: \"{text}\"")));
        }
        for binding in bindings.iter().flatten() {
            let range =
                binding.host_port.split('-').all(|p| p.is_empty() || p.parse::<u16>().is_ok());
            if !range {
                return Err(Error::invalid(format!(
                    "invalid port specification: \"{}\"",
                    binding.host_port
                )));
            }
        }
    }
    if !config.working_dir.is_empty()
        && (!config.working_dir.starts_with('/') || config.working_dir.contains('\0'))
    {
        return Err(Error::invalid(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        )));
    }
    for variable in config.env.iter().flatten() {
        if variable.is_empty() || variable.starts_with('=') || variable.contains('\0') {
            return Err(Error::invalid(format!("invalid environment variable: {variable}")));
        }
    }
    Ok(())
}

fn valid_port(text: &str) -> bool {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    matches!(protocol.to_ascii_lowercase().as_str(), "tcp" | "udp" | "sctp")
        && number.parse::<u16>().is_ok_and(|n| n > 0)
}
