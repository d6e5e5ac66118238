//! What has to change for an engine to have what a project asks for, and why.
//!
//! Pure: [`Project::plan`] looks at what there is and gives steps; [`converge`] does so for one service, and is what
//! `up` does by as well, so that a plan cannot say other than what happens.
//! Source: docker compose 2.40.3 (when a container is made again, which ones go when there are too many).

use crate::{
    container::Service,
    error::Result,
    hash, labels,
    project::{Project, image_of},
    value::Value,
};
use api::model::{ContainerSummary, Network, Volume};
use std::collections::{BTreeMap, BTreeSet};

/// Whether containers that differ are made again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recreate {
    /// Those that differ.
    #[default]
    Diverged,
    /// All of them.
    Force,
    /// None.
    Never,
}

/// What an engine has of a project.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Its containers, one-off ones too.
    pub containers: Vec<ContainerSummary>,
    /// Networks, by the names the project gives them; one-off `None` when it is not there.
    pub networks: BTreeMap<String, Network>,
    /// Volumes, by the names the project gives them.
    pub volumes: BTreeMap<String, Volume>,
    /// Ids of images, by the names services give them.
    pub images: BTreeMap<String, String>,
}

/// A change to one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is changed, as `Container x-web-1`.
    pub subject: String,
    /// What is done to it.
    pub action: Action,
    /// Why.
    pub reasons: Vec<String>,
}

/// What is done to a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// It is fetched.
    Pull,
    /// It is built.
    Build,
    /// It is made.
    Create,
    /// It is made again.
    Recreate,
    /// It is started.
    Start,
    /// It goes.
    Remove,
    /// It stays as it is.
    Keep,
}

impl Action {
    /// As a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Build => "build",
            Self::Create => "create",
            Self::Recreate => "recreate",
            Self::Start => "start",
            Self::Remove => "remove",
            Self::Keep => "keep",
        }
    }
}

/// What becomes of one container.
#[derive(Clone, Debug)]
pub enum Fate<'a> {
    /// It stays.
    Keep(&'a ContainerSummary),
    /// It takes another's place.
    Recreate(&'a ContainerSummary, Vec<String>),
    /// There are too many.
    Remove(&'a ContainerSummary, String),
    /// It is missing; with its number.
    Create(u32),
}

/// How one service is looked at.
#[derive(Clone, Debug)]
pub struct Look<'a> {
    /// The service, its references resolved.
    pub service: &'a Service,
    /// How many containers it should have.
    pub scale: usize,
    /// Whether those that differ are made again.
    pub recreate: Recreate,
    /// The id of its image, when it is there.
    pub image: Option<&'a str>,
    /// Ids of networks by key.
    pub networks: &'a BTreeMap<String, String>,
    /// Names of volumes by key.
    pub volumes: &'a BTreeMap<String, String>,
}

/// Whether a container belongs to a service and was not made by `run`.
pub fn is_regular(container: &ContainerSummary) -> bool {
    container.labels.get(labels::ONE_OFF).is_none_or(|v| v != "True")
}

/// A container's name.
pub fn name_of(container: &ContainerSummary) -> &str {
    let names = container.names.iter().map(|n| n.trim_start_matches('/'));
    // Links add names that hold a slash.
    names.into_iter().find(|n| !n.contains('/')).unwrap_or(&container.id)
}

/// A container's number among those of its service.
pub fn number_of(container: &ContainerSummary) -> u32 {
    container.labels.get(labels::NUMBER).and_then(|n| n.parse().ok()).unwrap_or_default()
}

/// What becomes of the containers of one service.
pub fn converge<'a>(look: &Look<'_>, containers: &[&'a ContainerSummary]) -> Vec<Fate<'a>> {
    let mut judged: Vec<(&ContainerSummary, Vec<String>)> =
        containers.iter().map(|c| (*c, outdated(look, c))).collect();
    // Those that are up to date come first, low numbers before high ones.
    judged.sort_by_key(|(c, why)| (!why.is_empty(), number_of(c), c.created));
    let mut fates = Vec::new();
    let next = containers.iter().map(|c| number_of(c)).max().unwrap_or_default() + 1;
    let have = judged.len();
    for (at, (container, why)) in judged.into_iter().enumerate() {
        fates.push(if at >= look.scale {
            let (have, want) = (containers.len(), look.scale);
            Fate::Remove(container, format!("there are {have}, {want} are wanted"))
        } else if why.is_empty() {
            Fate::Keep(container)
        } else {
            Fate::Recreate(container, why)
        });
    }
    let missing = u32::try_from(look.scale.saturating_sub(have)).unwrap_or(u32::MAX);
    fates.extend((0..missing).map(|n| Fate::Create(next + n)));
    fates
}

/// Why a container has to be made again; nothing when it does not.
fn outdated(look: &Look<'_>, container: &ContainerSummary) -> Vec<String> {
    match look.recreate {
        Recreate::Never => return Vec::new(),
        Recreate::Force => return vec!["it was asked for".into()],
        Recreate::Diverged => {}
    }
    let mut why = Vec::new();
    let label = |name: &str| container.labels.get(name).map(String::as_str);
    if label(labels::HASH) != Some(look.service.hash().as_str()) {
        why.push("its configuration changed".to_owned());
    }
    if label(labels::IMAGE) != look.image {
        why.push("its image changed".to_owned());
    }
    if container.state == "running" {
        let on: BTreeSet<&str> = container
            .network_settings
            .iter()
            .filter_map(|s| s.networks.as_ref())
            .flatten()
            .map(|(_, e)| e.network_id.as_str())
            .collect();
        for key in look.service.networks() {
            if look.networks.get(&key).is_some_and(|id| !on.contains(id.as_str())) {
                why.push(format!("it is not on the network {key}"));
            }
        }
    }
    for mount in look.service.fields.list("volumes").filter_map(Value::as_fields) {
        let source = mount.text("source");
        if mount.text("type") != "volume" || source.is_empty() {
            continue;
        }
        let Some(name) = look.volumes.get(source) else { continue };
        if !container.mounts.iter().any(|m| m.r#type == "volume" && m.name == *name) {
            why.push(format!("it does not have the volume {source}"));
        }
    }
    why
}

/// What is asked for besides the project itself.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Services that were named; all when there are none.
    pub services: Vec<String>,
    /// For those.
    pub recreate: Recreate,
    /// For what they depend on.
    pub recreate_dependencies: Recreate,
    /// Whether containers of services that are gone go too.
    pub remove_orphans: bool,
}

impl Request {
    /// Whether containers of this service are made again.
    pub fn recreate_of(&self, service: &str) -> Recreate {
        let named = self.services.is_empty() || self.services.iter().any(|s| s == service);
        if named { self.recreate } else { self.recreate_dependencies }
    }
}

impl Project {
    /// How many containers a service should have.
    pub fn scale(&self, service: &str) -> usize {
        let Some(of) = self.services.get(service) else { return 0 };
        let replicas = || of.fields("deploy").and_then(|d| d.int("replicas"));
        let wanted = of.int("scale").or_else(replicas).unwrap_or(1);
        usize::try_from(wanted).unwrap_or_default()
    }

    /// Sets it.
    ///
    /// # Errors
    /// No such service, or it has a name of its own.
    pub fn set_scale(&mut self, service: &str, wanted: u32) -> Result<()> {
        let of = self.service(service)?;
        let own = of.text("container_name").to_owned();
        if wanted > 1 && !own.is_empty() {
            return Err(crate::Error::at(
                &of.at,
                format!(
                    "WARNING: The {service:?} service is using the custom container name {own:?}. Docker requires each container to have a unique name. Remove the custom name to scale the service"
                ),
            ));
        }
        if let Some(of) = self.services.get_mut(service) {
            of.set.insert("scale", Value::Int(wanted.into()));
        }
        Ok(())
    }

    /// The image of a service.
    pub fn image(&self, service: &str) -> Option<String> {
        let of = self.services.get(service)?;
        Some(image_of(&self.name, &self.separator, service, of))
    }

    /// Names of networks by key, and whether they are made elsewhere.
    pub fn network_refs(&self) -> Vec<(String, String, bool)> {
        let all = self.networks.iter();
        all.map(|(k, n)| (k.clone(), n.text("name").to_owned(), n.flag("external"))).collect()
    }

    /// Names of volumes by key, and whether they are made elsewhere.
    pub fn volume_refs(&self) -> Vec<(String, String, bool)> {
        let all = self.volumes.iter();
        all.map(|(k, v)| (k.clone(), v.text("name").to_owned(), v.flag("external"))).collect()
    }

    /// The hash of a network.
    pub fn network_hash(&self, key: &str) -> Option<String> {
        self.networks.get(key).map(hash::network)
    }

    /// The hash of a volume.
    pub fn volume_hash(&self, key: &str) -> Option<String> {
        self.volumes.get(key).map(hash::volume)
    }

    /// Containers of services that the project does not have.
    pub fn orphans<'a>(&self, containers: &'a [ContainerSummary]) -> Vec<&'a ContainerSummary> {
        let known = |c: &ContainerSummary| {
            let service = c.labels.get(labels::SERVICE);
            service.is_some_and(|s| self.services.contains_key(s) || self.disabled.contains_key(s))
        };
        let ended =
            |c: &ContainerSummary| !is_regular(c) && matches!(c.state.as_str(), "exited" | "dead");
        containers.iter().filter(|c| ended(c) || is_regular(c) && !known(c)).collect()
    }

    /// Services in the order they are made: what others need comes first.
    pub fn in_order(&self) -> Vec<String> {
        fn visit(project: &Project, name: &str, done: &mut Vec<String>) {
            if done.iter().any(|d| d == name) {
                return;
            }
            let Some(service) = project.services.get(name) else { return };
            for (other, _) in service.map("depends_on") {
                visit(project, other, done);
            }
            done.push(name.to_owned());
        }
        // There is no cycle: `check` has looked.
        let mut done = Vec::new();
        for name in self.services.keys() {
            visit(self, name, &mut done);
        }
        done
    }

    /// Everything that `up` would do, in order, and why.
    ///
    /// # Errors
    /// What cannot be done.
    pub fn plan(&self, observed: &Observed, request: &Request) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        let orphans = self.orphans(&observed.containers);
        for orphan in orphans.iter().filter(|_| request.remove_orphans) {
            let service =
                orphan.labels.get(labels::SERVICE).map(String::as_str).unwrap_or_default();
            steps.push(Step {
                subject: format!("Container {}", name_of(orphan)),
                action: Action::Remove,
                reasons: vec![format!("the project has no service {service} (any more)")],
            });
        }
        self.plan_images(observed, &mut steps);
        let networks = self.plan_networks(observed, &mut steps)?;
        let (volumes, remade) = self.plan_volumes(observed, &mut steps)?;
        let mut changed: BTreeMap<String, bool> = BTreeMap::new();
        for name in self.in_order() {
            self.plan_service(
                &name,
                observed,
                request,
                (&networks, &volumes, &remade),
                &mut changed,
                &mut steps,
            )?;
        }
        Ok(steps)
    }

    fn plan_images(&self, observed: &Observed, steps: &mut Vec<Step>) {
        let mut told = BTreeSet::new();
        for (name, of) in &self.services {
            let image = image_of(&self.name, &self.separator, name, of);
            if !told.insert(image.clone()) {
                continue;
            }
            let there = observed.images.contains_key(&image);
            let policy = of.text("pull_policy");
            let builds = of.get("build").is_some();
            let (action, reason) = match (policy, there, builds) {
                ("build", _, true) => (Action::Build, "its policy says so"),
                ("always", _, _) => (Action::Pull, "its policy says so"),
                (_, false, true) => (Action::Build, "it is not there"),
                ("never", ..) | (_, true, _) => continue,
                (_, false, false) => (Action::Pull, "it is not there"),
            };
            steps.push(Step {
                subject: format!("Image {image}"),
                action,
                reasons: vec![reason.into()],
            });
        }
    }

    fn plan_networks(
        &self,
        observed: &Observed,
        steps: &mut Vec<Step>,
    ) -> Result<BTreeMap<String, String>> {
        let mut ids = BTreeMap::new();
        for (key, name, external) in self.network_refs() {
            let subject = format!("Network {name}");
            match observed.networks.get(&name) {
                None if external => {
                    let text =
                        format!("network {name} declared as external, but could not be found");
                    return Err(crate::Error::at(self.root.place(&["networks", &key]), text)
                        .hint(format!("make it with: network create {name}")));
                }
                None => steps.push(Step {
                    subject,
                    action: Action::Create,
                    reasons: vec!["it is not there".into()],
                }),
                Some(network) if external || self.is_current(&key, network) => {
                    ids.insert(key, network.id.clone());
                    steps.push(Step { subject, action: Action::Keep, reasons: Vec::new() });
                }
                Some(_) => {
                    // Containers on it will not be on the new one.
                    ids.insert(key, String::new());
                    steps.push(Step {
                        subject,
                        action: Action::Recreate,
                        reasons: vec!["its configuration changed".into()],
                    });
                }
            }
        }
        Ok(ids)
    }

    /// Whether a network is as the project asks for.
    pub fn is_current(&self, key: &str, network: &Network) -> bool {
        let known = network.labels.as_ref().and_then(|l| l.get(labels::HASH));
        known.is_none_or(|h| h.is_empty() || Some(h) == self.network_hash(key).as_ref())
    }

    /// Whether a volume is as the project asks for.
    pub fn is_current_volume(&self, key: &str, volume: &Volume) -> bool {
        let known = volume.labels.as_ref().and_then(|l| l.get(labels::HASH));
        known.is_none_or(|h| Some(h) == self.volume_hash(key).as_ref())
    }

    fn plan_volumes(
        &self,
        observed: &Observed,
        steps: &mut Vec<Step>,
    ) -> Result<(BTreeMap<String, String>, BTreeSet<String>)> {
        let (mut names, mut remade) = (BTreeMap::new(), BTreeSet::new());
        for (key, name, external) in self.volume_refs() {
            let subject = format!("Volume {name}");
            let (action, reasons) = match observed.volumes.get(&name) {
                None if external => {
                    let text = format!("external volume {name:?} not found");
                    return Err(crate::Error::at(self.root.place(&["volumes", &key]), text)
                        .hint(format!("make it with: volume create {name}")));
                }
                None => (Action::Create, vec!["it is not there".to_owned()]),
                Some(volume) if external || self.is_current_volume(&key, volume) => {
                    (Action::Keep, Vec::new())
                }
                Some(_) => {
                    remade.insert(key.clone());
                    let why = "its configuration changed; what it holds is lost, so this is asked for first";
                    (Action::Recreate, vec![why.to_owned()])
                }
            };
            names.insert(key, name);
            steps.push(Step { subject, action, reasons });
        }
        Ok((names, remade))
    }

    fn plan_service(
        &self,
        name: &str,
        observed: &Observed,
        request: &Request,
        (networks, volumes, remade): (
            &BTreeMap<String, String>,
            &BTreeMap<String, String>,
            &BTreeSet<String>,
        ),
        changed: &mut BTreeMap<String, bool>,
        steps: &mut Vec<Step>,
    ) -> Result<()> {
        // A container that will be another one has no id yet; whoever names it differs from before.
        let id_of = |other: &str| -> Option<String> {
            if changed.get(other).copied().unwrap_or_default() {
                return Some(format!("a new container of {other}"));
            }
            let mine = self.containers_of(other, &observed.containers);
            mine.first()
                .map(|c| c.id.clone())
                .or_else(|| Some(format!("a new container of {other}")))
        };
        let service = self.resolved(name, &id_of)?;
        let image = self.image(name).and_then(|i| observed.images.get(&i));
        let look = Look {
            service: &service,
            scale: self.scale(name),
            recreate: request.recreate_of(name),
            image: image.map(String::as_str),
            networks,
            volumes,
        };
        let containers = self.containers_of(name, &observed.containers);
        let restarted: Vec<String> = service
            .fields
            .map("depends_on")
            .filter(|(other, d)| {
                changed.get(*other).copied().unwrap_or_default()
                    && d.as_fields().is_some_and(|d| d.flag("restart"))
            })
            .map(|(other, _)| format!("{other} is made again"))
            .collect();
        let uses_remade = service
            .fields
            .list("volumes")
            .filter_map(Value::as_fields)
            .any(|m| remade.contains(m.text("source")));
        let mut other = false;
        for fate in converge(&look, &containers) {
            let (subject, action, reasons) = match fate {
                Fate::Keep(c) if uses_remade => (
                    name_of(c).to_owned(),
                    Action::Recreate,
                    vec!["a volume of it is made again".to_owned()],
                ),
                Fate::Keep(c) if c.state == "running" && restarted.is_empty() => {
                    (name_of(c).to_owned(), Action::Keep, Vec::new())
                }
                Fate::Keep(c) => {
                    let why = if restarted.is_empty() {
                        vec![format!("it is {}", c.state)]
                    } else {
                        restarted.clone()
                    };
                    (name_of(c).to_owned(), Action::Start, why)
                }
                Fate::Recreate(c, why) => (name_of(c).to_owned(), Action::Recreate, why),
                Fate::Remove(c, why) => (name_of(c).to_owned(), Action::Remove, vec![why]),
                Fate::Create(number) => {
                    let why = if containers.is_empty() {
                        "it is not there".to_owned()
                    } else {
                        format!("there are {}, {} are wanted", containers.len(), look.scale)
                    };
                    (self.container_name(name, number), Action::Create, vec![why])
                }
            };
            other |= matches!(action, Action::Create | Action::Recreate);
            steps.push(Step { subject: format!("Container {subject}"), action, reasons });
        }
        changed.insert(name.to_owned(), other && !containers.is_empty());
        Ok(())
    }

    /// Containers of a service, by number, without one-off ones.
    pub fn containers_of<'a>(
        &self,
        service: &str,
        containers: &'a [ContainerSummary],
    ) -> Vec<&'a ContainerSummary> {
        let mut all: Vec<&ContainerSummary> = containers
            .iter()
            .filter(|c| {
                c.labels.get(labels::SERVICE).is_some_and(|s| s == service) && is_regular(c)
            })
            .collect();
        all.sort_by_key(|c| (number_of(c), c.created));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, Project};

    fn project(text: &str) -> Project {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("compose.yaml"), text).unwrap();
        let options =
            Options { here: dir.path().to_owned(), name: Some("p".into()), ..Options::default() };
        Project::load(&options).unwrap()
    }

    fn container(
        project: &Project,
        service: &str,
        number: u32,
        hash: &str,
        state: &str,
    ) -> ContainerSummary {
        let mut marks = project.custom_labels(service);
        marks.insert(labels::NUMBER.into(), number.to_string());
        marks.insert(labels::HASH.into(), hash.into());
        ContainerSummary {
            id: format!("{service}{number}"),
            names: vec![format!("/p-{service}-{number}")],
            labels: marks,
            state: state.into(),
            ..ContainerSummary::default()
        }
    }

    fn told(steps: &[Step]) -> Vec<String> {
        let shown = steps.iter().filter(|s| s.action != Action::Keep);
        shown
            .map(|s| format!("{} {}: {}", s.action.word(), s.subject, s.reasons.join("; ")))
            .collect()
    }

    #[test]
    fn outdated_containers_go_first_and_high_numbers_before_low_ones() {
        let project = project("services: {a: {image: b, scale: 2, network_mode: none}}");
        let service = project.resolved("a", &|_| None).unwrap();
        let current = service.hash();
        let all = [(1, "old"), (2, current.as_str()), (3, current.as_str()), (5, "old")]
            .map(|(n, hash)| container(&project, "a", n, hash, "running"));
        let none = BTreeMap::new();
        let look = Look {
            service: &service,
            scale: 2,
            recreate: Recreate::Diverged,
            image: None,
            networks: &none,
            volumes: &none,
        };
        let shown = |look: &Look<'_>| -> Vec<String> {
            let fates = converge(look, &all.iter().collect::<Vec<_>>()).into_iter();
            fates
                .map(|f| match f {
                    Fate::Keep(c) => format!("keep {}", c.id),
                    Fate::Recreate(c, _) => format!("recreate {}", c.id),
                    Fate::Remove(c, _) => format!("remove {}", c.id),
                    Fate::Create(n) => format!("create {n}"),
                })
                .collect()
        };
        assert_eq!(shown(&look), ["keep a2", "keep a3", "remove a1", "remove a5"]);
        let more = Look { scale: 5, ..look.clone() };
        assert_eq!(shown(&more), ["keep a2", "keep a3", "recreate a1", "recreate a5", "create 6"]);
        let never = Look { recreate: Recreate::Never, ..look };
        assert_eq!(shown(&never), ["keep a1", "keep a2", "remove a3", "remove a5"]);
    }

    #[test]
    fn what_a_change_brings_with_it_is_told() {
        let project = project(
            "services:\n  a: {image: x, network_mode: none}\n  b: {image: x, network_mode: 'service:a'}\n  c: {image: x, network_mode: none, depends_on: {a: {condition: service_started, restart: true}}}\n",
        );
        let hash = |s: &str, id: Option<&str>| {
            project.resolved(s, &|_| id.map(str::to_owned)).unwrap().hash()
        };
        let containers = vec![
            container(&project, "a", 1, "old", "running"),
            container(&project, "b", 1, &hash("b", Some("a1")), "running"),
            container(&project, "c", 1, &hash("c", None), "running"),
            container(&project, "gone", 1, "x", "running"),
        ];
        let images = BTreeMap::new();
        let mut observed = Observed { containers, images, ..Observed::default() };
        let request = Request { remove_orphans: true, ..Request::default() };
        assert_eq!(
            told(&project.plan(&observed, &request).unwrap()),
            [
                "remove Container p-gone-1: the project has no service gone (any more)",
                "pull Image x: it is not there",
                "recreate Container p-a-1: its configuration changed",
                "recreate Container p-b-1: its configuration changed",
                "start Container p-c-1: a is made again",
            ]
        );
        observed.containers[0].labels.insert(labels::HASH.into(), hash("a", None));
        let request = Request::default();
        assert_eq!(
            told(&project.plan(&observed, &request).unwrap()),
            ["pull Image x: it is not there"]
        );
    }
}
