//! List D: contexts, Dockerfiles and servers that want out of the build.
//!
//! A canary lies outside; nothing may be written beside it or read from it. What BuildKit's mounts and secrets keep in is
//! in `buildx`.

use testkit::{
    Cx, cases,
    evilreg::{Answer, Content, Evil},
    suite::Case,
    tarball::{Entry, Tarball},
};

pub const CASES: &[Case] = cases![
    sources_of_copies_stay_in_their_stage,
    files_that_are_none_are_refused,
    repositories_run_nothing,
    redirects_reach_no_files,
];

/// `POST /build` with a context; status and text of the answer.
fn build(cx: &Cx<'_>, query: &str, context: &[u8]) -> (u16, String) {
    let path = format!("/v1.41/build?t={}:latest{query}", cx.name("img"));
    let headers = [("Content-Type", "application/x-tar")];
    let answer = cx.api().request("POST", &path, &headers, context);
    (answer.status(), answer.text())
}

fn fails(cx: &Cx<'_>, what: &str, query: &str, context: &[u8]) -> String {
    let (status, text) = build(cx, query, context);
    assert!(status >= 400 || text.contains("\"error\""), "{what}: {status}: {text}");
    text
}

fn dockerfile(text: &str) -> Tarball {
    let mut tar = Tarball::new();
    tar.file("Dockerfile", 0o644, text);
    tar
}

/// D6: links in the source of a copy end at the root of the stage; `..` out of it is refused.
fn sources_of_copies_stay_in_their_stage(cx: &Cx<'_>) {
    let canary = cx.write("canary", "of the host");
    let path = canary.display();
    for from in [format!("/../../../../..{path}"), format!("/link{path}"), "/up/canary".to_owned()]
    {
        let up = canary.parent().unwrap().display();
        let file = format!(
            "FROM busybox AS a\nRUN ln -s / /link; ln -s ../../../../../../..{up} /up\nFROM busybox\nCOPY --from=a {from} /stolen\n"
        );
        let text = fails(cx, &from, "", &dockerfile(&file).finish());
        assert!(!text.contains("of the host"), "{text}");
    }
    let file = "FROM busybox AS a\nRUN echo of the stage > /f; ln -s /../../.. /dir\nFROM busybox\nCOPY --from=a /dir/f /f\n";
    let (status, text) = build(cx, "", &dockerfile(file).finish());
    assert!(status == 200 && !text.contains("\"error\""), "{text}");
    let tag = format!("{}:latest", cx.name("img"));
    assert_eq!(cx.docker(&["run", "--rm", &tag, "cat", "/f"]).ok(), "of the stage");
}

/// D6: a Dockerfile or .dockerignore that is a pipe, a device or a link out of the context ends the build, not the daemon.
fn files_that_are_none_are_refused(cx: &Cx<'_>) {
    for name in ["Dockerfile", ".dockerignore"] {
        for (kind, link, device) in [
            (b'6', &b""[..], (0, 0)),
            (b'3', b"", (1, 5)),
            (b'2', b"/dev/zero", (0, 0)),
            (b'2', b"../../../../../../../../etc/shadow", (0, 0)),
            (b'2', b"/proc/self/environ", (0, 0)),
        ] {
            let mut tar = Tarball::new();
            if name != "Dockerfile" {
                tar.file("Dockerfile", 0o644, "FROM busybox\nCOPY . /all\n");
            }
            tar.entry(
                &Entry { name: name.as_bytes(), kind, link, device, ..Entry::default() },
                b"",
            );
            let (status, text) = build(cx, "", &tar.finish());
            let what = format!("{name} of kind {}", char::from(kind));
            assert!(!text.contains("root:"), "{what}: {text}");
            if name == "Dockerfile" {
                assert!(status >= 400 || text.contains("\"error\""), "{what}: {text}");
            }
        }
    }
    for name in ["../Dockerfile", "/etc/passwd", "../../../../etc/passwd", "a/../../x"] {
        let query = format!("&dockerfile={}", name.replace('/', "%2F"));
        let text = fails(cx, name, &query, &dockerfile("FROM busybox\n").finish());
        assert!(!text.contains("root:"), "{text}");
    }
}

/// D5: what is said to be a repository runs no program and reads no folder of the host.
fn repositories_run_nothing(cx: &Cx<'_>) {
    let canary = cx.dir().join("ran");
    let touch = format!("touch {}", canary.display());
    for remote in [
        format!("git://127.0.0.1:1/x.git#--upload-pack={touch}"),
        format!("git://127.0.0.1:1/x.git#main:--upload-pack={touch}"),
        format!("git://-oProxyCommand={touch}/x.git"),
        format!("ssh://-oProxyCommand={touch}/x.git"),
        format!("git@-oProxyCommand={touch}:x.git"),
        format!("ext::sh -c {touch}% .git"),
        "file:///etc#main".to_owned(),
        "git://127.0.0.1:1/x.git#main:../../../../etc".to_owned(),
    ] {
        let encoded: String = remote.bytes().map(|b| format!("%{b:02X}")).collect();
        fails(cx, &remote, &format!("&remote={encoded}"), b"");
        assert!(!canary.exists(), "{remote} was run");
    }
}

/// D9: a server sends the builder to files, sockets and bad names.
fn redirects_reach_no_files(cx: &Cx<'_>) {
    for location in
        ["file:///etc/passwd", "unix:///var/run/docker.sock", "gopher://127.0.0.1/", "/f\r\nX: y"]
    {
        let to = location.to_owned();
        let evil = Evil::start(Content::default(), move |request, _| {
            (request.path == "/f").then(|| Answer::new(302, &[("Location", &to)], b""))
        });
        let file = format!("FROM busybox\nADD http://{}/f /f\n", evil.host());
        let text = fails(cx, location, "", &dockerfile(&file).finish());
        assert!(!text.contains("root:"), "{text}");
        let remote = format!("&remote=http%3A%2F%2F{}%2Ff", evil.host().replace(':', "%3A"));
        fails(cx, location, &remote, b"");
    }
    let evil = Evil::start(Content::default(), |_, _| {
        let name = [("Content-Disposition", "attachment; filename=\"../../../escaped\"")];
        Some(Answer::new(200, &name, b"content"))
    });
    let file = format!("FROM busybox\nADD http://{}/ /d/\n", evil.host());
    let (_, text) = build(cx, "", &dockerfile(&file).finish());
    if !text.contains("\"error\"") {
        let tag = format!("{}:latest", cx.name("img"));
        assert_eq!(
            cx.docker(&["run", "--rm", &tag, "sh", "-c", "ls /escaped /../escaped; true"]).ok(),
            ""
        );
    }
}
