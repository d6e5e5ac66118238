//! `logout`: forgets credentials.

use crate::{
    command::{Command, Count},
    credentials,
    error::Result,
    flags::{Given, Words},
    ui::Ui,
};
use std::io::Write;

pub(crate) const LOGOUT: Command = Command {
    names: &["logout"],
    usage: "[SERVER]",
    about: "Log out from a registry",
    count: Count::AtMost(1),
    words: Words::Anywhere,
    flags: &[&[]],
    run,
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let server = given.words.first().map_or("", String::as_str);
    let key = credentials::key_of_server(server);
    let shown = if server.is_empty() { credentials::HUB } else { server };
    if credentials::erase(&ui.config, &key)? {
        return Ok(writeln!(ui.out, "Removing login credentials for {shown}")?);
    }
    Ok(writeln!(ui.out, "Not logged in to {shown}")?)
}
