//! Images: bytes and their meaning.
//!
//! [`Content`] keeps blobs by digest; [`config`] and [`manifest`] read them and keep their raw bytes, because
//! an image's id is the digest of exactly those bytes; [`archive`] turns what `docker save`, skopeo, buildah
//! and podman write into images and back; [`edit`] holds pure changes of an image's configuration and
//! [`change`] reads them from `--change`; [`lookup`] decides what a name means.
//!
//! Invariants: nothing enters the store without its digest checked; every parser is bounded in depth, count
//! and bytes ([`Limits`]); a blob's name on disk is never taken from outside but through [`base::Digest`].
//!
//! Not here: unpacking of layers (a [`LayerSink`] is handed in), tags and image rows (the engine's).

pub mod archive;
pub mod change;
pub mod compress;
pub mod config;
pub mod content;
pub mod decompress;
pub mod download;
pub mod edit;
pub mod layer;
pub mod limits;
pub mod lookup;
pub mod manifest;
pub mod registry;

pub use archive::{LoadedImage, SavedImage, load, save};
pub use config::{ConfigBlob, ImageConfig, RunConfig};
pub use content::Content;
pub use layer::{Applied, LayerSink, LayerSource};
pub use limits::Limits;
