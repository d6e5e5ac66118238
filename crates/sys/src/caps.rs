//! Capabilities of this thread.
//!
//! Source: capabilities(7), capset(2).

use std::io;

/// Names by number, from 0, without `CAP_`.
pub const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Number of `CAP_SYS_ADMIN`.
pub const SYS_ADMIN: u8 = 21;
/// `CAP_MKNOD`.
pub const MKNOD: u8 = 27;

/// The number of `CAP_NAME` (exact, with prefix).
pub fn number(name: &str) -> Option<u8> {
    let name = name.strip_prefix("CAP_")?;
    NAMES.iter().position(|n| *n == name).and_then(|at| u8::try_from(at).ok())
}

/// A thread's sets; bit n is capability n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sets {
    /// In effect.
    pub effective: u64,
    /// May be put into effect.
    pub permitted: u64,
    /// Kept over execve by file capabilities.
    pub inheritable: u64,
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const VERSION_3: u32 = 0x2008_0522;

/// This thread's sets.
///
/// # Errors
/// The kernel's.
pub fn current() -> io::Result<Sets> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut halves = [Half::default(); 2];
    // SAFETY: version 3 writes two halves; both pointers are valid for that.
    let done = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, halves.as_mut_ptr()) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    let join = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
    Ok(Sets {
        effective: join(halves[0].effective, halves[1].effective),
        permitted: join(halves[0].permitted, halves[1].permitted),
        inheritable: join(halves[0].inheritable, halves[1].inheritable),
    })
}

/// Sets this thread's sets.
///
/// # Errors
/// The kernel's.
pub fn set(sets: Sets) -> io::Result<()> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    #[allow(clippy::cast_possible_truncation, reason = "each half is 32 bits")]
    let half = |shift: u32| Half {
        effective: (sets.effective >> shift) as u32,
        permitted: (sets.permitted >> shift) as u32,
        inheritable: (sets.inheritable >> shift) as u32,
    };
    let halves = [half(0), half(32)];
    // SAFETY: version 3 reads two halves; both pointers are valid for that.
    let done = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, halves.as_ptr()) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes everything but `keep` out of the bounding set, and empties the ambient set.
///
/// # Errors
/// The kernel's.
pub fn bound(keep: u64) -> io::Result<()> {
    for number in 0..64u64 {
        if keep >> number & 1 == 1 {
            continue;
        }
        // SAFETY: prctl with these arguments takes no pointer.
        let done = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) };
        if done != 0 {
            let err = io::Error::last_os_error();
            match err.raw_os_error() {
                // The first number that this kernel does not know.
                Some(libc::EINVAL) => break,
                _ => return Err(err),
            }
        }
    }
    // SAFETY: as above.
    let done =
        unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Puts `mask` into the ambient set; it must be permitted and inheritable.
///
/// # Errors
/// The kernel's.
pub fn raise_ambient(mask: u64) -> io::Result<()> {
    for number in (0..64u64).filter(|n| mask >> n & 1 == 1) {
        // SAFETY: prctl with these arguments takes no pointer.
        let done =
            unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, number, 0, 0) };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_their_numbers() {
        assert_eq!(number("CAP_CHOWN"), Some(0));
        assert_eq!(number("CAP_SYS_ADMIN"), Some(SYS_ADMIN));
        assert_eq!(number("CAP_CHECKPOINT_RESTORE"), Some(40));
        assert_eq!(number("SYS_ADMIN"), None);
        assert_eq!(number("CAP_"), None);
    }

    #[test]
    fn own_sets_can_be_read_and_set_again() {
        let mine = current().unwrap();
        assert_eq!(mine.effective & !mine.permitted, 0);
        set(mine).unwrap();
        assert_eq!(current().unwrap(), mine);
    }
}
