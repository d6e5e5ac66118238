//! The one file of metadata, and the one thread that writes it.
//!
//! Flow: [`Database::write`] hands a closure to the writer, which runs whatever has queued up meanwhile in
//! one transaction, each closure in a savepoint of its own, commits once (`synchronous=FULL`, one flush of
//! the disk for all), and only then tells every caller. [`Database::later`] is for facts whose writing
//! nobody waits for; they go with the next commit, at most [`LATER`] afterwards. [`Database::read`] sees
//! one consistent snapshot and never waits for the writer.
//!
//! Invariants: what was acknowledged survives a power cut; a closure that fails leaves nothing; the order
//! of commits is the order of the queue. Other processes (the administrator's commands) write to the same
//! file under SQLite's lock.
//! Not here: what the rows mean.

use base::{Error, Kind, Result};
use rusqlite::{Connection, TransactionBehavior};
use sqlite::{Readers, Settings, error, locked};
use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};

pub(super) static SETTINGS: Settings = Settings {
    name: "registry's database",
    busy: Duration::from_secs(20),
    statements: 128,
    synchronous: "FULL",
    cache_kib: 4096,
    readers: 8,
};

/// Changes that wait for the writer, at most; more make their senders wait.
const QUEUE: usize = 1024;
/// Changes in one commit, at most, so that the first of them is not kept waiting for long.
const BATCH: usize = 128;
/// What nobody waits for is written after this time at the latest.
const LATER: Duration = Duration::from_millis(50);
/// Facts that wait to be written, at most.
const LATER_QUEUE: usize = 4096;

type Finish = Box<dyn FnOnce(Result<(), &str>) + Send>;
type Job = Box<dyn FnOnce(&Connection) -> Finish + Send>;

/// A transaction, or a snapshot that is read.
pub struct Tx<'c> {
    pub(crate) db: &'c Connection,
}

impl fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tx")
    }
}

impl sqlite::Statements for Tx<'_> {
    fn connection(&self) -> &Connection {
        self.db
    }
}

/// The metadata file.
#[derive(Debug)]
pub struct Database {
    path: PathBuf,
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    queue: Mutex<Option<mpsc::Sender<Job>>>,
    later: Mutex<Vec<Job>>,
    readers: Readers,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("readers", &self.readers).finish_non_exhaustive()
    }
}

impl Database {
    /// Opens or creates the file at `path` and brings its schema up to date.
    ///
    /// # Errors
    /// `Internal` when it cannot be opened, is no database, or was written by a newer Gantry.
    pub fn open(path: &Path) -> Result<Self> {
        let db = SETTINGS.open(path, super::schema::MIGRATIONS)?;
        let (queue, jobs) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared {
            queue: Mutex::new(Some(queue)),
            later: Mutex::new(Vec::new()),
            readers: Readers::new(path, &SETTINGS),
        });
        let (at, name) = (Arc::clone(&shared), "registry-writer".to_owned());
        let writer = std::thread::Builder::new()
            .name(name)
            .spawn(move || Writer { db, shared: at }.run(jobs))
            .map_err(|e| Error::io("cannot start the database's writer", e))?;
        Ok(Self { path: path.to_owned(), shared, writer: Mutex::new(Some(writer)) })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `body` in a transaction; returns when it is on disk.
    ///
    /// # Errors
    /// Those of `body`, which then has changed nothing; `Exhausted` when the disk is full.
    ///
    /// # Cancel safety
    /// The change happens even if the caller stops waiting.
    pub async fn write<T: Send + 'static>(
        &self,
        body: impl FnOnce(&Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (done, answer) = oneshot::channel();
        let queue = locked(&self.shared.queue).clone().ok_or_else(closed)?;
        queue.send(job(body, done)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// As [`Database::write`], for callers that are not async.
    ///
    /// # Errors
    /// As there.
    pub fn write_now<T: Send + 'static>(
        &self,
        body: impl FnOnce(&Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (done, answer) = oneshot::channel();
        let queue = locked(&self.shared.queue).clone().ok_or_else(closed)?;
        queue.blocking_send(job(body, done)).map_err(|_| closed())?;
        answer.blocking_recv().map_err(|_| closed())?
    }

    /// Runs `body` with one of the next commits; nobody is told of its failure but the log.
    pub fn later(&self, body: impl FnOnce(&Tx<'_>) -> Result<()> + Send + 'static) {
        let job: Job = Box::new(move |db| {
            let outcome = guarded(db, body);
            Box::new(move |commit| {
                if let Some(err) =
                    outcome.err().map(|e| e.chain()).or(commit.err().map(str::to_owned))
                {
                    tracing::warn!(err, "a fact was not written down");
                }
            })
        });
        let waiting = {
            let mut later = locked(&self.shared.later);
            if later.len() >= LATER_QUEUE {
                tracing::warn!("too many facts wait to be written down; one is lost");
                return;
            }
            later.push(job);
            later.len()
        };
        // The first of them brings the writer, which takes all that came meanwhile.
        let Some(queue) = locked(&self.shared.queue).clone() else { return };
        if waiting == 1 {
            // Weak: a task that sleeps must not keep the writer from its end.
            let queue = queue.downgrade();
            tokio::task::spawn(async move {
                tokio::time::sleep(LATER).await;
                if let Some(queue) = queue.upgrade() {
                    let _ = queue.send(nothing()).await;
                }
            });
        } else if waiting == LATER_QUEUE / 2 {
            let _ = queue.try_send(nothing());
        }
    }

    /// Runs `body` over a snapshot, on a thread that may wait for the disk.
    ///
    /// # Errors
    /// Those of `body`.
    pub async fn read<T: Send + 'static>(
        &self,
        body: impl FnOnce(&Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || shared.read(body))
            .await
            .map_err(|e| Error::internal("reading the database ended early").caused_by(e))?
    }

    /// As [`Database::read`], on this thread.
    ///
    /// # Errors
    /// Those of `body`.
    pub fn read_now<T>(&self, body: impl FnOnce(&Tx<'_>) -> Result<T>) -> Result<T> {
        self.shared.read(body)
    }

    /// Writes a copy of the whole database, consistent while the server goes on writing, to `to`, which
    /// must not exist.
    ///
    /// # Errors
    /// `Conflict` when `to` exists; of the disk.
    pub fn copy_to(&self, to: &Path) -> Result<()> {
        if to.exists() {
            return Err(Error::conflict(format!("{} exists already", to.display())));
        }
        let text = to
            .to_str()
            .ok_or_else(|| Error::invalid(format!("{} is not a text path", to.display())))?
            .to_owned();
        let copied = self.shared.readers.open()?.execute("VACUUM INTO ?1", [text]);
        copied.map(drop).map_err(|e| error("cannot read the registry's database", e))
    }

    /// Faults that SQLite finds in the file, empty when it is sound.
    ///
    /// # Errors
    /// When the check itself cannot run.
    pub fn check(&self) -> Result<Vec<String>> {
        SETTINGS.check(&self.shared.readers.open()?)
    }

    /// Writes what is queued and stops the writer; later changes fail.
    pub fn close(&self) {
        locked(&self.shared.queue).take();
        if let Some(writer) = locked(&self.writer).take()
            && writer.join().is_err()
        {
            tracing::error!("the database's writer had panicked");
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn read<T>(&self, body: impl FnOnce(&Tx<'_>) -> Result<T>) -> Result<T> {
        self.readers.read(|db| body(&Tx { db }))
    }
}

struct Writer {
    db: Connection,
    shared: Arc<Shared>,
}

impl Writer {
    fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = jobs.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH
                && let Ok(next) = jobs.try_recv()
            {
                batch.push(next);
            }
            batch.append(&mut locked(&self.shared.later));
            self.commit(batch);
        }
        let rest = std::mem::take(&mut *locked(&self.shared.later));
        if !rest.is_empty() {
            self.commit(rest);
        }
    }

    fn commit(&mut self, batch: Vec<Job>) {
        let mut told = Vec::with_capacity(batch.len());
        let outcome = self.try_commit(batch, &mut told);
        let failed = outcome.as_ref().err().map(String::as_str);
        for finish in told {
            finish(failed.map_or(Ok(()), Err));
        }
    }

    fn try_commit(&mut self, batch: Vec<Job>, told: &mut Vec<Finish>) -> Result<(), String> {
        let text = |e: rusqlite::Error| e.to_string();
        let tx = match self.db.transaction_with_behavior(TransactionBehavior::Immediate) {
            Ok(tx) => tx,
            Err(err) => {
                // Nothing can be written: every caller is told, none of the closures is run for good.
                drop(batch);
                return Err(text(err));
            }
        };
        for job in batch {
            told.push(job(&tx));
        }
        tx.commit().map_err(text)
    }
}

/// One closure as a job: run in a savepoint, its caller told after the commit.
fn job<T: Send + 'static>(
    body: impl FnOnce(&Tx<'_>) -> Result<T> + Send + 'static,
    done: oneshot::Sender<Result<T>>,
) -> Job {
    Box::new(move |db| {
        let outcome = guarded(db, body);
        Box::new(move |commit| {
            let outcome = match commit {
                Ok(()) => outcome,
                Err(text) => outcome.and(Err(commit_failed(text))),
            };
            // A caller that went away does not want to know.
            let _ = done.send(outcome);
        })
    })
}

fn nothing() -> Job {
    Box::new(|_| Box::new(|_| ()))
}

fn guarded<T>(db: &Connection, body: impl FnOnce(&Tx<'_>) -> Result<T>) -> Result<T> {
    let point = |sql: &str| {
        db.prepare_cached(sql)
            .and_then(|mut s| s.execute([]).map(drop))
            .map_err(|e| error("cannot change the database", e))
    };
    point("SAVEPOINT one")?;
    let outcome = catch_unwind(AssertUnwindSafe(|| body(&Tx { db })))
        .unwrap_or_else(|_| Err(Error::internal("a change of the database panicked")));
    if outcome.is_err() {
        point("ROLLBACK TO one")?;
    }
    point("RELEASE one")?;
    outcome
}

fn commit_failed(text: &str) -> Error {
    let full = text.contains("full") || text.contains("disk I/O");
    let kind = if full { Kind::Exhausted } else { Kind::Internal };
    Error::new(kind, format!("cannot commit to the registry's database: {text}"))
}

fn closed() -> Error {
    Error::unavailable("the registry's database could not take the change")
}

impl Tx<'_> {
    /// The row that the last insertion made.
    pub(crate) fn last_id(&self) -> i64 {
        self.db.last_insert_rowid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlite::Statements as _;

    fn database() -> (tempfile::TempDir, Database) {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(&dir.path().join("registry.db")).unwrap();
        (dir, db)
    }

    fn put(key: &'static str) -> impl FnOnce(&Tx<'_>) -> Result<()> + Send + 'static {
        move |tx| tx.run("put", "INSERT INTO facts VALUES (?1, 'x')", [key]).map(drop)
    }

    fn count(db: &Database) -> i64 {
        db.read_now(|tx| tx.one("count", "SELECT count(*) FROM facts", [], |r| r.get(0)))
            .unwrap()
            .unwrap()
    }

    #[tokio::test]
    async fn a_change_that_fails_or_panics_leaves_nothing_and_takes_no_other_with_it() {
        let (_dir, db) = database();
        let (good, bad, ugly) = tokio::join!(
            db.write(put("a")),
            db.write(|tx| {
                put("b")(tx)?;
                Err::<(), _>(Error::invalid("no"))
            }),
            db.write(|tx| {
                put("c")(tx)?;
                if count_in(tx) > 0 {
                    panic!("a test's panic");
                }
                Ok(())
            }),
        );
        good.unwrap();
        assert_eq!(bad.unwrap_err().to_string(), "no");
        assert_eq!(ugly.unwrap_err().kind(), Kind::Internal);
        assert_eq!(count(&db), 1);
    }

    fn count_in(tx: &Tx<'_>) -> i64 {
        tx.one("count", "SELECT count(*) FROM facts", [], |r| r.get(0)).unwrap().unwrap()
    }

    #[tokio::test]
    async fn facts_for_later_go_with_the_next_commit_or_the_close() {
        let (dir, db) = database();
        db.later(put("later"));
        db.write(put("now")).await.unwrap();
        assert_eq!(count(&db), 2);
        db.later(put("last"));
        db.close();
        assert!(db.write(put("too late")).await.is_err());
        assert_eq!(count(&Database::open(&dir.path().join("registry.db")).unwrap()), 3);
    }

    #[tokio::test]
    async fn a_copy_is_whole_and_sound() {
        let (dir, db) = database();
        db.write(put("a")).await.unwrap();
        let to = dir.path().join("copy.db");
        db.copy_to(&to).unwrap();
        assert!(db.copy_to(&to).is_err());
        assert_eq!(count(&Database::open(&to).unwrap()), 1);
        assert!(db.check().unwrap().is_empty());
    }
}
