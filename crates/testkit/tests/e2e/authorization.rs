//! Authorization plugins: what they are shown, and that their word counts.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixListener,
    path::Path,
    sync::{Arc, Mutex},
};
use testkit::{Cx, Daemon, cases, daemon::Options, suite::Case};

pub const CASES: &[Case] = cases![
    plugins_see_requests_and_answers_and_their_word_counts,
    plugins_change_by_a_reload,
    plugins_see_whose_certificate_it_is,
];

type Judge = dyn Fn(&str, &Value) -> Value + Send + Sync;

/// A plugin that keeps what it was asked. It lives as long as the test.
fn plugin(dir: &Path, name: &str, judge: Box<Judge>) -> Arc<Mutex<Vec<(String, Value)>>> {
    let listener = UnixListener::bind(dir.join(format!("{name}.sock"))).unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut first, mut length) = (String::new(), 0);
            reader.read_line(&mut first).unwrap();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if let Some(n) = line.to_lowercase().strip_prefix("content-length:") {
                    length = n.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap_or_default();
            let method =
                first.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
            let answer = match method.as_str() {
                "Plugin.Activate" => json!({"Implements": ["authz"]}),
                _ => judge(&method, &body),
            };
            kept.lock().unwrap().push((method, body));
            let text = answer.to_string();
            let mut stream = stream;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", text.len());
            let _ = stream.write_all(&[head.as_bytes(), text.as_bytes()].concat());
        }
    });
    asked
}

fn daemon(cx: &Cx<'_>, dir: &Path, names: &[&str]) -> Daemon {
    if !cx.is_gantry() {
        testkit::cx::skip("needs a daemon of its own");
    }
    let folder = format!("--plugin-dir={}", dir.display());
    let names: Vec<String> = names.iter().map(|n| format!("--authorization-plugin={n}")).collect();
    let mut args: Vec<&str> = names.iter().map(String::as_str).collect();
    args.push(&folder);
    Daemon::start(Options::new().without_bridge().args(&args)).unwrap()
}

fn decoded(value: &Value) -> Value {
    let text = STANDARD.decode(value.as_str().unwrap()).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn plugins_see_requests_and_answers_and_their_word_counts(cx: &Cx<'_>) {
    let dir = cx.dir();
    let asked = plugin(
        dir,
        "first",
        Box::new(|method, shown| {
            let uri = shown["RequestUri"].as_str().unwrap();
            let request = method == "AuthZPlugin.AuthZReq";
            match uri {
                _ if uri.contains("/volumes/create") && request => {
                    json!({"Allow": false, "Msg": "no volumes here"})
                }
                _ if uri.contains("/networks") && !request => {
                    json!({"Allow": false, "Msg": "not to be told"})
                }
                _ if uri.contains("/system/df") => json!({"Allow": true, "Err": "broken"}),
                _ => json!({"Allow": true}),
            }
        }),
    );
    let second = plugin(dir, "second", Box::new(|_, _| json!({"Allow": true})));
    let daemon = daemon(cx, dir, &["first", "second"]);
    daemon.load_busybox().unwrap();
    let own = Cx::new(&daemon, "own");
    let name = own.name("a");
    let run = ["run", "-i", "--name", &name, "--network=none", "busybox", "cat"];
    assert_eq!(own.docker_with(&run, b"through the takeover\n").ok(), "through the takeover");
    own.docker(&["volume", "create", "v"])
        .fails_with(1, &["authorization denied by plugin first: no volumes here"]);
    own.docker(&["network", "ls"])
        .fails_with(1, &["authorization denied by plugin first: not to be told"]);
    own.docker(&["system", "df"]).fails_with(1, &["plugin first failed with error: broken"]);
    let api = own.api();
    assert_eq!(api.post("/v1.41/volumes/create", &json!({})).status(), 403);
    // A document is shown whatever it calls itself.
    let lies = [("Content-Type", "text/plain")];
    let body = br#"{"Image": "busybox"}"#;
    api.request("POST", "/v1.41/containers/create?name=lies", &lies, body)
        .fails(400, &["Content-Type"]);
    let big = vec![b' '; (4 << 20) + 1000];
    let refused = api.request("POST", "/v1.41/containers/create", &lies, &big);
    assert_eq!(refused.status(), 403);
    assert!(refused.text().contains("request body too large for authorization plugin"));
    let asked = asked.lock().unwrap();
    let of = |part: &str, method: &str| {
        let is = |(m, shown): &&(String, Value)| {
            m == method && shown["RequestUri"].as_str().is_some_and(|u| u.contains(part))
        };
        asked.iter().find(is).unwrap_or_else(|| panic!("{method} of {part}")).1.clone()
    };
    let create = of(&format!("/containers/create?name={name}"), "AuthZPlugin.AuthZReq");
    assert_eq!(create["RequestMethod"], "POST");
    assert_eq!(create["RequestHeaders"]["Content-Type"], "application/json");
    assert_eq!(decoded(&create["RequestBody"])["Image"], "busybox");
    let created = of(&format!("/containers/create?name={name}"), "AuthZPlugin.AuthZRes");
    assert_eq!(created["ResponseStatusCode"], 201);
    assert_eq!(decoded(&created["ResponseBody"])["Id"].as_str().unwrap().len(), 64);
    assert_eq!(
        decoded(&of("name=lies", "AuthZPlugin.AuthZReq")["RequestBody"])["Image"],
        "busybox"
    );
    assert!(of("/attach", "AuthZPlugin.AuthZReq")["RequestBody"].is_null());
    let denied = |(m, s): &(String, Value)| {
        m.ends_with("Req") && s["RequestUri"].to_string().contains("volumes")
    };
    assert!(!second.lock().unwrap().iter().any(denied), "the first denial is the last word");
    drop(asked);
    own.docker(&["rm", "-f", &name]).ok();
}

fn plugins_change_by_a_reload(cx: &Cx<'_>) {
    let dir = cx.dir();
    plugin(dir, "late", Box::new(|_, _| json!({"Allow": false, "Msg": "never"})));
    let daemon = daemon(cx, dir, &[]);
    let own = Cx::new(&daemon, "own");
    own.docker(&["ps"]).ok();
    let reload = |names: Value| {
        let text = json!({"authorization-plugins": names}).to_string();
        std::fs::write(daemon.path("daemon.json"), text).unwrap();
        daemon.signal(rustix::process::Signal::HUP).unwrap();
    };
    reload(json!(["late"]));
    cx.until("the plugin is asked", || {
        let output = own.docker(&["ps"]);
        output.stderr.contains("authorization denied by plugin late: never").then_some(())
    });
    // One that is not there changes nothing: the old one still counts.
    reload(json!(["missing"]));
    cx.until("the reload was refused", || {
        daemon.log_tail().contains("error validating authorization plugin missing").then_some(())
    });
    own.docker(&["ps"]).fails_with(1, &["never"]);
    reload(json!([]));
    cx.until("nobody is asked", || (own.docker(&["ps"]).code == Some(0)).then_some(()));
    let text = format!(
        "{:#}",
        Daemon::start(Options::new().without_bridge().args(&["--authorization-plugin=missing"]))
            .unwrap_err()
    );
    assert!(text.contains("plugin \"missing\" not found"), "{text}");
}

fn plugins_see_whose_certificate_it_is(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        testkit::cx::skip("needs a daemon of its own");
    }
    let dir = cx.dir();
    let pki = crate::pki::Pki::new(dir);
    let asked = plugin(dir, "who", Box::new(|_, _| json!({"Allow": true})));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let host = format!("tcp://127.0.0.1:{port}");
    let [ca, cert, key] = ["ca.pem", "server.pem", "server.key"].map(|name| pki.path(name));
    let flags = [
        "-H",
        &host,
        "--tlsverify",
        &format!("--tlscacert={ca}"),
        &format!("--tlscert={cert}"),
        &format!("--tlskey={key}"),
        "--authorization-plugin=who",
        &format!("--plugin-dir={}", dir.display()),
    ];
    let _daemon = Daemon::start(Options::new().without_bridge().args(&flags)).unwrap();
    let [cert, key] = ["client.pem", "client.key"].map(|name| pki.path(name));
    let mut command = std::process::Command::new("docker");
    command.env_remove("DOCKER_HOST").env("HOME", dir).args(["-H", &host, "--tlsverify"]);
    command.args(["--tlscacert", &ca, "--tlscert", &cert, "--tlskey", &key, "volume", "ls"]);
    testkit::command::run(&mut command, b"").ok();
    let asked = asked.lock().unwrap();
    let listed = asked
        .iter()
        .find(|(_, shown)| shown["RequestUri"].as_str().is_some_and(|u| u.contains("/volumes")));
    let shown = &listed.unwrap().1;
    assert_eq!((&shown["User"], &shown["UserAuthNMethod"]), (&"client".into(), &"TLS".into()));
    let sent = STANDARD.decode(shown["RequestPeerCertificates"][0].as_str().unwrap()).unwrap();
    let same = |text: &str| text.replace(['\r', '\n'], "");
    let own = std::fs::read_to_string(&cert).unwrap();
    assert_eq!(same(std::str::from_utf8(&sent).unwrap()), same(&own));
}
