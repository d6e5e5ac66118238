//! `compose build`, `pull`, `push`: images of services.

use super::{
    ANY, Compose, Sub,
    images::{Override, Say},
};
use crate::{
    error::{Fail, Result},
    flags::{Flag, Given, Kind, Words, flag, short},
};
use compose::{Dependencies, Pull};
use std::collections::BTreeMap;

const BUILD_FLAGS: &[Flag] = &[
    flag("build-arg", Kind::List, "Set build-time variables for services"),
    short(
        'm',
        "memory",
        Kind::Bytes,
        "Set memory limit for the build container. Not supported by BuildKit.",
    ),
    flag("no-cache", Kind::Bool, "Do not use cache when building the image"),
    flag("pull", Kind::Bool, "Always attempt to pull a newer version of the image"),
    flag("push", Kind::Bool, "Push service images"),
    short('q', "quiet", Kind::Bool, "Suppress the build output"),
    flag("with-dependencies", Kind::Bool, "Also build dependencies (transitively)"),
];

pub(super) const BUILD: Sub = Sub {
    name: "build",
    usage: " [OPTIONS] [SERVICE...]",
    about: "Build or rebuild services",
    words: Words::Anywhere,
    count: ANY,
    flags: &[BUILD_FLAGS],
    run: build,
};

const PULL_FLAGS: &[Flag] = &[
    flag("ignore-buildable", Kind::Bool, "Ignore images that can be built"),
    flag(
        "ignore-pull-failures",
        Kind::Bool,
        "Pull what it can and ignores images with pull failures",
    ),
    flag("include-deps", Kind::Bool, "Also pull services declared as dependencies"),
    flag("policy", Kind::Text, "Apply pull policy (\"missing\"|\"always\")"),
    short('q', "quiet", Kind::Bool, "Pull without printing progress information"),
];

pub(super) const PULL: Sub = Sub {
    name: "pull",
    usage: " [OPTIONS] [SERVICE...]",
    about: "Pull service images",
    words: Words::Anywhere,
    count: ANY,
    flags: &[PULL_FLAGS],
    run: pull,
};

const PUSH_FLAGS: &[Flag] = &[
    flag(
        "ignore-push-failures",
        Kind::Bool,
        "Push what it can and ignores images with push failures",
    ),
    flag("include-deps", Kind::Bool, "Also push images of services declared as dependencies"),
    short('q', "quiet", Kind::Bool, "Push without printing progress information"),
];

pub(super) const PUSH: Sub = Sub {
    name: "push",
    usage: " [OPTIONS] [SERVICE...]",
    about: "Push service images",
    words: Words::Anywhere,
    count: ANY,
    flags: &[PUSH_FLAGS],
    run: push,
};

fn say(given: &Given) -> Say {
    if given.is("quiet") { Say::Nothing } else { Say::All }
}

fn build(compose: &mut Compose<'_>, given: &Given) -> Result<()> {
    let mut project = compose.project(&given.words)?;
    if !given.is("with-dependencies") {
        project.select(&given.words, Dependencies::Ignore)?;
    }
    let services: Vec<String> =
        project.service_names().into_iter().filter(|s| project.builds(s)).collect();
    let engine = compose.engine()?;
    if services.is_empty() {
        engine.progress.warn("No services to build");
        return Ok(());
    }
    let mut arguments = BTreeMap::new();
    for argument in given.list("build-arg") {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (argument.as_str(), project.environment.get(argument).cloned()),
        };
        arguments.insert(name.to_owned(), value);
    }
    let changes = Override {
        arguments,
        no_cache: given.is("no-cache"),
        pull: given.is("pull"),
        memory: given.bytes("memory"),
    };
    engine.build(&project, &services, &changes, say(given))?;
    if given.is("push") {
        let named: Vec<String> = services.into_iter().filter(|s| project.has_image(s)).collect();
        engine.each(&named, |s| engine.push(&project.image(s).unwrap_or_default(), say(given)))?;
    }
    Ok(())
}

fn pull(compose: &mut Compose<'_>, given: &Given) -> Result<()> {
    let policy = given.text("policy").unwrap_or_default();
    if !["", "missing", "always"].contains(&policy) {
        return Err(Fail::new(format!("invalid --policy option {policy:?}")));
    }
    let mut project = compose.project(&given.words)?;
    if !given.is("include-deps") {
        project.select(&given.words, Dependencies::Ignore)?;
    }
    let engine = compose.engine()?;
    let mut wanted: BTreeMap<String, String> = BTreeMap::new();
    for service in project.service_names() {
        let builds = project.builds(&service);
        let skipped = match project.pull_policy(&service) {
            Pull::Never => Some("Skipped - Pull policy is never"),
            _ if !project.has_image(&service) => Some("Skipped - No image to be pulled"),
            _ if builds && given.is("ignore-buildable") => Some("Skipped - Image can be built"),
            _ => None,
        };
        match (skipped, project.image(&service)) {
            (Some(why), _) => engine.progress.say(&service, why),
            (None, Some(image)) => {
                if policy == "missing" && engine.image(&image)?.is_some() {
                    engine.progress.say(&service, "Skipped - Image is already present locally");
                } else {
                    wanted.insert(image, service);
                }
            }
            (None, None) => {}
        }
    }
    let wanted: Vec<(String, String)> = wanted.into_iter().collect();
    engine.each(&wanted, |(image, service)| {
        engine.progress.say(service, "Pulling");
        match engine.pull(image, &project.platform(service), say(given)) {
            Ok(()) => engine.progress.say(service, "Pulled"),
            Err(fail) if given.is("ignore-pull-failures") || project.builds(service) => {
                engine.progress.say(service, "Warning");
                engine.progress.warn(&fail.message);
            }
            Err(fail) => return Err(fail),
        }
        Ok(())
    })
}

fn push(compose: &mut Compose<'_>, given: &Given) -> Result<()> {
    let mut project = compose.project(&given.words)?;
    if !given.is("include-deps") {
        project.select(&given.words, Dependencies::Ignore)?;
    }
    let engine = compose.engine()?;
    let mut wanted: Vec<(String, String)> = Vec::new();
    for service in project.service_names().into_iter().filter(|s| project.builds(s)) {
        if !project.has_image(&service) {
            engine.progress.say(&service, "Skipped");
        } else if let Some(image) = project.image(&service) {
            wanted.push((service, image));
        }
    }
    engine.each(&wanted, |(service, image)| {
        engine.progress.say(service, "Pushing");
        match engine.push(image, say(given)) {
            Ok(()) => engine.progress.say(service, "Pushed"),
            Err(fail) if given.is("ignore-push-failures") => engine.progress.warn(&fail.message),
            Err(fail) => return Err(fail),
        }
        Ok(())
    })
}
