//! `volume import`: a tar becomes a volume's content. Gantry's own.

use super::load::source;
use crate::{
    client::{Query, part},
    command::{Command, Count},
    error::Result,
    flags::{Flag, Given, Kind, Words, short},
    http::{Send, copied},
    ui::Ui,
};
use std::io::Write;

const FLAGS: &[Flag] =
    &[short('i', "input", Kind::Text, "Read from tar archive file, instead of STDIN")];

pub(crate) const VOLUME_IMPORT: Command = Command {
    names: &["volume import"],
    usage: "VOLUME",
    about: "Unpack a tar archive, compressed or not, into a volume, which is created when missing",
    count: Count::Exactly(1),
    words: Words::Anywhere,
    flags: &[FLAGS],
    run,
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let mut source = source(given)?;
    let path = format!("/volumes/{}/import", part(&given.words[0]));
    let send = Send::Stream(copied(&mut *source), "application/x-tar");
    ui.client()?.send("PUT", &path, &Query::new(), &[], send)?;
    Ok(writeln!(ui.out, "{}", given.words[0])?)
}
