//! `inspect`: everything about containers, images, volumes and networks.

use crate::{
    client::{Client, Query, part},
    command::{Command, Count},
    error::{Fail, Result},
    flags::{Flag, Given, Kind, Words, flag, short},
    format::INSPECT_FORMAT_HELP,
    template::{self, Template},
    ui::Ui,
};
use serde_json::Value;
use std::io::Write;

const FORMAT: Flag = short('f', "format", Kind::Text, INSPECT_FORMAT_HELP);
const SIZE: Flag =
    short('s', "size", Kind::Bool, "Display total file sizes if the type is container");

pub(crate) const INSPECT: Command = Command {
    names: &["inspect"],
    usage: "NAME|ID [NAME|ID...]",
    about: "Return low-level information on Docker objects",
    count: Count::AtLeast(1),
    words: Words::Anywhere,
    flags: &[&[FORMAT, SIZE, flag("type", Kind::Text, "Only inspect objects of the given type")]],
    run: |ui, given| {
        let wanted = given.text_or_empty("type");
        if !wanted.is_empty() && !KINDS.iter().any(|k| k.name == wanted) {
            let known: Vec<String> = KINDS.iter().map(|k| format!("{:?}", k.name)).collect();
            let known = known.join(", ");
            return Err(Fail::new(format!("unknown type: {wanted:?}: must be one of {known}")));
        }
        run(ui, given, &wanted)
    },
};

pub(crate) const CONTAINER_INSPECT: Command = Command {
    names: &["container inspect"],
    usage: "CONTAINER [CONTAINER...]",
    about: "Display detailed information on one or more containers",
    count: Count::AtLeast(1),
    words: Words::Anywhere,
    flags: &[&[FORMAT, short('s', "size", Kind::Bool, "Display total file sizes")]],
    run: |ui, given| run(ui, given, "container"),
};

pub(crate) const IMAGE_INSPECT: Command = Command {
    names: &["image inspect"],
    usage: "IMAGE [IMAGE...]",
    about: "Display detailed information on one or more images",
    count: Count::AtLeast(1),
    words: Words::Anywhere,
    flags: &[&[FORMAT]],
    run: |ui, given| run(ui, given, "image"),
};

pub(crate) const VOLUME_INSPECT: Command = Command {
    names: &["volume inspect"],
    usage: "VOLUME [VOLUME...]",
    about: "Display detailed information on one or more volumes",
    count: Count::AtLeast(1),
    words: Words::Anywhere,
    flags: &[&[FORMAT]],
    run: |ui, given| run(ui, given, "volume"),
};

pub(crate) const NETWORK_INSPECT: Command = Command {
    names: &["network inspect"],
    usage: "NETWORK [NETWORK...]",
    about: "Display detailed information on one or more networks",
    count: Count::AtLeast(1),
    words: Words::Anywhere,
    flags: &[&[FORMAT, short('v', "verbose", Kind::Bool, "Verbose output for diagnostics")]],
    run: |ui, given| run(ui, given, "network"),
};

/// What can be inspected, in the order of looking.
struct Of {
    name: &'static str,
    path: fn(&str) -> String,
}

const KINDS: &[Of] = &[
    Of { name: "container", path: |name| format!("/containers/{name}/json") },
    Of { name: "image", path: |name| format!("/images/{name}/json") },
    Of { name: "network", path: |name| format!("/networks/{name}") },
    Of { name: "volume", path: |name| format!("/volumes/{name}") },
];

fn run(ui: &mut Ui, given: &Given, wanted: &str) -> Result<()> {
    // What Docker has no word for (origin, use, owners) comes only to those who ask.
    let query = Query::new()
        .flag("size", given.is("size"))
        .flag("verbose", given.is("verbose"))
        .flag("gantry", ui.program == "gantry");
    let mut found = Vec::new();
    let mut failed = Vec::new();
    for name in &given.words {
        match find(ui.client()?, name, wanted, &query) {
            Ok(value) => found.push(value),
            Err(fail) => failed.push(fail.message),
        }
    }
    print(ui, given.text("format").unwrap_or_default(), &found)?;
    ui.out.flush()?;
    if failed.is_empty() { Ok(()) } else { Err(Fail::new(failed.join("\n"))) }
}

fn find(client: &Client, name: &str, wanted: &str, query: &Query) -> Result<Value> {
    for kind in KINDS.iter().filter(|k| wanted.is_empty() || k.name == wanted) {
        match client.get_value(&(kind.path)(&part(name)), query) {
            Ok(value) => return Ok(value),
            Err(err) if err.is_missing() && wanted.is_empty() => {}
            Err(err) => return Err(err.into()),
        }
    }
    Err(Fail::new(format!("Error: No such object: {name}")))
}

/// The objects as JSON, or each through a template.
pub(super) fn print(ui: &mut Ui, format: &str, found: &[Value]) -> Result<()> {
    match format {
        "" => {
            let mut text = Vec::new();
            let style = serde_json::ser::PrettyFormatter::with_indent(b"    ");
            let mut writer = serde_json::Serializer::with_formatter(&mut text, style);
            serde::Serialize::serialize(found, &mut writer)
                .map_err(|e| Fail::new(e.to_string()))?;
            ui.out.write_all(&text)?;
            writeln!(ui.out)?;
        }
        "json" => writeln!(ui.out, "{}", Value::Array(found.to_vec()))?,
        _ => {
            let template = Template::parse(format, found).map_err(|e| {
                Fail::new(format!("template parsing error: {}", e.message)).with_code(64)
            })?;
            for value in found {
                writeln!(ui.out, "{}", template.render(&template::value(value))?)?;
            }
        }
    }
    Ok(())
}
