//! HTTP/1.1 over a unix socket with nothing between the test and the bytes.
//!
//! One connection per request. Malformed requests are written with [`Client::raw`]; streams and hijacked
//! connections are handed over as they are.

use serde_json::Value;
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

/// How long a read may wait before the test fails.
const READ_LIMIT: Duration = Duration::from_secs(60);

/// Sends requests to one socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// The head of an answer.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// Status code.
    pub status: u16,
    /// Reason phrase.
    pub reason: String,
    /// Header fields in order, names as sent.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The value of a header field, by name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
}

/// A whole answer.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// Status and header fields.
    pub head: Head,
    /// Body, de-chunked.
    pub body: Vec<u8>,
}

impl Response {
    /// Status code.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// Body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Body as JSON, `Null` when it is not.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The `message` of an error body, or the body itself when it is not JSON.
    pub fn message(&self) -> String {
        match self.json()["message"].as_str() {
            Some(message) => message.to_owned(),
            None => self.text().trim_end().to_owned(), // a connection that was taken over already
        }
    }

    /// Asserts the status and gives the body as JSON.
    ///
    /// # Panics
    /// When the status differs.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert!(
            self.status() == status,
            "wanted status {status}, got {}: {}",
            self.status(),
            self.text()
        );
        self.json()
    }

    /// Asserts the status and that the error message holds every one of `parts`.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn fails(&self, status: u16, parts: &[&str]) {
        self.expect(status);
        let message = self.message();
        for part in parts {
            assert!(message.contains(part), "wanted {part:?} in {message:?}");
        }
    }
}

/// An answer whose body is read while it arrives, or a connection that was taken over.
#[derive(Debug)]
pub struct Stream {
    /// Status and header fields.
    pub head: Head,
    reader: BufReader<UnixStream>,
    chunked: bool,
    left: usize,
}

impl Stream {
    /// Writes to the other side.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// Closes our half of the connection.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn close_write(&mut self) -> io::Result<()> {
        self.reader.get_mut().shutdown(Shutdown::Write)
    }

    /// The next line of the body; `None` at its end.
    pub fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        let mut byte = [0];
        while self.read(&mut byte).ok()? == 1 {
            if byte[0] == b'\n' {
                return Some(String::from_utf8_lossy(&line).into_owned());
            }
            line.push(byte[0]);
        }
        (!line.is_empty()).then(|| String::from_utf8_lossy(&line).into_owned())
    }

    /// The next frame of a multiplexed stream: stream number and payload.
    pub fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 8];
        self.read_exact(&mut head).ok()?;
        let len = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        let mut payload = vec![0; len as usize];
        self.read_exact(&mut payload).ok()?;
        Some((head[0], payload))
    }

    /// Standard output and error of a multiplexed stream until its end.
    pub fn frames(&mut self) -> (Vec<u8>, Vec<u8>) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        while let Some((stream, payload)) = self.frame() {
            if stream == 2 { &mut err } else { &mut out }.extend(payload);
        }
        (out, err)
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if !self.chunked {
            return self.reader.read(buf);
        }
        if self.left == 0 {
            let mut line = String::new();
            self.reader.read_line(&mut line)?;
            if line.trim().is_empty() {
                line.clear();
                self.reader.read_line(&mut line)?;
            }
            self.left = usize::from_str_radix(line.trim().split(';').next().unwrap_or("0"), 16)
                .map_err(|_| io::Error::other(format!("bad chunk size {line:?}")))?;
            if self.left == 0 {
                return Ok(0);
            }
        }
        let want = buf.len().min(self.left);
        let got = self.reader.read(&mut buf[..want])?;
        self.left -= got;
        Ok(got)
    }
}

impl Client {
    /// A client of the socket at `socket`.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// `GET path`.
    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        self.request("GET", path, &[], b"")
    }

    /// `DELETE path`.
    #[track_caller]
    pub fn delete(&self, path: &str) -> Response {
        self.request("DELETE", path, &[], b"")
    }

    /// `POST path` with a JSON body; `Null` sends none.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Response {
        if body.is_null() {
            return self.request("POST", path, &[], b"");
        }
        let body = body.to_string();
        self.request("POST", path, &[("Content-Type", "application/json")], body.as_bytes())
    }

    /// Any request, answered whole.
    ///
    /// # Panics
    /// When the connection breaks.
    #[track_caller]
    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let head = request_head(method, path, headers, Some(body.len()));
        match self.raw(&[head.as_bytes(), body].concat()) {
            Ok(response) => response,
            Err(e) => panic!("{method} {path}: {e}"),
        }
    }

    /// Writes `bytes` as they are and reads one answer. A server that answers before it has read
    /// everything may close early, so a failed write is no error as long as an answer comes.
    ///
    /// # Errors
    /// No answer, or one that is not HTTP.
    pub fn raw(&self, bytes: &[u8]) -> io::Result<Response> {
        let mut socket = self.connect()?;
        _ = socket.write_all(bytes);
        let no_body = bytes.starts_with(b"HEAD");
        let mut stream = read_head(socket)?;
        let mut body = Vec::new();
        let length = stream.head.header("Content-Length").and_then(|v| v.parse::<u64>().ok());
        match length {
            _ if no_body || matches!(stream.head.status, 204 | 304 | 101) => {}
            Some(length) => _ = (&mut stream).take(length).read_to_end(&mut body)?,
            None => _ = stream.read_to_end(&mut body)?,
        }
        Ok(Response { head: stream.head, body })
    }

    /// A request whose answer is a stream: events, logs, attach. With `upgrade`, asks to take the
    /// connection over.
    ///
    /// # Panics
    /// When the connection breaks before the head of the answer.
    #[track_caller]
    pub fn stream(&self, method: &str, path: &str, upgrade: bool, body: &Value) -> Stream {
        let mut headers = vec![("Content-Type", "application/json")];
        if upgrade {
            headers.extend([("Connection", "Upgrade"), ("Upgrade", "tcp")]);
        }
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let head = request_head(method, path, &headers, Some(body.len()));
        let open = || {
            let mut socket = self.connect()?;
            socket.write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
            read_head(socket)
        };
        match open() {
            Ok(stream) => stream,
            Err(e) => panic!("{method} {path}: {e}"),
        }
    }

    /// A bare connection.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn connect(&self) -> io::Result<UnixStream> {
        let socket = UnixStream::connect(&self.socket)?;
        socket.set_read_timeout(Some(READ_LIMIT))?;
        socket.set_write_timeout(Some(READ_LIMIT))?;
        Ok(socket)
    }
}

fn request_head(method: &str, path: &str, headers: &[(&str, &str)], len: Option<usize>) -> String {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: docker\r\nUser-Agent: testkit\r\n");
    if !headers.iter().any(|(k, _)| k.eq_ignore_ascii_case("connection")) {
        head.push_str("Connection: close\r\n");
    }
    for (key, value) in headers {
        head.push_str(&format!("{key}: {value}\r\n"));
    }
    let chunked = headers.iter().any(|(k, _)| k.eq_ignore_ascii_case("transfer-encoding"));
    if let Some(len) = len.filter(|len| !chunked && (*len > 0 || method == "POST")) {
        head.push_str(&format!("Content-Length: {len}\r\n"));
    }
    head + "\r\n"
}

fn read_head(socket: UnixStream) -> io::Result<Stream> {
    let mut reader = BufReader::new(socket);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.trim_end().splitn(3, ' ');
    let proto = words.next().unwrap_or_default();
    let status = words.next().and_then(|s| s.parse().ok());
    let (true, Some(status)) = (proto.starts_with("HTTP/1."), status) else {
        return Err(io::Error::other(format!("not an HTTP answer: {line:?}")));
    };
    let mut head =
        Head { status, reason: words.next().unwrap_or_default().to_owned(), headers: Vec::new() };
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 || line.trim_end().is_empty() {
            break;
        }
        if let Some((key, value)) = line.trim_end().split_once(':') {
            head.headers.push((key.to_owned(), value.trim().to_owned()));
        }
    }
    let chunked = head.header("Transfer-Encoding").is_some_and(|v| v.contains("chunked"));
    Ok(Stream { head, reader, chunked, left: 0 })
}
