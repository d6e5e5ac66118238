//! Notifications that wait for their delivery. They are written with the change that they tell of, so that
//! none is lost when the server dies, and none tells of what did not happen.

use super::Tx;
use base::{Result, Timestamp};
use sqlite::Statements as _;

/// One notification for one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Its number; letters of one endpoint are delivered in this order.
    pub seq: i64,
    /// One event, a JSON object.
    pub body: String,
}

impl Tx<'_> {
    /// Queues a notification.
    ///
    /// # Errors
    /// Of the database.
    pub fn post(&self, endpoint: &str, body: &str, now: Timestamp) -> Result<()> {
        self.run(
            "cannot queue a notification",
            "INSERT INTO outbox (endpoint, body, created) VALUES (?1, ?2, ?3)",
            (endpoint, body, now.unix_nanos()),
        )?;
        Ok(())
    }

    /// The oldest letters of an endpoint.
    ///
    /// # Errors
    /// Of the database.
    pub fn letters(&self, endpoint: &str, limit: usize) -> Result<Vec<Letter>> {
        self.many(
            "cannot list notifications",
            "SELECT seq, body FROM outbox WHERE endpoint = ?1 ORDER BY seq LIMIT ?2",
            (endpoint, limit as i64),
            |row| Ok(Letter { seq: row.get(0)?, body: row.get(1)? }),
        )
    }

    /// Letters of an endpoint up to this number were delivered.
    ///
    /// # Errors
    /// Of the database.
    pub fn delivered(&self, endpoint: &str, up_to: i64) -> Result<()> {
        self.run(
            "cannot end notifications",
            "DELETE FROM outbox WHERE endpoint = ?1 AND seq <= ?2",
            (endpoint, up_to),
        )?;
        Ok(())
    }

    /// Drops the oldest letters of an endpoint beyond `keep`, and those of endpoints that are not among
    /// `endpoints` any more; how many.
    ///
    /// # Errors
    /// Of the database.
    pub fn bound_outbox(&self, endpoints: &[String], keep: usize) -> Result<usize> {
        let mut dropped = 0;
        let known: Vec<String> = self.many(
            "cannot list notifications",
            "SELECT DISTINCT endpoint FROM outbox",
            [],
            |r| r.get(0),
        )?;
        for endpoint in known {
            let keep = if endpoints.contains(&endpoint) { keep } else { 0 };
            dropped += self.run(
                "cannot drop notifications",
                "DELETE FROM outbox WHERE endpoint = ?1 AND seq NOT IN
                 (SELECT seq FROM outbox WHERE endpoint = ?1 ORDER BY seq DESC LIMIT ?2)",
                (&endpoint, keep as i64),
            )?;
        }
        Ok(dropped)
    }

    /// How many letters wait for each endpoint.
    ///
    /// # Errors
    /// Of the database.
    pub fn outbox_sizes(&self) -> Result<Vec<(String, u64)>> {
        self.many(
            "cannot count notifications",
            "SELECT endpoint, count(*) FROM outbox GROUP BY endpoint",
            [],
            |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)),
        )
    }
}
