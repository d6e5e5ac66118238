//! `events`: what happens in the engine.

use super::logs::moment;
use crate::{
    client::Query,
    command::{Command, Count},
    error::{Fail, Result},
    flags::{Flag, Given, Kind, Words, flag, short},
    format::INSPECT_FORMAT_HELP,
    options::values,
    template::{self, Template},
    ui::Ui,
};
use api::model::EventMessage;
use base::Timestamp;
use std::io::{BufRead, BufReader, Read, Write};

const FLAGS: &[Flag] = &[
    short('f', "filter", Kind::Named("filter"), "Filter output based on conditions provided"),
    flag("format", Kind::Text, INSPECT_FORMAT_HELP),
    flag("since", Kind::Text, "Show all events created since timestamp"),
    flag("until", Kind::Text, "Stream events until this timestamp"),
];

pub(crate) const EVENTS: Command = Command {
    names: &["events", "system events"],
    usage: "",
    about: "Get real time events from the server",
    count: Count::None,
    words: Words::Anywhere,
    flags: &[FLAGS],
    run,
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    const LONGEST: u64 = 64 << 20;
    let format = given.text_or_empty("format");
    let query = Query::new()
        .text("since", &moment(given.text("since"), "")?)
        .text("until", &moment(given.text("until"), "")?)
        .filters(&values::filters(given.list("filter"))?);
    let answer = ui.client()?.get_stream("/events", &query)?;
    let mut reader = BufReader::new(answer.body);
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.by_ref().take(LONGEST).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let event: EventMessage = serde_json::from_slice(&line)
            .map_err(|e| Fail::new(format!("cannot read the daemon's answer: {e}")))?;
        let text = match format.as_str() {
            "" => plain(&event),
            "json" => json(&event)?.to_string(),
            template => by_template(template, &event)?,
        };
        writeln!(ui.out, "{text}")?;
        ui.out.flush()?;
    }
}

fn plain(event: &EventMessage) -> String {
    let at = Timestamp::from_unix_nanos(event.time_nano.into()).fixed_nano();
    let mut text = format!("{at} {} {} {}", event.r#type, event.action, event.actor.id);
    let attributes: Vec<String> =
        event.actor.attributes.iter().map(|(k, v)| format!("{k}={v}")).collect();
    if !attributes.is_empty() {
        text.push_str(&format!(" ({})", attributes.join(", ")));
    }
    text
}

fn json(event: &EventMessage) -> Result<serde_json::Value> {
    serde_json::to_value(event).map_err(|e| Fail::new(e.to_string()))
}

fn by_template(template: &str, event: &EventMessage) -> Result<String> {
    let object = json(event)?;
    let mut fields = object.clone();
    // Templates use Go's field names, the wire has others.
    for (go, wire) in [
        ("Status", "status"),
        ("ID", "id"),
        ("From", "from"),
        ("Scope", "scope"),
        ("Time", "time"),
        ("TimeNano", "timeNano"),
    ] {
        fields[go] = fields.get(wire).cloned().unwrap_or_else(|| "".into());
    }
    let template = Template::parse(template, &[object])?;
    template.render(&template::value(&fields))
}
