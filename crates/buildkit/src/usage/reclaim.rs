//! Which entries of the cache go: by a rule, oldest first, what others stand on last.

use super::{
    Entry, What,
    filter::{conditions, fits},
};
use crate::{BuildKit, proto::control, solve::blocking};
use base::{Digest, Error, Result, Timestamp};
use engine::build::CachePolicy;
use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// What went.
#[derive(Debug, Default)]
pub struct Reclaimed {
    /// Ids of the entries.
    pub entries: Vec<String>,
    /// Bytes.
    pub bytes: u64,
}

/// Layers of the steps in the cache: how many steps have each as their own, and how many stand on it.
#[derive(Default)]
struct Layers(HashMap<Digest, (usize, usize)>);

impl Layers {
    fn of(entries: &[Entry]) -> Self {
        let mut layers = Self::default();
        for entry in entries {
            let Some((top, below)) = entry.layers.split_last() else { continue };
            layers.0.entry(top.clone()).or_default().0 += 1;
            for layer in below {
                layers.0.entry(layer.clone()).or_default().1 += 1;
            }
        }
        layers
    }

    /// Whether a step is all that keeps its own layer; with others of the same layer it gives nothing back.
    fn alone(&self, entry: &Entry) -> bool {
        entry.layers.last().is_none_or(|top| self.0.get(top).is_none_or(|(own, _)| *own <= 1))
    }

    fn stood_on(&self, entry: &Entry) -> bool {
        entry.layers.last().is_some_and(|top| self.0.get(top).is_some_and(|(_, on)| *on > 0))
    }

    fn forget(&mut self, entry: &Entry) {
        let Some((top, below)) = entry.layers.split_last() else { return };
        if let Some((own, _)) = self.0.get_mut(top) {
            *own = own.saturating_sub(1);
        }
        for layer in below {
            if let Some((_, on)) = self.0.get_mut(layer) {
                *on = on.saturating_sub(1);
            }
        }
    }
}

/// Bytes of an entry that only the cache has.
fn own(entry: &Entry) -> u64 {
    match entry.record.shared {
        true => 0,
        false => u64::try_from(entry.record.size).unwrap_or_default(),
    }
}

/// The entries that go by `policy`, each with the bytes that it gives back; `free` bytes are free on the disk.
fn choose(
    mut entries: Vec<Entry>,
    policy: &CachePolicy,
    free: u64,
    now: Timestamp,
) -> Result<Vec<(Entry, u64)>> {
    let filters = conditions(&policy.filters)?;
    let mut layers = Layers::of(&entries);
    entries.sort_by_key(|e| e.used);
    let mut seen = std::collections::HashSet::new();
    let mut used: u64 = entries
        .iter()
        .filter(|e| e.layers.last().is_none_or(|top| seen.insert(top.clone())))
        .map(own)
        .sum();
    let keeps = policy.keeps(used, free);
    let oldest = now.minus(policy.unused_for);
    let goes = |entry: &Entry| {
        let record = &entry.record;
        let young = !policy.unused_for.is_zero() && entry.used > oldest;
        !record.in_use && !young && (policy.all || !record.shared) && fits(&filters, record)
    };
    let (mut left, _): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(goes);
    let mut gone = Vec::new();
    loop {
        let (mut stay, before) = (Vec::new(), gone.len());
        for entry in left {
            if keeps.is_some_and(|keeps| used <= keeps) || layers.stood_on(&entry) {
                stay.push(entry);
                continue;
            }
            let bytes = if layers.alone(&entry) { own(&entry) } else { 0 };
            used = used.saturating_sub(bytes);
            layers.forget(&entry);
            gone.push((entry, bytes));
        }
        if gone.len() == before {
            return Ok(gone);
        }
        left = stay;
    }
}

impl BuildKit {
    /// Drops what goes by `policy`; tells what it was, with the bytes given back.
    fn drop_by(&self, policy: &CachePolicy) -> Result<Vec<(Entry, u64)>> {
        let entries = self.entries()?;
        let (free, _) = self.site.disk()?;
        let mut gone = choose(entries, policy, free, Timestamp::now())?;
        let mut failed = None;
        gone.retain(|(entry, _)| match &entry.what {
            What::Step(_) => true,
            What::Mount(name) => self.site.mounts.remove(name).unwrap_or_else(|err| {
                failed = Some(err);
                false
            }),
            What::Context(key) => self.site.trees.drop_one(key),
        });
        let steps: Vec<String> = gone
            .iter()
            .filter_map(|(entry, _)| match &entry.what {
                What::Step(key) => Some(key.clone()),
                _ => None,
            })
            .collect();
        if !steps.is_empty() {
            self.site.engine.build_cache_drop(&steps)?;
        }
        match failed {
            Some(err) => Err(err),
            None => Ok(gone),
        }
    }

    /// Gives back what `policy` means.
    ///
    /// # Errors
    /// `Invalid` for a malformed filter; of disk and store.
    pub async fn reclaim(self: &Arc<Self>, policy: CachePolicy) -> Result<Reclaimed> {
        let kit = Arc::clone(self);
        let gone = blocking(move || kit.drop_by(&policy)).await?;
        let bytes = gone.iter().map(|(_, bytes)| bytes).sum();
        let entries = gone.into_iter().map(|(entry, _)| entry.record.id).collect();
        Ok(Reclaimed { entries, bytes })
    }

    /// Gives back what `request` means; tells what went.
    ///
    /// # Errors
    /// `Invalid` for a malformed filter; of disk and store.
    pub(crate) async fn prune(
        self: &Arc<Self>,
        request: &control::PruneRequest,
    ) -> Result<Vec<control::UsageRecord>> {
        let bytes = |given: i64, name: &str| {
            u64::try_from(given).map_err(|_| Error::invalid(format!("{name} is negative: {given}")))
        };
        let policy = CachePolicy {
            filters: request.filter.clone(),
            all: request.all,
            unused_for: Duration::from_nanos(request.keep_duration.unsigned_abs()),
            reserved: bytes(request.reserved_space, "reserved space")?,
            max_used: bytes(request.max_used_space, "max used space")?,
            min_free: bytes(request.min_free_space, "min free space")?,
        };
        let kit = Arc::clone(self);
        let gone = blocking(move || kit.drop_by(&policy)).await?;
        let told = |(entry, bytes): (Entry, u64)| {
            let size = i64::try_from(bytes).unwrap_or(i64::MAX);
            control::UsageRecord { size, ..entry.record }
        };
        Ok(gone.into_iter().map(told).collect())
    }

    /// Collects the cache by its rules once no build runs; one collection at a time.
    pub(crate) fn collect_soon(self: &Arc<Self>) {
        if !self.is_idle()
            || !self.site.engine.config().builder.gc
            || self.collecting.swap(true, Ordering::AcqRel)
        {
            return;
        }
        let kit = Arc::clone(self);
        tokio::spawn(async move {
            let done = blocking({
                let kit = Arc::clone(&kit);
                move || {
                    let (_, disk) = kit.site.disk()?;
                    for rule in kit.site.engine.config().builder.rules(disk) {
                        for (entry, bytes) in kit.drop_by(&rule)? {
                            let id = entry.record.id;
                            tracing::debug!(id, bytes, "dropped from the build cache");
                        }
                    }
                    Ok(())
                }
            })
            .await;
            kit.collecting.store(false, Ordering::Release);
            if let Err(err) = done {
                tracing::warn!(
                    err = err.chain(),
                    "the build cache stays as it is until the next build"
                );
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(name: &str, layers: &[&str], used: i64, size: i64) -> Entry {
        let layers = layers.iter().map(|l| Digest::sha256(l.as_bytes())).collect();
        let record = control::UsageRecord {
            id: name.into(),
            size,
            record_type: "regular".into(),
            ..control::UsageRecord::default()
        };
        Entry { record, used: Timestamp::from_unix(used, 0), what: What::Step(name.into()), layers }
    }

    fn names(entries: Vec<Entry>, policy: &CachePolicy) -> Vec<String> {
        let gone = choose(entries, policy, 0, Timestamp::from_unix(1000, 0)).unwrap();
        gone.into_iter().map(|(e, bytes)| format!("{}:{bytes}", e.record.id)).collect()
    }

    fn chain() -> Vec<Entry> {
        vec![
            step("a", &["a"], 10, 5),
            step("b", &["a", "b"], 20, 5),
            step("other", &["o"], 30, 5),
            step("same", &["o"], 35, 5),
        ]
    }

    #[test]
    fn the_oldest_goes_first_and_what_others_stand_on_after_them() {
        let policy = |max_used| CachePolicy { max_used, ..CachePolicy::default() };
        assert!(names(chain(), &policy(15)).is_empty(), "one layer counts once");
        assert_eq!(names(chain(), &policy(10)), ["b:5"]);
        assert_eq!(names(chain(), &policy(4)), ["b:5", "other:0", "same:5", "a:5"]);
        assert_eq!(names(chain(), &CachePolicy::default()).len(), 4, "no limit: all");
    }

    #[test]
    fn what_is_used_young_shared_or_not_meant_stays() {
        let mut entries = chain();
        entries[0].record.in_use = true;
        entries[1].record.shared = true;
        assert_eq!(names(entries.clone(), &CachePolicy::default()), ["other:0", "same:5"]);
        let all = CachePolicy { all: true, ..CachePolicy::default() };
        assert_eq!(names(entries.clone(), &all), ["b:0", "other:0", "same:5"]);
        let young = CachePolicy { unused_for: Duration::from_secs(968), ..CachePolicy::default() };
        assert_eq!(names(entries.clone(), &young), ["other:0"]);
        let meant = CachePolicy { filters: vec!["id==same".into()], ..CachePolicy::default() };
        assert_eq!(names(entries, &meant), ["same:0"]);
        let kept = CachePolicy { filters: vec!["id==a".into()], ..CachePolicy::default() };
        assert!(names(chain(), &kept).is_empty(), "a step stands on it");
    }
}
