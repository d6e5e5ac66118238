//! The start of a container broken after each of its steps: nothing is left behind, and it starts afterwards.
//!
//! Needs root and the static shim that `scripts/build` makes (`GANTRY_SHIM`, or the build folder's libexec).

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod rig;

use api::model::{ContainerConfig, HostConfig, PortBinding};
use base::Principal;
use gantry_engine::{
    Config, Engine,
    containers::{Create, RemoveOptions, step_names},
};
use std::{sync::Arc, time::Duration};
use testkit::Census;

const BRIDGE: &str = "gtsaga0";

async fn open(dir: &std::path::Path) -> Arc<Engine> {
    let config = Config {
        cgroup_parent: "/gantry-saga-test".into(),
        bridge: BRIDGE.into(),
        bip: Some("10.211.98.1/24".into()),
        iptables: true,
        ip_masquerade: true,
        ..Config::bare(dir, rig::shim())
    };
    let engine = Engine::open(config).await.unwrap();
    rig::load_busybox(&engine).await;
    engine
}

/// What this engine has on the machine: its processes, links, rules, cgroups and files.
fn census(dir: &std::path::Path) -> Vec<String> {
    let exec = dir.join("exec/containers");
    let own = [BRIDGE, "gantry-saga-test", dir.to_str().unwrap()];
    let all = Census::take(&[&exec]);
    all.lines()
        .filter(|line| own.iter().any(|mark| line.contains(mark)))
        .map(str::to_owned)
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_fails_at_any_step_leaves_nothing() {
    let dir = tempfile::Builder::new().prefix("gtk-saga-").tempdir().unwrap();
    let engine = open(dir.path()).await;
    let by = Principal::default();
    let binding = PortBinding { host_ip: "127.0.0.1".into(), host_port: "28790".into() };
    let create = Create {
        name: Some("saga".into()),
        config: ContainerConfig {
            image: "busybox".into(),
            cmd: Some(vec!["sleep".into(), "600".into()]),
            ..ContainerConfig::default()
        },
        host: HostConfig {
            port_bindings: Some([("80/tcp".to_owned(), Some(vec![binding]))].into()),
            ..HostConfig::default()
        },
        ..Create::default()
    };
    engine.container_create(create, &by).await.unwrap();
    let before = census(dir.path());
    assert!(before.iter().any(|line| line.contains(BRIDGE)), "{before:?}");
    for step in step_names() {
        engine.faults.break_start(Some(step));
        let err = engine.container_start("saga", &by).await.unwrap_err();
        assert!(err.chain().contains(step), "{err}");
        let state = engine.container_inspect("saga", false).await.unwrap().state;
        assert!(!state.running && state.pid == 0, "{step}: {state:?}");
        // The kernel takes a moment to end processes and drop links.
        let mut left = Vec::new();
        for _ in 0..200 {
            left = census(dir.path());
            // The parent of all groups stays as long as the engine runs.
            left.retain(|line| !before.contains(line) && !line.ends_with("/gantry-saga-test"));
            if left.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(left.is_empty(), "after {step}: {left:#?}");
        engine.faults.break_start(None);
        engine.container_start("saga", &by).await.unwrap_or_else(|e| panic!("after {step}: {e}"));
        let running = census(dir.path());
        assert!(running.iter().any(|l| l.contains("28790")), "{running:?}");
        engine.container_stop("saga", Some(0), None, &by).await.unwrap();
    }
    let all = RemoveOptions { force: true, volumes: true };
    engine.container_remove("saga", all, &by).await.unwrap();
    engine.shutdown(Duration::from_secs(5)).await;
    drop(engine);
    let left = census(dir.path());
    assert!(left.is_empty(), "{left:#?}");
}
