//! `journald`: entries with fields to systemd's journal.
//!
//! Source: Moby `daemon/logger/journald` (options). Sending: crate `relay`.

use crate::{Driver, Options, options::ATTRIBUTES};
use base::Result;

pub(super) struct Journald;

impl Driver for Journald {
    fn name(&self) -> &'static str {
        "journald"
    }

    fn check(&self, options: &Options) -> Result<()> {
        options.only(self.name(), &[], ATTRIBUTES)
    }

    fn is_remote(&self) -> bool {
        true
    }
}
