//! `kill`: sends a signal.

use crate::{
    client::{Query, part},
    command::{Command, Count},
    error::Result,
    flags::{Given, Kind, Words, short},
    ui::Ui,
};
use std::io::Write;

pub(crate) const KILL: Command = Command {
    names: &["kill", "container kill"],
    usage: "CONTAINER [CONTAINER...]",
    about: "Kill one or more running containers",
    count: Count::AtLeast(1),
    words: Words::Anywhere,
    flags: &[&[short('s', "signal", Kind::Text, "Signal to send to the container")]],
    run,
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let query = Query::new().text("signal", &given.text_or_empty("signal"));
    ui.each(&given.words, |ui, name| {
        ui.client()?.post(&format!("/containers/{}/kill", part(name)), &query)?;
        Ok(writeln!(ui.out, "{name}")?)
    })
}
