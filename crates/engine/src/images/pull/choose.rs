//! From what a name resolved to, to the manifest of one image.

use base::{Digest, Error, Platform, Reference, Result};
use bytes::Bytes;
use image::{
    Limits,
    manifest::{self, Descriptor, Either, Manifest},
    registry::{Fetched, Repository},
};

/// Indexes inside indexes, at most.
const DEPTH: usize = 4;
/// Bytes of one part of an attestation.
const ATTESTATION_BYTES: u64 = 16 << 20;
/// The annotation that says which manifest an attestation is of.
const OF: &str = "vnd.docker.reference.digest";
/// Media types of image configs; what old tools called them too.
const CONFIGS: [&str; 5] = [
    manifest::OCI_CONFIG,
    "application/vnd.docker.container.image.v1+json",
    "application/octet-stream",
    "text/html",
    "",
];
/// Media types of layers begin so.
const LAYERS: [&str; 4] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
];

/// The manifest of one image, and all that led to it.
pub(super) struct Chosen {
    /// Digest of the manifest.
    pub(super) digest: Digest,
    pub(super) manifest: Manifest,
    /// What the name resolved to first, then what was followed; the manifest is last.
    pub(super) path: Vec<Fetched>,
    attestations: Vec<Descriptor>,
}

/// A blob beside the image that is kept with it.
pub(super) struct Further {
    pub(super) manifests: Vec<(Digest, Vec<u8>)>,
    pub(super) blobs: Vec<Bytes>,
}

impl Chosen {
    /// What the name resolved to.
    pub(super) fn target(&self) -> &Digest {
        self.path.first().map_or(&self.digest, |top| &top.digest)
    }

    /// The attestations of the image. They are not what was asked for, so none of them can fail a pull.
    pub(super) async fn attestations(&self, repository: &Repository, limits: &Limits) -> Further {
        let mut further = Further { manifests: Vec::new(), blobs: Vec::new() };
        for descriptor in &self.attestations {
            match attestation(repository, descriptor, limits).await {
                Ok((fetched, blobs)) => {
                    further.manifests.push((fetched.digest, fetched.bytes.to_vec()));
                    further.blobs.extend(blobs);
                }
                Err(err) => tracing::debug!(err = err.chain(), "an attestation was not pulled"),
            }
        }
        further
    }
}

async fn attestation(
    repository: &Repository,
    descriptor: &Descriptor,
    limits: &Limits,
) -> Result<(Fetched, Vec<Bytes>)> {
    let fetched = repository.manifest(descriptor.digest.as_str(), limits).await?;
    let Either::Manifest(manifest) = manifest::parse(&fetched.bytes)? else {
        return Err(Error::invalid("an attestation is no manifest"));
    };
    let mut blobs = Vec::new();
    for part in manifest.layers.iter().chain([&manifest.config]) {
        blobs.push(repository.small_blob(&part.digest, part.size, ATTESTATION_BYTES).await?);
    }
    Ok((fetched, blobs))
}

/// Follows indexes to the manifest for `platform`.
pub(super) async fn choose(
    repository: &Repository,
    reference: &Reference,
    top: Fetched,
    platform: Option<&Platform>,
    limits: &Limits,
) -> Result<Chosen> {
    let mut path = vec![top];
    let mut attestations = Vec::new();
    loop {
        let Some(last) = path.last() else {
            return Err(Error::internal("a pull has lost its manifest"));
        };
        match manifest::parse(&last.bytes)? {
            Either::Manifest(manifest) => {
                let digest = last.digest.clone();
                return Ok(Chosen { digest, manifest, path, attestations });
            }
            Either::Index(index) => {
                if path.len() > DEPTH {
                    return Err(Error::invalid(format!("index nested more than {DEPTH} deep")));
                }
                let next = entry(&index.manifests, platform)?;
                attestations.extend(
                    index
                        .manifests
                        .iter()
                        .filter(|d| {
                            d.is_attestation()
                                && d.annotations
                                    .get(OF)
                                    .is_some_and(|of| of == next.digest.as_str())
                        })
                        .cloned(),
                );
                let next = next.clone();
                let got = repository.manifest(next.digest.as_str(), limits).await;
                let got = got.map_err(|e| e.of_pull(reference))?;
                if got.bytes.len() as u64 != next.size {
                    return Err(Error::invalid(format!(
                        "manifest {} has {} bytes, its index says {}",
                        next.digest,
                        got.bytes.len(),
                        next.size
                    )));
                }
                path.push(got);
            }
        }
    }
}

/// The entry for the platform: one with exactly this variant before one that merely runs there.
fn entry<'d>(all: &'d [Descriptor], platform: Option<&Platform>) -> Result<&'d Descriptor> {
    let wanted = platform.cloned().unwrap_or_else(Platform::host);
    let images: Vec<&Descriptor> = all.iter().filter(|d| !d.is_attestation()).collect();
    let wants = normal(&wanted);
    let find = |fits: &dyn Fn(&Platform) -> bool| {
        images.iter().find(|d| d.platform.as_ref().is_some_and(|p| fits(&normal(p))))
    };
    let exact = find(&|platform| *platform == wants);
    let fitting = find(&|platform| platform.satisfies(&wants));
    // An entry that does not say: its config will.
    let silent = match images.as_slice() {
        [only] if only.platform.is_none() => Some(only),
        _ => None,
    };
    exact.or(fitting).or(silent).copied().ok_or_else(|| {
        let text = format!("no matching manifest for {wanted} in the manifest list entries");
        Error::not_found(text)
    })
}

/// `arm64` and `arm64/v8` are one, as `amd64` and `amd64/v1` are.
fn normal(platform: &Platform) -> Platform {
    platform.to_string().parse().unwrap_or_else(|_| platform.clone())
}

/// Refuses what is no image: a chart, a policy, a bundle.
pub(super) fn check_config(descriptor: &Descriptor) -> Result<()> {
    let media_type = descriptor.media_type.as_str();
    if CONFIGS.contains(&media_type) {
        return Ok(());
    }
    Err(Error::invalid(format!("unsupported media type {media_type}: this is no container image")))
}

pub(super) fn check_layer(descriptor: &Descriptor) -> Result<()> {
    let media_type = descriptor.media_type.as_str();
    let known = LAYERS.iter().any(|known| {
        media_type
            .strip_prefix(known)
            .is_some_and(|rest| matches!(rest, "" | ".gzip" | "+gzip" | ".zstd" | "+zstd"))
    });
    if known || media_type.is_empty() {
        return Ok(());
    }
    Err(Error::invalid(format!("unsupported media type of a layer: {media_type}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(platforms: &[&str]) -> Vec<Descriptor> {
        let entries = platforms.iter().enumerate().map(|(at, text)| {
            let digest = Digest::sha256(&[at as u8]);
            let mut json = serde_json::json!({"digest": digest, "size": 1});
            match *text {
                "" => {}
                "attestation" => {
                    json["platform"] = serde_json::json!({"os": "unknown", "architecture": "unknown"});
                    json["annotations"] =
                        serde_json::json!({"vnd.docker.reference.type": "attestation-manifest"});
                }
                text => {
                    let mut parts = text.split('/');
                    json["platform"] = serde_json::json!({
                        "os": parts.next(), "architecture": parts.next(), "variant": parts.next().unwrap_or(""),
                    });
                }
            }
            serde_json::from_value(json).unwrap()
        });
        entries.collect()
    }

    #[test]
    fn the_entry_for_the_platform_is_chosen() {
        for (platforms, wanted, at) in [
            (&["linux/amd64", "linux/arm64"][..], "linux/arm64", Some(1)),
            (&["linux/arm64/v8", "linux/amd64"], "linux/arm64", Some(0)),
            (&["linux/arm/v6", "linux/arm/v7"], "linux/arm/v7", Some(1)),
            (&["linux/amd64/v3", "linux/amd64"], "linux/amd64", Some(1)),
            (&["attestation", "linux/amd64"], "linux/amd64", Some(1)),
            (&["", "attestation"], "linux/amd64", Some(0)),
            (&["linux/amd64"], "linux/s390x", None),
            (&["attestation"], "linux/amd64", None),
        ] {
            let all = index(platforms);
            let chosen = entry(&all, Some(&wanted.parse().unwrap()));
            assert_eq!(chosen.ok(), at.map(|at: usize| &all[at]), "{platforms:?} {wanted}");
        }
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let of = |media_type: &str| Descriptor {
            media_type: media_type.into(),
            ..index(&[""]).remove(0)
        };
        assert!(check_config(&of("application/vnd.cncf.helm.config.v1+json")).is_err());
        assert!(check_layer(&of("application/vnd.cncf.helm.chart.content.v1.tar+gzip")).is_err());
        for fine in [
            "application/vnd.oci.image.layer.v1.tar+zstd",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        ] {
            assert!(check_layer(&of(fine)).is_ok(), "{fine}");
        }
    }
}
