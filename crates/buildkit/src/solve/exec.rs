//! Commands: what they run over, what they see, and what becomes of what they change.

use super::{
    Did, Folder, Out, Run, State, blocking, file::shown as shown_path, key::Key, read, secret,
    shown,
};
use crate::{explain::List, graph::Vertex, job::Job, proto::pb};
use base::{Error, Result};
use build::{go::clean, host::Layer};
use engine::build::{Attached, Network, Source, Step, StepMount, Talk};
use serde_json::json;
use sha2::Digest as _;
use std::{any::Any, path::Path, sync::Arc};

/// What the environment calls proxies; they do not count for the cache.
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// A mount that is ready, and what must stay while the command runs.
struct Ready {
    mount: StepMount,
    /// Where it stands in the operation.
    index: usize,
    _guard: Option<Box<dyn Any + Send + Sync>>,
}

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ready").field("mount", &self.mount).finish_non_exhaustive()
    }
}

impl Run {
    /// Runs a command.
    pub(super) async fn exec(&self, exec: &pb::ExecOp) -> Result<Did> {
        let meta = exec.meta.as_ref().ok_or_else(|| Error::invalid("the command has no words"))?;
        if meta.args.is_empty() {
            return Err(Error::invalid("the command has no words"));
        }
        self.allowed(exec)?;
        let root = exec
            .mounts
            .iter()
            .find(|m| m.dest == "/")
            .ok_or_else(|| Error::invalid("the command has no root file system"))?;
        let base = self.state(self.input(root.input)?).await?;
        let outputs = exec.mounts.iter().map(|m| m.output + 1).max().unwrap_or(0).max(0);
        let outputs = usize::try_from(outputs).unwrap_or_default();
        let key = self.exec_key(exec, meta, &base).await?;
        if let Some(outs) = self.recall(&key, outputs).await? {
            return Ok(Did { outs, cached: true });
        }
        let _alone = self.job.site.alone(&key.output(0)).await;
        if let Some(outs) = self.recall(&key, outputs).await? {
            return Ok(Did { outs, cached: true });
        }
        let _turn = self.job.site.turns.acquire().await.ok();
        self.start();
        let image = self.image_of(&base)?;
        let (step, ready) = self.prepare(exec, meta, image, root.readonly).await?;
        let accepted: Vec<i64> = match meta.valid_exit_codes.as_slice() {
            [] => vec![0],
            codes => codes.iter().map(|c| i64::from(*c)).collect(),
        };
        let (output, pump) = self.output();
        let work = async {
            let output = output;
            self.job.host.run(step, &accepted, &output).await
        };
        let done = shown(work, pump).await?;
        if !accepted.contains(&done.code) {
            let command = meta.args.join(" ");
            return Err(Error::invalid(format!(
                "process {} did not complete successfully: exit code: {}",
                build::go::quote(&command),
                done.code
            )));
        }
        let mut made = vec![(State::scratch(), 0_u64); outputs];
        for (index, mount) in exec.mounts.iter().enumerate() {
            let Some(slot) = usize::try_from(mount.output).ok().and_then(|o| made.get_mut(o))
            else {
                continue;
            };
            if mount.dest == "/" {
                *slot = self.stacked(&base, done.layer.clone()).await?;
                continue;
            }
            let below = self.state(self.input(mount.input)?).await?;
            let at = ready.iter().position(|r| r.index == index);
            let layer = at.and_then(|at| done.mounts.get(at)).and_then(Clone::clone);
            *slot = self.stacked(&below, layer).await?;
        }
        drop(ready);
        self.remember(&key, &made, &base)?;
        Ok(Did {
            outs: made.into_iter().map(|(state, _)| Out::State(state)).collect(),
            cached: false,
        })
    }

    /// What is to be run, with what it sees.
    async fn prepare(
        &self,
        exec: &pb::ExecOp,
        meta: &pb::Meta,
        image: base::ImageId,
        readonly: bool,
    ) -> Result<(Step, Vec<Ready>)> {
        let mut ready = Vec::new();
        for (index, mount) in exec.mounts.iter().enumerate() {
            if mount.dest != "/" && !is_shm(mount) {
                ready.extend(self.ready(index, mount, meta).await?);
            }
        }
        let mut step = step(exec, meta, image, readonly);
        step.mounts = ready.iter().map(|r| r.mount.clone()).collect();
        for secret in &exec.secretenv {
            if let Some(value) = secret::value(&self.job, &secret.id, secret.optional).await? {
                let value = String::from_utf8(value).map_err(|_| {
                    Error::invalid(format!(
                        "the secret {} is no text and cannot be a variable",
                        secret.id
                    ))
                })?;
                step.secret_env.push(format!("{}={value}", secret.name));
            }
        }
        Ok((step, ready))
    }

    /// A state with what a step changed; every step makes a layer, be it an empty one, so that history and
    /// layers go together.
    pub(super) async fn stacked(
        &self,
        below: &State,
        layer: Option<Layer>,
    ) -> Result<(State, u64)> {
        let layer = match layer {
            Some(layer) => layer,
            None => self.job.host.empty_layer().await?,
        };
        let size = layer.size;
        let image = self.job.host.state(below.image.as_ref(), &[layer])?;
        Ok((State::of(&image), size))
    }

    fn allowed(&self, exec: &pb::ExecOp) -> Result<()> {
        let wants = |wanted: bool, name: &str| match wanted && !self.job.entitlements.contains(name)
        {
            true => Err(Error::forbidden(format!("{name} is not allowed"))),
            false => Ok(()),
        };
        if let Some(platform) = &self.vertex.op.platform
            && !crate::capabilities::runs(&platform.architecture)
        {
            return Err(Error::invalid(format!(
                "commands of {}/{} do not run on this machine: register an emulator (qemu-user with binfmt_misc), or build this stage for $BUILDPLATFORM",
                platform.os, platform.architecture
            )));
        }
        if pb::NetMode::try_from(exec.network).is_err() {
            return Err(Error::invalid(format!("networks of kind {} are unknown", exec.network)));
        }
        if pb::SecurityMode::try_from(exec.security).is_err() {
            let why = format!("security modes of kind {} are unknown", exec.security);
            return Err(Error::invalid(why));
        }
        wants(exec.network == pb::NetMode::Host as i32, "network.host")?;
        wants(exec.security == pb::SecurityMode::Insecure as i32, "security.insecure")?;
        if let Some(device) = exec.cdi_devices.iter().find(|d| !d.optional) {
            return Err(Error::invalid(format!("the device {} is not known here", device.name)));
        }
        Ok(())
    }

    async fn exec_key(&self, exec: &pb::ExecOp, meta: &pb::Meta, base: &State) -> Result<Key> {
        let mut key = Key::of("exec");
        key.add("command", json!(meta.args).to_string());
        let counts = |e: &&String| {
            let name = e.split('=').next().unwrap_or_default();
            !PROXIES.iter().any(|p| p.eq_ignore_ascii_case(name))
        };
        let mut variables = List::default();
        for variable in meta.env.iter().filter(counts) {
            let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
            variables.add(name, sha2::Sha256::digest(value).into());
        }
        key.add(
            "environment",
            json!(meta.env.iter().filter(counts).collect::<Vec<_>>()).to_string(),
        )
        .list = Some(Arc::new(variables));
        key.add("folder", &meta.cwd);
        key.add("user", &meta.user);
        key.add("network", exec.network.to_string());
        key.add("security", exec.security.to_string());
        key.add("host name", &meta.hostname);
        let hosts: Vec<String> =
            meta.extra_hosts.iter().map(|h| format!("{}={}", h.host, h.ip)).collect();
        key.add("hosts", hosts.join(","));
        let limits: Vec<String> =
            meta.ulimit.iter().map(|u| format!("{}={}:{}", u.name, u.soft, u.hard)).collect();
        key.add("limits", limits.join(","));
        let secrets: Vec<String> =
            exec.secretenv.iter().map(|s| format!("{}={}", s.name, s.id)).collect();
        key.add("secret variables", secrets.join(","));
        if let Some(platform) = &self.vertex.op.platform {
            key.add(
                "platform",
                format!("{}/{}/{}", platform.os, platform.architecture, platform.variant),
            );
        }
        let root = exec.mounts.iter().find(|m| m.dest == "/").map(|m| m.input);
        key.add("root", &base.chain).from = root.and_then(|i| usize::try_from(i).ok());
        for mount in exec.mounts.iter().filter(|m| m.dest != "/") {
            let mut list = None;
            let what = match pb::MountType::try_from(mount.mount_type) {
                Ok(pb::MountType::Bind) => {
                    let (sum, files) = self.content(mount).await?;
                    list = files;
                    sum
                }
                Ok(pb::MountType::Cache) => {
                    format!("cache {}", mount.cache_opt.as_ref().map_or("", |c| &c.id))
                }
                Ok(pb::MountType::Tmpfs) => "tmpfs".into(),
                Ok(pb::MountType::Secret) => {
                    let secret = mount.secret_opt.clone().unwrap_or_default();
                    format!("secret {} {}:{} {:o}", secret.id, secret.uid, secret.gid, secret.mode)
                }
                Ok(pb::MountType::Ssh) => {
                    format!("ssh {}", mount.ssh_opt.as_ref().map_or("", |s| &s.id))
                }
                Err(_) => {
                    return Err(Error::invalid(format!(
                        "mounts of kind {} are unknown",
                        mount.mount_type
                    )));
                }
            };
            let access = if mount.readonly { "ro" } else { "rw" };
            let value = format!("{what} {access} {}", mount.output);
            let part = key.add(format!("mount {}", mount.dest), value);
            part.from = usize::try_from(mount.input).ok();
            part.list = list.map(Arc::new);
        }
        Ok(key)
    }

    /// What a bind mount shows, by content.
    async fn content(&self, mount: &pb::Mount) -> Result<(String, Option<List>)> {
        let out = self.input(mount.input)?;
        let selector = clean(&mount.selector);
        if let Some(Out::State(state)) = out
            && (selector == "/" || !mount.readonly)
        {
            return Ok((format!("{} {selector}", state.chain), None));
        }
        let Some(out) = out else { return Ok(("scratch".into(), None)) };
        let reading = read(&self.job, Some(out)).await?;
        blocking(move || {
            let mut list = List::default();
            let known = |path: &Path, stat: &sys::root::Stat| reading.known(path, stat);
            let mut tell = |path: &Path, sum: &[u8; 32]| list.add(shown_path(path), *sum);
            let path = Path::new(&selector);
            let sum = build::copy::contents(&reading.root, path, &known, &mut tell)?;
            Ok((base::hex(&sum), Some(list)))
        })
        .await
    }

    async fn ready(
        &self,
        index: usize,
        mount: &pb::Mount,
        meta: &pb::Meta,
    ) -> Result<Option<Ready>> {
        let target = match mount.dest.starts_with('/') {
            true => clean(&mount.dest),
            false => clean(&format!("{}/{}", meta.cwd, mount.dest)),
        };
        let made = |source, guard| {
            let mount = StepMount { source, target: target.clone(), readonly: mount.readonly };
            Ok(Some(Ready { mount, index, _guard: guard }))
        };
        match pb::MountType::try_from(mount.mount_type) {
            Ok(pb::MountType::Bind) => {
                let source = self.bound(mount).await?;
                made(source, None)
            }
            Ok(pb::MountType::Tmpfs) => {
                made(Source::Tmpfs(mount.tmpfs_opt.as_ref().map_or(0, |t| t.size)), None)
            }
            Ok(pb::MountType::Cache) => {
                let options = mount.cache_opt.clone().unwrap_or_default();
                let reading = match self.input(mount.input)? {
                    Some(out) => Some(read(&self.job, Some(out)).await?),
                    None => None,
                };
                let start = reading.map(|r| (r.root, clean(&mount.selector)));
                let sharing = pb::CacheSharingOpt::try_from(options.sharing)
                    .unwrap_or(pb::CacheSharingOpt::Shared);
                let lease = self.job.site.mounts.lease(&options.id, sharing, start).await?;
                made(Source::Path(lease.path().to_owned()), Some(Box::new(lease)))
            }
            Ok(pb::MountType::Secret) => {
                let options = mount.secret_opt.clone().unwrap_or_default();
                let Some(value) = secret::value(&self.job, &options.id, options.optional).await?
                else {
                    return Ok(None);
                };
                let file = secret::file(&self.job.site, &value, &options)?;
                made(Source::Path(file.path().to_owned()), Some(Box::new(file)))
            }
            Ok(pb::MountType::Ssh) => {
                let options = mount.ssh_opt.clone().unwrap_or_default();
                let Some(agent) = secret::agent(&self.job, &options).await? else {
                    return Ok(None);
                };
                made(Source::Path(agent.path().to_owned()), Some(Box::new(agent)))
            }
            Err(_) => {
                Err(Error::invalid(format!("mounts of kind {} are unknown", mount.mount_type)))
            }
        }
    }

    async fn bound(&self, mount: &pb::Mount) -> Result<Source> {
        let selector = clean(&mount.selector);
        match self.input(mount.input)? {
            None => Ok(Source::State { image: None, path: selector }),
            Some(Out::State(state)) => {
                Ok(Source::State { image: state.image.clone(), path: selector })
            }
            Some(Out::Folder(folder)) => {
                let found = inside(folder, &selector)?;
                match mount.readonly || !found.is_dir() {
                    true => Ok(Source::Path(found)),
                    false => Ok(Source::Folder(found)),
                }
            }
        }
    }
}

/// A command that a front end speaks with, and what must stay while it runs.
#[derive(Debug)]
pub(crate) struct Talking {
    pub(crate) talk: Talk,
    _ready: Vec<Ready>,
}

/// Starts a command that a front end speaks with, over states of the build: `ins` are what its mounts stand on.
///
/// # Errors
/// As a step of a build fails.
pub(crate) async fn talk(
    job: &Arc<Job>,
    exec: &pb::ExecOp,
    platform: Option<pb::Platform>,
    ins: Vec<Out>,
    tty: bool,
) -> Result<(Talking, Attached)> {
    let op = pb::Op { platform, ..pb::Op::default() };
    let vertex =
        Vertex { digest: String::new(), op, meta: pb::OpMetadata::default(), sources: vec![] };
    let run = Run { job: Arc::clone(job), vertex: Arc::new(vertex), ins };
    let meta = exec.meta.clone().unwrap_or_default();
    run.allowed(exec)?;
    let root = exec.mounts.iter().find(|m| m.dest == "/");
    let root = root.ok_or_else(|| Error::invalid("the command has no root file system"))?;
    let base = run.state(run.input(root.input)?).await?;
    let image = run.image_of(&base)?;
    let (step, ready) = run.prepare(exec, &meta, image, root.readonly).await?;
    let (talk, attached) = job.host.talk(&step, tty).await?;
    Ok((Talking { talk, _ready: ready }, attached))
}

/// The path on the host of what is at `selector` in a folder; symlinks stay inside.
fn inside(folder: &Folder, selector: &str) -> Result<std::path::PathBuf> {
    let real = folder.root.canonical(selector).map_err(|e| {
        let cause: std::io::Error = e.into();
        match cause.kind() {
            std::io::ErrorKind::NotFound => Error::not_found(format!("\"{selector}\": not found")),
            _ => Error::io(format!("cannot look at {selector}"), cause),
        }
    })?;
    Ok(folder.path.join(real.strip_prefix("/").unwrap_or(&real)))
}

fn step(exec: &pb::ExecOp, meta: &pb::Meta, image: base::ImageId, readonly: bool) -> Step {
    let mut env = meta.env.clone();
    if let Some(proxy) = &meta.proxy_env {
        let all = [
            ("HTTP_PROXY", &proxy.http_proxy),
            ("HTTPS_PROXY", &proxy.https_proxy),
            ("FTP_PROXY", &proxy.ftp_proxy),
            ("NO_PROXY", &proxy.no_proxy),
            ("ALL_PROXY", &proxy.all_proxy),
        ];
        for (name, value) in all.into_iter().filter(|(_, v)| !v.is_empty()) {
            env.push(format!("{name}={value}"));
            env.push(format!("{}={value}", name.to_ascii_lowercase()));
        }
    }
    Step {
        image,
        args: meta.args.clone(),
        env,
        secret_env: Vec::new(),
        cwd: meta.cwd.clone(),
        user: meta.user.clone(),
        hostname: if meta.hostname.is_empty() {
            "buildkitsandbox".into()
        } else {
            meta.hostname.clone()
        },
        mounts: Vec::new(),
        network: match pb::NetMode::try_from(exec.network) {
            Ok(pb::NetMode::Host) => Network::Host,
            Ok(pb::NetMode::None) => Network::None,
            _ => Network::Bridge,
        },
        privileged: exec.security == pb::SecurityMode::Insecure as i32,
        hosts: meta.extra_hosts.iter().map(|h| format!("{}:{}", h.host, h.ip)).collect(),
        ulimits: meta.ulimit.iter().map(|u| (u.name.clone(), u.soft, u.hard)).collect(),
        cgroup_parent: meta.cgroup_parent.clone(),
        shm_size: shm_size(exec),
        readonly,
    }
}

/// A tmpfs on `/dev/shm` is how front ends say `--shm-size`.
fn shm_size(exec: &pb::ExecOp) -> i64 {
    let shm = exec.mounts.iter().find(|m| is_shm(m));
    shm.and_then(|m| m.tmpfs_opt.as_ref()).map_or(0, |t| t.size)
}

fn is_shm(mount: &pb::Mount) -> bool {
    mount.dest == "/dev/shm" && mount.tmpfs_opt.is_some()
}
