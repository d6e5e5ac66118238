//! What a registry has to know of a manifest: its type, what it points to, whom it is about.
//!
//! The bytes that came are what is stored and hashed; unknown fields are none of our business. This is
//! wider than `image::manifest`, which reads images that an engine can run: artifacts, indexes of
//! artifacts and manifests with a subject are read too, and lists may be as long as the limit of bytes
//! allows.
//! Source: OCI image-spec 1.1 `manifest.md`, `image-index.md`; Docker "Image Manifest V2, Schema 2".

use base::Digest;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// Largest manifest that is taken, in bytes: what the specification asks for and clients expect.
pub const MAX_BYTES: usize = 4 << 20;

/// OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI artifact manifest, which some clients of 2022 and 2023 still push.
pub const OCI_ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";
/// Docker manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker manifest, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// The types that are taken.
const TYPES: &[(&str, Shape)] = &[
    (OCI_MANIFEST, Shape::Image),
    (DOCKER_MANIFEST, Shape::Image),
    (OCI_INDEX, Shape::Index),
    (DOCKER_LIST, Shape::Index),
    (OCI_ARTIFACT, Shape::Artifact),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Image,
    Index,
    Artifact,
}

/// A manifest as the registry sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its media type, as it is served.
    pub media_type: String,
    /// `artifactType`, else for an image its config's media type; empty for an index without one.
    pub artifact_type: String,
    /// The manifest that this one is about.
    pub subject: Option<Digest>,
    /// Blobs that must be there, without double ones.
    pub blobs: Vec<Descriptor>,
    /// Manifests that an index lists, without double ones.
    pub manifests: Vec<Descriptor>,
    /// Its own annotations.
    pub annotations: Map<String, Value>,
}

/// Points to a blob or a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    #[serde(default, deserialize_with = "null_is_default")]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    #[serde(default, deserialize_with = "null_is_default")]
    urls: Vec<String>,
}

impl Descriptor {
    /// Whether the blob may live elsewhere: a non-distributable (foreign) layer with addresses.
    fn is_foreign(&self) -> bool {
        !self.urls.is_empty()
            && (self.media_type.contains(".nondistributable.")
                || self.media_type.contains(".foreign."))
    }
}

fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    d: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    schema_version: Option<u32>,
    #[serde(default, deserialize_with = "null_is_default")]
    media_type: String,
    #[serde(default, deserialize_with = "null_is_default")]
    artifact_type: String,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    blobs: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    #[serde(default, deserialize_with = "null_is_default")]
    annotations: Map<String, Value>,
}

/// Reads `bytes`, pushed as `content_type` (empty when the client did not say).
///
/// # Errors
/// A sentence for the client: not JSON, of no known type, or a body that contradicts its type, which
/// includes one that could be read as both an image and an index (CVE-2021-41190).
pub fn parse(bytes: &[u8], content_type: &str) -> Result<Manifest, String> {
    let wire: Wire = serde_json::from_slice(bytes).map_err(|e| format!("not a manifest: {e}"))?;
    let said = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let media_type = match (said.as_str(), wire.media_type.as_str()) {
        ("" | "application/json" | "application/octet-stream", "") => guess(&wire)?.to_owned(),
        ("" | "application/json" | "application/octet-stream", own) => own.to_owned(),
        (said, "") => said.to_owned(),
        (said, own) if said == own => own.to_owned(),
        (said, own) => {
            return Err(format!("pushed as {said}, but its mediaType is {own}"));
        }
    };
    let Some((_, shape)) = TYPES.iter().find(|(name, _)| *name == media_type) else {
        return Err(format!("manifests of type {media_type:?} are not taken"));
    };
    check(&wire, *shape)?;
    let artifact_type = match &wire.config {
        Some(config) if wire.artifact_type.is_empty() => config.media_type.clone(),
        _ => wire.artifact_type,
    };
    let blobs = wire.config.into_iter().chain(wire.layers.into_iter().flatten());
    let blobs = blobs.chain(wire.blobs.into_iter().flatten()).filter(|d| !d.is_foreign());
    Ok(Manifest {
        media_type,
        artifact_type,
        subject: wire.subject.map(|s| s.digest),
        blobs: distinct(blobs)?,
        manifests: distinct(wire.manifests.into_iter().flatten())?,
        annotations: wire.annotations,
    })
}

fn guess(wire: &Wire) -> Result<&'static str, String> {
    match (wire.manifests.is_some(), wire.config.is_some()) {
        (true, false) => Ok(OCI_INDEX),
        (false, true) => Ok(OCI_MANIFEST),
        _ => Err("neither Content-Type nor mediaType says what this is".to_owned()),
    }
}

fn check(wire: &Wire, shape: Shape) -> Result<(), String> {
    let image = wire.config.is_some() || wire.layers.is_some();
    let (index, artifact) = (wire.manifests.is_some(), wire.blobs.is_some());
    if shape != Shape::Artifact && wire.schema_version != Some(2) {
        return Err("schemaVersion is not 2".to_owned());
    }
    match shape {
        Shape::Image if index || artifact => {
            Err("an image's manifest lists other manifests".into())
        }
        Shape::Image if wire.config.is_none() => Err("config is missing".into()),
        Shape::Image if wire.layers.is_none() => Err("layers is missing".into()),
        Shape::Index if image || artifact => Err("an index has a config or layers".into()),
        Shape::Index if !index => Err("manifests is missing".into()),
        Shape::Artifact if image || index => Err("an artifact has a config or manifests".into()),
        _ => Ok(()),
    }
}

/// One descriptor per digest; two sizes for one digest cannot both be true.
fn distinct(all: impl Iterator<Item = Descriptor>) -> Result<Vec<Descriptor>, String> {
    let mut found: Vec<Descriptor> = all.collect();
    found.sort_by(|a, b| a.digest.cmp(&b.digest));
    if let Some(pair) =
        found.windows(2).find(|p| p[0].digest == p[1].digest && p[0].size != p[1].size)
    {
        return Err(format!(
            "{} is said to have {} and {} bytes",
            pair[0].digest, pair[0].size, pair[1].size
        ));
    }
    found.dedup_by(|a, b| a.digest == b.digest);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn blob(kind: &str, size: u32, rest: &str) -> String {
        format!(r#"{{"mediaType":"{kind}","digest":"{DIGEST}","size":{size}{rest}}}"#)
    }

    #[test]
    fn an_artifact_is_known_by_its_type_or_its_config() {
        let config = blob("application/x.config", 0, "");
        let text =
            format!(r#"{{"schemaVersion":2,"config":{config},"layers":[],"subject":{config}}}"#);
        let found = parse(text.as_bytes(), "").unwrap();
        assert_eq!(found.media_type, OCI_MANIFEST);
        assert_eq!(found.artifact_type, "application/x.config");
        assert_eq!(found.subject.unwrap().as_str(), DIGEST);
        let text = text.replacen('{', r#"{"artifactType":"x/y","#, 1);
        assert_eq!(parse(text.as_bytes(), OCI_MANIFEST).unwrap().artifact_type, "x/y");
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let b = blob("x", 0, "");
        let both = format!(r#"{{"schemaVersion":2,"config":{b},"layers":[],"manifests":[]}}"#);
        let lying = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[]}}"#);
        let sizes =
            format!(r#"{{"schemaVersion":2,"config":{b},"layers":[{}]}}"#, blob("x", 7, ""));
        for (text, kind) in [
            (both.as_str(), OCI_MANIFEST),
            (&both, OCI_INDEX),
            (&lying, OCI_MANIFEST),
            (&sizes, OCI_MANIFEST),
            (r#"{"schemaVersion":1,"manifests":[]}"#, OCI_INDEX),
            (r#"{"schemaVersion":2}"#, OCI_INDEX),
            (r#"{"schemaVersion":2,"manifests":[]}"#, "text/html"),
            (
                r#"{"schemaVersion":1,"name":"x","fsLayers":[]}"#,
                "application/vnd.docker.distribution.manifest.v1+json",
            ),
            ("", OCI_INDEX),
            ("[]", OCI_INDEX),
            (
                r#"{"schemaVersion":2,"manifests":[{"digest":"sha256:../../x","size":1}]}"#,
                OCI_INDEX,
            ),
            (r#"{"schemaVersion":2,"manifests":[{"digest":"sha256:00","size":-1}]}"#, OCI_INDEX),
        ] {
            assert!(parse(text.as_bytes(), kind).is_err(), "{kind}: {text}");
        }
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert!(parse(deep.as_bytes(), "").is_err());
    }

    #[test]
    fn foreign_layers_need_not_be_here() {
        let layer = blob(
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            5,
            r#","urls":["https://example.com/x"]"#,
        );
        let config = blob("c", 0, "").replace("e3b0", "e3b1");
        let text = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}]}}"#);
        assert_eq!(parse(text.as_bytes(), DOCKER_MANIFEST).unwrap().blobs.len(), 1);
    }

    proptest::proptest! {
        #[test]
        fn parsing_is_total(text in r#"[\[\]{}:,"a-z0-9 ]{0,80}"#) {
            let _ = parse(text.as_bytes(), OCI_INDEX);
        }
    }
}
