//! `index.json` of an OCI layout, nested indexes, and the single manifest of a skopeo `dir:`.
//!
//! A top-level entry is an image of its own. Entries that share a name, and the entries of a nested index,
//! are one image for several platforms: the wanted one is loaded, the manifests of the others are kept.

use super::load::{Archive, LayerMember, LoadedImage, Origin};
use crate::manifest::{self, Descriptor, Either, Index, Manifest};
use base::{Digest, Error, Platform, Reference, Result};

/// Indexes inside indexes, at most. Digests rule out loops; this rules out towers.
const DEPTH: usize = 4;
const NAME: &str = "io.containerd.image.name";
const REF: &str = "org.opencontainers.image.ref.name";

/// Bytes of manifests seen on the way to an image.
type Kept = Vec<(Digest, Vec<u8>)>;

/// All images of an OCI layout.
pub(super) fn images(archive: &Archive<'_>, listing: Vec<u8>) -> Result<Vec<LoadedImage>> {
    let index = match manifest::parse(&listing)? {
        Either::Index(index) => index,
        Either::Manifest(_) => {
            return Err(Error::invalid("invalid archive: index.json is not an index"));
        }
    };
    let entries: Vec<&Descriptor> =
        index.manifests.iter().filter(|d| !d.is_attestation()).collect();
    let mut images = Vec::new();
    let mut done: Vec<&str> = Vec::new();
    for entry in &entries {
        let name = name(entry);
        let mut same: Vec<&Descriptor> = vec![entry];
        if let Some(name) = name {
            if done.contains(&name) {
                continue;
            }
            done.push(name);
            same = entries.iter().copied().filter(|d| self::name(d) == Some(name)).collect();
        }
        let mut kept = Kept::new();
        let chosen = if same.len() == 1 { same[0] } else { choose(archive, &same, &mut kept)? };
        let mut image = follow(archive, chosen, &mut kept, 0)?;
        image.references.extend(name.and_then(reference));
        images.push(image);
    }
    if images.is_empty() {
        return Err(Error::invalid("invalid archive: index.json lists no image"));
    }
    Ok(images)
}

/// The image of a skopeo `dir:`.
pub(super) fn dir(archive: &Archive<'_>, listing: Vec<u8>) -> Result<LoadedImage> {
    let mut kept = Kept::new();
    let digest = Digest::sha256(&listing);
    let mut image = match manifest::parse(&listing)? {
        Either::Manifest(manifest) => image(archive, &digest, &manifest)?,
        Either::Index(index) => {
            let all: Vec<&Descriptor> = index.manifests.iter().collect();
            let chosen = choose(archive, &all, &mut kept)?;
            follow(archive, chosen, &mut kept, 0)?
        }
    };
    kept.push((digest, listing));
    image.manifests = kept;
    image.origin = Origin::Dir;
    Ok(image)
}

fn follow(
    archive: &Archive<'_>,
    descriptor: &Descriptor,
    kept: &mut Kept,
    depth: usize,
) -> Result<LoadedImage> {
    if depth > DEPTH {
        return Err(Error::invalid(format!("index nested more than {DEPTH} deep")));
    }
    let bytes = archive.manifest(descriptor)?.ok_or_else(|| {
        Error::invalid(format!("invalid archive: manifest {} is missing", descriptor.digest))
    })?;
    let parsed = manifest::parse(&bytes)?;
    kept.push((descriptor.digest.clone(), bytes));
    match parsed {
        Either::Manifest(manifest) => {
            let mut image = image(archive, &descriptor.digest, &manifest)?;
            image.manifests = std::mem::take(kept);
            Ok(image)
        }
        Either::Index(Index { manifests, .. }) => {
            let all: Vec<&Descriptor> = manifests.iter().filter(|d| !d.is_attestation()).collect();
            let chosen = choose(archive, &all, kept)?;
            follow(archive, chosen, kept, depth + 1)
        }
    }
}

fn image(archive: &Archive<'_>, digest: &Digest, manifest: &Manifest) -> Result<LoadedImage> {
    let path = |digest: &Digest| -> Result<String> {
        archive
            .blob(digest)?
            .map(|(name, _)| name)
            .ok_or_else(|| Error::invalid(format!("invalid archive: blob {digest} is missing")))
    };
    let config = archive.config(&path(&manifest.config.digest)?, Some(&manifest.config.digest))?;
    let members = manifest
        .layers
        .iter()
        .map(|l| {
            Ok(LayerMember {
                name: path(&l.digest)?,
                promised: Some(l.digest.clone()),
                size: Some(l.size),
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let layers = archive.layers(&config, &members)?;
    Ok(LoadedImage {
        config,
        layers,
        references: Vec::new(),
        manifest: Some(digest.clone()),
        manifests: Vec::new(),
        origin: Origin::OciLayout,
    })
}

/// Picks the entry for the wanted platform and keeps the manifests of the others that are here.
fn choose<'d>(
    archive: &Archive<'_>,
    all: &[&'d Descriptor],
    kept: &mut Kept,
) -> Result<&'d Descriptor> {
    let wanted = archive.options.platform.clone().unwrap_or_else(Platform::host);
    let fits = |d: &&&Descriptor| d.platform.as_ref().is_some_and(|p| p.satisfies(&wanted));
    let chosen = match all.iter().find(fits) {
        Some(found) => *found,
        None => match all {
            [only] if archive.options.platform.is_none() => *only,
            _ => {
                return Err(Error::not_found(format!(
                    "no image for platform {wanted} in the index, only for {}",
                    all.iter()
                        .filter_map(|d| d.platform.as_ref())
                        .map(ToString::to_string)
                        .collect::<Vec<_>>()
                        .join(", ")
                )));
            }
        },
    };
    for other in all.iter().filter(|d| d.digest != chosen.digest) {
        if let Some(bytes) = archive.manifest(other)? {
            kept.push((other.digest.clone(), bytes));
        }
    }
    Ok(chosen)
}

fn name(descriptor: &Descriptor) -> Option<&str> {
    [NAME, REF].iter().find_map(|key| descriptor.annotations.get(*key)).map(String::as_str)
}

/// The reference that an annotation means. A bare word is a tag of no known repository and names nothing.
fn reference(name: &str) -> Option<Reference> {
    if !name.contains([':', '/']) {
        return None;
    }
    let reference: Reference = name.parse().ok()?;
    reference.digest().is_none().then(|| reference.or_latest())
}
