//! A scripted registry: answers any byte that a test wants, and remembers what it was asked.
//!
//! Flow: a test makes [`Content`] (an image's manifest, config and layers), starts [`Evil`] over it with a
//! twist, a function that may answer a request otherwise than honestly; [`Evil::requests`] tells who asked
//! what, with which credentials. One connection carries one request, one thread serves it.
//! Not here: a whole registry; uploads are taken and kept by digest without any check.

use crate::image::sha256;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Method.
    pub method: String,
    /// Path without query.
    pub path: String,
    /// Query without `?`.
    pub query: String,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
    /// How many requests of this method and path came before.
    pub nth: usize,
}

impl Request {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// First byte of the range that is asked for.
    pub fn from(&self) -> usize {
        let range = self.header("range").and_then(|r| r.strip_prefix("bytes="));
        range.and_then(|r| r.split('-').next()?.parse().ok()).unwrap_or(0)
    }
}

/// One step of an answer.
#[derive(Clone, Debug)]
pub enum Step {
    /// Sends bytes.
    Send(Vec<u8>),
    /// Waits.
    Pause(Duration),
    /// Sends one byte after the other with pauses.
    Drip(Vec<u8>, Duration),
    /// Sends these bytes again and again until the other side hangs up.
    Forever(Vec<u8>),
}

/// An answer, written as it is; the connection is closed behind it.
#[derive(Clone, Debug, Default)]
pub struct Answer(pub Vec<Step>);

impl Answer {
    /// A whole answer with a length.
    pub fn new(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let mut head = head(status, headers);
        head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        Self(vec![Step::Send([head.as_bytes(), body].concat())])
    }

    /// An error in the form of the distribution specification.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        let body = json!({"errors": [{"code": code, "message": message}]}).to_string();
        Self::new(status, &[("Content-Type", "application/json")], body.as_bytes())
    }

    /// An answer that announces `length` bytes and sends what the steps say.
    pub fn announced(
        status: u16,
        headers: &[(&str, &str)],
        length: usize,
        steps: Vec<Step>,
    ) -> Self {
        let head = head(status, headers) + &format!("Content-Length: {length}\r\n\r\n");
        let mut all = vec![Step::Send(head.into_bytes())];
        all.extend(steps);
        Self(all)
    }

    /// An answer without a length.
    pub fn open_ended(status: u16, headers: &[(&str, &str)], steps: Vec<Step>) -> Self {
        let mut all = vec![Step::Send((head(status, headers) + "\r\n").into_bytes())];
        all.extend(steps);
        Self(all)
    }
}

fn head(status: u16, headers: &[(&str, &str)]) -> String {
    let mut text = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text
}

/// What an honest registry would have: bodies with their media types by path.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// By path: media type and body.
    pub paths: BTreeMap<String, (String, Vec<u8>)>,
    /// Digest of what was added last as a manifest.
    pub top: String,
}

/// `sha256:...` of `bytes`.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", sha256(bytes))
}

impl Content {
    /// Adds a blob to `repository` and gives its descriptor.
    pub fn blob(&mut self, repository: &str, media_type: &str, bytes: &[u8]) -> Value {
        let path = format!("/v2/{repository}/blobs/{}", digest(bytes));
        self.paths.insert(path, ("application/octet-stream".into(), bytes.to_vec()));
        json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
    }

    /// Adds a manifest under its digest and `tags`, and gives its descriptor.
    pub fn manifest(
        &mut self,
        repository: &str,
        tags: &[&str],
        media_type: &str,
        json: &Value,
    ) -> Value {
        let bytes = json.to_string().into_bytes();
        let digest = digest(&bytes);
        for name in tags.iter().copied().chain([digest.as_str()]) {
            let path = format!("/v2/{repository}/manifests/{name}");
            self.paths.insert(path, (media_type.to_owned(), bytes.clone()));
        }
        self.top.clone_from(&digest);
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// Adds an image of tars, compressed with gzip, and gives the descriptor of its manifest.
    pub fn image(
        &mut self,
        repository: &str,
        tags: &[&str],
        platform: &str,
        layers: &[Vec<u8>],
    ) -> Value {
        let diff_ids: Vec<_> = layers.iter().map(|l| digest(l)).collect();
        let (os, architecture) = platform.split_once('/').unwrap_or(("linux", platform));
        let config = json!({
            "architecture": architecture, "os": os, "created": "2024-01-01T00:00:00Z",
            "config": {"Cmd": ["sh"], "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = self.blob(
            repository,
            "application/vnd.oci.image.config.v1+json",
            config.to_string().as_bytes(),
        );
        let layers: Vec<_> = layers
            .iter()
            .map(|l| {
                let packed = crate::tarball::gzip(l);
                self.blob(repository, "application/vnd.oci.image.layer.v1.tar+gzip", &packed)
            })
            .collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers,
        });
        self.manifest(repository, tags, MANIFEST, &manifest)
    }

    /// The honest answer.
    pub fn answer(&self, request: &Request) -> Answer {
        if request.path == "/v2/" {
            return Answer::new(200, &[], b"{}");
        }
        let Some((media_type, body)) = self.paths.get(&request.path) else {
            let code = if request.path.contains("/manifests/") {
                "MANIFEST_UNKNOWN"
            } else {
                "BLOB_UNKNOWN"
            };
            return Answer::error(404, code, "not here");
        };
        let digest = digest(body);
        let mut headers =
            vec![("Content-Type", media_type.as_str()), ("Docker-Content-Digest", digest.as_str())];
        if request.method == "HEAD" {
            return Answer::announced(200, &headers, body.len(), Vec::new());
        }
        let from = request.from();
        if from > 0 && from < body.len() {
            let to = request
                .header("range")
                .and_then(|r| r.split_once('-')?.1.parse().ok())
                .map_or(body.len(), |last: usize| (last + 1).min(body.len()));
            let range = format!("bytes {from}-{}/{}", to - 1, body.len());
            headers.push(("Content-Range", &range));
            return Answer::new(206, &headers, &body[from..to]);
        }
        Answer::new(200, &headers, body)
    }
}

/// Media type of OCI manifests.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of OCI indexes.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

type Twist = dyn Fn(&Request, &Content) -> Option<Answer> + Send + Sync;

/// A registry on a port of its own, until it is dropped.
pub struct Evil {
    address: SocketAddr,
    log: Arc<Mutex<Vec<Request>>>,
    ended: Arc<AtomicBool>,
    accepting: Option<thread::JoinHandle<()>>,
}

impl std::fmt::Debug for Evil {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Evil").field("address", &self.address).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Evil {
    /// Starts a registry that answers honestly where the twist has no answer.
    ///
    /// # Panics
    /// When the loopback interface has no port left.
    pub fn start(
        content: Content,
        twist: impl Fn(&Request, &Content) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        Self::on(listener, content, twist)
    }

    /// As [`Evil::start`], on a listener that the test has made.
    ///
    /// # Panics
    /// When the listener has no address.
    pub fn on(
        listener: TcpListener,
        content: Content,
        twist: impl Fn(&Request, &Content) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("a listener has an address");
        let log: Arc<Mutex<Vec<Request>>> = Arc::default();
        let ended = Arc::new(AtomicBool::new(false));
        let content = Arc::new(content);
        let twist: Arc<Twist> = Arc::new(twist);
        let (own_log, own_end) = (Arc::clone(&log), Arc::clone(&ended));
        let accepting = thread::spawn(move || {
            while let Ok((socket, _)) = listener.accept() {
                if own_end.load(Ordering::Acquire) {
                    return;
                }
                let (log, content, twist, ended) = (
                    Arc::clone(&own_log),
                    Arc::clone(&content),
                    Arc::clone(&twist),
                    Arc::clone(&own_end),
                );
                thread::spawn(move || _ = serve(socket, &log, &content, twist.as_ref(), &ended));
            }
        });
        Self { address, log, ended, accepting: Some(accepting) }
    }

    /// `127.0.0.1:port`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// What was asked so far.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.log).clone()
    }

    /// Requests of this method whose path holds `part`.
    pub fn asked(&self, method: &str, part: &str) -> Vec<Request> {
        self.requests()
            .into_iter()
            .filter(|r| r.method == method && r.path.contains(part))
            .collect()
    }

    /// Forgets what was asked.
    pub fn forget(&self) {
        lock(&self.log).clear();
    }
}

impl Drop for Evil {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
        if let Some(accepting) = self.accepting.take() {
            _ = accepting.join();
        }
    }
}

fn serve(
    socket: TcpStream,
    log: &Mutex<Vec<Request>>,
    content: &Content,
    twist: &Twist,
    ended: &AtomicBool,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(socket.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(()) };
    // A proxy is asked with whole URLs.
    let target =
        target.strip_prefix("http://").map_or(target, |rest| &rest[rest.find('/').unwrap_or(0)..]);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut request = Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        ..Request::default()
    };
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            request.headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    if let Some(length) = request.header("content-length").and_then(|l| l.parse::<u64>().ok()) {
        (&mut reader).take(length).read_to_end(&mut request.body)?;
    }
    {
        let mut log = lock(log);
        request.nth =
            log.iter().filter(|r| r.method == request.method && r.path == request.path).count();
        log.push(request.clone());
    }
    let answer = twist(&request, content).unwrap_or_else(|| content.answer(&request));
    let mut socket = socket;
    for step in answer.0 {
        match step {
            Step::Send(bytes) => socket.write_all(&bytes)?,
            Step::Pause(time) => thread::sleep(time),
            Step::Drip(bytes, pause) => {
                for byte in bytes {
                    if ended.load(Ordering::Acquire) {
                        return Ok(());
                    }
                    socket.write_all(&[byte])?;
                    thread::sleep(pause);
                }
            }
            Step::Forever(bytes) => {
                while !ended.load(Ordering::Acquire) {
                    socket.write_all(&bytes)?;
                }
            }
        }
    }
    Ok(())
}
