//! Everything the registry knows but the bytes of large blobs: one SQLite file, written in one place.
//!
//! Each file here is one noun: its rows, and the methods of [`Tx`] that read and write them. Whatever
//! changes does so inside one [`Database::write`], so that what comes later (projects, retention, several
//! nodes) has one door to go through.

mod audit;
mod blobs;
mod database;
mod facts;
mod manifests;
mod outbox;
mod referrers;
mod repositories;
mod rules;
mod schema;
mod sweep;
mod tags;
mod uploads;
mod users;

pub use audit::{Audit, AuditFilter};
pub use blobs::{Blob, NewBlob, Place, Unlink};
pub use database::{Database, Tx};
pub use manifests::{Missing, NewManifest, Put, Stored};
pub use outbox::Letter;
pub use referrers::Referrer;
pub use repositories::Found;
pub use rules::RuleRow;
pub use sweep::Reviewed;
pub use uploads::{Part, Parts};
pub use users::{RefreshToken, User};

use base::Timestamp;
use std::time::Duration;

/// How long a blob that no manifest of its repository needs may stay, so that the push it came with can be
/// finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grace(pub Duration);

impl Grace {
    /// When a blob that was wanted at `now` is looked at again, in nanoseconds.
    fn due(self, now: Timestamp) -> i64 {
        now.plus(self.0).unix_nanos()
    }
}

#[cfg(test)]
mod model;
