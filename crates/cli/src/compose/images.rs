//! Images of services: fetched or built, several at once.

use super::engine::Engine;
use crate::{
    client::Query,
    context::Context,
    credentials,
    error::{Fail, Result},
    http::{Produce, Send},
};
use api::model::JsonMessage;
use compose::{Build, Observed, Project, Pull};
use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Say {
    All,
    Nothing,
}

/// What is asked for about images.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Whether missing images are built.
    pub build: bool,
    pub pulling: Say,
    pub building: Say,
}

/// What `build` may be told on the command line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Override {
    pub arguments: BTreeMap<String, Option<String>>,
    pub no_cache: bool,
    pub pull: bool,
    pub memory: i64,
}

impl Engine {
    /// Fetches and builds what is missing or asked for anew; puts the ids into `observed`.
    pub(crate) fn ensure_images(
        &self,
        project: &Project,
        observed: &mut Observed,
        wanted: Wanted,
    ) -> Result<()> {
        let mut pulls: BTreeMap<String, String> = BTreeMap::new();
        let mut builds: BTreeMap<String, String> = BTreeMap::new();
        for service in project.service_names() {
            let Some(image) = project.image(&service) else { continue };
            let there = observed.images.contains_key(&image);
            let can_build = project.builds(&service);
            match project.pull_policy(&service) {
                Pull::Build if can_build => drop(builds.insert(image, service)),
                Pull::Always if !can_build || project.has_image(&service) => {
                    pulls.insert(image, service);
                }
                Pull::After(age) if there && !can_build => {
                    if self.is_older(&image, age)? {
                        pulls.insert(image, service);
                    }
                }
                _ if there => {}
                _ if can_build => drop(builds.insert(image, service)),
                Pull::Never => {}
                _ => drop(pulls.insert(image, service)),
            }
        }
        if !wanted.build {
            builds.clear();
        }
        let pulls: Vec<(String, String)> = pulls.into_iter().collect();
        self.each(&pulls, |(image, service)| {
            self.progress.say(service, "Pulling");
            match self.pull(image, &project.platform(service), wanted.pulling) {
                Ok(()) => {
                    self.progress.say(service, "Pulled");
                    Ok(())
                }
                // It can be built instead.
                Err(_) if project.builds(service) => Ok(()),
                Err(fail) => Err(fail),
            }
        })?;
        let failed_pulls: Vec<(String, String)> = if wanted.build {
            let missing = |(image, service): &&(String, String)| {
                project.builds(service) && !matches!(self.image(image), Ok(Some(_)))
            };
            pulls.iter().filter(missing).cloned().collect()
        } else {
            Vec::new()
        };
        builds.extend(failed_pulls);
        let services: Vec<String> = builds.values().cloned().collect();
        self.build(project, &services, &Override::default(), wanted.building)?;
        let mut changed: Vec<String> = pulls.into_iter().map(|(image, _)| image).collect();
        changed.extend(builds.into_keys());
        let ids = self.gather(&changed, |n| Ok(self.image(n)?.map(|i| i.id)))?;
        observed.images.extend(ids);
        Ok(())
    }

    fn is_older(&self, image: &str, age: std::time::Duration) -> Result<bool> {
        let Some(found) = self.image(image)? else { return Ok(true) };
        let now = base::Timestamp::now();
        let tagged = base::Timestamp::parse_relative(&found.metadata.last_tag_time, now);
        Ok(tagged.map_or(true, |t| now.since(t) > age))
    }

    /// Fetches an image.
    pub(crate) fn pull(&self, image: &str, platform: &str, say: Say) -> Result<()> {
        let reference: base::Reference =
            image.parse().map_err(|e: base::Error| Fail::new(e.chain()))?;
        let reference = reference.or_latest();
        let tag = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or_default().to_owned(),
        };
        let query = Query::new()
            .text("fromImage", &reference.name())
            .text("tag", &tag)
            .text("platform", &platform.to_lowercase());
        let headers = credentials::header(&self.config, reference.domain())?;
        let answer = self.client.send("POST", "/images/create", &query, &headers, Send::Nothing)?;
        self.messages(answer.body, image, say)
    }

    /// Sends an image to its registry.
    pub(crate) fn push(&self, image: &str, say: Say) -> Result<()> {
        let reference: base::Reference =
            image.parse().map_err(|e: base::Error| Fail::new(e.chain()))?;
        let reference = reference.or_latest();
        let query = Query::new().text("tag", reference.tag().unwrap_or_default());
        let headers = credentials::header(&self.config, reference.domain())?;
        let path = format!("/images/{}/push", crate::client::part(&reference.name()));
        let answer = self.client.send("POST", &path, &query, &headers, Send::Nothing)?;
        self.messages(answer.body, image, say)
    }

    /// Builds these services' images, those first whose image another one begins with is not known here, so all at once.
    pub(crate) fn build(
        &self,
        project: &Project,
        services: &[String],
        changes: &Override,
        say: Say,
    ) -> Result<()> {
        let built = Mutex::new(Vec::new());
        self.each(services, |service| {
            let Some(build) = project.build(service) else { return Ok(()) };
            let subject = format!("Service {service}");
            self.progress.say(&subject, "Building");
            self.build_one(service, build, changes, say)?;
            self.progress.say(&subject, "Built");
            built.lock().unwrap_or_else(PoisonError::into_inner).push(service.clone());
            Ok(())
        })
    }

    fn build_one(&self, service: &str, build: Build, changes: &Override, say: Say) -> Result<()> {
        if let Some(key) = build.beyond.first() {
            return Err(Fail::new(format!(
                "services.{service}.build.{key} needs BuildKit: build it with `docker buildx bake` or `docker compose build`, then run this again"
            )));
        }
        let (context, dockerfile) = source(service, &build)?;
        let mut arguments: BTreeMap<String, Option<String>> =
            self.proxies.iter().map(|(k, v)| (k.clone(), Some(v.clone()))).collect();
        arguments.extend(build.arguments.clone());
        arguments.extend(changes.arguments.clone());
        let remote = if context.is_some() { "" } else { build.context.as_str() };
        let mut query = Query::new()
            .text("version", "1")
            .list("t", &build.tags)
            .list("extrahosts", &build.extra_hosts)
            .flag("nocache", build.no_cache || changes.no_cache)
            .text("rm", "1")
            .flag("pull", build.pull || changes.pull)
            .text("networkmode", &build.network)
            .int("memory", Some(changes.memory).filter(|m| *m != 0))
            .int("shmsize", Some(build.shm_size).filter(|s| *s != 0))
            .text("dockerfile", &dockerfile)
            .text("remote", remote)
            .text("target", &build.target)
            .text("platform", &build.platform.to_lowercase())
            .json("buildargs", &arguments)
            .json("labels", &build.labels);
        if !build.ulimits.is_empty() {
            query = query.json("ulimits", &build.ulimits);
        }
        if !build.cache_from.is_empty() {
            query = query.json("cachefrom", &build.cache_from);
        }
        let headers = credentials::all(&self.config);
        let send = match &context {
            None => Send::Nothing,
            Some(context) => {
                let produce: Produce<'_> = Box::new(move |out| context.write(out));
                Send::Stream(produce, "application/x-tar")
            }
        };
        let answer = self.client.send("POST", "/build", &query, &headers, send)?;
        self.messages(answer.body, service, say)
    }

    /// Reads a stream of messages to its end; lines have `name` in front, since several come at once.
    fn messages(&self, body: impl Read, name: &str, say: Say) -> Result<()> {
        const LONGEST: u64 = 64 << 20;
        let mut reader = BufReader::with_capacity(64 * 1024, body);
        let mut line = Vec::new();
        loop {
            line.clear();
            if reader.by_ref().take(LONGEST).read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            let message: JsonMessage = serde_json::from_slice(&line)
                .map_err(|e| Fail::new(format!("cannot read the daemon's answer: {e}")))?;
            if !message.error.is_empty() {
                return Err(Fail::new(format!("{name}: {}", message.error)));
            }
            if say == Say::All && !message.stream.trim().is_empty() {
                for text in message.stream.trim_end().lines() {
                    writeln!(std::io::stderr(), "{name} | {text}")?;
                }
            }
        }
    }
}

/// The folder that is sent, and the Dockerfile's name in it.
fn source(service: &str, build: &Build) -> Result<(Option<Context>, String)> {
    let place = build.context.as_str();
    let fail = |why: String| Fail::new(format!("services.{service}.build: {why}"));
    if place.starts_with("http://") || place.starts_with("https://") {
        return Ok((None, build.dockerfile.clone()));
    }
    if ["git://", "git@", "github.com/", "ssh://"].iter().any(|p| place.starts_with(p)) {
        return Err(fail(format!("{place}: git contexts are not supported, clone it first")));
    }
    let folder = fs::canonicalize(place).map_err(|e| {
        fail(format!("unable to prepare context: path {place:?}: {}", crate::error::text(&e)))
    })?;
    const INLINE: &str = ".gantry-compose.Dockerfile";
    if !build.inline.is_empty() {
        let mut context = Context::of_folder(&folder, INLINE)?;
        context.extra.push((INLINE.to_owned(), build.inline.clone().into_bytes()));
        return Ok((Some(context), INLINE.to_owned()));
    }
    let named = Path::new(&build.dockerfile);
    let full: PathBuf = if named.is_absolute() { named.to_owned() } else { folder.join(named) };
    let full = fs::canonicalize(&full).map_err(|e| {
        fail(format!(
            "failed to read dockerfile: open {}: {}",
            full.display(),
            crate::error::text(&e)
        ))
    })?;
    match full.strip_prefix(&folder).ok().and_then(Path::to_str) {
        Some(name) => Ok((Some(Context::of_folder(&folder, name)?), name.to_owned())),
        None => {
            let mut context = Context::of_folder(&folder, INLINE)?;
            context.extra.push((INLINE.to_owned(), fs::read(&full)?));
            Ok((Some(context), INLINE.to_owned()))
        }
    }
}
