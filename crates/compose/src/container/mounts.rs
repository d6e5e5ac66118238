//! A service's volumes, secrets and configs as binds and mounts.
//!
//! As in docker compose, plain ones are binds (`source:target:rw`), which also make a missing folder of the host;
//! those that ask for more are mounts. Secrets and configs that are files are mounted; others are written into the
//! container before it starts ([`Project::injected`]).

use super::{Asked, Service, bytes, pairs};
use crate::{
    error::{Error, Result},
    project::Project,
    value::{Fields, Value},
};
use api::model::{BindOptions, ImageOptions, Mount, TmpfsOptions, VolumeOptions};
use std::collections::BTreeMap;

pub(super) fn of(
    project: &Project,
    service: &Service,
    asked: &Asked<'_>,
) -> Result<(Vec<String>, Vec<Mount>)> {
    let mut all: BTreeMap<String, (Mount, Option<&Fields>)> = BTreeMap::new();
    let listed: Vec<&Fields> =
        service.fields.list("volumes").filter_map(Value::as_fields).collect();
    let inherited = inherited(asked, &listed);
    for mount in listed {
        let target = mount.text("target").to_owned();
        if mount.text("source").is_empty() && inherited.contains_key(&target) {
            continue;
        }
        all.insert(target, (one(project, mount), Some(mount)));
    }
    for (target, mount) in inherited {
        all.entry(target).or_insert((mount, None));
    }
    for (target, mount) in
        files(project, service, "secrets")?.into_iter().chain(files(project, service, "configs")?)
    {
        all.entry(target).or_insert((mount, None));
    }
    let (mut binds, mut mounts) = (Vec::new(), Vec::new());
    for (mount, listed) in all.into_values() {
        match listed {
            Some(listed) if mount.r#type == "bind" && is_plain_bind(listed) => {
                binds.push(bind(&mount.source, listed));
            }
            Some(listed)
                if mount.r#type == "volume"
                    && !listed.text("source").is_empty()
                    && project.volumes.contains_key(listed.text("source"))
                    && is_plain_volume(listed) =>
            {
                binds.push(bind(&mount.source, listed));
            }
            _ => mounts.push(mount),
        }
    }
    Ok((binds, mounts))
}

/// Anonymous volumes of the container that this one replaces.
fn inherited(asked: &Asked<'_>, listed: &[&Fields]) -> BTreeMap<String, Mount> {
    let mut all = BTreeMap::new();
    for old in asked.inherit.iter().flat_map(|c| &c.mounts) {
        if old.r#type == "tmpfs" {
            continue;
        }
        let anonymous = listed
            .iter()
            .any(|m| m.text("target") == old.destination && m.text("source").is_empty());
        if anonymous || asked.image_volumes.contains(&old.destination) {
            let source = if old.r#type == "volume" { &old.name } else { &old.source };
            all.insert(
                old.destination.clone(),
                Mount {
                    r#type: old.r#type.clone(),
                    source: source.clone(),
                    target: old.destination.clone(),
                    read_only: !old.rw,
                    ..Mount::default()
                },
            );
        }
    }
    all
}

fn one(project: &Project, of: &Fields) -> Mount {
    let kind = of.text("type");
    let mut source = of.text("source").to_owned();
    if kind == "volume"
        && let Some(volume) = project.volumes.get(&source)
    {
        volume.text("name").clone_into(&mut source);
    }
    let mut mount = Mount {
        r#type: kind.to_owned(),
        source,
        target: of.text("target").to_owned(),
        read_only: of.flag("read_only"),
        consistency: of.text("consistency").to_owned(),
        ..Mount::default()
    };
    match kind {
        "bind" => mount.bind_options = of.fields("bind").map(bind_options),
        "volume" => {
            mount.volume_options = of.fields("volume").map(|v| VolumeOptions {
                no_copy: v.flag("nocopy"),
                labels: pairs(v, "labels"),
                subpath: v.text("subpath").to_owned(),
                driver_config: None,
            });
        }
        "tmpfs" => {
            mount.tmpfs_options = of.fields("tmpfs").map(|t| TmpfsOptions {
                size_bytes: bytes(t, "size"),
                mode: t.int("mode").and_then(|m| u32::try_from(m).ok()).unwrap_or_default(),
                options: None,
            });
        }
        "image" => {
            mount.image_options =
                of.fields("image").map(|i| ImageOptions { subpath: i.text("subpath").to_owned() });
        }
        _ => {}
    }
    mount
}

fn bind_options(of: &Fields) -> BindOptions {
    let recursive = of.text("recursive");
    BindOptions {
        propagation: of.text("propagation").to_owned(),
        create_mountpoint: of.flag("create_host_path"),
        non_recursive: recursive == "disabled",
        read_only_non_recursive: recursive == "writable",
        read_only_force_recursive: recursive == "readonly",
    }
}

fn is_plain_bind(of: &Fields) -> bool {
    of.fields("bind").is_none_or(|b| {
        b.flag("create_host_path")
            && b.text("propagation").is_empty()
            && b.text("recursive").is_empty()
    })
}

fn is_plain_volume(of: &Fields) -> bool {
    of.fields("volume").is_none_or(|v| {
        v.map("labels").next().is_none() && v.text("subpath").is_empty() && !v.flag("nocopy")
    })
}

fn bind(source: &str, of: &Fields) -> String {
    let mut options = vec![if of.flag("read_only") { "ro" } else { "rw" }];
    if let Some(bind) = of.fields("bind") {
        options.extend(
            [bind.text("selinux"), bind.text("propagation")].iter().filter(|o| !o.is_empty()),
        );
    }
    format!("{source}:{}:{}", of.text("target"), options.join(","))
}

fn target(of: &Fields, folder: &str) -> String {
    match of.text("target") {
        "" => format!("{folder}{}", of.text("source")),
        path if path.starts_with('/') => path.to_owned(),
        path => format!("{folder}{path}"),
    }
}

fn folder(section: &str) -> &'static str {
    if section == "secrets" { "/run/secrets/" } else { "/" }
}

fn files(project: &Project, service: &Service, section: &str) -> Result<Vec<(String, Mount)>> {
    let all = if section == "secrets" { &project.secrets } else { &project.configs };
    let what = section.trim_end_matches('s');
    let mut out = Vec::new();
    for used in service.fields.list(section).filter_map(Value::as_fields) {
        let Some(of) = all.get(used.text("source")) else { continue };
        if of.flag("external") {
            let text = format!("unsupported external {what} {}", of.text("name"));
            return Err(Error::at(&used.at, text).hint("external ones are kept by Swarm"));
        }
        for key in ["driver", "template_driver"] {
            if !of.text(key).is_empty() {
                return Err(Error::at(&of.at, format!("{section}.*.{key} is not supported")));
            }
        }
        if of.text("file").is_empty() {
            continue;
        }
        let target = target(used, folder(section));
        let mount = Mount {
            r#type: "bind".into(),
            source: of.text("file").to_owned(),
            target: target.clone(),
            read_only: true,
            bind_options: (section == "secrets").then(BindOptions::default),
            ..Mount::default()
        };
        out.push((target, mount));
    }
    Ok(out)
}

/// A file that is written into a container before it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injected {
    /// Where, in the container.
    pub target: String,
    /// What.
    pub content: String,
    /// Permissions.
    pub mode: u32,
    /// The owner, when one was named.
    pub owner: Option<(u64, u64)>,
}

impl Project {
    /// Secrets and configs of a service that are no files of the host.
    ///
    /// # Errors
    /// A variable that is not set, or a read-only container.
    pub fn injected(&self, service: &Service) -> Result<Vec<Injected>> {
        let mut out = Vec::new();
        for section in ["secrets", "configs"] {
            let all = if section == "secrets" { &self.secrets } else { &self.configs };
            let what = section.trim_end_matches('s');
            for used in service.fields.list(section).filter_map(Value::as_fields) {
                let source = used.text("source");
                let Some(of) = all.get(source) else { continue };
                let kept = self.contents.get(source).filter(|_| section == "secrets");
                let content = match (of.text("content"), of.text("environment")) {
                    ("", "") => continue,
                    ("", variable) => {
                        kept.or_else(|| self.environment.get(variable)).cloned().ok_or_else(|| {
                            let name = of.text("name");
                            let text = format!("environment variable {variable:?} required by {what} {name:?} is not set");
                            Error::at(&of.at, text).hint(format!("set {variable}"))
                        })?
                    }
                    (content, _) => content.to_owned(),
                };
                if content.is_empty() {
                    continue;
                }
                if service.fields.flag("read_only") {
                    let text = format!(
                        "cannot create {what} {:?} in read-only service {}: `file` is the sole supported option",
                        of.text("name"),
                        service.name
                    );
                    return Err(Error::at(&used.at, text));
                }
                let id = |key: &str| -> Result<Option<u64>> {
                    match used.text(key) {
                        "" => Ok(None),
                        text => text.parse().map(Some).map_err(|_| {
                            Error::at(
                                &used.at,
                                format!("{what} {source}: {key} {text:?} is not a number"),
                            )
                        }),
                    }
                };
                let owner = match (id("uid")?, id("gid")?) {
                    (None, None) => None,
                    (uid, gid) => Some((uid.unwrap_or(0), gid.unwrap_or(0))),
                };
                let mode = u32::from_str_radix(used.text("mode"), 8).unwrap_or(0o444);
                out.push(Injected { target: target(used, folder(section)), content, mode, owner });
            }
        }
        Ok(out)
    }
}
