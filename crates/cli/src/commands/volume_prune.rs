//! `volume prune`: removes volumes that no container uses.

use crate::{
    client::Query,
    command::{Command, Count},
    error::{Fail, Result},
    flags::{Flag, Given, Kind, Words, flag, short},
    format,
    options::values,
    ui::Ui,
};
use api::model::VolumesPruned;
use std::io::Write;

const FLAGS: &[Flag] = &[
    short('a', "all", Kind::Bool, "Remove all unused volumes, not just anonymous ones"),
    flag("filter", Kind::Named("filter"), "Provide filter values (e.g. \"label=<label>\")"),
    short('f', "force", Kind::Bool, "Do not prompt for confirmation"),
];

pub(crate) const VOLUME_PRUNE: Command = Command {
    names: &["volume prune"],
    usage: "",
    about: "Remove unused local volumes",
    count: Count::None,
    words: Words::Anywhere,
    flags: &[FLAGS],
    run,
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let all = given.is("all");
    let mut filters = values::filters(given.list("filter"))?;
    if all && filters.contains_key("all") {
        return Err(Fail::new("conflicting options: cannot specify both --all and --filter all=1"));
    }
    let what = if all { "all local" } else { "anonymous local" };
    let question = format!(
        "WARNING! This will remove {what} volumes not used by at least one container.\nAre you sure you want to continue?"
    );
    if !given.is("force") && !ui.confirm(&question)? {
        return Ok(());
    }
    if all {
        filters.entry("all".into()).or_default().insert("true".into(), true);
    }
    let query = Query::new().filters(&filters);
    let done: VolumesPruned = ui.client()?.post_for("/volumes/prune", &query)?;
    ui.deleted("Volumes", &done.volumes_deleted.unwrap_or_default())?;
    Ok(writeln!(ui.out, "Total reclaimed space: {}", format::total(done.space_reclaimed))?)
}
