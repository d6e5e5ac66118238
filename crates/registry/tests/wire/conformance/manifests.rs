//! The data sets of the suite: each is pushed by digest and by tag, listed, looked at, pulled, and deleted.

use super::Cx;
use crate::image::{
    EMPTY, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, artifact, descriptor, index, manifest, noise, sha512,
};
use base::Digest;
use serde_json::{Value, json};

/// A manifest's bytes go the whole way. What it points to has been pushed.
#[track_caller]
fn goes_through(cx: &Cx, tag: &str, kind: &str, bytes: &[u8]) {
    let digest = Digest::sha256(bytes);
    let put = cx.client.put_manifest_bytes(&cx.name, digest.as_str(), kind, bytes).is(201);
    assert!(put.header("location").ends_with(&cx.manifest(&digest)), "{}", put.header("location"));
    cx.client.put_manifest_bytes(&cx.name, tag, kind, bytes).is(201);

    let listed = cx.client.get(&format!("/v2/{}/tags/list", cx.name)).is(200).tags();
    assert!(listed.iter().any(|t| t == tag), "{tag} in {listed:?}");
    for reference in [digest.as_str(), tag] {
        let ask =
            |method| cx.client.ask(method, &cx.manifest(reference)).header("Accept", kind).send();
        let head = ask("HEAD").is(200);
        assert_eq!(head.header("content-length"), bytes.len().to_string());
        assert_eq!(head.header("docker-content-digest"), digest.as_str());
        let got = ask("GET").is(200);
        assert!(got.body == bytes, "byte for byte");
        assert_eq!(got.header("content-type"), kind);
        assert_eq!(got.header("docker-content-digest"), digest.as_str());
    }

    let gone = cx.client.delete(&cx.manifest(tag));
    if gone.status == 202 {
        cx.client.get(&cx.manifest(tag)).is(404);
        cx.client.get(&cx.manifest(&digest)).is(200);
    } else {
        cx.skipped("deleting a tag");
        gone.one_of(&[400, 405]);
    }
    let gone = cx.client.delete(&cx.manifest(&digest)).one_of(&[202, 405]);
    if gone.status == 405 {
        return cx.skipped("deleting a manifest");
    }
    cx.client.get(&cx.manifest(&digest)).is(404);
    cx.client.head(&cx.manifest(tag)).is(404);
}

#[track_caller]
fn value_goes_through(cx: &Cx, tag: &str, value: &Value) {
    let kind = value["mediaType"].as_str().unwrap();
    goes_through(cx, tag, kind, value.to_string().as_bytes());
}

/// An image in the repository.
fn pushed_image(cx: &Cx, word: &str) -> Value {
    let (config, layer) = (noise(&format!("{word} config"), 200), noise(word, 5000));
    cx.client.push_blob(&cx.name, &config);
    cx.client.push_blob(&cx.name, &layer);
    manifest(&config, &[&layer])
}

/// An image in the repository, and the descriptor that an index has for it.
fn pushed_child(cx: &Cx, word: &str) -> Value {
    let value = pushed_image(cx, word);
    let text = value.to_string();
    let digest = Digest::sha256(text.as_bytes());
    cx.client.put_manifest(&cx.name, digest.as_str(), &value).is(201);
    descriptor(OCI_MANIFEST, text.as_bytes())
}

#[test]
fn an_image() {
    let cx = Cx::new().fresh("image");
    let value = pushed_image(&cx, "an image");
    value_goes_through(&cx, "image", &value);
}

#[test]
fn an_image_that_is_not_compressed() {
    let cx = Cx::new().fresh("plain");
    let mut value = pushed_image(&cx, "plain image");
    value["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar".into();
    value_goes_through(&cx, "plain", &value);
}

#[test]
fn a_docker_image_and_a_docker_list() {
    let cx = Cx::new().fresh("docker");
    let mut value = pushed_image(&cx, "docker image");
    let image = "application/vnd.docker.distribution.manifest.v2+json";
    value["mediaType"] = image.into();
    value["config"]["mediaType"] = "application/vnd.docker.container.image.v1+json".into();
    value["layers"][0]["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip".into();
    let text = value.to_string();
    let digest = Digest::sha256(text.as_bytes());
    cx.client.put_manifest(&cx.name, digest.as_str(), &value).is(201);
    let mut child = descriptor(image, text.as_bytes());
    child["platform"] = json!({"architecture": "amd64", "os": "linux"});
    let list = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json",
        "manifests": [child],
    });
    value_goes_through(&cx, "list", &list);
    value_goes_through(&cx, "docker", &value);
}

#[test]
fn a_large_manifest() {
    let cx = Cx::new().fresh("large");
    let mut value = pushed_image(&cx, "large manifest");
    let room = (4 << 20) - value.to_string().len() - 64;
    let note = String::from_utf8(noise("a large note", room)).unwrap();
    value["annotations"] = json!({"org.example.note": note});
    assert!(value.to_string().len() <= 4 << 20);
    value_goes_through(&cx, "large", &value);
}

#[test]
fn a_manifest_that_is_too_large_is_refused() {
    let cx = Cx::new().fresh("too-large");
    let mut value = pushed_image(&cx, "too large manifest");
    let note = String::from_utf8(noise("too large a note", 5 << 20)).unwrap();
    value["annotations"] = json!({"org.example.note": note});
    cx.client.put_manifest(&cx.name, "big", &value).one_of(&[400, 413]);
    cx.client.head(&cx.manifest("big")).is(404);
}

#[test]
fn an_index() {
    let cx = Cx::new().fresh("index");
    let children = [pushed_child(&cx, "index one"), pushed_child(&cx, "index two")];
    value_goes_through(&cx, "index", &index(&children));
}

#[test]
fn an_index_of_indexes() {
    let cx = Cx::new().fresh("nested");
    let inner = index(&[pushed_child(&cx, "nested")]).to_string();
    let digest = Digest::sha256(inner.as_bytes());
    cx.client.put_manifest_bytes(&cx.name, digest.as_str(), OCI_INDEX, inner.as_bytes()).is(201);
    let outer = index(&[descriptor(OCI_INDEX, inner.as_bytes()), pushed_child(&cx, "beside")]);
    value_goes_through(&cx, "nested", &outer);
}

#[test]
fn an_index_of_nothing() {
    let cx = Cx::new().fresh("empty");
    value_goes_through(&cx, "empty", &index(&[]));
}

#[test]
fn an_artifact() {
    let cx = Cx::new().fresh("artifact");
    let layer = noise("artifact", 300);
    cx.client.push_blob(&cx.name, b"{}");
    cx.client.push_blob(&cx.name, &layer);
    value_goes_through(&cx, "artifact", &artifact("application/vnd.example+type", &[&layer]));
}

#[test]
fn an_artifact_without_layers() {
    let cx = Cx::new().fresh("bare");
    cx.client.push_blob(&cx.name, b"{}");
    let mut value = artifact("application/vnd.example+type", &[]);
    value_goes_through(&cx, "none", &value);
    value["layers"] = json!([descriptor(EMPTY, b"{}")]);
    value_goes_through(&cx, "empty", &value);
}

#[test]
fn an_index_of_artifacts() {
    let cx = Cx::new().fresh("artifacts");
    cx.client.push_blob(&cx.name, b"{}");
    let text = artifact("application/vnd.example+type", &[b"{}"]).to_string();
    let digest = Digest::sha256(text.as_bytes());
    cx.client.put_manifest_bytes(&cx.name, digest.as_str(), OCI_MANIFEST, text.as_bytes()).is(201);
    let mut child = descriptor(OCI_MANIFEST, text.as_bytes());
    child["artifactType"] = "application/vnd.example+type".into();
    let mut value = index(&[child]);
    value["artifactType"] = "application/vnd.example+list".into();
    value_goes_through(&cx, "artifacts", &value);
}

#[test]
fn data_in_descriptors() {
    let cx = Cx::new().fresh("data");
    let mut value = pushed_image(&cx, "data field");
    cx.client.push_blob(&cx.name, b"{}");
    value["config"] = descriptor(EMPTY, b"{}");
    value["config"]["data"] = "e30=".into();
    value_goes_through(&cx, "data", &value);
}

#[test]
fn layers_that_may_not_be_distributed() {
    let cx = Cx::new().fresh("foreign");
    let mut value = pushed_image(&cx, "foreign layers");
    let mut foreign = descriptor(
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        &noise("never pushed", 100),
    );
    foreign["urls"] = json!(["https://layers.example.com/x"]);
    value["layers"].as_array_mut().unwrap().push(foreign);
    let text = value.to_string();
    let put = cx.client.put_manifest_bytes(&cx.name, "foreign", OCI_MANIFEST, text.as_bytes());
    if !cx.ours && put.status == 400 {
        return cx.skipped("layers that are elsewhere");
    }
    put.is(201);
    value_goes_through(&cx, "foreign", &value);
}

#[test]
fn fields_that_nobody_knows_are_kept_byte_for_byte() {
    let cx = Cx::new().fresh("custom");
    let mut value = pushed_image(&cx, "custom fields");
    value["org.example.custom"] = json!({"b": [1, 2.50, null], "a": "\u{e9}"});
    value["layers"][0]["custom"] = true.into();
    // Odd white space and order, as some writers have it.
    let text = format!(" {}\n\t ", serde_json::to_string_pretty(&value).unwrap());
    goes_through(&cx, "custom", OCI_MANIFEST, text.as_bytes());
}

#[test]
fn an_image_without_layers() {
    let cx = Cx::new().fresh("no-layers");
    let config = noise("no layers", 100);
    cx.client.push_blob(&cx.name, &config);
    value_goes_through(&cx, "none", &manifest(&config, &[]));
}

#[test]
fn an_index_that_lists_what_is_not_here() {
    let cx = Cx::new().fresh("sparse");
    let here = pushed_child(&cx, "sparse here");
    let away = descriptor(OCI_MANIFEST, &noise("sparse away", 100));
    let put = cx.client.put_manifest(&cx.name, "sparse", &index(&[here, away]));
    // Optional: ours refuses it unless sparse_indexes is set.
    put.one_of(&[201, 400, 404]);
}

#[test]
fn a_manifest_with_a_longer_digest() {
    let cx = Cx::new().fresh("sha512");
    let value = pushed_image(&cx, "sha512 manifest");
    let text = value.to_string();
    let digest = sha512(text.as_bytes());
    let put =
        cx.client.put_manifest_bytes(&cx.name, digest.as_str(), OCI_MANIFEST, text.as_bytes());
    let put = put.is(201);
    assert!(put.header("location").ends_with(&cx.manifest(&digest)));
    let got = cx.client.get(&cx.manifest(&digest)).is(200);
    assert!(got.body == text.as_bytes());
    assert_eq!(got.header("docker-content-digest"), digest.as_str());
    cx.client.delete(&cx.manifest(&digest)).one_of(&[202, 405]);
}

#[test]
fn tags_may_be_set_with_a_put_by_digest() {
    let cx = Cx::new().fresh("tag-param");
    let text = pushed_image(&cx, "tag parameters").to_string();
    for digest in [Digest::sha256(text.as_bytes()), sha512(text.as_bytes())] {
        let word = digest.algorithm().to_owned();
        let tags: Vec<String> = (0..10).map(|n| format!("{word}-{n}")).collect();
        let query: Vec<String> = tags.iter().map(|t| format!("tag={t}")).collect();
        let reference = format!("{digest}?{}", query.join("&"));
        let put = cx
            .client
            .put_manifest_bytes(&cx.name, &reference, OCI_MANIFEST, text.as_bytes())
            .is(201);
        let told: Vec<_> = put.headers.get_all("oci-tag").iter().collect();
        if told.is_empty() {
            return cx.skipped("tags in the query of a put");
        }
        assert_eq!(told, tags.iter().map(String::as_str).collect::<Vec<_>>());
        for tag in &tags {
            let got = cx.client.get(&cx.manifest(tag)).is(200);
            assert_eq!(got.header("docker-content-digest"), digest.as_str());
        }
        let many: Vec<String> = (0..200).map(|n| format!("tag=many-{n}")).collect();
        let reference = format!("{digest}?{}", many.join("&"));
        cx.client.put_manifest_bytes(&cx.name, &reference, OCI_MANIFEST, text.as_bytes()).is(414);
        cx.client.head(&cx.manifest("many-0")).is(404);
    }
}

#[test]
fn a_manifest_with_another_digest_is_refused() {
    let cx = Cx::new().fresh("bad-digest");
    let text = pushed_image(&cx, "bad digest").to_string();
    for wrong in [Digest::sha256(b"x").to_string(), sha512(b"x").to_string()] {
        let put = cx.client.put_manifest_bytes(&cx.name, &wrong, OCI_MANIFEST, text.as_bytes());
        put.fails(400, "DIGEST_INVALID");
        cx.client.get(&cx.manifest(&wrong)).is(404);
    }
    let put = cx.client.put_manifest_bytes(&cx.name, "sha256:1234", OCI_MANIFEST, text.as_bytes());
    put.one_of(&[400, 404]);
    cx.client.get(&cx.manifest("sha256:1234")).one_of(&[400, 404]);
}

#[test]
fn a_manifest_that_is_missing_is_not_found() {
    let cx = Cx::new();
    let digest = Digest::sha256(&noise("missing manifest", 10));
    for reference in [digest.as_str(), "no-such-tag"] {
        cx.client.head(&cx.manifest(reference)).is(404);
        cx.client.get(&cx.manifest(reference)).fails(404, "MANIFEST_UNKNOWN");
    }
}

#[test]
fn a_manifest_whose_blobs_are_missing_is_refused() {
    let cx = Cx::new().fresh("incomplete");
    let value = manifest(&noise("missing config", 10), &[&noise("missing layer", 10)]);
    let put = cx.client.put_manifest(&cx.name, "incomplete", &value).one_of(&[400, 404]);
    assert_eq!(put.code(), "MANIFEST_BLOB_UNKNOWN");
    cx.client.get(&cx.manifest("incomplete")).is(404);
}

#[test]
fn what_is_no_manifest_is_refused() {
    let cx = Cx::new().fresh("nonsense");
    let value = pushed_image(&cx, "confusion");
    let mut both = value.clone();
    both["manifests"] = json!([]);
    for (kind, text) in [
        (OCI_MANIFEST, "nonsense".to_owned()),
        (OCI_MANIFEST, "{}".to_owned()),
        (OCI_MANIFEST, String::new()),
        (OCI_INDEX, value.to_string()),
        (OCI_MANIFEST, both.to_string()),
        ("text/html", value.to_string()),
    ] {
        let put = cx.client.put_manifest_bytes(&cx.name, "nonsense", kind, text.as_bytes());
        if cx.ours {
            put.fails(400, "MANIFEST_INVALID");
        } else {
            put.one_of(&[400, 404, 415]);
        }
    }
    let bad_tag = cx.client.put_manifest(&cx.name, ".bad", &value);
    bad_tag.one_of(&[400, 404]);
}

#[test]
fn a_tag_moves_to_what_was_pushed_last() {
    let cx = Cx::new().fresh("moves");
    let (old, new) = (pushed_image(&cx, "old"), pushed_image(&cx, "new"));
    for value in [&old, &new, &new] {
        cx.client.put_manifest(&cx.name, "moving", value).is(201);
    }
    let got = cx.client.get(&cx.manifest("moving")).is(200);
    assert_eq!(got.text(), new.to_string());
    cx.client.get(&cx.manifest(Digest::sha256(old.to_string().as_bytes()))).is(200);
    assert_eq!(cx.client.get(&format!("/v2/{}/tags/list", cx.name)).tags(), ["moving"]);
}

#[test]
fn zstd_layers_and_a_type_without_content_type() {
    let cx = Cx::new().fresh("zstd");
    let mut value = pushed_image(&cx, "zstd");
    value["layers"][0]["mediaType"] = OCI_LAYER.replace("gzip", "zstd").into();
    value_goes_through(&cx, "zstd", &value);
}
