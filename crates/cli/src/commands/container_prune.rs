//! `container prune`: removes what has stopped.

use crate::{
    client::Query,
    command::{Command, Count},
    error::Result,
    flags::{Flag, Given, Kind, Words, flag, short},
    format,
    options::values,
    ui::Ui,
};
use api::model::ContainersPruned;
use std::io::Write;

const FLAGS: &[Flag] = &[
    flag("filter", Kind::Named("filter"), "Provide filter values (e.g. \"until=<timestamp>\")"),
    short('f', "force", Kind::Bool, "Do not prompt for confirmation"),
];

pub(crate) const CONTAINER_PRUNE: Command = Command {
    names: &["container prune"],
    usage: "",
    about: "Remove all stopped containers",
    count: Count::None,
    words: Words::Anywhere,
    flags: &[FLAGS],
    run,
};

const WARNING: &str =
    "WARNING! This will remove all stopped containers.\nAre you sure you want to continue?";

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    if !given.is("force") && !ui.confirm(WARNING)? {
        return Ok(());
    }
    let freed = prune(ui, given.list("filter"))?;
    Ok(writeln!(ui.out, "Total reclaimed space: {}", format::total(freed))?)
}

/// Prunes, names what went, and gives the bytes freed.
pub(super) fn prune(ui: &mut Ui, filter: &[String]) -> Result<u64> {
    let query = Query::new().filters(&values::filters(filter)?);
    let done: ContainersPruned = ui.client()?.post_for("/containers/prune", &query)?;
    ui.deleted("Containers", &done.containers_deleted.unwrap_or_default())?;
    Ok(done.space_reclaimed)
}
