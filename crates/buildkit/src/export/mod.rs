//! Results: to the image store, a registry, or the client's disk.
//!
//! Flow: [`export`] solves what the front end left unsolved, makes a config for each state, and hands both to
//! the exporters that the client asked for; their answers are one map, which clients write down as metadata.

mod annotations;
mod archive;
mod by_digest;
mod local;
mod release;
mod sending;
mod store;
mod tree;

use crate::{
    attest, cache,
    failure::Failure,
    history::Attachment,
    job::{Job, Outcome, Reference},
    proto::{control, pb},
    solve::{Out, State, evaluate, layered},
};
use base::{Error, Platform, Result};
use image::{ConfigBlob, ImageConfig};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Where a front end tells what a result stands on.
pub(crate) const BASE_NAME: &str = "gantry.base.name";
pub(crate) const BASE_DIGEST: &str = "gantry.base.digest";
/// Where front ends tell the config of what a result stands on.
pub(crate) const BASE_CONFIG: &str = "containerimage.base.config";

/// A result that is ready to go somewhere.
#[derive(Clone, Debug)]
pub(crate) struct Product {
    /// Platform, as the front end calls it; empty for the one result of a build without platforms.
    pub(crate) name: String,
    /// Its files.
    pub(crate) out: Option<Out>,
    /// What the front end says of the image, as JSON.
    pub(crate) config: Option<Vec<u8>>,
    /// What it is made by.
    pub(crate) definition: Option<pb::Definition>,
    /// What it stands on.
    pub(crate) base: Base,
    /// How many of its layers are that image's.
    pub(crate) base_layers: usize,
    /// What its front end says of it.
    pub(crate) said: Vec<attest::Said>,
}

/// The time that stands for others in an image.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Epoch {
    /// Seconds since 1970.
    pub(crate) seconds: Option<i64>,
    /// No file above the base image is later (`rewrite-timestamp`).
    pub(crate) files: bool,
}

/// The image that a result stands on; empty where nothing is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) name: String,
    pub(crate) digest: String,
}

/// Exports a build's outcome; gives what clients are told.
///
/// # Errors
/// Of what is still to be solved, and of the exporters.
pub(crate) async fn export(
    job: &Arc<Job>,
    outcome: &Outcome,
    exporters: &[control::Exporter],
    epoch: Option<i64>,
) -> Result<HashMap<String, String>, Arc<Failure>> {
    let products = products(job, outcome).await?;
    note_origins(job, &products);
    let mut told = HashMap::new();
    for (index, exporter) in exporters.iter().enumerate() {
        let attrs: BTreeMap<String, String> =
            exporter.attrs.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        let files = cache::on(&exporter.attrs, "rewrite-timestamp")
            .map_err(|e| Arc::new(Failure::from(e)))?
            .unwrap_or(false);
        let times = Epoch { seconds: epoch, files };
        let done = match exporter.r#type.as_str() {
            "moby" | "image" => store::store(job, &products, &attrs, times).await,
            "docker" | "oci" => {
                archive::archive(job, &products, &exporter.r#type, &attrs, index, times).await
            }
            "tar" => local::tar(job, &products, &attrs, index, epoch).await,
            "local" => local::local(job, &products, &attrs, index, epoch).await,
            other => Err(Error::invalid(format!("exporter {other:?} could not be found"))),
        };
        told.extend(done.map_err(|e| Arc::new(Failure::from(e)))?);
    }
    let cached = cache::export(job, &products).await;
    told.extend(cached.map_err(|e| Arc::new(Failure::from(e)))?);
    Ok(told)
}

/// Keeps for the history where each result comes from.
fn note_origins(job: &Arc<Job>, products: &[Product]) {
    for product in products {
        match attest::origin(job, product) {
            Ok(origin) => job.attach(Attachment {
                platform: product.name.clone(),
                media_type: attest::STATEMENT.to_owned(),
                bytes: origin.value.to_string().into_bytes(),
                annotations: HashMap::from([(
                    attest::PREDICATE.to_owned(),
                    origin.kind.to_string(),
                )]),
            }),
            Err(err) => {
                tracing::warn!(
                    build = job.id,
                    err = err.chain(),
                    "where a result comes from is not kept"
                );
            }
        }
    }
}

async fn products(job: &Arc<Job>, outcome: &Outcome) -> Result<Vec<Product>, Arc<Failure>> {
    let known = |what: &str, name: &str| {
        let key = match name {
            "" => what.to_owned(),
            name => format!("{what}/{name}"),
        };
        outcome.metadata.get(&key).cloned()
    };
    let text = |what: &str, name: &str| {
        String::from_utf8_lossy(&known(what, name).unwrap_or_default()).into_owned()
    };
    let mut products = Vec::new();
    let single = outcome.single.iter().map(|reference| (String::new(), reference));
    let several = outcome.several.iter().map(|(name, reference)| (name.clone(), reference));
    let all: Vec<(String, &Reference)> = single.chain(several).collect();
    for (name, reference) in all {
        let out = evaluate(job, reference).await?;
        let base = Base { name: text(BASE_NAME, &name), digest: text(BASE_DIGEST, &name) };
        let config = known("containerimage.config", &name);
        let definition = reference.definition.clone();
        let base_layers = known(BASE_CONFIG, &name)
            .and_then(|json| serde_json::from_slice::<ImageConfig>(&json).ok())
            .map_or(0, |config| config.rootfs.diff_ids.len());
        let alone = outcome.several.is_empty();
        let said = outcome.said.iter().filter(|s| alone || s.platform == name).cloned().collect();
        products.push(Product { config, name, out, definition, base, base_layers, said });
    }
    Ok(products)
}

/// A result as an image: its config, with history and layers in step, and the state that has the layers.
///
/// # Errors
/// `Invalid` for a config that cannot be read.
pub(crate) async fn image(
    job: &Arc<Job>,
    product: &Product,
    times: Epoch,
) -> Result<(ConfigBlob, State)> {
    let epoch = times.seconds;
    let mut state = match &product.out {
        None => State::scratch(),
        Some(Out::State(state)) => state.clone(),
        Some(Out::Folder(folder)) => layered(job, folder).await?,
    };
    let platform = match product.name.as_str() {
        "" => Platform::host().short(),
        name => name.parse()?,
    };
    let mut config = match &product.config {
        Some(json) => parse(json).map_err(|e| {
            Error::invalid("failed to parse image config from the build's result").caused_by(e)
        })?,
        None => ImageConfig::scratch(&platform),
    };
    let layers = match &state.image {
        Some(image) => job.host.image_layers(image)?,
        None => Vec::new(),
    };
    // What the base image was built from is not what this one was.
    config.rest.remove(cache::INLINE);
    if job.cache.inline
        && let Some(records) = cache::inline(job, &layers, epoch)?
    {
        config.rest.insert(cache::INLINE.into(), records.into());
    }
    let made = layer_times(job, &layers)?;
    // The cache above names the layers by where they are, which stays.
    let mut layers = layers;
    if let (Some(image), Some(epoch), true) = (&state.image, epoch, times.files) {
        let changed = job.host.retimed(image, product.base_layers, epoch).await?;
        state = State::of(&changed);
        layers = match &state.image {
            Some(image) => job.host.image_layers(image)?,
            None => Vec::new(),
        };
    }
    config.rootfs.kind = "layers".into();
    config.rootfs.diff_ids = layers.iter().map(|l| l.diff_id.clone()).collect();
    let time = match epoch {
        Some(epoch) => Some(base::Timestamp::from_unix(epoch, 0)),
        None => config.created,
    };
    in_step(&mut config, time);
    date(&mut config.history, &made);
    if config.created.is_none() || epoch.is_some() {
        let last = config.history.iter().rev().find_map(|step| step.created);
        config.created = time.or(last).or_else(|| Some(base::Timestamp::now()));
    }
    if let (Some(epoch), Some(time)) = (epoch, time) {
        for step in &mut config.history {
            if step.created.is_some_and(|c| c.unix() > epoch) {
                step.created = Some(time);
            }
        }
    }
    Ok((config.seal(), state))
}

/// Reads the config of a front end, which need not say what is known better here: the layers.
fn parse(json: &[u8]) -> serde_json::Result<ImageConfig> {
    let mut value: serde_json::Value = serde_json::from_slice(json)?;
    if let Some(fields) = value.as_object_mut() {
        let none = serde_json::json!({ "type": "layers", "diff_ids": [] });
        fields.insert("rootfs".into(), none);
    }
    serde_json::from_value(value)
}

/// When each of these layers was made, as far as a step of this build came to it: now or in an earlier build.
fn layer_times(job: &Job, layers: &[build::host::Layer]) -> Result<Vec<Option<base::Timestamp>>> {
    let mut times: Vec<Option<base::Timestamp>> = vec![None; layers.len()];
    for kept in job.kept() {
        let own = job.host.image_layers(&kept.image)?;
        let is_below = own.len() <= layers.len()
            && own.iter().zip(layers).all(|(below, layer)| below.id == layer.id);
        if let (true, Some(top)) = (is_below, own.len().checked_sub(1)) {
            let time = &mut times[top];
            *time = Some(time.map_or(kept.created, |earlier| earlier.min(kept.created)));
        }
    }
    Ok(times)
}

/// Gives entries without a time that of their layer, and those without a layer that of the layer before; before all
/// new layers that of the first. So the same steps give the same image, as with BuildKit.
fn date(history: &mut [image::config::History], layers: &[Option<base::Timestamp>]) {
    let mut layer = layers.iter();
    for step in history.iter_mut().filter(|step| !step.empty_layer) {
        step.created = step.created.or(layer.next().copied().flatten());
    }
    let new = history.iter().skip_while(|step| step.created.is_some());
    let mut time = new.clone().find_map(|step| step.created);
    time = time.or_else(|| history.iter().rev().find_map(|step| step.created));
    let mut is_new = false;
    for step in history {
        match step.created {
            Some(created) if is_new => time = Some(created),
            Some(_) => {}
            None => {
                is_new = true;
                step.created = time;
            }
        }
    }
}

/// Makes the history name as many layers as there are: front ends may say less or more.
fn in_step(config: &mut ImageConfig, time: Option<base::Timestamp>) {
    let layers = config.rootfs.diff_ids.len();
    let mut named = config.history.iter().filter(|h| !h.empty_layer).count();
    for step in config.history.iter_mut().rev() {
        if named <= layers {
            break;
        }
        if !step.empty_layer {
            step.empty_layer = true;
            named -= 1;
        }
    }
    while named < layers {
        config.history.push(image::config::History {
            created: time,
            created_by: "created by buildkit".into(),
            comment: "buildkit.exporter.image.v0".into(),
            ..image::config::History::default()
        });
        named += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_have_the_times_of_their_layers() {
        let at = |n: i64| Some(base::Timestamp::from_unix(n, 0));
        let step = |created, empty_layer| image::config::History {
            created,
            empty_layer,
            ..Default::default()
        };
        let dated = |mut history: Vec<image::config::History>, layers: &[Option<_>]| {
            date(&mut history, layers);
            history.iter().map(|step| step.created.map(|t| t.unix())).collect::<Vec<_>>()
        };
        // A base with a layer; then ENV, a step, CMD.
        let new = vec![step(at(1), false), step(None, true), step(None, false), step(None, true)];
        assert_eq!(dated(new, &[None, at(7)]), [Some(1), Some(7), Some(7), Some(7)]);
        // Only what makes no layer is new.
        assert_eq!(dated(vec![step(at(1), false), step(None, true)], &[None]), [Some(1), Some(1)]);
        assert_eq!(dated(vec![step(None, true)], &[]), [None]);
        // What says its time keeps it.
        assert_eq!(dated(vec![step(at(3), false)], &[at(9)]), [Some(3)]);
    }

    #[test]
    fn history_names_as_many_layers_as_there_are() {
        let step = |empty_layer| image::config::History { empty_layer, ..Default::default() };
        let layer = base::Digest::sha256(b"x");
        let count = |history: Vec<image::config::History>, layers: usize| {
            let mut config = ImageConfig { history, ..ImageConfig::default() };
            config.rootfs.diff_ids = vec![layer.clone(); layers];
            in_step(&mut config, None);
            let named = config.history.iter().filter(|h| !h.empty_layer).count();
            (named, config.history.len())
        };
        assert_eq!(count(vec![step(false), step(true)], 1), (1, 2));
        assert_eq!(count(vec![step(false), step(false)], 1), (1, 2));
        assert_eq!(count(vec![step(true)], 2), (2, 3));
    }
}
