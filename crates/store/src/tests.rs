use super::*;
use base::Kind;
use base::{ContainerId, Digest, Timestamp};
use serde_json::{Value, json};
use sqlite::Statements as _;
use std::sync::Arc;

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("gantry.db")).unwrap();
    (dir, store)
}

fn row(name: &str) -> Container<Value> {
    Container {
        id: ContainerId::random(),
        name: name.into(),
        image: "sha256:x".into(),
        created: Timestamp::now(),
        doc: json!({"a": 1}),
    }
}

#[test]
fn a_container_name_is_held_by_one_container() {
    let (_dir, store) = store();
    let first = row("one");
    store.write(|tx| tx.put_container(&first)).unwrap();
    let err = store.write(|tx| tx.put_container(&row("one"))).unwrap_err();
    assert_eq!(err.kind(), Kind::Conflict);
    store.write(|tx| tx.put_container(&Container { name: "two".into(), ..first.clone() })).unwrap();
    let all = store.read(|tx| tx.containers::<Value>()).unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].name, "two");
}

#[test]
fn a_failed_change_leaves_nothing_and_says_nothing() {
    let (_dir, store) = store();
    let heard = Arc::new(Mutex::new(0));
    let count = heard.clone();
    store.on_event(move |events| *count.lock().unwrap() += events.len());
    let failed: Result<()> = store.write(|tx| {
        tx.put_container(&row("one"))?;
        tx.emit(Event::new("container", "create", "x"));
        Err(Error::invalid("no"))
    });
    assert!(failed.is_err());
    assert!(store.read(|tx| tx.containers::<Value>()).unwrap().is_empty());
    assert_eq!(*heard.lock().unwrap(), 0);
    store
        .write(|tx| {
            let _: () = tx.emit(Event::new("container", "create", "x"));
            Ok(())
        })
        .unwrap();
    assert_eq!(*heard.lock().unwrap(), 1);
}

#[test]
fn tags_move_and_leave_a_history() {
    let (_dir, store) = store();
    let (a, b) = (Digest::sha256(b"a"), Digest::sha256(b"b"));
    let image = |id: &Digest| Image {
        id: id.clone(),
        seen: Timestamp::now(),
        used: Timestamp::now(),
        parent: None,
        layers: vec![Digest::sha256(b"l")],
        doc: json!(null),
    };
    store
        .write(|tx| {
            tx.put_image(&image(&a))?;
            tx.put_image(&image(&b))?;
            tx.put_layer(&Layer {
                id: Digest::sha256(b"l"),
                diff_id: Digest::sha256(b"l"),
                size: 1,
                doc: json!(null),
            })?;
            tx.set_tag("r:1", &a, Timestamp::from_unix(1, 0))?;
            assert_eq!(tx.set_tag("r:1", &b, Timestamp::from_unix(2, 0))?, Some(a.clone()));
            Ok(())
        })
        .unwrap();
    assert_eq!(store.write(|tx| tx.delete_image(&b)).unwrap_err().kind(), Kind::Conflict);
    store
        .write(|tx| {
            assert_eq!(tx.tag_history(&a)?.len(), 1);
            tx.delete_image(&a)?;
            assert!(tx.orphan_layers()?.is_empty());
            tx.remove_tag("r:1", Timestamp::now())?;
            tx.delete_image(&b)?;
            assert_eq!(tx.orphan_layers()?, vec![Digest::sha256(b"l")]);
            Ok(())
        })
        .unwrap();
}

#[test]
fn the_event_log_is_chained_and_trimmed() {
    let (_dir, store) = store();
    for n in 0..10 {
        store
            .write(|tx| {
                let _: () = tx.emit(Event::new("container", format!("act{n}"), "x"));
                Ok(())
            })
            .unwrap();
    }
    let all = |tx: &Tx<'_>| tx.events(0, Timestamp::ZERO, Timestamp::now(), 100);
    assert_eq!(store.read(all).unwrap().len(), 10);
    assert_eq!(store.read(|tx| tx.broken_event()).unwrap(), None);
    store.write(|tx| tx.trim_events(Retention { oldest: Timestamp::ZERO, rows: 4 })).unwrap();
    assert_eq!(store.read(all).unwrap().len(), 4);
    store
        .write(|tx| tx.run("", "UPDATE events SET doc = replace(doc, 'act8', 'act7')", []))
        .unwrap();
    assert_eq!(store.read(|tx| tx.broken_event()).unwrap(), Some(9));
}

#[test]
fn readers_do_not_wait_for_a_writer() {
    let (_dir, store) = store();
    store
        .write(|tx| {
            tx.put_container(&row("one"))?;
            assert!(store.read(|tx| tx.containers::<Value>())?.is_empty());
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_newer_schema_is_refused() {
    let (dir, store) = store();
    drop(store);
    let path = dir.path().join("gantry.db");
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 999).unwrap();
    assert!(Store::open(&path).unwrap_err().to_string().contains("schema version 999"));
}
