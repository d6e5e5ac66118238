//! Contexts from Git repositories: `git://`, `git@`, `github.com/`, `http(s)://....git`, each with
//! `#ref:folder`.
//!
//! The repository comes from outside, so nothing of it may act: no hooks, no filters, no submodules, no
//! protocol but those named; names that look like options are refused; the folder is resolved inside the
//! checked-out tree.

use base::{Error, Result};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use sys::root::Root;

/// Protocols that Git may speak.
const PROTOCOLS: &str = "http:https:ssh:git";

/// A repository, what to take of it, and where in it the context is.
#[derive(Debug, PartialEq, Eq)]
pub struct Repository {
    url: String,
    reference: String,
    folder: String,
}

impl Repository {
    /// Reads a remote context; nothing when it is no repository.
    ///
    /// # Errors
    /// `Invalid` for names that look like options.
    pub fn parse(remote: &str) -> Result<Option<Self>> {
        let (place, fragment) = remote.split_once('#').unwrap_or((remote, ""));
        let web = place.starts_with("http://") || place.starts_with("https://");
        let short = place.starts_with("github.com/");
        let own = ["git://", "ssh://", "git@"].iter().any(|scheme| place.starts_with(scheme));
        if !(own || short || (web && place.ends_with(".git"))) {
            return Ok(None);
        }
        let (reference, folder) = fragment.split_once(':').unwrap_or((fragment, ""));
        let url = if short { format!("https://{place}") } else { place.to_owned() };
        for (what, text) in [("reference", reference), ("repository", url.as_str())] {
            if text.starts_with('-') || text.contains(|c: char| c.is_control()) {
                return Err(Error::invalid(format!("invalid Git {what}: {text:?}")));
            }
        }
        if Path::new(folder).components().any(|c| c == std::path::Component::ParentDir) {
            return Err(Error::invalid(format!(
                "invalid folder in the Git repository: {folder:?}"
            )));
        }
        let reference = if reference.is_empty() { "HEAD".into() } else { reference.to_owned() };
        Ok(Some(Self { url, reference, folder: folder.to_owned() }))
    }

    /// Reads what is known to be a repository.
    ///
    /// # Errors
    /// As [`Repository::parse`], and for what is none.
    pub fn of(remote: &str) -> Result<Self> {
        let place = remote.split('#').next().unwrap_or_default();
        let web = place.starts_with("http://") || place.starts_with("https://");
        if web && !place.ends_with(".git") {
            let (url, fragment) = remote.split_once('#').unwrap_or((remote, ""));
            let mut parsed = Self::of(&format!("{url}.git#{fragment}"))?;
            parsed.url = url.to_owned();
            return Ok(parsed);
        }
        Self::parse(remote)?
            .ok_or_else(|| Error::invalid(format!("{place:?} is no Git repository")))
    }

    /// Fetches and checks out into `into`, and gives the context. Blocks.
    ///
    /// # Errors
    /// `NotImplemented` when there is no `git`; `Invalid` when it fails.
    pub fn check_out(&self, into: &Path) -> Result<Root> {
        self.check_out_as(into, false)
    }

    /// The commit that is checked out in `folder`. Blocks.
    ///
    /// # Errors
    /// Of the disk.
    pub fn commit_of(folder: &Path) -> Result<String> {
        let path = folder.with_extension("commit");
        std::fs::read_to_string(&path)
            .map(|text| text.trim().to_owned())
            .map_err(|e| Error::io("cannot read which commit was checked out", e))
    }

    /// As [`Repository::check_out`]; `.git` may stay. Blocks.
    ///
    /// # Errors
    /// As [`Repository::check_out`].
    pub fn check_out_as(&self, into: &Path, keep_git: bool) -> Result<Root> {
        std::fs::create_dir_all(into)
            .map_err(|e| Error::io("cannot make the context's folder", e))?;
        git(into, &["init", "--quiet", "--template=", "."])?;
        git(
            into,
            &["fetch", "--quiet", "--depth=1", "--no-tags", "--", &self.url, &self.reference],
        )?;
        git(into, &["checkout", "--quiet", "--force", "FETCH_HEAD", "--"])?;
        let open = |path: PathBuf| {
            Root::open(&path).map_err(|e| Error::io("cannot open the context's folder", e.into()))
        };
        let whole = open(into.to_owned())?;
        let head = into.join(".git/HEAD");
        std::fs::copy(&head, into.with_extension("commit"))
            .map_err(|e| Error::io("cannot read which commit was checked out", e))?;
        if !keep_git {
            whole.remove_all(".git").map_err(|e| Error::io("cannot leave out .git", e.into()))?;
        }
        if self.folder.is_empty() {
            return Ok(whole);
        }
        whole.subroot(&self.folder).map_err(|e| {
            Error::invalid(format!("error setting git context, no such folder {:?}", self.folder))
                .caused_by(std::io::Error::from(e))
        })
    }
}

fn git(dir: &Path, words: &[&str]) -> Result<()> {
    let settings = [
        "core.hooksPath=/dev/null",
        "core.fsmonitor=false",
        "core.symlinks=true",
        "protocol.file.allow=never",
        "submodule.recurse=false",
    ];
    let mut command = Command::new("git");
    command.current_dir(dir).stdin(Stdio::null()).env_clear();
    command.envs(std::env::vars_os().filter(|(name, _)| {
        matches!(
            name.to_str(),
            Some(
                "PATH"
                    | "HTTP_PROXY"
                    | "HTTPS_PROXY"
                    | "NO_PROXY"
                    | "http_proxy"
                    | "https_proxy"
                    | "no_proxy"
            )
        )
    }));
    command
        .env("GIT_ALLOW_PROTOCOL", PROTOCOLS)
        .env("GIT_PROTOCOL_FROM_USER", "0")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_ATTR_NOSYSTEM", "1")
        .env("GIT_LFS_SKIP_SMUDGE", "1")
        .env("HOME", "/nonexistent");
    settings.iter().for_each(|setting| {
        command.args(["-c", setting]);
    });
    let done = command.args(words).output().map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Error::not_implemented(
            "unable to build from a Git repository: there is no git on this machine; install git, or send the context",
        ),
        _ => Error::io("cannot run git", e),
    })?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    let said: String = said.chars().take(2000).collect();
    Err(Error::invalid(format!("failed to {} the Git repository: {}", words[0], said.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(remote: &str) -> Option<(String, String, String)> {
        Repository::parse(remote).unwrap().map(|r| (r.url, r.reference, r.folder))
    }

    #[test]
    fn repositories_are_told_from_other_places() {
        let of = |url: &str, reference: &str, folder: &str| {
            Some((url.to_owned(), reference.to_owned(), folder.to_owned()))
        };
        assert_eq!(
            parsed("https://h/x.git#main:sub/dir"),
            of("https://h/x.git", "main", "sub/dir")
        );
        assert_eq!(parsed("git@h:x.git"), of("git@h:x.git", "HEAD", ""));
        assert_eq!(parsed("github.com/a/b#:d"), of("https://github.com/a/b", "HEAD", "d"));
        assert_eq!(parsed("https://h/x.tar.gz"), None);
        assert_eq!(parsed("file:///x.git"), None);
        assert_eq!(parsed("ext::sh -c x"), None);
    }

    #[test]
    fn options_and_ways_out_are_refused() {
        for bad in [
            "https://h/x.git#--upload-pack=x",
            "https://h/x.git#a:../..",
            "git://h/x.git#a\n",
            "https://h/x.git#:a/../../b",
        ] {
            assert!(Repository::parse(bad).is_err(), "{bad}");
        }
    }
}
