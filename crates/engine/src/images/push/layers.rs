//! Pushing an image that has no manifest yet, or whose blobs are gone: its layers are compressed and a
//! manifest is written.

use super::{
    Push, Sent, Work,
    blob::{PIECES, Telling, Way},
    compress::{Compressed, compress},
    graph::words,
};
use crate::images::{Held, LayerRecord};
use base::{Digest, Error, Result};
use bytes::Bytes;
use image::{
    compress::Form,
    manifest::{DOCKER_MANIFEST, Descriptor, Manifest, OCI_CONFIG, OCI_MANIFEST},
    registry::{Begun, Repository, Upload},
};
use std::{collections::BTreeMap, sync::Arc};
use store::Blob;
use tokio::sync::mpsc;

const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// The same layer in Docker's words and in OCI's.
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

impl Push<'_> {
    /// Pushes layers, config and a new manifest.
    pub(super) async fn anew(
        &self,
        repository: &Repository,
        held: &Held,
        tag: &str,
    ) -> Result<Sent> {
        let diff_ids = &held.config.config().rootfs.diff_ids;
        let mut unique: Vec<(&Digest, &Digest)> = Vec::new();
        for (diff_id, layer) in diff_ids.iter().zip(&held.layers) {
            self.voice.of(diff_id.short(), "Preparing").await;
            if !unique.iter().any(|(known, _)| *known == diff_id) {
                unique.push((diff_id, layer));
            }
        }
        let mut work: Vec<Work<'_, (Digest, Blob)>> = Vec::new();
        for (diff_id, layer) in unique {
            work.push(Box::pin(async move {
                let turn = match self.turns.try_acquire() {
                    Ok(turn) => Ok(turn),
                    Err(_) => {
                        self.voice.of(diff_id.short(), "Waiting").await;
                        self.turns.acquire().await
                    }
                };
                let blob = self.layer(repository, diff_id, layer).await;
                drop(turn);
                Ok((diff_id.clone(), blob?))
            }));
        }
        let done = futures_util::future::try_join_all(work).await?;
        let blobs: BTreeMap<Digest, Blob> = done.into_iter().collect();
        let (media_type, bytes) = written(held, &blobs)?;
        let config = Descriptor::new(OCI_CONFIG, held.id.clone(), held.config.raw().len() as u64);
        if self.blob(repository, "", &config).await? == Way::Nowhere {
            return Err(Error::internal(format!("the config of image {} is lost", held.id)));
        }
        let bytes = Bytes::from(bytes);
        let digest = {
            let _open = self.images.gate.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            self.images.content().put(&bytes)?
        };
        repository.put_manifest(tag, media_type, &bytes).await?;
        Ok(Sent { digest, size: bytes.len() as u64, manifest: None })
    }

    /// One layer: a compressed form that is known and there or here, else compressed now.
    async fn layer(
        &self,
        repository: &Repository,
        diff_id: &Digest,
        layer: &Digest,
    ) -> Result<Blob> {
        let id = diff_id.short();
        let mut known = self.images.store.read(|tx| tx.blobs_of(diff_id))?;
        // A blob in the form that is wanted first; any other is better than compressing again.
        known.sort_by_key(|blob| blob.media_type.ends_with("zstd") != (self.form == Form::Zstd));
        for blob in known {
            let descriptor =
                Descriptor::new(blob.media_type.clone(), blob.digest.clone(), blob.size);
            let way = self.blob(repository, id, &descriptor).await?;
            if way != Way::Nowhere {
                self.note_place(repository, &blob.digest, &way)?;
                self.voice.of(id, &words(repository, &way)).await;
                return Ok(blob);
            }
        }
        let blob = self.compressed(repository, id, diff_id, layer).await?;
        self.note_place(repository, &blob.digest, &Way::Sent)?;
        self.voice.of(id, "Pushed").await;
        Ok(blob)
    }

    /// Compresses a layer into the content store and to the registry at once. Should the way break, what is in
    /// the store is sent again.
    async fn compressed(
        &self,
        repository: &Repository,
        id: &str,
        diff_id: &Digest,
        layer: &Digest,
    ) -> Result<Blob> {
        let total = self.images.store.read(|tx| tx.layer::<LayerRecord>(layer))?;
        let total = total.map(|row| row.doc.tar_size);
        let (sender, pieces) = mpsc::channel(PIECES);
        let (told, progress) = mpsc::channel(1);
        let (images, form) = (Arc::clone(self.images), self.form);
        let (layer, wanted) = (layer.clone(), diff_id.clone());
        let compressing = tokio::task::spawn_blocking(move || {
            compress(&images, &layer, &wanted, (form, None), sender, &told)
        });
        let mut telling = Telling::new(self, id, total);
        let sending = async {
            let Begun::Open(mut upload) = repository.begin_upload(None).await? else {
                return Err(Error::internal("the registry opened no upload").into());
            };
            upload.send(Upload::Stream(pieces, None)).await.map(|()| upload)
        };
        let upload = telling.beside(sending, progress).await;
        let made = compressing.await.map_err(|err| {
            Error::internal("internal error: compressing broke off").caused_by(err)
        })?;
        let Compressed { blob, whole } = made?;
        match upload {
            Ok(upload) if whole => upload.finish(&blob.digest).await?,
            Err(err) if !err.is_transient() => return Err(err.into()),
            _ => self.send(repository, id, &blob.digest).await?,
        }
        Ok(blob)
    }
}

/// The manifest: Docker's schema 2, which every registry takes, or OCI's when a layer needs it.
fn written(held: &Held, blobs: &BTreeMap<Digest, Blob>) -> Result<(&'static str, Vec<u8>)> {
    let diff_ids = &held.config.config().rootfs.diff_ids;
    let oci = blobs.values().any(|b| b.media_type.ends_with("zstd"));
    let mut layers = Vec::new();
    for diff_id in diff_ids {
        let blob = blobs
            .get(diff_id)
            .ok_or_else(|| Error::internal(format!("layer {diff_id} was not pushed")))?;
        layers.push(Descriptor::new(
            layer_type(&blob.media_type, oci),
            blob.digest.clone(),
            blob.size,
        ));
    }
    let (media_type, config_type) =
        if oci { (OCI_MANIFEST, OCI_CONFIG) } else { (DOCKER_MANIFEST, DOCKER_CONFIG) };
    let manifest = Manifest {
        schema_version: 2,
        media_type: media_type.into(),
        config: Descriptor::new(config_type, held.id.clone(), held.config.raw().len() as u64),
        layers,
        annotations: BTreeMap::new(),
    };
    let bytes = serde_json::to_vec(&manifest)
        .map_err(|e| Error::internal("cannot write a manifest").caused_by(e))?;
    Ok((media_type, bytes))
}

/// The name of a layer's form in a manifest of Docker's or OCI's kind.
#[must_use]
pub fn layer_type(known: &str, oci: bool) -> String {
    let form = if known.ends_with("zstd") {
        "zstd"
    } else if known.ends_with("gzip") || known.ends_with(".gz") || known.is_empty() {
        "gzip"
    } else {
        ""
    };
    let (base, separator) = if oci { (OCI_LAYER, "+") } else { (DOCKER_LAYER, ".") };
    match form {
        "" => base.to_owned(),
        form => format!("{base}{separator}{form}"),
    }
}

#[cfg(test)]
mod tests {
    use super::layer_type;

    #[test]
    fn a_layer_has_a_name_in_both_worlds() {
        let docker = "application/vnd.docker.image.rootfs.diff.tar.gzip";
        let oci = "application/vnd.oci.image.layer.v1.tar+gzip";
        for known in [docker, oci, ""] {
            assert_eq!(layer_type(known, false), docker);
            assert_eq!(layer_type(known, true), oci);
        }
        assert_eq!(
            layer_type("application/vnd.oci.image.layer.v1.tar", true),
            "application/vnd.oci.image.layer.v1.tar"
        );
        assert_eq!(
            layer_type("application/vnd.oci.image.layer.v1.tar+zstd", true),
            "application/vnd.oci.image.layer.v1.tar+zstd"
        );
    }
}
