//! The image config (image-spec `config.md` and Docker's additions to it).
//!
//! [`ConfigBlob`] is a config as it came, bytes and meaning together; its id is the digest of the bytes and
//! the bytes are never written anew. [`ImageConfig`] is the meaning alone, which edits change and
//! [`ImageConfig::seal`] writes. Fields unknown here are carried along.

use crate::{
    limits,
    manifest::{bounded, null_is_default},
};
use base::{Digest, Error, ImageId, Platform, Result, Timestamp};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::{collections::BTreeMap, sync::Arc};

/// A config with the bytes it was read from.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigBlob {
    id: ImageId,
    raw: Arc<[u8]>,
    config: ImageConfig,
}

impl ConfigBlob {
    /// Reads a config.
    ///
    /// # Errors
    /// `Invalid` when it is no image config.
    pub fn parse(raw: impl Into<Arc<[u8]>>) -> Result<Self> {
        let raw = raw.into();
        let config: ImageConfig = serde_json::from_slice(&raw)
            .map_err(|e| Error::invalid("invalid image config").caused_by(e))?;
        if !matches!(config.rootfs.kind.as_str(), "" | "layers") {
            return Err(Error::invalid(format!(
                "invalid image config: unknown rootfs type {:?}",
                config.rootfs.kind
            )));
        }
        Ok(Self { id: Digest::sha256(&raw), raw, config })
    }

    /// The image's id: digest of the bytes.
    pub fn id(&self) -> &ImageId {
        &self.id
    }

    /// The bytes.
    pub fn raw(&self) -> &Arc<[u8]> {
        &self.raw
    }

    /// The meaning.
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }
}

/// What an image is: platform, history, layers and how it is run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// Processor architecture, in Go's words.
    #[serde(default, deserialize_with = "null_is_default")]
    pub architecture: String,
    /// Who made it.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub author: String,
    /// Commit or import message.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub comment: String,
    /// How it is run.
    #[serde(default, deserialize_with = "null_is_default")]
    pub config: RunConfig,
    /// When it says it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// Version of the engine that made it.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub docker_version: String,
    /// How it came to be, oldest step first.
    #[serde(default, deserialize_with = "history", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// Operating system.
    #[serde(default, deserialize_with = "null_is_default")]
    pub os: String,
    /// Its layers.
    pub rootfs: RootFs,
    /// Variant of the processor architecture.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub variant: String,
    /// Whatever else is written in it.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl ImageConfig {
    /// An empty image (`FROM scratch`) for `platform`.
    pub fn scratch(platform: &Platform) -> Self {
        Self {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
            rootfs: RootFs { kind: "layers".into(), diff_ids: Vec::new() },
            ..Self::default()
        }
    }

    /// Writes the config: from now on its bytes and id are fixed.
    pub fn seal(self) -> ConfigBlob {
        // Maps have string keys and no float is NaN, so there is nothing that JSON could not hold.
        let raw = serde_json::to_vec(&self).expect("an image config is always valid JSON");
        ConfigBlob { id: Digest::sha256(&raw), raw: raw.into(), config: self }
    }

    /// The platform it is for.
    pub fn platform(&self) -> Platform {
        let text = |s: &str, otherwise: &str| {
            if s.is_empty() { otherwise.to_owned() } else { s.to_owned() }
        };
        Platform {
            os: text(&self.os, "linux"),
            architecture: text(&self.architecture, &Platform::host().architecture),
            variant: self.variant.clone(),
        }
    }

    /// Adds a history entry, and its layer if it made one.
    pub fn push(&mut self, history: History, layer: Option<Digest>) {
        self.created = history.created;
        self.history.push(History { empty_layer: layer.is_none(), ..history });
        self.rootfs.kind = "layers".into();
        self.rootfs.diff_ids.extend(layer);
    }

    /// Chain ids of the layers: what a layer is together with those below it.
    pub fn chain_ids(&self) -> Vec<Digest> {
        chain_ids(&self.rootfs.diff_ids)
    }

    /// A string field that only Docker writes (`container`, `parent`).
    pub fn extra(&self, key: &str) -> &str {
        self.rest.get(key).and_then(Value::as_str).unwrap_or_default()
    }
}

/// Chain ids of a list of DiffIDs (image-spec `config.md`, "Layer ChainID").
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let next = match chain.last() {
            Some(below) => Digest::sha256(format!("{below} {diff_id}").as_bytes()),
            None => diff_id.clone(),
        };
        chain.push(next);
    }
    chain
}

/// The layers of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// DiffIDs, lowest first.
    #[serde(default, deserialize_with = "diff_ids")]
    pub diff_ids: Vec<Digest>,
}

/// One step of an image's history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// By whom.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub author: String,
    /// By which instruction.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub created_by: String,
    /// Message.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub comment: String,
    /// Whether the step made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// A key of a set that JSON writes as `{"key":{}}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Empty {}

impl<'de> Deserialize<'de> for Empty {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(d).map(|_| Self {})
    }
}

/// How containers of the image are run: Docker's container config, as far as an image has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RunConfig {
    /// `user[:group]`.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub user: String,
    /// `80/tcp`.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// `NAME=value`, in order.
    #[serde(default, deserialize_with = "strings", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Entry point; absent and empty differ.
    #[serde(default, deserialize_with = "words", skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Default command.
    #[serde(default, deserialize_with = "words", skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Health check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Whether the command is escaped already (Windows).
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub args_escaped: bool,
    /// Paths that become anonymous volumes.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub volumes: BTreeMap<String, Empty>,
    /// Working folder.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub working_dir: String,
    /// Instructions that run in a build from this image.
    #[serde(default, deserialize_with = "strings", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    /// Labels.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub labels: BTreeMap<String, String>,
    /// Signal that stops it.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub stop_signal: String,
    /// Seconds to wait for it to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// Shell of shell forms.
    #[serde(default, deserialize_with = "words", skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// Whatever else is written in it (`Hostname`, `Image`, ...).
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A health check. Durations are in nanoseconds, as Docker writes them; 0 inherits the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `[]` inherits, `["NONE"]` switches off, `["CMD", ...]` and `["CMD-SHELL", text]` run.
    #[serde(default, deserialize_with = "strings", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Between two probes.
    #[serde(default, skip_serializing_if = "zero")]
    pub interval: i64,
    /// Of one probe.
    #[serde(default, skip_serializing_if = "zero")]
    pub timeout: i64,
    /// In which failures do not count.
    #[serde(default, skip_serializing_if = "zero")]
    pub start_period: i64,
    /// Between two probes in the start period.
    #[serde(default, skip_serializing_if = "zero")]
    pub start_interval: i64,
    /// Failures in a row that make it unhealthy.
    #[serde(default, skip_serializing_if = "zero")]
    pub retries: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn zero(n: &i64) -> bool {
    *n == 0
}

fn diff_ids<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Digest>, D::Error> {
    bounded::<D, _, { limits::LAYERS }>(d)
}

fn history<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<History>, D::Error> {
    bounded::<D, _, { limits::ENTRIES }>(d)
}

fn strings<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    bounded::<D, _, { limits::ENTRIES }>(d)
}

/// A list of words, or one string that stands for a list of one (old clients write `"Cmd": "sh"`).
fn words<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        One(String),
        Many(Vec<String>),
    }
    Ok(Option::<Words>::deserialize(d)?.map(|w| match w {
        Words::One(one) => vec![one],
        Words::Many(many) => many,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_unknown_fields_survive() {
        let raw = br#"{ "os":"linux","architecture":"amd64","config":{"Cmd":"sh","Env":null,"Hostname":"x","Volumes":{"/v":{}}},
            "container":"abc","created":null,"x-own":[1,2],"rootfs":{"type":"layers","diff_ids":[]},"history":null}"#;
        let blob = ConfigBlob::parse(&raw[..]).unwrap();
        assert_eq!(&blob.raw()[..], &raw[..]);
        assert_eq!(*blob.id(), Digest::sha256(raw));
        let config = blob.config().clone();
        assert_eq!(config.config.cmd, Some(vec!["sh".to_owned()]));
        assert_eq!(config.extra("container"), "abc");
        let again = config.seal();
        let text = std::str::from_utf8(again.raw()).unwrap();
        assert!(text.contains(r#""x-own":[1,2]"#) && text.contains(r#""Hostname":"x""#), "{text}");
        assert_eq!(ConfigBlob::parse(again.raw().clone()).unwrap(), again);
    }

    #[test]
    fn chain_ids_follow_the_specification() {
        let a = Digest::sha256(b"a");
        let b = Digest::sha256(b"b");
        let chain = chain_ids(&[a.clone(), b.clone()]);
        assert_eq!(chain, [a.clone(), Digest::sha256(format!("{a} {b}").as_bytes())]);
    }

    #[test]
    fn malformed_configs_are_refused() {
        for bad in [
            "",
            "null",
            "[]",
            r#"{"os":"linux"}"#,
            r#"{"rootfs":{"type":"layers","diff_ids":["sha256:../x"]}}"#,
            r#"{"rootfs":{"type":"other","diff_ids":[]}}"#,
            r#"{"rootfs":{"diff_ids":[]},"created":"yesterday"}"#,
        ] {
            assert!(ConfigBlob::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn parsing_is_total(raw in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = ConfigBlob::parse(raw);
        }
    }
}
