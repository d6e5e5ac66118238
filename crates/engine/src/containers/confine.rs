//! Cgroups and seccomp programs of containers.

use super::{Container, Record, settle::SecurityOption};
use crate::Engine;
use base::{ContainerId, Error, Result};
use runtime::{
    defaults::Capabilities,
    seccomp::{self, Arch, Cache, Profile, compile},
};
use sys::cgroup::Cgroup;

/// Parent of all containers' cgroups when none is configured.
const PARENT: &str = "/gantry";

/// Compiled seccomp programs.
#[derive(Debug, Default)]
pub(crate) struct Confinement(Cache);

impl Confinement {
    /// The default profile for a container with `capabilities`.
    pub(crate) fn default_program(&self, capabilities: Capabilities) -> Result<Vec<u8>> {
        Ok(self.0.default_program(capabilities)?.to_bytes())
    }

    /// A profile of the user's, as JSON; nothing when it switches seccomp off.
    pub(crate) fn own_program(
        &self,
        json: &str,
        capabilities: Capabilities,
    ) -> Result<Option<Vec<u8>>> {
        let arch = Arch::native()?;
        match Profile::parse(json, arch)? {
            Some(profile) => Ok(Some(compile(&profile, capabilities, arch)?.to_bytes())),
            None => Ok(None),
        }
    }
}

/// Which system call filter a container has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    /// None.
    Unconfined,
    /// The built-in profile.
    Default,
    /// A profile as JSON.
    Own(String),
}

impl Filter {
    /// What the container and the daemon's settings ask for.
    pub(crate) fn of(record: &Record, engine: &Engine) -> Result<Self> {
        let mut asked = "";
        for option in record.host.security_opt.iter().flatten() {
            if let SecurityOption::Seccomp(profile) = super::settle::security_option(option)? {
                asked = profile;
            }
        }
        let default = &engine.config.seccomp;
        Ok(match (asked, &default.json) {
            ("unconfined", _) => Self::Unconfined,
            ("", _) if record.host.privileged || default.name == "unconfined" => Self::Unconfined,
            ("", Some(profile)) => Self::Own(profile.clone()),
            ("" | "builtin", _) => Self::Default,
            // The CLI sends the profile itself, not its path.
            (profile, _) => Self::Own(profile.to_owned()),
        })
    }

    /// The filter for the own runtime.
    pub(crate) fn program(
        &self,
        engine: &Engine,
        capabilities: Capabilities,
    ) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Unconfined => Ok(None),
            Self::Default => engine.confinement.default_program(capabilities).map(Some),
            Self::Own(json) => engine.confinement.own_program(json, capabilities),
        }
    }

    /// The filter for other runtimes.
    fn section(&self, capabilities: Capabilities) -> Result<Option<serde_json::Value>> {
        let arch = Arch::native()?;
        let profile = match self {
            Self::Unconfined => None,
            Self::Default => Some(Profile::default_profile(arch)),
            Self::Own(json) => Profile::parse(json, arch)?,
        };
        profile.map(|p| seccomp::oci::section(&p, capabilities, arch)).transpose()
    }
}

/// A container's filter as other runtimes read it.
///
/// # Errors
/// `Invalid` for a bad profile.
pub(crate) fn seccomp_section(
    record: &Record,
    engine: &Engine,
) -> Result<Option<serde_json::Value>> {
    Filter::of(record, engine)?.section(super::settle::capabilities(&record.host)?)
}

/// Checks a profile, as JSON.
///
/// # Errors
/// `Invalid` for what is none.
pub(crate) fn check_seccomp(json: &str) -> Result<()> {
    Profile::parse(json, Arch::native()?).map(drop)
}

impl Engine {
    /// Path of a container's cgroup below the hierarchy's root; it ends in the id, as cAdvisor expects.
    pub(crate) fn cgroup_path(&self, id: &ContainerId, asked: &str) -> String {
        format!("{}/{id}", self.cgroup_parent(asked))
    }

    /// Path of the parent of containers' cgroups.
    pub(crate) fn cgroup_parent(&self, asked: &str) -> String {
        let parent =
            [asked, self.config.cgroup_parent.as_str()].into_iter().find(|p| !p.is_empty());
        format!("/{}", parent.unwrap_or(PARENT).trim_matches('/'))
    }

    /// The cgroup of a container.
    pub(crate) fn cgroup(&self, container: &Container) -> Result<Cgroup> {
        self.cgroup_of(&container.record())
    }

    fn cgroup_of(&self, record: &Record) -> Result<Cgroup> {
        let path = self.cgroup_path(&record.id, &record.host.cgroup_parent);
        Cgroup::open(&self.hierarchy, &path)
            .map_err(|e| Error::invalid(format!("invalid cgroup path {path}")).caused_by(e))
    }

    /// Ends whatever is left in a container's cgroup and removes it; a missing one is fine.
    pub(crate) fn sweep_cgroup(&self, id: &ContainerId, asked: &str) -> Result<()> {
        let failed =
            |e| Error::internal(format!("cannot remove the cgroup of container {id}")).caused_by(e);
        let cgroup = Cgroup::open(&self.hierarchy, &self.cgroup_path(id, asked)).map_err(failed)?;
        // What is gone needs no killing; what cannot be read shows up again at the removal.
        if let Err(err) = cgroup.kill_all() {
            tracing::debug!(ctr = id.short(), err = base::error::chain(&err), "nothing to kill");
        }
        cgroup.remove().map_err(failed)
    }
}
