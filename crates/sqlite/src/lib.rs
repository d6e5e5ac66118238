//! What every SQLite file of ours is opened, migrated, read and written with.
//!
//! Invariants: reading sees one snapshot and never waits for a writer (WAL); a file that a newer Gantry wrote is refused;
//! full disk and taken keys are told apart from faults.
//! Source: SQLite, "Write-Ahead Logging", "PRAGMA user_version".
//! Not here: tables, and how changes are ordered.

use base::{Error, Kind, Result};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, TransactionBehavior};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// The log is written back after 1000 pages (4 MiB) and the change that reaches that many.
const LOG_MARGIN: u64 = 1 << 20;

/// How a file is opened.
#[derive(Debug)]
pub struct Settings {
    /// What messages call it: `state database`.
    pub name: &'static str,
    /// How long another connection may hold the lock.
    pub busy: Duration,
    /// Prepared statements kept by each connection.
    pub statements: usize,
    /// `NORMAL`: a commit survives the death of the process; `FULL`: also a power cut.
    pub synchronous: &'static str,
    /// Pages that each connection keeps in memory, in KiB.
    pub cache_kib: i32,
    /// Connections kept for reading.
    pub readers: usize,
}

impl Settings {
    fn failed(&self, what: &str, path: &Path) -> impl Fn(rusqlite::Error) -> Error {
        let text = format!("cannot {what} the {} {}", self.name, path.display());
        move |e| error(&text, e)
    }

    fn configure(&self, db: &Connection) -> rusqlite::Result<()> {
        db.busy_timeout(self.busy)?;
        db.set_prepared_statement_cache_capacity(self.statements);
        db.pragma_update(None, "synchronous", self.synchronous)?;
        db.pragma_update(None, "foreign_keys", true)?;
        db.pragma_update(None, "temp_store", "MEMORY")?;
        db.pragma_update(None, "cache_size", -self.cache_kib)
    }

    /// Opens or creates the file for writing and brings its schema up to date: one of `migrations` per version, in order,
    /// each in its own transaction.
    ///
    /// # Errors
    /// `Internal` when it cannot be opened, is no database, or was written by a newer Gantry.
    pub fn open(&self, path: &Path, migrations: &[&str]) -> Result<Connection> {
        let open = self.failed("open", path);
        let mut db = Connection::open(path).map_err(&open)?;
        self.configure(&db).map_err(&open)?;
        db.pragma_update(None, "journal_mode", "WAL").map_err(&open)?;
        self.migrate(&mut db, migrations)?;
        Ok(db)
    }

    /// Brings `db` to the newest version; two processes may do so at once.
    ///
    /// # Errors
    /// `Internal` when a newer Gantry wrote it, or a step fails.
    pub fn migrate(&self, db: &mut Connection, migrations: &[&str]) -> Result<()> {
        let fail = |e| error(&format!("cannot migrate the {}", self.name), e);
        let version = |db: &Connection| -> rusqlite::Result<usize> {
            db.pragma_query_value(None, "user_version", |row| row.get(0))
        };
        let found = version(db).map_err(fail)?;
        if found > migrations.len() {
            return Err(Error::internal(format!(
                "the {} has schema version {found}, this Gantry knows up to {}: start the newer Gantry that wrote it",
                self.name,
                migrations.len()
            )));
        }
        for (at, step) in migrations.iter().enumerate().skip(found) {
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail)?;
            // Another process may have been faster.
            if version(&tx).map_err(fail)? > at {
                continue;
            }
            tx.execute_batch(step).map_err(fail)?;
            tx.pragma_update(None, "user_version", at + 1).map_err(fail)?;
            tx.commit().map_err(fail)?;
        }
        Ok(())
    }

    /// Makes all commits so far survive a power cut. Not by a checkpoint, which syncs nothing while somebody still reads
    /// what was there before.
    ///
    /// # Errors
    /// `Internal` or `Exhausted` from the disk.
    pub fn sync(&self, path: &Path) -> Result<()> {
        let log = PathBuf::from(format!("{}-wal", path.display()));
        let synced = match std::fs::File::open(&log) {
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => std::fs::File::open(path),
            opened => opened,
        };
        synced
            .and_then(|file| file.sync_data())
            .map_err(|e| Error::io(format!("cannot sync the {} {}", self.name, path.display()), e))
    }

    /// Holds so many bytes of disk (4 MiB at least) for small changes, which then go on when others have filled it: behind the end of the
    /// log, where the kernel keeps blocks, and as pages within the file that are free again. (Blocks behind the end of
    /// the file itself go with every checkpoint, which cuts the file to its size.) What is held already costs nothing.
    ///
    /// # Errors
    /// `Exhausted` when the disk is full already.
    pub fn reserve(&self, db: &mut Connection, path: &Path, bytes: u32) -> Result<()> {
        let fail = self.failed("hold space for", path);
        let log = PathBuf::from(format!("{}-wal", path.display()));
        let held = std::fs::File::options().write(true).open(&log).and_then(|log| {
            let keep = rustix::fs::FallocateFlags::KEEP_SIZE;
            Ok(rustix::fs::fallocate(log, keep, 0, u64::from(bytes) + LOG_MARGIN)?)
        });
        match held {
            // A file system that cannot do so gives what it has when it is asked.
            Err(err) if err.kind() == std::io::ErrorKind::Unsupported => {}
            // The log comes with the first change.
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => {}
            Err(err) => {
                return Err(Error::io(format!("cannot hold space for {}", log.display()), err));
            }
            Ok(()) => {}
        }
        let number = |name| db.pragma_query_value(None, name, |row| row.get::<_, u32>(0));
        let free = number("freelist_count").map_err(&fail)?;
        let page = number("page_size").map_err(&fail)?;
        let missing = bytes.saturating_sub(free.saturating_mul(page));
        if missing < bytes / 2 {
            return Ok(());
        }
        // Two transactions: pages that one writes and frees are never written.
        let hold = "CREATE TABLE IF NOT EXISTS reserve (held BLOB)";
        db.execute(hold, [])
            .and_then(|_| db.execute("INSERT INTO reserve VALUES (zeroblob(?1))", [missing]))
            .and_then(|_| db.execute("DROP TABLE reserve", []))
            // So that the log begins anew within what is held.
            .and_then(|_| db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())))
            .map_err(fail)
    }

    /// Faults that SQLite finds in the file, empty when it is sound.
    ///
    /// # Errors
    /// `Internal` when the check itself cannot run.
    pub fn check(&self, db: &Connection) -> Result<Vec<String>> {
        let run = || -> rusqlite::Result<Vec<String>> {
            let mut check = db.prepare("PRAGMA integrity_check(100)")?;
            check.query_map([], |row| row.get::<_, String>(0))?.collect()
        };
        let found = run().map_err(|e| error(&format!("cannot check the {}", self.name), e))?;
        Ok(found.into_iter().filter(|line| line != "ok").collect())
    }
}

/// Connections that only read.
pub struct Readers {
    path: PathBuf,
    settings: &'static Settings,
    idle: Mutex<Vec<Connection>>,
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readers").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Readers {
    /// Readers of the file at `path`, opened as they are needed.
    pub fn new(path: &Path, settings: &'static Settings) -> Self {
        Self { path: path.to_owned(), settings, idle: Mutex::new(Vec::new()) }
    }

    /// A connection of the caller's own.
    ///
    /// # Errors
    /// `Internal` when the file cannot be opened.
    pub fn open(&self) -> Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Connection::open_with_flags(&self.path, flags)
            .and_then(|db| self.settings.configure(&db).map(|()| db))
            .map_err(self.settings.failed("open", &self.path))
    }

    /// Runs `body` over one consistent snapshot, without waiting for writers.
    ///
    /// # Errors
    /// Those of `body`.
    pub fn read<T>(&self, body: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let pooled = locked(&self.idle).pop();
        let mut reader = match pooled {
            Some(reader) => reader,
            None => self.open()?,
        };
        let value = {
            let begin =
                reader.transaction().map_err(self.settings.failed("begin reading", &self.path))?;
            body(&begin)
        };
        let mut idle = locked(&self.idle);
        if idle.len() < self.settings.readers {
            idle.push(reader);
        }
        value
    }
}

/// Locks what a panic cannot have left half changed: a transaction that panics is rolled back.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Turns SQLite's error into ours: full disk and taken keys are told apart from faults.
pub fn error(tried: &str, err: rusqlite::Error) -> Error {
    let kind = match err.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull | rusqlite::ErrorCode::OutOfMemory) => Kind::Exhausted,
        Some(rusqlite::ErrorCode::ConstraintViolation) => Kind::Conflict,
        _ => Kind::Internal,
    };
    Error::new(kind, tried).caused_by(err)
}

/// The three calls that every table is written with. `what` is what was tried: "cannot store the volume".
pub trait Statements {
    /// The connection, inside its transaction.
    fn connection(&self) -> &Connection;

    /// Changes rows, and says how many.
    ///
    /// # Errors
    /// SQLite's, as [`error`] tells them.
    fn run(&self, what: &str, sql: &str, params: impl rusqlite::Params) -> Result<usize> {
        let run = || self.connection().prepare_cached(sql)?.execute(params);
        run().map_err(|e| error(what, e))
    }

    /// The first row, if there is one.
    ///
    /// # Errors
    /// SQLite's, as [`error`] tells them.
    fn one<T>(
        &self,
        what: &str,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        let run = || self.connection().prepare_cached(sql)?.query_row(params, read).optional();
        run().map_err(|e| error(what, e))
    }

    /// All rows.
    ///
    /// # Errors
    /// SQLite's, as [`error`] tells them.
    fn many<T>(
        &self,
        what: &str,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let run = || {
            self.connection()
                .prepare_cached(sql)?
                .query_map(params, read)?
                .collect::<rusqlite::Result<Vec<_>>>()
        };
        run().map_err(|e| error(what, e))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "these are tests")]

    use super::*;

    static SETTINGS: Settings = Settings {
        name: "test's database",
        busy: Duration::from_secs(5),
        statements: 8,
        synchronous: "NORMAL",
        cache_kib: 64,
        readers: 1,
    };
    const STEPS: &[&str] =
        &["CREATE TABLE a (n INTEGER PRIMARY KEY);", "INSERT INTO a VALUES (1);"];

    struct Tx<'c>(&'c Connection);

    impl Statements for Tx<'_> {
        fn connection(&self) -> &Connection {
            self.0
        }
    }

    #[test]
    fn a_file_is_migrated_once_and_a_newer_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        drop(SETTINGS.open(&path, &STEPS[..1]).unwrap());
        drop(SETTINGS.open(&path, STEPS).unwrap());
        let db = SETTINGS.open(&path, STEPS).unwrap();
        let count = Tx(&db).one("count", "SELECT count(*) FROM a", [], |r| r.get::<_, i64>(0));
        assert_eq!(count.unwrap(), Some(1));
        assert!(SETTINGS.check(&db).unwrap().is_empty());
        let err = SETTINGS.open(&path, &STEPS[..1]).unwrap_err();
        assert!(err.to_string().contains("schema version 2, this Gantry knows up to 1"), "{err}");
    }

    #[test]
    fn small_changes_go_on_when_others_have_filled_the_disk() {
        let mounted = Mounted::new();
        let path = mounted.0.path().join("db");
        let mut db = SETTINGS.open(&path, STEPS).unwrap();
        SETTINGS.reserve(&mut db, &path, 4 << 20).unwrap();
        let insert = |db: &Connection, n: u32| {
            Tx(db).run("insert", "INSERT INTO a VALUES (?1)", [n]).map(drop)
        };
        let filler = mounted.0.path().join("filler");
        let mut full = std::fs::File::create(&filler).unwrap();
        while std::io::Write::write(&mut full, &[1; 4096]).is_ok_and(|n| n > 0) {}
        // Beyond what the log holds before it begins anew: 1000 pages.
        for n in 10..3000 {
            insert(&db, n).unwrap();
        }
        // Nothing is held anew while most is there.
        SETTINGS.reserve(&mut db, &path, 4 << 20).unwrap();
        drop((full, db));
        assert!(SETTINGS.check(&SETTINGS.open(&path, STEPS).unwrap()).unwrap().is_empty());
    }

    /// A small disk of memory.
    struct Mounted(tempfile::TempDir);

    impl Mounted {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let flags = rustix::mount::MountFlags::empty();
            rustix::mount::mount("test", dir.path(), "tmpfs", flags, c"size=32m").unwrap();
            Self(dir)
        }
    }

    impl Drop for Mounted {
        fn drop(&mut self) {
            rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
        }
    }

    #[test]
    fn reading_sees_one_snapshot_and_taken_keys_are_conflicts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let db = SETTINGS.open(&path, STEPS).unwrap();
        let readers = Readers::new(&path, &SETTINGS);
        let count = |db: &Connection| {
            Tx(db).one("count", "SELECT count(*) FROM a", [], |r| r.get::<_, i64>(0)).unwrap()
        };
        readers
            .read(|snapshot| {
                assert_eq!(count(snapshot), Some(1));
                Tx(&db).run("insert", "INSERT INTO a VALUES (?1)", [2]).unwrap();
                assert_eq!(count(snapshot), Some(1));
                Ok(())
            })
            .unwrap();
        let all =
            readers.read(|db| Tx(db).many("list", "SELECT n FROM a", [], |r| r.get::<_, i64>(0)));
        assert_eq!(all.unwrap(), [1, 2]);
        let err = Tx(&db).run("insert", "INSERT INTO a VALUES (?1)", [2]).unwrap_err();
        assert_eq!((err.kind(), err.to_string().as_str()), (Kind::Conflict, "insert"));
    }
}
