//! `save`: writes images into an archive.

use crate::{
    client::Query,
    command::{Command, Count},
    error::{Fail, Result, text},
    flags::{Flag, Given, Kind, Words, flag, short},
    ui::Ui,
};
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::Path,
};

const FLAGS: &[Flag] = &[
    short('o', "output", Kind::Text, "Write to a file, instead of STDOUT"),
    flag(
        "platform",
        Kind::Text,
        "Save only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
    ),
];

pub(crate) const SAVE: Command = Command {
    names: &["save", "image save"],
    usage: "IMAGE [IMAGE...]",
    about: "Save one or more images to a tar archive (streamed to STDOUT by default)",
    count: Count::AtLeast(1),
    words: Words::Anywhere,
    flags: &[FLAGS],
    run,
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let output = given.text("output").filter(|o| !o.is_empty());
    if output.is_none() && ui.out_is_terminal() {
        return Err(Fail::new(
            "cowardly refusing to save to a terminal. Use the -o flag or redirect",
        ));
    }
    let query = Query::new().list("names", &given.words);
    let mut answer = ui.client()?.get_stream("/images/get", &query)?;
    match output {
        None => copy(&mut answer.body, &mut io::stdout().lock()),
        Some(path) => write_file(path, &mut answer.body),
    }
}

/// Writes beside the file and renames, so that a failure leaves nothing half written.
pub(super) fn write_file(path: &str, body: &mut impl Read) -> Result<()> {
    let failed =
        |e: &io::Error| Fail::new(format!("failed to save image: open {path}: {}", text(e)));
    let regular = fs::metadata(path).map_or(true, |m| m.is_file());
    if !regular {
        let mut file = fs::OpenOptions::new().write(true).open(path).map_err(|e| failed(&e))?;
        return copy(body, &mut file);
    }
    let partial = format!("{path}.{}.partial", std::process::id());
    let mut file = File::create(&partial).map_err(|e| failed(&e))?;
    let done = copy(body, &mut file)
        .and_then(|()| fs::rename(&partial, Path::new(path)).map_err(|e| failed(&e)));
    if done.is_err() {
        // Ours; the error says what went wrong.
        let _ = fs::remove_file(&partial);
    }
    done
}

pub(super) fn copy(body: &mut impl Read, out: &mut impl Write) -> Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match body.read(&mut buffer)? {
            0 => return Ok(out.flush()?),
            n => out.write_all(&buffer[..n])?,
        }
    }
}
