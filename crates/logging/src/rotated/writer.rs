//! The writing end.
//!
//! A chunk becomes one `write(2)` of whole records. INVARIANT: `size` is the length of the file up to
//! its last whole record; a failed write is cut back to it, so that no half record stays.

use super::{Form, Rotation, When, names, squeeze::Squeeze};
use crate::{Sink, Stream, lines::Lines};
use base::{Error, Result, Timestamp};
use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

pub(crate) struct Writer {
    lines: [Lines; 2],
    log: Log,
}

/// The files behind a writer.
struct Log {
    path: PathBuf,
    file: File,
    size: u64,
    form: Form,
    rotation: Rotation,
    attrs: Vec<u8>,
    /// Records made but not yet written.
    out: Vec<u8>,
    when: When,
    squeeze: Option<Squeeze>,
}

impl Writer {
    pub(crate) fn open(
        path: &Path,
        form: Form,
        rotation: Rotation,
        attrs: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let (file, size) = open_log(path)?;
        let attrs = if attrs.is_empty() {
            Vec::new()
        } else {
            serde_json::to_vec(attrs)
                .map_err(|e| Error::internal("cannot write log attributes as JSON").caused_by(e))?
        };
        let squeeze = if rotation.compress { Squeeze::begin(path) } else { None };
        let log = Log {
            path: path.to_owned(),
            file,
            size,
            form,
            rotation,
            attrs,
            out: Vec::new(),
            when: When::new(Timestamp::ZERO),
            squeeze,
        };
        Ok(Self { lines: Default::default(), log })
    }
}

/// Opens for appending; a torn last line (power cut) is closed so that it spoils nothing after it.
fn open_log(path: &Path) -> Result<(File, u64)> {
    let named = |what: &str| format!("{what} log file {}", path.display());
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
        .map_err(|e| Error::io(named("cannot open"), e))?;
    let mut size = file.metadata().map_err(|e| Error::io(named("cannot stat"), e))?.len();
    if size > 0 {
        let mut last = [0];
        file.read_exact_at(&mut last, size - 1).map_err(|e| Error::io(named("cannot read"), e))?;
        if last != *b"\n" {
            (&file).write_all(b"\n").map_err(|e| Error::io(named("cannot mend"), e))?;
            size += 1;
        }
    }
    Ok((file, size))
}

impl Sink for Writer {
    fn write(&mut self, stream: Stream, chunk: &[u8], at: Timestamp) -> Result<()> {
        let log = &mut self.log;
        self.lines[stream as usize]
            .feed(chunk, at, |piece| log.record(stream, piece.bytes, piece.ended, piece.at))?;
        log.flush()?;
        // Rotated files are squeezed in step with what comes in, several times as fast.
        let budget = chunk.len() * 4;
        log.squeeze(budget);
        Ok(())
    }

    fn end(&mut self, stream: Stream) -> Result<()> {
        if let Some((bytes, at)) = self.lines[stream as usize].end() {
            self.log.record(stream, &bytes, false, at)?;
        }
        self.log.flush()
    }

    fn reopen(&mut self) -> Result<()> {
        (self.log.file, self.log.size) = open_log(&self.log.path)?;
        Ok(())
    }
}

impl Log {
    fn record(&mut self, stream: Stream, line: &[u8], ended: bool, at: Timestamp) -> Result<()> {
        if let Some(limit) = self.rotation.limit
            && self.size + self.out.len() as u64 >= limit
        {
            self.flush()?;
            self.rotate()?;
        }
        if self.when.at != at {
            self.when = When::new(at);
        }
        self.form.encode(&mut self.out, (line, ended), stream, &self.attrs, &mut self.when);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let written = self.file.write_all(&self.out);
        let length = self.out.len() as u64;
        self.out.clear();
        match written {
            Ok(()) => {
                self.size += length;
                Ok(())
            }
            Err(err) => {
                // Best effort: where even this fails, the reader skips the torn record.
                let _ = self.file.set_len(self.size);
                Err(Error::io(format!("cannot write log file {}", self.path.display()), err))
            }
        }
    }

    fn rotate(&mut self) -> Result<()> {
        let failed =
            |e: io::Error| Error::io(format!("cannot rotate log file {}", self.path.display()), e);
        if self.rotation.files < 2 {
            self.file.set_len(0).map_err(failed)?;
            self.size = 0;
            return Ok(());
        }
        // One squeeze at a time: what the last one has left is finished before names move on.
        if let Some(mut squeeze) = self.squeeze.take() {
            squeeze.step(usize::MAX);
        }
        names::shift(&self.path, self.rotation.files).map_err(failed)?;
        (self.file, self.size) = open_log(&self.path)?;
        if self.rotation.compress {
            self.squeeze = Squeeze::begin(&self.path);
        }
        Ok(())
    }

    fn squeeze(&mut self, budget: usize) {
        if let Some(squeeze) = &mut self.squeeze
            && squeeze.step(budget)
        {
            self.squeeze = None;
        }
    }
}
