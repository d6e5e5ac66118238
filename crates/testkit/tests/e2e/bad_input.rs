//! Requests that no good client sends: docker's status and message, never a hang, never a panic.

use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use testkit::{Cx, cases, suite::Case};

pub const CASES: &[Case] = cases![
    malformed_json,
    wrong_types,
    two_documents,
    wrong_content_type,
    deep_nesting,
    huge_bodies_are_bounded,
    names_with_slashes_and_dots,
    unknown_ids_everywhere,
    bad_query_values,
    half_requests_close,
    garbage_is_refused,
    bad_chunks,
    pipelined_and_repeated_headers,
    upgrade_to_nonsense,
    bodies_where_none_belong,
    wrong_methods,
    client_vanishes_in_the_middle,
    bad_filters,
    removing_while_listing,
    bad_signals_and_times,
    bad_builds,
];

fn alive(cx: &Cx<'_>) {
    assert!(cx.daemon.answers(), "the daemon answers after all that");
}

/// The status of a request that is wrong: dockerd 20.10 often has 500 for it.
fn wrong(cx: &Cx<'_>, status: u16) -> bool {
    status == 400 || (status == 500 && !cx.is_gantry())
}

fn malformed_json(cx: &Cx<'_>) {
    let api = cx.api();
    let json_type = [("Content-Type", "application/json")];
    for body in ["{", "[1,2", "nonsense", "{\"Image\": }", "\"text\"", "42"] {
        let answer = api.request("POST", "/v1.41/containers/create", &json_type, body.as_bytes());
        assert!(wrong(cx, answer.status()), "{body}: {}", answer.text());
        assert!(!answer.message().is_empty(), "{body}");
    }
    let answer = api.request("POST", "/v1.41/containers/create", &json_type, b"");
    assert!(wrong(cx, answer.status()), "{}", answer.text());
    alive(cx);
}

fn wrong_types(cx: &Cx<'_>) {
    let api = cx.api();
    for body in [
        json!({"Image": 7}),
        json!({"Image": "busybox", "Cmd": {"a": 1}}),
        json!({"Image": "busybox", "Env": "A=b"}),
        json!({"Image": "busybox", "HostConfig": []}),
        json!({"Image": "busybox", "HostConfig": {"Memory": "lots"}}),
        json!({"Image": "busybox", "HostConfig": {"PortBindings": [1]}}),
        json!({"Image": "busybox", "Labels": ["a"]}),
        json!({"Image": "busybox", "Tty": "yes"}),
    ] {
        let answer = api.post("/v1.41/containers/create", &body);
        assert!(wrong(cx, answer.status()), "{body}: {}", answer.text());
    }
    alive(cx);
}

fn two_documents(cx: &Cx<'_>) {
    let answer = cx.api().request(
        "POST",
        "/v1.41/volumes/create",
        &[("Content-Type", "application/json")],
        b"{\"Name\":\"x1\"}{\"Name\":\"x2\"}",
    );
    if cx.is_gantry() {
        assert_eq!(answer.status(), 400, "{}", answer.text());
    }
    alive(cx);
}

fn wrong_content_type(cx: &Cx<'_>) {
    let answer = cx.api().request(
        "POST",
        "/v1.41/containers/create",
        &[("Content-Type", "text/plain")],
        b"{\"Image\":\"busybox\"}",
    );
    assert!(matches!(answer.status(), 400 | 415), "{}", answer.text());
    assert!(
        answer.message().contains("ontent-Type") || answer.message().contains("ontent type"),
        "{}",
        answer.text()
    );
}

fn deep_nesting(cx: &Cx<'_>) {
    let body = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let body = format!("{{\"Image\":\"busybox\",\"X\":{body}}}");
    let answer = cx.api().request(
        "POST",
        "/v1.41/containers/create",
        &[("Content-Type", "application/json")],
        body.as_bytes(),
    );
    assert!(wrong(cx, answer.status()) || answer.status() == 201, "{}", answer.status());
    alive(cx);
}

fn huge_bodies_are_bounded(cx: &Cx<'_>) {
    let big = "x".repeat(8 << 20);
    let answer = cx.api().post(
        &format!("/v1.41/containers/create?name={}", cx.name("a")),
        &json!({"Image": "busybox", "Labels": {"big": big}}),
    );
    assert!(matches!(answer.status(), 201 | 400 | 413), "{}", answer.status());
    alive(cx);
}

fn names_with_slashes_and_dots(cx: &Cx<'_>) {
    let api = cx.api();
    for name in
        ["..%2f..%2fetc", "a%2fb", "%2e%2e", "%00", "a%0ab", "%ff%fe", "x".repeat(3000).as_str()]
    {
        let answer = api.get(&format!("/v1.41/containers/{name}/json"));
        assert!(matches!(answer.status(), 400 | 404 | 301 | 414), "{name}: {}", answer.status());
        let answer = api.get(&format!("/v1.41/images/{name}/json"));
        assert!(
            matches!(answer.status(), 400 | 404 | 301 | 414 | 500),
            "{name}: {}",
            answer.status()
        );
        let answer = api.get(&format!("/v1.41/volumes/{name}"));
        assert!(
            matches!(answer.status(), 400 | 404 | 301 | 414 | 500),
            "{name}: {}",
            answer.status()
        );
    }
    alive(cx);
}

fn unknown_ids_everywhere(cx: &Cx<'_>) {
    let api = cx.api();
    let id = "f".repeat(64);
    for (method, path) in [
        ("GET", "json"),
        ("GET", "top"),
        ("GET", "logs?stdout=1"),
        ("POST", "start"),
        ("POST", "stop"),
        ("POST", "restart"),
        ("POST", "kill"),
        ("POST", "pause"),
        ("POST", "unpause"),
        ("POST", "rename?name=abc"),
        ("POST", "attach?stream=1"),
        ("POST", "wait"),
        ("POST", "resize?h=1&w=1"),
    ] {
        for id in [id.as_str(), "no-such-name"] {
            let answer = api.request(method, &format!("/v1.41/containers/{id}/{path}"), &[], b"");
            answer.fails(404, &["No such container", id]);
        }
    }
    api.delete(&format!("/v1.41/containers/{id}")).fails(404, &["No such container"]);
    // dockerd 20.10 stumbles over a well-formed id that it does not have.
    let id = if cx.is_gantry() { id } else { "no-such-name".to_owned() };
    for path in ["json", "history"] {
        api.get(&format!("/v1.41/images/{id}/{path}")).fails(404, &["No such image"]);
    }
    api.post(&format!("/v1.41/images/{id}/tag?repo=x&tag=y"), &Value::Null)
        .fails(404, &["No such image"]);
    api.get(&format!("/v1.41/networks/{id}")).fails(404, &["network", "not found"]);
}

fn bad_query_values(cx: &Cx<'_>) {
    let api = cx.api();
    let bad_limit = api.get("/v1.41/containers/json?limit=nonsense");
    assert!(wrong(cx, bad_limit.status()) || bad_limit.status() == 200, "{}", bad_limit.text());
    for path in [
        "/containers/json?filters=%7B",
        "/containers/json?filters=%5B1%5D",
        "/events?since=nonsense&until=0",
        "/images/json?filters=7",
        "/volumes?filters=x",
        "/networks?filters=x",
    ] {
        let answer = api.get(&format!("/v1.41{path}"));
        assert!(
            matches!(answer.status(), 400 | 500),
            "{path}: {} {}",
            answer.status(),
            answer.text()
        );
        if cx.is_gantry() {
            assert_eq!(answer.status(), 400, "{path}: {}", answer.text());
        }
    }
    alive(cx);
}

fn half_requests_close(cx: &Cx<'_>) {
    for half in [
        "GET",
        "GET /_ping",
        "GET /_ping HTTP/1.1\r\nHos",
        "POST /v1.41/containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"Im",
    ] {
        let mut socket = cx.api().connect().unwrap();
        socket.write_all(half.as_bytes()).unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        _ = socket.read_to_end(&mut rest); // an answer or none, but an end
    }
    alive(cx);
}

fn garbage_is_refused(cx: &Cx<'_>) {
    for garbage in [
        &b"\0\0\0\0\0\0\0\0\r\n\r\n"[..],
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET _ping HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    ] {
        // An answer, or closed without one.
        if let Ok(answer) = cx.api().raw(garbage) {
            assert!(answer.status() >= 400, "{garbage:?}: {}", answer.status());
        }
    }
    alive(cx);
}

fn bad_chunks(cx: &Cx<'_>) {
    for chunks in
        ["zz\r\n{}\r\n0\r\n\r\n", "-1\r\n", "ffffffffffffffffff\r\n{}", "2\r\n{}XX0\r\n\r\n"]
    {
        let request = format!(
            "POST /v1.41/containers/create HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"
        );
        if let Ok(answer) = cx.api().raw(request.as_bytes()) {
            assert!(wrong(cx, answer.status()), "{chunks:?}: {}", answer.text());
        }
    }
    alive(cx);
}

fn pipelined_and_repeated_headers(cx: &Cx<'_>) {
    let answer = cx.api().raw(b"GET /_ping HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\nContent-Length: 5\r\nConnection: close\r\n\r\n");
    assert!(answer.is_ok_and(|a| a.status() == 400));
    let mut socket = cx.api().connect().unwrap();
    socket.write_all(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\nGET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 2, "{text}");
}

fn upgrade_to_nonsense(cx: &Cx<'_>) {
    let answer = cx.api().request(
        "GET",
        "/_ping",
        &[("Connection", "Upgrade"), ("Upgrade", "nonsense")],
        b"",
    );
    assert_eq!(answer.status(), 200);
}

fn bodies_where_none_belong(cx: &Cx<'_>) {
    let name = cx.name("a");
    cx.docker(&["create", "--name", &name, "busybox", "true"]).ok();
    let answer =
        cx.api().post(&format!("/v1.41/containers/{name}/start"), &json!({"Binds": ["/:/host"]}));
    answer.fails(400, &["starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"]);
    let answer = cx.api().request(
        "GET",
        "/v1.41/containers/json",
        &[("Content-Type", "application/json")],
        b"{\"a\":1}",
    );
    assert_eq!(answer.status(), 200);
}

fn wrong_methods(cx: &Cx<'_>) {
    for (method, path) in [
        ("POST", "/info"),
        ("DELETE", "/version"),
        ("PUT", "/containers/json"),
        ("GET", "/containers/create"),
        ("TRACE", "/_ping"),
    ] {
        let answer = cx.api().request(method, &format!("/v1.41{path}"), &[], b"");
        assert!(matches!(answer.status(), 404 | 405), "{method} {path}: {}", answer.status());
    }
}

fn client_vanishes_in_the_middle(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    for path in [
        format!("/containers/{name}/logs?follow=1&stdout=1"),
        "/events".to_owned(),
        format!("/containers/{name}/attach?stream=1&stdout=1"),
    ] {
        let method = if path.contains("attach") { "POST" } else { "GET" };
        for _ in 0..20 {
            drop(cx.api().stream(method, &path, method == "POST", &Value::Null));
        }
    }
    let mut wait = cx.api().connect().unwrap();
    wait.write_all(
        format!("POST /containers/{name}/wait HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n")
            .as_bytes(),
    )
    .unwrap();
    drop(wait);
    cx.docker(&["rm", "-f", &name]).ok();
    alive(cx);
}

fn bad_filters(cx: &Cx<'_>) {
    let api = cx.api();
    for path in ["/containers/json", "/images/json", "/volumes", "/networks"] {
        let answer =
            api.get(&format!("/v1.41{path}?filters=%7B%22no-such-filter%22%3A%5B%22x%22%5D%7D"));
        answer.expect(400);
        assert!(
            answer.message().contains("nvalid filter 'no-such-filter"),
            "{path}: {}",
            answer.text()
        );
    }
    let both =
        api.get("/v1.41/containers/json?filters=%7B%22status%22%3A%7B%22running%22%3Atrue%7D%7D");
    both.expect(200);
}

fn removing_while_listing(cx: &Cx<'_>) {
    std::thread::scope(|scope| {
        for t in 0..3 {
            scope.spawn(move || {
                for n in 0..6 {
                    let name = cx.name(&format!("{t}-{n}"));
                    cx.api()
                        .post(
                            &format!("/containers/create?name={name}"),
                            &json!({"Image": "busybox"}),
                        )
                        .expect(201);
                    assert_eq!(cx.api().delete(&format!("/containers/{name}")).status(), 204);
                }
            });
        }
        for _ in 0..30 {
            assert!(cx.api().get("/containers/json?all=1").expect(200).is_array());
        }
    });
}

fn bad_signals_and_times(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &[]);
    let api = cx.api();
    for signal in ["0", "-1", "999", "SIGNONSENSE", "%20"] {
        let answer =
            api.post(&format!("/v1.41/containers/{name}/kill?signal={signal}"), &Value::Null);
        assert!(matches!(answer.status(), 400 | 500), "{signal}: {}", answer.text());
    }
    let answer = api.post(&format!("/v1.41/containers/{name}/stop?t=nonsense"), &Value::Null);
    assert!(matches!(answer.status(), 400 | 500), "{}", answer.text());
    assert_eq!(cx.inspect(&name)["State"]["Running"], true);
}

fn bad_builds(cx: &Cx<'_>) {
    let tar = [("Content-Type", "application/x-tar")];
    for (query, body) in [
        ("", &b"this is no tar"[..]),
        ("", b""),
        ("buildargs=nonsense", b""),
        ("labels=%5B1%5D", b""),
        ("t=NOT..VALID", b""),
        ("dockerfile=..%2f..%2fetc%2fpasswd", b""),
        ("remote=nonsense", b""),
    ] {
        let answer = cx.api().request("POST", &format!("/v1.41/build?{query}"), &tar, body);
        let refused = answer.status() >= 400 || answer.text().contains("\"error\"");
        assert!(refused, "{query}: {} {}", answer.status(), answer.text());
        assert!(!answer.text().contains("root:"), "{}", answer.text());
    }
    alive(cx);
}
