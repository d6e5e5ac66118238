use super::{
    Action, Arch, Cache, Condition, Instruction, Op, Profile, Program, compile,
    interpret::{self, Call},
};
use crate::defaults::Capabilities;

const ALLOW: u32 = 0x7FFF_0000;
const EPERM: u32 = 0x5_0001;
const ENOSYS: u32 = 0x5_0026;
const KILL: u32 = 0x8000_0000;

fn run(program: &Program, call: Call) -> (u32, usize) {
    interpret::run(&program.instructions, call).expect("a program that was compiled here")
}

fn default_for(capabilities: Capabilities) -> Program {
    compile(&Profile::default_profile(Arch::X86_64), capabilities, Arch::X86_64).unwrap()
}

fn verdict(program: &Program, arch: Arch, name: &str, arguments: &[u64]) -> u32 {
    let number = arch.numbers()[name];
    let mut six = [0; 6];
    six[..arguments.len()].copy_from_slice(arguments);
    run(program, Call { audit: arch.audit(), number, arguments: six }).0
}

/// What the rules say, found by looking at each in turn.
fn expected(rules: &[&super::Rule], arch: Arch, name: &str, arguments: [u64; 6]) -> Option<u32> {
    let mut otherwise = None;
    for rule in rules.iter().filter(|r| r.names.iter().any(|n| n == name)) {
        if rule.conditions.is_empty() {
            otherwise = otherwise.or(Some(rule.action.value()));
        } else if rule.conditions.iter().all(|c| holds(c, arch, arguments)) {
            return Some(rule.action.value());
        }
    }
    otherwise
}

fn holds(c: &Condition, arch: Arch, arguments: [u64; 6]) -> bool {
    let narrow = c.low32 || !arch.wide();
    let cut = |v: u64| if narrow { v & 0xFFFF_FFFF } else { v };
    let (argument, value) = (cut(arguments[c.index as usize]), cut(c.value));
    match c.op {
        Op::Ne => argument != value,
        Op::Lt => argument < value,
        Op::Le => argument <= value,
        Op::Eq => argument == value,
        Op::Ge => argument >= value,
        Op::Gt => argument > value,
        Op::MaskedEq => argument & value == cut(c.value_two),
    }
}

#[test]
fn every_call_of_every_entry_gets_the_verdict_of_the_rules() {
    let admin = Capabilities::DEFAULT.with("CAP_SYS_ADMIN").with("CAP_SYS_PTRACE");
    for capabilities in [Capabilities::DEFAULT, admin, Capabilities::ALL, Capabilities::NONE] {
        for native in [Arch::X86_64, Arch::Aarch64] {
            let profile = Profile::default_profile(native);
            let program = compile(&profile, capabilities, native).unwrap();
            let rules = profile.rules(capabilities, native).unwrap();
            for entry in native.entries() {
                let known = entry
                    .syscalls()
                    .filter(|(_, name)| rules.iter().any(|r| r.names.iter().any(|n| n == name)));
                let newest = known.map(|(n, _)| n).filter(|n| n & 0xF_0000 == 0).max().unwrap();
                for (number, name) in entry.syscalls() {
                    for first in [0, 8, 38, 39, 40, 41, 0xFFFF_FFFF, 0x1000_0000, 1 << 32 | 38] {
                        let arguments = [first, 0, 0, 0, 0, 0];
                        let call = Call { audit: entry.audit(), number, arguments };
                        let unknown = if number > newest { ENOSYS } else { EPERM };
                        let want = expected(&rules, *entry, name, arguments).unwrap_or(unknown);
                        // ARM's own numbers are allowed ones beyond the newest.
                        assert_eq!(run(&program, call).0, want, "{entry:?} {name}({first:#x})");
                    }
                }
            }
        }
    }
}

#[test]
fn the_default_is_dockers() {
    let program = default_for(Capabilities::DEFAULT);
    let table: Vec<u32> = Arch::X86_64
        .syscalls()
        .filter(|(_, n)| !["socket", "personality", "clone"].contains(n))
        .map(|(_, name)| verdict(&program, Arch::X86_64, name, &[]))
        .collect();
    assert_eq!(table.iter().filter(|v| **v == ALLOW).count(), 306);
    let check = |name, arguments: &[u64], want| {
        for arch in [Arch::X86_64, Arch::I386, Arch::X32] {
            if arch.numbers().contains_key(name) {
                assert_eq!(verdict(&program, arch, name, arguments), want, "{arch:?} {name}");
            }
        }
    };
    check("socket", &[2], ALLOW);
    check("socket", &[38], EPERM);
    check("socket", &[39], ALLOW);
    check("socket", &[40], EPERM);
    check("socket", &[1 << 32 | 38], EPERM);
    check("personality", &[0xFFFF_FFFF], ALLOW);
    check("personality", &[4], EPERM);
    check("clone", &[0x11], ALLOW);
    check("clone", &[0x1000_0000], EPERM);
    check("clone3", &[], ENOSYS);
    check("mount", &[], EPERM);
    check("io_uring_setup", &[], EPERM);
    check("keyctl", &[], EPERM);
    check("chroot", &[], ALLOW);
    check("unshare", &[], EPERM);
    // Newer than anything the profile names. (x32 has named numbers of its own above these.)
    for arch in [Arch::X86_64, Arch::I386] {
        assert_eq!(verdict(&program, arch, "file_setattr", &[]), ENOSYS);
    }
    let admin = default_for(Capabilities::DEFAULT.with("CAP_SYS_ADMIN"));
    for name in ["mount", "unshare", "clone3", "setns", "bpf"] {
        assert_eq!(verdict(&admin, Arch::X86_64, name, &[0x1000_0000]), ALLOW);
    }
    assert_eq!(verdict(&admin, Arch::X86_64, "clone", &[0x1000_0000]), ALLOW);
    let bare = default_for(Capabilities::NONE);
    assert_eq!(verdict(&bare, Arch::X86_64, "chroot", &[]), EPERM);
}

#[test]
fn a_foreign_machine_is_killed() {
    let program = default_for(Capabilities::DEFAULT);
    let call = Call { audit: Arch::Arm.audit(), number: 1, arguments: [0; 6] };
    assert_eq!(run(&program, call).0, KILL);
    let only64 = r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"]}"#;
    let profile = Profile::parse(only64, Arch::X86_64).unwrap().unwrap();
    let program = compile(&profile, Capabilities::DEFAULT, Arch::X86_64).unwrap();
    for (audit, number, want) in [
        (Arch::X86_64.audit(), 1, ALLOW),
        (Arch::X86_64.audit(), 0x4000_0001, KILL),
        (Arch::I386.audit(), 1, KILL),
    ] {
        assert_eq!(run(&program, Call { audit, number, arguments: [0; 6] }).0, want);
    }
}

#[test]
fn the_program_is_small_and_the_search_short() {
    let program = default_for(Capabilities::DEFAULT);
    assert!(program.instructions.len() < 600, "{}", program.instructions.len());
    for (number, name) in Arch::X86_64.syscalls() {
        let call = Call { audit: Arch::X86_64.audit(), number, arguments: [0; 6] };
        assert!(run(&program, call).1 < 40, "{name} takes {} steps", run(&program, call).1);
    }
}

#[test]
fn profiles_are_read_with_dockers_words() {
    for (json, want) in [
        ("{", "Decoding seccomp profile failed"),
        (r#"{"defaultAction":"X"}"#, "string X is not a valid action for seccomp"),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["a"],"archMap":[{"architecture":"b"}]}"#,
            "both 'architectures' and 'archMap' are specified in the seccomp profile, use either \
             'architectures' or 'archMap'",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","names":["b"],"action":"SCMP_ACT_ALLOW"}]}"#,
            "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["b"],"action":"SCMP_ACT_ALLOW","args":[{"index":9,"value":1,"op":"SCMP_CMP_EQ"}]}]}"#,
            "seccomp: system calls have no argument 9",
        ),
    ] {
        let err = Profile::parse(json, Arch::X86_64).unwrap_err();
        assert_eq!(err.to_string(), want);
    }
    assert!(Profile::parse("{}", Arch::X86_64).unwrap().is_none());
}

#[test]
fn actions_and_conditions_of_a_file_count() {
    let json = r#"{"defaultAction":"SCMP_ACT_ALLOW","archMap":[{"architecture":"SCMP_ARCH_X86_64",
        "subArchitectures":["SCMP_ARCH_X86"]}],"flags":["SECCOMP_FILTER_FLAG_LOG"],"syscalls":[
        {"names":["mkdir","no_such_call"],"action":"SCMP_ACT_ERRNO","errnoRet":13},
        {"name":"read","action":"SCMP_ACT_TRAP","args":[
            {"index":0,"value":7,"op":"SCMP_CMP_GT"},{"index":2,"value":8589934592,"op":"SCMP_CMP_LE"}]},
        {"name":"write","action":"SCMP_ACT_KILL","args":[
            {"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":0,"value":2,"op":"SCMP_CMP_EQ"}]},
        {"name":"kill","action":"SCMP_ACT_KILL_PROCESS","includes":{"caps":["CAP_KILL"]}},
        {"name":"getpid","action":"SCMP_ACT_LOG","excludes":{"minKernel":"3.1"}},
        {"name":"getuid","action":"SCMP_ACT_LOG","includes":{"minKernel":"99.1"}}]}"#;
    let profile = Profile::parse(json, Arch::X86_64).unwrap().unwrap();
    let program = compile(&profile, Capabilities::DEFAULT, Arch::X86_64).unwrap();
    let check = |name, arguments: &[u64], want| {
        assert_eq!(verdict(&program, Arch::X86_64, name, arguments), want, "{name}{arguments:?}");
    };
    assert_eq!(program.flags, 2);
    check("mkdir", &[], 0x5_000D);
    check("read", &[8, 0, 8_589_934_592], 0x3_0000);
    check("read", &[8, 0, 8_589_934_593], ALLOW);
    check("read", &[7, 0, 0], ALLOW);
    check("read", &[1 << 32, 0, 0], 0x3_0000);
    for stream in [1, 2] {
        check("write", &[stream], 0);
    }
    check("write", &[3], ALLOW);
    check("kill", &[], KILL);
    check("getpid", &[], ALLOW);
    check("getuid", &[], ALLOW);
    assert_eq!(
        Action::Trace(5).value(),
        0x7FF0_0005,
        "the tracer's value stands in the lower half"
    );
}

proptest::proptest! {
    #[test]
    fn comparisons_of_64_bits_are_right(
        op in 0..7_usize, argument in numbers(), value in numbers(), two in numbers(), low32: bool,
    ) {
        let op = [Op::Ne, Op::Lt, Op::Le, Op::Eq, Op::Ge, Op::Gt, Op::MaskedEq][op];
        let condition = Condition { index: 3, value, value_two: two, op, low32 };
        for wide in [true, false] {
            let mut code = super::assemble::Code::default();
            let (no, yes) = (code.answer(0), code.answer(1));
            let second = code.check(&condition, wide, yes, no);
            code.check(&condition, wide, second, no);
            let program = Program { instructions: code.finish(), flags: 0 };
            let arch = if wide { Arch::X86_64 } else { Arch::I386 };
            let arguments = [0, 0, 0, argument, 0, 0];
            let got = run(&program, Call { audit: 0, number: 0, arguments }).0 == 1;
            proptest::prop_assert_eq!(got, holds(&condition, arch, arguments));
        }
    }

    #[test]
    fn no_profile_makes_the_compiler_panic(json in "\\PC*", action in "(SCMP_ACT_(ALLOW|ERRNO|KILL))?",
        name in "read|write|clone", index: u32, value: u64) {
        let _ = Profile::parse(&json, Arch::X86_64);
        let file = format!(
            r#"{{"defaultAction":"{action}","syscalls":[{{"name":"{name}","action":"SCMP_ACT_TRAP","args":[
                {{"index":{index},"value":{value},"op":"SCMP_CMP_MASKED_EQ"}}]}}]}}"#);
        if let Ok(Some(profile)) = Profile::parse(&file, Arch::X86_64) {
            compile(&profile, Capabilities::ALL, Arch::X86_64).unwrap();
        }
    }
}

fn numbers() -> impl proptest::strategy::Strategy<Value = u64> {
    use proptest::prelude::*;
    prop_oneof![
        any::<u64>(),
        0..4_u64,
        (0..4_u64).prop_map(|n| n << 32),
        (0..3_u64).prop_map(|n| n | 1 << 32)
    ]
}

#[test]
fn a_program_goes_through_bytes_unchanged() {
    let program = default_for(Capabilities::DEFAULT);
    let bytes = program.to_bytes();
    assert_eq!(bytes.len(), program.instructions.len() * 8);
    for (group, instruction) in bytes.chunks_exact(8).zip(&program.instructions) {
        assert_eq!(Instruction::from_bytes(group.try_into().unwrap()), *instruction);
    }
}

#[test]
fn the_cache_gives_the_same_program_again() {
    let cache = Cache::default();
    let one = cache.default_program(Capabilities::DEFAULT).unwrap();
    let two = cache.default_program(Capabilities::DEFAULT).unwrap();
    assert!(std::sync::Arc::ptr_eq(&one, &two));
    let other = cache.default_program(Capabilities::ALL).unwrap();
    assert_ne!(one, other);
}

#[test]
fn the_kernel_takes_the_program_and_acts_on_it() {
    use rustix::{io::Errno, mount, net};
    let program = default_for(Capabilities::DEFAULT);
    // A filter is for one thread and ends with it.
    let answers = std::thread::spawn(move || {
        sys::seccomp::load(&program.instructions, program.flags).unwrap();
        let socket = |family| {
            net::socket(net::AddressFamily::from_raw(family), net::SocketType::STREAM, None)
        };
        (
            mount::fsopen(c"tmpfs", mount::FsOpenFlags::empty()).map(drop),
            socket(40).map(drop),
            socket(38).map(drop),
            socket(1).map(drop),
            std::fs::read_to_string("/proc/thread-self/status").unwrap(),
        )
    })
    .join()
    .unwrap();
    assert_eq!(answers.0, Err(Errno::PERM));
    assert_eq!(answers.1, Err(Errno::PERM));
    assert_eq!(answers.2, Err(Errno::PERM));
    assert_eq!(answers.3, Ok(()));
    assert!(answers.4.contains("Seccomp:\t2\n"));
    let bad = [Instruction { code: 0xFFFF, ..Instruction::default() }];
    assert_eq!(sys::seccomp::load(&bad, 0), Err(Errno::INVAL));
}

#[test]
fn execs_are_sealed_before_their_birth_unless_the_profile_forbids_what_is_left() {
    let native = Arch::native().unwrap();
    let default = Profile::default_profile(native);
    for capabilities in [Capabilities::DEFAULT, Capabilities::NONE] {
        let program = compile(&default, capabilities, native).unwrap();
        assert!(super::lets_be_born(&program.to_bytes()), "{capabilities:?}");
    }
    let no_sessions = r#"{"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["setsid"], "action": "SCMP_ACT_ERRNO"}]}"#;
    let few = r#"{"defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{"names": ["execve", "exit_group", "capset"], "action": "SCMP_ACT_ALLOW"}]}"#;
    for text in [no_sessions, few] {
        let profile = Profile::parse(text, native).unwrap().unwrap();
        let program = compile(&profile, Capabilities::DEFAULT, native).unwrap();
        assert!(!super::lets_be_born(&program.to_bytes()));
    }
    assert!(!super::lets_be_born(b"12345678"));
}
