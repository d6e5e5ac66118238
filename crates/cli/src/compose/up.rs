//! `compose up` and `create`: has an engine have what the files say.

use super::{
    ANY, Compose, Sub,
    create::Making,
    engine::Engine,
    images::{Say, Wanted},
    output::Style,
    start::{Containers, TIME_IS_UP},
};
use crate::{
    error::{Fail, Result},
    flags::{Flag, Given, Kind, Words, flag, short},
};
use compose::{Condition, Dependencies, Need, OnlyBuilds, Project, Recreate, Request};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// What decides which containers are to be made, for `plan` too.
pub(super) const WISHES: &[Flag] = &[
    flag("build", Kind::Bool, "Build images before starting containers"),
    flag(
        "force-recreate",
        Kind::Bool,
        "Recreate containers even if their configuration and image haven't changed",
    ),
    flag(
        "no-recreate",
        Kind::Bool,
        "If containers already exist, don't recreate them. Incompatible with --force-recreate.",
    ),
    flag(
        "pull",
        Kind::Text,
        "Pull image before running (\"always\"|\"missing\"|\"never\"|\"build\")",
    ),
    flag(
        "remove-orphans",
        Kind::Bool,
        "Remove containers for services not defined in the Compose file",
    ),
    flag(
        "scale",
        Kind::List,
        "Scale SERVICE to NUM instances. Overrides the `scale` setting in the Compose file if present.",
    ),
];

const MAKING: &[Flag] = &[
    flag("no-build", Kind::Bool, "Don't build an image, even if it's policy"),
    flag("quiet-pull", Kind::Bool, "Pull without printing progress information"),
    short(
        'y',
        "yes",
        Kind::Bool,
        "Assume \"yes\" as answer to all prompts and run non-interactively",
    ),
];

const UP_FLAGS: &[Flag] = &[
    flag(
        "abort-on-container-exit",
        Kind::Bool,
        "Stops all containers if any container was stopped. Incompatible with -d",
    ),
    flag(
        "abort-on-container-failure",
        Kind::Bool,
        "Stops all containers if any container exited with failure. Incompatible with -d",
    ),
    flag(
        "always-recreate-deps",
        Kind::Bool,
        "Recreate dependent containers. Incompatible with --no-recreate.",
    ),
    flag(
        "attach",
        Kind::List,
        "Restrict attaching to the specified services. Incompatible with --attach-dependencies.",
    ),
    flag(
        "attach-dependencies",
        Kind::Bool,
        "Automatically attach to log output of dependent services",
    ),
    short('d', "detach", Kind::Bool, "Detached mode: Run containers in the background"),
    flag(
        "exit-code-from",
        Kind::Text,
        "Return the exit code of the selected service container. Implies --abort-on-container-exit",
    ),
    flag("no-attach", Kind::List, "Do not attach (stream logs) to the specified services"),
    flag("no-color", Kind::Bool, "Produce monochrome output"),
    flag("no-deps", Kind::Bool, "Don't start linked services"),
    flag("no-log-prefix", Kind::Bool, "Don't print prefix in logs"),
    flag("no-start", Kind::Bool, "Don't start the services after creating them"),
    flag("quiet-build", Kind::Bool, "Suppress the build output"),
    short(
        'V',
        "renew-anon-volumes",
        Kind::Bool,
        "Recreate anonymous volumes instead of retrieving data from the previous containers",
    ),
    short(
        't',
        "timeout",
        Kind::Int,
        "Use this timeout in seconds for container shutdown when attached or when containers are already running",
    ),
    flag("timestamps", Kind::Bool, "Show timestamps"),
    flag("wait", Kind::Bool, "Wait for services to be running|healthy. Implies detached mode."),
    flag(
        "wait-timeout",
        Kind::Int,
        "Maximum duration in seconds to wait for the project to be running|healthy",
    ),
];

pub(super) const UP: Sub = Sub {
    name: "up",
    usage: " [OPTIONS] [SERVICE...]",
    about: "Create and start containers",
    words: Words::Anywhere,
    count: ANY,
    flags: &[WISHES, MAKING, UP_FLAGS],
    run: up,
};

pub(super) const CREATE: Sub = Sub {
    name: "create",
    usage: " [OPTIONS] [SERVICE...]",
    about: "Creates containers for a service",
    words: Words::Anywhere,
    count: ANY,
    flags: &[WISHES, MAKING],
    run: create,
};

/// Options that do not go together.
fn check(given: &Given) -> Result<()> {
    let is = |name: &str| given.is(name);
    let both = |a: &str, b: &str| {
        let clash = is(a) && is(b);
        if clash { Err(Fail::new(format!("--{a} and --{b} are incompatible"))) } else { Ok(()) }
    };
    both("build", "no-build")?;
    both("force-recreate", "no-recreate")?;
    both("no-recreate", "renew-anon-volumes")?;
    both("always-recreate-deps", "no-recreate")?;
    if is("abort-on-container-exit") && is("abort-on-container-failure") {
        return Err(Fail::new(
            "--abort-on-container-failure cannot be combined with --abort-on-container-exit",
        ));
    }
    let attaches = is("attach-dependencies")
        || is("abort-on-container-exit")
        || is("abort-on-container-failure")
        || given.has("exit-code-from")
        || given.has("attach");
    if (is("wait") || is("detach")) && attaches {
        let name = if is("wait") { "--wait" } else { "--detach" };
        return Err(Fail::new(format!(
            "{name} cannot be combined with --abort-on-container-exit, --abort-on-container-failure, --attach, --attach-dependencies or --watch"
        )));
    }
    if given.has("attach") && is("attach-dependencies") {
        return Err(Fail::new("cannot combine --attach and --attach-dependencies"));
    }
    Ok(())
}

pub(super) fn truth(value: Option<&String>) -> bool {
    matches!(
        value.map(|v| v.to_lowercase()).as_deref(),
        Some("1" | "t" | "true" | "y" | "yes" | "on")
    )
}

/// Applies options to the project and gives how containers are made.
pub(super) fn making(project: &mut Project, given: &Given) -> Result<Making> {
    if let Some(policy) = given.text("pull").filter(|p| *p != "policy") {
        if !["always", "missing", "never", "build", "if_not_present"].contains(&policy) {
            return Err(Fail::new(format!("invalid --pull option {policy:?}")));
        }
        let policy = if policy == "if_not_present" { "missing" } else { policy };
        project.set_pull_policy(policy, OnlyBuilds::No);
    }
    if given.is("build") {
        project.set_pull_policy("build", OnlyBuilds::Yes);
    }
    for scale in given.list("scale") {
        let parsed = scale.split_once('=').and_then(|(s, n)| Some((s, n.parse::<u32>().ok()?)));
        let Some((service, wanted)) = parsed else {
            return Err(Fail::new(format!(
                "invalid --scale option {scale:?}. Should be SERVICE=NUM"
            )));
        };
        project.set_scale(service, wanted)?;
    }
    let ignore_orphans = truth(project.environment.get("COMPOSE_IGNORE_ORPHANS"));
    let remove_orphans = if given.has("remove-orphans") {
        given.is("remove-orphans")
    } else {
        truth(project.environment.get("COMPOSE_REMOVE_ORPHANS"))
    };
    if ignore_orphans && remove_orphans {
        return Err(Fail::new("cannot combine COMPOSE_IGNORE_ORPHANS and --remove-orphans"));
    }
    let recreate = if given.is("no-recreate") {
        Recreate::Never
    } else if given.is("force-recreate") || given.is("renew-anon-volumes") {
        Recreate::Force
    } else {
        Recreate::Diverged
    };
    let recreate_dependencies = if given.is("no-recreate") {
        Recreate::Never
    } else if given.is("always-recreate-deps") {
        Recreate::Force
    } else {
        Recreate::Diverged
    };
    let say = |quiet: &str| if given.is(quiet) { Say::Nothing } else { Say::All };
    Ok(Making {
        request: Request {
            services: given.words.clone(),
            recreate,
            recreate_dependencies,
            remove_orphans,
        },
        images: Wanted {
            build: !given.is("no-build"),
            pulling: say("quiet-pull"),
            building: say("quiet-build"),
        },
        ignore_orphans,
        inherit: !given.is("renew-anon-volumes"),
        timeout: given.int("timeout"),
        yes: given.is("yes"),
    })
}

fn prepared(compose: &mut Compose<'_>, given: &Given) -> Result<(Project, Making)> {
    check(given)?;
    let mut project = compose.project(&given.words)?;
    if project.service_names().is_empty() && !compose.global.is("all-resources") {
        return Err(Fail::new("no service selected"));
    }
    if given.is("no-deps") {
        project.select(&given.words, Dependencies::Ignore)?;
    }
    let making = making(&mut project, given)?;
    Ok((project, making))
}

fn create(compose: &mut Compose<'_>, given: &Given) -> Result<()> {
    let (project, making) = prepared(compose, given)?;
    compose.engine()?.create(&project, &making).map(drop)
}

fn up(compose: &mut Compose<'_>, given: &Given) -> Result<()> {
    let (project, making) = prepared(compose, given)?;
    if let Some(service) = given.text("exit-code-from") {
        project.known(&[service.to_owned()])?;
    }
    let engine = compose.engine()?;
    if given.is("no-start") {
        return engine.create(&project, &making).map(drop);
    }
    if given.is("detach") || given.is("wait") {
        let containers = engine.create(&project, &making)?;
        engine.start(&project, &containers)?;
        if given.is("wait") {
            wait(&engine, &project, &containers, given.int("wait-timeout"))?;
        }
        return Ok(());
    }
    let attached = attached(&project, given)?;
    let style = Style {
        prefix: !given.is("no-log-prefix"),
        color: !given.is("no-color"),
        timestamps: given.is("timestamps"),
    };
    let ends = super::attached::Ends {
        on_exit: given.is("abort-on-container-exit")
            || given.has("exit-code-from") && !given.is("abort-on-container-failure"),
        on_failure: given.is("abort-on-container-failure"),
        code_from: given.text("exit-code-from").map(str::to_owned),
        timeout: given.int("timeout"),
    };
    super::attached::run(engine, project, &making, &attached, style, &ends)
}

/// Services whose output is shown.
fn attached(project: &Project, given: &Given) -> Result<BTreeSet<String>> {
    let mut out: BTreeSet<String> = if given.has("attach") {
        let wanted = given.list("attach");
        let names = project.service_names();
        let unknown: Vec<&str> =
            wanted.iter().filter(|w| !names.contains(w)).map(String::as_str).collect();
        if !unknown.is_empty() {
            return Err(Fail::new(format!(
                "cannot attach to services not included in up: {}",
                unknown.join(", ")
            )));
        }
        wanted.iter().cloned().collect()
    } else {
        let all = given.words.is_empty() || given.is("attach-dependencies");
        let names = if all { project.service_names() } else { given.words.clone() };
        names.into_iter().filter(|n| project.attaches(n)).collect()
    };
    out.retain(|n| !given.list("no-attach").contains(n));
    Ok(out)
}

/// Waits until everything is up: running, healthy where it says so, ended where others wait for that.
fn wait(
    engine: &Engine,
    project: &Project,
    containers: &Containers,
    seconds: Option<i64>,
) -> Result<()> {
    let names = project.service_names();
    let completed: BTreeSet<String> = names
        .iter()
        .flat_map(|n| project.needs(n))
        .filter(|n| n.condition == Condition::Completed)
        .map(|n| n.service)
        .collect();
    let needs: Vec<Need> = names
        .into_iter()
        .map(|service| Need {
            condition: if completed.contains(&service) {
                Condition::Completed
            } else {
                Condition::RunningOrHealthy
            },
            service,
            restart: false,
            required: true,
        })
        .collect();
    let limit = seconds.and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0);
    let until = limit.map(|s| Instant::now() + Duration::from_secs(s));
    engine.wait_for(project, &project.name, &needs, containers, until).map_err(|fail| {
        if fail.message == TIME_IS_UP {
            let shown = base::units::go_duration(Duration::from_secs(limit.unwrap_or_default()));
            return Fail::new(format!("application not healthy after {shown}"));
        }
        fail
    })
}

/// Containers of a project by service.
pub(super) fn by_service(project: &Project, all: &[api::model::ContainerSummary]) -> Containers {
    let names = project.service_names().into_iter();
    names
        .map(|s| {
            let mine = project.containers_of(&s, all).into_iter().cloned().collect();
            (s, mine)
        })
        .collect::<BTreeMap<_, _>>()
}
