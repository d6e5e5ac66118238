//! A container whose files cannot be removed: it is dead, and its removal is tried again.
//!
//! Needs root and the static shim that `scripts/build` makes (`GANTRY_SHIM`, or the build folder's libexec).

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod rig;

use api::model::ContainerConfig;
use base::{Kind, Principal, filters::Filters};
use gantry_engine::{
    Config, Engine,
    containers::{Create, ListOptions, RemoveOptions},
};
use std::{path::Path, process::Command, sync::Arc, time::Duration};

async fn open(dir: &Path) -> Arc<Engine> {
    let config = Config {
        cgroup_parent: "/gantry-dead-test".into(),
        retry_dead_every: Duration::from_millis(50),
        ..Config::bare(dir, rig::shim())
    };
    Engine::open(config).await.unwrap()
}

async fn create(engine: &Arc<Engine>, name: &str) -> String {
    let config = ContainerConfig { image: "busybox".into(), ..ContainerConfig::default() };
    let create = Create { name: Some(name.into()), config, ..Create::default() };
    engine.container_create(create, &Principal::default()).await.unwrap().id.to_string()
}

fn mount(args: &[&str], folder: &Path) {
    let status = Command::new(args[0]).args(&args[1..]).arg(folder).status().unwrap();
    assert!(status.success(), "{args:?} {}", folder.display());
}

async fn gone(engine: &Arc<Engine>, name: &str) {
    for _ in 0..500 {
        if engine.container_inspect(name, false).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{name} is still there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_removed_is_dead_and_tried_again() {
    let dir = tempfile::Builder::new().prefix("gtk-dead-").tempdir().unwrap();
    let engine = open(dir.path()).await;
    rig::load_busybox(&engine).await;
    let by = Principal::default();
    // A mount on its folder, as another program's may be, keeps the folder where it is.
    let mut places = Vec::new();
    for name in ["first", "second"] {
        let id = create(&engine, name).await;
        let place = dir.path().join("root/containers").join(id);
        mount(&["mount", "--bind", place.to_str().unwrap()], &place);
        places.push(place);
        let err = engine.container_remove(name, RemoveOptions::default(), &by).await.unwrap_err();
        assert!(err.chain().contains("cannot remove its files"), "{}", err.chain());
        let state = engine.container_inspect(name, false).await.unwrap().state;
        assert_eq!((state.status.as_str(), state.dead), ("dead", true), "{state:?}");
        assert!(state.error.contains("cannot remove its files"), "{state:?}");
        let err = engine.container_start(name, &by).await.unwrap_err();
        assert_eq!(err.kind(), Kind::Conflict, "{}", err.chain());
    }
    let filters = Filters::parse(r#"{"status":["dead"]}"#).unwrap();
    let options = ListOptions { all: true, filters, ..ListOptions::default() };
    assert_eq!(engine.containers_list(&options).await.unwrap().len(), 2);
    mount(&["umount"], &places[0]);
    gone(&engine, "first").await;
    assert!(!places[0].exists());
    create(&engine, "first").await;

    // The next daemon tries too.
    engine.shutdown(Duration::from_secs(5)).await;
    drop(engine);
    mount(&["umount"], &places[1]);
    let engine = open(dir.path()).await;
    gone(&engine, "second").await;
    assert!(!places[1].exists());
    engine.container_remove("first", RemoveOptions::default(), &by).await.unwrap();
    engine.shutdown(Duration::from_secs(5)).await;
}
