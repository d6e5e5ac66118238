//! `wait`: waits until containers end and prints their exit codes.

use crate::{
    client::{Query, part},
    command::{Command, Count},
    error::Result,
    flags::{Given, Words},
    ui::Ui,
};
use api::model::WaitReply;
use std::io::Write;

pub(crate) const WAIT: Command = Command {
    names: &["wait", "container wait"],
    usage: "CONTAINER [CONTAINER...]",
    about: "Block until one or more containers stop, then print their exit codes",
    count: Count::AtLeast(1),
    words: Words::Anywhere,
    flags: &[&[]],
    run,
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    ui.each(&given.words, |ui, name| {
        let path = format!("/containers/{}/wait", part(name));
        let reply: WaitReply = ui.client()?.post_for(&path, &Query::new())?;
        writeln!(ui.out, "{}", reply.status_code)?;
        Ok(ui.out.flush()?)
    })
}
