//! What the server does by itself: garbage collection, dropping what has expired, looking for stray objects.
//!
//! Every round takes no input but what it finds, may be cut off at any point, and may be run twice. Pushes
//! and pulls go on meanwhile: a round works in short transactions.

use crate::{
    events,
    http::{REFRESH_LIFE, Site},
    meta::{Database, Reviewed},
    storage::Storage,
};
use base::{Result, Timestamp};
use futures_util::TryStreamExt as _;
use std::{sync::Arc, time::Duration};

/// Links that are reviewed in one transaction.
const REVIEWS: usize = 200;
/// Objects that are deleted between two notes of it.
const DELETIONS: usize = 64;
/// Old records that are dropped in one transaction.
const RECORDS: usize = 1000;
/// An object that nobody knows is no stray before this age: its row may be on its way.
const STRAY_AGE: Duration = Duration::from_secs(3600);
/// Objects that were stored this long before our start may be another process's, which imports.
const MARGIN: Duration = Duration::from_secs(60);
/// Looks for strays after the start, and the pause between all further ones.
const STRAYS_AT: [Duration; 2] = [Duration::ZERO, Duration::from_secs(600)];
const STRAYS_EVERY: Duration = Duration::from_secs(86_400);
/// Objects in the log of deletions rest this long, for those who read them.
const REST: Duration = Duration::from_secs(60);

/// What the server does by itself, and when.
#[derive(Clone, Copy, Debug)]
pub struct Upkeep {
    /// Pause between two rounds.
    pub every: Duration,
    /// Records are kept for this time.
    pub audit: Duration,
}

/// What a collection did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Links and blobs taken away.
    pub reviewed: Reviewed,
    /// Objects deleted from storage.
    pub deleted: usize,
    /// Objects that could not be deleted yet.
    pub failed: usize,
}

/// Reviews every link that is due at `now`, then deletes the objects of blobs that went.
///
/// # Errors
/// Of the database. Storage that does not delete is no error: the log keeps what is left to do.
pub async fn collect(
    database: &Database,
    storage: &dyn Storage,
    now: Timestamp,
    rest: Duration,
) -> Result<Collected> {
    let mut done = Collected::default();
    loop {
        let round = database.write(move |tx| tx.review(now, REVIEWS)).await?;
        done.reviewed.add(round);
        if round.seen < REVIEWS {
            break;
        }
    }
    let mut tried = std::collections::HashSet::new();
    loop {
        let limit = DELETIONS + tried.len();
        let places = database.read(move |tx| tx.trash(now, rest, limit)).await?;
        let places: Vec<String> = places.into_iter().filter(|p| !tried.contains(p)).collect();
        if places.is_empty() {
            return Ok(done);
        }
        let (mut gone, mut stuck) = (Vec::new(), Vec::new());
        for place in places {
            match storage.remove(&place).await {
                Ok(()) => gone.push(place),
                Err(err) => {
                    tracing::warn!(place, err = err.chain(), "an object is not deleted yet");
                    tried.insert(place.clone());
                    stuck.push(place);
                }
            }
        }
        done.deleted += gone.len();
        done.failed += stuck.len();
        database
            .write(move |tx| {
                tx.emptied(&gone)?;
                tx.not_emptied(&stuck)
            })
            .await?;
        if done.failed >= DELETIONS {
            // Storage is away: the next round tries again.
            return Ok(done);
        }
    }
}

/// Deletes objects in storage that no row knows and that are older than `age`: what a server left that was
/// killed between storing and writing it down. How many.
///
/// # Errors
/// Of storage and database.
pub async fn remove_strays(
    database: &Database,
    storage: &dyn Storage,
    age: Duration,
    storing: impl Fn(&str) -> bool,
) -> Result<usize> {
    let before = Timestamp::now().minus(age);
    let mut objects = storage.list();
    let mut removed = 0;
    while let Some(object) = objects.try_next().await? {
        if object.modified > before || storing(&object.place) {
            continue;
        }
        let place = object.place.clone();
        if !database.read(move |tx| tx.knows_place(&place)).await? {
            storage.remove(&object.place).await?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Runs rounds until the site stops.
pub(crate) async fn run(site: Arc<Site>, settings: Upkeep) {
    let began = Timestamp::now();
    let mut looks = STRAYS_AT.into_iter().map(|after| tokio::time::Instant::now() + after);
    let mut next_look = looks.next();
    loop {
        if let Err(err) = round(&site, settings).await {
            tracing::warn!(err = err.chain(), "upkeep did not come to its end");
        }
        if next_look.is_some_and(|at| at <= tokio::time::Instant::now()) {
            look_for_strays(&site, began).await;
            next_look =
                looks.next().or_else(|| tokio::time::Instant::now().checked_add(STRAYS_EVERY));
        }
        tokio::select! {
            () = tokio::time::sleep(settings.every) => {}
            () = site.stop.cancelled() => return,
        }
    }
}

async fn look_for_strays(site: &Site, began: Timestamp) {
    // On our own disk, what is older than our start is nobody's; elsewhere clocks may differ.
    let ours = Timestamp::now().since(began) + MARGIN;
    let age = if site.storage.multipart().is_some() { STRAY_AGE } else { STRAY_AGE.min(ours) };
    let storing = |place: &str| site.uploads.is_storing(place);
    match remove_strays(&site.database, &*site.storage, age, storing).await {
        Ok(0) => {}
        Ok(count) => tracing::info!(count, "stray objects removed"),
        Err(err) => tracing::warn!(err = err.chain(), "cannot look for stray objects"),
    }
}

async fn round(site: &Site, settings: Upkeep) -> Result<()> {
    let now = Timestamp::now();
    let done = collect(&site.database, &*site.storage, now, REST).await?;
    if done.reviewed.unlinked > 0 || done.deleted > 0 {
        let (links, blobs, bytes) =
            (done.reviewed.unlinked, done.reviewed.blobs, done.reviewed.bytes);
        tracing::info!(links, blobs, bytes, deleted = done.deleted, "collected");
    }
    site.metrics.collected_blobs.inc_by(done.reviewed.blobs as u64);
    site.metrics.collected_bytes.inc_by(done.reviewed.bytes);
    let dropped = site.uploads.sweep().await?;
    if dropped > 0 {
        tracing::info!(dropped, "uploads expired");
    }
    let before = now.minus(settings.audit);
    while site.database.write(move |tx| tx.expire_audits(before, RECORDS)).await? == RECORDS {}
    let names = site.events.names();
    let lost = site
        .database
        .write(move |tx| {
            tx.expire_refresh_tokens(now.minus(REFRESH_LIFE))?;
            tx.bound_outbox(&names, events::OUTBOX)
        })
        .await?;
    if lost > 0 {
        tracing::warn!(lost, "notifications were dropped: their endpoint does not take them");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        meta::{Grace, NewBlob},
        storage::Files,
    };
    use base::Digest;

    #[tokio::test]
    async fn a_collection_deletes_objects_after_their_rows_and_strays_without() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(&dir.path().join("r.db")).unwrap();
        let storage = Files::open(&dir.path().join("blobs")).unwrap();
        let digest = Digest::sha256(b"x");
        let keep = async |upload: &str| {
            let (spool, place) = (dir.path().join("s"), storage.place(&digest, upload));
            std::fs::write(&spool, b"x").unwrap();
            storage.keep(&spool, &place).await.unwrap();
            place
        };
        let (place, stray) = (keep("a").await, keep("b").await);
        let (now, grace) = (Timestamp::now(), Grace(Duration::from_secs(10)));
        let (new, wanted) = (NewBlob::Stored { place: place.clone(), size: 1 }, digest.clone());
        database.write(move |tx| tx.add_blob("a", &wanted, &new, now, grace)).await.unwrap();

        let no = |_: &str| false;
        let early = collect(&database, &storage, now, Duration::ZERO).await.unwrap();
        assert_eq!(early, Collected::default());
        assert_eq!(remove_strays(&database, &storage, STRAY_AGE, no).await.unwrap(), 0);
        assert_eq!(remove_strays(&database, &storage, Duration::ZERO, no).await.unwrap(), 1);
        assert_eq!(storage.size(&stray).await.unwrap(), None);
        assert_eq!(storage.size(&place).await.unwrap(), Some(1));

        let later = now.plus(Duration::from_secs(11));
        let done = collect(&database, &storage, later, Duration::ZERO).await.unwrap();
        assert_eq!((done.reviewed.blobs, done.reviewed.bytes, done.deleted), (1, 1, 1));
        assert_eq!(storage.size(&place).await.unwrap(), None);
    }
}
