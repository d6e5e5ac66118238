//! What clients ask of a Dockerfile instead of building it: checks, stages, parameters (`--check`,
//! `--call=lint,targets,outline`), as BuildKit's front end answers.
//!
//! Source: BuildKit `frontend/subrequests`.

use super::{lower::Lowering, options::Options, run::Mount};
use crate::{job::Outcome, proto::pb};
use base::{Error, Result};
use base64::Engine as _;
use build::{
    args::BuildArgs,
    dockerfile::{Dockerfile, Lines, Stage},
    draft::Work,
    lint::{self, Comments, Warning},
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Requests that are answered, as a client may ask for them.
const KNOWN: [(&str, &str, &str); 4] = [
    ("frontend.outline", "outline", "List all parameters current build target supports"),
    ("frontend.targets", "targets", "List all targets current build supports"),
    ("frontend.lint", "lint", "Lint a Dockerfile"),
    ("frontend.subrequests.describe", "describe", "List available subrequest types"),
];

/// An answer as the metadata of a result.
pub(super) fn answer(json: &Value, text: String, status: Option<u8>) -> Outcome {
    let mut outcome = Outcome { single: Some(Default::default()), ..Outcome::default() };
    let pretty = serde_json::to_vec_pretty(json).unwrap_or_default();
    outcome.metadata.insert("result.json".into(), pretty);
    outcome.metadata.insert("result.txt".into(), text.into_bytes());
    outcome.metadata.insert("version".into(), b"1.0.0".to_vec());
    if let Some(status) = status {
        outcome.metadata.insert("result.statuscode".into(), status.to_string().into_bytes());
    }
    outcome
}

/// The error for a request that is not known.
pub(super) fn unknown(name: &str) -> Error {
    Error::not_implemented(format!("unsupported request {name}"))
}

/// What stops a build, with its line.
pub(super) fn stop(failure: &crate::failure::Failure) -> (String, Option<usize>) {
    let line = failure.sources.first().and_then(|place| place.ranges.first());
    let line = line.and_then(|range| range.start).and_then(|p| usize::try_from(p.line).ok());
    (failure.error.chain(), line)
}

/// What can be asked.
pub(super) fn describe() -> Outcome {
    let all: Vec<Value> = KNOWN
        .iter()
        .map(|(name, _, description)| {
            json!({
                "name": name, "version": "1.0.0", "type": "rpc", "description": description,
                "opts": [], "metadata": [{ "name": "result.json" }, { "name": "result.txt" }],
            })
        })
        .collect();
    let text = KNOWN.iter().map(|(name, _, about)| format!("{name}\t{about}\n")).collect();
    answer(&Value::from(all), text, None)
}

fn location(lines: &Lines) -> Value {
    let position = |line: &usize| json!({ "line": line });
    json!({ "ranges": [{ "start": position(lines.start()), "end": position(lines.end()) }] })
}

/// The lines, as clients mark them.
pub(super) fn ranges(lines: &Lines) -> Vec<pb::Range> {
    let position = |line: &usize| {
        Some(pb::Position { line: i32::try_from(*line).unwrap_or_default(), character: 0 })
    };
    vec![pb::Range { start: position(lines.start()), end: position(lines.end()) }]
}

/// The answer to a check: warnings, and what stops the build.
pub(super) fn checked(
    info: &pb::SourceInfo,
    warnings: &[Warning],
    stopped: Option<(String, Option<usize>)>,
) -> Outcome {
    let told: Vec<Value> = warnings
        .iter()
        .map(|w| {
            let mut one = json!({
                "ruleName": w.rule.name,
                "description": w.rule.description,
                "detail": w.detail,
                "location": location(&w.lines),
            });
            let url = w.rule.url();
            if !url.is_empty() {
                one["url"] = url.into();
            }
            one
        })
        .collect();
    let mut json = json!({
        "warnings": if told.is_empty() { Value::Null } else { told.into() },
        "sources": [{
            "filename": info.filename,
            "language": info.language,
            "data": base64::engine::general_purpose::STANDARD.encode(&info.data),
        }],
    });
    let mut text = String::new();
    let mut sorted: Vec<&Warning> = warnings.iter().collect();
    sorted.sort_by_key(|w| *w.lines.start());
    for warning in sorted {
        text.push_str(&format!("\nWARNING: {}", warning.rule.name));
        let url = warning.rule.url();
        if !url.is_empty() {
            text.push_str(&format!(" - {url}"));
        }
        text.push_str(&format!("\n{}\n{}", warning.detail, marked(info, &warning.lines)));
    }
    let failed = stopped.is_some();
    if let Some((message, line)) = stopped {
        let lines = line.map_or(0..=0, |line| line..=line);
        json["buildError"] = json!({ "message": message, "location": location(&lines) });
    }
    answer(&json, text, Some(u8::from(failed || !warnings.is_empty())))
}

/// Lines of the file with some around them, those that are meant marked.
fn marked(info: &pb::SourceInfo, lines: &Lines) -> String {
    const AROUND: usize = 2;
    let text = String::from_utf8_lossy(&info.data);
    let all: Vec<&str> = text.lines().collect();
    let first = lines.start().saturating_sub(AROUND).max(1);
    let last = (lines.end() + AROUND).min(all.len());
    let mut out = format!("{}:{}\n--------------------\n", info.filename, lines.start());
    for number in first..=last {
        let mark = if lines.contains(&number) { ">>>" } else { "   " };
        let line = all.get(number - 1).copied().unwrap_or_default();
        out.push_str(&format!("{number:>4} | {mark} {line}\n"));
    }
    out.push_str("--------------------\n");
    out
}

/// The stages.
pub(super) fn targets(file: &Dockerfile, bytes: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(bytes);
    let comments = Comments::of(&text);
    let last = file.stages.len().saturating_sub(1);
    let mut table = vec![("TARGET".to_owned(), "DESCRIPTION".to_owned())];
    let mut all = Vec::new();
    for (index, stage) in file.stages.iter().enumerate() {
        let name = stage.head.name.clone().unwrap_or_default();
        let about = described(&comments, stage);
        let mut one = json!({ "base": stage.head.base, "location": location(&stage.lines) });
        for (key, value) in [
            ("name", &name),
            ("description", &about),
            ("platform", &stage.head.platform.clone().unwrap_or_default()),
        ] {
            if !value.is_empty() {
                one[key] = value.clone().into();
            }
        }
        let shown = match (name.is_empty(), index == last) {
            (true, true) => "(default)".to_owned(),
            (false, true) => format!("{name} (default)"),
            (_, false) => name,
        };
        if index == last {
            one["default"] = true.into();
        }
        table.push((shown, about));
        all.push(one);
    }
    let width = table.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0) + 1;
    let text = table.iter().map(|(name, about)| format!("{name:<width$}{about}\n")).collect();
    let sources = [base64::engine::general_purpose::STANDARD.encode(bytes)];
    answer(&json!({ "targets": all, "sources": sources }), text, None)
}

fn described(comments: &Comments<'_>, stage: &Stage) -> String {
    let name = stage.head.name.as_deref().unwrap_or_default();
    lint::description(&comments.before(*stage.lines.start()), name)
}

/// The parameters of the stage that is wanted, and of all that it needs.
///
/// # Errors
/// `Invalid` for a target or mount that cannot be read.
pub(super) fn outline(
    file: &Dockerfile,
    options: &Options,
    lowering: &Lowering<'_>,
    bytes: &[u8],
) -> Result<Outcome> {
    let text = String::from_utf8_lossy(bytes);
    let comments = Comments::of(&text);
    let target = lowering.target()?;
    let needed = lowering.needed(target);
    let mut args: BTreeMap<String, Value> = BTreeMap::new();
    let globals = lowering.args.globals();
    let mut declare = |step: &build::dockerfile::Step, args_of: &BuildArgs| {
        for (name, default) in step.instruction.declares() {
            let given = options.args.get(name).cloned().flatten();
            let global = globals.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
            let value = given.or_else(|| {
                let known = args_of.allowed();
                let word = |text: &String| build::expand::word(text, file.escape, &known[..]).ok();
                default.as_ref().and_then(word)
            });
            let mut one = json!({ "name": name, "location": location(&step.lines) });
            let before = comments.before(*step.lines.start());
            for (key, value) in [
                ("value", value.or(global).unwrap_or_default()),
                ("description", lint::description(&before, name)),
            ] {
                if !value.is_empty() {
                    one[key] = value.into();
                }
            }
            args.entry(name.clone()).or_insert(one);
        }
    };
    for step in &file.args {
        declare(step, &lowering.args);
    }
    let (mut secrets, mut agents, mut caches) = (Vec::new(), Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for index in needed {
        let stage = &file.stages[index];
        let config = image::RunConfig::default();
        let mut draft = build::draft::Draft::new(config, lowering.args.stage(), file.escape);
        for step in &stage.steps {
            declare(step, &draft.args);
            // What cannot be worked out without its image tells nothing here.
            let Ok(Work::Run(run)) = step.instruction.apply(&mut draft) else { continue };
            for text in &run.mounts {
                let mount = Mount::read(text)?;
                let id = match (mount.get("id"), mount.get("target")) {
                    ("", target) => target.rsplit('/').next().unwrap_or_default().to_owned(),
                    (id, _) => id.to_owned(),
                };
                if !seen.insert((mount.kind.clone(), id.clone())) {
                    continue;
                }
                let required = mount.on("required")?.unwrap_or(false);
                let mut one = json!({ "location": location(&step.lines) });
                if required {
                    one["required"] = true.into();
                }
                match mount.kind.as_str() {
                    "secret" => {
                        one["name"] = id.into();
                        secrets.push(one);
                    }
                    "ssh" => {
                        one["name"] = if id.is_empty() { "default".into() } else { id.into() };
                        agents.push(one);
                    }
                    "cache" => {
                        let own = mount.get("id");
                        let own = if own.is_empty() { mount.get("target") } else { own };
                        one["ID"] = own.into();
                        caches.push(one);
                    }
                    _ => {}
                }
            }
        }
    }
    let stage = &file.stages[target];
    let name = stage.head.name.clone().unwrap_or_default();
    let about = described(&comments, stage);
    let args: Vec<Value> = args.into_values().collect();
    let text = outlined(&name, &about, &args, &secrets);
    let mut json = json!({
        "sources": [base64::engine::general_purpose::STANDARD.encode(bytes)],
    });
    for (key, value) in [("name", name), ("description", about)] {
        if !value.is_empty() {
            json[key] = value.into();
        }
    }
    for (key, list) in [("args", args), ("secrets", secrets), ("ssh", agents), ("cache", caches)] {
        if !list.is_empty() {
            json[key] = list.into();
        }
    }
    Ok(answer(&json, text, None))
}

fn outlined(name: &str, about: &str, args: &[Value], secrets: &[Value]) -> String {
    let mut text = String::new();
    if !name.is_empty() || !about.is_empty() {
        let name = if name.is_empty() { "(default)" } else { name };
        text.push_str(&format!("TARGET:      {name}\n"));
        if !about.is_empty() {
            text.push_str(&format!("DESCRIPTION: {about}\n"));
        }
        text.push('\n');
    }
    let word = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    if !args.is_empty() {
        let head = ["BUILD ARG".to_owned(), "VALUE".to_owned(), "DESCRIPTION".to_owned()];
        let rows = args.iter().map(|a| [word(a, "name"), word(a, "value"), word(a, "description")]);
        text.push_str(&table(std::iter::once(head).chain(rows).collect()));
        text.push('\n');
    }
    if !secrets.is_empty() {
        let head = ["SECRET".to_owned(), "REQUIRED".to_owned()];
        let rows = secrets.iter().map(|s| {
            let required = if s["required"] == true { "true" } else { "" };
            [word(s, "name"), required.to_owned()]
        });
        text.push_str(&table(std::iter::once(head).chain(rows).collect()));
        text.push('\n');
    }
    text
}

fn table<const N: usize>(rows: Vec<[String; N]>) -> String {
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count() + 3);
        }
    }
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("{}\n", cells.collect::<String>().trim_end())
    };
    rows.iter().map(line).collect()
}
