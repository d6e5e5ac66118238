//! Blobs in object stores, each a server that speaks the store's protocol over HTTP, behind a gate that can be shut.
//!
//! Every case runs for every store; `store` starts them. A store whose server is not installed is passed over, and says so.

use crate::{
    image::{and, noise},
    server::Server,
    store::{BUSY, CUT, DEAF, OPEN, SHUT, SLOW, Store},
};
use base::{Digest, Timestamp};
use futures_util::TryStreamExt as _;
use registry::{meta::Database, storage::Settings};
use std::{sync::atomic::Ordering, time::Duration};

/// Runs all cases on each of these stores.
macro_rules! on {
    ($($store:ident),*) => {
        $(
            mod $store {
                on!(@ $store:
                    blobs_of_all_sizes_go_into_the_bucket_and_come_back,
                    a_wrong_digest_leaves_no_object_and_no_part,
                    an_upload_goes_on_after_a_kill_with_the_parts_that_were_sent,
                    a_completion_that_nobody_wrote_down_is_taken_up,
                    a_store_that_is_away_is_said_and_the_upload_can_be_finished_later,
                    parts_that_cannot_be_sent_are_sent_later,
                    errors_of_the_store_are_waited_out_or_told,
                    answers_of_the_store_that_are_slow_or_break_off_come_whole,
                    a_bucket_that_is_not_there_is_no_answer_for_clients,
                    credentials_that_the_store_refuses_are_no_answer_for_clients,
                    a_mounted_blob_is_one_object_until_nobody_has_it,
                    deletions_wait_for_the_store,
                    objects_that_nobody_knows_are_found_and_removed
                );
            }
        )*
    };
    (@ $store:ident: $($case:ident),*) => {
        $(
            #[test]
            fn $case() {
                if let Some(store) = crate::store::Store::$store() {
                    super::$case(&store);
                }
            }
        )*
    };
}

on!(s3, google, azure);

fn blobs_of_all_sizes_go_into_the_bucket_and_come_back(store: &Store) {
    let server = Server::with(&store.config(), &[]);
    let client = server.client();
    // In the database; one object; several parts of 16 MiB.
    for (length, objects) in [(10_000, 0), (100_000, 1), (40 << 20, 2)] {
        let bytes = noise("into the bucket", length);
        let digest = Digest::sha256(&bytes);
        let location = client.post("/v2/a/blobs/uploads/").is(202).header("location").to_owned();
        client.ask("PATCH", &location).body(&bytes).streamed().send().is(202);
        client.ask("PUT", &and(&location, &format!("digest={digest}"))).body(b"").send().is(201);
        assert!(client.get(&format!("/v2/a/blobs/{digest}")).is(200).body == bytes);
        let part = client
            .ask("GET", &format!("/v2/a/blobs/{digest}"))
            .header("Range", "bytes=5000-5999")
            .send()
            .is(206);
        assert!(part.body == bytes[5000..6000]);
        assert_eq!(store.objects(), objects);
    }
    assert_eq!(store.parts(), 0);
    client.push_image("a", "x", "an image in the bucket", 100_000);
    let report = server.admin_with_config(&["scrub"]);
    assert!(report.contains("\"damaged\": []"), "{report}");
}

fn a_wrong_digest_leaves_no_object_and_no_part(store: &Store) {
    let server = Server::with(&store.config(), &[]);
    let client = server.client();
    for length in [100_000, 20 << 20] {
        let location = client.post("/v2/a/blobs/uploads/").is(202).header("location").to_owned();
        client.ask("PATCH", &location).body(&noise("wrong", length)).send().is(202);
        let url = and(&location, &format!("digest={}", Digest::sha256(b"other")));
        client.ask("PUT", &url).body(b"").send().fails(400, "DIGEST_INVALID");
    }
    server.admin_with_config(&["gc"]);
    assert_eq!(store.objects(), 0);
    assert!(!store.drops_parts() || store.parts() == 0);
}

fn an_upload_goes_on_after_a_kill_with_the_parts_that_were_sent(store: &Store) {
    let mut server = Server::with(&store.config(), &[]);
    let bytes = noise("resumed in parts", 40 << 20);
    let digest = Digest::sha256(&bytes);
    let half = 35 << 20;
    let location =
        server.client().post("/v2/a/blobs/uploads/").is(202).header("location").to_owned();
    server.client().ask("PATCH", &location).body(&bytes[..half]).send().is(202);
    server.kill();
    server.start_again();
    let client = server.client();
    assert_eq!(client.get(&location).is(204).header("range"), format!("0-{}", half - 1));
    client
        .ask("PATCH", &location)
        .header("Content-Range", &format!("{half}-{}", bytes.len() - 1))
        .body(&bytes[half..])
        .send()
        .is(202);
    client.ask("PUT", &and(&location, &format!("digest={digest}"))).body(b"").send().is(201);
    assert!(client.get(&format!("/v2/a/blobs/{digest}")).is(200).body == bytes);
    assert_eq!((store.objects(), store.parts()), (1, 0));
}

fn a_store_that_is_away_is_said_and_the_upload_can_be_finished_later(store: &Store) {
    let server = Server::with(&store.config(), &[]);
    let client = server.client();
    let bytes = noise("away", 100_000);
    let digest = Digest::sha256(&bytes);
    client.push_blob("a", &noise("before", 100_000));
    let location = client.post("/v2/a/blobs/uploads/").is(202).header("location").to_owned();
    client.ask("PATCH", &location).body(&bytes).send().is(202);
    store.gate.set(SHUT);
    let url = and(&location, &format!("digest={digest}"));
    let refused = client.ask("PUT", &url).body(b"").send().fails(503, "UNAVAILABLE");
    assert!(!refused.text().contains("secret"));
    client.get(&format!("/v2/a/blobs/{digest}")).is(404);
    client.get(&format!("/v2/a/blobs/{}", Digest::sha256(&noise("before", 100_000)))).is(503);
    client.get("/readyz").is(503);
    // What needs no large blob goes on.
    client.push_image("a", "small", "small while away", 1000);
    assert!(client.has_image("a", "small"));
    store.gate.set(OPEN);
    client.ask("PUT", &url).body(b"").send().is(201);
    assert!(client.get(&format!("/v2/a/blobs/{digest}")).is(200).body == bytes);
    assert_eq!(store.objects(), 2);
}

fn errors_of_the_store_are_waited_out_or_told(store: &Store) {
    let server = Server::with(&store.config(), &[]);
    let client = server.client();
    let bytes = noise("busy", 300_000);
    let digest = client.push_blob("a", &bytes);
    let path = format!("/v2/a/blobs/{digest}");
    // It gives up after some tries: what was not stored is not there, what was stored is not lost.
    store.gate.set(BUSY);
    let other = noise("busy, other", 100_000);
    let location = client.post("/v2/a/blobs/uploads/").is(202).header("location").to_owned();
    let put = and(&location, &format!("digest={}", Digest::sha256(&other)));
    let refused = client.ask("PUT", &put).body(&other).send().fails(503, "UNAVAILABLE");
    assert_eq!(refused.header("retry-after"), "10");
    client.get(&format!("/v2/a/blobs/{}", Digest::sha256(&other))).is(404);
    client.get(&path).is(503);
    // For a while only: the client does not hear of it.
    let opens = {
        let state = store.gate.state();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            state.store(OPEN, Ordering::SeqCst);
        })
    };
    assert!(client.get(&path).is(200).body == bytes);
    opens.join().unwrap();
    client.push_blob("a", &other);
    assert_eq!((store.objects(), store.parts()), (2, 0));
}

fn answers_of_the_store_that_are_slow_or_break_off_come_whole(store: &Store) {
    let server = Server::with(&store.config(), &[]);
    let client = server.client();
    store.gate.set(SLOW);
    let bytes = noise("slow", 500_000);
    let digest = client.push_blob("a", &bytes);
    let path = format!("/v2/a/blobs/{digest}");
    assert!(client.get(&path).is(200).body == bytes);
    store.gate.set(CUT);
    assert!(client.get(&path).is(200).body == bytes);
    assert!(store.gate.is(OPEN), "nothing was cut");
}

fn credentials_that_the_store_refuses_are_no_answer_for_clients(store: &Store) {
    let server = Server::with(&store.config_with_wrong_key(), &[]);
    let client = server.client();
    let bytes = noise("credentials", 100_000);
    let location = client.post("/v2/a/blobs/uploads/").is(202).header("location").to_owned();
    let put = and(&location, &format!("digest={}", Digest::sha256(&bytes)));
    let refused = client.ask("PUT", &put).body(&bytes).send().fails(503, "UNAVAILABLE");
    assert!(!refused.text().contains("somebody"), "{}", refused.text());
    let told = server.told("cannot store a blob");
    assert!(told.contains("403"), "{told}");
    client.get("/readyz").is(503);
    client.get(&format!("/v2/a/blobs/{}", Digest::sha256(&bytes))).is(404);
    assert_eq!(store.objects(), 0);
}

fn deletions_wait_for_the_store(store: &Store) {
    let config = format!("{}[gc]\ngrace = \"1s\"\nevery = \"1h\"\n", store.config());
    let server = Server::with(&config, &[]);
    let client = server.client();
    let digest = client.push_blob("a", &noise("deleted", 100_000));
    assert_eq!(store.objects(), 1);
    client.delete(&format!("/v2/a/blobs/{digest}")).is(202);
    client.get(&format!("/v2/a/blobs/{digest}")).is(404);
    assert_eq!(store.objects(), 1, "its object is deleted by the next round");
    // Pushed again before that: another object, which the deletion does not touch.
    client.push_blob("a", &noise("deleted", 100_000));
    server.admin_with_config(&["gc"]);
    assert_eq!(store.objects(), 1);
    assert_eq!(client.get(&format!("/v2/a/blobs/{digest}")).is(200).body.len(), 100_000);
}

fn a_completion_that_nobody_wrote_down_is_taken_up(store: &Store) {
    let server = Server::with(&store.config(), &[]);
    let client = server.client();
    let bytes = noise("completed", 20 << 20);
    let digest = Digest::sha256(&bytes);
    let location = client.post("/v2/a/blobs/uploads/").is(202).header("location").to_owned();
    client.ask("PATCH", &location).body(&bytes).send().is(202);
    // The store does what it is asked to; that it did is not heard, and the client comes again.
    store.gate.set(DEAF);
    let url = and(&location, &format!("digest={digest}"));
    client.ask("PUT", &url).body(b"").send().fails(503, "UNAVAILABLE");
    store.gate.set(OPEN);
    client.ask("PUT", &url).body(b"").send().is(201);
    assert!(client.get(&format!("/v2/a/blobs/{digest}")).is(200).body == bytes);
    assert_eq!((store.objects(), store.parts()), (1, 0));
}

fn parts_that_cannot_be_sent_are_sent_later(store: &Store) {
    let server = Server::with(&store.config(), &[]);
    let client = server.client();
    let bytes = noise("later", 40 << 20);
    let digest = Digest::sha256(&bytes);
    let location = client.post("/v2/a/blobs/uploads/").is(202).header("location").to_owned();
    client.ask("PATCH", &location).body(&bytes[..20 << 20]).send().is(202);
    store.gate.set(SHUT);
    client.ask("PATCH", &location).body(&bytes[20 << 20..]).send().fails(503, "UNAVAILABLE");
    store.gate.set(OPEN);
    // What came before the failure counts.
    let range = client.get(&location).is(204).header("range").to_owned();
    let had: usize = range.split_once('-').unwrap().1.parse::<usize>().unwrap() + 1;
    assert!(had >= 20 << 20, "{range}");
    client.ask("PATCH", &location).body(&bytes[had..]).send().is(202);
    client.ask("PUT", &and(&location, &format!("digest={digest}"))).body(b"").send().is(201);
    assert!(client.get(&format!("/v2/a/blobs/{digest}")).is(200).body == bytes);
    assert_eq!((store.objects(), store.parts()), (1, 0));
}

fn a_bucket_that_is_not_there_is_no_answer_for_clients(store: &Store) {
    let mut server = Server::with(&store.config(), &[]);
    let kept = server.client().push_blob("a", &noise("kept", 100_000));
    server.stop();
    server.configure(&store.config_without_bucket());
    server.start_again();
    let client = server.client();
    client.get("/readyz").is(503);
    for length in [100_000, 20 << 20].into_iter().filter(|_| !store.makes_buckets()) {
        let bytes = noise("nowhere", length);
        let location = client.post("/v2/a/blobs/uploads/").is(202).header("location").to_owned();
        let put = and(&location, &format!("digest={}", Digest::sha256(&bytes)));
        let refused = client.ask("PUT", &put).body(&bytes).send().fails(503, "UNAVAILABLE");
        assert!(!refused.text().contains("http"), "{}", refused.text());
        client.get(&format!("/v2/a/blobs/{}", Digest::sha256(&bytes))).is(404);
    }
    // A scrub says that it could not look, and calls nothing damaged.
    let told = server.fails_with_config(&["scrub"]);
    assert!(told.contains("cannot list a part of the blobs"), "{told}");
    server.stop();
    server.configure(&store.config());
    server.start_again();
    server.client().get(&format!("/v2/a/blobs/{kept}")).is(200);
}

fn a_mounted_blob_is_one_object_until_nobody_has_it(store: &Store) {
    let config = format!("{}[gc]\ngrace = \"1s\"\nevery = \"1h\"\n", store.config());
    let server = Server::with(&config, &[]);
    let client = server.client();
    let bytes = noise("mounted", 20 << 20);
    let digest = client.push_blob("a", &bytes);
    client.post(&format!("/v2/b/blobs/uploads/?mount={digest}&from=a")).is(201);
    client.delete(&format!("/v2/a/blobs/{digest}")).is(202);
    client.get(&format!("/v2/a/blobs/{digest}")).is(404);
    assert!(client.get(&format!("/v2/b/blobs/{digest}")).is(200).body == bytes);
    assert_eq!(store.objects(), 1);
    client.delete(&format!("/v2/b/blobs/{digest}")).is(202);
    for _ in 0..100 {
        server.admin_with_config(&["gc"]);
        if store.objects() == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(store.objects(), 0);
    client.get(&format!("/v2/b/blobs/{digest}")).is(404);
}

fn objects_that_nobody_knows_are_found_and_removed(store: &Store) {
    let mut server = Server::with(&store.config(), &[]);
    let known = server.client().push_blob("a", &noise("known", 100_000));
    let settings = settings(&store.config());
    let spool = server.dir.path().join("spool");
    std::fs::write(&spool, noise("stray", 50_000)).unwrap();
    let database = server.root().join("registry.db");
    server.stop();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // The client wants to know how it would speak TLS.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let storage = registry::storage::open(&settings).unwrap();
        let place = storage.place(&Digest::sha256(b"stray"), "00112233445566778899aabbccddeeff");
        storage.keep(&spool, &place).await.unwrap();
        let listed: Vec<_> = storage.list().try_collect().await.unwrap();
        let mut sizes: Vec<u64> = listed.iter().map(|o| o.size).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [50_000, 100_000]);
        let now = Timestamp::now();
        assert!(
            listed.iter().all(|o| now.since(o.modified) < Duration::from_secs(600)),
            "{listed:?}"
        );
        assert!(listed.iter().any(|o| o.place == place), "{listed:?}");
        let database = Database::open(&database).unwrap();
        let no = |_: &str| false;
        let stray = registry::upkeep::remove_strays(&database, &*storage, Duration::ZERO, no).await;
        assert_eq!(stray.unwrap(), 1);
        // Not there any more: no error.
        storage.remove(&place).await.unwrap();
        assert_eq!(storage.size(&place).await.unwrap(), None);
    });
    assert_eq!(store.objects(), 1);
    server.start_again();
    server.client().get(&format!("/v2/a/blobs/{known}")).is(200);
}

/// The storage that a configuration names.
fn settings(config: &str) -> Settings {
    let value: toml::Table = config.parse().unwrap();
    let storage = &value["storage"];
    let options = storage["options"].as_table().unwrap().iter();
    Settings {
        url: storage["url"].as_str().unwrap().to_owned(),
        options: options.map(|(k, v)| (k.clone(), v.as_str().unwrap().to_owned())).collect(),
    }
}

#[test]
fn settings_that_cannot_be_meant_are_said_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("registry.toml");
    for (storage, told) in [
        ("url = \"ftp://x\"", "unknown kind of storage"),
        (
            "url = \"s3://bucket\"\n[storage.options]\nno_such_option = \"1\"",
            "unknown storage option",
        ),
        // An option of the HTTP client counts too.
        (
            "url = \"s3://bucket\"\n[storage.options]\naws_region = \"x\"\nproxy_url = \"no url\"",
            "cannot use the storage",
        ),
    ] {
        std::fs::write(&file, format!("[storage]\n{storage}\n")).unwrap();
        let output = std::process::Command::new(crate::server::PROGRAM)
            .args(["serve", "--listen", "127.0.0.1:0", "--root"])
            .arg(dir.path().join("root"))
            .arg("--config")
            .arg(&file)
            .output()
            .unwrap();
        assert!(!output.status.success());
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(told), "{text}");
    }
}
