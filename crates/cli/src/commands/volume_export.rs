//! `volume export`: a volume's content as a tar. Gantry's own.

use super::save::write_file;
use crate::{
    client::{Query, part},
    command::{Command, Count},
    error::{Fail, Result},
    flags::{Flag, Given, Kind, Words, short},
    ui::Ui,
};
use std::io;

const FLAGS: &[Flag] = &[short('o', "output", Kind::Text, "Write to a file, instead of STDOUT")];

pub(crate) const VOLUME_EXPORT: Command = Command {
    names: &["volume export"],
    usage: "VOLUME",
    about: "Write a volume's content to a tar archive (streamed to STDOUT by default)",
    count: Count::Exactly(1),
    words: Words::Anywhere,
    flags: &[FLAGS],
    run,
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let output = given.text("output").filter(|o| !o.is_empty());
    if output.is_none() && ui.out_is_terminal() {
        return Err(Fail::new(
            "cowardly refusing to write to a terminal. Use the -o flag or redirect",
        ));
    }
    let path = format!("/volumes/{}/export", part(&given.words[0]));
    let mut answer = ui.client()?.get_stream(&path, &Query::new())?;
    match output {
        None => super::save::copy(&mut answer.body, &mut io::stdout().lock()),
        Some(path) => write_file(path, &mut answer.body),
    }
}
