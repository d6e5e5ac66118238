//! `pause`: stops all processes where they are.

use crate::{
    client::{Query, part},
    command::{Command, Count},
    error::Result,
    flags::{Given, Words},
    ui::Ui,
};
use std::io::Write;

pub(crate) const PAUSE: Command = Command {
    names: &["pause", "container pause"],
    usage: "CONTAINER [CONTAINER...]",
    about: "Pause all processes within one or more containers",
    count: Count::AtLeast(1),
    words: Words::Anywhere,
    flags: &[&[]],
    run,
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let query = Query::new();
    ui.each(&given.words, |ui, name| {
        ui.client()?.post(&format!("/containers/{}/pause", part(name)), &query)?;
        Ok(writeln!(ui.out, "{name}")?)
    })
}
