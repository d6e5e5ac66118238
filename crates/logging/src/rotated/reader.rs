//! The reading end: oldest file first, then the one being written, then what comes.
//!
//! Flow: `open` finds where to begin (all, or the last so many records, counted from the end), `next`
//! goes through the files. When following, the end of the newest file is where [`FileReader::advance`]
//! looks whether the writer has moved on: a file under another name or a shorter one.
//! Invariants: at most [`MAX_RECORD`] bytes are held; a record that is damaged or too long is skipped
//! up to the next line end; the watch is set before the first read, so no change goes unseen.

use super::{
    Decoded, Form,
    names::{self, LogFile},
};
use crate::{Entry, Next, ReadOptions, Reader};
use base::{Error, Result};
use rustix::fs::inotify;
use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{FileExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

/// A record is at most a 16 KiB part, each byte six when escaped, and its attributes.
pub(super) const MAX_RECORD: usize = 4 << 20;
const BLOCK: usize = 64 * 1024;

pub(crate) struct FileReader {
    path: PathBuf,
    form: Form,
    /// Attributes of every record that has none of its own, a JSON object.
    attrs: Option<String>,
    options: ReadOptions,
    current: Option<Current>,
    queue: VecDeque<LogFile>,
    buffer: Vec<u8>,
    /// Unread bytes within `buffer`.
    unread: std::ops::Range<usize>,
    /// Inside a record that is too long: skip to the next line end.
    resync: bool,
    /// Records still to pass over before the first that counts.
    skip: usize,
    text: Vec<u8>,
    found: Option<(usize, Decoded)>,
    watch: Option<OwnedFd>,
    finished: bool,
    ended: bool,
}

struct Current {
    log: LogFile,
    bytes: Box<dyn Read + Send>,
}

impl FileReader {
    pub(crate) fn open(
        path: &Path,
        form: Form,
        attrs: Option<String>,
        options: ReadOptions,
    ) -> Result<Self> {
        let failed =
            |e: io::Error| Error::io(format!("cannot read log file {}", path.display()), e);
        let watch = options.follow.then(|| watch(path)).transpose().map_err(failed)?;
        let mut reader = Self {
            path: path.to_owned(),
            form,
            attrs,
            queue: names::open_all(path).map_err(failed)?.into(),
            current: None,
            buffer: Vec::new(),
            unread: 0..0,
            resync: false,
            skip: 0,
            text: Vec::new(),
            found: None,
            watch,
            finished: false,
            ended: false,
            options,
        };
        if let Some(records) = reader.options.tail {
            reader.begin_at_tail(records).map_err(failed)?;
        } else {
            reader.drop_older_files();
        }
        Ok(reader)
    }

    /// Drops files whose successor already begins before `since`.
    fn drop_older_files(&mut self) {
        let Some(since) = self.options.since else { return };
        while self.queue.len() > 1 {
            let begins = first_time(&self.queue[1], self.form);
            if begins.is_none_or(|at| at >= since) {
                return;
            }
            self.queue.pop_front();
        }
    }

    fn begin_at_tail(&mut self, mut wanted: usize) -> io::Result<()> {
        for index in (0..self.queue.len()).rev() {
            let log = &self.queue[index];
            if log.gz {
                let held = count_records(log.bytes()?)?;
                if held >= wanted {
                    self.queue.drain(..index);
                    self.skip = held - wanted;
                    return Ok(());
                }
                wanted -= held;
            } else {
                let (offset, held) = offset_of_last(&log.file, wanted)?;
                if held == wanted {
                    self.queue.drain(..index);
                    let Some(log) = self.queue.pop_front() else { return Ok(()) };
                    let bytes = log.bytes()?;
                    (&log.file).seek(SeekFrom::Start(offset))?;
                    self.current = Some(Current { log, bytes });
                    return Ok(());
                }
                wanted -= held;
            }
        }
        Ok(())
    }

    /// Finds the next whole record; its place in `buffer`.
    fn next_record(&mut self) -> io::Result<Found> {
        loop {
            let unread = self.unread.clone();
            if let Some(length) = memchr::memchr(b'\n', &self.buffer[unread.clone()]) {
                let record = unread.start..unread.start + length;
                self.unread.start = record.end + 1;
                if std::mem::take(&mut self.resync) {
                    continue;
                }
                if self.skip > 0 {
                    self.skip -= 1;
                    continue;
                }
                return Ok(Found::Record(record));
            }
            if unread.len() >= MAX_RECORD {
                self.unread = 0..0;
                self.resync = true;
            }
            if self.fill()? == 0 && !self.next_file()? {
                return Ok(if self.options.follow && !self.finished {
                    Found::Idle
                } else {
                    Found::End
                });
            }
        }
    }

    /// Reads on in the current file.
    fn fill(&mut self) -> io::Result<usize> {
        let Some(current) = &mut self.current else { return Ok(0) };
        if self.unread.start > 0 {
            self.buffer.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        if self.buffer.len() - self.unread.end < BLOCK / 2 {
            self.buffer.resize(self.unread.end + BLOCK, 0);
        }
        loop {
            match current.bytes.read(&mut self.buffer[self.unread.end..]) {
                Ok(n) => {
                    self.unread.end += n;
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // A damaged compressed file ends here, the newer ones are still good.
                Err(_) if current.log.gz => return Ok(0),
                Err(e) => return Err(e),
            }
        }
    }

    /// At the end of the current file: is there something after it?
    fn next_file(&mut self) -> io::Result<bool> {
        if self.queue.is_empty() && (!self.options.follow || !self.advance()?) {
            return Ok(false);
        }
        if let Some(log) = self.queue.pop_front() {
            let bytes = log.bytes()?;
            self.current = Some(Current { log, bytes });
            self.unread = 0..0;
            self.resync = false;
        }
        Ok(true)
    }

    /// All files there are now; none when their folder was removed, as a container's is while its log is still read.
    fn files(&self) -> io::Result<Vec<LogFile>> {
        match names::open_all(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            files => files,
        }
    }

    /// Looks whether the writer has begun another file, or this one anew. True when there is more to do.
    fn advance(&mut self) -> io::Result<bool> {
        let Some(current) = &mut self.current else {
            self.queue = self.files()?.into();
            return Ok(!self.queue.is_empty());
        };
        let now = match std::fs::metadata(&self.path) {
            Ok(meta) => Some(meta),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        if let Some(meta) = &now
            && meta.ino() == current.log.inode
        {
            if meta.len() < (&current.log.file).stream_position()? {
                current.bytes = current.log.bytes()?;
                self.unread = 0..0;
                self.resync = false;
                return Ok(true);
            }
            return Ok(false);
        }
        // The file has another name now, so nothing more is written to it; what was written between our
        // last read and the renaming comes first.
        if self.fill()? > 0 {
            return Ok(true);
        }
        let Some(current) = &self.current else { return Ok(false) };
        let mut all = self.files()?;
        let own = all.iter().position(|f| f.inode == current.log.inode).or_else(|| {
            let mark = beginning(&current.log);
            all.iter().position(|f| f.gz && beginning(f) == mark)
        });
        let newer = own.map_or(0, |at| at + 1);
        self.queue = all.drain(newer..).collect();
        Ok(!self.queue.is_empty())
    }
}

enum Found {
    Record(std::ops::Range<usize>),
    Idle,
    End,
}

impl Reader for FileReader {
    fn next(&mut self) -> Result<Next<'_>> {
        if self.ended {
            return Ok(Next::End);
        }
        loop {
            let found = self.next_record().map_err(|e| {
                Error::io(format!("cannot read log file {}", self.path.display()), e)
            })?;
            let place = match found {
                Found::Record(place) => place,
                Found::Idle => return Ok(Next::Idle),
                Found::End => {
                    self.ended = true;
                    return Ok(Next::End);
                }
            };
            let Some(decoded) = self.form.decode(&self.buffer[place.clone()], &mut self.text)
            else {
                continue;
            };
            self.found = Some((place.start, decoded));
            if self.options.since.is_some() || self.options.until.is_some() {
                let at = self.entry().map(|e| e.at()).unwrap_or_default();
                if self.options.since.is_some_and(|since| at < since) {
                    continue;
                }
                if self.options.until.is_some_and(|until| at > until) {
                    self.ended = true;
                    return Ok(Next::End);
                }
            }
            break;
        }
        Ok(self.entry().map_or(Next::End, Next::Entry))
    }

    fn wake(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(AsFd::as_fd)
    }

    fn woken(&mut self) {
        let mut events = [0_u8; 4096];
        while let Some(watch) = &self.watch {
            if !matches!(rustix::io::read(watch, &mut events), Ok(n) if n > 0) {
                return;
            }
        }
    }

    fn finish(&mut self) {
        self.finished = true;
    }
}

impl FileReader {
    /// The record found last.
    fn entry(&self) -> Option<Entry<'_>> {
        let (start, decoded) = self.found.as_ref()?;
        let part = |range: &std::ops::Range<usize>| {
            std::str::from_utf8(&self.buffer[start + range.start..start + range.end]).ok()
        };
        let (time, attrs) = match &decoded.spare {
            Some(spare) => (spare.time.as_str(), spare.attrs.as_deref()),
            None => (part(&decoded.time)?, decoded.attrs.as_ref().and_then(part)),
        };
        let attrs = attrs.or(self.attrs.as_deref());
        Some(Entry { stream: decoded.stream, time, line: &self.text, attrs })
    }
}

/// Watches the folder: the file itself may be replaced.
fn watch(path: &Path) -> io::Result<OwnedFd> {
    let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let what = inotify::WatchFlags::MODIFY
        | inotify::WatchFlags::CREATE
        | inotify::WatchFlags::MOVED_TO
        | inotify::WatchFlags::ONLYDIR;
    inotify::add_watch(&fd, folder, what)?;
    Ok(fd)
}

/// Where the last `wanted` whole records of a plain file begin, and how many there are (at most `wanted`).
fn offset_of_last(file: &File, wanted: usize) -> io::Result<(u64, usize)> {
    let mut end = file.metadata()?.len();
    let mut block = vec![0; BLOCK];
    // The line end of the last whole record is not one that separates: hence one more.
    let mut ends = 0;
    while end > 0 {
        let from = end.saturating_sub(BLOCK as u64);
        let part = &mut block[..(end - from) as usize];
        file.read_exact_at(part, from)?;
        for at in memchr::memrchr_iter(b'\n', part) {
            if ends == wanted {
                return Ok((from + at as u64 + 1, wanted));
            }
            ends += 1;
        }
        end = from;
    }
    Ok((0, ends))
}

fn count_records(mut bytes: impl Read) -> io::Result<usize> {
    let mut block = vec![0; BLOCK];
    let mut ends = 0;
    loop {
        match bytes.read(&mut block) {
            Ok(0) => return Ok(ends),
            Ok(n) => ends += memchr::memchr_iter(b'\n', &block[..n]).count(),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // As in reading: a damaged file ends where the damage is.
            Err(_) => return Ok(ends),
        }
    }
}

/// The first bytes of a file's content: two files of one log that agree in them are the same file.
fn beginning(log: &LogFile) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What can be read is what is compared.
    let _ = log.bytes_apart().take(4096).read_to_end(&mut bytes);
    bytes
}

fn first_time(log: &LogFile, form: Form) -> Option<base::Timestamp> {
    let bytes = beginning(log);
    let end = memchr::memchr(b'\n', &bytes)?;
    let mut text = Vec::new();
    let record = &bytes[..end];
    let decoded = form.decode(record, &mut text)?;
    match decoded.spare {
        Some(spare) => spare.time.parse().ok(),
        None => std::str::from_utf8(&record[decoded.time]).ok()?.parse().ok(),
    }
}
