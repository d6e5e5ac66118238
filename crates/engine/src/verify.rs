//! `gantry daemon --verify`: checks the state while no daemon runs, mends what can be mended, and says so.
//!
//! Checked: the database file, the chain of the event log, every blob's digest, every image's config and
//! layers. Mended: leases of dead operations, folders and rows that nothing points to, damaged blobs that
//! no image needs. An image that is not whole is named, not deleted: only its owner knows whether it can
//! be loaded again.

use crate::{
    Config,
    images::{Images, Record},
    lifecycle::{lock, open_layers},
};
use base::{Digest, Result};
use image::Content;
use std::{collections::BTreeSet, sync::Arc};
use store::Store;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many objects were looked at, by kind.
    pub checked: Vec<(&'static str, usize)>,
    /// What was put right.
    pub mended: Vec<String>,
    /// What is broken still.
    pub broken: Vec<String>,
}

/// Checks the state below `config.data_root`.
///
/// # Errors
/// `Conflict` while a daemon runs on it; of disk and database when the check cannot go on.
pub fn verify(config: &Config) -> Result<Report> {
    let root = &config.data_root;
    crate::lifecycle::private_dir(root)?;
    let _lock = lock(root)?;
    let mut report = Report::default();
    let store = Arc::new(Store::open(&root.join("gantry.db"))?);
    report.broken.extend(store.check()?.into_iter().map(|fault| format!("database: {fault}")));
    if let Some(seq) = store.read(|tx| tx.broken_event())? {
        report.broken.push(format!("event log: row {seq} does not follow from the row before it"));
    }
    let leases = store.write(|tx| tx.release_all())?;
    if leases > 0 {
        report.mended.push(format!("{leases} leases of operations that died were released"));
    }
    let (layers, ..) = open_layers(root)?;
    let content = Content::open(&root.join("content"))?;
    let images = Images::open(Arc::clone(&store), content.clone(), Arc::new(layers.clone()))?;

    let before = (layers.list()?.len(), content.list()?.len());
    let users = users(&store)?;
    let incomplete: BTreeSet<Digest> = images.recover(&users)?.into_iter().collect();
    let after = (layers.list()?.len(), content.list()?.len());
    for (kind, gone) in [
        ("layer folders", before.0 - after.0.min(before.0)),
        ("blobs", before.1 - after.1.min(before.1)),
    ] {
        if gone > 0 {
            report.mended.push(format!("{gone} {kind} that nothing points to were removed"));
        }
    }
    report.broken.extend(
        incomplete.iter().map(|id| {
            format!("image {id}: its config or a layer is missing: load or build it again")
        }),
    );

    let needed = needed_blobs(&store)?;
    for digest in content.damaged()? {
        if needed.contains(&digest) {
            report.broken.push(format!("blob {digest}: its content does not match its digest"));
        } else {
            content.remove(&digest)?;
            report.mended.push(format!("blob {digest}: damaged and not needed, removed"));
        }
    }
    for layer in layers.list()? {
        if let Err(err) = layers.verify(&layer) {
            report.broken.push(format!("layer {layer}: {}", err.chain()));
        }
    }
    let rows = store.read(|tx| tx.images::<Record>())?;
    report.checked = vec![("images", rows.len()), ("layers", after.0), ("blobs", after.1)];
    store.flush()?;
    Ok(report)
}

/// Containers of the store, as the rules of images see them.
fn users(store: &Store) -> Result<Vec<crate::images::User>> {
    let rows = store.read(|tx| tx.containers::<crate::containers::Record>())?;
    Ok(rows.iter().flat_map(|row| row.doc.as_image_users()).collect())
}

/// Configs, manifests and indexes of all images.
fn needed_blobs(store: &Store) -> Result<BTreeSet<Digest>> {
    let rows = store.read(|tx| tx.images::<Record>())?;
    Ok(rows
        .into_iter()
        .flat_map(|row| [row.id].into_iter().chain(row.doc.manifest).chain(row.doc.manifests))
        .collect())
}
