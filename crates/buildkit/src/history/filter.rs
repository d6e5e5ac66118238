//! Which builds of the history are meant: `status==error`, `ref~=^a`, `startedAt>10m`, ...

use super::created;
use crate::{front::csv, proto::control::BuildHistoryRecord};
use base::{Error, Result, Timestamp, units::parse_go_duration};
use std::time::Duration;

/// Alternatives, each of conditions that all hold; none means all builds.
#[derive(Debug, Default)]
pub(super) struct Filters(Vec<Vec<Condition>>);

#[derive(Debug)]
enum Condition {
    Text(Field, Match),
    Time { completed: bool, op: Op, at: Timestamp },
    Takes { op: Op, time: Duration },
}

#[derive(Clone, Copy, Debug)]
enum Field {
    Name,
    Status,
    Repository,
}

#[derive(Debug)]
enum Match {
    Equal(String),
    Unequal(String),
    Like(regex::Regex),
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Least,
    Most,
    More,
    Less,
}

impl Op {
    fn holds<T: PartialOrd>(self, a: T, b: T) -> bool {
        match self {
            Self::Least => a >= b,
            Self::Most => a <= b,
            Self::More => a > b,
            Self::Less => a < b,
        }
    }
}

/// Reads them.
///
/// # Errors
/// `Invalid` for what is malformed or not known.
pub(super) fn parse(filters: &[String]) -> Result<Filters> {
    let one = |text: &String| csv(text)?.iter().map(|c| condition(c)).collect();
    filters.iter().map(one).collect::<Result<_>>().map(Filters)
}

fn condition(text: &str) -> Result<Condition> {
    let bad = || Error::invalid(format!("failed to parse history filters {text}"));
    for (mark, op) in [(">=", Op::Least), ("<=", Op::Most), (">", Op::More), ("<", Op::Less)] {
        let Some((field, value)) = text.split_once(mark) else { continue };
        let completed = match field.trim() {
            "startedAt" => false,
            "completedAt" => true,
            "duration" => return Ok(Condition::Takes { op, time: parse_go_duration(value)? }),
            _ => return Err(bad()),
        };
        let at = Timestamp::parse_relative(value, Timestamp::now())
            .map_err(|e| Error::invalid(format!("invalid time {value}")).caused_by(e))?;
        return Ok(Condition::Time { completed, op, at });
    }
    let (field, value) = if let Some((field, value)) = text.split_once("!=") {
        (field, Match::Unequal(value.to_owned()))
    } else if let Some((field, pattern)) = text.split_once("~=") {
        (field, Match::Like(regex::Regex::new(pattern).map_err(|e| bad().caused_by(e))?))
    } else {
        let (field, value) =
            text.split_once("==").or_else(|| text.split_once('=')).ok_or_else(bad)?;
        (field, Match::Equal(value.to_owned()))
    };
    let field = match field.trim() {
        "ref" => Field::Name,
        "status" => Field::Status,
        "repository" => Field::Repository,
        _ => return Err(bad()),
    };
    Ok(Condition::Text(field, value))
}

impl Filters {
    /// Whether a build is meant.
    pub(super) fn fit(&self, record: &BuildHistoryRecord) -> bool {
        self.0.is_empty() || self.0.iter().any(|all| all.iter().all(|c| c.holds(record)))
    }
}

impl Condition {
    fn holds(&self, record: &BuildHistoryRecord) -> bool {
        let time = |at: &Option<crate::proto::google::protobuf::Timestamp>| {
            let at = at.unwrap_or_default();
            Timestamp::from_unix(at.seconds, u32::try_from(at.nanos).unwrap_or_default())
        };
        match self {
            Self::Text(field, wanted) => {
                let value = match field {
                    Field::Name => record.r#ref.as_str(),
                    Field::Status => status(record),
                    Field::Repository => {
                        let attrs = &record.frontend_attrs;
                        let found = attrs.get("vcs:source").or_else(|| attrs.get("context"));
                        found.map_or("", String::as_str)
                    }
                };
                match wanted {
                    Match::Equal(wanted) => value == wanted,
                    Match::Unequal(wanted) => value != wanted,
                    Match::Like(pattern) => pattern.is_match(value),
                }
            }
            Self::Time { completed: false, op, at } => op.holds(created(record), *at),
            Self::Time { completed: true, op, at } => op.holds(time(&record.completed_at), *at),
            Self::Takes { op, time: wanted } => {
                op.holds(time(&record.completed_at).since(created(record)), *wanted)
            }
        }
    }
}

fn status(record: &BuildHistoryRecord) -> &'static str {
    match (&record.completed_at, &record.error) {
        (None, _) => "running",
        (Some(_), None) => "completed",
        (Some(_), Some(error)) if error.message.contains("context canceled") => "canceled",
        (Some(_), Some(_)) => "error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto;

    #[test]
    fn builds_are_found_by_what_is_known_of_them() {
        let record = BuildHistoryRecord {
            r#ref: "abc".into(),
            created_at: Some(proto::time(Timestamp::now().minus(Duration::from_secs(60)))),
            completed_at: Some(proto::now()),
            ..BuildHistoryRecord::default()
        };
        let fits = |text: &str| parse(&[text.to_owned()]).unwrap().fit(&record);
        for yes in [
            "ref~=b",
            "ref!=x",
            "status==completed",
            "startedAt<10s",
            "duration>=1m",
            "ref=abc,status!=error",
        ] {
            assert!(fits(yes), "{yes}");
        }
        for no in ["ref==b", "status==error", "startedAt>10s", "duration<1s", "repository=x"] {
            assert!(!fits(no), "{no}");
        }
        for bad in ["odd=1", "ref", "ref~=[", "startedAt>odd", "duration>odd", "ref>1"] {
            assert!(parse(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
