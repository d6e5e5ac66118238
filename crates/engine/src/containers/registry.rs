//! All containers by id and by name, and the lookup by what people type.

use super::Container;
use base::{ContainerId, Error, Result};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

/// The containers of one engine.
#[derive(Debug, Default)]
pub struct Registry {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    by_id: BTreeMap<ContainerId, Arc<Container>>,
    by_name: HashMap<String, ContainerId>,
    /// Taken by who is not called so yet.
    claimed: HashMap<String, ContainerId>,
}

impl Registry {
    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks up a full id, an exact name (with or without slash), `NAME/ALIAS` of a link, or an id prefix, in this order.
    /// Plugins are not meant.
    ///
    /// # Errors
    /// `NotFound` with docker's "No such container: X"; `Invalid` for a prefix of several.
    pub fn find(&self, text: &str) -> Result<Arc<Container>> {
        let inner = self.read();
        if let Ok(id) = text.parse::<ContainerId>()
            && let Some(found) = inner.by_id.get(&id).filter(|c| !c.is_plugin())
        {
            return Ok(Arc::clone(found));
        }
        let name = text.strip_prefix('/').unwrap_or(text);
        let named = inner.by_name.get(name).and_then(|id| inner.by_id.get(id));
        if let Some(found) = named.filter(|c| !c.is_plugin()) {
            return Ok(Arc::clone(found));
        }
        let missing = || Error::not_found(format!("No such container: {text}"));
        // What a container calls one that it is linked to: `/web/db`.
        if let Some((parent, alias)) = name.split_once('/') {
            let parent = inner.by_name.get(parent).and_then(|id| inner.by_id.get(id));
            let target = parent.and_then(|parent| parent.record().old_link(alias));
            drop(inner);
            return target.map_or_else(|| Err(missing()), |target| self.find(&target));
        }
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(missing());
        }
        let mut matches =
            inner.by_id.iter().filter(|(id, c)| id.as_str().starts_with(text) && !c.is_plugin());
        match (matches.next(), matches.next()) {
            (Some((_, found)), None) => Ok(Arc::clone(found)),
            (Some(_), Some(_)) => {
                Err(Error::invalid(format!("multiple IDs found with provided prefix: {text}")))
            }
            _ => Err(missing()),
        }
    }

    /// The container with exactly this id.
    pub fn get(&self, id: &ContainerId) -> Option<Arc<Container>> {
        self.read().by_id.get(id).cloned()
    }

    /// Claims `name` for `id`, which is found by it from [`Registry::insert`] or [`Registry::rename`] on.
    ///
    /// # Errors
    /// `Conflict` with docker's text when another container has it.
    pub fn claim(&self, name: &str, id: &ContainerId) -> Result<()> {
        let mut inner = self.write();
        match inner.by_name.get(name).or_else(|| inner.claimed.get(name)) {
            Some(holder) if holder != id => Err(Error::conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". You have to remove (or rename) that container to be able to reuse that name."
            ))),
            _ => {
                inner.claimed.insert(name.to_owned(), id.clone());
                Ok(())
            }
        }
    }

    /// Gives a claim back.
    pub fn release(&self, name: &str, id: &ContainerId) {
        let mut inner = self.write();
        if inner.claimed.get(name) == Some(id) {
            inner.claimed.remove(name);
        }
    }

    /// Adds a container under the name that was claimed for it.
    pub fn insert(&self, container: Arc<Container>) {
        let (id, name) = (container.id().clone(), container.record().name.clone());
        let mut inner = self.write();
        if inner.claimed.get(&name) == Some(&id) {
            inner.claimed.remove(&name);
            inner.by_name.insert(name, id.clone());
        }
        inner.by_id.insert(id, container);
    }

    /// From here on `id` is found by `to`, which was claimed for it, and by `from` no more.
    pub fn rename(&self, id: &ContainerId, from: &str, to: &str) {
        let mut inner = self.write();
        inner.claimed.remove(to);
        if inner.by_name.get(from) == Some(id) {
            inner.by_name.remove(from);
        }
        inner.by_name.insert(to.to_owned(), id.clone());
    }

    /// Forgets a container; its name is free again.
    pub fn remove(&self, id: &ContainerId, name: &str) {
        let mut inner = self.write();
        if inner.by_name.get(name) == Some(id) {
            inner.by_name.remove(name);
        }
        inner.by_id.remove(id);
    }

    /// All containers.
    pub fn all(&self) -> Vec<Arc<Container>> {
        self.read().by_id.values().cloned().collect()
    }
}
