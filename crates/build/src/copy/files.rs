//! Regular files of a copy, written by as many threads as there are processors.
//!
//! Flow: [`Files::add`] gathers files; a full batch goes to the threads, which begin with the first. What is left at
//! [`Files::finish`] is written there, so that a copy of few files needs no thread.
//! A file system makes files one by one in each folder, but what it does to each of them (bytes, owner, time) goes side by side.

use super::{Mode, Owner, attributes, failed, hash::read_only, place::clear};
use base::{Error, Result};
use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::{self, JoinHandle},
};
use sys::root::{
    Dir, Kind, Stat, Time, next_data, set_open, set_open_mtime, set_open_xattr, set_xattrs,
};

/// Files of a batch: so many that threads mostly write into different folders, whose locks they would wait for.
const BATCH: usize = 512;
/// Bytes of a batch.
const BYTES: u64 = 16 << 20;
/// Folders of a batch, which are held open.
const FOLDERS: usize = 16;
/// Threads at most: beyond these the file system's journal is what they wait for.
const THREADS: usize = 4;
/// Bytes of a file that are held at once.
const SMALL: u64 = 64 << 10;

/// What copies get instead of their own.
#[derive(Clone, Debug, Default)]
pub(super) struct Dress {
    pub(super) owner: Option<Owner>,
    pub(super) mode: Option<Mode>,
    pub(super) time: Option<Time>,
}

impl Dress {
    pub(super) fn owner(&self, stat: &Stat) -> Owner {
        self.owner.unwrap_or(Owner { uid: stat.uid, gid: stat.gid })
    }

    pub(super) fn mode(&self, own: u32, folder: bool) -> u32 {
        self.mode.as_ref().map_or(own, |mode| mode.of(own, folder))
    }

    pub(super) fn time(&self, own: Time) -> Time {
        self.time.unwrap_or(own)
    }

    /// Copies the file `from` of `dir` to `name` in `into`, whose path in the target is `path`.
    pub(super) fn file(
        &self,
        (dir, from): (&Dir, &OsStr),
        stat: &Stat,
        (into, name): (&Dir, &OsStr),
        path: &Path,
    ) -> Result<()> {
        let fail = |e| failed(format!("cannot write {}", path.display()), e);
        let mode = self.mode(stat.mode, false);
        let mut source = dir.open_file(from, read_only()).map_err(fail)?;
        let mut file = match into.create_new(name, mode & 0o777) {
            Err(err) if err.is_taken() => {
                clear(into, name, Kind::File).map_err(fail)?;
                into.create_new(name, mode & 0o777)
            }
            made => made,
        }
        .map_err(fail)?;
        copy_bytes(&mut source, &mut file, stat)
            .map_err(|e| Error::io(format!("cannot write {}", path.display()), e))?;
        let owner = self.owner(stat);
        set_open(&file, (owner.uid, owner.gid), mode, None).map_err(fail)?;
        // After the change of owner, which clears capabilities.
        let kept = attributes::of_open(&source).map_err(fail)?;
        set_xattrs(&kept, |key, value| set_open_xattr(&file, key, value)).map_err(fail)?;
        set_open_mtime(&file, self.time(stat.mtime)).map_err(fail)
    }
}

/// Copies content, holes staying holes.
fn copy_bytes(source: &mut File, file: &mut File, stat: &Stat) -> io::Result<()> {
    if stat.blocks * 512 >= stat.size {
        // A small file is read and written at once: the kernel's ways to copy refuse between file systems, one by one.
        let mut start = Vec::with_capacity(stat.size.min(SMALL) as usize + 1);
        (&*source).take(SMALL).read_to_end(&mut start)?;
        file.write_all(&start)?;
        return match stat.size < SMALL {
            true => Ok(()),
            false => io::copy(source, file).map(|_| ()),
        };
    }
    let mut at = 0;
    while let Some((start, end)) = next_data(&*source, at)? {
        source.seek(SeekFrom::Start(start))?;
        file.seek(SeekFrom::Start(start))?;
        io::copy(&mut (&*source).take(end - start), file)?;
        at = end;
    }
    file.set_len(stat.size)
}

/// Files of one folder that go to one folder.
struct Part {
    from: Dir,
    into: Arc<Dir>,
    /// Of `into`, in the target.
    path: PathBuf,
    files: Vec<(OsString, OsString, Stat)>,
}

#[derive(Default)]
struct Batch {
    parts: Vec<Part>,
    files: usize,
    bytes: u64,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.files >= BATCH || self.bytes >= BYTES
    }

    fn write(&self, dress: &Dress) -> Result<()> {
        self.parts.iter().try_for_each(|part| {
            part.files.iter().try_for_each(|(from, name, stat)| {
                let path = part.path.join(name);
                dress.file((&part.from, from), stat, (&part.into, name), &path)
            })
        })
    }
}

struct Crew {
    queue: mpsc::SyncSender<Batch>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Crew {
    fn start(dress: &Dress) -> Self {
        let count = thread::available_parallelism().map_or(1, |n| n.get().min(THREADS));
        let (queue, batches) = mpsc::sync_channel::<Batch>(count);
        let batches = Arc::new(Mutex::new(batches));
        let one = || {
            let (batches, dress) = (Arc::clone(&batches), dress.clone());
            thread::spawn(move || {
                loop {
                    let next = batches.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(batch) = next else { return Ok(()) };
                    batch.write(&dress)?;
                }
            })
        };
        Self { queue, threads: (0..count).map(|_| one()).collect() }
    }

    /// Waits for all; the first failure.
    fn finish(self) -> Result<()> {
        drop(self.queue);
        let ends: Vec<_> = self.threads.into_iter().map(JoinHandle::join).collect();
        ends.into_iter().try_for_each(|end| {
            end.unwrap_or_else(|_| Err(Error::internal("a thread that copies files has died")))
        })
    }
}

/// Files on their way.
pub(super) struct Files {
    dress: Dress,
    batch: Batch,
    crew: Option<Crew>,
}

impl Files {
    pub(super) fn new(dress: Dress) -> Self {
        Self { dress, batch: Batch::default(), crew: None }
    }

    /// Has the file `from` of `dir` copied to `name` in `into`, which is `path` in the target. It is there after
    /// [`Files::finish`].
    ///
    /// # Errors
    /// Of files before it.
    pub(super) fn add(
        &mut self,
        (dir, from): (&Dir, &OsStr),
        stat: &Stat,
        (into, name): (&Arc<Dir>, &OsStr),
        path: &Path,
    ) -> Result<()> {
        if self.batch.is_full() {
            self.send()?;
        }
        let same = |part: &Part| Arc::ptr_eq(&part.into, into);
        if !self.batch.parts.last().is_some_and(same) {
            if self.batch.parts.len() >= FOLDERS {
                self.send()?;
            }
            let fail = |e| failed(format!("cannot read for {}", path.display()), e);
            let from = dir.try_clone().map_err(fail)?;
            let (into, path) = (Arc::clone(into), path.to_owned());
            self.batch.parts.push(Part { from, into, path, files: Vec::new() });
        }
        if let Some(part) = self.batch.parts.last_mut() {
            part.files.push((from.to_owned(), name.to_owned(), *stat));
        }
        self.batch.files += 1;
        self.batch.bytes = self.batch.bytes.saturating_add(stat.size);
        Ok(())
    }

    fn send(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        let crew = self.crew.get_or_insert_with(|| Crew::start(&self.dress));
        match crew.queue.send(batch) {
            Ok(()) => Ok(()),
            // All threads have ended, each with its failure.
            Err(_) => self.crew.take().map_or(Ok(()), Crew::finish),
        }
    }

    /// Waits until all files are there.
    ///
    /// # Errors
    /// `Exhausted` and others of the disk, naming the file.
    pub(super) fn finish(mut self) -> Result<()> {
        let last = self.batch.write(&self.dress);
        let all = self.crew.take().map_or(Ok(()), Crew::finish);
        last.and(all)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // After a failure nothing is written any more once this returns: the target may be taken away.
        let _ = self.crew.take().map(Crew::finish);
    }
}
