//! What a container cannot do: capabilities, masks, system calls, devices, cgroups, namespaces.

use testkit::{Cx, cases, cx::skip, suite::Case};

pub const CASES: &[Case] = cases![
    default_capabilities,
    capabilities_added_and_dropped,
    users_have_no_capabilities,
    masked_and_read_only_paths,
    proc_and_sys_cannot_be_written,
    system_call_verdicts,
    devices_are_few_and_guarded,
    cgroup_is_read_only,
    processes_are_alone,
    nothing_of_the_host_is_mounted,
    no_descriptors_leak,
    workdir_in_proc_is_refused,
    privileged_opens_up,
    hostile_rootfs_links,
    proc_cannot_be_replaced,
    memory_limit_holds,
    pids_limit_holds,
    kernel_settings_are_out_of_reach,
    keys_and_time_are_out_of_reach,
    setuid_works_and_can_be_forbidden,
];

fn status(text: &str, key: &str) -> String {
    text.lines().find_map(|l| l.strip_prefix(key)).unwrap_or_default().trim().to_owned()
}

fn default_capabilities(cx: &Cx<'_>) {
    let text = cx.busybox(&[], &["cat", "/proc/self/status"]);
    for key in ["CapPrm:", "CapEff:", "CapBnd:"] {
        assert_eq!(status(&text, key), "00000000a80425fb", "{key}");
    }
    if cx.is_gantry() {
        assert_eq!(status(&text, "CapInh:"), "0000000000000000");
    }
    assert_eq!(status(&text, "CapAmb:"), "0000000000000000");
    assert_eq!(status(&text, "NoNewPrivs:"), "0");
    assert_eq!(status(&text, "Seccomp:"), "2");
}

fn capabilities_added_and_dropped(cx: &Cx<'_>) {
    let caps =
        |options: &[&str]| status(&cx.busybox(options, &["cat", "/proc/self/status"]), "CapEff:");
    assert_eq!(caps(&["--cap-drop", "ALL"]), "0000000000000000");
    assert_eq!(caps(&["--cap-drop", "all", "--cap-add", "NET_ADMIN"]), "0000000000001000");
    assert_eq!(caps(&["--cap-add", "CAP_SYS_TIME"]), "00000000aa0425fb");
    assert_eq!(caps(&["--cap-drop", "chown"]), "00000000a80425fa");
    if cx.is_gantry() || testkit::host::has_all_capabilities() {
        assert_eq!(caps(&["--cap-add", "ALL"]), testkit::host::capabilities());
    }
    cx.run(&["--cap-add", "NONSENSE"], &["true"])
        .fails_with(125, &["unknown capability", "NONSENSE"]);
}

fn users_have_no_capabilities(cx: &Cx<'_>) {
    let text =
        cx.busybox(&["-u", "alice", "--cap-add", "NET_ADMIN"], &["cat", "/proc/self/status"]);
    for key in ["CapEff:", "CapPrm:", "CapAmb:"] {
        assert_eq!(status(&text, key), "0000000000000000", "{key}");
    }
    assert_eq!(status(&text, "CapBnd:"), "00000000a80435fb");
}

fn masked_and_read_only_paths(cx: &Cx<'_>) {
    let script = "for f in kcore keys timer_list sched_debug latency_stats; do [ -e /proc/$f ] && wc -c < /proc/$f; done; \
        for d in acpi scsi asound; do [ -d /proc/$d ] && ls /proc/$d; done; ls /sys/firmware; \
        for d in bus fs irq sys; do [ -d /proc/$d ] && (touch /proc/$d/x 2>/dev/null && echo writable $d); done; \
        echo 1 2>/dev/null > /proc/sys/vm/drop_caches && echo wrote; echo h 2>/dev/null > /proc/sysrq-trigger && echo wrote; true";
    let text = cx.busybox(&[], &["sh", "-c", script]);
    assert!(text.lines().all(|l| l == "0"), "{text}");
}

fn proc_and_sys_cannot_be_written(cx: &Cx<'_>) {
    let script = "for f in /proc/sys/kernel/core_pattern /proc/sys/kernel/hostname /sys/kernel/uevent_helper /sys/fs/cgroup/x /sys/power/state; do \
        (echo evil > $f) 2>/dev/null && echo \"wrote $f\"; done; mount | grep -E ' /sys | /proc ' | grep -c '(rw'; true";
    let text = cx.busybox(&[], &["sh", "-c", script]);
    if !cx.is_gantry() {
        return; // dockerd 20.10 leaves the root of the cgroup tree writable here
    }
    assert_eq!(text, "1", "/proc itself is rw, /sys is not: {text}");
}

/// Tries system calls through busybox applets: verdicts of the default profile.
fn system_call_verdicts(cx: &Cx<'_>) {
    let sh = |options: &[&str], script: &str| cx.run(options, &["sh", "-c", script]);
    sh(&[], "mkdir /m; mount -t tmpfs x /m").fails_with(1, &["ermi"]);
    sh(&[], "unshare -m true").fails_with(1, &["Operation not permitted"]);
    sh(&[], "unshare -U true").fails_with(1, &["Operation not permitted"]);
    sh(&[], "unshare -n true").fails_with(1, &["Operation not permitted"]);
    sh(&[], "chroot / true").ok();
    sh(&[], "hostname evil").fails_with(1, &["ermitted"]);
    sh(&[], "swapon /etc/passwd").fails(1);
    sh(&[], "insmod /etc/passwd").fails(1);
    assert!(sh(&[], "date -s 2020-01-01").stderr.contains("not permitted"));
    sh(&[], "mknod /n c 1 3 && echo made").ok();
    sh(
        &["--cap-add", "SYS_ADMIN"],
        "mkdir /m; mount -t tmpfs x /m && hostname ok && unshare -m true",
    )
    .ok();
    sh(&["--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined"], "unshare -n true").ok();
}

fn devices_are_few_and_guarded(cx: &Cx<'_>) {
    let list = cx.busybox(&[], &["sh", "-c", "cd /dev; echo $(ls)"]);
    let mut words: Vec<_> = list.split(' ').filter(|w| *w != "core").collect(); // if there is a kcore
    words.sort_unstable();
    assert_eq!(
        words,
        [
            "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin",
            "stdout", "tty", "urandom", "zero"
        ]
    );
    let script = "mknod /tmp/disk b 254 0; head -c 1 /tmp/disk; mknod /tmp/mem c 1 1; head -c 1 /tmp/mem; mknod /tmp/kmsg c 1 11; head -c 1 /tmp/kmsg; \
        mknod /tmp/zero c 1 5; head -c 3 /tmp/zero | wc -c";
    let output = cx.run(&[], &["sh", "-c", script]);
    assert_eq!(output.ok(), "3", "only known devices open: {}", output.describe());
    assert!(output.stderr.matches("Operation not permitted").count() >= 3, "{}", output.describe());
    let name = cx.sleeper("a", &[]);
    let output =
        cx.docker(&["exec", &name, "sh", "-c", "mknod /tmp/disk b 254 0; head -c 1 /tmp/disk"]);
    assert!(output.stderr.contains("Operation not permitted"), "{}", output.describe());
}

fn cgroup_is_read_only(cx: &Cx<'_>) {
    let text = cx.busybox(&[], &["sh", "-c", "mkdir /sys/fs/cgroup/x 2>&1; for d in /sys/fs/cgroup/*/; do mkdir ${d}x 2>/dev/null && echo made $d; done; true"]);
    if cx.is_gantry() {
        // dockerd 20.10 leaves the root of the cgroup tree writable here.
        assert!(text.contains("Read-only file system") && !text.contains("made"), "{text}");
    }
    let text = cx.busybox(&["--cgroupns", "private"], &["cat", "/proc/self/cgroup"]);
    assert!(
        text.lines()
            .filter(|l| !l.contains("name=") && !l.starts_with("0::"))
            .all(|l| l.ends_with(":/")),
        "{text}"
    );
}

fn processes_are_alone(cx: &Cx<'_>) {
    let text = cx.busybox(&[], &["sh", "-c", "echo $$; ls -d /proc/[0-9]* | wc -l"]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "1");
    assert!(lines[1].parse::<u32>().unwrap() <= 4, "{text}");
}

fn nothing_of_the_host_is_mounted(cx: &Cx<'_>) {
    let text = cx.busybox(&[], &["cat", "/proc/self/mountinfo"]);
    let targets: Vec<_> = text.lines().map(|l| l.split(' ').nth(4).unwrap()).collect();
    for target in &targets {
        let known =
            ["/", "/proc", "/dev", "/sys", "/etc/resolv.conf", "/etc/hostname", "/etc/hosts"]
                .contains(target)
                || ["/proc/", "/dev/", "/sys/"].iter().any(|p| target.starts_with(p));
        assert!(known, "{target} in\n{text}");
    }
    let host = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    if cx.is_gantry() {
        let root = cx.daemon.is_own().then(|| cx.daemon.path("root").display().to_string());
        assert!(root.is_none_or(|r| !host.contains(&r)), "the host's mount table stays empty");
    }
}

fn no_descriptors_leak(cx: &Cx<'_>) {
    let text = cx.busybox(&[], &["sh", "-c", "ls /proc/self/fd | wc -l"]);
    assert_eq!(text, "4", "0, 1, 2 and the folder");
    let text = cx.busybox(&[], &["sh", "-c", "cat /proc/net/unix | grep -c '@' || true"]);
    assert_eq!(text, "0");
}

fn workdir_in_proc_is_refused(cx: &Cx<'_>) {
    for n in 3..20 {
        let output = cx.run(
            &["--network", "none", "-w", &format!("/proc/self/fd/{n}")],
            &["sh", "-c", "ls ../../../../../../root/.. ; cat ./etc/shadow"],
        );
        assert!(!output.stdout.contains("root:"), "{}", output.describe());
        assert_ne!(output.code, Some(0), "{}", output.describe());
    }
}

fn privileged_opens_up(cx: &Cx<'_>) {
    if !cx.is_gantry() && !testkit::host::has_all_capabilities() {
        skip("runc cannot give capabilities that this machine withholds");
    }
    let text = cx.busybox(&["--privileged"], &["sh", "-c", "grep -E 'CapEff|Seccomp:' /proc/self/status; ls /dev | wc -l; mkdir /m; mount -t tmpfs x /m && echo mounted; wc -c < /proc/timer_list"]);
    assert!(text.contains("Seccomp:\t0") && text.contains("mounted"), "{text}");
    assert!(text.contains(&testkit::host::capabilities()), "{text}");
}

fn hostile_rootfs_links(cx: &Cx<'_>) {
    let canary = cx.dir().join("canary");
    std::fs::create_dir(&canary).unwrap();
    let tag = cx.name("img");
    let dockerfile = format!(
        "FROM busybox\nRUN rm -rf /dev /sys; ln -s {0} /dev; ln -s {0} /sys; rm -f /etc/hosts; ln -s {0}/hosts /etc/hosts; ln -s {0} /w\n",
        canary.display()
    );
    // Building may fail already: the folders are in use. Then the links are made as layer content.
    cx.docker_with(&["build", "-q", "-t", &tag, "-"], dockerfile);
    let mut layer = testkit::tarball::Tarball::new();
    let base = testkit::tarball::members(testkit::image::busybox());
    let base = base.iter().find(|m| m.0.ends_with("layer.tar")).unwrap();
    let base = testkit::tarball::member(testkit::image::busybox(), &base.0).unwrap().to_vec();
    let outside = canary.to_str().unwrap();
    layer
        .symlink("dev", outside)
        .symlink("sys", outside)
        .symlink("etc/hosts", &format!("{outside}/hosts"))
        .symlink("w", outside);
    let config = serde_json::json!({"Env": ["PATH=/bin"], "Cmd": ["sh"]});
    let archive =
        testkit::image::docker_archive(&format!("{tag}:links"), &config, &[base, layer.finish()]);
    if cx.docker_with(&["load", "-q"], archive).code == Some(0) {
        let output = cx.docker(&["run", "--rm", "-w", "/w/made", &format!("{tag}:links"), "true"]);
        assert!(output.code.is_some(), "{}", output.describe());
    }
    assert_eq!(std::fs::read_dir(&canary).unwrap().count(), 0, "nothing was made on the host");
}

fn proc_cannot_be_replaced(cx: &Cx<'_>) {
    let output = cx.run(&["-v", &format!("{}:/proc", cx.name("vol"))], &["true"]);
    assert_ne!(output.code, Some(0), "{}", output.describe());
}

fn memory_limit_holds(cx: &Cx<'_>) {
    let output = cx.run(
        &["--memory", "16m", "--memory-swap", "16m", "--tmpfs", "/t:size=100m"],
        &["sh", "-c", "dd if=/dev/zero of=/t/x bs=1M count=64 2>/dev/null && echo too much"],
    );
    assert!(!output.stdout.contains("too much"), "{}", output.describe());
}

fn pids_limit_holds(cx: &Cx<'_>) {
    let output = cx.run(
        &["--pids-limit", "10"],
        &[
            "sh",
            "-c",
            "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do sleep 5 & done; echo forked",
        ],
    );
    assert!(
        !output.stdout.contains("forked") || output.stderr.contains("fork"),
        "{}",
        output.describe()
    );
}

fn kernel_settings_are_out_of_reach(cx: &Cx<'_>) {
    let before = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    // A newline in a value goes into that one setting, or is refused.
    cx.run(&["--sysctl", "net.ipv4.ip_forward=1\nkernel.core_pattern=x"], &["true"]);
    for option in [
        "kernel.core_pattern=x",
        "kernel.shm_rmid_forced=1+kernel.core_pattern=x",
        "vm.overcommit_memory=1",
    ] {
        cx.run(&["--sysctl", option], &["true"]).fails(125);
    }
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), before);
}

fn keys_and_time_are_out_of_reach(cx: &Cx<'_>) {
    let text = cx.busybox(&[], &["sh", "-c", "wc -c < /proc/keys; (echo 0 > /proc/self/oom_score_adj) 2>/dev/null; adjtimex -f 1 2>&1 | grep -c ermitted"]);
    assert_eq!(text, "0\n1");
}

fn setuid_works_and_can_be_forbidden(cx: &Cx<'_>) {
    let tag = cx.name("img");
    let dockerfile = "FROM busybox\nRUN mkdir /s && cp /bin/busybox /s/crontab && chmod 4755 /s/crontab\nUSER alice\n";
    cx.docker_with(&["build", "-q", "-t", &tag, "-"], dockerfile).ok();
    // This applet says so when it does not run as root.
    let run = |options: &[&str]| {
        let output =
            cx.docker(&[&["run", "--rm"], options, &[&tag[..], "/s/crontab", "-l"]].concat());
        output.stderr.contains("must be suid")
    };
    assert!(!run(&[]), "setuid works");
    assert!(run(&["--security-opt", "no-new-privileges"]), "and can be forbidden");
}
