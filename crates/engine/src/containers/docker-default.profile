# What a container may do is decided by its capabilities, namespaces, mounts and system call filter. This profile keeps
# it, whatever it was given of those, from the kernel's switches and from mounting.
profile docker-default flags=(attach_disconnected, mediate_deleted) {
  capability,
  file,
  network,
  umount,

  # Signals come from the host and from its own kind, and go to its own kind.
  signal (receive) peer=unconfined,
  signal (send, receive) peer=docker-default,

  # It may look into its own kind only.
  ptrace (trace, read, tracedby, readby) peer=docker-default,

  deny mount,

  # Below /proc nothing is written but in the folders of processes, and the limits of shared memory.
  deny /proc/* w,
  deny /proc/[^1-9s]*/** w,
  deny /proc/s[^y]*/** w,
  deny /proc/sy[^s]*/** w,
  deny /proc/sys[^/]*/** w,
  deny /proc/sys/[^k]** w,
  deny /proc/sys/kernel/[^s]** w,
  deny /proc/sys/kernel/s[^h]** w,
  deny /proc/sys/kernel/sh[^m]** w,
  deny /proc/sysrq-trigger rwklx,
  deny /proc/kcore rwklx,

  # Below /sys nothing is written but control groups.
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
}
