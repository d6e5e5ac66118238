//! `history`: how an image was made.

use crate::{
    client::{Query, part},
    command::{Command, Count},
    error::Result,
    flags::{Flag, Given, Kind, Words, flag, short},
    format::{self, FORMAT_HELP, List, Row},
    ui::Ui,
};
use api::model::HistoryItem;
use base::Timestamp;
use std::io::Write;

const FLAGS: &[Flag] = &[
    flag("format", Kind::Text, FORMAT_HELP),
    short(
        'H',
        "human",
        Kind::Bool,
        "Print sizes and dates in human readable format (default true)",
    ),
    flag("no-trunc", Kind::Bool, "Don't truncate output"),
    flag(
        "platform",
        Kind::Text,
        "Show history for the given platform. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
    ),
    short('q', "quiet", Kind::Bool, "Only show image IDs"),
];

pub(crate) const HISTORY: Command = Command {
    names: &["history", "image history"],
    usage: "IMAGE",
    about: "Show the history of an image",
    count: Count::Exactly(1),
    words: Words::Anywhere,
    flags: &[FLAGS],
    run,
};

const LIST: List = List {
    headings: &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ],
    table: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    raw: "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
};

const PLAIN: List =
    List { table: "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}", ..LIST };

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let path = format!("/images/{}/history", part(&given.words[0]));
    let items: Vec<HistoryItem> = ui.client()?.get(&path, &Query::new())?;
    let (human, full) = (given.is_or("human", true), given.is("no-trunc"));
    let rows: Vec<Row> = items.iter().map(|item| row(item, human, full)).collect();
    if given.is("quiet") {
        for row in &rows {
            writeln!(ui.out, "{}", row[0].1)?;
        }
        return Ok(());
    }
    let list = if human { &LIST } else { &PLAIN };
    list.print(ui, given.text("format").unwrap_or_default(), &rows)
}

fn row(item: &HistoryItem, human: bool, full: bool) -> Row {
    let by = item.created_by.replace('\t', " ");
    // Times before the epoch are those of layers that say nothing.
    let unknown = item.created <= 0;
    vec![
        ("ID", if full { item.id.clone() } else { format::short_id(&item.id) }),
        ("CreatedSince", if unknown { "N/A".into() } else { format::ago(item.created) }),
        (
            "CreatedAt",
            if unknown { String::new() } else { Timestamp::from_unix(item.created, 0).to_string() },
        ),
        ("CreatedBy", if full { by } else { format::ellipsis(&by, 45) }),
        ("Size", if human { format::size(item.size) } else { item.size.to_string() }),
        ("Comment", item.comment.clone()),
    ]
}
