//! `pull`: gets images from a registry.

use crate::{
    client::Query,
    command::{Command, Count},
    credentials,
    error::{Fail, Result},
    flags::{Flag, Given, Kind, Words, flag, hidden, short},
    http::Send,
    progress::{Show, messages},
    ui::Ui,
};
use base::Reference;
use std::io::Write;

const FLAGS: &[Flag] = &[
    short('a', "all-tags", Kind::Bool, "Download all tagged images in the repository"),
    hidden("disable-content-trust", Kind::Bool),
    flag("platform", Kind::Text, "Set platform if server is multi-platform capable"),
    short('q', "quiet", Kind::Bool, "Suppress verbose output"),
];

pub(crate) const PULL: Command = Command {
    names: &["pull", "image pull"],
    usage: "NAME[:TAG|@DIGEST]",
    about: "Download an image from a registry",
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
    let show = if given.is("quiet") { Show::Nothing } else { Show::All };
    if !all && reference.is_name_only() && show == Show::All {
        writeln!(ui.out, "Using default tag: latest")?;
    }
    let reference = if all { reference } else { reference.or_latest() };
    fetch(ui, &reference, &given.text_or_empty("platform"), show)?;
    Ok(writeln!(ui.out, "{reference}")?)
}

/// Has the engine pull `reference` with the user's credentials.
pub(super) fn fetch(ui: &mut Ui, reference: &Reference, platform: &str, show: Show) -> Result<()> {
    let tag = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or_default().to_owned(),
    };
    let query = Query::new()
        .text("fromImage", &reference.name())
        .text("tag", &tag)
        .text("platform", &platform.to_lowercase());
    let headers = credentials::header(&ui.config, reference.domain())?;
    let answer = ui.client()?.send("POST", "/images/create", &query, &headers, Send::Nothing)?;
    messages(ui, answer.body, show, |_| {})
}
