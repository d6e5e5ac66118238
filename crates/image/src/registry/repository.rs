//! One repository, and how its requests are sent: endpoint by endpoint, with a token when one is wanted,
//! again when that may help.

use super::{
    Credentials, Failed, Refusal, Registries, authorize::Unauthorized, endpoint::Endpoint,
};
use base::Reference;
use fetch::{Request, Response};
use http::{Method, StatusCode};
use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Tries of a small request, and the wait before the second; it doubles.
const TRIES: u32 = 3;
const WAIT: Duration = Duration::from_millis(300);

/// What is meant to be done; decides the scope of tokens and whether mirrors count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read.
    Pull,
    /// Read and write.
    Push,
}

/// A repository as somebody sees it.
pub struct Repository {
    pub(super) registries: Arc<Registries>,
    pub(super) reference: Reference,
    credentials: Credentials,
    pub(super) endpoints: Vec<Endpoint>,
    /// The endpoint that answered last.
    current: AtomicUsize,
    action: Action,
    /// Further scopes, of repositories that blobs are mounted from.
    further: Mutex<Vec<String>>,
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository").field("reference", &self.reference).finish_non_exhaustive()
    }
}

impl Repository {
    pub(super) fn new(
        registries: Arc<Registries>,
        reference: Reference,
        credentials: Credentials,
        action: Action,
        endpoints: Vec<Endpoint>,
    ) -> Self {
        Self {
            registries,
            reference,
            credentials,
            endpoints,
            current: AtomicUsize::new(0),
            action,
            further: Mutex::default(),
        }
    }

    /// The name, without tag or digest.
    pub fn name(&self) -> Reference {
        self.reference.repository()
    }

    /// Asks for the right to pull from `path` too, so that blobs can be mounted from there.
    pub fn may_mount_from(&self, path: &str) {
        let scope = format!("repository:{path}:pull");
        let mut further = self.further.lock().unwrap_or_else(PoisonError::into_inner);
        if !further.contains(&scope) {
            further.push(scope);
        }
    }

    fn scopes(&self, endpoint: &Endpoint) -> Vec<String> {
        let actions = match self.action {
            Action::Pull => "pull",
            Action::Push => "pull,push",
        };
        let mut scopes = vec![format!("repository:{}:{actions}", endpoint.repository)];
        scopes.extend(self.further.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned());
        scopes
    }

    /// Sends a request to one endpoint; what is not a success is a refusal.
    pub(super) async fn send(
        &self,
        endpoint: &Endpoint,
        make: &(dyn Fn(&Endpoint) -> Result<Request, fetch::Error> + Sync),
    ) -> Result<Response, Failed> {
        exchange(&self.registries, endpoint, &self.credentials, &self.scopes(endpoint), make).await
    }

    /// Sends a request to the endpoint that answered last, and to the others when it has no answer: a
    /// mirror may lack what the registry has, and a registry that is not reached over TLS may be over http.
    pub(super) async fn ask(
        &self,
        make: &(dyn Fn(&Endpoint) -> Result<Request, fetch::Error> + Sync),
    ) -> Result<Response, Failed> {
        let first = self.current.load(Ordering::Relaxed).min(self.endpoints.len() - 1);
        let mut failed = None;
        for at in first..self.endpoints.len() {
            let endpoint = &self.endpoints[at];
            match self.send(endpoint, make).await {
                Ok(response) => {
                    self.reached(at);
                    return Ok(response);
                }
                Err(err) => {
                    let next = match &err {
                        _ if endpoint.is_mirror() => true,
                        Failed::Way(way) => way.is_unreached() || !endpoint.is_secure(),
                        _ => false,
                    };
                    if endpoint.is_mirror() {
                        tracing::debug!(
                            mirror = endpoint.base,
                            err = base::Error::from(err).chain(),
                            "a mirror was passed over"
                        );
                        continue;
                    }
                    // What TLS said is the better reason when nobody listens for http either.
                    failed = match failed.take() {
                        Some(Failed::Way(first)) if matches!(&err, Failed::Way(_)) => {
                            Some(pick(first, err))
                        }
                        _ => Some(err),
                    };
                    if !next {
                        break;
                    }
                }
            }
        }
        Err(failed.unwrap_or_else(|| {
            Failed::Wrong(base::Error::unavailable(format!(
                "no endpoint of {} answers",
                self.reference.domain()
            )))
        }))
    }

    fn reached(&self, at: usize) {
        let endpoint = &self.endpoints[at];
        if !endpoint.is_mirror() {
            // A mirror that fell short once is not asked again for this image.
            self.current.store(at, Ordering::Relaxed);
            if !endpoint.is_secure() {
                self.registries.note_plain(&endpoint.host);
            }
        }
    }

    /// As [`Repository::ask`], tried again a few times when the registry stumbles.
    pub(super) async fn ask_again(
        &self,
        make: &(dyn Fn(&Endpoint) -> Result<Request, fetch::Error> + Sync),
    ) -> Result<Response, Failed> {
        let mut tried = 1;
        loop {
            match self.ask(make).await {
                Err(err) if err.is_transient() && tried < TRIES => {
                    let wait = err.wait().unwrap_or(WAIT * 2_u32.pow(tried - 1));
                    tokio::time::sleep(wait).await;
                    tried += 1;
                }
                done => return done,
            }
        }
    }

    /// The endpoint that writes go to.
    pub(super) fn writable(&self) -> &Endpoint {
        &self.endpoints[self.current.load(Ordering::Relaxed).min(self.endpoints.len() - 1)]
    }
}

fn pick(first: fetch::Error, second: Failed) -> Failed {
    match second {
        Failed::Way(second)
            if second.failure() == fetch::Failure::Connect
                && first.failure() == fetch::Failure::Tls =>
        {
            Failed::Way(first)
        }
        second => second,
    }
}

/// Sends a request, gets a token when the answer is 401, and sends it once more.
pub(super) async fn exchange(
    registries: &Registries,
    endpoint: &Endpoint,
    credentials: &Credentials,
    scopes: &[String],
    make: &(dyn Fn(&Endpoint) -> Result<Request, fetch::Error> + Sync),
) -> Result<Response, Failed> {
    let mut renewed = false;
    loop {
        let shown = endpoint.authorizer.value();
        let mut request = make(endpoint)?;
        if let Some(value) = &shown {
            request = request.authorization(value);
        }
        let asked = request.shown();
        let response = endpoint.client.send(request).await?;
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED && !renewed {
            renewed = true;
            let unauthorized = Unauthorized { shown, response, asked };
            endpoint
                .authorizer
                .renew(registries, endpoint, credentials, scopes, unauthorized)
                .await?;
            continue;
        }
        if status.is_success() {
            return Ok(response);
        }
        return Err(Failed::Refused(Refusal::read(asked, response).await));
    }
}

/// A plain request of `rest` below the repository.
pub(super) fn request(
    method: Method,
    endpoint: &Endpoint,
    rest: &str,
) -> Result<Request, fetch::Error> {
    Ok(Request::new(method, endpoint.url(rest)?))
}
