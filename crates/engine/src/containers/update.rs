//! `POST /containers/{id}/update`: limits and restart policy of a container, running or not.

use super::{Record, settle, spec};
use crate::Engine;
use api::model::{HostConfig, RestartPolicy};
use base::{Error, Principal, Result};
use serde_json::{Map, Value};
use sys::cgroup::Pids;

/// Fields of the request that are limits; others are not changed by an update.
const LIMITS: &[&str] = &[
    "CpuShares",
    "Memory",
    "NanoCpus",
    "BlkioWeight",
    "CpuPeriod",
    "CpuQuota",
    "CpuRealtimePeriod",
    "CpuRealtimeRuntime",
    "CpusetCpus",
    "CpusetMems",
    "MemoryReservation",
    "MemorySwap",
    "PidsLimit",
];

impl Engine {
    /// Changes what `changes` (an object of the API) names of container `name`; zero values change nothing.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for values that are refused; `Conflict` when the container is being removed.
    pub async fn container_update(
        &self,
        name: &str,
        changes: Value,
        by: &Principal,
    ) -> Result<Vec<String>> {
        let container = self.containers.find(name)?;
        let _ops = container.ops.lock().await;
        let record = container.record();
        let changes = match changes {
            Value::Object(map) => map,
            Value::Null => Map::new(),
            _ => return Err(Error::invalid("invalid JSON: an update is an object")),
        };
        let (host, warnings) = self.updated(&record, &changes)?;
        if record.state.status.alive() {
            let mut next = Record::clone(&record);
            next.host = host.clone();
            let mut resources = spec::resources_of(&next, self)?;
            // The devices stay as they are: writing their rules again would close what is open meanwhile.
            resources.devices = Vec::new();
            // A limit that is taken away has to be written too.
            if changes.keys().any(|k| k.eq_ignore_ascii_case("PidsLimit")) {
                resources.pids =
                    Some(Pids { limit: host.pids_limit.filter(|limit| *limit > 0).unwrap_or(-1) });
            }
            match self.cgroup(&container)?.update(&resources) {
                Ok(()) => {}
                // It has ended meanwhile; the limits are for the next run.
                Err(err) if err.is_missing() && container.shim().is_none() => {}
                Err(err) => {
                    let text =
                        format!("cannot update container {}: failed to set its limits", record.id);
                    return Err(Error::internal(text).caused_by(err));
                }
            }
        }
        container.change(
            &self.store,
            |r| r.host = host,
            |tx, r| {
                tx.emit(r.event("update").by(by));
                Ok(())
            },
        )?;
        Ok(warnings)
    }

    fn updated(
        &self,
        record: &Record,
        changes: &Map<String, Value>,
    ) -> Result<(HostConfig, Vec<String>)> {
        let encoded = serde_json::to_value(&record.host)
            .map_err(|e| Error::internal("cannot encode the host configuration").caused_by(e))?;
        let Value::Object(mut host) = encoded else {
            return Err(Error::internal("the host configuration is no object"));
        };
        let changed = |value: &Value| !matches!(value, Value::Null) && *value != 0 && *value != "";
        for (key, value) in changes {
            let known = LIMITS.iter().find(|k| k.eq_ignore_ascii_case(key));
            if let Some(known) = known.filter(|_| changed(value)) {
                host.insert((*known).to_owned(), value.clone());
            }
            if key.eq_ignore_ascii_case("RestartPolicy") {
                let policy: RestartPolicy = api::decode_value(value.clone())?;
                if !policy.name.is_empty() {
                    if record.host.auto_remove {
                        return Err(Error::conflict(
                            "Restart policy cannot be updated because AutoRemove is enabled for the container",
                        ));
                    }
                    host.insert("RestartPolicy".into(), value.clone());
                }
            }
        }
        let named = |key: &str| changes.keys().any(|k| k.eq_ignore_ascii_case(key));
        if named("Memory") && !named("MemorySwap") {
            // The limit of both moves along only when it was the default.
            host.insert(
                "MemorySwap".into(),
                Value::from(if record.host.memory_swap == record.host.memory * 2 {
                    0
                } else {
                    record.host.memory_swap
                }),
            );
        }
        let (mut host, warnings) = settle::settle(
            api::decode_value(Value::Object(host))?,
            &self.config,
            &self.kernel,
            &self.reloadable().runtimes,
        )?;
        let pids = changes.iter().find(|(key, _)| key.eq_ignore_ascii_case("PidsLimit"));
        if pids.is_some_and(|(_, value)| value.as_i64().is_some_and(|limit| limit <= 0)) {
            // A limit that was taken away is shown as none rather than not at all.
            host.pids_limit = Some(0);
        }
        Ok((host, warnings))
    }
}
