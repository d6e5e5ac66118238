//! All plugins of a machine: their names, and what each implements.
//!
//! What a plugin implements is asked once for a socket: one that listens anew is asked again.

use crate::{Address, Managed, Plugin, find, managed};
use base::{Error, Result};
use futures_util::future::join_all;
use std::{
    collections::{BTreeSet, HashMap},
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Plugins of one folder that are looked at; more are nobody's intention.
const MOST: usize = 256;

/// A socket as long as nobody has made it anew.
type Stamp = (u64, u64, i64, i64);

/// What the plugin behind a socket implements.
type Known = (Stamp, Vec<String>);

/// The plugins of some folders. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Plugins {
    folders: Arc<[PathBuf]>,
    limit: Duration,
    known: Arc<Mutex<HashMap<String, Known>>>,
}

impl Plugins {
    /// Those that `folders` name; a call lasts `limit` at most.
    pub fn new(folders: &[PathBuf], limit: Duration) -> Self {
        Self { folders: folders.into(), limit, known: Arc::default() }
    }

    /// The bound of a call.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// The plugin `name`, which may not be there; a managed one with its tag.
    pub fn get(&self, name: &str) -> Plugin {
        let managed = Managed::find(name, &self.folders).map(|m| m.name);
        Plugin::new(managed.as_deref().unwrap_or(name), Arc::clone(&self.folders), self.limit)
    }

    /// The plugin `name`, which has to implement `kind`.
    ///
    /// # Errors
    /// `NotFound` when there is no such plugin or it implements other things; as [`Plugin::call`].
    pub async fn implementing(&self, name: &str, kind: &str) -> Result<Plugin> {
        let plugin = self.get(name);
        if self.implemented(&plugin).await?.iter().any(|i| i == kind) {
            return Ok(plugin);
        }
        Err(Error::not_found(format!("plugin {name:?} does not implement {kind}")))
    }

    /// All plugins that implement `kind`, by name. One that does not answer within `limit` is none of them.
    pub async fn all(&self, kind: &str, limit: Duration) -> Vec<Plugin> {
        let asked = self.names().into_iter().map(|name| async move {
            let plugin = self.get(&name).within(limit);
            match self.implemented(&plugin).await {
                Ok(list) if list.iter().any(|i| i == kind) => Some(plugin),
                _ => None,
            }
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// What a plugin implements, asked once for each socket.
    async fn implemented(&self, plugin: &Plugin) -> Result<Vec<String>> {
        let stamp = stamp(&find(plugin.name(), &self.folders)?);
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(stamp), Some((at, list))) = (stamp, known().get(plugin.name()))
            && stamp == *at
        {
            return Ok(list.clone());
        }
        let list = plugin.activate().await?;
        if let Some(stamp) = stamp {
            known().insert(plugin.name().to_owned(), (stamp, list.clone()));
        }
        Ok(list)
    }

    /// Names that the folders know.
    fn names(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for folder in &*self.folders {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten().take(MOST) {
                let path = entry.path();
                if path.is_dir() {
                    let inner = fs::read_dir(&path).into_iter().flatten().flatten().take(MOST);
                    names.extend(inner.filter_map(|inner| named(&inner.path())));
                } else {
                    names.extend(named(&path));
                }
            }
        }
        // What a folder in a folder holds is found by its own name alone.
        names.retain(|name| find(name, &self.folders).is_ok());
        names
    }
}

/// The name of the plugin that a file tells of.
fn named(path: &Path) -> Option<String> {
    let is = match path.extension()?.to_str()? {
        "sock" => fs::metadata(path).is_ok_and(|m| m.file_type().is_socket()),
        "spec" | "json" => path.is_file(),
        _ => false,
    };
    is.then(|| path.file_stem()?.to_str().map(managed::name_of))?
}

fn stamp(address: &Address) -> Option<Stamp> {
    let Address::Unix(path) = address else { return None };
    let meta = fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino(), meta.ctime(), meta.ctime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn plugins_are_known_by_their_sockets_and_files() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        for folder in ["a", "b"] {
            fs::create_dir(at(folder)).unwrap();
        }
        let _sockets = [at("one.sock"), at("a/a.sock"), at("b/other.sock")]
            .map(|p| UnixListener::bind(p).unwrap());
        fs::write(at("two.spec"), "tcp://h:1").unwrap();
        fs::write(at("three.sock"), "no socket").unwrap();
        fs::write(at("four.txt"), "").unwrap();
        let plugins = Plugins::new(&[dir.path().to_owned(), at("missing")], Duration::ZERO);
        assert_eq!(plugins.names().into_iter().collect::<Vec<_>>(), ["a", "one", "two"]);
    }
}
