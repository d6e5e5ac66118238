//! Where a build's files come from: folders of the client, repositories, archives; and the Dockerfile and
//! `.dockerignore` in them.

use super::options::Options;
use crate::{
    failure::Failure,
    graph::{Draft, Node},
    job::Job,
    proto::pb,
    solve::{Out, read, solve},
};
use base::{Error, Kind, Result};
use build::limits;
use engine::build::Repository;
use serde_json::json;
use std::{collections::BTreeMap, io::Read as _, sync::Arc};

/// The context: what operation it is, and what is left out of it.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) place: Place,
    pub(super) ignore: Vec<String>,
}

/// What a context is.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// A folder of the client.
    Local { name: String, session: String },
    /// The output of an operation, complete with its inputs.
    Other(Arc<(Draft, Node)>),
    /// Nothing: there is a Dockerfile only.
    Nothing,
}

/// What a build starts from.
pub(super) struct Loaded {
    /// The vertex that brought the Dockerfile.
    pub(super) vertex: String,
    pub(super) dockerfile: Vec<u8>,
    pub(super) context: Context,
}

/// A source operation.
pub(super) fn source(identifier: impl Into<String>, attrs: &[(&str, String)]) -> pb::Op {
    let attrs: BTreeMap<String, String> =
        attrs.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
    let source = pb::SourceOp { identifier: identifier.into(), attrs };
    pb::Op { op: Some(pb::op::Op::Source(source)), ..pb::Op::default() }
}

/// What clients are shown of an operation.
pub(super) fn named(name: impl Into<String>) -> pb::OpMetadata {
    let description = BTreeMap::from([("llb.customname".to_owned(), name.into())]);
    pb::OpMetadata { description, ..pb::OpMetadata::default() }
}

/// A folder of the client, or those files of it.
pub(super) fn local(name: &str, session: &str, follow: &[String], exclude: &[String]) -> pb::Op {
    let mut attrs =
        vec![("local.session", session.to_owned()), ("local.sharedkeyhint", name.to_owned())];
    if !follow.is_empty() {
        attrs.push(("local.followpaths", json!(follow).to_string()));
    }
    if !exclude.is_empty() {
        attrs.push(("local.excludepatterns", json!(exclude).to_string()));
    }
    source(format!("local://{name}"), &attrs)
}

/// A repository.
pub(super) fn git(remote: &str, keep_git: bool, checksum: Option<&str>) -> Result<pb::Op> {
    Repository::of(remote)?;
    let (url, fragment) = remote.split_once('#').unwrap_or((remote, ""));
    let short = url.split_once("://").map_or(url, |(_, rest)| rest);
    let full =
        if url.starts_with("github.com/") { format!("https://{url}") } else { url.to_owned() };
    let mut attrs = vec![("git.fullurl", full)];
    if keep_git {
        attrs.push(("git.keepgitdir", "true".into()));
    }
    if let Some(checksum) = checksum {
        attrs.push(("git.checksum", checksum.to_owned()));
    }
    Ok(source(format!("git://{short}#{fragment}"), &attrs))
}

/// Whether a place is a repository rather than a file.
pub(super) fn is_git(place: &str) -> bool {
    matches!(Repository::parse(place), Ok(Some(_)))
}

/// An archive or a file from a URL.
pub(super) fn http(url: &str, filename: &str, checksum: Option<&str>) -> pb::Op {
    let mut attrs = Vec::new();
    if !filename.is_empty() {
        attrs.push(("http.filename", filename.to_owned()));
    }
    if let Some(checksum) = checksum {
        attrs.push(("http.checksum", checksum.to_owned()));
    }
    source(url, &attrs)
}

/// Gets Dockerfile and context.
///
/// # Errors
/// When there is no Dockerfile; of the sources.
pub(super) async fn load(job: &Arc<Job>, options: &Options) -> Result<Loaded, Arc<Failure>> {
    if !options.remote.is_empty() {
        return remote(job, options).await;
    }
    let session = |name: &str| {
        let own = job.session.as_ref().map(|s| s.id.clone()).unwrap_or_default();
        options.sessions.get(name).cloned().unwrap_or(own)
    };
    let (folder, filename) = (&options.dockerfile_name, &options.filename);
    let ignore_name = format!("{filename}.dockerignore");
    let follow = [filename.clone(), ignore_name.clone(), filename.to_lowercase()];
    let name = format!("[internal] load build definition from {}", base_name(filename));
    let mut draft = Draft::default();
    let node = draft.add(&local(folder, &session(folder), &follow, &[]), named(name), None);
    let vertex = node.digest.clone();
    let definition = draft.definition(&node);
    let context = options.context_name.clone();
    let mut ignores = Draft::default();
    let wanted = [".dockerignore".to_owned()];
    let node = ignores.add(
        &local(&context, &session(&context), &wanted, &[]),
        named("[internal] load .dockerignore"),
        None,
    );
    let ignores = ignores.definition(&node);
    let (files, ignores) = tokio::join!(solve(job, &definition), solve(job, &ignores));
    let (files, ignores) = (files?, ignores?);
    let own = file(job, files.as_ref(), &ignore_name).await.map_err(failed)?;
    let ignore = match own {
        Some(own) => Some(own),
        None => file(job, ignores.as_ref(), ".dockerignore").await.map_err(failed)?,
    };
    let dockerfile = dockerfile(job, files.as_ref(), filename).await.map_err(failed)?;
    let place = Place::Local { session: session(&context), name: context };
    let context = Context { place, ignore: patterns(ignore.as_deref()) };
    Ok(Loaded { vertex, dockerfile, context })
}

fn failed(error: Error) -> Arc<Failure> {
    Arc::new(error.into())
}

async fn remote(job: &Arc<Job>, options: &Options) -> Result<Loaded, Arc<Failure>> {
    let place = &options.remote;
    let mut draft = Draft::default();
    let node = if is_git(place) {
        let keep = options.args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR").cloned().flatten();
        let keep = keep.is_some_and(|k| matches!(k.as_str(), "1" | "true"));
        let op = git(place, keep, None).map_err(failed)?;
        draft.add(&op, named(format!("[internal] load git source {place}")), None)
    } else if place.starts_with("http://") || place.starts_with("https://") {
        let op = http(place, "context", None);
        let got = draft.add(&op, named("[internal] load remote build context"), None);
        let out = solve(job, &draft.definition(&got)).await?;
        if !is_archive(job, out.as_ref(), "context").await.map_err(failed)? {
            let dockerfile = file(job, out.as_ref(), "context").await.map_err(failed)?;
            return Ok(Loaded {
                vertex: got.digest,
                dockerfile: dockerfile.unwrap_or_default(),
                context: Context { place: Place::Nothing, ignore: Vec::new() },
            });
        }
        let copy = pb::FileActionCopy {
            src: "/context".into(),
            dest: "/".into(),
            mode: -1,
            timestamp: -1,
            attempt_unpack_docker_compatibility: true,
            create_dest_path: true,
            ..pb::FileActionCopy::default()
        };
        let action = pb::FileAction {
            input: -1,
            secondary_input: 0,
            output: 0,
            action: Some(pb::file_action::Action::Copy(copy)),
        };
        let op = pb::Op {
            inputs: vec![got.input()],
            op: Some(pb::op::Op::File(pb::FileOp { actions: vec![action] })),
            ..pb::Op::default()
        };
        draft.add(&op, named("[internal] extract remote build context"), None)
    } else {
        return Err(failed(Error::invalid(format!("the context {place:?} is of no known kind"))));
    };
    let out = solve(job, &draft.definition(&node)).await?;
    let dockerfile = dockerfile(job, out.as_ref(), &options.filename).await.map_err(failed)?;
    let own = format!("{}.dockerignore", options.filename);
    let mut ignore = file(job, out.as_ref(), &own).await.map_err(failed)?;
    if ignore.is_none() {
        ignore = file(job, out.as_ref(), ".dockerignore").await.map_err(failed)?;
    }
    let vertex = node.digest.clone();
    let place = Place::Other(Arc::new((draft, node)));
    let context = Context { place, ignore: patterns(ignore.as_deref()) };
    Ok(Loaded { vertex, dockerfile, context })
}

/// The last part of a path.
pub(super) fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

async fn dockerfile(job: &Job, out: Option<&Out>, name: &str) -> Result<Vec<u8>> {
    let found = match file(job, out, name).await? {
        Some(found) => Some(found),
        None => file(job, out, &name.to_lowercase()).await?,
    };
    match found {
        Some(bytes) => Ok(bytes),
        None => Err(Error::invalid(format!(
            "failed to read dockerfile: open {name}: no such file or directory"
        ))),
    }
}

/// A small file of an output; nothing when it is not there.
pub(super) async fn file(job: &Job, out: Option<&Out>, name: &str) -> Result<Option<Vec<u8>>> {
    let reading = read(job, out).await?;
    let name = name.to_owned();
    crate::solve::blocking(move || {
        let fail = |e: std::io::Error| Error::io(format!("cannot read {name}"), e);
        let file = match reading.root.open_file(&name) {
            Ok(file) => file,
            Err(err) => {
                let err: std::io::Error = err.into();
                return match err.kind() {
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => Ok(None),
                    _ => Err(fail(err)),
                };
            }
        };
        let stat = sys::root::stat_open(&file).map_err(|e| fail(e.into()))?;
        if stat.kind != sys::root::Kind::File {
            return Err(Error::invalid(format!("{name} is not a regular file")));
        }
        let mut bytes = Vec::new();
        file.take(limits::DOCKERFILE_BYTES + 1).read_to_end(&mut bytes).map_err(fail)?;
        match bytes.len() as u64 > limits::DOCKERFILE_BYTES {
            true => Err(Error::new(
                Kind::Invalid,
                format!("{name} is larger than {} bytes", limits::DOCKERFILE_BYTES),
            )),
            false => Ok(Some(bytes)),
        }
    })
    .await
}

async fn is_archive(job: &Job, out: Option<&Out>, name: &str) -> Result<bool> {
    let reading = read(job, out).await?;
    let name = name.to_owned();
    crate::solve::blocking(move || Ok(build::copy::is_archive(&reading.root, name.as_ref()))).await
}

/// The patterns of a `.dockerignore`.
fn patterns(text: Option<&[u8]>) -> Vec<String> {
    let text = String::from_utf8_lossy(text.unwrap_or_default()).into_owned();
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines = text.lines().filter(|l| !l.starts_with('#')).map(str::trim);
    lines.filter(|l| !l.is_empty()).map(straight).collect()
}

/// A pattern as the client's side wants it: clean, without a leading slash.
fn straight(line: &str) -> String {
    let (mark, path) = match line.strip_prefix('!') {
        Some(rest) => ("!", rest.trim()),
        None => ("", line),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|p| *p != "..") => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let path = if parts.is_empty() { ".".to_owned() } else { parts.join("/") };
    format!("{mark}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignore_files_become_patterns() {
        let text = b"# note\n\n/abs/\n./a/../b\n!keep\n ! /x \n*.md\n";
        assert_eq!(patterns(Some(text)), ["abs", "b", "!keep", "!x", "*.md"]);
        assert!(patterns(None).is_empty());
    }
}
