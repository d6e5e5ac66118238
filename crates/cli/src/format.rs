//! Lists: rows of texts by name, printed as a table, as JSON lines, or by a template.

use crate::{
    error::{Fail, Result},
    tabwriter,
    template::{self, Template},
    ui::Ui,
};
use std::io::Write;

/// The help text of `--format` for lists.
pub(crate) const FORMAT_HELP: &str = "Format output using a custom template:\n\
     'table':            Print output in table format with column headers (default)\n\
     'table TEMPLATE':   Print output in table format using the given Go template\n\
     'json':             Print in JSON format\n\
     'TEMPLATE':         Print output using the given Go template.\n\
     Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates";

/// The help text of `--format` for objects.
pub(crate) const INSPECT_FORMAT_HELP: &str = "Format output using a custom template:\n\
     'json':             Print in JSON format\n\
     'TEMPLATE':         Print output using the given Go template.\n\
     Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates";

/// A row's texts by field name.
pub(crate) type Row = Vec<(&'static str, String)>;

/// A kind of list.
#[derive(Debug)]
pub(crate) struct List {
    /// Field names with their table headings.
    pub headings: &'static [(&'static str, &'static str)],
    /// The table when nothing was asked for.
    pub table: &'static str,
    /// What `--format raw` prints per row.
    pub raw: &'static str,
}

impl List {
    /// Prints `rows` in `format`.
    pub(crate) fn print(&self, ui: &mut Ui, format: &str, rows: &[Row]) -> Result<()> {
        let text = self.text(format, rows)?;
        Ok(ui.out.write_all(text.as_bytes())?)
    }

    fn text(&self, format: &str, rows: &[Row]) -> Result<String> {
        let (table, template) = match format {
            "" | "table" => (true, self.table),
            "json" => return Ok(rows.iter().map(json_line).collect()),
            "raw" => (false, self.raw),
            other => match other.strip_prefix("table ") {
                Some(template) => (true, template.trim_start()),
                None => (false, other),
            },
        };
        let objects: Vec<serde_json::Value> = rows.iter().map(json_row).collect();
        let parsed = Template::parse(template, &objects)
            .map_err(|e| Fail::new(format!("failed to parse template: {}", e.message)))?;
        let run = |row: &Row| {
            let failed = |e: Fail| Fail::new(format!("failed to execute template: {}", e.message));
            parsed.render(&template::row(row)).map_err(failed)
        };
        // Also where there is no row: a field that no row has is a mistake.
        let headings: Row = self.headings.iter().map(|(k, h)| (*k, (*h).to_owned())).collect();
        let heading = run(&headings)?;
        let mut lines = String::new();
        if table {
            lines.push_str(&heading);
            lines.push('\n');
        }
        for row in rows {
            lines.push_str(&run(row)?);
            lines.push('\n');
        }
        Ok(if table { tabwriter::align(&lines) } else { lines })
    }
}

fn json_row(row: &Row) -> serde_json::Value {
    let mut sorted: Vec<_> = row.iter().collect();
    sorted.sort();
    let fields = sorted.into_iter().map(|(k, v)| {
        // compat(docker 28): a platform is an object, and none is null.
        let null = *k == "Platform" && v.is_empty();
        ((*k).to_owned(), if null { serde_json::Value::Null } else { v.as_str().into() })
    });
    serde_json::Value::Object(fields.collect())
}

fn json_line(row: &Row) -> String {
    let text = json_row(row).to_string();
    let text = text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    format!("{text}\n")
}

/// At most `width` characters, an ellipsis for the rest.
pub(crate) fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// The first twelve digits of an id, without its algorithm.
pub(crate) fn short_id(id: &str) -> String {
    id.strip_prefix("sha256:").unwrap_or(id).chars().take(12).collect()
}

/// `3 days ago`, for seconds since the epoch.
pub(crate) fn ago(seconds: i64) -> String {
    let now = base::Timestamp::now();
    let since = now.since(base::Timestamp::from_unix(seconds, 0));
    format!("{} ago", base::units::human_duration(since))
}

/// A time as Go prints it: `2023-11-14 22:13:20 +0000 UTC`.
pub(crate) fn go_time(seconds: i64) -> String {
    let text = base::Timestamp::from_unix(seconds, 0).fixed_nano();
    format!("{} {} +0000 UTC", &text[..10], &text[11..19])
}

/// A size as lists print it, three digits.
pub(crate) fn size(bytes: i64) -> String {
    base::units::human_size_with(bytes as f64, 3)
}

/// A size as sums print it, four digits.
pub(crate) fn total(bytes: impl TryInto<u64>) -> String {
    base::units::human_size(bytes.try_into().unwrap_or(0) as f64)
}

/// `a=1,b=2`.
pub(crate) fn labels(labels: &std::collections::BTreeMap<String, String>) -> String {
    labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: List = List {
        headings: &[("ID", "CONTAINER ID"), ("Name", "NAME")],
        table: "{{.ID}}",
        raw: "id: {{.ID}}",
    };

    #[test]
    fn rows_are_printed_in_every_format() {
        let rows = [vec![("ID", "1".to_owned()), ("Name", "<a>".to_owned())]];
        for (format, want) in [
            ("table {{.ID}}\\t{{.Name}}", "CONTAINER ID   NAME\n1              <a>\n"),
            ("json", "{\"ID\":\"1\",\"Name\":\"\\u003ca\\u003e\"}\n"),
            ("raw", "id: 1\n"),
            ("{{.Name}}-{{.ID}}", "<a>-1\n"),
            ("{{json .}}", "{\"ID\":\"1\",\"Name\":\"\\u003ca\\u003e\"}\n"),
        ] {
            assert_eq!(LIST.text(format, &rows).unwrap(), want, "{format}");
        }
        assert_eq!(ellipsis("abcdef", 4), "abc…");
        assert_eq!(go_time(1_700_000_000), "2023-11-14 22:13:20 +0000 UTC");
    }
}
