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
mod plugins;
mod schema;
mod unsettled;
mod volumes;

pub use blobs::Blob;
pub use builds::{Build, CacheEntry};
pub use containers::Container;
pub use events::{Retention, Stored};
pub use images::{Image, Layer, Tag, TagSpan};
pub use leases::{Journal, Lease};
pub use networks::Network;
pub use unsettled::{Kind, Unsettled};
pub use volumes::Volume;

use base::{Error, Result, event::Event};
use rusqlite::{Connection, TransactionBehavior};
use sqlite::{Readers, Settings, error, locked};
use std::{
    cell::RefCell,
    fmt,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

static SETTINGS: Settings = Settings {
    name: "state database",
    busy: Duration::from_secs(10),
    statements: 64,
    synchronous: "NORMAL",
    // The database is small, and the daemon's memory is promised to be too.
    cache_kib: 1024,
    readers: 4,
};

/// Held for what has to be noted when the disk is full: ends, removals, who asked for what. Some thousand changes.
const RESERVE_BYTES: u32 = 4 << 20;

type Listener = Box<dyn Fn(&[Stored]) + Send + Sync>;

/// The state of one engine.
pub struct Store {
    path: PathBuf,
    writer: Mutex<Connection>,
    readers: Readers,
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

impl sqlite::Statements for Tx<'_> {
    fn connection(&self) -> &Connection {
        self.db
    }
}

impl Store {
    /// Opens or creates the database at `path` and brings its schema up to date.
    ///
    /// # Errors
    /// `Internal` when it cannot be opened, is not a database, or was written by a newer Gantry.
    pub fn open(path: &Path) -> Result<Self> {
        let writer = SETTINGS.open(path, schema::MIGRATIONS)?;
        Ok(Self {
            path: path.to_owned(),
            writer: Mutex::new(writer),
            readers: Readers::new(path, &SETTINGS),
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
        self.write_then(body, |_| {})
    }

    /// As [`Store::write`]; `done` runs after the commit and before anybody hears of the events, so that who asks
    /// because of one finds what it tells.
    ///
    /// # Errors
    /// As [`Store::write`]; then `done` does not run.
    pub fn write_then<T>(
        &self,
        body: impl FnOnce(&Tx<'_>) -> Result<T>,
        done: impl FnOnce(&T),
    ) -> Result<T> {
        let mut writer = locked(&self.writer);
        let begin = writer
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|e| error("cannot begin a state change", e))?;
        let tx = Tx { db: &begin, emitted: RefCell::new(Vec::new()) };
        let value = body(&tx)?;
        let emitted = tx.emitted.into_inner();
        let stored = events::append(&begin, emitted)?;
        begin.commit().map_err(|e| error("cannot commit a state change", e))?;
        done(&value);
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
        self.readers.read(|db| body(&Tx { db, emitted: RefCell::new(Vec::new()) }))
    }

    /// Makes all commits so far survive a power cut.
    ///
    /// # Errors
    /// `Internal` or `Exhausted` from the disk.
    pub fn flush(&self) -> Result<()> {
        SETTINGS.sync(&self.path)
    }

    /// Holds space so that changes are still noted when others have filled the disk; to be called now and then.
    ///
    /// # Errors
    /// `Exhausted` when it is full already.
    pub fn reserve(&self) -> Result<()> {
        SETTINGS.reserve(&mut locked(&self.writer), &self.path, RESERVE_BYTES)
    }

    /// Faults that SQLite finds in the file, empty when it is sound.
    ///
    /// # Errors
    /// `Internal` when the check itself cannot run.
    pub fn check(&self) -> Result<Vec<String>> {
        SETTINGS.check(&locked(&self.writer))
    }
}

impl Tx<'_> {
    /// Keeps `event` with this transaction and publishes it after the commit.
    pub fn emit(&self, event: Event) {
        self.emitted.borrow_mut().push(event);
    }
}

pub(crate) fn encode<T: serde::Serialize>(what: &str, value: &T) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|e| Error::internal(format!("cannot encode {what}")).caused_by(e))
}

pub(crate) fn decode<T: serde::de::DeserializeOwned>(what: &str, text: &str) -> Result<T> {
    serde_json::from_str(text)
        .map_err(|e| Error::internal(format!("cannot read {what} from the store")).caused_by(e))
}

#[cfg(test)]
mod tests;
