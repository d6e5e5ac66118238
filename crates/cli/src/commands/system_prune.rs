//! `system prune`: removes everything that nothing uses.

use super::{container_prune, image_prune};
use crate::{
    client::Query,
    command::{Command, Count},
    error::{Fail, Result},
    flags::{Flag, Given, Kind, Words, flag, short},
    format,
    options::values,
    ui::Ui,
};
use std::io::Write;

const FLAGS: &[Flag] = &[
    short('a', "all", Kind::Bool, "Remove all unused images not just dangling ones"),
    flag("filter", Kind::Named("filter"), "Provide filter values (e.g. \"label=<key>=<value>\")"),
    short('f', "force", Kind::Bool, "Do not prompt for confirmation"),
    flag("volumes", Kind::Bool, "Prune anonymous volumes"),
];

pub(crate) const SYSTEM_PRUNE: Command = Command {
    names: &["system prune"],
    usage: "",
    about: "Remove unused data",
    count: Count::None,
    words: Words::Anywhere,
    flags: &[FLAGS],
    run,
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let filter = given.list("filter");
    if given.is("volumes") && filter.iter().any(|f| f.starts_with("until=")) {
        return Err(Fail::new("ERROR: The \"until\" filter is not supported with \"--volumes\""));
    }
    if !given.is("force") && !ui.confirm(&warning(given))? {
        return Ok(());
    }
    let mut freed = container_prune::prune(ui, filter)?;
    freed += reclaim(ui, "networks", "Networks", "NetworksDeleted", filter)?;
    if given.is("volumes") {
        freed += reclaim(ui, "volumes", "Volumes", "VolumesDeleted", filter)?;
    }
    freed += image_prune::prune(ui, given.is("all"), filter)?;
    freed += reclaim(ui, "build", "build cache objects", "CachesDeleted", filter)?;
    Ok(writeln!(ui.out, "Total reclaimed space: {}", format::total(freed))?)
}

fn warning(given: &Given) -> String {
    let mut what =
        vec!["all stopped containers", "all networks not used by at least one container"];
    if given.is("volumes") {
        what.push("all anonymous volumes not used by at least one container");
    }
    if given.is("all") {
        what.push("all images without at least one container associated to them");
        what.push("all build cache");
    } else {
        what.push("all dangling images");
        what.push("unused build cache");
    }
    let mut text = "WARNING! This will remove:\n".to_owned();
    for line in what {
        text.push_str(&format!("  - {line}\n"));
    }
    let filter = given.list("filter");
    if !filter.is_empty() {
        text.push_str("\n  Items to be pruned will be filtered with:\n");
        for line in filter {
            text.push_str(&format!("  - {line}\n"));
        }
    }
    format!("{text}\nAre you sure you want to continue?")
}

/// Prunes one kind of thing; an engine without that kind has nothing to prune.
fn reclaim(ui: &mut Ui, kind: &str, title: &str, key: &str, filter: &[String]) -> Result<u64> {
    let query = Query::new().filters(&values::filters(filter)?);
    let done: serde_json::Value = match ui.client()?.post_for(&format!("/{kind}/prune"), &query) {
        Ok(done) => done,
        Err(err) if err.is_missing() => return Ok(0),
        Err(err) => return Err(err.into()),
    };
    let gone = done[key].as_array().into_iter().flatten().filter_map(|v| v.as_str());
    ui.deleted(title, &gone.map(str::to_owned).collect::<Vec<_>>())?;
    Ok(done["SpaceReclaimed"].as_u64().unwrap_or(0))
}
