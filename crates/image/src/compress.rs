//! Compressing on all cores: gzip as one member, zstd as frames one after another.
//!
//! Flow: what is written to [`Parallel`] is cut into blocks; workers compress them side by side; one more thread
//! puts them out in order. A gzip block begins with the last 32 KiB of the block before it as its dictionary
//! and ends at a byte, so that all blocks together are one deflate stream and any reader of gzip takes them.
//! Invariants: the same bytes give the same output, whatever the number of threads; memory is bounded by
//! blocks under way.
//! Source: RFC 1951, RFC 1952; pigz (the way of cutting), observed.

use base::{Error, Result};
use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use std::{
    io::{self, Write},
    sync::{Mutex, PoisonError, mpsc},
    thread::{self, Scope, ScopedJoinHandle},
};

/// Bytes of a block: large enough that a dictionary of 32 KiB is a small loss, small enough for the cache.
const BLOCK: usize = 1 << 20;
/// What deflate can look back to.
const WINDOW: usize = 32 << 10;
/// gzip's level: half the time of level 6 for a few per cent more bytes.
const LEVEL: u32 = 4;
/// A gzip header without name and time, so that the same bytes give the same blob.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// The form of compression.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Readable by all.
    #[default]
    Gzip,
    /// Smaller or faster; for registries and engines of the last years.
    Zstd,
}

struct Job {
    block: Vec<u8>,
    dictionary: Vec<u8>,
    last: bool,
    done: mpsc::SyncSender<io::Result<(Vec<u8>, Crc)>>,
}

type Done = mpsc::Receiver<io::Result<(Vec<u8>, Crc)>>;

/// Compresses what is written to it. Ends with [`Parallel::finish`].
pub struct Parallel<'s> {
    form: Form,
    jobs: Option<mpsc::SyncSender<Job>>,
    order: Option<mpsc::SyncSender<Done>>,
    output: Option<ScopedJoinHandle<'s, io::Result<()>>>,
    block: Vec<u8>,
    dictionary: Vec<u8>,
}

impl std::fmt::Debug for Parallel<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parallel").field("form", &self.form).finish_non_exhaustive()
    }
}

/// Runs `body` with a writer whose bytes come out compressed at `out`.
///
/// # Errors
/// Those of `body` and of `out`.
pub fn parallel(
    form: Form,
    out: &mut (dyn Write + Send),
    body: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    parallel_at(form, None, out, body)
}

/// As [`parallel`], at a level: 0 (nothing is compressed) to 9 for gzip; zstd has one level only.
///
/// # Errors
/// Those of `body` and of `out`.
pub fn parallel_at(
    form: Form,
    level: Option<u32>,
    out: &mut (dyn Write + Send),
    body: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    let level = level.unwrap_or(LEVEL).min(9);
    let threads = thread::available_parallelism().map_or(2, usize::from).min(16);
    let (jobs, queue) = mpsc::sync_channel::<Job>(threads);
    let queue = Mutex::new(queue);
    thread::scope(|scope| {
        let mut writer = Parallel::new(scope, (form, level), threads, jobs, &queue, out);
        let written = body(&mut writer);
        let finished = writer.finish(written.is_ok());
        written?;
        finished.map_err(|e| crate::decompress::unwrap("cannot compress", e))
    })
}

impl<'s> Parallel<'s> {
    fn new<'e: 's>(
        scope: &'s Scope<'s, 'e>,
        (form, level): (Form, u32),
        threads: usize,
        jobs: mpsc::SyncSender<Job>,
        queue: &'e Mutex<mpsc::Receiver<Job>>,
        out: &'e mut (dyn Write + Send),
    ) -> Self {
        for _ in 0..threads {
            scope.spawn(move || work(form, level, queue));
        }
        let (order, in_order) = mpsc::sync_channel::<Done>(threads * 2);
        let output = scope.spawn(move || put_out(form, &in_order, out));
        Self {
            form,
            jobs: Some(jobs),
            order: Some(order),
            output: Some(output),
            block: Vec::with_capacity(BLOCK),
            dictionary: Vec::new(),
        }
    }

    fn hand_on(&mut self, last: bool) -> io::Result<()> {
        let gone = || io::Error::other("a compressing thread has ended");
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        let tail = block.len().saturating_sub(WINDOW);
        let next = block[tail..].to_vec();
        let dictionary = std::mem::replace(&mut self.dictionary, next);
        let (done, finished) = mpsc::sync_channel(1);
        // The order first: whoever waits for a block waits for one that was handed on.
        self.order.as_ref().ok_or_else(gone)?.send(finished).map_err(|_| gone())?;
        self.jobs
            .as_ref()
            .ok_or_else(gone)?
            .send(Job { block, dictionary, last, done })
            .map_err(|_| gone())
    }

    fn finish(mut self, whole: bool) -> io::Result<()> {
        let ended = if whole { self.hand_on(true) } else { Ok(()) };
        self.jobs = None;
        self.order = None;
        let output = self.output.take().map(ScopedJoinHandle::join);
        match output {
            // Why the output ended is the better reason.
            Some(Ok(Err(err))) => Err(err),
            Some(Ok(Ok(()))) => ended,
            _ => Err(io::Error::other("a compressing thread has died")),
        }
    }
}

impl Write for Parallel<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = buf.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&buf[..n]);
        if self.block.len() == BLOCK {
            self.hand_on(false)?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn work(form: Form, level: u32, queue: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        let made = match form {
            Form::Gzip => deflated(&job, level),
            Form::Zstd if job.block.is_empty() => Ok((Vec::new(), Crc::new())),
            Form::Zstd => {
                Ok((compress_to_vec(job.block.as_slice(), CompressionLevel::Fastest), Crc::new()))
            }
        };
        // Nobody waits any more when the output has failed.
        let _ = job.done.send(made);
    }
}

fn deflated(job: &Job, level: u32) -> io::Result<(Vec<u8>, Crc)> {
    let mut crc = Crc::new();
    crc.update(&job.block);
    let mut deflate = Compress::new(Compression::new(level), false);
    if !job.dictionary.is_empty() {
        deflate.set_dictionary(&job.dictionary).map_err(io::Error::other)?;
    }
    let mut out = Vec::with_capacity(job.block.len() / 2 + 1024);
    let flush = if job.last { FlushCompress::Finish } else { FlushCompress::Sync };
    loop {
        let at = usize::try_from(deflate.total_in()).map_err(io::Error::other)?;
        let status =
            deflate.compress_vec(&job.block[at..], &mut out, flush).map_err(io::Error::other)?;
        let all_in = deflate.total_in() == job.block.len() as u64;
        match status {
            Status::StreamEnd => return Ok((out, crc)),
            // A flush is complete once room is left behind it.
            _ if all_in && !job.last && out.len() < out.capacity() => return Ok((out, crc)),
            _ => out.reserve(out.capacity().max(4096)),
        }
    }
}

fn put_out(
    form: Form,
    in_order: &mpsc::Receiver<Done>,
    out: &mut (dyn Write + Send),
) -> io::Result<()> {
    let mut sum = Crc::new();
    if form == Form::Gzip {
        out.write_all(&HEADER)?;
    }
    for block in in_order {
        let (bytes, crc) =
            block.recv().map_err(|_| io::Error::other("a compressing thread has died"))??;
        out.write_all(&bytes)?;
        sum.combine(&crc);
    }
    if form == Form::Gzip {
        out.write_all(&sum.sum().to_le_bytes())?;
        out.write_all(&sum.amount().to_le_bytes())?;
    }
    out.flush()
}

/// The form that a setting names.
///
/// # Errors
/// `Invalid` for another.
pub fn form(text: &str) -> Result<Form> {
    match text {
        "" | "gzip" => Ok(Form::Gzip),
        "zstd" => Ok(Form::Zstd),
        _ => Err(Error::invalid(format!("unknown compression {text:?}: want gzip or zstd"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, decompress};
    use std::{
        io::Read,
        process::{Command, Stdio},
    };

    fn compressed(form: Form, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        parallel(form, &mut out, |writer| {
            writer.write_all(data).map_err(|e| Error::io("write", e))
        })
        .unwrap();
        out
    }

    fn sample(bytes: usize) -> Vec<u8> {
        (0..bytes as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 27) as u8).collect()
    }

    #[test]
    fn a_level_makes_a_difference_in_bytes_alone() {
        let data: Vec<u8> = "what repeats is made short, ".repeat(40_000).into_bytes();
        let at = |level| {
            let mut out = Vec::new();
            parallel_at(Form::Gzip, level, &mut out, |writer| {
                writer.write_all(&data).map_err(|e| Error::io("write", e))
            })
            .unwrap();
            let mut back = Vec::new();
            let (_, mut reader) = decompress::open(&out[..], &Limits::default()).unwrap();
            reader.read_to_end(&mut back).unwrap();
            assert!(back == data, "{level:?}");
            out.len()
        };
        assert!(at(Some(0)) > data.len());
        assert!(at(Some(9)) < at(Some(1)));
        assert_eq!(at(None), at(Some(LEVEL)));
        assert_eq!(at(Some(99)), at(Some(9)));
    }

    #[test]
    fn all_sizes_come_back() {
        for form in [Form::Gzip, Form::Zstd] {
            for bytes in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 17] {
                let data = sample(bytes);
                let packed = compressed(form, &data);
                assert_eq!(packed, compressed(form, &data), "the same bytes again");
                let mut back = Vec::new();
                let (_, mut reader) = decompress::open(&packed[..], &Limits::default()).unwrap();
                reader.read_to_end(&mut back).unwrap();
                assert!(back == data, "{form:?} {bytes}");
            }
        }
    }

    #[test]
    fn gzip_is_one_member_that_gzip_itself_reads() {
        let data = sample(5 * BLOCK);
        let packed = compressed(Form::Gzip, &data);
        let mut first = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut first).unwrap();
        assert!(first == data, "a reader of one member sees all");
        let mut child = Command::new("gzip")
            .arg("-dc")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let feeding = thread::spawn(move || input.write_all(&packed).unwrap());
        let output = child.wait_with_output().unwrap();
        feeding.join().unwrap();
        assert!(output.status.success() && output.stdout == data);
    }

    #[test]
    fn faults_on_either_side_end_it() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let data = sample(20 * BLOCK);
        let err = parallel(Form::Gzip, &mut Full, |w| {
            w.write_all(&data).map_err(|e| Error::io("write", e))
        });
        assert!(err.is_err());
        let mut out = Vec::new();
        let err = parallel(Form::Gzip, &mut out, |_| Err(Error::invalid("no")));
        assert_eq!(err.unwrap_err().to_string(), "no");
    }
}
