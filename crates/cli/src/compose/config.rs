//! `compose config`: the files, merged, completed and in their long form; or parts of that.

use super::{ANY, Compose, Sub};
use crate::{
    error::{Fail, Result},
    flags::{Flag, Given, Kind, Words, flag, short},
    tabwriter,
};
use compose::{Dependencies, KeepFiles, Model, Project};
use std::{fs, io::Write};

const FLAGS: &[Flag] = &[
    flag("environment", Kind::Bool, "Print environment used for interpolation."),
    flag("format", Kind::Text, "Format the output. Values: [yaml | json]"),
    flag("hash", Kind::Text, "Print the service config hash, one per line."),
    flag("images", Kind::Bool, "Print the image names, one per line."),
    flag("models", Kind::Bool, "Print the model names, one per line."),
    flag("networks", Kind::Bool, "Print the network names, one per line."),
    flag(
        "no-consistency",
        Kind::Bool,
        "Don't check model consistency - warning: may produce invalid Compose output",
    ),
    flag("no-env-resolution", Kind::Bool, "Don't resolve service env files"),
    flag("no-interpolate", Kind::Bool, "Don't interpolate environment variables"),
    flag("no-normalize", Kind::Bool, "Don't normalize compose model"),
    flag("no-path-resolution", Kind::Bool, "Don't resolve file paths"),
    short('o', "output", Kind::Text, "Save to file (default to stdout)"),
    flag("profiles", Kind::Bool, "Print the profile names, one per line."),
    short('q', "quiet", Kind::Bool, "Only validate the configuration, don't print anything"),
    flag("services", Kind::Bool, "Print the service names, one per line."),
    flag("variables", Kind::Bool, "Print model variables and default values."),
    flag("volumes", Kind::Bool, "Print the volume names, one per line."),
];

pub(super) const CONFIG: Sub = Sub {
    name: "config",
    usage: " [OPTIONS] [SERVICE...]",
    about: "Parse, resolve and render compose file in canonical format",
    words: Words::Anywhere,
    count: ANY,
    flags: &[FLAGS],
    run,
};

fn run(compose: &mut Compose<'_>, given: &Given) -> Result<()> {
    let format = given.text("format").unwrap_or("yaml");
    if !["yaml", "json"].contains(&format) {
        return Err(Fail::new(format!("unsupported format {format:?}")));
    }
    if given.is("variables") {
        return variables(compose, given);
    }
    if given.is("no-interpolate") {
        return model(compose, given, format);
    }
    let mut options = compose.options()?;
    options.keep_paths = given.is("no-path-resolution");
    options.keep_short = given.is("no-normalize");
    options.keep_faults = given.is("no-consistency");
    let mut project = Project::load(&options)?;
    let words = &given.words;
    project.enable(words);
    project.select(words, Dependencies::Follow)?;
    if !compose.global.is("all-resources") {
        project.drop_unused();
    }
    project.resolve_label_files(KeepFiles::No)?;
    if let Some(lines) = parts(&project, given)? {
        compose.warn(&project.warnings)?;
        if !given.is("quiet") {
            for line in lines {
                writeln!(compose.ui.out, "{line}")?;
            }
        }
        return Ok(());
    }
    if !given.is("no-env-resolution") {
        project.resolve_env_files()?;
    }
    if !given.is("no-consistency") {
        project.check_container_names()?;
    }
    compose.warn(&project.warnings)?;
    let text = if format == "json" { project.json() } else { project.yaml() };
    // So that it is read back as it is.
    print(compose, given, &text.replace('$', "$$"))
}

fn print(compose: &mut Compose<'_>, given: &Given, text: &str) -> Result<()> {
    if given.is("quiet") {
        return Ok(());
    }
    match given.text("output") {
        Some(path) if !path.is_empty() => Ok(fs::write(path, text)?),
        _ => Ok(compose.ui.out.write_all(text.as_bytes())?),
    }
}

/// What was asked for instead of the whole.
fn parts(project: &Project, given: &Given) -> Result<Option<Vec<String>>> {
    Ok(Some(if given.is("services") {
        project.service_names()
    } else if given.is("volumes") {
        project.volume_names()
    } else if given.is("networks") {
        project.network_names()
    } else if given.is("models") {
        project.model_names()
    } else if let Some(list) = given.text("hash") {
        let names: Vec<String> = match list {
            "*" => Vec::new(),
            list => list.split(',').map(str::to_owned).collect(),
        };
        project.hashes(&names)?.into_iter().map(|(name, hash)| format!("{name} {hash}")).collect()
    } else if given.is("profiles") {
        project.profile_names().into_iter().collect()
    } else if given.is("images") {
        project.image_names()
    } else if given.is("environment") {
        project.environment.iter().map(|(k, v)| format!("{k}={v}")).collect()
    } else {
        return Ok(None);
    }))
}

fn model(compose: &mut Compose<'_>, given: &Given, format: &str) -> Result<()> {
    let mut options = compose.options()?;
    options.keep_variables = true;
    options.keep_paths = given.is("no-path-resolution");
    options.keep_short = given.is("no-normalize");
    let model = Model::load(&options)?;
    compose.warn(&model.warnings)?;
    if given.is("services") {
        for name in model.services() {
            writeln!(compose.ui.out, "{name}")?;
        }
        return Ok(());
    }
    let text = if format == "json" { model.json() } else { model.yaml() };
    print(compose, given, &text)
}

fn variables(compose: &mut Compose<'_>, given: &Given) -> Result<()> {
    let mut options = compose.options()?;
    options.keep_variables = true;
    options.keep_short = true;
    let model = Model::load(&options)?;
    if given.text("format") == Some("json") {
        let all: serde_json::Map<String, serde_json::Value> = model
            .variables
            .iter()
            .map(|(name, v)| {
                let value = serde_json::json!({
                    "Name": name,
                    "DefaultValue": v.default,
                    "PresenceValue": v.alternate,
                    "Required": v.required,
                });
                (name.clone(), value)
            })
            .collect();
        return Ok(writeln!(compose.ui.out, "{}", serde_json::Value::Object(all))?);
    }
    let mut lines = String::from("NAME\tREQUIRED\tDEFAULT VALUE\tALTERNATE VALUE\n");
    for (name, v) in &model.variables {
        lines.push_str(&format!("{name}\t{}\t{}\t{}\n", v.required, v.default, v.alternate));
    }
    Ok(compose.ui.out.write_all(tabwriter::align(&lines).as_bytes())?)
}
