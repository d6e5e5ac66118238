//! Uploads of a registry: any sequence of beginnings, chunks with any range, ends and cancellations, over HTTP.
//!
//! Flow: two bytes of the input are one request; a model keeps what the session must hold. Asserted: no answer is a 5xx, what
//! came is what was sent in order, a session that is over is gone, another repository does not see it, and a blob that was
//! acknowledged is read back byte for byte.
//! A registry is started for each thread, and goes with it.

use base::Digest;
use registry::{
    config::{Config, Open},
    server::Server,
};
use std::{
    cell::RefCell,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::mpsc,
    thread::JoinHandle,
};

/// Begin, append, append with ranges right and wrong, end; begin twice, cancel; wrong digests; the whole in one.
pub(crate) static SEEDS: &[&[u8]] = &[
    b"\0\0\x01\x20\x02\x10\x02\x31\x02\x52\x04\x08",
    b"\0\0\x01\x05\x07\x00\x03\x00\x01\x05",
    b"\0\0\0\x01\x01\x09\x06\x00\x01\x03\x06\x00\x06\x00",
    b"\0\0\x05\x09\x08\x20\x08\x21\x08\x00",
    b"\0\0\x02\x73\x02\x94\x02\xb5\x02\xd6\x03\x00",
];

/// Requests of one input, at most.
const MOST: usize = 24;
const NAMES: [&str; 2] = ["a/b", "c"];

struct Registry {
    address: SocketAddr,
    stop: Box<dyn Fn()>,
    thread: Option<JoinHandle<()>>,
}

impl Registry {
    fn start() -> Option<Self> {
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let dir = tempfile::tempdir().ok();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok();
            let (Some(dir), Some(runtime)) = (dir, runtime) else { return };
            runtime.block_on(async {
                let config = Config {
                    root: dir.path().join("root"),
                    listen: vec!["127.0.0.1:0".to_owned()],
                    access: Some(Open::Open),
                    ..Config::default()
                };
                let Ok(server) = Server::open(config).await else { return };
                if sender.send((server.addresses(), server.stopper())).is_ok() {
                    _ = server.run().await;
                }
            });
        });
        let (addresses, stopper) = receiver.recv().ok()?;
        let stop = Box::new(move || stopper.cancel());
        Some(Self { address: *addresses.first()?, stop, thread: Some(thread) })
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        (self.stop)();
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

thread_local! {
    static REGISTRY: RefCell<Option<Registry>> = const { RefCell::new(None) };
}

/// An answer: status, head, body.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

fn ask(address: SocketAddr, method: &str, target: &str, range: &str, body: &[u8]) -> Answer {
    let tried = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(address)?;
        let length = body.len();
        let range = match range {
            "" => String::new(),
            range => format!("Content-Range: {range}\r\n"),
        };
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: r\r\nConnection: close\r\nContent-Length: {length}\r\n{range}\r\n"
        );
        stream.write_all(head.as_bytes())?;
        // Who refuses by the head alone may close before the body has come.
        _ = stream.write_all(body);
        let mut answer = Vec::new();
        _ = stream.read_to_end(&mut answer);
        Ok(answer)
    };
    let bytes = tried().unwrap_or_default();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(bytes.len());
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let body = bytes.get(end + 4..).unwrap_or_default().to_vec();
    assert!((200..500).contains(&status), "{method} {target} is answered with {status}: {head}");
    Answer { status, head, body }
}

/// A session as it must be.
struct Session {
    name: &'static str,
    id: String,
    bytes: Vec<u8>,
    over: bool,
}

impl Session {
    fn target(&self) -> String {
        format!("/v2/{}/blobs/uploads/{}", self.name, self.id)
    }

    /// Compares with what the registry says of it; `sent` was taken since.
    fn compare(&mut self, address: SocketAddr, sent: &[u8]) {
        let answer = ask(address, "GET", &self.target(), "", b"");
        if self.over {
            assert_eq!(answer.status, 404, "a session that is over is there");
            return;
        }
        assert_eq!(answer.status, 204, "a session is gone: {}", answer.head);
        self.bytes.extend_from_slice(sent);
        // `0-0` is one byte or none.
        let want = format!("0-{}", self.bytes.len().saturating_sub(1));
        assert_eq!(answer.header("range"), Some(want.as_str()), "not what came");
    }
}

/// A chunk that does not repeat the one before.
fn chunk(length: usize, salt: usize) -> Vec<u8> {
    (0..length).map(|n| ((n * 7 + salt * 31) % 251) as u8).collect()
}

/// The range of a chunk of `length` bytes behind `offset`: right, and wrong in each way. Whether it must be taken.
fn range(kind: usize, offset: usize, length: usize) -> (String, bool) {
    let end = (offset + length).saturating_sub(1);
    match kind {
        0 => (format!("{offset}-{end}"), length > 0),
        1 => (format!("{}-{}", offset + 1, end + 1), false),
        2 => (format!("{offset}-{}", end + 5), false),
        3 => (format!("{}-{offset}", offset + 9), false),
        4 => ("0-18446744073709551615".to_owned(), false),
        5 => ("bytes x-y/z".to_owned(), false),
        _ => (format!("bytes {offset}-{end}/*"), length > 0),
    }
}

fn finished(address: SocketAddr, session: &Session, whole: &[u8], last: &[u8]) {
    let digest = Digest::sha256(whole);
    let answer = ask(address, "PUT", &format!("{}?digest={digest}", session.target()), "", last);
    assert_eq!(answer.status, 201, "{}", answer.head);
    stored(address, session.name, whole);
}

fn stored(address: SocketAddr, name: &str, whole: &[u8]) {
    let target = format!("/v2/{name}/blobs/{}", Digest::sha256(whole));
    let answer = ask(address, "GET", &target, "", b"");
    assert_eq!(answer.status, 200, "{}", answer.head);
    assert!(answer.body == whole, "a blob is not what was sent");
}

pub(crate) fn run(bytes: &[u8]) {
    let address = REGISTRY.with_borrow_mut(|registry| {
        if registry.is_none() {
            *registry = Registry::start();
        }
        registry.as_ref().map(|registry| registry.address)
    });
    let Some(address) = address else { panic!("the registry does not start") };
    let mut sessions: Vec<Session> = Vec::new();
    for (at, request) in bytes.chunks_exact(2).take(MOST).enumerate() {
        step(address, &mut sessions, (request[0] % 9, usize::from(request[1])), at);
    }
    for session in sessions.iter_mut().filter(|session| !session.over) {
        assert_eq!(ask(address, "DELETE", &session.target(), "", b"").status, 204);
        session.over = true;
        session.compare(address, b"");
    }
}

fn step(address: SocketAddr, sessions: &mut Vec<Session>, (what, how): (u8, usize), at: usize) {
    if what == 0 {
        let name = NAMES[how % 2];
        let answer = ask(address, "POST", &format!("/v2/{name}/blobs/uploads/"), "", b"");
        let id = answer.header("docker-upload-uuid").unwrap_or_default().to_owned();
        assert_eq!((answer.status, id.len()), (202, 48), "{}", answer.head);
        sessions.push(Session { name, id, bytes: Vec::new(), over: false });
        return;
    }
    if what == 8 {
        let (name, data) = (NAMES[how % 2], chunk(how, at));
        let said = if how % 3 == 0 { Digest::sha256(b"other") } else { Digest::sha256(&data) };
        let target = format!("/v2/{name}/blobs/uploads/?digest={said}");
        let answer = ask(address, "POST", &target, "", &data);
        match said == Digest::sha256(&data) {
            true => stored(address, name, &data),
            false => assert_eq!(answer.status, 400, "{}", answer.head),
        }
        return;
    }
    let count = sessions.len();
    let Some(session) = sessions.get_mut(at % count.max(1)) else { return };
    let target = session.target();
    let data = chunk(how % 32, at);
    let gone = session.over;
    let mut sent: &[u8] = &data;
    match what {
        1 => {
            let status = ask(address, "PATCH", &target, "", &data).status;
            assert_eq!(status, if gone { 404 } else { 202 });
        }
        2 => {
            let (said, right) = range(how / 32, session.bytes.len(), data.len());
            let answer = ask(address, "PATCH", &target, &said, &data);
            if gone {
                assert_eq!(answer.status, 404);
            } else if right {
                assert_eq!(answer.status, 202, "{said}: {}", answer.head);
            } else {
                // Refused by its head: nothing of it came. An empty chunk may say anything.
                let empty = data.is_empty() && answer.status == 202;
                assert!(
                    empty || matches!(answer.status, 400 | 413 | 416),
                    "{said}: {}",
                    answer.head
                );
                sent = b"";
            }
        }
        3 | 4 if !gone => {
            let last: &[u8] = if what == 4 { &data } else { b"" };
            let whole = [&session.bytes, last].concat();
            finished(address, session, &whole, last);
            session.over = true;
        }
        5 if !gone => {
            let wrong = Digest::sha256(b"something else");
            let answer = ask(address, "PUT", &format!("{target}?digest={wrong}"), "", &data);
            assert_eq!(answer.status, 400, "{}", answer.head);
            session.over = true;
        }
        6 => {
            let status = ask(address, "DELETE", &target, "", b"").status;
            assert_eq!(status, if gone { 404 } else { 204 });
            session.over = true;
        }
        7 => {
            let other = NAMES[usize::from(session.name == NAMES[0])];
            let target = format!("/v2/{other}/blobs/uploads/{}", session.id);
            for method in ["GET", "PATCH", "DELETE"] {
                assert_eq!(ask(address, method, &target, "", b"").status, 404, "{method}");
            }
            sent = b"";
        }
        _ => {
            let empty = Digest::sha256(b"");
            let put = ask(address, "PUT", &format!("{target}?digest={empty}"), "", b"").status;
            assert_eq!(put, 404, "a session that is over takes an end");
        }
    }
    if session.over {
        sent = b"";
    }
    session.compare(address, sent);
}
