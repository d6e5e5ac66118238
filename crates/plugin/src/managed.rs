//! Managed plugins that are enabled: one file each in a folder of plugins, which tells what others say for themselves.
//!
//! A name holds slashes and a tag: the file is called after it with `%2f` for a slash, and one without tag means
//! `latest`. Whoever looks for plugins finds them so, also a process that is not the daemon.
//! Not here: running them (engine).

use base::{Error, Result};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

/// What is told of a managed plugin that is enabled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Managed {
    /// Its name, with tag.
    pub name: String,
    /// `unix://` and its socket.
    pub addr: String,
    /// What it implements, in the words of `Plugin.Activate`.
    pub implements: Vec<String>,
    /// Its root, as the host sees it.
    pub root: PathBuf,
    /// What it mounts below this folder of its own is seen by the host at the other.
    pub propagated: Option<(PathBuf, PathBuf)>,
}

impl Managed {
    /// Where the host sees a path that the plugin names.
    ///
    /// # Errors
    /// `Internal` for a path that leads out of what is the plugin's.
    pub(crate) fn outside(&self, path: &Path) -> Result<PathBuf> {
        let wrong = || {
            Error::internal(format!(
                "plugin {} names {}, which is outside of its own files",
                self.name,
                path.display()
            ))
        };
        let (root, rest) = match &self.propagated {
            Some((inside, outside)) if path.starts_with(inside) => {
                (outside, path.strip_prefix(inside).unwrap_or(path))
            }
            _ => (&self.root, path.strip_prefix("/").unwrap_or(path)),
        };
        if !path.is_absolute() || rest.components().any(|c| !matches!(c, Component::Normal(_))) {
            return Err(wrong());
        }
        let meant = root.join(rest);
        // What is not there yet cannot lead astray.
        match meant.canonicalize() {
            Ok(real) if real.starts_with(root.canonicalize().unwrap_or_default()) => Ok(meant),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(meant),
            _ => Err(wrong()),
        }
    }

    /// Lets the plugin be found in `folder`.
    ///
    /// # Errors
    /// Of the disk.
    pub fn publish(&self, folder: &Path) -> Result<()> {
        let failed = |e| Error::io(format!("cannot publish plugin {}", self.name), e);
        let text = serde_json::to_vec(self)
            .map_err(|e| Error::internal("cannot encode a plugin").caused_by(e))?;
        fs::create_dir_all(folder).map_err(failed)?;
        let place = place(folder, &self.name);
        // Readers see the old file or the new one, and never a half of it; their names end otherwise.
        let draft = place.with_extension("draft");
        fs::write(&draft, text).and_then(|()| fs::rename(&draft, &place)).map_err(failed)
    }

    /// The plugin of this name, with or without tag.
    pub(crate) fn find(name: &str, folders: &[PathBuf]) -> Option<Self> {
        let tagged = name.rsplit('/').next().is_some_and(|last| last.contains(':'));
        let name = if tagged { name.to_owned() } else { format!("{name}:latest") };
        folders.iter().find_map(|folder| {
            let found: Self = serde_json::from_slice(&fs::read(place(folder, &name)).ok()?).ok()?;
            (found.name == name).then_some(found)
        })
    }
}

/// The plugin `name` of `folder` is found no more.
///
/// # Errors
/// Of the disk.
pub fn withdraw(folder: &Path, name: &str) -> Result<()> {
    match fs::remove_file(place(folder, name)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(Error::io(format!("cannot withdraw plugin {name}"), e))
        }
        _ => Ok(()),
    }
}

fn place(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{}.json", name.replace('%', "%25").replace('/', "%2f")))
}

/// The name that a file in a folder of plugins is called after.
pub(crate) fn name_of(stem: &str) -> String {
    stem.replace("%2f", "/").replace("%25", "%")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(dir: &Path) -> Managed {
        Managed {
            name: "host:5000/a/b:latest".into(),
            addr: "unix:///s".into(),
            implements: vec!["VolumeDriver".into()],
            root: dir.join("root"),
            propagated: Some(("/mnt".into(), dir.join("out"))),
        }
    }

    #[test]
    fn it_is_found_with_and_without_tag_until_it_is_withdrawn() {
        let dir = tempfile::tempdir().unwrap();
        let folders = [dir.path().join("none"), dir.path().join("in")];
        let plugin = plugin(dir.path());
        plugin.publish(&folders[1]).unwrap();
        for name in ["host:5000/a/b", "host:5000/a/b:latest"] {
            assert_eq!(Managed::find(name, &folders).as_ref(), Some(&plugin), "{name}");
        }
        for name in ["host:5000/a/b:2", "b", "a/b", "../in/x", ""] {
            assert_eq!(Managed::find(name, &folders), None, "{name}");
        }
        withdraw(&folders[1], &plugin.name).unwrap();
        withdraw(&folders[1], &plugin.name).unwrap();
        assert_eq!(Managed::find(&plugin.name, &folders), None);
    }

    #[test]
    fn its_paths_stay_its_own() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("root/d")).unwrap();
        fs::create_dir_all(dir.path().join("out/v")).unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("root/l")).unwrap();
        let plugin = plugin(dir.path());
        let at = |path: &str| plugin.outside(Path::new(path)).ok();
        assert_eq!(at("/mnt/v"), Some(dir.path().join("out/v")));
        assert_eq!(at("/d"), Some(dir.path().join("root/d")));
        assert_eq!(at("/d/new"), Some(dir.path().join("root/d/new")));
        for bad in ["/mnt/../x", "d", "", "/l", "/l/passwd"] {
            assert_eq!(at(bad), None, "{bad}");
        }
    }
}
