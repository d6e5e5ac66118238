//! Dropping what nothing needs any more: layers without image, hold or container, blobs without row.

use super::{Images, Record, User, transfers::KEPT_FOR};
use base::{Digest, ImageId, Result, Timestamp};
use std::{
    collections::HashSet,
    sync::{PoisonError, TryLockError, atomic::Ordering},
};
use store::Image;

/// What a collection dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Layers.
    pub layers: usize,
    /// Blobs.
    pub blobs: usize,
}

/// What a check of all images found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Blobs whose bytes are not what their name says.
    pub damaged: Vec<Digest>,
    /// Images without a sound config or without one of their layers.
    pub broken: Vec<ImageId>,
    /// Tags that point to those.
    pub tags: Vec<String>,
}

impl Images {
    /// Reads every blob again and looks for every layer. Layers' files are checked by `storage`.
    ///
    /// # Errors
    /// Of disk and database.
    pub fn verify(&self) -> Result<Findings> {
        let damaged = self.content.damaged()?;
        let (images, tags) =
            self.store.read(|tx| Ok((tx.images::<serde::de::IgnoredAny>()?, tx.tags()?)))?;
        let whole = |image: &Image<_>| {
            self.content.has(&image.id)
                && !damaged.contains(&image.id)
                && image.layers.iter().all(|l| self.layers.exists(l))
        };
        let broken: Vec<ImageId> =
            images.iter().filter(|i| !whole(i)).map(|i| i.id.clone()).collect();
        let tags = tags.into_iter().filter(|t| broken.contains(&t.image)).map(|t| t.reference);
        Ok(Findings { tags: tags.collect(), damaged, broken })
    }

    /// Drops layers and blobs that nothing needs. While something is being unpacked it does nothing and
    /// answers `None`; [`Images::collect_again`] then tells that it has to be asked again. `users` is asked
    /// after the images: a container is known there before it lets go of its image's layers.
    ///
    /// # Errors
    /// Of disk and database; what was dropped until then stays dropped.
    pub fn collect(&self, users: &dyn Fn() -> Vec<User>) -> Result<Option<Collected>> {
        let _alone = match self.gate.try_write() {
            Ok(gate) => gate,
            Err(TryLockError::Poisoned(gate)) => gate.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.again.store(true, Ordering::Release);
                return Ok(None);
            }
        };
        let mut collected = Collected::default();
        self.store.write(|tx| tx.expire_leases(Timestamp::now(), false))?;
        self.content.drop_partial(KEPT_FOR, &[])?;
        let orphans = self.store.read(|tx| tx.orphan_layers())?;
        if !orphans.is_empty() {
            // Looked at and dropped under one lock: who takes hold of a layer later looks for its image
            // afterwards, and that has gone already.
            let holds = self.holds();
            let used: HashSet<Digest> = users().into_iter().flat_map(|u| u.layers).collect();
            for layer in orphans {
                if used.contains(&layer) || holds.contains_key(&layer) {
                    continue;
                }
                self.store.write(|tx| tx.delete_layer(&layer))?;
                self.layers.remove(&layer)?;
                collected.layers += 1;
            }
        }
        self.store.write(|tx| tx.forget_dead_blobs())?;
        let wanted = self.store.read(|tx| {
            let mut wanted: HashSet<Digest> = tx.live_blobs()?.into_iter().collect();
            for image in tx.images::<Record>()? {
                wanted.extend(image.doc.manifests);
                wanted.extend(image.doc.manifest);
                wanted.extend(image.doc.blobs);
                wanted.insert(image.id);
            }
            wanted.extend(tx.leased_objects("blob")?.iter().filter_map(|d| d.parse().ok()));
            Ok(wanted)
        })?;
        for (blob, _) in self.content.list()? {
            // A hold is taken before its blob comes.
            if !wanted.contains(&blob) && !self.holds().contains_key(&blob) {
                self.content.remove(&blob)?;
                collected.blobs += 1;
            }
        }
        Ok(Some(collected))
    }

    /// Whether a collection was put off, once.
    pub fn collect_again(&self) -> bool {
        self.again.swap(false, Ordering::AcqRel)
    }

    /// Puts rows and folders of layers in step after the engine was killed: folders that no row knows
    /// are dropped, and images whose layers or config are gone are named in the answer.
    ///
    /// # Errors
    /// Of disk and database.
    pub fn recover(&self, users: &[User]) -> Result<Vec<Digest>> {
        let broken = {
            let _alone = self.gate.write().unwrap_or_else(PoisonError::into_inner);
            let known: HashSet<Digest> = self
                .store
                .read(|tx| tx.layers::<serde::de::IgnoredAny>())?
                .into_iter()
                .map(|l| l.id)
                .chain(users.iter().flat_map(|u| u.layers.iter().cloned()))
                .collect();
            for layer in self.layers.list()? {
                if !known.contains(&layer) {
                    self.layers.remove(&layer)?;
                }
            }
            self.store
                .read(|tx| tx.images::<serde::de::IgnoredAny>())?
                .into_iter()
                .filter(|i| {
                    !self.content.has(&i.id) || i.layers.iter().any(|l| !self.layers.exists(l))
                })
                .map(|i| i.id)
                .collect()
        };
        self.collect(&|| users.to_vec())?;
        Ok(broken)
    }
}
