//! What the client asks of the Dockerfile front end.

use crate::proto::pb;
use base::{Error, Platform, Result};
use image::ImageConfig;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

/// Which steps are done again although they are in the cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum NoCache {
    /// None.
    #[default]
    Off,
    /// All.
    All,
    /// Those of these stages.
    Stages(Vec<String>),
}

/// Everything asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    pub(super) filename: String,
    pub(super) target: String,
    pub(super) args: BTreeMap<String, Option<String>>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) platforms: Vec<Platform>,
    /// The answer tells of platforms even when there is one.
    pub(super) multi: bool,
    pub(super) no_cache: NoCache,
    pub(super) pull: bool,
    /// `name` and `address`, each.
    pub(super) hosts: Vec<(String, String)>,
    pub(super) network: String,
    pub(super) shm_size: i64,
    /// Name, soft and hard.
    pub(super) ulimits: Vec<(String, i64, i64)>,
    pub(super) cgroup_parent: String,
    pub(super) hostname: String,
    /// Named contexts, with their places.
    pub(super) contexts: BTreeMap<String, String>,
    /// The context's place, when it is no folder of the client.
    pub(super) remote: String,
    /// What the client calls the context's folder.
    pub(super) context_name: String,
    /// What it calls the folder with the Dockerfile.
    pub(super) dockerfile_name: String,
    /// Sessions that own folders, by folder.
    pub(super) sessions: BTreeMap<String, String>,
    /// Seconds since 1970 that stand for every time.
    pub(super) epoch: Option<i64>,
    /// `frontend.outline` and the like.
    pub(super) request: String,
    /// Definitions that the client gave, by name (`input:NAME` as a context's place).
    pub(super) inputs: HashMap<String, pb::Definition>,
    /// Configs of the images that they are.
    pub(super) input_configs: HashMap<String, ImageConfig>,
    /// What cache mounts' ids begin with.
    pub(super) cache_namespace: String,
}

impl Options {
    /// Reads them.
    ///
    /// # Errors
    /// `Invalid` for a value that cannot be read.
    pub(super) fn read(opts: &HashMap<String, String>) -> Result<Self> {
        let text = |key: &str| opts.get(key).cloned().unwrap_or_default();
        let or = |key: &str, default: &str| match text(key) {
            empty if empty.is_empty() => default.to_owned(),
            value => value,
        };
        let below = |prefix: &'static str| {
            let pairs = opts.iter();
            pairs.filter_map(move |(k, v)| Some((k.strip_prefix(prefix)?.to_owned(), v.clone())))
        };
        let args: BTreeMap<String, Option<String>> =
            below("build-arg:").map(|(k, v)| (k, Some(v))).collect();
        let arg = |name: &str| args.get(name).cloned().flatten().unwrap_or_default();
        let platforms = text("platform");
        let platforms = platforms.split(',').filter(|p| !p.trim().is_empty());
        let platforms = platforms
            .map(|p| p.trim().parse().map(Platform::short))
            .collect::<Result<Vec<Platform>>>()?;
        let epoch = arg("SOURCE_DATE_EPOCH");
        let multi = [text("multi-platform"), arg("BUILDKIT_MULTI_PLATFORM")];
        let shm = text("shm-size");
        Ok(Self {
            filename: or("filename", "Dockerfile"),
            target: text("target"),
            labels: below("label:").collect(),
            multi: platforms.len() > 1
                || multi.iter().any(|m| matches!(m.as_str(), "1" | "true" | "t")),
            platforms,
            no_cache: match opts.get("no-cache").map(String::as_str) {
                None => NoCache::Off,
                Some("") => NoCache::All,
                Some(list) => {
                    NoCache::Stages(list.split(',').map(|s| s.trim().to_lowercase()).collect())
                }
            },
            pull: text("image-resolve-mode") == "pull",
            hosts: hosts(&text("add-hosts"))?,
            network: text("force-network-mode"),
            shm_size: match shm.as_str() {
                "" => 0,
                text => text
                    .parse()
                    .map_err(|_| Error::invalid(format!("invalid shm-size {text:?}")))?,
            },
            ulimits: ulimits(&text("ulimit"))?,
            cgroup_parent: text("cgroup-parent"),
            hostname: or("hostname", &arg("BUILDKIT_SANDBOX_HOSTNAME")),
            contexts: below("context:").collect(),
            remote: text("context"),
            context_name: or("contextkey", "context"),
            dockerfile_name: or("dockerfilekey", "dockerfile"),
            sessions: below("local-sessionid:").collect(),
            epoch: match epoch.as_str() {
                "" => None,
                text => {
                    Some(text.parse().map_err(|_| {
                        Error::invalid(format!("invalid SOURCE_DATE_EPOCH: {text}"))
                    })?)
                }
            },
            inputs: HashMap::new(),
            input_configs: below("input-metadata:")
                .filter_map(|(name, json)| {
                    Some(input_config(&json).transpose()?.map(|c| (name, c)))
                })
                .collect::<Result<_>>()?,
            request: text("requestid"),
            cache_namespace: arg("BUILDKIT_CACHE_MOUNT_NS"),
            args,
        })
    }
}

/// The config in what a client says of an input: JSON of names and bytes.
fn input_config(json: &str) -> Result<Option<ImageConfig>> {
    use base64::Engine as _;
    let bad = |e| Error::invalid("failed to parse input metadata").caused_by(e);
    let all: BTreeMap<String, String> = serde_json::from_str(json).map_err(bad)?;
    let Some(text) = all.get("containerimage.config") else { return Ok(None) };
    let raw = base64::engine::general_purpose::STANDARD
        .decode(text)
        .map_err(|e| Error::invalid("failed to parse input metadata").caused_by(e))?;
    serde_json::from_slice(&raw).map(Some).map_err(bad)
}

/// `name=address` or `name:address`, by comma or as CSV fields.
fn hosts(text: &str) -> Result<Vec<(String, String)>> {
    let pairs = text.split(',').filter(|p| !p.trim().is_empty());
    pairs
        .map(|pair| {
            let pair = pair.trim();
            let split = pair.split_once('=').or_else(|| pair.split_once(':'));
            let (name, address) =
                split.ok_or_else(|| Error::invalid(format!("invalid host {pair:?}")))?;
            let address = address.trim_start_matches('[').trim_end_matches(']');
            address
                .parse::<std::net::IpAddr>()
                .map_err(|_| Error::invalid(format!("failed to parse IP {address:?} of {name}")))?;
            Ok((name.to_owned(), address.to_owned()))
        })
        .collect()
}

/// `nofile=1024:2048`, by comma.
fn ulimits(text: &str) -> Result<Vec<(String, i64, i64)>> {
    let all = text.split(',').filter(|p| !p.trim().is_empty());
    all.map(|limit| {
        let bad = || Error::invalid(format!("invalid ulimit {limit:?}"));
        let (name, values) = limit.trim().split_once('=').ok_or_else(bad)?;
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let number = |text: &str| text.parse::<i64>().map_err(|_| bad());
        Ok((name.to_owned(), number(soft)?, number(hard)?))
    })
    .collect()
}

/// The parts of a value that is written as one line of CSV: `type=bind,"target=/a,b"`.
///
/// # Errors
/// `Invalid` for an unbalanced quote.
pub(crate) fn csv(text: &str) -> Result<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let last = fields.len() - 1;
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                fields[last].push('"');
            }
            '"' if quoted || fields[last].is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => fields[last].push(c),
        }
    }
    match quoted {
        true => Err(Error::invalid(format!("failed to parse csv {text:?}: unbalanced quote"))),
        false => Ok(fields),
    }
}

/// Platforms as BuildKit's exporters read them (`refs.platforms`).
pub(super) fn platforms_json(platforms: &[Platform]) -> Value {
    let one = |p: &Platform| {
        let mut platform = serde_json::json!({ "architecture": p.architecture, "os": p.os });
        if !p.variant.is_empty() {
            platform["variant"] = p.variant.clone().into();
        }
        serde_json::json!({ "ID": p.to_string(), "Platform": platform })
    };
    serde_json::json!({ "Platforms": platforms.iter().map(one).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let opts = [
            ("build-arg:A", "1"),
            ("build-arg:SOURCE_DATE_EPOCH", "42"),
            ("label:l", "v"),
            ("platform", "linux/amd64,linux/arm64"),
            ("no-cache", "One,two"),
            ("add-hosts", "a=1.2.3.4,b=[::1]"),
            ("ulimit", "nofile=10:20"),
            ("context:dep", "docker-image://x"),
        ];
        let opts = opts.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let read = Options::read(&opts).unwrap();
        assert_eq!(read.args["A"].as_deref(), Some("1"));
        assert_eq!((read.epoch, read.multi, read.platforms.len()), (Some(42), true, 2));
        assert_eq!(read.no_cache, NoCache::Stages(vec!["one".into(), "two".into()]));
        assert_eq!(read.hosts[1], ("b".into(), "::1".into()));
        assert_eq!(read.ulimits, [("nofile".to_owned(), 10, 20)]);
        assert_eq!(
            (read.filename.as_str(), read.contexts["dep"].as_str()),
            ("Dockerfile", "docker-image://x")
        );
        assert!(hosts("a=nowhere").is_err() && ulimits("nofile").is_err());
    }

    #[test]
    fn values_are_cut_as_csv() {
        assert_eq!(csv("a=1,\"b=x,y\",c=\"q\"").unwrap(), ["a=1", "b=x,y", "c=\"q\""]);
        assert_eq!(csv("\"a=\"\"q\"\"\"").unwrap(), ["a=\"q\""]);
        assert!(csv("\"a").is_err());
    }
}
