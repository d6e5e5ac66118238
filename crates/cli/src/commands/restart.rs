//! `restart`: stops containers and starts them again.

use crate::{
    client::{Query, part},
    command::{Command, Count},
    error::Result,
    flags::{Given, Kind, Words, hidden, short},
    ui::Ui,
};
use std::io::Write;

pub(crate) const RESTART: Command = Command {
    names: &["restart", "container restart"],
    usage: "CONTAINER [CONTAINER...]",
    about: "Restart one or more containers",
    count: Count::AtLeast(1),
    words: Words::Anywhere,
    flags: &[&[
        short('s', "signal", Kind::Text, "Signal to send to the container"),
        short('t', "timeout", Kind::Int, "Seconds to wait before killing the container"),
        hidden("time", Kind::Int),
    ]],
    run,
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let seconds = given.int("timeout").or_else(|| given.int("time"));
    let query = Query::new().text("signal", &given.text_or_empty("signal")).int("t", seconds);
    ui.each(&given.words, |ui, name| {
        ui.client()?.post(&format!("/containers/{}/restart", part(name)), &query)?;
        Ok(writeln!(ui.out, "{name}")?)
    })
}
