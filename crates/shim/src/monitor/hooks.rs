//! Hooks of a container: run by copies of the shim, so that the loop goes on.
//!
//! Flow: the first process says that its namespaces and mounts are made, the launcher that the network is wired; then a copy
//! runs the hooks of the runtime's side and lets the process go on to those of its own, or has it say why not. Those after the
//! start and after the end run beside the container, and what becomes of them changes nothing.
//! Invariants: the bundle (`config.json`, the place of the root) is a folder of the container's own folder and goes with it.

use super::Monitor;
use crate::{
    container::{BUNDLE, Message, Step, Sync, Tried},
    hooks::{self, State},
};
use runtime::{
    oci::{self, Hooks},
    plan::Plan,
    shim::Target,
};
use std::{
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};
use sys::process::{self as kernel, Forked};

const KILL: i32 = 9;

/// What is needed to run them.
#[derive(Debug)]
pub(super) struct Hooked {
    id: String,
    hooks: Hooks,
    bundle: PathBuf,
    /// Pid of the first process.
    pub(super) pid: u32,
    /// Its namespaces and mounts are made.
    ready: bool,
    /// Those before its start are under way.
    begun: bool,
}

impl Hooked {
    /// The bundle for the plan's hooks in the container's folder, if it has some.
    pub(super) fn new(plan: &Plan, dir: &Path) -> Step<Option<Self>> {
        if plan.hooks.is_empty() {
            return Ok(None);
        }
        let hooked = Self {
            id: plan.id.clone(),
            hooks: plan.hooks.clone(),
            bundle: dir.join(BUNDLE),
            pid: 0,
            ready: false,
            begun: false,
        };
        let rootfs = hooked.rootfs();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&rootfs)
            .tried(|| format!("make {}", rootfs.display()))?;
        let config = oci::for_hooks(plan, &rootfs);
        let bytes = serde_json::to_vec(&config)
            .map_err(std::io::Error::from)
            .tried(|| "encode config.json".into())?;
        let path = hooked.bundle.join("config.json");
        fs::write(&path, bytes).tried(|| format!("write {}", path.display()))?;
        Ok(Some(hooked))
    }

    /// Where the root is put in the container's mount namespace.
    pub(super) fn rootfs(&self) -> PathBuf {
        self.bundle.join("rootfs")
    }

    fn state(&self, status: &'static str) -> String {
        State::new(&self.id, self.pid, status, &self.bundle).text()
    }

    /// Those on the runtime's side before the start, in a copy of the shim; then the process may go on.
    fn before(&self, sync: &Sync) -> Step {
        let state = self.state("creating");
        hooks::run(&self.hooks.prestart, "prestart", &state)?;
        hooks::run(&self.hooks.create_runtime, "createRuntime", &state)?;
        let go_on = |message| sync.send(&message, None).tried(|| "tell the process".into());
        go_on(Message::Hooked(self.state("created")))?;
        go_on(Message::Run)
    }
}

impl Monitor {
    /// The first process has made its namespaces and mounts.
    pub(super) fn spaces_are_made(&mut self) {
        let Some(hooked) = self.container.as_mut().and_then(|c| c.hooked.as_mut()) else { return };
        hooked.ready = true;
        self.run_hooks();
    }

    /// Runs those before the start, once the process is ready and the launcher has released it.
    pub(super) fn run_hooks(&mut self) {
        let Some(container) = &mut self.container else { return };
        let (released, Some(hooked)) = (container.released, &mut container.hooked) else { return };
        let first = self.processes.get(&Target::Init).and_then(|p| p.sync.as_ref());
        let (true, true, false, Some((_, sync))) = (released, hooked.ready, hooked.begun, first)
        else {
            return;
        };
        hooked.begun = true;
        let ran = beside(|| {
            let _ = kernel::set_parent_death_signal(KILL);
            if let Err(err) = hooked.before(sync) {
                let _ = sync.send(&Message::Failed(err), None);
            }
        });
        if let Err(err) = ran {
            let _ = sync.send(&Message::Failed(err), None);
        }
    }

    /// Runs those after the start.
    pub(super) fn start_hooks(&self) {
        let Some(hooked) = self.container.as_ref().and_then(|c| c.hooked.as_ref()) else { return };
        let kept = &hooked.hooks.poststart;
        if !kept.is_empty() {
            let _ = beside(|| drop(hooks::run(kept, "poststart", &hooked.state("running"))));
        }
    }

    /// Runs those after the end, once.
    pub(super) fn after_hooks(&mut self) {
        let Some(hooked) = self.container.as_mut().and_then(|c| c.hooked.take()) else { return };
        let kept = &hooked.hooks.poststop;
        if !kept.is_empty() {
            let _ = beside(|| drop(hooks::run_all(kept, "poststop", &hooked.state("stopped"))));
        }
    }
}

/// Does it in a copy of the shim, which the loop reaps like any child that it does not know.
fn beside(work: impl FnOnce()) -> Step {
    match kernel::clone(0, None).tried(|| "fork for hooks".into())? {
        Forked::Parent(_) => Ok(()),
        Forked::Child => {
            work();
            kernel::exit(0)
        }
    }
}
