//! The build cache as a whole: what steps of BuildKit's front are in it, and dropping some.

use super::host::{CacheFact, STEPS};
use crate::{Engine, images::Record};
use base::{Digest, Result, Timestamp};
use serde::de::IgnoredAny;
use std::collections::{HashMap, HashSet};

/// A step in the cache.
#[derive(Clone, Debug)]
pub struct CacheStep {
    /// Its key.
    pub key: String,
    /// What is kept of it.
    pub fact: CacheFact,
    /// When it was last found.
    pub used: Timestamp,
    /// The layers of its state, lowest first.
    pub layers: Vec<Digest>,
    /// A build uses its own layer now.
    pub in_use: bool,
    /// An image or a container has its own layer too.
    pub shared: bool,
}

impl Engine {
    /// The steps in the cache, least recently used first.
    ///
    /// # Errors
    /// Of the database.
    pub fn build_cache(&self) -> Result<Vec<CacheStep>> {
        let (entries, images) = self
            .store
            .read(|tx| Ok((tx.cache_below::<CacheFact>(STEPS)?, tx.images::<Record>()?)))?;
        let mut seen: HashSet<Digest> =
            self.image_users().into_iter().flat_map(|user| user.layers).collect();
        let mut layers: HashMap<Digest, Vec<Digest>> = HashMap::new();
        for image in images {
            if !image.doc.is_step() {
                seen.extend(image.layers.iter().cloned());
            }
            layers.insert(image.id, image.layers);
        }
        let step = |entry: store::CacheEntry<CacheFact>| {
            let layers = entry.image.and_then(|id| layers.get(&id).cloned()).unwrap_or_default();
            let top = layers.last();
            CacheStep {
                in_use: top.is_some_and(|layer| self.images.is_held(layer)),
                shared: top.is_some_and(|layer| seen.contains(layer)),
                key: entry.key,
                fact: entry.doc,
                used: entry.used,
                layers,
            }
        };
        let mut all: Vec<_> = entries.into_iter().map(step).collect();
        all.sort_by_key(|step| step.used);
        Ok(all)
    }

    /// Forgets steps of the cache, and the states that nothing else needs.
    ///
    /// # Errors
    /// Of disk and database.
    pub fn build_cache_drop(&self, keys: &[String]) -> Result<()> {
        self.store.write(|tx| {
            for key in keys {
                tx.delete_cache(key)?;
            }
            let kept: HashSet<Digest> = tx
                .cache_entries::<IgnoredAny>()?
                .into_iter()
                .filter_map(|entry| entry.image)
                .collect();
            for image in tx.images::<Record>()? {
                // A build that runs may be about to use one that is in no cache yet.
                let used = image.layers.last().is_some_and(|top| self.images.is_held(top));
                if image.doc.is_step() && !kept.contains(&image.id) && !used {
                    tx.delete_image(&image.id)?;
                }
            }
            Ok(())
        })?;
        self.images.collect(&|| self.image_users()).map(|_| ())
    }
}
