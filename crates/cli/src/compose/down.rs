//! `compose down`: takes away what `up` made.

use super::{
    ANY, Compose, Sub,
    create::ask,
    engine::{Engine, Volumes},
    graph::{self, Before},
};
use crate::{
    client::{Query, part},
    error::{Fail, Result},
    flags::{Flag, Given, Kind, Words, flag, short},
};
use api::model::ContainerSummary;
use compose::{Moment, Project, labels};
use std::collections::{BTreeMap, BTreeSet};

const FLAGS: &[Flag] = &[
    flag(
        "remove-orphans",
        Kind::Bool,
        "Remove containers for services not defined in the Compose file",
    ),
    flag(
        "rmi",
        Kind::Text,
        "Remove images used by services. \"local\" remove only images that don't have a custom tag (\"local\"|\"all\")",
    ),
    short('t', "timeout", Kind::Int, "Specify a shutdown timeout in seconds"),
    short(
        'v',
        "volumes",
        Kind::Bool,
        "Remove named volumes declared in the \"volumes\" section of the Compose file and anonymous volumes attached to containers",
    ),
];

pub(super) const DOWN: Sub = Sub {
    name: "down",
    usage: " [OPTIONS] [SERVICES]",
    about: "Stop and remove containers, networks",
    words: Words::Anywhere,
    count: ANY,
    flags: &[FLAGS],
    run,
};

/// The services of containers, and what they depend on by their labels: a project without its files.
pub(super) fn graph_of(containers: &[ContainerSummary]) -> Before {
    let mut before = Before::new();
    for container in containers {
        let label = |name: &str| container.labels.get(name).map(String::as_str).unwrap_or_default();
        let needs = label(labels::DEPENDS_ON).split(',').filter_map(|d| d.split(':').next());
        let needs: Vec<String> = needs.filter(|n| !n.is_empty()).map(str::to_owned).collect();
        before.entry(label(labels::SERVICE).to_owned()).or_insert(needs);
    }
    before
}

/// The same of a project.
pub(super) fn graph_of_project(project: &Project) -> Before {
    let names = project.service_names().into_iter();
    names
        .map(|s| {
            let needs = project.needs(&s).into_iter().map(|n| n.service).collect();
            (s, needs)
        })
        .collect()
}

fn of_service<'a>(all: &'a [ContainerSummary], service: &str) -> Vec<&'a ContainerSummary> {
    let mine = |c: &&ContainerSummary| c.labels.get(labels::SERVICE).is_some_and(|s| s == service);
    all.iter().filter(mine).collect()
}

fn run(compose: &mut Compose<'_>, given: &Given) -> Result<()> {
    let images = given.text("rmi").unwrap_or_default();
    if !["", "all", "local"].contains(&images) {
        return Err(Fail::new(format!("invalid value for --rmi: {images:?}")));
    }
    let (project, name) = compose.project_or_name(&[])?;
    let engine = compose.engine()?;
    let mut orphans = given.is("remove-orphans");
    if !given.has("remove-orphans") {
        orphans = super::up::truth(std::env::var("COMPOSE_REMOVE_ORPHANS").ok().as_ref());
    }
    let all = engine.containers(&name)?;
    let mut containers: Vec<ContainerSummary> =
        all.iter().filter(|c| orphans || compose::is_regular(c)).cloned().collect();
    if let Some(project) = &project {
        project.known(&given.words)?;
    }
    let mut before = match &project {
        Some(project) => graph_of_project(project),
        None => graph_of(&containers),
    };
    if !given.words.is_empty() {
        // With whatever needs them.
        let mut wanted: BTreeSet<String> = given.words.iter().cloned().collect();
        loop {
            let more: Vec<String> = before
                .iter()
                .filter(|(n, needs)| {
                    !wanted.contains(*n) && needs.iter().any(|d| wanted.contains(d))
                })
                .map(|(n, _)| n.clone())
                .collect();
            if more.is_empty() {
                break;
            }
            wanted.extend(more);
        }
        before.retain(|n, _| wanted.contains(n));
    }
    let known: BTreeSet<&String> = before.keys().collect();
    // Services of profiles that are not active are no orphans.
    let extra: Vec<ContainerSummary> = match &project {
        Some(project) if orphans && given.words.is_empty() => {
            project.orphans(&containers).into_iter().cloned().collect()
        }
        _ => Vec::new(),
    };
    containers.retain(|c| c.labels.get(labels::SERVICE).is_some_and(|s| known.contains(s)));
    let volumes = if given.is("volumes") { Volumes::Remove } else { Volumes::Keep };
    let timeout = given.int("timeout");
    containers.retain(|c| !extra.iter().any(|e| e.id == c.id));
    let found = !containers.is_empty() || !extra.is_empty();
    graph::in_order(&graph::reversed(&before), engine.most, |service| {
        engine.each(&of_service(&containers, service), |c| {
            engine.stop_with_hooks(project.as_ref(), service, c, timeout)?;
            engine.remove(c, volumes, true)
        })
    })?;
    engine.each(&extra, |c| {
        engine.stop(c, timeout)?;
        engine.remove(c, Volumes::Keep, true)
    })?;
    let used: BTreeMap<String, String> = all
        .iter()
        .filter_map(|c| Some((c.labels.get(labels::SERVICE)?.clone(), c.image.clone())))
        .collect();
    let more = engine.remove_rest(project.as_ref(), &name, given, &used)?;
    if !found && !more {
        engine
            .progress
            .warn(&format!("Warning: No resource found to remove for project {name:?}."));
    }
    Ok(())
}

impl Engine {
    /// Stops a container after its hooks.
    pub(super) fn stop_with_hooks(
        &self,
        project: Option<&Project>,
        service: &str,
        container: &ContainerSummary,
        timeout: Option<i64>,
    ) -> Result<()> {
        if container.state == "running" {
            let hooks = project.map(|p| p.hooks(service, Moment::PreStop)).unwrap_or_default();
            for hook in hooks {
                self.hook(service, &container.id, &hook)?;
            }
        }
        self.stop(container, timeout)
    }

    /// Stops all of a project, what is needed last.
    pub(super) fn stop_project(&self, project: &Project, timeout: Option<i64>) -> Result<()> {
        let all = self.containers(&project.name)?;
        graph::in_order(&graph::reversed(&graph_of_project(project)), self.most, |service| {
            let mine = project.containers_of(service, &all);
            self.each(&mine, |c| self.stop_with_hooks(Some(project), service, c, timeout))
        })
    }

    /// Networks, volumes and images; whether there were any.
    fn remove_rest(
        &self,
        project: Option<&Project>,
        name: &str,
        given: &Given,
        used: &BTreeMap<String, String>,
    ) -> Result<bool> {
        let mut rest: Vec<(&str, String)> = Vec::new();
        let made_here = |refs: Vec<(String, String, bool)>| {
            refs.into_iter().filter(|(.., external)| !external).map(|(_, name, _)| name)
        };
        match project {
            Some(project) => rest.extend(made_here(project.network_refs()).map(|n| ("Network", n))),
            None => rest.extend(self.networks_of(name)?.into_iter().map(|n| ("Network", n.name))),
        }
        if given.is("volumes") {
            match project {
                Some(project) => {
                    rest.extend(made_here(project.volume_refs()).map(|n| ("Volume", n)));
                }
                None => rest.extend(self.volumes_of(name)?.into_iter().map(|v| ("Volume", v.name))),
            }
        }
        if let Some(which) = given.text("rmi") {
            // Without the files, what was built is known by its name.
            let named: Vec<(String, bool)> = match project {
                Some(p) => p
                    .service_names()
                    .iter()
                    .filter_map(|s| Some((p.image(s)?, p.builds(s) && !p.has_image(s))))
                    .collect(),
                None => used
                    .iter()
                    .map(|(service, image)| (image.clone(), *image == format!("{name}-{service}")))
                    .collect(),
            };
            let wanted = named.into_iter().filter(|(_, own)| which == "all" || *own);
            rest.extend(wanted.map(|(image, _)| ("Image", image)));
            rest.sort();
            rest.dedup();
        }
        let any = std::sync::atomic::AtomicBool::new(false);
        self.each(&rest, |(kind, thing)| {
            if self.remove_thing(kind, thing)? {
                any.store(true, std::sync::atomic::Ordering::Relaxed);
            }
            Ok(())
        })?;
        Ok(any.into_inner())
    }

    fn remove_thing(&self, kind: &str, name: &str) -> Result<bool> {
        let there = match kind {
            "Network" => self.network(name)?.map(|n| n.id),
            "Volume" => self.volume(name)?.map(|v| v.name),
            _ => self.image(name)?.map(|_| name.to_owned()),
        };
        let Some(id) = there else { return Ok(false) };
        let subject = format!("{kind} {name}");
        let path = match kind {
            "Network" => format!("/networks/{}", part(&id)),
            "Volume" => format!("/volumes/{}", part(&id)),
            _ => format!("/images/{}", part(name)),
        };
        self.progress.say(&subject, "Removing");
        match self.client.delete(&path, &Query::new().flag("force", kind == "Volume")) {
            Ok(_) => self.progress.say(&subject, "Removed"),
            Err(err) if err.is_missing() => self.progress.say(&subject, "Removed"),
            // Somebody else has it.
            Err(crate::client::Error::Refused { status: 409 | 403, .. }) => {
                self.progress.say(&subject, "Resource is still in use");
            }
            Err(err) => return Err(err.into()),
        }
        Ok(true)
    }
}

/// Asks before something is taken away.
pub(super) fn confirmed(force: bool, question: &str) -> Result<bool> {
    if force { Ok(true) } else { ask(question) }
}
