//! A command of BuildKit's front: a container over a state, with mounts that a classic `RUN` does not have.

use super::{host::BuildHost, run::RunContainer};
use crate::containers::{Create, OverlayMount};
use api::model;
use base::{ImageId, Result};
use build::{
    host::{Container as _, Layer, Workspace as _},
    output::Output,
};
use std::path::{Path, PathBuf};
use sys::root::{Kind, Root};

/// A command, complete.
#[derive(Clone, Debug)]
pub struct Step {
    /// The state that it runs over.
    pub image: ImageId,
    /// Its words.
    pub args: Vec<String>,
    /// `NAME=value`, each.
    pub env: Vec<String>,
    /// Variables that are secrets: they are written nowhere.
    pub secret_env: Vec<String>,
    /// Where it starts.
    pub cwd: String,
    /// `user[:group]`.
    pub user: String,
    /// Its host name; one of its own when empty.
    pub hostname: String,
    /// What is mounted.
    pub mounts: Vec<StepMount>,
    /// Its network.
    pub network: Network,
    /// All rights.
    pub privileged: bool,
    /// `name:address`, each.
    pub hosts: Vec<String>,
    /// Name, soft and hard limit, each.
    pub ulimits: Vec<(String, i64, i64)>,
    /// Parent of its cgroup.
    pub cgroup_parent: String,
    /// Bytes of `/dev/shm`; the default when 0.
    pub shm_size: i64,
    /// Nothing of the root file system may be changed.
    pub readonly: bool,
}

/// The network of a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// The default bridge.
    #[default]
    Bridge,
    /// The host's.
    Host,
    /// Loopback only.
    None,
}

/// Something mounted.
#[derive(Clone, Debug)]
pub struct StepMount {
    /// What.
    pub source: Source,
    /// Where, absolute.
    pub target: String,
    /// It cannot be changed.
    pub readonly: bool,
}

/// What is mounted.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file or folder of the host.
    Path(PathBuf),
    /// A state, or what is at `path` in it. Changes go to a layer that nobody may want.
    State {
        /// The state; nothing is an empty folder.
        image: Option<ImageId>,
        /// Absolute path in it.
        path: String,
    },
    /// A folder of the host below a layer that takes the changes.
    Folder(PathBuf),
    /// Memory, at most this many bytes; 0 for no limit of its own.
    Tmpfs(i64),
}

/// How a command ended.
#[derive(Debug)]
pub struct Done {
    /// Exit code.
    pub code: i64,
    /// What it changed, if it succeeded and changed anything.
    pub layer: Option<Layer>,
    /// What it changed in each mount, in the order of [`Step::mounts`].
    pub mounts: Vec<Option<Layer>>,
}

impl BuildHost {
    /// Runs a command to its end; it is killed when this is dropped.
    ///
    /// # Errors
    /// As creating and starting a container give them.
    pub async fn run(&self, step: Step, accepted: &[i64], output: &Output) -> Result<Done> {
        let before = self.image_layers(&step.image)?.into_iter().map(|l| l.id).collect::<Vec<_>>();
        let mut create = create(&step, self.host_defaults());
        let mut trees = Vec::new();
        for mount in &step.mounts {
            trees.push(self.mounted(mount, &mut create).await?);
        }
        let targets: Vec<String> = step.mounts.iter().map(|m| m.target.clone()).collect();
        let stubs = self.missing(&before, targets).await?;
        let mut container =
            RunContainer::make(self.engine(), self.job(), self.hold(), create).await?;
        let code = container.run(output).await?;
        let mut done = Done { code, layer: None, mounts: Vec::new() };
        if accepted.contains(&code) {
            if !step.readonly {
                container.clear_stubs(stubs).await?;
                done.layer = container.commit().await?;
            }
            for tree in trees {
                done.mounts.push(match tree {
                    Some(tree) => tree.commit().await?,
                    None => None,
                });
            }
        }
        container.remove().await?;
        Ok(done)
    }

    /// Adds a mount to a container that is to be made; gives the tree that takes its changes.
    pub(super) async fn mounted(
        &self,
        mount: &StepMount,
        create: &mut Create,
    ) -> Result<Option<super::host::BuildTree>> {
        let target = mount.target.clone();
        match &mount.source {
            Source::Path(path) => {
                let bind = model::Mount {
                    r#type: "bind".into(),
                    source: path.display().to_string(),
                    target,
                    read_only: mount.readonly,
                    ..model::Mount::default()
                };
                create.host.mounts.get_or_insert_default().push(bind);
                Ok(None)
            }
            Source::Tmpfs(size) => {
                let options = if *size > 0 { format!("exec,size={size}") } else { "exec".into() };
                create.host.tmpfs.get_or_insert_default().insert(target, options);
                Ok(None)
            }
            Source::State { image, path } => {
                let tree = self.unmounted(image.as_ref()).await?;
                create.overlays.push(OverlayMount {
                    target,
                    path: path.clone(),
                    lower: tree.lower().to_vec(),
                    upper: tree.upper().to_owned(),
                    work: tree.work().to_owned(),
                    read_only: mount.readonly,
                });
                Ok(Some(tree))
            }
            Source::Folder(folder) => {
                let tree = self.unmounted(None).await?;
                create.overlays.push(OverlayMount {
                    target,
                    path: "/".into(),
                    lower: vec![folder.clone()],
                    upper: tree.upper().to_owned(),
                    work: tree.work().to_owned(),
                    read_only: mount.readonly,
                });
                Ok(Some(tree))
            }
        }
    }

    /// Paths that mounting makes because a state does not have them, deepest first.
    async fn missing(&self, layers: &[base::Digest], targets: Vec<String>) -> Result<Vec<PathBuf>> {
        if targets.is_empty() {
            return Ok(Vec::new());
        }
        let (engine, layers) = (self.engine().clone(), layers.to_vec());
        super::host::blocking(move || {
            let root = engine.snapshots.view(&layers)?;
            let mut missing = Vec::new();
            for target in targets {
                for path in Path::new(&target).ancestors() {
                    if path.parent().is_none() || root.lstat(path).is_ok() {
                        break;
                    }
                    missing.push(path.to_owned());
                }
            }
            Ok(missing)
        })
        .await
    }
}

/// Removes empty files and folders that are only there because something was mounted on them.
pub(super) fn clear_stubs(upper: &Root, stubs: &[PathBuf]) {
    for stub in stubs {
        let Ok(stat) = upper.lstat(stub) else { continue };
        let empty = match stat.kind {
            Kind::File => stat.size == 0,
            Kind::Dir => upper.read_dir(stub).is_ok_and(|entries| entries.is_empty()),
            _ => false,
        };
        if empty {
            // What was filled meanwhile is the step's own.
            let _kept = upper.remove_all(stub);
        }
    }
}

pub(super) fn create(step: &Step, mut host: model::HostConfig) -> Create {
    let config = model::ContainerConfig {
        image: step.image.to_string(),
        cmd: Some(step.args.clone()),
        // An entrypoint of one empty word: the image's own does not count.
        entrypoint: Some(vec![String::new()]),
        env: Some(step.env.clone()),
        working_dir: step.cwd.clone(),
        user: step.user.clone(),
        hostname: step.hostname.clone(),
        healthcheck: Some(model::HealthConfig {
            test: Some(vec!["NONE".into()]),
            ..model::HealthConfig::default()
        }),
        attach_stdout: true,
        attach_stderr: true,
        ..model::ContainerConfig::default()
    };
    host.network_mode = match step.network {
        Network::Bridge => String::new(),
        Network::Host => "host".into(),
        Network::None => "none".into(),
    };
    host.privileged = step.privileged;
    host.readonly_rootfs = step.readonly;
    host.extra_hosts = Some(step.hosts.clone()).filter(|h| !h.is_empty());
    host.cgroup_parent.clone_from(&step.cgroup_parent);
    host.shm_size = step.shm_size;
    let ulimits = step.ulimits.iter().map(|(name, soft, hard)| model::Ulimit {
        name: name.clone(),
        soft: *soft,
        hard: *hard,
    });
    host.ulimits = Some(ulimits.collect::<Vec<_>>()).filter(|u| !u.is_empty());
    let secret_env = step.secret_env.clone();
    Create { config, host, hidden: true, step: true, secret_env, ..Create::default() }
}
