//! Hashes and records a tar that is made of a folder, without the tar ever being anywhere.

use super::record::{Recorder, Trailer};
use crate::{
    pack::{self, Sink},
    tar::{BLOCK, Segment},
};
use base::{Digest, Result};
use sha2::{Digest as _, Sha256};
use std::{
    fs::File,
    io::{self, Write},
};

#[derive(Debug)]
pub(crate) struct Hash {
    recorder: Recorder,
    sum: Sum,
    size: u64,
}

#[derive(Debug)]
struct Sum {
    state: Sha256,
    length: u64,
}

impl Write for Sum {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.state.update(bytes);
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
        self.length += bytes.len() as u64;
    }
}

impl Hash {
    pub(crate) fn new(recorder: Recorder) -> Self {
        Self { recorder, sum: Sum { state: Sha256::new(), length: 0 }, size: 0 }
    }

    pub(crate) fn finish(self) -> (Recorder, Trailer) {
        let trailer = Trailer {
            diff_id: Digest::from_sha256(self.sum.state.finalize().into()),
            size: self.size,
            tar_size: self.sum.length,
            bound: false,
            root_listed: false,
            opaque_root: false,
            payloads: self.recorder.payloads(),
            moved: Vec::new(),
        };
        (self.recorder, trailer)
    }
}

impl Sink for Hash {
    fn header(&mut self, block: &[u8; BLOCK]) -> Result<()> {
        self.sum.add(block);
        self.recorder.header(block)
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.sum.add(bytes);
        self.recorder.bytes(bytes)
    }

    fn payload(
        &mut self,
        path: &[u8],
        file: Option<&File>,
        size: u64,
        segments: Option<&[Segment]>,
    ) -> Result<()> {
        self.size += size;
        if let Some(file) = file {
            let whole = [Segment { offset: 0, length: size }];
            for segment in segments.unwrap_or(&whole) {
                pack::exact(path, file, *segment, &mut self.sum)?;
            }
        }
        self.recorder.payload(path, size, segments)
    }
}
