//! What governance will ask of an image: how it came, and what it stands on.

use base::{Digest, ImageId, Principal, Result, Timestamp};
use serde::{Deserialize, Serialize};
use store::Tx;

/// How an image came here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// Built here.
    Build,
    /// `docker load`.
    Load,
    /// `docker import`.
    Import,
    /// `docker commit`.
    Commit,
    /// From a registry.
    Pull,
    /// A state on the way of a build: no image that anybody asked for, kept as build cache.
    Step,
}

/// How, when and by whom an image came first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Came {
    /// How.
    pub how: How,
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: Principal,
    /// Id of the build or container, kind of archive, registry.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub from: String,
}

/// The image that another stands on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// Its id.
    pub image: ImageId,
    /// How that is known.
    pub evidence: Evidence,
    /// Layers that both share.
    pub layers: usize,
}

/// How sure a base is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Evidence {
    /// It was built or committed here from that image.
    Parent,
    /// Its lowest layers are all layers of that image.
    Layers,
}

/// The base of an image with `layers`: its parent, or the known image whose layers are the longest
/// prefix of them. Unknown is an answer too.
pub(super) fn base(
    tx: &Tx<'_>,
    parent: Option<&ImageId>,
    layers: &[Digest],
) -> Result<Option<Base>> {
    let images = tx.images::<serde::de::IgnoredAny>()?;
    if let Some(parent) = parent {
        let shared = images.iter().find(|i| i.id == *parent).map_or(0, |i| i.layers.len());
        return Ok(Some(Base {
            image: parent.clone(),
            evidence: Evidence::Parent,
            layers: shared,
        }));
    }
    // Of several with as many layers the first seen is taken: it was there before the others were made.
    let mut best: Option<Base> = None;
    for image in images {
        let shared = image.layers.len();
        if shared > best.as_ref().map_or(0, |b| b.layers)
            && shared < layers.len()
            && layers.starts_with(&image.layers)
        {
            best = Some(Base { image: image.id, evidence: Evidence::Layers, layers: shared });
        }
    }
    Ok(best)
}
