//! `search`: looks for repositories in a registry.

use crate::{
    client::Query,
    command::{Command, Count},
    credentials,
    error::{Fail, Result},
    flags::{Flag, Given, Kind, Words, flag, short},
    format::{FORMAT_HELP, List, Row},
    http::Send,
    options::values,
    ui::Ui,
};
use serde::Deserialize;

const FLAGS: &[Flag] = &[
    short('f', "filter", Kind::Named("filter"), "Filter output based on conditions provided"),
    flag("format", Kind::Text, FORMAT_HELP),
    flag("limit", Kind::Int, "Max number of search results"),
    flag("no-trunc", Kind::Bool, "Don't truncate output"),
];

pub(crate) const SEARCH: Command = Command {
    names: &["search"],
    usage: "TERM",
    about: "Search Docker Hub for images",
    count: Count::Exactly(1),
    words: Words::Anywhere,
    flags: &[FLAGS],
    run,
};

const HEADINGS: &[(&str, &str)] = &[
    ("Name", "NAME"),
    ("Description", "DESCRIPTION"),
    ("StarCount", "STARS"),
    ("IsOfficial", "OFFICIAL"),
];
const TABLE: &str = "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}";
/// Characters of a description in the table.
const SHOWN: usize = 45;

#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    star_count: i64,
    #[serde(default)]
    is_official: bool,
}

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let term = &given.words[0];
    let query = Query::new()
        .text("term", term)
        .int("limit", given.int("limit"))
        .filters(&values::filters(given.list("filter"))?);
    let host = term.split_once('/').map(|(first, _)| first);
    let domain =
        host.filter(|h| h.contains(['.', ':']) || *h == "localhost").unwrap_or("docker.io");
    let headers = credentials::header(&ui.config, domain)?;
    let mut answer = ui.client()?.send("GET", "/images/search", &query, &headers, Send::Nothing)?;
    let found: Vec<Found> = serde_json::from_slice(&answer.body.read_all(16 << 20)?)
        .map_err(|e| Fail::new(format!("cannot read the daemon's answer: {e}")))?;
    let rows: Vec<Row> = found.iter().map(|one| row(one, given.is("no-trunc"))).collect();
    List { headings: HEADINGS, table: TABLE, raw: "" }.print(
        ui,
        &given.text_or_empty("format"),
        &rows,
    )
}

fn row(found: &Found, full: bool) -> Row {
    let mut description = found.description.replace(['\n', '\r'], " ");
    if !full && description.chars().count() > SHOWN {
        description = description.chars().take(SHOWN - 1).chain(['…']).collect();
    }
    vec![
        ("Name", found.name.clone()),
        ("Description", description),
        ("StarCount", found.star_count.to_string()),
        ("IsOfficial", if found.is_official { "[OK]".into() } else { String::new() }),
    ]
}
