//! Deleting.

use super::Cx;
use crate::image::{manifest, noise};
use base::Digest;

#[test]
fn a_blob_is_gone_at_once_when_it_is_deleted() {
    let cx = Cx::new().fresh("blob");
    for length in [100, 50_000] {
        let bytes = noise("delete blob", length);
        let digest = cx.client.push_blob(&cx.name, &bytes);
        let gone = cx.client.delete(&cx.blob(&digest)).one_of(&[202, 404, 405]);
        if gone.status != 202 {
            return cx.skipped("deleting a blob");
        }
        cx.client.head(&cx.blob(&digest)).is(404);
        cx.client.get(&cx.blob(&digest)).fails(404, "BLOB_UNKNOWN");
        cx.client.delete(&cx.blob(&digest)).is(404);
        // It may come back.
        cx.client.push_blob(&cx.name, &bytes);
        cx.client.get(&cx.blob(&digest)).is(200);
    }
}

#[test]
fn deleting_a_manifest_takes_its_tags_and_leaves_its_blobs() {
    let cx = Cx::new().fresh("manifest");
    let layer = noise("delete manifest", 1000);
    cx.client.push_blob(&cx.name, &layer);
    let value = manifest(&layer, &[]);
    let digest = Digest::sha256(value.to_string().as_bytes());
    for tag in ["a", "b"] {
        cx.client.put_manifest(&cx.name, tag, &value).is(201);
    }
    let gone = cx.client.delete(&cx.manifest(&digest)).one_of(&[202, 404, 405]);
    if gone.status != 202 {
        return cx.skipped("deleting a manifest");
    }
    for reference in ["a", "b", digest.as_str()] {
        cx.client.get(&cx.manifest(reference)).is(404);
    }
    cx.client.delete(&cx.manifest(&digest)).is(404);
    let listed = cx.client.get(&format!("/v2/{}/tags/list", cx.name)).one_of(&[200, 404]);
    assert!(listed.tags().is_empty());
    cx.client.head(&cx.blob(Digest::sha256(&layer))).is(200);
}

#[test]
fn deleting_a_tag_leaves_the_others() {
    let cx = Cx::new().fresh("tag");
    let layer = noise("delete tag", 1000);
    cx.client.push_blob(&cx.name, &layer);
    let value = manifest(&layer, &[]);
    for tag in ["a", "b"] {
        cx.client.put_manifest(&cx.name, tag, &value).is(201);
    }
    let gone = cx.client.delete(&cx.manifest("a"));
    if gone.status != 202 {
        return cx.skipped("deleting a tag");
    }
    cx.client.get(&cx.manifest("a")).is(404);
    cx.client.get(&cx.manifest("b")).is(200);
    cx.client.delete(&cx.manifest("a")).is(404);
    assert_eq!(cx.client.get(&format!("/v2/{}/tags/list", cx.name)).tags(), ["b"]);
}

#[test]
fn a_blob_that_a_manifest_needs_is_not_deleted() {
    let cx = Cx::new().fresh("needed");
    if !cx.ours {
        return;
    }
    let layer = noise("needed", 1000);
    let digest = cx.client.push_blob(&cx.name, &layer);
    cx.client.put_manifest(&cx.name, "a", &manifest(&layer, &[])).is(201);
    cx.client.delete(&cx.blob(&digest)).fails(405, "UNSUPPORTED");
    assert!(cx.client.has_image(&cx.name, "a"));
}

#[test]
fn what_is_not_supported_says_what_is() {
    let cx = Cx::new();
    let answer = cx.client.ask("DELETE", &format!("/v2/{}/tags/list", cx.name)).send();
    if cx.ours {
        assert_eq!(answer.fails(405, "UNSUPPORTED").header("allow"), "GET, HEAD");
    }
}
