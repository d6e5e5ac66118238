use super::*;
use crate::model::{JsonMessage, Version};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixListener,
};

/// A server that gives canned answers, one a connection, and returns the requests it saw.
async fn canned(
    answers: Vec<&'static [u8]>,
) -> (tempfile::TempDir, Client, tokio::task::JoinHandle<Vec<String>>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let served = tokio::spawn(async move {
        let mut seen = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            seen.push(String::from_utf8_lossy(&request[..length]).into_owned());
            stream.write_all(answer).await.unwrap();
        }
        seen
    });
    let client = Client::new(&format!("unix://{}", path.display())).unwrap();
    (dir, client, served)
}

const PING: &[u8] = b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 0\r\n\r\n";

#[tokio::test]
async fn the_older_version_is_spoken_and_json_is_read() {
    let body =
        b"HTTP/1.1 200 OK\r\nContent-Length: 28\r\n\r\n{\"version\":\"9\",\"Os\":null}\n\n\n";
    let (_dir, client, served) = canned(vec![PING, body]).await;
    let version: Version = client
        .send(Request::get("/version").query("a b", "c&d").query("a b", "é"))
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!((version.version.as_str(), version.os.as_str()), ("9", ""));
    let seen = served.await.unwrap();
    assert!(seen[0].starts_with("HEAD /_ping HTTP/1.1\r\n"), "{}", seen[0]);
    assert!(
        seen[1].starts_with("GET /v1.41/version?a%20b=c%26d&a%20b=%C3%A9 HTTP/1.1\r\n"),
        "{}",
        seen[1]
    );
}

#[tokio::test]
async fn errors_carry_kind_and_message_of_the_server() {
    let missing =
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 32\r\n\r\n{\"message\":\"No such image: x:y\"}";
    let bare = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";
    let (_dir, client, _served) = canned(vec![PING, missing, bare]).await;
    let err = client.send(Request::post("/images/x/tag")).await.unwrap_err();
    assert_eq!((err.kind(), err.to_string().as_str()), (Kind::NotFound, "No such image: x:y"));
    let err = client.send(Request::post("/x").json(&7)).await.unwrap_err();
    assert_eq!(err.kind(), Kind::Internal);
    let none = Client::new("unix:///nonexistent/s").unwrap();
    let err = none.send(Request::get("/info")).await.unwrap_err();
    assert_eq!(
        err.to_string(),
        "Cannot connect to the daemon at unix:///nonexistent/s. Is the daemon running?"
    );
}

#[tokio::test]
async fn progress_lines_come_one_by_one_and_end_with_their_error() {
    let body = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
        14\r\n{\"stream\":\"a\"}\r\n{\"st\r\nb\r\nream\":\"b\"}\n\r\n2b\r\n{\"errorDetail\":{\"message\":\"x\"},\"error\":\"x\"}\r\n0\r\n\r\n";
    let (_dir, client, _served) = canned(vec![PING, body]).await;
    let mut lines = client.send(Request::post("/build")).await.unwrap().lines::<JsonMessage>();
    assert_eq!(lines.progress().await.unwrap().unwrap().stream, "a");
    assert_eq!(lines.progress().await.unwrap().unwrap().stream, "b");
    assert_eq!(lines.progress().await.unwrap_err().to_string(), "x");
    assert!(lines.progress().await.unwrap().is_none());
}

#[tokio::test]
async fn a_handed_over_connection_is_read_in_frames() {
    let body = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\
        Content-Type: application/vnd.docker.multiplexed-stream\r\n\r\n\
        \x01\0\0\0\0\0\0\x02hi\x02\0\0\0\0\0\0\x03err\x01\0\0\0\0\0\0\x09cut";
    let (_dir, client, _served) = canned(vec![PING, body]).await;
    let response = client.send(Request::post("/containers/x/attach").upgrade()).await.unwrap();
    let mut taken = response.hijack().await.unwrap();
    assert!(taken.framed);
    taken.input.close().await;
    let mut got = Vec::new();
    while let Some(frame) = taken.output.next().await.unwrap() {
        got.push((frame.stream, frame.data));
    }
    let want: [(_, &[u8]); 3] =
        [(StreamKind::Stdout, b"hi"), (StreamKind::Stderr, b"err"), (StreamKind::Stdout, b"cut")];
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(want) {
        assert_eq!((got.0, &got.1[..]), want);
    }
}

#[test]
fn hosts_are_parsed() {
    assert_eq!(Client::new("tcp://localhost").unwrap().place, Place::Tcp("localhost:2375".into()));
    assert_eq!(Client::new("tcp://[::1]:7/").unwrap().place, Place::Tcp("[::1]:7".into()));
    for bad in ["", "unix://", "localhost:1", "npipe:////x", "ssh://x"] {
        assert!(Client::new(bad).is_err(), "{bad}");
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_cut_into_frames_or_refused(bytes in proptest::collection::vec(0_u8..5, 0..64)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut frames = Frames::new(&bytes[..], true);
            while let Ok(Some(_)) = frames.next().await {}
        });
    }
}
