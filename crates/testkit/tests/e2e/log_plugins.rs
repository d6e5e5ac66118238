//! Plugins for logs: what they are told and sent, and plugins that refuse, die and come back.

use crate::volume_plugins::daemon;
use serde_json::json;
use std::{
    fs::File,
    io::Read as _,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};
use testkit::{
    Cx, cases, command,
    plugin::{Answer, Plugin},
    suite::Case,
};

pub const CASES: &[Case] = cases![
    a_plugin_gets_every_line,
    what_log_plugins_refuse_is_told,
    a_log_plugin_that_died_goes_on,
    output_goes_on_without_the_daemon,
];

/// An entry as it came: source, line, and of a part its number and whether it is the last.
type Entry = (String, String, Option<(u64, bool)>);

/// What came, and whether the one that reads has died.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<Entry>>>, Arc<AtomicBool>);

impl Kept {
    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().map(|(_, line, _)| line.clone()).collect()
    }

    /// Closes the pipe with the next entry, as the end of a process would.
    fn die(&self) {
        self.1.store(true, Ordering::SeqCst);
    }

    /// Reads a pipe to its end.
    fn read(&self, path: &str) {
        let (kept, mut pipe) = (self.clone(), File::open(path).unwrap());
        thread::spawn(move || {
            let mut length = [0; 4];
            while pipe.read_exact(&mut length).is_ok() {
                let mut message = vec![0; u32::from_be_bytes(length) as usize];
                pipe.read_exact(&mut message).unwrap();
                if kept.1.load(Ordering::SeqCst) {
                    return;
                }
                kept.0.lock().unwrap().push(entry(&message));
            }
        });
    }
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (first, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            break;
        }
    }
    value
}

/// Fields of a message: number, value, bytes.
fn fields(mut bytes: &[u8]) -> Vec<(u64, u64, Vec<u8>)> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let value = varint(&mut bytes);
        let mut text = Vec::new();
        if key & 7 == 2 {
            let (own, rest) = bytes.split_at(usize::try_from(value).unwrap());
            (text, bytes) = (own.to_vec(), rest);
        }
        all.push((key >> 3, value, text));
    }
    all
}

fn entry(message: &[u8]) -> Entry {
    let (mut source, mut line, mut part) = (String::new(), String::new(), None);
    for (field, value, text) in fields(message) {
        match field {
            1 => source = String::from_utf8(text).unwrap(),
            2 => assert!(value > 1_600_000_000_000_000_000, "nanoseconds since 1970"),
            3 => line = String::from_utf8(text).unwrap(),
            4 => assert_eq!(value, 1),
            5 => {
                let inner = fields(&text);
                let of = |n| inner.iter().find(|(field, ..)| *field == n).map(|(_, v, _)| *v);
                assert!(inner.iter().any(|(field, _, id)| *field == 2 && !id.is_empty()));
                part = Some((of(3).unwrap(), of(1) == Some(1)));
            }
            other => panic!("an unknown field {other}"),
        }
    }
    (source, line, part)
}

fn plugin(dir: &Path, kept: &Kept) -> Plugin {
    let kept = kept.clone();
    Plugin::start(dir, "keeper", move |method, asked| match method {
        "Plugin.Activate" => json!({"Implements": ["LogDriver"]}).into(),
        "LogDriver.StartLogging" => {
            if asked["Info"]["Config"]["bad"].is_string() {
                return json!({"Err": "an option is bad"}).into();
            }
            let path = asked["File"].as_str().unwrap().to_owned();
            let kept = kept.clone();
            // Its answer does not wait for the other end.
            thread::spawn(move || kept.read(&path));
            json!({}).into()
        }
        "LogDriver.StopLogging" => json!({}).into(),
        _ => Answer::Bad(404, json!({"Err": "what?"})),
    })
}

const RUN: [&str; 4] = ["run", "--network", "none", "--log-driver=keeper"];

fn a_plugin_gets_every_line(cx: &Cx<'_>) {
    let kept = Kept::default();
    let plugin = plugin(cx.dir(), &kept);
    let daemon = daemon(cx, cx.dir(), &[]);
    let own = Cx::new(&daemon, "own");
    let name = own.name("a");
    let with = [
        "--name",
        &name,
        "--log-opt",
        "colour=blue",
        "-e",
        "A=b",
        "--label",
        "k=v",
        "busybox",
        "sh",
        "-c",
    ];
    let script = "echo out; echo err >&2; head -c 20000 /dev/zero | tr '\\0' x; echo; printf rest";
    own.docker(&[&RUN[..], &["-d"], &with, &[script]].concat()).ok();
    assert_eq!(own.wait(&name), 0);
    cx.until("the end is told", || plugin.asked_for("LogDriver.StopLogging").first().map(|_| ()));
    let told = &plugin.asked_for("LogDriver.StartLogging")[0];
    let info = &told["Info"];
    assert_eq!(
        (
            &info["Config"],
            &info["ContainerName"],
            &info["ContainerEntrypoint"],
            &info["ContainerImageName"]
        ),
        (&json!({"colour": "blue"}), &json!(format!("/{name}")), &json!("sh"), &json!("busybox"))
    );
    assert_eq!(info["ContainerLabels"]["k"], json!("v"));
    assert!(info["ContainerEnv"].as_array().unwrap().contains(&json!("A=b")));
    assert_eq!(info["ContainerArgs"], json!(["-c", script]));
    assert_eq!(plugin.asked_for("LogDriver.StopLogging")[0]["File"], told["File"]);
    let pipe = Path::new(told["File"].as_str().unwrap());
    cx.until("the pipe is gone", || (!pipe.exists()).then_some(()));
    cx.until("all has come", || kept.lines().contains(&"rest".to_owned()).then_some(()));
    let entries = kept.0.lock().unwrap().clone();
    assert!(entries.contains(&("stdout".into(), "out".into(), None)));
    assert!(entries.contains(&("stderr".into(), "err".into(), None)));
    let parts: Vec<_> =
        entries.iter().filter_map(|(_, line, part)| Some((line.len(), (*part)?))).collect();
    assert_eq!(parts, [(16384, (1, false)), (3616, (2, true))]);
    let logs = own.docker(&["logs", &name]);
    assert!(logs.stdout.starts_with("out\n") && logs.stderr == "err\n", "the copy is read");
    let drivers = own.docker(&["info", "-f", "{{json .Plugins.Log}}"]).ok().to_owned();
    assert!(drivers.contains("\"keeper\"") && drivers.contains("\"syslog\""), "{drivers}");
    assert_eq!(own.inspect(&name)["HostConfig"]["LogConfig"]["Type"], json!("keeper"));
    own.docker(&["start", "-a", &name]).ok();
    cx.until("the second end is told", || {
        (plugin.asked_for("LogDriver.StopLogging").len() == 2).then_some(())
    });
    assert_eq!(kept.lines().iter().filter(|line| *line == "out").count(), 2);
    own.docker(&["rm", &name]).ok();
}

fn what_log_plugins_refuse_is_told(cx: &Cx<'_>) {
    let kept = Kept::default();
    let _plugin = plugin(cx.dir(), &kept);
    let _other = Plugin::start(cx.dir(), "other", |_, _| json!({"Implements": ["authz"]}).into());
    let _deaf = Plugin::start(cx.dir(), "deaf", |method, _| match method {
        "Plugin.Activate" => json!({"Implements": ["LogDriver"]}).into(),
        _ => json!({}).into(),
    });
    let _mute = Plugin::start(cx.dir(), "mute", |method, _| match method {
        "Plugin.Activate" => json!({"Implements": ["LogDriver"]}).into(),
        _ => Answer::Never,
    });
    let _liar = Plugin::start(cx.dir(), "liar", |method, _| match method {
        "Plugin.Activate" => json!({"Implements": ["LogDriver"]}).into(),
        _ => Answer::Text("<html>".into()),
    });
    let daemon = daemon(cx, cx.dir(), &["--plugin-timeout=1"]);
    let own = Cx::new(&daemon, "own");
    let run = |driver: &str, more: &[&str]| {
        let driver = format!("--log-driver={driver}");
        own.docker(
            &[&["run", "--rm", "--network", "none", &driver], more, &["busybox", "true"]].concat(),
        )
    };
    run("nowhere", &[]).fails_with(125, &["logger: no log driver named 'nowhere' is registered"]);
    run("other", &[]).fails_with(125, &["plugin \"other\" does not implement LogDriver"]);
    run("keeper", &["--log-opt", "bad=yes"])
        .fails_with(125, &["LogDriver.StartLogging: an option is bad"]);
    run("deaf", &[]).fails_with(125, &["the plugin does not read"]);
    run("mute", &[]).fails_with(125, &["LogDriver.StartLogging: no answer within 1 seconds"]);
    run("liar", &[]).fails_with(125, &["LogDriver.StartLogging: cannot read the answer"]);
    run("keeper", &["--log-opt", "mode=nonsense"]).fails_with(125, &["logging mode not supported"]);
    let exec = daemon.path("root").join("containers");
    let left: Vec<_> = std::fs::read_dir(exec).unwrap().flatten().map(|e| e.path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn a_log_plugin_that_died_goes_on(cx: &Cx<'_>) {
    let kept = Kept::default();
    let first = plugin(cx.dir(), &kept);
    let daemon = daemon(cx, cx.dir(), &[]);
    let own = Cx::new(&daemon, "own");
    let name = own.name("a");
    let script = "i=0; while :; do echo line $i; i=$((i+1)); sleep 0.1; done";
    own.docker(&[&RUN[..], &["-d", "--name", &name, "busybox", "sh", "-c", script]].concat()).ok();
    cx.until("lines come", || (kept.lines().len() > 2).then_some(()));
    drop(first);
    kept.die();
    let lost = own.docker(&["logs", &name]).ok().lines().count() + 3;
    cx.until("the container goes on", || {
        (own.docker(&["logs", &name]).ok().lines().count() > lost).then_some(())
    });
    let after = Kept::default();
    let second = plugin(cx.dir(), &after);
    cx.until("lines come to the new one", || (after.lines().len() > 2).then_some(()));
    own.docker(&["rm", "-f", &name]).ok();
    cx.until("the end is told", || second.asked_for("LogDriver.StopLogging").first().map(|_| ()));
}

fn output_goes_on_without_the_daemon(cx: &Cx<'_>) {
    let kept = Kept::default();
    let plugin = plugin(cx.dir(), &kept);
    let daemon = daemon(cx, cx.dir(), &[]);
    let docker = |args: &[&str]| command::run(daemon.docker().args(args), b"");
    let script = "i=0; while :; do echo line $i; i=$((i+1)); sleep 0.1; done";
    docker(&[&RUN[..], &["-d", "--name", "goes", "busybox", "sh", "-c", script]].concat()).ok();
    cx.until("lines come", || (kept.lines().len() > 2).then_some(()));
    daemon.kill().unwrap();
    let before = kept.lines().len();
    cx.until("lines go on coming", || (kept.lines().len() > before + 3).then_some(()));
    daemon.start_again().unwrap();
    docker(&["rm", "-f", "goes"]).ok();
    cx.until("the end is told", || plugin.asked_for("LogDriver.StopLogging").first().map(|_| ()));
    let numbers: Vec<String> = (0..kept.lines().len()).map(|n| format!("line {n}")).collect();
    assert_eq!(kept.lines(), numbers, "none is missing, none comes twice");
}
