//! Killed at any moment, a full disk, rotten bytes, collection beside pushes: nothing that was promised is lost,
//! nothing half-made is seen.

use crate::{
    http::Client,
    image::{OCI_MANIFEST, and, manifest, noise},
    server::{Server, try_admin},
};
use base::Digest;
use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

fn blobs_on_disk(server: &Server) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![server.root().join("blobs")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.path().is_dir() { dirs.push(entry.path()) } else { found.push(entry.path()) }
        }
    }
    found
}

/// Pushes an image and does not mind when the server goes away; whether it was acknowledged.
fn try_push(client: &Client, name: &str, word: &str) -> bool {
    let config = noise(&format!("{word} config"), 200);
    let layer = noise(word, 40_000 + word.len() * 1000);
    let blob = |bytes: &[u8]| {
        let begun =
            client.ask("POST", &format!("/v2/{name}/blobs/uploads/")).body(b"").try_send()?;
        let url = and(begun.header("location"), &format!("digest={}", Digest::sha256(bytes)));
        client.ask("PUT", &url).body(bytes).try_send().filter(|put| put.status == 201)
    };
    let put = || {
        blob(&config)?;
        blob(&layer)?;
        client
            .ask("PUT", &format!("/v2/{name}/manifests/{word}"))
            .header("Content-Type", OCI_MANIFEST)
            .body(manifest(&config, &[&layer]).to_string().as_bytes())
            .try_send()
    };
    put().is_some_and(|put| put.status == 201)
}

#[test]
fn a_server_that_is_killed_at_any_moment_keeps_what_it_promised() {
    let mut server = Server::start();
    let promised: Mutex<Vec<(String, String)>> = Mutex::default();
    for round in 0..8_u64 {
        let stop = AtomicBool::new(false);
        let (client, pushed) = (server.client(), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for pusher in 0..3 {
                let (client, stop, promised, pushed) = (&client, &stop, &promised, &pushed);
                scope.spawn(move || {
                    for n in 0.. {
                        let (name, word) = (format!("push/{pusher}"), format!("r{round}n{n}"));
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        if try_push(client, &name, &word) {
                            promised.lock().unwrap().push((name, word));
                            pushed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            // The moment of the kill is where the pushers happen to be.
            while pushed.load(Ordering::Relaxed) < 3 + usize::try_from(round).unwrap_or(0) {
                std::thread::yield_now();
            }
            std::thread::sleep(Duration::from_micros(1300 * round));
            server.kill();
            stop.store(true, Ordering::Relaxed);
        });
        server.start_again();
        let client = server.client();
        for (name, tag) in promised.lock().unwrap().iter() {
            assert!(client.has_image(name, tag), "{name}:{tag} was promised");
        }
    }
    // Every tag that can be seen is whole, acknowledged or not.
    let client = server.client();
    for pusher in 0..3 {
        for tag in client.get(&format!("/v2/push/{pusher}/tags/list")).is(200).tags() {
            assert!(
                client.has_image(&format!("push/{pusher}"), &tag),
                "{pusher}:{tag} is half-made"
            );
        }
    }
    let report = server.admin(&["scrub"], "");
    assert!(report.contains("\"damaged\": []"), "{report}");
}

#[test]
fn an_upload_goes_on_after_the_server_was_killed() {
    let mut server = Server::start();
    let bytes = noise("resumed", 3_000_000);
    let location =
        server.client().post("/v2/a/blobs/uploads/").is(202).header("location").to_owned();
    let first = server.client().ask("PATCH", &location).body(&bytes[..1_000_000]).send().is(202);
    assert_eq!(first.header("range"), "0-999999");
    server.kill();
    server.start_again();
    let client = server.client();
    assert_eq!(client.get(&location).is(204).header("range"), "0-999999");
    client
        .ask("PATCH", &location)
        .header("Content-Range", "1000000-2999999")
        .body(&bytes[1_000_000..])
        .send()
        .is(202);
    let digest = Digest::sha256(&bytes);
    client.ask("PUT", &and(&location, &format!("digest={digest}"))).body(b"").send().is(201);
    assert!(client.get(&format!("/v2/a/blobs/{digest}")).is(200).body == bytes);
}

#[test]
fn a_client_that_breaks_off_finds_what_it_had_sent() {
    use std::io::Write as _;
    let server = Server::start();
    let client = server.client();
    let bytes = noise("broken off", 2_000_000);
    let location = client.post("/v2/a/blobs/uploads/").is(202).header("location").to_owned();
    let mut stream = std::net::TcpStream::connect(&server.address).unwrap();
    let head =
        format!("PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", bytes.len());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&bytes[..1_500_000]).unwrap();
    drop(stream);
    // What was on its way arrives; then the session is free again.
    let mut offset = 0;
    for _ in 0..600 {
        let range = client.get(&location).is(204).header("range").to_owned();
        offset = range.trim_start_matches("0-").parse::<usize>().unwrap() + 1;
        if offset == 1_500_000 {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(offset, 1_500_000);
    client
        .ask("PATCH", &location)
        .header("Content-Range", &format!("{offset}-{}", bytes.len() - 1))
        .body(&bytes[offset..])
        .send()
        .is(202);
    let digest = Digest::sha256(&bytes);
    client.ask("PUT", &and(&location, &format!("digest={digest}"))).body(b"").send().is(201);
}

/// A small disk, unmounted at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, size: &str) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let done =
            Command::new("mount").args(["-t", "tmpfs", "-o", size, "tmpfs"]).arg(at).status();
        assert!(done.unwrap().success(), "mounting needs root");
        Self(at.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_refuses_pushes_and_serves_on() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(&dir.path().join("root"), "size=24m");
    let server = Server::below(dir, "[limits]\nreserve = \"2MB\"\n", &[]);
    let client = server.client();
    let mut kept = Vec::new();
    let mut refused = None;
    for n in 0..40 {
        let bytes = noise(&format!("full {n}"), 1_000_000);
        let digest = Digest::sha256(&bytes);
        let begun = client.post("/v2/a/blobs/uploads/");
        let put = if begun.status == 202 {
            let url = and(begun.header("location"), &format!("digest={digest}"));
            client.ask("PUT", &url).body(&bytes).send()
        } else {
            begun
        };
        if put.status == 201 {
            kept.push((digest, bytes));
            continue;
        }
        refused = Some(put);
        break;
    }
    let refused = refused.expect("24 MB are full").fails(503, "UNAVAILABLE");
    assert!(refused.text().contains("no space left"), "{}", refused.text());
    assert_eq!(refused.header("retry-after"), "10");
    assert!(kept.len() > 5, "{} blobs fitted", kept.len());
    for (digest, bytes) in &kept {
        assert!(client.get(&format!("/v2/a/blobs/{digest}")).is(200).body == *bytes);
    }
    client.get("/readyz").is(503);
    // Deleting makes room again.
    for (digest, _) in kept.drain(..5) {
        client.delete(&format!("/v2/a/blobs/{digest}")).is(202);
    }
    server.admin(&["gc"], "");
    client.push_image("a", "x", "there is room", 500_000);
    assert!(client.has_image("a", "x"));
    drop(server);
    drop(disk);
}

#[test]
fn a_disk_without_inodes_leaves_nothing_half_made() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(&dir.path().join("root"), "size=64m,nr_inodes=60");
    let server = Server::below(dir, "[limits]\nreserve = \"1MB\"\n", &[]);
    let client = server.client();
    let mut digests = Vec::new();
    let failed = loop {
        let bytes = noise(&format!("inodes {}", digests.len()), 40_000);
        let digest = Digest::sha256(&bytes);
        let begun = client.post("/v2/a/blobs/uploads/");
        if begun.status != 202 {
            break begun;
        }
        let put = client
            .ask("PUT", &and(begun.header("location"), &format!("digest={digest}")))
            .body(&bytes)
            .send();
        if put.status != 201 {
            client.get(&format!("/v2/a/blobs/{digest}")).is(404);
            break put;
        }
        digests.push(digest);
        assert!(digests.len() < 100, "60 inodes are never used up");
    };
    failed.fails(503, "UNAVAILABLE");
    for digest in &digests {
        client.get(&format!("/v2/a/blobs/{digest}")).is(200);
    }
    drop(server);
    drop(disk);
}

#[test]
fn collection_beside_pushes_loses_nothing() {
    let server = Server::with("[gc]\ngrace = \"2s\"\nevery = \"50ms\"\n", &[]);
    let client = server.client();
    let promised: Mutex<Vec<(String, String)>> = Mutex::default();
    std::thread::scope(|scope| {
        for pusher in 0..3 {
            let (client, promised) = (&client, &promised);
            scope.spawn(move || {
                for n in 0..25 {
                    // Layers are shared between pushers, so that one deletes what another wants.
                    let (name, tag) = (format!("gc/{pusher}"), format!("t{}", n % 5));
                    let digest =
                        client.push_image(&name, &tag, &format!("shared {}", n % 4), 40_000);
                    if n % 3 == 0 {
                        client.delete(&format!("/v2/{name}/manifests/{digest}")).is(202);
                    }
                }
                for tag in client.get(&format!("/v2/gc/{pusher}/tags/list")).tags() {
                    promised.lock().unwrap().push((format!("gc/{pusher}"), tag));
                }
            });
        }
        let server = &server;
        scope.spawn(move || {
            for _ in 0..10 {
                server.admin(&["gc"], "");
            }
        });
    });
    for (name, tag) in promised.lock().unwrap().iter() {
        assert!(client.has_image(name, tag), "{name}:{tag}");
    }
}

#[test]
fn what_nobody_needs_is_collected_and_what_is_needed_stays() {
    let server = Server::with("[gc]\ngrace = \"1s\"\nevery = \"1h\"\n", &[]);
    let client = server.client();
    client.push_image("a", "kept", "kept image", 50_000);
    let gone = client.push_image("a", "gone", "gone image", 60_000);
    client.push_blob("a", &noise("orphan", 70_000));
    assert_eq!(blobs_on_disk(&server).len(), 3);
    client.delete(&format!("/v2/a/manifests/{gone}")).is(202);
    // Collected once the grace time is over, not before its end.
    let mut told = String::new();
    for _ in 0..100 {
        let preview = server.admin(&["gc", "--dry-run"], "");
        told = server.admin(&["gc"], "");
        if blobs_on_disk(&server).len() == 1 {
            assert!(preview.contains("a@sha256:"), "{preview}");
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(told.contains("blobs with"), "{told}");
    assert_eq!(blobs_on_disk(&server).len(), 1);
    assert!(client.has_image("a", "kept"));
    client.get(&format!("/v2/a/blobs/{}", Digest::sha256(&noise("gone image", 60_000)))).is(404);
}

#[test]
fn rot_is_found_not_served_and_healed_by_the_next_push() {
    let server = Server::start();
    let client = server.client();
    client.push_image("a", "x", "rotten", 50_000);
    let layer = noise("rotten", 50_000);
    let digest = Digest::sha256(&layer);
    let file = blobs_on_disk(&server).pop().unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let output = try_admin(&server.root(), &["scrub"], "");
    assert!(!output.status.success());
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["damaged"][0]["digest"], digest.as_str());
    assert_eq!(report["damaged"][0]["repositories"][0], "a");
    client.get(&format!("/v2/a/blobs/{digest}")).is(404);
    client.head(&format!("/v2/a/blobs/{digest}")).is(404);
    client.push_blob("a", &layer);
    assert!(client.has_image("a", "x"));
    server.admin(&["scrub"], "");

    std::fs::remove_file(blobs_on_disk(&server).into_iter().find(|f| *f != file).unwrap()).unwrap();
    let output = try_admin(&server.root(), &["scrub"], "");
    assert!(String::from_utf8_lossy(&output.stdout).contains("its bytes are gone"));
}

#[test]
fn a_copy_of_the_database_serves_what_was_there() {
    let mut server = Server::start();
    server.client().push_image("a", "x", "backup", 50_000);
    let copy = server.dir.path().join("copy.db");
    server.admin(&["backup", copy.to_str().unwrap()], "");
    assert!(!try_admin(&server.root(), &["backup", copy.to_str().unwrap()], "").status.success());
    server.client().push_image("a", "later", "after the backup", 100);
    assert_eq!(server.stop(), Some(0));
    for name in ["registry.db", "registry.db-wal", "registry.db-shm"] {
        let _ = std::fs::remove_file(server.root().join(name));
    }
    std::fs::copy(&copy, server.root().join("registry.db")).unwrap();
    server.start_again();
    assert!(server.client().has_image("a", "x"));
    server.client().get("/v2/a/manifests/later").is(404);
}

#[test]
fn one_server_at_a_time_works_on_a_root() {
    let server = Server::start();
    let second = try_admin(&server.root(), &["serve", "--listen", "127.0.0.1:0"], "");
    assert!(!second.status.success());
    let told = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(told.contains("another registry server works in"), "{told}");
}

#[test]
fn a_stop_lets_what_is_under_way_end() {
    use std::io::{Read as _, Write as _};
    let mut server = Server::start();
    let client = server.client();
    let bytes = noise("stopping", 2_000_000);
    let digest = Digest::sha256(&bytes);
    let location = client.post("/v2/a/blobs/uploads/").is(202).header("location").to_owned();
    let mut stream = std::net::TcpStream::connect(&server.address).unwrap();
    let url = and(&location, &format!("digest={digest}"));
    let head = format!("PUT {url} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", bytes.len());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&bytes[..1_500_000]).unwrap();
    // The request is under way when the upload has moved.
    while client.get(&location).is(204).header("range") == "0-0" {
        std::thread::yield_now();
    }
    let stopped = std::thread::scope(|scope| {
        let stop = scope.spawn(|| server.stop());
        std::thread::sleep(Duration::from_millis(100));
        stream.write_all(&bytes[1_500_000..]).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 201");
        stop.join().unwrap()
    });
    assert_eq!(stopped, Some(0));
    server.start_again();
    assert!(server.client().get(&format!("/v2/a/blobs/{digest}")).is(200).body == bytes);
}
