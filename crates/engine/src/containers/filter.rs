//! Which containers `ps` and `prune` mean: the filters of the list call, decided purely over records.

use super::Record;
use base::{Error, Result, Timestamp, filters::Filters};
use regex::Regex;

/// Filter keys of `GET /containers/json`.
pub(crate) const LIST: &[&str] = &[
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "label!",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];
/// Filter keys of `POST /containers/prune`.
pub(crate) const PRUNE: &[&str] = &["label", "label!", "until"];

const STATUSES: &[&str] =
    &["created", "running", "paused", "restarting", "removing", "exited", "dead"];
const HEALTH: &[&str] = &["starting", "healthy", "unhealthy", "none"];

/// Filters made ready to be asked many times.
pub(crate) struct Chosen<'f> {
    filters: &'f Filters,
    names: Vec<Regex>,
    ids: Vec<Regex>,
    exited: Vec<i32>,
    publish: Vec<Ports>,
    expose: Vec<Ports>,
    /// Creation times of the containers named by `before` and `since`.
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    /// Images meant by `ancestor`: ids of the named images and of all built on them.
    ancestors: Option<Vec<base::ImageId>>,
}

struct Ports {
    first: u16,
    last: u16,
    protocol: String,
}

impl<'f> Chosen<'f> {
    /// Checks and prepares `filters`.
    ///
    /// # Errors
    /// `Invalid` with docker's wording for a bad key or value.
    pub(crate) fn new(
        filters: &'f Filters,
        created_of: impl Fn(&str) -> Result<Timestamp>,
        ancestors: Option<Vec<base::ImageId>>,
    ) -> Result<Self> {
        filters.only(LIST)?;
        for (key, accepted) in [("status", STATUSES), ("health", HEALTH)] {
            if let Some(bad) = filters.get(key).iter().find(|v| !accepted.contains(&v.as_str())) {
                return Err(Error::invalid(format!("invalid filter '{key}={bad}'")));
            }
        }
        filters.bool("is-task")?;
        let regexes = |key: &str| -> Result<Vec<Regex>> {
            let compile = |v: &String| {
                Regex::new(v)
                    .or_else(|_| Regex::new(&regex::escape(v)))
                    .map_err(|e| Error::invalid(format!("invalid filter '{key}={v}'")).caused_by(e))
            };
            filters.get(key).iter().map(compile).collect()
        };
        let exited = filters
            .get("exited")
            .iter()
            .map(|v| v.parse().map_err(|_| Error::invalid(format!("invalid filter 'exited={v}'"))))
            .collect::<Result<_>>()?;
        let ports = |key: &str| {
            filters.get(key).iter().map(|v| parse_ports(key, v)).collect::<Result<Vec<_>>>()
        };
        let created = |key: &str| -> Result<Option<Timestamp>> {
            filters.get(key).first().map(|name| created_of(name)).transpose()
        };
        Ok(Self {
            filters,
            names: regexes("name")?,
            ids: regexes("id")?,
            exited,
            publish: ports("publish")?,
            expose: ports("expose")?,
            before: created("before")?,
            since: created("since")?,
            ancestors,
        })
    }

    /// Whether the filters ask for containers that do not run.
    pub(crate) fn wants_stopped(&self) -> bool {
        self.filters.has("status") || self.filters.has("exited")
    }

    /// Whether `record` is meant.
    pub(crate) fn takes(&self, record: &Record) -> bool {
        let labels = record.config.labels.as_ref();
        let label = |key: &str| labels.and_then(|l| l.get(key)).map(String::as_str);
        let slashed = format!("/{}", record.name);
        (self.names.is_empty()
            || self.names.iter().any(|n| n.is_match(&slashed) || n.is_match(&record.name)))
            && (self.ids.is_empty() || self.ids.iter().any(|i| i.is_match(record.id.as_str())))
            && self.filters.exact("status", record.state.status.word())
            && self.filters.labels(label)
            && (self.exited.is_empty()
                || (self.exited.contains(&record.state.exit_code)
                    && !record.state.status.alive()
                    && !record.state.finished.is_zero()))
            && self.filters.any("volume", |v| {
                record.mounts.iter().any(|m| m.name == v || m.target == v || m.source == v)
            })
            && self.filters.any("network", |n| {
                record
                    .networks()
                    .any(|(name, id)| name == n || (!id.is_empty() && id.starts_with(n)))
            })
            && self.filters.any("health", |h| {
                h == record.state.health.as_ref().map_or("none", |h| h.status.word())
            })
            && self.filters.bool("is-task").ok().flatten().is_none_or(|wanted| !wanted)
            && (self.publish.is_empty() || self.publish.iter().any(|p| p.meets(record.published())))
            && (self.expose.is_empty() || self.expose.iter().any(|p| p.meets(record.exposed())))
            && self.before.is_none_or(|at| record.created < at)
            && self.since.is_none_or(|at| record.created > at)
            && self.ancestors.as_ref().is_none_or(|ids| ids.contains(&record.image))
    }
}

impl Ports {
    fn meets(&self, mut ports: impl Iterator<Item = (u16, String)>) -> bool {
        ports.any(|(port, protocol)| {
            (self.first..=self.last).contains(&port) && protocol == self.protocol
        })
    }
}

fn parse_ports(key: &str, text: &str) -> Result<Ports> {
    let bad = || Error::invalid(format!("invalid filter '{key}={text}'"));
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last) = (first.parse().map_err(|_| bad())?, last.parse().map_err(|_| bad())?);
    if first > last || !matches!(protocol, "tcp" | "udp" | "sctp") {
        return Err(bad());
    }
    Ok(Ports { first, last, protocol: protocol.to_owned() })
}
