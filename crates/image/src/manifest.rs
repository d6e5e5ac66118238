//! Manifests and indexes, OCI and Docker schema 2 (image-spec `manifest.md`, `image-index.md`).
//!
//! Parsing here is for looking at them; what is stored and hashed are always the bytes that came.

use crate::limits;
use base::{Digest, Error, Platform, Result};
use serde::{Deserialize, Deserializer, Serialize, de};
use std::{collections::BTreeMap, fmt, marker::PhantomData};

/// OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image config.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// OCI layer, not compressed.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// Docker manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker manifest, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Points to a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    #[serde(default)]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// For which platform it is, where that matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Notes such as the reference's name.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// Where else the blob may be had, for layers that registries may not hand out.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
}

impl Descriptor {
    /// Of a blob without platform, notes or other places.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            platform: None,
            annotations: BTreeMap::new(),
            urls: Vec::new(),
        }
    }

    /// Whether it points to an index by its media type.
    pub fn is_index(&self) -> bool {
        matches!(self.media_type.as_str(), OCI_INDEX | DOCKER_LIST)
    }

    /// Whether it is an attestation beside an image and no image itself.
    pub fn is_attestation(&self) -> bool {
        self.annotations.contains_key("vnd.docker.reference.type")
    }
}

/// A manifest of one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// Its own media type; OCI lets it be absent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The config.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(deserialize_with = "layers")]
    pub layers: Vec<Descriptor>,
    /// Notes.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
}

/// A list of manifests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// Its own media type; OCI lets it be absent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The manifests or further indexes.
    #[serde(deserialize_with = "entries")]
    pub manifests: Vec<Descriptor>,
    /// Notes.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
}

/// One of both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Either {
    /// One image.
    Manifest(Manifest),
    /// Several.
    Index(Index),
}

/// Reads a manifest or an index. One that could be read as both is refused (the confusion of
/// CVE-2021-41190).
///
/// # Errors
/// `Invalid` when it is neither.
pub fn parse(bytes: &[u8]) -> Result<Either> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        #[serde(default)]
        manifests: Option<de::IgnoredAny>,
        #[serde(default)]
        layers: Option<de::IgnoredAny>,
        #[serde(default)]
        config: Option<de::IgnoredAny>,
        #[serde(default)]
        media_type: String,
    }
    let bad = |e| Error::invalid("invalid image manifest").caused_by(e);
    let shape: Shape = serde_json::from_slice(bytes).map_err(bad)?;
    let single = shape.layers.is_some() || shape.config.is_some();
    match (shape.manifests.is_some(), single) {
        (true, false) if !matches!(shape.media_type.as_str(), OCI_MANIFEST | DOCKER_MANIFEST) => {
            Ok(Either::Index(serde_json::from_slice(bytes).map_err(bad)?))
        }
        (false, true) if !matches!(shape.media_type.as_str(), OCI_INDEX | DOCKER_LIST) => {
            Ok(Either::Manifest(serde_json::from_slice(bytes).map_err(bad)?))
        }
        _ => {
            Err(Error::invalid("invalid image manifest: neither one image's manifest nor an index"))
        }
    }
}

fn layers<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Vec<T>, D::Error> {
    bounded::<D, T, { limits::LAYERS }>(d)
}

fn entries<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Vec<T>, D::Error> {
    bounded::<D, T, { limits::ENTRIES }>(d)
}

/// Reads `null` as the empty value, as Go does.
pub(crate) fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    d: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

/// Reads a list, or `null`, of at most `MAX` values.
pub(crate) fn bounded<'de, D: Deserializer<'de>, T: Deserialize<'de>, const MAX: usize>(
    d: D,
) -> Result<Vec<T>, D::Error> {
    struct Visitor<T, const MAX: usize>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const MAX: usize> de::Visitor<'de> for Visitor<T, MAX> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MAX} values")
        }

        fn visit_unit<E: de::Error>(self) -> Result<Vec<T>, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut all = Vec::new();
            while let Some(value) = seq.next_element()? {
                if all.len() == MAX {
                    return Err(de::Error::invalid_length(MAX + 1, &self));
                }
                all.push(value);
            }
            Ok(all)
        }
    }

    d.deserialize_any(Visitor::<T, MAX>(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn manifests_and_indexes_are_told_apart() {
        let blob = format!(r#"{{"mediaType":"x","digest":"{DIGEST}","size":0}}"#);
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{blob},"layers":[{blob}],"annotations":null}}"#
        );
        assert!(
            matches!(parse(manifest.as_bytes()).unwrap(), Either::Manifest(m) if m.layers.len() == 1)
        );
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{blob}]}}"#);
        assert!(
            matches!(parse(index.as_bytes()).unwrap(), Either::Index(i) if i.manifests.len() == 1)
        );
        let both = format!(r#"{{"schemaVersion":2,"config":{blob},"layers":[],"manifests":[]}}"#);
        assert!(parse(both.as_bytes()).is_err());
        let lying = format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","config":{blob},"layers":[]}}"#
        );
        assert!(parse(lying.as_bytes()).is_err());
    }

    #[test]
    fn long_lists_and_deep_values_are_refused() {
        let blob = format!(r#"{{"digest":"{DIGEST}","size":0}}"#);
        let many = vec![blob.clone(); limits::LAYERS + 1].join(",");
        let manifest = format!(r#"{{"schemaVersion":2,"config":{blob},"layers":[{many}]}}"#);
        assert!(parse(manifest.as_bytes()).is_err());
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(parse(format!(r#"{{"manifests":{deep}}}"#).as_bytes()).is_err());
        for bad in [
            r#"{"schemaVersion":2,"manifests":[{"digest":"sha256:../../x","size":1}]}"#,
            "",
            "null",
            "[]",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
