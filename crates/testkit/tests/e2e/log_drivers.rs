//! Log drivers and their options.

use flate2::read::{GzDecoder, ZlibDecoder};
use serde_json::Value;
use std::{
    io::{BufRead as _, BufReader, Read, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    os::unix::net::UnixListener,
    time::Duration,
};
use testkit::{Cx, Daemon, cases, daemon::Options, suite::Case};

/// Bounds a receiver that nothing comes to; no test waits for it.
const LIMIT: Option<Duration> = Some(Duration::from_secs(30));

pub const CASES: &[Case] = cases![
    local_keeps_and_rotates,
    attributes_by_pattern_and_tag,
    options_are_refused_before_anything_is_made,
    the_daemons_log_options_are_the_default,
    syslog_forms_over_every_transport,
    syslog_over_tls_checks_the_receiver,
    gelf_over_udp_and_tcp,
    fluentd_gets_records_and_acknowledges,
    fluentd_async_starts_without_a_receiver,
    journald_is_named_when_it_is_not_there,
    a_receiver_that_cannot_be_reached_fails_the_start,
    long_lines_go_out_in_parts,
    a_stuck_receiver_never_holds_up_a_non_blocking_container,
    a_slow_receiver_loses_nothing_and_holds_the_container_up,
    a_relay_that_dies_is_started_again,
    output_goes_on_while_the_daemon_is_dead,
    info_lists_the_drivers,
];

fn ended(cx: &Cx<'_>, part: &str, options: &[&str], script: &str) -> String {
    let name = cx.start(part, options, &["sh", "-c", script]);
    cx.wait(&name);
    name
}

fn local_keeps_and_rotates(cx: &Cx<'_>) {
    let local = ["--log-driver", "local"];
    let name = ended(cx, "a", &local, "echo err >&2; sleep 0.1; echo out; printf 'tail <&>\"'");
    let output = cx.docker(&["logs", &name]);
    assert_eq!((output.ok(), output.stderr.trim()), ("out\ntail <&>\"", "err"));
    assert_eq!(cx.docker(&["logs", "-n", "1", &name]).ok(), "tail <&>\"");
    assert_eq!(cx.inspect(&name)["LogPath"], "");
    let small = [&local[..], &["--log-opt", "max-size=20k", "--log-opt", "max-file=3"]].concat();
    let name = ended(cx, "b", &small, "seq 1 5000");
    let output = cx.docker(&["logs", &name]);
    let lines = output.lines();
    assert_eq!(lines.last(), Some(&"5000"));
    let first: usize = lines[0].parse().unwrap();
    assert!(first > 1000, "bounded");
    assert_eq!(lines.len(), 5000 - first + 1, "no gap");
}

fn attributes_by_pattern_and_tag(cx: &Cx<'_>) {
    let options = [
        "-l=app.colour=blue",
        "-l=other=1",
        "-e=SHAPE=round",
        "-e=SIZE=9",
        "--log-opt=labels-regex=^app\\.",
        "--log-opt=env-regex=^SH",
        "--log-opt=env=SIZE",
        "--log-opt=tag={{.Name}}/{{.ImageName}}/{{(.ExtraAttributes nil).SHAPE}}",
    ];
    let name = ended(cx, "a", &options, "echo x");
    let tag = format!("{name}%2Fbusybox%2Fround");
    assert_eq!(
        cx.docker(&["logs", "--details", &name]).ok(),
        format!("SHAPE=round,SIZE=9,app.colour=blue,tag={tag} x")
    );
}

fn options_are_refused_before_anything_is_made(cx: &Cx<'_>) {
    for (driver, option, want) in [
        ("json-file", "nope=1", "unknown log opt 'nope' for json-file log driver"),
        ("local", "nope=1", "unknown log opt 'nope' for log driver local"),
        ("json-file", "max-file=0", "max-file cannot be less than 1"),
        ("json-file", "mode=fast", "logger: logging mode not supported: fast"),
        (
            "json-file",
            "max-buffer-size=1m",
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
        ),
    ] {
        // 20.10 looks at some values only when the container is started.
        if !cx.is_gantry() && option.starts_with("max-") {
            continue;
        }
        cx.docker(&[
            "create",
            "--name",
            &cx.name("a"),
            "--log-driver",
            driver,
            "--log-opt",
            option,
            "busybox",
        ])
        .fails_with(1, &[want]);
    }
    assert_eq!(cx.docker(&["ps", "-aq", "--filter", &format!("name={}", cx.name("a"))]).ok(), "");
}

fn the_daemons_log_options_are_the_default(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        testkit::cx::skip("needs a daemon of its own");
    }
    let options = Options::new().without_bridge().args(&[
        "--log-driver=local",
        "--log-opt=max-size=1m",
        "--log-opt=cache-max-file=2",
    ]);
    let daemon = Daemon::start(options).unwrap();
    daemon.load_busybox().unwrap();
    let own = Cx::new(&daemon, "own");
    let config = |options: &[&str]| {
        own.docker(&[&["create", "--name", "cc"], options, &["busybox"]].concat()).ok();
        let config = own.inspect("cc")["HostConfig"]["LogConfig"].clone();
        own.docker(&["rm", "cc"]).ok();
        config
    };
    let json = |driver: &str, options: serde_json::Value| serde_json::json!({"Type": driver, "Config": options});
    let both = serde_json::json!({"max-size": "1m", "cache-max-file": "2"});
    assert_eq!(config(&[]), json("local", both));
    let own_size = serde_json::json!({"max-size": "2m", "cache-max-file": "2"});
    assert_eq!(config(&["--log-opt", "max-size=2m"]), json("local", own_size));
    let other = serde_json::json!({"cache-max-file": "2"});
    assert_eq!(config(&["--log-driver", "json-file"]), json("json-file", other));
    assert_eq!(own.docker(&["info", "-f", "{{.LoggingDriver}}"]).ok(), "local");
    let bad = Daemon::start(Options::new().without_bridge().args(&["--log-opt=max-file=0"]));
    let text = format!("{:#}", bad.unwrap_err());
    assert!(text.contains("failed to set log opts: max-file cannot be less than 1"), "{text}");
}

fn to<'a>(driver: &'a str, options: &'a [&'a str]) -> Vec<&'a str> {
    let mut line = vec!["--log-driver", driver];
    options.iter().for_each(|o| line.extend(["--log-opt", o]));
    line
}

fn tcp() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

fn udp() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(LIMIT).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(LIMIT).unwrap();
    stream
}

fn datagram(socket: &UdpSocket) -> Vec<u8> {
    let mut bytes = vec![0; 65_536];
    let length = socket.recv(&mut bytes).unwrap();
    bytes.truncate(length);
    bytes
}

fn line(reader: &mut impl std::io::BufRead) -> String {
    let mut text = String::new();
    reader.read_line(&mut text).unwrap();
    text
}

/// `<PRIORITY>REST`, the time of day and the number of the sender's process left out.
fn shape(line: &str) -> String {
    let blank = regex::Regex::new(
        r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?(Z|[+-]\d\d:\d\d)",
    )
    .unwrap();
    let text = blank.replace(line, "TIME");
    regex::Regex::new(r"\[\d+\]| \d+ ").unwrap().replace(&text, "|PID|").into_owned()
}

fn syslog_forms_over_every_transport(cx: &Cx<'_>) {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let script = "echo hello; echo oops >&2";
    let send = |part: &str, options: &[&str]| ended(cx, part, &to("syslog", options), script);
    let wants = |lines: [String; 2], want: [String; 2]| {
        let mut got = lines.map(|l| shape(&l));
        got.sort();
        assert_eq!(got, want);
    };
    let (socket, address) = udp();
    let to_udp = format!("syslog-address=udp://{address}");
    let name = send("udp", &[&to_udp, "tag={{.Name}}", "syslog-facility=local0"]);
    let text = || String::from_utf8(datagram(&socket)).unwrap();
    wants(
        [text(), text()],
        [format!("<131>TIME {name}|PID|: oops\n"), format!("<134>TIME {name}|PID|: hello\n")],
    );
    // The copy is what `docker logs` shows.
    let output = cx.docker(&["logs", &name]);
    assert_eq!((output.ok(), output.stderr.trim()), ("hello", "oops"));
    for (form, hello) in [
        ("rfc3164", format!("<30>TIME {host} t|PID|: hello\n")),
        ("rfc5424", format!("<30>1 TIME {host} t|PID|t - hello\n")),
        ("rfc5424micro", format!("<30>1 TIME {host} t|PID|t - hello\n")),
    ] {
        let (listener, address) = tcp();
        let to_tcp = format!("syslog-address=tcp://{address}");
        send(form, &[&to_tcp, "tag=t", &format!("syslog-format={form}")]);
        let mut reader = BufReader::new(accept(&listener));
        wants(
            [line(&mut reader), line(&mut reader)],
            [hello.replace("<30>", "<27>").replace("hello", "oops"), hello],
        );
    }
    let path = cx.dir().join("log.sock");
    let listener = UnixListener::bind(&path).unwrap();
    send("unix", &[&format!("syslog-address=unix://{}", path.display()), "tag=t"]);
    let mut reader = BufReader::new(listener.accept().unwrap().0);
    let first = shape(&line(&mut reader));
    let either = ["<30>TIME t|PID|: hello\n", "<27>TIME t|PID|: oops\n"];
    assert!(either.contains(&first.as_str()), "{first}");
    cx.run(&to("syslog", &["syslog-facility=loud"]), &["true"])
        .fails_with(125, &["invalid syslog facility"]);
}

fn syslog_over_tls_checks_the_receiver(cx: &Cx<'_>) {
    let pki = crate::pki::Pki::new(cx.dir());
    let (listener, address) = tcp();
    let (_, port) = address.rsplit_once(':').unwrap();
    let receiver = format!("syslog-address=tcp+tls://localhost:{port}");
    let server = std::thread::spawn({
        let config = pki.server(true);
        move || {
            // The first client does not trust us, the second shows its certificate.
            let mut tls = config.accept(accept(&listener));
            assert!(tls.read(&mut [0; 9]).is_err());
            let mut reader = BufReader::new(config.accept(accept(&listener)));
            line(&mut reader)
        }
    });
    cx.run(&to("syslog", &[&receiver]), &["true"])
        .fails_with(125, &["failed to initialize logging driver", "certificate"]);
    let file = |option: &str, name: &str| format!("syslog-tls-{option}={}", pki.path(name));
    let options = [
        &receiver,
        "syslog-format=rfc5424",
        "tag=t",
        &file("ca-cert", "ca.pem"),
        &file("cert", "client.pem"),
        &file("key", "client.key"),
    ];
    ended(cx, "a", &to("syslog", &options), "echo hello");
    let text = server.join().unwrap();
    let (length, rest) = text.split_once(' ').unwrap();
    assert_eq!(length.parse::<usize>().unwrap(), rest.len(), "a frame of RFC 5425");
    assert!(rest.starts_with("<30>1 ") && rest.ends_with(" t - hello\n"), "{rest}");
}

fn gelf_over_udp_and_tcp(cx: &Cx<'_>) {
    let unpack = |bytes: &[u8], form: &str| {
        let mut text = Vec::new();
        match form {
            "gzip" => drop(GzDecoder::new(bytes).read_to_end(&mut text).unwrap()),
            "zlib" => drop(ZlibDecoder::new(bytes).read_to_end(&mut text).unwrap()),
            _ => text.extend_from_slice(bytes),
        }
        serde_json::from_slice::<Value>(&text).unwrap()
    };
    for form in ["gzip", "zlib", "none"] {
        let (socket, address) = udp();
        let to_udp = format!("gelf-address=udp://{address}");
        let compression = format!("gelf-compression-type={form}");
        let options = [&to_udp, "tag=t", "labels=colour", &compression];
        let options = [&["-l", "colour=blue"][..], &to("gelf", &options)].concat();
        let name = ended(cx, form, &options, "echo hello");
        let message = unpack(&datagram(&socket), form);
        assert_eq!(message["version"], "1.1");
        assert_eq!((&message["short_message"], &message["level"]), (&"hello".into(), &6.into()));
        assert_eq!(
            (&message["_container_name"], &message["_tag"]),
            (&name.as_str().into(), &"t".into())
        );
        assert_eq!(
            (&message["_colour"], &message["_image_name"]),
            (&"blue".into(), &"busybox".into())
        );
        assert_eq!(message["_command"], "sh -c echo hello");
        assert!(message["timestamp"].as_f64().unwrap() > 1.7e9);
    }
    // Longer than a datagram: in chunks.
    let (socket, address) = udp();
    let options = [&format!("gelf-address=udp://{address}"), "gelf-compression-type=none"];
    let script = "printf '%05000d\\n' 7";
    ended(cx, "chunks", &to("gelf", &options), script);
    let first = datagram(&socket);
    assert_eq!((&first[..2], first.len()), (&[0x1e, 0x0f][..], 1420));
    let mut parts = vec![first.clone()];
    while parts.len() < usize::from(first[11]) {
        parts.push(datagram(&socket));
    }
    assert!(parts.iter().all(|p| p[2..10] == first[2..10]), "one message id");
    parts.sort_by_key(|p| p[10]);
    let whole: Vec<u8> = parts.iter().flat_map(|p| p[12..].to_vec()).collect();
    assert_eq!(unpack(&whole, "none")["short_message"].as_str().unwrap().len(), 5000);
    let (listener, address) = tcp();
    ended(
        cx,
        "tcp",
        &to("gelf", &[&format!("gelf-address=tcp://{address}")]),
        "echo one; echo two",
    );
    let mut reader = BufReader::new(accept(&listener));
    for want in ["one", "two"] {
        let mut bytes = Vec::new();
        reader.read_until(0, &mut bytes).unwrap();
        assert_eq!(bytes.pop(), Some(0));
        assert_eq!(unpack(&bytes, "none")["short_message"], want);
    }
}

/// One value of MessagePack, as much as the forward protocol has.
fn unpack(reader: &mut impl Read) -> Value {
    let mut take = |count: usize| {
        let mut bytes = vec![0; count];
        reader.read_exact(&mut bytes).unwrap();
        bytes
    };
    let number = |bytes: Vec<u8>| bytes.iter().fold(0_u64, |n, b| n << 8 | u64::from(*b));
    let head = take(1)[0];
    let text = |bytes: Vec<u8>| Value::from(String::from_utf8(bytes).unwrap());
    match head {
        0x80..=0x8f => Value::Object(
            (0..head & 15)
                .map(|_| (unpack(reader).as_str().unwrap().to_owned(), unpack(reader)))
                .collect(),
        ),
        0x90..=0x9f => (0..head & 15).map(|_| unpack(reader)).collect(),
        0xa0..=0xbf => text(take(usize::from(head & 31))),
        0xd9 => {
            let length = number(take(1));
            text(take(length as usize))
        }
        0xda => {
            let length = number(take(2));
            text(take(length as usize))
        }
        0xc0 => Value::Null,
        0xd2 => number(take(4)).into(),
        0xd3 => number(take(8)).into(),
        0xd7 => {
            assert_eq!(take(1), [0], "the extension type of times");
            Value::from(vec![number(take(4)), number(take(4))])
        }
        other => panic!("unexpected type {other:#x}"),
    }
}

fn fluentd_gets_records_and_acknowledges(cx: &Cx<'_>) {
    let (listener, address) = tcp();
    let options = [
        &format!("fluentd-address={address}"),
        "tag=app.{{.Name}}",
        "env=SHAPE",
        "fluentd-request-ack=true",
        "fluentd-sub-second-precision=true",
    ];
    let options = [&["-e", "SHAPE=round"][..], &to("fluentd", &options)].concat();
    let name = cx.start("a", &options, &["sh", "-c", "echo one; echo two >&2"]);
    let mut stream = accept(&listener);
    let mut sources = Vec::new();
    for _ in 0..2 {
        let message = unpack(&mut stream);
        assert_eq!(message[0], format!("app.{name}"));
        assert!(message[1][0].as_u64().unwrap() > 1_700_000_000);
        let record = &message[2];
        assert_eq!(
            (&record["container_name"], &record["SHAPE"]),
            (&format!("/{name}").into(), &"round".into())
        );
        assert_eq!(record["container_id"].as_str().unwrap().len(), 64);
        sources.push((record["source"].clone(), record["log"].clone()));
        let chunk = message[3]["chunk"].as_str().unwrap().to_owned();
        let answer = [&[0x81, 0xa3][..], b"ack", &[0xd9, chunk.len() as u8], chunk.as_bytes()];
        stream.write_all(&answer.concat()).unwrap();
    }
    sources.sort_by_key(|(_, log)| log.to_string());
    assert_eq!(sources, [("stdout".into(), "one".into()), ("stderr".into(), "two".into())]);
    cx.wait(&name);
    // Over a unix socket, without what is optional.
    let path = cx.dir().join("f.sock");
    let listener = UnixListener::bind(&path).unwrap();
    ended(
        cx,
        "b",
        &to("fluentd", &[&format!("fluentd-address=unix://{}", path.display())]),
        "echo x",
    );
    let message = unpack(&mut listener.accept().unwrap().0);
    assert_eq!((message.as_array().unwrap().len(), &message[2]["log"]), (4, &"x".into()));
}

fn fluentd_async_starts_without_a_receiver(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        testkit::cx::skip("dockerd drops what still waits when the container ends");
    }
    let (listener, address) = tcp();
    drop(listener);
    let options =
        [&format!("fluentd-address={address}"), "fluentd-async=true", "fluentd-retry-wait=20ms"];
    let name = ended(cx, "a", &to("fluentd", &options), "echo kept");
    let listener = TcpListener::bind(&address).unwrap();
    assert_eq!(unpack(&mut accept(&listener))[2]["log"], "kept");
    assert_eq!(cx.docker(&["logs", &name]).ok(), "kept");
}

fn journald_is_named_when_it_is_not_there(cx: &Cx<'_>) {
    if std::path::Path::new("/run/systemd/journal/socket").exists() {
        let name = ended(cx, "a", &to("journald", &[]), "echo x");
        assert_eq!(cx.docker(&["logs", &name]).ok(), "x");
        return;
    }
    cx.run(&to("journald", &[]), &["true"]).fails_with(
        125,
        &["failed to initialize logging driver: journald is not enabled on this host"],
    );
}

fn a_receiver_that_cannot_be_reached_fails_the_start(cx: &Cx<'_>) {
    let (listener, address) = tcp();
    drop(listener);
    for (driver, option) in [
        ("fluentd", format!("fluentd-address={address}")),
        ("syslog", format!("syslog-address=tcp://{address}")),
        ("gelf", format!("gelf-address=tcp://{address}")),
    ] {
        cx.run(&to(driver, &[&option]), &["true"]).fails_with(
            125,
            &["failed to initialize logging driver", &format!("dial tcp {address}"), "refused"],
        );
    }
}

fn long_lines_go_out_in_parts(cx: &Cx<'_>) {
    let (listener, address) = tcp();
    let options = [&format!("fluentd-address={address}"), "cache-disabled=true"];
    let name = cx.start("a", &to("fluentd", &options), &["sh", "-c", "printf '%040000d\\n' 7"]);
    let mut stream = accept(&listener);
    let mut length = 0;
    let mut ids = Vec::new();
    for (ordinal, last) in [("1", "false"), ("2", "false"), ("3", "true")] {
        let record = unpack(&mut stream)[2].clone();
        assert_eq!(record["partial_message"], "true");
        assert_eq!(
            (&record["partial_ordinal"], &record["partial_last"]),
            (&ordinal.into(), &last.into())
        );
        length += record["log"].as_str().unwrap().len();
        ids.push(record["partial_id"].clone());
    }
    ids.dedup();
    assert_eq!((length, ids.len()), (40_000, 1));
    cx.wait(&name);
    cx.docker(&["logs", &name])
        .fails_with(1, &["configured logging driver does not support reading"]);
}

fn a_stuck_receiver_never_holds_up_a_non_blocking_container(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        testkit::cx::skip("dockerd 20.10 waits for the receiver when the container ends");
    }
    // It accepts by its backlog and never reads.
    let (listener, address) = tcp();
    let options = [
        &format!("syslog-address=tcp://{address}"),
        "mode=non-blocking",
        "max-buffer-size=64k",
        "cache-max-size=100m",
    ];
    let name = cx.start("a", &to("syslog", &options), &["sh", "-c", "seq 1 2000000"]);
    assert_eq!(cx.wait(&name), 0);
    assert_eq!(cx.docker(&["logs", "-n", "1", &name]).ok(), "2000000", "the copy has all");
    let state = cx.inspect(&name)["State"].clone();
    assert_eq!(state["Status"], "exited");
    drop(listener);
}

fn a_slow_receiver_loses_nothing_and_holds_the_container_up(cx: &Cx<'_>) {
    let (listener, address) = tcp();
    let options = [&format!("syslog-address=tcp://{address}"), "tag=t", "cache-disabled=true"];
    let name = cx.start("a", &to("syslog", &options), &["sh", "-c", "seq 1 400000"]);
    let stream = accept(&listener);
    // Nothing is read yet, and the output is more than all buffers on the way hold.
    assert_eq!(cx.inspect(&name)["State"]["Running"], true);
    let mut want = 1_u32;
    for text in BufReader::new(stream).lines() {
        let text = text.unwrap();
        let number = text.rsplit(' ').next().unwrap();
        assert_eq!(number, want.to_string());
        want += 1;
        if want > 400_000 {
            break;
        }
    }
    assert_eq!(cx.wait(&name), 0);
}

/// The relay of a container, found by its command line.
fn relay_of(cx: &Cx<'_>, name: &str) -> Option<i32> {
    let id = cx.inspect(name)["Id"].as_str().unwrap().to_owned();
    std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).into_owned();
        line.contains(&format!("log-relay\0{id}"))
            .then(|| entry.file_name().to_str()?.parse().ok())?
    })
}

fn a_relay_that_dies_is_started_again(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        testkit::cx::skip("Docker has no relays");
    }
    let (listener, address) = tcp();
    let options = [&format!("syslog-address=tcp://{address}"), "tag=t"];
    let script = "echo first; while sleep 0.05; do echo more; done";
    let name = cx.start("a", &to("syslog", &options), &["sh", "-c", script]);
    let mut reader = BufReader::new(accept(&listener));
    assert!(line(&mut reader).ends_with(": first\n"));
    let pid = relay_of(cx, &name).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let mut reader = BufReader::new(accept(&listener));
    assert!(line(&mut reader).ends_with(": more\n"));
    cx.docker(&["rm", "-f", &name]).ok();
}

fn output_goes_on_while_the_daemon_is_dead(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        testkit::cx::skip("needs a daemon of its own");
    }
    let daemon = Daemon::start(Options::new().without_bridge()).unwrap();
    daemon.load_busybox().unwrap();
    let own = Cx::new(&daemon, "own");
    let (listener, address) = tcp();
    let options = [&format!("syslog-address=tcp://{address}"), "tag=t"];
    let options = [&["--network", "none"][..], &to("syslog", &options)].concat();
    let script = "echo first; while sleep 0.05; do echo more; done";
    let name = own.start("a", &options, &["sh", "-c", script]);
    let mut reader = BufReader::new(accept(&listener));
    assert!(line(&mut reader).ends_with(": first\n"));
    daemon.kill().unwrap();
    for _ in 0..20 {
        assert!(line(&mut reader).ends_with(": more\n"));
    }
    daemon.start_again().unwrap();
    assert!(own.docker(&["logs", &name]).lines().len() > 20);
    own.docker(&["rm", "-f", &name]).ok();
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
}

fn info_lists_the_drivers(cx: &Cx<'_>) {
    let drivers = cx.api().get("/info").expect(200)["Plugins"]["Log"].clone();
    for name in ["fluentd", "gelf", "journald", "json-file", "local", "none", "syslog"] {
        // Docker leaves `none` out.
        let there = drivers.as_array().unwrap().iter().any(|d| d == name);
        assert!(there || name == "none", "{name} in {drivers}");
    }
}
