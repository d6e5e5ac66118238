//! `import`: makes an image of a file system in an archive.

use super::tag::split_tag;
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
    io::{self, Read},
};

const FLAGS: &[Flag] = &[
    short('c', "change", Kind::List, "Apply Dockerfile instruction to the created image"),
    short('m', "message", Kind::Text, "Set commit message for imported image"),
    flag("platform", Kind::Text, "Set platform if server is multi-platform capable"),
];

pub(crate) const IMPORT: Command = Command {
    names: &["import", "image import"],
    usage: "file|URL|- [REPOSITORY[:TAG]]",
    about: "Import the contents from a tarball to create a filesystem image",
    count: Count::AtLeast(1),
    words: Words::Anywhere,
    flags: &[FLAGS],
    run,
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let source = &given.words[0];
    let is_url = source.starts_with("http://") || source.starts_with("https://");
    let (repo, tag) = match given.words.get(1) {
        Some(name) => split_explicit(name),
        None => ("", ""),
    };
    let query = Query::new()
        .text("fromSrc", if is_url { source } else { "-" })
        .text("repo", repo)
        .text("tag", tag)
        .text("message", &given.text_or_empty("message"))
        .text("platform", &given.text_or_empty("platform"))
        .list("changes", given.list("change"));
    let mut file: Box<dyn Read + std::marker::Send> = match source.as_str() {
        _ if is_url => Box::new(io::empty()),
        "-" => Box::new(io::stdin()),
        path => {
            Box::new(File::open(path).map_err(|e| Fail::new(format!("open {path}: {}", text(&e))))?)
        }
    };
    let send =
        if is_url { Send::Nothing } else { Send::Stream(copied(&mut *file), "application/x-tar") };
    let answer = ui.client()?.send("POST", "/images/create", &query, &[], send)?;
    messages(ui, answer.body, Show::All, |_| {})
}

/// As [`split_tag`], leaving out a tag that was not said.
fn split_explicit(name: &str) -> (&str, &str) {
    let (repo, tag) = split_tag(name);
    if repo == name { (name, "") } else { (repo, tag) }
}
