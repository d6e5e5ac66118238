//! `image prune`: removes images that nothing uses.

use crate::{
    client::Query,
    command::{Command, Count},
    error::Result,
    flags::{Flag, Given, Kind, Words, flag, short},
    format,
    options::values,
    ui::Ui,
};
use api::model::ImagesPruned;
use std::io::Write;

const FLAGS: &[Flag] = &[
    short('a', "all", Kind::Bool, "Remove all unused images, not just dangling ones"),
    flag("filter", Kind::Named("filter"), "Provide filter values (e.g. \"until=<timestamp>\")"),
    short('f', "force", Kind::Bool, "Do not prompt for confirmation"),
];

pub(crate) const IMAGE_PRUNE: Command = Command {
    names: &["image prune"],
    usage: "",
    about: "Remove unused images",
    count: Count::None,
    words: Words::Anywhere,
    flags: &[FLAGS],
    run,
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let all = given.is("all");
    let what = if all {
        "all images without at least one container associated to them"
    } else {
        "all dangling images"
    };
    let question = format!("WARNING! This will remove {what}.\nAre you sure you want to continue?");
    if !given.is("force") && !ui.confirm(&question)? {
        return Ok(());
    }
    let freed = prune(ui, all, given.list("filter"))?;
    Ok(writeln!(ui.out, "Total reclaimed space: {}", format::total(freed))?)
}

/// Prunes, names what went, and gives the bytes freed.
pub(super) fn prune(ui: &mut Ui, all: bool, filter: &[String]) -> Result<u64> {
    let mut filters = values::filters(filter)?;
    filters.entry("dangling".into()).or_default().insert((!all).to_string(), true);
    let query = Query::new().filters(&filters);
    let done: ImagesPruned = ui.client()?.post_for("/images/prune", &query)?;
    let gone = done.images_deleted.unwrap_or_default();
    if !gone.is_empty() {
        writeln!(ui.out, "Deleted Images:")?;
        for line in &gone {
            match (line.untagged.as_str(), line.deleted.as_str()) {
                ("", deleted) => writeln!(ui.out, "deleted: {deleted}")?,
                (untagged, _) => writeln!(ui.out, "untagged: {untagged}")?,
            }
        }
        writeln!(ui.out)?;
    }
    Ok(done.space_reclaimed)
}
