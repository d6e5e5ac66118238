//! What is opened on the host before the clone: sources of binds, the root, namespaces to join.

use super::{Step, Tried, cgroups, mounts, root};
use runtime::{plan::Plan, spec::Namespace};
use std::{fs::File, os::fd::OwnedFd};
use sys::process::ns;

/// All that a container's first process takes over by descriptor.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The root, attached nowhere.
    pub(super) root: OwnedFd,
    /// Sources of the binds, in the order of the plan's mounts.
    pub(super) binds: Vec<Option<mounts::Bind>>,
    /// The control groups to show.
    pub(super) groups: cgroups::View,
    /// Namespaces to join.
    pub(super) joins: Vec<(u64, File)>,
    /// The pid namespace to be born in.
    pub(super) pid_ns: Option<File>,
    /// This program, for the tiny init.
    pub(super) own_program: Option<File>,
}

impl Prepared {
    /// Opens all of it.
    pub(crate) fn new(plan: &Plan) -> Step<Self> {
        let spaces = &plan.namespaces;
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
        let own_program = match plan.init {
            true => Some(File::open("/proc/self/exe").tried(|| "open the init program".into())?),
            false => None,
        };
        Ok(Self {
            binds: mounts::clone_sources(plan)?,
            root: root::make(&plan.root)?,
            groups: cgroups::View::new(plan)?,
            pid_ns: open(&spaces.pid)?,
            joins,
            own_program,
        })
    }

    /// The namespaces that the clone makes. The cgroup namespace comes later: its root is the group that
    /// the process is in at that time.
    pub(super) fn clone_flags(plan: &Plan) -> u64 {
        let spaces = &plan.namespaces;
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
