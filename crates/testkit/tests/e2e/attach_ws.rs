//! Attach over a WebSocket, with frames written by hand.

use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use testkit::{Cx, cases, suite::Case};

pub const CASES: &[Case] = cases![
    a_websocket_carries_both_directions,
    output_is_never_framed,
    handshakes_that_are_none_are_refused,
];

/// A connection behind its handshake.
struct Web(std::os::unix::net::UnixStream);

impl Web {
    fn open(cx: &Cx<'_>, path: &str) -> Self {
        let mut socket = cx.api().connect().unwrap();
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://localhost\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\r\n\r\n") {
            socket.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        // The example of RFC 6455.
        assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
        Self(socket)
    }

    fn send(&mut self, opcode: u8, data: &[u8]) {
        let mask = [1, 2, 3, 4];
        let mut frame = vec![0x80 | opcode, 0x80 | u8::try_from(data.len()).unwrap()];
        frame.extend_from_slice(&mask);
        frame.extend(data.iter().zip(mask.iter().cycle()).map(|(d, m)| d ^ m));
        self.0.write_all(&frame).unwrap();
    }

    /// Opcode and payload of the next frame; `None` at the end of the connection.
    fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).ok()?;
        let mut length = u64::from(head[1] & 0x7f);
        if length == 126 {
            let mut long = [0; 2];
            self.0.read_exact(&mut long).ok()?;
            length = u16::from_be_bytes(long).into();
        } else if length == 127 {
            let mut long = [0; 8];
            self.0.read_exact(&mut long).ok()?;
            length = u64::from_be_bytes(long);
        }
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.0.read_exact(&mut payload).ok()?;
        Some((head[0] & 0x0f, payload))
    }

    /// All output until the other side closes, and the kinds of its messages.
    fn rest(&mut self) -> (Vec<u8>, Vec<u8>) {
        let (mut kinds, mut text) = (Vec::new(), Vec::new());
        while let Some((opcode, payload)) = self.frame() {
            if opcode == 8 {
                break;
            }
            kinds.push(opcode);
            text.extend(payload);
        }
        (kinds, text)
    }
}

fn create(cx: &Cx<'_>, part: &str, extra: &Value) -> String {
    let name = cx.name(part);
    let mut body = json!({"Image": "busybox", "OpenStdin": true, "StdinOnce": true});
    for (key, value) in extra.as_object().unwrap() {
        body[key] = value.clone();
    }
    cx.api().post(&format!("/v1.41/containers/create?name={name}"), &body).expect(201);
    name
}

fn a_websocket_carries_both_directions(cx: &Cx<'_>) {
    let name = create(cx, "a", &json!({"Cmd": ["sh", "-c", "read x; echo got $x; echo err >&2"]}));
    let path = format!("/v1.41/containers/{name}/attach/ws?stream=1&stdin=1&stdout=1&stderr=1");
    let mut web = Web::open(cx, &path);
    cx.docker(&["start", &name]).ok();
    web.send(2, b"hello\n");
    let (kinds, text) = web.rest();
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("got hello\n") && text.contains("err\n"), "{text:?}");
    assert!(kinds.iter().all(|k| *k == 2), "binary since 1.28: {kinds:?}");
    // Text before that, and with a terminal.
    let name = create(cx, "b", &json!({"Cmd": ["sh", "-c", "read x; echo got $x"], "Tty": true}));
    let path = format!("/v1.27/containers/{name}/attach/ws?stream=1&stdin=1&stdout=1");
    let mut web = Web::open(cx, &path);
    cx.docker(&["start", &name]).ok();
    web.send(1, b"typed\n");
    let (kinds, text) = web.rest();
    assert!(String::from_utf8_lossy(&text).contains("got typed"), "{text:?}");
    assert!(kinds.iter().all(|k| *k == 1), "{kinds:?}");
}

fn output_is_never_framed(cx: &Cx<'_>) {
    let name = create(cx, "a", &json!({"Cmd": ["sh", "-c", "read x; seq 1 20000"]}));
    let path = format!("/v1.41/containers/{name}/attach/ws?stream=1&stdin=1&stdout=1");
    let mut web = Web::open(cx, &path);
    cx.docker(&["start", &name]).ok();
    web.send(2, b"\n");
    let (_, text) = web.rest();
    let want: String = (1..=20000).map(|n| format!("{n}\n")).collect();
    assert!(text == want.as_bytes(), "{} bytes", text.len());
}

fn handshakes_that_are_none_are_refused(cx: &Cx<'_>) {
    let name = create(cx, "a", &json!({"Cmd": ["true"]}));
    let path = format!("/v1.41/containers/{name}/attach/ws?stream=1");
    let answer = cx.api().get(&path);
    assert!(matches!(answer.status(), 400 | 403 | 500), "{}", answer.text());
    let old = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "7")];
    let answer = cx.api().request("GET", &path, &old, b"");
    assert!(matches!(answer.status(), 400 | 403 | 426 | 500), "{}", answer.text());
    if cx.is_gantry() {
        let good = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let none = "/v1.41/containers/none-such/attach/ws?stream=1";
        cx.api().request("GET", none, &good, b"").fails(404, &["No such container"]);
    }
}
