//! What is mounted into a container: `-v` texts and `--mount` entries become requests; requests become
//! [`Mounted`] once volumes exist and sources are checked.
//!
//! Source: Docker's `volume/mounts` linux parser (observed behaviour and texts). Not here: the mounting
//! itself, which is the shim's.

use crate::volumes::{HINT, check_name};
use base::{Error, Result};
use build::go::clean;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::Path};

/// What a mount is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A path of the host.
    Bind(String),
    /// A volume; without name an anonymous one.
    Volume {
        name: Option<String>,
        driver: String,
        options: BTreeMap<String, String>,
        labels: BTreeMap<String, String>,
    },
    /// Memory.
    Tmpfs { options: String },
    /// The files of an image.
    Image(String),
}

/// How far a read-only mount is read-only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ReadOnly {
    /// With the mounts below it.
    #[default]
    Recursive,
    /// Alone.
    Single,
}

/// A mount as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) source: Source,
    /// Absolute path in the container.
    pub(crate) target: String,
    pub(crate) read_only: bool,
    /// The mode text, shown by inspect.
    pub(crate) mode: String,
    pub(crate) propagation: String,
    /// Whether a missing bind source is made (`-v`) or an error (`--mount`).
    pub(crate) create_source: bool,
    /// Whether an empty volume is filled from the image.
    pub(crate) copy: bool,
    /// Whether mounts below the source come along.
    pub(crate) recursive: bool,
    /// A path inside the volume or image.
    pub(crate) subpath: String,
    pub(crate) read_only_depth: ReadOnly,
    /// Came by `--mount`.
    pub(crate) by_mount: bool,
}

impl Request {
    pub(crate) fn new(source: Source, target: &str) -> Self {
        Self {
            source,
            target: target.to_owned(),
            read_only: false,
            mode: String::new(),
            propagation: String::new(),
            create_source: false,
            copy: true,
            recursive: true,
            subpath: String::new(),
            read_only_depth: ReadOnly::default(),
            by_mount: false,
        }
    }
}

/// A mount as it is: kept with the container, shown by inspect, mounted at every start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Mounted {
    /// `bind`, `volume`, `tmpfs` or `image`.
    pub(crate) kind: String,
    /// Volume name.
    pub(crate) name: String,
    /// Host path.
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) driver: String,
    pub(crate) mode: String,
    pub(crate) read_only: bool,
    pub(crate) propagation: String,
    pub(crate) recursive: bool,
    /// Made for this container alone: goes with `rm -v` and `--rm`.
    pub(crate) anonymous: bool,
    /// tmpfs options.
    pub(crate) options: String,
    pub(crate) subpath: String,
    /// Read-only with the mounts below it.
    pub(crate) read_only_below: bool,
    /// The image that is mounted.
    pub(crate) image: Option<base::Digest>,
    /// Its layers, lowest first.
    pub(crate) layers: Vec<base::Digest>,
    /// Whether an empty volume was to be filled from the image.
    pub(crate) copy: bool,
    /// Came by `--mount`: a tmpfs of `--tmpfs` is not shown among the mounts.
    pub(crate) by_mount: bool,
    /// Came from another container by `--volumes-from`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) inherited: bool,
}

pub(crate) const PROPAGATIONS: &[&str] =
    &["private", "rprivate", "shared", "rshared", "slave", "rslave"];

/// Parses `[source:]target[:mode]` of `-v`.
///
/// # Errors
/// `Invalid` with docker's wording.
pub(crate) fn parse_bind(text: &str, driver: &str) -> Result<Request> {
    let bad = || Error::invalid(format!("invalid volume specification: '{text}'"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts.as_slice() {
        [target] => (None, *target, ""),
        [source, target] => (Some(*source), *target, ""),
        [source, target, mode] => (Some(*source), *target, *mode),
        _ => return Err(bad()),
    };
    let target =
        absolute_target(target).map_err(|why| Error::invalid(format!("{}: {why}", bad())))?;
    let mut request = match source {
        None => Request::new(volume(None, driver), &target),
        Some("") => return Err(bad()),
        Some(path) if path.starts_with('/') => {
            let clean = clean(path);
            Request { create_source: true, ..Request::new(Source::Bind(clean), &target) }
        }
        Some(name) => {
            check_name(name, HINT)?;
            Request::new(volume(Some(name), driver), &target)
        }
    };
    apply_mode(&mut request, mode)
        .ok_or_else(|| Error::invalid(format!("invalid mode: {mode}")))?;
    Ok(request)
}

/// A volume; without a driver it is the one of this name, or a new local one.
pub(crate) fn volume(name: Option<&str>, driver: &str) -> Source {
    Source::Volume {
        name: name.map(str::to_owned),
        driver: driver.to_owned(),
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
    }
}

fn apply_mode(request: &mut Request, mode: &str) -> Option<()> {
    request.mode = mode.to_owned();
    let (mut rw, mut label, mut propagation) = (0, 0, 0);
    for word in mode.split(',').filter(|w| !mode.is_empty() || !w.is_empty()) {
        match word {
            "rw" | "ro" => {
                rw += 1;
                request.read_only = word == "ro";
            }
            "z" | "Z" => label += 1,
            "nocopy" if matches!(request.source, Source::Volume { .. }) => request.copy = false,
            "consistent" | "cached" | "delegated" => {}
            p if PROPAGATIONS.contains(&p) && matches!(request.source, Source::Bind(_)) => {
                propagation += 1;
                request.propagation = p.to_owned();
            }
            _ => return None,
        }
    }
    (rw <= 1 && label <= 1 && propagation <= 1).then_some(())
}

/// Checks and cleans a mount target.
pub(crate) fn absolute_target(target: &str) -> std::result::Result<String, String> {
    if target.contains('\0') {
        return Err("mount path contains a NUL byte".into());
    }
    if !target.starts_with('/') {
        return Err(format!("invalid mount path: '{target}' mount path must be absolute"));
    }
    let clean = clean(target);
    if clean == "/" {
        return Err("invalid specification: destination can't be '/'".into());
    }
    Ok(clean)
}

/// Fails when two requests have the same target.
///
/// # Errors
/// `Invalid`, docker's "Duplicate mount point: X".
pub(crate) fn refuse_duplicates(requests: &[Request]) -> Result<()> {
    for (at, request) in requests.iter().enumerate() {
        if requests[..at].iter().any(|r| r.target == request.target) {
            return Err(Error::invalid(format!("Duplicate mount point: {}", request.target)));
        }
    }
    Ok(())
}

/// Parses one `--tmpfs` option text against what the kernel's tmpfs and mount flags take.
///
/// # Errors
/// `Invalid`, docker's "invalid tmpfs option".
pub(crate) fn check_tmpfs(options: &str) -> Result<()> {
    const FLAGS: &[&str] = &[
        "rw",
        "ro",
        "exec",
        "noexec",
        "suid",
        "nosuid",
        "dev",
        "nodev",
        "sync",
        "async",
        "dirsync",
        "atime",
        "noatime",
        "diratime",
        "nodiratime",
        "relatime",
        "norelatime",
        "strictatime",
        "nostrictatime",
        "mand",
        "nomand",
        "defaults",
        "bind",
        "rbind",
        "private",
        "rprivate",
        "shared",
        "rshared",
        "slave",
        "rslave",
        "unbindable",
        "runbindable",
        "remount",
    ];
    const KEYS: &[&str] = &["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"];
    for option in options.split(',').filter(|o| !o.is_empty()) {
        let known = match option.split_once('=') {
            Some((key, _)) => KEYS.contains(&key),
            None => FLAGS.contains(&option),
        };
        if !known {
            return Err(Error::invalid(format!("invalid tmpfs option [\"{option}\"]")));
        }
    }
    Ok(())
}

/// Makes sure that a bind source exists.
///
/// # Errors
/// `Invalid` with docker's text when it is missing and may not be made.
pub(crate) fn check_source(path: &str, create: bool) -> Result<()> {
    if Path::new(path).symlink_metadata().is_ok() {
        return Ok(());
    }
    if !create {
        return Err(Error::invalid(format!(
            "invalid mount config for type \"bind\": bind source path does not exist: {path}"
        )));
    }
    std::fs::create_dir_all(path)
        .map_err(|e| Error::io(format!("error while creating mount source path '{path}'"), e))
}

/// Fails unless the mount that holds `path` can propagate as asked: mounts of a private one go nowhere.
///
/// # Errors
/// `Invalid` with docker's words.
pub(crate) fn check_propagation(path: &str, propagation: &str) -> Result<()> {
    let kind = propagation.strip_prefix('r').unwrap_or(propagation);
    if !matches!(kind, "shared" | "slave") {
        return Ok(());
    }
    let real = std::fs::canonicalize(path)
        .map_err(|e| Error::io(format!("cannot resolve the mount source {path}"), e))?;
    let table = std::fs::read_to_string("/proc/self/mountinfo")
        .map_err(|e| Error::io("cannot read the mount table", e))?;
    let Some((place, fields)) = holder(&table, &real) else { return Ok(()) };
    let has = |word: &str| fields.split(' ').any(|f| f.starts_with(word));
    let (fits, want) = match kind {
        "shared" => (has("shared:"), "a shared"),
        _ => (has("shared:") || has("master:"), "a shared or slave"),
    };
    if fits {
        return Ok(());
    }
    Err(Error::invalid(format!("path {path} is mounted on {place} but it is not {want} mount")))
}

/// The mount that holds `path` and its optional fields: the last in the table with the longest place.
fn holder<'t>(table: &'t str, path: &Path) -> Option<(&'t str, &'t str)> {
    let mut best: Option<(&str, &str)> = None;
    for line in table.lines() {
        let Some((front, _)) = line.split_once(" - ") else { continue };
        let mut words = front.splitn(7, ' ');
        let Some(place) = words.nth(4) else { continue };
        let fields = words.nth(1).unwrap_or_default();
        if path.starts_with(place) && best.is_none_or(|(old, _)| place.len() >= old.len()) {
            best = Some((place, fields));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_bind(text: &str) -> Result<Request> {
        super::parse_bind(text, "")
    }

    fn named(name: &str) -> Source {
        volume(Some(name), "")
    }

    #[test]
    fn the_mount_that_holds_a_path_is_found() {
        let table = "1 0 0:1 / / rw shared:1 - ext4 a rw\n2 1 0:2 / /a rw master:7 - ext4 b rw\n3 1 0:3 / /a/b rw - ext4 c rw\n";
        assert_eq!(holder(table, Path::new("/x")), Some(("/", "shared:1")));
        assert_eq!(holder(table, Path::new("/a/c")), Some(("/a", "master:7")));
        assert_eq!(holder(table, Path::new("/a/b/c")), Some(("/a/b", "")));
    }

    #[test]
    fn volume_texts_parse_as_docker_does() {
        let bind = parse_bind("/a/../b:/c/:ro,rslave").unwrap();
        assert_eq!(bind.source, Source::Bind("/b".into()));
        assert_eq!(
            (bind.target.as_str(), bind.read_only, bind.propagation.as_str()),
            ("/c", true, "rslave")
        );
        assert!(bind.create_source);
        assert_eq!(parse_bind("data:/d").unwrap().source, named("data"));
        assert!(matches!(parse_bind("/d").unwrap().source, Source::Volume { name: None, .. }));
        assert!(!parse_bind("data:/d:nocopy").unwrap().copy);
        for bad in [
            "",
            "a:b",
            "/a:",
            ":/b",
            "/a:/",
            "/a:/b:rw,ro",
            "/a:/b:zz",
            "../x:/b",
            "a:/b:rshared",
            "/a:/b:c:d",
            "/a:/b:nocopy",
        ] {
            assert!(parse_bind(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn duplicates_and_tmpfs_options_are_checked() {
        let twice = [parse_bind("/a:/x").unwrap(), parse_bind("b0:/x/.").unwrap()];
        assert_eq!(refuse_duplicates(&twice).unwrap_err().to_string(), "Duplicate mount point: /x");
        assert!(check_tmpfs("rw,size=64m,mode=1777").is_ok());
        assert!(check_tmpfs("size=1m,bogus").is_err());
    }
}
