//! Blobs in an object store that speaks S3 over HTTP and checks signatures (s3s-fs), behind a gate that can be shut.

use crate::{
    image::{and, noise},
    server::Server,
};
use base::Digest;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

const OPEN: u8 = 0;
/// Connections are refused, and those that are there are cut.
const SHUT: u8 = 1;
/// Everything is answered with 503.
const BUSY: u8 = 2;
/// Every piece takes its time.
const SLOW: u8 = 3;
/// The next answer breaks off in its middle; then it is open again.
const CUT: u8 = 4;
/// Bytes of an answer that is cut.
const HALF: usize = 50_000;

/// An S3 server with one bucket.
struct S3 {
    dir: tempfile::TempDir,
    gate: SocketAddr,
    state: Arc<AtomicU8>,
}

impl S3 {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("bucket")).unwrap();
        let behind = serve(dir.path());
        let state = Arc::new(AtomicU8::new(OPEN));
        let gate = gate(behind, Arc::clone(&state));
        Self { dir, gate, state }
    }

    fn set(&self, state: u8) {
        self.state.store(state, Ordering::SeqCst);
    }

    /// The registry's configuration for it.
    fn config(&self) -> String {
        format!(
            "[storage]\nurl = \"s3://bucket/some/prefix\"\n[storage.options]\naws_endpoint = \"http://{}\"\n\
             aws_allow_http = \"true\"\naws_access_key_id = \"key\"\naws_secret_access_key = \"secret\"\n\
             aws_region = \"eu-west-1\"\n",
            self.gate
        )
    }

    /// Objects in the bucket.
    fn objects(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut dirs = vec![self.dir.path().join("bucket/some/prefix/objects")];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    dirs.push(entry.path());
                } else {
                    found.push(entry.path());
                }
            }
        }
        found
    }

    /// Parts of uploads that were not completed.
    fn parts(&self) -> usize {
        let all = std::fs::read_dir(self.dir.path()).unwrap().flatten();
        all.filter(|e| e.file_name().to_string_lossy().contains("part")).count()
    }
}

/// Runs the server on a thread of its own, for as long as the test's process lives.
fn serve(root: &Path) -> SocketAddr {
    let store = s3s_fs::FileSystem::new(root).unwrap();
    let mut builder = s3s::service::S3ServiceBuilder::new(store);
    builder.set_auth(s3s::auth::SimpleAuth::from_single("key", "secret"));
    let service = builder.build();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let http = Builder::new(TokioExecutor::new());
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
    });
    address
}

/// Passes bytes on as the state says.
fn gate(to: SocketAddr, state: Arc<AtomicU8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            match state.load(Ordering::SeqCst) {
                SHUT => continue,
                BUSY => {
                    std::thread::spawn(move || refuse(client));
                    continue;
                }
                _ => {}
            }
            let Ok(server) = TcpStream::connect(to) else { continue };
            for (from, to, answers) in [(&client, &server, false), (&server, &client, true)] {
                let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                let state = Arc::clone(&state);
                std::thread::spawn(move || pass(from, to, answers, &state));
            }
        }
    });
    address
}

/// Answers as S3 does when it has too much to do.
fn refuse(mut client: TcpStream) {
    let mut head = [0; 16 << 10];
    let _ = client.read(&mut head);
    let body = "<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>";
    let length = body.len();
    let _ = write!(
        client,
        "HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
}

fn pass(mut from: TcpStream, mut to: TcpStream, answers: bool, state: &AtomicU8) {
    let mut piece = vec![0; 64 << 10];
    let mut passed = 0;
    while let Ok(mut count) = from.read(&mut piece) {
        let now = state.load(Ordering::SeqCst);
        if now == SLOW {
            std::thread::sleep(Duration::from_millis(50));
        }
        let cut = answers && now == CUT && passed + count > HALF;
        if cut {
            count = HALF.saturating_sub(passed);
            state.store(OPEN, Ordering::SeqCst);
        }
        passed += count;
        let over = count == 0 || matches!(now, SHUT | BUSY);
        if over || to.write_all(&piece[..count]).is_err() || cut {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

#[test]
fn blobs_of_all_sizes_go_into_the_bucket_and_come_back() {
    let s3 = S3::start();
    let server = Server::with(&s3.config(), &[]);
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
        assert_eq!(s3.objects().len(), objects);
    }
    assert_eq!(s3.parts(), 0);
    client.push_image("a", "x", "an image in the bucket", 100_000);
    let report = server.admin_with_config(&["scrub"]);
    assert!(report.contains("\"damaged\": []"), "{report}");
}

#[test]
fn a_wrong_digest_leaves_no_object_and_no_part() {
    let s3 = S3::start();
    let server = Server::with(&s3.config(), &[]);
    let client = server.client();
    for length in [100_000, 20 << 20] {
        let location = client.post("/v2/a/blobs/uploads/").is(202).header("location").to_owned();
        client.ask("PATCH", &location).body(&noise("wrong", length)).send().is(202);
        let url = and(&location, &format!("digest={}", Digest::sha256(b"other")));
        client.ask("PUT", &url).body(b"").send().fails(400, "DIGEST_INVALID");
    }
    server.admin_with_config(&["gc"]);
    assert_eq!((s3.objects().len(), s3.parts()), (0, 0));
}

#[test]
fn an_upload_goes_on_after_a_kill_with_the_parts_that_were_sent() {
    let s3 = S3::start();
    let mut server = Server::with(&s3.config(), &[]);
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
    assert_eq!((s3.objects().len(), s3.parts()), (1, 0));
}

#[test]
fn a_store_that_is_away_is_said_and_the_upload_can_be_finished_later() {
    let s3 = S3::start();
    let server = Server::with(&s3.config(), &[]);
    let client = server.client();
    let bytes = noise("away", 100_000);
    let digest = Digest::sha256(&bytes);
    client.push_blob("a", &noise("before", 100_000));
    let location = client.post("/v2/a/blobs/uploads/").is(202).header("location").to_owned();
    client.ask("PATCH", &location).body(&bytes).send().is(202);
    s3.set(SHUT);
    let url = and(&location, &format!("digest={digest}"));
    let refused = client.ask("PUT", &url).body(b"").send().fails(503, "UNAVAILABLE");
    assert!(!refused.text().contains("secret"));
    client.get(&format!("/v2/a/blobs/{digest}")).is(404);
    client.get(&format!("/v2/a/blobs/{}", Digest::sha256(&noise("before", 100_000)))).is(503);
    client.get("/readyz").is(503);
    // What needs no large blob goes on.
    client.push_image("a", "small", "small while away", 1000);
    assert!(client.has_image("a", "small"));
    s3.set(OPEN);
    client.ask("PUT", &url).body(b"").send().is(201);
    assert!(client.get(&format!("/v2/a/blobs/{digest}")).is(200).body == bytes);
    assert_eq!(s3.objects().len(), 2);
}

#[test]
fn errors_of_the_store_are_waited_out_or_told() {
    let s3 = S3::start();
    let server = Server::with(&s3.config(), &[]);
    let client = server.client();
    let bytes = noise("busy", 300_000);
    let digest = client.push_blob("a", &bytes);
    let path = format!("/v2/a/blobs/{digest}");
    // It gives up after some tries: what was not stored is not there, what was stored is not lost.
    s3.set(BUSY);
    let other = noise("busy, other", 100_000);
    let location = client.post("/v2/a/blobs/uploads/").is(202).header("location").to_owned();
    let put = and(&location, &format!("digest={}", Digest::sha256(&other)));
    let refused = client.ask("PUT", &put).body(&other).send().fails(503, "UNAVAILABLE");
    assert_eq!(refused.header("retry-after"), "10");
    client.get(&format!("/v2/a/blobs/{}", Digest::sha256(&other))).is(404);
    client.get(&path).is(503);
    // For a while only: the client does not hear of it.
    let opens = {
        let state = Arc::clone(&s3.state);
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            state.store(OPEN, Ordering::SeqCst);
        })
    };
    assert!(client.get(&path).is(200).body == bytes);
    opens.join().unwrap();
    client.push_blob("a", &other);
    assert_eq!((s3.objects().len(), s3.parts()), (2, 0));
}

#[test]
fn answers_of_the_store_that_are_slow_or_break_off_come_whole() {
    let s3 = S3::start();
    let server = Server::with(&s3.config(), &[]);
    let client = server.client();
    s3.set(SLOW);
    let bytes = noise("slow", 500_000);
    let digest = client.push_blob("a", &bytes);
    let path = format!("/v2/a/blobs/{digest}");
    assert!(client.get(&path).is(200).body == bytes);
    s3.set(CUT);
    assert!(client.get(&path).is(200).body == bytes);
    assert_eq!(s3.state.load(Ordering::SeqCst), OPEN, "nothing was cut");
}

#[test]
fn credentials_that_the_store_refuses_are_no_answer_for_clients() {
    let s3 = S3::start();
    let config = s3.config().replace("secret\"", "of somebody else\"");
    let server = Server::with(&config, &[]);
    let client = server.client();
    let bytes = noise("credentials", 100_000);
    let location = client.post("/v2/a/blobs/uploads/").is(202).header("location").to_owned();
    let put = and(&location, &format!("digest={}", Digest::sha256(&bytes)));
    let refused = client.ask("PUT", &put).body(&bytes).send().fails(503, "UNAVAILABLE");
    assert!(!refused.text().contains("somebody"), "{}", refused.text());
    client.get(&format!("/v2/a/blobs/{}", Digest::sha256(&bytes))).is(404);
    assert!(s3.objects().is_empty());
}

#[test]
fn deletions_wait_for_the_store() {
    let s3 = S3::start();
    let config = format!("{}[gc]\ngrace = \"1s\"\nevery = \"1h\"\n", s3.config());
    let server = Server::with(&config, &[]);
    let client = server.client();
    let digest = client.push_blob("a", &noise("deleted", 100_000));
    assert_eq!(s3.objects().len(), 1);
    client.delete(&format!("/v2/a/blobs/{digest}")).is(202);
    client.get(&format!("/v2/a/blobs/{digest}")).is(404);
    assert_eq!(s3.objects().len(), 1, "its object is deleted by the next round");
    // Pushed again before that: another object, which the deletion does not touch.
    client.push_blob("a", &noise("deleted", 100_000));
    server.admin_with_config(&["gc"]);
    assert_eq!(s3.objects().len(), 1);
    assert_eq!(client.get(&format!("/v2/a/blobs/{digest}")).is(200).body.len(), 100_000);
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
