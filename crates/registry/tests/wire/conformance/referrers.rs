//! Manifests about manifests.

use super::Cx;
use crate::image::{OCI_INDEX, OCI_MANIFEST, artifact, descriptor, index, noise};
use base::Digest;
use serde_json::{Value, json};

fn referrers(cx: &Cx, digest: &Digest, query: &str) -> crate::http::Answer {
    cx.client.get(&format!("/v2/{}/referrers/{digest}{query}", cx.name))
}

/// Without the API, clients keep an index under a tag made of the digest.
fn has_no_api(cx: &Cx, digest: &Digest) -> bool {
    if referrers(cx, digest, "").status != 404 {
        return false;
    }
    cx.skipped("the referrers API: clients fall back to a tag");
    let tag = digest.as_str().replace(':', "-");
    cx.client.get(&cx.manifest(tag)).one_of(&[200, 404]);
    true
}

fn subject_of(value: &Value) -> Value {
    descriptor(value["mediaType"].as_str().unwrap_or(OCI_MANIFEST), value.to_string().as_bytes())
}

fn digest_of(value: &Value) -> Digest {
    Digest::sha256(value.to_string().as_bytes())
}

#[test]
fn referrers_are_listed_with_type_size_and_annotations() {
    let cx = Cx::new().fresh("referrers");
    cx.client.push_blob(&cx.name, b"{}");
    let image = artifact("application/vnd.example+image", &[b"{}"]);
    let subject = digest_of(&image);
    if has_no_api(&cx, &subject) {
        return;
    }
    let mut sbom = artifact("application/vnd.example+sbom", &[]);
    sbom["subject"] = subject_of(&image);
    sbom["annotations"] = json!({"org.example.note": "an inventory"});
    // Its type is its config's, for want of another.
    let mut signature = artifact("", &[]);
    let config = noise("signature", 40);
    cx.client.push_blob(&cx.name, &config);
    signature["config"] = descriptor("application/vnd.example+signature", &config);
    signature["subject"] = subject_of(&image);
    let mut list = index(&[]);
    list["artifactType"] = "application/vnd.example+list".into();
    list["subject"] = subject_of(&image);
    for (at, value) in [&sbom, &signature, &list].into_iter().enumerate() {
        // The subject comes last on purpose: it need not be there.
        let reference = if at == 0 { "sbom".to_owned() } else { digest_of(value).to_string() };
        let put = cx.client.put_manifest(&cx.name, &reference, value).is(201);
        assert_eq!(put.header("oci-subject"), subject.as_str());
    }
    cx.client.put_manifest(&cx.name, "image", &image).is(201);

    let found = referrers(&cx, &subject, "").is(200);
    assert_eq!(found.header("content-type"), OCI_INDEX);
    assert_eq!(found.header("oci-filters-applied"), "");
    let found = found.json();
    assert_eq!((&found["schemaVersion"], &found["mediaType"]), (&json!(2), &json!(OCI_INDEX)));
    let all = found["manifests"].as_array().unwrap();
    assert_eq!(all.len(), 3);
    let of = |value: &Value| {
        let digest = digest_of(value).to_string();
        all.iter().find(|d| d["digest"] == digest.as_str()).unwrap().clone()
    };
    assert_eq!(of(&sbom)["artifactType"], "application/vnd.example+sbom");
    assert_eq!(of(&sbom)["annotations"]["org.example.note"], "an inventory");
    assert_eq!(of(&sbom)["size"], sbom.to_string().len());
    assert_eq!(of(&sbom)["mediaType"], OCI_MANIFEST);
    assert_eq!(of(&signature)["artifactType"], "application/vnd.example+signature");
    assert_eq!(of(&list)["mediaType"], OCI_INDEX);

    let one = referrers(&cx, &subject, "?artifactType=application/vnd.example%2Bsbom").is(200);
    assert_eq!(one.header("oci-filters-applied"), "artifactType");
    assert_eq!(one.json()["manifests"].as_array().unwrap().len(), 1);

    cx.client.delete(&cx.manifest(digest_of(&sbom))).is(202);
    assert_eq!(referrers(&cx, &subject, "").json()["manifests"].as_array().unwrap().len(), 2);
}

#[test]
fn nobody_refers_to_what_is_unknown() {
    let cx = Cx::new().fresh("unknown");
    let digest = Digest::sha256(&noise("no subject", 10));
    if has_no_api(&cx, &digest) {
        return;
    }
    let found = referrers(&cx, &digest, "").is(200);
    assert_eq!(found.header("content-type"), OCI_INDEX);
    assert_eq!(found.json()["manifests"], json!([]));
    let bad = cx.client.get(&format!("/v2/{}/referrers/sha256:12", cx.name));
    bad.one_of(&[400, 404]);
}

#[test]
fn an_index_may_have_a_subject_that_is_missing() {
    let cx = Cx::new().fresh("missing-subject");
    let subject = Digest::sha256(&noise("missing subject", 10));
    if has_no_api(&cx, &subject) {
        return;
    }
    let mut value = index(&[]);
    value["subject"] = json!({"mediaType": OCI_MANIFEST, "digest": subject, "size": 10});
    let put = cx.client.put_manifest(&cx.name, "index", &value).is(201);
    assert_eq!(put.header("oci-subject"), subject.as_str());
    let found = referrers(&cx, &subject, "").is(200).json();
    assert_eq!(found["manifests"][0]["digest"], digest_of(&value).as_str());
}

#[test]
fn many_referrers_come_in_pages() {
    let cx = Cx::new().fresh("pages");
    if !cx.ours {
        return;
    }
    cx.client.push_blob(&cx.name, b"{}");
    let subject = Digest::sha256(b"pages");
    for n in 0..7 {
        let mut value = artifact("a/b", &[]);
        value["subject"] = json!({"mediaType": OCI_MANIFEST, "digest": subject, "size": 10});
        value["annotations"] = json!({"n": n.to_string()});
        cx.client.put_manifest(&cx.name, digest_of(&value).as_str(), &value).is(201);
    }
    let (mut found, mut path) =
        (0, format!("/v2/{}/referrers/{subject}?n=3&artifactType=a/b", cx.name));
    loop {
        let page = cx.client.get(&path).is(200);
        found += page.json()["manifests"].as_array().unwrap().len();
        match page.header("link").split(['<', '>']).nth(1) {
            Some(next) => path = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(found, 7);
}
