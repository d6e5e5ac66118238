//! What is asked of the engine, and what is offered to it, from the command line's options.
//!
//! Source: buildx `build` (options, their defaults and what becomes of them).

use super::{
    receive::Target,
    session::{Offer, Secret},
    wire::control,
};
use crate::{
    error::{Fail, Result, text},
    flags::Given,
    options::{container, values},
};
use base::Digest;
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::{self, IsTerminal as _, Read as _},
    path::{Path, PathBuf},
};

/// A build to be asked for.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) attrs: HashMap<String, String>,
    pub(super) exporters: Vec<control::Exporter>,
    pub(super) cache: control::CacheOptions,
    pub(super) entitlements: Vec<String>,
    pub(super) offer: Offer,
    /// What contexts are kept by on the engine's side.
    pub(super) shared_key: String,
    /// Folders of caches to be finished, with the tag of each.
    pub(super) caches: Vec<(PathBuf, String)>,
    /// The folder of a layout to be finished.
    pub(super) layout: Option<PathBuf>,
    /// What holds files that were written for this build.
    pub(super) scratch: Option<Scratch>,
}

impl Wanted {
    /// Asks the front end something in place of the build: nothing comes of it but an answer.
    pub(super) fn ask(&mut self, request: String) {
        self.attrs.retain(|name, _| !name.starts_with("attest:"));
        self.attrs.insert("requestid".into(), request);
        self.exporters.clear();
        self.cache.exports.clear();
    }
}

/// A folder that goes with this value.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let random = fs::read("/proc/sys/kernel/random/uuid")?;
        let name = format!("gantry-build-{}", String::from_utf8_lossy(&random).trim());
        let path = std::env::temp_dir().join(name);
        std::os::unix::fs::DirBuilderExt::mode(&mut fs::DirBuilder::new(), 0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays of it is in the folder for what is temporary.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Reads the options. `proxies` are arguments of every build; `store` tells whether the engine has a store of images
/// that takes any result.
///
/// # Errors
/// For options that contradict each other or name what is not there.
pub(super) fn wanted(given: &Given, proxies: Vec<(String, String)>, store: bool) -> Result<Wanted> {
    let mut wanted = Wanted::default();
    source(given, &mut wanted)?;
    attributes(given, proxies, &mut wanted)?;
    for text in given.list("secret") {
        let (id, secret) = secret(text)?;
        wanted.offer.secrets.insert(id, secret);
    }
    for text in given.list("ssh") {
        let (id, socket) = agent(text, std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from))?;
        wanted.offer.agents.insert(id, socket);
    }
    contexts(given, &mut wanted)?;
    outputs(given, store, &mut wanted)?;
    caches(given, &mut wanted)?;
    wanted.entitlements = given.list("allow").to_vec();
    Ok(wanted)
}

fn is_remote(place: &str) -> bool {
    let starts = ["http://", "https://", "git://", "ssh://", "git@", "github.com/"];
    starts.iter().any(|s| place.starts_with(s))
}

fn source(given: &Given, wanted: &mut Wanted) -> Result<()> {
    let place = given.words[0].as_str();
    let file = given.text("file").filter(|f| !f.is_empty());
    let mut set = |key: &str, value: &str| drop(wanted.attrs.insert(key.into(), value.into()));
    if is_remote(place) {
        set("context", place);
        if file == Some("-") {
            let folder = written(wanted, &read_all()?)?;
            wanted.offer.folders.insert("dockerfile".into(), folder);
            wanted.attrs.insert("dockerfilekey".into(), "dockerfile".into());
        } else if let Some(file) = file {
            set("filename", file);
        }
        return Ok(());
    }
    if place == "-" {
        if file == Some("-") {
            return Err(Fail::new(
                "invalid argument: can't use stdin for both build context and dockerfile",
            ));
        }
        return from_stdin(file, wanted);
    }
    let fail = |why: String| Fail::new(format!("unable to prepare context: {why}"));
    let folder = fs::canonicalize(place).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => fail(format!("path {place:?} not found")),
        _ => fail(text(&e)),
    })?;
    if !folder.is_dir() {
        return Err(fail(format!("context must be a directory: {}", folder.display())));
    }
    let (own, name) = match file {
        Some("-") => (written(wanted, &read_all()?)?, "Dockerfile".to_owned()),
        Some(path) => {
            let path = Path::new(path);
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
            let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
            let parent = fs::canonicalize(parent.unwrap_or(Path::new("."))).map_err(|e| {
                Fail::new(format!("failed to read dockerfile: {}: {}", path.display(), text(&e)))
            })?;
            (parent, name)
        }
        None => (folder.clone(), "Dockerfile".to_owned()),
    };
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let key = format!("{}:{}", host.trim(), folder.display());
    wanted.shared_key = Digest::sha256(key.as_bytes()).hex().to_owned();
    wanted.attrs.insert("filename".into(), name);
    wanted.offer.folders.insert("context".into(), folder);
    wanted.offer.folders.insert("dockerfile".into(), own);
    Ok(())
}

fn read_all() -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A folder with these bytes as its Dockerfile.
fn written(wanted: &mut Wanted, bytes: &[u8]) -> Result<PathBuf> {
    let scratch = Scratch::new()?;
    let folder = scratch.0.join("dockerfile");
    fs::create_dir(&folder)?;
    fs::write(folder.join("Dockerfile"), bytes)?;
    wanted.scratch = Some(scratch);
    Ok(folder)
}

fn from_stdin(file: Option<&str>, wanted: &mut Wanted) -> Result<()> {
    const BLOCK: usize = 512;
    if io::stdin().is_terminal() {
        return Err(Fail::new("nothing to build: standard input is a terminal"));
    }
    let mut early = Vec::with_capacity(BLOCK);
    io::stdin().lock().take(BLOCK as u64).read_to_end(&mut early)?;
    let packed = [&b"\x1f\x8b"[..], b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
    if early.get(257..262) == Some(b"ustar") || packed.iter().any(|m| early.starts_with(m)) {
        let random = fs::read("/proc/sys/kernel/random/uuid")?;
        let name = Digest::sha256(&random).hex().to_owned();
        wanted.attrs.insert("context".into(), format!("http://buildkit-session/{name}"));
        if let Some(file) = file {
            wanted.attrs.insert("filename".into(), file.to_owned());
        }
        wanted.offer.upload = Some(early);
        return Ok(());
    }
    if file.is_some() {
        return Err(Fail::new(
            "ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles",
        ));
    }
    early.extend(read_all()?);
    let folder = written(wanted, &early)?;
    let empty = folder.with_file_name("context");
    fs::create_dir(&empty)?;
    wanted.attrs.insert("filename".into(), "Dockerfile".into());
    wanted.offer.folders.insert("context".into(), empty);
    wanted.offer.folders.insert("dockerfile".into(), folder);
    Ok(())
}

fn attributes(given: &Given, proxies: Vec<(String, String)>, wanted: &mut Wanted) -> Result<()> {
    let attrs = &mut wanted.attrs;
    let mut set = |key: String, value: String| drop(attrs.insert(key, value));
    for (name, value) in proxies {
        set(format!("build-arg:{name}"), value);
    }
    for argument in given.list("build-arg") {
        match argument.split_once('=') {
            Some((name, value)) => set(format!("build-arg:{name}"), value.to_owned()),
            None => {
                if let Ok(value) = std::env::var(argument) {
                    set(format!("build-arg:{argument}"), value);
                }
            }
        }
    }
    for (name, value) in values::map(given.list("label")) {
        set(format!("label:{name}"), value);
    }
    if let Some(target) = given.text("target").filter(|t| !t.is_empty()) {
        set("target".into(), target.to_owned());
    }
    let platforms: Vec<&str> = given
        .list("platform")
        .iter()
        .flat_map(|p| p.split(','))
        .filter(|p| !p.is_empty())
        .collect();
    if !platforms.is_empty() {
        set("platform".into(), platforms.join(","));
    }
    if given.is("no-cache") {
        set("no-cache".into(), String::new());
    } else if given.has("no-cache-filter") {
        set("no-cache".into(), given.list("no-cache-filter").join(","));
    }
    if given.is("pull") {
        set("image-resolve-mode".into(), "pull".into());
    }
    let hosts = container::extra_hosts(given.list("add-host"))?.unwrap_or_default();
    if !hosts.is_empty() {
        let hosts: Vec<String> = hosts
            .iter()
            .map(|h| h.split_once(':').map_or(h.clone(), |(name, ip)| format!("{name}={ip}")))
            .collect();
        set("add-hosts".into(), hosts.join(","));
    }
    match given.text("network").unwrap_or_default() {
        "" | "default" => {}
        mode => set("force-network-mode".into(), mode.to_owned()),
    }
    if given.has("shm-size") {
        set("shm-size".into(), given.bytes("shm-size").to_string());
    }
    if let Some(parent) = given.text("cgroup-parent").filter(|p| !p.is_empty()) {
        set("cgroup-parent".into(), parent.to_owned());
    }
    let limits: Vec<String> = given
        .list("ulimit")
        .iter()
        .map(|u| values::ulimit(u).map(|l| format!("{}={}:{}", l.name, l.soft, l.hard)))
        .collect::<Result<_>>()?;
    if !limits.is_empty() {
        set("ulimit".into(), limits.join(","));
    }
    attestations(given, wanted)
}

/// `--attest`, and `--provenance` and `--sbom`, which are short for it.
fn attestations(given: &Given, wanted: &mut Wanted) -> Result<()> {
    let mut all: BTreeMap<String, Option<String>> = BTreeMap::new();
    for attest in given.list("attest") {
        let fields = values::csv(attest)?;
        let kind = fields.iter().find_map(|f| f.strip_prefix("type="));
        let kind = kind.ok_or_else(|| Fail::new("attestation type not specified"))?.to_owned();
        let off = fields.iter().any(|f| matches!(f.as_str(), "disabled=true" | "disabled=1"));
        let rest: Vec<&str> = fields
            .iter()
            .map(String::as_str)
            .filter(|f| !f.starts_with("type=") && !f.starts_with("disabled="))
            .collect();
        all.insert(kind, (!off).then(|| rest.join(",")));
    }
    for kind in ["provenance", "sbom"] {
        let Some(value) = given.text(kind) else { continue };
        let value = match value {
            "" | "true" | "1" => Some(String::new()),
            "false" | "0" => None,
            "max" | "min" => Some(format!("mode={value}")),
            other => Some(other.to_owned()),
        };
        all.insert(kind.to_owned(), value);
    }
    let silent = std::env::var("BUILDX_NO_DEFAULT_ATTESTATIONS")
        .is_ok_and(|v| values::boolean(&v).unwrap_or(false));
    if !all.contains_key("provenance") && !silent {
        all.insert("provenance".into(), Some("mode=min,inline-only=true".into()));
    }
    for (kind, value) in all {
        if let Some(value) = value {
            let value =
                if kind == "provenance" && value.is_empty() { "mode=min".into() } else { value };
            wanted.attrs.insert(format!("attest:{kind}"), value);
        }
    }
    Ok(())
}

/// `id=NAME,src=FILE`, `id=NAME,env=VARIABLE`, `id=NAME`.
pub(super) fn secret(given: &str) -> Result<(String, Secret)> {
    let wrong = |why: &str| Fail::new(format!("invalid secret {given:?}: {why}"));
    let (mut id, mut file, mut variable, mut kind) = (None, None, None, String::new());
    for field in values::csv(given)? {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| wrong(&format!("invalid field '{field}' must be a key=value pair")))?;
        let value = value.to_owned();
        match key.to_lowercase().as_str() {
            "type" if matches!(value.as_str(), "file" | "env") => kind = value,
            "type" => return Err(wrong(&format!("unsupported secret type {value:?}"))),
            "id" => id = Some(value),
            "source" | "src" => file = Some(value),
            "env" => variable = Some(value),
            _ => return Err(wrong(&format!("unexpected key '{key}' in '{field}'"))),
        }
    }
    let id = id.filter(|i| !i.is_empty()).ok_or_else(|| wrong("it has no id"))?;
    if kind == "env" && variable.is_none() {
        variable = file.take().or_else(|| Some(id.clone()));
    }
    let secret = match (file, variable) {
        (_, Some(name)) => Secret::Variable(name),
        (Some(path), None) => Secret::File(path.into()),
        (None, None) if kind != "file" && std::env::var_os(&id).is_some() => {
            Secret::Variable(id.clone())
        }
        (None, None) => Secret::File(PathBuf::from(&id)),
    };
    if let Secret::File(path) = &secret
        && let Err(err) = fs::metadata(path)
    {
        return Err(Fail::new(format!("failed to stat {}: {}", path.display(), text(&err))));
    }
    Ok((id, secret))
}

/// `default`, `ID`, `ID=SOCKET`.
pub(super) fn agent(given: &str, own: Option<PathBuf>) -> Result<(String, PathBuf)> {
    let (id, path) = match given.split_once('=') {
        Some((id, path)) => (id.to_owned(), Some(PathBuf::from(path))),
        None => (given.to_owned(), own),
    };
    let path = path.ok_or_else(|| {
        Fail::new(format!(
            "invalid empty ssh agent socket for {id:?}: make sure SSH_AUTH_SOCK is set"
        ))
    })?;
    let meta = fs::metadata(&path).map_err(|e| {
        Fail::new(format!("cannot use the ssh agent at {}: {}", path.display(), text(&e)))
    })?;
    match std::os::unix::fs::FileTypeExt::is_socket(&meta.file_type()) {
        true => Ok((id, path)),
        false => Err(Fail::new(format!(
            "{} is no socket of an ssh agent: add the key to an agent (ssh-add) and name the agent",
            path.display()
        ))),
    }
}

/// `--build-context NAME=PLACE`.
fn contexts(given: &Given, wanted: &mut Wanted) -> Result<()> {
    for context in given.list("build-context") {
        let (name, place) = context.split_once('=').ok_or_else(|| {
            Fail::new(format!("invalid context value: {context}, expected key=value"))
        })?;
        let key = format!("context:{name}");
        if let Some(rest) = place.strip_prefix("oci-layout://") {
            let (folder, digest) = layout(rest)?;
            let store =
                Digest::sha256(folder.as_os_str().as_encoded_bytes()).hex()[..25].to_owned();
            wanted.attrs.insert(key, format!("oci-layout://{store}@{digest}"));
            wanted.offer.stores.insert(format!("oci:{store}"), folder);
        } else if is_remote(place) || place.starts_with("docker-image://") {
            wanted.attrs.insert(key, place.to_owned());
        } else {
            let folder = fs::canonicalize(place).ok().filter(|f| f.is_dir()).ok_or_else(|| {
                Fail::new(format!("failed to find local context {name:?}: {place:?} is no folder"))
            })?;
            wanted.attrs.insert(key, format!("local:{name}"));
            wanted.offer.folders.insert(name.to_owned(), folder);
        }
    }
    Ok(())
}

/// `FOLDER`, `FOLDER:TAG`, `FOLDER@DIGEST`.
fn layout(place: &str) -> Result<(PathBuf, Digest)> {
    if let Some((folder, digest)) = place.rsplit_once('@') {
        return Ok((fs::canonicalize(folder)?, digest.parse()?));
    }
    let (folder, tag) = match place.rsplit_once(':') {
        Some((folder, tag)) if !tag.contains('/') => (folder, tag),
        _ => (place, "latest"),
    };
    let folder = fs::canonicalize(folder)
        .map_err(|e| Fail::new(format!("cannot open the layout {folder}: {}", text(&e))))?;
    let digest = tagged(&folder, tag)?.ok_or_else(|| {
        Fail::new(format!("the layout {} has no image {tag:?}", folder.display()))
    })?;
    Ok((folder, digest))
}

/// The digest that `index.json` of a layout knows by a tag; the only one there is counts for `latest`.
fn tagged(folder: &Path, tag: &str) -> Result<Option<Digest>> {
    let path = folder.join("index.json");
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(err) => {
            return Err(Fail::new(format!("cannot read {}: {}", path.display(), text(&err))));
        }
    };
    let index: serde_json::Value = serde_json::from_slice(&bytes)
        .map_err(|e| Fail::new(format!("cannot read {}: {e}", path.display())))?;
    let all = index["manifests"].as_array().cloned().unwrap_or_default();
    let name = |m: &serde_json::Value| m["annotations"][REF_NAME].as_str().map(str::to_owned);
    let found = all
        .iter()
        .rev()
        .find(|m| name(m).is_some_and(|n| n == tag || n.rsplit(':').next() == Some(tag)))
        .or_else(|| all.first().filter(|_| all.len() == 1 && tag == "latest"));
    found.and_then(|m| m["digest"].as_str()).map(|d| d.parse().map_err(Fail::from)).transpose()
}

/// What an entry of `index.json` is called by.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// `-o`, `--push`, `--load`, `-t`, `--annotation`.
fn outputs(given: &Given, store: bool, wanted: &mut Wanted) -> Result<()> {
    let tags = given.list("tag");
    for tag in tags {
        let parsed: std::result::Result<base::Reference, _> = tag.parse();
        parsed.map_err(|e| Fail::new(format!("invalid tag {tag:?}: {}", e.chain())))?;
    }
    let mut list: Vec<BTreeMap<String, String>> =
        given.list("output").iter().map(|o| output(o)).collect::<Result<_>>()?;
    let has = |list: &[BTreeMap<String, String>], kinds: &[&str]| {
        list.iter().position(|o| kinds.contains(&o["type"].as_str()))
    };
    if given.is("push") {
        match has(&list, &["image", "registry"]) {
            Some(at) => drop(list[at].insert("push".into(), "true".into())),
            None => list.push(output("type=image,push=true")?),
        }
    }
    if given.is("load") && has(&list, &["docker", "image"]).is_none() {
        list.push(output("type=docker")?);
    }
    if list.is_empty() {
        list.push(output("type=image")?);
    }
    for mut attrs in list {
        let mut kind = attrs.remove("type").unwrap_or_default();
        let dest = attrs.remove("dest");
        if matches!(kind.as_str(), "image" | "registry" | "docker" | "oci") {
            if !tags.is_empty() && !attrs.contains_key("name") {
                attrs.insert("name".into(), tags.join(","));
            }
            for annotation in given.list("annotation") {
                annotate(annotation, &mut attrs)?;
            }
        }
        match kind.as_str() {
            "registry" => {
                kind = "image".into();
                attrs.insert("push".into(), "true".into());
            }
            "docker" if dest.is_none() => kind = "image".into(),
            "cacheonly" => continue,
            _ => {}
        }
        if kind == "image" && !store {
            kind = "moby".into();
        }
        let folder = kind == "local" || attrs.get("tar").is_some_and(|t| t == "false");
        let target = match (kind.as_str(), dest) {
            ("image" | "moby", _) => None,
            (_, Some(path)) if folder => Some(Target::Folder(path.into())),
            (_, Some(path)) if path != "-" => Some(Target::File(path.into())),
            (kind, None) if folder => {
                return Err(Fail::new(format!("dest is required for {kind} exporter")));
            }
            (kind, _) if io::stdout().is_terminal() => {
                return Err(Fail::new(format!(
                    "dest file is required for {kind} exporter. refusing to write to console"
                )));
            }
            _ => Some(Target::Stdout),
        };
        match target {
            // Blob by blob, as into a cache.
            Some(Target::Folder(path)) if kind != "local" => {
                if wanted.layout.replace(path.clone()).is_some() {
                    return Err(Fail::new("only one output may have tar=false"));
                }
                wanted.offer.stores.insert("export".into(), path);
            }
            Some(target) => drop(wanted.offer.targets.insert(wanted.exporters.len(), target)),
            None => {}
        }
        wanted
            .exporters
            .push(control::Exporter { r#type: kind, attrs: attrs.into_iter().collect() });
    }
    Ok(())
}

/// `type=KIND,KEY=VALUE,...`, a folder, or `-`.
pub(super) fn output(given: &str) -> Result<BTreeMap<String, String>> {
    let fields = values::csv(given)?;
    let of = |kind: &str, dest: &str| {
        BTreeMap::from([("type".to_owned(), kind.to_owned()), ("dest".to_owned(), dest.to_owned())])
    };
    if let [place] = fields.as_slice()
        && !place.contains('=')
    {
        return Ok(if place == "-" { of("tar", "-") } else { of("local", place) });
    }
    let mut attrs = BTreeMap::new();
    for field in &fields {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| Fail::new(format!("invalid value {field} in output {given:?}")))?;
        attrs.insert(key.trim().to_lowercase(), value.to_owned());
    }
    if let Some(src) = attrs.remove("src") {
        return Err(Fail::new(format!("outputs have no source ({src})")));
    }
    match attrs.get("type").map(String::as_str) {
        None | Some("") => Err(Fail::new("type is required for output")),
        Some("image" | "registry" | "docker" | "oci" | "local" | "tar" | "cacheonly") => Ok(attrs),
        Some(other) => Err(Fail::new(format!("unsupported output type {other:?}"))),
    }
}

/// `[TYPE,...:]KEY=VALUE`, where a type may name a platform: `manifest[linux/amd64]`.
pub(super) fn annotate(given: &str, attrs: &mut BTreeMap<String, String>) -> Result<()> {
    let (key, value) = given
        .split_once('=')
        .ok_or_else(|| Fail::new(format!("invalid annotation {given:?}, expected key=value")))?;
    const KINDS: [&str; 4] = ["manifest", "index", "manifest-descriptor", "index-descriptor"];
    let bare = |kind: &str| kind.split('[').next().unwrap_or_default().to_owned();
    let (kinds, key) = match key.split_once(':') {
        Some((kinds, key)) if kinds.split(',').all(|k| KINDS.contains(&bare(k).as_str())) => {
            (kinds.split(',').map(str::to_owned).collect(), key)
        }
        Some((kinds, _)) => {
            return Err(Fail::new(format!("unknown annotation type in {kinds:?}")));
        }
        None => (vec!["manifest".to_owned()], key),
    };
    for kind in kinds {
        attrs.insert(format!("annotation-{kind}.{key}"), value.to_owned());
    }
    Ok(())
}

/// `--cache-from` and `--cache-to`.
fn caches(given: &Given, wanted: &mut Wanted) -> Result<()> {
    for text in given.list("cache-from") {
        let mut entry = cache(text)?;
        if entry.r#type == "local" {
            let src = entry
                .attrs
                .get("src")
                .cloned()
                .ok_or_else(|| Fail::new(format!("the cache {text:?} has no src")))?;
            if !entry.attrs.contains_key("digest") {
                let tag = entry.attrs.get("tag").map_or("latest", String::as_str);
                // A cache that is not there yet is none.
                let Some(digest) = tagged(Path::new(&src), tag)? else { continue };
                entry.attrs.insert("digest".into(), digest.to_string());
            }
            wanted.offer.stores.insert(format!("local:{src}"), PathBuf::from(src));
        }
        wanted.cache.imports.push(entry);
    }
    for text in given.list("cache-to") {
        let entry = cache(text)?;
        if entry.r#type == "local" {
            let dest = entry
                .attrs
                .get("dest")
                .cloned()
                .ok_or_else(|| Fail::new(format!("the cache {text:?} has no dest")))?;
            let tag = entry.attrs.get("tag").map_or("latest", String::as_str);
            wanted.caches.push((PathBuf::from(&dest), tag.to_owned()));
            wanted.offer.stores.insert(format!("local:{dest}"), PathBuf::from(dest));
        }
        wanted.cache.exports.push(entry);
    }
    Ok(())
}

fn cache(given: &str) -> Result<control::CacheOptionsEntry> {
    let fields = values::csv(given)?;
    if let [name] = fields.as_slice()
        && !name.contains('=')
    {
        let attrs = HashMap::from([("ref".to_owned(), name.clone())]);
        return Ok(control::CacheOptionsEntry { r#type: "registry".into(), attrs });
    }
    let mut attrs = HashMap::new();
    for field in fields {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| Fail::new(format!("invalid value {field} in cache {given:?}")))?;
        attrs.insert(key.to_lowercase(), value.to_owned());
    }
    let kind = attrs.remove("type").filter(|t| !t.is_empty());
    let kind = kind.ok_or_else(|| Fail::new(format!("the cache {given:?} has no type")))?;
    Ok(control::CacheOptionsEntry { r#type: kind, attrs })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_read_as_buildx_reads_them() {
        let out = |text: &str| output(text).unwrap();
        assert_eq!((out("-")["type"].as_str(), out("-")["dest"].as_str()), ("tar", "-"));
        assert_eq!(out("a/b")["type"], "local");
        assert_eq!(out("type=oci,\"dest=a,b\"")["dest"], "a,b");
        for bad in ["dest=x", "type=none", "type=oci,x"] {
            assert!(output(bad).is_err(), "{bad}");
        }
        let mut attrs = BTreeMap::new();
        annotate("index,manifest[linux/amd64]:a=b:c", &mut attrs).unwrap();
        annotate("d=e", &mut attrs).unwrap();
        let want = [
            ("annotation-index.a", "b:c"),
            ("annotation-manifest.d", "e"),
            ("annotation-manifest[linux/amd64].a", "b:c"),
        ];
        let got: Vec<_> = attrs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(got, want);
        assert!(annotate("none:a=b", &mut attrs).is_err());
    }

    #[test]
    fn secrets_and_agents_are_named_or_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        let (id, found) = secret(&format!("id=a,src={path}")).unwrap();
        assert_eq!((id.as_str(), found), ("a", Secret::File(path.into())));
        let named = secret("type=env,id=PATH").unwrap();
        assert_eq!(named, ("PATH".to_owned(), Secret::Variable("PATH".into())));
        assert_eq!(secret("id=PATH").unwrap().1, Secret::Variable("PATH".into()));
        for bad in ["src=x", "id=a,src=/none/such", "id=a,x=y", "id=a,type=z", "id"] {
            assert!(secret(bad).is_err(), "{bad}");
        }
        assert!(agent("default", None).is_err());
        assert!(agent(&format!("default={path}"), None).unwrap_err().message.contains("no socket"));
    }
}
