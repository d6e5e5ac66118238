//! The parsers. To add one: a function and a line in [`TARGETS`]; its seeds are what it accepts, as short as may be.

use std::path::{Path, PathBuf};

/// One parser.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Name, as on the command line.
    pub name: &'static str,
    /// Inputs that mutation begins with.
    pub seeds: &'static [&'static [u8]],
    /// The parser; only a panic is a fault.
    pub run: fn(&[u8]),
}

const MANIFEST: &[u8] = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":7},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":9}]}"#;
const INDEX: &[u8] = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":7,"platform":{"architecture":"arm","os":"linux","variant":"v7"}}]}"#;
const CONFIG: &[u8] = br#"{"architecture":"amd64","os":"linux","created":"2024-01-01T00:00:00Z","config":{"Env":["A=b"],"Cmd":["sh"],"Volumes":{"/v":{}},"ExposedPorts":{"80/tcp":{}},"Labels":{"a":"b"},"User":"1:2"},"rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},"history":[{"created_by":"x","empty_layer":true}]}"#;
const CREATE: &[u8] = br#"{"Image":"busybox","Cmd":["sh"],"Env":["A=b"],"ExposedPorts":{"80/tcp":{}},"HostConfig":{"Binds":["/a:/b:ro"],"Memory":6000000,"PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"8080"}]},"Ulimits":[{"Name":"nofile","Soft":1,"Hard":2}],"Mounts":[{"Type":"volume","Source":"v","Target":"/v"}],"RestartPolicy":{"Name":"always"}},"NetworkingConfig":{"EndpointsConfig":{"n":{"Aliases":["a"]}}}}"#;
const SECCOMP: &[u8] = br#"{"defaultAction":"SCMP_ACT_ERRNO","archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],"syscalls":[{"names":["read","socket"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":40,"valueTwo":0,"op":"SCMP_CMP_NE"}],"includes":{"caps":["CAP_SYS_ADMIN"],"minKernel":"4.8"}}]}"#;
const PROCESS: &[u8] = br#"{"terminal":true,"user":{"uid":1,"gid":2,"additionalGids":[3]},"args":["sh"],"env":["A=b"],"cwd":"/","capabilities":{"bounding":["CAP_KILL"]},"rlimits":[{"type":"RLIMIT_NOFILE","hard":1,"soft":1}],"noNewPrivileges":true}"#;
const OCI: &[u8] = br#"{"ociVersion":"1.2.0","process":{"args":["sh"],"cwd":"/","user":{"uid":0,"gid":0}},"root":{"path":"rootfs","readonly":true},"hostname":"h","mounts":[{"destination":"/proc","type":"proc","source":"proc","options":["nosuid","mode=755"]}],"linux":{"namespaces":[{"type":"mount"},{"type":"pid"},{"type":"network","path":"/proc/1/ns/net"}],"resources":{"memory":{"limit":4096},"devices":[{"allow":false,"access":"rwm"}],"unified":{"cpu.max":"1 2"}},"sysctl":{"net.a":"1"},"maskedPaths":["/proc/kcore"],"cgroupsPath":"/a/b"}}"#;
const COMPOSE: &[u8] = b"name: p\nservices:\n  a: &a\n    image: x:${TAG:-1}\n    ports: [\"80-81:90-91/udp\", {target: 1, published: \"2\"}]\n    volumes: [./d:/d:ro, v:/v]\n    depends_on: {b: {condition: service_healthy}}\n    healthcheck: &h {test: [CMD, x], interval: 1m}\n    deploy: {resources: {limits: {cpus: '0.5', memory: 1g}}}\n  b:\n    image: y\n    healthcheck: *h\n  c:\n    <<: *a\n    extends: {service: b}\n    profiles: [q]\nvolumes: {v: }\n";

/// All parsers.
pub static TARGETS: &[Target] = &[
    Target { name: "tar", seeds: &[include_bytes!("../corpus/small.tar")], run: tar },
    Target {
        name: "decompress",
        seeds: &[
            include_bytes!("../corpus/small.tar.gz"),
            include_bytes!("../corpus/small.tar.xz"),
            include_bytes!("../corpus/small.tar.zst"),
            include_bytes!("../corpus/small.tar.bz2"),
        ],
        run: decompress,
    },
    Target { name: "manifest", seeds: &[MANIFEST, INDEX], run: manifest },
    Target { name: "config", seeds: &[CONFIG], run: |b| _ = image::ConfigBlob::parse(b.to_vec()) },
    Target {
        name: "reference",
        seeds: &[b"localhost:5000/a/b:tag", b"alpine@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"],
        run: reference,
    },
    Target {
        name: "dockerfile",
        seeds: &[
            b"# syntax=x\nARG V=1\nFROM --platform=linux/amd64 busybox:$V AS a\nRUN --mount=type=cache,target=/c <<EOF\nls\nEOF\nCOPY --from=a --chown=1:2 [\"a b\", \"/\"]\n",
            b"FROM scratch\nENV A=b C=\"d e\" F=${A:-x}\nHEALTHCHECK --interval=1s CMD true\nLABEL a=b\nEXPOSE 80/udp\nVOLUME [\"/v\"]\nONBUILD ADD http://x /y\nSHELL [\"sh\"]\nSTOPSIGNAL 9\n",
        ],
        run: dockerfile,
    },
    Target { name: "dockerignore", seeds: &[b"*.o\n!keep/**/x?.[a-z]\n# c\n/\\*a\n"], run: ignore },
    Target { name: "expansion", seeds: &[b"a${B:-c}$D\"'e'\"\\$f${G:+h}${I#*x}${J//a/b}"], run: expansion },
    Target { name: "api", seeds: crate::requests::SEEDS, run: crate::requests::run },
    Target { name: "create", seeds: &[CREATE], run: create },
    Target {
        name: "filters",
        seeds: &[b"{\"label\":[\"a=b\"],\"dangling\":{\"true\":true}}", b"{}"],
        run: |b| _ = base::filters::Filters::parse(&String::from_utf8_lossy(b)).map(|f| f.only(&["a"])),
    },
    Target { name: "numbers", seeds: &[b"1.5GiB", b"1h2m3.5s", b"2024-01-02T03:04:05.6+07:00", b"SIGRTMIN+3", b"linux/arm/v7"], run: numbers },
    Target {
        name: "oci",
        seeds: &[PROCESS],
        run: |b| _ = runtime::oci::parse_process(b).map(|p| runtime::oci::spec_process(&p)),
    },
    Target { name: "container", seeds: &[OCI], run: container },
    Target {
        name: "mounts",
        seeds: &[
            b"/a:/b:ro,rslave\n80/tcp 127.0.0.1 8080-8090\n/t size=1m,mode=1777,exec",
            b"name:/path:nocopy,z\n53/udp :: 53\n/run noexec,uid=5",
        ],
        run: mounts,
    },
    Target {
        name: "cgroup",
        seeds: &[
            b"usage_usec 5\nuser_usec 4\nnr_periods 3\nanon 4096\n254:0 rbytes=1 wbytes=2 rios=3\nmax\n",
            b"31 30 0:26 / /sys/fs/cg\\040roup/cpu rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n36 30 0:30 / /u rw - cgroup2 none rw\n",
        ],
        run: cgroup,
    },
    Target { name: "seccomp", seeds: &[SECCOMP], run: seccomp },
    Target { name: "users", seeds: &[b"a:b\na:x:1:2:n:/h:/s\nb:x:7:a,c\n"], run: users },
    Target {
        name: "netlink",
        seeds: &[b"\x08\0\x01\0\x01\0\0\0\x0c\0\x02\x80\x08\0\x03\0abc\0"],
        run: netlink,
    },
    Target {
        name: "dns",
        seeds: &[
            b"\x12\x34\x01\0\0\x01\0\0\0\0\0\x01\x03web\x07example\0\0\x01\0\x01\0\0\x29\x10\0\0\0\0\0\0\0",
            b"\x12\x34\x81\x80\0\x01\0\x01\0\0\0\0\x03web\0\0\x01\0\x01\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x0a\0\0\x01",
        ],
        run: dns,
    },
    Target {
        name: "log",
        seeds: &[b"{\"log\":\"a line\\n\",\"stream\":\"stdout\",\"attrs\":{\"a\":\"b\"},\"time\":\"2024-01-02T03:04:05.678901234Z\"}\n{\"log\":\"no end\",\"stream\":\"stderr\",\"time\":\"2024-01-02T03:04:06Z\"}\n"],
        run: log,
    },
    Target {
        name: "registry",
        seeds: &[MANIFEST, INDEX, b"Basic dXNlcjpwYXNz", b"library/busybox", b"0123456789abcdef0123456789abcdef0123456789abcdef"],
        run: registry_inputs,
    },
    Target {
        name: "token",
        seeds: &[b"eyJhIjoxfQ.eyJpc3MiOiJ4In0.c2ln", b"repository(plugin):a:5000/b:pull,push,*"],
        run: token,
    },
    // An operation without inputs that reads an image, and the end that names it.
    Target { name: "graph", seeds: &[b"\n\x0c\x1a\n\n\x08docker-i\n\x4d\n\x4b\n\x47sha256:b55a2c7e8af378c04b358869c20cf3fe967365524e6a8a6248dffd23b8ab69d2\x10\0"], run: graph },
    Target { name: "uploads", seeds: crate::uploads::SEEDS, run: crate::uploads::run },
    Target { name: "compose", seeds: &[COMPOSE], run: compose },
];

/// A file of these bytes, and the folder that it goes with.
fn file(name: &str, bytes: &[u8]) -> Option<(tempfile::TempDir, PathBuf)> {
    let dir = tempfile::tempdir().ok()?;
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).ok()?;
    Some((dir, path))
}

fn tar(bytes: &[u8]) {
    let Ok(dir) = tempfile::tempdir() else { return };
    let Ok(root) = sys::root::Root::open(dir.path()) else { return };
    let limits =
        storage::Limits { entries: 1000, tar_bytes: 1 << 20, ..storage::Limits::default() };
    _ = storage::extract_into(&root, Path::new("/into"), &mut &*bytes, &limits);
    let outside = std::fs::read_dir(dir.path())
        .map_or(0, |entries| entries.flatten().filter(|entry| entry.file_name() != "into").count());
    assert_eq!(outside, 0, "the archive wrote outside its folder");
}

fn decompress(bytes: &[u8]) {
    let limits = image::Limits::default();
    let Ok((_, mut plain)) = image::decompress::open(bytes, &limits) else { return };
    // What comes out may be much: a bound of the target, not of the parser.
    _ = std::io::copy(&mut std::io::Read::take(&mut plain, 8 << 20), &mut std::io::sink());
}

fn manifest(bytes: &[u8]) {
    _ = image::manifest::parse(bytes);
    for kind in [
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    ] {
        _ = registry::manifest::parse(bytes, kind);
    }
}

fn reference(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(reference) = text.parse::<base::Reference>() {
        let again = reference.to_string().parse::<base::Reference>();
        assert_eq!(
            again.ok().as_ref(),
            Some(&reference),
            "a name that is shown is not read as the same"
        );
    }
    _ = text.parse::<base::Digest>();
}

fn dockerfile(bytes: &[u8]) {
    _ = build::dockerfile::Dockerfile::parse("Dockerfile", bytes);
}

fn ignore(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(ignore) = build::ignore::Ignore::parse(&text) {
        for path in
            ["a.o", "keep/d/xy.q", "very/long/path/with/many/parts/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]
        {
            _ = ignore.excludes(path);
        }
    }
}

fn expansion(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let vars = [("B".to_owned(), "value".to_owned()), ("I".to_owned(), "x/y/x".to_owned())];
    for escape in ['\\', '`'] {
        _ = build::expand::word(&text, escape, vars.as_slice());
        _ = build::expand::words(&text, escape, vars.as_slice());
        _ = build::expand::raw_words(&text, escape);
    }
}

/// What `POST /containers/create` goes on to look at before anything is made.
fn create(bytes: &[u8]) {
    use api::model;
    let Ok(config) = api::decode::<model::ContainerConfig>(bytes) else { return };
    let host = serde_json::from_slice::<serde_json::Value>(bytes)
        .ok()
        .and_then(|mut all| api::decode_value::<model::HostConfig>(all["HostConfig"].take()).ok());
    _ = engine::containers::check(&config, &host.unwrap_or_default());
}

fn numbers(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    _ = base::units::parse_bytes(&text);
    _ = base::units::parse_go_duration(&text).map(base::units::go_duration);
    _ = base::Timestamp::parse_relative(&text, base::Timestamp::ZERO);
    _ = text.parse::<base::Timestamp>().map(|t| t.to_string());
    _ = text.parse::<base::Platform>();
    _ = base::signal::parse(&text).map(base::signal::name);
}

fn seccomp(bytes: &[u8]) {
    use runtime::seccomp::{Arch, Profile};
    let text = String::from_utf8_lossy(bytes);
    if let Ok(Some(profile)) = Profile::parse(&text, Arch::X86_64) {
        _ = runtime::seccomp::compile(
            &profile,
            runtime::defaults::Capabilities::default(),
            Arch::X86_64,
        );
    }
}

/// The first line is the user, the rest both files.
fn users(bytes: &[u8]) {
    let end = bytes.iter().position(|b| *b == b'\n').unwrap_or(bytes.len());
    let name = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let user = runtime::spec::User { name, additional_groups: vec!["b".into()] };
    _ = runtime::user::resolve(&user, &bytes[end..], &bytes[end..]);
}

fn netlink(bytes: &[u8]) {
    use sys::netlink::Attributes;
    for fixed in [0, 4, 16] {
        let attributes = Attributes::after(bytes, fixed);
        for kind in 0..4 {
            _ = attributes.text(kind);
            _ = attributes.number(kind);
            _ = attributes.number_be(kind);
            _ = attributes.nested(kind).value(3);
        }
    }
}

fn dns(bytes: &[u8]) {
    use resolver::{Settings, Transport, Zone};
    let zone = Zone::new(Settings::default(), Vec::new());
    for transport in [Transport::Udp, Transport::Tcp] {
        _ = resolver::answer(bytes, &zone, transport, 1);
    }
    let (query, reply) = bytes.split_at(bytes.len() / 2);
    _ = resolver::reply_matches(query, reply);
    _ = resolver::truncated(query, bytes);
}

fn log(bytes: &[u8]) {
    let Some((_dir, path)) = file("x-json.log", bytes) else { return };
    let config = logging::Config { path, ..logging::Config::default() };
    for tail in [None, Some(1)] {
        let read = logging::ReadOptions { tail, ..logging::ReadOptions::default() };
        let Ok(mut reader) = config.reader(&read) else { return };
        // Not more records than bytes.
        for _ in 0..=bytes.len() {
            match reader.next() {
                Ok(logging::Next::Entry(entry)) => _ = entry.at(),
                _ => break,
            }
        }
    }
}

fn registry_inputs(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    _ = registry::auth::basic(&text);
    _ = registry::uploads::UploadId::parse(&text, "a/b");
    _ = registry::name::Repository::parse(&text);
}

fn container(bytes: &[u8]) {
    let Some((dir, path)) = file("config.json", bytes) else { return };
    let Ok(config) = runtime::oci::read(&path, 1 << 20) else { return };
    _ = runtime::oci::spec("id", &config, dir.path());
    if let Some(process) = &config.process {
        _ = runtime::oci::seccomp(&config, process);
    }
}

/// A bind, a published port and a tmpfs, a line each.
fn mounts(bytes: &[u8]) {
    use api::model;
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines();
    let binds = lines.next().map(str::to_owned).into_iter().collect();
    let mut port = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let mut next = || port.next().unwrap_or_default();
    let (key, binding) = (next(), model::PortBinding { host_ip: next(), host_port: next() });
    let (target, options) = lines.next().unwrap_or_default().split_once(' ').unwrap_or_default();
    let host = model::HostConfig {
        binds: Some(binds),
        port_bindings: Some([(key, Some(vec![binding]))].into()),
        tmpfs: Some([(target.to_owned(), options.to_owned())].into()),
        ..model::HostConfig::default()
    };
    _ = engine::containers::check(&model::ContainerConfig::default(), &host);
}

/// The same text as a table of mounts and as every file of a group.
fn cgroup(bytes: &[u8]) {
    use sys::cgroup::{Cgroup, Hierarchy};
    _ = Hierarchy::from_mountinfo(&String::from_utf8_lossy(bytes));
    let Ok(dir) = tempfile::tempdir() else { return };
    let group = dir.path().join("group");
    _ = std::fs::create_dir(&group);
    let numbers = ["cpu.stat", "memory.stat", "memory.current", "memory.max", "memory.events"];
    for file in numbers.iter().chain(&["io.stat", "pids.current", "pids.max", "cgroup.procs"]) {
        _ = std::fs::write(group.join(file), bytes);
    }
    let hierarchy = Hierarchy::v2_at(dir.path().to_owned());
    if let Ok(group) = Cgroup::open(&hierarchy, "/group") {
        _ = (group.stats(), group.oom_count(), group.pids());
    }
}

fn token(bytes: &[u8]) {
    use registry::auth::{Actions, Scope, Signer, new_token_key};
    use std::sync::LazyLock;
    static SIGNER: LazyLock<Option<Signer>> =
        LazyLock::new(|| Signer::new(&new_token_key().ok()?, "service").ok());
    let text = String::from_utf8_lossy(bytes);
    let Some(signer) = &*SIGNER else { return };
    assert!(signer.verify(&text, base::Timestamp::ZERO).is_err(), "nobody signed this");
    if let Some(scope) = Scope::parse(&text) {
        _ = scope.within(Actions::ALL);
        // Signed tokens are read whatever they hold.
        let made = signer.issue(&scope.name, vec![scope.clone()], "id", base::Timestamp::ZERO);
        let read = made.ok().map(|t| signer.verify(&t, base::Timestamp::ZERO).map(|c| c.access));
        assert!(
            read.is_none_or(|r| r.is_ok_and(|a| a == [scope])),
            "a token is not read as issued"
        );
    }
}

fn graph(bytes: &[u8]) {
    _ = buildkit::check_definition(bytes);
}

fn compose(bytes: &[u8]) {
    let Some((dir, _)) = file("compose.yaml", bytes) else { return };
    let options = compose::Options { here: dir.path().to_owned(), ..compose::Options::default() };
    if let Ok(project) = compose::Project::load(&options) {
        _ = (project.yaml(), project.json());
        _ = project.hashes(&project.service_names());
    }
}
