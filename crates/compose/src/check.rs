//! Whether the parts of a project fit together: references, contradictions, cycles.
//!
//! Source: docker compose 2.40.3 (rules and their words); places and hints are ours.

use crate::{
    error::{Error, Result, suggest},
    node::{Node, Path, wrong},
    project::{Objects, Project},
    value::{Fields, Value},
};
use std::{collections::BTreeMap, net::IpAddr};

/// What can be said of the merged tree before it is decoded.
pub(crate) fn objects(root: &Node) -> Result<()> {
    let section = |name: &str| root.get(name).and_then(Node::as_map).into_iter().flatten();
    for (name, volume) in section("volumes") {
        external(volume, &Path::of(&["volumes", name]))?;
    }
    for (name, config) in section("configs") {
        source(config, &Path::of(&["configs", name]), &["file", "environment", "content"])?;
    }
    for (name, secret) in section("secrets") {
        source(secret, &Path::of(&["secrets", name]), &["file", "environment"])?;
    }
    for (name, service) in section("services") {
        for port in service.get("ports").and_then(Node::as_list).unwrap_or_default() {
            if let Some(ip) = port.get_str("host_ip")
                && ip.parse::<IpAddr>().is_err()
            {
                let path = Path::of(&["services", name, "ports"]);
                return wrong(port, &path, &format!("has an invalid ip address: {ip}"));
            }
        }
        let watched = service.get("develop").and_then(|d| d.get("watch")).and_then(Node::as_list);
        for trigger in watched.unwrap_or_default() {
            if trigger.get_str("path") == Some("") {
                let path = Path::of(&["services", name, "develop", "watch", "path"]);
                return wrong(trigger, &path, "value can't be blank");
            }
        }
        let reserved = ["deploy", "resources", "reservations"]
            .iter()
            .try_fold(service, |node, key| node.get(key))
            .and_then(|r| r.get("devices"));
        for devices in [reserved, service.get("gpus")].into_iter().flatten() {
            for device in devices.as_list().unwrap_or_default() {
                if device.get("count").is_some() && device.get("device_ids").is_some() {
                    let text = "\"count\" and \"device_ids\" attributes are exclusive";
                    return Err(Error::at(&device.at, format!("services.{name}: {text}")));
                }
            }
        }
    }
    Ok(())
}

fn external(node: &Node, path: &Path) -> Result<()> {
    let Some(map) = node.as_map() else { return Ok(()) };
    let is_external = map.get("external").and_then(Node::scalar).as_deref() == Some("true");
    for (key, value) in map.iter().filter(|_| is_external) {
        if !["name", "external"].contains(&key.as_str()) && !key.starts_with("x-") {
            let text = format!(
                "{}: conflicting parameters \"external\" and {key:?} specified",
                path.text()
            );
            return Err(Error::at(&value.at, text)
                .hint("what is external is made elsewhere: only its name can be given"));
        }
    }
    Ok(())
}

fn source(node: &Node, path: &Path, keys: &[&str]) -> Result<()> {
    let given = keys.iter().filter(|k| node.get(k).is_some()).count();
    let list = keys.join("|");
    if given > 1 {
        let text = format!("{}: {list} attributes are mutually exclusive", path.text());
        return Err(Error::at(&node.at, text));
    }
    if given == 0 && node.get("driver").is_none() && node.get("external").is_none() {
        return Err(Error::at(&node.at, format!("{}: one of {list} must be set", path.text())));
    }
    Ok(())
}

/// Everything that needs the whole project.
pub(crate) fn project(project: &mut Project) -> Result<()> {
    for (name, service) in &project.services {
        Checked { project, name, service }.all()?;
    }
    for (name, secret) in &project.secrets {
        if !secret.flag("external")
            && secret.text("file").is_empty()
            && secret.text("environment").is_empty()
        {
            let text = format!("secret {name:?} must declare either `file` or `environment`");
            return Err(Error::at(&secret.at, text));
        }
    }
    cycles(project)?;
    // Both are given and equal, or one is taken for the other.
    for service in project.services.values_mut() {
        if let Some(scale) = service.int("scale")
            && let Some(Value::Fields(deploy)) = service.set.get_mut("deploy")
        {
            deploy.set.insert("replicas", Value::Int(scale));
        }
    }
    Ok(())
}

/// Container names that two services ask for.
pub(crate) fn container_names(services: &Objects) -> Result<()> {
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, service) in services {
        let wanted = service.text("container_name");
        if wanted.is_empty() {
            continue;
        }
        if let Some(first) = seen.insert(wanted, name) {
            let text = format!(
                "services.{name}: container name {wanted:?} is already in use by service {first}"
            );
            return Err(Error::at(&service.at, text).hint("a container's name is there once"));
        }
    }
    Ok(())
}

struct Checked<'a> {
    project: &'a Project,
    name: &'a str,
    service: &'a Fields,
}

impl Checked<'_> {
    fn fail<T>(&self, path: &[&str], text: String, hint: &str) -> Result<T> {
        let all: Vec<&str> = ["services", self.name].iter().chain(path).copied().collect();
        let err = Error::at(self.project.root.place(&all), text);
        Err(if hint.is_empty() { err } else { err.hint(hint) })
    }

    fn all(&self) -> Result<()> {
        let (name, service) = (self.name, self.service);
        let has = |key: &str| service.get(key).is_some();
        if !has("build") && !has("image") && !has("provider") {
            let text = format!(
                "service {name:?} has neither an image nor a build context specified: invalid compose project"
            );
            return self.fail(&[], text, "give it an image: or a build:");
        }
        self.build()?;
        self.references()?;
        self.numbers()?;
        self.mounts()?;
        if let Some(first) = service.fields("healthcheck").and_then(|h| h.texts("test").next())
            && !["CMD", "CMD-SHELL", "NONE"].contains(&first)
        {
            let text = "healthcheck.test must start either by \"CMD\", \"CMD-SHELL\" or \"NONE\"";
            return self.fail(
                &["healthcheck", "test"],
                text.into(),
                "write it as a string to have a shell run it",
            );
        }
        let watched = service.fields("develop").map(|d| d.list("watch").collect::<Vec<_>>());
        for trigger in watched.into_iter().flatten().filter_map(Value::as_fields) {
            let action = trigger.text("action");
            if trigger.text("target").is_empty() && action != "rebuild" && action != "restart" {
                let text = format!(
                    "services.{name}.develop.watch: target is required for non-rebuild actions"
                );
                return Err(Error::at(&trigger.at, text));
            }
        }
        Ok(())
    }

    fn build(&self) -> Result<()> {
        let name = self.name;
        let Some(build) = self.service.fields("build") else { return Ok(()) };
        if !build.text("dockerfile").is_empty() && !build.text("dockerfile_inline").is_empty() {
            let text = format!(
                "service {name:?} declares mutualy exclusive dockerfile and dockerfile_inline"
            );
            return self.fail(&["build", "dockerfile_inline"], text, "");
        }
        for (context, target) in build.map("additional_contexts") {
            let Some(target) = target.as_str().and_then(|t| t.strip_prefix("service:")) else {
                continue;
            };
            let path = ["build", "additional_contexts", context];
            match self.project.services.get(target) {
                None => {
                    let text = format!(
                        "service {name:?} declares unknown service {target:?} as additional contexts {context}"
                    );
                    let known = self.project.services.keys().map(String::as_str);
                    return self.fail(&path, text, &suggest(target, known));
                }
                Some(other) if other.get("build").is_none() => {
                    let text = format!(
                        "service {name:?} declares non-buildable service {target:?} as additional contexts {context}"
                    );
                    return self.fail(&path, text, "");
                }
                Some(_) => {}
            }
        }
        for secret in build.list("secrets").filter_map(Value::as_fields) {
            self.defined(
                "build secret",
                secret.text("source"),
                &self.project.secrets,
                "secrets",
                &["build", "secrets"],
            )?;
        }
        let platform = self.service.text("platform");
        let platforms: Vec<&str> = build.texts("platforms").collect();
        if !platform.is_empty() && !platforms.is_empty() && !platforms.contains(&platform) {
            let text =
                format!("service.build.platforms MUST include service.platform {platform:?}");
            return self.fail(&["build", "platforms"], text, "");
        }
        Ok(())
    }

    fn defined(
        &self,
        what: &str,
        wanted: &str,
        all: &Objects,
        section: &str,
        path: &[&str],
    ) -> Result<()> {
        if all.contains_key(wanted) {
            return Ok(());
        }
        let text = format!(
            "service {:?} refers to undefined {what} {wanted}: invalid compose project",
            self.name
        );
        let hint = if all.is_empty() {
            format!("add it to {section}: at the top level")
        } else {
            suggest(wanted, all.keys().map(String::as_str))
        };
        self.fail(path, text, &hint)
    }

    fn references(&self) -> Result<()> {
        let (name, service, project) = (self.name, self.service, self.project);
        let mode = service.text("network_mode");
        if !mode.is_empty() && service.map("networks").next().is_some() {
            let text = format!(
                "service {name} declares mutually exclusive `network_mode` and `networks`: invalid compose project"
            );
            return self.fail(&["network_mode"], text, "take one of them away");
        }
        for (network, _) in service.map("networks") {
            self.defined(
                "network",
                network,
                &project.networks,
                "networks",
                &["networks", network],
            )?;
        }
        for (other, dependency) in service.map("depends_on") {
            let required = dependency.as_fields().is_some_and(|d| d.flag("required"));
            if project.services.contains_key(other)
                || !required && project.disabled.contains_key(other)
            {
                continue;
            }
            let text = format!(
                "service {name:?} depends on undefined service {other:?}: invalid compose project"
            );
            let known = project.services.keys().map(String::as_str);
            let hint = if project.disabled.contains_key(other) {
                "its profile is not active; set required: false if it may be missing".to_owned()
            } else {
                suggest(other, known)
            };
            return self.fail(&["depends_on", other], text, &hint);
        }
        if let Some(other) = mode.strip_prefix("service:")
            && !project.services.contains_key(other)
        {
            let text = format!("service {other:?} not found for network_mode 'service:{other}'");
            let hint = suggest(other, project.services.keys().map(String::as_str));
            return self.fail(&["network_mode"], text, &hint);
        }
        for mount in service.list("volumes").filter_map(Value::as_fields) {
            let source = mount.text("source");
            if mount.text("type") == "volume"
                && !source.is_empty()
                && !project.volumes.contains_key(source)
            {
                let text = format!(
                    "service {name:?} refers to undefined volume {source}: invalid compose project"
                );
                let hint =
                    match crate::error::meant(source, project.volumes.keys().map(String::as_str)) {
                        Some(other) => format!("did you mean {other:?}?"),
                        None => format!(
                            "add it to volumes: at the top level, or write ./{source} for a folder"
                        ),
                    };
                return Err(Error::at(&mount.at, text).hint(hint));
            }
        }
        let used =
            [("config", "configs", &project.configs), ("secret", "secrets", &project.secrets)];
        for (what, section, all) in used {
            for (at, one) in service.list(section).filter_map(Value::as_fields).enumerate() {
                self.defined(what, one.text("source"), all, section, &[section, &at.to_string()])?;
            }
        }
        for (model, _) in service.map("models") {
            self.defined("model", model, &project.models, "models", &["models", model])?;
        }
        Ok(())
    }

    fn numbers(&self) -> Result<()> {
        let (name, service) = (self.name, self.service);
        let deploy = service.fields("deploy");
        let replicas = deploy.and_then(|d| d.int("replicas"));
        let scale = service.int("scale");
        let differ = |a: &str, b: &str| {
            format!(
                "services.{name}: can't set distinct values on '{a}' and '{b}': invalid compose project"
            )
        };
        if let (Some(scale), Some(replicas)) = (scale, replicas)
            && scale != replicas
        {
            return self.fail(&["scale"], differ("scale", "deploy.replicas"), "");
        }
        for (key, number, path) in [
            ("scale", scale, &["scale"][..]),
            ("deploy.replicas", replicas, &["deploy", "replicas"]),
        ] {
            if number.is_some_and(|n| n < 0) {
                let text = format!("services.{name}.{key}: must be greater than or equal to 0");
                return self.fail(path, text, "");
            }
        }
        let resources = deploy.and_then(|d| d.fields("resources"));
        let limits = resources.and_then(|r| r.fields("limits"));
        let reserved = resources.and_then(|r| r.fields("reservations"));
        for (key, other, of, full) in [
            ("cpus", "cpus", limits, "deploy.resources.limits.cpus"),
            ("mem_limit", "memory", limits, "deploy.resources.limits.memory"),
            ("mem_reservation", "memory", reserved, "deploy.resources.reservations.memory"),
            ("pids_limit", "pids", limits, "deploy.resources.limits.pids"),
        ] {
            let shown = |v: Option<&Value>| v.map(crate::render::json);
            if let (Some(own), Some(of)) = (service.get(key), of)
                && shown(Some(own)) != shown(of.get(other))
            {
                return self.fail(&[key], differ(key, full), "");
            }
        }
        if scale.or(replicas).unwrap_or(1) > 1 && !service.text("container_name").is_empty() {
            let key = if scale.is_none() { "deploy.replicas" } else { "scale" };
            let text = format!(
                "services.{name}: can't set container_name and {key} as container name must be unique: invalid compose project"
            );
            return self.fail(&["container_name"], text, "take container_name away");
        }
        Ok(())
    }

    fn mounts(&self) -> Result<()> {
        let (name, service) = (self.name, self.service);
        let mut seen: BTreeMap<String, String> = BTreeMap::new();
        let tmpfs = service.texts("tmpfs").enumerate();
        let tmpfs = tmpfs.map(|(at, t)| ("tmpfs", at, t.split(':').next().unwrap_or_default()));
        let volumes = service.list("volumes").filter_map(Value::as_fields).enumerate();
        let volumes = volumes.map(|(at, v)| ("volumes", at, v.text("target")));
        for (key, at, target) in tmpfs.chain(volumes) {
            let place = format!("services.{name}.{key}[{at}]");
            if let Some(first) = seen.insert(target.to_owned(), place.clone()) {
                let text = format!("{place}: target {target} already mounted as {first}");
                return self.fail(&[key, &at.to_string()], text, "");
            }
        }
        Ok(())
    }
}

/// Services that wait for each other.
fn cycles(project: &Project) -> Result<()> {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        Open,
        Done,
    }
    fn visit<'a>(
        project: &'a Project,
        name: &'a str,
        states: &mut BTreeMap<&'a str, State>,
        chain: &mut Vec<&'a str>,
    ) -> Result<()> {
        match states.get(name) {
            Some(State::Done) => return Ok(()),
            Some(State::Open) => {
                let from = chain.iter().position(|n| *n == name).unwrap_or_default();
                let mut round: Vec<&str> = chain[from..].to_vec();
                round.push(name);
                let last = chain.last().copied().unwrap_or(name);
                let at = project.root.place(&["services", last, "depends_on", name]);
                let text = format!("dependency cycle detected: {}", round.join(" -> "));
                return Err(Error::at(at, text).hint("take one of these dependencies away"));
            }
            None => {}
        }
        let Some(service) = project.services.get(name) else { return Ok(()) };
        states.insert(name, State::Open);
        chain.push(name);
        for (other, _) in service.map("depends_on") {
            visit(project, other, states, chain)?;
        }
        chain.pop();
        states.insert(name, State::Done);
        Ok(())
    }
    const MOST_SERVICES: usize = 2_000;
    if project.services.len() > MOST_SERVICES {
        return Err(Error::new(format!("a project may have {MOST_SERVICES} services at most")));
    }
    let mut states = BTreeMap::new();
    for name in project.services.keys() {
        visit(project, name, &mut states, &mut Vec::new())?;
    }
    Ok(())
}
