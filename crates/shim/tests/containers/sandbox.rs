//! What a container must not be able to do, and what it must see.

use crate::rig::{Rig, read};
use runtime::{
    shim::Target,
    spec::{Mount, Namespace, Rlimit},
};
use std::{fs, os::unix::fs::symlink};

async fn out(rig: Rig) -> String {
    let (exit, out, err) = rig.run().await;
    assert_eq!((exit.code, err.as_str()), (0, ""), "{out}");
    rig.gone().await;
    out
}

#[tokio::test]
async fn only_standard_streams_are_open() {
    let rig = Rig::sh("ls /proc/self/fd");
    // The fourth is the folder that `ls` reads.
    assert_eq!(out(rig).await, "0\n1\n2\n3\n");
    let rig = Rig::args(&["sleep", "1000"]);
    let (shim, _attach) = rig.start().await.unwrap();
    let running = rig.exec(&shim, "e1", &rig.process("ls /proc/self/fd")).await.unwrap();
    assert_eq!(read(&mut running.attach.unwrap()).await.0, "0\n1\n2\n3\n");
    shim.signal(&Target::Init, 9).await.unwrap();
    rig.gone().await;
}

#[tokio::test]
async fn a_working_folder_cannot_lead_out_by_a_descriptor() {
    for n in 3..40 {
        let mut rig = Rig::sh("pwd");
        rig.spec.process.cwd = format!("/proc/self/fd/{n}");
        rig.failure().await;
        rig.gone().await;
    }
    let rig = Rig::args(&["sleep", "1000"]);
    let (shim, _attach) = rig.start().await.unwrap();
    for n in 3..40 {
        let mut process = rig.process("pwd");
        process.cwd = format!("/proc/self/fd/{n}");
        rig.exec(&shim, &format!("e{n}"), &process).await.unwrap_err();
    }
    shim.signal(&Target::Init, 9).await.unwrap();
    rig.gone().await;
}

/// What CVE-2019-5736 was: hold the program by `/proc/PID/exe` while it runs, write to it when it has
/// ended (before, the kernel refuses in any case).
#[tokio::test]
async fn the_shims_program_cannot_be_written_to_through_proc() {
    const EROFS: i32 = 30;
    let mut rig = Rig::args(&["sleep", "1000"]);
    let copy = rig.path("shim-copy");
    // By a process of its own: a file that this one has open for writing may be open in what other tests start,
    // and then cannot be executed.
    let copied = std::process::Command::new("cp").arg(crate::rig::shim_path()).arg(&copy).status();
    assert!(copied.unwrap().success());
    let before = fs::read(&copy).unwrap();
    rig.use_program(&copy);
    let (shim, _attach) = rig.start().await.unwrap();
    let pid = shim.state().await.unwrap().shim;
    let held = fs::OpenOptions::new().read(true).open(format!("/proc/{pid}/exe")).unwrap();
    shim.signal(&Target::Init, 9).await.unwrap();
    shim.wait(&Target::Init).await.unwrap();
    crate::rig::eventually(|| crate::rig::shims(&rig.spec.id).is_empty()).await;
    let again = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held));
    let refused = fs::OpenOptions::new().write(true).open(again).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(EROFS), "{refused}");
    assert!(fs::read(&copy).unwrap() == before);
    // The file itself could be written: it was the mount that refused.
    fs::OpenOptions::new().write(true).open(&copy).unwrap();
    rig.gone().await;
}

#[tokio::test]
async fn capabilities_are_dockers_and_nothing_is_inherited() {
    let caps = |uid0: bool| {
        let own = if uid0 { "00000000a80425fb" } else { "0000000000000000" };
        format!(
            "CapInh:\t0000000000000000\nCapPrm:\t{own}\nCapEff:\t{own}\nCapBnd:\t00000000a80425fb\n\
             CapAmb:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t2\n"
        )
    };
    let script = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status";
    assert_eq!(out(Rig::sh(script)).await, caps(true));
    let mut rig = Rig::sh(script);
    rig.spec.process.user.name = "1000".into();
    assert_eq!(out(rig).await, caps(false));
    let mut rig = Rig::sh("grep -E '^(NoNewPrivs|Seccomp:|CapEff)' /proc/self/status");
    rig.spec.process.no_new_privileges = true;
    assert_eq!(out(rig).await, "CapEff:\t00000000a80425fb\nNoNewPrivs:\t1\nSeccomp:\t2\n");
}

#[tokio::test]
async fn masked_paths_are_empty_and_read_only_ones_cannot_be_written() {
    let rig = Rig::sh(
        "cat /proc/kcore /proc/keys /proc/timer_list /proc/interrupts 2>/dev/null | wc -c; ls /proc/acpi /proc/scsi /sys/firmware 2>/dev/null | grep -vc :; \
         for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger; do (echo x > $f) 2>/dev/null && echo wrote $f; done; \
         (mkdir /sys/fs/cgroup/memory/x) 2>/dev/null && echo made; true",
    );
    let before = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    // There is something to hide, or this would prove nothing.
    assert!(!fs::read("/proc/interrupts").unwrap().is_empty());
    let seen = out(rig).await;
    assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), before);
    assert!(seen.starts_with("0\n"), "{seen}");
    assert!(!seen.contains("wrote") && !seen.contains("made"), "{seen}");
}

#[tokio::test]
async fn names_of_an_image_that_are_links_never_lead_to_the_host() {
    let canary = tempfile::tempdir().unwrap();
    fs::write(canary.path().join("file"), "safe").unwrap();
    for link in ["dev", "etc/hostname", "work", "data", "sys", "proc"] {
        let mut rig = Rig::args(&["/bin/true"]);
        symlink(canary.path(), rig.path("lower").join(link)).unwrap();
        rig.spec.process.cwd = "/work/made".into();
        rig.spec.mounts.push(Mount::of("tmpfs", "/data/deep/er", &[]));
        let source = rig.path("lower/etc/group");
        rig.spec.mounts.push(Mount::bind(source, "/etc/hostname", &["ro"]));
        // Started or not: what counts is what was touched.
        if let Ok((shim, _attach)) = rig.start().await {
            shim.wait(&Target::Init).await.unwrap();
        }
        rig.gone().await;
    }
    let names: Vec<_> =
        fs::read_dir(canary.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(names, ["file"]);
    assert_eq!(fs::read_to_string(canary.path().join("file")).unwrap(), "safe");
}

/// The plan sees paths as they are written; where a link of the image leads, only the shim sees.
#[tokio::test]
async fn no_link_of_an_image_leads_a_mount_over_proc_or_sys() {
    for (link, to, target) in [
        ("foo", "/proc", "/foo"),
        ("foo", "/proc", "/foo/self/attr"),
        ("foo", "/proc/sys", "/foo/kernel"),
        ("foo", "../../proc", "/foo/1"),
        ("foo", "/sys", "/foo"),
        ("foo", "/sys/kernel", "/foo"),
    ] {
        for kind in ["tmpfs", "bind"] {
            let mut rig = Rig::args(&["true"]);
            symlink(to, rig.path("lower").join(link)).unwrap();
            fs::create_dir(rig.path("vol")).unwrap();
            rig.spec.mounts.push(match kind {
                "bind" => Mount::bind(rig.path("vol"), target, &[]),
                other => Mount::of(other, target, &[]),
            });
            let err = rig.failure().await;
            assert!(err.text.contains("cannot be mounted"), "{kind} at {target}: {err}");
            rig.gone().await;
        }
    }
}

#[tokio::test]
async fn odd_passwd_files_stop_the_start_and_nothing_else() {
    type Make = fn(&std::path::Path);
    let makes: &[Make] = &[
        |p| assert!(std::process::Command::new("mkfifo").arg(p).status().unwrap().success()),
        |p| fs::File::create(p).unwrap().set_len(1 << 30).unwrap(),
        |p| fs::create_dir(p).unwrap(),
    ];
    for make in makes {
        let mut rig = Rig::args(&["true"]);
        let passwd = rig.path("lower/etc/passwd");
        fs::remove_file(&passwd).unwrap();
        make(&passwd);
        rig.spec.process.user.name = "app".into();
        rig.failure().await;
        rig.gone().await;
    }
    let mut rig = Rig::args(&["true"]);
    let passwd = rig.path("lower/etc/passwd");
    fs::remove_file(&passwd).unwrap();
    symlink("/dev/zero", &passwd).unwrap();
    rig.spec.process.user.name = "app".into();
    rig.failure().await;
    rig.gone().await;
}

#[tokio::test]
async fn the_host_is_nowhere_to_be_seen() {
    let home = env!("CARGO_MANIFEST_DIR");
    let rig = Rig::sh("cat /proc/self/mountinfo; ls /; ls -l /proc/1/cwd /proc/1/root");
    let seen = out(rig).await;
    assert!(!seen.contains(home), "{seen}");
    assert!(seen.contains(" / / ") && !seen.contains("/home "), "{seen}");
}

#[tokio::test]
async fn settings_of_the_container_are_its_own() {
    let mut rig = Rig::sh(
        "hostname; cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax; ip link show lo | grep -c UP; \
         cat /proc/self/oom_score_adj; ulimit -n; cat /proc/1/comm; true",
    );
    rig.spec.sysctl = [("net.ipv4.ip_forward", "1"), ("kernel.shmmax", "4096")]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
    rig.spec.process.oom_score_adj = Some(321);
    rig.spec.process.rlimits = vec![Rlimit { kind: "RLIMIT_NOFILE".into(), soft: 777, hard: 888 }];
    assert_eq!(out(rig).await, "testhost\n1\n4096\n1\n321\n777\nsh\n");
}

#[tokio::test]
async fn a_read_only_container_writes_to_its_mounts_only() {
    let mut rig = Rig::sh(
        "(touch /x) 2>/dev/null && echo root; touch /tmp/x && echo tmp; (touch /ro/x) 2>/dev/null && echo ro; cat /ro/a; true",
    );
    rig.spec.root.readonly = true;
    rig.spec.mounts.push(Mount::of("tmpfs", "/tmp", &["nosuid", "nodev", "size=1m"]));
    fs::create_dir(rig.path("vol")).unwrap();
    fs::write(rig.path("vol/a"), "vol\n").unwrap();
    rig.spec.mounts.push(Mount::bind(rig.path("vol"), "/ro", &["ro"]));
    assert_eq!(out(rig).await, "tmp\nvol\n");
}

#[tokio::test]
async fn a_container_can_share_the_namespaces_of_another() {
    let first = Rig::args(&["sleep", "1000"]);
    let (shim, _attach) = first.start().await.unwrap();
    let pid = shim.state().await.unwrap().pid;
    let of = |name: &str| Namespace::Path(format!("/proc/{pid}/ns/{name}").into());
    let mut rig = Rig::sh(
        "for n in net pid ipc; do readlink /proc/self/ns/$n; done; ps | grep -c '[s]leep 1000'",
    );
    rig.spec.namespaces.net = of("net");
    rig.spec.namespaces.pid = of("pid");
    rig.spec.namespaces.ipc = of("ipc");
    let want: String = ["net", "pid", "ipc"]
        .map(|n| format!("{}\n", fs::read_link(format!("/proc/{pid}/ns/{n}")).unwrap().display()))
        .concat();
    assert_eq!(out(rig).await, format!("{want}1\n"));
    shim.signal(&Target::Init, 9).await.unwrap();
    first.gone().await;
}

#[tokio::test]
async fn processes_left_in_the_hosts_pid_namespace_end_with_the_first() {
    let mut rig = Rig::sh("sleep 987654 & echo $!");
    rig.spec.namespaces.pid = Namespace::Host;
    let pid: u32 = out(rig).await.trim().parse().unwrap();
    crate::rig::eventually(|| {
        !fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().contains("987654")
    })
    .await;
}
