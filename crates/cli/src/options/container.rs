//! From options to the body of `POST /containers/create`.
//!
//! Source: docker/cli `cli/command/container/opts.go` (meaning and conflicts).

use super::{environment, mounts, networks, ports::Ports, values};
use crate::{
    error::{Fail, Result, text},
    flags::Given,
    ui::Ui,
};
use api::model::{
    ContainerConfig, DeviceRequest, Empty, HealthConfig, HostConfig, LogConfig, NetworkingConfig,
};
use serde::Serialize;
use std::{collections::BTreeMap, fs};

/// The body of a create request.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Body {
    #[serde(flatten)]
    pub config: ContainerConfig,
    pub host_config: HostConfig,
    pub networking_config: NetworkingConfig,
}

/// Reads the options of `run` and `create`.
pub(crate) fn body(ui: &Ui, given: &Given) -> Result<Body> {
    let (image, command) = given.words.split_first().ok_or_else(|| Fail::new("no image"))?;
    let (network_mode, networking_config) = networks::networks(given)?;
    let ports = Ports::parse(given.list("publish"), given.list("expose"))?;
    let mut host_config = host_config(given, network_mode)?;
    host_config.port_bindings = Some(ports.bindings);
    let mut config = config(given, image, command)?;
    config.exposed_ports = Some(ports.exposed).filter(|p| !p.is_empty());
    volumes(given, &mut config, &mut host_config)?;
    let mut env = environment::variables(given.list("env-file"), given.list("env"))?;
    for (name, value) in ui.config.proxy_environment(&ui.endpoint.to_string()) {
        let prefix = format!("{name}=");
        if !env.iter().any(|e| e.starts_with(&prefix)) {
            env.push(format!("{name}={value}"));
        }
    }
    config.env = Some(env);
    if given.is("use-api-socket") {
        return Err(Fail::new("--use-api-socket is not supported"));
    }
    Ok(Body { config, host_config, networking_config })
}

fn config(given: &Given, image: &str, command: &[String]) -> Result<ContainerConfig> {
    let attach: Vec<String> = given.list("attach").iter().map(|a| a.to_lowercase()).collect();
    if let Some(bad) = attach.iter().find(|a| !["stdin", "stdout", "stderr"].contains(&a.as_str()))
    {
        return Err(Fail::new(format!(
            "invalid argument {bad:?} for \"-a, --attach\" flag: valid streams are STDIN, STDOUT and STDERR"
        ))
        .with_code(125));
    }
    let attached = |name: &str| attach.iter().any(|a| a == name);
    let interactive = given.is("interactive");
    let attach_stdin = attached("stdin") || interactive;
    let nothing_said = attach.is_empty();
    let labels = environment::labels(given.list("label-file"), given.list("label"))?;
    Ok(ContainerConfig {
        hostname: given.text_or_empty("hostname"),
        domainname: given.text_or_empty("domainname"),
        user: given.text_or_empty("user"),
        attach_stdin,
        attach_stdout: nothing_said || attached("stdout"),
        attach_stderr: nothing_said || attached("stderr"),
        tty: given.is("tty"),
        open_stdin: interactive,
        stdin_once: interactive && attach_stdin,
        cmd: Some(command.to_vec()).filter(|c| !c.is_empty()),
        image: image.to_owned(),
        working_dir: given.text_or_empty("workdir"),
        // An empty entrypoint takes the image's away.
        entrypoint: given.text("entrypoint").map(|e| vec![e.to_owned()]),
        labels: Some(labels),
        stop_signal: given.text("stop-signal").map(str::to_owned),
        stop_timeout: given.int("stop-timeout"),
        healthcheck: healthcheck(given)?,
        ..ContainerConfig::default()
    })
}

fn healthcheck(given: &Given) -> Result<Option<HealthConfig>> {
    let names = [
        "health-cmd",
        "health-interval",
        "health-retries",
        "health-start-interval",
        "health-start-period",
        "health-timeout",
    ];
    let any = names.iter().any(|n| given.has(n));
    if given.is("no-healthcheck") {
        if any {
            return Err(Fail::new("--no-healthcheck conflicts with --health-* options"));
        }
        return Ok(Some(HealthConfig {
            test: Some(vec!["NONE".into()]),
            ..HealthConfig::default()
        }));
    }
    if !any {
        return Ok(None);
    }
    let retries = given.int("health-retries").unwrap_or(0);
    if retries < 0 {
        return Err(Fail::new("--health-retries cannot be negative"));
    }
    Ok(Some(HealthConfig {
        test: given.text("health-cmd").map(|c| vec!["CMD-SHELL".into(), c.to_owned()]),
        interval: given.nanos("health-interval"),
        timeout: given.nanos("health-timeout"),
        start_period: given.nanos("health-start-period"),
        start_interval: given.nanos("health-start-interval"),
        retries,
    }))
}

fn volumes(given: &Given, config: &mut ContainerConfig, host: &mut HostConfig) -> Result<()> {
    let mut anonymous = BTreeMap::new();
    let mut binds = Vec::new();
    for text in given.list("volume") {
        match mounts::Volume::parse(text)? {
            mounts::Volume::Anonymous(path) => drop(anonymous.insert(path, Empty {})),
            mounts::Volume::Bind(bind) => binds.push(bind),
        }
    }
    config.volumes = Some(anonymous).filter(|v| !v.is_empty());
    host.binds = Some(binds).filter(|b| !b.is_empty());
    let list: Vec<_> =
        given.list("mount").iter().map(|m| mounts::mount(m)).collect::<Result<_>>()?;
    host.mounts = Some(list).filter(|m| !m.is_empty());
    let tmpfs: BTreeMap<String, String> = given
        .list("tmpfs")
        .iter()
        .map(|t| t.split_once(':').unwrap_or((t, "")))
        .map(|(path, options)| (path.to_owned(), options.to_owned()))
        .collect();
    host.tmpfs = Some(tmpfs).filter(|t| !t.is_empty());
    Ok(())
}

fn host_config(given: &Given, network_mode: String) -> Result<HostConfig> {
    let swappiness = given.int("memory-swappiness").unwrap_or(-1);
    if swappiness != -1 && !(0..=100).contains(&swappiness) {
        return Err(Fail::new(format!(
            "invalid value: {swappiness}. Valid memory swappiness range is 0-100"
        )));
    }
    if given.is("rm") && given.text("restart").is_some_and(|r| !r.is_empty() && r != "no") {
        return Err(Fail::new("conflicting options: cannot specify both --restart and --rm"));
    }
    let (security, unconfined_paths) = security(given.list("security-opt"))?;
    let each = |name: &str| given.some_list(name);
    Ok(HostConfig {
        container_id_file: given.text_or_empty("cidfile"),
        log_config: LogConfig {
            r#type: given.text_or_empty("log-driver"),
            config: Some(values::map(given.list("log-opt"))),
        },
        network_mode,
        restart_policy: values::restart_policy(given.text("restart").unwrap_or("no"))?,
        auto_remove: given.is("rm"),
        volume_driver: given.text_or_empty("volume-driver"),
        volumes_from: each("volumes-from"),
        annotations: values::some_map(given.list("annotation")),
        cap_add: each("cap-add"),
        cap_drop: each("cap-drop"),
        cgroupns_mode: given.text_or_empty("cgroupns"),
        dns: Some(given.list("dns").to_vec()),
        dns_options: Some([given.list("dns-option"), given.list("dns-opt")].concat()),
        dns_search: Some(given.list("dns-search").to_vec()),
        extra_hosts: extra_hosts(given.list("add-host"))?,
        group_add: each("group-add"),
        ipc_mode: given.text_or_empty("ipc"),
        links: each("link"),
        oom_score_adj: given.int("oom-score-adj").unwrap_or(0),
        pid_mode: given.text_or_empty("pid"),
        privileged: given.is("privileged"),
        publish_all_ports: given.is("publish-all"),
        readonly_rootfs: given.is("read-only"),
        security_opt: security,
        masked_paths: unconfined_paths.then(Vec::new),
        readonly_paths: unconfined_paths.then(Vec::new),
        storage_opt: values::some_map(given.list("storage-opt")),
        uts_mode: given.text_or_empty("uts"),
        userns_mode: given.text_or_empty("userns"),
        shm_size: given.bytes("shm-size"),
        sysctls: values::some_map(given.list("sysctl")),
        runtime: given.text_or_empty("runtime"),
        isolation: given.text_or_empty("isolation"),
        memory_swappiness: Some(swappiness),
        init: given.has("init").then(|| given.is("init")),
        device_requests: gpus(given.list("gpus"))?,
        ..resources(given)?
    })
}

fn resources(given: &Given) -> Result<HostConfig> {
    let int = |name: &str| given.int(name).unwrap_or(0);
    let throttles = |name: &str, rate| -> Result<_> {
        let list = given.list(name).iter().map(|t| values::throttle(t, rate));
        Ok(Some(list.collect::<Result<Vec<_>>>()?).filter(|l| !l.is_empty()))
    };
    let weights = given.list("blkio-weight-device").iter().map(|w| values::weight(w));
    let devices = given.list("device").iter().map(|d| values::device(d));
    let ulimits = given.list("ulimit").iter().map(|u| values::ulimit(u));
    let cpus = given.text("cpus").map_or(Ok(0), values::nano_cpus).map_err(Fail::new)?;
    Ok(HostConfig {
        cpu_shares: int("cpu-shares"),
        memory: given.bytes("memory"),
        nano_cpus: cpus,
        cgroup_parent: given.text_or_empty("cgroup-parent"),
        blkio_weight: int("blkio-weight"),
        blkio_weight_device: Some(weights.collect::<Result<_>>()?),
        blkio_device_read_bps: throttles("device-read-bps", values::Rate::Bytes)?,
        blkio_device_write_bps: throttles("device-write-bps", values::Rate::Bytes)?,
        blkio_device_read_iops: throttles("device-read-iops", values::Rate::Operations)?,
        blkio_device_write_iops: throttles("device-write-iops", values::Rate::Operations)?,
        cpu_period: int("cpu-period"),
        cpu_quota: int("cpu-quota"),
        cpu_realtime_period: int("cpu-rt-period"),
        cpu_realtime_runtime: int("cpu-rt-runtime"),
        cpuset_cpus: given.text_or_empty("cpuset-cpus"),
        cpuset_mems: given.text_or_empty("cpuset-mems"),
        devices: Some(devices.collect::<Result<_>>()?),
        device_cgroup_rules: given.some_list("device-cgroup-rule"),
        kernel_memory: given.bytes("kernel-memory"),
        memory_reservation: given.bytes("memory-reservation"),
        memory_swap: given.bytes("memory-swap"),
        oom_kill_disable: Some(given.is("oom-kill-disable")),
        pids_limit: Some(int("pids-limit")),
        ulimits: Some(ulimits.collect::<Result<_>>()?),
        ..HostConfig::default()
    })
}

/// `name:ip` or `name=ip`, checked.
pub(crate) fn extra_hosts(list: &[String]) -> Result<Option<Vec<String>>> {
    let mut out = Vec::new();
    for text in list {
        let (name, ip) = text
            .split_once('=')
            .or_else(|| text.split_once(':'))
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| bad_host(text, &format!("bad format for add-host: {text:?}")))?;
        let bare = ip.strip_prefix('[').and_then(|i| i.strip_suffix(']')).unwrap_or(ip);
        if bare != "host-gateway" && bare.parse::<std::net::IpAddr>().is_err() {
            return Err(bad_host(text, &format!("invalid IP address in add-host: {ip:?}")));
        }
        out.push(format!("{name}:{bare}"));
    }
    Ok(Some(out))
}

fn bad_host(text: &str, why: &str) -> Fail {
    Fail::new(format!("invalid argument {text:?} for \"--add-host\" flag: {why}")).with_code(125)
}

/// A profile file becomes its contents; `systempaths=unconfined` is for the path lists.
fn security(list: &[String]) -> Result<(Option<Vec<String>>, bool)> {
    let mut out = Vec::new();
    let mut unconfined_paths = false;
    for text in list {
        let (key, value) =
            text.split_once('=').or_else(|| text.split_once(':')).unwrap_or((text, ""));
        if value.is_empty() && key != "no-new-privileges" {
            return Err(Fail::new(format!("invalid --security-opt: {text:?}")));
        }
        match (key, value) {
            ("systempaths", "unconfined") => unconfined_paths = true,
            ("seccomp", file) if !["unconfined", "builtin"].contains(&file) => {
                let failed = |why: String| {
                    Fail::new(format!("opening seccomp profile ({file}) failed: {why}"))
                };
                let profile = fs::read(file)
                    .map_err(|e| failed(format!("open {file}: {}", self::text(&e))))?;
                let json: serde_json::Value = serde_json::from_slice(&profile).map_err(|e| {
                    Fail::new(format!("compacting json for seccomp profile ({file}) failed: {e}"))
                })?;
                out.push(format!("seccomp={json}"));
            }
            _ => out.push(text.clone()),
        }
    }
    Ok((Some(out).filter(|o| !o.is_empty()), unconfined_paths))
}

fn gpus(list: &[String]) -> Result<Option<Vec<DeviceRequest>>> {
    let mut out = Vec::new();
    for text in list {
        let mut request = DeviceRequest {
            capabilities: Some(vec![vec!["gpu".into()]]),
            ..DeviceRequest::default()
        };
        for field in values::csv(text)? {
            match field.split_once('=').unwrap_or(("count", field.as_str())) {
                ("count", "all") => request.count = -1,
                ("count", n) => {
                    request.count = n.parse().map_err(|_| {
                        Fail::new(format!(
                            "invalid count ({n}): value must be either \"all\" or an integer"
                        ))
                    })?;
                }
                ("driver", name) => name.clone_into(&mut request.driver),
                ("device", ids) => {
                    request.device_ids = Some(ids.split(',').map(str::to_owned).collect());
                }
                ("capabilities", names) => {
                    let mut names: Vec<String> = names.split(',').map(str::to_owned).collect();
                    names.push("gpu".into());
                    request.capabilities = Some(vec![names]);
                }
                ("options", options) => {
                    let options: Vec<String> = options.split(',').map(str::to_owned).collect();
                    request.options = Some(values::map(&options));
                }
                (key, _) => return Err(Fail::new(format!("unexpected key '{key}' in '{field}'"))),
            }
        }
        out.push(request);
    }
    Ok(Some(out).filter(|o| !o.is_empty()))
}
