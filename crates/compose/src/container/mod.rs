//! A service as the body of `POST /containers/create`: the same as docker compose 2.40.3 sends, field by field.
//!
//! Needs API 1.44, where a container is made with all of its networks at once.

mod mounts;
mod network;
pub(crate) mod resources;

pub use mounts::Injected;

use crate::{
    decode,
    error::{Error, Result},
    hash, labels,
    project::{Project, image_of},
    value::{Fields, Value},
};
use api::model::{
    ContainerConfig, ContainerSummary, Empty, HealthConfig, HostConfig, LogConfig,
    NetworkingConfig, PortBinding, RestartPolicy,
};
use serde::Serialize;
use std::collections::BTreeMap;

/// The body of a create request.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Body {
    /// What the container is.
    #[serde(flatten)]
    pub config: ContainerConfig,
    /// What it asks of its host.
    pub host_config: HostConfig,
    /// Its networks.
    pub networking_config: NetworkingConfig,
}

/// What is known of the engine while a service becomes a container.
#[derive(Clone, Debug, Default)]
pub struct Asked<'a> {
    /// Its number; none for one-off containers.
    pub number: Option<u32>,
    /// Labels beside the service's own.
    pub labels: BTreeMap<String, String>,
    /// Whether it is removed when it ends.
    pub auto_remove: bool,
    /// Whether its input is ours.
    pub attach_stdin: bool,
    /// Whether it is found by the service's name.
    pub aliases: bool,
    /// The container whose anonymous volumes it takes over.
    pub inherit: Option<&'a ContainerSummary>,
    /// Where the image has volumes.
    pub image_volumes: Vec<String>,
    /// Variables for proxies, below the service's own.
    pub proxies: Vec<(String, String)>,
    /// Links to other containers, as `name:alias`.
    pub links: Vec<String>,
}

/// A service whose references to other services have become references to containers.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its name.
    pub name: String,
    pub(crate) fields: Fields,
}

impl Project {
    /// The service of this name; `container` gives the first container of another one.
    ///
    /// # Errors
    /// No such service, or what it shares has no container.
    pub fn resolved(
        &self,
        name: &str,
        container: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Service> {
        let mut fields = self.service(name)?.clone();
        let missing = |what: &str, other: &str| {
            Error::at(
                &fields.at,
                format!("cannot share {what} with service {other}: container missing"),
            )
        };
        let mut changes: Vec<(&'static str, Value)> = Vec::new();
        for (key, what) in [
            ("network_mode", "network namespace"),
            ("ipc", "IPC namespace"),
            ("pid", "PID namespace"),
        ] {
            if let Some(other) = fields.text(key).strip_prefix("service:") {
                let id = container(other).ok_or_else(|| missing(what, other))?;
                changes.push((key, Value::Text(format!("container:{id}"))));
            }
        }
        let sources: Vec<Value> = fields
            .texts("volumes_from")
            .map(|source| {
                let (first, rest) = source.split_once(':').unwrap_or((source, ""));
                if first == "container" {
                    return Ok(Value::Text(rest.split(':').next().unwrap_or_default().to_owned()));
                }
                container(first).map(Value::Text).ok_or_else(|| missing("volume", first))
            })
            .collect::<Result<_>>()?;
        if !sources.is_empty() {
            changes.push(("volumes_from", Value::List(sources)));
        }
        fields.set.extend(changes);
        Ok(Service { name: name.to_owned(), fields })
    }

    /// Labels that every container of a service has.
    pub fn custom_labels(&self, service: &str) -> BTreeMap<String, String> {
        let mut all = BTreeMap::from([
            (labels::PROJECT.to_owned(), self.name.clone()),
            (labels::SERVICE.to_owned(), service.to_owned()),
            (labels::VERSION.to_owned(), labels::OUR_VERSION.to_owned()),
            (labels::WORKING_DIR.to_owned(), self.directory.to_string_lossy().into_owned()),
            (labels::CONFIG_FILES.to_owned(), self.files.join(",")),
            (labels::ONE_OFF.to_owned(), "False".to_owned()),
        ]);
        if !self.env_files.is_empty() {
            all.insert(labels::ENV_FILE.to_owned(), self.env_files.join(","));
        }
        all
    }

    /// The name of a service's container of this number.
    pub fn container_name(&self, service: &str, number: u32) -> String {
        match self.services.get(service).map(|s| s.text("container_name")) {
            Some(name) if !name.is_empty() => name.to_owned(),
            _ => [&self.name, service, &number.to_string()].join(&self.separator),
        }
    }

    /// The body that makes a container of `service`.
    ///
    /// # Errors
    /// What cannot be asked of an engine.
    pub fn body(&self, service: &Service, asked: &Asked<'_>) -> Result<Body> {
        let (name, of) = (service.name.as_str(), &service.fields);
        if of.flag("use_api_socket") {
            return Err(Error::at(
                &of.at,
                format!("services.{name}: use_api_socket is not supported"),
            )
            .hint("mount the socket as a volume"));
        }
        if of.get("provider").is_some() {
            let text = format!("services.{name}: providers are not supported");
            return Err(Error::at(&of.at, text));
        }
        if of.map("models").next().is_some() {
            return Err(Error::at(&of.at, format!("services.{name}: models are not supported")));
        }
        let words = |key: &str| {
            of.get(key).and_then(Value::as_list).map(|l| {
                l.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<String>>()
            })
        };
        let some = |list: Vec<String>| Some(list).filter(|l| !l.is_empty());
        let texts = |key: &str| some(of.texts(key).map(str::to_owned).collect());
        let text = |key: &str| of.text(key).to_owned();
        let config = ContainerConfig {
            hostname: text("hostname"),
            domainname: text("domainname"),
            user: text("user"),
            attach_stdin: asked.attach_stdin,
            attach_stdout: true,
            attach_stderr: true,
            exposed_ports: Some(exposed(of)).filter(|p| !p.is_empty()),
            tty: of.flag("tty"),
            open_stdin: of.flag("stdin_open"),
            stdin_once: asked.attach_stdin && of.flag("stdin_open"),
            env: some(environment(of, &asked.proxies)),
            cmd: words("command"),
            healthcheck: health(of)?,
            image: image_of(&self.name, &self.separator, name, of),
            working_dir: text("working_dir"),
            entrypoint: words("entrypoint"),
            network_disabled: of.text("network_mode") == "disabled",
            labels: Some(self.labels(service, asked)),
            stop_signal: Some(text("stop_signal")).filter(|s| !s.is_empty()),
            stop_timeout: decode::span(of.text("stop_grace_period")).map(|n| n / 1_000_000_000),
            ..ContainerConfig::default()
        };
        let tmpfs: BTreeMap<String, String> = of
            .texts("tmpfs")
            .map(|t| t.split_once(':').unwrap_or((t, "")))
            .map(|(path, options)| (path.to_owned(), options.to_owned()))
            .collect();
        let (network_mode, networking_config) = network::settings(self, service, asked);
        let (binds, mounts) = mounts::of(self, service, asked)?;
        let (security_opt, unconfined) = resources::security(self, of)?;
        let mut host_config = HostConfig {
            auto_remove: asked.auto_remove,
            annotations: pairs(of, "annotations"),
            binds: some(binds),
            mounts: Some(mounts).filter(|m| !m.is_empty()),
            cap_add: some(capabilities(of, "cap_add")),
            cap_drop: some(capabilities(of, "cap_drop")),
            network_mode,
            init: of.get("init").map(|_| of.flag("init")),
            ipc_mode: text("ipc"),
            cgroupns_mode: text("cgroup"),
            readonly_rootfs: of.flag("read_only"),
            restart_policy: restart(of),
            shm_size: bytes(of, "shm_size"),
            sysctls: pairs(of, "sysctls"),
            port_bindings: Some(published(of)),
            volumes_from: texts("volumes_from"),
            dns: texts("dns"),
            dns_search: texts("dns_search"),
            dns_options: texts("dns_opt"),
            extra_hosts: Some(of.texts("extra_hosts").map(|h| h.replacen('=', ":", 1)).collect()),
            security_opt,
            storage_opt: pairs(of, "storage_opt"),
            userns_mode: text("userns_mode"),
            uts_mode: text("uts"),
            privileged: of.flag("privileged"),
            pid_mode: text("pid"),
            tmpfs: Some(tmpfs).filter(|t| !t.is_empty()),
            isolation: text("isolation"),
            runtime: text("runtime"),
            log_config: log(of),
            group_add: texts("group_add"),
            links: some(asked.links.clone()),
            oom_score_adj: of.int("oom_score_adj").unwrap_or_default(),
            ..HostConfig::default()
        };
        if unconfined {
            host_config.masked_paths = Some(Vec::new());
            host_config.readonly_paths = Some(Vec::new());
        }
        resources::fill(of, &mut host_config);
        Ok(Body { config, host_config, networking_config })
    }

    fn labels(&self, service: &Service, asked: &Asked<'_>) -> BTreeMap<String, String> {
        let of = &service.fields;
        let mut all = pairs(of, "labels").unwrap_or_default();
        all.extend(self.custom_labels(&service.name));
        all.extend(asked.labels.clone());
        all.insert(labels::HASH.into(), service.hash());
        if let Some(number) = asked.number {
            all.insert(labels::NUMBER.into(), number.to_string());
        }
        let needs: Vec<String> = of
            .map("depends_on")
            .filter_map(|(other, d)| {
                let d = d.as_fields()?;
                Some(format!("{other}:{}:{}", d.text("condition"), d.flag("restart")))
            })
            .collect();
        all.insert(labels::DEPENDS_ON.into(), needs.join(","));
        all
    }
}

impl Service {
    /// By which a container of it is known to be up to date.
    pub fn hash(&self) -> String {
        hash::service(&self.fields)
    }

    /// Networks by priority, the first being the container's main one.
    pub fn networks(&self) -> Vec<String> {
        network::by_priority(&self.fields)
    }
}

/// A mapping of strings; `None` when it is empty.
pub(crate) fn pairs(of: &Fields, key: &str) -> Option<BTreeMap<String, String>> {
    let all: BTreeMap<String, String> =
        of.map(key).filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect();
    Some(all).filter(|a| !a.is_empty())
}

/// A size in bytes.
pub(crate) fn bytes(of: &Fields, key: &str) -> i64 {
    of.text(key).parse().unwrap_or_default()
}

/// The environment of a service or hook, sorted; names alone have no value.
pub(crate) fn variables(of: &Fields) -> Vec<String> {
    of.map("environment")
        .map(|(name, value)| match value.as_str() {
            Some(value) => format!("{name}={value}"),
            None => name.clone(),
        })
        .collect()
}

/// Capabilities in their full names, as docker's clients send them.
fn capabilities(of: &Fields, key: &str) -> Vec<String> {
    let full = |name: &str| {
        let name = name.to_uppercase();
        if name == "ALL" || name.starts_with("CAP_") { name } else { format!("CAP_{name}") }
    };
    let all: std::collections::BTreeSet<String> = of.texts(key).map(full).collect();
    all.into_iter().collect()
}

fn environment(of: &Fields, proxies: &[(String, String)]) -> Vec<String> {
    let own: BTreeMap<&String, &Value> = of.map("environment").collect();
    let mut all: Vec<String> = proxies
        .iter()
        .filter(|(name, _)| !own.contains_key(name))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    all.extend(variables(of));
    all
}

fn health(of: &Fields) -> Result<Option<HealthConfig>> {
    let Some(check) = of.fields("healthcheck") else { return Ok(None) };
    let span = |key: &str| decode::span(check.text(key)).unwrap_or_default();
    if check.get("start_interval").is_some() && check.get("start_period").is_none() {
        let text = "healthcheck.start_interval requires healthcheck.start_period to be set";
        return Err(Error::at(&check.at, text));
    }
    let mut test: Vec<String> = check.texts("test").map(str::to_owned).collect();
    if check.flag("disable") {
        test = vec!["NONE".into()];
    }
    Ok(Some(HealthConfig {
        test: Some(test).filter(|t| !t.is_empty()),
        interval: span("interval"),
        timeout: span("timeout"),
        start_period: span("start_period"),
        start_interval: span("start_interval"),
        retries: check.int("retries").unwrap_or_default(),
    }))
}

fn log(of: &Fields) -> LogConfig {
    match of.fields("logging") {
        Some(logging) => LogConfig {
            r#type: logging.text("driver").to_owned(),
            config: pairs(logging, "options"),
        },
        None => LogConfig::default(),
    }
}

fn restart(of: &Fields) -> RestartPolicy {
    let named = |condition: &str| {
        match condition {
            "none" | "no" => "no",
            "any" | "always" => "always",
            other => other,
        }
        .to_owned()
    };
    let mut policy = RestartPolicy::default();
    let text = of.text("restart");
    if !text.is_empty() {
        let (condition, attempts) = text.split_once(':').unwrap_or((text, "0"));
        policy.name = named(condition);
        policy.maximum_retry_count = attempts.parse().unwrap_or_default();
    }
    if let Some(asked) = of.fields("deploy").and_then(|d| d.fields("restart_policy")) {
        policy.name = named(asked.text("condition"));
        policy.maximum_retry_count = asked.int("max_attempts").unwrap_or_default();
    }
    policy
}

fn port(of: &Fields) -> String {
    format!("{}/{}", of.int("target").unwrap_or_default(), of.text("protocol"))
}

fn exposed(of: &Fields) -> BTreeMap<String, Empty> {
    let published = of.list("ports").filter_map(Value::as_fields).map(port);
    let exposed = of.texts("expose").map(str::to_owned);
    exposed.chain(published).map(|p| (p, Empty {})).collect()
}

fn published(of: &Fields) -> BTreeMap<String, Option<Vec<PortBinding>>> {
    let mut all: BTreeMap<String, Option<Vec<PortBinding>>> = BTreeMap::new();
    for one in of.list("ports").filter_map(Value::as_fields) {
        all.entry(port(one)).or_default().get_or_insert_default().push(PortBinding {
            host_ip: one.text("host_ip").to_owned(),
            host_port: one.text("published").to_owned(),
        });
    }
    all
}
