//! `compose watch`: what changes in the files goes into the containers, or makes them again.
//!
//! Flow: inotify tells of changes below the watched paths; when nothing more comes for a moment, what was told is
//! grouped by service and done: `rebuild` before everything else, then `sync`, then `restart` and `exec`.
//! Invariant: what `.dockerignore` of the build and `ignore` of a trigger name is never sent.

use super::{
    ANY, Compose, Sub,
    create::Making,
    engine::Engine,
    images::{Override, Say, Wanted},
};
use crate::{
    client::Query,
    error::{Fail, Result},
    flags::{Flag, Given, Kind, Words, flag},
    ignore::Ignore,
};
use api::model::{ContainerSummary, ExecConfig, ExecStart, IdReply};
use compose::{Dependencies, Project, Recreate, Request, Trigger};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

const FLAGS: &[Flag] = &[
    flag("no-up", Kind::Bool, "Do not build & start services before watching"),
    flag("quiet", Kind::Bool, "hide build output"),
];

pub(super) const WATCH: Sub = Sub {
    name: "watch",
    usage: " [OPTIONS] [SERVICE...]",
    about: "Watch build context for service and rebuild/refresh containers when files are updated",
    words: Words::Anywhere,
    count: ANY,
    flags: &[FLAGS],
    run,
};

/// How long it has to be quiet before changes are acted on.
const QUIET_MS: i64 = 200;
/// The most folders watched: the kernel's own bound for a user is 8192 and more.
const MOST_FOLDERS: usize = 50_000;

/// A trigger with what it leaves out.
struct Rule {
    service: String,
    trigger: Trigger,
    root: PathBuf,
    ignore: Ignore,
    include: Option<Ignore>,
    /// The build's own, relative to its context.
    build: Option<(PathBuf, Ignore)>,
}

impl Rule {
    fn of(project: &Project, service: &str, trigger: Trigger) -> Self {
        let include = trigger.include.join("\n");
        let build = project.build(service).filter(|b| Path::new(&b.context).is_dir()).map(|b| {
            let folder = PathBuf::from(&b.context);
            let text = fs::read_to_string(folder.join(".dockerignore")).unwrap_or_default();
            (folder, Ignore::parse(&text))
        });
        Self {
            service: service.to_owned(),
            root: PathBuf::from(&trigger.path),
            ignore: Ignore::parse(&trigger.ignore.join("\n")),
            include: (!trigger.include.is_empty()).then(|| Ignore::parse(&include)),
            build,
            trigger,
        }
    }

    /// The path below what is watched, when the change counts.
    fn takes(&self, path: &Path) -> Option<PathBuf> {
        let rest = path.strip_prefix(&self.root).ok()?;
        let text = rest.to_str()?;
        let name = path.file_name()?.to_str()?;
        // Editors' own files.
        if name.ends_with('~')
            || name.starts_with(".#")
            || name.ends_with(".swp")
            || name.ends_with(".swx")
        {
            return None;
        }
        if self.ignore.ignores(text) || self.include.as_ref().is_some_and(|i| !i.ignores(text)) {
            return None;
        }
        if let Some((folder, ignore)) = &self.build
            && let Some(text) = path.strip_prefix(folder).ok().and_then(Path::to_str)
            && ignore.ignores(text)
        {
            return None;
        }
        Some(rest.to_owned())
    }

    fn target(&self, rest: &Path) -> PathBuf {
        let base = Path::new(&self.trigger.target);
        if rest.as_os_str().is_empty() { base.to_owned() } else { base.join(rest) }
    }
}

/// Folders under watch, by the kernel's numbers for them.
struct Watched {
    fd: OwnedFd,
    folders: BTreeMap<i32, PathBuf>,
}

impl Watched {
    fn new() -> Result<Self> {
        let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
            .map_err(std::io::Error::from)?;
        Ok(Self { fd, folders: BTreeMap::new() })
    }

    /// Watches a folder and all below; of a file, the folder it is in.
    fn add(&mut self, path: &Path, found: &mut BTreeSet<PathBuf>) -> Result<()> {
        if !path.is_dir() {
            return match path.parent() {
                Some(parent) => self.one(parent),
                None => Ok(()),
            };
        }
        self.one(path)?;
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                self.add(&path, found)?;
            } else {
                found.insert(path);
            }
        }
        Ok(())
    }

    fn one(&mut self, folder: &Path) -> Result<()> {
        if self.folders.len() >= MOST_FOLDERS {
            return Err(Fail::new(format!("more than {MOST_FOLDERS} folders to watch")));
        }
        let flags = inotify::WatchFlags::CLOSE_WRITE
            | inotify::WatchFlags::CREATE
            | inotify::WatchFlags::DELETE
            | inotify::WatchFlags::MOVED_FROM
            | inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::ATTRIB;
        match inotify::add_watch(&self.fd, folder, flags) {
            Ok(number) => drop(self.folders.insert(number, folder.to_owned())),
            // It went while we looked.
            Err(rustix::io::Errno::NOENT) => {}
            Err(e) => {
                let why = crate::error::text(&std::io::Error::from(e));
                return Err(Fail::new(format!("cannot watch {}: {why}", folder.display())));
            }
        }
        Ok(())
    }

    /// Waits for changes and then for quiet; gives the paths.
    fn changes(&mut self) -> Result<BTreeSet<PathBuf>> {
        let mut changed = BTreeSet::new();
        loop {
            let wait = Timespec { tv_sec: 0, tv_nsec: QUIET_MS * 1_000_000 };
            let timeout = (!changed.is_empty()).then_some(&wait);
            let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
            match poll(&mut fds, timeout) {
                Ok(0) => return Ok(changed),
                Ok(_) => self.read(&mut changed)?,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(std::io::Error::from(e).into()),
            }
        }
    }

    fn read(&mut self, changed: &mut BTreeSet<PathBuf>) -> Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut told: Vec<(PathBuf, bool)> = Vec::new();
        {
            let mut reader = inotify::Reader::new(&self.fd, &mut buffer);
            loop {
                let event = match reader.next() {
                    Ok(event) => event,
                    Err(rustix::io::Errno::AGAIN) => break,
                    Err(e) => return Err(std::io::Error::from(e).into()),
                };
                let Some(folder) = self.folders.get(&event.wd()) else { continue };
                let Some(name) = event.file_name() else { continue };
                let path = folder.join(name.to_string_lossy().as_ref());
                let folder_made = event.events().contains(inotify::ReadFlags::ISDIR);
                told.push((path, folder_made));
            }
        }
        for (path, is_folder) in told {
            if is_folder && path.is_dir() {
                // What was put into it before it was watched counts too.
                self.add(&path, changed)?;
            }
            changed.insert(path);
        }
        Ok(())
    }
}

fn run(compose: &mut Compose<'_>, given: &Given) -> Result<()> {
    let project = compose.project(&given.words)?;
    let engine = compose.engine()?;
    let building = if given.is("quiet") { Say::Nothing } else { Say::All };
    if !given.is("no-up") {
        let making = making(building, Vec::new(), Recreate::Diverged);
        let made = engine.create(&project, &making)?;
        engine.start(&project, &made)?;
    }
    let names = if given.words.is_empty() { project.service_names() } else { given.words.clone() };
    let mut rules = Vec::new();
    for name in names {
        for trigger in project.triggers(&name) {
            if trigger.action == "rebuild" && !project.builds(&name) {
                return Err(Fail::new(format!(
                    "can't watch service {name:?} with action rebuild without a build context"
                )));
            }
            rules.push(Rule::of(&project, &name, trigger));
        }
    }
    if rules.is_empty() {
        return Err(Fail::new(
            "none of the selected services is configured for watch, consider setting a 'develop' section",
        ));
    }
    let mut watched = Watched::new()?;
    for rule in &rules {
        let mut found = BTreeSet::new();
        watched.add(&rule.root, &mut found)?;
        if rule.trigger.initial_sync && rule.trigger.action.starts_with("sync") {
            let files: Vec<(PathBuf, PathBuf)> = found
                .into_iter()
                .filter_map(|p| rule.takes(&p).map(|rest| (p.clone(), rule.target(&rest))))
                .collect();
            sync(&engine, &running(&engine, &project, &rule.service)?, &files)?;
        }
    }
    writeln!(compose.ui.out, "Watch enabled")?;
    compose.ui.out.flush()?;
    loop {
        let changed = watched.changes()?;
        for (service, work) in sort(&rules, &changed) {
            // A failure is told, and the next change may mend it.
            if let Err(fail) = act(compose, &engine, &project, &service, &work, building) {
                writeln!(compose.ui.err, "WARN: {}", fail.message)?;
            }
        }
    }
}

/// What is to be done for one service.
#[derive(Default)]
struct Work<'a> {
    rebuild: bool,
    restart: bool,
    /// Files here and where they go.
    files: Vec<(PathBuf, PathBuf)>,
    exec: Vec<&'a Trigger>,
}

fn sort<'a>(rules: &'a [Rule], changed: &BTreeSet<PathBuf>) -> BTreeMap<String, Work<'a>> {
    let mut out: BTreeMap<String, Work<'a>> = BTreeMap::new();
    for path in changed {
        for rule in rules {
            let Some(rest) = rule.takes(path) else { continue };
            let work = out.entry(rule.service.clone()).or_default();
            match rule.trigger.action.as_str() {
                "rebuild" => work.rebuild = true,
                "restart" => work.restart = true,
                action => {
                    work.files.push((path.clone(), rule.target(&rest)));
                    work.restart |= action == "sync+restart";
                    if action == "sync+exec" && !work.exec.iter().any(|t| **t == rule.trigger) {
                        work.exec.push(&rule.trigger);
                    }
                }
            }
            break;
        }
    }
    out
}

fn making(building: Say, services: Vec<String>, recreate: Recreate) -> Making {
    Making {
        request: Request { services, recreate, ..Request::default() },
        images: Wanted { build: true, pulling: Say::All, building },
        ignore_orphans: true,
        inherit: true,
        timeout: None,
        yes: false,
    }
}

fn running(engine: &Engine, project: &Project, service: &str) -> Result<Vec<ContainerSummary>> {
    let all = engine.containers(&project.name)?;
    let mine = project.containers_of(service, &all).into_iter();
    Ok(mine.filter(|c| c.state == "running").cloned().collect())
}

fn act(
    compose: &mut Compose<'_>,
    engine: &Engine,
    project: &Project,
    service: &str,
    work: &Work<'_>,
    building: Say,
) -> Result<()> {
    let out = &mut compose.ui.out;
    if work.rebuild {
        writeln!(out, "Rebuilding service {service:?} after changes were detected...")?;
        out.flush()?;
        let one = [service.to_owned()];
        engine.build(project, &one, &Override::default(), building)?;
        let mut only = project.clone();
        only.select(&one, Dependencies::Ignore)?;
        let made = engine.create(&only, &making(building, one.to_vec(), Recreate::Diverged))?;
        engine.start(&only, &made)?;
        writeln!(compose.ui.out, "service {service:?} successfully built")?;
        return Ok(compose.ui.out.flush()?);
    }
    let containers = running(engine, project, service)?;
    if !work.files.is_empty() {
        writeln!(
            out,
            "Syncing service {service:?} after {} changes were detected",
            work.files.len()
        )?;
        out.flush()?;
        sync(engine, &containers, &work.files)?;
    }
    if work.restart {
        writeln!(out, "Restarting service {service:?} after changes were detected...")?;
        out.flush()?;
        engine.each(&containers, |c| {
            engine.client.post(&format!("/containers/{}/restart", c.id), &Query::new())?;
            Ok(())
        })?;
        writeln!(out, "service(s) [{service:?}] restarted")?;
        out.flush()?;
    }
    for trigger in &work.exec {
        engine.each(&containers, |c| engine.hook(service, &c.id, &trigger.exec))?;
    }
    Ok(())
}

/// Sends files that are there, and removes those that are not.
fn sync(
    engine: &Engine,
    containers: &[ContainerSummary],
    files: &[(PathBuf, PathBuf)],
) -> Result<()> {
    let mut tar = tar::Builder::new(Vec::new());
    tar.follow_symlinks(false);
    let mut gone: Vec<String> = Vec::new();
    for (from, to) in files {
        let name = to.strip_prefix("/").unwrap_or(to);
        let added = match fs::symlink_metadata(from) {
            Ok(meta) if meta.is_dir() => tar.append_dir(name, from),
            Ok(_) => tar.append_path_with_name(from, name),
            Err(_) => {
                gone.push(to.to_string_lossy().into_owned());
                continue;
            }
        };
        match added {
            Ok(()) => {}
            // It went between the two looks.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                gone.push(to.to_string_lossy().into_owned());
            }
            Err(e) => return Err(e.into()),
        }
    }
    let bytes = tar.into_inner()?;
    engine.each(containers, |container| {
        if !gone.is_empty() {
            let mut command = vec!["rm".to_owned(), "-rf".to_owned(), "--".to_owned()];
            command.extend(gone.iter().cloned());
            exec(engine, &container.id, command)?;
        }
        super::cp::put(engine, container, "/", &bytes, false)
    })
}

fn exec(engine: &Engine, id: &str, command: Vec<String>) -> Result<()> {
    let config = ExecConfig { cmd: Some(command), user: "0".into(), ..ExecConfig::default() };
    let made: IdReply =
        engine.client.post_json(&format!("/containers/{id}/exec"), &Query::new(), &config)?;
    let start = serde_json::to_vec(&ExecStart::default()).map_err(|e| Fail::new(e.to_string()))?;
    let (mut socket, _) =
        engine.client.hijack(&format!("/exec/{}/start", made.id), &Query::new(), start)?;
    std::io::copy(&mut socket, &mut std::io::sink())?;
    Ok(())
}
