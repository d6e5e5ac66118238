//! Pushing blobs: in one request, in two, in chunks, by stream, by mount; and what may go wrong.

use super::Cx;
use crate::image::{and, noise, sha512};
use base::Digest;

/// Both digests of a blob.
fn digests(bytes: &[u8]) -> [Digest; 2] {
    [Digest::sha256(bytes), sha512(bytes)]
}

#[track_caller]
fn is_there(cx: &Cx, digest: &Digest, bytes: &[u8]) {
    let head = cx.client.head(&cx.blob(digest)).is(200);
    assert_eq!(head.header("content-length"), bytes.len().to_string());
    let got = cx.client.get(&cx.blob(digest)).is(200);
    assert!(got.body == bytes, "the bytes that come back differ");
    if cx.ours {
        assert_eq!(got.header("docker-content-digest"), digest.as_str());
    }
}

#[track_caller]
fn chunk(cx: &Cx, location: &str, start: usize, bytes: &[u8]) -> crate::http::Answer {
    let range = format!("{start}-{}", start + bytes.len() - 1);
    cx.client
        .ask("PATCH", location)
        .header("Content-Type", "application/octet-stream")
        .header("Content-Range", &range)
        .body(bytes)
        .send()
}

#[test]
fn post_alone_pushes_a_whole_blob() {
    let cx = Cx::new();
    for length in [100, 100_000] {
        let bytes = noise("post alone", length);
        for digest in digests(&bytes) {
            let url = format!("{}?digest={digest}", cx.uploads());
            let pushed = cx
                .client
                .ask("POST", &url)
                .header("Content-Type", "application/octet-stream")
                .body(&bytes)
                .send();
            if pushed.status == 202 {
                cx.skipped("a push by POST alone");
                let url = and(pushed.header("location"), &format!("digest={digest}"));
                cx.client.ask("PUT", &url).body(&bytes).send().is(201);
            } else {
                let pushed = pushed.is(201);
                assert!(pushed.header("location").contains(digest.as_str()));
            }
            is_there(&cx, &digest, &bytes);
        }
    }
}

#[test]
fn post_then_put_pushes_a_whole_blob() {
    let cx = Cx::new();
    for length in [100, 100_000] {
        let bytes = noise("post put", length);
        for digest in digests(&bytes) {
            let url = and(&cx.begin(), &format!("digest={digest}"));
            let pushed = cx.client.ask("PUT", &url).body(&bytes).send().is(201);
            assert!(pushed.header("location").ends_with(&format!("/blobs/{digest}")));
            is_there(&cx, &digest, &bytes);
        }
    }
}

#[test]
fn the_algorithm_may_be_said_in_advance() {
    let cx = Cx::new();
    let bytes = noise("algorithm", 50_000);
    let digest = sha512(&bytes);
    let begun = cx.client.post(&format!("{}?digest-algorithm=sha512", cx.uploads())).is(202);
    let url = and(begun.header("location"), &format!("digest={digest}"));
    cx.client.ask("PUT", &url).body(&bytes).send().is(201);
    is_there(&cx, &digest, &bytes);
    if cx.ours {
        cx.client
            .post(&format!("{}?digest-algorithm=md5", cx.uploads()))
            .fails(400, "DIGEST_INVALID");
    }
}

#[test]
fn one_chunk_then_put_pushes_a_blob() {
    let cx = Cx::new();
    let bytes = noise("one chunk", 40_000);
    for digest in digests(&bytes) {
        let sent = chunk(&cx, &cx.begin(), 0, &bytes).is(202);
        assert_eq!(sent.header("range"), "0-39999");
        let url = and(sent.header("location"), &format!("digest={digest}"));
        cx.client.ask("PUT", &url).body(b"").send().is(201);
        is_there(&cx, &digest, &bytes);
    }
}

#[test]
fn many_chunks_push_a_blob() {
    let cx = Cx::new();
    let bytes = noise("many chunks", 90_001);
    for digest in digests(&bytes) {
        let mut location = cx.begin();
        for (at, piece) in bytes.chunks(30_000).enumerate() {
            let sent = chunk(&cx, &location, at * 30_000, piece).is(202);
            assert_eq!(sent.header("range"), format!("0-{}", at * 30_000 + piece.len() - 1));
            location = sent.header("location").to_owned();
        }
        cx.client.ask("PUT", &and(&location, &format!("digest={digest}"))).body(b"").send().is(201);
        is_there(&cx, &digest, &bytes);
    }
}

#[test]
fn the_last_chunk_may_come_with_the_put() {
    let cx = Cx::new();
    let bytes = noise("last chunk", 70_000);
    for digest in digests(&bytes) {
        let sent = chunk(&cx, &cx.begin(), 0, &bytes[..50_000]).is(202);
        let url = and(sent.header("location"), &format!("digest={digest}"));
        cx.client
            .ask("PUT", &url)
            .header("Content-Range", "50000-69999")
            .body(&bytes[50_000..])
            .send()
            .is(201);
        is_there(&cx, &digest, &bytes);
    }
}

#[test]
fn a_chunk_out_of_order_is_refused_and_the_upload_goes_on() {
    let cx = Cx::new();
    let bytes = noise("out of order", 60_000);
    for digest in digests(&bytes) {
        let location = cx.begin();
        let early = chunk(&cx, &location, 30_000, &bytes[30_000..]);
        if early.status == 202 {
            return cx.skipped("the order of chunks");
        }
        early.is(416);
        let sent = chunk(&cx, &location, 0, &bytes[..30_000]).is(202);
        chunk(&cx, sent.header("location"), 0, &bytes[..30_000]).is(416);
        let asked = cx.client.get(sent.header("location")).is(204);
        assert_eq!(asked.header("range"), "0-29999");
        let again = chunk(&cx, asked.header("location"), 30_000, &bytes[30_000..]).is(202);
        let url = and(again.header("location"), &format!("digest={digest}"));
        cx.client.ask("PUT", &url).body(b"").send().is(201);
        is_there(&cx, &digest, &bytes);
    }
}

#[test]
fn a_last_chunk_out_of_order_is_refused() {
    let cx = Cx::new();
    let bytes = noise("last out of order", 60_000);
    let digest = Digest::sha256(&bytes);
    let sent = chunk(&cx, &cx.begin(), 0, &bytes[..30_000]).is(202);
    let url = and(sent.header("location"), &format!("digest={digest}"));
    let put = cx
        .client
        .ask("PUT", &url)
        .header("Content-Range", "40000-59999")
        .body(&bytes[40_000..])
        .send();
    if !cx.ours && put.status != 416 {
        return cx.skipped("the order of the last chunk");
    }
    put.is(416);
    cx.client
        .ask("PUT", &url)
        .header("Content-Range", "30000-59999")
        .body(&bytes[30_000..])
        .send()
        .is(201);
    is_there(&cx, &digest, &bytes);
}

#[test]
fn a_stream_of_unknown_length_pushes_a_blob() {
    let cx = Cx::new();
    let bytes = noise("stream", 300_000);
    for digest in digests(&bytes) {
        let sent = cx.client.ask("PATCH", &cx.begin()).body(&bytes).streamed().send().is(202);
        assert_eq!(sent.header("range"), "0-299999");
        let url = and(sent.header("location"), &format!("digest={digest}"));
        cx.client.ask("PUT", &url).body(b"").send().is(201);
        is_there(&cx, &digest, &bytes);
    }
}

#[test]
fn a_blob_is_mounted_from_another_repository() {
    let cx = Cx::new();
    for length in [100, 50_000] {
        let bytes = noise("mount", length);
        let digest = cx.client.push_blob(&cx.other, &bytes);
        let url = format!("{}?mount={digest}&from={}", cx.uploads(), cx.other);
        let mounted = cx.client.post(&url);
        if mounted.status == 202 {
            return cx.skipped("a mount");
        }
        let mounted = mounted.is(201);
        assert!(mounted.header("location").ends_with(&cx.blob(&digest)));
        is_there(&cx, &digest, &bytes);
    }
}

#[test]
fn a_blob_is_mounted_without_a_source() {
    let cx = Cx::new();
    let bytes = noise("anonymous mount", 50_000);
    let digest = cx.client.push_blob(&cx.other, &bytes);
    let mounted = cx.client.post(&format!("{}?mount={digest}", cx.uploads())).one_of(&[201, 202]);
    if mounted.status == 202 {
        return cx.skipped("a mount without a source");
    }
    is_there(&cx, &digest, &bytes);
}

#[test]
fn a_blob_that_is_missing_is_not_mounted() {
    let cx = Cx::new();
    let digest = Digest::sha256(&noise("missing mount", 10));
    for url in [
        format!("{}?mount={digest}&from={}", cx.uploads(), cx.other),
        format!("{}?mount={digest}&from=no/such/repository", cx.uploads()),
        format!("{}?mount={digest}", cx.uploads()),
    ] {
        cx.client.post(&url).is(202);
    }
    cx.client.head(&cx.blob(&digest)).is(404);
}

#[test]
fn an_upload_is_cancelled() {
    let cx = Cx::new();
    let bytes = noise("cancel", 1000);
    let sent = chunk(&cx, &cx.begin(), 0, &bytes).is(202);
    let location = sent.header("location").to_owned();
    cx.client.delete(&location).is(204);
    cx.client.get(&location).is(404);
    let put = and(&location, &format!("digest={}", Digest::sha256(&bytes)));
    cx.client.ask("PUT", &put).body(b"").send().is(404);
    cx.client.delete(&location).is(404);
}

#[test]
fn a_wrong_digest_is_refused_on_every_way_and_nothing_is_stored() {
    let cx = Cx::new();
    for length in [1000, 50_000] {
        let bytes = noise("wrong digest", length);
        for wrong in digests(b"something else") {
            let digest = format!("digest={wrong}");
            let alone = cx.client.ask("POST", &and(&cx.uploads(), &digest)).body(&bytes).send();
            if alone.status != 202 {
                alone.is(400);
            }
            cx.client.ask("PUT", &and(&cx.begin(), &digest)).body(&bytes).send().is(400);
            let sent = chunk(&cx, &cx.begin(), 0, &bytes).is(202);
            let end = and(sent.header("location"), &digest);
            let refused = cx.client.ask("PUT", &end).body(b"").send().is(400);
            assert_eq!(refused.code(), "DIGEST_INVALID");
            let sent = cx.client.ask("PATCH", &cx.begin()).body(&bytes).streamed().send().is(202);
            let end = and(sent.header("location"), &digest);
            cx.client.ask("PUT", &end).body(b"").send().is(400);
            cx.client.head(&cx.blob(&wrong)).is(404);
        }
        cx.client.head(&cx.blob(Digest::sha256(&bytes))).is(404);
    }
}

#[test]
fn a_digest_that_is_none_is_refused() {
    let cx = Cx::new();
    for bad in
        ["", "sha256:", "sha256:1234", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:../../x"]
    {
        let url = and(&cx.begin(), &format!("digest={bad}"));
        cx.client.ask("PUT", &url).body(b"x").send().is(400);
    }
    cx.client.ask("PUT", &cx.begin()).body(b"x").send().is(400);
}

#[test]
fn the_empty_blob_and_the_empty_object_are_blobs() {
    let cx = Cx::new();
    for bytes in [b"".as_slice(), b"{}"] {
        for digest in digests(bytes) {
            let url = and(&cx.begin(), &format!("digest={digest}"));
            cx.client.ask("PUT", &url).body(bytes).send().is(201);
            is_there(&cx, &digest, bytes);
        }
    }
}

#[test]
fn an_upload_that_is_unknown_is_not_found() {
    let cx = Cx::new();
    let location = format!("{}00000000-0000-4000-8000-000000000000", cx.uploads());
    cx.client.ask("PATCH", &location).body(b"x").send().is(404);
    if cx.ours {
        cx.client.get(&location).fails(404, "BLOB_UPLOAD_UNKNOWN");
    }
}
