//! The server from outside: raw bytes over a unix socket, good ones and bad ones.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use engine::{Config, Engine};
use gantry_server::{Listener, Server};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
};
use tokio_util::sync::CancellationToken;

/// A server over an engine of its own, without networks and without a way to start containers.
struct Site {
    _dir: tempfile::TempDir,
    socket: PathBuf,
    engine: Arc<Engine>,
    server: Arc<Server>,
    stop: CancellationToken,
}

impl Site {
    async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::open(config(dir.path())).await.unwrap();
        let socket = dir.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let stop = CancellationToken::new();
        let server = Arc::new(Server::new(Arc::clone(&engine), stop.clone()));
        let serving = Arc::clone(&server);
        tokio::spawn(async move { serving.serve(Listener::Unix(listener)).await });
        Self { _dir: dir, socket, engine, server, stop }
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.socket).await.unwrap()
    }

    /// Sends `request` on a connection of its own and reads to its end.
    async fn raw(&self, request: &[u8]) -> String {
        let mut stream = self.connect().await;
        // A server that has refused does not read the rest, and may reset the connection behind its answer.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn get(&self, path: &str) -> String {
        self.raw(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
            .await
    }

    async fn post(&self, path: &str, content_type: &str, body: &str) -> String {
        let length = body.len();
        let content_type = match content_type {
            "" => String::new(),
            given => format!("Content-Type: {given}\r\n"),
        };
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{content_type}Content-Length: {length}\r\n\r\n"
        );
        self.raw(format!("{head}{body}").as_bytes()).await
    }
}

fn config(dir: &std::path::Path) -> Config {
    // No container is started here.
    let shim = "/bin/busybox".into();
    Config { cgroup_parent: "/gantry-wire-test".into(), ..Config::bare(dir, shim) }
}

#[track_caller]
fn check(answer: &str, status: u16, content_type: &str, message: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    assert!(answer.contains(&format!("\r\nContent-Type: {content_type}\r\n")), "{answer}");
    assert!(answer.contains("\r\nApi-Version: 1.51\r\n"), "{answer}");
    assert!(answer.contains("\r\nOstype: linux\r\n"), "{answer}");
    assert!(answer.contains("\r\nServer: Docker/"), "{answer}");
    assert!(answer.contains(message), "{answer}");
}

const JSON: &str = "application/json";

#[tokio::test]
async fn ping_negotiates() {
    let site = Site::open().await;
    let got = site.get("/_ping").await;
    check(&got, 200, "text/plain; charset=utf-8", "\r\n\r\nOK");
    let head =
        site.raw(b"HEAD /v1.24/_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(head.contains("\r\nContent-Length: 0\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(head.contains("\r\nSwarm: inactive\r\n"), "{head}");
}

#[tokio::test]
async fn what_is_not_there_says_page_not_found() {
    let site = Site::open().await;
    for path in [
        "/nope",
        "/v1.41/nope",
        "/v1.41",
        "/",
        "//containers/json",
        "/v1.x/info",
        "/containers//json",
    ] {
        check(&site.get(path).await, 404, JSON, "{\"message\":\"page not found\"}\n");
    }
    check(&site.post("/containers/json", "", "").await, 404, JSON, "page not found");
}

#[tokio::test]
async fn versions_outside_the_served_ones_are_refused_in_docker_s_words() {
    let site = Site::open().await;
    let old = site.get("/v1.12/info").await;
    check(
        &old,
        400,
        "text/plain; charset=utf-8",
        "client version 1.12 is too old. Minimum supported API version is 1.24",
    );
    let new = site.get("/v1.99/info").await;
    check(&new, 400, JSON, "client version 1.99 is too new. Maximum supported API version is 1.51");
}

#[tokio::test]
async fn bad_bodies_are_refused_with_their_fault() {
    let site = Site::open().await;
    for (content_type, body, message) in [
        (JSON, "{", "unexpected EOF"),
        (JSON, "{\"Image\":7}", "Image: invalid type"),
        (JSON, "{\"Image\":\"x\"} {}", "unexpected content after JSON"),
        (JSON, "[]", "invalid type"),
        (JSON, "\u{feff}{}", "invalid JSON"),
        (JSON, "{\"HostConfig\":{\"Memory\":\"1g\"}}", "Memory: invalid type"),
        (
            "text/plain",
            "{\"Image\":\"x\"}",
            "unsupported Content-Type header (text/plain): must be 'application/json'",
        ),
        ("", "{\"Image\":\"x\"}", "malformed Content-Type header (): mime: no media type"),
    ] {
        check(&site.post("/v1.41/containers/create", content_type, body).await, 400, JSON, message);
    }
    let deep = format!("{{\"Labels\":{}", "[".repeat(200_000));
    check(&site.post("/containers/create", JSON, &deep).await, 400, JSON, "invalid JSON");
}

#[tokio::test]
async fn odd_names_are_not_found_and_harm_nothing() {
    let site = Site::open().await;
    for name in
        ["%00", "a%00b", "%ff%fe", "..%2f..%2fetc", "a/b/c", "%", "%zz", &"x".repeat(60_000)]
    {
        let got = site.get(&format!("/v1.41/containers/{name}/json")).await;
        assert!(
            got.starts_with("HTTP/1.1 404 ") || got.starts_with("HTTP/1.1 400 "),
            "{name}: {got}"
        );
        assert!(got.contains("{\"message\":"), "{got}");
    }
    // Raw bytes that are no UTF-8 in the request line.
    let got = site
        .raw(b"GET /containers/\xff\xfe/json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await;
    assert!(got.starts_with("HTTP/1.1 40"), "{got}");
    check(&site.get("/_ping").await, 200, "text/plain; charset=utf-8", "OK");
}

#[tokio::test]
async fn heads_that_are_no_http_or_too_large_are_refused() {
    let site = Site::open().await;
    let big = format!("GET /_ping HTTP/1.1\r\nHost: x\r\nX-Big: {}\r\n\r\n", "a".repeat(1 << 20));
    assert!(site.raw(big.as_bytes()).await.starts_with("HTTP/1.1 431 "));
    let many = format!("GET /_ping HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(5000));
    assert!(site.raw(many.as_bytes()).await.starts_with("HTTP/1.1 431 "));
    // What docker-py sends for a build fits.
    let some = format!(
        "GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Registry-Config: {}\r\n\r\n",
        "a".repeat(100 << 10)
    );
    assert!(site.raw(some.as_bytes()).await.starts_with("HTTP/1.1 200 "));
    for junk in [
        &b"\0\0\0\0\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
    ] {
        assert!(site.raw(junk).await.starts_with("HTTP/1.1 400 "));
    }
    check(&site.get("/_ping").await, 200, "text/plain; charset=utf-8", "OK");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let site = Site::open().await;
    let got = site
        .raw(
            b"GET /nope HTTP/1.1\r\nHost: x\r\n\r\nHEAD /_ping HTTP/1.1\r\nHost: x\r\n\r\n\
              GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        )
        .await;
    let statuses: Vec<&str> =
        got.match_indices("HTTP/1.1 ").map(|(at, _)| &got[at + 9..at + 12]).collect();
    assert_eq!(statuses, ["404", "200", "200"], "{got}");
    assert!(got.ends_with("OK"), "{got}");
}

#[tokio::test]
async fn a_closed_sending_half_still_gets_its_answer() {
    let site = Site::open().await;
    let mut stream = site.connect().await;
    stream.write_all(b"GET /info HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn form_bodies_join_the_query() {
    let site = Site::open().await;
    let form = "application/x-www-form-urlencoded";
    let got = site
        .post("/v1.41/containers/prune", form, "filters=%7B%22bogus%22%3A%5B%22x%22%5D%7D")
        .await;
    check(&got, 400, JSON, "invalid filter");
}

#[tokio::test]
async fn a_client_that_left_is_not_served_for_ever() {
    let site = Site::open().await;
    let listeners = || async {
        let info = site.get("/info").await;
        let at = info.find("\"NEventsListener\":").unwrap() + 18;
        info[at..].split(',').next().unwrap().parse::<u32>().unwrap()
    };
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut stream = site.connect().await;
        stream.write_all(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");
        // Half closed is not gone.
        stream.shutdown().await.unwrap();
        clients.push(stream);
    }
    assert_eq!(listeners().await, 5);
    drop(clients);
    let all_gone = async {
        while listeners().await > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all_gone)
        .await
        .expect("listeners of gone clients stay");
}

#[tokio::test]
async fn slow_heads_are_cut_and_idle_connections_are_not() {
    let site = Site::open().await;
    let mut idle = site.connect().await;
    let mut answer = vec![0; 4096];
    let ping = b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n";
    idle.write_all(ping).await.unwrap();
    let length = idle.read(&mut answer).await.unwrap();
    assert!(answer[..length].ends_with(b"OK"));
    // From here on the clock is the test's.
    tokio::time::pause();
    let mut slow = site.connect().await;
    slow.write_all(b"GET /_ping HTTP/1.1\r\nHost: x\r\nX-Half").await.unwrap();
    let waited = seconds_to_end(&mut slow).await;
    assert!(waited >= 10, "cut after {waited} s");
    // The other connection was silent for longer, between requests, and still serves.
    idle.write_all(ping).await.unwrap();
    let length = idle.read(&mut answer).await.unwrap();
    assert!(answer[..length].ends_with(b"OK"));
    let waited = seconds_to_end(&mut idle).await;
    assert!(waited >= 600, "cut after {waited} s");
}

/// Turns a stopped clock on until the server closes the connection; the seconds that took.
async fn seconds_to_end(stream: &mut UnixStream) -> u64 {
    let start = tokio::time::Instant::now();
    let mut byte = [0];
    let ended = stream.read(&mut byte);
    let mut ended = std::pin::pin!(ended);
    loop {
        tokio::select! {
            biased;
            read = &mut ended => {
                assert_eq!(read.unwrap_or(0), 0, "no answer is due");
                return start.elapsed().as_secs();
            }
            () = tokio::time::advance(Duration::from_millis(100)) => {}
        }
    }
}

#[tokio::test]
async fn an_ordered_stop_cuts_streams_and_idle_connections() {
    let site = Site::open().await;
    let mut events = site.connect().await;
    events.write_all(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut head = [0; 12];
    events.read_exact(&mut head).await.unwrap();
    let mut silent = site.connect().await;
    site.get("/_ping").await;
    site.stop.cancel();
    site.server.drain(Duration::from_secs(30)).await;
    let mut rest = Vec::new();
    let _ = events.read_to_end(&mut rest).await;
    let _ = silent.read_to_end(&mut rest).await;
    site.engine.shutdown(Duration::from_secs(10)).await;
    assert!(site.socket.exists(), "the socket file is its maker's to remove");
}
