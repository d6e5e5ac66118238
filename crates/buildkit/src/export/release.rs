//! Results with manifests of their own: layers in the form that was asked for, annotations, an index over
//! several platforms, and what is attested beside each image.
//!
//! Source: BuildKit `exporter/containerimage/writer.go` for the shape of attestations in an index.

use super::{Epoch, Product, annotations::Annotations, image};
use crate::{
    attest::{self, PREDICATE, Predicate, STATEMENT},
    cache,
    job::Job,
    progress::Task,
};
use base::{Digest, Error, Platform, Reference, Result};
use engine::build::{Compression, Release, ReleaseImage};
use image::manifest::{
    DOCKER_LIST, DOCKER_MANIFEST, Descriptor, Index, Manifest, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST,
};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// How results are to be put into manifests.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    compression: Compression,
    oci: bool,
    annotations: Annotations,
    /// What is attested is put beside the images.
    attest: bool,
    /// Something was asked for that only a manifest can say.
    asked: bool,
}

impl Plan {
    /// Reads the attributes of an exporter. `outside` says that the result leaves this engine.
    ///
    /// # Errors
    /// `Invalid` for a value that is not known.
    pub(super) fn read(
        attrs: &BTreeMap<String, String>,
        request: &attest::Request,
        products: &[Product],
        outside: bool,
    ) -> Result<Self> {
        let map: HashMap<String, String> =
            attrs.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        let annotations = Annotations::read(attrs)?;
        let form = ["compression", "compression-level", "force-compression"]
            .iter()
            .any(|k| attrs.contains_key(*k));
        let oci = cache::on(&map, "oci-mediatypes")?;
        let inline = cache::on(&map, "attestation-inline")?.unwrap_or(outside);
        let wanted = request.provenance.as_ref().is_some_and(|p| !p.inline_only || inline);
        let given = products.iter().any(|p| !p.said.is_empty());
        let attest = wanted || request.sbom || given;
        let compression = cache::compression(|key| attrs.get(key).map(String::as_str))?;
        let zstd = compression.form == Some(image::compress::Form::Zstd);
        let needs_oci = attest || !annotations.is_empty() || zstd;
        Ok(Self {
            compression,
            oci: oci.unwrap_or(false) || needs_oci,
            asked: form || oci.is_some() || !annotations.is_empty(),
            annotations,
            attest,
        })
    }

    /// Whether manifests are to be made for `products` at all.
    pub(super) fn is_needed(&self, products: &[Product]) -> bool {
        self.asked || self.attest || products.len() > 1
    }

    /// In OCI's words whatever else is asked for.
    pub(super) fn in_oci(mut self) -> Self {
        self.oci = true;
        self
    }
}

/// What was made.
pub(super) struct Made {
    pub(super) release: Release,
    /// What the names stand for.
    pub(super) top: Descriptor,
    /// Everything below it that is a blob of its own.
    pub(super) blobs: BTreeSet<Digest>,
}

/// Makes the manifests.
///
/// # Errors
/// Of storage; `Invalid` for a config that cannot be read.
pub(super) async fn make(
    job: &Arc<Job>,
    products: &[Product],
    plan: &Plan,
    names: &[Reference],
    times: Epoch,
    task: &Task,
) -> Result<Made> {
    let mut blobs = BTreeSet::new();
    let mut entries = Vec::new();
    let mut attested = Vec::new();
    let mut images = Vec::new();
    let mut further = Vec::new();
    let mut small = Vec::new();
    task.item("exporting layers", 0, 0, false);
    for product in products {
        let (image, mut entry) = one(job, product, plan, times, &mut blobs).await?;
        let platform = image.config.config().platform();
        if products.len() > 1 || plan.attest || !product.name.is_empty() {
            entry.platform = Some(platform.clone());
        }
        task.item(&format!("exporting manifest {}", entry.digest), 0, 0, true);
        if plan.attest {
            let said = attest::predicates(job, product, &job.attest).await?;
            let subjects: Vec<(String, Digest)> = names
                .iter()
                .map(|n| {
                    let name = attest::image_purl("docker", &n.to_string(), Some(&platform));
                    (name, entry.digest.clone())
                })
                .collect();
            if !said.is_empty() {
                let beside = beside(job, &said, &subjects, &entry, &mut small)?;
                task.item(
                    &format!("exporting attestation manifest {}", beside.0.digest),
                    0,
                    0,
                    true,
                );
                further.push((beside.0.digest.clone(), beside.1));
                attested.push(beside.0);
            }
        }
        entries.push(entry);
        images.push(image);
    }
    task.item("exporting layers", 0, 0, true);
    let first = main(products);
    images.swap(0, first);
    let top = if entries.len() > 1 || !attested.is_empty() {
        entries.extend(attested);
        let media_type = if plan.oci { OCI_INDEX } else { DOCKER_LIST };
        let index = Index {
            schema_version: 2,
            media_type: media_type.into(),
            manifests: entries,
            annotations: plan.annotations.index(),
        };
        let bytes = encode(&index)?;
        let top = described(job, media_type, &bytes)?;
        task.item(&format!("exporting manifest list {}", top.digest), 0, 0, true);
        further.push((top.digest.clone(), bytes));
        Descriptor { annotations: plan.annotations.index_descriptor(), ..top }
    } else {
        plan.annotations.no_index()?;
        entries.remove(0)
    };
    blobs.extend(small.iter().cloned());
    blobs.extend(further.iter().map(|(digest, _)| digest.clone()));
    let release = Release {
        images,
        further,
        blobs: small,
        target: top.digest.clone(),
        names: names.to_vec(),
    };
    Ok(Made { release, top, blobs })
}

/// The product that names mean here.
pub(super) fn main(products: &[Product]) -> usize {
    let host = Platform::host();
    let fits = |p: &Product| p.name.parse::<Platform>().is_ok_and(|p| p.satisfies(&host));
    products.iter().position(fits).unwrap_or(0)
}

/// One image: its layers as blobs, its config, its manifest.
async fn one(
    job: &Arc<Job>,
    product: &Product,
    plan: &Plan,
    times: Epoch,
    blobs: &mut BTreeSet<Digest>,
) -> Result<(ReleaseImage, Descriptor)> {
    let (config, state) = image(job, product, times).await?;
    let layers = match &state.image {
        Some(image) => job.host.image_layers(image)?,
        None => Vec::new(),
    };
    let mut descriptors = Vec::new();
    for layer in &layers {
        let mut blob = job.host.compressed(layer, plan.compression).await?;
        blob.media_type = engine::images::push::layer_type(&blob.media_type, plan.oci);
        blobs.insert(blob.digest.clone());
        descriptors.push(blob);
    }
    let (media_type, config_type) =
        if plan.oci { (OCI_MANIFEST, OCI_CONFIG) } else { (DOCKER_MANIFEST, DOCKER_CONFIG) };
    let mut annotations = BTreeMap::new();
    if plan.oci {
        for (key, value) in
            [("base.name", &product.base.name), ("base.digest", &product.base.digest)]
        {
            if !value.is_empty() {
                annotations.insert(format!("org.opencontainers.image.{key}"), value.clone());
            }
        }
    }
    let platform = config.config().platform();
    annotations.extend(plan.annotations.manifest(&platform));
    let manifest = Manifest {
        schema_version: 2,
        media_type: media_type.into(),
        config: described(job, config_type, config.raw())?,
        layers: descriptors,
        annotations,
    };
    let bytes = encode(&manifest)?;
    let mut entry = described(job, media_type, &bytes)?;
    entry.annotations = plan.annotations.manifest_descriptor(&platform);
    blobs.insert(config.id().clone());
    blobs.insert(entry.digest.clone());
    let manifest = (entry.digest.clone(), bytes);
    Ok((ReleaseImage { config, state: state.image, manifest }, entry))
}

/// What is attested of an image, as a manifest beside it.
fn beside(
    job: &Job,
    said: &[Predicate],
    subjects: &[(String, Digest)],
    of: &Descriptor,
    small: &mut Vec<Digest>,
) -> Result<(Descriptor, Vec<u8>)> {
    let mut layers = Vec::new();
    for predicate in said {
        let bytes = predicate.statement(subjects);
        let mut blob = described(job, STATEMENT, &bytes)?;
        blob.annotations.insert(PREDICATE.into(), predicate.kind.to_string());
        small.push(blob.digest.clone());
        layers.push(blob);
    }
    let config = json!({
        "architecture": "unknown",
        "os": "unknown",
        "config": {},
        "rootfs": {
            "type": "layers",
            "diff_ids": layers.iter().map(|l| &l.digest).collect::<Vec<_>>(),
        },
    });
    let config = described(job, OCI_CONFIG, config.to_string().as_bytes())?;
    small.push(config.digest.clone());
    let manifest = Manifest {
        schema_version: 2,
        media_type: OCI_MANIFEST.into(),
        config,
        layers,
        annotations: BTreeMap::new(),
    };
    let bytes = encode(&manifest)?;
    let mut descriptor = described(job, OCI_MANIFEST, &bytes)?;
    descriptor.platform = Some(Platform {
        os: "unknown".into(),
        architecture: "unknown".into(),
        variant: String::new(),
    });
    descriptor.annotations = BTreeMap::from([
        ("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned()),
        ("vnd.docker.reference.digest".to_owned(), of.digest.to_string()),
    ]);
    Ok((descriptor, bytes))
}

fn encode(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(value)
        .map_err(|e| Error::internal("cannot write a manifest").caused_by(e))
}

/// Keeps bytes and describes them.
fn described(job: &Job, media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
    Ok(Descriptor::new(media_type, job.host.keep(bytes)?, bytes.len() as u64))
}
