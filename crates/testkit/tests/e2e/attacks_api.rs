//! What clients, browsers, registries and containers try against the API itself, and what must not be found
//! anywhere afterwards.

use crate::authorization::{self, decoded};
use serde_json::json;
use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::Command,
    time::Duration,
};
use testkit::{
    Cx, Daemon, cases, command,
    cx::skip,
    daemon::Options,
    evilreg::{Answer, Content, Evil},
    suite::Case,
};

pub const CASES: &[Case] = cases![
    plugins_see_what_is_done_in_every_form_of_request,
    browsers_are_refused_on_tcp,
    the_api_is_out_of_reach_from_containers,
    the_engines_memory_is_not_for_others,
    passwords_are_kept_nowhere,
    checkpoints_by_hostile_names,
    log_options_are_no_paths,
    headers_that_are_too_many_or_too_long;
    alone: a_reader_that_stops_holds_nothing_up,
];

fn own(cx: &Cx<'_>, options: Options) -> Daemon {
    if !cx.is_gantry() {
        skip("needs a daemon of its own");
    }
    Daemon::start(options).unwrap()
}

/// A port that nobody uses now.
fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn plugins_see_what_is_done_in_every_form_of_request(cx: &Cx<'_>) {
    let dir = cx.dir();
    let plugin = authorization::plugin(dir, "all", |_, _| json!({"Allow": true}));
    let daemon = authorization::daemon(cx, dir, &["all"]);
    daemon.load_busybox().unwrap();
    let api = daemon.api();
    let body = |name: &str| json!({"Image": "busybox", "Hostname": name}).to_string();
    let head = |path: &str, more: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Type: application/json\r\n{more}\r\n"
        )
    };
    let plain = |name: &str| {
        let body = body(name);
        head(
            &format!("/v1.41/containers/create?name={name}"),
            &format!("Content-Length: {}\r\n", body.len()),
        ) + &body
    };
    let chunked = |name: &str, more: &str| {
        let body = body(name);
        let (a, b) = body.split_at(10);
        let more = format!("Transfer-Encoding: chunked\r\n{more}");
        head(&format!("/v1.41/containers/create?name={name}"), &more)
            + &format!(
                "{:x}\r\n{a}\r\n{:x};x=y\r\n{b}\r\n0\r\nTrailer: x\r\n\r\n",
                a.len(),
                b.len()
            )
    };
    let at = |path: &str| {
        let body = body("other-path");
        head(path, &format!("Content-Length: {}\r\n", body.len())) + &body
    };
    let mut big = body("big");
    big.insert_str(1, &format!("\"Labels\":{{\"x\":\"{}\"}},", "y".repeat((1 << 20) + 1)));
    let requests = [
        plain("plain"),
        chunked("chunked", ""),
        chunked("both", "Content-Length: 5\r\n"),
        chunked("zero", "Content-Length: 0\r\n"),
        chunked("expect", "Expect: 100-continue\r\n"),
        head("/v1.41/containers/create?name=none", "Content-Length: 0\r\n") + &plain("hidden"),
        plain("twice").replace("Content-Length: ", "Content-Length: 3\r\nContent-Length: "),
        plain("typeless").replace("Content-Type: application/json\r\n", ""),
        plain("charset").replace("application/json", "application/json; charset=utf-8"),
        plain("versionless").replace("/v1.41", ""),
        at("//v1.41/containers/create?name=slashes"),
        at("/v1.41//containers/create?name=slashes2"),
        at("/v1.41/containers/%63reate?name=escaped"),
        at("/v1.41/./containers/create?name=dotted"),
        at("/v1.41/images/../containers/create?name=climbing"),
        at("/V1.41/containers/create?name=upper"),
        at("http://d/v1.41/containers/create?name=absolute"),
        at("/v1.41/containers/create?name=first&name=second"),
        head("/v1.41/containers/create?name=big", &format!("Content-Length: {}\r\n", big.len()))
            + &big,
    ];
    for request in &requests {
        // Refused or done; what counts is that nothing is done that was not shown.
        _ = api.raw(request.as_bytes());
    }
    let asked = plugin.asked();
    let shown: Vec<_> = asked
        .iter()
        .filter(|(method, _)| method == "AuthZPlugin.AuthZReq")
        .filter(|(_, shown)| shown["RequestUri"].as_str().unwrap().contains("create"))
        .collect();
    let mut made = 0;
    for container in api.get("/containers/json?all=1").json().as_array().unwrap() {
        let name = container["Names"][0].as_str().unwrap().trim_start_matches('/').to_owned();
        let host =
            api.get(&format!("/containers/{name}/json")).json()["Config"]["Hostname"].clone();
        let seen = shown.iter().any(|(_, shown)| {
            shown["RequestUri"].as_str().unwrap().contains(&format!("name={name}"))
                && decoded(&shown["RequestBody"])["Hostname"] == host
        });
        assert!(seen, "{name} was made and not shown as it was");
        made += 1;
    }
    assert!(made >= 5, "{made}");
    for container in api.get("/containers/json?all=1").json().as_array().unwrap() {
        api.delete(&format!("/containers/{}?force=1", container["Id"].as_str().unwrap()));
    }
}

fn over_tcp(port: u16, request: &str) -> u16 {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    _ = stream.read_to_string(&mut text);
    text.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0)
}

fn browsers_are_refused_on_tcp(cx: &Cx<'_>) {
    let port = port();
    let host = format!("tcp://127.0.0.1:{port}");
    let daemon = own(cx, Options::new().without_bridge().args(&["-H", &host, "--tls=false"]));
    let ask = |line: &str, headers: &str| {
        over_tcp(
            port,
            &format!("{line} HTTP/1.1\r\nConnection: close\r\nContent-Length: 0\r\n{headers}\r\n"),
        )
    };
    let here = format!("Host: 127.0.0.1:{port}\r\n");
    assert_eq!(ask("GET /v1.41/info", &here), 200);
    for (line, headers) in [
        (
            "POST /v1.41/volumes/prune",
            "Host: evil.example\r\nOrigin: http://evil.example\r\n".to_owned(),
        ),
        ("POST /v1.41/containers/prune", format!("{here}Origin: http://evil.example\r\n")),
        (
            "POST /v1.41/images/create?fromSrc=-",
            format!("{here}Origin: null\r\nContent-Type: application/x-www-form-urlencoded\r\n"),
        ),
        ("GET /v1.41/info", format!("{here}Origin: http://127.0.0.1.evil.example:{port}\r\n")),
        ("GET /v1.41/info", format!("{here}Origin: http://localhost:1\r\n")),
        ("GET /v1.41/info", "Host: rebound.example\r\nUser-Agent: Mozilla/5.0\r\n".to_owned()),
        ("GET /v1.41/info", "Host: rebound.example\r\nSec-Fetch-Site: same-origin\r\n".to_owned()),
        (
            "GET /v1.41/containers/x/attach/ws",
            format!(
                "{here}Origin: http://evil.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            ),
        ),
        (
            "OPTIONS /v1.41/info",
            format!("{here}Origin: http://evil.example\r\nAccess-Control-Request-Method: POST\r\n"),
        ),
        (
            "POST /v1.41/session",
            format!("{here}Origin: http://evil.example\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n"),
        ),
    ] {
        assert_eq!(ask(line, &headers), 403, "{line} {headers}");
    }
    assert_eq!(daemon.stop().unwrap(), 0);
}

fn the_api_is_out_of_reach_from_containers(cx: &Cx<'_>) {
    let port = port();
    let host = format!("tcp://127.0.0.1:{port}");
    let daemon = own(cx, Options::new().args(&["-H", &host, "--tls=false"]));
    daemon.load_busybox().unwrap();
    let own = Cx::new(&daemon, "own");
    let name = own.sleeper("a", &["--add-host", "host.docker.internal:host-gateway"]);
    let gateway = format!("{}1", daemon.subnet().unwrap());
    for address in [gateway.as_str(), "127.0.0.1", "host.docker.internal", "0.0.0.0"] {
        let script = format!("printf 'GET /_ping HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {address} {port}");
        let got = own.docker(&["exec", &name, "sh", "-c", &script]);
        assert!(!got.stdout.contains("HTTP"), "{address}: {}", got.describe());
    }
    // Nothing of the host's files or sockets leads there either.
    let found = own.docker(&[
        "exec",
        &name,
        "sh",
        "-c",
        "find / -xdev -type s 2>/dev/null; cat /proc/net/unix | grep -c /",
    ]);
    assert_eq!(found.stdout.trim(), "0", "{}", found.describe());
    own.docker(&["rm", "-f", &name]).ok();
    assert_eq!(daemon.stop().unwrap(), 0);
}

fn the_engines_memory_is_not_for_others(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        skip("of Gantry's own making");
    }
    let Some(daemon) = cx.daemon.pid() else { skip("the daemon is another's") };
    let name = cx.sleeper("a", &["--network=none"]);
    let first = cx.inspect(&name)["State"]["Pid"].as_i64().unwrap();
    let status = fs::read_to_string(format!("/proc/{first}/status")).unwrap();
    let shim = status.lines().find_map(|l| l.strip_prefix("PPid:")).unwrap().trim().to_owned();
    for pid in [daemon.to_string(), shim] {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits.lines().find(|l| l.starts_with("Max core file size")).unwrap();
        let soft = core.split_whitespace().nth(4).unwrap();
        assert_eq!(soft, "0", "{core}");
        for file in ["environ", "maps", "mem", "fd", "exe"] {
            let mut look = Command::new("setpriv");
            look.args(["--reuid=65534", "--regid=65534", "--clear-groups", "ls", "-l"]);
            look.arg(format!("/proc/{pid}/{file}/"));
            let mut read = Command::new("setpriv");
            read.args(["--reuid=65534", "--regid=65534", "--clear-groups", "head", "-c", "1"]);
            read.arg(format!("/proc/{pid}/{file}"));
            assert_ne!(command::run(&mut look, b"").code, Some(0), "{pid} {file}");
            assert_ne!(command::run(&mut read, b"").code, Some(0), "{pid} {file}");
        }
        // What it was started with does not go on to the shim.
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap();
        assert!(
            pid == daemon.to_string() || environ.is_empty(),
            "{}",
            String::from_utf8_lossy(&environ)
        );
    }
}

fn grep(dir: &Path, word: &[u8], found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            grep(&entry.path(), word, found);
        } else if kind.is_file()
            && fs::read(entry.path()).is_ok_and(|b| b.windows(word.len()).any(|w| w == word))
        {
            found.push(entry.path().display().to_string());
        }
    }
}

fn passwords_are_kept_nowhere(cx: &Cx<'_>) {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE};
    let daemon = own(cx, Options::new().without_bridge().args(&["-D"]));
    let word = "correct-horse-battery-staple-7391";
    let mut content = Content::default();
    content.image("x", &["1"], "linux/amd64", &[vec![0; 1024]]);
    let evil = Evil::start(content, |request, _| {
        let honest = request.header("Authorization").is_some();
        (!honest).then(|| Answer::new(401, &[("WWW-Authenticate", "Basic realm=\"r\"")], b"{}"))
    });
    let api = daemon.api();
    let auth = json!({"username": "u", "password": word, "serveraddress": evil.host()});
    let header = URL_SAFE.encode(auth.to_string());
    let pull = format!("/v1.41/images/create?fromImage={}/x&tag=1", evil.host());
    let answer = api.request("POST", &pull, &[("X-Registry-Auth", &header)], b"");
    assert!(!answer.text().contains(word), "{}", answer.text());
    api.post("/v1.41/auth", &auth);
    let wrong = json!({"username": "u", "password": word, "serveraddress": "127.0.0.1:1"});
    let refused = api.post("/v1.41/auth", &wrong);
    assert!(!refused.text().contains(word), "{}", refused.text());
    let broken = URL_SAFE.encode(format!("{{\"password\": \"{word}\", "));
    let answer = api.request("POST", &pull, &[("X-Registry-Auth", &broken)], b"");
    assert!(!answer.text().contains(word), "{}", answer.text());
    let url = format!("http://u:{word}@{}/x.tar", evil.host());
    let answer = api.request("POST", &format!("/v1.41/images/create?fromSrc={url}"), &[], b"");
    assert!(!answer.text().contains(word), "{}", answer.text());
    let build = format!("/v1.41/build?remote={url}");
    let configs = URL_SAFE.encode(json!({evil.host(): auth}).to_string());
    let answer = api.request("POST", &build, &[("X-Registry-Config", &configs)], b"");
    assert!(!answer.text().contains(word), "{}", answer.text());
    for path in ["/info", "/events?since=0&until=1", "/images/json", "/system/df", "/version"] {
        let path = path.replace("until=1", &format!("until={}", testkit::host::now()));
        assert!(!api.get(&path).text().contains(word), "{path}");
    }
    assert_eq!(daemon.stop().unwrap(), 0);
    let mut found = Vec::new();
    for secret in [word, header.trim_end_matches('='), configs.trim_end_matches('=')] {
        grep(&daemon.path(""), secret.as_bytes(), &mut found);
    }
    assert!(found.is_empty(), "{found:?}");
}

fn a_reader_that_stops_holds_nothing_up(cx: &Cx<'_>) {
    let daemon = own(cx, Options::new().without_bridge());
    daemon.load_busybox().unwrap();
    let own = Cx::new(&daemon, "own");
    let name = own.start(
        "a",
        &["-i", "--network=none"],
        &["sh", "-c", "yes first | head -c 100000000; sleep 600"],
    );
    let before = super::attacks_bombs::peak(&daemon);
    let api = daemon.api();
    let fds = || fs::read_dir(format!("/proc/{}/fd", daemon.pid().unwrap())).unwrap().count();
    let many = fds();
    let mut held = Vec::new();
    for n in 0..12 {
        let exec = json!({"AttachStdout": true, "AttachStderr": true, "Cmd": ["sh", "-c", "yes | head -c 100000000"]});
        let id = api.post(&format!("/containers/{name}/exec"), &exec).expect(201)["Id"].clone();
        let path = format!("/exec/{}/start", id.as_str().unwrap());
        let mut stream =
            api.stream("POST", &path, n % 2 == 0, &json!({"Detach": false, "Tty": false}));
        let mut some = [0; 1000];
        stream.read_exact(&mut some).unwrap();
        held.push(stream);
        let mut logs = api.stream(
            "GET",
            &format!("/containers/{name}/logs?stdout=1&follow=1"),
            false,
            &json!(null),
        );
        logs.read_exact(&mut some).unwrap();
        held.push(logs);
        held.push(api.stream(
            "POST",
            &format!("/containers/{name}/attach?stream=1&stdout=1&logs=1"),
            true,
            &json!(null),
        ));
        held.push(api.stream("GET", "/events", false, &json!(null)));
    }
    // Others are served meanwhile, and the memory of what was not read stays with its maker.
    assert_eq!(own.docker(&["exec", &name, "echo", "served"]).ok(), "served");
    for _ in 0..50 {
        own.docker(&["run", "--rm", "--network=none", "busybox", "true"]).ok();
    }
    let grown = super::attacks_bombs::peak(&daemon).saturating_sub(before);
    assert!(grown < 64 << 20, "the daemon grew by {} MiB", grown >> 20);
    drop(held);
    own.until("the descriptors are closed", || (fds() <= many + 8).then_some(()));
    // A resize of what has no terminal changes nothing.
    let resize = api.post(&format!("/containers/{name}/resize?h=10&w=10"), &json!(null));
    assert!(resize.status() < 500 || resize.status() == 500, "{}", resize.text());
    own.docker(&["rm", "-f", &name]).ok();
    assert_eq!(daemon.stop().unwrap(), 0);
}

fn checkpoints_by_hostile_names(cx: &Cx<'_>) {
    let name = cx.sleeper("a", &["--network=none"]);
    let canary = cx.write("canary", "untouched");
    for id in ["..%2f..%2fx", "x%00", "", ".", "..", "a%2fb", &"y".repeat(3000)] {
        let body =
            json!({"CheckpointID": id.replace("%2f", "/"), "CheckpointDir": cx.dir().to_str()});
        let made = cx.api().post(&format!("/v1.41/containers/{name}/checkpoints"), &body);
        assert!(made.status() >= 400, "{id}: {}", made.text());
        let gone =
            cx.api().delete(&format!("/v1.41/containers/{name}/checkpoints/{id}?dir=%2ftmp"));
        assert!(gone.status() >= 400, "{id}: {}", gone.text());
    }
    assert_eq!(fs::read_to_string(canary).unwrap(), "untouched");
    assert_eq!(fs::read_dir(cx.dir()).unwrap().count(), 1);
}

fn log_options_are_no_paths(cx: &Cx<'_>) {
    let target = cx.dir().join("made");
    let path = target.to_str().unwrap();
    for driver in ["json-file", "local", "syslog", "../../x", "/bin/sh", ""] {
        for option in [
            format!("path={path}"),
            format!("file={path}"),
            format!("max-file=../{path}"),
            format!("tag=../../{path}"),
        ] {
            let name = cx.name("c");
            let made = cx.docker(&[
                "create",
                "--name",
                &name,
                "--log-driver",
                driver,
                "--log-opt",
                &option,
                "busybox",
                "echo",
                "x",
            ]);
            if made.code == Some(0) {
                _ = cx.docker(&["start", "-a", &name]);
                let shown = cx.inspect(&name)["LogPath"].as_str().unwrap_or_default().to_owned();
                assert!(!shown.contains("made") && !shown.contains(".."), "{shown}");
            }
            _ = cx.docker(&["rm", "-f", &name]);
        }
    }
    assert!(!target.exists());
    for name in ["../x", "/etc/x", "a/b", "..", ".x", "-x", "x\u{0}", "\u{fc}ber", ""] {
        let query = name.replace('/', "%2f").replace('\u{0}', "%00");
        let made = cx
            .api()
            .post(&format!("/v1.41/containers/create?name={query}"), &json!({"Image": "busybox"}));
        let named = name.is_empty();
        assert!(
            made.status() == 400 || (named && made.status() == 201),
            "{name:?}: {}",
            made.text()
        );
        if let Some(id) = made.json()["Id"].as_str() {
            cx.api().delete(&format!("/v1.41/containers/{id}"));
        }
    }
}

fn headers_that_are_too_many_or_too_long(cx: &Cx<'_>) {
    let many: String = (0..5000).map(|n| format!("X-{n}: y\r\n")).collect();
    let long = format!("X-Long: {}\r\n", "y".repeat(2 << 20));
    let path = format!("/{}", "p".repeat(1 << 20));
    for (what, request) in [
        ("many", format!("GET /_ping HTTP/1.1\r\nHost: d\r\n{many}\r\n")),
        ("long", format!("GET /_ping HTTP/1.1\r\nHost: d\r\n{long}\r\n")),
        ("path", format!("GET {path} HTTP/1.1\r\nHost: d\r\n\r\n")),
        (
            "auth",
            format!(
                "POST /v1.41/images/create?fromImage=x HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\nX-Registry-Auth: {}\r\n\r\n",
                "A".repeat(200 << 10)
            ),
        ),
        ("folded", "GET /_ping HTTP/1.1\r\nHost: d\r\n x: y\r\n\r\n".to_owned()),
        ("nul", "GET /_ping HTTP/1.1\r\nHost: d\r\nX: a\0b\r\n\r\n".to_owned()),
        ("spaced", "GET /_ping HTTP/1.1\r\nHost : d\r\n\r\n".to_owned()),
        ("lone", "GET /_ping HTTP/1.1\rHost: d\r\r".to_owned()),
    ] {
        if let Ok(answer) = cx.api().raw(request.as_bytes()) {
            assert!(
                (400..501).contains(&answer.status()),
                "{what}: {} {}",
                answer.status(),
                answer.text()
            );
        }
    }
    assert!(cx.daemon.answers());
}
