//! The engine dies at each step of a change of networks: the next one makes kernel and record agree.
//!
//! Needs root and the static shim that `scripts/build` makes (`GANTRY_SHIM`, or the build folder's libexec).

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod rig;

use api::model::{ContainerConfig, HostConfig, NetworkConnect, NetworkCreate};
use base::Principal;
use gantry_engine::{
    Config, Engine,
    containers::{Create, RemoveOptions},
    networks::STEPS,
};
use std::{collections::BTreeSet, fs, path::Path, sync::Arc, time::Duration};
use testkit::Census;

const BRIDGE: &str = "gtdeath0";
const OWN: &str = "gtdeath1";

async fn open(dir: &Path) -> Arc<Engine> {
    let config = Config {
        cgroup_parent: "/gantry-death-test".into(),
        bridge: BRIDGE.into(),
        bip: Some("10.211.97.1/24".into()),
        default_address_pools: vec![("10.211.96.0/24".into(), 28)],
        iptables: true,
        ip_masquerade: true,
        ..Config::bare(dir, rig::shim())
    };
    Engine::open(config).await.unwrap()
}

/// Links, rules and sockets of this engine on the machine.
fn census(dir: &Path) -> BTreeSet<String> {
    let exec = dir.join("exec/networks");
    let all = Census::take(&[&exec]);
    let own = |line: &&str| [BRIDGE, OWN].iter().any(|mark| line.contains(mark));
    all.lines().filter(own).map(str::to_owned).collect()
}

/// Links inside the container, but the loopback.
fn inside(pid: i64) -> BTreeSet<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap();
    let names = text.lines().filter_map(|line| line.split_once(':'));
    names.map(|(name, _)| name.trim().to_owned()).filter(|name| name != "lo").collect()
}

async fn change(engine: &Arc<Engine>, step: &str) -> bool {
    let (engine, step) = (Arc::clone(engine), step.to_owned());
    let task = tokio::spawn(async move {
        let by = Principal::default();
        let container = NetworkConnect { container: "death".into(), ..NetworkConnect::default() };
        match step.split('-').next().unwrap() {
            "create" => {
                let name = [("com.docker.network.bridge.name".to_owned(), OWN.to_owned())];
                let request = NetworkCreate {
                    name: "net".into(),
                    options: Some(name.into_iter().collect()),
                    ..NetworkCreate::default()
                };
                engine.network_create(&request, &by).await.map(drop)
            }
            "connect" => engine.network_connect("net", &container, &by).await,
            "disconnect" => engine.network_disconnect("net", &container, &by).await,
            _ => engine.network_remove("net", &by).await,
        }
    });
    matches!(task.await, Ok(Ok(())))
}

async fn reopen(engine: Arc<Engine>, dir: &Path) -> Arc<Engine> {
    engine.shutdown(Duration::from_secs(5)).await;
    drop(engine);
    open(dir).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_died_at_any_step_is_followed_by_one_that_agrees_with_the_kernel() {
    let dir = tempfile::Builder::new().prefix("gtk-death-").tempdir().unwrap();
    let mut engine = open(dir.path()).await;
    let by = Principal::default();
    rig::load_busybox(&engine).await;
    let create = Create {
        name: Some("death".into()),
        config: ContainerConfig {
            image: "busybox".into(),
            cmd: Some(vec!["sleep".into(), "600".into()]),
            ..ContainerConfig::default()
        },
        host: HostConfig::default(),
        ..Create::default()
    };
    engine.container_create(create, &by).await.unwrap();
    engine.container_start("death", &by).await.unwrap();
    let pid = engine.container_inspect("death", false).await.unwrap().state.pid;
    let before = census(dir.path());
    assert!(before.iter().any(|line| line.contains(BRIDGE)), "{before:?}");
    for step in STEPS {
        let verb = step.split('-').next().unwrap();
        if verb != "create" {
            assert!(change(&engine, "create").await, "{step}");
        }
        if verb == "disconnect" {
            assert!(change(&engine, "connect").await, "{step}");
        }
        engine.faults.die_at(Some(step));
        assert!(!change(&engine, step).await, "{step} breaks off");
        engine = reopen(engine, dir.path()).await;
        let record = engine.container_inspect("death", false).await.unwrap();
        assert_eq!(record.state.pid, pid, "after {step}: the container lives");
        let networks: BTreeSet<String> = record
            .network_settings
            .networks
            .iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .collect();
        let there = engine.network_inspect("net", false).await;
        let on = there.as_ref().is_ok_and(|n| n.containers.as_ref().is_some_and(|c| !c.is_empty()));
        assert_eq!(networks.contains("net"), on, "after {step}: {networks:?}");
        // A link of nobody may take a moment to go.
        let mut links = BTreeSet::new();
        for _ in 0..200 {
            links = inside(pid);
            if links.len() == networks.len() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(links.len(), networks.len(), "after {step}: {links:?} for {networks:?}");
        let routes = fs::read_to_string(format!("/proc/{pid}/net/route")).unwrap();
        let default = routes.lines().filter(|l| l.split('\t').nth(1) == Some("00000000")).count();
        assert_eq!(default, 1, "after {step}: one default route");
        // All goes on from here.
        if on {
            assert!(change(&engine, "disconnect").await, "after {step}");
        }
        if there.is_ok() {
            assert!(change(&engine, "remove").await, "after {step}");
        }
        let mut left = Vec::new();
        for _ in 0..200 {
            let now = census(dir.path());
            left = now.symmetric_difference(&before).cloned().collect();
            if left.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(left.is_empty(), "after {step}: {left:#?}");
    }
    let all = RemoveOptions { force: true, volumes: true };
    engine.container_remove("death", all, &by).await.unwrap();
    engine.shutdown(Duration::from_secs(5)).await;
    drop(engine);
    let left = census(dir.path());
    assert!(left.is_empty(), "{left:#?}");
}
