//! Image archives: what `docker save`, skopeo, buildah and podman write, read and written.
//!
//! [`load()`] takes any order of members and any whole-archive compression. It spools the archive once into
//! an unnamed file and unpacks layers side by side while later members still arrive; which of them belong
//! to an image is decided at the end, from `manifest.json` (docker-archive, also a skopeo `dir:`) or
//! `index.json` (OCI layout). [`save()`] writes what Docker 25 and later write, readable as both.
//!
//! Invariants: an image comes out only when the digest of every part was found equal to the one promised;
//! names of members are looked up in a table and never become paths; links lead only to members.
//! Source: OCI image-spec `image-layout.md`; the layouts that Docker 20.10 and 28 write, as observed.
//! Not here: rows and tags (the engine's); archives from before Docker 1.10, which have no `manifest.json`.

mod docker;
mod load;
mod members;
mod oci;
mod save;
mod spool;
mod unpack;

pub use load::{LoadedImage, Options, Origin, Progress, load};
pub use save::{SavedImage, layout, save};

#[cfg(test)]
mod tests;
