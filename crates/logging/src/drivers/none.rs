//! `none`: output is shown to whoever is attached and kept nowhere.

use crate::{Config, Driver, Options, ReadOptions, Reader, Sink, Stream};
use base::{Result, Timestamp};

pub(super) struct None;

impl Driver for None {
    fn name(&self) -> &'static str {
        "none"
    }

    fn check(&self, _: &Options) -> Result<()> {
        Ok(())
    }

    fn sink(&self, _: &Config) -> Result<Box<dyn Sink>> {
        Ok(super::nowhere())
    }

    fn reader(&self, _: &Config, _: &ReadOptions) -> Result<Box<dyn Reader>> {
        Err(super::unreadable())
    }
}

pub(super) struct Nowhere;

impl Sink for Nowhere {
    fn write(&mut self, _: Stream, _: &[u8], _: Timestamp) -> Result<()> {
        Ok(())
    }

    fn end(&mut self, _: Stream) -> Result<()> {
        Ok(())
    }

    fn reopen(&mut self) -> Result<()> {
        Ok(())
    }
}
