//! Front ends: what turns a source into LLB. Built in is the Dockerfile's (`dockerfile.v0`), which stands for
//! the images `docker/dockerfile` too.

mod context;
mod copy;
mod lower;
mod options;
mod run;

use crate::{
    failure::Failure,
    job::{Job, Outcome, Reference},
    proto::pb,
    solve::source,
};
use base::{Error, Platform, Result};
use build::dockerfile::{Dialect, Dockerfile};
use futures_util::future::try_join_all;
use lower::{Base, Images, Lowered, Lowering, full_name};
use options::Options;
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// Runs the front end called `name`.
///
/// # Errors
/// Whatever stops the build.
pub(crate) async fn run(
    job: &Arc<Job>,
    name: &str,
    opts: &HashMap<String, String>,
) -> Result<Outcome, Arc<Failure>> {
    match name {
        "dockerfile.v0" => dockerfile(job, opts).await,
        "gateway.v0" => {
            let image = opts.get("source").map_or("", String::as_str);
            if is_ours(image) {
                return dockerfile(job, opts).await;
            }
            Err(Arc::new(
                Error::not_implemented(format!(
                    "the front end {image:?} would have to run as a container, which this engine does not do; docker/dockerfile is built in"
                ))
                .into(),
            ))
        }
        other => Err(Arc::new(Error::invalid(format!("invalid frontend: {other}")).into())),
    }
}

/// Whether an image of a front end is one that is built in.
fn is_ours(image: &str) -> bool {
    let parsed = image.parse::<base::Reference>();
    parsed.is_ok_and(|r| {
        matches!(r.familiar_name().as_str(), "docker/dockerfile" | "docker/dockerfile-upstream")
    })
}

async fn dockerfile(
    job: &Arc<Job>,
    opts: &HashMap<String, String>,
) -> Result<Outcome, Arc<Failure>> {
    let failed = |error: Error| Arc::new(Failure::from(error));
    let options = Options::read(opts).map_err(failed)?;
    job.set_epoch(options.epoch);
    let loaded = context::load(job, &options).await?;
    let name = context::base_name(&options.filename).to_owned();
    let info = pb::SourceInfo {
        filename: name.clone(),
        data: loaded.dockerfile.clone(),
        definition: None,
        language: "Dockerfile".into(),
    };
    let file = Dockerfile::parse_as(&name, &loaded.dockerfile, Dialect::BuildKit)
        .map_err(|error| Arc::new(at_its_line(error, &info)))?;
    if let Some((_, image)) = file.directives.iter().find(|(key, _)| key == "syntax")
        && !opts.contains_key("cmdline")
    {
        let image = image.split_whitespace().next().unwrap_or_default();
        if !is_ours(image) {
            let why = format!(
                "the front end {image:?} would have to run as a container, which this engine does not do; docker/dockerfile is built in"
            );
            return Err(failed(Error::not_implemented(why)));
        }
    }
    if !options.request.is_empty() {
        return Err(failed(Error::not_implemented(format!(
            "the request {} is not known",
            options.request
        ))));
    }
    let platforms = match options.platforms.is_empty() {
        true => vec![Platform::host()],
        false => options.platforms.clone(),
    };
    let each = platforms.iter().map(|p| one(job, &options, &file, &loaded.context, &info, p));
    let all = try_join_all(each).await?;
    let mut outcome = Outcome::default();
    for (platform, (reference, config)) in platforms.iter().zip(all) {
        let config = serde_json::to_vec(&config).map_err(|e| {
            failed(Error::internal("cannot encode the image's config").caused_by(e))
        })?;
        if options.multi {
            let id = platform.to_string();
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

/// Builds for one platform: the state, solved, and the config of its image.
async fn one(
    job: &Arc<Job>,
    options: &Options,
    file: &Dockerfile,
    context: &context::Context,
    info: &pb::SourceInfo,
    platform: &Platform,
) -> Result<(Reference, image::ImageConfig), Arc<Failure>> {
    let failed = |error: Error| Arc::new(Failure::from(error));
    let images = resolve(job, options, file, context, info, platform).await?;
    let lower = |follow: Vec<String>| -> Result<(Lowered, BTreeSet<String>), Arc<Failure>> {
        let mut lowering = Lowering::new(options, file, context, &images, platform, info);
        lowering.follow = follow;
        let target = lowering.target().map_err(failed)?;
        let needed = lowering.needed(target);
        lowering.run(target, &needed).map_err(Arc::new)
    };
    // Twice: which paths of the context are needed is known when all is lowered.
    let (_, asked) = lower(Vec::new())?;
    let (lowered, _) = lower(paths(&asked))?;
    let out = match &lowered.definition {
        Some(definition) => crate::solve::solve(job, definition).await?,
        None => None,
    };
    warn_of_unused(job, options, &lowered.declared);
    Ok((Reference { out, definition: lowered.definition }, lowered.image))
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

/// What the stages stand on.
async fn resolve(
    job: &Arc<Job>,
    options: &Options,
    file: &Dockerfile,
    context: &context::Context,
    info: &pb::SourceInfo,
    platform: &Platform,
) -> Result<Images, Arc<Failure>> {
    let failed = |error: Error| Arc::new(Failure::from(error));
    let none = Images::new();
    let lowering = Lowering::new(options, file, context, &none, platform, info);
    let target = lowering.target().map_err(failed)?;
    let mut wanted: Vec<(String, Platform, std::ops::RangeInclusive<usize>)> = Vec::new();
    for index in lowering.needed(target) {
        let lines = file.stages[index].lines.clone();
        let (base, platform) = lowering
            .base(index)
            .map_err(|e| Arc::new(placed(e, info, *lines.start(), *lines.end())))?;
        let name = match base {
            Base::Image(name) => name,
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
    let found = wanted.into_iter().map(|(name, platform, lines)| async move {
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

/// The config of an image, which is fetched if it is not here.
pub(crate) async fn metadata(
    job: &Arc<Job>,
    name: &str,
    platform: &Platform,
    pull: bool,
) -> Result<image::ImageConfig> {
    let (sender, mut messages) = tokio::sync::mpsc::channel(64);
    let output = build::output::Output::new(sender);
    let vertex =
        base::Digest::sha256(format!("task [internal] load metadata for {name}").as_bytes());
    let work = async {
        let output = output;
        source::image(job, name, Some(platform.clone()), pull, &output).await
    };
    let pump = async {
        while let Some(message) = messages.recv().await {
            crate::solve::show(&job.progress, vertex.as_str(), message);
        }
    };
    let (image, ()) = tokio::join!(work, pump);
    Ok(image?.config)
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
