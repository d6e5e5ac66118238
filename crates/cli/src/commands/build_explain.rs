//! `build explain`: why the steps of a build were not found in the cache.

use crate::{
    client::Query,
    command::{Command, Count},
    error::{Fail, Result},
    flags::{Flag, Given, Kind, Words, flag, short},
    ui::Ui,
};
use api::model::{BuildExplanation, BuildMiss};
use std::io::Write;

const FLAGS: &[Flag] = &[
    short('a', "all", Kind::Bool, "Show the steps that were found in the cache too"),
    flag("format", Kind::Text, "Format of the output (\"json\")"),
];

pub(crate) const BUILD_EXPLAIN: Command = Command {
    names: &["build explain", "builder explain"],
    usage: "[BUILD]",
    about: "Say why the steps of a build were not found in the cache",
    count: Count::AtMost(1),
    words: Words::Anywhere,
    flags: &[FLAGS],
    run,
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    // A build is known by its last part: buildx puts the builder before it.
    let build =
        given.words.first().map_or("", String::as_str).rsplit('/').next().unwrap_or_default();
    let query = Query::new().text("ref", build);
    match given.text("format") {
        None | Some("") => {}
        Some("json") => {
            let told = ui.client()?.get_value("/build/explain", &query)?;
            return Ok(writeln!(ui.out, "{told:#}")?);
        }
        Some(other) => return Err(Fail::new(format!("unknown format {other:?}: json"))),
    }
    let told: BuildExplanation = ui.client()?.get("/build/explain", &query)?;
    Ok(write!(ui.out, "{}", shown(&told, given.is("all")))?)
}

fn shown(told: &BuildExplanation, all: bool) -> String {
    let cached = told.steps.iter().filter(|s| s.state == "cached").count();
    let total = told.steps.len();
    let mut text = format!("build {}: {cached} of {total} steps were in the cache\n", told.r#ref);
    for step in told.steps.iter().filter(|s| all || s.state != "cached") {
        text.push_str(&format!("\n{} ({})\n", step.name, step.state));
        for miss in &step.misses {
            text.push_str(&format!("    {}\n", line(miss)));
        }
    }
    text
}

fn line(miss: &BuildMiss) -> String {
    let BuildMiss { kind, name, detail } = miss;
    match kind.as_str() {
        "file" if name.is_empty() => detail.clone(),
        "argument" => format!("build argument {name} was {}", how(detail)),
        "variable" => format!("variable {name} was {}", how(detail)),
        "base" => format!("base image {name}: {detail}"),
        "parent" => format!("follows from {name}: {detail}"),
        "instruction" => format!("instruction changed: {detail}"),
        "no-cache" | "pruned" | "failed-before" | "new" => detail.clone(),
        kind => format!("{kind} {name} {detail}"),
    }
}

fn how(detail: &str) -> &str {
    match detail {
        "added" => "given anew",
        "removed" => "taken away",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::model::BuildStep;

    #[test]
    fn steps_are_told_with_their_reasons() {
        let miss = |kind: &str, name: &str, detail: &str| BuildMiss {
            kind: kind.into(),
            name: name.into(),
            detail: detail.into(),
        };
        let step = |name: &str, state: &str, misses| BuildStep {
            name: name.into(),
            state: state.into(),
            misses,
        };
        let told = BuildExplanation {
            r#ref: "x".into(),
            steps: vec![
                step("[1/3] RUN a", "cached", vec![]),
                step("[2/3] COPY . .", "ran", vec![miss("file", "src/a", "changed")]),
                step("[3/3] RUN b", "ran", vec![miss("argument", "WHO", "added")]),
            ],
        };
        let want = "build x: 1 of 3 steps were in the cache\n\n[2/3] COPY . . (ran)\n    file src/a changed\n\n[3/3] RUN b (ran)\n    build argument WHO was given anew\n";
        assert_eq!(shown(&told, false), want);
        assert!(shown(&told, true).contains("[1/3] RUN a (cached)"));
    }
}
