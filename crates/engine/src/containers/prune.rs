//! `POST /containers/prune`: decide which stopped containers go, then remove them.

use super::{Record, RemoveOptions, Status, filter};
use crate::Engine;
use base::{ContainerId, Error, Principal, Result, Timestamp, event::Event, filters::Filters};

/// What a prune removed.
#[derive(Clone, Debug, Default)]
pub struct Pruned {
    /// Ids.
    pub deleted: Vec<ContainerId>,
    /// Bytes of their writable layers.
    pub reclaimed: u64,
}

/// Which of `records` a prune with `filters` would remove.
///
/// # Errors
/// `Invalid` for a bad filter.
pub(crate) fn chosen<'r>(
    records: impl Iterator<Item = &'r Record>,
    filters: &Filters,
    now: Timestamp,
) -> Result<Vec<ContainerId>> {
    filters.only(filter::PRUNE)?;
    let until = match filters.get("until") {
        [] => None,
        [one] => Some(Timestamp::parse_relative(one, now)?),
        _ => return Err(Error::invalid("more than one until filter specified")),
    };
    let stopped = |r: &&Record| {
        !r.hidden && matches!(r.state.status, Status::Created | Status::Exited | Status::Dead)
    };
    let labels = |r: &&Record| {
        filters.labels(|key| r.config.labels.as_ref().and_then(|l| l.get(key)).map(String::as_str))
    };
    Ok(records
        .filter(stopped)
        .filter(|r| until.is_none_or(|at| r.created <= at))
        .filter(labels)
        .map(|r| r.id.clone())
        .collect())
}

impl Engine {
    /// Removes all stopped containers that `filters` mean.
    ///
    /// # Errors
    /// `Invalid` for a bad filter. A container that cannot be removed is skipped and logged.
    pub async fn containers_prune(&self, filters: &Filters, by: &Principal) -> Result<Pruned> {
        let records: Vec<_> = self.containers.all().iter().map(|c| c.record()).collect();
        let ids = chosen(records.iter().map(AsRef::as_ref), filters, Timestamp::now())?;
        let mut pruned = Pruned::default();
        for id in ids {
            let Some(container) = self.containers.get(&id) else { continue };
            let bytes = self.rw_bytes(&container.record());
            match self.remove_container(&container, RemoveOptions::default(), by).await {
                Ok(()) => {
                    pruned.reclaimed += bytes;
                    pruned.deleted.push(id);
                }
                Err(err) => {
                    tracing::warn!(
                        ctr = id.short(),
                        err = err.chain(),
                        "prune skips the container"
                    );
                }
            }
        }
        let event = Event::new("container", "prune", "")
            .with("reclaimed", pruned.reclaimed.to_string())
            .by(by);
        self.store.write(|tx| {
            tx.emit(event);
            Ok(())
        })?;
        Ok(pruned)
    }
}
