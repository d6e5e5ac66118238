//! A build context as a tar stream: a folder without what `.dockerignore` names, written while it is sent.
//!
//! Owners are made root and times are kept, as docker does; a file that shrinks meanwhile is an error.

use crate::{
    error::{Fail, Result, text},
    ignore::Ignore,
};
use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// What goes into the stream.
#[derive(Debug)]
pub(crate) struct Context {
    pub folder: PathBuf,
    pub ignore: Ignore,
    /// Always sent, whatever is ignored (the Dockerfile and `.dockerignore`).
    pub always: Vec<String>,
    /// Files from elsewhere, sent under these names.
    pub extra: Vec<(String, Vec<u8>)>,
}

impl Context {
    /// A folder with its `.dockerignore`; a file of the Dockerfile's name with `.dockerignore` behind it
    /// comes first.
    pub(crate) fn of_folder(folder: &Path, dockerfile: &str) -> Result<Self> {
        let own = format!("{dockerfile}.dockerignore");
        let mut text = None;
        for name in [own.as_str(), ".dockerignore"] {
            match fs::read_to_string(folder.join(name)) {
                Ok(read) => {
                    text = Some(read);
                    break;
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => {
                    return Err(Fail::new(format!(
                        "error checking context: cannot read {name}: {}",
                        crate::error::text(&e)
                    )));
                }
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            ignore: Ignore::parse(&text.unwrap_or_default()),
            always: vec![dockerfile.to_owned(), ".dockerignore".to_owned()],
            extra: Vec::new(),
        })
    }

    /// Writes the stream.
    pub(crate) fn write(&self, out: impl Write) -> io::Result<()> {
        let mut tar = tar::Builder::new(out);
        for (name, bytes) in &self.extra {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o600);
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, name, bytes.as_slice())?;
        }
        self.folder(&mut tar, "")?;
        tar.into_inner()?.flush()
    }

    fn folder<W: Write>(&self, tar: &mut tar::Builder<W>, at: &str) -> io::Result<()> {
        let path = self.folder.join(at);
        let mut names: Vec<_> =
            fs::read_dir(&path).map_err(|e| named(&path, e))?.collect::<io::Result<_>>()?;
        names.sort_by_key(fs::DirEntry::file_name);
        for entry in names {
            let bytes = entry.file_name();
            let name = bytes.to_string_lossy();
            let inner = if at.is_empty() { name.into_owned() } else { format!("{at}/{name}") };
            if self.extra.iter().any(|(name, _)| *name == inner) {
                continue;
            }
            let ignored = self.ignore.ignores(&inner) && !self.always.contains(&inner);
            let meta = fs::symlink_metadata(entry.path()).map_err(|e| named(&entry.path(), e))?;
            if meta.is_dir() {
                let wanted_below = || {
                    let prefix = format!("{inner}/");
                    self.always.iter().any(|a| a.starts_with(&prefix))
                        || self.ignore.may_keep_below(&inner)
                };
                if !ignored {
                    self.entry(tar, &entry.path(), &inner, &meta)?;
                }
                if !ignored || wanted_below() {
                    self.folder(tar, &inner)?;
                }
            } else if !ignored {
                self.entry(tar, &entry.path(), &inner, &meta)?;
            }
        }
        Ok(())
    }

    fn entry<W: Write>(
        &self,
        tar: &mut tar::Builder<W>,
        path: &Path,
        inner: &str,
        meta: &fs::Metadata,
    ) -> io::Result<()> {
        if meta.file_type().is_socket() {
            return Ok(());
        }
        let mut header = tar::Header::new_gnu();
        header.set_mode(meta.permissions().mode() & 0o7777);
        header.set_mtime(u64::try_from(meta.mtime()).unwrap_or(0));
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        // The name's own bytes, which need not be text.
        let inner_path = path.strip_prefix(&self.folder).unwrap_or(Path::new(inner));
        if meta.is_dir() {
            header.set_entry_type(tar::EntryType::Directory);
            let mut name = inner_path.as_os_str().to_owned();
            name.push("/");
            tar.append_data(&mut header, &name, io::empty())
        } else if meta.is_symlink() {
            header.set_entry_type(tar::EntryType::Symlink);
            let target = fs::read_link(path).map_err(|e| named(path, e))?;
            tar.append_link(&mut header, inner_path, target)
        } else if meta.is_file() {
            let file = fs::File::open(path).map_err(|e| named(path, e))?;
            let size = file.metadata()?.len();
            header.set_size(size);
            tar.append_data(&mut header, inner_path, Exact { file, left: size })
        } else {
            let kind = meta.file_type();
            header.set_entry_type(if kind.is_fifo() {
                tar::EntryType::Fifo
            } else if kind.is_block_device() {
                tar::EntryType::Block
            } else {
                tar::EntryType::Char
            });
            let device = meta.rdev();
            header.set_device_major(rustix::fs::major(device))?;
            header.set_device_minor(rustix::fs::minor(device))?;
            tar.append_data(&mut header, inner_path, io::empty())
        }
    }
}

fn named(path: &Path, err: io::Error) -> io::Error {
    io::Error::new(err.kind(), format!("{}: {}", path.display(), text(&err)))
}

/// Exactly as many bytes as the header says: one that grew is cut, one that shrank is an error.
struct Exact {
    file: fs::File,
    left: u64,
}

impl Read for Exact {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(into.len());
        let n = self.file.read(&mut into[..most])?;
        if n == 0 && most > 0 {
            let text = "a file of the build context became shorter while it was sent";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        self.left -= n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_sent_without_what_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("docs/deep")).unwrap();
        fs::create_dir_all(at("out")).unwrap();
        for (name, text) in [
            ("Dockerfile", "FROM scratch"),
            (".dockerignore", "Dockerfile\nout\ndocs\n!docs/deep/keep\n.dockerignore"),
            ("docs/deep/keep", "k"),
            ("docs/deep/other", "o"),
            ("out/x", "x"),
            ("a", "aaa"),
        ] {
            fs::write(at(name), text).unwrap();
        }
        std::os::unix::fs::symlink("a", at("link")).unwrap();
        let long = "n".repeat(200);
        fs::write(at(&long), "").unwrap();
        let context = Context::of_folder(folder.path(), "Dockerfile").unwrap();
        let mut bytes = Vec::new();
        context.write(&mut bytes).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|e| {
                let e = e.unwrap();
                assert_eq!((e.header().uid().unwrap(), e.header().gid().unwrap()), (0, 0));
                e.path().unwrap().to_string_lossy().into_owned()
            })
            .collect();
        assert_eq!(names, [".dockerignore", "Dockerfile", "a", "docs/deep/keep", "link", &long]);
    }
}
