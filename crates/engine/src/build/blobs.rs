//! Layers as blobs, for what goes out of a build and what comes into one: caches, attested images, archives.
//!
//! Invariants: a blob is kept only under the digest that was found in it, and held as long as the build; a
//! layer that was unpacked has the DiffID that was promised.

use super::{BuildHost, host::layer};
use crate::images::{blocking, push};
use base::{Digest, Error, Platform, Reference, Result};
use build::host::Layer;
use bytes::Bytes;
use image::{
    ConfigBlob,
    compress::Form,
    download::{self, Order},
    manifest::{self, Descriptor, Either},
    registry::{Action, Repository},
};
use sha2::{Digest as _, Sha256};
use std::{
    fs::File,
    io::{Read as _, Write as _},
    sync::Arc,
};
use tokio::sync::mpsc;

/// Tries of a download without progress.
const TRIES: u32 = 5;
/// Connections for one blob.
const LANES: usize = 4;

/// How layers are to be compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compression {
    /// Nothing is not at all.
    pub form: Option<Form>,
    /// A blob in another form that is here already is not taken.
    pub force: bool,
    /// Of gzip, 0 to 9; with `force` what is here already in some level is not taken either.
    pub level: Option<u32>,
}

impl Compression {
    fn fits(self, media_type: &str) -> bool {
        let form = match media_type {
            zstd if zstd.ends_with("zstd") => Some(Form::Zstd),
            gzip if gzip.ends_with("gzip") => Some(Form::Gzip),
            _ => None,
        };
        let unknown = self.level.is_some() && form == Some(Form::Gzip);
        !self.force || (form == self.form && !unknown)
    }
}

impl BuildHost {
    /// The repository of `reference`, with the client's credentials.
    ///
    /// # Errors
    /// `Invalid` for a registry that may not be reached.
    pub fn repository(&self, reference: &Reference, push: bool) -> Result<Arc<Repository>> {
        let action = if push { Action::Push } else { Action::Pull };
        let credentials = self.credentials(reference.domain());
        self.engine().registries.repository(reference, &credentials, action).map(Arc::new)
    }

    /// The config of an image in its registry, without its layers.
    ///
    /// # Errors
    /// As a pull gives them; `NotFound` when there is none for `platform`.
    pub async fn remote_config(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<ConfigBlob> {
        let repository = self.repository(reference, false)?;
        let limits = image::Limits::default();
        let name = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => digest.as_str(),
            (None, tag) => tag.unwrap_or("latest"),
        };
        let fail = |e: image::registry::Failed| e.of_pull(reference);
        let top = repository.manifest(name, &limits).await.map_err(fail)?;
        let mut found = manifest::parse(&top.bytes)?;
        // Indexes inside indexes are bounded as they are for pulls.
        for _ in 0..4 {
            let Either::Index(index) = &found else { break };
            let fits = |d: &&Descriptor| {
                !d.is_attestation() && d.platform.as_ref().is_none_or(|p| p.satisfies(platform))
            };
            let next = index.manifests.iter().find(fits).ok_or_else(|| {
                Error::not_found(format!(
                    "no match for platform in manifest: {} has nothing for {platform}",
                    reference.familiar()
                ))
            })?;
            let next = repository.manifest(next.digest.as_str(), &limits).await.map_err(fail)?;
            found = manifest::parse(&next.bytes)?;
        }
        let Either::Manifest(found) = found else {
            return Err(Error::invalid("indexes are nested too deeply"));
        };
        let config = &found.config;
        let raw = repository.small_blob(&config.digest, config.size, limits.config_bytes).await;
        ConfigBlob::parse(raw.map_err(fail)?.to_vec())
    }

    /// A layer as a blob in the content store, in OCI's words: one that is there, or made now.
    ///
    /// # Errors
    /// Of storage.
    pub async fn compressed(&self, of: &Layer, how: Compression) -> Result<Descriptor> {
        let images = Arc::clone(self.engine().image_store());
        let (of, hold) = (of.clone(), Arc::clone(self.hold()));
        blocking(move || {
            let mut known = images.blobs_of(&of.diff_id)?;
            // A blob in the form that is wanted first; any other is better than compressing again.
            let wanted = Compression { force: true, level: None, ..how };
            known.sort_by_key(|blob| !wanted.fits(&blob.media_type));
            for blob in known.into_iter().filter(|blob| how.fits(&blob.media_type)) {
                // Held first and looked for after: whoever removed it in between has won.
                hold.keep(&blob.digest);
                if images.content().has(&blob.digest) {
                    return Ok(descriptor(blob));
                }
            }
            let made = push::keep(&images, &of.id, &of.diff_id, how.form, how.level)?;
            hold.keep(&made.digest);
            Ok(descriptor(made))
        })
        .await
    }

    /// Keeps a small blob as long as the build.
    ///
    /// # Errors
    /// Of the disk.
    pub fn keep(&self, bytes: &[u8]) -> Result<Digest> {
        self.hold().keep(&Digest::sha256(bytes));
        self.engine().image_store().content().put(bytes)
    }

    /// A blob's file and size.
    ///
    /// # Errors
    /// `NotFound` when it is not here.
    pub fn blob(&self, digest: &Digest) -> Result<(File, u64)> {
        self.engine().image_store().content().blob(digest)
    }

    /// Downloads a blob.
    ///
    /// # Errors
    /// Of the registry; when it sends something else than was promised.
    pub async fn fetch_blob(&self, from: &Repository, blob: &Descriptor) -> Result<()> {
        let content = self.engine().image_store().content();
        self.hold().keep(&blob.digest);
        if content.has(&blob.digest) {
            return Ok(());
        }
        let (store, digest, size) = (content.clone(), blob.digest.clone(), blob.size);
        let incoming = blocking(move || store.incoming(&digest, size)).await?;
        let incoming = Arc::new(incoming);
        let mut reader = incoming.reader();
        let hashing = tokio::task::spawn_blocking(move || {
            let (mut hasher, mut piece) = (Sha256::new(), vec![0; 256 << 10]);
            loop {
                match reader.read(&mut piece)? {
                    0 => return Ok::<_, std::io::Error>(hasher.finalize()),
                    n => hasher.update(&piece[..n]),
                }
            }
        });
        let order = Order { tries: TRIES, lanes: LANES, urls: Vec::new() };
        if let Err(err) = download::fetch(from, &incoming, &order, &|_| {}).await {
            let err: Error = err.into();
            incoming.end(&err.chain());
            drop(hashing.await);
            return Err(err);
        }
        let sum = match hashing.await {
            Ok(sum) => sum.map_err(|e| Error::io("cannot read a download", e))?,
            Err(err) => return Err(Error::internal("a download ended early").caused_by(err)),
        };
        let found = Digest::from_sha256(sum.into());
        blocking(move || incoming.commit(&found)).await
    }

    /// Takes a blob that comes in pieces.
    ///
    /// # Errors
    /// Of the disk; `Invalid` when it is not what was promised.
    pub async fn receive_blob(
        &self,
        blob: &Descriptor,
        mut pieces: mpsc::Receiver<Result<Bytes>>,
    ) -> Result<()> {
        self.hold().keep(&blob.digest);
        let content = self.engine().image_store().content().clone();
        let (digest, size) = (blob.digest.clone(), blob.size);
        blocking(move || {
            let mut writer = content.writer(size)?;
            while let Some(piece) = pieces.blocking_recv() {
                writer
                    .write_all(&piece?)
                    .map_err(|e| Error::io(format!("cannot store blob {digest}"), e))?;
            }
            writer.commit(Some(&digest), Some(size)).map(drop)
        })
        .await
    }

    /// Sees to it that a registry has a blob that is here.
    ///
    /// # Errors
    /// Of the registry.
    pub async fn send_blob(&self, to: &Repository, blob: &Descriptor) -> Result<()> {
        self.engine().push_blob(to, blob, self.by()).await
    }

    /// The layer of this DiffID if it is here and fits on `below`.
    ///
    /// # Errors
    /// Of the store.
    pub fn layer_here(&self, diff_id: &Digest, below: &[Layer]) -> Result<Option<Layer>> {
        let below: Vec<Digest> = below.iter().map(|l| l.id.clone()).collect();
        let found = self.engine().image_store().find_layer(self.hold(), diff_id, Some(&below))?;
        Ok(found.map(layer))
    }

    /// Unpacks a blob on top of `below`.
    ///
    /// # Errors
    /// `Invalid` when it is no layer, or another one than was promised.
    pub async fn unpack_blob(
        &self,
        blob: &Descriptor,
        diff_id: &Digest,
        below: &[Layer],
    ) -> Result<Layer> {
        let images = Arc::clone(self.engine().image_store());
        let parents: Vec<Digest> = below.iter().map(|l| l.id.clone()).collect();
        let (hold, blob, diff_id) = (Arc::clone(self.hold()), blob.clone(), diff_id.clone());
        blocking(move || {
            let (file, _) = images.content().blob(&blob.digest)?;
            let tried =
                image::layer::unpack(file, &parents, hold.as_ref(), &image::Limits::default())?;
            let made = layer(tried.applied?.into());
            if made.diff_id != diff_id {
                return Err(Error::invalid(format!(
                    "layer {} unpacks to {}, not to {diff_id} as was said",
                    blob.digest, made.diff_id
                )));
            }
            images.note_blob(&blob, &diff_id)?;
            Ok(made)
        })
        .await
    }
}

fn descriptor(blob: store::Blob) -> Descriptor {
    Descriptor::new(push::layer_type(&blob.media_type, true), blob.digest, blob.size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_of_another_form_is_taken_unless_it_is_forced() {
        let zstd = Compression { form: Some(Form::Zstd), ..Compression::default() };
        assert!(zstd.fits("application/vnd.oci.image.layer.v1.tar+gzip"));
        let forced = Compression { force: true, ..zstd };
        assert!(!forced.fits("application/vnd.oci.image.layer.v1.tar+gzip"));
        assert!(forced.fits("application/vnd.oci.image.layer.v1.tar+zstd"));
        let plain = Compression { form: None, force: true, level: None };
        assert!(plain.fits("application/vnd.oci.image.layer.v1.tar"));
        let level = Compression { form: Some(Form::Gzip), force: true, level: Some(9) };
        assert!(!level.fits("application/vnd.oci.image.layer.v1.tar+gzip"));
    }
}
