//! Where a repository is asked for: mirrors in order, then its registry, over TLS unless it is insecure.

use super::{
    Action, Credentials, Repository, Settings,
    authorize::Authorizer,
    settings::{Mirror, is_own},
};
use base::{Reference, Result};
use http::Uri;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::{Duration, Instant},
};

/// How long it is remembered that an insecure registry speaks no TLS.
const PLAIN_FOR: Duration = Duration::from_secs(600);

/// The registries as this engine reaches them: settings, connections, what was learned.
#[derive(Debug, Default)]
pub struct Registries {
    settings: RwLock<Arc<Settings>>,
    clients: Mutex<HashMap<(String, bool), fetch::Client>>,
    plain: Mutex<HashMap<String, Instant>>,
}

/// One place to ask.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// `https://host:port`.
    pub(super) base: String,
    /// `host:port`.
    pub(super) host: String,
    /// The repository's name there.
    pub(super) repository: String,
    /// The registry that a mirror is asked for.
    pub(super) namespace: Option<String>,
    pub(super) client: fetch::Client,
    pub(super) authorizer: Authorizer,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registries {
    /// Registries by `settings`.
    pub fn new(settings: Settings) -> Self {
        Self { settings: RwLock::new(Arc::new(settings)), ..Self::default() }
    }

    /// Takes other settings; connections are made anew, so that certificates are read again.
    pub fn reload(&self, settings: Settings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
        lock(&self.clients).clear();
        lock(&self.plain).clear();
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A client for `host`, which is `host:port`. Certificates are read when it is first made.
    pub(super) fn client(
        &self,
        host: &str,
        anyone: bool,
        addresses: fetch::Addresses,
    ) -> Result<fetch::Client> {
        let outside = addresses == fetch::Addresses::Outside;
        let key = (format!("{host}{}", if outside { " outside" } else { "" }), anyone);
        if let Some(client) = lock(&self.clients).get(&key) {
            return Ok(client.clone());
        }
        let settings = self.settings();
        let mut trust = settings.trust(host)?;
        trust.anyone = anyone;
        let made = fetch::Settings { trust, proxies: settings.proxies.clone(), addresses };
        let client = fetch::Client::new(&made)?;
        lock(&self.clients).insert(key, client.clone());
        Ok(client)
    }

    /// Notes that an insecure registry speaks no TLS.
    pub(super) fn note_plain(&self, host: &str) {
        lock(&self.plain).insert(host.to_owned(), Instant::now());
    }

    fn is_plain(&self, host: &str) -> bool {
        lock(&self.plain).get(host).is_some_and(|since| since.elapsed() < PLAIN_FOR)
    }

    /// The name `reference` in its registry, as somebody with `credentials` sees it.
    ///
    /// # Errors
    /// `Invalid` when certificates or proxies cannot be used.
    pub fn repository(
        self: &Arc<Self>,
        reference: &Reference,
        credentials: &Credentials,
        action: Action,
    ) -> Result<Repository> {
        let domain = reference.domain();
        self.settings().permit(domain, reference.path())?;
        let mut endpoints = Vec::new();
        if action == Action::Pull {
            for mirror in self.settings().mirrors.iter().filter(|m| m.of == domain) {
                endpoints.push(self.mirror(mirror, reference.path())?);
            }
        }
        let host = Settings::host(domain);
        endpoints.extend(self.direct(host, reference.path())?);
        Ok(Repository::new(
            Arc::clone(self),
            reference.clone(),
            credentials.clone(),
            action,
            endpoints,
        ))
    }

    /// The places of a registry itself: TLS first; http only where TLS is not asked for.
    pub(super) fn direct(&self, host: &str, repository: &str) -> Result<Vec<Endpoint>> {
        let insecure = self.settings().is_insecure(host);
        let mut schemes = vec!["https"];
        if insecure && self.is_plain(host) {
            schemes = vec!["http"];
        } else if insecure {
            schemes.push("http");
        }
        schemes
            .into_iter()
            .map(|scheme| {
                Ok(Endpoint {
                    base: format!("{scheme}://{host}"),
                    host: host.to_owned(),
                    repository: repository.to_owned(),
                    namespace: None,
                    client: self.client(host, insecure, fetch::Addresses::NotLinkLocal)?,
                    authorizer: Authorizer::default(),
                })
            })
            .collect()
    }

    fn mirror(&self, mirror: &Mirror, path: &str) -> Result<Endpoint> {
        let host = mirror.base.split_once("://").map_or("", |(_, host)| host);
        let anyone = self.settings().is_insecure(host);
        let repository = match mirror.prefix.as_str() {
            "" => path.to_owned(),
            prefix => format!("{prefix}/{path}"),
        };
        Ok(Endpoint {
            base: mirror.base.clone(),
            host: host.to_owned(),
            repository,
            namespace: Some(mirror.of.clone()),
            client: self.client(host, anyone, fetch::Addresses::NotLinkLocal)?,
            authorizer: Authorizer::default(),
        })
    }
}

impl Endpoint {
    /// `<base>/v2/<repository>/<rest>`.
    pub(super) fn url(&self, rest: &str) -> Result<Uri, fetch::Error> {
        let mut text = format!("{}/v2/{}/{rest}", self.base, self.repository);
        if let Some(namespace) = &self.namespace {
            text.push_str(if rest.contains('?') { "&ns=" } else { "?ns=" });
            text.push_str(namespace);
        }
        fetch::url::parse(&text)
    }

    pub(super) fn is_mirror(&self) -> bool {
        self.namespace.is_some()
    }

    pub(super) fn is_secure(&self) -> bool {
        self.base.starts_with("https://")
    }

    /// Whether it is on this machine.
    pub(super) fn is_own(&self) -> bool {
        is_own(&self.host)
    }
}
