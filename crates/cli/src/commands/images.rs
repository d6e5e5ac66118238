//! `images`: lists images.

use crate::{
    client::Query,
    command::{Command, Count},
    error::Result,
    flags::{Flag, Given, Kind, Words, flag, hidden, short},
    format::{self, FORMAT_HELP, List, Row},
    options::values,
    ui::Ui,
};
use api::model::ImageSummary;
use std::{collections::BTreeMap, io::Write};

const FLAGS: &[Flag] = &[
    short('a', "all", Kind::Bool, "Show all images (default hides intermediate images)"),
    flag("digests", Kind::Bool, "Show digests"),
    short('f', "filter", Kind::Named("filter"), "Filter output based on conditions provided"),
    flag("format", Kind::Text, FORMAT_HELP),
    flag("no-trunc", Kind::Bool, "Don't truncate output"),
    short('q', "quiet", Kind::Bool, "Only show image IDs"),
    hidden("tree", Kind::Bool),
];

pub(crate) const IMAGES: Command = Command {
    names: &["images", "image ls", "image list"],
    usage: "[REPOSITORY[:TAG]]",
    about: "List images",
    count: Count::AtMost(1),
    words: Words::Anywhere,
    flags: &[FLAGS],
    run,
};

const HEADINGS: &[(&str, &str)] = &[
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Containers", "CONTAINERS"),
    ("VirtualSize", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
];

const TABLE: &str = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const TABLE_WITH_DIGESTS: &str =
    "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const RAW: &str = "repository: {{.Repository}}\ntag: {{.Tag}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n";

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let format =
        given.text("format").map_or_else(|| ui.config.images_format.clone(), str::to_owned);
    let mut filters = values::filters(given.list("filter"))?;
    if let Some(reference) = given.words.first() {
        filters.entry("reference".into()).or_default().insert(reference.clone(), true);
    }
    let query = Query::new().flag("all", given.is("all")).filters(&filters);
    let mut list: Vec<ImageSummary> = ui.client()?.get("/images/json", &query)?;
    list.sort_by_key(|image| std::cmp::Reverse(image.created));
    let full = given.is("no-trunc");
    let digests = given.is("digests") || format.contains(".Digest");
    let rows: Vec<Row> = list.iter().flat_map(|image| rows(image, full, digests)).collect();
    if given.is("quiet") {
        for row in &rows {
            writeln!(ui.out, "{}", row[0].1)?;
        }
        return Ok(());
    }
    let table = if given.is("digests") { TABLE_WITH_DIGESTS } else { TABLE };
    List { headings: HEADINGS, table, raw: RAW }.print(ui, &format, &rows)
}

const NONE: &str = "<none>";

/// One row for each name of an image.
pub(super) fn rows(image: &ImageSummary, full: bool, with_digests: bool) -> Vec<Row> {
    let dangling = |list: &[String], what: &str| list.is_empty() || list == [what];
    if dangling(&image.repo_tags, "<none>:<none>") && dangling(&image.repo_digests, "<none>@<none>")
    {
        return vec![row(image, full, NONE, NONE, NONE)];
    }
    let mut tags: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in &image.repo_tags {
        if let Some((repo, tag)) = name.rsplit_once(':') {
            tags.entry(repo).or_default().push(tag);
        }
    }
    let mut digests: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in &image.repo_digests {
        if let Some((repo, digest)) = name.split_once('@') {
            digests.entry(repo).or_default().push(digest);
        }
    }
    let mut out = Vec::new();
    for (repo, names) in tags {
        let own = digests.remove(repo).filter(|_| with_digests).unwrap_or_default();
        for tag in names {
            if own.is_empty() {
                out.push(row(image, full, repo, tag, NONE));
            }
            out.extend(own.iter().map(|digest| row(image, full, repo, tag, digest)));
        }
    }
    for (repo, own) in digests {
        if with_digests {
            out.extend(own.iter().map(|digest| row(image, full, repo, NONE, digest)));
        } else {
            out.push(row(image, full, repo, NONE, ""));
        }
    }
    out
}

fn row(image: &ImageSummary, full: bool, repo: &str, tag: &str, digest: &str) -> Row {
    // -1 means that the engine was not asked.
    let known = |n: i64, text: String| if n < 0 { "N/A".to_owned() } else { text };
    let shared = known(image.shared_size, format::total(image.shared_size));
    let unique = known(image.shared_size, format::total(image.size - image.shared_size.max(0)));
    vec![
        ("ID", if full { image.id.clone() } else { format::short_id(&image.id) }),
        ("Repository", repo.to_owned()),
        ("Tag", tag.to_owned()),
        ("Digest", digest.to_owned()),
        (
            "CreatedSince",
            if image.created <= 0 { "N/A".into() } else { format::ago(image.created) },
        ),
        ("CreatedAt", format::go_time(image.created)),
        ("Size", format::size(image.size)),
        ("Containers", known(image.containers, image.containers.to_string())),
        ("VirtualSize", format::total(image.size)),
        ("SharedSize", shared),
        ("UniqueSize", unique),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_a_row() {
        let image = ImageSummary {
            id: "sha256:0123456789abcdef".into(),
            repo_tags: vec!["a:1".into(), "a:2".into(), "h:5000/b:latest".into()],
            repo_digests: vec!["a@sha256:d".into(), "c@sha256:e".into()],
            ..ImageSummary::default()
        };
        let show = |digests| -> Vec<String> {
            rows(&image, false, digests)
                .iter()
                .map(|r| format!("{} {} {}", r[1].1, r[2].1, r[3].1))
                .collect()
        };
        assert_eq!(
            show(false),
            ["a 1 <none>", "a 2 <none>", "h:5000/b latest <none>", "c <none> "]
        );
        assert_eq!(
            show(true),
            ["a 1 sha256:d", "a 2 sha256:d", "h:5000/b latest <none>", "c <none> sha256:e"]
        );
        let none = ImageSummary::default();
        assert_eq!(rows(&none, false, false)[0][1].1, "<none>");
    }
}
