//! A process: names of capabilities and limits -> bits and numbers.

use crate::spec::{self, ConsoleSize, User};
use base::{Error, Result};
use serde::{Deserialize, Serialize};

/// A process to start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Program and arguments, at least one.
    pub args: Vec<String>,
    /// `KEY=value`.
    pub env: Vec<String>,
    /// Absolute working folder.
    pub cwd: String,
    /// Who runs it, resolved inside the root.
    pub user: User,
    /// With a terminal.
    pub terminal: bool,
    /// First size of the terminal.
    pub console_size: Option<ConsoleSize>,
    /// Bit n is capability n.
    pub capabilities: u64,
    /// The other sets, when they are not what follows from the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sets: Option<Sets>,
    /// The file mode creation mask.
    #[serde(default = "usual_umask", skip_serializing_if = "is_usual")]
    pub umask: u32,
    /// Sets `no_new_privs`.
    pub no_new_privileges: bool,
    /// Resource limits.
    pub rlimits: Vec<Rlimit>,
    /// Written to `oom_score_adj`.
    pub oom_score_adj: Option<i32>,
    /// AppArmor profile; empty leaves it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub apparmor: String,
    /// SELinux label; empty leaves it to the policy.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub selinux_label: String,
}

/// Sets of capabilities; bit n is capability n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sets {
    /// In effect.
    pub effective: u64,
    /// May be put into effect.
    pub permitted: u64,
    /// Kept over execve by file capabilities.
    pub inheritable: u64,
    /// Kept over execve without them.
    pub ambient: u64,
}

const UMASK: u32 = 0o022;

fn usual_umask() -> u32 {
    UMASK
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands it in so")]
fn is_usual(umask: &u32) -> bool {
    *umask == UMASK
}

/// A resource limit by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// `RLIMIT_*` of x86 and arm.
    pub resource: u32,
    /// `u64::MAX` is unlimited.
    pub soft: u64,
    /// `u64::MAX` is unlimited.
    pub hard: u64,
}

impl Rlimit {
    /// `RLIMIT_NOFILE`.
    pub fn name(&self) -> String {
        let name = usize::try_from(self.resource).ok().and_then(|at| RLIMITS.get(at));
        format!("RLIMIT_{}", name.copied().unwrap_or_default())
    }
}

/// The environment as a program gets it: of several values for a key the last one counts, and `HOME` is there.
pub fn environment(env: &[String], home: &str) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    let mut kept: Vec<String> = env
        .iter()
        .rev()
        .filter(|pair| seen.insert(pair.split_once('=').map_or(pair.as_str(), |(key, _)| key)))
        .cloned()
        .collect();
    kept.reverse();
    if !seen.contains("HOME") {
        kept.push(format!("HOME={home}"));
    }
    kept
}

/// By number, from 0.
const RLIMITS: [&str; 16] = [
    "CPU",
    "FSIZE",
    "DATA",
    "STACK",
    "CORE",
    "RSS",
    "NPROC",
    "NOFILE",
    "MEMLOCK",
    "AS",
    "LOCKS",
    "SIGPENDING",
    "MSGQUEUE",
    "NICE",
    "RTPRIO",
    "RTTIME",
];

/// Checks and translates a process.
pub(super) fn plan(process: &spec::Process) -> Result<Process> {
    fits(process)?;
    if process.args.first().is_none_or(String::is_empty) {
        return Err(Error::invalid("no command specified"));
    }
    let named = [&process.cwd, &process.user.name, &process.apparmor, &process.selinux_label];
    let texts = process.args.iter().chain(&process.env).chain(named);
    if let Some(text) = texts.into_iter().find(|t| t.contains('\0')) {
        return Err(Error::invalid(format!("{text:?} contains a null byte")));
    }
    let cwd = match process.cwd.as_str() {
        "" => "/",
        cwd if cwd.starts_with('/') => cwd,
        cwd => return Err(Error::invalid(format!("Cwd must be an absolute path, not {cwd:?}"))),
    };
    if let Some(adj) = process.oom_score_adj.filter(|adj| !(-1000..=1000).contains(adj)) {
        return Err(Error::invalid(format!(
            "Invalid value {adj}, range for oom score adj is [-1000, 1000]"
        )));
    }
    Ok(Process {
        args: process.args.clone(),
        env: process.env.clone(),
        cwd: cwd.to_owned(),
        user: process.user.clone(),
        terminal: process.terminal,
        console_size: process.console_size,
        capabilities: capabilities(&process.capabilities)?,
        sets: process.sets.as_ref().map(sets).transpose()?,
        umask: process.umask.unwrap_or(UMASK) & 0o777,
        no_new_privileges: process.no_new_privileges,
        rlimits: process.rlimits.iter().map(rlimit).collect::<Result<_>>()?,
        oom_score_adj: process.oom_score_adj,
        apparmor: process.apparmor.clone(),
        selinux_label: process.selinux_label.clone(),
    })
}

fn sets(sets: &spec::CapabilitySets) -> Result<Sets> {
    Ok(Sets {
        effective: capabilities(&sets.effective)?,
        permitted: capabilities(&sets.permitted)?,
        inheritable: capabilities(&sets.inheritable)?,
        ambient: capabilities(&sets.ambient)?,
    })
}

fn capabilities(names: &[String]) -> Result<u64> {
    names.iter().try_fold(0, |mask, name| {
        let number = sys::caps::number(name)
            .ok_or_else(|| Error::invalid(format!("unknown capability {name:?}")))?;
        Ok(mask | 1u64 << number)
    })
}

fn rlimit(limit: &spec::Rlimit) -> Result<Rlimit> {
    let resource = limit
        .kind
        .strip_prefix("RLIMIT_")
        .and_then(|name| RLIMITS.iter().position(|r| *r == name))
        .and_then(|at| u32::try_from(at).ok())
        .ok_or_else(|| Error::invalid(format!("invalid rlimit type: {}", limit.kind)))?;
    if limit.soft > limit.hard {
        return Err(Error::invalid(format!(
            "ulimit soft limit must be less than or equal to hard limit: {} > {}",
            limit.soft, limit.hard
        )));
    }
    Ok(Rlimit { resource, soft: limit.soft, hard: limit.hard })
}

/// What the kernel would refuse at the very end, when the container counts as started already (execve(2)).
fn fits(process: &spec::Process) -> Result<()> {
    /// Bytes of one string, its end included: 32 pages.
    const STRING: usize = 128 << 10;
    /// Bytes of all of them: three quarters of the largest stack that counts.
    const ALL: usize = 6 << 20;
    let strings = || process.args.iter().chain(&process.env).map(String::len);
    if strings().all(|length| length < STRING) && strings().map(|l| l + 9).sum::<usize>() < ALL {
        return Ok(());
    }
    let program = process.args.first().map_or("", String::as_str);
    let program: String = program.chars().take(256).collect();
    Err(Error::invalid(format!("exec {program}: argument list too long")))
}
