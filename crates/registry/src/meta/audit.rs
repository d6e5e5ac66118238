//! The record of who pulled, pushed and deleted what, when, from where, with which client.

use super::Tx;
use base::{Result, Timestamp};
use serde::Serialize;
use sqlite::Statements as _;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// When.
    pub at: Timestamp,
    /// `pull`, `push`, `mount`, `delete`, `login`, `denied`.
    pub action: String,
    /// In which repository; empty where there is none.
    pub repository: String,
    /// The tag or digest that was asked for, or the source of a mount.
    pub reference: String,
    /// The digest it came to.
    pub digest: String,
    /// Bytes of the manifest or blob.
    pub size: u64,
    /// The user; empty for an anonymous caller.
    pub who: String,
    /// The client's address.
    pub address: String,
    /// The client's `User-Agent`.
    pub client: String,
    /// Id of the request, as in the log and in notifications.
    pub request: String,
}

/// Which records are wanted.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Not older.
    pub since: Option<Timestamp>,
    /// Of this repository.
    pub repository: Option<String>,
    /// By this user.
    pub who: Option<String>,
    /// Of this kind.
    pub action: Option<String>,
}

impl Tx<'_> {
    /// Keeps a record.
    ///
    /// # Errors
    /// Of the database.
    pub fn audit(&self, record: &Audit) -> Result<()> {
        self.run(
            "cannot keep a record",
            "INSERT INTO audit (at, action, repository, reference, digest, size, who, address, client, request)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            rusqlite::params![
                record.at.unix_nanos(),
                record.action,
                record.repository,
                record.reference,
                record.digest,
                record.size as i64,
                record.who,
                record.address,
                record.client,
                record.request,
            ],
        )?;
        Ok(())
    }

    /// Records in order behind the number `after`, each with its number.
    ///
    /// # Errors
    /// Of the database.
    pub fn audits(
        &self,
        filter: &AuditFilter,
        after: i64,
        limit: usize,
    ) -> Result<Vec<(i64, Audit)>> {
        self.many(
            "cannot read the records",
            "SELECT seq, at, action, repository, reference, digest, size, who, address, client, request FROM audit
             WHERE seq > ?1 AND at >= ?2 AND (?3 IS NULL OR repository = ?3) AND (?4 IS NULL OR who = ?4)
             AND (?5 IS NULL OR action = ?5) ORDER BY seq LIMIT ?6",
            (
                after,
                filter.since.map_or(i64::MIN, Timestamp::unix_nanos),
                &filter.repository,
                &filter.who,
                &filter.action,
                limit as i64,
            ),
            |row| {
                Ok((
                    row.get(0)?,
                    Audit {
                        at: Timestamp::from_unix_nanos(row.get::<_, i64>(1)?.into()),
                        action: row.get(2)?,
                        repository: row.get(3)?,
                        reference: row.get(4)?,
                        digest: row.get(5)?,
                        size: row.get::<_, i64>(6)? as u64,
                        who: row.get(7)?,
                        address: row.get(8)?,
                        client: row.get(9)?,
                        request: row.get(10)?,
                    },
                ))
            },
        )
    }

    /// Drops records older than `before`, at most `limit` of them.
    ///
    /// # Errors
    /// Of the database.
    pub fn expire_audits(&self, before: Timestamp, limit: usize) -> Result<usize> {
        self.run(
            "cannot drop old records",
            "DELETE FROM audit WHERE seq IN (SELECT seq FROM audit WHERE at < ?1 ORDER BY at LIMIT ?2)",
            (before.unix_nanos(), limit as i64),
        )
    }
}
