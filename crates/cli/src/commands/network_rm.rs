//! `network rm`: removes networks.

use crate::{
    client::{Query, part},
    command::{Command, Count},
    error::Result,
    flags::{Given, Kind, Words, short},
    ui::Ui,
};
use std::io::Write;

pub(crate) const NETWORK_RM: Command = Command {
    names: &["network rm", "network remove"],
    usage: "NETWORK [NETWORK...]",
    about: "Remove one or more networks",
    count: Count::AtLeast(1),
    words: Words::Anywhere,
    flags: &[&[short('f', "force", Kind::Bool, "Do not error if the network does not exist")]],
    run,
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let force = given.is("force");
    ui.each(&given.words, |ui, name| {
        match ui.client()?.delete(&format!("/networks/{}", part(name)), &Query::new()) {
            Ok(_) => Ok(writeln!(ui.out, "{name}")?),
            // What is gone is what was wanted.
            Err(err) if force && err.is_missing() => Ok(()),
            Err(err) => Err(err.into()),
        }
    })
}
