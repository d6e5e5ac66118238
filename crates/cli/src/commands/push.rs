//! `push`: sends images to a registry.

use crate::{
    client::{Query, part},
    command::{Command, Count},
    credentials,
    error::{Fail, Result},
    flags::{Flag, Given, Kind, Words, flag, hidden, short},
    http::Send,
    progress::{Show, messages},
    ui::Ui,
};
use base::{Platform, Reference};
use std::io::Write;

const FLAGS: &[Flag] = &[
    short('a', "all-tags", Kind::Bool, "Push all tags of an image to the repository"),
    hidden("disable-content-trust", Kind::Bool),
    flag("platform", Kind::Text, "Push a platform-specific manifest as a single-platform image"),
    short('q', "quiet", Kind::Bool, "Suppress verbose output"),
];

pub(crate) const PUSH: Command = Command {
    names: &["push", "image push"],
    usage: "NAME[:TAG]",
    about: "Upload an image to a registry",
    count: Count::Exactly(1),
    words: Words::Anywhere,
    flags: &[FLAGS],
    run,
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let reference: Reference =
        given.words[0].parse().map_err(|e: base::Error| Fail::new(e.chain()))?;
    let all = given.is("all-tags");
    if all && !reference.is_name_only() {
        return Err(Fail::new("tag can't be used with --all-tags/-a"));
    }
    let quiet = given.is("quiet");
    if !all && reference.is_name_only() && !quiet {
        writeln!(ui.out, "Using default tag: latest")?;
    }
    let reference = if all { reference } else { reference.or_latest() };
    let mut query = Query::new().text("tag", reference.tag().unwrap_or_default());
    if let Some(platform) = given.text("platform") {
        let platform: Platform = platform.parse().map_err(|e: base::Error| Fail::new(e.chain()))?;
        query = query.json("platform", &platform);
    }
    let headers = credentials::header(&ui.config, reference.domain())?;
    let path = format!("/images/{}/push", part(&reference.name()));
    let answer = ui.client()?.send("POST", &path, &query, &headers, Send::Nothing)?;
    let mut notes = Vec::new();
    let show = if quiet { Show::Nothing } else { Show::All };
    messages(ui, answer.body, show, |aux| {
        if aux["manifestPushedInsteadOfIndex"] == true {
            notes.push(format!(
                "Not all multiplatform-content is present and only the available single-platform image was pushed\n{} -> {}",
                aux["originalIndex"]["digest"].as_str().unwrap_or_default(),
                aux["selectedManifest"]["digest"].as_str().unwrap_or_default()
            ));
        }
    })?;
    for note in notes.iter().filter(|_| given.text("platform").is_none()) {
        writeln!(ui.out, "\ni Info → {note}")?;
    }
    if quiet {
        writeln!(ui.out, "{reference}")?;
    }
    Ok(())
}
