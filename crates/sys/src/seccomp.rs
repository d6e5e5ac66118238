//! seccomp(2): loading a filter into the calling thread.
//!
//! Invariants: nothing here allocates, so that it may run between clone and exec.

use rustix::io::Errno;

/// One instruction of a classic BPF filter (`struct sock_filter`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Steps to skip when a comparison holds.
    pub jt: u8,
    /// Steps to skip when it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

impl Instruction {
    /// As the kernel reads it.
    pub fn to_bytes(self) -> [u8; 8] {
        let (code, k) = (self.code.to_ne_bytes(), self.k.to_ne_bytes());
        [code[0], code[1], self.jt, self.jf, k[0], k[1], k[2], k[3]]
    }

    /// From the kernel's bytes.
    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        let [c0, c1, jt, jf, k0, k1, k2, k3] = bytes;
        Self { code: u16::from_ne_bytes([c0, c1]), jt, jf, k: u32::from_ne_bytes([k0, k1, k2, k3]) }
    }
}

/// `SECCOMP_FILTER_FLAG_SPEC_ALLOW`: only a request, older kernels refuse it.
const SPEC_ALLOW: u32 = 1 << 2;

/// Puts the calling thread under `program` for good, with `SECCOMP_FILTER_FLAG_*` in `flags`.
///
/// # Errors
/// `ACCESS` without CAP_SYS_ADMIN or no-new-privileges, `INVAL` for a bad program.
pub fn load(program: &[Instruction], flags: u32) -> Result<(), Errno> {
    match load_once(program, flags) {
        Err(Errno::INVAL) if flags & SPEC_ALLOW != 0 => load_once(program, flags & !SPEC_ALLOW),
        other => other,
    }
}

fn load_once(program: &[Instruction], flags: u32) -> Result<(), Errno> {
    let len = libc::c_ushort::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let filter = libc::sock_fprog {
        len,
        // `Instruction` has the layout of `sock_filter`; the kernel only reads.
        filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    // SAFETY: `filter` and the instructions it points at live through the call, which copies them.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::c_ulong::from(libc::SECCOMP_SET_MODE_FILTER),
            libc::c_ulong::from(flags),
            &raw const filter,
        )
    };
    if answer == 0 {
        Ok(())
    } else if answer > 0 {
        // With TSYNC: the id of a thread that could not follow.
        Err(Errno::SRCH)
    } else {
        Err(last_errno())
    }
}

fn last_errno() -> Errno {
    let code = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    Errno::from_raw_os_error(code)
}
