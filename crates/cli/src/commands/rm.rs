//! `rm`: removes containers.

use crate::{
    client::{Query, part},
    command::{Command, Count},
    error::{Fail, Result},
    flags::{Given, Kind, Words, short},
    ui::Ui,
};
use std::io::Write;

pub(crate) const RM: Command = Command {
    names: &["rm", "container rm", "container remove"],
    usage: "CONTAINER [CONTAINER...]",
    about: "Remove one or more containers",
    count: Count::AtLeast(1),
    words: Words::Anywhere,
    flags: &[&[
        short('f', "force", Kind::Bool, "Force the removal of a running container (uses SIGKILL)"),
        short('l', "link", Kind::Bool, "Remove the specified link"),
        short('v', "volumes", Kind::Bool, "Remove anonymous volumes associated with the container"),
    ]],
    run,
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let query = Query::new()
        .flag("v", given.is("volumes"))
        .flag("link", given.is("link"))
        .flag("force", given.is("force"));
    let force = given.is("force");
    ui.each(&given.words, |ui, name| {
        let name = name.trim_matches('/');
        if name.is_empty() {
            return Err(Fail::new("Container name cannot be empty"));
        }
        match ui.client()?.delete(&format!("/containers/{}", part(name)), &query) {
            Ok(_) => Ok(writeln!(ui.out, "{name}")?),
            // What is gone is what was wanted.
            Err(err) if force && err.is_missing() => Ok(writeln!(ui.err, "{err}")?),
            Err(err) => Err(err.into()),
        }
    })
}
