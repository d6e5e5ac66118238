//! State: one SQLite file in WAL mode, with typed tables.
//!
//! Flow: [`Store::write`] runs a closure in one immediate transaction on the only writing connection;
//! [`Store::read`] runs one on a pooled read-only connection and never waits for a writer. Events that a
//! transaction [emits](Tx::emit) are kept in the same commit and handed to the listener after it.
//!
//! Durability: `synchronous=NORMAL`. A commit survives the death of the process at once; a power cut may
//! take the last commits with it, but never leaves half of one (SQLite, "Write-Ahead Logging"). Callers
//! that acknowledge durable objects (images, volumes) ask for [`Store::flush`].
//!
//! Not here: what a container or an image means; rows carry a JSON document beside the columns that are
//! looked up.

mod blobs;
mod builds;
mod containers;
mod events;
mod images;
mod leases;
mod networks;
mod schema;
mod volumes;

pub use blobs::Blob;
pub use builds::{Build, CacheEntry};
pub use containers::Container;
pub use events::{Retention, Stored};
pub use images::{Image, Layer, Tag, TagSpan};
pub use leases::{Journal, Lease};
pub use networks::Network;
pub use volumes::Volume;

use base::{Error, Kind, Result, event::Event};
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use std::{
    cell::RefCell,
    fmt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

const BUSY: Duration = Duration::from_secs(10);
const STATEMENTS: usize = 64;
const READERS: usize = 4;

type Listener = Box<dyn Fn(&[Stored]) + Send + Sync>;

/// The state of one engine.
pub struct Store {
    path: PathBuf,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
    listener: Mutex<Option<Listener>>,
}

/// A transaction; dropped without commit it leaves nothing.
pub struct Tx<'c> {
    pub(crate) db: &'c Connection,
    emitted: RefCell<Vec<Event>>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

impl fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx").finish_non_exhaustive()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic inside a transaction rolls it back, so the connection behind a poisoned lock is sound.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Opens or creates the database at `path` and brings its schema up to date.
    ///
    /// # Errors
    /// `Internal` when it cannot be opened, is not a database, or was written by a newer Gantry.
    pub fn open(path: &Path) -> Result<Self> {
        let open = |e| error(&format!("cannot open the state database {}", path.display()), e);
        let mut writer = Connection::open(path).map_err(open)?;
        configure(&writer).map_err(open)?;
        writer.pragma_update(None, "journal_mode", "WAL").map_err(open)?;
        schema::migrate(&mut writer)?;
        Ok(Self {
            path: path.to_owned(),
            writer: Mutex::new(writer),
            readers: Mutex::new(Vec::new()),
            listener: Mutex::new(None),
        })
    }

    /// Sets who is told of events after each commit.
    pub fn on_event(&self, listener: impl Fn(&[Stored]) + Send + Sync + 'static) {
        *locked(&self.listener) = Some(Box::new(listener));
    }

    /// Runs `body` in one transaction, committed when it returns `Ok`.
    ///
    /// # Errors
    /// Those of `body`; `Exhausted` when the disk is full.
    pub fn write<T>(&self, body: impl FnOnce(&Tx<'_>) -> Result<T>) -> Result<T> {
        let mut writer = locked(&self.writer);
        let begin = writer
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|e| error("cannot begin a state change", e))?;
        let tx = Tx { db: &begin, emitted: RefCell::new(Vec::new()) };
        let value = body(&tx)?;
        let emitted = tx.emitted.into_inner();
        let stored = events::append(&begin, emitted)?;
        begin.commit().map_err(|e| error("cannot commit a state change", e))?;
        // Told under the writer's lock, so that listeners see events in commit order.
        if !stored.is_empty()
            && let Some(listener) = locked(&self.listener).as_ref()
        {
            listener(&stored);
        }
        drop(writer);
        Ok(value)
    }

    /// Runs `body` over one consistent snapshot, without waiting for writers.
    ///
    /// # Errors
    /// Those of `body`.
    pub fn read<T>(&self, body: impl FnOnce(&Tx<'_>) -> Result<T>) -> Result<T> {
        let pooled = locked(&self.readers).pop();
        let mut reader = match pooled {
            Some(reader) => reader,
            None => self.reader()?,
        };
        let value = {
            let begin =
                reader.transaction().map_err(|e| error("cannot begin reading the state", e))?;
            body(&Tx { db: &begin, emitted: RefCell::new(Vec::new()) })
        };
        let mut readers = locked(&self.readers);
        if readers.len() < READERS {
            readers.push(reader);
        }
        value
    }

    fn reader(&self) -> Result<Connection> {
        let open = |e| error(&format!("cannot open the state database {}", self.path.display()), e);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let reader = Connection::open_with_flags(&self.path, flags).map_err(open)?;
        configure(&reader).map_err(open)?;
        Ok(reader)
    }

    /// Makes all commits so far survive a power cut.
    ///
    /// # Errors
    /// `Internal` or `Exhausted` from the disk.
    pub fn flush(&self) -> Result<()> {
        let writer = locked(&self.writer);
        writer
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
            .map_err(|e| error("cannot flush the state database", e))
    }

    /// Faults that SQLite finds in the file, empty when it is sound.
    ///
    /// # Errors
    /// `Internal` when the check itself cannot run.
    pub fn check(&self) -> Result<Vec<String>> {
        let writer = locked(&self.writer);
        let run = || -> rusqlite::Result<Vec<String>> {
            let mut check = writer.prepare("PRAGMA integrity_check(100)")?;
            let rows = check.query_map([], |row| row.get::<_, String>(0))?;
            rows.collect()
        };
        let found = run().map_err(|e| error("cannot check the state database", e))?;
        Ok(found.into_iter().filter(|line| line != "ok").collect())
    }
}

impl Tx<'_> {
    /// Keeps `event` with this transaction and publishes it after the commit.
    pub fn emit(&self, event: Event) {
        self.emitted.borrow_mut().push(event);
    }
}

fn configure(db: &Connection) -> rusqlite::Result<()> {
    db.busy_timeout(BUSY)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    db.pragma_update(None, "synchronous", "NORMAL")?;
    db.pragma_update(None, "foreign_keys", true)?;
    db.pragma_update(None, "temp_store", "MEMORY")?;
    // 1 MiB of pages each: the database is small, and the daemon's memory is promised to be too.
    db.pragma_update(None, "cache_size", -1024)
}

/// Turns SQLite's error into ours: full disk and taken keys are told apart from faults.
pub(crate) fn error(tried: &str, err: rusqlite::Error) -> Error {
    let kind = match err.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull | rusqlite::ErrorCode::OutOfMemory) => Kind::Exhausted,
        Some(rusqlite::ErrorCode::ConstraintViolation) => Kind::Conflict,
        _ => Kind::Internal,
    };
    Error::new(kind, tried).caused_by(err)
}

pub(crate) fn encode<T: serde::Serialize>(what: &str, value: &T) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|e| Error::internal(format!("cannot encode {what}")).caused_by(e))
}

pub(crate) fn decode<T: serde::de::DeserializeOwned>(what: &str, text: &str) -> Result<T> {
    serde_json::from_str(text)
        .map_err(|e| Error::internal(format!("cannot read {what} from the store")).caused_by(e))
}

/// The three calls that every table is written with.
impl Tx<'_> {
    pub(crate) fn run(
        &self,
        what: &str,
        sql: &str,
        params: impl rusqlite::Params,
    ) -> Result<usize> {
        let run = || self.db.prepare_cached(sql)?.execute(params);
        run().map_err(|e| error(what, e))
    }

    pub(crate) fn one<T>(
        &self,
        what: &str,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        use rusqlite::OptionalExtension as _;
        let run = || self.db.prepare_cached(sql)?.query_row(params, read).optional();
        run().map_err(|e| error(what, e))
    }

    pub(crate) fn many<T>(
        &self,
        what: &str,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let run = || {
            self.db
                .prepare_cached(sql)?
                .query_map(params, read)?
                .collect::<rusqlite::Result<Vec<_>>>()
        };
        run().map_err(|e| error(what, e))
    }
}

#[cfg(test)]
mod tests;
