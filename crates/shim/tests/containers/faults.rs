//! What dies, dies cleanly: the daemon, the shim, the container, clients.

use crate::rig::{ALL, Rig, eventually, read, read_until, shims};
use runtime::shim::{Shim, Stdin, Target};
use std::{fs, path::Path};

/// Ends a shim as the kernel or an administrator might.
fn kill_shim(pid: u32) {
    sys::process::kill(sys::process::open(pid).unwrap(), 9).unwrap();
}

fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

#[tokio::test]
async fn a_container_outlives_every_client_and_its_log_is_whole() {
    let mut rig = Rig::sh("read go; seq 1 20000; exit 9");
    rig.stdin = Stdin::Open;
    let (shim, mut attach) = rig.start().await.unwrap();
    let pid = shim.state().await.unwrap().pid;
    attach.write(b"go\n").await.unwrap();
    // All that a daemon holds goes at once.
    drop((shim, attach));
    eventually(|| Shim::exit_record(&rig.dir()).is_some()).await;
    assert_eq!(Shim::exit_record(&rig.dir()).unwrap().code, 9);
    assert!(!alive(pid));
    let want: Vec<String> = (1..=20000).map(|n| format!("stdout: {n}")).collect();
    assert!(rig.log_lines() == want);
    rig.gone().await;
}

#[tokio::test]
async fn a_new_daemon_finds_it_and_everything_works_again() {
    let mut rig = Rig::sh("read a; echo got $a; exit 6");
    rig.stdin = Stdin::Open;
    let (shim, attach) = rig.start().await.unwrap();
    drop((shim, attach));
    let (again, _) = Shim::connect(&rig.dir()).await.unwrap();
    let mut attach = again.attach(&Target::Init, ALL).await.unwrap();
    let running = rig.exec(&again, "e1", &rig.process("echo exec")).await.unwrap();
    assert_eq!(read(&mut running.attach.unwrap()).await.0, "exec\n");
    attach.write(b"it\n").await.unwrap();
    assert_eq!(read(&mut attach).await.0, "got it\n");
    assert_eq!(again.wait(&Target::Init).await.unwrap().code, 6);
    rig.gone().await;
}

#[tokio::test]
async fn a_container_that_was_never_released_goes_with_its_daemon() {
    let rig = Rig::args(&["sleep", "1000"]);
    let (shim, pid) = rig.spawn().await.unwrap();
    drop(shim);
    eventually(|| !alive(pid)).await;
    rig.gone().await;
}

#[tokio::test]
async fn a_killed_shim_takes_its_container_along() {
    let rig = Rig::sh("sleep 1000 & echo up; sleep 1000");
    let (shim, mut attach) = rig.start().await.unwrap();
    read_until(&mut attach, "up").await;
    let state = shim.state().await.unwrap();
    let waiting = shim.wait(&Target::Init);
    kill_shim(state.shim);
    let exit = waiting.await.unwrap();
    assert_eq!((exit.code, exit.lost), (137, true));
    eventually(|| !alive(state.pid)).await;
    assert_eq!(Shim::connect(&rig.dir()).await.unwrap_err().kind(), base::Kind::Unavailable);
    // The group is the engine's to remove then.
    rig.remove_cgroup();
    fs::remove_file(rig.dir().join("shim.sock")).unwrap();
    rig.gone().await;
}

#[tokio::test]
async fn the_container_dies_with_its_shim_whoever_runs_it() {
    let mut rig = Rig::args(&["sleep", "1000"]);
    rig.spec.process.user.name = "app".into();
    let (shim, _attach) = rig.start().await.unwrap();
    let state = shim.state().await.unwrap();
    kill_shim(state.shim);
    eventually(|| !alive(state.pid)).await;
    rig.remove_cgroup();
    fs::remove_file(rig.dir().join("shim.sock")).unwrap();
    rig.gone().await;
}

#[tokio::test]
async fn failed_starts_leave_nothing_wherever_they_fail() {
    type Break = fn(&mut Rig);
    let breaks: &[(&str, Break)] = &[
        ("bind source", |r| {
            r.spec.mounts.push(runtime::spec::Mount::bind("/does/not/exist", "/x", &[]));
        }),
        ("lower", |r| fs::remove_dir_all(r.path("lower")).unwrap()),
        ("user", |r| r.spec.process.user.name = "nobody".into()),
        ("cwd", |r| r.spec.process.cwd = "/etc/passwd".into()),
        ("proc is a link", |r| std::os::unix::fs::symlink("/tmp", r.path("lower/proc")).unwrap()),
        ("bind over file", |r| {
            r.spec.mounts.push(runtime::spec::Mount::bind("/tmp", "/etc/passwd", &[]));
        }),
        ("tmpfs option", |r| {
            r.spec.mounts.push(runtime::spec::Mount::of("tmpfs", "/x", &["nonsense=1"]));
        }),
        ("sysctl", |r| drop(r.spec.sysctl.insert("net.ipv4.no_such".into(), "1".into()))),
        ("namespace", |r| {
            r.spec.namespaces.net = runtime::spec::Namespace::Path("/proc/self/status".into());
        }),
        ("log", |r| fs::create_dir(r.path("json.log")).unwrap()),
    ];
    for (name, apply) in breaks {
        let mut rig = Rig::args(&["true"]);
        apply(&mut rig);
        let err = rig.failure().await;
        assert!(!err.text.is_empty(), "{name}");
        assert!(!err.text.contains("panicked"), "{name}: {err}");
        rig.gone().await;
    }
}

/// The engine attaches waiting clients between spawn and release: the set-up may have failed by then.
#[tokio::test]
async fn a_failed_set_up_is_told_by_the_release_and_by_nothing_before() {
    let mut rig = Rig::args(&["true"]);
    rig.spec.process.user.name = "nobody".into();
    let (shim, pid) = rig.spawn().await.unwrap();
    eventually(|| !alive(pid)).await;
    let mut attach = shim.attach(&Target::Init, ALL).await.unwrap();
    let err = shim.release().await.unwrap_err();
    assert_eq!(err.text, "unable to find user nobody: no matching entries in passwd file");
    assert_eq!(attach.next().await.unwrap(), None);
    rig.gone().await;
}

/// What the shim itself does after the clone can fail too; the reason must reach the caller unchanged.
#[tokio::test]
async fn a_failure_between_clone_and_release_keeps_its_reason() {
    let mut rig = Rig::args(&["true"]);
    rig.spec.process.oom_score_adj = Some(-1000);
    let lowered = fs::write("/proc/thread-self/oom_score_adj", "-1").is_ok();
    if lowered {
        // This machine lets us: nothing fails, which is right as well.
        let _ = fs::write("/proc/thread-self/oom_score_adj", "0");
        rig.run().await;
    } else {
        let err = rig.failure().await;
        assert_eq!(err.text, "write oom_score_adj -1000: permission denied");
    }
    rig.gone().await;
}

#[tokio::test]
async fn a_client_that_speaks_nonsense_harms_nobody() {
    use std::io::Write as _;
    let rig = Rig::args(&["sleep", "1000"]);
    let (shim, _attach) = rig.start().await.unwrap();
    let socket = rig.dir().join("shim.sock");
    for bytes in
        [&b"\xff\xff\xff\xff"[..], b"\x04\0\0\0{{{{", b"GET / HTTP/1.1\r\n\r\n", b"\x02", b""]
    {
        let mut client = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        client.write_all(bytes).unwrap();
    }
    let silent = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    assert_eq!(shim.state().await.unwrap().execs, []);
    drop(silent);
    shim.signal(&Target::Init, 9).await.unwrap();
    rig.gone().await;
}

#[tokio::test]
async fn clients_that_come_and_go_leave_no_descriptors() {
    let rig = Rig::args(&["sleep", "1000"]);
    let (shim, _attach) = rig.start().await.unwrap();
    let pid = shim.state().await.unwrap().shim;
    let count = || fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let before = count();
    for n in 0..100 {
        drop(shim.attach(&Target::Init, ALL).await.unwrap());
        let running = rig.exec(&shim, &format!("e{n}"), &rig.process("true")).await.unwrap();
        read(&mut running.attach.unwrap()).await;
    }
    eventually(|| count() <= before).await;
    shim.signal(&Target::Init, 9).await.unwrap();
    rig.gone().await;
}

#[tokio::test]
async fn a_long_folder_is_no_obstacle() {
    let mut rig = Rig::sh("echo hi");
    rig.deepen(300);
    let (exit, out, _) = rig.run().await;
    assert_eq!((exit.code, out.as_str()), (0, "hi\n"));
    rig.gone().await;
}

#[tokio::test]
async fn nothing_of_ours_listens_on_an_abstract_address() {
    let rig = Rig::args(&["sleep", "1000"]);
    let (shim, _attach) = rig.start().await.unwrap();
    assert_eq!(shims(&rig.spec.id).len(), 1);
    let sockets = fs::read_to_string("/proc/net/unix").unwrap();
    assert!(!sockets.lines().any(|l| l.contains('@') && l.contains("shim")));
    assert!(Path::new(&rig.dir().join("shim.sock")).exists());
    shim.signal(&Target::Init, 9).await.unwrap();
    rig.gone().await;
}
