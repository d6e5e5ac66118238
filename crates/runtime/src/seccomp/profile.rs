//! A profile: Docker's JSON form (with `includes`/`excludes`) and the plain OCI form, and which of its
//! rules count for one container.

use super::{Arch, default};
use crate::defaults::Capabilities;
use base::{Error, Result};
use serde::Deserialize;

/// What the kernel does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Let it through.
    Allow,
    /// Let it through and write an audit record.
    Log,
    /// Answer this error number.
    Errno(u32),
    /// Wake a tracer with this value; ENOSYS without one.
    Trace(u32),
    /// Send SIGSYS.
    Trap,
    /// End the thread.
    KillThread,
    /// End the process.
    KillProcess,
}

impl Action {
    /// The filter's return value.
    pub(super) fn value(self) -> u32 {
        match self {
            Self::Allow => 0x7FFF_0000,
            Self::Log => 0x7FFC_0000,
            Self::Trace(data) => 0x7FF0_0000 | data & 0xFFFF,
            Self::Errno(number) => 0x0005_0000 | number & 0xFFFF,
            Self::Trap => 0x0003_0000,
            Self::KillThread => 0,
            Self::KillProcess => 0x8000_0000,
        }
    }

    fn parse(name: &str, errno: Option<u32>) -> Result<Self> {
        const EPERM: u32 = 1;
        let errno = errno.unwrap_or(EPERM);
        // The kernel cuts larger ones to this.
        if errno > 4095 {
            return Err(Error::invalid(format!("seccomp: errno {errno} is out of range")));
        }
        Ok(match name {
            "SCMP_ACT_ALLOW" => Self::Allow,
            "SCMP_ACT_LOG" => Self::Log,
            "SCMP_ACT_ERRNO" => Self::Errno(errno),
            "SCMP_ACT_TRACE" => Self::Trace(errno),
            "SCMP_ACT_TRAP" => Self::Trap,
            "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Self::KillThread,
            "SCMP_ACT_KILL_PROCESS" => Self::KillProcess,
            "SCMP_ACT_NOTIFY" => {
                return Err(Error::not_implemented("seccomp: SCMP_ACT_NOTIFY is not supported"));
            }
            other => {
                return Err(Error::invalid(format!(
                    "string {other} is not a valid action for seccomp"
                )));
            }
        })
    }
}

/// How an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Not equal.
    Ne,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// Equal.
    Eq,
    /// Greater or equal.
    Ge,
    /// Greater.
    Gt,
    /// `argument & value == value_two`.
    MaskedEq,
}

/// A condition on one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Which argument, 0 to 5.
    pub index: u32,
    /// What it is compared with; the mask for [`Op::MaskedEq`].
    pub value: u64,
    /// Only for [`Op::MaskedEq`].
    pub value_two: u64,
    /// How.
    pub op: Op,
    /// Only the lower half counts.
    pub low32: bool,
}

/// A rule that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The calls.
    pub names: Vec<String>,
    /// What happens when all conditions hold.
    pub action: Action,
    /// Conditions; all must hold.
    pub conditions: Vec<Condition>,
}

/// A profile as read.
#[derive(Clone, Debug)]
pub struct Profile {
    pub(super) default_action: Action,
    pub(super) entries: Vec<Arch>,
    pub(super) flags: u32,
    rules: Vec<Conditional>,
}

#[derive(Clone, Debug)]
struct Conditional {
    rule: Rule,
    includes: Filter,
    excludes: Filter,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Filter {
    caps: Vec<String>,
    arches: Vec<String>,
    #[serde(rename = "minKernel")]
    min_kernel: Option<String>,
}

const EPERM: u32 = 1;
/// Speculative store bypass stays allowed, as runc has it: the mitigation costs every program dearly.
const FLAG_SPEC_ALLOW: u32 = 1 << 2;
const FLAG_LOG: u32 = 1 << 1;
const FLAG_TSYNC: u32 = 1;

impl Profile {
    /// The built-in profile.
    pub fn default_profile(arch: Arch) -> Self {
        let rules = default::ROWS
            .iter()
            .filter(|row| match row.when {
                default::When::On(machines) => machines.contains(&arch.go_name()),
                _ => true,
            })
            .map(|row| {
                let mut made = Conditional {
                    rule: Rule {
                        names: row.names.split_ascii_whitespace().map(str::to_owned).collect(),
                        action: row.action,
                        conditions: row.conditions.to_vec(),
                    },
                    includes: Filter::default(),
                    excludes: Filter::default(),
                };
                match row.when {
                    default::When::With(cap) => made.includes.caps.push(cap.into()),
                    default::When::Without(cap) => made.excludes.caps.push(cap.into()),
                    default::When::Always | default::When::On(_) => {}
                }
                made
            })
            .collect();
        Self {
            default_action: Action::Errno(EPERM),
            entries: arch.entries().to_vec(),
            flags: FLAG_SPEC_ALLOW,
            rules,
        }
    }

    /// Reads a profile file for a container on `arch`; `None` when it switches seccomp off.
    ///
    /// # Errors
    /// `Invalid` for bad JSON and unknown words, `NotImplemented` for user notification.
    pub fn parse(json: &str, arch: Arch) -> Result<Option<Self>> {
        let file: File = serde_json::from_str(json)
            .map_err(|e| Error::invalid("Decoding seccomp profile failed").caused_by(e))?;
        if file.default_action.is_empty() && file.syscalls.is_empty() {
            return Ok(None);
        }
        if !file.architectures.is_empty() && !file.arch_map.is_empty() {
            return Err(Error::invalid(
                "both 'architectures' and 'archMap' are specified in the seccomp profile, use either \
                 'architectures' or 'archMap'",
            ));
        }
        let default_action = Action::parse(&file.default_action, file.default_errno_ret)?;
        let entries = file.entries(arch);
        let mut flags = 0;
        for flag in file.flags.iter().flatten() {
            flags |= match flag.as_str() {
                "SECCOMP_FILTER_FLAG_TSYNC" => FLAG_TSYNC,
                "SECCOMP_FILTER_FLAG_LOG" => FLAG_LOG,
                "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => FLAG_SPEC_ALLOW,
                other => {
                    return Err(Error::invalid(format!("seccomp flag {other:?} is not known")));
                }
            };
        }
        if file.flags.is_none() {
            flags = FLAG_SPEC_ALLOW;
        }
        let mut rules = Vec::with_capacity(file.syscalls.len());
        for call in file.syscalls {
            rules.extend(call.into_rules()?);
        }
        Ok(Some(Self { default_action, entries, flags, rules }))
    }

    /// Names of the flags, when they are others than runtimes take by themselves.
    pub(super) fn flag_names(&self) -> Option<Vec<&'static str>> {
        if self.flags == FLAG_SPEC_ALLOW {
            return None;
        }
        let named = [
            (FLAG_TSYNC, "SECCOMP_FILTER_FLAG_TSYNC"),
            (FLAG_LOG, "SECCOMP_FILTER_FLAG_LOG"),
            (FLAG_SPEC_ALLOW, "SECCOMP_FILTER_FLAG_SPEC_ALLOW"),
        ];
        let set = named.into_iter().filter(|(flag, _)| self.flags & flag != 0);
        Some(set.map(|(_, name)| name).collect())
    }

    /// The rules that count for a container with `capabilities` on `arch`.
    ///
    /// # Errors
    /// `Invalid` for a kernel version that is none.
    pub fn rules(&self, capabilities: Capabilities, arch: Arch) -> Result<Vec<&Rule>> {
        let mut kept = Vec::with_capacity(self.rules.len());
        for Conditional { rule, includes, excludes } in &self.rules {
            let has = |cap: &String| capabilities.contains(cap);
            let here = |machine: &String| machine == arch.go_name();
            if includes.caps.iter().all(has)
                && !excludes.caps.iter().any(has)
                && (includes.arches.is_empty() || includes.arches.iter().any(here))
                && !excludes.arches.iter().any(here)
                && includes.kernel_is_new_enough()?.unwrap_or(true)
                && !excludes.kernel_is_new_enough()?.unwrap_or(false)
            {
                kept.push(rule);
            }
        }
        Ok(kept)
    }
}

impl Filter {
    fn kernel_is_new_enough(&self) -> Result<Option<bool>> {
        let Some(wanted) = &self.min_kernel else { return Ok(None) };
        let parse = |text: &str| {
            let mut parts = text.splitn(3, ['.', '-']);
            let major: u32 = parts.next()?.parse().ok()?;
            let minor: u32 = parts.next()?.parse().ok()?;
            Some((major, minor))
        };
        let wanted = parse(wanted).ok_or_else(|| {
            Error::invalid(format!("invalid kernel version in seccomp profile: {wanted:?}"))
        })?;
        let running = rustix::system::uname();
        Ok(Some(running.release().to_str().ok().and_then(parse).is_none_or(|now| now >= wanted)))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct File {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(deserialize_with = "nullable")]
    architectures: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    arch_map: Vec<Machine>,
    flags: Option<Vec<String>>,
    #[serde(deserialize_with = "nullable")]
    syscalls: Vec<Call>,
}

impl File {
    fn entries(&self, arch: Arch) -> Vec<Arch> {
        let mut entries = vec![arch];
        let named = |names: &[String]| -> Vec<Arch> {
            names.iter().filter_map(|n| Arch::from_scmp(n)).collect()
        };
        entries.extend(named(&self.architectures));
        for machine in &self.arch_map {
            if Arch::from_scmp(&machine.architecture) == Some(arch) {
                entries.extend(named(&machine.sub_architectures));
            }
        }
        entries.retain(|e| arch.entries().contains(e));
        entries.sort_unstable();
        entries.dedup();
        entries
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Machine {
    architecture: String,
    #[serde(default, deserialize_with = "nullable")]
    sub_architectures: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Call {
    #[serde(default)]
    name: String,
    #[serde(default, deserialize_with = "nullable")]
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "nullable")]
    args: Vec<Arg>,
    includes: Option<Filter>,
    excludes: Option<Filter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Arg {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

fn nullable<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> std::result::Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Call {
    fn into_rules(mut self) -> Result<Vec<Conditional>> {
        if !self.name.is_empty() {
            if !self.names.is_empty() {
                return Err(Error::invalid(
                    "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or \
                     'names'",
                ));
            }
            self.names.push(self.name);
        }
        let action = Action::parse(&self.action, self.errno_ret)?;
        let conditions =
            self.args.iter().map(Arg::condition).collect::<Result<Vec<Condition>>>()?;
        let repeated = conditions
            .iter()
            .enumerate()
            .any(|(n, c)| conditions[..n].iter().any(|earlier| earlier.index == c.index));
        // Two conditions on one argument mean either, as runc has it for older profiles.
        let alternatives: Vec<Vec<Condition>> = if repeated {
            conditions.into_iter().map(|c| vec![c]).collect()
        } else {
            vec![conditions]
        };
        Ok(alternatives
            .into_iter()
            .map(|conditions| Conditional {
                rule: Rule { names: self.names.clone(), action, conditions },
                includes: self.includes.clone().unwrap_or_default(),
                excludes: self.excludes.clone().unwrap_or_default(),
            })
            .collect())
    }
}

impl Arg {
    fn condition(&self) -> Result<Condition> {
        let op = match self.op.as_str() {
            "SCMP_CMP_NE" => Op::Ne,
            "SCMP_CMP_LT" => Op::Lt,
            "SCMP_CMP_LE" => Op::Le,
            "SCMP_CMP_EQ" => Op::Eq,
            "SCMP_CMP_GE" => Op::Ge,
            "SCMP_CMP_GT" => Op::Gt,
            "SCMP_CMP_MASKED_EQ" => Op::MaskedEq,
            other => {
                return Err(Error::invalid(format!(
                    "string {other} is not a valid operator for seccomp"
                )));
            }
        };
        if self.index > 5 {
            return Err(Error::invalid(format!(
                "seccomp: system calls have no argument {}",
                self.index
            )));
        }
        Ok(Condition {
            index: self.index,
            value: self.value,
            value_two: self.value_two,
            op,
            low32: false,
        })
    }
}
