//! What the build cache takes, and giving it back.

use crate::{
    BuildKit,
    proto::{self, control},
    solve::blocking,
};
use base::{Error, Result, Timestamp};
use std::{sync::Arc, time::Duration};

/// Something in the cache.
struct Entry {
    record: control::UsageRecord,
    used: Timestamp,
    what: What,
}

enum What {
    /// A step's result, by its key.
    Step(String),
    /// A cache mount, by its name.
    Mount(String),
    /// All contexts that nobody uses.
    Contexts,
}

/// A condition of a filter: `type==regular`, `id~=^a`, `private`, ...
struct Condition {
    field: String,
    op: Op,
}

enum Op {
    Present,
    Equal(String),
    Unequal(String),
    Matches(regex::Regex),
}

fn conditions(filters: &[String]) -> Result<Vec<Vec<Condition>>> {
    filters
        .iter()
        .map(|f| f.split(',').filter(|c| !c.is_empty()).map(condition).collect())
        .collect()
}

fn condition(text: &str) -> Result<Condition> {
    let of = |field: &str, op| Condition { field: field.trim().to_lowercase(), op };
    if let Some((field, value)) = text.split_once("!=") {
        return Ok(of(field, Op::Unequal(value.into())));
    }
    if let Some((field, pattern)) = text.split_once("~=") {
        let regex = regex::Regex::new(pattern)
            .map_err(|e| Error::invalid(format!("invalid filter {text:?}")).caused_by(e))?;
        return Ok(of(field, Op::Matches(regex)));
    }
    if let Some((field, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok(of(field, Op::Equal(value.into())));
    }
    Ok(of(text, Op::Present))
}

impl Condition {
    fn fits(&self, record: &control::UsageRecord) -> bool {
        let value = match self.field.as_str() {
            "id" => record.id.clone(),
            "description" => record.description.clone(),
            "type" => record.record_type.clone(),
            "parent" | "parents" => record.parents.join(","),
            "inuse" => record.in_use.to_string(),
            "mutable" => record.mutable.to_string(),
            "immutable" => (!record.mutable).to_string(),
            "shared" => record.shared.to_string(),
            "private" => (!record.shared).to_string(),
            _ => return false,
        };
        match &self.op {
            Op::Present => value == "true" || (!value.is_empty() && value != "false"),
            Op::Equal(wanted) => value == *wanted,
            Op::Unequal(wanted) => value != *wanted,
            Op::Matches(regex) => regex.is_match(&value),
        }
    }
}

impl BuildKit {
    fn entries(&self) -> Result<Vec<Entry>> {
        let mut all = Vec::new();
        for (key, fact, used) in self.site.engine.build_cache()? {
            let id = key.trim_start_matches("bk/").replace('#', "-");
            let record = control::UsageRecord {
                id: id.chars().take(25).collect(),
                size: i64::try_from(fact.size).unwrap_or(i64::MAX),
                created_at: Some(proto::time(fact.created)),
                last_used_at: Some(proto::time(used)),
                usage_count: i64::try_from(fact.uses).unwrap_or(i64::MAX),
                description: fact.description,
                record_type: "regular".into(),
                ..control::UsageRecord::default()
            };
            all.push(Entry { record, used, what: What::Step(key) });
        }
        for (name, about, size, in_use) in self.site.mounts.list() {
            let record = control::UsageRecord {
                id: name.clone(),
                mutable: true,
                in_use,
                size: i64::try_from(size).unwrap_or(i64::MAX),
                created_at: Some(proto::time(about.created)),
                last_used_at: Some(proto::time(about.used)),
                usage_count: 1,
                description: format!("cached mount {}", about.id),
                record_type: "exec.cachemount".into(),
                ..control::UsageRecord::default()
            };
            all.push(Entry { record, used: about.used, what: What::Mount(name) });
        }
        let contexts: u64 = self.site.trees.list().iter().map(|(_, size)| size).sum();
        if contexts > 0 {
            let now = Timestamp::now();
            let record = control::UsageRecord {
                id: "contexts".into(),
                mutable: true,
                size: i64::try_from(contexts).unwrap_or(i64::MAX),
                created_at: Some(proto::time(now)),
                last_used_at: Some(proto::time(now)),
                description: "local source for context".into(),
                record_type: "source.local".into(),
                ..control::UsageRecord::default()
            };
            all.push(Entry { record, used: now, what: What::Contexts });
        }
        Ok(all)
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
            let fits = |record: &control::UsageRecord| {
                filters.is_empty() || filters.iter().any(|all| all.iter().all(|c| c.fits(record)))
            };
            Ok(kit.entries()?.into_iter().map(|e| e.record).filter(fits).collect())
        })
        .await
    }

    /// Gives back what `request` means; tells what went.
    ///
    /// # Errors
    /// `Invalid` for a malformed filter; of disk and store.
    pub(crate) async fn prune(
        self: &Arc<Self>,
        request: &control::PruneRequest,
    ) -> Result<Vec<control::UsageRecord>> {
        let filters = conditions(&request.filter)?;
        let keep = Duration::from_nanos(request.keep_duration.unsigned_abs());
        let limit = [request.max_used_space, request.reserved_space].into_iter().max().unwrap_or(0);
        let kit = Arc::clone(self);
        blocking(move || {
            let mut entries = kit.entries()?;
            entries.sort_by_key(|e| e.used);
            let mut total: i64 = entries.iter().map(|e| e.record.size).sum();
            let oldest = Timestamp::now().minus(keep);
            let mut gone = Vec::new();
            let mut steps = Vec::new();
            for entry in entries {
                let record = &entry.record;
                let fits = filters.is_empty()
                    || filters.iter().any(|all| all.iter().all(|c| c.fits(record)));
                let young = !keep.is_zero() && entry.used > oldest;
                if record.in_use || !fits || young || (limit > 0 && total <= limit) {
                    continue;
                }
                match &entry.what {
                    What::Step(key) => steps.push(key.clone()),
                    What::Mount(name) => {
                        if !kit.site.mounts.remove(name)? {
                            continue;
                        }
                    }
                    What::Contexts => {
                        kit.site.trees.clear();
                    }
                }
                total -= record.size;
                gone.push(entry.record);
            }
            kit.site.engine.build_cache_drop(&steps)?;
            Ok(gone)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_fit_records() {
        let record = control::UsageRecord {
            id: "abc".into(),
            record_type: "regular".into(),
            ..control::UsageRecord::default()
        };
        let fits = |text: &str| condition(text).unwrap().fits(&record);
        for yes in ["type==regular", "type=regular", "id~=^a", "id!=x", "private", "immutable"] {
            assert!(fits(yes), "{yes}");
        }
        for no in ["type==frontend", "inuse", "shared", "id~=^b", "odd==1"] {
            assert!(!fits(no), "{no}");
        }
        assert!(condition("id~=[").is_err());
    }
}
