//! A profile as `linux.seccomp` of the OCI specification, for runtimes that compile it themselves.
//!
//! Conditions on the lower half of an argument become masked comparisons where OCI has one (equality); the
//! others compare all 64 bits, as in Docker's own profile.

use super::{Action, Arch, Condition, Op, Profile};
use crate::defaults::Capabilities;
use base::Result;
use serde_json::{Map, Value, json};

/// What a container with `capabilities` gets of `profile`.
///
/// # Errors
/// As [`Profile::rules`].
pub fn section(profile: &Profile, capabilities: Capabilities, arch: Arch) -> Result<Value> {
    let mut section = Map::new();
    let (default, errno) = action(profile.default_action);
    section.insert("defaultAction".into(), default.into());
    if let Some(errno) = errno {
        section.insert("defaultErrnoRet".into(), errno.into());
    }
    let architectures: Vec<&str> = profile.entries.iter().map(|a| a.scmp_name()).collect();
    section.insert("architectures".into(), architectures.into());
    if let Some(flags) = profile.flag_names() {
        section.insert("flags".into(), flags.into());
    }
    let calls: Vec<Value> = profile
        .rules(capabilities, arch)?
        .into_iter()
        .map(|rule| {
            let (action, errno) = action(rule.action);
            let mut call = Map::new();
            call.insert("names".into(), rule.names.clone().into());
            call.insert("action".into(), action.into());
            if let Some(errno) = errno {
                call.insert("errnoRet".into(), errno.into());
            }
            if !rule.conditions.is_empty() {
                call.insert("args".into(), rule.conditions.iter().map(condition).collect());
            }
            Value::Object(call)
        })
        .collect();
    section.insert("syscalls".into(), calls.into());
    Ok(Value::Object(section))
}

fn action(action: Action) -> (&'static str, Option<u32>) {
    match action {
        Action::Allow => ("SCMP_ACT_ALLOW", None),
        Action::Log => ("SCMP_ACT_LOG", None),
        Action::Errno(number) => ("SCMP_ACT_ERRNO", Some(number)),
        Action::Trace(number) => ("SCMP_ACT_TRACE", Some(number)),
        Action::Trap => ("SCMP_ACT_TRAP", None),
        Action::KillThread => ("SCMP_ACT_KILL", None),
        Action::KillProcess => ("SCMP_ACT_KILL_PROCESS", None),
    }
}

fn condition(condition: &Condition) -> Value {
    const LOW: u64 = u32::MAX as u64;
    let Condition { index, value, value_two, op, low32 } = *condition;
    let (op, value, value_two) = match op {
        Op::Eq if low32 => ("SCMP_CMP_MASKED_EQ", LOW, value),
        Op::MaskedEq => ("SCMP_CMP_MASKED_EQ", value, value_two),
        Op::Ne => ("SCMP_CMP_NE", value, 0),
        Op::Lt => ("SCMP_CMP_LT", value, 0),
        Op::Le => ("SCMP_CMP_LE", value, 0),
        Op::Eq => ("SCMP_CMP_EQ", value, 0),
        Op::Ge => ("SCMP_CMP_GE", value, 0),
        Op::Gt => ("SCMP_CMP_GT", value, 0),
    };
    json!({"index": index, "value": value, "valueTwo": value_two, "op": op})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_profile_says_in_ocis_words_what_it_says_in_ours() {
        let arch = Arch::X86_64;
        let profile = Profile::default_profile(arch);
        let section = section(&profile, Capabilities::DEFAULT, arch).unwrap();
        assert_eq!(section["defaultAction"], "SCMP_ACT_ERRNO");
        assert_eq!(section["defaultErrnoRet"], 1);
        assert_eq!(
            section["architectures"],
            json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"])
        );
        let calls = section["syscalls"].as_array().unwrap();
        let clone3 = calls.iter().find(|c| c["names"] == json!(["clone3"])).unwrap();
        assert_eq!(
            (&clone3["action"], &clone3["errnoRet"]),
            (&json!("SCMP_ACT_ERRNO"), &json!(38))
        );
        assert!(calls.iter().any(|c| c["args"]
            == json!([{"index": 0, "value": 0xFFFF_FFFF_u64, "valueTwo": 39, "op": "SCMP_CMP_MASKED_EQ"}])));
    }

    #[test]
    fn what_is_written_is_read_as_the_same_profile() {
        let arch = Arch::X86_64;
        let json = r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"], "syscalls": [
            {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 12},
            {"names": ["socket"], "action": "SCMP_ACT_KILL", "args": [
                {"index": 1, "value": 7, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ"}]},
            {"names": ["bpf"], "action": "SCMP_ACT_TRAP", "excludes": {"caps": ["CAP_CHOWN"]}}]}"#;
        let read = |json: &str| Profile::parse(json, arch).unwrap().unwrap();
        let first = read(json);
        let written = section(&first, Capabilities::DEFAULT, arch).unwrap();
        let second = read(&written.to_string());
        let rules = |profile: &Profile| -> Vec<super::super::Rule> {
            profile.rules(Capabilities::DEFAULT, arch).unwrap().into_iter().cloned().collect()
        };
        assert_eq!(rules(&first), rules(&second));
        assert_eq!(first.flags, second.flags);
        assert_eq!(rules(&second).len(), 2, "the container has CAP_CHOWN");
    }
}
