//! What a tree of files is made of: packages of distributions and languages, told as SPDX 2.3.
//!
//! Flow: [`scan`] walks a tree once and hands what it knows to the reader of its kind (`dpkg`, `apk`, `python`,
//! `npm`, `go`, `cargo`); [`spdx::document`] writes the packages down.
//! Invariants: nothing is run and no network is asked; paths go by descriptor and symlinks are not followed out
//! of the tree; every file, list and value that is read is bounded; a file that cannot be read as what it seems
//! to be is passed over, as it is only a claim.
//! Not here: vulnerabilities, licences of single files, RPM's database.

mod apk;
mod cargo;
mod dpkg;
mod elf;
mod go;
mod npm;
mod python;
mod release;
pub mod spdx;

use base::{Error, Result};
use release::Release;
use std::{
    collections::BTreeSet,
    ffi::OsStr,
    io::Read as _,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};
use sys::root::{Kind, Root, Stat};

/// Entries of a tree.
const ENTRIES: usize = 5_000_000;
/// Packages of a tree.
const PACKAGES: usize = 200_000;
/// Bytes of a database of packages.
const DATABASE: u64 = 128 << 20;
/// Bytes of a file about one package.
const SMALL: u64 = 4 << 20;
/// Bytes of one value.
const VALUE: usize = 4096;

/// A package that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// `deb`, `apk`, `pypi`, `npm`, `golang`, `cargo`: a package URL's type.
    pub kind: &'static str,
    /// Before the name in a package URL: the distribution, npm's scope.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where the package URL is more exact: `arch`, `distro`.
    pub qualifiers: Vec<(&'static str, String)>,
    /// What its licence is said to be; empty when nothing is.
    pub license: String,
    /// Who made it; empty when nobody says.
    pub supplier: String,
    /// The file that says so.
    pub place: String,
}

/// What is asked of a file by its name.
enum Reader {
    Dpkg,
    Apk,
    Python,
    Npm,
    Cargo,
}

/// The packages of a tree, in order, each once.
///
/// # Errors
/// Of the file system; `Exhausted` for a tree with too many files or packages.
pub fn scan(root: &Root) -> Result<Vec<Package>> {
    let release = Release::read(root);
    let mut found = BTreeSet::new();
    let mut open = vec![PathBuf::from("/")];
    let mut seen = 0;
    while let Some(folder) = open.pop() {
        let fail =
            |e: sys::root::Error| Error::io(format!("cannot list {}", folder.display()), e.into());
        let dir = root.open_dir(&folder).map_err(fail)?;
        for (name, _) in dir.entries().map_err(fail)? {
            seen += 1;
            if seen > ENTRIES {
                return Err(Error::exhausted(format!("the tree has more than {ENTRIES} files")));
            }
            let path = folder.join(&name);
            let Ok(stat) = dir.stat(&name) else { continue };
            match stat.kind {
                Kind::Dir if !is_virtual(&path) => open.push(path),
                Kind::File => found.extend(look(root, &path, &name, &stat, &release)),
                _ => {}
            }
            if found.len() > PACKAGES {
                return Err(Error::exhausted(format!(
                    "the tree has more than {PACKAGES} packages"
                )));
            }
        }
    }
    Ok(found.into_iter().collect())
}

/// Folders that hold no files of the image.
fn is_virtual(path: &Path) -> bool {
    ["/proc", "/sys", "/dev"].iter().any(|p| path == Path::new(p))
}

fn look(root: &Root, path: &Path, name: &OsStr, stat: &Stat, release: &Release) -> Vec<Package> {
    let place = path.to_string_lossy();
    let Some(reader) = reader(&place, name) else {
        if stat.mode & 0o111 != 0 && stat.size > 1024 {
            return programs(root, path, &place);
        }
        return Vec::new();
    };
    let limit = if matches!(reader, Reader::Dpkg | Reader::Apk) { DATABASE } else { SMALL };
    let Some(text) = read(root, path, limit) else { return Vec::new() };
    let text = String::from_utf8_lossy(&text);
    let mut all = match reader {
        Reader::Dpkg => dpkg::packages(&text, release),
        Reader::Apk => apk::packages(&text, release),
        Reader::Python => python::package(&text).into_iter().collect(),
        Reader::Npm => npm::package(&text).into_iter().collect(),
        Reader::Cargo => cargo::locked(&text),
    };
    all.retain(|p| !p.name.is_empty() && p.name.len().max(p.version.len()) <= VALUE);
    all.iter_mut().for_each(|p| p.place = place.clone().into_owned());
    all
}

/// Who reads a file with this name at this place.
fn reader(place: &str, name: &OsStr) -> Option<Reader> {
    let name = std::str::from_utf8(name.as_bytes()).ok()?;
    match name {
        "status" if place == "/var/lib/dpkg/status" => Some(Reader::Dpkg),
        _ if place.starts_with("/var/lib/dpkg/status.d/") && !name.ends_with(".md5sums") => {
            Some(Reader::Dpkg)
        }
        "installed" if matches!(place, "/lib/apk/db/installed" | "/usr/lib/apk/db/installed") => {
            Some(Reader::Apk)
        }
        "METADATA" if place.ends_with(".dist-info/METADATA") => Some(Reader::Python),
        "PKG-INFO" if place.ends_with(".egg-info/PKG-INFO") => Some(Reader::Python),
        _ if name.ends_with(".egg-info") => Some(Reader::Python),
        "package.json" if place.contains("/node_modules/") => Some(Reader::Npm),
        "Cargo.lock" => Some(Reader::Cargo),
        _ => None,
    }
}

/// What a program says that it was linked from.
fn programs(root: &Root, path: &Path, place: &str) -> Vec<Package> {
    let Ok(file) = root.open_file(path) else { return Vec::new() };
    let Some(sections) = elf::sections(&file, &[".go.buildinfo", ".dep-v0"]) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for (name, bytes) in sections {
        match name {
            ".go.buildinfo" => all.extend(go::modules(&bytes)),
            _ => all.extend(cargo::audited(&bytes)),
        }
    }
    all.retain(|p| !p.name.is_empty() && p.name.len().max(p.version.len()) <= VALUE);
    all.iter_mut().for_each(|p| place.clone_into(&mut p.place));
    all
}

fn read(root: &Root, path: &Path, limit: u64) -> Option<Vec<u8>> {
    let file = root.open_file(path).ok()?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= limit).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn packages_are_found_where_they_are() {
        let tree = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = tree.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("etc/os-release", "ID=debian\nVERSION_ID=\"13\"\n");
        write(
            "var/lib/dpkg/status",
            "Package: libc6\nStatus: install ok installed\nVersion: 2.41\nArchitecture: amd64\n\n",
        );
        write(
            "usr/lib/python3/dist-packages/x-1.dist-info/METADATA",
            "Name: x\nVersion: 1\n\nbody",
        );
        write("app/node_modules/y/package.json", r#"{"name":"y","version":"2"}"#);
        write("app/Cargo.lock", "[[package]]\nname = \"z\"\nversion = \"3\"\n");
        write("app/package.json", r#"{"name":"own","version":"0"}"#);
        std::os::unix::fs::symlink("/", tree.path().join("loop")).unwrap();
        let root = Root::open(tree.path()).unwrap();
        let found: Vec<String> =
            scan(&root).unwrap().iter().map(|p| format!("{} {}", spdx::purl(p), p.place)).collect();
        assert_eq!(
            found,
            [
                "pkg:cargo/z@3 /app/Cargo.lock",
                "pkg:deb/debian/libc6@2.41?arch=amd64&distro=debian-13 /var/lib/dpkg/status",
                "pkg:npm/y@2 /app/node_modules/y/package.json",
                "pkg:pypi/x@1 /usr/lib/python3/dist-packages/x-1.dist-info/METADATA",
            ]
        );
    }
}
