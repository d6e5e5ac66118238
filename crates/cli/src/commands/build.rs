//! `build`: makes an image, by BuildKit's protocol; by the classic builder where the engine has no other, or
//! where an option is asked for that only that one knows.

use crate::{
    buildkit,
    client::Query,
    command::{Command, Count},
    context::Context,
    credentials,
    error::{Fail, Result, text},
    flags::{Flag, Given, Kind, Words, flag, short},
    http::{Produce, Send},
    options::{container, values},
    progress::{Show, messages},
    ui::Ui,
};
use flate2::{Compression, write::GzEncoder};
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

const FLAGS: &[Flag] = &[
    flag("add-host", Kind::List, "Add a custom host-to-IP mapping (\"host:ip\")"),
    flag(
        "allow",
        Kind::Strings,
        "Allow extra privileged entitlement (\"network.host\", \"security.insecure\")",
    ),
    flag("annotation", Kind::List, "Add annotation to the image"),
    flag("attest", Kind::List, "Attestation parameters (format: \"type=sbom,generator=image\")"),
    flag("build-arg", Kind::List, "Set build-time variables"),
    flag("build-context", Kind::List, "Additional build contexts (e.g., name=path)"),
    flag(
        "cache-from",
        Kind::List,
        "External cache sources (e.g., \"user/app:cache\", \"type=local,src=path/to/dir\")",
    ),
    flag(
        "cache-to",
        Kind::List,
        "Cache export destinations (e.g., \"user/app:cache\", \"type=local,dest=path/to/dir\")",
    ),
    flag(
        "call",
        Kind::Text,
        "Ask the Dockerfile instead of building it (\"check\", \"outline\", \"targets\")",
    ),
    flag(
        "cgroup-parent",
        Kind::Text,
        "Set the parent cgroup for the \"RUN\" instructions during build",
    ),
    flag("check", Kind::Bool, "Shorthand for \"--call=check\""),
    flag("compress", Kind::Bool, "Compress the build context using gzip"),
    flag("cpu-period", Kind::Int, "Limit the CPU CFS (Completely Fair Scheduler) period"),
    flag("cpu-quota", Kind::Int, "Limit the CPU CFS (Completely Fair Scheduler) quota"),
    short('c', "cpu-shares", Kind::Int, "CPU shares (relative weight)"),
    flag("cpuset-cpus", Kind::Text, "CPUs in which to allow execution (0-3, 0,1)"),
    flag("cpuset-mems", Kind::Text, "MEMs in which to allow execution (0-3, 0,1)"),
    flag("disable-content-trust", Kind::Bool, "Skip image verification (default true)"),
    short('f', "file", Kind::Text, "Name of the Dockerfile (Default is \"PATH/Dockerfile\")"),
    flag("force-rm", Kind::Bool, "Always remove intermediate containers"),
    flag("iidfile", Kind::Text, "Write the image ID to the file"),
    flag("isolation", Kind::Text, "Container isolation technology"),
    flag("label", Kind::List, "Set metadata for an image"),
    flag("load", Kind::Bool, "Shorthand for \"--output=type=docker\""),
    short('m', "memory", Kind::Bytes, "Memory limit"),
    flag(
        "memory-swap",
        Kind::SwapBytes,
        "Swap limit equal to memory plus swap: -1 to enable unlimited swap",
    ),
    flag("metadata-file", Kind::Text, "Write build result metadata to a file"),
    flag(
        "network",
        Kind::Text,
        "Set the networking mode for the RUN instructions during build (default \"default\")",
    ),
    flag("no-cache", Kind::Bool, "Do not use cache when building the image"),
    flag("no-cache-filter", Kind::Strings, "Do not cache specified stages"),
    short('o', "output", Kind::List, "Output destination (format: \"type=local,dest=path\")"),
    flag("platform", Kind::List, "Set target platform for build"),
    flag(
        "progress",
        Kind::Text,
        "Set type of progress output (\"auto\", \"none\", \"plain\", \"quiet\", \"rawjson\", \"tty\")",
    ),
    flag("provenance", Kind::Text, "Shorthand for \"--attest=type=provenance\""),
    flag("push", Kind::Bool, "Shorthand for \"--output=type=registry,unpack=false\""),
    flag("pull", Kind::Bool, "Always attempt to pull a newer version of the image"),
    short('q', "quiet", Kind::Bool, "Suppress the build output and print image ID on success"),
    flag(
        "rm",
        Kind::Bool,
        "Remove intermediate containers after a successful build (default true)",
    ),
    flag("sbom", Kind::Text, "Shorthand for \"--attest=type=sbom\""),
    flag(
        "secret",
        Kind::List,
        "Secret to expose to the build (format: \"id=mysecret[,src=/local/secret]\")",
    ),
    flag("security-opt", Kind::Strings, "Security options"),
    flag(
        "ssh",
        Kind::List,
        "SSH agent socket to expose to the build (format: \"default|<id>[=<socket>]\")",
    ),
    flag("shm-size", Kind::Bytes, "Size of \"/dev/shm\""),
    flag("squash", Kind::Bool, "Squash newly built layers into a single new layer"),
    short('t', "tag", Kind::List, "Name and optionally a tag in the \"name:tag\" format"),
    flag("target", Kind::Text, "Set the target build stage to build."),
    flag("ulimit", Kind::Named("ulimit"), "Ulimit options (default [])"),
];

pub(crate) const BUILD: Command = Command {
    names: &["build", "image build", "builder build"],
    usage: "PATH | URL | -",
    about: "Build an image from a Dockerfile",
    count: Count::Exactly(1),
    words: Words::Anywhere,
    flags: &[FLAGS],
    run,
};

/// What only the classic builder knows.
const CLASSIC: &[&str] = &[
    "cpu-period",
    "cpu-quota",
    "cpu-shares",
    "cpuset-cpus",
    "cpuset-mems",
    "isolation",
    "memory",
    "memory-swap",
    "security-opt",
    "squash",
];

/// What it does not know.
const NEWER: &[&str] = &[
    "allow",
    "annotation",
    "attest",
    "build-context",
    "cache-to",
    "call",
    "check",
    "load",
    "metadata-file",
    "no-cache-filter",
    "output",
    "provenance",
    "push",
    "sbom",
    "secret",
    "ssh",
];

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let off = |v: String| values::boolean(&v) == Ok(false);
    let classic = CLASSIC.iter().find(|name| given.has(name));
    let newer = NEWER.iter().find(|name| given.has(name));
    let refused = std::env::var("DOCKER_BUILDKIT").is_ok_and(off);
    match (classic, newer) {
        (Some(classic), Some(newer)) => Err(Fail::new(format!(
            "--{classic} is of the classic builder alone, which has no --{newer}"
        ))),
        (None, Some(newer)) if refused => {
            Err(Fail::new(format!("--{newer} needs BuildKit, which DOCKER_BUILDKIT=0 forbids")))
        }
        (None, _) if !refused => match (buildkit::build(ui, given)?, newer) {
            (true, _) => Ok(()),
            (false, None) => build_classic(ui, given),
            (false, Some(newer)) => {
                Err(Fail::new(format!("--{newer} needs BuildKit, which the engine does not speak")))
            }
        },
        _ => build_classic(ui, given),
    }
}

fn build_classic(ui: &mut Ui, given: &Given) -> Result<()> {
    let quiet = given.is("quiet");
    let source = source(given)?;
    let query = query(ui, given, &source)?;
    let headers = credentials::all(&ui.config);
    let compress = given.is("compress");
    let sent = std::sync::atomic::AtomicU64::new(0);
    let send = match &source.bytes {
        Bytes::None => Send::Nothing,
        bytes => {
            let sent = &sent;
            let produce: Produce<'_> = Box::new(move |out| {
                let mut out = Counted { out, sent };
                if compress {
                    let mut packed = GzEncoder::new(&mut out, Compression::fast());
                    bytes.write(&mut packed)?;
                    return packed.finish()?.flush();
                }
                bytes.write(&mut out)
            });
            Send::Stream(produce, "application/x-tar")
        }
    };
    let answer = ui.client()?.send("POST", "/build", &query, &headers, send)?;
    if !quiet && !matches!(source.bytes, Bytes::None) {
        let size = sent.load(std::sync::atomic::Ordering::Relaxed);
        let size = base::units::human_size(size as f64);
        // compat(docker 28): its progress line ends like this even in a file.
        write!(ui.out, "Sending build context to Docker daemon  {size}\r\r\n")?;
    }
    let mut id = String::new();
    messages(ui, answer.body, Show::All, |aux| {
        if let Some(text) = aux.get("ID").and_then(|v| v.as_str()) {
            text.clone_into(&mut id);
        }
    })?;
    match given.text("iidfile") {
        Some(_) if id.is_empty() => {
            Err(Fail::new("server did not provide an image ID. Cannot write iidfile"))
        }
        Some(path) => Ok(fs::write(path, id)?),
        None => Ok(()),
    }
}

/// What is sent, and the Dockerfile's name in it.
struct Source {
    bytes: Bytes,
    dockerfile: String,
    remote: String,
}

enum Bytes {
    None,
    Folder(Context),
    /// What was read of standard input already, then the rest of it.
    Archive(Vec<u8>),
    /// A Dockerfile alone.
    Dockerfile(Vec<u8>),
}

impl Bytes {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::None => Ok(()),
            Self::Folder(context) => context.write(out),
            Self::Archive(early) => {
                out.write_all(early)?;
                io::copy(&mut io::stdin().lock(), out).map(drop)
            }
            Self::Dockerfile(text) => {
                let mut tar = tar::Builder::new(out);
                let mut header = tar::Header::new_gnu();
                header.set_mode(0o600);
                header.set_size(text.len() as u64);
                tar.append_data(&mut header, "Dockerfile", text.as_slice())?;
                tar.finish()
            }
        }
    }
}

/// Counts what goes through.
struct Counted<'a> {
    out: &'a mut dyn Write,
    sent: &'a std::sync::atomic::AtomicU64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.sent.fetch_add(n as u64, std::sync::atomic::Ordering::Relaxed);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn source(given: &Given) -> Result<Source> {
    let place = given.words[0].as_str();
    let file = given.text("file").filter(|f| !f.is_empty());
    if place == "-" {
        if file == Some("-") {
            return Err(Fail::new(
                "invalid argument: can't use stdin for both build context and dockerfile",
            ));
        }
        return from_stdin(file);
    }
    if place.starts_with("http://") || place.starts_with("https://") {
        return Ok(Source {
            bytes: Bytes::None,
            dockerfile: file.unwrap_or_default().to_owned(),
            remote: place.to_owned(),
        });
    }
    if place.starts_with("git://") || place.starts_with("git@") || place.starts_with("github.com/")
    {
        return Err(Fail::new(format!(
            "unable to prepare context: {place:?}: git contexts are not supported yet, clone it first"
        )));
    }
    from_folder(place, file)
}

fn from_stdin(file: Option<&str>) -> Result<Source> {
    const BLOCK: usize = 512;
    let mut early = vec![0; BLOCK];
    let mut held = 0;
    while held < BLOCK {
        match io::stdin().lock().read(&mut early[held..])? {
            0 => break,
            n => held += n,
        }
    }
    early.truncate(held);
    let packed = [&b"\x1f\x8b"[..], b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
    let archive =
        early.get(257..262) == Some(b"ustar") || packed.iter().any(|m| early.starts_with(m));
    let bytes = if archive {
        Bytes::Archive(early)
    } else {
        if file.is_some() {
            return Err(Fail::new(
                "ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles",
            ));
        }
        io::stdin().lock().read_to_end(&mut early)?;
        Bytes::Dockerfile(early)
    };
    let dockerfile = file.unwrap_or("Dockerfile").to_owned();
    Ok(Source { bytes, dockerfile, remote: String::new() })
}

fn from_folder(place: &str, file: Option<&str>) -> Result<Source> {
    let fail = |why: String| Fail::new(format!("unable to prepare context: {why}"));
    let folder = fs::canonicalize(place).map_err(|e| {
        if e.kind() == io::ErrorKind::NotFound {
            fail(format!("path {place:?} not found"))
        } else {
            fail(text(&e))
        }
    })?;
    if !folder.is_dir() {
        return Err(fail(format!("context must be a directory: {}", folder.display())));
    }
    let mut extra = Vec::new();
    let dockerfile = match file {
        None => {
            // compat(docker 28): a `dockerfile` in lower case does too.
            let lower = !folder.join("Dockerfile").exists() && folder.join("dockerfile").exists();
            let name = if lower { "dockerfile" } else { "Dockerfile" };
            if !folder.join(name).exists() {
                return Err(fail(format!(
                    "unable to evaluate symlinks in Dockerfile path: lstat {}: no such file or directory",
                    folder.join(name).display()
                )));
            }
            name.to_owned()
        }
        Some("-") => {
            let mut bytes = Vec::new();
            io::stdin().lock().read_to_end(&mut bytes)?;
            from_elsewhere(&mut extra, bytes)
        }
        Some(path) => {
            let full = fs::canonicalize(path).map_err(|e| {
                fail(format!(
                    "unable to evaluate symlinks in Dockerfile path: lstat {path}: {}",
                    text(&e)
                ))
            })?;
            match inside(&folder, path, &full) {
                Some(name) => name,
                None => from_elsewhere(&mut extra, fs::read(&full)?),
            }
        }
    };
    let mut context = Context::of_folder(&folder, &dockerfile)?;
    context.extra = extra;
    Ok(Source { bytes: Bytes::Folder(context), dockerfile, remote: String::new() })
}

/// The name of a Dockerfile within the context.
fn inside(folder: &Path, given: &str, full: &Path) -> Option<String> {
    // The name as given, where it lies within; it may be a link to another.
    let parent = Path::new(given).parent().filter(|p| !p.as_os_str().is_empty());
    let parent = fs::canonicalize(parent.unwrap_or(Path::new("."))).ok()?;
    let named: PathBuf = parent.join(Path::new(given).file_name()?);
    let within = named.strip_prefix(folder).or_else(|_| full.strip_prefix(folder)).ok()?;
    within.to_str().map(str::to_owned)
}

/// A Dockerfile that is not in the context goes in under a name that nothing else has.
fn from_elsewhere(extra: &mut Vec<(String, Vec<u8>)>, bytes: Vec<u8>) -> String {
    let name = format!(".dockerfile.{:x}", std::process::id());
    extra.push((name.clone(), bytes));
    name
}

fn query(ui: &Ui, given: &Given, source: &Source) -> Result<Query> {
    let ulimits: Vec<_> =
        given.list("ulimit").iter().map(|u| values::ulimit(u)).collect::<Result<_>>()?;
    let hosts = container::extra_hosts(given.list("add-host"))?.unwrap_or_default();
    let mut query = Query::new()
        .text("version", "1")
        .list("t", given.list("tag"))
        .list("securityopt", given.list("security-opt"))
        .list("extrahosts", &hosts)
        .flag("q", given.is("quiet"))
        .flag("nocache", given.is("no-cache"))
        .text("rm", if given.is_or("rm", true) { "1" } else { "0" })
        .flag("forcerm", given.is("force-rm"))
        .flag("pull", given.is("pull"))
        .flag("squash", given.is("squash"))
        .text("isolation", &given.text_or_empty("isolation"))
        .text("cpusetcpus", &given.text_or_empty("cpuset-cpus"))
        .text("cpusetmems", &given.text_or_empty("cpuset-mems"))
        .text("networkmode", given.text("network").unwrap_or("default"))
        .int("cpushares", given.int("cpu-shares"))
        .int("cpuquota", given.int("cpu-quota"))
        .int("cpuperiod", given.int("cpu-period"))
        .int("memory", Some(given.bytes("memory")).filter(|n| *n != 0))
        .int("memswap", Some(given.bytes("memory-swap")).filter(|n| *n != 0))
        .int("shmsize", Some(given.bytes("shm-size")).filter(|n| *n != 0))
        .text("cgroupparent", &given.text_or_empty("cgroup-parent"))
        .text("dockerfile", &source.dockerfile)
        .text("remote", &source.remote)
        .text("target", &given.text_or_empty("target"))
        .text("platform", &given.text_or_empty("platform").to_lowercase());
    if !ulimits.is_empty() {
        query = query.json("ulimits", &ulimits);
    }
    let arguments = arguments(ui, given);
    if !arguments.is_empty() {
        query = query.json("buildargs", &arguments);
    }
    if given.has("label") {
        query = query.json("labels", &values::map(given.list("label")));
    }
    if given.has("cache-from") {
        let images: Vec<&str> =
            given.list("cache-from").iter().flat_map(|images| images.split(',')).collect();
        query = query.json("cachefrom", &images);
    }
    Ok(query)
}

/// `--build-arg`; a name alone takes our own value, null when we have none.
fn arguments(ui: &Ui, given: &Given) -> BTreeMap<String, Option<String>> {
    let proxies = ui.config.proxy_environment(&ui.endpoint.to_string());
    let mut all: BTreeMap<String, Option<String>> =
        proxies.into_iter().map(|(name, value)| (name, Some(value))).collect();
    for text in given.list("build-arg") {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text.as_str(), std::env::var(text).ok()),
        };
        all.insert(name.to_owned(), value);
    }
    all
}
