//! The solver: builds the stages that a target needs, independent ones at once, and shows their steps in
//! the order of the file.
//!
//! Flow: [`build`] parses, picks the needed stages and runs each as a [`stage`]; a stage waits for those it
//! names. Each stage writes into its own bounded channel; the channels are drained in order, so a client
//! sees what a sequential builder would print, and a stage far ahead is slowed rather than buffered
//! without bound. The first failure ends all.
//!
//! Invariants: a stage waits only for earlier ones, and output is drained earliest first, so neither can
//! block for ever; a hit is looked for only until the first miss of a stage, as in Docker.

mod cache;
mod files;
mod stage;
mod step;

use crate::{
    args::BuildArgs,
    copy,
    dockerfile::{Dockerfile, Step, instructions::label::Label},
    expand, graph,
    host::{Commit, Host, Image, Layer, Lookup, Workspace as _},
    output::{Message, Output, short},
};
use base::{Error, ImageId, Kind, Platform, Reference, Result, Timestamp};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use image::config::History;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};
use sys::root::Root;
use tokio::sync::{Mutex, mpsc, watch};

/// What a client asks for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Name of the Dockerfile, for messages.
    pub dockerfile: String,
    /// `--build-arg`; a name without value was mentioned without one.
    pub args: BTreeMap<String, Option<String>>,
    /// `--label`
    pub labels: BTreeMap<String, String>,
    /// `--target`: a stage's name or number; the last stage otherwise.
    pub target: Option<String>,
    /// `--platform`
    pub platform: Option<Platform>,
    /// `--no-cache`
    pub no_cache: bool,
    /// `--cache-from`
    pub cache_from: Vec<String>,
    /// `--pull`
    pub pull: bool,
    /// Remove intermediate containers after success.
    pub rm: bool,
    /// Remove them after failure too.
    pub force_rm: bool,
    /// `--squash`
    pub squash: bool,
    /// What `docker_version` of new images says.
    pub version: String,
}

/// What a build started from and ended with.
#[derive(Clone, Debug)]
pub struct Built {
    /// The image.
    pub image: Image,
    /// The image that the target stage starts from, when it is no stage and not scratch.
    pub base: Option<ImageId>,
}

/// A failed build: what clients are told.
#[derive(Debug)]
pub struct Failure {
    /// What went wrong.
    pub error: Error,
    /// Exit code of the command that failed.
    pub code: Option<i64>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, code: None }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error.chain())
    }
}

/// Everything that the stages of one build share.
pub(crate) struct Build<H: Host> {
    pub(crate) host: Arc<H>,
    pub(crate) file: Dockerfile,
    pub(crate) options: Options,
    pub(crate) context: Option<Arc<Root>>,
    /// Arguments as of the first `FROM`.
    pub(crate) args: BuildArgs,
    /// Number of steps that will be shown.
    pub(crate) total: usize,
    /// Images of finished stages.
    stages: Vec<watch::Sender<Option<Image>>>,
    needed: Vec<usize>,
    /// Arguments that any stage declared.
    declared: Mutex<BTreeSet<String>>,
    cache_sources: Vec<Image>,
}

/// Parses `dockerfile` and builds it.
///
/// # Errors
/// Whatever stops the build, with docker's wording.
pub async fn build<H: Host>(
    host: Arc<H>,
    dockerfile: &[u8],
    context: Option<Arc<Root>>,
    options: Options,
    output: &Output,
) -> Result<Built, Failure> {
    let mut file = Dockerfile::parse(&options.dockerfile, dockerfile)?;
    let target = target(&file, options.target.as_deref())?;
    let labels = options.labels.iter().map(|(name, value)| {
        let pair = (name.clone(), value.clone());
        let code = format!("LABEL {name}={value}");
        Step::made(Label { labels: vec![pair], literal: true }, code)
    });
    file.stages[target].steps.extend(labels);
    unique_names(&file)?;
    if !file.warnings.is_empty() {
        output.send(Message::Stderr(format!("{}\n", file.warnings.join("\n")))).await;
    }
    let mut args = BuildArgs::new(options.args.clone());
    let host_platform = Platform::host();
    args.describe(&host_platform, options.platform.as_ref().unwrap_or(&host_platform));
    let declared = globals(&file, &mut args);
    let globals = args.globals();
    let escape = file.escape;
    let needed = graph::needed(&file, target, |name| {
        expand::word(name, escape, &globals[..]).unwrap_or_else(|_| name.to_owned())
    });
    let steps: usize = needed.iter().map(|stage| 1 + file.stages[*stage].steps.len()).sum();
    let total = file.args.len() + steps;
    for (index, step) in file.args.iter().enumerate() {
        output.step(index + 1, total, &step.code).await;
    }
    check_globals(&file)?;
    let cache_sources = cache_sources(&*host, &options, output).await;
    let stages = file.stages.iter().map(|_| watch::Sender::new(None)).collect();
    let build = Build {
        host,
        file,
        options,
        context,
        args,
        total,
        stages,
        needed,
        declared: Mutex::new(declared),
        cache_sources,
    };
    let built = build.run(target, output).await?;
    build.warn_of_unused(output).await;
    let Some(id) = &built.image.id else {
        let why = "No image was generated. Is your Dockerfile empty?";
        return Err(Error::internal(why).into());
    };
    let built = match build.options.squash {
        true => Built {
            image: build.squash(&built.image, id, built.base.as_ref(), output).await?,
            ..built
        },
        false => built,
    };
    Ok(built)
}

/// Tells the client of success: the texts by which every client finds the image, one line per tag.
pub async fn announce(output: &Output, image: &ImageId) {
    output.text(format!("Successfully built {}\n", short(image))).await;
}

/// Tells the client of a tag.
pub async fn announce_tag(output: &Output, tag: &Reference) {
    output.text(format!("Successfully tagged {}\n", tag.familiar())).await;
}

fn target(file: &Dockerfile, name: Option<&str>) -> Result<usize> {
    match name.filter(|n| !n.is_empty()) {
        None => Ok(file.stages.len() - 1),
        Some(name) => file.stage(name).ok_or_else(|| {
            Error::invalid(format!("failed to reach build target {name} in Dockerfile"))
        }),
    }
}

fn unique_names(file: &Dockerfile) -> Result<()> {
    let mut names = BTreeSet::new();
    for name in file.stages.iter().filter_map(|s| s.head.name.as_deref()) {
        if !names.insert(name) {
            return Err(Error::invalid(format!("{name} stage name already used")));
        }
    }
    Ok(())
}

/// Declares the arguments before the first `FROM`; wrong ones are left to [`check_globals`].
fn globals(file: &Dockerfile, args: &mut BuildArgs) -> BTreeSet<String> {
    let mut declared = BTreeSet::new();
    for (name, default) in file.args.iter().flat_map(|s| s.instruction.declares()) {
        let known = args.allowed();
        let value = |text: &str| expand::word(text, file.escape, &known[..]).unwrap_or_default();
        args.declare_global(name, default.as_deref().map(value));
        declared.insert(name.clone());
    }
    declared
}

fn check_globals(file: &Dockerfile) -> Result<()> {
    // Unset variables are no error, so an empty environment finds every malformed word.
    for (_, default) in file.args.iter().flat_map(|s| s.instruction.declares()) {
        if let Some(default) = default {
            expand::word(default, file.escape, &())?;
        }
    }
    Ok(())
}

async fn cache_sources<H: Host>(host: &H, options: &Options, output: &Output) -> Vec<Image> {
    let mut found = Vec::new();
    for name in &options.cache_from {
        let lookup = Lookup { local: true, ..Lookup::default() };
        // A source that is not here is no source: Docker warns in its log only.
        if let Ok(image) = host.image(name, &lookup, output).await {
            found.push(image);
        }
    }
    found
}

impl<H: Host> Build<H> {
    async fn run(&self, target: usize, output: &Output) -> Result<Built, Failure> {
        let mut number = self.file.args.len() + 1;
        let mut running = FuturesUnordered::new();
        let mut drains = Vec::new();
        for &index in &self.needed {
            let (sender, receiver) = mpsc::channel(crate::limits::PENDING_MESSAGES);
            drains.push((index, receiver));
            let first = number;
            number += 1 + self.file.stages[index].steps.len();
            running.push(async move {
                let output = Output::new(sender);
                (index, self.stage(index, first, &output).await)
            });
        }
        let mut base = None;
        let mut failure = None;
        let solve = async {
            while let Some((index, result)) = running.next().await {
                match result {
                    Ok(done) => {
                        if index == target {
                            base = done.base;
                        }
                        self.stages[index].send_replace(Some(done.image));
                    }
                    Err(err) => {
                        failure = Some((index, err));
                        break;
                    }
                }
            }
            // Stages that still run are dropped here, and what they hold goes with them.
            running.clear();
        };
        let shown = std::sync::Mutex::new(0);
        let drain = async {
            for (position, (_, receiver)) in drains.iter_mut().enumerate() {
                *shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = position;
                while let Some(message) = receiver.recv().await {
                    output.send(message).await;
                }
            }
        };
        tokio::join!(solve, drain);
        if let Some((_, failure)) = failure {
            return Err(failure);
        }
        let image = self.stages[target].borrow().clone();
        let image = image.ok_or_else(|| Error::internal("the target stage has no image"))?;
        Ok(Built { image, base })
    }

    /// The image of an earlier stage, when it is done.
    pub(crate) async fn stage_image(&self, index: usize) -> Result<Image> {
        let mut stage = self.stages[index].subscribe();
        let image = stage.wait_for(Option::is_some).await;
        let image = image.ok().and_then(|image| image.clone());
        image.ok_or_else(|| Error::cancelled("the build was stopped"))
    }

    pub(crate) fn is_needed(&self, stage: usize) -> bool {
        self.needed.contains(&stage)
    }

    pub(crate) async fn note_declared(&self, args: &BuildArgs) {
        self.declared.lock().await.extend(args.declared().map(str::to_owned));
    }

    async fn warn_of_unused(&self, output: &Output) {
        let declared = self.declared.lock().await;
        let unused = self.args.unused(&declared);
        if !unused.is_empty() {
            let list = crate::go::list(&unused);
            output
                .text(format!("[Warning] One or more build-args {list} were not consumed\n"))
                .await;
        }
    }

    /// The image with everything above its base in one layer.
    async fn squash(
        &self,
        image: &Image,
        id: &ImageId,
        base: Option<&ImageId>,
        output: &Output,
    ) -> Result<Image> {
        let below = match base {
            Some(base) => {
                let lookup = Lookup { local: true, ..Lookup::default() };
                self.host.image(base.as_str(), &lookup, output).await?
            }
            None => Image::scratch(&image.config.platform()),
        };
        let layer = self.flatten(id, base).await?;
        let mut config = image.config.clone();
        config.rootfs.diff_ids = below.config.rootfs.diff_ids.clone();
        let kept = below.config.history.len();
        for step in config.history.iter_mut().skip(kept) {
            step.empty_layer = true;
        }
        let from = base.map_or(String::new(), ToString::to_string);
        let merged = History {
            created: Some(Timestamp::now()),
            comment: format!("merge {id} to {from}"),
            ..History::default()
        };
        config.push(merged, layer.as_ref().map(|l| l.diff_id.clone()));
        let commit = Commit { parent: base.cloned(), config, layer, layers_of: None, key: None };
        let image = self.host.commit(commit).await?;
        if let Some(id) = &image.id {
            output.send(Message::Aux(id.clone())).await;
        }
        Ok(image)
    }
}

impl<H: Host> Build<H> {
    /// One layer with everything that `image` has above `base`.
    async fn flatten(&self, image: &ImageId, base: Option<&ImageId>) -> Result<Option<Layer>> {
        let top = self.host.view(image).await?;
        let below = match base {
            Some(base) => Some(self.host.view(base).await?),
            None => None,
        };
        let workspace = self.host.workspace(base).await?;
        let empty = self.host.workspace(None).await?;
        let workspace = step::blocking(move || {
            let base = below.as_ref().map_or(empty.root(), |view| &view.root);
            copy::transfer_changes(&top.root, base, workspace.root())?;
            Ok(workspace)
        })
        .await?;
        workspace.commit().await
    }
}

/// Whether an error is one that the client made.
pub fn is_users(error: &Error) -> bool {
    matches!(error.kind(), Kind::Invalid | Kind::NotFound | Kind::Conflict | Kind::Forbidden)
}

#[cfg(test)]
mod tests;
