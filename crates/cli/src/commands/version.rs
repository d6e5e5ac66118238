//! `version`: who speaks with whom.

use super::inspect;
use crate::{
    client::{API_VERSION, Query},
    command::{Command, Count},
    error::Result,
    flags::{Given, Kind, Words, short},
    format::INSPECT_FORMAT_HELP,
    ui::Ui,
};
use api::model::Version;
use serde_json::{Value, json};
use std::io::Write;

pub(crate) const VERSION: Command = Command {
    names: &["version"],
    usage: "",
    about: "Show the version information",
    count: Count::None,
    words: Words::Anywhere,
    flags: &[&[short('f', "format", Kind::Text, INSPECT_FORMAT_HELP)]],
    run,
};

/// Machine names as Go has them.
pub(super) fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let server = ui.client().and_then(|client| {
        Ok((client.version(), client.get::<Version>("/version", &Query::new())?))
    });
    let newest = format!("{}.{}", API_VERSION.0, API_VERSION.1);
    let (spoken, engine, failed) = match server {
        Ok((spoken, engine)) => (spoken, Some(engine), None),
        Err(fail) => (newest.clone(), None, Some(fail)),
    };
    let format = given.text_or_empty("format");
    if format.is_empty() {
        client_text(ui, &spoken, &newest)?;
        if let Some(engine) = &engine {
            server_text(ui, engine)?;
        }
    } else {
        let value = value(&spoken, &newest, engine.as_ref());
        let plain = format == "json";
        if plain {
            writeln!(ui.out, "{value}")?;
        } else {
            inspect::print(ui, &format, &[go_names(value)])?;
        }
    }
    failed.map_or(Ok(()), Err)
}

fn client_text(ui: &mut Ui, spoken: &str, newest: &str) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    writeln!(ui.out, "Client: Gantry\n Version:           {version}")?;
    let note =
        if spoken == newest { String::new() } else { format!(" (downgraded from {newest})") };
    writeln!(ui.out, " API version:       {spoken}{note}")?;
    writeln!(ui.out, " OS/Arch:           linux/{}", arch())?;
    Ok(writeln!(ui.out, " Context:           default")?)
}

fn server_text(ui: &mut Ui, engine: &Version) -> Result<()> {
    writeln!(ui.out, "\nServer: {}", engine.platform.name)?;
    let pairs: Vec<(&str, String)> = vec![
        ("Version", engine.version.clone()),
        (
            "API version",
            format!("{} (minimum version {})", engine.api_version, engine.min_api_version),
        ),
        ("Go version", engine.go_version.clone()),
        ("Git commit", engine.git_commit.clone()),
        ("Built", engine.build_time.clone()),
        ("OS/Arch", format!("{}/{}", engine.os, engine.arch)),
        ("Experimental", engine.experimental.to_string()),
    ];
    writeln!(ui.out, " Engine:")?;
    for (name, text) in pairs.iter().filter(|(_, text)| !text.is_empty()) {
        writeln!(ui.out, "  {:<17} {text}", format!("{name}:"))?;
    }
    for part in engine.components.iter().filter(|c| c.name != "Engine") {
        writeln!(ui.out, " {}:\n  {:<17} {}", part.name, "Version:", part.version)?;
        for (name, text) in &part.details {
            writeln!(ui.out, "  {:<17} {text}", format!("{name}:"))?;
        }
    }
    Ok(())
}

fn value(spoken: &str, newest: &str, engine: Option<&Version>) -> Value {
    json!({
        "Client": {
            "Platform": {"Name": "Gantry"},
            "Version": env!("CARGO_PKG_VERSION"),
            "ApiVersion": spoken,
            "DefaultAPIVersion": newest,
            "GitCommit": "",
            "GoVersion": "",
            "Os": "linux",
            "Arch": arch(),
            "BuildTime": "",
            "Context": "default",
        },
        "Server": engine.and_then(|e| serde_json::to_value(e).ok()),
    })
}

/// Templates use Go's field names beside those of the wire.
fn go_names(mut value: Value) -> Value {
    for side in ["Client", "Server"] {
        if let Some(fields) = value[side].as_object_mut() {
            for (go, wire) in [("APIVersion", "ApiVersion"), ("MinAPIVersion", "MinAPIVersion")] {
                if let Some(text) = fields.get(wire).cloned() {
                    fields.insert(go.into(), text);
                }
            }
        }
    }
    value
}
