//! Names of rotated files: moving them on, and opening all of them in order while they move.

use flate2::read::MultiGzDecoder;
use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

/// `<path>.N` or `<path>.N.gz`.
pub(super) fn numbered(path: &Path, number: u32, gz: bool) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}{}", if gz { ".gz" } else { "" }));
    name.into()
}

/// Moves every file one number up and drops those beyond `files` files in all.
pub(super) fn shift(path: &Path, files: u32) -> io::Result<()> {
    let gone = |r: io::Result<()>| match r {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    // Only numbers that exist are touched: `max-file` may be huge.
    let last = highest(path)?.max(1);
    for number in (1..=last).rev() {
        for gz in [false, true] {
            let from = numbered(path, number, gz);
            if number + 1 >= files {
                gone(fs::remove_file(from))?;
            } else {
                gone(fs::rename(from, numbered(path, number + 1, gz)))?;
            }
        }
    }
    gone(fs::rename(path, numbered(path, 1, false)))
}

/// The highest number in use beside `path`, 0 when none is.
fn highest(path: &Path) -> io::Result<u32> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
    else {
        return Ok(0);
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut top = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?.file_name();
        let number = entry
            .to_str()
            .and_then(|e| e.strip_prefix(name)?.strip_prefix('.'))
            .and_then(|n| n.strip_suffix(".gz").unwrap_or(n).parse().ok());
        top = top.max(number.unwrap_or(0));
    }
    Ok(top)
}

/// One file of a log, opened.
pub(super) struct LogFile {
    pub file: File,
    pub inode: u64,
    pub gz: bool,
}

impl LogFile {
    fn open(path: &Path, gz: bool) -> io::Result<Option<Self>> {
        match File::open(path) {
            Ok(file) => {
                let inode = file.metadata()?.ino();
                Ok(Some(Self { file, inode, gz }))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The bytes from the beginning, unpacked; moves the file's own position.
    pub(super) fn bytes(&self) -> io::Result<Box<dyn Read + Send>> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(0))?;
        Ok(if self.gz { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
    }

    /// As [`LogFile::bytes`], leaving the position alone.
    pub(super) fn bytes_apart(&self) -> Box<dyn Read + '_> {
        let apart = Apart { file: &self.file, at: 0 };
        if self.gz { Box::new(MultiGzDecoder::new(apart)) } else { Box::new(apart) }
    }
}

/// Reads by position.
struct Apart<'a> {
    file: &'a File,
    at: u64,
}

impl Read for Apart<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(into, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// Opens all files of the log, oldest first, the one being written last.
///
/// The writer may rename meanwhile: names are looked at again after opening, and if any moved, all is
/// done over, a few times at most.
pub(super) fn open_all(path: &Path) -> io::Result<Vec<LogFile>> {
    let mut files = Vec::new();
    for _ in 0..8 {
        files.clear();
        let mut seen = Vec::new();
        for number in (1..=highest(path)?).rev() {
            let plain = numbered(path, number, false);
            let packed = numbered(path, number, true);
            // While a file is being packed both may exist: the plain one is whole.
            let (name, file) = match LogFile::open(&plain, false)? {
                Some(file) => (plain, Some(file)),
                None => (packed.clone(), LogFile::open(&packed, true)?),
            };
            if let Some(file) = file {
                seen.push((name, file.inode));
                files.push(file);
            }
        }
        let current = LogFile::open(path, false)?;
        let stable =
            seen.iter().all(|(name, inode)| fs::metadata(name).is_ok_and(|m| m.ino() == *inode));
        files.extend(current);
        if stable {
            break;
        }
    }
    Ok(files)
}
