//! From a Dockerfile to LLB: stages become chains of operations, and the configuration of the image is
//! worked out on the way.
//!
//! Invariants: pure; what it needs to know of images was asked before ([`Images`]). The same Dockerfile,
//! options and images give the same definition.

use super::{
    context::{self, Context, Place, named, source},
    options::{NoCache, Options},
};
use crate::{
    failure::{Failure, Place as Lines},
    graph::{Draft as Graph, Node},
    proto::{self, pb},
};
use base::{Error, Platform, Reference, Result, Timestamp};
use build::{
    args::BuildArgs,
    dockerfile::{Dialect, Dockerfile, Step},
    draft::{Draft, Work},
    expand, graph,
    lint::{self, Warning},
};
use image::{ImageConfig, config::History};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// Instructions that make a layer, and so are counted.
const COUNTED: [&str; 4] = ["RUN", "COPY", "ADD", "WORKDIR"];
/// What history entries are marked with.
const COMMENT: &str = "buildkit.dockerfile.v0";
/// Stages of one Dockerfile.
const STAGES: usize = 2_000;

/// What is known of images, by name and platform.
pub(super) type Images = HashMap<(String, String), Arc<ImageConfig>>;

/// A Dockerfile being turned into LLB for one platform.
pub(super) struct Lowering<'l> {
    pub(super) options: &'l Options,
    pub(super) file: &'l Dockerfile,
    pub(super) context: &'l Context,
    pub(super) images: &'l Images,
    pub(super) args: BuildArgs,
    /// The platform that is built for.
    pub(super) platform: Platform,
    /// Paths of the context that are needed; all when empty.
    pub(super) follow: Vec<String>,
    pub(super) graph: Graph,
    /// Paths of the context that were asked for.
    pub(super) asked: BTreeSet<String>,
    /// Variables that are used and not set, images of another platform: where, and what it may mean.
    warnings: Vec<Warning>,
    /// The time of everything that is made; else each layer says when it was.
    time: Option<Timestamp>,
    info: pb::SourceInfo,
    stages: Vec<Option<Stage>>,
}

/// A stage.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    /// Its state; nothing is an empty one.
    pub(super) node: Option<Node>,
    pub(super) image: ImageConfig,
    pub(super) draft: Draft,
    pub(super) platform: Platform,
    pub(super) index: usize,
    below: Option<Below>,
    label: String,
    number: usize,
    total: usize,
}

/// What a build came to before anything was done.
pub(super) struct Lowered {
    pub(super) definition: Option<pb::Definition>,
    pub(super) image: ImageConfig,
    /// Arguments that stages declared.
    pub(super) declared: BTreeSet<String>,
    /// The image that it stands on.
    pub(super) below: Option<Below>,
    /// Variables that are used and not set, and images of another platform.
    pub(super) warnings: Vec<Warning>,
}

/// An image that a stage stands on.
#[derive(Clone, Debug)]
pub(super) struct Below {
    /// Its whole name; none when it is in a layout of the client.
    pub(super) name: Option<String>,
    pub(super) config: Arc<ImageConfig>,
}

/// Where a stage starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Base {
    Scratch,
    Stage(usize),
    /// A named context and its place.
    Context(String, String),
    Image(String),
}

impl<'l> Lowering<'l> {
    pub(super) fn new(
        options: &'l Options,
        file: &'l Dockerfile,
        context: &'l Context,
        images: &'l Images,
        platform: &Platform,
        info: &pb::SourceInfo,
    ) -> Self {
        let time = options.epoch.map(|epoch| Timestamp::from_unix(epoch, 0));
        Self {
            options,
            file,
            context,
            images,
            args: globals(options, file, platform),
            platform: platform.clone(),
            follow: Vec::new(),
            graph: Graph::of(info.clone()),
            asked: BTreeSet::new(),
            warnings: Vec::new(),
            time,
            info: info.clone(),
            stages: file.stages.iter().map(|_| None).collect(),
        }
    }

    /// The place in the file of the stage that is wanted.
    pub(super) fn target(&self) -> Result<usize> {
        if self.file.stages.len() > STAGES {
            return Err(Error::invalid(format!("the Dockerfile has more than {STAGES} stages")));
        }
        match self.options.target.as_str() {
            "" => Ok(self.file.stages.len() - 1),
            name => self.file.stage(name).ok_or_else(|| {
                Error::invalid(format!(
                    "target stage {} could not be found",
                    build::go::quote(name)
                ))
            }),
        }
    }

    /// The stages that the wanted one needs, itself last.
    pub(super) fn needed(&self, target: usize) -> Vec<usize> {
        let globals = self.args.globals();
        graph::needed(self.file, target, |name| {
            expand::word(name, self.file.escape, &globals[..]).unwrap_or_else(|_| name.to_owned())
        })
    }

    /// Where the stage at `index` starts, and for which platform.
    pub(super) fn base(&self, index: usize) -> Result<(Base, Platform)> {
        let head = &self.file.stages[index].head;
        let globals = self.args.globals();
        let word = |text: &str| expand::word(text, self.file.escape, &globals[..]);
        let platform = match &head.platform {
            None => self.platform.clone(),
            Some(text) => {
                let text = word(text).map_err(|cause| {
                    Error::invalid("failed to process arguments for platform").caused_by(cause)
                })?;
                text.parse().map(Platform::short).map_err(|cause: Error| {
                    Error::invalid(format!("failed to parse platform {text}")).caused_by(cause)
                })?
            }
        };
        let name = word(&head.base)?;
        if name.is_empty() {
            return Err(Error::invalid(format!("base name ({}) should not be blank", head.base)));
        }
        Ok((self.origin(&name, index, false), platform))
    }

    /// What `name` means in the stage at `index`; a number names a stage only where `numbers` says so.
    pub(super) fn origin(&self, name: &str, index: usize, numbers: bool) -> Base {
        let stage = match numbers {
            true => graph::earlier(self.file, name, index),
            false => graph::named(self.file, name, index),
        };
        let exact = format!("{name}::{}", self.platform);
        let contexts = &self.options.contexts;
        let context = contexts
            .get_key_value(&exact)
            .or_else(|| contexts.iter().find(|(key, _)| same_name(key, name)));
        match (context, stage) {
            (Some((_, place)), _) => Base::Context(name.to_owned(), place.clone()),
            (None, Some(stage)) => Base::Stage(stage),
            (None, None) if name == "scratch" => Base::Scratch,
            (None, None) => Base::Image(name.to_owned()),
        }
    }

    /// Lowers the stage `target` and all that it needs.
    pub(super) fn run(
        mut self,
        target: usize,
        needed: &[usize],
    ) -> Result<(Lowered, BTreeSet<String>), Failure> {
        for index in needed {
            self.stage(*index)?;
        }
        let stage = self.stages[target].take();
        let mut stage = stage.ok_or_else(|| Error::internal("the target stage is missing"))?;
        let mut declared: BTreeSet<String> = self.args.declared().map(str::to_owned).collect();
        for other in self.stages.iter().flatten().chain([&stage]) {
            declared.extend(other.draft.args.declared().map(str::to_owned));
        }
        for (name, value) in &self.options.labels {
            stage.draft.config.labels.insert(name.clone(), value.clone());
        }
        let mut image = stage.image;
        image.config = stage.draft.config;
        image.config.rest.remove("Image");
        image.created = self.time;
        if !stage.draft.author.is_empty() {
            image.author = stage.draft.author;
        }
        image.architecture.clone_from(&stage.platform.architecture);
        image.os.clone_from(&stage.platform.os);
        image.variant.clone_from(&stage.platform.variant);
        image.rootfs.kind = "layers".into();
        image.rootfs.diff_ids = Vec::new();
        for key in ["container", "container_config", "parent", "id"] {
            image.rest.remove(key);
        }
        image.docker_version = String::new();
        image.comment = String::new();
        let definition = stage.node.as_ref().map(|node| self.graph.definition(node));
        let (below, warnings) = (stage.below, self.warnings);
        Ok((Lowered { definition, image, declared, below, warnings }, self.asked))
    }

    /// Lowers one stage, once.
    fn stage(&mut self, index: usize) -> Result<(), Failure> {
        if self.stages[index].is_some() {
            return Ok(());
        }
        let file = self.file;
        let source = &file.stages[index];
        let lines = (*source.lines.start(), *source.lines.end());
        let (base, platform) = self.base(index).map_err(|e| self.at(e, lines))?;
        let counted = source.steps.iter().filter(|s| is_counted(&s.code)).count();
        let label = match (&source.head.name, file.stages.len()) {
            (Some(name), _) => format!("{name} "),
            (None, 1) => String::new(),
            (None, _) => format!("stage-{index} "),
        };
        let mut stage = Stage {
            node: None,
            image: ImageConfig::scratch(&platform),
            draft: Draft::new(image::RunConfig::default(), self.args.stage(), file.escape),
            platform,
            index,
            below: None,
            label,
            number: 1,
            total: counted + 1,
        };
        self.start(&mut stage, base, lines).map_err(|e| self.at(e, lines))?;
        let triggers = std::mem::take(&mut stage.draft.config.on_build);
        for trigger in &triggers {
            let step = Step::parse_trigger(trigger, file.escape, Dialect::BuildKit)
                .map_err(|e| self.at(e, lines))?;
            if is_counted(&step.code) {
                stage.total += 1;
            }
            self.step(&mut stage, &step, lines).map_err(|e| self.at(e, lines))?;
        }
        for step in &source.steps {
            let lines = (*step.lines.start(), *step.lines.end());
            self.step(&mut stage, step, lines).map_err(|e| self.at(e, lines))?;
        }
        self.stages[index] = Some(stage);
        Ok(())
    }

    fn at(&self, error: Error, lines: (usize, usize)) -> Failure {
        let position = |line: usize| {
            Some(pb::Position { line: i32::try_from(line).unwrap_or_default(), character: 0 })
        };
        if lines.0 == 0 {
            return error.into();
        }
        let range = pb::Range { start: position(lines.0), end: position(lines.1) };
        Failure::at(error, Lines { info: self.info.clone(), ranges: vec![range] })
    }

    /// Gives a stage what it starts from.
    fn start(&mut self, stage: &mut Stage, base: Base, lines: (usize, usize)) -> Result<()> {
        match base {
            Base::Scratch => return Ok(()),
            Base::Stage(index) => {
                let from = self.stages.get(index).and_then(Option::as_ref);
                let from = from.ok_or_else(|| Error::internal("a stage is lowered too early"))?;
                stage.node.clone_from(&from.node);
                stage.image = from.image.clone();
                let args = stage.draft.args.clone();
                stage.draft = Draft::new(from.draft.config.clone(), args, self.file.escape);
                stage.draft.author.clone_from(&from.draft.author);
                stage.platform = from.platform.clone();
                stage.below.clone_from(&from.below);
                return Ok(());
            }
            Base::Context(name, place) if place.starts_with("input:") => {
                stage.node = self.input(&name, &place)?;
                if let Some(config) = self.options.input_configs.get(&place["input:".len()..]) {
                    self.configure(stage, config.clone());
                }
            }
            Base::Context(name, place) if place.starts_with(LAYOUT) => {
                let key = (place.clone(), stage.platform.to_string());
                let config = self.images.get(&key).map(Arc::clone);
                let config = config.ok_or_else(|| {
                    Error::internal(format!("nothing is known of the image {place}"))
                })?;
                stage.node = Some(self.layout(&name, &place, &stage.platform.clone(), lines)?);
                stage.below = Some(Below { name: None, config: Arc::clone(&config) });
                self.configure(stage, ImageConfig::clone(&config));
            }
            Base::Context(name, place) => match place.strip_prefix("docker-image://") {
                Some(image) => self.start_image(stage, image, lines)?,
                None => {
                    let op = self.named_context(&name, &place, &[])?;
                    let meta = named(format!("[context {name}] load from client"));
                    stage.node = Some(self.graph.add(&op, meta, Some(lines)));
                }
            },
            Base::Image(name) => self.start_image(stage, &name, lines)?,
        }
        Ok(())
    }

    fn start_image(&mut self, stage: &mut Stage, name: &str, lines: (usize, usize)) -> Result<()> {
        let key = (name.to_owned(), stage.platform.to_string());
        let image = self
            .images
            .get(&key)
            .ok_or_else(|| Error::internal(format!("nothing is known of the image {name}")))?;
        let full = full_name(name)?;
        stage.below = Some(Below { name: Some(full.clone()), config: Arc::clone(image) });
        let meta = named(format!("[{}1/{}] FROM {full}", stage.label, stage.total));
        let op = image_op(&full, &stage.platform, self.options.pull);
        stage.node = Some(self.graph.add(&op, meta, Some(lines)));
        let config = ImageConfig::clone(image);
        self.note_platform(name, &config.platform(), &stage.platform, lines);
        self.configure(stage, config);
        Ok(())
    }

    /// Warns of an image that is for another platform than the stage.
    fn note_platform(
        &mut self,
        name: &str,
        found: &Platform,
        wanted: &Platform,
        lines: (usize, usize),
    ) {
        let found = found.clone().short();
        if (&found.os, &found.architecture) == (&wanted.os, &wanted.architecture) {
            return;
        }
        let detail = format!(
            "Base image {name} was pulled with platform \"{found}\", expected \"{wanted}\" for current build"
        );
        let rule = &lint::BASE_PLATFORM;
        self.warnings.push(Warning { rule, detail, lines: lines.0..=lines.1 });
    }

    /// Lets a stage stand on an image with this config.
    fn configure(&self, stage: &mut Stage, image: ImageConfig) {
        let args = stage.draft.args.clone();
        stage.draft = Draft::new(image.config.clone(), args, self.file.escape);
        stage.draft.config.rest.remove("Image");
        stage.image = image;
        stage.image.rootfs.diff_ids = Vec::new();
    }

    /// A definition that the client gave.
    fn input(&mut self, name: &str, place: &str) -> Result<Option<Node>> {
        let input = place.strip_prefix("input:").unwrap_or(place);
        let definition = self
            .options
            .inputs
            .get(input)
            .ok_or_else(|| Error::invalid(format!("invalid input {input} for {name}")))?;
        self.graph.include(definition)
    }

    /// An image in a layout that the client offers: `oci-layout://STORE@DIGEST`.
    fn layout(
        &mut self,
        name: &str,
        place: &str,
        platform: &Platform,
        lines: (usize, usize),
    ) -> Result<Node> {
        let (store, digest) = layout_of(place)?;
        let session = match &self.context.place {
            Place::Local { session, .. } => session.clone(),
            _ => String::new(),
        };
        let attrs = [("oci.store", store), ("oci.session", session)];
        let mut op = source(format!("oci-layout://{}@{digest}", clean_name(name)), &attrs);
        op.platform = Some(proto::platform(platform));
        let meta = named(format!("[context {name}] OCI load from client"));
        Ok(self.graph.add(&op, meta, Some(lines)))
    }

    /// The operation of a named context that is no image.
    fn named_context(&self, name: &str, place: &str, exclude: &[String]) -> Result<pb::Op> {
        if let Some(folder) = place.strip_prefix("local:") {
            let session = self.options.sessions.get(folder).cloned();
            let own = match &self.context.place {
                Place::Local { session, .. } => session.clone(),
                _ => String::new(),
            };
            return Ok(context::local(folder, &session.unwrap_or(own), &[], exclude));
        }
        if context::is_git(place) {
            return context::git(place, false, None);
        }
        if place.starts_with("http://") || place.starts_with("https://") {
            return Ok(context::http(place, "", None));
        }
        Err(Error::invalid(format!("unsupported context source {place:?} for {name}")))
    }

    /// The state that files are taken from: a stage, a named context, an image.
    pub(super) fn other(
        &mut self,
        stage: &Stage,
        name: &str,
        lines: (usize, usize),
    ) -> Result<Option<Node>> {
        if let Ok(number) = name.parse::<usize>()
            && number >= stage.index
        {
            return Err(Error::invalid(format!(
                "invalid from flag value {name}: {}",
                if number == stage.index {
                    "refers to current build stage"
                } else {
                    "index out of bounds"
                }
            )));
        }
        match self.origin(name, stage.index, true) {
            Base::Scratch => Ok(None),
            Base::Stage(index) => {
                self.stage(index).map_err(|f| f.error)?;
                Ok(self.stages[index].as_ref().and_then(|s| s.node.clone()))
            }
            Base::Context(name, place) if place.starts_with("input:") => self.input(&name, &place),
            Base::Context(name, place) if place.starts_with(LAYOUT) => {
                self.layout(&name, &place, &stage.platform, lines).map(Some)
            }
            Base::Context(name, place) => {
                let (op, meta) = match place.strip_prefix("docker-image://") {
                    Some(image) => {
                        let full = full_name(image)?;
                        (
                            image_op(&full, &stage.platform, self.options.pull),
                            named(format!("FROM {full}")),
                        )
                    }
                    None => {
                        let op = self.named_context(&name, &place, &[])?;
                        (op, named(format!("[context {name}] load from client")))
                    }
                };
                Ok(Some(self.graph.add(&op, meta, Some(lines))))
            }
            Base::Image(name) => {
                let full = full_name(&name)?;
                let op = image_op(&full, &stage.platform, self.options.pull);
                Ok(Some(self.graph.add(&op, named(format!("FROM {full}")), Some(lines))))
            }
        }
    }

    /// The context; `path` of it is needed.
    pub(super) fn context_node(&mut self, path: &str) -> Result<Node> {
        self.asked.insert(path.to_owned());
        let meta = named("[internal] load build context");
        match &self.context.place {
            Place::Local { name, session } => {
                let op = context::local(name, session, &self.follow, &self.context.ignore);
                Ok(self.graph.add(&op, meta, None))
            }
            Place::Other(other) => Ok(self.graph.adopt(&other.0, &other.1)),
            Place::Nothing => Err(Error::invalid("there is no build context to take files from")),
        }
    }

    fn step(&mut self, stage: &mut Stage, step: &Step, lines: (usize, usize)) -> Result<()> {
        let work = step.instruction.apply(&mut stage.draft);
        self.note_undefined(stage, lines);
        let work = work?;
        stage.draft.notes.clear();
        match work {
            Work::Config { comment } => {
                self.history(stage, comment, true);
                Ok(())
            }
            Work::WorkDir => self.workdir(stage, step, lines),
            Work::Run(run) => self.run_step(stage, step, run, lines),
            Work::Copy(copy) => self.copy_step(stage, step, copy, lines),
        }
    }

    fn note_undefined(&mut self, stage: &Stage, lines: (usize, usize)) {
        let missing = stage.draft.take_missing();
        if missing.is_empty() {
            return;
        }
        let known = stage.draft.known();
        for name in missing {
            let declared = stage.draft.args.declared().any(|n| n == name);
            if declared || name.starts_with("BUILDKIT_SBOM_SCAN_") {
                continue;
            }
            let near = lint::near(&name, known.iter().map(String::as_str));
            let detail = format!("Usage of undefined variable '${name}'{}", lint::hint(near, "$"));
            let warning = Warning { rule: &lint::UNDEFINED_VAR, detail, lines: lines.0..=lines.1 };
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
    }

    /// Works out all stages; gives the variables that are used and not set, and what stops it.
    pub(super) fn survey(mut self) -> (Vec<Warning>, Option<Failure>) {
        for index in 0..self.file.stages.len() {
            if let Err(failure) = self.stage(index) {
                return (self.warnings, Some(failure));
            }
        }
        (self.warnings, None)
    }

    pub(super) fn history(&self, stage: &mut Stage, created_by: String, empty_layer: bool) {
        stage.image.history.push(History {
            created: self.time,
            created_by,
            comment: COMMENT.into(),
            empty_layer,
            ..History::default()
        });
    }

    /// What clients are shown of the next counted step of a stage.
    pub(super) fn meta(&self, stage: &mut Stage, step: &Step) -> pb::OpMetadata {
        stage.number += 1;
        let code = step.code.split('\n').next().unwrap_or_default();
        let (word, rest) = code.split_once(char::is_whitespace).unwrap_or((code, ""));
        let name = format!(
            "[{}{}/{}] {} {}",
            stage.label,
            stage.number,
            stage.total,
            word.to_uppercase(),
            rest.trim()
        );
        pb::OpMetadata { ignore_cache: self.ignores_cache(stage), ..named(name) }
    }

    fn ignores_cache(&self, stage: &Stage) -> bool {
        match &self.options.no_cache {
            NoCache::Off => false,
            NoCache::All => true,
            NoCache::Stages(names) => {
                let own = self.file.stages[stage.index].head.name.as_deref();
                names.iter().any(|n| own.is_some_and(|own| own.eq_ignore_ascii_case(n)))
                    || names.contains(&stage.index.to_string())
            }
        }
    }

    /// The time that stands for every time, in nanoseconds; -1 when there is none.
    pub(super) fn timestamp(&self) -> i64 {
        self.options.epoch.map_or(-1, |epoch| epoch.saturating_mul(1_000_000_000))
    }

    fn workdir(&mut self, stage: &mut Stage, step: &Step, lines: (usize, usize)) -> Result<()> {
        let path = stage.draft.config.working_dir.clone();
        let meta = self.meta(stage, step);
        let mkdir = pb::FileActionMkDir {
            path: path.clone(),
            mode: 0o755,
            make_parents: true,
            owner: None,
            timestamp: self.timestamp(),
        };
        let action = pb::file_action::Action::Mkdir(mkdir);
        let op = file_op(stage.node.as_ref(), vec![], vec![(-1, action)], &stage.platform);
        stage.node = Some(self.graph.add(&op, meta, Some(lines)));
        self.history(stage, format!("WORKDIR {path}"), false);
        Ok(())
    }
}

/// A file operation over `base`: actions with the input that each copies from.
pub(super) fn file_op(
    base: Option<&Node>,
    others: Vec<Node>,
    actions: Vec<(i64, pb::file_action::Action)>,
    platform: &Platform,
) -> pb::Op {
    let mut inputs: Vec<pb::Input> = base.map(Node::input).into_iter().collect();
    inputs.extend(others.iter().map(Node::input));
    let count = i64::try_from(inputs.len()).unwrap_or_default();
    let last = actions.len().saturating_sub(1);
    let actions = actions.into_iter().enumerate().map(|(index, (secondary, action))| {
        let own = i64::try_from(index).unwrap_or_default();
        pb::FileAction {
            input: match index {
                0 if base.is_some() => 0,
                0 => -1,
                _ => count + own - 1,
            },
            secondary_input: secondary,
            output: if index == last { 0 } else { -1 },
            action: Some(action),
        }
    });
    pb::Op {
        inputs,
        platform: Some(proto::platform(platform)),
        op: Some(pb::op::Op::File(pb::FileOp { actions: actions.collect() })),
        ..pb::Op::default()
    }
}

/// What places of images in a client's layout begin with.
pub(super) const LAYOUT: &str = "oci-layout://";

/// Store and digest of an image in a client's layout.
///
/// # Errors
/// `Invalid` without a digest.
pub(super) fn layout_of(place: &str) -> Result<(String, base::Digest)> {
    let rest = place.strip_prefix(LAYOUT).unwrap_or(place);
    let (store, digest) = rest
        .split_once('@')
        .ok_or_else(|| Error::invalid(format!("oci-layout reference {rest:?} has no digest")))?;
    Ok((store.split(':').next().unwrap_or(store).to_owned(), digest.parse()?))
}

/// A context's name as the name of an image in messages.
fn clean_name(name: &str) -> String {
    name.split(['@', ':']).next().unwrap_or(name).to_owned()
}

/// An image as a source.
fn image_op(full: &str, platform: &Platform, pull: bool) -> pb::Op {
    let mut attrs = Vec::new();
    if pull {
        attrs.push(("image.resolvemode", "pull".to_owned()));
    }
    let op = source(format!("docker-image://{full}"), &attrs);
    pb::Op { platform: Some(proto::platform(platform)), ..op }
}

/// The whole name of an image.
pub(super) fn full_name(name: &str) -> Result<String> {
    let reference: Reference = name.parse()?;
    Ok(reference.or_latest().to_string())
}

/// Whether a named context is meant by `name`: the names are equal, or mean the same image.
fn same_name(key: &str, name: &str) -> bool {
    let key = key.split("::").next().unwrap_or(key);
    if key.eq_ignore_ascii_case(name) {
        return true;
    }
    matches!((full_name(key), full_name(name)), (Ok(a), Ok(b)) if a == b)
}

fn is_counted(code: &str) -> bool {
    let word = code.split_whitespace().next().unwrap_or_default();
    COUNTED.iter().any(|c| c.eq_ignore_ascii_case(word))
}

/// Arguments before the first `FROM`.
fn globals(options: &Options, file: &Dockerfile, platform: &Platform) -> BuildArgs {
    let mut args = BuildArgs::new(options.args.clone());
    args.describe(&Platform::host().short(), platform);
    let stage = if options.target.is_empty() { "default" } else { &options.target };
    args.predefine(BTreeMap::from([("TARGETSTAGE".to_owned(), stage.to_owned())]));
    for (name, default) in file.args.iter().flat_map(|s| s.instruction.declares()) {
        let known = args.allowed();
        let value = |text: &str| expand::word(text, file.escape, &known[..]).unwrap_or_default();
        args.declare_global(name, default.as_deref().map(value));
    }
    args
}
