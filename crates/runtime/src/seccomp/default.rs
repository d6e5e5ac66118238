//! The default profile as data: what a container may ask of the kernel when nothing else was said.
//!
//! Verdict-equal to Docker's default of 2026: everything not listed answers EPERM, `clone3` answers
//! ENOSYS so that libc falls back to `clone`, whose flags a filter can see.
//! Conditions on `int` arguments look at the 32 bits that the kernel reads, so that set upper bits do
//! not hide a forbidden value (Docker's 64-bit comparison lets `socket(1 << 32 | AF_ALG)` through).

use super::profile::{Action, Condition, Op};

/// One rule of the default profile.
#[derive(Debug)]
pub(super) struct Row {
    pub names: &'static str,
    pub action: Action,
    pub conditions: &'static [Condition],
    pub when: When,
}

/// When a [`Row`] counts.
#[derive(Clone, Copy, Debug)]
pub(super) enum When {
    Always,
    /// The container has this capability.
    With(&'static str),
    /// The container lacks this capability.
    Without(&'static str),
    /// The machine is one of these (Go's names).
    On(&'static [&'static str]),
}

const ENOSYS: u32 = 38;
/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const NAMESPACES: u64 = 0x7E02_0000;
const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;

const fn allow(when: When, names: &'static str) -> Row {
    Row { names, action: Action::Allow, conditions: &[], when }
}

const fn allow_if(conditions: &'static [Condition], when: When, names: &'static str) -> Row {
    Row { names, action: Action::Allow, conditions, when }
}

const fn low(op: Op, value: u64) -> Condition {
    Condition { index: 0, value, value_two: 0, op, low32: true }
}

const fn is(value: u64) -> Condition {
    Condition { index: 0, value, value_two: 0, op: Op::Eq, low32: false }
}

use When::{Always, On, With, Without};

pub(super) static ROWS: &[Row] = &[
    // Files, descriptors, memory, processes, signals, time, sockets: what programs live on.
    allow(
        Always,
        "accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 \
         clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 \
         clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 \
         epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old \
         eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate \
         fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync \
         fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync \
         ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat \
         getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups \
         getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid \
         getresgid32 getresuid getresuid32 getrlimit get_robust_list getrusage getsid getsockname getsockopt \
         get_thread_area gettid gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init \
         inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy io_getevents io_pgetevents \
         io_pgetevents_time64 ioprio_get ioprio_set io_setup io_submit ipc kill landlock_add_rule \
         landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount \
         listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 madvise \
         map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 \
         mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 \
         mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock \
         munlockall munmap name_to_handle_at nanosleep newfstatat _newselect open openat openat2 pause pidfd_open \
         pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 \
         preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read \
         readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages \
         removexattr removexattrat rename renameat renameat2 restart_syscall riscv_hwprobe rmdir rseq \
         rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait \
         rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam \
         sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval \
         sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler \
         sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64 \
         sendmmsg sendmsg sendto setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 \
         setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid \
         setreuid32 setrlimit set_robust_list setsid setsockopt set_thread_area set_tid_address setuid setuid32 \
         setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask \
         sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat \
         sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun \
         timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime \
         timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask \
         uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid \
         waitpid write writev",
    ),
    // Safe since Linux 4.8, which is older than any kernel we run on.
    allow(Always, "process_vm_readv process_vm_writev ptrace"),
    // Any family but AF_ALG (kernel crypto) and AF_VSOCK (the hypervisor's side).
    allow_if(&[low(Op::Lt, AF_ALG)], Always, "socket"),
    allow_if(&[low(Op::Eq, AF_ALG + 1)], Always, "socket"),
    allow_if(&[low(Op::Gt, AF_VSOCK)], Always, "socket"),
    // PER_LINUX, PER_LINUX32, each with UNAME26, and the question for the present one.
    allow_if(&[is(0)], Always, "personality"),
    allow_if(&[is(8)], Always, "personality"),
    allow_if(&[is(0x2_0000)], Always, "personality"),
    allow_if(&[is(0x2_0008)], Always, "personality"),
    allow_if(&[is(0xFFFF_FFFF)], Always, "personality"),
    allow(On(&["ppc64le"]), "sync_file_range2 swapcontext"),
    allow(
        On(&["arm", "arm64"]),
        "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
    ),
    allow(On(&["amd64"]), "arch_prctl"),
    allow(On(&["amd64", "x86"]), "modify_ldt"),
    allow(On(&["s390x"]), "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr"),
    allow(On(&["riscv64"]), "riscv_flush_icache"),
    allow(With("CAP_DAC_READ_SEARCH"), "open_by_handle_at"),
    allow(
        With("CAP_SYS_ADMIN"),
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr \
         lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl \
         quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    allow_if(
        &[Condition { index: 0, value: NAMESPACES, value_two: 0, op: Op::MaskedEq, low32: false }],
        Without("CAP_SYS_ADMIN"),
        "clone",
    ),
    Row {
        names: "clone3",
        action: Action::Errno(ENOSYS),
        conditions: &[],
        when: Without("CAP_SYS_ADMIN"),
    },
    allow(With("CAP_SYS_BOOT"), "reboot"),
    allow(With("CAP_SYS_CHROOT"), "chroot"),
    allow(With("CAP_SYS_MODULE"), "delete_module init_module finit_module"),
    allow(With("CAP_SYS_PACCT"), "acct"),
    allow(
        With("CAP_SYS_PTRACE"),
        "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    ),
    allow(With("CAP_SYS_RAWIO"), "iopl ioperm"),
    allow(With("CAP_SYS_TIME"), "settimeofday stime clock_settime clock_settime64"),
    allow(With("CAP_SYS_TTY_CONFIG"), "vhangup"),
    allow(With("CAP_SYS_NICE"), "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    allow(With("CAP_SYSLOG"), "syslog"),
    allow(With("CAP_BPF"), "bpf"),
    allow(With("CAP_PERFMON"), "perf_event_open"),
];
