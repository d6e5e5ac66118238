//! Large blobs on their ways out without TLS: as the kernel sends them, and where every byte has to be seen.

use crate::{image::noise, server::Server};
use base::Digest;
use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

const LENGTH: usize = 5 << 20;

fn with_blob(server: &Server) -> (Vec<u8>, String) {
    let bytes = noise("large blob", LENGTH);
    let digest = server.client().push_blob("large", &bytes);
    (bytes, format!("/v2/large/blobs/{digest}"))
}

#[test]
fn answers_to_several_requests_at_once_come_one_after_the_other() {
    let server = Server::start();
    let (bytes, path) = with_blob(&server);
    // Odd ones, more than a piece, a byte, all of it; between them what is no file.
    let ranges = [3..LENGTH, 0..1, 1_048_576..2_097_152, 70_000..3_000_001, 0..LENGTH];
    let mut asked = String::new();
    for range in &ranges {
        asked += &format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nRange: bytes={}-{}\r\n\r\n",
            range.start,
            range.end - 1
        );
        asked += "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n";
        asked += &format!("HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    asked += "GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(asked.as_bytes()).unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    let mut rest = &got[..];
    let mut bodies = Vec::new();
    while !rest.is_empty() {
        let end = rest.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        let head = String::from_utf8(rest[..end].to_vec()).unwrap().to_lowercase();
        let length = head.split("content-length: ").nth(1).unwrap().split('\r').next().unwrap();
        // Of the three in turn the last is HEAD.
        let length: usize = if bodies.len() % 3 == 2 { 0 } else { length.parse().unwrap() };
        bodies.push(&rest[end..end + length]);
        rest = &rest[end + length..];
    }
    assert_eq!(bodies.len(), ranges.len() * 3 + 1);
    for (range, body) in ranges.into_iter().zip(bodies.iter().step_by(3)) {
        assert!(*body == &bytes[range.clone()], "{range:?}");
    }
}

#[test]
fn http_2_without_tls_gets_the_bytes() {
    let server = Server::start();
    let (bytes, path) = with_blob(&server);
    let url = format!("{}{path}", server.url());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let got = runtime.block_on(async {
        // It wants to know how it would speak TLS.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
        let answer = client.get(url).send().await.unwrap();
        assert_eq!(answer.version(), http::Version::HTTP_2);
        answer.bytes().await.unwrap()
    });
    assert_eq!(Digest::sha256(&got), Digest::sha256(&bytes));
}
