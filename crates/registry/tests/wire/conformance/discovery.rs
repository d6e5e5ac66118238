//! Lists of tags and of repositories.

use super::Cx;
use crate::{
    http::list,
    image::{manifest, noise},
};

fn tagged(cx: &Cx, tags: &[&str]) {
    let config = noise("discovery", 50);
    cx.client.push_blob(&cx.name, &config);
    let value = manifest(&config, &[]);
    for tag in tags {
        cx.client.put_manifest(&cx.name, tag, &value).is(201);
    }
}

#[test]
fn tags_come_in_order_and_in_pages() {
    let cx = Cx::new().fresh("tags");
    let sorted = ["TEST", "a", "b0", "b1", "latest", "v1.0", "v1.1"];
    tagged(&cx, &["v1.0", "latest", "b1", "a", "v1.1", "TEST", "b0"]);
    let url = format!("/v2/{}/tags/list", cx.name);
    let all = cx.client.get(&url).is(200);
    assert_eq!(all.json()["name"], cx.name.as_str());
    let mut found = all.tags();
    if !cx.ours {
        // Ours goes by bytes; "lexical" is all that the specification says.
        found.sort();
    }
    assert_eq!(found, sorted);

    let first = cx.client.get(&format!("{url}?n=3")).is(200);
    assert_eq!(first.tags().len(), 3);
    let (mut pages, mut next) = (first.tags(), first.header("link").to_owned());
    while let Some(path) = next.split(['<', '>']).nth(1).filter(|_| !next.is_empty()) {
        assert!(next.contains("rel=\"next\""));
        let page = cx.client.get(path).is(200);
        pages.extend(page.tags());
        next = page.header("link").to_owned();
    }
    pages.sort();
    assert_eq!(pages, sorted);
}

#[test]
fn tags_begin_behind_the_last() {
    let cx = Cx::new().fresh("last");
    tagged(&cx, &["a", "b", "c", "d"]);
    let url = format!("/v2/{}/tags/list", cx.name);
    assert_eq!(cx.client.get(&format!("{url}?last=b")).is(200).tags(), ["c", "d"]);
    assert_eq!(cx.client.get(&format!("{url}?n=1&last=b")).is(200).tags(), ["c"]);
    assert_eq!(cx.client.get(&format!("{url}?n=9&last=d")).is(200).tags().len(), 0);
    // A tag that is not there has a place in the order all the same.
    assert_eq!(cx.client.get(&format!("{url}?last=bb")).is(200).tags(), ["c", "d"]);
}

#[test]
fn no_tags_are_asked_for() {
    let cx = Cx::new().fresh("zero");
    tagged(&cx, &["a"]);
    let got = cx.client.get(&format!("/v2/{}/tags/list?n=0", cx.name));
    if !cx.ours && got.status == 400 {
        return cx.skipped("n=0");
    }
    assert!(got.is(200).tags().is_empty());
}

#[test]
fn a_repository_without_tags_has_none() {
    let cx = Cx::new().fresh("untagged");
    let url = format!("/v2/{}/tags/list", cx.name);
    cx.client.get(&url).one_of(&[200, 404]);
    let config = noise("untagged", 50);
    cx.client.push_blob(&cx.name, &config);
    let value = manifest(&config, &[]);
    let digest = base::Digest::sha256(value.to_string().as_bytes());
    cx.client.put_manifest(&cx.name, digest.as_str(), &value).is(201);
    let got = cx.client.get(&url).one_of(&[200, 404]);
    if cx.ours {
        assert_eq!(got.json()["tags"], serde_json::json!([]));
        let none = cx.client.get("/v2/no/such/repository/tags/list");
        none.fails(404, "NAME_UNKNOWN");
    }
}

#[test]
fn the_catalogue_comes_in_pages() {
    let cx = Cx::new();
    let names: Vec<String> =
        (0..5).map(|n| format!("{}-catalogue-{}-{n}", cx.name, std::process::id())).collect();
    for name in &names {
        cx.client.push_image(name, "x", "catalogue", 10);
    }
    let (mut found, mut path) = (Vec::new(), "/v2/_catalog?n=2".to_owned());
    loop {
        let page = cx.client.get(&path).is(200);
        let repositories = list(&page.json()["repositories"]);
        assert!(repositories.len() <= 2);
        found.extend(repositories);
        match page.header("link").split(['<', '>']).nth(1) {
            Some(next) => path = next.to_owned(),
            None => break,
        }
    }
    for name in &names {
        assert_eq!(found.iter().filter(|f| *f == name).count(), 1, "{name} in {found:?}");
    }
    let mut sorted = found.clone();
    sorted.sort();
    assert_eq!(found, sorted);
}
