//! Who may do what: passwords, tokens, rules, what is written down, who is notified, TLS.

use crate::{
    http::{Client, basic, list},
    image::{OCI_MANIFEST, and, manifest, noise},
    server::{Server, try_admin},
};
use base::Digest;
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    sync::mpsc,
    time::Duration,
};

/// Waits, with a limit, for what comes by itself.
#[track_caller]
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..600 {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{what} did not come");
}

fn records(server: &Server, arguments: &[&str]) -> Vec<serde_json::Value> {
    let text = server.admin(&[&["audit"], arguments].concat(), "");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_method_needs_its_right_in_its_repository() {
    let server = Server::with_users("");
    let nobody = server.client();
    let (carol, bob) = (nobody.as_user("carol", "carols"), nobody.as_user("bob", "bobs"));
    let digest = carol.push_image("team/app", "v1", "rights", 50_000);
    let root = nobody.as_user("root", "roots");
    root.push_image("public/app", "v1", "public", 100);
    root.push_image("secret/app", "v1", "secret", 100);

    assert!(bob.has_image("team/app", "v1") && nobody.has_image("public/app", "v1"));
    let blob = Digest::sha256(&noise("rights", 50_000));
    // (method, path, body, who may)
    let upload = "/v2/team/app/blobs/uploads/";
    let cases: &[(&'static str, String, &[&str])] = &[
        ("GET", "/v2/team/app/tags/list".into(), &["carol", "bob", "root"]),
        ("HEAD", "/v2/team/app/manifests/v1".into(), &["carol", "bob", "root"]),
        ("GET", format!("/v2/team/app/blobs/{blob}"), &["carol", "bob", "root"]),
        ("GET", format!("/v2/team/app/referrers/{digest}"), &["carol", "bob", "root"]),
        ("POST", upload.into(), &["carol", "root"]),
        ("PUT", "/v2/team/app/manifests/v2".into(), &["carol", "root"]),
        ("GET", "/v2/secret/app/manifests/v1".into(), &["root"]),
        ("POST", "/v2/secret/app/blobs/uploads/".into(), &["root"]),
        ("POST", "/v2/public/app/blobs/uploads/".into(), &["root"]),
        ("DELETE", "/v2/public/app/manifests/v1".into(), &["root"]),
        ("GET", "/v2/teamwork/app/tags/list".into(), &["root"]),
        ("DELETE", "/v2/team/app/manifests/v1".into(), &["carol", "root"]),
    ];
    for (method, path, allowed) in cases {
        for (who, client) in [("", &nobody), ("bob", &bob), ("carol", &carol), ("root", &root)] {
            let mut ask = client.ask(method, path);
            if matches!(*method, "POST" | "PUT") {
                ask = ask.body(b"");
            }
            let answer = ask.send();
            let refused = matches!(answer.status, 401 | 403);
            assert_eq!(
                refused,
                !allowed.contains(&who),
                "{method} {path} by {who:?}: {}",
                answer.status
            );
            if refused && *method != "HEAD" {
                // Only who has said nothing yet is asked who he is.
                let want = if who.is_empty() { (401, "UNAUTHORIZED") } else { (403, "DENIED") };
                assert_eq!((answer.status, &*answer.code()), want, "{method} {path} by {who:?}");
            }
        }
    }
    let denied = eventually("the record of a refusal", || {
        let found = records(&server, &["--action", "denied", "--user", "bob"]);
        (!found.is_empty()).then_some(found)
    });
    assert_eq!(denied[0]["address"], "127.0.0.1");
}

#[test]
fn basic_authentication_works_without_a_token() {
    let server = Server::with_users("");
    let client = server.client();
    let ask = |name: &str, password: &str| {
        client.ask("GET", "/v2/").plain().header("Authorization", &basic(name, password)).send()
    };
    ask("carol", "carols").is(200);
    for (name, password) in [("carol", "Carols"), ("carol", ""), ("nobody", "carols"), ("", "")] {
        let refused = ask(name, password).fails(401, "UNAUTHORIZED");
        assert!(refused.header("www-authenticate").starts_with("Bearer realm=\"http://127.0.0.1:"));
    }
    client.ask("GET", "/v2/").plain().header("Authorization", "Bearer x.y.z").send().is(401);
    client.ask("GET", "/v2/").plain().header("Authorization", "Digest x").send().is(401);
    client.ask("GET", "/v2/").plain().send().fails(401, "UNAUTHORIZED");
}

#[test]
fn a_token_allows_what_was_asked_and_the_rules_say() {
    let server = Server::with_users("");
    let client = server.client();
    client.as_user("carol", "carols").push_image("team/app", "v1", "token", 100);
    let challenge = client.ask("GET", "/v2/team/app/manifests/v1").plain().send().is(401);
    let challenge = challenge.header("www-authenticate").to_owned();
    for part in
        ["/auth/token\"", "service=\"gantry-registry\"", "scope=\"repository:team/app:pull\""]
    {
        assert!(challenge.contains(part), "{part} in {challenge}");
    }
    let token = |scopes: &str, user: Option<(&str, &str)>| {
        let path = format!("/auth/token?service=gantry-registry&client_id=test{scopes}");
        let mut ask = client.ask("GET", &path).plain();
        if let Some((name, password)) = user {
            ask = ask.header("Authorization", &basic(name, password));
        }
        let answer = ask.send().is(200).json();
        assert!(answer["expires_in"].as_u64().unwrap() >= 60);
        assert_eq!(answer["token"], answer["access_token"]);
        assert!(answer["issued_at"].as_str().unwrap().ends_with('Z'));
        assert!(answer.get("refresh_token").is_none());
        answer["token"].as_str().unwrap().to_owned()
    };
    let claims = |token: &str| -> serde_json::Value {
        use base64::Engine as _;
        let body = token.split('.').nth(1).unwrap();
        let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        serde_json::from_slice(&engine.decode(body).unwrap()).unwrap()
    };
    let bob = Some(("bob", "bobs"));
    let much =
        token("&scope=repository:team/app:pull,push,delete&scope=repository:secret/x:pull", bob);
    assert_eq!(claims(&much)["access"].as_array().unwrap().len(), 1);
    assert_eq!(list(&claims(&much)["access"][0]["actions"]), ["pull"]);
    assert_eq!(claims(&much)["sub"], "bob");
    let ask = |method: &'static str, path: &str, token: &str| {
        client.ask(method, path).plain().header("Authorization", &format!("Bearer {token}")).send()
    };
    ask("GET", "/v2/team/app/manifests/v1", &much).is(200);
    ask("GET", "/v2/team/other/manifests/v1", &much).is(401);
    ask("POST", "/v2/team/app/blobs/uploads/", &much).is(403);

    // A token for one repository is no key to another, even if its owner may go there.
    let carol = Some(("carol", "carols"));
    let narrow = token("&scope=repository:team/one:push", carol);
    let refused = ask("GET", "/v2/team/app/manifests/v1", &narrow).is(401);
    assert!(refused.header("www-authenticate").contains("error=\"insufficient_scope\""));
    // A push token does not delete.
    let push = token("&scope=repository:team/app:pull,push", carol);
    ask("DELETE", "/v2/team/app/manifests/v1", &push).is(401);
    ask("GET", "/v2/team/app/manifests/v1", &push).is(200);
    // Nobody's token opens what is open to all, and nothing else.
    let anonymous = token("&scope=repository:team/app:pull", None);
    ask("GET", "/v2/team/app/manifests/v1", &anonymous).is(401);
    let wrong = client
        .ask("GET", "/auth/token?service=gantry-registry")
        .plain()
        .header("Authorization", &basic("carol", "wrong"))
        .send();
    wrong.fails(401, "UNAUTHORIZED");
}

#[test]
fn refresh_tokens_work_by_the_oauth_form_and_end_with_the_password() {
    let server = Server::with_users("");
    let client = server.client();
    let form = |text: &str| {
        client
            .ask("POST", "/auth/token")
            .plain()
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(text.as_bytes())
            .send()
    };
    let login = client
        .ask(
            "GET",
            "/auth/token?service=gantry-registry&offline_token=true&client_id=docker&account=carol",
        )
        .plain()
        .header("Authorization", &basic("carol", "carols"))
        .send()
        .is(200)
        .json();
    let refresh = login["refresh_token"].as_str().unwrap().to_owned();
    let rest = "&service=gantry-registry&client_id=docker&scope=repository:team/a:pull+repository:team/b:pull,push";
    let granted =
        form(&format!("grant_type=refresh_token&refresh_token={refresh}{rest}")).is(200).json();
    let token = granted["access_token"].as_str().unwrap().to_owned();
    let begun = client
        .ask("POST", "/v2/team/b/blobs/uploads/")
        .plain()
        .header("Authorization", &format!("Bearer {token}"))
        .body(b"")
        .send();
    begun.is(202);
    let password =
        format!("grant_type=password&username=carol&password=carols&access_type=offline{rest}");
    assert!(form(&password).is(200).json()["refresh_token"].is_string());
    form(&password.replace("carols", "wrong")).fails(401, "UNAUTHORIZED");
    form("grant_type=refresh_token&refresh_token=made-up").fails(401, "UNAUTHORIZED");
    form("grant_type=client_credentials").is(405);

    server.admin(&["user", "passwd", "carol"], "new");
    form(&format!("grant_type=refresh_token&refresh_token={refresh}{rest}"))
        .fails(401, "UNAUTHORIZED");
    form(&password.replace("carols", "new")).is(200);
    form(&password).is(401);
}

#[test]
fn failed_logins_run_out() {
    let server = Server::with_users("");
    let client = server.client();
    let ask = || {
        client.ask("GET", "/v2/").plain().header("Authorization", &basic("carol", "guess")).send()
    };
    for _ in 0..10 {
        ask().is(401);
    }
    assert_eq!(ask().fails(429, "TOOMANYREQUESTS").header("retry-after"), "60");
}

#[test]
fn a_blob_is_read_and_mounted_only_through_repositories_that_one_may_read() {
    let server = Server::with_users("");
    let nobody = server.client();
    let (root, carol) = (nobody.as_user("root", "roots"), nobody.as_user("carol", "carols"));
    let bytes = noise("private blob", 50_000);
    let digest = root.push_blob("secret/app", &bytes);
    carol.push_image("team/app", "v1", "own", 10);
    carol.get(&format!("/v2/team/app/blobs/{digest}")).fails(404, "BLOB_UNKNOWN");
    for query in [format!("mount={digest}&from=secret/app"), format!("mount={digest}")] {
        carol.post(&format!("/v2/team/app/blobs/uploads/?{query}")).is(202);
    }
    // Naming it in a manifest does not help either.
    let value = manifest(&bytes, &[]);
    carol.put_manifest("team/app", "stolen", &value).fails(404, "MANIFEST_BLOB_UNKNOWN");
    // Who has the bytes may bring them.
    carol.push_blob("team/app", &bytes);
    carol.get(&format!("/v2/team/app/blobs/{digest}")).is(200);
    // Deleted there, and pushed again elsewhere: still gone.
    carol.delete(&format!("/v2/team/app/blobs/{digest}")).is(202);
    carol.get(&format!("/v2/team/app/blobs/{digest}")).is(404);
    root.get(&format!("/v2/secret/app/blobs/{digest}")).is(200);
}

#[test]
fn lists_show_what_the_caller_may_see() {
    let server = Server::with_users("");
    let nobody = server.client();
    let root = nobody.as_user("root", "roots");
    for name in ["team/one", "team/two", "secret/one", "public/one"] {
        root.push_image(name, "x", "lists", 10);
    }
    let names =
        |client: &Client, path: &str| list(&client.get(path).is(200).json()["repositories"]);
    assert_eq!(names(&root, "/v2/_catalog"), ["public/one", "secret/one", "team/one", "team/two"]);
    let bob = nobody.as_user("bob", "bobs");
    assert_eq!(names(&bob, "/v2/_catalog"), ["public/one", "team/one", "team/two"]);
    let page = bob.get("/v2/_catalog?n=1&last=public/one").is(200);
    assert_eq!(list(&page.json()["repositories"]), ["team/one"]);
    assert!(page.header("link").contains("last=team%2Fone"));
    assert!(!names(&bob, "/v2/_catalog?n=1&last=team/two").contains(&"secret/one".to_owned()));
    nobody.ask("GET", "/v2/_catalog").plain().send().is(401);

    let search = |client: &Client, query: &str, shown: &str| {
        let mut ask = client.ask("GET", &format!("/v1/search?{query}")).plain();
        if !shown.is_empty() {
            ask = ask.header("Authorization", shown);
        }
        ask.send().is(200).json()
    };
    let found = search(&nobody, "q=one&n=25", "");
    assert_eq!(
        (&found["num_results"], &found["results"][0]["name"]),
        (&1.into(), &"public/one".into())
    );
    assert_eq!(search(&nobody, "q=one", &basic("root", "roots"))["num_results"], 3);
    assert_eq!(search(&nobody, "q='%20OR%201=1--", "")["num_results"], 0);
}

#[test]
fn rules_and_users_change_while_the_server_runs() {
    let server = Server::with_users("");
    let carol = server.client().as_user("carol", "carols");
    carol.push_image("team/app", "v1", "changing rules", 10);
    server.admin(&["rule", "set", "bob", "team/app", "pull,push"], "");
    let bob = || server.client().as_user("bob", "bobs").post("/v2/team/app/blobs/uploads/").status;
    eventually("the new rule", || (bob() == 202).then_some(()));
    server.admin(&["rule", "rm", "bob", "team/app"], "");
    eventually("the end of the rule", || (bob() == 403).then_some(()));
    server.admin(&["user", "rm", "bob"], "");
    eventually("the end of the user", || (bob() == 401).then_some(()));
    assert!(!server.admin(&["rule", "ls"], "").contains("bob"));
    assert!(server.admin(&["user", "ls"], "").starts_with("carol\t"));
    for wrong in [
        vec!["rule", "set", "nobody", "**", "pull"],
        vec!["rule", "set", "carol", "../x", "pull"],
        vec!["rule", "set", "carol", "**", "fly"],
        vec!["rule", "rm", "carol", "no/rule"],
        vec!["user", "rm", "nobody"],
        vec!["user", "add", "carol"],
        vec!["user", "add", "a:b"],
    ] {
        let output = try_admin(&server.root(), &wrong, "password");
        assert!(!output.status.success(), "{wrong:?}");
        assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
    }
    assert!(
        !try_admin(&server.root(), &["user", "add", "dave"], "").status.success(),
        "no password"
    );
}

#[test]
fn users_of_a_htpasswd_file_are_taken_over() {
    let server = Server::with_users("");
    let hash = bcrypt::hash("daves", 4).unwrap().replacen("$2b$", "$2y$", 1);
    let file = server.dir.path().join("htpasswd");
    std::fs::write(&file, format!("dave:{hash}\n")).unwrap();
    server.admin(&["user", "import", file.to_str().unwrap()], "");
    server.admin(&["rule", "set", "@users", "shared/**", "*"], "");
    let dave =
        || server.client().as_user("dave", "daves").post("/v2/shared/x/blobs/uploads/").status;
    eventually("dave", || (dave() == 202).then_some(()));
    std::fs::write(&file, "eve:$apr1$salt$hash\n").unwrap();
    let refused = try_admin(&server.root(), &["user", "import", file.to_str().unwrap()], "");
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("line 1"));
}

#[test]
fn every_pull_and_push_is_written_down() {
    let mut server = Server::with_users("");
    let carol = server.client().as_user("carol", "carols");
    let digest = carol.push_image("team/app", "v1", "records", 50_000);
    carol.get("/v2/team/app/manifests/v1").is(200);
    let url = format!(
        "/v2/team/app/blobs/uploads/?mount={}&from=team/app",
        Digest::sha256(&noise("records", 50_000))
    );
    carol.post(&url.replace("/team/app/blobs", "/team/new/blobs")).is(201);
    carol.delete("/v2/team/app/manifests/v1").is(202);
    // In the records even if the server dies now: pushes at once, pulls a moment later.
    let found = eventually("the record of the pull", || {
        let found = records(&server, &["--user", "carol", "--since", "1h"]);
        found.iter().any(|r| r["action"] == "pull").then_some(found)
    });
    server.kill();
    let of = |action: &str| found.iter().filter(|r| r["action"] == action).collect::<Vec<_>>();
    assert_eq!(
        (of("push").len(), of("pull").len(), of("mount").len(), of("delete").len()),
        (3, 1, 1, 1)
    );
    let pull = of("pull")[0];
    assert_eq!(pull["digest"], digest.as_str());
    assert_eq!((&pull["reference"], &pull["repository"]), (&"v1".into(), &"team/app".into()));
    assert!(pull["client"].as_str().unwrap().starts_with("ureq"));
    assert_eq!(of("mount")[0]["reference"], "team/app");
    let text = server.admin(&["audit"], "");
    assert!(!text.contains("carols"), "no secret in the records");
    assert!(!server.log().join("\n").contains("carols"), "no secret in the log");
}

/// Takes one envelope and answers with `status`; the events in it.
fn take(listener: &TcpListener, status: &str) -> Vec<serde_json::Value> {
    let (mut stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut length, mut kind, mut line) = (0, String::new(), String::new());
    loop {
        line.clear();
        reader.read_line(&mut line).unwrap();
        let lower = line.to_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if let Some(value) = lower.strip_prefix("content-type:") {
            kind = value.trim().to_owned();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    assert_eq!(kind, "application/vnd.docker.distribution.events.v1+json");
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let envelope: serde_json::Value = serde_json::from_slice(&body).unwrap();
    envelope["events"].as_array().unwrap().clone()
}

#[test]
fn notifications_come_in_order_through_failures_and_a_kill() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let config = format!(
        "[[notifications]]\nname = \"hook\"\nurl = \"{url}\"\nbackoff = \"10ms\"\n\
         ignore_media_types = [\"application/octet-stream\"]\nignore_actions = [\"pull\"]\n"
    );
    let mut server = Server::with(&config, &[]);
    let (told, heard) = mpsc::channel();
    std::thread::spawn(move || {
        // The endpoint is down at first.
        for status in ["500 Down", "503 Down"] {
            take(&listener, status);
        }
        for _ in 0..20 {
            for event in take(&listener, "200 OK") {
                if told.send(event).is_err() {
                    return;
                }
            }
        }
    });
    let client = server.client();
    let first = client.push_image("a", "one", "event one", 10);
    client.get("/v2/a/manifests/one").is(200);
    server.kill();
    server.start_again();
    server.client().push_image("a", "two", "event two", 10);
    server.client().delete(&format!("/v2/a/manifests/{first}")).is(202);
    let mut events = Vec::new();
    while events.len() < 3 {
        let event = heard.recv_timeout(Duration::from_secs(30)).unwrap();
        // One may come twice when the server was killed between sending and noting it.
        if events.iter().all(|e: &serde_json::Value| e["id"] != event["id"]) {
            events.push(event);
        }
    }
    let short: Vec<_> = events
        .iter()
        .map(|e| (e["action"].as_str().unwrap(), e["target"]["tag"].as_str()))
        .collect();
    assert_eq!(short, [("push", Some("one")), ("push", Some("two")), ("delete", None)]);
    assert_eq!(events[0]["target"]["mediaType"], OCI_MANIFEST);
    assert_eq!(events[0]["target"]["digest"], first.as_str());
    assert_eq!(events[0]["request"]["method"], "PUT");
    assert_ne!(events[0]["source"]["instanceID"], events[1]["source"]["instanceID"]);
}

#[test]
fn metrics_and_health_are_on_the_administrators_address() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = Server::with(&format!("admin = \"127.0.0.1:{port}\"\n"), &[]);
    let admin = Client::new(&format!("http://127.0.0.1:{port}"), None);
    let client = server.client();
    client.push_image("a", "x", "metrics", 50_000);
    assert_eq!(admin.get("/healthz").is(200).text(), "ok\n");
    assert_eq!(admin.get("/readyz").is(200).text(), "ready\n");
    client.get("/readyz").is(200);
    let text = admin.get("/metrics").is(200).text();
    for line in [
        "gantry_registry_requests_total{route=\"manifest\",method=\"PUT\",status=\"201\"} 1",
        "gantry_registry_blobs 2",
        "gantry_registry_uploads 0",
        "# EOF",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    client.get("/metrics").is(404);
    // A disk that is away shows.
    std::fs::rename(server.root().join("uploads"), server.root().join("gone")).unwrap();
    admin.get("/readyz").is(503);
    admin.get("/healthz").is(200);
}

#[test]
fn certificates_are_renewed_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let renew = || {
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
        std::fs::write(&cert, pair.cert.pem()).unwrap();
        pair.cert.pem()
    };
    let first = renew();
    let files = ["--tls-certificate", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let server = Server::below(dir, "", &files);
    let url = server.url().replace("http://127.0.0.1", "https://localhost");
    let client = Client::trusting(&url, &first);
    client.push_image("a", "x", "over tls", 200_000);
    assert!(client.has_image("a", "x"));
    let second = renew();
    server.signal(rustix::process::Signal::HUP);
    eventually("the new certificate", || {
        let renewed =
            std::panic::catch_unwind(|| Client::trusting(&url, &second).get("/v2/").status);
        (renewed.ok() == Some(200)).then_some(())
    });
    // Plain HTTP is not let in.
    assert!(std::panic::catch_unwind(|| Client::new(&server.url(), None).get("/v2/")).is_err());
}

#[test]
fn a_location_is_good_whatever_the_host_is_called() {
    let server = Server::start();
    let client = server.client();
    let begun = client
        .ask("POST", "/v2/a/blobs/uploads/")
        .body(b"")
        .header("X-Forwarded-Host", "evil")
        .send();
    let location = begun.is(202).header("location").to_owned();
    assert!(location.starts_with("/v2/a/blobs/uploads/"));
    let digest = Digest::sha256(b"x");
    client.ask("PUT", &and(&location, &format!("digest={digest}"))).body(b"x").send().is(201);
}
