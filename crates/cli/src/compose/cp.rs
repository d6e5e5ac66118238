//! `compose cp`: files from and to containers of services.
//!
//! Rules of `docker cp`: what is copied keeps its name in a folder that is there, and takes the destination's name
//! otherwise; `folder/.` is what the folder holds; `-` is a tar stream.
//! Invariant: what comes out of a container is written below the destination, whatever its names say.

use super::{Compose, Sub, engine::Engine, ps::service_of, run::one_of};
use crate::{
    client::Query,
    error::{Fail, Result},
    flags::{Flag, Given, Kind, Words, flag, short},
    http::Send,
};
use api::model::{ContainerSummary, PathStat};
use base64::Engine as _;
use std::{
    fs,
    io::{self, Read},
    path::{Component, Path, PathBuf},
};

const FLAGS: &[Flag] = &[
    flag("all", Kind::Bool, "Include containers created by the run command"),
    short('a', "archive", Kind::Bool, "Archive mode (copy all uid/gid information)"),
    short('L', "follow-link", Kind::Bool, "Always follow symbol link in SRC_PATH"),
    flag("index", Kind::Int, "Index of the container if service has multiple replicas"),
];

pub(super) const CP: Sub = Sub {
    name: "cp",
    usage: " [OPTIONS] SERVICE:SRC_PATH DEST_PATH|-\n        gantry compose cp [OPTIONS] SRC_PATH|- SERVICE:DEST_PATH",
    about: "Copy files/folders between a service container and the local filesystem",
    words: Words::Anywhere,
    count: (2, 2),
    flags: &[FLAGS],
    run,
};

/// A place in a container.
struct There {
    service: String,
    path: String,
}

fn parse(word: &str) -> Option<There> {
    if word.starts_with(['/', '.']) {
        return None;
    }
    let (service, path) = word.split_once(':')?;
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Some(There { service: service.to_owned(), path })
}

fn run(compose: &mut Compose<'_>, given: &Given) -> Result<()> {
    let (_, project) = compose.project_or_name(&[])?;
    let engine = compose.engine()?;
    let (from, to) = (&given.words[0], &given.words[1]);
    let archive = given.is("archive");
    let follow = given.is("follow-link");
    match (parse(from), parse(to)) {
        (Some(_), Some(_)) => Err(Fail::new("copying between services is not supported")),
        (None, None) => Err(Fail::new("unknown copy direction")),
        (Some(source), None) => {
            let container = one_of(&engine, &project, &source.service, given.int("index"))?;
            download(&engine, &container, &source.path, to, follow)
        }
        (None, Some(target)) => {
            // All of them, unless one is named.
            let containers = match given.int("index") {
                Some(index) => vec![one_of(&engine, &project, &target.service, Some(index))?],
                None => {
                    let mut all = engine.containers(&project)?;
                    all.retain(|c| {
                        service_of(c) == target.service
                            && (given.is("all") || compose::is_regular(c))
                    });
                    all
                }
            };
            if containers.is_empty() {
                return Err(Fail::new(format!(
                    "no container found for service {:?}",
                    target.service
                )));
            }
            if from == "-" {
                let mut bytes = Vec::new();
                io::stdin().lock().read_to_end(&mut bytes)?;
                return engine
                    .each(&containers, |c| put(&engine, c, &target.path, &bytes, archive));
            }
            engine.each(&containers, |c| upload(&engine, c, from, &target.path, (archive, follow)))
        }
    }
}

/// What is at a path in a container; `None` when nothing is.
fn stat(engine: &Engine, container: &ContainerSummary, path: &str) -> Result<Option<PathStat>> {
    let query = Query::new().text("path", path);
    let target = format!("/containers/{}/archive", container.id);
    let answer = match engine.client.send("HEAD", &target, &query, &[], Send::Nothing) {
        Ok(answer) => answer,
        Err(err) if err.is_missing() => return Ok(None),
        Err(err) => return Err(err.into()),
    };
    let header = answer.header("X-Docker-Container-Path-Stat").unwrap_or_default();
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(header)
        .map_err(|e| Fail::new(format!("cannot read the daemon's answer: {e}")))?;
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|e| Fail::new(format!("cannot read the daemon's answer: {e}")))
}

pub(super) fn put(
    engine: &Engine,
    container: &ContainerSummary,
    folder: &str,
    bytes: &[u8],
    archive: bool,
) -> Result<()> {
    let query = Query::new()
        .text("path", folder)
        .text("noOverwriteDirNonDir", "true")
        .flag("copyUIDGID", archive);
    let send = Send::Stream(Box::new(move |out| out.write_all(bytes)), "application/x-tar");
    engine.client.send(
        "PUT",
        &format!("/containers/{}/archive", container.id),
        &query,
        &[],
        send,
    )?;
    Ok(())
}

fn parted(path: &str) -> (String, String) {
    let trimmed = path.trim_end_matches('/');
    match trimmed.rsplit_once('/') {
        Some(("", name)) => ("/".into(), name.to_owned()),
        Some((folder, name)) => (folder.to_owned(), name.to_owned()),
        None => ("/".into(), trimmed.to_owned()),
    }
}

fn upload(
    engine: &Engine,
    container: &ContainerSummary,
    from: &str,
    to: &str,
    (archive, follow): (bool, bool),
) -> Result<()> {
    let source = Path::new(from);
    let fail = |e: io::Error| Fail::new(format!("lstat {from}: {}", crate::error::text(&e)));
    let meta =
        if follow { fs::metadata(source) } else { fs::symlink_metadata(source) }.map_err(fail)?;
    let contents = from.ends_with("/.") || from == ".";
    let into = stat(engine, container, to)?;
    let is_folder = into.as_ref().is_some_and(|s| s.mode & sys::go_mode::DIR != 0);
    if into.is_none() && to.ends_with('/') && !meta.is_dir() {
        return Err(Fail::new(format!("destination {to:?} must be a directory that exists")));
    }
    if meta.is_dir() && into.is_some() && !is_folder {
        return Err(Fail::new("cannot copy directory"));
    }
    let own = || -> Result<String> {
        let full = fs::canonicalize(source).map_err(fail)?;
        Ok(full.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default())
    };
    let (folder, name) = match (is_folder, contents) {
        (true, true) => (to.to_owned(), String::from(".")),
        (true, false) => (
            to.to_owned(),
            source.file_name().map_or_else(own, |n| Ok(n.to_string_lossy().into_owned()))?,
        ),
        (false, _) => parted(to),
    };
    let mut tar = tar::Builder::new(Vec::new());
    tar.follow_symlinks(follow);
    if meta.is_dir() {
        tar.append_dir_all(&name, source).map_err(fail)?;
    } else {
        tar.append_path_with_name(source, &name).map_err(fail)?;
    }
    put(engine, container, &folder, &tar.into_inner()?, archive)
}

fn download(
    engine: &Engine,
    container: &ContainerSummary,
    from: &str,
    to: &str,
    follow: bool,
) -> Result<()> {
    let mut path = from.to_owned();
    if follow
        && let Some(found) = stat(engine, container, from)?
        && !found.link_target.is_empty()
    {
        path = found.link_target;
    }
    let query = Query::new().text("path", &path);
    let mut answer =
        engine.client.get_stream(&format!("/containers/{}/archive", container.id), &query)?;
    if to == "-" {
        io::copy(&mut answer.body, &mut io::stdout())?;
        return Ok(());
    }
    let target = Path::new(to);
    let into = target.is_dir();
    if !into && to.ends_with('/') {
        return Err(Fail::new(format!("destination {to:?} must be a directory that exists")));
    }
    let contents = from.ends_with("/.");
    let (folder, rename): (PathBuf, Option<PathBuf>) = if into {
        (target.to_owned(), None)
    } else {
        let parent =
            target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        (parent.to_owned(), target.file_name().map(PathBuf::from))
    };
    // Where a path of the archive goes; nothing for the root of a folder whose contents are copied.
    let shown = |path: &Path| -> Result<PathBuf> {
        if path.components().any(|c| !matches!(c, Component::Normal(_) | Component::CurDir)) {
            let path = path.display();
            return Err(Fail::new(format!(
                "the archive holds a path that leads out of it: {path}"
            )));
        }
        let mut parts = path.components();
        let first = parts.next();
        let rest = parts.as_path();
        Ok(match (&rename, contents) {
            (Some(name), _) if rest.as_os_str().is_empty() => name.clone(),
            (Some(name), _) => name.join(rest),
            (None, true) => rest.to_owned(),
            (None, false) => match first {
                Some(first) if rest.as_os_str().is_empty() => first.as_os_str().into(),
                Some(first) => Path::new(first.as_os_str()).join(rest),
                None => PathBuf::new(),
            },
        })
    };
    let mut archive = tar::Archive::new(answer.body);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = shown(&entry.path()?)?;
        if name.as_os_str().is_empty() {
            continue;
        }
        let linked = match entry.link_name()? {
            Some(link) if entry.header().entry_type().is_hard_link() => Some(shown(&link)?),
            _ => None,
        };
        write(&mut entry, linked.as_deref(), &folder, &name)?;
    }
    Ok(())
}

/// Refuses names below links that came with the archive.
fn below(folder: &Path, name: &Path) -> Result<PathBuf> {
    let mut above = folder.to_owned();
    for part in name.parent().into_iter().flat_map(Path::components) {
        above.push(part);
        if fs::symlink_metadata(&above).is_ok_and(|m| m.file_type().is_symlink()) {
            return Err(Fail::new(format!(
                "{} is a link that came with the files",
                above.display()
            )));
        }
    }
    Ok(folder.join(name))
}

/// Writes one entry; `linked` is the file that a hard link stands for, which is copied.
fn write(
    entry: &mut tar::Entry<'_, impl Read>,
    linked: Option<&Path>,
    folder: &Path,
    name: &Path,
) -> Result<()> {
    let full = below(folder, name)?;
    if let Some(parent) = full.parent() {
        fs::create_dir_all(parent)?;
    }
    if let Some(linked) = linked {
        let source = below(folder, linked)?;
        if fs::symlink_metadata(&source)?.is_file() {
            fs::copy(source, full)?;
        }
        return Ok(());
    }
    entry.set_preserve_permissions(true);
    entry.unpack(&full)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_containers_are_told_from_ours() {
        assert!(parse("./a:b").is_none() && parse("/a:b").is_none() && parse("a").is_none());
        let there = parse("web:etc/x").unwrap();
        assert_eq!((there.service.as_str(), there.path.as_str()), ("web", "/etc/x"));
        assert_eq!(parted("/a/b/"), ("/a".to_owned(), "b".to_owned()));
        assert_eq!(parted("/a"), ("/".to_owned(), "a".to_owned()));
    }

    #[test]
    fn what_comes_with_links_stays_below() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("out")).unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        tar.append_data(&mut header, "out/gantry-was-here", &b"x"[..]).unwrap();
        let bytes = tar.into_inner().unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        let name = entry.path().unwrap().into_owned();
        assert!(write(&mut entry, None, dir.path(), &name).is_err());
        assert!(!Path::new("/gantry-was-here").exists());
    }
}
