//! Getting blobs, from any place in them on.

use super::{Failed, Repository, repository::request};
use base::{Digest, Error};
use fetch::{Request, Response};
use http::{Method, StatusCode, header};
use std::time::Duration;

/// A registry that must fetch a blob from elsewhere first takes its time.
const ANSWER: Duration = Duration::from_secs(60);

/// A blob that is coming.
#[derive(Debug)]
pub struct Blob {
    /// Where in the blob the body begins: 0 when the server knows no ranges.
    pub offset: u64,
    /// The answer.
    pub response: Response,
}

impl Repository {
    /// Asks for a blob of `size` bytes from byte `from` on, up to `to` (exclusive) when given.
    ///
    /// # Errors
    /// When the registry refuses, or answers another range than asked for.
    pub async fn blob(
        &self,
        digest: &Digest,
        size: u64,
        from: u64,
        to: Option<u64>,
    ) -> Result<Blob, Failed> {
        let rest = format!("blobs/{digest}");
        let response =
            self.ask(&|e| Ok(ranged(request(Method::GET, e, &rest)?, size, from, to))).await?;
        Ok(checked(response, size, from)?)
    }

    /// As [`Repository::blob`], from a URL that the manifest names for a layer that its registry may not
    /// hand out. No credentials go there.
    ///
    /// # Errors
    /// When the server refuses or the place may not be reached.
    pub async fn foreign_blob(
        &self,
        place: &str,
        size: u64,
        from: u64,
        to: Option<u64>,
    ) -> Result<Blob, Failed> {
        let uri = fetch::url::parse(place)?;
        let host = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        let host = host.rsplit('@').next().unwrap_or_default();
        let insecure = self.registries.settings().is_insecure(host);
        if uri.scheme_str() == Some("http") && !insecure {
            return Err(Error::forbidden(format!(
                "refusing to fetch a layer over http from {}",
                fetch::url::shown(place)
            ))
            .into());
        }
        let own = self.endpoints.iter().any(super::endpoint::Endpoint::is_own);
        let addresses =
            if own { fetch::Addresses::NotLinkLocal } else { fetch::Addresses::Outside };
        let client = self.registries.client(host, insecure, addresses)?;
        let request = ranged(Request::new(Method::GET, uri), size, from, to);
        let asked = request.shown();
        let response = client.send(request).await?;
        if !response.status().is_success() {
            return Err(Failed::Refused(super::Refusal::read(asked, response).await));
        }
        Ok(checked(response, size, from)?)
    }

    /// Whether a blob is there, and its size when the registry tells.
    ///
    /// # Errors
    /// When the registry cannot be asked.
    pub async fn has_blob(&self, digest: &Digest) -> Result<bool, Failed> {
        let rest = format!("blobs/{digest}");
        match self.ask_again(&|e| request(Method::HEAD, e, &rest)).await {
            Ok(_) => Ok(true),
            // A refusal of HEAD has no body that says why; the upload that follows is told it.
            Err(err) if matches!(err.status(), Some(401 | 403 | 404)) => Ok(false),
            Err(err) => Err(err),
        }
    }

    /// A small blob whole, checked.
    ///
    /// # Errors
    /// When the registry refuses; `Invalid` when it is larger than `limit` or not what it should be.
    pub async fn small_blob(
        &self,
        digest: &Digest,
        size: u64,
        limit: u64,
    ) -> Result<bytes::Bytes, Failed> {
        if size > limit {
            return Err(Error::invalid(format!(
                "blob {digest} has {size} bytes, {limit} are allowed"
            ))
            .into());
        }
        let rest = format!("blobs/{digest}");
        let mut tried = 0;
        let bytes = loop {
            let response = self.ask_again(&|e| request(Method::GET, e, &rest)).await?;
            match response.bytes(size).await {
                Ok(bytes) => break bytes,
                Err(err) if err.failure() == fetch::Failure::Invalid => {
                    return Err(Error::invalid(format!(
                        "blob {digest} is larger than the {size} bytes that its manifest says"
                    ))
                    .into());
                }
                Err(err) if tried >= 2 => return Err(err.into()),
                Err(_) => tried += 1,
            }
        };
        if Digest::sha256(&bytes) != *digest {
            let found = Digest::sha256(&bytes);
            return Err(
                Error::invalid(format!("digest mismatch: expected {digest}, got {found}")).into()
            );
        }
        if bytes.len() as u64 != size {
            return Err(Error::invalid(format!(
                "blob {digest} has {} bytes, its manifest says {size}",
                bytes.len()
            ))
            .into());
        }
        Ok(bytes)
    }
}

fn ranged(request: Request, size: u64, from: u64, to: Option<u64>) -> Request {
    let request = request.answer_within(ANSWER);
    if from == 0 && to.is_none_or(|to| to >= size) {
        return request;
    }
    let last = to.unwrap_or(size).min(size).saturating_sub(1);
    request.header(header::RANGE, &format!("bytes={from}-{last}"))
}

/// Where the body of an answer begins. The size is checked by whoever reads, byte by byte.
fn checked(response: Response, size: u64, from: u64) -> base::Result<Blob> {
    if response.status() != StatusCode::PARTIAL_CONTENT {
        if let Some(length) = response.length().filter(|l| *l != size) {
            return Err(Error::invalid(format!(
                "the registry sends a blob of {length} bytes, its manifest says {size}"
            )));
        }
        return Ok(Blob { offset: 0, response });
    }
    let range = response.header(header::CONTENT_RANGE).unwrap_or_default();
    let parsed = range.strip_prefix("bytes ").and_then(|r| {
        let (range, total) = r.split_once('/')?;
        let (first, _) = range.split_once('-')?;
        Some((first.trim().parse::<u64>().ok()?, total.trim().parse::<u64>().ok()))
    });
    match parsed {
        Some((first, total)) if first == from && total.is_none_or(|t| t == size) => {
            Ok(Blob { offset: first, response })
        }
        _ => Err(Error::invalid(format!(
            "the registry answers range {range:?} of a blob of {size} bytes, asked for from {from} on"
        ))),
    }
}
