use super::*;
use std::{net::TcpListener, thread};
use tokio::sync::mpsc;

/// Answers one request per given answer.
fn serve(answers: Vec<Vec<u8>>) -> (String, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut byte = [0; 1];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                request.push(byte[0]);
            }
            let _gone = stream.write_all(&answer);
        }
    });
    (format!("http://{address}"), server)
}

fn answer(head: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
        .into_bytes()
}

/// Downloads run inside the engine's runtime, on threads that may block.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn output() -> (Output, mpsc::Receiver<Message>) {
    let (sender, receiver) = mpsc::channel(100);
    (Output::new(sender), receiver)
}

#[test]
fn a_file_is_fetched_with_its_time_and_name() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let (url, server) =
        serve(vec![answer("200 OK\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT", "content")]);
    let dir = tempfile::tempdir().unwrap();
    let (output, _messages) = output();
    let got = fetch(&format!("{url}/a/b%20c.txt?x=/y"), &dir.path().join("d"), &output).unwrap();
    server.join().unwrap();
    assert_eq!(got.name.as_deref(), Some("b c.txt"));
    assert_eq!(got.digest, Digest::sha256(b"content"));
    let path = dir.path().join("d/b c.txt");
    assert_eq!(fs::read(&path).unwrap(), b"content");
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    assert_eq!(time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(), 784_111_777);
}

#[test]
fn a_server_names_no_path() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let header = "200 OK\r\nContent-Disposition: attachment; filename=\"../../etc/x\"";
    let (url, server) = serve(vec![answer(header, "a")]);
    let dir = tempfile::tempdir().unwrap();
    let (output, _messages) = output();
    let got = fetch(&format!("{url}/"), &dir.path().join("d"), &output).unwrap();
    server.join().unwrap();
    assert_eq!(got.name.as_deref(), Some("x"));
    assert_eq!(disposition("attachment; filename=\"..\""), None);
    assert_eq!(name_of_path("http://h/%2e%2e"), None);
    assert_eq!(name_of_path("http://h/a%2fb"), None);
}

#[test]
fn refusals_and_wrong_places_are_errors() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let (url, server) = serve(vec![
        answer("404 Not Found", "nothing here\n"),
        answer("302 Found\r\nLocation: http://169.254.169.254/latest/meta-data/", ""),
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n".to_vec(),
    ]);
    let gone = open(&format!("{url}/x")).unwrap_err().chain();
    assert_eq!(gone, format!("failed to GET {url}/x with status 404 Not Found: nothing here"));
    let local = open(&format!("{url}/meta")).unwrap_err().chain();
    assert!(local.contains("link-local addresses are not allowed"), "{local}");
    let large = open(&format!("{url}/large")).unwrap_err().chain();
    assert!(large.contains("is larger than"), "{large}");
    server.join().unwrap();
    // Whatever a server makes of such a place, it is never a file of this machine.
    let (url, server) = serve(vec![
        answer("302 Found\r\nLocation: file:///etc/passwd", ""),
        answer("404 Not Found", ""),
    ]);
    assert!(open(&format!("{url}/file")).is_err());
    drop(std::net::TcpStream::connect(url.trim_start_matches("http://")));
    server.join().unwrap();
    for bad in ["http://", "http://[", "https://169.254.1.1/x", "gopher://x/"] {
        assert!(open(bad).is_err(), "{bad}");
    }
}

#[test]
fn passwords_are_not_shown() {
    assert_eq!(without_password("https://u:p@h/x?a@b"), "https://xxxxx@h/x?a@b");
    assert_eq!(without_password("https://h/x@y"), "https://h/x@y");
}
