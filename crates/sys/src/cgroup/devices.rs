//! Which devices a cgroup may use: rules to a state, the state to v1 lines or to a v2 eBPF program.
//!
//! The state follows the v1 controller: a default, and exceptions from it by device. An access is as
//! default says unless an exception covers all of it (default deny) or any of it (default allow).
//! Source: Linux `security/device_cgroup.c`, `Documentation/admin-guide/cgroup-v2.rst`.

use super::resources::DeviceRule;
use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

const MKNOD: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;

/// `None` is any number.
type Device = (char, Option<u32>, Option<u32>);

/// What the rules come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    allow: bool,
    exceptions: BTreeMap<Device, u8>,
}

impl State {
    /// Plays the rules in order.
    pub(super) fn of(rules: &[DeviceRule]) -> io::Result<Self> {
        let mut state = Self { allow: true, exceptions: BTreeMap::new() };
        for rule in rules {
            let access = access_of(rule.access.as_deref())?;
            let kind = rule.kind.unwrap_or('a');
            let number = |n: Option<i64>| match n {
                None | Some(-1) => Ok(None),
                Some(n) => {
                    u32::try_from(n).map(Some).map_err(|_| bad(format!("device number {n}")))
                }
            };
            let (major, minor) = (number(rule.major)?, number(rule.minor)?);
            match kind {
                'a' => state = Self { allow: rule.allow, exceptions: BTreeMap::new() },
                'b' | 'c' | 'u' => {
                    let kind = if kind == 'u' { 'c' } else { kind };
                    state.change((kind, major, minor), rule.allow, access);
                }
                other => return Err(bad(format!("device type {other:?}"))),
            }
        }
        Ok(state)
    }

    fn change(&mut self, device: Device, allow: bool, access: u8) {
        if allow != self.allow {
            *self.exceptions.entry(device).or_default() |= access;
        } else if let Some(held) = self.exceptions.get_mut(&device) {
            *held &= !access;
            if *held == 0 {
                self.exceptions.remove(&device);
            }
        }
    }

    /// Whether nothing is denied.
    pub(super) fn is_open(&self) -> bool {
        self.allow && self.exceptions.is_empty()
    }

    /// What to write to `devices.deny` and `devices.allow` of a v1 cgroup, in order.
    pub(super) fn v1_lines(&self) -> Vec<(&'static str, String)> {
        let (base, exception) = if self.allow {
            ("devices.allow", "devices.deny")
        } else {
            ("devices.deny", "devices.allow")
        };
        let mut lines = vec![(base, "a".to_owned())];
        for ((kind, major, minor), access) in &self.exceptions {
            let text = |n: &Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
            let mut line = format!("{kind} {}:{} ", text(major), text(minor));
            for (bit, letter) in [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')] {
                if access & bit != 0 {
                    line.push(letter);
                }
            }
            lines.push((exception, line));
        }
        lines
    }

    /// The eBPF program for a v2 cgroup: R0 = 1 lets the access through.
    pub(super) fn program(&self) -> Vec<Bpf> {
        let mut out = vec![
            // struct bpf_cgroup_dev_ctx { access << 16 | type, major, minor } is at R1.
            Bpf::load(2, 1, 0),
            Bpf::copy(3, 2),
            Bpf::and(2, 0xFFFF),
            Bpf::shift_right(3, 16),
            Bpf::load(4, 1, 4),
            Bpf::load(5, 1, 8),
        ];
        for ((kind, major, minor), access) in &self.exceptions {
            let mut checks = vec![Bpf::unless_equal(2, if *kind == 'b' { 1 } else { 2 })];
            checks.extend(major.map(|n| Bpf::unless_equal(4, n)));
            checks.extend(minor.map(|n| Bpf::unless_equal(5, n)));
            checks.push(Bpf::copy(0, 3));
            if self.allow {
                checks.push(Bpf::and(0, i32::from(*access)));
                checks.push(Bpf::unless_other(0, 0));
            } else {
                checks.push(Bpf::and(0, !i32::from(*access)));
                checks.push(Bpf::unless_equal(0, 0));
            }
            let length = checks.len() + 2;
            for (at, check) in checks.iter_mut().enumerate() {
                if check.is_jump() {
                    check.offset = (length - at - 1) as i16;
                }
            }
            out.extend(checks);
            out.extend([Bpf::set(0, i32::from(!self.allow)), Bpf::EXIT]);
        }
        out.extend([Bpf::set(0, i32::from(self.allow)), Bpf::EXIT]);
        out
    }
}

fn bad(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{what} is not valid in a device rule"))
}

fn access_of(text: Option<&str>) -> io::Result<u8> {
    let Some(text) = text.filter(|t| !t.is_empty()) else { return Ok(READ | WRITE | MKNOD) };
    text.chars().try_fold(0, |access, letter| {
        Ok(access
            | match letter {
                'r' => READ,
                'w' => WRITE,
                'm' => MKNOD,
                other => return Err(bad(format!("access {other:?}"))),
            })
    })
}

/// One eBPF instruction (`struct bpf_insn`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bpf {
    pub code: u8,
    /// Destination in the lower half, source in the upper.
    pub registers: u8,
    pub offset: i16,
    pub immediate: i32,
}

pub(super) const LOAD_WORD: u8 = 0x61;
pub(super) const COPY: u8 = 0xBF;
pub(super) const SET: u8 = 0xB7;
pub(super) const AND: u8 = 0x57;
pub(super) const SHIFT_RIGHT: u8 = 0x77;
/// 32-bit comparisons: numbers above 2^31 are not sign-extended.
pub(super) const IF_NOT_EQUAL: u8 = 0x56;
pub(super) const IF_EQUAL: u8 = 0x16;

impl Bpf {
    const EXIT: Self = Self { code: 0x95, registers: 0, offset: 0, immediate: 0 };

    fn load(to: u8, from: u8, offset: i16) -> Self {
        Self { code: LOAD_WORD, registers: to | from << 4, offset, immediate: 0 }
    }

    fn copy(to: u8, from: u8) -> Self {
        Self { code: COPY, registers: to | from << 4, offset: 0, immediate: 0 }
    }

    fn set(to: u8, immediate: i32) -> Self {
        Self { code: SET, registers: to, offset: 0, immediate }
    }

    fn and(to: u8, immediate: i32) -> Self {
        Self { code: AND, registers: to, offset: 0, immediate }
    }

    fn shift_right(to: u8, immediate: i32) -> Self {
        Self { code: SHIFT_RIGHT, registers: to, offset: 0, immediate }
    }

    fn unless_equal(register: u8, value: u32) -> Self {
        Self { code: IF_NOT_EQUAL, registers: register, offset: 0, immediate: value as i32 }
    }

    fn unless_other(register: u8, value: u32) -> Self {
        Self { code: IF_EQUAL, registers: register, offset: 0, immediate: value as i32 }
    }

    fn is_jump(self) -> bool {
        matches!(self.code, IF_NOT_EQUAL | IF_EQUAL)
    }
}

const BPF_PROG_LOAD: u32 = 5;
const BPF_PROG_ATTACH: u32 = 8;
const BPF_PROG_DETACH: u32 = 9;
const BPF_PROG_GET_FD_BY_ID: u32 = 13;
const BPF_PROG_QUERY: u32 = 16;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

/// `union bpf_attr`, as far as the calls here read it.
#[repr(C)]
struct Load {
    prog_type: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

fn bpf<T>(command: u32, attributes: &mut T) -> io::Result<i64> {
    // SAFETY: `attributes` is a live, writable struct of the size given; pointers inside it point at
    // buffers that the callers keep alive over the call.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            libc::c_ulong::from(command),
            std::ptr::from_mut(attributes),
            size_of::<T>(),
        )
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// Puts the cgroup under the program of `state`, instead of those it had.
pub(super) fn attach(cgroup: BorrowedFd<'_>, state: &State) -> io::Result<()> {
    let old = attached(cgroup)?;
    if !state.is_open() {
        let program = load(&state.program())?;
        bpf(BPF_PROG_ATTACH, &mut request(cgroup, &program, ALLOW_MULTI))?;
    }
    // Only now: between two programs access is narrower, never wider.
    for program in old {
        bpf(BPF_PROG_DETACH, &mut request(cgroup, &program, 0))?;
    }
    Ok(())
}

fn request(cgroup: BorrowedFd<'_>, program: &OwnedFd, flags: u32) -> Attach {
    Attach {
        target: cgroup.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: ATTACH_CGROUP_DEVICE,
        flags,
    }
}

fn load(instructions: &[Bpf]) -> io::Result<OwnedFd> {
    let license = c"Apache-2.0";
    let mut request = Load {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        count: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        instructions: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
    };
    owned(bpf(BPF_PROG_LOAD, &mut request)?)
}

fn owned(fd: i64) -> io::Result<OwnedFd> {
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel just made this descriptor for us (close-on-exec, as all of bpf's).
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn attached(cgroup: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
    let mut ids = [0_u32; 64];
    let mut query = Query {
        target: cgroup.as_raw_fd() as u32,
        kind: ATTACH_CGROUP_DEVICE,
        ids: ids.as_mut_ptr() as u64,
        count: ids.len() as u32,
        ..Query::default()
    };
    bpf(BPF_PROG_QUERY, &mut query)?;
    ids.iter()
        .take(query.count as usize)
        .map(|id| owned(bpf(BPF_PROG_GET_FD_BY_ID, &mut ById { id: *id, ..ById::default() })?))
        .collect()
}

#[cfg(test)]
#[path = "devices_tests.rs"]
mod tests;
