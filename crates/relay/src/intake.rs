//! From the shim's chunks to records.

use crate::{Partial, Record, queue::Queue};
use logging::{
    Stream,
    handover::{HEAD, Head},
    lines::{Lines, Piece},
};
use std::{convert::Infallible, io::Read, os::unix::net::UnixStream};

/// One output.
#[derive(Default)]
struct Output {
    lines: Lines,
    /// The line that is under way in parts: its name and the number of its last part.
    part: Option<(String, u32)>,
}

impl Output {
    fn take(&mut self, stream: Stream, piece: Piece<'_>, queue: &Queue) {
        let partial = match (self.part.take(), piece.ended) {
            (None, true) => None,
            (before, last) => {
                let (id, ordinal) = before.unwrap_or_else(|| (new_id(), 0));
                if !last {
                    self.part = Some((id.clone(), ordinal + 1));
                }
                Some(Partial { id, ordinal: ordinal + 1, last })
            }
        };
        queue.put(Record { stream, at: piece.at, line: piece.bytes.to_vec(), partial });
    }

    fn feed(&mut self, stream: Stream, chunk: &[u8], at: base::Timestamp, queue: &Queue) {
        let mut lines = std::mem::take(&mut self.lines);
        let Ok(()) = lines.feed(chunk, at, |piece| {
            self.take(stream, piece, queue);
            Ok::<(), Infallible>(())
        });
        self.lines = lines;
    }

    /// The output ends, or a piece of it is missing.
    fn end(&mut self, stream: Stream, queue: &Queue) {
        if let Some((bytes, at)) = self.lines.end() {
            self.take(stream, Piece { bytes: &bytes, ended: true, at }, queue);
        }
        self.part = None;
    }
}

fn new_id() -> String {
    let mut bytes = [0; 32];
    // Without random numbers all parts have the same name: their order still tells them apart.
    let _ = getrandom::fill(&mut bytes);
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Takes chunks until the end.
pub(crate) fn take(mut socket: UnixStream, queue: &Queue) {
    let mut outputs = [Output::default(), Output::default()];
    let mut head = [0; HEAD];
    let mut chunk = Vec::new();
    while socket.read_exact(&mut head).is_ok() {
        let Some(head) = Head::decode(&head) else { break };
        chunk.resize(head.length, 0);
        if socket.read_exact(&mut chunk).is_err() {
            break;
        }
        match head.stream {
            Some(stream) => outputs[stream as usize].feed(stream, &chunk, head.at, queue),
            None => {
                end(&mut outputs, queue);
                queue.gap();
            }
        }
    }
    end(&mut outputs, queue);
}

fn end(outputs: &mut [Output; 2], queue: &Queue) {
    for stream in [Stream::Stdout, Stream::Stderr] {
        outputs[stream as usize].end(stream, queue);
    }
}
