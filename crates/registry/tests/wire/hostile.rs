//! Bad input: paths, numbers, sizes, slow and many clients. The server stays small, quick and inside its root.

use crate::{
    image::{and, manifest, noise},
    server::Server,
};
use base::Digest;
use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

/// What the server may have to itself under attack, in bytes.
const MEMORY: u64 = 100 << 20;

/// Sends these bytes; the status line of the answer, empty when there is none.
fn raw(server: &Server, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // A server that has seen enough may close early.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while !answer.windows(2).any(|w| w == b"\r\n") {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(count) => answer.extend_from_slice(&piece[..count]),
        }
    }
    let line = answer.split(|b| *b == b'\r').next().unwrap_or_default();
    String::from_utf8_lossy(line).into_owned()
}

fn files_below(dir: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        if entry.path().is_dir() {
            found.extend(files_below(&entry.path()));
        }
        found.push(entry.path().display().to_string());
    }
    found.sort();
    found
}

#[test]
fn paths_lead_nowhere_but_to_the_registry() {
    let server = Server::start();
    let canary = server.dir.path().join("canary");
    std::fs::write(&canary, "untouched").unwrap();
    server.client().push_image("a", "x", "paths", 100);
    let before = files_below(server.dir.path());
    let long = "a".repeat(300);
    let digest = Digest::sha256(b"x");
    for path in [
        "/v2/../../canary".to_owned(),
        "/v2/..%2f..%2fcanary/blobs/x".to_owned(),
        "/v2/a/blobs/..%2f..%2f..%2fcanary".to_owned(),
        "/v2/a/blobs/sha256:..%2f..%2fcanary".to_owned(),
        "/v2/a/blobs/%00".to_owned(),
        "/v2//a/blobs/x".to_owned(),
        "/v2/a//blobs/x".to_owned(),
        format!("/v2/{long}/tags/list"),
        format!("/v2/a/manifests/{long}"),
        "/v2/a/manifests/..".to_owned(),
        "/v2/a/manifests/.".to_owned(),
        "/v2/A/tags/list".to_owned(),
        "/v2/a/blobs/uploads/../../canary".to_owned(),
        "/v2/a/blobs/uploads/..%2f..%2fcanary".to_owned(),
        format!("/v2/a/blobs/uploads/{}", "0".repeat(48)),
        format!("/v2/a/blobs/uploads/{digest}"),
        "/v2/a/referrers/..".to_owned(),
        "/v2/\u{1f433}/tags/list".to_owned(),
        "*".to_owned(),
    ] {
        for method in ["GET", "PUT", "PATCH", "POST", "DELETE", "HEAD", "TRACE", "BREW"] {
            let request = format!(
                "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx"
            );
            let line = raw(&server, request.as_bytes());
            let status: u16 = line.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
            assert!((400..500).contains(&status), "{method} {path}: {line:?}");
        }
    }
    let after = files_below(server.dir.path());
    assert_eq!(after, before, "nothing was made or taken away");
    assert_eq!(std::fs::read_to_string(&canary).unwrap(), "untouched");
    assert!(server.client().has_image("a", "x"));
}

#[test]
fn numbers_that_are_too_large_or_none_are_harmless() {
    let server = Server::start();
    let client = server.client();
    client.push_image("a", "x", "numbers", 100);
    for (query, status) in [
        ("n=2147483647", 200),
        ("n=99999999999999999999999999", 200),
        ("n=0", 200),
        ("n=-1", 400),
        ("n=x", 400),
        ("n=1%00", 400),
        ("last=%00%ff", 200),
        ("n=1&n=-1", 200),
    ] {
        client.get(&format!("/v2/_catalog?{query}")).is(status);
        client.get(&format!("/v2/a/tags/list?{query}")).is(status);
    }
    client.get("/v2/_catalog?n=-1").fails(400, "PAGINATION_NUMBER_INVALID");
    client.get("/v1/search?q=%27%3B+DROP+TABLE+users%3B--&n=-5&page=99999999999").is(200);
    let location = client.post("/v2/a/blobs/uploads/").is(202).header("location").to_owned();
    for range in ["-1-5", "5-1", "a-b", "0-99999999999999999999", "1", ""] {
        client
            .ask("PATCH", &location)
            .header("Content-Range", range)
            .body(b"12345")
            .send()
            .one_of(&[400, 416]);
    }
    client.ask("PATCH", &location).header("Content-Range", "0-4").body(b"12345").send().is(202);
    // The same bytes again, and some that overlap.
    for range in ["0-4", "3-7", "18446744073709551610-18446744073709551614"] {
        let answer =
            client.ask("PATCH", &location).header("Content-Range", range).body(b"12345").send();
        assert_eq!(answer.is(416).header("range"), "0-4");
    }
    // Said and sent lengths differ.
    client.ask("PATCH", &location).header("Content-Range", "5-99").body(b"12345").send().is(400);
    let digest = Digest::sha256(b"12345");
    client.ask("PUT", &and(&location, &format!("digest={digest}"))).body(b"").send().is(201);
}

#[test]
fn manifests_without_end_are_cut_off() {
    let server = Server::start();
    let client = server.client();
    let head = "PUT /v2/a/manifests/x HTTP/1.1\r\nHost: x\r\nContent-Type: application/vnd.oci.image.manifest.v1+json\r\n";
    let said = format!("{head}Content-Length: 1073741824\r\n\r\n");
    assert!(raw(&server, &[said.as_bytes(), &vec![b' '; 70 << 20]].concat()).contains("413"));
    let mut chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..70 {
        chunked.extend_from_slice(format!("{:x}\r\n", 1 << 20).as_bytes());
        chunked.resize(chunked.len() + (1 << 20), b'[');
        chunked.extend_from_slice(b"\r\n");
    }
    assert!(raw(&server, &chunked).contains("413"));
    // Deep, wide and strange, but small enough.
    let config = noise("hostile config", 10);
    client.push_blob("a", &config);
    let mut wide = manifest(&config, &[]);
    let layer = wide["config"].clone();
    wide["layers"] = vec![layer; 20_000].into();
    for text in [
        "[".repeat(1 << 20),
        "{\"a\":".repeat(200_000),
        "\"".repeat(3 << 20),
        format!("{{\"schemaVersion\":2,\"config\":{}}}", "9".repeat(1 << 20)),
    ] {
        let put = client.put_manifest_bytes("a", "x", crate::image::OCI_MANIFEST, text.as_bytes());
        put.fails(400, "MANIFEST_INVALID");
    }
    client.put_manifest("a", "wide", &wide).is(201);
    assert!(server.memory() < MEMORY, "{} bytes", server.memory());
}

#[test]
fn heads_without_end_are_cut_off() {
    let server = Server::start();
    let many: String = (0..5000).map(|n| format!("X-{n}: y\r\n")).collect();
    let line = raw(&server, format!("GET /v2/ HTTP/1.1\r\nHost: x\r\n{many}\r\n").as_bytes());
    assert!(line.contains("431") || line.contains("400"), "{line}");
    let long = "x".repeat(2 << 20);
    let line =
        raw(&server, format!("GET /v2/ HTTP/1.1\r\nHost: x\r\nX: {long}\r\n\r\n").as_bytes());
    assert!(line.contains("431") || line.contains("400") || line.is_empty(), "{line}");
    for nonsense in ["\0\0\0\0\0\0", "hello\r\n\r\n", "GET\r\n\r\n", "GET /v2/ HTTP/9.9\r\n\r\n"] {
        let line = raw(&server, nonsense.as_bytes());
        assert!(
            line.is_empty() || line.contains(" 4") || line.contains(" 5"),
            "{nonsense:?}: {line}"
        );
    }
    server.client().get("/v2/").is(200);
}

#[test]
fn two_lengths_are_not_believed() {
    let server = Server::start();
    for smuggled in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked, identity\r\n",
    ] {
        let head = format!("POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\n{smuggled}\r\nhello");
        let line = raw(&server, head.as_bytes());
        assert!(line.contains("400") || line.is_empty(), "{smuggled:?}: {line}");
    }
}

#[test]
fn thousands_of_silent_and_half_said_requests_are_no_burden() {
    let server = Server::start();
    let mut open = Vec::new();
    for n in 0..3000 {
        let mut stream = match TcpStream::connect(&server.address) {
            Ok(stream) => stream,
            Err(err) => panic!("connection {n}: {err}"),
        };
        match n % 3 {
            0 => {}
            1 => stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nX-").unwrap(),
            // A body that does not come.
            _ => stream
                .write_all(b"PATCH /v2/a/blobs/uploads/x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
                .unwrap(),
        }
        open.push(stream);
    }
    server.client().push_image("a", "x", "among thousands", 100_000);
    assert!(server.client().has_image("a", "x"));
    assert!(server.memory() < MEMORY, "{} bytes", server.memory());
    // The half-said ones are told, or cut off, within the time for a head.
    let mut half = open.swap_remove(1);
    half.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    let ended = half.read(&mut [0; 100]);
    assert!(
        matches!(&ended, Ok(0))
            || matches!(&ended, Err(e) if e.kind() == ErrorKind::ConnectionReset),
        "{ended:?}"
    );
}

#[test]
fn thousands_of_open_uploads_are_bounded_and_cheap() {
    let server = Server::with("[limits]\nuploads = 2000\n", &[]);
    let client = server.client();
    let mut locations = Vec::new();
    for _ in 0..2000 {
        locations.push(client.post("/v2/a/blobs/uploads/").is(202).header("location").to_owned());
    }
    assert_eq!(
        client.post("/v2/a/blobs/uploads/").fails(429, "TOOMANYREQUESTS").header("retry-after"),
        "60"
    );
    assert!(server.memory() < MEMORY, "{} bytes", server.memory());
    // A blob in one small request needs no session.
    let digest = Digest::sha256(b"small");
    let url = format!("/v2/a/blobs/uploads/?digest={digest}");
    client.ask("POST", &url).body(b"small").send().is(201);
    for location in &locations {
        client.delete(location).is(204);
    }
    client.post("/v2/a/blobs/uploads/").is(202);
}

#[test]
fn memory_does_not_grow_with_the_blob() {
    let server = Server::start();
    let client = server.client();
    let large = noise("large", 64 << 20);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (client, large) = (client.clone(), &large);
            scope.spawn(move || {
                let name = format!("large/{n}");
                let location = client.post(&format!("/v2/{name}/blobs/uploads/")).is(202);
                let location = location.header("location").to_owned();
                client.ask("PATCH", &location).body(large).streamed().send().is(202);
                let digest = Digest::sha256(large);
                client
                    .ask("PUT", &and(&location, &format!("digest={digest}")))
                    .body(b"")
                    .send()
                    .is(201);
                assert_eq!(
                    client.get(&format!("/v2/{name}/blobs/{digest}")).is(200).body.len(),
                    large.len()
                );
            });
        }
    });
    assert!(server.memory() < MEMORY, "{} bytes", server.memory());
}
