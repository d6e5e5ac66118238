//! What `POST /build` asks for, besides the context in the body.

use crate::images::KnownCredentials;
use api::model::{HostConfig, Ulimit};
use base::{Platform, Result};
use std::collections::BTreeMap;

/// The parameters of a build, in docker's words.
#[derive(Clone, Debug, Default)]
pub struct BuildRequest {
    /// Path of the Dockerfile in the context.
    pub dockerfile: String,
    /// `-t`, each.
    pub tags: Vec<String>,
    /// A remote context (git or HTTP), empty for the body.
    pub remote: String,
    /// `--add-host`, each `name:address`.
    pub extra_hosts: Vec<String>,
    /// `-q`
    pub quiet: bool,
    /// `--no-cache`
    pub no_cache: bool,
    /// `--cache-from`
    pub cache_from: Vec<String>,
    /// `--pull`
    pub pull: bool,
    /// `--rm`
    pub remove: bool,
    /// `--force-rm`
    pub force_remove: bool,
    /// Bytes.
    pub memory: i64,
    /// Bytes, -1 for unlimited.
    pub memory_swap: i64,
    /// Relative weight.
    pub cpu_shares: i64,
    /// `0-2`
    pub cpuset_cpus: String,
    /// Memory nodes.
    pub cpuset_mems: String,
    /// Microseconds.
    pub cpu_period: i64,
    /// Microseconds.
    pub cpu_quota: i64,
    /// Parent of the steps' cgroups.
    pub cgroup_parent: String,
    /// `--build-arg`; a name without value was mentioned without one.
    pub build_args: BTreeMap<String, Option<String>>,
    /// `--label`
    pub labels: BTreeMap<String, String>,
    /// Bytes of `/dev/shm`.
    pub shm_size: i64,
    /// `--ulimit`
    pub ulimits: Vec<Ulimit>,
    /// `--network`
    pub network_mode: String,
    /// `--squash`
    pub squash: bool,
    /// `--target`
    pub target: String,
    /// `--platform`
    pub platform: Option<Platform>,
    /// `--security-opt`
    pub security_opt: Vec<String>,
    /// The name by which a client may cancel it.
    pub build_id: String,
    /// Who the client is to which registry.
    pub credentials: KnownCredentials,
}

impl BuildRequest {
    /// Checks what can be checked before the context is read.
    ///
    /// # Errors
    /// `Invalid` for malformed names.
    pub fn check(&self) -> Result<()> {
        super::names::parse(&self.tags).map(|_| ())
    }

    /// What the containers of `RUN` get.
    pub(super) fn host_config(&self) -> HostConfig {
        let list = |list: &Vec<String>| Some(list.clone()).filter(|l| !l.is_empty());
        HostConfig {
            network_mode: self.network_mode.clone(),
            extra_hosts: list(&self.extra_hosts),
            security_opt: list(&self.security_opt),
            shm_size: self.shm_size,
            memory: self.memory,
            memory_swap: self.memory_swap,
            cpu_shares: self.cpu_shares,
            cpu_period: self.cpu_period,
            cpu_quota: self.cpu_quota,
            cpuset_cpus: self.cpuset_cpus.clone(),
            cpuset_mems: self.cpuset_mems.clone(),
            cgroup_parent: self.cgroup_parent.clone(),
            ulimits: Some(self.ulimits.clone()).filter(|u| !u.is_empty()),
            ..HostConfig::default()
        }
    }
}
