//! Files made, copied and removed in a state: one layer for all actions of an operation that go into one.

use super::{Did, Out, Reading, Run, State, blocking, key::Key, read};
use crate::{explain::List, proto::pb};
use base::{Error, Result};
use build::{
    copy::{Action, Mode, Owner},
    go::clean,
    host::{Host as _, Workspace as _},
};
use engine::build::BuildTree;
use std::{collections::HashMap, path::Path, sync::Arc};
use sys::{
    go_mode,
    root::{Root, Time},
};

/// A tree that actions write into.
struct Open {
    tree: BuildTree,
    below: State,
}

impl Run {
    /// Does the actions.
    pub(super) async fn file(&self, file: &pb::FileOp) -> Result<Did> {
        let outputs = file.actions.iter().map(|a| a.output + 1).max().unwrap_or(0).max(0);
        let outputs = usize::try_from(outputs).unwrap_or_default();
        let mut readings: HashMap<i64, Arc<Reading>> = HashMap::new();
        for action in &file.actions {
            if let Some(pb::file_action::Action::Copy(_)) = &action.action {
                let index = action.secondary_input;
                // What an earlier action made is read when it is there.
                if !readings.contains_key(&index)
                    && usize::try_from(index).is_ok_and(|i| i < self.ins.len())
                {
                    readings.insert(index, Arc::new(read(&self.job, self.input(index)?).await?));
                }
            }
        }
        let key = self.file_key(file, &readings).await?;
        if let Some(outs) = self.recall(&key, outputs).await? {
            return Ok(Did { outs, cached: true });
        }
        let _alone = self.job.site.alone(&key.output(0)).await;
        if let Some(outs) = self.recall(&key, outputs).await? {
            return Ok(Did { outs, cached: true });
        }
        self.start();
        let mut made = vec![(State::scratch(), 0_u64); outputs];
        let parent = self.act_all(file, &mut readings, &mut made).await?;
        self.remember(&key, &made, &parent)?;
        Ok(Did {
            outs: made.into_iter().map(|(state, _)| Out::State(state)).collect(),
            cached: false,
        })
    }

    async fn act_all(
        &self,
        file: &pb::FileOp,
        readings: &mut HashMap<i64, Arc<Reading>>,
        made: &mut [(State, u64)],
    ) -> Result<State> {
        let inputs = i64::try_from(self.ins.len()).unwrap_or(i64::MAX);
        let mut results: HashMap<i64, State> = HashMap::new();
        let mut open: Option<Open> = None;
        let mut parent = State::scratch();
        for (index, action) in file.actions.iter().enumerate() {
            let own = inputs + i64::try_from(index).unwrap_or_default();
            let mut current = match open.take() {
                Some(open) => open,
                None => {
                    let below = match results.get(&action.input) {
                        Some(state) => state.clone(),
                        None => self.state(self.input(action.input)?).await?,
                    };
                    if index == 0 {
                        parent = below.clone();
                    }
                    let tree = self.job.host.workspace(below.image.as_ref()).await?;
                    Open { tree, below }
                }
            };
            let reading = match (&action.action, readings.get(&action.secondary_input)) {
                (Some(pb::file_action::Action::Copy(_)), None) => {
                    match results.get(&action.secondary_input) {
                        Some(state) => {
                            Some(Arc::new(read(&self.job, Some(&Out::State(state.clone()))).await?))
                        }
                        None => Some(Arc::new(read(&self.job, None).await?)),
                    }
                }
                (_, reading) => reading.cloned(),
            };
            current = self.one(action, current, reading).await?;
            let next = file.actions.get(index + 1);
            if action.output < 0 && next.is_some_and(|next| next.input == own) {
                open = Some(current);
                continue;
            }
            let layer = current.tree.commit().await?;
            let (state, size) = self.stacked(&current.below, layer).await?;
            if let Some(slot) = usize::try_from(action.output).ok().and_then(|o| made.get_mut(o)) {
                *slot = (state.clone(), size);
            }
            results.insert(own, state);
        }
        Ok(parent)
    }

    async fn one(
        &self,
        action: &pb::FileAction,
        open: Open,
        reading: Option<Arc<Reading>>,
    ) -> Result<Open> {
        let action = action.clone();
        let host = Arc::clone(&self.job.host);
        blocking(move || {
            let to = open.tree.root();
            let unpack = |archive: std::fs::File, into: &Root| host.unpack(archive, into);
            match action.action {
                Some(pb::file_action::Action::Copy(copy)) => {
                    let reading = reading.ok_or_else(|| Error::internal("a copy has no source"))?;
                    let action = copy_action(&copy, to)?;
                    action.select(&reading.root)?.run(&action, to, &unpack)?;
                }
                Some(pb::file_action::Action::Mkfile(make)) => mkfile(&make, to)?,
                Some(pb::file_action::Action::Mkdir(make)) => mkdir(&make, to)?,
                Some(pb::file_action::Action::Rm(rm)) => remove(&rm, to)?,
                Some(pb::file_action::Action::Symlink(link)) => {
                    let path = clean(&link.newpath);
                    to.symlink(&link.oldpath, &path).map_err(|e| failed(&path, e))?;
                    if let Some(owner) = owner(link.owner.as_ref(), to)? {
                        to.chown(&path, owner.uid, owner.gid).map_err(|e| failed(&path, e))?;
                    }
                    if let Some(time) = time(link.timestamp) {
                        to.set_mtime(&path, time).map_err(|e| failed(&path, e))?;
                    }
                }
                None => return Err(Error::invalid("a file action says nothing to do")),
            }
            Ok(open)
        })
        .await
    }

    async fn file_key(
        &self,
        file: &pb::FileOp,
        readings: &HashMap<i64, Arc<Reading>>,
    ) -> Result<Key> {
        use prost::Message as _;
        let mut key = Key::of("file");
        for (index, out) in self.ins.iter().enumerate() {
            let at = i64::try_from(index).unwrap_or_default();
            let is_base = file.actions.iter().any(|a| a.input == at);
            match out {
                Out::State(state) if is_base => {
                    key.add(format!("input {index}"), &state.chain).from = Some(index);
                }
                Out::Folder(folder) if is_base => {
                    let state = super::layered(&self.job, folder).await?;
                    key.add(format!("input {index}"), &state.chain).from = Some(index);
                }
                _ => {}
            }
        }
        for action in &file.actions {
            let name = match &action.action {
                Some(pb::file_action::Action::Copy(copy)) => {
                    format!("copy {} {}", copy.src, copy.dest)
                }
                _ => "action".to_owned(),
            };
            if let (Some(pb::file_action::Action::Copy(copy)), Some(reading)) =
                (&action.action, readings.get(&action.secondary_input))
            {
                let (copy, reading) = (copy.clone(), Arc::clone(reading));
                let (sum, list) = blocking(move || {
                    let action = selecting(&copy)?;
                    let known = |path: &Path, stat: &sys::root::Stat| reading.known(path, stat);
                    let mut list = List::default();
                    let mut tell = |path: &Path, sum: &[u8; 32]| list.add(shown(path), *sum);
                    let sum = action.select(&reading.root)?.hash_told(&known, &mut tell)?;
                    Ok((sum, list))
                })
                .await
                .map_err(|cause| {
                    Error::new(cause.kind(), "failed to compute cache key").caused_by(cause)
                })?;
                let part = key.add(format!("content of {name}"), base::hex(&sum));
                part.from = usize::try_from(action.secondary_input).ok();
                part.list = Some(Arc::new(list));
            }
            key.add(name, base::hex(&action.encode_to_vec()));
        }
        Ok(key)
    }
}

/// A path in a tree, as lists have it.
pub(super) fn shown(path: &Path) -> String {
    path.strip_prefix("/").unwrap_or(path).to_string_lossy().into_owned()
}

fn failed(path: &str, err: sys::root::Error) -> Error {
    Error::io(format!("cannot write {path}"), err.into())
}

fn time(nanos: i64) -> Option<Time> {
    (nanos >= 0).then(|| Time::from_nanos(nanos))
}

/// The part of a copy that says what is taken.
fn selecting(copy: &pb::FileActionCopy) -> Result<Action> {
    for path in [&copy.src, &copy.dest] {
        if path.contains('\0') {
            return Err(Error::invalid("a path of a copy holds a NUL"));
        }
    }
    Ok(Action {
        src: copy.src.clone(),
        dest: copy.dest.clone(),
        follow: copy.follow_symlink,
        contents: copy.dir_copy_contents,
        unpack: copy.attempt_unpack_docker_compatibility,
        make_parents: copy.create_dest_path,
        wildcard: copy.allow_wildcard,
        empty: copy.allow_empty_wildcard,
        include: copy.include_patterns.clone(),
        exclude: copy.exclude_patterns.clone(),
        replace: copy.always_replace_existing_dest_paths,
        time: time(copy.timestamp),
        ..Action::default()
    })
}

fn copy_action(copy: &pb::FileActionCopy, to: &Root) -> Result<Action> {
    let mode = match (copy.mode_str.as_str(), copy.mode) {
        ("", mode) if mode >= 0 => Some(Mode::Set(go_mode::permissions(mode.unsigned_abs()))),
        ("", _) => None,
        (text, _) => Some(Mode::parse(text)?),
    };
    Ok(Action { owner: owner(copy.owner.as_ref(), to)?, mode, ..selecting(copy)? })
}

fn owner(chown: Option<&pb::ChownOpt>, root: &Root) -> Result<Option<Owner>> {
    let Some(chown) = chown else { return Ok(None) };
    let text = |user: &Option<pb::UserOpt>| match user.as_ref().and_then(|u| u.user.as_ref()) {
        Some(pb::user_opt::User::ByName(named)) => Some(named.name.clone()),
        Some(pb::user_opt::User::ById(id)) => Some(id.to_string()),
        None => None,
    };
    let parsed = match (text(&chown.user), text(&chown.group)) {
        (None, None) => return Ok(None),
        (Some(user), None) => user,
        (None, Some(group)) => format!("0:{group}"),
        (Some(user), Some(group)) => format!("{user}:{group}"),
    };
    Owner::parse(&parsed, root).map(Some)
}

fn mkfile(make: &pb::FileActionMkFile, to: &Root) -> Result<()> {
    use std::io::Write as _;
    let path = clean(&make.path);
    let mode = if make.mode >= 0 { go_mode::permissions(make.mode.unsigned_abs()) } else { 0o644 };
    let owner = owner(make.owner.as_ref(), to)?.unwrap_or(Owner { uid: 0, gid: 0 });
    let mut file = to.create(&path, 0o600).map_err(|e| failed(&path, e))?;
    file.set_len(0)
        .and_then(|()| file.write_all(&make.data))
        .map_err(|e| Error::io(format!("cannot write {path}"), e))?;
    sys::root::chown_open(&file, owner.uid, owner.gid).map_err(|e| failed(&path, e))?;
    sys::root::chmod_open(&file, mode).map_err(|e| failed(&path, e))?;
    match time(make.timestamp) {
        Some(time) => sys::root::set_open_mtime(&file, time).map_err(|e| failed(&path, e)),
        None => Ok(()),
    }
}

fn mkdir(make: &pb::FileActionMkDir, to: &Root) -> Result<()> {
    let path = clean(&make.path);
    let mode = if make.mode >= 0 { go_mode::permissions(make.mode.unsigned_abs()) } else { 0o755 };
    let owner = owner(make.owner.as_ref(), to)?.unwrap_or(Owner { uid: 0, gid: 0 });
    if to.stat(&path).is_ok_and(|s| s.kind == sys::root::Kind::Dir) {
        return Ok(());
    }
    let made = match make.make_parents {
        true => to
            .mkdir_all(&path, 0o755, Some((owner.uid, owner.gid)))
            .map_err(|e| failed(&path, e))?,
        false => {
            to.mkdir(&path, 0o755).map_err(|e| failed(&path, e))?;
            to.chown(&path, owner.uid, owner.gid).map_err(|e| failed(&path, e))?;
            Vec::new()
        }
    };
    to.chmod(&path, mode).map_err(|e| failed(&path, e))?;
    if let Some(time) = time(make.timestamp) {
        for folder in made.iter().map(std::path::PathBuf::as_path).chain([Path::new(&path)]) {
            to.set_mtime(folder, time).map_err(|e| failed(&path, e))?;
        }
    }
    Ok(())
}

fn remove(rm: &pb::FileActionRm, to: &Root) -> Result<()> {
    let path = clean(&rm.path);
    if path == "/" {
        return Err(Error::invalid("the root of a file system cannot be removed"));
    }
    let mut paths = vec![path.clone()];
    if rm.allow_wildcard && path.contains(['*', '?', '[']) {
        paths = build::copy::matching(to, path.trim_start_matches('/'))?;
        if paths.is_empty() && !rm.allow_not_found {
            return Err(Error::not_found(format!("{path}: no such file or directory")));
        }
    }
    for path in paths {
        match to.remove_all(&path) {
            Err(err) if err.is_missing() && rm.allow_not_found => {}
            other => other.map_err(|e| failed(&path, e))?,
        }
    }
    Ok(())
}
