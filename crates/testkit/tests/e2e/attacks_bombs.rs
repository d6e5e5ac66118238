//! Archives that grow when they are read, and documents that never end: the daemon stays small.

use serde_json::{Value, json};
use std::{fs, io::Write as _};
use testkit::{
    Cx, Daemon, cases,
    cx::skip,
    daemon::Options,
    suite::Case,
    tarball::{self, Entry, Tarball},
};

pub const CASES: &[Case] = cases![bombs_stay_small_in_memory, documents_of_archives_are_bounded];

/// Peak of the daemon's own memory in bytes, and a new beginning for the next measurement.
pub fn peak(daemon: &Daemon) -> u64 {
    let pid = daemon.pid().unwrap();
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
    kib << 10
}

/// The gzip form of `head` and so many zeros behind it, made without holding them.
fn gzip_of_zeros(head: &[u8], zeros: u64) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(head).unwrap();
    let block = vec![0; 1 << 20];
    for _ in 0..zeros >> 20 {
        out.write_all(&block).unwrap();
    }
    out.finish().unwrap()
}

fn bombs_stay_small_in_memory(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        skip("measures a daemon of its own");
    }
    let daemon = Daemon::start(Options::new().without_bridge()).unwrap();
    daemon.load_busybox().unwrap();
    let own = Cx::new(&daemon, "own");
    own.docker(&["run", "-d", "--name", "own-box", "--network=none", "busybox", "sleep", "600"])
        .ok();
    let first = peak(&daemon);
    let mut many = Tarball::new();
    for n in 0..60_000 {
        many.file(&format!("many/{n}"), 0o644, "");
    }
    let mut sparse = Tarball::new();
    let records: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"huge"),
        ("GNU.sparse.realsize", b"9223372036854775807"),
    ];
    sparse.pax(records).file("f", 0o644, "1\n9223372036854775806\n1\nx");
    let mut map = Tarball::new();
    let blocks: String = (0..200_000).map(|n| format!("{n}\n0\n")).collect();
    map.pax(&records[..3]).pax(records).file("f", 0o644, format!("200000\n{blocks}"));
    let mut names = Tarball::new();
    names.raw(&Entry { name: b"L", kind: b'L', ..Entry::default() }, 1 << 30);
    let mut records_bomb = Tarball::new();
    records_bomb.raw(&Entry { name: b"x", kind: b'x', ..Entry::default() }, 1 << 30);
    let end = Tarball::new();
    let long = Entry { name: b"zeros", ..Entry::default() };
    let mut zeros = Tarball::new();
    zeros.raw(&long, 600 << 20);
    let bombs: Vec<(&str, Vec<u8>)> = vec![
        ("zeros behind the end", gzip_of_zeros(&end.finish(), 1 << 30)),
        ("a file of zeros", gzip_of_zeros(&zeros.unfinished(), 601 << 20)),
        ("a long name of zeros", gzip_of_zeros(&names.unfinished(), 1 << 30)),
        ("records of zeros", gzip_of_zeros(&records_bomb.unfinished(), 1 << 30)),
        ("many empty files", tarball::gzip(&many.finish())),
        ("a hole of eight exbibytes", sparse.finish()),
        ("a map of holes", map.finish()),
        (
            "a gzip in a gzip in a gzip",
            tarball::gzip(&tarball::gzip(&gzip_of_zeros(&[], 64 << 20))),
        ),
        (
            "a zstd window of two gibibytes",
            vec![
                0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x03, 0x00, 0x00, 0x10, 0x00, 0xff, 0x01, 0x00,
            ],
        ),
        (
            "an xz dictionary of four gibibytes",
            vec![
                0xfd, b'7', b'z', b'X', b'Z', 0, 0, 1, 0x69, 0x22, 0xde, 0x36, 2, 0, 0x21, 1, 40,
                0, 0, 0, 0x7a, 0x8d, 0x9b, 0x10,
            ],
        ),
        ("an lzma of old", [&[0x5d, 0, 0, 0, 0xff][..], &[0xff; 9], &[0; 64]].concat()),
    ];
    for (what, bomb) in &bombs {
        let mut said = vec![own.docker_with(&["import", "-", "bomb"], bomb).code];
        let mut context = Tarball::new();
        context.file("x.tar", 0o644, bomb).file("Dockerfile", 0o644, "FROM busybox\nADD x.tar /\n");
        said.push(own.docker_with(&["build", "-q", "-"], context.finish()).code);
        said.push(own.docker_with(&["load", "-q"], bomb).code);
        said.push(own.docker_with(&["cp", "-", "own-box:/tmp"], bomb).code);
        assert!(said.iter().all(Option::is_some), "{what}: {said:?}");
        own.docker(&["system", "prune", "-af"]).ok();
        daemon.load_busybox().unwrap();
        let grown = peak(&daemon).saturating_sub(first);
        assert!(grown < 256 << 20, "{what}: the daemon grew by {} MiB", grown >> 20);
    }
    own.docker(&["rm", "-f", "own-box"]).ok();
    assert_eq!(daemon.stop().unwrap(), 0);
}

fn documents_of_archives_are_bounded(cx: &Cx<'_>) {
    if !cx.is_gantry() {
        skip("measures a daemon of its own");
    }
    let daemon = Daemon::start(Options::new().without_bridge()).unwrap();
    let own = Cx::new(&daemon, "own");
    let first = peak(&daemon);
    let with = |name: &str, body: Vec<u8>| {
        let mut tar = Tarball::new();
        tar.file(name, 0o644, body);
        tar.finish()
    };
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n)).into_bytes();
    let layers: Vec<Value> = (0..1_000_000).map(|_| json!("l/layer.tar")).collect();
    let manifest = json!([{"Config": "c.json", "RepoTags": ["x:y"], "Layers": layers}]);
    let refs: Vec<Value> = (0..300_000)
        .map(|n| json!({"mediaType": "x", "digest": format!("sha256:{n:064x}"), "size": 1}))
        .collect();
    let index = json!({"schemaVersion": 2, "manifests": refs});
    let mut oci = Tarball::new();
    oci.file("oci-layout", 0o644, r#"{"imageLayoutVersion":"1.0.0"}"#).file(
        "index.json",
        0o644,
        index.to_string(),
    );
    let mut sized = Tarball::new();
    sized.raw(&Entry { name: b"manifest.json", ..Entry::default() }, 2 << 30);
    let mut climbing = Tarball::new();
    climbing.file(
        "manifest.json",
        0o644,
        r#"[{"Config":"../../../../etc/passwd","RepoTags":["x:y"],"Layers":["/etc/passwd"]}]"#,
    );
    let mut linked = Tarball::new();
    linked.symlink("manifest.json", "/etc/passwd").symlink("c.json", "/etc/shadow");
    let mut config = Tarball::new();
    let many: Vec<String> = (0..100_000).map(|n| format!("sha256:{n:064x}")).collect();
    let document = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": many}});
    config.file("c.json", 0o644, document.to_string());
    config.file("manifest.json", 0o644, r#"[{"Config":"c.json","RepoTags":["x:y"],"Layers":[]}]"#);
    let archives: Vec<(&str, Vec<u8>)> = vec![
        ("a deep manifest.json", with("manifest.json", deep(100_000))),
        ("a million layers", with("manifest.json", manifest.to_string().into_bytes())),
        (
            "a manifest.json of 200 MiB",
            gzip_of_zeros(&with("manifest.json", vec![b' '; 1 << 20]), 200 << 20),
        ),
        ("a size of two gibibytes", gzip_of_zeros(&sized.unfinished(), 1 << 30)),
        ("many manifests", oci.finish()),
        ("names that climb", climbing.finish()),
        ("documents that are links", linked.finish()),
        ("a hundred thousand layers in the configuration", config.finish()),
        ("a deep index.json", with("index.json", deep(100_000))),
        ("repositories of old", with("repositories", deep(2000))),
    ];
    for (what, archive) in archives {
        let output = own.docker_with(&["load"], archive);
        assert_ne!(output.code, Some(0), "{what}: {}", output.describe());
        assert!(!output.stderr.contains("root:"), "{what}: {}", output.describe());
        let grown = peak(&daemon).saturating_sub(first);
        assert!(grown < 256 << 20, "{what}: the daemon grew by {} MiB", grown >> 20);
        assert_eq!(own.docker(&["images", "-q"]).ok(), "", "{what}");
    }
    assert_eq!(daemon.stop().unwrap(), 0);
}
