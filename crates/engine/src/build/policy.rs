//! What of the build cache may go, and when: the rules of its collection, as `builder.gc` names them, and what
//! `builder prune` asks for once.
//!
//! Source: BuildKit `client.PruneInfo`, Moby `builder/builder-next/worker/gc.go` and `builder.go` (filters).

use base::{Error, Result, Timestamp, filters::Filters};
use std::time::Duration;

/// Fields that a filter may have.
const FIELDS: &[&str] = &["id", "parents", "type", "description", "inuse", "shared", "private"];
/// What may be had again most easily.
const TEMPORARY: &str = "type~=^(source\\.local|exec\\.cachemount|source\\.git\\.checkout)$";

/// One rule. Zero bytes are no limit; without any limit all that fits the filters goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CachePolicy {
    /// Conditions, of which one must hold (`type==regular,shared`: both); none is always.
    pub filters: Vec<String>,
    /// What images have too is not spared.
    pub all: bool,
    /// What was used in this time stays.
    pub unused_for: Duration,
    /// Bytes that stay in any case.
    pub reserved: u64,
    /// Bytes that the cache may have.
    pub max_used: u64,
    /// Bytes that the disk is to have free.
    pub min_free: u64,
}

/// Settings of the builder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Builder {
    /// Whether the cache is collected by itself.
    pub gc: bool,
    /// The rules, one after the other; the default ones within `limits` when there are none.
    pub policies: Vec<CachePolicy>,
    /// Reserved, most used and least free bytes of the default rules; a share of the disk when all are zero.
    pub limits: [u64; 3],
    /// Whether a client may let steps see the host's network.
    pub host_network: bool,
    /// Whether a client may let steps have all rights.
    pub insecure: bool,
}

impl Default for Builder {
    fn default() -> Self {
        Self { gc: true, policies: Vec::new(), limits: [0; 3], host_network: true, insecure: false }
    }
}

impl Builder {
    /// The rules on a disk of `disk` bytes.
    pub fn rules(&self, disk: u64) -> Vec<CachePolicy> {
        if !self.policies.is_empty() {
            return self.policies.clone();
        }
        let [reserved, max_used, min_free] = match self.limits {
            [0, 0, 0] => {
                [(disk / 10).min(10_000_000_000), (disk / 5 * 3).min(100_000_000_000), disk / 5]
            }
            limits => limits,
        };
        let days = |days: u64| Duration::from_secs(days * 24 * 60 * 60);
        let capped = CachePolicy { reserved, max_used, min_free, ..CachePolicy::default() };
        vec![
            CachePolicy {
                filters: vec![TEMPORARY.to_owned()],
                unused_for: days(2),
                max_used: 512_000_000,
                ..CachePolicy::default()
            },
            CachePolicy { unused_for: days(60), ..capped.clone() },
            capped.clone(),
            CachePolicy { all: true, ..capped },
        ]
    }
}

impl CachePolicy {
    /// What Docker's filters mean: `until` or `unused-for` a time, the others a condition.
    ///
    /// # Errors
    /// `Invalid` for an unknown filter, several values, both words for the time, and a malformed time.
    pub fn filtered(filters: &Filters, now: Timestamp) -> Result<Self> {
        let one = |key: &str| match filters.get(key) {
            [] => Ok(None),
            [one] => Ok(Some(one.as_str())),
            _ => Err(Error::invalid(format!("filter {key} has several values"))),
        };
        let until = match (one("until")?, one("unused-for")?) {
            (Some(_), Some(_)) => {
                return Err(Error::invalid("conflicting filters: until and unused-for"));
            }
            (until, unused) => until.or(unused),
        };
        let mut policy = Self::default();
        if let Some(text) = until {
            let at = Timestamp::parse_relative(text, now)?;
            let nanos = now.unix_nanos().saturating_sub(at.unix_nanos()).max(0);
            policy.unused_for = Duration::from_nanos(u64::try_from(nanos).unwrap_or_default());
        }
        let mut all = Vec::new();
        for (key, values) in filters.iter() {
            let field = if key == "parent" { "parents" } else { key };
            match values {
                _ if matches!(key, "until" | "unused-for") => {}
                _ if !FIELDS.contains(&field) => {
                    return Err(Error::invalid(format!("invalid filter \'{key}\'")));
                }
                [] => all.push(field.to_owned()),
                [value] if field == "id" => all.push(format!("id~={value}")),
                [value] => all.push(format!("{field}=={value}")),
                _ => return Err(Error::invalid(format!("filter {key} has several values"))),
            }
        }
        if !all.is_empty() {
            policy.filters = vec![all.join(",")];
        }
        Ok(policy)
    }

    /// The bytes that stay of `used`, with `free` bytes free on the disk; nothing for no limit.
    pub fn keeps(&self, used: u64, free: u64) -> Option<u64> {
        if (self.reserved, self.max_used, self.min_free) == (0, 0, 0) {
            return None;
        }
        let mut keeps = if self.max_used == 0 { u64::MAX } else { self.max_used };
        let excess = self.min_free.saturating_sub(free);
        if excess > 0 {
            keeps = keeps.min(used.saturating_sub(excess));
        }
        // With nothing but a reserve, all above it goes.
        if self.max_used == 0 && self.min_free == 0 {
            keeps = 0;
        }
        Some(keeps.max(self.reserved))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(reserved: u64, max_used: u64, min_free: u64) -> CachePolicy {
        CachePolicy { reserved, max_used, min_free, ..CachePolicy::default() }
    }

    #[test]
    fn limits_say_how_much_stays() {
        for (limits, used, free, keeps) in [
            ((0, 0, 0), 100, 0, None),
            ((0, 50, 0), 100, 0, Some(50)),
            ((20, 0, 0), 100, 0, Some(20)),
            ((0, 0, 30), 100, 10, Some(80)),
            ((0, 0, 30), 100, 40, Some(u64::MAX)),
            ((0, 50, 30), 100, 20, Some(50)),
            ((0, 95, 30), 100, 20, Some(90)),
            ((95, 50, 0), 100, 0, Some(95)),
            ((10, 0, 500), 100, 0, Some(10)),
        ] {
            let (reserved, max_used, min_free) = limits;
            assert_eq!(policy(reserved, max_used, min_free).keeps(used, free), keeps, "{limits:?}");
        }
    }

    #[test]
    fn filters_become_conditions() {
        let now = Timestamp::from_unix(1_000_000, 0);
        let read = |json: &str| CachePolicy::filtered(&Filters::parse(json).unwrap(), now);
        let found =
            read(r#"{"id":["^a"],"type":["regular"],"shared":[],"until":["24h"]}"#).unwrap();
        assert_eq!(found.filters, ["id~=^a,shared,type==regular"]);
        assert_eq!(found.unused_for, Duration::from_secs(24 * 60 * 60));
        assert_eq!(read("{}").unwrap(), CachePolicy::default());
        for bad in [
            r#"{"odd":["1"]}"#,
            r#"{"type":["a","b"]}"#,
            r#"{"until":["1h"],"unused-for":["1h"]}"#,
            r#"{"until":["x"]}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_default_rules_know_the_disk() {
        let rules = Builder::default().rules(50_000_000_000);
        assert_eq!(rules.len(), 4);
        assert_eq!(
            rules[3],
            CachePolicy { all: true, ..policy(5_000_000_000, 30_000_000_000, 10_000_000_000) }
        );
        let own = Builder { policies: vec![policy(1, 2, 3)], ..Builder::default() };
        assert_eq!(own.rules(1), [policy(1, 2, 3)]);
        let limited = Builder { limits: [7, 0, 0], ..Builder::default() };
        assert_eq!(limited.rules(1)[2], policy(7, 0, 0));
    }
}
