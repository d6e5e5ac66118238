//! The files of one upload: `<id>` and, when an object store takes it part by part, `<id>.1`, `<id>.2` and
//! so on, one for each part that is not sent yet. The first file stays, empty, as long as the session lives.
//!
//! Not flushed: what the disk forgets in a power cut, the client is asked for again.

use crate::storage::files_blocking as blocking;
use base::{Error, Result};
use std::{
    fs::{self, File, OpenOptions},
    io::ErrorKind,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// Where an upload's bytes wait.
#[derive(Debug)]
pub(super) struct Spool {
    dir: PathBuf,
    id: String,
    first: PathBuf,
    /// Bytes of each file but the last; without limit when there is only one.
    part: Option<u64>,
    /// The file that is written.
    file: File,
    number: usize,
    /// Bytes in it.
    filled: u64,
    /// Bytes in all files before it, sent or not.
    before: u64,
    /// Parts that the object store has.
    sent: usize,
}

fn path(dir: &Path, id: &str, number: usize) -> PathBuf {
    if number == 0 { dir.join(id) } else { dir.join(format!("{id}.{number}")) }
}

fn open(path: &Path, create: bool) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(create).mode(0o600).open(path)
}

fn fail(e: std::io::Error) -> Error {
    Error::io("cannot write to the registry's spool", e)
}

impl Spool {
    pub(super) fn create(dir: &Path, id: &str, part: Option<u64>) -> Result<Self> {
        let first = path(dir, id, 0);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&first)
            .map_err(fail)?;
        Ok(Self {
            dir: dir.to_owned(),
            id: id.to_owned(),
            first,
            part,
            file,
            number: 0,
            filled: 0,
            before: 0,
            sent: 0,
        })
    }

    /// What is there of an upload of which parts of these sizes were sent.
    pub(super) fn load(
        dir: &Path,
        id: &str,
        part: Option<u64>,
        sent: &[u64],
    ) -> Result<Option<Self>> {
        let first = path(dir, id, 0);
        if !first.try_exists().map_err(fail)? {
            return Ok(None);
        }
        let mut number = sent.len();
        let mut before: u64 = sent.iter().sum();
        let (file, filled) = loop {
            let file = open(&path(dir, id, number), true).map_err(fail)?;
            let length = file.metadata().map_err(fail)?.len();
            match part {
                Some(part) if length >= part && path(dir, id, number + 1).exists() => {
                    before += part;
                    number += 1;
                }
                Some(part) => break (file, length.min(part)),
                None => break (file, length),
            }
        };
        let (dir, id) = (dir.to_owned(), id.to_owned());
        let sent = sent.len();
        Ok(Some(Self { dir, id, first, part, file, number, filled, before, sent }))
    }

    /// Bytes that came so far.
    pub(super) fn offset(&self) -> u64 {
        self.before + self.filled
    }

    /// Bytes that the file still takes.
    pub(super) fn room(&self) -> u64 {
        self.part.map_or(u64::MAX, |part| part - self.filled)
    }

    pub(super) fn is_full(&self) -> bool {
        self.room() == 0
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, self.filled).map_err(fail)?;
        self.filled += bytes.len() as u64;
        Ok(())
    }

    /// Goes on with the next file.
    pub(super) fn next(&mut self) -> Result<()> {
        self.file = open(&path(&self.dir, &self.id, self.number + 1), true).map_err(fail)?;
        self.file.set_len(0).map_err(fail)?;
        self.before += self.filled;
        self.number += 1;
        self.filled = 0;
        Ok(())
    }

    /// Number of the file that is written.
    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// Bytes in the file that is written.
    pub(super) fn filled(&self) -> u64 {
        self.filled
    }

    /// Parts that are full and not sent, and the last when it holds anything.
    pub(super) fn unsent(&self) -> std::ops::Range<usize> {
        self.sent..self.number + usize::from(self.filled > 0)
    }

    /// Full parts that are not sent.
    pub(super) fn unsent_full(&self) -> std::ops::Range<usize> {
        self.sent..self.number + usize::from(self.is_full())
    }

    pub(super) fn path_of(&self, number: usize) -> PathBuf {
        path(&self.dir, &self.id, number)
    }

    /// The object store has this part: its file is not needed any more.
    pub(super) fn drop_sent(&mut self, number: usize) -> Result<()> {
        self.sent = number + 1;
        let path = self.path_of(number);
        if number == 0 {
            return File::options().write(true).open(path).and_then(|f| f.set_len(0)).map_err(fail);
        }
        match fs::remove_file(path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(fail(e)),
            _ => Ok(()),
        }
    }

    /// The one file of an upload of which nothing was sent and that has one file.
    pub(super) fn only_file(&self) -> &Path {
        &self.first
    }

    /// Files that hold bytes which were not sent, in order.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        (self.sent..=self.number).map(|n| self.path_of(n)).collect()
    }

    /// All bytes of a small upload.
    pub(super) async fn read_small(&self) -> Result<Vec<u8>> {
        let path = self.first.clone();
        let read = |e| Error::io("cannot read an upload back", e);
        blocking(move || fs::read(path).map_err(read)).await
    }

    /// Removes all files; the one that says that the session lives goes last.
    pub(super) fn remove(&self) -> Result<()> {
        for number in (self.sent.min(self.number)..=self.number + 1).rev() {
            match fs::remove_file(self.path_of(number)) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(fail(e)),
                _ => {}
            }
        }
        match fs::remove_file(&self.first) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(fail(e)),
            _ => Ok(()),
        }
    }
}

/// Ids of uploads none of whose files was written to for `age`.
pub(super) fn older_than(dir: &Path, age: Duration) -> Result<Vec<String>> {
    let mut newest: std::collections::HashMap<String, bool> = std::collections::HashMap::new();
    let now = SystemTime::now();
    for entry in fs::read_dir(dir).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let (Ok(name), Ok(meta)) = (entry.file_name().into_string(), entry.metadata()) else {
            continue;
        };
        let idle = meta.modified().ok().and_then(|at| now.duration_since(at).ok());
        let old = idle.is_some_and(|idle| idle >= age);
        let id = name.split('.').next().unwrap_or_default().to_owned();
        newest.entry(id).and_modify(|all| *all &= old).or_insert(old);
    }
    Ok(newest.into_iter().filter(|(_, old)| *old).map(|(id, _)| id).collect())
}
