//! Leases, which keep objects from being collected while an operation runs, and the journal of
//! multi-step changes, which the next start finishes or undoes.

use crate::{Tx, decode, encode};
use base::{Result, Timestamp};
use serde::{Serialize, de::DeserializeOwned};
use sqlite::Statements as _;

/// One lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Who holds it: an operation's id.
    pub holder: String,
    /// `layer`, `blob`, `image`.
    pub kind: String,
    /// The object's id.
    pub object: String,
}

/// A multi-step change under way.
#[derive(Clone, Debug)]
pub struct Journal<T> {
    /// Its id.
    pub id: String,
    /// Which operation.
    pub operation: String,
    /// On what.
    pub subject: String,
    /// Since when.
    pub since: Timestamp,
    /// What is needed to finish or undo it.
    pub doc: T,
}

impl Tx<'_> {
    /// Takes a lease; taking it twice is taking it once.
    ///
    /// # Errors
    /// Of the database.
    pub fn lease(&self, lease: &Lease) -> Result<()> {
        self.run(
            "cannot take a lease",
            "INSERT OR IGNORE INTO leases (holder, kind, object, since) VALUES (?1, ?2, ?3, ?4)",
            (&lease.holder, &lease.kind, &lease.object, Timestamp::now().unix_nanos()),
        )?;
        Ok(())
    }

    /// Gives back all leases of `holder`.
    ///
    /// # Errors
    /// Of the database.
    pub fn release(&self, holder: &str) -> Result<()> {
        self.run("cannot release leases", "DELETE FROM leases WHERE holder = ?1", [holder])?;
        Ok(())
    }

    /// Takes a lease that outlives the engine: it ends at `until`, or when it is released.
    ///
    /// # Errors
    /// Of the database.
    pub fn lease_until(&self, lease: &Lease, until: Timestamp) -> Result<()> {
        self.run(
            "cannot take a lease",
            "INSERT INTO leases (holder, kind, object, since, until) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (holder, kind, object) DO UPDATE SET until = ?5",
            (
                &lease.holder,
                &lease.kind,
                &lease.object,
                Timestamp::now().unix_nanos(),
                until.unix_nanos(),
            ),
        )?;
        Ok(())
    }

    /// Gives back one lease of `holder`.
    ///
    /// # Errors
    /// Of the database.
    pub fn release_object(&self, holder: &str, kind: &str, object: &str) -> Result<()> {
        self.run(
            "cannot release leases",
            "DELETE FROM leases WHERE holder = ?1 AND kind = ?2 AND object = ?3",
            (holder, kind, object),
        )?;
        Ok(())
    }

    /// Ends leases whose time is over, or with `all` every lease that has a time.
    ///
    /// # Errors
    /// Of the database.
    pub fn expire_leases(&self, now: Timestamp, all: bool) -> Result<usize> {
        self.run(
            "cannot release leases",
            "DELETE FROM leases WHERE until IS NOT NULL AND (?2 OR until <= ?1)",
            (now.unix_nanos(), all),
        )
    }

    /// Objects of `kind` that anybody holds.
    ///
    /// # Errors
    /// Of the database.
    pub fn leased_objects(&self, kind: &str) -> Result<Vec<String>> {
        self.many(
            "cannot read leases",
            "SELECT DISTINCT object FROM leases WHERE kind = ?1",
            [kind],
            |row| row.get(0),
        )
    }

    /// Gives back every lease of an operation of this engine: at start, when none can be running.
    ///
    /// # Errors
    /// Of the database.
    pub fn release_all(&self) -> Result<usize> {
        self.run("cannot release leases", "DELETE FROM leases WHERE until IS NULL", [])
    }

    /// Whether anybody holds `object`.
    ///
    /// # Errors
    /// Of the database.
    pub fn leased(&self, kind: &str, object: &str) -> Result<bool> {
        let found = self.one(
            "cannot read leases",
            "SELECT 1 FROM leases WHERE kind = ?1 AND object = ?2 LIMIT 1",
            (kind, object),
            |_| Ok(()),
        )?;
        Ok(found.is_some())
    }

    /// Writes down that a change begins, or its progress.
    ///
    /// # Errors
    /// Of the database.
    pub fn journal<T: Serialize>(&self, entry: &Journal<T>) -> Result<()> {
        self.run(
            "cannot write the journal",
            "INSERT INTO journal (id, operation, subject, since, doc) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (id) DO UPDATE SET doc = ?5",
            (
                &entry.id,
                &entry.operation,
                &entry.subject,
                entry.since.unix_nanos(),
                encode("a journal entry", &entry.doc)?,
            ),
        )?;
        Ok(())
    }

    /// Writes down that a change has ended.
    ///
    /// # Errors
    /// Of the database.
    pub fn journal_done(&self, id: &str) -> Result<()> {
        self.run("cannot write the journal", "DELETE FROM journal WHERE id = ?1", [id])?;
        Ok(())
    }

    /// Changes of one kind that never ended, oldest first.
    ///
    /// # Errors
    /// `Internal` when an entry cannot be read.
    pub fn journal_entries<T: DeserializeOwned>(&self, operation: &str) -> Result<Vec<Journal<T>>> {
        let rows = self.many(
            "cannot read the journal",
            "SELECT id, operation, subject, since, doc FROM journal WHERE operation = ?1 ORDER BY since",
            [operation],
            |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get::<_, String>(1)?,
                    row.get::<_, String>(2)?,
                    row.get::<_, i64>(3)?,
                    row.get::<_, String>(4)?,
                ))
            },
        )?;
        rows.into_iter()
            .map(|(id, operation, subject, since, doc)| {
                Ok(Journal {
                    id,
                    operation,
                    subject,
                    since: Timestamp::from_unix_nanos(since.into()),
                    doc: decode("a journal entry", &doc)?,
                })
            })
            .collect()
    }
}
