//! Front ends: what turns a source into LLB. Built in is the Dockerfile's (`dockerfile.v0`), which stands for
//! the images `docker/dockerfile` too.

mod context;
mod copy;
mod image;
mod lower;
mod options;
mod requests;
mod run;
mod syntax;

use crate::{
    BuildKit,
    desk::Desk,
    export,
    failure::Failure,
    job::{Job, Outcome, Reference},
    proto::{control, pb},
    solve::{layout, source},
};
use ::image::ImageConfig;
use base::{Error, Platform, Result};
use build::{
    dockerfile::{Dialect, Dockerfile},
    ignore::Ignore,
    lint::{self, Config, Warning},
};
use futures_util::future::try_join_all;
use lower::{Base, Below, Images, Lowered, Lowering, full_name};
use options::Options;
pub(crate) use options::csv;
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// Which front end is asked for, and with what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// `dockerfile.v0`, or `gateway.v0` for the image that the option `source` names.
    pub(crate) name: &'a str,
    pub(crate) opts: &'a HashMap<String, String>,
    pub(crate) inputs: &'a HashMap<String, pb::Definition>,
}

/// Runs a front end for whoever is at `desk`.
///
/// # Errors
/// Whatever stops the build.
pub(crate) async fn run(
    kit: &Arc<BuildKit>,
    job: &Arc<Job>,
    desk: &Arc<Desk>,
    asked: Asked<'_>,
) -> Result<Outcome, Arc<Failure>> {
    if desk.depth == 0 {
        job.set_frontend(asked.name, asked.opts);
    }
    match asked.name {
        "dockerfile.v0" => dockerfile(kit, job, desk, asked).await,
        "gateway.v0" => {
            let image = asked.opts.get("source").map_or("", String::as_str);
            if is_ours(image) {
                return dockerfile(kit, job, desk, asked).await;
            }
            // Each builds the next, so the future has no size of its own.
            Box::pin(image::run(kit, job, image, asked, desk.depth)).await
        }
        other => Err(Arc::new(Error::invalid(format!("invalid frontend: {other}")).into())),
    }
}

/// The front end that a file, or the client over its head, asks for: the image, and what stands behind its name.
fn elsewhere(options: &Options, asked: Asked<'_>, file: &[u8]) -> Option<(String, String)> {
    if asked.opts.contains_key("cmdline") {
        return None;
    }
    let given = options.args.get("BUILDKIT_SYNTAX").cloned().flatten().filter(|s| !s.is_empty());
    let whole = given.or_else(|| syntax::named(file))?;
    let image = whole.split_whitespace().next().unwrap_or_default().to_owned();
    (!is_ours(&image)).then_some((image, whole))
}

/// Whether an image of a front end is one that is built in.
fn is_ours(image: &str) -> bool {
    let parsed = image.parse::<base::Reference>();
    parsed.is_ok_and(|r| {
        matches!(r.familiar_name().as_str(), "docker/dockerfile" | "docker/dockerfile-upstream")
    })
}

async fn dockerfile(
    kit: &Arc<BuildKit>,
    job: &Arc<Job>,
    desk: &Arc<Desk>,
    asked: Asked<'_>,
) -> Result<Outcome, Arc<Failure>> {
    let failed = |error: Error| Arc::new(Failure::from(error));
    let Asked { opts, inputs, .. } = asked;
    let mut options = Options::read(opts).map_err(failed)?;
    options.inputs = if inputs.is_empty() { desk.inputs.clone() } else { inputs.clone() };
    job.set_epoch(options.epoch);
    let loaded = context::load(job, &options).await?;
    job.set_dockerfile(&loaded.dockerfile);
    if let Some((image, whole)) = elsewhere(&options, asked, &loaded.dockerfile) {
        let mut opts = opts.clone();
        opts.insert("source".into(), image.clone());
        opts.insert("cmdline".into(), whole);
        let asked = Asked { name: "gateway.v0", opts: &opts, inputs: &options.inputs };
        return Box::pin(image::run(kit, job, &image, asked, desk.depth)).await;
    }
    let name = context::base_name(&options.filename).to_owned();
    let info = pb::SourceInfo {
        filename: name.clone(),
        data: loaded.dockerfile.clone(),
        definition: None,
        language: "Dockerfile".into(),
    };
    let file = Dockerfile::parse_as(&name, &loaded.dockerfile, Dialect::BuildKit)
        .map_err(|error| Arc::new(at_its_line(error, &info)))?;
    let check = checks(&options, &file).map_err(failed)?;
    let platforms = match options.platforms.is_empty() {
        true => vec![Platform::host().short()],
        false => options.platforms.clone(),
    };
    let plan = Plan {
        options: &options,
        file: &file,
        context: &loaded.context,
        info: &info,
        vertex: &loaded.vertex,
        check: &check,
    };
    if !options.request.is_empty() {
        return plan.answer(job, &platforms[0]).await;
    }
    let warnings = plan.warnings(&platforms[0]);
    plan.warn(job, &warnings);
    let each = platforms.iter().enumerate().map(|(index, platform)| {
        let first = (index == 0).then_some(warnings.as_slice());
        one(job, &plan, platform, first)
    });
    let all = try_join_all(each).await?;
    let mut outcome = Outcome::default();
    for (platform, Made { reference, config, below }) in platforms.iter().zip(all) {
        let config = serde_json::to_vec(&config).map_err(|e| {
            failed(Error::internal("cannot encode the image's config").caused_by(e))
        })?;
        let id = if options.multi { platform.to_string() } else { String::new() };
        let key = |what: &str| if id.is_empty() { what.into() } else { format!("{what}/{id}") };
        if let Some(below) = &below {
            let json = serde_json::to_vec(&*below.config).map_err(|e| {
                failed(Error::internal("cannot encode the base image's config").caused_by(e))
            })?;
            outcome.metadata.insert(key(export::BASE_CONFIG), json);
        }
        if let Some(name) = below.and_then(|b| b.name) {
            let digest = name.parse().and_then(|r| job.host.digest_of(&r)).map_err(failed)?;
            if let Some(digest) = digest {
                let bytes = digest.to_string().into_bytes();
                outcome.metadata.insert(key(export::BASE_DIGEST), bytes);
            }
            outcome.metadata.insert(key(export::BASE_NAME), name.into_bytes());
        }
        if options.multi {
            outcome.metadata.insert(format!("containerimage.config/{id}"), config);
            outcome.several.push((id, reference));
        } else {
            outcome.metadata.insert("containerimage.config".into(), config);
            outcome.single = Some(reference);
        }
    }
    let known = options::platforms_json(&platforms).to_string();
    outcome.metadata.insert("refs.platforms".into(), known.into_bytes());
    Ok(outcome)
}

/// Which checks count: what the client says, or the file.
fn checks(options: &Options, file: &Dockerfile) -> Result<Config> {
    let given = options.args.get("BUILDKIT_DOCKERFILE_CHECK").cloned().flatten();
    let own = || file.directives.iter().find(|(key, _)| key == "check").map(|(_, v)| v.clone());
    let text = given.or_else(own).unwrap_or_default();
    Config::parse(&text)
        .map_err(|cause| Error::invalid("failed to parse check options").caused_by(cause))
}

/// A Dockerfile with all that is known of it.
struct Plan<'p> {
    options: &'p Options,
    file: &'p Dockerfile,
    context: &'p context::Context,
    info: &'p pb::SourceInfo,
    /// The vertex that brought it.
    vertex: &'p str,
    check: &'p Config,
}

impl Plan<'_> {
    fn lowering<T>(
        &self,
        images: &Images,
        platform: &Platform,
        ask: impl FnOnce(&Lowering<'_>) -> T,
    ) -> T {
        let Self { options, file, context, info, .. } = self;
        ask(&Lowering::new(options, file, context, images, platform, info))
    }

    /// What the file alone tells.
    fn warnings(&self, platform: &Platform) -> Vec<Warning> {
        let text = String::from_utf8_lossy(&self.info.data);
        let globals = self.lowering(&Images::new(), platform, |l| l.args.globals());
        // What is left out was read before; should it not be readable, copies fail by themselves.
        let ignore = Ignore::parse(&self.context.ignore.join("\n")).ok();
        lint::check(self.file, &text, self.check, &globals, ignore.as_ref())
    }

    /// Those that count where they are.
    fn counting(&self, mut found: Vec<Warning>) -> Vec<Warning> {
        let text = String::from_utf8_lossy(&self.info.data);
        let comments = lint::Comments::of(&text);
        found.retain(|w| comments.config(self.check, *w.lines.start()).counts(w.rule));
        found
    }

    /// Tells the client.
    fn warn(&self, job: &Job, warnings: &[Warning]) {
        for warning in warnings {
            job.progress.warn(control::VertexWarning {
                vertex: self.vertex.to_owned(),
                level: 1,
                short: warning.short().into_bytes(),
                detail: vec![warning.rule.description.as_bytes().to_vec()],
                url: warning.rule.url(),
                info: Some(self.info.clone()),
                ranges: requests::ranges(&warning.lines),
            });
        }
    }

    /// Answers what is asked of the file.
    async fn answer(&self, job: &Arc<Job>, platform: &Platform) -> Result<Outcome, Arc<Failure>> {
        let failed = |error: Error| Arc::new(Failure::from(error));
        match self.options.request.as_str() {
            "frontend.subrequests.describe" => Ok(requests::describe()),
            "frontend.targets" => Ok(requests::targets(self.file, &self.info.data)),
            "frontend.outline" => self
                .lowering(&Images::new(), platform, |lowering| {
                    requests::outline(self.file, self.options, lowering, &self.info.data)
                })
                .map_err(failed),
            "frontend.lint" => Ok(self.lint(job, platform).await),
            other => Err(failed(requests::unknown(other))),
        }
    }

    async fn lint(&self, job: &Arc<Job>, platform: &Platform) -> Outcome {
        let mut warnings = self.warnings(platform);
        let stages: Vec<usize> = (0..self.file.stages.len()).collect();
        let stopped = match resolve(job, self, &stages, platform).await {
            Err(failure) => Some(requests::stop(&failure)),
            Ok(images) => {
                let Self { options, file, context, info, .. } = self;
                let lowering = Lowering::new(options, file, context, &images, platform, info);
                let (undefined, stopped) = lowering.survey();
                warnings.extend(self.counting(undefined));
                stopped.map(|failure| requests::stop(&failure))
            }
        };
        requests::checked(self.info, &warnings, stopped)
    }
}

/// What was built for one platform.
struct Made {
    reference: Reference,
    config: ImageConfig,
    /// The image that it stands on.
    below: Option<Below>,
}

/// Builds for one platform: the state, solved, and the config of its image.
async fn one(
    job: &Arc<Job>,
    plan: &Plan<'_>,
    platform: &Platform,
    warnings: Option<&[Warning]>,
) -> Result<Made, Arc<Failure>> {
    let failed = |error: Error| Arc::new(Failure::from(error));
    let (options, file, context, info) = (plan.options, plan.file, plan.context, plan.info);
    let target = plan.lowering(&Images::new(), platform, |l| l.target()).map_err(failed)?;
    let needed = plan.lowering(&Images::new(), platform, |l| l.needed(target));
    let images = resolve(job, plan, &needed, platform).await?;
    let lower = |follow: Vec<String>| -> Result<(Lowered, BTreeSet<String>), Arc<Failure>> {
        let mut lowering = Lowering::new(options, file, context, &images, platform, info);
        lowering.follow = follow;
        lowering.run(target, &needed).map_err(Arc::new)
    };
    // Twice: which paths of the context are needed is known when all is lowered.
    let (_, asked) = lower(Vec::new())?;
    let (lowered, _) = lower(paths(&asked))?;
    if let Some(before) = warnings {
        let found = plan.counting(lowered.warnings.clone());
        plan.warn(job, &found);
        plan.check.enforce(&[before, &found].concat()).map_err(failed)?;
    }
    let out = match &lowered.definition {
        Some(definition) => crate::solve::solve(job, definition).await?,
        None => None,
    };
    warn_of_unused(job, options, &lowered.declared);
    let reference = Reference { out, definition: lowered.definition };
    Ok(Made { reference, config: lowered.image, below: lowered.below })
}

/// Paths of the context to be asked for; nothing means all.
fn paths(asked: &BTreeSet<String>) -> Vec<String> {
    let clean = |path: &String| {
        let path = path.trim_start_matches("./").trim_matches('/');
        path.replace("/./", "/")
    };
    let all: Vec<String> = asked.iter().map(clean).collect();
    let whole =
        all.iter().any(|p| p.is_empty() || p == "." || p.split('/').any(|part| part == ".."));
    if whole { Vec::new() } else { all }
}

/// What these stages stand on.
async fn resolve(
    job: &Arc<Job>,
    plan: &Plan<'_>,
    stages: &[usize],
    platform: &Platform,
) -> Result<Images, Arc<Failure>> {
    let failed = |error: Error| Arc::new(Failure::from(error));
    let (options, file, info) = (plan.options, plan.file, plan.info);
    let none = Images::new();
    let lowering = Lowering::new(options, file, plan.context, &none, platform, info);
    let mut wanted: Vec<(String, Platform, std::ops::RangeInclusive<usize>)> = Vec::new();
    for index in stages {
        let lines = file.stages[*index].lines.clone();
        let (base, platform) = lowering
            .base(*index)
            .map_err(|e| Arc::new(placed(e, info, *lines.start(), *lines.end())))?;
        let name = match base {
            Base::Image(name) => name,
            Base::Context(_, place) if place.starts_with(lower::LAYOUT) => place,
            Base::Context(_, place) => match place.strip_prefix("docker-image://") {
                Some(name) => name.to_owned(),
                None => continue,
            },
            Base::Scratch | Base::Stage(_) => continue,
        };
        if !wanted.iter().any(|(n, p, _)| *n == name && *p == platform) {
            wanted.push((name, platform, lines));
        }
    }
    drop(lowering);
    let found = wanted.into_iter().map(|(name, platform, lines)| async move {
        if name.starts_with(lower::LAYOUT) {
            let (store, digest) = lower::layout_of(&name).map_err(failed)?;
            let config = layout::config(job, "", &store, &digest, &platform).await;
            let config =
                config.map_err(|e| Arc::new(placed(e, info, *lines.start(), *lines.end())))?;
            return Ok(((name, platform.to_string()), Arc::new(config)));
        }
        let full = full_name(&name).map_err(failed)?;
        let task = job.progress.task(&format!("[internal] load metadata for {full}"), None);
        let found = metadata(job, &full, &platform, options.pull).await;
        task.end(&found);
        let config = found.map_err(|cause| {
            let why = format!("{full}: failed to resolve source metadata for {full}");
            let error = Error::new(cause.kind(), why).caused_by(cause);
            Arc::new(placed(error, info, *lines.start(), *lines.end()))
        })?;
        Ok::<_, Arc<Failure>>(((name, platform.to_string()), Arc::new(config)))
    });
    Ok(try_join_all(found).await?.into_iter().collect())
}

/// The config of an image: from here, or from its registry, where its layers stay until a step needs them.
pub(crate) async fn metadata(
    job: &Arc<Job>,
    name: &str,
    platform: &Platform,
    pull: bool,
) -> Result<ImageConfig> {
    let reference = name.parse::<base::Reference>()?.or_latest();
    if !pull && let Some(image) = source::here(job, &reference, platform).await? {
        return Ok(image.config);
    }
    source::authorise(job, reference.domain()).await;
    Ok(job.host.remote_config(&reference, platform).await?.config().clone())
}

fn placed(error: Error, info: &pb::SourceInfo, first: usize, last: usize) -> Failure {
    let position = |line: usize| {
        Some(pb::Position { line: i32::try_from(line).unwrap_or_default(), character: 0 })
    };
    let range = pb::Range { start: position(first), end: position(last) };
    Failure::at(error, crate::failure::Place { info: info.clone(), ranges: vec![range] })
}

/// An error of the parser, which tells its line in words, with that line.
fn at_its_line(error: Error, info: &pb::SourceInfo) -> Failure {
    let text = error.chain();
    let after = |mark: &str| {
        let rest = text.split_once(mark)?.1;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<usize>().ok()
    };
    match after("on line ").or_else(|| after("(line ")) {
        Some(line) => placed(error, info, line, line),
        None => error.into(),
    }
}

fn warn_of_unused(job: &Job, options: &Options, declared: &BTreeSet<String>) {
    let args = build::args::BuildArgs::new(options.args.clone());
    let unused: Vec<&str> = args
        .unused(declared)
        .into_iter()
        .filter(|name| !name.starts_with("BUILDKIT_") && *name != "SOURCE_DATE_EPOCH")
        .collect();
    if !unused.is_empty() {
        let list = build::go::list(&unused);
        tracing::debug!(build = job.id, args = list, "build arguments were not consumed");
    }
}
