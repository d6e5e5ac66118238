//! BuildKit's format of a cache: a config (`application/vnd.buildkit.cacheconfig.v0`) that lists layers as a
//! forest and records that point into it, beside the layers' blobs in a manifest or an index.
//!
//! A record here has no inputs: a step's name is made of content alone, so one look decides. Records of others
//! with inputs are read over; their names mean nothing here, as ours mean nothing to them.
//! Source: BuildKit `cache/remotecache/v1/types/spec.go`.

use base::{Digest, Error, Result, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Media type of the config.
pub(super) const CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";
/// Where an image's config keeps the records of an inline cache.
pub(crate) const INLINE: &str = "moby.buildkit.cache.v0";
/// What a descriptor of a layer says of the tar that it unpacks to.
pub(super) const UNCOMPRESSED: &str = "containerd.io/uncompressed";
/// Bytes of a config.
pub(super) const CONFIG_BYTES: u64 = 16 << 20;
/// Records and layers of one cache.
const ENTRIES: usize = 100_000;

/// The config.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Config {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) layers: Vec<Layer>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) records: Vec<Record>,
}

/// A layer, on top of another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Layer {
    pub(super) blob: Digest,
    /// -1 for none; the first layer is left out, as Go does.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) parent: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) annotations: Option<Annotations>,
}

/// What is known of a layer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Annotations {
    #[serde(default)]
    pub(super) media_type: String,
    #[serde(default, rename = "diffID", skip_serializing_if = "Option::is_none")]
    pub(super) diff_id: Option<Digest>,
    #[serde(default)]
    pub(super) size: u64,
    #[serde(default)]
    pub(super) created_at: Timestamp,
}

/// What a step came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) digest: Digest,
    #[serde(default, rename = "layers", skip_serializing_if = "Vec::is_empty")]
    pub(super) results: Vec<Top>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) chains: Vec<Chain>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) inputs: Vec<serde_json::Value>,
}

/// A layer with all below it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Top {
    #[serde(default)]
    pub(super) layer: usize,
    #[serde(default)]
    pub(super) created_at: Timestamp,
}

/// Layers one by one, lowest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Chain {
    #[serde(default)]
    pub(super) layers: Vec<usize>,
    #[serde(default)]
    pub(super) created_at: Timestamp,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
fn is_zero(n: &i64) -> bool {
    *n == 0
}

impl Config {
    /// Reads one.
    ///
    /// # Errors
    /// `Invalid` for a malformed or oversized one.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let config: Self = serde_json::from_slice(bytes)
            .map_err(|e| Error::invalid("cannot read the config of a cache").caused_by(e))?;
        config.checked()
    }

    /// The config that an inline cache stands for: the layers are the image's.
    ///
    /// # Errors
    /// `Invalid` for a malformed or oversized one.
    pub(super) fn inline(records: &[u8], layers: Vec<Layer>) -> Result<Self> {
        let records = serde_json::from_slice(records)
            .map_err(|e| Error::invalid("cannot read the cache in an image").caused_by(e))?;
        Self { layers, records }.checked()
    }

    fn checked(self) -> Result<Self> {
        match self.layers.len().max(self.records.len()) > ENTRIES {
            true => {
                Err(Error::invalid(format!("a cache has more than {ENTRIES} layers or records")))
            }
            false => Ok(self),
        }
    }

    /// The layers of each record, lowest first; a record that points nowhere, or in a ring, has none.
    pub(super) fn chains(&self) -> HashMap<Digest, Vec<usize>> {
        let mut all = HashMap::new();
        for record in self.records.iter().filter(|r| r.inputs.is_empty()) {
            let whole = record.chains.first().map(|c| c.layers.clone());
            let found = match record.results.first() {
                Some(top) => self.down(top.layer),
                None => whole.filter(|c| c.iter().all(|l| *l < self.layers.len())),
            };
            if let Some(chain) = found.filter(|c| c.len() <= image::limits::LAYERS) {
                all.insert(record.digest.clone(), chain);
            }
        }
        all
    }

    fn down(&self, top: usize) -> Option<Vec<usize>> {
        let mut chain = Vec::new();
        let mut at = Some(top);
        while let Some(index) = at {
            if chain.len() > image::limits::LAYERS {
                return None;
            }
            chain.push(index);
            let parent = self.layers.get(index)?.parent;
            at = usize::try_from(parent).ok();
        }
        chain.reverse();
        Some(chain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_cache_of_buildkit_is_read() {
        let text = format!(
            r#"{{"layers":[{{"blob":"{A}","parent":-1,"annotations":{{"mediaType":"x","diffID":"{A}","size":7,"createdAt":"2024-01-01T00:00:00Z"}}}},{{"blob":"{A}"}}],
            "records":[{{"digest":"{A}","layers":[{{"layer":1,"createdAt":"2024-01-01T00:00:00Z"}}]}},
            {{"digest":"sha256:{}","inputs":[[{{"link":0}}]]}}]}}"#,
            "1".repeat(64)
        );
        let config = Config::parse(text.as_bytes()).unwrap();
        assert_eq!(config.layers[1].parent, 0, "the first layer is left out");
        let chains = config.chains();
        assert_eq!(chains[&A.parse::<Digest>().unwrap()], [0, 1]);
        assert_eq!(chains.len(), 1, "records with inputs are others'");
        let again = serde_json::to_vec(&config).unwrap();
        assert_eq!(Config::parse(&again).unwrap(), config);
    }

    #[test]
    fn rings_and_dangling_pointers_are_no_records() {
        let ring = format!(
            r#"{{"layers":[{{"blob":"{A}","parent":1}},{{"blob":"{A}","parent":0}}],"records":[{{"digest":"{A}","layers":[{{"layer":1}}]}}]}}"#
        );
        let ring =
            ring.replace("\"layer\":1}", "\"layer\":1,\"createdAt\":\"2024-01-01T00:00:00Z\"}");
        assert!(Config::parse(ring.as_bytes()).unwrap().chains().is_empty());
        let far = format!(
            r#"{{"layers":[],"records":[{{"digest":"{A}","chains":[{{"layers":[9]}}]}}]}}"#
        );
        assert!(Config::parse(far.as_bytes()).unwrap().chains().is_empty());
        for bad in ["", "7", r#"{"layers":[{"blob":"../x"}]}"#, r#"{"records":[{"digest":1}]}"#] {
            assert!(Config::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
