//! Registries that lie, break and are slow; engines that are killed meanwhile.

use super::registry::{daemon_with, tagged};
use serde_json::{Value, json};
use std::{process::Command, time::Duration};
use testkit::{
    Cx, cases, command,
    cx::skip,
    evilreg::{Answer, Content, Evil, INDEX, MANIFEST, Request, Step, digest},
    registry,
    suite::Case,
    tarball::Tarball,
};

pub const CASES: &[Case] = cases![
    wrong_bytes_are_never_kept,
    broken_connections_are_continued,
    busy_registries_are_asked_again,
    confused_manifests_are_refused,
    redirects_carry_no_credentials,
    realms_of_others_get_no_credentials,
    endless_and_dripping_bodies_end,
    a_server_that_drips_is_given_up,
    mirrors_come_first_and_may_fail,
    proxies_are_gone_through,
    foreign_layers_come_from_where_they_are,
    a_killed_pull_is_continued,
    a_cancelled_pull_is_continued,
    a_broken_push_is_tried_again,
];

fn layer(cx: &Cx<'_>, bytes: usize) -> Vec<u8> {
    let mut tar = Tarball::new();
    let mut state = 0x9e37_79b9_u32;
    let noise: Vec<u8> = (0..bytes)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as u8
        })
        .collect();
    tar.file("noise", 0o644, noise).file("case", 0o644, cx.name("x"));
    tar.finish()
}

/// An image of one layer, and the path of that layer.
fn image(cx: &Cx<'_>, bytes: usize) -> (Content, String) {
    let mut content = Content::default();
    content.image("x", &["1"], "linux/amd64", &[layer(cx, bytes)]);
    let path = content
        .paths
        .iter()
        .filter(|(path, _)| path.contains("/blobs/"))
        .max_by_key(|(_, (_, body))| body.len())
        .map(|(path, _)| path.clone())
        .unwrap();
    (content, path)
}

fn only_gantry(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        skip("how Gantry deals with it");
    }
}

/// Nothing of the blob is in the content store.
fn not_kept(cx: &Cx<'_>, path: &str) {
    if !cx.daemon.is_own() {
        return;
    }
    let hex = path.rsplit(':').next().unwrap();
    let content = cx.daemon.path("root").join("content");
    for place in
        [format!("blobs/sha256/{hex}"), format!("partial/{hex}"), format!("partial/{hex}.marks")]
    {
        assert!(!content.join(&place).exists(), "{place} was kept");
    }
}

fn wrong_bytes_are_never_kept(cx: &Cx<'_>) {
    only_gantry(cx);
    type Lie = fn(&[u8]) -> Answer;
    let lies: [(&str, Lie, &[&str]); 5] = [
        (
            "a byte is another",
            |body| {
                let mut bent = body.to_vec();
                let at = bent.len() / 2;
                bent[at] ^= 0x55;
                Answer::new(200, &[], &bent)
            },
            &["verification failed"],
        ),
        (
            "all is another",
            |body| Answer::new(200, &[], &vec![b'x'; body.len()]),
            &["verification failed"],
        ),
        (
            "the length is another",
            |body| Answer::new(200, &[], &[body, b"more"].concat()),
            &["its manifest says"],
        ),
        (
            "it is shorter",
            |body| Answer::new(200, &[], &body[..body.len() - 9]),
            &["its manifest says"],
        ),
        (
            "it is a page",
            |_| Answer::new(200, &[("Content-Type", "text/html")], b"<html>sorry</html>"),
            &["its manifest says"],
        ),
    ];
    for (what, lie, words) in lies {
        let (content, path) = image(cx, 300_000);
        let lied = path.clone();
        let evil = Evil::start(content, move |request, content| {
            (request.path == lied && request.method == "GET").then(|| lie(&content.paths[&lied].1))
        });
        let name = format!("{}/x:1", evil.host());
        let output = cx.docker(&["pull", &name]);
        assert_eq!(output.code, Some(1), "{what}: {}", output.describe());
        for word in words {
            assert!(output.stderr.contains(word), "{what}: {}", output.describe());
        }
        cx.docker(&["image", "inspect", &name]).code(1);
        not_kept(cx, &path);
    }
}

fn broken_connections_are_continued(cx: &Cx<'_>) {
    only_gantry(cx);
    let (content, path) = image(cx, 2 << 20);
    let broken = path.clone();
    // Each answer breaks off after a twentieth of the blob.
    let evil = Evil::start(content, move |request, content| {
        if request.path != broken || request.method != "GET" {
            return None;
        }
        let body = &content.paths[&broken].1;
        let from = request.from();
        let to = (from + body.len() / 20 + 1).min(body.len());
        let range = format!("bytes {from}-{}/{}", body.len() - 1, body.len());
        let (status, headers) =
            if from == 0 { (200, vec![]) } else { (206, vec![("Content-Range", range.as_str())]) };
        Some(Answer::announced(
            status,
            &headers,
            body.len() - from,
            vec![Step::Send(body[from..to].to_vec())],
        ))
    });
    let name = format!("{}/x:1", evil.host());
    cx.docker(&["pull", &name]).ok();
    let asked = evil.asked("GET", &path);
    assert!(asked.len() >= 19, "{}", asked.len());
    assert!(asked[1..].iter().all(|r| r.from() > 0), "every try goes on where the last one ended");
    cx.docker(&["rmi", &name]).ok();
}

fn busy_registries_are_asked_again(cx: &Cx<'_>) {
    only_gantry(cx);
    let (content, path) = image(cx, 1000);
    let evil = Evil::start(content, move |request, _| {
        let stumbles = request.path == path || request.path.ends_with("/manifests/1");
        match request.nth {
            0 if stumbles => Some(Answer::error(503, "UNAVAILABLE", "not now")),
            1 if stumbles => Some(Answer::new(429, &[("Retry-After", "1")], b"")),
            _ => None,
        }
    });
    let name = format!("{}/x:1", evil.host());
    cx.docker(&["pull", &name]).ok();
    cx.docker(&["rmi", &name]).ok();
    let evil = Evil::start(Content::default(), |_, _| {
        Some(Answer::error(500, "UNKNOWN", "broken for good"))
    });
    let output = cx.docker(&["pull", &format!("{}/x:1", evil.host())]);
    output.fails_with(1, &["broken for good"]);
}

fn confused_manifests_are_refused(cx: &Cx<'_>) {
    only_gantry(cx);
    let manifest = |json: &Value, media_type: &str| {
        let (media_type, json) = (media_type.to_owned(), json.clone());
        let mut content = Content::default();
        content.manifest("x", &["1"], &media_type, &json);
        content
    };
    let some = json!({"mediaType": "x", "digest": digest(b"{}"), "size": 2});
    let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    for (content, words) in [
        (
            manifest(
                &json!({"schemaVersion": 2, "config": some, "layers": [], "manifests": []}),
                MANIFEST,
            ),
            "manifest",
        ),
        (manifest(&json!({"schemaVersion": 2, "manifests": []}), MANIFEST), "which it is not"),
        (
            manifest(
                &json!({"schemaVersion": 1, "fsLayers": []}),
                "application/vnd.docker.distribution.manifest.v1+prettyjws",
            ),
            "schema 1",
        ),
        (
            manifest(&json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}), INDEX),
            "no matching manifest",
        ),
        (
            manifest(
                &json!({"schemaVersion": 2, "config": {"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": digest(b"{}"), "size": 2}, "layers": []}),
                MANIFEST,
            ),
            "unsupported media type",
        ),
    ] {
        let evil = Evil::start(content, |_, _| None);
        cx.docker(&["pull", &format!("{}/x:1", evil.host())]).fails_with(1, &[words]);
    }
    for body in [
        vec![b'x'; (4 << 20) + 1],
        deep.into_bytes(),
        b"<html>".to_vec(),
        br#"{"schemaVersion":2,"config":{"digest":"sha256:../../x","size":1},"layers":[]}"#
            .to_vec(),
    ] {
        let evil = Evil::start(Content::default(), move |request, _| {
            request
                .path
                .contains("/manifests/")
                .then(|| Answer::new(200, &[("Content-Type", MANIFEST)], &body))
        });
        cx.docker(&["pull", &format!("{}/x:1", evil.host())]).code(1);
    }
    // The right manifest under the wrong digest.
    let (content, _) = image(cx, 100);
    let honest = content.top.clone();
    let evil = Evil::start(content, move |request, content| {
        let (_, body) = content.paths.get("/v2/x/manifests/1")?;
        request
            .path
            .contains("/manifests/sha256:")
            .then(|| Answer::new(200, &[("Content-Type", MANIFEST)], &[&body[..], b" "].concat()))
    });
    cx.docker(&["pull", &format!("{}/x@{honest}", evil.host())])
        .fails_with(1, &["manifest verification failed for digest"]);
}

fn authorized(request: &Request) -> bool {
    request.header("authorization").is_some()
}

fn auth_header() -> String {
    // {"username":"alice","password":"secret"}
    "eyJ1c2VybmFtZSI6ImFsaWNlIiwicGFzc3dvcmQiOiJzZWNyZXQifQ==".to_owned()
}

fn pull_as_alice(cx: &Cx<'_>, name: &str, tag: &str) -> testkit::http::Response {
    cx.api().request(
        "POST",
        &format!("/v1.41/images/create?fromImage={name}&tag={tag}"),
        &[("X-Registry-Auth", &auth_header())],
        b"",
    )
}

fn redirects_carry_no_credentials(cx: &Cx<'_>) {
    only_gantry(cx);
    let (content, path) = image(cx, 1000);
    let store = Evil::start(content.clone(), |_, _| None);
    let target = format!("http://{}{path}?signature=1", store.host());
    let evil = Evil::start(content, move |request, _| {
        if !authorized(request) {
            return Some(Answer::new(401, &[("WWW-Authenticate", "Basic realm=x")], b""));
        }
        (request.path == path && request.method == "GET")
            .then(|| Answer::new(307, &[("Location", &target)], b""))
    });
    let name = format!("{}/x", evil.host());
    let pulled = pull_as_alice(cx, &name, "1");
    pulled.expect(200);
    assert!(pulled.text().contains("Downloaded newer image"), "{}", pulled.text());
    assert!(evil.requests().iter().any(authorized));
    let stored = store.requests();
    assert!(!stored.is_empty() && !stored.iter().any(authorized));
    cx.docker(&["rmi", &format!("{name}:1")]).ok();
    // In circles.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap();
    let evil = Evil::on(listener, Content::default(), move |request, _| {
        let again = format!("http://{own}{}", request.path);
        Some(Answer::new(307, &[("Location", &again)], b""))
    });
    cx.docker(&["pull", &format!("{}/x:1", evil.host())])
        .fails_with(1, &["stopped after 10 redirects"]);
    for place in ["file:///etc/passwd", "http://169.254.169.254/x", "gopher://x/"] {
        let evil = Evil::start(Content::default(), move |_, _| {
            Some(Answer::new(302, &[("Location", place)], b""))
        });
        cx.docker(&["pull", &format!("{}/x:1", evil.host())]).code(1);
    }
}

fn realms_of_others_get_no_credentials(cx: &Cx<'_>) {
    only_gantry(cx);
    let thief =
        Evil::start(Content::default(), |_, _| Some(Answer::new(200, &[], br#"{"token":"t"}"#)));
    let port = thief.host().rsplit(':').next().unwrap().to_owned();
    for realm in [
        format!("http://localhost:{port}/token"),
        format!("http://127.0.0.2:{port}/token"),
        "http://169.254.169.254/token".into(),
    ] {
        let challenge = format!("Bearer realm=\"{realm}\",service=\"x\"");
        let evil = Evil::start(Content::default(), move |_, _| {
            Some(Answer::new(401, &[("WWW-Authenticate", &challenge)], b""))
        });
        let answer = pull_as_alice(cx, &format!("{}/x", evil.host()), "1");
        assert!(answer.status() >= 400, "{}", answer.text());
        assert!(answer.message().contains("refusing to ask"), "{}", answer.text());
    }
    assert!(thief.requests().is_empty());
}

fn endless_and_dripping_bodies_end(cx: &Cx<'_>) {
    only_gantry(cx);
    let (content, path) = image(cx, 100_000);
    let endless = path.clone();
    let evil = Evil::start(content.clone(), move |request, _| {
        (request.path == endless && request.method == "GET")
            .then(|| Answer::open_ended(200, &[], vec![Step::Forever(vec![b'x'; 65536])]))
    });
    let output = cx.docker(&["pull", &format!("{}/x:1", evil.host())]);
    output.fails_with(1, &["more of blob"]);
    drop(evil);
    not_kept_blob(cx, &path);
    // Others are not held up by one that drips.
    let dripping = path.clone();
    let evil = Evil::start(content, move |request, content| {
        let body = &content.paths.get(&dripping)?.1;
        (request.path == dripping && request.method == "GET").then(|| {
            let drip = Step::Drip(body.clone(), Duration::from_millis(200));
            Answer::announced(200, &[], body.len(), vec![drip])
        })
    });
    let slow = format!("{}/x:1", evil.host());
    let mut pull = cx.command();
    let mut pull = pull.args(["pull", &slow]).stdout(std::process::Stdio::null()).spawn().unwrap();
    let (other, _) = image(cx, 2000);
    let honest = Evil::start(other, |_, _| None);
    let name = format!("{}/x:1", honest.host());
    cx.docker(&["pull", &name]).ok();
    cx.docker(&["rmi", &name]).ok();
    pull.kill().unwrap();
    pull.wait().unwrap();
}

fn a_server_that_drips_is_given_up(cx: &Cx<'_>) {
    only_gantry(cx);
    let (content, path) = image(cx, 100_000);
    let dripping = path.clone();
    let evil = Evil::start(content, move |request, content| {
        let body = &content.paths.get(&dripping)?.1;
        (request.path == dripping && request.method == "GET").then(|| {
            let drip = Step::Drip(body.clone(), Duration::from_millis(200));
            Answer::announced(200, &[], body.len(), vec![drip])
        })
    });
    let daemon = daemon_with(&["--max-download-attempts", "1"]);
    let pull = ["pull", &format!("{}/x:1", evil.host())];
    let pulled = command::run(daemon.docker().args(pull), b"");
    pulled.fails_with(1, &["the server sends too slowly"]);
    let hex = path.rsplit(':').next().unwrap();
    assert!(!daemon.path("root").join("content/blobs/sha256").join(hex).exists());
}

fn not_kept_blob(cx: &Cx<'_>, path: &str) {
    let hex = path.rsplit(':').next().unwrap();
    let blob = cx.daemon.path("root").join("content/blobs/sha256").join(hex);
    assert!(!blob.exists());
}

fn mirrors_come_first_and_may_fail(cx: &Cx<'_>) {
    only_gantry(cx);
    let (content, path) = image(cx, 1000);
    // The mirror has the manifest and not the layer.
    let lacking = path.clone();
    let mirror = Evil::start(content.clone(), move |request, _| {
        (request.path == lacking.replace("/v2/x/", "/v2/cache/x/"))
            .then(|| Answer::error(404, "BLOB_UNKNOWN", "no"))
    });
    let origin = Evil::start(content, |request, _| {
        (!authorized(request))
            .then(|| Answer::new(401, &[("WWW-Authenticate", "Basic realm=x")], b""))
    });
    let daemon = daemon_with(&[
        "--registry-mirror",
        &format!("{}=http://{}/cache", origin.host(), mirror.host()),
    ]);
    let answer = daemon.api().request(
        "POST",
        &format!("/v1.41/images/create?fromImage={}/x&tag=1", origin.host()),
        &[("X-Registry-Auth", &auth_header())],
        b"",
    );
    answer.expect(200);
    assert!(answer.text().contains("Downloaded newer image"), "{}", answer.text());
    let asked = mirror.requests();
    assert!(
        asked
            .iter()
            .any(|r| r.path == "/v2/cache/x/manifests/1" && r.query.contains("ns=127.0.0.1")),
        "{asked:?}"
    );
    assert!(!asked.iter().any(authorized), "a mirror is somebody else");
    assert!(origin.requests().iter().any(|r| r.path == path));
}

fn proxies_are_gone_through(cx: &Cx<'_>) {
    only_gantry(cx);
    let (content, _) = image(cx, 1000);
    let proxy = Evil::start(content, |_, _| None);
    let daemon = daemon_with(&[
        "--http-proxy",
        &format!("http://user:pass@{}", proxy.host()),
        "--insecure-registry",
        "reg.test",
    ]);
    let pulled = command::run(daemon.docker().args(["pull", "reg.test/x:1"]), b"");
    pulled.ok();
    let asked = proxy.requests();
    assert!(asked.iter().all(|r| r.header("host") == Some("reg.test")), "{asked:?}");
    assert_eq!(asked[0].header("proxy-authorization"), Some("Basic dXNlcjpwYXNz"));
}

fn foreign_layers_come_from_where_they_are(cx: &Cx<'_>) {
    only_gantry(cx);
    let (mut content, path) = image(cx, 1000);
    let (_, body) = content.paths.remove(&path).unwrap();
    let mut elsewhere = Content::default();
    elsewhere.paths.insert("/layer".into(), (String::new(), body.clone()));
    let elsewhere = Evil::start(elsewhere, |_, _| None);
    let (_, manifest) = content.paths["/v2/x/manifests/1"].clone();
    let mut manifest: Value = serde_json::from_slice(&manifest).unwrap();
    manifest["layers"][0]["mediaType"] =
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip".into();
    manifest["layers"][0]["urls"] = json!([format!("http://{}/layer", elsewhere.host())]);
    content.manifest("x", &["1"], MANIFEST, &manifest);
    let evil = Evil::start(content, |request, _| {
        (!authorized(request))
            .then(|| Answer::new(401, &[("WWW-Authenticate", "Basic realm=x")], b""))
    });
    let name = format!("{}/x", evil.host());
    let answer = pull_as_alice(cx, &name, "1");
    assert!(answer.text().contains("Downloaded newer image"), "{}", answer.text());
    assert!(!elsewhere.requests().iter().any(authorized));
    cx.docker(&["rmi", &format!("{name}:1")]).ok();
}

/// A registry that sends a layer piece by piece, so that it can be interrupted.
fn piecemeal(content: Content, path: &str) -> Evil {
    let slow = path.to_owned();
    Evil::start(content, move |request, content| {
        if request.path != slow || request.method != "GET" || request.from() > 0 {
            return None;
        }
        let body = &content.paths[&slow].1;
        let (first, second) = body.split_at(body.len() / 2);
        let steps = vec![
            Step::Send(first.to_vec()),
            Step::Pause(Duration::from_secs(10)),
            Step::Send(second.to_vec()),
        ];
        Some(Answer::announced(200, &[], body.len(), steps))
    })
}

fn a_killed_pull_is_continued(cx: &Cx<'_>) {
    only_gantry(cx);
    let (content, path) = image(cx, 4 << 20);
    let size = content.paths[&path].1.len();
    let evil = piecemeal(content, &path);
    let name = format!("{}/x:1", evil.host());
    let daemon = daemon_with(&[]);
    let mut pull = daemon.docker();
    let mut pull = pull
        .args(["pull", &name])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let hex = path.rsplit(':').next().unwrap();
    let partial = daemon.path("root").join("content/partial").join(hex);
    cx.until("half of the layer is there", || {
        let there = partial.metadata().map_or(0, |m| m.len());
        (there >= size as u64 / 2).then_some(())
    });
    daemon.kill().unwrap();
    pull.wait().unwrap();
    daemon.start_again().unwrap();
    evil.forget();
    command::run(daemon.docker().args(["pull", &name]), b"").ok();
    let asked = evil.asked("GET", &path);
    assert_eq!(asked.len(), 1);
    assert!(asked[0].from() > size / 3, "it begins again at {} of {size}", asked[0].from());
}

fn a_cancelled_pull_is_continued(cx: &Cx<'_>) {
    only_gantry(cx);
    let (content, path) = image(cx, 4 << 20);
    let size = content.paths[&path].1.len();
    let evil = piecemeal(content, &path);
    let name = format!("{}/x:1", evil.host());
    let mut pull: Command = cx.command();
    let mut pull = pull.args(["pull", &name]).stdout(std::process::Stdio::null()).spawn().unwrap();
    let hex = path.rsplit(':').next().unwrap();
    let partial = cx.daemon.path("root").join("content/partial").join(hex);
    cx.until("half of the layer is there", || {
        (partial.metadata().map_or(0, |m| m.len()) >= size as u64 / 2).then_some(())
    });
    pull.kill().unwrap();
    pull.wait().unwrap();
    evil.forget();
    cx.docker(&["pull", &name]).ok();
    let asked = evil.asked("GET", &path);
    // None when the new pull came before the old one was given up: it has taken that over.
    assert!(asked.iter().all(|r| r.from() > size / 3), "{asked:?}");
    cx.docker(&["rmi", &name]).ok();
}

fn a_broken_push_is_tried_again(cx: &Cx<'_>) {
    only_gantry(cx);
    let real = registry::Registry::docker(registry::Options::default()).unwrap();
    let name = tagged(cx, real.host(), "a", 1);
    let evil = Evil::start(Content::default(), |request, _| match request.method.as_str() {
        "HEAD" => Some(Answer::new(404, &[], b"")),
        "POST" => Some(Answer::new(202, &[("Location", "/v2/x/blobs/uploads/1")], b"")),
        // The first upload is refused for the moment, the others are taken.
        "PATCH" if request.nth == 0 => Some(Answer::error(503, "UNAVAILABLE", "not now")),
        "PATCH" => Some(Answer::new(202, &[("Location", "/v2/x/blobs/uploads/1")], b"")),
        "PUT" => Some(Answer::new(201, &[], b"")),
        _ => None,
    });
    let other = format!("{}/x:1", evil.host());
    cx.docker(&["tag", &name, &other]).ok();
    let pushed = cx.docker(&["push", &other]);
    assert!(pushed.ok().contains("1: digest: sha256:"), "{}", pushed.describe());
    let uploads = evil.asked("PUT", "/blobs/uploads/1");
    assert_eq!(uploads.len(), 2, "a layer and a config");
    cx.docker(&["rmi", "-f", &other]).ok();
}
