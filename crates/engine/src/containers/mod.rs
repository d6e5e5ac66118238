//! Containers: create, start, attach, exec, stop, remove, and what is known of them.
//!
//! Flow: a [`Container`] holds an immutable [`Record`] that readers take a snapshot of; a change makes a
//! new record, commits it to the store together with its events, and swaps it in. Changes of one
//! container are serialised by its operation lock; no reader takes that lock.
//!
//! A running container has a shim, and one task (`owner.rs`) which waits for its end. The shim is the
//! authority on the process; the record is what we last knew.

mod apparmor;
mod archive;
mod asked_mounts;
mod attach;
mod cdi;
mod commit;
mod confine;
mod create;
mod devices;
mod exec;
mod facts;
mod filter;
mod health;
mod inspect;
mod kill;
mod limits;
mod links;
mod list;
mod log_config;
mod logs;
mod merge;
mod mounts;
mod names;
pub(crate) mod networking;
mod own_root;
mod owner;
mod pause;
mod prune;
mod recover;
mod reframe;
mod registry;
mod remove;
mod rename;
mod resize;
mod settle;
mod spec;
mod start;
mod state;
mod stats;
mod stop;
mod top;
mod tree;
mod update;
mod wait;

pub use archive::{ExtractOptions, Outgoing};
pub use attach::{AttachOptions, AttachStream, Input, Stream};
pub use create::{Create, Created, OverlayMount, check};
pub use facts::Facts;
pub use list::ListOptions;
pub use logs::{LogOptions, LogStream};
pub use prune::Pruned;
pub use registry::Registry;
pub use remove::RemoveOptions;
pub use state::{State, Status};
pub(crate) use stats::Used;
pub use stats::{StatsOptions, StatsStream};
pub use top::Table;
pub use wait::{Condition, Ended, Wait};

pub(crate) use apparmor::enabled as has_apparmor;
pub(crate) use confine::{Confinement, check_seccomp, seccomp_section};
pub(crate) use exec::Execs;
pub(crate) use mounts::{Mounted, PROPAGATIONS};
pub(crate) use own_root::Own;
pub(crate) use settle::Kernel;
pub(crate) use settle::{SecurityOption, security_option};
pub use start::{Faults, step_names};
pub(crate) use stats::interfaces;
pub(crate) use wait::Phase;

pub(crate) use log_config::check as check_logging;

use api::model;
use base::{ContainerId, Digest, Error, Platform, Result, Timestamp, event::Event};
use runtime::shim::Shim;
use serde::{Deserialize, Serialize};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock, atomic::AtomicBool},
    time::Duration,
};
use store::{Store, Tx};
use tokio::sync::watch;

/// Everything that is kept of a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    pub(crate) id: ContainerId,
    pub(crate) name: String,
    pub(crate) created: Timestamp,
    /// The image it runs, by id.
    pub(crate) image: Digest,
    /// The image as asked for.
    pub(crate) image_reference: String,
    pub(crate) platform: Platform,
    /// Configuration merged with the image's.
    pub(crate) config: model::ContainerConfig,
    pub(crate) host: model::HostConfig,
    /// Networks asked for, by name.
    #[serde(default)]
    pub(crate) endpoints: networking::Asked,
    /// The image's layers, lowest first.
    pub(crate) layers: Vec<Digest>,
    pub(crate) mounts: Vec<Mounted>,
    /// Overlays mounted in it (steps of builds).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) overlays: Vec<create::OverlayMount>,
    pub(crate) state: State,
    /// What it has on its networks while it runs, in the order of its links.
    #[serde(default, alias = "endpoint", deserialize_with = "networking::several")]
    pub(crate) attached: Vec<network::Endpoint>,
    #[serde(default)]
    pub(crate) facts: Facts,
    /// Steps of a build and plugins are not shown in lists.
    #[serde(default)]
    pub(crate) hidden: bool,
    /// A plugin's: the folder that is its root instead of layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) root: Option<PathBuf>,
    /// SELinux label of its processes; empty leaves them to the policy.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) process_label: String,
    /// SELinux label of its files.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) mount_label: String,
    /// Variables that are secrets (steps of builds): never on disk.
    #[serde(skip)]
    pub(crate) secret_env: Vec<String>,
}

impl Record {
    /// Path and arguments of the process, entrypoint first.
    pub(crate) fn argv(&self) -> Vec<String> {
        let part = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
        part(&self.config.entrypoint).into_iter().chain(part(&self.config.cmd)).collect()
    }

    /// An event of this container with docker's attributes: all labels, image and name.
    pub(crate) fn event(&self, action: impl Into<String>) -> Event {
        Event::new("container", action, self.id.as_str())
            .with_all(self.config.labels.clone().unwrap_or_default())
            .with("image", &self.image_reference)
            .with("name", &self.name)
    }

    /// This container as the rules of image removal see it: a user of its own image and of those mounted in it.
    pub(crate) fn as_image_users(&self) -> Vec<crate::images::User> {
        let user = |image: &Digest, layers: &[Digest]| crate::images::User {
            container: self.id.to_string(),
            image: image.clone(),
            running: self.state.status.alive(),
            layers: layers.to_vec(),
        };
        let mounted = self.mounts.iter().filter(|m| m.kind == "image");
        // Records of before the image was kept have its layers alone.
        let mounted = mounted.map(|m| user(m.image.as_ref().unwrap_or(&self.image), &m.layers));
        std::iter::once(user(&self.image, &self.layers)).chain(mounted).collect()
    }

    fn row(&self) -> store::Container<&Self> {
        store::Container {
            id: self.id.clone(),
            name: self.name.clone(),
            image: self.image.to_string(),
            created: self.created,
            doc: self,
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        Phase {
            alive: self.state.status.alive() || self.state.status == Status::Restarting,
            ends: self.state.ends,
            exit_code: self.state.exit_code,
            error: self.state.error.clone(),
            paused: self.state.status == Status::Paused,
            removed: false,
            removal_error: None,
        }
    }
}

/// A container.
#[derive(Debug)]
pub struct Container {
    id: ContainerId,
    record: RwLock<Arc<Record>>,
    /// Serialises writers of the record, so that the slot itself is locked only for the swap; true when the
    /// row is gone, which no later change may bring back.
    writing: Mutex<bool>,
    phase: watch::Sender<Phase>,
    /// Serialises changes. Held across `.await`, never by readers.
    pub(crate) ops: tokio::sync::Mutex<()>,
    shim: Mutex<Option<Arc<Shim>>>,
    last_shim: Mutex<Option<Arc<Shim>>>,
    /// A restart is under way: its end is not the end of an `--rm` container.
    pub(crate) restarting: AtomicBool,
    /// A forced removal is under way: its owner leaves the removal to it.
    pub(crate) removing: AtomicBool,
    pub(crate) execs: Execs,
    /// Attaches that came before the start.
    pub(crate) early: Mutex<Vec<attach::Early>>,
    /// Terminal size asked for before the start.
    pub(crate) size: Mutex<Option<(u16, u16)>>,
    /// What the health checks found; the record has what it was at the last change of status.
    health: Mutex<Option<health::Health>>,
    /// How long the restart policy waited last.
    pub(crate) backoff: Mutex<Duration>,
    /// Why an end could not be recorded so far.
    unrecorded: Mutex<Option<String>>,
}

impl Container {
    pub(crate) fn new(record: Record) -> Arc<Self> {
        let (phase, _) = watch::channel(record.phase());
        let health = Mutex::new(record.state.health.clone());
        Arc::new(Self {
            id: record.id.clone(),
            record: RwLock::new(Arc::new(record)),
            writing: Mutex::new(false),
            phase,
            ops: tokio::sync::Mutex::new(()),
            shim: Mutex::new(None),
            last_shim: Mutex::new(None),
            restarting: AtomicBool::new(false),
            removing: AtomicBool::new(false),
            execs: Execs::default(),
            early: Mutex::new(Vec::new()),
            size: Mutex::new(None),
            health,
            backoff: Mutex::default(),
            unrecorded: Mutex::default(),
        })
    }

    /// Why its end could not be recorded so far, if it has ended.
    pub(crate) fn unrecorded(&self) -> Option<String> {
        self.unrecorded.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn note_unrecorded(&self, why: Option<String>) {
        *self.unrecorded.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// Its id.
    pub fn id(&self) -> &ContainerId {
        &self.id
    }

    /// What is known of it now.
    pub(crate) fn record(&self) -> Arc<Record> {
        Arc::clone(&self.record.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Its status now.
    pub(crate) fn status(&self) -> Status {
        self.record().state.status
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    pub(crate) fn shim(&self) -> Option<Arc<Shim>> {
        self.shim.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_shim(&self, shim: Option<Arc<Shim>>) {
        let gone = shim.is_none();
        let before =
            std::mem::replace(&mut *self.shim.lock().unwrap_or_else(PoisonError::into_inner), shim);
        if gone && before.is_some() {
            *self.last_shim.lock().unwrap_or_else(PoisonError::into_inner) = before;
        }
    }

    /// That of the run before, which may still be tidying up. It is told once.
    pub(crate) fn last_shim(&self) -> Option<Arc<Shim>> {
        self.last_shim.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Changes the record: commits it with whatever `with` adds to the transaction, swaps it in, wakes
    /// waiters, and then lets the events be heard. Callers hold the operation lock, or are the container's owner task.
    ///
    /// # Errors
    /// `NotFound` after [`Container::erase`]; of the store.
    pub(crate) fn change(
        &self,
        store: &Store,
        edit: impl FnOnce(&mut Record),
        with: impl FnOnce(&Tx<'_>, &Record) -> Result<()>,
    ) -> Result<Arc<Record>> {
        let gone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if *gone {
            return Err(Error::not_found(format!("No such container: {}", self.id)));
        }
        let mut next = Record::clone(&self.record());
        edit(&mut next);
        let next = Arc::new(next);
        let commit = |tx: &Tx<'_>| {
            tx.put_container(&next.row())?;
            with(tx, &next)
        };
        store.write_then(commit, |()| {
            *self.record.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&next);
            self.phase.send_replace(next.phase());
        })?;
        Ok(next)
    }

    /// Takes the row away for good, in one transaction with what `with` adds.
    pub(crate) fn erase(
        &self,
        store: &Store,
        with: impl FnOnce(&Tx<'_>, &Record) -> Result<()>,
    ) -> Result<()> {
        let mut gone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let record = self.record();
        store.write(|tx| {
            tx.delete_container(&record.id)?;
            with(tx, &record)
        })?;
        *gone = true;
        Ok(())
    }

    /// Wakes those who wait for the removal.
    pub(crate) fn mark_removed(&self) {
        self.phase.send_modify(|phase| {
            phase.alive = false;
            phase.removed = true;
        });
    }

    /// Tells those who wait for the removal that it failed.
    pub(crate) fn mark_removal_failed(&self, why: &str) {
        self.phase.send_modify(|phase| phase.removal_error = Some(why.to_owned()));
    }
}

/// Where a container's things are.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// `<data-root>/containers/<id>`.
    pub(crate) data: PathBuf,
    /// `<exec-root>/containers/<id>`.
    pub(crate) exec: PathBuf,
}

impl Places {
    pub(crate) fn of(config: &crate::Config, id: &ContainerId) -> Self {
        Self {
            data: config.data_root.join("containers").join(id.as_str()),
            exec: config.exec_root.join("containers").join(id.as_str()),
        }
    }

    pub(crate) fn log(&self, id: &ContainerId) -> PathBuf {
        self.data.join(format!("{id}-json.log"))
    }
}
