//! What the build cache takes, and giving it back.
//!
//! Flow: [`BuildKit::entries`] lists steps, cache mounts and kept contexts; [`filter`] says which are meant;
//! [`reclaim`] chooses which go. Invariant: what a running build uses stays, and so does a step that another one in
//! the cache stands on.

mod filter;
mod reclaim;

use crate::{
    BuildKit,
    proto::{self, control},
    solve::blocking,
};
use base::{Digest, Result, Timestamp};
use filter::conditions;
pub use reclaim::Reclaimed;
use std::sync::Arc;

/// Something in the cache.
#[derive(Clone, Debug)]
struct Entry {
    record: control::UsageRecord,
    used: Timestamp,
    what: What,
    /// A step's layers, lowest first.
    layers: Vec<Digest>,
}

/// An entry of the cache, in the engine's own words.
#[derive(Clone, Debug)]
pub struct Usage {
    /// Its name.
    pub id: String,
    /// What it stands on.
    pub parents: Vec<String>,
    /// `regular`, `source.local`, `exec.cachemount`.
    pub kind: String,
    /// What it is, in words.
    pub description: String,
    /// A build uses it now.
    pub in_use: bool,
    /// Images have it too.
    pub shared: bool,
    /// Bytes.
    pub bytes: i64,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last used.
    pub used: Timestamp,
    /// How often it was found.
    pub uses: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// A step's result, by its key.
    Step(String),
    /// A cache mount, by its name.
    Mount(String),
    /// A context that nobody uses, by what it is found by.
    Context(String),
}

fn size(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// A step's key as clients see it.
fn shown(key: &str) -> String {
    key.trim_start_matches("bk/").replace('#', "-").chars().take(25).collect()
}

impl BuildKit {
    fn entries(&self) -> Result<Vec<Entry>> {
        let mut all = self.steps()?;
        for (name, about, bytes, in_use) in self.site.mounts.list() {
            let record = control::UsageRecord {
                id: name.clone(),
                mutable: true,
                in_use,
                size: size(bytes),
                created_at: Some(proto::time(about.created)),
                last_used_at: Some(proto::time(about.used)),
                usage_count: 1,
                description: format!("cached mount {}", about.id),
                record_type: "exec.cachemount".into(),
                ..control::UsageRecord::default()
            };
            all.push(Entry { record, used: about.used, what: What::Mount(name), layers: vec![] });
        }
        for (key, bytes, used) in self.site.trees.list() {
            let record = control::UsageRecord {
                id: crate::solve::name_of(&key)[..25].to_owned(),
                mutable: true,
                size: size(bytes),
                created_at: Some(proto::time(used)),
                last_used_at: Some(proto::time(used)),
                description: "local source for context".into(),
                record_type: "source.local".into(),
                ..control::UsageRecord::default()
            };
            all.push(Entry { record, used, what: What::Context(key), layers: vec![] });
        }
        Ok(all)
    }

    fn steps(&self) -> Result<Vec<Entry>> {
        let steps = self.site.engine.build_cache()?;
        let mut by_top = std::collections::HashMap::new();
        for step in &steps {
            if let Some(top) = step.layers.last() {
                by_top.entry(top.clone()).or_insert_with(|| shown(&step.key));
            }
        }
        let entry = |step: engine::build::CacheStep| {
            let below = step.layers.iter().rev().skip(1).find_map(|layer| by_top.get(layer));
            let fact = step.fact;
            let record = control::UsageRecord {
                id: shown(&step.key),
                in_use: step.in_use,
                shared: step.shared,
                parents: below.cloned().into_iter().collect(),
                size: size(fact.size),
                created_at: Some(proto::time(fact.created)),
                last_used_at: Some(proto::time(step.used)),
                usage_count: size(fact.uses),
                description: fact.description,
                record_type: "regular".into(),
                ..control::UsageRecord::default()
            };
            Entry { record, used: step.used, what: What::Step(step.key), layers: step.layers }
        };
        Ok(steps.into_iter().map(entry).collect())
    }

    /// What is in the cache and fits one of `filters`.
    ///
    /// # Errors
    /// `Invalid` for a malformed filter; of the store.
    pub(crate) async fn usage(
        self: &Arc<Self>,
        filters: &[String],
    ) -> Result<Vec<control::UsageRecord>> {
        let filters = conditions(filters)?;
        let kit = Arc::clone(self);
        blocking(move || {
            let all = kit.entries()?.into_iter().map(|e| e.record);
            Ok(all.filter(|record| filter::fits(&filters, record)).collect())
        })
        .await
    }

    /// What is in the cache, for `GET /system/df`.
    ///
    /// # Errors
    /// Of the store.
    pub async fn disk_usage(self: &Arc<Self>) -> Result<Vec<Usage>> {
        let time = |at: Option<proto::google::protobuf::Timestamp>| {
            let at = at.unwrap_or_default();
            Timestamp::from_unix(at.seconds, u32::try_from(at.nanos).unwrap_or_default())
        };
        let shown = |record: control::UsageRecord| Usage {
            created: time(record.created_at),
            used: time(record.last_used_at),
            id: record.id,
            parents: record.parents,
            kind: record.record_type,
            description: record.description,
            in_use: record.in_use,
            shared: record.shared,
            bytes: record.size,
            uses: record.usage_count,
        };
        Ok(self.usage(&[]).await?.into_iter().map(shown).collect())
    }
}
