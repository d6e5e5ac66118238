//! `COPY` and `ADD` in LLB.

use super::{
    context::{self, base_name, named},
    lower::{Lowering, Stage, file_op},
};
use crate::{graph::Node, proto::pb};
use base::{Error, Result};
use build::{
    dockerfile::Step,
    draft::{Copy, Source},
};

impl Lowering<'_> {
    pub(super) fn copy_step(
        &mut self,
        stage: &mut Stage,
        step: &Step,
        copy: Copy,
        lines: (usize, usize),
    ) -> Result<()> {
        let dest = destination(&stage.draft.config.working_dir, &copy.dest);
        if copy.sources.len() > 1 && !dest.ends_with('/') {
            return Err(Error::invalid(format!(
                "When using {} with more than one source file, the destination must be a directory and end with a /",
                copy.name
            )));
        }
        if copy.sources.is_empty() {
            return Err(Error::invalid("no source files were specified"));
        }
        let meta = self.meta(stage, step);
        let from = match &copy.from {
            Some(from) => Some(self.other(stage, from, lines).map_err(|cause| {
                Error::new(cause.kind(), format!("failed to resolve --from={from}"))
                    .caused_by(cause)
            })?),
            None => None,
        };
        let base = if copy.link { None } else { stage.node.clone() };
        let mut others: Vec<Node> = Vec::new();
        let mut actions = Vec::new();
        let mut shown = Vec::new();
        for source in &copy.sources {
            let (node, action) = self.source(stage, &copy, source, from.as_ref(), &dest, lines)?;
            shown.push(match source {
                Source::Path(path) | Source::Url(path) => path.clone(),
                Source::Inline { name, .. } => format!("<<{name}"),
            });
            let place = match node {
                None => -1,
                Some(node) => {
                    let at = others.iter().position(|n| *n == node).unwrap_or_else(|| {
                        others.push(node);
                        others.len() - 1
                    });
                    i64::try_from(at + usize::from(base.is_some())).unwrap_or_default()
                }
            };
            actions.push((place, pb::file_action::Action::Copy(action)));
        }
        let op = file_op(base.as_ref(), others, actions, &stage.platform);
        let mut node = self.graph.add(&op, meta, Some(lines));
        if let (true, Some(below)) = (copy.link, &stage.node) {
            let inputs = vec![pb::MergeInput { input: 0 }, pb::MergeInput { input: 1 }];
            let op = pb::Op {
                inputs: vec![below.input(), node.input()],
                op: Some(pb::op::Op::Merge(pb::MergeOp { inputs })),
                ..pb::Op::default()
            };
            let name = format!("LINK {}", step.code.split('\n').next().unwrap_or_default());
            node = self.graph.add(&op, named(name), Some(lines));
        }
        stage.node = Some(node);
        let mut flags = String::new();
        for (name, value) in [("chown", &copy.chown), ("chmod", &copy.chmod)] {
            if let Some(value) = value {
                flags.push_str(&format!("--{name}={value} "));
            }
        }
        let comment = format!("{} {flags}{} {} # buildkit", copy.name, shown.join(" "), copy.dest);
        self.history(stage, comment, false);
        Ok(())
    }

    /// One source: the state that it is in, and how it is copied.
    fn source(
        &mut self,
        stage: &Stage,
        copy: &Copy,
        source: &Source,
        from: Option<&Option<Node>>,
        dest: &str,
        lines: (usize, usize),
    ) -> Result<(Option<Node>, pb::FileActionCopy)> {
        let action = self.action(copy, dest)?;
        match source {
            Source::Inline { name, content } => {
                let make = pb::FileActionMkFile {
                    path: format!("/{name}"),
                    mode: 0o644,
                    data: content.clone().into_bytes(),
                    owner: None,
                    timestamp: self.timestamp(),
                };
                let make = pb::file_action::Action::Mkfile(make);
                let op = file_op(None, Vec::new(), vec![(-1, make)], &stage.platform);
                let meta = named(format!("preparing inline document {name}"));
                let node = self.graph.add(&op, meta, Some(lines));
                Ok((Some(node), pb::FileActionCopy { src: format!("/{name}"), ..action }))
            }
            Source::Url(url) if context::is_git(url) => self.add_git(copy, url, action, lines),
            Source::Path(path) if copy.name == "ADD" && context::is_git(path) => {
                self.add_git(copy, path, action, lines)
            }
            Source::Url(url) => {
                let path = url.split(['?', '#']).next().unwrap_or_default();
                let name = path.split_once("://").map_or("", |(_, rest)| rest);
                let name = name.split_once('/').map_or("", |(_, path)| base_name(path));
                if name.is_empty() && dest.ends_with('/') {
                    return Err(Error::invalid(format!(
                        "cannot determine filename for source {url}"
                    )));
                }
                let name = if name.is_empty() { "download" } else { name };
                let op = context::http(url, name, copy.checksum.as_deref());
                let node = self.graph.add(
                    &op,
                    named(format!("https://{}", url.split_once("://").map_or("", |u| u.1))),
                    Some(lines),
                );
                let action = pb::FileActionCopy {
                    src: format!("/{name}"),
                    attempt_unpack_docker_compatibility: copy.unpack == Some(true),
                    ..action
                };
                Ok((Some(node), action))
            }
            Source::Path(path) => {
                if copy.checksum.is_some() {
                    return Err(Error::invalid(
                        "checksum can't be specified for non-HTTP(S) & non-Git sources",
                    ));
                }
                let mut action = pb::FileActionCopy {
                    attempt_unpack_docker_compatibility: copy.name == "ADD"
                        && copy.unpack != Some(false),
                    ..action
                };
                if copy.parents {
                    let (pivot, rest) = path.split_once("/./").unwrap_or(("", path));
                    let rest = rest.trim_start_matches("./").trim_matches('/');
                    action.src = absolute(pivot);
                    action.include_patterns = vec![rest.to_owned()];
                    action.allow_wildcard = false;
                    if rest.is_empty() {
                        action.include_patterns.clear();
                    }
                } else {
                    action.src = absolute(path);
                }
                let node = match from {
                    Some(from) => from.clone(),
                    None => Some(self.context_node(path)?),
                };
                Ok((node, action))
            }
        }
    }

    fn add_git(
        &mut self,
        copy: &Copy,
        remote: &str,
        action: pb::FileActionCopy,
        lines: (usize, usize),
    ) -> Result<(Option<Node>, pb::FileActionCopy)> {
        let op = context::git(remote, copy.keep_git_dir, copy.checksum.as_deref())?;
        let node = self.graph.add(&op, named(remote.to_owned()), Some(lines));
        Ok((Some(node), pb::FileActionCopy { src: "/".into(), ..action }))
    }

    fn action(&self, copy: &Copy, dest: &str) -> Result<pb::FileActionCopy> {
        if let Some(mode) = &copy.chmod {
            build::copy::Mode::parse(mode)?;
        }
        Ok(pb::FileActionCopy {
            dest: dest.to_owned(),
            // What comes from another image keeps its owner, what comes from outside is root's.
            owner: match (&copy.chown, &copy.from) {
                (Some(chown), _) => Some(owner(chown)?),
                (None, Some(_)) => None,
                (None, None) => Some(owner("0:0")?),
            },
            mode: -1,
            mode_str: copy.chmod.clone().unwrap_or_default(),
            follow_symlink: true,
            dir_copy_contents: true,
            create_dest_path: true,
            allow_wildcard: true,
            allow_empty_wildcard: true,
            timestamp: self.timestamp(),
            exclude_patterns: copy
                .exclude
                .iter()
                .map(|e| e.trim_start_matches('/').to_owned())
                .collect(),
            ..pb::FileActionCopy::default()
        })
    }
}

fn absolute(path: &str) -> String {
    let path = path.trim_start_matches("./").trim_start_matches('/');
    format!("/{}", if path == "." { "" } else { path })
}

/// Where copies go: an absolute path, with a slash at its end when it must be a folder.
fn destination(working_dir: &str, dest: &str) -> String {
    let folder = dest.ends_with('/') || dest == "." || dest.ends_with("/.");
    let joined = image::edit::join(if working_dir.is_empty() { "/" } else { working_dir }, dest);
    match folder && !joined.ends_with('/') {
        true => format!("{joined}/"),
        false => joined,
    }
}

/// `user[:group]`; a user alone stands for the group of that name or number too.
fn owner(text: &str) -> Result<pb::ChownOpt> {
    let (user, group) = match text.split(':').collect::<Vec<_>>()[..] {
        [user] => (user, user),
        [user, group] => (user, group),
        _ => return Err(Error::invalid(format!("invalid chown string format: {text}"))),
    };
    let option = |text: &str| {
        let user = match text.parse() {
            Ok(id) => pb::user_opt::User::ById(id),
            Err(_) => {
                pb::user_opt::User::ByName(pb::NamedUserOpt { name: text.to_owned(), input: 0 })
            }
        };
        Some(pb::UserOpt { user: Some(user) })
    };
    Ok(pb::ChownOpt { user: option(user), group: option(group) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_absolute_and_keep_their_slash() {
        for (folder, dest, want) in [
            ("", "x", "/x"),
            ("/w", "x/", "/w/x/"),
            ("/w", ".", "/w/"),
            ("/w", "/a/b", "/a/b"),
            ("/w", "./", "/w/"),
            ("", "/", "/"),
        ] {
            assert_eq!(destination(folder, dest), want, "{folder} {dest}");
        }
    }
}
