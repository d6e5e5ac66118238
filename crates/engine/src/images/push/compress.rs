//! A layer's tar, compressed into the content store and to whoever sends it.

use crate::images::{Images, LayerRecord};
use base::{Digest, Error, Result};
use bytes::Bytes;
use image::compress::{Form, parallel_at};
use sha2::{Digest as _, Sha256};
use std::{
    io::{self, Write},
    sync::PoisonError,
};
use store::Blob;
use tokio::sync::mpsc;

/// A compressed layer that is in the content store.
pub(super) struct Compressed {
    pub(super) blob: Blob,
    /// Whether the sender took all of it.
    pub(super) whole: bool,
}

/// Compresses `layer`, whose tar must have the digest `diff_id`. Blocks.
pub(super) fn compress(
    images: &Images,
    layer: &Digest,
    diff_id: &Digest,
    (form, level): (Form, Option<u32>),
    sender: mpsc::Sender<io::Result<Bytes>>,
    told: &mpsc::Sender<u64>,
) -> Result<Compressed> {
    let row = images.store.read(|tx| tx.layer::<LayerRecord>(layer))?;
    let tar_size = row.map_or(0, |row| row.doc.tar_size);
    // Data that cannot be compressed grows a little.
    let writer = images.content().writer(tar_size + tar_size / 64 + (1 << 20))?;
    let mut out = Tee { writer, sender: Some(sender), bytes: 0 };
    let mut sum = Sum { hash: Sha256::new(), bytes: 0 };
    let made = parallel_at(form, level, &mut out, |compressed| {
        let mut both = Both { sum: &mut sum, out: compressed, told };
        images.layers.write_tar(layer, &mut both)
    });
    let made = made.and_then(|()| {
        let found = Digest::from_sha256(sum.hash.finalize().into());
        if found == *diff_id {
            return Ok(());
        }
        Err(Error::internal(format!(
            "layer {layer} is damaged: its tar has the digest {found}, it should be {diff_id}"
        )))
    });
    if let Err(err) = made {
        // The upload ends with an error too, so that the registry keeps nothing.
        if let Some(sender) = out.sender.take() {
            let _ = sender.blocking_send(Err(io::Error::other("the layer could not be read")));
        }
        return Err(err);
    }
    let (whole, size) = (out.sender.take().is_some(), out.bytes);
    let media_type = match form {
        Form::Gzip => "application/vnd.docker.image.rootfs.diff.tar.gzip",
        Form::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
    };
    // Nothing is collected between the blob's coming and its row.
    let _open = images.gate.read().unwrap_or_else(PoisonError::into_inner);
    let digest = out.writer.commit(None, None)?;
    let blob = Blob { digest, diff_id: diff_id.clone(), media_type: media_type.into(), size };
    images.store.write(|tx| tx.put_blob(&blob))?;
    Ok(Compressed { blob, whole })
}

/// A layer as a blob of the content store, compressed or as it is, without sending it. Blocks.
pub(crate) fn keep(
    images: &Images,
    layer: &Digest,
    diff_id: &Digest,
    form: Option<Form>,
    level: Option<u32>,
) -> Result<Blob> {
    let Some(form) = form else { return plain(images, layer, diff_id) };
    let ((sender, _), (told, _)) = (mpsc::channel(1), mpsc::channel(1));
    compress(images, layer, diff_id, (form, level), sender, &told).map(|made| made.blob)
}

fn plain(images: &Images, layer: &Digest, diff_id: &Digest) -> Result<Blob> {
    let row = images.store.read(|tx| tx.layer::<LayerRecord>(layer))?;
    let row = row.ok_or_else(|| Error::not_found(format!("no such layer: {layer}")))?;
    let mut writer = images.content().writer(row.doc.tar_size)?;
    images.layers.write_tar(layer, &mut writer)?;
    let _open = images.gate.read().unwrap_or_else(PoisonError::into_inner);
    let digest = writer.commit(Some(diff_id), None)?;
    let media_type = image::manifest::OCI_LAYER.to_owned();
    let blob = Blob { digest, diff_id: diff_id.clone(), media_type, size: row.doc.tar_size };
    images.store.write(|tx| tx.put_blob(&blob))?;
    Ok(blob)
}

/// Into the store and, as long as anybody listens, to the sender.
struct Tee<'c> {
    writer: image::content::Writer<'c>,
    sender: Option<mpsc::Sender<io::Result<Bytes>>>,
    bytes: u64,
}

impl Write for Tee<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.writer.write_all(buf)?;
        self.bytes += buf.len() as u64;
        if let Some(sender) = &self.sender
            && sender.blocking_send(Ok(Bytes::copy_from_slice(buf))).is_err()
        {
            self.sender = None;
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

struct Sum {
    hash: Sha256,
    bytes: u64,
}

/// Hashes the tar on its way into compression.
struct Both<'b> {
    sum: &'b mut Sum,
    out: &'b mut dyn Write,
    told: &'b mpsc::Sender<u64>,
}

impl Write for Both<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.out.write(buf)?;
        self.sum.hash.update(&buf[..n]);
        let before = self.sum.bytes >> 20;
        self.sum.bytes += n as u64;
        if self.sum.bytes >> 20 != before {
            let _ = self.told.try_send(self.sum.bytes);
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
