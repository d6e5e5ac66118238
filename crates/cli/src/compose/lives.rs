//! `compose start`, `stop`, `restart`, `kill`, `pause`, `unpause`, `rm`, `wait`: the lives of a project's containers.

use super::{
    ANY, Compose, Sub,
    down::{confirmed, graph_of, graph_of_project},
    engine::{Engine, Volumes},
    graph::{self, Before},
    ps::service_of,
    up::by_service,
};
use crate::{
    client::Query,
    error::{Fail, Result},
    flags::{Flag, Given, Kind, Words, flag, short},
    http::Send,
};
use api::model::{ContainerSummary, WaitReply};
use compose::{Dependencies, Moment, Project};
use std::io::Write;

const TIMEOUT: Flag = short('t', "timeout", Kind::Int, "Specify a shutdown timeout in seconds");

macro_rules! sub {
    ($name:ident, $word:literal, $about:literal, $flags:expr, $run:expr) => {
        pub(super) const $name: Sub = Sub {
            name: $word,
            usage: " [OPTIONS] [SERVICE...]",
            about: $about,
            words: Words::Anywhere,
            count: ANY,
            flags: &[$flags],
            run: $run,
        };
    };
}

sub!(START, "start", "Start services", &[], start);
sub!(STOP, "stop", "Stop services", &[TIMEOUT], stop);
sub!(
    RESTART,
    "restart",
    "Restart service containers",
    &[flag("no-deps", Kind::Bool, "Don't restart dependent services"), TIMEOUT],
    restart
);
sub!(
    KILL,
    "kill",
    "Force stop service containers",
    &[
        flag(
            "remove-orphans",
            Kind::Bool,
            "Remove containers for services not defined in the Compose file"
        ),
        short('s', "signal", Kind::Text, "SIGNAL to send to the container (default \"SIGKILL\")"),
    ],
    kill
);
sub!(PAUSE, "pause", "Pause services", &[], pause);
sub!(UNPAUSE, "unpause", "Unpause services", &[], unpause);
sub!(
    RM,
    "rm",
    "Removes stopped service containers",
    &[
        short('f', "force", Kind::Bool, "Don't ask to confirm removal"),
        short('s', "stop", Kind::Bool, "Stop the containers, if required, before removing"),
        short('v', "volumes", Kind::Bool, "Remove any anonymous volumes attached to containers"),
    ],
    rm
);
sub!(
    WAIT,
    "wait",
    "Block until containers of all (or specified) services stop",
    &[flag("down-project", Kind::Bool, "Drops project when the first container stops")],
    wait
);

/// A project's containers, those of the services that were named, and the graph between them.
struct Target {
    project: Option<Project>,
    before: Before,
    containers: Vec<ContainerSummary>,
}

fn target(compose: &mut Compose<'_>, engine: &Engine, services: &[String]) -> Result<Target> {
    let (project, name) = compose.project_or_name(&[])?;
    if let Some(project) = &project {
        project.known(services)?;
    }
    let mut containers = engine.containers(&name)?;
    containers.retain(compose::is_regular);
    let mut before = match &project {
        Some(project) => graph_of_project(project),
        None => graph_of(&containers),
    };
    if project.is_none()
        && let Some(missing) = services.iter().find(|s| !before.contains_key(*s))
    {
        return Err(Fail::new(format!("no such service: {missing}")));
    }
    if !services.is_empty() {
        before.retain(|s, _| services.contains(s));
    }
    containers.retain(|c| before.contains_key(service_of(c)));
    Ok(Target { project, before, containers })
}

impl Target {
    fn of<'a>(&'a self, service: &str) -> Vec<&'a ContainerSummary> {
        self.containers.iter().filter(|c| service_of(c) == service).collect()
    }
}

fn start(compose: &mut Compose<'_>, given: &Given) -> Result<()> {
    let engine = compose.engine()?;
    let found = target(compose, &engine, &given.words)?;
    if let Some(mut project) = found.project {
        if !given.words.is_empty() {
            project.select(&given.words, Dependencies::Follow)?;
        }
        let all = engine.containers(&project.name)?;
        return engine.start(&project, &by_service(&project, &all));
    }
    graph::in_order(&found.before, engine.most, |service| {
        let mine: Vec<&ContainerSummary> =
            found.containers.iter().filter(|c| service_of(c) == service).collect();
        engine.each(&mine, |c| post(&engine, c, "start", &Query::new(), ("Starting", "Started")))
    })
}

fn post(
    engine: &Engine,
    container: &ContainerSummary,
    what: &str,
    query: &Query,
    (doing, done): (&str, &str),
) -> Result<()> {
    let subject = format!("Container {}", compose::name_of(container));
    engine.progress.say(&subject, doing);
    engine.client.post(&format!("/containers/{}/{what}", container.id), query)?;
    engine.progress.say(&subject, done);
    Ok(())
}

fn stop(compose: &mut Compose<'_>, given: &Given) -> Result<()> {
    let engine = compose.engine()?;
    let found = target(compose, &engine, &given.words)?;
    let timeout = given.int("timeout");
    graph::in_order(&graph::reversed(&found.before), engine.most, |service| {
        engine.each(&found.of(service), |c| {
            engine.stop_with_hooks(found.project.as_ref(), service, c, timeout)
        })
    })
}

fn restart(compose: &mut Compose<'_>, given: &Given) -> Result<()> {
    let engine = compose.engine()?;
    let mut services = given.words.clone();
    let (project, _) = compose.project_or_name(&[])?;
    if let Some(project) = &project
        && !services.is_empty()
        && !given.is("no-deps")
    {
        // With those that start again when these do.
        project.known(&services)?;
        loop {
            let restarts = |s: &String| {
                project.needs(s).iter().any(|n| n.restart && services.contains(&n.service))
            };
            let more: Vec<String> = project
                .service_names()
                .into_iter()
                .filter(|s| !services.contains(s) && restarts(s))
                .collect();
            if more.is_empty() {
                break;
            }
            services.extend(more);
        }
    }
    let found = target(compose, &engine, &services)?;
    let query = Query::new().int("t", given.int("timeout"));
    let mut before = found.before.clone();
    if let Some(project) = &found.project {
        for (service, needs) in &mut before {
            let restarting = project.needs(service);
            needs.retain(|n| restarting.iter().any(|r| r.restart && r.service == *n));
        }
    }
    graph::in_order(&before, engine.most, |service| {
        let hooks =
            |moment| found.project.as_ref().map(|p| p.hooks(service, moment)).unwrap_or_default();
        engine.each(&found.of(service), |c| {
            if c.state == "running" {
                for hook in hooks(Moment::PreStop) {
                    engine.hook(service, &c.id, &hook)?;
                }
            }
            post(&engine, c, "restart", &query, ("Restarting", "Started"))?;
            for hook in hooks(Moment::PostStart) {
                engine.hook(service, &c.id, &hook)?;
            }
            Ok(())
        })
    })
}

fn kill(compose: &mut Compose<'_>, given: &Given) -> Result<()> {
    let engine = compose.engine()?;
    let found = target(compose, &engine, &given.words)?;
    let query = Query::new().text("signal", given.text("signal").unwrap_or("SIGKILL"));
    let running: Vec<&ContainerSummary> =
        found.containers.iter().filter(|c| c.state == "running").collect();
    if running.is_empty() {
        writeln!(compose.ui.err, "no container to kill")?;
    }
    engine.each(&running, |c| post(&engine, c, "kill", &query, ("Killing", "Killed")))?;
    if given.is("remove-orphans")
        && let Some(project) = &found.project
    {
        let all = engine.containers(&project.name)?;
        engine.each(&project.orphans(&all), |c| engine.remove(c, Volumes::Keep, true))?;
    }
    Ok(())
}

fn pause(compose: &mut Compose<'_>, given: &Given) -> Result<()> {
    let engine = compose.engine()?;
    let found = target(compose, &engine, &given.words)?;
    let all: Vec<_> = found.containers.iter().filter(|c| c.state == "running").collect();
    engine.each(&all, |c| post(&engine, c, "pause", &Query::new(), ("Pausing", "Paused")))
}

fn unpause(compose: &mut Compose<'_>, given: &Given) -> Result<()> {
    let engine = compose.engine()?;
    let found = target(compose, &engine, &given.words)?;
    let all: Vec<_> = found.containers.iter().filter(|c| c.state == "paused").collect();
    engine.each(&all, |c| post(&engine, c, "unpause", &Query::new(), ("Unpausing", "Unpaused")))
}

fn rm(compose: &mut Compose<'_>, given: &Given) -> Result<()> {
    let engine = compose.engine()?;
    let found = target(compose, &engine, &given.words)?;
    if given.is("stop") {
        graph::in_order(&graph::reversed(&found.before), engine.most, |service| {
            engine.each(&found.of(service), |c| engine.stop(c, None))
        })?;
    }
    let gone = |c: &&ContainerSummary| {
        given.is("stop") || !matches!(c.state.as_str(), "running" | "paused" | "restarting")
    };
    let stopped: Vec<&ContainerSummary> = found.containers.iter().filter(gone).collect();
    if stopped.is_empty() {
        return Ok(writeln!(compose.ui.err, "No stopped containers")?);
    }
    let names: Vec<&str> = stopped.iter().map(|c| compose::name_of(c)).collect();
    let question = format!("Going to remove {}", names.join(", "));
    if given.is("force") {
        writeln!(compose.ui.out, "{question}")?;
        compose.ui.out.flush()?;
    }
    if !confirmed(given.is("force"), &question)? {
        return Ok(());
    }
    let volumes = if given.is("volumes") { Volumes::Remove } else { Volumes::Keep };
    engine.each(&stopped, |c| engine.remove(c, volumes, given.is("force")))
}

fn wait(compose: &mut Compose<'_>, given: &Given) -> Result<()> {
    let engine = compose.engine()?;
    if given.is("down-project") {
        return Err(Fail::new("--down-project is not supported; run `down` afterwards"));
    }
    let found = target(compose, &engine, &given.words)?;
    if found.containers.is_empty() {
        return Err(Fail::new("no containers for project"));
    }
    let ids: Vec<String> = found.containers.iter().map(|c| c.id.clone()).collect();
    let codes = engine.gather(&ids, |id| {
        let path = format!("/containers/{id}/wait");
        let mut answer = engine.client.send("POST", &path, &Query::new(), &[], Send::Nothing)?;
        let end: WaitReply = serde_json::from_slice(&answer.body.read_all(1 << 20)?)
            .map_err(|e| Fail::new(format!("cannot read the daemon's answer: {e}")))?;
        Ok(Some(end.status_code))
    })?;
    let mut worst = 0;
    for container in &found.containers {
        let code = codes.get(&container.id).copied().unwrap_or_default();
        worst = if worst == 0 { code } else { worst };
        writeln!(
            compose.ui.out,
            "container {:?} exited with status code {code}",
            compose::name_of(container)
        )?;
    }
    compose.ui.out.flush()?;
    match i32::try_from(worst).unwrap_or(1) {
        0 => Ok(()),
        code => Err(Fail::code(code)),
    }
}
