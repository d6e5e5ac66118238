//! Who may speak to the daemon, over which transport.

use crate::pki::Pki;
use serde_json::Value;
use std::{net::TcpListener, path::Path, process::Command};
use testkit::{Cx, Daemon, cases, command, daemon::Options, suite::Case};

pub const CASES: &[Case] = cases![
    tls_asks_clients_for_certificates,
    a_context_holds_the_certificates,
    tls_alone_takes_every_client,
    open_tcp_has_to_be_meant
];

/// A port that nobody uses now.
fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn daemon(cx: &Cx<'_>, args: &[&str]) -> Daemon {
    if !cx.is_gantry() {
        testkit::cx::skip("needs a daemon of its own");
    }
    Daemon::start(Options::new().without_bridge().args(args)).unwrap()
}

/// The docker command line over TCP.
fn docker(port: u16, pki: &Path, flags: &[&str], args: &[&str]) -> command::Output {
    let mut command = Command::new("docker");
    command.env_remove("DOCKER_HOST").env("HOME", pki);
    command.arg("-H").arg(format!("tcp://localhost:{port}")).args(flags).args(args);
    command::run(&mut command, b"typed\n")
}

fn tls_asks_clients_for_certificates(cx: &Cx<'_>) {
    let dir = cx.dir().join("pki");
    std::fs::create_dir(&dir).unwrap();
    let pki = Pki::new(&dir);
    let port = port();
    let [ca, cert, key] = [("ca", "ca.pem"), ("cert", "server.pem"), ("key", "server.key")]
        .map(|(flag, name)| format!("--tls{}={}", flag.replace("ca", "cacert"), pki.path(name)));
    let host = format!("tcp://127.0.0.1:{port}");
    let daemon = daemon(cx, &["-H", &host, "--tlsverify", &ca, &cert, &key]);
    daemon.load_busybox().unwrap();
    let [cert, key] = [("cert", "client.pem"), ("key", "client.key")]
        .map(|(flag, name)| format!("--tls{flag}={}", pki.path(name)));
    let known = ["--tlsverify", &ca, &cert, &key];
    // Streams in both directions go through TLS as well.
    let run =
        ["run", "--rm", "-i", "--network=none", "busybox", "sh", "-c", "cat; echo e >&2; exit 4"];
    let output = docker(port, &dir, &known, &run);
    output.code(4);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("typed\n", "e\n"));
    let big = ["run", "--rm", "--network=none", "busybox", "seq", "200000"];
    assert_eq!(docker(port, &dir, &known, &big).ok().lines().count(), 200_000);
    docker(port, &dir, &["--tlsverify", &ca], &["version"]).fails(1);
    docker(port, &dir, &[], &["version"]).fails(1);
    // Our own command line speaks TLS too.
    let host = format!("tcp://localhost:{port}");
    let own = |flags: &[&str], args: &[&str]| {
        let mut command = Command::new(testkit::daemon::binary().unwrap());
        command.env("HOME", &dir).args(["-H", &host]).args(flags).args(args);
        command::run(&mut command, b"typed\n")
    };
    let output = own(&known, &run);
    output.code(4);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("typed\n", "e\n"));
    own(&["--tlsverify", &ca], &["version"]).fails(1);
    let other = Pki::new(cx.dir());
    let wrong = format!("--tlscacert={}", other.path("ca.pem"));
    own(&["--tlsverify", &wrong, &cert, &key], &["version"]).fails_with(1, &["certificate"]);
    // New files count after a reload; what cannot be used changes nothing.
    let old = std::fs::read(pki.path("server.pem")).unwrap();
    std::fs::write(pki.path("server.pem"), "nonsense").unwrap();
    daemon.signal(rustix::process::Signal::HUP).unwrap();
    cx.until("the reload was refused", || {
        daemon.log_tail().contains("certificates not changed").then_some(())
    });
    std::fs::write(pki.path("server.pem"), old).unwrap();
    docker(port, &dir, &known, &["version"]).ok();
    pki.renew();
    daemon.signal(rustix::process::Signal::HUP).unwrap();
    cx.until("the new certificates are used", || {
        (docker(port, &dir, &known, &["version"]).code == Some(0)).then_some(())
    });
}

fn a_context_holds_the_certificates(cx: &Cx<'_>) {
    let dir = cx.dir().join("pki");
    std::fs::create_dir(&dir).unwrap();
    let pki = Pki::new(&dir);
    let port = port();
    let [ca, cert, key] = [("cacert", "ca.pem"), ("cert", "server.pem"), ("key", "server.key")]
        .map(|(flag, name)| format!("--tls{flag}={}", pki.path(name)));
    let host = format!("tcp://127.0.0.1:{port}");
    let daemon = daemon(cx, &["-H", &host, "--tlsverify", &ca, &cert, &key]);
    daemon.load_busybox().unwrap();
    let docker = |args: &[&str]| {
        let mut command = Command::new("docker");
        command.env_remove("DOCKER_HOST").env("DOCKER_CONFIG", cx.dir().join("config")).args(args);
        command::run(&mut command, b"typed\n")
    };
    let [ca, cert, key] = ["ca.pem", "client.pem", "client.key"].map(|name| pki.path(name));
    let create = |name: &str, end: &str| {
        docker(&[
            "context",
            "create",
            name,
            "--docker",
            &format!("host=tcp://localhost:{port}{end}"),
        ])
        .ok();
    };
    create("far", &format!(",ca={ca},cert={cert},key={key}"));
    create("unknown", &format!(",ca={ca}"));
    create("careless", &format!(",cert={cert},key={key},skip-tls-verify=true"));
    // The context has copies of them.
    std::fs::remove_dir_all(&dir).unwrap();
    let run = ["run", "--rm", "-i", "--network=none", "busybox", "cat"];
    assert_eq!(docker(&[&["--context", "far"][..], &run].concat()).ok(), "typed");
    docker(&["--context", "unknown", "version"]).fails_with(1, &["certificate required"]);
    docker(&["--context", "careless", "version"]).ok();
    docker(&["context", "use", "far"]).ok();
    assert_eq!(
        docker(&["info", "-f", "{{.ID}}"]).ok(),
        daemon.api().get("/info").expect(200)["ID"].as_str().unwrap()
    );
    assert!(docker(&["context", "ls"]).ok().contains("far *"));
}

fn tls_alone_takes_every_client(cx: &Cx<'_>) {
    let dir = cx.dir().join("pki");
    std::fs::create_dir(&dir).unwrap();
    let pki = Pki::new(&dir);
    let port = port();
    let host = format!("tcp://127.0.0.1:{port}");
    let cert = format!("--tlscert={}", pki.path("server.pem"));
    let key = format!("--tlskey={}", pki.path("server.key"));
    let _daemon = daemon(cx, &["-H", &host, "--tls", &cert, &key]);
    let ca = format!("--tlscacert={}", pki.path("ca.pem"));
    docker(port, &dir, &["--tlsverify", &ca], &["version"]).ok();
    docker(port, &dir, &[], &["version"]).fails(1);
}

fn open_tcp_has_to_be_meant(cx: &Cx<'_>) {
    let port = port();
    let host = format!("tcp://127.0.0.1:{port}");
    let open = daemon(cx, &["-H", &host, "--tls=false"]);
    docker(port, cx.dir(), &[], &["version"]).ok();
    assert_eq!(open.stop().unwrap(), 0);
    let unsaid = Daemon::start(Options::new().without_bridge().args(&["-H", &host]));
    let text = format!("{:#}", unsaid.unwrap_err());
    assert!(text.contains("use --tlsverify with certificates, or --tls=false"), "{text}");
    let missing = ["-H", &host, "--tlsverify", "--tlscert=/nonexistent/c.pem"];
    let text = format!("{:#}", Daemon::start(Options::new().args(&missing)).unwrap_err());
    assert!(text.contains("cannot use /nonexistent/c.pem for TLS"), "{text}");
    let api = open.start_again().map(|()| open.api().get("/version").json());
    assert!(matches!(api, Ok(Value::Object(_))));
}
