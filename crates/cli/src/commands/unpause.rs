//! `unpause`: lets paused processes go on.

use crate::{
    client::{Query, part},
    command::{Command, Count},
    error::Result,
    flags::{Given, Words},
    ui::Ui,
};
use std::io::Write;

pub(crate) const UNPAUSE: Command = Command {
    names: &["unpause", "container unpause"],
    usage: "CONTAINER [CONTAINER...]",
    about: "Unpause all processes within one or more containers",
    count: Count::AtLeast(1),
    words: Words::Anywhere,
    flags: &[&[]],
    run,
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let query = Query::new();
    ui.each(&given.words, |ui, name| {
        ui.client()?.post(&format!("/containers/{}/unpause", part(name)), &query)?;
        Ok(writeln!(ui.out, "{name}")?)
    })
}
