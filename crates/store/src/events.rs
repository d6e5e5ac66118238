//! The event log: append-only, each row chained by hash to the one before, bounded by age and count.

use crate::{Tx, decode, encode};
use base::{Digest, Result, Timestamp, event::Event};
use rusqlite::{Connection, OptionalExtension as _};
use sqlite::{Statements as _, error};

/// An event with its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Number in the log, rising by commit.
    pub seq: i64,
    /// The event.
    pub event: Event,
}

/// How much of the log is kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Nothing older than this.
    pub oldest: Timestamp,
    /// At most so many rows.
    pub rows: u32,
}

/// Appends `events` and returns them with their numbers.
pub(crate) fn append(db: &Connection, events: Vec<Event>) -> Result<Vec<Stored>> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let fail = |e| error("cannot append to the event log", e);
    let mut before: String = db
        .prepare_cached("SELECT hash FROM events ORDER BY seq DESC LIMIT 1")
        .and_then(|mut s| s.query_row([], |row| row.get(0)).optional())
        .map_err(fail)?
        .unwrap_or_default();
    let mut insert = db
        .prepare_cached("INSERT INTO events (at, kind, action, object, doc, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")
        .map_err(fail)?;
    let mut stored = Vec::with_capacity(events.len());
    for event in events {
        let doc = encode("an event", &event)?;
        before = link(&before, &doc);
        insert
            .execute((event.at.unix_nanos(), &event.kind, &event.action, &event.id, &doc, &before))
            .map_err(fail)?;
        stored.push(Stored { seq: db.last_insert_rowid(), event });
    }
    Ok(stored)
}

fn link(before: &str, doc: &str) -> String {
    Digest::sha256(format!("{before}\n{doc}").as_bytes()).hex().to_owned()
}

impl Tx<'_> {
    /// Events from `since` to `until`, both inclusive, oldest first, at most `limit`, beginning behind
    /// number `after`.
    ///
    /// # Errors
    /// `Internal` when a row cannot be read.
    pub fn events(
        &self,
        after: i64,
        since: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Stored>> {
        let rows = self.many(
            "cannot read the event log",
            "SELECT seq, doc FROM events WHERE seq > ?1 AND at >= ?2 AND at <= ?3 ORDER BY seq LIMIT ?4",
            (after, since.unix_nanos(), until.unix_nanos(), limit),
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)),
        )?;
        rows.into_iter()
            .map(|(seq, doc)| Ok(Stored { seq, event: decode("an event", &doc)? }))
            .collect()
    }

    /// Drops what `keep` does not cover and returns how many rows went.
    ///
    /// # Errors
    /// Of the database.
    pub fn trim_events(&self, keep: Retention) -> Result<usize> {
        self.run(
            "cannot trim the event log",
            "DELETE FROM events WHERE at < ?1 OR seq <= (SELECT coalesce(max(seq), 0) FROM events) - ?2",
            (keep.oldest.unix_nanos(), keep.rows),
        )
    }

    /// Number of the first row whose hash does not follow from the row before, if there is one. The
    /// oldest row kept is taken as the anchor.
    ///
    /// # Errors
    /// Of the database.
    pub fn broken_event(&self) -> Result<Option<i64>> {
        let rows = self.many(
            "cannot check the event log",
            "SELECT seq, doc, hash FROM events ORDER BY seq",
            [],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?)),
        )?;
        let broken = rows.windows(2).find(|pair| link(&pair[0].2, &pair[1].1) != pair[1].2);
        Ok(broken.map(|pair| pair[1].0))
    }
}
