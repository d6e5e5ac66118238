//! `volume rm`.

use crate::{
    client::{Query, part},
    command::{Command, Count},
    error::Result,
    flags::{Flag, Given, Kind, Words, short},
    ui::Ui,
};
use std::io::Write;

const FLAGS: &[Flag] =
    &[short('f', "force", Kind::Bool, "Force the removal of one or more volumes")];

pub(crate) const VOLUME_RM: Command = Command {
    names: &["volume rm", "volume remove"],
    usage: "VOLUME [VOLUME...]",
    about: "Remove one or more volumes",
    count: Count::AtLeast(1),
    words: Words::Anywhere,
    flags: &[FLAGS],
    run,
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let query = Query::new().flag("force", given.is("force"));
    ui.each(&given.words, |ui, name| {
        ui.client()?.delete(&format!("/volumes/{}", part(name)), &query)?;
        Ok(writeln!(ui.out, "{name}")?)
    })
}
