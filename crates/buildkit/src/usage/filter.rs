//! Filters of the cache: `type==regular`, `id~=^a`, `private`, ...

use crate::proto::control;
use base::{Error, Result};

/// A condition.
pub(super) struct Condition {
    field: String,
    op: Op,
}

enum Op {
    Present,
    Equal(String),
    Unequal(String),
    Matches(regex::Regex),
}

/// Reads filters: of each all conditions, which commas part, must hold.
///
/// # Errors
/// `Invalid` for a malformed pattern.
pub(super) fn conditions(filters: &[String]) -> Result<Vec<Vec<Condition>>> {
    filters
        .iter()
        .filter(|f| !f.is_empty())
        .map(|f| f.split(',').filter(|c| !c.is_empty()).map(condition).collect())
        .collect()
}

/// Whether one of the filters fits; none fit everything.
pub(super) fn fits(filters: &[Vec<Condition>], record: &control::UsageRecord) -> bool {
    filters.is_empty() || filters.iter().any(|all| all.iter().all(|c| c.fits(record)))
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
