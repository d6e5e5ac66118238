//! Results that go elsewhere by their digests: to a registry without a tag, into a content store of the client.

use crate::{contents::Store, job::Job, progress::Task, solve::source::authorise};
use base::{Error, Reference, Result};
use image::manifest::{self, Descriptor, Either};
use std::{io::Read as _, sync::Arc};

/// What is below a manifest or index and itself: what it names first.
fn below(job: &Job, top: &Descriptor) -> Result<Vec<(Descriptor, Option<Vec<u8>>)>> {
    let limit = image::Limits::default().manifest_bytes;
    let (file, _) = job.host.blob(&top.digest)?;
    let mut bytes = Vec::new();
    let fail = |e| Error::io(format!("cannot read the manifest {}", top.digest), e);
    file.take(limit).read_to_end(&mut bytes).map_err(fail)?;
    let mut all = Vec::new();
    match manifest::parse(&bytes)? {
        Either::Manifest(found) => {
            all.extend(found.layers.into_iter().chain([found.config]).map(|blob| (blob, None)));
        }
        Either::Index(index) => {
            for entry in &index.manifests {
                all.extend(below(job, entry)?);
            }
        }
    }
    all.push((top.clone(), Some(bytes)));
    Ok(all)
}

/// Sends a result to the repository of `name`, where its digest is all that it is known by.
///
/// # Errors
/// `Invalid` for a name with a tag; of the registry.
pub(super) async fn push(
    job: &Arc<Job>,
    top: &Descriptor,
    name: &Reference,
    task: &Task,
) -> Result<()> {
    if name.tag().is_some() {
        return Err(Error::invalid(format!("can't push tagged ref {name} by digest")));
    }
    authorise(job, name.domain()).await;
    let repository = job.host.repository(name, true)?;
    let what = format!("pushing {name}@{}", top.digest);
    task.item(&what, 0, 0, false);
    for (blob, manifest) in below(job, top)? {
        match manifest {
            None => job.host.send_blob(repository.as_ref(), &blob).await?,
            Some(bytes) => {
                let (digest, bytes) = (blob.digest.as_str(), bytes.into());
                let put = repository.put_manifest(digest, &blob.media_type, &bytes).await;
                put.map_err(Error::from)?;
            }
        }
    }
    task.item(&what, 0, 0, true);
    Ok(())
}

/// Writes a result into the client's content store for exports, as an OCI layout keeps it.
///
/// # Errors
/// When the client cannot take it.
pub(super) async fn into_client(job: &Arc<Job>, top: &Descriptor, task: &Task) -> Result<()> {
    let store = Store::of(job, "", "export".into()).await?;
    for (blob, _) in below(job, top)? {
        let what = format!("copying {}", blob.digest);
        task.item(&what, 0, 0, false);
        store.send(job, &blob).await?;
        task.item(&what, 0, 0, true);
    }
    Ok(())
}
