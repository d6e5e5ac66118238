//! `compose exec` and `run`: a command in a container of a service, or in one of its own.

use super::{
    Compose, Sub,
    create::Making,
    engine::Engine,
    images::{Say, Wanted},
    ps::service_of,
    up::{by_service, truth},
};
use crate::{
    attach::{Signals, Watch},
    client::Query,
    commands::{
        exec::execute,
        run::{check_terminal, stay},
    },
    error::{Fail, Result},
    flags::{Flag, Given, Kind, Words, flag, hidden, short},
    options::environment,
    term,
};
use api::model::{ContainerSummary, ExecConfig};
use compose::{Dependencies, Observed, OneOff, OnlyBuilds, Project, Request, labels};
use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
};

const EXEC_FLAGS: &[Flag] = &[
    short('d', "detach", Kind::Bool, "Detached mode: Run command in the background"),
    short('e', "env", Kind::List, "Set environment variables"),
    flag("index", Kind::Int, "Index of the container if service has multiple replicas"),
    short('i', "interactive", Kind::Bool, "Keep STDIN open even if not attached (default true)"),
    short(
        'T',
        "no-tty",
        Kind::Bool,
        "Disable pseudo-TTY allocation. By default 'docker compose exec' allocates a TTY.",
    ),
    flag("privileged", Kind::Bool, "Give extended privileges to the process"),
    short('u', "user", Kind::Text, "Run the command as this user"),
    short('w', "workdir", Kind::Text, "Path to workdir directory for this command"),
    hidden("no-TTY", Kind::Bool),
    short('t', "tty", Kind::Bool, "Allocate a pseudo-TTY"),
];

pub(super) const EXEC: Sub = Sub {
    name: "exec",
    usage: " [OPTIONS] SERVICE COMMAND [ARGS...]",
    about: "Execute a command in a running container",
    words: Words::EndOptions,
    count: (2, usize::MAX),
    flags: &[EXEC_FLAGS],
    run: exec,
};

const RUN_FLAGS: &[Flag] = &[
    flag("build", Kind::Bool, "Build image before starting container"),
    flag("cap-add", Kind::List, "Add Linux capabilities"),
    flag("cap-drop", Kind::List, "Drop Linux capabilities"),
    short('d', "detach", Kind::Bool, "Run container in background and print container ID"),
    flag("entrypoint", Kind::Text, "Override the entrypoint of the image"),
    short('e', "env", Kind::List, "Set environment variables"),
    flag("env-from-file", Kind::List, "Set environment variables from file"),
    short('i', "interactive", Kind::Bool, "Keep STDIN open even if not attached (default true)"),
    short('l', "label", Kind::List, "Add or override a label"),
    flag("name", Kind::Text, "Assign a name to the container"),
    short('T', "no-TTY", Kind::Bool, "Disable pseudo-TTY allocation (default: auto-detected)"),
    flag("no-deps", Kind::Bool, "Don't start linked services"),
    short('p', "publish", Kind::List, "Publish a container's port(s) to the host"),
    flag("pull", Kind::Text, "Pull image before running (\"always\"|\"missing\"|\"never\")"),
    short('q', "quiet", Kind::Bool, "Don't print anything to STDOUT"),
    flag("quiet-build", Kind::Bool, "Suppress progress output from the build process"),
    flag("quiet-pull", Kind::Bool, "Pull without printing progress information"),
    flag(
        "remove-orphans",
        Kind::Bool,
        "Remove containers for services not defined in the Compose file",
    ),
    flag("rm", Kind::Bool, "Automatically remove the container when it exits"),
    short(
        'P',
        "service-ports",
        Kind::Bool,
        "Run command with all service's ports enabled and mapped to the host",
    ),
    flag(
        "use-aliases",
        Kind::Bool,
        "Use the service's network useAliases in the network(s) the container connects to",
    ),
    short('u', "user", Kind::Text, "Run as specified username or uid"),
    short('v', "volume", Kind::List, "Bind mount a volume"),
    short('w', "workdir", Kind::Text, "Working directory inside the container"),
    hidden("no-tty", Kind::Bool),
    short('t', "tty", Kind::Bool, "Allocate a pseudo-TTY"),
];

pub(super) const RUN: Sub = Sub {
    name: "run",
    usage: " [OPTIONS] SERVICE [COMMAND] [ARGS...]",
    about: "Run a one-off command on a service",
    words: Words::EndOptions,
    count: (1, usize::MAX),
    flags: &[RUN_FLAGS],
    run,
};

/// The container of a service that a command is for: of this number, else the first.
pub(super) fn one_of(
    engine: &Engine,
    project: &str,
    service: &str,
    index: Option<i64>,
) -> Result<ContainerSummary> {
    let mut list = engine.containers(project)?;
    list.retain(|c| {
        service_of(c) == service
            && compose::is_regular(c)
            && matches!(c.state.as_str(), "running" | "paused" | "restarting")
            && index.is_none_or(|i| i == i64::from(compose::number_of(c)))
    });
    list.sort_by_key(compose::number_of);
    list.into_iter().next().ok_or_else(|| match index {
        Some(index) => Fail::new(format!("service {service:?} is not running container #{index}")),
        None => Fail::new(format!("service {service:?} is not running")),
    })
}

/// Whether a terminal is asked for: by default where we have one.
fn wants_tty(given: &Given) -> Result<bool> {
    let off = given.is("no-tty") || given.is("no-TTY");
    if given.has("tty") {
        if off {
            return Err(Fail::new("--tty and --no-TTY can't be used together"));
        }
        return Ok(given.is("tty"));
    }
    Ok(!off && std::io::stdout().is_terminal() && std::io::stdin().is_terminal())
}

fn exec(compose: &mut Compose<'_>, given: &Given) -> Result<()> {
    let (project, name) = compose.project_or_name(&[])?;
    let service = &given.words[0];
    let engine = compose.engine()?;
    let container = one_of(&engine, &name, service, given.int("index"))?;
    let detach = given.is("detach");
    let tty = !detach && wants_tty(given)?;
    let stdin = !detach && given.is_or("interactive", true);
    check_terminal(stdin, tty)?;
    let lookup = |variable: &str| {
        let known = project.as_ref().and_then(|p| p.environment.get(variable).cloned());
        known.or_else(|| std::env::var(variable).ok())
    };
    let variables = given.list("env").iter().filter_map(|e| {
        if e.contains('=') { Some(e.clone()) } else { lookup(e).map(|v| format!("{e}={v}")) }
    });
    let config = ExecConfig {
        user: given.text_or_empty("user"),
        privileged: given.is("privileged"),
        tty,
        console_size: tty.then(term::size).map(|(rows, columns)| [rows.into(), columns.into()]),
        attach_stdin: stdin,
        attach_stdout: !detach,
        attach_stderr: !detach,
        detach,
        detach_keys: compose.ui.config.detach_keys.clone(),
        env: Some(variables.collect()),
        working_dir: given.text_or_empty("workdir"),
        cmd: Some(given.words[1..].to_vec()),
    };
    execute(&engine.client, &container.id, &config)
}

fn one_off(project: &Project, given: &Given, name: String) -> Result<OneOff> {
    let mut variables = BTreeMap::new();
    for pair in environment::variables(given.list("env-from-file"), &[])? {
        if let Some((key, value)) = pair.split_once('=') {
            variables.insert(key.to_owned(), value.to_owned());
        }
    }
    for pair in given.list("env") {
        match pair.split_once('=') {
            Some((key, value)) => drop(variables.insert(key.to_owned(), value.to_owned())),
            None => {
                if let Some(value) = project.environment.get(pair) {
                    variables.insert(pair.clone(), value.clone());
                }
            }
        }
    }
    let mut marks = BTreeMap::new();
    for label in given.list("label") {
        let Some((key, value)) = label.split_once('=') else {
            return Err(Fail::new("label must be set as KEY=VALUE"));
        };
        marks.insert(key.to_owned(), value.to_owned());
    }
    let entrypoint = given
        .text("entrypoint")
        .map(|e| compose::words(e).ok_or_else(|| Fail::new("invalid command line string")))
        .transpose()?;
    if given.has("publish") && given.is("service-ports") {
        return Err(Fail::new("--service-ports and --publish are incompatible"));
    }
    Ok(OneOff {
        tty: wants_tty(given)?,
        interactive: given.is_or("interactive", true),
        name,
        command: given.words[1..].to_vec(),
        entrypoint,
        user: given.text_or_empty("user"),
        workdir: given.text_or_empty("workdir"),
        environment: variables,
        labels: marks,
        volumes: given.list("volume").to_vec(),
        publish: given.list("publish").to_vec(),
        service_ports: given.is("service-ports"),
        cap_add: given.list("cap-add").to_vec(),
        cap_drop: given.list("cap-drop").to_vec(),
        here: std::env::current_dir()?,
    })
}

fn run(compose: &mut Compose<'_>, given: &Given) -> Result<()> {
    let service = given.words[0].clone();
    let mut project = compose.project(std::slice::from_ref(&service))?;
    if given.is("no-deps") {
        project.select(std::slice::from_ref(&service), Dependencies::Ignore)?;
    }
    if let Some(policy) = given.text("pull").filter(|p| *p != "policy") {
        project.set_pull_policy(policy, OnlyBuilds::No);
    }
    if given.is("build") {
        project.set_pull_policy("build", OnlyBuilds::Yes);
    }
    // As ids have it.
    let slug = crate::random::hex(32)?;
    let name = given.text("name").map_or_else(
        || {
            let parts = [project.name.as_str(), service.as_str(), "run", &slug[..12]];
            parts.join(&project.separator)
        },
        str::to_owned,
    );
    let one_off = one_off(&project, given, name.clone())?;
    check_terminal(one_off.interactive && !given.is("detach"), one_off.tty)?;
    let engine = compose.engine()?;
    let say =
        |quiet: &str| if given.is(quiet) || given.is("quiet") { Say::Nothing } else { Say::All };
    let images = Wanted { build: true, pulling: say("quiet-pull"), building: say("quiet-build") };
    let needs = project.needs(&service);
    let mut others = project.clone();
    others.disable(&service);
    let making = Making {
        request: Request { remove_orphans: given.is("remove-orphans"), ..Request::default() },
        images,
        ignore_orphans: truth(project.environment.get("COMPOSE_IGNORE_ORPHANS")),
        inherit: true,
        timeout: None,
        yes: false,
    };
    // Also where nothing else is started: its networks and volumes have to be there.
    let started = engine.create_beside(&project, &others, &making)?;
    if !others.service_names().is_empty() {
        engine.start(&others, &started)?;
    }
    project.make_one_off(&service, &one_off)?;
    let mut observed: Observed = engine.observe(&project)?;
    let mut only = project.clone();
    only.select(std::slice::from_ref(&service), Dependencies::Ignore)?;
    engine.ensure_images(&only, &mut observed, images)?;
    if !given.is("no-deps") {
        engine.wait_for(
            &project,
            &service,
            &needs,
            &by_service(&project, &observed.containers),
            None,
        )?;
    }
    let first = |other: &str| {
        let all = project.containers_of(other, &observed.containers);
        all.first().map(|c| c.id.clone())
    };
    let resolved = project.resolved(&service, &first)?;
    let mut asked = engine.asked(&project, &service, None, &observed)?;
    asked.auto_remove = given.is("rm");
    asked.attach_stdin = one_off.interactive && !given.is("detach");
    asked.aliases = given.is("use-aliases");
    asked.labels.insert(labels::SLUG.to_owned(), slug);
    asked.labels.insert(labels::ONE_OFF.to_owned(), "True".to_owned());
    let made = engine.make_container(&project, &resolved, &asked, &name)?;
    engine.inject(&made.id, &project.injected(&resolved)?)?;
    if given.is("detach") {
        engine.client.post(&format!("/containers/{}/start", made.id), &Query::new())?;
        return Ok(writeln!(compose.ui.out, "{}", made.id)?);
    }
    let mut body = project.body(&resolved, &asked)?;
    if body.config.tty {
        let (rows, columns) = term::size();
        body.host_config.console_size = [rows.into(), columns.into()];
    }
    let keys = compose.ui.config.detach_keys.clone();
    let watch = Watch::begin(Signals::Forward)?;
    stay(compose.ui, &made.id, (&body.config, &body.host_config), &keys, &watch)
}
