//! Makes what a project asks for: networks, volumes, containers; not started yet.
//!
//! Containers of services that share nothing are made at once. A container that is made again takes a name of its own
//! until the old one is gone; it takes over the old one's anonymous volumes unless it is told not to.

use super::{
    engine::{Engine, Volumes},
    graph::{self, Before},
    images::Wanted,
};
use crate::{
    client::{Query, part},
    error::{Fail, Result},
};
use api::model::{ContainerCreated, ContainerSummary, NetworkConnect, NetworkCreated};
use compose::{Asked, Fate, Look, Observed, Project, Request, labels};
use std::{
    collections::BTreeMap,
    io::Write,
    sync::{Mutex, PoisonError},
};

/// How containers are made.
#[derive(Clone, Debug)]
pub(crate) struct Making {
    pub request: Request,
    pub images: Wanted,
    /// Whether orphans are not even spoken of.
    pub ignore_orphans: bool,
    /// Whether anonymous volumes are taken over.
    pub inherit: bool,
    /// Seconds a container has to stop.
    pub timeout: Option<i64>,
    /// Whether questions are answered with yes.
    pub yes: bool,
}

/// Containers by service, as they become known.
pub(crate) type Known = Mutex<BTreeMap<String, Vec<ContainerSummary>>>;

impl Engine {
    /// Makes everything; gives the containers by service.
    pub(crate) fn create(
        &self,
        project: &Project,
        making: &Making,
    ) -> Result<BTreeMap<String, Vec<ContainerSummary>>> {
        self.create_beside(project, project, making)
    }

    /// Makes the containers of `project`, but networks and volumes of the `whole`, of which it is a part.
    pub(crate) fn create_beside(
        &self,
        whole: &Project,
        project: &Project,
        making: &Making,
    ) -> Result<BTreeMap<String, Vec<ContainerSummary>>> {
        project.check_container_names()?;
        let mut observed = self.observe(whole)?;
        self.ensure_images(project, &mut observed, making.images)?;
        self.orphans(project, &observed, making)?;
        let networks = self.networks(whole, &mut observed, making)?;
        let volumes = self.volumes(whole, &mut observed, making)?;
        let known: Known = Mutex::new(
            project
                .service_names()
                .into_iter()
                .map(|s| {
                    let all = project.containers_of(&s, &observed.containers);
                    (s, all.into_iter().cloned().collect())
                })
                .collect(),
        );
        let before: Before = project
            .service_names()
            .into_iter()
            .map(|s| {
                let mut needs = project.shares(&s);
                needs
                    .extend(project.needs(&s).into_iter().filter(|n| n.restart).map(|n| n.service));
                (s, needs)
            })
            .collect();
        let work =
            Work { engine: self, project, making, observed: &observed, networks, volumes, known };
        graph::in_order(&before, self.most, |service| work.service(service))?;
        Ok(work.known.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn orphans(&self, project: &Project, observed: &Observed, making: &Making) -> Result<()> {
        let orphans = project.orphans(&observed.containers);
        if orphans.is_empty() || making.ignore_orphans {
            return Ok(());
        }
        if making.request.remove_orphans {
            return self.each(&orphans, |c| {
                self.stop(c, making.timeout)?;
                self.remove(c, Volumes::Keep, true)
            });
        }
        let names: Vec<&str> = orphans.iter().map(|c| compose::name_of(c)).collect();
        self.progress.warn(&format!(
            "Found orphan containers ([{}]) for this project. If you removed or renamed this service in your compose file, you can run this command with the --remove-orphans flag to clean it up.",
            names.join(" ")
        ));
        Ok(())
    }

    /// Ids of networks by key, missing ones having been made.
    fn networks(
        &self,
        project: &Project,
        observed: &mut Observed,
        making: &Making,
    ) -> Result<BTreeMap<String, String>> {
        let refs = project.network_refs();
        let ids = Mutex::new(BTreeMap::new());
        self.each(&refs, |(key, name, external)| {
            let id = match observed.networks.get(name) {
                None if *external => {
                    return Err(Fail::new(format!(
                        "network {name} declared as external, but could not be found"
                    )));
                }
                None => self.make_network(project, key)?,
                Some(network) if *external => network.id.clone(),
                Some(network) => {
                    let label = |l: &str| network.labels.as_ref().and_then(|all| all.get(l));
                    match label(labels::PROJECT) {
                        None => self.progress.warn(&format!(
                            "a network with name {name} exists but was not created by compose.\nSet `external: true` to use an existing network"
                        )),
                        Some(other) if *other != project.name => self.progress.warn(&format!(
                            "a network with name {name} exists but was not created for project {:?}.\nSet `external: true` to use an existing network",
                            project.name
                        )),
                        Some(_) => {}
                    }
                    let marked = label(labels::NETWORK).map(String::as_str).unwrap_or_default();
                    if marked != key {
                        return Err(Fail::new(format!(
                            "network {name} was found but has incorrect label {} set to {marked:?} (expected: {key:?})",
                            labels::NETWORK
                        )));
                    }
                    if project.is_current(key, network) {
                        network.id.clone()
                    } else {
                        self.remake_network(project, key, name, &observed.containers, making)?
                    }
                }
            };
            ids.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), id);
            Ok(())
        })?;
        // Containers that were stopped for it are not where they were.
        if refs.iter().any(|(key, name, external)| {
            !external && observed.networks.get(name).is_some_and(|n| !project.is_current(key, n))
        }) {
            observed.containers = self.containers(&project.name)?;
        }
        Ok(ids.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn make_network(&self, project: &Project, key: &str) -> Result<String> {
        let Some(body) = project.network_create(key) else { return Ok(String::new()) };
        let subject = format!("Network {}", body.name);
        self.progress.say(&subject, "Creating");
        let made: NetworkCreated =
            match self.client.post_json("/networks/create", &Query::new(), &body) {
                Ok(made) => made,
                Err(err) => {
                    // Another one may have made it just now.
                    if let (crate::client::Error::Refused { status: 409, .. }, Some(there)) =
                        (&err, self.network(&body.name)?)
                    {
                        return Ok(there.id);
                    }
                    self.progress.say(&subject, "Error");
                    return Err(Fail::new(format!(
                        "failed to create network {}: {err}",
                        body.name
                    )));
                }
            };
        self.progress.say(&subject, "Created");
        Ok(made.id)
    }

    fn remake_network(
        &self,
        project: &Project,
        key: &str,
        name: &str,
        containers: &[ContainerSummary],
        making: &Making,
    ) -> Result<String> {
        let services = project.services_on(key);
        let on: Vec<&ContainerSummary> =
            services.iter().flat_map(|s| project.containers_of(s, containers)).collect();
        self.each(&on, |c| self.stop(c, making.timeout))?;
        self.each(&on, |c| {
            let body =
                NetworkConnect { container: c.id.clone(), force: true, endpoint_config: None };
            match self.client.post_only(&format!("/networks/{}/disconnect", part(name)), &body) {
                Ok(()) => Ok(()),
                // It was not on it.
                Err(crate::client::Error::Refused { status: 403 | 404 | 500, .. }) => Ok(()),
                Err(err) => Err(err.into()),
            }
        })?;
        self.client.delete(&format!("/networks/{}", part(name)), &Query::new())?;
        self.progress.say(&format!("Network {name}"), "Removed");
        let id = self.make_network(project, key)?;
        self.each(&on, |c| {
            let body = NetworkConnect { container: c.id.clone(), ..NetworkConnect::default() };
            Ok(self.client.post_only(&format!("/networks/{}/connect", part(name)), &body)?)
        })?;
        Ok(id)
    }

    /// Names of volumes by key, missing ones having been made.
    fn volumes(
        &self,
        project: &Project,
        observed: &mut Observed,
        making: &Making,
    ) -> Result<BTreeMap<String, String>> {
        let refs = project.volume_refs();
        let mut remade = false;
        for (key, name, external) in &refs {
            let Some(volume) = observed.volumes.get(name).filter(|_| !external) else { continue };
            let label = |l: &str| volume.labels.as_ref().and_then(|all| all.get(l));
            match label(labels::PROJECT) {
                None => self.progress.warn(&format!(
                    "volume {name:?} already exists but was not created by Docker Compose. Use `external: true` to use an existing volume"
                )),
                Some(other) if *other != project.name => self.progress.warn(&format!(
                    "volume {name:?} already exists but was created for project {other:?} (expected {:?}). Use `external: true` to use an existing volume",
                    project.name
                )),
                Some(_) => {}
            }
            if project.is_current_volume(key, volume) {
                continue;
            }
            let question = format!(
                "Volume {name:?} exists but doesn't match configuration in compose file. Recreate (data will be lost)?"
            );
            if !(making.yes || ask(&question)?) {
                continue;
            }
            let users: Vec<&ContainerSummary> = project
                .services_with(key)
                .iter()
                .flat_map(|s| project.containers_of(s, &observed.containers))
                .collect();
            self.each(&users, |c| {
                self.stop(c, making.timeout)?;
                self.remove(c, Volumes::Keep, true)
            })?;
            self.client
                .delete(&format!("/volumes/{}", part(name)), &Query::new().flag("force", true))?;
            self.make_volume(project, key)?;
            remade = true;
        }
        if remade {
            observed.containers = self.containers(&project.name)?;
        }
        self.each(&refs, |(key, name, external)| {
            if observed.volumes.contains_key(name) {
                return Ok(());
            }
            if *external {
                return Err(Fail::new(format!("external volume {name:?} not found")));
            }
            self.make_volume(project, key)
        })?;
        Ok(refs.into_iter().map(|(key, name, _)| (key, name)).collect())
    }

    fn make_volume(&self, project: &Project, key: &str) -> Result<()> {
        let Some(body) = project.volume_create(key) else { return Ok(()) };
        let subject = format!("Volume {}", body.name);
        self.progress.say(&subject, "Creating");
        let made: api::model::Volume =
            self.client.post_json("/volumes/create", &Query::new(), &body)?;
        self.progress.say(&format!("Volume {}", made.name), "Created");
        Ok(())
    }
}

/// Asks on standard error; without somebody to answer it is a no.
pub(crate) fn ask(question: &str) -> Result<bool> {
    let mut err = std::io::stderr();
    write!(err, "{question} [y/N] ")?;
    err.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

struct Work<'a> {
    engine: &'a Engine,
    project: &'a Project,
    making: &'a Making,
    observed: &'a Observed,
    networks: BTreeMap<String, String>,
    volumes: BTreeMap<String, String>,
    known: Known,
}

impl Work<'_> {
    fn first_of(&self, service: &str) -> Option<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(service)?.first().map(|c| c.id.clone())
    }

    fn service(&self, name: &str) -> Result<()> {
        let service = self.project.resolved(name, &|other| self.first_of(other))?;
        let image = self.project.image(name).and_then(|i| self.observed.images.get(&i));
        let look = Look {
            service: &service,
            scale: self.project.scale(name),
            recreate: self.making.request.recreate_of(name),
            image: image.map(String::as_str),
            networks: &self.networks,
            volumes: &self.volumes,
        };
        let there: Vec<ContainerSummary> = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.get(name).cloned().unwrap_or_default()
        };
        let there: Vec<&ContainerSummary> = there.iter().collect();
        let fates = compose::converge(&look, &there);
        if fates.iter().any(|f| matches!(f, Fate::Recreate(..))) {
            self.stop_dependents(name)?;
        }
        let made = Mutex::new(Vec::new());
        self.engine.each(&fates, |fate| {
            let container = match fate {
                Fate::Keep(container) => {
                    if container.state == "running" {
                        let subject = format!("Container {}", compose::name_of(container));
                        self.engine.progress.say(&subject, "Running");
                    } else if container.state == "paused" {
                        self.engine.client.post(
                            &format!("/containers/{}/unpause", container.id),
                            &Query::new(),
                        )?;
                    }
                    (*container).clone()
                }
                Fate::Remove(container, _) => {
                    self.engine.stop(container, self.making.timeout)?;
                    return self.engine.remove(container, Volumes::Keep, true);
                }
                Fate::Recreate(container, _) => self.recreate(&service, container)?,
                Fate::Create(number) => self.make(&service, *number)?,
            };
            made.lock().unwrap_or_else(PoisonError::into_inner).push(container);
            Ok(())
        })?;
        let mut made = made.into_inner().unwrap_or_else(PoisonError::into_inner);
        made.sort_by_key(compose::number_of);
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), made);
        Ok(())
    }

    /// Those that start again with this service are stopped; `start` starts them.
    fn stop_dependents(&self, service: &str) -> Result<()> {
        for other in self.project.service_names() {
            let restarts =
                self.project.needs(&other).iter().any(|n| n.restart && n.service == service);
            if !restarts {
                continue;
            }
            let containers = {
                let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                known.get(&other).cloned().unwrap_or_default()
            };
            let running: Vec<&ContainerSummary> =
                containers.iter().filter(|c| c.state == "running").collect();
            self.engine.each(&running, |c| self.engine.stop(c, self.making.timeout))?;
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            for container in known.get_mut(&other).into_iter().flatten() {
                "exited".clone_into(&mut container.state);
            }
        }
        Ok(())
    }

    fn asked<'a>(&self, service: &str, number: u32) -> Result<Asked<'a>> {
        self.engine.asked(self.project, service, Some(number), self.observed)
    }

    fn make(&self, service: &compose::Service, number: u32) -> Result<ContainerSummary> {
        let name = self.project.container_name(&service.name, number);
        let subject = format!("Container {name}");
        self.engine.progress.say(&subject, "Creating");
        let asked = self.asked(&service.name, number)?;
        let made =
            self.engine.make_container(self.project, service, &asked, &name).inspect_err(|_| {
                self.engine.progress.say(&subject, "Error");
            })?;
        self.engine.progress.say(&subject, "Created");
        Ok(made)
    }

    fn recreate(
        &self,
        service: &compose::Service,
        old: &ContainerSummary,
    ) -> Result<ContainerSummary> {
        let engine = self.engine;
        let subject = format!("Container {}", compose::name_of(old));
        engine.progress.say(&subject, "Recreate");
        let number = compose::number_of(old);
        let name = self.project.container_name(&service.name, number);
        let mut asked = self.asked(&service.name, number)?;
        if self.making.inherit {
            asked.inherit = Some(old);
            let image = self.project.image(&service.name).unwrap_or_default();
            let config = engine.image(&image)?.and_then(|i| i.config);
            let volumes = config.and_then(|c| c.volumes).unwrap_or_default();
            asked.image_volumes = volumes.into_keys().collect();
        }
        asked.labels.insert(labels::REPLACE.to_owned(), format!("{}-{number}", service.name));
        let interim = format!("{}_{name}", old.id.get(..12).unwrap_or(&old.id));
        let mut made = engine.make_container(self.project, service, &asked, &interim)?;
        let query = Query::new().int("t", self.making.timeout);
        engine.client.post(&format!("/containers/{}/stop", old.id), &query)?;
        engine.client.delete(&format!("/containers/{}", old.id), &Query::new())?;
        engine
            .client
            .post(&format!("/containers/{}/rename", made.id), &Query::new().text("name", &name))?;
        made.names = vec![format!("/{name}")];
        engine.progress.say(&subject, "Recreated");
        Ok(made)
    }
}

impl Engine {
    /// What is known when a container of a service is made.
    pub(crate) fn asked<'a>(
        &self,
        project: &Project,
        service: &str,
        number: Option<u32>,
        observed: &Observed,
    ) -> Result<Asked<'a>> {
        let mut more = BTreeMap::new();
        if let Some(id) = project.image(service).and_then(|i| observed.images.get(&i)) {
            more.insert(labels::IMAGE.to_owned(), id.clone());
        }
        let (inner, outer) = project.links(service);
        let mut links = Vec::new();
        if !inner.is_empty() {
            let all = self.containers(&project.name)?;
            let shown = number.map_or_else(|| "-1".to_owned(), |n| n.to_string());
            for (other, alias) in inner {
                for container in project.containers_of(&other, &all) {
                    let name = compose::name_of(container);
                    let short = [other.as_str(), shown.as_str()].join(&project.separator);
                    let long = [project.name.as_str(), &other, &shown].join(&project.separator);
                    links.extend([&alias, &short, &long].map(|a| format!("{name}:{a}")));
                }
            }
        }
        links.extend(outer.into_iter().map(|(name, alias)| format!("{name}:{alias}")));
        Ok(Asked {
            number,
            labels: more,
            aliases: true,
            proxies: self.proxies.clone(),
            links,
            ..Asked::default()
        })
    }

    /// Makes one container.
    pub(crate) fn make_container(
        &self,
        project: &Project,
        service: &compose::Service,
        asked: &Asked<'_>,
        name: &str,
    ) -> Result<ContainerSummary> {
        let body = project.body(service, asked)?;
        let query =
            Query::new().text("name", name).text("platform", &project.platform(&service.name));
        let made: ContainerCreated = self.client.post_json("/containers/create", &query, &body)?;
        for warning in &made.warnings {
            self.progress.warn(&format!("{}: {warning}", service.name));
        }
        Ok(ContainerSummary {
            id: made.id,
            names: vec![format!("/{name}")],
            image: body.config.image,
            labels: body.config.labels.unwrap_or_default(),
            state: "created".to_owned(),
            ..ContainerSummary::default()
        })
    }
}
