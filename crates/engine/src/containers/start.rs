//! `POST /containers/{id}/start`: a saga of named steps.
//!
//! The shim clones the first process, which prepares itself while we wire its network; attaches that
//! came early are connected; then the shim lets it run. Nothing here is synced to disk: a power cut loses
//! at most the note that the container was started, and after one it runs no more anyway.

use super::{Container, Places, Record, Status, facts::Deed, networking};
use crate::{
    Engine,
    saga::{self, Done, Fault, Step},
};
use base::{Error, Kind, Principal, Result, Timestamp};
use runtime::shim::{self, Class, Launch, Shim, StartError};
use std::{
    fs,
    os::fd::AsFd as _,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

/// What the steps share.
pub(crate) struct Start<'e> {
    engine: &'e Arc<Engine>,
    container: &'e Arc<Container>,
    record: Arc<Record>,
    by: &'e Principal,
    places: Places,
    shim: Option<Arc<Shim>>,
    pid: u32,
    endpoints: Vec<network::Endpoint>,
    failure: Option<Class>,
    /// Another runtime carries it out.
    other: bool,
}

/// The steps, in order. A test breaks each in turn.
fn steps<'a>() -> [&'a dyn Step<Start<'a>>; 5] {
    [&PrepareFiles, &SpawnShim, &AttachNetwork, &Release, &MarkRunning]
}

/// Names of the steps, for tests that break them.
pub fn step_names() -> Vec<&'static str> {
    steps().iter().map(|s| s.name()).collect()
}

impl Engine {
    /// Starts container `name`.
    ///
    /// # Errors
    /// `NotFound`; `NotModified` when it runs; `Conflict` when it is paused or being removed; `Invalid`
    /// when its program cannot be run.
    pub async fn container_start(self: &Arc<Self>, name: &str, by: &Principal) -> Result<()> {
        let container = self.containers.find(name)?;
        self.start_container(&container, by).await
    }

    pub(crate) async fn start_container(
        self: &Arc<Self>,
        container: &Arc<Container>,
        by: &Principal,
    ) -> Result<()> {
        let _ops = container.ops.lock().await;
        let record = container.record();
        match record.state.status {
            Status::Running => {
                return Err(Error::not_modified(format!(
                    "container {} is already running",
                    record.id
                )));
            }
            Status::Paused => {
                return Err(Error::conflict(
                    "cannot start a paused container, try unpause instead",
                ));
            }
            Status::Removing | Status::Dead => {
                return Err(Error::conflict(
                    "container is marked for removal and cannot be started",
                ));
            }
            Status::Created | Status::Exited | Status::Restarting => {}
        }
        if container.watch().borrow().removed {
            return Err(Error::not_found(format!("No such container: {}", record.id)));
        }
        if container.removing.load(Ordering::SeqCst) {
            return Err(Error::conflict("container is marked for removal and cannot be started"));
        }
        let mut cx = Start {
            engine: self,
            container,
            places: Places::of(&self.config, &record.id),
            record,
            by,
            shim: None,
            pid: 0,
            endpoints: Vec::new(),
            failure: None,
            other: false,
        };
        let fault = self.faults.start();
        let outcome = saga::run(&steps(), &mut cx, fault).await;
        let Err(err) = outcome else { return Ok(()) };
        let class = cx.failure;
        drop(cx);
        self.start_failed(container, &err, class, by).await;
        Err(err)
    }

    /// Notes why a start failed; an `--rm` container goes.
    async fn start_failed(
        self: &Arc<Self>,
        container: &Arc<Container>,
        err: &Error,
        class: Option<Class>,
        by: &Principal,
    ) {
        container.set_shim(None);
        // Attaches that waited for this start end with it.
        container.early.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let text = err.chain();
        let code = class.map_or(128, Class::exit_code);
        let noted = container.change(
            &self.store,
            |r| {
                r.state.pid = 0;
                r.state.exit_code = code;
                r.state.error = text;
                r.attached.clear();
                // It may have been marked as running; who waits for its end may be late.
                if matches!(r.state.status, Status::Restarting | Status::Running) {
                    r.state.status = Status::Exited;
                }
                r.state.ends += 1;
            },
            |_, _| Ok(()),
        );
        if let Err(err) = noted {
            tracing::error!(
                ctr = container.id().short(),
                err = err.chain(),
                "the failed start was not recorded"
            );
        }
        if container.record().host.auto_remove
            && let Err(err) = self.forget(container, true, by).await
        {
            tracing::error!(
                ctr = container.id().short(),
                err = err.chain(),
                "an --rm container stays"
            );
        }
    }
}

/// Folders and files that the process will see.
struct PrepareFiles;

impl<'e> Step<Start<'e>> for PrepareFiles {
    fn name(&self) -> &'static str {
        "prepare-files"
    }

    fn act<'a>(&'a self, cx: &'a mut Start<'e>) -> Done<'a> {
        Box::pin(async move {
            match fs::remove_dir_all(&cx.places.exec) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io(format!("cannot clear {}", cx.places.exec.display()), e));
                }
                _ => {}
            }
            crate::lifecycle::private_dir(&cx.places.exec)?;
            if cx.record.root.is_some() {
                cx.engine.clear_plugin_sockets(&cx.record.id)?;
            }
            if cx.record.host.ipc_mode == "shareable" {
                shared_memory(&cx.places.exec.join("shm"))?;
            }
            if cx.record.mounts.iter().any(|m| m.kind == "volume") {
                let (engine, record) = (Arc::clone(cx.engine), Arc::clone(&cx.record));
                crate::images::blocking(move || engine.volumes_hold(&record)).await?;
            }
            if crate::volumes::has_plugged(&cx.record) {
                cx.record = cx.engine.plugged_hold_all(cx.container).await?;
            }
            cx.engine.write_names(&cx.record, &cx.places)?;
            if cx.engine.selinux.is_some() {
                let (engine, record) = (Arc::clone(cx.engine), Arc::clone(&cx.record));
                let places = cx.places.clone();
                crate::images::blocking(move || engine.relabel(&record, &places)).await?;
            }
            Ok(())
        })
    }

    fn undo<'a>(&'a self, cx: &'a mut Start<'e>) -> Done<'a> {
        Box::pin(async move {
            cx.engine.volumes_release(&cx.record);
            cx.engine.plugged_release_all(&cx.record).await;
            match fs::remove_dir_all(&cx.places.exec) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    Err(Error::io(format!("cannot remove {}", cx.places.exec.display()), e))
                }
                _ => Ok(()),
            }
        })
    }
}

/// A folder that anyone in the container may write to, as `/dev/shm` is.
fn shared_memory(dir: &std::path::Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let made = fs::create_dir(dir)
        .and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(0o1777)));
    made.map_err(|e| Error::io(format!("cannot make shared memory in {}", dir.display()), e))
}

/// How long the last run's shim may take to tidy up. One that a client holds up ends after ten seconds; its control group
/// is gone long before.
pub(super) const TIDYING: Duration = Duration::from_secs(2);

/// The shim and, inside it, the first process with its namespaces, not yet let loose.
struct SpawnShim;

impl<'e> Step<Start<'e>> for SpawnShim {
    fn name(&self) -> &'static str {
        "spawn-shim"
    }

    fn act<'a>(&'a self, cx: &'a mut Start<'e>) -> Done<'a> {
        Box::pin(async move {
            let engine = cx.engine;
            let spec = super::spec::spec(
                &cx.record,
                &cx.places,
                engine,
                *cx.container.size.lock().unwrap_or_else(PoisonError::into_inner),
            )?;
            let plan = runtime::plan(&spec, &engine.features)?;
            let runtime = engine.other_runtime(&cx.record)?;
            cx.other = runtime.is_some();
            let log = super::log_config::log_config(&cx.record, &cx.places, &engine.config)?;
            let log = serde_json::to_value(&log)
                .map_err(|e| Error::internal("cannot encode the log configuration").caused_by(e))?;
            let stdin = match (cx.record.config.open_stdin, cx.record.config.stdin_once) {
                (false, _) => shim::Stdin::Null,
                (true, true) => shim::Stdin::Once,
                (true, false) => shim::Stdin::Open,
            };
            let launch = Launch {
                binary: &engine.shim,
                dir: &cx.places.exec,
                plan,
                log: Some(log),
                stdin,
                runtime,
            };
            // It would take the control group away under the new run's feet.
            if let Some(last) = cx.container.last_shim() {
                last.gone(TIDYING).await;
            }
            let (shim, spawned) = match Shim::spawn(launch).await {
                Ok(made) => made,
                Err(err) => {
                    // One that was killed has not tidied up.
                    let parent = &cx.record.host.cgroup_parent;
                    if let Err(left) = engine.sweep_cgroup(cx.container.id(), parent) {
                        tracing::warn!(err = left.chain(), "a cgroup is left");
                    }
                    return Err(cx.failed(err));
                }
            };
            cx.shim = Some(Arc::new(shim));
            cx.pid = spawned.pid;
            Ok(())
        })
    }

    fn undo<'a>(&'a self, cx: &'a mut Start<'e>) -> Done<'a> {
        Box::pin(async move {
            cx.container.set_shim(None);
            if let Some(shim) = cx.shim.take() {
                // A process that runs already is ended; one that was not released goes with the handle.
                let _ = shim.signal(&shim::Target::Init, base::signal::KILL).await;
                drop(shim);
                cx.engine.sweep_cgroup(cx.container.id(), &cx.record.host.cgroup_parent)?;
            }
            Ok(())
        })
    }
}

/// What wires a container, here or on a thread that may block.
struct Wiring {
    engine: Arc<Engine>,
    record: Arc<Record>,
    wishes: Vec<networking::Wish>,
    publish: Vec<network::Publish>,
    netns: fs::File,
    path: String,
}

impl Wiring {
    fn run(self) -> (Vec<network::Endpoint>, Result<()>) {
        let mut endpoints = Vec::new();
        for wish in &self.wishes {
            let networks = &self.engine.networks;
            let netns = self.netns.as_fd();
            match wish.attach(&self.record, networks, netns, &self.path, &self.publish) {
                Ok(endpoint) => endpoints.push(endpoint),
                Err(err) => return (endpoints, Err(err)),
            }
        }
        (endpoints, Ok(()))
    }
}

/// The network, wired into the waiting process's namespace.
struct AttachNetwork;

impl<'e> Step<Start<'e>> for AttachNetwork {
    fn name(&self) -> &'static str {
        "attach-network"
    }

    fn act<'a>(&'a self, cx: &'a mut Start<'e>) -> Done<'a> {
        Box::pin(async move {
            let record = Arc::clone(&cx.record);
            let shared = record.host.network_mode.starts_with("container:");
            if shared || record.host.network_mode == "host" {
                return Ok(());
            }
            let wishes = networking::Wish::all(&record, &cx.engine.networks)?;
            let publish = networking::published(&record)?;
            let path = format!("/proc/{}/ns/net", cx.pid);
            let netns = match fs::File::open(&path) {
                Ok(netns) => netns,
                Err(err) => {
                    // It failed while it prepared itself; the shim knows why.
                    if let Some(shim) = &cx.shim {
                        shim.release().await.map_err(|e| cx.failed(e))?;
                    }
                    return Err(Error::io(format!("cannot open {path}"), err));
                }
            };
            if wishes.is_empty() {
                return network::wire_loopback(netns.as_fd());
            }
            let slow = wishes.iter().any(|w| cx.engine.networks.is_slow(&w.network));
            let wire =
                Wiring { engine: Arc::clone(cx.engine), record, wishes, publish, netns, path };
            let (endpoints, wired) = match slow {
                false => wire.run(),
                true => crate::networks::blocking(move || Ok(wire.run())).await?,
            };
            cx.endpoints = endpoints;
            wired?;
            // Kept before the program may run: whoever finds it running after a crash knows its addresses.
            let kept = cx.endpoints.clone();
            cx.container.change(&cx.engine.store, |r| r.set_attached(&kept), |_, _| Ok(()))?;
            cx.engine.write_hosts(&cx.record, &cx.places, &cx.endpoints)?;
            match &cx.shim {
                Some(shim) if cx.engine.has_names(&cx.record) => shim.serve_names().await,
                _ => Ok(()),
            }
        })
    }

    fn undo<'a>(&'a self, cx: &'a mut Start<'e>) -> Done<'a> {
        Box::pin(async move {
            cx.endpoints.clear();
            cx.engine.leave_networks(&cx.record.id).await?;
            if cx.record.own_networks().iter().any(|name| cx.engine.networks.is_slow(name)) {
                cx.engine.settle_networks_later();
            }
            cx.container.change(&cx.engine.store, |r| r.attached.clear(), |_, _| Ok(())).map(drop)
        })
    }
}

/// The program runs.
struct Release;

impl<'e> Step<Start<'e>> for Release {
    fn name(&self) -> &'static str {
        "release"
    }

    fn act<'a>(&'a self, cx: &'a mut Start<'e>) -> Done<'a> {
        Box::pin(async move {
            let Some(shim) = cx.shim.clone() else {
                return Err(Error::internal("there is no shim to release"));
            };
            // From here on attaches go to the shim; those that came before follow now.
            cx.container.set_shim(Some(Arc::clone(&shim)));
            cx.engine.connect_early(cx.container, &shim).await;
            shim.release().await.map_err(|e| cx.failed(e))
        })
    }
}

/// The record says so, and one task waits for the end.
struct MarkRunning;

impl<'e> Step<Start<'e>> for MarkRunning {
    fn name(&self) -> &'static str {
        "mark-running"
    }

    fn act<'a>(&'a self, cx: &'a mut Start<'e>) -> Done<'a> {
        Box::pin(async move {
            let (pid, endpoints, by) = (cx.pid as i32, &cx.endpoints, cx.by);
            let image = cx.record.image.clone();
            let by_policy = cx.record.state.status == Status::Restarting;
            let health = super::health::begin(&cx.container.record());
            cx.container.health().clone_from(&health);
            cx.container.change(
                &cx.engine.store,
                |r| {
                    r.state.status = Status::Running;
                    r.state.pid = pid;
                    r.state.exit_code = 0;
                    r.state.error = String::new();
                    r.state.oom_killed = false;
                    r.state.started = Timestamp::now();
                    if !by_policy {
                        r.state.restarts = 0;
                    }
                    r.state.stopped_by_hand = false;
                    r.state.health = health;
                    r.set_attached(endpoints);
                    r.facts.started = Some(Deed::now(by));
                    r.facts.ended = None;
                },
                |tx, r| {
                    tx.touch_image(&image, Timestamp::now())?;
                    if r.hidden {
                        return Ok(());
                    }
                    for endpoint in endpoints {
                        tx.emit(networking::network_event("connect", r, endpoint).by(by));
                    }
                    tx.emit(r.event("start").by(by));
                    Ok(())
                },
            )?;
            let Some(shim) = cx.shim.clone() else {
                return Err(Error::internal("there is no shim to watch"));
            };
            cx.engine.watch(cx.container, shim);
            cx.engine.tell_linked(&cx.container.record());
            Ok(())
        })
    }
}

impl Start<'_> {
    /// Docker's sentence around the reason; 400 for what the caller can mend.
    fn failed(&mut self, err: StartError) -> Error {
        self.failure = Some(err.class);
        let kind = match err.class {
            Class::Setup => Kind::Internal,
            Class::NotFound | Class::NotExecutable | Class::Invalid => Kind::Invalid,
        };
        // Another runtime's words are whole sentences.
        let own = "runc create failed: unable to start container process: ";
        let own = if self.other { "" } else { own };
        Error::new(
            kind,
            format!(
                "failed to create task for container: failed to create shim task: OCI runtime create failed: {own}{}: unknown",
                err.text
            ),
        )
    }
}

/// Faults that tests inject.
#[derive(Debug, Default)]
pub struct Faults {
    start: std::sync::Mutex<Option<&'static str>>,
    death: std::sync::Mutex<Option<&'static str>>,
}

impl Faults {
    /// The next starts fail after `step`.
    pub fn break_start(&self, step: Option<&'static str>) {
        *self.start.lock().unwrap_or_else(PoisonError::into_inner) = step;
    }

    /// The next change of networks breaks off at `step`, as if the engine died there: nothing is undone.
    pub fn die_at(&self, step: Option<&'static str>) {
        *self.death.lock().unwrap_or_else(PoisonError::into_inner) = step;
    }

    /// A step at which a change of networks may break off.
    pub(crate) fn step(&self, step: &'static str) {
        let wanted = *self.death.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(wanted != Some(step), "injected death at {step}");
    }

    fn start(&self) -> Fault {
        Fault(*self.start.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
