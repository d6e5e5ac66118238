//! What is opened on the host before the clone: sources of binds, the root, namespaces to join.

use super::{Step, Tried, cgroups, dev, mounts, root, users};
use runtime::{plan::Plan, spec::Namespace};
use std::{fs::File, os::fd::OwnedFd, path::Path};
use sys::process::ns;

/// All that a container's first process takes over by descriptor.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The root, attached nowhere.
    pub(super) root: OwnedFd,
    /// Sources of the binds, in the order of the plan's mounts.
    pub(super) binds: Vec<Option<mounts::Bind>>,
    /// The host's nodes for devices that cannot be made, in the order of the plan's devices.
    pub(super) devices: Vec<Option<OwnedFd>>,
    /// The control groups to show.
    pub(super) groups: cgroups::View,
    /// The user namespace, to be entered last.
    pub(super) space: Option<users::Space>,
    /// Namespaces to join.
    pub(super) joins: Vec<(u64, File)>,
    /// Namespaces to be born in: that of pids when it is another's, and those that belong to a user namespace, because
    /// the caller looks for them as soon as it hears of the process.
    pub(super) birth: Vec<(u64, File)>,
    /// This program, for the tiny init.
    pub(super) own_program: Option<File>,
}

impl Prepared {
    /// Opens all of it. `place` is a folder of the host.
    pub(crate) fn new(plan: &Plan, place: &Path) -> Step<Self> {
        let spaces = &plan.namespaces;
        let mut space = users::Space::new(plan)?;
        let mut joins = Vec::new();
        for (bit, space) in [
            (ns::NET, &spaces.net),
            (ns::IPC, &spaces.ipc),
            (ns::UTS, &spaces.uts),
            (ns::CGROUP, &spaces.cgroup),
        ] {
            if let Some(file) = open(space)? {
                joins.push((bit, file));
            }
        }
        let mut birth: Vec<(u64, File)> =
            open(&spaces.pid)?.map(|file| (ns::PID, file)).into_iter().collect();
        if let Some(space) = &mut space {
            birth.append(&mut space.others);
        }
        let own_program = match plan.init {
            true => Some(File::open("/proc/self/exe").tried(|| "open the init program".into())?),
            false => None,
        };
        Ok(Self {
            binds: mounts::clone_sources(plan, space.as_ref(), place)?,
            root: root::make(plan, space.as_ref(), place)?,
            devices: dev::of_host(plan)?,
            groups: cgroups::View::new(plan)?,
            birth,
            space,
            joins,
            own_program,
        })
    }

    /// Leaves it to the process to join what it need not be born in. For a caller that hears of it only when all is set;
    /// in a user namespace it may have no right to come back to its own namespaces.
    pub(super) fn join_late(&mut self) {
        let (born, joined): (Vec<_>, Vec<_>) =
            self.birth.drain(..).partition(|(bit, _)| *bit == ns::PID);
        self.birth = born;
        self.joins.extend(joined);
    }

    /// The namespaces that the clone makes. The cgroup namespace comes later: its root is the group that
    /// the process is in at that time; what belongs to a user namespace was made with it.
    pub(super) fn clone_flags(plan: &Plan) -> u64 {
        let spaces = &plan.namespaces;
        if spaces.user.is_some() {
            return if spaces.pid == Namespace::New { ns::MOUNT | ns::PID } else { ns::MOUNT };
        }
        [
            (ns::PID, &spaces.pid),
            (ns::NET, &spaces.net),
            (ns::IPC, &spaces.ipc),
            (ns::UTS, &spaces.uts),
        ]
        .into_iter()
        .filter(|(_, space)| **space == Namespace::New)
        .fold(ns::MOUNT, |flags, (bit, _)| flags | bit)
    }
}

fn open(space: &Namespace) -> Step<Option<File>> {
    match space {
        Namespace::Path(path) => {
            let file = File::open(path).tried(|| format!("open namespace {}", path.display()))?;
            Ok(Some(file))
        }
        _ => Ok(None),
    }
}
