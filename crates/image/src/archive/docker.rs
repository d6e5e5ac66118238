//! `manifest.json` of a docker-archive: a list of images, each a config, layers and tags.

use super::load::{Archive, LayerMember, LoadedImage, Origin};
use crate::{
    limits,
    manifest::{self, Either, bounded, null_is_default},
};
use base::{Digest, Error, Reference, Result};
use serde::{Deserialize, Deserializer};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default, deserialize_with = "null_is_default")]
    repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "layers")]
    layers: Vec<String>,
}

fn layers<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    bounded::<D, _, { limits::LAYERS }>(d)
}

#[derive(Deserialize)]
struct Items(#[serde(deserialize_with = "items")] Vec<Item>);

fn items<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Item>, D::Error> {
    bounded::<D, _, { limits::ENTRIES }>(d)
}

/// All images of the archive.
pub(super) fn images(archive: &Archive<'_>, listing: &[u8]) -> Result<Vec<LoadedImage>> {
    let Items(items) = serde_json::from_slice(listing)
        .map_err(|e| Error::invalid("invalid archive: malformed manifest.json").caused_by(e))?;
    let manifests = manifests(archive)?;
    items.iter().map(|item| image(archive, item, &manifests)).collect()
}

fn image(archive: &Archive<'_>, item: &Item, manifests: &[Kept]) -> Result<LoadedImage> {
    let references = item.repo_tags.iter().map(|t| tag(t)).collect::<Result<_>>()?;
    let config = archive.config(&item.config, None)?;
    let members: Vec<LayerMember> = item
        .layers
        .iter()
        .map(|name| LayerMember { name: name.clone(), promised: None, size: None })
        .collect();
    let layers = archive.layers(&config, &members)?;
    let manifest = manifests.iter().find(|m| m.config == *config.id());
    Ok(LoadedImage {
        manifest: manifest.map(|m| m.digest.clone()),
        manifests: manifest.map(|m| (m.digest.clone(), m.bytes.clone())).into_iter().collect(),
        config,
        layers,
        references,
        origin: Origin::DockerArchive,
    })
}

fn tag(text: &str) -> Result<Reference> {
    let reference: Reference =
        text.parse().map_err(|e| Error::invalid(format!("invalid tag {text:?}")).caused_by(e))?;
    match (reference.tag(), reference.digest()) {
        (Some(_), None) => Ok(reference),
        _ => Err(Error::invalid(format!("invalid tag {text:?}"))),
    }
}

/// A manifest that the archive holds beside `manifest.json`.
struct Kept {
    digest: Digest,
    config: Digest,
    bytes: Vec<u8>,
}

/// Manifests that `index.json` lists, which Docker 25 and later write as well. Damage here is no reason
/// to refuse the archive: they are only noted.
fn manifests(archive: &Archive<'_>) -> Result<Vec<Kept>> {
    let Some(job) = archive.find("index.json")? else { return Ok(Vec::new()) };
    let bytes = archive.read("index.json", &job, archive.options.limits.listing_bytes)?;
    let Ok(Either::Index(index)) = manifest::parse(&bytes) else { return Ok(Vec::new()) };
    let mut kept = Vec::new();
    for descriptor in index.manifests.iter().filter(|d| !d.is_index()) {
        if let Ok(Some(bytes)) = archive.manifest(descriptor)
            && let Ok(Either::Manifest(manifest)) = manifest::parse(&bytes)
        {
            kept.push(Kept {
                digest: descriptor.digest.clone(),
                config: manifest.config.digest,
                bytes,
            });
        }
    }
    Ok(kept)
}
