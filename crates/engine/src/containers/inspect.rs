//! `GET /containers/{id}/json`: docker's exact shape from the record.

use super::{Mounted, Places, Record, Status};
use crate::Engine;
use api::model;
use base::Result;
use std::collections::BTreeMap;

impl Engine {
    /// Bytes of a container's writable layer; 0 when they cannot be counted.
    pub(crate) fn rw_bytes(&self, record: &Record) -> u64 {
        let active = self.snapshots.get(record.id.as_str(), &record.layers);
        active.and_then(|a| self.snapshots.usage(&a)).map_or(0, |u| u.bytes)
    }

    /// Everything about container `name`; with `size` the bytes of its layers too.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn container_inspect(
        &self,
        name: &str,
        size: bool,
    ) -> Result<model::ContainerInspect> {
        let container = self.containers.find(name)?;
        let record = container.record();
        let mut shown = self.inspect_record(&record);
        shown.exec_ids = container.execs.ids();
        shown.state.health = container.health().as_ref().map(super::health::Health::shown);
        if size {
            let rw = self.rw_bytes(&record);
            shown.size_rw = Some(rw as i64);
            shown.size_root_fs = Some((rw + self.image_bytes(&record.image)) as i64);
        }
        Ok(shown)
    }

    fn inspect_record(&self, record: &Record) -> model::ContainerInspect {
        let places = Places::of(&self.config, &record.id);
        let argv = record.argv();
        let file = |name: &str| places.data.join(name).display().to_string();
        let log_path = match record.host.log_config.r#type.as_str() {
            "json-file" if !record.state.started.is_zero() => {
                places.log(&record.id).display().to_string()
            }
            _ => String::new(),
        };
        let active = self.snapshots.get(record.id.as_str(), &record.layers).ok();
        model::ContainerInspect {
            id: record.id.to_string(),
            created: record.created.to_string(),
            path: argv.first().cloned().unwrap_or_default(),
            args: argv.into_iter().skip(1).collect(),
            state: state(record),
            image: record.image.to_string(),
            resolv_conf_path: file("resolv.conf"),
            hostname_path: file("hostname"),
            hosts_path: file("hosts"),
            log_path,
            name: format!("/{}", record.name),
            restart_count: i64::from(record.state.restarts),
            driver: "overlay2".into(),
            platform: record.platform.os.clone(),
            mount_label: record.mount_label.clone(),
            process_label: record.process_label.clone(),
            app_armor_profile: super::apparmor::profile(record).unwrap_or_default(),
            exec_ids: None,
            host_config: host_config(record),
            graph_driver: model::GraphDriver {
                name: "overlay2".into(),
                data: Some(active.map(|a| driver_data(&a, &places, record)).unwrap_or_default()),
            },
            size_rw: None,
            size_root_fs: None,
            mounts: record.mounts.iter().filter(|m| m.shown()).map(Mounted::point).collect(),
            config: record.config.clone(),
            network_settings: network_settings(record),
            image_manifest_descriptor: None,
            gantry: serde_json::to_value(&record.facts).ok(),
        }
    }
}

/// As it was asked for; links of the default network say whose they are.
fn host_config(record: &Record) -> model::HostConfig {
    let mut host = record.host.clone();
    if let Some(links) = &mut host.links
        && host.network_mode == "bridge"
    {
        for text in links {
            if let Ok(link) = super::links::Link::parse(text) {
                *text = format!("/{}:/{}/{}", link.name, record.name, link.alias);
            }
        }
    }
    host
}

fn driver_data(
    active: &storage::Active,
    places: &Places,
    record: &Record,
) -> BTreeMap<String, String> {
    let join = |dirs: &[std::path::PathBuf]| {
        dirs.iter().map(|d| d.display().to_string()).collect::<Vec<_>>().join(":")
    };
    let merged = match record.state.pid {
        0 => places.data.join("rw/merged").display().to_string(),
        pid => format!("/proc/{pid}/root"),
    };
    [
        ("ID", record.id.to_string()),
        ("LowerDir", join(&active.lower)),
        ("MergedDir", merged),
        ("UpperDir", active.upper.display().to_string()),
        ("WorkDir", active.work.display().to_string()),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_owned(), v))
    .collect()
}

fn state(record: &Record) -> model::ContainerState {
    let s = &record.state;
    model::ContainerState {
        status: s.status.word().into(),
        running: s.status.alive() || s.status == Status::Restarting,
        paused: s.status == Status::Paused,
        restarting: s.status == Status::Restarting,
        oom_killed: s.oom_killed,
        dead: s.status == Status::Dead,
        pid: i64::from(s.pid),
        exit_code: i64::from(s.exit_code),
        error: s.error.clone(),
        started_at: s.started.to_string(),
        finished_at: s.finished.to_string(),
        health: None,
    }
}

impl Mounted {
    /// Whether inspect lists it: tmpfs of `--tmpfs` shows in HostConfig alone.
    pub(crate) fn shown(&self) -> bool {
        self.kind != "tmpfs" || self.by_mount
    }

    /// The API's form.
    pub(crate) fn point(&self) -> model::MountPoint {
        model::MountPoint {
            r#type: self.kind.clone(),
            name: self.name.clone(),
            source: self.source.clone(),
            destination: self.target.clone(),
            driver: self.driver.clone(),
            mode: self.mode.clone(),
            rw: !self.read_only,
            propagation: self.propagation.clone(),
        }
    }
}

impl Record {
    /// Ports that the image or the request exposes.
    pub(crate) fn exposed(&self) -> impl Iterator<Item = (u16, String)> + '_ {
        self.config.exposed_ports.iter().flatten().filter_map(|(text, _)| port(text))
    }

    /// Container ports that are published.
    pub(crate) fn published(&self) -> impl Iterator<Item = (u16, String)> + '_ {
        self.host.port_bindings.iter().flatten().filter_map(|(text, _)| port(text))
    }
}

/// `80/tcp` as number and protocol.
pub(crate) fn port(text: &str) -> Option<(u16, String)> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    Some((number.parse().ok()?, protocol.to_owned()))
}

/// Addresses and ports as inspect shows them.
pub(crate) fn network_settings(record: &Record) -> model::NetworkSettings {
    let mut settings =
        model::NetworkSettings { ports: Some(ports(record)), ..model::NetworkSettings::default() };
    let networks = record
        .network_names()
        .into_iter()
        .map(|name| {
            let asked = record.endpoints.get(name).cloned().unwrap_or_default();
            (name.to_owned(), endpoint_settings(record, name, asked))
        })
        .collect();
    if !record.attached.is_empty() {
        settings.sandbox_id = record.id.to_string();
        settings.sandbox_key = format!("/proc/{}/ns/net", record.state.pid);
    }
    // Clients of old versions read the addresses of the default network here.
    if record.attached_to("bridge").is_some() {
        let shown = endpoint_settings(record, "bridge", model::EndpointSettings::default());
        settings.endpoint_id = shown.endpoint_id;
        settings.gateway = shown.gateway;
        settings.ip_address = shown.ip_address;
        settings.ip_prefix_len = shown.ip_prefix_len;
        settings.mac_address = shown.mac_address;
        settings.ipv6_gateway = shown.ipv6_gateway;
        settings.global_ipv6_address = shown.global_ipv6_address;
        settings.global_ipv6_prefix_len = shown.global_ipv6_prefix_len;
    }
    settings.networks = Some(networks);
    settings
}

fn endpoint_settings(
    record: &Record,
    name: &str,
    asked: model::EndpointSettings,
) -> model::EndpointSettings {
    let Some(endpoint) = record.attached_to(name) else {
        // What was asked for is no address that it has.
        return model::EndpointSettings { mac_address: String::new(), ..asked };
    };
    let text =
        |address: Option<std::net::IpAddr>| address.map(|a| a.to_string()).unwrap_or_default();
    let (v4, v6) = (endpoint.address, endpoint.address6);
    model::EndpointSettings {
        network_id: endpoint.network.to_string(),
        endpoint_id: endpoint.id.to_string(),
        gateway: text(endpoint.gateway),
        ip_address: text(v4.map(|a| a.address())),
        ip_prefix_len: v4.map_or(0, |a| i64::from(a.prefix())),
        ipv6_gateway: text(endpoint.gateway6),
        global_ipv6_address: text(v6.map(|a| a.address())),
        global_ipv6_prefix_len: v6.map_or(0, |a| i64::from(a.prefix())),
        mac_address: endpoint.mac.map(|m| m.to_string()).unwrap_or_default(),
        dns_names: (!network::predefined(name)).then(|| endpoint.names.clone()),
        ..asked
    }
}

fn ports(record: &Record) -> BTreeMap<String, Option<Vec<model::PortBinding>>> {
    let mut ports = BTreeMap::new();
    // A stopped container holds no port: docker shows {}.
    if record.attached.is_empty() {
        return ports;
    }
    for (number, protocol) in record.exposed() {
        ports.insert(format!("{number}/{protocol}"), None);
    }
    for bound in record.attached.iter().flat_map(|endpoint| &endpoint.ports) {
        ports
            .entry(format!("{}/{}", bound.container_port, bound.protocol))
            .or_insert(None)
            .get_or_insert_default()
            .push(model::PortBinding {
                host_ip: bound.host_ip.to_string(),
                // A port that is open as it is has none on the host.
                host_port: match bound.host_port {
                    0 => String::new(),
                    port => port.to_string(),
                },
            });
    }
    ports
}
