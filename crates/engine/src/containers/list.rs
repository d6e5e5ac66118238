//! `GET /containers/json`.

use super::{Mounted, Record, filter::Chosen, inspect};
use crate::Engine;
use api::model;
use base::{Result, Timestamp, filters::Filters};
use std::{collections::BTreeMap, sync::Arc};

/// Options of the list call.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Stopped ones too.
    pub all: bool,
    /// At most so many, newest first, stopped ones included; 0 or less for no limit.
    pub limit: i64,
    /// Bytes of the layers too.
    pub size: bool,
    /// Filters.
    pub filters: Filters,
}

/// A mount as the list shows it: dockerd leaves out where a volume's folder is.
fn mount(mounted: &Mounted) -> model::MountPoint {
    let mut point = mounted.point();
    if point.r#type == "volume" {
        point.source.clear();
    }
    point
}

impl Engine {
    /// Lists containers, newest first.
    ///
    /// # Errors
    /// `Invalid` for bad filters; `NotFound` for a `before` or `since` that names nothing.
    pub async fn containers_list(
        &self,
        options: &ListOptions,
    ) -> Result<Vec<model::ContainerSummary>> {
        let created = |name: &str| self.containers.find(name).map(|c| c.record().created);
        let ancestors = match options.filters.get("ancestor") {
            [] => None,
            names => Some(self.image_descendants(names)?),
        };
        let chosen = Chosen::new(&options.filters, created, ancestors)?;
        let all = options.all || options.limit > 0 || chosen.wants_stopped();
        let mut records: Vec<Arc<Record>> = self
            .containers
            .all()
            .iter()
            .map(|c| c.record())
            .filter(|r| {
                !r.hidden
                    && (all
                        || r.state.status.alive()
                        || r.state.status == super::Status::Restarting)
            })
            .filter(|r| chosen.takes(r))
            .collect();
        records.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        if let Ok(limit @ 1..) = usize::try_from(options.limit) {
            records.truncate(limit);
        }
        let now = Timestamp::now();
        let names = self.image_names()?;
        let mut linked = self.names_by_links();
        let row = |record: &Arc<Record>| {
            let mut row = self.summary(record, now, options.size, &names);
            row.names.extend(linked.remove(&record.id).unwrap_or_default());
            row
        };
        Ok(records.iter().map(row).collect())
    }

    fn summary(
        &self,
        record: &Record,
        now: Timestamp,
        size: bool,
        names: &BTreeMap<String, base::ImageId>,
    ) -> model::ContainerSummary {
        // The reference as long as it still means this image, else the id.
        let image = match names.get(&record.image_reference) {
            Some(id) if *id != record.image => record.image.to_string(),
            _ => record.image_reference.clone(),
        };
        let rw = if size { self.rw_bytes(record) } else { 0 };
        let mut networks = inspect::network_settings(record).networks;
        for endpoint in networks.iter_mut().flat_map(|all| all.values_mut()) {
            // A list tells where a container is, not what it is called there.
            (endpoint.aliases, endpoint.links, endpoint.dns_names) = (None, None, None);
            endpoint.driver_opts = None;
        }
        model::ContainerSummary {
            id: record.id.to_string(),
            names: vec![format!("/{}", record.name)],
            image,
            image_id: record.image.to_string(),
            command: command(&record.argv()),
            created: record.created.unix(),
            ports: ports(record),
            // As Docker has it, nothing is left out.
            size_rw: Some(rw as i64).filter(|bytes| *bytes > 0),
            size_root_fs: size.then(|| (rw + self.image_bytes(&record.image)) as i64),
            labels: record.config.labels.clone().unwrap_or_default(),
            state: record.state.status.word().into(),
            status: record.state.describe(now),
            host_config: model::SummaryHostConfig {
                network_mode: record.host.network_mode.clone(),
                annotations: record.host.annotations.clone(),
            },
            network_settings: Some(model::SummaryNetworkSettings { networks }),
            mounts: record.mounts.iter().filter(|m| m.shown()).map(mount).collect(),
            image_manifest_descriptor: None,
        }
    }
}

/// Path and arguments joined; those with spaces in single quotes, as docker shows them.
fn command(argv: &[String]) -> String {
    let quoted =
        |word: &String| if word.contains(' ') { format!("'{word}'") } else { word.clone() };
    match argv {
        [] => String::new(),
        [path, args @ ..] => std::iter::once(path.clone())
            .chain(args.iter().map(quoted))
            .collect::<Vec<_>>()
            .join(" "),
    }
}

fn ports(record: &Record) -> Vec<model::Port> {
    if record.attached.is_empty() {
        return Vec::new();
    }
    let mut list: Vec<model::Port> = record
        .attached
        .iter()
        .flat_map(|endpoint| &endpoint.ports)
        .map(|p| model::Port {
            ip: p.host_ip.to_string(),
            private_port: p.container_port,
            public_port: p.host_port,
            r#type: p.protocol.to_string(),
        })
        .collect();
    for (number, protocol) in record.exposed() {
        if !list.iter().any(|p| p.private_port == number && p.r#type == protocol) {
            list.push(model::Port {
                private_port: number,
                r#type: protocol,
                ..model::Port::default()
            });
        }
    }
    list.sort_by(|a, b| {
        (a.private_port, &a.r#type, a.public_port).cmp(&(b.private_port, &b.r#type, b.public_port))
    });
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_joined_with_quotes_where_needed() {
        let words = |list: &[&str]| list.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        assert_eq!(command(&words(&["sh", "-c", "echo hi"])), "sh -c 'echo hi'");
        assert_eq!(command(&[]), "");
    }
}
