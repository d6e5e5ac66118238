//! `compose top`, `port`, `events`, `volumes`: looks at what runs.

use super::{ANY, Compose, Sub, engine::by_labels, ps::service_of, run::one_of, start::Events};
use crate::{
    client::Query,
    commands::logs::moment,
    error::{Fail, Result},
    flags::{Flag, Given, Kind, Words, flag},
    tabwriter,
};
use api::model::Top;
use base::Timestamp;
use compose::labels;
use serde_json::json;
use std::{collections::BTreeMap, io::Write};

pub(super) const TOP: Sub = Sub {
    name: "top",
    usage: " [SERVICES...]",
    about: "Display the running processes",
    words: Words::Anywhere,
    count: ANY,
    flags: &[],
    run: top,
};

const PORT_FLAGS: &[Flag] = &[
    flag("index", Kind::Int, "Index of the container if service has multiple replicas"),
    flag("protocol", Kind::Text, "tcp or udp (default \"tcp\")"),
];

pub(super) const PORT: Sub = Sub {
    name: "port",
    usage: " [OPTIONS] SERVICE PRIVATE_PORT",
    about: "Print the public port for a port binding",
    words: Words::Anywhere,
    count: (2, 2),
    flags: &[PORT_FLAGS],
    run: port,
};

const EVENTS_FLAGS: &[Flag] = &[
    flag("json", Kind::Bool, "Output events as a stream of json objects"),
    flag("since", Kind::Text, "Show all events created since timestamp"),
    flag("until", Kind::Text, "Stream events until this timestamp"),
];

pub(super) const EVENTS: Sub = Sub {
    name: "events",
    usage: " [OPTIONS] [SERVICE...]",
    about: "Receive real time events from containers",
    words: Words::Anywhere,
    count: ANY,
    flags: &[EVENTS_FLAGS],
    run: events,
};

fn top(compose: &mut Compose<'_>, given: &Given) -> Result<()> {
    let (_, name) = compose.project_or_name(&[])?;
    let engine = compose.engine()?;
    let mut list = engine.containers(&name)?;
    list.retain(|c| {
        c.state == "running"
            && (given.words.is_empty() || given.words.iter().any(|w| w == service_of(c)))
    });
    let ids: Vec<String> = list.iter().map(|c| c.id.clone()).collect();
    let tops: BTreeMap<String, Top> = engine.gather(&ids, |id| {
        Ok(Some(engine.client.get(&format!("/containers/{id}/top"), &Query::new())?))
    })?;
    let mut columns: Vec<String> = Vec::new();
    for title in tops.values().flat_map(|t| &t.titles) {
        if !columns.contains(title) {
            columns.push(title.clone());
        }
    }
    // Commands are long: they come last.
    if let Some(at) = columns.iter().position(|c| c == "CMD") {
        let command = columns.remove(at);
        columns.push(command);
    }
    let mut lines = format!("SERVICE\t#\t{}\n", columns.join("\t"));
    for container in &list {
        let Some(top) = tops.get(&container.id) else { continue };
        for process in &top.processes {
            let cell = |column: &String| {
                let at = top.titles.iter().position(|t| t == column);
                at.and_then(|at| process.get(at)).map_or("-", String::as_str)
            };
            let cells: Vec<&str> = columns.iter().map(cell).collect();
            let number = compose::number_of(container);
            lines.push_str(&format!("{}\t{number}\t{}\n", service_of(container), cells.join("\t")));
        }
    }
    if lines.lines().count() < 2 {
        return Ok(());
    }
    Ok(compose.ui.out.write_all(tabwriter::align_at_least(4, &lines).as_bytes())?)
}

fn port(compose: &mut Compose<'_>, given: &Given) -> Result<()> {
    let (_, name) = compose.project_or_name(&[])?;
    let (service, wanted) = (&given.words[0], &given.words[1]);
    let protocol = given.text("protocol").unwrap_or("tcp").to_lowercase();
    let number: u16 = wanted.parse().map_err(|_| Fail::new(format!("invalid port {wanted:?}")))?;
    let engine = compose.engine()?;
    let container = one_of(&engine, &name, service, given.int("index"))?;
    let found = container
        .ports
        .iter()
        .find(|p| p.private_port == number && p.r#type == protocol && p.public_port != 0);
    match found {
        Some(port) if port.ip.contains(':') => {
            Ok(writeln!(compose.ui.out, "[{}]:{}", port.ip, port.public_port)?)
        }
        Some(port) => Ok(writeln!(compose.ui.out, "{}:{}", port.ip, port.public_port)?),
        None => {
            let all: Vec<String> =
                container.ports.iter().map(|p| format!("{}/{}", p.public_port, p.r#type)).collect();
            Err(Fail::new(format!(
                "no port {number}/{protocol} for container {}: {}",
                compose::name_of(&container),
                all.join(", ")
            )))
        }
    }
}

fn events(compose: &mut Compose<'_>, given: &Given) -> Result<()> {
    let (_, name) = compose.project_or_name(&[])?;
    let engine = compose.engine()?;
    let mut filters = by_labels(&[format!("{}={name}", labels::PROJECT)]);
    filters.insert("type".into(), BTreeMap::from([("container".to_owned(), true)]));
    let query = Query::new()
        .text("since", &moment(given.text("since"), "since")?)
        .text("until", &moment(given.text("until"), "until")?)
        .filters(&filters);
    let mut stream = Events::open(&engine, query)?;
    while let Some(event) = stream.next(None)? {
        let label =
            |name: &str| event.actor.attributes.get(name).map(String::as_str).unwrap_or_default();
        let service = label(labels::SERVICE);
        if label(labels::ONE_OFF) == "True"
            || !given.words.is_empty() && !given.words.iter().any(|w| w == service)
        {
            continue;
        }
        let rest: BTreeMap<&String, &String> = event
            .actor
            .attributes
            .iter()
            .filter(|(k, _)| !k.starts_with("com.docker.compose."))
            .collect();
        let nanos = u32::try_from(event.time_nano.rem_euclid(1_000_000_000)).unwrap_or_default();
        let time = Timestamp::from_unix(event.time, nanos);
        if given.is("json") {
            let line = json!({
                "action": event.action,
                "attributes": rest,
                "id": event.actor.id,
                "service": service,
                "time": time.fixed_nano(),
                "type": "container",
            });
            writeln!(compose.ui.out, "{line}")?;
        } else {
            let text = time.fixed_nano();
            let pairs: Vec<String> = rest.iter().map(|(k, v)| format!("{k}={v}")).collect();
            writeln!(
                compose.ui.out,
                "{} {} container {} {} ({})",
                &text[..10],
                &text[11..26],
                event.action,
                event.actor.id,
                pairs.join(", ")
            )?;
        }
        compose.ui.out.flush()?;
    }
    Ok(())
}
