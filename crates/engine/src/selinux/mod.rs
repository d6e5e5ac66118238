//! SELinux: which labels containers get, and which of their files are relabelled.
//!
//! Flow: [`Labels::new`] reads the policy's contexts for containers once; [`Engine::claim_labels`] gives a container that is
//! made its labels, with categories that no other container has; they are kept in its record. At a start the process
//! label goes with the process ([`process_label`]), the mount label with its file systems, and sources of mounts are
//! relabelled where that is wanted ([`Engine::relabel`]). Layers have the label of what all containers may read.
//! Invariants: no two containers have the same categories unless one was given those of the other; a record without
//! labels runs as the policy decides.
//! Source: opencontainers/selinux (contexts, options, texts), Docker's `daemon` (what namespaces and `--privileged` mean for
//! labels; which mounts are relabelled), user_contexts(5).
//! Not here: the kernel's side (`sys::selinux`), walking trees (`storage::relabel`).

mod label;
mod mounts;

use crate::{
    Engine,
    containers::{Record, SecurityOption, security_option},
};
use api::model::HostConfig;
use base::{Error, Result};
use label::{Contexts, Label, Pair};
use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Mutex, PoisonError},
};

/// What decides the labels of this engine's containers.
#[derive(Debug)]
pub(crate) struct Labels {
    contexts: Contexts,
    /// Levels of containers whose record is not there yet.
    claimed: Mutex<BTreeSet<String>>,
}

impl Labels {
    /// Those of the host, if they are `wanted` and its kernel has a policy.
    pub(crate) fn new(wanted: bool) -> Option<Self> {
        if !wanted {
            return None;
        }
        if !sys::selinux::enabled() {
            tracing::warn!(
                "could not enable SELinux on the host system: its kernel has no policy loaded, so containers get no labels"
            );
            return None;
        }
        let contexts = Contexts::of_host(Path::new("/"));
        for label in [&contexts.process, &contexts.file] {
            if let Ok(false) = sys::selinux::is_known(&label.to_string()) {
                tracing::warn!(
                    %label,
                    "the SELinux policy does not know the label of containers: no container can start until a policy for containers is installed"
                );
            }
        }
        Some(Self { contexts, claimed: Mutex::default() })
    }

    /// The label of files of layers.
    pub(crate) fn layers(&self) -> String {
        self.contexts.read_only.to_string()
    }
}

/// Labels of a container that is being made. Its categories are free again when this is dropped, unless a record has
/// them by then.
#[derive(Debug)]
pub(crate) struct Claimed<'l> {
    pub(crate) pair: Pair,
    level: Option<String>,
    labels: &'l Labels,
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        if let Some(level) = &self.level {
            self.labels.claimed.lock().unwrap_or_else(PoisonError::into_inner).remove(level);
        }
    }
}

/// The label of a container's processes; empty leaves it to the policy.
pub(crate) fn process_label<'r>(record: &'r Record, engine: &Engine) -> &'r str {
    match engine.selinux.is_some() && !record.host.privileged {
        true => &record.process_label,
        false => "",
    }
}

/// The label of the file systems that are made for a container; empty leaves it to the policy.
pub(crate) fn mount_label<'r>(record: &'r Record, engine: &Engine) -> &'r str {
    if engine.selinux.is_some() { &record.mount_label } else { "" }
}

impl Engine {
    /// Labels for a container that is made with `host`, where containers are labelled. What follows from other options is
    /// added to its security options, as docker does.
    ///
    /// # Errors
    /// `Invalid` for options that contradict each other, and for a label that the policy does not know.
    pub(crate) fn claim_labels(&self, host: &mut HostConfig) -> Result<Option<Claimed<'_>>> {
        let Some(labels) = &self.selinux else { return Ok(None) };
        let label_of = |name: &str| -> Result<String> {
            // Not "not found": clients would take it for a missing image and pull.
            let found = self.containers.find(name).map_err(|e| Error::invalid(e.chain()))?;
            Ok(found.record().process_label.clone())
        };
        let implied = implied(host, label_of)?;
        if !implied.is_empty() {
            host.security_opt.get_or_insert_default().extend(implied);
        }
        let options = options(host)?;
        let mut claimed = labels.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken: BTreeSet<String> = self
            .containers
            .all()
            .iter()
            .filter_map(|c| Some(c.record().process_label.parse::<Label>().ok()?.level))
            .collect();
        taken.extend(claimed.iter().cloned());
        let free = label::free(&taken, label::random()).ok_or_else(|| {
            Error::invalid(
                "there are no SELinux categories left for another container: remove some",
            )
        })?;
        let pair = labels.contexts.pair(&options, &free)?;
        let level = (pair.level() == Some(free.as_str())).then_some(free);
        claimed.extend(level.clone());
        drop(claimed);
        let claimed = Claimed { pair, level, labels };
        claimed.pair.check(sys::selinux::is_known)?;
        Ok(Some(claimed))
    }
}

/// The words of the options about labels.
fn options(host: &HostConfig) -> Result<Vec<&str>> {
    let mut words = Vec::new();
    for option in host.security_opt.iter().flatten() {
        if let SecurityOption::Label(word) = security_option(option)? {
            words.push(word);
        }
    }
    Ok(words)
}

/// Whether a container may see the policy (`label=nested`).
pub(crate) fn is_nested(host: &HostConfig) -> Result<bool> {
    Ok(options(host)?.contains(&"nested"))
}

/// Options that follow from others, where none of `host` is about labels: who shares the host's processes or IPC, or has all
/// rights, is not confined; who shares those of a container has its label, which `label_of` tells.
///
/// # Errors
/// `Invalid` with docker's words; of `label_of`.
fn implied(host: &HostConfig, label_of: impl Fn(&str) -> Result<String>) -> Result<Vec<String>> {
    if !options(host)?.is_empty() {
        return Ok(Vec::new());
    }
    if host.privileged || host.ipc_mode == "host" || host.pid_mode == "host" {
        return Ok(vec!["label=disable".into()]);
    }
    let shared = |mode: &str| -> Result<Option<Vec<String>>> {
        let Some(name) = mode.strip_prefix("container:") else { return Ok(None) };
        // One without a label has none to give.
        let label = label_of(name)?.parse::<Label>().ok();
        Ok(Some(label.map(|label| label.as_options()).unwrap_or_default()))
    };
    match (shared(&host.ipc_mode)?, shared(&host.pid_mode)?) {
        (Some(ipc), Some(pid)) if ipc.is_empty() || pid.is_empty() => Ok(Vec::new()),
        (Some(ipc), Some(pid)) if ipc != pid => {
            Err(Error::invalid("--ipc and --pid containers SELinux labels aren't the same"))
        }
        (Some(options), _) | (None, Some(options)) => Ok(options),
        (None, None) => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(options: &[&str], ipc: &str, pid: &str) -> HostConfig {
        HostConfig {
            security_opt: Some(options.iter().map(|o| (*o).to_owned()).collect()),
            ipc_mode: ipc.into(),
            pid_mode: pid.into(),
            ..HostConfig::default()
        }
    }

    fn of(host: &HostConfig) -> Result<Vec<String>> {
        implied(host, |name| {
            Ok(match name {
                "a" => "u:r:t:s0:c1,c2".into(),
                "b" => "u:r:t:s0:c3,c4".into(),
                _ => String::new(),
            })
        })
    }

    #[test]
    fn who_shares_with_the_host_or_has_all_rights_is_not_confined() {
        let disabled = ["label=disable"];
        assert_eq!(of(&host(&[], "host", "")).unwrap(), disabled);
        assert_eq!(of(&host(&["no-new-privileges"], "private", "host")).unwrap(), disabled);
        let privileged = HostConfig { privileged: true, ..host(&[], "private", "") };
        assert_eq!(of(&privileged).unwrap(), disabled);
        let asked = HostConfig { privileged: true, ..host(&["label=type:x"], "host", "host") };
        assert_eq!(of(&asked).unwrap(), [""; 0], "what is asked for counts");
        assert_eq!(of(&host(&[], "private", "private")).unwrap(), [""; 0]);
    }

    #[test]
    fn who_shares_with_a_container_has_its_label() {
        let label = ["label=user:u", "label=role:r", "label=type:t", "label=level:s0:c1,c2"];
        assert_eq!(of(&host(&[], "container:a", "")).unwrap(), label);
        assert_eq!(of(&host(&[], "private", "container:a")).unwrap(), label);
        assert_eq!(of(&host(&[], "container:a", "container:a")).unwrap(), label);
        assert_eq!(of(&host(&[], "container:a", "container:free")).unwrap(), [""; 0]);
        assert_eq!(of(&host(&[], "container:free", "")).unwrap(), [""; 0]);
        let err = of(&host(&[], "container:a", "container:b")).unwrap_err().chain();
        assert_eq!(err, "--ipc and --pid containers SELinux labels aren't the same");
    }
}
