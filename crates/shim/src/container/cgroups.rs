//! What a container sees at `/sys/fs/cgroup`: its own groups.
//!
//! In a cgroup namespace of its own the file systems show nothing else; without one, on v1, the host's
//! folders are bound (cloned before the clone of the process), on v2 the whole tree shows, as in Docker.

use super::{Step, Tried, mounts};
use runtime::{plan::Plan, spec::Namespace};
use std::{fs, os::fd::OwnedFd, path::Path};
use sys::{
    mount::{self, Depth, attr},
    root::Root,
};

/// How the groups are shown.
#[derive(Debug, Default)]
pub(crate) struct View {
    v2: bool,
    /// SELinux label of the folder that holds those of v1.
    label: Option<String>,
    /// Name of the folder, controllers or `name=...`, and without a namespace the host's folder.
    trees: Vec<Tree>,
}

#[derive(Debug)]
struct Tree {
    folder: String,
    words: Vec<String>,
    host: Option<OwnedFd>,
}

impl View {
    /// Collects what is needed while the host can be seen.
    pub(crate) fn new(plan: &Plan) -> Step<Self> {
        let wanted = plan.mounts.iter().any(|m| m.kind == runtime::plan::MountKind::Cgroup);
        let mut view =
            Self { v2: plan.cgroup_v2, label: plan.label().map(str::to_owned), trees: Vec::new() };
        if !wanted || view.v2 {
            return Ok(view);
        }
        let own =
            fs::read_to_string("/proc/self/cgroup").tried(|| "read /proc/self/cgroup".into())?;
        for line in own.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let words = fields.next().unwrap_or_default();
            if words.is_empty() {
                continue;
            }
            let folder = words.strip_prefix("name=").unwrap_or(words).to_owned();
            let host = match (&plan.namespaces.cgroup, &plan.cgroup) {
                (Namespace::New, _) | (_, None) => None,
                (_, Some(cgroup)) => host_folder(&folder, &cgroup.path),
            };
            view.trees.push(Tree {
                folder,
                words: words.split(',').map(str::to_owned).collect(),
                host,
            });
        }
        Ok(view)
    }

    /// Attaches them at `path`.
    pub(crate) fn attach(&self, root: &Root, path: &Path, set: u64) -> Step {
        let what = || format!("error mounting \"cgroup\" to rootfs at \"{}\"", path.display());
        let target = mounts::folder(root, path).tried(what)?;
        mounts::allowed(path, &target)?;
        if self.v2 {
            let tree = mount::new_fs("cgroup2", "cgroup", &[], set).tried(what)?;
            return mount::attach(&tree, &target).tried(what);
        }
        let mut options = vec![("mode".to_owned(), Some("755".to_owned()))];
        if let Some(label) = &self.label {
            mounts::labelled(&mut options, label);
        }
        let tmpfs = mount::new_fs("tmpfs", "tmpfs", &options, set & !attr::RDONLY).tried(what)?;
        mount::attach(&tmpfs, &target).tried(what)?;
        for tree in &self.trees {
            tree.attach(root, path, set).tried(what)?;
        }
        mount::set_attr(&tmpfs, set & attr::RDONLY, 0, 0, Depth::One).tried(what)
    }
}

/// `None` for a hierarchy that the container is not in.
fn host_folder(folder: &str, path: &Path) -> Option<OwnedFd> {
    let inner = path.strip_prefix("/").unwrap_or(path);
    let host = Path::new("/sys/fs/cgroup").join(folder).join(inner);
    mount::clone_path(&host, Depth::One).ok()
}

impl Tree {
    fn attach(
        &self,
        root: &Root,
        path: &Path,
        set: u64,
    ) -> Result<(), (String, rustix::io::Errno)> {
        let fail = |e: std::io::Error| {
            (
                self.folder.clone(),
                rustix::io::Errno::from_io_error(&e).unwrap_or(rustix::io::Errno::IO),
            )
        };
        let place = path.join(&self.folder);
        let target = mounts::folder(root, &place).map_err(|e| (self.folder.clone(), e.errno()))?;
        let tree = match &self.host {
            Some(host) => {
                mount::set_attr(host, set, 0, mount::propagation::PRIVATE, Depth::One)
                    .map_err(fail)?;
                host
            }
            None => {
                let options: Vec<(String, Option<String>)> = self
                    .words
                    .iter()
                    .map(|word| match word.split_once('=') {
                        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                        None => (word.clone(), None),
                    })
                    .collect();
                &mount::new_fs("cgroup", "cgroup", &options, set)?
            }
        };
        mount::attach(tree, &target).map_err(fail)?;
        // `cpu` and `cpuacct` lead to `cpu,cpuacct`.
        for word in self.words.iter().filter(|w| self.words.len() > 1 && !w.contains('=')) {
            let _ = root.symlink(&self.folder, path.join(word));
        }
        Ok(())
    }
}
