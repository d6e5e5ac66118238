//! One request, as handlers see it: version, captured names, query, body, caller.
//!
//! What can be read of it without an engine is an [`Asked`]: each route has a reader for that (`routes::ROUTES`).

use crate::{socket::Peer, versions::Version};
use base::{Error, Principal, Result, filters::Filters};
use buildkit::BuildKit;
use bytes::Bytes;
use engine::Engine;
use http::{HeaderMap, Method, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// Bytes of a body that is read whole. Docker has no limit; 10 MB of labels are known to be sent.
const JSON_MAX: usize = 16 << 20;

/// What a request says before its body.
pub(crate) struct Asked {
    pub(crate) version: Version,
    pub(crate) method: Method,
    pub(crate) names: Vec<String>,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
}

/// A request.
pub(crate) struct Call {
    pub(crate) engine: Arc<Engine>,
    pub(crate) asked: Asked,
    pub(crate) body: Option<Incoming>,
    /// The body, when it has been read already.
    pub(crate) read: Option<Bytes>,
    pub(crate) upgrade: Option<OnUpgrade>,
    pub(crate) by: Principal,
    pub(crate) peer: Peer,
    pub(crate) builder: Option<Arc<BuildKit>>,
}

impl std::ops::Deref for Call {
    type Target = Asked;

    fn deref(&self) -> &Asked {
        &self.asked
    }
}

impl Asked {
    /// The captured name at `at`.
    pub(crate) fn name(&self, at: usize) -> &str {
        self.names.get(at).map_or("", String::as_str)
    }

    /// Reads a JSON body. An empty one is the default value, as Go's handlers take it.
    pub(crate) fn json<T: DeserializeOwned + Default>(&self, body: &[u8]) -> Result<T> {
        match self.document(body)? {
            Some(bytes) => api::decode(bytes),
            None => Ok(T::default()),
        }
    }

    /// A JSON body as text; `None` when it is empty.
    pub(crate) fn document<'b>(&self, bytes: &'b [u8]) -> Result<Option<&'b [u8]>> {
        let declared = self.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let media = declared.unwrap_or("").split(';').next().unwrap_or("").trim();
        let fault = match media {
            "" if declared.is_none() => {
                "malformed Content-Type header (): mime: no media type".into()
            }
            _ if media.eq_ignore_ascii_case("application/json") => String::new(),
            _ => format!("unsupported Content-Type header ({media}): must be 'application/json'"),
        };
        if bytes.iter().all(u8::is_ascii_whitespace) && (fault.is_empty() || bytes.is_empty()) {
            return Ok(None);
        }
        if fault.is_empty() { Ok(Some(bytes)) } else { Err(Error::invalid(fault)) }
    }

    /// The `filters` parameter.
    pub(crate) fn filters(&self) -> Result<Filters> {
        Filters::parse(self.query.get("filters").unwrap_or(""))
    }
}

impl Call {
    /// Reads a whole body by its route's reader.
    pub(crate) async fn read<T>(
        &mut self,
        reader: impl FnOnce(&Asked, &[u8]) -> Result<T>,
    ) -> Result<T> {
        let bytes = self.bytes().await?;
        reader(&self.asked, &bytes)
    }

    /// Reads a whole body.
    pub(crate) async fn bytes(&mut self) -> Result<Bytes> {
        if let Some(read) = self.read.take() {
            return Ok(read);
        }
        let Some(body) = self.body.take() else { return Ok(Bytes::new()) };
        match Limited::new(body, JSON_MAX).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(err) => {
                Err(Error::invalid("cannot read the request body").caused_by(err.to_string()))
            }
        }
    }
}

/// Query parameters in order, repeated ones kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|p| !p.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (unescape(key, true), unescape(value, true))
        });
        Self(pairs.collect())
    }

    /// Adds the pairs of a form body.
    pub(crate) fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    pub(crate) fn all(&self, key: &str) -> Vec<String> {
        self.0.iter().filter(|(k, _)| k == key).map(|(_, v)| v.clone()).collect()
    }

    /// Not empty.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.get(key).filter(|v| !v.is_empty())
    }

    /// Docker's booleans: everything is true but "", 0, no, false and none.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.get(key).is_some_and(truth)
    }

    pub(crate) fn flag_or(&self, key: &str, default: bool) -> bool {
        self.text(key).map_or(default, truth)
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<i64>> {
        self.text(key)
            .map(|v| {
                v.parse().map_err(|_| {
                    Error::invalid(format!(
                        "strconv.ParseInt: parsing \"{v}\": invalid syntax (parameter {key})"
                    ))
                })
            })
            .transpose()
    }
}

fn truth(value: &str) -> bool {
    !matches!(value.trim().to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
}

/// Percent-decoding; bytes that are no UTF-8 become U+FFFD, malformed escapes stay as they are.
pub(crate) fn unescape(text: &str, plus: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let digit = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'+' if plus => out.push(b' '),
            b'%' => match (
                bytes.get(at + 1).copied().and_then(digit),
                bytes.get(at + 2).copied().and_then(digit),
            ) {
                (Some(high), Some(low)) => {
                    out.push(high << 4 | low);
                    at += 2;
                }
                _ => out.push(b'%'),
            },
            other => out.push(other),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_keep_order_and_decode() {
        let query = Query::parse("t=a%2Fb&t=c+d&all=1&x=0&y=False&bad=%zz");
        assert_eq!(query.all("t"), ["a/b", "c d"]);
        assert!(query.flag("all") && !query.flag("x") && !query.flag("y") && !query.flag("none"));
        assert_eq!(query.get("bad"), Some("%zz"));
        assert!(query.number("t").is_err());
    }
}
