//! `rename`: gives a container another name.

use crate::{
    client::{Query, part},
    command::{Command, Count},
    error::{Fail, Result},
    flags::{Given, Words},
    ui::Ui,
};

pub(crate) const RENAME: Command = Command {
    names: &["rename", "container rename"],
    usage: "CONTAINER NEW_NAME",
    about: "Rename a container",
    count: Count::Exactly(2),
    words: Words::Anywhere,
    flags: &[&[]],
    run,
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let (from, to) = (given.words[0].trim(), given.words[1].trim());
    if from.is_empty() || to.is_empty() {
        return Err(Fail::new("Error: Neither old nor new names may be empty"));
    }
    let query = Query::new().text("name", to);
    let renamed = ui.client()?.post(&format!("/containers/{}/rename", part(from)), &query);
    renamed
        .map(drop)
        .map_err(|e| Fail::new(format!("{e}\nError: failed to rename container named {from}")))
}
