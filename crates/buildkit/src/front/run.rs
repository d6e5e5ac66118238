//! `RUN` in LLB, with its mounts.

use super::{
    context::{base_name, named},
    lower::{Lowering, Stage, file_op},
    options::csv,
};
use crate::{
    graph::Node,
    proto::{self, pb},
};
use base::{Error, Result};
use build::{dockerfile::Step, draft::Run};
use std::collections::BTreeMap;

/// Arguments that commands see without being declared.
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// A `--mount`, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) kind: String,
    values: BTreeMap<String, String>,
}

const KEYS: [&str; 14] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "readwrite",
    "id",
    "sharing",
    "required",
    "mode",
    "uid",
    "gid",
    "size",
    "env",
];

impl Mount {
    pub(super) fn read(text: &str) -> Result<Self> {
        let mut mount = Self { kind: "bind".into(), values: BTreeMap::new() };
        for field in csv(text)? {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key.to_lowercase(), Some(value.to_owned())),
                None => (field.to_lowercase(), None),
            };
            let key = match key.as_str() {
                "src" => "source",
                "dst" | "destination" => "target",
                "ro" => "readonly",
                "rw" => "readwrite",
                known if KEYS.contains(&known) => known,
                _ => return Err(Error::invalid(format!("unexpected key '{key}' in '{field}'"))),
            };
            let value = match (value, key) {
                (Some(value), _) => value,
                (None, "readonly" | "readwrite" | "required") => "true".into(),
                (None, _) => {
                    return Err(Error::invalid(format!(
                        "invalid field '{field}' must be a key=value pair"
                    )));
                }
            };
            if key == "type" {
                mount.kind = value.to_lowercase();
            } else {
                mount.values.insert(key.to_owned(), value);
            }
        }
        match mount.kind.as_str() {
            "bind" | "cache" | "tmpfs" | "secret" | "ssh" => Ok(mount),
            other => {
                Err(Error::invalid(format!("unsupported mount type {}", build::go::quote(other))))
            }
        }
    }

    pub(super) fn get(&self, key: &str) -> &str {
        self.values.get(key).map_or("", String::as_str)
    }

    pub(super) fn on(&self, key: &str) -> Result<Option<bool>> {
        match self.values.get(key).map(|v| v.to_lowercase()).as_deref() {
            None => Ok(None),
            Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(other) => Err(Error::invalid(format!("invalid value for {key}: {other}"))),
        }
    }

    fn number(&self, key: &str, radix: u32) -> Result<Option<u32>> {
        let Some(text) = self.values.get(key) else { return Ok(None) };
        u32::from_str_radix(text, radix)
            .map(Some)
            .map_err(|_| Error::invalid(format!("invalid value {text} for {key}")))
    }
}

/// An operation's inputs and mounts in the making.
#[derive(Default)]
struct Parts {
    inputs: Vec<Node>,
    mounts: Vec<pb::Mount>,
    secrets: Vec<pb::SecretEnv>,
    env: Vec<String>,
    agents: usize,
}

impl Parts {
    fn input(&mut self, node: Option<Node>) -> i64 {
        let Some(node) = node else { return -1 };
        let at = self.inputs.iter().position(|n| *n == node).unwrap_or_else(|| {
            self.inputs.push(node);
            self.inputs.len() - 1
        });
        i64::try_from(at).unwrap_or(-1)
    }
}

impl Lowering<'_> {
    pub(super) fn run_step(
        &mut self,
        stage: &mut Stage,
        step: &Step,
        run: Run,
        lines: (usize, usize),
    ) -> Result<()> {
        let config = stage.draft.config.clone();
        let mut parts = Parts::default();
        let root = parts.input(stage.node.clone());
        parts.mounts.push(pb::Mount { input: root, dest: "/".into(), ..pb::Mount::default() });
        for text in &run.mounts {
            let mount = Mount::read(text)?;
            self.mount(stage, &mount, &mut parts, lines)?;
        }
        if let Some((name, content)) = &run.script {
            let node = self.script(stage, name, content, lines);
            let input = parts.input(Some(node));
            parts.mounts.push(pb::Mount {
                input,
                dest: "/dev/pipes".into(),
                output: -1,
                readonly: true,
                ..pb::Mount::default()
            });
        }
        if self.options.shm_size > 0 {
            parts.mounts.push(pb::Mount {
                input: -1,
                dest: "/dev/shm".into(),
                output: -1,
                mount_type: pb::MountType::Tmpfs as i32,
                tmpfs_opt: Some(pb::TmpfsOpt { size: self.options.shm_size }),
                ..pb::Mount::default()
            });
        }
        let beside = stage.draft.args.beside(&config.env);
        let (proxies, given): (Vec<_>, Vec<_>) = beside
            .into_iter()
            .partition(|(name, _)| PROXIES.iter().any(|p| p.eq_ignore_ascii_case(name)));
        let mut env = config.env.clone();
        env.extend(given.iter().map(|(name, value)| format!("{name}={value}")));
        env.extend(std::mem::take(&mut parts.env));
        let meta = pb::Meta {
            args: run.command.clone(),
            env,
            cwd: if config.working_dir.is_empty() {
                "/".into()
            } else {
                config.working_dir.clone()
            },
            user: config.user.clone(),
            proxy_env: proxy(&proxies),
            extra_hosts: self
                .options
                .hosts
                .iter()
                .map(|(host, ip)| pb::HostIp { host: host.clone(), ip: ip.clone() })
                .collect(),
            hostname: self.options.hostname.clone(),
            ulimit: self
                .options
                .ulimits
                .iter()
                .map(|(name, soft, hard)| pb::Ulimit {
                    name: name.clone(),
                    soft: *soft,
                    hard: *hard,
                })
                .collect(),
            cgroup_parent: self.options.cgroup_parent.clone(),
            remove_mount_stubs_recursive: true,
            valid_exit_codes: Vec::new(),
        };
        let exec = pb::ExecOp {
            meta: Some(meta),
            mounts: parts.mounts,
            network: network(run.network.as_deref(), &self.options.network)? as i32,
            security: security(run.security.as_deref())? as i32,
            secretenv: parts.secrets,
            cdi_devices: run.devices.iter().map(|d| device(d)).collect::<Result<_>>()?,
        };
        let op = pb::Op {
            inputs: parts.inputs.iter().map(Node::input).collect(),
            platform: Some(proto::platform(&stage.platform)),
            op: Some(pb::op::Op::Exec(exec)),
            ..pb::Op::default()
        };
        let shown = self.meta(stage, step);
        stage.node = Some(self.graph.add(&op, shown, Some(lines)));
        let mut words = stage.draft.args.prefix(&config.env);
        words.extend(run.command.iter().cloned());
        self.history(stage, format!("RUN {} # buildkit", words.join(" ")), false);
        Ok(())
    }

    /// A here-document that is a script, as a state with one file.
    fn script(&mut self, stage: &Stage, name: &str, content: &str, lines: (usize, usize)) -> Node {
        let make = pb::FileActionMkFile {
            path: format!("/{name}"),
            mode: 0o755,
            data: content.as_bytes().to_vec(),
            owner: None,
            timestamp: self.timestamp(),
        };
        let make = pb::file_action::Action::Mkfile(make);
        let op = file_op(None, Vec::new(), vec![(-1, make)], &stage.platform);
        let meta = named(format!("preparing inline document {name}"));
        self.graph.add(&op, meta, Some(lines))
    }

    fn mount(
        &mut self,
        stage: &Stage,
        mount: &Mount,
        parts: &mut Parts,
        lines: (usize, usize),
    ) -> Result<()> {
        let folder = &stage.draft.config.working_dir;
        let folder = if folder.is_empty() { "/" } else { folder };
        let target = match mount.get("target") {
            "" => String::new(),
            target => image::edit::join(folder, target),
        };
        let from = match mount.get("from") {
            "" => None,
            from => Some(self.other(stage, from, lines)?),
        };
        let needs_target = || match target.is_empty() || target == "/" {
            true => Err(Error::invalid(format!("invalid mount target {:?}", mount.get("target")))),
            false => Ok(target.clone()),
        };
        match mount.kind.as_str() {
            "bind" => {
                let dest = needs_target()?;
                let source = mount.get("source");
                let node = match from {
                    Some(from) => from,
                    None => {
                        Some(self.context_node(if source.is_empty() { "." } else { source })?)
                    }
                };
                let writable =
                    mount.on("readwrite")?.unwrap_or(false) || mount.on("readonly")? == Some(false);
                let input = parts.input(node);
                parts.mounts.push(pb::Mount {
                    input,
                    selector: absolute(source),
                    dest,
                    output: -1,
                    readonly: !writable,
                    ..pb::Mount::default()
                });
            }
            "tmpfs" => {
                let size = match mount.get("size") {
                    "" => 0,
                    text => base::units::parse_bytes(text)?,
                };
                parts.mounts.push(pb::Mount {
                    input: -1,
                    dest: needs_target()?,
                    output: -1,
                    mount_type: pb::MountType::Tmpfs as i32,
                    tmpfs_opt: Some(pb::TmpfsOpt { size }),
                    ..pb::Mount::default()
                });
            }
            "cache" => self.cache(stage, mount, from.flatten(), needs_target()?, parts, lines)?,
            "secret" => secret(mount, &target, parts)?,
            _ => ssh(mount, &target, parts)?,
        }
        Ok(())
    }

    fn cache(
        &mut self,
        stage: &Stage,
        mount: &Mount,
        from: Option<Node>,
        dest: String,
        parts: &mut Parts,
        lines: (usize, usize),
    ) -> Result<()> {
        let id = match mount.get("id") {
            "" => dest.clone(),
            id => id.to_owned(),
        };
        let sharing = match mount.get("sharing") {
            "" | "shared" => pb::CacheSharingOpt::Shared,
            "private" => pb::CacheSharingOpt::Private,
            "locked" => pb::CacheSharingOpt::Locked,
            other => {
                return Err(Error::invalid(format!(
                    "unsupported sharing value {}",
                    build::go::quote(other)
                )));
            }
        };
        let owner = (mount.number("uid", 10)?, mount.number("gid", 10)?, mount.number("mode", 8)?);
        let (mut input, mut selector) = (from, absolute(mount.get("source")));
        if owner != (None, None, None) {
            // The folder's owner and mode are those of a folder that is made for it.
            let by_id = |id: u32| Some(pb::UserOpt { user: Some(pb::user_opt::User::ById(id)) });
            let make = pb::FileActionMkDir {
                path: "/cache".into(),
                mode: i32::try_from(owner.2.unwrap_or(0o755)).unwrap_or(0o755),
                make_parents: true,
                owner: Some(pb::ChownOpt {
                    user: by_id(owner.0.unwrap_or(0)),
                    group: by_id(owner.1.unwrap_or(0)),
                }),
                timestamp: self.timestamp(),
            };
            let make = pb::file_action::Action::Mkdir(make);
            let op = file_op(input.as_ref(), Vec::new(), vec![(-1, make)], &stage.platform);
            let meta = named(format!("[internal] settings cache mount permissions {dest}"));
            input = Some(self.graph.add(&op, meta, Some(lines)));
            selector = "/cache".into();
        }
        let input = parts.input(input);
        parts.mounts.push(pb::Mount {
            input,
            selector,
            dest,
            output: -1,
            readonly: mount.on("readonly")?.unwrap_or(false),
            mount_type: pb::MountType::Cache as i32,
            cache_opt: Some(pb::CacheOpt {
                id: format!("{}/{id}", self.options.cache_namespace),
                sharing: sharing as i32,
            }),
            ..pb::Mount::default()
        });
        Ok(())
    }
}

fn secret(mount: &Mount, target: &str, parts: &mut Parts) -> Result<()> {
    let id = match (mount.get("id"), target) {
        ("", "") => return Err(Error::invalid("one of target or id must be set for a secret")),
        ("", target) => base_name(target).to_owned(),
        (id, _) => id.to_owned(),
    };
    let optional = !mount.on("required")?.unwrap_or(false);
    let env = mount.get("env");
    if !env.is_empty() {
        parts.secrets.push(pb::SecretEnv { id: id.clone(), name: env.to_owned(), optional });
        if target.is_empty() {
            return Ok(());
        }
    }
    let dest = match target {
        "" => format!("/run/secrets/{}", base_name(&id)),
        target => target.to_owned(),
    };
    parts.mounts.push(pb::Mount {
        input: -1,
        dest,
        output: -1,
        mount_type: pb::MountType::Secret as i32,
        secret_opt: Some(pb::SecretOpt {
            id,
            uid: mount.number("uid", 10)?.unwrap_or(0),
            gid: mount.number("gid", 10)?.unwrap_or(0),
            mode: mount.number("mode", 8)?.unwrap_or(0o400),
            optional,
        }),
        ..pb::Mount::default()
    });
    Ok(())
}

fn ssh(mount: &Mount, target: &str, parts: &mut Parts) -> Result<()> {
    let dest = match target {
        "" => format!("/run/buildkit/ssh_agent.{}", parts.agents),
        target => target.to_owned(),
    };
    if parts.agents == 0 {
        parts.env.push(format!("SSH_AUTH_SOCK={dest}"));
    }
    parts.agents += 1;
    parts.mounts.push(pb::Mount {
        input: -1,
        dest,
        output: -1,
        mount_type: pb::MountType::Ssh as i32,
        ssh_opt: Some(pb::SshOpt {
            id: match mount.get("id") {
                "" => "default".into(),
                id => id.to_owned(),
            },
            uid: mount.number("uid", 10)?.unwrap_or(0),
            gid: mount.number("gid", 10)?.unwrap_or(0),
            mode: mount.number("mode", 8)?.unwrap_or(0o600),
            optional: !mount.on("required")?.unwrap_or(false),
        }),
        ..pb::Mount::default()
    });
    Ok(())
}

fn absolute(path: &str) -> String {
    let path = path.trim_start_matches("./").trim_start_matches('/');
    format!("/{}", if path == "." { "" } else { path })
}

fn network(own: Option<&str>, forced: &str) -> Result<pb::NetMode> {
    match own.unwrap_or(if forced.is_empty() { "default" } else { forced }) {
        "default" | "sandbox" | "" => Ok(pb::NetMode::Unset),
        "host" => Ok(pb::NetMode::Host),
        "none" => Ok(pb::NetMode::None),
        other => {
            Err(Error::invalid(format!("unsupported network mode {}", build::go::quote(other))))
        }
    }
}

fn security(own: Option<&str>) -> Result<pb::SecurityMode> {
    match own {
        None | Some("sandbox") => Ok(pb::SecurityMode::Sandbox),
        Some("insecure") => Ok(pb::SecurityMode::Insecure),
        Some(other) => {
            Err(Error::invalid(format!("unsupported security mode {}", build::go::quote(other))))
        }
    }
}

fn device(text: &str) -> Result<pb::CdiDevice> {
    let mut device = pb::CdiDevice { optional: true, ..pb::CdiDevice::default() };
    for field in csv(text)? {
        match field.split_once('=') {
            Some(("name", name)) => name.clone_into(&mut device.name),
            Some(("required", value)) => device.optional = value != "true",
            None if field == "required" => device.optional = false,
            None => device.name = field,
            Some((key, _)) => {
                return Err(Error::invalid(format!("unexpected key '{key}' in '{text}'")));
            }
        }
    }
    Ok(device)
}

fn proxy(proxies: &[(String, String)]) -> Option<pb::ProxyEnv> {
    if proxies.is_empty() {
        return None;
    }
    let of = |name: &str| {
        let found = proxies.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, v)| v.clone()).unwrap_or_default()
    };
    Some(pb::ProxyEnv {
        http_proxy: of("HTTP_PROXY"),
        https_proxy: of("HTTPS_PROXY"),
        ftp_proxy: of("FTP_PROXY"),
        no_proxy: of("NO_PROXY"),
        all_proxy: of("ALL_PROXY"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read() {
        let mount = Mount::read("type=cache,dst=/x,ro,ID=a,sharing=locked").unwrap();
        assert_eq!(
            (mount.kind.as_str(), mount.get("target"), mount.get("id")),
            ("cache", "/x", "a")
        );
        assert_eq!(mount.on("readonly").unwrap(), Some(true));
        assert_eq!(Mount::read("target=/x").unwrap().kind, "bind");
        for bad in ["type=odd", "target", "what=1", "type=cache,\"x"] {
            assert!(Mount::read(bad).is_err(), "{bad}");
        }
    }
}
