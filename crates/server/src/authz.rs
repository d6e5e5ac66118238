//! Authorization plugins: each request is shown to them before it is answered, each answer before it is sent.
//!
//! Flow: `router::answer` reads what is to be shown ([`Gate::request`]), lets the request be answered, and
//! shows the answer ([`Gate::response`]). All plugins have to agree, in the order in which they were given.
//! Invariants: a plugin that fails denies; a document is shown whole or the request is refused, whatever its
//! content type says, because handlers do not look at that either; registries' credentials are never shown.
//! Source: Docker's page "Access authorization plugin", Moby `pkg/authorization` (texts, order, fields).
//! Not here: finding and calling plugins (crate `plugin`).

use crate::reply::{self, Reply};
use base::{Error, Principal, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use plugin::Plugin;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

/// Longest document that is shown; longer ones are refused.
const REQUEST_MAX: usize = 4 << 20;
/// Longest answer whose text is shown.
const RESPONSE_MAX: u64 = 64 << 10;

/// Routes whose body is no document: it is passed on unread, and plugins see the rest.
const STREAMS: [&str; 9] = [
    "/build",
    "/containers/{}/archive",
    "/containers/{}/attach",
    "/grpc",
    "/images/create",
    "/images/load",
    "/plugins/create",
    "/session",
    "/volumes/{}/import",
];

/// The plugins in force.
#[derive(Debug, Default)]
pub(crate) struct Plugins(RwLock<Arc<[Plugin]>>);

impl Plugins {
    /// Takes other plugins, which have to be there and be for authorization.
    pub(crate) async fn set(
        &self,
        names: &[String],
        folders: &[PathBuf],
        limit: Duration,
    ) -> Result<()> {
        let folders: Arc<[PathBuf]> = folders.into();
        let mut plugins = Vec::new();
        for name in names {
            let plugin = Plugin::new(name, Arc::clone(&folders), limit);
            let wrong = |why: String| {
                Error::invalid(format!("error validating authorization plugin {name}"))
                    .caused_by(why)
            };
            let implements = plugin.activate().await.map_err(|err| wrong(err.chain()))?;
            if !implements.iter().any(|i| i == "authz") {
                return Err(wrong("it does not implement authz".into()));
            }
            plugins.push(plugin);
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = plugins.into();
        Ok(())
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// The gate that a request goes through; `None` when there are no plugins.
    pub(crate) fn gate(
        &self,
        by: &Principal,
        certificates: &[String],
        request: &Request<Incoming>,
    ) -> Option<Gate> {
        let plugins = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        if plugins.is_empty() {
            return None;
        }
        let uri = request.uri();
        let shown = Shown {
            user: by.name.clone(),
            user_authn_method: if by.name.is_empty() { "" } else { "TLS" },
            request_method: request.method().to_string(),
            request_uri: uri.path_and_query().map_or("/", |p| p.as_str()).to_owned(),
            request_body: None,
            request_headers: headers(request.headers()),
            request_peer_certificates: certificates.iter().map(|c| STANDARD.encode(c)).collect(),
            response_body: None,
            response_headers: None,
            response_status_code: None,
        };
        Some(Gate { plugins, shown })
    }
}

/// What plugins see, in their names.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown {
    user: String,
    #[serde(rename = "UserAuthNMethod")]
    user_authn_method: &'static str,
    request_method: String,
    request_uri: String,
    /// base64, as Go writes bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_body: Option<String>,
    request_headers: BTreeMap<String, String>,
    /// PEM, as base64.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    request_peer_certificates: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_headers: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_status_code: Option<u16>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Verdict {
    #[serde(default)]
    allow: bool,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    err: String,
}

/// One request on its way.
#[derive(Debug)]
pub(crate) struct Gate {
    plugins: Arc<[Plugin]>,
    shown: Shown,
}

impl Gate {
    /// Shows the request. Gives back its document, when it has been read for that; `pattern` is its route's.
    ///
    /// # Errors
    /// `Forbidden` with the plugin's words, or for a document that is too long.
    pub(crate) async fn request(
        &mut self,
        pattern: Option<&str>,
        body: &mut Option<Incoming>,
    ) -> Result<Option<Bytes>> {
        let mut document = None;
        let streamed = pattern.is_none_or(|p| STREAMS.contains(&p));
        if !streamed && let Some(body) = body.take() {
            let read = Limited::new(body, REQUEST_MAX).collect().await.map_err(|err| {
                Error::forbidden(format!(
                    "request body too large for authorization plugin: more than {REQUEST_MAX} bytes"
                ))
                .caused_by(err.to_string())
            })?;
            let bytes = read.to_bytes();
            // Credentials are between client and registry.
            if pattern != Some("/auth") && !bytes.is_empty() {
                self.shown.request_body = Some(STANDARD.encode(&bytes));
            }
            document = Some(bytes);
        }
        self.ask("AuthZPlugin.AuthZReq").await?;
        Ok(document)
    }

    /// Shows the answer; a denial replaces it.
    pub(crate) async fn response(mut self, reply: Reply) -> Reply {
        let (parts, mut body) = reply.into_parts();
        self.shown.response_status_code = Some(parts.status.as_u16());
        self.shown.response_headers = Some(headers(&parts.headers));
        if body.size_hint().upper().is_some_and(|size| size <= RESPONSE_MAX) {
            match body.collect().await {
                Ok(read) => {
                    let bytes = read.to_bytes();
                    if !bytes.is_empty() {
                        self.shown.response_body = Some(STANDARD.encode(&bytes));
                    }
                    body = reply::full(bytes);
                }
                Err(err) => {
                    return reply::failure(
                        &Error::internal("cannot read the answer").caused_by(err.to_string()),
                    );
                }
            }
        }
        match self.ask("AuthZPlugin.AuthZRes").await {
            Ok(()) => Reply::from_parts(parts, body),
            Err(err) => reply::failure(&err),
        }
    }

    async fn ask(&self, method: &str) -> Result<()> {
        for plugin in &*self.plugins {
            let name = plugin.name();
            let failed =
                |why: String| Error::internal(format!("plugin {name} failed with error: {why}"));
            let verdict: Verdict =
                plugin.call(method, &self.shown).await.map_err(|err| failed(err.chain()))?;
            if !verdict.err.is_empty() {
                return Err(failed(verdict.err));
            }
            if !verdict.allow {
                return Err(Error::forbidden(format!(
                    "authorization denied by plugin {name}: {}",
                    verdict.msg
                )));
            }
        }
        Ok(())
    }
}

/// Headers in the names that Go gives them, without credentials.
fn headers(all: &HeaderMap) -> BTreeMap<String, String> {
    all.iter()
        .filter(|(name, _)| !matches!(name.as_str(), "x-registry-auth" | "x-registry-config"))
        .map(|(name, value)| {
            let mut start = true;
            let name = name.as_str().chars().map(|c| {
                let c = if start { c.to_ascii_uppercase() } else { c };
                start = c == '-';
                c
            });
            (name.collect(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_shown_in_go_s_names_without_credentials() {
        let mut all = HeaderMap::new();
        all.insert("content-type", "a/b".parse().unwrap());
        all.insert("x-registry-auth", "secret".parse().unwrap());
        let shown = headers(&all);
        assert_eq!(shown.into_iter().collect::<Vec<_>>(), [("Content-Type".into(), "a/b".into())]);
    }
}
