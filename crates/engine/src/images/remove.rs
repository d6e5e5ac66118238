//! `DELETE /images/{name}`: untag, and delete when nothing stands in the way.
//!
//! The rules and texts are those of Docker's classic image store: a reference is taken away first; the
//! image itself goes with its last reference, unless a container uses it or another image was built on it.
//! Everything is decided and done in one transaction.

use super::{Images, Record, User, resolve};
use api::model::ImageDeleted;
use base::{Error, ImageId, Principal, Reference, Result, Timestamp};
use image::config::chain_ids;
use store::{Layer, Tx};

/// How to remove.
#[derive(Clone, Copy, Debug, Default)]
pub struct RemoveOptions {
    /// Ignore what may be ignored: stopped containers and further references.
    pub force: bool,
    /// Delete untagged parents too.
    pub prune: bool,
}

/// What was removed.
#[derive(Clone, Debug, Default)]
pub struct Removed {
    /// One line for each reference, image and layer.
    pub lines: Vec<ImageDeleted>,
    /// Bytes of the layers that nothing needs any more.
    pub reclaimed: u64,
}

impl Images {
    /// Removes what `name` means.
    ///
    /// # Errors
    /// `NotFound` for no such image; `Conflict` with docker's text when something needs it.
    pub fn remove(
        &self,
        name: &str,
        options: RemoveOptions,
        users: &[User],
        by: &Principal,
    ) -> Result<Removed> {
        self.store.write(|tx| {
            let mut removal = Removal {
                images: self,
                tx,
                users,
                by,
                now: Timestamp::now(),
                removed: Removed::default(),
            };
            removal.run(name, options)?;
            Ok(removal.removed)
        })
    }
}

struct Removal<'a> {
    images: &'a Images,
    tx: &'a Tx<'a>,
    users: &'a [User],
    by: &'a Principal,
    now: Timestamp,
    removed: Removed,
}

/// Why an image cannot go.
struct Conflict {
    error: Error,
    /// Because a container uses it.
    used: bool,
}

/// Which conflicts count.
#[derive(Clone, Copy)]
struct Checks {
    references: bool,
    stopped: bool,
}

impl Removal<'_> {
    fn run(&mut self, name: &str, options: RemoveOptions) -> Result<()> {
        let id = resolve(self.tx, name)?;
        let references = self.references(&id)?;
        let by_id = id.as_str().starts_with(name) || id.hex().starts_with(name);
        let mut untagged_last = false;
        if by_id {
            if one_repository(&references) {
                let checks = Checks { references: false, stopped: !options.force };
                if let Some(conflict) = self.conflict(&id, checks)? {
                    return Err(conflict.error);
                }
                for reference in &references {
                    self.untag(&id, reference)?;
                }
            }
        } else {
            let user = self.users.iter().find(|u| u.image == id);
            if let Some(user) = user.filter(|_| !options.force && one_repository(&references)) {
                return Err(Error::conflict(format!(
                    "conflict: unable to remove repository reference \"{name}\" (must force) - container {} is using its referenced image {}",
                    short(&user.container),
                    id.short()
                )));
            }
            let reference = image::lookup::stored_form(&name.parse()?);
            // A name that goes, goes for all platforms.
            let others = self.tx.variants(&reference.to_string())?;
            self.untag_all(&id, &reference)?;
            if reference.digest().is_none() {
                self.drop_digests(&id, &reference)?;
            }
            for other in others {
                if self.references(&other)?.is_empty() {
                    self.delete(&other, options, true)?;
                }
            }
            if !self.references(&id)?.is_empty() {
                return Ok(());
            }
            untagged_last = true;
        }
        self.delete(&id, options, untagged_last)
    }

    /// Digest references of a repository go with its last tag.
    fn drop_digests(&mut self, id: &ImageId, gone: &Reference) -> Result<()> {
        let same: Vec<Reference> = self
            .references(id)?
            .into_iter()
            .filter(|r| r.repository() == gone.repository())
            .collect();
        if same.iter().all(|r| r.digest().is_some()) {
            for reference in &same {
                self.untag_all(id, reference)?;
            }
        }
        Ok(())
    }

    /// Deletes an image. `quiet` is for images that were not named themselves: a conflict then only ends it.
    fn delete(&mut self, id: &ImageId, options: RemoveOptions, quiet: bool) -> Result<()> {
        let checks = Checks { references: !options.force, stopped: !options.force };
        if let Some(conflict) = self.conflict(id, checks)? {
            let dangling =
                self.references(id)?.is_empty() && self.tx.image_children(id)?.is_empty();
            return if quiet && (!dangling || conflict.used) {
                Ok(())
            } else {
                Err(conflict.error)
            };
        }
        let Some(row) = self.tx.image::<Record>(id)? else { return Ok(()) };
        for reference in self.references(id)? {
            self.untag(id, &reference)?;
        }
        self.tx.delete_image(id)?;
        self.tx.delete_cache_of(id)?;
        self.tx.emit(self.images.event("delete", id, id.as_str(), &row.doc.labels).by(self.by));
        self.removed
            .lines
            .push(ImageDeleted { deleted: id.to_string(), ..ImageDeleted::default() });
        self.layers(&row.layers)?;
        match row.parent {
            Some(parent) if options.prune => {
                self.delete(&parent, RemoveOptions { force: false, prune: true }, true)
            }
            _ => Ok(()),
        }
    }

    /// Notes the layers, from the top, that went with their last image.
    fn layers(&mut self, layers: &[base::Digest]) -> Result<()> {
        let orphans = self.tx.orphan_layers()?;
        let mut rows: Vec<Layer<serde::de::IgnoredAny>> = Vec::new();
        for layer in layers {
            rows.extend(self.tx.layer(layer)?);
        }
        let diff_ids: Vec<_> = rows.iter().map(|r| r.diff_id.clone()).collect();
        for (row, chain_id) in rows.iter().zip(chain_ids(&diff_ids)).rev() {
            let used = self.users.iter().any(|u| u.layers.contains(&row.id));
            if used || !orphans.contains(&row.id) {
                break;
            }
            self.removed
                .lines
                .push(ImageDeleted { deleted: chain_id.to_string(), ..ImageDeleted::default() });
            self.removed.reclaimed += row.size;
        }
        Ok(())
    }

    fn conflict(&self, id: &ImageId, checks: Checks) -> Result<Option<Conflict>> {
        let conflict = |force: &str, why: String, used: bool| {
            let text = format!("conflict: unable to delete {} ({force}) - {why}", id.short());
            Ok(Some(Conflict { error: Error::conflict(text), used }))
        };
        if !self.tx.image_children(id)?.is_empty() {
            return conflict("cannot be forced", "image has dependent child images".into(), false);
        }
        let user =
            |running: bool| self.users.iter().find(|u| u.image == *id && u.running == running);
        if let Some(user) = user(true) {
            let why =
                format!("image is being used by running container {}", short(&user.container));
            return conflict("cannot be forced", why, true);
        }
        if checks.references && !self.references(id)?.is_empty() {
            return conflict(
                "must be forced",
                "image is referenced in multiple repositories".into(),
                false,
            );
        }
        if let Some(user) = user(false).filter(|_| checks.stopped) {
            let why =
                format!("image is being used by stopped container {}", short(&user.container));
            return conflict("must be forced", why, true);
        }
        Ok(None)
    }

    /// Takes an image away from a name, which goes on to mean the images of other platforms, if any.
    fn untag(&mut self, id: &ImageId, reference: &Reference) -> Result<()> {
        let text = reference.to_string();
        if self.tx.remove_variant(&text, id)? {
            return Ok(());
        }
        match self.tx.variants(&text)?.first() {
            Some(next) => self.tx.prefer_variant(&text, next, false),
            None => self.untag_all(id, reference),
        }
    }

    /// Takes a name away, whatever it means.
    fn untag_all(&mut self, id: &ImageId, reference: &Reference) -> Result<()> {
        if self.tx.remove_tag(&reference.to_string(), self.now)?.is_none() {
            return Ok(());
        }
        let labels = self.tx.image::<Record>(id)?.map(|r| r.doc.labels).unwrap_or_default();
        self.tx.emit(self.images.event("untag", id, id.as_str(), &labels).by(self.by));
        self.removed
            .lines
            .push(ImageDeleted { untagged: reference.familiar(), ..ImageDeleted::default() });
        Ok(())
    }

    fn references(&self, id: &ImageId) -> Result<Vec<Reference>> {
        self.tx.tags_of(id)?.iter().map(|t| t.reference.parse()).collect()
    }
}

/// Whether there is at most one tag, and all references are of its repository.
fn one_repository(references: &[Reference]) -> bool {
    if references.len() <= 1 {
        return true;
    }
    let tags = references.iter().filter(|r| r.digest().is_none()).count();
    tags <= 1 && references.iter().all(|r| r.repository() == references[0].repository())
}

fn short(container: &str) -> &str {
    container.get(..12).unwrap_or(container)
}
