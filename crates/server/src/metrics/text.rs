//! Prometheus' text format, version 0.0.4: one family after another, each with its help and kind.
//!
//! Source: the page "Exposition formats" of Prometheus' documentation.

use std::fmt::Write as _;

/// The content type of the text.
pub(super) const TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Text under way.
#[derive(Debug, Default)]
pub(super) struct Text(String);

/// Labels of one sample: name and value.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

impl Text {
    /// Begins a family.
    pub(super) fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One sample of a family; `labels` are written already.
    pub(super) fn sample(&mut self, name: &str, labels: &str, value: f64) {
        self.0.push_str(name);
        if !labels.is_empty() {
            let _ = write!(self.0, "{{{labels}}}");
        }
        // As Go prints numbers: whole ones without a point, however long.
        let _ = writeln!(self.0, " {value}");
    }

    /// A family of one sample.
    pub(super) fn one(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.family(name, kind, help);
        self.sample(name, "", value);
    }

    /// The whole.
    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// Labels as they stand between the braces.
pub(super) fn labels(labels: Labels<'_>) -> String {
    let mut text = String::new();
    for (name, value) in labels {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(name);
        text.push_str("=\"");
        for c in value.chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                c => text.push(c),
            }
        }
        text.push('"');
    }
    text
}

/// A label's name: what is neither letter nor digit becomes an underscore.
pub(super) fn label_name(prefix: &str, text: &str) -> String {
    let rest = text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
    prefix.chars().chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_written_as_prometheus_reads_them() {
        let mut text = Text::default();
        text.family("a_total", "counter", "Of a");
        text.sample("a_total", &labels(&[("x", "1\"\\\n"), ("y", "")]), 1_234_567_890_123.0);
        text.one("b", "gauge", "Of b", 0.25);
        assert_eq!(
            text.finish(),
            "# HELP a_total Of a\n# TYPE a_total counter\n\
             a_total{x=\"1\\\"\\\\\\n\",y=\"\"} 1234567890123\n\
             # HELP b Of b\n# TYPE b gauge\nb 0.25\n"
        );
        assert_eq!(label_name("container_label_", "com.app-x"), "container_label_com_app_x");
    }
}
