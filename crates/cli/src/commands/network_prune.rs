//! `network prune`: removes networks that no container uses.

use crate::{
    client::Query,
    command::{Command, Count},
    error::Result,
    flags::{Flag, Given, Kind, Words, flag, short},
    options::values,
    ui::Ui,
};
use api::model::NetworksPruned;

const FLAGS: &[Flag] = &[
    flag("filter", Kind::Named("filter"), "Provide filter values (e.g. \"until=<timestamp>\")"),
    short('f', "force", Kind::Bool, "Do not prompt for confirmation"),
];

pub(crate) const NETWORK_PRUNE: Command = Command {
    names: &["network prune"],
    usage: "",
    about: "Remove all unused networks",
    count: Count::None,
    words: Words::Anywhere,
    flags: &[FLAGS],
    run,
};

const WARNING: &str = "WARNING! This will remove all custom networks not used by at least one container.\nAre you sure you want to continue?";

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    if !given.is("force") && !ui.confirm(WARNING)? {
        return Ok(());
    }
    let query = Query::new().filters(&values::filters(given.list("filter"))?);
    let done: NetworksPruned = ui.client()?.post_for("/networks/prune", &query)?;
    ui.deleted("Networks", &done.networks_deleted.unwrap_or_default())
}
