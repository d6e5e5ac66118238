//! `volume create`.

use crate::{
    client::Query,
    command::{Command, Count},
    error::Result,
    flags::{Flag, Given, Kind, Words, flag, short},
    options::values,
    ui::Ui,
};
use api::model::{Volume, VolumeCreate};
use std::io::Write;

const FLAGS: &[Flag] = &[
    short('d', "driver", Kind::Text, "Specify volume driver name (default \"local\")"),
    flag("label", Kind::List, "Set metadata for a volume"),
    short('o', "opt", Kind::List, "Set driver specific options"),
];

pub(crate) const VOLUME_CREATE: Command = Command {
    names: &["volume create"],
    usage: "[VOLUME]",
    about: "Create a volume",
    count: Count::AtMost(1),
    words: Words::Anywhere,
    flags: &[FLAGS],
    run,
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let request = VolumeCreate {
        name: given.words.first().cloned().unwrap_or_default(),
        driver: given.text("driver").unwrap_or("local").to_owned(),
        driver_opts: Some(values::map(given.list("opt"))),
        labels: Some(values::map(given.list("label"))),
    };
    let made: Volume = ui.client()?.post_json("/volumes/create", &Query::new(), &request)?;
    Ok(writeln!(ui.out, "{}", made.name)?)
}
