//! Images in OCI layouts of the client, which it offers as content stores of its session.

use super::{Run, State};
use crate::{
    attest::Material,
    cache::{Imported, take},
    contents::Store,
    job::Job,
    proto::{self, pb},
};
use base::{Digest, Error, Platform, Result};
use image::{
    ConfigBlob, ImageConfig, Limits,
    manifest::{self, Descriptor, Either, Manifest},
};
use std::sync::Arc;

/// Indexes inside indexes.
const DEPTH: usize = 4;

/// Finds the image for `platform` below `digest`.
async fn find(
    store: &Store,
    digest: &Digest,
    platform: &Platform,
) -> Result<(Manifest, ConfigBlob)> {
    let limits = Limits::default();
    let mut next = digest.clone();
    for _ in 0..=DEPTH {
        let descriptor = store.descriptor(&next).await?;
        let bytes = store.small(&descriptor, limits.manifest_bytes).await?;
        match manifest::parse(&bytes)? {
            Either::Manifest(found) => {
                let raw = store.small(&found.config, limits.config_bytes).await?;
                let config = ConfigBlob::parse(raw)?;
                if config.config().rootfs.diff_ids.len() != found.layers.len() {
                    return Err(Error::invalid(format!(
                        "the manifest of {digest} has other layers than its config"
                    )));
                }
                return Ok((found, config));
            }
            Either::Index(index) => {
                let fits = |d: &&Descriptor| {
                    !d.is_attestation() && d.platform.as_ref().is_none_or(|p| p.satisfies(platform))
                };
                let found = index.manifests.iter().find(fits).ok_or_else(|| {
                    Error::not_found(format!("{digest} of the client has nothing for {platform}"))
                })?;
                next = found.digest.clone();
            }
        }
    }
    Err(Error::invalid("indexes are nested too deeply"))
}

/// The config of an image of the client.
///
/// # Errors
/// `NotFound`; `Invalid` for what is malformed.
pub(crate) async fn config(
    job: &Job,
    session: &str,
    store: &str,
    digest: &Digest,
    platform: &Platform,
) -> Result<ImageConfig> {
    let store = Store::of(job, session, format!("oci:{store}")).await?;
    Ok(find(&store, digest, platform).await?.1.config().clone())
}

impl Run {
    /// Takes an image of the client.
    pub(super) async fn layout(&self, rest: &str, source: &pb::SourceOp) -> Result<State> {
        let attr = |key: &str| source.attrs.get(key).map_or("", String::as_str);
        let (_, digest) = rest
            .rsplit_once('@')
            .ok_or_else(|| Error::invalid(format!("the layout {rest:?} has no digest")))?;
        let digest: Digest = digest.parse()?;
        let platform = self.vertex.op.platform.as_ref();
        let platform = platform.map_or_else(Platform::host, proto::platform_from);
        let id = format!("oci:{}", attr("oci.store"));
        let store = Store::of(&self.job, attr("oci.session"), id).await?;
        let (manifest, config) = find(&store, &digest, &platform).await?;
        let diff_ids = config.config().rootfs.diff_ids.iter().cloned();
        let layers: Vec<(Descriptor, Digest)> = manifest.layers.into_iter().zip(diff_ids).collect();
        let chain: Vec<usize> = (0..layers.len()).collect();
        let from = Imported::of_client(store, layers);
        let job: &Arc<Job> = &self.job;
        let image = take(job, &from, &chain, &self.vertex.digest).await?;
        let platform = Some(platform);
        let material = Material::Image { name: rest.to_owned(), digest: Some(digest), platform };
        self.job.note_material(&self.vertex.digest, material);
        Ok(State::of(&image))
    }
}
