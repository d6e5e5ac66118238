//! `top`: lists a container's processes.

use crate::{
    client::{Query, part},
    command::{Command, Count},
    error::Result,
    flags::{Given, Words},
    tabwriter,
    ui::Ui,
};
use api::model::Top;
use std::io::Write;

pub(crate) const TOP: Command = Command {
    names: &["top", "container top"],
    usage: "CONTAINER [ps OPTIONS]",
    about: "Display the running processes of a container",
    count: Count::AtLeast(1),
    words: Words::EndOptions,
    flags: &[&[]],
    run,
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let query = Query::new().text("ps_args", &given.words[1..].join(" "));
    let top: Top =
        ui.client()?.get(&format!("/containers/{}/top", part(&given.words[0])), &query)?;
    let mut lines = String::new();
    for row in std::iter::once(&top.titles).chain(&top.processes) {
        lines.push_str(&row.join("\t"));
        lines.push('\n');
    }
    Ok(ui.out.write_all(tabwriter::align_at_least(20, &lines).as_bytes())?)
}
