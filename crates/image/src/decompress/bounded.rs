//! Counting what goes in and stopping what comes out.

use crate::Limits;
use base::Error;
use std::{
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Counts the bytes read through it.
pub(super) struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R> Counted<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, count: Arc::default() }
    }

    pub(super) fn count(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.count)
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.count.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// Fails once more has come out than the limits allow.
pub(super) struct Bounded<R> {
    inner: R,
    read: Arc<AtomicU64>,
    written: u64,
    limits: Limits,
}

impl<R> Bounded<R> {
    pub(super) fn new(inner: R, read: Arc<AtomicU64>, limits: &Limits) -> Self {
        Self { inner, read, written: 0, limits: *limits }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf).map_err(|e| match e.kind() {
            // Decoders differ in what they call damaged data; only ours and the source's errors stay.
            io::ErrorKind::Other if e.get_ref().is_none_or(|inner| !inner.is::<Error>()) => {
                io::Error::new(io::ErrorKind::InvalidData, e)
            }
            _ => e,
        })?;
        self.written += n as u64;
        let Limits { unpacked_bytes, ratio, ratio_from_bytes, .. } = self.limits;
        if self.written > unpacked_bytes {
            let text = format!("refusing to decompress to more than {unpacked_bytes} bytes");
            return Err(io::Error::other(Error::invalid(text)));
        }
        let read = self.read.load(Ordering::Relaxed).max(1);
        if self.written > ratio_from_bytes && self.written / read > ratio {
            let text = format!(
                "refusing to decompress: more than {ratio} bytes come out for each that goes in"
            );
            return Err(io::Error::other(Error::invalid(text)));
        }
        Ok(n)
    }
}
