//! Processes: made with clone3, held by pidfd, and what they set up for themselves before execve.
//!
//! Invariants: a copy of this process is only made while it has one thread, so that the copy may go on
//! in ordinary Rust; descriptors are close-on-exec unless they are made standard input, output or error.
//! Source: clone3(2), setns(2), prctl(2), execveat(2), credentials(7).

use rustix::{
    fd::{AsFd, BorrowedFd, FromRawFd as _, OwnedFd},
    process::{self, Pid, WaitOptions},
};
use std::{
    ffi::{CStr, CString},
    io,
    os::fd::AsRawFd as _,
    ptr,
    time::Duration,
};

/// Namespaces, as clone3, unshare and setns name them.
pub mod ns {
    /// Mounts.
    pub const MOUNT: u64 = 0x0002_0000;
    /// View of control groups.
    pub const CGROUP: u64 = 0x0200_0000;
    /// Host and domain name.
    pub const UTS: u64 = 0x0400_0000;
    /// System V IPC, POSIX queues.
    pub const IPC: u64 = 0x0800_0000;
    /// Users and groups.
    pub const USER: u64 = 0x1000_0000;
    /// Processes.
    pub const PID: u64 = 0x2000_0000;
    /// Network.
    pub const NET: u64 = 0x4000_0000;

    /// The name of one of them in `/proc/PID/ns`.
    pub fn file(namespace: u64) -> &'static str {
        match namespace {
            MOUNT => "mnt",
            CGROUP => "cgroup",
            UTS => "uts",
            IPC => "ipc",
            USER => "user",
            PID => "pid",
            _ => "net",
        }
    }
}

/// Which side of a clone this is.
#[derive(Debug)]
pub enum Forked {
    /// The new process.
    Child,
    /// The old one, with the new one's pid and pidfd.
    Parent(Child),
}

/// A process made by [`clone`].
#[derive(Debug)]
pub struct Child {
    /// Its pid, as this process sees it.
    pub pid: u32,
    /// Its pidfd.
    pub pidfd: OwnedFd,
}

#[repr(C, align(8))]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Copies this process into new `namespaces` (bits of [`ns`]), on cgroup v2 straight into `cgroup`.
///
/// # Errors
/// `EBUSY` when this process has several threads; else the kernel's.
pub fn clone(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    const CLONE_PIDFD: u64 = 0x1000;
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    alone()?;
    let mut pidfd: i32 = -1;
    let mut args = CloneArgs {
        flags: namespaces | CLONE_PIDFD,
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: `args` and `pidfd` outlive the call. Without CLONE_VM and a stack of its own the child is a
    // copy as after fork, and `alone` saw to it that no other thread's lock is copied in a locked state.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        pid => {
            // SAFETY: the kernel stored a new descriptor there, which nothing else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Forked::Parent(Child { pid: number(pid)?, pidfd }))
        }
    }
}

/// Copies this process as a child of its own parent; gives the copy's pid, or `None` in the copy.
///
/// # Errors
/// As [`clone`].
pub fn clone_sibling() -> io::Result<Option<u32>> {
    alone()?;
    // SAFETY: without CLONE_VM this is fork, and there is one thread (see `clone`). The argument order
    // after the stack differs between machines, but all of them are zero.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_PARENT, 0, 0, 0, 0) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => Ok(Some(number(pid)?)),
    }
}

/// Copies this process by the oldest call there is, which every filter lets through; gives the copy's
/// pid, or `None` in the copy.
///
/// # Errors
/// As [`clone`].
pub fn fork() -> io::Result<Option<u32>> {
    alone()?;
    // SAFETY: fork in a process with one thread (see `clone`).
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => Ok(Some(number(pid.into())?)),
    }
}

fn number(pid: libc::c_long) -> io::Result<u32> {
    u32::try_from(pid).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))
}

/// `EBUSY` when this process has other threads. A folder's link count is two and one for each folder in it,
/// here one for each thread.
pub(crate) fn alone() -> io::Result<()> {
    match rustix::fs::stat("/proc/thread-self/../") {
        Ok(stat) if stat.st_nlink > 3 => Err(io::Error::from_raw_os_error(libc::EBUSY)),
        // Without /proc there is no container either, and no threads were made in that case.
        _ => Ok(()),
    }
}

/// A pidfd of the process `pid`.
///
/// # Errors
/// The kernel's; `ESRCH` when there is none.
pub fn open(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
    Ok(process::pidfd_open(pid, process::PidfdFlags::empty())?)
}

/// Sends `signal` to the process behind a pidfd.
///
/// # Errors
/// The kernel's; `ESRCH` when it has ended, `EINVAL` for no signal.
pub fn kill(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    // SAFETY: the information pointer may be null; the descriptor is borrowed for the call.
    let done = unsafe {
        let pidfd = pidfd.as_fd().as_raw_fd();
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd, signal, ptr::null::<()>(), 0)
    };
    check(done)
}

/// Sends `signal` to the child `pid`, which was not reaped yet.
///
/// # Errors
/// The kernel's.
pub fn kill_pid(pid: u32, signal: i32) -> io::Result<()> {
    let pid = i32::try_from(pid).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
    // SAFETY: no pointers.
    check(unsafe { libc::syscall(libc::SYS_kill, pid, signal) })
}

/// Makes this process's group the one that its terminal, if it has one, listens to.
///
/// # Errors
/// The kernel's; `ENOTTY` without a terminal.
pub fn take_foreground() -> io::Result<()> {
    // A background process that does this is stopped, unless it ignores the signal.
    // SAFETY: SIG_IGN is always valid.
    unsafe { libc::signal(libc::SIGTTOU, libc::SIG_IGN) };
    let group = rustix::process::getpgrp();
    Ok(rustix::termios::tcsetpgrp(rustix::stdio::stdin(), group)?)
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

/// Reaps one ended child, if there is one: its pid and how it ended.
///
/// # Errors
/// The kernel's; having no children is none.
pub fn reap() -> io::Result<Option<(u32, Ended)>> {
    let (pid, status) = match process::wait(WaitOptions::NOHANG) {
        Ok(Some(found)) => found,
        Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(None),
        Err(rustix::io::Errno::INTR) => return Ok(None),
        Err(err) => return Err(err.into()),
    };
    Ok(Some((pid.as_raw_nonzero().get().unsigned_abs(), how(status))))
}

fn how(status: process::WaitStatus) -> Ended {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Ended::Exited(code),
        (None, Some(signal)) => Ended::Signaled(signal),
        // Neither stops nor continues were asked for.
        (None, None) => Ended::Exited(255),
    }
}

/// Waits until the child `pid` ends; gives how.
///
/// # Errors
/// The kernel's; `ECHILD` when it is none.
pub fn wait_for(pid: u32) -> io::Result<Ended> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::from_raw_os_error(libc::ECHILD))?;
    loop {
        match process::waitpid(Some(pid), WaitOptions::empty()) {
            Err(rustix::io::Errno::INTR) | Ok(None) => {}
            Err(err) => return Err(err.into()),
            Ok(Some((_, status))) => return Ok(how(status)),
        }
    }
}

/// Waits until the child `pid` ends.
///
/// # Errors
/// The kernel's; `ECHILD` when it is none.
pub fn wait(pid: u32) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    loop {
        match process::waitpid(pid, WaitOptions::empty()) {
            Err(rustix::io::Errno::INTR) => {}
            Err(err) => return Err(err.into()),
            Ok(_) => return Ok(()),
        }
    }
}

/// Whether the process behind a pidfd ends, or has ended, within `limit`.
///
/// # Errors
/// The kernel's.
pub fn ends_within(pidfd: impl AsFd, limit: Duration) -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let limit =
        Timespec::try_from(limit).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let mut polled = [PollFd::new(&pidfd, PollFlags::IN)];
    Ok(poll(&mut polled, Some(&limit))? > 0)
}

/// Moves this process (for pids: its later children) into namespaces of the process behind a pidfd, or
/// into the one that a namespace file is.
///
/// # Errors
/// The kernel's.
pub fn join(fd: impl AsFd, namespaces: u64) -> io::Result<()> {
    // SAFETY: no pointers; the process has one thread, or the kernel refuses what would be unsound.
    let done = unsafe { libc::syscall(libc::SYS_setns, fd.as_fd().as_raw_fd(), namespaces) };
    check(done)
}

/// Makes new `namespaces` for this process.
///
/// # Errors
/// The kernel's.
pub fn unshare(namespaces: u64) -> io::Result<()> {
    // SAFETY: no pointers; only namespaces are unshared, nothing that Rust knows of.
    check(unsafe { libc::syscall(libc::SYS_unshare, namespaces) })
}

/// Whether `/proc` of this process is closed to others of the same user, and it leaves no core.
///
/// # Errors
/// The kernel's.
pub fn set_undumpable() -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 0)
}

/// Gets `signal` when the parent dies. Changing user or capabilities forgets this.
///
/// # Errors
/// The kernel's.
pub fn set_parent_death_signal(signal: i32) -> io::Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, signal as libc::c_ulong)
}

/// Orphaned descendants become this process's children.
///
/// # Errors
/// The kernel's.
pub fn set_subreaper() -> io::Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1)
}

/// From here on execve gives no new privileges.
///
/// # Errors
/// The kernel's.
pub fn set_no_new_privs() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)
}

/// Keeps the permitted capabilities when the user changes.
///
/// # Errors
/// The kernel's.
pub fn set_keep_caps() -> io::Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, 1)
}

/// The name that `ps` shows.
///
/// # Errors
/// The kernel's.
pub fn set_name(name: &CStr) -> io::Result<()> {
    prctl(libc::PR_SET_NAME, name.as_ptr() as libc::c_ulong)
}

fn prctl(option: i32, value: libc::c_ulong) -> io::Result<()> {
    // SAFETY: only called with options that take a number, or (PR_SET_NAME) the address of a C string
    // which the caller borrows for the call.
    check(unsafe { libc::syscall(libc::SYS_prctl, option, value, 0, 0, 0) })
}

/// Takes these groups beside its own.
///
/// # Errors
/// The kernel's; `EPERM` in a user namespace that forbids it (`/proc/PID/setgroups`).
pub fn set_groups(groups: &[u32]) -> io::Result<()> {
    // SAFETY: the pointer and length are those of `groups`. Raw calls change this thread only, and it is
    // the only one.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })
}

/// Whether it has just these groups beside its own.
fn has_groups(groups: &[u32]) -> bool {
    let sorted = |mut list: Vec<u32>| {
        list.sort_unstable();
        list
    };
    process::getgroups().is_ok_and(|own| {
        sorted(own.iter().map(|g| g.as_raw()).collect()) == sorted(groups.to_vec())
    })
}

/// Becomes another user with these groups; groups that it has already need no right to set them.
///
/// # Errors
/// The kernel's.
pub fn set_identity(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    match set_groups(groups) {
        Err(e) if e.raw_os_error() == Some(libc::EPERM) && has_groups(groups) => {}
        set => set?,
    }
    // SAFETY: no pointers.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: no pointers.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })
}

/// Limits a resource (`RLIMIT_*` by number; `u64::MAX` is unlimited).
///
/// # Errors
/// The kernel's; raising a hard limit may be forbidden.
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = [soft, hard];
    // SAFETY: the kernel reads two u64 from `limit`; the old value's pointer may be null.
    check(unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, limit.as_ptr(), ptr::null::<u64>())
    })
}

/// A session keyring of its own instead of the inherited one.
///
/// # Errors
/// The kernel's; `ENOSYS` where there are no keys.
pub fn new_session_keyring(name: &CStr) -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: `name` is a C string that outlives the call.
    check(unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr(), 0, 0, 0)
    })
}

/// Sets host name.
///
/// # Errors
/// The kernel's.
pub fn set_hostname(name: &str) -> io::Result<()> {
    // SAFETY: pointer and length are those of `name`.
    check(unsafe { libc::syscall(libc::SYS_sethostname, name.as_ptr(), name.len()) })
}

/// Sets NIS domain name.
///
/// # Errors
/// The kernel's.
pub fn set_domainname(name: &str) -> io::Result<()> {
    // SAFETY: pointer and length are those of `name`.
    check(unsafe { libc::syscall(libc::SYS_setdomainname, name.as_ptr(), name.len()) })
}

/// Makes `fd` standard input (0), output (1) or error (2), open across execve.
///
/// # Errors
/// The kernel's.
pub fn set_stdio(fd: BorrowedFd<'_>, number: u8) -> io::Result<()> {
    debug_assert!(number <= 2);
    if fd.as_raw_fd() == i32::from(number) {
        return Ok(rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?);
    }
    // SAFETY: no pointers; 0 to 2 are never owned by anything in Rust that would close them.
    let done = unsafe { libc::dup2(fd.as_raw_fd(), i32::from(number)) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Closes every descriptor from `first` on. For a process's first moments, before anything is opened.
///
/// # Errors
/// The kernel's.
pub fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: the caller says that nothing owns them yet: they were inherited by accident.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) })
}

/// Lets the descriptors from `first` up to but without `end` stay open over execve; those that are not open are passed over.
pub fn keep_over_exec(first: i32, end: i32) {
    for number in first..end {
        // SAFETY: no pointers; a number that is not open is refused by the kernel.
        unsafe { libc::fcntl(number, libc::F_SETFD, 0) };
    }
}

/// Marks every descriptor from `first` on close-on-exec.
///
/// # Errors
/// The kernel's; `ENOSYS`, `EINVAL` before Linux 5.11.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: no pointers, nothing is closed.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) })
}

/// Whether `pid` is a child of this process that was not reaped.
pub fn is_child(pid: u32) -> bool {
    let options = process::WaitIdOptions::EXITED
        | process::WaitIdOptions::NOHANG
        | process::WaitIdOptions::NOWAIT;
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    process::waitid(process::WaitId::Pid(pid), options).is_ok()
}

/// Closes every descriptor but `kept` and the first three and `preserved` after them, for a process that is about to run a program or to end: whoever
/// holds one of them here has lost it, and may only forget it.
///
/// # Errors
/// The kernel's.
pub fn close_all_but(kept: &[BorrowedFd<'_>], preserved: u32) -> io::Result<()> {
    let mut numbers: Vec<u32> =
        kept.iter().filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok()).collect();
    numbers.sort_unstable();
    let mut from = 3 + preserved;
    for number in numbers.into_iter().chain([u32::MAX]) {
        if number > from {
            let last = if number == u32::MAX { number } else { number - 1 };
            // SAFETY: no pointers; that the descriptors are nobody's any more is what the caller says.
            let closed = check(unsafe { libc::syscall(libc::SYS_close_range, from, last, 0) });
            match closed {
                // An old kernel: one by one, as far as numbers are ever given out here.
                Err(err) if err.raw_os_error() == Some(libc::ENOSYS) => {
                    for number in from..=last.min(4096) {
                        // SAFETY: as above.
                        unsafe { libc::close(number as i32) };
                    }
                }
                closed => closed?,
            }
        }
        from = from.max(number.saturating_add(1));
    }
    Ok(())
}

/// All signals act as they do by default and none is held back, as a new program expects it.
pub fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL is always valid; the kernel refuses the two signals which cannot be set.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: an all-zero set is a valid, empty one.
    unsafe {
        let none: libc::sigset_t = std::mem::zeroed();
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

/// Replaces this process by the program at `path`; returns only on failure.
pub fn exec(path: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: all pointers are to C strings that outlive the call, and both lists end with null.
    unsafe { libc::syscall(libc::SYS_execve, path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Replaces this process by the program that `fd` is; returns only on failure.
pub fn exec_fd(fd: BorrowedFd<'_>, args: &[CString], env: &[CString]) -> io::Error {
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: as in `exec`; the empty path with AT_EMPTY_PATH means the descriptor itself.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_raw_fd(),
            c"".as_ptr(),
            args.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

fn pointers(list: &[CString]) -> Vec<*const libc::c_char> {
    list.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
}

/// Ends this process at once, without running anything that was registered for its end.
pub fn exit(code: i32) -> ! {
    // SAFETY: always allowed.
    unsafe { libc::_exit(code) }
}

/// Sets `lo` of this network namespace up.
///
/// # Errors
/// The kernel's.
pub fn loopback_up() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: all-zero is a valid request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: `request` is a whole `ifreq`, which is what this request reads.
    let done =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn check(done: libc::c_long) -> io::Result<()> {
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_is_not_copied() {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || stopped.recv());
        assert_eq!(clone(0, None).unwrap_err().raw_os_error(), Some(libc::EBUSY));
        assert_eq!(clone_sibling().unwrap_err().raw_os_error(), Some(libc::EBUSY));
        drop(stop);
        thread.join().unwrap().unwrap_err();
    }

    #[test]
    fn signals_reach_a_process_by_its_pidfd() {
        let mut child = std::process::Command::new("/bin/sleep").arg("100").spawn().unwrap();
        let pidfd = open(child.id()).unwrap();
        assert!(!ends_within(&pidfd, Duration::ZERO).unwrap());
        kill(&pidfd, libc::SIGKILL).unwrap();
        assert!(ends_within(&pidfd, Duration::from_secs(60)).unwrap());
        child.wait().unwrap();
        assert_eq!(kill(&pidfd, 0).unwrap_err().raw_os_error(), Some(libc::ESRCH));
        assert_eq!(open(u32::MAX).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }
}
