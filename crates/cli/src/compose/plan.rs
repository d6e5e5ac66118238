//! `compose plan`: what `up` would do, and why, before it does it.

use super::{ANY, Compose, Sub, engine::Engine};
use crate::{
    error::Result,
    flags::{Flag, Given, Kind, Words, flag},
};
use api::model::{ContainerInspect, ContainerSummary};
use compose::{Action, Body, Observed, Project, Step};
use serde_json::{Value, json};
use std::{collections::BTreeMap, io::Write};

const FLAGS: &[Flag] = &[
    flag(
        "always-recreate-deps",
        Kind::Bool,
        "Recreate dependent containers. Incompatible with --no-recreate.",
    ),
    flag("detailed-exit-code", Kind::Bool, "End with 2 when something would change"),
    flag("format", Kind::Text, "Format the output. Values: [text | json]"),
];

pub(super) const PLAN: Sub = Sub {
    name: "plan",
    usage: " [OPTIONS] [SERVICE...]",
    about: "Tell what `up` would change and why, and change nothing",
    words: Words::Anywhere,
    count: ANY,
    flags: &[super::up::WISHES, FLAGS],
    run,
};

fn run(compose: &mut Compose<'_>, given: &Given) -> Result<()> {
    let mut project = compose.project(&given.words)?;
    let making = super::up::making(&mut project, given)?;
    project.check_container_names()?;
    let engine = compose.engine()?;
    let observed = engine.observe(&project)?;
    let mut steps = project.plan(&observed, &making.request)?;
    explain(&engine, &project, &observed, &mut steps)?;
    let changes = steps.iter().filter(|s| s.action != Action::Keep).count();
    let out = &mut compose.ui.out;
    if given.text("format") == Some("json") {
        let all: Vec<Value> = steps
            .iter()
            .map(|s| json!({"subject": s.subject, "action": s.action.word(), "reasons": s.reasons}))
            .collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&all).unwrap_or_default())?;
    } else {
        for step in &steps {
            let sign = match step.action {
                Action::Create | Action::Pull | Action::Build => '+',
                Action::Recreate => '~',
                Action::Remove => '-',
                Action::Start => '>',
                Action::Keep => '=',
            };
            writeln!(out, "{sign} {:<8}  {}", step.action.word(), step.subject)?;
            for reason in &step.reasons {
                writeln!(out, "              {reason}")?;
            }
        }
        let mut counts: BTreeMap<Action, usize> = BTreeMap::new();
        for step in &steps {
            *counts.entry(step.action).or_default() += 1;
        }
        let told: Vec<String> =
            counts.iter().map(|(a, n)| format!("{n} to {}", a.word())).collect();
        let told = if told.is_empty() { "nothing to do".to_owned() } else { told.join(", ") };
        writeln!(out, "\nPlan: {told}.")?;
    }
    if given.is("detailed-exit-code") && changes > 0 {
        out.flush()?;
        return Err(crate::error::Fail::code(2));
    }
    Ok(())
}

/// Says what of a configuration changed, where a container is made again for that.
fn explain(
    engine: &Engine,
    project: &Project,
    observed: &Observed,
    steps: &mut [Step],
) -> Result<()> {
    for service in project.service_names() {
        for container in project.containers_of(&service, &observed.containers) {
            let subject = format!("Container {}", compose::name_of(container));
            let Some(step) =
                steps.iter_mut().find(|s| s.subject == subject && s.action == Action::Recreate)
            else {
                continue;
            };
            let Some(at) = step.reasons.iter().position(|r| r == "its configuration changed")
            else {
                continue;
            };
            let Some(inspected) = engine.inspect(&container.id)? else { continue };
            let Some(body) = wanted(engine, project, observed, &service, container)? else {
                continue;
            };
            let found = differences(&inspected, &body);
            let lines = found.into_iter().map(|d| format!("  {d}"));
            step.reasons.splice(at + 1..at + 1, lines);
        }
    }
    Ok(())
}

fn wanted(
    engine: &Engine,
    project: &Project,
    observed: &Observed,
    service: &str,
    container: &ContainerSummary,
) -> Result<Option<Body>> {
    let first = |other: &str| {
        let all = project.containers_of(other, &observed.containers);
        Some(all.first().map_or_else(|| format!("(new) {other}"), |c| c.id.clone()))
    };
    let resolved = project.resolved(service, &first)?;
    let number = compose::number_of(container);
    let asked = engine.asked(project, service, Some(number), observed)?;
    Ok(Some(project.body(&resolved, &asked)?))
}

/// Names what differs between a container and what is asked for, where the two can be told apart.
fn differences(now: &ContainerInspect, want: &Body) -> Vec<String> {
    let mut out = Vec::new();
    let shown = |v: &Value| match v {
        Value::Null => "(none)".to_owned(),
        Value::String(text) if text.is_empty() => "(none)".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut told = |what: &str, old: Value, new: Value| {
        let empty = |v: &Value| match v {
            Value::Null => true,
            Value::String(s) => s.is_empty(),
            Value::Array(a) => a.is_empty(),
            Value::Object(o) => o.is_empty(),
            Value::Number(n) => n.as_i64() == Some(0),
            Value::Bool(b) => !b,
        };
        if old != new && !(empty(&old) && empty(&new)) {
            out.push(format!("{what}: {} -> {}", shown(&old), shown(&new)));
        }
    };
    let (config, host) = (&now.config, &now.host_config);
    told("image", json!(config.image), json!(want.config.image));
    let pairs = |list: &Option<Vec<String>>| -> BTreeMap<String, String> {
        let all = list.iter().flatten();
        all.map(|e| e.split_once('=').unwrap_or((e, "")))
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect()
    };
    let (old, new) = (pairs(&config.env), pairs(&want.config.env));
    // What the image sets is not ours to compare.
    for (name, value) in &new {
        told(&format!("environment {name}"), json!(old.get(name)), json!(value));
    }
    if let Some(command) = &want.config.cmd {
        told("command", json!(config.cmd), json!(command));
    }
    if let Some(entrypoint) = &want.config.entrypoint {
        told("entrypoint", json!(config.entrypoint), json!(entrypoint));
    }
    let own = |labels: &Option<BTreeMap<String, String>>| -> BTreeMap<String, String> {
        let all = labels.iter().flatten();
        all.filter(|(k, _)| !k.starts_with("com.docker.compose."))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    };
    let (old, new) = (own(&config.labels), own(&want.config.labels));
    for (name, value) in &new {
        told(&format!("label {name}"), json!(old.get(name)), json!(value));
    }
    for (what, old, new) in [
        ("user", &config.user, &want.config.user),
        ("working_dir", &config.working_dir, &want.config.working_dir),
    ] {
        if !new.is_empty() {
            told(what, json!(old), json!(new));
        }
    }
    if !want.config.hostname.is_empty() {
        told("hostname", json!(config.hostname), json!(want.config.hostname));
    }
    if let Some(check) = &want.config.healthcheck {
        told("healthcheck", json!(config.healthcheck), json!(check));
    }
    told("stop_grace_period", json!(config.stop_timeout), json!(want.config.stop_timeout));
    told("tty", json!(config.tty), json!(want.config.tty));
    let new = &want.host_config;
    told("ports", json!(host.port_bindings), json!(new.port_bindings));
    told("volumes", json!(host.binds), json!(new.binds));
    told("mounts", json!(host.mounts), json!(new.mounts));
    told("tmpfs", json!(host.tmpfs), json!(new.tmpfs));
    told("privileged", json!(host.privileged), json!(new.privileged));
    told("read_only", json!(host.readonly_rootfs), json!(new.readonly_rootfs));
    told("cap_add", json!(host.cap_add), json!(new.cap_add));
    told("cap_drop", json!(host.cap_drop), json!(new.cap_drop));
    told("init", json!(host.init), json!(new.init));
    told("memory", json!(host.memory), json!(new.memory));
    told("cpus", json!(host.nano_cpus), json!(new.nano_cpus));
    told("sysctls", json!(host.sysctls), json!(new.sysctls));
    told("extra_hosts", json!(host.extra_hosts), json!(new.extra_hosts));
    told("devices", json!(host.devices), json!(new.devices));
    let policy = |p: &api::model::RestartPolicy| {
        let name = if p.name.is_empty() { "no" } else { &p.name };
        json!(format!("{name}:{}", p.maximum_retry_count))
    };
    told("restart", policy(&host.restart_policy), policy(&new.restart_policy));
    let on = |names: Option<Vec<&String>>| {
        json!(names.map(|mut n| {
            n.sort();
            n.into_iter().cloned().collect::<Vec<_>>()
        }))
    };
    let old = now.network_settings.networks.as_ref().map(|n| n.keys().collect());
    let new = want.networking_config.endpoints_config.as_ref().map(|n| n.keys().collect());
    if want.networking_config.endpoints_config.is_some() {
        told("networks", on(old), on(new));
    } else {
        told("network_mode", json!(host.network_mode), json!(want.host_config.network_mode));
    }
    out
}
