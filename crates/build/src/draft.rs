//! The image that a stage is becoming, as its instructions see and change it, and the work that is left to
//! do after an instruction was applied.

use crate::{
    args::BuildArgs,
    dockerfile::Heredoc,
    expand::{self, Variables},
    go,
};
use base::Result;
use image::{
    config::RunConfig,
    edit::{Change, Editor, set_env, shell},
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

/// `PATH` of an image that has none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A stage in the making.
#[derive(Clone, Debug)]
pub struct Draft {
    /// How containers of the image are run.
    pub config: RunConfig,
    /// `MAINTAINER`.
    pub author: String,
    /// Build arguments.
    pub args: BuildArgs,
    /// Notes for the author of the Dockerfile, printed before the step's result.
    pub notes: Vec<String>,
    editor: Editor,
    escape: char,
    /// Variables that were asked for and are not set.
    missing: Arc<Mutex<BTreeSet<String>>>,
}

/// Variables, with a note of those that are asked for and are not set.
struct Asked<'d> {
    values: Vec<(String, String)>,
    missing: &'d Mutex<BTreeSet<String>>,
}

impl Variables for Asked<'_> {
    fn value(&self, name: &str) -> Option<&str> {
        let found = self.values.value(name);
        if found.is_none() {
            let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
            missing.insert(name.to_owned());
        }
        found
    }
}

/// What is to be done for an instruction, beyond the change of configuration that it made already.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// Nothing; `comment` tells the history.
    Config {
        /// The instruction as applied: `ENV A=1`.
        comment: String,
    },
    /// Make the working folder.
    WorkDir,
    /// Run a command.
    Run(Run),
    /// Copy files.
    Copy(Copy),
}

/// A command to run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    /// Its words, shell included.
    pub command: Vec<String>,
    /// A script to be put at `/dev/pipes/<name>`: a here-document with `#!`.
    pub script: Option<(String, String)>,
    /// `--mount`, each value as written, variables expanded (BuildKit).
    pub mounts: Vec<String>,
    /// `--network` (BuildKit).
    pub network: Option<String>,
    /// `--security` (BuildKit).
    pub security: Option<String>,
    /// `--device`, each (BuildKit).
    pub devices: Vec<String>,
}

/// Files to copy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Copy {
    /// `COPY` or `ADD`.
    pub name: &'static str,
    /// What, in order.
    pub sources: Vec<Source>,
    /// Where to, as written.
    pub dest: String,
    /// Stage or image to copy from, instead of the context.
    pub from: Option<String>,
    /// `user[:group]`.
    pub chown: Option<String>,
    /// Octal mode.
    pub chmod: Option<String>,
    /// Digest that a download must have.
    pub checksum: Option<String>,
    /// `--link`: the files become a layer that stands on nothing (BuildKit).
    pub link: bool,
    /// `--parents`: folders above the sources are kept (BuildKit).
    pub parents: bool,
    /// `--exclude`, each (BuildKit).
    pub exclude: Vec<String>,
    /// `--keep-git-dir` (`ADD` in BuildKit).
    pub keep_git_dir: bool,
    /// `--unpack` (`ADD` in BuildKit): downloads too, or nothing.
    pub unpack: Option<bool>,
}

/// One source of a copy.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A path or pattern.
    Path(String),
    /// A remote file (`ADD` only).
    Url(String),
    /// A here-document.
    Inline {
        /// Its name, which is the file's.
        name: String,
        /// Its content.
        content: String,
    },
}

impl Draft {
    /// The draft of a stage over an image's configuration.
    pub fn new(config: RunConfig, args: BuildArgs, escape: char) -> Self {
        let mut config = config;
        if !config.env.iter().any(|e| e.starts_with("PATH=")) {
            set_env(&mut config.env, "PATH", DEFAULT_PATH);
        }
        for key in ["OpenStdin", "StdinOnce"] {
            config.rest.remove(key);
        }
        Self {
            config,
            author: String::new(),
            args,
            notes: Vec::new(),
            editor: Editor::new(),
            escape,
            missing: Arc::default(),
        }
    }

    /// Takes the names of variables that were asked for and are not set.
    pub fn take_missing(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.missing.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Names of the variables that are set.
    pub fn known(&self) -> Vec<String> {
        self.variables().values.into_iter().map(|(name, _)| name).collect()
    }

    fn variables(&self) -> Asked<'_> {
        let env = self.config.env.iter().map(|e| e.split_once('=').unwrap_or((e, "")));
        let mut all: Vec<_> = env.map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        all.extend(self.args.beside(&self.config.env));
        Asked { values: all, missing: &self.missing }
    }

    /// Expands one word.
    ///
    /// # Errors
    /// `Invalid`, see [`expand::word`].
    pub fn word(&self, text: &str) -> Result<String> {
        expand::word(text, self.escape, &self.variables())
    }

    /// Expands each of several words.
    ///
    /// # Errors
    /// `Invalid`, see [`expand::word`].
    pub fn each(&self, texts: &[String]) -> Result<Vec<String>> {
        let variables = self.variables();
        texts.iter().map(|t| expand::word(t, self.escape, &variables)).collect()
    }

    /// Expands names and values.
    ///
    /// # Errors
    /// `Invalid`, see [`expand::word`].
    pub fn pairs(&self, pairs: &[(String, String)]) -> Result<Vec<(String, String)>> {
        let variables = self.variables();
        let word = |text: &str| expand::word(text, self.escape, &variables);
        pairs.iter().map(|(name, value)| Ok((word(name)?, word(value)?))).collect()
    }

    /// Expands a word that may become several.
    ///
    /// # Errors
    /// `Invalid`, see [`expand::word`].
    pub fn words(&self, text: &str) -> Result<Vec<String>> {
        expand::words(text, self.escape, &self.variables())
    }

    /// The content of a here-document that is copied.
    ///
    /// # Errors
    /// `Invalid`, see [`expand::word`].
    pub fn content(&self, heredoc: &Heredoc) -> Result<String> {
        let content = heredoc.chomped();
        if !heredoc.expand {
            return Ok(content);
        }
        expand::content(&content, self.escape, &self.variables())
    }

    /// Changes the configuration.
    ///
    /// # Errors
    /// `Invalid` with docker's wording; nothing is changed then.
    pub fn edit(&mut self, change: Change) -> Result<()> {
        self.editor.apply(&mut self.config, &change)
    }

    /// The shell of shell forms.
    pub fn shell(&self) -> Vec<String> {
        shell(&self.config)
    }
}

/// `ENV A=1 B=2`: an instruction with pairs as the history shows it.
pub(crate) fn pairs_comment(name: &str, pairs: &[(String, String)]) -> String {
    let shown: Vec<String> = pairs.iter().map(|(n, v)| format!("{n}={v}")).collect();
    format!("{name} {}", shown.join(" "))
}

/// `CMD ["sh" "-c"]`: an instruction with words as the history shows it.
pub(crate) fn words_comment(name: &str, words: &[String]) -> String {
    format!("{name} {}", go::quote_list(words))
}
