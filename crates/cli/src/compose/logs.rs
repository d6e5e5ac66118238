//! `compose logs`: what a project's containers have written, side by side.

use super::{
    ANY, Compose, Sub,
    engine::Engine,
    output::{Printer, Style, short_name},
    ps::service_of,
    start::Events,
};
use crate::{
    client::Query,
    commands::logs::moment,
    error::{Fail, Result},
    flags::{Flag, Given, Kind, Words, flag, short},
};
use api::model::ContainerSummary;
use std::{
    collections::BTreeSet,
    sync::{Arc, mpsc},
};

const FLAGS: &[Flag] = &[
    short('f', "follow", Kind::Bool, "Follow log output"),
    flag("index", Kind::Int, "index of the container if service has multiple replicas"),
    flag("no-color", Kind::Bool, "Produce monochrome output"),
    flag("no-log-prefix", Kind::Bool, "Don't print prefix in logs"),
    flag(
        "since",
        Kind::Text,
        "Show logs since timestamp (e.g. 2013-01-02T13:23:37Z) or relative (e.g. 42m for 42 minutes)",
    ),
    short(
        'n',
        "tail",
        Kind::Text,
        "Number of lines to show from the end of the logs for each container (default \"all\")",
    ),
    short('t', "timestamps", Kind::Bool, "Show timestamps"),
    flag(
        "until",
        Kind::Text,
        "Show logs before a timestamp (e.g. 2013-01-02T13:23:37Z) or relative (e.g. 42m for 42 minutes)",
    ),
];

pub(super) const LOGS: Sub = Sub {
    name: "logs",
    usage: " [OPTIONS] [SERVICE...]",
    about: "View output from containers",
    words: Words::Anywhere,
    count: ANY,
    flags: &[FLAGS],
    run,
};

enum News {
    Started(Box<ContainerSummary>),
    Ended(String),
    Lost(Fail),
}

fn run(compose: &mut Compose<'_>, given: &Given) -> Result<()> {
    let (project, name) = compose.project_or_name(&[])?;
    if let Some(project) = &project {
        project.known(&given.words)?;
    }
    if given.has("index") && given.words.len() != 1 {
        return Err(Fail::new("--index requires one service to be selected"));
    }
    let index = given.int("index");
    let wanted = |c: &ContainerSummary| {
        (given.words.is_empty() || given.words.iter().any(|w| w == service_of(c)))
            && index.is_none_or(|i| i == i64::from(compose::number_of(c)))
    };
    let query = Query::new()
        .flag("timestamps", given.is("timestamps"))
        .text("since", &moment(given.text("since"), "since")?)
        .text("until", &moment(given.text("until"), "until")?)
        .text("tail", given.text("tail").unwrap_or("all"));
    let engine = Arc::new(compose.engine()?);
    let follows = given.is("follow");
    // Listening begins before looking.
    let events = if follows { Some(Events::of_project(&engine, &name)?) } else { None };
    let mut list = engine.containers(&name)?;
    list.retain(|c| compose::is_regular(c) && wanted(c));
    let style = Style {
        prefix: !given.is("no-log-prefix"),
        color: !given.is("no-color"),
        timestamps: false,
    };
    let names = list.iter().map(|c| short_name(c, &name));
    let printer = Arc::new(Printer::new(style, names));
    let Some(mut events) = events else {
        return engine.each(&list, |c| print(&engine, &printer, &name, c, query.clone()));
    };
    let (tell, news) = mpsc::channel();
    let mut open: BTreeSet<String> = BTreeSet::new();
    for container in list {
        open.insert(container.id.clone());
        stream(&engine, &printer, &name, container, query.clone().flag("follow", true), &tell)?;
    }
    let listening = (engine.clone(), tell.clone(), name.clone());
    std::thread::Builder::new().name("events".into()).spawn(move || {
        let (engine, tell, name) = listening;
        loop {
            let news = match events.next(None) {
                Ok(Some(event)) if event.action == "start" => {
                    let list = engine.containers(&name).unwrap_or_default();
                    match list.into_iter().find(|c| c.id == event.actor.id) {
                        Some(container) => News::Started(Box::new(container)),
                        None => continue,
                    }
                }
                Ok(Some(_)) => continue,
                Ok(None) => News::Lost(Fail::new("the engine's events ended")),
                Err(fail) => News::Lost(fail),
            };
            let last = matches!(news, News::Lost(_));
            if tell.send(news).is_err() || last {
                return;
            }
        }
    })?;
    while !open.is_empty() {
        match news.recv() {
            Ok(News::Started(container)) => {
                open.remove(&waiting(&container.id));
                if compose::is_regular(&container)
                    && wanted(&container)
                    && open.insert(container.id.clone())
                {
                    let query = Query::new()
                        .flag("follow", true)
                        .flag("timestamps", given.is("timestamps"))
                        .text("since", &container.created.to_string());
                    stream(&engine, &printer, &name, *container, query, &tell)?;
                }
            }
            // One that starts again is told by an event; until then it stays open under its own name.
            Ok(News::Ended(id)) => {
                open.remove(&id);
                if engine.inspect(&id)?.is_some_and(|c| c.state.restarting) {
                    open.insert(waiting(&id));
                }
            }
            Ok(News::Lost(fail)) => return Err(fail),
            Err(_) => break,
        }
    }
    Ok(())
}

/// A container that has ended and will start again.
fn waiting(id: &str) -> String {
    format!("{id} (restarting)")
}

fn stream(
    engine: &Arc<Engine>,
    printer: &Arc<Printer>,
    project: &str,
    container: ContainerSummary,
    query: Query,
    tell: &mpsc::Sender<News>,
) -> Result<()> {
    let (engine, printer, tell) = (engine.clone(), printer.clone(), tell.clone());
    let project = project.to_owned();
    std::thread::Builder::new().name(container.id.clone()).spawn(move || {
        let news = match print(&engine, &printer, &project, &container, query) {
            Ok(()) => News::Ended(container.id),
            Err(fail) => News::Lost(fail),
        };
        let _ = tell.send(news);
    })?;
    Ok(())
}

fn print(
    engine: &Engine,
    printer: &Printer,
    project: &str,
    container: &ContainerSummary,
    query: Query,
) -> Result<()> {
    let Some(inspected) = engine.inspect(&container.id)? else { return Ok(()) };
    let answer = engine.logs(&container.id, query)?;
    printer.stream(&short_name(container, project), inspected.config.tty, answer.body)
}
