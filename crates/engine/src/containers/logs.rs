//! `GET /containers/{id}/logs`: from the log driver's reader to the client, followed while it runs.
//!
//! The reader is synchronous; it runs on a blocking thread and hands over bounded batches. While it has
//! nothing to read it waits for the reader's wake descriptor, for the container's end, or for the client
//! to go.

use super::{Container, Places, Stream};
use crate::Engine;
use base::{Error, Result, Timestamp};
use bytes::{Bytes, BytesMut};
use logging::{Next, ReadOptions, Reader};
use std::{os::fd::AsFd as _, sync::Arc};
use tokio::{io::unix::AsyncFd, sync::mpsc};

/// Bytes of lines handed over at once.
const BATCH: usize = 64 << 10;
/// Batches that may wait for a slow client.
const QUEUE: usize = 4;

/// What of the log is wanted.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Wait for more until the container ends.
    pub follow: bool,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Not after.
    pub until: Option<Timestamp>,
    /// Each line begins with its time.
    pub timestamps: bool,
    /// Only the last so many lines.
    pub tail: Option<usize>,
    /// Each line has its attributes.
    pub details: bool,
}

/// The lines, framed as the wire wants them.
#[derive(Debug)]
pub struct LogStream {
    /// Whether the container has a terminal: then lines are not framed.
    pub tty: bool,
    batches: mpsc::Receiver<Result<Bytes>>,
}

impl LogStream {
    /// The next batch; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        self.batches.recv().await
    }
}

impl Engine {
    /// Opens the log of container `name`.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` when neither stream is asked for; `NotImplemented` for a driver that keeps
    /// nothing to read.
    pub async fn container_logs(
        self: &Arc<Self>,
        name: &str,
        options: LogOptions,
    ) -> Result<LogStream> {
        let container = self.containers.find(name)?;
        if !options.stdout && !options.stderr {
            return Err(Error::invalid("Bad parameters: you must choose at least one stream"));
        }
        let record = container.record();
        let tty = record.config.tty;
        let config = super::log_config::log_config(
            &record,
            &Places::of(&self.config, &record.id),
            &self.config,
        )?;
        let running =
            record.state.status.alive() || record.state.status == super::Status::Restarting;
        let read = ReadOptions {
            follow: options.follow && running,
            tail: options.tail,
            since: options.since,
            until: options.until,
        };
        let (sender, batches) = mpsc::channel(QUEUE);
        if options.tail == Some(0) && !read.follow {
            return Ok(LogStream { tty, batches });
        }
        let reader = config.reader(&read)?;
        let pump = Pump { reader, options, tty, sender };
        if read.follow {
            self.tasks.spawn(pump.follow(container, self.stop.clone()));
        } else {
            tokio::task::spawn_blocking(move || {
                let mut pump = pump;
                while let Ok(Some(batch)) = pump.batch().transpose_end(&pump.sender) {
                    if pump.sender.blocking_send(Ok(batch)).is_err() {
                        return;
                    }
                }
            });
        }
        Ok(LogStream { tty, batches })
    }
}

/// Turns a failing read into the last thing the client hears.
trait TransposeEnd {
    fn transpose_end(self, sender: &mpsc::Sender<Result<Bytes>>) -> Result<Option<Bytes>, ()>;
}

impl TransposeEnd for Result<Batch> {
    fn transpose_end(self, sender: &mpsc::Sender<Result<Bytes>>) -> Result<Option<Bytes>, ()> {
        match self {
            Ok(Batch::Lines(lines)) => Ok(Some(lines)),
            Ok(Batch::Idle | Batch::End) => Ok(None),
            Err(err) => {
                let _ = sender.try_send(Err(err));
                Err(())
            }
        }
    }
}

enum Batch {
    Lines(Bytes),
    Idle,
    End,
}

struct Pump {
    reader: Box<dyn Reader>,
    options: LogOptions,
    tty: bool,
    sender: mpsc::Sender<Result<Bytes>>,
}

impl Pump {
    /// Reads until a batch is full or nothing is left for now.
    fn batch(&mut self) -> Result<Batch> {
        let mut out = BytesMut::new();
        while out.len() < BATCH {
            let end = match self.reader.next()? {
                Next::Entry(entry) => {
                    push(&mut out, &entry, &self.options, self.tty);
                    continue;
                }
                Next::Idle => Batch::Idle,
                Next::End => Batch::End,
            };
            return Ok(if out.is_empty() { end } else { Batch::Lines(out.freeze()) });
        }
        Ok(Batch::Lines(out.freeze()))
    }

    async fn follow(
        mut self,
        container: Arc<Container>,
        stop: tokio_util::sync::CancellationToken,
    ) {
        let mut phase = container.watch();
        let mut ended = false;
        let wake = self.reader.wake().and_then(|fd| fd.as_fd().try_clone_to_owned().ok());
        let Some(wake) = wake.and_then(|fd| waker(fd).ok()) else { return };
        loop {
            let reading = tokio::task::spawn_blocking(move || {
                let batch = self.batch();
                (self, batch)
            });
            let Ok((pump, batch)) = reading.await else { return };
            self = pump;
            match batch {
                Ok(Batch::Lines(lines)) => {
                    if self.sender.send(Ok(lines)).await.is_err() {
                        return;
                    }
                }
                Ok(Batch::End) => return,
                Ok(Batch::Idle) if ended => return,
                Ok(Batch::Idle) => {
                    let alive = |p: &super::Phase| !p.alive || p.removed;
                    tokio::select! {
                        () = self.sender.closed() => return,
                        () = stop.cancelled() => return,
                        _ = phase.wait_for(alive) => {
                            // All lines are in the file before the end is recorded: one more pass takes them.
                            ended = true;
                            self.reader.finish();
                        }
                        ready = wake.readable() => {
                            match ready {
                                Ok(mut guard) => {
                                    self.reader.woken();
                                    guard.clear_ready();
                                }
                                Err(_) => return,
                            }
                        }
                    }
                }
                Err(err) => {
                    let _ = self.sender.send(Err(err)).await;
                    return;
                }
            }
        }
    }
}

/// Watches a descriptor that the task owns alone.
#[allow(deprecated, reason = "the descriptor is owned and stays open as long as it is registered")]
fn waker(fd: std::os::fd::OwnedFd) -> std::io::Result<AsyncFd<std::os::fd::OwnedFd>> {
    AsyncFd::with_interest(fd, tokio::io::Interest::READABLE)
}

/// Appends one record in the wire's form.
fn push(out: &mut BytesMut, entry: &logging::Entry<'_>, options: &LogOptions, tty: bool) {
    let (wanted, stream) = match entry.stream {
        logging::Stream::Stdout => (options.stdout, Stream::Stdout),
        logging::Stream::Stderr => (options.stderr, Stream::Stderr),
    };
    if !wanted {
        return;
    }
    let mut prefix = String::new();
    if options.timestamps {
        prefix.push_str(&entry.at().fixed_nano());
        prefix.push(' ');
    }
    if options.details {
        prefix.push_str(&details(entry.attrs));
        prefix.push(' ');
    }
    let length = prefix.len() + entry.line.len();
    if !tty {
        out.extend_from_slice(&header(stream, length));
    }
    out.extend_from_slice(prefix.as_bytes());
    out.extend_from_slice(entry.line);
}

/// The eight bytes before a frame: stream, three zeros, length (big endian).
pub(crate) fn header(stream: Stream, length: usize) -> [u8; 8] {
    let l = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [stream as u8, 0, 0, 0, l[0], l[1], l[2], l[3]]
}

/// Attributes as docker writes them: sorted `key=value`, joined by commas.
fn details(attrs: Option<&str>) -> String {
    let parsed: std::collections::BTreeMap<String, String> =
        attrs.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    parsed.iter().map(|(k, v)| format!("{}={}", escape(k), escape(v))).collect::<Vec<_>>().join(",")
}

/// Go's `url.QueryEscape`.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(byte as char);
            }
            b' ' => out.push('+'),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_framed_unless_a_terminal_wrote_them() {
        let entry = logging::Entry {
            stream: logging::Stream::Stderr,
            time: "2023-11-14T22:13:20.5Z",
            line: b"hi\n",
            attrs: Some(r#"{"b":"x y","a":"1"}"#),
        };
        let all = LogOptions { stdout: true, stderr: true, ..LogOptions::default() };
        let text = |options: &LogOptions, tty| {
            let mut out = BytesMut::new();
            push(&mut out, &entry, options, tty);
            out.to_vec()
        };
        assert_eq!(text(&all, false), b"\x02\0\0\0\0\0\0\x03hi\n");
        assert_eq!(text(&all, true), b"hi\n");
        let long = LogOptions { timestamps: true, details: true, ..all.clone() };
        assert_eq!(text(&long, true), b"2023-11-14T22:13:20.500000000Z a=1,b=x+y hi\n");
        assert!(text(&LogOptions { stdout: true, ..LogOptions::default() }, false).is_empty());
    }
}
