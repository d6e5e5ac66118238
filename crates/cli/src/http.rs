//! HTTP/1.1 from the client's side, as much as the engine's API uses: one request per connection, bodies
//! by length, chunked or to the end, and upgraded connections.
//!
//! Invariants: head and chunk lines are bounded; a body ends where it says or with an error, never early
//! without one.

use crate::connect::Socket;
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::fd::{AsFd, BorrowedFd},
};

/// An answer whose body is still to be read.
#[derive(Debug)]
pub(crate) struct Response {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Body,
}

impl Response {
    /// The first header of this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// A body.
#[derive(Debug)]
pub(crate) struct Body {
    reader: BufReader<Socket>,
    extent: Extent,
}

#[derive(Debug)]
enum Extent {
    /// So many bytes more.
    Length(u64),
    /// So many bytes of this chunk; `None` before the first.
    Chunked(Option<u64>),
    /// Until the other side closes.
    ToEnd,
}

/// Writes a body.
pub(crate) type Produce<'a> =
    Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + std::marker::Send + 'a>;

/// A body that is read from somewhere.
pub(crate) fn copied<'a>(source: &'a mut (dyn Read + std::marker::Send)) -> Produce<'a> {
    Box::new(move |out| {
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match source.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => out.write_all(&buffer[..n])?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    })
}

/// What to send with a request.
pub(crate) enum Send<'a> {
    Nothing,
    Json(Vec<u8>),
    /// Chunked, of this media type.
    Stream(Produce<'a>, &'static str),
    /// Asks for the connection itself.
    Upgrade(Vec<u8>),
    /// Asks for the connection, to speak this protocol on it.
    Switch(&'static str),
}

const LONGEST_LINE: u64 = 64 * 1024;

/// Sends a request and reads the answer's head. A streamed body is sent by a second thread, because the
/// engine may answer before it has read all.
pub(crate) fn request(
    mut socket: Socket,
    method: &str,
    target: &str,
    headers: &[(String, String)],
    send: Send<'_>,
) -> io::Result<Response> {
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: api.moby.localhost\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    match send {
        Send::Nothing => {
            // A body-less POST says so, or some servers wait for one.
            if method != "GET" && method != "HEAD" {
                head.push_str("Content-Length: 0\r\n");
            }
            head.push_str("\r\n");
            socket.write_all(head.as_bytes())?;
            read_head(socket, method)
        }
        Send::Json(body) => {
            let length = body.len();
            head.push_str(&format!(
                "Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
            ));
            let mut all = head.into_bytes();
            all.extend_from_slice(&body);
            socket.write_all(&all)?;
            read_head(socket, method)
        }
        Send::Upgrade(body) => {
            let length = body.len();
            head.push_str("Connection: Upgrade\r\nUpgrade: tcp\r\n");
            if !body.is_empty() {
                head.push_str("Content-Type: application/json\r\n");
            }
            head.push_str(&format!("Content-Length: {length}\r\n\r\n"));
            let mut all = head.into_bytes();
            all.extend_from_slice(&body);
            socket.write_all(&all)?;
            read_head(socket, method)
        }
        Send::Switch(protocol) => {
            head.push_str(&format!("Connection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"));
            socket.write_all(head.as_bytes())?;
            read_head(socket, method)
        }
        Send::Stream(produce, media) => {
            head.push_str(&format!("Content-Type: {media}\r\nTransfer-Encoding: chunked\r\n\r\n"));
            socket.write_all(head.as_bytes())?;
            let sender = socket.try_clone()?;
            std::thread::scope(|scope| {
                let sending = scope.spawn(move || send_chunks(sender, produce));
                let answer = read_head(socket, method);
                let sent =
                    sending.join().unwrap_or_else(|_| Err(io::Error::other("sending failed")));
                let closed = |e: &io::Error| {
                    matches!(e.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
                };
                // An answer before the end of the body says more than our failing to send the rest.
                match (answer, sent) {
                    (Ok(answer), Ok(())) => Ok(answer),
                    (Ok(answer), Err(err)) if closed(&err) => Ok(answer),
                    (_, Err(err)) | (Err(err), Ok(())) => Err(err),
                }
            })
        }
    }
}

fn send_chunks(socket: Socket, produce: Produce<'_>) -> io::Result<()> {
    let mut chunks = Chunks { socket, buffer: Vec::with_capacity(CHUNK) };
    let sent = produce(&mut chunks).and_then(|()| chunks.end());
    if sent.is_err() {
        // The other side must not wait for an end that will not come.
        let _ = chunks.socket.finish();
    }
    sent
}

const CHUNK: usize = 128 * 1024;

/// Gathers what is written into chunks.
struct Chunks {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Chunks {
    fn send(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.socket.write_all(format!("{:x}\r\n", self.buffer.len()).as_bytes())?;
        self.buffer.extend_from_slice(b"\r\n");
        self.socket.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        self.send()?;
        self.socket.write_all(b"0\r\n\r\n")
    }
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > CHUNK {
            self.send()?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed HTTP response: {what}"))
}

fn read_line(reader: &mut BufReader<Socket>) -> io::Result<String> {
    let mut line = Vec::new();
    reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).map_err(|_| bad("header is not text"))
}

fn read_head(socket: Socket, method: &str) -> io::Result<Response> {
    let mut reader = BufReader::with_capacity(64 * 1024, socket);
    loop {
        let line = read_line(&mut reader)?;
        let mut words = line.split(' ');
        let http = words.next().is_some_and(|w| w.starts_with("HTTP/1."));
        let status: u16 = words.next().and_then(|w| w.parse().ok()).ok_or_else(|| bad("status"))?;
        if !http {
            return Err(bad("not HTTP"));
        }
        let mut headers = Vec::new();
        loop {
            let line = read_line(&mut reader)?;
            if line.is_empty() {
                break;
            }
            if headers.len() > 200 {
                return Err(bad("too many headers"));
            }
            let (name, value) = line.split_once(':').ok_or_else(|| bad("header"))?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        // 100-continue and its kin come before the answer.
        if (100..200).contains(&status) && status != 101 {
            continue;
        }
        let mut response =
            Response { status, headers, body: Body { reader, extent: Extent::ToEnd } };
        response.body.extent = extent(&response, method)?;
        return Ok(response);
    }
}

fn extent(response: &Response, method: &str) -> io::Result<Extent> {
    if response.status == 101 {
        return Ok(Extent::ToEnd);
    }
    if method == "HEAD" || matches!(response.status, 204 | 304) {
        return Ok(Extent::Length(0));
    }
    if response.header("Transfer-Encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
        return Ok(Extent::Chunked(None));
    }
    match response.header("Content-Length") {
        Some(length) => length.parse().map(Extent::Length).map_err(|_| bad("length")),
        None => Ok(Extent::ToEnd),
    }
}

impl Body {
    /// The connection and what was read of it already.
    pub(crate) fn into_socket(self) -> (Socket, Vec<u8>) {
        let early = self.reader.buffer().to_vec();
        (self.reader.into_inner(), early)
    }

    /// Whether something was read ahead, so that waiting for the connection would be wrong.
    pub(crate) fn is_buffered(&self) -> bool {
        !self.reader.buffer().is_empty()
    }

    /// All of it, up to `most` bytes.
    pub(crate) fn read_all(&mut self, most: u64) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        self.take(most).read_to_end(&mut all)?;
        Ok(all)
    }

    fn next_chunk(&mut self, first: bool) -> io::Result<u64> {
        if !first && !read_line(&mut self.reader)?.is_empty() {
            return Err(bad("chunk end"));
        }
        let line = read_line(&mut self.reader)?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(digits, 16).map_err(|_| bad("chunk size"))?;
        if size == 0 {
            while !read_line(&mut self.reader)?.is_empty() {}
        }
        Ok(size)
    }
}

impl AsFd for Body {
    /// Readable when there is more; nothing of the body may be buffered then.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.get_ref().as_fd()
    }
}

impl Read for Body {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = match self.extent {
            Extent::ToEnd => return self.reader.read(into),
            Extent::Length(left) => left,
            Extent::Chunked(Some(left)) if left > 0 => left,
            Extent::Chunked(state) => {
                let size = self.next_chunk(state.is_none())?;
                self.extent =
                    if size == 0 { Extent::Length(0) } else { Extent::Chunked(Some(size)) };
                size
            }
        };
        if left == 0 || into.is_empty() {
            return Ok(0);
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(into.len());
        let n = self.reader.read(&mut into[..most])?;
        if n == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "unexpected EOF"));
        }
        let left = left - n as u64;
        self.extent = match self.extent {
            Extent::Chunked(_) => Extent::Chunked(Some(left)),
            _ => Extent::Length(left),
        };
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    fn answer(bytes: &'static [u8]) -> io::Result<(Response, Vec<u8>)> {
        let (ours, mut theirs) = UnixStream::pair()?;
        let server = std::thread::spawn(move || {
            let mut head = [0; 4096];
            let _ = theirs.read(&mut head);
            theirs.write_all(bytes).unwrap();
        });
        let got = request(Socket::Unix(ours), "GET", "/x", &[], Send::Nothing);
        server.join().unwrap();
        let mut got = got?;
        let body = got.body.read_all(1 << 20)?;
        Ok((got, body))
    }

    #[test]
    fn bodies_are_read_in_all_forms() {
        for bytes in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhellorest"[..],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\nhello",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\nContent-length: 5\n\nhello",
        ] {
            let (response, body) = answer(bytes).unwrap();
            assert_eq!((response.status, body.as_slice()), (200, &b"hello"[..]));
        }
        assert_eq!(answer(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().1, b"");
    }

    #[test]
    fn a_cut_or_wrong_answer_is_an_error() {
        for bytes in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello"[..],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"SSH-2.0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nrubbish\r\n\r\n",
            b"HTTP/1.1 2",
            b"",
        ] {
            assert!(answer(bytes).is_err());
        }
    }
}
