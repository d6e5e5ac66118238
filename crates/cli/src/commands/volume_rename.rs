//! `volume rename`. Gantry's own.

use crate::{
    client::{Query, part},
    command::{Command, Count},
    error::Result,
    flags::{Given, Words},
    ui::Ui,
};

pub(crate) const VOLUME_RENAME: Command = Command {
    names: &["volume rename"],
    usage: "VOLUME NEW_NAME",
    about: "Rename a volume that no container uses",
    count: Count::Exactly(2),
    words: Words::Anywhere,
    flags: &[],
    run,
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let query = Query::new().text("name", &given.words[1]);
    ui.client()?.post(&format!("/volumes/{}/rename", part(&given.words[0])), &query)?;
    Ok(())
}
