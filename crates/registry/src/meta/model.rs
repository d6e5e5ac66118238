//! Pushers, pullers, deleters and the sweeper, interleaved at random, one transaction at a time.
//!
//! The database lets one transaction run after the other, so an interleaving is an order of transactions
//! and of the steps on storage between them: that is what is drawn here. Storage is a set of places; the
//! sweeper, and a pusher between storing and writing down, may be killed at any step; the clock may jump by days,
//! both ways. After every step: what a
//! client was told is there is there, with all its blobs' bytes. At the end, when everybody has stopped and
//! the grace time is over, nothing is left that no manifest needs.

use super::{Database, Grace, NewBlob, NewManifest, Place, Put, Tx, Unlink};
use crate::{
    manifest::{self, Manifest},
    name::{Reference, Repository, Tag},
};
use base::{Digest, Timestamp};
use rusqlite::Connection;
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::Duration,
};

/// All seeds together.
const STEPS: u32 = 1_000_000;
const SEEDS: u64 = 8;
const GRACE: Grace = Grace(Duration::from_secs(100));
const REPOSITORIES: [&str; 3] = ["a", "b/c", "d"];
const BLOBS: usize = 12;
const TAGS: [&str; 3] = ["x", "y", "z"];

/// xorshift64*, so that a seed says all.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % sides
    }

    fn pick<'t, T>(&mut self, of: &'t [T]) -> &'t T {
        &of[self.roll(of.len())]
    }
}

/// What one pusher is doing.
#[derive(Clone)]
enum Pusher {
    Idle,
    /// Bringing blobs in one by one, then the manifest.
    Pushing(Push),
    /// Its object is stored and not written down.
    Stored {
        blob: usize,
        place: String,
        then: Push,
    },
}

#[derive(Clone)]
struct Push {
    repository: usize,
    todo: Vec<usize>,
    blobs: Vec<usize>,
    since: Timestamp,
    /// Somebody has deleted a blob from under it, or the clock has jumped meanwhile.
    robbed: bool,
}

struct World {
    db: Connection,
    dice: Dice,
    now: Timestamp,
    /// The latest that the clock has ever shown.
    latest: Timestamp,
    digests: Vec<Digest>,
    storage: BTreeSet<String>,
    /// Objects of killed pushers, which only a look for strays finds.
    strays: BTreeSet<String>,
    pushers: Vec<Pusher>,
    /// Manifests that clients were told are there: repository and digest, with their blobs.
    promised: BTreeMap<(usize, Digest), Vec<usize>>,
    /// What the sweeper has taken from the log and not deleted yet.
    sweeping: Vec<String>,
    places: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut db = Connection::open_in_memory().unwrap();
        super::database::SETTINGS.migrate(&mut db, super::schema::MIGRATIONS).unwrap();
        db.set_prepared_statement_cache_capacity(200);
        db.pragma_update(None, "foreign_keys", true).unwrap();
        db.execute_batch("BEGIN").unwrap();
        Self {
            db,
            dice: Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            now: Timestamp::from_unix(1_000_000_000, 0),
            latest: Timestamp::from_unix(1_000_000_000, 0),
            digests: (0..BLOBS).map(|n| Digest::sha256(&[n as u8])).collect(),
            storage: BTreeSet::new(),
            strays: BTreeSet::new(),
            pushers: vec![Pusher::Idle; 3],
            promised: BTreeMap::new(),
            sweeping: Vec::new(),
            places: 0,
        }
    }

    fn tx(&self) -> Tx<'_> {
        Tx { db: &self.db }
    }

    fn step(&mut self) {
        self.now = self.now.plus(Duration::from_secs(self.dice.roll(3) as u64));
        if self.dice.roll(2000) == 0 {
            self.jump();
        }
        self.latest = self.latest.max(self.now);
        match self.dice.roll(20) {
            0..=9 => self.push(),
            10 => self.delete_manifest(),
            11 => self.delete_tag(),
            12 => self.delete_blob(),
            13..=15 => self.review(),
            16..=18 => self.empty_trash(),
            _ => self.look_for_strays(),
        }
    }

    /// Somebody sets the clock.
    fn jump(&mut self) {
        let far = Duration::from_secs(self.dice.roll(1_000_000) as u64);
        self.now = if self.dice.roll(2) == 0 { self.now.plus(far) } else { self.now.minus(far) };
        for pusher in &mut self.pushers {
            if let Pusher::Pushing(push) | Pusher::Stored { then: push, .. } = pusher {
                push.robbed = true;
            }
        }
    }

    fn push(&mut self) {
        let who = self.dice.roll(self.pushers.len());
        let mut pusher = std::mem::replace(&mut self.pushers[who], Pusher::Idle);
        pusher = match pusher {
            Pusher::Idle => {
                let repository = self.dice.roll(REPOSITORIES.len());
                let blobs: BTreeSet<usize> =
                    (0..=self.dice.roll(4)).map(|_| self.dice.roll(BLOBS)).collect();
                let blobs: Vec<usize> = blobs.into_iter().collect();
                let (todo, since) = (blobs.clone(), self.now);
                Pusher::Pushing(Push { repository, todo, blobs, since, robbed: false })
            }
            Pusher::Pushing(mut push) => match push.todo.pop() {
                Some(blob) => self.bring(blob, push),
                None => self.put(&push),
            },
            Pusher::Stored { blob, place, then } => {
                if self.dice.roll(50) == 0 {
                    // Killed between storing and writing down.
                    self.strays.insert(place);
                    Pusher::Idle
                } else {
                    let new = NewBlob::Stored { place, size: 1 };
                    let (name, digest) = (REPOSITORIES[then.repository], &self.digests[blob]);
                    self.tx().add_blob(name, digest, &new, self.now, GRACE).unwrap();
                    Pusher::Pushing(then)
                }
            }
        };
        self.pushers[who] = pusher;
    }

    /// Makes one blob be in the repository, by one of the ways that clients have.
    fn bring(&mut self, blob: usize, push: Push) -> Pusher {
        let (name, digest) = (REPOSITORIES[push.repository], self.digests[blob].clone());
        let here = match self.dice.roll(4) {
            0 => self.head(name, &digest),
            1 => {
                let from = *self.dice.pick(&REPOSITORIES);
                self.tx().mount(from, name, &digest, self.now, GRACE).unwrap()
            }
            2 => self.tx().link_known(name, &digest, self.now, GRACE).unwrap(),
            _ => false,
        };
        if here {
            return Pusher::Pushing(push);
        }
        if self.dice.roll(3) == 0 {
            let new = NewBlob::Inline(vec![blob as u8]);
            self.tx().add_blob(name, &digest, &new, self.now, GRACE).unwrap();
            return Pusher::Pushing(push);
        }
        self.places += 1;
        let place = format!("p{}", self.places);
        self.storage.insert(place.clone());
        Pusher::Stored { blob, place, then: push }
    }

    fn head(&self, name: &str, digest: &Digest) -> bool {
        let tx = self.tx();
        let Some(blob) = tx.blob(name, digest).unwrap() else { return false };
        if tx.needs_touch(name, blob.id, self.now, GRACE).unwrap() {
            return tx.touch(name, digest, self.now, GRACE).unwrap();
        }
        true
    }

    fn put(&mut self, push: &Push) -> Pusher {
        let (repository, blobs) = (push.repository, &push.blobs);
        let digests: Vec<&Digest> = blobs.iter().map(|b| &self.digests[*b]).collect();
        let list: Vec<String> = digests
            .iter()
            .map(|d| format!(r#"{{"mediaType":"l","digest":"{d}","size":1}}"#))
            .collect();
        let text = format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
            list[0],
            list[1..].join(",")
        );
        let bytes = text.into_bytes();
        let parsed: Manifest = manifest::parse(&bytes, manifest::OCI_MANIFEST).unwrap();
        let digest = Digest::sha256(&bytes);
        let new = NewManifest {
            repository: REPOSITORIES[repository].to_owned(),
            digest: digest.clone(),
            manifest: parsed,
            bytes,
            tags: vec![Tag::parse(self.dice.pick::<&str>(&TAGS)).unwrap()],
            who: String::new(),
            client: String::new(),
            sparse: false,
        };
        match self.tx().put_manifest(&new, self.now).unwrap() {
            Put::Done { .. } => {
                self.promised.insert((repository, digest), blobs.clone());
            }
            Put::Missing(missing) => {
                // Only a push that took longer than the grace time, or that somebody deleted from, may fail.
                let late = self.now.since(push.since) >= GRACE.0 / 2;
                assert!(late || push.robbed, "a push lost blobs in time: {missing:?}");
            }
        }
        Pusher::Idle
    }

    fn delete_manifest(&mut self) {
        let count = self.promised.len();
        if count == 0 {
            return;
        }
        let key = self.promised.keys().nth(self.dice.roll(count)).unwrap().clone();
        let name = REPOSITORIES[key.0];
        let gone = self.tx().delete_manifest(name, &key.1, self.now, GRACE).unwrap();
        assert!(gone.is_some(), "{name} {} was promised", key.1);
        self.promised.remove(&key);
    }

    fn delete_tag(&mut self) {
        let (name, tag) = (*self.dice.pick(&REPOSITORIES), *self.dice.pick(&TAGS));
        self.tx().delete_tag(name, &Tag::parse(tag).unwrap(), self.now).unwrap();
    }

    fn delete_blob(&mut self) {
        let (at, blob) = (self.dice.roll(REPOSITORIES.len()), self.dice.roll(BLOBS));
        let done = self.tx().unlink(REPOSITORIES[at], &self.digests[blob], self.now).unwrap();
        if done != Unlink::Done {
            return;
        }
        for pusher in &mut self.pushers {
            if let Pusher::Pushing(push) | Pusher::Stored { then: push, .. } = pusher {
                push.robbed |= push.repository == at && push.blobs.contains(&blob);
            }
        }
    }

    fn review(&mut self) {
        let limit = 1 + self.dice.roll(5);
        self.tx().review(self.now, limit).unwrap();
    }

    /// One step of the sweeper: takes places from the log, or deletes one, or is killed.
    fn empty_trash(&mut self) {
        if self.dice.roll(20) == 0 {
            self.sweeping.clear();
        }
        match self.sweeping.pop() {
            None => self.sweeping = self.tx().trash(self.now, Duration::ZERO, 3).unwrap(),
            Some(place) => {
                self.storage.remove(&place);
                if self.dice.roll(10) > 0 {
                    self.tx().emptied(&[place]).unwrap();
                }
            }
        }
    }

    fn look_for_strays(&mut self) {
        let Some(place) = self.strays.pop_first() else { return };
        assert!(!self.tx().knows_place(&place).unwrap());
        self.storage.remove(&place);
    }

    /// Everything that clients were told is there is there.
    fn check(&self) {
        for ((repository, digest), blobs) in &self.promised {
            self.check_manifest(REPOSITORIES[*repository], digest, blobs);
        }
    }

    /// One of the promises, drawn at random: all of them at every step would take too long.
    fn check_one(&mut self) {
        let count = self.promised.len();
        if count > 0 {
            let at = self.dice.roll(count);
            let ((repository, digest), blobs) = self.promised.iter().nth(at).unwrap();
            self.check_manifest(REPOSITORIES[*repository], digest, blobs);
        }
    }

    fn check_manifest(&self, name: &str, digest: &Digest, blobs: &[usize]) {
        let tx = self.tx();
        let found = tx.manifest(name, &Reference::Digest(digest.clone())).unwrap();
        assert!(found.is_some(), "{name}@{digest} is gone");
        for blob in blobs {
            let blob = tx.blob(name, &self.digests[*blob]).unwrap();
            let blob = blob.unwrap_or_else(|| panic!("a blob of {name}@{digest} is gone"));
            match blob.place {
                Place::Inline => assert!(tx.blob_bytes(blob.id).unwrap().is_some()),
                Place::Stored(place) => {
                    assert!(self.storage.contains(&place), "the object {place} is gone");
                }
            }
        }
    }

    /// Everybody stops; after the grace time only what is needed is left.
    fn settle(&mut self) {
        for pusher in &mut self.pushers {
            if let Pusher::Stored { place, .. } = std::mem::replace(pusher, Pusher::Idle) {
                self.strays.insert(place);
            }
        }
        while !self.strays.is_empty() {
            self.look_for_strays();
        }
        self.now = self.latest.plus(GRACE.0 * 2);
        while self.tx().review(self.now, 10).unwrap().seen > 0 {}
        loop {
            let places = self.tx().trash(self.now, Duration::ZERO, 10).unwrap();
            if places.is_empty() {
                break;
            }
            for place in &places {
                self.storage.remove(place);
            }
            self.tx().emptied(&places).unwrap();
        }
        self.check();
        let needed: HashSet<&Digest> =
            self.promised.values().flatten().map(|b| &self.digests[*b]).collect();
        let (blobs, _) = self.tx().totals().unwrap();
        assert_eq!(blobs as usize, needed.len(), "blobs that nobody needs are left");
        let known: BTreeSet<String> = self
            .tx()
            .blobs_after(0, 1000)
            .unwrap()
            .into_iter()
            .filter_map(|(blob, _)| match blob.place {
                Place::Stored(place) => Some(place),
                Place::Inline => None,
            })
            .collect();
        assert_eq!(self.storage, known, "objects and rows differ");
        assert_eq!(self.tx().backlog().unwrap(), (0, 0));
    }
}

fn run(seed: u64, steps: u32) {
    let mut world = World::new(seed);
    for step in 0..steps {
        world.step();
        if step % 4 == 0 {
            world.check_one();
        }
        if step % 5000 == 0 {
            world.check();
            world.db.execute_batch("COMMIT; BEGIN").unwrap();
        }
    }
    world.settle();
}

#[test]
fn no_order_of_pushes_and_sweeps_loses_a_blob_or_keeps_one_for_ever() {
    std::thread::scope(|scope| {
        for half in 0..2 {
            scope.spawn(move || {
                for seed in (half..SEEDS).step_by(2) {
                    run(seed + 1, STEPS / SEEDS as u32);
                }
            });
        }
    });
}

#[test]
fn an_administrators_collection_beside_the_servers_does_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r.db");
    let (server, other) = (Database::open(&path).unwrap(), Database::open(&path).unwrap());
    let digest = Digest::sha256(b"x");
    let now = Timestamp::now();
    assert!(Repository::parse("a").is_some());
    let wanted = digest.clone();
    server
        .write_now(move |tx| {
            tx.add_blob("a", &wanted, &NewBlob::Stored { place: "p".into(), size: 1 }, now, GRACE)
        })
        .unwrap();
    let later = now.plus(GRACE.0 * 2);
    let first = server.write_now(move |tx| tx.review(later, 10)).unwrap();
    let second = other.write_now(move |tx| tx.review(later, 10)).unwrap();
    assert_eq!((first.blobs, second.blobs), (1, 0));
    assert_eq!(other.read_now(|tx| tx.trash(later, Duration::ZERO, 10)).unwrap(), ["p"]);
}
