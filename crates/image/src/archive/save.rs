//! Saving: one tar that is an OCI layout and a docker-archive at once, as Docker 25 and later write.
//!
//! The listings come first and the layers in order, so that a reader can tell early what is coming. The
//! same images always give the same bytes: times are zero, names sorted.

use crate::{
    ConfigBlob, LayerSource,
    manifest::{Descriptor, Index, Manifest, OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST},
};
use base::{Digest, Error, Reference, Result};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
};

/// An image to be saved.
#[derive(Clone, Debug)]
pub struct SavedImage {
    /// Its config.
    pub config: ConfigBlob,
    /// Layer ids, lowest first, one for each DiffID of the config.
    pub layers: Vec<Digest>,
    /// Names to save with it.
    pub references: Vec<Reference>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item<'i> {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
    layer_sources: BTreeMap<&'i str, Descriptor>,
}

/// Writes `images` to `out`.
///
/// # Errors
/// Of the source and of `out`; `Internal` when a layer's tar does not have the size or digest promised.
pub fn save(images: &[SavedImage], source: &dyn LayerSource, out: &mut dyn Write) -> Result<()> {
    let mut index = Index {
        schema_version: 2,
        media_type: OCI_INDEX.into(),
        manifests: Vec::new(),
        annotations: BTreeMap::new(),
    };
    let mut items = Vec::new();
    let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut small: BTreeMap<Digest, Vec<u8>> = BTreeMap::new();
    let mut layers: Vec<(Digest, Digest, u64)> = Vec::new();
    let mut known = BTreeSet::new();
    for image in images {
        let diff_ids = &image.config.config().rootfs.diff_ids;
        if diff_ids.len() != image.layers.len() {
            return Err(Error::internal(format!("image {} has lost a layer", image.config.id())));
        }
        let mut descriptors = Vec::new();
        for (diff_id, layer) in diff_ids.iter().zip(&image.layers) {
            let size = source.tar_size(layer)?;
            if known.insert(diff_id.clone()) {
                layers.push((diff_id.clone(), layer.clone(), size));
            }
            descriptors.push(Descriptor::new(OCI_LAYER, diff_id.clone(), size));
        }
        let id = image.config.id();
        let manifest = encode(&Manifest {
            schema_version: 2,
            media_type: OCI_MANIFEST.into(),
            config: Descriptor::new(OCI_CONFIG, id.clone(), image.config.raw().len() as u64),
            layers: descriptors.clone(),
            annotations: BTreeMap::new(),
        });
        let entry = Descriptor::new(OCI_MANIFEST, Digest::sha256(&manifest), manifest.len() as u64);
        if image.references.is_empty() {
            index.manifests.push(entry.clone());
        }
        for reference in &image.references {
            let mut named = entry.clone();
            named.annotations.insert("io.containerd.image.name".into(), reference.to_string());
            let tag = reference.tag().unwrap_or_default().to_owned();
            named.annotations.insert("org.opencontainers.image.ref.name".into(), tag.clone());
            index.manifests.push(named);
            if let Some(top) = image.config.config().chain_ids().last() {
                repositories
                    .entry(reference.familiar_name())
                    .or_default()
                    .insert(tag, top.hex().into());
            }
        }
        items.push(Item {
            config: blob_path(id),
            repo_tags: Some(image.references.iter().map(Reference::familiar).collect::<Vec<_>>())
                .filter(|tags| !tags.is_empty()),
            layers: diff_ids.iter().map(blob_path).collect(),
            layer_sources: diff_ids.iter().map(Digest::as_str).zip(descriptors).collect(),
        });
        small.insert(entry.digest, manifest);
        small.insert(id.clone(), image.config.raw().to_vec());
    }
    let mut tar = Tar { out };
    tar.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    tar.file("index.json", &encode(&index))?;
    tar.file("manifest.json", &encode(&items))?;
    if !repositories.is_empty() {
        tar.file("repositories", &encode(&repositories))?;
    }
    tar.folder("blobs/")?;
    tar.folder("blobs/sha256/")?;
    for (digest, bytes) in &small {
        tar.file(&blob_path(digest), bytes)?;
    }
    for (diff_id, layer, size) in &layers {
        tar.begin(&blob_path(diff_id), *size)?;
        let mut exact = Exact { out: tar.out, left: *size };
        source.write_tar(layer, &mut exact)?;
        if exact.left != 0 {
            return Err(Error::internal(format!("layer {layer} is shorter than it was")));
        }
        tar.pad(*size)?;
    }
    tar.end()
}

/// Writes an OCI layout: what `index` lists, with all blobs that it needs.
///
/// # Errors
/// Of the content store and of `out`.
pub fn layout(
    index: &Index,
    blobs: &BTreeSet<Digest>,
    content: &crate::Content,
    out: &mut dyn Write,
) -> Result<()> {
    let mut tar = Tar { out };
    tar.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    tar.file("index.json", &encode(index))?;
    tar.folder("blobs/")?;
    tar.folder("blobs/sha256/")?;
    for digest in blobs {
        let (mut file, size) = content.blob(digest)?;
        tar.begin(&blob_path(digest), size)?;
        let mut exact = Exact { out: tar.out, left: size };
        io::copy(&mut file, &mut exact)
            .map_err(|e| crate::decompress::unwrap("cannot write the archive", e))?;
        if exact.left != 0 {
            return Err(Error::internal(format!("blob {digest} is shorter than it was")));
        }
        tar.pad(size)?;
    }
    tar.end()
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    // All keys are strings and there are no floats, so nothing can fail.
    serde_json::to_vec(value).expect("listings are always valid JSON")
}

/// Passes on at most the bytes announced in the member's header.
struct Exact<'o> {
    out: &'o mut dyn Write,
    left: u64,
}

impl Write for Exact<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if buf.len() as u64 > self.left {
            return Err(io::Error::other(Error::internal("a layer is longer than it was")));
        }
        let n = self.out.write(buf)?;
        self.left -= n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A writer of plain ustar members.
struct Tar<'o> {
    out: &'o mut dyn Write,
}

const ZEROS: [u8; 1024] = [0; 1024];

impl Tar<'_> {
    fn file(&mut self, name: &str, data: &[u8]) -> Result<()> {
        self.begin(name, data.len() as u64)?;
        self.write(data)?;
        self.pad(data.len() as u64)
    }

    fn begin(&mut self, name: &str, size: u64) -> Result<()> {
        self.header(name, size, b'0', 0o644)
    }

    fn folder(&mut self, name: &str) -> Result<()> {
        self.header(name, 0, b'5', 0o755)
    }

    fn header(&mut self, name: &str, size: u64, flag: u8, mode: u32) -> Result<()> {
        let mut block = [0; 512];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[100..107].copy_from_slice(format!("{mode:07o}").as_bytes());
        block[108..115].copy_from_slice(b"0000000");
        block[116..123].copy_from_slice(b"0000000");
        if size < 1 << 33 {
            block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        } else {
            block[124] = 0x80;
            block[128..136].copy_from_slice(&size.to_be_bytes());
        }
        block[136..147].copy_from_slice(b"00000000000");
        block[148..156].copy_from_slice(b"        ");
        block[156] = flag;
        block[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.write(&block)
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        self.write(&ZEROS[..((512 - size % 512) % 512) as usize])
    }

    fn end(&mut self) -> Result<()> {
        self.write(&ZEROS)?;
        self.out.flush().map_err(|e| crate::decompress::unwrap("cannot write the archive", e))
    }

    fn write(&mut self, data: &[u8]) -> Result<()> {
        self.out
            .write_all(data)
            .map_err(|e| crate::decompress::unwrap("cannot write the archive", e))
    }
}
