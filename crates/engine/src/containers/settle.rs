//! A host configuration made complete and checked: docker's defaults filled in, contradictions refused,
//! what the kernel lacks named in warnings.

use super::devices;
use crate::Config;
use api::model::{ContainerConfig, HostConfig};
use base::{Error, Result, signal};
use runtime::defaults::{Capabilities, Privileged};

const MIN_MEMORY: i64 = 6 << 20;
const MIN_SHARES: i64 = 2;

/// Fills in the defaults that inspect shows and checks every value on its own.
///
/// # Errors
/// `Invalid` with docker's wording.
pub(crate) fn settle(
    mut host: HostConfig,
    config: &Config,
    v2: bool,
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
        "" if v2 => "private",
        "" => "host",
        mode => mode,
    };
    default(&mut host.cgroupns_mode, cgroupns);
    default(&mut host.runtime, "runc");
    default(&mut host.restart_policy.name, "no");
    super::log_config::settle(&mut host.log_config, config)?;
    if host.shm_size == 0 {
        host.shm_size = config.default_shm_bytes;
    }
    if host.masked_paths.is_none() && !host.privileged {
        host.masked_paths = Some(runtime::defaults::masked_paths());
        host.readonly_paths = Some(owned(runtime::defaults::READONLY_PATHS));
    }
    if host.init.is_none() && config.init {
        host.init = Some(true);
    }
    modes(&host)?;
    resources(&mut host, &mut warnings)?;
    restart_policy(&host)?;
    if !matches!(host.runtime.as_str(), "runc" | "gantry" | "io.containerd.runc.v2") {
        return Err(Error::invalid(format!("unknown or invalid runtime name: {}", host.runtime)));
    }
    if host.storage_opt.as_ref().is_some_and(|o| !o.is_empty()) {
        return Err(Error::invalid(
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
        ));
    }
    capabilities(&host)?;
    for device in host.devices.iter().flatten() {
        devices::asked(&device.path_on_host, &device.path_on_host, &device.cgroup_permissions)?;
    }
    for rule in host.device_cgroup_rules.iter().flatten() {
        devices::parse_rule(rule)?;
    }
    for option in host.security_opt.iter().flatten() {
        security_option(option)?;
    }
    Ok((host, warnings))
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

fn resources(host: &mut HostConfig, warnings: &mut Vec<String>) -> Result<()> {
    let refuse = |text: String| Err(Error::invalid(text));
    if host.memory != 0 && host.memory < MIN_MEMORY {
        return refuse("Minimum memory limit allowed is 6MB".into());
    }
    if host.memory < 0 || host.memory_reservation < 0 || host.shm_size < 0 {
        return refuse(
            "invalid negative size: memory, reservation and shm size must not be negative".into(),
        );
    }
    if host.memory == 0 && host.memory_swap > 0 {
        return refuse(
            "You should always set the Memory limit when using Memoryswap limit, see usage".into(),
        );
    }
    if host.memory > 0 && host.memory_swap > 0 && host.memory_swap < host.memory {
        return refuse(
            "Minimum memoryswap limit should be larger than memory limit, see usage".into(),
        );
    }
    if host.memory > 0 && host.memory_swap == 0 {
        // Docker's default: as much swap as memory.
        host.memory_swap = host.memory.saturating_mul(2);
    }
    if host.memory > 0 && host.memory_reservation > host.memory {
        return refuse(
            "Minimum memory limit can not be less than memory reservation limit, see usage".into(),
        );
    }
    // What the CLI sends when nothing was asked for.
    host.memory_swappiness = host.memory_swappiness.filter(|s| *s != -1);
    if let Some(swappiness) = host.memory_swappiness
        && !(0..=100).contains(&swappiness)
    {
        return refuse(format!(
            "Invalid value: {swappiness}, valid memory swappiness range is 0-100"
        ));
    }
    if host.nano_cpus < 0 {
        return refuse(
            "range of CPUs is from 0.01 to the number of processors: NanoCPUs must not be negative"
                .into(),
        );
    }
    if host.nano_cpus > 0 && (host.cpu_period > 0 || host.cpu_quota > 0) {
        return refuse("Conflicting options: Nano CPUs and CPU Period cannot both be set".into());
    }
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as i64;
    if host.nano_cpus > processors * 1_000_000_000 {
        return refuse(format!(
            "range of CPUs is from 0.01 to {processors}.00, as there are only {processors} CPUs available"
        ));
    }
    if host.cpu_shares < 0 {
        return refuse(format!(
            "invalid CPU shares ({}): value must be a positive integer",
            host.cpu_shares
        ));
    }
    if host.cpu_shares > 0 && host.cpu_shares < MIN_SHARES {
        host.cpu_shares = MIN_SHARES;
        warnings.push("CPU shares below 2 are raised to 2.".into());
    }
    if host.cpu_period != 0 && !(1_000..=1_000_000).contains(&host.cpu_period) {
        return refuse(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
                .into(),
        );
    }
    if host.cpu_quota > 0 && host.cpu_quota < 1_000 {
        return refuse("CPU cfs quota can not be less than 1ms (i.e. 1000)".into());
    }
    if host.oom_score_adj < -1000 || host.oom_score_adj > 1000 {
        return refuse(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host.oom_score_adj
        ));
    }
    if host.blkio_weight != 0 && !(10..=1000).contains(&host.blkio_weight) {
        return refuse("Range of blkio weight is from 10 to 1000".into());
    }
    if host.pids_limit.is_some_and(|p| p <= 0) {
        host.pids_limit = None;
    }
    if host.kernel_memory != 0 {
        warnings.push(
            "Kernel memory limits are deprecated and not supported by this kernel. Limitation discarded.".into(),
        );
        host.kernel_memory = 0;
    }
    for limit in host.ulimits.iter().flatten() {
        if limit.soft > limit.hard && limit.hard != -1 {
            return refuse(format!(
                "ulimit soft limit must be less than or equal to hard limit: {} > {}",
                limit.soft, limit.hard
            ));
        }
        if devices::rlimit(&limit.name).is_none() {
            return refuse(format!("invalid ulimit type: {}", limit.name));
        }
    }
    Ok(())
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

fn security_option(text: &str) -> Result<()> {
    let (key, value) = text.split_once('=').or_else(|| text.split_once(':')).unwrap_or((text, ""));
    match (key, value) {
        ("no-new-privileges", "" | "true" | "false")
        | ("label" | "apparmor" | "seccomp" | "systempaths" | "writable-cgroups", _) => Ok(()),
        ("no-new-privileges", _) => Err(Error::invalid(format!(
            "invalid --security-opt 2: {text:?}: no-new-privileges takes true or false"
        ))),
        _ => Err(Error::invalid(format!("invalid --security-opt: {text:?}"))),
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
