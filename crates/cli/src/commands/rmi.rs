//! `rmi`: untags and removes images.

use crate::{
    client::{Query, part},
    command::{Command, Count},
    error::{Fail, Result},
    flags::{Flag, Given, Kind, Words, flag, short},
    ui::Ui,
};
use api::model::ImageDeleted;
use std::io::Write;

const FLAGS: &[Flag] = &[
    short('f', "force", Kind::Bool, "Force removal of the image"),
    flag("no-prune", Kind::Bool, "Do not delete untagged parents"),
    flag(
        "platform",
        Kind::Strings,
        "Remove only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
    ),
];

pub(crate) const RMI: Command = Command {
    names: &["rmi", "image rm", "image remove"],
    usage: "IMAGE [IMAGE...]",
    about: "Remove one or more images",
    count: Count::AtLeast(1),
    words: Words::Anywhere,
    flags: &[FLAGS],
    run,
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let force = given.is("force");
    let query = Query::new().flag("force", force).flag("noprune", given.is("no-prune"));
    let mut failed = Vec::new();
    let mut serious = false;
    for name in &given.words {
        match ui.client()?.delete(&format!("/images/{}", part(name)), &query) {
            Ok(body) => {
                let lines: Vec<ImageDeleted> = serde_json::from_slice(&body).unwrap_or_default();
                for line in lines {
                    print(ui, &line)?;
                }
            }
            Err(err) => {
                serious |= !err.is_missing();
                failed.push(err.to_string());
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    if force && !serious {
        writeln!(ui.err, "{}", failed.join("\n"))?;
        return Ok(());
    }
    Err(Fail::new(failed.join("\n")))
}

/// One line of a removal.
fn print(ui: &mut Ui, line: &ImageDeleted) -> Result<()> {
    if line.deleted.is_empty() {
        writeln!(ui.out, "Untagged: {}", line.untagged)?;
    } else {
        writeln!(ui.out, "Deleted: {}", line.deleted)?;
    }
    Ok(())
}
