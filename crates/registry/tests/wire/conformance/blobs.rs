//! Pulling blobs.

use super::Cx;
use crate::image::noise;
use base::Digest;

#[test]
fn the_registry_says_that_it_is_one() {
    let cx = Cx::new();
    cx.client.get("/v2/").is(200);
    if cx.ours {
        let answer = cx.client.get("/v2/");
        assert_eq!(answer.header("docker-distribution-api-version"), "registry/2.0");
    }
}

#[test]
fn a_blob_that_is_missing_is_not_found() {
    let cx = Cx::new();
    cx.client.push_blob(&cx.name, b"so that the repository is there");
    let digest = Digest::sha256(&noise("missing blob", 10));
    cx.client.head(&cx.blob(&digest)).is(404);
    cx.client.get(&cx.blob(&digest)).fails(404, "BLOB_UNKNOWN");
}

#[test]
fn a_blob_is_read_and_its_length_told() {
    let cx = Cx::new();
    for length in [1, 32 << 10, (32 << 10) + 1, 1_000_000] {
        let bytes = noise("read", length);
        let digest = cx.client.push_blob(&cx.name, &bytes);
        let head = cx.client.head(&cx.blob(&digest)).is(200);
        assert_eq!(head.header("content-length"), length.to_string());
        assert!(head.body.is_empty());
        let got = cx.client.get(&cx.blob(&digest)).is(200);
        assert!(got.body == bytes);
        assert_eq!(got.header("docker-content-digest"), digest.as_str());
    }
}

#[test]
fn a_blob_of_another_repository_is_not_found() {
    let cx = Cx::new();
    let digest = cx.client.push_blob(&cx.other, &noise("elsewhere", 100));
    cx.client.get(&cx.blob(&digest)).is(404);
}

#[test]
fn a_blob_that_the_client_has_is_not_sent_again() {
    let cx = Cx::new();
    let digest = cx.client.push_blob(&cx.name, &noise("etag", 100));
    let tag = cx.client.get(&cx.blob(&digest)).is(200).header("etag").to_owned();
    let again = cx.client.ask("GET", &cx.blob(&digest)).header("If-None-Match", &tag).send();
    if !cx.ours && again.status == 200 {
        return cx.skipped("conditional reads");
    }
    assert!(again.is(304).body.is_empty());
}
