//! The engine's API, one call per request.

use crate::{
    connect::{Endpoint, Socket},
    http::{self, Response, Send},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{collections::BTreeMap, fmt, io};

/// The newest API version spoken here.
pub(crate) const API_VERSION: (u32, u32) = (1, 51);

/// A call that failed.
#[derive(Debug)]
pub(crate) enum Error {
    /// The engine could not be reached.
    Unreachable(String),
    /// The engine said no.
    Refused { status: u16, message: String },
    /// The connection broke or the answer made no sense.
    Broken(String),
}

impl Error {
    /// Whether the thing asked for does not exist.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { message, .. } => write!(f, "Error response from daemon: {message}"),
            Self::Unreachable(text) | Self::Broken(text) => f.write_str(text),
        }
    }
}

impl From<io::Error> for Error {
    fn from(err: io::Error) -> Self {
        Self::Broken(format!("error during connect: {}", crate::error::text(&err)))
    }
}

type Result<T> = std::result::Result<T, Error>;

/// Query parameters; empty values are left out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(String);

impl Query {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub(crate) fn text(mut self, name: &str, value: &str) -> Self {
        if !value.is_empty() {
            self.0.push(if self.0.is_empty() { '?' } else { '&' });
            self.0.push_str(name);
            self.0.push('=');
            self.0.push_str(&encode(value));
        }
        self
    }

    #[must_use]
    pub(crate) fn flag(self, name: &str, value: bool) -> Self {
        self.text(name, if value { "1" } else { "" })
    }

    #[must_use]
    pub(crate) fn int(self, name: &str, value: Option<i64>) -> Self {
        self.text(name, &value.map(|v| v.to_string()).unwrap_or_default())
    }

    #[must_use]
    pub(crate) fn list(self, name: &str, values: &[String]) -> Self {
        values.iter().fold(self, |query, value| query.text(name, value))
    }

    #[must_use]
    pub(crate) fn json(self, name: &str, value: &impl Serialize) -> Self {
        self.text(name, &serde_json::to_string(value).unwrap_or_default())
    }

    /// `--filter` values as the API wants them.
    #[must_use]
    pub(crate) fn filters(self, filters: &Filters) -> Self {
        if filters.is_empty() { self } else { self.json("filters", filters) }
    }
}

/// Filters by name: `{"label": {"a=b": true}}`.
pub(crate) type Filters = BTreeMap<String, BTreeMap<String, bool>>;

/// Percent-encodes all but unreserved characters.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// A name as part of a path: image names keep their slashes and colons.
pub(crate) fn part(name: &str) -> String {
    encode(name).replace("%2F", "/").replace("%3A", ":").replace("%40", "@")
}

/// A connection to one engine at one API version.
#[derive(Debug)]
pub(crate) struct Client {
    endpoint: Endpoint,
    headers: Vec<(String, String)>,
    version: (u32, u32),
}

/// The largest JSON answer read.
const MOST: u64 = 1 << 30;

impl Client {
    /// Finds out which version both sides speak.
    pub(crate) fn connect(endpoint: Endpoint, extra: BTreeMap<String, String>) -> Result<Self> {
        let mut headers: Vec<(String, String)> = extra.into_iter().collect();
        headers.retain(|(name, value)| {
            let plain = |s: &str| !s.contains(['\r', '\n']);
            plain(name) && plain(value) && !name.eq_ignore_ascii_case("user-agent")
        });
        let agent = concat!("Gantry-Client/", env!("CARGO_PKG_VERSION"), " (linux)");
        headers.push(("User-Agent".into(), agent.into()));
        let mut client = Self { endpoint, headers, version: API_VERSION };
        let wanted = std::env::var("DOCKER_API_VERSION").ok();
        if let Some(version) = wanted.as_deref().and_then(parse_version) {
            client.version = version;
            return Ok(client);
        }
        let answer = client.send_raw("GET", "/_ping", &[], Send::Nothing)?;
        // An engine that says nothing is as old as they get.
        let theirs = answer.header("Api-Version").and_then(parse_version).unwrap_or((1, 24));
        client.version = client.version.min(theirs);
        Ok(client)
    }

    /// The version spoken, to be compared.
    pub(crate) fn api_version(&self) -> (u32, u32) {
        self.version
    }

    /// The version spoken.
    pub(crate) fn version(&self) -> String {
        format!("{}.{}", self.version.0, self.version.1)
    }

    fn send_raw(
        &self,
        method: &str,
        target: &str,
        headers: &[(String, String)],
        send: Send<'_>,
    ) -> Result<Response> {
        let socket =
            self.endpoint.open().map_err(|e| Error::Unreachable(self.endpoint.unreachable(&e)))?;
        let all: Vec<_> = self.headers.iter().chain(headers).cloned().collect();
        Ok(http::request(socket, method, target, &all, send)?)
    }

    /// One request; an answer of 400 and above is an error.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        query: &Query,
        headers: &[(String, String)],
        send: Send<'_>,
    ) -> Result<Response> {
        let target = format!("/v{}{path}{}", self.version(), query.0);
        let mut answer = self.send_raw(method, &target, headers, send)?;
        if answer.status < 400 {
            return Ok(answer);
        }
        let body = answer.body.read_all(1 << 20).unwrap_or_default();
        let message = serde_json::from_slice::<api::model::ErrorReply>(&body)
            .map(|reply| reply.message)
            .ok()
            .filter(|m| !m.is_empty())
            .unwrap_or_else(|| String::from_utf8_lossy(&body).trim().to_owned());
        Err(Error::Refused { status: answer.status, message })
    }

    fn decode<T: DeserializeOwned>(mut answer: Response) -> Result<T> {
        let body = answer.body.read_all(MOST)?;
        // Older engines send null where newer ones send empty lists.
        api::decode(&body)
            .map_err(|e| Error::Broken(format!("cannot read the daemon's answer: {}", e.chain())))
    }

    /// `GET` with a JSON answer.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str, query: &Query) -> Result<T> {
        Self::decode(self.send("GET", path, query, &[], Send::Nothing)?)
    }

    /// `GET` with a JSON answer, exactly as it came.
    pub(crate) fn get_value(&self, path: &str, query: &Query) -> Result<serde_json::Value> {
        let mut answer = self.get_stream(path, query)?;
        serde_json::from_slice(&answer.body.read_all(MOST)?)
            .map_err(|e| Error::Broken(format!("cannot read the daemon's answer: {e}")))
    }

    /// `GET` with the answer's bytes.
    pub(crate) fn get_stream(&self, path: &str, query: &Query) -> Result<Response> {
        self.send("GET", path, query, &[], Send::Nothing)
    }

    /// `POST` without a body or an answer worth reading; the status tells 204 from 304.
    pub(crate) fn post(&self, path: &str, query: &Query) -> Result<u16> {
        Ok(self.send("POST", path, query, &[], Send::Nothing)?.status)
    }

    /// `POST` of nothing, with a JSON answer.
    pub(crate) fn post_for<T: DeserializeOwned>(&self, path: &str, query: &Query) -> Result<T> {
        Self::decode(self.send("POST", path, query, &[], Send::Nothing)?)
    }

    /// `POST` of JSON, with a JSON answer.
    pub(crate) fn post_json<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &Query,
        body: &impl Serialize,
    ) -> Result<T> {
        let body = serde_json::to_vec(body).map_err(|e| Error::Broken(e.to_string()))?;
        Self::decode(self.send("POST", path, query, &[], Send::Json(body))?)
    }

    /// `POST` of JSON, the answer unread.
    pub(crate) fn post_only(&self, path: &str, body: &impl Serialize) -> Result<()> {
        let body = serde_json::to_vec(body).map_err(|e| Error::Broken(e.to_string()))?;
        self.send("POST", path, &Query::new(), &[], Send::Json(body)).map(drop)
    }

    /// `DELETE`, with a JSON answer if there is one.
    pub(crate) fn delete(&self, path: &str, query: &Query) -> Result<Vec<u8>> {
        let mut answer = self.send("DELETE", path, query, &[], Send::Nothing)?;
        Ok(answer.body.read_all(MOST)?)
    }

    /// `POST` that turns the connection into a byte stream; with what came along already.
    pub(crate) fn hijack(
        &self,
        path: &str,
        query: &Query,
        body: Vec<u8>,
    ) -> Result<(Socket, Vec<u8>)> {
        let answer = self.send("POST", path, query, &[], Send::Upgrade(body))?;
        if !matches!(answer.status, 101 | 200) {
            let text = format!("unable to upgrade to tcp, received {}", answer.status);
            return Err(Error::Broken(text));
        }
        Ok(answer.body.into_socket())
    }

    /// `POST` that turns the connection to HTTP/2; nothing when the engine does not speak it there.
    pub(crate) fn switch(
        &self,
        path: &str,
        headers: &[(String, String)],
    ) -> Result<Option<(Socket, Vec<u8>)>> {
        let sent = self.send("POST", path, &Query::new(), headers, Send::Switch("h2c"));
        match sent {
            Ok(answer) if answer.status == 101 => Ok(Some(answer.body.into_socket())),
            Ok(_) | Err(Error::Refused { status: 400 | 404 | 405 | 501, .. }) => Ok(None),
            Err(err) => Err(err),
        }
    }
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.trim().trim_start_matches('v').split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
