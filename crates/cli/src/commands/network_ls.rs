//! `network ls`: lists networks.

use crate::{
    client::Query,
    command::{Command, Count},
    error::Result,
    flags::{Flag, Given, Kind, Words, flag, short},
    format::{self, FORMAT_HELP, List, Row},
    options::values,
    ui::Ui,
};
use api::model::Network;
use std::io::Write;

const FLAGS: &[Flag] = &[
    short('f', "filter", Kind::Named("filter"), "Provide filter values (e.g. \"driver=bridge\")"),
    flag("format", Kind::Text, FORMAT_HELP),
    flag("no-trunc", Kind::Bool, "Do not truncate the output"),
    short('q', "quiet", Kind::Bool, "Only display network IDs"),
];

pub(crate) const NETWORK_LS: Command = Command {
    names: &["network ls", "network list"],
    usage: "",
    about: "List networks",
    count: Count::None,
    words: Words::Anywhere,
    flags: &[FLAGS],
    run,
};

const HEADINGS: &[(&str, &str)] = &[
    ("ID", "NETWORK ID"),
    ("Name", "NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("IPv4", "IPV4"),
    ("IPv6", "IPV6"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
    ("CreatedAt", "CREATED AT"),
];

const TABLE: &str = "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}";
const RAW: &str = "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n";

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let query = Query::new().filters(&values::filters(given.list("filter"))?);
    let mut list: Vec<Network> = ui.client()?.get("/networks", &query)?;
    list.sort_by(|a, b| a.name.cmp(&b.name));
    let full = given.is("no-trunc");
    let rows: Vec<Row> = list.iter().map(|network| row(network, full)).collect();
    if given.is("quiet") && !given.has("format") {
        for row in &rows {
            writeln!(ui.out, "{}", row[0].1)?;
        }
        return Ok(());
    }
    let format = given.text_or_empty("format");
    List { headings: HEADINGS, table: TABLE, raw: RAW }.print(ui, &format, &rows)
}

fn row(network: &Network, full: bool) -> Row {
    vec![
        ("ID", if full { network.id.clone() } else { format::short_id(&network.id) }),
        ("Name", network.name.clone()),
        ("Driver", network.driver.clone()),
        ("Scope", network.scope.clone()),
        ("IPv4", network.enable_ipv4.to_string()),
        ("IPv6", network.enable_ipv6.to_string()),
        ("Internal", network.internal.to_string()),
        ("Labels", format::labels(&network.labels.clone().unwrap_or_default())),
        ("CreatedAt", network.created.clone()),
    ]
}
