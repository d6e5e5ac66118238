//! A client that shows what it gets: any status, all headers, no redirect followed.

use std::{
    collections::HashMap,
    io::Read as _,
    sync::{Arc, Mutex},
    time::Duration,
};
use ureq::{
    Agent, SendBody,
    http::{HeaderMap, Request},
    tls::{Certificate, RootCerts, TlsConfig},
};

/// How long an answer may take before the test fails.
const LIMIT: Duration = Duration::from_secs(60);

const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

/// A registry and who we are there.
#[derive(Clone)]
pub struct Client {
    pub base: String,
    agent: Agent,
    user: Option<(String, String)>,
    tokens: Arc<Mutex<HashMap<String, String>>>,
}

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Code of the first error in the body.
    pub fn code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The status must be this one.
    #[track_caller]
    pub fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{} {:?}", self.text(), self.headers);
        self
    }

    /// The status must be one of these.
    #[track_caller]
    pub fn one_of(self, statuses: &[u16]) -> Self {
        assert!(
            statuses.contains(&self.status),
            "wanted one of {statuses:?}, got {}: {}",
            self.status,
            self.text()
        );
        self
    }

    /// Status and error code must be these.
    #[track_caller]
    pub fn fails(self, status: u16, code: &str) -> Self {
        assert_eq!((self.status, self.code().as_str()), (status, code), "{}", self.text());
        self
    }

    pub fn tags(&self) -> Vec<String> {
        list(&self.json()["tags"])
    }
}

/// The texts of a JSON list.
pub fn list(value: &serde_json::Value) -> Vec<String> {
    let all = value.as_array().into_iter().flatten();
    all.filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

/// A request.
pub struct Ask<'c> {
    client: &'c Client,
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    streamed: bool,
    plain: bool,
}

impl Client {
    pub fn new(base: &str, user: Option<(&str, &str)>) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(LIMIT))
            .build();
        Self::with(base, user, config.into())
    }

    /// One that trusts this certificate, PEM.
    pub fn trusting(base: &str, pem: &str) -> Self {
        let root = Certificate::from_pem(pem.as_bytes()).unwrap();
        let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&[root])).build();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(LIMIT))
            .tls_config(tls)
            .build();
        Self::with(base, None, config.into())
    }

    fn with(base: &str, user: Option<(&str, &str)>, agent: Agent) -> Self {
        let user = user.map(|(name, password)| (name.to_owned(), password.to_owned()));
        let base = base.trim_end_matches('/').to_owned();
        Self { base, agent, user, tokens: Arc::default() }
    }

    /// The same registry as another user.
    pub fn as_user(&self, name: &str, password: &str) -> Self {
        Self::new(&self.base, Some((name, password)))
    }

    pub fn ask(&self, method: &'static str, path: &str) -> Ask<'_> {
        let path = path.strip_prefix(&self.base).unwrap_or(path).to_owned();
        Ask {
            client: self,
            method,
            path,
            headers: vec![],
            body: None,
            streamed: false,
            plain: false,
        }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path).send()
    }

    pub fn head(&self, path: &str) -> Answer {
        self.ask("HEAD", path).send()
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.ask("DELETE", path).send()
    }

    pub fn post(&self, path: &str) -> Answer {
        self.ask("POST", path).body(b"").send()
    }

    /// A token for what the challenge asks.
    fn token(&self, challenge: &str) -> Option<String> {
        let value = |key: &str| {
            let rest = challenge.split_once(&format!("{key}=\""))?.1;
            rest.split_once('"').map(|(value, _)| value.to_owned())
        };
        let scope = value("scope").unwrap_or_default().replace(' ', "%20");
        let url = format!("{}?service={}&scope={scope}", value("realm")?, value("service")?);
        let mut request = self.agent.get(&url);
        if let Some((name, password)) = &self.user {
            request = request.header("Authorization", basic(name, password));
        }
        let text = request.call().ok()?.body_mut().read_to_string().ok()?;
        let answer: serde_json::Value = serde_json::from_str(&text).ok()?;
        answer["token"].as_str().map(str::to_owned)
    }
}

/// A basic `Authorization` header.
pub fn basic(name: &str, password: &str) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
    format!("Basic {text}")
}

impl Ask<'_> {
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(mut self, bytes: &[u8]) -> Self {
        self.body = Some(bytes.to_owned());
        self
    }

    /// Sent without saying its length.
    pub fn streamed(mut self) -> Self {
        self.streamed = true;
        self
    }

    /// Without answering a challenge.
    pub fn plain(mut self) -> Self {
        self.plain = true;
        self
    }

    #[track_caller]
    pub fn send(self) -> Answer {
        let known = {
            let tokens = self.client.tokens.lock().unwrap();
            tokens.get(&self.place()).cloned()
        };
        let first = self.once(known.as_deref().filter(|_| !self.plain));
        if first.status != 401 || self.plain {
            return first;
        }
        let challenge = first.header("www-authenticate").to_owned();
        let shown = if challenge.starts_with("Basic") {
            self.client.user.as_ref().map(|(name, password)| basic(name, password))
        } else {
            self.client.token(&challenge).map(|token| format!("Bearer {token}"))
        };
        let Some(shown) = shown else { return first };
        let second = self.once(Some(&shown));
        self.client.tokens.lock().unwrap().insert(self.place(), shown);
        second
    }

    /// What a token is kept for.
    fn place(&self) -> String {
        let repository = self.path.split("/blobs/").next().unwrap_or_default();
        let repository = repository.split("/manifests/").next().unwrap_or_default();
        let write = !matches!(self.method, "GET" | "HEAD");
        format!("{repository} {write} {}", self.method == "DELETE")
    }

    /// The answer, or nothing when the connection breaks.
    pub fn try_send(self) -> Option<Answer> {
        self.try_once(None)
    }

    fn once(&self, shown: Option<&str>) -> Answer {
        let answer = self.try_once(shown);
        answer.unwrap_or_else(|| panic!("{} {}: no answer", self.method, self.path))
    }

    fn try_once(&self, shown: Option<&str>) -> Option<Answer> {
        let mut request = Request::builder()
            .method(self.method)
            .uri(format!("{}{}", self.client.base, self.path));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if self.path.contains("/manifests/") && !self.headers.iter().any(|(n, _)| n == "Accept") {
            // Some registries give only what was asked for.
            request = request.header("Accept", MANIFESTS);
        }
        if let Some(shown) = shown {
            request = request.header("Authorization", shown);
        }
        let agent = &self.client.agent;
        let sent = match &self.body {
            None => agent.run(request.body(()).unwrap()),
            Some(bytes) if self.streamed => {
                let mut reader = bytes.as_slice();
                agent.run(request.body(SendBody::from_reader(&mut reader)).unwrap())
            }
            Some(bytes) => agent.run(request.body(bytes.as_slice()).unwrap()),
        };
        let mut sent = match sent {
            Ok(sent) => sent,
            Err(err) => {
                println!("{} {}: {err}", self.method, self.path);
                return None;
            }
        };
        let mut body = Vec::new();
        sent.body_mut().as_reader().read_to_end(&mut body).ok()?;
        let (parts, _) = sent.into_parts();
        Some(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
    }
}
