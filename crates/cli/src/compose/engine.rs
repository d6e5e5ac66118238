//! The engine as a project's commands use it: many threads at once, each request a connection of its own.

use super::Compose;
use crate::{
    client::{Client, Filters, Query, part},
    config::Config,
    error::{Fail, Result},
};
use api::model::{ContainerInspect, ContainerSummary, ImageInspect, Network, Volume};
use compose::labels;
use std::{
    collections::BTreeMap,
    io::Write,
    sync::{Arc, Mutex, PoisonError},
};

/// What commands share.
pub(crate) struct Engine {
    pub client: Arc<Client>,
    pub config: Config,
    /// Variables for proxies in containers and builds.
    pub proxies: Vec<(String, String)>,
    pub progress: Progress,
    /// How many things are done at once.
    pub most: usize,
}

/// Tells what is being done, a line each, on standard error.
#[derive(Debug)]
pub(crate) struct Progress {
    quiet: bool,
    line: Mutex<()>,
}

impl Progress {
    pub(crate) fn say(&self, subject: &str, what: &str) {
        if self.quiet {
            return;
        }
        let _line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        // Standard error is the last place to say anything.
        let _ = writeln!(std::io::stderr(), " {subject}  {what}");
    }

    pub(crate) fn warn(&self, text: &str) {
        let _line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(std::io::stderr(), "WARN: {text}");
    }
}

/// Threads at once where nothing else is said: enough for any project's graph, few enough for the engine.
const MOST_AT_ONCE: usize = 64;

impl Compose<'_> {
    /// Connects.
    pub(crate) fn engine(&mut self) -> Result<Engine> {
        let endpoint = self.ui.endpoint.clone();
        let proxies = self.ui.config.proxy_environment(&endpoint.to_string());
        let headers = self.ui.config.http_headers.clone();
        let client = Client::connect(endpoint, headers)?;
        let wanted = self
            .global
            .int("parallel")
            .or_else(|| std::env::var("COMPOSE_PARALLEL_LIMIT").ok().and_then(|v| v.parse().ok()));
        let most = wanted.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
        let asked = self.global.text("progress").map(str::to_owned);
        let asked = asked.or_else(|| std::env::var("COMPOSE_PROGRESS").ok());
        let quiet = match asked.as_deref() {
            None | Some("" | "auto" | "tty" | "plain") => false,
            Some("quiet") => true,
            Some(other) => {
                return Err(Fail::new(format!("unsupported --progress value {other:?}")));
            }
        };
        if client.api_version() < (1, 44) {
            return Err(Fail::new(format!(
                "compose needs an engine of API 1.44 or later, this one has {}",
                client.version()
            )));
        }
        Ok(Engine {
            client: Arc::new(client),
            config: self.ui.config.clone(),
            proxies,
            progress: Progress { quiet, line: Mutex::new(()) },
            most: most.unwrap_or(MOST_AT_ONCE),
        })
    }
}

/// `GET` where being absent is no error.
fn maybe<T>(answer: std::result::Result<T, crate::client::Error>) -> Result<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(err) if err.is_missing() => Ok(None),
        Err(err) => Err(err.into()),
    }
}

/// Filters by labels: `name` or `name=value`.
pub(crate) fn by_labels(labels: &[String]) -> Filters {
    let wanted = labels.iter().map(|l| (l.clone(), true)).collect();
    Filters::from([("label".to_owned(), wanted)])
}

impl Engine {
    /// All containers of a project, by name.
    pub(crate) fn containers(&self, project: &str) -> Result<Vec<ContainerSummary>> {
        let label = format!("{}={project}", labels::PROJECT);
        let query = Query::new().flag("all", true).filters(&by_labels(&[label]));
        let mut all: Vec<ContainerSummary> = self.client.get("/containers/json", &query)?;
        all.sort_by(|a, b| compose::name_of(a).cmp(compose::name_of(b)));
        Ok(all)
    }

    pub(crate) fn inspect(&self, id: &str) -> Result<Option<ContainerInspect>> {
        maybe(self.client.get(&format!("/containers/{}/json", part(id)), &Query::new()))
    }

    pub(crate) fn image(&self, name: &str) -> Result<Option<ImageInspect>> {
        maybe(self.client.get(&format!("/images/{}/json", part(name)), &Query::new()))
    }

    /// A network by exactly this name or id.
    pub(crate) fn network(&self, name: &str) -> Result<Option<Network>> {
        let found: Option<Network> =
            maybe(self.client.get(&format!("/networks/{}", part(name)), &Query::new()))?;
        Ok(found.filter(|n| n.name == name || n.id == name))
    }

    pub(crate) fn volume(&self, name: &str) -> Result<Option<Volume>> {
        maybe(self.client.get(&format!("/volumes/{}", part(name)), &Query::new()))
    }

    /// Networks and volumes that carry the project's label.
    pub(crate) fn networks_of(&self, project: &str) -> Result<Vec<Network>> {
        let label = format!("{}={project}", labels::PROJECT);
        Ok(self.client.get("/networks", &Query::new().filters(&by_labels(&[label])))?)
    }

    pub(crate) fn volumes_of(&self, project: &str) -> Result<Vec<Volume>> {
        let label = format!("{}={project}", labels::PROJECT);
        let list: api::model::VolumeList =
            self.client.get("/volumes", &Query::new().filters(&by_labels(&[label])))?;
        Ok(list.volumes)
    }

    /// Does `deed` to each of `items` at once; the first failure is told when all have ended.
    pub(crate) fn each<T: Sync>(
        &self,
        items: &[T],
        deed: impl Fn(&T) -> Result<()> + Sync,
    ) -> Result<()> {
        match items {
            [] => return Ok(()),
            [only] => return deed(only),
            _ => {}
        }
        let next = Mutex::new(items.iter());
        let failed = Mutex::new(None);
        let take = || next.lock().unwrap_or_else(PoisonError::into_inner).next();
        std::thread::scope(|scope| {
            for _ in 0..self.most.min(items.len()) {
                scope.spawn(|| {
                    while let Some(item) = take() {
                        if let Err(fail) = deed(item) {
                            let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                            failed.get_or_insert(fail);
                        }
                    }
                });
            }
        });
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    /// What `ask` finds for each name, at once; names without an answer are left out.
    pub(crate) fn gather<T: Send>(
        &self,
        names: &[String],
        ask: impl Fn(&str) -> Result<Option<T>> + Sync,
    ) -> Result<BTreeMap<String, T>> {
        let found = Mutex::new(BTreeMap::new());
        self.each(names, |name| {
            if let Some(value) = ask(name)? {
                found.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), value);
            }
            Ok(())
        })?;
        Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Stops a container; `seconds` instead of its own time.
    pub(crate) fn stop(&self, container: &ContainerSummary, seconds: Option<i64>) -> Result<()> {
        let subject = format!("Container {}", compose::name_of(container));
        self.progress.say(&subject, "Stopping");
        let query = Query::new().int("t", seconds);
        match self.client.post(&format!("/containers/{}/stop", container.id), &query) {
            Ok(_) => {}
            Err(err) if err.is_missing() => {}
            Err(err) => {
                self.progress.say(&subject, "Error while Stopping");
                return Err(err.into());
            }
        }
        self.progress.say(&subject, "Stopped");
        Ok(())
    }

    /// Removes a container, and its anonymous volumes where that is asked for.
    pub(crate) fn remove(
        &self,
        container: &ContainerSummary,
        volumes: Volumes,
        force: bool,
    ) -> Result<()> {
        let subject = format!("Container {}", compose::name_of(container));
        self.progress.say(&subject, "Removing");
        let query = Query::new().flag("force", force).flag("v", volumes == Volumes::Remove);
        match self.client.delete(&format!("/containers/{}", container.id), &query) {
            Ok(_) => {}
            // Somebody else is removing it, or has.
            Err(crate::client::Error::Refused { status: 404 | 409, .. }) if force => {}
            Err(err) => {
                self.progress.say(&subject, "Error while Removing");
                return Err(err.into());
            }
        }
        self.progress.say(&subject, "Removed");
        Ok(())
    }
}

/// What becomes of a container's anonymous volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Volumes {
    Keep,
    Remove,
}
