//! Authorization plugins: what they are shown, and that their word counts.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::path::Path;
use testkit::{
    Cx, Daemon, cases,
    daemon::Options,
    plugin::{Answer, Plugin},
    suite::Case,
};

pub const CASES: &[Case] = cases![
    plugins_see_requests_and_answers_and_their_word_counts,
    plugins_that_hang_lie_or_die_let_nothing_through,
    plugins_change_by_a_reload,
    plugins_see_whose_certificate_it_is,
];

/// A plugin for authorization that judges so.
pub fn plugin(
    dir: &Path,
    name: &str,
    judge: impl Fn(&str, &Value) -> Value + Send + Sync + 'static,
) -> Plugin {
    Plugin::start(dir, name, move |method, shown| match method {
        "Plugin.Activate" => json!({"Implements": ["authz"]}).into(),
        _ => judge(method, shown).into(),
    })
}

pub fn daemon(cx: &Cx<'_>, dir: &Path, names: &[&str]) -> Daemon {
    if !cx.is_gantry() {
        testkit::cx::skip("needs a daemon of its own");
    }
    let folder = format!("--plugin-dir={}", dir.display());
    let names: Vec<String> = names.iter().map(|n| format!("--authorization-plugin={n}")).collect();
    let mut args: Vec<&str> = names.iter().map(String::as_str).collect();
    args.push(&folder);
    Daemon::start(Options::new().without_bridge().args(&args)).unwrap()
}

pub fn decoded(value: &Value) -> Value {
    let text = STANDARD.decode(value.as_str().unwrap()).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn plugins_see_requests_and_answers_and_their_word_counts(cx: &Cx<'_>) {
    let dir = cx.dir();
    let first = plugin(dir, "first", |method, shown| {
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
    });
    let second = plugin(dir, "second", |_, _| json!({"Allow": true}));
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
    let asked = first.asked();
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
    assert!(!second.asked().iter().any(denied), "the first denial is the last word");
    own.docker(&["rm", "-f", &name]).ok();
}

fn plugins_that_hang_lie_or_die_let_nothing_through(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        testkit::cx::skip("needs a daemon of its own");
    }
    let dir = cx.dir();
    let bad = Plugin::start(dir, "bad", |method, shown| {
        let uri = shown["RequestUri"].as_str().unwrap_or_default();
        match method {
            "Plugin.Activate" => json!({"Implements": ["authz"]}).into(),
            _ if uri.contains("name=hangs") => Answer::Never,
            _ if uri.contains("name=lies") => Answer::Text("<html>".into()),
            _ if uri.contains("name=ends") => Answer::Closed,
            _ if uri.contains("name=fails") => Answer::Bad(500, json!({"Err": "out of order"})),
            _ => json!({"Allow": true}).into(),
        }
    });
    let folder = format!("--plugin-dir={}", dir.display());
    let args = ["--authorization-plugin=bad", "--plugin-timeout=1", &folder];
    let daemon = Daemon::start(Options::new().without_bridge().args(&args)).unwrap();
    daemon.load_busybox().unwrap();
    let create = |name: &str| {
        let path = format!("/v1.41/containers/create?name={name}");
        daemon.api().post(&path, &json!({"Image": "busybox"}))
    };
    let began = std::time::Instant::now();
    for (name, told) in [
        ("hangs", "no answer within 1 seconds"),
        ("lies", "cannot read the answer"),
        ("ends", "cannot ask"),
        ("fails", "out of order"),
    ] {
        let answer = create(name);
        assert!(matches!(answer.status(), 403 | 500), "{name}: {}", answer.text());
        let said = answer.message();
        assert!(said.contains("plugin bad") && said.contains(told), "{name}: {said}");
    }
    assert!(began.elapsed() < std::time::Duration::from_secs(20));
    create("good").expect(201);
    drop(bad);
    let answer = create("late");
    assert!(answer.status() >= 400 && answer.message().contains("bad"), "{}", answer.text());
    // Back, it lets requests through again, and none of the others was made.
    let back = plugin(dir, "bad", |_, _| json!({"Allow": true}));
    let list = daemon.api().get("/v1.41/containers/json?all=1").expect(200);
    assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
    drop(daemon);
    drop(back);
}

fn plugins_change_by_a_reload(cx: &Cx<'_>) {
    let dir = cx.dir();
    let _late = plugin(dir, "late", |_, _| json!({"Allow": false, "Msg": "never"}));
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
    let who = plugin(dir, "who", |_, _| json!({"Allow": true}));
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
    let asked = who.asked();
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
