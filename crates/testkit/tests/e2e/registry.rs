//! Pull, push, login, search and the distribution endpoint against real registries.

use serde_json::{Value, json};
use std::process::Command;
use testkit::{
    Cx, Daemon, cases, command,
    cx::skip,
    daemon,
    evilreg::{self, Answer, Content, Evil, INDEX},
    image::docker_archive,
    registry::{Kind, Options, PASSWORD, Registry, USER},
    suite::Case,
    tarball::Tarball,
};

pub const CASES: &[Case] = cases![
    a_pushed_image_is_pulled_again,
    a_pulled_image_is_pushed_byte_for_byte,
    blobs_are_mounted_from_another_repository,
    all_tags_are_pulled_and_pushed,
    a_digest_is_pulled,
    unknown_names_are_told,
    a_registry_with_users_wants_a_login,
    a_registry_over_tls_needs_its_authority,
    the_distribution_endpoint_describes,
    two_pulls_share_one_download,
    several_platforms_stay_side_by_side,
    an_index_with_attestations_is_kept,
    run_and_build_pull_what_is_missing,
    our_registry_is_searched,
    tokens_are_got_and_refreshed,
    search_asks_the_registry,
    pulls_are_facts,
    zstd_is_pushed_when_asked_for,
    manifests_are_inspected_where_they_are;
    alone:
    // Layers of a removed image stay while somebody builds or pulls, and are not pulled again.
    progress_has_docker_s_words,
];

/// Does the same against Debian's registry, our own, and crane's where it is installed.
fn each(options: Options, check: impl Fn(&Registry)) {
    for kind in Kind::ALL {
        if let Some(registry) = Registry::start(kind, options).unwrap() {
            check(&registry);
        }
    }
}

/// A registry of the case's own.
pub fn plain() -> Registry {
    Registry::docker(Options::default()).unwrap()
}

/// Loads a small image and tags it for `host`; its name there.
pub fn tagged(cx: &Cx<'_>, host: &str, part: &str, layers: usize) -> String {
    let local = format!("{}:latest", cx.name(part));
    let all: Vec<_> = (0..layers)
        .map(|n| {
            let mut layer = Tarball::new();
            layer.file(&format!("{part}-{n}"), 0o644, format!("{} {n}", cx.name(part)).repeat(500));
            layer.finish()
        })
        .collect();
    cx.docker_with(&["load", "-q"], docker_archive(&local, &json!({"Cmd": ["x"]}), &all)).ok();
    let name = format!("{host}/{}:v1", cx.name(part));
    cx.docker(&["tag", &local, &name]).ok();
    name
}

fn digest_of(text: &str) -> String {
    let at = text.find("digest: sha256:").map(|at| at + 8).unwrap();
    text[at..at + 71].to_owned()
}

fn http(host: &str, path: &str, accept: &str) -> (u16, Vec<u8>) {
    let output = command::run(
        Command::new("curl").args([
            "-s",
            "-o",
            "-",
            "-w",
            "\n%{http_code}",
            "-H",
            &format!("Accept: {accept}"),
            &format!("http://{host}{path}"),
        ]),
        b"",
    );
    let at = output.bytes.iter().rposition(|b| *b == b'\n').unwrap();
    let status = String::from_utf8_lossy(&output.bytes[at + 1..]).parse().unwrap_or(0);
    (status, output.bytes[..at].to_vec())
}

fn id_of(cx: &Cx<'_>, name: &str) -> String {
    cx.docker(&["image", "inspect", "--format", "{{.Id}}", name]).ok().to_owned()
}

fn a_pushed_image_is_pulled_again(cx: &Cx<'_>) {
    each(Options::default(), |registry| {
        let name = tagged(cx, registry.host(), "a", 3);
        let id = id_of(cx, &name);
        let pushed = cx.docker(&["push", &name]);
        let digest = digest_of(pushed.ok());
        cx.docker(&["push", &name]).ok();
        cx.docker(&["rmi", "-f", &id]).ok();
        cx.docker(&["image", "inspect", &id]).code(1);
        let pulled = cx.docker(&["pull", &name]);
        assert!(pulled.ok().contains(&format!("Digest: {digest}")), "{}", pulled.describe());
        assert!(pulled.stdout.contains(&format!("Status: Downloaded newer image for {name}")));
        assert_eq!(id_of(cx, &name), id);
        let again = cx.docker(&["pull", &name]);
        assert!(again.ok().contains(&format!("Status: Image is up to date for {name}")));
        let inspect = cx.docker(&["image", "inspect", &name]).json();
        let repository = name.trim_end_matches(":v1");
        assert_eq!(inspect[0]["RepoDigests"], json!([format!("{repository}@{digest}")]));
    });
}

fn a_pulled_image_is_pushed_byte_for_byte(cx: &Cx<'_>) {
    let first = plain();
    each(Options::default(), |second| {
        let name = tagged(cx, first.host(), "a", 2);
        let digest = digest_of(cx.docker(&["push", &name]).ok());
        let id = id_of(cx, &name);
        cx.docker(&["rmi", "-f", &id]).ok();
        cx.docker(&["pull", &name]).ok();
        let other = format!("{}/{}:v1", second.host(), cx.name("other"));
        cx.docker(&["tag", &name, &other]).ok();
        let pushed = cx.docker(&["push", &other]);
        if !cx.is_gantry() {
            return;
        }
        assert_eq!(digest_of(pushed.ok()), digest);
        let accept = "application/vnd.docker.distribution.manifest.v2+json";
        let path = |name: &str| {
            format!("/v2/{}/manifests/v1", name.split_once('/').unwrap().1.trim_end_matches(":v1"))
        };
        let one = http(first.host(), &path(&name), accept);
        assert_eq!(one, http(second.host(), &path(&other), accept));
        assert_eq!(one.0, 200);
    });
}

fn blobs_are_mounted_from_another_repository(cx: &Cx<'_>) {
    // Crane's keeps blobs for all repositories together: there is nothing to mount.
    for registry in [plain(), Registry::gantry(Options::default()).unwrap()] {
        let name = tagged(cx, registry.host(), "a", 2);
        cx.docker(&["push", &name]).ok();
        let other = format!("{}/{}:v1", registry.host(), cx.name("other"));
        cx.docker(&["tag", &name, &other]).ok();
        let pushed = cx.docker(&["push", &other]);
        let from = format!("Mounted from {}", cx.name("a"));
        assert_eq!(pushed.ok().matches(&from).count(), 2, "{}", pushed.describe());
        cx.docker(&["rmi", "-f", &id_of(cx, &name)]).ok();
    }
}

fn all_tags_are_pulled_and_pushed(cx: &Cx<'_>) {
    each(Options::default(), |registry| {
        let name = tagged(cx, registry.host(), "a", 1);
        let repository = name.trim_end_matches(":v1").to_owned();
        cx.docker(&["tag", &name, &format!("{repository}:v2")]).ok();
        let pushed = cx.docker(&["push", "-a", &repository]);
        assert!(pushed.ok().contains("v1: digest:") && pushed.stdout.contains("v2: digest:"));
        let id = id_of(cx, &name);
        cx.docker(&["rmi", "-f", &id]).ok();
        let pulled = cx.docker(&["pull", "-a", &repository]);
        assert!(pulled.ok().contains(&format!("Status: Downloaded newer image for {repository}")));
        for tag in ["v1", "v2"] {
            assert_eq!(id_of(cx, &format!("{repository}:{tag}")), id);
        }
    });
}

fn a_digest_is_pulled(cx: &Cx<'_>) {
    each(Options::default(), |registry| {
        let name = tagged(cx, registry.host(), "a", 1);
        let digest = digest_of(cx.docker(&["push", &name]).ok());
        let id = id_of(cx, &name);
        cx.docker(&["rmi", "-f", &id]).ok();
        let by_digest = format!("{}@{digest}", name.trim_end_matches(":v1"));
        cx.docker(&["pull", &by_digest]).ok();
        assert_eq!(id_of(cx, &by_digest), id);
        cx.docker(&["image", "inspect", &name]).code(1);
        cx.docker(&["rmi", "-f", &id]).ok();
    });
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect()
}

fn progress_has_docker_s_words(cx: &Cx<'_>) {
    let registry = plain();
    let name = tagged(cx, registry.host(), "a", 2);
    let (repository, _) = name.rsplit_once(':').unwrap();
    let push = cx.api().request(
        "POST",
        &format!("/v1.41/images/{repository}/push?tag=v1"),
        &[("X-Registry-Auth", "e30=")],
        b"",
    );
    push.expect(200);
    let said = lines(&push.text());
    assert_eq!(said[0]["status"], format!("The push refers to repository [{repository}]"));
    let aux = said.iter().find(|l| !l["aux"].is_null()).unwrap();
    assert_eq!(aux["aux"]["Tag"], "v1");
    for word in ["Preparing", "Pushed"] {
        assert!(
            said.iter().any(|l| l["status"] == word && l["id"].as_str().map(str::len) == Some(12)),
            "{word}"
        );
    }
    let id = id_of(cx, &name);
    cx.docker(&["rmi", "-f", &id]).ok();
    let pull =
        cx.api().post(&format!("/v1.41/images/create?fromImage={repository}&tag=v1"), &Value::Null);
    pull.expect(200);
    assert_eq!(pull.head.header("Content-Type"), Some("application/json"));
    assert!(pull.text().contains("\r\n"));
    let said = lines(&pull.text());
    assert_eq!(
        (&said[0]["status"], &said[0]["id"]),
        (&json!(format!("Pulling from {repository}")), &json!("v1"))
    );
    for word in ["Pulling fs layer", "Download complete", "Pull complete"] {
        let found: Vec<_> = said.iter().filter(|l| l["status"] == word).collect();
        assert_eq!(found.len(), 2, "{word}: {}", pull.text());
        assert!(
            found
                .iter()
                .all(|l| l["progressDetail"] == json!({}) && l["id"].as_str().unwrap().len() == 12)
        );
    }
    let last = said.last().unwrap();
    assert_eq!(last["status"], format!("Status: Downloaded newer image for {name}"));
    assert!(last["id"].is_null());
}

fn unknown_names_are_told(cx: &Cx<'_>) {
    each(Options::default(), |registry| {
        let host = registry.host();
        let missing = format!("{host}/none/such:1");
        // The specification has a code of its own for a repository that is not there.
        let (told, code) = match registry.kind() {
            Kind::Crane => (format!("repository {host}/none/such not found"), "name unknown"),
            _ => (format!("manifest for {missing} not found"), "manifest unknown"),
        };
        cx.docker(&["pull", &missing]).fails_with(1, &[&format!("{told}: {code}")]);
        let create = cx
            .api()
            .post(&format!("/v1.41/images/create?fromImage={host}/none/such&tag=1"), &Value::Null);
        create.fails(404, &[code]);
        cx.docker(&["push", &missing])
            .fails_with(1, &["An image does not exist locally with the tag"]);
        let local = tagged(cx, host, "a", 1);
        let other = local.replace(":v1", ":v9");
        cx.docker(&["push", &other]).fails_with(1, &["tag does not exist"]);
        cx.docker(&["pull", "127.0.0.1:1/x"]).fails_with(1, &["connection refused"]);
        cx.docker(&["pull", "127.0.0.1:1/X"]).code(1);
        // What `docker run` asks of a missing image comes from the same place.
        cx.docker(&["run", "--rm", &missing, "x"]).fails_with(125, &["not found"]);
    });
}

fn with_config(cx: &Cx<'_>, args: &[&str], stdin: &str) -> testkit::Output {
    let mut docker = cx.command();
    docker.env("DOCKER_CONFIG", cx.dir()).args(args);
    command::run(&mut docker, stdin.as_bytes())
}

fn a_registry_with_users_wants_a_login(cx: &Cx<'_>) {
    each(Options { users: true, tls: false }, |registry| {
        let host = registry.host();
        // Our own has a token server, which knows strangers too.
        let stranger = match registry.kind() {
            Kind::Docker => "no basic auth credentials",
            _ => "authentication required",
        };
        let name = tagged(cx, host, "a", 1);
        cx.docker(&["push", &name]).fails_with(1, &[stranger]);
        let wrong = with_config(cx, &["login", "-u", USER, "--password-stdin", host], "wrong");
        wrong.fails_with(1, &["nauthorized"]);
        let login = with_config(cx, &["login", "-u", USER, "--password-stdin", host], PASSWORD);
        assert!(login.ok().contains("Login Succeeded"), "{}", login.describe());
        with_config(cx, &["push", &name], "").ok();
        let id = id_of(cx, &name);
        cx.docker(&["rmi", "-f", &id]).ok();
        cx.docker(&["pull", &name]).fails_with(1, &[stranger]);
        with_config(cx, &["pull", &name], "").ok();
        assert_eq!(id_of(cx, &name), id);
        with_config(cx, &["logout", host], "").ok();
        with_config(cx, &["push", &name], "").fails_with(1, &[stranger]);
        // Nothing that was a secret is in the daemon's log.
        if cx.is_gantry() && cx.daemon.is_own() {
            let log = std::fs::read_to_string(cx.daemon.path("daemon.log")).unwrap();
            assert!(!log.contains(PASSWORD));
        }
    });
}

/// A daemon of the case's own, without a bridge, with these flags.
pub fn daemon_with(args: &[&str]) -> Daemon {
    Daemon::start(daemon::Options::new().without_bridge().args(args)).unwrap()
}

fn only_gantry(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        skip("a setting or a behaviour of Gantry's own");
    }
}

fn docker(daemon: &Daemon, args: &[&str]) -> testkit::Output {
    command::run(daemon.docker().args(args), b"")
}

fn a_registry_over_tls_needs_its_authority(cx: &Cx<'_>) {
    only_gantry(cx);
    let registry = Registry::docker(Options { users: false, tls: true }).unwrap();
    let host = registry.host();
    let folder = cx.dir().join("certs.d").join(host);
    std::fs::create_dir_all(&folder).unwrap();
    let certs = cx.dir().join("certs.d");
    let daemon = daemon_with(&["--registry-certs-dir", certs.to_str().unwrap()]);
    daemon.load_busybox().unwrap();
    let name = format!("{host}/tls/busybox:1");
    docker(&daemon, &["tag", "busybox", &name]).ok();
    // On this machine a registry counts as insecure, so any certificate does.
    docker(&daemon, &["push", &name]).ok();
    // By a name that is not this machine's it has to be known.
    let outside = name.replace("127.0.0.1", "tls.test");
    docker(&daemon, &["tag", "busybox", &outside]).ok();
    docker(&daemon, &["push", &outside]).fails_with(1, &["no such host"]);
    std::fs::copy(registry.authority(), folder.join("ca.crt")).unwrap();
    docker(&daemon, &["pull", &name]).ok();
    std::fs::write(folder.join("client.cert"), "").unwrap();
    daemon.stop().unwrap();
    daemon.start_again().unwrap();
    docker(&daemon, &["pull", &name])
        .fails_with(1, &["missing key client.key for client certificate client.cert"]);
}

fn the_distribution_endpoint_describes(cx: &Cx<'_>) {
    each(Options::default(), |registry| {
        let name = tagged(cx, registry.host(), "a", 1);
        let digest = digest_of(cx.docker(&["push", &name]).ok());
        let got = cx.api().get(&format!("/v1.41/distribution/{name}/json")).expect(200);
        assert_eq!(got["Descriptor"]["digest"], digest);
        assert_eq!(
            got["Descriptor"]["mediaType"],
            "application/vnd.docker.distribution.manifest.v2+json"
        );
        assert_eq!(got["Platforms"], json!([{"architecture": "amd64", "os": "linux"}]));
        let missing = cx.api().get(&format!("/v1.41/distribution/{}/none:1/json", registry.host()));
        assert!([404, 401, 403].contains(&missing.status()), "{}", missing.text());
    });
}

fn big_layer(cx: &Cx<'_>) -> Vec<u8> {
    let mut layer = Tarball::new();
    // Noise, so that it stays large.
    let mut state = 0x1234_5678_u32;
    let noise: Vec<u8> = (0..3 << 20)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as u8
        })
        .collect();
    layer.file("noise", 0o644, noise).file("name", 0o644, cx.name("x"));
    layer.finish()
}

fn two_pulls_share_one_download(cx: &Cx<'_>) {
    let mut content = Content::default();
    content.image("x", &["1", "2"], "linux/amd64", &[big_layer(cx)]);
    // Slow enough that both are there at once.
    let evil = Evil::start(content, |request, content| {
        if request.method != "GET" || !request.path.contains("/blobs/") {
            return None;
        }
        let (_, body) = content.paths.get(&request.path)?;
        if body.len() < 1 << 20 || request.from() > 0 {
            return None;
        }
        let steps = body
            .chunks(body.len() / 20 + 1)
            .flat_map(|piece| {
                let pause = evilreg::Step::Pause(std::time::Duration::from_millis(50));
                [evilreg::Step::Send(piece.to_vec()), pause]
            })
            .collect();
        Some(Answer::announced(200, &[], body.len(), steps))
    });
    let names: Vec<String> = ["1", "2"].iter().map(|t| format!("{}/x:{t}", evil.host())).collect();
    std::thread::scope(|scope| {
        let pulls: Vec<_> =
            names.iter().map(|n| scope.spawn(move || cx.docker(&["pull", n]))).collect();
        for pull in pulls {
            pull.join().unwrap().ok();
        }
    });
    let blobs = evil.asked("GET", "/blobs/");
    let mut paths: Vec<_> = blobs.iter().map(|r| r.path.clone()).collect();
    paths.sort();
    let all = paths.len();
    paths.dedup();
    // The config may be asked for by both; the layer is not.
    assert!(all <= paths.len() + 1, "{all} requests for {} blobs", paths.len());
    cx.docker(&["rmi", "-f", &names[0], &names[1]]).ok();
}

fn file_layer(name: &str, text: &str) -> Vec<u8> {
    let mut layer = Tarball::new();
    layer.file(name, 0o644, text);
    layer.finish()
}

/// An index of two platforms and an attestation.
fn multi(cx: &Cx<'_>, content: &mut Content, repository: &str, tag: &str) {
    let mut entries = Vec::new();
    for platform in ["linux/amd64", "linux/arm64"] {
        let mut entry =
            content.image(repository, &[], platform, &[file_layer(&cx.name("platform"), platform)]);
        let (os, architecture) = platform.split_once('/').unwrap();
        entry["platform"] = json!({"os": os, "architecture": architecture});
        entries.push(entry);
    }
    let statement = content.blob(repository, "application/vnd.in-toto+json", b"{\"_type\":\"x\"}");
    let config = content.blob(
        repository,
        "application/vnd.oci.image.config.v1+json",
        b"{\"os\":\"unknown\",\"rootfs\":{}}",
    );
    let manifest = json!({"schemaVersion": 2, "mediaType": evilreg::MANIFEST, "config": config, "layers": [statement]});
    let mut entry = content.manifest(repository, &[], evilreg::MANIFEST, &manifest);
    entry["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    entry["annotations"] = json!({
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": entries[0]["digest"],
    });
    // First in the list, where a careless reader takes it.
    entries.insert(0, entry);
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
    content.manifest(repository, &[tag], INDEX, &index);
}

fn several_platforms_stay_side_by_side(cx: &Cx<'_>) {
    only_gantry(cx);
    let mut content = Content::default();
    multi(cx, &mut content, "x", "1");
    let top = content.top.clone();
    let evil = Evil::start(content, |_, _| None);
    let name = format!("{}/x:1", evil.host());
    cx.docker(&["pull", &name]).ok();
    let host = id_of(cx, &name);
    let pulled = cx.docker(&["pull", "--platform", "linux/arm64", &name]);
    assert!(pulled.ok().contains(&format!("Digest: {top}")), "{}", pulled.describe());
    let architecture = |args: &[&str]| {
        let all = [&["image", "inspect", "--format", "{{.Architecture}}"], args, &[&name]].concat();
        cx.docker(&all).ok().to_owned()
    };
    assert_eq!(architecture(&["--platform", "linux/arm64"]), "arm64");
    assert_eq!(architecture(&["--platform", "linux/amd64"]), "amd64");
    // The name alone means this machine's.
    assert_eq!(id_of(cx, &name), host);
    // Both are here: neither has to be asked for again, and neither is dangling.
    evil.forget();
    cx.docker(&["pull", "--platform", "linux/arm64", &name]).ok();
    assert!(evil.asked("GET", "/").is_empty());
    let dangling = cx.docker(&["images", "-q", "-f", "dangling=true"]);
    let arm = cx
        .docker(&["image", "inspect", "--platform", "linux/arm64", "--format", "{{.Id}}", &name])
        .ok()
        .to_owned();
    assert!(!dangling.ok().contains(&arm[7..19]));
    let created =
        cx.docker(&["create", "--platform", "linux/arm64", "--name", &cx.name("arm"), &name]);
    created.ok();
    assert_eq!(cx.inspect(&cx.name("arm"))["Image"], arm);
    cx.docker(&["rm", &cx.name("arm")]).ok();
    cx.docker(&["pull", "--platform", "linux/s390x", &name])
        .fails_with(1, &["no matching manifest for linux/s390x in the manifest list entries"]);
    // The name goes with all of its images.
    cx.docker(&["rmi", &name]).ok();
    for id in [host, arm] {
        cx.docker(&["image", "inspect", &id]).code(1);
    }
}

fn an_index_with_attestations_is_kept(cx: &Cx<'_>) {
    only_gantry(cx);
    let mut content = Content::default();
    multi(cx, &mut content, "x", "1");
    let top = content.top.clone();
    let evil = Evil::start(content, |_, _| None);
    let name = format!("{}/x:1", evil.host());
    cx.docker(&["pull", &name]).ok();
    let target = plain();
    let other = format!("{}/{}:1", target.host(), cx.name("o"));
    // With one platform here the manifest of that goes out, and the client is told.
    cx.docker(&["tag", &name, &other]).ok();
    let single = cx.docker(&["push", &other]);
    assert_ne!(digest_of(single.ok()), top);
    assert!(
        single.stdout.contains("Not all multiplatform-content is present"),
        "{}",
        single.describe()
    );
    // With all of them the index does, attestation and all.
    cx.docker(&["pull", "--platform", "linux/arm64", &name]).ok();
    cx.docker(&["tag", &name, &other]).ok();
    let whole = cx.docker(&["push", &other]);
    assert_eq!(digest_of(whole.ok()), top, "{}", whole.describe());
    cx.docker(&["rmi", "-f", &name, &other]).ok();
}

fn run_and_build_pull_what_is_missing(cx: &Cx<'_>) {
    each(Options::default(), |registry| {
        let host = registry.host();
        let name = format!("{host}/{}:1", cx.name("base"));
        cx.docker(&["tag", "busybox", &name]).ok();
        cx.docker(&["push", &name]).ok();
        cx.docker(&["rmi", &name]).ok();
        assert_eq!(
            cx.docker(&["run", "--rm", "--network", "none", &name, "echo", "pulled"]).ok(),
            "pulled"
        );
        cx.docker(&["rmi", &name]).ok();
        cx.write("Dockerfile", format!("FROM {name}\nRUN echo built > /built\n"));
        let tag = cx.name("built");
        let built = cx.docker(&["build", "-t", &tag, "."]);
        built.ok();
        assert_eq!(
            cx.docker(&["run", "--rm", "--network", "none", &tag, "cat", "/built"]).ok(),
            "built"
        );
        cx.docker(&["build", "--pull", "-t", &tag, "."]).ok();
        cx.write("Dockerfile", format!("FROM {host}/none/such:1\n"));
        cx.docker(&["build", "."]).fails_with(1, &["none/such"]);
        cx.docker(&["rmi", "-f", &tag, &name]).ok();
    });
}

/// A registry that wants tokens, and its token server at `/token`, in one.
fn token_registry(content: Content, refresh: bool) -> Evil {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    Evil::on(listener, content, move |request, _| {
        if request.path == "/token" {
            let basic = request.header("authorization") == Some("Basic YWxpY2U6c2VjcmV0");
            let form = String::from_utf8_lossy(&request.body).into_owned();
            let renewed = request.method == "POST" && form.contains("refresh_token=long-lived");
            if !basic && !renewed {
                return Some(Answer::error(401, "UNAUTHORIZED", "who are you"));
            }
            let mut body = json!({"token": "short-lived", "expires_in": 60});
            if refresh && request.query.contains("offline_token=true") {
                body["refresh_token"] = "long-lived".into();
            }
            return Some(Answer::new(200, &[], body.to_string().as_bytes()));
        }
        if request.header("authorization") == Some("Bearer short-lived") {
            return None;
        }
        let challenge = format!(
            "Bearer realm=\"http://{host}/token\",service=\"test\",scope=\"repository:x:pull\""
        );
        Some(Answer::new(401, &[("WWW-Authenticate", &challenge)], b""))
    })
}

fn tokens_are_got_and_refreshed(cx: &Cx<'_>) {
    for refresh in [false, true] {
        let mut content = Content::default();
        content.image("x", &["1"], "linux/amd64", &[file_layer("a", &cx.name("a"))]);
        let evil = token_registry(content, refresh);
        let host = evil.host();
        let name = format!("{host}/x:1");
        cx.docker(&["pull", &name]).code(1);
        with_config(cx, &["login", "-u", USER, "--password-stdin", &host], "wrong").code(1);
        with_config(cx, &["login", "-u", USER, "--password-stdin", &host], PASSWORD).ok();
        let stored = std::fs::read_to_string(cx.dir().join("config.json")).unwrap();
        assert_eq!(stored.contains("identitytoken"), refresh, "{stored}");
        evil.forget();
        with_config(cx, &["pull", &name], "").ok();
        let tokens = evil.requests();
        let tokens: Vec<_> = tokens.iter().filter(|r| r.path == "/token").collect();
        assert_eq!(tokens.len(), 1);
        assert_eq!(tokens[0].method == "POST", refresh);
        if !refresh {
            assert!(
                tokens[0].query.contains("scope=repository%3Ax%3Apull")
                    && tokens[0].query.contains("service=test"),
                "{}",
                tokens[0].query
            );
        }
        cx.docker(&["rmi", &name]).ok();
        with_config(cx, &["logout", &host], "").ok();
    }
}

fn search_asks_the_registry(cx: &Cx<'_>) {
    let evil = Evil::start(Content::default(), |request, _| {
        if request.path != "/v1/search" {
            return (request.path == "/v1/_ping").then(|| Answer::new(200, &[], b"{}"));
        }
        let body = json!({"num_results": 2, "query": "we", "results": [
            {"name": "web", "description": "a server", "star_count": 5, "is_official": true},
            {"name": "weak", "description": "", "star_count": 1},
        ]});
        Some(Answer::new(200, &[("Content-Type", "application/json")], body.to_string().as_bytes()))
    });
    let term = format!("{}/we", evil.host());
    let found = cx.docker(&["search", &term]);
    assert!(found.ok().contains("web") && found.stdout.contains("weak"), "{}", found.describe());
    let starred = cx.docker(&["search", "--filter", "stars=3", "--format", "{{.Name}}", &term]);
    assert_eq!(starred.ok(), "web");
    let asked = evil.asked("GET", "/v1/search");
    assert!(asked[0].query.contains("q=we"), "{}", asked[0].query);
    cx.api().get(&format!("/v1.41/images/search?term={term}&limit=1000")).expect(400);
}

fn our_registry_is_searched(cx: &Cx<'_>) {
    let registry = Registry::gantry(Options::default()).unwrap();
    let host = registry.host();
    let name = tagged(cx, host, "findme", 1);
    cx.docker(&["push", &name]).ok();
    let found = cx.docker(&["search", "--format", "{{.Name}}", &format!("{host}/findme")]);
    assert!(found.ok().contains(&cx.name("findme")), "{}", found.describe());
    let none = cx.docker(&["search", "--format", "{{.Name}}", &format!("{host}/nothing-such")]);
    assert_eq!(none.ok(), "");
}

fn pulls_are_facts(cx: &Cx<'_>) {
    only_gantry(cx);
    let registry = plain();
    let name = tagged(cx, registry.host(), "a", 1);
    let digest = digest_of(cx.docker(&["push", &name]).ok());
    let id = id_of(cx, &name);
    let facts = cx.api().get(&format!("/images/{id}/json")).expect(200)["Gantry"].clone();
    assert_eq!(facts["Pushed"][0]["to"], name);
    assert_eq!(facts["Pushed"][0]["digest"], digest);
    cx.docker(&["rmi", "-f", &id]).ok();
    cx.docker(&["pull", &name]).ok();
    let facts = cx.api().get(&format!("/images/{id}/json")).expect(200)["Gantry"].clone();
    assert_eq!(facts["Came"]["how"], "pull");
    assert_eq!(facts["Came"]["from"], format!("{name}@{digest}"));
    for action in ["pull", "push"] {
        let filters = json!({"type": ["image"], "event": [action]}).to_string();
        let filters = filters.replace('"', "%22");
        cx.until(&format!("{action} is told"), || {
            let now = testkit::host::now();
            let path = format!("/v1.41/events?since=0&until={now}&filters={filters}");
            let said = cx.api().get(&path).text();
            said.contains(&format!("\"ID\":\"{name}\"")).then_some(())
        });
    }
}

fn zstd_is_pushed_when_asked_for(cx: &Cx<'_>) {
    only_gantry(cx);
    let zstd = "application/vnd.oci.image.layer.v1.tar+zstd";
    let daemon = daemon_with(&["--push-compression", "zstd"]);
    each(Options::default(), |registry| {
        let name = tagged(cx, registry.host(), "z", 2);
        let id = id_of(cx, &name);
        let archive = cx.docker(&["save", &name]);
        archive.ok();
        cx.docker(&["rmi", "-f", &id]).ok();
        command::run(daemon.docker().args(["load", "-q"]), &archive.bytes).ok();
        docker(&daemon, &["push", &name]).ok();
        let path = name.split_once('/').unwrap().1.trim_end_matches(":v1").to_owned();
        let accept = "application/vnd.oci.image.manifest.v1+json";
        let (status, manifest) = http(registry.host(), &format!("/v2/{path}/manifests/v1"), accept);
        assert_eq!(status, 200);
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let layers = manifest["layers"].as_array().unwrap();
        assert_eq!(layers.len(), 2);
        for layer in layers {
            assert_eq!(layer["mediaType"], zstd, "{manifest}");
            let blob = format!("/v2/{path}/blobs/{}", layer["digest"].as_str().unwrap());
            let (_, bytes) = http(registry.host(), &blob, "*/*");
            assert_eq!(bytes[..4], [0x28, 0xb5, 0x2f, 0xfd], "zstd's magic number");
            assert_eq!(layer["size"], bytes.len());
        }
        // Others read it, and find what was pushed.
        cx.docker(&["pull", &name]).ok();
        assert_eq!(id_of(cx, &name), id);
        cx.docker(&["rmi", "-f", &id]).ok();
        docker(&daemon, &["rmi", "-f", &id]).ok();
    });
}

fn manifests_are_inspected_where_they_are(cx: &Cx<'_>) {
    each(Options::default(), |registry| {
        let name = tagged(cx, registry.host(), "m", 3);
        let id = id_of(cx, &name);
        let digest = digest_of(cx.docker(&["push", &name]).ok());
        let manifest = cx.docker(&["manifest", "inspect", "--insecure", &name]).json();
        assert_eq!(manifest["schemaVersion"], 2);
        assert_eq!(manifest["config"]["digest"], id);
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 3);
        let verbose = cx.docker(&["manifest", "inspect", "--insecure", "-v", &name]).json();
        assert_eq!(verbose["Descriptor"]["digest"], digest);
        cx.docker(&["rmi", "-f", &id]).ok();
    });
}
