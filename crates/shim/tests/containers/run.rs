//! From start to exit.

use crate::rig::{ALL, Rig, eventually, read, read_until};
use runtime::{
    shim::{Class, Phase, Shim, Stdin, Target},
    spec::ConsoleSize,
};

#[tokio::test]
async fn output_goes_to_client_and_log_and_the_code_is_recorded() {
    let rig = Rig::sh("echo out; echo err >&2; exit 7");
    let (exit, out, err) = rig.run().await;
    assert_eq!((exit.code, exit.signal, exit.oom, exit.lost), (7, None, false, false));
    assert_eq!((out.as_str(), err.as_str()), ("out\n", "err\n"));
    let mut lines = rig.log_lines();
    lines.sort();
    assert_eq!(lines, ["stderr: err", "stdout: out"]);
    rig.gone().await;
}

#[tokio::test]
async fn a_program_that_is_not_there_has_dockers_text_and_class() {
    for (args, class, text) in [
        (&["nope"][..], Class::NotFound, "exec: \"nope\": executable file not found in $PATH"),
        (&["/nope"], Class::NotFound, "exec: \"/nope\": stat /nope: no such file or directory"),
        (&["/etc/passwd"], Class::NotExecutable, "exec: \"/etc/passwd\": permission denied"),
        (&["/etc"], Class::NotExecutable, "exec: \"/etc\": is a directory"),
        (
            &["./bin/nope", "x"],
            Class::NotFound,
            "exec: \"./bin/nope\": stat ./bin/nope: no such file or directory",
        ),
    ] {
        let rig = Rig::args(args);
        let err = rig.failure().await;
        assert_eq!((err.class, err.text.as_str()), (class, text));
        assert_eq!(Shim::exit_record(&rig.dir()), None);
        rig.gone().await;
    }
}

#[tokio::test]
async fn a_program_in_no_format_is_told_where_the_container_writes() {
    let rig = Rig::sh("printf '\\001\\002\\003' > /tmp/odd; chmod +x /tmp/odd; exec /tmp/odd");
    // The shell reads what it cannot execute as a script; execve by the shim does not.
    rig.run().await;
    let mut rig2 = Rig::args(&["/odd"]);
    std::fs::write(rig2.path("lower/odd"), [1, 2, 3]).unwrap();
    std::fs::set_permissions(
        rig2.path("lower/odd"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    rig2.log = true;
    let (exit, _, err) = rig2.run().await;
    assert_eq!((exit.code, err.as_str()), (255, "exec /odd: exec format error\n"));
    rig.gone().await;
    rig2.gone().await;
}

#[tokio::test]
async fn signals_reach_the_first_process_and_show_in_the_code() {
    let rig = Rig::sh("trap 'echo got; exit 3' TERM; echo ready; while :; do sleep 0.01; done");
    let (shim, mut attach) = rig.start().await.unwrap();
    read_until(&mut attach, "ready").await;
    shim.signal(&Target::Init, 15).await.unwrap();
    assert_eq!(read(&mut attach).await.0, "got\n");
    assert_eq!(shim.wait(&Target::Init).await.unwrap().code, 3);
    rig.gone().await;

    let rig = Rig::args(&["sleep", "1000"]);
    let (shim, _attach) = rig.start().await.unwrap();
    shim.signal(&Target::Init, 9).await.unwrap();
    let exit = shim.wait(&Target::Init).await.unwrap();
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
    rig.gone().await;
}

#[tokio::test]
async fn input_of_a_once_container_ends_with_its_client() {
    let mut rig = Rig::args(&["cat"]);
    rig.stdin = Stdin::Once;
    let (shim, mut attach) = rig.start().await.unwrap();
    attach.write(b"hello").await.unwrap();
    attach.close_stdin().await.unwrap();
    assert_eq!(read(&mut attach).await.0, "hello");
    assert_eq!(shim.wait(&Target::Init).await.unwrap().code, 0);
    rig.gone().await;
}

#[tokio::test]
async fn much_input_comes_back_as_output() {
    let mut rig = Rig::args(&["cat"]);
    rig.stdin = Stdin::Once;
    let (shim, mut attach) = rig.start().await.unwrap();
    let much = "0123456789abcde\n".repeat(100_000);
    let (_, mut writer) = {
        let second = shim.attach(
            &Target::Init,
            runtime::shim::AttachOptions { stdin: true, ..Default::default() },
        );
        second.await.unwrap().into_split()
    };
    let send = async {
        use tokio::io::AsyncWriteExt as _;
        writer.write_all(much.as_bytes()).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let (out, ()) = tokio::join!(read(&mut attach), send);
    assert_eq!(out.0.len(), much.len());
    assert!(out.0 == much);
    assert_eq!(rig.log_lines().len(), 100_000);
    rig.gone().await;
}

#[tokio::test]
async fn an_open_container_keeps_its_input_over_clients() {
    let mut rig = Rig::sh("read a; read b; echo $a-$b");
    rig.stdin = Stdin::Open;
    let (shim, mut first) = rig.start().await.unwrap();
    first.write(b"one\n").await.unwrap();
    first.close_stdin().await.unwrap();
    let mut second = shim.attach(&Target::Init, ALL).await.unwrap();
    drop(first);
    second.write(b"two\n").await.unwrap();
    assert_eq!(read(&mut second).await.0, "one-two\n");
    rig.gone().await;
}

#[tokio::test]
async fn a_terminal_has_its_size_echoes_and_is_the_console() {
    let mut rig =
        Rig::sh("tty; stat -c %t:%T /dev/console; stty size; read line; stty size; echo [$line]");
    rig.spec.process.terminal = true;
    rig.spec.process.console_size = Some(ConsoleSize { height: 33, width: 99 });
    let (shim, mut attach) = rig.start().await.unwrap();
    assert!(attach.is_terminal());
    let seen = read_until(&mut attach, "33 99\r\n").await;
    assert_eq!(seen, "/dev/pts/0\r\n88:0\r\n33 99\r\n");
    shim.resize(&Target::Init, ConsoleSize { height: 20, width: 70 }).await.unwrap();
    attach.write(b"hello\n").await.unwrap();
    assert_eq!(read(&mut attach).await.0, "hello\r\n20 70\r\n[hello]\r\n");
    assert_eq!(shim.wait(&Target::Init).await.unwrap().code, 0);
    assert_eq!(rig.log_lines().len(), 6);
    rig.gone().await;
}

#[tokio::test]
async fn state_tells_how_far_it_is() {
    let rig = Rig::sh("read x");
    let (shim, pid) = rig.spawn().await.unwrap();
    let state = shim.state().await.unwrap();
    assert_eq!((state.pid, state.phase, state.started), (pid, Phase::Created, None));
    drop(shim);
    rig.gone().await;

    let rig = Rig::args(&["sleep", "1000"]);
    let (shim, _attach) = rig.start().await.unwrap();
    let (again, state) = Shim::connect(&rig.dir()).await.unwrap();
    assert_eq!(state.phase, Phase::Running);
    assert!(state.started.is_some());
    again.signal(&Target::Init, 9).await.unwrap();
    assert_eq!(again.wait(&Target::Init).await.unwrap(), shim.wait(&Target::Init).await.unwrap());
    rig.gone().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_container_up_until_it_goes() {
    let rig = Rig::sh("head -c 8000000 /dev/zero | tr '\\0' x; touch /tmp/done");
    let (shim, attach) = rig.start().await.unwrap();
    let done = rig.upper().join("tmp/done");
    eventually(|| rig.path("json.log").metadata().is_ok_and(|m| m.len() > 900_000)).await;
    assert!(!done.exists());
    drop(attach);
    assert_eq!(shim.wait(&Target::Init).await.unwrap().code, 0);
    assert!(done.exists());
    rig.gone().await;
}

#[tokio::test]
async fn a_tiny_init_reaps_and_hands_signals_on() {
    let mut rig = Rig::sh(
        "trap 'exit 4' USR1; (sleep 0.01 &); readlink /proc/1/exe >/dev/null; cat /proc/1/cmdline | tr '\\0' ' '; echo; while :; do sleep 0.01; done",
    );
    rig.spec.init = true;
    host_libraries(&mut rig);
    let (shim, mut attach) = rig.start().await.unwrap();
    let seen = read_until(&mut attach, "\n").await;
    assert!(seen.starts_with("/sbin/docker-init -- /bin/sh -c "), "{seen}");
    shim.signal(&Target::Init, 10).await.unwrap();
    assert_eq!(shim.wait(&Target::Init).await.unwrap().code, 4);
    rig.gone().await;
}

/// The shim of a test build is linked dynamically.
fn host_libraries(rig: &mut Rig) {
    for dir in ["/lib", "/lib64", "/usr/lib"] {
        if std::path::Path::new(dir).exists() {
            rig.spec.mounts.push(runtime::spec::Mount::bind(dir, dir, &["ro"]));
        }
    }
}
