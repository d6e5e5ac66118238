//! Getting and putting manifests and indexes.

use super::{Failed, Repository, repository::request};
use crate::{
    Limits,
    manifest::{self, DOCKER_LIST, DOCKER_MANIFEST, Descriptor, OCI_INDEX, OCI_MANIFEST},
};
use base::{Digest, Error};
use bytes::Bytes;
use fetch::Upload;
use http::{HeaderName, Method, header};
use serde::Deserialize;

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// The manifests before schema 2, which promise nothing about their layers.
const SCHEMA_1: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];
const KNOWN: [&str; 4] = [OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST];

/// A manifest or index, its bytes checked against its digest.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Digest of the bytes.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// The bytes.
    pub bytes: Bytes,
}

impl Fetched {
    /// The descriptor that points to it.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.media_type.clone(), self.digest.clone(), self.bytes.len() as u64)
    }
}

impl Repository {
    /// What a tag or digest means now, without its bytes; nothing when the registry does not say.
    ///
    /// # Errors
    /// As [`Repository::manifest`].
    pub async fn head(&self, name: &str) -> Result<Option<Descriptor>, Failed> {
        let rest = format!("manifests/{name}");
        let response = self
            .ask_again(&|e| {
                let request = request(Method::HEAD, e, &rest)?;
                Ok(accepting(request))
            })
            .await?;
        let digest = response.header(CONTENT_DIGEST).and_then(|d| d.parse().ok());
        let media_type = media_type(&response);
        let size = response.length().unwrap_or_default();
        Ok(digest.map(|digest| Descriptor::new(media_type, digest, size)))
    }

    /// A manifest or index by tag or digest.
    ///
    /// # Errors
    /// When the registry refuses; when what it sends is not what was asked for, or no manifest at all.
    pub async fn manifest(&self, name: &str, limits: &Limits) -> Result<Fetched, Failed> {
        let rest = format!("manifests/{name}");
        let mut response = None;
        // The body breaks off later than the head.
        for last in [false, true] {
            let answer =
                self.ask_again(&|e| Ok(accepting(request(Method::GET, e, &rest)?))).await?;
            let media_type = media_type(&answer);
            let promised = answer.header(CONTENT_DIGEST).map(str::to_owned);
            if answer.length().is_some_and(|l| l > limits.manifest_bytes) {
                return Err(too_large(limits));
            }
            match answer.bytes(limits.manifest_bytes).await {
                Ok(bytes) => {
                    response = Some((media_type, promised, bytes));
                    break;
                }
                Err(err) if err.failure() == fetch::Failure::Invalid => {
                    return Err(too_large(limits));
                }
                Err(err) if last => return Err(err.into()),
                Err(_) => {}
            }
        }
        let Some((media_type, promised, bytes)) = response else {
            return Err(Error::internal(format!("manifest {name} was not received")).into());
        };
        Ok(checked(name, media_type, promised.as_deref(), bytes)?)
    }

    /// Puts a manifest or index under a tag or its digest.
    ///
    /// # Errors
    /// When the registry refuses.
    pub async fn put_manifest(
        &self,
        name: &str,
        media_type: &str,
        bytes: &Bytes,
    ) -> Result<(), Failed> {
        let rest = format!("manifests/{name}");
        self.ask_again(&|e| {
            Ok(request(Method::PUT, e, &rest)?
                .header(header::CONTENT_TYPE, media_type)
                .upload(Upload::Bytes(bytes.clone())))
        })
        .await
        .map(drop)
    }

    /// Whether a manifest is there.
    ///
    /// # Errors
    /// When the registry cannot be asked.
    pub async fn has_manifest(&self, digest: &Digest) -> Result<bool, Failed> {
        match self.head(digest.as_str()).await {
            Ok(_) => Ok(true),
            Err(err) if err.status() == Some(404) => Ok(false),
            Err(err) => Err(err),
        }
    }
}

fn too_large(limits: &Limits) -> Failed {
    let text =
        format!("the manifest is larger than the {} bytes that are allowed", limits.manifest_bytes);
    Failed::Wrong(Error::invalid(text))
}

fn accepting(request: fetch::Request) -> fetch::Request {
    KNOWN.iter().fold(request, |request, known| request.header(header::ACCEPT, known))
}

fn media_type(response: &fetch::Response) -> String {
    let text = response.header(header::CONTENT_TYPE).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Checks that the bytes are what was asked for and what they say they are.
fn checked(
    name: &str,
    media_type: String,
    promised: Option<&str>,
    bytes: Bytes,
) -> base::Result<Fetched> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Says {
        #[serde(default)]
        schema_version: Option<u64>,
        #[serde(default)]
        media_type: String,
    }
    let digest = Digest::sha256(&bytes);
    let wrong = |wanted: &str| {
        Error::invalid(format!("manifest verification failed for digest {wanted}"))
            .caused_by(format!("the registry sent {digest}"))
    };
    if name.contains(':') && name != digest.as_str() {
        return Err(wrong(name));
    }
    if let Some(promised) = promised.filter(|p| p.starts_with("sha256:"))
        && promised != digest.as_str()
    {
        return Err(wrong(promised));
    }
    let says: Says = serde_json::from_slice(&bytes).map_err(|e| {
        Error::invalid(format!("the registry's answer to manifest {name} is no manifest"))
            .caused_by(e)
    })?;
    if SCHEMA_1.contains(&media_type.as_str()) || says.schema_version == Some(1) {
        return Err(Error::invalid(
            "manifests of schema 1 are not supported: have the image pushed again with a current tool",
        ));
    }
    let known = KNOWN.contains(&media_type.as_str());
    if known && !says.media_type.is_empty() && says.media_type != media_type {
        return Err(Error::invalid(format!(
            "the manifest says that it is {}, the registry that it is {media_type}",
            says.media_type
        )));
    }
    let parsed = manifest::parse(&bytes)?;
    let is_index = matches!(parsed, manifest::Either::Index(_));
    let media_type = match (known, says.media_type.as_str()) {
        (true, _) => media_type,
        (false, "") if is_index => OCI_INDEX.to_owned(),
        (false, "") => OCI_MANIFEST.to_owned(),
        (false, says) => says.to_owned(),
    };
    if !KNOWN.contains(&media_type.as_str()) {
        return Err(Error::invalid(format!("unsupported media type of a manifest: {media_type}")));
    }
    if is_index != matches!(media_type.as_str(), OCI_INDEX | DOCKER_LIST) {
        return Err(Error::invalid(format!(
            "the registry calls a manifest {media_type}, which it is not"
        )));
    }
    Ok(Fetched { digest, media_type, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = r#"{"schemaVersion":2,"manifests":[]}"#;

    fn check(
        name: &str,
        media_type: &str,
        promised: Option<&str>,
        body: &str,
    ) -> Result<String, String> {
        checked(name, media_type.into(), promised, Bytes::copy_from_slice(body.as_bytes()))
            .map(|f| f.media_type)
            .map_err(|e| e.chain())
    }

    #[test]
    fn a_manifest_is_what_was_asked_for() {
        let digest = Digest::sha256(INDEX.as_bytes()).to_string();
        assert_eq!(check("latest", OCI_INDEX, None, INDEX).unwrap(), OCI_INDEX);
        assert_eq!(check(&digest, "", Some(&digest), INDEX).unwrap(), OCI_INDEX);
        assert_eq!(check("x", "text/plain", None, INDEX).unwrap(), OCI_INDEX);
        let other = format!("sha256:{}", "0".repeat(64));
        for (name, promised) in [(other.as_str(), None), ("latest", Some(other.as_str()))] {
            let err = check(name, OCI_INDEX, promised, INDEX).unwrap_err();
            assert!(err.starts_with("manifest verification failed for digest sha256:000"), "{err}");
        }
    }

    #[test]
    fn confused_manifests_are_refused() {
        let says = format!(r#"{{"schemaVersion":2,"mediaType":"{DOCKER_LIST}","manifests":[]}}"#);
        for (media_type, body) in [
            (OCI_MANIFEST, INDEX),
            (OCI_INDEX, says.as_str()),
            (SCHEMA_1[1], INDEX),
            ("", r#"{"schemaVersion":1,"fsLayers":[]}"#),
            ("", "<html>"),
            ("", r#"{"schemaVersion":2,"mediaType":"x/y","manifests":[]}"#),
            ("", r#"{"schemaVersion":2}"#),
        ] {
            assert!(check("latest", media_type, None, body).is_err(), "{media_type} {body}");
        }
    }
}
