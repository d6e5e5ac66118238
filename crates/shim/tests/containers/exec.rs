//! Further processes.

use crate::rig::{Rig, read, read_until};
use runtime::shim::{Class, Shim, Target};

#[tokio::test]
async fn an_exec_lives_in_the_container_and_gives_its_own_code() {
    let rig = Rig::args(&["sleep", "1000"]);
    let (shim, _attach) = rig.start().await.unwrap();
    let mut running = rig
        .exec(
            &shim,
            "e1",
            &rig.process("hostname; readlink /proc/self/fd/3; ps | grep -c '[s]leep 1000'; exit 5"),
        )
        .await
        .unwrap();
    let target = Target::Exec("e1".into());
    let (out, err) = read(running.attach.as_mut().unwrap()).await;
    assert_eq!((out.as_str(), err.as_str()), ("testhost\n1\n", ""));
    assert_eq!(shim.wait(&target).await.unwrap().code, 5);
    shim.signal(&Target::Init, 9).await.unwrap();
    rig.gone().await;
}

#[tokio::test]
async fn an_exec_reads_its_input_to_the_end() {
    let rig = Rig::args(&["sleep", "1000"]);
    let (shim, _attach) = rig.start().await.unwrap();
    let running = rig.exec(&shim, "e1", &rig.process("wc -c")).await.unwrap();
    let mut attach = running.attach.unwrap();
    attach.write(&vec![b'x'; 200_000]).await.unwrap();
    attach.close_stdin().await.unwrap();
    assert_eq!(read(&mut attach).await.0, "200000\n");
    shim.signal(&Target::Init, 9).await.unwrap();
    rig.gone().await;
}

#[tokio::test]
async fn an_exec_with_a_terminal_is_another_terminal() {
    let rig = Rig::args(&["sleep", "1000"]);
    let (shim, _attach) = rig.start().await.unwrap();
    let mut process = rig.process("tty; ps -o tty,args | grep -c pts");
    process.terminal = true;
    let running = rig.exec(&shim, "e1", &process).await.unwrap();
    let mut attach = running.attach.unwrap();
    assert!(attach.is_terminal());
    let (out, _) = read(&mut attach).await;
    assert!(out.starts_with("/dev/pts/0\r\n"), "{out:?}");
    shim.signal(&Target::Init, 9).await.unwrap();
    rig.gone().await;
}

#[tokio::test]
async fn an_exec_has_its_own_user_folder_and_environment() {
    let rig = Rig::args(&["sleep", "1000"]);
    let (shim, _attach) = rig.start().await.unwrap();
    let mut process = rig.process("id; pwd; echo $HOME $A; grep Cap /proc/self/status");
    process.user.name = "app".into();
    process.cwd = "/tmp".into();
    process.env.push("A=b".into());
    let running = rig.exec(&shim, "e1", &process).await.unwrap();
    let (out, _) = read(&mut running.attach.unwrap()).await;
    let want = "uid=1000(app) gid=1001(apps) groups=1001(apps),2000(extra)\n/tmp\n/home/app b\n\
        CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
        CapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\n";
    assert_eq!(out, want);
    shim.signal(&Target::Init, 9).await.unwrap();
    rig.gone().await;
}

#[tokio::test]
async fn an_exec_that_cannot_start_says_why() {
    let rig = Rig::args(&["sleep", "1000"]);
    let (shim, _attach) = rig.start().await.unwrap();
    let mut process = rig.process("");
    process.args = vec!["nope".into()];
    let err = rig.exec(&shim, "e1", &process).await.unwrap_err();
    assert_eq!(
        (err.class, err.text.as_str()),
        (Class::NotFound, "exec: \"nope\": executable file not found in $PATH")
    );
    process.user.name = "nobody".into();
    let err = rig.exec(&shim, "e2", &process).await.unwrap_err();
    assert_eq!(err.text, "unable to find user nobody: no matching entries in passwd file");
    process = rig.process("true");
    process.cwd = "/nowhere".into();
    let err = rig.exec(&shim, "e3", &process).await.unwrap_err();
    assert_eq!(
        err.text,
        "chdir to cwd (\"/nowhere\") set in config.json failed: no such file or directory"
    );
    shim.signal(&Target::Init, 9).await.unwrap();
    rig.gone().await;
}

#[tokio::test]
async fn execs_end_with_the_container() {
    let rig = Rig::args(&["sleep", "1000"]);
    let (shim, _attach) = rig.start().await.unwrap();
    let running = rig.exec(&shim, "e1", &rig.process("echo ready; sleep 1000")).await.unwrap();
    let mut attach = running.attach.unwrap();
    read_until(&mut attach, "ready").await;
    let target = Target::Exec("e1".into());
    let (exit, signal) = tokio::join!(shim.wait(&target), shim.signal(&Target::Init, 9));
    signal.unwrap();
    assert_eq!(exit.unwrap().code, 137);
    assert_eq!(attach.next().await.unwrap(), None);
    assert_eq!(shim.wait(&Target::Init).await.unwrap().code, 137);
    assert!(Shim::exit_record(&rig.dir()).is_some());
    rig.gone().await;
}

#[tokio::test]
async fn many_execs_at_once_keep_their_codes() {
    let rig = Rig::args(&["sleep", "1000"]);
    let (shim, _attach) = rig.start().await.unwrap();
    let shim = std::sync::Arc::new(shim);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..20 {
        let (id, process) = (format!("e{n}"), rig.process(&format!("exit {n}")));
        let plan = runtime::plan_exec(&id, &process, rig.spec.seccomp.as_deref(), false).unwrap();
        let shim = shim.clone();
        tasks.spawn(async move {
            shim.exec(plan, None).await.unwrap();
            (n, shim.wait(&Target::Exec(id)).await.unwrap().code)
        });
    }
    let mut codes = tasks.join_all().await;
    codes.sort();
    let codes: Vec<i32> =
        codes.into_iter().map(|(n, code)| if n == code { n } else { -1 }).collect();
    assert_eq!(codes, (0..20).collect::<Vec<_>>());
    shim.signal(&Target::Init, 9).await.unwrap();
    rig.gone().await;
}
