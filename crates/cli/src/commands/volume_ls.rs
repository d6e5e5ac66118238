//! `volume ls`.

use crate::{
    client::Query,
    command::{Command, Count},
    error::Result,
    flags::{Flag, Given, Kind, Words, flag, short},
    format::{self, FORMAT_HELP, List, Row},
    options::values,
    ui::Ui,
};
use api::model::{Volume, VolumeList};
use std::io::Write;

const FLAGS: &[Flag] = &[
    short('f', "filter", Kind::Named("filter"), "Provide filter values (e.g. \"dangling=true\")"),
    flag("format", Kind::Text, FORMAT_HELP),
    short('q', "quiet", Kind::Bool, "Only display volume names"),
];

pub(crate) const VOLUME_LS: Command = Command {
    names: &["volume ls", "volume list"],
    usage: "",
    about: "List volumes",
    count: Count::None,
    words: Words::Anywhere,
    flags: &[FLAGS],
    run,
};

const HEADINGS: &[(&str, &str)] = &[
    ("Driver", "DRIVER"),
    ("Name", "VOLUME NAME"),
    ("Labels", "LABELS"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Scope", "SCOPE"),
    ("CreatedAt", "CREATED AT"),
];
const LIST: List = List {
    headings: HEADINGS,
    table: "{{.Driver}}\t{{.Name}}",
    raw: "name: {{.Name}}\ndriver: {{.Driver}}\n",
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let query = Query::new().filters(&values::filters(given.list("filter"))?);
    let mut list: VolumeList = ui.client()?.get("/volumes", &query)?;
    list.volumes.sort_by(|a, b| a.name.cmp(&b.name));
    if given.is("quiet") {
        for volume in &list.volumes {
            writeln!(ui.out, "{}", volume.name)?;
        }
        return Ok(());
    }
    let rows: Vec<Row> = list.volumes.iter().map(row).collect();
    LIST.print(ui, given.text("format").unwrap_or_default(), &rows)
}

fn row(volume: &Volume) -> Row {
    vec![
        ("Driver", volume.driver.clone()),
        ("Name", volume.name.clone()),
        ("Labels", format::labels(&volume.labels.clone().unwrap_or_default())),
        ("Mountpoint", volume.mountpoint.clone()),
        ("Scope", volume.scope.clone()),
        ("CreatedAt", volume.created_at.clone()),
    ]
}
