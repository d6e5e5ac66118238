//! `load`: takes images from an archive.

use crate::{
    client::Query,
    command::{Command, Count},
    error::{Fail, Result, text},
    flags::{Flag, Given, Kind, Words, flag, short},
    http::{Send, copied},
    progress::{Show, messages},
    ui::Ui,
};
use std::{
    fs::File,
    io::{self, IsTerminal, Read, Write},
};

const FLAGS: &[Flag] = &[
    short('i', "input", Kind::Text, "Read from tar archive file, instead of STDIN"),
    flag(
        "platform",
        Kind::Text,
        "Load only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
    ),
    short('q', "quiet", Kind::Bool, "Suppress the load output"),
];

pub(crate) const LOAD: Command = Command {
    names: &["load", "image load"],
    usage: "",
    about: "Load an image from a tar archive or STDIN",
    count: Count::None,
    words: Words::Anywhere,
    flags: &[FLAGS],
    run,
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let mut source = source(given)?;
    // Without a terminal there is nothing to draw bars on.
    let quiet = given.is("quiet") || !ui.out_is_terminal();
    let query = Query::new().flag("quiet", quiet);
    let send = Send::Stream(copied(&mut *source), "application/x-tar");
    let mut answer = ui.client()?.send("POST", "/images/load", &query, &[], send)?;
    if answer.header("Content-Type").is_some_and(|t| t.starts_with("application/json")) {
        return messages(ui, answer.body, Show::All, |_| {});
    }
    io::copy(&mut answer.body, &mut ui.out)?;
    Ok(ui.out.flush()?)
}

/// What `--input` names, else standard input.
pub(super) fn source(given: &Given) -> Result<Box<dyn Read + std::marker::Send>> {
    Ok(match given.text("input") {
        Some(path) => {
            Box::new(File::open(path).map_err(|e| Fail::new(format!("open {path}: {}", text(&e))))?)
        }
        None if io::stdin().is_terminal() => {
            return Err(Fail::new("requested load from stdin, but stdin is empty"));
        }
        None => Box::new(io::stdin()),
    })
}
